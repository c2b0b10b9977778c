// SPDX-License-Identifier: MPL-2.0

//! The producers that can be found, by whichever way: services on a NATS server, and segments on this machine.
//!
//! One that is found both ways is one producer: they name the same segment.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cvmmap_ipc::{Scan, Segment, Target, segments};

use crate::connection::{Connection, Subscription};
use crate::discovery::{ANSWERS_WITHIN, Found, PRODUCER, discover, follow, reachable};
use crate::runtime::block_on;
use crate::url::ServerUrl;

/// How often shared memory is looked at: a header that is written into a mapping is no event that one could wait for.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for a server that may not be there.
const SERVER_WITHIN: Duration = Duration::from_millis(500);
/// Longest file name that Linux has.
const NAME_MAX: usize = 255;

/// A producer, and how it was found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Producer {
    /// Its own name; the segment's where nothing tells it.
    pub instance: String,
    /// The name by which all of it is found; `None` where its names are not made from one.
    pub target: Option<Target>,
    /// Its shared memory segment, without the leading slash.
    pub shm_name: String,
    /// Where it announces its frames.
    pub zmq_endpoint: String,
    /// Its key on NATS; `None` where nothing tells it.
    pub nats_key: Option<String>,
    /// What its service says.
    pub service: Option<Found>,
    /// Its segment, where it is on this machine.
    pub segment: Option<Segment>,
}

impl Producer {
    /// `nats`, `shm` or `nats+shm`.
    pub fn found_by(&self) -> &'static str {
        match (&self.service, &self.segment) {
            (Some(_), Some(_)) => "nats+shm",
            (Some(_), None) => "nats",
            (None, _) => "shm",
        }
    }

    fn of_segment(segment: Segment) -> Self {
        let target = segment.target();
        Self {
            instance: target.as_ref().map_or(segment.name.as_str(), |target| target.instance()).to_owned(),
            nats_key: target.as_ref().map(Target::nats_target_key),
            target,
            shm_name: segment.name.clone(),
            zmq_endpoint: segment.zmq_endpoint(),
            service: None,
            segment: Some(segment),
        }
    }

    /// `None` where the service does not say where its pictures are, or in no words that could be names.
    fn of_service(found: Found) -> Option<Self> {
        let name = |key: &str| {
            let value = found.get(key)?;
            let fits = !value.is_empty() && value.len() <= NAME_MAX && !value.contains(char::is_control);
            fits.then(|| value.to_owned())
        };
        let shm_name = name("shm_name")?.trim_start_matches('/').to_owned();
        if shm_name.is_empty() || shm_name.contains('/') {
            return None;
        }
        Some(Self {
            instance: name("instance_name").unwrap_or_else(|| shm_name.clone()),
            target: found.target(),
            zmq_endpoint: name("zmq_addr")?,
            nats_key: name("nats_target_key"),
            shm_name,
            service: Some(found),
            segment: None,
        })
    }
}

/// Joins what was found, in the order of the segments' names.
pub fn merge(found: Vec<Found>, segments: Vec<Segment>) -> Vec<Producer> {
    let mut producers: Vec<Producer> = Vec::new();
    for service in found.into_iter().filter_map(Producer::of_service) {
        let same = |known: &Producer| {
            (&known.shm_name, &known.zmq_endpoint) == (&service.shm_name, &service.zmq_endpoint)
        };
        // One that was started anew may still be heard twice.
        if !producers.iter().any(same) {
            producers.push(service);
        }
    }
    for segment in segments {
        let endpoint = segment.zmq_endpoint();
        let named = || 0..producers.len();
        let claims = |at: &usize| producers[*at].shm_name == segment.name;
        // Two machines may have producers of the same names: the endpoint decides, unless it is but a guess.
        let exact = named().find(|at| claims(at) && producers[*at].zmq_endpoint == endpoint);
        match exact.or_else(|| named().find(claims).filter(|_| !segment.listens)) {
            Some(at) => producers[at].segment = Some(segment),
            None => producers.push(Producer::of_segment(segment)),
        }
    }
    producers.sort_by(|a, b| (&a.shm_name, &a.zmq_endpoint).cmp(&(&b.shm_name, &b.zmq_endpoint)));
    producers
}

