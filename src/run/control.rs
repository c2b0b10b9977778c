// SPDX-License-Identifier: MPL-2.0

//! The session's recorder on the control plane: `cvmmap.KEY.streamer.recorder.{mp4,mcap}.{start,stop,status}`, found as
//! the micro service `cvmmap_streamer`.
//!
//! The stream never waits for a server: there may be none, or one that comes and goes.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use cvmmap_control::discovery::STREAMER;
use cvmmap_control::proto::{RecordingStartRequest, RecordingStatusResponse};
use cvmmap_control::service::{OnGarbage, RecorderHandler, Refusal, Service, names_of, recorder_endpoints};
use cvmmap_control::{Connection, Link, ServerUrl, Subjects, Subscription};
use cvmmap_ipc::Target;

use super::plan::Input;
use super::quiet::Said;
use super::report::Event;
use crate::exit::{Failure, configuration};
use crate::record::{Format, Recorder, Status};

/// The same complaint is not told again before that: whoever is refused may ask again and again.
const AGAIN: Duration = Duration::from_secs(10);

/// Whose recorder it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The producer's key.
    pub key: String,
    /// What is known of the producer, for those who discover us.
    metadata: Vec<(&'static str, String)>,
}

impl Identity {
    /// The identity of a session with this input; `None` where the names of a segment make no key.
    pub fn of(input: &Input) -> Option<Self> {
        match input {
            Input::Target(target) => Some(Self::of_target(target)),
            Input::Dummy(camera) => Some(Self::of_target(&camera.target)),
            Input::Names { shm_name, zmq_endpoint } => Self::of_names(shm_name, zmq_endpoint),
        }
    }

    fn of_target(target: &Target) -> Self {
        Self { key: target.nats_target_key(), metadata: names_of(target).into() }
    }

    /// A segment has the producer's base name, of which the key is made.
    fn of_names(shm_name: &str, zmq_endpoint: &str) -> Option<Self> {
        let key = cvmmap_ipc::target::nats_key(shm_name.trim_start_matches('/'));
        let is_token =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        let metadata = vec![("shm_name", shm_name.to_owned()), ("zmq_addr", zmq_endpoint.to_owned())];
        is_token.then_some(Self { key, metadata })
    }

