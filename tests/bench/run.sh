#!/usr/bin/env bash
# Builds and runs one benchmark: prints a table and writes NAME.json with figures and ratios against the baseline that
# ran beside it. A benchmark never fails for being slow.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
  cat <<'EOF'
usage: tests/bench/run.sh NAME [--out DIR] [--no-peer] [-- ARGUMENTS OF THE BENCHMARK]

  cluster   k-means over 100 K × 128 and × 512 into 10, 100, 1000 against stock FAISS, and a moved model clustered again
            (--million: also 1 M × 128; --two-levels: 200 K × 128 into 20 000; --quick; --before/--after FILE.npy: your own representations), and against scikit-learn
            if Debian's python3-sklearn is there (--no-peer: without)
  neighbours  every identity's 64 nearest of 100 K × 128: time, memory, recall against brute force
  plan      µs per planned batch of every plan at 10⁵, 10⁶ and 10⁷ identities, and resident memory
  embed     representation pass against the net's bare forward rate       (--catalog DIR --model DIR)
  stream    ENCODED / REFERENCE / DECODED streams against a raw gRPC one  (--catalog DIR [--packed DIR]), and against PyTorch's
            DataLoader over the same images if Debian's python3-torch and python3-pil are there (--no-peer: without).
            --jpeg (before --): over 12 000 drawn photographs of 112×112 instead, made and packed in DIR of --out
  flood     1 000 concurrent streams, 50 of them malicious: the rate that the others keep         (--catalog DIR)
  soak      a miner under clients that train, are killed and come back, while it is killed and clusters again: lost and duplicated
            batches, slope of its memory                                           (--minutes N --trainers N; makes its own data)
  loss      every metric loss: time and peak memory of forward + backward against tensor operations
  cleaning  duplicates and wrong labels found on Glyphs against what is known     (--demo DIR [--model DIR], or --embeddings,
            --labels, --catalog, --known); writes the precision-recall curves as cleaning.html, too
  recluster  a trainer's throughput and stall time before, during and after three re-clusterings  (--catalog DIR --model DIR)
  live      live against full representations over a training run, and the cost of reporting     (--catalog DIR --model DIR)
  efficacy  which plan makes the better model: trainings from the same weights (--catalog DIR --model DIR --work DIR; hours)

Examples: tests/bench/run.sh stream -- --catalog demo/catalog
          tests/bench/run.sh stream --jpeg --out /tmp/stream
EOF
}
case "${1:-}" in ""|-h|--help) usage; [ -n "${1:-}" ] && exit 0 || exit 2 ;; esac
name=$1 out=. peer=1
shift
jpeg=0
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift ;;
    --no-peer) peer=0 ;;
    --jpeg) jpeg=1 ;;
    --) shift; break ;;
    *) break ;;
  esac
  shift
done
[ -d "$here/$name" ] || { echo "tests/bench/run.sh: no benchmark '$name'" >&2; usage >&2; exit 2; }

# Some hosts pin OpenBLAS to an older core, which halves sgemm: benchmarks let the programs choose (they correct OpenBLAS where it
# does not know the processor).
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OMP_WAIT_POLICY=passive CCACHE_DIR=${CCACHE_DIR:-$root/build/ccache}
cd "$root"
if [ -f "$here/$name/$name.py" ]; then  # drives the real programs
  [ -f build/release/build.ninja ] || cmake --preset release >/dev/null
  cmake --build build/release --target doppel doppel-miner doppel-trainer doppel-embedder >/dev/null
  mkdir -p "$out"
  exec /usr/bin/python3 "$here/$name/$name.py" --out "$out/$name.json" "$@"
fi
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build build/release --target "bench_$name" >/dev/null
mkdir -p "$out"
if [ "$name" = cluster ] && [ $peer = 1 ] && /usr/bin/python3 -c 'import sklearn' 2>/dev/null; then
  keep=$(mktemp -d)
  trap 'rm -rf "$keep"' EXIT
  set -- --keep "$keep" "$@"
fi
if [ "$name" = cleaning ] && [ "${1:-}" = --demo ]; then
  # Image embeddings of the whole catalog, by the model that the demo trained on look-alikes. Kept in DIR of --out.
  demo=$2 model=$2/subspace/model
  shift 2
  if [ "${1:-}" = --model ]; then model=$2; shift 2; fi
  if [ ! -f "$out/cleaning-embeddings.npy" ] || [ "$model/weights.pt" -nt "$out/cleaning-embeddings.npy" ]; then
    cmake --build build/release --target doppel-trainer >/dev/null
    build/release/bin/doppel-trainer embed --model "$model" --catalog "$demo/catalog" --threads "$(nproc)" \
      --output "$out/cleaning-embeddings.npy" --labels "$out/cleaning-labels.npy"
  fi
  set -- --embeddings "$out/cleaning-embeddings.npy" --labels "$out/cleaning-labels.npy" --catalog "$demo/catalog" \
    --known "$demo/glyphs/known_duplicates.csv" "$@"
fi
images=()
if [ "$name" = stream ] && [ $jpeg = 1 ]; then
  cmake --build build/release --target doppel >/dev/null
  folder=$out/jpeg
  images=(--jpeg --folder "$folder")
  [ -d "$folder" ] || /usr/bin/python3 "$here/dataloader.py" "${images[@]}" --write-only
  [ -d "$folder.catalog" ] || build/release/bin/doppel import imagefolder "$folder" --catalog "$folder.catalog"
  [ -d "$folder.raw" ] || build/release/bin/doppel pack --catalog "$folder.catalog" --output "$folder.raw" --raw 112x112 --channels 3
  set -- --catalog "$folder.catalog" --packed "$folder.raw" --shapes 64x4 "$@"
fi
"$(find build/release -name "bench_$name" -type f -perm -u+x | head -n 1)" --out "$out/$name.json" "$@"
if [ -n "${keep:-}" ]; then
  /usr/bin/python3 "$here/cluster_sklearn.py" --keep "$keep" --against "$out/$name.json" || true
fi

catalog=
for ((i = 1; i < $#; ++i)); do
  if [ "${!i}" = --catalog ]; then j=$((i + 1)) catalog=${!j}; fi
done
if [ "$name" = stream ] && [ $peer = 1 ] && [ -n "$catalog" ] && /usr/bin/python3 -c 'import torch, numpy, PIL' 2>/dev/null; then
  /usr/bin/python3 "$here/dataloader.py" --catalog "$catalog" "${images[@]}" --against "$out/$name.json" || true
fi
