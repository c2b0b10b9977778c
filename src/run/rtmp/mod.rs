// SPDX-License-Identifier: MPL-2.0

//! The RTMP branch: a pipeline of its own per connection, so that nothing a server does reaches the encoder.
//!
//! `rtmp2sink` does not reconnect, and blocks while a server takes nothing. A thread builds the connection's pipeline,
//! watches it, takes it down when it fails, and builds the next after a wait that grows up to five seconds.
//!
//! A connection gets access units once the server lets it publish, from a key frame on that is asked for then. What comes
//! earlier is dropped: it would be as old as the handshake took.

pub mod backlog;
mod diag;
mod feed;
pub mod retry;
pub mod tcp;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;

pub use self::feed::{Counters, Feed};
use self::retry::Retry;
use self::tcp::{Outgoing, Turn};
use super::bus::first_error;
use super::plan::{Rtmp, rtmp_port};
use super::report::Event;
use super::stage::Stage;
use super::teardown;
use crate::exit::Failure;

/// How often a connection is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often, where pictures are lost or the end waits meanwhile.
const BRISK: Duration = Duration::from_millis(10);
/// A connection that may not publish by then has failed.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// What is under way may take so long to leave when the stream ends, and the goodbye after it.
const DRAINS_WITHIN: Duration = Duration::from_millis(800);
const ENDS_WITHIN: Duration = Duration::from_millis(200);

/// What a connection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The server has not let us publish, or there was no picture yet.
    Connecting,
    /// Pictures go out.
    Publishing,
    /// The server is late; nothing follows until what waits for it is sent.
    Congested,
    /// The last one failed, for this reason; the next is tried after this long.
    Waiting(String, Duration),
    /// No more are tried, for this reason.
    GaveUp(String),
    /// The stream is over.
    Ended,
}

impl Link {
    /// For the status line and for machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Publishing => "publishing",
            Self::Congested => "congested",
            Self::Waiting(..) => "waiting",
            Self::GaveUp(_) => "gave-up",
            Self::Ended => "ended",
        }
    }
}

/// Muxer and sink of one connection; what comes before them is the tee's, or an appsrc.
///
/// # Errors
/// A [`Failure`] that names a missing element.
pub fn stages(rtmp: &Rtmp) -> Result<Vec<Stage>, Failure> {
    let mut muxer = Stage::new("flvh265mux")?.set("mode", rtmp.mode.nick());
    if rtmp.repeat_headers {
        muxer = muxer.set("repeat-sequence-header", "true");
    }
    let sink = Stage::new("rtmp2sink")?
        .set("location", rtmp.url.as_str())
        .set("chunk-size", "65536")
        .set("sync", "false")
        .set("async", "false")
        .set("qos", "false");
    Ok(vec![muxer, sink])
}

/// The thread that publishes.
pub struct Publisher {
    stop: Sender<()>,
    work: Option<Box<dyn FnOnce() + Send>>,
    thread: Option<JoinHandle<()>>,
    feed: Arc<Feed>,
    link: Arc<Mutex<Link>>,
    connections: Arc<AtomicU32>,
}

impl Publisher {
    /// Takes access units from now on, and connects when it is told to. `request_key_frame` is called where only that is
    /// missing.
    ///
    /// # Errors
    /// A [`Failure`] that names a missing element.
    pub fn new(
        rtmp: Rtmp,
        events: Sender<Event>,
        request_key_frame: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        // Told now, not by the thread.
        stages(&rtmp)?;
        let (stop, stopped) = channel();
        let feed = Arc::new(Feed::default());
        let link = Arc::new(Mutex::new(Link::Connecting));
        let connections = Arc::new(AtomicU32::new(0));
        let worker = Worker {
            rtmp,
            feed: feed.clone(),
            link: link.clone(),
            connections: connections.clone(),
            events,
            stopped,
            request_key_frame: Box::new(request_key_frame),
        };
        let first = worker.build()?;
        let work: Box<dyn FnOnce() + Send> = Box::new(move || worker.work(first));
        Ok(Self { stop, work: Some(work), thread: None, feed, link, connections })
    }

