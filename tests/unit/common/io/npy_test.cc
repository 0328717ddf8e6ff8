#include "common/io/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "common/io/memory_file_system.h"

namespace doppel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class NpyTest : public testing::Test {
 protected:
  // A version 1.0 file with this header and data.
  void Put(const std::string& header, const std::string& data, char version = 1) {
    std::string bytes("\x93NUMPY", 6);
    bytes += version;
    bytes += '\0';
    bytes += static_cast<char>(header.size());
    bytes += '\0';
    PutBytes(bytes + header + data);
  }
  void PutBytes(const std::string& bytes) {
    auto file = std::move(fs_.Create("/x.npy")).value();
    ASSERT_TRUE(file->Append(bytes).ok());
  }
  absl::Status ReadStatus() { return ReadNpy(fs_, "/x.npy").status(); }
  NpyArray Array(const std::string& dtype, const std::string& data, int64_t n) {
    NpyArray array;
    array.dtype = dtype;
    array.shape = {n};
    array.data = data;
    return array;
  }

  InMemoryFileSystem fs_;
};

TEST_F(NpyTest, FloatsRoundTrip) {
  const std::vector<float> values = {1, -2.5F, 0, std::numeric_limits<float>::infinity(), 1e-40F, 3};
  ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {2, 3}, absl::MakeConstSpan(values)).ok());
  const auto array = ReadNpy(fs_, "/x.npy");
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->dtype, "<f4");
  EXPECT_THAT(array->shape, ElementsAre(2, 3));
  EXPECT_EQ(array->size(), 6);
  EXPECT_EQ(*NpyToFloats(*array), values);
}

TEST_F(NpyTest, IntsRoundTrip) {
  const std::vector<int64_t> values = {std::numeric_limits<int64_t>::min(), -1, 7};
  ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {3}, absl::MakeConstSpan(values)).ok());
  const auto array = ReadNpy(fs_, "/x.npy");
  ASSERT_TRUE(array.ok());
  EXPECT_THAT(array->shape, ElementsAre(3));
  EXPECT_EQ(*NpyToInts(*array), values);
}

TEST_F(NpyTest, ScalarsAndEmptyArraysRoundTrip) {
  const std::vector<float> one = {4};
  ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {}, absl::MakeConstSpan(one)).ok());
  EXPECT_THAT(ReadNpy(fs_, "/x.npy")->shape, IsEmpty());
  EXPECT_EQ(*NpyToFloats(*ReadNpy(fs_, "/x.npy")), one);
  ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {0, 128}, absl::Span<const float>()).ok());
  EXPECT_THAT(ReadNpy(fs_, "/x.npy")->shape, ElementsAre(0, 128));
}

// What numpy.save writes for the same array.
TEST_F(NpyTest, LiteralBytes) {
  const std::vector<float> values = {1};
  ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {1}, absl::MakeConstSpan(values)).ok());
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
  EXPECT_EQ(*fs_.ReadFile("/x.npy"), std::string("\x93NUMPY\x01\0\x76\0", 10) + header +
                                         std::string(118 - header.size() - 1, ' ') + "\n" +
                                         std::string("\0\0\x80\x3f", 4));
}

TEST_F(NpyTest, DataIsAlignedTo64) {
  for (int64_t n = 1; n < 100000; n *= 9) {
    const std::vector<float> values(static_cast<size_t>(n));
    ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {n}, absl::MakeConstSpan(values)).ok());
    EXPECT_EQ((*fs_.Size("/x.npy") - values.size() * 4) % 64, 0U);
  }
}

