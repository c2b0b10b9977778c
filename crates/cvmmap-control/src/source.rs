// SPDX-License-Identifier: MPL-2.0

//! Asking a producer, in whichever dialect it speaks.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::error::{Code, ControlError};
use crate::proto::*;
use crate::subjects::Subjects;

/// Bits of [`GetSourceInfoResponse::flags`].
pub mod flags {
    /// Seeks are taken.
    pub const CAN_SEEK: u32 = 0x1;
    /// It starts anew at its end.
    pub const AUTO_LOOP: u32 = 0x2;
    /// It publishes depth.
    pub const HAS_DEPTH: u32 = 0x4;
    /// It publishes bodies.
    pub const HAS_BODY: u32 = 0x8;
    /// It can record.
    pub const CAN_RECORD: u32 = 0x10;
    /// A loop comes with a reset event.
    pub const LOOP_EMITS_RESET: u32 = 0x20;

    /// Their names, in the order of the bits.
    pub const NAMES: [&str; 6] =
        ["can-seek", "auto-loop", "has-depth", "has-body", "can-record", "loop-emits-reset"];
}

/// What a source can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Seeks are taken. `None`: the producer does not say here.
    pub can_seek: Option<bool>,
    /// Formats of its recorder, as numbers of [`RecordingFormat`].
    pub formats: Vec<i32>,
}

/// Whose recorder, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorder {
    /// The producer's, of ZED recordings.
    Svo,
    /// The producer's, of MCAP; of the older dialect alone.
    Mcap,
    /// The streamer's, of MP4.
    StreamerMp4,
    /// The streamer's, of MCAP.
    StreamerMcap,
}

/// A producer at the other end of a connection. Each request waits for its answer at most for the timeout, per dialect.
#[derive(Clone)]
pub struct Source {
    connection: Connection,
    subjects: Subjects,
    timeout: Duration,
}

/// An answer that says by a code whether the request was served.
trait Answer: Message + Default {
    fn code(&self) -> i32;
    fn message(&self) -> &str {
        ""
    }
}

macro_rules! answers {
    ($($name:ident $(. $message:ident)?),*) => {$(
        impl Answer for $name {
            fn code(&self) -> i32 {
                self.error
            }
            $(fn message(&self) -> &str {
                &self.$message
            })?
        }
    )*};
}
answers!(
    ResetFrameCountResponse,
    GetSourceInfoResponse,
    SeekTimestampResponse,
    CapabilitiesResponse,
    NewestCapabilitiesResponse,
    PlaylistResponse.error_message,
    GetCameraControlCapabilitiesResponse.error_message,
    CameraControlResponse.error_message,
    RecordingStatusResponse.error_message
);

impl Source {
    /// `connection` may be down; requests then fail at once.
    pub fn new(connection: Connection, subjects: Subjects) -> Self {
        Self { connection, subjects, timeout: REQUEST_TIMEOUT }
    }

    /// With another limit for each request than [`REQUEST_TIMEOUT`].
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The names of this producer.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// The connection that it is asked over.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The longest time that any request of this type takes: two dialects, and the way there and back.
    pub fn limit(&self) -> Duration {
        self.timeout * 2 + Duration::from_millis(500)
    }

    /// Lets the frame count start at 0 again. No event follows.
    pub async fn reset_frame_count(&self) -> Result<(), ControlError> {
        self.source::<ResetFrameCountResponse>("reset", &EmptyRequest {}).await.map(drop)
    }

    /// Kind, clock, timeline, and where it is now.
    pub async fn info(&self) -> Result<GetSourceInfoResponse, ControlError> {
        self.source("info", &EmptyRequest {}).await
    }

    /// Goes to the first sample at or after `target_timestamp_ns`, in the producer's own clock.
    pub async fn seek(&self, target_timestamp_ns: u64) -> Result<SeekTimestampResponse, ControlError> {
        self.source("seek", &SeekTimestampRequest { target_timestamp_ns }).await
    }

    /// What it can do; both forms of the answer are read.
    pub async fn capabilities(&self) -> Result<Capabilities, ControlError> {
        let subjects = self.both("source.capabilities");
        let (subject, answer) = self.connection.ask_first(&subjects, Bytes::new(), self.timeout).await?;
        parse_capabilities(subject, answer)
    }

    /// What it plays.
    pub async fn playlist(&self) -> Result<PlaylistInfo, ControlError> {
        let answer: PlaylistResponse = self.source("playlist.info", &EmptyRequest {}).await?;
        Ok(answer.info.unwrap_or_default())
    }

    /// Plays these files from now on.
    pub async fn apply_playlist(&self, paths: Vec<String>, sort: bool) -> Result<PlaylistInfo, ControlError> {
        let answer: PlaylistResponse =
            self.source("playlist.apply", &ApplyPlaylistRequest { paths, sort }).await?;
        Ok(answer.info.unwrap_or_default())
    }

    /// Settings that the camera has.
    pub async fn camera_capabilities(&self) -> Result<GetCameraControlCapabilitiesResponse, ControlError> {
        self.camera("capabilities", &EmptyRequest {}).await
    }

    /// A setting's value or range; a [`CameraSetting`], or the number of one that is not known here.
    pub async fn camera_control(&self, setting: impl Into<i32>) -> Result<CameraControlState, ControlError> {
        let request = GetCameraControlRequest { setting: setting.into() };
        let answer: CameraControlResponse = self.camera("get", &request).await?;
        Ok(answer.state.unwrap_or_default())
    }

