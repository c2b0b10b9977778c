// SPDX-License-Identifier: MPL-2.0

//! The RTMP branch: a pipeline of its own per connection, so that nothing a server does reaches the encoder.
//!
//! `rtmp2sink` does not reconnect, and blocks while a server takes nothing. A thread builds the connection's pipeline,
//! watches it, takes it down when it fails, and builds the next after a wait that grows up to five seconds.

pub mod backlog;
mod feed;
pub mod retry;
pub mod tcp;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;

pub use self::feed::{Counters, Feed};
use self::retry::Retry;
use self::tcp::Outgoing;
use super::plan::{Rtmp, rtmp_port};
use super::report::Event;
use super::stage::Stage;
use crate::exit::Failure;

/// How often a connection is looked at.
const TICK: Duration = Duration::from_millis(50);
/// A connection that carries no picture by then has failed.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// What is under way may take so long to leave when the stream ends, and the goodbye after it.
const DRAINS_WITHIN: Duration = Duration::from_millis(800);
const ENDS_WITHIN: Duration = Duration::from_millis(200);
/// rtmp2sink may hang when it is taken down in the middle of a handshake.
const CLOSES_WITHIN: Duration = Duration::from_millis(300);

/// What a connection is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// No picture went out yet.
    Connecting,
    /// Pictures go out.
    Publishing,
    /// The server is late; nothing follows until it has what is under way.
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
    /// Access units that arrived at the sink: it waits with the first until the server lets it publish.
    arrived: Arc<AtomicU32>,
    socket: Outgoing,
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
                    self.feed.disconnect();
                    close(attempt.pipeline);
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
            if self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                break;
            }
            next = self.build();
            self.tell(Link::Connecting);
        }
        self.tell(Link::Ended);
    }

    /// The connection's pipeline, to which access units go from now on.
    fn build(&self) -> Result<Attempt, Failure> {
        let appsrc = gst_app::AppSrc::builder().format(gst::Format::Time).is_live(true).max_bytes(0).build();
        let stages = stages(&self.rtmp)?;
        let pipeline = gst::Pipeline::new();
        let elements = std::iter::once(appsrc.upcast_ref()).chain(stages.iter().map(|stage| &stage.element));
        let elements: Vec<&gst::Element> = elements.collect();
        pipeline.add_many(&elements).expect("a new pipeline is empty");
        gst::Element::link_many(&elements).expect("their templates fit");
        let arrived = Arc::new(AtomicU32::new(0));
        let counter = arrived.clone();
        let sink_pad = elements[elements.len() - 1].static_pad("sink").expect("a sink has a sink pad");
        sink_pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if info.buffer().is_some_and(|buffer| !buffer.flags().contains(gst::BufferFlags::HEADER)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
        self.feed.connect(appsrc.clone());
        Ok(Attempt { pipeline, appsrc, arrived, socket: Outgoing::watch(rtmp_port(&self.rtmp.url)) })
    }

    fn publish(&self, attempt: &Attempt, published_since: &mut Option<Instant>) -> Over {
        let bus = attempt.pipeline.bus().expect("pipelines have a bus");
        let started = Instant::now();
        if attempt.pipeline.set_state(gst::State::Playing).is_err() {
            return Over::Failed(trouble(&bus).unwrap_or_else(|| "rtmp2sink does not start".into()));
        }
        let mut asked = false;
        loop {
            if self.stopped.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                self.say_goodbye(attempt, &bus);
                return Over::Stopped;
            }
            if let Some(reason) = trouble(&bus) {
                return Over::Failed(reason);
            }
            let Some(look) = self.feed.observe(attempt.socket.queued()) else { continue };
            // Once per gap: an encoder that ignores it has its own key frames.
            if look.wants_key_frame && !asked {
                (self.request_key_frame)();
            }
            asked = look.wants_key_frame;
            let publishing = attempt.arrived.load(Ordering::Relaxed) > 1;
            if publishing && published_since.is_none() {
                *published_since = Some(Instant::now());
                self.connections.fetch_add(1, Ordering::Relaxed);
            }
            if look.stalled && publishing {
                return Over::Failed(format!("the server took nothing for {} s", look.age.as_secs()));
            }
            // Without a picture to send there is nothing that could fail.
            if !publishing
                && attempt.arrived.load(Ordering::Relaxed) > 0
                && started.elapsed() > CONNECTS_WITHIN
            {
                return Over::Failed(format!(
                    "the server did not let us publish within {} s",
                    CONNECTS_WITHIN.as_secs()
                ));
            }
            let link = match (publishing, look.congested) {
                (false, _) => Link::Connecting,
                (true, true) => Link::Congested,
                (true, false) => Link::Publishing,
            };
            self.tell(link);
        }
    }

    /// `rtmp2sink` throws away what it has not sent when it stops, so that is waited for.
    fn say_goodbye(&self, attempt: &Attempt, bus: &gst::Bus) {
        let end = Instant::now() + DRAINS_WITHIN;
        // Nothing more goes in, or it would never be drained.
        self.feed.disconnect();
        let left = || attempt.socket.queued() + attempt.appsrc.current_level_bytes();
        while attempt.arrived.load(Ordering::Relaxed) > 1 && left() > 0 && Instant::now() < end {
            std::thread::sleep(TICK / 5);
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

/// Takes a pipeline down, and leaves it behind where that hangs.
pub(super) fn close(pipeline: gst::Pipeline) {
    let (done, closed) = channel();
    std::thread::spawn(move || {
        let _ = pipeline.set_state(gst::State::Null);
        let _ = done.send(());
    });
    if closed.recv_timeout(CLOSES_WITHIN).is_err() {
        gst::warning!(gst::CAT_DEFAULT, "a pipeline does not stop; it is left behind");
    }
}

/// The first error that was posted.
fn trouble(bus: &gst::Bus) -> Option<String> {
    let message = bus.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}
