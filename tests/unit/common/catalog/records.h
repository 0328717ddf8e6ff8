#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/catalog/readers/record_parts.h"

// Writes RecordIO as its description says.
namespace doppel::testing {

inline std::string Word(uint32_t word) { return {reinterpret_cast<const char*>(&word), sizeof(word)}; }

// A payload: <IfQQ, more labels if `labels` has not exactly one, the image.
inline std::string MakeImageRecord(const std::vector<float>& labels, const std::string& image,
                                   uint64_t id = 0) {
  const bool plain = labels.size() == 1;
  const float label = plain ? labels[0] : 0;
  std::string payload = Word(plain ? 0 : static_cast<uint32_t>(labels.size()));
  payload.append(reinterpret_cast<const char*>(&label), sizeof(label));
  payload.append(reinterpret_cast<const char*>(&id), sizeof(id));
  payload.append(8, '\0');
  if (!plain) payload.append(reinterpret_cast<const char*>(labels.data()), labels.size() * sizeof(float));
  return payload + image;
}

inline std::string MakePart(uint32_t cflag, const std::string& bytes) {
  std::string part = Word(kRecordMagic) + Word(cflag << 29 | static_cast<uint32_t>(bytes.size())) + bytes;
  part.resize((part.size() + 3) / 4 * 4, '\0');
  return part;
}

// In parts where the payload holds the magic number at a multiple of 4.
inline std::string MakeRecord(const std::string& payload) {
  std::vector<std::string> parts(1);
  for (size_t at = 0; at < payload.size(); at += 4) {
    const std::string word = payload.substr(at, 4);
    if (word == Word(kRecordMagic)) {
      parts.emplace_back();
    } else {
      parts.back() += word;
    }
  }
  if (parts.size() == 1) return MakePart(0, payload);
  std::string record = MakePart(1, parts.front());
  for (size_t i = 1; i + 1 < parts.size(); ++i) record += MakePart(2, parts[i]);
  return record + MakePart(3, parts.back());
}

// Records one after the other, and their index with keys from 0.
struct RecordFileText {
  std::string rec, idx;
  void Add(const std::string& payload) {
    absl::StrAppend(&idx, keys, "\t", rec.size(), "\n");
    rec += MakeRecord(payload);
    ++keys;
  }
  int keys = 0;
};

// InsightFace's layout of these identities' images.
inline RecordFileText MakeInsightFace(const std::vector<std::vector<std::string>>& identities) {
  RecordFileText file;
  size_t images = 0;
  for (const auto& identity : identities) images += identity.size();
  const float id0 = static_cast<float>(images + 1);
  file.Add(MakeImageRecord({id0, id0 + static_cast<float>(identities.size())}, ""));
  std::vector<std::pair<float, float>> ranges;
  for (size_t i = 0; i < identities.size(); ++i) {
    const auto first = static_cast<float>(file.keys);
    for (const std::string& image : identities[i])
      file.Add(MakeImageRecord({static_cast<float>(i)}, image, static_cast<uint64_t>(file.keys)));
    ranges.emplace_back(first, static_cast<float>(file.keys));
  }
  for (const auto& [first, end] : ranges) file.Add(MakeImageRecord({first, end}, ""));
  return file;
}

}  // namespace doppel::testing
