"""examples/python against the real server: the iterable, resume, reconnect, checksums, and the training loop."""
import fcntl
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import unittest.mock

from harness import DATA, DoppelTest, spec, types

EXAMPLES = pathlib.Path(os.environ["DOPPEL_SOURCE"]) / "examples/python"
sys.path.insert(0, str(EXAMPLES))

import torch  # noqa: E402
import doppel_client  # noqa: E402
from doppel_client import Batches, DataError  # noqa: E402


def _iterate_in_child(address, said):
    try:
        next(iter(Batches(address)))
    except RuntimeError as error:
        said.put(str(error))


class PythonClientTest(DoppelTest):
    def client(self, miner, **options):
        options = {"p": 8, "k": 2, "image": (48, 48, 1), "max_batches": 12, **options}
        return Batches(miner.address, **options)

    def test_batches_are_those_of_the_plan(self):
        miner = self.start_miner("--embedders", "0")
        wanted = miner.stream(spec("random", p=8, k=2, seed=3, payload=types.PAYLOAD_KIND_DECODED), 12)
        for (images, labels, info), batch in zip(self.client(miner, seed=3), wanted, strict=True):
            self.assertEqual((16, 1, 48, 48), tuple(images.shape))
            self.assertEqual(torch.uint8, images.dtype)
            self.assertEqual(batch.pixels, images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
            self.assertEqual([s.identity for s in batch.samples], labels.tolist())
            self.assertEqual((batch.cursor, batch.epoch, batch.generation),
                             (info["cursor"], info["epoch"], info["generation"]))

    def test_encoded_decodes_to_the_same_pixels(self):
        miner = self.start_miner("--embedders", "0")
        for one, other in zip(self.client(miner), self.client(miner, payload="encoded"), strict=True):
            self.assertTrue(torch.equal(one[0], other[0]))
            self.assertTrue(torch.equal(one[1], other[1]))

    def test_resumes_behind_the_last_batch_taken_whatever_was_prefetched(self):
        miner = self.start_miner("--embedders", "0")
        whole = [labels.tolist() for _, labels, _ in self.client(miner)]
        first = self.client(miner, prefetch=8)
        iterator = iter(first)
        taken = [next(iterator)[1].tolist() for _ in range(5)]
        state = json.loads(json.dumps(first.state_dict()))
        iterator.close()
        self.assertEqual(5, state["cursor"])
        second = self.client(miner, max_batches=7)
        second.load_state_dict(state)
        self.assertEqual(whole, taken + [labels.tolist() for _, labels, _ in second])

    def test_reconnects_to_a_server_that_was_killed(self):
        miner = self.start_miner("--embedders", "0")
        client = self.client(miner, max_batches=40, prefetch=2)
        cursors = []
        for _, _, info in client:
            cursors.append(info["cursor"])
            if info["cursor"] in (5, 20):
                miner.kill()
                miner.start()
        self.assertEqual(list(range(40)), cursors)
        self.assertGreaterEqual(client.reconnects, 2)

    def test_gives_up_when_the_server_stays_away(self):
        import grpc
        with self.assertRaises(grpc.RpcError) as caught:
            next(iter(Batches("127.0.0.1:1", patience=0.3)))
        self.assertEqual(grpc.StatusCode.UNAVAILABLE, caught.exception.code())

    def test_errors_of_the_request_are_not_retried(self):
        import grpc
        miner = self.start_miner("--embedders", "0")
        client = self.client(miner, plan="nonsense")
        with self.assertRaises(grpc.RpcError) as caught:
            next(iter(client))
        self.assertIn("nonsense", caught.exception.details())
        self.assertEqual(0, client.reconnects)

    def test_another_catalog_is_refused(self):
        miner = self.start_miner("--embedders", "0")
        client = self.client(miner)
        client.load_state_dict({"cursor": 3, "fingerprint": "0" * 32})
        with self.assertRaisesRegex(RuntimeError, "catalog"):
            next(iter(client))

    def test_crc32c_is_castagnolis(self):
        for data, crc in ((b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)):
            self.assertEqual(crc, doppel_client.crc32c(data))
            with unittest.mock.patch.object(doppel_client, "_fast_crc32c", None):
                self.assertEqual(crc, doppel_client.crc32c(data))

    def test_a_wrong_checksum_is_fetched_again_and_then_named(self):
        miner = self.start_miner("--embedders", "0")
        real, wrong = doppel_client.crc32c, []

        def flaky(data):
            wrong.append(len(wrong))
            return real(data) ^ (len(wrong) == 3)

        with unittest.mock.patch.object(doppel_client, "crc32c", flaky):
            client = self.client(miner, payload="encoded", check_crc=True, max_batches=3)
            self.assertEqual([0, 1, 2], [info["cursor"] for _, _, info in client])
            self.assertEqual(1, client.refetched)
        with unittest.mock.patch.object(doppel_client, "crc32c", lambda data: real(data) ^ 1):
            with self.assertRaisesRegex(DataError, "sample"):
                next(iter(self.client(miner, payload="encoded", check_crc=True)))

    def test_shards_make_one_plan(self):
        miner = self.start_miner("--embedders", "0")
        whole = {info["cursor"]: labels.tolist() for _, labels, info in self.client(miner)}
        parts = {}
        for shard in range(3):
            for _, labels, info in self.client(miner, shard=(shard, 3), max_batches=4):
                self.assertEqual(shard, info["cursor"] % 3)
                parts[info["cursor"]] = labels.tolist()
        self.assertEqual(whole, parts)

    def test_in_a_data_loader(self):
        miner = self.start_miner("--embedders", "0")
        loader = torch.utils.data.DataLoader(self.client(miner), batch_size=None, num_workers=0)
        self.assertEqual(list(range(12)), [info["cursor"] for _, _, info in loader])
        with self.assertRaisesRegex(RuntimeError, "num_workers=0"):
            list(torch.utils.data.DataLoader(self.client(miner), batch_size=None, num_workers=2))

    def test_a_forked_child_says_what_to_do(self):
        miner = self.start_miner("--embedders", "0")
        list(self.client(miner, max_batches=1))
        context = multiprocessing.get_context("fork")
        said = context.Queue()
        child = context.Process(target=_iterate_in_child, args=(miner.address, said), daemon=True)
        child.start()
        self.assertIn("spawn", said.get(timeout=60))
        child.join(60)

    def test_stubs_are_made_from_the_protos(self):
        script = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import doppel_client; doppel_client._load_stubs()"
        subprocess.run([sys.executable, "-c", script], check=True, cwd=self.folder, timeout=120)

    def test_training_goes_on_after_a_kill_with_the_same_losses(self):
        miner = self.start_miner("--embedders", "0")
        command = [sys.executable, EXAMPLES / "train.py", "--server", miner.address, "-P", "8", "-K", "2",
                   "--save-every", "5"]
        environment = {**os.environ, "PYTHONPATH": str(DATA / "stubs"), "OMP_NUM_THREADS": "1"}

        def train(output, steps):
            result = subprocess.run([*command, "--output", self.folder / output, "--steps", str(steps)], check=True,
                                    env=environment, capture_output=True, text=True, timeout=200)
            return [json.loads(line) for line in result.stdout.splitlines()]

        whole = train("whole", 100)
        self.assertEqual(list(range(100)), [line["cursor"] for line in whole])
        self.assertLess(sum(line["loss"] for line in whole[-20:]), sum(line["loss"] for line in whole[:20]))
        process = subprocess.Popen([*command, "--output", self.folder / "killed", "--steps", "100000"], env=environment,
                                   stdout=subprocess.PIPE, text=True)
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # so that it cannot run far ahead of what is read
        lines = [json.loads(process.stdout.readline()) for _ in range(12)]
        process.kill()
        process.communicate()
        self.assertEqual(whole[:12], lines)
        resumed = train("killed", 100)
        self.assertLess(len(resumed), 91)  # from a checkpoint of step 10 or later
        self.assertEqual(whole[-len(resumed):], resumed)
