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
  config.set_keep_generations(4);
  config.set_cluster_nice(10);
  config.set_recluster_min_interval(60);
  config.set_recluster_max_per_day(48);
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
        Range{"cluster_nice", double(config.cluster_nice()), 0, 19},
        Range{"recluster_min_active_share", config.recluster_min_active_share(), 0, 1},
        Range{"recluster_min_interval", config.recluster_min_interval(), 1, 30 * 86400.0},
        Range{"recluster_max_per_day", double(config.recluster_max_per_day()), 1, 86400},
        Range{"http_port", double(config.http_port()), -1, 65535}}) {
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
      {"keep_generations",
       "generations to keep besides the active, the previous and the pinned ones; 0: all"},
      {"cluster_nice", "nice value of a job's threads, 0 to 19"},
      {"recluster_every_batches", "policy: mine again after so many acknowledged batches; 0: never"},
      {"recluster_max_staleness", "policy: mine again when the model is so many steps ahead; 0: never"},
      {"recluster_min_active_share", "policy: mine again when fewer of the triplets are active; 0: never"},
      {"recluster_min_interval", "policy: seconds from one job to the next, at least"},
      {"recluster_max_per_day", "policy: jobs within 24 hours, at most"},
  };
  const auto found = kHelp->find(field);
  return found == kHelp->end() ? "" : found->second;
}

}  // namespace doppel
