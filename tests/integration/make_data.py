"""The shared, read-only inputs of the integration tests: 600 real glyphs, their catalog, a fresh model, Python stubs."""
import os
import pathlib
import shutil
import subprocess
import sys

BIN = pathlib.Path(os.environ["DOPPEL_BIN"])
SOURCE = pathlib.Path(os.environ["DOPPEL_SOURCE"])
DATA = pathlib.Path(os.environ["DOPPEL_TEST_DATA"])

HEALTH = """
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
"""
REFLECTION = """
syntax = "proto3";
package grpc.reflection.v1alpha;
message ServerReflectionRequest {
  string host = 1;
  oneof message_request { string file_containing_symbol = 4; string list_services = 7; }
}
message ServiceResponse { string name = 1; }
message ListServiceResponse { repeated ServiceResponse service = 1; }
message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
message ServerReflectionResponse {
  oneof message_response {
    FileDescriptorResponse file_descriptor_response = 4;
    ListServiceResponse list_services_response = 6;
  }
}
service ServerReflection {
  rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
}
"""


def run(*arguments):
    subprocess.run([str(a) for a in arguments], check=True, stdout=sys.stderr)


def make_stubs():
    """Python stubs from the protos alone, and from the public definitions of health and reflection."""
    public = DATA / "public"
    for name, text in (("health.proto", HEALTH), ("reflection.proto", REFLECTION)):
        public.mkdir(parents=True, exist_ok=True)
        (public / name).write_text(text)
    stubs = DATA / "stubs"
    stubs.mkdir(exist_ok=True)
    plugin = shutil.which("grpc_python_plugin")
    common = [f"--python_out={stubs}", f"--grpc_python_out={stubs}", f"--plugin=protoc-gen-grpc_python={plugin}"]
    run("protoc", "-I", SOURCE / "proto", *common, *sorted((SOURCE / "proto/doppel/v1").glob("*.proto")))
    run("protoc", "-I", public, *common, public / "health.proto", public / "reflection.proto")


def main():
    marker = DATA / "DONE"
    stamp = "|".join(str((BIN / n).stat().st_mtime_ns) for n in ("doppel-glyphs", "doppel", "doppel-trainer"))
    stamp += "|".join(str(p.stat().st_mtime_ns) for p in sorted((SOURCE / "proto/doppel/v1").glob("*.proto")))
    if marker.exists() and marker.read_text() == stamp:
        return
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    make_stubs()
    run(BIN / "doppel-glyphs", "--out", DATA / "glyphs", "--identities", "600", "--test-identities", "60")
    run(BIN / "doppel", "import", "webdataset", DATA / "glyphs", "--catalog", DATA / "catalog")
    run(BIN / "doppel-trainer", "init", "--architecture", "glyph_cnn", "--output", DATA / "model")
    marker.write_text(stamp)


if __name__ == "__main__":
    main()
