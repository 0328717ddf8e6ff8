#include "common/io/memory_file_system.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

// "" and "." are the root, as "/" is.
std::vector<std::string> Parts(absl::string_view path) {
  std::vector<std::string> parts;
  for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part != ".") parts.emplace_back(part);
  }
  return parts;
}

std::string BaseName(absl::string_view path) {
  std::vector<std::string> parts = Parts(path);
  return parts.empty() ? "" : parts.back();
}

absl::Status NoSuch(absl::string_view what, absl::string_view path) {
  return absl::NotFoundError(absl::StrCat("no such ", what, ": ", path));
}

}  // namespace

struct InMemoryFileSystem::Node {
  bool folder = false;
  Entries entries, durable_entries;
  std::string data, durable_data;
};

class InMemoryFileSystem::File : public WritableFile {
 public:
  File(std::string path, absl::Mutex& mutex, std::shared_ptr<Node> node)
      : path_(std::move(path)), mutex_(mutex), node_(std::move(node)) {}

  absl::Status Append(absl::string_view data) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Closed();
    node_->data.append(data.data(), data.size());
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Closed();
    node_->durable_data = node_->data;
    return absl::OkStatus();
  }
  absl::Status Close() override {
    closed_ = true;
    return absl::OkStatus();
  }

 private:
  absl::Status Closed() const { return absl::FailedPreconditionError(absl::StrCat(path_, " is closed")); }

  const std::string path_;
  absl::Mutex& mutex_;
  const std::shared_ptr<Node> node_;
  bool closed_ = false;
};

InMemoryFileSystem::InMemoryFileSystem() : root_(std::make_shared<Node>()) { root_->folder = true; }
InMemoryFileSystem::~InMemoryFileSystem() = default;

std::unique_ptr<FileSystem> MakeInMemoryFileSystem() { return std::make_unique<InMemoryFileSystem>(); }

std::shared_ptr<InMemoryFileSystem::Node> InMemoryFileSystem::Survivor(const Node& node,
                                                                       Survivors survivors) {
  auto survivor = std::make_shared<Node>();
  survivor->folder = node.folder;
  survivor->data = survivor->durable_data = node.durable_data;
  const Entries& entries = survivors == Survivors::kNames ? node.entries : node.durable_entries;
  for (const auto& [name, child] : entries) survivor->entries[name] = Survivor(*child, survivors);
  survivor->durable_entries = survivor->entries;
  return survivor;
}

void InMemoryFileSystem::DropUnsynced(Survivors survivors) {
  absl::MutexLock lock(&mutex_);
  root_ = Survivor(*root_, survivors);
}

std::shared_ptr<InMemoryFileSystem::Node> InMemoryFileSystem::Find(absl::string_view path) const {
  std::shared_ptr<Node> node = root_;
  for (const std::string& part : Parts(path)) {
    const auto it = node->entries.find(part);
    if (it == node->entries.end()) return nullptr;
    node = it->second;
  }
  return node;
}

absl::StatusOr<std::shared_ptr<InMemoryFileSystem::Node>> InMemoryFileSystem::FindFile(
    const std::string& path) const {
  std::shared_ptr<Node> node = Find(path);
  if (node == nullptr) return NoSuch("file", path);
  if (node->folder) return absl::FailedPreconditionError(absl::StrCat(path, " is a folder"));
  return node;
}

absl::StatusOr<std::shared_ptr<InMemoryFileSystem::Node>> InMemoryFileSystem::FindFolder(
    const std::string& path) const {
  std::shared_ptr<Node> node = Find(path);
  if (node == nullptr) return NoSuch("folder", path);
  if (!node->folder) return absl::FailedPreconditionError(absl::StrCat(path, " is not a folder"));
  return node;
}

absl::StatusOr<std::string> InMemoryFileSystem::ReadFile(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> node, FindFile(path));
  return node->data;
}

absl::StatusOr<std::unique_ptr<WritableFile>> InMemoryFileSystem::Open(const std::string& path,
                                                                       bool truncate) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> parent, FindFolder(DirectoryOf(path)));
  std::shared_ptr<Node>& node = parent->entries[BaseName(path)];
  if (node == nullptr) node = std::make_shared<Node>();
  if (node->folder) return absl::FailedPreconditionError(absl::StrCat(path, " is a folder"));
  if (truncate) {
    // A crash may show the old data or none: none is what trips careless code.
    node->data.clear();
    node->durable_data.clear();
  }
  return std::unique_ptr<WritableFile>(std::make_unique<File>(path, mutex_, node));
}

absl::StatusOr<std::unique_ptr<WritableFile>> InMemoryFileSystem::Create(const std::string& path) {
  return Open(path, true);
}

absl::StatusOr<std::unique_ptr<WritableFile>> InMemoryFileSystem::OpenAppend(const std::string& path) {
  return Open(path, false);
}

absl::Status InMemoryFileSystem::Rename(const std::string& from, const std::string& to) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> old_parent, FindFolder(DirectoryOf(from)));
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> new_parent, FindFolder(DirectoryOf(to)));
  const auto it = old_parent->entries.find(BaseName(from));
  if (it == old_parent->entries.end()) return NoSuch("file", from);
  const std::shared_ptr<Node> node = it->second;
  const auto target = new_parent->entries.find(BaseName(to));
  if (target != new_parent->entries.end() && target->second != node) {
    const Node& there = *target->second;
    if (there.folder != node->folder || !there.entries.empty()) {
      return absl::AlreadyExistsError(absl::StrCat("cannot rename ", from, " to ", to, ": it is in the way"));
    }
  }
  old_parent->entries.erase(it);
  new_parent->entries[BaseName(to)] = node;
  return absl::OkStatus();
}

absl::Status InMemoryFileSystem::SyncDirectory(const std::string& dir) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> node, FindFolder(dir));
  node->durable_entries = node->entries;
  return absl::OkStatus();
}

absl::Status InMemoryFileSystem::MakeDirectories(const std::string& dir) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<Node> node = root_;
  for (const std::string& part : Parts(dir)) {
    std::shared_ptr<Node>& child = node->entries[part];
    if (child == nullptr) {
      child = std::make_shared<Node>();
      child->folder = true;
      node->durable_entries[part] = child;
    }
    if (!child->folder) {
      return absl::AlreadyExistsError(absl::StrCat("cannot make folder ", dir, ": ", part, " is a file"));
    }
    node = child;
  }
  return absl::OkStatus();
}

absl::Status InMemoryFileSystem::Remove(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<Node> node = Find(path);
  if (node == nullptr) return NoSuch("file", path);
  if (!node->entries.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("cannot remove ", path, ": not empty"));
  }
  Find(DirectoryOf(path))->entries.erase(BaseName(path));
  return absl::OkStatus();
}

absl::Status InMemoryFileSystem::RemoveRecursively(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  if (Find(path) != nullptr) Find(DirectoryOf(path))->entries.erase(BaseName(path));
  return absl::OkStatus();
}

absl::Status InMemoryFileSystem::Truncate(const std::string& path, uint64_t size) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> node, FindFile(path));
  node->data.resize(size);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> InMemoryFileSystem::List(const std::string& dir) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> node, FindFolder(dir));
  std::vector<std::string> names;
  for (const auto& [name, child] : node->entries) names.push_back(name);
  return names;
}

bool InMemoryFileSystem::Exists(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  return Find(path) != nullptr;
}

absl::StatusOr<uint64_t> InMemoryFileSystem::Size(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const std::shared_ptr<Node> node, FindFile(path));
  return node->data.size();
}

}  // namespace doppel
