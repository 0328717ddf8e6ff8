#include "trainer/eval/identification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/philox.h"
#include "common/catalog/catalog_builder.h"
#include "common/catalog/readers/imagefolder_reader.h"
#include "tests/support/catalog_fixture.h"
#include "trainer/eval/embed_samples.h"
#include "trainer/eval/verification.h"

namespace doppel {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// A 2 × 2 grey image; its four pixels, as they are, are the fake model's embedding.
using Pixels = std::string;

class PixelModel : public EmbeddingModel {
 public:
  explicit PixelModel(std::shared_ptr<std::atomic<int>> clones = std::make_shared<std::atomic<int>>(0))
      : clones_(std::move(clones)) {
    spec_.height = spec_.width = 2;
    spec_.channels = 1;
    spec_.dimension = 4;
    spec_.normalize = false;
    spec_.step = 77;
  }
  const ModelSpec& spec() const override { return spec_; }
  absl::Status Embed(absl::Span<const uint8_t> images, int64_t n, float* out) override {
    if (fail_) return absl::ResourceExhaustedError("out of memory");
    for (int64_t i = 0; i < n * 4; ++i)
      out[i] = not_a_number_ ? std::nanf("") : static_cast<float>(images[i]);
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<EmbeddingModel>> Clone() const override {
    ++*clones_;
    auto clone = std::make_unique<PixelModel>(clones_);
    clone->fail_ = fail_;
    clone->not_a_number_ = not_a_number_;
    return std::unique_ptr<EmbeddingModel>(std::move(clone));
  }

  bool fail_ = false;
  bool not_a_number_ = false;
  int clones() const { return *clones_; }

 private:
  ModelSpec spec_;
  std::shared_ptr<std::atomic<int>> clones_;
};

class IdentificationTest : public ::testing::Test {
 protected:
  IdentificationTest() {
    options_.quiet = true;
    options_.far_targets = {};
  }

  // The i-th sample of the identity; files are named so that keys keep this order.
  std::string ImagePath(const std::string& split, const std::string& identity, size_t i) const {
    return dir_ / absl::StrCat("data/", split, "/", identity, "/s", i, ".png");
  }
  void Add(const std::string& split, const std::string& identity, const std::vector<Pixels>& samples) {
    for (size_t i = 0; i < samples.size(); ++i) {
      testing::WriteTestFile(ImagePath(split, identity, i), testing::MakeGreyPng(2, 2, samples[i]));
    }
  }
  void AddRandom(const std::string& split, int identities, int samples) {
    for (int identity = 0; identity < identities; ++identity) {
      std::vector<Pixels> images(samples, Pixels(4, '\0'));
      for (int s = 0; s < samples; ++s) {
        for (int p = 0; p < 4; ++p) {
          images[s][p] = static_cast<char>(1 + Philox(p).Below(250, s, MixKey(identity, split.size())) /
                                                   (s == 0 ? 1 : 2));
        }
      }
      Add(split, absl::StrCat("r", 1000 + identity), images);
    }
  }
  void Import() {
    auto reader = OpenImageFolder(dir_ / "data");
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_TRUE(BuildCatalog(**reader, dir_ / "catalog", {}).ok());
    auto catalog = Catalog::Open(dir_ / "catalog");
    ASSERT_TRUE(catalog.ok()) << catalog.status();
    catalog_ = *std::move(catalog);
  }
  IdentificationReport Evaluate() {
    auto report = EvaluateIdentification(*catalog_, model_, options_);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : IdentificationReport();
  }
  absl::Status Error() { return EvaluateIdentification(*catalog_, model_, options_).status(); }

