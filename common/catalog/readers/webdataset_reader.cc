#include "common/catalog/readers/webdataset_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"
#include "common/catalog/readers/image_file.h"
#include "common/catalog/readers/tar_walker.h"
#include "common/io/crc32c.h"
#include "common/io/mapped_file.h"

namespace doppel {
namespace {

namespace fs = std::filesystem;

// Splits "dir/key.png" into key "dir/key" and extension "png". False: WebDataset passes over such a member.
bool SplitMemberName(absl::string_view name, absl::string_view* key, std::string* extension) {
  const size_t slash = name.rfind('/');
  const size_t base = slash == absl::string_view::npos ? 0 : slash + 1;
  const size_t dot = name.find('.', base);
  if (dot == absl::string_view::npos || dot == base) return false;
  for (const absl::string_view part : absl::StrSplit(name, '/')) {
    if (part.size() >= 4 && absl::StartsWith(part, "__") && absl::EndsWith(part, "__")) return false;
  }
  *key = name.substr(0, dot);
  *extension = absl::AsciiStrToLower(name.substr(dot + 1));
  return true;
}

struct Part {
  std::string extension;
  std::string name;
  uint64_t offset = 0;
  uint64_t size = 0;
  bool link = false;
};

struct Group {
  std::string key;
  std::vector<Part> parts;
  bool damaged = false;  // one of its members has been named already
};

const Part* FindPart(const Group& group, absl::string_view extension) {
  for (const Part& part : group.parts) {
    if (part.extension == extension) return &part;
  }
  return nullptr;
}

// "png" before "left.png"; else the first in the archive.
const Part* FindImage(const Group& group) {
  const Part* fallback = nullptr;
  for (const Part& part : group.parts) {
    if (IsImageExtension(part.extension)) return &part;
    const size_t dot = part.extension.rfind('.');
    const bool image = dot != std::string::npos && IsImageExtension(part.extension.substr(dot + 1));
    if (image && fallback == nullptr) fallback = &part;
  }
  return fallback;
}

class ShardReader : public SampleReader {
 public:
  ShardReader(std::string path, uint32_t source, uint64_t expected_size)
      : path_(std::move(path)), source_(source), expected_size_(expected_size) {}

  absl::StatusOr<ReaderItem> Next() override {
    if (!indexed_) {
      RETURN_IF_ERROR(Index());
      indexed_ = true;
    }
    if (next_skip_ < skips_.size()) return ReaderItem(std::move(skips_[next_skip_++]));
    while (next_ < groups_.size()) {
      Group group = std::move(groups_[next_++]);
      if (group.damaged) continue;
      if (!group.parts.empty()) done_ = group.parts.back().offset;
      return ReadGroup(group);
    }
    done_ = expected_size_;
    return ReaderItem(ReaderEnd{});
  }

  uint64_t work_done() const override { return done_ / 1000; }

 private:
  absl::Status Index();
  void AddMember(TarMember member, absl::flat_hash_map<std::string, size_t>* by_key);
  ReaderItem ReadGroup(const Group& group) const;
  SkippedRecord Skip(absl::string_view record, absl::string_view reason, absl::string_view detail) const {
    return {path_, std::string(record), std::string(reason), std::string(detail)};
  }
  // Fills identity and split; false with `skip` set if it cannot.
  bool ReadMetadata(const Group& group, SampleEntry* entry, SkippedRecord* skip) const;
  absl::string_view Bytes(const Part& part) const { return file_->data().substr(part.offset, part.size); }

