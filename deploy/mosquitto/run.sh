#!/bin/sh
# Runs Mosquitto from the folder that `walt-loop broker` writes, and tells it when that folder has changed.
#
#   run.sh FOLDER [EVERY_S]
#
# `walt-loop identity` renews the broker's certificate and writes who is revoked. Where it runs in another container it
# cannot signal Mosquitto; so whoever runs Mosquitto looks. Lists and certificates are read anew (SIGHUP) without a
# connection being lost; listeners are not, so that a new mosquitto.conf ends the broker, and its supervisor starts it.
set -eu
folder=${1:?usage: run.sh FOLDER [EVERY_S]}
every_s=${2:-5}

lists() { cksum "$folder/acl" "$folder/devices.crl" "$folder/broker.pem"; }
conf() { cksum "$folder/mosquitto.conf"; }

# Files are replaced by renames, so that each is whole whenever it is read.
watch() {
  known_lists=$1 known_conf=$2
  while sleep "$every_s" && kill -0 "$$"; do
    now_lists=$(lists) && now_conf=$(conf) || continue
    [ "$now_conf" = "$known_conf" ] || exec kill -TERM "$$"
    [ "$now_lists" = "$known_lists" ] || kill -HUP "$$"
    known_lists=$now_lists
  done 2>/dev/null
}

[ -r "$folder/mosquitto.conf" ] || { echo "run.sh: no $folder/mosquitto.conf: walt-loop broker writes it" >&2; exit 2; }
PATH=$PATH:/usr/sbin:/usr/local/sbin
known_lists=$(lists)
known_conf=$(conf)
watch "$known_lists" "$known_conf" &
# The broker has our process id, so that signals of a supervisor reach it and nothing else.
exec mosquitto -c "$folder/mosquitto.conf"
