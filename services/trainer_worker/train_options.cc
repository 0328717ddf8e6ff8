#include "services/trainer_worker/train_options.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "services/trainer_worker/plan_options.h"

namespace doppel {
namespace {

absl::Status OneOf(const char* flag, const std::string& value, const std::vector<std::string>& choices) {
  for (const std::string& choice : choices) {
    if (choice == value) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " is \"", value, "\": choose one of ", absl::StrJoin(choices, ", ")));
}

absl::Status AtLeast(const char* flag, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, ": it must be at least ", least));
}

// "1/4" → shard 1 of 4.
absl::Status ParseShard(const std::string& text, v1::WorkSharing* sharing) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  uint32_t shard = 0, shards = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &shard) || !absl::SimpleAtoi(parts[1], &shards) ||
      shard >= shards) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--shard is \"", text, "\": write it as I/N, the I-th of N trainers counted from 0, such as 0/2"));
  }
  sharing->set_shard(shard);
  sharing->set_shards(shards);
  return absl::OkStatus();
}

absl::Status FillSharing(const TrainOptions& o, v1::StreamSpec* stream) {
  RETURN_IF_ERROR(OneOf("--sharing", o.sharing, {"independent", "static", "dynamic"}));
  if (o.sharing != "static" && !o.shard.empty()) {
    return absl::InvalidArgumentError("--shard goes with --sharing static only");
  }
  if (o.sharing != "dynamic" && (!o.group.empty() || o.end_cursor != 0)) {
    return absl::InvalidArgumentError("--group and --end-cursor go with --sharing dynamic only");
  }
  if (o.sharing == "static") {
    stream->mutable_sharing()->set_mode(v1::WorkSharing::MODE_STATIC);
    return ParseShard(o.shard, stream->mutable_sharing());
  }
  if (o.sharing == "dynamic") {
    if (o.group.empty()) {
      return absl::InvalidArgumentError("--sharing dynamic needs --group: the name that the trainers share");
    }
    if (!(o.lease_seconds > 0 && o.lease_seconds <= 3600)) {
      return absl::InvalidArgumentError("--lease-seconds must lie between 0 and 3 600");
    }
    v1::WorkSharing& sharing = *stream->mutable_sharing();
    sharing.set_mode(v1::WorkSharing::MODE_DYNAMIC);
    sharing.set_group(o.group);
    sharing.set_lease_seconds(o.lease_seconds);
    sharing.set_end_cursor(o.end_cursor);
  }
  return absl::OkStatus();
}

// Whose reports steer is known when the run has its name.
absl::Status FillSteering(const TrainOptions& o, v1::PlanSpec* plan) {
  if (!o.hardness_band.empty()) {
    const std::pair<absl::string_view, absl::string_view> band =
        absl::StrSplit(o.hardness_band, absl::MaxSplits(':', 1));
    double low = 0, high = 0;
    if (!absl::SimpleAtod(band.first, &low) || !absl::SimpleAtod(band.second, &high) ||
        !(low > 0 && low < high && high <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--hardness-band is \"", o.hardness_band,
                       "\": write it as LOW:HIGH, two shares such as 0.05:0.15"));
    }
    RETURN_IF_ERROR(OneOf("--plan with --hardness-band", o.plan, {"auto", "look_alikes", "mixture"}));
    plan->mutable_steering()->set_active_low(low);
    plan->mutable_steering()->set_active_high(high);
  }
  if (!plan->has_steering()) return absl::OkStatus();
  if (o.report_every == 0) {
    return absl::InvalidArgumentError("--report-every is 0: a plan that follows reports needs them");
  }
  if (o.accumulate != 1) {
    return absl::InvalidArgumentError(
        "--accumulate goes with plans that do not follow reports only: the active share of each batch is not "
        "known");
  }
  plan->mutable_steering()->set_run(o.run);
  return absl::OkStatus();
}

