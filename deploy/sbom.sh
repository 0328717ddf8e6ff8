#!/usr/bin/env bash
# Writes what the binaries are made of, as CycloneDX 1.5 JSON, to standard output: every Debian package that one of their
# shared libraries comes from, and those that are compiled in, with version and licences.
#
#   deploy/sbom.sh build/release/bin/doppel* > sbom.json
#   deploy/sbom.sh --table build/release/bin/doppel*      for reading
set -euo pipefail

table=0
case "${1:-}" in
  --table) table=1; shift ;;
  -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
[ $# -gt 0 ] || { echo "usage: deploy/sbom.sh [--table] BINARY ..." >&2; exit 2; }
for binary in "$@"; do
  [ -x "$binary" ] && [ -f "$binary" ] || { echo "sbom: $binary is not a binary" >&2; exit 1; }
done
cmake_file=$(dirname "$0")/../CMakeLists.txt
version=$(sed -n 's/^project(doppel VERSION \([0-9.]*\).*/\1/p' "$cmake_file")

# Linked statically, or headers alone: no shared object tells of them.
compiled_in=(libfaiss-dev libcli11-dev nlohmann-json3-dev)

{ for binary in "$@"; do ldd "$binary"; done | awk '$3 ~ /^\// {print $3} $1 ~ /^\// {print $1}' | sort -u; } |
  TABLE=$table VERSION=$version COMPILED_IN="${compiled_in[*]}" python3 -c '
import datetime, hashlib, json, os, re, subprocess, sys, uuid

def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout

def names_of(path):
    """/lib is a link to /usr/lib, and packages know either; the file may be a link itself."""
    for name in (path, os.path.realpath(path)):
        yield name
        yield name[4:] if name.startswith("/usr/") else "/usr" + name

def licences(package):
    name = package.split(":")[0]
    try:
        text = open(f"/usr/share/doc/{name}/copyright", errors="replace").read()
    except OSError:
        return []
    found = re.findall(r"^License: *(\S.*)$", text, re.M)
    return sorted({re.sub(r"\s+", " ", item).strip() for item in found})

paths = sys.stdin.read().split()
owners = {}
for line in output("dpkg-query", "-S", *{name for path in paths for name in names_of(path)}).splitlines():
    owned_by, _, name = line.rpartition(": ")
    owners[name] = owned_by.split(",")[0]
packages, unknown = set(os.environ["COMPILED_IN"].split()), []
for path in paths:
    package = next((owners[name] for name in names_of(path) if name in owners), None)
    if package:
        packages.add(package)
    else:
        unknown.append(path)

components = []
form = "-f=${Package}\t${Version}\t${Architecture}\t${source:Package}\t${Homepage}\n"
# Those that are compiled in, and not of this machine, are passed over.
for line in sorted(output("dpkg-query", "-W", form, *packages).splitlines()):
    name, version, architecture, source, homepage = line.split("\t")
    package = name
    component = {"type": "library", "name": name, "version": version,
                 "purl": f"pkg:deb/debian/{name}@{version}?arch={architecture}",
                 "properties": [{"name": "debian:source", "value": source}]}
    component["bom-ref"] = component["purl"]
    found = licences(package)
    component["licenses"] = [{"license": {"name": item}} for item in found] or [
        {"license": {"name": f"see /usr/share/doc/{name}/copyright"}}]
    if homepage:
        component["externalReferences"] = [{"type": "website", "url": homepage}]
    components.append(component)
for path in unknown:
    components.append({"type": "library", "name": os.path.basename(path), "version": "unknown", "bom-ref": path,
                       "licenses": [{"license": {"name": "unknown: of no package"}}]})

if os.environ["TABLE"] == "1":
    for component in components:
        names = ", ".join(item["license"]["name"] for item in component["licenses"])
        print(f"{component['\''name'\'']:<36} {component['\''version'\'']:<32} {names}")
    sys.exit()
digest = hashlib.sha256(json.dumps(components).encode()).hexdigest()
json.dump({
    "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
    "serialNumber": "urn:uuid:" + str(uuid.UUID(digest[:32])),
    "metadata": {"timestamp": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                 "component": {"type": "application", "name": "doppel", "version": os.environ["VERSION"], "bom-ref": "doppel"}},
    "components": components,
    "dependencies": [{"ref": "doppel", "dependsOn": [component["bom-ref"] for component in components]}],
}, sys.stdout, indent=1)
print()
'
