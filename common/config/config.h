#pragma once

#include <google/protobuf/message.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace doppel {

// (key, value) from flags, in order. A key is a field's name, or a path of names with dots
// ("embedder.threads"); dashes count as underscores.
using ConfigOverrides = std::vector<std::pair<std::string, std::string>>;

// Where environment variables come from: the environment itself is read in main only.
struct ConfigEnvironment {
  // With its underscore: "DOPPEL_MINER_". The variable of `a.b` is <prefix>A_B.
  std::string prefix;
  // nullopt: not set. An empty function: no environment.
  std::function<std::optional<std::string>(const std::string& name)> lookup;
};

// Checks a whole configuration; its error should name the key and say what is allowed.
using ConfigValidator = std::function<absl::Status()>;

// Fills the config proto `config` (not owned). For every field the flag goes before the environment, that
// before the file, and the file before what the message held already: the defaults. Fields may be scalars,
// enums (the value's name, or its end behind the enum's name, in any case), messages, and repeated ones: in
// the file a list, elsewhere values separated by commas; each source replaces the whole list, several flags
// of one key are one list. Lists of messages come from the file alone; maps are not supported.
//
// Strict: an unknown or doubled key, or a value of the wrong type, is INVALID_ARGUMENT that names the place
// ("miner.yaml:12", the variable, the flag). `path` empty: no file. NOT_FOUND: no such file. `validate`, if
// given, is called last, and its error is returned. After an error `config` is as it was, unless it came from
// `validate`.
absl::Status LoadConfig(const std::string& path, const ConfigOverrides& flags,
                        const ConfigEnvironment& environment, google::protobuf::Message* config,
                        const ConfigValidator& validate = nullptr);

// The single steps of LoadConfig. After an error the message may hold a part. `name` is for messages.
absl::Status ApplyYaml(absl::string_view text, const std::string& name, google::protobuf::Message* config);
absl::Status ApplyEnvironment(const ConfigEnvironment& environment, google::protobuf::Message* config);
absl::Status ApplyOverrides(const ConfigOverrides& flags, google::protobuf::Message* config);

}  // namespace doppel
