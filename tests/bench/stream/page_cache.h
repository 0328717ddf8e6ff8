#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "common/catalog/catalog.h"

namespace doppel {

// The share of the mapped files that is in memory afterwards: what another process has mapped stays.
inline double DropFromPageCache(const Catalog& catalog) {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t pages = 0, resident = 0;
  for (uint32_t i = 0; i < catalog.num_sources(); ++i) {
    const absl::StatusOr<MappedSource> source = catalog.Source(i);
    if (!source.ok() || source->bytes.empty()) continue;
    const int fd = open(source->path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    void* const mapped = const_cast<char*>(source->bytes.data());  // begins at a page
    madvise(mapped, source->bytes.size(), MADV_DONTNEED);          // pages that we have mapped would stay
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    std::vector<unsigned char> in_memory((source->bytes.size() + page - 1) / page);
    if (mincore(mapped, source->bytes.size(), in_memory.data()) != 0) continue;
    pages += in_memory.size();
    for (const unsigned char state : in_memory) resident += state & 1;
  }
  return pages == 0 ? 1 : static_cast<double>(resident) / static_cast<double>(pages);
}

}  // namespace doppel
