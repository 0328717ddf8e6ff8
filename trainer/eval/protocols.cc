#include "trainer/eval/protocols.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "trainer/eval/all_pairs.h"
#include "trainer/eval/coverage.h"
#include "trainer/eval/distractors.h"
#include "trainer/eval/open_gallery.h"
#include "trainer/eval/retrieval.h"

namespace doppel {
namespace {

using Json = nlohmann::ordered_json;
using JsonOr = absl::StatusOr<Json>;

std::string Short(double value) { return absl::StrFormat("%g", value); }

template <typename Key>
Json ByKey(const std::vector<std::pair<Key, double>>& values) {
  Json json = Json::object();
  for (const auto& [key, value] : values) json[absl::StrCat(key)] = value;
  return json;
}

const EvalData* Queries(const ProtocolData& data) {
  return data.queries.dimension == 0 ? nullptr : &data.queries;
}

JsonOr Retrieval(const ProtocolRequest& request, const ProtocolData& data) {
  ASSIGN_OR_RETURN(const RetrievalReport report,
                   EvaluateRetrieval(data.gallery, Queries(data), request.top, request.ranking));
  Json json;
  json["queries"] = report.queries;
  json["unmatched_queries"] = report.unmatched;
  json["gallery"] = report.gallery;
  json["recall"] = ByKey(report.recall);
  json["r_precision"] = report.r_precision;
  json["map_at_r"] = report.map_at_r;
  json["map"] = report.mean_average_precision;
  return json;
}

JsonOr Market(const ProtocolRequest& request, const ProtocolData& data) {
  if (Queries(data) == nullptr) {
    return absl::InvalidArgumentError("market1501 needs queries apart from the gallery");
  }
  ASSIGN_OR_RETURN(const MarketReport report,
                   EvaluateMarket(data.gallery, data.queries, request.top, request.ranking));
  Json json;
  json["queries"] = report.queries;
  json["unmatched_queries"] = report.unmatched;
  json["junk_queries"] = report.junk_queries;
  json["gallery"] = report.gallery;
  json["junk_dropped"] = report.junk;
  json["distractors"] = report.distractors;
  json["cmc"] = ByKey(report.cmc);
  json["ap_std"] = report.ap_std;
  json["ap_market"] = report.ap_market;
  json["minp"] = report.minp;
  return json;
}

JsonOr Lfw(const ProtocolRequest& request, const ProtocolData& data) {
  if (!data.has_pairs) return absl::InvalidArgumentError("lfw needs pairs");
  std::vector<bool> same;
  same.reserve(data.pairs.size());
  for (const LabelledPair& pair : data.pairs) same.push_back(pair.same);
  ASSIGN_OR_RETURN(const LfwReport report, EvaluateLfw(SquaredDistances(data.gallery, data.pairs), same,
                                                       request.folds, request.val_far));
  Json json;
  json["pairs"] = report.pairs;
  json["positive_pairs"] = report.same;
  json["negative_pairs"] = report.different;
  json["folds"] = report.fold_accuracy.size();
  json["accuracy"] = report.accuracy;
  json["accuracy_std"] = report.deviation;
  json["standard_error"] = report.standard_error;
  json["val"] = report.val;
  json["val_std"] = report.val_deviation;
  json["val_far_target"] = report.far_target;
  json["val_far"] = report.val_far;
  json["fold_accuracy"] = report.fold_accuracy;
  json["fold_threshold"] = report.fold_threshold;
  return json;
}

TarAtFarResult VerifyPairs(const ProtocolRequest& request, const ProtocolData& data, uint64_t* genuine_count,
                           uint64_t* impostor_count) {
  std::vector<float> genuine;
  std::vector<float> impostors;
  const bool euclidean = request.ranking.similarity == Similarity::kEuclidean;
  const std::vector<double> distances =
      euclidean ? SquaredDistances(data.gallery, data.pairs) : std::vector<double>();
  for (size_t i = 0; i < data.pairs.size(); ++i) {
    const LabelledPair& pair = data.pairs[i];
    const double score = euclidean ? -distances[i]
                                   : ExactScore(data.gallery.row(pair.first), data.gallery.row(pair.second),
                                                data.gallery.dimension, Similarity::kInnerProduct);
    (pair.same ? genuine : impostors).push_back(static_cast<float>(score));
  }
  *genuine_count = genuine.size();
  *impostor_count = impostors.size();
  return TarAtFar(genuine, impostors, request.far_targets);
}

JsonOr Verification(const ProtocolRequest& request, const ProtocolData& data) {
  AllPairsReport report;
  if (data.has_pairs) {
    report.tar = VerifyPairs(request, data, &report.genuine, &report.impostors);
  } else {
    ASSIGN_OR_RETURN(report,
                     VerifyAllPairs(data.gallery, Queries(data), request.far_targets, request.ranking));
  }
  if (report.genuine == 0 || report.impostors == 0) {
    return absl::FailedPreconditionError(absl::StrCat("verification over ", report.genuine, " pairs of the ",
                                                      "same identity and ", report.impostors,
                                                      " of different ones: both must be there"));
  }
  Json json;
  json["pairs"] = report.genuine + report.impostors;
  json["positive_pairs"] = report.genuine;
  json["negative_pairs"] = report.impostors;
  json["tar"] = Json::object();
  json["threshold"] = Json::object();
  for (const TarPoint& point : report.tar.points) {
    json["tar"][Short(point.far)] = point.tar;
    json["threshold"][Short(point.far)] = point.threshold;
  }
  json["refused_far_targets"] = report.tar.refused;
  return json;
}

JsonOr Distractors(const ProtocolRequest& request, const ProtocolData& data) {
  ASSIGN_OR_RETURN(
      const DistractorsReport report,
      EvaluateDistractors(data.gallery, Queries(data), request.distractors, request.seed, request.ranking));
  Json json;
  json["probes"] = report.probes;
  json["unmatched_probes"] = report.unmatched;
  json["pairs"] = report.pairs;
  json["distractors_available"] = report.available;
  json["seed"] = request.seed;
  json["rank1"] = ByKey(report.rank1);
  json["refused_distractors"] = report.refused;
  return json;
}

Json CoverageFigures(const CoverageReport& report) {
  Json json;
  json["queries"] = report.queries;
  json["unmatched_queries"] = report.unmatched;
  json["accuracy"] = report.accuracy;
  json["coverage"] = Json::object();
  for (const CoveragePoint& point : report.points) {
    const std::string target = Short(point.target);
    json["coverage"][target] = point.coverage;
    json["answered"][target] = point.answered;
    json["precision"][target] = point.precision;
    json["threshold"][target] = point.threshold;
  }
  return json;
}

JsonOr CoverageJson(const ProtocolRequest& request, const ProtocolData& data) {
  ASSIGN_OR_RETURN(const CoverageReport report,
                   EvaluateCoverage(data.gallery, Queries(data), request.precisions, request.ranking));
  Json json = CoverageFigures(report);
  json["gallery"] = data.gallery.rows();
  return json;
}

// Without queries: the first row of every label is the gallery, all others are queries.
void SplitFirstRows(ProtocolData* data) {
  EvalData gallery;
  gallery.dimension = data->queries.dimension = data->gallery.dimension;
  const LabelGroups groups(data->gallery.labels);
  for (int64_t i = 0; i < data->gallery.rows(); ++i) {
    const int64_t label = data->gallery.labels[i];
    EvalData& part = groups.Rows(label).front() == i ? gallery : data->queries;
    part.vectors.insert(part.vectors.end(), data->gallery.row(i), data->gallery.row(i) + gallery.dimension);
    part.labels.push_back(label);
  }
  data->gallery = std::move(gallery);
}

JsonOr OpenGalleryJson(const ProtocolRequest& request, ProtocolData* data) {
  if (request.ranking.similarity != Similarity::kInnerProduct) {
    return absl::InvalidArgumentError("open_gallery ranks by cosine alone");
  }
  if (Queries(*data) == nullptr) SplitFirstRows(data);
  absl::flat_hash_map<int64_t, int64_t> rows;
  for (int64_t i = 0; i < data->gallery.rows(); ++i) {
    if (rows.emplace(data->gallery.labels[i], i).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("open_gallery wants one row of every label in the gallery, ", "but label ",
                     data->gallery.labels[i], " has two: retrieval ", "is the protocol for such data"));
  }
  std::vector<int64_t> mates;
  mates.reserve(data->queries.labels.size());
  for (const int64_t label : data->queries.labels) {
    const auto at = rows.find(label);
    if (at == rows.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("open_gallery: a query has label ", label, ", which the gallery does not have"));
    }
    mates.push_back(at->second);
  }
  if (mates.empty()) return absl::FailedPreconditionError("open_gallery: there is no query");
  if (data->queries.dimension != data->gallery.dimension) {
    return absl::InvalidArgumentError("open_gallery: queries and gallery differ in dimension");
  }
  OpenGallery open;
  open.gallery = data->gallery.vectors;
  open.queries = data->queries.vectors;
  open.dimension = data->gallery.dimension;
  open.mates = mates;
  ASSIGN_OR_RETURN(const IdentificationReport report,
                   IdentifyInOpenGallery(open, request.top, request.far_targets, request.ranking.threads));
  Json json = Json::parse(ToJson(report));
  for (const char* unknown : {"protocol", "model_step", "seconds"}) json.erase(unknown);
  return json;
}

JsonOr Measure(const ProtocolRequest& request, ProtocolData* data) {
  if (request.protocol == "retrieval") return Retrieval(request, *data);
  if (request.protocol == "market1501") return Market(request, *data);
  if (request.protocol == "lfw") return Lfw(request, *data);
  if (request.protocol == "verification") return Verification(request, *data);
  if (request.protocol == "identification_distractors") return Distractors(request, *data);
  if (request.protocol == "coverage") return CoverageJson(request, *data);
  return OpenGalleryJson(request, data);
}

absl::Status Prepare(const ProtocolRequest& request, ProtocolData* data) {
  if (data->has_pairs && data->gallery.labels.empty()) data->gallery.labels.resize(data->gallery.rows());
  RETURN_IF_ERROR(CheckEvalData(data->gallery, "embeddings"));
  const bool queries = data->queries.dimension != 0;
  if (queries) RETURN_IF_ERROR(CheckEvalData(data->queries, "query embeddings"));
  for (const LabelledPair& pair : data->pairs) {
    const int64_t low = std::min(pair.first, pair.second);
    const int64_t high = std::max(pair.first, pair.second);
    if (low >= 0 && high < data->gallery.rows()) continue;
    return absl::InvalidArgumentError(absl::StrCat("pair (", pair.first, ", ", pair.second,
                                                   ") points outside ", "the ", data->gallery.rows(),
                                                   " embeddings"));
  }
  // LFW's distances are those of unit vectors; as a ranking, so is Euclidean distance of what was given.
  if (request.ranking.similarity == Similarity::kEuclidean && request.protocol != "lfw") {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(NormalizeRows(&data->gallery, "embeddings"));
  if (queries) RETURN_IF_ERROR(NormalizeRows(&data->queries, "query embeddings"));
  return absl::OkStatus();
}

}  // namespace

std::string CoverageToJson(const CoverageReport& report) {
  Json json;
  json["protocol"] = "coverage";
  json.update(CoverageFigures(report));
  return json.dump(2);
}

absl::Status CheckProtocol(const std::string& protocol) {
  const std::vector<std::string> known = {"open_gallery", "lfw",          "market1501",
                                          "retrieval",    "verification", "identification_distractors",
                                          "coverage"};
  if (std::find(known.begin(), known.end(), protocol) != known.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("protocol \"", protocol, "\": there are ", absl::StrJoin(known, ", ")));
}

absl::StatusOr<std::string> RunProtocol(const ProtocolRequest& asked, ProtocolData data) {
  ProtocolRequest request = asked;
  if (request.far_targets.empty()) {
    request.far_targets = {1e-6, 1e-5, 1e-4, 1e-3};
    if (request.protocol != "open_gallery")
      request.far_targets.insert(request.far_targets.end(), {1e-2, 1e-1});
  }
  RETURN_IF_ERROR(CheckProtocol(request.protocol));
  RETURN_IF_ERROR(Prepare(request, &data));
  ASSIGN_OR_RETURN(const Json figures, Measure(request, &data));
  Json json;
  json["protocol"] = request.protocol == "open_gallery" ? "open gallery identification" : request.protocol;
  json["distance"] = request.ranking.similarity == Similarity::kEuclidean && request.protocol != "lfw"
                         ? "euclidean"
                         : "cosine";
  json.update(figures);
  return json.dump(2);
}

}  // namespace doppel
