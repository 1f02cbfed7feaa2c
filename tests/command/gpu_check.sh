# tools/gpu-check on a machine without a GPU: it says so, and does what it can.
source "$(dirname "$0")/expect.sh"
check=$here/../../tools/gpu-check
export WEFT_CUDA_DRIVER=$work/none/libcuda.so
gpu_check() {  # its last words on stderr, as for errors
  "$check" --weft "$weft" --output "$work/check" "$@" >"$work/said" 2>&1
  local status=$?
  cat "$work/said" >&2
  return $status
}
expect 2 "nothing was measured, there is no GPU" gpu_check --seconds 6
grep -q '"absent": "' "$work/check/gpu-check.json" || failures=$((failures + 1))
grep -q '"selftest": {' "$work/check/gpu-check.json" || failures=$((failures + 1))
if command -v python3 >/dev/null; then
  python3 -m json.tool "$work/check/gpu-check.json" >/dev/null || failures=$((failures + 1))
fi
expect 2 "no option --nonsense" gpu_check --nonsense 1
expect 2 "--sanitizer nowhere: no such program" gpu_check --sanitizer nowhere
finish