absl::Status CheckTraining(const TrainOptions& o) {
  v1::PlanSpec unused_spec;
  RETURN_IF_ERROR(ApplyPlanOptions(o.plan_options, &unused_spec));
  RETURN_IF_ERROR(FillSteering(o, &unused_spec));
  v1::StreamSpec unused;
  RETURN_IF_ERROR(FillSharing(o, &unused));
  RETURN_IF_ERROR(AtLeast("--accumulate", o.accumulate, 1));
  RETURN_IF_ERROR(AtLeast("--max-skipped", o.max_skipped, 0));
  RETURN_IF_ERROR(OneOf("--precision", o.precision, {"float32", "bfloat16", "float16", "auto"}));
  if (!(o.clip_norm >= 0)) return absl::InvalidArgumentError("--clip-norm must not be negative");
  if (!(o.ema >= 0 && o.ema < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ema is ", o.ema, ": a decay below 1, such as 0.999, or 0 for no average"));
  }
  if (!o.head.empty() && o.freeze_steps == 0) {
    return absl::InvalidArgumentError("--head goes with --freeze-steps only");
  }
  for (const std::string& option : o.loss_options) {
    const size_t equals = option.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--loss-option is \"", option, "\": write it as key=value"));
    }
  }
  if (!o.early_stop.metric.empty() && o.eval_every == 0) {
    return absl::InvalidArgumentError(
        "--early-stop watches the evaluations of the run: give --eval-every and --eval-catalog as well");
  }
  if (o.early_stop.metric.empty() && o.early_stop.patience > 0) {
    return absl::InvalidArgumentError("--patience goes with --early-stop METRIC only");
  }
  if (o.eval_every > 0 && o.eval_catalog.empty()) {
    return absl::InvalidArgumentError(
        "--eval-every needs --eval-catalog: the folder of the catalog to evaluate on");
  }
  if (o.tensorboard) {
    RETURN_IF_ERROR(AtLeast("--tensorboard-every", static_cast<int64_t>(o.tensorboard_every), 1));
  }
  return absl::OkStatus();
}

// What came after the first format of run.json is written only where it is used, so that older runs go on.
void AddLaterSettings(const TrainOptions& o, nlohmann::ordered_json* training) {
  if (!o.loss_options.empty()) {
    nlohmann::json settings = nlohmann::json::object();
    for (const std::string& option : o.loss_options) {
      const size_t equals = option.find('=');
      settings[option.substr(0, equals)] = option.substr(equals + 1);
    }
    (*training)["loss_options"] = settings;
  }
  if (!o.plan_options.empty()) (*training)["plan_options"] = o.plan_options;
  if (!o.hardness_band.empty()) (*training)["hardness_band"] = o.hardness_band;
  if (o.accumulate != 1) (*training)["accumulate"] = o.accumulate;
  if (o.ema != 0) (*training)["ema"] = o.ema;
  if (o.freeze_steps != 0) (*training)["freeze_steps"] = o.freeze_steps;
  if (!o.head.empty()) (*training)["head"] = o.head;
  if (!o.freeze.empty()) (*training)["freeze"] = o.freeze;
  if (o.precision != "float32") (*training)["precision"] = o.precision;
  if (!o.early_stop.metric.empty()) (*training)["early_stop"] = o.early_stop.metric;
}

absl::Status CheckLossSettings(TrainOptions* options) {
  LossOptions& loss = options->loss;
  const bool joint_ids = loss.name == "joint" && loss.id_weight > 0;
  if (loss.name == "id_softmax" || joint_ids) {
    if (loss.classes == 0) loss.classes = static_cast<int64_t>(options->identity_limit);
    if (loss.classes == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          loss.name,
          " must know how many identities there are: give --identity-limit (to pre-train on part of "
          "the data) or --classes"));
    }
  }
  // Heads alone need no pairs.
  if (loss.name == "id_softmax" || loss.name == "attribute") return absl::OkStatus();
  if (options->samples_per_identity < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("-K is ", options->samples_per_identity, ": ", options->loss.name,
                     " needs at least 2 samples per identity, or there are no positives"));
  }
  if (options->identities_per_batch < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("-P is ", options->identities_per_batch, ": ", options->loss.name,
                     " needs at least 2 identities, or there are no negatives"));
  }
  return absl::OkStatus();
}

}  // namespace

TrainOptions DefaultTrainOptions() {
  TrainOptions options;
  options.architecture.architecture = "glyph_cnn";
  options.loss.soft_scale = 0;
  options.schedule.name = "cosine";
  options.schedule.rate = 1e-3;
  options.schedule.warmup = 100;
  options.schedule.steps = 3000;
  return options;
}

