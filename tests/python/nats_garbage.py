# SPDX-License-Identifier: MPL-2.0
"""Bytes that are no request, answer or event of the page, and no body packet."""

import itertools
import random

import nats_wire as wire

HUGE = "a megabyte"


def kinds(valid, seed=0):
    """What is wrong -> bytes; `valid`: a message that some go on from."""
    packet = wire.sample_packet("x", 1, 1, 2)
    lies = wire.header([], "x", body_count=65535, payload_size_bytes=0xFFFF_FFFF)
    return {
        "a byte": b"\xff",
        "text": b"not protobuf at all",
        "random bytes": b"\x07" + random.Random(seed).randbytes(200),
        "a varint without end": valid + wire.tag(3, 0) + b"\xff" * 11,
        "a length past the end": valid + wire.tag(100, 2) + wire.varint(1 << 40),
        "a truncated field": valid + wire.tag(100, 2) + wire.varint(9) + b"x",
        "wire types swapped": wire.tag(1, 5) + bytes(4) + wire.tag(2, 5) + bytes(4),
        "a packet's header that lies": wire.write_packet(lies, []),
        "a truncated packet": packet[:-1000],
        # One byte less would be fields that nobody knows.
        HUGE: b"\x62" * 1_000_001,
    }


def endless(valid):
    """All kinds again and again; the huge one seldom."""
    for turn in itertools.count():
        for kind, data in kinds(valid, turn).items():
            if kind != HUGE or turn % 20 == 0:
                yield data
