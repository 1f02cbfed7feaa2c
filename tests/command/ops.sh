# weft ops: the table of operations.
source "$(dirname "$0")/expect.sh"
expect 0 "^rfft .*fft" "$weft" ops
expect 0 "derivative +yes" "$weft" ops tno
expect 0 "derivative +no: ." "$weft" ops argmax
expect 0 '"derivative": true' "$weft" ops exp --json
expect 0 '"name": "attention"' "$weft" ops --json
expect 0 '^\| `dot` \|' "$weft" ops --markdown
# The page is the table.
if [ -f "$here/../../docs/ops.md" ]; then
  diff "$here/../../docs/ops.md" "$work/out" || failures=$((failures + 1))
fi
expect 2 "excludes" "$weft" ops --json --markdown
expect 0 "weft [0-9]+\.[0-9]+\.[0-9]+" "$weft" --version
finish
