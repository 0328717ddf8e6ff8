#include "trainer/loss/margin.h"

#include <ATen/ATen.h>

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace doppel {

absl::StatusOr<Margin> ParseMargin(absl::string_view text, double soft_scale) {
  Margin margin;
  margin.scale = soft_scale;
  if (text == "soft") {
    margin.soft = true;
  } else if (!absl::SimpleAtod(text, &margin.margin)) {
    return absl::InvalidArgumentError(
        absl::StrCat("margin \"", text, "\" is neither \"soft\" nor a number such as 0.3"));
  }
  if (absl::Status status = CheckMargin(margin); !status.ok()) return status;
  return margin;
}

absl::Status CheckMargin(const Margin& margin) {
  if (margin.soft && !(margin.scale > 0 && std::isfinite(margin.scale))) {
    return absl::InvalidArgumentError(
        absl::StrCat("soft margin's scale is ", margin.scale, ": it must be above 0"));
  }
  if (!margin.soft && !(margin.margin >= 0 && std::isfinite(margin.margin))) {
    return absl::InvalidArgumentError(absl::StrCat("margin is ", margin.margin, ": it must not be negative"));
  }
  return absl::OkStatus();
}

Margin MarginAt(const Margin& margin, const MarginSchedule& schedule, uint64_t step) {
  if (margin.soft || step >= schedule.steps) return margin;
  Margin now = margin;
  const double share = static_cast<double>(step) / static_cast<double>(schedule.steps);
  now.margin = schedule.start + (margin.margin - schedule.start) * share;
  return now;
}

absl::Status CheckMarginSchedule(const Margin& margin, const MarginSchedule& schedule) {
  if (schedule.steps == 0) return absl::OkStatus();
  if (margin.soft) {
    return absl::InvalidArgumentError(
        "a margin schedule goes with a hinge margin only: give a number as margin, or no margin_steps");
  }
  if (!(schedule.start >= 0 && std::isfinite(schedule.start))) {
    return absl::InvalidArgumentError(
        absl::StrCat("margin_start is ", schedule.start, ": it must not be negative"));
  }
  return absl::OkStatus();
}

torch::Tensor ApplyMargin(const torch::Tensor& z, const Margin& margin) {
  if (!margin.soft) return at::relu(z + margin.margin);
  return at::softplus(z * margin.scale, /*beta=*/1, /*threshold=*/40);
}

torch::Tensor IsActive(const torch::Tensor& z, const Margin& margin) {
  return margin.soft ? z > 0 : z + margin.margin > 0;
}

double CollapsedLoss(const Margin& margin) { return margin.soft ? std::log(2.0) : margin.margin; }

}  // namespace doppel
