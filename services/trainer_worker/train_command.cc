#include "services/trainer_worker/train_command.h"

#include <nlohmann/json.hpp>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "services/trainer_worker/run_directory.h"
#include "services/trainer_worker/train_session.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/eval/identification.h"
#include "trainer/train/steps_log.h"
#include "trainer/train/train_loop.h"

namespace doppel {
namespace {

// One run, from its folder and back into it.
class TrainRun {
 public:
  TrainRun(TrainOptions options, const TrainingSourceFactory& open_source, StopFlag& stop, FileSystem& fs,
           bool quiet, const Clock& clock)
      : options_(std::move(options)),
        open_source_(open_source),
        stop_(stop),
        fs_(fs),
        quiet_(quiet),
        clock_(clock),
        directory_(fs, options_.output),
        checkpoints_(fs, directory_.Checkpoints(), options_.keep) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(const ModelSpec spec, InitialModelSpec(options_));
    RETURN_IF_ERROR(ResolveTrainOptions(spec, &options_));
    if (options_.resume == "never") RETURN_IF_ERROR(directory_.Clear());
    RETURN_IF_ERROR(directory_.Prepare(ToJson(options_)));
    const uint64_t finished = directory_.FinishedSteps();
    if (finished >= options_.schedule.steps) {
      DOPPEL_LOG(kInfo, options_.output, " has been trained for ", finished,
                 " steps already: nothing to do (model in ", directory_.Model(),
                 "; --resume never starts over)");
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(directory_.WriteRun(ToJson(options_)));
    RETURN_IF_ERROR(Open());
    return Train();
  }

 private:
  absl::Status Open() {
    if (!options_.eval_catalog.empty() && options_.eval_every > 0) {
      ASSIGN_OR_RETURN(catalog_, Catalog::Open(options_.eval_catalog));
      RETURN_IF_ERROR(catalog_->Split(options_.eval_split).status());
    }
    ASSIGN_OR_RETURN(const CheckpointStore::Scan scan, checkpoints_.FindNewest());
    for (const std::string& damaged : scan.damaged) {
      DOPPEL_LOG(kWarning, "checkpoint left out, it is damaged: ", damaged);
    }
    const std::string from = scan.newest.has_value() ? scan.newest->directory : "";
    ASSIGN_OR_RETURN(session_, TrainSession::Create(fs_, options_, from));
    if (!from.empty()) {
      DOPPEL_LOG(kInfo, "resuming at step ", session_->step(), " of ", options_.schedule.steps, ", cursor ",
                 session_->next_cursor(), ", from ", from);
    } else if (!scan.damaged.empty()) {
      DOPPEL_LOG(kWarning, "no checkpoint is left to resume from: starting over");
    }
    ASSIGN_OR_RETURN(steps_log_, StepsLog::Open(fs_, directory_.StepsFile(), session_->step()));
    if (catalog_ != nullptr) {
      // A fresh run evaluates its initial weights as step 0, so no line may be kept from before.
      if (from.empty() && fs_.Exists(directory_.EvalFile()))
        RETURN_IF_ERROR(fs_.Remove(directory_.EvalFile()));
      ASSIGN_OR_RETURN(eval_log_, StepsLog::Open(fs_, directory_.EvalFile(), session_->step()));
    }
    DOPPEL_LOG(kInfo, "training ", session_->spec().architecture, " with ", options_.loss.name, " on ",
               session_->Describe(), ", plan ", options_.plan, " ", options_.identities_per_batch, "x",
               options_.samples_per_identity);
    return absl::OkStatus();
  }

  absl::Status Train() {
    ASSIGN_OR_RETURN(TrainingSource source,
                     open_source_(options_, session_->spec(), session_->next_cursor()));
    stop_.SetWake(source.cancel);
    absl::Cleanup forget = [this] { stop_.SetWake(nullptr); };

    Progress::Options shown;
    shown.label = "train";
    shown.unit = "steps";
    shown.total = options_.schedule.steps - session_->step();
    shown.quiet = quiet_ || options_.log_every > 0;
    progress_ = std::make_unique<Progress>(shown, clock_);
    absl::StatusOr<TrainLoopResult> result = RunTrainLoop(*source.source, LoopOptions(), LoopHooks(), clock_);
    progress_->Finish();
    RETURN_IF_ERROR(result.status());
    if (result->steps < options_.schedule.steps) {
      DOPPEL_LOG(kInfo, result->stopped ? "stopped" : "the stream has ended", " at step ", result->steps,
                 " of ", options_.schedule.steps, ": run the same command again to go on");
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const ModelSpec saved, session_->SaveModel(directory_.Model(), result->steps));
    DOPPEL_LOG(kInfo, "trained ", result->steps, " steps; model ", saved.fingerprint, " in ",
               directory_.Model());
    return absl::OkStatus();
  }

