"""Generations under control: the operator's commands against real binaries."""
import struct
import subprocess

from harness import BIN, DEADLINE, MODEL, DoppelTest, Stream, mining, run, run_json, spec, wait_for

DOPPEL = BIN / "doppel"
SMALL = ("--subspaces", "4", "--min-size", "16")


def png_size(path):
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n", header
    return struct.unpack(">II", header[16:24])


class GenerationsTest(DoppelTest):
    def mine(self, miner, count=1, **fields):
        fields = {"subspaces": 4, "min_size": 16, **fields}
        return [miner.recluster(**fields).generation for _ in range(count)]

    def numbers(self, miner):
        return [g.generation for g in miner.mining.ListGenerations(mining.ListGenerationsRequest()).generations]

    def test_roll_back_pin_retire(self):
        miner = self.start_miner()
        self.mine(miner, 3)
        at = ("--server", miner.address)
        self.assertEqual("2", run_json(DOPPEL, "rollback", "--dry-run", *at)["generation"])
        self.assertIn("active again", run(DOPPEL, "rollback", *at).stdout)
        self.assertEqual("2", run_json(DOPPEL, "status", *at)["active_generation"])
        run(DOPPEL, "pin", "1", *at)
        refused = run(DOPPEL, "retire", "1", *at, check=False)
        self.assertEqual((3, True), (refused.returncode, "pinned" in refused.stderr))
        self.assertEqual(3, run(DOPPEL, "retire", "2", *at, check=False).returncode)
        run(DOPPEL, "retire", "3", "--dry-run", *at)
        self.assertTrue((miner.state / "generations" / "000003").exists())
        run(DOPPEL, "retire", "3", *at)
        self.assertFalse((miner.state / "generations" / "000003").exists())
        miner.kill()
        miner.start()
        self.assertEqual([1, 2], self.numbers(miner))
        self.assertEqual(2, miner.mining.Describe(mining.DescribeRequest()).active_generation)
        self.assertTrue(run_json(DOPPEL, "generation", "1", *at)["pinned"])
        run(DOPPEL, "unpin", "1", *at)
        run(DOPPEL, "retire", "1", *at)
        self.assertEqual([2], self.numbers(miner))

    def test_disk_is_bounded(self):
        miner = self.start_miner("--keep-generations", "1")
        self.mine(miner, 5)
        self.assertEqual([3, 4, 5], self.numbers(miner))
        wait_for(lambda: sorted(p.name for p in (miner.state / "generations").iterdir()) == ["000003", "000004", "000005"],
                 "the files of retired generations go")

    def test_a_generation_that_a_stream_is_on_stays(self):
        miner = self.start_miner("--keep-generations", "1")
        self.mine(miner)
        stream = Stream(miner, spec("subspace", generation=1), 2)
        self.assertEqual(1, stream.next().generation)
        self.mine(miner, 4)
        self.assertIn(1, self.numbers(miner))
        self.assertEqual(1, stream.next().generation)
        stream.close()

    def test_dry_run_publishes_nothing(self):
        miner = self.start_miner()
        at = ("--server", miner.address)
        statistics = run_json(DOPPEL, "recluster", *at, "--model", MODEL, *SMALL, "--dry-run")
        self.assertEqual("540", statistics["identities"])
        self.assertEqual(64, statistics["neighbours"])
        self.assertGreater(statistics["lookalike_density"], 0)
        self.assertEqual([], self.numbers(miner))
        self.mine(miner)
        self.assertEqual([2], self.numbers(miner))

    def test_warm_start_keeps_the_subspaces(self):
        miner = self.start_miner()
        self.mine(miner, 2)
        at = ("--server", miner.address)
        info = run_json(DOPPEL, "generation", "2", *at)
        self.assertEqual(("1", "1"), (info["warm_start"], info["previous"]))
        self.assertLess(info["churn"], 0.1)
        diff = run_json(DOPPEL, "diff", "1", "2", *at)
        self.assertEqual("540", diff["common"])
        self.assertEqual(info["churn"], diff["churn"])
        self.assertEqual(info["nmi"], diff["nmi"])
        self.assertIn("NMI", run(DOPPEL, "diff", "1", "2", *at).stdout)
        cold = run_json(DOPPEL, "recluster", *at, "--model", MODEL, *SMALL, "--cold-start", "--neighbours", "0")
        self.assertEqual(("0", 0), (cold["warm_start"], cold["neighbours"]))

    def test_max_size_splits(self):
        miner = self.start_miner()
        self.mine(miner, max_size=100)
        info = run_json(DOPPEL, "generation", "--server", miner.address)
        self.assertLessEqual(int(info["largest_subspace"]), 100)
        self.assertGreater(info["split_subspaces"], 0)

    def test_lookalikes_and_subspaces(self):
        miner = self.start_miner()
        self.mine(miner)
        at = ("--server", miner.address)
        first = run_json(DOPPEL, "subspace", "show", "0", *at)
        self.assertGreater(len(first["members"]), 0)
        self.assertEqual(3, len(first["nearest"]))
        self.assertEqual(1, run(DOPPEL, "subspace", "show", "99", *at, check=False).returncode)
        name = first["members"][0]["name"]
        sheet = self.folder / "sheet.png"
        found = run_json(DOPPEL, "lookalikes", name, "--count", "11", "--sheet", sheet, *at)
        self.assertTrue(found["stored"])
        similarities = [other["similarity"] for other in found["lookalikes"]]
        self.assertEqual(sorted(similarities, reverse=True), similarities)
        self.assertEqual(11, len(similarities))
        width, height = png_size(sheet)
        self.assertTrue(width > 6 * 96 and height > 2 * 96, (width, height))
        # The letter itself, and the number.
        letter = chr(int(name[2:], 16))
        for text in (letter, "#" + found["identity"]["identity"]):
            again = run_json(DOPPEL, "lookalikes", text, "--count", "11", *at)
            self.assertEqual(found["lookalikes"], again["lookalikes"], text)
        # More than are stored: compared with all.
        more = run_json(DOPPEL, "lookalikes", name, "--count", "100", *at)
        self.assertFalse(more["stored"])
        self.assertEqual([o["identity"] for o in found["lookalikes"]][:5], [o["identity"] for o in more["lookalikes"]][:5])
        table = run(DOPPEL, "lookalikes", name, *at, cwd=self.folder)
        self.assertIn("pictures in lookalikes-", table.stdout)
        self.assertEqual(1, len(list(self.folder.glob("lookalikes-*.png"))))
        self.assertEqual(1, run(DOPPEL, "lookalikes", "nobody", *at, check=False).returncode)

    def test_a_job_waits_in_the_queue_over_a_restart(self):
        miner = self.start_miner("--embedders", "0")  # so that the first job waits
        at = ("--server", miner.address)
        first = miner.recluster(wait=False, subspaces=4, min_size=16)
        refused = run(DOPPEL, "recluster", *at, "--model", MODEL, *SMALL, check=False)
        self.assertEqual(3, refused.returncode)
        self.assertIn(first.id, refused.stderr)
        second = run_json(DOPPEL, "recluster", *at, "--model", MODEL, *SMALL, "--queue", "--no-wait")
        self.assertEqual("STATE_QUEUED", second["state"])
        miner.kill()
        miner.flags = ()
        miner.start()
        miner.wait(first.id)
        miner.wait(second["id"])
        self.assertEqual([1, 2], self.numbers(miner))

    def test_watch_streams_what_happens(self):
        miner = self.start_miner()
        call = miner.mining.Watch(mining.WatchRequest(), timeout=DEADLINE)
        call.initial_metadata()  # it listens now
        self.mine(miner)
        kinds, phases = [], set()
        for event in call:
            kinds.append(event.WhichOneof("event"))
            if kinds[-1] == "operation":
                phases.add(event.operation.phase)
                if event.operation.state == mining.Operation.STATE_SUCCEEDED:
                    break
        call.cancel()
        self.assertIn("embed", phases)
        self.assertLess(kinds.index("published"), kinds.index("activated"))
        known = miner.mining.Watch(mining.WatchRequest(after=1), timeout=DEADLINE)
        self.assertEqual(2, next(known).sequence)
        known.cancel()
        lines = run(DOPPEL, "status", "--watch", "--looks", "2", "--interval", "0.1", "--server", miner.address).stdout
        self.assertIn("generation 1", lines)
        self.assertNotIn("\x1b", lines)

    def test_recluster_watch_prints_phases(self):
        miner = self.start_miner()
        result = run(DOPPEL, "recluster", "--watch", "--server", miner.address, "--model", MODEL, *SMALL)
        self.assertIn("embed", result.stderr)
        self.assertEqual(["generation", "1"], result.stdout.split()[:2])

    def test_the_policy_mines_by_itself(self):
        miner = self.start_miner()
        at = ("--server", miner.address)
        model = self.folder / "model"
        subprocess.run(["cp", "-r", str(MODEL), str(model)], check=True)
        self.mine(miner, model_path=str(model))
        run(DOPPEL, "policy", "--every-batches", "5", "--min-interval", "0.01", *at)
        miner.stream(spec("subspace"), 12)  # those that a credit waited for are acknowledged for sure
        wait_for(lambda: "still that of" in run_json(DOPPEL, "policy", *at)["verdict"], "batches are counted")
        self.assertEqual([1], self.numbers(miner))
        # Other weights: a trained step of the same network.
        run(BIN / "doppel-trainer", "train", *at, "--output", self.folder / "run", "--model", MODEL, "--plan", "subspace", "-P",
            "8", "-K", "2", "--steps", "2", "--loss", "batch_hard")
        trained = sorted((self.folder / "run").glob("**/model.json"))[-1].parent
        subprocess.run(["cp", "-r", str(trained), str(self.folder / "next")], check=True)
        model.rename(self.folder / "before")
        (self.folder / "next").rename(model)
        wait_for(lambda: 2 in self.numbers(miner), "the policy mines")
        operations = run_json(DOPPEL, "operations", *at)["operations"]
        self.assertIn("batches", operations[1]["policy_reason"])
        miner.kill()
        miner.start()
        self.assertEqual("5", run_json(DOPPEL, "policy", *at)["policy"]["every_batches"])
        run(DOPPEL, "policy", "--off", *at)
        self.assertEqual("no condition is set", run_json(DOPPEL, "policy", *at)["verdict"])
        self.assertEqual(2, run(DOPPEL, "policy", "--min-active-share", "2", *at, check=False).returncode)
