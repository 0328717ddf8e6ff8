#pragma once

#include <string>

namespace doppel {

struct ServerTls {
  std::string cert;       // PEM file: the server's certificate and what it was signed with
  std::string key;        // PEM file
  std::string client_ca;  // PEM file: who signs clients' certificates; empty: clients have none
  bool require_client_certificate = false;  // already for the handshake, so for health as well
  unsigned int reload_seconds = 10;         // how often the files are looked at
  bool enabled() const { return !cert.empty(); }
};

}  // namespace doppel
