// Every committed input once more, without libFuzzer: what was mended stays mended, and targets do not rot.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/fuzz/fuzz_target.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

class FuzzReplayTest : public ::testing::TestWithParam<FuzzTarget> {};

TEST_P(FuzzReplayTest, SurvivesItsCorpus) {
  const std::string folder = std::string(DOPPEL_FUZZ_CORPUS) + "/" + GetParam().name;
  std::vector<std::string> inputs;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    inputs.push_back(entry.path().string());
  std::sort(inputs.begin(), inputs.end());
  ASSERT_FALSE(inputs.empty()) << folder << ": a target has seeds";
  GetParam().run({});
  for (const std::string& input : inputs) {
    SCOPED_TRACE(input);
    const std::string bytes = testing::ReadTestFile(input);
    GetParam().run(bytes);
    // And what a torn copy of it does.
    GetParam().run(absl::string_view(bytes).substr(0, bytes.size() / 2));
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzReplayTest, ::testing::ValuesIn(FuzzTargets()),
                         [](const ::testing::TestParamInfo<FuzzTarget>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace doppel
