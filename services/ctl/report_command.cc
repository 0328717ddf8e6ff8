#include "services/ctl/report_command.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/catalog/catalog.h"
#include "common/catalog/catalog_version.h"
#include "common/io/file_system.h"
#include "miner/generation/generation_store.h"
#include "services/ctl/report/report.h"

namespace doppel {
namespace {

absl::StatusOr<RunInput> ParseRun(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos || equals + 1 == text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--run ", text, " is not NAME=DIR: write for example --run random=runs/random"));
  }
  return RunInput{text.substr(0, equals), text.substr(equals + 1)};
}

absl::Status AddLookalikes(const ReportOptions& options, ReportInputs* inputs) {
  if (options.catalog.empty() && options.state.empty()) return absl::OkStatus();
  if (options.catalog.empty() || options.state.empty()) {
    return absl::InvalidArgumentError("look-alikes need both --catalog and --state: give both, or neither");
  }
  ASSIGN_OR_RETURN(inputs->catalog, Catalog::Open(options.catalog));
  const GenerationStore store(PosixFileSystem(), absl::StrCat(options.state, "/generations"));
  uint64_t number = options.generation;
  if (number == 0) {
    ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, store.Numbers());
    if (numbers.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(options.state, " holds no generation: make one with `doppel recluster --model DIR`"));
    }
    number = *std::max_element(numbers.begin(), numbers.end());
  }
  ASSIGN_OR_RETURN(const v1::GenerationManifest manifest, store.ReadManifest(number));
  const std::string& made_of = manifest.info().catalog_fingerprint();
  if (HasVersion(*inputs->catalog, made_of)) {
    ASSIGN_OR_RETURN(inputs->catalog, CatalogAtVersion(inputs->catalog, made_of));
  }
  ASSIGN_OR_RETURN(inputs->generation, store.Load(number, inputs->catalog->fingerprint()));
  return absl::OkStatus();
}

}  // namespace

absl::Status RunReport(const ReportOptions& options, const Console& console) {
  ReportInputs inputs;
  inputs.title = options.title;
  for (const std::string& run : options.runs) {
    ASSIGN_OR_RETURN(RunInput input, ParseRun(run));
    inputs.runs.push_back(std::move(input));
  }
  inputs.generation_files = options.generations;
  inputs.bench_files = options.benches;
  inputs.commands = options.commands;
  inputs.lookalike_rows = options.lookalikes;
  RETURN_IF_ERROR(AddLookalikes(options, &inputs));
  RETURN_IF_ERROR(WriteReport(inputs, options.html));
  if (console.structured()) return PrintJson(console, nlohmann::json{{"report", options.html}}.dump());
  console.out << "wrote " << options.html << "\n";
  return absl::OkStatus();
}

}  // namespace doppel