  testing::TempDir dir_;
  std::shared_ptr<const Catalog> catalog_;
  PixelModel model_;
  IdentificationOptions options_;
};

const Pixels kX("\xff\0\0\0", 4);
const Pixels kY("\0\xff\0\0", 4);
const Pixels kZ("\0\0\xff\0", 4);
const Pixels kNearX("\xf0\x20\0\0", 4);
const Pixels kNearY("\x20\xf0\0\0", 4);

TEST_F(IdentificationTest, HandComputedRecall) {
  Add("test", "a", {kX, kNearX, kNearY});  // one query finds its own, one finds b first
  Add("test", "b", {kY, kNearY});          // finds its own
  Add("train", "c", {kZ, kZ});             // in the gallery, asks nothing
  Import();
  options_.recall_at = {1, 2};
  const IdentificationReport report = Evaluate();
  EXPECT_EQ(report.queries, 3U);
  EXPECT_EQ(report.gallery, 3U);
  EXPECT_EQ(report.negative_pairs, 6U);
  EXPECT_EQ(report.model_step, 77U);
  EXPECT_THAT(report.recall, ElementsAre(Pair(1, DoubleNear(2.0 / 3, 1e-12)), Pair(2, 1.0)));
}

TEST_F(IdentificationTest, HandComputedTarAtFar) {
  Add("test", "a", {kX, kNearX, kNearY});
  Add("test", "b", {kY, kNearY});
  Add("train", "c", {kZ, kZ});
  Import();
  // Impostors: a's second query against b (0.99), its first (0.13), b's query against a (0.13), and 3 zeros
  // with c. One of six may pass: the threshold is 0.13, and two of three genuine pairs (0.99, 0.99, 0.13) are
  // above it.
  options_.far_targets = {0.01, 1.0 / 6, 1.0};
  const IdentificationReport report = Evaluate();
  EXPECT_THAT(report.tar, ElementsAre(Pair(1.0 / 6, DoubleNear(2.0 / 3, 1e-12)), Pair(1.0, 1.0)));
  EXPECT_THAT(report.refused_far_targets, ElementsAre(0.01));
}

TEST_F(IdentificationTest, IdentitiesWithOneSampleAskNothing) {
  Add("test", "a", {kX, kNearX});
  Add("test", "b", {kY});
  Import();
  const IdentificationReport report = Evaluate();
  EXPECT_EQ(report.queries, 1U);
  EXPECT_EQ(report.gallery, 2U);
}

TEST_F(IdentificationTest, NothingToAskIsAnError) {
  Add("test", "a", {kX});
  Add("train", "b", {kX, kY});
  Import();
  EXPECT_EQ(Error().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Error().message()), HasSubstr("split \"test\""));
}

TEST_F(IdentificationTest, UnknownSplitIsAnError) {
  Add("train", "a", {kX, kY});
  Import();
  EXPECT_EQ(Error().code(), absl::StatusCode::kNotFound);
}

TEST_F(IdentificationTest, SenselessOptionsAreErrors) {
  Add("test", "a", {kX, kY});
  Import();
  options_.recall_at = {};
  EXPECT_EQ(Error().code(), absl::StatusCode::kInvalidArgument);
  options_.recall_at = {1, 0};
  EXPECT_EQ(Error().code(), absl::StatusCode::kInvalidArgument);
  options_.recall_at = {1};
  options_.queries_per_identity = 0;
  EXPECT_EQ(Error().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(IdentificationTest, QueriesPerIdentityIsALimit) {
  AddRandom("test", 10, 5);
  Import();
  options_.queries_per_identity = 3;
  EXPECT_EQ(Evaluate().queries, 30U);
  options_.queries_per_identity = 100;
  EXPECT_EQ(Evaluate().queries, 40U);
}

TEST_F(IdentificationTest, KBeyondTheGalleryFindsAll) {
  AddRandom("test", 5, 2);
  Import();
  options_.recall_at = {5, 1000};
  EXPECT_THAT(Evaluate().recall, ElementsAre(Pair(5, 1.0), Pair(1000, 1.0)));
}

TEST_F(IdentificationTest, EqualsBruteForce) {
  AddRandom("test", 120, 4);
  AddRandom("train", 80, 2);
  Import();
  options_.queries_per_identity = 3;  // all others: the draw does not matter
  options_.recall_at = {1, 5, 20};
  options_.far_targets = {1e-3, 1e-2, 0.3};
  const IdentificationReport report = Evaluate();

  std::vector<uint64_t> all(catalog_->num_samples());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  EmbedOptions embed;
  embed.quiet = true;
  const std::vector<float> vectors = *EmbedSamples(*catalog_, model_, all, "", embed);
  std::vector<int> ranks;
  std::vector<float> genuine;
  std::vector<float> impostors;
  const CatalogSplitInfo split = *catalog_->Split("test");
  for (uint64_t id = split.first_identity; id < split.first_identity + split.identities; ++id) {
    for (uint32_t s = 1; s < catalog_->Samples(id).count; ++s) {
      std::vector<std::pair<float, uint64_t>> row;
      for (uint64_t other = 0; other < catalog_->num_identities(); ++other) {
        double sum = 0;
        for (int d = 0; d < 4; ++d) {
          sum += static_cast<double>(vectors[(catalog_->Samples(id).first + s) * 4 + d]) *
                 vectors[catalog_->Samples(other).first * 4 + d];
        }
        row.emplace_back(-static_cast<float>(sum), other);
        (other == id ? genuine : impostors).push_back(static_cast<float>(sum));
      }
      std::sort(row.begin(), row.end());
      const auto mate =
          std::find_if(row.begin(), row.end(), [&](const auto& entry) { return entry.second == id; });
      ranks.push_back(static_cast<int>(mate - row.begin()));
    }
  }
  ASSERT_EQ(report.queries, ranks.size());
  EXPECT_EQ(report.negative_pairs, impostors.size());
  for (const auto& [k, share] : report.recall) EXPECT_EQ(share, RecallAt(ranks, k)) << k;
  const TarAtFarResult expected = TarAtFar(genuine, impostors, options_.far_targets);
  ASSERT_EQ(report.tar.size(), expected.points.size());
  for (size_t i = 0; i < report.tar.size(); ++i) {
    EXPECT_NEAR(report.tar[i].second, expected.points[i].tar, 2.0 / static_cast<double>(genuine.size()));
  }
}

TEST_F(IdentificationTest, ThreadsAndBatchesDoNotShow) {
  AddRandom("test", 40, 4);
  AddRandom("train", 20, 3);
  Import();
  options_.far_targets = {0.01, 0.1};
  options_.augment_queries = true;
  options_.threads = 1;
  const IdentificationReport one = Evaluate();
  for (const int threads : {0, 2, 4}) {
    options_.threads = threads;
    options_.batch_size = 7;
    const IdentificationReport other = Evaluate();
    EXPECT_EQ(other.recall, one.recall);
    EXPECT_EQ(other.tar, one.tar);
  }
}

TEST_F(IdentificationTest, EveryWorkerHasItsOwnModel) {
  AddRandom("test", 4, 2);
  Import();
  options_.threads = 3;
  Evaluate();
  EXPECT_EQ(model_.clones(), 6);  // gallery and queries
}

TEST_F(IdentificationTest, SeedDrawsTheQueries) {
  AddRandom("test", 60, 8);
  Import();
  options_.queries_per_identity = 1;
  options_.recall_at = {1, 2, 3, 5, 8, 13};
  const IdentificationReport first = Evaluate();
  EXPECT_EQ(Evaluate().recall, first.recall);
  options_.seed = 1;
  EXPECT_NE(Evaluate().recall, first.recall);
}

TEST_F(IdentificationTest, ChangedImageIsNamed) {
  Add("test", "a", {kX, kNearX});
  Add("test", "b", {kY, kNearY});
  Import();
  std::string bytes = testing::ReadTestFile(ImagePath("test", "b", 1));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  testing::WriteTestFile(ImagePath("test", "b", 1), bytes);
  const absl::Status status = Error();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("s1.png"), HasSubstr("identity b")));
}

TEST_F(IdentificationTest, ImageThatCannotBeDecodedIsNamed) {
  Add("test", "a", {kX, kNearX});
  Add("test", "b", {kY});
  // Its chunks are whole, so that the import takes it, but the pixels are not.
  std::string bytes = testing::MakeGreyPng(2, 2, kNearY);
  const size_t pixels = bytes.find("IDAT") + 4;
  for (size_t i = 0; i < 6; ++i) bytes[pixels + i] = '\x55';
  testing::WriteTestFile(ImagePath("test", "b", 1), bytes);
  Import();
  ASSERT_EQ(catalog_->num_samples(), 4U);
  for (const int threads : {1, 3}) {
    options_.threads = threads;
    const absl::Status status = Error();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("s1.png"), HasSubstr("identity b")));
  }
}

