#include "trainer/train/event_file.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/io/crc32c.h"

namespace doppel {
namespace {

constexpr absl::string_view kEventPrefix = "events.out.tfevents.";
constexpr size_t kHeader = 12, kFooter = 4;

// Little endian, whatever the machine.
std::string Fixed(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  return out;
}

uint64_t ParseFixed(absl::string_view data) {
  uint64_t value = 0;
  for (size_t i = 0; i < data.size(); ++i) value |= uint64_t{static_cast<uint8_t>(data[i])} << (8 * i);
  return value;
}

// A CRC over data that holds CRCs is weak, hence TFRecord's mask.
uint32_t MaskedCrc(absl::string_view data) {
  const uint32_t crc = Crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

// Seconds in a file's name, which TensorBoard orders files by.
int64_t SecondsOf(absl::string_view name) {
  int64_t seconds = 0;
  const absl::string_view rest = name.substr(kEventPrefix.size());
  return absl::SimpleAtoi(rest.substr(0, rest.find('.')), &seconds) ? seconds : 0;
}

// Bytes of the whole records before the first one of step `first_step` or later.
uint64_t BytesBefore(absl::string_view file, uint64_t first_step) {
  size_t position = 0;
  while (true) {
    const size_t begin = position;
    const absl::StatusOr<std::string> data = ReadRecord(file, &position);
    v1::TensorBoardEvent event;
    if (!data.ok() || !event.ParseFromString(*data)) return begin;
    if (event.has_summary() && event.step() >= static_cast<int64_t>(first_step)) return begin;
  }
}

}  // namespace

std::string FrameRecord(absl::string_view data) {
  const std::string length = Fixed(data.size(), 8);
  return absl::StrCat(length, Fixed(MaskedCrc(length), 4), data, Fixed(MaskedCrc(data), 4));
}

absl::StatusOr<std::string> ReadRecord(absl::string_view file, size_t* position) {
  const absl::string_view rest = file.substr(std::min(*position, file.size()));
  if (rest.empty()) return absl::OutOfRangeError("end of file");
  if (rest.size() < kHeader || ParseFixed(rest.substr(8, 4)) != MaskedCrc(rest.substr(0, 8))) {
    return absl::DataLossError(absl::StrCat("the record at byte ", *position, " has no whole length"));
  }
  const uint64_t length = ParseFixed(rest.substr(0, 8));
  if (length > rest.size() - kHeader || rest.size() - kHeader - length < kFooter) {
    return absl::DataLossError(absl::StrCat("the record at byte ", *position, " is cut short"));
  }
  const absl::string_view data = rest.substr(kHeader, length);
  if (ParseFixed(rest.substr(kHeader + length, kFooter)) != MaskedCrc(data)) {
    return absl::DataLossError(absl::StrCat("the record at byte ", *position, " has the wrong CRC32C"));
  }
  *position += kHeader + length + kFooter;
  return std::string(data);
}

absl::StatusOr<std::unique_ptr<EventLog>> EventLog::Open(FileSystem& fs, const std::string& directory,
                                                         uint64_t first_step, absl::Time now) {
  RETURN_IF_ERROR(fs.MakeDirectories(directory));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(directory));
  int64_t seconds = absl::ToUnixSeconds(now);
  size_t files = 0;
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, kEventPrefix)) continue;
    ++files;
    seconds = std::max(seconds, SecondsOf(name));
    const std::string path = absl::StrCat(directory, "/", name);
    ASSIGN_OR_RETURN(const std::string data, fs.ReadFile(path));
    const uint64_t keep = BytesBefore(data, first_step);
    if (keep < data.size()) RETURN_IF_ERROR(fs.Truncate(path, keep));
  }
  // Names must sort by age: the files before count within one second.
  const std::string path =
      absl::StrCat(directory, "/", absl::StrFormat("%s%010d.doppel.%06d", kEventPrefix, seconds, files));
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.OpenAppend(path));
  std::unique_ptr<EventLog> log(new EventLog(std::move(file)));
  v1::TensorBoardEvent event;
  event.set_wall_time(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  event.set_file_version("brain.Event:2");
  RETURN_IF_ERROR(log->Append(event));
  if (files > 0) {
    event.set_step(static_cast<int64_t>(first_step));
    event.mutable_session_log()->set_status(v1::TensorBoardSessionLog::STATUS_START);
    RETURN_IF_ERROR(log->Append(event));
  }
  RETURN_IF_ERROR(fs.SyncDirectory(directory));
  return log;
}

void EventLog::AddScalar(const std::string& tag, double value) {
  v1::TensorBoardSummary::Value& added = *pending_.add_value();
  added.set_tag(tag);
  added.set_simple_value(static_cast<float>(value));
}

void EventLog::AddHistogram(const std::string& tag, const Histogram& histogram) {
  if (histogram.count == 0) return;
  v1::TensorBoardSummary::Value& added = *pending_.add_value();
  added.set_tag(tag);
  v1::TensorBoardHistogram& histo = *added.mutable_histo();
  histo.set_min(histogram.min);
  histo.set_max(histogram.max);
  histo.set_num(static_cast<double>(histogram.count));
  histo.set_sum(histogram.sum);
  histo.set_sum_squares(histogram.sum_squares);
  for (const double limit : histogram.limits) histo.add_bucket_limit(limit);
  for (const uint64_t bucket : histogram.buckets) histo.add_bucket(static_cast<double>(bucket));
}

void EventLog::AddImage(const std::string& tag, int height, int width, int channels, std::string png) {
  v1::TensorBoardSummary::Value& added = *pending_.add_value();
  added.set_tag(tag);
  v1::TensorBoardImage& image = *added.mutable_image();
  image.set_height(height);
  image.set_width(width);
  image.set_colorspace(channels);
  image.set_encoded_image_string(std::move(png));
}

absl::Status EventLog::Write(uint64_t step, absl::Time now) {
  if (pending_.value().empty()) return absl::OkStatus();
  v1::TensorBoardEvent event;
  event.set_wall_time(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  event.set_step(static_cast<int64_t>(step));
  event.mutable_summary()->Swap(&pending_);
  pending_.Clear();
  return Append(event);
}

absl::Status EventLog::Append(const v1::TensorBoardEvent& event) {
  return file_->Append(FrameRecord(event.SerializeAsString()));
}

absl::Status EventLog::Sync() { return file_->Sync(); }

}  // namespace doppel
