#include "services/ctl/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "common/image/image.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/services/ctl/fake_miner.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class CommandLineTest : public ::testing::Test {
 protected:
  int Run(std::vector<const char*> arguments) {
    out_.str("");
    err_.str("");
    arguments.insert(arguments.begin(), "doppel");
    CommandLineEnvironment environment{out_, err_};
    environment.quiet = true;
    environment.connect = [this](const std::string& address, absl::Duration) {
      address_ = address;
      auto miner = std::make_unique<FakeMiner>();
      miner->script = {[] { return FakeMiner::Done(v1::Operation::STATE_SUCCEEDED); }};
      return miner;
    };
    return RunCommandLine(static_cast<int>(arguments.size()), arguments.data(), environment);
  }
  std::string address_;
  std::ostringstream out_, err_;
};

TEST_F(CommandLineTest, EveryCommandHasHelpWithExamples) {
  for (const char* command : {"import", "inspect", "recluster", "generations", "generation", "activate",
                              "operations", "cancel", "status", "report", "pack"}) {
    EXPECT_EQ(Run({command, "--help"}), 0) << command;
    EXPECT_THAT(out_.str(), HasSubstr(absl::StrCat("  doppel ", command))) << command;
    EXPECT_THAT(out_.str(), HasSubstr("--output")) << command;
  }
}

TEST_F(CommandLineTest, WrongUsageIsTwoAndGoesToStderr) {
  EXPECT_EQ(Run({}), 2);
  EXPECT_EQ(Run({"frobnicate"}), 2);
  EXPECT_EQ(Run({"recluster"}), 2);  // no --model
  EXPECT_EQ(Run({"recluster", "--model", "m", "--subspaces", "3", "--target-size", "9"}), 2);
  EXPECT_EQ(Run({"recluster", "--model", "m", "--subspaces", "99999999999"}), 2);
  EXPECT_EQ(Run({"recluster", "--model", "m", "--subspaces", "-1"}), 2);
  EXPECT_EQ(Run({"activate", "0"}), 2);
  EXPECT_EQ(Run({"import", "parquet", "path", "--catalog", "c"}), 2);
  EXPECT_EQ(Run({"status", "-o", "xml"}), 2);
  EXPECT_EQ(out_.str(), "");
  EXPECT_NE(err_.str(), "");
}

TEST_F(CommandLineTest, ReclusterFillsTheRequest) {
  ASSERT_EQ(Run({"recluster", "--model", "/m/./x", "--subspaces", "12", "--samples-per-identity", "3",
                 "--iterations", "4", "--seed", "5", "--min-size", "6", "--split", "test", "--keep-active",
                 "--show-request", "-o", "json"}),
            0);
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["model_path"], "/m/x");
  EXPECT_EQ(json["subspaces"], 12);
  EXPECT_EQ(json["samples_per_identity"], 3);
  EXPECT_EQ(json["iterations"], 4);
  EXPECT_EQ(json["seed"], "5");
  EXPECT_EQ(json["min_size"], 6);
  EXPECT_EQ(json["split"], "test");
  EXPECT_EQ(json["keep_active"], true);
}

