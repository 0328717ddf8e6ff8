#include "services/trainer_worker/run_board.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/image/contact_sheet.h"
#include "common/image/image.h"
#include "services/trainer_worker/eval_metrics.h"

namespace doppel {
namespace {

void AddPercentiles(EventLog& log, const std::string& name, const Percentiles& p) {
  log.AddScalar(absl::StrCat(name, "/p5"), p.p5);
  log.AddScalar(absl::StrCat(name, "/p50"), p.p50);
  log.AddScalar(absl::StrCat(name, "/p95"), p.p95);
}

SheetCell CellOf(const TrainingBatch& batch, int64_t row, const std::string& label) {
  SheetCell cell;
  cell.label = label;
  cell.image.height = batch.height;
  cell.image.width = batch.width;
  cell.image.channels = batch.channels;
  const size_t bytes = size_t(batch.height) * batch.width * batch.channels;
  const auto begin = batch.pixels.begin() + static_cast<ptrdiff_t>(bytes) * row;
  cell.image.pixels.assign(begin, begin + static_cast<ptrdiff_t>(bytes));
  return cell;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunBoard>> RunBoard::Open(FileSystem& fs, const std::string& directory,
                                                         const TrainOptions& options, uint64_t first_step,
                                                         const Clock& clock) {
  ASSIGN_OR_RETURN(std::unique_ptr<EventLog> log, EventLog::Open(fs, directory, first_step, clock.Now()));
  return std::unique_ptr<RunBoard>(new RunBoard(std::move(log), options, clock));
}

absl::Status RunBoard::AddDetails(const StepSnapshot& snapshot, const TrainingBatch& batch) {
  details_pending_ = true;
  log_->AddHistogram("batch/norm", snapshot.norms);
  log_->AddHistogram("batch/d_ap", snapshot.d_ap);
  log_->AddHistogram("batch/d_an", snapshot.d_an);
  for (const auto& [name, histogram] : snapshot.weights) {
    log_->AddHistogram(absl::StrCat("weights/", name), histogram);
  }
  return AddHardest(snapshot, batch);
}

absl::Status RunBoard::AddHardest(const StepSnapshot& snapshot, const TrainingBatch& batch) {
  if (snapshot.hardest.empty()) return absl::OkStatus();
  std::vector<SheetCell> cells;
  cells.reserve(3 * snapshot.hardest.size());
  for (const HardTriplet& triplet : snapshot.hardest) {
    cells.push_back(
        CellOf(batch, triplet.anchor, absl::StrCat("id ", batch.identities[size_t(triplet.anchor)])));
    cells.push_back(CellOf(batch, triplet.positive, absl::StrFormat("+ %.2f", triplet.d_ap)));
    cells.push_back(CellOf(batch, triplet.negative, absl::StrFormat("- %.2f", triplet.d_an)));
  }
  SheetOptions sheet;
  sheet.columns = 3;
  sheet.cell = std::clamp(std::max(batch.height, batch.width), 64, 160);
  ASSIGN_OR_RETURN(const Image image, MakeContactSheet(cells, sheet));
  ASSIGN_OR_RETURN(std::string png, EncodePng(image));
  log_->AddImage("batch/hardest triplets", image.height, image.width, image.channels, std::move(png));
  return absl::OkStatus();
}

absl::Status RunBoard::Step(const StepRecord& record) {
  const bool details = std::exchange(details_pending_, false);
  if (!details && record.step % every_ != 0 && record.step != 1) return absl::OkStatus();
  const LossStatistics& loss = record.statistics.loss;
  log_->AddScalar("train/loss", loss.loss);
  log_->AddScalar("train/active", loss.active);
  log_->AddScalar("train/learning_rate", record.learning_rate);
  log_->AddScalar("train/grad_norm", record.statistics.grad_norm);
  log_->AddScalar("train/skipped", record.statistics.skipped ? 1 : 0);
  AddPercentiles(*log_, "d_ap", loss.d_ap);
  AddPercentiles(*log_, "d_an", loss.d_an);
  AddPercentiles(*log_, "norm", loss.norm);
  log_->AddScalar("speed/images_per_second", record.images_per_second);
  log_->AddScalar("speed/wait_seconds", record.wait_seconds);
  log_->AddScalar("speed/step_seconds", record.step_seconds);
  log_->AddScalar("batch/generation", static_cast<double>(record.generation));
  log_->AddScalar("batch/epoch", static_cast<double>(record.epoch));
  log_->AddScalar("batch/mean_similarity", record.mean_similarity);
  return log_->Write(record.step, clock_.Now());
}

absl::Status RunBoard::Evaluation(uint64_t step, const std::string& report) {
  for (const auto& [name, value] : EvaluationMetrics(report)) {
    log_->AddScalar(absl::StrCat("eval/", name), value);
  }
  return log_->Write(step, clock_.Now());
}

}  // namespace doppel
