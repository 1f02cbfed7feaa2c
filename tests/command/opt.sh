# weft opt: passes by name; its output is a graph that it reads back.
source "$(dirname "$0")/expect.sh"
for graph in "$here"/graphs/*.weft; do
  expect 0 "^graph @" "$weft" opt "$graph"
  cp "$work/out" "$work/once.weft"
  expect 0 "^graph @" "$weft" opt "$work/once.weft"
  cmp "$work/out" "$work/once.weft" || failures=$((failures + 1))

  passes=$("$weft" opt --list | paste -sd,)
  expect 0 "// after simplify" "$weft" opt "$graph" --passes=simplify,simplify --print-after=all
  expect 0 "\(unchanged\)" "$weft" opt "$graph" --passes=simplify,simplify --print-after=all
  expect 0 "^graph @" "$weft" opt "$graph" --passes="$passes"
  cp "$work/out" "$work/passed.weft"
  # What the passes made computes the same.
  expect 0 "results agree" "$weft" run "$work/passed.weft"
done
expect 0 "mlp.weft\":[0-9]+" "$weft" opt "$here/graphs/mlp.weft" --locations
"$weft" opt - <"$here/graphs/mlp.weft" | grep -q "^graph @mlp" || failures=$((failures + 1))
finish
