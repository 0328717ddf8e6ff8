"""Makes golden.json and the .bin files beside it: small data, and the figures that each evaluation protocol gives for it.

Written from the protocols' definitions and from what the usual public implementations do, in float64, over whole distance
matrices and sorted rankings: nothing is shared with the code under test. Needs numpy. Run: python3 make.py
"""
import json
import pathlib
import pickle

import numpy as np

HERE = pathlib.Path(__file__).parent


def unit(x):
    x = np.asarray(x, np.float64)
    return (x / np.sqrt((x * x).sum(1, keepdims=True))).astype(np.float32).astype(np.float64)


def order_of(scores):
    """Best first, of equal ones the lower index."""
    return np.argsort(-scores, kind="stable")


def market(q, g, q_ids, g_ids, q_cams, g_cams, top):
    """Single query, as in the Market-1501 baseline: junk and same-camera images of the person leave the ranking."""
    cmc, ap, ap_market, inp = np.zeros(len(top)), [], [], []
    keep = g_ids != -1
    g, g_ids, g_cams = g[keep], g_ids[keep], g_cams[keep]
    for i in range(len(q)):
        order = order_of(g @ q[i])
        order = order[~((g_ids[order] == q_ids[i]) & (g_cams[order] == q_cams[i]))]
        hit = (g_ids[order] == q_ids[i]).astype(float)
        if hit.sum() == 0:
            continue
        precision = hit.cumsum() / (np.arange(len(hit)) + 1)
        ap.append((precision * hit).sum() / hit.sum())
        recall = hit.cumsum() / hit.sum()
        area, old_recall, old_precision = 0.0, 0.0, 1.0
        for r, p in zip(recall, precision):
            area += (r - old_recall) * (old_precision + p) / 2
            old_recall, old_precision = r, p
        ap_market.append(area)
        last = np.flatnonzero(hit)[-1]
        inp.append(hit.sum() / (last + 1))
        cmc += [hit[:k].any() for k in top]
    return {"queries": len(ap), "cmc": dict(zip(map(str, top), (cmc / len(ap)).tolist())), "ap_std": np.mean(ap),
            "ap_market": np.mean(ap_market), "minp": np.mean(inp)}


def retrieval(x, labels, top):
    """Each against all others; R = the others of the label; lone labels are left out."""
    recall, r_precision, map_at_r, full = np.zeros(len(top)), [], [], []
    for i in range(len(x)):
        order = order_of(x @ x[i])
        hit = (labels[order[order != i]] == labels[i]).astype(float)
        r = int(hit.sum())
        if r == 0:
            continue
        precision = hit.cumsum() / (np.arange(len(hit)) + 1)
        r_precision.append(hit[:r].mean())
        map_at_r.append((precision * hit)[:r].sum() / r)
        full.append((precision * hit).sum() / r)
        recall += [hit[:k].any() for k in top]
    return {"queries": len(full), "recall": dict(zip(map(str, top), (recall / len(full)).tolist())),
            "r_precision": np.mean(r_precision), "map_at_r": np.mean(map_at_r), "map": np.mean(full)}


def lfw(distance, same, folds, far_target):
    """facenet's evaluation: KFold without shuffling, thresholds arange(0, 4, 0.01), VAL on arange(0, 4, 0.001)."""
    thresholds, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    accuracy, best, val, far = [], [], [], []
    for test in np.array_split(np.arange(len(same)), folds):
        train = np.setdiff1d(np.arange(len(same)), test)
        right = [((distance[train] < t) == same[train]).mean() for t in thresholds]
        t = thresholds[int(np.argmax(right))]
        best.append(t)
        accuracy.append(((distance[test] < t) == same[test]).mean())
        far_train = np.array([(distance[train][~same[train]] < t).mean() for t in fine])
        t = np.interp(far_target, far_train, fine) if far_train.max() >= far_target else 0.0
        val.append((distance[test][same[test]] < t).mean())
        far.append((distance[test][~same[test]] < t).mean())
    return {"accuracy": np.mean(accuracy), "accuracy_std": np.std(accuracy),
            "standard_error": np.std(accuracy, ddof=1) / np.sqrt(folds), "val": np.mean(val), "val_std": np.std(val),
            "val_far": np.mean(far), "fold_accuracy": accuracy, "fold_threshold": best}


