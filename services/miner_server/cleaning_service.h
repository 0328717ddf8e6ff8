#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/executor.h"
#include "doppel/v1/cleaning.grpc.pb.h"
#include "miner/cleaning/cleaning_store.h"
#include "miner/miner.h"

namespace doppel {

// Findings, decisions and the guard list of one miner. Passes run one at a time on a thread of their own, so
// that they do not hold up the control plane. Thread-safe.
class CleaningServiceImpl final : public v1::CleaningService::CallbackService {
 public:
  // `miner` and `control` (for everything that is quick) are not owned. `path`: of the journal; empty: there
  // is none, and every call is refused. `embedding_roots`: see MinerServerOptions. DATA_LOSS: the journal is
  // damaged.
  static absl::StatusOr<std::unique_ptr<CleaningServiceImpl>> Make(
      std::shared_ptr<Miner> miner, Executor* control, FileSystem& fs, const std::string& path,
      std::vector<std::string> embedding_roots = {});
  // Cancels a pass that runs, and waits for it.
  ~CleaningServiceImpl() override;

  grpc::ServerUnaryReactor* Find(grpc::CallbackServerContext* context, const v1::FindRequest* request,
                                 v1::FindResponse* response) override;
  grpc::ServerUnaryReactor* ListFindings(grpc::CallbackServerContext* context,
                                         const v1::ListFindingsRequest* request,
                                         v1::ListFindingsResponse* response) override;
  grpc::ServerUnaryReactor* Decide(grpc::CallbackServerContext* context, const v1::DecideRequest* request,
                                   v1::DecideResponse* response) override;
  grpc::ServerUnaryReactor* Undo(grpc::CallbackServerContext* context, const v1::UndoRequest* request,
                                 v1::UndoResponse* response) override;
  grpc::ServerUnaryReactor* Export(grpc::CallbackServerContext* context, const v1::ExportRequest* request,
                                   v1::ExportResponse* response) override;
  grpc::ServerUnaryReactor* Apply(grpc::CallbackServerContext* context, const v1::ApplyRequest* request,
                                  v1::ApplyResponse* response) override;
  // Running passes end with CANCELLED, and no new ones are taken. For the server's shutdown.
  void Stop() { stopping_ = true; }

 private:
  CleaningServiceImpl(std::shared_ptr<Miner> miner, Executor* control, FileSystem& fs,
                      absl::StatusOr<std::unique_ptr<CleaningStore>> store,
                      std::vector<std::string> embedding_roots);
  absl::StatusOr<v1::FindResponse> RunFind(const v1::FindRequest& request);
  absl::StatusOr<v1::DecideResponse> RunDecide(const v1::DecideRequest& request);
  absl::StatusOr<v1::ApplyResponse> RunApply(const v1::ApplyRequest& request);
  absl::Status CheckStore() const;

  const std::shared_ptr<Miner> miner_;
  Executor* const control_;
  FileSystem& fs_;
  const absl::Status store_status_;             // why there is no store
  const std::unique_ptr<CleaningStore> store_;  // null: refused
  const std::vector<std::string> embedding_roots_;
  std::atomic<bool> stopping_{false};
  std::unique_ptr<Executor> passes_;
};

}  // namespace doppel
