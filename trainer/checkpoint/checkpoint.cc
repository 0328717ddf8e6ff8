#include "trainer/checkpoint/checkpoint.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"
#include "trainer/checkpoint/tensor_file.h"

namespace doppel {

namespace {

std::string TrainedWeights(const std::string& checkpoint) { return absl::StrCat(checkpoint, "/weights"); }

absl::StatusOr<uint64_t> Number(const nlohmann::json& json, const char* key, const std::string& path) {
  if (!json.is_object() || !json.contains(key) || !json[key].is_number_unsigned()) {
    return absl::DataLossError(absl::StrCat(path, " lacks \"", key, "\""));
  }
  return json[key].get<uint64_t>();
}

nlohmann::ordered_json ToJson(const CheckpointPosition& position, const WeightAverage* average) {
  nlohmann::ordered_json json = {
      {"step", position.step}, {"next_cursor", position.next_cursor}, {"seed", position.seed}};
  if (position.early_stop.evaluations > 0) {
    json["early_stop"] = {{"evaluations", position.early_stop.evaluations},
                          {"best", position.early_stop.best},
                          {"best_step", position.early_stop.best_step},
                          {"since_best", position.early_stop.since_best}};
  }
  if (position.loss_scale.scale != 1) {
    json["loss_scale"] = {{"scale", position.loss_scale.scale},
                          {"good_steps", position.loss_scale.good_steps}};
  }
  if (average != nullptr) json["average_updates"] = average->updates();
  return json;
}

absl::Status FromJson(const nlohmann::json& json, const std::string& path, LoadedCheckpoint* loaded) {
  CheckpointPosition& position = loaded->position;
  ASSIGN_OR_RETURN(position.step, Number(json, "step", path));
  ASSIGN_OR_RETURN(position.next_cursor, Number(json, "next_cursor", path));
  ASSIGN_OR_RETURN(position.seed, Number(json, "seed", path));
  if (json.contains("early_stop")) {
    const nlohmann::json& early = json["early_stop"];
    ASSIGN_OR_RETURN(position.early_stop.evaluations, Number(early, "evaluations", path));
    ASSIGN_OR_RETURN(position.early_stop.best_step, Number(early, "best_step", path));
    ASSIGN_OR_RETURN(position.early_stop.since_best, Number(early, "since_best", path));
    // null: there has been no number yet.
    position.early_stop.best =
        early.contains("best") && early["best"].is_number() ? early["best"].get<double>() : std::nan("");
  }
  if (json.contains("loss_scale")) {
    const nlohmann::json& scale = json["loss_scale"];
    ASSIGN_OR_RETURN(position.loss_scale.good_steps, Number(scale, "good_steps", path));
    if (!scale.contains("scale") || !scale["scale"].is_number()) {
      return absl::DataLossError(absl::StrCat(path, " lacks \"scale\""));
    }
    position.loss_scale.scale = scale["scale"].get<double>();
  }
  return absl::OkStatus();
}

}  // namespace

std::string CheckpointModelDirectory(const std::string& checkpoint) {
  return absl::StrCat(checkpoint, "/model");
}

absl::Status WriteCheckpoint(FileSystem& fs, const std::string& directory, const CheckpointParts& parts,
                             const CheckpointPosition& position) {
  {
    const AveragedWeights averaged(parts.average);
    RETURN_IF_ERROR(SaveNetwork(parts.network, position.step, CheckpointModelDirectory(directory)).status());
  }
  if (parts.average != nullptr) {
    RETURN_IF_ERROR(SaveNetwork(parts.network, position.step, TrainedWeights(directory)).status());
  }
  RETURN_IF_ERROR(WriteTensors(fs, absl::StrCat(directory, "/optimizer.pt"), parts.optimizer.State()));
  RETURN_IF_ERROR(WriteTensors(fs, absl::StrCat(directory, "/loss.pt"), parts.loss.State()));
  return WriteFileAtomically(fs, absl::StrCat(directory, "/position.json"),
                             ToJson(position, parts.average).dump() + "\n");
}

absl::StatusOr<LoadedCheckpoint> ReadCheckpoint(FileSystem& fs, const std::string& directory,
                                                const torch::Device& device) {
  LoadedCheckpoint loaded;
  const std::string path = absl::StrCat(directory, "/position.json");
  ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  RETURN_IF_ERROR(FromJson(json, path, &loaded));
  ASSIGN_OR_RETURN(loaded.optimizer, ReadTensors(fs, absl::StrCat(directory, "/optimizer.pt")));
  ASSIGN_OR_RETURN(loaded.loss, ReadTensors(fs, absl::StrCat(directory, "/loss.pt")));
  ASSIGN_OR_RETURN(loaded.network, LoadNetwork(CheckpointModelDirectory(directory), device));
  if (json.contains("average_updates")) {
    ASSIGN_OR_RETURN(loaded.average_updates, Number(json, "average_updates", path));
    loaded.average = std::move(loaded.network);
    ASSIGN_OR_RETURN(loaded.network, LoadNetwork(TrainedWeights(directory), device));
  }
  return loaded;
}

}  // namespace doppel
