#!/usr/bin/env bash
# The whole loop on real input: installs, builds, makes the Glyphs dataset, pre-trains, mines look-alikes, trains twice
# from the same weights (random batches as the control, subspace batches) and writes one report.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'EOF'
usage: deploy/demo.sh [--quick] [--dir DIR] [--steps N] [--subspaces M]

  --quick        a fifth of the identities and fewer steps: within six minutes after the build
  --dir DIR      where everything is kept (default: ./demo, or ./demo-quick with --quick)
  --steps N      triplet training steps of each trainer (default 1000; 500 with --quick)
  --subspaces M  subspaces to mine (default 100; 20 with --quick)

Finished stages are not run again: a second call at once goes straight to the report. Delete DIR to start over.
Example: deploy/demo.sh --quick --dir /tmp/doppel-demo
EOF
}
quick=0 dir="" steps="" subspaces=""
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=1 ;;
    --dir) dir=${2:?--dir needs a folder}; shift ;;
    --steps) steps=${2:?--steps needs a number}; shift ;;
    --subspaces) subspaces=${2:?--subspaces needs a number}; shift ;;
    -h|--help) usage; exit 0 ;;
    *) echo "deploy/demo.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
if [ $quick = 1 ]; then
  dir=${dir:-demo-quick} steps=${steps:-500} subspaces=${subspaces:-20}
  identities=(--identities 20000 --test-identities 2000) pretrain_identities=2000 pretrain_steps=500 eval_every=250
else
  dir=${dir:-demo} steps=${steps:-1000} subspaces=${subspaces:-100}
  identities=() pretrain_identities=3000 pretrain_steps=1200 eval_every=500
fi
mkdir -p "$dir/done"
dir=$(cd "$dir" && pwd)
bin=$PWD/build/release/bin
started=$SECONDS

# Two trainers on two cores must not spin against each other.
export OMP_WAIT_POLICY=passive
export CCACHE_DIR=${CCACHE_DIR:-$PWD/build/ccache}

