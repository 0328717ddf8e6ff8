#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/io/npy.h"
#include "services/trainer_worker/eval_data_files.h"
#include "services/trainer_worker/eval_protocols_command.h"
#include "services/trainer_worker/search_command.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

using ::nlohmann::json;
using ::testing::HasSubstr;

class CommandFilesTest : public ::testing::Test {
 protected:
  std::string Floats(const std::string& name, const std::vector<int64_t>& shape,
                     const std::vector<float>& values) {
    EXPECT_TRUE(WriteNpy(PosixFileSystem(), dir_ / name, shape, values).ok());
    return dir_ / name;
  }
  std::string Ints(const std::string& name, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& values) {
    EXPECT_TRUE(WriteNpy(PosixFileSystem(), dir_ / name, shape, values).ok());
    return dir_ / name;
  }
  // Four rows of two labels.
  void Simple() {
    embeddings_ = Floats("e.npy", {4, 2}, {1, 0, 0.9F, 0.1F, 0, 1, 0.1F, 0.8F});
    labels_ = Ints("y.npy", {4}, {7, 7, 9, 9});
  }
  // Runs the command line behind "doppel-trainer".
  absl::StatusOr<std::string> Run(const std::vector<std::string>& arguments) {
    CLI::App app;
    EvalProtocolsOptions eval;
    SearchCommandOptions search;
    const CLI::App* eval_command = AddEvalProtocolsCommand(app, &eval);
    AddSearchCommand(app, &search);
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    try {
      app.parse(reversed);
    } catch (const CLI::ParseError& e) {
      return absl::InvalidArgumentError(e.what());
    }
    return eval_command->parsed() ? RunEvalProtocols(eval) : RunSearch(search);
  }
  json RunJson(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"-o", "json"});
    const auto text = Run(arguments);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? json::parse(*text) : json();
  }
  std::string RunError(const std::vector<std::string>& arguments) {
    return std::string(Run(arguments).status().message());
  }

  testing::TempDir dir_;
  std::string embeddings_;
  std::string labels_;
};

TEST_F(CommandFilesTest, RetrievalOfFiles) {
  Simple();
  const json report = RunJson(
      {"eval", "--protocol", "retrieval", "--embeddings", embeddings_, "--labels", labels_, "--top", "1,2"});
  EXPECT_EQ(report["protocol"], "retrieval");
  EXPECT_EQ(report["distance"], "cosine");
  EXPECT_EQ(report["queries"], 4);
  EXPECT_EQ(report["recall"]["1"], 1.0);
  EXPECT_EQ(report["map_at_r"], 1.0);
  EXPECT_TRUE(report["seconds"].is_number());
}

TEST_F(CommandFilesTest, TableHasALineForEveryFigure) {
  Simple();
  const auto text = Run({"eval", "--protocol", "coverage", "--embeddings", embeddings_, "--labels", labels_});
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("protocol"));
  EXPECT_THAT(*text, HasSubstr("coverage 0.95      1.000000"));
}

TEST_F(CommandFilesTest, MarketOfFiles) {
  Simple();
  const std::string cameras = Ints("c.npy", {4}, {1, 2, 1, 2});
  const std::string queries = Floats("q.npy", {1, 2}, {1, 0.2F});
  const std::string query_labels = Ints("qy.npy", {1}, {7});
  const std::string query_cameras = Ints("qc.npy", {1}, {2});
  const std::vector<std::string> command = {"eval",      "--protocol",     "market1501", "--embeddings",
                                            embeddings_, "--labels",       labels_,      "--query-embeddings",
                                            queries,     "--query-labels", query_labels, "--cameras",
                                            cameras};
  EXPECT_THAT(RunError(command), HasSubstr("--query-cameras"));
  std::vector<std::string> whole = command;
  whole.insert(whole.end(), {"--query-cameras", query_cameras});
  const json report = RunJson(whole);
  EXPECT_EQ(report["cmc"]["1"], 1.0);
  EXPECT_EQ(report["ap_std"], 1.0);
  EXPECT_EQ(report["minp"], 1.0);
}

