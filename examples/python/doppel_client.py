"""P×K batches from a doppel miner, for PyTorch: no code of doppel's, only its protos and the standard gRPC package.

    batches = Batches("127.0.0.1:50051", plan="subspace", p=32, k=4, image=(112, 112, 3))
    for images, labels, info in batches:        # uint8 [128, 3, 112, 112], int64 [128], dict
        ...
        checkpoint["cursor"] = info["cursor"] + 1   # the batch that comes next; Batches(..., cursor=that) goes on there

One process: a thread of its own fetches and decodes ahead, so use it as it is, or in a DataLoader with
`batch_size=None, num_workers=0`. gRPC does not survive a fork: see docs/python.md.
"""
import atexit
import concurrent.futures
import io
import os
import pathlib
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import numpy
import torch

try:
    from google_crc32c import value as _fast_crc32c
except ImportError:
    try:
        from crc32c import crc32c as _fast_crc32c
    except ImportError:
        _fast_crc32c = None

_process = None  # the process that has used gRPC; a forked child finds its parent's number here
_CRC_TABLE = []
_RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class DataError(RuntimeError):
    """The server sends bytes that are not those of the import, again and again."""


def make_stubs(proto, output):
    """Python modules doppel.v1.*_pb2 of the protos below `proto`, with the system's protoc and gRPC plugin."""
    plugin = shutil.which("grpc_python_plugin")
    protoc = "/usr/bin/protoc" if os.path.exists("/usr/bin/protoc") else shutil.which("protoc")
    if not plugin or not protoc:
        raise RuntimeError("protoc and grpc_python_plugin are needed: apt-get install protobuf-compiler-grpc")
    protos = sorted(str(p) for p in pathlib.Path(proto).glob("doppel/v1/*.proto"))
    if not protos:
        raise RuntimeError(f"no protos below {proto}: set DOPPEL_PROTO to doppel's folder proto/")
    subprocess.run([protoc, "-I", str(proto), f"--python_out={output}", f"--grpc_python_out={output}",
                    f"--plugin=protoc-gen-grpc_python={plugin}", *protos], check=True)


def _load_stubs():
    try:
        import doppel.v1.batches_pb2_grpc  # noqa: F401
    except ImportError:
        here = pathlib.Path(__file__).resolve().parents[2] / "proto"
        folder = tempfile.mkdtemp(prefix="doppel-stubs-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        make_stubs(os.environ.get("DOPPEL_PROTO", here), folder)
        sys.path.insert(0, folder)
    from doppel.v1 import batches_pb2, batches_pb2_grpc, types_pb2
    return batches_pb2, batches_pb2_grpc, types_pb2


def crc32c(data):
    """CRC-32C (Castagnoli): that of a module in C if there is one, else slow."""
    if _fast_crc32c is not None:
        return _fast_crc32c(bytes(data))
    if not _CRC_TABLE:
        for byte in range(256):
            for _ in range(8):
                byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
            _CRC_TABLE.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def decode_image(data, image):
    """The file's bytes → uint8 [height, width, channels]; image: (height, width, channels) or None."""
    import PIL.Image  # only who asks for ENCODED needs it
    with PIL.Image.open(io.BytesIO(data)) as picture:
        channels = image[2] if image else (1 if picture.mode in ("L", "1") else 3)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if image and picture.size != (image[1], image[0]):
            picture = picture.resize((image[1], image[0]), PIL.Image.BILINEAR)
        pixels = numpy.asarray(picture)
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)


