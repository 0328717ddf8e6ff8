#include "services/miner_server/server_metrics.h"

namespace doppel {

ServerMetrics::ServerMetrics(MetricsRegistry& registry)
    : batches_sent(
          registry.GetCounter("doppel_miner_batches_sent_total", "Whole batches handed to the transport.")),
      bytes_sent(
          registry.GetCounter("doppel_miner_bytes_sent_total", "Bytes of batches handed to the transport.")),
      batches_acknowledged(registry.GetCounter("doppel_miner_batches_acknowledged_total",
                                               "Batches that trainers have trained on.")),
      streams_opened(
          registry.GetCounter("doppel_miner_streams_opened_total", "Streams opened since the start.")),
      streams(registry.GetGauge("doppel_miner_streams", "Open streams.")),
      generation(
          registry.GetGauge("doppel_miner_active_generation", "Number of the active generation; 0: none.")),
      stalled(registry.GetGauge("doppel_miner_operation_stalled", "1: the job that runs makes no progress.")),
      queued_bytes(registry.GetGauge("doppel_miner_queued_batch_bytes",
                                     "Bytes of batches that are built or wait for their clients.")),
      heap_bytes(registry.GetGauge("doppel_miner_heap_in_use_bytes",
                                   "Bytes that the program has allocated; malloc keeps more for reuse.")),
      unread(registry.GetCounter("doppel_miner_unread_total",
                                 "Calls that were ended because others waited for the memory of what their "
                                 "clients did not read.")),
      build_seconds(registry.GetHistogram("doppel_miner_batch_build_seconds", "Time to build one batch.",
                                          LatencyBounds())) {}

}  // namespace doppel
