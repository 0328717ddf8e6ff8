#include "services/trainer_worker/loss_command.h"

#include <ATen/ATen.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "common/io/npy.h"
#include "trainer/loss/loss_factory.h"

namespace doppel {
namespace {

absl::StatusOr<torch::Tensor> ReadEmbeddings(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(fs, path));
  const bool is_double = array.dtype == "<f8";
  if (array.shape.size() != 2 || !(is_double || array.dtype == "<f4")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--embeddings ", path, ": a matrix [B, D] of float32 or float64 is needed, not dtype ",
                     array.dtype, " and shape (", absl::StrJoin(array.shape, ", "), ")"));
  }
  torch::Tensor tensor =
      at::empty({array.shape[0], array.shape[1]}, is_double ? torch::kFloat64 : torch::kFloat32);
  std::memcpy(tensor.data_ptr(), array.data.data(), array.data.size());
  return tensor.requires_grad_(true);
}

absl::StatusOr<std::vector<int64_t>> ReadLabels(FileSystem& fs, const std::string& path, int64_t rows) {
  ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(fs, path));
  if (array.shape.size() != 1 || array.shape[0] != rows) {
    return absl::InvalidArgumentError(absl::StrCat("--labels ", path, ": ", rows,
                                                   " labels are needed, one per embedding, not shape (",
                                                   absl::StrJoin(array.shape, ", "), ")"));
  }
  absl::StatusOr<std::vector<int64_t>> labels = NpyToInts(array);
  if (labels.ok()) return labels;
  return absl::InvalidArgumentError(absl::StrCat("--labels ", path, ": ", labels.status().message()));
}

absl::Status ReadTriplets(FileSystem& fs, const std::string& path, LossOptions* options) {
  ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(fs, path));
  if (array.shape.size() != 2 || array.shape[1] != 3 || array.shape[0] == 0) {
    return absl::InvalidArgumentError(absl::StrCat("--triplets ", path,
                                                   ": shape [T, 3] is needed, T ≥ 1, not (",
                                                   absl::StrJoin(array.shape, ", "), ")"));
  }
  absl::StatusOr<std::vector<int64_t>> rows = NpyToInts(array);
  if (!rows.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--triplets ", path, ": ", rows.status().message()));
  }
  options->triplets.reserve(rows->size() / 3);
  for (size_t i = 0; i < rows->size(); i += 3) {
    options->triplets.push_back({(*rows)[i], (*rows)[i + 1], (*rows)[i + 2]});
  }
  return absl::OkStatus();
}

absl::StatusOr<LossOptions> ReadOptions(const LossCommandOptions& command, int64_t dimension,
                                        FileSystem& fs) {
  LossOptions options;
  options.name = command.loss;
  options.distance = command.distance;
  options.margin = command.margin;
  options.dimension = dimension;
  for (const std::string& assignment : command.options) {
    RETURN_IF_ERROR(SetLossOption(&options, assignment));
  }
  if (!command.triplets.empty()) RETURN_IF_ERROR(ReadTriplets(fs, command.triplets, &options));
  return options;
}

absl::Status WriteGradient(FileSystem& fs, const std::string& path, const torch::Tensor& gradient) {
  const torch::Tensor host = gradient.contiguous();
  const std::vector<int64_t> shape = {host.size(0), host.size(1)};
  const size_t values = static_cast<size_t>(host.numel());
  if (host.scalar_type() == torch::kFloat64) {
    return WriteNpy(fs, path, shape, absl::MakeConstSpan(host.data_ptr<double>(), values));
  }
  return WriteNpy(fs, path, shape, absl::MakeConstSpan(host.data_ptr<float>(), values));
}

nlohmann::ordered_json ToJson(const Percentiles& p) {
  return {{"p0", p.p0}, {"p5", p.p5}, {"p50", p.p50}, {"p95", p.p95}, {"p100", p.p100}};
}

