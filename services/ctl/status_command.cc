#include "absl/strings/str_cat.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/table.h"

namespace doppel {

absl::Status RunStatus(MiningClient& client, const Console& console) {
  ASSIGN_OR_RETURN(const v1::DescribeResponse description, client.Describe());
  if (console.structured()) return PrintMessage(console, description);
  return PrintStatus(description, client, console);
}

absl::Status PrintStatus(const v1::DescribeResponse& description, const MiningClient& client,
                         const Console& console) {
  constexpr auto kRight = Table::Align::kRight;
  console.out << RenderFields(
      {{"miner", absl::StrCat(client.address(), " version ", description.version(), ", up ",
                              doppel::FormatDuration(absl::Seconds(description.uptime_seconds())))},
       {"catalog", absl::StrCat(description.catalog_path(), " (",
                                ShortFingerprint(description.catalog_fingerprint()), ")")},
       {"identities", FormatCount(description.identities())},
       {"samples", FormatCount(description.samples())},
       {"generation", description.active_generation() == 0 ? "none: `doppel recluster --model DIR` makes one"
                                                           : absl::StrCat(description.active_generation())},
       {"operation", description.running_operation().empty() ? "none"
                     : description.stalled_operation().empty()
                         ? description.running_operation()
                         : description.running_operation() + ", stalled: see doppel operations"},
       {"streams", absl::StrCat(description.open_streams())},
       {"batches", absl::StrCat(FormatCount(description.batches_sent()), " sent, ",
                                FormatCount(description.batches_acknowledged()), " acknowledged, ",
                                FormatBytes(description.bytes_sent()))}});
  if (!description.streams().empty()) {
    Table table({{"CLIENT"},
                 {"PEER"},
                 {"PLAN"},
                 {"GENERATION", kRight},
                 {"NEXT CURSOR", kRight},
                 {"ACKNOWLEDGED", kRight},
                 {"CREDITS", kRight}});
    for (const v1::StreamInfo& stream : description.streams()) {
      table.AddRow({stream.client_name(), stream.peer(), stream.plan(), absl::StrCat(stream.generation()),
                    absl::StrCat(stream.next_cursor()), absl::StrCat(stream.acknowledged()),
                    absl::StrCat(stream.credits())});
    }
    console.out << "\n" << table.Render(console.colour);
  }
  if (console.wide()) {
    Table table({{"SPLIT"}, {"IDENTITIES", kRight}, {"SAMPLES", kRight}});
    for (const v1::SplitInfo& split : description.splits()) {
      table.AddRow({split.name(), FormatCount(split.identities()), FormatCount(split.samples())});
    }
    console.out << "\n" << table.Render(console.colour);
  }
  return absl::OkStatus();
}

}  // namespace doppel
