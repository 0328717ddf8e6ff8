#include "services/ctl/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "doppel/v1/mining.pb.h"

namespace doppel {
namespace {

using ::testing::HasSubstr;

TEST(ConsoleTest, JsonNamesFieldsAsTheProtoDoesAndShowsZeros) {
  v1::Operation operation;
  operation.set_id("op-1");
  const std::string json = *MessageToJson(operation);
  EXPECT_THAT(json, HasSubstr("\"id\": \"op-1\""));
  EXPECT_THAT(json, HasSubstr("\"elapsed_seconds\": 0"));
}

TEST(ConsoleTest, YamlKeepsOrderAndText) {
  EXPECT_EQ(*JsonToYaml(R"({"b":[1,2.5],"a":{"x":"no","y":null,"z":true},"e":[],"f":{}})"),
            "b:\n  - 1\n  - 2.5\na:\n  x: \"no\"\n  y: ~\n  z: true\ne: []\nf: {}\n");
  EXPECT_EQ(JsonToYaml("{").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ConsoleTest, PrintsTheFormatThatIsWanted) {
  std::ostringstream out, err;
  Console console{out, err, OutputFormat::kYaml};
  ASSERT_TRUE(PrintJson(console, R"({"a":1})").ok());
  EXPECT_EQ(out.str(), "a: 1\n");
  out.str("");
  console.format = OutputFormat::kJson;
  ASSERT_TRUE(PrintJson(console, R"({"a":1})").ok());
  EXPECT_EQ(out.str(), "{\"a\":1}\n");
}

TEST(ConsoleTest, ExitCodes) {
  EXPECT_EQ(ExitCode(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCode(absl::InternalError("")), 1);
  EXPECT_EQ(ExitCode(absl::UnavailableError("")), 1);
  EXPECT_EQ(ExitCode(absl::NotFoundError("")), 1);
  EXPECT_EQ(ExitCode(absl::InvalidArgumentError("")), 2);
  EXPECT_EQ(ExitCode(absl::FailedPreconditionError("")), 3);
  EXPECT_EQ(ExitCode(absl::AlreadyExistsError("")), 3);
  EXPECT_EQ(ExitCode(absl::AbortedError("")), 3);
}

}  // namespace
}  // namespace doppel
