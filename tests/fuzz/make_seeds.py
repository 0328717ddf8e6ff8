"""Writes the seeds of the fuzz targets: small good inputs, made by other programs than ours where there are such.

usage: make_seeds.py CORPUS      (adds seed-* to CORPUS/<target>/; what libFuzzer found lies beside them by its hash)
"""
import io
import json
import pathlib
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = pathlib.Path(sys.argv[1])
STUBS = tempfile.TemporaryDirectory()
subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={STUBS.name}",
                *map(str, sorted((ROOT / "proto/doppel/v1").glob("*.proto")))], check=True)
sys.path.insert(0, STUBS.name)
from doppel.v1 import batches_pb2 as batches  # noqa: E402
from doppel.v1 import cleaning_pb2 as cleaning  # noqa: E402
from doppel.v1 import embedding_pb2 as embedding  # noqa: E402
from doppel.v1 import mining_pb2 as mining  # noqa: E402
from doppel.v1 import models_pb2 as models  # noqa: E402
from doppel.v1 import reports_pb2 as reports  # noqa: E402
from doppel.v1 import storage_pb2 as storage  # noqa: E402
from doppel.v1 import types_pb2 as types  # noqa: E402


def seed(target, name, content):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(content if isinstance(content, bytes) else content.encode())


def pieces(*parts):
    parts = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return b"".join(struct.pack("<H", len(part)) + part for part in parts)


def framed(*messages):
    return b"\1" + pieces(*(message.SerializeToString() for message in messages))


def png(width=2, height=2):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(range(width)) for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


PGM = b"P5 2 2 255\nabcd"


