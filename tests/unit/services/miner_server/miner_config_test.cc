#include "services/miner_server/miner_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace doppel {
namespace {

using ::testing::StartsWith;

v1::MinerConfig Complete() {
  v1::MinerConfig config = DefaultMinerConfig();
  config.set_catalog("catalog");
  config.set_state("state");
  return config;
}

TEST(MinerConfigTest, DefaultsWithCatalogAndStateAreValid) {
  EXPECT_TRUE(ValidateMinerConfig(Complete()).ok());
}

TEST(MinerConfigTest, ListensOnLoopbackUnlessToldOtherwise) {
  EXPECT_EQ(DefaultMinerConfig().listen(), "127.0.0.1:50051");
}

TEST(MinerConfigTest, EveryFieldHasHelp) {
  const auto* descriptor = v1::MinerConfig::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    EXPECT_NE(MinerConfigHelp(descriptor->field(i)->name()), "") << descriptor->field(i)->name();
  }
  EXPECT_EQ(MinerConfigHelp("no_such_field"), "");
}

TEST(MinerConfigTest, ErrorsNameTheKey) {
  using Change = std::function<void(v1::MinerConfig&)>;
  const std::vector<std::pair<std::string, Change>> cases = {
      {"catalog", [](v1::MinerConfig& c) { c.clear_catalog(); }},
      {"state", [](v1::MinerConfig& c) { c.clear_state(); }},
      {"listen", [](v1::MinerConfig& c) { c.set_listen("50051"); }},
      {"batch_threads", [](v1::MinerConfig& c) { c.set_batch_threads(0); }},
      {"max_credits", [](v1::MinerConfig& c) { c.set_max_credits(0); }},
      {"part_bytes", [](v1::MinerConfig& c) { c.set_part_bytes(10); }},
      {"lease_seconds", [](v1::MinerConfig& c) { c.set_lease_seconds(0); }},
      {"drain_seconds", [](v1::MinerConfig& c) { c.set_drain_seconds(-1); }},
      {"http_port", [](v1::MinerConfig& c) { c.set_http_port(70000); }},
      {"max_batch_samples", [](v1::MinerConfig& c) { c.set_max_batch_samples(0); }},
  };
  for (const auto& [key, change] : cases) {
    v1::MinerConfig config = Complete();
    change(config);
    const absl::Status status = ValidateMinerConfig(config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(status.message()), StartsWith(key + ":"));
  }
}

}  // namespace
}  // namespace doppel
