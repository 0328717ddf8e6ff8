#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/security/server_transport.h"

namespace doppel {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using grpc::experimental::InterceptionHookPoints;

constexpr size_t kMaxText = 80;
constexpr size_t kMaxSummary = 400;

bool SoundsSecret(const std::string& name) {
  const std::string lower = absl::AsciiStrToLower(name);
  for (const char* word : {"token", "secret", "password", "credential", "private_key", "authorization"}) {
    if (absl::StrContains(lower, word)) return true;
  }
  return false;
}

void AppendValue(const Message& message, const FieldDescriptor* field, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  if (field->is_repeated()) {
    absl::StrAppend(out, "[", reflection.FieldSize(message, field), "]");
    return;
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrAppend(out, reflection.GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrAppend(out, reflection.GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrAppend(out, reflection.GetUInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrAppend(out, reflection.GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrAppend(out, reflection.GetDouble(message, field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return absl::StrAppend(out, reflection.GetFloat(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return absl::StrAppend(out, reflection.GetBool(message, field) ? "true" : "false");
    case FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrAppend(out, reflection.GetEnumValue(message, field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return absl::StrAppend(out, "{", SummarizeRequest(reflection.GetMessage(message, field)), "}");
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = reflection.GetString(message, field);
      if (field->type() == FieldDescriptor::TYPE_BYTES)
        return absl::StrAppend(out, "<", text.size(), " bytes>");
      return absl::StrAppend(out, "\"", absl::Utf8SafeCEscape(text.substr(0, kMaxText)),
                             text.size() > kMaxText ? "…" : "", "\"");
    }
  }
}

std::string CodeName(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

class AuditInterceptor final : public grpc::experimental::Interceptor {
 public:
  AuditInterceptor(Gate* gate, grpc::experimental::ServerRpcInfo* info) : gate_(gate), info_(info) {
    record_.time = gate->clock().Now();
    record_.method = std::string(info->method()).substr(1);
    record_.code = "CANCELLED";  // unless a status is sent
  }

  // When the call is over, however it ended.
  ~AuditInterceptor() override {
    record_.seconds = absl::ToDoubleSeconds(gate_->clock().Now() - record_.time);
    gate_->audit()->Write(record_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) SayWho();
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE) && !has_request_) {
      // No control RPC with one request is served raw: what was received is a message of the proto.
      using Type = grpc::experimental::ServerRpcInfo::Type;
      const bool one = info_->type() == Type::UNARY || info_->type() == Type::SERVER_STREAMING;
      const void* const request = one ? methods->GetRecvMessage() : nullptr;
      if (request != nullptr) record_.request = SummarizeRequest(*static_cast<const Message*>(request));
      has_request_ = true;
    }
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const grpc::Status status = methods->GetSendStatus();
      record_.code = CodeName(status.error_code());
      record_.error = status.error_message().substr(0, 300);
    }
    methods->Proceed();
  }

 private:
  void SayWho() {
    const grpc::ServerContextBase& context = *info_->server_context();
    record_.from = context.peer();
    const absl::StatusOr<Principal> principal = IdentifyCaller(context, *gate_);
    if (!principal.ok()) return;
    record_.who = principal->name;
    record_.role = std::string(RoleName(principal->role));
  }

  Gate* const gate_;
  grpc::experimental::ServerRpcInfo* const info_;
  AuditRecord record_;
  bool has_request_ = false;
};

class AuditInterceptorFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit AuditInterceptorFactory(Gate* gate) : gate_(gate) {}
  // Null: the call goes on without one.
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    if (gate_->audit() == nullptr) return nullptr;
    const MethodRule* rule = FindMethodRule(info->method());
    if (rule == nullptr || rule->plane != Plane::kControl) return nullptr;
    return new AuditInterceptor(gate_, info);
  }

 private:
  Gate* const gate_;
};

}  // namespace

std::string SummarizeRequest(const Message& request) {
  std::vector<const FieldDescriptor*> fields;
  request.GetReflection()->ListFields(request, &fields);
  std::string summary;
  for (const FieldDescriptor* field : fields) {
    if (summary.size() >= kMaxSummary) break;
    absl::StrAppend(&summary, summary.empty() ? "" : " ", field->name(), "=");
    if (SoundsSecret(field->name())) {
      absl::StrAppend(&summary, "***");
    } else {
      AppendValue(request, field, &summary);
    }
  }
  if (summary.size() > kMaxSummary) summary.resize(kMaxSummary);
  return summary;
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeAuditInterceptorFactory(
    Gate* gate) {
  return std::make_unique<AuditInterceptorFactory>(gate);
}

}  // namespace doppel
