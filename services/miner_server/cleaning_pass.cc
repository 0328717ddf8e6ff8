#include "services/miner_server/cleaning_pass.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status_macros.h"
#include "common/io/npy.h"
#include "miner/cleaning/findings.h"
#include "miner/cleaning/verdict_name.h"

namespace doppel {
namespace {

constexpr uint32_t kDefaultNeighbours = 10;
constexpr uint32_t kDefaultListed = 1000;

absl::StatusOr<FindingLimits> LimitsOfFind(const v1::FindRequest& request) {
  FindingLimits limits;
  if (request.min_probability() != 0) limits.min_probability = request.min_probability();
  if (request.min_precision() != 0) {
    if (!(request.min_precision() > 0 && request.min_precision() <= 1)) {
      return absl::InvalidArgumentError("min_precision: must lie between 0 and 1");
    }
    limits.min_precision_of_pairs = limits.min_precision_of_samples = request.min_precision();
  }
  if (!(limits.min_probability > 0 && limits.min_probability <= 1)) {
    return absl::InvalidArgumentError("min_probability: must lie between 0 and 1");
  }
  if (request.neighbours() > 1000) return absl::InvalidArgumentError("neighbours: at most 1 000");
  return limits;
}

int NeighboursOf(const v1::FindRequest& request) {
  return static_cast<int>(request.neighbours() == 0 ? kDefaultNeighbours : request.neighbours());
}

absl::StatusOr<EmbeddingSet> ReadEmbeddings(FileSystem& fs, const v1::FindRequest& request) {
  if (request.labels_path().empty()) {
    return absl::InvalidArgumentError("labels_path: embeddings need the labels that `embed --labels` wrote");
  }
  Matrix rows;
  {
    ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(fs, request.embeddings_path()));
    if (array.shape.size() != 2 || array.shape[1] < 1 || array.shape[1] > (1 << 20)) {
      return absl::InvalidArgumentError(
          absl::StrCat(request.embeddings_path(), ": is not [samples, dimension]"));
    }
    rows.rows = array.shape[0];
    rows.dimension = static_cast<int>(array.shape[1]);
    ASSIGN_OR_RETURN(rows.values, NpyToFloats(array));
  }
  ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(fs, request.labels_path()));
  ASSIGN_OR_RETURN(const std::vector<int64_t> labels, NpyToInts(array));
  return MakeEmbeddingSet(std::move(rows), labels);
}

// Rows of an identity are its samples in the catalog's order.
absl::StatusOr<std::vector<uint64_t>> SamplesOfRows(const EmbeddingSet& set, const Catalog& catalog) {
  std::vector<uint64_t> samples;
  samples.reserve(set.source.size());
  for (uint64_t identity = 0; identity < set.identities(); ++identity) {
    const auto count = static_cast<uint64_t>(set.count(identity));
    if (count == 0) continue;
    if (identity >= catalog.num_identities() || catalog.Samples(identity).count != count) {
      return absl::FailedPreconditionError(
          absl::StrCat("labels: identity ", identity, " has ", count, " rows, and ",
                       identity < catalog.num_identities() ? catalog.Samples(identity).count : 0,
                       " samples in the catalog: embed this catalog, all samples of its identities"));
    }
    const IdentitySamples own = catalog.Samples(identity);
    for (uint64_t i = 0; i < count; ++i) samples.push_back(own[i]);
  }
  return samples;
}

std::string CsvField(absl::string_view text) {
  if (text.find_first_of(",\"\r\n") == absl::string_view::npos) return std::string(text);
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

bool IsSample(const v1::CleaningSubject& subject) {
  return subject.kind() == v1::CleaningSubject::KIND_MISLABELLED_SAMPLE;
}

// A journal may be of another catalog than the one that is served.
absl::Status CheckFinding(const v1::Finding& finding, const Catalog& catalog) {
  RETURN_IF_ERROR(CheckSubject(finding.subject(), catalog));
  if (!IsSample(finding.subject()) || finding.nearest_identity() < catalog.num_identities()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      SubjectId(finding.subject()), ": its nearest identity is ", finding.nearest_identity(),
      ", and the catalog has ", catalog.num_identities(), ", counted from 0: find anew for this catalog"));
}

