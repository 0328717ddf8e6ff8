#include "trainer/loss/attribute.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "trainer/loss/batch_check.h"
#include "trainer/loss/bnneck.h"
#include "trainer/loss/id_softmax.h"
#include "trainer/loss/pair_rows.h"

namespace doppel {
namespace {

constexpr int64_t kUnlabelledBatches = 100;

std::vector<std::string> Cells(absl::string_view line) {
  std::vector<std::string> cells;
  for (const absl::string_view cell : absl::StrSplit(line, ',')) {
    cells.emplace_back(absl::StripAsciiWhitespace(cell));
  }
  return cells;
}

struct RawRow {
  int64_t identity;
  std::vector<std::string> cells;
};

absl::StatusOr<std::vector<RawRow>> ReadRows(const std::vector<absl::string_view>& lines, size_t columns,
                                             absl::string_view where) {
  std::vector<RawRow> rows;
  rows.reserve(lines.size());
  absl::flat_hash_map<int64_t, size_t> line_of;
  for (size_t i = 1; i < lines.size(); ++i) {
    if (absl::StripAsciiWhitespace(lines[i]).empty()) continue;
    RawRow row;
    row.cells = Cells(lines[i]);
    if (row.cells.size() != columns) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ":", i + 1, ": ", row.cells.size(), " cells, but the header has ", columns));
    }
    if (!absl::SimpleAtoi(row.cells[0], &row.identity)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ":", i + 1, ": \"", row.cells[0], "\" is not the number of an identity"));
    }
    const auto [it, is_new] = line_of.try_emplace(row.identity, i + 1);
    if (!is_new) {
      return absl::InvalidArgumentError(absl::StrCat(where, ":", i + 1, ": identity ", row.identity,
                                                     " stands in line ", it->second, " already"));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

absl::StatusOr<AttributeTable> ParseAttributeTable(absl::string_view csv, absl::string_view where) {
  const std::vector<absl::string_view> lines = absl::StrSplit(csv, '\n');
  const std::vector<std::string> header = Cells(lines[0]);
  if (header.size() < 2 || header[0] != "identity") {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": the first line must be a header such as identity,colour,kind, but is \"", lines[0], "\""));
  }
  ASSIGN_OR_RETURN(const std::vector<RawRow> rows, ReadRows(lines, header.size(), where));
  AttributeTable table;
  table.attributes.reserve(header.size() - 1);
  table.classes_of.reserve(rows.size());
  for (const RawRow& row : rows) table.classes_of[row.identity].assign(header.size() - 1, -1);
  for (size_t column = 1; column < header.size(); ++column) {
    std::map<std::string, int64_t> number_of;
    for (const RawRow& row : rows) {
      if (!row.cells[column].empty()) number_of.try_emplace(row.cells[column], 0);
    }
    if (number_of.size() < 2) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": attribute \"", header[column], "\" has ",
                                                     number_of.size(),
                                                     " classes: at least 2 are needed to tell apart"));
    }
    AttributeTable::Attribute attribute;
    attribute.name = header[column];
    attribute.classes.reserve(number_of.size());
    for (auto& [name, number] : number_of) {
      number = static_cast<int64_t>(attribute.classes.size());
      attribute.classes.push_back(name);
    }
    for (const RawRow& row : rows) {
      if (!row.cells[column].empty()) {
        table.classes_of[row.identity][column - 1] = number_of[row.cells[column]];
      }
    }
    table.attributes.push_back(std::move(attribute));
  }
  return table;
}

absl::StatusOr<std::unique_ptr<AttributeLossModule>> AttributeLossModule::Create(
    AttributeTable table, const AttributeOptions& options) {
  if (table.attributes.empty()) {
    return absl::InvalidArgumentError(
        "attribute: there is no attribute to learn: give a table with attributes=FILE.csv");
  }
  if (options.dimension < 1) return absl::InvalidArgumentError("attribute: the dimension must be at least 1");
  if (!(options.scale >= 0 && std::isfinite(options.scale))) {
    return absl::InvalidArgumentError(
        absl::StrCat("attribute: softmax_scale ", options.scale, " must not be negative"));
  }
  if (!(options.label_smoothing >= 0 && options.label_smoothing < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("attribute: label_smoothing ", options.label_smoothing, " must lie in [0, 1)"));
  }
  return std::unique_ptr<AttributeLossModule>(new AttributeLossModule(std::move(table), options));
}

