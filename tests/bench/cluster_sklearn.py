#!/usr/bin/python3
"""scikit-learn's KMeans over the rows that bench_cluster kept (--keep DIR): time, objective and peak memory, printed and
added to its report (--against FILE). Same rows and iterations. Its k-means is not spherical; the objective printed is that of
its centroids scaled to unit length, as the others'.

Needs Debian's python3-sklearn."""
import argparse
import json
import pathlib
import time

import numpy
from sklearn.cluster import KMeans


def status_megabytes(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0


def objective(rows, centroids):
    centroids = centroids / numpy.maximum(numpy.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    return sum(float((1.0 - (rows[i:i + 8192] @ centroids.T).max(axis=1)).sum(dtype=numpy.float64))
               for i in range(0, len(rows), 8192))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=pathlib.Path, required=True)
    parser.add_argument("--against", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    report = json.loads(arguments.against.read_text())
    loaded = {}
    for row in report["rows"]:
        path = arguments.keep / f"rows-{row['dimension']}.npy"
        if "doppel" not in row or not path.exists():
            continue
        if path not in loaded:
            loaded = {path: numpy.load(path)}
        rows, m, iterations = loaded[path], row["subspaces"], row["iterations"]
        if len(rows) != row["identities"]:
            continue
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        there, start = status_megabytes("VmRSS"), time.perf_counter()
        kmeans = KMeans(n_clusters=m, init="random", n_init=1, max_iter=iterations, tol=0, algorithm="lloyd",
                        random_state=0).fit(rows)
        seconds = time.perf_counter() - start
        peak = 1 + (status_megabytes("VmHWM") - there) / (rows.nbytes / 2**20)
        value = objective(rows, kmeans.cluster_centers_)
        row["sklearn"] = {"seconds": seconds, "objective": value, "peak_over_rows_ratio": peak}
        ours = row["doppel"]
        key = f"_M{m}_D{row['dimension']}"
        report["ratios"]["speed_over_sklearn" + key] = seconds / ours["seconds"]
        report["ratios"]["objective_over_sklearn" + key] = ours["objective"] / value
        name = f"{len(rows)} x {row['dimension']}, {m}, {iterations}"
        print(f"{name:<26} {'scikit-learn':<24} {seconds:9.3f} {'':9} {row['faiss']['seconds'] / seconds:7.2f} "
              f"{value:13.1f} {value / row['faiss']['objective']:9.4f} {peak:7.2f}", flush=True)
    arguments.against.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
