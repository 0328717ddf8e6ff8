#include "services/ctl/report/report.h"

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>

#include "common/io/file_system.h"
#include "gmock/gmock.h"
#include "tests/unit/services/ctl/report/fakes.h"

namespace doppel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ReportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/report-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { EXPECT_TRUE(PosixFileSystem().RemoveRecursively(root_).ok()); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = root_ + "/" + name;
    EXPECT_TRUE(PosixFileSystem().MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    std::ofstream(path) << text;
    return path;
  }
  RunInput MakeRun(const std::string& name, double rank1) {
    std::string steps, evals;
    for (int step = 1; step <= 400; ++step) {
      absl::StrAppend(
          &steps, "{\"step\":", step, ",\"loss\":", 1.0 / step, ",\"active\":0.1,",
          "\"d_ap\":{\"p0\":0,\"p5\":0.1,\"p50\":0.3,\"p95\":0.6,\"p100\":1},",
          "\"d_an\":{\"p0\":0,\"p5\":0.5,\"p50\":0.9,\"p95\":1.2,\"p100\":2},\"images_per_second\":3000}\n");
    }
    for (int step : {0, 200, 400}) {
      absl::StrAppend(&evals, "{\"step\":", step,
                      ",\"protocol\":\"open gallery identification\",\"queries\":6000,",
                      "\"gallery\":101820,\"rank1\":", rank1 * (1 + step) / 401,
                      ",\"recall\":{\"5\":0.9,\"10\":0.95},", "\"tar\":{\"1e-06\":0.5,\"0.001\":0.8}}\n");
    }
    Write(name + "/steps.jsonl", steps);
    Write(name + "/eval.jsonl", evals);
    return {name, root_ + "/" + name};
  }

  std::string root_;
};

