// SPDX-License-Identifier: MPL-2.0

//! Answers of a producer as reports. Numbers without a word stay numbers.

use cvmmap_control::Recorder;
use cvmmap_control::body::{Body, BodyHeader};
use cvmmap_control::names::{
    ACTION_STATES, CAMERA_SETTINGS, CAMERA_VALUE_KINDS, MODULE_STATUSES, Names, RECORDING_FORMATS,
    SOURCE_KINDS, TIMESTAMP_DOMAINS, TRACKING_STATES,
};
use cvmmap_control::producers::Producer;
use cvmmap_control::proto::*;
use cvmmap_control::source::flags;
use cvmmap_ipc::Target;
use serde_json::{Value, json};

use crate::{discover, show};

/// The name of a number, or the number.
pub(super) fn word(names: Names, number: i32) -> String {
    names.name(number).map_or_else(|| number.to_string(), str::to_owned)
}

pub(super) fn info(target: &Target, info: &GetSourceInfoResponse) -> Value {
    json!({
        "target": target.to_string(),
        "nats_key": target.nats_target_key(),
        "kind": word(SOURCE_KINDS, info.source_kind),
        "clock": word(TIMESTAMP_DOMAINS, info.timestamp_domain),
        "flags": flag_names(info.flags),
        "timeline_start_ns": info.timeline_start_ns,
        "timeline_end_ns": info.timeline_end_ns,
        "duration_ns": info.duration_ns,
        "current_timestamp_ns": info.current_timestamp_ns,
        "current_frame_count": info.current_frame_count,
    })
}

fn flag_names(bits: u32) -> Vec<String> {
    let set = (0..u32::BITS).filter(|bit| bits & (1 << bit) != 0);
    set.map(|bit| flags::NAMES.get(bit as usize).map_or(format!("0x{:x}", 1u32 << bit), |&name| name.into()))
        .collect()
}

pub(super) fn seek(target_ns: u64, start: u64, landed: &SeekTimestampResponse) -> Value {
    json!({
        "requested_timestamp_ns": target_ns,
        "landed_timestamp_ns": landed.landed_timestamp_ns,
        "landed_seconds": landed.landed_timestamp_ns.saturating_sub(start) as f64 / 1e9,
        "landed_frame_count": landed.landed_frame_count,
        "exact_match": landed.exact_match,
    })
}

pub(super) fn camera_state(state: &CameraControlState) -> Value {
    let setting = word(CAMERA_SETTINGS, state.setting);
    let kind = word(CAMERA_VALUE_KINDS, state.kind);
    if state.kind == i32::from(CameraValueKind::Range) {
        json!({ "setting": setting, "kind": kind, "min_value": state.min_value, "max_value": state.max_value })
    } else {
        json!({ "setting": setting, "kind": kind, "value": state.value })
    }
}

/// The settings of a list as a table.
pub(super) fn camera_table(list: &Value) -> String {
    let row = |state: &Value| {
        let value = match (&state["min_value"], &state["max_value"], &state["error"]) {
            (Value::Null, _, Value::Null) => show::cell(&state["value"]),
            (Value::Null, _, error) => show::cell(error),
            (min, max, _) => format!("{min} to {max}"),
        };
        vec![show::cell(&state["setting"]), show::cell(&state["kind"]), value]
    };
    let heading = ["SETTING", "KIND", "VALUE"].map(str::to_owned).to_vec();
    let rows = list["settings"].as_array().into_iter().flatten().map(row);
    show::table(&[heading].into_iter().chain(rows).collect::<Vec<_>>())
}

pub(super) fn playlist(info: &PlaylistInfo) -> Value {
    json!({
        "has_playlist": info.has_playlist,
        "paths": info.paths,
        "sort_by_recording_time": info.sort_by_recording_time,
        "current_index": info.current_index,
        "current_path": info.current_path,
    })
}

pub(super) fn recording(recorder: Recorder, status: &RecordingStatusResponse) -> Value {
    let format = match recorder {
        // The contract has no number for it.
        Recorder::StreamerMp4 => json!("mp4"),
        _ => json!(word(RECORDING_FORMATS, status.format)),
    };
    json!({
        "format": format,
        "can_record": status.can_record,
        "is_recording": status.is_recording,
        "is_paused": status.is_paused,
        "last_frame_ok": status.last_frame_ok,
        "frames_ingested": status.frames_ingested,
        "frames_encoded": status.frames_encoded,
        "active_path": status.active_path,
        "message": status.error_message,
    })
}

/// What is known of a producer now. An answer to `info` that failed says why.
pub(super) fn status(
    target: &Target,
    producer: Option<&Producer>,
    info: Result<&GetSourceInfoResponse, String>,
) -> Value {
    json!({
        "target": target.to_string(),
        "nats_key": target.nats_target_key(),
        "found": producer.map(discover::report),
        "info": match info {
            Ok(info) => self::info(target, info),
            Err(why) => json!({ "error": why }),
        },
    })
}

pub(super) fn event(event: &ModuleStatusEvent) -> Value {
    json!({
        "event": word(MODULE_STATUSES, event.status),
        "instance": event.instance,
        "timestamp_ns": event.timestamp_ns,
    })
}

/// `bodies` are those of the packet.
pub(super) fn packet(header: &BodyHeader, bodies: &[Body]) -> Value {
    let bodies: Vec<Value> = bodies
        .iter()
        .map(|body| {
            json!({
                "id": body.id,
                "tracking_state": word(TRACKING_STATES, body.tracking_state.into()),
                "action_state": word(ACTION_STATES, body.action_state.into()),
                "confidence": body.confidence,
                "position": body.position,
                "velocity": body.velocity,
                "dimensions": body.dimensions,
                "keypoint_count": body.keypoint_count,
            })
        })
        .collect();
    json!({
        "frame_count": header.frame_count,
        "timestamp_ns": header.time_ns(),
        "label": header.label,
        "joints": header.joints(),
        "body_count": header.body_count,
        "bodies": bodies,
    })
}

pub(super) fn packet_line(header: &BodyHeader, bodies: &[Body]) -> String {
    let mut line =
        format!("frame {} at {} ns: {} bodies", header.frame_count, header.time_ns(), bodies.len());
    for body in bodies {
        let [x, y, z] = body.position;
        let state = word(TRACKING_STATES, body.tracking_state.into());
        line += &format!("; {} {state} {:.0} % at {x:.2} {y:.2} {z:.2}", body.id, body.confidence);
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn flags_without_a_name_stay_numbers() {
        assert_eq!(
            super::flag_names(0x1 | 0x20 | 0x8000_0000),
            ["can-seek", "loop-emits-reset", "0x80000000"]
        );
    }
}
