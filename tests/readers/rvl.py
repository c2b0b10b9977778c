# SPDX-License-Identifier: MPL-2.0
"""RVL depth (Wilson 2017) by another hand: a word of 32 bits as eight hex digits, the picture as a list.

rvl.py decode PIXELS < rvl > little-endian u16; rvl.py encode < little-endian u16 > rvl
"""

import array
import struct
import sys


def decode(data, pixels):
    digits = iter("".join("%08x" % word for (word,) in struct.iter_unpack("<I", data)))

    def number():
        octal = ""
        while True:
            digit = int(next(digits), 16)
            octal = str(digit % 8) + octal
            if digit < 8:
                return int(octal, 8)

    out, previous = [], 0
    while len(out) < pixels:
        out += [0] * number()
        for _ in range(number()):
            coded = number()
            previous += -(coded + 1) // 2 if coded % 2 else coded // 2
            out.append(previous)
    assert len(out) == pixels and set(digits) <= {"0"}
    return out


def encode(pixels):
    digits, previous, at = [], 0, 0

    def number(value):
        octal = oct(value)[:1:-1]
        digits.extend("%x" % (int(digit) + 8) for digit in octal[:-1])
        digits.append(octal[-1])

    while at < len(pixels):
        first = next((i for i in range(at, len(pixels)) if pixels[i]), len(pixels))
        last = next((i for i in range(first, len(pixels)) if not pixels[i]), len(pixels))
        number(first - at)
        number(last - first)
        for pixel in pixels[first:last]:
            difference = pixel - previous
            number(2 * difference if difference >= 0 else -2 * difference - 1)
            previous = pixel
        at = last
    digits.extend("0" * (-len(digits) % 8))
    return b"".join(struct.pack("<I", int("".join(digits[i : i + 8]), 16)) for i in range(0, len(digits), 8))


if __name__ == "__main__":
    given = sys.stdin.buffer.read()
    if sys.argv[1] == "decode":
        sys.stdout.buffer.write(array.array("H", decode(given, int(sys.argv[2]))).tobytes())
    else:
        sys.stdout.buffer.write(encode(array.array("H", given)))
