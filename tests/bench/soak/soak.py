"""A miner that serves for a long time while clients and the miner itself are killed and identities are clustered again.

Light clients share one dynamic work group; a few real doppel-trainers train beside them, each on a plan of its own. Clients and
trainers are killed (SIGKILL) all the time, the miner in the first half; the second half, in which it lives on, gives the slope
of its memory. Ends with 1 if a batch was lost or counted twice. All of it on loopback.
"""
import argparse
import collections
import json
import os
import pathlib
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("DOPPEL_BIN", ROOT / "build/release/bin"))
sys.path.insert(0, str(ROOT / "tests/bench/flood"))
from flood import load_stubs, modules  # noqa: E402

GROUP = "soak"


class Client:
    """Pulls, "trains", acknowledges, comes back. Says what it did, a line at a time, before it tells the miner."""

    def __init__(self, options):
        self.options = options
        self.grpc, self.batches, self.services, self.types = modules(options.stubs)
        self.log = open(options.log, "a", buffering=1)
        self.chance = random.Random(options.seed)
        self.unconfirmed, self.stopping = set(), False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))

    def spec(self):
        spec = self.batches.StreamSpec(
            plan=self.types.PlanSpec(name="auto", identities_per_batch=16, samples_per_identity=2),
            payload=self.types.PAYLOAD_KIND_ENCODED, client_name="soak")
        spec.sharing.mode = self.batches.WorkSharing.MODE_DYNAMIC
        spec.sharing.group = GROUP
        spec.sharing.lease_seconds = 20
        return spec

    def one_stream(self):
        requests, request = queue.Queue(), self.batches.StreamBatchesRequest
        requests.put(request(open=self.spec()))
        opened = time.time()
        with self.grpc.insecure_channel(self.options.client) as channel:
            call = self.services.BatchServiceStub(channel).StreamBatches(iter(requests.get, None), timeout=600)
            try:
                for response in call:
                    if response.HasField("opened"):
                        for cursor in sorted(self.unconfirmed):
                            requests.put(request(acknowledge_cursor=cursor))
                        if not self.stopping:
                            requests.put(request(credits=2))
                    elif response.HasField("acknowledged"):
                        answer = response.acknowledged
                        self.unconfirmed.discard(answer.cursor)
                        print("confirmed", answer.cursor, int(answer.first), time.time(), file=self.log)
                    elif response.batch.part_index + 1 == response.batch.part_count:
                        time.sleep(self.chance.uniform(0, 2 * self.options.pace))  # the training
                        cursor = response.batch.cursor
                        print("trained", cursor, response.batch.generation, opened, file=self.log)
                        self.unconfirmed.add(cursor)
                        requests.put(request(acknowledge_cursor=cursor))
                        if not self.stopping:
                            requests.put(request(credits=1))
                    if self.stopping and not self.unconfirmed:
                        return True
            finally:
                requests.put(None)
                call.cancel()
        return self.stopping and not self.unconfirmed

    def run(self):
        while True:
            try:
                if self.one_stream():
                    return
            except self.grpc.RpcError as error:
                # A stream has a deadline of ten minutes: whoever lives that long opens the next.
                if error.code() not in (self.grpc.StatusCode.UNAVAILABLE, self.grpc.StatusCode.CANCELLED,
                                        self.grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                time.sleep(0.2)


class Soak:
    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)
        self.chance = random.Random(options.seed)
        self.stubs = self.folder / "stubs"
        self.stubs.mkdir()
        load_stubs(str(self.stubs))
        self.grpc = modules(str(self.stubs))[0]
        from doppel.v1 import mining_pb2, mining_pb2_grpc
        self.mining, self.mining_services = mining_pb2, mining_pb2_grpc
        self.kills = collections.Counter()
        self.refused_reclusters = 0
        self.memory = []  # (seconds since the start, life of the miner, RssAnon, VmRSS, heap in use in MiB)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.http_port = unused.getsockname()[1]
        self.life = 0
        self.address = "127.0.0.1:0"
        self.processes = {}  # name → (process, how often it was started)
        self.failures = []
        self.broken = threading.Event()

    def path(self, name):
        return self.folder / name

    def log(self, name):
        return open(self.path(name + ".log"), "ab")

    # The miner.
    def start_miner(self):
        address_file = self.path("address")
        address_file.unlink(missing_ok=True)
        with self.log("miner") as log:
            self.miner = subprocess.Popen(
                [BIN / "doppel-miner", "serve", "--catalog", self.options.catalog, "--state", self.path("state"), "--listen",
                 self.address, "--address-file", address_file, "--http-port", str(self.http_port), "--keep-generations", "2",
                 "--embedder-threads", "1", "--log-level", "warning"], stdout=log, stderr=log)
        while not (address_file.exists() and address_file.read_text().strip()):
            if self.miner.poll() is not None:
                sys.exit("soak: doppel-miner did not start:\n" + self.path("miner.log").read_text()[-2000:])
            time.sleep(0.02)
        self.address = address_file.read_text().strip()
        self.life += 1

    def control(self, method, request, timeout=20):
        with self.grpc.insecure_channel(self.address) as channel:
            return getattr(self.mining_services.MiningServiceStub(channel), method)(request, timeout=timeout)

    def recluster(self):
        request = self.mining.ReclusterRequest(model_path=str(self.options.model), subspaces=self.chance.randrange(4, 12),
                                               min_size=16, neighbours=8, seed=self.chance.randrange(1000))
        try:
            self.control("Recluster", request)
        except self.grpc.RpcError:
            self.refused_reclusters += 1  # one is running, or the miner is just coming back

    # Clients and trainers.
    def start(self, name):
        starts = self.processes[name][1] + 1 if name in self.processes else 1
        if name.startswith("client"):
            command = [sys.executable, __file__, "--client", self.address, "--stubs", self.stubs, "--log",
                       self.path(f"{name}.lines"), "--seed", str(self.chance.randrange(2**32)), "--pace",
                       str(self.options.pace)]
        else:
            command = [BIN / "doppel-trainer", "train", "--server", self.address, "--output", self.path(name), "--model",
                       self.options.model, "--plan", "auto", "-P", "8", "-K", "2", "--steps", "100000000", "--threads", "1",
                       "--checkpoint-every", "20", "--seed", name[-1], "-q"]
        with self.log(name) as log:
            process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        self.processes[name] = (process, starts)

    def kill_someone(self):
        name = self.chance.choice(sorted(self.processes))
        self.processes[name][0].kill()
        self.processes[name][0].wait()
        self.kills["trainer" if name.startswith("trainer") else "client"] += 1
        # A torn last line is the kill's, not the next one's.
        self.start(name)

    def look_after(self):
        for name, (process, _) in list(self.processes.items()):
            if process.poll() is not None:
                self.failures.append(f"{name} ended by itself with {process.returncode}: "
                                     + self.path(name + ".log").read_text(errors="replace")[-500:])
                self.start(name)
        if self.miner.poll() is not None:
            self.failures.append(f"the miner ended by itself with {self.miner.returncode}: "
                                 + self.path("miner.log").read_text(errors="replace")[-2000:])
            self.start_miner()

    def sample_memory(self, now):
        try:
            status = pathlib.Path(f"/proc/{self.miner.pid}/status").read_text()
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5) as answer:
                heap = re.search(r"^doppel_miner_heap_in_use_bytes (\S+)", answer.read().decode(), re.MULTILINE)
        except OSError:
            return
        def mib(key):
            return int(status.split(key + ":")[1].split()[0]) / 1024
        if "RssAnon:" in status:
            self.memory.append((now, self.life, mib("RssAnon"), mib("VmRSS"), float(heap.group(1)) / 2**20))

    def run(self):
        options, length = self.options, 60 * self.options.minutes
        self.start_miner()
        for number in range(options.trainers - options.real_trainers):
            self.start(f"client-{number}")
        for number in range(options.real_trainers):
            self.start(f"trainer-{number}")
        began = time.monotonic()
        miner_deaths = sorted(self.chance.uniform(0.1, 0.5) * length for _ in range(options.miner_kills))
        due = {"recluster": 5, "kill": 10 + options.kill_every, "memory": 0, "look": 1}
        while (now := time.monotonic() - began) < length:
            if miner_deaths and now >= miner_deaths[0]:
                miner_deaths.pop(0)
                self.miner.kill()
                self.miner.wait()
                self.kills["miner"] += 1
                self.start_miner()
            if now >= due["recluster"]:
                self.recluster()
                due["recluster"] = now + options.recluster_every
            if now >= due["kill"]:
                self.kill_someone()
                due["kill"] = now + self.chance.uniform(0.5, 1.5) * options.kill_every
            if now >= due["memory"]:
                self.sample_memory(now)
                due["memory"] = now + 2
            if now >= due["look"]:
                self.look_after()
                due["look"] = now + 1
            time.sleep(0.05)
        operations = self.control("ListOperations", self.mining.ListOperationsRequest()).operations
        states = collections.Counter(self.mining.Operation.State.Name(o.state)[len("STATE_"):].lower() for o in operations)
        self.stop()
        return length, states

    def stop(self):
        for process, _ in self.processes.values():
            process.terminate()
        for name, (process, _) in self.processes.items():
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                self.failures.append(f"{name} did not stop")
                process.kill()
                process.wait()
        self.miner.terminate()
        try:
            self.miner.wait(60)
        except subprocess.TimeoutExpired:
            self.failures.append("the miner did not stop")
            self.miner.kill()
            self.miner.wait()

    def close(self):
        for process in [self.miner, *(process for process, _ in self.processes.values())]:
            if process.poll() is None:
                process.kill()
                process.wait()

    # What came of it.
    def dynamic_figures(self):
        trained, firsts, confirmed_at, again = collections.Counter(), collections.Counter(), {}, 0
        generations, opened_at = set(), []
        for file in self.folder.glob("client-*.lines"):
            for line in file.read_text().split("\n"):
                words = line.split()
                if len(words) != 4:
                    continue  # torn by a kill
                word, cursor, number, at = words[0], int(words[1]), int(words[2]), float(words[3])
                if word == "trained":
                    trained[cursor] += 1
                    generations.add(number)
                    opened_at.append((cursor, at))
                elif word == "confirmed":
                    firsts[cursor] += number
                    confirmed_at[cursor] = min(at, confirmed_at.get(cursor, at))
        # Given out on a stream that was opened after everybody could know that it is done.
        again = sum(cursor in confirmed_at and opened > confirmed_at[cursor] for cursor, opened in opened_at)
        top = max(confirmed_at, default=-1)
        lost = sum(trained[cursor] == 0 for cursor in range(top + 1))
        return {"cursors": top + 1, "batches_trained": sum(trained.values()), "generations_seen": len(generations - {0}),
                "lost": lost, "duplicated": sum(times > 1 for times in firsts.values()) + again,
                "trained_again_after_a_death": sum(times - 1 for times in trained.values() if times > 1)}

    def trainer_figures(self):
        """A trainer that is killed goes on from its checkpoint: its steps are one sequence without gap or repetition."""
        steps, lost, duplicated = 0, 0, 0
        for file in self.folder.glob("trainer-*/steps.jsonl"):
            cursors = [json.loads(line)["cursor"] for line in file.read_text().split("\n")[:-1]]
            steps += len(cursors)
            lost += len(set(range(max(cursors, default=-1) + 1)) - set(cursors))
            duplicated += len(cursors) - len(set(cursors))
        return {"steps": steps, "lost": lost, "duplicated": duplicated}

    def memory_figures(self, length):
        """Of the miner's last life: least squares over what comes after the warm-up."""
        life = [point for point in self.memory if point[1] == self.life]
        begin = life[0][0] + min(self.options.warm_up, (length - life[0][0]) / 3)
        points = [point for point in life if point[0] >= begin]

        def line(column):
            times, values = [point[0] / 60 for point in points], [point[column] for point in points]
            mean_x, mean_y = sum(times) / len(times), sum(values) / len(values)
            spread = sum((x - mean_x) ** 2 for x in times)
            slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(times, values)) / max(spread, 1e-9)
            return {"slope_mib_per_minute": slope, "first_mib": values[0], "last_mib": values[-1], "largest_mib": max(values)}

        return {"minutes": (points[-1][0] - points[0][0]) / 60, "samples": len(points), "held": line(2), "in_use": line(4),
                "largest_resident_mib": max(point[3] for point in life),
                "second_held_in_use": [[round(point[0]), round(point[2], 1), round(point[4], 1)] for point in life[::5]]}


