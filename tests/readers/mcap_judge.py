#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What the Python mcap package and Foxglove's schemas read from an MCAP file, as JSON.

usage: target/readers/venv/bin/python tests/readers/mcap_judge.py FILE [--bitstream OUT] [--topic TOPIC] [--messages TOPIC]

A list of faults has the numbers of the messages of that topic, from 0, that have it; with nothing wrong it is empty.
What was read before a file turned unreadable is told as well, with the reason in `errors`.
"""

import argparse
import importlib
import json
import pathlib
import re
import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, DataEnd, Footer, Header, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap_protobuf.decoder import DecoderFactory

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import nats_wire as wire  # noqa: E402

BODY_ENCODING = "cvmmap.body_tracking.v1"


# --- Annex B ---

# Codec -> type of a NAL unit from its first byte, bytes of its header, parameter sets, slices, those of key frames.
CODECS = {
    "h264": (lambda byte: byte & 31, 1, {7, 8}, range(1, 6), {5}),
    "h265": (lambda byte: byte >> 1 & 63, 2, {32, 33, 34}, range(0, 32), range(16, 24)),
}


def nal_units(data):
    starts = [match.end() for match in re.finditer(rb"\x00\x00\x01", data)]
    ends = [start - 3 for start in starts[1:]] + [len(data)]
    return [data[start:end].rstrip(b"\0") for start, end in zip(starts, ends)]


class AccessUnit:
    """`units`: how many pictures begin in it; `key`; `sets`: all parameter sets lie before the first slice."""

    def __init__(self, codec, data):
        type_of, header, sets, slices, keys = CODECS[codec]
        self.units, self.key, self.sets = 0, False, False
        seen = set()
        for unit in filter(None, nal_units(data)):
            kind = type_of(unit[0])
            seen.add(kind)
            if kind in slices:
                # First bit after the header: first_mb_in_slice is 0, or first_slice_segment_in_pic_flag.
                self.units += len(unit) > header and unit[header] >> 7
                self.key |= kind in keys
                self.sets |= sets <= seen


# --- topics ---


class Topic:
    """What all kinds of messages have."""

    def __init__(self, channel, schema, messages_before):
        self.facts = dict(
            count=0,
            channels=1,
            schema_id=channel.schema_id,
            schema_name=schema.name if schema else None,
            schema_encoding=schema.encoding if schema else None,
            message_encoding=channel.message_encoding,
            metadata=dict(channel.metadata),
            messages_before_channel=messages_before,
            first_log_time=None,
            last_log_time=None,
            monotonic=True,
            log_times=[],
            log_time_is_not_publish_time=[],
            undecodable=[],
        )

    def take(self, message):
        facts, number = self.facts, self.facts["count"]
        facts["count"] += 1
        facts["monotonic"] &= facts["last_log_time"] is None or facts["last_log_time"] <= message.log_time
        facts["first_log_time"] = message.log_time if number == 0 else facts["first_log_time"]
        facts["last_log_time"] = message.log_time
        facts["log_times"].append(message.log_time)
        if message.log_time != message.publish_time:
            facts["log_time_is_not_publish_time"].append(number)
        try:
            self.judge(number, message)
        except Exception as error:  # of any library: that it cannot be read is what is judged
            facts["undecodable"].append(dict(message=number, reason=f"{type(error).__name__}: {error}"))

    def judge(self, number, message):
        """More that can be told of a message."""


def described(descriptor, seen=()):
    """A message's fields with those within, to compare."""
    if descriptor.full_name in seen:
        return descriptor.full_name
    seen = (*seen, descriptor.full_name)
    inner = [field.message_type and described(field.message_type, seen) for field in descriptor.fields]
    kinds = [(field.name, field.number, field.type, field.is_repeated) for field in descriptor.fields]
    return descriptor.full_name, sorted(zip(kinds, inner), key=lambda item: item[0])


