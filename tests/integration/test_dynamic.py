"""Dynamic work sharing: trainers and the miner die at bad moments, no cursor is lost or counted twice."""
import collections
import json
import pathlib
import queue
import random
import struct
import subprocess
import sys
import time

from harness import BIN, DATA, DoppelTest, batches, batches_pb2_grpc, grpc, spec, wait_for

sys.path.insert(0, str(DATA / "stubs"))
from doppel.v1 import storage_pb2 as storage  # noqa: E402

GROUP = "run-1"


class Client:
    """One trainer: pulls, "trains", acknowledges, comes back. Writes what it sees, a line at a time."""

    def __init__(self, address, log, end, seed):
        self.address, self.end = address, end
        self.log = open(log, "a", buffering=1)
        self.random = random.Random(seed)
        self.unconfirmed = set()

    def request_spec(self):
        request = spec(p=4, k=2)
        request.sharing.mode = batches.WorkSharing.MODE_DYNAMIC
        request.sharing.group = GROUP
        request.sharing.end_cursor = self.end
        request.sharing.lease_seconds = 20
        return request

    def one_stream(self):
        requests = queue.Queue()
        requests.put(batches.StreamBatchesRequest(open=self.request_spec()))
        with grpc.insecure_channel(self.address) as channel:
            call = batches_pb2_grpc.BatchServiceStub(channel).StreamBatches(iter(requests.get, None), timeout=120)
            for response in call:
                if response.HasField("opened"):
                    for cursor in self.unconfirmed:
                        requests.put(batches.StreamBatchesRequest(acknowledge_cursor=cursor))
                    requests.put(batches.StreamBatchesRequest(credits=2))
                elif response.HasField("acknowledged"):
                    answer = response.acknowledged
                    self.unconfirmed.discard(answer.cursor)
                    print("confirmed", answer.cursor, int(answer.first), file=self.log)
                elif response.batch.part_index + 1 == response.batch.part_count:
                    cursor = response.batch.cursor
                    print("trained", cursor, 0, file=self.log)
                    time.sleep(self.random.uniform(0, 0.01))  # the training
                    self.unconfirmed.add(cursor)
                    requests.put(batches.StreamBatchesRequest(acknowledge_cursor=cursor))
                    requests.put(batches.StreamBatchesRequest(credits=1))
            requests.put(None)
        return not self.unconfirmed

    def run(self):
        while True:
            try:
                if self.one_stream():
                    return
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
                time.sleep(0.05)


def journal(state):
    """The acknowledgements that the miner has on disk, in order."""
    data = (state / "work_groups" / (GROUP + ".rec")).read_bytes()
    assert data[:8] == b"DPLREC01"
    at, cursors = 8, []
    while at < len(data):
        size, _ = struct.unpack_from("<II", data, at)
        update = storage.WorkGroupUpdate.FromString(data[at + 8:at + 8 + size])
        cursors += update.acknowledged.cursors
        at += 8 + size
    return cursors


