#include "tests/fuzz/fuzz_target.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace doppel {
namespace {

class FolderOfProcess {
 public:
  FolderOfProcess() {
    path_ = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path().string();
    path_ += "/doppel-fuzz-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) {
      std::perror(path_.c_str());
      std::abort();
    }
  }
  ~FolderOfProcess() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

std::vector<FuzzTarget> FuzzTargets() {
  std::vector<FuzzTarget> all;
  for (absl::Span<const FuzzTarget> family : {DataFuzzTargets(), StateFuzzTargets(), ServerFuzzTargets()}) {
    all.insert(all.end(), family.begin(), family.end());
  }
  return all;
}

const FuzzTarget* FindFuzzTarget(absl::string_view name) {
  static const auto* const targets = new std::vector<FuzzTarget>(FuzzTargets());
  for (const FuzzTarget& target : *targets) {
    if (target.name == name) return &target;
  }
  std::fprintf(stderr, "no target \"%.*s\"; there are:", static_cast<int>(name.size()), name.data());
  for (const FuzzTarget& target : *targets) std::fprintf(stderr, " %s", target.name);
  std::fprintf(stderr, "\n");
  return nullptr;
}

void FuzzCheck(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

std::string FuzzPieces::Next() {
  if (rest_.size() < 2) {
    rest_ = {};
    return {};
  }
  const size_t length = static_cast<uint8_t>(rest_[0]) | static_cast<size_t>(static_cast<uint8_t>(rest_[1]))
                                                             << 8;
  const absl::string_view piece = rest_.substr(2, length);
  rest_.remove_prefix(2 + piece.size());
  return std::string(piece);
}

const std::string& FuzzFolder() {
  static const FolderOfProcess folder;
  return folder.path();
}

std::string FuzzFile(const std::string& name, absl::string_view bytes) {
  std::string path = FuzzFolder() + "/" + name;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  FuzzCheck(out.good(), "the scratch folder can be written to");
  return path;
}

}  // namespace doppel
