#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/progress.h"
#include "common/base/status_macros.h"
#include "common/image/contact_sheet.h"
#include "common/image/image.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "services/ctl/mining_commands.h"
#include "services/ctl/table.h"

namespace doppel {
namespace {

constexpr int kSheetColumns = 6;
constexpr int kSheetCell = 96;

absl::StatusOr<SheetCell> MakeCell(const v1::SimilarIdentity& identity, const std::string& label) {
  SheetCell cell;
  cell.label = label;
  if (identity.picture().empty()) return cell;
  absl::StatusOr<Image> image = DecodeImage(identity.picture(), 3);
  if (!image.ok()) {
    return absl::Status(image.status().code(), absl::StrCat("the picture of ", identity.name(), ": ",
                                                            std::string(image.status().message())));
  }
  cell.image = *std::move(image);
  return cell;
}

absl::Status WriteSheet(const v1::FindLookalikesResponse& found, const std::string& path) {
  std::vector<SheetCell> cells;
  cells.reserve(static_cast<size_t>(found.lookalikes_size()) + 1);
  ASSIGN_OR_RETURN(SheetCell anchor, MakeCell(found.identity(), found.identity().name()));
  cells.push_back(std::move(anchor));
  for (const v1::SimilarIdentity& other : found.lookalikes()) {
    ASSIGN_OR_RETURN(SheetCell cell,
                     MakeCell(other, absl::StrFormat("%.3f %s", other.similarity(), other.name())));
    cells.push_back(std::move(cell));
  }
  SheetOptions options;
  options.columns = kSheetColumns;
  options.cell = kSheetCell;
  ASSIGN_OR_RETURN(const Image sheet, MakeContactSheet(cells, options));
  ASSIGN_OR_RETURN(const std::string png, EncodePng(sheet));
  return WriteFileAtomically(PosixFileSystem(), path, png);
}

}  // namespace

absl::Status RunLookalikes(const LookalikesOptions& options, MiningClient& client, const Console& console) {
  v1::FindLookalikesRequest request;
  request.set_generation(options.generation);
  request.set_identity(options.identity);
  request.set_count(options.count);
  // A script that reads JSON asks for the file if it wants it.
  const bool sheet = options.pictures && (!console.structured() || !options.sheet.empty());
  request.set_pictures(sheet);
  ASSIGN_OR_RETURN(v1::FindLookalikesResponse found, client.FindLookalikes(request));
  const std::string path = options.sheet.empty()
                               ? absl::StrCat("lookalikes-", found.identity().identity(), ".png")
                               : options.sheet;
  if (sheet) RETURN_IF_ERROR(WriteSheet(found, path));
  found.mutable_identity()->clear_picture();
  for (v1::SimilarIdentity& other : *found.mutable_lookalikes()) other.clear_picture();
  if (console.structured()) return PrintMessage(console, found);
  console.out << found.identity().name() << " (identity " << found.identity().identity() << ", subspace "
              << found.identity().subspace() << ") in generation " << found.generation()
              << (found.stored() ? "" : ", compared with all of it") << "\n\n";
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"SIMILARITY", kRight}, {"NAME"}, {"IDENTITY", kRight}, {"SUBSPACE", kRight}, {"GUARDED"}});
  for (const v1::SimilarIdentity& other : found.lookalikes()) {
    table.AddRow({absl::StrFormat("%.4f", other.similarity()), other.name(), absl::StrCat(other.identity()),
                  absl::StrCat(other.subspace()), other.guarded() ? "yes" : ""});
  }
  console.out << table.Render(console.colour);
  if (sheet) console.out << "\npictures in " << path << "\n";
  return absl::OkStatus();
}

absl::Status RunSubspace(uint64_t generation, uint32_t subspace, uint32_t limit, MiningClient& client,
                         const Console& console) {
  ASSIGN_OR_RETURN(const v1::GetSubspaceResponse response, client.GetSubspace(generation, subspace, limit));
  if (console.structured()) return PrintMessage(console, response);
  const v1::SubspaceInfo& info = response.info();
  std::vector<std::pair<std::string, std::string>> fields = {
      {"subspace", absl::StrCat(info.subspace(), " of generation ", response.generation())},
      {"identities", FormatCount(info.identities())},
      {"radius", absl::StrFormat("%.4f in the mean, %.4f at most", info.mean_radius(), info.max_radius())}};
  if (info.lookalike_density() != 0) {
    fields.emplace_back("look-alikes",
                        absl::StrFormat("density %.4f, %.1f %% of the neighbours inside",
                                        info.lookalike_density(), 100 * info.neighbours_inside()));
  }
  if (info.arrived() + info.departed() > 0) {
    fields.emplace_back(
        "moves", absl::StrCat(FormatCount(info.arrived()), " in, ", FormatCount(info.departed()), " out"));
  }
  console.out << RenderFields(fields);
  constexpr auto kRight = Table::Align::kRight;
  Table nearest({{"NEAREST", kRight}, {"COSINE", kRight}, {"IDENTITIES", kRight}});
  for (const v1::SimilarSubspace& other : response.nearest()) {
    nearest.AddRow({absl::StrCat(other.subspace()), absl::StrFormat("%.4f", other.cosine()),
                    FormatCount(other.identities())});
  }
  Table members({{"MEMBER"}, {"IDENTITY", kRight}, {"COSINE", kRight}});
  for (const v1::SimilarIdentity& member : response.members()) {
    members.AddRow(
        {member.name(), absl::StrCat(member.identity()), absl::StrFormat("%.4f", member.similarity())});
  }
  console.out << "\n" << nearest.Render(console.colour) << "\n" << members.Render(console.colour);
  if (static_cast<uint64_t>(response.members_size()) < info.identities()) {
    console.out << "… and " << FormatCount(info.identities() - static_cast<uint64_t>(response.members_size()))
                << " more: --limit shows them\n";
  }
  return absl::OkStatus();
}

}  // namespace doppel
