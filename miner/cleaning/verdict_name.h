#pragma once

#include <string>

#include "doppel/v1/cleaning.pb.h"

namespace doppel {

// What people call a verdict, in commands and in tables; empty for none.
inline std::string VerdictName(v1::Decision::Verdict verdict) {
  switch (verdict) {
    case v1::Decision::VERDICT_MERGE:
      return "merge";
    case v1::Decision::VERDICT_KEEP:
      return "keep";
    case v1::Decision::VERDICT_IGNORE:
      return "ignore";
    case v1::Decision::VERDICT_DROP:
      return "drop";
    default:
      return "";
  }
}

}  // namespace doppel
