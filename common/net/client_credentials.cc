#include "common/net/client_credentials.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"
#include "common/io/file_system.h"

namespace doppel {
namespace {

constexpr unsigned int kReloadSeconds = 10;

absl::StatusOr<std::string> ReadSetting(absl::string_view flag, const std::string& path) {
  absl::StatusOr<std::string> text = PosixFileSystem().ReadFile(path);
  if (text.ok()) return text;
  return absl::Status(text.status().code(), absl::StrCat(flag, ": ", text.status().message()));
}

absl::Status CheckPemSetting(absl::string_view flag, const std::string& path, absl::string_view what) {
  ASSIGN_OR_RETURN(const std::string text, ReadSetting(flag, path));
  if (absl::StrContains(text, "-----BEGIN ") && absl::StrContains(text, what)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": ", path, " has no PEM block of the kind \"", what, "\""));
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadSetting("--token-file", path));
  std::string token(absl::StripAsciiWhitespace(text));
  for (const char c : token) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) token.clear();
  }
  if (!token.empty()) return token;
  return absl::InvalidArgumentError(absl::StrCat("--token-file: ", path, " is not one line with a token"));
}

// Reads the token for every call: the file is small, and calls are few or long.
class TokenPlugin final : public grpc::MetadataCredentialsPlugin {
 public:
  explicit TokenPlugin(std::string path) : path_(std::move(path)) {}
  grpc::Status GetMetadata(grpc::string_ref, grpc::string_ref, const grpc::AuthContext&,
                           std::multimap<std::string, std::string>* metadata) override {
    const absl::StatusOr<std::string> token = ReadToken(path_);
    if (!token.ok())
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, std::string(token.status().message()));
    metadata->emplace("authorization", absl::StrCat("Bearer ", *token));
    return grpc::Status::OK;
  }
  grpc::string DebugString() override { return "a bearer token from a file"; }

 private:
  const std::string path_;
};

std::shared_ptr<grpc::ChannelCredentials> MakeTlsCredentials(const ClientSecurity& security) {
  using grpc::experimental::FileWatcherCertificateProvider;
  const bool mutual = !security.tls_cert.empty();
  auto provider = mutual ? std::make_shared<FileWatcherCertificateProvider>(
                               security.tls_key, security.tls_cert, security.tls_ca, kReloadSeconds)
                         : std::make_shared<FileWatcherCertificateProvider>(security.tls_ca, kReloadSeconds);
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(std::move(provider));
  options.watch_root_certs();
  if (mutual) options.watch_identity_key_cert_pairs();
  auto channel = grpc::experimental::TlsCredentials(options);
  if (security.token_file.empty()) return channel;
  return grpc::CompositeChannelCredentials(
      channel, grpc::MetadataCredentialsFromPlugin(std::make_unique<TokenPlugin>(security.token_file)));
}

}  // namespace

absl::Status CheckClientSecurity(const ClientSecurity& security) {
  if (!security.enabled()) return absl::OkStatus();
  if (security.tls_ca.empty()) {
    return absl::InvalidArgumentError(
        "--tls-ca: is not set: certificates and tokens travel over TLS only, and it needs to know whom to "
        "trust");
  }
  if (security.tls_cert.empty() != security.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert, --tls-key: one goes with the other");
  }
  RETURN_IF_ERROR(CheckPemSetting("--tls-ca", security.tls_ca, "CERTIFICATE"));
  if (!security.tls_cert.empty()) {
    RETURN_IF_ERROR(CheckPemSetting("--tls-cert", security.tls_cert, "CERTIFICATE"));
    RETURN_IF_ERROR(CheckPemSetting("--tls-key", security.tls_key, "PRIVATE KEY"));
  }
  if (!security.token_file.empty()) return ReadToken(security.token_file).status();
  return absl::OkStatus();
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, const ClientSecurity& security,
                                           grpc::ChannelArguments arguments) {
  // Finds a server that is gone without a word; the server allows a ping every 10 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  if (!security.enabled()) {
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  if (!CheckClientSecurity(security).ok()) {
    // A lame channel: its calls fail, instead of going out in plain text.
    return grpc::CreateCustomChannel(address, nullptr, arguments);
  }
  if (!security.tls_server_name.empty()) arguments.SetSslTargetNameOverride(security.tls_server_name);
  return grpc::CreateCustomChannel(address, MakeTlsCredentials(security), arguments);
}

}  // namespace doppel
