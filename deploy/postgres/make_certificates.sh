#!/bin/sh
# A certificate for PostgreSQL, and an authority that signed it, where no authority of yours does:
#
#   deploy/postgres/make_certificates.sh db.example.org [FOLDER]
#
# FOLDER (`secrets` by default) gets ca.pem, which every worker needs, and server.crt and server.key,
# which PostgreSQL needs. The authority's own key is thrown away: for another certificate, run this
# again and give everybody the new ca.pem. Run by sudo, it leaves FOLDER and what others may read to
# the user who called sudo, so that the next command needs no sudo.
set -eu
host=${1:?the name by which workers reach PostgreSQL}
folder=${2:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
  -subj "/CN=Trialfleet CA" -addext "basicConstraints=critical,CA:TRUE" \
  -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$host" \
  -keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
# Services beside PostgreSQL reach it as `postgres`.
printf 'subjectAltName=DNS:%s,DNS:postgres\nextendedKeyUsage=serverAuth\n' "$host" >"$work/extensions"
openssl x509 -req -in "$work/server.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
  -days 3650 -extfile "$work/extensions" -out "$work/server.crt" 2>/dev/null
cp "$work/ca.pem" "$work/server.crt" "$work/server.key" "$folder/"
chmod 444 "$folder/ca.pem" "$folder/server.crt"
# PostgreSQL, user 999 in its container, takes a key that is its own and nobody else's.
chmod 600 "$folder/server.key"
chown 999:999 "$folder/server.key" 2>/dev/null \
  || echo "now: sudo chown 999:999 $folder/server.key" >&2
if [ -n "${SUDO_UID:-}" ]; then
  chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$folder" "$folder/ca.pem" "$folder/server.crt"
fi
echo "made $folder/ca.pem, $folder/server.crt and $folder/server.key for $host"
