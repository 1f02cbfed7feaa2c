# weft explain: why two nodes are not one kernel.
source "$(dirname "$0")/expect.sh"
mlp=$here/graphs/mlp.weft
expect 0 "^kernel @.* loads" "$weft" explain "$mlp"
expect 0 "mlp.weft:[0-9]+\) of @" "$weft" explain "$mlp"
expect 0 "fusion is off" "$weft" explain "$mlp" --no-fuse
expect 2 "two nodes" "$weft" explain "$mlp" %y
expect 2 "there is no %nonsense" "$weft" explain "$mlp" %nonsense %y
expect 2 "%rate is in no kernel" "$weft" explain "$mlp" %rate %y
finish
