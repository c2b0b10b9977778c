# SPDX-License-Identifier: MPL-2.0
"""What travels over NATS, from the contract page alone: messages as tables, protobuf's wire format, body packets."""

import struct

# --- the messages of the page: number, name, type; `*` repeated, `?` optional, a capital letter: another message ---

_CAMERA_ANSWER = [(1, "error", "enum"), (2, "state", "CameraControlState"), (3, "error_message", "string")]
_PLAYLIST_ANSWER = [(1, "error", "enum"), (2, "info", "PlaylistInfo"), (3, "error_message", "string")]

MESSAGES = {
    "Empty": [],
    "ResetFrameCountResponse": [(1, "error", "enum")],
    "GetSourceInfoResponse": [
        (1, "error", "enum"),
        (2, "source_kind", "enum"),
        (3, "timestamp_domain", "enum"),
        (4, "flags", "u32"),
        (5, "timeline_start_ns", "u64"),
        (6, "timeline_end_ns", "u64"),
        (7, "duration_ns", "u64"),
        (8, "current_timestamp_ns", "u64"),
        (9, "current_frame_count", "u32"),
    ],
    "SeekTimestampRequest": [(1, "target_timestamp_ns", "u64")],
    "SeekTimestampResponse": [
        (1, "error", "enum"),
        (2, "requested_timestamp_ns", "u64"),
        (3, "landed_timestamp_ns", "u64"),
        (4, "landed_frame_count", "u32"),
        (5, "exact_match", "bool"),
    ],
    "CapabilitiesResponse": [
        (1, "error", "enum"),
        (2, "can_seek", "bool"),
        (3, "available_recording_formats", "*enum"),
    ],
    # The same of the newest producers.
    "NewestCapabilitiesResponse": [(1, "error", "enum"), (2, "available_recording_formats", "*enum")],
    "PlaylistInfo": [
        (1, "has_playlist", "bool"),
        (2, "paths", "*string"),
        (3, "sort_by_recording_time", "bool"),
        (4, "current_index", "u32"),
        (5, "current_path", "string"),
    ],
    "ApplyPlaylistRequest": [(1, "paths", "*string"), (2, "sort", "bool")],
    "ApplyPlaylistResponse": _PLAYLIST_ANSWER,
    "GetPlaylistInfoResponse": _PLAYLIST_ANSWER,
    "GetCameraControlCapabilitiesResponse": [
        (1, "error", "enum"),
        (2, "supported", "bool"),
        (3, "supported_settings", "*enum"),
        (4, "error_message", "string"),
    ],
    "CameraControlState": [
        (1, "setting", "enum"),
        (2, "kind", "enum"),
        (3, "value", "sint32"),
        (4, "min_value", "sint32"),
        (5, "max_value", "sint32"),
    ],
    "GetCameraControlRequest": [(1, "setting", "enum")],
    "GetCameraControlResponse": _CAMERA_ANSWER,
    "SetCameraControlRequest": [(1, "setting", "enum"), (2, "mode", "enum"), (3, "value", "sint32")],
    "SetCameraControlResponse": _CAMERA_ANSWER,
    "SetCameraControlRangeRequest": [
        (1, "setting", "enum"),
        (2, "min_value", "sint32"),
        (3, "max_value", "sint32"),
    ],
    "SetCameraControlRangeResponse": _CAMERA_ANSWER,
    "SvoRecordingOptions": [
        (1, "compression_mode", "?string"),
        (2, "bitrate", "?u32"),
        (3, "target_framerate", "?u32"),
        (4, "transcode_streaming_input", "?bool"),
    ],
    "McapRecordingOptions": [
        (1, "compression", "?string"),
        (2, "topic", "?string"),
        (3, "depth_topic", "?string"),
        (4, "body_topic", "?string"),
        (5, "frame_id", "?string"),
    ],
    "RecordingStartRequest": [
        (1, "output_path", "string"),
        (10, "svo", "SvoRecordingOptions"),
        (11, "mcap", "McapRecordingOptions"),
    ],
    "RecordingStatusResponse": [
        (1, "error", "enum"),
        (2, "format", "enum"),
        (3, "can_record", "bool"),
        (4, "is_recording", "bool"),
        (5, "is_paused", "bool"),
        (6, "last_frame_ok", "bool"),
        (7, "frames_ingested", "u32"),
        (8, "frames_encoded", "u32"),
        (9, "active_path", "string"),
        (10, "error_message", "string"),
    ],
    "ModuleStatusEvent": [(1, "status", "enum"), (2, "instance", "string"), (3, "timestamp_ns", "u64")],
}

