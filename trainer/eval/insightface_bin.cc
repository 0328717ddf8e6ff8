#include "trainer/eval/insightface_bin.h"

#include <cstdint>
#include <deque>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/io/mapped_file.h"

namespace doppel {
namespace {

constexpr char kEncode[] = "_codecs encode";

struct Value {
  enum class Kind { kMark, kNone, kBytes, kText, kNumber, kList, kTuple, kGlobal };
  Kind kind = Kind::kNone;
  absl::string_view bytes;  // kBytes, kText, kGlobal
  int64_t number = 0;       // kNumber; booleans are 0 and 1
  int64_t list = -1;        // kList, kTuple: index into the lists, so that references stay references
};

// The machine that runs a pickle, as far as it is plain data.
class PickleReader {
 public:
  PickleReader(absl::string_view data, const std::string& origin, std::deque<std::string>& decoded)
      : data_(data), origin_(origin), decoded_(decoded) {}

  absl::StatusOr<Value> Run() {
    while (true) {
      at_ = position_;
      if (position_ >= data_.size()) return Bad("ends before its STOP");
      const char opcode = data_[position_++];
      if (opcode == '.') return Pop();
      RETURN_IF_ERROR(Step(opcode));
    }
  }
  const std::vector<Value>& list(const Value& value) const { return lists_[value.list]; }

 private:
  absl::Status Bad(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(origin_, ": at byte ", at_, ", the pickle ", what));
  }

  absl::Status Step(char opcode) {
    switch (opcode) {
      case '\x80':
        return Skip(1);  // PROTO
      case '\x95':
        return Skip(8);  // FRAME
      case '(':
        return PushKind(Value::Kind::kMark);
      case ')':
        return PushList(Value::Kind::kTuple, {});
      case ']':
        return PushList(Value::Kind::kList, {});
      case 'l':
        return FromMark(Value::Kind::kList);
      case 't':
        return FromMark(Value::Kind::kTuple);
      case '\x85':
        return TakeTuple(1);
      case '\x86':
        return TakeTuple(2);
      case '\x87':
        return TakeTuple(3);
      case 'a':
        return Append();
      case 'e':
        return Appends();
      case 'N':
        return PushKind(Value::Kind::kNone);
      case '\x88':
        return PushNumber(1);
      case '\x89':
        return PushNumber(0);
      case 'K':
        return Fixed(1);
      case 'M':
        return Fixed(2);
      case 'J':
        return Fixed(4);
      case 'I':
        return NumberLine();
      case 'U':
      case 'C':
        return Sized(1, Value::Kind::kBytes);
      case 'T':
      case 'B':
        return Sized(4, Value::Kind::kBytes);
      case '\x8e':
      case '\x96':
        return Sized(8, Value::Kind::kBytes);
      case '\x8c':
        return Sized(1, Value::Kind::kText);
      case 'X':
        return Sized(4, Value::Kind::kText);
      case '\x8d':
        return Sized(8, Value::Kind::kText);
      case 'q':
        return Put(1);
      case 'r':
        return Put(4);
      case '\x94':
        return Memoize(static_cast<int64_t>(memo_.size()));
      case 'p':
        return PutLine();
      case 'h':
        return Get(1);
      case 'j':
        return Get(4);
      case 'g':
        return GetLine();
      case 'c':
        return Global();
      case '\x93':
        return StackGlobal();
      case 'R':
        return Call();
      default:
        return Bad(absl::StrFormat(
            "has opcode 0x%02x: only lists of byte strings and booleans are read, and no code is run",
            static_cast<unsigned char>(opcode)));
    }
  }

  absl::StatusOr<uint64_t> Number(size_t bytes) {
    if (data_.size() - position_ < bytes) return Bad("is cut short");
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; ++i) {
      number |= uint64_t{static_cast<unsigned char>(data_[position_ + i])} << (8 * i);
    }
    position_ += bytes;
    return number;
  }
  absl::StatusOr<absl::string_view> Line() {
    const size_t end = data_.find('\n', position_);
    if (end == absl::string_view::npos) return Bad("is cut short");
    const absl::string_view line = data_.substr(position_, end - position_);
    position_ = end + 1;
    return line;
  }
  absl::StatusOr<int64_t> LineNumber() {
    ASSIGN_OR_RETURN(const absl::string_view line, Line());
    int64_t number = 0;
    if (!absl::SimpleAtoi(line, &number)) return Bad("has a line that is no number");
    return number;
  }
  absl::StatusOr<Value> Pop() {
    if (stack_.empty() || stack_.back().kind == Value::Kind::kMark) return Bad("takes from an empty stack");
    Value value = stack_.back();
    stack_.pop_back();
    return value;
  }