absl::StatusOr<v1::ListedFinding> Listed(const CleaningState& state, const GuardList& guards,
                                         const Catalog& catalog, v1::Finding finding) {
  RETURN_IF_ERROR(CheckFinding(finding, catalog));
  v1::ListedFinding listed;
  const v1::CleaningSubject& subject = finding.subject();
  listed.set_id(SubjectId(subject));
  listed.set_above_threshold(finding.probability() > 0 && state.AboveThreshold(finding));
  const v1::Decision* const decision = state.DecisionOn(listed.id());
  if (decision != nullptr) *listed.mutable_decision() = *decision;
  if (IsSample(subject)) {
    finding.set_identity(catalog.Sample(subject.sample()).identity);
    listed.set_first_name(std::string(catalog.IdentityName(finding.identity())));
    listed.set_second_name(std::string(catalog.IdentityName(finding.nearest_identity())));
    listed.set_sample_key(std::string(catalog.SampleKey(subject.sample())));
    listed.set_guarded(guards.Dropped(subject.sample()));
  } else {
    listed.set_first_name(std::string(catalog.IdentityName(subject.first_identity())));
    listed.set_second_name(std::string(catalog.IdentityName(subject.second_identity())));
    listed.set_guarded(guards.Guarded(subject.first_identity(), subject.second_identity()));
  }
  *listed.mutable_finding() = std::move(finding);
  return listed;
}

// Findings in their order, then decisions about what was not found.
std::vector<v1::Finding> EverythingOf(const CleaningState& state) {
  std::vector<v1::Finding> all(state.findings().findings().begin(), state.findings().findings().end());
  std::set<std::string> found;
  for (const v1::Finding& finding : all) found.insert(SubjectId(finding.subject()));
  for (const v1::Decision& decision : state.Decisions()) {
    if (!found.insert(SubjectId(decision.subject())).second) continue;
    all.emplace_back();
    *all.back().mutable_subject() = decision.subject();
  }
  return all;
}

absl::Status ListByIds(const CleaningState& state, const GuardList& guards, const Catalog& catalog,
                       const v1::ListFindingsRequest& request, v1::ListFindingsResponse* response) {
  std::set<std::string> wanted;
  for (const std::string& id : request.ids()) {
    ASSIGN_OR_RETURN(const v1::CleaningSubject subject, ParseSubjectId(id));
    RETURN_IF_ERROR(CheckSubject(subject, catalog));
    wanted.insert(SubjectId(subject));
  }
  for (const v1::Finding& finding : state.findings().findings()) {
    if (wanted.erase(SubjectId(finding.subject())) == 0) continue;
    ASSIGN_OR_RETURN(*response->add_findings(), Listed(state, guards, catalog, finding));
  }
  for (const std::string& id : wanted) {
    v1::Finding bare;
    ASSIGN_OR_RETURN(*bare.mutable_subject(), ParseSubjectId(id));
    ASSIGN_OR_RETURN(*response->add_findings(), Listed(state, guards, catalog, std::move(bare)));
  }
  response->set_total(static_cast<uint64_t>(response->findings_size()));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSubject(const v1::CleaningSubject& subject, const Catalog& catalog) {
  const bool good = IsSample(subject) ? subject.sample() < catalog.num_samples()
                                      : std::max(subject.first_identity(), subject.second_identity()) <
                                            catalog.num_identities();
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(SubjectId(subject), ": the catalog has ",
                                                 catalog.num_identities(), " identities and ",
                                                 catalog.num_samples(), " samples, counted from 0"));
}

absl::StatusOr<v1::FindingsReplaced> FindFromEmbeddings(FileSystem& fs, const Catalog& catalog,
                                                        const v1::FindRequest& request,
                                                        const KeepGoing& keep_going) {
  ASSIGN_OR_RETURN(const FindingLimits limits, LimitsOfFind(request));
  ASSIGN_OR_RETURN(const EmbeddingSet set, ReadEmbeddings(fs, request));
  ASSIGN_OR_RETURN(const std::vector<uint64_t> samples, SamplesOfRows(set, catalog));
  v1::FindingsReplaced findings;
  DuplicateOptions duplicates;
  duplicates.neighbours = NeighboursOf(request);
  duplicates.seed = request.seed();
  duplicates.on_progress = keep_going;
  ASSIGN_OR_RETURN(const DuplicateReport pairs, FindDuplicateIdentities(set, duplicates));
  AddDuplicateFindings(pairs, limits, &findings);
  OutlierOptions outliers;
  outliers.seed = request.seed();
  outliers.on_progress = keep_going;
  ASSIGN_OR_RETURN(const OutlierReport wrong, FindOutlierSamples(set, outliers));
  AddOutlierFindings(wrong, samples, limits, &findings);
  return findings;
}

