#include "services/security/access_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "services/security/audit_log.h"
#include "services/security/path_roots.h"
#include "services/security/rate_limiter.h"
#include "tests/unit/services/security/access_files.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

AccessList ParseAccess(const std::string& text) { return AccessList::Parse(text, "access").value(); }

TEST(Sha256Test, KnownAnswer) {
  EXPECT_EQ(TokenHash("", "abc"), "sha256::ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(AccessListTest, CertificatesByEveryKindOfName) {
  const AccessList list = ParseAccess(
      "certificate CN=alice operator  # the boss\n\n"
      "certificate DNS:node7.example.org trainer\r\n"
      "certificate URI:spiffe://example.org/team-a/* viewer\n");
  EXPECT_EQ(list.OfCertificate({"CN=alice"})->role, Role::kOperator);
  EXPECT_EQ(list.OfCertificate({"CN=x", "DNS:node7.example.org"})->role, Role::kTrainer);
  EXPECT_EQ(list.OfCertificate({"URI:spiffe://example.org/team-a/bob"})->role, Role::kViewer);
  EXPECT_EQ(list.OfCertificate({"URI:spiffe://example.org/team-a/bob"})->name,
            "URI:spiffe://example.org/team-a/bob");
}

TEST(AccessListTest, TheHighestRoleOfACertificateCounts) {
  const AccessList list =
      ParseAccess("certificate DNS:a viewer\ncertificate CN=a operator\ncertificate URI:a trainer\n");
  EXPECT_EQ(list.OfCertificate({"CN=a", "DNS:a", "URI:a"})->role, Role::kOperator);
}

TEST(AccessListTest, AGoodCertificateThatIsNotNamedHasNoRole) {
  const AccessList list =
      ParseAccess("certificate CN=alice operator\ncertificate URI:spiffe://a/* operator\n");
  for (const char* const name :
       {"CN=alice2", "CN=ali", "DNS:alice", "URI:alice", "CN=Alice", "URI:spiffe://b/", "CN="}) {
    EXPECT_EQ(list.OfCertificate({name}).status().code(), absl::StatusCode::kPermissionDenied) << name;
  }
}

TEST(AccessListTest, TokensByTheirSaltedHash) {
  const AccessList list = ParseAccess("token ci trainer " + TokenHash("pepper", "s3cret") + "\n");
  EXPECT_EQ(list.OfToken("s3cret", absl::Now())->name, "ci");
  EXPECT_EQ(list.OfToken("s3cret", absl::Now())->role, Role::kTrainer);
  for (const char* const token : {"", "s3cre", "s3crets", "peppers3cret", "S3cret"}) {
    EXPECT_EQ(list.OfToken(token, absl::Now()).status().code(), absl::StatusCode::kUnauthenticated) << token;
  }
}

TEST(AccessListTest, ATokenExpires) {
  const AccessList list =
      ParseAccess("token ci viewer " + TokenHash("a", "t") + " expires=2027-01-31T00:00:00Z\n");
  const absl::Time end = absl::FromCivil(absl::CivilDay(2027, 1, 31), absl::UTCTimeZone());
  EXPECT_TRUE(list.OfToken("t", end - absl::Seconds(1)).ok());
  const absl::Status late = list.OfToken("t", end).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(late.message()), HasSubstr("ci has expired"));
}

TEST(AccessListTest, MistakesNameTheLineAndNeverASecret) {
  for (const char* const line :
       {"nonsense", "certificate CN=a", "certificate CN=a king", "certificate a viewer",
        "certificate CN= viewer", "certificate URI:* operator", "token ci viewer topsecret",
        "token ci viewer sha256:topsecret", "token ci viewer sha256:a:00topsecret",
        "token ci king sha256:a:00", "token ci viewer",
        "token ci viewer sha256:a:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad "
        "expires=tomorrow"}) {
    const absl::Status status = AccessList::Parse(absl::StrCat("# one\n", line, "\n"), "access").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(status.message()), HasSubstr("access:2: ")) << line;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("topsecret"))) << line;
  }
}

