#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""Makes the golden vectors beside it from tests/python/nats_wire.py, which shares no code with ours.

`--check` writes nothing and fails where a file is not what would be written.

body_NAME.hex/.json   a valid packet, and every field of it
body_bad_NAME.hex     a packet with the one fault that NAME says
messages.json         `messages`: of each, with what is particular, the bytes and the fields in them; a field that is
                      not named has its default. `malformed`: bytes that are no such message.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3] / "tests/python"))
import nats_wire as wire  # noqa: E402


def hexes(data):
    return "".join(data[at : at + 64].hex() + "\n" for at in range(0, len(data), 64))


def pretty(value):
    """JSON with a line for each field, and numbers in rows."""
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {pretty(item)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(pretty(item) for item in value) + "\n]"
    return json.dumps(value)


def a_body(number, joints, **others):
    """Each float differs from all others of the packet, and has a fraction and a sign that f32 keeps."""
    floats = [(number * 1000 + slot + 0.25) * (-1 if slot % 3 == 1 else 1) for slot in range(wire.FLOAT_SLOTS)]
    states = dict(tracking_state=1 + number % 3, action_state=number % 2)
    return wire.body(floats, **(dict(id=-7 - number, keypoint_count=joints, flags=3) | states | others))


def bodies_of(joints):
    """18: two bodies, 34: one, 38: three, the last of which has fewer keypoints than the format."""
    count = {18: 2, 34: 1, 38: 3}[joints]
    bodies = [a_body(number, joints) for number in range(count)]
    bodies[-1].update(id=2_000_000_001, keypoint_count=joints - 1, flags=2)
    return bodies


def body_packets():
    """Name, header and bodies; any two fields of a header differ in one of them."""
    said = {
        18: dict(format=0, coordinate_system=2, selection=1, model=2, precision=0, reference_frame=1, flags=0x1B),
        34: dict(format=1, coordinate_system=1, selection=0, model=0, precision=2, reference_frame=2, flags=0x04),
        38: dict(format=2, coordinate_system=2, selection=0, model=1, precision=2, reference_frame=1, flags=0x1F),
    }
    times = dict(timestamp_ns=1_763_917_200_123_456_789, sdk_timestamp_ns=0xFEDC_BA98_7654_3210)
    for joints, fields in said.items():
        bodies = bodies_of(joints)
        # The longest label has no NUL behind it.
        label = {18: "zed-left", 34: "a", 38: "x23456789_123456789_1234"}[joints]
        fields |= times | dict(minor=3 + joints, frame_count=0x89AB_CD00 + joints)
        yield str(joints), wire.header(bodies, label, **fields), bodies
    # Formats to come are kept, with all the keypoints that a record has room for.
    yield "format_3", wire.header(bodies_of(38), "cam0", format=3), bodies_of(38)
    none = dict(frame_count=12, timestamp_ns=34, sdk_timestamp_ns=0, format=2, flags=1)
    yield "none", wire.header([], "cam0", **none), []


def bad_packets():
    bodies = bodies_of(18)
    good = wire.header(bodies, "cam0", frame_count=5, timestamp_ns=6, sdk_timestamp_ns=7)

    def with_fields(**fields):
        return wire.write_packet(good | fields, bodies)

    whole = with_fields()
    yield "magic", with_fields(magic=0x7D)
    yield "major_2", with_fields(major=2)
    yield "major_0", with_fields(major=0)
    yield "count_too_high", with_fields(body_count=3)
    yield "count_too_low", with_fields(body_count=1)
    yield "count_and_payload_size_too_high", with_fields(body_count=65535, payload_size_bytes=65535 * wire.RECORD_SIZE)
    yield "payload_size_too_high", with_fields(payload_size_bytes=0xFFFF_FFFF)
    yield "payload_size_too_low", with_fields(payload_size_bytes=wire.RECORD_SIZE)
    yield "record_size_too_high", with_fields(body_record_size=wire.RECORD_SIZE + 1)
    yield "record_size_zero", with_fields(body_record_size=0, payload_size_bytes=0)
    # Count times size is the payload, but the records are another major's.
    halves = dict(body_count=4, body_record_size=wire.RECORD_SIZE // 2)
    yield "record_size_halved", with_fields(**halves)
    yield "truncated_in_record", whole[:-1000]
    yield "truncated_by_a_byte", whole[:-1]
    yield "truncated_by_a_record", whole[: -wire.RECORD_SIZE]
    yield "truncated_after_header", whole[:64]
    yield "truncated_in_header", whole[:63]
    yield "empty", b""
    yield "trailing_byte", whole + b"\0"
    yield "trailing_record", whole + whole[-wire.RECORD_SIZE :]
    yield "label_not_ascii", with_fields(label="kamera-ü")
    yield "label_not_padded_with_nul", with_fields(label="cam0\0left")
    for joints, form in ((18, 0), (34, 1), (38, 2)):
        over = [a_body(0, joints), a_body(1, joints, keypoint_count=joints + 1)]
        yield f"keypoint_count_over_{joints}", wire.write_packet(wire.header(over, "cam0", format=form), over)


STATE = dict(setting=7, kind=1, value=-5, min_value=-100, max_value=33_333)
RANGE = dict(setting=12, kind=2, value=0, min_value=-(2**31), max_value=2**31 - 1)
PLAYLIST = dict(has_playlist=True, paths=["/a/b.svo2", "", "/ü/c d.svo"], sort_by_recording_time=True, current_index=2)
PLAYLIST["current_path"] = "/ü/c d.svo"
SVO = dict(compression_mode="H265", bitrate=8000, target_framerate=30, transcode_streaming_input=True)
MCAP = dict(compression="zstd", topic="/a", depth_topic="/b", body_topic="/c", frame_id="cam")

# Of each message one with all fields, each another value.
MESSAGES = [
    ("Empty", "an empty message", {}),
    ("ResetFrameCountResponse", "all fields", dict(error=6)),
    (
        "GetSourceInfoResponse",
        "all fields",
        dict(error=2, source_kind=1, timestamp_domain=3, flags=0x3F, timeline_start_ns=1_000_000_007)
        | dict(timeline_end_ns=2**64 - 1, duration_ns=2**63, current_timestamp_ns=1_763_917_200_123_456_789)
        | dict(current_frame_count=2**32 - 1),
    ),
    (
        "GetSourceInfoResponse",
        "a replay",
        dict(source_kind=2, timestamp_domain=2, flags=0x31, timeline_end_ns=10_000_000_000, duration_ns=10_000_000_000),
    ),
    ("SeekTimestampRequest", "all fields", dict(target_timestamp_ns=2**64 - 2)),
    ("SeekTimestampRequest", "only defaults", dict(target_timestamp_ns=0)),
    (
        "SeekTimestampResponse",
        "all fields",
        dict(error=5, requested_timestamp_ns=300, landed_timestamp_ns=70_000, landed_frame_count=2**31 + 9)
        | dict(exact_match=True),
    ),
    ("CapabilitiesResponse", "all fields", dict(error=1, can_seek=True, available_recording_formats=[2, 1])),
    ("CapabilitiesResponse", "no seek", dict(can_seek=False, available_recording_formats=[1])),
    ("NewestCapabilitiesResponse", "all fields", dict(error=3, available_recording_formats=[1, 2])),
    ("PlaylistInfo", "all fields", PLAYLIST),
    ("ApplyPlaylistRequest", "all fields", dict(paths=["/one", "/two"], sort=True)),
    ("ApplyPlaylistResponse", "all fields", dict(error=2, info=PLAYLIST, error_message="no such file")),
    ("GetPlaylistInfoResponse", "all fields", dict(error=3, info=PLAYLIST, error_message="why not")),
    ("GetPlaylistInfoResponse", "an empty info", dict(info={})),
    (
        "GetCameraControlCapabilitiesResponse",
        "all fields",
        dict(error=6, supported=True, supported_settings=list(range(1, 13)), error_message="late"),
    ),
    ("CameraControlState", "all fields", STATE),
    ("CameraControlState", "the limits of sint32", RANGE),
    ("GetCameraControlRequest", "all fields", dict(setting=4)),
    ("GetCameraControlResponse", "all fields", dict(error=4, state=STATE, error_message="said")),
    ("SetCameraControlRequest", "all fields", dict(setting=5, mode=2, value=-1)),
    ("SetCameraControlResponse", "all fields", dict(error=5, state=RANGE, error_message="above 100")),
    ("SetCameraControlRangeRequest", "all fields", dict(setting=10, min_value=-3, max_value=64)),
    ("SetCameraControlRangeResponse", "all fields", dict(error=1, state=RANGE, error_message="?")),
    ("SvoRecordingOptions", "all fields", SVO),
    (
        "SvoRecordingOptions",
        "defaults that are said",
        dict(compression_mode="", bitrate=0, transcode_streaming_input=False),
    ),
    ("McapRecordingOptions", "all fields", MCAP),
    ("RecordingStartRequest", "all fields", dict(output_path="/tmp/a.svo2", svo=SVO, mcap=MCAP)),
    ("RecordingStartRequest", "no options", dict(output_path="/tmp/a.mcap")),
    (
        "RecordingStatusResponse",
        "all fields",
        dict(error=2, format=1, can_record=True, is_recording=True, is_paused=True, last_frame_ok=True)
        | dict(frames_ingested=1234, frames_encoded=567, active_path="/tmp/a.svo2", error_message="disk full"),
    ),
    ("RecordingStatusResponse", "can_record alone", dict(can_record=True)),
    ("RecordingStatusResponse", "is_recording alone", dict(is_recording=True)),
    ("RecordingStatusResponse", "is_paused alone", dict(is_paused=True)),
    ("RecordingStatusResponse", "last_frame_ok alone", dict(last_frame_ok=True)),
    ("ModuleStatusEvent", "online", dict(status=1, instance="cam0", timestamp_ns=1_763_917_200_123_456_789)),
    ("ModuleStatusEvent", "offline", dict(status=2, instance="cam0", timestamp_ns=2**64 - 1)),
    ("ModuleStatusEvent", "stream reset", dict(status=3, instance="kamera-ü", timestamp_ns=1)),
    ("ModuleStatusEvent", "a status that is not in the page", dict(status=77, instance="cam0", timestamp_ns=1)),
]


def messages():
    for name, what, fields in MESSAGES:
        yield dict(name=name, what=what, hex=wire.encode(name, fields).hex(), fields=fields)
        forms = {
            "unknown fields": dict(unknown=True),
            "defaults written": dict(defaults=True),
            "repeated fields not packed": dict(packed=False),
        }
        seen = {wire.encode(name, fields)}
        for form, options in forms.items():
            data = wire.encode(name, fields, **options)
            if data not in seen:
                seen.add(data)
                yield dict(name=name, what=f"{what}, {form}", hex=data.hex(), fields=fields)


def malformed():
    event = wire.encode("ModuleStatusEvent", dict(status=1, instance="cam0", timestamp_ns=1_763_917_200_123_456_789))
    nested = wire.encode("GetCameraControlResponse", dict(state=STATE))
    cases = [
        ("ModuleStatusEvent", "truncated in a varint", event[:-1]),
        ("ModuleStatusEvent", "truncated in a string", event[:5]),
        ("ModuleStatusEvent", "truncated after a tag", event[:1]),
        ("ModuleStatusEvent", "a string longer than memory", wire.tag(2, 2) + wire.varint(2**63) + b"cam0"),
        ("ModuleStatusEvent", "a string that is no UTF-8", wire.delimited(2, b"\xff\xfe")),
        ("ModuleStatusEvent", "a varint without end", wire.tag(3, 0) + b"\xff" * 11),
        ("ModuleStatusEvent", "a string where a number belongs", wire.delimited(1, b"online")),
        ("ModuleStatusEvent", "a number where a string belongs", wire.tag(2, 0) + wire.varint(5)),
        ("ModuleStatusEvent", "wire type 7", b"\x0f\x00"),
        ("ModuleStatusEvent", "field number 0", b"\x00\x00"),
        ("ModuleStatusEvent", "an unknown field that is truncated", event + wire.tag(102, 2) + wire.varint(100) + b"x"),
        ("SeekTimestampRequest", "text", b"seek to 5 s please"),
        ("GetCameraControlResponse", "a message in a message truncated", wire.delimited(2, nested[2:-1])),
        ("CapabilitiesResponse", "a packed field truncated in a varint", wire.delimited(3, b"\x01\x82")),
    ]
    for name, what, data in cases:
        try:
            wire.decode(name, data)
        except wire.WireError:
            yield dict(name=name, what=what, hex=data.hex())
        else:
            raise AssertionError(f"{what} was decoded")


def files():
    for name, head, bodies in body_packets():
        packet = wire.write_packet(head, bodies)
        assert wire.read_packet(packet) == (head, bodies)
        yield f"body_{name}.hex", hexes(packet)
        yield f"body_{name}.json", pretty(dict(header=head, bodies=bodies)) + "\n"
    for name, packet in bad_packets():
        try:
            wire.read_packet(packet)
        except wire.WireError:
            yield f"body_bad_{name}.hex", hexes(packet)
        else:
            raise AssertionError(f"{name} was read")
    yield "messages.json", pretty(dict(messages=list(messages()), malformed=list(malformed()))) + "\n"


def main():
    check = sys.argv[1:] == ["--check"]
    wrong = []
    made = dict(files())
    for name, content in made.items():
        path = HERE / name
        if not check:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            wrong.append(name)
    there = {path.name for pattern in ("*.hex", "*.json") for path in HERE.glob(pattern)}
    wrong += sorted(there - made.keys())
    if wrong:
        sys.exit(f"not what {sys.argv[0]} makes: {' '.join(wrong)}")


main()
