#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# A simulated camera, a real gst-launch-1.0 that encodes and sends it over RTP, and another that receives and decodes.
# Then a replay on the control plane: it is found, asked and seeked in over NATS, and shows the frame behind the seek.
# Then a ZED recording: one frame of its left view by number, and a part of it as MP4.
# Then a segment of four cameras: one picture of all, MCAP, and a picture of its times.
# Writes a PNG of a frame of each and a summary; ends by itself; fails where a picture did not get through, or another.
set -euo pipefail
cd "$(dirname "$0")/.."

streamer=target/release/cvmmap-streamer
out=${DEMO_OUT:-target/demo}
frames=${DEMO_FRAMES:-150}
export GST_PLUGIN_PATH=$PWD/target/release/gstreamer-1.0
export GST_REGISTRY=$PWD/target/release/gstreamer-1.0/registry.bin
target=demo-$$

rm -rf "$out"
mkdir -p "$out/received"
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || :; done' EXIT

# A free port on loopback: it is asked for, and given back right before the receiver takes it.
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

gst-launch-1.0 -e -q udpsrc address=127.0.0.1 port="$port" timeout=1000000000 \
  caps="application/x-rtp,media=video,clock-rate=90000,encoding-name=H264" \
  ! rtpjitterbuffer latency=50 ! rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! pngenc compression-level=1 \
  ! multifilesink location="$out/received/%05d.png" >"$out/receiver.log" 2>&1 &
receiver=$!
pids+=("$receiver")

gst-launch-1.0 -m cvmmapsrc uri="cvmmap://$target" idle-timeout=1500 \
  ! queue leaky=downstream max-size-buffers=1 ! videoconvert ! video/x-raw,format=I420 \
  ! x264enc tune=zerolatency speed-preset=superfast key-int-max=30 ! h264parse config-interval=-1 \
  ! rtph264pay aggregate-mode=zero-latency ! udpsink host=127.0.0.1 port="$port" >"$out/sender.log" 2>&1 &
sender=$!
pids+=("$sender")

# The sender waits for its producer, as it would for a camera.
for _ in $(seq 100); do
  grep -q 'state=(string)waiting' "$out/sender.log" && break
  sleep 0.1
done
echo "simulating a 640x360 camera at 30 frames/s for $((frames / 30)) s, over RTP on port $port ..."
"$streamer" sim "$target" --size 640x360 --fps 30 --frames "$frames" --json >"$out/sim.json" 2>"$out/sim.log" &
sim=$!
pids+=("$sim")
wait "$sim"
wait "$sender"
sleep 1
kill -INT "$receiver" 2>/dev/null || :
wait "$receiver" || :

stat() { sed -n "s/.*cvmmapsrc-stats,.* $1=([a-z0-9]*)\([0-9]*\).*/\1/p" "$out/sender.log" | tail -1; }
ms() { awk -v ns="$1" 'BEGIN { printf "%.2f ms", ns / 1e6 }'; }
sent=$(sed -n 's/.*"frames":\([0-9]*\).*/\1/p' "$out/sim.json")
read_frames=$(stat frames)
torn=$(stat torn)
received=$(find "$out/received" -name '*.png' | wc -l)
if [ "$received" -eq 0 ] || [ -z "$read_frames" ]; then
  echo "demo: no picture came through; see the logs in $out" >&2
  tail -n 5 "$out"/*.log >&2
  exit 1
fi
picture=$(find "$out/received" -name '*.png' | sort | sed -n "$((received / 2 + 1))p")
cp "$picture" "$out/demo.png"
rm -r "$out/received"

cat <<EOF

  cv-mmap demo: sim -> cvmmapsrc -> x264enc -> RTP -> avdec_h264
  ---------------------------------------------------------------
  frames sent by the producer     $sent (those before the source was connected are not its to lose)
  frames read by cvmmapsrc        $read_frames (torn $torn, dropped $(stat dropped))
  frames received and decoded     $received
  announcement to push            p50 $(ms "$(stat latency-p50)"), p99 $(ms "$(stat latency-p99)")
  capture to push                 p50 $(ms "$(stat capture-latency-p50)"), p99 $(ms "$(stat capture-latency-p99)")
  a received frame                $out/demo.png
  logs                            $out/

EOF
# Half is far from what a working system loses.
if [ "$((received * 2))" -lt "$sent" ]; then
  echo "demo: only $received of $sent frames came through" >&2
  exit 1
fi

# A replay of 20 s on a server of its own. 12 s into it is frame 360.
nats=$(PATH=$PATH:/usr/sbin command -v nats-server)
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export CVMMAP_NATS_URL=nats://127.0.0.1:$port
"$nats" -a 127.0.0.1 -p "$port" >"$out/nats.log" 2>&1 &
pids+=("$!")
replay=replay-$$
"$streamer" sim "$replay" --size 640x360 --fps 30 --replay 20 --nats-url "$CVMMAP_NATS_URL" >"$out/replay.log" 2>&1 &
pids+=("$!")
echo "simulating a replay of 20 s on the control plane, with a NATS server on port $port ..."
for _ in $(seq 100); do
  "$streamer" discover >"$out/discover.txt" 2>&1 || :
  grep -q "cvmmap://$replay .* nats+shm " "$out/discover.txt" && break
  sleep 0.1
done
if ! found=$(grep "cvmmap://$replay .* nats+shm " "$out/discover.txt"); then
  echo "demo: the replay was not found over NATS; see $out/replay.log and $out/nats.log" >&2
  exit 1
fi
"$streamer" control "$replay" info >"$out/info.txt"
"$streamer" control "$replay" seek 12s >"$out/seek.txt"
# It goes on from there; what identity says of the picture is the frame count that must stand in it.
gst-launch-1.0 -v cvmmapsrc uri="cvmmap://$replay" num-buffers=1 idle-timeout=5000 ! identity silent=false \
  ! videoconvert ! pngenc compression-level=1 ! filesink location="$out/seek.png" >"$out/picture.log" 2>&1

fact() { sed -n "s/^$2: //p" "$out/$1.txt"; }
was=$(fact info current_frame_count)
landed=$(fact seek landed_frame_count)
shown=$(sed -n 's/.*offset: \([0-9]*\),.*/\1/p' "$out/picture.log" | head -1)
cat <<EOF

  cv-mmap demo: the control plane
  ---------------------------------------------------------------
  found                           $(echo $found)
  asked                           $(fact info kind), $(fact info flags); $(awk -v ns="$(fact info duration_ns)" 'BEGIN { print ns / 1e9 }') s, at frame $was
  seek to 12 s                    landed at $(fact seek landed_seconds) s, frame $landed
  the next picture                frame $shown, $out/seek.png

