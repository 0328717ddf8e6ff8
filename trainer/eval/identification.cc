#include "trainer/eval/identification.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/permutation.h"
#include "common/base/philox.h"
#include "common/base/status_macros.h"
#include "trainer/eval/embed_samples.h"

namespace doppel {
namespace {

// Samples to embed. Entry i of the gallery is identity i.
struct Protocol {
  std::vector<uint64_t> gallery;
  std::vector<uint64_t> queries;
  std::vector<int64_t> mates;  // the gallery entry of each query's identity
};

absl::StatusOr<Protocol> Draw(const Catalog& catalog, const IdentificationOptions& options) {
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog.Split(options.split));
  const IdentityRows rows = split.rows();
  Protocol protocol;
  for (uint64_t identity = 0; identity < catalog.num_identities(); ++identity) {
    const IdentitySamples samples = catalog.Samples(identity);
    protocol.gallery.push_back(samples.first);
    const bool queried = rows.Contains(identity) && samples.count > 1;
    if (!queried) continue;
    const uint64_t others = samples.count - 1;
    const KeyedPermutation order(others, MixKey(options.seed, identity));
    const uint64_t drawn = std::min<uint64_t>(others, static_cast<uint64_t>(options.queries_per_identity));
    for (uint64_t i = 0; i < drawn; ++i) {
      protocol.queries.push_back(samples[1 + order(i)]);
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

}  // namespace

absl::StatusOr<IdentificationReport> EvaluateIdentification(const Catalog& catalog, EmbeddingModel& model,
                                                            const IdentificationOptions& options,
                                                            const Clock& clock) {
  const absl::Time start = clock.Now();
  if (options.queries_per_identity < 1)
    return absl::InvalidArgumentError("queries_per_identity must be at least 1");
  RETURN_IF_ERROR(CheckRecallAt(options.recall_at));
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

  OpenGallery data;
  data.gallery = gallery;
  data.queries = queries;
  data.dimension = model.spec().dimension;
  data.mates = protocol.mates;
  ASSIGN_OR_RETURN(IdentificationReport report,
                   IdentifyInOpenGallery(data, options.recall_at, options.far_targets, options.threads));
  report.model_step = model.spec().step;
  report.seconds = absl::ToDoubleSeconds(clock.Now() - start);
  return report;
}

}  // namespace doppel
