#!/usr/bin/python3
"""Writes losses.json: what other libraries make of one small batch, to compare ours with.

Needs torch and checkouts of the libraries (none of their code is here):
    pytorch-metric-learning  https://github.com/KevinMusgrave/pytorch-metric-learning  v2.8.1
    fast-reid                https://github.com/JDAI-CV/fast-reid                      c9bc3ce
    triplet-reid             https://github.com/VisualComputingInstitute/triplet-reid  a538696

    make_golden.py --pml PATH --fast-reid PATH [--output losses.json]

triplet-reid is written for TensorFlow 1. Its batch_hard is taken from its formula here (see triplet_reid below):
squared differences, square root of the sum + 1e-12, furthest positive, closest negative, mean over the batch.
"""

import argparse
import importlib.util
import json
import pathlib
import sys
import types

import torch

# The batch: 5 identities of 1 to 4 samples, so that anchors without a positive are there, too.
LABELS = [3, 1, 4, 1, 5, 3, 3, 1, 4, 1, 2, 4, 5]
PXK_LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]  # fast-reid and triplet-reid take only these
DIMENSION = 5


def embeddings(rows, seed):
    """A linear congruential generator, so that no library's random numbers are needed to repeat it."""
    state, values = seed, []
    for _ in range(rows * DIMENSION):
        state = (1103515245 * state + 12345) % 2**31
        values.append(state / 2**30 - 1)
    return torch.tensor(values, dtype=torch.float64).reshape(rows, DIMENSION)


class Golden:
    def __init__(self):
        self.batches = {}
        self.cases = []

    def batch(self, name, labels, seed, normalise):
        x = embeddings(len(labels), seed)
        if normalise:
            x = torch.nn.functional.normalize(x)
        self.batches[name] = {"labels": labels, "embeddings": x.tolist()}
        return name

    def add(self, name, library, call, batch, function, loss, margin, distance="euclidean", triplets=None, **options):
        data = self.batches[batch]
        x = torch.tensor(data["embeddings"], dtype=torch.float64, requires_grad=True)
        value = function(x, torch.tensor(data["labels"]))
        value.backward()
        case = {"name": name, "library": library, "call": call, "batch": batch, "loss": loss, "distance": distance,
                "margin": margin, "options": {key: str(value) for key, value in options.items()},
                "value": value.item(), "gradient": x.grad.tolist()}
        if triplets is not None:
            case["triplets"] = triplets(x.detach(), torch.tensor(data["labels"]))
        self.cases.append(case)


class Unused(types.ModuleType):
    """A module that another one wants to import names from, but that nothing here calls."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def load_pml(path):
    sys.path.insert(0, str(pathlib.Path(path) / "src"))
    # Imported there, but not used by these losses.
    for package in (("scipy", "scipy.stats", "scipy.special"), ("sklearn", "sklearn.preprocessing", "sklearn.metrics"), ("tqdm",)):
        if importlib.util.find_spec(package[0]) is None:
            for name in package:
                sys.modules[name] = Unused(name)
    from pytorch_metric_learning import distances, losses, miners, reducers
    return types.SimpleNamespace(distances=distances, losses=losses, miners=miners, reducers=reducers)


def load_fast_reid(path):
    """Only the file of the triplet loss, without the package around it."""
    folder = pathlib.Path(path) / "fastreid/modeling/losses"
    package = types.ModuleType("golden_fast_reid")
    package.__path__ = [str(folder)]
    sys.modules["golden_fast_reid"] = package
    modules = {}
    for name in ("utils", "triplet_loss"):
        spec = importlib.util.spec_from_file_location(f"golden_fast_reid.{name}", folder / f"{name}.py")
        modules[name] = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = modules[name]
        spec.loader.exec_module(modules[name])
    return modules["triplet_loss"].triplet_loss


def semi_hard_nearest(pml, margin):
    """Of the library's semi-hard triplets the one with the nearest negative of every (anchor, positive)."""
    distance = pml.distances.LpDistance(normalize_embeddings=False)
    miner = pml.miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=distance)

    def mine(x, labels):
        d = distance(x.detach())
        best = {}
        for a, p, n in zip(*(t.tolist() for t in miner(x.detach(), labels))):
            if (a, p) not in best or d[a, n] < d[a, best[a, p]]:
                best[a, p] = n
        rows = [(a, p, n) for (a, p), n in best.items()]
        return tuple(torch.tensor(column) for column in zip(*rows))

    return mine


