#include "services/miner_server/cleaning_service.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "services/miner_server/cleaning_pass.h"
#include "services/miner_server/unary_call.h"
#include "services/security/path_roots.h"

namespace doppel {
namespace {

// Within the roots, and no device or pipe that has no end.
absl::Status ConfineFile(const std::vector<std::string>& roots, const char* field, std::string* path) {
  if (path->empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(*path, ConfinePath(*path, roots, field, "embedding_roots"));
  std::error_code ignored;
  const std::filesystem::file_status file = std::filesystem::status(*path, ignored);
  if (std::filesystem::exists(file) && !std::filesystem::is_regular_file(file)) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", *path, " is not a file"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CleaningServiceImpl>> CleaningServiceImpl::Make(
    std::shared_ptr<Miner> miner, Executor* control, FileSystem& fs, const std::string& path,
    std::vector<std::string> embedding_roots) {
  absl::StatusOr<std::unique_ptr<CleaningStore>> store =
      absl::FailedPreconditionError("cleaning: this server keeps no state, so there are no findings");
  if (!path.empty()) store = CleaningStore::Open(fs, path, Clock::Real());
  if (absl::IsDataLoss(store.status())) {
    // Generations, with the guard lists that were published, are served all the same.
    DOPPEL_LOG(kError, store.status().message(), ". Cleaning is refused until it is restored from a backup");
  } else if (!path.empty()) {
    RETURN_IF_ERROR(store.status());
  }
  return std::unique_ptr<CleaningServiceImpl>(
      new CleaningServiceImpl(std::move(miner), control, fs, std::move(store), std::move(embedding_roots)));
}

CleaningServiceImpl::CleaningServiceImpl(std::shared_ptr<Miner> miner, Executor* control, FileSystem& fs,
                                         absl::StatusOr<std::unique_ptr<CleaningStore>> store,
                                         std::vector<std::string> embedding_roots)
    : miner_(std::move(miner)),
      control_(control),
      fs_(fs),
      store_status_(store.status()),
      store_(store.ok() ? *std::move(store) : nullptr),
      embedding_roots_(std::move(embedding_roots)),
      passes_(MakeThreadPool(1)) {}

CleaningServiceImpl::~CleaningServiceImpl() {
  Stop();
  passes_.reset();
}

absl::Status CleaningServiceImpl::CheckStore() const { return store_status_; }

absl::StatusOr<v1::FindResponse> CleaningServiceImpl::RunFind(const v1::FindRequest& request) {
  RETURN_IF_ERROR(CheckStore());
  if (stopping_) return absl::UnavailableError("cleaning: the miner is going down");
  const KeepGoing keep_going = [this](int64_t, int64_t) { return !stopping_; };
  v1::FindingsReplaced findings;
  if (request.embeddings_path().empty()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> generation,
                     miner_->GetGeneration(request.generation()));
    ASSIGN_OR_RETURN(findings, FindFromGeneration(*generation, request, keep_going));
  } else {
    v1::FindRequest confined = request;
    RETURN_IF_ERROR(ConfineFile(embedding_roots_, "embeddings_path", confined.mutable_embeddings_path()));
    RETURN_IF_ERROR(ConfineFile(embedding_roots_, "labels_path", confined.mutable_labels_path()));
    ASSIGN_OR_RETURN(findings, FindFromEmbeddings(fs_, *miner_->catalog(), confined, keep_going));
  }
  v1::FindResponse response;
  *response.mutable_summaries() = findings.summaries();
  RETURN_IF_ERROR(store_->ReplaceFindings(std::move(findings)));
  return response;
}

absl::StatusOr<v1::DecideResponse> CleaningServiceImpl::RunDecide(const v1::DecideRequest& request) {
  RETURN_IF_ERROR(CheckStore());
  std::vector<v1::CleaningSubject> subjects;
  subjects.reserve(request.ids_size());
  for (const std::string& id : request.ids()) {
    ASSIGN_OR_RETURN(v1::CleaningSubject subject, ParseSubjectId(id));
    RETURN_IF_ERROR(CheckSubject(subject, *miner_->catalog()));
    subjects.push_back(std::move(subject));
  }
  ASSIGN_OR_RETURN(std::vector<v1::Decision> made,
                   store_->Decide(subjects, request.verdict(), request.note()));
  v1::DecideResponse response;
  for (v1::Decision& decision : made) *response.add_decisions() = std::move(decision);
  return response;
}

absl::StatusOr<v1::ApplyResponse> CleaningServiceImpl::RunApply(const v1::ApplyRequest& request) {
  RETURN_IF_ERROR(CheckStore());
  const CleaningState state = store_->State();
  ASSIGN_OR_RETURN(const GuardList guards, state.MakeGuardList());
  v1::ApplyResponse response;
  response.set_guarded_pairs(guards.pairs().size());
  response.set_dropped_samples(guards.samples().size());
  if (request.dry_run()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Generation> base,
                     miner_->GetGeneration(request.generation()));
    *response.mutable_generation() = base->info();
    return response;
  }
  const std::string note = absl::StrCat("cleaning: ", guards.pairs().size(), " pairs guarded, ",
                                        guards.samples().size(), " samples dropped");
  ASSIGN_OR_RETURN(*response.mutable_generation(),
                   miner_->PublishGuardList(request.generation(), guards, note));
  return response;
}

grpc::ServerUnaryReactor* CleaningServiceImpl::Find(grpc::CallbackServerContext* context,
                                                    const v1::FindRequest* request,
                                                    v1::FindResponse* response) {
  return RunCall(*passes_, context,
                 [this, request, response] { return StoreResult(RunFind(*request), response); });
}

grpc::ServerUnaryReactor* CleaningServiceImpl::ListFindings(grpc::CallbackServerContext* context,
                                                            const v1::ListFindingsRequest* request,
                                                            v1::ListFindingsResponse* response) {
  return RunCall(*control_, context, [this, request, response]() -> absl::Status {
    RETURN_IF_ERROR(CheckStore());
    return StoreResult(ListFindingsOf(store_->State(), *miner_->catalog(), *request), response);
  });
}

grpc::ServerUnaryReactor* CleaningServiceImpl::Decide(grpc::CallbackServerContext* context,
                                                      const v1::DecideRequest* request,
                                                      v1::DecideResponse* response) {
  return RunCall(*control_, context,
                 [this, request, response] { return StoreResult(RunDecide(*request), response); });
}

grpc::ServerUnaryReactor* CleaningServiceImpl::Undo(grpc::CallbackServerContext* context,
                                                    const v1::UndoRequest* request,
                                                    v1::UndoResponse* response) {
  return RunCall(*control_, context, [this, request, response]() -> absl::Status {
    RETURN_IF_ERROR(CheckStore());
    return StoreResult(store_->Undo(request->number()), response->mutable_undone());
  });
}

grpc::ServerUnaryReactor* CleaningServiceImpl::Export(grpc::CallbackServerContext* context,
                                                      const v1::ExportRequest*,
                                                      v1::ExportResponse* response) {
  return RunCall(*control_, context, [this, response]() -> absl::Status {
    RETURN_IF_ERROR(CheckStore());
    return StoreResult(FindingsCsv(store_->State(), *miner_->catalog()), response->mutable_csv());
  });
}

grpc::ServerUnaryReactor* CleaningServiceImpl::Apply(grpc::CallbackServerContext* context,
                                                     const v1::ApplyRequest* request,
                                                     v1::ApplyResponse* response) {
  return RunCall(*control_, context,
                 [this, request, response] { return StoreResult(RunApply(*request), response); });
}

}  // namespace doppel
