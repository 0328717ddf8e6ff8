"""Which plan makes the better model from the same weights, in the same number of steps and images?

    tests/bench/run.sh efficacy -- --catalog demo/catalog --model demo/pretrain/model --work demo/efficacy

First a strong start: --start-steps steps of the random plan from --model (mining pays late; 0 starts from --model as it is). Then
one generation is mined with it, and for every seed and every plan a trainer runs --steps steps from the start: same net, same
loss, same augmentation, same P x K, same rate. Every run is evaluated on identities that no training saw, against the full
gallery, every --eval-every steps with --queries images of each test identity, and at its end with --final-queries. Rows:

    random        the control: P x K at random, batch hard (what a sampler of pytorch-metric-learning with its in-batch miner does)
    default       what doppel-trainer does by itself: the plan look_alikes with batch OHNM (5 nearest negatives)
    look_alikes   that plan with the control's loss
    random_ohnm   the control's plan with that loss
    graph         batches of an identity and its nearest ones, K = 2, as many images (the sampler of QAConv-GS)
    third         the default with a third of the steps and images: its rate has decayed by then
    guarded       with --guard: the default on the generation with the guard list of `doppel clean`
    …             any other plan: --rows "NAME=FLAGS" (flags of doppel-trainer train; --steps is a length of its own), as often
                  as you like

Interrupted? The same command again goes on: finished runs are kept, unfinished ones resume at their checkpoint. Writes
efficacy.json (all rows and "ratios": error_default_over_random, images_default_over_random), efficacy.md and report.html.
Tune on --eval-split validation (tests/bench/efficacy/relabel.py makes one), report on test.
"""
import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time

# 97.5 % quantile of Student's t by degrees of freedom.
T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
DEFAULT = "default"


def lines(path):
    """Of a JSON-lines file; a torn last line of a run that is being written is left out."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def interval(values):
    """Mean and half-width of its 95 % interval over seeds; None with one seed."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, T975.get(len(values) - 1, 1.96) * deviation / math.sqrt(len(values))


def last_wins(flags):
    """Of flags that are given twice ("--lr 1 --lr 2") the last one."""
    kept = {}
    words = list(map(str, flags))
    i = 0
    while i < len(words):
        has_value = i + 1 < len(words) and not words[i + 1].startswith("--") and words[i + 1] not in ("-P", "-K")
        key = (words[i], words[i + 1].split("=")[0]) if words[i] in ("--loss-option", "--plan-option") else words[i]
        kept[key] = words[i:i + 1 + has_value]
        i += 1 + has_value
    return [word for pair in kept.values() for word in pair]


