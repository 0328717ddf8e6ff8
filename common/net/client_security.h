#pragma once

#include <string>

#include "absl/status/status.h"

namespace doppel {

// How a client proves who it is and who it talks to. All of it is file names: keys and tokens are read when
// needed, and again when they have changed. Empty: plain text, without any credential.
struct ClientSecurity {
  std::string tls_ca;           // PEM: who signs servers' certificates; turns TLS on
  std::string tls_cert;         // PEM: the client's own, with its key
  std::string tls_key;          // PEM
  std::string tls_server_name;  // name in the server's certificate, where it is not the address's
  std::string token_file;       // one line; only with TLS

  bool enabled() const {
    return !tls_ca.empty() || !tls_cert.empty() || !tls_key.empty() || !tls_server_name.empty() ||
           !token_file.empty();
  }
};

// INVALID_ARGUMENT or NOT_FOUND name the flag that is missing, or whose file is no good.
absl::Status CheckClientSecurity(const ClientSecurity& security);

// Adds the flags to a CLI::App (or a group of one): a template, so that this does not bring CLI11 with it.
// Each is an environment variable as well.
template <typename App>
void AddClientSecurityFlags(App& app, ClientSecurity* security) {
  app.add_option("--tls-ca", security->tls_ca, "PEM file of who signs the miner's certificate: turns TLS on")
      ->envname("DOPPEL_TLS_CA");
  app.add_option("--tls-cert", security->tls_cert, "PEM file: own certificate, for mutual TLS")
      ->envname("DOPPEL_TLS_CERT");
  app.add_option("--tls-key", security->tls_key, "PEM file: its key")->envname("DOPPEL_TLS_KEY");
  app.add_option("--tls-server-name", security->tls_server_name,
                 "name in the miner's certificate, if it is not that of its address")
      ->envname("DOPPEL_TLS_SERVER_NAME");
  app.add_option("--token-file", security->token_file, "file with a bearer token (only over TLS)")
      ->envname("DOPPEL_TOKEN_FILE");
}

}  // namespace doppel
