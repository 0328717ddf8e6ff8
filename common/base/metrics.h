#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace doppel {

// Metric objects belong to their registry and live as long as it does. Thread-safe.
class Counter {
 public:
  virtual ~Counter() = default;
  // amount ≥ 0.
  virtual void Add(double amount = 1) = 0;
  virtual double Value() const = 0;
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
  virtual void Add(double amount) = 0;
  virtual double Value() const = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// Counters, gauges and histograms by name and labels, exposed in Prometheus' text format. Asking again for
// the same name and labels gives the same object. Names: base units, `_total`, `_seconds`, `_bytes`,
// `_ratio`; labels must be bounded (never one value per identity or subspace). Asking for a name that is not
// a legal Prometheus name, or that is in use by another kind of metric, is a programming error: such a metric
// counts, but is not exposed. Thread-safe.
class MetricsRegistry {
 public:
  MetricsRegistry();
  ~MetricsRegistry();
  MetricsRegistry(const MetricsRegistry&) = delete;
  MetricsRegistry& operator=(const MetricsRegistry&) = delete;

  Counter& GetCounter(absl::string_view name, absl::string_view help, const MetricLabels& labels = {});
  Gauge& GetGauge(absl::string_view name, absl::string_view help, const MetricLabels& labels = {});
  // Upper bounds of the buckets, ascending; those of the first call for these labels count.
  Histogram& GetHistogram(absl::string_view name, absl::string_view help, absl::Span<const double> bounds,
                          const MetricLabels& labels = {});

  // The body of /metrics (text/plain; version=0.0.4).
  std::string Expose() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// 0.1 ms … 100 s in steps of about 3.
absl::Span<const double> LatencyBounds();

}  // namespace doppel