class Batches(torch.utils.data.IterableDataset):
    """Iterates over (images uint8 [n, channels, height, width], labels int64 [n], info).

    Labels are the catalog's numbers of the identities; sample j of identity i of the batch is at i * K + j. `info`
    says where the batch is from: generation, seed, cursor, epoch, subspace, mean_similarity, max_similarity, samples.

    payload: "decoded" (pixels from the server, resized to `image`) or "encoded" (the files; `decode` turns one into
      pixels, by default with PIL; smaller ones on the wire, and this process does the work).
    image: (height, width, channels); None is the size of the catalog's first image.
    cursor: the first batch; a checkpoint's info["cursor"] + 1 goes on behind it, whatever was sent since.
    shard: (i, n) takes every n-th cursor only, for n trainers that share one plan.
    prefetch: batches that are fetched and decoded ahead.
    check_crc: compare every sample's CRC32C with the import's and fetch a batch that differs again. None: if a
      module in C is there (google_crc32c, crc32c).
    patience: seconds to go on trying when the server is away.
    tls_ca, tls_cert, tls_key, tls_server_name, token_file: as the flags of doppel-trainer; read for each connection.
    """

    def __init__(self, address, plan="random", p=32, k=4, seed=0, cursor=0, payload="decoded", image=None,
                 generation=0, split="", max_batches=0, shard=None, prefetch=4, decode=decode_image, check_crc=None,
                 patience=300.0, client_name="python", tls_ca=None, tls_cert=None, tls_key=None, tls_server_name=None,
                 token_file=None):
        super().__init__()
        if tls_ca is None and (tls_cert or tls_key or tls_server_name or token_file):
            raise ValueError("tls_ca is not set: certificates and tokens travel over TLS only")
        if bool(tls_cert) != bool(tls_key):
            raise ValueError("tls_cert and tls_key: one goes with the other")
        self.tls = dict(ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name, token_file=token_file)
        if payload not in ("decoded", "encoded"):
            raise ValueError(f"payload {payload!r}: decoded or encoded")
        self.address, self.cursor, self.image, self.decode = address, cursor, image, decode
        self.prefetch, self.patience, self.max_batches = max(prefetch, 1), patience, max_batches
        self.check_crc = _fast_crc32c is not None if check_crc is None else check_crc
        self.fields = dict(seed=seed, generation=generation, client_name=client_name)
        self.plan = dict(name=plan, identities_per_batch=p, samples_per_identity=k, split=split)
        self.payload, self.shard = payload, shard
        self.refetched = 0  # batches that were fetched again for a wrong CRC
        self.reconnects = 0
        self.fingerprint = None  # of the catalog, once connected
        self._acknowledged = queue.SimpleQueue()

    def state_dict(self):
        """Where the batch behind the last one that was handed out is."""
        return {"cursor": self.cursor, "fingerprint": self.fingerprint}

    def load_state_dict(self, state):
        self.cursor, self.fingerprint = state["cursor"], state.get("fingerprint")

    def acknowledge(self, cursor):
        """Tells the server that everything up to `cursor` is in a checkpoint. For its figures; it keeps nothing."""
        self._acknowledged.put(cursor)

    def __iter__(self):
        global _process
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise RuntimeError("every DataLoader worker would get the same batches: use num_workers=0, this class "
                               "fetches ahead by itself")
        if _process not in (None, os.getpid()):
            raise RuntimeError("this process was forked from one that had used gRPC, which does not work: use "
                               "num_workers=0, or multiprocessing_context='spawn'")
        _process = os.getpid()
        return _Fetching(self).batches()


def _connect(address, ca, cert, key, server_name, token_file):
    def read(path):
        return pathlib.Path(path).read_bytes() if path else None

    options = [("grpc.max_receive_message_length", -1), ("grpc.keepalive_time_ms", 30000)]
    if ca is None:
        return grpc.insecure_channel(address, options=options)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    credentials = grpc.ssl_channel_credentials(read(ca), read(key), read(cert))
    if token_file:
        token = grpc.access_token_call_credentials(read(token_file).decode().strip())
        credentials = grpc.composite_channel_credentials(credentials, token)
    return grpc.secure_channel(address, credentials, options=options)


