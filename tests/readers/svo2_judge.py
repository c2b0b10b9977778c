#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What the Python mcap package reads from an SVO2 recording, as JSON: its topics, frames, samples, header and footer.

usage: target/readers/venv/bin/python tests/readers/svo2_judge.py FILE
"""

import base64
import hashlib
import json
import struct
import sys

from mcap.reader import make_reader


def frame(data):
    total, size = struct.unpack_from("<II", data)
    unit, footer = data[8 : 8 + size], data[8 + size :]
    width, height = struct.unpack_from("<II", footer)
    time, again, kind, last_key = struct.unpack_from("<QIii", footer, 0x18)
    return {
        "whole": len(footer) == 56 and total == size + 60 == len(data) - 4 and again == size,
        "sha256": hashlib.sha256(unit).hexdigest(),
        **dict(width=width, height=height, time=time, type=kind, last_key=last_key),
    }


def sample(data):
    block = base64.b64decode(json.loads(data)["data"], validate=True)
    boot, unix = struct.unpack_from("<QQ", block, 8)
    return {"size": len(block), "kind": block[1], "unix": unix, "acceleration": struct.unpack_from("<3f", block, 0x64)}


def header(data):
    fields = json.loads(data)
    block = base64.b64decode(fields.pop("header"), validate=True)
    sizes = {name: len(base64.b64decode(fields.pop(name))) for name in ["Calib_acc", "Calib_gyro"]}
    names = ["width", "height", "serial", "fps"]
    return {**fields, **sizes, **dict(zip(names, struct.unpack_from("<4I", block))), "block": len(block)}


with open(sys.argv[1], "rb") as stream:
    reader = make_reader(stream, validate_crcs=True)
    told = {"library": reader.get_header().library, "topics": {}, "log_times": {}}
    for schema, channel, message in reader.iter_messages(log_time_order=False):
        name = channel.topic.split("/")[-1]
        read = {"side_by_side": frame, "svo_header": header, "svo_footer": json.loads}.get(name, sample)
        told["topics"][channel.topic] = [schema.name, schema.encoding, channel.message_encoding]
        told["log_times"].setdefault(channel.topic, []).append(message.log_time)
        told.setdefault(name, []).append(read(message.data))
    told["counts"] = sorted(reader.get_summary().statistics.channel_message_counts.values())
print(json.dumps(told))