OK, UNKNOWN_CMD, ERROR, UNSUPPORTED, INVALID_PAYLOAD, OUT_OF_RANGE, TIMEOUT = range(7)
LIVE, FINITE = 1, 2
UNIX_TIME, MEDIA_TIME = 1, 2
CAN_SEEK, AUTO_LOOP, HAS_DEPTH, HAS_BODY, CAN_RECORD, LOOP_EMITS_RESET = (1 << bit for bit in range(6))
SVO, MCAP = 1, 2
SINGLE, RANGE = 1, 2
ONLINE, OFFLINE, STREAM_RESET = 1, 2, 3

# Subject tail -> request and answer.
REQUESTS = {
    "source.reset": ("Empty", "ResetFrameCountResponse"),
    "source.info": ("Empty", "GetSourceInfoResponse"),
    "source.seek": ("SeekTimestampRequest", "SeekTimestampResponse"),
    "source.capabilities": ("Empty", "CapabilitiesResponse"),
    "source.playlist.apply": ("ApplyPlaylistRequest", "ApplyPlaylistResponse"),
    "source.playlist.info": ("Empty", "GetPlaylistInfoResponse"),
    "camera_control.capabilities": ("Empty", "GetCameraControlCapabilitiesResponse"),
    "camera_control.get": ("GetCameraControlRequest", "GetCameraControlResponse"),
    "camera_control.set": ("SetCameraControlRequest", "SetCameraControlResponse"),
    "camera_control.set_range": ("SetCameraControlRangeRequest", "SetCameraControlRangeResponse"),
}
for _kind in ("svo", "mcap", "mp4"):
    REQUESTS[f"recorder.{_kind}.capabilities"] = ("Empty", "CapabilitiesResponse")
    REQUESTS[f"recorder.{_kind}.start"] = ("RecordingStartRequest", "RecordingStatusResponse")
    REQUESTS[f"recorder.{_kind}.stop"] = ("Empty", "RecordingStatusResponse")
    REQUESTS[f"recorder.{_kind}.status"] = ("Empty", "RecordingStatusResponse")


def messages_of(subject):
    """The request's and the answer's message of a subject, with any prefix."""
    for tail, messages in REQUESTS.items():
        if subject.endswith("." + tail):
            return messages
    raise KeyError(f"no request of the page ends like {subject}")


# --- protobuf ---


class WireError(ValueError):
    """Bytes that are no such message or packet."""


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return (value << 1 ^ value >> 31) & 0xFFFFFFFF


def unzigzag(value):
    return value >> 1 ^ -(value & 1)


def tag(number, wire_type):
    return varint(number << 3 | wire_type)


def delimited(number, data):
    return tag(number, 2) + varint(len(data)) + data


# Of each kind of field, with numbers no message of the page has.
UNKNOWN_FIELDS = tag(100, 0) + varint(2**64 - 1) + tag(101, 1) + b"\xa5" * 8
UNKNOWN_FIELDS += delimited(102, b"unheard of") + tag(536870911, 5) + b"\x5a" * 4


def _scalar(kind, value):
    return varint(zigzag(value) if kind == "sint32" else int(value))


def encode(message, fields, unknown=False, packed=True, defaults=False):
    """`unknown`: fields that nobody knows go before and after; `defaults`: zeros and empty strings are written too."""
    types = {name: (number, kind) for number, name, kind in MESSAGES[message]}
    if strangers := fields.keys() - types.keys():
        raise KeyError(f"{message} has no {sorted(strangers)}")
    out = bytearray(UNKNOWN_FIELDS if unknown else b"")
    for name, (number, kind) in types.items():
        value = fields.get(name)
        single = kind.lstrip("*?")
        if value is None:
            continue
        if single in MESSAGES:
            out += delimited(number, encode(single, value, unknown, packed, defaults))
        elif kind == "*string":
            out += b"".join(delimited(number, item.encode()) for item in value)
        elif kind[0] == "*" and packed:
            out += delimited(number, b"".join(_scalar(single, item) for item in value)) if value else b""
        elif kind[0] == "*":
            out += b"".join(tag(number, 0) + _scalar(single, item) for item in value)
        elif value or kind[0] == "?" or defaults:
            out += delimited(number, value.encode()) if single == "string" else tag(number, 0) + _scalar(single, value)
    return bytes(out + (UNKNOWN_FIELDS if unknown else b""))


