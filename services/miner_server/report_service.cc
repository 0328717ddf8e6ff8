#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "services/miner_server/live_services.h"
#include "services/miner_server/unary_call.h"

namespace doppel {
namespace {

absl::StatusOr<RunningMeanManager*> LiveOf(const ControlEnvironment& environment) {
  RunningMeanManager* live = environment.miner->live();
  if (live == nullptr) return absl::UnimplementedError("this miner keeps no live representations");
  return live;
}

}  // namespace

grpc::ServerUnaryReactor* ReportServiceImpl::ReportSteps(grpc::CallbackServerContext* context,
                                                         const v1::ReportStepsRequest* request,
                                                         v1::ReportStepsResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(RunningMeanManager* const live, LiveOf(environment_));
    RETURN_IF_ERROR(StoreResult(live->Report(*request), response));
    // Also those of a run that does not own the live representations: its plan is its own.
    if (steering_ != nullptr) steering_->Report(*request);
    return absl::OkStatus();
  });
}

absl::Status ReportServiceImpl::Describe(const v1::DescribeRepresentationsRequest& request,
                                         v1::DescribeRepresentationsResponse* response) const {
  ASSIGN_OR_RETURN(const RunningMeanManager* const live, LiveOf(environment_));
  const std::shared_ptr<const Catalog> catalog = environment_.miner->catalog();
  ASSIGN_OR_RETURN(const CatalogSplitInfo split, catalog->Split(request.split()));
  const std::vector<uint64_t> identities(request.identities().begin(), request.identities().end());
  for (uint64_t identity : identities) {
    if (identity >= catalog->num_identities()) {
      return absl::NotFoundError(
          absl::StrCat("identities: ", identity, "; the catalog has ", catalog->num_identities()));
    }
  }
  *response = live->Describe(split.rows(), identities);
  response->set_split(split.name);
  for (v1::IdentityStaleness& one : *response->mutable_identity())
    one.set_name(std::string(catalog->IdentityName(one.identity())));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* ReportServiceImpl::DescribeRepresentations(
    grpc::CallbackServerContext* context, const v1::DescribeRepresentationsRequest* request,
    v1::DescribeRepresentationsResponse* response) {
  return RunCall(*environment_.executor, context,
                 [this, request, response] { return Describe(*request, response); });
}

grpc::ServerUnaryReactor* ReportServiceImpl::ListSubspaceHardness(
    grpc::CallbackServerContext* context, const v1::ListSubspaceHardnessRequest* request,
    v1::ListSubspaceHardnessResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response]() -> absl::Status {
    ASSIGN_OR_RETURN(const RunningMeanManager* const live, LiveOf(environment_));
    *response = live->Hardness(request->generation());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ReportServiceImpl::ListSteering(grpc::CallbackServerContext* context,
                                                          const v1::ListSteeringRequest* request,
                                                          v1::ListSteeringResponse* response) {
  return RunCall(*environment_.executor, context, [this, request, response] {
    if (steering_ != nullptr) *response = steering_->List(request->run());
    return absl::OkStatus();
  });
}

}  // namespace doppel
