// What is put in place whole.
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "common/model/model_directory.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/journal.h"
#include "miner/models/model_store.h"
#include "miner/storage/state_backup.h"
#include "miner/storage/state_check.h"
#include "tests/faults/durable_path.h"
#include "trainer/checkpoint/checkpoint_store.h"

namespace doppel {
namespace {

using Session = DurablePath::Session;

constexpr char kCatalog[] = "0123456789abcdef0123456789abcdef";

GenerationContents SmallGeneration(uint64_t number) {
  GenerationContents contents;
  contents.assignment = {1, 0, 1, 1, 0, static_cast<int32_t>(number % 2)};
  contents.centroids = {2, 3, {1, 0, 0, 0, 1, 0}};
  contents.representations = {6, 3, std::vector<float>(18, static_cast<float>(number))};
  contents.info.set_generation(number);
  contents.info.set_catalog_fingerprint(kCatalog);
  contents.info.set_identities(6);
  contents.info.set_subspaces(2);
  contents.info.set_dimension(3);
  return contents;
}

// ---- generations

class GenerationsPath : public DurablePath {
 public:
  std::string name() const override { return "generation publish"; }
  // Write 2, derive 3 of it, write 4, remove 1.
  int steps() const override { return 4; }
  void Prepare(const std::string& dir) override {
    GenerationStore store(PosixFileSystem(), dir + "/generations");
    Sound(store.Initialize());
    Sound(store.Write(SmallGeneration(1), {}));
  }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<GenerationsSession>(fs, dir);
    RETURN_IF_ERROR(session->store.Initialize());
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    const GenerationStore store(PosixFileSystem(), dir + "/generations");
    const std::vector<std::vector<uint64_t>> expected = {{1}, {1, 2}, {1, 2, 3}, {1, 2, 3, 4}, {2, 3, 4}};
    const auto names = PosixFileSystem().List(dir + "/generations").value();
    const std::vector<uint64_t> numbers = store.Numbers().value();
    if (names.size() != numbers.size()) return "something half-written lies about";
    if (numbers != expected[done]) return absl::StrCat(numbers.size(), " generations");
    for (const uint64_t number : numbers) {
      const auto generation = store.Load(number, kCatalog);
      if (!generation.ok()) return generation.status().ToString();
      const float base = number == 3 ? 2 : static_cast<float>(number);
      if ((*generation)->Representation(0)[0] != base) return absl::StrCat(number, ": other bytes");
      if ((*generation)->guard_list().empty() == (number == 3)) return absl::StrCat(number, ": guard list");
    }
    return "";
  }

 private:
  struct GenerationsSession : Session {
    GenerationsSession(FileSystem& fs, const std::string& dir) : store(fs, dir + "/generations") {}
    absl::Status Do(int step) override {
      if (step == 0) return store.Write(SmallGeneration(2), {});
      if (step == 2) return store.Write(SmallGeneration(4), {});
      if (step == 3) return store.Remove(1);
      v1::GenerationInfo info = SmallGeneration(2).info;
      info.set_generation(3);
      return store.Derive(2, info, GuardList::Make({{1, 2}}, {5}).value());
    }
    GenerationStore store;
  };
};

// ---- models

class ModelsPath : public DurablePath {
 public:
  std::string name() const override { return "model publish"; }
  // A, B in two parts, A again, C (which pushes B out), D (A).
  int steps() const override { return 5; }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<ModelsSession>();
    ASSIGN_OR_RETURN(session->store, OpenStore(fs, dir));
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    const auto store = OpenStore(PosixFileSystem(), dir);
    if (!store.ok()) return store.status().ToString();
    const v1::ListModelsResponse list = (*store)->List();
    if (list.damaged_size() > 0) return list.damaged(0);
    const std::vector<std::string> expected = {"", "A", "BA", "AB", "CA", "DC"};
    std::string got;
    int latest = 0;
    for (const v1::StoredModel& model : list.models()) {
      latest += model.latest() ? 1 : 0;
      const auto found = (*store)->FindChecked(model.hash());
      if (!found.ok()) return found.status().ToString();
      for (const char* name : {"A", "B", "C", "D"}) {
        if (WeightsFingerprint(Weights(name)) == model.hash()) got += name;
      }
    }
    if (done > 0 && latest != 1) return absl::StrCat(latest, " latest models");
    // Whether the old one is pruned already is of no matter.
    return absl::StartsWith(got, expected[done]) ? "" : absl::StrCat("models ", got);
  }

 private:
  static std::string Weights(const std::string& name) { return absl::StrCat("weights of ", name); }
  static absl::StatusOr<std::unique_ptr<ModelStore>> OpenStore(FileSystem& fs, const std::string& dir) {
    ModelStore::Options options;
    options.root = dir + "/models";
    options.fs = &fs;
    options.clock = &Clock::Real();
    options.keep = 2;
    return ModelStore::Open(std::move(options));
  }
  struct ModelsSession : Session {
    absl::Status Publish(const std::string& name, bool in_parts) {
      const std::string weights = Weights(name);
      ModelSpec spec;
      spec.architecture = "glyph_cnn";
      spec.dimension = 8;
      spec.fingerprint = WeightsFingerprint(weights);
      v1::ModelDescription model;
      model.set_hash(spec.fingerprint);
      model.set_model_json(ModelSpecToJson(spec));
      model.set_bytes(weights.size());
      for (int part = 0; part < 2; ++part) {
        ASSIGN_OR_RETURN(const v1::QueryModelResponse there, store->Query(model.hash()));
        ASSIGN_OR_RETURN(const auto upload, store->Begin(model, there.bytes()));
        std::string rest = there.complete() ? "" : weights.substr(there.bytes());
        if (in_parts && part == 0 && rest.size() > 4) {
          RETURN_IF_ERROR(upload->Append(rest.substr(0, 4)));
          continue;  // the trainer dies here and comes back
        }
        RETURN_IF_ERROR(upload->Append(rest));
        return upload->Finish().status();
      }
      return absl::InternalError("not reached");
    }
    absl::Status Do(int step) override {
      const char* const names[] = {"A", "B", "A", "C", "D"};
      return Publish(names[step], step == 1);
    }
    std::unique_ptr<ModelStore> store;
  };
};

