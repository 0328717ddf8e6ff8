#pragma once

#include <memory>
#include <optional>

#include "trainer/loss/attribute.h"
#include "trainer/loss/bnneck.h"
#include "trainer/loss/id_softmax.h"
#include "trainer/loss/loss.h"
#include "trainer/loss/verification.h"

namespace doppel {

struct JointWeights {
  double metric = 1;
  double id = 1;
  double attribute = 1;
  double verification = 1;
};

// Its members, each with its own options. The metric loss and the verification head stand on the embedding,
// the ID head and the attribute heads on what the BNNeck makes of it (on the embedding itself, if there is no
// BNNeck).
struct JointParts {
  std::unique_ptr<Loss> metric;
  std::unique_ptr<IdSoftmaxModule> id;                   // may be null
  std::unique_ptr<AttributeLossModule> attribute;        // may be null
  std::unique_ptr<VerificationLossModule> verification;  // may be null
  std::optional<BnNeck> bnneck;
};

// The weighted sum of a metric loss and classification losses. The statistics are the metric loss' (with the
// sum as loss). Guard mask, memory and step go to the metric loss.
class JointLoss : public Loss {
 public:
  // INVALID_ARGUMENT for a negative weight, no metric loss, or nothing beside it.
  static absl::StatusOr<std::unique_ptr<JointLoss>> Create(JointParts parts, const JointWeights& weights);

  absl::StatusOr<LossResult> Compute(const LossInput& input) override;
  // Prefixes "metric.", "id.", "attribute.", "verification."; the BNNeck's names have their own.
  NamedTensors NamedParameters() override;
  NamedTensors State() override;
  absl::Status LoadState(const NamedTensors& state) override;
  void To(const torch::Device& device) override;

 private:
  JointLoss(JointParts parts, const JointWeights& weights) : parts_(std::move(parts)), weights_(weights) {}

  JointParts parts_;
  const JointWeights weights_;
};

}  // namespace doppel