class _Fetching:
    """One iteration: a thread that talks to the server, and the queue between it and the consumer."""

    def __init__(self, source):
        self.source = source
        self.messages, self.services, self.types = _load_stubs()
        self.ready = queue.Queue()  # bounded by the credits
        self.call = None
        self.lock = threading.Lock()
        self.requests = None  # guarded by the lock: to the stream there is, if any
        self.held = 0  # guarded by the lock: batches received and not taken yet
        self.stopped = threading.Event()
        self.pool = None

    def batches(self):
        thread = threading.Thread(target=self._run, name="doppel-batches", daemon=True)
        thread.start()
        try:
            while True:
                item = self.ready.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    return
                with self.lock:
                    self.held -= 1
                    self._send(credits=1)
                self.source.cursor = item[2]["cursor"] + 1
                yield item
        finally:
            self.stopped.set()
            if self.call is not None:
                self.call.cancel()
            thread.join()

    def _spec(self, cursor, max_batches):
        source = self.source
        spec = self.messages.StreamSpec(plan=self.types.PlanSpec(**source.plan), cursor=cursor,
                                        max_batches=max_batches, **source.fields)
        spec.payload = self.types.PayloadKind.Value("PAYLOAD_KIND_" + source.payload.upper())
        if source.image and source.payload == "decoded":
            spec.image.height, spec.image.width, spec.image.channels = source.image
        if source.shard:
            spec.sharing.mode = self.messages.WorkSharing.MODE_STATIC
            spec.sharing.shard, spec.sharing.shards = source.shard
        return spec

    def _send(self, **request):
        """To the stream, if there is one. The lock is held."""
        if self.requests is not None:
            self.requests.put(self.messages.StreamBatchesRequest(**request))

    def _run(self):
        try:
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as self.pool:
                self._stream_until_done()
            self.ready.put(None)
        except BaseException as error:  # for the consumer
            if not self.stopped.is_set():
                self.ready.put(error)

    def _stream_until_done(self):
        """Streams from the next cursor on; comes back with it when the connection breaks."""
        source = self.source
        self.next_cursor, self.received = source.cursor, 0
        last_good, wait = time.monotonic(), 0.1
        while not self.stopped.is_set():
            before = self.received
            try:
                return self._stream_once()
            except grpc.RpcError as error:
                if self.stopped.is_set():
                    return None
                if self.received > before:
                    last_good, wait = time.monotonic(), 0.1
                if error.code() not in _RETRY or time.monotonic() - last_good > source.patience:
                    raise
            source.reconnects += 1
            self.stopped.wait(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, 5.0)
        return None

    def _stream_once(self):
        source, left = self.source, 0
        if source.max_batches:
            left = source.max_batches - self.received
            if left == 0:
                return
        with _connect(source.address, **source.tls) as channel:
            stub = self.services.BatchServiceStub(channel)
            requests = queue.SimpleQueue()
            requests.put(self.messages.StreamBatchesRequest(open=self._spec(self.next_cursor, left)))
            with self.lock:
                self.requests = requests
                if source.prefetch > self.held:
                    self._send(credits=source.prefetch - self.held)
            self.call = stub.StreamBatches(iter(requests.get, None))
            try:
                self._receive(stub)
            finally:
                with self.lock:
                    self.requests = None
                self.call.cancel()
                requests.put(None)  # ends the thread that sends

    def _receive(self, stub):
        source, batch = self.source, None
        for response in self.call:
            if self.stopped.is_set():
                return
            if response.HasField("opened"):
                versions = [response.opened.catalog_fingerprint, *response.opened.earlier_catalog_fingerprints]
                if source.fingerprint is not None and source.fingerprint not in versions:
                    raise RuntimeError(f"{source.address} serves catalog {response.opened.catalog_fingerprint}, this "
                                       f"run is of {source.fingerprint}")
                source.fingerprint = response.opened.catalog_fingerprint
            if not response.HasField("batch"):
                continue
            part = response.batch
            if batch is None:
                batch = part
            else:
                batch.samples.extend(part.samples)
                batch.pixels += part.pixels
            if part.part_index + 1 < part.part_count:
                continue
            item = self._tensors(self._checked(stub, batch))
            with self.lock:
                self.held += 1
            self.ready.put(item)
            self.next_cursor, self.received = batch.cursor + 1, self.received + 1
            batch = None
            with self.lock:
                while not source._acknowledged.empty():
                    self._send(acknowledge_cursor=source._acknowledged.get())

    def _wrong_sample(self, batch):
        if batch.pixels:
            size = batch.image.height * batch.image.width * batch.image.channels
            for i, sample in enumerate(batch.samples):
                if sample.HasField("pixels_crc32c") and \
                        crc32c(memoryview(batch.pixels)[i * size:(i + 1) * size]) != sample.pixels_crc32c:
                    return sample
        for sample in batch.samples:
            if sample.encoded and crc32c(sample.encoded) != sample.crc32c:
                return sample
        return None

    def _checked(self, stub, batch):
        if not self.source.check_crc or self._wrong_sample(batch) is None:
            return batch
        self.source.refetched += 1
        spec = self._spec(batch.cursor, 0)
        spec.generation = batch.generation  # the very same batch, even if the server has moved on
        spec.ClearField("sharing")
        again = stub.GetBatch(self.messages.GetBatchRequest(spec=spec), timeout=60).batch
        wrong = self._wrong_sample(again)
        if wrong is not None:
            raise DataError(f"batch {batch.cursor}: sample {wrong.sample} of identity {wrong.identity} is not what was "
                            f"imported, in two tries: run `doppel inspect --verify`")
        return again

    def _tensors(self, batch):
        count = len(batch.samples)
        if self.source.payload == "decoded":
            shape = (count, batch.image.height, batch.image.width, batch.image.channels)
            pixels = numpy.frombuffer(bytearray(batch.pixels), dtype=numpy.uint8).reshape(shape)
        else:
            pixels = numpy.stack(list(self.pool.map(
                lambda sample: self.source.decode(sample.encoded, self.source.image), batch.samples)))
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        labels = torch.tensor([sample.identity for sample in batch.samples], dtype=torch.int64)
        info = {name: getattr(batch, name) for name in ("generation", "seed", "cursor", "epoch", "subspace", "plan",
                                                        "mean_similarity", "max_similarity")}
        info["samples"] = [sample.sample for sample in batch.samples]
        return images, labels, info
