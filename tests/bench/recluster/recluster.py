#!/usr/bin/python3
"""Training beside re-clusterings: throughput and stall time of a trainer before, during and after three of them.

A trainer pulls batches while the miner re-clusters, first from what trainers reported (live), last with a pass over images.
The machine's cores are shared, so the job's own CPU time costs throughput wherever it runs: the loss beside that is what is
judged. It is the rise of the trainer's CPU time per step (the job in its caches) and of its waiting for batches.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from miner_under_test import MinerUnderTest  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """Of a process, its threads and its children that have ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def children(pid):
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


class Bench:
    def __init__(self, o, folder):
        self.o, self.folder = o, folder
        self.miner = MinerUnderTest(o.bin, o.catalog, folder, "--embedder-threads", o.job_threads, "--cluster-threads",
                                    o.job_threads)
        self.trainer = None

    def stop(self):
        if self.trainer is not None and self.trainer.poll() is None:
            self.trainer.terminate()
            self.trainer.wait()
        self.miner.stop()

    def recluster(self, *arguments):
        return self.miner.doppel("recluster", "--target-size", self.o.target_size, *arguments)

    def train(self):
        self.steps_file = self.folder / "run/steps.jsonl"
        self.trainer = subprocess.Popen(
            [self.o.bin / "doppel-trainer", "-q", "train", "--server", self.miner.address, "--output", self.folder / "run",
             "--model", self.o.model, "--plan", "subspace", "-P", str(self.o.P), "-K", str(self.o.K), "--steps", "1000000",
             "--schedule", "constant", "--checkpoint-every", str(self.o.publish_every), "--threads",
             str(self.o.trainer_threads), "--no-tensorboard"],
            stdout=self.miner.log, stderr=self.miner.log)
        self.wait_for(lambda: len(self.steps()) >= self.o.warm_steps)

    def wait_for(self, condition):
        while not condition():
            self.miner.check()
            if self.trainer.poll() is not None:
                sys.exit((self.folder / "miner.log").read_text())
            time.sleep(0.05)

    def steps(self):
        if not self.steps_file.exists():
            return []
        lines = self.steps_file.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def snapshot(self):
        job = cpu_seconds(self.miner.process.pid) + sum(map(cpu_seconds, children(self.miner.process.pid)))
        return {"time": time.monotonic(), "steps": len(self.steps()), "trainer_cpu": cpu_seconds(self.trainer.pid), "job_cpu": job}

    def phase(self, begin, end):
        steps = self.steps()[begin["steps"]:end["steps"]]
        count, seconds = max(1, len(steps)), end["time"] - begin["time"]
        return {
            "seconds": seconds,
            "steps": len(steps),
            "steps_per_second": len(steps) / seconds,
            "trainer_cpu_per_step": (end["trainer_cpu"] - begin["trainer_cpu"]) / count,
            "miner_cores": (end["job_cpu"] - begin["job_cpu"]) / seconds,
            "stall_seconds": sum(step["wait_seconds"] for step in steps),
            "stall_longest": max((step["wait_seconds"] for step in steps), default=0.0),
        }

    def during(self, *arguments):
        begin = self.snapshot()
        info = self.recluster(*arguments)
        # A job of a second says nothing of a trainer with steps of a tenth.
        end_at = begin["steps"] + self.o.fewest_steps
        self.wait_for(lambda: len(self.steps()) >= end_at)
        phase = self.phase(begin, self.snapshot())
        phase["job_seconds"] = sum(info.get(key, 0) for key in ("embed_seconds", "cluster_seconds", "neighbours_seconds",
                                                                "publish_seconds"))
        return phase

    def quiet(self):
        begin = self.snapshot()
        time.sleep(self.o.seconds)
        self.wait_for(lambda: len(self.steps()) >= begin["steps"] + self.o.fewest_steps)
        return self.phase(begin, self.snapshot())


def compare(before, during, after):
    """`before` and `after` are what the trainer does undisturbed."""
    cpu = (before["trainer_cpu_per_step"] + after["trainer_cpu_per_step"]) / 2
    rate = (before["steps_per_second"] + after["steps_per_second"]) / 2
    quiet_stall = (before["stall_seconds"] + after["stall_seconds"]) / (before["seconds"] + after["seconds"])
    stall = during["stall_seconds"] / during["seconds"] - quiet_stall
    return {
        "throughput": during["steps_per_second"] / rate,
        "after_over_before": after["steps_per_second"] / before["steps_per_second"],
        "cpu_per_step": during["trainer_cpu_per_step"] / cpu,
        "stall_share": stall,
        # Each step needs so much more of a core, and so much of the time there is nothing to do.
        "loss_beside_cpu": 1 - (cpu / during["trainer_cpu_per_step"]) * (1 - max(0.0, stall)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalog", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--bin", default="build/release/bin", type=pathlib.Path)
    parser.add_argument("--seconds", default=20.0, type=float, help="of each quiet phase, at least")
    parser.add_argument("--fewest-steps", default=60, type=int, help="of each phase, at least")
    parser.add_argument("--warm-steps", default=60, type=int, help="before the first phase")
    parser.add_argument("--publish-every", default=50, type=int, help="steps between models that the trainer publishes")
    parser.add_argument("--target-size", default=1000, type=int)
    parser.add_argument("--samples", default=1, type=int, help="images of an identity in the passes")
    parser.add_argument("--trainer-threads", default=1, type=int)
    parser.add_argument("--job-threads", default=1, type=int)
    parser.add_argument("-P", default=48, type=int)
    parser.add_argument("-K", default=4, type=int)
    parser.add_argument("--out", type=pathlib.Path, help="JSON file of the figures")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(o, pathlib.Path(folder))
        try:
            figures = measure(bench, o)
        finally:
            bench.stop()
    if o.out:
        o.out.write_text(json.dumps(figures, indent=2) + "\n")


def measure(bench, o):
    sampled = ["--samples-per-identity", o.samples]
    bench.recluster("--model", o.model, *sampled)
    bench.train()
    live = ["--source", "live", "--min-coverage", 0]
    jobs = [("live", live), ("live", live), ("sampled", ["--model", "latest", *sampled])]
    print(f"{'':10} {'s':>6} {'steps':>6} {'steps/s':>8} {'CPU s/step':>10} {'miner cores':>11} {'stalled s':>9} {'longest':>8}")

    def show(name, phase):
        print(f"{name:10} {phase['seconds']:6.1f} {phase['steps']:6d} {phase['steps_per_second']:8.2f} "
              f"{phase['trainer_cpu_per_step']:10.4f} {phase['miner_cores']:11.2f} {phase['stall_seconds']:9.3f} "
              f"{phase['stall_longest']:8.3f}", flush=True)

    before = bench.quiet()
    show("before", before)
    rows = []
    for source, arguments in jobs:
        during = bench.during(*arguments)
        show(source, during)
        after = bench.quiet()
        show("after", after)
        rows.append({"source": source, "before": before, "during": during, "after": after,
                     "ratios": compare(before, during, after)})
        before = after
    for row in rows:
        r = row["ratios"]
        print(f"{row['source']:8} throughput {r['throughput']:6.1%} of the quiet one, job {row['during']['job_seconds']:5.1f} s; "
              f"beside its CPU: {r['loss_beside_cpu']:+.1%} (CPU per step {r['cpu_per_step']:.3f}x, stalled {r['stall_share']:+.2%})")
    return {"cores": os.cpu_count(), "trainer_threads": o.trainer_threads, "job_threads": o.job_threads, "reclusterings": rows}


if __name__ == "__main__":
    main()
