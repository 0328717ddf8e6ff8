"""Clients that lie: what they say is refused in so many words, costs nothing, and nobody else notices."""
import math
import pathlib

import grpc
from harness import DoppelTest, batches, mining, spec  # first: it finds the stubs
from test_network import resident_mib

from doppel.v1 import embedding_pb2 as embedding
from doppel.v1 import embedding_pb2_grpc
from doppel.v1 import models_pb2 as models
from doppel.v1 import models_pb2_grpc
from doppel.v1 import reports_pb2 as reports
from doppel.v1 import reports_pb2_grpc

Request = batches.StreamBatchesRequest
Code = grpc.StatusCode
LAST = 2**64 - 1  # -1, as a cursor
PLANS = ("random", "subspace", "subspace_overlap", "category", "nearest_identities", "doppelganger", "look_alikes", "mixture",
         "offline_triplets", "auto")


def dynamic(**fields):
    request = spec(p=4, k=2)
    request.sharing.CopyFrom(batches.WorkSharing(mode=batches.WorkSharing.MODE_DYNAMIC, **{"group": "g", **fields}))
    return request


def static(shard, shards):
    request = spec(p=4, k=2)
    request.sharing.CopyFrom(batches.WorkSharing(mode=batches.WorkSharing.MODE_STATIC, shard=shard, shards=shards))
    return request


