// SPDX-License-Identifier: MPL-2.0

//! A producer: its endpoints in both dialects, its status events in their order, and how it is found.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::{FrameId, Target};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Endpoint, OnGarbage, RecorderHandler, Refusal, Service, recorder_endpoints};
use crate::connection::{Connection, Line, Link};
use crate::discovery::PRODUCER;
use crate::proto::*;
use crate::runtime::{block_on, runtime};
use crate::source::Capabilities;
use crate::subjects::Subjects;

/// Body packets that may wait to be sent.
const BODIES: usize = 64;
/// OFFLINE may take so long to leave.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a producer does when it is asked. Called on threads of its own; each may take its time.
///
/// The defaults are those of a live source that can do nothing but publish.
pub trait SourceHandler: Send + Sync + 'static {
    /// Lets the frame count start at 0 again.
    ///
    /// # Errors
    /// Why not.
    fn reset_frame_count(&self) -> Result<(), Refusal>;

    /// Kind, clock, timeline, and where it is now; `error` is left at 0.
    fn info(&self) -> GetSourceInfoResponse;

    /// Goes to the first sample at or after the time, in ns of the producer's clock; returns where it landed.
    ///
    /// # Errors
    /// Why not: [`ErrorCode::OutOfRange`] outside the timeline.
    fn seek(&self, _target_ns: u64) -> Result<FrameId, Refusal> {
        Err(Refusal::unsupported())
    }

    /// What else it can do.
    fn capabilities(&self) -> Capabilities {
        Capabilities { can_seek: Some(false), formats: Vec::new() }
    }

    /// What it plays.
    ///
    /// # Errors
    /// Why it cannot say.
    fn playlist(&self) -> Result<PlaylistInfo, Refusal> {
        Err(Refusal::unsupported())
    }

    /// Plays these files from now on.
    ///
    /// # Errors
    /// Why not.
    fn apply_playlist(&self, _paths: Vec<String>, _sort: bool) -> Result<PlaylistInfo, Refusal> {
        Err(Refusal::unsupported())
    }

    /// Settings that the camera has.
    fn camera_settings(&self) -> Vec<CameraSetting> {
        Vec::new()
    }

    /// A setting's value or range; numbers that are no [`CameraSetting`] come as they are.
    ///
    /// # Errors
    /// Why not.
    fn camera_control(&self, _setting: i32) -> Result<CameraControlState, Refusal> {
        Err(Refusal::unsupported())
    }

    /// Sets a value.
    ///
    /// # Errors
    /// Why not.
    fn set_camera_control(&self, _request: SetCameraControlRequest) -> Result<CameraControlState, Refusal> {
        Err(Refusal::unsupported())
    }

    /// Sets a range.
    ///
    /// # Errors
    /// Why not.
    fn set_camera_range(
        &self,
        _request: SetCameraControlRangeRequest,
    ) -> Result<CameraControlState, Refusal> {
        Err(Refusal::unsupported())
    }

    /// A request that could not be read: its subject, and why. Called once for each subject.
    fn garbage(&self, _subject: &str, _why: &str) {}
}

/// Who publishes.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its names.
    pub target: Target,
    /// What it is made with, as in `gstreamer`.
    pub backend: String,
    /// Version of the program.
    pub version: String,
}

