#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# A segment of a data set (SEGMENT/SEGMENT_zed1.svo2, ...) as SEGMENT/SEGMENT_grid.mp4: the left views of all cameras in one
# picture, with its time. usage: svo-grid-to-mp4.sh SEGMENT [SECONDS]
set -euo pipefail
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "usage: svo-grid-to-mp4.sh SEGMENT [SECONDS]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$PATH:$here/target/release
exec cvmmap-streamer svo-grid-to-mp4 --segment-dir "$1" --codec h264 --preset fast \
  ${2:+--duration-seconds "$2"}
