// What is appended record by record.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"
#include "common/io/mirrored_log.h"
#include "miner/cleaning/cleaning_store.h"
#include "miner/generation/journal.h"
#include "miner/representation/representation_store.h"
#include "miner/representation/running_mean_store.h"
#include "tests/faults/durable_path.h"

namespace doppel {
namespace {

using Session = DurablePath::Session;

// ---- the journal of the miner

// Each step is what one call of the manager appends.
std::vector<v1::MinerUpdate> JournalStep(int step) {
  std::vector<v1::MinerUpdate> updates(1);
  const auto number = static_cast<uint64_t>(step / 2 + 1);
  if (step % 2 == 0) {
    updates[0].mutable_operation_started()->set_id(absl::StrCat("op-", number));
    updates[0].mutable_operation_started()->set_generation(number);
    return updates;
  }
  updates[0].mutable_generation_published()->set_generation(number);
  updates.emplace_back().mutable_generation_activated()->set_generation(number);
  v1::OperationEnded& ended = *updates.emplace_back().mutable_operation_ended();
  ended.set_id(absl::StrCat("op-", number));
  ended.set_state(v1::Operation::STATE_SUCCEEDED);
  return updates;
}

void FlipBit(const std::string& path, size_t at) {
  std::string data = PosixFileSystem().ReadFile(path).value();
  data.at(at) = static_cast<char>(data.at(at) ^ 4);
  Sound(WriteFileAtomically(PosixFileSystem(), path, data));
}

class JournalPath : public DurablePath {
 public:
  // With a flipped bit in one of the two files before the start.
  explicit JournalPath(bool damaged) : damaged_(damaged) {}
  std::string name() const override { return damaged_ ? "journal, mended from its copy" : "journal"; }
  int steps() const override { return 6; }

  void Prepare(const std::string& dir) override {
    if (!damaged_) return;
    MinerState state;
    const auto journal = Journal::Open(PosixFileSystem(), dir + "/journal.rec", state).value();
    for (int step = 0; step < 2; ++step) Sound(journal->Append(JournalStep(step)));
    FlipBit(dir + "/journal.rec", 30);
  }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<JournalSession>();
    session->base = damaged_ ? 2 : 0;
    ASSIGN_OR_RETURN(session->journal, Journal::Open(fs, dir + "/journal.rec", session->state));
    // A crash may leave the first of the facts of a step; the manager adds the rest when it opens.
    const MinerState::OperationRecord* const running = session->state.Running();
    if (running != nullptr && session->state.published().count(running->started.generation()) > 0) {
      const auto number = static_cast<int>(running->started.generation());
      std::vector<v1::MinerUpdate> rest = JournalStep(2 * number - 1);
      rest.erase(rest.begin(),
                 rest.begin() + (session->state.active() == running->started.generation() ? 2 : 1));
      RETURN_IF_ERROR(session->journal->Append(rest));
      for (const v1::MinerUpdate& update : rest) RETURN_IF_ERROR(session->state.Apply(update));
    }
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    MinerState expected;
    const int base = damaged_ ? 2 : 0;
    for (int step = 0; step < base + done; ++step) {
      for (const v1::MinerUpdate& update : JournalStep(step)) Sound(expected.Apply(update));
    }
    const auto contents = MirroredLog::Read(PosixFileSystem(), dir + "/journal.rec");
    if (!contents.ok()) return contents.status().ToString();
    if (!contents->damage.empty()) return contents->damage[0];
    MinerState state;
    Sound(Journal::Replay("journal", contents->records, state));
    return state.DebugString() == expected.DebugString() ? "" : state.DebugString();
  }

 private:
  struct JournalSession : Session {
    absl::Status Do(int step) override {
      const auto ops = static_cast<int>(state.operations().size());
      // Done, and not acknowledged.
      const bool ended = ops > 0 && state.Running() == nullptr;
      const int done = ops == 0 ? 0 : 2 * ops - (ended ? 0 : 1);
      if (base + step < done) return absl::OkStatus();
      const std::vector<v1::MinerUpdate> updates = JournalStep(base + step);
      RETURN_IF_ERROR(journal->Append(updates));
      for (const v1::MinerUpdate& update : updates) RETURN_IF_ERROR(state.Apply(update));
      return absl::OkStatus();
    }
    int base = 0;
    MinerState state;
    std::unique_ptr<Journal> journal;
  };
  const bool damaged_;
};

// ---- findings and decisions

class CleaningPath : public DurablePath {
 public:
  std::string name() const override { return "cleaning decisions"; }
  int steps() const override { return 6; }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<CleaningSession>();
    ASSIGN_OR_RETURN(session->store, CleaningStore::Open(fs, dir + "/cleaning.rec", clock_));
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    const auto store = CleaningStore::Open(PosixFileSystem(), dir + "/cleaning.rec", clock_);
    if (!store.ok()) return store.status().ToString();
    const CleaningState state = (*store)->State();
    // Steps 0, 2, 4 replace the findings, the others decide.
    const int findings = done == 0 ? 0 : (done + 1) / 2;
    const uint64_t seen =
        state.findings().findings_size() == 0 ? 0 : state.findings().findings(0).subject().first_identity();
    const bool same =
        seen == static_cast<uint64_t>(findings) && state.next_number() == static_cast<uint64_t>(done / 2 + 1);
    return same ? "" : absl::StrCat("findings ", seen, ", next decision ", state.next_number());
  }

