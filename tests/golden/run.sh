# run.sh NAME program [argument...]: what the compiler makes of an example is what NAME's folder beside
# this script says: the fused graph of each program that it compiles. A change of the compiler that
# changes them shows here; WEFT_UPDATE_GOLDEN=1 takes what it is now.
set -u
name=$1
shift
expected=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/$name
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
# Enough of a text for the language models: each line is another one.
for line in $(seq 200); do echo "line $line of a text, and its square is $((line * line))"; done >text
WEFT_DUMP=$work/dump "$@" >out 2>&1 || { cat out; exit 1; }
status=0
for fused in dump/*/fused.txt; do
  program=$(basename "$(dirname "$fused")")
  if [ -n "${WEFT_UPDATE_GOLDEN:-}" ]; then
    mkdir -p "$expected" && cp "$fused" "$expected/$program.txt"
  else
    diff -u "$expected/$program.txt" "$fused" || status=1
  fi
done
[ "$(ls dump | wc -l)" = "$(ls "$expected" | wc -l)" ] ||
  { echo "$expected is of other programs than $(ls dump)"; status=1; }
exit $status
