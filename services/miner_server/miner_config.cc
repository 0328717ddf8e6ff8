#include "services/miner_server/miner_config.h"

#include <cstdint>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace doppel {
namespace {

absl::Status InvalidSetting(absl::string_view key, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(key, ": ", what));
}

absl::Status CheckRange(absl::string_view key, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidSetting(key, absl::StrCat(value, " is not within ", low, " … ", high));
}

}  // namespace

v1::MinerConfig DefaultMinerConfig() {
  v1::MinerConfig config;
  config.set_listen("127.0.0.1:50051");
  config.set_embedders(1);
  config.set_embedder_threads(2);
  config.set_embedder_device("auto");
  config.set_batch_threads(2);
  config.set_drain_seconds(10);
  config.set_max_credits(64);
  config.set_part_bytes(uint64_t{2} << 20);
  config.set_lease_identities(1024);
  config.set_lease_seconds(60);
  config.set_max_batch_samples(16384);
  config.set_http_port(-1);
  config.set_log_level("info");
  config.set_log_format("text");
  config.set_keep_models(16);
  config.set_live_half_life(1000);
  config.set_live_snapshot_seconds(60);
  return config;
}

absl::Status ValidateMinerConfig(const v1::MinerConfig& config) {
  if (config.catalog().empty())
    return InvalidSetting("catalog", "is not set: the directory that `doppel import` wrote");
  if (config.state().empty())
    return InvalidSetting("state", "is not set: a directory for generations and the journal");
  if (config.listen().find(':') == std::string::npos) {
    return InvalidSetting(
        "listen", absl::StrCat("\"", config.listen(), "\" is not HOST:PORT, for example 127.0.0.1:50051"));
  }
  struct Range {
    const char* key;
    double value, low, high;
  };
  for (const Range& range :
       {Range{"embedders", double(config.embedders()), 0, 256},
        Range{"embedder_threads", double(config.embedder_threads()), 1, 1024},
        Range{"batch_threads", double(config.batch_threads()), 1, 1024},
        Range{"cluster_threads", double(config.cluster_threads()), 0, 1024},
        Range{"drain_seconds", config.drain_seconds(), 0, 3600},
        Range{"max_credits", double(config.max_credits()), 1, 65536},
        Range{"part_bytes", double(config.part_bytes()), 1024, double(uint64_t{1} << 30)},
        Range{"lease_identities", double(config.lease_identities()), 1, 1 << 24},
        Range{"lease_seconds", config.lease_seconds(), 0.1, 86400},
        Range{"max_batch_samples", double(config.max_batch_samples()), 1, 1 << 24},
        Range{"http_port", double(config.http_port()), -1, 65535},
        Range{"keep_models", double(config.keep_models()), 0, 1 << 20},
        Range{"live_half_life", config.live_half_life(), 0, 1e12},
        Range{"live_snapshot_seconds", config.live_snapshot_seconds(), 0.1, 86400}}) {
    absl::Status status = CheckRange(range.key, range.value, range.low, range.high);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::string MinerConfigHelp(const std::string& field) {
  static const auto* const kHelp = new std::map<std::string, std::string>{
      {"catalog", "directory of the imported catalog"},
      {"state", "directory for generations, representations and the journal"},
      {"listen", "address to listen on; port 0 picks a free one"},
      {"address_file", "file to write the bound address to, for scripts"},
      {"embedders", "embedder processes that the miner starts itself; 0: none"},
      {"embedder_threads", "threads of each of them"},
      {"embedder_device", "auto, cpu or cuda:N"},
      {"batch_threads", "threads that build batches"},
      {"cluster_threads", "threads of k-means; 0: all"},
      {"drain_seconds", "time to let streams end on SIGTERM"},
      {"max_credits", "largest credit that a stream may hold, in batches"},
      {"part_bytes", "bytes of one stream message, before a batch is split in parts"},
      {"lease_identities", "identities of one embedding lease"},
      {"lease_seconds", "time after which an embedder's lease is given to another"},
      {"max_batch_samples", "largest P * K"},
      {"http_port", "port of /metrics, /livez and /readyz; 0 picks a free one, -1: none"},
      {"log_level", "debug, info, warning or error"},
      {"log_format", "text or json"},
      {"keep_models", "published models that are kept, newest first; 0: all"},
      {"live_half_life", "steps after which a reported embedding counts half; 0: nothing is forgotten"},
      {"live_snapshot_seconds", "between snapshots of the live representations: what a crash may lose"},
  };
  const auto found = kHelp->find(field);
  return found == kHelp->end() ? "" : found->second;
}

}  // namespace doppel