say() { printf '\n== %s (%dm%02ds)\n' "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

# stage NAME PARAMETERS FUNCTION: runs the function unless it has ended well with these parameters before.
stage() {
  local name=$1 parameters=$2
  shift 2
  if [ "$(cat "$dir/done/$name" 2>/dev/null)" = "$parameters" ]; then
    say "$name: done before"
    return
  fi
  say "$name"
  "$@"
  printf '%s\n' "$parameters" >"$dir/done/$name"
}

miner_pid=""
trainer_pids=()
stop_all() {
  for pid in "${trainer_pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; done
  [ -z "$miner_pid" ] || kill "$miner_pid" 2>/dev/null || true
  wait 2>/dev/null || true
}
trap stop_all EXIT
trap 'exit 130' INT TERM

start_miner() {
  [ -z "$miner_pid" ] || return 0
  rm -f "$dir/miner.address"
  "$bin/doppel-miner" serve --catalog "$dir/catalog" --state "$dir/state" --listen 127.0.0.1:0 \
    --address-file "$dir/miner.address" --http-port 0 >>"$dir/miner.log" 2>&1 &
  miner_pid=$!
  until [ -s "$dir/miner.address" ]; do
    kill -0 "$miner_pid" 2>/dev/null || { echo "the miner did not start:" >&2; tail -n 20 "$dir/miner.log" >&2; exit 1; }
    sleep 0.1
  done
  server=$(cat "$dir/miner.address")
}

build() {
  mkdir -p build
  [ -f build/release/build.ninja ] || cmake --preset release >build/release.configure.log 2>&1 || { tail -n 40 build/release.configure.log; exit 1; }
  cmake --build build/release -j "$(nproc)" --target doppel doppel-miner doppel-embedder doppel-trainer doppel-glyphs \
    bench_embed bench_stream
}

glyphs() { "$bin/doppel-glyphs" --out "$dir/glyphs" "${identities[@]}"; }
import() { "$bin/doppel" import webdataset "$dir/glyphs" --catalog "$dir/catalog" --force; }

pretrain() {
  start_miner
  "$bin/doppel-trainer" train --server "$server" --output "$dir/pretrain" --architecture glyph_cnn --plan random \
    --identity-limit "$pretrain_identities" -P 64 -K 3 --loss id_softmax --augment mild --lr 3e-3 --schedule linear \
    --steps "$pretrain_steps" --threads 2 --seed 1 --eval-every "$pretrain_steps" --eval-catalog "$dir/catalog"
}

recluster() {
  start_miner
  # A job that an interrupted demo left behind goes on by itself; it makes way, and what it embedded is kept.
  local running
  running=$("$bin/doppel" status --server "$server" -o json | sed -nE 's/.*"running_operation": *"([^"]+)".*/\1/p')
  [ -z "$running" ] || "$bin/doppel" cancel "$running" --server "$server"
  "$bin/doppel" recluster --server "$server" --model "$dir/pretrain/model" --subspaces "$subspaces"
  "$bin/doppel" generation 0 --server "$server" -o json >"$dir/generation.json"
}

train_both() {
  start_miner
  local plan failed=0
  trainer_pids=()
  for plan in random subspace; do
    "$bin/doppel-trainer" train --server "$server" --output "$dir/$plan" --model "$dir/pretrain/model" --plan "$plan" \
      -P 48 -K 4 --loss batch_ohnm --negatives 1 --margin soft --augment mild --lr 1e-3 --schedule linear \
      --steps "$steps" --threads 1 --seed 1 --eval-every "$eval_every" --eval-catalog "$dir/catalog" \
      >"$dir/$plan.log" 2>&1 &
    trainer_pids+=($!)
  done
  follow_trainers
  for pid in "${trainer_pids[@]}"; do wait "$pid" || failed=1; done
  trainer_pids=()
  [ $failed = 0 ] || { tail -n 20 "$dir/random.log" "$dir/subspace.log" >&2; exit 1; }
  tail -n 2 "$dir/random.log" "$dir/subspace.log"
}

# A line every ten seconds while both trainers run.
follow_trainers() {
  local alive=1
  while [ $alive = 1 ]; do
    sleep 10
    alive=0
    for pid in "${trainer_pids[@]}"; do if kill -0 "$pid" 2>/dev/null; then alive=1; fi; done
    printf 'step of %s: random %s, subspace %s\n' "$steps" "$(wc -l 2>/dev/null <"$dir/random/steps.jsonl" || echo 0)" \
      "$(wc -l 2>/dev/null <"$dir/subspace/steps.jsonl" || echo 0)"
  done
}

compare() {
  mkdir -p "$dir/bench"
  tests/bench/run.sh embed --out "$dir/bench" -- --catalog "$dir/catalog" --model "$dir/pretrain/model"
  tests/bench/run.sh stream --out "$dir/bench" --no-peer -- --catalog "$dir/catalog" --shapes 64x8 --seconds 1
}

report() {
  "$bin/doppel" report --run "random=$dir/random" --run "subspace=$dir/subspace" --generation "$dir/generation.json" \
    --state "$dir/state" --catalog "$dir/catalog" --bench "$dir/bench/embed.json" --bench "$dir/bench/stream.json" \
    --html "$dir/report.html"
}

say install
deploy/install.sh
say build
build
built=$SECONDS
key="${identities[*]:-all}"
stage glyphs "$key" glyphs
stage import "$key" import
stage pretrain "$key $pretrain_identities $pretrain_steps" pretrain
stage recluster "$key $pretrain_steps $subspaces" recluster
stage train "$key $pretrain_steps $subspaces $steps" train_both
stage compare "$key" compare
say report
report
say "done: $((SECONDS - built)) s after the build"
echo "open $dir/report.html"
