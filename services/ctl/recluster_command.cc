#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "services/ctl/mining_commands.h"

namespace doppel {
namespace {

// Shows one operation: a bar per phase.
class OperationProgress {
 public:
  OperationProgress(const Console& console, bool lines)
      : quiet_(console.quiet || lines), lines_(lines ? &console.err : nullptr) {}

  void Show(const v1::Operation& operation) {
    if (lines_ != nullptr) ShowLine(operation);
    if (operation.phase() != phase_ && !operation.phase().empty()) {
      phase_ = operation.phase();
      bar_.reset();
      bar_ = std::make_unique<Progress>(Progress::Options{phase_, "", operation.total(), stderr, quiet_});
    }
    if (bar_ == nullptr) return;
    bar_->SetTotal(operation.total());
    bar_->Set(operation.done());
  }

 private:
  void ShowLine(const v1::Operation& operation) {
    const bool queued = operation.state() == v1::Operation::STATE_QUEUED;
    const uint64_t tenths = operation.total() == 0 ? 0 : 10 * operation.done() / operation.total();
    const std::string state =
        absl::StrCat(queued ? "queued" : operation.phase(), " ", std::to_string(tenths));
    if (state == line_) return;
    line_ = state;
    *lines_ << doppel::FormatDuration(absl::Seconds(operation.elapsed_seconds())) << "  " << operation.id()
            << "  " << (queued ? "queued" : operation.phase());
    if (!queued && operation.total() > 0) {
      *lines_ << " " << FormatCount(operation.done()) << " of " << FormatCount(operation.total());
    }
    *lines_ << std::endl;
  }

  const bool quiet_;
  std::ostream* const lines_;
  std::string line_;
  std::string phase_;
  std::unique_ptr<Progress> bar_;
};

absl::Status LeftRunning(const std::string& id, const MiningClient& client) {
  return absl::AbortedError(absl::StrCat(
      "stopped waiting; operation ", id, " goes on. See it with `doppel operations", " --server ",
      client.address(), "`, end it with `doppel cancel ", id, " --server ", client.address(), "`"));
}

absl::StatusOr<v1::Operation> Wait(v1::Operation operation, const ReclusterOptions& options,
                                   MiningClient& client, const Console& console) {
  OperationProgress progress(console, options.watch);
  absl::Time answered = absl::Now();
  while (true) {
    progress.Show(operation);
    if (operation.state() != v1::Operation::STATE_RUNNING &&
        operation.state() != v1::Operation::STATE_QUEUED) {
      return operation;
    }
    if (options.interrupted()) return LeftRunning(operation.id(), client);
    absl::StatusOr<v1::Operation> next = client.WaitOperation(operation.id(), options.poll);
    if (next.ok()) {
      answered = absl::Now();
      operation = *std::move(next);
    } else if (absl::IsUnavailable(next.status()) && absl::Now() - answered < options.patience) {
      absl::SleepFor(options.poll);  // it may be restarting
    } else {
      return absl::Status(next.status().code(), absl::StrCat("while waiting for operation ", operation.id(),
                                                             ": ", next.status().message()));
    }
  }
}

absl::Status PrintRequest(const ReclusterOptions& options, const MiningClient& client,
                          const Console& console) {
  Console structured = console;
  if (!console.structured()) {
    console.err << "would send to " << client.address() << ":\n";
    structured.format = OutputFormat::kJson;
  }
  return PrintMessage(structured, options.request);
}

absl::Status PrintStarted(const v1::Operation& operation, const MiningClient& client,
                          const Console& console) {
  if (console.structured()) return PrintMessage(console, operation);
  console.out << "operation " << operation.id() << " started: `doppel operations --server "
              << client.address() << "` shows how far it is\n";
  return absl::OkStatus();
}

}  // namespace

absl::Status RunRecluster(const ReclusterOptions& options, MiningClient& client, const Console& console) {
  if (options.show_request) return PrintRequest(options, client, console);
  v1::ReclusterRequest request = options.request;
  request.set_dry_run(options.dry_run);
  ASSIGN_OR_RETURN(v1::Operation operation, client.Recluster(request));
  if (!options.wait) return PrintStarted(operation, client, console);
  ASSIGN_OR_RETURN(operation, Wait(std::move(operation), options, client, console));
  if (operation.state() == v1::Operation::STATE_CANCELLED) {
    return absl::AbortedError(
        absl::StrCat("operation ", operation.id(), " was cancelled: no generation was made"));
  }
  if (operation.state() != v1::Operation::STATE_SUCCEEDED) {
    return absl::InternalError(absl::StrCat("operation ", operation.id(), " failed in phase ",
                                            operation.phase(), ": ", operation.error()));
  }
  if (options.dry_run) {
    if (!console.structured()) console.err << "a dry run: nothing was published. It would have been\n";
    return PrintGeneration(operation.statistics(), console);
  }
  ASSIGN_OR_RETURN(const v1::GenerationInfo generation, client.GetGeneration(operation.generation()));
  return PrintGeneration(generation, console);
}

}  // namespace doppel
