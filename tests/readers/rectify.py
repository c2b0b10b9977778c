#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What OpenCV makes of a factory calibration: rectification, maps and remapped pictures.

usage: target/readers/venv/bin/python tests/readers/rectify.py CONF RESOLUTION WIDTH HEIGHT FOLDER

FOLDER has noise-N.raw and smooth-N.raw, pictures of N bytes a pixel, WIDTH x HEIGHT. For each eye E it gets E.maps and
E.chroma-maps (columns and rows as int16, then fractions as OpenCV packs them), E.x and E.y (float32), E.noise-N (remapped
with the fixed-point maps) and E.smooth-N (with the float maps). Matrices go to stdout as JSON.
"""

import configparser
import json
import pathlib
import sys

import cv2
import numpy as np


def camera(section):
    value = {key: float(section[key]) for key in section}
    matrix = np.array([[value["fx"], 0, value["cx"]], [0, value["fy"], value["cy"]], [0, 0, 1]])
    return matrix, np.array([value[key] for key in ("k1", "k2", "p1", "p2", "k3")])


def chroma(matrix):
    """The same camera in pixels of a chroma plane: every second column, between every two rows."""
    half = matrix.copy()
    half[0, :] = matrix[0, :] / 2
    half[1, :] = matrix[1, :] / 2
    half[1, 2] = (matrix[1, 2] - 0.5) / 2
    return half


def main():
    conf, resolution, width, height, folder = sys.argv[1:]
    size, folder = (int(width), int(height)), pathlib.Path(folder)
    ini = configparser.ConfigParser()
    ini.read(conf)
    left, right = (camera(ini[f"{eye}_CAM_{resolution}"]) for eye in ("LEFT", "RIGHT"))
    stereo = ini["STEREO"]
    angles = [float(stereo[f"{key}_{resolution}"]) for key in ("RX", "CV", "RZ")]
    rotation = cv2.Rodrigues(np.array(angles))[0]
    translation = np.array([[float(stereo[key])] for key in ("Baseline", "TY", "TZ")])
    r1, r2, p1, p2 = cv2.stereoRectify(
        *left, *right, size, rotation, translation, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0
    )[:4]

    for eye, (matrix, lens), r, p in (("left", left, r1, p1), ("right", right, r2, p2)):
        pixels, fractions = cv2.initUndistortRectifyMap(matrix, lens, r, p, size, cv2.CV_16SC2)
        (folder / f"{eye}.maps").write_bytes(pixels.tobytes() + fractions.tobytes())
        half = (size[0] // 2, size[1] // 2)
        maps = cv2.initUndistortRectifyMap(chroma(matrix), lens, r, chroma(p[:, :3]), half, cv2.CV_16SC2)
        (folder / f"{eye}.chroma-maps").write_bytes(maps[0].tobytes() + maps[1].tobytes())
        x, y = cv2.initUndistortRectifyMap(matrix, lens, r, p, size, cv2.CV_32FC1)
        x.tofile(folder / f"{eye}.x")
        y.tofile(folder / f"{eye}.y")
        for channels in (1, 2, 3, 4):
            for name, maps in (("noise", (pixels, fractions)), ("smooth", (x, y))):
                picture = np.fromfile(folder / f"{name}-{channels}.raw", np.uint8)
                picture = picture.reshape(size[1], size[0], channels)
                border = (77,) * 4
                seen = cv2.remap(picture, *maps, cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT, border)
                seen.tofile(folder / f"{eye}.{name}-{channels}")
    matrices = {"r": [r1.tolist(), r2.tolist()], "p": [p1.tolist(), p2.tolist()], "opencv": cv2.__version__}
    print(json.dumps(matrices))


main()