def verification(x, labels, targets):
    i, j = np.triu_indices(len(x), 1)
    score = (x[i] * x[j]).sum(1).astype(np.float32)
    genuine, impostor = score[labels[i] == labels[j]], np.sort(score[labels[i] != labels[j]])[::-1]
    tar, refused = {}, []
    for target in targets:
        allowed = int(np.floor(target * len(impostor) * (1 + 1e-12)))
        if allowed < 1:
            refused.append(target)
            continue
        # The lowest threshold that still keeps FAR at the target: accepted is what is above it.
        threshold = impostor[allowed] if allowed < len(impostor) else -np.inf
        tar["%g" % target] = float((genuine > threshold).mean())
    return {"positive_pairs": len(genuine), "negative_pairs": len(impostor), "tar": tar,
            "refused_far_targets": refused}


def distractors(x, labels):
    alone = np.array([(labels == label).sum() == 1 for label in labels])
    wins = [x[i] @ x[j] > (x[alone] @ x[i]).max() for i in range(len(x)) for j in range(len(x))
            if i != j and labels[i] == labels[j]]
    return {"pairs": len(wins), "distractors_available": int(alone.sum()),
            "rank1": {str(int(alone.sum())): float(np.mean(wins))}}


def coverage(x, labels, targets):
    score = x @ x.T
    np.fill_diagonal(score, -np.inf)
    nearest = score.argmax(1)  # the first of equal ones
    confidence, right = score.max(1), labels[nearest] == labels
    best = {}
    for target in targets:
        shares = [0.0] + [float((confidence >= t).mean()) for t in confidence if right[confidence >= t].mean() >= target]
        best["%g" % target] = max(shares)
    return {"queries": len(x), "accuracy": right.mean(), "coverage": best}


def plain(value):
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    random = np.random.RandomState(20170914)
    centres = random.randn(40, 8)
    labels = random.randint(0, 30, 90) - 1  # -1 is junk to Market-1501, an ordinary label elsewhere
    x = (centres[labels] + 0.8 * random.randn(90, 8)).astype(np.float32)
    x[50:60] = x[20:30]  # ties
    query_labels = random.randint(0, 33, 30) - 1
    queries = (centres[query_labels] + 0.8 * random.randn(30, 8)).astype(np.float32)
    cameras, query_cameras = random.randint(0, 3, 90), random.randint(0, 3, 30)
    pairs = [(i, j) for i in range(90) for j in range(i) if (labels[i] == labels[j]) or random.rand() < 0.03]
    pairs = [pairs[i] for i in random.permutation(len(pairs))]
    same = np.array([labels[i] == labels[j] for i, j in pairs])
    u, v = unit(x), unit(queries)
    distance = np.array([((u[i] - u[j]) ** 2).sum() for i, j in pairs])
    top, far = [1, 5, 10], [1e-6, 1e-3, 1e-2, 1e-1]
    golden = {
        "embeddings": x.astype(np.float64), "labels": labels, "cameras": cameras,
        "query_embeddings": queries.astype(np.float64), "query_labels": query_labels,
        "query_cameras": query_cameras, "pairs": [[i, j, int(s)] for (i, j), s in zip(pairs, same)],
        "top": top, "far": far, "precision": [0.95, 0.8, 0.5],
        "market1501": market(v, u, query_labels, labels, query_cameras, cameras, top),
        "retrieval": retrieval(u, labels, top),
        "lfw": lfw(distance, same, 10, 0.05),
        "verification": verification(u, labels, far),
        "identification_distractors": distractors(u, labels),
        "coverage": coverage(u, labels, [0.95, 0.8, 0.5]),
    }
    (HERE / "golden.json").write_text(json.dumps(plain(golden)) + "\n", encoding="utf-8")
    images = [bytes([i]) * (5 + 60 * i) + b"\xc3\xff\x00" for i in range(6)]
    for protocol in range(1, 6):
        data = pickle.dumps((images, [True, False, True]), protocol=protocol)
        (HERE / f"pairs_protocol{protocol}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
