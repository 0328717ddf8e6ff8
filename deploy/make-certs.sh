#!/usr/bin/env bash
# Makes a PKI for tests: a CA, a server certificate, a client certificate and a token for each role, and the access
# file that names them. What is there and still good is kept, so it can run before every start.
#
#   deploy/make-certs.sh DIR [NAME ...]
#
# NAME: DNS names and addresses of the server besides localhost, 127.0.0.1 and ::1. Files: ca.pem, server.pem, server.key,
# {viewer,trainer,operator}.{pem,key,token}, access. DAYS (30) is how long certificates are good.
# Not for production: the CA's key lies unencrypted beside the rest.
set -euo pipefail

case "${1:-}" in
  "" | -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit $([ -n "${1:-}" ] && echo 0 || echo 2) ;;
esac
dir=$1
shift
days=${DAYS:-30}
umask 077
mkdir -p "$dir"
cd "$dir"

# NAME SUBJECT USAGE [SUBJECT_ALTERNATIVE_NAMES]: a key, and a certificate signed by the CA. Written to the side and moved,
# so that a server that watches never sees half of one.
certificate() {
  local name=$1 subject=$2 usage=$3 names=${4:-}
  if [ -s "$name.pem" ] && [ -s "$name.key" ] && openssl x509 -in "$name.pem" -noout -checkend 86400 >/dev/null &&
    openssl verify -CAfile ca.pem "$name.pem" >/dev/null 2>&1 && [ "$(cat "$name.names" 2>/dev/null)" = "$names" ]; then
    return
  fi
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$name.key.new"
  printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n' "$usage" >"$name.ext"
  [ -z "$names" ] || printf 'subjectAltName=%s\n' "$names" >>"$name.ext"
  openssl req -new -key "$name.key.new" -subj "$subject" |
    openssl x509 -req -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days "$days" -sha256 \
      -extfile "$name.ext" -out "$name.pem.new" 2>/dev/null
  mv "$name.key.new" "$name.key"
  mv "$name.pem.new" "$name.pem"
  printf '%s' "$names" >"$name.names"
  rm -f "$name.ext"
  echo "made $dir/$name.pem"
}

if [ ! -s ca.pem ] || [ ! -s ca.key ] || ! openssl x509 -in ca.pem -noout -checkend 86400 >/dev/null; then
  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out ca.key
  openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/O=doppel test/CN=doppel test CA" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.pem
  echo "made $dir/ca.pem"
fi

names=DNS:localhost,IP:127.0.0.1,IP:::1
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then names+=,IP:$name; else names+=,DNS:$name; fi
done
certificate server "/O=doppel test/CN=doppel-miner" serverAuth "$names"

for role in viewer trainer operator; do
  certificate "$role" "/O=doppel test/OU=$role/CN=test-$role" clientAuth "URI:spiffe://doppel.test/$role"
  [ -s "$role.token" ] || openssl rand -hex 32 >"$role.token"
done

if [ ! -s access ]; then
  {
    echo "# Who may do what: docs/security.md. Changes hold within a second."
    for role in viewer trainer operator; do
      salt=$(openssl rand -hex 8)
      echo "certificate CN=test-$role $role"
      echo "token $role-token $role sha256:$salt:$(printf '%s%s' "$salt" "$(cat "$role.token")" | sha256sum | cut -d' ' -f1)"
    done
  } >access.new
  mv access.new access
  echo "made $dir/access"
fi
