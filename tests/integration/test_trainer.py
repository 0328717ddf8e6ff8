"""What people do with a run: look at it in TensorBoard, stop it early, take its model elsewhere."""
import json
import math
import struct
import tarfile
import zlib

import numpy

from harness import BIN, CATALOG, DATA, MODEL, DoppelTest, run, run_json
from tfevents import all_events, scalars

TRAINER = BIN / "doppel-trainer"


def decode_png(data):
    """8-bit, not interlaced: [height, width, channels] uint8."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, pixels = 8, b""
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8:position + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and not interlaced
            channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
        elif kind == b"IDAT":
            pixels += body
        position += 12 + length
    raw, stride = zlib.decompress(pixels), width * channels
    rows, previous = [], bytes(stride)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            left = line[x - channels] if x >= channels else 0
            up, corner = previous[x], previous[x - channels] if x >= channels else 0
            estimate = left + up - corner
            paeth = min((left, up, corner), key=lambda v: abs(estimate - v))
            line[x] = (line[x] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        rows.append(bytes(line))
        previous = rows[-1]
    return numpy.frombuffer(b"".join(rows), numpy.uint8).reshape(height, width, channels)


class TrainerTest(DoppelTest):
    def train(self, miner, output, *flags, steps=12, check=True):
        return run(TRAINER, "train", "--server", miner.address, "--output", output, "--model", MODEL, "--plan", "random",
                   "-P", "8", "-K", "2", "--loss", "batch_ohnm", "--negatives", "3", "--steps", str(steps), "--threads",
                   "1", "--seed", "3", "-q", *flags, check=check)

    def test_event_files_say_what_steps_jsonl_says(self):
        miner = self.start_miner("--embedders", "0")
        output = self.folder / "run"
        self.train(miner, output, "--tensorboard-every", "1", "--tensorboard-details-every", "6")
        lines = [json.loads(line) for line in (output / "steps.jsonl").read_text().splitlines()]
        logged = scalars(output / "tensorboard")
        for tag, key in (("train/loss", "loss"), ("train/active", "active"), ("train/learning_rate", "lr")):
            self.assertEqual([s["step"] for s in lines], [step for step, _ in logged[tag]])
            for (_, value), line in zip(logged[tag], lines):
                self.assertAlmostEqual(line[key], value, delta=1e-6 * max(1, abs(line[key])))
        self.assertAlmostEqual(lines[4]["d_ap"]["p50"], logged["d_ap/p50"][4][1], places=5)

    def test_event_files_hold_histograms_and_images(self):
        miner = self.start_miner("--embedders", "0")
        output = self.folder / "run"
        self.train(miner, output, "--tensorboard-details-every", "6")
        events = all_events(output / "tensorboard")
        self.assertEqual("brain.Event:2", events[0]["file_version"])
        details = {e["step"]: {v["tag"]: v for v in e["values"]} for e in events if len(e["values"]) > 25}
        self.assertEqual([1, 6, 12], sorted(details))
        values = details[6]
        weights = values["weights/fc.weight"]["histogram"]
        self.assertEqual(128 * 192 * 3 * 3, weights["num"])
        self.assertEqual(weights["num"], sum(weights["buckets"]))
        self.assertEqual(len(weights["limits"]), len(weights["buckets"]))
        self.assertEqual(sorted(weights["limits"]), weights["limits"])
        self.assertAlmostEqual(1.0, values["batch/norm"]["histogram"]["max"], places=4)
        self.assertEqual(16, values["batch/d_ap"]["histogram"]["num"])
        image = values["batch/hardest triplets"]["image"]
        pixels = decode_png(image["png"])
        self.assertEqual((image["height"], image["width"], image["colorspace"]), pixels.shape)
        self.assertGreater(int(pixels.max()), 100)  # ink

    def test_no_tensorboard(self):
        miner = self.start_miner("--embedders", "0")
        self.train(miner, self.folder / "run", "--no-tensorboard", steps=2)
        self.assertFalse((self.folder / "run/tensorboard").exists())

    def test_early_stop_keeps_the_best(self):
        miner = self.start_miner("--embedders", "0")
        output = self.folder / "run"
        flags = ("--eval-every", "2", "--eval-catalog", CATALOG, "--early-stop", "rank1", "--patience", "2", "--lr", "1e-9",
                 "--schedule", "constant")
        self.train(miner, output, *flags, steps=100)
        evaluations = [json.loads(line) for line in (output / "eval.jsonl").read_text().splitlines()]
        self.assertLess(len(evaluations), 20)
        best = json.loads((output / "best/best.json").read_text())
        first_best = max(evaluations, key=lambda e: (e["rank1"], -e["step"]))
        self.assertEqual((first_best["step"], first_best["rank1"]), (best["step"], best["value"]))
        self.assertEqual(best["step"] + 4, evaluations[-1]["step"])
        self.assertEqual(best["step"], json.loads((self.folder / best["checkpoint"] / "model/model.json").read_text())["step"])
        self.assertTrue((output / "model/weights.pt").exists())
        again = self.train(miner, output, *flags, steps=100)
        self.assertIn("stopped early", again.stderr)

    def test_wrong_settings_are_named(self):
        miner = self.start_miner("--embedders", "0")
        for flags, word in ((("--precision", "float16"), "CUDA"), (("--loss-option", "nonsense=1"), "nonsense"),
                            (("--freeze", "nose"), "nose"), (("--early-stop", "rank1"), "--eval-every")):
            with self.subTest(word):
                result = self.train(miner, self.folder / "run", *flags, check=False)
                self.assertNotEqual(0, result.returncode)
                self.assertIn(word, result.stderr)

    def test_loss_options_reach_the_loss(self):
        miner = self.start_miner("--embedders", "0")
        one, other = self.folder / "flag", self.folder / "option"
        self.train(miner, one, "--skip", "2", steps=3)
        self.train(miner, other, "--loss-option", "skip=2", steps=3)
        self.assertEqual((one / "model/weights.pt").read_bytes(), (other / "model/weights.pt").read_bytes())
        refused = self.train(miner, other, "--loss-option", "skip=1", steps=6, check=False)
        self.assertIn("loss_options", refused.stderr)

    def exported(self, *flags):
        import torch
        model, file = self.folder / "model", self.folder / "model.pt"
        run(TRAINER, "init", "--output", model, *flags)
        said = run_json(TRAINER, "export", "--model", model, "--output", file)
        module = torch.jit.load(str(file))
        weights = torch.load(model / "weights.pt")
        state = module.state_dict()
        self.assertEqual(sorted(weights), sorted(state))
        for name in weights:
            self.assertTrue(torch.equal(weights[name], state[name]), name)
        return torch, model, module, said

    def test_pythons_torch_runs_an_exported_model(self):
        torch, model, module, said = self.exported("--architecture", "glyph_cnn")
        run(TRAINER, "embed", "--model", model, "--catalog", CATALOG, "--output", self.folder / "e.npy", "--names",
            self.folder / "names.txt")
        ours = numpy.load(self.folder / "e.npy")
        names = (self.folder / "names.txt").read_text().split("\n")
        images = {}
        for shard in sorted((DATA / "glyphs").glob("*.tar")):
            with tarfile.open(shard) as tar:
                for member in tar.getmembers():
                    if member.name.endswith(".png"):
                        images[member.name[:-4]] = tar.extractfile(member).read()
        rows = [i for i in range(0, len(ours), 97) if i < len(names)][:20]
        keys = [next(k for k in images if k in names[i]) for i in rows]
        pixels = torch.from_numpy(numpy.stack([decode_png(images[k]) for k in keys]))
        for batch in (pixels[:1], pixels):
            theirs = module.embed(batch).detach().numpy()
            self.assertLess(float(abs(theirs - ours[rows[:len(batch)]]).max()), 1e-5)
        normalised = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        self.assertLess(float((module(normalised) - module.embed(pixels)).abs().max()), 1e-5)
        self.assertEqual(128, said["dimension"])

    def test_every_net_is_exported_for_any_batch_size(self):
        for architecture in ("lunet", "resnet18", "resnet34", "resnet50"):
            with self.subTest(architecture):
                torch, _, module, _ = self.exported("--architecture", architecture, "--height", "32", "--width", "32",
                                                    "--channels", "3", "--no-normalize")
                torch.manual_seed(1)
                images = torch.randn(5, 3, 32, 32)
                with torch.no_grad():
                    together = module(images)
                    apart = torch.cat([module(images[i:i + 1]) for i in range(5)])
                self.assertEqual((5, 128), tuple(together.shape))
                self.assertLess(float((together - apart).abs().max()), 1e-4 * max(1.0, float(together.abs().max())))
                self.assertTrue(math.isfinite(float(together.sum())))
                run("rm", "-rf", self.folder / "model")
