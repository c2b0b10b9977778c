#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What PyAV's libavformat (FFmpeg 8.1) reads from an FLV file, as JSON.

usage: target/readers/venv/bin/python tests/readers/pyav.py [--decode] FILE
"""

import argparse
import hashlib
import json

import av
import av.logging

CODECS = {"h264": "h264", "hevc": "h265", "aac": "aac", "mp3": "mp3", "mp3float": "mp3"}
# Times as they stand in the file, neither unwrapped nor filled in, and key frames as the tags say, not as a parser
# finds. All of the file is probed: a stream that turns up later is not expected by PyAV.
OPTIONS = {
    "correct_ts_overflow": "0",
    "fflags": "+nofillin+noparse",
    "analyzeduration": "2000000000",
    "probesize": "2000000000",
    "fpsprobesize": "2000000000",
}


def packet_facts(packet):
    facts = {"dts": packet.dts, "size": packet.size}
    if packet.stream.type == "video":
        facts.update(pts=packet.pts, key=packet.is_keyframe)
    return facts


def picture_hash(frame):
    """Of the packed I420 planes; lines are padded in memory."""
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p")
    sha = hashlib.sha256()
    for plane in frame.planes:
        data = memoryview(plane)
        for row in range(plane.height):
            sha.update(data[row * plane.line_size :][: plane.width])
    return sha.hexdigest()


def decode(path, decoded, errors):
    for kind in ("video", "audio"):
        with av.open(path, options=OPTIONS) as file:
            streams = getattr(file.streams, kind)
            for packet in file.demux(streams[0]) if streams else ():
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    errors.append(f"decoding {kind} at {packet.dts} ms: {error}")
                    continue
                for frame in frames:
                    if kind == "audio":
                        decoded["samples"] += frame.samples
                    else:
                        decoded["frames"] += 1
                        decoded["sha256"].append(picture_hash(frame))


def read(path):
    facts = {"video": None, "audio": None, "metadata": {}, "errors": [], "warnings": []}
    try:
        with av.open(path, options=OPTIONS) as file:
            streams = {}
            for stream in file.streams:
                context, codec = stream.codec_context, CODECS.get(stream.codec_context.name, stream.codec_context.name)
                if stream.type == "video":
                    known = {"codec": codec, "width": context.width, "height": context.height, "frames": []}
                elif stream.type == "audio":
                    known = {"codec": codec, "rate": context.sample_rate, "channels": context.channels, "frames": []}
                else:
                    # Script data later than 0 ms, onMetaData too, is 'subtitles' for libavformat.
                    facts["warnings"].append(f"a stream of type {stream.type}")
                    continue
                if facts[stream.type]:
                    facts["errors"].append(f"a second {stream.type} stream: {codec}")
                    continue
                facts[stream.type] = streams[stream.index] = known
            # Without what libavformat works out itself: width, height, codec ids, rates, duration.
            facts["metadata"] = dict(file.metadata)
            for packet in file.demux(*(file.streams[index] for index in streams)):
                # The packets that flush decoders at the end are empty and have no time.
                if packet.dts is not None and packet.stream_index in streams:
                    streams[packet.stream_index]["frames"].append(packet_facts(packet))
    except av.FFmpegError as error:
        facts["errors"].append(str(error))
    return facts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("file")
    args = parser.parse_args()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    # What the decoders' threads log is caught as well.
    with av.logging.Capture(local=False) as log:
        facts = read(args.file)
        if args.decode and (facts["video"] or facts["audio"]):
            facts["decoded"] = {"frames": 0, "sha256": [], "samples": 0}
            try:
                decode(args.file, facts["decoded"], facts["errors"])
            except av.FFmpegError as error:
                facts["errors"].append(str(error))
    for level, name, message in log:
        facts["errors" if level <= av.logging.ERROR else "warnings"].append(f"{name}: {message.strip()}")
    for kind in ("errors", "warnings"):
        facts[kind] = list(dict.fromkeys(facts[kind]))
    print(json.dumps(facts))


main()
