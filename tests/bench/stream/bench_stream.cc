// What the streams of batches cost on loopback TCP, against a raw gRPC stream of messages of the same size
// out of the same mapped files: the limit of the transport. Server and client are in this process, so that
// CPU seconds count both.

#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/log.h"
#include "common/base/process_environment.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "miner/miner.h"
#include "services/miner_server/batch_core.h"
#include "services/miner_server/miner_server.h"
#include "tests/bench/stream/page_cache.h"
#include "tests/bench/stream/raw_stream_baseline.h"
#include "trainer/stream/grpc_batch_source.h"

namespace doppel {
namespace {

constexpr uint32_t kCredits = 60000;

struct Flags {
  std::string catalog, packed, state, out;
  std::vector<std::string> only;
  std::vector<std::string> shapes = {"64x8", "512x8"};
  double seconds = 2;
  int rounds = 3;
  uint64_t borrow_bytes = MinerServerOptions().borrow_bytes;
  uint64_t part_bytes = MinerServerOptions().part_bytes;
  bool cold = false;
};

struct Figures {
  std::string name;
  uint64_t messages = 0, bytes = 0, images = 0;
  double seconds = 0, cpu_seconds = 0;
  // Of all rounds: processor time does not depend on who else is there.
  uint64_t all_bytes = 0;
  double all_cpu_seconds = 0;

