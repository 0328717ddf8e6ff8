#include "common/base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <map>
#include <sstream>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace doppel {
namespace {

using Labels = prometheus::Labels;
using Key = std::pair<std::string, Labels>;

class PrometheusCounter : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter& metric) : metric_(metric) {}
  void Add(double amount) override { metric_.Increment(amount); }
  double Value() const override { return metric_.Value(); }

 private:
  prometheus::Counter& metric_;
};

class PrometheusGauge : public Gauge {
 public:
  explicit PrometheusGauge(prometheus::Gauge& metric) : metric_(metric) {}
  void Set(double value) override { metric_.Set(value); }
  void Add(double amount) override { metric_.Increment(amount); }
  double Value() const override { return metric_.Value(); }

 private:
  prometheus::Gauge& metric_;
};

class PrometheusHistogram : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram& metric) : metric_(metric) {}
  void Observe(double value) override { metric_.Observe(value); }

 private:
  prometheus::Histogram& metric_;
};

// A metric and, if the registry refused its name, the object that counts unseen.
template <typename Metric, typename Raw>
struct Slot {
  std::unique_ptr<Raw> detached;
  std::unique_ptr<Metric> metric;
};

template <typename Metric, typename Raw, typename Wrapper, typename Builder, typename... Args>
Metric& FindOrAdd(std::map<Key, Slot<Metric, Raw>>& slots, prometheus::Registry& registry, Builder builder,
                  absl::string_view name, absl::string_view help, const MetricLabels& labels,
                  const Args&... args) {
  const Key key(std::string(name), Labels(labels.begin(), labels.end()));
  Slot<Metric, Raw>& slot = slots[key];
  if (slot.metric != nullptr) return *slot.metric;
  try {
    Raw& raw = builder.Name(key.first).Help(std::string(help)).Register(registry).Add(key.second, args...);
    slot.metric = std::make_unique<Wrapper>(raw);
  } catch (const std::exception&) {
    slot.detached = std::make_unique<Raw>(args...);
    slot.metric = std::make_unique<Wrapper>(*slot.detached);
  }
  return *slot.metric;
}

}  // namespace

struct MetricsRegistry::Impl {
  mutable absl::Mutex mutex;
  prometheus::Registry registry;  // has its own lock
  std::map<Key, Slot<Counter, prometheus::Counter>> counters ABSL_GUARDED_BY(mutex);
  std::map<Key, Slot<Gauge, prometheus::Gauge>> gauges ABSL_GUARDED_BY(mutex);
  std::map<Key, Slot<Histogram, prometheus::Histogram>> histograms ABSL_GUARDED_BY(mutex);
};

MetricsRegistry::MetricsRegistry() : impl_(std::make_unique<Impl>()) {}
MetricsRegistry::~MetricsRegistry() = default;

Counter& MetricsRegistry::GetCounter(absl::string_view name, absl::string_view help,
                                     const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  return FindOrAdd<Counter, prometheus::Counter, PrometheusCounter>(
      impl_->counters, impl_->registry, prometheus::BuildCounter(), name, help, labels);
}

Gauge& MetricsRegistry::GetGauge(absl::string_view name, absl::string_view help, const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  return FindOrAdd<Gauge, prometheus::Gauge, PrometheusGauge>(impl_->gauges, impl_->registry,
                                                              prometheus::BuildGauge(), name, help, labels);
}

Histogram& MetricsRegistry::GetHistogram(absl::string_view name, absl::string_view help,
                                         absl::Span<const double> bounds, const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  return FindOrAdd<Histogram, prometheus::Histogram, PrometheusHistogram>(
      impl_->histograms, impl_->registry, prometheus::BuildHistogram(), name, help, labels,
      prometheus::Histogram::BucketBoundaries(bounds.begin(), bounds.end()));
}

std::string MetricsRegistry::Expose() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return out.str();
}

absl::Span<const double> LatencyBounds() {
  static constexpr double kBounds[] = {0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100};
  return kBounds;
}

}  // namespace doppel
