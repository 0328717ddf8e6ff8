#include "common/io/npy.h"

#include <cstring>
#include <limits>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/io/atomic_file.h"

namespace doppel {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicBytes = 6;
constexpr size_t kPrefixBytes = 10;  // magic, version, length of the header
constexpr size_t kAlignment = 64;

absl::Status Bad(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// What follows `'key':` in the Python dict literal of the header.
absl::StatusOr<absl::string_view> ValueOf(absl::string_view header, absl::string_view key,
                                          const std::string& path) {
  const size_t at = header.find(absl::StrCat("'", key, "'"));
  if (at == absl::string_view::npos) return Bad(path, absl::StrCat("the .npy header has no '", key, "'"));
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(header.substr(at + key.size() + 2));
  if (!absl::ConsumePrefix(&rest, ":"))
    return Bad(path, absl::StrCat("no value of '", key, "' in the .npy header"));
  return absl::StripLeadingAsciiWhitespace(rest);
}

absl::StatusOr<std::vector<int64_t>> ParseShape(absl::string_view text, const std::string& path) {
  const size_t close = text.find(')');
  if (!absl::StartsWith(text, "(") || close == absl::string_view::npos)
    return Bad(path, "bad shape in .npy header");
  std::vector<int64_t> shape;
  for (absl::string_view part : absl::StrSplit(text.substr(1, close - 1), ',')) {
    part = absl::StripAsciiWhitespace(part);
    if (part.empty()) continue;
    int64_t extent = 0;
    if (!absl::SimpleAtoi(part, &extent) || extent < 0) return Bad(path, "bad shape in .npy header");
    shape.push_back(extent);
  }
  return shape;
}

// Bytes of one element; 0 if the dtype is none that we know.
size_t ElementBytes(absl::string_view dtype) {
  if (dtype.size() != 3 || !absl::StrContains("<|=", dtype.substr(0, 1))) return 0;
  const char kind = dtype[1];
  const int bytes = dtype[2] - '0';
  if (kind == 'f') return bytes == 4 || bytes == 8 ? bytes : 0;
  if (kind == 'b') return bytes == 1 ? 1 : 0;
  if (kind == 'i' || kind == 'u') return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8 ? bytes : 0;
  return 0;
}

// Product of the extents times `element`; false on overflow.
bool TotalBytes(const std::vector<int64_t>& shape, uint64_t element, uint64_t* total) {
  *total = element;
  for (const int64_t extent : shape) {
    if (__builtin_mul_overflow(*total, static_cast<uint64_t>(extent), total)) return false;
  }
  return true;
}

absl::Status ParseHeader(absl::string_view header, const std::string& path, NpyArray* array) {
  ASSIGN_OR_RETURN(absl::string_view descr, ValueOf(header, "descr", path));
  if (!absl::ConsumePrefix(&descr, "'") || !absl::StrContains(descr, "'")) {
    return Bad(path, "structured .npy arrays are not read: save one plain array");
  }
  array->dtype = std::string(descr.substr(0, descr.find('\'')));
  ASSIGN_OR_RETURN(const absl::string_view order, ValueOf(header, "fortran_order", path));
  if (!absl::StartsWith(order, "False")) {
    return Bad(path, "Fortran order is not read: save numpy.ascontiguousarray(x)");
  }
  ASSIGN_OR_RETURN(const absl::string_view shape, ValueOf(header, "shape", path));
  ASSIGN_OR_RETURN(array->shape, ParseShape(shape, path));
  return absl::OkStatus();
}

template <typename From, typename To>
std::vector<To> Convert(const NpyArray& array) {
  std::vector<To> values(static_cast<size_t>(array.size()));
  const char* p = array.data.data();
  for (To& value : values) {
    From from;
    std::memcpy(&from, p, sizeof(From));
    p += sizeof(From);
    value = static_cast<To>(from);
  }
  return values;
}

absl::Status CheckData(const NpyArray& array) {
  uint64_t bytes = 0;
  const size_t element = ElementBytes(array.dtype);
  if (element == 0 || !TotalBytes(array.shape, element, &bytes) || bytes != array.data.size()) {
    return absl::InvalidArgumentError(absl::StrCat("array of dtype ", array.dtype, " and shape (",
                                                   absl::StrJoin(array.shape, ", "), ") with ",
                                                   array.data.size(), " bytes of data"));
  }
  return absl::OkStatus();
}

absl::Status Write(FileSystem& fs, const std::string& path, absl::string_view dtype,
                   absl::Span<const int64_t> shape, absl::string_view data, size_t element) {
  uint64_t bytes = 0;
  if (!TotalBytes(std::vector<int64_t>(shape.begin(), shape.end()), element, &bytes) ||
      bytes != data.size()) {
    return Bad(path, absl::StrCat("shape (", absl::StrJoin(shape, ", "), ") does not fit ",
                                  data.size() / element, " values"));
  }
  std::string header = absl::StrCat("{'descr': '", dtype, "', 'fortran_order': False, 'shape': (",
                                    absl::StrJoin(shape, ", "), shape.size() == 1 ? "," : "", "), }");
  // numpy aligns the data, so that it can be memory-mapped.
  const size_t unpadded = kPrefixBytes + header.size() + 1;
  header.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  header.push_back('\n');
  std::string file(kMagic, kMagicBytes);
  file.push_back('\x01');
  file.push_back('\x00');
  file.push_back(static_cast<char>(header.size() & 0xFF));
  file.push_back(static_cast<char>(header.size() >> 8));
  file.reserve(file.size() + header.size() + data.size());
  file += header;
  file.append(data.data(), data.size());
  return WriteFileAtomically(fs, path, file);
}

}  // namespace

int64_t NpyArray::size() const {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}

absl::StatusOr<NpyArray> ReadNpy(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string file, fs.ReadFile(path));
  if (file.size() < kPrefixBytes || file.compare(0, kMagicBytes, kMagic, kMagicBytes) != 0) {
    return Bad(path, "not a .npy file");
  }
  const int version = static_cast<uint8_t>(file[6]);
  if (version != 1) {
    return Bad(path, absl::StrCat(".npy version ", version, " is not read: save with version (1, 0)"));
  }
  const size_t length = static_cast<uint8_t>(file[8]) | static_cast<size_t>(static_cast<uint8_t>(file[9]))
                                                            << 8;
  if (file.size() - kPrefixBytes < length) return Bad(path, "the .npy header is cut short");
  NpyArray array;
  RETURN_IF_ERROR(ParseHeader(absl::string_view(file).substr(kPrefixBytes, length), path, &array));
  const size_t element = ElementBytes(array.dtype);
  if (element == 0) return Bad(path, absl::StrCat("dtype '", array.dtype, "' is not read"));
  uint64_t bytes = 0;
  const uint64_t there = file.size() - kPrefixBytes - length;
  if (!TotalBytes(array.shape, element, &bytes) || bytes != there) {
    return Bad(path, absl::StrCat("holds ", there, " bytes of data, not those of shape (",
                                  absl::StrJoin(array.shape, ", "), ") and dtype ", array.dtype));
  }
  array.data = file.substr(kPrefixBytes + length);
  return array;
}

