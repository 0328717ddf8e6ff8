#pragma once

// Internal to common/model.
#include <c10/util/Exception.h>

#include <exception>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/model/network.h"

namespace doppel {

// A network that can be saved and made fast for inference.
class SavableNetwork : public Network {
 public:
  // The bytes of weights.pt. The same weights give the same bytes.
  virtual absl::StatusOr<std::string> Serialize() = 0;
  // For inference only from now on: eval mode, whatever can be folded is folded. Forward is then thread-safe.
  virtual absl::Status Freeze() = 0;
  virtual void set_spec(const ModelSpec& spec) = 0;
};

// `spec.architecture` must be a builtin's. `weights`, from the file `origin`, replaces all parameters and
// buffers.
absl::StatusOr<std::unique_ptr<SavableNetwork>> LoadBuiltinNetwork(const ModelSpec& spec,
                                                                   const std::string& weights,
                                                                   const std::string& origin);
absl::StatusOr<std::unique_ptr<SavableNetwork>> LoadTorchScriptNetwork(const ModelSpec& spec,
                                                                       const std::string& weights,
                                                                       const std::string& origin);
absl::StatusOr<std::unique_ptr<SavableNetwork>> LoadSavableNetwork(const std::string& directory,
                                                                   const torch::Device& device);

// L2-normalises rows if the spec says so.
torch::Tensor FinishEmbedding(const ModelSpec& spec, const torch::Tensor& features);

// Runs `body`, which returns Status or StatusOr; turns what LibTorch throws into a Status that begins with
// `what`.
template <typename Body>
auto CatchTorch(absl::string_view what, absl::StatusCode code, Body body) -> decltype(body()) {
  std::string message;
  try {
    return body();
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::exception& error) {
    message = error.what();
  }
  return absl::Status(code, absl::StrCat(what, ": ", message));
}

}  // namespace doppel
