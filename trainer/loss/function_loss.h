#pragma once

#include <initializer_list>
#include <optional>

#include "absl/status/statusor.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/margin.h"

namespace doppel {

// A loss without parameters of its own as a Loss: its options, its pure function, and how its margin grows.
template <typename Options, absl::StatusOr<LossResult> (*Function)(const LossInput&, const Options&)>
class FunctionLoss : public Loss {
 public:
  explicit FunctionLoss(const Options& options, std::optional<double> collapsed = std::nullopt,
                        const MarginSchedule& schedule = {})
      : options_(options), collapsed_(collapsed), schedule_(schedule) {}
  absl::StatusOr<LossResult> Compute(const LossInput& input) override {
    if (schedule_.steps == 0) return Function(input, options_);
    Options now = options_;
    now.margin = MarginAt(options_.margin, schedule_, input.step);
    return Function(input, now);
  }
  std::optional<double> CollapsedValue() const override { return collapsed_; }

 private:
  const Options options_;
  const std::optional<double> collapsed_;
  const MarginSchedule schedule_;
};

// How the terms of a batch become one number. Each loss says which of them it knows; kDefinition is its own.
enum class Reduction { kDefinition, kMean, kSum, kBalanced, kNonzero };

// "definition" (or ""), "mean", "sum", "balanced", "nonzero".
absl::StatusOr<Reduction> ParseReduction(absl::string_view name);
absl::string_view ReductionName(Reduction reduction);
// INVALID_ARGUMENT that names `loss`, unless it is kDefinition or one of `known`.
absl::Status CheckReduction(absl::string_view loss, Reduction reduction,
                            std::initializer_list<Reduction> known);

}  // namespace doppel
