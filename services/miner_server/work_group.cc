#include "services/miner_server/work_group.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {
namespace {

// Cursors journalled as handed out at once: a record for each would be one sync for each.
constexpr uint64_t kHandOutAtOnce = 4096;
// A journal of more records is rewritten when it is opened.
constexpr uint64_t kRewriteRecords = 1000;

std::string SamePlan(const v1::WorkGroupOpened& group) {
  return absl::StrCat(group.seed(), ":", group.generation(), ":", group.plan().SerializeAsString());
}

}  // namespace

absl::StatusOr<std::shared_ptr<WorkGroup>> WorkGroup::Open(FileSystem& fs, const std::string& path,
                                                           const v1::WorkGroupOpened& wanted,
                                                           Executor* executor) {
  std::shared_ptr<WorkGroup> group(new WorkGroup(fs, path, executor));
  RETURN_IF_ERROR(group->Load(wanted));
  return group;
}

absl::Status WorkGroup::Load(const v1::WorkGroupOpened& wanted) {
  absl::MutexLock lock(&mutex_);
  if (fs_.Exists(path_)) {
    ASSIGN_OR_RETURN(const RecordFileContents contents, ReadRecordFile(fs_, path_));
    for (const std::string& record : contents.records) {
      v1::WorkGroupUpdate update;
      if (!update.ParseFromString(record))
        return absl::DataLossError(absl::StrCat(path_, ": not a work group"));
      const absl::Status applied = state_.Apply(update);
      if (!applied.ok()) return absl::DataLossError(absl::StrCat(path_, ": ", applied.message()));
    }
    records_ = contents.records.size();
  }
  if (state_.is_open()) {
    if (records_ > kRewriteRecords) RETURN_IF_ERROR(Rewrite());
  }
  ASSIGN_OR_RETURN(journal_, RecordWriter::Open(fs_, path_));
  if (!state_.is_open()) {
    v1::WorkGroupUpdate update;
    *update.mutable_opened() = wanted;
    RETURN_IF_ERROR(Write(update));
    RETURN_IF_ERROR(state_.Apply(update));
  }
  wanted_below_ = state_.handed_out_below();
  next_ = state_.acknowledged_below();
  return absl::OkStatus();
}

absl::Status WorkGroup::Rewrite() {
  const std::string temporary = path_ + ".tmp";
  if (fs_.Exists(temporary)) RETURN_IF_ERROR(fs_.Remove(temporary));
  ASSIGN_OR_RETURN(const std::unique_ptr<RecordWriter> writer, RecordWriter::Open(fs_, temporary));
  for (const v1::WorkGroupUpdate& update : state_.Snapshot()) {
    RETURN_IF_ERROR(writer->Append(update.SerializeAsString()));
  }
  RETURN_IF_ERROR(writer->Sync());
  RETURN_IF_ERROR(fs_.Rename(temporary, path_));
  return fs_.SyncDirectory(DirectoryOf(path_));
}

absl::Status WorkGroup::Write(const v1::WorkGroupUpdate& update) {
  RETURN_IF_ERROR(journal_->Append(update.SerializeAsString()));
  return journal_->Sync();
}

absl::Status WorkGroup::CheckSame(const v1::WorkGroupOpened& wanted) const {
  absl::MutexLock lock(&mutex_);
  if (SamePlan(wanted) == SamePlan(state_.opened())) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("sharing.group: ", wanted.group(), " has another plan, seed or generation (",
                   state_.opened().ShortDebugString(), "): ask for the same, or choose another group"));
}

WorkGroup::Lease WorkGroup::TakeLease(uint64_t stream, absl::Duration duration, absl::Time now,
                                      std::function<void()> wake) {
  bool flush = false;
  Lease lease;
  {
    absl::MutexLock lock(&mutex_);
    ExpireLocked(now);
    lease = TakeLocked(stream, duration, now, std::move(wake), &flush);
  }
  if (flush) ScheduleFlush();
  return lease;
}

WorkGroup::Lease WorkGroup::TakeLocked(uint64_t stream, absl::Duration duration, absl::Time now,
                                       std::function<void()> wake, bool* flush) {
  Lease lease;
  const uint64_t end = state_.opened().end_cursor();
  if (!returned_.empty()) {
    lease.cursor = *returned_.begin();
    returned_.erase(returned_.begin());
  } else {
    while (state_.IsAcknowledged(next_) || acknowledging_.count(next_) > 0 || leases_.count(next_) > 0)
      ++next_;
    if (end > 0 && next_ >= end) {
      if (state_.IsDone() || OnlyHolder(stream)) {
        lease.outcome = Outcome::kNothingLeft;
      } else {
        waiters_.push_back(std::move(wake));
      }
      return lease;
    }
    if (next_ + kHandOutAtOnce / 2 >= wanted_below_) {
      wanted_below_ = next_ + kHandOutAtOnce;
      *flush = WantsFlush();
    }
    if (next_ >= state_.handed_out_below()) {
      waiters_.push_back(std::move(wake));
      return lease;
    }
    lease.cursor = next_++;
  }
  lease.outcome = Outcome::kLeased;
  leases_[lease.cursor] = {stream, now + duration};
  expiries_.insert({now + duration, lease.cursor});
  return lease;
}

