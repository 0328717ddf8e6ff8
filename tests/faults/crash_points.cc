// Breaks the file system at every call of every durable path, and its recovery at its calls; prints how many
// points there were and writes them to a file.
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/io/fault_file_system.h"
#include "tests/faults/durable_path.h"
#include "tests/faults/power_cut_file_system.h"

namespace doppel {

void Sound(const absl::Status& status) {
  if (status.ok()) return;
  std::printf("crash_points: %s\n", status.ToString().c_str());
  std::fflush(stdout);
  std::abort();
}

namespace {

namespace stdfs = std::filesystem;
using Fault = FaultInjectingFileSystem::Fault;
using Error = FaultInjectingFileSystem::Error;
using Lasting = FaultInjectingFileSystem::Lasting;
using Survivors = InMemoryFileSystem::Survivors;

// What happens at a call.
struct Mode {
  const char* name;
  Error error;
  Lasting lasting;
  double short_write;
  bool power_cut;
  Survivors survivors;
  // What comes next does so on the same disk, and the power is cut at the end of it: all is acknowledged
  // then.
  bool cut_at_the_end = false;
};
constexpr Mode kModes[] = {
    {"killed", Error::kIo, Lasting::kForGood, 0, false, Survivors::kSynced},
    {"killed in a write", Error::kIo, Lasting::kForGood, 0.5, false, Survivors::kSynced},
    {"power cut", Error::kIo, Lasting::kForGood, 0.5, true, Survivors::kSynced},
    {"power cut, renames written before data", Error::kIo, Lasting::kForGood, 0.5, true, Survivors::kNames},
    {"EIO once", Error::kIo, Lasting::kOnce, 0, false, Survivors::kSynced},
    {"ENOSPC once, short write", Error::kNoSpace, Lasting::kOnce, 0.5, false, Survivors::kSynced},
    {"ENOSPC from then on", Error::kNoSpace, Lasting::kForGood, 0.5, false, Survivors::kSynced},
    {"killed, power cut after the rest", Error::kIo, Lasting::kForGood, 0.5, false, Survivors::kSynced, true},
};

struct Tally {
  uint64_t calls = 0;
  uint64_t points = 0;
  uint64_t recovery_points = 0;
  std::vector<std::string> failures;
};

class Enumeration {
 public:
  // `stride`: of the recovery; 0: the path's own.
  Enumeration(DurablePath& path, std::string root, uint64_t stride)
      : path_(path),
        root_(std::move(root)),
        stride_(stride > 0 ? stride : static_cast<uint64_t>(path.recovery_stride())) {
    stdfs::create_directories(root_ + "/template");
    path_.Prepare(root_ + "/template");
  }
  ~Enumeration() { stdfs::remove_all(root_); }

  Tally Run() {
    tally_.calls = CallsOfAWholeLife();
    for (const Mode& mode : kModes) {
      if (mode.cut_at_the_end && !path_.repeatable()) continue;
      for (uint64_t call = 0; call < tally_.calls; ++call) Point(mode, call);
    }
    return tally_;
  }

 private:
  std::string Fresh(const std::string& from) {
    const std::string dir = root_ + "/run";
    stdfs::remove_all(dir);
    stdfs::copy(from, dir, stdfs::copy_options::recursive);
    return dir;
  }

  uint64_t CallsOfAWholeLife() {
    const std::string dir = Fresh(root_ + "/template");
    FaultInjectingFileSystem counting(PosixFileSystem());
    int done = 0;
    Live(counting, dir, done);
    const std::string differs = path_.Differs(dir, path_.steps());
    if (done < path_.steps() || !differs.empty()) {
      Fail(absl::StrCat("without a fault: ", done, " steps done; ", differs));
    }
    return counting.calls();
  }

  // Does the steps from `done` on, `most` of them, until one is not acknowledged.
  void Live(FileSystem& fs, const std::string& dir, int& done,
            int most = std::numeric_limits<int>::max()) const {
    const auto session = path_.Open(fs, dir);
    if (!session.ok()) return;
    for (; most > 0 && done < path_.steps() && (*session)->Do(done).ok(); --most) ++done;
  }

  void Point(const Mode& mode, uint64_t call) {
    ++tally_.points;
    const std::string where = absl::StrCat(mode.name, " at call ", call);
    const std::string dir = Fresh(root_ + "/template");
    int done = 0;
    {
      PowerCutFileSystem disk(PosixFileSystem(), dir);
      FaultInjectingFileSystem faulty(disk);
      faulty.Inject({call, mode.error, mode.lasting, mode.short_write});
      Live(faulty, dir, done);
      if (mode.cut_at_the_end) Live(disk, dir, done);
      if (mode.power_cut || mode.cut_at_the_end) disk.PowerCut(mode.survivors);
    }
    if (mode.cut_at_the_end) {
      if (done < path_.steps()) Fail(absl::StrCat(where, ": does not go on after step ", done));
      Recover(dir, done, where);
      return;
    }
    const std::string broken = root_ + "/broken";
    stdfs::remove_all(broken);
    stdfs::copy(dir, broken, stdfs::copy_options::recursive);
    const uint64_t calls = Recover(dir, done, where);
    if (mode.lasting == Lasting::kOnce || calls == 0) return;
    for (uint64_t at = call % stride_; at < calls; at += stride_) {
      BrokenRecovery(mode, broken, at, done, absl::StrCat(where, ", again at call ", at, " of the recovery"));
    }
  }

