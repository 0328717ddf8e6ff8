#pragma once

#include <string>

namespace doppel {

struct OptimizerOptions {
  std::string name = "adam";  // adam | sgd
  double weight_decay = 0;
  double momentum = 0.9;                              // sgd
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // adam
};

}  // namespace doppel
