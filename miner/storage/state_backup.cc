#include "miner/storage/state_backup.h"

#include <sys/stat.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/mapped_file.h"
#include "common/io/mirrored_log.h"
#include "common/io/record_file.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/journal.h"
#include "miner/representation/running_mean_store.h"

namespace doppel {
namespace {

constexpr size_t kCopyBlock = size_t{8} << 20;
// How often a moment is looked for at which nothing is retired while it is copied.
constexpr int kMoments = 5;

// Copies a state into an empty directory.
class StateCopy {
 public:
  StateCopy(FileSystem& fs, std::string from, std::string to, const BackupOptions& options)
      : fs_(fs), from_(std::move(from)), to_(std::move(to)), options_(options) {}

  absl::StatusOr<BackupSummary> Run() {
    RETURN_IF_ERROR(fs_.RemoveRecursively(to_));
    RETURN_IF_ERROR(fs_.MakeDirectories(to_));
    // Before the journal: a group names a generation that it knows already.
    RETURN_IF_ERROR(CopyWorkGroups());
    RETURN_IF_ERROR(CopyJournalAndGenerations());
    if (fs_.Exists(from_ + "/CATALOG")) RETURN_IF_ERROR(CopyFile("CATALOG", false));
    RETURN_IF_ERROR(CopyMirrored("cleaning.rec"));
    RETURN_IF_ERROR(CopyModels());
    RETURN_IF_ERROR(CopySnapshot());
    if (options_.representations) RETURN_IF_ERROR(CopyPasses());
    RETURN_IF_ERROR(fs_.SyncDirectory(to_));
    ASSIGN_OR_RETURN(summary_.check, CheckState(fs_, to_));
    for (const CheckFinding& finding : summary_.check.findings) {
      if (finding.kind != CheckFinding::Kind::kDamage) continue;
      return absl::DataLossError(absl::StrCat(finding.file, ": ", finding.what));
    }
    return std::move(summary_);
  }

 private:
  absl::StatusOr<std::vector<std::string>> List(const std::string& name) {
    const std::string path = absl::StrCat(from_, "/", name);
    if (!fs_.Exists(path)) return std::vector<std::string>();
    return fs_.List(path);
  }

  // A file that is never written again, if `immutable`; else one that is replaced whole.
  absl::Status CopyFile(const std::string& name, bool immutable) {
    const std::string from = absl::StrCat(from_, "/", name);
    const std::string to = absl::StrCat(to_, "/", name);
    RETURN_IF_ERROR(fs_.MakeDirectories(DirectoryOf(to)));
    if (immutable && options_.link) {
      RETURN_IF_ERROR(fs_.LinkOrCopy(from, to));
      struct stat info {};
      if (stat(to.c_str(), &info) == 0 && info.st_nlink > 1) ++summary_.linked;
    } else {
      ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> data,
                       MappedFile::Open(from, MappedFile::Access::kSequential));
      ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs_.Create(to));
      for (uint64_t at = 0; at < data->size(); at += kCopyBlock) {
        RETURN_IF_ERROR(file->Append(data->data().substr(at, kCopyBlock)));
      }
      RETURN_IF_ERROR(file->Sync());
      RETURN_IF_ERROR(file->Close());
    }
    return Counted(to);
  }
  absl::Status Counted(const std::string& path) {
    ASSIGN_OR_RETURN(const uint64_t size, fs_.Size(path));
    ++summary_.files;
    summary_.bytes += size;
    return absl::OkStatus();
  }

  // All files of a folder without folders.
  absl::Status CopyFolder(const std::string& name, bool immutable) {
    ASSIGN_OR_RETURN(const std::vector<std::string> files, List(name));
    for (const std::string& file : files) RETURN_IF_ERROR(CopyFile(absl::StrCat(name, "/", file), immutable));
    return fs_.SyncDirectory(absl::StrCat(to_, "/", name));
  }