  absl::Status Skip(size_t bytes) { return Number(bytes).status(); }
  absl::Status Push(const Value& value) {
    stack_.push_back(value);
    return absl::OkStatus();
  }
  absl::Status PushKind(Value::Kind kind) {
    Value value;
    value.kind = kind;
    return Push(value);
  }
  absl::Status PushNumber(int64_t number) {
    Value value;
    value.kind = Value::Kind::kNumber;
    value.number = number;
    return Push(value);
  }
  absl::Status PushList(Value::Kind kind, std::vector<Value> items) {
    Value value;
    value.kind = kind;
    value.list = static_cast<int64_t>(lists_.size());
    lists_.push_back(std::move(items));
    return Push(value);
  }
  absl::StatusOr<std::vector<Value>> TakeToMark() {
    size_t mark = stack_.size();
    while (mark > 0 && stack_[mark - 1].kind != Value::Kind::kMark) --mark;
    if (mark == 0) return Bad("misses a mark");
    std::vector<Value> items(stack_.begin() + static_cast<int64_t>(mark), stack_.end());
    stack_.resize(mark - 1);
    return items;
  }
  absl::Status FromMark(Value::Kind kind) {
    ASSIGN_OR_RETURN(std::vector<Value> items, TakeToMark());
    return PushList(kind, std::move(items));
  }
  absl::Status TakeTuple(size_t n) {
    std::vector<Value> items(n);
    for (size_t i = n; i > 0; --i) {
      ASSIGN_OR_RETURN(items[i - 1], Pop());
    }
    return PushList(Value::Kind::kTuple, std::move(items));
  }
  absl::Status Append() {
    ASSIGN_OR_RETURN(const Value item, Pop());
    if (stack_.empty() || stack_.back().kind != Value::Kind::kList) return Bad("appends to what is no list");
    lists_[stack_.back().list].push_back(item);
    return absl::OkStatus();
  }
  absl::Status Appends() {
    ASSIGN_OR_RETURN(const std::vector<Value> items, TakeToMark());
    if (stack_.empty() || stack_.back().kind != Value::Kind::kList) return Bad("appends to what is no list");
    std::vector<Value>& list = lists_[stack_.back().list];
    list.insert(list.end(), items.begin(), items.end());
    return absl::OkStatus();
  }
  absl::Status Fixed(size_t bytes) {
    ASSIGN_OR_RETURN(const uint64_t number, Number(bytes));
    return PushNumber(bytes == 4 ? static_cast<int32_t>(number) : static_cast<int64_t>(number));
  }
  absl::Status NumberLine() {
    ASSIGN_OR_RETURN(const int64_t number, LineNumber());  // booleans are "00" and "01"
    return PushNumber(number);
  }
  absl::Status Sized(size_t length_bytes, Value::Kind kind) {
    ASSIGN_OR_RETURN(const uint64_t length, Number(length_bytes));
    if (length > data_.size() - position_) return Bad("has a string that runs over its end");
    Value value;
    value.kind = kind;
    value.bytes = data_.substr(position_, length);
    position_ += length;
    return Push(value);
  }
  absl::Status Memoize(int64_t key) {
    if (stack_.empty()) return Bad("takes from an empty stack");
    memo_[key] = stack_.back();
    return absl::OkStatus();
  }
  absl::Status Put(size_t bytes) {
    ASSIGN_OR_RETURN(const uint64_t key, Number(bytes));
    return Memoize(static_cast<int64_t>(key));
  }
  absl::Status PutLine() {
    ASSIGN_OR_RETURN(const int64_t key, LineNumber());
    return Memoize(key);
  }
  absl::Status Recall(int64_t key) {
    const auto at = memo_.find(key);
    if (at == memo_.end()) return Bad("refers to what is not there");
    return Push(at->second);
  }
  absl::Status Get(size_t bytes) {
    ASSIGN_OR_RETURN(const uint64_t key, Number(bytes));
    return Recall(static_cast<int64_t>(key));
  }
  absl::Status GetLine() {
    ASSIGN_OR_RETURN(const int64_t key, LineNumber());
    return Recall(key);
  }

