#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""The Python peer: waits for FRAMES announcements and copies each payload; prints CPU microseconds per frame."""

import mmap
import os
import resource
import sys

import numpy
import zmq

name, frames = sys.argv[1], int(sys.argv[2])
socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.CONFLATE, 1)
socket.setsockopt(zmq.SUBSCRIBE, b"")
socket.connect(f"ipc:///tmp/cvmmap_{name}")
socket.recv()
fd = os.open(f"/dev/shm/cvmmap_{name}", os.O_RDONLY)
segment = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
source = numpy.frombuffer(segment, numpy.uint8, offset=256)
for _ in range(10):
    socket.recv()
    copy = source.copy()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(frames):
    socket.recv()
    copy = source.copy()
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(cpu / frames * 1e6)
