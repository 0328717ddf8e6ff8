#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/catalog/readers/reader.h"

namespace doppel::testing {

// Everything that a data set's parts give, in order.
struct ReadAll {
  std::vector<SampleEntry> entries;
  std::vector<SkippedRecord> skips;
  absl::Status status;

  explicit ReadAll(const DatasetReader& dataset) {
    for (size_t part = 0; part < dataset.num_parts() && status.ok(); ++part) {
      auto reader = dataset.OpenPart(part);
      status = reader.status();
      while (status.ok()) {
        auto item = (*reader)->Next();
        status = item.status();
        if (!status.ok() || std::holds_alternative<ReaderEnd>(*item)) break;
        if (auto* entry = std::get_if<SampleEntry>(&*item)) entries.push_back(*entry);
        if (auto* skip = std::get_if<SkippedRecord>(&*item)) skips.push_back(*skip);
      }
    }
  }
  // "key=identity" of each entry.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const SampleEntry& entry : entries) names.push_back(absl::StrCat(entry.key, "=", entry.identity));
    return names;
  }
  // "record: reason" of each skip.
  std::vector<std::string> Reasons() const {
    std::vector<std::string> reasons;
    for (const SkippedRecord& skip : skips) reasons.push_back(absl::StrCat(skip.record, ": ", skip.reason));
    return reasons;
  }
};

}  // namespace doppel::testing