class LiarsTest(DoppelTest):
    def outcome(self, miner, *requests, raw=False):
        """How a stream of these requests ends, and how many batches came."""
        if raw:
            call = miner.channel.stream_stream("/doppel.v1.BatchService/StreamBatches")(iter(requests), timeout=20)
            received = (batches.StreamBatchesResponse.FromString(response) for response in call)
        else:
            received = miner.batches.StreamBatches(iter(requests), timeout=20)
        came = 0
        try:
            for response in received:
                came += response.HasField("batch")
            return Code.OK, "", came
        except grpc.RpcError as error:
            return error.code(), error.details(), came

    def test_streams_of_lies(self):
        miner = self.start_miner("--embedders", "0", "--max-streams-per-connection", "50")
        before, honest = resident_mib(miner.process), spec(p=8, k=2)
        wanted = [batch.SerializeToString() for batch in miner.stream(honest, 10)]
        incarnation = miner.mining.Describe(mining.DescribeRequest(), timeout=10).incarnation
        many = 2**32 - 1
        table = {  # what is sent: the code, and a word of the message
            "acknowledges what was never sent": (Code.INVALID_ARGUMENT, "cursor", [
                Request(open=spec(p=4, k=2)), Request(acknowledge_cursor=5), Request(credits=1)]),
            "acknowledges -1": (Code.INVALID_ARGUMENT, "cursor", [
                Request(open=spec(p=4, k=2)), Request(credits=1), Request(acknowledge_cursor=LAST)]),
            "acknowledges for a group what nobody was given": (Code.INVALID_ARGUMENT, "cursor", [
                Request(open=dynamic()), Request(acknowledge_cursor=3)]),
            "speaks before it opens": (Code.INVALID_ARGUMENT, "open", [Request(credits=1)]),
            "opens twice": (Code.INVALID_ARGUMENT, "open", [Request(open=spec(p=4, k=2))] * 2),
            "says nothing": (Code.INVALID_ARGUMENT, "open", [Request()]),
            "wants four billion credits": (Code.RESOURCE_EXHAUSTED, "max_credits", [
                Request(open=spec(p=4, k=2)), Request(credits=many)]),
            "wants them in small change": (Code.RESOURCE_EXHAUSTED, "max_credits", [
                Request(open=spec(p=256, k=8)), *[Request(credits=33)] * 64]),
            "wants P of four billion": (Code.INVALID_ARGUMENT, "", [Request(open=spec(p=many, k=1)), Request(credits=1)]),
            "wants P and K whose product is 2^32": (Code.INVALID_ARGUMENT, "", [
                Request(open=spec(p=2**16, k=2**16)), Request(credits=1)]),
            "wants no identities": (Code.INVALID_ARGUMENT, "identities_per_batch", [Request(open=spec(p=0, k=2))]),
            "is no shard of its shards": (Code.INVALID_ARGUMENT, "shard", [Request(open=static(5, 2))]),
            "has no shards": (Code.INVALID_ARGUMENT, "shard", [Request(open=static(0, 0))]),
            "calls its group by a path": (Code.INVALID_ARGUMENT, "group", [Request(open=dynamic(group="../../etc/passwd"))]),
            "calls its group by a novel": (Code.INVALID_ARGUMENT, "group", [Request(open=dynamic(group="x" * 5000))]),
            "begins at -1": (Code.INVALID_ARGUMENT, "cursor", [Request(open=spec(cursor=LAST)), Request(credits=1)]),
            "holds what it gets for ever": (Code.INVALID_ARGUMENT, "lease_seconds", [
                Request(open=dynamic(lease_seconds=float("inf")))]),
            "holds it for a time that is none": (Code.INVALID_ARGUMENT, "lease_seconds", [
                Request(open=dynamic(lease_seconds=float("nan")))]),
            "gives it back before it gets it": (Code.INVALID_ARGUMENT, "lease_seconds", [
                Request(open=dynamic(lease_seconds=-1.0))]),
            "ends at -1": (Code.INVALID_ARGUMENT, "end_cursor", [Request(open=dynamic(end_cursor=LAST))]),
            "asks for a plan that is none": (Code.INVALID_ARGUMENT, "plan", [Request(open=spec("no such plan"))]),
            "asks for a generation that is none": (Code.NOT_FOUND, "generation", [
                Request(open=spec("subspace", generation=LAST))]),
        }
        for what, (code, word, requests) in table.items():
            got, message, _ = self.outcome(miner, *requests)
            self.assertEqual(code, got, f"{what}: {message}")
            self.assertIn(word, message, what)
        got, message, _ = self.outcome(miner, b"\xff\xff\xff\xff", raw=True)
        self.assertEqual(Code.INVALID_ARGUMENT, got, message)
        # A group may be hurt by nobody but its members: it is where it was.
        got, _, came = self.outcome(miner, Request(open=dynamic(end_cursor=2)), Request(credits=2))
        self.assertEqual((Code.OK, 2), (got, came))
        # A flood: no more than the connection may have at once get in, the others wait their turn.
        calls = [miner.batches.StreamBatches(iter([Request(open=spec(p=4, k=2)), Request(credits=1)]), timeout=60)
                 for _ in range(400)]
        self.assertEqual(400, sum(any(response.HasField("batch") for response in call) for call in calls))
        self.assertEqual(wanted, [batch.SerializeToString() for batch in miner.stream(honest, 10)])
        self.assertEqual(incarnation, miner.mining.Describe(mining.DescribeRequest(), timeout=10).incarnation)
        self.assertLess(resident_mib(miner.process) - before, 200)

    def test_the_last_cursors_of_every_plan(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        for plan in PLANS:
            for cursor in (LAST, 2**63, 2**62, 2**62 - 1, 2**32):
                request = batches.GetBatchRequest(spec=spec(plan, p=4, k=2, cursor=cursor))
                try:
                    batch = miner.batches.GetBatch(request, timeout=20).batch
                    self.assertEqual(cursor, batch.cursor)
                    self.assertLessEqual(cursor, 2**62)  # nobody can stream up to where cursors begin again at 0
                    identities = [sample.identity for sample in batch.samples]
                    self.assertEqual(4, len(set(identities)), f"{plan}: an identity twice")
                except grpc.RpcError as error:
                    self.assertIn(error.code(), (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.OUT_OF_RANGE),
                                  f"{plan} at {cursor}: {error.details()}")

    def test_lies_to_the_other_services(self):
        miner = self.start_miner("--embedders", "0")
        leases = embedding_pb2_grpc.EmbeddingServiceStub(miner.channel)
        store = models_pb2_grpc.ModelServiceStub(miner.channel)
        reported = reports_pb2_grpc.ReportServiceStub(miner.channel)
        before = resident_mib(miner.process)
        miner.recluster(wait=False, subspaces=4, min_size=16)
        lease = leases.LeaseRange(embedding.LeaseRangeRequest(worker="liar"), timeout=10).lease

        def commit(**lies):
            good = dict(lease=lease.lease, operation=lease.operation, model_fingerprint=lease.model_fingerprint,
                        first_identity=lease.first_identity, identity_count=1, dimension=128,
                        representations=b"\0" * 512, samples=[1])
            leases.CommitRange(embedding.CommitRangeRequest(**{**good, **lies}), timeout=10)

        nan = b"\0\0\xc0\x7f" * 128
        for lies in (dict(identity_count=LAST), dict(first_identity=LAST), dict(dimension=2**32 - 1), dict(dimension=0),
                     dict(representations=b""), dict(representations=nan), dict(samples=[]), dict(model_fingerprint="x"),
                     dict(operation="no such operation"), dict(identity_count=2**62 + 1, samples=[1] * 4)):
            with self.assertRaises(grpc.RpcError, msg=lies) as caught:
                commit(**lies)
            self.assertIn(caught.exception.code(), (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.NOT_FOUND,
                                                    Code.ABORTED), lies)

        def publish(size, chunk, hash_="0" * 32, offset=0):
            description = models.ModelDescription(
                hash=hash_, bytes=size, model_json='{"architecture": "glyph_cnn", "dimension": 4, "fingerprint": "%s"}' % hash_)
            begin = models.PublishModelBegin(model=description, offset=offset)
            store.PublishModel(iter([models.PublishModelRequest(begin=begin), models.PublishModelRequest(chunk=chunk)]),
                               timeout=10)

        for lies in (dict(size=4, chunk=b"abcd"), dict(size=LAST, chunk=b"abcd"), dict(size=4, chunk=b"too much"),
                     dict(size=4, chunk=b"d", offset=3), dict(size=4, chunk=b"abcd", hash_="../../../../etc/passwd"),
                     dict(size=4, chunk=b"", offset=LAST)):
            with self.assertRaises(grpc.RpcError, msg=lies):
                publish(**lies)
        self.assertFalse(list(pathlib.Path(miner.state).glob("models/[0-9a-f]*/weights.pt")))

        step = dict(model_step=1, generation=1, subspace=-1, dimension=4, identities=[1], samples=[1], embeddings=b"\0" * 16)
        for lies in (dict(dimension=2**31), dict(identities=[LAST]), dict(identities=[1] * 3), dict(embeddings=b"\0"),
                     dict(samples=[]), dict(embeddings=b"\0\0\xc0\x7f" * 4), dict(loss=math.nan), dict(subspace=-2**31)):
            request = reports.ReportStepsRequest(run="liar", steps=[reports.StepReport(**{**step, **lies})])
            try:
                reported.ReportSteps(request, timeout=10)
            except grpc.RpcError as error:
                self.assertIn(error.code(), (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION), lies)
        described = reported.DescribeRepresentations(reports.DescribeRepresentationsRequest(), timeout=10)
        self.assertLess(described.memory_bytes, 10 << 20)
        self.assertIsNone(miner.process.poll())
        self.assertLess(resident_mib(miner.process) - before, 200)
        self.assertEqual(5, len(miner.stream(spec(p=8, k=2), 5)))
