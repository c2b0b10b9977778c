// SPDX-License-Identifier: MPL-2.0

//! The producer's side of the control plane: what `cvmmapsink` answers.
//!
//! All of it runs on threads of the control plane, which wait for the element's streaming thread, and never the other
//! way round.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cvmmap_control::proto::{ErrorCode, GetSourceInfoResponse, SourceKind, TimestampDomain};
use cvmmap_control::service::{Identity, Producer, Refusal, SourceHandler};
use cvmmap_control::source::{Capabilities, flags};
use cvmmap_control::{Connection, ControlError, Link, ServerUrl, Subscription};
use cvmmap_ipc::{FrameId, Target};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

use super::imp::CAT;
use super::state::{Clock, Seek};

/// Less than the second that clients wait.
const LANDS_WITHIN: Duration = Duration::from_millis(900);
/// Containers round durations to a millisecond, and the last sample must lie inside the timeline.
const ROUNDING_NS: u64 = 1_000_000;

/// The producer on the control plane, and who watches its server for the log.
pub(super) struct Control {
    pub producer: Producer,
    pub connection: Connection,
    _watch: Subscription,
}

impl Control {
    /// Answers for the element from now on; the server may come and go.
    pub fn start(
        element: &super::CvMmapSink,
        url: &ServerUrl,
        target: &Target,
    ) -> Result<Self, ControlError> {
        let connection = Connection::open(url)?;
        let identity = Identity {
            target: target.clone(),
            backend: "gstreamer".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let producer = Producer::start(&connection, &identity, Arc::new(Answers(element.downgrade())));
        let (name, url, mut was_up) = (element.name(), connection.url().to_string(), false);
        // The connection tells each outage once.
        let watch = connection.watch(move |link| match link {
            Link::Connecting => (),
            Link::Up => {
                was_up = true;
                gst::info!(CAT, "{name}: the NATS server {url} is there");
            }
            Link::Down(why) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                if was_up {
                    gst::warning!(CAT, "{name}: the NATS server {url} is away{why}");
                } else {
                    gst::info!(CAT, "{name}: no NATS server at {url}{why}");
                }
            }
        });
        Ok(Self { producer, connection, _watch: watch })
    }

    /// Says that it goes; half a second at most.
    pub fn end(self) {
        self.producer.offline();
    }
}

/// Where a stream begins and ends, in ns of stream time.
struct Timeline {
    start_ns: u64,
    end_ns: u64,
    can_seek: bool,
}

struct Answers(glib::WeakRef<super::CvMmapSink>);

impl Answers {
    fn element(&self) -> Result<super::CvMmapSink, Refusal> {
        self.0.upgrade().ok_or_else(|| Refusal::new(ErrorCode::Error, "the producer is gone"))
    }
}

impl SourceHandler for Answers {
    fn reset_frame_count(&self) -> Result<(), Refusal> {
        self.element()?.imp().state.lock().unwrap().restart();
        Ok(())
    }

    fn info(&self) -> GetSourceInfoResponse {
        let mut info = GetSourceInfoResponse {
            source_kind: SourceKind::Live.into(),
            timestamp_domain: TimestampDomain::Unix.into(),
            ..Default::default()
        };
        let Ok(element) = self.element() else { return info };
        let (clock, last) = {
            let state = element.imp().state.lock().unwrap();
            (state.clock, state.last)
        };
        if let Some(frame) = last {
            info.current_timestamp_ns = frame.timestamp_ns;
            info.current_frame_count = frame.count;
        }
        if clock == Clock::Media {
            info.timestamp_domain = TimestampDomain::Media.into();
            if let Some(timeline) = timeline(&element) {
                info.source_kind = SourceKind::Finite.into();
                info.flags = if timeline.can_seek { flags::CAN_SEEK } else { 0 };
                info.timeline_start_ns = timeline.start_ns;
                info.timeline_end_ns = timeline.end_ns;
                info.duration_ns = timeline.end_ns - timeline.start_ns;
            }
        }
        info
    }

