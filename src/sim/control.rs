// SPDX-License-Identifier: MPL-2.0

//! The simulator on the control plane: its events, and what it answers.
//!
//! Requests come on threads of the control plane. What they change is changed by the publishing thread between two
//! frames; nothing but the moment's state is shared.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cvmmap_control::proto::*;
use cvmmap_control::service::{Identity, Producer, Refusal, SourceHandler};
use cvmmap_control::source::{Capabilities, flags};
use cvmmap_control::{Connection, Link, ServerUrl, Subscription};
use cvmmap_ipc::{FrameId, Target};

use super::camera::Controls;
use super::replay::Replay;
use crate::exit::{Failure, configuration};
use crate::tell;

/// Less than the second that clients wait.
const ANSWERS_WITHIN: Duration = Duration::from_millis(900);

/// What the publishing thread is asked for.
pub(super) enum Command {
    Reset,
    /// The sample, and who waits for the frame that it will be.
    Seek(u64, SyncSender<FrameId>),
}

/// What a simulator is, for those who ask.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub target: Target,
    pub url: ServerUrl,
    pub replay: Option<Replay>,
    pub media_time: bool,
    pub depth: bool,
    pub bodies: bool,
}

pub(super) struct Control {
    connection: Connection,
    identity: Identity,
    desk: Arc<Desk>,
    /// `None` between its end and its next start.
    producer: Option<Producer>,
    commands: Receiver<Command>,
    _watch: Subscription,
}

impl Control {
    /// Answers from now on; the server may come and go.
    pub fn start(about: About) -> Result<Self, Failure> {
        let connection = Connection::open(&about.url).map_err(configuration)?;
        let url = connection.url().to_string();
        // The connection tells each outage once.
        let watch = connection.watch(move |link| match link {
            Link::Connecting => (),
            Link::Up => tell::talk(format_args!("NATS: {url} is there")),
            Link::Down(None) => tell::talk(format_args!("NATS: {url} is away")),
            Link::Down(Some(why)) => tell::talk(format_args!("NATS: no server at {url}: {why}")),
        });
        let identity = Identity {
            target: about.target.clone(),
            backend: "sim".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let (send, commands) = channel();
        let desk =
            Arc::new(Desk { about, now: Mutex::default(), camera: Mutex::default(), send: Mutex::new(send) });
        let mut control = Self { connection, identity, desk, producer: None, commands, _watch: watch };
        control.answer();
        Ok(control)
    }

    fn answer(&mut self) {
        self.producer = Some(Producer::start(&self.connection, &self.identity, self.desk.clone()));
    }

    /// A frame was published, and may be the first of a new round.
    pub fn published(&mut self, frame: FrameId, reset: bool) {
        let first = self.desk.now.lock().unwrap().replace(frame).is_none();
        let Some(producer) = &self.producer else { return };
        if first {
            producer.online();
        } else if reset {
            producer.stream_reset();
        }
    }

    pub fn publish_bodies(&self, packet: Bytes) {
        if let Some(producer) = &self.producer {
            producer.publish_bodies(packet);
        }
    }

    /// Says that it goes; half a second at most.
    pub fn offline(&mut self) {
        *self.desk.now.lock().unwrap() = None;
        if let Some(producer) = self.producer.take() {
            producer.offline();
        }
    }

    /// After [`Control::offline`].
    pub fn again(&mut self) {
        self.answer();
    }

    /// What was asked for, if anything was within this time.
    pub fn command(&self, within: Duration) -> Option<Command> {
        match self.commands.recv_timeout(within) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the desk holds the other end"),
        }
    }
}

/// Who answers.
struct Desk {
    about: About,
    /// The last frame.
    now: Mutex<Option<FrameId>>,
    camera: Mutex<Controls>,
    send: Mutex<Sender<Command>>,
}

impl Desk {
    fn command(&self, command: Command) -> Result<(), Refusal> {
        let sent = self.send.lock().unwrap().send(command);
        sent.map_err(|_| Refusal::new(ErrorCode::Error, "the simulator ends"))
    }
}

impl SourceHandler for Desk {
    fn reset_frame_count(&self) -> Result<(), Refusal> {
        self.command(Command::Reset)
    }

    fn info(&self) -> GetSourceInfoResponse {
        let About { replay, media_time, depth, bodies, .. } = &self.about;
        let domain = if *media_time { TimestampDomain::Media } else { TimestampDomain::Unix };
        let mut info = GetSourceInfoResponse {
            source_kind: SourceKind::Live.into(),
            timestamp_domain: domain.into(),
            ..Default::default()
        };
        if let Some(replay) = replay {
            info.source_kind = SourceKind::Finite.into();
            info.flags |= flags::CAN_SEEK;
            if replay.looped {
                info.flags |= flags::AUTO_LOOP | flags::LOOP_EMITS_RESET;
            }
            (info.timeline_end_ns, info.duration_ns) = (replay.end(), replay.end());
        }
        if *depth {
            info.flags |= flags::HAS_DEPTH;
        }
        if *bodies {
            info.flags |= flags::HAS_BODY;
        }
        if let Some(frame) = *self.now.lock().unwrap() {
            info.current_timestamp_ns = frame.timestamp_ns;
            info.current_frame_count = frame.count;
        }
        info
    }

    fn seek(&self, target_ns: u64) -> Result<FrameId, Refusal> {
        let replay = self.about.replay.ok_or_else(Refusal::unsupported)?;
        let sample = replay.at_or_after(target_ns).ok_or_else(|| {
            let message = format!("{target_ns} is not within 0 to {}", replay.end());
            Refusal::new(ErrorCode::OutOfRange, message)
        })?;
        // No room: whoever answers knows that it was taken.
        let (reply, landed) = sync_channel(0);
        self.command(Command::Seek(sample, reply))?;
        landed.recv_timeout(ANSWERS_WITHIN).map_err(|_| {
            let message = format!("the simulator was busy for {} ms", ANSWERS_WITHIN.as_millis());
            Refusal::new(ErrorCode::Timeout, message)
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { can_seek: Some(self.about.replay.is_some()), formats: Vec::new() }
    }

    fn camera_settings(&self) -> Vec<CameraSetting> {
        self.camera.lock().unwrap().settings()
    }

    fn camera_control(&self, setting: i32) -> Result<CameraControlState, Refusal> {
        self.camera.lock().unwrap().get(setting)
    }

    fn set_camera_control(&self, request: SetCameraControlRequest) -> Result<CameraControlState, Refusal> {
        self.camera.lock().unwrap().set(request)
    }

    fn set_camera_range(&self, request: SetCameraControlRangeRequest) -> Result<CameraControlState, Refusal> {
        self.camera.lock().unwrap().set_range(request)
    }

    fn garbage(&self, subject: &str, why: &str) {
        tell::talk(format_args!("NATS: a request to '{subject}' cannot be read: {why}; told once"));
    }
}
