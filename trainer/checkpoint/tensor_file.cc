#include "trainer/checkpoint/tensor_file.h"

#include <torch/script.h>
#include <torch/serialize.h>

#include <exception>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace doppel {

absl::Status WriteTensors(FileSystem& fs, const std::string& path, const NamedTensors& tensors) {
  std::vector<char> bytes;
  try {
    c10::Dict<std::string, torch::Tensor> dict;
    for (const auto& [name, tensor] : tensors) dict.insert(name, tensor.detach().to(torch::kCPU));
    bytes = torch::pickle_save(dict);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("cannot serialise tensors for ", path, ": ", e.what()));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs.Create(path));
  RETURN_IF_ERROR(file->Append(absl::string_view(bytes.data(), bytes.size())));
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::StatusOr<NamedTensors> ReadTensors(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string data, fs.ReadFile(path));
  NamedTensors tensors;
  try {
    const torch::IValue value = torch::pickle_load(std::vector<char>(data.begin(), data.end()));
    for (const auto& entry : value.toGenericDict()) {
      tensors.emplace_back(entry.key().toStringRef(), entry.value().toTensor());
    }
  } catch (const std::exception& e) {
    return absl::DataLossError(absl::StrCat(path, " does not hold named tensors: ", e.what()));
  }
  return tensors;
}

}  // namespace doppel
