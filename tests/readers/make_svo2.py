#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Makes an SVO2 recording of a bitstream, and tells in JSON what is in it: time, key frame, size and SHA-256 of each frame.

usage: target/readers/venv/bin/python tests/readers/make_svo2.py OUT h264|h265 BITSTREAM WIDTH HEIGHT [OPTION...]

BITSTREAM: Annex B with an access unit delimiter before each picture; WIDTH is that of both pictures side by side.
--compression none|lz4|zstd   --chunk-size BYTES   --no-chunks   --no-summary   --no-footer   --no-indexes
--drop N,N...   frames that were never recorded, by their number in the bitstream
--jitter NS     times that are off by up to this   --skip N   begins at this picture
--sensors N     samples of the IMU per frame, and one integrated   --truncate BYTES   cuts the file
"""

import argparse
import base64
import hashlib
import json
import pathlib
import random
import struct

from mcap.writer import CompressionType, IndexType, Writer

DELIMITERS = {"h264": b"\0\0\0\1\x09", "h265": b"\0\0\0\1\x46\x01"}
SERIAL, FPS = 38486288, 30
START = 1_763_917_200_000_000_000
BOOT = START - 60_000_000_000


def is_key(codec, unit):
    kinds = [nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63 for nal in unit.split(b"\0\0\1")[1:]]
    return any(kind == 5 if codec == "h264" else 16 <= kind <= 21 for kind in kinds)


def header(width, height):
    block = bytearray(128)
    struct.pack_into("<IIIIIIIII", block, 0, width, height, SERIAL, FPS, 0, 8, 0, 1000, 2001)
    struct.pack_into("<f", block, 0x60, 1.0)
    text = lambda data: base64.b64encode(data).decode()  # noqa: E731
    fields = {"Calib_acc": text(bytes(72)), "Calib_gyro": text(bytes(72)), "IMU_frequency": 200.0}
    return json.dumps({**fields, "ZED_SDK_version": "5.0.0", "version": "2.0.0", "header": text(block)}).encode()


def sample(kind, boot, unix, number):
    block = bytearray(360)
    block[1] = kind
    struct.pack_into("<QQ", block, 8, boot, unix)
    struct.pack_into("<4f", block, 0x3C, 0, 0, 0, 1)
    struct.pack_into("<6f", block, 0x58, number, 2, 3, 0, -9.81, 0)
    struct.pack_into("<f", block, 0xE4, 36.5)
    struct.pack_into("<f", block, 0x15C, 200.0)
    return json.dumps({"data": base64.b64encode(block).decode()}).encode()


def frame(unit, width, height, time, key, last_key, number):
    footer = bytearray(56)
    struct.pack_into("<IIIiii", footer, 0, width, height, 0x5C002C00, 1, 2, -1)
    struct.pack_into("<QIiiI", footer, 0x18, time, len(unit), 3 if key else 0, last_key, number)
    return struct.pack("<II", len(unit) + 60, len(unit)) + unit + footer


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    for name in ["out", "codec", "bitstream"]:
        parser.add_argument(name)
    for name in ["width", "height"]:
        parser.add_argument(name, type=int)
    parser.add_argument("--compression", default="none")
    for name in ["chunk-size", "jitter", "sensors", "truncate", "skip"]:
        parser.add_argument(f"--{name}", type=int)
    for name in ["no-chunks", "no-summary", "no-footer", "no-indexes"]:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--drop", default="")
    args = parser.parse_args()
    delimiter = DELIMITERS[args.codec]
    units = [delimiter + rest for rest in pathlib.Path(args.bitstream).read_bytes().split(delimiter)[1:]]
    dropped = {int(number) for number in args.drop.split(",") if number}
    units = [(i, u) for i, u in enumerate(units) if i not in dropped and i >= (args.skip or 0)]
    off = random.Random(6)

    with open(args.out, "wb") as stream:
        writer = Writer(
            stream,
            chunk_size=args.chunk_size or 1 << 20,
            compression=CompressionType[args.compression.upper()],
            index_types=IndexType.MESSAGE if args.no_summary else IndexType.CHUNK if args.no_indexes else IndexType.ALL,
            use_chunking=not args.no_chunks,
            use_statistics=not args.no_summary,
            use_summary_offsets=not args.no_summary,
            repeat_channels=not args.no_summary,
            repeat_schemas=not args.no_summary,
        )
        writer.start(profile="", library="libmcap stereolabs")
        camera = f"Camera_SN{SERIAL}"
        times = {}

        def add(topic, time, data, channels={}):
            if topic not in channels:
                video = topic.endswith("side_by_side")
                schema = writer.register_schema("zed_sdk_encoded" if video else "sl_type", "jsonschema", b"{}")
                channels[topic] = writer.register_channel(topic, "zed_sdk_encoded" if video else "json", schema)
            writer.add_message(channels[topic], time, data, time, len(times.setdefault(topic, [])))
            times[topic].append(time)

        add("svo_header", 1, header(args.width, args.height))
        told, last_key = [], 0
        for number, (position, unit) in enumerate(units):
            time = START + position * 1_000_000_000 // FPS + (off.randint(0, args.jitter) if args.jitter else 0)
            key = is_key(args.codec, unit)
            last_key = number if key else last_key
            for i in range(args.sensors or 0):
                at = time - (args.sensors - 1 - i) * 1_000_000
                add(f"{camera}/sensors", at, sample(0x33, at - BOOT, at, number))
            add(f"{camera}/side_by_side", time, frame(unit, args.width, args.height, time, key, last_key, number))
            if args.sensors:
                add(f"{camera}/integrated_sensors", time, sample(0x26, time - BOOT, time, number))
            told.append({"time": time, "key": key, "size": len(unit), "sha256": hashlib.sha256(unit).hexdigest()})
        if not args.no_footer:
            add("svo_footer", 1, json.dumps(times).encode())
        writer.finish()
    if args.truncate is not None:
        with open(args.out, "r+b") as stream:
            stream.truncate(args.truncate)
    print(json.dumps({"serial": str(SERIAL), "frames": told}))


main()
