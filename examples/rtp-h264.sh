#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# H.264 over RTP to 127.0.0.1:5000 (or HOST PORT). usage: rtp-h264.sh TARGET [HOST [PORT]]
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: rtp-h264.sh TARGET [HOST [PORT]]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
exec gst-launch-1.0 cvmmapsrc uri="cvmmap://$1" idle-timeout="${IDLE_TIMEOUT:-0}" \
  ! videoconvert ! video/x-raw,format=I420 ! queue leaky=downstream max-size-buffers=1 \
  ! x264enc tune=zerolatency speed-preset=superfast key-int-max=30 \
  ! rtph264pay config-interval=-1 ! udpsink host="${2:-127.0.0.1}" port="${3:-5000}"
