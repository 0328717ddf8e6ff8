#include "common/model/model_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/common/model/temp_dir.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

ModelSpec SomeSpec() {
  ModelSpec spec;
  spec.architecture = "resnet18";
  spec.height = 128;
  spec.width = 64;
  spec.channels = 3;
  spec.mean[0] = 0.485F;
  spec.mean[1] = 0.456F;
  spec.mean[2] = 0.406F;
  spec.std[0] = 0.229F;
  spec.std[1] = 0.224F;
  spec.std[2] = 0.225F;
  spec.dimension = 256;
  spec.normalize = false;
  spec.step = 12345678901;
  return spec;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

std::string ErrorOf(const std::string& json) {
  const auto spec = ModelSpecFromJson(json, "dir/model.json");
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument) << json;
  return Message(spec.status());
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ModelSpecJson, RoundTrip) {
  const ModelSpec spec = SomeSpec();
  const auto read = ModelSpecFromJson(ModelSpecToJson(spec), "x");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->architecture, "resnet18");
  EXPECT_EQ(read->height, 128);
  EXPECT_EQ(read->width, 64);
  EXPECT_EQ(read->channels, 3);
  for (int c = 0; c < 3; ++c) {
    EXPECT_EQ(read->mean[c], spec.mean[c]);
    EXPECT_EQ(read->std[c], spec.std[c]);
  }
  EXPECT_EQ(read->dimension, 256);
  EXPECT_FALSE(read->normalize);
  EXPECT_EQ(read->step, 12345678901);
}

TEST(ModelSpecJson, UnknownFieldIsNamedWithTheKnownOnes) {
  const std::string error = ErrorOf(Replaced(ModelSpecToJson(SomeSpec()), "{", "{\"dimensions\": 5,"));
  EXPECT_THAT(error, HasSubstr("dir/model.json"));
  EXPECT_THAT(error, HasSubstr("\"dimensions\""));
  EXPECT_THAT(error, HasSubstr("dimension,"));
}

TEST(ModelSpecJson, MissingFieldIsNamed) {
  EXPECT_THAT(ErrorOf(Replaced(ModelSpecToJson(SomeSpec()), "\"height\": 128,", "")),
              HasSubstr("\"height\" is missing"));
}

TEST(ModelSpecJson, WrongTypeSaysWhatIsAllowed) {
  const std::string error =
      ErrorOf(Replaced(ModelSpecToJson(SomeSpec()), "\"height\": 128", "\"height\": \"tall\""));
  EXPECT_THAT(error, HasSubstr("\"height\" must be a whole number"));
  EXPECT_THAT(error, HasSubstr("tall"));
}

TEST(ModelSpecJson, MeanNeedsOneEntryPerChannel) {
  EXPECT_THAT(ErrorOf(Replaced(ModelSpecToJson(SomeSpec()), "\"channels\": 3", "\"channels\": 1")),
              HasSubstr("one per channel"));
}

TEST(ModelSpecJson, NegativeStepIsRefused) {
  EXPECT_THAT(ErrorOf(Replaced(ModelSpecToJson(SomeSpec()), "12345678901", "-1")), HasSubstr("\"step\""));
}

TEST(ModelSpecJson, ZeroStdIsRefused) {
  ModelSpec spec = SomeSpec();
  spec.std[1] = 0;
  EXPECT_THAT(ErrorOf(ModelSpecToJson(spec)), HasSubstr("std must be above 0"));
}

TEST(ModelSpecJson, TextThatIsNoJsonIsRefused) {
  EXPECT_THAT(ErrorOf("height: 48"), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf("[1, 2]"), HasSubstr("not a JSON object"));
}

TEST(ModelSpec, TwoChannelsAreRefused) {
  ModelSpec spec = SomeSpec();
  spec.channels = 2;
  EXPECT_THAT(Message(CheckModelSpec(spec)), HasSubstr("1 (grey) or 3 (RGB)"));
}

