#pragma once

#include <cstdint>

namespace doppel {

// What one server takes on. 0 means no limit where nothing else is said. The names are those of MinerConfig,
// and of the errors when one is exceeded.
struct ServerLimits {
  uint64_t max_request_bytes = uint64_t{256}
                               << 20;  // commits of embedders are the largest: a lease of vectors
  uint32_t max_streams = 4096;
  uint32_t max_streams_per_client = 1024;
  uint32_t max_streams_per_connection = 1024;
  uint64_t max_batch_bytes = uint64_t{1} << 30;     // DECODED: P * K * height * width * channels
  uint64_t queued_batch_bytes = uint64_t{2} << 30;  // that are built or wait for their clients
  double max_unread_seconds = 30;                   // by a client while others wait for memory
  double max_wait_seconds = 24 * 3600;              // of WaitOperation
  uint32_t max_metadata_bytes = 8192;
  uint64_t transport_memory_bytes = uint64_t{4} << 30;
  double max_connection_age_seconds = 24 * 3600;
  double max_connection_grace_seconds = 600;
  double keepalive_seconds = 60;
  double keepalive_timeout_seconds = 20;
  double min_ping_interval_seconds = 10;  // a client that pings more often is cut off
  double handshake_timeout_seconds = 30;  // of TLS and HTTP/2; a connection that says nothing is closed then
  double control_rpcs_per_second = 500;   // per principal
  uint32_t control_rpc_burst = 1000;
};

}  // namespace doppel
