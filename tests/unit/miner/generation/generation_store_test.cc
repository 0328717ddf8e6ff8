#include "miner/generation/generation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/io/crc32c.h"
#include "common/io/fault_file_system.h"
#include "common/io/memory_file_system.h"
#include "common/io/npy.h"
#include "tests/unit/miner/generation/mining_fixture.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Identities 10 .. 15 in two subspaces.
GenerationContents Contents(uint64_t number = 7) {
  GenerationContents contents;
  contents.first_identity = 10;
  contents.assignment = {1, 0, 1, 1, 0, 1};
  contents.centroids = {2, 3, {1, 0, 0, 0, 1, 0}};
  contents.representations = {6, 3, {}};
  for (int i = 0; i < 18; ++i) contents.representations.values.push_back(static_cast<float>(i) / 7);
  contents.info.set_generation(number);
  contents.info.set_catalog_fingerprint("feed");
  contents.info.set_identities(6);
  contents.info.set_subspaces(2);
  contents.info.set_dimension(3);
  contents.info.add_objective(0.1234567890123456789);
  contents.info.set_provenance("{\"seed\": \"3\"}");
  return contents;
}

class GenerationStoreTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(store_.Initialize().ok()); }
  std::string Read(const std::string& path) { return *PosixFileSystem().ReadFile(path); }
  void Overwrite(const std::string& path, const std::string& data) {
    auto file = *PosixFileSystem().Create(path);
    ASSERT_TRUE(file->Append(data).ok());
    ASSERT_TRUE(file->Close().ok());
  }
  TemporaryDirectory directory_;
  std::string root_ = directory_.path() + "/generations";
  GenerationStore store_{PosixFileSystem(), root_};
};

TEST_F(GenerationStoreTest, GivesBackWhatWasWritten) {
  const GenerationContents contents = Contents();
  ASSERT_TRUE(store_.Write(contents, {}).ok());
  const auto loaded = store_.Load(7, "feed");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Generation& generation = **loaded;
  EXPECT_EQ(generation.number(), 7U);
  EXPECT_EQ(generation.first_identity(), 10U);
  EXPECT_EQ(generation.num_identities(), 6U);
  EXPECT_EQ(generation.num_subspaces(), 2U);
  EXPECT_EQ(generation.dimension(), 3);
  EXPECT_THAT(generation.Members(0), ElementsAre(11, 14));
  EXPECT_THAT(generation.Members(1), ElementsAre(10, 12, 13, 15));
  EXPECT_EQ(generation.SubspaceOf(11), 0U);
  EXPECT_EQ(generation.SubspaceOf(15), 1U);
  EXPECT_THAT(generation.Centroid(1), ElementsAre(0, 1, 0));
  EXPECT_THAT(generation.Representation(11), ElementsAre(3 / 7.0F, 4 / 7.0F, 5 / 7.0F));
  EXPECT_EQ(generation.info().SerializeAsString(), contents.info.SerializeAsString());
}

TEST_F(GenerationStoreTest, AnEmptySubspaceHasNoMembers) {
  GenerationContents contents = Contents();
  contents.assignment = {1, 1, 1, 1, 1, 1};
  ASSERT_TRUE(store_.Write(contents, {}).ok());
  EXPECT_THAT((*store_.Load(7, "feed"))->Members(0), IsEmpty());
}

TEST_F(GenerationStoreTest, FloatsAreNumpyFiles) {
  ASSERT_TRUE(store_.Write(Contents(), {}).ok());
  const auto array = ReadNpy(PosixFileSystem(), store_.Directory(7) + "/" + kRepresentationsFile);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->dtype, "<f4");
  EXPECT_THAT(array->shape, ElementsAre(6, 3));
  EXPECT_EQ(*NpyToFloats(*array), Contents().representations.values);
}

TEST_F(GenerationStoreTest, NpyHeadersAreAlignedWhateverTheShape) {
  for (int64_t rows : {int64_t{1}, int64_t{99}, int64_t{100000000}}) {
    for (int columns : {1, 64, 65536}) EXPECT_EQ(NpyFloatHeader(rows, columns).size() % 64, 0U);
  }
}

TEST_F(GenerationStoreTest, AFlippedByteInAnyFileIsNamed) {
  ASSERT_TRUE(store_.Write(Contents(), {}).ok());
  for (const char* name : {kAssignmentFile, kMembersFile, kOffsetsFile, kCentroidsFile, kRepresentationsFile,
                           kManifestFile, kDoneFile}) {
    const std::string path = store_.Directory(7) + "/" + name;
    const std::string good = Read(path);
    for (size_t at : {size_t{0}, good.size() / 2, good.size() - 1}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 4);
      Overwrite(path, bad);
      const absl::Status status = store_.Load(7, "feed").status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << name << " " << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    }
    Overwrite(path, good.substr(0, good.size() - 1));
    EXPECT_THAT(std::string(store_.Load(7, "feed").status().message()), HasSubstr(path)) << "cut short";
    ASSERT_TRUE(PosixFileSystem().Remove(path).ok());
    EXPECT_THAT(std::string(store_.Load(7, "feed").status().message()), HasSubstr(path)) << "missing";
    Overwrite(path, good);
  }
  EXPECT_TRUE(store_.Load(7, "feed").ok());
}

