// What we wrote ourselves, after somebody else has written over it: configuration, journals, generations,
// catalogs, models.
#include <google/protobuf/util/json_util.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/executor.h"
#include "common/catalog/catalog.h"
#include "common/catalog/manifest.h"
#include "common/catalog/readers/csv_rows.h"
#include "common/config/config.h"
#include "common/io/crc32c.h"
#include "common/io/memory_file_system.h"
#include "common/io/record_file.h"
#include "common/model/model_directory.h"
#include "miner/cleaning/cleaning_store.h"
#include "miner/generation/generation_codec.h"
#include "miner/generation/journal.h"
#include "miner/generation/mapped_generation.h"
#include "miner/representation/representation_store.h"
#include "miner/representation/running_mean_store.h"
#include "services/miner_server/cleaning_pass.h"
#include "services/miner_server/miner_config.h"
#include "services/miner_server/work_group.h"
#include "services/security/access_list.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/fake_catalog.h"

namespace doppel {
namespace {

void WriteBytes(FileSystem& fs, const std::string& path, absl::string_view bytes) {
  const auto file = fs.Create(path);
  FuzzCheck(file.ok() && (*file)->Append(bytes).ok(), "the file system in memory can be written to");
}

// The input as a record file: as it is behind a first byte that is even, else its pieces with good checksums.
void WriteRecords(FileSystem& fs, const std::string& path, absl::string_view input) {
  if (input.empty() || input[0] % 2 == 0)
    return WriteBytes(fs, path, input.substr(std::min<size_t>(1, input.size())));
  FuzzPieces pieces(input.substr(1));
  const auto writer = RecordWriter::Open(fs, path);
  FuzzCheck(writer.ok(), "a record file can be made");
  while (!pieces.empty()) FuzzCheck((*writer)->Append(pieces.Next()).ok(), "a record can be appended");
}

void FuzzRecords(absl::string_view input) {
  InMemoryFileSystem fs;
  WriteRecords(fs, "/f.rec", input);
  const auto before = ReadRecordFile(fs, "/f.rec");
  const auto writer = RecordWriter::Open(fs, "/f.rec");
  if (!before.ok() || !writer.ok()) return;
  FuzzCheck((*writer)->Append("one more").ok(), "a repaired file takes another record");
  const auto after = ReadRecordFile(fs, "/f.rec");
  FuzzCheck(after.ok() && !after->torn_tail, "a repaired file is whole");
  FuzzCheck(after->records.size() == before->records.size() + 1 && after->records.back() == "one more" &&
                std::equal(before->records.begin(), before->records.end(), after->records.begin()),
            "repairing keeps every good record");
}

void FuzzJournal(absl::string_view input) {
  InMemoryFileSystem fs;
  WriteRecords(fs, "/journal.rec", input);
  MinerState state;
  const auto journal = Journal::Open(fs, "/journal.rec", state);
  if (!journal.ok()) return;
  MinerState again;
  FuzzCheck(Journal::Open(fs, "/journal.rec", again).ok() && state.DebugString() == again.DebugString(),
            "replaying gives the same state");
  FuzzCheck(state.active() == 0 || state.published().count(state.active()) > 0,
            "what is active is published");
}

void FuzzCleaning(absl::string_view input) {
  InMemoryFileSystem fs;
  WriteRecords(fs, "/cleaning.rec", input);
  const auto store = CleaningStore::Open(fs, "/cleaning.rec", Clock::Real());
  if (!store.ok()) return;
  const FakeCatalog catalog({3, 3, 2, 4});
  const CleaningState state = (*store)->State();
  state.MakeGuardList().IgnoreError();
  ListFindingsOf(state, catalog, {}).IgnoreError();
  if (const auto csv = FindingsCsv(state, catalog); csv.ok()) {
    std::vector<std::string> header, fields;
    size_t at = 0;
    FuzzCheck(ReadCsvRow(*csv, &at, &header), "an export has a header");
    while (ReadCsvRow(*csv, &at, &fields)) {
      FuzzCheck(fields.size() == header.size(), "every exported row has all columns");
    }
  }
  if (const auto undone = (*store)->Undo(0); undone.ok()) {
    const auto again = CleaningStore::Open(fs, "/cleaning.rec", Clock::Real());
    FuzzCheck(again.ok() && (*again)->State().FindDecision(undone->number()) == nullptr,
              "what was undone stays undone");
  }
}

void FuzzGuardList(absl::string_view input) {
  const std::vector<absl::string_view> lines = absl::StrSplit(input, '\n');
  std::vector<GuardList::Pair> pairs;
  std::vector<uint64_t> samples;
  for (absl::string_view line : lines) {
    const auto subject = ParseSubjectId(line);
    if (!subject.ok()) continue;
    const auto again = ParseSubjectId(SubjectId(*subject));
    FuzzCheck(again.ok() && again->SerializeAsString() == subject->SerializeAsString(),
              "an id names its subject");
    if (subject->kind() == v1::CleaningSubject::KIND_DUPLICATE_IDENTITIES) {
      pairs.push_back({subject->first_identity(), subject->second_identity()});
    } else {
      samples.push_back(subject->sample());
    }
  }
  const auto list = GuardList::Make(pairs, samples);
  if (!list.ok()) return;
  for (const GuardList::Pair& pair : pairs) {
    FuzzCheck(list->Guarded(pair.first, pair.second) && list->Guarded(pair.second, pair.first),
              "guards go both ways");
  }
  for (uint64_t sample : samples) FuzzCheck(list->Dropped(sample), "a dropped sample is dropped");
}

void FuzzWorkGroup(absl::string_view input) {
  InMemoryFileSystem fs;
  WriteRecords(fs, "/g.rec", input);
  v1::WorkGroupOpened wanted;
  if (const auto contents = ReadRecordFile(fs, "/g.rec"); contents.ok() && !contents->records.empty()) {
    v1::WorkGroupUpdate first;
    if (first.ParseFromString(contents->records[0])) wanted = first.opened();
  }
  const auto executor = MakeThreadPool(0);
  const auto group = WorkGroup::Open(fs, "/g.rec", wanted, executor.get());
  if (!group.ok()) return;
  for (int i = 0; i < 8; ++i) {
    const uint64_t below = (*group)->acknowledged_below();
    const auto lease = (*group)->TakeLease(1, absl::Seconds(60), absl::UnixEpoch(), [] {});
    if (lease.outcome != WorkGroup::Outcome::kLeased) break;
    FuzzCheck(lease.cursor >= below, "what was acknowledged is not given out again");
    int firsts = 0;
    for (int twice = 0; twice < 2; ++twice) {
      const absl::Status status =
          (*group)->Acknowledge(lease.cursor, [&firsts](const absl::StatusOr<v1::Acknowledged>& answer) {
            firsts += answer.ok() && answer->first();
          });
      FuzzCheck(status.ok(), "what was given out can be acknowledged");
    }
    FuzzCheck(firsts == 1, "one acknowledgement is the first");
  }
}

void FuzzRepresentations(absl::string_view input) {
  InMemoryFileSystem fs;
  FuzzCheck(fs.MakeDirectories("/pass").ok(), "a folder can be made");
  v1::RepresentationPass pass;
  pass.set_identities(4);
  pass.set_dimension(2);
  // The header that the store wants first; the input has the ranges.
  { FuzzCheck(RepresentationStore::Open(fs, "/pass", pass).ok(), "a pass can be begun"); }
  const auto names = fs.List("/pass");
  FuzzCheck(names.ok() && !names->empty(), "a pass has a file");
  const std::string path = "/pass/" + names->front();
  const auto writer = RecordWriter::Open(fs, path);
  FuzzPieces pieces(input);
  while (!pieces.empty()) FuzzCheck((*writer)->Append(pieces.Next()).ok(), "a record can be appended");
  const auto store = RepresentationStore::Open(fs, "/pass", pass);
  if (!store.ok()) return;
  (*store)->Missing();
  if (const auto frozen = (*store)->Freeze(); frozen.ok()) {
    FuzzCheck(frozen->rows.rows == 4 && frozen->samples.size() == 4, "a pass has a row for each identity");
  }
}

// Its header, then its rows.
void FuzzRunningMeans(absl::string_view input) {
  InMemoryFileSystem fs;
  FuzzCheck(fs.MakeDirectories("/live/000001").ok(), "a folder can be made");
  FuzzPieces pieces(input);
  {
    const auto header = RecordWriter::Open(fs, "/live/000001/DONE");
    FuzzCheck((*header)->Append(pieces.Next()).ok(), "a record can be appended");
    const auto rows = RecordWriter::Open(fs, "/live/000001/rows-000000.rec");
    while (!pieces.empty()) FuzzCheck((*rows)->Append(pieces.Next()).ok(), "a record can be appended");
  }
  RunningMeanStore store(fs, "/live");
  uint32_t dimension = 0;
  store
      .Load(
          [&](const v1::RunningMeanHeader& header) {
            dimension = header.dimension();
            return absl::OkStatus();
          },
          [&](const v1::RunningMeanRows& rows) {
            FuzzCheck(rows.means().size() == sizeof(float) * rows.identities_size() * dimension &&
                          rows.weights_size() == rows.identities_size(),
                      "rows fit their header");
          })
      .IgnoreError();
}

constexpr const char* kGenerationFiles[] = {kAssignmentFile,   kMembersFile,         kOffsetsFile,
                                            kCentroidsFile,    kRepresentationsFile, kNeighboursFile,
                                            kSimilaritiesFile, kGuardPairsFile,      kGuardSamplesFile};

// The manifest, then the arrays; their checksums are put right.
void FuzzGeneration(absl::string_view input) {
  FuzzPieces pieces(input);
  auto manifest = DecodeManifest(pieces.Next());
  if (!manifest.ok()) return;
  manifest->clear_files();
  for (const char* name : kGenerationFiles) {
    const std::string bytes = pieces.Next();
    FuzzFile(name, bytes);
    v1::FileDigest* const digest = manifest->add_files();
    digest->set_name(name);
    digest->set_size(bytes.size());
    digest->set_crc32c(Crc32c(bytes));
  }
  const auto generation = MapGeneration(FuzzFolder(), *manifest);
  if (!generation.ok()) return;
  const Generation& g = **generation;
  uint64_t members = 0;
  volatile float sum = 0;  // so that every value is read
  for (uint32_t m = 0; m < g.num_subspaces(); ++m) {
    for (uint32_t identity : g.Members(m))
      FuzzCheck(g.SubspaceOf(identity) == m, "a member is of its subspace");
    members += g.Members(m).size();
    for (float value : g.Centroid(m)) sum = sum + value;
  }
  FuzzCheck(members == g.num_identities(), "every identity is a member once");
  for (uint64_t i = g.first_identity(); i < g.first_identity() + g.num_identities(); ++i) {
    for (float value : g.Representation(i)) sum = sum + value;
    for (uint32_t neighbour : g.Neighbours(i)) FuzzCheck(neighbour != i, "nobody is his own neighbour");
    for (float value : g.NeighbourSimilarities(i)) sum = sum + value;
    for (uint32_t partner : g.guard_list().Partners(i))
      FuzzCheck(g.guard_list().Guarded(partner, i), "guards go both ways");
  }
}

// Every byte of the tables that a reader may ask for.
void ReadWholeCatalog(const Catalog& catalog) {
  constexpr uint64_t kMost = 4096;
  FuzzCheck(catalog.num_identities() <= kMost && catalog.num_samples() <= kMost, "no more rows than bytes");
  for (uint64_t i = 0; i < catalog.num_identities(); ++i) {
    catalog.FindIdentity(catalog.IdentityName(i)).IgnoreError();
    const IdentitySamples samples = catalog.Samples(i);
    FuzzCheck(samples.first + samples.count <= catalog.num_samples(), "an identity's samples are there");
  }
  for (uint64_t s = 0; s < catalog.num_samples(); ++s) {
    catalog.SampleKey(s);
    catalog.SamplePath(s);
    catalog.Encoding(s);
    catalog.RawShape(s);
    catalog.Contiguous(s);
    catalog.Source(catalog.Sample(s).source).IgnoreError();
    if (const auto bytes = catalog.Read(s); bytes.ok()) {
      FuzzCheck(bytes->data.size() == catalog.Sample(s).size, "a sample is as long as it says");
      Crc32c(bytes->data);
    }
  }
  for (const CatalogSplitInfo& split : catalog.splits()) catalog.Split(split.name).IgnoreError();
  catalog.Verify().IgnoreError();
}

// The manifest, the four tables and the file of the samples; sizes and checksums are put right.
void FuzzCatalog(absl::string_view input) {
  FuzzPieces pieces(input);
  const std::string json = pieces.Next();
  v1::CatalogManifest manifest;
  const bool parsed = google::protobuf::util::JsonStringToMessage(json, &manifest).ok();
  manifest.clear_files();
  for (const char* name : {"identities.tbl", "samples.tbl", "names.tbl", "keys.tbl"}) {
    const std::string bytes = pieces.Next();
    FuzzFile(name, bytes);
    v1::FileDigest* const digest = manifest.add_files();
    digest->set_name(name);
    digest->set_size(bytes.size());
    digest->set_crc32c(Crc32c(bytes));
  }
  FuzzFile("samples.bin", pieces.Next());
  // Other people's files are none of this test's business.
  for (v1::CatalogSource& source : *manifest.mutable_sources()) {
    if (absl::string_view(source.path()).substr(0, 1) == "/") source.set_path("samples.bin");
  }
  const absl::StatusOr<std::string> mended = FormatCatalogManifest(manifest);
  FuzzFile("manifest.json", parsed && mended.ok() ? *mended : json);
  if (const auto catalog = Catalog::Open(FuzzFolder()); catalog.ok()) ReadWholeCatalog(**catalog);
}

void FuzzConfig(absl::string_view input) {
  v1::MinerConfig config = DefaultMinerConfig();
  if (ApplyYaml(input, "miner.yaml", &config).ok()) ValidateMinerConfig(config).IgnoreError();
  ConfigOverrides flags;
  const std::vector<absl::string_view> lines = absl::StrSplit(input, '\n');
  for (absl::string_view line : lines) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() == 2) flags.emplace_back(parts[0], parts[1]);
  }
  v1::MinerConfig flagged = DefaultMinerConfig();
  if (ApplyOverrides(flags, &flagged).ok()) ValidateMinerConfig(flagged).IgnoreError();
}

