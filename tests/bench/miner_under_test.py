"""A miner of one benchmark's own, and the programs that talk to it."""
import json
import subprocess
import sys
import time


class MinerUnderTest:
    """Serves `catalog` on a free port from a fresh state below `folder`; its log is folder/miner.log."""

    def __init__(self, binaries, catalog, folder, *flags):
        self.binaries, self.folder, self.state = binaries, folder, folder / "state"
        address = folder / "address"
        self.log = open(folder / "miner.log", "wb")
        self.process = subprocess.Popen(
            [binaries / "doppel-miner", "serve", "--catalog", catalog, "--state", self.state, "--listen", "127.0.0.1:0",
             "--address-file", address, *map(str, flags)], stdout=self.log, stderr=self.log)
        while not (address.exists() and address.read_text().strip()):
            self.check()
            time.sleep(0.05)
        self.address = address.read_text().strip()

    def check(self):
        if self.process.poll() is not None:
            sys.exit((self.folder / "miner.log").read_text())

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def run(self, name, *arguments):
        """A program to its end; the benchmark ends with what it said if it failed."""
        result = subprocess.run([self.binaries / name, *map(str, arguments)], capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{name} {' '.join(map(str, arguments))}:\n{result.stderr}")
        return result

    def doppel(self, *arguments):
        return json.loads(self.run("doppel", *arguments, "--server", self.address, "-o", "json").stdout)