  TrainLoopOptions LoopOptions() const {
    TrainLoopOptions loop;
    loop.first_step = session_->step();
    loop.first_cursor = session_->next_cursor();
    loop.steps = options_.schedule.steps;
    loop.checkpoint_every = options_.checkpoint_every;
    loop.evaluate_every = catalog_ != nullptr ? options_.eval_every : 0;
    loop.schedule = options_.schedule;
    loop.collapse.collapsed_loss = session_->collapsed_loss();
    loop.collapse.squared_distance = options_.loss.distance != "euclidean";
    return loop;
  }

  TrainLoopHooks LoopHooks() {
    TrainLoopHooks hooks;
    hooks.step = [this](const TrainingBatch& batch, double rate) { return session_->Step(batch, rate); };
    hooks.record = [this](const StepRecord& record) { return Record(record); };
    hooks.checkpoint = [this](uint64_t step, uint64_t cursor) { return Checkpoint(step, cursor); };
    hooks.evaluate = [this](uint64_t step) { return Evaluate(step); };
    hooks.should_stop = [this] { return stop_.requested(); };
    hooks.warn = [](const std::string& text) { DOPPEL_LOG(kWarning, text); };
    return hooks;
  }

  absl::Status Record(const StepRecord& record) {
    RETURN_IF_ERROR(steps_log_->Append(ToJsonLine(record)));
    const LossStatistics& loss = record.statistics.loss;
    const std::string note = absl::StrFormat("loss %.4f  active %.1f %%  %.0f images/s", loss.loss,
                                             loss.active * 100, record.images_per_second);
    progress_->Add(1);
    progress_->SetNote(note);
    if (options_.log_every > 0 && record.step % options_.log_every == 0) {
      DOPPEL_LOG(kInfo, "step ", record.step, "/", options_.schedule.steps, "  ", note);
    }
    return absl::OkStatus();
  }

  // The lines of a step must be as durable as the checkpoint behind them, or a resumed run could not complete
  // the file.
  absl::Status Checkpoint(uint64_t step, uint64_t next_cursor) {
    RETURN_IF_ERROR(steps_log_->Sync());
    if (eval_log_ != nullptr) RETURN_IF_ERROR(eval_log_->Sync());
    return checkpoints_.Save(
        step, [&](const std::string& path) { return session_->WriteCheckpoint(path, step, next_cursor); });
  }

  absl::Status Evaluate(uint64_t step) {
    RETURN_IF_ERROR(session_->SaveModel(directory_.EvalModel(), step).status());
    absl::StatusOr<IdentificationReport> report = EvaluateSaved();
    session_->RestoreThreads();
    RETURN_IF_ERROR(report.status());
    nlohmann::ordered_json line = {{"step", step}};
    const auto fields = nlohmann::ordered_json::parse(ToJson(*report), nullptr, /*allow_exceptions=*/false);
    if (fields.is_object()) line.update(fields);
    if (fields.is_object() && fields.contains("rank1")) {
      DOPPEL_LOG(kInfo, "step ", step, ": rank-1 ", fields["rank1"].dump(), " of ", report->queries,
                 " queries against ", report->gallery, " identities");
    }
    RETURN_IF_ERROR(eval_log_->Append(line.dump()));
    return fs_.RemoveRecursively(directory_.EvalModel());
  }

  absl::StatusOr<IdentificationReport> EvaluateSaved() {
    ASSIGN_OR_RETURN(std::unique_ptr<EmbeddingModel> model,
                     LoadEmbeddingModel(directory_.EvalModel(), options_.device));
    IdentificationOptions evaluation;
    evaluation.split = options_.eval_split;
    evaluation.queries_per_identity = options_.eval_queries;
    evaluation.augment_queries = options_.eval_augment;
    evaluation.threads = options_.threads;
    evaluation.quiet = true;
    return EvaluateIdentification(*catalog_, *model, evaluation);
  }

  TrainOptions options_;
  const TrainingSourceFactory& open_source_;
  StopFlag& stop_;
  FileSystem& fs_;
  const bool quiet_;
  const Clock& clock_;
  RunDirectory directory_;
  CheckpointStore checkpoints_;
  std::shared_ptr<const Catalog> catalog_;
  std::unique_ptr<TrainSession> session_;
  std::unique_ptr<StepsLog> steps_log_;
  std::unique_ptr<StepsLog> eval_log_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace

absl::Status RunTrain(TrainOptions options, const TrainingSourceFactory& open_source, StopFlag& stop,
                      FileSystem& fs, bool quiet, const Clock& clock) {
  return TrainRun(std::move(options), open_source, stop, fs, quiet, clock).Run();
}

}  // namespace doppel
