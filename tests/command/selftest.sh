# weft selftest: what a device computes, in processes of its own.
source "$(dirname "$0")/expect.sh"
expect 0 "^op/softmax/loop$" "$weft" selftest --list
expect 0 "^[0-9]+ passed, 0 failed$" "$weft" selftest --only op/softmax,op/rfft,op/concat
expect 0 "^3 passed, 0 failed$" "$weft" selftest --only random --seeds 3 --first-seed 5 --jobs 2
expect 0 "^1 passed, 0 failed$" "$weft" selftest --only training/perceptron --json "$work/result.json"
grep -q '"case": "training/perceptron"' "$work/result.json" || failures=$((failures + 1))
# One that is not done in time is ended and named, with what to do to see it again.
expect 1 "^FAILED op/dot: not done after 0.001 s; again: weft selftest --device cpu --only op/dot$" \
  "$weft" selftest --only op/dot --case-seconds 0.001
expect 1 "^0 passed, 2 failed$" "$weft" selftest --only op/dot --case-seconds 0.001
expect 1 "^not run, the time was over: [0-9]+ cases$" "$weft" selftest --seconds 0.001
expect 2 "no case of that name" "$weft" selftest --only nonsense
expect 2 "there is no device of that name" "$weft" selftest --device nonsense
# Without a driver; and where its first launch fails: that case fails, by name.
expect 2 "/none/libcuda.so could not be loaded|without CUDA's headers" \
  env WEFT_CUDA_DRIVER="$work/none/libcuda.so" "$weft" selftest --device cuda
if [ -n "${2:-}" ]; then
  expect 1 "^FAILED op/relu: .*CUDA_ERROR_ILLEGAL_ADDRESS.*; again: weft selftest --device cuda --only op/relu$" \
    env WEFT_CUDA_DRIVER="$2" WEFT_STAND_IN_FAIL=cuGraphLaunch \
    "$weft" selftest --device cuda --only op/relu
  expect 2 "compute capability 7.5; weft needs 8.0 or newer" \
    env WEFT_CUDA_DRIVER="$2" WEFT_STAND_IN_CAPABILITY=75 "$weft" selftest --device cuda
fi
finish
