#!/usr/bin/env bash
# Makes the Secrets that the manifests name, once, from deploy/compose/secrets.sh; nothing of it stays on this machine.
#
#   deploy/kubernetes/secrets.sh            then apply an overlay; walt-web-tls and walt-updates-tls are yours to make
#   deploy/kubernetes/secrets.sh workers    once identity runs, and after it has renewed: what workers show the broker
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
namespace=${WALT_NAMESPACE:-walt}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

say() { printf 'secrets: %s\n' "$*" >&2; }
there() { kubectl -n "$namespace" get secret "$1" >/dev/null 2>&1; }

make() { # NAME KEY=FILE...
  local name=$1
  shift
  if there "$name"; then say "$name is there"; return; fi
  kubectl -n "$namespace" create secret generic "$name" "${@/#/--from-file=}" >/dev/null
  say "$name is made"
}

case ${1:-first} in
  first)
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl apply -f "$here/base/namespace.yaml" >/dev/null
    "$here/../compose/secrets.sh" "$folder" 2>/dev/null
    make walt-database "password=$folder/postgres_password" "watch-password=$folder/watch_password"
    make walt-blobs "config=$folder/s3_config" "credentials=$folder/s3_credentials"
    make walt-grafana "password=$folder/grafana_password"
    ;;
  workers)
    kubectl -n "$namespace" exec deploy/identity -c identity -- tar -C /var/lib/walt/workers -c . | tar -C "$folder" -x
    [ -s "$folder/ingest-group" ] || { say "identity has no workers' files yet: read its log"; exit 1; }
    kubectl -n "$namespace" create secret generic walt-workers --from-file="$folder" --dry-run=client -o yaml \
      | kubectl -n "$namespace" apply -f - >/dev/null
    say "walt-workers is up to date; programs read it at their next connection"
    ;;
  *) say "usage: secrets.sh [workers]"; exit 2 ;;
esac
