"""New data: appended beside a running miner, mined into the next generation, while old generations stay what they were."""
import json
import pathlib
import shutil
import tarfile

import numpy

from harness import BIN, CATALOG, DoppelTest, Stream, mining, run, run_json, spec, types

DOPPEL = BIN / "doppel"
MODEL_FIELDS = {"subspaces": 4, "min_size": 16}


class AppendTest(DoppelTest):
    def setUp(self):
        super().setUp()
        self.catalog = self.folder / "catalog"
        source = json.loads((CATALOG / "manifest.json").read_text())["sources"]
        shards = sorted(pathlib.Path(s["path"]) for s in source)
        run(DOPPEL, "import", "webdataset", self.divide(shards, "base", lambda i: i % 3 > 0), "--catalog", self.catalog)
        self.more = self.divide(shards, "more", lambda i: i % 3 == 0)

    def divide(self, shards, name, wanted):
        """A copy of the data with some of its identities, and of every fifth of the others the last half of the samples."""
        folder = self.folder / name
        folder.mkdir()
        with tarfile.open(folder / "0.tar", "w") as out:
            number = 0
            for shard in shards:
                with tarfile.open(shard) as tar:
                    members = {}
                    for member in tar:
                        members.setdefault(member.name.split(".")[0], []).append(member)
                    for parts in members.values():
                        label = next(m for m in parts if m.name.endswith(".json"))
                        identity = json.load(tar.extractfile(label))["identity"]
                        code = sum(map(ord, identity))
                        number += 1
                        late = code % 5 == 1 and number % 2 == 0
                        if wanted(0 if late else code):
                            for member in parts:
                                out.addfile(member, tar.extractfile(member))
        return folder

    def append(self):
        return run_json(DOPPEL, "import", "webdataset", self.more, "--catalog", self.catalog, "--append")["appended"]

    def batches(self, miner, generation, cursors=range(0, 40, 7), plan="subspace"):
        taken = []
        for cursor in cursors:
            stream = Stream(miner, spec(plan, generation=generation, cursor=cursor), 1)
            batch = stream.next()
            stream.close()
            taken.append([(s.identity, s.sample, s.encoded) for s in batch.samples] or batch.SerializeToString())
        return taken

    def test_new_identities_come_with_the_next_generation(self):
        miner = self.start_miner(catalog=self.catalog)
        first = miner.recluster(**MODEL_FIELDS).generation
        old = self.batches(miner, first)
        before = miner.mining.Describe(mining.DescribeRequest())
        running = Stream(miner, spec("subspace"), 4)
        self.assertEqual(first, running.next().generation)

        appended = self.append()
        self.assertGreater(appended["new_identities"], 100)
        self.assertGreater(appended["extended_identities"], 10)
        self.assertEqual(first, running.next().generation)
        self.assertEqual(old, self.batches(miner, first))

        second = miner.recluster(**MODEL_FIELDS).generation
        self.assertIn("as they were embedded before", miner.log_text())
        after = miner.mining.Describe(mining.DescribeRequest())
        self.assertNotEqual(before.catalog_fingerprint, after.catalog_fingerprint)
        self.assertEqual(before.identities + appended["new_identities"], after.identities)
        # The stream goes on and reaches the new generation.
        while running.next().generation != second:
            pass
        running.close()
        infos = {g.generation: g for g in miner.mining.ListGenerations(mining.ListGenerationsRequest()).generations}
        self.assertGreater(infos[second].identities, infos[first].identities)
        self.assertEqual(before.catalog_fingerprint, infos[first].catalog_fingerprint)
        drawn = {identity for batch in self.batches(miner, second, range(40)) for identity, _, _ in batch}
        self.assertTrue(any(identity >= before.identities for identity in drawn))
        # The old one, by number and activated again, also by a miner that starts with the new version.
        self.assertEqual(old, self.batches(miner, first))
        run(DOPPEL, "activate", str(first), "--server", miner.address)
        self.assertEqual(old, self.batches(miner, 0))
        miner.kill()
        miner.start()
        self.assertEqual(old, self.batches(miner, 0))
        self.assertEqual(old, self.batches(miner, first))

    def test_an_incremental_pass_is_a_full_one(self):
        miner = self.start_miner(catalog=self.catalog)
        miner.recluster(**MODEL_FIELDS)
        self.append()
        second = miner.recluster(**MODEL_FIELDS).generation
        fresh = self.start_miner(catalog=self.catalog, name="fresh")
        other = fresh.recluster(**MODEL_FIELDS).generation
        name = "generations/{:06d}/representations.npy"
        incremental, full = (numpy.load(m.state / name.format(g)) for m, g in ((miner, second), (fresh, other)))
        self.assertEqual(full.shape, incremental.shape)
        numpy.testing.assert_allclose(incremental, full, atol=1e-5)

    def test_the_same_data_again_is_nothing_new(self):
        self.append()
        manifest = (self.catalog / "manifest.json").read_bytes()
        again = self.append()
        self.assertEqual((0, 0), (again["new_samples"], again["new_identities"]))
        self.assertEqual(manifest, (self.catalog / "manifest.json").read_bytes())
        self.assertIn("known", json.dumps(again))
        run(DOPPEL, "inspect", "--catalog", self.catalog, "--verify")

    def test_raw_pixels_are_appended_to_as_pixels(self):
        raw = self.folder / "raw"
        before = run_json(DOPPEL, "pack", "--catalog", self.catalog, "--output", raw, "--raw", "24x20", "--channels", "1")
        added = run_json(DOPPEL, "import", "webdataset", self.more, "--catalog", raw, "--append")["appended"]
        appended = self.append()
        self.assertEqual(appended, added)
        run(DOPPEL, "inspect", "--catalog", raw, "--verify")
        request = spec("random", p=32, k=2, payload=types.PAYLOAD_KIND_DECODED)
        request.image.height, request.image.width, request.image.channels = 24, 20, 1
        wanted = self.start_miner("--embedders", "0", catalog=self.catalog).stream(request, 10)
        got = self.start_miner("--embedders", "0", catalog=raw, name="raw-miner").stream(request, 10)
        for one, other in zip(wanted, got, strict=True):
            self.assertEqual([(s.identity, s.sample) for s in one.samples], [(s.identity, s.sample) for s in other.samples])
            self.assertEqual(one.pixels, other.pixels)
        self.assertTrue(any(s.identity >= before["identities"] for batch in got for s in batch.samples))
        again = run_json(DOPPEL, "import", "webdataset", self.more, "--catalog", raw, "--append")
        self.assertTrue(again["unchanged"])
        self.assertEqual(0, again["skipped"]["count"])

    def test_what_cannot_be_appended_to(self):
        missing = run(DOPPEL, "import", "webdataset", self.more, "--catalog", self.folder / "none", "--append", check=False)
        self.assertNotEqual(0, missing.returncode)
        self.assertIn("manifest.json is missing", missing.stderr)
        both = run(DOPPEL, "import", "webdataset", self.more, "--catalog", self.catalog, "--append", "--force", check=False)
        self.assertNotEqual(0, both.returncode)
        damaged = self.folder / "damaged"
        shutil.copytree(self.catalog, damaged)
        names = bytearray((damaged / "names.tbl").read_bytes())
        names[-1] ^= 1
        (damaged / "names.tbl").write_bytes(names)
        refused = run(DOPPEL, "import", "webdataset", self.more, "--catalog", damaged, "--append", check=False)
        self.assertNotEqual(0, refused.returncode)
