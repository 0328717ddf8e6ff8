#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/base/log.h"
#include "common/base/process_environment.h"
#include "services/trainer_worker/command_line.h"
#include "services/trainer_worker/embed_command.h"
#include "services/trainer_worker/eval_protocols_command.h"
#include "services/trainer_worker/grpc_training_source.h"
#include "services/trainer_worker/loss_command.h"
#include "services/trainer_worker/model_commands.h"
#include "services/trainer_worker/search_command.h"
#include "services/trainer_worker/stop_flag.h"
#include "services/trainer_worker/train_command.h"

namespace doppel {
namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "doppel-trainer: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

int Train(const TrainOptions& options, bool quiet) {
  StopFlag stop;
  SignalWatcher signals(stop);
  const absl::Status status = RunTrain(options, OpenGrpcTrainingSource, stop, PosixFileSystem(), quiet);
  return status.ok() ? 0 : Fail(status);
}

int Print(const absl::StatusOr<std::string>& text) {
  if (!text.ok()) return Fail(text.status());
  std::fputs(text->c_str(), stdout);
  return 0;
}

int Report(const absl::StatusOr<ModelSpec>& spec, const std::string& directory) {
  if (!spec.ok()) return Fail(spec.status());
  std::printf("%s: %s, %dx%dx%d -> %d, %s\n", directory.c_str(), spec->architecture.c_str(), spec->height,
              spec->width, spec->channels, spec->dimension, spec->fingerprint.c_str());
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("doppel-trainer: trains embedding networks on batches of look-alikes from doppel-miner");
  app.footer(kTrainerExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", "doppel-trainer 0.1.0");
  std::string log_level = "info", log_format = "text";
  bool quiet = false;
  app.add_option("--log-level", log_level, "debug, info, warning, error")->capture_default_str();
  app.add_option("--log-format", log_format, "text, json")->capture_default_str();
  app.add_flag("-q,--quiet", quiet, "No progress line");
  app.fallthrough();

  TrainCommandLine train;
  const CLI::App* train_command = AddTrainCommand(app, &train);
  EvalProtocolsOptions eval;
  const CLI::App* eval_command = AddEvalProtocolsCommand(app, &eval);
  EmbedCommandOptions embed;
  const CLI::App* embed_command = AddEmbedCommand(app, &embed);
  SearchCommandOptions search;
  const CLI::App* search_command = AddSearchCommand(app, &search);
  LossCommandOptions loss;
  const CLI::App* loss_command = AddLossCommand(app, &loss);
  ExportCommandOptions exported;
  const CLI::App* export_command = AddExportCommand(app, &exported);
  InitCommandLine init;
  const CLI::App* init_command = AddInitCommand(app, &init);
  ImportCommandLine imported;
  AddImportCommand(app, &imported);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  if (absl::Status status = SetupLogging("doppel-trainer", log_level, log_format); !status.ok())
    return Fail(status);
  if (train_command->parsed()) return Train(Options(train), quiet);
  if (eval_command->parsed()) {
    eval.embedding.quiet = quiet;
    return Print(RunEvalProtocols(eval));
  }
  if (embed_command->parsed()) {
    embed.embed.quiet = quiet;
    return Print(RunEmbed(embed));
  }
  if (search_command->parsed()) return Print(RunSearch(search));
  if (loss_command->parsed()) return Print(RunLoss(loss));
  if (export_command->parsed()) return Print(RunExport(exported));
  if (init_command->parsed()) return Report(RunInit(init.spec, init.seed, init.output), init.output);
  return Report(RunImportTorchScript(imported.file, imported.spec, imported.output), imported.output);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  doppel::KeepFreedMemory();
  return doppel::Main(argc, argv);
}
