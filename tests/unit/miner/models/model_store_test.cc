#include "miner/models/model_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/io/fault_file_system.h"
#include "common/model/model_directory.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class ModelStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "models-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    Reopen();
  }
  void TearDown() override {
    store_.reset();
    ASSERT_TRUE(PosixFileSystem().RemoveRecursively(root_).ok());
  }

  void Reopen() {
    store_.reset();
    auto store = ModelStore::Open(Options());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  ModelStore::Options Options() {
    ModelStore::Options options;
    options.root = root_ + "/models";
    options.fs = fs_;
    options.clock = &Clock::Real();
    options.keep = keep_;
    options.in_use = [this](const std::string& hash) { return hash == in_use_; };
    return options;
  }

  static v1::ModelDescription Describe(const std::string& weights, uint64_t step = 1, float mean = 0.5F) {
    ModelSpec spec;
    spec.architecture = "glyph_cnn";
    spec.dimension = 8;
    spec.step = step;
    spec.mean[0] = mean;
    spec.fingerprint = WeightsFingerprint(weights);
    v1::ModelDescription model;
    model.set_hash(spec.fingerprint);
    model.set_model_json(ModelSpecToJson(spec));
    model.set_bytes(weights.size());
    model.set_publisher("host:/runs/a");
    return model;
  }
  absl::StatusOr<ModelStore::Result> Publish(const std::string& weights, uint64_t step = 1,
                                             float mean = 0.5F) {
    auto upload = store_->Begin(Describe(weights, step, mean), 0);
    if (!upload.ok()) return upload.status();
    if (absl::Status status = (*upload)->Append(weights); !status.ok()) return status;
    return (*upload)->Finish();
  }
  void Overwrite(const std::string& path, const std::string& bytes) {
    auto file = PosixFileSystem().Create(path);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Append(bytes).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }

  std::string root_;
  std::string in_use_;
  size_t keep_ = 0;
  FileSystem* fs_ = &PosixFileSystem();
  std::unique_ptr<ModelStore> store_;
};

TEST_F(ModelStoreTest, StoresAModelDirectoryThatLoads) {
  const auto result = Publish("weights of one", 17);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->created);
  EXPECT_TRUE(result->model.latest());
  EXPECT_EQ(result->model.step(), 17u);
  EXPECT_EQ(result->model.dimension(), 8u);
  EXPECT_EQ(result->model.publisher(), "host:/runs/a");
  const auto files = ReadModelFiles(result->model.directory());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->weights, "weights of one");
  EXPECT_EQ(files->spec.fingerprint, result->model.hash());
}

TEST_F(ModelStoreTest, LatestIsTheOnePublishedLastAndSurvivesReopening) {
  ASSERT_TRUE(Publish("first", 1).ok());
  ASSERT_TRUE(Publish("second", 2).ok());
  EXPECT_EQ(store_->Find("latest")->step(), 2u);
  Reopen();
  EXPECT_EQ(store_->Find("latest")->step(), 2u);
  EXPECT_EQ(store_->List().models_size(), 2);
  EXPECT_EQ(store_->List().models(0).step(), 2u);
  EXPECT_TRUE(store_->List().models(0).latest());
  EXPECT_FALSE(store_->List().models(1).latest());
}

TEST_F(ModelStoreTest, PublishingAnOldModelAgainMakesItTheLatest) {
  ASSERT_TRUE(Publish("first", 1).ok());
  ASSERT_TRUE(Publish("second", 2).ok());
  const auto again = Publish("first", 1);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(again->created);
  EXPECT_EQ(store_->Find("latest")->step(), 1u);
  Reopen();
  EXPECT_EQ(store_->Find("latest")->step(), 1u);
}

TEST_F(ModelStoreTest, NothingIsLatestInAnEmptyStore) {
  const auto latest = store_->Find("latest");
  EXPECT_EQ(latest.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(latest.status().message()), HasSubstr("publish-model"));
}

TEST_F(ModelStoreTest, FindsByHashAndByItsBeginning) {
  const std::string hash = Publish("weights")->model.hash();
  EXPECT_EQ(store_->Find(hash)->hash(), hash);
  EXPECT_EQ(store_->Find(hash.substr(0, 8))->hash(), hash);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Find(hash.substr(0, 7)).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Find("0123456789abcdef").status()));
}

TEST_F(ModelStoreTest, NamesAreToldFromPaths) {
  EXPECT_TRUE(ModelStore::IsName("latest"));
  EXPECT_TRUE(ModelStore::IsName("0123abcd"));
  EXPECT_FALSE(ModelStore::IsName("/models/latest"));
  EXPECT_FALSE(ModelStore::IsName("0123abc"));
  EXPECT_FALSE(ModelStore::IsName("0123ABCD"));
  EXPECT_FALSE(ModelStore::IsName(std::string(33, 'a')));
}

TEST_F(ModelStoreTest, GoesOnWhereABrokenUploadStopped) {
  const std::string weights(100000, 'w');
  const v1::ModelDescription model = Describe(weights);
  {
    auto upload = store_->Begin(model, 0);
    ASSERT_TRUE(upload.ok());
    ASSERT_TRUE((*upload)->Append(weights.substr(0, 40000)).ok());
  }
  EXPECT_EQ(store_->Query(model.hash())->bytes(), 40000u);
  EXPECT_FALSE(store_->Query(model.hash())->complete());
  Reopen();
  EXPECT_EQ(store_->Query(model.hash())->bytes(), 40000u);
  EXPECT_TRUE(absl::IsOutOfRange(store_->Begin(model, 0).status()));
  auto upload = store_->Begin(model, 40000);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_TRUE((*upload)->Append(weights.substr(40000)).ok());
  ASSERT_TRUE((*upload)->Finish().ok());
  EXPECT_TRUE(store_->Query(model.hash())->complete());
  EXPECT_EQ(ReadModelFiles(store_->Find("latest")->directory())->weights, weights);
}