impl Identity {
    /// The keys by which clients that discovered it find its pictures.
    fn metadata(&self) -> HashMap<String, String> {
        let target = &self.target;
        let subjects = Subjects::new(target.nats_target_key());
        let own = [
            ("nats_target_key", target.nats_target_key()),
            ("body_subject", subjects.body()),
            ("status_subject", subjects.status()),
            ("producer_subject_prefix", subjects.producer()),
            ("control_subject_prefix", subjects.control()),
            ("backend", self.backend.clone()),
            ("build_version", self.version.clone()),
        ];
        names_of(target).into_iter().chain(own).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A target's names, as the metadata of services has them.
pub fn names_of(target: &Target) -> [(&'static str, String); 6] {
    [
        ("instance_name", target.instance().to_owned()),
        ("namespace", target.namespace().to_owned()),
        ("ipc_prefix", target.prefix().to_owned()),
        ("base_name", target.base_name()),
        ("shm_name", target.shm_name()),
        ("zmq_addr", target.zmq_endpoint()),
    ]
}

/// A producer on the control plane, until it is dropped or goes [`offline`](Producer::offline).
pub struct Producer {
    say: mpsc::UnboundedSender<Say>,
    bodies: mpsc::Sender<Bytes>,
    bodies_dropped: AtomicU64,
    service: Service,
}

enum Say {
    Status(ModuleStatus),
    /// OFFLINE, and then this.
    Farewell(oneshot::Sender<()>),
}

impl Producer {
    /// Answers from now on; says nothing of itself before [`Producer::online`].
    pub fn start(connection: &Connection, identity: &Identity, handler: Arc<impl SourceHandler>) -> Self {
        let subjects = Subjects::new(identity.target.nats_target_key());
        let teller = handler.clone();
        let garbage: OnGarbage = Arc::new(move |subject, why| teller.garbage(subject, why));
        let mut endpoints = endpoints(&subjects.producer(), &handler, &garbage);
        endpoints.extend(camera_endpoints(&subjects.producer(), &handler, &garbage));
        let mut older = self::endpoints(&subjects.control(), &handler, &garbage);
        // Endpoints of a service have names of their own, and the older dialect's would be the same.
        older.iter_mut().for_each(|endpoint| endpoint.listed = false);
        endpoints.extend(older);
        let service = Service::start(connection, PRODUCER, identity.metadata(), endpoints);
        let (say, said) = mpsc::unbounded_channel();
        let (bodies, packets) = mpsc::channel(BODIES);
        // Beside the events, which wait for no packet.
        runtime().spawn(publish_packets(connection.clone(), subjects.body(), packets));
        let announcer = Announcer {
            client: connection.client().clone(),
            line: connection.line_watch(),
            ready: service.ready(),
            instance: identity.target.instance().to_owned(),
            subjects,
            voice: Voice::default(),
        };
        runtime().spawn(announcer.run(said));
        Self { say, bodies, bodies_dropped: AtomicU64::new(0), service }
    }

    /// It publishes frames now.
    pub fn online(&self) {
        let _ = self.say.send(Say::Status(ModuleStatus::Online));
    }

    /// Its stream starts anew: a loop, or other pictures.
    pub fn stream_reset(&self) {
        let _ = self.say.send(Say::Status(ModuleStatus::StreamReset));
    }

    /// Publishes a body packet; dropped and counted where the server is too slow, and dropped where there is none.
    pub fn publish_bodies(&self, packet: Bytes) {
        if self.bodies.try_send(packet).is_err() {
            self.bodies_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Body packets that the server was too slow for.
    pub fn bodies_dropped(&self) -> u64 {
        self.bodies_dropped.load(Ordering::Relaxed)
    }

    /// It goes: answers what it was asked, and waits until OFFLINE is said; half a second at most, and not at all
    /// without a server.
    pub fn offline(self) {
        let (done, is_done) = oneshot::channel();
        let said = self.say.send(Say::Farewell(done)).is_ok();
        let service = self.service;
        let farewell = async move {
            service.end().await;
            if said {
                let _ = is_done.await;
            }
        };
        let _ = block_on(farewell, FAREWELL);
    }
}

async fn publish_packets(connection: Connection, subject: String, mut packets: mpsc::Receiver<Bytes>) {
    while let Some(packet) = packets.recv().await {
        if connection.link() == Link::Up {
            let _ = connection.client().publish(subject.clone(), packet).await;
        }
    }
}

/// Which events go out: none is said to nobody, and a server that comes is told what holds.
#[derive(Debug, Default)]
struct Voice {
    /// Which of the server's arrivals it speaks to.
    server: Option<u64>,
    online: bool,
}

impl Voice {
    /// `server`: its arrivals so far, where it is there.
    fn hear(&mut self, server: Option<u64>) -> Option<ModuleStatus> {
        let before = std::mem::replace(&mut self.server, server);
        (server.is_some() && server != before && self.online).then_some(ModuleStatus::Online)
    }

    fn say(&mut self, status: ModuleStatus) -> Option<ModuleStatus> {
        let was = self.online;
        let news = match status {
            ModuleStatus::Online => !std::mem::replace(&mut self.online, true),
            ModuleStatus::Offline => std::mem::take(&mut self.online),
            ModuleStatus::StreamReset => was,
            ModuleStatus::Unknown => false,
        };
        (news && self.server.is_some()).then_some(status)
    }
}

struct Announcer {
    client: async_nats::Client,
    line: watch::Receiver<Line>,
    /// Whoever hears that it is online may ask it at once.
    ready: watch::Receiver<bool>,
    subjects: Subjects,
    instance: String,
    voice: Voice,
}

impl Announcer {
    async fn run(mut self, mut said: mpsc::UnboundedReceiver<Say>) {
        self.hear().await;
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.line.changed() => self.hear().await,
                Ok(()) = self.ready.changed() => self.hear().await,
                say = said.recv() => match say {
                    Some(Say::Status(status)) => {
                        let status = self.voice.say(status);
                        self.publish(status).await;
                    }
                    Some(Say::Farewell(done)) => {
                        let status = self.voice.say(ModuleStatus::Offline);
                        self.publish(status).await;
                        if self.voice.server.is_some() {
                            let _ = self.client.flush().await;
                        }
                        let _ = done.send(());
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    async fn hear(&mut self) {
        let ready = *self.ready.borrow_and_update();
        let server = {
            let line = self.line.borrow_and_update();
            (ready && line.link == Link::Up).then_some(line.arrivals)
        };
        let status = self.voice.hear(server);
        self.publish(status).await;
    }

    async fn publish(&self, status: Option<ModuleStatus>) {
        let Some(status) = status else { return };
        let event = ModuleStatusEvent {
            status: status.into(),
            instance: self.instance.clone(),
            timestamp_ns: unix_now_ns(),
        };
        let _ = self.client.publish(self.subjects.status(), event.encode_to_vec().into()).await;
    }
}

/// What both dialects have, under a dialect's prefix.
fn endpoints(prefix: &str, handler: &Arc<impl SourceHandler>, garbage: &OnGarbage) -> Vec<Endpoint> {
    macro_rules! endpoint {
        ($tail:literal, |$handler:ident, $request:ident: $Request:ty| $answer:expr) => {{
            let $handler = handler.clone();
            Endpoint::new(prefix, $tail, garbage, move |$request: $Request| $answer)
        }};
    }
    let playlist = |info| PlaylistResponse { info: Some(info), ..Default::default() };
    let mut endpoints = vec![
        endpoint!("source.reset", |handler, _request: EmptyRequest| {
            handler.reset_frame_count().map(|()| ResetFrameCountResponse::default())
        }),
        endpoint!("source.info", |handler, _request: EmptyRequest| Ok(handler.info())),
        endpoint!("source.seek", |handler, request: SeekTimestampRequest| {
            let target_ns = request.target_timestamp_ns;
            handler.seek(target_ns).map(|frame| SeekTimestampResponse {
                requested_timestamp_ns: target_ns,
                landed_timestamp_ns: frame.timestamp_ns,
                landed_frame_count: frame.count,
                exact_match: frame.timestamp_ns == target_ns,
                ..Default::default()
            })
        }),
        endpoint!("source.capabilities", |handler, _request: EmptyRequest| {
            let Capabilities { can_seek, formats } = handler.capabilities();
            Ok(CapabilitiesResponse {
                can_seek: can_seek.unwrap_or_default(),
                available_recording_formats: formats,
                ..Default::default()
            })
        }),
        endpoint!("source.playlist.apply", |handler, request: ApplyPlaylistRequest| {
            handler.apply_playlist(request.paths, request.sort).map(playlist)
        }),
        endpoint!("source.playlist.info", |handler, _request: EmptyRequest| handler.playlist().map(playlist)),
    ];
    for format in ["svo", "mcap"] {
        endpoints.extend(recorder_endpoints(prefix, format, Arc::new(NoRecorder), garbage.clone()));
        let tail = format!("recorder.{format}.capabilities");
        endpoints.push(Endpoint::new(prefix, &tail, garbage, |_: EmptyRequest| {
            Err::<CapabilitiesResponse, _>(Refusal::unsupported())
        }));
    }
    endpoints
}

/// Recording is the streamer's: a producer of ours says so.
struct NoRecorder;

impl RecorderHandler for NoRecorder {
    fn start(&self, _request: RecordingStartRequest) -> Result<RecordingStatusResponse, Refusal> {
        Err(Refusal::unsupported())
    }

    fn stop(&self) -> Result<RecordingStatusResponse, Refusal> {
        Err(Refusal::unsupported())
    }

    fn status(&self) -> RecordingStatusResponse {
        RecordingStatusResponse { error: ErrorCode::Unsupported.into(), ..Default::default() }
    }
}

/// What the newer dialect alone has.
fn camera_endpoints(prefix: &str, handler: &Arc<impl SourceHandler>, garbage: &OnGarbage) -> Vec<Endpoint> {
    let state = |state| CameraControlResponse { state: Some(state), ..Default::default() };
    let [lister, getter, setter, ranger] = std::array::from_fn(|_| handler.clone());
    vec![
        Endpoint::new(prefix, "camera_control.capabilities", garbage, move |_: EmptyRequest| {
            let settings = lister.camera_settings();
            Ok(GetCameraControlCapabilitiesResponse {
                supported: !settings.is_empty(),
                supported_settings: settings.into_iter().map(i32::from).collect(),
                ..Default::default()
            })
        }),
        Endpoint::new(prefix, "camera_control.get", garbage, move |request: GetCameraControlRequest| {
            getter.camera_control(request.setting).map(state)
        }),
        Endpoint::new(prefix, "camera_control.set", garbage, move |request| {
            setter.set_camera_control(request).map(state)
        }),
        Endpoint::new(prefix, "camera_control.set_range", garbage, move |request| {
            ranger.set_camera_range(request).map(state)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModuleStatus::{Offline, Online, StreamReset};

    #[test]
    fn events_go_out_in_their_order_and_never_to_nobody() {
        let mut voice = Voice::default();
        assert_eq!(voice.say(Online), None);
        assert_eq!(voice.say(StreamReset), None);
        // The server comes: it is told that the producer is there, and nothing of the past.
        assert_eq!(voice.hear(Some(1)), Some(Online));
        assert_eq!(voice.hear(Some(1)), None);
        assert_eq!(voice.say(Online), None);
        assert_eq!(voice.say(StreamReset), Some(StreamReset));
        assert_eq!(voice.hear(None), None);
        assert_eq!(voice.say(StreamReset), None);
        assert_eq!(voice.hear(Some(2)), Some(Online));
        assert_eq!(voice.hear(Some(3)), Some(Online), "it went and came between two looks");
        assert_eq!(voice.say(Offline), Some(Offline));
        assert_eq!((voice.say(Offline), voice.say(StreamReset), voice.hear(None)), (None, None, None));
        assert_eq!(voice.hear(Some(4)), None);
    }

    #[test]
    fn a_producer_is_described_by_all_its_names() {
        let target: Target = "cvmmap://cam.0@/run/cv?namespace=lab".parse().unwrap();
        let metadata = Identity { target, backend: "test".into(), version: "1".into() }.metadata();
        for (key, value) in [
            ("instance_name", "cam.0"),
            ("nats_target_key", "lab_cam_0"),
            ("namespace", "lab"),
            ("ipc_prefix", "/run/cv"),
            ("base_name", "lab_cam.0"),
            ("shm_name", "lab_cam.0"),
            ("zmq_addr", "ipc:///run/cv/lab_cam.0"),
            ("body_subject", "cvmmap.lab_cam_0.body"),
            ("status_subject", "cvmmap.lab_cam_0.status"),
            ("producer_subject_prefix", "cvmmap.lab_cam_0.producer"),
            ("control_subject_prefix", "cvmmap.lab_cam_0.control"),
            ("backend", "test"),
            ("build_version", "1"),
        ] {
            assert_eq!(metadata.get(key).map(String::as_str), Some(value), "{key}");
        }
    }
}
