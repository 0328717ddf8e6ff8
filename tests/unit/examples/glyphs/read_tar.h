#pragma once

#include <archive.h>
#include <archive_entry.h>

#include <map>
#include <string>

#include "gtest/gtest.h"

namespace doppel::glyphs {

struct TarEntry {
  std::string data;
  int64_t mtime = -1;
  int mode = 0;
};

// By libarchive, a reader that is not ours.
inline std::map<std::string, TarEntry> ReadTar(const std::string& bytes) {
  std::map<std::string, TarEntry> entries;
  archive* reader = archive_read_new();
  archive_read_support_format_tar(reader);
  EXPECT_EQ(archive_read_open_memory(reader, bytes.data(), bytes.size()), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  int code;
  while ((code = archive_read_next_header(reader, &entry)) == ARCHIVE_OK) {
    TarEntry& out = entries[archive_entry_pathname(entry)];
    out.mtime = archive_entry_mtime(entry);
    out.mode = static_cast<int>(archive_entry_perm(entry));
    out.data.resize(static_cast<size_t>(archive_entry_size(entry)));
    EXPECT_EQ(archive_read_data(reader, out.data.data(), out.data.size()),
              static_cast<la_ssize_t>(out.data.size()));
  }
  EXPECT_EQ(code, ARCHIVE_EOF) << archive_error_string(reader);
  archive_read_free(reader);
  return entries;
}

}  // namespace doppel::glyphs
