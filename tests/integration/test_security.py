"""Who gets in and who does not: real handshakes, with what deploy/make-certs.sh makes."""
import contextlib
import json
import os
import pathlib
import ssl

import grpc
import harness
from doppel.v1 import cleaning_pb2 as cleaning
from doppel.v1 import cleaning_pb2_grpc
from doppel.v1 import embedding_pb2 as embedding
from doppel.v1 import models_pb2 as models
from doppel.v1 import reports_pb2 as reports
from harness import BIN, CATALOG, MODEL, DoppelTest, batches, mining, run, wait_for

SOURCE = pathlib.Path(os.environ["DOPPEL_SOURCE"])
ROLES = ("viewer", "trainer", "operator")
MESSAGES = {"doppel.v1.MiningService": mining, "doppel.v1.BatchService": batches, "doppel.v1.EmbeddingService": embedding,
            "doppel.v1.CleaningService": cleaning, "doppel.v1.ModelService": models, "doppel.v1.ReportService": reports}
# Which role may call what: written down once more, so that a slip in the server's table shows.
TRAINERS = {"StreamBatches", "GetBatch", "LeaseRange", "RenewLease", "CommitRange", "FetchRange", "PublishModel", "QueryModel",
            "FetchModel", "ReportSteps"}
OPERATORS = {"Recluster", "CancelOperation", "ActivateGeneration", "Rollback", "RetireGeneration", "PinGeneration", "SetPolicy",
             "Find", "Decide", "Undo", "Apply"}
STREAMING = {"StreamBatches": "stream_stream", "PublishModel": "stream_unary", "FetchModel": "unary_stream",
             "FetchRange": "unary_stream", "Watch": "unary_stream", "ServerReflectionInfo": "stream_stream"}
ENDLESS = {"Watch"}  # whoever is let in waits


def make_certs(folder, *names, **environment):
    run(SOURCE / "deploy/make-certs.sh", folder, *names, env={**os.environ, **environment})