def plain(value, field=None):
    """A message as JSON has it: times in ns, the names of enums, null where a message within is not set."""
    if field is None:
        if value.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
            return value.ToNanoseconds()
        fields = value.DESCRIPTOR.fields
        return {field.name: plain(getattr(value, field.name), field) if is_set(value, field) else None for field in fields}
    if field.is_repeated:
        one = plain if field.message_type else (lambda item: item)
        return [one(item) for item in value]
    if field.message_type:
        return plain(value)
    return field.enum_type.values_by_number[value].name if field.enum_type else value


def is_set(message, field):
    return field.is_repeated or not field.message_type or message.HasField(field.name)


class Protobuf(Topic):
    """A message that Foxglove has a schema for is read with that, any other with the file's own."""

    def __init__(self, channel, schema, messages_before):
        super().__init__(channel, schema, messages_before)
        package, _, name = schema.name.rpartition(".")
        own = DecoderFactory().decoder_for(channel.message_encoding, schema)
        self.parse = own
        if package == "foxglove":
            theirs = getattr(importlib.import_module(f"foxglove_schemas_protobuf.{name}_pb2"), name)
            self.parse = theirs.FromString
            same = described(own(b"").DESCRIPTOR) == described(theirs.DESCRIPTOR)
            self.facts["schema_is_foxgloves"] = same
        self.facts["schema_files"] = [file.name for file in FileDescriptorSet.FromString(schema.data).file]
        self.facts["unknown_fields"] = []
        self.facts["times_apart"] = 0

    def judge(self, number, message):
        parsed = self.parse(message.data)
        if len(UnknownFieldSet(parsed)):
            self.facts["unknown_fields"].append(number)
        if number == 0 and not isinstance(self, Video):
            self.facts["first"] = MessageToDict(parsed, preserving_proto_field_name=True)
        if self.facts.get("messages") is not None:
            self.facts["messages"].append(plain(parsed))
        self.facts["times_apart"] += self.differs(parsed, message)
        return parsed

    @staticmethod
    def differs(parsed, message):
        """A timestamp of its own that is not the message's."""
        there = "timestamp" in parsed.DESCRIPTOR.fields_by_name
        return int(there and parsed.timestamp.ToNanoseconds() != message.log_time)


class Video(Protobuf):
    def __init__(self, *args):
        super().__init__(*args)
        faults = "timestamp_is_not_log_time no_start_code not_one_access_unit keys_without_parameter_sets empty"
        self.facts.update({name: [] for name in faults.split()})
        self.facts.update(formats=[], frame_ids=[], key_frames=[])
        self.bitstream = []

    def judge(self, number, message):
        video, facts = super().judge(number, message), self.facts
        for name, value in (("formats", video.format), ("frame_ids", video.frame_id)):
            if value not in facts[name]:
                facts[name].append(value)
        self.bitstream.append(video.data)
        faults = {
            "empty": not video.data,
            "timestamp_is_not_log_time": video.timestamp.ToNanoseconds() != message.log_time,
            "no_start_code": not video.data.startswith((b"\0\0\1", b"\0\0\0\1")),
        }
        if video.format in CODECS:
            unit = AccessUnit(video.format, video.data)
            faults["not_one_access_unit"] = unit.units != 1
            faults["keys_without_parameter_sets"] = unit.key and not unit.sets
            facts["key_frames"] += [number] if unit.key else []
        for name, there in faults.items():
            if there:
                facts[name].append(number)


class Bodies(Topic):
    """The packets of body tracking as they came."""

    def __init__(self, *args):
        super().__init__(*args)
        self.facts.update(frame_counts=[], body_counts=[], labels=[], time_is_not_packets=[], not_sample=[])

    def judge(self, number, message):
        head, bodies = wire.read_packet(message.data)
        facts = self.facts
        facts["frame_counts"].append(head["frame_count"])
        facts["body_counts"].append(len(bodies))
        if head["label"] not in facts["labels"]:
            facts["labels"].append(head["label"])
        if message.log_time != (head["timestamp_ns"] or head["sdk_timestamp_ns"]):
            facts["time_is_not_packets"].append(number)
        # Of what the producer in Python sends.
        if not wire.is_sample(message.data):
            facts["not_sample"].append(number)