absl::StatusOr<std::vector<float>> NpyToFloats(const NpyArray& array) {
  RETURN_IF_ERROR(CheckData(array));
  const std::string kind = array.dtype.substr(1);
  if (kind == "f4") return Convert<float, float>(array);
  if (kind == "f8") return Convert<double, float>(array);
  return absl::InvalidArgumentError(absl::StrCat("dtype ", array.dtype, " where f4 or f8 is expected"));
}

absl::StatusOr<std::vector<int64_t>> NpyToInts(const NpyArray& array) {
  RETURN_IF_ERROR(CheckData(array));
  const std::string kind = array.dtype.substr(1);
  if (kind == "i1") return Convert<int8_t, int64_t>(array);
  if (kind == "i2") return Convert<int16_t, int64_t>(array);
  if (kind == "i4") return Convert<int32_t, int64_t>(array);
  if (kind == "i8") return Convert<int64_t, int64_t>(array);
  if (kind == "u1") return Convert<uint8_t, int64_t>(array);
  if (kind == "u2") return Convert<uint16_t, int64_t>(array);
  if (kind == "u4") return Convert<uint32_t, int64_t>(array);
  if (kind == "u8") {
    std::vector<uint64_t> values = Convert<uint64_t, uint64_t>(array);
    for (const uint64_t value : values) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return absl::InvalidArgumentError(absl::StrCat("value ", value, " does not fit into int64"));
      }
    }
    return std::vector<int64_t>(values.begin(), values.end());
  }
  return absl::InvalidArgumentError(absl::StrCat("dtype ", array.dtype, " where an integer one is expected"));
}

absl::Status WriteNpy(FileSystem& fs, const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const float> values) {
  return Write(fs, path, "<f4", shape,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}, sizeof(float));
}

absl::Status WriteNpy(FileSystem& fs, const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const double> values) {
  return Write(fs, path, "<f8", shape,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)},
               sizeof(double));
}

absl::Status WriteNpy(FileSystem& fs, const std::string& path, absl::Span<const int64_t> shape,
                      absl::Span<const int64_t> values) {
  return Write(fs, path, "<i8", shape,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t)},
               sizeof(int64_t));
}

}  // namespace doppel
