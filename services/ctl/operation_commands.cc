#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

std::string Share(const v1::Operation& operation) {
  if (operation.total() == 0) return "";
  return absl::StrFormat("%.0f %%", 100.0 * static_cast<double>(operation.done()) / operation.total());
}

}  // namespace

std::string OperationState(v1::Operation::State state) {
  const std::string name = v1::Operation::State_Name(state);
  return absl::AsciiStrToLower(absl::StripPrefix(name, "STATE_"));
}

absl::Status RunOperations(MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::ListOperationsResponse list, client.ListOperations());
  if (console.structured()) return PrintMessage(console, list);
  constexpr auto kRight = Table::Align::kRight;
  std::vector<Table::Column> columns = {{"ID"},
                                        {"STATE"},
                                        {"PHASE"},
                                        {"DONE", kRight},
                                        {"ELAPSED", kRight},
                                        {"ETA", kRight},
                                        {"GENERATION", kRight},
                                        {"STARTED"},
                                        {"ERROR"}};
  if (console.wide()) columns.push_back({"MODEL"});
  Table table(columns);
  for (const v1::Operation& operation : list.operations()) {
    const bool running = operation.state() == v1::Operation::STATE_RUNNING;
    table.AddRow({operation.id(), OperationState(operation.state()), operation.phase(), Share(operation),
                  doppel::FormatDuration(absl::Seconds(operation.elapsed_seconds())),
                  running && operation.eta_seconds() > 0
                      ? doppel::FormatDuration(absl::Seconds(operation.eta_seconds()))
                      : "",
                  operation.generation() == 0 ? "" : absl::StrCat(operation.generation()),
                  operation.started_at(),
                  operation.stalled_seconds() > 0
                      ? absl::StrFormat("no progress for %.0f s", operation.stalled_seconds())
                      : operation.error(),
                  operation.request().model_path()});
  }
  console.out << table.Render(console.colour);
  return absl::OkStatus();
}

absl::Status RunCancel(const std::string& id, bool dry_run, MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::Operation operation,
                   dry_run ? client.GetOperation(id) : client.CancelOperation(id));
  if (console.structured()) return PrintMessage(console, operation);
  console.out << "operation " << id;
  if (dry_run && operation.state() == v1::Operation::STATE_RUNNING) {
    console.out << " would be cancelled (" << operation.phase() << " " << Share(operation) << ")\n";
  } else {
    console.out << " is " << OperationState(operation.state()) << (dry_run ? ": nothing would change" : "")
                << "\n";
  }
  return absl::OkStatus();
}

}  // namespace doppel
