#include "common/base/fair_executor.h"

#include <algorithm>

namespace doppel {

struct FairExecutor::Client {
  double used = 0;  // seconds
  Turn turn;        // where it lies in what is ready, if it does
  bool is_ready = false;
  Ready<Flow> flows;  // with work to do
  double now = 0;     // what the flow used whose turn was last
};

class FairExecutor::Flow {
 public:
  explicit Flow(std::shared_ptr<Client> of) : client(std::move(of)) {}

  const std::shared_ptr<Client> client;
  double used = 0;  // seconds
  Turn turn;
  bool is_ready = false;
  double cost = 0;  // of its last work, roughly: what the next one is charged until it is known
  std::deque<std::function<void()>> waiting;
};

FairExecutor::FairExecutor(int threads, const Clock& clock) : clock_(clock) {
  threads_.reserve(threads);
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

FairExecutor::~FairExecutor() {
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

std::shared_ptr<FairExecutor::Flow> FairExecutor::NewFlow(const std::string& client) {
  absl::MutexLock lock(&mutex_);
  if (clients_.size() >= prune_at_) {
    for (auto it = clients_.begin(); it != clients_.end();) {
      it = it->second.expired() ? clients_.erase(it) : std::next(it);
    }
    prune_at_ = 2 * clients_.size() + 16;
  }
  std::weak_ptr<Client>& known = clients_[client];
  std::shared_ptr<Client> one = known.lock();
  if (one == nullptr) known = one = std::make_shared<Client>();
  return std::make_shared<Flow>(std::move(one));
}

template <typename T>
void FairExecutor::Enqueue(Ready<T>& ready, const std::shared_ptr<T>& one) {
  one->turn = {one->used, arrivals_++};
  one->is_ready = true;
  ready.emplace(one->turn, one);
}

void FairExecutor::Schedule(const std::shared_ptr<Flow>& flow, std::function<void()> work) {
  absl::MutexLock lock(&mutex_);
  flow->waiting.push_back(std::move(work));
  if (flow->is_ready) return;
  // Who was away has saved nothing up.
  Client& client = *flow->client;
  flow->used = std::max(flow->used, client.now);
  Enqueue(client.flows, flow);
  if (client.is_ready) return;
  client.used = std::max(client.used, now_);
  Enqueue(ready_, flow->client);
}

FairExecutor::Job FairExecutor::TakeNext() {
  const std::shared_ptr<Client> client = ready_.begin()->second;
  ready_.erase(ready_.begin());
  client->is_ready = false;
  now_ = std::max(now_, client->used);
  const std::shared_ptr<Flow> flow = client->flows.begin()->second;
  client->flows.erase(client->flows.begin());
  flow->is_ready = false;
  client->now = std::max(client->now, flow->used);
  Job job{flow, std::move(flow->waiting.front()), flow->cost};
  flow->waiting.pop_front();
  flow->used += job.charged;
  client->used += job.charged;
  if (!flow->waiting.empty()) Enqueue(client->flows, flow);
  if (!client->flows.empty()) Enqueue(ready_, client);
  return job;
}

void FairExecutor::Charge(Flow& flow, double seconds) {
  const auto move = [seconds](auto& ready, auto& one) {
    one.used += seconds;
    if (!one.is_ready) return;
    auto node = ready.extract(one.turn);
    one.turn.first = one.used;
    node.key() = one.turn;
    ready.insert(std::move(node));
  };
  move(flow.client->flows, flow);
  move(ready_, *flow.client);
}

void FairExecutor::Run() {
  while (true) {
    Job job;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(this, &FairExecutor::HasWorkOrClosed));
      if (ready_.empty()) return;
      job = TakeNext();
    }
    const absl::Time start = clock_.Now();
    job.work();
    job.work = nullptr;  // what it holds goes without the lock
    const double took = std::max(0.0, absl::ToDoubleSeconds(clock_.Now() - start));
    absl::MutexLock lock(&mutex_);
    Charge(*job.flow, took - job.charged);
    job.flow->cost = (job.flow->cost + took) / 2;
  }
}

}  // namespace doppel
