#pragma once

#include <google/protobuf/message.h>

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace doppel {

enum class OutputFormat { kTable, kWide, kJson, kYaml };

// Where a command writes, and how. `out` takes results, `err` what is said beside them.
struct Console {
  std::ostream& out;
  std::ostream& err;
  OutputFormat format = OutputFormat::kTable;
  bool colour = false;    // of `out`
  bool quiet = true;      // no progress bars
  bool terminal = false;  // `out` can be redrawn

  bool structured() const { return format == OutputFormat::kJson || format == OutputFormat::kYaml; }
  bool wide() const { return format == OutputFormat::kWide; }
};

// Prints a message as JSON (protobuf's mapping, proto names, zeros included) or YAML, whichever the console
// wants.
absl::Status PrintMessage(const Console& console, const google::protobuf::Message& message);
// The same with JSON text.
absl::Status PrintJson(const Console& console, const std::string& json);

absl::StatusOr<std::string> MessageToJson(const google::protobuf::Message& message);
// JSON text as YAML, fields in their order. INVALID_ARGUMENT if it is no JSON.
absl::StatusOr<std::string> JsonToYaml(const std::string& json);

// 0 fine; 2 wrong usage (INVALID_ARGUMENT); 3 a condition is not met (FAILED_PRECONDITION, ALREADY_EXISTS,
// ABORTED); 1 everything else.
int ExitCode(const absl::Status& status);

}  // namespace doppel
