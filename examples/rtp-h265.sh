#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# H.265 over RTP (unicast UDP, payload type 96) to 127.0.0.1:5000, or to HOST PORT. Ends on Ctrl-C, or IDLE_TIMEOUT
# milliseconds after the last frame (0, the default: never). FPS (30) is what x265enc is told; the wire does not
# say.
#
# To watch it, start this first:
#
#   gst-launch-1.0 udpsrc port=5000 caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=H265,payload=96 \
#     ! rtpjitterbuffer latency=50 ! rtph265depay ! h265parse ! avdec_h265 ! videoconvert ! autovideosink
#
# or put these lines into cam.sdp, without the '#', and run: ffplay -protocol_whitelist file,udp,rtp cam.sdp
#
#   v=0
#   o=- 0 0 IN IP4 127.0.0.1
#   s=cam
#   c=IN IP4 127.0.0.1
#   t=0 0
#   m=video 5000 RTP/AVP 96
#   a=rtpmap:96 H265/90000
set -euo pipefail
[ $# -ge 1 ] && [ $# -le 3 ] || { echo "usage: rtp-h265.sh TARGET [HOST [PORT]]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
# The queue is before the conversion, so that frames which the encoder has no time for are not converted either.
exec gst-launch-1.0 cvmmapsrc uri="cvmmap://$1" idle-timeout="${IDLE_TIMEOUT:-0}" \
  ! video/x-raw,framerate="${FPS:-30}/1" \
  ! queue leaky=downstream max-size-buffers=1 ! videoconvert ! video/x-raw,format=I420 \
  ! x265enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h265parse config-interval=-1 \
  ! rtph265pay pt=96 aggregate-mode=zero-latency \
  ! udpsink host="${2:-127.0.0.1}" port="${3:-5000}" sync=false async=false
