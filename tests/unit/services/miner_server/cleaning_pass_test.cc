#include "services/miner_server/cleaning_pass.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/io/memory_file_system.h"
#include "common/io/npy.h"
#include "miner/cleaning/cleaning_store.h"
#include "tests/support/fake_catalog.h"
#include "tests/support/fake_generation.h"
#include "tests/unit/miner/cleaning/clusters.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kIdentities = 120;
constexpr int kImages = 8;

bool Always(int64_t, int64_t) { return true; }

class CleaningPassTest : public ::testing::Test {
 protected:
  CleaningPassTest() : catalog_(std::vector<uint32_t>(kIdentities, kImages)) {
    clusters_ = MakeClusters(kIdentities, kImages, 0.5, 1);
    // Identities 0 and 1, 2 and 3, … 18 and 19 have six of their eight images in common: one such pair alone
    // might be chance. A sample of 50 is really one of 60.
    for (int pair = 0; pair < 10; ++pair) {
      for (int j = 0; j < 6; ++j) {
        const int row = 2 * pair * kImages + j;
        std::copy_n(clusters_.rows.row(row), clusters_.rows.dimension, clusters_.rows.row(row + kImages));
      }
    }
    std::copy_n(clusters_.rows.row(60 * kImages), clusters_.rows.dimension,
                clusters_.rows.row(50 * kImages + 5));
    request_.set_embeddings_path("/e.npy");
    request_.set_labels_path("/y.npy");
    WriteEmbeddings();
  }

  void WriteEmbeddings() {
    ASSERT_TRUE(WriteNpy(fs_, "/e.npy", {clusters_.rows.rows, clusters_.rows.dimension},
                         absl::MakeConstSpan(clusters_.rows.values))
                    .ok());
    ASSERT_TRUE(WriteNpy(fs_, "/y.npy", {clusters_.rows.rows}, absl::MakeConstSpan(clusters_.labels)).ok());
  }
  absl::StatusOr<v1::FindingsReplaced> Find() { return FindFromEmbeddings(fs_, catalog_, request_, Always); }
  CleaningState StateOf(const v1::FindingsReplaced& findings) {
    v1::CleaningUpdate update;
    *update.mutable_findings_replaced() = findings;
    CleaningState state;
    EXPECT_TRUE(state.Apply(update).ok());
    return state;
  }

  FakeCatalog catalog_;
  Clusters clusters_;
  InMemoryFileSystem fs_;
  v1::FindRequest request_;
};

TEST_F(CleaningPassTest, FindsBothKinds) {
  const v1::FindingsReplaced findings = Find().value();
  ASSERT_EQ(findings.summaries_size(), 2);
  std::vector<std::string> ids;
  for (const v1::Finding& finding : findings.findings()) ids.push_back(SubjectId(finding.subject()));
  EXPECT_THAT(ids, ::testing::Contains("pair-0-1"));
  EXPECT_THAT(ids, ::testing::Contains("sample-405"));
}

TEST_F(CleaningPassTest, ListsWithNames) {
  const CleaningState state = StateOf(Find().value());
  v1::ListFindingsRequest list;
  list.add_ids("sample-405");
  list.add_ids("pair-1-0");
  list.add_ids("pair-7-8");
  const v1::ListFindingsResponse response = ListFindingsOf(state, catalog_, list).value();
  EXPECT_EQ(response.total(), 3u);
  bool sample = false;
  for (const v1::ListedFinding& row : response.findings()) {
    if (row.id() != "sample-405") continue;
    sample = true;
    EXPECT_EQ(row.first_name(), "id00000050");
    EXPECT_EQ(row.second_name(), "id00000060");
    EXPECT_EQ(row.sample_key(), "id00000050/5");
  }
  EXPECT_TRUE(sample);
  list.add_ids("pair-7-120");
  EXPECT_FALSE(ListFindingsOf(state, catalog_, list).ok());
}