def _read_varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError(f"a varint ends at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        if shift >= 70:
            raise WireError("a varint of more than 10 bytes")


def _read_fields(data):
    """Yields number, wire type and value (an integer or bytes)."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        if not 1 <= number <= 536870911:
            raise WireError(f"field number {number}")
        if wire_type == 0:
            value, at = _read_varint(data, at)
        else:
            if wire_type == 2:
                size, at = _read_varint(data, at)
            elif wire_type in (1, 5):
                size = 8 if wire_type == 1 else 4
            else:
                raise WireError(f"wire type {wire_type}")
            if size > len(data) - at:
                raise WireError(f"field {number} has {size} bytes, and {len(data) - at} are left")
            value, at = data[at : at + size], at + size
        yield number, wire_type, value


def _from_varint(kind, value):
    return {
        "bool": lambda: value != 0,
        "sint32": lambda: unzigzag(value & 0xFFFFFFFF),
        "u64": lambda: value,
        "u32": lambda: value & 0xFFFFFFFF,
        "enum": lambda: (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000,
    }[kind]()


def _packed(kind, data):
    at, items = 0, []
    while at < len(data):
        item, at = _read_varint(data, at)
        items.append(_from_varint(kind, item))
    return items


def _field(kind, wire_type, value, into, name):
    single = kind.lstrip("*?")
    if single in MESSAGES or single == "string":
        if wire_type != 2:
            raise WireError(f"{name} has wire type {wire_type}")
        if single == "string":
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise WireError(f"{name} is no UTF-8: {error}") from error
        else:
            value = decode(single, value)
    elif kind[0] == "*" and wire_type == 2:
        into[name] += _packed(single, value)
        return
    elif wire_type == 0:
        value = _from_varint(single, value)
    else:
        raise WireError(f"{name} has wire type {wire_type}")
    if kind[0] == "*":
        into[name].append(value)
    else:
        into[name] = value


def _default(kind):
    if kind[0] == "*":
        return []
    if kind[0] == "?" or kind in MESSAGES:
        return None
    return {"string": "", "bool": False}.get(kind, 0)


def decode(message, data):
    """Each field by name; `unknown` holds the numbers of those that are not in the table, where there are any."""
    types = {number: (name, kind) for number, name, kind in MESSAGES[message]}
    fields = {name: _default(kind) for name, kind in types.values()}
    unknown = []
    for number, wire_type, value in _read_fields(bytes(data)):
        if number in types:
            name, kind = types[number]
            _field(kind, wire_type, value, fields, name)
        else:
            unknown.append(number)
    return fields | {"unknown": unknown} if unknown else fields


def decode_capabilities(data):
    """Either form: the newest producers have the formats in field 2."""
    fields = list(_read_fields(bytes(data)))
    newest = any(number == 2 and wire_type == 2 for number, wire_type, _ in fields)
    return decode("NewestCapabilitiesResponse" if newest else "CapabilitiesResponse", data)


# --- body packets ---

BODY_MAGIC = 0x62
RECORD_SIZE = 3248
JOINTS = (18, 34, 38)

_HEADER = struct.Struct("<4BIQQHH4BHBxI24s")
HEADER_FIELDS = (
    "magic coordinate_system major minor frame_count timestamp_ns sdk_timestamp_ns body_count body_record_size format "
    "selection model precision flags reference_frame payload_size_bytes label"
).split()

# The f32 fields of a record in order, with their shapes.
FLOATS = [
    ("confidence", ()),
    ("position", (3,)),
    ("velocity", (3,)),
    ("position_covariance", (6,)),
    ("bounding_box_2d", (4, 2)),
    ("bounding_box_3d", (8, 3)),
    ("dimensions", (3,)),
    ("keypoint_2d", (38, 2)),
    ("keypoint_3d", (38, 3)),
    ("keypoint_confidence", (38,)),
    ("keypoint_covariance", (38, 6)),
    ("head_bounding_box_2d", (4, 2)),
    ("head_bounding_box_3d", (8, 3)),
    ("head_position", (3,)),
    ("local_position_per_joint", (38, 3)),
    ("local_orientation_per_joint", (38, 4)),
    ("global_root_orientation", (4,)),
]


def _slots(shape):
    return 1 if not shape else shape[0] * _slots(shape[1:])


FLOAT_SLOTS = sum(_slots(shape) for _, shape in FLOATS)
_RECORD = struct.Struct(f"<iBB2x{FLOAT_SLOTS}fHH")
assert (_HEADER.size, _RECORD.size) == (64, RECORD_SIZE)


def _nest(flat, shape):
    if len(shape) < 2:
        return list(flat) if shape else flat[0]
    step = _slots(shape[1:])
    return [_nest(flat[at : at + step], shape[1:]) for at in range(0, len(flat), step)]


def body(floats, **others):
    """One body's fields from its FLOAT_SLOTS values in order and the integer fields by name."""
    fields, at = dict(others), 0
    for name, shape in FLOATS:
        fields[name] = _nest(floats[at : at + _slots(shape)], shape)
        at += _slots(shape)
    assert at == len(floats)
    return fields


def _flat(value):
    return [slot for item in value for slot in _flat(item)] if isinstance(value, list) else [value]


def write_record(fields):
    floats = [slot for name, _ in FLOATS for slot in _flat(fields[name])]
    head = (fields["id"], fields["tracking_state"], fields["action_state"])
    return _RECORD.pack(*head, *floats, fields["keypoint_count"], fields["flags"])


def header(bodies, label, **others):
    """A packet's header fields; what is not said is 0, or what the bodies ask for."""
    fields = dict.fromkeys(HEADER_FIELDS, 0)
    fields.update(magic=BODY_MAGIC, major=1, coordinate_system=1, reference_frame=1, label=label)
    fields.update(body_count=len(bodies), body_record_size=RECORD_SIZE, payload_size_bytes=len(bodies) * RECORD_SIZE)
    assert others.keys() <= fields.keys()
    return fields | others


def write_packet(head, bodies):
    """Nothing is checked, so that a header may lie."""
    values = [head[name] for name in HEADER_FIELDS]
    values[-1] = values[-1].encode()
    return _HEADER.pack(*values) + b"".join(write_record(fields) for fields in bodies)


def _read_record(data, joints):
    identity, tracking, action, *floats, keypoints, flags = _RECORD.unpack(data)
    if keypoints > joints:
        raise WireError(f"keypoint_count {keypoints} with {joints} joints")
    others = {"id": identity, "tracking_state": tracking, "action_state": action}
    return body(floats, **others, keypoint_count=keypoints, flags=flags)


def read_packet(data):
    """The header and the bodies of a valid packet."""
    data = bytes(data)
    if len(data) < _HEADER.size:
        raise WireError(f"{len(data)} bytes are no header")
    head = dict(zip(HEADER_FIELDS, _HEADER.unpack_from(data)))
    for name, expected in (("magic", BODY_MAGIC), ("major", 1), ("body_record_size", RECORD_SIZE)):
        if head[name] != expected:
            raise WireError(f"{name} is {head[name]}, not {expected}")
    size = head["body_count"] * RECORD_SIZE
    if head["payload_size_bytes"] != size:
        raise WireError(f"{head['body_count']} bodies in a payload of {head['payload_size_bytes']} bytes")
    if len(data) != _HEADER.size + size:
        raise WireError(f"{len(data)} bytes, not {_HEADER.size + size}")
    label, _, padding = head["label"].partition(b"\0")
    if padding.strip(b"\0") or not label.isascii():
        raise WireError(f"label {head['label']}")
    head["label"] = label.decode()
    joints = JOINTS[min(head["format"], 2)]  # a format that is not in the page: what a record has room for
    records = range(_HEADER.size, len(data), RECORD_SIZE)
    return head, [_read_record(data[at : at + RECORD_SIZE], joints) for at in records]


# --- bodies that a test can recompute ---


def sample_packet(label, frame_count, timestamp_ns, bodies, joints=38, timed=True):
    """Slot k of the f32 values of body b in frame n is (n % 1000) * 8192 + (b % 8) * 1024 + k, which f32 holds exactly;
    id is 100 + b. `timed` false: timestamp_ns is 0, and sdk_timestamp_ns has the time as ever."""
    records = []
    for number in range(bodies):
        base = frame_count % 1000 * 8192 + number % 8 * 1024
        floats = [float(base + slot) for slot in range(FLOAT_SLOTS)]
        states = dict(id=100 + number, tracking_state=1, action_state=number % 2)
        records.append(body(floats, **states, keypoint_count=joints, flags=3))
    said = dict(frame_count=frame_count, sdk_timestamp_ns=timestamp_ns, timestamp_ns=timestamp_ns if timed else 0)
    said.update(format=JOINTS.index(joints), model=1, flags=3)
    return write_packet(header(records, label, **said), records)


def is_sample(data):
    """Whether a packet is byte for byte what `sample_packet` makes for its frame."""
    head, bodies = read_packet(data)
    joints = JOINTS[min(head["format"], 2)]
    times = (head["sdk_timestamp_ns"], len(bodies), joints, head["timestamp_ns"] != 0)
    return bytes(data) == sample_packet(head["label"], head["frame_count"], *times)
