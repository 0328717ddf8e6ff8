#!/usr/bin/env bash
# clang-tidy over one unit of the asan build, by its command in build/lint (without precompiled headers). Units are several
# sources compiled as one, so that LibTorch's and gRPC's headers are walked once for all of them.
out=$(clang-tidy --quiet -p build/lint "$1" 2>/dev/null)
status=$?
[ -z "$out" ] || printf '%s\n' "$out"
exit $status
