#include "services/miner_server/http_endpoint.h"

#include <httplib.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

constexpr size_t kThreads = 2;

class HttpEndpointImpl final : public HttpEndpoint {
 public:
  explicit HttpEndpointImpl(Routes routes) : routes_(std::move(routes)) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    // By default the library sets SO_REUSEPORT, which would hide a port that is taken.
    server_.set_socket_options([](socket_t socket) {
      int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    server_.set_keep_alive_max_count(16);
    server_.set_keep_alive_timeout(2);
    server_.set_payload_max_length(4096);
    server_.Get("/metrics", [this](const httplib::Request& request, httplib::Response& response) {
      if (routes_.metrics_for && !routes_.metrics_for(request.remote_addr)) {
        response.status = 403;
        return response.set_content("metrics are for this machine alone: see open_metrics\n", "text/plain");
      }
      response.set_content(routes_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    });
    server_.Get("/livez", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("ok\n", "text/plain");
    });
    server_.Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
      const bool ready = routes_.ready();
      response.status = ready ? 200 : 503;
      response.set_content(ready ? "ok\n" : "draining\n", "text/plain");
    });
  }
  ~HttpEndpointImpl() override {
    if (!thread_.joinable()) return;
    // stop() before the loop runs would be lost.
    while (!server_.is_running() && !done_) std::this_thread::yield();
    server_.stop();
    thread_.join();
  }

  absl::Status Bind(const std::string& host, int port) {
    port_ = port == 0 ? server_.bind_to_any_port(host) : (server_.bind_to_port(host, port) ? port : -1);
    if (port_ <= 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on http port ", port, " of ", host,
                                                 ": in use? choose another --http-port (0: any, -1: none)"));
    }
    thread_ = std::thread([this] {
      server_.listen_after_bind();
      done_ = true;
    });
    return absl::OkStatus();
  }

  int port() const override { return port_; }

 private:
  const Routes routes_;
  httplib::Server server_;
  int port_ = 0;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpEndpoint>> HttpEndpoint::Start(const std::string& host, int port,
                                                                  Routes routes) {
  auto endpoint = std::make_unique<HttpEndpointImpl>(std::move(routes));
  const absl::Status status = endpoint->Bind(host, port);
  if (!status.ok()) return status;
  return std::unique_ptr<HttpEndpoint>(std::move(endpoint));
}

}  // namespace doppel
