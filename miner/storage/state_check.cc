#include "miner/storage/state_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"
#include "common/io/mapped_file.h"
#include "common/io/mirrored_log.h"
#include "common/io/record_file.h"
#include "doppel/v1/models.pb.h"
#include "doppel/v1/storage.pb.h"
#include "miner/cleaning/cleaning_store.h"
#include "miner/generation/generation_store.h"
#include "miner/generation/journal.h"
#include "miner/generation/state_lock.h"
#include "miner/models/model_store.h"
#include "miner/representation/representation_store.h"
#include "miner/representation/running_mean_store.h"

namespace doppel {
namespace {

using Kind = CheckFinding::Kind;

constexpr char kFromBackup[] = "restore the state from a backup (doppel restore)";
constexpr char kAtNextStart[] = "nothing: the miner removes it at its next start";
constexpr char kCutOff[] = "nothing: it is cut off at the next start, or by --repair";
constexpr char kMended[] =
    "nothing: the other copy has all of it and mends it at the next start, or with --repair";

class StateCheck {
 public:
  StateCheck(FileSystem& fs, const std::string& directory, const CheckOptions& options)
      : fs_(fs), options_(options) {
    report_.directory = directory;
  }

  absl::StatusOr<CheckReport> Run() {
    if (!fs_.Exists(Path("journal.rec")) && !fs_.Exists(MirroredLog::CopyPath(Path("journal.rec"))) &&
        !fs_.Exists(Path("CATALOG"))) {
      return absl::NotFoundError(absl::StrCat(
          report_.directory, ": no state of a miner (neither journal.rec nor CATALOG); check --state"));
    }
    report_.in_use = StateLock::Held(report_.directory);
    std::unique_ptr<StateLock> lock;
    if (options_.repair) {
      ASSIGN_OR_RETURN(lock, StateLock::Acquire(report_.directory));
    }
    CheckJournal();
    CheckBinding();
    CheckGenerations();
    CheckPasses();
    CheckModels();
    CheckSnapshots();
    CheckCleaning();
    CheckWorkGroups();
    CheckStrangers();
    return std::move(report_);
  }

 private:
  std::string Path(absl::string_view name) const { return absl::StrCat(report_.directory, "/", name); }

  void Add(Kind kind, std::string file, absl::string_view what, absl::string_view remedy,
           bool repaired = false) {
    report_.findings.push_back({kind, std::move(file), std::string(what), std::string(remedy), repaired});
  }
  // Messages of ours begin with the file's name.
  static std::string Without(const std::string& file, absl::string_view message) {
    if (absl::ConsumePrefix(&message, file)) absl::ConsumePrefix(&message, ": ");
    return std::string(message);
  }
  void Damaged(const std::string& file, const absl::Status& status, absl::string_view remedy) {
    Add(Kind::kDamage, file, Without(file, status.message()), remedy);
  }
  std::vector<std::string> List(const std::string& directory) {
    if (!fs_.Exists(directory)) return {};
    absl::StatusOr<std::vector<std::string>> names = fs_.List(directory);
    if (names.ok()) return *std::move(names);
    Damaged(directory, names.status(), "mend the disk");
    return {};
  }
  void Count(const std::string& path) {
    ++report_.files;
    const absl::StatusOr<uint64_t> size = fs_.Size(path);
    if (size.ok()) report_.bytes += *size;
  }

  // ---- record files

  // What can be read of it. Unfinished ends are told of, and cut off if that is wanted; damage with `remedy`.
  std::vector<std::string> Records(const std::string& path, absl::string_view remedy) {
    absl::StatusOr<IntactRecords> read = ReadIntactRecords(fs_, path);
    if (!read.ok()) {
      // Gone meanwhile, if a miner runs.
      if (!absl::IsNotFound(read.status()) || !report_.in_use) Damaged(path, read.status(), remedy);
      return {};
    }
    Count(path);
    report_.records += read->contents.records.size();
    if (!read->damage.ok()) {
      Damaged(path, read->damage, remedy);
    } else if (read->contents.torn_tail) {
      Unfinished(path, read->contents.records.size(), options_.repair && RecordWriter::Open(fs_, path).ok());
    }
    return std::move(read->contents.records);
  }
  void Unfinished(const std::string& path, size_t records, bool repaired) {
    const std::string what = absl::StrCat("record ", records, ": unfinished, never acknowledged");
    if (report_.in_use && !options_.repair) {
      Add(Kind::kNote, path, what, "nothing: the miner is writing it");
    } else {
      Add(Kind::kUnfinished, path, what, kCutOff, repaired);
    }
  }

