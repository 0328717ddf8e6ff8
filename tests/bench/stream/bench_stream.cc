// What the streams of batches cost on loopback TCP, against a raw gRPC stream that sends one buffer of the
// same size over and over: the limit of the transport. Server and client are in this process, so that CPU
// seconds count both.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "doppel/v1/batches.grpc.pb.h"
#include "miner/miner.h"
#include "services/miner_server/miner_server.h"
#include "trainer/stream/grpc_batch_source.h"

namespace doppel {
namespace {

constexpr uint32_t kCredits = 60000;
constexpr char kMethod[] = "/doppel.v1.BatchService/StreamBatches";
using RawService = v1::BatchService::WithRawCallbackMethod_StreamBatches<v1::BatchService::Service>;
using RawStream = grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

struct Flags {
  std::string catalog, out;
  uint32_t p = 64, k = 8;
  double seconds = 2;
  int rounds = 3;
};

struct Figures {
  std::string name;
  uint64_t messages = 0, bytes = 0;
  double seconds = 0, cpu_seconds = 0;

  double rate() const { return static_cast<double>(bytes) / seconds / 1e9; }
};

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * t.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// step → bytes of the message that it received, 0 at the end. The first steps are not counted.
Figures Measure(const std::string& name, double duration, const std::function<uint64_t()>& step) {
  for (int i = 0; i < 20; ++i) {
    if (step() == 0) return {name, 0, 0, 1, 0};
  }
  Figures figures;
  figures.name = name;
  const double cpu = CpuSeconds();
  const auto start = std::chrono::steady_clock::now();
  while (figures.seconds < duration) {
    const uint64_t bytes = step();
    if (bytes == 0) break;
    ++figures.messages;
    figures.bytes += bytes;
    figures.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  figures.cpu_seconds = CpuSeconds() - cpu;
  return figures;
}

// Sends the same buffer until the client has enough.
class Repeater : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Repeater(const grpc::ByteBuffer& message) : message_(message) { StartWrite(&message_); }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartWrite(&message_);
    } else {
      Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer message_;
};

class RepeatingService final : public RawService {
 public:
  explicit RepeatingService(uint64_t bytes) {
    const grpc::Slice slice(std::string(bytes, 'x'));
    message_ = grpc::ByteBuffer(&slice, 1);
  }
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamBatches(
      grpc::CallbackServerContext*) override {
    return new Repeater(message_);
  }

 private:
  grpc::ByteBuffer message_;
};

// A client that takes messages as they are.
class RawClient {
 public:
  explicit RawClient(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    const grpc::internal::RpcMethod method(kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
    stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
        channel_.get(), method, &context_));
  }
  ~RawClient() {
    context_.TryCancel();
    stream_->Finish();
  }
  void Send(const v1::StreamBatchesRequest& request) {
    const grpc::Slice slice(request.SerializeAsString());
    stream_->Write(grpc::ByteBuffer(&slice, 1));
  }
  uint64_t Read() {
    grpc::ByteBuffer message;
    return stream_->Read(&message) ? message.Length() : 0;
  }

