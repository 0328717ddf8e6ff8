#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "doppel/v1/mining.pb.h"

namespace doppel {

// What the policy learns of the training that goes on.
struct TrainingFacts {
  uint64_t batches_acknowledged = 0;  // since the process started
  // As trainers report; nullopt: they do not.
  std::optional<uint64_t> model_step;
  std::optional<double> active_share;
  // That active_share was reported from.
  uint64_t generation = 0;
};
// Called under a lock of the miner's: it is to be quick, and not to call back.
using TrainingSource = std::function<TrainingFacts()>;

// What the policy looks at.
struct PolicyFacts {
  absl::Time now;
  bool has_active = false;
  bool job_running = false;  // or queued
  // The weights that a job would take are those of the active generation, and nobody reports a later step.
  bool same_weights = false;
  uint64_t batches_since_activation = 0;
  // Training steps from the active generation's model to the newest one known.
  uint64_t staleness_steps = 0;
  std::optional<double> active_share;
  // Of a sample: would be in another subspace now.
  std::optional<double> churn;
  // Of any job, whoever asked for it.
  std::optional<absl::Time> last_start;
  // Started by the policy within the last 24 hours.
  uint32_t started_within_day = 0;
};

// When the miner re-clusters by itself. Stateless: the manager gathers the facts and acts.
class ReclusterPolicy {
 public:
  struct Verdict {
    bool recluster = false;
    std::string reason;  // to do it, or not to
  };

  explicit ReclusterPolicy(v1::ReclusterPolicySpec spec);
  // At most one action: the first condition that holds gives the reason.
  Verdict Decide(const PolicyFacts& facts) const;
  // INVALID_ARGUMENT names the field.
  static absl::Status Validate(const v1::ReclusterPolicySpec& spec);
  // Whether any of the conditions is set.
  static bool HasCondition(const v1::ReclusterPolicySpec& spec);

 private:
  std::string Condition(const PolicyFacts& facts) const;

  const v1::ReclusterPolicySpec spec_;
};

}  // namespace doppel