class DynamicTest(DoppelTest):
    def start_client(self, miner, number, end):
        log = self.folder / f"client-{number}"
        process = subprocess.Popen([sys.executable, __file__, miner.address, log, str(end), str(number)])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def lines(self):
        for log in sorted(self.folder.glob("client-*")):
            for line in log.read_text().split("\n")[:-1]:
                word, cursor, first = line.split()
                yield word, int(cursor), int(first)

    def trained(self):
        return sum(word == "trained" for word, _, _ in self.lines())

    def test_eight_trainers_three_and_the_miner_killed(self):
        end = 600
        miner = self.start_miner("--embedders", "0")
        clients = [self.start_client(miner, number, end) for number in range(8)]
        chance = random.Random(time.time_ns())
        victims = chance.sample(clients, 3)
        events = sorted(chance.sample(range(20, end - 100), 4))
        miner_dies = chance.randrange(4)
        print("killing at", events, "the miner at event", miner_dies)
        for number, trained in enumerate(events):
            wait_for(lambda: self.trained() >= trained, f"{trained} batches trained")
            if number == miner_dies:
                miner.kill()
                miner.start()
            else:
                victims.pop().kill()
        for client in clients:
            client.wait(timeout=120)
        self.assertEqual(3, sum(client.returncode == -9 for client in clients))
        self.assertEqual(5, sum(client.returncode == 0 for client in clients))

        acknowledged = journal(pathlib.Path(miner.state))
        self.assertEqual(list(range(end)), sorted(acknowledged))  # every one, and once
        trained, first = collections.Counter(), collections.Counter()
        for word, cursor, is_first in self.lines():
            trained[cursor] += word == "trained"
            first[cursor] += word == "confirmed" and is_first
        self.assertEqual(set(range(end)), {cursor for cursor, times in trained.items() if times > 0})
        self.assertLessEqual(max(first.values()), 1)
        self.assertLess(sum(trained.values()), end + 120)  # the same work twice only where somebody died

    def test_two_then_three_then_one_trainer_processes_are_one_sequence(self):
        miner = self.start_miner("--embedders", "0")
        outputs = [self.folder / f"trainer-{number}" for number in range(3)]

        def start(output):
            log = open(f"{output}.log", "wb")
            self.addCleanup(log.close)
            process = subprocess.Popen(
                [BIN / "doppel-trainer", "train", "--server", miner.address, "--output", output, "--plan", "random",
                 "-P", "4", "-K", "2", "--seed", "5", "--steps", "10000", "--threads", "1", "--sharing", "dynamic",
                 "--group", GROUP, "-q"], stdout=log, stderr=log)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            return process

        def steps(output):
            file = output / "steps.jsonl"
            lines = file.read_text().split("\n")[:-1] if file.exists() else []
            return [json.loads(line) for line in lines]

        def cursors(*which):
            return sorted(step["cursor"] for output in which for step in steps(output))

        def stop(trainer, output):
            trainer.terminate()
            self.assertEqual(0, trainer.wait(timeout=60), pathlib.Path(f"{output}.log").read_text())

        trainers = [start(output) for output in outputs[:2]]
        for output in outputs[:2]:
            wait_for(lambda: steps(output), "both trainers train")
        trainers.append(start(outputs[2]))
        wait_for(lambda: steps(outputs[2]), "the third trains")
        for trainer, output in zip(trainers[:2], outputs[:2]):
            stop(trainer, output)
        left_at = cursors(*outputs)[-1]  # what the two gave back comes before what is far behind this
        wait_for(lambda: cursors(outputs[2])[-1] > left_at + 20, "the third goes on alone")
        stop(trainers[2], outputs[2])

        trained, acknowledged = cursors(*outputs), journal(pathlib.Path(miner.state))
        self.assertEqual(list(range(trained[-1] + 1)), sorted(set(trained)))  # one sequence, nothing left out
        # Who is told to stop in the middle of a step finishes it; the group does that one again.
        self.assertLessEqual(len(trained) - len(set(trained)), 2)
        self.assertEqual(list(range(len(acknowledged))), sorted(acknowledged))
        self.assertLessEqual(len(set(trained)) - len(acknowledged), 1)

    def test_two_then_three_then_one_static_trainers_are_one_sequence(self):
        miner = self.start_miner("--embedders", "0")

        def shard(shard, shards, cursor, count):
            request = spec(p=4, k=2, cursor=cursor)
            request.sharing.mode = batches.WorkSharing.MODE_STATIC
            request.sharing.shard, request.sharing.shards = shard, shards
            return miner.stream(request, count)

        got = [b for s in range(2) for b in shard(s, 2, 0, 5)]
        got += [b for s in range(3) for b in shard(s, 3, 10, 4)]
        got += shard(0, 1, 22, 3)
        got.sort(key=lambda batch: batch.cursor)
        wanted = miner.stream(spec(p=4, k=2), 25)
        self.assertEqual([b.SerializeToString() for b in wanted], [b.SerializeToString() for b in got])


if __name__ == "__main__":
    Client(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()
