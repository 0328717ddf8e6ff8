#!/usr/bin/env bash
# Builds the fuzz targets (preset `fuzz`: clang, libFuzzer, asan, ubsan) and runs them one after the other.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<'EOF'
usage: tests/fuzz/run.sh [--out DIR] [SECONDS] [TARGET ...]

Runs each TARGET (all of them by default) for SECONDS (60) on what lies in tests/fuzz/corpus and what earlier runs have found
(build/fuzz/corpus); prints executions and crashes, writes fuzz.json to DIR (.). Ends with 1 if something crashed: the input
lies in build/fuzz/findings/TARGET. Put it into tests/fuzz/corpus/TARGET once it is mended.

  tests/fuzz/run.sh 5 tar csv            two of them, shortly
  build/fuzz/tests/fuzz/doppel-fuzz      says which targets there are
  build/fuzz/tests/fuzz/doppel-fuzz --target=tar build/fuzz/findings/tar/crash-…      one input
  build/fuzz/tests/fuzz/doppel-fuzz --target=tar -merge=1 tests/fuzz/corpus/tar build/fuzz/corpus/tar    adds what is new
EOF
}

out=. seconds=60 targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    [0-9]*) seconds=$1 ;;
    -*) echo "tests/fuzz/run.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done

export OMP_WAIT_POLICY=passive CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}
cd "$root"
[ -f build/fuzz/build.ninja ] || cmake --preset fuzz >build/fuzz.configure.log 2>&1 || { tail -n 40 build/fuzz.configure.log; exit 1; }
cmake --build --preset fuzz -j "$(nproc)" >build/fuzz.build.log 2>&1 || { grep -E -A8 'error|FAILED' build/fuzz.build.log | head -n 60; exit 1; }
binary=build/fuzz/tests/fuzz/doppel-fuzz
if [ ${#targets[@]} -eq 0 ]; then
  for folder in "$here"/corpus/*/; do targets+=("$(basename "$folder")"); done
fi

export ASAN_OPTIONS=detect_odr_violation=0:allocator_may_return_null=0
export LSAN_OPTIONS=suppressions=$root/tests/support/lsan.supp:print_suppressions=0
mkdir -p "$out"
total=0 crashed=0 rows=()
printf '| %-16s | executions | per second | inputs that cover new code | crashes |\n| --- | --- | --- | --- | --- |\n' target
for target in "${targets[@]}"; do
  found=build/fuzz/corpus/$target findings=build/fuzz/findings/$target log=build/fuzz/$target.log
  [ -d "$here/corpus/$target" ] || { echo "tests/fuzz/run.sh: no target '$target'" >&2; exit 2; }
  mkdir -p "$found" "$findings"
  # A parser of text that goes back and forth is not to spend its time on long inputs.
  longest=65536
  [ "$target" != config ] || longest=2048
  status=0
  nice -n 10 "$binary" "--target=$target" "$found" "$here/corpus/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
    -artifact_prefix="$findings/" -print_final_stats=1 -max_len="$longest" >"$log" 2>&1 || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log" | tail -n 1)
  crashes=0
  if [ $status -ne 0 ]; then
    crashes=1 crashed=1
    executions=${executions:-$(sed -nE 's/^#([0-9]+).*/\1/p' "$log" | tail -n 1)}
  fi
  inputs=$(find "$found" "$here/corpus/$target" -type f | wc -l)
  total=$((total + ${executions:-0}))
  printf '| %-16s | %s | %s | %s | %s |\n' "$target" "${executions:-0}" "${rate:-0}" "$inputs" "$crashes"
  [ $crashes -eq 0 ] || grep -E -m 3 'ERROR|broken promise|SUMMARY|runtime error' "$log" || tail -n 5 "$log"
  rows+=("{\"target\": \"$target\", \"seconds\": $seconds, \"executions\": ${executions:-0}, \"per_second\": ${rate:-0}, \"inputs\": $inputs, \"crashes\": $crashes}")
done
(IFS=,; printf '{"targets": [%s],\n "executions": %s}\n' "${rows[*]}" "$total") >"$out/fuzz.json"
echo "$total executions of ${#targets[@]} targets, $([ $crashed -eq 0 ] && echo 'no crash' || echo 'CRASHES: see build/fuzz/findings')"
exit $crashed
