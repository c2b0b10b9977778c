#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""A cv-mmap consumer from the contract page alone: prints a JSON line for each of N frames."""

import json
import mmap
import os
import struct
import sys

import numpy
import zmq

name, frames = sys.argv[1], int(sys.argv[2])
socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.CONFLATE, 1)
socket.setsockopt(zmq.SUBSCRIBE, b"")
socket.setsockopt(zmq.RCVTIMEO, 20000)
socket.connect(f"ipc:///tmp/cvmmap_{name}")

shown = 0
while shown < frames:
    message = socket.recv()
    magic, major, count, stamp, label = struct.unpack("<BxBxI8xQ24s", message)
    fd = os.open(f"/dev/shm/cvmmap_{name}", os.O_RDONLY)
    segment = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.close(fd)
    header = segment[:256]
    seen = {
        "magic": magic,
        "major": major,
        "count": count,
        "stamp": stamp,
        "label": label.rstrip(b"\0").decode(),
        "cv_mmap": header[:8].decode("ascii").rstrip("\0"),
        "version": [header[8], header[9]],
        "header_count": struct.unpack_from("<I", header, 0x0C)[0],
        "header_stamp": struct.unpack_from("<Q", header, 0x10)[0],
    }
    if (seen["header_count"], seen["header_stamp"]) != (count, stamp):
        # The next one is there already: we were held up.
        segment.close()
        continue
    shown += 1
    if header[8] == 1:
        width, height, channels, depth, pixel = struct.unpack_from("<HHBBB", header, 0x18)
        size, stride, offset = struct.unpack_from("<I", header, 0x20)[0], width * channels, 0
    else:
        seen["planes"], seen["mask"] = header[0x20], header[0x21]
        kind, pixel, depth, _, width, height, stride, offset, size = struct.unpack_from("<4B5I", header, 0x40)
        channels = {0: 3, 1: 3, 2: 4, 3: 4, 4: 1, 5: 3, 6: 2}[pixel]
    seen.update(width=width, height=height, channels=channels, depth=depth, pixel_format=pixel, size=size)
    picture = numpy.frombuffer(segment, numpy.uint8, size, 256 + offset).copy()
    rows = numpy.lib.stride_tricks.as_strided(picture, (height, width * channels), (stride, 1))
    seen["corner"] = rows[-1, -channels:].tolist()
    seen["sum"] = int(rows.sum(dtype=numpy.uint64))
    print(json.dumps(seen), flush=True)
    segment.close()