TEST_F(CommandFilesTest, LfwOfFilesByNamesAndByRows) {
  Simple();
  testing::WriteTestFile(dir_ / "pairs.txt", "2 1\na 1 2\na 1 b 1\nb 1 2\na 2 b 2\n");
  testing::WriteTestFile(dir_ / "names.txt", "a/a_0001.jpg\na/a_0002.jpg\nb/b_0001.jpg\nb/b_0002.jpg\n");
  const json named = RunJson({"eval", "--protocol", "lfw", "--folds", "2", "--embeddings", embeddings_,
                              "--pairs", dir_ / "pairs.txt", "--names", dir_ / "names.txt"});
  EXPECT_EQ(named["accuracy"], 1.0);
  EXPECT_EQ(named["positive_pairs"], 2);
  const std::string rows = Ints("p.npy", {4, 3}, {0, 1, 1, 0, 2, 0, 2, 3, 1, 1, 3, 0});
  const json numbered = RunJson(
      {"eval", "--protocol", "lfw", "--folds", "2", "--embeddings", embeddings_, "--pairs-npy", rows});
  EXPECT_EQ(numbered["fold_threshold"], named["fold_threshold"]);
  const json verification = RunJson({"eval", "--protocol", "verification", "--embeddings", embeddings_,
                                     "--pairs-npy", rows, "--far", "0.1,0.5"});
  EXPECT_EQ(verification["tar"]["0.5"], 1.0);
  EXPECT_EQ(verification["refused_far_targets"], json::array({0.1}));
  EXPECT_THAT(
      RunError({"eval", "--protocol", "lfw", "--embeddings", embeddings_, "--pairs", dir_ / "pairs.txt"}),
      HasSubstr("--names"));
}

TEST_F(CommandFilesTest, CoverageOfGivenConfidences) {
  const std::string confidence = Floats("conf.npy", {4}, {0.9F, 0.8F, 0.7F, 0.6F});
  const std::string correct = Ints("right.npy", {4}, {1, 1, 0, 1});
  const json report = RunJson({"eval", "--protocol", "coverage", "--confidence", confidence, "--correct",
                               correct, "--precision", "0.95,0.75"});
  EXPECT_EQ(report["coverage"]["0.95"], 0.5);
  EXPECT_EQ(report["coverage"]["0.75"], 1.0);
  EXPECT_EQ(report["protocol"], "coverage");
  EXPECT_THAT(RunError({"eval", "--protocol", "coverage", "--confidence", confidence}),
              HasSubstr("--correct"));
}