absl::Status ResolveTrainOptions(const ModelSpec& spec, TrainOptions* options) {
  if (options->output.empty())
    return absl::InvalidArgumentError("--output is missing: name a folder for the run");
  RETURN_IF_ERROR(OneOf("--plan", options->plan,
                        {"auto", "random", "subspace", "subspace_overlap", "nearest_identities",
                         "doppelganger", "offline_triplets", "category", "look_alikes", "mixture"}));
  RETURN_IF_ERROR(OneOf("--payload", options->payload, {"encoded", "decoded", "reference"}));
  RETURN_IF_ERROR(OneOf("--augment", options->augment, {"none", "mild"}));
  RETURN_IF_ERROR(OneOf("--resume", options->resume, {"auto", "never"}));
  RETURN_IF_ERROR(AtLeast("-P", options->identities_per_batch, 1));
  RETURN_IF_ERROR(AtLeast("-K", options->samples_per_identity, 1));
  RETURN_IF_ERROR(AtLeast("--steps", static_cast<int64_t>(options->schedule.steps), 1));
  RETURN_IF_ERROR(AtLeast("--threads", options->threads, 1));
  RETURN_IF_ERROR(AtLeast("--prefetch", options->prefetch, 1));
  RETURN_IF_ERROR(AtLeast("--decode-threads", options->decode_threads, 1));
  RETURN_IF_ERROR(AtLeast("--keep", options->keep, 1));
  RETURN_IF_ERROR(AtLeast("--eval-queries", options->eval_queries, 1));
  RETURN_IF_ERROR(CheckTraining(*options));
  RETURN_IF_ERROR(CheckSchedule(options->schedule));
  if (options->loss.soft_scale == 0) options->loss.soft_scale = spec.normalize ? 5 : 1;
  options->loss.dimension = spec.dimension;
  if (options->loss.seed == 0) options->loss.seed = options->seed;
  return CheckLossSettings(options);
}

std::string ToJson(const TrainOptions& o) {
  nlohmann::ordered_json training = {
      {"model", o.model},
      {"plan", o.plan},
      {"identities_per_batch", o.identities_per_batch},
      {"samples_per_identity", o.samples_per_identity},
      {"run_length", o.run_length},
      {"split", o.split},
      {"identity_limit", o.identity_limit},
      {"generation", o.generation},
      {"augment", o.augment},
      {"seed", o.seed},
      {"loss", o.loss.name},
      {"distance", o.loss.distance},
      {"margin", o.loss.margin},
      {"soft_scale", o.loss.soft_scale},
      {"mean_over_active", o.loss.mean_over_active},
      {"negatives", o.loss.negatives},
      {"skip", o.loss.skip},
      {"classes", o.loss.classes},
      {"softmax_scale", o.loss.softmax_scale},
      {"label_smoothing", o.loss.label_smoothing},
      {"optimizer", o.optimizer.name},
      {"weight_decay", o.optimizer.weight_decay},
      {"momentum", o.optimizer.momentum},
      {"lr", o.schedule.rate},
      {"schedule", o.schedule.name},
      {"warmup", o.schedule.warmup},
      {"decay_start", o.schedule.decay_start},
      {"final_factor", o.schedule.final_factor.has_value() ? nlohmann::ordered_json(*o.schedule.final_factor)
                                                           : nlohmann::ordered_json(nullptr)},
      {"step_every", o.schedule.step_every},
      {"step_factor", o.schedule.step_factor},
      {"clip_norm", o.clip_norm}};
  AddLaterSettings(o, &training);
  if (o.model.empty()) {
    training["architecture"] = o.architecture.architecture;
    training["height"] = o.architecture.height;
    training["width"] = o.architecture.width;
    training["channels"] = o.architecture.channels;
    training["dimension"] = o.architecture.dimension;
    training["normalize"] = o.architecture.normalize;
  }
  const nlohmann::ordered_json running = {{"server", o.server},
                                          {"output", o.output},
                                          {"steps", o.schedule.steps},
                                          {"payload", o.payload},
                                          {"sharing", o.sharing},
                                          {"shard", o.shard},
                                          {"group", o.group},
                                          {"lease_seconds", o.lease_seconds},
                                          {"end_cursor", o.end_cursor},
                                          {"verify", o.verify},
                                          {"device", o.device},
                                          {"threads", o.threads},
                                          {"prefetch", o.prefetch},
                                          {"decode_threads", o.decode_threads},
                                          {"checkpoint_every", o.checkpoint_every},
                                          {"keep", o.keep},
                                          {"log_every", o.log_every},
                                          {"resume", o.resume},
                                          {"max_skipped", o.max_skipped},
                                          {"patience", o.early_stop.patience},
                                          {"tensorboard", o.tensorboard},
                                          {"tensorboard_every", o.tensorboard_every},
                                          {"tensorboard_details_every", o.tensorboard_details_every},
                                          {"report_every", o.report_every},
                                          {"report_references", o.report_references},
                                          {"publish", o.publish},
                                          {"publish_every", o.publish_every},
                                          {"run", o.run},
                                          {"eval_every", o.eval_every},
                                          {"eval_catalog", o.eval_catalog},
                                          {"eval_split", o.eval_split},
                                          {"eval_queries", o.eval_queries},
                                          {"eval_augment", o.eval_augment}};
  return nlohmann::ordered_json{{"training", training}, {"running", running}}.dump();
}

