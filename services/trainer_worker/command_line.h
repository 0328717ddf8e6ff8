#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "common/model/embedding_model.h"
#include "services/trainer_worker/export_command.h"
#include "services/trainer_worker/train_options.h"

namespace doppel {

// The flags of doppel-trainer. Every Add…Command adds a subcommand that writes into `options`, which must
// outlive the parsing.

extern const char kTrainerExamples[];

struct TrainCommandLine {
  TrainOptions options = DefaultTrainOptions();
  double final_factor = -1;  // below 0: not given
};
CLI::App* AddTrainCommand(CLI::App& app, TrainCommandLine* line);
// What the parsed line says.
TrainOptions Options(const TrainCommandLine& line);

CLI::App* AddExportCommand(CLI::App& app, ExportCommandOptions* options);

struct InitCommandLine {
  InitCommandLine();
  ModelSpec spec;
  uint64_t seed = 1;
  std::string output;
};
CLI::App* AddInitCommand(CLI::App& app, InitCommandLine* line);

struct ImportCommandLine {
  ImportCommandLine();
  ModelSpec spec;
  std::string file;
  std::string output;
};
CLI::App* AddImportCommand(CLI::App& app, ImportCommandLine* line);

// Flags that describe a net.
void AddArchitecture(CLI::App& app, ModelSpec* spec);

}  // namespace doppel
