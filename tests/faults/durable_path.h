#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace doppel {

// One way in which something becomes durable, as steps that are each acknowledged. The enumeration breaks the
// file system at every call of it and asks afterwards whether the disk shows what was acknowledged, or that
// and the step that was on its way; never less, and nothing else.
class DurablePath {
 public:
  virtual ~DurablePath() = default;
  virtual std::string name() const = 0;
  virtual int steps() const = 0;

  // What lies in `dir` before.
  virtual void Prepare(const std::string& dir) { (void)dir; }

  // A process that has opened what is in `dir`, as a start does; it repairs what a crash left.
  class Session {
   public:
    virtual ~Session() = default;
    // OK: the step is acknowledged. A step that was done already but not acknowledged may come again.
    virtual absl::Status Do(int step) = 0;
  };
  virtual absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) = 0;

  // Reads `dir` after an Open on a sound disk. "" if it shows exactly the first `done` steps, else what
  // differs.
  virtual std::string Differs(const std::string& dir, int done) = 0;

  // Doing a step again that was done and not acknowledged changes nothing. Where it does, the power is not
  // cut after the rest of a life that was cut off.
  virtual bool repeatable() const { return true; }
  // What a crash left is mended by the next step and not by Open: that step is what is broken as the
  // recovery.
  virtual bool mends_in_step() const { return false; }
  // Recovery is broken at every n-th of its calls; more than 1 where there would be too many.
  virtual int recovery_stride() const { return 1; }
};

using DurablePaths = std::vector<std::unique_ptr<DurablePath>>;
void AddLogPaths(DurablePaths& paths);      // journal, cleaning, representations, running means
void AddStorePaths(DurablePaths& paths);    // generations, models, checkpoints, backup
void AddCatalogPaths(DurablePaths& paths);  // import, append, pack
void AddMinerPaths(DurablePaths& paths);    // the whole control state of a miner

// Dies if it is not OK: the scenario itself is wrong.
void Sound(const absl::Status& status);

}  // namespace doppel
