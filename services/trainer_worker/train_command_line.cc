#include "services/trainer_worker/command_line.h"

namespace doppel {
namespace {

void AddData(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Batches");
  group->add_option("--server", o->server, "Address of doppel-miner")->capture_default_str();
  AddClientSecurityFlags(*group, &o->security);
  group
      ->add_option("--plan", o->plan,
                   "auto, random, subspace, subspace_overlap, nearest_identities, doppelganger, "
                   "offline_triplets, category, look_alikes, mixture: see docs/plans.md")
      ->capture_default_str();
  group->add_option("--plan-option", o->plan_options,
                    "key=value: a setting of the plan (groups, pool, part, hardness, …); repeat for more");
  group->add_option(
      "--hardness-band", o->hardness_band,
      "LO:HI: the miner holds the share of active triplets in this band, such as 0.05:0.15, by how "
      "much of the batches is hard");
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
  group->add_option("--sharing", o->sharing, "How trainers share a plan: independent, static, dynamic")
      ->capture_default_str();
  group->add_option("--shard", o->shard, "static: I/N, this trainer's share of the cursors (0/2, 1/2)");
  group->add_option("--group", o->group, "dynamic: the name that the trainers of one plan share");
  group
      ->add_option("--lease-seconds", o->lease_seconds,
                   "dynamic: an unacknowledged batch goes to another trainer after this long")
      ->capture_default_str();
  group->add_option("--end-cursor", o->end_cursor, "dynamic: the group is done there (0: never)")
      ->capture_default_str();
  group->add_flag("--verify,!--no-verify", o->verify, "CRC32C of every sample (the default)");
  group->add_option("--prefetch", o->prefetch, "Batches ready ahead")->capture_default_str();
  group->add_option("--decode-threads", o->decode_threads, "Threads that decode")->capture_default_str();
}

void AddLoss(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Loss");
  group->add_option("--loss", o->loss.name, "See docs/losses.md: batch_hard, batch_ohnm, id_softmax, …")
      ->capture_default_str();
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
  group->add_option("--loss-option", o->loss_options,
                    "key=value: any other setting of the loss; repeat for more");
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
  group
      ->add_option("--accumulate", o->accumulate,
                   "Batches per step: each is mined for itself, their gradients are averaged")
      ->capture_default_str();
  group->add_option("--precision", o->precision, "float32, bfloat16, float16 (CUDA), auto")
      ->capture_default_str();
  group->add_option("--max-skipped", o->max_skipped, "Steps on end that may be skipped as not finite")
      ->capture_default_str();
  group->add_option("--ema", o->ema, "Decay of averaged weights, which are evaluated and exported (0: none)")
      ->capture_default_str();
  group->add_option("--freeze-steps", o->freeze_steps, "First steps in which the head alone is trained")
      ->capture_default_str();
  group->add_option("--head", o->head, "Prefix of the head's parameters (default: the last layer)");
  group->add_option("--freeze", o->freeze, "Prefix of parameters that are never trained; repeat for more");
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
  group->add_option(
      "--early-stop", o->early_stop.metric,
      "Number of the evaluation to watch (rank1, recall@10, tar@1e-05): the best is kept in best/");
  group
      ->add_option("--patience", o->early_stop.patience,
                   "Evaluations without a new best after which the run ends (0: never)")
      ->capture_default_str();
}

void AddReporting(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Telling the miner");
  group
      ->add_option("--report-every", o->report_every,
                   "Batches per report of the embeddings they were trained with (0: none): the miner's live "
                   "representations")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  group
      ->add_option(
          "--report-references", o->report_references,
          "Images of each batch that are embedded again as a served network would, to make up for batch "
          "norm in what is reported (0: report as trained)")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  group->add_flag(
      "--publish,!--no-publish", o->publish,
      "Weights go to the miner's model store (the default): what `recluster --model latest` takes");
  group->add_option("--publish-every", o->publish_every, "Steps between them (0: at each checkpoint)")
      ->capture_default_str();
  group->add_option("--run", o->run,
                    "Name that all trainers of one run give (default: the folder, and when it was begun)");
}

void AddWatching(CLI::App& app, TrainOptions* o) {
  const auto group = app.add_option_group("Watching");
  group->add_flag("--tensorboard,!--no-tensorboard", o->tensorboard,
                  "Event files in OUTPUT/tensorboard (the default)");
  group->add_option("--tensorboard-every", o->tensorboard_every, "Steps between scalars")
      ->capture_default_str();
  group
      ->add_option("--tensorboard-details-every", o->tensorboard_details_every,
                   "Steps between histograms and images of the hardest triplets (0: none)")
      ->capture_default_str();
  group->add_option("--starved-active", o->starvation.active_share, "Warn below this active share…")
      ->capture_default_str();
  group->add_option("--starved-steps", o->starvation.patience, "…for so many steps on end")
      ->capture_default_str();
  group->add_option("--starved-wait", o->starvation.wait_share, "Warn above this share of time spent waiting")
      ->capture_default_str();
}

}  // namespace

CLI::App* AddTrainCommand(CLI::App& app, TrainCommandLine* line) {
  TrainOptions* o = &line->options;
  CLI::App* train = app.add_subcommand("train", "Train, or go on with a run that was interrupted");
  train->footer(kTrainerExamples);
  train->add_option("--output", o->output, "Folder of the run")->required();
  train->add_option("--model", o->model, "Model directory to start from (default: fresh weights)");
  AddArchitecture(*train->add_option_group("Fresh weights"), &o->architecture);
  AddData(*train, o);
  AddLoss(*train, o);
  AddOptimisation(*train, o, &line->final_factor);
  AddRunning(*train, o);
  AddReporting(*train, o);
  AddWatching(*train, o);
  return train;
}

TrainOptions Options(const TrainCommandLine& line) {
  TrainOptions options = line.options;
  if (line.final_factor >= 0) options.schedule.final_factor = line.final_factor;
  return options;
}

}  // namespace doppel
