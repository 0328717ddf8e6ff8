#include "services/miner_server/work_groups.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

constexpr size_t kMaxGroups = 1024;
constexpr size_t kMaxNameBytes = 128;

absl::Status CheckName(const std::string& name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "sharing.group: is not up to 128 letters, digits, '.', '_' and '-', the first no '.'");
}

}  // namespace

WorkGroups::WorkGroups(FileSystem& fs, std::string directory, Executor* executor)
    : fs_(fs), directory_(std::move(directory)), executor_(executor), watcher_([this] { Watch(); }) {}

WorkGroups::~WorkGroups() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  watcher_.join();
}

absl::StatusOr<std::shared_ptr<WorkGroup>> WorkGroups::Join(const v1::StreamSpec& spec) {
  if (directory_.empty()) {
    return absl::FailedPreconditionError("sharing.mode: this server keeps no state, so there is no DYNAMIC");
  }
  v1::WorkGroupOpened wanted;
  wanted.set_group(spec.sharing().group());
  *wanted.mutable_plan() = spec.plan();
  wanted.set_seed(spec.seed());
  wanted.set_generation(spec.generation());
  wanted.set_first_cursor(spec.cursor());
  wanted.set_end_cursor(spec.sharing().end_cursor());
  RETURN_IF_ERROR(CheckName(wanted.group()));

  absl::MutexLock opening(&opening_);
  std::shared_ptr<WorkGroup> group;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = groups_.find(wanted.group());
    if (found != groups_.end()) {
      group = found->second;
    } else if (groups_.size() >= kMaxGroups) {
      return absl::ResourceExhaustedError(absl::StrCat("sharing.group: there are ", kMaxGroups, " already"));
    }
  }
  if (group == nullptr) {
    RETURN_IF_ERROR(fs_.MakeDirectories(directory_));
    ASSIGN_OR_RETURN(group, WorkGroup::Open(fs_, absl::StrCat(directory_, "/", wanted.group(), ".rec"),
                                            wanted, executor_));
  }
  RETURN_IF_ERROR(group->CheckSame(wanted));
  absl::MutexLock lock(&mutex_);
  groups_.emplace(wanted.group(), group);
  return group;
}

void WorkGroups::Look() {
  absl::MutexLock lock(&mutex_);
  look_ = true;
}

void WorkGroups::Watch() {
  absl::Time deadline = absl::InfiniteFuture();
  while (true) {
    std::vector<std::shared_ptr<WorkGroup>> groups;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(absl::Condition(this, &WorkGroups::HasNews), deadline);
      if (stopping_) return;
      look_ = false;
      groups.reserve(groups_.size());
      for (const auto& [name, group] : groups_) groups.push_back(group);
    }
    deadline = absl::InfiniteFuture();
    for (const auto& group : groups) deadline = std::min(deadline, group->ExpireLeases(absl::Now()));
  }
}

}  // namespace doppel
