#include "common/config/config.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "common/io/atomic_file.h"
#include "doppel/v1/config.pb.h"

namespace doppel {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::DynamicMessageFactory;
using google::protobuf::FileDescriptorProto;
using google::protobuf::Message;
using google::protobuf::TextFormat;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kSchema[] = R"pb(
  name: "test.proto"
  syntax: "proto3"
  enum_type {
    name: "ColorKind"
    value { name: "COLOR_KIND_UNSPECIFIED" number: 0 }
    value { name: "COLOR_KIND_RED" number: 1 }
    value { name: "COLOR_KIND_DARK_BLUE" number: 2 }
  }
  message_type {
    name: "Section"
    field { name: "rate" number: 1 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
    field { name: "steps" number: 2 type: TYPE_UINT64 label: LABEL_REPEATED }
    field { name: "inner" number: 3 type: TYPE_MESSAGE type_name: "Section" label: LABEL_OPTIONAL }
  }
  message_type {
    name: "Config"
    field { name: "small" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
    field { name: "large" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL }
    field { name: "count" number: 3 type: TYPE_UINT32 label: LABEL_OPTIONAL }
    field { name: "size" number: 4 type: TYPE_UINT64 label: LABEL_OPTIONAL }
    field { name: "share" number: 5 type: TYPE_FLOAT label: LABEL_OPTIONAL }
    field { name: "on" number: 6 type: TYPE_BOOL label: LABEL_OPTIONAL }
    field { name: "name" number: 7 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "color" number: 8 type: TYPE_ENUM type_name: "ColorKind" label: LABEL_OPTIONAL }
    field { name: "hosts" number: 9 type: TYPE_STRING label: LABEL_REPEATED }
    field { name: "train" number: 10 type: TYPE_MESSAGE type_name: "Section" label: LABEL_OPTIONAL }
    field { name: "stages" number: 11 type: TYPE_MESSAGE type_name: "Section" label: LABEL_REPEATED }
    field { name: "batch_size" number: 12 type: TYPE_UINT32 label: LABEL_OPTIONAL }
  })pb";

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    FileDescriptorProto schema;
    EXPECT_TRUE(TextFormat::ParseFromString(kSchema, &schema));
    const auto* file = pool_.BuildFile(schema);
    EXPECT_NE(file, nullptr);
    config_.reset(factory_.GetPrototype(file->FindMessageTypeByName("Config"))->New());
  }