void FuzzModelJson(absl::string_view input) {
  const auto spec = ModelSpecFromJson(input, "model.json");
  if (!spec.ok()) return;
  const auto again = ModelSpecFromJson(ModelSpecToJson(*spec), "model.json");
  FuzzCheck(again.ok() && ModelSpecToJson(*again) == ModelSpecToJson(*spec),
            "a description can be written and read");
  CheckModelSpec(*spec).IgnoreError();
}

void FuzzAccessList(absl::string_view input) {
  const auto list = AccessList::Parse(input, "access");
  if (!list.ok()) return;
  list->OfCertificate({"CN=alice", "DNS:node7.example.org", "URI:spiffe://example.org/team-a/x"})
      .IgnoreError();
  FuzzCheck(!list->OfToken("no such token", absl::UnixEpoch()).ok(),
            "a token that nobody made lets nobody in");
}

constexpr FuzzTarget kStateTargets[] = {
    {"records", "record files: torn tails, checksums, repair", FuzzRecords},
    {"journal", "the miner's journal", FuzzJournal},
    {"cleaning", "the journal of findings and decisions, and their CSV", FuzzCleaning},
    {"guard_list", "ids of decisions, and guard lists of them", FuzzGuardList},
    {"work_group", "the journal of a dynamic work group", FuzzWorkGroup},
    {"representations", "the record files of a representation pass", FuzzRepresentations},
    {"running_means", "a snapshot of the running means", FuzzRunningMeans},
    {"generation", "manifest and arrays of a generation", FuzzGeneration},
    {"catalog", "manifest and tables of a catalog", FuzzCatalog},
    {"config", "YAML and flags of the miner", FuzzConfig},
    {"model_json", "a model's description", FuzzModelJson},
    {"access_list", "who may do what", FuzzAccessList},
};

}  // namespace

absl::Span<const FuzzTarget> StateFuzzTargets() { return kStateTargets; }

}  // namespace doppel
