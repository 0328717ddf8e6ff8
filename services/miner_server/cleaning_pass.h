#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/catalog/catalog.h"
#include "common/io/file_system.h"
#include "doppel/v1/cleaning.pb.h"
#include "miner/cleaning/cleaning_state.h"
#include "miner/generation/generation.h"

namespace doppel {

using KeepGoing = std::function<bool(int64_t, int64_t)>;  // as NeighbourOptions::on_progress

// Both kinds of findings from embeddings in .npy files (request.embeddings_path, labels_path).
// INVALID_ARGUMENT: they do not fit each other; FAILED_PRECONDITION: they are not of this catalog's samples.
absl::StatusOr<v1::FindingsReplaced> FindFromEmbeddings(FileSystem& fs, const Catalog& catalog,
                                                        const v1::FindRequest& request,
                                                        const KeepGoing& keep_going);
// Duplicates from a generation's representations; its neighbours are taken if it has them.
absl::StatusOr<v1::FindingsReplaced> FindFromGeneration(const Generation& generation,
                                                        const v1::FindRequest& request,
                                                        const KeepGoing& keep_going);

// What ListFindings answers, of one state.
absl::StatusOr<v1::ListFindingsResponse> ListFindingsOf(const CleaningState& state, const Catalog& catalog,
                                                        const v1::ListFindingsRequest& request);
// Findings, and decisions about what was not found, as CSV with a header.
absl::StatusOr<std::string> FindingsCsv(const CleaningState& state, const Catalog& catalog);

// INVALID_ARGUMENT: the catalog has no such identity or sample.
absl::Status CheckSubject(const v1::CleaningSubject& subject, const Catalog& catalog);

}  // namespace doppel
