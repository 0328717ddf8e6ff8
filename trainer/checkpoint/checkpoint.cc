#include "trainer/checkpoint/checkpoint.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"
#include "trainer/checkpoint/tensor_file.h"

namespace doppel {

std::string CheckpointModelDirectory(const std::string& checkpoint) {
  return absl::StrCat(checkpoint, "/model");
}

absl::Status WriteCheckpoint(FileSystem& fs, const std::string& directory, Network& network,
                             Optimizer& optimizer, Loss& loss, const CheckpointPosition& position) {
  RETURN_IF_ERROR(SaveNetwork(network, position.step, CheckpointModelDirectory(directory)).status());
  RETURN_IF_ERROR(WriteTensors(fs, absl::StrCat(directory, "/optimizer.pt"), optimizer.State()));
  RETURN_IF_ERROR(WriteTensors(fs, absl::StrCat(directory, "/loss.pt"), loss.State()));
  const nlohmann::ordered_json json = {
      {"step", position.step}, {"next_cursor", position.next_cursor}, {"seed", position.seed}};
  return WriteFileAtomically(fs, absl::StrCat(directory, "/position.json"), json.dump() + "\n");
}

absl::StatusOr<LoadedCheckpoint> ReadCheckpoint(FileSystem& fs, const std::string& directory,
                                                const torch::Device& device) {
  LoadedCheckpoint loaded;
  const std::string path = absl::StrCat(directory, "/position.json");
  ASSIGN_OR_RETURN(const std::string text, fs.ReadFile(path));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  for (const char* key : {"step", "next_cursor", "seed"}) {
    if (!json.is_object() || !json.contains(key) || !json[key].is_number_unsigned()) {
      return absl::DataLossError(absl::StrCat(path, " lacks \"", key, "\""));
    }
  }
  loaded.position.step = json["step"].get<uint64_t>();
  loaded.position.next_cursor = json["next_cursor"].get<uint64_t>();
  loaded.position.seed = json["seed"].get<uint64_t>();
  ASSIGN_OR_RETURN(loaded.optimizer, ReadTensors(fs, absl::StrCat(directory, "/optimizer.pt")));
  ASSIGN_OR_RETURN(loaded.loss, ReadTensors(fs, absl::StrCat(directory, "/loss.pt")));
  ASSIGN_OR_RETURN(loaded.network, LoadNetwork(CheckpointModelDirectory(directory), device));
  return loaded;
}

}  // namespace doppel
