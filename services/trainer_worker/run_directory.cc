#include "services/trainer_worker/run_directory.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"
#include "common/model/embedding_model.h"
#include "services/trainer_worker/train_options.h"

namespace doppel {
namespace {

constexpr char kVersion[] = "0.1.0";
constexpr char kCompiler[] = __VERSION__;

}  // namespace

uint64_t RunDirectory::FinishedSteps() const {
  if (!fs_.Exists(Model())) return 0;
  const absl::StatusOr<ModelSpec> spec = ReadModelSpec(Model());
  return spec.ok() ? spec->step : 0;
}

absl::Status RunDirectory::Prepare(const std::string& options) const {
  RETURN_IF_ERROR(fs_.MakeDirectories(path_));
  if (!fs_.Exists(RunFile())) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string text, fs_.ReadFile(RunFile()));
  const auto run = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!run.is_object() || !run.contains("options")) {
    return absl::DataLossError(absl::StrCat(
        RunFile(), " is not readable: choose another --output, or start over with --resume never"));
  }
  const std::string differences = TrainingDifferences(run["options"].dump(), options);
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, " holds a run with other settings (", differences,
                   "): choose another --output, or start over with --resume never"));
}

absl::Status RunDirectory::Clear() const {
  for (const std::string& path : {RunFile(), StepsFile(), EvalFile(), RunNameFile()}) {
    if (fs_.Exists(path)) RETURN_IF_ERROR(fs_.Remove(path));
  }
  for (const std::string& path : {Model(), EvalModel(), Checkpoints(), Best(), TensorBoard()}) {
    if (fs_.Exists(path)) RETURN_IF_ERROR(fs_.RemoveRecursively(path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RunDirectory::RunName(bool fresh, uint64_t token) const {
  if (!fresh && fs_.Exists(RunNameFile())) {
    ASSIGN_OR_RETURN(const std::string name, fs_.ReadFile(RunNameFile()));
    return std::string(absl::StripAsciiWhitespace(name));
  }
  const std::string name = absl::StrCat(path_, "#", absl::Hex(token));
  RETURN_IF_ERROR(WriteFileAtomically(fs_, RunNameFile(), name + "\n"));
  return name;
}

absl::Status RunDirectory::WriteRun(const std::string& options) const {
  const nlohmann::ordered_json run = {
      {"format_version", 1},
      {"options", nlohmann::ordered_json::parse(options, nullptr, /*allow_exceptions=*/false)},
      {"versions", {{"doppel", kVersion}, {"compiler", kCompiler}}}};
  return WriteFileAtomically(fs_, RunFile(), run.dump(2) + "\n");
}

}  // namespace doppel
