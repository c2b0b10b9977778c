// SPDX-License-Identifier: MPL-2.0

//! Seeks on producers that can, and stream time that follows their timeline.
//!
//! Running time is the pipeline's all along, as of any live source: a seek flushes without resetting it, so that nobody
//! has to wait for a new base time. Only what stream time belongs to it changes, by a new segment.
//!
//! The order of a seek: what was queued is flushed away, and the streaming thread begins to keep frames instead of
//! handing them on. Then the producer is asked, so that the frame that it lands on is certain to be seen. Its answer
//! lets the frames from that one on pass.

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use cvmmap_control::{ControlError, Link, block_on};
use cvmmap_ipc::FrameId;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

use super::CAT;
use super::control::{Control, Timeline};
use super::frames::{Snapshot, Streaming};
use super::imp::CvMmapSrc;

/// Stream time that is off by more is set anew: a seek of somebody else's, a loop, a reset.
const JUMP: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// How long the streaming thread may take to see that a seek began.
const NOTICED_WITHIN: Duration = Duration::from_millis(200);
/// A frame that followed on the landing is at most so much further than the time since the seek.
const SLACK_NS: u64 = 150_000_000;
/// After this any frame is taken, whatever its stamp.
const LANDED_WITHIN: Duration = Duration::from_secs(1);
/// How far behind the target a sample may be that is the first at or after it.
const SPARSE_NS: u64 = 2_000_000_000;
/// Frames that are kept while the producer was asked: pictures are large, access units are not.
const KEPT_PICTURES: usize = 4;
const KEPT_ACCESS_UNITS: usize = 64;
/// The same event comes once for each sink of the pipeline.
const SAME_SEEK: Duration = Duration::from_secs(1);

/// Stream time by running time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mapping {
    running: gst::ClockTime,
    stream: gst::ClockTime,
    stop: Option<gst::ClockTime>,
    flags: gst::SegmentFlags,
}

impl Mapping {
    /// How far a frame of stream time `stream` is from where this mapping has it.
    fn error(&self, running: gst::ClockTime, stream: gst::ClockTime) -> gst::ClockTime {
        let mapped = (self.stream + running).saturating_sub(self.running);
        if mapped > stream { mapped - stream } else { stream - mapped }
    }

    /// Whether the frame at `running` is not to be shown any more.
    pub fn is_past_stop(&self, running: gst::ClockTime) -> bool {
        self.stop.is_some_and(|stop| (self.stream + running).saturating_sub(self.running) >= stop)
    }

    /// PTS are running time, so the segment begins where it is based.
    fn segment(&self) -> gst::Segment {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_flags(self.flags);
        segment.set_start(self.running);
        segment.set_base(self.running);
        segment.set_position(self.running);
        segment.set_time(self.stream);
        segment.set_stop(self.stop.map(|stop| self.running + stop.saturating_sub(self.stream)));
        segment.upcast()
    }
}

/// Where the producer is after a seek.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landing {
    frame: FrameId,
    asked: Instant,
    answered: Instant,
    /// Stream time.
    stop: Option<gst::ClockTime>,
    flags: gst::SegmentFlags,
}

impl Landing {
    /// Whether a frame that arrived after the answer may follow on the one that was landed on.
    fn leads_to(&self, frame: &FrameId, arrived: Instant) -> bool {
        if arrived <= self.answered {
            return false;
        }
        let since = arrived.duration_since(self.asked).as_nanos() as u64;
        let behind = frame.timestamp_ns.checked_sub(self.frame.timestamp_ns);
        behind.is_some_and(|behind| behind <= since + since / 4 + SLACK_NS)
            || arrived.duration_since(self.answered) > LANDED_WITHIN
    }

    fn is(&self, frame: &FrameId) -> bool {
        frame.timestamp_ns == self.frame.timestamp_ns
    }
}

#[derive(Debug, Clone, Copy, Default)]
enum Phase {
    #[default]
    None,
    /// Frames are kept, and none goes out.
    Asking { target_ns: u64, since: Instant, noticed: bool },
    /// Frames before this one are dropped.
    Landed(Landing),
}

/// The seek that is under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Seeking {
    phase: Mutex<Phase>,
    noticed: Condvar,
    /// Somebody seeks: others wait for their turn.
    busy: Mutex<bool>,
    free: Condvar,
    last: Mutex<Option<(gst::Seqnum, bool, Instant)>>,
}

/// Seeks come one after the other.
struct Turn<'a>(&'a Seeking);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.busy.lock().unwrap() = false;
        self.0.free.notify_one();
    }
}

impl Seeking {
    pub fn reset(&self) {
        self.set(Phase::None);
    }

    /// A count that falls now fell since we sought.
    pub fn is_under_way(&self) -> bool {
        !matches!(*self.phase.lock().unwrap(), Phase::None)
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap() = phase;
    }