def pml_distance(pml, distance):
    if distance == "euclidean":
        return pml.distances.LpDistance(normalize_embeddings=False)
    if distance == "squared":
        return pml.distances.LpDistance(normalize_embeddings=False, power=2)
    return pml.distances.CosineSimilarity()


def add_pml(golden, pml, batch):
    lib = "pytorch-metric-learning"
    mean, nonzero = pml.reducers.MeanReducer, pml.reducers.AvgNonZeroReducer
    for distance in ("euclidean", "squared", "cosine"):
        d = lambda: pml_distance(pml, distance)

        def triplet(reducer, margin, smooth=False, miner=None):
            loss = pml.losses.TripletMarginLoss(margin=margin, smooth_loss=smooth, distance=d(), reducer=reducer())
            return lambda x, y: loss(x, y, miner(x, y) if miner else None)

        hard = pml.miners.BatchHardMiner(distance=d())
        golden.add(f"pml_batch_hard_{distance}", lib, "TripletMarginLoss(0.2, MeanReducer) of BatchHardMiner", batch,
                   triplet(mean, 0.2, miner=hard), "batch_hard", "0.2", distance)
        golden.add(f"pml_batch_hard_active_{distance}", lib, "TripletMarginLoss(0.2) of BatchHardMiner", batch,
                   triplet(nonzero, 0.2, miner=hard), "batch_hard", "0.2", distance, mean_over_active="true")
        golden.add(f"pml_batch_hard_smooth_{distance}", lib,
                   "TripletMarginLoss(0, smooth_loss, MeanReducer) of BatchHardMiner", batch,
                   triplet(mean, 0, True, hard), "batch_hard", "soft", distance)
        golden.add(f"pml_batch_all_{distance}", lib, "TripletMarginLoss(0.2, MeanReducer)", batch, triplet(mean, 0.2),
                   "batch_all", "0.2", distance)
        golden.add(f"pml_batch_all_nonzero_{distance}", lib, "TripletMarginLoss(0.2)", batch, triplet(nonzero, 0.2),
                   "batch_all_nonzero", "0.2", distance)
        golden.add(f"pml_batch_all_smooth_{distance}", lib, "TripletMarginLoss(0, smooth_loss, MeanReducer)", batch,
                   triplet(mean, 0, True), "batch_all", "soft", distance)

    for distance in ("euclidean", "squared"):
        contrastive = pml.losses.ContrastiveLoss(neg_margin=1.2, distance=pml_distance(pml, distance))
        golden.add(f"pml_contrastive_{distance}", lib, "ContrastiveLoss(neg_margin=1.2)", batch, contrastive,
                   "contrastive", "1.2", distance, power=1, reduction="nonzero")
        balanced = pml.losses.ContrastiveLoss(neg_margin=1.2, distance=pml_distance(pml, distance),
                                              reducer=mean())
        golden.add(f"pml_contrastive_mean_{distance}", lib, "ContrastiveLoss(neg_margin=1.2, MeanReducer)", batch,
                   balanced, "contrastive", "1.2", distance, power=1, reduction="balanced")
        lifted = pml.losses.LiftedStructureLoss(neg_margin=1, distance=pml_distance(pml, distance))
        golden.add(f"pml_lifted_{distance}", lib, "LiftedStructureLoss(neg_margin=1)", batch, lifted, "lifted", "1",
                   distance)
    semi_hard = semi_hard_nearest(pml, 0.4)
    plain = pml.losses.TripletMarginLoss(margin=0.4, distance=pml_distance(pml, "euclidean"), reducer=mean())
    golden.add("pml_semi_hard", lib, "TripletMarginLoss(0.4, MeanReducer) of the nearest of "
               "TripletMarginMiner(0.4, semihard) per (anchor, positive)", batch,
               lambda x, y: plain(x, y, semi_hard(x, y)), "semi_hard", "0.4")
    mined = pml.miners.TripletMarginMiner(margin=0.4, type_of_triplets="semihard",
                                          distance=pml_distance(pml, "euclidean"))
    golden.add("pml_given_triplets", lib, "TripletMarginLoss(0.4, MeanReducer) of TripletMarginMiner(0.4, semihard)",
               batch, lambda x, y: plain(x, y, mined(x, y)), "triplet", "0.4",
               triplets=lambda x, y: torch.stack(mined(x, y), dim=1).tolist())


