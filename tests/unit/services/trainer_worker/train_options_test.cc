#include "services/trainer_worker/train_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/trainer_worker/run_directory.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

TrainOptions Valid() {
  TrainOptions options = DefaultTrainOptions();
  options.output = "run";
  return options;
}

TEST(TrainOptionsTest, DefaultsAreValid) {
  TrainOptions options = Valid();
  EXPECT_TRUE(ResolveTrainOptions(ModelSpec{}, &options).ok());
}

TEST(TrainOptionsTest, SoftScaleFollowsTheModel) {
  ModelSpec spec;
  TrainOptions options = Valid();
  ASSERT_TRUE(ResolveTrainOptions(spec, &options).ok());
  EXPECT_EQ(options.loss.soft_scale, 5);
  spec.normalize = false;
  options = Valid();
  ASSERT_TRUE(ResolveTrainOptions(spec, &options).ok());
  EXPECT_EQ(options.loss.soft_scale, 1);
  options = Valid();
  options.loss.soft_scale = 3;
  ASSERT_TRUE(ResolveTrainOptions(spec, &options).ok());
  EXPECT_EQ(options.loss.soft_scale, 3);
}

TEST(TrainOptionsTest, ClassesFollowTheIdentityLimit) {
  TrainOptions options = Valid();
  options.loss.name = "id_softmax";
  EXPECT_THAT(ResolveTrainOptions(ModelSpec{}, &options).ToString(), HasSubstr("--identity-limit"));
  options.identity_limit = 500;
  ASSERT_TRUE(ResolveTrainOptions(ModelSpec{}, &options).ok());
  EXPECT_EQ(options.loss.classes, 500);
  EXPECT_EQ(options.loss.dimension, 128);
}

TEST(TrainOptionsTest, WrongFlagsAreNamed) {
  auto message = [](auto change) {
    TrainOptions options = Valid();
    change(options);
    return ResolveTrainOptions(ModelSpec{}, &options).ToString();
  };
  EXPECT_THAT(message([](TrainOptions& o) { o.output.clear(); }), HasSubstr("--output"));
  EXPECT_THAT(message([](TrainOptions& o) { o.plan = "nearest"; }), HasSubstr("random, subspace"));
  EXPECT_THAT(message([](TrainOptions& o) { o.payload = "raw"; }), HasSubstr("--payload"));
  EXPECT_THAT(message([](TrainOptions& o) { o.augment = "wild"; }), HasSubstr("--augment"));
  EXPECT_THAT(message([](TrainOptions& o) { o.resume = "maybe"; }), HasSubstr("--resume"));
  EXPECT_THAT(message([](TrainOptions& o) { o.samples_per_identity = 1; }), HasSubstr("-K"));
  EXPECT_THAT(message([](TrainOptions& o) { o.identities_per_batch = 1; }), HasSubstr("-P"));
  EXPECT_THAT(message([](TrainOptions& o) { o.schedule.steps = 0; }), HasSubstr("--steps"));
  EXPECT_THAT(message([](TrainOptions& o) { o.threads = 0; }), HasSubstr("--threads"));
  EXPECT_THAT(message([](TrainOptions& o) { o.eval_every = 10; }), HasSubstr("--eval-catalog"));
}

TEST(TrainOptionsTest, OnlyWhatSettlesTheStepsCountsAsDifferent) {
  const TrainOptions before = Valid();
  TrainOptions now = before;
  now.threads = 2;
  now.server = "elsewhere:1";
  now.checkpoint_every = 7;
  EXPECT_EQ(TrainingDifferences(ToJson(before), ToJson(now)), "");
  now.schedule.rate = 0.5;
  now.seed = 9;
  EXPECT_EQ(TrainingDifferences(ToJson(before), ToJson(now)),
            "lr: 0.001 before, 0.5 now; seed: 1 before, 9 now");
  EXPECT_NE(TrainingDifferences("rubbish", ToJson(now)), "");
}

TEST(TrainOptionsTest, StreamSpecSaysWhatTheFlagsSay) {
  TrainOptions options = Valid();
  options.plan = "random";
  options.identity_limit = 10;
  options.payload = "decoded";
  options.generation = 3;
  ModelSpec model;
  model.height = 32;
  const auto spec = MakeStreamSpec(options, model, 42);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->plan().name(), "random");
  EXPECT_EQ(spec->plan().identities_per_batch(), 48U);
  EXPECT_EQ(spec->plan().samples_per_identity(), 4U);
  EXPECT_EQ(spec->plan().identity_limit(), 10U);
  EXPECT_EQ(spec->cursor(), 42U);
  EXPECT_EQ(spec->generation(), 3U);
  EXPECT_EQ(spec->payload(), v1::PAYLOAD_KIND_DECODED);
  EXPECT_EQ(spec->image().height(), 32U);
}

TEST(RunDirectoryTest, RefusesAnotherRunsSettingsAndClearsOnlyItsOwn) {
  auto fs = MakeInMemoryFileSystem();
  RunDirectory directory(*fs, "runs/a");
  TrainOptions options = Valid();
  ASSERT_TRUE(directory.Prepare(ToJson(options)).ok());
  ASSERT_TRUE(directory.WriteRun(ToJson(options)).ok());
  EXPECT_TRUE(directory.Prepare(ToJson(options)).ok());
  options.loss.negatives = 9;
  const absl::Status status = directory.Prepare(ToJson(options));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.ToString(), HasSubstr("negatives: 5 before, 9 now"));
  auto notes = fs->Create("runs/a/notes.txt").value();
  ASSERT_TRUE(notes->Close().ok());
  ASSERT_TRUE(directory.Clear().ok());
  EXPECT_TRUE(directory.Prepare(ToJson(options)).ok());
  EXPECT_TRUE(fs->Exists("runs/a/notes.txt"));
}

}  // namespace
}  // namespace doppel
