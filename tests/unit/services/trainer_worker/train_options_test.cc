#include "services/trainer_worker/train_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "services/trainer_worker/eval_metrics.h"
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
  EXPECT_THAT(message([](TrainOptions& o) { o.accumulate = 0; }), HasSubstr("--accumulate"));
  EXPECT_THAT(message([](TrainOptions& o) { o.ema = 1; }), HasSubstr("0.999"));
  EXPECT_THAT(message([](TrainOptions& o) { o.precision = "half"; }), HasSubstr("bfloat16"));
  EXPECT_THAT(message([](TrainOptions& o) { o.head = "fc"; }), HasSubstr("--freeze-steps"));
  EXPECT_THAT(message([](TrainOptions& o) { o.early_stop.metric = "rank1"; }), HasSubstr("--eval-every"));
  EXPECT_THAT(message([](TrainOptions& o) { o.early_stop.patience = 3; }), HasSubstr("--early-stop"));
  EXPECT_THAT(message([](TrainOptions& o) { o.loss_options = {"margin"}; }), HasSubstr("key=value"));
  EXPECT_THAT(message([](TrainOptions& o) { o.tensorboard_every = 0; }), HasSubstr("--tensorboard-every"));
  EXPECT_THAT(message([](TrainOptions& o) { o.max_skipped = -1; }), HasSubstr("--max-skipped"));
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

TEST(TrainOptionsTest, WhatChangesTheStepsIsASettingOfTheTraining) {
  const TrainOptions before = Valid();
  auto difference = [&](auto change) {
    TrainOptions now = before;
    change(now);
    return TrainingDifferences(ToJson(before), ToJson(now));
  };
  EXPECT_THAT(difference([](TrainOptions& o) { o.accumulate = 4; }),
              HasSubstr("accumulate: not set before, 4"));
  EXPECT_THAT(difference([](TrainOptions& o) { o.ema = 0.5; }), HasSubstr("ema"));
  EXPECT_THAT(difference([](TrainOptions& o) { o.freeze_steps = 5; }), HasSubstr("freeze_steps"));
  EXPECT_THAT(difference([](TrainOptions& o) { o.freeze = {"conv1"}; }), HasSubstr("conv1"));
  EXPECT_THAT(difference([](TrainOptions& o) { o.precision = "bfloat16"; }), HasSubstr("precision"));
  EXPECT_THAT(difference([](TrainOptions& o) { o.loss_options = {"hardness_cap=2"}; }),
              HasSubstr("hardness_cap"));
  EXPECT_EQ(difference([](TrainOptions& o) {
              o.tensorboard = false;
              o.tensorboard_every = 3;
              o.early_stop.patience = 7;
              o.max_skipped = 9;
              o.starvation.patience = 2;
            }),
            "");
}

