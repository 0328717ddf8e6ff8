#pragma once

#include <cstdint>
#include <vector>

namespace doppel::glyphs {

// `code_points` in an order that depends on the seed and the code points alone, not on which others are
// there: so a smaller draw is a part of a larger one.
std::vector<uint32_t> DrawOrder(const std::vector<uint32_t>& code_points, uint64_t seed);

// How many identities go to the test split: `wanted`, but at most a tenth.
uint64_t TestIdentities(uint64_t identities, uint64_t wanted);

// The test split of `code_points`, ascending; its size is TestIdentities(). Independent of DrawOrder.
std::vector<uint32_t> DrawTestSplit(const std::vector<uint32_t>& code_points, uint64_t wanted, uint64_t seed);

}  // namespace doppel::glyphs
