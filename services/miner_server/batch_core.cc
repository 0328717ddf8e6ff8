#include "services/miner_server/batch_core.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_version.h"
#include "common/image/image.h"

namespace doppel {
namespace {

constexpr uint32_t kMaxImageSide = 8192;
constexpr size_t kCachedPlans = 8;
// So that no stream can reach the end of 64 bits and begin again at 0.
constexpr uint64_t kLastCursor = uint64_t{1} << 62;
// Longer than a trainer should hold what it was given.
constexpr double kMaxLeaseSeconds = 3600;
// Once reading has waited for a disk, what comes next is read ahead for so long, and so far.
constexpr absl::Duration kColdFor = absl::Seconds(2);
constexpr uint64_t kReadAheadBatches = 4;

constexpr uint64_t kSamplesForTheMean = 1024;
// What a sample's numbers, key and path take, roughly.
constexpr uint64_t kBytesAroundASample = 128;

// Of the calling thread: pages that had to be read from a disk.
int64_t MajorFaults() {
  rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_majflt : 0;
}

absl::Status Invalid(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

bool IsGrey(const Image& image) {
  for (size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
    if (image.pixels[i] != image.pixels[i + 1] || image.pixels[i] != image.pixels[i + 2]) return false;
  }
  return true;
}

// `spec.image` is complete for DECODED.
uint64_t ExpectedBytes(const v1::StreamSpec& spec, uint64_t sample_bytes) {
  uint64_t each = kBytesAroundASample;
  if (spec.payload() == v1::PAYLOAD_KIND_ENCODED) each += sample_bytes;
  if (spec.payload() == v1::PAYLOAD_KIND_DECODED) {
    each += uint64_t{spec.image().height()} * spec.image().width() * spec.image().channels();
  }
  return uint64_t{spec.plan().identities_per_batch()} * spec.plan().samples_per_identity() * each;
}

}  // namespace

BatchCore::BatchCore(std::shared_ptr<Miner> miner, BatchLimits limits, SteeredPlans* steering)
    : miner_(std::move(miner)), limits_(limits), steering_(steering) {
  Newest();
}

uint64_t BatchCore::MeanSampleBytes(const Catalog& catalog) {
  const uint64_t samples = catalog.num_samples(), looked_at = std::min(samples, kSamplesForTheMean);
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < looked_at; ++i) bytes += catalog.Sample(i * samples / looked_at).size;
  return looked_at == 0 ? 0 : bytes / looked_at;
}

BatchCore::Version& BatchCore::Newest() {
  const std::shared_ptr<const Catalog> catalog = miner_->catalog();
  absl::MutexLock lock(&mutex_);
  if (versions_.empty() || versions_.back().catalog != catalog) versions_.emplace_back(catalog);
  return versions_.back();
}

absl::Status BatchCore::Validate(const v1::StreamSpec& spec) const {
  const v1::PlanSpec& plan = spec.plan();
  if (plan.name().empty()) return Invalid("plan.name", "is not set: ask for \"auto\" or another plan");
  if (plan.identities_per_batch() == 0)
    return Invalid("plan.identities_per_batch", "is 0: P must be at least 1");
  if (plan.samples_per_identity() == 0)
    return Invalid("plan.samples_per_identity", "is 0: K must be at least 1");
  const uint64_t samples = uint64_t{plan.identities_per_batch()} * plan.samples_per_identity();
  if (samples > limits_.max_batch_samples) {
    return Invalid("plan.identities_per_batch",
                   absl::StrCat("P * K = ", samples, " is more than this server's max_batch_samples = ",
                                limits_.max_batch_samples));
  }
  const v1::WorkSharing& sharing = spec.sharing();
  if (sharing.mode() == v1::WorkSharing::MODE_STATIC && sharing.shard() >= sharing.shards()) {
    return Invalid("sharing.shard",
                   absl::StrCat(sharing.shard(), " is not below sharing.shards = ", sharing.shards()));
  }
  if (std::max(spec.cursor(), sharing.end_cursor()) > kLastCursor) {
    return Invalid(spec.cursor() > kLastCursor ? "cursor" : "sharing.end_cursor",
                   absl::StrCat("is beyond ", kLastCursor, ": no training is that long, was it negative?"));
  }
  if (!v1::WorkSharing::Mode_IsValid(sharing.mode())) {
    return Invalid("sharing.mode", absl::StrCat("is ", static_cast<int>(sharing.mode()),
                                                ": ask for INDEPENDENT, STATIC or DYNAMIC"));
  }
  // Not a number is none of it either.
  if (!(sharing.lease_seconds() >= 0 && sharing.lease_seconds() <= kMaxLeaseSeconds)) {
    return Invalid("sharing.lease_seconds",
                   absl::StrCat("is ", sharing.lease_seconds(), ": it must lie between 0 (",
                                "the default, 60) and ", kMaxLeaseSeconds));
  }
  switch (spec.payload()) {
    case v1::PAYLOAD_KIND_REFERENCE:
    case v1::PAYLOAD_KIND_ENCODED:
    case v1::PAYLOAD_KIND_DECODED:
      break;
    default:
      return Invalid("payload", absl::StrCat("is ", static_cast<int>(spec.payload()),
                                             ": ask for REFERENCE, ENCODED or DECODED"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ImageShape> BatchCore::FirstImageShape() {
  {
    absl::MutexLock lock(&mutex_);
    if (first_image_.has_value()) return *first_image_;
  }
  const std::shared_ptr<const Catalog> catalog = miner_->catalog();
  ASSIGN_OR_RETURN(const SampleBytes bytes, catalog->Read(0));
  absl::StatusOr<Image> image = DecodeImage(bytes.data, 3);
  if (!image.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("the first image of the catalog (",
                                                      catalog->SampleKey(0), "): ", image.status().message(),
                                                      ": set `image` yourself"));
  }
  v1::ImageShape shape;
  shape.set_height(static_cast<uint32_t>(image->height));
  shape.set_width(static_cast<uint32_t>(image->width));
  shape.set_channels(IsGrey(*image) ? 1 : 3);
  absl::MutexLock lock(&mutex_);
  first_image_ = shape;
  return shape;
}

absl::StatusOr<v1::ImageShape> BatchCore::CompleteShape(const v1::StreamSpec& spec) {
  v1::ImageShape shape = spec.image();
  if (shape.height() == 0 || shape.width() == 0 || shape.channels() == 0) {
    ASSIGN_OR_RETURN(const v1::ImageShape first, FirstImageShape());
    if (shape.height() == 0) shape.set_height(first.height());
    if (shape.width() == 0) shape.set_width(first.width());
    if (shape.channels() == 0) shape.set_channels(first.channels());
  }
  if (shape.height() > kMaxImageSide) {
    return Invalid("image.height", absl::StrCat(shape.height(), " is more than ", kMaxImageSide));
  }
  if (shape.width() > kMaxImageSide) {
    return Invalid("image.width", absl::StrCat(shape.width(), " is more than ", kMaxImageSide));
  }
  if (shape.channels() != 1 && shape.channels() != 3) {
    return Invalid("image.channels", absl::StrCat(shape.channels(), " is neither 1 (grey) nor 3 (RGB)"));
  }
  const uint64_t pixels = uint64_t{spec.plan().identities_per_batch()} * spec.plan().samples_per_identity() *
                          shape.height() * shape.width() * shape.channels();
  if (pixels > limits_.max_batch_bytes) {
    return Invalid("image", absl::StrCat("a batch of ", pixels,
                                         " bytes of pixels is more than this server's max_batch_bytes = ",
                                         limits_.max_batch_bytes, ": ask for smaller batches or images"));
  }
  return shape;
}

absl::StatusOr<std::shared_ptr<const Plan>> BatchCore::PlanFor(
    const v1::StreamSpec& spec, const std::shared_ptr<const Catalog>& drawn_from,
    const std::shared_ptr<const Generation>& generation) {
  const std::string key =
      absl::StrCat(generation == nullptr ? drawn_from->fingerprint() : absl::StrCat(generation->number()),
                   ":", spec.seed(), ":", spec.plan().SerializeAsString());
  {
    absl::MutexLock lock(&mutex_);
    auto cached =
        std::find_if(plans_.begin(), plans_.end(), [&](const CachedPlan& plan) { return plan.key == key; });
    if (cached != plans_.end()) {
      CachedPlan found = std::move(*cached);
      plans_.erase(cached);
      plans_.push_front(std::move(found));
      return plans_.front().plan;
    }
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan,
                   MakePlan(spec.plan(), spec.seed(), drawn_from, generation));
  absl::MutexLock lock(&mutex_);
  plans_.push_front({key, plan});
  if (plans_.size() > kCachedPlans) plans_.pop_back();
  return plan;
}

absl::StatusOr<std::shared_ptr<const BoundStream>> BatchCore::Bind(const v1::StreamSpec& spec) {
  RETURN_IF_ERROR(Validate(spec));
  auto stream = std::make_shared<BoundStream>();
  stream->spec = spec;
  if (spec.generation() != 0) {
    ASSIGN_OR_RETURN(stream->generation, miner_->GetGeneration(spec.generation()));
  } else {
    stream->generation = miner_->ActiveGeneration();
  }
  const std::vector<std::string> plans = PlanNames();
  if (stream->generation == nullptr && PlanNeedsGeneration(spec.plan()) &&
      std::find(plans.begin(), plans.end(), spec.plan().name()) != plans.end()) {
    return absl::FailedPreconditionError(
        absl::StrCat("plan \"", spec.plan().name(),
                     "\" needs a generation and there is none yet: run `doppel recluster` first"));
  }
  if (spec.payload() == v1::PAYLOAD_KIND_DECODED) {
    ASSIGN_OR_RETURN(*stream->spec.mutable_image(), CompleteShape(spec));
  }
  // After the generation: its catalog is there by then.
  Version& newest = Newest();
  stream->catalog = newest.catalog;
  stream->builder = &newest.builder;
  stream->expected_bytes = ExpectedBytes(stream->spec, newest.sample_bytes);
  // A batch is what it was when its generation was made, whatever has been appended since.
  stream->drawn_from = newest.catalog;
  if (stream->generation != nullptr &&
      HasVersion(*newest.catalog, stream->generation->info().catalog_fingerprint())) {
    ASSIGN_OR_RETURN(stream->drawn_from,
                     CatalogAtVersion(newest.catalog, stream->generation->info().catalog_fingerprint()));
  }
  if (spec.plan().has_steering() && steering_ != nullptr) {
    ASSIGN_OR_RETURN(stream->steered, steering_->Join(spec.plan(), spec.seed()));
    ASSIGN_OR_RETURN(const auto bound, stream->steered->Bind(stream->generation, stream->drawn_from));
    stream->plan = bound->plan;
    return std::shared_ptr<const BoundStream>(std::move(stream));
  }
  ASSIGN_OR_RETURN(stream->plan, PlanFor(spec, stream->drawn_from, stream->generation));
  return std::shared_ptr<const BoundStream>(std::move(stream));
}

bool BatchCore::IsCurrent(const BoundStream& stream) const {
  return stream.spec.generation() != 0 || miner_->ActiveGeneration() == stream.generation;
}

absl::StatusOr<PlannedBatch> BatchCore::Draw(const BoundStream& stream, uint64_t cursor) {
  if (stream.steered == nullptr) {
    PlannedBatch planned = stream.plan->At(cursor);
    planned.decision = DecisionAt(stream.spec.plan(), cursor);
    return planned;
  }
  ASSIGN_OR_RETURN(const auto bound, stream.steered->At(cursor, stream.generation, stream.drawn_from));
  PlannedBatch planned = bound->plan->At(cursor);
  planned.decision = DecisionAt(bound->spec, cursor);
  return planned;
}

absl::StatusOr<WireBatch> BatchCore::Build(const BoundStream& stream, uint64_t cursor,
                                           BatchEnvelope envelope) {
  BuildOptions options;
  options.envelope = envelope;
  options.part_bytes = envelope == BatchEnvelope::kStreamBatches ? limits_.part_bytes : 0;
  // A stream has several batches in the making instead.
  options.decode_threads = envelope == BatchEnvelope::kStreamBatches ? 1 : limits_.decode_threads;
  options.borrow_bytes = limits_.borrow_bytes;
  ASSIGN_OR_RETURN(const PlannedBatch planned, Draw(stream, cursor));
  const bool reads = limits_.read_ahead && stream.spec.payload() != v1::PAYLOAD_KIND_REFERENCE;
  if (reads) ReadAhead(stream, planned);
  const int64_t faults = MajorFaults();
  absl::StatusOr<WireBatch> batch =
      stream.builder->Build(stream.generation.get(), stream.spec, planned, options);
  if (reads && MajorFaults() > faults) cold_until_ = absl::ToUnixNanos(absl::Now() + kColdFor);
  return batch;
}

void BatchCore::ReadAhead(const BoundStream& stream, const PlannedBatch& planned) {
  if (absl::ToUnixNanos(absl::Now()) >= cold_until_) return;
  const v1::WorkSharing& sharing = stream.spec.sharing();
  const uint64_t stride = sharing.mode() == v1::WorkSharing::MODE_STATIC ? sharing.shards() : 1;
  stream.builder->ReadAhead(planned);
  stream.builder->ReadAhead(stream.plan->At(planned.cursor + kReadAheadBatches * stride));
}

}  // namespace doppel
