"""Embedders without a shared file system: images and models come from the miner; some die, some stall, none counts twice."""
import json
import os
import pathlib
import signal
import struct
import subprocess

import numpy

from harness import BIN, MODEL, SIGKILL, DoppelTest, wait_for
from doppel.v1 import mining_pb2 as mining
from doppel.v1 import models_pb2 as models
from doppel.v1 import models_pb2_grpc
from doppel.v1 import storage_pb2 as storage

LEASES = ("--lease-identities", "8", "--lease-seconds", "2")


def records(path):
    """The payloads of a record file."""
    data = path.read_bytes()
    assert data[:8] == b"DPLREC01", path
    at = 8
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        yield data[at + 8:at + 8 + size]
        at += 8 + size


def committed_ranges(state):
    """Ranges of the newest pass, as they were committed."""
    folder = sorted(p for p in (state / "representations").iterdir())[-1]
    for path in sorted(folder.glob("ranges-*.rec")):
        for record in list(records(path))[1:]:
            message = storage.RepresentationRange.FromString(record)
            yield message.first_identity, message.identity_count


def representations(state, generation):
    return numpy.load(next((state / "generations").glob(f"*{generation}/representations.npy")))


def publish(miner):
    """The model, in chunks, as any client could."""
    weights = (pathlib.Path(MODEL) / "weights.pt").read_bytes()
    text = (pathlib.Path(MODEL) / "model.json").read_text()
    description = models.ModelDescription(hash=json.loads(text)["fingerprint"], model_json=text, bytes=len(weights))

    def requests():
        yield models.PublishModelRequest(begin=models.PublishModelBegin(model=description))
        for at in range(0, len(weights), 100000):
            yield models.PublishModelRequest(chunk=weights[at:at + 100000])

    stub = models_pb2_grpc.ModelServiceStub(miner.channel)
    return stub.PublishModel(requests(), timeout=30).model


class EmbeddersTest(DoppelTest):
    def start_embedder(self, miner, name, *flags):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(
            [BIN / "doppel-embedder", "--miner", miner.address, "--threads", "1", "--name", name, "--remote", "--cache",
             self.folder / f"cache-{name}", *flags], stdout=log, stderr=log, cwd=self.folder)

        def end():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
                process.wait()
            log.close()

        self.addCleanup(end)
        return process

    def done(self, miner, operation):
        current = miner.mining.GetOperation(mining.GetOperationRequest(id=operation.id), timeout=10).operation
        return current.done if current.state == mining.Operation.STATE_RUNNING else current.total or 1 << 60

    def test_a_killed_and_a_stalled_worker(self):
        alone = self.start_miner(*LEASES, "--embedders", "1", "--embedder-threads", "1", name="alone")
        expected = representations(alone.state, alone.recluster(subspaces=4).generation)
        alone.close()

        miner = self.start_miner(*LEASES, "--embedders", "0")
        publish(miner)
        operation = miner.recluster(wait=False, model_path="latest", subspaces=4)
        killed = self.start_embedder(miner, "killed")
        wait_for(lambda: self.done(miner, operation) > 0, "the first worker commits")
        killed.send_signal(SIGKILL)
        killed.wait()
        before = self.done(miner, operation)
        stalled = self.start_embedder(miner, "stalled")
        wait_for(lambda: self.done(miner, operation) > before, "the second worker commits")
        os.kill(stalled.pid, signal.SIGSTOP)
        self.assertLess(self.done(miner, operation), 540, "all was embedded before the workers could fail")
        self.start_embedder(miner, "steady")
        wait_for(lambda: " of stalled on identities" in miner.log_text(), "the stalled worker's lease expires")
        os.kill(stalled.pid, signal.SIGCONT)
        done = miner.wait(operation.id)

        self.assertIn(" of killed on identities", miner.log_text())
        ranges = sorted(committed_ranges(miner.state))
        covered = [i for first, count in ranges for i in range(first, first + count)]
        self.assertEqual(list(range(len(expected))), covered, "each identity is committed once")
        numpy.testing.assert_allclose(representations(miner.state, done.generation), expected, atol=2e-6)
        cached = [p for p in (self.folder / "cache-steady").iterdir() if (p / "weights.pt").exists()]
        self.assertEqual(1, len(cached))
        self.assertEqual((pathlib.Path(MODEL) / "weights.pt").read_bytes(), (cached[0] / "weights.pt").read_bytes())

    def test_a_model_that_was_not_published_is_fetched_too(self):
        miner = self.start_miner(*LEASES, "--embedders", "0")
        operation = miner.recluster(wait=False, subspaces=4, samples_per_identity=2, seed=5)
        self.start_embedder(miner, "first")
        self.start_embedder(miner, "second")
        sampled = representations(miner.state, miner.wait(operation.id).generation)
        miner.close()
        alone = self.start_miner(*LEASES, "--embedders", "1", name="alone")
        expected = representations(
            alone.state, alone.recluster(subspaces=4, samples_per_identity=2, seed=5).generation)
        numpy.testing.assert_allclose(sampled, expected, atol=2e-6)

    def test_the_miner_restarts_under_remote_workers(self):
        miner = self.start_miner(*LEASES, "--embedders", "0")
        operation = miner.recluster(wait=False, subspaces=4)
        self.start_embedder(miner, "first")
        wait_for(lambda: self.done(miner, operation) > 0, "the worker commits")
        miner.kill()
        miner.start()
        miner.wait(operation.id)
        covered = [i for first, count in sorted(committed_ranges(miner.state)) for i in range(first, first + count)]
        self.assertEqual(sorted(set(covered)), covered)