TEST(EvalMetricsTest, NamesNestedNumbersAndLeavesOutCounts) {
  const std::string json =
      R"({"step":3,"protocol":"x","queries":10,"rank1":0.5,"recall":{"1":0.5,"10":0.75},"tar":{"1e-05":0.25},"seconds":3})";
  EXPECT_THAT(EvaluationMetrics(json),
              ::testing::ElementsAre(std::pair<std::string, double>("rank1", 0.5),
                                     std::pair<std::string, double>("recall@1", 0.5),
                                     std::pair<std::string, double>("recall@10", 0.75),
                                     std::pair<std::string, double>("tar@1e-05", 0.25)));
  EXPECT_EQ(EvaluationMetric(json, "recall@10").value(), 0.75);
  EXPECT_THAT(EvaluationMetric(json, "map").status().ToString(), HasSubstr("rank1, recall@1"));
  EXPECT_TRUE(EvaluationMetrics("rubbish").empty());
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

TEST(TrainOptionsTest, SharingReachesTheStreamSpec) {
  TrainOptions options = Valid();
  EXPECT_FALSE(MakeStreamSpec(options, ModelSpec{}, 0)->has_sharing());
  options.sharing = "static";
  options.shard = "1/3";
  const auto fixed = MakeStreamSpec(options, ModelSpec{}, 0);
  ASSERT_TRUE(fixed.ok());
  EXPECT_EQ(fixed->sharing().mode(), v1::WorkSharing::MODE_STATIC);
  EXPECT_EQ(fixed->sharing().shard(), 1);
  EXPECT_EQ(fixed->sharing().shards(), 3);
  options = Valid();
  options.sharing = "dynamic";
  options.group = "night";
  options.end_cursor = 500;
  const auto dynamic = MakeStreamSpec(options, ModelSpec{}, 0);
  ASSERT_TRUE(dynamic.ok());
  EXPECT_EQ(dynamic->sharing().mode(), v1::WorkSharing::MODE_DYNAMIC);
  EXPECT_EQ(dynamic->sharing().group(), "night");
  EXPECT_EQ(dynamic->sharing().lease_seconds(), 60);
  EXPECT_EQ(dynamic->sharing().end_cursor(), 500);
}

TEST(TrainOptionsTest, WrongSharingIsNamed) {
  for (const std::string shard : {"", "2", "2/2", "-1/2", "a/b", "0/1/2"}) {
    TrainOptions options = Valid();
    options.sharing = "static";
    options.shard = shard;
    EXPECT_THAT(ResolveTrainOptions(ModelSpec{}, &options).ToString(), HasSubstr("--shard")) << shard;
  }
  TrainOptions options = Valid();
  options.group = "night";
  EXPECT_THAT(ResolveTrainOptions(ModelSpec{}, &options).ToString(), HasSubstr("--group"));
  options = Valid();
  options.sharing = "dynamic";
  EXPECT_THAT(ResolveTrainOptions(ModelSpec{}, &options).ToString(), HasSubstr("--group"));
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

TEST(PlanOptions, ReachThePlan) {
  TrainOptions options = DefaultTrainOptions();
  options.plan = "mixture";
  options.plan_options = {"part=random:1",
                          "part=look_alikes:2.5",
                          "stage=100:0,1",
                          "hardness=500:0.25",
                          "group_size=3",
                          "groups=2",
                          "pool=20",
                          "skip=0",
                          "similarity_max=0.9",
                          "similarity_min=-0.1",
                          "overlap=3",
                          "category_separator=_",
                          "images=other_camera",
                          "subspace_weight=1,0,2.5"};
  const v1::PlanSpec plan = MakeStreamSpec(options, ModelSpec(), 0)->plan();
  ASSERT_EQ(plan.part_size(), 2);
  EXPECT_EQ(plan.part(1).plan().name(), "look_alikes");
  EXPECT_EQ(plan.part(1).weight(), 2.5);
  ASSERT_EQ(plan.stage_size(), 1);
  EXPECT_EQ(plan.stage(0).from_cursor(), 100u);
  EXPECT_EQ(plan.stage(0).weight(1), 1);
  ASSERT_EQ(plan.hardness_size(), 1);
  EXPECT_EQ(plan.hardness(0).hard_share(), 0.25);
  EXPECT_EQ(plan.group_size(), 3u);
  EXPECT_EQ(plan.groups(), 2u);
  EXPECT_EQ(plan.pool(), 20u);
  EXPECT_TRUE(plan.has_skip());
  EXPECT_EQ(plan.similarity_max(), 0.9);
  EXPECT_EQ(plan.similarity_min(), -0.1);
  EXPECT_EQ(plan.overlap(), 3u);
  EXPECT_EQ(plan.category_separator(), "_");
  EXPECT_EQ(plan.images(), v1::IMAGE_CHOICE_OTHER_CAMERA);
  EXPECT_EQ(plan.subspace_weight_size(), 3);
  EXPECT_THAT(ToJson(options), HasSubstr("look_alikes:2.5"));
}

TEST(PlanOptions, MistakesAreNamed) {
  for (const char* option :
       {"groups", "=3", "grups=3", "groups=x", "part=random", "part=:1", "stage=1:a", "stage=x:1",
        "hardness=1", "images=all", "subspace_weight=1,,2", "similarity_max=nan"}) {
    TrainOptions options = DefaultTrainOptions();
    options.plan_options = {option};
    const absl::Status status = MakeStreamSpec(options, ModelSpec(), 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << option;
    EXPECT_THAT(std::string(status.message()), HasSubstr(option));
  }
}

TEST(PlanOptions, ABandAndAScheduleFollowTheRunsReports) {
  TrainOptions options = DefaultTrainOptions();
  options.hardness_band = "0.05:0.15";
  options.run = "host:/run";
  options.plan_options = {"steering_window=40"};
  v1::PlanSpec plan = MakeStreamSpec(options, ModelSpec(), 0)->plan();
  EXPECT_EQ(plan.steering().run(), "host:/run");
  EXPECT_EQ(plan.steering().active_low(), 0.05);
  EXPECT_EQ(plan.steering().active_high(), 0.15);
  EXPECT_EQ(plan.steering().window(), 40u);
  EXPECT_FALSE(plan.steering().by_hardness());
  EXPECT_THAT(ToJson(options), HasSubstr("0.05:0.15"));
  options.hardness_band.clear();
  options.plan = "subspace";
  options.plan_options = {"schedule=hardness"};
  plan = MakeStreamSpec(options, ModelSpec(), 0)->plan();
  EXPECT_TRUE(plan.steering().by_hardness());
  EXPECT_EQ(plan.steering().run(), "host:/run");
  EXPECT_FALSE(MakeStreamSpec(DefaultTrainOptions(), ModelSpec(), 0)->plan().has_steering());
}

TEST(PlanOptions, WhatCannotFollowReportsIsRefused) {
  const auto error = [](const std::function<void(TrainOptions&)>& change) {
    TrainOptions options = DefaultTrainOptions();
    options.output = "run";
    options.hardness_band = "0.05:0.15";
    change(options);
    const absl::Status status = ResolveTrainOptions(ModelSpec(), &options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  for (const char* band : {"0.1", "0.2:0.1", "0:0.1", "0.1:1.5", "a:b", "nan:0.5"}) {
    EXPECT_THAT(error([band](TrainOptions& o) { o.hardness_band = band; }), HasSubstr("--hardness-band"));
  }
  EXPECT_THAT(error([](TrainOptions& o) { o.plan = "random"; }), HasSubstr("--hardness-band"));
  EXPECT_THAT(error([](TrainOptions& o) { o.report_every = 0; }), HasSubstr("--report-every"));
  EXPECT_THAT(error([](TrainOptions& o) { o.accumulate = 2; }), HasSubstr("--accumulate"));
  EXPECT_THAT(error([](TrainOptions& o) { o.plan_options = {"schedule=size"}; }),
              HasSubstr("schedule=hardness"));
}

}  // namespace
}  // namespace doppel
