#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# H.265 over RTMP as FLV codec id 12 ('domestic'): FFmpeg >= 8.1, SRS, ZLMediaKit, mediamtx, nginx-rtmp.
# Ends on Ctrl-C, or IDLE_TIMEOUT milliseconds after the last frame (0, the default: never).
# FPS (30) is what x265enc is told; the wire does not say.
# nginx-rtmp and its like replay no H.265 header to players that come late: REPEAT_HEADER=true sends it with each key
# frame.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: rtmp-h265-domestic.sh TARGET rtmp://HOST/APP/STREAM" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
# The queue is before the conversion, so that frames which the encoder has no time for are not converted either; behind
# the encoder it would tear references apart.
exec gst-launch-1.0 cvmmapsrc uri="cvmmap://$1" idle-timeout="${IDLE_TIMEOUT:-0}" \
  ! video/x-raw,framerate="${FPS:-30}/1" \
  ! queue leaky=downstream max-size-buffers=1 ! videoconvert ! video/x-raw,format=I420 \
  ! x265enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h265parse \
  ! flvh265mux mode=domestic repeat-sequence-header="${REPEAT_HEADER:-false}" \
  ! rtmp2sink location="$2" chunk-size=65536 sync=false async=false