EOF
if [ "$landed" -ne 360 ] || [ ! -s "$out/seek.png" ] || [ -z "$shown" ] || [ "$shown" -lt "$landed" ] \
  || [ "$was" -ge "$landed" ]; then
  echo "demo: the seek did not lead to its picture; see the logs in $out" >&2
  exit 1
fi

# A recording of 10 s with two key frames, at 0 and at 250: frame 217 takes decoding 218.
recording=$out/zed.svo2
echo "simulating a ZED recording of 10 s, 960x600 for each eye, H.264 ..."
"$streamer" sim --svo2 "$recording" --encoded h264 --size 960x600 --fps 30 --frames 300 --gop 250 2>"$out/zed.log"
gst-launch-1.0 -v zedsvosrc location="$recording" start-frame=217 end-frame=217 ! identity silent=false \
  ! videoconvert ! pngenc compression-level=1 ! filesink location="$out/zed.png" >"$out/zed-frame.log" 2>&1
"$streamer" svo-to-mp4 --input "$recording" --output "$out/zed.mp4" --start-frame 100 --end-frame 199 --preset fast \
  --json >"$out/zed-mp4.json" 2>"$out/zed-mp4.log"

shown=$(sed -n 's/.*offset: \([0-9]*\),.*/\1/p' "$out/zed-frame.log" | xargs)
said() { sed -n "s/.*\"$1\":\"*\([^,\"}]*\).*/\1/p" "$out/zed-mp4.json"; }
cat <<EOF

  cv-mmap demo: a ZED recording, without SDK or GPU
  ---------------------------------------------------------------
  recording                       $recording, $(du -h "$recording" | cut -f1)
  frame 217 of the left view      frame $shown, $out/zed.png
  frames 100 to 199 as MP4        $(said frames) frames, $(said codec) by $(said encoder), $out/zed.mp4

EOF
if [ "$shown" != 217 ] || [ ! -s "$out/zed.png" ] || [ "$(said frames)" != 100 ] || [ ! -s "$out/zed.mp4" ]; then
  echo "demo: the recording did not give the frames that were asked for; see the logs in $out" >&2
  exit 1
fi

# Four cameras of one segment, which begin apart; the second loses two frames.
segment=$out/segment
rm -rf "$segment"
mkdir -p "$segment"
echo "simulating a segment of four ZED cameras, 4 s of 480x300 for each eye ..."
for camera in 1 2 3 4; do
  lose=()
  [ "$camera" = 2 ] && lose=(--svo2-lose 60 --svo2-lose 60)
  "$streamer" sim --svo2 "$segment/segment_zed$camera.svo2" --encoded h264 --size 480x300 --fps 30 --frames 120 \
    --svo2-begin-ms $((camera * 105)) "${lose[@]}" 2>>"$out/segment.log"
done
for command in svo-grid-to-mp4 svo-to-mcap; do
  "$streamer" "$command" --segment-dir "$segment" --codec h264 --preset fast --json >"$out/$command.json" 2>>"$out/segment.log"
done
"$streamer" timeline "$segment" --json >"$out/timeline.json" 2>>"$out/segment.log"
gst-launch-1.0 -q filesrc location="$segment/segment_grid.mp4" ! decodebin ! videoconvert ! identity eos-after=30 \
  ! pngenc snapshot=false compression-level=1 ! multifilesink max-files=1 location="$out/grid-%d.png" >>"$out/segment.log" 2>&1
picture=$(ls "$out"/grid-*.png | tail -1)

count() { sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p" "$out/$1.json"; }
groups=$(count timeline count)
cat <<EOF

  cv-mmap demo: four cameras of one segment
  ---------------------------------------------------------------
  groups                          $groups, $(count timeline complete) of them complete: $segment/segment_timeline.svg
  one picture of all              $(count svo-grid-to-mp4 width)x$(count svo-grid-to-mp4 height), $segment/segment_grid.mp4, $picture
  MCAP for Foxglove               $(count svo-to-mcap groups) groups, $(du -h "$segment/segment.mcap" | cut -f1), $segment/segment.mcap

EOF
if [ -z "$groups" ] || [ "$groups" -lt 100 ] || [ "$(count svo-grid-to-mp4 groups)" != "$groups" ] \
  || [ "$(count svo-to-mcap groups)" != "$groups" ] || [ ! -s "$picture" ]; then
  echo "demo: the groups of the segment are not the same for all; see the logs in $out" >&2
  exit 1
fi
