"""A client generated from the protos alone: Python's gRPC package, no code of ours."""
import collections
import pathlib

import grpc

from harness import MODEL, DoppelTest, Stream, batches, mining, run_json, spec, types, BIN, CATALOG

import health_pb2
import health_pb2_grpc
import reflection_pb2
import reflection_pb2_grpc


class ForeignClientTest(DoppelTest):
    def test_health_is_serving(self):
        miner = self.start_miner("--embedders", "0")
        stub = health_pb2_grpc.HealthStub(miner.channel)
        for service in ("", "doppel.v1.BatchService", "doppel.v1.MiningService"):
            status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status
            self.assertEqual(health_pb2.HealthCheckResponse.SERVING, status, service)

    def test_reflection_lists_services_and_files(self):
        miner = self.start_miner("--embedders", "0")
        stub = reflection_pb2_grpc.ServerReflectionStub(miner.channel)
        request = reflection_pb2.ServerReflectionRequest
        answers = list(stub.ServerReflectionInfo(
            iter([request(list_services="*"), request(file_containing_symbol="doppel.v1.BatchService")]), timeout=10))
        names = {s.name for s in answers[0].list_services_response.service}
        self.assertLessEqual({"doppel.v1.BatchService", "doppel.v1.MiningService", "doppel.v1.EmbeddingService"}, names)
        self.assertTrue(answers[1].file_descriptor_response.file_descriptor_proto)

    def test_random_plan_needs_no_generation(self):
        miner = self.start_miner("--embedders", "0")
        for batch in miner.stream(spec("random", p=8, k=2), 3):
            self.assertEqual(0, batch.generation)
            self.assertEqual(16, len(batch.samples))
            self.assertEqual(8, len({s.identity for s in batch.samples}))

    def test_subspace_plan_before_a_generation_says_what_to_do(self):
        miner = self.start_miner("--embedders", "0")
        self.assert_rpc_fails(grpc.StatusCode.FAILED_PRECONDITION, ["recluster"],
                              lambda: miner.stream(spec("subspace"), 1))

    def test_reclusters_and_pulls_pure_batches(self):
        miner = self.start_miner()
        operation = miner.recluster(subspaces=6, min_size=16)
        info = miner.mining.GetGeneration(mining.GetGenerationRequest(generation=operation.generation)).generation
        self.assertTrue(info.active)
        self.assertEqual(540, info.identities)
        self.assertEqual(540, sum(s.identities for s in info.subspace))
        subspace_of = {}
        for batch in miner.stream(spec("subspace", p=16, k=4), 40):
            self.assertEqual(info.generation, batch.generation)
            counts = collections.Counter(s.identity for s in batch.samples)
            self.assertEqual(16, len(counts))
            self.assertEqual({4}, set(counts.values()))
            for identity in counts:
                self.assertEqual(batch.subspace, subspace_of.setdefault(identity, batch.subspace))
            self.assertGreaterEqual(batch.max_similarity, batch.mean_similarity)
            for sample in batch.samples:
                self.assertEqual(b"\x89PNG", sample.encoded[:4])

    def test_epoch_shows_every_identity_once(self):
        miner = self.start_miner()
        miner.recluster(subspaces=5, min_size=32)
        p = 8
        for plan in ("random", "subspace"):
            stream = Stream(miner, spec(plan, p=p, k=1), 4)
            first = stream.next()
            per_epoch = stream.opened.batches_per_epoch
            epoch = [first] + [stream.next() for _ in range(per_epoch - 1)]
            following = stream.next()
            stream.close()
            self.assertEqual({0}, {b.epoch for b in epoch})
            self.assertEqual(1, following.epoch)
            counts = collections.Counter(s.identity for b in epoch for s in b.samples)
            self.assertEqual({1}, set(counts.values()))
            remainder = 540 - len(counts)
            self.assertLess(remainder, p * (5 if plan == "subspace" else 1))

    def test_same_bytes_on_another_server_and_after_a_restart(self):
        first = self.start_miner("--batch-threads", "1")
        first.recluster(subspaces=5, min_size=16)
        wanted = [b.SerializeToString(deterministic=True) for b in first.stream(spec("subspace", p=16, k=4), 12)]
        first.close()
        # Another process over a copy of the state, with other thread counts, and from the middle.
        import shutil
        shutil.copytree(self.folder / "state", self.folder / "copy")
        second = self.start_miner("--batch-threads", "4", "--embedders", "0", name="copy")
        again = [b.SerializeToString(deterministic=True) for b in second.stream(spec("subspace", p=16, k=4), 12, credits=12)]
        self.assertEqual(wanted, again)
        middle = second.stream(spec("subspace", p=16, k=4, cursor=7), 1)[0]
        self.assertEqual(wanted[7], middle.SerializeToString(deterministic=True))
        unary = second.batches.GetBatch(batches.GetBatchRequest(spec=spec("subspace", p=16, k=4, cursor=9)), timeout=20)
        self.assertEqual(wanted[9], unary.batch.SerializeToString(deterministic=True))

    def test_payload_kinds_agree(self):
        miner = self.start_miner("--embedders", "0")
        encoded = miner.stream(spec("random", p=8, k=2), 1)[0]
        reference = miner.stream(spec("random", p=8, k=2, payload=types.PAYLOAD_KIND_REFERENCE), 1)[0]
        decoded = miner.stream(spec("random", p=8, k=2, payload=types.PAYLOAD_KIND_DECODED), 1)[0]
        for one, other in zip(encoded.samples, reference.samples):
            self.assertEqual(one.sample, other.sample)
            place = other.reference
            with pathlib.Path(place.path).open("rb") as file:
                file.seek(place.offset)
                self.assertEqual(one.encoded, file.read(place.size))
        self.assertEqual(16 * 48 * 48, len(decoded.pixels))
        self.assertGreater(max(decoded.pixels), 200)

    def test_server_never_runs_ahead_of_credits(self):
        miner = self.start_miner("--embedders", "0")
        stream = Stream(miner, spec("random", p=8, k=2), 2)
        stream.send = lambda request: None  # no further credit, no acknowledgement
        self.assertEqual(0, stream.next().cursor)
        self.assertEqual(1, stream.next().cursor)
        # A second stream is served on while the first one waits: the server is alive, it just owes nothing.
        for batch in miner.stream(spec("random", p=8, k=2), 5):
            self.assertTrue(batch.samples)
        streams = miner.mining.Describe(mining.DescribeRequest(), timeout=10).streams
        self.assertIn((2, 0), {(s.next_cursor, s.credits) for s in streams})
        stream.close()

    def test_stream_moves_to_a_new_generation_between_batches(self):
        miner = self.start_miner()
        miner.recluster(subspaces=4, min_size=16)
        stream = Stream(miner, spec("subspace", p=16, k=2), 1)
        seen = [stream.next().generation]
        operation = miner.recluster(wait=False, subspaces=6, min_size=16)
        pulled_while_mining = 0
        while miner.mining.GetOperation(mining.GetOperationRequest(id=operation.id)).operation.state == \
                mining.Operation.STATE_RUNNING:
            seen.append(stream.next().generation)
            pulled_while_mining += 1
        for _ in range(5):
            seen.append(stream.next().generation)
        stream.close()
        self.assertGreater(pulled_while_mining, 0)
        self.assertEqual(sorted(seen), seen)
        self.assertEqual([1, 2], sorted(set(seen)))
        pinned = miner.stream(spec("subspace", p=16, k=2, generation=1), 3)
        self.assertEqual({1}, {b.generation for b in pinned})

    def test_bad_requests_name_the_field(self):
        miner = self.start_miner("--embedders", "0")
        code = grpc.StatusCode.INVALID_ARGUMENT
        for bad, words in ((spec("nonsense"), ["nonsense", "random"]), (spec(p=0), ["identities_per_batch"]),
                           (spec(k=0), ["samples_per_identity"]), (spec(p=5000, k=1), ["identities_per_batch"]),
                           (spec(payload=0), ["payload"]), (spec(split="nowhere"), ["nowhere", "train"])):
            with self.subTest(str(words)):
                with self.assertRaises(grpc.RpcError) as caught:
                    miner.stream(bad, 1)
                self.assertIn(caught.exception.code(), (code, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED))
                for word in words:
                    self.assertIn(word, caught.exception.details())
        self.assert_rpc_fails(code, ["no-such-model"], lambda: miner.recluster(model_path="/no-such-model"))
        self.assert_rpc_fails(grpc.StatusCode.NOT_FOUND, ["77"], lambda: miner.mining.ActivateGeneration(
            mining.ActivateGenerationRequest(generation=77), timeout=10))