class Experiment:
    def __init__(self, arguments):
        self.a = arguments
        self.bin = arguments.bin
        self.work = arguments.work.resolve()
        self.catalog = arguments.catalog.resolve()
        self.eval_catalog = (arguments.eval_catalog or arguments.catalog).resolve()
        self.children = []
        self.lock = threading.Lock()
        self.stopping = False
        self.server = None
        self.mining = {}

    def run(self, command, log, answer=None):
        """Runs a child to its end; its output goes to `log`, or what it prints to `answer`, once it is whole."""
        part = answer and answer.with_suffix(".part")
        with self.lock:
            if self.stopping:
                raise KeyboardInterrupt
            with open(log, "ab") as errors, open(part or log, "wb" if part else "ab") as output:
                child = subprocess.Popen([str(c) for c in command], stdout=output, stderr=errors)
            self.children.append(child)
        code = child.wait()
        if code != 0 and not self.stopping:
            tail = pathlib.Path(log).read_text(errors="replace").splitlines()[-5:]
            raise RuntimeError(f"{shlex.join(map(str, command))}: exit {code}\n" + "\n".join(tail))
        if part and code == 0:
            part.rename(answer)

    def stop(self):
        with self.lock:
            self.stopping = True
            for child in self.children:
                if child.poll() is None:
                    child.terminate()
        for child in self.children:
            child.wait()

    def start_miner(self):
        address = self.work / "miner.address"
        address.unlink(missing_ok=True)
        log = self.work / "miner.log"
        miner = subprocess.Popen(
            [self.bin / "doppel-miner", "serve", "--catalog", self.catalog, "--state", self.work / "state", "--listen",
             "127.0.0.1:0", "--address-file", address, "--http-port", "-1"], stdout=open(log, "ab"), stderr=subprocess.STDOUT)
        self.children.append(miner)
        while not (address.exists() and address.read_text().strip()):
            if miner.poll() is not None:
                raise RuntimeError("the miner did not start:\n" + "\n".join(log.read_text().splitlines()[-20:]))
            time.sleep(0.05)
        self.server = address.read_text().strip()

    def ctl(self, *words):
        command = [self.bin / "doppel", *words, "--server", self.server]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(map(str, command))}: {done.stderr.strip()}")
        return done.stdout

    def mine(self, model):
        """A generation of this model; the one that is there already if it is of the same weights."""
        name = str(model.resolve())
        known = self.work / "generations.json"
        mined = json.loads(known.read_text()) if known.exists() else {}
        if name not in mined:
            began = time.monotonic()
            # Queued: what an interrupted run left is finished first.
            # As many neighbours as the row "graph" takes.
            neighbours = max(64, self.a.identities * self.a.samples // 2 - 1)
            self.ctl("recluster", "--queue", "--model", model, "--subspaces", self.a.subspaces, "--neighbours", neighbours,
                     "--timeout", "7200")
            info = json.loads(self.ctl("generation", "0", "-o", "json"))
            mined[name] = {"generation": int(info["generation"]), "seconds": time.monotonic() - began,
                           "embed_seconds": info.get("embed_seconds"), "cluster_seconds": info.get("cluster_seconds")}
            known.write_text(json.dumps(mined, indent=1))
        self.mining = mined[name]
        return mined[name]["generation"]

    def guard(self, model):
        """The same generation with the guard list that cleaning by this model's embeddings gives."""
        known = self.work / "guard.json"
        if not known.exists():
            began = time.monotonic()
            embeddings, labels = self.work / "embeddings.npy", self.work / "labels.npy"
            if not (embeddings.exists() and labels.exists()):
                self.run([self.bin / "doppel-trainer", "embed", "--model", model, "--catalog", self.catalog, "--output",
                          embeddings, "--labels", labels, "--threads", self.a.threads * self.a.jobs], self.work / "embed.log")
            found = json.loads(self.ctl("clean", "find", "--embeddings", embeddings, "--labels", labels, "-o", "json"))
            self.ctl("clean", "apply", "--timeout", "600")
            info = json.loads(self.ctl("generation", "0", "-o", "json"))
            known.write_text(json.dumps({"generation": int(info["generation"]), "seconds": time.monotonic() - began,
                                         "found": found}, indent=1))
            embeddings.unlink()
            labels.unlink()
        return json.loads(known.read_text())

    def train(self, output, model, steps, seed, flags, evaluate_every):
        words = last_wins(flags)
        if "--steps" in words:  # a row with a length of its own
            at = words.index("--steps")
            steps = int(words[at + 1])
            del words[at:at + 2]
        done = lines(output / "eval.jsonl")
        if done and done[-1]["step"] == steps:
            return
        output.mkdir(parents=True, exist_ok=True)
        self.run([self.bin / "doppel-trainer", "train", "--server", self.server, "--output", output, "--model", model,
                  "--steps", steps, "--seed", seed, "--threads", self.a.threads, "--augment", "mild", "--log-every", 500,
                  "--checkpoint-every", 500, "--keep", 1, "--no-tensorboard",
                  "--eval-every", evaluate_every, "--eval-catalog", self.eval_catalog, "--eval-split", self.a.eval_split,
                  "--eval-queries", self.a.queries, "--eval-augment", *words], output / "log")

    def measure(self, model, final):
        """A model by more queries than there is time for on the way."""
        if final.exists() or not self.a.final_queries:
            return
        self.run([self.bin / "doppel-trainer", "-q", "eval", "--model", model, "--catalog", self.eval_catalog,
                  "--split", self.a.eval_split, "--queries", self.a.final_queries, "--augment-queries", "--threads",
                  self.a.threads, "-o", "json"], final.with_suffix(".log"), final)

    def common(self):
        a = self.a
        return ["-P", a.identities, "-K", a.samples, "--loss", a.loss, "--margin", "soft", "--lr", a.lr, "--schedule",
                "linear", *shlex.split(a.flags)]

    def strong_start(self):
        if not self.a.start_steps:
            return self.a.model.resolve()
        output = self.work / "start"
        print(f"start: {self.a.start_steps} steps of random batches", flush=True)
        self.train(output, self.a.model.resolve(), self.a.start_steps, 1000,
                   [*self.common(), "--plan", "random", "--lr", self.a.start_lr], self.a.start_steps)
        return output / "model"

    def all_runs(self, start, generation, rows):
        tasks = [(seed, name, flags) for seed in self.a.seeds for name, flags in rows.items()]
        began, finished = time.monotonic(), 0

        def one(task):
            seed, name, flags = task
            self.train(self.work / f"{name}-{seed}", start, self.a.steps, seed,
                       [*self.common(), "--generation", generation, *shlex.split(flags)], self.a.eval_every)
            output = self.work / f"{name}-{seed}"
            self.measure(output / "model", output / "final.json")
            return task

        with concurrent.futures.ThreadPoolExecutor(self.a.jobs) as pool:
            futures = [pool.submit(one, task) for task in tasks]
            try:
                for future in concurrent.futures.as_completed(futures):
                    seed, name, _ = future.result()
                    finished += 1
                    left = (time.monotonic() - began) / finished * (len(tasks) - finished)
                    final = lines(self.work / f"{name}-{seed}" / "eval.jsonl")[-1]
                    print(f"{finished}/{len(tasks)}  {name} seed {seed}: rank-1 {final['rank1']:.4f}, ETA {left / 60:.0f} min",
                          flush=True)
            except BaseException:
                for future in futures:
                    future.cancel()
                self.stop()
                raise

    def summary(self, rows):
        a = self.a
        table, per_seed = [], {}
        for name, flags in rows.items():
            evaluations = [lines(self.work / f"{name}-{seed}" / "eval.jsonl") for seed in a.seeds]
            steps = [lines(self.work / f"{name}-{seed}" / "steps.jsonl") for seed in a.seeds]
            images = json.loads((self.work / f"{name}-{a.seeds[0]}" / "run.json").read_text())["options"]["training"]
            per_step = images["identities_per_batch"] * images["samples_per_identity"]
            finals = [self.final(self.work / f"{name}-{seed}", e[-1]) for seed, e in zip(a.seeds, evaluations)]
            per_seed[name] = (evaluations, per_step)
            steps_done = evaluations[0][-1]["step"]
            row = {"plan": name, "flags": flags, "seeds": a.seeds, "steps": steps_done, "images": steps_done * per_step,
                   "queries": finals[0]["queries"]}
            measures = {"rank1": [f["rank1"] for f in finals], "recall@10": [f["recall"]["10"] for f in finals]}
            for far in sorted(finals[0]["tar"], key=float):
                measures[f"tar@{float(far):.0e}"] = [f["tar"][far] for f in finals if f["tar"].get(far) is not None]
            measures["active"] = [sum(s["active"] for s in log) / len(log) for log in steps if log]
            for key, values in measures.items():
                if values:
                    mean, half = interval(values)
                    row[key] = {"mean": mean, "interval95": half, "values": values}
            table.append(row)
        control, per_step = per_seed["random"]
        for row in table:
            evaluations, images = per_seed[row["plan"]]
            row["images_to_control"] = [self.images_to(mine, theirs[-1]["rank1"], images)
                                        for mine, theirs in zip(evaluations, control)]
        return table

    def final(self, output, last):
        return json.loads((output / "final.json").read_text()) if self.a.final_queries else last

    @staticmethod
    def images_to(evaluations, goal, per_step):
        """Images until rank-1 first reaches `goal`, between evaluations by a straight line; None: never."""
        for before, after in zip(evaluations, evaluations[1:]):
            if after["rank1"] >= goal:
                rise = after["rank1"] - before["rank1"]
                share = 1 if rise <= 0 else min(1, max(0, (goal - before["rank1"]) / rise))
                return (before["step"] + share * (after["step"] - before["step"])) * per_step
        return None


def ratios(table):
    rows = {row["plan"]: row for row in table}
    control, found = rows["random"], {}
    if DEFAULT in rows:
        best = rows[DEFAULT]
        error = [(1 - b) / (1 - c) for b, c in zip(best["rank1"]["values"], control["rank1"]["values"])]
        mean, half = interval(error)
        found = {"error_default_over_random": mean, "error_default_over_random_interval95": half,
                 "error_default_over_random_values": error}
        reached = [images / control["images"] for images in best["images_to_control"] if images is not None]
        found["images_default_over_random"] = sum(reached) / len(reached) if len(reached) == len(error) else None
        found["seeds_that_reach_control"] = len(reached)
    if "third" in rows:
        gain = [t - c for t, c in zip(rows["third"]["rank1"]["values"], control["rank1"]["values"])]
        mean, half = interval(gain)
        found |= {"rank1_third_minus_random": mean, "rank1_third_minus_random_interval95": half,
                  "images_third_over_random": rows["third"]["images"] / control["images"],
                  "seeds_whose_third_reaches_control": sum(g >= 0 for g in gain)}
    return found


def markdown(table, start, found):
    tars = [key for key in table[0] if key.startswith("tar@")]
    head = ["plan", "rank-1", "Recall@10", *[k.upper().replace("TAR@", "TAR@FAR=") for k in tars], "active", "images to control"]
    text = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    if start:
        text.append("| start | " + " | ".join(
            f"{v:.3f}" for v in [start["rank1"], start["recall"]["10"], *[start["tar"][f] for f in sorted(start["tar"], key=float)]])
            + " | | |")

    def cell(entry):
        if not entry:
            return "-"
        return f"{entry['mean']:.3f}" + (f" ± {entry['interval95']:.3f}" if entry["interval95"] is not None else "")

    for row in table:
        reached = [i for i in row["images_to_control"] if i is not None]
        to = f"{sum(reached) / len(reached) / 1000:.0f} K" if reached else "never"
        if reached and len(reached) < len(row["seeds"]):
            to += f" ({len(reached)} of {len(row['seeds'])} seeds)"
        text.append(f"| {row['plan']} | " + " | ".join(cell(row.get(k)) for k in ["rank1", "recall@10", *tars, "active"])
                    + f" | {to} |")
    for key, value in found.items():
        if isinstance(value, float):
            text.append(f"\n{key}: {value:.3f}" if "interval" not in key else f"± {value:.3f}")
    return "\n".join(text) + "\n"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", type=pathlib.Path, required=True, help="to train on")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="weights to begin with")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for runs and results")
    parser.add_argument("--out", type=pathlib.Path, help="efficacy.json (default: WORK/efficacy.json)")
    parser.add_argument("--eval-catalog", type=pathlib.Path, help="default: --catalog (give the clean one when labels are noisy)")
    parser.add_argument("--eval-split", default="test")
    parser.add_argument("--start-steps", type=int, default=6000)
    parser.add_argument("--start-lr", default="1e-3")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--eval-every", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", metavar="ROW", help="of the built-in rows these (random is always run)")
    parser.add_argument("--guard", action="store_true", help="clean by the start's embeddings, and add the row guarded")
    parser.add_argument("--rows", action="append", default=[], metavar="NAME=FLAGS")
    parser.add_argument("--subspaces", type=int, default=100)
    parser.add_argument("-P", "--identities", type=int, default=48)
    parser.add_argument("-K", "--samples", type=int, default=4)
    parser.add_argument("--loss", default="batch_hard")
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--flags", default="", help="further flags of doppel-trainer train, for all runs")
    parser.add_argument("--queries", type=int, default=2, help="per test identity")
    parser.add_argument("--final-queries", type=int, default=8,
                        help="per test identity, at the end of a run (0: what the last evaluation says)")
    parser.add_argument("--threads", type=int, default=1, help="of each trainer")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainers side by side")
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[3] / "build/release/bin")
    return parser.parse_args()


