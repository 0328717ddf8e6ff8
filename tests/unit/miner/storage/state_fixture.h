#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "common/io/record_file.h"
#include "common/model/model_directory.h"
#include "miner/cleaning/cleaning_store.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/journal.h"
#include "miner/models/model_store.h"
#include "miner/representation/representation_store.h"
#include "miner/representation/running_mean_store.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {

// A state directory with something in each of its corners: generations 1, 2 (active) and 3, a pass, a model,
// running means, decisions, a work group.
class StateFixture : public ::testing::Test {
 protected:
  static constexpr char kFingerprint[] = "0123456789abcdef0123456789abcdef";

  StateFixture() {
    Publish(1);
    Publish(2);
    Publish(3);
    Activate(2);
    std::ofstream(state_ + "/CATALOG") << kFingerprint << "\n";
    WritePass();
    WriteModel();
    WriteSnapshots();
    v1::CleaningSubject subject;
    subject.set_kind(v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES);
    subject.set_first_identity(1);
    subject.set_second_identity(2);
    const auto cleaning = CleaningStore::Open(fs_, state_ + "/cleaning.rec", Clock::Real()).value();
    EXPECT_TRUE(cleaning->Decide({subject}, v1::Decision::VERDICT_KEEP, "").ok());
    EXPECT_TRUE(fs_.MakeDirectories(state_ + "/work_groups").ok());
    v1::WorkGroupUpdate opened;
    opened.mutable_opened()->set_group("g");
    EXPECT_TRUE(RecordWriter::Open(fs_, state_ + "/work_groups/g.rec")
                    .value()
                    ->Append(opened.SerializeAsString())
                    .ok());
  }

  void Record(const std::vector<v1::MinerUpdate>& updates) {
    EXPECT_TRUE(fs_.MakeDirectories(state_).ok());
    MinerState state;
    EXPECT_TRUE(Journal::Open(fs_, state_ + "/journal.rec", state).value()->Append(updates).ok());
  }
  void Activate(uint64_t number) {
    std::vector<v1::MinerUpdate> updates(1);
    updates[0].mutable_generation_activated()->set_generation(number);
    Record(updates);
  }
  void Publish(uint64_t number) {
    GenerationContents contents;
    contents.assignment = {1, 0, 1, 1, 0, 1};
    contents.centroids = {2, 3, {1, 0, 0, 0, 1, 0}};
    contents.representations = {6, 3, std::vector<float>(18, static_cast<float>(number))};
    contents.info.set_generation(number);
    contents.info.set_catalog_fingerprint(kFingerprint);
    contents.info.set_identities(6);
    contents.info.set_subspaces(2);
    contents.info.set_dimension(3);
    contents.guard_list = GuardList::Make({{1, 2}}, {5}).value();
    GenerationStore store(fs_, state_ + "/generations");
    EXPECT_TRUE(store.Initialize().ok());
    EXPECT_TRUE(store.Write(contents, {}).ok());
    std::vector<v1::MinerUpdate> updates(3);
    updates[0].mutable_operation_started()->set_id(absl::StrCat("op-", number));
    updates[0].mutable_operation_started()->set_generation(number);
    updates[1].mutable_generation_published()->set_generation(number);
    updates[2].mutable_operation_ended()->set_id(absl::StrCat("op-", number));
    updates[2].mutable_operation_ended()->set_state(v1::Operation::STATE_SUCCEEDED);
    Record(updates);
  }
  void WritePass() {
    v1::RepresentationPass pass;
    pass.set_identities(6);
    pass.set_dimension(1);
    const auto store = OpenRepresentationPass(fs_, state_ + "/representations", 2, pass).value();
    v1::RepresentationRange range;
    range.set_identity_count(3);
    range.set_dimension(1);
    range.set_representations(std::string(12, '\0'));
    for (int i = 0; i < 3; ++i) range.add_samples(1);
    EXPECT_TRUE(store->Commit(range).ok());
    range.set_first_identity(3);
    EXPECT_TRUE(store->Commit(range).ok());
  }
  void WriteModel() {
    ModelStore::Options options;
    options.root = state_ + "/models";
    options.fs = &fs_;
    options.clock = &Clock::Real();
    const auto models = ModelStore::Open(std::move(options)).value();
    ModelSpec spec;
    spec.architecture = "glyph_cnn";
    spec.dimension = 8;
    spec.fingerprint = WeightsFingerprint("weights");
    v1::ModelDescription model;
    model.set_hash(spec.fingerprint);
    model.set_model_json(ModelSpecToJson(spec));
    model.set_bytes(7);
    const auto upload = models->Begin(model, 0).value();
    EXPECT_TRUE(upload->Append("weights").ok());
    EXPECT_TRUE(upload->Finish().ok());
  }
  void WriteSnapshots() {
    RunningMeanStore live(fs_, state_ + "/live");
    for (int i = 0; i < 2; ++i) {
      bool more = true;
      v1::RunningMeanHeader header;
      header.set_dimension(1);
      header.set_identities(6);
      EXPECT_TRUE(live.Save(header,
                            [&more]() -> absl::StatusOr<std::optional<v1::RunningMeanRows>> {
                              if (!std::exchange(more, false)) return std::optional<v1::RunningMeanRows>();
                              v1::RunningMeanRows rows;
                              rows.add_identities(4);
                              rows.set_means(std::string(4, '\0'));
                              rows.add_weights(1);
                              rows.add_model_steps(1);
                              rows.add_samples(1);
                              return std::optional<v1::RunningMeanRows>(std::move(rows));
                            })
                      .ok());
    }
  }

  // Every file of the state, relative to it.
  std::vector<std::string> Files(const std::string& below = "") {
    std::vector<std::string> files;
    const std::vector<std::string> names = fs_.List(state_ + below).value();
    for (const std::string& name : names) {
      const std::string path = absl::StrCat(below, "/", name);
      if (!fs_.List(state_ + path).ok()) {
        files.push_back(path);
        continue;
      }
      for (std::string& file : Files(path)) files.push_back(std::move(file));
    }
    return files;
  }
  void Write(const std::string& path, const std::string& data) {
    ASSERT_TRUE(WriteFileAtomically(fs_, path, data).ok());
  }

  testing::TempDir dir_;
  FileSystem& fs_ = PosixFileSystem();
  const std::string state_ = dir_ / "state";
};

}  // namespace doppel
