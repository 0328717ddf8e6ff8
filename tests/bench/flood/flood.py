"""1 000 concurrent stream attempts, 50 of them malicious: how much of their rate do the others keep?

Starts doppel-miner on a port of its own. Trainers ask for a batch at a steady pace; once alone, once beside clients that
never read, lie, send rubbish, cancel at once, ask for absurd sizes, have a GiB decoded each and leave it lying, or as much decoded as
they can read. Both rounds have the same trainers and last as long.
"""
import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("DOPPEL_BIN", ROOT / "build/release/bin"))


def load_stubs(folder):
    protos = [str(path.relative_to(ROOT / "proto")) for path in sorted((ROOT / "proto/doppel/v1").glob("*.proto"))]
    plugin = subprocess.run(["which", "grpc_python_plugin"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", f"--grpc_out={folder}",
                    f"--plugin=protoc-gen-grpc={plugin}", *protos], check=True)


def modules(folder):
    sys.path.insert(0, folder)
    import grpc
    from doppel.v1 import batches_pb2, batches_pb2_grpc, types_pb2
    return grpc, batches_pb2, batches_pb2_grpc, types_pb2


def make_spec(batches, types, p=4, k=2, **fields):
    return batches.StreamSpec(plan=types.PlanSpec(name="random", identities_per_batch=p, samples_per_identity=k),
                              payload=types.PAYLOAD_KIND_ENCODED, **fields)