def topic_of(channel, schema, messages_before):
    if channel.message_encoding == BODY_ENCODING:
        kind = Bodies
    elif channel.message_encoding == "protobuf" and schema is not None:
        kind = Video if schema.name == "foxglove.CompressedVideo" else Protobuf
    else:
        kind = Topic
    return kind(channel, schema, messages_before)


# --- the file ---


class File:
    def __init__(self, listed):
        self.topics, self.schemas, self.channels = {}, {}, {}
        self.messages, self.listed, self.last = 0, listed, 0
        self.facts = dict(profile=None, library=None, compressions=[], finished=False, in_order=True, errors=[])

    def read(self, stream):
        """In the file's order, with all checksums checked; what follows the data, the summary, is another matter."""
        data = True
        for record in StreamReader(stream, emit_chunks=True, validate_crcs=True).records:
            if isinstance(record, Header):
                self.facts.update(profile=record.profile, library=record.library)
            elif isinstance(record, DataEnd):
                data = False
            elif isinstance(record, Footer):
                self.facts["finished"] = True
            elif isinstance(record, Chunk):
                if record.compression not in self.facts["compressions"]:
                    self.facts["compressions"].append(record.compression)
                for inner in breakup_chunk(record, validate_crc=True):
                    self.take(inner)
            elif data:
                self.take(record)

    def take(self, record):
        if isinstance(record, Schema):
            self.schemas[record.id] = record
        elif isinstance(record, Channel) and record.id not in self.channels:
            self.channels[record.id] = record.topic
            if record.topic in self.topics:
                self.topics[record.topic].facts["channels"] += 1
            else:
                schema = self.schemas[record.schema_id] if record.schema_id else None
                topic = self.topics[record.topic] = topic_of(record, schema, self.messages)
                if record.topic == self.listed:
                    topic.facts["messages"] = []
        elif isinstance(record, Message):
            self.facts["in_order"] &= self.last <= record.log_time
            self.last = record.log_time
            self.topics[self.channels[record.channel_id]].take(record)
            self.messages += 1

    def summary(self, stream):
        """What a reader finds that looks at the summary first, and how many messages it then finds by the index."""
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        if summary is None:
            return None
        counts = {summary.channels[number].topic: 0 for number in summary.channels}
        for _, channel, _ in reader.iter_messages():
            counts[channel.topic] += 1
        stated = summary.statistics
        statistics = stated and dict(
            messages=stated.message_count,
            channels=stated.channel_count,
            chunks=stated.chunk_count,
            first_log_time=stated.message_start_time,
            last_log_time=stated.message_end_time,
        )
        return dict(statistics=statistics, chunk_indexes=len(summary.chunk_indexes), found=counts)


def attempt(errors, what, *args):
    try:
        return what(*args)
    except Exception as error:  # of any library, since a file may be unreadable in many ways
        errors.append(f"{type(error).__name__}: {error}")
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--bitstream", metavar="OUT", help="all of the video's data in one file")
    parser.add_argument("--topic", help="of the bitstream, where there are several")
    parser.add_argument("--messages", metavar="TOPIC", help="all of its messages, with their fields")
    options = parser.parse_args()

    file = File(options.messages)
    errors = file.facts["errors"]
    with open(options.file, "rb") as stream:
        attempt(errors, file.read, stream)
    with open(options.file, "rb") as stream:
        file.facts["summary"] = attempt(errors, file.summary, stream)
    file.facts["topics"] = {name: topic.facts for name, topic in sorted(file.topics.items())}
    if options.bitstream:
        videos = {name: topic for name, topic in file.topics.items() if isinstance(topic, Video)}
        wanted = [options.topic] if options.topic else list(videos)
        if len(wanted) == 1 and wanted[0] in videos:
            pathlib.Path(options.bitstream).write_bytes(b"".join(videos[wanted[0]].bitstream))
        else:
            errors.append(f"no bitstream: the topics of video are {list(videos)}")
    print(json.dumps(file.facts))


main()
