#include "miner/cleaning/cleaning_state.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {

v1::CleaningSubject Subject(const std::string& id) { return ParseSubjectId(id).value(); }

v1::CleaningUpdate Findings() {
  v1::CleaningUpdate update;
  v1::FindingsReplaced* findings = update.mutable_findings_replaced();
  for (const auto& [id, probability] :
       {std::pair{"pair-1-2", 0.99}, {"pair-3-4", 0.7}, {"pair-5-6", 0.2}, {"sample-9", 0.95}}) {
    v1::Finding* finding = findings->add_findings();
    *finding->mutable_subject() = Subject(id);
    finding->set_probability(probability);
  }
  v1::FindSummary* pairs = findings->add_summaries();
  pairs->set_kind(v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES);
  pairs->set_threshold(0.6);
  v1::FindSummary* samples = findings->add_summaries();
  samples->set_kind(v1::CleaningSubject::KIND_MISLABELLED_SAMPLE);
  samples->set_threshold(0.9);
  return update;
}

v1::CleaningUpdate Decide(uint64_t number, const std::string& id, v1::Decision::Verdict verdict) {
  v1::CleaningUpdate update;
  v1::Decision* decision = update.mutable_decisions_made()->add_decisions();
  decision->set_number(number);
  *decision->mutable_subject() = Subject(id);
  decision->set_verdict(verdict);
  return update;
}

v1::CleaningUpdate Undo(uint64_t number) {
  v1::CleaningUpdate update;
  update.mutable_decision_undone()->set_number(number);
  return update;
}

TEST(SubjectIdTest, ReadsWhatItWrites) {
  for (const std::string id : {"pair-1-2", "pair-0-4294967295", "sample-0", "sample-18446744073709551615"}) {
    EXPECT_EQ(SubjectId(Subject(id)), id);
  }
  EXPECT_EQ(SubjectId(Subject("pair-7-3")), "pair-3-7");
  for (const char* bad :
       {"", "pair-1", "pair-1-1", "pair-a-2", "sample-", "sample-1-2", "x-1", "pair-1--2"}) {
    EXPECT_FALSE(ParseSubjectId(bad).ok()) << bad;
  }
}

TEST(CleaningStateTest, GuardsWhatIsAboveTheThreshold) {
  CleaningState state;
  ASSERT_TRUE(state.Apply(Findings()).ok());
  const GuardList list = state.MakeGuardList().value();
  EXPECT_EQ(list.pairs(), (std::vector<GuardList::Pair>{{1, 2}, {3, 4}}));
  EXPECT_EQ(list.samples(), (std::vector<uint64_t>{9}));
}

TEST(CleaningStateTest, DecisionsGoBeforeFindings) {
  CleaningState state;
  ASSERT_TRUE(state.Apply(Findings()).ok());
  ASSERT_TRUE(state.Apply(Decide(1, "pair-1-2", v1::Decision::VERDICT_KEEP)).ok());
  ASSERT_TRUE(state.Apply(Decide(2, "pair-3-4", v1::Decision::VERDICT_IGNORE)).ok());
  ASSERT_TRUE(state.Apply(Decide(3, "pair-5-6", v1::Decision::VERDICT_MERGE)).ok());
  ASSERT_TRUE(state.Apply(Decide(4, "pair-70-80", v1::Decision::VERDICT_MERGE)).ok());
  ASSERT_TRUE(state.Apply(Decide(5, "sample-9", v1::Decision::VERDICT_KEEP)).ok());
  ASSERT_TRUE(state.Apply(Decide(6, "sample-12", v1::Decision::VERDICT_DROP)).ok());
  const GuardList list = state.MakeGuardList().value();
  EXPECT_EQ(list.pairs(), (std::vector<GuardList::Pair>{{5, 6}, {70, 80}}));
  EXPECT_EQ(list.samples(), (std::vector<uint64_t>{12}));
}

TEST(CleaningStateTest, DecisionsOutlastNewFindings) {
  CleaningState state;
  ASSERT_TRUE(state.Apply(Findings()).ok());
  ASSERT_TRUE(state.Apply(Decide(1, "pair-1-2", v1::Decision::VERDICT_KEEP)).ok());
  ASSERT_TRUE(state.Apply(Findings()).ok());
  EXPECT_FALSE(state.MakeGuardList().value().Guarded(1, 2));
}

TEST(CleaningStateTest, UndoBringsBackTheDecisionBefore) {
  CleaningState state;
  ASSERT_TRUE(state.Apply(Decide(1, "pair-1-2", v1::Decision::VERDICT_MERGE)).ok());
  ASSERT_TRUE(state.Apply(Decide(2, "pair-1-2", v1::Decision::VERDICT_KEEP)).ok());
  EXPECT_FALSE(state.MakeGuardList().value().Guarded(1, 2));
  ASSERT_TRUE(state.Apply(Undo(2)).ok());
  EXPECT_TRUE(state.MakeGuardList().value().Guarded(1, 2));
  EXPECT_EQ(state.LastDecision()->number(), 1u);
  ASSERT_TRUE(state.Apply(Undo(1)).ok());
  EXPECT_TRUE(state.MakeGuardList().value().empty());
  EXPECT_EQ(state.LastDecision(), nullptr);
  EXPECT_EQ(state.next_number(), 3u);
}

TEST(CleaningStateTest, AnOlderDecisionCanBeUndoneToo) {
  CleaningState state;
  ASSERT_TRUE(state.Apply(Decide(1, "pair-1-2", v1::Decision::VERDICT_MERGE)).ok());
  ASSERT_TRUE(state.Apply(Decide(2, "pair-1-2", v1::Decision::VERDICT_KEEP)).ok());
  ASSERT_TRUE(state.Apply(Undo(1)).ok());
  EXPECT_EQ(state.DecisionOn("pair-1-2")->verdict(), v1::Decision::VERDICT_KEEP);
  EXPECT_FALSE(state.Apply(Undo(1)).ok());
}

TEST(CleaningStateTest, RefusesWhatDoesNotFitAndStaysAsItWas) {
  CleaningState state;
  EXPECT_FALSE(state.Apply({}).ok());
  EXPECT_FALSE(state.Apply(Decide(2, "pair-1-2", v1::Decision::VERDICT_MERGE)).ok());
  EXPECT_FALSE(state.Apply(Decide(1, "pair-1-2", v1::Decision::VERDICT_DROP)).ok());
  EXPECT_FALSE(state.Apply(Decide(1, "sample-1", v1::Decision::VERDICT_MERGE)).ok());
  EXPECT_FALSE(state.Apply(Decide(1, "sample-1", v1::Decision::VERDICT_UNSPECIFIED)).ok());
  EXPECT_FALSE(state.Apply(Undo(1)).ok());
  v1::CleaningUpdate half = Decide(1, "sample-1", v1::Decision::VERDICT_DROP);
  *half.mutable_decisions_made()->add_decisions() = half.decisions_made().decisions(0);
  EXPECT_FALSE(state.Apply(half).ok());
  EXPECT_EQ(state.next_number(), 1u);
  EXPECT_TRUE(state.Decisions().empty());
}

TEST(CleaningStateTest, WithoutAThresholdNothingIsGuarded) {
  v1::CleaningUpdate findings = Findings();
  findings.mutable_findings_replaced()->clear_summaries();
  CleaningState state;
  ASSERT_TRUE(state.Apply(findings).ok());
  EXPECT_TRUE(state.MakeGuardList().value().empty());
}

}  // namespace
}  // namespace doppel
