"""doppel and doppel-miner must start in milliseconds: no LibTorch behind them, however indirectly."""
import pathlib
import re
import subprocess
import sys


def linked(binary):
    out = subprocess.run(["ldd", str(binary)], check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in out.splitlines() if line.strip()]


def main():
    folder = pathlib.Path(sys.argv[1])
    problems = 0
    for name in ("doppel", "doppel-miner"):
        objects = linked(folder / name)
        heavy = [o for o in objects if re.match(r"libtorch|libc10|libcaffe2", o)]
        print(f"{name}: {len(objects)} shared objects, LibTorch: {heavy or 'none'}")
        problems += bool(heavy)
    # The check can see LibTorch where it is.
    for name in ("doppel-trainer", "doppel-embedder"):
        if not any(o.startswith("libtorch") for o in linked(folder / name)):
            print(f"{name}: LibTorch expected and not found: this check is blind")
            problems += 1
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
