#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Writes an MCAP file in the live layout for mcap_judge.py to judge, with the faults that are asked for.

usage: target/readers/venv/bin/python tests/readers/mcap_sample.py OUT h264|h265 BITSTREAM [FAULT...]

BITSTREAM: Annex B with an access unit delimiter before each picture. The bodies begin with picture 1.
FAULT: `unfinished`, or one of a message, such as `two-units@3` for picture 3.
"""

import pathlib
import sys

from foxglove_schemas_protobuf.CompressedVideo_pb2 import CompressedVideo
from mcap.writer import Writer
from mcap_protobuf.schema import build_file_descriptor_set

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import nats_wire as wire  # noqa: E402

DELIMITERS = {"h264": b"\0\0\0\1\x09", "h265": b"\0\0\0\1\x46\x01"}
START = 1_763_917_200_000_000_000
PERIOD = 33_333_333


def without_parameter_sets(codec, unit):
    kept = []
    for nal in unit.split(b"\0\0\1")[1:]:
        kind = nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63
        if kind not in ((7, 8) if codec == "h264" else (32, 33, 34)):
            kept.append(b"\0\0\0\1" + nal.rstrip(b"\0"))
    return b"".join(kept)


def main():
    out, codec, bitstream, *faults = sys.argv[1:]
    delimiter = DELIMITERS[codec]
    units = [delimiter + rest for rest in pathlib.Path(bitstream).read_bytes().split(delimiter)[1:]]

    with open(out, "wb") as stream:
        writer = Writer(stream, chunk_size=10_000)
        writer.start(profile="", library="mcap_sample")
        data = build_file_descriptor_set(CompressedVideo).SerializeToString()
        schema = writer.register_schema(CompressedVideo.DESCRIPTOR.full_name, "protobuf", data)
        video = writer.register_channel("/camera/video", "protobuf", schema)
        body = None
        for number, unit in enumerate(units):
            here = {fault.split("@")[0] for fault in faults if fault.endswith(f"@{number}")}
            time = START + number * PERIOD - (10 * PERIOD if "backwards" in here else 0)
            if number >= 1:
                metadata = dict(packet_layout="cvmmap_body_tracking_v1", payload_format="raw")
                metadata["source_transport"] = "cv-mmap-body-pub"
                body = body or writer.register_channel("/camera/body", "cvmmap.body_tracking.v1", 0, metadata)
                packet = wire.sample_packet("cam0", number, time, 2)
                packet = packet[:-1] if "truncated-body" in here else packet
                packet = packet[:-40] + b"\x3f" + packet[-39:] if "changed-body" in here else packet
                at = time + ("body-time" in here)
                writer.add_message(body, at, packet, at)
            if "no-start-code" in here:
                unit = unit[4:]
            if "two-units" in here:
                unit += units[number + 1]
            if "no-parameter-sets" in here:
                unit = without_parameter_sets(codec, unit)
            message = CompressedVideo(data=unit, format=codec, frame_id="camera")
            message.timestamp.FromNanoseconds(time + ("timestamp" in here))
            writer.add_message(video, time, message.SerializeToString(), time + ("publish-time" in here))
        if "unfinished" not in faults:
            writer.finish()


main()
