# weft profile: what kernels take, and a trace.
source "$(dirname "$0")/expect.sh"
export WEFT_CACHE_DIR=$work/cache
unset WEFT_CACHE
for graph in "$here"/graphs/*.weft; do
  expect 0 "in kernels, [0-9]+ % of the roof" "$weft" profile "$graph" --iterations 3
done
expect 0 "roof_share" "$weft" profile "$here/graphs/mlp.weft" --format json --iterations 7
expect 0 "of the roof" "$weft" profile "$here/graphs/mlp.weft" --trace "$work/trace.json" --threads 2
grep -q '"name":"feeder x"' "$work/trace.json" || failures=$((failures + 1))
grep -q '"cat":"kernel"' "$work/trace.json" || failures=$((failures + 1))
expect 2 "cannot be written" "$weft" profile "$here/graphs/mlp.weft" --trace "$work/none/trace.json"
expect 2 "iterations" "$weft" profile "$here/graphs/mlp.weft" --iterations 0
finish