  double rate() const { return static_cast<double>(bytes) / seconds / 1e9; }
  double message_bytes() const {
    return static_cast<double>(bytes) / static_cast<double>(std::max<uint64_t>(1, messages));
  }
  double cpu() const {
    return all_cpu_seconds / (static_cast<double>(std::max<uint64_t>(1, all_bytes)) / 1e9);
  }
};

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * t.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// step → bytes of what it received, 0 at the end. The first `warm_up` steps are not counted.
Figures Measure(const std::string& name, double duration, int warm_up,
                const std::function<uint64_t()>& step) {
  Figures figures;
  figures.name = name;
  for (int i = 0; i < warm_up; ++i) {
    if (step() == 0) return figures;
  }
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

struct Shape {
  uint32_t p = 0, k = 0;
};

enum class Reading { kWarm, kColdAhead, kColdAsItComes };

// A server around one catalog.
class Bench {
 public:
  static absl::StatusOr<std::unique_ptr<Bench>> Start(const Flags& flags, const std::string& catalog,
                                                      const std::string& state) {
    auto bench = std::make_unique<Bench>();
    MinerOptions options;
    ASSIGN_OR_RETURN(bench->catalog_, Catalog::Open(catalog));
    options.catalog = bench->catalog_;
    options.state_directory = state;
    ASSIGN_OR_RETURN(std::unique_ptr<Miner> miner, Miner::Open(std::move(options)));
    MinerServerOptions server;
    server.max_credits = kCredits;
    server.borrow_bytes = flags.borrow_bytes;
    server.part_bytes = flags.part_bytes;
    bench->miner_ = std::move(miner);
    bench->borrow_bytes_ = flags.borrow_bytes;
    ASSIGN_OR_RETURN(bench->server_, MinerServer::Start(bench->miner_, server));
    bench->seconds_ = flags.seconds;
    bench->only_ = flags.only;
    return bench;
  }

  Figures Ours(const std::string& name, const Shape& shape, v1::PayloadKind payload, int warm_up = 20,
               uint64_t most = UINT64_MAX) const {
    RawClient client(server_->address());
    v1::StreamBatchesRequest open, credits;
    *open.mutable_open() = SpecFor(shape, payload);
    credits.set_credits(kCredits);
    client.Send(open);
    client.Send(credits);
    uint64_t read = 0;
    return Measure(name, seconds_, warm_up, [&] { return read++ < most ? client.Read() : 0; });
  }

  // Nothing if the catalog is a folder of files.
  Figures Raw(const std::string& name, double message_bytes) const {
    if (!HasMappedFiles(*catalog_)) return Figures();
    const RawBaselineServer server(catalog_, static_cast<uint64_t>(std::max(1.0, message_bytes)));
    RawClient client(server.address());
    return Measure(name, seconds_, 20, [&] { return client.Read(); });
  }

  // As the trainer pulls: parsed in place, parts joined.
  Figures Trainer(const std::string& name, const Shape& shape, v1::PayloadKind payload, bool verify) const {
    GrpcBatchSourceOptions options;
    options.address = server_->address();
    options.spec = SpecFor(shape, payload);
    options.credits = 8;
    options.verify_checksums = verify;
    const auto source = MakeGrpcBatchSource(options);
    Figures figures = Measure(name, seconds_, 4, [&]() -> uint64_t {
      const absl::StatusOr<ReceivedBatch> batch = source->Next();
      return batch.ok() ? batch->wire_bytes : 0;
    });
    figures.images = figures.messages * shape.p * shape.k;
    return figures;
  }

  // Batches that take about half of all images.
  uint64_t ColdBatches(const Shape& shape) const {
    return std::max<uint64_t>(1, catalog_->num_samples() / 2 / (uint64_t{shape.p} * shape.k));
  }

  // Planned and laid out, but not sent.
  Figures BuildAlone(const std::string& name, const Shape& shape, v1::PayloadKind payload,
                     Reading reading = Reading::kWarm) const {
    BatchLimits limits;
    limits.read_ahead = reading != Reading::kColdAsItComes;
    const bool warm = reading == Reading::kWarm;
    const uint64_t most = warm ? UINT64_MAX : ColdBatches(shape);
    limits.borrow_bytes = borrow_bytes_;
    BatchCore core(miner_, limits);
    const auto bound = core.Bind(SpecFor(shape, payload));
    uint64_t cursor = 0;
    Figures figures = Measure(name, warm ? seconds_ / 2 : seconds_, warm ? 20 : 0, [&]() -> uint64_t {
      if (cursor == most) return 0;
      const auto batch = core.Build(**bound, cursor++, BatchEnvelope::kStreamBatches);
      return batch.ok() ? batch->bytes : 0;
    });
    figures.images = figures.messages * shape.p * shape.k;
    return figures;
  }

  const Catalog& catalog() const { return *catalog_; }
  bool Wants(const std::string& payload) const {
    return only_.empty() || std::find(only_.begin(), only_.end(), payload) != only_.end();
  }

 private:
  // With representations to compare if there is a generation.
  v1::StreamSpec SpecFor(const Shape& shape, v1::PayloadKind payload) const {
    v1::StreamSpec spec;
    spec.mutable_plan()->set_name(miner_->ActiveGeneration() == nullptr ? "random" : "subspace");
    spec.mutable_plan()->set_identities_per_batch(shape.p);
    spec.mutable_plan()->set_samples_per_identity(shape.k);
    spec.set_payload(payload);
    return spec;
  }

  std::shared_ptr<Miner> miner_;
  uint64_t borrow_bytes_ = 0;
  std::shared_ptr<const Catalog> catalog_;
  std::unique_ptr<MinerServer> server_;
  double seconds_ = 0;
  std::vector<std::string> only_;
};

using Rows = std::map<std::string, Figures>;

// The fastest of several rounds counts, and the processor time of all of them; kinds take turns, so that a
// noisy moment does not fall on one alone.
void Keep(Rows* best, Figures figures) {
  Figures& kept = (*best)[figures.name];
  figures.all_bytes = kept.all_bytes + figures.bytes;
  figures.all_cpu_seconds = kept.all_cpu_seconds + figures.cpu_seconds;
  if (kept.bytes > 0 && figures.rate() <= kept.rate()) {
    kept.all_bytes = figures.all_bytes;
    kept.all_cpu_seconds = figures.all_cpu_seconds;
  } else {
    kept = std::move(figures);
  }
}

void Round(const Bench& bench, const Shape& shape, Rows* best) {
  if (bench.Wants("encoded")) {
    const Figures encoded = bench.Ours("encoded", shape, v1::PAYLOAD_KIND_ENCODED);
    Keep(best, bench.Raw("raw of encoded's size", encoded.message_bytes()));
    Keep(best, encoded);
    Keep(best, bench.Trainer("encoded, trainer, unverified", shape, v1::PAYLOAD_KIND_ENCODED, false));
    Keep(best, bench.Trainer("encoded, trainer, verified", shape, v1::PAYLOAD_KIND_ENCODED, true));
    Keep(best, bench.BuildAlone("encoded, not sent", shape, v1::PAYLOAD_KIND_ENCODED));
  }
  if (bench.Wants("reference")) {
    Keep(best, bench.BuildAlone("reference, not sent", shape, v1::PAYLOAD_KIND_REFERENCE));
    const Figures reference = bench.Ours("reference", shape, v1::PAYLOAD_KIND_REFERENCE);
    Keep(best, bench.Raw("raw of reference's size", reference.message_bytes()));
    Keep(best, reference);
    Keep(best, bench.Trainer("reference, trainer", shape, v1::PAYLOAD_KIND_REFERENCE, false));
  }
  if (bench.Wants("decoded")) {
    Keep(best, bench.Trainer("decoded, trainer", shape, v1::PAYLOAD_KIND_DECODED, true));
  }
}

void PackedRound(const Bench& bench, const Shape& shape, Rows* best) {
  const Figures decoded = bench.Ours("packed decoded", shape, v1::PAYLOAD_KIND_DECODED);
  Keep(best, bench.Raw("raw of packed's size", decoded.message_bytes()));
  Keep(best, decoded);
  Keep(best, bench.Trainer("packed decoded, trainer, unverified", shape, v1::PAYLOAD_KIND_DECODED, false));
  Keep(best, bench.Trainer("packed decoded, trainer, verified", shape, v1::PAYLOAD_KIND_DECODED, true));
}

// Every row begins with files that are not in memory, and ends before it would meet a file's bytes again.
void ColdRound(const Bench& bench, const Shape& shape, Rows* rows, nlohmann::json* report) {
  double resident = 0;
  const auto drop = [&] { resident = std::max(resident, DropFromPageCache(bench.catalog())); };
  drop();
  Keep(rows, bench.BuildAlone("cold, not sent", shape, v1::PAYLOAD_KIND_ENCODED, Reading::kColdAhead));
  drop();
  Keep(rows, bench.BuildAlone("cold, not sent, no read-ahead", shape, v1::PAYLOAD_KIND_ENCODED,
                              Reading::kColdAsItComes));
  drop();
  Keep(rows, bench.Ours("cold", shape, v1::PAYLOAD_KIND_ENCODED, 0, bench.ColdBatches(shape)));
  std::printf("%.1f %% of the files could not be dropped from the page cache\n", 100 * resident);
  (*report)["cold_resident_share"] = resident;
}

nlohmann::json ToJson(const std::string& shape, const Figures& row) {
  return {{"shape", shape},
          {"stream", row.name},
          {"messages_per_second", static_cast<double>(row.messages) / row.seconds},
          {"bytes_per_message", row.message_bytes()},
          {"gigabytes_per_second", row.rate()},
          {"images_per_second", static_cast<double>(row.images) / row.seconds},
          {"cpu_seconds_per_gigabyte", row.cpu()}};
}

void Print(const std::string& shape, const Rows& rows, nlohmann::json* report) {
  std::printf("%s\n  %-36s %11s %13s %8s %11s %9s\n", shape.c_str(), "stream", "messages/s", "bytes/message",
              "GB/s", "images/s", "CPU s/GB");
  for (const auto& [name, row] : rows) {
    if (row.bytes == 0) continue;
    std::printf("  %-36s %11.0f %13.0f %8.3f %11.0f %9.3f\n", name.c_str(),
                static_cast<double>(row.messages) / row.seconds, row.message_bytes(), row.rate(),
                static_cast<double>(row.images) / row.seconds, row.cpu());
    (*report)["rows"].push_back(ToJson(shape, row));
  }
  const auto ratio = [&](const std::string& key, const std::string& ours, const std::string& raw) {
    const auto a = rows.find(ours), b = rows.find(raw);
    if (a == rows.end() || b == rows.end() || a->second.bytes == 0 || b->second.bytes == 0) return;
    const double rate = a->second.rate() / b->second.rate(), cpu = a->second.cpu() / b->second.cpu();
    (*report)["ratios"][absl::StrCat(shape, ": ", key)] = rate;
    (*report)["ratios"][absl::StrCat(shape, ": ", key, ", CPU per byte")] = cpu;
    std::printf("  %-36s %.2f of raw, CPU per byte %.2f of raw's\n", key.c_str(), rate, cpu);
  };
  ratio("encoded", "encoded", "raw of encoded's size");
  ratio("encoded, trainer, unverified", "encoded, trainer, unverified", "raw of encoded's size");
  ratio("encoded, trainer, verified", "encoded, trainer, verified", "raw of encoded's size");
  ratio("reference", "reference", "raw of reference's size");
  ratio("packed decoded", "packed decoded", "raw of packed's size");
  ratio("packed decoded, trainer, verified", "packed decoded, trainer, verified", "raw of packed's size");
}

absl::StatusOr<Shape> ParseShape(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, 'x');
  Shape shape;
  if (parts.size() == 2 && absl::SimpleAtoi(parts[0], &shape.p) && absl::SimpleAtoi(parts[1], &shape.k)) {
    return shape;
  }
  return absl::InvalidArgumentError(absl::StrCat("--shapes: ", text, " is not PxK, for example 64x8"));
}

absl::Status Run(const Flags& flags, const std::string& state, nlohmann::json* report) {
  if (flags.cold) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Bench> bench, Bench::Start(flags, flags.catalog, state + "/cold"));
    ASSIGN_OR_RETURN(const Shape shape, ParseShape(flags.shapes[0]));
    Rows rows;
    ColdRound(*bench, shape, &rows, report);
    Print(absl::StrCat(flags.shapes[0], ", cold files"), rows, report);
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Bench> bench,
                   Bench::Start(flags, flags.catalog, flags.state.empty() ? state + "/main" : flags.state));
  std::unique_ptr<Bench> packed;
  if (!flags.packed.empty()) {
    ASSIGN_OR_RETURN(packed, Bench::Start(flags, flags.packed, state + "/packed"));
  }
  for (const std::string& text : flags.shapes) {
    ASSIGN_OR_RETURN(const Shape shape, ParseShape(text));
    Rows best;
    for (int round = 0; round < flags.rounds; ++round) {
      Round(*bench, shape, &best);
      if (packed != nullptr) PackedRound(*packed, shape, &best);
    }
    Print(text, best, report);
    if (bench->Wants("encoded") && best["encoded"].bytes == 0)
      return absl::InternalError("the ENCODED stream ended at once: see the log");
  }
  return absl::OkStatus();
}