bool WorkGroup::OnlyHolder(uint64_t stream) const {
  return std::all_of(leases_.begin(), leases_.end(),
                     [stream](const auto& lease) { return lease.second.stream == stream; });
}

void WorkGroup::GiveBack(uint64_t cursor) {
  const auto lease = leases_.find(cursor);
  if (lease == leases_.end()) return;
  expiries_.erase({lease->second.expires, cursor});
  leases_.erase(lease);
  if (!state_.IsAcknowledged(cursor) && acknowledging_.count(cursor) == 0) returned_.insert(cursor);
}

void WorkGroup::ExpireLocked(absl::Time now) {
  while (!expiries_.empty() && expiries_.begin()->first <= now) GiveBack(expiries_.begin()->second);
}

absl::Time WorkGroup::ExpireLeases(absl::Time now) {
  std::vector<std::function<void()>> wake;
  absl::Time next = absl::InfiniteFuture();
  {
    absl::MutexLock lock(&mutex_);
    const size_t before = returned_.size();
    ExpireLocked(now);
    if (returned_.size() > before) wake = TakeWaiters();
    if (!waiters_.empty() && !expiries_.empty()) next = expiries_.begin()->first;
  }
  for (const auto& call : wake) call();
  return next;
}

void WorkGroup::Release(uint64_t stream) {
  std::vector<std::function<void()>> wake;
  {
    absl::MutexLock lock(&mutex_);
    std::vector<uint64_t> cursors;
    for (const auto& [cursor, lease] : leases_) {
      if (lease.stream == stream) cursors.push_back(cursor);
    }
    for (const uint64_t cursor : cursors) GiveBack(cursor);
    wake = TakeWaiters();
  }
  for (const auto& call : wake) call();
}

std::vector<std::function<void()>> WorkGroup::TakeWaiters() { return std::exchange(waiters_, {}); }

uint64_t WorkGroup::acknowledged_below() const {
  absl::MutexLock lock(&mutex_);
  return state_.acknowledged_below();
}

absl::Status WorkGroup::Acknowledge(uint64_t cursor, Confirm confirm) {
  bool flush = false;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(failure_);
    const uint64_t end = state_.opened().end_cursor();
    if (cursor >= state_.handed_out_below() || (end > 0 && cursor >= end)) {
      return absl::InvalidArgumentError(
          absl::StrCat("acknowledge_cursor: ", cursor, " was never given out in this work group"));
    }
    pending_.push_back({cursor, std::move(confirm)});
    acknowledging_.insert(cursor);
    returned_.erase(cursor);
    flush = WantsFlush();
  }
  if (flush) ScheduleFlush();
  return absl::OkStatus();
}

void WorkGroup::Flush() {
  while (true) {
    std::vector<Pending> pending;
    std::vector<bool> first;
    v1::WorkGroupUpdate acknowledged, handed_out;
    absl::Status status;
    {
      absl::MutexLock lock(&mutex_);
      pending.swap(pending_);
      status = failure_;
      std::set<uint64_t> fresh;
      first.reserve(pending.size());
      for (const Pending& one : pending) {
        first.push_back(!state_.IsAcknowledged(one.cursor) && fresh.insert(one.cursor).second);
        if (first.back()) acknowledged.mutable_acknowledged()->add_cursors(one.cursor);
      }
      if (wanted_below_ > state_.handed_out_below()) handed_out.set_handed_out_below(wanted_below_);
      const bool nothing = pending.empty() && !handed_out.has_handed_out_below();
      if (nothing || (!status.ok() && pending.empty())) {
        flushing_ = false;
        return;
      }
    }
    if (status.ok() && handed_out.has_handed_out_below()) status = Write(handed_out);
    if (status.ok() && acknowledged.has_acknowledged()) status = Write(acknowledged);
    std::vector<std::function<void()>> wake;
    {
      absl::MutexLock lock(&mutex_);
      if (status.ok() && handed_out.has_handed_out_below()) status = state_.Apply(handed_out);
      if (status.ok() && acknowledged.has_acknowledged()) status = state_.Apply(acknowledged);
      if (!status.ok()) failure_ = status;
      if (status.ok()) {
        for (const Pending& one : pending) {
          GiveBack(one.cursor);
          acknowledging_.erase(one.cursor);
        }
      }
      wake = TakeWaiters();
    }
    for (size_t i = 0; i < pending.size(); ++i) {
      v1::Acknowledged answer;
      answer.set_cursor(pending[i].cursor);
      answer.set_first(first[i]);
      pending[i].confirm(status.ok() ? absl::StatusOr<v1::Acknowledged>(answer) : status);
    }
    for (const auto& call : wake) call();
  }
}

}  // namespace doppel
