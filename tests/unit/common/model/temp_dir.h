#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

#include "common/io/file_system.h"

namespace doppel {

// A folder that lives as long as the object.
class TempDir {
 public:
  TempDir() {
    std::string pattern = ::testing::TempDir() + "model_XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() { (void)PosixFileSystem().RemoveRecursively(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace doppel
