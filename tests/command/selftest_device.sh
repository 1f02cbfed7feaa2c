# weft selftest of a GPU whose kernels run by their PTX on the host: intrinsics, products of many
# tiles, training.
source "$(dirname "$0")/expect.sh"
if [ -n "${2:-}" ]; then
  export WEFT_CUDA_DRIVER=$2 WEFT_CUFFT=$(dirname "$2")/libfourier_stand_in.so
  expect 0 "^[0-9]+ passed, 0 failed$" "$weft" selftest --device cuda --jobs 1 --only intrinsic,products,training
fi
finish
