#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace doppel {

// The output folder of a run: run.json, steps.jsonl, eval.jsonl, tensorboard/, checkpoints/, best/, model/.
class RunDirectory {
 public:
  RunDirectory(FileSystem& fs, std::string path) : fs_(fs), path_(std::move(path)) {}

  std::string RunFile() const { return path_ + "/run.json"; }
  std::string StepsFile() const { return path_ + "/steps.jsonl"; }
  std::string EvalFile() const { return path_ + "/eval.jsonl"; }
  std::string Checkpoints() const { return path_ + "/checkpoints"; }
  // A store of one checkpoint, and best.json beside it.
  std::string Best() const { return path_ + "/best"; }
  std::string BestFile() const { return Best() + "/best.json"; }
  std::string TensorBoard() const { return path_ + "/tensorboard"; }
  std::string Model() const { return path_ + "/model"; }
  // What this run calls itself when it talks to the miner.
  std::string RunNameFile() const { return path_ + "/run_name"; }
  // Weights on their way to an evaluation.
  std::string EvalModel() const { return path_ + "/eval-model"; }

  // Steps behind the final model; 0 if there is none.
  uint64_t FinishedSteps() const;
  // Makes the folder. FAILED_PRECONDITION if it holds a run with other training settings. `options` as of
  // ToJson.
  absl::Status Prepare(const std::string& options) const;
  // Forgets an earlier run: removes what this class knows of, and nothing else.
  absl::Status Clear() const;
  // The name in RunNameFile; a fresh run gets a new one, of the folder and of `token`.
  absl::StatusOr<std::string> RunName(bool fresh, uint64_t token) const;
  // Writes run.json: settings and versions.
  absl::Status WriteRun(const std::string& options) const;

 private:
  FileSystem& fs_;
  const std::string path_;
};

}  // namespace doppel
