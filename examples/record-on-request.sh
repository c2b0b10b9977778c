#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# Streams H.264 over RTP to 127.0.0.1:5000 (RTP_ENDPOINT), and meanwhile records SECONDS (10) of it on request, to MP4 and to
# MCAP in FOLDER. Nothing is encoded twice. The NATS server is $CVMMAP_NATS_URL, or nats://localhost:4222.
#
# To try it without a camera, start these first:
#
#   nats-server -a 127.0.0.1 &
#   cvmmap-streamer sim cam0 --nats-url nats://localhost:4222 --bodies 2 &
set -euo pipefail
[ $# -ge 2 ] && [ $# -le 3 ] || { echo "usage: record-on-request.sh TARGET FOLDER [SECONDS]" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$PATH:$here/target/release
name=$(date +%Y%m%d-%H%M%S)
record() { cvmmap-streamer control "$target" record "$@"; }
target=$1

cvmmap-streamer run --uri "$target" --codec h264 --encoder software --rtp \
  --rtp-endpoint "${RTP_ENDPOINT:-127.0.0.1:5000}" --record-dir "$2" &
run=$!
trap 'kill "$run" 2>/dev/null && wait "$run" || :' EXIT

# It answers once it streams and the server is there; whoever asks earlier is told that nobody does.
for _ in $(seq 20); do
  record status --format mp4 >/dev/null 2>&1 && break
  kill -0 "$run" 2>/dev/null || exit 1
  sleep 0.5
done

record start --format mp4 --path "$name.mp4"
record start --format mcap --streamer --path "$name.mcap"
sleep "${3:-10}"
record stop --format mp4
record stop --format mcap --streamer
