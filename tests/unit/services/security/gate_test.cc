#include "services/security/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/services/security/access_files.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kDescribePath[] = "/doppel.v1.MiningService/Describe";
constexpr char kReclusterPath[] = "/doppel.v1.MiningService/Recluster";

CallFacts WithToken(const std::string& path, const std::string& token) {
  CallFacts call;
  call.path = path;
  call.has_authorization = true;
  call.authorization = "Bearer " + token;
  return call;
}

CallFacts WithCertificate(const std::string& path, const std::string& name) {
  CallFacts call;
  call.path = path;
  call.certificate_names = {name};
  return call;
}

class GateTest : public ::testing::Test {
 protected:
  GateTest() : folder_(SecurityTestFolder()) {
    std::string text;
    for (const char* const role : {"viewer", "trainer", "operator"}) {
      absl::StrAppend(&text, "certificate CN=", role, " ", role, "\n");
      absl::StrAppend(&text, "token ", role, "-token ", role, " ",
                      TokenHash("s", absl::StrCat("secret-", role)), "\n");
      absl::StrAppend(&text, "token old-", role, " ", role, " ",
                      TokenHash("s", absl::StrCat("old-secret-", role)), " expires=2000-01-01T00:00:00Z\n");
    }
    PutFile(folder_ + "/access", text);
    access_ = AccessFile::Open(folder_ + "/access", clock_).value();
    audit_ = AuditLog::Open({folder_ + "/audit"}).value();
  }
  std::unique_ptr<Gate> MakeGate(RateLimiter* limiter = nullptr) {
    GateOptions options;
    options.access = access_.get();
    options.audit = audit_.get();
    options.control = limiter;
    return std::make_unique<Gate>(options, clock_);
  }
  std::string AuditText() { return TextOf(folder_ + "/audit"); }

  const std::string folder_;
  ManualClock clock_{absl::FromUnixSeconds(1700000000)};
  std::unique_ptr<AccessFile> access_;
  std::unique_ptr<AuditLog> audit_;
};

// The whole table: every method, every role, every kind of credential. Printed, so that it can be read.
TEST_F(GateTest, EveryMethodByRoleAndCredential) {
  const auto gate = MakeGate();
  std::printf(
      "| RPC | needs | no credential | wrong token | expired token | unnamed certificate | viewer | trainer "
      "| operator |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const MethodRule& rule : MethodRules()) {
    const std::string path = absl::StrCat("/", rule.method);
    const bool open = rule.plane == Plane::kOpen;
    const auto outcome = [&](const CallFacts& call, absl::StatusCode closed) {
      const absl::StatusCode code = gate->Admit(call).code();
      EXPECT_EQ(code, open ? absl::StatusCode::kOk : closed) << path;
      return absl::StatusCodeToString(code);
    };
    CallFacts nothing;
    nothing.path = path;
    std::string row = absl::StrCat("| ", rule.method, " | ", RoleName(rule.role));
    absl::StrAppend(&row, " | ", outcome(nothing, absl::StatusCode::kUnauthenticated));
    absl::StrAppend(&row, " | ", outcome(WithToken(path, "wrong"), absl::StatusCode::kUnauthenticated));
    absl::StrAppend(&row, " | ",
                    outcome(WithToken(path, "old-secret-operator"), absl::StatusCode::kUnauthenticated));
    absl::StrAppend(&row, " | ",
                    outcome(WithCertificate(path, "CN=stranger"), absl::StatusCode::kPermissionDenied));
    for (const Role role : {Role::kViewer, Role::kTrainer, Role::kOperator}) {
      const absl::StatusCode expected =
          role >= rule.role ? absl::StatusCode::kOk : absl::StatusCode::kPermissionDenied;
      const std::string by_token =
          outcome(WithToken(path, absl::StrCat("secret-", RoleName(role))), expected);
      EXPECT_EQ(outcome(WithCertificate(path, absl::StrCat("CN=", RoleName(role))), expected), by_token)
          << path;
      absl::StrAppend(&row, " | ", by_token);
    }
    std::printf("%s |\n", row.c_str());
  }
}

TEST_F(GateTest, AMethodWithoutRuleIsRefusedToOperatorsToo) {
  const auto gate = MakeGate();
  for (const char* const path : {"/doppel.v1.MiningService/New", "", "/", "x"}) {
    EXPECT_EQ(gate->Admit(WithToken(path, "secret-operator")).code(), absl::StatusCode::kPermissionDenied)
        << path;
  }
}