class AccessFileTest : public ::testing::Test {
 protected:
  AccessFileTest() : path_(SecurityTestFolder() + "/access") { PutFile(path_, "certificate CN=a viewer\n"); }
  Role RoleOf(AccessFile& file, const std::string& name) {
    clock_.Advance(absl::Seconds(1));
    const auto principal = file.Current()->OfCertificate({name});
    return principal.ok() ? principal->role : Role::kNobody;
  }

  const std::string path_;
  ManualClock clock_;
};

TEST_F(AccessFileTest, IsReadAgainWithinASecond) {
  const auto file = AccessFile::Open(path_, clock_).value();
  EXPECT_EQ(RoleOf(*file, "CN=a"), Role::kViewer);
  PutFile(path_, "certificate CN=b operator\n");
  EXPECT_EQ(RoleOf(*file, "CN=a"), Role::kNobody);
  EXPECT_EQ(RoleOf(*file, "CN=b"), Role::kOperator);
}

TEST_F(AccessFileTest, AMistakeLeavesTheListBefore) {
  const auto file = AccessFile::Open(path_, clock_).value();
  PutFile(path_, "certificate CN=b operator\ncertificate\n");
  EXPECT_EQ(RoleOf(*file, "CN=a"), Role::kViewer);
  EXPECT_EQ(RoleOf(*file, "CN=b"), Role::kNobody);
  PutFile(path_, "certificate CN=b operator\n");
  EXPECT_EQ(RoleOf(*file, "CN=b"), Role::kOperator);
}

TEST_F(AccessFileTest, WithoutTheFileNobodyIsLetIn) {
  const auto file = AccessFile::Open(path_, clock_).value();
  std::filesystem::remove(path_);
  EXPECT_EQ(RoleOf(*file, "CN=a"), Role::kNobody);
  PutFile(path_, "certificate CN=a viewer\n");
  EXPECT_EQ(RoleOf(*file, "CN=a"), Role::kViewer);
}

TEST_F(AccessFileTest, IsRefusedIfEverybodyMayWriteToIt) {
  chmod(path_.c_str(), 0666);
  const absl::Status status = AccessFile::Open(path_, clock_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("chmod o-w"));
}

TEST_F(AccessFileTest, MustBeThereAtTheStart) {
  EXPECT_EQ(AccessFile::Open(path_ + ".none", clock_).status().code(), absl::StatusCode::kNotFound);
}

TEST(RateLimiterTest, ABurstAndThenSoManyASecond) {
  RateLimiter limiter(10, 3);
  absl::Time now = absl::UnixEpoch();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.Allow("a", now)) << i;
  EXPECT_FALSE(limiter.Allow("a", now));
  EXPECT_TRUE(limiter.Allow("b", now));
  now += absl::Milliseconds(100);
  EXPECT_TRUE(limiter.Allow("a", now));
  EXPECT_FALSE(limiter.Allow("a", now));
}

TEST(RateLimiterTest, NeverSavesMoreThanABurst) {
  RateLimiter limiter(10, 2);
  absl::Time now = absl::UnixEpoch();
  EXPECT_TRUE(limiter.Allow("a", now));
  now += absl::Hours(1);
  EXPECT_TRUE(limiter.Allow("a", now));
  EXPECT_TRUE(limiter.Allow("a", now));
  EXPECT_FALSE(limiter.Allow("a", now));
}

TEST(RateLimiterTest, ZeroIsNoLimitAndAClockThatGoesBackDoesNoHarm) {
  RateLimiter none(0, 1);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(none.Allow("a", absl::UnixEpoch()));
  RateLimiter one(1, 1);
  EXPECT_TRUE(one.Allow("a", absl::UnixEpoch() + absl::Seconds(5)));
  EXPECT_FALSE(one.Allow("a", absl::UnixEpoch()));
}