AttributeLossModule::AttributeLossModule(AttributeTable table, const AttributeOptions& options)
    : table_(std::move(table)), options_(options) {
  const double deviation = 1.0 / std::sqrt(static_cast<double>(options.dimension));
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  heads_.reserve(table_.attributes.size());
  for (const AttributeTable::Attribute& attribute : table_.attributes) {
    const int64_t classes = static_cast<int64_t>(attribute.classes.size());
    Head head;
    head.weight = (at::randn({classes, options.dimension}, generator, at::TensorOptions()) * deviation)
                      .requires_grad_(true);
    if (options.scale == 0) head.bias = at::zeros({classes}).requires_grad_(true);
    heads_.push_back(std::move(head));
  }
}

absl::StatusOr<torch::Tensor> AttributeLossModule::CrossEntropy(const torch::Tensor& features,
                                                                absl::Span<const int64_t> identities) {
  RETURN_IF_ERROR(CheckEmbeddings(features, identities));
  if (features.size(1) != options_.dimension) {
    return absl::InvalidArgumentError(absl::StrCat("embeddings have ", features.size(1),
                                                   " dimensions, the attribute heads ", options_.dimension));
  }
  IdSoftmaxOptions softmax;
  softmax.scale = options_.scale;
  softmax.label_smoothing = options_.label_smoothing;
  torch::Tensor sum = (features * 0).sum();
  int64_t known = 0;
  for (size_t h = 0; h < heads_.size(); ++h) {
    std::vector<int64_t> rows, targets;
    for (size_t row = 0; row < identities.size(); ++row) {
      const auto it = table_.classes_of.find(identities[row]);
      if (it == table_.classes_of.end() || it->second[h] < 0) continue;
      rows.push_back(static_cast<int64_t>(row));
      targets.push_back(it->second[h]);
    }
    if (rows.empty()) continue;
    ++known;
    const auto on_device = [&](const std::vector<int64_t>& values) {
      return at::tensor(at::ArrayRef<int64_t>(values)).to(features.device());
    };
    sum = sum + IdSoftmaxLoss(features.index_select(0, on_device(rows)), on_device(targets), heads_[h].weight,
                              heads_[h].bias, softmax);
  }
  ++batches_;
  labelled_batches_ += known > 0;
  if (labelled_batches_ == 0 && batches_ >= kUnlabelledBatches) {
    return absl::FailedPreconditionError(absl::StrCat(
        "attribute: none of the identities of the first ", batches_,
        " batches stands in the attribute table: its first column must hold the catalog's numbers"));
  }
  return known > 0 ? sum / static_cast<double>(known) : sum;
}

absl::StatusOr<LossResult> AttributeLossModule::Compute(const LossInput& input) {
  if (input.memory.defined() && input.memory.size(0) > 0) {
    return absl::InvalidArgumentError("attribute cannot use a cross-batch memory: set memory to 0");
  }
  LossResult result;
  ASSIGN_OR_RETURN(result.loss, CrossEntropy(input.embeddings, input.identities));
  ASSIGN_OR_RETURN(result.statistics, WatchHardest(input, options_.distance));
  result.statistics.loss = result.loss.item<double>();
  return result;
}

NamedTensors AttributeLossModule::NamedParameters() {
  NamedTensors parameters;
  parameters.reserve(2 * heads_.size());
  for (size_t h = 0; h < heads_.size(); ++h) {
    parameters.emplace_back(absl::StrCat(table_.attributes[h].name, ".weight"), heads_[h].weight);
    if (heads_[h].bias.defined()) {
      parameters.emplace_back(absl::StrCat(table_.attributes[h].name, ".bias"), heads_[h].bias);
    }
  }
  return parameters;
}

NamedTensors AttributeLossModule::State() {
  NamedTensors state = NamedParameters();
  state.emplace_back("labelled", at::full({1}, labelled_batches_, torch::kInt64));
  state.emplace_back("batches", at::full({1}, batches_, torch::kInt64));
  return state;
}

absl::Status AttributeLossModule::LoadState(const NamedTensors& state) {
  NamedTensors own = NamedParameters();
  const torch::Tensor labelled = at::zeros({1}, torch::kInt64), batches = at::zeros({1}, torch::kInt64);
  own.emplace_back("labelled", labelled);
  own.emplace_back("batches", batches);
  RETURN_IF_ERROR(CopyNamed(state, "attribute heads", own));
  labelled_batches_ = labelled.item<int64_t>();
  batches_ = batches.item<int64_t>();
  return absl::OkStatus();
}

void AttributeLossModule::To(const torch::Device& device) {
  at::NoGradGuard no_grad;
  for (Head& head : heads_) {
    head.weight = head.weight.detach().to(device).requires_grad_(true);
    if (head.bias.defined()) head.bias = head.bias.detach().to(device).requires_grad_(true);
  }
}

}  // namespace doppel
