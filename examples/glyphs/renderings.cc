#include "examples/glyphs/renderings.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/executor.h"
#include "common/base/status_macros.h"
#include "common/image/png.h"

namespace doppel::glyphs {
namespace {

constexpr int kPngCompression = 6;
constexpr size_t kSpillBuffer = 1 << 20;
constexpr int kGrain = 16;

}  // namespace

// What one thread needs: fonts opened for itself, and a file to leave its PNGs in.
struct Renderings::Worker {
  std::unique_ptr<FontSet> fonts;
  PngEncoder encoder{kPngCompression};
  int fd = -1;
  uint64_t written = 0;
  std::string buffer;
  Bitmap bitmap;

  ~Worker() {
    if (fd >= 0) close(fd);
  }

  absl::Status OpenSpill(const std::string& path) {
    fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return absl::InternalError(absl::StrCat(path, ": ", std::strerror(errno)));
    unlink(path.c_str());  // goes away with the process, however that ends
    return absl::OkStatus();
  }

  absl::Status Flush() {
    for (size_t done = 0; done < buffer.size();) {
      const ssize_t n = write(fd, buffer.data() + done, buffer.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return absl::ResourceExhaustedError(absl::StrCat("scratch file: ", std::strerror(errno)));
      done += static_cast<size_t>(n);
    }
    written += buffer.size();
    buffer.clear();
    return absl::OkStatus();
  }

  absl::Status Draw(int num_typefaces, int self, Identity& identity) {
    for (int t = 0; t < num_typefaces; ++t) {
      if (!fonts->Render(t, identity.code_point, bitmap)) continue;
      const std::string png = encoder.Encode(fonts->size(), fonts->size(), 1, bitmap.data());
      const XXH128_hash_t hash = XXH3_128bits(bitmap.data(), bitmap.size());
      identity.renderings.push_back(
          {t, {hash.high64, hash.low64}, self, written + buffer.size(), static_cast<uint32_t>(png.size())});
      buffer += png;
    }
    return buffer.size() < kSpillBuffer ? absl::OkStatus() : Flush();
  }
};

Renderings::Renderings(Options options) : options_(std::move(options)) {}
Renderings::~Renderings() = default;

absl::StatusOr<std::unique_ptr<Renderings>> Renderings::Create(const std::vector<TypefaceSpec>& typefaces,
                                                               Options options) {
  std::unique_ptr<Renderings> renderings(new Renderings(std::move(options)));
  renderings->num_typefaces_ = static_cast<int>(typefaces.size());
  const Options& o = renderings->options_;
  for (int i = 0; i < o.threads; ++i) {
    auto worker = std::make_unique<Worker>();
    ASSIGN_OR_RETURN(worker->fonts, FontSet::Open(typefaces, o.fonts_root, o.size));
    RETURN_IF_ERROR(worker->OpenSpill(absl::StrCat(o.scratch, "/.renderings-", i)));
    renderings->workers_.push_back(std::move(worker));
  }
  return renderings;
}

std::vector<uint32_t> Renderings::Candidates() const {
  std::vector<uint8_t> count(0x110000, 0);
  for (int t = 0; t < num_typefaces_; ++t) {
    for (uint32_t c : workers_[0]->fonts->Coverage(t)) {
      if (c < count.size()) ++count[c];
    }
  }
  std::vector<uint32_t> candidates;
  for (uint32_t c = 0; c < count.size(); ++c) {
    if (count[c] >= kMinTypefaces) candidates.push_back(c);
  }
  return candidates;
}

absl::StatusOr<std::vector<Identity>> Renderings::Draw(absl::Span<const uint32_t> code_points,
                                                       Progress& progress) {
  struct Shared {
    absl::Mutex mutex;
    std::vector<int> idle ABSL_GUARDED_BY(mutex);
    absl::Status status ABSL_GUARDED_BY(mutex);
  } shared;
  {
    absl::MutexLock lock(&shared.mutex);
    for (size_t i = 0; i < workers_.size(); ++i) shared.idle.push_back(static_cast<int>(i));
  }
  std::vector<Identity> all(code_points.size());
  ParallelFor(static_cast<int64_t>(all.size()), kGrain, options_.threads, [&](int64_t begin, int64_t end) {
    int self;
    {
      absl::MutexLock lock(&shared.mutex);
      if (!shared.status.ok()) return;
      self = shared.idle.back();
      shared.idle.pop_back();
    }
    absl::Status status;
    for (int64_t i = begin; i < end && status.ok(); ++i) {
      all[i].code_point = code_points[i];
      status = workers_[self]->Draw(num_typefaces_, self, all[i]);
    }
    progress.Add(static_cast<uint64_t>(end - begin));
    absl::MutexLock lock(&shared.mutex);
    shared.idle.push_back(self);
    shared.status.Update(status);
  });
  {
    absl::MutexLock lock(&shared.mutex);
    RETURN_IF_ERROR(shared.status);
  }
  for (auto& worker : workers_) RETURN_IF_ERROR(worker->Flush());
  std::vector<Identity> kept;
  for (Identity& identity : all) {
    if (identity.renderings.size() >= kMinTypefaces) kept.push_back(std::move(identity));
  }
  return kept;
}

absl::StatusOr<std::string> Renderings::ReadPng(const Rendering& rendering) const {
  std::string png(rendering.size, '\0');
  size_t done = 0;
  while (done < png.size()) {
    const ssize_t n = pread(workers_[rendering.spill]->fd, png.data() + done, png.size() - done,
                            static_cast<off_t>(rendering.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return absl::DataLossError(absl::StrCat("scratch file: ", n == 0 ? "cut off" : std::strerror(errno)));
    done += static_cast<size_t>(n);
  }
  return png;
}

}  // namespace doppel::glyphs