TEST_F(CleaningPassTest, PagesAndFilters) {
  const CleaningState state = StateOf(Find().value());
  v1::ListFindingsRequest list;
  const uint64_t all = ListFindingsOf(state, catalog_, list).value().total();
  ASSERT_GE(all, 2u);
  list.set_limit(1);
  list.set_offset(1);
  const v1::ListFindingsResponse page = ListFindingsOf(state, catalog_, list).value();
  EXPECT_EQ(page.total(), all);
  EXPECT_EQ(page.findings_size(), 1);
  list.set_offset(all + 5);
  EXPECT_EQ(ListFindingsOf(state, catalog_, list).value().findings_size(), 0);
  v1::ListFindingsRequest samples;
  samples.set_kind(v1::CleaningSubject::KIND_MISLABELLED_SAMPLE);
  const v1::ListFindingsResponse only_samples = ListFindingsOf(state, catalog_, samples).value();
  EXPECT_GE(only_samples.findings_size(), 1);
  for (const auto& row : only_samples.findings()) {
    EXPECT_THAT(row.id(), StartsWith("sample-"));
  }
}

TEST_F(CleaningPassTest, DecidedFindingsAreShownWhenAskedFor) {
  CleaningState state = StateOf(Find().value());
  const uint64_t before = ListFindingsOf(state, catalog_, {}).value().total();
  v1::CleaningUpdate update;
  v1::Decision* decision = update.mutable_decisions_made()->add_decisions();
  decision->set_number(1);
  *decision->mutable_subject() = ParseSubjectId("pair-0-1").value();
  decision->set_verdict(v1::Decision::VERDICT_IGNORE);
  decision->set_note("says \"no\", twice");
  ASSERT_TRUE(state.Apply(update).ok());
  EXPECT_EQ(ListFindingsOf(state, catalog_, {}).value().total(), before - 1);
  v1::ListFindingsRequest all;
  all.set_include_decided(true);
  EXPECT_EQ(ListFindingsOf(state, catalog_, all).value().total(), before);
  const std::string csv = FindingsCsv(state, catalog_).value();
  EXPECT_THAT(csv, StartsWith("id,kind,first,second,sample,probability,"));
  EXPECT_THAT(csv, HasSubstr("pair-0-1,duplicate,id00000000,id00000001,"));
  EXPECT_THAT(csv, HasSubstr(",ignore,\"says \"\"no\"\", twice\","));
}

TEST_F(CleaningPassTest, RefusesWhatIsNotOfThisCatalog) {
  clusters_.labels.back() = 0;
  WriteEmbeddings();
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kFailedPrecondition);
  clusters_.labels.pop_back();
  ASSERT_TRUE(WriteNpy(fs_, "/y.npy", {clusters_.rows.rows - 1}, absl::MakeConstSpan(clusters_.labels)).ok());
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument);
  request_.clear_labels_path();
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument);
  request_.set_labels_path("/none.npy");
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CleaningPassTest, FindingsOfAnotherCatalogAreNamedNotLookedUp) {
  for (const bool of_a_sample : {true, false}) {
    v1::FindingsReplaced findings;
    v1::Finding& finding = *findings.add_findings();
    finding.set_probability(0.9);
    v1::CleaningSubject& subject = *finding.mutable_subject();
    if (of_a_sample) {
      subject.set_kind(v1::CleaningSubject::KIND_MISLABELLED_SAMPLE);
      subject.set_sample(3);
      finding.set_nearest_identity(1 << 30);
    } else {
      subject.set_kind(v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES);
      subject.set_first_identity(3);
      subject.set_second_identity(1 << 30);
    }
    const CleaningState state = StateOf(findings);
    EXPECT_THAT(ListFindingsOf(state, catalog_, {}).status().message(), HasSubstr("the catalog has"));
    EXPECT_THAT(FindingsCsv(state, catalog_).status().message(), HasSubstr("1073741824"));
  }
}

TEST_F(CleaningPassTest, RefusesBadLimits) {
  request_.set_min_precision(2);
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument);
  request_.set_min_precision(0.5);
  request_.set_min_probability(-1);
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CleaningPassTest, CanBeCancelled) {
  const auto never = [](int64_t, int64_t) { return false; };
  EXPECT_EQ(FindFromEmbeddings(fs_, catalog_, request_, never).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(CleaningPassTest, RepresentationsAloneGiveDuplicatesOnly) {
  const FakeGeneration generation(1, 20, std::vector<uint32_t>(100, 0), 1, 16);
  v1::FindRequest request;
  request.set_min_probability(1e-9);
  const v1::FindingsReplaced findings = FindFromGeneration(generation, request, Always).value();
  ASSERT_EQ(findings.summaries_size(), 1);
  for (const v1::Finding& finding : findings.findings()) {
    EXPECT_GE(finding.subject().first_identity(), 20u);
    EXPECT_LT(finding.subject().second_identity(), 120u);
  }
}

}  // namespace
}  // namespace doppel