TEST_F(GateTest, AnOutsiderDoesNotLearnWhichMethodsThereAre) {
  const auto gate = MakeGate();
  CallFacts there, not_there;
  there.path = kDescribePath;
  not_there.path = "/doppel.v1.MiningService/New";
  EXPECT_EQ(gate->Admit(there), gate->Admit(not_there));
}

TEST_F(GateTest, ABadTokenIsNotHelpedByAGoodCertificate) {
  const auto gate = MakeGate();
  CallFacts call = WithToken(kDescribePath, "wrong");
  call.certificate_names = {"CN=operator"};
  EXPECT_EQ(gate->Admit(call).code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(GateTest, MalformedAuthorizationIsRefused) {
  const auto gate = MakeGate();
  for (const std::string& value :
       {std::string(), std::string("secret-viewer"), std::string("Basic secret-viewer"),
        std::string("Bearer"), std::string("Bearer "), "Bearer " + std::string(5000, 'a')}) {
    CallFacts call;
    call.path = kDescribePath;
    call.has_authorization = true;
    call.authorization = value;
    EXPECT_EQ(gate->Admit(call).code(), absl::StatusCode::kUnauthenticated) << value.substr(0, 20);
  }
}

TEST_F(GateTest, ATokenThatIsTakenAwayHoldsNoLonger) {
  const auto gate = MakeGate();
  EXPECT_TRUE(gate->Admit(WithToken(kDescribePath, "secret-viewer")).ok());
  PutFile(folder_ + "/access", "# nobody\n");
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(gate->Admit(WithToken(kDescribePath, "secret-viewer")).code(),
            absl::StatusCode::kUnauthenticated);
}

TEST_F(GateTest, ControlCallsAreLimitedPerPrincipal) {
  RateLimiter limiter(1, 2);
  const auto gate = MakeGate(&limiter);
  EXPECT_TRUE(gate->Admit(WithToken(kDescribePath, "secret-viewer")).ok());
  EXPECT_TRUE(gate->Admit(WithToken(kDescribePath, "secret-viewer")).ok());
  const absl::Status status = gate->Admit(WithToken(kDescribePath, "secret-viewer"));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("control_rpcs_per_second"));
  EXPECT_TRUE(gate->Admit(WithToken(kDescribePath, "secret-operator")).ok());
  EXPECT_TRUE(gate->Admit(WithToken("/doppel.v1.BatchService/GetBatch", "secret-trainer")).ok());
}

TEST_F(GateTest, RefusalsAreAuditedWithoutTheSecret) {
  const auto gate = MakeGate();
  EXPECT_FALSE(gate->Admit(WithToken(kReclusterPath, "hunter2")).ok());
  EXPECT_FALSE(gate->Admit(WithToken(kReclusterPath, "secret-viewer")).ok());
  const std::string text = AuditText();
  EXPECT_THAT(text, HasSubstr(R"("who":"viewer-token","role":"viewer")"));
  EXPECT_THAT(text, HasSubstr(R"("code":"UNAUTHENTICATED")"));
  EXPECT_THAT(text, HasSubstr(R"("code":"PERMISSION_DENIED")"));
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  EXPECT_THAT(text, Not(HasSubstr("secret-")));
}

TEST_F(GateTest, AFloodOfRefusalsDoesNotFillTheDisk) {
  const auto gate = MakeGate();
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(gate->Admit(WithToken(kReclusterPath, "wrong")).ok());
  const std::string text = AuditText();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 50);
}

TEST(OpenGateTest, WithoutTlsEverybodyHasTheOneRoleAndNothingElseOpens) {
  Gate everybody({});
  CallFacts call;
  call.path = kReclusterPath;
  EXPECT_TRUE(everybody.Admit(call).ok());
  call.path = "/doppel.v1.MiningService/New";
  EXPECT_EQ(everybody.Admit(call).code(), absl::StatusCode::kPermissionDenied);
  GateOptions options;
  options.anonymous_role = Role::kTrainer;
  Gate embedders(options);
  call.path = "/doppel.v1.EmbeddingService/LeaseRange";
  EXPECT_TRUE(embedders.Admit(call).ok());
  call.path = kReclusterPath;
  EXPECT_EQ(embedders.Admit(call).code(), absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace doppel