  const std::string path_;
  const uint32_t source_;
  const uint64_t expected_size_;
  std::shared_ptr<const MappedFile> file_;
  bool indexed_ = false;
  std::vector<Group> groups_;
  std::vector<SkippedRecord> skips_;
  size_t next_ = 0;
  size_t next_skip_ = 0;
  uint64_t done_ = 0;
};

void ShardReader::AddMember(TarMember member, absl::flat_hash_map<std::string, size_t>* by_key) {
  absl::string_view key;
  Part part;
  if (!SplitMemberName(member.name, &key, &part.extension)) return;
  part.offset = member.offset;
  part.size = member.size;
  part.link = member.link;
  // Members of one sample follow one another nearly always.
  size_t index = groups_.size();
  if (!groups_.empty() && groups_.back().key == key) {
    index = groups_.size() - 1;
  } else {
    const auto [entry, added] = by_key->try_emplace(std::string(key), groups_.size());
    index = entry->second;
    if (added) groups_.push_back({std::string(key), {}, false});
  }
  Group& group = groups_[index];
  if (FindPart(group, part.extension) != nullptr) {
    skips_.push_back(
        Skip(member.name, "duplicate", "the shard holds this member twice: the first one is taken"));
    return;
  }
  part.name = std::move(member.name);
  group.parts.push_back(std::move(part));
}

absl::Status ShardReader::Index() {
  if (expected_size_ == 0) {
    skips_.push_back(Skip("", "truncated archive", "the file is empty"));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(file_, MappedFile::Open(path_, MappedFile::Access::kSequential));
  if (file_->size() != expected_size_) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, " changes while it is read: import when it is complete"));
  }
  TarWalker walker(file_->data());
  absl::flat_hash_map<std::string, size_t> by_key;
  absl::flat_hash_set<std::string> damaged;
  while (true) {
    TarItem item = walker.Next();
    if (std::holds_alternative<TarEnd>(item)) break;
    if (auto* member = std::get_if<TarMember>(&item)) {
      AddMember(std::move(*member), &by_key);
      continue;
    }
    const TarProblem& problem = std::get<TarProblem>(item);
    absl::string_view key;
    std::string extension;
    if (SplitMemberName(problem.name, &key, &extension)) damaged.insert(std::string(key));
    skips_.push_back(Skip(problem.name.empty() ? absl::StrCat("byte ", problem.offset) : problem.name,
                          problem.reason, absl::StrCat("at byte ", problem.offset, ": ", problem.detail)));
  }
  for (Group& group : groups_) group.damaged = damaged.contains(group.key);
  return absl::OkStatus();
}

bool ShardReader::ReadMetadata(const Group& group, SampleEntry* entry, SkippedRecord* skip) const {
  const Part* cls = FindPart(group, "cls");
  if (cls != nullptr) entry->identity = std::string(absl::StripAsciiWhitespace(Bytes(*cls)));
  if (const Part* json = FindPart(group, "json")) {
    const absl::string_view text = Bytes(*json);
    const nlohmann::json fields = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (!fields.is_object()) {
      *skip = Skip(group.key, "bad metadata", absl::StrCat(json->name, " is not a JSON object"));
      return false;
    }
    for (const char* name : {"identity", "label", "class"}) {
      const auto field = fields.find(name);
      if (!entry->identity.empty() || field == fields.end()) continue;
      if (field->is_string()) entry->identity = field->get<std::string>();
      if (field->is_number_integer()) entry->identity = field->dump();
    }
    const auto split = fields.find("split");
    if (split != fields.end() && !split->is_null()) {
      if (!split->is_string()) {
        *skip = Skip(group.key, "bad metadata", absl::StrCat("\"split\" in ", json->name, " is not text"));
        return false;
      }
      entry->split = split->get<std::string>();
    }
  }
  if (!entry->identity.empty()) return true;
  *skip = Skip(group.key, "no identity",
               "neither text in .cls nor \"identity\", \"label\" or \"class\" (text or integer) in .json");
  return false;
}

