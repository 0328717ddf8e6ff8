#include "examples/glyphs/split.h"

#include <algorithm>
#include <utility>

#include "common/base/philox.h"

namespace doppel::glyphs {
namespace {

constexpr uint64_t kDrawStream = 1;
constexpr uint64_t kTestStream = 2;

std::vector<uint32_t> Shuffled(const std::vector<uint32_t>& code_points, uint64_t seed, uint64_t stream) {
  const Philox random(seed);
  std::vector<std::pair<uint64_t, uint32_t>> keyed;
  keyed.reserve(code_points.size());
  for (uint32_t c : code_points) keyed.emplace_back(random.Bits(c, stream), c);
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint32_t> order;
  order.reserve(keyed.size());
  for (const auto& [key, c] : keyed) order.push_back(c);
  return order;
}

}  // namespace

std::vector<uint32_t> DrawOrder(const std::vector<uint32_t>& code_points, uint64_t seed) {
  return Shuffled(code_points, seed, kDrawStream);
}

uint64_t TestIdentities(uint64_t identities, uint64_t wanted) { return std::min(wanted, identities / 10); }

std::vector<uint32_t> DrawTestSplit(const std::vector<uint32_t>& code_points, uint64_t wanted,
                                    uint64_t seed) {
  std::vector<uint32_t> test = Shuffled(code_points, seed, kTestStream);
  test.resize(TestIdentities(code_points.size(), wanted));
  std::sort(test.begin(), test.end());
  return test;
}

}  // namespace doppel::glyphs
