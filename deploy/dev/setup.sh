#!/usr/bin/env bash
# Sets up a checkout on Debian: system packages where they are missing, then .venv with pinned versions.
#
#   deploy/dev/setup.sh EXTRAS        e.g. deploy/dev/setup.sh cpu,loop,render
#
# WALT_APT=0   lists the missing system packages instead of installing them
# PYTHON=...   the interpreter to use (default: python3.11, else python3; at least 3.11)
set -euo pipefail
cd "$(dirname "$0")/../.."

extras=${1:?usage: deploy/dev/setup.sh EXTRAS}

# What the demo and the tests start as children or load: a broker, a database, GStreamer's RTSP server, OpenGL without a screen.
system_packages=(
  python3-venv
  mosquitto postgresql
  libegl1 libgl1-mesa-dri
  python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
)

# What only tests need: a browser that looks at the pages, and promtool that reads the alert rules.
case ",$extras," in *,dev,*) system_packages+=(chromium prometheus) ;; esac

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

missing_packages() {
  command -v dpkg-query >/dev/null || return 0
  local name
  for name in "${system_packages[@]}"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$name"
  done
}

# Debian starts a daemon as soon as its package is installed, unless policy-rc.d says no.
apt_install() {
  local root=(env)
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || die "system packages are missing and this is not root: sudo apt-get install --no-install-recommends $*   (or WALT_APT=0 to go on without)"
    root=(sudo -n)
  fi
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
    trap '"${root[@]}" rm -f "$policy"' RETURN
  fi
  say "installing system packages: $*"
  local options=(-y -qq --no-install-recommends -o DPkg::Lock::Timeout=300)
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq || die "apt-get update failed: is a package mirror reachable?"
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" >/dev/null \
    || die "apt-get could not install: $*"
}

find_python() {
  local name
  for name in ${PYTHON:-python3.11 python3}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  die "no Python of at least 3.11 found: install python3.11 or set PYTHON=/path/to/python"
}

missing=$(missing_packages)
if [ -n "$missing" ]; then
  if [ "${WALT_APT:-1}" = 0 ]; then
    say "missing system packages (WALT_APT=0, not installed): $missing"
  else
    # shellcheck disable=SC2086
    apt_install $missing
  fi
fi

stamp=.venv/.walt-$(cat pyproject.toml constraints.txt "$0" | sha256sum | cut -c1-16)-${extras//,/-}
if [ ! -e "$stamp" ]; then
  python=$(find_python)
  [ -x .venv/bin/python ] || "$python" -m venv .venv || die "cannot make .venv with $python: is python3-venv installed?"
  say "installing walt-amodal[$extras] into .venv (pinned by constraints.txt)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]" \
    || die "pip could not install walt-amodal[$extras]: is a package index reachable?"
  rm -f .venv/.walt-*
  touch "$stamp"
fi
