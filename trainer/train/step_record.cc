#include "trainer/train/step_record.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace doppel {
namespace {

nlohmann::ordered_json ToJson(const Percentiles& p) {
  return {{"p0", p.p0}, {"p5", p.p5}, {"p50", p.p50}, {"p95", p.p95}, {"p100", p.p100}};
}

void Accumulate(const Percentiles& part, double share, bool first, Percentiles* sum) {
  sum->p0 = first ? part.p0 : std::min(sum->p0, part.p0);
  sum->p5 += share * part.p5;
  sum->p50 += share * part.p50;
  sum->p95 += share * part.p95;
  sum->p100 = first ? part.p100 : std::max(sum->p100, part.p100);
}

}  // namespace

LossStatistics MergeStatistics(const std::vector<LossStatistics>& parts) {
  if (parts.empty()) return {};
  if (parts.size() == 1) return parts.front();
  LossStatistics merged;
  for (const LossStatistics& part : parts) merged.triplets += part.triplets;
  const double each = 1.0 / static_cast<double>(parts.size());
  bool first_norm = true, first_triplets = true;
  for (const LossStatistics& part : parts) {
    merged.loss += each * part.loss;
    Accumulate(part.norm, each, std::exchange(first_norm, false), &merged.norm);
    if (part.triplets == 0) continue;
    const double share = static_cast<double>(part.triplets) / static_cast<double>(merged.triplets);
    merged.active += share * part.active;
    Accumulate(part.d_ap, share, first_triplets, &merged.d_ap);
    Accumulate(part.d_an, share, first_triplets, &merged.d_an);
    first_triplets = false;
  }
  return merged;
}

std::string ToJsonLine(const StepRecord& record) {
  const LossStatistics& loss = record.statistics.loss;
  nlohmann::ordered_json line = {{"step", record.step},
                                 {"loss", loss.loss},
                                 {"active", loss.active},
                                 {"d_ap", ToJson(loss.d_ap)},
                                 {"d_an", ToJson(loss.d_an)},
                                 {"norm", ToJson(loss.norm)},
                                 {"lr", record.learning_rate},
                                 {"grad_norm", record.statistics.grad_norm},
                                 {"images_per_second", record.images_per_second},
                                 {"wait_seconds", record.wait_seconds},
                                 {"step_seconds", record.step_seconds},
                                 {"generation", record.generation},
                                 {"cursor", record.cursor},
                                 {"epoch", record.epoch},
                                 {"subspace", record.subspace},
                                 {"mean_similarity", record.mean_similarity},
                                 {"max_similarity", record.max_similarity}};
  if (record.batches != 1) line["batches"] = record.batches;
  if (record.statistics.skipped) line["skipped"] = true;
  if (record.statistics.loss_scale != 1) line["loss_scale"] = record.statistics.loss_scale;
  return line.dump();
}

}  // namespace doppel
