"""The example's generator: what it writes is what it says, and the same every time."""
import csv
import hashlib
import json
import tarfile

from harness import BIN, DATA, DoppelTest, run


class GlyphsTest(DoppelTest):
    def test_output_is_byte_identical_whatever_the_threads(self):
        def digest(name, threads):
            out = self.folder / name
            run(BIN / "doppel-glyphs", "--out", out, "--identities", "200", "--test-identities", "20", "--threads", threads)
            files = sorted(p for p in out.rglob("*") if p.is_file() and p.suffix in (".tar", ".csv"))
            return [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]

        self.assertEqual(digest("one", 1), digest("two", 2))

    def test_shards_are_webdataset(self):
        pairs, splits = {}, {}
        for shard in sorted((DATA / "glyphs").glob("*.tar")):
            with tarfile.open(shard) as tar:
                for member in tar.getmembers():
                    key, extension = member.name.split(".", 1)
                    pairs.setdefault(key, set()).add(extension)
                    if extension == "json":
                        fields = json.load(tar.extractfile(member))
                        splits.setdefault(fields["identity"], set()).add(fields["split"])
        self.assertEqual({frozenset(("png", "json"))}, {frozenset(v) for v in pairs.values()})
        self.assertEqual(600, len(splits))
        self.assertEqual({1}, {len(s) for s in splits.values()})  # identity-disjoint
        self.assertEqual(60, sum(s == {"test"} for s in splits.values()))
        self.assertGreaterEqual(len(pairs), 3 * 600)

    def test_known_duplicates_is_csv_of_pairs(self):
        with open(DATA / "glyphs/known_duplicates.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertTrue({"code_point_a", "code_point_b", "reason"} <= set(rows[0].keys()) if rows else True)
        for row in rows:
            self.assertNotEqual(row["code_point_a"], row["code_point_b"])