    fn turn(&self, within: Duration) -> Option<Turn<'_>> {
        let busy = self.busy.lock().unwrap();
        let (mut busy, late) = self.free.wait_timeout_while(busy, within, |busy| *busy).unwrap();
        if late.timed_out() {
            return None;
        }
        *busy = true;
        Some(Turn(self))
    }

    /// The streaming thread is about to wait for frames.
    pub fn notice(&self) {
        if let Phase::Asking { noticed, .. } = &mut *self.phase.lock().unwrap()
            && !std::mem::replace(noticed, true)
        {
            self.noticed.notify_one();
        }
    }

    fn wait_until_noticed(&self) {
        let phase = self.phase.lock().unwrap();
        let unseen = |phase: &mut Phase| matches!(phase, Phase::Asking { noticed: false, .. });
        drop(self.noticed.wait_timeout_while(phase, NOTICED_WITHIN, unseen).unwrap());
    }
}

/// A seek that passed the rules.
struct Wanted {
    /// Producer's clock, in ns.
    target_ns: u64,
    stop: Option<gst::ClockTime>,
    flags: gst::SegmentFlags,
    timeline: Timeline,
}

fn wanted(seek: &gst::event::Seek, timeline: Timeline) -> Result<Wanted, String> {
    let (rate, flags, start_type, start, stop_type, stop) = seek.get();
    if rate != 1.0 {
        return Err(format!("rate {rate}: a live source plays at 1.0 only"));
    }
    if !flags.contains(gst::SeekFlags::FLUSH) {
        return Err(format!("flags {flags:?}: only flushing seeks, since what is to come is not known"));
    }
    let gst::GenericFormattedValue::Time(start) = start else {
        return Err(format!("format {:?}: only time", start.format()));
    };
    let (gst::SeekType::Set, Some(start)) = (start_type, start) else {
        return Err(format!("start type {start_type:?}: only a position from the start"));
    };
    let end = timeline.duration.map(gst::ClockTime::from_nseconds);
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(format!("position {start} is outside the timeline of 0:00:00.000000000 to {end}"));
    }
    let stop = match (stop_type, stop) {
        (gst::SeekType::Set, gst::GenericFormattedValue::Time(stop)) => stop,
        _ => None,
    };
    if let Some(stop) = stop.filter(|stop| *stop <= start) {
        return Err(format!("stop {stop} is not after position {start}"));
    }
    let segment = flags.contains(gst::SeekFlags::SEGMENT);
    Ok(Wanted {
        target_ns: timeline.start.saturating_add(start.nseconds()),
        stop,
        flags: if segment { gst::SegmentFlags::SEGMENT } else { gst::SegmentFlags::empty() },
        timeline,
    })
}

impl CvMmapSrc {
    /// Whether the producer says that it can seek.
    pub(super) fn can_seek(&self) -> bool {
        self.source_info.lock().unwrap().as_ref().is_some_and(|info| info.can_seek())
    }

    pub(super) fn timeline(&self) -> Option<Timeline> {
        self.source_info.lock().unwrap().as_ref().and_then(|info| info.timeline())
    }

