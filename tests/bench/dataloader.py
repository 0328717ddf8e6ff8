#!/usr/bin/python3
"""The same P×K batches through PyTorch's DataLoader over ImageFolder, as most people do it: the baseline of the stream
benchmark. Writes images as files first, from a catalog's tar shards (--catalog) or drawn here (--jpeg), and prints and
writes images/s with 0 and 2 workers, decoded to uint8 tensors. --against adds the ratios to the report of bench_stream.

Needs Debian's python3-torch, python3-numpy and python3-pil (or python3-opencv)."""
import argparse
import json
import os
import pathlib
import random
import tarfile
import tempfile
import time

import numpy
import torch

try:
    from PIL import Image

    def decode(path, mode):
        with Image.open(path) as image:
            return numpy.asarray(image.convert(mode))

    def write_jpeg(path, pixels):
        Image.fromarray(pixels).save(path, quality=90)
except ImportError:
    import cv2
    cv2.setNumThreads(1)

    def decode(path, mode):
        if mode == "L":
            return cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def write_jpeg(path, pixels):
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])


class ImageFolder(torch.utils.data.Dataset):
    """root/<identity>/<image>, like torchvision's."""

    def __init__(self, root, mode):
        self.mode, self.paths, self.of_identity = mode, [], []
        for identity, folder in enumerate(sorted(entry.path for entry in os.scandir(root) if entry.is_dir())):
            self.of_identity.append([])
            for name in sorted(os.listdir(folder)):
                self.of_identity[-1].append(len(self.paths))
                self.paths.append((os.path.join(folder, name), identity))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path, identity = self.paths[index]
        pixels = decode(path, self.mode)
        return torch.from_numpy(numpy.array(pixels)), identity


class IdentitySampler(torch.utils.data.Sampler):
    """P identities, K images of each."""

    def __init__(self, dataset, p, k, batches):
        super().__init__(dataset)
        self.of_identity, self.p, self.k, self.batches = dataset.of_identity, p, k, batches

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            batch = []
            for identity in random.sample(range(len(self.of_identity)), self.p):
                images = self.of_identity[identity]
                batch += random.sample(images, self.k) if len(images) >= self.k else random.choices(images, k=self.k)
            yield batch


def extract(catalog, root, limit):
    """Samples of WebDataset shards: the identity is in `.cls` or `.json`, or the key up to its last slash or underscore."""
    written = 0
    manifest = json.loads((pathlib.Path(catalog) / "manifest.json").read_text())
    for shard in (source["path"] for source in manifest["sources"] if source["path"].endswith(".tar")):
        with tarfile.open(shard) as tar:
            labels, images = {}, {}
            for member in tar:
                if not member.isfile():
                    continue
                key, _, extension = member.name.partition(".")
                data = tar.extractfile(member).read()
                if extension.lower() in ("png", "jpg", "jpeg"):
                    images[key] = (extension, data)
                elif extension == "cls":
                    labels[key] = data.decode().strip()
                elif extension == "json":
                    facts = json.loads(data)
                    labels.setdefault(key, str(facts.get("identity", facts.get("label", ""))))
            for key, (extension, data) in images.items():
                identity = labels.get(key) or key.rpartition("/")[0] or key.rpartition("_")[0] or key
                folder = root / identity.replace("/", "_")
                folder.mkdir(exist_ok=True)
                (folder / f"{key.replace('/', '_')}.{extension}").write_bytes(data)
                written += 1
        if written >= limit:
            break
    return written


def draw_jpegs(root, identities, images, side):
    """Photographs there are none: smooth noise compresses about as well."""
    draws = numpy.random.default_rng(1)
    for identity in range(identities):
        folder = root / f"{identity:06d}"
        folder.mkdir(exist_ok=True)
        base = draws.integers(0, 256, (8, 8, 3)).astype(numpy.float32)
        for image in range(images):
            small = base + draws.normal(0, 20, base.shape)
            pixels = numpy.kron(small, numpy.ones((side // 8, side // 8, 1))) + draws.normal(0, 6, (side, side, 3))
            write_jpeg(folder / f"{image}.jpg", numpy.clip(pixels, 0, 255).astype(numpy.uint8))
    return identities * images


def measure(dataset, p, k, workers, seconds):
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=IdentitySampler(dataset, p, k, 1 << 30),
                                         num_workers=workers)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        pixels, _ = next(batches)
        count += len(pixels)
    return count / (time.monotonic() - start)


def compare(path, best):
    report = json.loads(path.read_text())
    for row in report["rows"]:
        if row["images_per_second"] and "trainer" in row["stream"]:
            name = f"{row['shape']}: {row['stream']} over DataLoader"
            report.setdefault("ratios", {})[name] = row["images_per_second"] / best
            print(f"  {name}: {row['images_per_second'] / best:.1f}")
    path.write_text(json.dumps(report, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", help="an imported catalog of WebDataset tar shards")
    parser.add_argument("--jpeg", action="store_true", help="draw 112x112 JPEGs instead")
    parser.add_argument("--folder", help="keep the images there; used as it is if it holds some")
    parser.add_argument("--write-only", action="store_true", help="the images, and measure nothing (needs --folder)")
    parser.add_argument("--limit", type=int, default=40000, help="images at least, of the shards")
    parser.add_argument("-P", type=int, default=64)
    parser.add_argument("-K", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--against", help="report of bench_stream, to print and add the ratios to")
    parser.add_argument("--out", help="write the figures there as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(options.folder or temporary)
        root.mkdir(parents=True, exist_ok=True)
        if not any(root.iterdir()):
            if options.jpeg:
                draw_jpegs(root, 2000, 6, 112)
            else:
                extract(options.catalog, root, options.limit)
        if options.write_only:
            return
        dataset = ImageFolder(root, "RGB" if options.jpeg else "L")
        torch.set_num_threads(1)
        figures = {f"workers_{n}": measure(dataset, options.P, options.K, n, options.seconds) for n in (0, 2)}
        figures["best"] = max(figures.values())
        print(f"DataLoader over {len(dataset)} images, P={options.P} K={options.K}: "
              + ", ".join(f"{name} {rate:.0f} images/s" for name, rate in figures.items()))
        if options.against:
            compare(pathlib.Path(options.against), figures["best"])
        if options.out:
            pathlib.Path(options.out).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