std::string Line(absl::string_view name, const Percentiles& p) {
  return absl::StrFormat("%-10s %.17g  %.17g  %.17g  %.17g  %.17g\n", name, p.p0, p.p5, p.p50, p.p95, p.p100);
}

std::string Format(const LossCommandOptions& options, double value, const LossStatistics& s) {
  if (options.output == "json") {
    const nlohmann::ordered_json json = {
        {"loss", options.loss},
        {"value", value},
        {"active", s.active},
        {"triplets", s.triplets},
        {"percentiles", {{"d_ap", ToJson(s.d_ap)}, {"d_an", ToJson(s.d_an)}, {"norm", ToJson(s.norm)}}}};
    return json.dump() + "\n";
  }
  return absl::StrCat(
      absl::StrFormat("value      %.17g\nactive     %.17g of %d\n", value, s.active, s.triplets),
      "           p0  p5  p50  p95  p100\n", Line("d_ap", s.d_ap), Line("d_an", s.d_an),
      Line("norm", s.norm));
}

absl::StatusOr<std::string> ComputeAndFormat(const LossCommandOptions& options, FileSystem& fs) {
  ASSIGN_OR_RETURN(const torch::Tensor embeddings, ReadEmbeddings(fs, options.embeddings));
  ASSIGN_OR_RETURN(const std::vector<int64_t> labels, ReadLabels(fs, options.labels, embeddings.size(0)));
  ASSIGN_OR_RETURN(const LossOptions settings, ReadOptions(options, embeddings.size(1), fs));
  ASSIGN_OR_RETURN(const std::unique_ptr<Loss> loss, MakeLoss(settings, fs));
  ASSIGN_OR_RETURN(LossResult result, loss->Compute(LossInput(embeddings, labels)));
  if (!options.gradient.empty()) {
    if (result.loss.requires_grad()) result.loss.backward();
    const torch::Tensor gradient =
        embeddings.grad().defined() ? embeddings.grad() : at::zeros_like(embeddings.detach());
    RETURN_IF_ERROR(WriteGradient(fs, options.gradient, gradient));
  }
  return Format(options, result.loss.item<double>(), result.statistics);
}

}  // namespace

CLI::App* AddLossCommand(CLI::App& app, LossCommandOptions* o) {
  CLI::App* loss =
      app.add_subcommand("loss", "A loss of given embeddings, to check against any other library");
  std::string keys = "Options (--option key=value):\n";
  for (const LossOptionHelp& key : LossOptionKeys()) {
    absl::StrAppend(&keys, "  ", key.key, "  ", key.help, " (", key.range, ")\n");
  }
  loss->footer(keys);
  loss->add_option("--embeddings", o->embeddings, ".npy [B, D], float32 or float64")->required();
  loss->add_option("--labels", o->labels, ".npy [B], integers")->required();
  loss->add_option("--loss", o->loss, absl::StrJoin(LossNames(), ", "))->required();
  loss->add_option("--distance", o->distance, "euclidean, squared, cosine")->capture_default_str();
  loss->add_option("--margin", o->margin, "soft, or a number")->capture_default_str();
  loss->add_option("--option", o->options, "key=value; repeat for more")->allow_extra_args(false);
  loss->add_option("--triplets", o->triplets, "triplet, improved_triplet: .npy [T, 3] of (a, p, n) rows");
  loss->add_option("--gradient", o->gradient, ".npy to write the gradient by the embeddings to");
  loss->add_option("-o,--output", o->output, "table, json")->capture_default_str();
  return loss;
}

absl::StatusOr<std::string> RunLoss(const LossCommandOptions& options, FileSystem& fs) {
  if (options.output != "table" && options.output != "json") {
    return absl::InvalidArgumentError(absl::StrCat("--output ", options.output, ": choose table or json"));
  }
  try {
    return ComputeAndFormat(options, fs);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("LibTorch failed: ", e.what()));
  }
}

}  // namespace doppel
