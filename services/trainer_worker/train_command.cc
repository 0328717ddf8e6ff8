#include "services/trainer_worker/train_command.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/philox.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/io/atomic_file.h"
#include "services/trainer_worker/eval_metrics.h"
#include "services/trainer_worker/run_board.h"
#include "services/trainer_worker/run_directory.h"
#include "services/trainer_worker/train_session.h"
#include "trainer/checkpoint/checkpoint_store.h"
#include "trainer/eval/identification.h"
#include "trainer/loss/loss_options.h"
#include "trainer/train/early_stop.h"
#include "trainer/train/steps_log.h"
#include "trainer/train/train_loop.h"

namespace doppel {
namespace {

constexpr size_t kShownTriplets = 8;

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
        checkpoints_(fs, directory_.Checkpoints(), options_.keep),
        best_(fs, directory_.Best(), 1),
        early_stop_(options_.early_stop) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(const ModelSpec spec, InitialModelSpec(options_));
    for (const std::string& option : options_.loss_options) {
      RETURN_IF_ERROR(SetLossOption(&options_.loss, option));
    }
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
    RETURN_IF_ERROR(Open());
    if (early_stop_.exhausted() && finished == session_->step() && finished > 0) {
      DOPPEL_LOG(kInfo, options_.output, " was stopped early: ", DescribeBest(), "; nothing to do");
      return absl::OkStatus();
    }
    // Only now: settings that cannot run must not claim the folder.
    RETURN_IF_ERROR(directory_.WriteRun(ToJson(options_)));
    RETURN_IF_ERROR(OpenLogs());
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
    early_stop_.set_state(session_->early_stop());
    next_cursor_ = session_->next_cursor();
    fresh_ = from.empty();
    DOPPEL_LOG(kInfo, "training ", session_->spec().architecture, " with ", options_.loss.name, " on ",
               session_->Describe(), ", plan ", options_.plan, " ", options_.identities_per_batch, "x",
               options_.samples_per_identity,
               options_.accumulate > 1 ? absl::StrCat(", ", options_.accumulate, " batches per step") : "");
    return absl::OkStatus();
  }

  absl::Status OpenLogs() {
    ASSIGN_OR_RETURN(steps_log_, StepsLog::Open(fs_, directory_.StepsFile(), session_->step()));
    if (catalog_ != nullptr) {
      // A fresh run evaluates its initial weights as step 0, so no line may be kept from before.
      if (fresh_ && fs_.Exists(directory_.EvalFile())) RETURN_IF_ERROR(fs_.Remove(directory_.EvalFile()));
      ASSIGN_OR_RETURN(eval_log_, StepsLog::Open(fs_, directory_.EvalFile(), session_->step()));
    }
    if (!options_.tensorboard) return absl::OkStatus();
    ASSIGN_OR_RETURN(board_, RunBoard::Open(fs_, directory_.TensorBoard(), options_,
                                            fresh_ ? 0 : session_->step() + 1, clock_));
    return absl::OkStatus();
  }