  absl::Status Yaml(const std::string& text) { return ApplyYaml(text, "test.yaml", config_.get()); }
  std::string YamlError(const std::string& text) {
    const absl::Status status = Yaml(text);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
  void Set(const std::string& text_proto) {
    ASSERT_TRUE(TextFormat::ParseFromString(text_proto, config_.get()));
  }
  std::string Text() {
    TextFormat::Printer printer;
    printer.SetSingleLineMode(true);
    std::string text;
    printer.PrintToString(*config_, &text);
    if (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
  }
  ConfigEnvironment Environment() {
    return {"TEST_", [this](const std::string& name) -> std::optional<std::string> {
              const auto it = variables_.find(name);
              return it == variables_.end() ? std::nullopt : std::optional<std::string>(it->second);
            }};
  }

  DescriptorPool pool_;
  DynamicMessageFactory factory_;
  std::unique_ptr<Message> config_;
  std::map<std::string, std::string> variables_;
};

TEST_F(ConfigTest, ReadsEveryScalarType) {
  ASSERT_TRUE(
      Yaml("small: -5\nlarge: -5000000000\ncount: 7\nsize: 18446744073709551615\nshare: 0.25\non: true\n"
           "name: \"a: b\"\ncolor: red\n")
          .ok());
  EXPECT_EQ(
      Text(),
      "small: -5 large: -5000000000 count: 7 size: 18446744073709551615 share: 0.25 on: true name: \"a: b\" "
      "color: COLOR_KIND_RED");
}

TEST_F(ConfigTest, ReadsNestedSectionsAndLists) {
  ASSERT_TRUE(Yaml("hosts: [a, b]\ntrain:\n  rate: 1e-3\n  steps:\n    - 10\n    - 20\n  inner: {rate: 2}\n"
                   "stages:\n  - rate: 1\n  - steps: [1]\n")
                  .ok());
  EXPECT_EQ(Text(),
            "hosts: \"a\" hosts: \"b\" train { rate: 0.001 steps: 10 steps: 20 inner { rate: 2 } } "
            "stages { rate: 1 } stages { steps: 1 }");
}

TEST_F(ConfigTest, EnumsGoByFullOrShortNameInAnyCase) {
  for (const char* text : {"COLOR_KIND_DARK_BLUE", "dark_blue", "Dark_Blue"}) {
    Set("");
    ASSERT_TRUE(Yaml(std::string("color: ") + text).ok()) << text;
    EXPECT_EQ(Text(), "color: COLOR_KIND_DARK_BLUE");
  }
  EXPECT_THAT(YamlError("color: green"), HasSubstr("color: \"green\" is not one of red, dark_blue"));
}

TEST_F(ConfigTest, EmptyFilesAndSectionsChangeNothing) {
  Set("small: 3");
  for (const char* text : {"", "# only a comment\n", "train:\n"}) EXPECT_TRUE(Yaml(text).ok()) << text;
  EXPECT_THAT(Text(), StartsWith("small: 3"));
}

TEST_F(ConfigTest, WhatTheFileDoesNotNameStays) {
  Set("small: 3 name: \"kept\" train { rate: 1 steps: 5 }");
  ASSERT_TRUE(Yaml("small: 4\ntrain:\n  rate: 2\n").ok());
  EXPECT_EQ(Text(), "small: 4 name: \"kept\" train { rate: 2 steps: 5 }");
}

TEST_F(ConfigTest, ListsAreReplacedNotExtended) {
  Set("hosts: \"default\"");
  ASSERT_TRUE(Yaml("hosts: [x]").ok());
  EXPECT_EQ(Text(), "hosts: \"x\"");
  ASSERT_TRUE(Yaml("hosts: []").ok());
  EXPECT_EQ(Text(), "");
}

TEST_F(ConfigTest, UnknownKeyIsNamedWithLineAndProposal) {
  EXPECT_EQ(YamlError("small: 1\n\nbatch_sise: 5\n"),
            "test.yaml:3: unknown key \"batch_sise\": did you mean \"batch_size\"?");
  EXPECT_EQ(YamlError("train:\n  wild: 1\n"),
            "test.yaml:2: unknown key \"wild\": the keys are inner, rate, steps");
  EXPECT_THAT(YamlError("batch-size: 5"), HasSubstr("did you mean \"batch_size\"?"));
}

TEST_F(ConfigTest, DoubledKeyIsRefused) {
  EXPECT_EQ(YamlError("small: 1\nname: x\nsmall: 2\n"), "test.yaml:3: key \"small\" occurs twice");
}

TEST_F(ConfigTest, WrongTypesAreNamedWithLine) {
  EXPECT_EQ(YamlError("\nsmall: three\n"),
            "test.yaml:2: small: \"three\" is not a whole number from -2147483648 to 2147483647");
  EXPECT_THAT(YamlError("count: -1"), HasSubstr("\"-1\" is not a whole number from 0 to 4294967295"));
  EXPECT_THAT(YamlError("count: 4294967296"), HasSubstr("is not a whole number"));
  EXPECT_THAT(YamlError("count: 1.5"), HasSubstr("is not a whole number"));
  EXPECT_THAT(YamlError("share: much"), HasSubstr("share: \"much\" is not a number"));
  EXPECT_THAT(YamlError("share: nan"), HasSubstr("is not a number"));
  EXPECT_THAT(YamlError("on: maybe"), HasSubstr("\"maybe\" is not true or false"));
  EXPECT_THAT(YamlError("train:\n  steps: [1, x]\n"), StartsWith("test.yaml:2: steps: \"x\" is not"));
}

TEST_F(ConfigTest, WrongShapesAreRefused) {
  EXPECT_THAT(YamlError("small: [1]"), HasSubstr("test.yaml:1: small: expected one value"));
  EXPECT_THAT(YamlError("hosts: a"), HasSubstr("hosts: expected a list"));
  EXPECT_THAT(YamlError("train: 5"), HasSubstr("expected \"key: value\" lines"));
  EXPECT_THAT(YamlError("- a\n- b\n"), HasSubstr("expected \"key: value\" lines"));
  EXPECT_THAT(YamlError("just text"), HasSubstr("expected \"key: value\" lines"));
  EXPECT_THAT(YamlError("[a]: 1"), HasSubstr("a key must be a plain name"));
  EXPECT_THAT(YamlError("small:\n"), HasSubstr("small: no value"));
}

TEST_F(ConfigTest, BrokenYamlIsNamedWithLine) {
  EXPECT_THAT(YamlError("small: 1\nhosts: [a, b\n"), StartsWith("test.yaml:"));
  EXPECT_THAT(YamlError("a: b: c"), StartsWith("test.yaml:1: "));
  EXPECT_THAT(YamlError("small: 1\n---\nsmall: 2\n"), HasSubstr("several YAML documents"));
}

TEST_F(ConfigTest, DeepNestingIsRefused) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += std::string(i, ' ') + (i == 0 ? "train:\n" : "inner:\n");
  text += std::string(40, ' ') + "rate: 1\n";
  EXPECT_THAT(YamlError(text), HasSubstr("nested too deeply"));
}

TEST_F(ConfigTest, AnchorsWork) {
  ASSERT_TRUE(Yaml("train: &t {rate: 3}\nstages: [*t]\n").ok());
  EXPECT_EQ(Text(), "train { rate: 3 } stages { rate: 3 }");
}

TEST_F(ConfigTest, EnvironmentSetsScalarsSectionsAndLists) {
  variables_ = {{"TEST_SMALL", "9"},
                {"TEST_TRAIN_RATE", "0.5"},
                {"TEST_TRAIN_INNER_STEPS", "1, 2"},
                {"TEST_HOSTS", "a,b"}};
  ASSERT_TRUE(ApplyEnvironment(Environment(), config_.get()).ok());
  EXPECT_EQ(Text(), "small: 9 hosts: \"a\" hosts: \"b\" train { rate: 0.5 inner { steps: 1 steps: 2 } }");
}

TEST_F(ConfigTest, EnvironmentWithoutVariablesTouchesNothing) {
  ASSERT_TRUE(ApplyEnvironment(Environment(), config_.get()).ok());
  ASSERT_TRUE(ApplyEnvironment({}, config_.get()).ok());
  EXPECT_EQ(Text(), "");
}

TEST_F(ConfigTest, EnvironmentErrorsNameTheVariable) {
  variables_ = {{"TEST_TRAIN_RATE", "fast"}};
  EXPECT_EQ(ApplyEnvironment(Environment(), config_.get()).message(),
            "TEST_TRAIN_RATE: \"fast\" is not a number");
}

TEST_F(ConfigTest, OverridesTakeDashesAndPaths) {
  ASSERT_TRUE(
      ApplyOverrides({{"batch-size", "5"}, {"train.rate", "0.5"}, {"batch_size", "6"}}, config_.get()).ok());
  EXPECT_EQ(Text(), "train { rate: 0.5 } batch_size: 6");
}

TEST_F(ConfigTest, SeveralOverridesOfAListAreOneList) {
  Set("hosts: \"default\"");
  ASSERT_TRUE(ApplyOverrides({{"hosts", "a,b"}, {"hosts", "c"}}, config_.get()).ok());
  EXPECT_EQ(Text(), "hosts: \"a\" hosts: \"b\" hosts: \"c\"");
}

TEST_F(ConfigTest, OverrideErrorsNameTheFlag) {
  EXPECT_EQ(ApplyOverrides({{"batch-size", "x"}}, config_.get()).message(),
            "--batch-size: \"x\" is not a whole number from 0 to 4294967295");
  EXPECT_THAT(std::string(ApplyOverrides({{"train.wrong", "x"}}, config_.get()).message()),
              HasSubstr("--train.wrong: unknown key \"wrong\""));
  EXPECT_THAT(std::string(ApplyOverrides({{"small.x", "1"}}, config_.get()).message()),
              HasSubstr("\"small\" has no keys of its own"));
  EXPECT_THAT(std::string(ApplyOverrides({{"train", "1"}}, config_.get()).message()),
              HasSubstr("is a section"));
}

class LoadConfigTest : public ConfigTest {
 protected:
  void TearDown() override { PosixFileSystem().Remove(path_).IgnoreError(); }
  void Write(absl::string_view text) {
    ASSERT_TRUE(WriteFileAtomically(PosixFileSystem(), path_, text).ok());
  }
  const std::string path_ =
      testing::TempDir() + "/doppel_config_" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(LoadConfigTest, FlagBeforeEnvironmentBeforeFileBeforeDefault) {
  Set("small: 1 large: 1 count: 1 size: 1");
  Write("large: 2\ncount: 2\nsize: 2\n");
  variables_ = {{"TEST_COUNT", "3"}, {"TEST_SIZE", "3"}};
  ASSERT_TRUE(LoadConfig(path_, {{"size", "4"}}, Environment(), config_.get()).ok());
  EXPECT_EQ(Text(), "small: 1 large: 2 count: 3 size: 4");
}

TEST_F(LoadConfigTest, PrecedenceHoldsForListsAndSections) {
  Set("hosts: \"default\" train { rate: 1 steps: 1 }");
  Write("hosts: [file, file2]\ntrain: {rate: 2, steps: [2, 2]}\n");
  variables_ = {{"TEST_TRAIN_STEPS", "3"}};
  ASSERT_TRUE(LoadConfig(path_, {{"hosts", "flag"}}, Environment(), config_.get()).ok());
  EXPECT_EQ(Text(), "hosts: \"flag\" train { rate: 2 steps: 3 }");
}

TEST_F(LoadConfigTest, NoFileIsFine) {
  ASSERT_TRUE(LoadConfig("", {{"small", "2"}}, {}, config_.get()).ok());
  EXPECT_EQ(Text(), "small: 2");
}

TEST_F(LoadConfigTest, MissingFileIsNotFoundAndNamed) {
  const absl::Status status = LoadConfig(path_, {}, {}, config_.get());
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
}

TEST_F(LoadConfigTest, ErrorLeavesTheMessageAlone) {
  Set("small: 1");
  Write("small: 2\nwrong: 3\n");
  const absl::Status status = LoadConfig(path_, {}, {}, config_.get());
  EXPECT_THAT(std::string(status.message()), StartsWith(path_ + ":2: unknown key"));
  EXPECT_EQ(Text(), "small: 1");
}

TEST_F(LoadConfigTest, ValidatorSeesTheLoadedMessage) {
  std::string seen;
  const absl::Status status = LoadConfig("", {{"small", "2"}}, {}, config_.get(), [&] {
    seen = Text();
    return absl::InvalidArgumentError("small: too small");
  });
  EXPECT_EQ(seen, "small: 2");
  EXPECT_EQ(status.message(), "small: too small");
}

TEST_F(LoadConfigTest, FillsTheMinersConfig) {
  Write("catalog: /data/catalog\nbatch_threads: 3\ndrain_seconds: 1.5\nhttp_port: -1\n");
  variables_ = {{"TEST_LOG_FORMAT", "json"}};
  v1::MinerConfig config;
  config.set_batch_threads(1);
  config.set_listen("localhost:0");
  ASSERT_TRUE(LoadConfig(path_, {{"max-credits", "9"}}, Environment(), &config).ok());
  EXPECT_EQ(config.catalog(), "/data/catalog");
  EXPECT_EQ(config.batch_threads(), 3U);
  EXPECT_EQ(config.drain_seconds(), 1.5);
  EXPECT_EQ(config.http_port(), -1);
  EXPECT_EQ(config.log_format(), "json");
  EXPECT_EQ(config.max_credits(), 9U);
  EXPECT_EQ(config.listen(), "localhost:0");
}

}  // namespace
}  // namespace doppel
