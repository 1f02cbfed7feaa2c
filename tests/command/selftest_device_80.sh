# weft selftest of an older GPU, with another order of warps, whose kernels run by their PTX.
source "$(dirname "$0")/expect.sh"
if [ -n "${2:-}" ]; then
  export WEFT_CUDA_DRIVER=$2 WEFT_CUFFT=$(dirname "$2")/libfourier_stand_in.so
  export WEFT_STAND_IN_CAPABILITY=80 WEFT_STAND_IN_SEED=7
  expect 0 "^[0-9]+ passed, 0 failed$" "$weft" selftest --device cuda --jobs 1 \
    --only intrinsic,products,training
fi
finish