std::string TrainingDifferences(const std::string& before, const std::string& now) {
  const auto old_json = nlohmann::json::parse(before, nullptr, /*allow_exceptions=*/false);
  const auto new_json = nlohmann::json::parse(now, nullptr, /*allow_exceptions=*/false);
  if (!old_json.is_object() || !old_json.contains("training") || !new_json.is_object())
    return "unreadable settings";
  const nlohmann::json& a = old_json["training"];
  const nlohmann::json b = new_json.value("training", nlohmann::json::object());
  std::vector<std::string> differences;
  for (const auto& [key, value] : b.items()) {
    if (!a.contains(key)) {
      differences.push_back(absl::StrCat(key, ": not set before, ", value.dump(), " now"));
    } else if (a[key] != value) {
      differences.push_back(absl::StrCat(key, ": ", a[key].dump(), " before, ", value.dump(), " now"));
    }
  }
  for (const auto& [key, value] : a.items()) {
    if (!b.contains(key))
      differences.push_back(absl::StrCat(key, ": ", value.dump(), " before, not set now"));
  }
  return absl::StrJoin(differences, "; ");
}

absl::StatusOr<v1::StreamSpec> MakeStreamSpec(const TrainOptions& options, const ModelSpec& spec,
                                              uint64_t cursor) {
  v1::StreamSpec stream;
  v1::PlanSpec& plan = *stream.mutable_plan();
  plan.set_name(options.plan);
  plan.set_identities_per_batch(options.identities_per_batch);
  plan.set_samples_per_identity(options.samples_per_identity);
  plan.set_run_length(options.run_length);
  plan.set_split(options.split);
  plan.set_identity_limit(options.identity_limit);
  RETURN_IF_ERROR(ApplyPlanOptions(options.plan_options, &plan));
  RETURN_IF_ERROR(FillSteering(options, &plan));
  stream.set_seed(options.seed);
  stream.set_cursor(cursor);
  if (options.payload == "encoded") {
    stream.set_payload(v1::PAYLOAD_KIND_ENCODED);
  } else if (options.payload == "decoded") {
    stream.set_payload(v1::PAYLOAD_KIND_DECODED);
  } else if (options.payload == "reference") {
    stream.set_payload(v1::PAYLOAD_KIND_REFERENCE);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("no payload is called \"", options.payload, "\""));
  }
  stream.mutable_image()->set_height(static_cast<uint32_t>(spec.height));
  stream.mutable_image()->set_width(static_cast<uint32_t>(spec.width));
  stream.mutable_image()->set_channels(static_cast<uint32_t>(spec.channels));
  stream.set_generation(options.generation);
  RETURN_IF_ERROR(FillSharing(options, &stream));
  stream.set_client_name(absl::StrCat("doppel-trainer ", options.output));
  return stream;
}

}  // namespace doppel
