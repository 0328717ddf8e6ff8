"""kill -9 of the real miner at random moments of every phase: what it acknowledged must be there afterwards.

    DOPPEL_BIN=build/release/bin DOPPEL_TEST_DATA=build/release/integration-data \\
      /usr/bin/python3 tests/bench/kills/kills.py --kills 100 --output kills.json
"""
import argparse
import collections
import json
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "integration"))
from harness import BIN, CATALOG, MODEL, Miner, grpc, mining, run, spec, wait_for  # noqa: E402

PHASES = ("start", "embed", "cluster", "publish", "journal", "idle")


class Told:
    """What the miner acknowledged, and the one call that it has not answered."""

    def __init__(self):
        self.operations, self.published, self.retirable = [], set(), set()
        self.active, self.next_active = 0, 0
        self.pinned, self.next_pinned = {}, None
        self.policy, self.next_policy = 0, 0
        self.batches = {}


class Kills:
    def __init__(self, folder, seed):
        self.random = random.Random(seed)
        self.told = Told()
        self.by_phase = collections.Counter()
        self.reclusterings = 0
        self.miner = Miner(pathlib.Path(folder) / "state", "--lease-identities", "32", "--keep-generations", "3",
                           "--control-rpcs-per-second", "100000", "--control-rpc-burst", "100000")

    def stub(self):
        return self.miner.mining

    # ---- what goes on while it is killed

    def recluster(self, stop):
        request = mining.ReclusterRequest(model_path=str(MODEL), subspaces=self.random.choice((4, 5, 6)), min_size=16,
                                          seed=self.random.randrange(1000), iterations=30,
                                          samples_per_identity=self.random.choice((1, 2, 3)))
        operation = self.stub().Recluster(request, timeout=30).operation
        self.told.operations.append(operation.id)
        self.watch(operation.id, stop)

    def watch(self, operation_id, stop):
        while not stop.is_set():
            operation = self.stub().GetOperation(mining.GetOperationRequest(id=operation_id), timeout=10).operation
            self.phase = operation.phase or self.phase
            self.told.next_active = operation.generation or self.told.next_active
            if operation.state == mining.Operation.STATE_SUCCEEDED:
                self.told.published.add(operation.generation)
                self.told.active = self.told.next_active = operation.generation
                self.reclusterings += 1
                return
            assert operation.state == mining.Operation.STATE_RUNNING, operation

    def steer(self, stop):
        """Journal writes, one after the other."""
        listed = [g.generation for g in self.stub().ListGenerations(mining.ListGenerationsRequest(), timeout=10).generations]
        while not stop.is_set():
            number = self.random.choice(listed)
            what = self.random.randrange(3)
            if what == 0:
                self.told.next_active = number
                self.stub().ActivateGeneration(mining.ActivateGenerationRequest(generation=number), timeout=10)
                self.told.active = number
            elif what == 1:
                pinned = self.random.random() < 0.5
                self.told.next_pinned = (number, pinned)
                self.stub().PinGeneration(mining.PinGenerationRequest(generation=number, pinned=pinned), timeout=10)
                self.told.pinned[number] = pinned
            else:
                self.told.next_policy = self.random.randrange(10**6, 10**9)
                policy = mining.ReclusterPolicySpec(every_batches=self.told.next_policy, min_interval_seconds=10**6)
                self.stub().SetPolicy(mining.SetPolicyRequest(policy=policy), timeout=10)
                self.told.policy = self.told.next_policy

    # ---- one kill

    def kill_in(self, phase):
        self.phase = ""
        stop, failure = threading.Event(), []

        def work():
            try:
                (self.steer if phase in ("journal", "idle") else self.recluster)(stop)
            except grpc.RpcError as error:
                if not stop.is_set() and error.code() != grpc.StatusCode.UNAVAILABLE:
                    failure.append(error)
            except Exception as error:  # told to whoever runs this
                failure.append(error)

        worker = threading.Thread(target=work)
        if phase != "idle":
            worker.start()
        if phase in ("embed", "cluster", "publish"):
            end = time.monotonic() + 60
            names = {"publish": ("publish",), "cluster": ("cluster", "neighbours")}.get(phase, (phase,))
            while self.phase not in names and worker.is_alive() and time.monotonic() < end:
                time.sleep(0.0005)
        time.sleep(self.random.random() * (0.2 if phase in ("journal", "start") else 0.05))
        self.by_phase[phase if phase in ("journal", "idle", "start") else (self.phase or "start")] += 1
        stop_before = self.miner.process
        stop_before.kill()
        stop.set()
        stop_before.wait()
        if phase != "idle":
            worker.join()
        self.miner.channel.close()
        if failure:
            raise AssertionError(f"phase {phase}: {failure[0]}")

    def check(self):
        told = self.told
        fsck = run(BIN / "doppel", "fsck", "--state", self.miner.state, "-o", "json", check=False)
        report = json.loads(fsck.stdout)["state"]
        assert report["damage"] == 0, report
        self.miner.start()
        generations = {g.generation: g for g in
                       self.stub().ListGenerations(mining.ListGenerationsRequest(), timeout=10).generations}
        active = [g.generation for g in generations.values() if g.active]
        known = {o.id for o in self.stub().ListOperations(mining.ListOperationsRequest(), timeout=10).operations}
        assert known.issuperset(told.operations), (known, told.operations)
        now = (active or [0])[0]
        # A generation that was on its way may have come, or come since the start.
        assert now in (told.active, told.next_active) or now > max(told.published), (now, told.active, told.next_active)
        # Older ones may have been retired for it.
        kept = sorted(told.published)[-2:]
        assert generations.keys() >= set(kept), (generations.keys(), kept)
        for number, pinned in told.pinned.items():
            if told.next_pinned and told.next_pinned[0] == number:
                continue
            assert number not in generations or generations[number].pinned == pinned, number
        policy = self.stub().GetPolicy(mining.GetPolicyRequest(), timeout=10).policy.every_batches
        assert policy in (told.policy, told.next_policy), (policy, told.policy, told.next_policy)
        # What was under way is decided now.
        told.policy = told.next_policy = policy
        told.pinned = {n: g.pinned for n, g in generations.items()}
        self.settle()
        return report

    def settle(self):
        """A job that was cut off goes on by itself; then what is served is the same as ever."""
        told = self.told
        for operation in self.stub().ListOperations(mining.ListOperationsRequest(), timeout=10).operations:
            if operation.state == mining.Operation.STATE_RUNNING:
                done = self.miner.wait(operation.id)
                self.reclusterings += 1
                told.published.add(done.generation)
        for generation in self.stub().ListGenerations(mining.ListGenerationsRequest(), timeout=10).generations:
            told.published.add(generation.generation)
            if generation.active:
                told.active = told.next_active = generation.generation
        if told.active:
            got = [b.SerializeToString() for b in
                   self.miner.stream(spec("subspace", p=4, k=2, generation=told.active), 2)]
            assert told.batches.setdefault(told.active, got) == got, f"generation {told.active} serves other batches"

    def run(self, kills):
        self.miner.recluster(subspaces=4, min_size=16)
        self.settle()
        unfinished = 0
        for i in range(kills):
            self.kill_in(PHASES[i % len(PHASES)])
            unfinished += self.check()["unfinished"]
        self.miner.close()
        return {"kills": kills, "by_phase": dict(self.by_phase), "reclusterings": self.reclusterings,
                "generations_compared": len(self.told.batches), "unfinished_records": unfinished, "lost": 0}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="doppel-kills-")
    started = time.monotonic()
    try:
        kills = Kills(folder, arguments.seed)
        figures = kills.run(arguments.kills)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(figures, indent=2))
    if arguments.output:
        pathlib.Path(arguments.output).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
