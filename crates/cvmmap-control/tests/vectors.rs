// SPDX-License-Identifier: MPL-2.0

//! The golden vectors of `tests/vectors`, by a writer in Python that shares no code with ours, against what we read.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use cvmmap_control::proto::*;
use cvmmap_control::{Body, BodyError, BodyHeader, BodyPacket};
use prost::Message;
use serde_json::{Map, Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn json_of(name: &str) -> Value {
    serde_json::from_str(&read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn packet(name: &str) -> Result<BodyPacket, BodyError> {
    BodyPacket::parse(bytes(&read_to_string(folder().join(format!("{name}.hex"))).unwrap()).into())
}

/// A field as JSON; what may be absent says so.
trait Shown {
    fn shown(&self) -> Value;
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Shown for $kind {
            fn shown(&self) -> Value {
                json!(self)
            }
        }
    )*};
}
plain!(bool, i32, u32, u64, u8, u16, f32, String, Vec<i32>, Vec<String>);

impl<T: Shown, const N: usize> Shown for [T; N] {
    fn shown(&self) -> Value {
        self.iter().map(Shown::shown).collect()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Value {
        self.as_ref().map_or(Value::Null, |value| json!({ "said": value.shown() }))
    }
}

macro_rules! message {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Shown for $name {
            fn shown(&self) -> Value {
                // All of them: one that is left out does not compile.
                let Self { $($field),* } = self;
                let fields: [(&str, Value); _] = [$((stringify!($field), $field.shown())),*];
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
            }
        }
    )*};
}
message! {
    EmptyRequest {}
    ResetFrameCountResponse { error }
    GetSourceInfoResponse {
        error, source_kind, timestamp_domain, flags, timeline_start_ns, timeline_end_ns, duration_ns,
        current_timestamp_ns, current_frame_count
    }
    SeekTimestampRequest { target_timestamp_ns }
    SeekTimestampResponse {
        error, requested_timestamp_ns, landed_timestamp_ns, landed_frame_count, exact_match
    }
    CapabilitiesResponse { error, can_seek, available_recording_formats }
    NewestCapabilitiesResponse { error, available_recording_formats }
    PlaylistInfo { has_playlist, paths, sort_by_recording_time, current_index, current_path }
    ApplyPlaylistRequest { paths, sort }
    PlaylistResponse { error, info, error_message }
    GetCameraControlCapabilitiesResponse { error, supported, supported_settings, error_message }
    CameraControlState { setting, kind, value, min_value, max_value }
    GetCameraControlRequest { setting }
    SetCameraControlRequest { setting, mode, value }
    SetCameraControlRangeRequest { setting, min_value, max_value }
    CameraControlResponse { error, state, error_message }
    SvoRecordingOptions { compression_mode, bitrate, target_framerate, transcode_streaming_input }
    McapRecordingOptions { compression, topic, depth_topic, body_topic, frame_id }
    RecordingStartRequest { output_path, svo, mcap }
    RecordingStatusResponse {
        error, format, can_record, is_recording, is_paused, last_frame_ok, frames_ingested, frames_encoded,
        active_path, error_message
    }
    ModuleStatusEvent { status, instance, timestamp_ns }
}

/// Decodes a message by its name on the page; returns its fields, and what we would write.
fn decode(name: &str, bytes: &[u8]) -> Result<(Value, Vec<u8>), prost::DecodeError> {
    fn of<M: Message + Default + Shown>(bytes: &[u8]) -> Result<(Value, Vec<u8>), prost::DecodeError> {
        M::decode(bytes).map(|message| (message.shown(), message.encode_to_vec()))
    }
    macro_rules! by_name {
        ($($name:ident),*; $($page:literal => $ours:ident),*) => {
            match name {
                $(stringify!($name) => of::<$name>(bytes),)*
                $($page => of::<$ours>(bytes),)*
                other => panic!("no message '{other}'"),
            }
        };
    }
    by_name!(
        ResetFrameCountResponse, GetSourceInfoResponse, SeekTimestampRequest, SeekTimestampResponse,
        CapabilitiesResponse, NewestCapabilitiesResponse, PlaylistInfo, ApplyPlaylistRequest,
        GetCameraControlCapabilitiesResponse, CameraControlState, GetCameraControlRequest, SetCameraControlRequest,
        SetCameraControlRangeRequest, SvoRecordingOptions, McapRecordingOptions, RecordingStartRequest,
        RecordingStatusResponse, ModuleStatusEvent;
        "Empty" => EmptyRequest, "ApplyPlaylistResponse" => PlaylistResponse,
        "GetPlaylistInfoResponse" => PlaylistResponse, "GetCameraControlResponse" => CameraControlResponse,
        "SetCameraControlResponse" => CameraControlResponse, "SetCameraControlRangeResponse" => CameraControlResponse
    )
}

/// `expected` names the fields that are in the bytes; all others have their defaults, or are absent.
fn assert_fields(what: &str, shown: &Value, expected: &Value) {
    let (shown, expected) = (shown.as_object().unwrap(), expected.as_object().unwrap());
    for name in expected.keys() {
        assert!(shown.contains_key(name), "{what}: no field '{name}'");
    }
    for (name, value) in shown {
        let what = format!("{what}: {name}");
        let said = value.as_object().and_then(|object| object.get("said"));
        match (expected.get(name), said) {
            (Some(expected), Some(said)) if said.is_object() => assert_fields(&what, said, expected),
            (Some(expected), said) => assert_eq!(said.unwrap_or(value), expected, "{what}"),
            (None, _) => {
                let defaults = [json!(0), json!(false), json!(""), json!([]), Value::Null];
                assert!(defaults.contains(value), "{what} is {value}");
            }
        }
    }
}

