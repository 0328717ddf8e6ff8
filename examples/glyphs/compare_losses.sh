#!/usr/bin/env bash
# Trains the same net from the same weights with one loss after the other and writes one table.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'EOF'
usage: examples/glyphs/compare_losses.sh [--demo DIR] [--out DIR] [--steps N] [--plan NAME] [--threads N] [--losses "A B …"]
                                         [-- FLAGS…]

  --demo DIR     data of deploy/demo.sh: catalog, mined state and pre-trained weights (default: ./demo)
  --out DIR      runs and results (default: DIR/losses below the demo)
  --steps N      of each run (default 2000)
  --plan NAME    subspace or random (default subspace)
  --threads N    of each run (default 2)
  --losses       default: batch_hard batch_ohnm semi_hard batch_all_nonzero lifted adaptive_weights
  FLAGS          further flags of doppel-trainer train, the same for all

An interrupted comparison goes on where it stopped: the same command again. Writes OUT/losses.md and OUT/losses.json.
EOF
}
demo=demo out="" steps=2000 plan=subspace threads=2
losses="batch_hard batch_ohnm semi_hard batch_all_nonzero lifted adaptive_weights"
while [ $# -gt 0 ]; do
  case "$1" in
    --demo) demo=${2:?--demo needs a folder}; shift ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --steps) steps=${2:?--steps needs a number}; shift ;;
    --plan) plan=${2:?--plan needs a name}; shift ;;
    --threads) threads=${2:?--threads needs a number}; shift ;;
    --losses) losses=${2:?--losses needs names}; shift ;;
    -h|--help) usage; exit 0 ;;
    --) shift; break ;;
    *) echo "compare_losses.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
for needed in catalog state pretrain/model; do
  [ -e "$demo/$needed" ] || { echo "compare_losses.sh: $demo/$needed is missing: run deploy/demo.sh --dir $demo first" >&2; exit 1; }
done
demo=$(cd "$demo" && pwd)
out=${out:-$demo/losses}
mkdir -p "$out"
out=$(cd "$out" && pwd)
bin=${DOPPEL_BIN:-$PWD/build/release/bin}
export OMP_WAIT_POLICY=passive

miner_pid="" trainer_pid=""
stop_all() {
  [ -z "$trainer_pid" ] || kill "$trainer_pid" 2>/dev/null || true
  [ -z "$miner_pid" ] || kill "$miner_pid" 2>/dev/null || true
  wait 2>/dev/null || true
}
trap stop_all EXIT
trap 'exit 130' INT TERM

rm -f "$out/miner.address"
"$bin/doppel-miner" serve --catalog "$demo/catalog" --state "$demo/state" --listen 127.0.0.1:0 --embedders 0 \
  --address-file "$out/miner.address" --http-port -1 >>"$out/miner.log" 2>&1 &
miner_pid=$!
until [ -s "$out/miner.address" ]; do
  kill -0 "$miner_pid" 2>/dev/null || { echo "the miner did not start:" >&2; tail -n 20 "$out/miner.log" >&2; exit 1; }
  sleep 0.1
done

# What each loss needs beyond the settings that all share: the margins are those of the papers, scaled to the unit sphere.
settings() {
  case "$1" in
    batch_hard|msml) echo "--margin soft" ;;
    batch_ohnm) echo "--margin soft --negatives 1" ;;
    semi_hard|semi_hard_random|batch_all|batch_all_nonzero|adaptive_weights|quadruplet|lmnn) echo "--margin 0.3" ;;
    lifted|lifted_pxk) echo "--margin 1.0" ;;
    *) echo "" ;;
  esac
}

for loss in $losses; do
  printf '== %s\n' "$loss"
  # shellcheck disable=SC2046  # words on purpose
  "$bin/doppel-trainer" train --server "$(cat "$out/miner.address")" --output "$out/$loss" --model "$demo/pretrain/model" \
    --plan "$plan" -P 48 -K 4 --loss "$loss" $(settings "$loss") --augment mild --lr 1e-3 --schedule linear --steps "$steps" \
    --threads "$threads" --seed 1 --eval-every "$steps" --eval-catalog "$demo/catalog" --log-every 500 "$@" \
    2>>"$out/$loss.log" &
  trainer_pid=$!
  wait "$trainer_pid" || { tail -n 5 "$out/$loss.log" >&2; exit 1; }
  trainer_pid=""
  tail -n 1 "$out/$loss.log"
done

python3 - "$out" "$steps" "$plan" $losses <<'EOF'
import json
import pathlib
import sys

out, steps, plan, losses = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


rows = []
for loss in losses:
    log, evaluations = lines(out / loss / "steps.jsonl"), lines(out / loss / "eval.jsonl")
    training = json.loads((out / loss / "run.json").read_text())["options"]["training"]
    some = min(100, len(log))
    mean = lambda part, key: sum(line[key] for line in part) / len(part)
    rows.append({
        "loss": loss, "margin": training["margin"], "distance": training["distance"], "steps": len(log), "plan": plan,
        "before": {k: evaluations[0][k] for k in ("rank1", "recall", "tar")},
        "after": {k: evaluations[-1][k] for k in ("rank1", "recall", "tar")},
        "active_first": mean(log[:some], "active"), "active_last": mean(log[-some:], "active"),
        "d_ap": mean([line["d_ap"] for line in log[-some:]], "p50"),
        "d_an": mean([line["d_an"] for line in log[-some:]], "p50"),
        "milliseconds_per_step": 1000 * mean(log, "step_seconds")})


def shown(number):
    return "–" if number is None else f"{number:.3f}"


fars = sorted(rows[0]["after"]["tar"], key=float)
table = ["| loss | margin | rank-1 | Recall@10 | " + " | ".join(f"TAR@FAR={float(f):.0e}" for f in fars)
         + " | active, first → last 100 | d_ap / d_an (median) | ms per step |",
         "| --- | --- | --- | --- |" + " --- |" * (len(fars) + 3)]
start = rows[0]["before"]
table.append(f"| start | | {shown(start['rank1'])} | {shown(start['recall'].get('10'))} | "
             + " | ".join(shown(start["tar"].get(f)) for f in fars) + " | | | |")
for row in rows:
    after = row["after"]
    table.append(f"| `{row['loss']}` | {row['margin']} | {shown(after['rank1'])} | {shown(after['recall'].get('10'))} | "
                 + " | ".join(shown(after["tar"].get(f)) for f in fars)
                 + f" | {row['active_first']:.3f} → {row['active_last']:.3f} | {row['d_ap']:.2f} / {row['d_an']:.2f} | "
                 f"{row['milliseconds_per_step']:.0f} |")
(out / "losses.md").write_text("\n".join(table) + "\n")
(out / "losses.json").write_text(json.dumps(rows, indent=1) + "\n")
print("\n".join(table))
EOF