// ---- a trainer's checkpoints

class CheckpointsPath : public DurablePath {
 public:
  std::string name() const override { return "trainer checkpoint"; }
  int steps() const override { return 4; }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    auto session = std::make_unique<CheckpointsSession>(fs, dir + "/checkpoints");
    RETURN_IF_ERROR(session->store.FindNewest().status());
    return std::unique_ptr<Session>(std::move(session));
  }
  std::string Differs(const std::string& dir, int done) override {
    CheckpointStore store(PosixFileSystem(), dir + "/checkpoints", 2);
    const auto scan = store.FindNewest();
    if (!scan.ok()) return scan.status().ToString();
    if (!scan->damaged.empty()) return scan->damaged[0];
    const uint64_t newest = scan->newest ? scan->newest->step : 0;
    return newest == static_cast<uint64_t>(done) ? "" : absl::StrCat("step ", newest);
  }

 private:
  struct CheckpointsSession : Session {
    CheckpointsSession(FileSystem& fs, const std::string& root) : fs(fs), store(fs, root, 2) {}
    absl::Status Do(int step) override {
      const uint64_t number = static_cast<uint64_t>(step) + 1;
      return store.Save(number, [&](const std::string& folder) -> absl::Status {
        RETURN_IF_ERROR(fs.MakeDirectories(folder + "/model"));
        // As LibTorch does: past the file system of ours, and without a sync.
        std::ofstream(folder + "/model/weights.pt") << "weights of " << number;
        ASSIGN_OR_RETURN(const auto file, fs.Create(folder + "/optimizer.pt"));
        RETURN_IF_ERROR(file->Append("moments"));
        return file->Close();
      });
    }
    FileSystem& fs;
    CheckpointStore store;
  };
};

// ---- backup and restore

class BackupPath : public DurablePath {
 public:
  std::string name() const override { return "backup and restore"; }
  int steps() const override { return 2; }
  void Prepare(const std::string& dir) override {
    GenerationStore store(PosixFileSystem(), dir + "/state/generations");
    Sound(store.Initialize());
    Sound(store.Write(SmallGeneration(1), {}));
    MinerState state;
    const auto journal = Journal::Open(PosixFileSystem(), dir + "/state/journal.rec", state).value();
    std::vector<v1::MinerUpdate> updates(4);
    updates[0].mutable_operation_started()->set_id("op-1");
    updates[0].mutable_operation_started()->set_generation(1);
    updates[1].mutable_generation_published()->set_generation(1);
    updates[2].mutable_generation_activated()->set_generation(1);
    updates[3].mutable_operation_ended()->set_id("op-1");
    updates[3].mutable_operation_ended()->set_state(v1::Operation::STATE_SUCCEEDED);
    Sound(journal->Append(updates));
    std::ofstream(dir + "/state/CATALOG") << kCatalog << "\n";
  }
  absl::StatusOr<std::unique_ptr<Session>> Open(FileSystem& fs, const std::string& dir) override {
    return std::unique_ptr<Session>(std::make_unique<BackupSession>(fs, dir));
  }
  std::string Differs(const std::string& dir, int done) override {
    const char* const folders[] = {"/state", "/backup", "/restored"};
    for (int i = 0; i < 3; ++i) {
      const bool there = PosixFileSystem().Exists(dir + folders[i]);
      if (there != (i <= done)) return absl::StrCat(folders[i], there ? " is there" : " is missing");
      if (!there) continue;
      const auto report = CheckState(PosixFileSystem(), dir + folders[i]);
      if (!report.ok()) return report.status().ToString();
      if (!report->findings.empty()) return report->findings[0].file + ": " + report->findings[0].what;
      if (report->served != 1) return absl::StrCat(folders[i], " does not serve");
    }
    return "";
  }

 private:
  struct BackupSession : Session {
    BackupSession(FileSystem& fs, std::string dir) : fs(fs), dir(std::move(dir)) {}
    absl::Status Do(int step) override {
      // It may be there whole, without having been acknowledged.
      if (fs.Exists(dir + (step == 0 ? "/backup" : "/restored"))) return fs.SyncDirectory(dir);
      if (step == 0) return BackUpState(fs, dir + "/state", dir + "/backup", {}).status();
      return RestoreState(fs, dir + "/backup", dir + "/restored").status();
    }
    FileSystem& fs;
    const std::string dir;
  };
};

}  // namespace

void AddStorePaths(DurablePaths& paths) {
  paths.push_back(std::make_unique<GenerationsPath>());
  paths.push_back(std::make_unique<ModelsPath>());
  paths.push_back(std::make_unique<CheckpointsPath>());
  paths.push_back(std::make_unique<BackupPath>());
}

}  // namespace doppel
