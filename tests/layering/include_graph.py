"""Holds the include graph to the house's laws: which room may see which, no cycles, one home per heavy library."""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)

# Room → rooms that it may include besides itself, common/base and common/io. The longest matching prefix counts.
ROOMS = {
    "common/base": [],
    "common/io": ["common/base"],
    "common/config": [],
    "common/catalog": [],
    "common/image": [],
    "common/model": ["common/image"],
    "common/index": [],
    "common/net": [],
    "miner/representation": [],
    "miner/models": ["common/model"],
    "miner/clustering": ["miner/representation"],
    "miner/neighbours": ["miner/representation", "common/index"],
    "miner/cleaning": ["miner/representation", "miner/clustering", "miner/neighbours", "common/index"],
    "miner/generation": ["miner/representation", "miner/clustering", "miner/neighbours", "miner/cleaning", "common/catalog"],
    "miner/planning": ["miner/representation", "miner/cleaning", "miner/generation", "common/catalog"],
    "miner": ["miner/representation", "miner/models", "miner/cleaning", "miner/clustering", "miner/generation", "miner/neighbours", "miner/planning", "common/catalog"],
    "trainer/stream": ["common/image", "common/net"],
    "trainer/loss": [],
    "trainer/train": ["trainer/loss", "trainer/stream", "common/model"],
    "trainer/checkpoint": ["trainer/loss", "trainer/train", "common/model"],
    "trainer/eval": ["common/catalog", "common/image", "common/index", "common/model"],
    "services": ["services", "miner", "trainer", "common"],
    "examples": ["common", "examples"],
}

# Heavy library → how its headers begin, and the only rooms that may include them.
HOMES = {
    "FAISS": (("faiss/",), ("miner/clustering", "common/index")),
    "LibTorch": (("torch/", "ATen/", "c10/"), ("common/model", "trainer/loss", "trainer/train", "trainer/checkpoint",
                                              "services/trainer_worker", "services/embedder")),
    "OpenCV": (("opencv2/",), ("common/image",)),
    "gRPC": (("grpc/", "grpcpp/"), ("services", "trainer/stream", "common/net")),
    "cpp-httplib": (("httplib.h",), ("services/miner_server",)),
    "OpenSSL": (("openssl/",), ("services/security",)),
    "prometheus-cpp": (("prometheus/",), ("common/base",)),
    "FreeType": (("ft2build.h", "freetype/"), ("examples/glyphs",)),
}
# Public headers may never drag a heavy library into whoever includes them; these are the stated exceptions.
TORCH_HEADERS = ("common/model/", "trainer/")


def sources(root):
    for top in ("common", "miner", "trainer", "services", "examples"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".h", ".cc"):
                yield path


def includes(path):
    return [name for _, name in INCLUDE.findall(path.read_text(encoding="utf-8"))]


def room_of(name):
    best = ""
    for room in ROOMS:
        if (name == room or name.startswith(room + "/")) and len(room) > len(best):
            best = room
    return best


def check_rooms(files):
    for name, included in files.items():
        room = room_of(name)
        if not room:
            yield f"{name}: lies in no known room; add the room to tests/layering/include_graph.py"
            continue
        allowed = set(ROOMS[room]) | {room}
        if room != "common/base":
            allowed |= {"common/base"}
        if room not in ("common/base", "common/io"):
            allowed |= {"common/io"}
        for target in included:
            other = room_of(target)
            if other == room:
                continue
            if other and not any(other == a or other.startswith(a + "/") for a in allowed if a != "miner" or room == "services"):
                yield f"{name}: includes {target}, but {room} may see only {', '.join(sorted(allowed))}"


def check_cycles(files):
    state, trail = {}, []

    def visit(name):
        state[name] = "open"
        trail.append(name)
        for target in files.get(name, ()):
            if target not in files:
                continue
            if state.get(target) == "open":
                yield "cycle: " + " → ".join(trail[trail.index(target):] + [target])
            elif target not in state:
                yield from visit(target)
        trail.pop()
        state[name] = "done"

    for name in files:
        if name not in state:
            yield from visit(name)


def check_homes(files):
    for name, included in files.items():
        for library, (prefixes, homes) in HOMES.items():
            if any(name.startswith(home + "/") for home in homes):
                continue
            for target in included:
                if target.startswith(prefixes):
                    yield f"{name}: includes {target}; {library}'s only homes are {', '.join(homes)}"


def check_headers(files):
    for name, included in files.items():
        if not name.endswith(".h"):
            continue
        for target in included:
            if target == "torch/torch.h":
                yield f"{name}: torch/torch.h in a header costs every includer ten seconds; torch/types.h will do"
            if target.startswith(("torch/", "ATen/", "c10/")) and not name.startswith(TORCH_HEADERS):
                yield f"{name}: LibTorch in a public header ({target})"
            if target.startswith(("faiss/", "opencv2/")):
                # A header inside the home is fine as long as it stays there.
                for other, theirs in files.items():
                    if name in theirs and room_of(other) != room_of(name):
                        yield f"{other}: includes {name}, which brings {target} with it; keep it behind the interface"


CHECKS = {"rooms": check_rooms, "cycles": check_cycles, "homes": check_homes, "headers": check_headers}


def load(root):
    return {str(path.relative_to(root)): includes(path) for path in sources(root)}


def main():
    which, root = sys.argv[1], pathlib.Path(sys.argv[2])
    files = load(root)
    if len(files) < 20:
        sys.exit(f"only {len(files)} files found under {root}: wrong folder?")
    problems = list(CHECKS[which](files))
    for problem in problems:
        print(problem)
    print(f"{which}: {len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
