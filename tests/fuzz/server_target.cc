// Every RPC of the miner, called with bytes that nobody meant: through gRPC, to the handlers that serve.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "miner/miner.h"
#include "services/miner_server/miner_server.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/catalog_fixture.h"

namespace doppel {
namespace {

enum class Shape { kUnary, kClientStream, kServerStream, kBidi };
struct Method {
  const char* path;
  Shape shape;
};
// The first byte of an input chooses. Seeds hold these numbers: new methods go to the end. That none is
// missing is checked against the protos, each time.
constexpr Method kMethods[] = {
    {"/doppel.v1.BatchService/StreamBatches", Shape::kBidi},
    {"/doppel.v1.BatchService/GetBatch", Shape::kUnary},
    {"/doppel.v1.MiningService/Describe", Shape::kUnary},
    {"/doppel.v1.MiningService/Recluster", Shape::kUnary},
    {"/doppel.v1.MiningService/GetOperation", Shape::kUnary},
    {"/doppel.v1.MiningService/WaitOperation", Shape::kUnary},
    {"/doppel.v1.MiningService/CancelOperation", Shape::kUnary},
    {"/doppel.v1.MiningService/ListOperations", Shape::kUnary},
    {"/doppel.v1.MiningService/ListGenerations", Shape::kUnary},
    {"/doppel.v1.MiningService/GetGeneration", Shape::kUnary},
    {"/doppel.v1.MiningService/ActivateGeneration", Shape::kUnary},
    {"/doppel.v1.MiningService/Rollback", Shape::kUnary},
    {"/doppel.v1.MiningService/RetireGeneration", Shape::kUnary},
    {"/doppel.v1.MiningService/PinGeneration", Shape::kUnary},
    {"/doppel.v1.MiningService/DiffGenerations", Shape::kUnary},
    {"/doppel.v1.MiningService/Watch", Shape::kServerStream},
    {"/doppel.v1.MiningService/GetSubspace", Shape::kUnary},
    {"/doppel.v1.MiningService/FindLookalikes", Shape::kUnary},
    {"/doppel.v1.MiningService/GetPolicy", Shape::kUnary},
    {"/doppel.v1.MiningService/SetPolicy", Shape::kUnary},
    {"/doppel.v1.EmbeddingService/LeaseRange", Shape::kUnary},
    {"/doppel.v1.EmbeddingService/RenewLease", Shape::kUnary},
    {"/doppel.v1.EmbeddingService/CommitRange", Shape::kUnary},
    {"/doppel.v1.EmbeddingService/FetchRange", Shape::kServerStream},
    {"/doppel.v1.CleaningService/Find", Shape::kUnary},
    {"/doppel.v1.CleaningService/ListFindings", Shape::kUnary},
    {"/doppel.v1.CleaningService/Decide", Shape::kUnary},
    {"/doppel.v1.CleaningService/Undo", Shape::kUnary},
    {"/doppel.v1.CleaningService/Export", Shape::kUnary},
    {"/doppel.v1.CleaningService/Apply", Shape::kUnary},
    {"/doppel.v1.ModelService/QueryModel", Shape::kUnary},
    {"/doppel.v1.ModelService/PublishModel", Shape::kClientStream},
    {"/doppel.v1.ModelService/ListModels", Shape::kUnary},
    {"/doppel.v1.ModelService/FetchModel", Shape::kServerStream},
    {"/doppel.v1.ReportService/ReportSteps", Shape::kUnary},
    {"/doppel.v1.ReportService/DescribeRepresentations", Shape::kUnary},
    {"/doppel.v1.ReportService/ListSubspaceHardness", Shape::kUnary},
    {"/doppel.v1.ReportService/ListSteering", Shape::kUnary},
};

void CheckMethodsAreAll() {
  for (const char* name : kMinerServices) {
    const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    FuzzCheck(service != nullptr, "every service is in the protos");
    for (int i = 0; i < service->method_count(); ++i) {
      const std::string path = absl::StrCat("/", name, "/", service->method(i)->name());
      const bool known = std::any_of(std::begin(kMethods), std::end(kMethods),
                                     [&path](const Method& method) { return method.path == path; });
      if (!known) std::fprintf(stderr, "%s is not in kMethods of %s\n", path.c_str(), __FILE__);
      FuzzCheck(known, "every method is called");
    }
  }
}

constexpr uint32_t kDimension = 4;

// A miner of 24 identities with one generation, serving on loopback.
class World {
 public:
  World(const testing::CatalogFixture& data, const std::string& folder) : folder_(folder) {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    testing::WriteTestFile(
        folder + "/models/m/model.json",
        absl::StrCat(R"({"architecture": "glyph_cnn", "fingerprint": "0123456789abcdef", "dimension": )",
                     kDimension, R"(, "step": 7})"));
    MinerOptions options;
    options.catalog = data.catalog();
    options.state_directory = folder + "/state";
    options.cluster_threads = 1;
    options.lease_identities = 8;
    options.policy_interval = absl::ZeroDuration();
    options.live_snapshot_interval = absl::ZeroDuration();
    auto miner = Miner::Open(std::move(options));
    FuzzCheck(miner.ok(), "the miner opens");
    miner_ = *std::move(miner);
    Mine();
    MinerServerOptions server;
    server.batch_threads = 1;
    server.max_batch_samples = 128;
    server.work_groups = folder + "/state/work_groups";
    server.cleaning = folder + "/state/cleaning.rec";
    server.model_roots = {folder + "/models"};
    server.limits.max_wait_seconds = 0.02;
    server.limits.max_request_bytes = 1 << 20;
    server.limits.control_rpcs_per_second = 0;
    auto started = MinerServer::Start(miner_, std::move(server));
    FuzzCheck(started.ok(), "the server starts");
    server_ = *std::move(started);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments));
  }
  ~World() {
    stub_.reset();
    server_.reset();
    miner_.reset();
  }