  // Starts on a sound disk, looks, and goes on to the end. Returns the calls of the start.
  uint64_t Recover(const std::string& dir, int acknowledged, const std::string& where) {
    FaultInjectingFileSystem counting(PosixFileSystem());
    {
      const auto opened = path_.Open(counting, dir);
      if (!opened.ok()) {
        Fail(absl::StrCat(where, ": does not start: ", opened.status().ToString()));
        return 0;
      }
    }
    int done = acknowledged;
    std::string differs = path_.Differs(dir, done);
    if (!differs.empty() && done < path_.steps()) {
      const std::string one_more = path_.Differs(dir, done + 1);
      if (one_more.empty()) {
        ++done;
        differs.clear();
      } else {
        absl::StrAppend(&differs, " / ", one_more);
      }
    }
    if (!differs.empty()) {
      Fail(absl::StrCat(where, ": after ", acknowledged, " acknowledged steps: ", differs));
      return 0;
    }
    if (path_.mends_in_step()) {
      // Also if it was done: that nobody knows.
      done = acknowledged;
      Live(counting, dir, done, 1);
    }
    const uint64_t calls = counting.calls();
    Live(PosixFileSystem(), dir, done);
    differs = path_.Differs(dir, path_.steps());
    if (done < path_.steps() || !differs.empty()) {
      Fail(absl::StrCat(where, ": does not go on after step ", done, ": ", differs));
    }
    return calls;
  }

  void BrokenRecovery(const Mode& mode, const std::string& broken, uint64_t at, int acknowledged,
                      const std::string& where) {
    ++tally_.recovery_points;
    const std::string dir = Fresh(broken);
    {
      PowerCutFileSystem disk(PosixFileSystem(), dir);
      FaultInjectingFileSystem faulty(disk);
      faulty.Inject({at, mode.error, mode.lasting, mode.short_write});
      Live(faulty, dir, acknowledged, path_.mends_in_step() ? 1 : 0);
      if (mode.power_cut) disk.PowerCut(mode.survivors);
    }
    Recover(dir, acknowledged, where);
  }

  void Fail(std::string what) {
    if (tally_.failures.size() < 20) {
      std::printf("FAILED %s: %s\n", path_.name().c_str(), what.c_str());
      std::fflush(stdout);
    }
    tally_.failures.push_back(std::move(what));
  }

  DurablePath& path_;
  const std::string root_;
  const uint64_t stride_;
  Tally tally_;
};

int Main(int argc, char** argv) {
  std::string output, only;
  uint64_t stride = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--output" && i + 1 < argc) {
      output = argv[++i];
    } else if (argument == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (argument == "--recovery-stride" && i + 1 < argc && absl::SimpleAtoi(argv[i + 1], &stride)) {
      ++i;
    } else {
      std::fprintf(stderr,
                   "usage: crash_points [--output FILE] [--only PART-OF-A-NAME] [--recovery-stride N]\n");
      return 2;
    }
  }
  // What the stores log about injected errors would fill the screen.
  if (std::freopen("/dev/null", "w", stderr) == nullptr) return 1;
  DurablePaths paths;
  AddLogPaths(paths);
  AddStorePaths(paths);
  AddCatalogPaths(paths);
  AddMinerPaths(paths);
  // In memory where there is such a place: everything is synced thousands of times.
  std::string root = access("/dev/shm", W_OK) == 0 ? "/dev/shm/crash-XXXXXX" : "/tmp/crash-XXXXXX";
  if (mkdtemp(root.data()) == nullptr) return 1;
  nlohmann::ordered_json json = {{"paths", nlohmann::ordered_json::array()}};
  uint64_t points = 0, recovery_points = 0, failures = 0;
  for (const auto& path : paths) {
    if (!absl::StrContains(path->name(), only)) continue;
    const absl::Time start = absl::Now();
    const Tally tally = Enumeration(*path, root + "/path", stride).Run();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    std::printf("%-46s %4d calls %6d points %7d in the recovery %5.1f s %s\n", path->name().c_str(),
                static_cast<int>(tally.calls), static_cast<int>(tally.points),
                static_cast<int>(tally.recovery_points), seconds,
                tally.failures.empty() ? "all recovered" : "FAILED");
    std::fflush(stdout);
    json["paths"].push_back({{"path", path->name()},
                             {"calls", tally.calls},
                             {"points", tally.points},
                             {"recovery_points", tally.recovery_points},
                             {"failures", tally.failures},
                             {"seconds", seconds}});
    points += tally.points;
    recovery_points += tally.recovery_points;
    failures += tally.failures.size();
  }
  stdfs::remove_all(root);
  json["points"] = points;
  json["recovery_points"] = recovery_points;
  json["failures"] = failures;
  if (!output.empty()) std::ofstream(output) << json.dump(2) << "\n";
  std::printf("%d points, %d of them in a recovery, %d not recovered\n",
              static_cast<int>(points + recovery_points), static_cast<int>(recovery_points),
              static_cast<int>(failures));
  return failures == 0 && points > 0 ? 0 : 1;
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) { return doppel::Main(argc, argv); }
