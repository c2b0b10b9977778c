#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# All ZED recordings below a folder as MP4 beside them: those that are missing, and those that a power cut left half-written.
# usage: batch.sh FOLDER [FLAG...]; `--copy` is as fast as the disk, and takes both views
# Afterwards it tells how many outputs are whole. It can be ended and started again at any time.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: batch.sh FOLDER [FLAG...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$PATH:$here/target/release
folder=$1
shift
status=0
cvmmap-streamer batch svo-to-mp4 "$folder" --recursive --probe-existing "$@" || status=$?
cvmmap-streamer batch svo-to-mp4 "$folder" --recursive --report-existing || status=$?
exit $status