    /// Sets a value, or hands the setting over to the camera.
    pub async fn set_camera_control(
        &self,
        setting: impl Into<i32>,
        mode: CameraControlMode,
        value: i32,
    ) -> Result<CameraControlState, ControlError> {
        let request = SetCameraControlRequest { setting: setting.into(), mode: mode.into(), value };
        let answer: CameraControlResponse = self.camera("set", &request).await?;
        Ok(answer.state.unwrap_or_default())
    }

    /// Sets the range in which the camera chooses.
    pub async fn set_camera_range(
        &self,
        setting: impl Into<i32>,
        min_value: i32,
        max_value: i32,
    ) -> Result<CameraControlState, ControlError> {
        let request = SetCameraControlRangeRequest { setting: setting.into(), min_value, max_value };
        let answer: CameraControlResponse = self.camera("set_range", &request).await?;
        Ok(answer.state.unwrap_or_default())
    }

    /// Starts a recording; the path is one of the recorder's machine.
    pub async fn start_recording(
        &self,
        recorder: Recorder,
        request: RecordingStartRequest,
    ) -> Result<RecordingStatusResponse, ControlError> {
        self.call(&self.recorder(recorder, "start"), &request).await
    }

    /// Ends the recording.
    pub async fn stop_recording(&self, recorder: Recorder) -> Result<RecordingStatusResponse, ControlError> {
        self.call(&self.recorder(recorder, "stop"), &EmptyRequest {}).await
    }

    /// What the recorder does.
    pub async fn recording_status(
        &self,
        recorder: Recorder,
    ) -> Result<RecordingStatusResponse, ControlError> {
        self.call(&self.recorder(recorder, "status"), &EmptyRequest {}).await
    }

    /// The newer dialect first.
    fn both(&self, tail: &str) -> Vec<String> {
        vec![format!("{}.{tail}", self.subjects.producer()), format!("{}.{tail}", self.subjects.control())]
    }

    fn recorder(&self, recorder: Recorder, verb: &str) -> Vec<String> {
        match recorder {
            Recorder::Svo => self.both(&format!("recorder.svo.{verb}")),
            Recorder::Mcap => vec![format!("{}.recorder.mcap.{verb}", self.subjects.control())],
            Recorder::StreamerMp4 => vec![format!("{}.recorder.mp4.{verb}", self.subjects.streamer())],
            Recorder::StreamerMcap => vec![format!("{}.recorder.mcap.{verb}", self.subjects.streamer())],
        }
    }

    async fn source<A: Answer>(&self, tail: &str, request: &impl Message) -> Result<A, ControlError> {
        self.call(&self.both(&format!("source.{tail}")), request).await
    }

    async fn camera<A: Answer>(&self, tail: &str, request: &impl Message) -> Result<A, ControlError> {
        self.call(&[format!("{}.camera_control.{tail}", self.subjects.producer())], request).await
    }

    async fn call<A: Answer>(&self, subjects: &[String], request: &impl Message) -> Result<A, ControlError> {
        let payload = request.encode_to_vec().into();
        let (subject, answer) = self.connection.ask_first(subjects, payload, self.timeout).await?;
        let answer = A::decode(answer)
            .map_err(|error| ControlError::Malformed { subject: subject.into(), why: error.to_string() })?;
        accepted(subject, answer)
    }
}

fn accepted<A: Answer>(subject: &str, answer: A) -> Result<A, ControlError> {
    match answer.code() {
        0 => Ok(answer),
        code => Err(ControlError::Refused {
            subject: subject.into(),
            code: Code(code),
            message: answer.message().into(),
        }),
    }
}

/// Field 2 is a bool in the older form and a list in the newest one: they differ in their wire type.
fn parse_capabilities(subject: &str, bytes: Bytes) -> Result<Capabilities, ControlError> {
    if let Ok(older) = CapabilitiesResponse::decode(bytes.clone()) {
        let older = accepted(subject, older)?;
        return Ok(Capabilities {
            can_seek: Some(older.can_seek),
            formats: older.available_recording_formats,
        });
    }
    match NewestCapabilitiesResponse::decode(bytes) {
        Ok(newest) => {
            let newest = accepted(subject, newest)?;
            Ok(Capabilities { can_seek: None, formats: newest.available_recording_formats })
        }
        Err(error) => Err(ControlError::Malformed { subject: subject.into(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_capabilities_are_read() {
        let parse = |bytes: &'static [u8]| parse_capabilities("s", Bytes::from_static(bytes));
        // Older: can_seek, then the formats packed.
        let older = parse(&[0x10, 1, 0x1a, 2, 1, 2]).unwrap();
        assert_eq!(older, Capabilities { can_seek: Some(true), formats: vec![1, 2] });
        // Newest: the formats in field 2.
        let newest = parse(&[0x12, 2, 1, 2]).unwrap();
        assert_eq!(newest, Capabilities { can_seek: None, formats: vec![1, 2] });
        assert_eq!(parse(&[0x08, 3]).unwrap_err().name(), "unsupported");
        assert_eq!(parse(&[0x08, 3, 0x12, 1, 1]).unwrap_err().name(), "unsupported");
        assert_eq!(parse(&[0x12, 9, 1]).unwrap_err().name(), "malformed");
    }
}
