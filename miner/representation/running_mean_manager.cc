#include "miner/representation/running_mean_manager.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr uint32_t kMaxReportDimension = 1 << 16;
constexpr uint32_t kMaxReportedSubspace = 1 << 24;
// Readers copy so many rows at a time, and reports get in between.
constexpr uint64_t kRowsPerLock = 4096;
// A mean of unit vectors is no longer than this.
constexpr double kMaxLength = 1.01;
// Of a batch in the mean active share.
constexpr double kNewestActive = 0.01;

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

absl::Status OutOfMemory(uint64_t identities, uint32_t dimension) {
  return absl::ResourceExhaustedError(absl::StrCat("no memory for the running means of ", identities,
                                                   " identities of dimension ", dimension));
}

absl::Status TakenOver(const std::string& run) {
  return absl::AbortedError(
      absl::StrCat("live: run ", run, " took the running means over meanwhile; try again"));
}

void FillStaleness(std::vector<uint64_t>& ages, v1::Staleness* staleness) {
  if (ages.empty()) return;
  std::sort(ages.begin(), ages.end());
  const auto at = [&ages](double share) {
    return ages[std::min(ages.size() - 1, static_cast<size_t>(share * static_cast<double>(ages.size())))];
  };
  double sum = 0;
  for (uint64_t age : ages) sum += static_cast<double>(age);
  staleness->set_mean(sum / static_cast<double>(ages.size()));
  staleness->set_p50(at(0.5));
  staleness->set_p90(at(0.9));
  staleness->set_p99(at(0.99));
  staleness->set_max(ages.back());
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunningMeanManager>> RunningMeanManager::Open(Options options) {
  std::unique_ptr<RunningMeanManager> manager(new RunningMeanManager(std::move(options)));
  RETURN_IF_ERROR(manager->Load());
  if (manager->options_.snapshot_interval > absl::ZeroDuration()) {
    manager->thread_ = std::thread([raw = manager.get()] { raw->RunSnapshots(); });
  }
  return manager;
}

RunningMeanManager::~RunningMeanManager() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

absl::Status RunningMeanManager::Load() {
  absl::MutexLock snapshot_lock(&snapshot_mutex_);
  bool ours = false;
  const auto on_header = [this, &ours](const v1::RunningMeanHeader& header) {
    absl::MutexLock lock(&mutex_);
    const std::vector<std::string>& earlier = options_.earlier_fingerprints;
    ours = header.catalog_fingerprint() == options_.catalog_fingerprint
               ? header.identities() == options_.identities
               : std::count(earlier.begin(), earlier.end(), header.catalog_fingerprint()) > 0 &&
                     header.identities() <= options_.identities;
    if (!ours) {
      DOPPEL_LOG(kWarning, options_.directory, ": the running means there are of catalog ",
                 header.catalog_fingerprint(), "; beginning anew");
      return absl::OkStatus();
    }
    means_ = std::make_unique<RunningMean>(options_.identities, static_cast<int>(header.dimension()),
                                           options_.half_life);
    if (!means_->ok()) return OutOfMemory(options_.identities, header.dimension());
    run_ = header.run();
    model_step_ = header.model_step();
    reports_ = header.reports();
    for (const v1::GenerationHardness& hardness : header.hardness()) hardness_.Restore(hardness);
    return absl::OkStatus();
  };
  const auto on_rows = [this, &ours](const v1::RunningMeanRows& rows) {
    if (!ours) return;
    const std::vector<float> means = Floats(rows.means());
    absl::MutexLock lock(&mutex_);
    for (int i = 0; i < rows.identities_size(); ++i) {
      means_->Restore(rows.identities(i), means.data() + static_cast<int64_t>(i) * means_->dimension(),
                      rows.weights(i), rows.samples(i), rows.model_steps(i));
    }
  };
  RETURN_IF_ERROR(store_.Load(on_header, on_rows).status());
  if (!ours) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  last_snapshot_ = options_.clock->Now();
  DOPPEL_LOG(kInfo, "running means of ", means_->num_seen(), " of ", means_->identities(),
             " identities, of run ", run_, " up to step ", model_step_);
  return absl::OkStatus();
}

absl::Status RunningMeanManager::ExtendTo(const std::string& catalog_fingerprint, uint64_t identities) {
  absl::MutexLock lock(&mutex_);
  if (means_ != nullptr && identities > means_->identities()) {
    auto grown = std::make_unique<RunningMean>(identities, means_->dimension(), options_.half_life);
    if (!grown->ok()) return OutOfMemory(identities, static_cast<uint32_t>(means_->dimension()));
    for (uint64_t i = 0; i < means_->identities(); ++i) {
      if (means_->seen(i))
        grown->Restore(i, means_->mean(i), means_->weight(i), means_->samples(i), means_->step(i));
    }
    means_ = std::move(grown);
  }
  identities_ = std::max(identities, identities_.load());
  catalog_fingerprint_ = catalog_fingerprint;
  ++changes_;  // the next snapshot is of the new catalog
  return absl::OkStatus();
}

// ---- reports

absl::Status RunningMeanManager::Check(const v1::StepReport& step) const {
  const auto bad = [&step](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("report of step ", step.model_step(), ": ", what));
  };
  const auto n = static_cast<size_t>(step.identities_size());
  if (step.dimension() == 0 || step.dimension() > kMaxReportDimension)
    return bad(absl::StrCat("dimension ", step.dimension(), " is not within 1 … ", kMaxReportDimension));
  if (step.embeddings().size() != n * step.dimension() * sizeof(float)) {
    return bad(absl::StrCat("embeddings has ", step.embeddings().size(), " bytes for ", n,
                            " identities of dimension ", step.dimension()));
  }
  if (static_cast<size_t>(step.samples_size()) != n)
    return bad(absl::StrCat("samples has ", step.samples_size(), " entries for ", n, " identities"));
  if (step.subspace() >= static_cast<int64_t>(kMaxReportedSubspace))
    return bad(absl::StrCat("subspace ", step.subspace(), " is out of range"));
  if (!std::isfinite(step.loss()) || !std::isfinite(step.active_share()))
    return bad("loss or active_share is not finite");
  const std::vector<float> values = Floats(step.embeddings());
  for (size_t i = 0; i < n; ++i) {
    const uint64_t identity = step.identities(static_cast<int>(i));
    if (identity >= identities_)
      return bad(absl::StrCat("identity ", identity, "; the catalog has ", identities_.load()));
    if (step.samples(static_cast<int>(i)) == 0)
      return bad(absl::StrCat("identity ", identity, " without samples"));
    double square = 0;
    for (uint32_t d = 0; d < step.dimension(); ++d) {
      const double value = values[i * step.dimension() + d];
      square += value * value;
    }
    // NaN fails, too.
    if (!(square <= kMaxLength * kMaxLength))
      return bad(absl::StrCat("identity ", identity, ": not a mean of vectors of unit length"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> RunningMeanManager::TakeOver(const v1::ReportStepsRequest& request,
                                                  v1::ReportStepsResponse* response) {
  const uint32_t dimension = request.steps(0).dimension();
  if (means_ != nullptr && run_ == request.run() && means_->dimension() == static_cast<int>(dimension)) {
    return true;
  }
  const absl::Time now = options_.clock->Now();
  if (means_ != nullptr && run_ != request.run() && now - last_report_ < options_.owner_patience) {
    ++refused_;
    response->set_reason(absl::StrCat("the live representations belong to run ", run_, ", which reported ",
                                      absl::ToInt64Seconds(now - last_report_), " s ago"));
    return false;
  }
  if (means_ != nullptr) {
    DOPPEL_LOG(kInfo, "run ", request.run(), " takes the live representations over from ", run_);
  }
  auto fresh = std::make_unique<RunningMean>(identities_, static_cast<int>(dimension), options_.half_life);
  if (!fresh->ok()) return OutOfMemory(identities_, dimension);
  means_ = std::move(fresh);
  ++epoch_;
  hardness_.Clear();
  active_generation_ = active_batches_ = 0;
  active_share_ = 0;
  run_ = request.run();
  model_step_ = 0;
  reports_ = 0;
  return true;
}

void RunningMeanManager::Apply(const v1::StepReport& step) {
  const std::vector<float> values = Floats(step.embeddings());
  for (int i = 0; i < step.identities_size(); ++i) {
    means_->Add(step.identities(i), values.data() + static_cast<size_t>(i) * step.dimension(),
                step.samples(i), step.model_step());
  }
  if (step.has_active_share()) CountActive(step);
  if (step.subspace() >= 0 && step.has_active_share()) {
    hardness_.Add(step.generation(), static_cast<uint32_t>(step.subspace()), step.active_share(), step.loss(),
                  step.model_step());
  }
  model_step_ = std::max(model_step_, step.model_step());
}

void RunningMeanManager::CountActive(const v1::StepReport& step) {
  if (step.generation() < active_generation_) return;
  if (step.generation() > active_generation_) {
    active_generation_ = step.generation();
    active_batches_ = 0;
    active_share_ = 0;
  }
  ++active_batches_;
  const double share = std::max(kNewestActive, 1.0 / static_cast<double>(active_batches_));
  active_share_ += share * (step.active_share() - active_share_);
}

absl::StatusOr<v1::ReportStepsResponse> RunningMeanManager::Report(const v1::ReportStepsRequest& request) {
  if (request.run().empty()) return absl::InvalidArgumentError("run: empty; name the training run");
  for (const v1::StepReport& step : request.steps()) {
    RETURN_IF_ERROR(Check(step));
    if (step.dimension() != request.steps(0).dimension())
      return absl::InvalidArgumentError("steps: of different dimensions");
  }
  v1::ReportStepsResponse response;
  absl::MutexLock lock(&mutex_);
  if (request.steps_size() > 0) {
    ASSIGN_OR_RETURN(const bool ours, TakeOver(request, &response));
    if (!ours) return response;
  }
  for (const v1::StepReport& step : request.steps()) Apply(step);
  reports_ += static_cast<uint64_t>(request.steps_size());
  changes_ += static_cast<uint64_t>(request.steps_size());
  dropped_ = std::max(dropped_, request.dropped_steps());
  last_report_ = options_.clock->Now();
  response.set_accepted(true);
  return response;
}

// ---- looking

v1::DescribeRepresentationsResponse RunningMeanManager::Describe(
    const IdentityRows& range, absl::Span<const uint64_t> identities) const {
  v1::DescribeRepresentationsResponse response;
  response.set_half_life_steps(options_.half_life);
  response.set_identities(range.size());
  response.set_snapshot_age_seconds(-1);
  std::vector<uint64_t> ages;
  ages.reserve(range.size());
  for (uint64_t at = 0; at < range.size(); at += kRowsPerLock) {
    absl::MutexLock lock(&mutex_);
    if (means_ == nullptr) break;
    for (uint64_t row = at; row < std::min(at + kRowsPerLock, range.size()); ++row) {
      const uint64_t i = range.Identity(row);
      if (means_->seen(i)) ages.push_back(model_step_ - means_->step(i));
    }
  }
  response.set_seen(ages.size());
  FillStaleness(ages, response.mutable_staleness());
  absl::MutexLock lock(&mutex_);
  const absl::Time now = options_.clock->Now();
  if (last_snapshot_ != absl::InfinitePast())
    response.set_snapshot_age_seconds(absl::ToDoubleSeconds(now - last_snapshot_));
  response.set_seconds_since_report(
      last_report_ == absl::InfinitePast() ? -1 : absl::ToDoubleSeconds(now - last_report_));
  response.set_run(run_);
  response.set_model_step(model_step_);
  response.set_reports(reports_);
  response.set_refused_reports(refused_);
  response.set_dropped_steps(dropped_);
  if (means_ != nullptr) {
    response.set_dimension(static_cast<uint32_t>(means_->dimension()));
    response.set_memory_bytes(means_->memory_bytes());
  }
  for (uint64_t identity : identities) {
    v1::IdentityStaleness* one = response.add_identity();
    one->set_identity(identity);
    if (means_ == nullptr || identity >= means_->identities() || !means_->seen(identity)) continue;
    one->set_seen(true);
    one->set_model_step(means_->step(identity));
    one->set_staleness(model_step_ - means_->step(identity));
    one->set_samples(means_->samples(identity));
  }
  return response;
}

v1::ListSubspaceHardnessResponse RunningMeanManager::Hardness(uint64_t generation) const {
  absl::MutexLock lock(&mutex_);
  return hardness_.List(generation);
}

RunningMeanManager::Training RunningMeanManager::DescribeTraining() const {
  absl::MutexLock lock(&mutex_);
  Training training;
  training.reports = changes_;
  training.generation = active_generation_;
  if (means_ == nullptr || options_.clock->Now() - last_report_ >= options_.owner_patience) return training;
  training.model_step = model_step_;
  if (active_batches_ >= kFewestBatches) training.active_share = active_share_;
  return training;
}

Matrix RunningMeanManager::Find(absl::Span<const uint64_t> identities, std::vector<uint64_t>* seen) const {
  Matrix rows;
  seen->clear();
  {
    absl::MutexLock lock(&mutex_);
    if (means_ == nullptr) return rows;
    rows.dimension = means_->dimension();
    rows.values.reserve(identities.size() * static_cast<size_t>(rows.dimension));
    for (uint64_t identity : identities) {
      if (identity >= means_->identities() || !means_->seen(identity)) continue;
      const float* mean = means_->mean(identity);
      rows.values.insert(rows.values.end(), mean, mean + rows.dimension);
      seen->push_back(identity);
    }
  }
  rows.rows = static_cast<int64_t>(seen->size());
  NormalizeRows(rows);
  return rows;
}

uint64_t RunningMeanManager::CountSeen(const IdentityRows& range) const {
  uint64_t seen = 0;
  for (uint64_t at = 0; at < range.size(); at += kRowsPerLock) {
    absl::MutexLock lock(&mutex_);
    if (means_ == nullptr) return 0;
    for (uint64_t row = at; row < std::min(at + kRowsPerLock, range.size()); ++row)
      seen += means_->seen(range.Identity(row)) ? 1 : 0;
  }
  return seen;
}

absl::Status RunningMeanManager::Covered(uint64_t seen, uint64_t of, double min_coverage) const {
  if (seen == 0) {
    return absl::FailedPreconditionError(
        "live: no trainer has reported embeddings of these identities yet; train with reporting on, or take "
        "a full or a sampled pass");
  }
  const double coverage = static_cast<double>(seen) / static_cast<double>(of);
  if (coverage >= min_coverage) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("live: run %s has reported %d of %d identities (%.1f %%), at least %.1f %% are asked "
                      "for: train on, take "
                      "a full or a sampled pass, or ask for less coverage",
                      run_, seen, of, 100 * coverage, 100 * min_coverage));
}

absl::Status RunningMeanManager::CheckCoverage(const IdentityRows& range, double min_coverage) const {
  const uint64_t seen = CountSeen(range);
  absl::MutexLock lock(&mutex_);
  return Covered(seen, range.size(), min_coverage);
}

absl::StatusOr<RunningMeanManager::Frozen> RunningMeanManager::Freeze(const IdentityRows& range,
                                                                      double min_coverage,
                                                                      const Fallback& fallback) const {
  RETURN_IF_ERROR(CheckCoverage(range, min_coverage));
  Frozen frozen;
  Matrix& rows = frozen.representations.rows;
  uint64_t epoch = 0;
  {
    absl::MutexLock lock(&mutex_);
    epoch = epoch_;
    frozen.run = run_;
    frozen.model_step = model_step_;
    rows.dimension = means_->dimension();
  }
  rows.rows = static_cast<int64_t>(range.size());
  rows.values.resize(range.size() * rows.dimension);
  std::vector<uint32_t>& samples = frozen.representations.samples;
  samples.resize(range.size());
  for (uint64_t at = 0; at < range.size(); at += kRowsPerLock) {
    absl::MutexLock lock(&mutex_);
    if (epoch_ != epoch) return TakenOver(run_);
    const uint64_t end = std::min(at + kRowsPerLock, range.size());
    for (uint64_t i = at; i < end; ++i) {
      const uint64_t identity = range.Identity(i);
      std::copy_n(means_->mean(identity), rows.dimension, rows.row(static_cast<int64_t>(i)));
      samples[i] = static_cast<uint32_t>(std::min<uint64_t>(means_->samples(identity), UINT32_MAX));
    }
  }
  for (uint64_t i = 0; i < range.size(); ++i) {
    frozen.seen += samples[i] > 0 ? 1 : 0;
    if (samples[i] > 0 || !fallback) continue;
    const absl::Span<const float> row = fallback(range.Identity(i));
    if (row.size() == static_cast<size_t>(rows.dimension))
      std::copy(row.begin(), row.end(), rows.row(static_cast<int64_t>(i)));
  }
  NormalizeRows(rows);
  return frozen;
}

RunningMeanManager::Stale RunningMeanManager::FindStale(const IdentityRows& range, uint64_t max_age) const {
  Stale stale;
  for (uint64_t at = 0; at < range.size(); at += kRowsPerLock) {
    absl::MutexLock lock(&mutex_);
    if (stale.run != run_) {
      // Taken over meanwhile: what was fresh is not any more.
      stale.run = run_;
      stale.identities.clear();
      for (uint64_t row = 0; row < at; ++row) stale.identities.push_back(range.Identity(row));
    }
    stale.dimension = means_ == nullptr ? 0 : means_->dimension();
    for (uint64_t row = at; row < std::min(at + kRowsPerLock, range.size()); ++row) {
      const uint64_t i = range.Identity(row);
      const bool fresh = means_ != nullptr && means_->seen(i) && model_step_ - means_->step(i) <= max_age;
      if (!fresh) stale.identities.push_back(i);
    }
  }
  return stale;
}

// ---- snapshots

absl::StatusOr<v1::RunningMeanRows> RunningMeanManager::CopyRows(uint64_t epoch, uint64_t first,
                                                                 uint64_t end) const {
  v1::RunningMeanRows rows;
  absl::MutexLock lock(&mutex_);
  if (epoch_ != epoch) return TakenOver(run_);
  const size_t row_bytes = static_cast<size_t>(means_->dimension()) * sizeof(float);
  for (uint64_t i = first; i < end; ++i) {
    if (!means_->seen(i)) continue;
    rows.add_identities(i);
    rows.add_weights(means_->weight(i));
    rows.add_model_steps(means_->step(i));
    rows.add_samples(means_->samples(i));
    rows.mutable_means()->append(reinterpret_cast<const char*>(means_->mean(i)), row_bytes);
  }
  return rows;
}

absl::Status RunningMeanManager::Snapshot() {
  absl::MutexLock snapshot_lock(&snapshot_mutex_);
  v1::RunningMeanHeader header;
  uint64_t epoch = 0;
  uint64_t changes = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (means_ == nullptr || changes_ == saved_changes_) return absl::OkStatus();
    epoch = epoch_;
    changes = changes_;
    header.set_catalog_fingerprint(catalog_fingerprint_);
    header.set_run(run_);
    header.set_dimension(static_cast<uint32_t>(means_->dimension()));
    header.set_identities(means_->identities());
    header.set_model_step(model_step_);
    header.set_reports(reports_);
    for (v1::GenerationHardness& hardness : hardness_.Save()) *header.add_hardness() = std::move(hardness);
  }
  uint64_t at = 0;
  const uint64_t all = header.identities();
  const auto next = [this, &at, all, epoch]() -> absl::StatusOr<std::optional<v1::RunningMeanRows>> {
    if (at >= all) return std::optional<v1::RunningMeanRows>();
    const uint64_t end = std::min(at + kRowsPerLock, all);
    ASSIGN_OR_RETURN(v1::RunningMeanRows rows, CopyRows(epoch, at, end));
    at = end;
    return std::optional<v1::RunningMeanRows>(std::move(rows));
  };
  RETURN_IF_ERROR(store_.Save(std::move(header), next));
  saved_changes_ = changes;
  absl::MutexLock lock(&mutex_);
  last_snapshot_ = options_.clock->Now();
  return absl::OkStatus();
}

void RunningMeanManager::RunSnapshots() {
  bool stopping = false;
  while (!stopping) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.snapshot_interval);
      stopping = stopping_;
    }
    const absl::Status status = Snapshot();
    if (!status.ok()) DOPPEL_LOG(kError, "no snapshot of the running means: ", status.ToString());
  }
}

}  // namespace doppel
