"""kill -9 at bad moments, for real."""
import json
import os
import subprocess

from harness import BIN, CATALOG, DATA, MODEL, SIGTERM, DoppelTest, Stream, grpc, mining, run, spec, wait_for


def steps(folder):
    path = folder / "steps.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]  # the last one may be half-written


class FaultTest(DoppelTest):
    def trainer(self, miner, output, *flags, steps_wanted=60):
        return [BIN / "doppel-trainer", "train", "--server", miner.address, "--output", output, "--model", MODEL,
                "--plan", "subspace", "-P", "8", "-K", "2", "--loss", "batch_ohnm", "--negatives", "3", "--margin", "soft",
                "--steps", str(steps_wanted), "--threads", "1", "--checkpoint-every", "10", "--seed", "3", *flags]

    def test_miner_killed_while_embedding_goes_on_where_it_was(self):
        miner = self.start_miner("--lease-identities", "16")
        operation = miner.recluster(wait=False, subspaces=4, min_size=16)

        def some_done():
            now = miner.mining.GetOperation(mining.GetOperationRequest(id=operation.id), timeout=10).operation
            return now if now.phase == "embed" and now.done >= 32 else None

        before = wait_for(some_done, "two ranges committed")
        miner.kill()
        miner.start()

        def counted():  # the pass is opened after the server
            now = miner.mining.GetOperation(mining.GetOperationRequest(id=operation.id), timeout=10).operation
            return now if now.done > 0 or now.state != mining.Operation.STATE_RUNNING else None

        after = wait_for(counted, "the pass goes on")
        self.assertGreaterEqual(after.done, before.done)
        done = miner.wait(operation.id)
        self.assertEqual(1, done.generation)

    def test_miner_killed_after_publishing_serves_the_same_generation(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        miner.recluster(subspaces=5, min_size=16)
        miner.mining.ActivateGeneration(mining.ActivateGenerationRequest(generation=1), timeout=10)
        wanted = [b.SerializeToString() for b in miner.stream(spec("subspace", p=8, k=2), 5)]
        miner.kill()
        miner.start()
        listed = miner.mining.ListGenerations(mining.ListGenerationsRequest(), timeout=10).generations
        self.assertEqual([(1, True), (2, False)], [(g.generation, g.active) for g in listed])
        self.assertEqual(wanted, [b.SerializeToString() for b in miner.stream(spec("subspace", p=8, k=2), 5)])

    @staticmethod
    def embedders(miner):
        return run("ps", "--ppid", miner.process.pid, "-o", "pid=", check=False).stdout.split()

    def test_no_embedder_outlives_its_miner(self):
        miner = self.start_miner()
        miner.recluster(wait=False, subspaces=4, min_size=16)
        started = wait_for(lambda: self.embedders(miner), "an embedder runs")
        miner.kill()  # while the embedder still loads its libraries
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started), "the embedder's end")

    def test_embedder_killed_is_started_again(self):
        miner = self.start_miner("--lease-identities", "16", "--lease-seconds", "2")
        operation = miner.recluster(wait=False, subspaces=4, min_size=16)
        first = wait_for(lambda: self.embedders(miner), "an embedder runs")
        wait_for(lambda: miner.mining.GetOperation(mining.GetOperationRequest(id=operation.id)).operation.done >= 16,
                 "a range is committed")
        for pid in first:
            os.kill(int(pid), 9)
        self.assertEqual(1, miner.wait(operation.id).generation)

    def test_trainer_killed_resumes_with_the_same_losses(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        calm, killed = self.folder / "calm", self.folder / "killed"
        run(*self.trainer(miner, calm))
        for at in (13, 27, 41):
            process = subprocess.Popen(self.trainer(miner, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: process.poll() is not None or len(steps(killed)) >= at, f"step {at}")
            process.kill()
            process.wait()
        run(*self.trainer(miner, killed))
        one, other = steps(calm), steps(killed)
        self.assertEqual(list(range(1, 61)), [s["step"] for s in one])
        for field in ("step", "loss", "active", "cursor", "generation", "subspace", "d_ap", "d_an", "lr"):
            self.assertEqual([s[field] for s in one], [s[field] for s in other], field)
        self.assertEqual((calm / "model/weights.pt").read_bytes(), (killed / "model/weights.pt").read_bytes())

    def test_trainer_outlives_a_killed_miner(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        calm, hit = self.folder / "calm", self.folder / "hit"
        run(*self.trainer(miner, calm))
        process = subprocess.Popen(self.trainer(miner, hit), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda: process.poll() is not None or len(steps(hit)) >= 15, "fifteen steps")
        miner.kill()
        miner.start()
        _, errors = process.communicate(timeout=90)
        self.assertEqual(0, process.returncode, errors.decode()[-2000:])
        self.assertEqual([s["loss"] for s in steps(calm)], [s["loss"] for s in steps(hit)])

    def test_trainer_told_to_stop_saves_and_resumes(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        calm, stopped = self.folder / "calm", self.folder / "stopped"
        run(*self.trainer(miner, calm))
        process = subprocess.Popen(self.trainer(miner, stopped), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: process.poll() is not None or len(steps(stopped)) >= 15, "fifteen steps")
        process.terminate()
        self.assertEqual(0, process.wait(60))
        run(*self.trainer(miner, stopped))
        self.assertEqual([s["loss"] for s in steps(calm)], [s["loss"] for s in steps(stopped)])

    def test_drain_ends_streams_at_a_batch_border(self):
        miner = self.start_miner("--embedders", "0")
        stream = Stream(miner, spec("random", p=8, k=2), 1)
        got = [stream.next().cursor]
        miner.terminate()
        with self.assertRaises(grpc.RpcError) as caught:
            while True:
                got.append(stream.next().cursor)
        self.assertEqual(grpc.StatusCode.UNAVAILABLE, caught.exception.code())
        self.assertIn("drain", caught.exception.details())
        self.assertEqual(list(range(len(got))), got)
        self.assertEqual(0, miner.process.wait(60))

    def test_second_server_on_the_port_fails_loudly(self):
        miner = self.start_miner("--embedders", "0")
        result = run(BIN / "doppel-miner", "serve", "--catalog", CATALOG, "--state", self.folder / "other", "--listen",
                     miner.address, "--embedders", "0", "--http-port", "-1", check=False)
        self.assertNotEqual(0, result.returncode)
        self.assertIn(miner.address.rsplit(":", 1)[1], result.stderr)

    def test_state_directory_has_one_master(self):
        miner = self.start_miner("--embedders", "0")
        result = run(BIN / "doppel-miner", "serve", "--catalog", CATALOG, "--state", miner.state, "--listen",
                     "127.0.0.1:0", "--embedders", "0", "--http-port", "-1", check=False)
        self.assertNotEqual(0, result.returncode)
        self.assertIn(str(miner.state), result.stderr)

    def test_flipped_bit_in_a_generation_is_named_and_the_last_good_one_serves(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        miner.recluster(subspaces=5, min_size=16)
        miner.close()
        victim = max((f for f in (miner.state / "generations").glob("*2/*")), key=lambda f: f.stat().st_size)
        damaged = bytearray(victim.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        victim.write_bytes(damaged)
        miner.start()
        self.assertIn(victim.name, miner.log_text())
        batch = miner.stream(spec("subspace", p=8, k=2), 1)[0]
        self.assertEqual(1, batch.generation)
