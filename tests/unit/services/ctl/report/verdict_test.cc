#include "services/ctl/report/verdict.h"

#include "gmock/gmock.h"

namespace doppel::report {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

RunData MakeRun(std::string name, std::vector<std::pair<double, double>> step_and_rank1, double active,
                uint64_t queries = 10000) {
  RunData run;
  run.name = std::move(name);
  for (const auto& [step, rank1] : step_and_rank1) {
    EvalLine eval;
    eval.step = step;
    eval.rank1 = rank1;
    eval.queries = queries;
    eval.tar[1e-6] = rank1 / 2;
    run.evals.push_back(eval);
  }
  StepLine line;
  line.active = active;
  run.steps.push_back(line);
  return run;
}

TEST(Verdict, SaysBetter) {
  const auto text =
      Verdict({MakeRun("random", {{100, 0.80}}, 0.02), MakeRun("subspace", {{100, 0.85}}, 0.2)});
  EXPECT_THAT(text, Contains(AllOf(HasSubstr("\"subspace\""), HasSubstr("85.0 %"),
                                   HasSubstr("better by 5.00 points"))));
  EXPECT_THAT(text, Contains(HasSubstr("false accept rate of 1e-06")));
  EXPECT_THAT(text, Contains(HasSubstr("10.0 times as many")));
}

TEST(Verdict, SaysWorse) {
  const auto text = Verdict({MakeRun("random", {{100, 0.85}}, 0.2), MakeRun("subspace", {{100, 0.80}}, 0.1)});
  EXPECT_THAT(text, Contains(HasSubstr("worse by 5.00 points")));
  EXPECT_THAT(text, Contains(HasSubstr("only 0.50 times")));
}

TEST(Verdict, DifferencesWithinChanceAreNone) {
  EXPECT_THAT(Verdict({MakeRun("a", {{100, 0.80}}, 0.2, 100), MakeRun("b", {{100, 0.82}}, 0.2, 100)}),
              Contains(HasSubstr("no difference to speak of (+2.00")));
}

TEST(Verdict, ComparesAtTheLastCommonStep) {
  EXPECT_THAT(Verdict({MakeRun("a", {{100, 0.5}, {200, 0.6}}, 0.2),
                       MakeRun("b", {{100, 0.5}, {200, 0.9}, {300, 0.1}}, 0.2)}),
              Contains(AllOf(HasSubstr("At step 200"), HasSubstr("better by 30.00"))));
}

TEST(Verdict, UnequalStepsAreCalledUnfair) {
  EXPECT_THAT(Verdict({MakeRun("a", {{100, 0.5}}, 0.2), MakeRun("b", {{300, 0.9}}, 0.2)}),
              Contains(HasSubstr("no fair comparison")));
}

TEST(Verdict, WithoutEvaluationNothingIsClaimed) {
  EXPECT_THAT(Verdict({MakeRun("a", {}, 0.2), MakeRun("b", {{300, 0.9}}, 0.2)}),
              Contains(HasSubstr("cannot be compared")));
}

TEST(Verdict, ProgressOfEachRun) {
  EXPECT_THAT(Verdict({MakeRun("a", {{0, 0.5}, {100, 0.4}}, 0.2)}),
              Contains(HasSubstr("\"a\" fell from 50.0 %")));
}

TEST(Verdict, NoRunsNoWords) { EXPECT_THAT(Verdict({}), IsEmpty()); }

}  // namespace
}  // namespace doppel::report
