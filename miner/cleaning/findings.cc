#include "miner/cleaning/findings.h"

#include <algorithm>

#include "miner/cleaning/calibration.h"

namespace doppel {
namespace {

// `set_subject(i, finding)` for the rows that are kept; `reported` is best first.
template <typename Reported, typename Fill>
void AddFindings(const Reported& reported, v1::CleaningSubject::Kind kind, double share, bool calibrated,
                 double min_precision, const FindingLimits& limits, const Fill& fill,
                 v1::FindingsReplaced* findings) {
  std::vector<double> probabilities;
  probabilities.reserve(reported.size());
  for (const auto& row : reported) probabilities.push_back(row.probability);
  const double threshold = ThresholdForPrecision(probabilities, min_precision);
  v1::FindSummary* summary = findings->add_summaries();
  summary->set_kind(kind);
  summary->set_candidates(reported.size());
  summary->set_threshold(threshold);
  summary->set_expected_precision(ExpectedPrecision(probabilities, threshold));
  summary->set_share(share);
  summary->set_calibrated(calibrated);
  uint64_t kept = 0, above = 0;
  for (const auto& row : reported) {
    if (row.probability < limits.min_probability || kept >= limits.most) continue;
    v1::Finding* finding = findings->add_findings();
    finding->mutable_subject()->set_kind(kind);
    finding->set_score(row.score);
    finding->set_probability(row.probability);
    fill(row, finding);
    ++kept;
    above += row.probability >= threshold ? 1 : 0;
  }
  summary->set_findings(kept);
  summary->set_above_threshold(above);
}

}  // namespace

void AddDuplicateFindings(const DuplicateReport& report, const FindingLimits& limits,
                          v1::FindingsReplaced* findings) {
  const auto fill = [](const DuplicateFinding& row, v1::Finding* finding) {
    finding->mutable_subject()->set_first_identity(row.first);
    finding->mutable_subject()->set_second_identity(row.second);
    finding->set_similarity(row.centre_similarity);
    finding->set_other_similarity(row.cross_similarity);
    finding->set_own_similarity(row.within_similarity);
    finding->set_copied(row.copied);
  };
  AddFindings(report.findings, v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES, report.share,
              report.calibrated, limits.min_precision_of_pairs, limits, fill, findings);
}

void AddOutlierFindings(const OutlierReport& report, absl::Span<const uint64_t> samples,
                        const FindingLimits& limits, v1::FindingsReplaced* findings) {
  const auto fill = [&](const OutlierFinding& row, v1::Finding* finding) {
    finding->mutable_subject()->set_sample(samples[row.row]);
    finding->set_similarity(row.own_similarity);
    finding->set_other_similarity(row.other_similarity);
    finding->set_own_similarity(row.fellow_similarity);
    finding->set_identity(row.identity);
    finding->set_nearest_identity(row.nearest_identity);
  };
  AddFindings(report.findings, v1::CleaningSubject::KIND_MISLABELLED_SAMPLE, report.share, report.calibrated,
              limits.min_precision_of_samples, limits, fill, findings);
}

}  // namespace doppel
