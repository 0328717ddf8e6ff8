#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace doppel {

// Plain HTTP for probes and Prometheus: /metrics, /livez, /readyz. The destructor stops it.
class HttpEndpoint {
 public:
  struct Routes {
    std::function<std::string()> metrics;
    std::function<bool()> ready;
    // Whether this address may read the metrics. Empty: all may.
    std::function<bool(const std::string& address)> metrics_for;
  };
  // port 0 picks a free one.
  static absl::StatusOr<std::unique_ptr<HttpEndpoint>> Start(const std::string& host, int port,
                                                             Routes routes);
  virtual ~HttpEndpoint() = default;
  virtual int port() const = 0;
};

}  // namespace doppel
