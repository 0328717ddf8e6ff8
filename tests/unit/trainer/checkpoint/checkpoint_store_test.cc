#include "trainer/checkpoint/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class CheckpointStoreTest : public ::testing::Test {
 protected:
  absl::Status Put(const std::string& path, const std::string& text) {
    ASSIGN_OR_RETURN(auto file, fs_->Create(path));
    RETURN_IF_ERROR(file->Append(text));
    return file->Close();
  }
  absl::Status Save(CheckpointStore& store, uint64_t step) {
    return store.Save(step, [&](const std::string& directory) {
      RETURN_IF_ERROR(fs_->MakeDirectories(directory + "/model"));
      RETURN_IF_ERROR(Put(directory + "/model/weights", absl::StrCat("weights of ", step)));
      return Put(directory + "/optimizer", "moments");
    });
  }
  std::vector<std::string> Names() { return fs_->List("runs/a").value(); }
  std::unique_ptr<FileSystem> fs_ = MakeInMemoryFileSystem();
};

TEST_F(CheckpointStoreTest, FindsNothingWhereNothingIs) {
  CheckpointStore store(*fs_, "runs/a", 3);
  const auto scan = store.FindNewest();
  ASSERT_TRUE(scan.ok()) << scan.status();
  EXPECT_FALSE(scan->newest.has_value());
  EXPECT_TRUE(scan->damaged.empty());
}

TEST_F(CheckpointStoreTest, FindsTheNewest) {
  CheckpointStore store(*fs_, "runs/a", 3);
  for (uint64_t step : {5, 100, 20}) ASSERT_TRUE(Save(store, step).ok());
  const auto scan = store.FindNewest();
  ASSERT_TRUE(scan->newest.has_value());
  EXPECT_EQ(scan->newest->step, 100U);
  EXPECT_EQ(fs_->ReadFile(scan->newest->directory + "/model/weights").value(), "weights of 100");
}

TEST_F(CheckpointStoreTest, KeepsTheLastFew) {
  CheckpointStore store(*fs_, "runs/a", 2);
  for (uint64_t step = 1; step <= 5; ++step) ASSERT_TRUE(Save(store, step).ok());
  EXPECT_THAT(Names(), ::testing::ElementsAre("step-000000000004", "step-000000000005"));
}

TEST_F(CheckpointStoreTest, NamesDamagedOnesAndFallsBack) {
  CheckpointStore store(*fs_, "runs/a", 5);
  for (uint64_t step : {1, 2, 3, 4}) ASSERT_TRUE(Save(store, step).ok());
  ASSERT_TRUE(Put("runs/a/step-000000000004/optimizer", "momentz").ok());
  ASSERT_TRUE(fs_->Truncate("runs/a/step-000000000003/model/weights", 3).ok());
  const auto scan = store.FindNewest();
  ASSERT_TRUE(scan->newest.has_value());
  EXPECT_EQ(scan->newest->step, 2U);
  ASSERT_EQ(scan->damaged.size(), 2U);
  EXPECT_THAT(scan->damaged[0], HasSubstr("step-000000000004: optimizer has the wrong CRC32C"));
  EXPECT_THAT(scan->damaged[1], HasSubstr("model/weights has 3 bytes instead of 12"));
}

TEST_F(CheckpointStoreTest, MissingFilesAndManifestsAreDamage) {
  CheckpointStore store(*fs_, "runs/a", 5);
  for (uint64_t step : {1, 2, 3, 4}) ASSERT_TRUE(Save(store, step).ok());
  ASSERT_TRUE(fs_->Remove("runs/a/step-000000000004/optimizer").ok());
  ASSERT_TRUE(fs_->Remove("runs/a/step-000000000003/MANIFEST").ok());
  ASSERT_TRUE(Put("runs/a/step-000000000002/MANIFEST", "{}\ncrc32c 00000000\n").ok());
  const auto scan = store.FindNewest();
  EXPECT_EQ(scan->newest->step, 1U);
  EXPECT_EQ(scan->damaged.size(), 3U);
}

TEST_F(CheckpointStoreTest, AFailedWriteLeavesNoCheckpoint) {
  CheckpointStore store(*fs_, "runs/a", 2);
  ASSERT_TRUE(Save(store, 1).ok());
  const absl::Status status = store.Save(2, [&](const std::string& directory) {
    RETURN_IF_ERROR(Put(directory + "/part", "half"));
    return absl::ResourceExhaustedError("disk full");
  });
  EXPECT_THAT(status.ToString(), HasSubstr("disk full"));
  EXPECT_EQ(store.FindNewest()->newest->step, 1U);
  ASSERT_TRUE(Save(store, 3).ok());
  EXPECT_THAT(Names(), ::testing::ElementsAre("step-000000000001", "step-000000000003"));
}

TEST_F(CheckpointStoreTest, ADamagedLaterOneIsReplacedAndPushesNoGoodOneOut) {
  CheckpointStore store(*fs_, "runs/a", 1);
  CheckpointStore roomy(*fs_, "runs/a", 5);
  for (uint64_t step : {10, 20}) ASSERT_TRUE(Save(roomy, step).ok());
  ASSERT_TRUE(fs_->Remove("runs/a/step-000000000020/MANIFEST").ok());
  ASSERT_TRUE(Save(store, 15).ok());
  EXPECT_EQ(store.FindNewest()->newest->step, 15U);
  ASSERT_TRUE(Save(store, 20).ok());
  EXPECT_EQ(store.FindNewest()->newest->step, 20U);
  EXPECT_THAT(Names(), ::testing::ElementsAre("step-000000000020"));
}

TEST_F(CheckpointStoreTest, AValidOneOfTheSameStepIsLeftAlone) {
  CheckpointStore store(*fs_, "runs/a", 2);
  ASSERT_TRUE(Save(store, 1).ok());
  bool written = false;
  ASSERT_TRUE(store.Save(1, [&](const std::string&) { return written = true, absl::OkStatus(); }).ok());
  EXPECT_FALSE(written);
}

TEST_F(CheckpointStoreTest, ClearForgetsAll) {
  CheckpointStore store(*fs_, "runs/a", 2);
  ASSERT_TRUE(Save(store, 1).ok());
  ASSERT_TRUE(store.Clear().ok());
  EXPECT_FALSE(store.FindNewest()->newest.has_value());
  EXPECT_TRUE(store.Clear().ok());
}

}  // namespace
}  // namespace doppel
