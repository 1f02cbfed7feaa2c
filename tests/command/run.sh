# weft run: compiled code against the reference evaluation.
source "$(dirname "$0")/expect.sh"
for graph in "$here"/graphs/*.weft; do
  expect 0 "results agree" "$weft" run "$graph"
  expect 0 "results agree" "$weft" run "$graph" --seed 7 --threads 3
  expect 0 "results agree" "$weft" run "$graph" --no-fuse
done
expect 0 "receiver columns\[0\] x 3 .* ok" "$weft" run "$here/graphs/mlp.weft"
expect 0 "state weight .* ok" "$weft" run "$here/graphs/mlp.weft"
# No f32 computation is this exact: the comparison does compare, and says so in its exit code.
expect 1 "state weight .* MISMATCH" "$weft" run "$here/graphs/mlp.weft" --tolerance 1e-12
expect 2 "there is no device of that name" "$weft" run "$here/graphs/mlp.weft" --device tpu
expect 2 "could not be loaded|without CUDA's headers" \
  env WEFT_CUDA_DRIVER="$work/none/libcuda.so" "$weft" run "$here/graphs/mlp.weft" --device cuda
finish