    /// Answers DURATION and SEEKING where the producer has a timeline.
    pub(super) fn answer_from_timeline(&self, query: &mut gst::QueryRef) -> bool {
        let Some(timeline) = self.timeline() else { return false };
        let duration = timeline.duration.map(gst::ClockTime::from_nseconds);
        match query.view_mut() {
            gst::QueryViewMut::Duration(query) => match duration {
                Some(duration) if query.format() == gst::Format::Time => {
                    query.set(duration);
                    true
                }
                _ => false,
            },
            gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                query.set(self.can_seek(), gst::ClockTime::ZERO, duration);
                true
            }
            _ => false,
        }
    }

    /// Handles a seek event; `false`: refused, and told why in the log.
    pub(super) fn seek(&self, event: &gst::Event) -> bool {
        let gst::EventView::Seek(seek) = event.view() else { return false };
        let limit = self.open_connection().map_or(Duration::ZERO, |control| control.source.limit());
        let Some(_turn) = self.seeking.turn(limit + NOTICED_WITHIN) else {
            gst::warning!(CAT, imp = self, "seek refused: another one is under way");
            return false;
        };
        let seqnum = event.seqnum();
        let last = *self.seeking.last.lock().unwrap();
        if let Some((_, done, _)) = last.filter(|(last, _, at)| *last == seqnum && at.elapsed() < SAME_SEEK) {
            return done;
        }
        let result = self.try_seek(seek, seqnum);
        if let Err(why) = &result {
            gst::warning!(CAT, imp = self, "seek refused: {why}");
        }
        *self.seeking.last.lock().unwrap() = Some((seqnum, result.is_ok(), Instant::now()));
        result.is_ok()
    }

    fn try_seek(&self, seek: &gst::event::Seek, seqnum: gst::Seqnum) -> Result<(), String> {
        let control = self
            .open_connection()
            .ok_or("there is no control plane: 'nats-url' is empty, or the state NULL or READY")?;
        let info = self.source_info.lock().unwrap().clone();
        let info = info.ok_or("the producer has not said what it can do")?;
        let timeline = info.timeline().filter(|_| info.can_seek()).ok_or("the producer cannot seek")?;
        let wanted = wanted(seek, timeline)?;
        if control.source.connection().link() != Link::Up {
            // Known without asking, so that nothing is interrupted for it.
            return Err(format!("not-connected: no NATS server at {}", control.source.connection().url()));
        }
        let asked = Instant::now();
        self.bodies.lock().unwrap().forget(asked);
        self.seeking.set(Phase::Asking { target_ns: wanted.target_ns, since: asked, noticed: false });
        let obj = self.obj();
        self.parent_send_event(gst::event::FlushStart::builder().seqnum(seqnum).build());
        self.parent_send_event(gst::event::FlushStop::builder(false).seqnum(seqnum).build());
        // In PAUSED a live source reads nothing.
        let playing = self.playing.load(Ordering::Acquire);
        if playing {
            self.seeking.wait_until_noticed();
        }
        let asked = Instant::now();
        let landed = self.ask_to_seek(&control, wanted.target_ns);
        let phase = landed.as_ref().map_or(Phase::None, |frame| {
            let answered = Instant::now();
            let Wanted { stop, flags, .. } = wanted;
            Phase::Landed(Landing { frame: *frame, asked, answered, stop, flags })
        });
        self.seeking.set(phase);
        if !playing && let Ok(frame) = &landed {
            // Whoever asks for the position has nothing but this to go by until frames come.
            let stream = frame.timestamp_ns.saturating_sub(wanted.timeline.start);
            let mapping = Mapping {
                running: obj.current_running_time().unwrap_or_default(),
                stream: gst::ClockTime::from_nseconds(stream),
                stop: wanted.stop,
                flags: wanted.flags,
            };
            self.set_segment(&mapping.segment());
            if let Ok(segment) = mapping.segment().downcast::<gst::ClockTime>() {
                obj.src_pad().push_event(gst::event::Segment::builder(&segment).seqnum(seqnum).build());
            }
        }
        self.nudge();
        landed.map(|frame| gst::debug!(CAT, imp = self, "landed on {frame:?}"))
    }

    fn ask_to_seek(&self, control: &Control, target_ns: u64) -> Result<FrameId, String> {
        let source = control.source.clone();
        let answer = block_on(async move { source.seek(target_ns).await }, source_limit(control));
        let named = |error: ControlError| format!("{}: {error}", error.name());
        let landed = answer.map_err(|late| format!("timeout: {late}"))?.map_err(named)?;
        Ok(FrameId { count: landed.landed_frame_count, timestamp_ns: landed.landed_timestamp_ns })
    }

    fn set_segment(&self, segment: &gst::Segment) {
        if let Err(error) = self.obj().new_segment(segment) {
            gst::warning!(CAT, imp = self, "segment {segment:?}: {error}");
        }
    }

    /// Lets frames pass, or keeps them while the producer is asked to seek.
    pub(super) fn gate_by_seek(&self, s: &mut Streaming) {
        let phase = *self.seeking.phase.lock().unwrap();
        match phase {
            Phase::None => s.kept.clear(),
            Phase::Asking { target_ns, since, .. } => {
                let elapsed = since.elapsed().as_nanos() as u64;
                for mut snapshot in s.ready.drain(..) {
                    let behind = snapshot.frame.timestamp_ns.checked_sub(target_ns);
                    let picture = snapshot.key.is_none();
                    let room = if picture { KEPT_PICTURES } else { KEPT_ACCESS_UNITS };
                    if behind.is_none_or(|behind| behind > SPARSE_NS + elapsed) || s.kept.len() >= room {
                        continue;
                    }
                    // Pools have few buffers.
                    if picture && let Ok(copy) = snapshot.buffer.copy_deep() {
                        snapshot.buffer = copy;
                    }
                    s.kept.push(snapshot);
                }
            }
            Phase::Landed(landing) => {
                s.kept.extend(s.ready.drain(..));
                let found = |of: &dyn Fn(&Snapshot) -> bool| s.kept.iter().position(of);
                let at = found(&|snapshot| landing.is(&snapshot.frame))
                    .or_else(|| found(&|snapshot| landing.leads_to(&snapshot.frame, snapshot.arrived)));
                if let Some(at) = at {
                    s.ready.extend(s.kept.drain(at..));
                    s.ready[0].discont = true;
                    s.ready[0].reset = true;
                    s.landing = Some(landing);
                    self.seeking.set(Phase::None);
                }
                s.kept.clear();
            }
        }
    }

    /// Sets a new segment where stream time would not be the producer's.
    pub(super) fn follow_timeline(&self, s: &mut Streaming, frame: FrameId, running: gst::ClockTime) {
        let landing = s.landing.take();
        let Some(timeline) = self.timeline() else {
            if s.mapping.take().is_some() {
                self.set_segment(&gst::FormattedSegment::<gst::ClockTime>::new().upcast());
            }
            return;
        };
        let stream = gst::ClockTime::from_nseconds(frame.timestamp_ns.saturating_sub(timeline.start));
        let (stop, flags) = match (landing, s.mapping) {
            (Some(landing), _) => (landing.stop, landing.flags),
            (None, Some(mapping)) if mapping.error(running, stream) <= JUMP => return,
            (None, Some(mapping)) => (mapping.stop, mapping.flags),
            (None, None) => (None, gst::SegmentFlags::empty()),
        };
        let mapping = Mapping { running, stream, stop, flags };
        gst::debug!(CAT, imp = self, "stream time {stream} at running time {running}");
        self.set_segment(&mapping.segment());
        s.mapping = Some(mapping);
    }
}