  absl::Status Train() {
    if (options_.run.empty()) {
      ASSIGN_OR_RETURN(options_.run, directory_.RunName(fresh_, RunToken()));
    }
    ASSIGN_OR_RETURN(TrainingSource source,
                     open_source_(options_, session_->spec(), session_->next_cursor()));
    reporter_ = source.reporter.get();
    publisher_ = source.publisher.get();
    absl::Cleanup nobody_listens = [this] { reporter_ = nullptr, publisher_ = nullptr; };
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
    LogReporting();
    RETURN_IF_ERROR(result.status());
    if (result->goal_reached) {
      DOPPEL_LOG(kInfo, "stopped early at step ", result->steps, ": ", DescribeBest());
    } else if (result->steps < options_.schedule.steps) {
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
    loop.every_cursor = options_.sharing == "independent";
    loop.steps = options_.schedule.steps;
    loop.accumulate = options_.accumulate;
    loop.starvation = options_.starvation;
    // By its definition none of these triplets has d_ap > d_an, which is what active means with a soft
    // margin.
    const bool never_active =
        absl::StartsWith(options_.loss.name, "semi_hard") && options_.loss.margin == "soft";
    if (never_active) loop.starvation.active_share = 0;
    loop.checkpoint_every = options_.checkpoint_every;
    loop.evaluate_every = catalog_ != nullptr ? options_.eval_every : 0;
    loop.schedule = options_.schedule;
    loop.collapse.collapsed_loss = session_->collapsed_loss();
    loop.collapse.squared_distance = options_.loss.distance != "euclidean";
    return loop;
  }

  TrainLoopHooks LoopHooks() {
    TrainLoopHooks hooks;
    hooks.step = [this](const TrainingBatch& batch, const StepPart& part) { return Step(batch, part); };
    hooks.record = [this](const StepRecord& record) { return Record(record); };
    hooks.checkpoint = [this](uint64_t step, uint64_t cursor) { return Checkpoint(step, cursor); };
    hooks.evaluate = [this](uint64_t step) { return Evaluate(step); };
    hooks.goal_reached = [this] { return early_stop_.exhausted(); };
    hooks.should_stop = [this] { return stop_.requested(); };
    hooks.warn = [](const std::string& text) { DOPPEL_LOG(kWarning, text); };
    return hooks;
  }

  absl::StatusOr<StepStatistics> Step(const TrainingBatch& batch, const StepPart& part) {
    ASSIGN_OR_RETURN(const StepStatistics statistics, session_->Step(batch, part));
    const bool last = part.index + 1 == part.count;
    if (reporter_ != nullptr && !statistics.skipped) RETURN_IF_ERROR(Report(batch, part, statistics, last));
    if (board_ != nullptr && last && !statistics.skipped && board_->WantsDetails(part.steps_done + 1)) {
      ASSIGN_OR_RETURN(const StepSnapshot snapshot, session_->Inspect(batch, kShownTriplets));
      RETURN_IF_ERROR(board_->AddDetails(snapshot, batch));
    }
    return statistics;
  }

  // The statistics of a step of several batches are known with the last one, and count for its subspace. A
  // report waits for others with which it shares a pass over references.
  absl::Status Report(const TrainingBatch& batch, const StepPart& part, const StepStatistics& statistics,
                      bool last) {
    const absl::Time begun = clock_.Now();
    BatchReport report;
    report.model_step = part.steps_done;
    report.generation = batch.generation;
    report.cursor = batch.cursor;
    if (last && std::isfinite(statistics.loss.loss) && std::isfinite(statistics.loss.active)) {
      report.subspace = batch.subspace;
      report.loss = statistics.loss.loss;
      report.active_share = statistics.loss.active;
    }
    report.dimension = session_->spec().dimension;
    report.identities = batch.identities;
    ASSIGN_OR_RETURN(const bool due, session_->KeepForReport(batch));
    reports_.push_back(std::move(report));
    report_seconds_ += absl::ToDoubleSeconds(clock_.Now() - begun);
    return due ? OfferReports() : absl::OkStatus();
  }

  absl::Status OfferReports() {
    if (reports_.empty()) return absl::OkStatus();
    const absl::Time begun = clock_.Now();
    ASSIGN_OR_RETURN(std::vector<std::vector<float>> embeddings, session_->ReportedEmbeddings());
    for (size_t i = 0; i < reports_.size(); ++i) {
      reports_[i].embeddings = std::move(embeddings[i]);
      reporter_->Offer(std::move(reports_[i]));
    }
    offered_ += reports_.size();
    reports_.clear();
    report_seconds_ += absl::ToDoubleSeconds(clock_.Now() - begun);
    return absl::OkStatus();
  }

  void LogReporting() const {
    if (reporter_ == nullptr || offered_ == 0) return;
    const EmbeddingReporter::Counters counters = reporter_->counters();
    const double batches = static_cast<double>(offered_);
    DOPPEL_LOG(kInfo, "embeddings of ", offered_, " batches were reported (", counters.dropped, " dropped, ",
               counters.refused, " refused): ",
               absl::StrFormat("%.3f ms of each, and %.3f ms of CPU in another thread",
                               1e3 * report_seconds_ / batches, 1e3 * counters.cpu_seconds / batches));
  }

  // Copies the weights; the rest happens in the background.
  absl::Status Publish(uint64_t step) {
    if (publisher_ == nullptr || published_ == step) return absl::OkStatus();
    ASSIGN_OR_RETURN(ModelFiles files, session_->SerializeModel(step));
    v1::ModelDescription model;
    model.set_hash(files.spec.fingerprint);
    model.set_model_json(ModelSpecToJson(files.spec));
    model.set_bytes(files.weights.size());
    model.set_publisher(options_.run);
    publisher_->Publish(std::move(model), std::move(files.weights));
    published_ = step;
    return absl::OkStatus();
  }

  uint64_t RunToken() const {
    return MixKey(static_cast<uint64_t>(absl::ToUnixNanos(clock_.Now())), options_.seed);
  }

  absl::Status Record(const StepRecord& record) {
    next_cursor_ = record.cursor + static_cast<uint64_t>(record.batches);
    RETURN_IF_ERROR(steps_log_->Append(ToJsonLine(record)));
    if (board_ != nullptr) RETURN_IF_ERROR(board_->Step(record));
    const LossStatistics& loss = record.statistics.loss;
    if (options_.publish_every > 0 && record.step % options_.publish_every == 0)
      RETURN_IF_ERROR(Publish(record.step));
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
  // the file. Reports that still wait go out first: what comes after a checkpoint is then reported alike,
  // whether the run was interrupted or not.
  absl::Status Checkpoint(uint64_t step, uint64_t next_cursor) {
    RETURN_IF_ERROR(OfferReports());
    RETURN_IF_ERROR(steps_log_->Sync());
    if (eval_log_ != nullptr) RETURN_IF_ERROR(eval_log_->Sync());
    if (board_ != nullptr) RETURN_IF_ERROR(board_->Sync());
    RETURN_IF_ERROR(SaveTo(checkpoints_, step, next_cursor));
    const bool ends = step >= options_.schedule.steps;
    return options_.publish_every == 0 || ends ? Publish(step) : absl::OkStatus();
  }

  absl::Status SaveTo(CheckpointStore& store, uint64_t step, uint64_t next_cursor) {
    return store.Save(step, [&](const std::string& path) {
      return session_->WriteCheckpoint(path, step, next_cursor, early_stop_.state());
    });
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
    if (board_ != nullptr) RETURN_IF_ERROR(board_->Evaluation(step, line.dump()));
    RETURN_IF_ERROR(fs_.RemoveRecursively(directory_.EvalModel()));
    return early_stop_.watching() ? ObserveMetric(step, line.dump()) : absl::OkStatus();
  }

  absl::Status ObserveMetric(uint64_t step, const std::string& line) {
    const std::string& metric = early_stop_.options().metric;
    ASSIGN_OR_RETURN(const double value, EvaluationMetric(line, metric));
    if (!early_stop_.Observe(step, value)) return absl::OkStatus();
    RETURN_IF_ERROR(SaveTo(best_, step, next_cursor_));
    const nlohmann::ordered_json best = {
        {"metric", metric}, {"value", value}, {"step", step}, {"checkpoint", best_.PathOf(step)}};
    DOPPEL_LOG(kInfo, "the best so far: ", DescribeBest());
    return WriteFileAtomically(fs_, directory_.BestFile(), best.dump() + "\n");
  }

  std::string DescribeBest() const {
    const EarlyStopState& state = early_stop_.state();
    return absl::StrCat(
        early_stop_.options().metric, " ", state.best, " at step ", state.best_step, " in ",
        directory_.Best(),
        state.since_best > 0 ? absl::StrCat(", no better in ", state.since_best, " evaluations since") : "");
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
  CheckpointStore best_;
  EarlyStop early_stop_;
  uint64_t next_cursor_ = 0;
  bool fresh_ = true;
  std::shared_ptr<const Catalog> catalog_;
  std::unique_ptr<TrainSession> session_;
  std::unique_ptr<StepsLog> steps_log_;
  std::unique_ptr<StepsLog> eval_log_;
  std::unique_ptr<RunBoard> board_;
  std::unique_ptr<Progress> progress_;
  // While the source is open.
  EmbeddingReporter* reporter_ = nullptr;
  ModelPublisher* publisher_ = nullptr;
  std::vector<BatchReport> reports_;  // that wait for their embeddings
  uint64_t published_ = 0;
  uint64_t offered_ = 0;
  double report_seconds_ = 0;
};

}  // namespace

absl::Status RunTrain(TrainOptions options, const TrainingSourceFactory& open_source, StopFlag& stop,
                      FileSystem& fs, bool quiet, const Clock& clock) {
  return TrainRun(std::move(options), open_source, stop, fs, quiet, clock).Run();
}

}  // namespace doppel
