"""A trainer killed again and again ends where one that was left alone ends."""
import json
import random
import subprocess
import time

from harness import BIN, MODEL, DoppelTest, run
from tfevents import scalars

STEPS, KILLS = 160, 20
TIMES = ("images_per_second", "wait_seconds", "step_seconds")


def steps(folder):
    path = folder / "steps.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def lines_in(folder):
    path = folder / "steps.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def writing_a_checkpoint(folder):
    return any((folder / "checkpoints").glob("tmp-*"))


class TrainerKillsTest(DoppelTest):
    def command(self, miner, output):
        return [BIN / "doppel-trainer", "train", "--server", miner.address, "--output", output, "--model", MODEL,
                "--plan", "subspace", "-P", "4", "-K", "2", "--loss", "batch_ohnm", "--negatives", "2", "--steps", str(STEPS),
                "--accumulate", "2", "--ema", "0.95", "--threads", "1", "--checkpoint-every", "4", "--seed", "3", "-q",
                "--tensorboard-every", "1", "--tensorboard-details-every", "50"]

    def kill_once(self, miner, folder, kind, chance):
        """False if the trainer came to its end first."""
        process = subprocess.Popen([str(a) for a in self.command(miner, folder)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        before, more = lines_in(folder), chance.randint(1, 6)
        asleep = time.monotonic() + chance.random() * 0.5
        while process.poll() is None:
            self.assertLess(time.monotonic(), end, kind)
            if kind == "starting" and time.monotonic() >= asleep:
                break
            # A resumed run first cuts lines off, so both directions are a sign of life.
            if kind == "stepping" and abs(lines_in(folder) - before) >= more:
                break
            if kind == "saving" and lines_in(folder) != before and writing_a_checkpoint(folder):
                break
            time.sleep(0.0005)
        ended = process.poll() is not None
        process.kill()
        process.wait()
        return not ended

    def test_twenty_kills_change_nothing(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        calm, killed = self.folder / "calm", self.folder / "killed"
        run(*self.command(miner, calm))
        chance = random.Random(5)
        kinds = ["stepping"] * 8 + ["saving"] * 9 + ["starting"] * 3
        chance.shuffle(kinds)
        self.assertEqual(KILLS, len(kinds))
        done = sum(self.kill_once(miner, killed, kind, chance) for kind in kinds)
        self.assertEqual(KILLS, done)
        run(*self.command(miner, killed))
        self.assertEqual(steps(calm), steps(killed))
        self.assertEqual(list(range(1, STEPS + 1)), [s["step"] for s in steps(killed)])
        newest = sorted(p.name for p in (calm / "checkpoints").iterdir())
        self.assertEqual(newest, sorted(p.name for p in (killed / "checkpoints").iterdir()))
        files = ["model/weights.pt", "model/model.json"]
        files += [f"checkpoints/{newest[-1]}/{name}" for name in
                  ("model/weights.pt", "weights/weights.pt", "optimizer.pt", "loss.pt", "position.json")]
        for name in files:
            self.assertEqual((calm / name).read_bytes(), (killed / name).read_bytes(), name)
        one, other = scalars(calm / "tensorboard"), scalars(killed / "tensorboard")
        self.assertEqual(one["train/loss"], other["train/loss"])
        self.assertEqual(list(range(1, STEPS + 1)), [step for step, _ in other["train/loss"]])