fn source_limit(control: &Control) -> Duration {
    control.source.limit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: gst::ClockTime = gst::ClockTime::SECOND;

    fn seek(
        rate: f64,
        flags: gst::SeekFlags,
        start: gst::ClockTime,
        stop: Option<gst::ClockTime>,
    ) -> gst::Event {
        gst::event::Seek::new(rate, flags, gst::SeekType::Set, start, gst::SeekType::Set, stop)
    }

    fn judged(event: &gst::Event) -> Result<(u64, Option<gst::ClockTime>), String> {
        let gst::EventView::Seek(seek) = event.view() else { unreachable!() };
        let timeline = Timeline { start: 7, duration: Some(10 * S.nseconds()) };
        wanted(seek, timeline).map(|wanted| (wanted.target_ns, wanted.stop))
    }

    #[test]
    fn seeks_are_judged_by_rules_with_values() {
        gst::init().unwrap();
        let flush = gst::SeekFlags::FLUSH;
        assert_eq!(judged(&seek(1.0, flush, S, None)), Ok((S.nseconds() + 7, None)));
        assert_eq!(judged(&seek(1.0, flush, S * 10, None)), Ok((10 * S.nseconds() + 7, None)));
        assert_eq!(judged(&seek(1.0, flush, S, Some(S * 3))), Ok((S.nseconds() + 7, Some(S * 3))));
        for (event, rule) in [
            (seek(2.0, flush, S, None), "rate 2: "),
            (seek(-1.0, flush, S, None), "rate -1: "),
            (seek(1.0, gst::SeekFlags::ACCURATE, S, None), "only flushing seeks"),
            (seek(1.0, flush, S * 11, None), "position 0:00:11.000000000 is outside the timeline of 0:00:00"),
            (seek(1.0, flush, S * 2, Some(S)), "stop 0:00:01.000000000 is not after position 0:00:02"),
        ] {
            let error = judged(&event).unwrap_err();
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn a_mapping_keeps_running_time_and_says_when_stream_time_ends() {
        gst::init().unwrap();
        let mapping =
            Mapping { running: S * 60, stream: S * 3, stop: Some(S * 5), flags: gst::SegmentFlags::empty() };
        let segment = mapping.segment().downcast::<gst::ClockTime>().unwrap();
        assert_eq!(segment.to_running_time(S * 61), Some(S * 61));
        assert_eq!(segment.to_stream_time(S * 61), Some(S * 4));
        assert_eq!(segment.stop(), Some(S * 62));
        assert_eq!(mapping.error(S * 61, S * 4), gst::ClockTime::ZERO);
        assert_eq!(mapping.error(S * 61, S), S * 3);
        assert_eq!(mapping.error(S * 50, S * 4), S * 4, "running time does not go back that far");
    }

    #[test]
    fn a_landing_takes_what_followed_on_it() {
        let asked = Instant::now();
        let after = |ms| asked + Duration::from_millis(ms);
        let frame = |ms: u64| FrameId { count: 0, timestamp_ns: ms * 1_000_000 };
        let (stop, flags) = (None, gst::SegmentFlags::empty());
        let landing = Landing { frame: frame(5000), asked, answered: after(10), stop, flags };
        assert!(landing.leads_to(&frame(5033), after(43)));
        // Before the answer nobody knows; what is of before the seek is elsewhere.
        assert!(!landing.leads_to(&frame(5033), after(5)));
        assert!(!landing.leads_to(&frame(5600), after(43)) && !landing.leads_to(&frame(4900), after(43)));
        assert!(landing.leads_to(&frame(0), after(1100)));
    }
}
