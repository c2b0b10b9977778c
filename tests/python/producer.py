#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""A cv-mmap producer from the contract page alone: payload, metadata, sync message, in that order."""

import mmap
import os
import struct
import sys
import time

import numpy
import zmq

name, frames = sys.argv[1], int(sys.argv[2])
width, height = 160, 120
payload = width * height * 3

fd = os.open(f"/dev/shm/cvmmap_{name}", os.O_CREAT | os.O_RDWR, 0o644)
os.ftruncate(fd, 256 + payload)
segment = mmap.mmap(fd, 256 + payload)
socket = zmq.Context.instance().socket(zmq.PUB)
socket.bind(f"ipc:///tmp/cvmmap_{name}")

for count in range(frames):
    stamp = time.time_ns()
    segment[256:] = numpy.full(payload, count % 251, dtype=numpy.uint8).tobytes()
    segment[:256] = struct.pack(
        "<8sBBxxIQHHBBBxI220x", b"CV-MMAP\0", 1, 0, count, stamp, width, height, 3, 0, 1, payload
    )
    socket.send(struct.pack("<BxBBI8xQ24s", 0x7D, 1, 0, count, stamp, name.encode()))
    time.sleep(1 / 60)
os.unlink(f"/dev/shm/cvmmap_{name}")
