# weft dump: what the compiler made of a graph.
source "$(dirname "$0")/expect.sh"
mlp=$here/graphs/mlp.weft
expect 0 "^graph @mlp" "$weft" dump "$mlp" --stage traced
expect 0 "^graph @mlp" "$weft" dump "$mlp" --stage simplified
expect 0 "dot_elw" "$weft" dump "$mlp" --stage fused
expect 0 "dot_elw" "$weft" dump "$mlp" --stage kernels
expect 0 "for|loop" "$weft" dump "$mlp" --stage loops
expect 0 "ret" "$weft" dump "$mlp" --stage assembly
expect 0 "." "$weft" dump "$mlp" --stage refusals
for stage in traced simplified kernels; do
  expect 0 "^digraph" "$weft" dump "$mlp" --stage $stage --format dot
  if command -v dot >/dev/null; then
    dot -Tsvg "$work/out" -o /dev/null || failures=$((failures + 1))
  fi
  expect 0 "\"" "$weft" dump "$mlp" --stage $stage --format json
done
finish
