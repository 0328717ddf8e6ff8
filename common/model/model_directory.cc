#include "common/model/model_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <xxhash.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr char kSpecFile[] = "model.json";
constexpr char kWeightsFile[] = "weights.pt";
constexpr int kMaxSide = 8192;
constexpr int kMaxDimension = 65536;

// Reads fields of one JSON object; the first problem wins.
class FieldReader {
 public:
  FieldReader(const Json& json, std::string origin) : json_(json), origin_(std::move(origin)) {}

  void Int(const char* name, int low, int high, int* out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    if (!value->is_number_integer() || *value < low || *value > high) {
      return Fail(name, absl::StrCat("a whole number from ", low, " to ", high), *value);
    }
    *out = value->get<int>();
  }
  void Unsigned(const char* name, uint64_t* out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    if (!value->is_number_unsigned()) return Fail(name, "a whole number, 0 or more", *value);
    *out = value->get<uint64_t>();
  }
  void Bool(const char* name, bool* out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    if (!value->is_boolean()) return Fail(name, "true or false", *value);
    *out = value->get<bool>();
  }
  void Text(const char* name, bool optional, std::string* out) {
    const Json* value = Find(name, optional);
    if (value == nullptr) return;
    if (!value->is_string()) return Fail(name, "a string", *value);
    *out = value->get<std::string>();
  }
  void Floats(const char* name, int count, float* out) {
    const Json* value = Find(name);
    if (value == nullptr) return;
    bool good = value->is_array() && static_cast<int>(value->size()) == count;
    for (size_t i = 0; good && i < value->size(); ++i) good = (*value)[i].is_number();
    if (!good) return Fail(name, absl::StrCat("an array of ", count, " numbers, one per channel"), *value);
    for (int i = 0; i < count; ++i) out[i] = (*value)[i].get<float>();
  }
  absl::Status Finish() {
    for (const auto& item : json_.items()) {
      bool known = false;
      for (const std::string& name : known_) known = known || name == item.key();
      if (!known && status_.ok()) {
        status_ = absl::InvalidArgumentError(absl::StrCat(
            origin_, ": unknown field \"", item.key(), "\" (fields are ", absl::StrJoin(known_, ", "), ")"));
      }
    }
    return status_;
  }

 private:
  const Json* Find(const char* name, bool optional = false) {
    known_.emplace_back(name);
    auto it = json_.find(name);
    if (it != json_.end()) return &*it;
    if (!optional && status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(origin_, ": field \"", name, "\" is missing"));
    }
    return nullptr;
  }
  void Fail(const char* name, const std::string& expected, const Json& value) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrCat(origin_, ": field \"", name, "\" must be ", expected,
                                                      ", is ", value.dump().substr(0, 80)));
  }

  const Json& json_;
  const std::string origin_;
  std::vector<std::string> known_;
  absl::Status status_;
};

std::string StripSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteSynced(FileSystem& fs, const std::string& path, absl::string_view data) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(data));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

// Puts `fresh` at `target`. What was there before is removed.
absl::Status SwapIn(FileSystem& fs, const std::string& fresh, const std::string& target) {
  if (!fs.Exists(target)) return fs.Rename(fresh, target);
  if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    return fs.RemoveRecursively(fresh);
  }
  // No exchange on this file system: for an instant there is only target.old.
  const std::string old = target + ".old";
  if (fs.Exists(old)) RETURN_IF_ERROR(fs.RemoveRecursively(old));
  RETURN_IF_ERROR(fs.Rename(target, old));
  RETURN_IF_ERROR(fs.Rename(fresh, target));
  return fs.RemoveRecursively(old);
}

}  // namespace

std::string WeightsFingerprint(absl::string_view weights) {
  const XXH128_hash_t hash = XXH3_128bits(weights.data(), weights.size());
  return absl::StrCat(absl::Hex(hash.high64, absl::kZeroPad16), absl::Hex(hash.low64, absl::kZeroPad16));
}

absl::Status CheckModelSpec(const ModelSpec& spec) {
  auto outside = [](int value, int low, int high) { return value < low || value > high; };
  if (outside(spec.height, 1, kMaxSide) || outside(spec.width, 1, kMaxSide)) {
    return absl::InvalidArgumentError(absl::StrCat("model: input size ", spec.height, "x", spec.width,
                                                   " must be from 1 to ", kMaxSide, " each way"));
  }
  if (spec.channels != 1 && spec.channels != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: channels must be 1 (grey) or 3 (RGB), is ", spec.channels));
  }
  if (outside(spec.dimension, 1, kMaxDimension)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: dimension must be from 1 to ", kMaxDimension, ", is ", spec.dimension));
  }
  for (int c = 0; c < spec.channels; ++c) {
    if (!std::isfinite(spec.mean[c]) || !(spec.std[c] > 0) || !std::isfinite(spec.std[c])) {
      return absl::InvalidArgumentError(absl::StrCat("model: channel ", c, " has mean ", spec.mean[c],
                                                     " and std ", spec.std[c],
                                                     "; std must be above 0, both finite"));
    }
  }
  return absl::OkStatus();
}