  void Call(const Method& method, const std::vector<std::string>& messages) {
    grpc::ClientContext context;
    // A Watch goes on for ever.
    const bool endless = method.shape == Shape::kServerStream;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(endless ? 30 : 500));
    grpc::CompletionQueue queue;
    const auto next = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    };
    const auto call = stub_->PrepareCall(&context, method.path, &queue);
    call->StartCall(nullptr);
    bool good = next();
    for (const std::string& message : messages) {
      if (!good) break;
      const grpc::Slice slice(message);
      call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
      good = next();
    }
    if (good) {
      call->WritesDone(nullptr);
      good = next();
    }
    for (int answers = 0; good && answers < 64; ++answers) {
      grpc::ByteBuffer answer;
      call->Read(&answer, nullptr);
      good = next();
    }
    if (good) context.TryCancel();
    grpc::Status status;
    call->Finish(&status, nullptr);
    next();
    queue.Shutdown();
    while (next()) {
    }
    // UNKNOWN is an exception that nobody caught, INTERNAL a message that our own side made wrong.
    FuzzCheck(status.error_code() != grpc::StatusCode::UNKNOWN, "no handler throws");
  }

 private:
  // One pass with vectors made up, so that the plans, neighbours and findings have something to work on.
  void Mine() {
    v1::ReclusterRequest request;
    request.set_model_path(folder_ + "/models/m");
    request.set_subspaces(2);
    request.set_min_size(4);
    request.set_neighbours(3);
    const auto operation = miner_->Recluster(request);
    FuzzCheck(operation.ok(), "mining starts");
    for (int tries = 0; tries < 10000; ++tries) {
      const auto lease = miner_->LeaseRange({});
      if (lease.ok() && lease->has_lease()) {
        FuzzCheck(miner_->CommitRange(Embedded(lease->lease())).ok(), "a range is taken");
        continue;
      }
      const auto state = miner_->WaitOperation(operation->id(), absl::Milliseconds(10));
      if (state.ok() && state->state() != v1::Operation::STATE_RUNNING) break;
    }
    FuzzCheck(miner_->ActiveGeneration() != nullptr, "mining ends");
  }
  static v1::CommitRangeRequest Embedded(const v1::EmbeddingLease& lease) {
    v1::CommitRangeRequest commit;
    commit.set_lease(lease.lease());
    commit.set_operation(lease.operation());
    commit.set_model_fingerprint(lease.model_fingerprint());
    commit.set_first_identity(lease.first_identity());
    commit.set_identity_count(lease.identity_count());
    commit.set_dimension(kDimension);
    for (uint64_t i = 0; i < lease.identity_count(); ++i) {
      for (uint32_t d = 0; d < kDimension; ++d) {
        const uint64_t identity = lease.first_identity() + i;
        const float value =
            (identity % 2 == d ? 0.8F : 0.1F) + 0.01F * static_cast<float>((identity * 7 + d * 3) % 5);
        commit.mutable_representations()->append(reinterpret_cast<const char*>(&value), sizeof value);
      }
      commit.add_samples(3);
    }
    return commit;
  }

  const std::string folder_;
  std::shared_ptr<Miner> miner_;
  std::unique_ptr<MinerServer> server_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

const testing::CatalogFixture& FuzzedData() {
  static const auto* const data = [] {
    testing::CatalogFixtureOptions options;
    options.identities = 32;
    options.test_identities = 8;
    options.samples_per_identity = 3;
    options.shards = 1;
    options.image_size = 8;
    return new testing::CatalogFixture(options);
  }();
  return *data;
}

// The method's number, then its request; for those that take several, pieces.
void FuzzServer(absl::string_view input) {
  // What calls leave behind (groups, operations, decisions) must not add up to something that an input alone
  // does not give.
  constexpr int kCallsPerWorld = 4000;
  static std::unique_ptr<World> world;
  static int calls = 0;
  if (input.empty()) return;
  if (world == nullptr || ++calls % kCallsPerWorld == 0) {
    if (world == nullptr) CheckMethodsAreAll();
    world.reset();
    world = std::make_unique<World>(FuzzedData(), FuzzFolder() + "/world");
  }
  const Method& method = kMethods[static_cast<uint8_t>(input[0]) % std::size(kMethods)];
  input.remove_prefix(1);
  std::vector<std::string> messages;
  if (method.shape == Shape::kUnary || method.shape == Shape::kServerStream) {
    messages.emplace_back(input);
  } else {
    FuzzPieces pieces(input);
    while (!pieces.empty() && messages.size() < 16) messages.push_back(pieces.Next());
  }
  world->Call(method, messages);
}

constexpr FuzzTarget kServerTargets[] = {
    {"rpc", "every RPC's request, through gRPC to the handler of a miner that serves", FuzzServer},
};

}  // namespace

absl::Span<const FuzzTarget> ServerFuzzTargets() { return kServerTargets; }

}  // namespace doppel
