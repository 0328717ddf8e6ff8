#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog_lock.h"
#include "common/catalog/catalog_packer.h"
#include "common/image/image.h"
#include "services/ctl/catalog_commands.h"
#include "services/ctl/table.h"

namespace doppel {

absl::StatusOr<PixelShape> ParseRawShape(const std::string& text, uint32_t channels) {
  const std::pair<absl::string_view, absl::string_view> sides = absl::StrSplit(text, absl::MaxSplits('x', 1));
  PixelShape shape;
  if (!absl::SimpleAtoi(sides.first, &shape.height) || !absl::SimpleAtoi(sides.second, &shape.width) ||
      shape.height == 0 || shape.width == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--raw ", text, ": a size like 112x112 is expected, height first"));
  }
  if (channels != 1 && channels != 3) {
    return absl::InvalidArgumentError("--raw needs --channels: 1 (grey) or 3 (RGB)");
  }
  shape.channels = channels;
  return shape;
}

PixelDecoder ImageDecoder() {
  return [](absl::string_view encoded, const PixelShape& shape, char* out) {
    return DecodeImageInto(encoded, static_cast<int>(shape.height), static_cast<int>(shape.width),
                           static_cast<int>(shape.channels), reinterpret_cast<uint8_t*>(out));
  };
}

absl::Status RunPack(const PackCommandOptions& options, const Console& console) {
  PackOptions pack;
  if (!options.raw.empty()) {
    ASSIGN_OR_RETURN(pack.raw, ParseRawShape(options.raw, options.channels));
    pack.decode = ImageDecoder();
  }
  if (options.shard_bytes == 0) return absl::InvalidArgumentError("--shard-size must not be 0");
  pack.shard_bytes = options.shard_bytes;
  pack.skip_damaged = options.skip_damaged;
  pack.force = options.force;
  pack.threads = options.threads;
  pack.quiet = console.quiet;
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> catalog, Catalog::Open(options.catalog));
  ASSIGN_OR_RETURN(const std::unique_ptr<CatalogLock> lock, CatalogLock::Take(options.output));
  ASSIGN_OR_RETURN(const PackSummary summary, PackCatalog(*catalog, options.output, pack));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Catalog> packed, Catalog::Open(options.output));
  if (console.structured()) {
    auto json = nlohmann::ordered_json::parse(CatalogJson(*packed));
    json["shards"] = summary.shards;
    json["bytes"] = summary.bytes;
    json["skipped"] = nlohmann::ordered_json::parse(SkippedJson(summary.skipped, summary.skipped_by_reason));
    json["seconds"] = summary.seconds;
    return PrintJson(console, json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  console.out << RenderCatalog(*packed, console.colour)
              << RenderSkipped(summary.skipped, summary.skipped_by_reason, options.output, console.colour)
              << absl::StrFormat("\nPacked into %d shards, %s (%.1f s)\n", summary.shards,
                                 FormatBytes(summary.bytes), summary.seconds);
  return absl::OkStatus();
}

}  // namespace doppel
