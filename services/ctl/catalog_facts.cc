#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/progress.h"
#include "services/ctl/catalog_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {
constexpr uint64_t kBarWidth = 40;
constexpr size_t kShownSkips = 20;

std::string Place(const SkippedRecord& skip) {
  return skip.record.empty() ? skip.file : absl::StrCat(skip.file, ": ", skip.record);
}
}  // namespace

std::vector<std::pair<std::string, uint64_t>> SamplesHistogram(const Catalog& catalog) {
  std::vector<uint64_t> buckets;
  for (uint64_t i = 0; i < catalog.num_identities(); ++i) {
    const uint64_t count = catalog.Samples(i).count;
    size_t bucket = 0;  // bucket b holds (2^(b-1), 2^b]
    while ((uint64_t{1} << bucket) < count) ++bucket;
    if (bucket >= buckets.size()) buckets.resize(bucket + 1);
    ++buckets[bucket];
  }
  std::vector<std::pair<std::string, uint64_t>> histogram;
  for (size_t b = 0; b < buckets.size(); ++b) {
    if (buckets[b] == 0 && histogram.empty()) continue;
    const uint64_t high = uint64_t{1} << b, low = high / 2 + 1;
    histogram.emplace_back(low >= high ? absl::StrCat(high) : absl::StrCat(low, "-", high), buckets[b]);
  }
  return histogram;
}

std::string RenderCatalog(const Catalog& catalog, bool colour) {
  std::string text = RenderFields({{"catalog", catalog.directory()},
                                   {"fingerprint", catalog.fingerprint()},
                                   {"identities", FormatCount(catalog.num_identities())},
                                   {"samples", FormatCount(catalog.num_samples())}});
  Table splits({{"SPLIT"}, {"IDENTITIES", Table::Align::kRight}, {"SAMPLES", Table::Align::kRight}});
  for (const CatalogSplitInfo& split : catalog.splits()) {
    splits.AddRow({split.name, FormatCount(split.identities), FormatCount(split.samples)});
  }
  Table histogram(
      {{"SAMPLES PER IDENTITY", Table::Align::kRight}, {"IDENTITIES", Table::Align::kRight}, {""}});
  const auto buckets = SamplesHistogram(catalog);
  uint64_t largest = 1;
  for (const auto& [name, count] : buckets) largest = std::max(largest, count);
  for (const auto& [name, count] : buckets) {
    histogram.AddRow(
        {name, FormatCount(count), std::string((count * kBarWidth + largest - 1) / largest, '#')});
  }
  const PixelShape raw = catalog.RawShape(0);
  if (raw.bytes() > 0) {
    absl::StrAppend(&text, "raw pixels   ", raw.height, "x", raw.width, ", ", raw.channels, " channels\n");
  }
  absl::StrAppend(&text, "\n", splits.Render(colour), "\n", histogram.Render(colour));
  return text;
}

std::string CatalogJson(const Catalog& catalog) {
  nlohmann::ordered_json json = {
      {"catalog", catalog.directory()},         {"fingerprint", catalog.fingerprint()},
      {"identities", catalog.num_identities()}, {"samples", catalog.num_samples()},
      {"splits", nlohmann::json::array()},      {"samples_per_identity", nlohmann::json::array()}};
  const PixelShape raw = catalog.RawShape(0);
  if (raw.bytes() > 0) {
    json["raw_pixels"] = {{"height", raw.height}, {"width", raw.width}, {"channels", raw.channels}};
  }
  for (const CatalogSplitInfo& split : catalog.splits()) {
    json["splits"].push_back(
        {{"name", split.name}, {"identities", split.identities}, {"samples", split.samples}});
  }
  for (const auto& [name, count] : SamplesHistogram(catalog)) {
    json["samples_per_identity"].push_back({{"samples", name}, {"identities", count}});
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string RenderSkipped(const std::vector<SkippedRecord>& skipped,
                          const std::map<std::string, uint64_t>& by_reason, const std::string& catalog,
                          bool colour) {
  if (skipped.empty()) return "";
  std::string text = "\nleft out\n";
  for (const auto& [reason, count] : by_reason) {
    absl::StrAppend(&text, "  ", FormatCount(count), " ", reason, "\n");
  }
  Table table({{"RECORD"}, {"REASON"}, {"DETAIL"}});
  for (size_t i = 0; i < skipped.size() && i < kShownSkips; ++i) {
    table.AddRow({Place(skipped[i]), skipped[i].reason, skipped[i].detail});
  }
  absl::StrAppend(&text, "\n", table.Render(colour));
  if (skipped.size() > kShownSkips) {
    absl::StrAppend(&text, "… and ", FormatCount(skipped.size() - kShownSkips), " more: all of them are in ",
                    catalog, "/skipped.jsonl\n");
  }
  return text;
}

std::string SkippedJson(const std::vector<SkippedRecord>& skipped,
                        const std::map<std::string, uint64_t>& by_reason) {
  nlohmann::ordered_json json = {
      {"count", skipped.size()}, {"by_reason", nlohmann::json::object()}, {"first", nlohmann::json::array()}};
  for (const auto& [reason, count] : by_reason) json["by_reason"][reason] = count;
  for (size_t i = 0; i < skipped.size() && i < kShownSkips; ++i) {
    const SkippedRecord& skip = skipped[i];
    json["first"].push_back(
        {{"file", skip.file}, {"record", skip.record}, {"reason", skip.reason}, {"detail", skip.detail}});
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace doppel
