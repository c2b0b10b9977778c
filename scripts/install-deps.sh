#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# Installs the Debian packages that building, the demo and the tests need, and only those that are missing.
set -euo pipefail

packages=(
  # building
  pkg-config gcc g++ libc6-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libzmq3-dev
  # running: tools, and the plugins with x264enc, x265enc, h26xparse, RTP, shm, PNG and avdec_*
  gstreamer1.0-tools gstreamer1.0-plugins-base-apps gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
  # the independent producer and consumer of the tests
  python3 python3-numpy python3-zmq
  # the Python example of cvmmapsrc's actions and bodies
  python3-gi gir1.2-gstreamer-1.0
  # the independent readers and the RTMP server of the tests; see install-readers.sh
  python3-venv nginx libnginx-mod-rtmp
  # the server of the control plane's tests
  nats-server
  # what counts the allocations in the benchmarks
  valgrind
)
# A node from elsewhere conflicts with Debian's.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust 1.92 or later from https://rustup.rs" >&2
  exit 1
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

echo "installing: ${missing[*]}"
if [ "$(id -u)" = 0 ]; then
  root=()
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  root=(sudo)
else
  echo "these packages are missing, and neither root nor sudo is there to install them:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  exit 1
fi
# The tests run these servers themselves; Debian would start them on their usual ports, now and at every boot.
services=()
for service in nginx nats-server; do
  [[ " ${missing[*]} " != *" $service "* ]] || services+=("$service")
done
policy=/usr/sbin/policy-rc.d
if [ "${#services[@]}" -gt 0 ] && [ ! -e "$policy" ]; then
  trap '"${root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" install -m 755 /dev/stdin "$policy"
fi
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
for service in "${services[@]}"; do
  # update-rc.d knows only services with an init script; a unit without one is enabled by a link alone.
  if [ -e "/etc/init.d/$service" ]; then
    "${root[@]}" update-rc.d "$service" disable
  else
    "${root[@]}" rm -f "/etc/systemd/system/"*.wants/"$service.service"
  fi
done
