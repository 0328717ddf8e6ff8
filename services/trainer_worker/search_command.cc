#include "services/trainer_worker/search_command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "common/index/ivf_index.h"
#include "services/trainer_worker/eval_data_files.h"
#include "trainer/eval/two_step.h"

namespace doppel {
namespace {

using SearchJson = nlohmann::ordered_json;

struct SearchData {
  EvalData index;
  EvalData queries;
  std::vector<std::string> names;
};

absl::Status CheckSearch(const SearchCommandOptions& o) {
  if (o.output != "table" && o.output != "json") {
    return absl::InvalidArgumentError(absl::StrCat("--output is \"", o.output, "\": choose table or json"));
  }
  if (o.top < 1) return absl::InvalidArgumentError("--top must be at least 1");
  if (o.identities < 0)
    return absl::InvalidArgumentError("--identities must be at least 1, or 0 for one step");
  return absl::OkStatus();
}

absl::StatusOr<SearchData> ReadSearchData(const SearchCommandOptions& o) {
  FileSystem& fs = PosixFileSystem();
  SearchData data;
  ASSIGN_OR_RETURN(data.index, ReadEvalData(fs, o.index, o.labels, ""));
  ASSIGN_OR_RETURN(data.queries, ReadEvalData(fs, o.queries, o.query_labels, ""));
  if (data.index.dimension != data.queries.dimension) {
    return absl::InvalidArgumentError(absl::StrCat(o.queries, " has dimension ", data.queries.dimension, ", ",
                                                   o.index, " ", data.index.dimension));
  }
  if (!o.names.empty()) {
    ASSIGN_OR_RETURN(data.names, ReadLines(fs, o.names));
    if (static_cast<int64_t>(data.names.size()) != data.index.rows()) {
      return absl::InvalidArgumentError(absl::StrCat(o.names, ": ", data.names.size(), " names, but ",
                                                     o.index, " holds ", data.index.rows(), " rows"));
    }
  }
  RETURN_IF_ERROR(NormalizeRows(&data.index, o.index));
  RETURN_IF_ERROR(NormalizeRows(&data.queries, o.queries));
  return data;
}

IndexFactory MakeFactory(const SearchCommandOptions& o) {
  if (!o.ivf) {
    return [threads = o.threads](absl::Span<const float> vectors, int dimension) {
      return MakeExactIndex(vectors, dimension, threads);
    };
  }
  IvfOptions ivf;
  ivf.lists = o.lists;
  ivf.probes = o.probes;
  ivf.threads = o.threads;
  ivf.seed = o.seed;
  return
      [ivf](absl::Span<const float> vectors, int dimension) { return MakeIvfIndex(vectors, dimension, ivf); };
}

absl::StatusOr<TwoStepResult> FindRows(const SearchCommandOptions& o, const SearchData& data) {
  if (o.identities > 0) {
    return SearchTwoSteps(data.index, data.queries.vectors, o.identities, o.top, o.threads, MakeFactory(o));
  }
  TwoStepResult result;
  ASSIGN_OR_RETURN(const std::unique_ptr<VectorIndex> index,
                   MakeFactory(o)(data.index.vectors, data.index.dimension));
  ASSIGN_OR_RETURN(result.rows, index->Search(data.queries.vectors, o.top));
  return result;
}

// Share of queries with their label among the first k of `labels` [queries, width].
double ShareFound(const std::vector<int64_t>& labels, const EvalData& queries, int width, int k) {
  int64_t found = 0;
  for (int64_t q = 0; q < queries.rows(); ++q) {
    const auto row = labels.begin() + q * width;
    found += std::find(row, row + k, queries.labels[q]) != row + k ? 1 : 0;
  }
  return static_cast<double>(found) / static_cast<double>(queries.rows());
}

SearchJson Figures(const SearchCommandOptions& o, const SearchData& data, const TwoStepResult& found) {
  std::vector<int64_t> labels;
  labels.reserve(found.rows.ids.size());
  // A place that is not filled has a label that no query asks for.
  constexpr int64_t kNobody = std::numeric_limits<int64_t>::min();
  for (const int64_t row : found.rows.ids) labels.push_back(row < 0 ? kNobody : data.index.labels[row]);
  SearchJson recall;
  recall["1"] = ShareFound(labels, data.queries, o.top, 1);
  if (o.top > 1) recall[absl::StrCat(o.top)] = ShareFound(labels, data.queries, o.top, o.top);
  SearchJson json;
  json["recall"] = recall;
  if (o.identities > 0) {
    json["identity_recall"]["1"] = ShareFound(found.identities.ids, data.queries, o.identities, 1);
    if (o.identities > 1) {
      json["identity_recall"][absl::StrCat(o.identities)] =
          ShareFound(found.identities.ids, data.queries, o.identities, o.identities);
    }
  }
  return json;
}

SearchJson QueryJson(const SearchCommandOptions& o, const SearchData& data, const TwoStepResult& found,
                     int64_t q) {
  SearchJson json;
  json["query"] = q;
  for (int i = 0; i < o.identities; ++i) {
    const int64_t at = q * o.identities + i;
    if (!std::isfinite(found.identities.scores[at])) break;
    json["identities"].push_back(
        {{"label", found.identities.ids[at]}, {"score", found.identities.scores[at]}});
  }
  json["results"] = SearchJson::array();
  for (int i = 0; i < o.top; ++i) {
    const int64_t row = found.rows.ids[q * o.top + i];
    if (row < 0) break;
    SearchJson result;
    result["row"] = row;
    result["label"] = data.index.labels[row];
    result["score"] = found.rows.scores[q * o.top + i];
    if (!data.names.empty()) result["name"] = data.names[row];
    json["results"].push_back(std::move(result));
  }
  return json;
}

std::string SearchTable(const SearchJson& head, const SearchCommandOptions& o, const SearchData& data,
                        const TwoStepResult& found) {
  std::string text = JsonToTable(head.dump());
  absl::StrAppendFormat(&text, "\n%8s %5s %10s %12s %8s%s\n", "query", "place", "row", "label", "score",
                        data.names.empty() ? "" : "  name");
  for (int64_t q = 0; q < data.queries.rows(); ++q) {
    for (int i = 0; i < o.top; ++i) {
      const int64_t row = found.rows.ids[q * o.top + i];
      if (row < 0) break;
      absl::StrAppendFormat(&text, "%8d %5d %10d %12d %8.5f%s%s\n", q, i + 1, row, data.index.labels[row],
                            found.rows.scores[q * o.top + i], data.names.empty() ? "" : "  ",
                            data.names.empty() ? "" : data.names[row]);
    }
  }
  return text;
}

}  // namespace

CLI::App* AddSearchCommand(CLI::App& app, SearchCommandOptions* o) {
  CLI::App* search = app.add_subcommand(
      "search", "Nearest identities (by their mean embedding), then the nearest images inside those");
  search->add_option("--index", o->index, "[N, D] float .npy, as `embed` writes it")->required();
  search->add_option("--labels", o->labels, "[N] integer .npy: identities")->required();
  search->add_option("--queries", o->queries, "[M, D] float .npy")->required();
  search->add_option("--query-labels", o->query_labels, "[M] integer .npy: adds recall");
  search->add_option("--names", o->names, "A line for every row of the index, to show");
  search->add_option("--top", o->top, "Images per query")->capture_default_str();
  search
      ->add_option("--identities", o->identities,
                   "Identities that are looked into (0: all images in one step)")
      ->capture_default_str();
  search->add_flag("--ivf", o->ivf, "Approximate first step: an inverted file (FAISS)");
  search->add_option("--lists", o->lists, "--ivf: cells (0: 4 sqrt(n))")->capture_default_str();
  search->add_option("--probes", o->probes, "--ivf: cells visited")->capture_default_str();
  search->add_option("--threads", o->threads, "That search")->capture_default_str();
  search->add_option("-o,--output", o->output, "table, json")->capture_default_str();
  return search;
}

absl::StatusOr<std::string> RunSearch(const SearchCommandOptions& o) {
  RETURN_IF_ERROR(CheckSearch(o));
  ASSIGN_OR_RETURN(const SearchData data, ReadSearchData(o));
  const absl::Time start = Clock::Real().Now();
  ASSIGN_OR_RETURN(const TwoStepResult found, FindRows(o, data));
  SearchJson json;
  json["protocol"] = o.identities > 0 ? "two-step retrieval" : "one-step retrieval";
  json["distance"] = "cosine";
  json["index"] = o.ivf ? "ivf" : "exact";
  json["queries"] = data.queries.rows();
  json["rows"] = data.index.rows();
  json["top"] = o.top;
  if (o.identities > 0) json["identities_searched"] = o.identities;
  json["search_seconds"] = absl::ToDoubleSeconds(Clock::Real().Now() - start);
  if (!data.queries.labels.empty()) json.update(Figures(o, data, found));
  if (o.output == "table") return SearchTable(json, o, data, found);
  json["results"] = SearchJson::array();
  for (int64_t q = 0; q < data.queries.rows(); ++q) json["results"].push_back(QueryJson(o, data, found, q));
  return absl::StrCat(json.dump(), "\n");
}

}  // namespace doppel
