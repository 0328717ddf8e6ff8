#!/usr/bin/python3
"""Live against full representations over a training run, and the cost of reporting.

Trains in segments. After each: a live and a full clustering of that very moment (same seed, not activated), the cosine of
their representations and the agreement of their subspaces (NMI). Beside them, so that the figures mean something: two full
clusterings of one moment, of which one starts cold with another seed (how far NMI is a matter of the start), and the full one
of the moment before against this one (how stale a clustering gets in one segment).
"""
import argparse
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time

import numpy
from sklearn.metrics import normalized_mutual_info_score

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from miner_under_test import MinerUnderTest  # noqa: E402


class Bench:
    def __init__(self, o, folder):
        self.o, self.folder = o, folder
        self.miner = MinerUnderTest(o.bin, o.catalog, folder, "--embedder-threads", o.threads, "--live-half-life", o.half_life)

    def recluster(self, *arguments):
        begun = time.monotonic()
        info = self.miner.doppel("recluster", "--target-size", self.o.target_size, *arguments)
        folder = next((self.miner.state / "generations").glob(f"*{info['generation']}/representations.npy")).parent
        assignment = numpy.fromfile(folder / "assignment.u32", dtype=numpy.uint32)
        rows = numpy.load(folder / "representations.npy")
        return {"rows": rows, "subspaces": assignment[-len(rows):], "seconds": time.monotonic() - begun}

    def train(self, steps, *flags):
        log = self.miner.run("doppel-trainer", "-q", "train", "--server", self.miner.address, "--output", self.folder / "run", "--model",
                       self.o.model, "--plan", self.o.plan, "--report-references", self.o.references, "-P", self.o.P, "-K", self.o.K, "--lr", self.o.lr, "--steps",
                       steps, "--threads", self.o.threads, "--no-tensorboard", *flags).stderr
        cost = re.search(r"([\d.]+) ms of each, and ([\d.]+) ms of CPU", log)
        lines = [json.loads(line) for line in open(self.folder / "run/steps.jsonl")]
        return lines, [float(x) for x in cost.groups()] if cost else None


def cosines(a, b):
    return (a * b).sum(axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalog", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--bin", default="build/release/bin", type=pathlib.Path)
    parser.add_argument("--segment", default=1000, type=int, help="steps between comparisons")
    parser.add_argument("--segments", default=4, type=int)
    parser.add_argument("--target-size", default=1000, type=int)
    parser.add_argument("--plan", default="look_alikes", help="that the trainer asks for")
    parser.add_argument("--references", default=4, type=int, help="images of a batch embedded as served, for its report")
    parser.add_argument("--half-life", default=100, type=float)
    parser.add_argument("--lr", default="3e-4")
    parser.add_argument("-P", default=48, type=int)
    parser.add_argument("-K", default=4, type=int)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file of the figures")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(o, pathlib.Path(folder))
        try:
            figures = compare(bench, o)
        finally:
            bench.miner.stop()
    if o.out:
        o.out.write_text(json.dumps(figures, indent=2) + "\n")


def compare(bench, o):
    before = bench.recluster("--model", o.model)
    print(f"{'step':>6} {'seen':>7} {'stale':>6} | {'cosine: mean':>12} {'5 %':>6} {'was':>6} | "
          f"{'NMI live:full':>13} {'seeds':>6} {'was:is':>6} | {'live s':>6} {'full s':>6} | {'ms/step':>7} {'report':>7} {'+ CPU':>6}")
    figures = []
    for segment in range(1, o.segments + 1):
        steps = segment * o.segment
        lines, cost = bench.train(steps, "--checkpoint-every", o.segment, "--report-every", 8)
        step_ms = 1e3 * statistics.median(line["step_seconds"] for line in lines[-o.segment:])
        described = bench.miner.doppel("representations")
        live = bench.recluster("--source", "live", "--min-coverage", 0, "--keep-active")
        full = bench.recluster("--model", "latest", "--keep-active")
        other = bench.recluster("--model", "latest", "--keep-active", "--cold-start", "--seed", 1)
        near = cosines(live["rows"], full["rows"])
        figure = {
            "step": steps,
            "seen": int(described["seen"]) / int(described["identities"]),
            "staleness_mean": described["staleness"]["mean"],
            "cosine_mean": float(near.mean()),
            "cosine_p5": float(numpy.quantile(near, 0.05)),
            "cosine_full_before": float(cosines(before["rows"], full["rows"]).mean()),
            "nmi_live_full": normalized_mutual_info_score(live["subspaces"], full["subspaces"]),
            "nmi_full_seeds": normalized_mutual_info_score(full["subspaces"], other["subspaces"]),
            "nmi_full_before": normalized_mutual_info_score(before["subspaces"], full["subspaces"]),
            "live_seconds": live["seconds"],
            "full_seconds": full["seconds"],
            "step_ms": step_ms,
            "report_ms": cost[0],
            "report_cpu_ms": cost[1],
            "report_share": cost[0] / step_ms,
            "report_share_with_cpu": sum(cost) / step_ms,
        }
        figures.append(figure)
        print(f"{steps:6d} {figure['seen']:7.1%} {figure['staleness_mean']:6.0f} | {figure['cosine_mean']:12.4f} "
              f"{figure['cosine_p5']:6.3f} {figure['cosine_full_before']:6.3f} | {figure['nmi_live_full']:13.4f} "
              f"{figure['nmi_full_seeds']:6.3f} {figure['nmi_full_before']:6.3f} | {live['seconds']:6.1f} "
              f"{full['seconds']:6.1f} | {step_ms:7.2f} {figure['report_share']:7.2%} {figure['report_share_with_cpu']:6.2%}",
              flush=True)
        before = full
    return figures


if __name__ == "__main__":
    main()