    /// Begins to connect.
    pub fn connect(&mut self) {
        self.thread = self.work.take().map(std::thread::spawn);
    }

    /// Where access units go in.
    pub fn feed(&self) -> Arc<Feed> {
        self.feed.clone()
    }

    /// What the connection is doing.
    pub fn link(&self) -> Link {
        self.link.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Connections that carried pictures.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets what is under way leave, says goodbye, and ends: within two seconds, whatever the server does.
    pub fn end(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    rtmp: Rtmp,
    feed: Arc<Feed>,
    link: Arc<Mutex<Link>>,
    connections: Arc<AtomicU32>,
    events: Sender<Event>,
    stopped: Receiver<()>,
    request_key_frame: Box<dyn Fn() + Send>,
}

/// One connection's pipeline.
struct Attempt {
    pipeline: gst::Pipeline,
    appsrc: gst_app::AppSrc,
    sink: gst::Element,
    arrivals: Arc<Arrivals>,
}

/// Access units at the sink, which holds each for as long as the server is late.
#[derive(Debug, Default)]
struct Arrivals {
    arrived: AtomicU64,
    /// The sink is done with so many. Of the last one that is told when the next comes, or the end.
    taken: AtomicU64,
}

impl Arrivals {
    fn see(&self, info: &gst::PadProbeInfo) {
        if info.buffer().is_some_and(|tag| is_picture(tag)) {
            let before = self.arrived.fetch_add(1, Ordering::Relaxed);
            self.taken.store(before, Ordering::Relaxed);
        } else if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
            self.taken.store(self.arrived.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Whether a tag is an access unit. Sequence headers that are repeated are not flagged as headers.
fn is_picture(tag: &gst::BufferRef) -> bool {
    // The payload is in memory of its own, and not needed.
    let head = tag.iter_memories().next().and_then(|memory| memory.map_readable().ok());
    let body = head.as_deref().and_then(|head| head.get(flv::tag::TAG_HEADER_BYTES..)).unwrap_or_default();
    let packet = flv::video::Dialect::parse(body).ok().map(|(_, packet, _)| packet);
    matches!(packet, Some(flv::video::VideoPacket::Frame { .. }))
}

impl Attempt {
    /// Whether the server has let it publish: rtmp2sink has no connection to tell of before that.
    fn may_publish(&self) -> bool {
        let stats: Option<gst::Structure> = self.sink.property("stats");
        stats.and_then(|stats| stats.get::<u32>("out-chunk-size").ok()).is_some_and(|size| size > 0)
    }
}

/// Why a connection is over.
enum Over {
    Stopped,
    Failed(String),
}

impl Worker {
    fn work(self, first: Attempt) {
        let mut retry = Retry::new(self.rtmp.retry);
        let mut next: Result<Attempt, Failure> = Ok(first);
        loop {
            let mut published_since = None;
            let over = match next {
                Ok(attempt) => {
                    let over = self.publish(&attempt, &mut published_since);
                    self.feed.disconnect(attempt.arrivals.taken());
                    teardown::stop(attempt.pipeline.upcast());
                    over
                }
                Err(failure) => Over::Failed(failure.to_string()),
            };
            let Over::Failed(reason) = over else { break };
            let published = published_since.map_or(Duration::ZERO, |since: Instant| since.elapsed());
            let Some(wait) = retry.after(published) else {
                self.tell(Link::GaveUp(reason));
                return;
            };
            self.tell(Link::Waiting(reason, wait));
            if self.stopped(wait) {
                break;
            }
            next = self.build();
            self.tell(Link::Connecting);
        }
        self.tell(Link::Ended);
    }

    /// The connection's pipeline.
    fn build(&self) -> Result<Attempt, Failure> {
        let appsrc = gst_app::AppSrc::builder().format(gst::Format::Time).is_live(true).max_bytes(0).build();
        let stages = stages(&self.rtmp)?;
        let pipeline = gst::Pipeline::new();
        let elements = std::iter::once(appsrc.upcast_ref()).chain(stages.iter().map(|stage| &stage.element));
        let elements: Vec<&gst::Element> = elements.collect();
        pipeline.add_many(&elements).expect("a new pipeline is empty");
        gst::Element::link_many(&elements).expect("their templates fit");
        let arrivals = Arc::new(Arrivals::default());
        let seen = arrivals.clone();
        let sink = elements[elements.len() - 1].clone();
        let sink_pad = sink.static_pad("sink").expect("a sink has a sink pad");
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        sink_pad.add_probe(kinds, move |_, info| {
            seen.see(info);
            gst::PadProbeReturn::Ok
        });
        Ok(Attempt { pipeline, appsrc, sink, arrivals })
    }

    /// Waits; whether that is all for the publisher.
    fn stopped(&self, wait: Duration) -> bool {
        self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
    }

    fn publish(&self, attempt: &Attempt, published_since: &mut Option<Instant>) -> Over {
        let bus = attempt.pipeline.bus().expect("pipelines have a bus");
        let mut socket = match self.connect(attempt, &bus) {
            Ok(socket) => socket,
            Err(over) => return over,
        };
        self.feed.connect(attempt.appsrc.clone());
        let mut asked = false;
        loop {
            let taken = attempt.arrivals.taken();
            let Some(look) = self.feed.observe(socket.underway(), taken) else {
                return Over::Stopped;
            };
            // Once per gap: an encoder that ignores it has its own key frames.
            if look.wants_key_frame && !asked {
                (self.request_key_frame)();
            }
            asked = look.wants_key_frame;
            if taken > 0 && published_since.is_none() {
                *published_since = Some(Instant::now());
                self.connections.fetch_add(1, Ordering::Relaxed);
            }
            self.tell(match (taken > 0, look.congested) {
                (_, true) => Link::Congested,
                (true, false) => Link::Publishing,
                (false, false) => Link::Connecting,
            });
            if self.stopped(TICK) {
                self.say_goodbye(attempt, &bus, &mut socket);
                return Over::Stopped;
            }
            if let Some(reason) = first_error(&bus).map(|trouble| trouble.text) {
                return Over::Failed(reason);
            }
            if let Some(silent) = look.stalled {
                return Over::Failed(format!("the server took nothing for {} s", silent.as_secs()));
            }
        }
    }

    /// Connects, until the server lets it publish.
    fn connect(&self, attempt: &Attempt, bus: &gst::Bus) -> Result<Outgoing, Over> {
        let port = rtmp_port(&self.rtmp.url);
        let turn = loop {
            match Turn::take(port) {
                Some(turn) => break turn,
                None if self.stopped(TICK) => return Err(Over::Stopped),
                None => (),
            }
        };
        let started = Instant::now();
        if attempt.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(Over::Failed(
                first_error(bus)
                    .map(|trouble| trouble.text)
                    .unwrap_or_else(|| "rtmp2sink does not start".into()),
            ));
        }
        loop {
            if let Some(reason) = first_error(bus).map(|trouble| trouble.text) {
                return Err(Over::Failed(reason));
            }
            if attempt.may_publish() {
                return Ok(turn.connected());
            }
            if started.elapsed() > CONNECTS_WITHIN {
                let seconds = CONNECTS_WITHIN.as_secs();
                return Err(Over::Failed(format!("the server did not let us publish within {seconds} s")));
            }
            if self.stopped(BRISK) {
                return Err(Over::Stopped);
            }
        }
    }

    /// `rtmp2sink` throws away what it has not sent when it stops, so that is waited for.
    fn say_goodbye(&self, attempt: &Attempt, bus: &gst::Bus, socket: &mut Outgoing) {
        let end = Instant::now() + DRAINS_WITHIN;
        // Nothing more goes in, or it would never be drained.
        self.feed.shut();
        let mut left = || socket.underway().unacknowledged + attempt.appsrc.current_level_bytes();
        while left() > 0 && Instant::now() < end {
            std::thread::sleep(BRISK);
        }
        let _ = attempt.appsrc.end_of_stream();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let _ = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(ENDS_WITHIN.as_millis() as u64), &kinds);
    }

    fn tell(&self, link: Link) {
        let mut current = self.link.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *current != link {
            current.clone_from(&link);
            drop(current);
            let _ = self.events.send(Event::Rtmp(link));
        }
    }
}
