#pragma once

#include "common/base/metrics.h"

namespace doppel {

// What doppel-miner counts. Thread-safe.
struct ServerMetrics {
  explicit ServerMetrics(MetricsRegistry& registry);

  Counter& batches_sent;
  Counter& bytes_sent;
  Counter& batches_acknowledged;
  Counter& streams_opened;
  Gauge& streams;
  Gauge& generation;
  Gauge& stalled;
  Gauge& queued_bytes;
  Gauge& heap_bytes;
  Counter& unread;
  Histogram& build_seconds;
};

}  // namespace doppel