class SecurityTest(DoppelTest):
    def setUp(self):
        super().setUp()
        self.pki = self.folder / "pki"
        make_certs(self.pki)
        self.audit = self.folder / "audit.jsonl"

    def start_secured(self, *flags, embedders=0):
        return self.start_miner(
            "--tls-cert", self.pki / "server.pem", "--tls-key", self.pki / "server.key", "--tls-client-ca",
            self.pki / "ca.pem", "--access-file", self.pki / "access", "--audit-log", self.audit,
            "--tls-reload-seconds", "1", "--embedders", str(embedders), *flags)

    def channel(self, miner, pki=None, certificate=None, token=None, ca=None):
        pki = pki or self.pki
        pair = [(pki / f"{certificate}.{kind}").read_bytes() for kind in ("key", "pem")] if certificate else [None, None]
        credentials = grpc.ssl_channel_credentials((ca or self.pki / "ca.pem").read_bytes(), *pair)
        if token is not None:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
        channel = grpc.secure_channel(miner.address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
        self.addCleanup(channel.close)
        return channel

    def token(self, role):
        return (self.pki / f"{role}.token").read_text().strip()

    def flags(self, role):
        return ("--tls-ca", self.pki / "ca.pem", "--tls-cert", self.pki / f"{role}.pem", "--tls-key",
                self.pki / f"{role}.key")

    def call(self, channel, path, request=b"", timeout=20):
        """The status code of a call by its bare path: the outsider has no more than the protos."""
        name = path.rpartition("/")[2]
        kind = STREAMING.get(name, "unary_unary")
        try:
            answer = getattr(channel, kind)(path)(iter([request]) if kind.startswith("stream") else request, timeout=timeout)
            if kind.endswith("stream"):
                list(answer)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    def methods(self):
        for service, module in MESSAGES.items():
            descriptor = module.DESCRIPTOR.services_by_name[service.split(".")[-1]]
            for method in descriptor.methods:
                yield service, method.name

    def test_every_rpc_by_role_and_credential(self):
        miner = self.start_secured()
        other = self.folder / "other"
        make_certs(other)
        old = run(SOURCE / "deploy/make-token.sh", self.pki / "access", "old", "operator",
                  "2020-01-31T00:00:00Z").stdout.strip()
        columns = {
            "no credential": (self.channel(miner), None),
            "wrong token": (self.channel(miner, token="wrong"), None),
            "expired token": (self.channel(miner, token=old), None),
            "wrong CA": (self.channel(miner, pki=other, certificate="operator"), None),
            **{f"{role} certificate": (self.channel(miner, certificate=role), role) for role in ROLES},
            **{f"{role} token": (self.channel(miner, token=self.token(role)), role) for role in ROLES},
        }
        lines = ["| RPC | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
        refused = {"no credential": "UNAUTHENTICATED", "wrong token": "UNAUTHENTICATED",
                   "expired token": "UNAUTHENTICATED", "wrong CA": "UNAVAILABLE"}
        for service, method in self.methods():
            needed = "operator" if method in OPERATORS else "trainer" if method in TRAINERS else "viewer"
            row = []
            for column, (channel, role) in columns.items():
                code = self.call(channel, f"/{service}/{method}", timeout=3 if method in ENDLESS else 20)
                row.append(code)
                where = f"{service}/{method}, {column}: {code}"
                if role is None:
                    self.assertEqual(refused[column], code, where)
                elif ROLES.index(role) < ROLES.index(needed):
                    self.assertEqual("PERMISSION_DENIED", code, where)
                else:  # let in; an empty request may be wrong
                    self.assertNotIn(code, ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE"), where)
            lines.append(f"| {method} | " + " | ".join(row) + " |")
        print("\n".join(lines))

    def test_an_outsider_gets_nothing_but_health(self):
        miner = self.start_secured()
        outsider = self.channel(miner)
        self.assertEqual("OK", self.call(outsider, "/grpc.health.v1.Health/Check"))
        for path in ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/doppel.v1.MiningService/Nothing",
                     "/", "/x/y"):
            self.assertEqual("UNAUTHENTICATED", self.call(outsider, path), path)
        with grpc.insecure_channel(miner.address) as plain:
            self.assertEqual("UNAVAILABLE", self.call(plain, "/grpc.health.v1.Health/Check"))

    def test_a_required_certificate_closes_even_health(self):
        miner = self.start_secured("--require-client-certificate")
        self.assertEqual("UNAVAILABLE", self.call(self.channel(miner), "/grpc.health.v1.Health/Check"))
        self.assertEqual("OK", self.call(self.channel(miner, certificate="viewer"), "/grpc.health.v1.Health/Check"))

    def test_an_expired_certificate_is_refused(self):
        make_certs(self.folder / "short", DAYS="1")
        short = self.folder / "short"
        # Signed by the same CA, and over before it began.
        for name in ("ca.pem", "ca.key"):
            (short / name).write_bytes((self.pki / name).read_bytes())
        run("sh", "-c", "openssl req -new -key operator.key -subj /CN=test-operator | openssl x509 -req -CA ca.pem -CAkey"
            " ca.key -set_serial 7 -days -1 -out operator.pem", cwd=short)
        miner = self.start_secured()
        self.assertEqual("UNAVAILABLE", self.call(self.channel(miner, pki=short, certificate="operator"),
                                                  "/doppel.v1.MiningService/Describe"))

    def test_a_token_that_is_removed_is_denied(self):
        miner = self.start_secured()
        channel = self.channel(miner, token=self.token("viewer"))
        self.assertEqual("OK", self.call(channel, "/doppel.v1.MiningService/Describe"))
        access = self.pki / "access"
        access.write_text("".join(line for line in access.read_text().splitlines(True) if "viewer-token" not in line))
        wait_for(lambda: self.call(channel, "/doppel.v1.MiningService/Describe") == "UNAUTHENTICATED", "the token is out")

    def test_certificates_are_reloaded_without_a_restart(self):
        miner = self.start_secured()
        host, port = miner.address.rsplit(":", 1)

        def served():
            return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))

        before = served()
        kept = self.channel(miner, certificate="viewer")
        self.assertEqual("OK", self.call(kept, "/doppel.v1.MiningService/Describe"))
        (self.pki / "server.pem").unlink()
        make_certs(self.pki)
        new = ssl.PEM_cert_to_DER_cert((self.pki / "server.pem").read_text())
        wait_for(lambda: served() == new, "the new certificate is served", 30)
        self.assertNotEqual(before, new)
        self.assertEqual("OK", self.call(kept, "/doppel.v1.MiningService/Describe"))
        self.assertEqual("OK", self.call(self.channel(miner, certificate="viewer"), "/doppel.v1.MiningService/Describe"))
        self.assertIsNone(miner.process.poll())

    def test_all_our_clients_come_in_and_each_only_as_far_as_it_may(self):
        miner = self.start_secured(embedders=1)
        at = ("--server", miner.address)
        recluster = (BIN / "doppel", "recluster", *at, "--model", MODEL, "--subspaces", "4", "--min-size", "16")
        denied = run(*recluster, *self.flags("viewer"), check=False)
        self.assertEqual(1, denied.returncode)
        self.assertIn("needs the role operator", denied.stderr)
        # The embedder that the miner starts has neither certificate nor token, and works.
        run(*recluster, *self.flags("operator"))
        status = run(BIN / "doppel", "status", *at, "-o", "json", env={
            **os.environ, "DOPPEL_TLS_CA": str(self.pki / "ca.pem"), "DOPPEL_TOKEN_FILE": str(self.pki / "viewer.token")})
        self.assertEqual(1, int(json.loads(status.stdout)["active_generation"]))
        train = (BIN / "doppel-trainer", "train", *at, "--output", self.folder / "run", "--steps", "3", "-P", "4", "-K",
                 "2", "--model", MODEL)
        run(*train, *self.flags("trainer"))
        plain = run(BIN / "doppel", "status", *at, check=False)
        self.assertEqual(1, plain.returncode)

    def test_the_audit_log_says_who_did_what(self):
        miner = self.start_secured()
        channel = self.channel(miner, certificate="operator")
        request = mining.ReclusterRequest(model_path="/no/such/model", subspaces=3).SerializeToString()
        self.call(channel, "/doppel.v1.MiningService/Recluster", request)
        self.call(self.channel(miner, token=self.token("viewer")), "/doppel.v1.MiningService/Recluster", request)
        self.call(self.channel(miner, token="guessed"), "/doppel.v1.MiningService/Describe")
        lines = wait_for(lambda: (found := self.audit.read_text().splitlines()) and len(found) >= 3 and found, "3 lines")
        done, denied, unknown = [json.loads(line) for line in lines]
        self.assertEqual(("CN=test-operator", "operator", "doppel.v1.MiningService/Recluster"),
                         (done["who"], done["role"], done["method"]))
        self.assertIn('model_path="/no/such/model" subspaces=3', done["request"])
        self.assertTrue(done["from"].startswith("ipv4:127.0.0.1:"), done)
        self.assertEqual(("viewer-token", "PERMISSION_DENIED"), (denied["who"], denied["code"]))
        self.assertEqual(("", "UNAUTHENTICATED"), (unknown["who"], unknown["code"]))
        everything = self.audit.read_text() + miner.log_text()
        for secret in [*map(self.token, ROLES), "guessed", "PRIVATE KEY"]:
            self.assertNotIn(secret, everything)

    def test_plain_text_stays_on_loopback_unless_told_in_so_many_words(self):
        command = (BIN / "doppel-miner", "serve", "--catalog", CATALOG, "--state", self.folder / "s", "--embedders", "0",
                   "--listen", "0.0.0.0:0")
        refused = run(*command, check=False)
        self.assertEqual(1, refused.returncode)
        self.assertIn("--insecure-listen-anywhere", refused.stderr)
        miner = self.start_miner("--insecure-listen-anywhere", "--embedders", "0", listen="0.0.0.0:0")
        self.assertIn("insecure_listen_anywhere", miner.log_text())

    def test_a_second_server_on_the_port_fails_loudly(self):
        miner = self.start_miner("--embedders", "0")
        second = run(BIN / "doppel-miner", "serve", "--catalog", CATALOG, "--state", self.folder / "other", "--embedders",
                     "0", "--listen", miner.address, check=False)
        self.assertEqual(1, second.returncode)
        self.assertIn("cannot listen on", second.stderr)

    def test_models_outside_of_the_roots_are_refused(self):
        miner = self.start_miner("--embedders", "0", "--model-roots", MODEL.parent)
        for path in ("/etc", f"{MODEL}/../../..", "relative"):
            with self.assertRaises(grpc.RpcError) as caught:
                miner.mining.Recluster(mining.ReclusterRequest(model_path=path), timeout=20)
            self.assertEqual(grpc.StatusCode.PERMISSION_DENIED, caught.exception.code())
            self.assertIn("model_roots", caught.exception.details())

    def test_embeddings_outside_of_the_roots_are_refused(self):
        inside = self.folder / "embeddings"
        inside.mkdir()
        (inside / "out.npy").symlink_to("/etc/passwd")
        os.mkfifo(inside / "endless.npy")
        (inside / "none.npy").write_bytes(b"no array")
        for flag in ("--embedding-roots", "--model-roots"):  # where nothing is said of embeddings, models' roots hold
            miner = self.start_miner("--embedders", "0", flag, inside, name=f"state{flag}")
            stub = cleaning_pb2_grpc.CleaningServiceStub(miner.channel)

            def find(embeddings, labels=inside / "none.npy"):
                stub.Find(cleaning.FindRequest(embeddings_path=str(embeddings), labels_path=str(labels)), timeout=20)

            for path in ("/etc/passwd", f"{inside}/../state/x.npy", "relative.npy", inside / "out.npy", "/dev/zero"):
                for names in ((path,), (inside / "none.npy", path)):
                    self.assert_rpc_fails(grpc.StatusCode.PERMISSION_DENIED, ["embedding_roots"], lambda: find(*names))
            self.assert_rpc_fails(grpc.StatusCode.INVALID_ARGUMENT, ["is not a file"], lambda: find(inside / "endless.npy"))
            # What lies there is read: this one is no array.
            with self.assertRaises(grpc.RpcError) as caught:
                find(inside / "none.npy")
            self.assertNotEqual(grpc.StatusCode.PERMISSION_DENIED, caught.exception.code())
            self.assertIn("none.npy", caught.exception.details())

    def test_limits_are_named_when_they_are_exceeded(self):
        miner = self.start_miner("--embedders", "0", "--max-streams-per-client", "2", "--max-wait-seconds", "5",
                                 "--control-rpcs-per-second", "1", "--control-rpc-burst", "3", "--max-batch-bytes", "1000",
                                 "--max-request-bytes", "2000")
        self.assert_rpc_fails(grpc.StatusCode.INVALID_ARGUMENT, ["max_wait_seconds"], lambda: miner.mining.WaitOperation(
            mining.WaitOperationRequest(id="x", timeout_seconds=6), timeout=20))
        self.assert_rpc_fails(grpc.StatusCode.RESOURCE_EXHAUSTED, ["control_rpcs_per_second"], lambda: [
            miner.mining.Describe(mining.DescribeRequest(), timeout=20) for _ in range(5)])
        decoded = harness.spec(payload=harness.types.PAYLOAD_KIND_DECODED)
        self.assert_rpc_fails(grpc.StatusCode.INVALID_ARGUMENT, ["max_batch_bytes"], lambda: miner.batches.GetBatch(
            batches.GetBatchRequest(spec=decoded), timeout=20))
        large = harness.spec()
        large.client_name = "x" * 3000
        self.assert_rpc_fails(grpc.StatusCode.RESOURCE_EXHAUSTED, ["2000"], lambda: miner.batches.GetBatch(
            batches.GetBatchRequest(spec=large), timeout=20))
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stream = stack.enter_context(contextlib.closing(harness.Stream(miner, harness.spec(), 1)))
                self.assertIsNotNone(stream.next())
            third = stack.enter_context(contextlib.closing(harness.Stream(miner, harness.spec(), 1)))
            self.assert_rpc_fails(grpc.StatusCode.RESOURCE_EXHAUSTED, ["max_streams_per_client"], third.next)
        def comes_in():  # as soon as the server has heard that the others are gone
            with contextlib.suppress(grpc.RpcError), contextlib.closing(harness.Stream(miner, harness.spec(), 1)) as stream:
                return stream.next() is not None
            return False

        wait_for(comes_in, "a stream takes the place of one that has gone")