TEST_F(ModelStoreTest, WrongBytesAreDroppedAndNeverSeen) {
  const v1::ModelDescription model = Describe("the right weights");
  auto upload = store_->Begin(model, 0);
  ASSERT_TRUE((*upload)->Append("the wrong weights").ok());
  EXPECT_TRUE(absl::IsDataLoss((*upload)->Finish().status()));
  upload->reset();
  EXPECT_EQ(store_->Query(model.hash())->bytes(), 0u);
  EXPECT_EQ(store_->List().models_size(), 0);
  EXPECT_TRUE(Publish("the right weights").ok());
}

TEST_F(ModelStoreTest, TooFewAndTooManyBytesAreRefused) {
  const v1::ModelDescription model = Describe("weights");
  auto upload = store_->Begin(model, 0);
  ASSERT_TRUE((*upload)->Append("weig").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition((*upload)->Finish().status()));
  EXPECT_TRUE(absl::IsOutOfRange((*upload)->Append("hts and more")));
}

TEST_F(ModelStoreTest, OneUploadOfAModelAtATime) {
  const v1::ModelDescription model = Describe("weights");
  auto first = store_->Begin(model, 0);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsAborted(store_->Begin(model, 0).status()));
  EXPECT_TRUE(store_->Begin(Describe("others"), 0).ok());
  first->reset();
  EXPECT_TRUE(store_->Begin(model, 0).ok());
}

TEST_F(ModelStoreTest, TheSameWeightsFedOtherwiseAreRefused) {
  ASSERT_TRUE(Publish("weights", 1, 0.5F).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Publish("weights", 1, 0.25F).status()));
  EXPECT_TRUE(Publish("weights", 2, 0.5F).ok()) << "another step alone is the same model";
}

TEST_F(ModelStoreTest, DescriptionsThatDoNotFitAreRefused) {
  v1::ModelDescription model = Describe("weights");
  model.set_hash("../../etc/passwd");
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Begin(model, 0).status()));
  model = Describe("weights");
  model.set_hash(WeightsFingerprint("others"));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Begin(model, 0).status()));
  model = Describe("weights");
  model.set_model_json("{}");
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Begin(model, 0).status()));
  model = Describe("weights");
  model.set_bytes(0);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Begin(model, 0).status()));
}

TEST_F(ModelStoreTest, FlippedWeightsAreNamedWhenTheyAreAskedFor) {
  const v1::StoredModel model = Publish("some weights")->model;
  Overwrite(model.directory() + "/weights.pt", "same weights");
  Reopen();
  const auto found = store_->FindChecked("latest");
  EXPECT_TRUE(absl::IsDataLoss(found.status()));
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("weights.pt"));
}

TEST_F(ModelStoreTest, AFlippedDescriptionIsNamedAndTheModelCanBePublishedAgain) {
  const v1::StoredModel model = Publish("some weights")->model;
  Overwrite(model.directory() + "/model.json", "{}");
  Reopen();
  EXPECT_TRUE(absl::IsDataLoss(store_->Find(model.hash()).status()));
  ASSERT_EQ(store_->List().damaged_size(), 1);
  EXPECT_THAT(store_->List().damaged(0), HasSubstr("model.json"));
  EXPECT_TRUE(Publish("some weights").ok());
  EXPECT_TRUE(store_->FindChecked("latest").ok());
  EXPECT_EQ(store_->List().damaged_size(), 0);
}

TEST_F(ModelStoreTest, KeepsTheNewestAndThoseInUse) {
  keep_ = 2;
  Reopen();
  in_use_ = Publish("one", 1)->model.hash();
  for (int i = 2; i <= 5; ++i) ASSERT_TRUE(Publish(absl::StrCat("model ", i), i).ok());
  std::vector<uint64_t> steps;
  const v1::ListModelsResponse list = store_->List();
  for (const v1::StoredModel& model : list.models()) steps.push_back(model.step());
  EXPECT_THAT(steps, ::testing::ElementsAre(5, 4, 1));
  Reopen();
  EXPECT_EQ(store_->List().models_size(), 3);
}

TEST_F(ModelStoreTest, AFailureAnywhereLeavesTheOldLatestOrTheNewOne) {
  ASSERT_TRUE(Publish("old", 1).ok());
  for (int at = 0; at < 100; ++at) {
    FaultInjectingFileSystem faulty(PosixFileSystem());
    faulty.Inject({static_cast<uint64_t>(at), FaultInjectingFileSystem::Error::kIo,
                   FaultInjectingFileSystem::Lasting::kForGood});
    fs_ = &faulty;
    store_.reset();
    auto store = ModelStore::Open(Options());
    bool published = false;
    if (store.ok()) {
      store_ = *std::move(store);
      published = Publish(absl::StrCat("new ", at), 2).ok();
    }
    fs_ = &PosixFileSystem();
    Reopen();
    const auto latest = store_->FindChecked("latest");
    ASSERT_TRUE(latest.ok()) << at << ": " << latest.status();
    if (published) {
      EXPECT_EQ(latest->step(), 2u);
      return;
    }
    ASSERT_TRUE(Publish("old", 1).ok());
  }
  FAIL() << "never got through";
}

}  // namespace
}  // namespace doppel
