#!/usr/bin/env bash
# Makes a bearer token, writes it to standard output and its line, with a salted hash, to the end of an access file.
#
#   deploy/make-token.sh ACCESS_FILE NAME viewer|trainer|operator [EXPIRES] > token
#
# EXPIRES: for example 2027-01-31T00:00:00Z. The token itself is stored nowhere else: keep it where only its user reads it.
set -euo pipefail

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
  sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
access=$1 name=$2 role=$3 expires=${4:-}
case "$role" in viewer | trainer | operator) ;; *) echo "make-token: \"$role\" is not viewer, trainer or operator" >&2; exit 2 ;; esac
[[ $name =~ ^[A-Za-z0-9._@/-]+$ ]] || { echo "make-token: a name has letters, digits and ._@/- only" >&2; exit 2; }
[ -z "$expires" ] || [[ $expires =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$ ]] || { echo "make-token: \"$expires\" is not like 2027-01-31T00:00:00Z" >&2; exit 2; }
umask 077
token=$(openssl rand -hex 32)
salt=$(openssl rand -hex 8)
hash=$(printf '%s%s' "$salt" "$token" | sha256sum | cut -d' ' -f1)
new=$(mktemp "$access.XXXXXX")
trap 'rm -f "$new"' EXIT
if [ -e "$access" ]; then cat "$access" >"$new"; fi
echo "token $name $role sha256:$salt:$hash${expires:+ expires=$expires}" >>"$new"
if [ -e "$access" ]; then chmod --reference="$access" "$new"; fi
mv "$new" "$access"
trap - EXIT
echo "$token"
