# Sourced by the scripts beside it, in the repository's root.

# weft_build PRESET [target...]: configures and builds; all of CMake's chatter only where it fails.
weft_build() {
  local preset=$1 target
  shift
  local targets=()
  for target in "$@"; do
    targets+=(--target "$target")
  done
  local log=build/$preset/configure.log
  mkdir -p "build/$preset"
  echo "Configuring build/$preset"
  if ! cmake --preset "$preset" >"$log" 2>&1; then
    cat "$log" >&2
    return 1
  fi
  echo "Building in build/$preset (the first time takes minutes)"
  cmake --build --preset "$preset" "${targets[@]}"
}
