#include "services/security/roles.h"

#include <gmock/gmock.h>
#include <google/protobuf/compiler/importer.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

class PrintProtoErrors : public google::protobuf::compiler::MultiFileErrorCollector {
 public:
  void AddError(const std::string& file, int line, int, const std::string& message) override {
    ADD_FAILURE() << file << ":" << line << ": " << message;
  }
};

// Every proto in the tree, whether a server registers its services or not.
class AllProtos {
 public:
  AllProtos() {
    tree_.MapPath("", DOPPEL_PROTO_ROOT);
    const std::filesystem::path root(DOPPEL_PROTO_ROOT);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (entry.path().extension() != ".proto") continue;
      const auto* file = importer_.Import(entry.path().lexically_relative(root).string());
      if (file == nullptr) continue;
      for (int i = 0; i < file->service_count(); ++i) services_.push_back(file->service(i));
    }
  }
  const std::vector<const google::protobuf::ServiceDescriptor*>& services() const { return services_; }

 private:
  PrintProtoErrors errors_;
  google::protobuf::compiler::DiskSourceTree tree_;
  google::protobuf::compiler::Importer importer_{&tree_, &errors_};
  std::vector<const google::protobuf::ServiceDescriptor*> services_;
};

TEST(MethodRulesTest, EveryRpcOfEveryProtoHasOne) {
  const AllProtos protos;
  ASSERT_GE(protos.services().size(), 3u);
  for (const auto* service : protos.services()) {
    EXPECT_EQ(CheckServiceHasRules(*service), absl::OkStatus());
  }
}

TEST(MethodRulesTest, AServiceWithoutIsNamed) {
  google::protobuf::DescriptorPool pool;
  google::protobuf::FileDescriptorProto file;
  file.set_name("new.proto");
  file.set_package("doppel.v1");
  file.add_message_type()->set_name("Empty");
  auto* service = file.add_service();
  service->set_name("NewService");
  auto* method = service->add_method();
  method->set_name("Forgotten");
  method->set_input_type(".doppel.v1.Empty");
  method->set_output_type(".doppel.v1.Empty");
  const absl::Status status = CheckServiceHasRules(*pool.BuildFile(file)->service(0));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("doppel.v1.NewService/Forgotten"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("services/security/roles.cc"));
}

TEST(MethodRulesTest, AreInOrderAndOnce) {
  const std::vector<MethodRule>& rules = MethodRules();
  for (size_t i = 1; i < rules.size(); ++i) EXPECT_LT(rules[i - 1].method, rules[i].method);
}

TEST(MethodRulesTest, OnlyProbesAreOpen) {
  for (const MethodRule& rule : MethodRules()) {
    const bool health = absl::StartsWith(rule.method, "grpc.health.v1.Health/");
    EXPECT_EQ(rule.plane == Plane::kOpen, health) << rule.method;
    EXPECT_EQ(rule.role == Role::kNobody, health) << rule.method;
  }
}

TEST(MethodRulesTest, WhatChangesThingsNeedsAnOperator) {
  for (const char* const word :
       {"Recluster", "Activate", "Cancel", "Rollback", "Retire", "Pin", "SetPolicy"}) {
    for (const MethodRule& rule : MethodRules()) {
      if (!absl::StrContains(rule.method, absl::StrCat("/", word))) continue;
      EXPECT_EQ(rule.role, Role::kOperator) << rule.method;
    }
  }
}

TEST(MethodRulesTest, FindsByPathAlone) {
  ASSERT_NE(FindMethodRule("/doppel.v1.MiningService/Recluster"), nullptr);
  EXPECT_EQ(FindMethodRule("/doppel.v1.MiningService/Recluster")->role, Role::kOperator);
  for (const char* const path : {"", "/", "doppel.v1.MiningService/Recluster", "/doppel.v1.MiningService/",
                                 "/doppel.v1.MiningService/recluster", "/doppel.v1.MiningService/Recluster/",
                                 "//doppel.v1.MiningService/Recluster", "/grpc.health.v1.Health/Checks"}) {
    EXPECT_EQ(FindMethodRule(path), nullptr) << path;
  }
}

TEST(RoleTest, NamesComeBack) {
  for (const Role role : {Role::kViewer, Role::kTrainer, Role::kOperator}) {
    EXPECT_EQ(ParseRole(RoleName(role)).value(), role);
  }
  EXPECT_EQ(ParseRole("nobody").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseRole("Operator").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace doppel
