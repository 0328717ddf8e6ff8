#include "services/trainer_worker/command_line.h"

namespace doppel {

const char kTrainerExamples[] = R"(
Examples:
  Pre-train a classifier on 20 000 identities:
    doppel-trainer train --server 127.0.0.1:50051 --output runs/pretrain --plan random --identity-limit 20000 \
        --loss id_softmax -P 96 -K 2 --steps 1500
  Batch OHNM on look-alikes, from these weights:
    doppel-trainer train --server 127.0.0.1:50051 --output runs/subspace --model runs/pretrain/model \
        --plan subspace -P 48 -K 4 --loss batch_ohnm --negatives 5 --margin soft --steps 3000
  Leave it running: averaged weights, the best kept, the end when nothing improves any more:
    doppel-trainer train … --ema 0.999 --eval-every 1000 --eval-catalog data/catalog --early-stop rank1 --patience 5
  Go on after a crash or a SIGTERM: the same command again.
  Measure a model, and hand it on:
    doppel-trainer eval --model runs/subspace/model --catalog data/catalog
    doppel-trainer export --model runs/subspace/model --output model.pt
)";

void AddArchitecture(CLI::App& app, ModelSpec* spec) {
  app.add_option("--architecture", spec->architecture, "glyph_cnn, lunet, resnet18, resnet34, resnet50")
      ->capture_default_str();
  app.add_option("--height", spec->height, "Of the input, in pixels")->capture_default_str();
  app.add_option("--width", spec->width, "Of the input, in pixels")->capture_default_str();
  app.add_option("--channels", spec->channels, "1 (grey) or 3 (RGB)")->capture_default_str();
  app.add_option("--dimension", spec->dimension, "Of the embedding")->capture_default_str();
  app.add_flag("--normalize,!--no-normalize", spec->normalize, "Embeddings on the unit sphere (the default)");
}

CLI::App* AddExportCommand(CLI::App& app, ExportCommandOptions* o) {
  CLI::App* exported =
      app.add_subcommand("export", "Write a model as TorchScript that Python's torch loads without our code");
  exported->add_option("--model", o->model, "Model directory")->required();
  exported->add_option("--output", o->output, "File to write, such as model.pt")->required();
  exported->add_option("-o", o->format, "table, json")->capture_default_str();
  return exported;
}

InitCommandLine::InitCommandLine() { spec.architecture = "glyph_cnn"; }

CLI::App* AddInitCommand(CLI::App& app, InitCommandLine* line) {
  CLI::App* init = app.add_subcommand("init", "Make a model directory with fresh weights");
  AddArchitecture(*init, &line->spec);
  init->add_option("--seed", line->seed, "Of the weights")->capture_default_str();
  init->add_option("--output", line->output, "Model directory to make")->required();
  return init;
}

ImportCommandLine::ImportCommandLine() { spec.architecture = "torchscript"; }

CLI::App* AddImportCommand(CLI::App& app, ImportCommandLine* line) {
  CLI::App* imported =
      app.add_subcommand("import-torchscript", "Make a model directory of a TorchScript file");
  imported->add_option("file", line->file, "Written by torch.jit.save")->required();
  imported->add_option("--output", line->output, "Model directory to make")->required();
  AddArchitecture(*imported, &line->spec);
  imported->remove_option(imported->get_option("--architecture"));
  return imported;
}

}  // namespace doppel
