#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# A segment of a data set (SEGMENT/SEGMENT_zed1.svo2, ...) as SEGMENT/SEGMENT.mcap for Foxglove, with the groups that its
# cameras' frames form. usage: svo-to-mcap.sh SEGMENT [FOLDER_OF_CALIBRATIONS]
set -euo pipefail
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "usage: svo-to-mcap.sh SEGMENT [FOLDER_OF_CALIBRATIONS]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$PATH:$here/target/release
exec cvmmap-streamer svo-to-mcap --segment-dir "$1" --view side-by-side \
  ${2:+--calibration "$2"}
