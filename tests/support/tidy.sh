#!/usr/bin/env bash
# clang-tidy over one source. Units that include LibTorch get the cheap checks alone: the others walk all of its headers,
# a minute for each unit.
checks=()
if grep -qE 'include <(torch|ATen|c10)/|include "(trainer/(loss|train/(train_step|optimizer))|common/model/(network|nets))' "$1"; then
  checks=(--checks='-*,modernize-use-override,modernize-use-nullptr,clang-diagnostic-*')
fi
out=$(clang-tidy --quiet -p build/asan "${checks[@]}" "$1" 2>/dev/null)
status=$?
[ -z "$out" ] || printf '%s\n' "$out"
exit $status
