#include "services/trainer_worker/train_options.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"

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

absl::Status CheckLossSettings(TrainOptions* options) {
  if (options->loss.name == "id_softmax") {
    if (options->loss.classes == 0) options->loss.classes = static_cast<int64_t>(options->identity_limit);
    if (options->loss.classes == 0) {
      return absl::InvalidArgumentError(
          "id_softmax must know how many identities there are: give --identity-limit (to pre-train on part "
          "of the data) "
          "or --classes");
    }
    return absl::OkStatus();
  }
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
  RETURN_IF_ERROR(OneOf("--plan", options->plan, {"random", "subspace"}));
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
  if (!(options->clip_norm >= 0)) return absl::InvalidArgumentError("--clip-norm must not be negative");
  if (options->eval_every > 0 && options->eval_catalog.empty()) {
    return absl::InvalidArgumentError(
        "--eval-every needs --eval-catalog: the folder of the catalog to evaluate on");
  }
  RETURN_IF_ERROR(CheckSchedule(options->schedule));
  if (options->loss.soft_scale == 0) options->loss.soft_scale = spec.normalize ? 5 : 1;
  options->loss.dimension = spec.dimension;
  options->loss.seed = options->seed;
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
                                          {"device", o.device},
                                          {"threads", o.threads},
                                          {"prefetch", o.prefetch},
                                          {"decode_threads", o.decode_threads},
                                          {"checkpoint_every", o.checkpoint_every},
                                          {"keep", o.keep},
                                          {"log_every", o.log_every},
                                          {"resume", o.resume},
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
  stream.set_client_name(absl::StrCat("doppel-trainer ", options.output));
  return stream;
}

}  // namespace doppel