    fn seek(&self, target_ns: u64) -> Result<FrameId, Refusal> {
        let element = self.element()?;
        if element.imp().state.lock().unwrap().clock != Clock::Media {
            return Err(Refusal::unsupported());
        }
        let timeline = timeline(&element).filter(|timeline| timeline.can_seek);
        let Timeline { start_ns, end_ns, .. } = timeline.ok_or_else(Refusal::unsupported)?;
        if !(start_ns..=end_ns).contains(&target_ns) {
            let message = format!("{target_ns} is not within {start_ns} to {end_ns}");
            return Err(Refusal::new(ErrorCode::OutOfRange, message));
        }
        match seek(&element, target_ns)? {
            Seek::Landed(frame) => Ok(frame),
            Seek::Ended => {
                let message = format!("no sample lies at or after {target_ns}");
                Err(Refusal::new(ErrorCode::OutOfRange, message))
            }
            Seek::Refused => Err(Refusal::new(ErrorCode::Error, "upstream refuses the seek")),
            Seek::Asked(_) | Seek::Flushed(_) => {
                let message = format!("no frame came within {} ms", LANDS_WITHIN.as_millis());
                Err(Refusal::new(ErrorCode::Timeout, message))
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        let info = self.info();
        Capabilities { can_seek: Some(info.flags & flags::CAN_SEEK != 0), formats: Vec::new() }
    }

    fn garbage(&self, subject: &str, why: &str) {
        gst::warning!(CAT, "'{subject}': a request that cannot be read: {why}; told once");
    }
}

/// What upstream says; `None` where it does not know how long it lasts.
fn timeline(element: &super::CvMmapSink) -> Option<Timeline> {
    let pad = element.sink_pad();
    let duration = pad.peer_query_duration::<gst::ClockTime>()?.nseconds();
    let fps = pad.current_caps().and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok());
    // A duration includes the time that the last sample is shown.
    let last = fps.filter(|fps| fps.numer() > 0).map_or(0, |fps| {
        let interval = 1_000_000_000 * fps.denom() as u64 / fps.numer() as u64;
        interval + ROUNDING_NS
    });
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    let can_seek = pad.peer_query(&mut query) && query.result().0;
    Some(Timeline { start_ns: 0, end_ns: duration.saturating_sub(last), can_seek })
}

/// Seeks upstream, and waits for what comes of it.
fn seek(element: &super::CvMmapSink, target_ns: u64) -> Result<Seek, Refusal> {
    let imp = element.imp();
    // The one who waits, and the one who sends.
    if imp.seekers.compare_exchange(0, 2, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return Err(Refusal::new(ErrorCode::Error, "another seek is under way"));
    }
    imp.state.lock().unwrap().seek = Some(Seek::Asked(target_ns));
    // Decoders cut the sample that is on at the start so that it seems to begin there. A moment earlier, it is seen to
    // begin before the target.
    let start = gst::ClockTime::from_nseconds(target_ns.saturating_sub(1));
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    let no_stop = gst::ClockTime::NONE;
    let event = gst::event::Seek::new(1.0, flags, gst::SeekType::Set, start, gst::SeekType::None, no_stop);
    let sender = element.clone();
    // Upstream may take its time, or for ever.
    std::thread::spawn(move || {
        let taken = sender.sink_pad().push_event(event);
        let imp = sender.imp();
        if !taken {
            imp.state.lock().unwrap().seek = Some(Seek::Refused);
            imp.sought.notify_all();
        }
        imp.seekers.fetch_sub(1, Ordering::AcqRel);
    });
    let state = imp.state.lock().unwrap();
    let pending = |seek: Option<Seek>| matches!(seek, Some(Seek::Asked(_) | Seek::Flushed(_)));
    let (mut state, _) =
        imp.sought.wait_timeout_while(state, LANDS_WITHIN, |state| pending(state.seek)).unwrap();
    let seek = state.seek.unwrap_or(Seek::Refused);
    if let Seek::Asked(_) = seek {
        // A flush that comes later is somebody else's, as far as anybody can tell.
        state.seek = None;
    }
    drop(state);
    imp.seekers.fetch_sub(1, Ordering::AcqRel);
    Ok(seek)
}
