"""The operator's commands against a real server."""
import json
import pathlib
import tarfile

from harness import BIN, CATALOG, DATA, MODEL, DoppelTest, run, run_json

DOPPEL, TRAINER = BIN / "doppel", BIN / "doppel-trainer"


class CommandLineTest(DoppelTest):
    def test_import_and_inspect_agree(self):
        summary = run_json(DOPPEL, "import", "webdataset", DATA / "glyphs", "--catalog", self.folder / "catalog")
        inspected = run_json(DOPPEL, "inspect", "--catalog", self.folder / "catalog", "--verify")
        self.assertEqual(600, summary["identities"])
        self.assertEqual(600, inspected["identities"])
        self.assertEqual(summary["fingerprint"], inspected["fingerprint"])
        self.assertEqual(run_json(DOPPEL, "inspect", "--catalog", CATALOG)["fingerprint"], summary["fingerprint"])

    def test_import_names_what_it_leaves_out(self):
        shard = sorted((DATA / "glyphs").glob("*.tar"))[0]
        cut = self.folder / "cut.tar"
        cut.write_bytes(shard.read_bytes()[:-20000])
        result = run(DOPPEL, "import", "webdataset", cut, "--catalog", self.folder / "catalog", "-o", "json")
        summary = json.loads(result.stdout)
        self.assertGreater(summary["identities"], 0)
        self.assertIn("cut.tar", json.dumps(summary["skipped"]))
        strict = run(DOPPEL, "import", "webdataset", cut, "--catalog", self.folder / "strict", "--strict", check=False)
        self.assertEqual(1, strict.returncode)
        self.assertIn("cut.tar", strict.stderr)
        self.assertFalse((self.folder / "strict").exists())

    def test_image_folder(self):
        root = self.folder / "images"
        with tarfile.open(sorted((DATA / "glyphs").glob("*.tar"))[0]) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".png"):
                    image = root / ("identity %d" % (hash(member.name.split("_")[0]) % 7)) / pathlib.Path(member.name).name
                    image.parent.mkdir(parents=True, exist_ok=True)
                    image.write_bytes(tar.extractfile(member).read())
        summary = run_json(DOPPEL, "import", "imagefolder", root, "--catalog", self.folder / "catalog")
        self.assertEqual(7, summary["identities"])

    def test_recluster_list_activate_status(self):
        miner = self.start_miner()
        at = ("--server", miner.address)
        run(DOPPEL, "recluster", *at, "--model", MODEL, "--subspaces", "4", "--min-size", "16")
        run(DOPPEL, "recluster", *at, "--model", MODEL, "--subspaces", "6", "--min-size", "16", "--keep-active")
        listed = run_json(DOPPEL, "generations", *at)["generations"]
        self.assertEqual([True, False], [g.get("active", False) for g in listed])
        run(DOPPEL, "activate", "2", *at)
        self.assertEqual(2, int(run_json(DOPPEL, "status", *at)["active_generation"]))
        self.assertIn("2", run(DOPPEL, "generations", *at).stdout)
        self.assertEqual(540, int(run_json(DOPPEL, "generation", "2", *at)["identities"]))

    def test_no_server_is_said_plainly(self):
        result = run(DOPPEL, "status", "--server", "127.0.0.1:1", check=False)
        self.assertEqual(1, result.returncode)
        self.assertIn("127.0.0.1:1", result.stderr)

    def test_usage_errors_exit_with_two(self):
        for arguments in (("import",), ("recluster", "--subspaces", "many"), ("nonsense",)):
            self.assertEqual(2, run(DOPPEL, *arguments, check=False).returncode, arguments)

    def test_help_has_examples(self):
        for binary, commands in ((DOPPEL, ("import", "inspect", "recluster", "generations", "activate", "status", "report")),
                                 (TRAINER, ("train", "eval")), (BIN / "doppel-miner", ("serve",))):
            for command in commands:
                text = run(binary, command, "--help").stdout
                self.assertIn("xample", text, f"{binary.name} {command}")

    def test_trainer_trains_and_evaluates(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        output = self.folder / "run"
        for plan, loss in (("random", "id_softmax"), ("subspace", "batch_hard")):
            out = output / plan
            run(TRAINER, "train", "--server", miner.address, "--output", out, "--model", MODEL, "--plan", plan, "-P", "16",
                "-K", "2", "--loss", loss, *(("--identity-limit", "200") if loss == "id_softmax" else ()), "--steps", "20", "--eval-every", "10", "--eval-catalog", CATALOG, "--augment", "mild")
            lines = [json.loads(line) for line in (out / "eval.jsonl").read_text().splitlines()]
            self.assertEqual([0, 10, 20], [line["step"] for line in lines])
        report = run_json(TRAINER, "eval", "--model", output / "subspace/model", "--catalog", CATALOG)
        self.assertEqual(120, report["queries"])
        self.assertEqual(600, report["gallery"])
        self.assertAlmostEqual(lines[-1]["rank1"], report["rank1"], places=6)