#[test]
fn every_field_of_every_message_is_read_and_written() {
    let vectors = json_of("messages.json");
    let mut written = 0;
    for vector in vectors["messages"].as_array().unwrap() {
        let [name, what, hex] = ["name", "what", "hex"].map(|key| vector[key].as_str().unwrap());
        let wire = bytes(hex);
        let (shown, ours) = decode(name, &wire).unwrap_or_else(|error| panic!("{name}, {what}: {error}"));
        assert_fields(&format!("{name}, {what}"), &shown, &vector["fields"]);
        // Behind a comma: in a form that is allowed, and not ours.
        if !what.contains(", ") {
            assert_eq!(ours, wire, "{name}, {what}");
            written += 1;
        }
    }
    assert!(written > 35, "{written}");
}

#[test]
fn malformed_messages_are_refused() {
    let vectors = json_of("messages.json");
    let malformed = vectors["malformed"].as_array().unwrap();
    assert!(malformed.len() >= 14);
    for vector in malformed {
        let [name, what, hex] = ["name", "what", "hex"].map(|key| vector[key].as_str().unwrap());
        assert!(decode(name, &bytes(hex)).is_err(), "{name}, {what}");
    }
}

macro_rules! fields {
    ($of:expr; $($field:ident),*) => {
        [$((stringify!($field), $of.$field.shown())),*]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>()
    };
}

fn header_fields(header: &BodyHeader) -> Map<String, Value> {
    fields!(header;
        coordinate_system, minor, frame_count, timestamp_ns, sdk_timestamp_ns, body_count, format, selection, model,
        precision, flags, reference_frame, label)
}

fn body_fields(body: &Body) -> Map<String, Value> {
    fields!(body;
        id, keypoint_count, flags, tracking_state, action_state, confidence, position, velocity, position_covariance,
        bounding_box_2d, bounding_box_3d, dimensions, keypoint_2d, keypoint_3d, keypoint_confidence,
        keypoint_covariance, head_bounding_box_2d, head_bounding_box_3d, head_position, local_position_per_joint,
        local_orientation_per_joint, global_root_orientation)
}

fn assert_same(what: &str, ours: &Map<String, Value>, expected: &Value, unsaid: &[&str]) {
    let expected = expected.as_object().unwrap();
    for (name, value) in ours {
        assert_eq!(Some(value), expected.get(name), "{what}: {name}");
    }
    for name in expected.keys() {
        assert!(ours.contains_key(name) || unsaid.contains(&name.as_str()), "{what}: nobody reads '{name}'");
    }
}

#[test]
fn every_field_of_every_body_packet_is_read_and_written() {
    for (name, bodies) in
        [("body_none", 0), ("body_18", 2), ("body_34", 1), ("body_38", 3), ("body_format_3", 3)]
    {
        let expected = json_of(&format!("{name}.json"));
        let packet = packet(name).unwrap();
        // Checked by the parser, and the same in each packet.
        let unsaid = ["magic", "major", "body_record_size", "payload_size_bytes"];
        assert_same(name, &header_fields(&packet.header), &expected["header"], &unsaid);
        assert_eq!(packet.bodies().len(), bodies);
        assert_eq!(expected["bodies"].as_array().unwrap().len(), bodies);
        for (at, body) in packet.bodies().enumerate() {
            assert_same(&format!("{name}: body {at}"), &body_fields(&body), &expected["bodies"][at], &[]);
        }
        let written = BodyPacket::encode(&packet.header, &packet.bodies().collect::<Vec<_>>()).unwrap();
        assert_eq!(written.bytes(), packet.bytes(), "{name}");
    }
}

#[test]
fn each_broken_body_packet_is_refused_by_its_rule() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(fault) = file.strip_prefix("body_bad_").and_then(|file| file.strip_suffix(".hex")) else {
            continue;
        };
        let error = packet(&format!("body_bad_{fault}")).expect_err(fault);
        let right = match fault {
            "magic" => matches!(error, BodyError::Magic(0x7d)),
            "major_0" => error == BodyError::Version(0),
            "major_2" => error == BodyError::Version(2),
            "empty" => error == BodyError::Short(0),
            "truncated_in_header" => matches!(error, BodyError::Short(1..64)),
            _ if fault.starts_with("record_size") => matches!(error, BodyError::RecordSize(_)),
            "count_and_payload_size_too_high" => matches!(error, BodyError::Length { .. }),
            _ if fault.starts_with("count") || fault.starts_with("payload_size") => {
                matches!(error, BodyError::PayloadSize { .. })
            }
            _ if fault.starts_with("truncated") || fault.starts_with("trailing") => {
                matches!(error, BodyError::Length { .. })
            }
            _ if fault.starts_with("keypoint_count_over_") => {
                let joints: usize = fault.rsplit('_').next().unwrap().parse().unwrap();
                matches!(error, BodyError::Keypoints { max, .. } if max == joints)
            }
            _ if fault.starts_with("label") => error == BodyError::Label,
            other => panic!("what is wrong with '{other}'?"),
        };
        assert!(right, "{fault}: {error}");
        seen += 1;
    }
    assert!(seen >= 19, "{seen}");
}
