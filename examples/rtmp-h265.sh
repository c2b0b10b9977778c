#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# H.265 over RTMP. usage: rtmp-h265.sh TARGET rtmp://HOST/APP/STREAM [enhanced|domestic]
# FPS (30) is what x265enc is told; the wire does not say.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: rtmp-h265.sh TARGET rtmp://HOST/APP/STREAM [enhanced|domestic]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
exec gst-launch-1.0 cvmmapsrc uri="cvmmap://$1" idle-timeout="${IDLE_TIMEOUT:-0}" \
  ! video/x-raw,framerate="${FPS:-30}/1" ! videoconvert ! video/x-raw,format=I420 ! queue leaky=downstream max-size-buffers=1 \
  ! x265enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h265parse \
  ! flvh265mux mode="${3:-enhanced}" ! rtmp2sink location="$2" chunk-size=65536
