#include "services/security/server_transport.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "common/net/client_credentials.h"
#include "doppel/v1/batches.grpc.pb.h"
#include "doppel/v1/embedding.pb.h"
#include "doppel/v1/mining.grpc.pb.h"
#include "tests/unit/services/security/access_files.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CountingMining final : public v1::MiningService::CallbackService {
 public:
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context, const v1::DescribeRequest*,
                                     v1::DescribeResponse*) override {
    ++calls;
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerUnaryReactor* Recluster(grpc::CallbackServerContext* context, const v1::ReclusterRequest*,
                                      v1::ReclusterResponse*) override {
    ++calls;
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "one is running"));
    return reactor;
  }
  std::atomic<int> calls{0};
};

// Raw, as the real one.
class CountingBatches final
    : public v1::BatchService::WithRawCallbackMethod_StreamBatches<v1::BatchService::Service> {
 public:
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StreamBatches(
      grpc::CallbackServerContext*) override {
    struct Reactor : grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
      void OnDone() override { delete this; }
    };
    ++calls;
    auto* reactor = new Reactor;
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  std::atomic<int> calls{0};
};

class ServerTransportTest : public ::testing::Test {
 protected:
  ServerTransportTest() : folder_(SecurityTestFolder()) {
    audit_ = AuditLog::Open({folder_ + "/audit"}).value();
  }
  ~ServerTransportTest() override {
    if (server_ != nullptr) server_->Shutdown();
  }

  // Of the script's making; false: there is no openssl.
  void MakeCertificates() {
    const std::string command = absl::StrCat(DOPPEL_MAKE_CERTS, " ", folder_, "/pki >/dev/null");
    ASSERT_EQ(std::system(command.c_str()), 0);
    access_ = AccessFile::Open(pki("access")).value();
  }
  std::string pki(const std::string& name) const { return absl::StrCat(folder_, "/pki/", name); }

  void Serve(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port);
    builder.RegisterService(&mining_);
    builder.RegisterService(&batches_);
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
    interceptors.push_back(MakeAuditInterceptorFactory(gate_.get()));
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  void ServeTls() {
    MakeCertificates();
    GateOptions options;
    options.access = access_.get();
    options.audit = audit_.get();
    gate_ = std::make_unique<Gate>(options);
    ServerTls tls;
    tls.cert = pki("server.pem");
    tls.key = pki("server.key");
    tls.client_ca = pki("ca.pem");
    ASSERT_EQ(CheckServerTls(tls), absl::OkStatus());
    Serve(MakeTlsServerCredentials(tls, gate_.get()));
  }
  void ServeInsecure(Role role) {
    GateOptions options;
    options.anonymous_role = role;
    options.audit = audit_.get();
    gate_ = std::make_unique<Gate>(options);
    Serve(MakeInsecureServerCredentials(gate_.get()));
  }

