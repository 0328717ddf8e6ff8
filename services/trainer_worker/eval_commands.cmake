# eval, embed and search: apart from training, so that what measures needs neither gRPC nor the losses.
doppel_library(eval_commands
  SOURCES embed_command.cc eval_data_files.cc eval_protocols_command.cc search_command.cc
  DEPS doppel_eval doppel_io absl::status absl::statusor absl::strings
  PRIVATE_DEPS doppel_base doppel_catalog doppel_index doppel_ivf_index absl::flat_hash_map absl::str_format absl::time
               CLI11::CLI11 nlohmann_json::nlohmann_json)