TEST(AuditLogTest, WritesOneJsonObjectPerLine) {
  const std::string path = SecurityTestFolder() + "/audit";
  const auto log = AuditLog::Open({path}).value();
  AuditRecord record;
  record.time = absl::UnixEpoch() + absl::Milliseconds(1500);
  record.who = "a\"b\n\xff";
  record.method = "doppel.v1.MiningService/Describe";
  record.code = "OK";
  log->Write(record);
  log->Write(record);
  const std::string text = TextOf(path);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr(R"("time":"1970-01-01T00:00:01.500Z","who":"a\"b\n)"));
  struct stat info = {};
  stat(path.c_str(), &info);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(AuditLogTest, RotatesBySizeAndKeepsSoMany) {
  const std::string path = SecurityTestFolder() + "/audit";
  AuditRecord record;
  const uint64_t line = AuditLine(record).size();
  const auto log = AuditLog::Open({path, 2 * line, 2}).value();
  for (int i = 0; i < 9; ++i) log->Write(record);
  EXPECT_EQ(std::filesystem::file_size(path), line);
  EXPECT_EQ(std::filesystem::file_size(path + ".1"), 2 * line);
  EXPECT_EQ(std::filesystem::file_size(path + ".2"), 2 * line);
  EXPECT_FALSE(std::filesystem::exists(path + ".3"));
}

TEST(AuditLogTest, GoesOnInANewFileWhenTheOldIsMovedAway) {
  const std::string path = SecurityTestFolder() + "/audit";
  const auto log = AuditLog::Open({path}).value();
  log->Write({});
  std::filesystem::rename(path, path + ".moved");
  log->Write({});
  EXPECT_EQ(TextOf(path), TextOf(path + ".moved"));
}

TEST(AuditLogTest, MustBeWritableAtTheStart) {
  EXPECT_EQ(AuditLog::Open({SecurityTestFolder() + "/none/audit"}).status().code(),
            absl::StatusCode::kUnavailable);
}

class PathRootsTest : public ::testing::Test {
 protected:
  PathRootsTest() : folder_(SecurityTestFolder()) {
    std::filesystem::create_directories(folder_ + "/models/m1");
    std::filesystem::create_directories(folder_ + "/models2");
    std::filesystem::create_directories(folder_ + "/secret");
    std::filesystem::create_symlink(folder_ + "/secret", folder_ + "/models/out");
    std::filesystem::create_symlink(folder_ + "/models/m1", folder_ + "/models/in");
  }
  absl::StatusOr<std::string> Confine(const std::string& path) {
    return ConfinePath(path, {folder_ + "/none", folder_ + "/models/"}, "model_path", "model_roots");
  }
  const std::string folder_;
};

TEST_F(PathRootsTest, InsideIsFineAndLinksAreResolved) {
  EXPECT_EQ(Confine(folder_ + "/models/m1").value(),
            std::filesystem::canonical(folder_ + "/models/m1").string());
  EXPECT_EQ(Confine(folder_ + "/models/in").value(),
            std::filesystem::canonical(folder_ + "/models/m1").string());
  EXPECT_TRUE(Confine(folder_ + "/models").ok());
}

TEST_F(PathRootsTest, NothingLeadsOut) {
  for (const std::string& path : {folder_ + "/secret", folder_ + "/models/../secret", folder_ + "/models/out",
                                  folder_ + "/models/out/x", folder_ + "/models2",
                                  folder_ + "/models/m1/../m1", std::string("models/m1"), std::string(""),
                                  std::string("/"), folder_ + "/models/m1" + std::string(1, '\0')}) {
    const absl::Status status = Confine(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << path;
    EXPECT_THAT(std::string(status.message()), HasSubstr("model_roots")) << path;
  }
}

TEST_F(PathRootsTest, TheAnswerDoesNotTellWhatIsThere) {
  const auto normalised = [this](const std::string& name) {
    std::string text(Confine(folder_ + "/" + name).status().message());
    text.replace(text.find(name), name.size(), "X");
    return text;
  };
  EXPECT_EQ(normalised("secret"), normalised("nothing"));
}

TEST_F(PathRootsTest, NoRootsAllowAll) { EXPECT_EQ(ConfinePath("../x", {}, "a", "b").value(), "../x"); }

}  // namespace
}  // namespace doppel