def make_data(folder):
    subprocess.run(["cmake", "--build", ROOT / "build/release", "--target", "doppel-glyphs"], check=True,
                   stdout=subprocess.DEVNULL)
    for command in ([BIN / "doppel-glyphs", "--out", folder / "glyphs", "--identities", "2000", "--test-identities", "60"],
                    [BIN / "doppel", "import", "webdataset", folder / "glyphs", "--catalog", folder / "catalog"],
                    [BIN / "doppel-trainer", "init", "--architecture", "glyph_cnn", "--output", folder / "model"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "catalog", folder / "model"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", default="soak.json")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--trainers", type=int, default=32, help="light clients and real trainers together")
    parser.add_argument("--real-trainers", type=int, default=2, help="of them, doppel-trainer processes")
    parser.add_argument("--pace", type=float, default=0.2, help="mean seconds that a light client takes for a batch")
    parser.add_argument("--kill-every", type=float, default=5, help="mean seconds between kills of clients")
    parser.add_argument("--miner-kills", type=int, default=4, help="in the first half")
    parser.add_argument("--recluster-every", type=float, default=20, help="seconds")
    parser.add_argument("--warm-up", type=float, default=300, help="seconds of a miner's life before its memory counts")
    parser.add_argument("--catalog", type=pathlib.Path, help="default: 2 000 glyphs are made")
    parser.add_argument("--model", type=pathlib.Path, help="model directory that fits the catalog")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for logs and state (default: a temporary one, removed)")
    for name in ("--client", "--stubs", "--log"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        return Client(options).run()
    options.seed = options.seed if options.seed is not None else random.randrange(2**32)
    with tempfile.TemporaryDirectory(prefix="doppel-soak-") as temporary:
        folder = pathlib.Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.catalog is None or options.model is None:
            options.catalog, options.model = make_data(folder)
        soak = Soak(options, folder)
        try:
            length, states = soak.run()
        finally:
            soak.close()
        dynamic, trainers, memory = soak.dynamic_figures(), soak.trainer_figures(), soak.memory_figures(length)
    report = {"minutes": options.minutes, "trainers": options.trainers, "real_trainers": options.real_trainers,
              "seed": options.seed, "batches_served": dynamic["batches_trained"] + trainers["steps"],
              "kills": dict(soak.kills), "reclusterings": dict(states), "dynamic": dynamic, "trainer_processes": trainers,
              "lost": dynamic["lost"] + trainers["lost"], "duplicated": dynamic["duplicated"] + trainers["duplicated"],
              "miner_memory": memory, "failures": soak.failures}
    pathlib.Path(options.out).write_text(json.dumps(report, indent=1) + "\n")
    print(f"{options.minutes:g} minutes, {options.trainers} trainers ({options.real_trainers} of them doppel-trainer), seed "
          f"{options.seed}\n| what | figure |\n| --- | --- |")
    for what, figure in (
            ("batches served", report["batches_served"]),
            ("kills: clients, trainers, miner", f"{soak.kills['client']}, {soak.kills['trainer']}, {soak.kills['miner']}"),
            ("re-clusterings that succeeded", states["succeeded"]),
            ("generations that batches came from", dynamic["generations_seen"]),
            ("lost", report["lost"]), ("duplicated", report["duplicated"]),
            ("done again because somebody died with it", dynamic["trained_again_after_a_death"]),
            *((f"miner's {what} over its last {memory['minutes']:.1f} minutes",
               f"{memory[key]['slope_mib_per_minute']:+.2f} MiB per minute ({memory[key]['first_mib']:.0f} → "
               f"{memory[key]['last_mib']:.0f} MiB, at most {memory[key]['largest_mib']:.0f})")
              for what, key in (("heap in use", "in_use"), ("memory (anonymous, malloc's reserve included)", "held"))),
            ("ended by themselves, hung", len(soak.failures))):
        print(f"| {what} | {figure} |")
    for failure in soak.failures[:5]:
        print(failure)
    return 1 if report["lost"] or report["duplicated"] or soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