TEST_F(CommandLineTest, ReclusterWaits) {
  EXPECT_EQ(Run({"recluster", "--model", "m", "--target-size", "1000"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("generation"));
}

TEST_F(CommandLineTest, ServerByFlagThenDefault) {
  Run({"status"});
  EXPECT_EQ(address_, "127.0.0.1:50051");
  Run({"status", "--server", "there:7"});
  EXPECT_EQ(address_, "there:7");
}

TEST_F(CommandLineTest, EveryRemoteCommandRuns) {
  for (const char* format : {"table", "wide", "json", "yaml"}) {
    for (const std::vector<const char*>& command :
         std::vector<std::vector<const char*>>{{"status"},
                                               {"generations"},
                                               {"generation"},
                                               {"generation", "1"},
                                               {"activate", "1"},
                                               {"operations"},
                                               {"cancel", "op-1"}}) {
      std::vector<const char*> arguments = command;
      arguments.insert(arguments.end(), {"-o", format});
      EXPECT_EQ(Run(arguments), 0) << command[0] << " " << format;
      EXPECT_NE(out_.str(), "");
      EXPECT_EQ(err_.str(), "");
      if (std::string(format) == "json") {
        EXPECT_TRUE(nlohmann::json::accept(out_.str())) << out_.str();
      }
    }
  }
}

TEST_F(CommandLineTest, ErrorsNameTheCommand) {
  EXPECT_EQ(Run({"generation", "9"}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("doppel generation: "));
  EXPECT_EQ(out_.str(), "");
}

TEST_F(CommandLineTest, ReportNeedsNamedRunsAndBothHalvesOfTheLookalikes) {
  EXPECT_EQ(Run({"report", "--run", "x=dir"}), 2);  // no --html
  EXPECT_EQ(Run({"report", "--html", "/nonexistent/r.html", "--run", "dir"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("NAME=DIR"));
  EXPECT_EQ(Run({"report", "--html", "/nonexistent/r.html", "--catalog", "c"}), 2);
  EXPECT_EQ(Run({"report", "--html", "/nonexistent/r.html", "--run", "x=/nonexistent"}), 1);
}

TEST_F(CommandLineTest, PackRewritesACatalogAsItIsOrAsPixels) {
  const doppel::testing::CatalogFixture fixture;
  const std::string from = fixture.directory(), to = fixture.temp() + "/packed",
                    raw = fixture.temp() + "/raw";
  ASSERT_EQ(Run({"pack", "--catalog", from.c_str(), "--output", to.c_str(), "--shard-size", "20KB"}), 0)
      << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr(fixture.catalog()->fingerprint()));
  EXPECT_EQ(Run({"pack", "--catalog", from.c_str(), "--output", to.c_str()}), 3);
  EXPECT_EQ(Run({"pack", "--catalog", from.c_str(), "--output", raw.c_str(), "--raw", "24x24"}), 2);
  EXPECT_EQ(Run({"pack", "--catalog", from.c_str(), "--output", raw.c_str(), "--channels", "1"}), 2);
  EXPECT_EQ(
      Run({"pack", "--catalog", from.c_str(), "--output", raw.c_str(), "--raw", "24", "--channels", "1"}), 2);
  ASSERT_EQ(
      Run({"pack", "--catalog", from.c_str(), "--output", raw.c_str(), "--raw", "24x20", "--channels", "3"}),
      0)
      << err_.str();
  const auto packed = Catalog::Open(raw);
  ASSERT_TRUE(packed.ok());
  // What the server sends without decoding is what decoding gives.
  std::string direct(24 * 20 * 3, '\0'), decoded = direct;
  const auto bytes = (*packed)->ReadChecked(2);
  ASSERT_TRUE(
      DecodeImageInto(fixture.catalog()->Read(2)->data, 24, 20, 3, reinterpret_cast<uint8_t*>(direct.data()))
          .ok());
  EXPECT_EQ(RawPixels(bytes->data, (*packed)->RawShape(2)), direct);
  ASSERT_TRUE(DecodeImageInto(bytes->data, 24, 20, 3, reinterpret_cast<uint8_t*>(decoded.data())).ok());
  EXPECT_EQ(decoded, direct);
  for (size_t size = 0; size < bytes->data.size(); size += 7) {
    EXPECT_FALSE(DecodeImage(bytes->data.substr(0, size), 3).ok());
  }
  // A packed catalog may be packed again, to another size.
  const std::string smaller = fixture.temp() + "/smaller";
  EXPECT_EQ(
      Run({"pack", "--catalog", raw.c_str(), "--output", smaller.c_str(), "--raw", "8x8", "--channels", "1"}),
      0)
      << err_.str();
}

TEST_F(CommandLineTest, ImportAndInspect) {
  const doppel::testing::CatalogFixture fixture;
  const std::string catalog = fixture.temp() + "/again", data = fixture.data();
  ASSERT_EQ(Run({"import", "auto", data.c_str(), "--catalog", catalog.c_str()}), 0) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr(fixture.catalog()->fingerprint()));
  ASSERT_EQ(Run({"inspect", "--catalog", catalog.c_str(), "--verify"}), 0) << err_.str();
  const std::string other = fixture.temp() + "/other/a/1.png";
  doppel::testing::WriteTestFile(other, doppel::testing::MakeTestImage(9, 9, 8));
  const std::string folder = fixture.temp() + "/other";
  EXPECT_EQ(Run({"import", "imagefolder", folder.c_str(), "--catalog", catalog.c_str()}), 3);
  EXPECT_EQ(Run({"import", "imagefolder", folder.c_str(), "--catalog", catalog.c_str(), "--force"}), 0);
}

}  // namespace
}  // namespace doppel
