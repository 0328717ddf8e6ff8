doppel_library(loss_command PRECOMPILED torch
  SOURCES loss_command.cc
  DEPS doppel_loss doppel_io absl::status absl::statusor absl::strings absl::str_format
  PRIVATE_DEPS CLI11::CLI11 nlohmann_json::nlohmann_json)
set_target_properties(doppel_loss_command PROPERTIES JOB_POOL_COMPILE torch)