TEST_F(CommandFilesTest, BadFilesAreNamed) {
  Simple();
  const auto error = [&](const std::string& embeddings, const std::string& labels) {
    return RunError({"eval", "--protocol", "retrieval", "--embeddings", embeddings, "--labels", labels});
  };
  EXPECT_THAT(error(dir_ / "none.npy", labels_), HasSubstr("none.npy"));
  EXPECT_THAT(error(labels_, labels_), HasSubstr("y.npy: shape (4) where [rows, dimension]"));
  EXPECT_THAT(error(embeddings_, embeddings_), HasSubstr("e.npy: shape (4, 2) where [rows]"));
  EXPECT_THAT(error(embeddings_, Ints("short.npy", {3}, {1, 2, 3})), HasSubstr("short.npy: 3 labels"));
  EXPECT_THAT(error(embeddings_, Floats("float.npy", {4}, {1, 2, 3, 4})), HasSubstr("float.npy: dtype"));
  EXPECT_THAT(error(Ints("ints.npy", {4, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), labels_),
              HasSubstr("ints.npy: dtype"));
  EXPECT_THAT(error(Floats("nan.npy", {4, 2}, {1, 2, 3, std::nanf(""), 5, 6, 7, 8}), labels_),
              HasSubstr("nan.npy: row 1, column 1"));
  EXPECT_THAT(error(Floats("empty.npy", {0, 2}, {}), labels_), HasSubstr("empty.npy: holds no row"));
  EXPECT_THAT(error(Floats("zero.npy", {4, 2}, {1, 2, 0, 0, 1, 1, 1, 1}), labels_),
              HasSubstr("row 1 is all zeros"));
}

TEST_F(CommandFilesTest, WrongCombinationsSayWhatIsMissing) {
  Simple();
  EXPECT_THAT(RunError({"eval"}), HasSubstr("--model"));
  EXPECT_THAT(RunError({"eval", "--model", "m", "--embeddings", "e"}), HasSubstr("either"));
  EXPECT_THAT(RunError({"eval", "--model", "m"}), HasSubstr("exactly one"));
  EXPECT_THAT(RunError({"eval", "--model", "m", "--catalog", "c", "--images", "i"}),
              HasSubstr("exactly one"));
  EXPECT_THAT(RunError({"eval", "--protocol", "mrr", "--embeddings", "e"}),
              HasSubstr("there are open_gallery"));
  EXPECT_THAT(RunError({"eval", "--protocol", "retrieval", "--embeddings", "e"}), HasSubstr("--labels"));
  EXPECT_THAT(RunError({"eval", "--protocol", "lfw", "--embeddings", "e"}), HasSubstr("pairs"));
  EXPECT_THAT(RunError({"eval", "--protocol", "retrieval", "--embeddings", "e", "--pairs-npy", "p"}),
              HasSubstr("not to retrieval"));
  EXPECT_THAT(RunError({"eval", "-o", "xml"}), HasSubstr("table or json"));
  EXPECT_THAT(RunError({"eval", "--protocol", "retrieval", "--distance", "l1", "--embeddings", embeddings_,
                        "--labels", labels_}),
              HasSubstr("cosine or euclidean"));
}

TEST_F(CommandFilesTest, SearchInTwoSteps) {
  Simple();
  const std::string queries = Floats("q.npy", {2, 2}, {1, 0.1F, 0.2F, 1});
  const std::string query_labels = Ints("qy.npy", {2}, {7, 9});
  testing::WriteTestFile(dir_ / "names.txt", "a\nb\nc\nd\n");
  const std::vector<std::string> command = {"search", "--index",   embeddings_,       "--labels",
                                            labels_,  "--queries", queries,           "--top",
                                            "3",      "--names",   dir_ / "names.txt"};
  std::vector<std::string> two = command;
  two.insert(two.end(), {"--identities", "1", "--query-labels", query_labels});
  const json report = RunJson(two);
  EXPECT_EQ(report["protocol"], "two-step retrieval");
  EXPECT_EQ(report["recall"]["1"], 1.0);
  EXPECT_EQ(report["identity_recall"]["1"], 1.0);
  ASSERT_EQ(report["results"].size(), 2U);
  EXPECT_EQ(report["results"][0]["identities"][0]["label"], 7);
  EXPECT_EQ(report["results"][0]["results"].size(), 2U);
  EXPECT_EQ(report["results"][1]["results"][0]["label"], 9);
  EXPECT_EQ(report["results"][1]["results"][0]["name"], "d");

  std::vector<std::string> one = command;
  one.insert(one.end(), {"--identities", "0"});
  const json plain = RunJson(one);
  EXPECT_EQ(plain["protocol"], "one-step retrieval");
  EXPECT_EQ(plain["results"][0]["results"].size(), 3U);
  one.insert(one.end(), {"--ivf", "--lists", "2", "--probes", "2"});
  EXPECT_EQ(RunJson(one)["results"], plain["results"]);
  const auto table = Run(command);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(*table, HasSubstr("query place"));
}

TEST_F(CommandFilesTest, SearchRefusesWhatDoesNotFit) {
  Simple();
  const std::string wide = Floats("wide.npy", {1, 3}, {1, 2, 3});
  const std::vector<std::string> command = {"search",   "--index", embeddings_,
                                            "--labels", labels_,   "--queries"};
  const auto error = [&](std::vector<std::string> rest) {
    rest.insert(rest.begin(), command.begin(), command.end());
    return RunError(rest);
  };
  EXPECT_THAT(error({wide}), HasSubstr("dimension 3"));
  EXPECT_THAT(error({embeddings_, "--top", "0"}), HasSubstr("--top"));
  EXPECT_THAT(error({embeddings_, "--identities", "-1"}), HasSubstr("--identities"));
  EXPECT_THAT(error({embeddings_, "-o", "xml"}), HasSubstr("table or json"));
  EXPECT_THAT(error({embeddings_, "--ivf", "--lists", "50"}), HasSubstr("50 lists"));
}

}  // namespace
}  // namespace doppel
