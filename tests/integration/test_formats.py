"""Data sets written by other tools and by hand, imported and packed by the real program."""
import io
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import tarfile
import zlib

from harness import BIN, CATALOG, DATA, DoppelTest, run, run_json, spec, types, wait_for

DOPPEL = BIN / "doppel"
MAGIC = 0xCED7230A


def glyph_images(count):
    """(identity, png) of real glyphs."""
    out = []
    for shard in sorted((DATA / "glyphs").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    out.append((member.name.rsplit("_", 1)[0], tar.extractfile(member).read()))
                    if len(out) == count:
                        return out
    return out


class RecWriter:
    """RecordIO from its description: parts with magic and length, cut where the payload holds the magic."""

    def __init__(self, path):
        self.path, self.keys, self.rec, self.idx = pathlib.Path(path), 0, open(f"{path}.rec", "wb"), []

    def write(self, payload):
        self.idx.append(f"{self.keys}\t{self.rec.tell()}\n")
        self.keys += 1
        cuts = [at for at in range(0, len(payload) - 3, 4) if payload[at:at + 4] == struct.pack("<I", MAGIC)]
        pieces, begin = [], 0
        for at in cuts:
            pieces.append(payload[begin:at])
            begin = at + 4
        pieces.append(payload[begin:])
        for i, piece in enumerate(pieces):
            flag = 0 if len(pieces) == 1 else 1 if i == 0 else 3 if i == len(pieces) - 1 else 2
            self.rec.write(struct.pack("<II", MAGIC, flag << 29 | len(piece)) + piece + bytes(-len(piece) % 4))

    def write_image(self, label, image, key):
        self.write(struct.pack("<IfQQ", 0, label, key, 0) + image)

    def write_labels(self, first, second, image=b""):
        self.write(struct.pack("<IfQQff", 2, 0, 0, 0, first, second) + image)

    def close(self, index=True):
        self.rec.close()
        if index:
            pathlib.Path(f"{self.path}.idx").write_text("".join(self.idx))


def png(width, height, rows):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class FormatsTest(DoppelTest):
    def imported(self, kind, path, *flags, name="catalog"):
        return run_json(DOPPEL, "import", kind, path, "--catalog", self.folder / name, *flags)

    def verified(self, name="catalog"):
        return run_json(DOPPEL, "inspect", "--catalog", self.folder / name, "--verify")

    def put(self, name, data):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def test_tar_of_pythons_tarfile_in_its_three_formats(self):
        images = glyph_images(20)
        prints = set()
        for number, kind in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
            shard = self.folder / f"{number}.tar"
            with tarfile.open(shard, "w", format=kind) as tar:
                for i, (identity, data) in enumerate(images):
                    long = "/".join(["folder" * 8] * 3) + f"/é{i}" if kind != tarfile.USTAR_FORMAT else f"u{i}"
                    for name, content in ((f"{long}.png", data), (f"{long}.cls", identity.encode())):
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
            summary = self.imported("webdataset", shard, name=f"c{number}")
            self.assertEqual((20, 0), (summary["samples"], summary["skipped"]["count"]))
            self.verified(f"c{number}")
            prints.add(summary["fingerprint"])
        self.assertEqual(2, len(prints))  # GNU's and pax's long names are the same

    def write_rec(self, name, layout, images):
        writer = RecWriter(self.folder / name)
        if layout == "insightface":
            groups = {}
            for identity, data in images:
                groups.setdefault(identity, []).append(data)
            writer.write_labels(len(images) + 1, len(images) + 1 + len(groups))
            ranges = []
            for label, group in enumerate(groups.values()):
                first = writer.keys
                for data in group:
                    writer.write_image(label, data, writer.keys)
                ranges.append((first, writer.keys))
            for first, end in ranges:
                writer.write_labels(first, end)
        else:
            labels = {identity: i for i, identity in enumerate(dict.fromkeys(i for i, _ in images))}
            for identity, data in images:
                writer.write_image(labels[identity], data, writer.keys)
        return writer

    def test_rec_in_its_three_layouts(self):
        images = glyph_images(60)
        shuffled = random.Random(1).sample(images, len(images))
        for name, layout, data in (("face", "insightface", images), ("shuffled", "shuffled", shuffled),
                                   ("im2rec", "im2rec", images)):
            for index in (True, False):
                self.write_rec(name, layout, data).close(index)
                summary = self.imported("recordio", self.folder / f"{name}.rec", "--force")
                self.assertEqual((60, 0), (summary["samples"], summary["skipped"]["count"]), name)
                self.assertEqual(len({i for i, _ in images}), summary["identities"])
                self.verified()
                if index:
                    os.remove(self.folder / f"{name}.idx")

    def test_rec_with_the_magic_in_its_images_reaches_the_trainer(self):
        magic = struct.pack("<I", MAGIC)
        header = b"P5\n8 8 255\n "  # 12 bytes, so the pixels begin at a multiple of 4
        writer = RecWriter(self.folder / "parts")
        pixels = {}
        for i in range(8):
            data = bytearray(random.Random(i).randbytes(64))
            for at in (0, 32, 60)[:i % 4]:
                data[at:at + 4] = magic
            pixels[i] = header + bytes(data)
            writer.write_image(i, pixels[i], i)
        writer.close()
        self.assertEqual(8, self.imported("recordio", self.folder / "parts.rec")["samples"])
        self.verified()
        miner = self.start_miner("--embedders", "0", catalog=self.folder / "catalog")
        for batch in miner.stream(spec("random", p=8, k=1), 1):
            self.assertEqual(set(pixels.values()), {s.encoded for s in batch.samples})

    def test_broken_rec_files_are_named(self):
        writer = self.write_rec("x", "im2rec", glyph_images(10))
        writer.write_image(float(2 ** 24), glyph_images(1)[0][1], 10)
        writer.close()
        rec = bytearray((self.folder / "x.rec").read_bytes())
        offsets = [int(line.split("\t")[1]) for line in writer.idx]
        rec[offsets[3]] ^= 0xFF
        (self.folder / "x.rec").write_bytes(rec)
        summary = self.imported("recordio", self.folder / "x.rec")
        self.assertEqual({"bad record": 1, "inexact label": 1}, summary["skipped"]["by_reason"])
        self.assertEqual(9, summary["samples"])
        (self.folder / "x.rec").write_bytes(rec[:offsets[9] + 50])
        summary = self.imported("recordio", self.folder / "x.rec", "--force")
        self.assertIn("truncated record", summary["skipped"]["by_reason"])
        self.put("y.rec", b"something else")
        result = run(DOPPEL, "import", "recordio", self.folder / "y.rec", "--catalog", self.folder / "y", check=False)
        self.assertEqual(2, result.returncode)
        self.assertIn("magic", result.stderr)

    def test_market_lfw_csv_and_what_auto_makes_of_them(self):
        images = [data for _, data in glyph_images(12)]
        for i, data in enumerate(images[:4]):
            self.put(f"market/bounding_box_train/{i // 2:04d}_c{i % 2 + 1}s1_00{i}_01.jpg", data)
        self.put("market/query/0007_c1s1_000_00.jpg", images[4])
        self.put("market/bounding_box_test/0007_c2s1_000_00.jpg", images[5])
        self.put("market/bounding_box_test/-1_c2s1_000_00.jpg", images[6])
        for i, data in enumerate(images[:6]):
            self.put(f"lfw/Name_{i % 2}/Name_{i % 2}_{i // 2 + 1:04d}.jpg", data)
        self.put("lfw/pairs.txt", b"1\t1\nName_0\t1\t2\nName_0\t1\tName_1\t9\n")
        self.put("oml/df.csv", b"label,split,is_query,is_gallery,path\n1,train,,,a.png\n2,validation,True,True,b.png\n"
                               b"2,validation,True,True,none.png\n")
        self.put("oml/images/a.png", images[0])
        self.put("oml/images/b.png", images[1])
        market = self.imported("auto", self.folder / "market", name="market.catalog")
        self.assertEqual("market1501", market["format"])
        self.assertIn("bounding_box", market["guessed"])
        self.assertEqual(["train", "gallery", "query"], [s["name"] for s in market["splits"]])
        self.assertEqual({"background (person 0)": 2, "junk (person -1)": 1}, market["skipped"]["by_reason"])
        lfw = self.imported("auto", self.folder / "lfw", name="lfw.catalog")
        self.assertEqual(("lfw", 6, 2), (lfw["format"], lfw["samples"], lfw["identities"]))
        self.assertEqual({"missing pair image": 1}, lfw["skipped"]["by_reason"])
        csv = self.imported("auto", self.folder / "oml/df.csv", "--root", self.folder / "oml/images", name="csv.catalog")
        self.assertEqual(("csv", 2), (csv["format"], csv["samples"]))
        self.assertEqual({"missing file": 1}, csv["skipped"]["by_reason"])
        for name in ("market", "lfw", "csv"):
            self.verified(f"{name}.catalog")

    def test_hostile_folders_end_in_counted_skips(self):
        good = glyph_images(1)[0][1]
        self.put("root/a/ok.png", good)
        self.put("root/a/zero.png", b"")
        self.put("root/a/huge.png", png(30000, 30000, b"\0" * 1000))
        self.put("root/a/cut.png", good[:len(good) // 2])
        self.put("root/名\n前/画 像\n.png", good)
        self.put("outside/secret.png", good)
        os.symlink(self.folder / "outside/secret.png", self.folder / "root/a/link.png")
        os.symlink(self.folder / "outside", self.folder / "root/b")
        summary = self.imported("imagefolder", self.folder / "root")
        self.assertEqual(2, summary["samples"])
        self.assertEqual({"corrupt image": 1, "empty image": 1, "image too large": 1, "link out of the root": 2},
                         summary["skipped"]["by_reason"])
        lines = (self.folder / "catalog/skipped.jsonl").read_text().splitlines()
        self.assertEqual(5, len([json.loads(line) for line in lines]))
        self.verified()
        table = run(DOPPEL, "inspect", "--catalog", self.folder / "catalog", "--identity", "名\n前").stdout
        self.assertIn("\\n", table)
        self.assertEqual(4, self.imported("imagefolder", self.folder / "root", "--follow-links", "--force")["samples"])

    def test_two_imports_into_one_folder_are_refused(self):
        import fcntl
        with open(self.folder / "catalog.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            result = run(DOPPEL, "import", "auto", DATA / "glyphs", "--catalog", self.folder / "catalog", check=False)
        self.assertEqual(3, result.returncode)
        self.assertIn("another process", result.stderr)
        self.assertEqual(600, self.imported("auto", DATA / "glyphs")["identities"])

    def test_an_import_that_is_killed_goes_on(self):
        good = glyph_images(1)[0][1]
        for i in range(3000):
            self.put(f"root/{i:04d}/1.png", good + bytes(i % 7))
        catalog, journal = self.folder / "catalog", self.folder / "catalog.journal"
        process = subprocess.Popen([DOPPEL, "import", "imagefolder", self.folder / "root", "--catalog", catalog],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: process.poll() is not None or (journal.exists() and journal.stat().st_size > 20000), "progress")
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        if killed and not catalog.exists():
            summary = self.imported("imagefolder", self.folder / "root")
            self.assertGreater(summary["resumed_parts"], 100)
        self.imported("imagefolder", self.folder / "root", name="whole")
        self.assertEqual((self.folder / "whole/manifest.json").read_bytes(), (catalog / "manifest.json").read_bytes())
        self.assertEqual(["catalog", "root", "whole"], sorted(os.listdir(self.folder)))

    def test_packed_catalogs_serve_the_same_batches(self):
        packed = run_json(DOPPEL, "pack", "--catalog", CATALOG, "--output", self.folder / "packed", "--shard-size", "200KB")
        self.assertGreater(packed["shards"], 1)
        self.assertEqual(run_json(DOPPEL, "inspect", "--catalog", CATALOG)["fingerprint"], packed["fingerprint"])
        self.verified("packed")
        wanted = self.start_miner("--embedders", "0").stream(spec("random", p=8, k=2), 5)
        os.rename(self.folder / "packed", self.folder / "moved")
        miner = self.start_miner("--embedders", "0", name="s2", catalog=self.folder / "moved")
        self.assertEqual([b.SerializeToString(deterministic=True) for b in wanted],
                         [b.SerializeToString(deterministic=True) for b in miner.stream(spec("random", p=8, k=2), 5)])

    def test_raw_pixels_are_those_of_decoding(self):
        packed = run_json(DOPPEL, "pack", "--catalog", CATALOG, "--output", self.folder / "raw", "--raw", "32x40",
                          "--channels", "3")
        self.assertEqual({"height": 32, "width": 40, "channels": 3}, packed["raw_pixels"])
        self.verified("raw")
        request = spec("random", p=8, k=2, payload=types.PAYLOAD_KIND_DECODED)
        request.image.height, request.image.width, request.image.channels = 32, 40, 3
        wanted = self.start_miner("--embedders", "0").stream(request, 5)
        miner = self.start_miner("--embedders", "0", name="s2", catalog=self.folder / "raw")
        for one, other in zip(wanted, miner.stream(request, 5), strict=True):
            self.assertEqual([s.sample for s in one.samples], [s.sample for s in other.samples])
            self.assertEqual(one.pixels, other.pixels)
        again = run(DOPPEL, "pack", "--catalog", CATALOG, "--output", self.folder / "raw", check=False)
        self.assertEqual(3, again.returncode)
        self.assertIn("--force", again.stderr)
