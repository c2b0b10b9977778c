#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# Records FRAMES frames (300) into an MP4 file. usage: record-mp4.sh TARGET FILE [FRAMES]
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: record-mp4.sh TARGET FILE [FRAMES]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
exec gst-launch-1.0 -e cvmmapsrc uri="cvmmap://$1" num-buffers="${3:-300}" \
  ! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency ! h264parse ! mp4mux ! filesink location="$2"
