#!/usr/bin/env bash
# Installs, builds and runs every test: lint, unit, layering and integration tests, then the unit tests again under
# asan+ubsan and tsan, and the fuzz targets shortly. May be run again at no cost: what is built stays in build/.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'EOF'
usage: tests/run.sh [STAGE ...] [--filter TEXT]

Stages, in this order; all of them by default:
  install     Debian packages (deploy/install.sh)
  build       release build of everything
  test        unit, layering and integration tests on the release build
  asan        unit tests under AddressSanitizer + UndefinedBehaviorSanitizer (clang, -Wthread-safety)
  fuzz        every fuzz target for some seconds, from the committed corpus (tests/fuzz/run.sh goes on from there)
  tsan        unit tests under ThreadSanitizer
  lint        clang-format and clang-tidy

Examples:
  tests/run.sh                       everything, as CI does
  tests/run.sh build test            what a change needs before a commit
  tests/run.sh test --filter Plan    the tests whose name holds "Plan" (Suite.Name, or a method of tests/integration)
EOF
}

stages=() filter=""
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --filter) filter=${2:?--filter needs a part of a name}; shift ;;
    install|build|test|asan|fuzz|tsan|lint) stages+=("$1") ;;
    *) echo "tests/run.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
[ ${#stages[@]} -gt 0 ] || stages=(install build test asan fuzz tsan lint)

export OMP_WAIT_POLICY=passive           # without it two processes on one core spin against each other
export CCACHE_DIR=${CCACHE_DIR:-$PWD/build/ccache}
export CTEST_OUTPUT_ON_FAILURE=1
cores=$(nproc)
started=$SECONDS total=0
mkdir -p build

say() { printf '\n== %s (%dm%02ds)\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

configure_and_build() { # preset
  [ -f "build/$1/build.ninja" ] || cmake --preset "$1" >"build/$1.configure.log" 2>&1 || { tail -n 40 "build/$1.configure.log"; return 1; }
  cmake --build --preset "$1" -j "$cores" >"build/$1.build.log" 2>&1 || { grep -E -A8 'error|FAILED|undefined' "build/$1.build.log" | head -n 80; return 1; }
  tail -n 1 "build/$1.build.log"
}

run_tests() { # preset, parallel tests, ctest arguments
  local preset=$1 parallel=$2
  shift 2
  # A unit test binary is one test of ctest's and has many TESTs: the filter goes to both.
  [ -z "$filter" ] || { export GTEST_FILTER="*$filter*"; set -- "$@" -R "^[a-z0-9_]+_test$|$filter"; }
  ctest --test-dir "build/$preset" -j "$parallel" --progress "$@" >"build/$preset.test.log" 2>&1 || { tail -n 200 "build/$preset.test.log"; return 1; }
  grep -E 'tests passed|No tests were found|Total Test time' "build/$preset.test.log"
  # What ran, one by one: the TESTs of the binaries, and the integration and layering tests.
  local units others
  units=$(sed -nE 's/^\[==========\] ([0-9]+) tests? from .* ran\..*/\1/p' "build/$preset/Testing/Temporary/LastTest.log" | awk '{n += $1} END {print n + 0}')
  others=$(grep -cE '^Command: .*(python3|python)"? ' "build/$preset/Testing/Temporary/LastTest.log" || true)
  echo "$((units + others)) tests: $units in unit test binaries, $others others"
  total=$((total + units + others))
}

lint() {
  git ls-files '*.cc' '*.h' | xargs -P "$cores" -n 16 clang-format --dry-run -Werror
  echo "clang-format: clean"
  [ -f build/asan/compile_commands.json ] || cmake --preset asan >build/asan.configure.log 2>&1
  cmake --build build/asan --target doppel_proto doppel_grpc -j "$cores" >build/lint.build.log 2>&1
  # Without the precompiled headers: a source that leans on them instead of its own includes is found here.
  mkdir -p build/lint
  sed -E 's/ -Winvalid-pch( -Xclang [^ "]+)+//' build/asan/compile_commands.json >build/lint/compile_commands.json
  sed -nE 's/^ *"file": "(.*)",?$/\1/p' build/lint/compile_commands.json | grep -vE "^$PWD/((build/asan/)?(proto|tests)|build/asan/(pch|CMakeFiles))/" |
    xargs -P "$cores" -n 1 tests/support/tidy.sh >build/tidy.log || { grep -E -A4 'warning:|error:' build/tidy.log | head -n 80; return 1; }
  echo "clang-tidy: clean"
}

for stage in "${stages[@]}"; do
  say "$stage"
  case "$stage" in
    install) deploy/install.sh ;;
    build) configure_and_build release ;;
    test) run_tests release $((cores + 1)) ;;  # integration tests wait now and then
    asan | tsan)
      configure_and_build "$stage"
      run_tests "$stage" "$cores" -L unit
      ;;
    fuzz)
      tests/fuzz/run.sh --fresh --out build 4
      total=$((total + $(grep -c '"target"' <(tr '{' '\n' <build/fuzz.json))))
      ;;
    lint) lint ;;
  esac
done

say "all green: ${stages[*]}"
echo "$total passed, 0 failed"
