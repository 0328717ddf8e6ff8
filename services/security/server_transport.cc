#include "services/security/server_transport.h"

#include <grpc/grpc_security.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

constexpr char kPath[] = ":path";
constexpr char kAuthorization[] = "authorization";

std::string ToString(grpc::string_ref text) { return std::string(text.data(), text.size()); }

std::vector<std::string> CertificateNames(const grpc::AuthContext& context) {
  std::vector<std::string> names;
  const std::pair<const char*, const char*> kProperties[] = {{GRPC_X509_CN_PROPERTY_NAME, "CN="},
                                                             {GRPC_PEER_DNS_PROPERTY_NAME, "DNS:"},
                                                             {GRPC_PEER_URI_PROPERTY_NAME, "URI:"},
                                                             {GRPC_PEER_EMAIL_PROPERTY_NAME, "EMAIL:"},
                                                             {GRPC_PEER_IP_PROPERTY_NAME, "IP:"}};
  for (const auto& [property, prefix] : kProperties) {
    for (const grpc::string_ref& value : context.FindPropertyValues(property)) {
      names.push_back(absl::StrCat(prefix, absl::string_view(value.data(), value.size())));
    }
  }
  return names;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message()));
}

// For TLS: gRPC calls it for every call, before anything of ours hears of that.
class GateProcessor final : public grpc::AuthMetadataProcessor {
 public:
  explicit GateProcessor(Gate* gate) : gate_(gate) {}
  // Hashing a token takes a microsecond, and a look at the access file a few: not worth another thread.
  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context, OutputMetadata*,
                       OutputMetadata*) override {
    CallFacts call;
    const auto path = metadata.find(kPath);
    if (path != metadata.end()) call.path = ToString(path->second);
    const auto authorization = metadata.find(kAuthorization);
    call.has_authorization = authorization != metadata.end();
    if (call.has_authorization) call.authorization = ToString(authorization->second);
    call.certificate_names = CertificateNames(*context);
    return ToGrpcStatus(gate_->Admit(call));
  }

 private:
  Gate* const gate_;
};

// grpc::InsecureServerCredentials() takes no processor, though gRPC's core does: so this goes to the core.
class InsecureGateCredentials final : public grpc::ServerCredentials {
 public:
  explicit InsecureGateCredentials(Gate* gate) : gate_(gate) {}
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  static void Process(void* state, grpc_auth_context*, const grpc_metadata* metadata, size_t count,
                      grpc_process_auth_metadata_done_cb done, void* user_data) {
    CallFacts call;
    for (size_t i = 0; i < count; ++i) {
      const auto text = [](const grpc_slice& slice) {
        return absl::string_view(reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)),
                                 GRPC_SLICE_LENGTH(slice));
      };
      if (text(metadata[i].key) == kPath) call.path = std::string(text(metadata[i].value));
    }
    const absl::Status status = static_cast<Gate*>(state)->Admit(call);
    const std::string message(status.message());
    done(user_data, nullptr, 0, nullptr, 0, static_cast<grpc_status_code>(status.raw_code()),
         status.ok() ? nullptr : message.c_str());
  }

  int AddPortToServer(const std::string& address, grpc_server* server) override {
    grpc_server_credentials* const credentials = grpc_insecure_server_credentials_create();
    grpc_auth_metadata_processor processor = {};
    processor.process = &Process;
    processor.state = gate_;
    grpc_server_credentials_set_auth_metadata_processor(credentials, processor);
    const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  Gate* const gate_;
};

absl::Status CheckPem(absl::string_view setting, const std::string& path, absl::string_view what) {
  absl::StatusOr<std::string> text = PosixFileSystem().ReadFile(path);
  if (!text.ok())
    return absl::Status(text.status().code(), absl::StrCat(setting, ": ", text.status().message()));
  if (absl::StrContains(*text, "-----BEGIN ") && absl::StrContains(*text, what)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(setting, ": ", path, " has no PEM block of the kind \"", what, "\""));
}

}  // namespace

absl::Status CheckServerTls(const ServerTls& tls) {
  RETURN_IF_ERROR(CheckPem("tls_cert", tls.cert, "CERTIFICATE"));
  RETURN_IF_ERROR(CheckPem("tls_key", tls.key, "PRIVATE KEY"));
  if (!tls.client_ca.empty()) RETURN_IF_ERROR(CheckPem("tls_client_ca", tls.client_ca, "CERTIFICATE"));
  return absl::OkStatus();
}

std::shared_ptr<grpc::ServerCredentials> MakeTlsServerCredentials(const ServerTls& tls, Gate* gate) {
  using grpc::experimental::FileWatcherCertificateProvider;
  auto provider = tls.client_ca.empty() ? std::make_shared<FileWatcherCertificateProvider>(tls.key, tls.cert,
                                                                                           tls.reload_seconds)
                                        : std::make_shared<FileWatcherCertificateProvider>(
                                              tls.key, tls.cert, tls.client_ca, tls.reload_seconds);
  grpc::experimental::TlsServerCredentialsOptions options(std::move(provider));
  options.watch_identity_key_cert_pairs();
  if (!tls.client_ca.empty()) {
    options.watch_root_certs();
    // A client may come without, for health or with a token; one that it shows must be good.
    options.set_cert_request_type(tls.require_client_certificate
                                      ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(std::make_shared<GateProcessor>(gate));
  return credentials;
}

std::shared_ptr<grpc::ServerCredentials> MakeInsecureServerCredentials(Gate* gate) {
  return std::make_shared<InsecureGateCredentials>(gate);
}

absl::StatusOr<Principal> IdentifyCaller(const grpc::ServerContextBase& context, const Gate& gate) {
  CallFacts call;
  const auto authorization = context.client_metadata().find(kAuthorization);
  call.has_authorization = authorization != context.client_metadata().end();
  if (call.has_authorization) call.authorization = ToString(authorization->second);
  call.certificate_names = CertificateNames(*context.auth_context());
  return gate.Identify(call);
}

std::string ClientOf(const grpc::ServerContextBase& context, const Gate& gate) {
  const absl::StatusOr<Principal> principal = IdentifyCaller(context, gate);
  if (principal.ok() && !gate.is_open()) return principal->name;
  const std::string peer = context.peer();
  return peer.substr(0, peer.rfind(':'));
}

}  // namespace doppel
