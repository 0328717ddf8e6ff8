#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/base/log.h"
#include "common/base/process_environment.h"
#include "services/trainer_worker/grpc_training_source.h"
#include "services/trainer_worker/model_commands.h"
#include "services/trainer_worker/stop_flag.h"
#include "services/trainer_worker/train_command.h"
#include "trainer/train/schedule.h"

namespace doppel {
namespace {

constexpr char kExamples[] = R"(
Examples:
  Pre-train a classifier on 20 000 identities:
    doppel-trainer train --server 127.0.0.1:50051 --output runs/pretrain --plan random --identity-limit 20000 \
        --loss id_softmax -P 96 -K 2 --steps 1500
  Batch OHNM on look-alikes, from these weights:
    doppel-trainer train --server 127.0.0.1:50051 --output runs/subspace --model runs/pretrain/model \
        --plan subspace -P 48 -K 4 --loss batch_ohnm --negatives 5 --margin soft --steps 3000
  Go on after a crash or a SIGTERM: the same command again.
  Measure a model:
    doppel-trainer eval --model runs/subspace/model --catalog data/catalog
)";

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "doppel-trainer: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

void AddArchitecture(CLI::App& app, ModelSpec* spec) {
  app.add_option("--architecture", spec->architecture, "glyph_cnn, lunet, resnet18, resnet34, resnet50")
      ->capture_default_str();
  app.add_option("--height", spec->height, "Of the input, in pixels")->capture_default_str();
  app.add_option("--width", spec->width, "Of the input, in pixels")->capture_default_str();
  app.add_option("--channels", spec->channels, "1 (grey) or 3 (RGB)")->capture_default_str();
  app.add_option("--dimension", spec->dimension, "Of the embedding")->capture_default_str();
  app.add_flag("--normalize,!--no-normalize", spec->normalize, "Embeddings on the unit sphere (the default)");
}

void AddData(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Batches");
  group->add_option("--server", o->server, "Address of doppel-miner")->capture_default_str();
  group->add_option("--plan", o->plan, "random, subspace")->capture_default_str();
  group->add_option("-P", o->identities_per_batch, "Identities per batch")->capture_default_str();
  group->add_option("-K", o->samples_per_identity, "Samples per identity")->capture_default_str();
  group->add_option("--run-length", o->run_length, "subspace: consecutive batches from one")
      ->capture_default_str();
  group->add_option("--split", o->split, "Split of the catalog (default: train, if there is one)");
  group
      ->add_option("--identity-limit", o->identity_limit,
                   "random: draw from this many identities only (0: all)")
      ->capture_default_str();
  group->add_option("--generation", o->generation, "0 follows the active one, otherwise that one for ever")
      ->capture_default_str();
  group->add_option("--seed", o->seed, "Of plan, augmentation and fresh weights")->capture_default_str();
  group->add_option("--payload", o->payload, "encoded, decoded, reference")->capture_default_str();
  group->add_option("--augment", o->augment, "none, mild")->capture_default_str();
  group->add_option("--prefetch", o->prefetch, "Batches ready ahead")->capture_default_str();
  group->add_option("--decode-threads", o->decode_threads, "Threads that decode")->capture_default_str();
}

void AddLoss(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Loss");
  group->add_option("--loss", o->loss.name, "batch_hard, batch_ohnm, id_softmax")->capture_default_str();
  group->add_option("--negatives", o->loss.negatives, "batch_ohnm: nearest negatives per pair")
      ->capture_default_str();
  group->add_option("--skip", o->loss.skip, "batch_ohnm: very nearest negatives left out")
      ->capture_default_str();
  group->add_option("--distance", o->loss.distance, "euclidean, squared, cosine")->capture_default_str();
  group->add_option("--margin", o->loss.margin, "soft, or a number")->capture_default_str();
  group
      ->add_option("--soft-scale", o->loss.soft_scale,
                   "s in ln(1 + e^(s z)); 0: 5 if the model normalises, else 1")
      ->capture_default_str();
  group->add_flag("--mean-over-active", o->loss.mean_over_active,
                  "Mean over active triplets (number as margin only)");
  group->add_option("--classes", o->loss.classes, "id_softmax: room for identities (0: --identity-limit)")
      ->capture_default_str();
  group
      ->add_option("--softmax-scale", o->loss.softmax_scale,
                   "id_softmax: of cosine logits; 0: linear head with bias")
      ->capture_default_str();
  group->add_option("--label-smoothing", o->loss.label_smoothing, "id_softmax")->capture_default_str();
}

void AddOptimisation(CLI::App& app, TrainOptions* o, double* final_factor) {
  const auto group = app.add_option_group("Optimisation");
  group->add_option("--optimizer", o->optimizer.name, "adam, sgd")->capture_default_str();
  group->add_option("--lr", o->schedule.rate, "Learning rate")->capture_default_str();
  group->add_option("--schedule", o->schedule.name, "constant, linear, cosine, exponential, step")
      ->capture_default_str();
  group->add_option("--warmup", o->schedule.warmup, "Steps of linear rise")->capture_default_str();
  group->add_option("--decay-start", o->schedule.decay_start, "Step at which the decay starts")
      ->capture_default_str();
  group->add_option("--final-factor", *final_factor,
                    "Of the rate at the end (default: 0; exponential 0.001)");
  group->add_option("--step-every", o->schedule.step_every, "step: steps between drops")
      ->capture_default_str();
  group->add_option("--step-factor", o->schedule.step_factor, "step: of each drop")->capture_default_str();
  group->add_option("--momentum", o->optimizer.momentum, "sgd")->capture_default_str();
  group->add_option("--weight-decay", o->optimizer.weight_decay, "L2")->capture_default_str();
  group->add_option("--clip-norm", o->clip_norm, "Largest gradient norm (0: no limit)")
      ->capture_default_str();
  group->add_option("--steps", o->schedule.steps, "Length of the run")->capture_default_str();
}

void AddRunning(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Running");
  group->add_option("--device", o->device, "auto, cpu, cuda:N")->capture_default_str();
  group->add_option("--threads", o->threads, "Of LibTorch's operators")->capture_default_str();
  group->add_option("--checkpoint-every", o->checkpoint_every, "Steps (0: only at the end)")
      ->capture_default_str();
  group->add_option("--keep", o->keep, "Checkpoints kept")->capture_default_str();
  group->add_option("--resume", o->resume, "auto, never (starts over)")->capture_default_str();
  group
      ->add_option("--log-every", o->log_every, "A log line every so many steps instead of the progress line")
      ->capture_default_str();
  group->add_option("--eval-every", o->eval_every, "Evaluate at step 0, every so many steps, and at the end")
      ->capture_default_str();
  group->add_option("--eval-catalog", o->eval_catalog, "Catalog to evaluate on");
  group->add_option("--eval-split", o->eval_split, "Its split")->capture_default_str();
  group->add_option("--eval-queries", o->eval_queries, "Queries per identity")->capture_default_str();
  group->add_flag("--eval-augment", o->eval_augment, "Augment the queries mildly");
}

CLI::App* AddEval(CLI::App& app, EvalCommandOptions* o) {
  CLI::App* eval =
      app.add_subcommand("eval", "Identification against the whole gallery: rank-1, Recall@K, TAR@FAR");
  eval->add_option("--model", o->model, "Model directory")->required();
  eval->add_option("--catalog", o->catalog, "Catalog directory")->required();
  eval->add_option("--split", o->identification.split, "Queries come from it")->capture_default_str();
  eval->add_option("--queries", o->identification.queries_per_identity, "Per identity")
      ->capture_default_str();
  eval->add_flag("--augment-queries", o->identification.augment_queries, "Mildly");
  eval->add_option("--seed", o->identification.seed, "Of the augmentation")->capture_default_str();
  eval->add_option("--threads", o->identification.threads, "Of LibTorch and the search")
      ->capture_default_str();
  eval->add_option("--batch-size", o->identification.batch_size, "Images at once")->capture_default_str();
  eval->add_option("--device", o->device, "auto, cpu, cuda:N")->capture_default_str();
  eval->add_option("-o,--output", o->output, "table, json")->capture_default_str();
  return eval;
}

int Train(const TrainOptions& options, bool quiet) {
  StopFlag stop;
  SignalWatcher signals(stop);
  const absl::Status status = RunTrain(options, OpenGrpcTrainingSource, stop, PosixFileSystem(), quiet);
  return status.ok() ? 0 : Fail(status);
}

int Report(const absl::StatusOr<ModelSpec>& spec, const std::string& directory) {
  if (!spec.ok()) return Fail(spec.status());
  std::printf("%s: %s, %dx%dx%d -> %d, %s\n", directory.c_str(), spec->architecture.c_str(), spec->height,
              spec->width, spec->channels, spec->dimension, spec->fingerprint.c_str());
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("doppel-trainer: trains embedding networks on batches of look-alikes from doppel-miner");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", "doppel-trainer 0.1.0");
  std::string log_level = "info", log_format = "text";
  bool quiet = false;
  app.add_option("--log-level", log_level, "debug, info, warning, error")->capture_default_str();
  app.add_option("--log-format", log_format, "text, json")->capture_default_str();
  app.add_flag("-q,--quiet", quiet, "No progress line");
  app.fallthrough();

  TrainOptions train = DefaultTrainOptions();
  double final_factor = -1;
  CLI::App* train_command = app.add_subcommand("train", "Train, or go on with a run that was interrupted");
  train_command->footer(kExamples);
  train_command->add_option("--output", train.output, "Folder of the run")->required();
  train_command->add_option("--model", train.model, "Model directory to start from (default: fresh weights)");
  AddArchitecture(*train_command->add_option_group("Fresh weights"), &train.architecture);
  AddData(*train_command, &train);
  AddLoss(*train_command, &train);
  AddOptimisation(*train_command, &train, &final_factor);
  AddRunning(*train_command, &train);

  EvalCommandOptions eval;
  CLI::App* eval_command = AddEval(app, &eval);

  ModelSpec init;
  init.architecture = "glyph_cnn";
  uint64_t init_seed = 1;
  std::string directory, file;
  CLI::App* init_command = app.add_subcommand("init", "Make a model directory with fresh weights");
  AddArchitecture(*init_command, &init);
  init_command->add_option("--seed", init_seed, "Of the weights")->capture_default_str();
  init_command->add_option("--output", directory, "Model directory to make")->required();

  ModelSpec imported;
  imported.architecture = "torchscript";
  CLI::App* import_command =
      app.add_subcommand("import-torchscript", "Make a model directory of a TorchScript file");
  import_command->add_option("file", file, "Written by torch.jit.save")->required();
  import_command->add_option("--output", directory, "Model directory to make")->required();
  AddArchitecture(*import_command, &imported);
  import_command->remove_option(import_command->get_option("--architecture"));

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : 2;
  }
  if (absl::Status status = SetupLogging("doppel-trainer", log_level, log_format); !status.ok())
    return Fail(status);
  if (train_command->parsed()) {
    if (final_factor >= 0) train.schedule.final_factor = final_factor;
    return Train(train, quiet);
  }
  if (eval_command->parsed()) {
    eval.identification.quiet = quiet;
    const absl::StatusOr<std::string> text = RunEval(eval);
    if (!text.ok()) return Fail(text.status());
    std::fputs(text->c_str(), stdout);
    return 0;
  }
  if (init_command->parsed()) return Report(RunInit(init, init_seed, directory), directory);
  return Report(RunImportTorchScript(file, imported, directory), directory);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::RestartWithComputeEnvironment(argv);
  doppel::KeepFreedMemory();
  return doppel::Main(argc, argv);
}