TEST_F(NpyTest, ShapeThatDoesNotFitIsRefused) {
  const std::vector<float> values = {1, 2, 3};
  EXPECT_EQ(WriteNpy(fs_, "/x.npy", {2}, absl::MakeConstSpan(values)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(fs_.Exists("/x.npy"));
}

TEST_F(NpyTest, ReadsHeadersInAnyKeyOrderAndSpacing) {
  Put("{'shape':(2 , 1),'fortran_order' : False,  'descr':'|u1'}", "\x05\x06");
  const auto array = ReadNpy(fs_, "/x.npy");
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_THAT(array->shape, ElementsAre(2, 1));
  EXPECT_THAT(*NpyToInts(*array), ElementsAre(5, 6));
}

TEST_F(NpyTest, FortranOrderIsRefused) {
  Put("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 1), }\n", "ab");
  EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ReadStatus().message()), HasSubstr("Fortran order"));
}

TEST_F(NpyTest, OtherVersionsAreRefused) {
  Put("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }\n", "a", 2);
  EXPECT_THAT(std::string(ReadStatus().message()), HasSubstr("version 2"));
}

TEST_F(NpyTest, BigEndianObjectAndStructuredAreRefused) {
  for (const char* descr : {"'>f4'", "'|O'", "'<U4'", "[('a', '<f4')]"}) {
    Put(std::string("{'descr': ") + descr + ", 'fortran_order': False, 'shape': (1,), }\n", "abcd");
    EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kInvalidArgument) << descr;
  }
}

TEST_F(NpyTest, CutFilesAreRefusedAtEveryLength) {
  const std::vector<float> values = {1, 2};
  ASSERT_TRUE(WriteNpy(fs_, "/x.npy", {2}, absl::MakeConstSpan(values)).ok());
  const std::string whole = *fs_.ReadFile("/x.npy");
  for (size_t n = 0; n < whole.size(); ++n) {
    PutBytes(whole.substr(0, n));
    EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kInvalidArgument) << n;
  }
  PutBytes(whole + "x");
  EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(NpyTest, DamagedHeadersAreErrorsNotCrashes) {
  for (const char* header :
       {"", "{}", "{'descr': '<f4'}", "{'descr' '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (x,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "{'descr': '", "{'descr': '<f4",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}"}) {
    Put(header, "abcd");
    EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kInvalidArgument) << header;
  }
}

TEST_F(NpyTest, MissingFileIsNotFound) { EXPECT_EQ(ReadStatus().code(), absl::StatusCode::kNotFound); }

TEST_F(NpyTest, DoublesBecomeFloats) {
  const double values[] = {0.5, -3};
  const std::string data(reinterpret_cast<const char*>(values), sizeof(values));
  EXPECT_THAT(*NpyToFloats(Array("<f8", data, 2)), ElementsAre(0.5F, -3.0F));
}

TEST_F(NpyTest, AllIntegerWidthsConvert) {
  EXPECT_THAT(*NpyToInts(Array("|i1", "\xff", 1)), ElementsAre(-1));
  EXPECT_THAT(*NpyToInts(Array("|u1", "\xff", 1)), ElementsAre(255));
  EXPECT_THAT(*NpyToInts(Array("<i2", "\xfe\xff", 1)), ElementsAre(-2));
  EXPECT_THAT(*NpyToInts(Array("<u2", "\xfe\xff", 1)), ElementsAre(65534));
  EXPECT_THAT(*NpyToInts(Array("<i4", "\xff\xff\xff\xff", 1)), ElementsAre(-1));
  EXPECT_THAT(*NpyToInts(Array("<u4", "\xff\xff\xff\xff", 1)), ElementsAre(4294967295));
  EXPECT_THAT(*NpyToInts(Array("<u8", std::string("\1\0\0\0\0\0\0\0", 8), 1)), ElementsAre(1));
}

TEST_F(NpyTest, UnsignedBeyondInt64IsRefused) {
  EXPECT_EQ(NpyToInts(Array("<u8", std::string(8, '\xff'), 1)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(NpyTest, WrongKindIsRefused) {
  EXPECT_EQ(NpyToFloats(Array("<i4", "abcd", 1)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(NpyToInts(Array("<f4", "abcd", 1)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(NpyTest, ArrayWithTooLittleDataIsRefused) {
  EXPECT_EQ(NpyToFloats(Array("<f4", "abcd", 2)).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
