#!/usr/bin/env bash
# Builds the fuzz targets (preset `asan`: clang, libFuzzer, asan, ubsan) and runs them, as many at once as there are cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<'EOF'
usage: tests/fuzz/run.sh [--out DIR] [--jobs N] [--fresh] [SECONDS] [TARGET ...]

Runs each TARGET (all of them by default) for SECONDS (60) on what lies in tests/fuzz/corpus and what earlier runs have found
(build/fuzz/corpus); prints executions and crashes, writes fuzz.json to DIR (.). Ends with 1 if something crashed: the input
lies in build/fuzz/findings/TARGET. Put it into tests/fuzz/corpus/TARGET once it is mended.

  --jobs N    targets at once (as many as there are cores)
  --fresh     from the committed corpus alone, with the same seed and at most 2 000 executions, so that what CI does is the same
              each time: it is to notice what a change has broken, looking for new things needs longer

  tests/fuzz/run.sh 5 tar csv            two of them, shortly
  build/asan/tests/fuzz/doppel-fuzz      says which targets there are
  build/asan/tests/fuzz/doppel-fuzz --target=tar build/fuzz/findings/tar/crash-…      one input
  build/asan/tests/fuzz/doppel-fuzz --target=tar -merge=1 tests/fuzz/corpus/tar build/fuzz/corpus/tar    adds what is new
EOF
}

out=. seconds=60 jobs=$(nproc) fresh="" targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift ;;
    --fresh) fresh=1 ;;
    [0-9]*) seconds=$1 ;;
    -*) echo "tests/fuzz/run.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
mkdir -p "$out"
out=$(cd "$out" && pwd)

export OMP_WAIT_POLICY=passive CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}
cd "$root"
mkdir -p build/fuzz
[ -f build/asan/build.ninja ] || cmake --preset asan >build/asan.configure.log 2>&1 || { tail -n 40 build/asan.configure.log; exit 1; }
cmake --build build/asan --target doppel-fuzz -j "$(nproc)" >build/fuzz/build.log 2>&1 || { grep -E -A8 'error|FAILED' build/fuzz/build.log | head -n 60; exit 1; }
if [ ${#targets[@]} -eq 0 ]; then
  for folder in "$here"/corpus/*/; do targets+=("$(basename "$folder")"); done
fi
for target in "${targets[@]}"; do
  [ -d "$here/corpus/$target" ] || { echo "tests/fuzz/run.sh: no target '$target'" >&2; exit 2; }
done

export ASAN_OPTIONS=detect_odr_violation=0:allocator_may_return_null=0
export LSAN_OPTIONS=suppressions=$root/tests/support/lsan.supp:print_suppressions=0

# One target: its line of the table on stdout, its figures in build/fuzz/TARGET.json; 1 if it crashed.
run_target() { # target seconds fresh corpus
  local target=$1 seconds=$2 fresh=$3 seeds=$4
  local found=build/fuzz/corpus/$target findings=build/fuzz/findings/$target log=build/fuzz/$target.log
  # Its way of choosing inputs by entropy takes more time here than all else: three to seven times fewer executions.
  local options=(-entropic=0) longest=65536 status=0 crashes=0 executions rate inputs
  if [ -n "$fresh" ]; then
    found=build/fuzz/fresh/$target
    rm -rf "$found"
    options+=(-seed=1 -runs=2000)
  fi
  mkdir -p "$found" "$findings"
  # A parser of text that goes back and forth is not to spend its time on long inputs.
  [ "$target" != config ] || longest=2048
  nice -n 10 build/asan/tests/fuzz/doppel-fuzz "--target=$target" "$found" "$seeds/$target" -max_total_time="$seconds" -timeout=20 \
    -rss_limit_mb=4096 -artifact_prefix="$findings/" -print_final_stats=1 -max_len="$longest" "${options[@]}" >"$log" 2>&1 || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log" | tail -n 1)
  if [ $status -ne 0 ]; then
    crashes=1
    executions=${executions:-$(sed -nE 's/^#([0-9]+).*/\1/p' "$log" | tail -n 1)}
  fi
  inputs=$(find "$found" "$seeds/$target" -type f | wc -l)
  printf '| %-16s | %s | %s | %s | %s |\n' "$target" "${executions:-0}" "${rate:-0}" "$inputs" "$crashes"
  [ $crashes -eq 0 ] || grep -E -m 3 'ERROR|broken promise|SUMMARY|runtime error' "$log" || tail -n 5 "$log"
  printf '{"target": "%s", "seconds": %s, "executions": %s, "per_second": %s, "inputs": %s, "crashes": %s}' "$target" "$seconds" \
    "${executions:-0}" "${rate:-0}" "$inputs" "$crashes" >"build/fuzz/$target.json"
  return $crashes
}
export -f run_target

printf '| %-16s | executions | per second | inputs that cover new code | crashes |\n| --- | --- | --- | --- | --- |\n' target
status=0
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I TARGET bash -c "set -uo pipefail; run_target TARGET $seconds '$fresh' '$here/corpus'" || status=1
rows=()
for target in "${targets[@]}"; do rows+=("$(cat "build/fuzz/$target.json")"); done
total=$(printf '%s\n' "${rows[@]}" | sed -E 's/.*"executions": ([0-9]+).*/\1/' | awk '{n += $1} END {print n + 0}')
(IFS=,; printf '{"targets": [%s],\n "executions": %s}\n' "${rows[*]}" "$total") >"$out/fuzz.json"
echo "$total executions of ${#targets[@]} targets, $([ $status -eq 0 ] && echo 'no crash' || echo 'CRASHES: see build/fuzz/findings')"
exit $status