TEST_F(IdentificationTest, EmbeddingWithoutDirectionIsNamed) {
  Add("test", "a", {kX, Pixels(4, '\0')});
  Import();
  EXPECT_EQ(Error().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(Error().message()), AllOf(HasSubstr("s1.png"), HasSubstr("no direction")));
  model_.not_a_number_ = true;
  EXPECT_THAT(std::string(Error().message()), AllOf(HasSubstr("s0.png"), HasSubstr("diverged")));
}

TEST_F(IdentificationTest, ErrorsOfTheModelComeThrough) {
  AddRandom("test", 10, 2);
  Import();
  model_.fail_ = true;
  EXPECT_EQ(Error(), absl::ResourceExhaustedError("out of memory"));
}

TEST_F(IdentificationTest, SecondsComeFromTheClock) {
  AddRandom("test", 3, 2);
  Import();
  ManualClock clock;
  EXPECT_EQ(EvaluateIdentification(*catalog_, model_, options_, clock)->seconds, 0);
}

TEST_F(IdentificationTest, AugmentationChangesQueriesAlone) {
  Add("test", "a", {kX, kX});
  Import();
  EmbedOptions embed;
  embed.quiet = true;
  const std::vector<uint64_t> samples = {0, 1};
  const std::vector<float> plain = *EmbedSamples(*catalog_, model_, samples, "", embed);
  EXPECT_THAT(plain, ElementsAre(1, 0, 0, 0, 1, 0, 0, 0));
  embed.augment_seed = 3;
  const std::vector<float> augmented = *EmbedSamples(*catalog_, model_, samples, "", embed);
  EXPECT_NE(augmented, plain);
  EXPECT_EQ(*EmbedSamples(*catalog_, model_, samples, "", embed), augmented);
  const std::vector<uint64_t> second = {1};
  const std::vector<float> alone = *EmbedSamples(*catalog_, model_, second, "", embed);
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), augmented.begin() + 4));
}