/// Looks once. A server that is not there, or too slow, is no error: shared memory alone is looked at then.
///
/// Takes less than a second; without a server next to nothing.
pub fn look(url: Option<&ServerUrl>) -> Vec<Producer> {
    let services = url.cloned().map(|url| services(url, PRODUCER)).unwrap_or_default();
    merge(services.unwrap_or_default(), segments())
}

/// The services of a name; `None` without a server.
pub fn services(url: ServerUrl, service: &'static str) -> Option<Vec<Found>> {
    let asked = async move {
        if !Connection::is_open(&url) && !reachable(&url, ANSWERS_WITHIN).await {
            return None;
        }
        let connection = Connection::open(&url).ok()?;
        connection.connected(ANSWERS_WITHIN).await.ok()?;
        discover(&connection, service, ANSWERS_WITHIN).await.ok()
    };
    block_on(asked, SERVER_WITHIN + 2 * ANSWERS_WITHIN).ok().flatten()
}

/// Follows the producers until it is dropped, on a thread of its own.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _services: Option<Subscription>,
}

/// No lock is held while calling back or looking.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    services: Vec<Found>,
    /// The server has answered, or it is known that there is none.
    asked: bool,
    news: bool,
    /// The first list was told.
    told: bool,
    stop: bool,
}

impl Watch {
    /// Calls back with the list, at first and whenever it is looked at; what changed is the callback's business.
    ///
    /// Returns once the first list was told, which takes less than a second.
    pub fn start(url: Option<&ServerUrl>, mut tell: impl FnMut(Vec<Producer>) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        shared.state.lock().unwrap().asked = url.is_none();
        let hear = shared.clone();
        let services = url.map(|url| {
            follow(url, PRODUCER, move |found| {
                let mut state = hear.state.lock().unwrap();
                state.services = found.to_vec();
                (state.asked, state.news) = (true, true);
                hear.news.notify_all();
            })
        });
        let watched = shared.clone();
        let watch = move || {
            let limit = SERVER_WITHIN + ANSWERS_WITHIN;
            let state = watched.state.lock().unwrap();
            drop(watched.news.wait_timeout_while(state, limit, |state| !state.asked && !state.stop));
            let mut scan = Scan::default();
            let mut local = Local::default();
            loop {
                let services = {
                    let mut state = watched.state.lock().unwrap();
                    if state.stop {
                        return;
                    }
                    state.news = false;
                    state.services.clone()
                };
                tell(local.filter(merge(services, scan.segments())));
                let mut state = watched.state.lock().unwrap();
                state.told = true;
                watched.news.notify_all();
                drop(watched.news.wait_timeout_while(state, LOOK, |state| !state.news && !state.stop));
            }
        };
        let thread = std::thread::Builder::new().name("cvmmap-watch".into()).spawn(watch).ok();
        if thread.is_some() {
            let limit = Duration::from_secs(1);
            let state = shared.state.lock().unwrap();
            drop(shared.news.wait_timeout_while(state, limit, |state| !state.told));
        }
        Self { shared, thread, _services: services }
    }
}

/// Services that were seen to have a segment on this machine.
#[derive(Default)]
struct Local(HashSet<String>);

impl Local {
    /// Leaves out those whose segment is gone: there is nothing to read any more, whatever the server still says.
    fn filter(&mut self, mut producers: Vec<Producer>) -> Vec<Producer> {
        let mut seen = HashSet::new();
        producers.retain(|producer| {
            let Some(service) = &producer.service else { return true };
            let was_here = self.0.contains(&service.id);
            if was_here || producer.segment.is_some() {
                seen.insert(service.id.clone());
            }
            producer.segment.is_some() || !was_here
        });
        self.0 = seen;
        producers
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().stop = true;
        self.shared.news.notify_all();
        let Some(thread) = self.thread.take() else { return };
        // The callback itself may let go of us.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::found;
    use cvmmap_ipc::metadata::{Depth, PixelFormat};
    use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Version};

    fn segment(name: &str) -> Segment {
        let plane = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap();
        let header = Metadata::new(Version::V1, FrameId { count: 1, timestamp_ns: 1 }, [plane]);
        Segment { name: name.into(), inode: 1, header, socket: format!("/tmp/{name}").into(), listens: true }
    }

