#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/base/philox.h"
#include "miner/representation/matrix.h"

namespace doppel {

// Images around centres drawn at random: `images` of each of `identities`, `spread` apart.
struct Clusters {
  Matrix rows;
  std::vector<int64_t> labels;
};

inline float Normal(const Philox& draw, uint64_t counter) {
  const double u = 1 - draw.Uniform(counter, 1), v = draw.Uniform(counter, 2);
  return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v));
}

inline Clusters MakeClusters(int identities, int images, double spread, uint64_t seed, int dimension = 16) {
  const Philox centre(seed), image(seed + 1000);
  Clusters clusters;
  clusters.rows = {static_cast<int64_t>(identities) * images, dimension, {}};
  for (int i = 0; i < identities; ++i) {
    for (int j = 0; j < images; ++j) {
      clusters.labels.push_back(i);
      for (int d = 0; d < dimension; ++d) {
        const uint64_t own = (uint64_t{static_cast<uint32_t>(i)} * images + j) * dimension + d;
        clusters.rows.values.push_back(Normal(centre, static_cast<uint64_t>(i) * dimension + d) +
                                       static_cast<float>(spread) * Normal(image, own));
      }
    }
  }
  return clusters;
}

}  // namespace doppel
