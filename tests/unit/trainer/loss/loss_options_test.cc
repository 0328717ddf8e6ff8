#include "trainer/loss/loss_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

TEST(LossOptionsTest, SetsNumbersFlagsAndNames) {
  LossOptions o;
  EXPECT_TRUE(SetLossOption(&o, "negatives", "7").ok());
  EXPECT_TRUE(SetLossOption(&o, "mu=0.25").ok());
  EXPECT_TRUE(SetLossOption(&o, "bnneck=false").ok());
  EXPECT_TRUE(SetLossOption(&o, "selection=hardest").ok());
  EXPECT_TRUE(SetLossOption(&o, "margin=0.4").ok());
  EXPECT_TRUE(SetLossOption(&o, "seed=18446744073709551615").ok());
  EXPECT_TRUE(SetLossOption(&o, "attributes=a=b.csv").ok());
  EXPECT_EQ(o.negatives, 7);
  EXPECT_EQ(o.mu, 0.25);
  EXPECT_FALSE(o.bnneck);
  EXPECT_EQ(o.selection, "hardest");
  EXPECT_EQ(o.margin, "0.4");
  EXPECT_EQ(o.seed, 18446744073709551615u);
  EXPECT_EQ(o.attributes, "a=b.csv");
}

TEST(LossOptionsTest, ErrorsNameKeyValueAndRange) {
  LossOptions o;
  const auto message = [&](absl::string_view text) { return SetLossOption(&o, text).ToString(); };
  EXPECT_THAT(message("negatives=0"), HasSubstr("negatives=\"0\": it must be an integer, 1 or more"));
  EXPECT_THAT(message("negatives=x"), HasSubstr("negatives"));
  EXPECT_THAT(message("mu=1.5"), HasSubstr("a number from 0 to 1"));
  EXPECT_THAT(message("mu=nan"), HasSubstr("a number from 0 to 1"));
  EXPECT_THAT(message("distance=manhattan"), HasSubstr("one of euclidean, squared, cosine"));
  EXPECT_THAT(message("margin=-1"), HasSubstr("\"soft\" or a number"));
  EXPECT_THAT(message("bnneck=perhaps"), HasSubstr("true or false"));
  EXPECT_THAT(message("memory=-1"), HasSubstr("0 or more"));
  EXPECT_THAT(message("memory_start=-1"), HasSubstr("0 or more"));
  EXPECT_THAT(message("negative=3"), HasSubstr("negatives"));
  EXPECT_THAT(message("negatives"), HasSubstr("key=value"));
  EXPECT_EQ(o.negatives, LossOptions().negatives);
}

TEST(LossOptionsTest, EveryKeyHasHelpAndStandsOnce) {
  std::set<std::string> keys;
  for (const LossOptionHelp& key : LossOptionKeys()) {
    EXPECT_TRUE(keys.insert(key.key).second) << key.key;
    EXPECT_FALSE(key.help.empty()) << key.key;
    EXPECT_FALSE(key.range.empty()) << key.key;
  }
  EXPECT_THAT(keys, ::testing::IsSupersetOf({"name", "distance", "margin", "negatives", "skip", "temperature",
                                             "hardness_cap", "margin_steps", "metric", "memory"}));
}

TEST(LossNamesTest, AreThoseThatPeopleKnow) {
  EXPECT_THAT(LossNames(),
              ::testing::IsSupersetOf({"contrastive", "lmnn", "triplet", "improved_triplet", "quadruplet",
                                       "batch_all", "batch_all_nonzero", "batch_hard", "lifted", "lifted_pxk",
                                       "adaptive_weights", "msml", "ohnm", "batch_ohnm", "semi_hard",
                                       "semi_hard_random", "softmax_sampled"}));
  LossOptions unknown;
  unknown.name = "magic";
  EXPECT_THAT(MakeLoss(unknown).status().ToString(), HasSubstr("lifted_pxk"));
}

TEST(LossNamesTest, SettingsOfOtherFamiliesAreChecked) {
  const auto message = [](const char* name, const char* key, const char* value) {
    LossOptions o;
    o.name = name;
    const absl::Status status = SetLossOption(&o, key, value);
    return status.ok() ? MakeLoss(o).status().ToString() : status.ToString();
  };
  EXPECT_THAT(message("contrastive", "power", "3"), HasSubstr("power is 3"));
  EXPECT_THAT(message("contrastive", "reduction", "sum"), HasSubstr("balanced"));
  EXPECT_THAT(message("lmnn", "reduction", "nonzero"), HasSubstr("sum, mean"));
  EXPECT_THAT(message("attribute", "attributes", "/no/such.csv"), HasSubstr("/no/such.csv"));
  EXPECT_THAT(message("attribute", "attributes", ""), HasSubstr("CSV"));
  LossOptions given;
  given.name = "lifted";
  given.triplets = {{0, 1, 2}};
  EXPECT_THAT(MakeLoss(given).status().ToString(), HasSubstr("given triplets"));
}

}  // namespace
}  // namespace doppel