  // False: neither copy is whole.
  bool Mirrored(const std::string& path, std::vector<std::string>* records) {
    absl::StatusOr<MirroredLog::Contents> contents = MirroredLog::Read(fs_, path);
    // A running miner writes one after the other.
    for (int again = 0; again < 3 && report_.in_use && (!contents.ok() || !contents->damage.empty());
         ++again) {
      contents = MirroredLog::Read(fs_, path);
    }
    if (!contents.ok()) {
      Damaged(path, contents.status(), kFromBackup);
      return false;
    }
    bool mended = false;
    if (options_.repair && (!contents->damage.empty() || !contents->torn.empty())) {
      MirroredLog::Contents again;
      mended = MirroredLog::Open(fs_, path, &again).ok();
    }
    for (const std::string& damage : contents->damage) {
      const std::string file =
          absl::StartsWith(damage, MirroredLog::CopyPath(path)) ? MirroredLog::CopyPath(path) : path;
      Add(Kind::kDamage, file, Without(file, damage), kMended, mended);
    }
    for (const std::string& torn : contents->torn) Unfinished(torn, contents->records.size(), mended);
    for (const std::string& file : {path, MirroredLog::CopyPath(path)}) {
      if (fs_.Exists(file)) Count(file);
    }
    report_.records += contents->records.size();
    *records = std::move(contents->records);
    return true;
  }

  // ---- the journal and the catalog that the state belongs to

  void CheckJournal() {
    const std::string path = Path("journal.rec");
    std::vector<std::string> records;
    if (!Mirrored(path, &records)) return;
    const absl::Status status = Journal::Replay(path, records, state_);
    if (!status.ok()) return Damaged(path, status, kFromBackup);
    journal_good_ = true;
    report_.active = state_.active();
    report_.generations = state_.published().size();
  }

  void CheckBinding() {
    const std::string path = Path("CATALOG");
    const absl::StatusOr<std::string> text = fs_.ReadFile(path);
    if (!text.ok())
      return Damaged(path, text.status(), "start the miner with the right catalog: it is written again");
    Count(path);
    const absl::string_view fingerprint = absl::StripAsciiWhitespace(*text);
    if (fingerprint.size() != 32 ||
        !std::all_of(fingerprint.begin(), fingerprint.end(), absl::ascii_isxdigit)) {
      return Add(Kind::kDamage, path, "is no fingerprint of 32 hex digits",
                 "start the miner with the right catalog: it is written again");
    }
    report_.catalog_fingerprint = std::string(fingerprint);
    if (!options_.catalog_fingerprint.empty() && options_.catalog_fingerprint != fingerprint) {
      Add(Kind::kDamage, path,
          absl::StrCat("the state belongs to the catalog with fingerprint ", fingerprint, ", this one has ",
                       options_.catalog_fingerprint),
          "name the catalog that the state was made with");
    }
  }

  // ---- generations

  void CheckGenerations() {
    const GenerationStore store(fs_, Path("generations"));
    std::vector<uint64_t> good;
    for (const uint64_t number : state_.published()) {
      const size_t before = report_.findings.size();
      CheckGeneration(store, number);
      if (report_.findings.size() == before) {
        good.push_back(number);
      } else if (NoLongerPublished(number)) {
        report_.findings.resize(before);
      }
    }
    if (std::count(good.begin(), good.end(), report_.active) > 0) {
      report_.served = report_.active;
    } else if (!good.empty() && report_.active != 0) {
      report_.served = good.back();
    }
    for (const std::string& name : List(Path("generations"))) {
      const std::string path = Path("generations/" + name);
      if (absl::StartsWith(name, ".tmp-")) {
        Add(Kind::kNote, path, "a generation that is being written or removed",
            report_.in_use ? "nothing: the miner is at it" : kAtNextStart);
      } else if (journal_good_ && published_directories_.count(name) == 0 && !report_.in_use) {
        Add(Kind::kNote, path, "a generation that was never published, or was retired", kAtNextStart);
      }
    }
  }

  // While we read, a running miner may have let it go.
  bool NoLongerPublished(uint64_t number) {
    if (!report_.in_use) return false;
    const auto contents = MirroredLog::Read(fs_, Path("journal.rec"));
    MinerState now;
    return contents.ok() && Journal::Replay("", contents->records, now).ok() &&
           now.published().count(number) == 0;
  }

