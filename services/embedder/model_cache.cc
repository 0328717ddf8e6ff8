#include "services/embedder/model_cache.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "miner/models/model_store.h"

namespace doppel {

absl::StatusOr<std::string> ModelCache::Get(const std::string& hash,
                                            const std::function<absl::Status()>& keep_alive) {
  // Opened each time: another process may have brought the model meanwhile.
  ModelStore::Options options;
  options.root = options_.directory;
  options.fs = options_.fs;
  options.clock = options_.clock;
  options.keep = options_.keep;
  options.suffix = absl::StrCat(".", options_.process);
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelStore> store, ModelStore::Open(std::move(options)));
  const absl::StatusOr<v1::StoredModel> here = store->FindChecked(hash);
  if (here.ok()) return here->directory();
  ASSIGN_OR_RETURN(const v1::QueryModelResponse arrived, store->Query(hash));
  // A damaged copy is complete as far as the store knows: fetch all of it beside that.
  const uint64_t offset = arrived.complete() ? 0 : arrived.bytes();
  if (arrived.complete()) RETURN_IF_ERROR(store->Remove(hash));
  std::unique_ptr<ModelUpload> upload;
  ModelClient::Sink sink;
  sink.begin = [&](const v1::ModelDescription& model) -> absl::Status {
    ASSIGN_OR_RETURN(upload, store->Begin(model, offset));
    return absl::OkStatus();
  };
  sink.chunk = [&](absl::string_view chunk) -> absl::Status {
    RETURN_IF_ERROR(upload->Append(chunk));
    return keep_alive();
  };
  RETURN_IF_ERROR(client_.Fetch(hash, offset, sink));
  if (upload == nullptr) return absl::InternalError(absl::StrCat("model ", hash, ": the miner sent nothing"));
  ASSIGN_OR_RETURN(const ModelStore::Result result, upload->Finish());
  DOPPEL_LOG(kInfo, "fetched model ", hash, ", ", result.model.bytes(), " bytes, into ",
             result.model.directory());
  return result.model.directory();
}

}  // namespace doppel