TEST(ModelSpec, DimensionZeroIsRefused) {
  ModelSpec spec = SomeSpec();
  spec.dimension = 0;
  EXPECT_EQ(CheckModelSpec(spec).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Fingerprint, IsXxh3Of128Bits) {
  // From xxhsum -H2 of the empty input.
  EXPECT_EQ(WeightsFingerprint(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(WeightsFingerprint("a"), WeightsFingerprint("b"));
}

TEST(ModelFiles, WrittenAndReadBack) {
  TempDir temp;
  const auto written = WriteModelFiles(SomeSpec(), "weights!", temp / "m");
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(written->fingerprint, WeightsFingerprint("weights!"));
  const auto files = ReadModelFiles(temp / "m");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->weights, "weights!");
  EXPECT_EQ(files->spec.fingerprint, written->fingerprint);
  EXPECT_FALSE(PosixFileSystem().Exists(temp / "m.tmp"));
}

TEST(ModelFiles, ReplacingLeavesNothingBehind) {
  TempDir temp;
  ASSERT_TRUE(WriteModelFiles(SomeSpec(), "one", temp / "m").ok());
  ASSERT_TRUE(WriteModelFiles(SomeSpec(), "two", (temp / "m") + "/").ok());
  EXPECT_EQ(ReadModelFiles(temp / "m")->weights, "two");
  EXPECT_FALSE(PosixFileSystem().Exists(temp / "m.tmp"));
  EXPECT_FALSE(PosixFileSystem().Exists(temp / "m.old"));
}

TEST(ModelFiles, LeftoversOfACrashAreReplaced) {
  TempDir temp;
  ASSERT_TRUE(PosixFileSystem().MakeDirectories(temp / "m.tmp/weights.pt").ok());
  ASSERT_TRUE(WriteModelFiles(SomeSpec(), "one", temp / "m").ok());
  EXPECT_EQ(ReadModelFiles(temp / "m")->weights, "one");
}

TEST(ModelFiles, DamagedWeightsAreDataLossNamingTheFile) {
  TempDir temp;
  ASSERT_TRUE(WriteModelFiles(SomeSpec(), "weights", temp / "m").ok());
  auto file = PosixFileSystem().Create(temp / "m/weights.pt");
  ASSERT_TRUE((*file)->Append("weighty").ok());
  ASSERT_TRUE((*file)->Close().ok());
  const auto files = ReadModelFiles(temp / "m");
  EXPECT_EQ(files.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(files.status()), HasSubstr("m/weights.pt"));
}

TEST(ModelFiles, SpecWithoutFingerprintTakesTheWeightsOwn) {
  TempDir temp;
  ASSERT_TRUE(WriteModelFiles(SomeSpec(), "weights", temp / "m").ok());
  auto file = PosixFileSystem().Create(temp / "m/model.json");
  ASSERT_TRUE((*file)->Append(ModelSpecToJson(SomeSpec())).ok());
  ASSERT_TRUE((*file)->Close().ok());
  const auto spec = ReadModelSpec(temp / "m");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->fingerprint, WeightsFingerprint("weights"));
  EXPECT_TRUE(ReadModelFiles(temp / "m").ok());
}

TEST(ModelFiles, MissingDirectoryIsNotFound) {
  const auto spec = ReadModelSpec("/nowhere/at/all");
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(spec.status()), HasSubstr("/nowhere/at/all/model.json"));
}

TEST(ModelFiles, MissingWeightsAreAnErrorNamingTheFile) {
  TempDir temp;
  ASSERT_TRUE(WriteModelFiles(SomeSpec(), "weights", temp / "m").ok());
  ASSERT_TRUE(PosixFileSystem().Remove(temp / "m/weights.pt").ok());
  EXPECT_THAT(Message(ReadModelFiles(temp / "m").status()), HasSubstr("weights.pt"));
}

}  // namespace
}  // namespace doppel