 private:
  grpc::ClientContext context_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<RawStream> stream_;
};

v1::StreamSpec SpecFor(const Flags& flags, v1::PayloadKind payload) {
  v1::StreamSpec spec;
  spec.mutable_plan()->set_name("random");
  spec.mutable_plan()->set_identities_per_batch(flags.p);
  spec.mutable_plan()->set_samples_per_identity(flags.k);
  spec.set_payload(payload);
  return spec;
}

Figures MeasureOurs(const Flags& flags, const std::string& address, const std::string& name,
                    v1::PayloadKind payload) {
  RawClient client(address);
  v1::StreamBatchesRequest open, credits;
  *open.mutable_open() = SpecFor(flags, payload);
  credits.set_credits(kCredits);
  client.Send(open);
  client.Send(credits);
  return Measure(name, flags.seconds, [&] { return client.Read(); });
}

Figures MeasureRaw(const Flags& flags, uint64_t message_bytes) {
  RepeatingService service(message_bytes);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  Figures figures;
  {
    RawClient client(absl::StrCat("127.0.0.1:", port));
    figures = Measure("raw", flags.seconds, [&] { return client.Read(); });
  }
  server->Shutdown(std::chrono::system_clock::now());
  return figures;
}

// As the trainer pulls: parsed, parts joined, checksums verified.
Figures MeasureTrainer(const Flags& flags, const std::string& address) {
  GrpcBatchSourceOptions options;
  options.address = address;
  options.spec = SpecFor(flags, v1::PAYLOAD_KIND_ENCODED);
  options.credits = 8;
  const auto source = MakeGrpcBatchSource(options);
  return Measure("encoded, trainer", flags.seconds, [&]() -> uint64_t {
    const absl::StatusOr<v1::Batch> batch = source->Next();
    return batch.ok() ? batch->ByteSizeLong() : 0;
  });
}

absl::StatusOr<std::shared_ptr<Miner>> OpenMiner(const Flags& flags, const std::string& state) {
  MinerOptions options;
  ASSIGN_OR_RETURN(options.catalog, Catalog::Open(flags.catalog));
  options.state_directory = state;
  ASSIGN_OR_RETURN(std::unique_ptr<Miner> miner, Miner::Open(std::move(options)));
  return std::shared_ptr<Miner>(std::move(miner));
}

// The best of several rounds; kinds take turns, so that a noisy moment does not fall on one alone.
absl::StatusOr<std::vector<Figures>> Run(const Flags& flags, const std::string& state) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Miner> miner, OpenMiner(flags, state));
  MinerServerOptions options;
  options.max_credits = kCredits;
  ASSIGN_OR_RETURN(const std::unique_ptr<MinerServer> server, MinerServer::Start(miner, options));
  const std::string& address = server->address();
  std::vector<Figures> best(5);
  for (int round = 0; round < flags.rounds; ++round) {
    const Figures encoded = MeasureOurs(flags, address, "encoded", v1::PAYLOAD_KIND_ENCODED);
    if (encoded.messages == 0)
      return absl::InternalError("the ENCODED stream ended at once: see the log above");
    const std::vector<Figures> figures = {
        MeasureRaw(flags, encoded.bytes / encoded.messages), encoded, MeasureTrainer(flags, address),
        MeasureOurs(flags, address, "reference", v1::PAYLOAD_KIND_REFERENCE),
        MeasureOurs(flags, address, "decoded", v1::PAYLOAD_KIND_DECODED)};
    for (size_t i = 0; i < figures.size(); ++i) {
      if (round == 0 || figures[i].rate() > best[i].rate()) best[i] = figures[i];
    }
  }
  return best;
}

int Report(const Flags& flags, const std::vector<Figures>& rows) {
  nlohmann::json report = {{"name", "stream"}, {"rows", nlohmann::json::array()}};
  std::printf("%-18s %12s %14s %10s %12s\n", "stream", "messages/s", "bytes/message", "GB/s", "CPU s/GB");
  for (const Figures& row : rows) {
    const double messages = static_cast<double>(row.messages) / row.seconds;
    const double size =
        static_cast<double>(row.bytes) / static_cast<double>(std::max<uint64_t>(1, row.messages));
    const double cpu = row.cpu_seconds / (static_cast<double>(row.bytes) / 1e9);
    std::printf("%-18s %12.0f %14.0f %10.3f %12.3f\n", row.name.c_str(), messages, size, row.rate(), cpu);
    report["rows"].push_back({{"stream", row.name},
                              {"messages_per_second", messages},
                              {"bytes_per_message", size},
                              {"gigabytes_per_second", row.rate()},
                              {"cpu_seconds_per_gigabyte", cpu}});
  }
  report["ratios"] = {{"encoded_over_raw", rows[1].rate() / rows[0].rate()},
                      {"encoded_trainer_over_raw", rows[2].rate() / rows[0].rate()}};
  std::printf("encoded over raw: %.2f\n", rows[1].rate() / rows[0].rate());
  if (!flags.out.empty() && !(std::ofstream(flags.out) << report.dump(2) << "\n")) {
    std::cerr << "bench_stream: cannot write " << flags.out << "\n";
    return 1;
  }
  return 0;
}

int Main(const Flags& flags) {
  std::string state = (std::filesystem::temp_directory_path() / "bench_stream_XXXXXX").string();
  if (mkdtemp(state.data()) == nullptr) {
    std::cerr << "bench_stream: cannot make " << state << "\n";
    return 1;
  }
  const absl::StatusOr<std::vector<Figures>> rows = Run(flags, state);
  std::error_code ignored;
  std::filesystem::remove_all(state, ignored);
  if (!rows.ok()) {
    std::cerr << "bench_stream: " << rows.status().message() << "\n";
    return 1;
  }
  return Report(flags, *rows);
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  CLI::App app("Streams of batches against a raw gRPC stream of the same message size.", "bench_stream");
  doppel::Flags flags;
  app.add_option("--catalog", flags.catalog, "An imported catalog")->required();
  app.add_option("--identities-per-batch", flags.p, "P")->capture_default_str();
  app.add_option("--samples-per-identity", flags.k, "K")->capture_default_str();
  app.add_option("--seconds", flags.seconds, "Of one measurement")->capture_default_str();
  app.add_option("--rounds", flags.rounds, "The best of so many counts")->capture_default_str();
  app.add_option("--out", flags.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  const absl::Status logging = doppel::SetupLogging("bench_stream", "warning", "text");
  if (!logging.ok()) return 1;
  return doppel::Main(flags);
}