    fn service(id: &str, name: &str, zmq: &str) -> Found {
        let metadata =
            [("instance_name", "cam"), ("shm_name", name), ("zmq_addr", zmq), ("nats_target_key", "k")];
        Found { id: id.into(), ..found(&metadata) }
    }

    #[test]
    fn what_is_found_both_ways_is_one() {
        let services = vec![
            service("A", "cvmmap_cam.0", "ipc:///tmp/cvmmap_cam.0"),
            // Shares the key, and not the segment.
            service("B", "cvmmap_cam_0", "ipc:///tmp/cvmmap_cam_0"),
            // Heard twice, and of another machine.
            service("C", "cvmmap_cam_0", "ipc:///tmp/cvmmap_cam_0"),
            service("D", "cvmmap_cam_0", "tcp://192.0.2.1:5555"),
        ];
        let producers = merge(services, vec![segment("cvmmap_cam_0"), segment("lab_other")]);
        let shown: Vec<_> = producers
            .iter()
            .map(|p| (p.shm_name.as_str(), p.found_by(), p.service.as_ref().map_or("", |found| &found.id)))
            .collect();
        assert_eq!(
            shown,
            [
                ("cvmmap_cam.0", "nats", "A"),
                ("cvmmap_cam_0", "nats+shm", "B"),
                ("cvmmap_cam_0", "nats", "D"),
                ("lab_other", "shm", ""),
            ]
        );
        assert_eq!(producers[3].target.as_ref().unwrap().to_string(), "cvmmap://other?namespace=lab");
        assert_eq!(producers[3].nats_key.as_deref(), Some("lab_other"));
    }

    #[test]
    fn a_service_of_another_machine_does_not_take_the_segment_of_a_local_producer() {
        let found = |segment: Segment| {
            let producers = merge(vec![service("D", "cvmmap_cam", "tcp://192.0.2.1:5555")], vec![segment]);
            let shown = producers.iter().map(|p| (p.zmq_endpoint.clone(), p.found_by()));
            shown.collect::<Vec<_>>()
        };
        let remote = "tcp://192.0.2.1:5555".to_owned();
        let local = segment("cvmmap_cam");
        assert_eq!(found(local.clone()), [("ipc:///tmp/cvmmap_cam".into(), "shm"), (remote.clone(), "nats")]);
        // Its producer may be one that listens elsewhere than producers do by default.
        assert_eq!(found(Segment { listens: false, ..local }), [(remote, "nats+shm")]);
    }

    #[test]
    fn services_without_names_of_pictures_are_no_producers() {
        for (shm, zmq) in
            [("", "ipc:///x"), ("a/b", "ipc:///x"), ("a\n", "ipc:///x"), ("/", "ipc:///x"), ("a", "")]
        {
            assert_eq!(merge(vec![service("A", shm, zmq)], Vec::new()), [], "{shm} {zmq}");
        }
        assert_eq!(merge(vec![found(&[("instance_name", "cam0")])], Vec::new()), []);
    }

    #[test]
    fn a_service_whose_segment_is_gone_is_no_producer_until_it_has_another() {
        let mut local = Local::default();
        let service = || vec![service("A", "cvmmap_cam", "ipc:///tmp/cvmmap_cam")];
        let mut found = |segments| {
            local.filter(merge(service(), segments)).iter().map(Producer::found_by).collect::<Vec<_>>()
        };
        assert_eq!(found(vec![]), ["nats"]);
        assert_eq!(found(vec![segment("cvmmap_cam")]), ["nats+shm"]);
        assert!(found(vec![]).is_empty() && found(vec![]).is_empty());
        assert_eq!(found(vec![segment("cvmmap_cam")]), ["nats+shm"]);
    }

    #[test]
    fn a_watch_tells_at_once_and_ends() {
        let (send, told) = std::sync::mpsc::channel();
        let watch = Watch::start(None, move |producers| drop(send.send(producers)));
        assert!(told.try_recv().is_ok());
        drop(watch);
        while told.try_recv().is_ok() {}
        assert_eq!(told.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}