    fn metadata(&self) -> HashMap<String, String> {
        let subjects = Subjects::new(&self.key);
        let own = [
            ("nats_target_key", self.key.clone()),
            ("streamer_subject_prefix", subjects.streamer()),
            ("body_subject", subjects.body()),
            ("status_subject", subjects.status()),
            ("backend", "gstreamer".to_owned()),
            ("build_version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let pairs = self.metadata.iter().cloned().chain(own);
        pairs.map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Endpoints that answer until this is dropped.
pub struct Control {
    _service: Service,
    _link: Subscription,
}

impl Control {
    /// Serves a recorder. Does not wait for the server.
    ///
    /// # Errors
    /// A [`Failure`] where the address is refused by the client library.
    pub fn start(
        url: &ServerUrl,
        identity: &Identity,
        recorder: &Arc<Recorder>,
        tell: &Sender<Event>,
    ) -> Result<Self, Failure> {
        let connection = Connection::open(url).map_err(configuration)?;
        let subjects = Subjects::new(&identity.key);
        let complaints = Arc::new(Complaints { tell: tell.clone(), said: Mutex::new(Said::new(AGAIN)) });
        recorder.set_body_source(body_source(&connection, &subjects, recorder, &complaints));
        let garbage: OnGarbage = {
            let complaints = complaints.clone();
            Arc::new(move |subject, why| complaints.tell(format!("recording: '{subject}': {why}")))
        };
        let mut endpoints = Vec::new();
        for format in Format::ALL {
            let handler =
                Handler { format, recorder: Arc::downgrade(recorder), complaints: complaints.clone() };
            let served =
                recorder_endpoints(&subjects.streamer(), format.name(), handler.into(), garbage.clone());
            endpoints.extend(served);
        }
        let service = Service::start(&connection, STREAMER, identity.metadata(), endpoints);
        Ok(Self { _service: service, _link: watch(&connection, tell) })
    }
}

/// Tells when the server comes and goes.
fn watch(connection: &Connection, tell: &Sender<Event>) -> Subscription {
    let (tell, server) = (tell.clone(), connection.url().to_string());
    let mut before = None;
    connection.watch(move |link| {
        let (up, why) = match link {
            Link::Connecting => return,
            Link::Up => (true, None),
            Link::Down(why) => (false, why),
        };
        if before.replace(up) != Some(up) {
            let _ = tell.send(Event::Nats { server: server.clone(), up, why });
        }
    })
}

/// Listens to the body tracker as long as what it returns is kept.
fn body_source(
    connection: &Connection,
    subjects: &Subjects,
    recorder: &Arc<Recorder>,
    complaints: &Arc<Complaints>,
) -> impl Fn() -> Box<dyn Send> + Send + Sync + use<> {
    let (connection, subject) = (connection.clone(), subjects.body());
    let (recorder, complaints) = (Arc::downgrade(recorder), complaints.clone());
    move || {
        let (recorder, complaints) = (recorder.clone(), complaints.clone());
        Box::new(connection.subscribe(&subject, move |subject, packet| {
            let Some(recorder) = recorder.upgrade() else { return };
            if let Err(why) = recorder.bodies(packet) {
                complaints.tell(format!("recording: '{subject}': a packet is left out: {why}"));
            }
        }))
    }
}

/// What is told of requests that are refused.
struct Complaints {
    tell: Sender<Event>,
    said: Mutex<Said>,
}

impl Complaints {
    fn tell(&self, text: String) {
        let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let held_back = said.take(&text, Instant::now());
        drop(said);
        if let Some(held_back) = held_back {
            let more = if held_back > 0 { format!("; {held_back} were held back") } else { String::new() };
            let _ = self.tell.send(Event::Warning(text + &more));
        }
    }
}

/// One format's verbs.
struct Handler {
    format: Format,
    recorder: Weak<Recorder>,
    complaints: Arc<Complaints>,
}

impl Handler {
    /// A refusal says how things are as well.
    fn answer(
        &self,
        verb: &str,
        act: impl FnOnce(&Recorder) -> Result<Status, crate::record::Refusal>,
    ) -> Result<RecordingStatusResponse, Refusal> {
        let recorder = self.recorder.upgrade().ok_or_else(ended)?;
        act(&recorder).map(|status| status.response()).or_else(|refusal| {
            // What became of a file is told where that happens.
            if verb == "start" || refusal == crate::record::Refusal::NotRecording {
                self.complaints.tell(format!("recording: {} {verb} is refused: {refusal}", self.format));
            }
            Ok(RecordingStatusResponse {
                error: refusal.code().into(),
                error_message: refusal.to_string(),
                ..recorder.status(self.format).response()
            })
        })
    }
}

impl RecorderHandler for Handler {
    fn start(&self, request: RecordingStartRequest) -> Result<RecordingStatusResponse, Refusal> {
        self.answer("start", |recorder| recorder.start(self.format, &request))
    }

    fn stop(&self) -> Result<RecordingStatusResponse, Refusal> {
        self.answer("stop", |recorder| recorder.stop(self.format))
    }

    fn status(&self) -> RecordingStatusResponse {
        let status = self.recorder.upgrade().map(|recorder| recorder.status(self.format).response());
        status.unwrap_or_default()
    }
}

fn ended() -> Refusal {
    Refusal::new(cvmmap_control::proto::ErrorCode::Error, "the session is over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_its_producers_key() {
        let names = |shm_name: &str| {
            let zmq_endpoint = "tcp://h:1".to_owned();
            Identity::of(&Input::Names { shm_name: shm_name.into(), zmq_endpoint })
        };
        let target: Target = "cvmmap://cam.0?namespace=lab".parse().unwrap();
        let of_target = Identity::of(&Input::Target(target.clone())).unwrap();
        assert_eq!(of_target.key, "lab_cam_0");
        assert_eq!(names(&target.shm_name()).unwrap().key, of_target.key);
        assert_eq!(names("/lab_cam.0").unwrap().key, of_target.key);
        for no_token in ["", "a b", "*", "a>b", "/"] {
            assert_eq!(names(no_token), None, "{no_token}");
        }
        let metadata = of_target.metadata();
        assert_eq!(metadata["nats_target_key"], "lab_cam_0");
        assert_eq!(metadata["instance_name"], "cam.0");
        assert_eq!(metadata["streamer_subject_prefix"], "cvmmap.lab_cam_0.streamer");
    }
}
