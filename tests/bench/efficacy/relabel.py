"""Copies WebDataset shards with other labels: noise of a known kind, or a validation split. The images stay as they are.

    python3 relabel.py --shards data/glyphs --out data/noisy --flip 0.1
    python3 relabel.py --shards data/glyphs --out data/split --split 0.1
    python3 relabel.py --shards data/glyphs --out data/valid --validation 3000

--flip S        the share S of the train samples gets the identity of another train sample, drawn at random
--split S       the share S of the train identities is cut in two: every other sample goes to "<identity>~2"
--validation N  N train identities, drawn at random, become the split "validation"

Which ones is a hash of --seed and the name, so the same command writes the same bytes. labels.csv beside the shards says what was
changed (key, old identity, new identity, split): a yardstick, never an input of training.
"""
import argparse
import csv
import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile


def draw(seed, kind, name):
    """A uniform number in [0, 1) for one name."""
    digest = hashlib.blake2b(f"{seed}/{kind}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def samples(shard):
    """(stem, json, [(member, bytes)]) of each sample of one shard, in order."""
    group, stem = [], None
    with tarfile.open(shard) as tar:
        for member in tar:
            if not member.isfile():
                continue
            folder, _, base = member.name.rpartition("/")
            name = (folder + "/" if folder else "") + base.split(".", 1)[0]
            if stem is not None and name != stem:
                yield stem, group
                group = []
            stem = name
            group.append((member, tar.extractfile(member).read()))
    if group:
        yield stem, group


def facts(stem, group, shard):
    for member, data in group:
        if member.name.endswith(".json"):
            record = json.loads(data)
            if "identity" not in record:
                sys.exit(f"relabel: {shard}: {member.name}: no field identity")
            return record
    sys.exit(f"relabel: {shard}: sample {stem} has no .json")


class Labels:
    """What becomes of a sample, from a first pass over all names."""

    def __init__(self, arguments, train):
        self.arguments = arguments
        self.names = sorted({identity for identity, _ in train})
        self.by_sample = [identity for identity, _ in sorted(train)]
        self.order, self.count = {}, {}
        for identity, key in sorted(train):
            self.order[identity, key] = self.count.get(identity, 0)
            self.count[identity] = self.order[identity, key] + 1
        self.validation = set(sorted(self.names, key=lambda n: draw(arguments.seed, "validation", n))[:arguments.validation])

    def new(self, identity, key):
        """(identity, split) of a train sample."""
        a = self.arguments
        if identity in self.validation:
            return identity, "validation"
        if a.split and self.count[identity] >= 4 and draw(a.seed, "split", identity) < a.split:
            return (identity + "~2" if self.order[identity, key] % 2 else identity), "train"
        if a.flip and draw(a.seed, "flip", identity + "/" + key) < a.flip:
            for turn in range(100):
                other = self.by_sample[int(draw(a.seed, f"to{turn}", identity + "/" + key) * len(self.by_sample))]
                if other != identity:
                    return other, "train"
        return identity, "train"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=pathlib.Path, required=True, help="folder of .tar files")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--flip", type=float, default=0)
    parser.add_argument("--split", type=float, default=0)
    parser.add_argument("--validation", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    shards = sorted(arguments.shards.glob("*.tar"))
    if not shards:
        sys.exit(f"relabel: {arguments.shards}: no .tar files")
    if arguments.out.exists():
        sys.exit(f"relabel: {arguments.out}: exists already")
    if not (arguments.flip or arguments.split or arguments.validation):
        sys.exit("relabel: nothing to do: give --flip, --split or --validation")

    train = []
    for shard in shards:
        for stem, group in samples(shard):
            record = facts(stem, group, shard)
            if record.get("split", "train") == "train":
                train.append((str(record["identity"]), stem))
    if not train:
        sys.exit(f"relabel: {arguments.shards}: no samples of split train")
    labels = Labels(arguments, train)

    temporary = arguments.out.with_name(arguments.out.name + ".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    changed = 0
    with open(temporary / "labels.csv", "w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["key", "identity", "new_identity", "split"])
        for number, shard in enumerate(shards):
            with tarfile.open(temporary / shard.name, "w", format=tarfile.USTAR_FORMAT) as out:
                for stem, group in samples(shard):
                    record = facts(stem, group, shard)
                    if record.get("split", "train") == "train":
                        old = str(record["identity"])
                        record["identity"], record["split"] = labels.new(old, stem)
                        if record["identity"] != old or record["split"] != "train":
                            changed += 1
                            rows.writerow([stem, old, record["identity"], record["split"]])
                    for member, data in group:
                        if member.name.endswith(".json"):
                            data = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
                        info = tarfile.TarInfo(member.name)
                        info.size = len(data)
                        out.addfile(info, io.BytesIO(data))
            if sys.stderr.isatty():
                print(f"\rrelabel  {number + 1}/{len(shards)} shards", end="", file=sys.stderr)
    os.rename(temporary, arguments.out)
    print(f"relabel: {changed} of {len(train)} train samples changed, {arguments.out}")


if __name__ == "__main__":
    main()
