"""fsck, backup and restore beside a running miner; kills, flipped bits and a full disk of the real one."""
import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import time
import unittest

from harness import BIN, CATALOG, MODEL, DoppelTest, Miner, grpc, mining, run, spec

KILLS = pathlib.Path(__file__).resolve().parents[1] / "bench/kills/kills.py"


def fsck(state, *flags):
    result = run(BIN / "doppel", "fsck", "--state", state, *flags, "-o", "json", check=False)
    return result.returncode, json.loads(result.stdout)


class DurabilityTest(DoppelTest):
    def mined(self):
        miner = self.start_miner()
        for subspaces in (4, 5):
            miner.recluster(subspaces=subspaces, min_size=16)
        run(BIN / "doppel", "publish-model", MODEL, "--server", miner.address)
        return miner

    def test_fsck_of_a_miner_that_serves_and_of_one_that_was_killed(self):
        miner = self.mined()
        code, report = fsck(miner.state, "--catalog", CATALOG)
        self.assertEqual((0, True, 2, 0), (code, report["state"]["in_use"], report["state"]["served"], report["catalog"]["damage"]))
        miner.kill()
        with open(miner.state / "journal.rec", "ab") as journal:
            journal.write(b"\x40\0\0\0half")
        code, report = fsck(miner.state)
        self.assertEqual((3, 1), (code, report["state"]["unfinished"]))
        self.assertEqual(0, fsck(miner.state, "--repair")[0])
        self.assertEqual(0, fsck(miner.state)[0])

    def test_backup_while_serving_comes_back_with_the_same_batches(self):
        miner = self.mined()
        wanted = [b.SerializeToString() for b in miner.stream(spec("subspace", p=8, k=2), 5)]
        operation = miner.recluster(wait=False, subspaces=6, min_size=16)
        copies = [self.folder / f"backup-{i}" for i in range(3)]
        for copy in copies:
            run(BIN / "doppel", "backup", "--state", miner.state, "--to", copy)
        miner.wait(operation.id)
        miner.kill()
        refused = run(BIN / "doppel", "restore", "--from", copies[0], "--state", miner.state, check=False)
        self.assertEqual(3, refused.returncode, refused.stderr)
        self.assertIn("not empty", refused.stderr)
        for i, copy in enumerate(copies):
            state = self.folder / f"restored-{i}"
            run(BIN / "doppel", "restore", "--from", copy, "--state", state)
            again = self.start_miner("--embedders", "0", name=state.name)
            self.assertEqual(wanted, [b.SerializeToString() for b in again.stream(spec("subspace", p=8, k=2, generation=2), 5)])
            again.close()

    def test_flipped_bit_in_every_file_is_named_and_a_good_generation_serves(self):
        miner = self.mined()
        miner.close()
        pristine = self.folder / "pristine"
        shutil.copytree(miner.state, pristine)
        files = sorted(p.relative_to(pristine) for p in pristine.rglob("*") if p.is_file() and p.name != "LOCK")
        self.assertGreater(len(files), 20)
        offsets = int(os.environ.get("DOPPEL_FLIPS", "1"))
        flags = ("--embedders", "0")
        for number, file in enumerate(files):
            for offset in range(offsets):
                with self.subTest(file=str(file), offset=offset):
                    shutil.rmtree(miner.state)
                    shutil.copytree(pristine, miner.state)
                    data = bytearray((pristine / file).read_bytes())
                    data[(number * 7919 + offset * 104729) % len(data)] ^= 1 << (number + offset) % 8
                    (miner.state / file).write_bytes(data)
                    # Without the catalog, one fingerprint is as good as another.
                    code, report = fsck(miner.state, "--catalog", CATALOG)
                    found = [f for f in report["state"]["findings"] if f["kind"] != "note"]
                    self.assertTrue(found, "fsck saw nothing")
                    self.assertIn(code, (1, 3))
                    pathlib.Path(miner.log.name).write_text("")
                    with contextlib.closing(Miner(miner.state, *flags)) as damaged:
                        batch = damaged.stream(spec("subspace", p=4, k=2), 1)[0]
                        self.assertIn(batch.generation, (1, 2))
                        if file.parts[0] != "representations":  # read by the next job only
                            if file.name != "weights.pt" and not (file.parts[0] == "generations" and batch.generation == 2):
                                self.assertIn(file.parts[0].split(".")[0], damaged.log_text())

    @unittest.skipUnless(os.geteuid() == 0, "mounts a small file system")
    def test_full_disk_fails_the_job_and_loses_nothing(self):
        small = self.folder / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no mount here: {mounted.stderr.decode().strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=False)
        miner = self.start_miner(name="small/state")
        miner.recluster(subspaces=4, min_size=16)
        wanted = [b.SerializeToString() for b in miner.stream(spec("subspace", p=4, k=2), 3)]
        filler = small / "filler"
        for left in (200_000, 40_000, 4_096, 0):
            free = shutil.disk_usage(small).free
            with contextlib.suppress(OSError), open(filler, "ab") as out:
                out.write(b"x" * max(free - left, 0))
            try:
                operation = miner.mining.Recluster(
                    mining.ReclusterRequest(model_path=str(MODEL), subspaces=5, min_size=16, samples_per_identity=2), timeout=30).operation
                ended = miner.mining.WaitOperation(
                    mining.WaitOperationRequest(id=operation.id, timeout_seconds=20), timeout=60).operation
                if ended.state == mining.Operation.STATE_FAILED:
                    self.assertIn("space", ended.error)
            except grpc.RpcError as error:  # the journal itself is full
                self.assertIn("space", error.details())
            self.assertEqual(wanted, [b.SerializeToString() for b in miner.stream(spec("subspace", p=4, k=2, generation=1), 3)])
        miner.kill()
        filler.unlink()
        miner.start()
        self.assertEqual(wanted, [b.SerializeToString() for b in miner.stream(spec("subspace", p=4, k=2, generation=1), 3)])
        self.assertEqual(0, fsck(miner.state)[1]["state"]["damage"])
        miner.recluster(subspaces=6, min_size=16, queue=True)

    def test_killed_at_random_moments_loses_nothing(self):
        module = importlib.util.spec_from_file_location("kills", KILLS)
        kills = importlib.util.module_from_spec(module)
        module.loader.exec_module(kills)
        runner = kills.Kills(self.folder, seed=int(time.time()))
        self.addCleanup(runner.miner.close)
        figures = runner.run(int(os.environ.get("DOPPEL_KILLS", "6")))
        self.assertEqual(0, figures["lost"])