def main():
    arguments = parse()
    recommended = "--plan look_alikes --loss batch_ohnm --negatives 5"
    built_in = {"random": "--plan random", DEFAULT: recommended, "third": f"{recommended} --steps {arguments.steps // 3}",
                "look_alikes": "--plan look_alikes", "random_ohnm": "--plan random --loss batch_ohnm --negatives 5",
                "subspace": "--plan subspace",
                "graph": f"--plan nearest_identities -P {arguments.identities * arguments.samples // 2} -K 2"}
    if arguments.guard and arguments.only:
        arguments.only.append(DEFAULT)
    rows = {name: flags for name, flags in built_in.items() if name == "random" or not arguments.only or name in arguments.only}
    for row in arguments.rows:
        name, _, flags = row.partition("=")
        if not flags:
            sys.exit(f"efficacy: --rows {row}: give NAME=FLAGS")
        rows[name] = flags
    experiment = Experiment(arguments)
    experiment.work.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_WAIT_POLICY"] = "passive"
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        experiment.start_miner()
        start = experiment.strong_start()
        generation = experiment.mine(start)
        if arguments.guard:
            experiment.mining["guard"] = experiment.guard(start)
            rows["guarded"] = f"{rows[DEFAULT]} --generation {experiment.mining['guard']['generation']}"
        experiment.measure(start, experiment.work / "start.json")
        experiment.all_runs(start, generation, rows)
        table = experiment.summary(rows)
    except RuntimeError as error:
        sys.exit(f"efficacy: {error}")
    except KeyboardInterrupt:
        sys.exit("efficacy: interrupted; the same command goes on from here")
    finally:
        experiment.stop()
    found = ratios(table)
    first = lines(experiment.work / f"random-{arguments.seeds[0]}" / "eval.jsonl")[0]
    if arguments.final_queries:
        first |= json.loads((experiment.work / "start.json").read_text())
    result = {"benchmark": "efficacy", "baseline": "random", "protocol": first.get("protocol"), "eval_split": arguments.eval_split,
              "start": first, "mining": experiment.mining, "rows": table, "ratios": found}
    out = arguments.out or experiment.work / "efficacy.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    text = markdown(table, first, found)
    (experiment.work / "efficacy.md").write_text(text)
    print(text)
    report = [experiment.bin / "doppel", "report", "--html", experiment.work / "report.html", "--title", "efficacy of plans"]
    for name in rows:
        report += ["--run", f"{name}={experiment.work / f'{name}-{arguments.seeds[0]}'}"]
    subprocess.run([str(c) for c in report], check=False, stdout=subprocess.DEVNULL)
    print(f"wrote {out}, {experiment.work / 'efficacy.md'} and {experiment.work / 'report.html'}")


if __name__ == "__main__":
    main()