def trainers(folder, address, count, pace, seconds, start, out):
    """`count` streams on connections of 50; each asks for a batch every `pace` seconds, one in ten for a decoded one."""
    grpc, batches, services, types = modules(folder)
    request = batches.StreamBatchesRequest
    received, failed, waits = 0, [], {"encoded": [], "decoded": []}

    async def trainer(stub, number):
        nonlocal received
        call = stub.StreamBatches()
        spec = make_spec(batches, types, seed=number)
        if number % 10 == 0:
            spec.payload = types.PAYLOAD_KIND_DECODED
        await call.write(request(open=spec))
        await asyncio.sleep(random.Random(number).uniform(0, pace))
        due = time.monotonic()
        while time.monotonic() < end:
            asked = time.monotonic()
            await call.write(request(credits=1))
            while True:
                response = await call.read()
                if response.HasField("batch") and response.batch.part_index + 1 >= response.batch.part_count:
                    break
            if begin <= time.monotonic() < end:
                received += 1
                waits["decoded" if number % 10 == 0 else "encoded"].append(time.monotonic() - asked)
            due += pace
            await asyncio.sleep(max(0, due - time.monotonic()))
        call.cancel()

    async def all_of_them():
        channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
                    for _ in range((count + 49) // 50)]
        tasks = [trainer(services.BatchServiceStub(channels[i // 50]), i) for i in range(count)]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                failed.append(repr(result)[:200])
        for channel in channels:
            await channel.close()

    begin, end = start, start + seconds
    asyncio.run(all_of_them())
    out.put({"batches": received, "failed": len(failed), "errors": failed[:3], "waits": waits})


def attackers(folder, address, count, end):
    """Each kind in turn, again and again, twenty times a second at most."""
    os.nice(19)  # on the same machine their own time is not what is asked about
    grpc, batches, services, types = modules(folder)
    request = batches.StreamBatchesRequest

    async def never_reads(stub):
        call = stub.StreamBatches()
        await call.write(request(open=make_spec(batches, types, 256, 4)))
        await call.write(request(credits=64))
        await asyncio.sleep(5)
        call.cancel()

    async def sends(stub, *messages):
        call = stub.StreamBatches()
        for message in messages:
            await call.write(message)
        await call.read()
        call.cancel()

    async def lies(stub):
        await sends(stub, request(open=make_spec(batches, types)), request(acknowledge_cursor=2**63), request(credits=1))

    async def wants_too_much(stub):
        await sends(stub, request(open=make_spec(batches, types, 2**31, 2**31)))

    async def floods_credits(stub):
        await sends(stub, request(open=make_spec(batches, types)), *[request(credits=2**32 - 1)] * 3)

    async def hangs_up(stub):
        calls = [stub.StreamBatches() for _ in range(10)]
        for call in calls:
            call.cancel()

    def decoded(samples, side):
        spec = make_spec(batches, types, samples // 4, 4)
        spec.payload = types.PAYLOAD_KIND_DECODED
        spec.image.height = spec.image.width = side
        spec.image.channels = 3
        return spec

    async def hoards(stub):
        call = stub.StreamBatches()
        await call.write(request(open=decoded(16384, 146)))  # a GiB, the largest there is
        await call.write(request(credits=64))
        await asyncio.sleep(max(0, end - time.monotonic()))
        call.cancel()

    async def hogs(stub):
        call = stub.StreamBatches()
        await call.write(request(open=decoded(16384, 32)))
        await call.write(request(credits=8))
        while time.monotonic() < end:
            response = await call.read()
            if response.HasField("batch") and response.batch.part_index + 1 == response.batch.part_count:
                await call.write(request(credits=1))
        call.cancel()

    async def attacker(number):
        kinds = [never_reads, lies, wants_too_much, floods_credits, hangs_up, hoards, hogs]
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1),
                                                                   ("grpc.max_receive_message_length", -1)]) as channel:
            stub = services.BatchServiceStub(channel)
            while time.monotonic() < end:
                try:
                    kind = kinds[number % len(kinds)]
                    await asyncio.wait_for(kind(stub), None if kind in (hoards, hogs) else 6)
                except (grpc.RpcError, asyncio.TimeoutError, asyncio.InvalidStateError, asyncio.CancelledError):
                    pass
                await asyncio.sleep(0.05)

    async def all_of_them():
        await asyncio.gather(*[attacker(i) for i in range(count)], return_exceptions=True)

    asyncio.run(all_of_them())


def run_round(folder, address, options, malicious):
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    start = time.monotonic() + options.settle
    share = options.streams // options.processes
    processes = [context.Process(target=trainers, args=(folder, address, share, options.pace, options.seconds, start, out))
                 for _ in range(options.processes)]
    if malicious:
        processes.append(context.Process(target=attackers, args=(folder, address, malicious, start + options.seconds)))
    for process in processes:
        process.start()
    results = [out.get(timeout=options.settle + options.seconds + 120) for _ in range(options.processes)]
    for process in processes:
        process.join()
    round_ = {"malicious": malicious, "streams": share * options.processes, "failed": sum(r["failed"] for r in results),
              "batches_per_second": sum(r["batches"] for r in results) / options.seconds,
              "errors": [error for r in results for error in r["errors"]][:3]}
    for payload in ("encoded", "decoded"):
        waits = sorted(wait for r in results for wait in r["waits"][payload])
        for percent in (50, 99):
            round_[f"{payload}_p{percent}_seconds"] = waits[len(waits) * percent // 100] if waits else None
        round_[f"{payload}_batches_per_second"] = len(waits) / options.seconds
    return round_


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", default="flood.json")
    parser.add_argument("--catalog", required=True)
    parser.add_argument("--streams", type=int, default=950, help="of trainers")
    parser.add_argument("--malicious", type=int, default=50)
    parser.add_argument("--pace", type=float, default=10, help="seconds between a trainer's batches")
    parser.add_argument("--seconds", type=float, default=30, help="of each round")
    parser.add_argument("--settle", type=float, default=20, help="seconds before a round is measured")
    parser.add_argument("--processes", type=int, default=2, help="that the trainers are spread over")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load_stubs(folder)
        address_file = pathlib.Path(folder) / "address"
        miner = subprocess.Popen([BIN / "doppel-miner", "serve", "--catalog", options.catalog, "--state", f"{folder}/state",
                                  "--listen", "127.0.0.1:0", "--embedders", "0", "--address-file", address_file,
                                  "--log-level", "error"])
        try:
            while not address_file.exists():
                if miner.poll() is not None:
                    sys.exit("flood: doppel-miner did not start")
                time.sleep(0.05)
            address = address_file.read_text().strip()
            rounds = []
            for malicious in (0, options.malicious):
                rounds.append(run_round(folder, address, options, malicious))
                rounds[-1]["miner_resident_mib"] = resident_mib(miner.pid)
        finally:
            miner.terminate()
            miner.wait()
    kept = {name: rounds[1][f"{name}batches_per_second"] / max(rounds[0][f"{name}batches_per_second"], 1e-9)
            for name in ("", "encoded_", "decoded_")}
    pathlib.Path(options.out).write_text(json.dumps({
        "rounds": rounds, "rate_kept": kept[""], "encoded_rate_kept": kept["encoded_"], "decoded_rate_kept": kept["decoded_"]},
        indent=1) + "\n")

    def milliseconds(seconds):
        return "-" if seconds is None else f"{seconds * 1e3:.0f}"

    print("| malicious | streams | failed | batches/s | encoded: p50, p99 ms | decoded: p50, p99 ms | miner's memory |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")
    for r in rounds:
        times = [", ".join(milliseconds(r[f"{payload}_p{percent}_seconds"]) for percent in (50, 99))
                 for payload in ("encoded", "decoded")]
        print(f"| {r['malicious']} | {r['streams']} | {r['failed']} | {r['batches_per_second']:.1f} | {times[0]} | {times[1]} "
              f"| {r['miner_resident_mib']} MiB |")
    print(f"the well-behaved ones keep {100 * kept['']:.1f} % of their rate (encoded {100 * kept['encoded_']:.1f} %, "
          f"decoded {100 * kept['decoded_']:.1f} %)")
    for error in rounds[0]["errors"] + rounds[1]["errors"]:
        print(error)


if __name__ == "__main__":
    main()