def tar(members, form=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()[:-8192]  # tarfile pads to 10 KiB


def npy(array):
    out = io.BytesIO()
    numpy.save(out, array)
    return out.getvalue()


def data_seeds():
    members = [("a.pgm", PGM), ("a.cls", b"7"), ("b.png", png()), ("b.json", b'{"label": "x", "split": "test"}')]
    seed("tar", "ustar", tar(members[:2]))
    seed("tar", "pax", tar([("é" * 60 + ".pgm", PGM)], tarfile.PAX_FORMAT))
    seed("tar", "gnu", tar([("n" * 120 + ".pgm", PGM)], tarfile.GNU_FORMAT))
    seed("webdataset", "two", tar(members))

    def record(labels, image, number=0):
        head = struct.pack("<IfQQ", 0, labels[0], number, 0) if len(labels) == 1 else struct.pack(
            "<IfQQ", len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels)
        payload = head + image
        return struct.pack("<II", 0xced7230a, len(payload)) + payload + b"\0" * (-len(payload) % 4)

    records = [record([3.0, 4.0], b""), record([0.0], PGM, 1), record([1.0], PGM, 2), record([1.0, 2.0], b"")]
    index, at = "", 0
    for key, one in enumerate(records):
        index += f"{key}\t{at}\n"
        at += len(one)
    seed("recordio", "insightface", pieces(index, b"".join(records)))
    seed("recordio", "no-index", pieces("", b"".join(records)))
    cut = struct.pack("<IfQQ", 0, 1.0, 1, 0)
    seed("recordio", "parts", pieces("", struct.pack("<II", 0xced7230a, 1 << 29 | len(cut)) + cut + struct.pack(
        "<II", 0xced7230a, 3 << 29 | len(PGM)) + PGM + b"\0"))
    seed("csv", "triplet-reid", "1,image.pgm\n2,image.pgm\n")
    seed("csv", "oml", 'label,path,split,is_query,is_gallery,x_1\r\n1,image.pgm,train,,,\r\n"a ""b""",image.pgm,validation,True,False,3\r\n')
    seed("names", "market", "0002_c1s1_000451_03.jpg")
    seed("names", "msmt", "0000_000_01_0303morning_0008_0.jpg")
    seed("names", "braces", "{a,b}-{x,y}.tar")
    seed("names", "pairs", "2\t1\nAda\t1\t2\nAda\t1\tBob\t3\nBob\t1\t2\nBob\t1\tAda\t3\n")
    seed("image", "png", png())
    seed("image", "pgm", PGM)
    seed("image", "ppm", b"P6\n# c\n1 1\n255\nabc")
    seed("image", "bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + b"abc\0")
    seed("image", "jpeg", bytes.fromhex("ffd8ffc0000b080002000201011100ffda0008010100003f00") + b"\x12\xff\x00\x34\xff\xd9")
    seed("image", "webp", b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8L" + struct.pack("<I", 9) + b"\x2f\x01\x40\x00\x00abcd\0")
    for protocol in (1, 2, 4, 5):
        seed("insightface_bin", f"protocol{protocol}", pickle.dumps(([PGM, b"x\xff", PGM, b""], [True, False]), protocol))
    seed("npy", "f4", npy(numpy.ones((2, 3), "<f4")))
    seed("npy", "i8", npy(numpy.arange(3)))


def state_seeds():
    rec = b"DPLREC01"
    seed("records", "raw", b"\0" + rec)
    seed("records", "framed", b"\1" + pieces("one", "", "three"))
    update = storage.MinerUpdate
    started = storage.OperationStarted(id="op-1", request=mining.ReclusterRequest(model_path="/m", subspaces=2), generation=1)
    seed("journal", "whole", framed(
        update(operation_started=started),
        update(operation_queued=storage.OperationQueued(operation=storage.OperationStarted(id="op-2", generation=2))),
        update(generation_published=storage.GenerationPublished(generation=1)),
        update(generation_activated=storage.GenerationActivated(generation=1)),
        update(operation_ended=storage.OperationEnded(id="op-1", state=mining.Operation.STATE_SUCCEEDED, generation=1)),
        update(generation_pinned=storage.GenerationPinned(generation=1, pinned=True)),
        update(policy_changed=storage.PolicyChanged(policy=mining.ReclusterPolicySpec()))))
    seed("journal", "derived", framed(
        update(operation_started=started), update(generation_published=storage.GenerationPublished(generation=1)),
        update(generation_published=storage.GenerationPublished(generation=2, base=1)),
        update(generation_activated=storage.GenerationActivated(generation=2)),
        update(generation_retired=storage.GenerationRetired(generation=1))))
    pair = cleaning.CleaningSubject(kind=1, first_identity=0, second_identity=2)
    sample = cleaning.CleaningSubject(kind=2, sample=5)
    found = cleaning.FindingsReplaced(
        findings=[cleaning.Finding(subject=pair, score=2, probability=.9),
                  cleaning.Finding(subject=sample, score=1, probability=.4, identity=1, nearest_identity=3)],
        summaries=[cleaning.FindSummary(kind=1, candidates=3, findings=1, threshold=.5),
                   cleaning.FindSummary(kind=2, threshold=.3)], found_at="2027-01-01T00:00:00Z")
    decided = cleaning.DecisionsMade(decisions=[
        cleaning.Decision(number=1, subject=pair, verdict=1, note='a "note", with\nlines'),
        cleaning.Decision(number=2, subject=sample, verdict=4)])
    fact = cleaning.CleaningUpdate
    seed("cleaning", "whole", framed(fact(findings_replaced=found), fact(decisions_made=decided),
                                     fact(decision_undone=cleaning.DecisionUndone(number=2))))
    seed("guard_list", "both", "pair-0-3\npair-2-1\nsample-7\n")
    group = storage.WorkGroupUpdate
    opened = storage.WorkGroupOpened(group="g", plan=types.PlanSpec(name="random"), seed=3, first_cursor=2, end_cursor=9)
    seed("work_group", "whole", framed(group(opened=opened), group(handed_out_below=6), group(
        acknowledged=storage.WorkGroupAcknowledged(below=3, cursors=[5]))))
    ranges = [storage.RepresentationRange(first_identity=first, identity_count=2, dimension=2, samples=[1, 2],
                                          representations=numpy.ones(4, "<f4").tobytes()) for first in (0, 2)]
    seed("representations", "whole", pieces(*(r.SerializeToString() for r in ranges)))
    header = storage.RunningMeanHeader(catalog_fingerprint="c", run="r", dimension=2, identities=4, parts=1, rows=2)
    rows = storage.RunningMeanRows(identities=[0, 3], means=numpy.ones(4, "<f4").tobytes(), weights=[1, 2],
                                   model_steps=[1, 1], samples=[1, 2])
    seed("running_means", "whole", pieces(header.SerializeToString(), rows.SerializeToString()))

    info = dict(generation=1, identities=4, subspaces=2, dimension=2, neighbours=2, guarded_pairs=1, dropped_samples=1)
    manifest = json.dumps({"format_version": 1, "info": info})
    seed("generation", "whole", pieces(
        manifest, numpy.array([0, 1, 0, 1], "<u4").tobytes(), numpy.array([0, 2, 1, 3], "<u4").tobytes(),
        numpy.array([0, 2, 4], "<u8").tobytes(), npy(numpy.eye(2, dtype="<f4")), npy(numpy.ones((4, 2), "<f4")),
        numpy.array([[1, 2], [2, 3], [3, 0], [0, 1]], "<u4").tobytes(), numpy.tile(numpy.array([.9, .5], "<f4"), 4).tobytes(),
        numpy.array([0, 2], "<u4").tobytes(), numpy.array([7], "<u8").tobytes()))

    def table(magic, size, *rows):
        data = b"".join(rows)
        return magic + struct.pack("<IIQQ", 1, size, len(data) // size, 0) + data

    source = PGM * 3
    crc = 0x11223344
    manifest = json.dumps({
        "format_version": 2, "fingerprint": "0" * 32, "identities": "2", "samples": "3", "format": "webdataset",
        "splits": [{"name": "train", "identities": "2", "samples": "3"}],
        "sources": [{"kind": "KIND_FILE", "path": "samples.bin", "size": str(len(source))},
                    {"kind": "KIND_FILE", "path": "samples.bin", "size": str(len(source)),
                     "raw_pixels": {"height": 2, "width": 2, "channels": 1}},
                    {"kind": "KIND_DIRECTORY", "path": "."}]})
    sample_rows = [struct.pack("<QIIIIQ", i * len(PGM), len(PGM), crc, min(i, 1), min(i, 1), 2 * i) for i in range(3)]
    seed("catalog", "whole", pieces(
        manifest, table(b"DPLIDENT", 16, struct.pack("<QQ", 0, 0), struct.pack("<QQ", 1, 1), struct.pack("<QQ", 3, 2)),
        table(b"DPLSAMPL", 32, *sample_rows, struct.pack("<QIIIIQ", 0, 0, 0, 0, 0, 6)), table(b"DPLNAMES", 1, b"ab"),
        table(b"DPLKEYS\n", 1, b"k0k1k2"), source))
    seed("config", "yaml", "catalog: /c\nstate: /s\nlisten: 127.0.0.1:0\nmodel_roots: [/m, /n]\nmax_streams: 7\n")
    seed("config", "flags", "catalog:/c\nstate:/s\npart-bytes:65536\nkeepalive_seconds:2.5\n")
    seed("model_json", "lunet", json.dumps(dict(
        architecture="lunet", height=96, width=96, channels=3, mean=[.5, .5, .5], std=[.5, .5, .5], dimension=64,
        normalize=True, step=7, fingerprint="0" * 32)))
    seed("model_json", "short", '{"architecture": "glyph_cnn", "dimension": 4}')
    seed("access_list", "whole", "# who\ncertificate CN=alice operator\ncertificate URI:spiffe://example.org/* trainer\n"
         f"token ci trainer sha256:salt:{'ab' * 32} expires=2027-01-31T00:00:00Z\n")


def rpc_seeds():
    plan = types.PlanSpec(name="random", identities_per_batch=2, samples_per_identity=2)
    spec = batches.StreamSpec(plan=plan, seed=1, payload=types.PAYLOAD_KIND_ENCODED, client_name="f")
    request = batches.StreamBatchesRequest

    def streamed(open_spec, *more):
        return pieces(*(m.SerializeToString() for m in (request(open=open_spec), *more)))

    def changed(**fields):
        other = batches.StreamSpec()
        other.CopyFrom(spec)
        for name, value in fields.items():
            if name == "plan":
                other.plan.MergeFrom(value)
            elif name == "sharing":
                other.sharing.CopyFrom(value)
            else:
                setattr(other, name, value)
        return other

    subspace = types.PlanSpec(name="subspace")
    dynamic = batches.WorkSharing(mode=batches.WorkSharing.MODE_DYNAMIC, group="g", end_cursor=3)
    static = batches.WorkSharing(mode=batches.WorkSharing.MODE_STATIC, shard=1, shards=2)
    calls = {
        "stream": (0, streamed(spec, request(credits=2), request(acknowledge_cursor=0))),
        "stream-dynamic": (0, streamed(changed(sharing=dynamic), request(credits=2), request(acknowledge_cursor=1))),
        "stream-static": (0, streamed(changed(sharing=static, plan=subspace), request(credits=1))),
        "batch": (1, batches.GetBatchRequest(spec=changed(plan=subspace, cursor=5))),
        "batch-decoded": (1, batches.GetBatchRequest(spec=changed(payload=types.PAYLOAD_KIND_DECODED))),
        "batch-reference": (1, batches.GetBatchRequest(spec=changed(payload=types.PAYLOAD_KIND_REFERENCE,
                                                                  plan=types.PlanSpec(name="nearest_identities")))),
        "describe": (2, b""),
        "recluster": (3, mining.ReclusterRequest(model_path="/m", subspaces=2, min_size=4, queue=True)),
        "operation": (4, mining.GetOperationRequest(id="op-1")),
        "wait": (5, mining.WaitOperationRequest(id="op-1", timeout_seconds=.01)),
        "cancel": (6, mining.CancelOperationRequest(id="op-1")),
        "operations": (7, b""),
        "generations": (8, b""),
        "generation": (9, mining.GetGenerationRequest(generation=1)),
        "activate": (10, mining.ActivateGenerationRequest(generation=1)),
        "rollback": (11, mining.RollbackRequest(dry_run=True)),
        "retire": (12, mining.RetireGenerationRequest(generation=2, dry_run=True)),
        "pin": (13, mining.PinGenerationRequest(generation=1, pinned=True)),
        "diff": (14, mining.DiffGenerationsRequest(**{"from": 1, "to": 1, "limit": 3})),
        "watch": (15, mining.WatchRequest(after=1)),
        "subspace": (16, mining.GetSubspaceRequest(subspace=1)),
        "lookalikes": (17, mining.FindLookalikesRequest(identity="id000003")),
        "policy": (18, b""),
        "set-policy": (19, mining.SetPolicyRequest(policy=mining.ReclusterPolicySpec(
            request=mining.ReclusterRequest(model_path="latest")))),
        "lease": (20, embedding.LeaseRangeRequest(worker="w")),
        "renew": (21, embedding.RenewLeaseRequest(lease=1)),
        "commit": (22, embedding.CommitRangeRequest(lease=1, operation="op-1", first_identity=0, identity_count=1, dimension=4,
                                                    representations=numpy.ones(4, "<f4").tobytes(), samples=[1])),
        "fetch": (23, embedding.FetchRangeRequest(first_identity=1, identity_count=2, samples_per_identity=1)),
        "find": (24, cleaning.FindRequest(neighbours=3)),
        "find-files": (24, cleaning.FindRequest(embeddings_path="/e.npy", labels_path="/y.npy")),
        "findings": (25, cleaning.ListFindingsRequest(kind=1, limit=5, ids=["pair-1-2"])),
        "decide": (26, cleaning.DecideRequest(ids=["pair-1-2", "sample-4"], verdict=3)),
        "undo": (27, cleaning.UndoRequest(number=1)),
        "export": (28, b""),
        "apply": (29, cleaning.ApplyRequest(dry_run=True)),
        "query-model": (30, models.QueryModelRequest(hash="0" * 32)),
        "publish-model": (31, pieces(
            models.PublishModelRequest(begin=models.PublishModelBegin(model=models.ModelDescription(
                hash="0" * 32, bytes=4, publisher="p",
                model_json='{"architecture": "glyph_cnn", "dimension": 4, "fingerprint": "%s"}' % ("0" * 32)))).SerializeToString(),
            models.PublishModelRequest(chunk=b"abcd").SerializeToString())),
        "models": (32, b""),
        "fetch-model": (33, models.FetchModelRequest(name="latest")),
        "report": (34, reports.ReportStepsRequest(run="r", steps=[reports.StepReport(
            model_step=3, generation=1, subspace=-1, dimension=4, identities=[1], samples=[2],
            embeddings=numpy.ones(4, "<f4").tobytes())])),
        "representations": (35, reports.DescribeRepresentationsRequest(identities=[1])),
        "hardness": (36, reports.ListSubspaceHardnessRequest(generation=1)),
    }
    for name, (number, content) in calls.items():
        seed("rpc", name, bytes([number]) + (content if isinstance(content, bytes) else content.SerializeToString()))


data_seeds()
state_seeds()
rpc_seeds()
