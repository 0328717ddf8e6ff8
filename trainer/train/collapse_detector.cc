#include "trainer/train/collapse_detector.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace doppel {

bool CollapseDetector::LooksCollapsed(const LossStatistics& s) const {
  if (!options_.collapsed_loss.has_value() || s.triplets == 0) return false;
  double near_zero = options_.distance_share * std::max(1.0, s.norm.p100);
  if (options_.squared_distance) near_zero *= near_zero;
  const double collapsed = *options_.collapsed_loss;
  return s.d_ap.p100 <= near_zero && s.d_an.p100 <= near_zero &&
         std::abs(s.loss - collapsed) <= options_.loss_share * collapsed;
}

std::optional<std::string> CollapseDetector::Observe(const LossStatistics& s) {
  if (!LooksCollapsed(s)) {
    run_ = 0;
    return std::nullopt;
  }
  ++run_;
  if (run_ < options_.patience || (run_ - options_.patience) % std::max<uint64_t>(options_.repeat, 1) != 0) {
    return std::nullopt;
  }
  return absl::StrFormat(
      "the embedding seems to have collapsed: for %d steps the loss has stayed at %.3f and all distances "
      "near 0 (largest "
      "%.2g). Restart from an earlier checkpoint or fresh weights with a lower learning rate or a longer "
      "warm-up, with a "
      "milder plan (random batches first), or with negatives that are not the very hardest (skip some, or "
      "batch_ohnm "
      "instead of batch_hard)",
      run_, s.loss, s.d_an.p100);
}

}  // namespace doppel