  void CheckGeneration(const GenerationStore& store, uint64_t number) {
    const std::string directory = store.Directory(number);
    published_directories_.insert(directory.substr(directory.rfind('/') + 1));
    const std::string remedy = number == state_.active()
                                   ? "restore the file from a backup, or recluster; until then the newest "
                                     "intact generation is served"
                                   : "restore the file from a backup, or retire the generation";
    const absl::StatusOr<v1::GenerationManifest> manifest = store.ReadManifest(number);
    if (!manifest.ok()) {
      const std::string message(manifest.status().message());
      return Damaged(message.substr(0, message.find(": ")), manifest.status(), remedy);
    }
    Count(directory + "/manifest.json");
    Count(directory + "/DONE");
    bool whole = true;
    for (const v1::FileDigest& digest : manifest->files()) {
      const std::string path = absl::StrCat(directory, "/", digest.name());
      const auto file = MappedFile::Open(path, MappedFile::Access::kSequential);
      if (file.ok()) Count(path);
      absl::Status status = file.status();
      if (file.ok() && (*file)->size() != digest.size()) {
        status = absl::DataLossError(
            absl::StrCat("has ", (*file)->size(), " bytes, the manifest says ", digest.size()));
      } else if (file.ok() && Crc32c((*file)->data()) != digest.crc32c()) {
        status = absl::DataLossError("its CRC32C differs from the manifest's");
      }
      if (status.ok()) continue;
      whole = false;
      Damaged(path, status, remedy);
    }
    if (!whole) return;
    const auto loaded = store.Load(number, manifest->info().catalog_fingerprint());
    if (!loaded.ok()) {
      const std::string message(loaded.status().message());
      Damaged(message.substr(0, message.find(": ")), loaded.status(), remedy);
    }
  }

  // ---- representations

  void CheckPasses() {
    for (const std::string& name : List(Path("representations"))) {
      const std::string directory = Path("representations/" + name);
      if (absl::EndsWith(name, ".removed")) {
        Add(Kind::kNote, directory, "a pass that is being removed", "nothing: it goes after the next job");
        continue;
      }
      const std::string remedy =
          "nothing: the next job that uses this pass embeds again what stands behind the damage";
      for (const std::string& file : List(directory)) {
        CheckRanges(absl::StrCat(directory, "/", file), name.substr(name.rfind('-') + 1), remedy);
      }
    }
  }

  void CheckRanges(const std::string& path, const std::string& key, const std::string& remedy) {
    const std::vector<std::string> records = Records(path, remedy);
    v1::RepresentationPass pass;
    for (size_t i = 0; i < records.size(); ++i) {
      std::string wrong;
      if (i == 0) {
        if (!pass.ParseFromString(records[0]) || RepresentationPassKey(pass) != key) {
          wrong = "is not the header of this pass";
        }
      } else {
        wrong = WrongInRange(pass, records[i]);
      }
      if (wrong.empty()) continue;
      return Add(Kind::kDamage, path, absl::StrCat("record ", i, ": ", wrong),
                 "remove the folder to embed the pass again");
    }
  }

  static std::string WrongInRange(const v1::RepresentationPass& pass, const std::string& record) {
    v1::RepresentationRange range;
    if (!range.ParseFromString(record)) return "cannot be parsed";
    const uint64_t end = pass.first_identity() + pass.identities();
    const uint64_t count = range.identity_count();
    if (count == 0 || range.first_identity() < pass.first_identity() || range.first_identity() >= end ||
        count > end - range.first_identity()) {
      return "first_identity, identity_count: beyond the pass";
    }
    if (range.dimension() != pass.dimension() ||
        range.representations().size() != count * pass.dimension() * sizeof(float)) {
      return "dimension, representations: do not fit the pass";
    }
    if (static_cast<uint64_t>(range.samples_size()) != count) return "samples: not one for each identity";
    for (size_t at = 0; at < range.representations().size(); at += sizeof(float)) {
      float value;
      std::memcpy(&value, range.representations().data() + at, sizeof value);
      if (!std::isfinite(value)) return "representations: holds NaN or infinity";
    }
    return "";
  }

  // ---- models

  void CheckModels() {
    for (const std::string& name : List(Path("models"))) {
      const std::string directory = Path("models/" + name);
      if (name == "incoming") {
        for (const std::string& file : List(directory)) {
          Add(Kind::kNote, absl::StrCat(directory, "/", file), "a model that has not arrived whole",
              "nothing: publishing it again goes on there");
        }
      } else if (absl::EndsWith(name, ".tmp")) {
        Add(Kind::kNote, directory, "a model that is being put in place or removed", kAtNextStart);
      } else if (fs_.List(directory).ok()) {
        CheckModel(name, directory);
      }
    }
  }

  void CheckModel(const std::string& hash, const std::string& directory) {
    constexpr char kPublishAgain[] = "publish the model again, or remove its folder";
    const size_t before = report_.findings.size();
    const std::string path = directory + "/MANIFEST";
    const std::vector<std::string> records = Records(path, kPublishAgain);
    v1::ModelManifest manifest;
    if (report_.findings.size() == before &&
        (records.size() != 1 || !manifest.ParseFromString(records[0]) || manifest.hash() != hash)) {
      Add(Kind::kDamage, path, "record 0: is not the manifest of this model", kPublishAgain);
    }
    const absl::StatusOr<std::string> json = fs_.ReadFile(directory + "/model.json");
    if (json.ok() && report_.findings.size() == before && Crc32c(*json) != manifest.model_json_crc32c()) {
      Add(Kind::kDamage, directory + "/model.json", "its CRC32C differs from the manifest's", kPublishAgain);
    }
    const absl::StatusOr<ModelContent> content = ReadModelContent(directory);
    if (!content.ok()) {
      const bool description = !json.ok() || absl::StrContains(content.status().message(), "model.json:");
      Damaged(directory + (description ? "/model.json" : "/weights.pt"), content.status(), kPublishAgain);
    } else if (content->description.hash() != hash) {
      Add(Kind::kDamage, directory + "/model.json", "fingerprint: is not the folder's name", kPublishAgain);
    }
    Count(directory + "/model.json");
    Count(directory + "/weights.pt");
    // Pruned meanwhile.
    if (report_.in_use && !fs_.Exists(directory)) report_.findings.resize(before);
  }

