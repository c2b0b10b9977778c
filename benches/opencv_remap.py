#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The peer of the remap: OpenCV with one thread, for as long as there are lines of 'float|fixed CHANNELS... COUNT' on
stdin; prints the milliseconds of CPU of one picture. The picture is the right half of one twice as wide; each number of
channels is a plane, the first of full size and the others of half of it."""

import sys
import time

import cv2
import numpy

cv2.setNumThreads(1)
width, height = 1920, 1080
matrix = numpy.array([[1050.0, 0, 970], [0, 1051, 530], [0, 0, 1]])
lens = numpy.array([-0.17, 0.025, 1e-4, -1e-4, 0])
rotation = cv2.Rodrigues(numpy.array([0.002, 0.0069, -0.002]))[0]
translation = numpy.array([[119.9], [0.046], [-0.47]])
r, _, p, _ = cv2.stereoRectify(
    matrix, lens, matrix, lens, (width, height), rotation, translation, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0
)[:4]
half = numpy.diag([0.5, 0.5, 1])
maps = {}
for kind, name in ((cv2.CV_32FC1, "float"), (cv2.CV_16SC2, "fixed")):
    whole = cv2.initUndistortRectifyMap(matrix, lens, r, p, (width, height), kind)
    small = cv2.initUndistortRectifyMap(half @ matrix, lens, r, half @ p[:, :3], (width // 2, height // 2), kind)
    maps[name] = (whole, small)
random = numpy.random.default_rng(1)
planes = {}


def plane(channels, chroma):
    if (channels, chroma) not in planes:
        size = (height >> chroma, (width >> chroma) * 2, channels)
        both = random.integers(0, 256, size, dtype=numpy.uint8)
        seen = numpy.empty((size[0], size[1] // 2, channels), numpy.uint8)
        planes[channels, chroma] = (both[:, size[1] // 2 :], seen)
    return planes[channels, chroma]


for line in sys.stdin:
    kind, *channels, count = line.split()
    work = [(*plane(int(n), index > 0), maps[kind][index > 0]) for index, n in enumerate(channels)]
    start = time.process_time()
    for _ in range(int(count)):
        for source, seen, (x, y) in work:
            cv2.remap(source, x, y, cv2.INTER_LINEAR, seen)
    print((time.process_time() - start) * 1e3 / int(count), flush=True)