ReaderItem ShardReader::ReadGroup(const Group& group) const {
  const Part* image = FindImage(group);
  if (image == nullptr) {
    std::string members;
    for (const Part& part : group.parts) absl::StrAppend(&members, members.empty() ? "" : ", ", part.name);
    return Skip(group.key, "no image", absl::StrCat("the sample has only ", members));
  }
  if (image->link)
    return Skip(group.key, "no image", absl::StrCat(image->name, " is a link: store the file itself"));
  if (image->size == 0) return Skip(group.key, "empty image", absl::StrCat(image->name, " has no bytes"));
  if (image->size > std::numeric_limits<uint32_t>::max()) {
    return Skip(group.key, "image too large", absl::StrCat(image->name, " has ", image->size, " bytes"));
  }
  SampleEntry entry;
  SkippedRecord skip;
  if (!ReadMetadata(group, &entry, &skip)) return skip;
  const ImageVerdict verdict = JudgeImage(Bytes(*image));
  if (!verdict.reason.empty())
    return Skip(group.key, verdict.reason, absl::StrCat(image->name, ": ", verdict.detail));
  entry.key = group.key;
  entry.source = source_;
  entry.offset = image->offset;
  entry.size = static_cast<uint32_t>(image->size);
  entry.crc32c = Crc32c(Bytes(*image));
  return entry;
}

class WebDataset : public DatasetReader {
 public:
  explicit WebDataset(std::vector<v1::CatalogSource> shards) : shards_(std::move(shards)) {
    for (const v1::CatalogSource& shard : shards_) total_ += shard.size() / 1000;
  }
  std::string format() const override { return "webdataset"; }
  const std::vector<v1::CatalogSource>& sources() const override { return shards_; }
  size_t num_parts() const override { return shards_.size(); }
  absl::StatusOr<std::unique_ptr<SampleReader>> OpenPart(size_t part) const override {
    return std::make_unique<ShardReader>(shards_[part].path(), static_cast<uint32_t>(part),
                                         shards_[part].size());
  }
  std::string work_unit() const override { return "KB"; }
  uint64_t total_work() const override { return total_; }
  std::string PartStamp(size_t part) const override { return FileStamp(shards_[part].path()); }

 private:
  const std::vector<v1::CatalogSource> shards_;
  uint64_t total_ = 0;
};

absl::StatusOr<std::vector<std::string>> ListShards(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error) && path.find('{') != std::string::npos) return ExpandBraces(path);
  if (!fs::is_directory(path, error)) return std::vector<std::string>{path};
  std::vector<std::string> shards;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (absl::EndsWith(entry->path().string(), ".tar")) shards.push_back(entry->path().string());
  }
  if (error) return absl::UnavailableError(absl::StrCat("cannot list ", path, ": ", error.message()));
  if (shards.empty()) {
    return absl::NotFoundError(absl::StrCat(path, " holds no *.tar: name the folder of the shards"));
  }
  std::sort(shards.begin(), shards.end());
  return shards;
}

absl::StatusOr<v1::CatalogSource> DescribeShard(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("no shard ", path, ": ", std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a file: shards must be seekable"));
  }
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot name ", path, ": ", error.message()));
  v1::CatalogSource source;
  source.set_kind(v1::CatalogSource::KIND_FILE);
  source.set_path(absolute.lexically_normal().string());
  source.set_size(static_cast<uint64_t>(info.st_size));
  return source;
}

absl::Status CheckNotCompressed(const v1::CatalogSource& shard) {
  if (shard.size() == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(shard.path()));
  for (const absl::string_view magic : {"\x1f\x8b", "\x28\xb5\x2f\xfd",
                                        "\xfd"
                                        "7zXZ",
                                        "BZh"}) {
    if (!absl::StartsWith(file->data(), magic)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        shard.path(), " is compressed, and single images cannot be reached in it: unpack it to a plain tar"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetReader>> OpenWebDataset(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListShards(path));
  std::vector<v1::CatalogSource> shards;
  for (const std::string& shard : paths) {
    ASSIGN_OR_RETURN(v1::CatalogSource source, DescribeShard(shard));
    shards.push_back(std::move(source));
  }
  RETURN_IF_ERROR(CheckNotCompressed(shards.front()));
  return std::make_unique<WebDataset>(std::move(shards));
}

}  // namespace doppel