int Main(const Flags& flags) {
  std::string state = (std::filesystem::temp_directory_path() / "bench_stream_XXXXXX").string();
  if (mkdtemp(state.data()) == nullptr) {
    std::cerr << "bench_stream: cannot make " << state << "\n";
    return 1;
  }
  nlohmann::json report = {{"name", "stream"}, {"rows", nlohmann::json::array()}};
  const absl::Status status = Run(flags, state, &report);
  std::error_code ignored;
  std::filesystem::remove_all(state, ignored);
  if (!status.ok()) {
    std::cerr << "bench_stream: " << status.message() << "\n";
    return 1;
  }
  if (!flags.out.empty() && !(std::ofstream(flags.out) << report.dump(2) << "\n")) {
    std::cerr << "bench_stream: cannot write " << flags.out << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace doppel

int main(int argc, char** argv) {
  doppel::KeepFreedMessages();  // as the miner does
  CLI::App app("Streams of batches against a raw gRPC stream of the same message size.", "bench_stream");
  doppel::Flags flags;
  app.add_option("--catalog", flags.catalog, "An imported catalog")->required();
  app.add_option("--packed", flags.packed, "The same as raw pixels: `doppel pack --raw`");
  app.add_option(
      "--state", flags.state,
      "A miner's state directory (of this catalog, not in use): streams its active generation with plan "
      "`subspace` instead of `random`");
  app.add_option("--only", flags.only, "Of encoded, reference, decoded");
  app.add_option("--shapes", flags.shapes, "Batches, PxK")->capture_default_str();
  app.add_option("--seconds", flags.seconds, "Of one measurement")->capture_default_str();
  app.add_option("--rounds", flags.rounds, "The best of so many counts")->capture_default_str();
  app.add_option("--borrow-bytes", flags.borrow_bytes, "Samples from this size on are not copied")
      ->capture_default_str();
  app.add_option("--part-bytes", flags.part_bytes, "Of one message")->capture_default_str();
  app.add_flag("--cold", flags.cold,
               "First of all, once with the files dropped from the page cache (with the first of --shapes)");
  app.add_option("--out", flags.out, "Write the results there as JSON");
  CLI11_PARSE(app, argc, argv);
  const absl::Status logging = doppel::SetupLogging("bench_stream", "warning", "text");
  if (!logging.ok()) return 1;
  return doppel::Main(flags);
}