 private:
  struct CleaningSession : Session {
    absl::Status Do(int step) override {
      v1::CleaningSubject subject;
      subject.set_kind(v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES);
      subject.set_first_identity(static_cast<uint32_t>(step / 2 + 1));
      subject.set_second_identity(100);
      if (step % 2 == 1) {
        if (store->State().next_number() > static_cast<uint64_t>(step / 2 + 1)) return absl::OkStatus();
        return store->Decide({subject}, v1::Decision::VERDICT_KEEP, "").status();
      }
      v1::FindingsReplaced findings;
      *findings.add_findings()->mutable_subject() = subject;
      return store->ReplaceFindings(std::move(findings));
    }
    std::unique_ptr<CleaningStore> store;
  };
  const ManualClock clock_;
};

// ---- representations

class RangesPath : public DurablePath {
 public:
  std::string name() const override { return "representation ranges"; }
  // Two ranges, another generation takes the pass over, two ranges, a new pass pushes an old one out.
  int steps() const override { return 6; }
  void Prepare(const std::string& dir) override {
    Sound(OpenRepresentationPass(PosixFileSystem(), dir + "/representations", 1, Pass(7)).status());
  }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<RangesSession>(fs, dir);
    RETURN_IF_ERROR(session->OpenAs(2));
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    // Ranges of steps 0, 1, 3, 4.
    const int ranges = done <= 2 ? std::min(done, 2) : std::min(done - 1, 4);
    const auto store = RepresentationStore::Open(PosixFileSystem(), Folder(dir), Pass(3));
    if (!store.ok()) return store.status().ToString();
    const uint64_t committed = (*store)->Committed().size();
    if (committed != static_cast<uint64_t>(ranges) * 4) return absl::StrCat(committed, " identities");
    if (ranges == 4) {
      const auto frozen = (*store)->Freeze();
      if (!frozen.ok() || frozen->samples[15] != 16) return "other samples than committed";
    }
    return "";
  }

 private:
  static v1::RepresentationPass Pass(uint64_t seed) {
    v1::RepresentationPass pass;
    pass.set_catalog_fingerprint("feed");
    pass.set_model_fingerprint("beef");
    pass.set_seed(seed);
    pass.set_identities(16);
    pass.set_dimension(2);
    return pass;
  }
  // The folder of the pass, whichever generation used it last.
  static std::string Folder(const std::string& dir) {
    const std::string key = RepresentationPassKey(Pass(3));
    const std::vector<std::string> names = PosixFileSystem().List(dir + "/representations").value();
    for (const std::string& name : names) {
      if (name.substr(name.find('-') + 1) == key) return dir + "/representations/" + name;
    }
    return dir + "/representations/missing";
  }
  struct RangesSession : Session {
    RangesSession(FileSystem& fs, const std::string& dir) : fs(fs), root(dir + "/representations") {}
    absl::Status OpenAs(uint64_t generation) {
      store.reset();
      ASSIGN_OR_RETURN(store, OpenRepresentationPass(fs, root, generation, Pass(3)));
      return absl::OkStatus();
    }
    absl::Status Do(int step) override {
      if (step == 2) return OpenAs(3);
      if (step == 5) return RemoveOldPasses(fs, root, 1);
      const uint64_t range = static_cast<uint64_t>(step < 2 ? step : step - 1);
      v1::RepresentationRange out;
      out.set_first_identity(4 * range);
      out.set_identity_count(4);
      out.set_dimension(2);
      const std::vector<float> values(8, static_cast<float>(range + 1));
      out.set_representations(values.data(), values.size() * sizeof(float));
      for (uint64_t i = 1; i <= 4; ++i) out.add_samples(static_cast<uint32_t>(4 * range + i));
      return store->Commit(out).status();
    }
    FileSystem& fs;
    const std::string root;
    std::unique_ptr<RepresentationStore> store;
  };
};

// ---- running means

class SnapshotsPath : public DurablePath {
 public:
  std::string name() const override { return "running means snapshots"; }
  int steps() const override { return 4; }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<SnapshotsSession>(fs, dir + "/live");
    session->dir = dir;
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    RunningMeanStore store(PosixFileSystem(), dir + "/live");
    uint64_t reports = 0;
    const std::vector<uint64_t> numbers = store.Numbers().value();
    for (const uint64_t number : numbers) {
      const auto header = store.Check(number);
      if (!header.ok()) return header.status().ToString();
      reports = header->reports();
    }
    return reports == static_cast<uint64_t>(done) ? "" : absl::StrCat("snapshot ", reports);
  }

 private:
  struct SnapshotsSession : Session {
    SnapshotsSession(FileSystem& fs, const std::string& root) : store(fs, root, 40) {}
    absl::Status Do(int step) override {
      v1::RunningMeanHeader header;
      header.set_reports(static_cast<uint64_t>(step) + 1);
      header.set_dimension(1);
      header.set_identities(4);
      uint64_t next = 0;
      return store.Save(header, [&next]() -> absl::StatusOr<std::optional<v1::RunningMeanRows>> {
        if (next == 4) return std::optional<v1::RunningMeanRows>();
        v1::RunningMeanRows rows;
        const float mean = 1;
        rows.add_identities(next++);
        rows.set_means(&mean, sizeof mean);
        rows.add_weights(1);
        rows.add_model_steps(1);
        rows.add_samples(1);
        return std::optional<v1::RunningMeanRows>(std::move(rows));
      });
    }
    RunningMeanStore store;
    std::string dir;
  };
};

}  // namespace

void AddLogPaths(DurablePaths& paths) {
  paths.push_back(std::make_unique<JournalPath>(false));
  paths.push_back(std::make_unique<JournalPath>(true));
  paths.push_back(std::make_unique<CleaningPath>());
  paths.push_back(std::make_unique<RangesPath>());
  paths.push_back(std::make_unique<SnapshotsPath>());
}

}  // namespace doppel
