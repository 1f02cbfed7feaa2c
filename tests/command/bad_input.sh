# Bad input: a message that says what is wrong, exit code 2, no crash.
source "$(dirname "$0")/expect.sh"
graph() {
  printf 'graph @g {\n%s\n}\n' "$1" >"$work/g.weft"
}
mlp=$here/graphs/mlp.weft

expect 2 "subcommand" "$weft"
expect 2 "frobnicate" "$weft" frobnicate
expect 2 "FILE" "$weft" run
expect 2 "cannot be read" "$weft" run "$work/none.weft"
expect 2 "cannot be read" "$weft" run "$work"
expect 2 "no pass 'nonsense'; there are .*simplify" "$weft" opt "$mlp" --passes=simplify,nonsense
expect 2 "no pass 'nonsense'" "$weft" opt "$mlp" --passes=simplify --print-after=nonsense
expect 2 "no op 'nonsense'" "$weft" ops nonsense
expect 2 "tolerance" "$weft" run "$mlp" --tolerance=-1
expect 2 "stage" "$weft" dump "$mlp" --stage=nonsense
expect 2 "text form only" "$weft" dump "$mlp" --stage=loops --format=dot

: >"$work/g.weft"
expect 2 "g.weft:1:1" "$weft" opt "$work/g.weft"
head -c 100000 /dev/urandom >"$work/g.weft"
expect 2 "g.weft:1:" "$weft" opt "$work/g.weft"
graph '  %x = nonsense : f32[2]'
expect 2 "g.weft:2:.*nonsense" "$weft" opt "$work/g.weft"
graph '  %y = exp %x : f32[2]'
expect 2 "g.weft:2:.*%x" "$weft" opt "$work/g.weft"
graph '  %x = state {name = "x", dtype = f32, shape = [2]} : f32[3]'
expect 2 "g.weft:2:.*f32\[2\]" "$weft" opt "$work/g.weft"
graph '  %x = state {name = "x", dtype = f32, shape = [99999999999, 99999999999, 99]} : f32[1]'
expect 2 "g.weft:2:" "$weft" run "$work/g.weft"
graph '  %x = state {name = "x", dtype = f32, shape = [100000000000]} : f32[100000000000]
  state_write %x {name = "x"}'
expect 2 "GiB" "$weft" run "$work/g.weft"
# Cut anywhere, a graph is wrong.
size=$(wc -c <"$mlp")
for cut in $(seq 200 97 $((size - 5))); do
  head -c "$cut" "$mlp" >"$work/g.weft"
  expect 2 "g.weft:[0-9]+:[0-9]+" "$weft" opt "$work/g.weft"
done
finish
