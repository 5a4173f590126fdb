#!/usr/bin/env bash
# Makes every secret of compose.yaml that is not there yet, each readable by the one user that needs it.
#
#   sudo ./secrets.sh [FOLDER]        (default: ./secrets)
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
walt=10001 postgres=999 grafana=472

say() { printf 'secrets: %s\n' "$*" >&2; }
random() { head -c 32 /dev/urandom | base64 | tr -d '=+/\n' | cut -c1-40; }

# As they are written: nobody else, ever; without root they stay the caller's, and containers cannot read them.
put() { # NAME USER, text from the standard input
  local path=$folder/$1
  [ ! -e "$path" ] || { say "$1 is there"; cat >/dev/null; return; }
  (umask 377; cat >"$path.partial")
  if [ "$(id -u)" -eq 0 ]; then chown "$2:$2" "$path.partial"; fi
  mv "$path.partial" "$path"
  say "$1 is made"
}

mkdir -p "$folder"
chmod 711 "$folder"
rm -f "$folder"/*.partial
[ "$(id -u)" -eq 0 ] || say "not root: give each file to its user yourself (uid $walt, $postgres or $grafana)"

# What two files share is made together or not at all: a database knows its password from its first start on.
if [ ! -e "$folder/postgres_password" ] || [ ! -e "$folder/pgpass" ]; then
  if [ -e "$folder/postgres_password" ] || [ -e "$folder/pgpass" ]; then
    say "one of postgres_password and pgpass is missing: restore it from your copy"
    exit 1
  fi
  password=$(random)
  printf '%s' "$password" | put postgres_password "$postgres"
  printf 'database:5432:walt:walt:%s\n' "$password" | put pgpass "$walt"
fi
if [ ! -e "$folder/watch_password" ] || [ ! -e "$folder/watch_pgpass" ]; then
  rm -f "$folder/watch_password" "$folder/watch_pgpass"
  password=$(random)
  printf '%s' "$password" | put watch_password "$walt"
  printf 'database:5432:walt:watch:%s\n' "$password" | put watch_pgpass "$walt"
fi
if [ ! -e "$folder/s3_config" ] || [ ! -e "$folder/s3_credentials" ]; then
  rm -f "$folder/s3_config" "$folder/s3_credentials"
  id=$(random | cut -c1-20) key=$(random)
  printf '{"identities": [{"name": "walt", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
  "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}\n' "$id" "$key" | put s3_config "$walt"
  printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$id" "$key" | put s3_credentials "$walt"
fi
random | put grafana_password "$grafana"
