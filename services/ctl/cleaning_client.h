#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/net/client_security.h"
#include "doppel/v1/cleaning.pb.h"

namespace doppel {

// Cleaning as an operator sees it: every call has a deadline, and errors say what to do. Thread-safe.
class CleaningClient {
 public:
  virtual ~CleaningClient() = default;
  virtual absl::StatusOr<v1::FindResponse> Find(const v1::FindRequest& request) = 0;
  virtual absl::StatusOr<v1::ListFindingsResponse> ListFindings(const v1::ListFindingsRequest& request) = 0;
  virtual absl::StatusOr<v1::DecideResponse> Decide(const v1::DecideRequest& request) = 0;
  virtual absl::StatusOr<v1::UndoResponse> Undo(const v1::UndoRequest& request) = 0;
  virtual absl::StatusOr<v1::ExportResponse> Export(const v1::ExportRequest& request) = 0;
  virtual absl::StatusOr<v1::ApplyResponse> Apply(const v1::ApplyRequest& request) = 0;
};

// `deadline`: of each call.
std::unique_ptr<CleaningClient> MakeGrpcCleaningClient(const std::string& address, absl::Duration deadline,
                                                       const ClientSecurity& security = {});

}  // namespace doppel
