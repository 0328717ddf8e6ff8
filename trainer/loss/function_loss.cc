#include "trainer/loss/function_loss.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace doppel {

absl::StatusOr<Reduction> ParseReduction(absl::string_view name) {
  if (name.empty()) return Reduction::kDefinition;
  for (const Reduction reduction : {Reduction::kDefinition, Reduction::kMean, Reduction::kSum,
                                    Reduction::kBalanced, Reduction::kNonzero}) {
    if (name == ReductionName(reduction)) return reduction;
  }
  return absl::InvalidArgumentError(absl::StrCat("no reduction is called \"", name,
                                                 "\": choose definition, mean, sum, balanced or nonzero"));
}

absl::string_view ReductionName(Reduction reduction) {
  switch (reduction) {
    case Reduction::kDefinition:
      return "definition";
    case Reduction::kMean:
      return "mean";
    case Reduction::kSum:
      return "sum";
    case Reduction::kBalanced:
      return "balanced";
    case Reduction::kNonzero:
      return "nonzero";
  }
  return "unknown";
}

absl::Status CheckReduction(absl::string_view loss, Reduction reduction,
                            std::initializer_list<Reduction> known) {
  if (reduction == Reduction::kDefinition) return absl::OkStatus();
  std::string names = "definition";
  for (const Reduction one : known) {
    if (one == reduction) return absl::OkStatus();
    absl::StrAppend(&names, ", ", ReductionName(one));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(loss, ": reduction ", ReductionName(reduction), " is not one of its own: ", names));
}

}  // namespace doppel
