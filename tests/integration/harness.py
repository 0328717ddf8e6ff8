"""Starts the real binaries on free ports and waits on conditions, never on time."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(os.environ["DOPPEL_BIN"])
DATA = pathlib.Path(os.environ["DOPPEL_TEST_DATA"])
sys.path.insert(0, str(DATA / "stubs"))

import grpc  # noqa: E402
from doppel.v1 import batches_pb2 as batches  # noqa: E402
from doppel.v1 import batches_pb2_grpc  # noqa: E402
from doppel.v1 import mining_pb2 as mining  # noqa: E402
from doppel.v1 import mining_pb2_grpc  # noqa: E402
from doppel.v1 import types_pb2 as types  # noqa: E402

DEADLINE = 90
CATALOG = DATA / "catalog"
MODEL = DATA / "model"


def wait_for(condition, what, deadline=DEADLINE):
    """Polls `condition` until it gives something true, and returns that."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(0.01)


class Miner:
    """One doppel-miner process over a state directory; may be killed and started again on the same one."""

    def __init__(self, state, *flags, catalog=CATALOG, listen="127.0.0.1:0"):
        self.state, self.flags, self.catalog, self.listen = pathlib.Path(state), flags, catalog, listen
        self.process = self.address = None
        self.start()

    def start(self):
        address_file = self.state.parent / (self.state.name + ".address")
        address_file.unlink(missing_ok=True)
        self.log = open(self.state.parent / (self.state.name + ".log"), "ab")
        self.process = subprocess.Popen(
            [BIN / "doppel-miner", "serve", "--catalog", self.catalog, "--state", self.state, "--listen", self.listen,
             "--address-file", address_file, "--http-port", "-1", *self.flags], stdout=self.log, stderr=self.log)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"miner ended with {self.process.returncode}: {self.log_text()[-3000:]}")
            return address_file.exists() and address_file.read_text().strip()

        self.address = wait_for(ready, "miner writes its address")
        self.listen = self.address  # a restart comes back where its clients look for it
        self.channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.batches = batches_pb2_grpc.BatchServiceStub(self.channel)
        self.mining = mining_pb2_grpc.MiningServiceStub(self.channel)

    def log_text(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def terminate(self):
        self.process.terminate()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.channel.close()
        self.log.close()

    def recluster(self, wait=True, **fields):
        fields.setdefault("model_path", str(MODEL))
        operation = self.mining.Recluster(mining.ReclusterRequest(**fields), timeout=30).operation
        return self.wait(operation.id) if wait else operation

    def wait(self, operation_id):
        operation = self.mining.WaitOperation(
            mining.WaitOperationRequest(id=operation_id, timeout_seconds=DEADLINE), timeout=DEADLINE + 10).operation
        if operation.state != mining.Operation.STATE_SUCCEEDED:
            raise AssertionError(f"operation: {operation}\n{self.log_text()[-3000:]}")
        return operation

    def stream(self, spec, count, credits=None):
        """`count` whole batches, acknowledged one by one. Yields v1.Batch with the parts joined."""
        return Stream(self, spec, credits or 4).take(count)


class Stream:
    def __init__(self, miner, spec, credits):
        self.requests = []
        self.closed = False
        self.send(batches.StreamBatchesRequest(open=spec))
        self.send(batches.StreamBatchesRequest(credits=credits))
        self.call = miner.batches.StreamBatches(self._outgoing(), timeout=DEADLINE)
        self.opened = None

    def send(self, request):
        self.requests.append(request)

    def _outgoing(self):
        sent = 0
        while not self.closed:
            if sent < len(self.requests):
                yield self.requests[sent]
                sent += 1
            else:
                time.sleep(0.001)

    def next(self):
        batch = None
        for response in self.call:
            if response.HasField("opened"):
                self.opened = response.opened
                continue
            part = response.batch
            if batch is None:
                batch = part
            else:
                batch.samples.extend(part.samples)
                batch.pixels += part.pixels
            if part.part_index + 1 >= part.part_count:
                self.send(batches.StreamBatchesRequest(acknowledge_cursor=batch.cursor))
                self.send(batches.StreamBatchesRequest(credits=1))
                return batch
        return None

    def take(self, count):
        with contextlib.closing(self):
            out = [self.next() for _ in range(count)]
        return out

    def close(self):
        self.closed = True
        self.call.cancel()


def spec(plan="random", p=16, k=4, seed=7, cursor=0, payload=types.PAYLOAD_KIND_ENCODED, generation=0, **fields):
    return batches.StreamSpec(
        plan=types.PlanSpec(name=plan, identities_per_batch=p, samples_per_identity=k, **fields), seed=seed,
        cursor=cursor, payload=payload, generation=generation, client_name="test")


def run(*arguments, check=True, timeout=DEADLINE, **options):
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=timeout, **options)
    if check and result.returncode != 0:
        raise AssertionError(f"{arguments} ended with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def run_json(*arguments):
    return json.loads(run(*arguments, "-o", "json").stdout)


class DoppelTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="doppel-test-"))
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", str(self.folder)], check=False))

    def start_miner(self, *flags, name="state", **options):
        miner = Miner(self.folder / name, *flags, **options)
        self.addCleanup(miner.close)
        return miner

    def assert_rpc_fails(self, code, words, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual(code, caught.exception.code(), caught.exception.details())
        for word in words:
            self.assertIn(word, caught.exception.details())


SIGTERM, SIGKILL = signal.SIGTERM, signal.SIGKILL
