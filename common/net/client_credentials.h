#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

#include "common/net/client_security.h"

namespace doppel {

// A channel to a miner, with keepalive that the miner's default allows. Settings that CheckClientSecurity
// refuses give a channel on which every call fails with that error's text. Files are loaded again when they
// change.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, const ClientSecurity& security,
                                           grpc::ChannelArguments arguments);

}  // namespace doppel
