#include "services/security/access_list.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

constexpr absl::Duration kLookEvery = absl::Milliseconds(500);
constexpr absl::string_view kCertificateKinds[] = {"CN=", "DNS:", "URI:", "EMAIL:", "IP:"};

absl::Status CheckCertificateName(absl::string_view name) {
  for (const absl::string_view kind : kCertificateKinds) {
    if (absl::StartsWith(name, kind) && name.size() > kind.size() && name[kind.size()] != '*') {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" is no name of a certificate: CN=…, DNS:…, URI:…, EMAIL:… or IP:…"));
}

absl::StatusOr<std::pair<std::string, Sha256Digest>> ParseHash(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  const auto is_hex = [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); };
  if (parts.size() != 3 || parts[0] != "sha256" || parts[2].size() != 64 ||
      !std::all_of(parts[2].begin(), parts[2].end(), is_hex)) {
    // Not the text itself: it may be a token that somebody forgot to hash.
    return absl::InvalidArgumentError("the hash is not sha256:SALT:64 hexadecimal digits");
  }
  Sha256Digest digest{};
  const std::string bytes = absl::HexStringToBytes(parts[2]);
  std::memcpy(digest.data(), bytes.data(), digest.size());
  return std::make_pair(std::string(parts[1]), digest);
}

}  // namespace

Sha256Digest Sha256(absl::string_view data) {
  Sha256Digest digest{};
  unsigned int size = 0;
  EVP_Digest(data.data(), data.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return digest;
}

absl::StatusOr<AccessList> AccessList::Parse(absl::string_view text, const std::string& source) {
  AccessList list;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = line.substr(0, line.find('#'));
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    const absl::Status status = list.AddLine(words);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(source, ":", number, ": ", status.message()));
    }
  }
  return list;
}

absl::Status AccessList::AddLine(const std::vector<absl::string_view>& words) {
  if (words[0] == "certificate") {
    if (words.size() != 3) return absl::InvalidArgumentError("expected: certificate NAME ROLE");
    RETURN_IF_ERROR(CheckCertificateName(words[1]));
    Certificate entry;
    absl::string_view name = words[1];
    entry.prefix = absl::ConsumeSuffix(&name, "*");
    entry.name = std::string(name);
    ASSIGN_OR_RETURN(entry.role, ParseRole(words[2]));
    certificates_.push_back(std::move(entry));
    return absl::OkStatus();
  }
  if (words[0] == "token") {
    if (words.size() != 4 && words.size() != 5) {
      return absl::InvalidArgumentError("expected: token NAME ROLE sha256:SALT:HEX [expires=TIME]");
    }
    Token entry;
    entry.name = std::string(words[1]);
    ASSIGN_OR_RETURN(entry.role, ParseRole(words[2]));
    ASSIGN_OR_RETURN(std::tie(entry.salt, entry.digest), ParseHash(words[3]));
    if (words.size() == 5) {
      absl::string_view time = words[4];
      std::string error;
      if (!absl::ConsumePrefix(&time, "expires=") ||
          !absl::ParseTime(absl::RFC3339_full, time, &entry.expires, &error)) {
        return absl::InvalidArgumentError(
            absl::StrCat("\"", words[4], "\" is not expires=TIME, for example expires=2027-01-31T00:00:00Z"));
      }
    }
    tokens_.push_back(std::move(entry));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("a line begins with certificate or token");
}

absl::StatusOr<Principal> AccessList::OfCertificate(const std::vector<std::string>& names) const {
  Principal best;
  for (const Certificate& entry : certificates_) {
    for (const std::string& name : names) {
      const bool matches = entry.prefix ? absl::StartsWith(name, entry.name) : name == entry.name;
      if (matches && entry.role > best.role) best = {name, entry.role};
    }
  }
  if (best.role != Role::kNobody) return best;
  return absl::PermissionDeniedError("the certificate is good, but no line of the access file names it");
}

absl::StatusOr<Principal> AccessList::OfToken(absl::string_view token, absl::Time now) const {
  const Token* found = nullptr;
  for (const Token& entry : tokens_) {
    const Sha256Digest digest = Sha256(absl::StrCat(entry.salt, token));
    if (CRYPTO_memcmp(digest.data(), entry.digest.data(), digest.size()) == 0) found = &entry;
  }
  if (found == nullptr) return absl::UnauthenticatedError("the token is unknown");
  if (now >= found->expires) {
    return absl::UnauthenticatedError(absl::StrCat("the token of ", found->name, " has expired"));
  }
  return Principal{found->name, found->role};
}

absl::StatusOr<std::unique_ptr<AccessFile>> AccessFile::Open(const std::string& path, const Clock& clock) {
  std::unique_ptr<AccessFile> file(new AccessFile(path, clock));
  absl::MutexLock lock(&file->mutex_);
  RETURN_IF_ERROR(file->Load());
  return file;
}

absl::StatusOr<AccessFile::Stamp> AccessFile::StampOf(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("access_file ", path, ": ", std::strerror(errno)));
  }
  if ((info.st_mode & S_IWOTH) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("access_file ", path, ": everybody may write to it: chmod o-w"));
  }
  return Stamp{info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size, info.st_ino};
}

absl::Status AccessFile::Load() {
  ASSIGN_OR_RETURN(const Stamp stamp, StampOf(path_));
  ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadFile(path_));
  // Whatever comes of it: it is not looked at again before the next change.
  stamp_ = stamp;
  ASSIGN_OR_RETURN(AccessList list, AccessList::Parse(text, path_));
  list_ = std::make_shared<const AccessList>(std::move(list));
  return absl::OkStatus();
}

std::shared_ptr<const AccessList> AccessFile::Current() {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_.Now();
  if (now < next_look_) return list_;
  next_look_ = now + kLookEvery;
  const absl::StatusOr<Stamp> stamp = StampOf(path_);
  if (!stamp.ok()) {
    DOPPEL_LOG(kError, stamp.status().message(), ": nobody is let in until it is back");
    list_ = std::make_shared<const AccessList>();
    stamp_ = Stamp();
  } else if (!(*stamp == stamp_)) {
    const absl::Status status = Load();
    if (status.ok()) {
      DOPPEL_LOG(kInfo, "access file ", path_, " was read again");
    } else {
      DOPPEL_LOG(kError, status.message(), ": the list before it stays in force");
    }
  }
  return list_;
}

}  // namespace doppel
