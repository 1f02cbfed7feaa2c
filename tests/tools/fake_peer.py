"""A peer without a model: behaves as CONFIG's "case" says."""

import json
import os
import signal
import sys
import time

config = json.loads(sys.argv[1])
case = config["case"]
sys.path.insert(0, config["protocol"])
from protocol import Peer, serve  # noqa: E402


def make(_):
    print("libraries print what they like")
    if case == "no library":
        raise ModuleNotFoundError("No module named 'torch'")

    def run(count):
        if case == "dies":
            print("going down", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if case == "raises":
            raise ValueError("out of range")
        if case == "hangs":
            time.sleep(1000)
        return 0.25 * count, 0.5 * count

    return Peer(f"Fake 1.0 {os.environ.get('FAKE_WORD', '')}", 1.5, [3, 2.5], run)


raw = {
    "garbage": "Segmentation fault (not really)\n",
    "number": "17\n",
    "not ready": '{"ready": false}\n',
    "no name": '{"ready": true, "setup_seconds": 1}\n',
    "losses are words": '{"ready": true, "peer": "x", "setup_seconds": 1, "losses": ["a"]}\n',
    "endless line": "x" * (3 << 20),
    "silent": "",
}
answers = {
    "negative": '{"seconds": -1}',
    "nothing": "{}",
    "null": "null",
}
if case in raw:
    sys.stdout.write(raw[case])
    sys.stdout.flush()
    time.sleep(1000)
elif case == "exits":
    print("no time today", file=sys.stderr)
    sys.exit(3)
elif case in answers:
    print('{"ready": true, "peer": "x", "setup_seconds": 0}', flush=True)
    for _ in sys.stdin:
        print(answers[case], flush=True)
elif case == "deaf":
    # Ends neither when it is told to nor when its input ends.
    print('{"ready": true, "peer": "x", "setup_seconds": 0}', flush=True)
    while True:
        time.sleep(1)
else:
    serve(make)
