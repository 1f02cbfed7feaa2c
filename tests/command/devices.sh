# weft devices: the machine and its GPUs, or why there are none.
source "$(dirname "$0")/expect.sh"
expect 0 "^host: .+, [0-9]+ cores, [0-9.]+ GiB, " "$weft" devices
expect 0 "^cuda( [0-9]+)?: ." "$weft" devices
expect 0 '"vector_features": \[' "$weft" devices --format json
expect 0 "^cuda: none: CUDA: .*(/none/libcuda.so could not be loaded|built without)" \
  env WEFT_CUDA_DRIVER="$work/none/libcuda.so" "$weft" devices
expect 0 '"devices": \[\]' env WEFT_CUDA_DRIVER="$work/none/libcuda.so" "$weft" devices --format json
if [ -n "${2:-}" ]; then  # the tests' stand-in for a driver
  export WEFT_CUDA_DRIVER=$2
  expect 0 "^cuda 0: Stand-in, compute capability 9.0, 132 multiprocessors, 80.0 GiB \(80.0 GiB free\)" \
    "$weft" devices
  expect 0 '"compute_capability": "9.0"' "$weft" devices --format json
  expect 0 "^Fourier transforms by weft alone: cuFFT: .*none/libcufft.so" \
    env WEFT_CUFFT="$work/none/libcufft.so" "$weft" devices
  expect 0 '"fourier_library_absent": "cuFFT: ' \
    env WEFT_CUFFT="$work/none/libcufft.so" "$weft" devices --format json
fi
expect 2 "format" "$weft" devices --format yaml
finish
