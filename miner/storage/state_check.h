#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/io/file_system.h"

namespace doppel {

struct CheckFinding {
  enum class Kind {
    kNote,        // nothing is wrong: what a crash left over, or what is being written
    kUnfinished,  // a record that was cut off by a crash and never acknowledged; cut off at the next start
    kDamage       // acknowledged bytes are lost, or are not what was written
  };
  Kind kind = Kind::kNote;
  // The file, and where in it, as far as that can be told: "record 3", "byte 17", a field's name.
  std::string file;
  std::string what;
  // What to do about it.
  std::string remedy;
  bool repaired = false;
};
absl::string_view CheckKindName(CheckFinding::Kind kind);

struct CheckReport {
  std::string directory;
  bool in_use = false;  // a miner runs on it
  uint64_t files = 0;   // read and checked
  uint64_t bytes = 0;
  uint64_t records = 0;
  uint64_t generations = 0;
  uint64_t active = 0;  // generation; 0: none
  // The newest one without damage, the active one first: what a miner that starts now serves. 0: none.
  uint64_t served = 0;
  std::string catalog_fingerprint;
  std::vector<CheckFinding> findings;

  // Of those that were not repaired.
  uint64_t Count(CheckFinding::Kind kind) const;
};

struct CheckOptions {
  // Cuts unfinished records off and renews the damaged one of two equal logs. Nothing else is changed.
  // FAILED_PRECONDITION while a miner runs on it.
  bool repair = false;
  // Of the catalog that the state should belong to; empty: not compared.
  std::string catalog_fingerprint;
};

// Reads every durable file below a miner's state directory and compares it with its checksums, the files of a
// generation with one another, and the facts of the journals with their rules. A miner may run meanwhile:
// what it is writing is no damage. NOT_FOUND: no state lies there.
absl::StatusOr<CheckReport> CheckState(FileSystem& fs, const std::string& directory,
                                       const CheckOptions& options = {});

// The same of a catalog: its tables, what they say, and that the data they point into are there with the
// sizes of the import. The samples themselves are what `doppel inspect --verify` reads.
CheckReport CheckCatalogFiles(FileSystem& fs, const std::string& directory);

}  // namespace doppel
