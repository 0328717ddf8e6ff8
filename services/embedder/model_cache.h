#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "trainer/stream/model_client.h"

namespace doppel {

// Models by hash, fetched from the miner when they are not here yet, in a folder that processes may share.
class ModelCache {
 public:
  struct Options {
    std::string directory;
    // Tells this process' files from those of others, while they are on their way.
    std::string process;
    size_t keep = 8;
    FileSystem* fs = &PosixFileSystem();
    const Clock* clock = &Clock::Real();
  };
  // `client` outlives it.
  ModelCache(ModelClient& client, Options options) : client_(client), options_(std::move(options)) {}

  // The model directory. Checked whole, whether it was here or came now; goes on where the last attempt of
  // this process stopped. `keep_alive` is called between chunks; an error of it ends the fetch and is
  // returned.
  absl::StatusOr<std::string> Get(const std::string& hash, const std::function<absl::Status()>& keep_alive);

 private:
  ModelClient& client_;
  const Options options_;
};

}  // namespace doppel
