#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

constexpr char kRedraw[] = "\x1b[H\x1b[2J";

std::string ProgressText(const v1::Operation& operation) {
  std::string text = absl::StrCat(operation.id(), " ", OperationState(operation.state()));
  if (operation.state() == v1::Operation::STATE_RUNNING) {
    absl::StrAppend(&text, ": ", operation.phase());
    if (operation.total() > 0) {
      absl::StrAppend(&text, " ", FormatCount(operation.done()), " of ", FormatCount(operation.total()));
    }
    if (operation.eta_seconds() > 0) {
      absl::StrAppend(&text, ", ", doppel::FormatDuration(absl::Seconds(operation.eta_seconds())), " left");
    }
    if (operation.stalled_seconds() > 0) {
      absl::StrAppend(&text, ", no progress for ",
                      doppel::FormatDuration(absl::Seconds(operation.stalled_seconds())));
    }
  } else if (operation.generation() != 0) {
    absl::StrAppend(&text, ": generation ", operation.generation());
  }
  if (!operation.policy_reason().empty()) absl::StrAppend(&text, " (", operation.policy_reason(), ")");
  if (!operation.error().empty()) absl::StrAppend(&text, ": ", operation.error());
  return text;
}

std::string EventText(const v1::WatchResponse& event) {
  switch (event.event_case()) {
    case v1::WatchResponse::kOperation:
      return ProgressText(event.operation());
    case v1::WatchResponse::kPublished:
      return absl::StrCat("generation ", event.published().generation(),
                          " published: ", FormatCount(event.published().subspaces()), " subspaces, churn ",
                          absl::StrFormat("%.2f %%", 100 * event.published().churn()));
    case v1::WatchResponse::kActivated:
      return absl::StrCat("generation ", event.activated().generation(), " active");
    case v1::WatchResponse::kRetired:
      return absl::StrCat("generation ", event.retired(), " retired");
    case v1::WatchResponse::kPinned:
      return absl::StrCat("generation ", event.pinned().generation(),
                          event.pinned().pinned() ? " pinned" : " unpinned");
    case v1::WatchResponse::kPolicy:
      return absl::StrCat("policy set: ", event.policy().ShortDebugString());
    case v1::WatchResponse::EVENT_NOT_SET:
      break;
  }
  return "something that this version does not know";
}

// What changes from one look to the next.
struct Look {
  absl::Time time;
  v1::DescribeResponse description;
  v1::Operation operation;  // running; no id: none
};

absl::StatusOr<Look> TakeLook(MiningClient& client) {
  Look look;
  ASSIGN_OR_RETURN(look.description, client.Describe());
  look.time = absl::Now();
  if (look.description.running_operation().empty()) return look;
  ASSIGN_OR_RETURN(look.operation, client.GetOperation(look.description.running_operation()));
  return look;
}

// Batches per second between the two.
double Rate(const Look& before, const Look& now) {
  const double seconds = absl::ToDoubleSeconds(now.time - before.time);
  const uint64_t a = before.description.batches_acknowledged(), b = now.description.batches_acknowledged();
  return seconds > 0 && b > a ? static_cast<double>(b - a) / seconds : 0;
}

std::string Line(const Look& look, double rate) {
  const v1::DescribeResponse& description = look.description;
  std::string text =
      absl::StrCat("generation ", description.active_generation(), ", ", description.open_streams(),
                   " streams, ", FormatCount(description.batches_acknowledged()), " batches acknowledged");
  if (rate > 0) absl::StrAppend(&text, absl::StrFormat(" (%.1f/s)", rate));
  if (!look.operation.id().empty()) absl::StrAppend(&text, ", ", ProgressText(look.operation));
  return text;
}

}  // namespace

absl::Status RunWatch(uint64_t after, MiningClient& client, const Console& console) {
  return client.Watch(after, [&console](const v1::WatchResponse& event) {
    if (console.structured()) {
      (void)PrintMessage(console, event);
    } else {
      console.out << event.time() << "  " << EventText(event) << "\n";
    }
    console.out.flush();
    return console.out.good();
  });
}

absl::Status RunWatchStatus(const WatchStatusOptions& options, MiningClient& client, const Console& console) {
  std::string said;
  Look before;
  for (uint64_t looks = 0; options.looks == 0 || looks < options.looks; ++looks) {
    if (looks > 0) absl::SleepFor(options.interval);
    absl::StatusOr<Look> look = TakeLook(client);
    if (!look.ok()) {
      // It may be restarting. But one that never answered is a wrong address.
      if (looks == 0 || !absl::IsUnavailable(look.status())) return look.status();
      if (said != "away") console.out << "the miner is away\n";
      said = "away";
      console.out.flush();
      continue;
    }
    const double rate = looks == 0 ? 0 : Rate(before, *look);
    if (console.structured()) {
      RETURN_IF_ERROR(PrintMessage(console, look->description));
    } else if (console.terminal) {
      console.out << kRedraw;
      RETURN_IF_ERROR(PrintStatus(look->description, client, console));
      console.out << "\n"
                  << absl::FormatTime("%H:%M:%S", look->time, absl::LocalTimeZone()) << "  "
                  << absl::StrFormat("%.1f batches/s", rate) << "  "
                  << (look->operation.id().empty() ? "no job runs" : ProgressText(look->operation)) << "\n";
    } else if (const std::string line = Line(*look, rate); line != said) {
      console.out << absl::FormatTime("%H:%M:%S", look->time, absl::LocalTimeZone()) << "  " << line << "\n";
      said = line;
    }
    console.out.flush();
    if (!console.out.good()) return absl::OkStatus();  // nobody reads any more
    before = *std::move(look);
  }
  return absl::OkStatus();
}

}  // namespace doppel
