"""Real trainers, embedders and command lines behind a network that delays, cuts, falls silent and drips.

DOPPEL_NETWORK_ROUNDS=N: more cuts, other places (the seed is printed); DOPPEL_NETWORK_PATIENCE=1: also what takes minutes.
"""
import json
import os
import pathlib
import queue
import random
import socket
import subprocess
import threading
import time
import unittest

from bad_network import BadNetwork, Fault, cut_at_random
from harness import BIN, MODEL, DoppelTest, Stream, batches, batches_pb2_grpc, grpc, mining, run, spec, wait_for
from test_dynamic import Client, journal
from test_faults import steps

ROUNDS = int(os.environ.get("DOPPEL_NETWORK_ROUNDS", "1"))
PATIENT = bool(os.environ.get("DOPPEL_NETWORK_PATIENCE"))
TRAINING = ("step", "loss", "active", "cursor", "generation", "subspace", "d_ap", "d_an", "lr")


def resident_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def vector_files(state):
    """What an embedding run has made: the arrays of the generation it ended in."""
    folder = sorted((state / "generations").glob("0*"))[-1]
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".npy", ".u32", ".u64", ".f32")}


class NetworkTest(DoppelTest):
    def network(self, miner, faults):
        seed = random.randrange(2**32) if ROUNDS > 1 else 1
        print("network seed", seed)
        network = BadNetwork(miner.address, faults, seed)
        self.addCleanup(network.close)
        return network

    def train(self, address, output, *flags, wanted=30):
        return run(BIN / "doppel-trainer", "train", "--server", address, "--output", output, "--model", MODEL, "--plan",
                   "random", "-P", "8", "-K", "2", "--loss", "batch_ohnm", "--negatives", "3", "--steps", str(wanted),
                   "--threads", "1", "--seed", "3", *flags, timeout=240)

    def test_training_through_cuts_and_delays_is_the_same_training(self):
        miner = self.start_miner("--embedders", "0")
        calm, hit = self.folder / "calm", self.folder / "hit"
        self.train(miner.address, calm)
        # 16 images of 700 bytes a batch: every few batches, wherever that is.
        network = self.network(miner, cut_at_random(5_000, 40_000, times=4 * ROUNDS, delay=0.004, chunk=1400))
        self.train(network.address, hit)
        self.assertEqual(4 * ROUNDS, network.cuts)
        one, other = steps(calm), steps(hit)
        self.assertEqual(30, len(one))
        for field in TRAINING:
            self.assertEqual([s[field] for s in one], [s[field] for s in other], field)
        print(network.cuts, "cuts,", network.connections, "connections")

    def test_an_embedding_run_through_cuts_makes_the_same_generation(self):
        flags = ("--lease-identities", "64", "--lease-seconds", "5", "--embedder-threads", "1")
        calm = self.start_miner(*flags, name="calm")
        calm.recluster(subspaces=4, min_size=16)
        hit = self.start_miner(*flags, "--embedders", "0", name="hit")
        # Images and the model come down, vectors go up: cuts in the middle of both.
        chance = random.Random(5)
        network = self.network(hit, lambda n: Fault(cut_after=chance.randrange(3_000, 300_000), upstream=n % 3 == 0)
                               if n < 6 * ROUNDS else None)
        embedder = subprocess.Popen([BIN / "doppel-embedder", "--miner", network.address, "--threads", "1", "--remote",
                                     "--cache", self.folder / "cache"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(embedder.wait)
        self.addCleanup(embedder.kill)
        hit.recluster(subspaces=4, min_size=16)
        self.assertGreaterEqual(network.cuts, 2)
        print(network.cuts, "cuts,", network.connections, "connections")
        self.assertEqual(vector_files(calm.state), vector_files(hit.state))

    def test_a_dynamic_group_through_cuts_acknowledges_exactly_once(self):
        end = 150 * ROUNDS
        miner = self.start_miner("--embedders", "0")
        logs = [self.folder / f"client-{number}" for number in range(4)]
        networks = [self.network(miner, cut_at_random(2_000, 60_000, seed=number)) for number in range(4)]
        clients = [Client(network.address, log, end, number) for number, (network, log) in enumerate(zip(networks, logs))]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=150)
            self.assertFalse(thread.is_alive(), "a client hangs")
        self.assertGreater(sum(network.cuts for network in networks), 10)
        acknowledged = journal(pathlib.Path(miner.state))
        self.assertEqual(list(range(end)), sorted(acknowledged))  # every one, and once
        first = [int(line.split()[1]) for log in logs for line in log.read_text().splitlines() if line.endswith(" 1")]
        self.assertLessEqual(len(first), end)
        self.assertEqual(len(set(first)), len(first))
        print(sum(network.cuts for network in networks), "cuts")

    def test_a_client_behind_a_dead_line_is_given_up_and_its_work_goes_to_another(self):
        miner = self.start_miner("--embedders", "0", "--keepalive-seconds", "1", "--keepalive-timeout-seconds", "1")
        network = self.network(miner, lambda n: Fault(silent_after=15_000))

        def joined():
            request = spec(p=4, k=2)
            request.sharing.mode = batches.WorkSharing.MODE_DYNAMIC
            request.sharing.group = "g"
            request.sharing.end_cursor = 4
            request.sharing.lease_seconds = 600  # it is the death of the stream that frees them
            return request

        with grpc.insecure_channel(network.address) as channel:
            requests = queue.Queue()  # stays open
            requests.put(batches.StreamBatchesRequest(open=joined()))
            requests.put(batches.StreamBatchesRequest(credits=4))
            lost = batches_pb2_grpc.BatchServiceStub(channel).StreamBatches(iter(requests.get, None), timeout=60)
            self.addCleanup(requests.put, None)
            next(lost)
            wait_for(lambda: network.silences, "the line is dead")
            self.assertEqual(1, miner.mining.Describe(mining.DescribeRequest(), timeout=10).open_streams)
            began = time.monotonic()

            def streams():
                return miner.mining.Describe(mining.DescribeRequest(), timeout=10).open_streams

            wait_for(lambda: streams() == 0, "the miner gives the stream up", 20)
            print(f"given up after {time.monotonic() - began:.1f} s")
            other = Stream(miner, joined(), 4)
            cursors = [other.next().cursor for _ in range(4)]
            other.close()
            self.assertEqual([0, 1, 2, 3], cursors)
            lost.cancel()

    def test_a_miner_that_says_nothing_fails_the_command_line_in_time(self):
        miner = self.start_miner("--embedders", "0")
        for fault in (Fault(never_connect=True), Fault(silent_after=60)):
            network = self.network(miner, lambda n: fault)
            began = time.monotonic()
            result = run(BIN / "doppel", "status", "--server", network.address, "--timeout", "2", check=False, timeout=60)
            self.assertEqual(1, result.returncode, result.stdout)
            self.assertIn(network.address, result.stderr)
            self.assertLess(time.monotonic() - began, 15)

    def test_connections_that_drip_are_closed_and_others_do_not_notice(self):
        miner = self.start_miner("--embedders", "0", "--handshake-timeout-seconds", "2")
        host, port = miner.address.rsplit(":", 1)
        before = resident_mib(miner.process)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        lorises = [socket.create_connection((host, int(port))) for _ in range(200)]
        self.addCleanup(lambda: [loris.close() for loris in lorises])
        began = time.monotonic()
        dripped = 0
        gone = set()

        def drip():
            nonlocal dripped
            for number, loris in enumerate(lorises):
                if number in gone:
                    continue
                try:
                    loris.setblocking(False)
                    # Half of them begin a greeting a byte at a time, the others say nothing at all.
                    if number % 2 == 0 and dripped < len(preface) - 1:
                        loris.send(preface[dripped:dripped + 1])
                    while loris.recv(4096):
                        pass
                    gone.add(number)
                except BlockingIOError:
                    pass
                except OSError:
                    gone.add(number)
            dripped += 1
            time.sleep(0.1)
            return len(gone) == len(lorises)

        first = miner.stream(spec(p=8, k=2), 20)  # while they are there
        self.assertEqual(list(range(20)), [batch.cursor for batch in first])
        wait_for(drip, "the miner closes them", 30)
        print(f"closed after {time.monotonic() - began:.1f} s")
        self.assertLess(resident_mib(miner.process) - before, 100)

    def test_readers_that_drip_cost_bounded_memory(self):
        miner = self.start_miner("--embedders", "0", "--queued-batch-bytes", "20000000")
        miner.stream(spec(p=64, k=4), 10)
        before = resident_mib(miner.process)
        network = self.network(miner, lambda n: Fault(delay=0.5, chunk=100))
        channels, calls = [], []
        for number in range(24):
            channel = grpc.insecure_channel(network.address, options=[("grpc.use_local_subchannel_pool", 1)])
            channels.append(channel)
            greedy = [batches.StreamBatchesRequest(open=spec(p=256, k=4, seed=number)),
                      batches.StreamBatchesRequest(credits=64)]
            calls.append(batches_pb2_grpc.BatchServiceStub(channel).StreamBatches(iter(greedy), timeout=60))
        wait_for(lambda: miner.mining.Describe(mining.DescribeRequest(), timeout=20).open_streams == 24, "they are in")
        # 64 batches of 700 KB for each of 24: a gigabyte, if the miner made all that they may have.
        for _ in range(10):
            self.assertEqual(10, len(miner.stream(spec(p=64, k=4), 10)))
        grown = resident_mib(miner.process) - before
        print(f"grown by {grown:.0f} MiB")
        self.assertLess(grown, 200)
        for call in calls:
            call.cancel()
        for channel in channels:
            channel.close()
        wait_for(lambda: miner.mining.Describe(mining.DescribeRequest(), timeout=20).open_streams == 0, "they are gone")

    @unittest.skipUnless(PATIENT, "DOPPEL_NETWORK_PATIENCE=1 runs it: our clients give a dead line up after 50 s")
    def test_training_goes_on_when_the_line_falls_silent(self):
        miner = self.start_miner("--embedders", "0")
        calm, hit = self.folder / "calm", self.folder / "hit"
        self.train(miner.address, calm)
        network = self.network(miner, lambda n: Fault(silent_after=60_000) if n == 0 else None)
        self.train(network.address, hit)
        self.assertEqual(1, network.silences)
        self.assertEqual([s["loss"] for s in steps(calm)], [s["loss"] for s in steps(hit)])