  // The good records of a file that may be appended to this moment.
  absl::Status CopyRecords(const std::string& name) {
    const std::string from = absl::StrCat(from_, "/", name);
    const std::string to = absl::StrCat(to_, "/", name);
    ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs_, from));
    RETURN_IF_ERROR(fs_.MakeDirectories(DirectoryOf(to)));
    ASSIGN_OR_RETURN(const std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs_, to));
    for (const std::string& record : contents.records) RETURN_IF_ERROR(writer->Append(record));
    RETURN_IF_ERROR(writer->Sync());
    return Counted(to);
  }

  absl::Status WriteMirrored(const std::string& name, const std::vector<std::string>& records) {
    const std::string to = absl::StrCat(to_, "/", name);
    RETURN_IF_ERROR(MirroredLog::Replace(fs_, to, records));
    RETURN_IF_ERROR(Counted(to));
    return Counted(MirroredLog::CopyPath(to));
  }

  absl::Status CopyMirrored(const std::string& name) {
    const std::string from = absl::StrCat(from_, "/", name);
    if (!fs_.Exists(from) && !fs_.Exists(MirroredLog::CopyPath(from))) return absl::OkStatus();
    ASSIGN_OR_RETURN(const MirroredLog::Contents contents, MirroredLog::Read(fs_, from));
    return WriteMirrored(name, contents.records);
  }

  absl::Status CopyWorkGroups() {
    ASSIGN_OR_RETURN(const std::vector<std::string> names, List("work_groups"));
    for (const std::string& name : names) {
      if (absl::EndsWith(name, ".rec")) RETURN_IF_ERROR(CopyRecords("work_groups/" + name));
    }
    return absl::OkStatus();
  }

  // What the journal says is published lies there whole, and stays until the journal says otherwise: then all
  // is begun again with what it says now.
  absl::Status CopyJournalAndGenerations() {
    const std::string path = from_ + "/journal.rec";
    for (int moment = 1;; ++moment) {
      ASSIGN_OR_RETURN(const MirroredLog::Contents contents, MirroredLog::Read(fs_, path));
      MinerState state;
      RETURN_IF_ERROR(Journal::Replay(path, contents.records, state));
      const BackupSummary before = summary_;
      absl::Status status = CopyGenerations(state);
      if (status.ok()) return WriteMirrored("journal.rec", contents.records);
      ASSIGN_OR_RETURN(const MirroredLog::Contents now, MirroredLog::Read(fs_, path));
      if (now.records.size() == contents.records.size() || moment == kMoments) return status;
      summary_ = before;
      RETURN_IF_ERROR(fs_.RemoveRecursively(to_ + "/generations"));
    }
  }

  absl::Status CopyGenerations(const MinerState& state) {
    const std::string root = from_ + "/generations";
    RETURN_IF_ERROR(fs_.MakeDirectories(to_ + "/generations"));
    for (const uint64_t number : state.published()) {
      const std::string directory = GenerationStore(fs_, root).Directory(number);
      const std::string name = "generations" + directory.substr(root.size());
      if (!fs_.Exists(directory)) return absl::DataLossError(absl::StrCat(directory, ": is missing"));
      RETURN_IF_ERROR(CopyFolder(name, true));
    }
    return fs_.SyncDirectory(to_ + "/generations");
  }

  absl::Status CopyModels() {
    ASSIGN_OR_RETURN(const std::vector<std::string> names, List("models"));
    for (const std::string& name : names) {
      const std::string folder = "models/" + name;
      if (name == "incoming" || absl::EndsWith(name, ".tmp")) continue;
      // A link to the manifest stays what it was: it is replaced by renaming.
      absl::Status status = CopyFolder(folder, true);
      if (status.ok()) continue;
      if (fs_.Exists(absl::StrCat(from_, "/", folder))) return status;
      RETURN_IF_ERROR(fs_.RemoveRecursively(absl::StrCat(to_, "/", folder)));  // pruned meanwhile
    }
    return absl::OkStatus();
  }

  // The newest good one.
  absl::Status CopySnapshot() {
    for (int moment = 1;; ++moment) {
      const RunningMeanStore store(fs_, from_ + "/live");
      ASSIGN_OR_RETURN(std::vector<uint64_t> numbers, store.Numbers());
      while (!numbers.empty() && !store.Check(numbers.back()).ok()) numbers.pop_back();
      if (numbers.empty()) return absl::OkStatus();
      const std::string directory = store.Directory(numbers.back());
      const std::string name = directory.substr(from_.size() + 1);
      absl::Status status = CopyFolder(name, true);
      if (status.ok() || fs_.Exists(directory) || moment == kMoments) return status;
      RETURN_IF_ERROR(fs_.RemoveRecursively(absl::StrCat(to_, "/", name)));
    }
  }

  absl::Status CopyPasses() {
    ASSIGN_OR_RETURN(const std::vector<std::string> names, List("representations"));
    for (const std::string& name : names) {
      if (absl::EndsWith(name, ".removed")) continue;
      const std::string folder = "representations/" + name;
      absl::Status status = CopyPass(folder);
      if (status.ok()) continue;
      if (fs_.Exists(absl::StrCat(from_, "/", folder)) && !absl::IsDataLoss(status)) return status;
      // Removed or renamed meanwhile, or damaged: it can be computed again.
      RETURN_IF_ERROR(fs_.RemoveRecursively(absl::StrCat(to_, "/", folder)));
    }
    return absl::OkStatus();
  }

  absl::Status CopyPass(const std::string& folder) {
    ASSIGN_OR_RETURN(const std::vector<std::string> files, List(folder));
    for (size_t i = 0; i < files.size(); ++i) {
      // Only the last one grows; but a miner may mend any of them, so none is linked.
      RETURN_IF_ERROR(CopyRecords(absl::StrCat(folder, "/", files[i])));
    }
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const std::string from_;
  const std::string to_;
  const BackupOptions options_;
  BackupSummary summary_;
};