absl::StatusOr<v1::FindingsReplaced> FindFromGeneration(const Generation& generation,
                                                        const v1::FindRequest& request,
                                                        const KeepGoing& keep_going) {
  ASSIGN_OR_RETURN(const FindingLimits limits, LimitsOfFind(request));
  const IdentityRows covered = generation.rows();
  const uint64_t n = covered.size();
  IdentityNeighbours neighbours;
  if (generation.num_neighbours() > 0) {
    neighbours.neighbours = 1;
    neighbours.rows.reserve(n);
    neighbours.similarities.reserve(n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t identity = covered.Identity(i);
      neighbours.rows.push_back(static_cast<uint32_t>(covered.Row(generation.Neighbours(identity)[0])));
      neighbours.similarities.push_back(generation.NeighbourSimilarities(identity)[0]);
    }
  } else if (n > 1) {
    Matrix rows{static_cast<int64_t>(n), generation.dimension(), {}};
    rows.values.reserve(n * generation.dimension());
    for (uint64_t i = 0; i < n; ++i) {
      const absl::Span<const float> row = generation.Representation(covered.Identity(i));
      rows.values.insert(rows.values.end(), row.begin(), row.end());
    }
    NormalizeRows(rows);
    NeighbourOptions options;
    options.neighbours = 1;
    options.on_progress = keep_going;
    ASSIGN_OR_RETURN(neighbours, FindIdentityNeighbours(rows, options));
  }
  v1::FindingsReplaced findings;
  DuplicateReport duplicates = FindDuplicatesByCentres(neighbours, 0);
  for (DuplicateFinding& finding : duplicates.findings) {
    finding.first = static_cast<uint32_t>(covered.Identity(finding.first));
    finding.second = static_cast<uint32_t>(covered.Identity(finding.second));
  }
  AddDuplicateFindings(duplicates, limits, &findings);
  return findings;
}

absl::StatusOr<v1::ListFindingsResponse> ListFindingsOf(const CleaningState& state, const Catalog& catalog,
                                                        const v1::ListFindingsRequest& request) {
  v1::ListFindingsResponse response;
  ASSIGN_OR_RETURN(const GuardList guards, state.MakeGuardList());
  response.set_guarded_pairs(guards.pairs().size());
  response.set_dropped_samples(guards.samples().size());
  for (const v1::FindSummary& summary : state.findings().summaries()) *response.add_summaries() = summary;
  if (request.ids_size() > 0) {
    RETURN_IF_ERROR(ListByIds(state, guards, catalog, request, &response));
    return response;
  }
  const uint64_t limit = request.limit() == 0 ? kDefaultListed : request.limit();
  uint64_t matching = 0;
  for (const v1::Finding& finding : EverythingOf(state)) {
    const v1::CleaningSubject& subject = finding.subject();
    if (request.kind() != v1::CleaningSubject::KIND_UNSPECIFIED && request.kind() != subject.kind()) continue;
    if (request.above_threshold() && !state.AboveThreshold(finding)) continue;
    if (!request.include_decided() && state.DecisionOn(SubjectId(subject)) != nullptr) continue;
    RETURN_IF_ERROR(CheckFinding(finding, catalog));
    const uint64_t place = matching++;
    if (place < request.offset() || place - request.offset() >= limit) continue;
    ASSIGN_OR_RETURN(*response.add_findings(), Listed(state, guards, catalog, finding));
  }
  response.set_total(matching);
  return response;
}

absl::StatusOr<std::string> FindingsCsv(const CleaningState& state, const Catalog& catalog) {
  ASSIGN_OR_RETURN(const GuardList guards, state.MakeGuardList());
  std::string csv =
      "id,kind,first,second,sample,probability,score,similarity,other_similarity,own_similarity,copied,"
      "above_threshold,verdict,note,decided_at,guarded\n";
  for (const v1::Finding& finding : EverythingOf(state)) {
    ASSIGN_OR_RETURN(const v1::ListedFinding row, Listed(state, guards, catalog, finding));
    absl::StrAppend(&csv, row.id(), ",", IsSample(finding.subject()) ? "mislabelled" : "duplicate", ",",
                    CsvField(row.first_name()), ",", CsvField(row.second_name()), ",");
    absl::StrAppend(&csv, CsvField(row.sample_key()), ",", finding.probability(), ",", finding.score(), ",",
                    finding.similarity(), ",", finding.other_similarity(), ",");
    absl::StrAppend(&csv, finding.own_similarity(), ",", finding.copied(), ",", row.above_threshold() ? 1 : 0,
                    ",", VerdictName(row.decision().verdict()), ",");
    absl::StrAppend(&csv, CsvField(row.decision().note()), ",", row.decision().decided_at(), ",",
                    row.guarded() ? 1 : 0, "\n");
  }
  return csv;
}

}  // namespace doppel
