#include "trainer/train/step_record.h"

#include <nlohmann/json.hpp>

namespace doppel {
namespace {

nlohmann::ordered_json ToJson(const Percentiles& p) {
  return {{"p0", p.p0}, {"p5", p.p5}, {"p50", p.p50}, {"p95", p.p95}, {"p100", p.p100}};
}

}  // namespace

std::string ToJsonLine(const StepRecord& record) {
  const LossStatistics& loss = record.statistics.loss;
  const nlohmann::ordered_json line = {{"step", record.step},
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
  return line.dump();
}

}  // namespace doppel