def add_pxk(golden, pml, triplet_loss, batch, unit_batch):
    for distance in ("euclidean", "squared"):
        lifted = pml.losses.GeneralizedLiftedStructureLoss(neg_margin=1, distance=pml_distance(pml, distance))
        golden.add(f"pml_lifted_pxk_{distance}", "pytorch-metric-learning",
                   "GeneralizedLiftedStructureLoss(neg_margin=1)", batch, lifted, "lifted_pxk", "1", distance,
                   reduction="mean")
    lib = "fast-reid"
    # margin 0 is the soft margin there; norm_feat has 2 - 2 cos = the squared distance of unit vectors.
    for margin, ours in ((0.3, "0.3"), (0.0, "soft")):
        golden.add(f"fast_reid_hard_{ours}", lib, f"triplet_loss(margin={margin}, hard_mining)", batch,
                   lambda x, y: triplet_loss(x, y, margin, False, True), "batch_hard", ours)
        golden.add(f"fast_reid_hard_unit_{ours}", lib, f"triplet_loss(margin={margin}, norm_feat, hard_mining)",
                   unit_batch, lambda x, y: triplet_loss(x, y, margin, True, True), "batch_hard",
                   "0.15" if margin else "soft", "cosine", **({} if margin else {"soft_scale": 2}))
        golden.add(f"fast_reid_weighted_{ours}", lib, f"triplet_loss(margin={margin})", batch,
                   lambda x, y: triplet_loss(x, y, margin, False, False), "adaptive_weights", ours,
                   softmax_weights="fast_reid")
    for case in golden.cases:
        if case["name"] == "fast_reid_hard_unit_0.3":
            # [2 z + 0.3]+ = 2 [z + 0.15]+
            case["value"] /= 2
            case["gradient"] = [[g / 2 for g in row] for row in case["gradient"]]
            case["call"] += " / 2"

    def triplet_reid(margin):
        def loss(x, y):
            dists = ((x.unsqueeze(1) - x.unsqueeze(0)).square().sum(-1) + 1e-12).sqrt()
            same = y.unsqueeze(1) == y.unsqueeze(0)
            positive = same ^ torch.eye(len(y), dtype=torch.bool)
            furthest = (dists * positive).max(1).values
            closest = dists.masked_fill(same, float("inf")).min(1).values
            diff = furthest - closest
            bent = torch.nn.functional.softplus(diff) if margin == "soft" else torch.relu(diff + margin)
            return bent.mean()
        return loss

    for margin in (0.2, "soft"):
        golden.add(f"triplet_reid_{margin}", "triplet-reid, from its formula", f"batch_hard(margin={margin!r})", batch,
                   triplet_reid(margin), "batch_hard", str(margin))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pml", required=True)
    parser.add_argument("--fast-reid", required=True)
    parser.add_argument("--output", default=str(pathlib.Path(__file__).with_name("losses.json")))
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    pml, triplet_loss = load_pml(args.pml), load_fast_reid(args.fast_reid)
    golden = Golden()
    add_pml(golden, pml, golden.batch("uneven", LABELS, 7, False))
    add_pxk(golden, pml, triplet_loss, golden.batch("pxk", PXK_LABELS, 11, False),
            golden.batch("pxk_unit", PXK_LABELS, 13, True))
    lines = ["{\"batches\": {"]
    lines.append(",\n".join(f" {json.dumps(name)}: {json.dumps(batch)}" for name, batch in golden.batches.items()))
    lines.append("},\n\"cases\": [")
    lines.append(",\n".join(" " + json.dumps(case) for case in golden.cases))
    lines.append("]}")
    pathlib.Path(args.output).write_text("\n".join(lines) + "\n")
    print(f"{len(golden.cases)} cases")


if __name__ == "__main__":
    main()
