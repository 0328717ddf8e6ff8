#include "trainer/eval/open_gallery.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"
#include "common/index/score_blocks.h"
#include "common/index/vector_index.h"
#include "trainer/eval/verification.h"

namespace doppel {
namespace {

constexpr int64_t kRowsPerTask = 32;

// Place of the mate among the nearest gallery entries, -1 if it is not there.
absl::StatusOr<std::vector<int>> Ranks(const OpenGallery& data, absl::Span<const int> recall_at,
                                       int threads) {
  const int wanted = *std::max_element(recall_at.begin(), recall_at.end());
  const int k =
      static_cast<int>(std::min<size_t>(static_cast<size_t>(wanted), data.gallery.size() / data.dimension));
  ASSIGN_OR_RETURN(const std::unique_ptr<VectorIndex> index,
                   MakeExactIndex(data.gallery, data.dimension, threads));
  ASSIGN_OR_RETURN(const SearchResult found, index->Search(data.queries, k));
  std::vector<int> ranks(data.mates.size(), -1);
  for (size_t query = 0; query < ranks.size(); ++query) {
    const auto row = found.ids.begin() + static_cast<int64_t>(query) * k;
    const auto mate = std::find(row, row + k, data.mates[query]);
    if (mate != row + k) ranks[query] = static_cast<int>(mate - row);
  }
  return ranks;
}

// One pass over all query × gallery scores: genuine ones are kept, of the others the largest that the targets
// need.
TarAtFarResult StreamTarAtFar(const OpenGallery& data, absl::Span<const double> far_targets, int threads,
                              uint64_t impostors) {
  std::vector<float> genuine(data.mates.size());
  LargestValues largest(ImpostorsNeeded(far_targets, impostors));
  ForEachScoreBlock(data.queries, data.gallery, data.dimension, [&](const ScoreBlock& block) {
    const float bound = largest.bound();
    const int64_t tasks = (block.queries + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<std::vector<float>> candidates(static_cast<size_t>(tasks));
    ParallelFor(block.queries, kRowsPerTask, threads, [&](int64_t begin, int64_t end) {
      std::vector<float>& mine = candidates[begin / kRowsPerTask];
      for (int64_t row = begin; row < end; ++row) {
        const absl::Span<const float> scores = block.row(row);
        const int64_t mate = data.mates[block.first_query + row] - block.first_vector;
        for (int64_t j = 0; j < block.vectors; ++j) {
          if (scores[j] > bound && j != mate) mine.push_back(scores[j]);
        }
        if (mate >= 0 && mate < block.vectors) genuine[block.first_query + row] = scores[mate];
      }
    });
    for (const std::vector<float>& part : candidates) largest.Add(part);
  });
  return TarAtFarFromTop(genuine, largest.Take(), impostors, far_targets);
}

}  // namespace

absl::Status CheckRecallAt(absl::Span<const int> recall_at) {
  if (recall_at.empty() || *std::min_element(recall_at.begin(), recall_at.end()) < 1) {
    return absl::InvalidArgumentError("recall_at must name at least one K, all of them 1 or more");
  }
  return absl::OkStatus();
}

absl::StatusOr<IdentificationReport> IdentifyInOpenGallery(const OpenGallery& data,
                                                           absl::Span<const int> recall_at,
                                                           absl::Span<const double> far_targets,
                                                           int threads) {
  RETURN_IF_ERROR(CheckRecallAt(recall_at));
  IdentificationReport report;
  report.queries = data.mates.size();
  report.gallery = data.gallery.size() / data.dimension;
  report.negative_pairs = report.queries * (report.gallery - 1);
  ASSIGN_OR_RETURN(const std::vector<int> ranks, Ranks(data, recall_at, threads));
  for (const int k : recall_at) report.recall.emplace_back(k, RecallAt(ranks, k));
  TarAtFarResult tar = StreamTarAtFar(data, far_targets, threads, report.negative_pairs);
  for (const TarPoint& point : tar.points) report.tar.emplace_back(point.far, point.tar);
  report.refused_far_targets = std::move(tar.refused);
  return report;
}

}  // namespace doppel
