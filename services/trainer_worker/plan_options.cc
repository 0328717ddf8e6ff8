#include "services/trainer_worker/plan_options.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

absl::Status BadPlanOption(absl::string_view option, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat("--plan-option is \"", option, "\": ", want));
}

bool ToNumber(absl::string_view text, double* number) {
  return absl::SimpleAtod(text, number) && std::isfinite(*number);
}

template <typename Add>
bool ToNumbers(absl::string_view text, const Add& add) {
  double number = 0;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    if (!ToNumber(part, &number)) return false;
    add(number);
  }
  return true;
}

// "NAME:WEIGHT" or "CURSOR:…".
std::pair<absl::string_view, absl::string_view> AtColon(absl::string_view value) {
  return absl::StrSplit(value, absl::MaxSplits(':', 1));
}

absl::Status ApplyList(absl::string_view option, absl::string_view key, absl::string_view value,
                       v1::PlanSpec* spec) {
  const auto [before, after] = AtColon(value);
  uint64_t cursor = 0;
  double number = 0;
  if (key == "part") {
    if (before.empty() || !ToNumber(after, &number)) {
      return BadPlanOption(option, "write it as part=NAME:WEIGHT, such as part=random:1");
    }
    v1::PlanPart& part = *spec->add_part();
    part.mutable_plan()->set_name(std::string(before));
    part.set_weight(number);
    return absl::OkStatus();
  }
  if (key == "stage") {
    v1::PlanStage stage;
    if (!absl::SimpleAtoi(before, &cursor) || !ToNumbers(after, [&](double w) { stage.add_weight(w); })) {
      return BadPlanOption(option, "write it as stage=CURSOR:WEIGHT,WEIGHT,…, a weight for each part");
    }
    stage.set_from_cursor(cursor);
    *spec->add_stage() = std::move(stage);
    return absl::OkStatus();
  }
  if (!absl::SimpleAtoi(before, &cursor) || !ToNumber(after, &number)) {
    return BadPlanOption(option, "write it as hardness=CURSOR:SHARE, such as hardness=1000:0.5");
  }
  v1::HardnessDecision& decision = *spec->add_hardness();
  decision.set_from_cursor(cursor);
  decision.set_hard_share(number);
  return absl::OkStatus();
}

absl::Status ApplyNumber(absl::string_view option, absl::string_view key, absl::string_view value,
                         v1::PlanSpec* spec) {
  if (key == "similarity_max" || key == "similarity_min") {
    double number = 0;
    if (!ToNumber(value, &number)) return BadPlanOption(option, "a cosine is wanted, such as 0.8");
    key == "similarity_max" ? spec->set_similarity_max(number) : spec->set_similarity_min(number);
    return absl::OkStatus();
  }
  uint32_t count = 0;
  const bool whole = absl::SimpleAtoi(value, &count);
  if (key == "groups") {
    spec->set_groups(count);
  } else if (key == "group_size") {
    spec->set_group_size(count);
  } else if (key == "pool") {
    spec->set_pool(count);
  } else if (key == "skip") {
    spec->set_skip(count);
  } else if (key == "overlap") {
    spec->set_overlap(count);
  } else {
    return BadPlanOption(
        option,
        "there are groups, group_size, pool, skip, similarity_max, similarity_min, overlap, "
        "category_separator, images, subspace_weight, schedule, steering_window, part, stage and hardness");
  }
  return whole ? absl::OkStatus() : BadPlanOption(option, "a whole number is wanted");
}

}  // namespace

absl::Status ApplyPlanOptions(const std::vector<std::string>& options, v1::PlanSpec* spec) {
  for (const std::string& option : options) {
    const size_t equals = option.find('=');
    if (equals == std::string::npos || equals == 0) return BadPlanOption(option, "write it as key=value");
    const absl::string_view key = absl::string_view(option).substr(0, equals);
    const absl::string_view value = absl::string_view(option).substr(equals + 1);
    if (key == "part" || key == "stage" || key == "hardness") {
      RETURN_IF_ERROR(ApplyList(option, key, value, spec));
    } else if (key == "category_separator") {
      spec->set_category_separator(std::string(value));
    } else if (key == "schedule") {
      if (value != "hardness") return BadPlanOption(option, "schedule=hardness is all there is");
      spec->mutable_steering()->set_by_hardness(true);
    } else if (key == "steering_window") {
      uint32_t window = 0;
      if (!absl::SimpleAtoi(value, &window)) return BadPlanOption(option, "a whole number is wanted");
      spec->mutable_steering()->set_window(window);
    } else if (key == "images") {
      if (value != "other_camera") return BadPlanOption(option, "images=other_camera is all there is");
      spec->set_images(v1::IMAGE_CHOICE_OTHER_CAMERA);
    } else if (key == "subspace_weight") {
      if (!ToNumbers(value, [&](double weight) { spec->add_subspace_weight(weight); })) {
        return BadPlanOption(option, "write it as subspace_weight=W,W,…, one for each subspace");
      }
    } else {
      RETURN_IF_ERROR(ApplyNumber(option, key, value, spec));
    }
  }
  return absl::OkStatus();
}

}  // namespace doppel
