#include "common/catalog/dataset_reading.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

// Reads the parts side by side. What comes of a part is kept by its number, so the outcome does not depend on
// who read it when: the error returned is that of the first part that has one.
class PartsReading {
 public:
  // `journal` may be null.
  PartsReading(const DatasetReader& dataset, const CatalogBuildOptions& options, ImportJournal* journal,
               EntryCollector* entries)
      : dataset_(dataset),
        journal_(journal),
        strict_(options.strict),
        first_failed_(dataset.num_parts()),
        skipped_(dataset.num_parts()),
        errors_(dataset.num_parts()),
        progress_({"import", dataset.work_unit(), dataset.total_work(), stderr, options.quiet}),
        collector_(*entries) {}

  absl::Status Run(int threads) {
    ParallelFor(static_cast<int64_t>(dataset_.num_parts()), 1, threads, [this](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) ReadPart(static_cast<size_t>(part));
    });
    progress_.Finish();
    return first_failed_ < errors_.size() ? errors_[first_failed_] : absl::OkStatus();
  }

  uint64_t resumed() const { return resumed_; }
  std::vector<SkippedRecord> TakeSkipped() {
    std::vector<SkippedRecord> all;
    for (std::vector<SkippedRecord>& part : skipped_) {
      std::move(part.begin(), part.end(), std::back_inserter(all));
      part = {};
    }
    return all;
  }

 private:
  static constexpr size_t kBatch = 1024;

  void ReadPart(size_t part) {
    if (part > first_failed_) return;
    errors_[part] = TryReadPart(part);
    if (errors_[part].ok()) return;
    size_t failed = first_failed_;
    while (part < failed && !first_failed_.compare_exchange_weak(failed, part)) {
    }
  }

  absl::Status TryReadPart(size_t part) {
    const std::string stamp = journal_ == nullptr ? "" : dataset_.PartStamp(part);
    ImportJournal::Part read;
    if (journal_ != nullptr && journal_->Take(stamp, &read)) {
      if (strict_ && !read.skipped.empty()) return StrictError(read.skipped.front());
      skipped_[part] = std::move(read.skipped);
      ++resumed_;
      return Collect(read.entries);
    }
    ASSIGN_OR_RETURN(const std::unique_ptr<SampleReader> reader, dataset_.OpenPart(part));
    uint64_t reported = 0;
    size_t collected = 0;
    bool end = false;
    while (!end) {
      if (part > first_failed_) return absl::OkStatus();
      ASSIGN_OR_RETURN(ReaderItem item, reader->Next());
      end = std::holds_alternative<ReaderEnd>(item);
      if (auto* skip = std::get_if<SkippedRecord>(&item)) {
        if (strict_) return StrictError(*skip);
        read.skipped.push_back(std::move(*skip));
      } else if (auto* entry = std::get_if<SampleEntry>(&item)) {
        read.entries.push_back(std::move(*entry));
      }
      if (read.entries.size() - collected < kBatch && !end) continue;
      if (journal_ == nullptr) {
        RETURN_IF_ERROR(Collect(read.entries));
        read.entries.clear();
      }
      collected = read.entries.size();
      progress_.Add(reader->work_done() - reported);
      reported = reader->work_done();
    }
    if (journal_ != nullptr) {
      RETURN_IF_ERROR(journal_->Add(stamp, read));
      RETURN_IF_ERROR(Collect(read.entries));
    }
    skipped_[part] = std::move(read.skipped);
    return absl::OkStatus();
  }

  absl::Status Collect(const std::vector<SampleEntry>& batch) {
    absl::MutexLock lock(&mutex_);
    for (const SampleEntry& entry : batch) RETURN_IF_ERROR(collector_.Add(entry));
    return absl::OkStatus();
  }

  const DatasetReader& dataset_;
  ImportJournal* const journal_;
  std::atomic<uint64_t> resumed_{0};
  const bool strict_;
  std::atomic<size_t> first_failed_;
  std::vector<std::vector<SkippedRecord>> skipped_;  // each element: by the thread that reads the part
  std::vector<absl::Status> errors_;                 // the same
  Progress progress_;
  absl::Mutex mutex_;
  EntryCollector& collector_ ABSL_GUARDED_BY(mutex_);
};

void NameDuplicates(const DatasetReader& dataset, const EntryCollector& entries,
                    std::vector<SkippedRecord>* skipped) {
  for (const EntryCollector::Sample& sample : entries.duplicates()) {
    skipped->push_back({dataset.sources()[sample.source].path(), std::string(sample.key()), "duplicate",
                        absl::StrCat("identity \"", absl::CEscape(entries.arrived_name(sample.identity)),
                                     "\" has this key already")});
  }
}

}  // namespace

std::string DescribeSkip(const SkippedRecord& skip) {
  return absl::StrCat(absl::CEscape(skip.file), skip.record.empty() ? "" : ": ", absl::CEscape(skip.record),
                      ": ", skip.reason, skip.detail.empty() ? "" : ": ", absl::CEscape(skip.detail));
}

absl::Status StrictError(const SkippedRecord& skip) {
  return absl::DataLossError(absl::StrCat(
      DescribeSkip(skip), ". Mend the data, or import without --strict to leave such records out"));
}

absl::Status NothingFound(const DatasetReader& dataset, const std::vector<SkippedRecord>& skipped) {
  std::string text =
      absl::StrCat("no usable sample in ", dataset.sources().empty() ? "" : dataset.sources()[0].path(),
                   " as ", dataset.format());
  if (!skipped.empty()) {
    absl::StrAppend(&text, ": ", skipped.size(),
                    " records left out, the first: ", DescribeSkip(skipped.front()));
  }
  return absl::InvalidArgumentError(text);
}

absl::Status ReadDataset(const DatasetReader& dataset, const CatalogBuildOptions& options,
                         ImportJournal* journal, EntryCollector* entries, CatalogBuildSummary* summary) {
  PartsReading reading(dataset, options, journal, entries);
  RETURN_IF_ERROR(reading.Run(std::max(options.threads, 1)));
  entries->Sort();
  summary->resumed_parts = reading.resumed();
  summary->skipped = reading.TakeSkipped();
  NameDuplicates(dataset, *entries, &summary->skipped);
  if (options.strict && !summary->skipped.empty()) return StrictError(summary->skipped.front());
  for (const SkippedRecord& skip : summary->skipped) ++summary->skipped_by_reason[skip.reason];
  return absl::OkStatus();
}

}  // namespace doppel