// Every element that is opened is closed, in order.
void ExpectWellFormed(const std::string& html) {
  static const std::set<std::string> kVoid = {"meta", "img", "br", "!DOCTYPE"};
  const std::regex tag("<(/?)([!A-Za-z0-9]+)[^>]*?(/?)>");
  std::vector<std::string> open;
  for (auto it = std::sregex_iterator(html.begin(), html.end(), tag); it != std::sregex_iterator(); ++it) {
    const std::string name = (*it)[2];
    if (kVoid.count(name) != 0 || (*it)[3] == "/") continue;
    if ((*it)[1] == "/") {
      ASSERT_FALSE(open.empty()) << "</" << name << ">";
      ASSERT_EQ(open.back(), name);
      open.pop_back();
    } else {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty()) << open.back();
}

TEST_F(ReportTest, EverythingAtOnce) {
  ReportInputs inputs;
  inputs.title = "Glyphs <demo>";
  inputs.runs = {MakeRun("random", 0.8), MakeRun("subspace", 0.9)};
  inputs.generation_files = {
      Write("g1.json", R"({"generation":"1","identities":"98820","subspaces":2,"active":true,
      "objective":[10.5,9.1,8.8],"subspace":[{"subspace":0,"identities":"50000"},{"subspace":1,"identities":"48820"}]})")};
  inputs.bench_files = {
      Write("b.json", R"({"name":"stream","rows":[{"way":"raw","gb_s":9.4},{"way":"ours","gb_s":9.0}],
      "ratios":{"ours/raw":0.957}})")};
  inputs.commands = {"doppel report --out <dir>"};
  inputs.catalog = std::make_shared<FakeCatalog>(20);
  inputs.generation = std::make_shared<FakeGeneration>(0, 20);
  const auto html = RenderReport(inputs);
  ASSERT_TRUE(html.ok()) << html.status();
  ExpectWellFormed(*html);
  for (const char* part :
       {"Glyphs &lt;demo&gt;", "Rank-1 over steps", "TAR at FAR 1e-06 over steps", "Active share over steps",
        "Distances of the chosen pairs: subspace", "Subspace sizes", "k-means objective", "Look-alikes found",
        "0.957", "doppel report --out &lt;dir&gt;", "better by 10.00 points",
        "6000 queries against a gallery of 101820"}) {
    EXPECT_THAT(*html, HasSubstr(part));
  }
}

TEST_F(ReportTest, AsksForNothingFromOutside) {
  ReportInputs inputs;
  inputs.runs = {MakeRun("random", 0.8)};
  const auto html = RenderReport(inputs);
  ASSERT_TRUE(html.ok()) << html.status();
  for (const char* request : {"http:", "https:", "<script", "<link", "@import", "url("}) {
    EXPECT_THAT(*html, Not(HasSubstr(request)));
  }
}

TEST_F(ReportTest, NothingAtAllIsStillAPage) {
  const auto html = RenderReport(ReportInputs());
  ASSERT_TRUE(html.ok()) << html.status();
  ExpectWellFormed(*html);
  EXPECT_THAT(*html, AllOf(HasSubstr("No runs were given."), HasSubstr("No generation was given.")));
}

TEST_F(ReportTest, RunThatWasNeverEvaluated) {
  Write("fresh/steps.jsonl", "{\"step\":1,\"loss\":null}\n{\"step\":2,\"loss\":0.5}\n");
  ReportInputs inputs;
  inputs.runs = {{"fresh", root_ + "/fresh"}, MakeRun("random", 0.8)};
  const auto html = RenderReport(inputs);
  ASSERT_TRUE(html.ok()) << html.status();
  ExpectWellFormed(*html);
  EXPECT_THAT(*html, HasSubstr("cannot be compared"));
}

TEST_F(ReportTest, EmptyStepsFile) {
  Write("empty/steps.jsonl", "");
  ReportInputs inputs;
  inputs.runs = {{"empty", root_ + "/empty"}};
  const auto html = RenderReport(inputs);
  ASSERT_TRUE(html.ok()) << html.status();
  EXPECT_THAT(*html, HasSubstr("These runs hold no steps yet."));
}

TEST_F(ReportTest, NamesOfRunsAreEscaped) {
  RunInput run = MakeRun("plain", 0.5);
  run.name = "<img src=x onerror=alert(1)>";
  ReportInputs inputs;
  inputs.runs = {run};
  const auto html = RenderReport(inputs);
  ASSERT_TRUE(html.ok());
  EXPECT_THAT(*html, Not(HasSubstr("<img src=x")));
  EXPECT_THAT(*html, HasSubstr("&lt;img src=x"));
}

TEST_F(ReportTest, MissingFilesAreNamed) {
  ReportInputs inputs;
  inputs.runs = {{"gone", root_ + "/gone"}};
  EXPECT_EQ(RenderReport(inputs).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(RenderReport(inputs).status().message(), HasSubstr(root_ + "/gone/steps.jsonl"));
  inputs = ReportInputs();
  inputs.generation_files = {root_ + "/g9.json"};
  EXPECT_THAT(RenderReport(inputs).status().message(), HasSubstr("g9.json"));
  inputs = ReportInputs();
  inputs.bench_files = {root_ + "/b9.json"};
  EXPECT_THAT(RenderReport(inputs).status().message(), HasSubstr("b9.json"));
}

TEST_F(ReportTest, DamagedLinesAreNamedATornLastOneIsForgiven) {
  Write("torn/steps.jsonl", "{\"step\":1,\"loss\":1}\n{\"step\":2,\"lo");
  Write("bad/steps.jsonl", "{\"step\":1}\noops\n{\"step\":3}\n");
  ReportInputs inputs;
  inputs.runs = {{"torn", root_ + "/torn"}};
  EXPECT_TRUE(RenderReport(inputs).ok());
  inputs.runs = {{"bad", root_ + "/bad"}};
  EXPECT_THAT(RenderReport(inputs).status().message(), HasSubstr("bad/steps.jsonl:2"));
}

TEST_F(ReportTest, FilesOfAnotherKindAreRefused) {
  ReportInputs inputs;
  inputs.generation_files = {Write("g.json", "[1,2]")};
  EXPECT_THAT(RenderReport(inputs).status().message(), HasSubstr("g.json: not a generation"));
  inputs = ReportInputs();
  inputs.bench_files = {Write("b.json", "nonsense")};
  EXPECT_THAT(RenderReport(inputs).status().message(), HasSubstr("b.json: not a JSON object"));
}

TEST_F(ReportTest, BenchCellsOfAnyKind) {
  ReportInputs inputs;
  inputs.bench_files = {
      Write("b.json", R"({"name":5,"rows":[{"a":true,"b":null},7,{"c":[1]}],"ratios":{"<r>":"x"}})")};
  const auto html = RenderReport(inputs);
  ASSERT_TRUE(html.ok()) << html.status();
  ExpectWellFormed(*html);
  EXPECT_THAT(*html, HasSubstr("&lt;r&gt;"));
}

TEST_F(ReportTest, LookalikesNeedBoth) {
  ReportInputs inputs;
  inputs.catalog = std::make_shared<FakeCatalog>(2);
  EXPECT_EQ(RenderReport(inputs).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ReportTest, SameInputsSameBytes) {
  ReportInputs inputs;
  inputs.runs = {MakeRun("random", 0.8), MakeRun("subspace", 0.8)};
  EXPECT_EQ(*RenderReport(inputs), *RenderReport(inputs));
}

TEST_F(ReportTest, WritesTheFile) {
  const std::string path = root_ + "/report.html";
  ASSERT_TRUE(WriteReport(ReportInputs(), path).ok());
  EXPECT_THAT(*PosixFileSystem().ReadFile(path), HasSubstr("<!DOCTYPE html>"));
  EXPECT_FALSE(WriteReport(ReportInputs(), root_ + "/no/such/folder/report.html").ok());
}

}  // namespace
}  // namespace doppel
