#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What the FFmpeg program (9.0) reads from an FLV file, as JSON.

usage: tests/readers/ffmpeg.py [--decode] FILE
"""

import argparse
import json
import re
import subprocess
from pathlib import Path

FFMPEG = Path(__file__).resolve().parents[2] / "target/readers/ffmpeg"
CODECS = {"h264": "h264", "hevc": "h265", "aac": "aac", "mp3": "mp3"}
CHANNELS = {"mono": 1, "stereo": 2, "2.1": 3, "3.0": 3, "4.0": 4, "quad": 4, "5.0": 5, "5.1": 6, "6.1": 7, "7.1": 8}
# Times as they stand in the file, not moved to zero nor filled in, and key frames as the tags say, not as a parser
# finds; but where composition times are negative, this program alters times when it writes (see its warnings). All of
# the file is probed, so that a stream is found however late it begins.
INPUT = (
    "-copyts -correct_ts_overflow 0 -fflags +nofillin+noparse"
    " -analyzeduration 2000000000 -probesize 2000000000 -fpsprobesize 2000000000"
).split()


class Run:
    """One run of the program on the file: what it wrote, and what it complained of."""

    def __init__(self, path, *output):
        command = [FFMPEG, "-nostdin", "-hide_banner", "-loglevel", "level+warning", *INPUT, "-i", path, *output, "-"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        lines = done.stdout.splitlines()
        self.lines = [line for line in lines if not line.startswith("#")]
        self.header = dict(re.findall(r"^#(\w+) \d+: (.*)$", done.stdout, re.MULTILINE))
        complaints = [re.sub(r" @ 0x[0-9a-f]+", "", line) for line in done.stderr.splitlines()]
        self.warnings = [line for line in complaints if "[warning]" in line]
        self.errors = [line for line in complaints if line not in self.warnings]
        if done.returncode != 0 and not self.errors:
            self.errors.append(f"ffmpeg ended with {done.returncode}")
        # No such stream is no error.
        self.absent = any("Stream map" in line and "matches no streams" in line for line in self.errors)

    def rows(self):
        return ([field.strip() for field in line.split(",")] for line in self.lines)


def packets(run, video):
    """framecrc's lines: stream, dts, pts, duration, size, crc, and flags unless the packet is a mere key frame."""
    frames = []
    for _, dts, pts, _, size, _, *rest in run.rows():
        # The program unwraps the times of a file that wraps soon after its start: those before become negative.
        stands = int(dts) & 0xFFFFFFFF
        facts = {"dts": stands, "size": int(size)}
        if video:
            flags = [int(field[2:], 16) for field in rest if field.startswith("F=")]
            facts.update(pts=stands + int(pts) - int(dts), key=not flags or flags[0] & 1 == 1)
        frames.append(facts)
    return frames


def metadata(path):
    """As the program describes its input; in what it writes, the encoder is itself. Without what libavformat works out:
    width, height, codec ids, rates, duration."""
    command = [FFMPEG, "-nostdin", "-hide_banner", *INPUT, "-i", path]
    described = subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", check=False).stderr
    found = re.search(r"^Input #0.*\n  Metadata:\n((?:    .*\n)*)", described, re.MULTILINE)
    pairs = (line.partition(":") for line in found[1].splitlines()) if found else ()
    return {name.strip(): value.strip() for name, _, value in pairs}


def read(path, with_decoding):
    facts = {"video": None, "audio": None, "metadata": {}, "errors": [], "warnings": []}

    def run(*output):
        done = Run(path, *output)
        if not done.absent:
            for kind in ("errors", "warnings"):
                facts[kind] = list(dict.fromkeys(facts[kind] + getattr(done, kind)))
        return done

    # Leading frames that are no key frames are dropped without -copyinkf.
    for kind, selector in (("video", "v:0"), ("audio", "a:0")):
        done = run("-map", f"0:{selector}", "-c", "copy", "-copyinkf", "-f", "framecrc")
        if done.absent or "codec_id" not in done.header:
            continue
        codec = CODECS.get(done.header["codec_id"], done.header["codec_id"])
        frames = packets(done, kind == "video")
        if kind == "video":
            width, height = map(int, done.header["dimensions"].split("x"))
            facts[kind] = {"codec": codec, "width": width, "height": height, "frames": frames}
        else:
            channels = CHANNELS.get(done.header.get("channel_layout_name"))
            rate = int(done.header["sample_rate"])
            facts[kind] = {"codec": codec, "rate": rate, "channels": channels, "frames": frames}

    facts["metadata"] = metadata(path)
    if with_decoding and (facts["video"] or facts["audio"]):
        decoded = facts["decoded"] = {"frames": 0, "sha256": [], "samples": 0}
        if facts["video"]:
            # Not scaled to the first picture's size where it changes.
            planes = "-noautoscale -fps_mode passthrough -pix_fmt yuv420p -f framehash -hash sha256".split()
            done = run("-map", "0:v:0", *planes)
            decoded["sha256"] = [row[5] for row in done.rows()]
            decoded["frames"] = len(decoded["sha256"])
        if facts["audio"]:
            done = run("-map", "0:a:0", "-c:a", "pcm_s16le", "-f", "framecrc")
            bytes_per_sample = 2 * (CHANNELS.get(done.header.get("channel_layout_name")) or 1)
            decoded["samples"] = sum(int(row[4]) for row in done.rows()) // bytes_per_sample
    return facts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("file")
    args = parser.parse_args()
    print(json.dumps(read(args.file, args.decode)))


main()
