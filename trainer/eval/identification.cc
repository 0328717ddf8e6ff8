#include "trainer/eval/identification.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/executor.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "common/index/score_blocks.h"
#include "common/index/vector_index.h"
#include "trainer/eval/embed_samples.h"
#include "trainer/eval/verification.h"

namespace doppel {
namespace {

constexpr int64_t kRowsPerTask = 32;

// Samples to embed. Entry i of the gallery is identity i.
struct Protocol {
  std::vector<uint64_t> gallery;
  std::vector<uint64_t> queries;
  std::vector<int64_t> mates;  // the gallery entry of each query's identity
};

absl::Status CheckOptions(const IdentificationOptions& options) {
  if (options.queries_per_identity < 1)
    return absl::InvalidArgumentError("queries_per_identity must be at least 1");
  if (options.recall_at.empty() ||
      *std::min_element(options.recall_at.begin(), options.recall_at.end()) < 1) {
    return absl::InvalidArgumentError("recall_at must name at least one K, all of them 1 or more");
  }
  return absl::OkStatus();
}

absl::StatusOr<Protocol> Draw(const Catalog& catalog, const IdentificationOptions& options) {
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog.Split(options.split));
  Protocol protocol;
  for (uint64_t identity = 0; identity < catalog.num_identities(); ++identity) {
    const IdentitySamples samples = catalog.Samples(identity);
    protocol.gallery.push_back(samples.first);
    const bool queried = identity >= split.first_identity &&
                         identity < split.first_identity + split.identities && samples.count > 1;
    if (!queried) continue;
    const uint64_t others = samples.count - 1;
    const KeyedPermutation order(others, MixKey(options.seed, identity));
    const uint64_t drawn = std::min<uint64_t>(others, static_cast<uint64_t>(options.queries_per_identity));
    for (uint64_t i = 0; i < drawn; ++i) {
      protocol.queries.push_back(samples.first + 1 + order(i));
      protocol.mates.push_back(static_cast<int64_t>(identity));
    }
  }
  if (protocol.queries.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("split \"", split.name, "\" of the catalog ", catalog.directory(),
                     " has no identity with two samples: there is nothing to identify"));
  }
  return protocol;
}

// Place of the mate among the nearest gallery entries, -1 if it is not there.
absl::StatusOr<std::vector<int>> Ranks(absl::Span<const float> gallery, absl::Span<const float> queries,
                                       int dimension, const Protocol& protocol,
                                       const IdentificationOptions& options) {
  const int wanted = *std::max_element(options.recall_at.begin(), options.recall_at.end());
  const int k = static_cast<int>(std::min<size_t>(static_cast<size_t>(wanted), protocol.gallery.size()));
  ASSIGN_OR_RETURN(const std::unique_ptr<VectorIndex> index,
                   MakeExactIndex(gallery, dimension, options.threads));
  ASSIGN_OR_RETURN(const SearchResult found, index->Search(queries, k));
  std::vector<int> ranks(protocol.queries.size(), -1);
  for (size_t query = 0; query < ranks.size(); ++query) {
    const auto row = found.ids.begin() + static_cast<int64_t>(query) * k;
    const auto mate = std::find(row, row + k, protocol.mates[query]);
    if (mate != row + k) ranks[query] = static_cast<int>(mate - row);
  }
  return ranks;
}

// One pass over all query × gallery scores: genuine ones are kept, of the others the largest that the targets
// need.
TarAtFarResult StreamTarAtFar(absl::Span<const float> gallery, absl::Span<const float> queries, int dimension,
                              const Protocol& protocol, const IdentificationOptions& options,
                              uint64_t impostors) {
  std::vector<float> genuine(protocol.queries.size());
  LargestValues largest(ImpostorsNeeded(options.far_targets, impostors));
  ForEachScoreBlock(queries, gallery, dimension, [&](const ScoreBlock& block) {
    const float bound = largest.bound();
    const int64_t tasks = (block.queries + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<std::vector<float>> candidates(static_cast<size_t>(tasks));
    ParallelFor(block.queries, kRowsPerTask, options.threads, [&](int64_t begin, int64_t end) {
      std::vector<float>& mine = candidates[begin / kRowsPerTask];
      for (int64_t row = begin; row < end; ++row) {
        const absl::Span<const float> scores = block.row(row);
        const int64_t mate = protocol.mates[block.first_query + row] - block.first_vector;
        for (int64_t j = 0; j < block.vectors; ++j) {
          if (scores[j] > bound && j != mate) mine.push_back(scores[j]);
        }
        if (mate >= 0 && mate < block.vectors) genuine[block.first_query + row] = scores[mate];
      }
    });
    for (const std::vector<float>& part : candidates) largest.Add(part);
  });
  return TarAtFarFromTop(genuine, largest.Take(), impostors, options.far_targets);
}

}  // namespace

absl::StatusOr<IdentificationReport> EvaluateIdentification(const Catalog& catalog, EmbeddingModel& model,
                                                            const IdentificationOptions& options,
                                                            const Clock& clock) {
  const absl::Time start = clock.Now();
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const Protocol protocol, Draw(catalog, options));
  EmbedOptions embed;
  embed.threads = options.threads;
  embed.batch_size = options.batch_size;
  embed.quiet = options.quiet;
  ASSIGN_OR_RETURN(const std::vector<float> gallery,
                   EmbedSamples(catalog, model, protocol.gallery, "embed gallery", embed, clock));
  if (options.augment_queries) embed.augment_seed = options.seed;
  ASSIGN_OR_RETURN(const std::vector<float> queries,
                   EmbedSamples(catalog, model, protocol.queries, "embed queries", embed, clock));

  const int dimension = model.spec().dimension;
  IdentificationReport report;
  report.queries = protocol.queries.size();
  report.gallery = protocol.gallery.size();
  report.negative_pairs = report.queries * (report.gallery - 1);
  report.model_step = model.spec().step;
  ASSIGN_OR_RETURN(const std::vector<int> ranks, Ranks(gallery, queries, dimension, protocol, options));
  for (const int k : options.recall_at) report.recall.emplace_back(k, RecallAt(ranks, k));
  TarAtFarResult tar = StreamTarAtFar(gallery, queries, dimension, protocol, options, report.negative_pairs);
  for (const TarPoint& point : tar.points) report.tar.emplace_back(point.far, point.tar);
  report.refused_far_targets = std::move(tar.refused);
  report.seconds = absl::ToDoubleSeconds(clock.Now() - start);
  return report;
}

}  // namespace doppel
