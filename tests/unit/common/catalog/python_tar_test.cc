#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "common/catalog/readers/webdataset_reader.h"
#include "tests/support/catalog_fixture.h"
#include "tests/unit/common/catalog/reading.h"

namespace doppel {
namespace {

using doppel::testing::MakeTestImage;
using doppel::testing::ReadAll;
using doppel::testing::TempDir;
using doppel::testing::WriteTestFile;

// Writes three samples: a short name, one that needs every format's extension, and one with other letters.
constexpr char kScript[] = R"(
import io, sys, tarfile
out, form, image = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
long = "d" * 80 + "/" + "k" * (90 if form == "USTAR" else 200)
with tarfile.open(out, "w", format=getattr(tarfile, form + "_FORMAT")) as tar:
    folder = tarfile.TarInfo("folder"); folder.type = tarfile.DIRTYPE
    tar.addfile(folder)
    for name in ("short", long, "字/未"):
        for extension, data in (("png", image), ("cls", name[-1].encode())):
            info = tarfile.TarInfo(name + "." + extension)
            info.size = len(data)
            info.mtime = 1.5 if form == "PAX" else 1
            tar.addfile(info, io.BytesIO(data))
)";

class PythonTarTest : public ::testing::TestWithParam<const char*> {};

TEST_P(PythonTarTest, ReadsWhatPythonWrites) {
  TempDir dir;
  const std::string form = GetParam(), image = MakeTestImage(1, 1, 16);
  WriteTestFile(dir / "make.py", kScript);
  WriteTestFile(dir / "image.png", image);
  const std::string command =
      absl::StrCat("python3 ", dir / "make.py", " ", dir / "out.tar", " ", form, " ", dir / "image.png");
  ASSERT_EQ(std::system(command.c_str()), 0);

  const auto dataset = OpenWebDataset(dir / "out.tar");
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const ReadAll all(**dataset);
  EXPECT_TRUE(all.skips.empty()) << all.skips[0].reason << ": " << all.skips[0].detail;
  const std::string long_name = std::string(80, 'd') + "/" + std::string(form == "USTAR" ? 90 : 200, 'k');
  EXPECT_THAT(all.Names(), ::testing::ElementsAre("short=t", long_name + "=k", "字/未=未"));
  const std::string archive = doppel::testing::ReadTestFile(dir / "out.tar");
  for (const SampleEntry& entry : all.entries) EXPECT_EQ(archive.substr(entry.offset, entry.size), image);
}

INSTANTIATE_TEST_SUITE_P(Formats, PythonTarTest, ::testing::Values("USTAR", "GNU", "PAX"));

}  // namespace
}  // namespace doppel
