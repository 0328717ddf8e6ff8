"""Trainers publish models and report embeddings; the miner clusters by both, and keeps them over a kill -9."""
import json
import pathlib
import shutil

import numpy

from harness import BIN, MODEL, DoppelTest, run, run_json, wait_for

STEPS = 40


class RepresentationsTest(DoppelTest):
    def train(self, miner, *flags, output="run", steps=STEPS):
        flags = flags if "--plan" in flags else ("--plan", "subspace", *flags)
        return run(BIN / "doppel-trainer", "-q", "train", "--server", miner.address, "--output", self.folder / output,
                   "--model", MODEL, "--steps", steps, "-P", "16", "-K", "2", "--no-tensorboard", *flags).stderr

    def describe(self, miner, *flags):
        return run_json(BIN / "doppel", "representations", "--server", miner.address, *flags)

    def test_live_representations_and_published_models(self):
        miner = self.start_miner("--live-snapshot-seconds", "0.2")
        miner.recluster(subspaces=3)
        self.assertEqual("", self.describe(miner)["run"])
        log = self.train(miner, "--checkpoint-every", "15", "--report-every", "4")
        self.assertIn(f"of step {STEPS}", log)

        models = run_json(BIN / "doppel", "models", "--server", miner.address)["models"]
        self.assertEqual(str(STEPS), models[0]["step"])
        self.assertTrue(models[0]["latest"])
        final = (self.folder / "run/model/weights.pt").read_bytes()
        self.assertEqual(final, (pathlib.Path(models[0]["directory"]) / "weights.pt").read_bytes())

        described = self.describe(miner, "--identity", "0")
        self.assertEqual(str(STEPS - 1), described["model_step"])
        self.assertEqual(str(STEPS), described["reports"])
        self.assertGreater(int(described["seen"]), 400)
        self.assertEqual(1, len(described["identity"]))
        hardness = run_json(BIN / "doppel", "hardness", "--server", miner.address)
        self.assertEqual(STEPS, sum(int(s["batches"]) for s in hardness["subspaces"]))

        latest = run_json(BIN / "doppel", "recluster", "--server", miner.address, "--model", "latest", "--subspaces", "3")
        self.assertEqual(models[0]["hash"], latest["model_fingerprint"])
        refused = run(BIN / "doppel", "recluster", "--server", miner.address, "--source", "live", "--min-coverage", "1",
                      check=False)
        if int(described["seen"]) < int(described["identities"]):
            self.assertEqual(3, refused.returncode, refused.stderr)
            self.assertIn("are asked for", refused.stderr)

        wait_for(lambda: float(self.describe(miner)["snapshot_age_seconds"]) >= 0, "a snapshot")
        wait_for(lambda: float(self.describe(miner)["snapshot_age_seconds"]) < float(
            self.describe(miner)["seconds_since_report"]), "a snapshot after the last report")
        miner.kill()
        miner.start()
        again = self.describe(miner, "--identity", "0")
        for key in ("run", "seen", "model_step", "staleness", "identity"):
            self.assertEqual(described[key], again[key])
        live = run_json(BIN / "doppel", "recluster", "--server", miner.address, "--source", "live", "--min-coverage",
                        "0.5", "--subspaces", "3")
        self.assertTrue(live["model_fingerprint"].startswith("live:"))
        self.assertEqual(str(STEPS - 1), live["model_step"])

    def test_an_incremental_pass_embeds_the_stale_alone(self):
        miner = self.start_miner("--lease-identities", "32")
        miner.recluster(subspaces=3)
        self.train(miner, steps=20)
        seen = int(self.describe(miner)["seen"])
        done = run_json(BIN / "doppel", "recluster", "--server", miner.address, "--model", "latest", "--max-age-steps",
                        "1000", "--subspaces", "3")
        identities = int(done["identities"])
        self.assertLess(seen, identities)
        self.assertIn(f"embedding {identities - seen} of {identities} identities", miner.log_text())
        live = run_json(BIN / "doppel", "recluster", "--server", miner.address, "--source", "live", "--min-coverage", "0",
                        "--subspaces", "3")
        full = run_json(BIN / "doppel", "recluster", "--server", miner.address, "--model", "latest", "--subspaces", "3")
        mixed, live, full = (numpy.load(next((miner.state / "generations").glob(f"*{g['generation']}/representations.npy")))
                             for g in (done, live, full))
        from_live = numpy.abs(mixed - live).max(axis=1) < 1e-6
        from_pass = numpy.abs(mixed - full).max(axis=1) < 1e-5
        self.assertTrue((from_live | from_pass).all())
        self.assertGreaterEqual(from_live.sum(), seen)
        self.assertGreaterEqual(from_pass.sum(), identities - seen)

    def test_a_second_run_is_told_that_it_is_not_listened_to(self):
        miner = self.start_miner()
        miner.recluster(subspaces=3)
        self.train(miner, steps=8)
        owner = self.describe(miner)["run"]
        log = self.train(miner, output="other", steps=8)
        self.assertIn("embeddings are not taken", log)
        described = self.describe(miner)
        self.assertEqual(owner, described["run"])
        self.assertGreater(int(described["refused_reports"]), 0)

    def stream_of(self, output):
        lines = (self.folder / output / "steps.jsonl").read_text().splitlines()
        return [(step["cursor"], step["subspace"], step["mean_similarity"], step["max_similarity"])
                for step in map(json.loads, lines)]

    def follow_reports(self, flags, decisions):
        """A plan that follows reports, over a kill -9 of the miner: whoever asks again is told the same."""
        miner = self.start_miner()
        miner.recluster(subspaces=3)
        flags = [*flags, "--plan-option", "steering_window=8", "--report-every", "1", "--run", "steered"]
        self.train(miner, *flags, output="one", steps=60)
        miner.kill()
        miner.start()
        self.train(miner, *flags, output="one", steps=90)
        listed = run_json(BIN / "doppel", "steering", "--server", miner.address)["plans"]
        self.assertEqual(1, len(listed))
        self.assertGreater(len(listed[0]["plan"][decisions]), 1)
        self.assertEqual("steered", listed[0]["steering"]["run"])
        self.assertGreaterEqual(int(listed[0]["settled_below"]), 90)
        self.train(miner, *flags, output="two", steps=90)
        self.assertEqual(self.stream_of("one"), self.stream_of("two"))
        self.assertEqual(list(range(90)), [step[0] for step in self.stream_of("one")])
        return run(BIN / "doppel", "steering", "steered", "--server", miner.address).stdout

    def test_a_band_of_the_active_share_is_held_and_replayed(self):
        shown = self.follow_reports(["--plan", "auto", "--hardness-band", "0.001:0.002"], "hardness")
        self.assertIn("hard share", shown)

    def test_hard_subspaces_are_visited_by_facts(self):
        shown = self.follow_reports(["--plan", "subspace", "--plan-option", "schedule=hardness"], "subspace_stage")
        self.assertIn("by hardness", shown)

    def test_silence_when_asked_for(self):
        miner = self.start_miner()
        miner.recluster(subspaces=3)
        self.train(miner, "--report-every", "0", "--no-publish", steps=4)
        self.assertEqual("", self.describe(miner)["run"])
        self.assertEqual([], run_json(BIN / "doppel", "models", "--server", miner.address)["models"])

    def test_a_damaged_model_is_named(self):
        miner = self.start_miner()
        copy = self.folder / "copy"
        shutil.copytree(MODEL, copy)
        weights = bytearray((copy / "weights.pt").read_bytes())
        weights[len(weights) // 2] ^= 1
        (copy / "weights.pt").write_bytes(weights)
        failed = run(BIN / "doppel", "publish-model", copy, "--server", miner.address, check=False)
        self.assertEqual(1, failed.returncode)
        self.assertIn("weights.pt", failed.stderr)
        run(BIN / "doppel", "publish-model", MODEL, "--server", miner.address)
        stored = pathlib.Path(run_json(BIN / "doppel", "models", "--server", miner.address)["models"][0]["directory"])
        (stored / "weights.pt").write_bytes(weights)
        refused = run(BIN / "doppel", "recluster", "--server", miner.address, "--model", "latest", check=False)
        self.assertNotEqual(0, refused.returncode)
        self.assertIn("weights.pt", refused.stderr)