std::string WithoutSlash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

absl::Status CheckFree(FileSystem& fs, const std::string& directory, absl::string_view hint) {
  if (!fs.Exists(directory)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(directory));
  if (names.empty()) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(directory, " is not empty (", names[0], ", …): nothing is overwritten; ", hint));
}

absl::StatusOr<BackupSummary> CopyState(FileSystem& fs, const std::string& from, const std::string& to,
                                        const BackupOptions& options) {
  const std::string fresh = to + ".tmp";
  absl::StatusOr<BackupSummary> summary = StateCopy(fs, from, fresh, options).Run();
  absl::Status status = summary.status();
  if (status.ok()) status = fs.Rename(fresh, to);
  if (!status.ok()) {
    fs.RemoveRecursively(fresh).IgnoreError();  // the first error is the one that tells
    return status;
  }
  RETURN_IF_ERROR(fs.SyncDirectory(DirectoryOf(to)));
  summary->check.directory = to;
  return summary;
}

}  // namespace

absl::StatusOr<BackupSummary> BackUpState(FileSystem& fs, const std::string& state, const std::string& to,
                                          const BackupOptions& options) {
  const std::string from = WithoutSlash(state);
  const std::string target = WithoutSlash(to);
  if (absl::StartsWith(target + "/", from + "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--to: ", target, " lies in the state itself; name a directory beside it"));
  }
  if (!fs.Exists(from + "/journal.rec") && !fs.Exists(MirroredLog::CopyPath(from + "/journal.rec"))) {
    return absl::NotFoundError(absl::StrCat(from, ": no state of a miner (no journal.rec); check --state"));
  }
  RETURN_IF_ERROR(CheckFree(fs, target, "name another directory"));
  return CopyState(fs, from, target, options);
}

absl::StatusOr<BackupSummary> RestoreState(FileSystem& fs, const std::string& backup,
                                           const std::string& state) {
  const std::string from = WithoutSlash(backup);
  const std::string target = WithoutSlash(state);
  if (absl::StartsWith(target + "/", from + "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--state: ", target, " lies in the backup itself; name a directory beside it"));
  }
  RETURN_IF_ERROR(CheckFree(fs, target, "move the old state away first"));
  ASSIGN_OR_RETURN(const CheckReport check, CheckState(fs, from));
  for (const CheckFinding& finding : check.findings) {
    if (finding.kind != CheckFinding::Kind::kDamage) continue;
    return absl::DataLossError(absl::StrCat("the backup is damaged: ", finding.file, ": ", finding.what,
                                            "; take another one, or look with doppel fsck --state ", from));
  }
  BackupOptions options;
  options.link = false;
  return CopyState(fs, from, target, options);
}

}  // namespace doppel