TEST_F(IdentificationTest, NoSamplesNoEmbeddings) {
  AddRandom("test", 1, 2);
  Import();
  EXPECT_THAT(*EmbedSamples(*catalog_, model_, {}, "", {}), IsEmpty());
}

TEST(IdentificationReportTest, Json) {
  IdentificationReport report;
  report.queries = 6000;
  report.gallery = 101740;
  report.negative_pairs = 610434000;
  report.model_step = 3000;
  report.recall = {{1, 0.5}, {10, 0.75}};
  report.tar = {{1e-6, 0.125}, {1e-3, 0.25}};
  report.refused_far_targets = {1e-9};
  report.seconds = 1.5;
  EXPECT_EQ(nlohmann::json::parse(ToJson(report)), nlohmann::json::parse(R"({
    "protocol": "open gallery identification", "model_step": 3000, "queries": 6000, "gallery": 101740,
    "negative_pairs": 610434000, "rank1": 0.5, "recall": {"1": 0.5, "10": 0.75},
    "tar": {"1e-06": 0.125, "0.001": 0.25}, "refused_far_targets": [1e-9], "seconds": 1.5})"));
}

TEST(IdentificationReportTest, JsonWithoutRankOne) {
  IdentificationReport report;
  report.recall = {{5, 0.5}};
  EXPECT_FALSE(nlohmann::json::parse(ToJson(report)).contains("rank1"));
}

}  // namespace
}  // namespace doppel