TEST_F(GenerationStoreTest, AnotherCatalogIsRefusedWithBothFingerprints) {
  ASSERT_TRUE(store_.Write(Contents(), {}).ok());
  const absl::Status status = store_.Load(7, "beef").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::AllOf(HasSubstr("feed"), HasSubstr("beef")));
}

TEST_F(GenerationStoreTest, UnknownNumbersAreNotFound) {
  EXPECT_EQ(store_.Load(3, "feed").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GenerationStoreTest, ListsNumbersInOrderAndOnlyThose) {
  for (uint64_t number : {11, 2, 1000000}) ASSERT_TRUE(store_.Write(Contents(number), {}).ok());
  std::filesystem::create_directories(root_ + "/notes");
  std::filesystem::create_directories(root_ + "/5");
  EXPECT_THAT(*store_.Numbers(), ElementsAre(2, 11, 1000000));
  ASSERT_TRUE(store_.Remove(11).ok());
  EXPECT_THAT(*store_.Numbers(), ElementsAre(2, 1000000));
}

TEST_F(GenerationStoreTest, ContradictingContentsAreRefused) {
  GenerationContents contents = Contents();
  contents.assignment[2] = 2;
  EXPECT_EQ(store_.Write(contents, {}).code(), absl::StatusCode::kInvalidArgument);
  contents = Contents();
  contents.assignment.pop_back();
  EXPECT_EQ(store_.Write(contents, {}).code(), absl::StatusCode::kInvalidArgument);
  contents = Contents();
  contents.first_identity = uint64_t{1} << 32;
  EXPECT_EQ(store_.Write(contents, {}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(*PosixFileSystem().List(root_), IsEmpty());
}

TEST_F(GenerationStoreTest, GivingUpAtAnyPointLeavesNothing) {
  for (int polls = 0;; ++polls) {
    int left = polls;
    GenerationStore::WriteHooks hooks;
    hooks.keep_going = [&left] { return left-- > 0; };
    const absl::Status status = store_.Write(Contents(), hooks);
    if (status.ok()) break;
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
    EXPECT_THAT(*PosixFileSystem().List(root_), IsEmpty());
    ASSERT_LT(polls, 50);
  }
  EXPECT_TRUE(store_.Load(7, "feed").ok());
}

TEST_F(GenerationStoreTest, ACrashAtEveryCallLeavesAllOfItOrNothing) {
  for (uint64_t call = 0;; ++call) {
    FaultInjectingFileSystem faulty(PosixFileSystem());
    GenerationStore dying(faulty, root_);
    faulty.Inject(
        {call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
    const absl::Status written = dying.Write(Contents(), {});
    ASSERT_TRUE(store_.Initialize().ok());
    const absl::Status loaded = store_.Load(7, "feed").status();
    if (written.ok()) {
      EXPECT_TRUE(loaded.ok()) << loaded;
      break;
    }
    EXPECT_TRUE(loaded.ok() || absl::IsNotFound(loaded)) << "call " << call << ": " << loaded;
    const std::vector<std::string> names = *PosixFileSystem().List(root_);
    for (const std::string& name : names) EXPECT_EQ(name, "000007");
    ASSERT_TRUE(store_.Remove(7).ok());
    ASSERT_LT(call, 100U);
  }
}

TEST_F(GenerationStoreTest, APowerCutAtEveryCallLeavesAllOfItOrNothing) {
  for (uint64_t call = 0;; ++call) {
    InMemoryFileSystem disk;
    ASSERT_TRUE(GenerationStore(disk, "/g").Initialize().ok());
    FaultInjectingFileSystem faulty(disk);
    faulty.Inject(
        {call, FaultInjectingFileSystem::Error::kIo, FaultInjectingFileSystem::Lasting::kForGood, 0.5});
    const absl::Status written = GenerationStore(faulty, "/g").Write(Contents(), {});
    disk.DropUnsynced();
    GenerationStore store(disk, "/g");
    ASSERT_TRUE(store.Initialize().ok());
    const auto manifest = store.ReadManifest(7);
    EXPECT_TRUE(manifest.ok() || (!written.ok() && absl::IsNotFound(manifest.status()))) << manifest.status();
    if (manifest.ok()) {
      ASSERT_EQ(manifest->files_size(), 5);
      for (const v1::FileDigest& file : manifest->files()) {
        const auto data = disk.ReadFile(store.Directory(7) + "/" + file.name());
        ASSERT_TRUE(data.ok()) << data.status();
        EXPECT_EQ(data->size(), file.size());
        EXPECT_EQ(Crc32c(*data), file.crc32c()) << file.name();
      }
    }
    if (written.ok()) break;
    ASSERT_LT(call, 100U);
  }
}

TEST_F(GenerationStoreTest, AMappedGenerationOutlivesItsFiles) {
  ASSERT_TRUE(store_.Write(Contents(), {}).ok());
  const auto generation = *store_.Load(7, "feed");
  ASSERT_TRUE(store_.Remove(7).ok());
  EXPECT_THAT(generation->Members(0), ElementsAre(11, 14));
}

}  // namespace
}  // namespace doppel