  std::shared_ptr<grpc::Channel> Connect(const ClientSecurity& security) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return MakeChannel(address_, security, arguments);
  }
  ClientSecurity Certificate(const std::string& role) const {
    ClientSecurity security;
    security.tls_ca = pki("ca.pem");
    security.tls_cert = pki(role + ".pem");
    security.tls_key = pki(role + ".key");
    return security;
  }
  ClientSecurity Token(const std::string& role) const {
    ClientSecurity security;
    security.tls_ca = pki("ca.pem");
    security.token_file = pki(role + ".token");
    return security;
  }

  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
  grpc::StatusCode Describe(const ClientSecurity& security) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::DescribeResponse response;
    return v1::MiningService::NewStub(Connect(security))->Describe(&context, {}, &response).error_code();
  }
  grpc::StatusCode Recluster(const ClientSecurity& security, const v1::ReclusterRequest& request = {}) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ReclusterResponse response;
    return v1::MiningService::NewStub(Connect(security))
        ->Recluster(&context, request, &response)
        .error_code();
  }
  grpc::StatusCode Stream(const ClientSecurity& security) {
    grpc::ClientContext context;
    SetDeadline(&context);
    const auto stub = v1::BatchService::NewStub(Connect(security));
    const auto stream = stub->StreamBatches(&context);
    return stream->Finish().error_code();
  }

  const std::string folder_;
  std::unique_ptr<AuditLog> audit_;
  std::unique_ptr<AccessFile> access_;
  std::unique_ptr<Gate> gate_;
  CountingMining mining_;
  CountingBatches batches_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(ServerTransportTest, RefusedCallsNeverReachAHandlerRawStreamsIncluded) {
  ServeInsecure(Role::kNobody);
  EXPECT_EQ(Describe({}), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Recluster({}), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Stream({}), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(mining_.calls, 0);
  EXPECT_EQ(batches_.calls, 0);
}

TEST_F(ServerTransportTest, WithoutTlsTheAnonymousRoleCounts) {
  ServeInsecure(Role::kTrainer);
  EXPECT_EQ(Describe({}), grpc::StatusCode::OK);
  EXPECT_EQ(Stream({}), grpc::StatusCode::OK);
  EXPECT_EQ(Recluster({}), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(batches_.calls, 1);
}

TEST_F(ServerTransportTest, CertificatesAndTokensHaveTheirRole) {
  ServeTls();
  for (const bool token : {false, true}) {
    const auto as = [&](const std::string& role) { return token ? Token(role) : Certificate(role); };
    EXPECT_EQ(Describe(as("viewer")), grpc::StatusCode::OK);
    EXPECT_EQ(Stream(as("viewer")), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(Stream(as("trainer")), grpc::StatusCode::OK);
    EXPECT_EQ(Recluster(as("trainer")), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(Recluster(as("operator")), grpc::StatusCode::FAILED_PRECONDITION);
  }
  ClientSecurity nothing;
  nothing.tls_ca = pki("ca.pem");
  EXPECT_EQ(Describe(nothing), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Stream(nothing), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Describe({}), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerTransportTest, AClientTalksToNoServerThatItCannotTrust) {
  ServeTls();
  ClientSecurity wrong_name = Certificate("viewer");
  wrong_name.tls_server_name = "elsewhere.example.org";
  EXPECT_EQ(Describe(wrong_name), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(mining_.calls, 0);
}

TEST_F(ServerTransportTest, ControlCallsAreAuditedAndSecretsAreNot) {
  ServeTls();
  v1::ReclusterRequest request;
  request.set_model_path("/models/m1");
  request.set_subspaces(7);
  EXPECT_EQ(Recluster(Token("operator"), request), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Stream(Token("trainer")), grpc::StatusCode::OK);
  server_->Shutdown();
  server_->Wait();
  const std::string text = TextOf(folder_ + "/audit");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_THAT(text, HasSubstr(R"("who":"operator-token","role":"operator","from":"ipv4:127.0.0.1:)"));
  EXPECT_THAT(text, HasSubstr(R"("method":"doppel.v1.MiningService/Recluster")"));
  EXPECT_THAT(text, HasSubstr(R"(model_path=\"/models/m1\" subspaces=7)"));
  EXPECT_THAT(text, HasSubstr(R"("code":"FAILED_PRECONDITION","error":"one is running")"));
  const std::string token = TextOf(pki("operator.token"));
  EXPECT_THAT(text, Not(HasSubstr(token.substr(0, token.size() - 1))));
}

TEST(SummarizeRequestTest, SaysWhatIsSetInShort) {
  v1::CommitRangeRequest commit;
  commit.set_lease(7);
  commit.set_representations(std::string(1000, 'x'));
  commit.add_samples(1);
  commit.add_samples(2);
  EXPECT_EQ(SummarizeRequest(commit), "lease=7 representations=<1000 bytes> samples=[2]");
  v1::ReclusterRequest long_path;
  long_path.set_model_path(std::string(100000, 'a') + "\n");
  EXPECT_LE(SummarizeRequest(long_path).size(), 400u);
  EXPECT_EQ(SummarizeRequest(v1::DescribeRequest()), "");
}

TEST(ClientSecurityTest, MistakesNameTheFlag) {
  const std::string folder = SecurityTestFolder();
  PutFile(folder + "/not.pem", "hello");
  PutFile(folder + "/ca.pem", "-----BEGIN CERTIFICATE-----");
  PutFile(folder + "/two", "a b");
  const auto message = [](const ClientSecurity& security) {
    return std::string(CheckClientSecurity(security).message());
  };
  EXPECT_EQ(CheckClientSecurity({}), absl::OkStatus());
  EXPECT_THAT(message({"", "", "", "", folder + "/two"}), HasSubstr("--tls-ca: is not set"));
  EXPECT_THAT(message({folder + "/none.pem", "", "", "", ""}), HasSubstr("--tls-ca: "));
  EXPECT_THAT(message({folder + "/not.pem", "", "", "", ""}), HasSubstr("no PEM block"));
  EXPECT_THAT(message({folder + "/ca.pem", folder + "/ca.pem", "", "", ""}), HasSubstr("--tls-key"));
  EXPECT_THAT(message({folder + "/ca.pem", "", "", "", folder + "/two"}), HasSubstr("--token-file"));
  EXPECT_EQ(message({folder + "/ca.pem", "", "", "name", ""}), "");
}

TEST(ServerTlsTest, MistakesNameTheSetting) {
  const std::string folder = SecurityTestFolder();
  PutFile(folder + "/not.pem", "hello");
  ServerTls tls;
  tls.cert = folder + "/none.pem";
  EXPECT_EQ(CheckServerTls(tls).code(), absl::StatusCode::kNotFound);
  tls.cert = folder + "/not.pem";
  EXPECT_EQ(CheckServerTls(tls).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(CheckServerTls(tls).message()), HasSubstr("tls_cert: "));
}

}  // namespace
}  // namespace doppel
