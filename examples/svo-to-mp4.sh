#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# The left view of a ZED recording as H.265 in MP4, from FRAME to FRAME where given. usage: svo-to-mp4.sh RECORDING FILE [FIRST [LAST]]
# With a GPU: nvh265enc in place of x265enc.
set -euo pipefail
[ $# -ge 2 ] && [ $# -le 4 ] || { echo "usage: svo-to-mp4.sh RECORDING FILE [FIRST [LAST]]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export GST_PLUGIN_PATH=${GST_PLUGIN_PATH:-$here/target/release/gstreamer-1.0}
part=$2.part
trap 'rm -f "$part"' EXIT
gst-launch-1.0 -e zedsvosrc location="$1" start-frame="${3:-0}" end-frame="${4:--1}" \
  ! videoconvert ! video/x-raw,format=I420 ! x265enc ! h265parse ! mp4mux ! filesink location="$part"
mv "$part" "$2"