  absl::Status PushGlobal(absl::string_view module, absl::string_view name) {
    const std::string full = absl::StrCat(module, " ", name);
    if (full != kEncode) {
      return Bad(absl::StrCat("asks for ", module, ".", name,
                              ": only plain bytes and booleans are read, and no ",
                              "code is run; save the images as bytes and the labels as bool"));
    }
    Value value;
    value.kind = Value::Kind::kGlobal;
    return Push(value);
  }
  absl::Status Global() {
    ASSIGN_OR_RETURN(const absl::string_view module, Line());
    ASSIGN_OR_RETURN(const absl::string_view name, Line());
    return PushGlobal(module, name);
  }
  absl::Status StackGlobal() {
    ASSIGN_OR_RETURN(const Value name, Pop());
    ASSIGN_OR_RETURN(const Value module, Pop());
    return PushGlobal(module.bytes, name.bytes);
  }
  // _codecs.encode(text, 'latin1'): UTF-8 back into the bytes that it stands for.
  absl::Status Call() {
    ASSIGN_OR_RETURN(const Value arguments, Pop());
    ASSIGN_OR_RETURN(const Value function, Pop());
    if (function.kind != Value::Kind::kGlobal || arguments.kind != Value::Kind::kTuple ||
        lists_[arguments.list].size() != 2 || lists_[arguments.list][1].bytes != "latin1") {
      return Bad("has a call that is not _codecs.encode(text, 'latin1'); no code is run");
    }
    const absl::string_view text = lists_[arguments.list][0].bytes;
    std::string bytes;
    bytes.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      if (c < 0x80) {
        bytes.push_back(text[i]);
      } else if ((c == 0xC2 || c == 0xC3) && i + 1 < text.size()) {
        bytes.push_back(static_cast<char>((c & 3) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F)));
      } else {
        return Bad("has text that is no latin1");
      }
    }
    decoded_.push_back(std::move(bytes));
    Value value;
    value.kind = Value::Kind::kBytes;
    value.bytes = decoded_.back();
    return Push(value);
  }

  const absl::string_view data_;
  const std::string& origin_;
  std::deque<std::string>& decoded_;  // its strings stay where they are
  size_t position_ = 0;
  size_t at_ = 0;  // of the opcode at work
  std::vector<Value> stack_;
  std::deque<std::vector<Value>> lists_;
  absl::flat_hash_map<int64_t, Value> memo_;
};

struct BinOwner {
  std::shared_ptr<const void> data;
  std::deque<std::string> decoded;
};

}  // namespace

absl::StatusOr<InsightFaceBin> ParseInsightFaceBin(absl::string_view data, const std::string& origin,
                                                   std::shared_ptr<const void> owner) {
  const auto bad = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(origin, ": ", what, ", where a pickle of ([2N images], [N booleans]) is expected"));
  };
  auto keeper = std::make_shared<BinOwner>();
  keeper->data = std::move(owner);
  PickleReader reader(data, origin, keeper->decoded);
  ASSIGN_OR_RETURN(const Value root, reader.Run());
  using Kind = Value::Kind;
  const bool pair = (root.kind == Kind::kTuple || root.kind == Kind::kList) && reader.list(root).size() == 2;
  if (!pair) return bad("no pair");
  const Value& images = reader.list(root)[0];
  const Value& same = reader.list(root)[1];
  if (images.kind != Kind::kList || same.kind != Kind::kList)
    return bad("a pair of something else than lists");
  if (reader.list(images).size() != 2 * reader.list(same).size() || reader.list(same).empty()) {
    return bad(
        absl::StrCat(reader.list(images).size(), " images and ", reader.list(same).size(), " booleans"));
  }
  InsightFaceBin bin;
  bin.owner = keeper;
  bin.images.reserve(reader.list(images).size());
  bin.same.reserve(reader.list(same).size());
  for (const Value& image : reader.list(images)) {
    if (image.kind != Kind::kBytes)
      return bad(absl::StrCat("image ", bin.images.size(), " is no byte string"));
    bin.images.push_back(image.bytes);
  }
  for (const Value& value : reader.list(same)) {
    if (value.kind != Kind::kNumber || value.number < 0 || value.number > 1) {
      return bad(absl::StrCat("label ", bin.same.size(), " is no boolean"));
    }
    bin.same.push_back(value.number == 1);
  }
  return bin;
}

absl::StatusOr<InsightFaceBin> ReadInsightFaceBin(const std::string& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  return ParseInsightFaceBin(file->data(), path, file);
}

}  // namespace doppel
