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
# For a GPU that need not be there: kernels and PTX.
expect 0 "dot_elw" "$weft" dump "$mlp" --gpu sm_90a --stage kernels
expect 0 "^.target sm_90a" "$weft" dump "$mlp" --gpu sm_90a --stage assembly
expect 0 "^.target sm_80" "$weft" dump "$mlp" --gpu sm_80 --stage assembly
expect 0 "thread" "$weft" dump "$mlp" --gpu sm_80 --stage loops
expect 2 "\"sm_1\" is no GPU that weft generates code for" "$weft" dump "$mlp" --gpu sm_1
expect 2 "excludes" "$weft" dump "$mlp" --gpu sm_80 --device cpu
finish
