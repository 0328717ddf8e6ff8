#include "trainer/loss/loss_factory.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "trainer/loss/adaptive_weights.h"
#include "trainer/loss/contrastive.h"
#include "trainer/loss/improved_triplet.h"
#include "trainer/loss/joint.h"
#include "trainer/loss/lifted.h"
#include "trainer/loss/lmnn.h"
#include "trainer/loss/memory_bank.h"
#include "trainer/loss/quadruplet.h"
#include "trainer/loss/triplet_factory.h"

namespace doppel {

absl::Status Loss::LoadState(const NamedTensors& state) {
  if (state.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "the saved state is that of a loss with a head of its own, which this loss does not have");
}

namespace {

using LossOr = absl::StatusOr<std::unique_ptr<Loss>>;

bool Contains(const std::vector<std::string>& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What every metric loss reads.
struct Common {
  Distance distance = Distance::kEuclidean;
  Margin margin;
  MarginSchedule schedule;
  Reduction reduction = Reduction::kDefinition;
};

absl::StatusOr<Common> ParseCommon(const LossOptions& options) {
  Common common;
  ASSIGN_OR_RETURN(common.distance, ParseDistance(options.distance));
  ASSIGN_OR_RETURN(common.margin, ParseMargin(options.margin, options.soft_scale));
  ASSIGN_OR_RETURN(common.reduction, ParseReduction(options.reduction));
  common.schedule.start = options.margin_start;
  common.schedule.steps = options.margin_steps;
  RETURN_IF_ERROR(CheckMarginSchedule(common.margin, common.schedule));
  return common;
}

LossOr MakeContrastive(const LossOptions& options, const Common& common) {
  ContrastiveOptions contrastive;
  contrastive.distance = common.distance;
  contrastive.margin = common.margin;
  contrastive.power = options.power;
  contrastive.reduction = common.reduction;
  if (options.power != 1 && options.power != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("contrastive: power is ", options.power, ": it must be 1 or 2"));
  }
  RETURN_IF_ERROR(CheckReduction("contrastive", common.reduction,
                                 {Reduction::kMean, Reduction::kBalanced, Reduction::kNonzero}));
  return std::make_unique<ContrastiveLossModule>(contrastive, std::nullopt, common.schedule);
}

LossOr MakeLmnn(const LossOptions& options, const Common& common) {
  LmnnOptions lmnn;
  lmnn.distance = common.distance;
  lmnn.margin = common.margin;
  lmnn.target_neighbours = options.target_neighbours;
  lmnn.push = options.mu;
  lmnn.reduction = common.reduction;
  RETURN_IF_ERROR(CheckLmnnOptions(lmnn));
  return std::make_unique<LmnnLossModule>(lmnn, std::nullopt, common.schedule);
}

// The value to tell a collapse by, unless it moves.
std::optional<double> Collapsed(const Common& common) {
  if (common.schedule.steps > 0) return std::nullopt;
  return CollapsedLoss(common.margin);
}

LossOr MakeImprovedTriplet(const LossOptions& options, const Common& common) {
  ImprovedTripletOptions improved;
  improved.distance = common.distance;
  improved.margin = common.margin;
  improved.pull = options.pull;
  improved.triplets = options.triplets;
  improved.hardest = options.selection == "hardest";
  if (!improved.hardest && options.selection != "all") {
    return absl::InvalidArgumentError(
        absl::StrCat("improved_triplet: selection \"", options.selection, "\" is neither all nor hardest"));
  }
  return std::make_unique<ImprovedTripletLossModule>(improved, Collapsed(common), common.schedule);
}

LossOr MakeQuadruplet(const LossOptions& options, const Common& common) {
  QuadrupletOptions quadruplet;
  quadruplet.distance = common.distance;
  quadruplet.margin = common.margin;
  quadruplet.beta = options.beta;
  ASSIGN_OR_RETURN(const Margin beta, QuadrupletBeta(quadruplet));
  std::optional<double> collapsed = Collapsed(common);
  if (collapsed.has_value()) *collapsed += CollapsedLoss(beta);
  if (common.schedule.steps > 0) {
    QuadrupletOptions at_start = quadruplet;
    at_start.margin.margin = common.schedule.start;
    RETURN_IF_ERROR(QuadrupletBeta(at_start).status());
  }
  return std::make_unique<QuadrupletLossModule>(quadruplet, collapsed, common.schedule);
}

LossOr MakeAdaptiveWeights(const LossOptions& options, const Common& common) {
  AdaptiveWeightsOptions adaptive;
  adaptive.distance = common.distance;
  adaptive.margin = common.margin;
  adaptive.as_fast_reid = options.softmax_weights == "fast_reid";
  if (!adaptive.as_fast_reid && options.softmax_weights != "exact") {
    return absl::InvalidArgumentError(absl::StrCat("adaptive_weights: softmax_weights \"",
                                                   options.softmax_weights,
                                                   "\" is neither exact nor fast_reid"));
  }
  return std::make_unique<AdaptiveWeightsLossModule>(adaptive, Collapsed(common), common.schedule);
}

LossOr MakeMetricLoss(const LossOptions& options) {
  if (Contains(TripletFamilyNames(), options.name)) return MakeTripletFamilyLoss(options);
  ASSIGN_OR_RETURN(const Common common, ParseCommon(options));
  if (!options.triplets.empty() && options.name != "improved_triplet") {
    return absl::InvalidArgumentError(absl::StrCat(
        options.name,
        " is not taken over given triplets: leave them out, or use triplet or improved_triplet"));
  }
  if (options.name == "contrastive") return MakeContrastive(options, common);
  if (options.name == "lmnn") return MakeLmnn(options, common);
  if (options.name == "improved_triplet") return MakeImprovedTriplet(options, common);
  if (options.name == "quadruplet") return MakeQuadruplet(options, common);
  if (options.name == "adaptive_weights") return MakeAdaptiveWeights(options, common);
  LiftedOptions lifted;
  lifted.distance = common.distance;
  lifted.margin = common.margin;
  lifted.reduction = common.reduction;
  if (options.name == "lifted") {
    RETURN_IF_ERROR(CheckReduction("lifted", common.reduction, {Reduction::kMean}));
    return std::make_unique<LiftedLossModule>(lifted, std::nullopt, common.schedule);
  }
  RETURN_IF_ERROR(CheckReduction("lifted_pxk", common.reduction, {Reduction::kSum, Reduction::kMean}));
  return std::make_unique<LiftedPxkLossModule>(lifted, std::nullopt, common.schedule);
}

absl::StatusOr<std::unique_ptr<IdSoftmaxModule>> MakeIdSoftmax(const LossOptions& options,
                                                               Distance distance) {
  IdSoftmaxOptions softmax;
  softmax.classes = options.classes;
  softmax.dimension = options.dimension;
  softmax.scale = options.softmax_scale;
  softmax.label_smoothing = options.label_smoothing;
  softmax.seed = options.seed;
  softmax.distance = distance;
  return IdSoftmaxModule::Create(softmax);
}

absl::StatusOr<std::unique_ptr<AttributeLossModule>> MakeAttribute(const LossOptions& options,
                                                                   Distance distance, FileSystem& fs) {
  if (options.attributes.empty()) {
    return absl::InvalidArgumentError(
        "attribute heads need classes of identities: set attributes to a CSV file with the header "
        "identity,NAME,...");
  }
  ASSIGN_OR_RETURN(const std::string csv, fs.ReadFile(options.attributes));
  ASSIGN_OR_RETURN(AttributeTable table, ParseAttributeTable(csv, options.attributes));
  AttributeOptions attribute;
  attribute.dimension = options.dimension;
  attribute.scale = options.softmax_scale;
  attribute.label_smoothing = options.label_smoothing;
  attribute.seed = options.seed;
  attribute.distance = distance;
  return AttributeLossModule::Create(std::move(table), attribute);
}

absl::StatusOr<std::unique_ptr<VerificationLossModule>> MakeVerification(const LossOptions& options,
                                                                         Distance distance) {
  VerificationOptions verification;
  verification.dimension = options.dimension;
  verification.seed = options.seed;
  verification.distance = distance;
  ASSIGN_OR_RETURN(verification.reduction, ParseReduction(options.reduction));
  return VerificationLossModule::Create(verification);
}

LossOr MakeJoint(const LossOptions& options, Distance distance, FileSystem& fs) {
  if (!Contains(MetricLossNames(), options.metric)) {
    return absl::InvalidArgumentError(absl::StrCat("joint: no metric loss is called \"", options.metric,
                                                   "\": there are ", absl::StrJoin(MetricLossNames(), ", ")));
  }
  LossOptions metric = options;
  metric.name = options.metric;
  JointParts parts;
  ASSIGN_OR_RETURN(parts.metric, MakeMetricLoss(metric));
  if (options.id_weight > 0) {
    ASSIGN_OR_RETURN(parts.id, MakeIdSoftmax(options, distance));
  }
  if (options.attribute_weight > 0) {
    ASSIGN_OR_RETURN(parts.attribute, MakeAttribute(options, distance, fs));
  }
  if (options.verification_weight > 0) {
    // `reduction` is the metric loss'.
    LossOptions verification = options;
    verification.reduction.clear();
    ASSIGN_OR_RETURN(parts.verification, MakeVerification(verification, distance));
  }
  if (options.bnneck) {
    BnNeckOptions bnneck;
    bnneck.dimension = options.dimension;
    ASSIGN_OR_RETURN(parts.bnneck, BnNeck::Create(bnneck));
  }
  JointWeights weights;
  weights.metric = options.metric_weight;
  weights.id = options.id_weight;
  weights.attribute = options.attribute_weight;
  weights.verification = options.verification_weight;
  return JointLoss::Create(std::move(parts), weights);
}

LossOr MakeOne(const LossOptions& options, FileSystem& fs) {
  if (Contains(MetricLossNames(), options.name)) return MakeMetricLoss(options);
  ASSIGN_OR_RETURN(const Distance distance, ParseDistance(options.distance));
  if (options.name == "id_softmax") return MakeIdSoftmax(options, distance);
  if (options.name == "attribute") return MakeAttribute(options, distance, fs);
  if (options.name == "verification") return MakeVerification(options, distance);
  if (options.name == "joint") return MakeJoint(options, distance, fs);
  return absl::InvalidArgumentError(
      absl::StrCat("no loss is called \"", options.name, "\": there are ", absl::StrJoin(LossNames(), ", ")));
}

}  // namespace

std::vector<std::string> MetricLossNames() {
  std::vector<std::string> names = TripletFamilyNames();
  names.insert(names.end(), {"contrastive", "lmnn", "improved_triplet", "quadruplet", "lifted", "lifted_pxk",
                             "adaptive_weights"});
  return names;
}

std::vector<std::string> LossNames() {
  std::vector<std::string> names = MetricLossNames();
  names.insert(names.end(), {"id_softmax", "attribute", "verification", "joint"});
  return names;
}

absl::StatusOr<std::unique_ptr<Loss>> MakeLoss(const LossOptions& options, FileSystem& fs) {
  ASSIGN_OR_RETURN(std::unique_ptr<Loss> loss, MakeOne(options, fs));
  if (options.memory == 0) return loss;
  const std::string& user = options.name == "joint" ? options.metric : options.name;
  if (!Contains(MetricLossNames(), user) || user == "quadruplet") {
    return absl::InvalidArgumentError(
        absl::StrCat(user, " cannot use a cross-batch memory: set memory to 0 or choose another loss"));
  }
  MemoryOptions memory;
  memory.rows = options.memory;
  memory.start_step = options.memory_start;
  return MemoryLoss::Create(std::move(loss), memory);
}

}  // namespace doppel
