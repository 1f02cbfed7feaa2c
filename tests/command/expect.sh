# Sourced by the tests beside it: `expect CODE TEXT command...` runs a command, and wants its exit
# code, and TEXT (a pattern of grep -E) somewhere in what it printed.
set -u
weft=$1
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() {
  local code=$1 text=$2 status
  shift 2
  "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
  if [ "$status" != "$code" ]; then
    echo "FAILED: $*: exit code $status, not $code"
  elif ! grep -qE -e "$text" "$work/out" "$work/err"; then
    echo "FAILED: $*: does not print '$text'"
  elif [ "$code" = 2 ] && { [ ! -s "$work/err" ] || [ -s "$work/out" ]; }; then
    echo "FAILED: $*: an error belongs on stderr, and nothing on stdout"
  else
    return
  fi
  head -c 2000 "$work/out" "$work/err"
  failures=$((failures + 1))
}

finish() {
  [ $failures = 0 ] || exit 1
}
