#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "services/security/roles.h"

namespace doppel {

using Sha256Digest = std::array<unsigned char, 32>;
Sha256Digest Sha256(absl::string_view data);

// Who is calling.
struct Principal {
  std::string name;
  Role role = Role::kNobody;
};

// Who may do what: the text of an access file, a line each, # begins a comment.
//
//   certificate CN=alice operator
//   certificate DNS:node7.example.org trainer
//   certificate URI:spiffe://example.org/team-a/* trainer       (a * at the end: whatever follows)
//   token ci-runner trainer sha256:SALT:HEX [expires=2027-01-31T00:00:00Z]
//
// HEX is SHA-256(SALT TOKEN), SALT any text without spaces and colons. Tokens are 256 random bits, so a slow
// hash would protect nothing more. Immutable.
class AccessList {
 public:
  // INVALID_ARGUMENT names `source` and the line.
  static absl::StatusOr<AccessList> Parse(absl::string_view text, const std::string& source);

  // `names`: "CN=…", "DNS:…", "URI:…", "EMAIL:…", "IP:…" of a verified certificate. The highest role that one
  // of them has; PERMISSION_DENIED: none has any.
  absl::StatusOr<Principal> OfCertificate(const std::vector<std::string>& names) const;

  // Takes as long for any token. UNAUTHENTICATED: unknown, or expired.
  absl::StatusOr<Principal> OfToken(absl::string_view token, absl::Time now) const;

 private:
  struct Certificate {
    std::string name;
    bool prefix = false;
    Role role = Role::kNobody;
  };
  struct Token {
    std::string name;
    std::string salt;
    Sha256Digest digest{};
    Role role = Role::kNobody;
    absl::Time expires = absl::InfiniteFuture();
  };

  absl::Status AddLine(const std::vector<absl::string_view>& words);

  std::vector<Certificate> certificates_;
  std::vector<Token> tokens_;
};

// The access file, read again within a second of its change. A file that cannot be read lets nobody in; one
// that cannot be parsed leaves the last good list in force, and says so in the log. Thread-safe.
class AccessFile {
 public:
  // Fails as Parse does, and NOT_FOUND.
  static absl::StatusOr<std::unique_ptr<AccessFile>> Open(const std::string& path,
                                                          const Clock& clock = Clock::Real());

  std::shared_ptr<const AccessList> Current();

 private:
  // What a change shows in.
  struct Stamp {
    int64_t seconds = 0, nanoseconds = 0, size = 0;
    uint64_t inode = 0;
    bool operator==(const Stamp& other) const {
      return seconds == other.seconds && nanoseconds == other.nanoseconds && size == other.size &&
             inode == other.inode;
    }
  };

  AccessFile(std::string path, const Clock& clock) : path_(std::move(path)), clock_(clock) {}
  static absl::StatusOr<Stamp> StampOf(const std::string& path);
  absl::Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const Clock& clock_;
  absl::Mutex mutex_;
  std::shared_ptr<const AccessList> list_ ABSL_GUARDED_BY(mutex_);
  Stamp stamp_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_look_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace doppel
