#include "trainer/loss/margin.h"

#include <torch/torch.h>

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

torch::Tensor ApplyMargin(const torch::Tensor& z, const Margin& margin) {
  if (!margin.soft) return torch::relu(z + margin.margin);
  return torch::softplus(z * margin.scale, /*beta=*/1, /*threshold=*/40);
}

torch::Tensor IsActive(const torch::Tensor& z, const Margin& margin) {
  return margin.soft ? z > 0 : z + margin.margin > 0;
}

double CollapsedLoss(const Margin& margin) { return margin.soft ? std::log(2.0) : margin.margin; }

}  // namespace doppel
