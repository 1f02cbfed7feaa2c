"""A peer's side of `weft bench`: one answer a line, JSON, to the commands of stdin.

The command line is `python SCRIPT CONFIG`, CONFIG being a JSON object. What a script says:

    {"ready": true, "peer": "PyTorch 2.9.0 eager", "setup_seconds": 1.5, "losses": [4.2, 4.1, 4.0]}
    run 100   ->  {"seconds": 0.25, "processor_seconds": 0.5}     100 steps
    case JSON ->  {"chosen": true}                                what run does from here on
    quit      ->  the end

Anything that goes wrong is {"error": "..."}; a traceback goes to stderr.
"""

import json
import os
import sys
import traceback


class Peer:
    """What make() returns: a measurable implementation, ready to run."""

    def __init__(self, name, setup_seconds, losses, run, choose=None):
        self.name = name
        self.setup_seconds = setup_seconds
        self.losses = losses  # of the first steps, which are part of the set-up
        self.run = run  # (count) -> seconds, seconds of all processors together
        self.choose = choose  # (case), of a script that knows several


def serve(make):
    """Answers commands with make(config)'s Peer until there are no more."""
    # Libraries print to stdout when they please: what is theirs goes to stderr.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(**fields):
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    try:
        peer = make(json.loads(sys.argv[1]))
        reply(ready=True, peer=peer.name, setup_seconds=peer.setup_seconds, losses=peer.losses)
        for line in sys.stdin:
            if peer.choose is not None and line.startswith("case "):
                peer.choose(json.loads(line[5:]))
                reply(chosen=True)
                continue
            words = line.split()
            if words == ["quit"]:
                return
            if len(words) != 2 or words[0] != "run":
                raise ValueError(f"there is no command {line.strip()!r}")
            seconds, processor_seconds = peer.run(int(words[1]))
            reply(seconds=seconds, processor_seconds=processor_seconds)
    except Exception as error:  # whatever it is, the other side is told
        traceback.print_exc()
        reply(error=f"{type(error).__name__}: {error}")
        sys.exit(1)
