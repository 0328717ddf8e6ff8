// libFuzzer's side: doppel-fuzz --target=NAME [CORPUS …] [-max_total_time=SECONDS …]
#include <google/protobuf/stubs/logging.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/match.h"
#include "common/base/log.h"
#include "tests/fuzz/fuzz_target.h"

namespace {
const doppel::FuzzTarget* fuzzed = nullptr;
}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr absl::string_view kFlag = "--target=";
  for (int i = 1; i < *argc; ++i) {
    const absl::string_view argument = (*argv)[i];
    if (!absl::StartsWith(argument, kFlag)) continue;
    fuzzed = doppel::FindFuzzTarget(argument.substr(kFlag.size()));
    // Taken out: libFuzzer does not know it, but passes it on to processes of its own.
    break;
  }
  if (fuzzed == nullptr) {
    std::fprintf(stderr, "usage: doppel-fuzz --target=NAME [CORPUS ...] [libFuzzer's options]; targets:\n");
    for (const doppel::FuzzTarget& target : doppel::FuzzTargets()) {
      std::fprintf(stderr, "  %-16s %s\n", target.name, target.what);
    }
    std::exit(2);
  }
  google::protobuf::SetLogHandler(nullptr);  // what it says of bad requests, a thousand times a second
  return doppel::SetupLogging("doppel-fuzz", "error", "text").ok() ? 0 : 1;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzzed->run({reinterpret_cast<const char*>(data), size});
  return 0;
}
