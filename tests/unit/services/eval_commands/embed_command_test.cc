#include "services/trainer_worker/embed_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/io/npy.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A 2 × 2 grey image; its pixels are the embedding.
class FourPixelModel : public EmbeddingModel {
 public:
  FourPixelModel() {
    spec_.height = spec_.width = 2;
    spec_.channels = 1;
    spec_.dimension = 4;
    spec_.fingerprint = "fp1";
    spec_.step = 5;
  }
  const ModelSpec& spec() const override { return spec_; }
  absl::Status Embed(absl::Span<const uint8_t> images, int64_t n, float* out) override {
    for (int64_t i = 0; i < 4 * n; ++i) out[i] = static_cast<float>(images[i]);
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<EmbeddingModel>> Clone() const override {
    return std::unique_ptr<EmbeddingModel>(std::make_unique<FourPixelModel>(*this));
  }
  ModelSpec spec_;
};

// Image i is (i + 1, 3, 0, 0); images from `broken` on cannot be read.
class CountingSource : public ImageSource {
 public:
  explicit CountingSource(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  absl::StatusOr<SampleBytes> Read(int64_t i) const override {
    if (i >= broken_) return absl::DataLossError("bad disk");
    if (i < first_read_) first_read_ = i;
    const std::string pixels = {static_cast<char>(i + 1), 3, 0, 0};
    auto bytes = std::make_shared<const std::string>(testing::MakeGreyPng(2, 2, pixels));
    return SampleBytes{*bytes, bytes};
  }
  std::string Name(int64_t i) const override { return absl::StrCat("image", i); }

  int64_t size_;
  int64_t broken_ = 1 << 20;
  mutable int64_t first_read_ = 1 << 20;
};

class EmbedToFileTest : public ::testing::Test {
 protected:
  EmbedToFileTest() : fs_(MakeInMemoryFileSystem()) {
    options_.output = "/e.npy";
    options_.names = "/names.txt";
    options_.embed.chunk = 3;
    options_.embed.batch_size = 2;
    options_.embed.quiet = true;
    options_.embed.normalize = false;
    EXPECT_TRUE(fs_->MakeDirectories("/").ok());
  }
  absl::StatusOr<std::string> Embed(const std::string& data = "data") {
    return EmbedToFile(source_, model_, data, options_, *fs_);
  }
  std::vector<float> Rows() {
    const auto array = ReadNpy(*fs_, "/e.npy");
    EXPECT_TRUE(array.ok()) << array.status();
    if (!array.ok()) return {};
    EXPECT_EQ(array->shape, (std::vector<int64_t>{source_.size(), 4}));
    return *NpyToFloats(*array);
  }
  void ExpectWhole() {
    const std::vector<float> rows = Rows();
    ASSERT_EQ(rows.size(), 4U * source_.size());
    for (int64_t i = 0; i < source_.size(); ++i) {
      EXPECT_EQ(rows[4 * i], static_cast<float>(i + 1));
      EXPECT_EQ(rows[4 * i + 1], 3);
    }
    EXPECT_FALSE(fs_->Exists("/e.npy.part"));
    EXPECT_FALSE(fs_->Exists("/e.npy.part.json"));
  }

  std::unique_ptr<FileSystem> fs_;
  FourPixelModel model_;
  CountingSource source_{10};
  EmbedCommandOptions options_;
};

TEST_F(EmbedToFileTest, RowsArriveInOrder) {
  const auto text = Embed();
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("/e.npy: 10 x 4 float32, model fp1 at step 5"));
  ExpectWhole();
  EXPECT_EQ(*fs_->ReadFile("/names.txt"),
            "image0\nimage1\nimage2\nimage3\nimage4\nimage5\nimage6\nimage7\nimage8\nimage9\n");
}

TEST_F(EmbedToFileTest, GoesOnWhereItStopped) {
  source_.broken_ = 7;
  const auto broken = Embed().status();
  EXPECT_EQ(broken.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(broken.message()), HasSubstr("image7: bad disk"));
  EXPECT_FALSE(fs_->Exists("/e.npy"));
  source_.broken_ = 1 << 20;
  source_.first_read_ = 1 << 20;
  const auto text = Embed();
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("6 rows were there already"));
  EXPECT_EQ(source_.first_read_, 6);
  ExpectWhole();
}

TEST_F(EmbedToFileTest, ATornRowIsMadeAgain) {
  source_.broken_ = 7;
  EXPECT_FALSE(Embed().ok());
  ASSERT_TRUE(fs_->Truncate("/e.npy.part", *fs_->Size("/e.npy.part") - 7).ok());
  source_.broken_ = 1 << 20;
  EXPECT_THAT(*Embed(), HasSubstr("5 rows were there already"));
  ExpectWhole();
}

TEST_F(EmbedToFileTest, OtherModelOrDataStartsOver) {
  source_.broken_ = 7;
  EXPECT_FALSE(Embed().ok());
  source_.broken_ = 1 << 20;
  EXPECT_THAT(*Embed("other data"), Not(HasSubstr("already")));
  ExpectWhole();
  source_.broken_ = 7;
  EXPECT_FALSE(Embed().ok());
  source_.broken_ = 1 << 20;
  model_.spec_.fingerprint = "fp2";
  EXPECT_THAT(*Embed(), Not(HasSubstr("already")));
}

TEST_F(EmbedToFileTest, MirrorAddsBothAndNormalizeGivesUnitRows) {
  options_.embed.mirror = true;
  ASSERT_TRUE(Embed().ok());
  std::vector<float> rows = Rows();
  rows.resize(4);
  EXPECT_THAT(rows, ElementsAre(4, 4, 0, 0));
  options_.embed.normalize = true;
  ASSERT_TRUE(Embed().ok());
  EXPECT_FLOAT_EQ(Rows()[0], 0.70710678F);
}

TEST_F(EmbedToFileTest, NothingToEmbed) {
  source_.size_ = 0;
  EXPECT_EQ(Embed().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(RunEmbedTest, CombinationsAreChecked) {
  EmbedCommandOptions options;
  EXPECT_EQ(RunEmbed(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.catalog = "c";
  options.images = "i";
  EXPECT_EQ(RunEmbed(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.catalog.clear();
  options.split = "test";
  EXPECT_THAT(std::string(RunEmbed(options).status().message()), HasSubstr("--split"));
}

}  // namespace
}  // namespace doppel