  // ---- running means

  void CheckSnapshots() {
    const RunningMeanStore store(fs_, Path("live"));
    const absl::StatusOr<std::vector<uint64_t>> numbers = store.Numbers();
    if (!numbers.ok()) return Damaged(Path("live"), numbers.status(), "mend the disk");
    for (const uint64_t number : *numbers) {
      const std::string directory = store.Directory(number);
      for (const std::string& file : List(directory)) Count(absl::StrCat(directory, "/", file));
      const absl::StatusOr<v1::RunningMeanHeader> header = store.Check(number);
      if (header.ok()) {
        report_.records += header->parts() + 1;
      } else if (!report_.in_use || fs_.Exists(directory)) {
        const std::string message(header.status().message());
        Damaged(message.substr(0, message.find(": ")), header.status(),
                "nothing: the snapshot before it is taken; trainers report the rest again");
      }
    }
    if (fs_.Exists(Path("live/writing.tmp"))) {
      Add(Kind::kNote, Path("live/writing.tmp"), "a snapshot that is being written or removed",
          "nothing: the next snapshot replaces it");
    }
  }

  // ---- the others

  void CheckCleaning() {
    const std::string path = Path("cleaning.rec");
    std::vector<std::string> records;
    if (!Mirrored(path, &records)) return;
    CleaningState state;
    const absl::Status status = CleaningStore::Replay(path, records, state);
    if (!status.ok()) Damaged(path, status, kFromBackup);
  }

  void CheckWorkGroups() {
    for (const std::string& name : List(Path("work_groups"))) {
      const std::string path = Path("work_groups/" + name);
      if (absl::EndsWith(name, ".tmp")) {
        Add(Kind::kNote, path, "a journal that is being rewritten",
            "nothing: the next rewriting replaces it");
        continue;
      }
      const std::vector<std::string> records =
          Records(path, absl::StrCat(kFromBackup, ", or let the trainers open another group"));
      for (size_t i = 0; i < records.size(); ++i) {
        v1::WorkGroupUpdate update;
        if (update.ParseFromString(records[i]) && update.has_opened() == (i == 0)) continue;
        Add(Kind::kDamage, path, absl::StrCat("record ", i, ": is no fact of a work group"), kFromBackup);
        break;
      }
    }
  }

  void CheckStrangers() {
    static constexpr absl::string_view kKnown[] = {
        "LOCK",   "CATALOG", "journal.rec",  "journal.rec.copy",  "generations", "representations",
        "models", "live",    "cleaning.rec", "cleaning.rec.copy", "work_groups"};
    for (const std::string& name : List(report_.directory)) {
      if (std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown)) continue;
      if (absl::EndsWith(name, ".damaged")) {
        Add(Kind::kNote, Path(name), "a damaged file that was replaced",
            "remove it when you have looked at it");
      } else if (absl::EndsWith(name, ".tmp")) {
        Add(Kind::kNote, Path(name), "a file that was being written",
            "nothing: the next writing replaces it");
      } else {
        Add(Kind::kNote, Path(name), "not a file of the miner's", "nothing");
      }
    }
  }

  FileSystem& fs_;
  const CheckOptions options_;
  CheckReport report_;
  MinerState state_;
  bool journal_good_ = false;
  std::set<std::string> published_directories_;
};

}  // namespace

absl::string_view CheckKindName(CheckFinding::Kind kind) {
  switch (kind) {
    case Kind::kNote:
      return "note";
    case Kind::kUnfinished:
      return "unfinished";
    case Kind::kDamage:
      break;
  }
  return "damage";
}

uint64_t CheckReport::Count(CheckFinding::Kind kind) const {
  return static_cast<uint64_t>(
      std::count_if(findings.begin(), findings.end(),
                    [kind](const CheckFinding& one) { return one.kind == kind && !one.repaired; }));
}

absl::StatusOr<CheckReport> CheckState(FileSystem& fs, const std::string& directory,
                                       const CheckOptions& options) {
  return StateCheck(fs, directory, options).Run();
}

}  // namespace doppel
