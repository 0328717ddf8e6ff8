#include "services/security/path_roots.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace doppel {
namespace {

bool IsWithin(const std::filesystem::path& path, const std::filesystem::path& root) {
  auto part = path.begin();
  for (const auto& expected : root) {
    if (expected.empty()) continue;  // a slash at the end
    if (part == path.end() || *part != expected) return false;
    ++part;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::string> ConfinePath(const std::string& path, const std::vector<std::string>& roots,
                                        const std::string& field, const std::string& limit) {
  if (roots.empty()) return path;
  const std::filesystem::path asked(path);
  bool allowed = asked.is_absolute() && path.find('\0') == std::string::npos;
  for (const auto& part : asked) allowed = allowed && part != "..";
  std::error_code error;
  const std::filesystem::path real = allowed ? std::filesystem::canonical(asked, error) : asked;
  if (allowed && !error) {
    for (const std::string& root : roots) {
      const std::filesystem::path real_root = std::filesystem::canonical(root, error);
      if (!error && IsWithin(real, real_root)) return real.string();
    }
  }
  return absl::PermissionDeniedError(absl::StrCat(
      field, ": \"", path, "\" is not there, or lies outside of what this server's ", limit, " allows (",
      absl::StrJoin(roots, ", "), "); give an absolute path without .. and without links that lead out"));
}

}  // namespace doppel