std::string ModelSpecToJson(const ModelSpec& spec) {
  OrderedJson json;
  json["architecture"] = spec.architecture;
  json["height"] = spec.height;
  json["width"] = spec.width;
  json["channels"] = spec.channels;
  json["mean"] = OrderedJson::array();
  json["std"] = OrderedJson::array();
  for (int c = 0; c < spec.channels; ++c) {
    json["mean"].push_back(spec.mean[c]);
    json["std"].push_back(spec.std[c]);
  }
  json["dimension"] = spec.dimension;
  json["normalize"] = spec.normalize;
  json["step"] = spec.step;
  if (!spec.fingerprint.empty()) json["fingerprint"] = spec.fingerprint;
  return json.dump(2) + "\n";
}

absl::StatusOr<ModelSpec> ModelSpecFromJson(absl::string_view text, const std::string& origin) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(origin, ": not a JSON object; was it written by doppel?"));
  }
  ModelSpec spec;
  FieldReader reader(json, origin);
  reader.Text("architecture", /*optional=*/false, &spec.architecture);
  reader.Int("height", 1, kMaxSide, &spec.height);
  reader.Int("width", 1, kMaxSide, &spec.width);
  reader.Int("channels", 1, 3, &spec.channels);
  reader.Floats("mean", spec.channels, spec.mean);
  reader.Floats("std", spec.channels, spec.std);
  reader.Int("dimension", 1, kMaxDimension, &spec.dimension);
  reader.Bool("normalize", &spec.normalize);
  reader.Unsigned("step", &spec.step);
  reader.Text("fingerprint", /*optional=*/true, &spec.fingerprint);
  RETURN_IF_ERROR(reader.Finish());
  absl::Status status = CheckModelSpec(spec);
  if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(origin, ": ", status.message()));
  return spec;
}

absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& directory) {
  FileSystem& fs = PosixFileSystem();
  const std::string path = absl::StrCat(StripSlashes(directory), "/", kSpecFile);
  if (!fs.Exists(path)) {
    return absl::NotFoundError(
        absl::StrCat(path, ": no such file; a model directory holds ", kSpecFile, " and ", kWeightsFile));
  }
  ASSIGN_OR_RETURN(std::string text, fs.ReadFile(path));
  ASSIGN_OR_RETURN(ModelSpec spec, ModelSpecFromJson(text, path));
  if (spec.fingerprint.empty()) {
    ASSIGN_OR_RETURN(std::string weights,
                     fs.ReadFile(absl::StrCat(StripSlashes(directory), "/", kWeightsFile)));
    spec.fingerprint = WeightsFingerprint(weights);
  }
  return spec;
}

absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& directory) {
  ModelFiles files;
  files.weights_path = absl::StrCat(StripSlashes(directory), "/", kWeightsFile);
  ASSIGN_OR_RETURN(files.spec, ReadModelSpec(directory));
  ASSIGN_OR_RETURN(files.weights, PosixFileSystem().ReadFile(files.weights_path));
  const std::string fingerprint = WeightsFingerprint(files.weights);
  if (fingerprint != files.spec.fingerprint) {
    return absl::DataLossError(absl::StrCat(files.weights_path, ": fingerprint ", fingerprint, " is not the ",
                                            files.spec.fingerprint,
                                            " of model.json; the file is damaged, or of another model (then "
                                            "drop \"fingerprint\" from model.json)"));
  }
  return files;
}

absl::StatusOr<ModelSpec> WriteModelFiles(ModelSpec spec, absl::string_view weights,
                                          const std::string& directory) {
  RETURN_IF_ERROR(CheckModelSpec(spec));
  spec.fingerprint = WeightsFingerprint(weights);
  FileSystem& fs = PosixFileSystem();
  const std::string target = StripSlashes(directory);
  const std::string fresh = target + ".tmp";
  if (fs.Exists(fresh)) RETURN_IF_ERROR(fs.RemoveRecursively(fresh));
  RETURN_IF_ERROR(fs.MakeDirectories(fresh));
  RETURN_IF_ERROR(WriteSynced(fs, absl::StrCat(fresh, "/", kWeightsFile), weights));
  RETURN_IF_ERROR(WriteSynced(fs, absl::StrCat(fresh, "/", kSpecFile), ModelSpecToJson(spec)));
  RETURN_IF_ERROR(fs.SyncDirectory(fresh));
  RETURN_IF_ERROR(SwapIn(fs, fresh, target));
  RETURN_IF_ERROR(fs.SyncDirectory(Parent(target)));
  return spec;
}

}  // namespace doppel
