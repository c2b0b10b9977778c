#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# H.264 over RTMP (FLV codec id 7), which every server and player reads.
# Ends on Ctrl-C, or IDLE_TIMEOUT milliseconds after the last frame (0, the default: never).
# To watch it from a server: ffplay rtmp://HOST/APP/STREAM
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: rtmp-h264.sh TARGET rtmp://HOST/APP/STREAM" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
# The queue is before the conversion, so that frames which the encoder has no time for are not converted either; behind
# the encoder it would tear references apart.
exec gst-launch-1.0 cvmmapsrc uri="cvmmap://$1" idle-timeout="${IDLE_TIMEOUT:-0}" \
  ! queue leaky=downstream max-size-buffers=1 ! videoconvert ! video/x-raw,format=I420 \
  ! x264enc tune=zerolatency speed-preset=superfast key-int-max=30 ! h264parse \
  ! flvh265mux \
  ! rtmp2sink location="$2" chunk-size=65536 sync=false async=false
