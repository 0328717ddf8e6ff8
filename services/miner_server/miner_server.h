#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "miner/miner.h"
#include "services/miner_server/server_limits.h"
#include "services/security/audit_log.h"
#include "services/security/server_tls.h"

namespace doppel {

// What a miner serves besides health and reflection: a new service gets a line here.
inline constexpr const char* kMinerServices[] = {"doppel.v1.BatchService",     "doppel.v1.MiningService",
                                                 "doppel.v1.EmbeddingService", "doppel.v1.CleaningService",
                                                 "doppel.v1.ModelService",     "doppel.v1.ReportService"};

// The health service's name for jobs: NOT_SERVING while the one that runs makes no progress.
inline constexpr const char kJobsHealth[] = "doppel.jobs";

struct MinerServerOptions {
  std::string listen = "127.0.0.1:0";  // port 0 picks a free one
  int batch_threads = 2;               // ≥ 1: build batches, over all streams
  uint32_t max_credits = 64;
  uint32_t max_batch_samples = 16384;  // P * K
  uint64_t part_bytes = uint64_t{2} << 20;
  uint64_t borrow_bytes = 4096;  // samples from this size on are sent from where they lie
  // Of the journals of dynamic work groups. Empty: there are none.
  std::string work_groups;
  // Of the journals of steered plans. Empty: no plan follows reports.
  std::string steering;
  // The journal of cleaning. Empty: there is none.
  std::string cleaning;
  int http_port =
      -1;  // of /metrics, /livez, /readyz, on the host of `listen`; 0 picks a free one, negative: none

  ServerLimits limits;
  ServerTls tls;            // off: plain text, everybody is an operator, and only on a loopback address
  std::string access_file;  // TLS: who may do what (access_list.h)
  bool insecure_listen_anywhere = false;
  AuditLogOptions audit;  // path empty: none
  // Of a socket for embedders of this machine, in a directory that is closed to others. Empty: none.
  std::string local_socket;
  bool open_metrics = false;             // TLS: /metrics for others than loopback, too
  std::vector<std::string> model_roots;  // where models may lie that a request names; empty: anywhere
};

// BatchService, MiningService, EmbeddingService, health and reflection on one port, around one miner. Its
// constructor is Start, so there is no server that does not listen. Thread-safe.
class MinerServer {
 public:
  // UNAVAILABLE if the address cannot be bound (ports are not shared with another server). Else as
  // ServerSecurity::Open.
  static absl::StatusOr<std::unique_ptr<MinerServer>> Start(std::shared_ptr<Miner> miner,
                                                            MinerServerOptions options);
  // Cancels what is still open.
  virtual ~MinerServer() = default;

  // Host and port that clients reach it by.
  virtual const std::string& address() const = 0;
  // 0: no HTTP.
  virtual int http_port() const = 0;
  // Random, new with every start.
  virtual const std::string& incarnation() const = 0;

  // New streams are refused, open ones end at their next batch border, health says NOT_SERVING.
  virtual void Drain() = 0;
  // Drains, waits for the streams up to `grace`, then cancels what is left. Idempotent.
  virtual void Shutdown(absl::Duration grace) = 0;
};

}  // namespace doppel
