#include "services/security/roles.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

namespace doppel {

// A new RPC gets a line here: its full name, the least role that may call it, its plane. Order by name.
// Reading is a viewer's; what batches and embeddings need is a trainer's; whatever changes what others see is
// an operator's. Without a line the server does not start and security_test fails.
const std::vector<MethodRule>& MethodRules() {
  static const auto* const kRules = new std::vector<MethodRule>{
      {"doppel.v1.BatchService/GetBatch", Role::kTrainer, Plane::kData},
      {"doppel.v1.BatchService/StreamBatches", Role::kTrainer, Plane::kData},
      {"doppel.v1.CleaningService/Apply", Role::kOperator, Plane::kControl},
      {"doppel.v1.CleaningService/Decide", Role::kOperator, Plane::kControl},
      {"doppel.v1.CleaningService/Export", Role::kViewer, Plane::kControl},
      {"doppel.v1.CleaningService/Find", Role::kOperator, Plane::kControl},
      {"doppel.v1.CleaningService/ListFindings", Role::kViewer, Plane::kControl},
      {"doppel.v1.CleaningService/Undo", Role::kOperator, Plane::kControl},
      {"doppel.v1.EmbeddingService/CommitRange", Role::kTrainer, Plane::kData},
      {"doppel.v1.EmbeddingService/FetchRange", Role::kTrainer, Plane::kData},
      {"doppel.v1.EmbeddingService/LeaseRange", Role::kTrainer, Plane::kData},
      {"doppel.v1.EmbeddingService/RenewLease", Role::kTrainer, Plane::kData},
      {"doppel.v1.MiningService/ActivateGeneration", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/CancelOperation", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/Describe", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/DiffGenerations", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/FindLookalikes", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/GetGeneration", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/GetOperation", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/GetPolicy", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/GetSubspace", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/ListGenerations", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/ListOperations", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/PinGeneration", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/Recluster", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/RetireGeneration", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/Rollback", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/SetPolicy", Role::kOperator, Plane::kControl},
      {"doppel.v1.MiningService/WaitOperation", Role::kViewer, Plane::kControl},
      {"doppel.v1.MiningService/Watch", Role::kViewer, Plane::kControl},
      {"doppel.v1.ModelService/FetchModel", Role::kTrainer, Plane::kData},
      {"doppel.v1.ModelService/ListModels", Role::kViewer, Plane::kControl},
      {"doppel.v1.ModelService/PublishModel", Role::kTrainer, Plane::kControl},
      {"doppel.v1.ModelService/QueryModel", Role::kTrainer, Plane::kControl},
      {"doppel.v1.ReportService/DescribeRepresentations", Role::kViewer, Plane::kControl},
      {"doppel.v1.ReportService/ListSteering", Role::kViewer, Plane::kControl},
      {"doppel.v1.ReportService/ListSubspaceHardness", Role::kViewer, Plane::kControl},
      {"doppel.v1.ReportService/ReportSteps", Role::kTrainer, Plane::kData},
      {"grpc.health.v1.Health/Check", Role::kNobody, Plane::kOpen},
      {"grpc.health.v1.Health/Watch", Role::kNobody, Plane::kOpen},
      {"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Role::kViewer, Plane::kData},
  };
  return *kRules;
}

absl::string_view RoleName(Role role) {
  switch (role) {
    case Role::kViewer:
      return "viewer";
    case Role::kTrainer:
      return "trainer";
    case Role::kOperator:
      return "operator";
    case Role::kNobody:
      break;
  }
  return "nobody";
}

absl::StatusOr<Role> ParseRole(absl::string_view name) {
  for (const Role role : {Role::kViewer, Role::kTrainer, Role::kOperator}) {
    if (name == RoleName(role)) return role;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" is no role: say viewer, trainer or operator"));
}

const MethodRule* FindMethodRule(absl::string_view path) {
  if (path.empty() || path.front() != '/') return nullptr;
  const absl::string_view method = path.substr(1);
  const std::vector<MethodRule>& rules = MethodRules();
  const auto found =
      std::lower_bound(rules.begin(), rules.end(), method,
                       [](const MethodRule& rule, absl::string_view name) { return rule.method < name; });
  return found != rules.end() && found->method == method ? &*found : nullptr;
}

absl::Status CheckServiceHasRules(const google::protobuf::ServiceDescriptor& service) {
  std::string missing;
  for (int i = 0; i < service.method_count(); ++i) {
    const std::string path = absl::StrCat("/", service.full_name(), "/", service.method(i)->name());
    if (FindMethodRule(path) == nullptr)
      absl::StrAppend(&missing, missing.empty() ? "" : ", ", path.substr(1));
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(missing, ": no role says who may call it: add a line to services/security/roles.cc"));
}

}  // namespace doppel
