"""A TCP proxy that misbehaves as told: delays, cuts in the middle of a message, falls silent, drips.

Loopback only. Runs on a thread of its own until close(); what it does to a connection is decided when that comes in.
"""
import asyncio
import contextlib
import random
import socket
import struct
import threading


class Fault:
    """What happens to one connection. Bytes count from the server to the client unless `upstream`."""

    def __init__(self, cut_after=None, silent_after=None, delay=0.0, chunk=65536, upstream=False, never_connect=False):
        self.cut_after = cut_after  # bytes, then both sides are reset
        self.silent_after = silent_after  # bytes, then nothing passes any more, in either direction, and nobody is told
        self.delay = delay  # seconds before each chunk is passed on, up to
        self.chunk = chunk  # bytes passed on at once
        self.upstream = upstream  # count what the client sends
        self.never_connect = never_connect  # the connection is taken and nothing is ever said


class BadNetwork:
    """Passes connections on to `target`. `faults(n)` gives the Fault of the n-th connection, or None."""

    def __init__(self, target, faults, seed=1):
        self.target = target.rsplit(":", 1)
        self.faults, self.random = faults, random.Random(seed)
        self.connections = self.cuts = self.silences = 0
        self.open = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    def close(self):
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()

    async def _serve(self, client_reader, client_writer):
        fault = self.faults(self.connections) or Fault()
        self.connections += 1
        self.open += 1
        writers = [client_writer]
        try:
            if fault.never_connect:
                self.silences += 1
                while await client_reader.read(65536):
                    pass
                return
            server_reader, server_writer = await asyncio.open_connection(*self.target)
            writers.append(server_writer)
            state = {"passed": 0, "silent": False}
            tasks = [asyncio.ensure_future(self._pump(client_reader, server_writer, fault, fault.upstream, state)),
                     asyncio.ensure_future(self._pump(server_reader, client_writer, fault, not fault.upstream, state))]
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() == "cut" for task in done if not task.cancelled() and task.exception() is None):
                self.cuts += 1
                for writer in writers:
                    self._reset(writer)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass
        finally:
            self.open -= 1
            for writer in writers:
                with contextlib.suppress(Exception):
                    writer.close()

    async def _pump(self, reader, writer, fault, counted, state):
        while True:
            data = await reader.read(fault.chunk)
            if not data:
                return "end"
            if fault.delay:
                await asyncio.sleep(self.random.uniform(0, fault.delay))
            if counted:
                if fault.cut_after is not None and state["passed"] + len(data) >= fault.cut_after:
                    writer.write(data[:fault.cut_after - state["passed"]])
                    with contextlib.suppress(Exception):
                        await writer.drain()
                    return "cut"
                state["passed"] += len(data)
                if fault.silent_after is not None and state["passed"] >= fault.silent_after and not state["silent"]:
                    state["silent"] = True
                    self.silences += 1
            if state["silent"]:
                continue  # read, so that the peer thinks it was sent
            writer.write(data)
            await writer.drain()

    @staticmethod
    def _reset(writer):
        raw = writer.get_extra_info("socket")
        with contextlib.suppress(Exception):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def cut_at_random(low, high, times=None, seed=1, **also):
    """Faults for BadNetwork: every connection is cut after low..high bytes; the first `times` of them, then none."""
    chance = random.Random(seed)
    return lambda n: Fault(cut_after=chance.randrange(low, high), **also) if times is None or n < times else None
