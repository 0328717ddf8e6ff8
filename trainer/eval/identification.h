#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/catalog/catalog.h"
#include "common/model/embedding_model.h"
#include "trainer/eval/open_gallery.h"

namespace doppel {

// Protocol "open gallery identification": the gallery holds one sample (the first by key) of every identity
// of the catalog, all splits; the queries are up to `queries_per_identity` other samples of every identity of
// `split`, drawn by `seed`, mildly augmented if asked for; an identity with one sample gives none. Rank-1 and
// Recall@K (K nearest gallery entries hold the query's identity) and TAR@FAR over the query × gallery pairs
// (same identity = genuine) by cosine similarity.
struct IdentificationOptions {
  std::string split = "test";
  int queries_per_identity = 2;
  bool augment_queries = false;
  uint64_t seed = 0;
  int threads = 2;
  int batch_size = 192;
  std::vector<int> recall_at = {1, 5, 10};
  std::vector<double> far_targets = {1e-6, 1e-5, 1e-4, 1e-3};
  bool quiet = false;  // no progress bar
};

// Same result for any `threads`. Memory: the embeddings, and 8 bytes per false accept of the largest FAR. A
// sample whose image cannot be used is an error that names it. FAILED_PRECONDITION: the split gives no query.
absl::StatusOr<IdentificationReport> EvaluateIdentification(const Catalog& catalog, EmbeddingModel& model,
                                                            const IdentificationOptions& options,
                                                            const Clock& clock = Clock::Real());
}  // namespace doppel
