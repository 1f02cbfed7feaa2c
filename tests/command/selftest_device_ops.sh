# weft selftest of a GPU whose kernels run by their PTX on the host: every op, random graphs.
source "$(dirname "$0")/expect.sh"
if [ -n "${2:-}" ]; then
  export WEFT_CUDA_DRIVER=$2 WEFT_CUFFT=$(dirname "$2")/libfourier_stand_in.so
  expect 0 "^[0-9]+ passed, 0 failed$" "$weft" selftest --device cuda --jobs 1 --seeds 16 \
    --only op,random
fi
finish
