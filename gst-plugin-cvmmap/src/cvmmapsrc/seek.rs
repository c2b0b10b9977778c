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
/// After this no frame of the landing comes any more; slow producers have less than a frame a second.
const OVERDUE_AFTER: Duration = Duration::from_secs(5);
/// How far behind the target a sample may be that is the first at or after it.
const SPARSE_NS: u64 = 2_000_000_000;
/// Frames that are kept while the producer was asked: pictures are large, access units are not.
const KEPT_PICTURES: usize = 4;
const KEPT_ACCESS_UNITS: usize = 64;
/// The same event comes once for each sink of the pipeline.
const SAME_SEEK: Duration = Duration::from_secs(1);

/// A whole seek takes no longer, in whichever dialect: the pipeline's state cannot change meanwhile.
const ASKED_WITHIN: Duration = Duration::from_secs(1);
/// What may lie between the last sample and the stop position, where the pace is not known.
const LAST_STEP: gst::ClockTime = JUMP;

/// Stream time by running time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mapping {
    running: gst::ClockTime,
    stream: gst::ClockTime,
    stop: Option<gst::ClockTime>,
}

impl Mapping {
    fn at(&self, running: gst::ClockTime) -> gst::ClockTime {
        self.stream.saturating_add(running).saturating_sub(self.running)
    }

    /// How far a frame of stream time `stream` is from where this mapping has it.
    fn error(&self, running: gst::ClockTime, stream: gst::ClockTime) -> gst::ClockTime {
        let mapped = self.at(running);
        if mapped > stream { mapped - stream } else { stream - mapped }
    }

    /// Whether the frame at `running` is not to be shown any more.
    pub fn is_past_stop(&self, running: gst::ClockTime) -> bool {
        self.stop.is_some_and(|stop| self.at(running) >= stop)
    }

    /// PTS are running time, so the segment begins where it is based.
    fn segment(&self) -> gst::Segment {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(self.running);
        segment.set_base(self.running);
        segment.set_position(self.running);
        segment.set_time(self.stream);
        segment.set_stop(self.stop.map(|stop| self.running.saturating_add(stop.saturating_sub(self.stream))));
        segment.upcast()
    }
}

/// Where a seek's stop position ends the stream. It outlives mappings: they go with each flush, pause and outage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Span {
    /// Stream time.
    stop: Option<gst::ClockTime>,
    /// Of the timeline, as it was when it was sought: a producer that goes at its end takes it along.
    end: Option<gst::ClockTime>,
    /// What was landed on.
    landed: Option<gst::ClockTime>,
    /// Of the last frame.
    reached: Option<gst::ClockTime>,
}

impl Span {
    /// A frame that no seek of ours landed on; `true`: it is of another round, so that the stop was passed unseen.
    fn reach(&mut self, stream: gst::ClockTime) -> bool {
        // Less is a stamp that was put right, or a frame that was on its way.
        let fell = self.reached.replace(stream).is_some_and(|reached| stream.saturating_add(JUMP) < reached);
        fell && self.stop.is_some()
    }

    /// Whether the next frame would be past the stop, or past the end where that comes first.
    fn is_spent(&self, duration: Option<gst::ClockTime>, interval: Option<gst::ClockTime>) -> bool {
        let Some((stop, reached)) = self.stop.zip(self.reached.or(self.landed)) else { return false };
        let end = duration.or(self.end).map_or(stop, |end| stop.min(end));
        reached.saturating_add(interval.unwrap_or(LAST_STEP)) >= end
    }
}

/// Which frames may be where a seek lands that was not answered yet.
#[derive(Debug, Default)]
pub(super) struct Picking {
    /// Which seek it is about.
    asked: Option<Instant>,
    /// The last stamp that was seen.
    last_ns: Option<u64>,
    /// A seek backwards shows by a stamp that does not rise. Before that, frames continue the old position.
    continues: bool,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
enum Picked {
    /// It may be the landing, and none before it is.
    First,
    Kept,
    Dropped,
}

impl Picking {
    fn pass(&mut self, stamp_ns: u64) {
        self.last_ns = Some(stamp_ns);
    }

    fn pick(&mut self, stamp_ns: u64, target_ns: u64, asked: Instant) -> Picked {
        if self.asked.replace(asked) != Some(asked) {
            // The first sample at or after the target is then not behind that one.
            self.continues = self.last_ns.is_some_and(|last| target_ns <= last);
        }
        let last = self.last_ns.replace(stamp_ns);
        let turned = last.is_some_and(|last| stamp_ns <= last || stamp_ns - last > JUMP.nseconds());
        self.continues &= !turned;
        let sparse = SPARSE_NS + asked.elapsed().as_nanos() as u64;
        match stamp_ns.checked_sub(target_ns) {
            Some(behind) if behind <= sparse && !self.continues => {
                if turned {
                    Picked::First
                } else {
                    Picked::Kept
                }
            }
            _ => Picked::Dropped,
        }
    }
}

/// Where the producer is after a seek.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landing {
    frame: FrameId,
    asked: Instant,
    answered: Instant,
    /// Since when its frame could come: since the answer, or since PLAYING.
    awaited: Instant,
    /// Stream time.
    stop: Option<gst::ClockTime>,
    timeline: Timeline,
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

    fn span(&self) -> Span {
        let landed = self.timeline.stream_time(self.frame.timestamp_ns);
        Span { stop: self.stop, end: self.timeline.end(), landed: Some(landed), reached: None }
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

/// Seen and changed as one.
#[derive(Debug, Default)]
struct Now {
    /// Which opening of the element this is of.
    opening: u64,
    phase: Phase,
    span: Span,
}

/// The seek that is under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Seeking {
    now: Mutex<Now>,
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
    /// The element is opened; a seek that is still under way then has no say any more.
    pub fn reset(&self) {
        let mut now = self.now.lock().unwrap();
        *now = Now { opening: now.opening + 1, ..Now::default() };
    }

    /// A count that falls now fell since we sought.
    pub fn is_under_way(&self) -> bool {
        match self.phase() {
            Phase::None => false,
            Phase::Asking { .. } => true,
            Phase::Landed(landing) => landing.awaited.elapsed() <= OVERDUE_AFTER,
        }
    }

    /// Nothing came in PAUSED.
    pub fn await_from_now(&self) {
        if let Phase::Landed(landing) = &mut self.now.lock().unwrap().phase {
            landing.awaited = Instant::now();
        }
    }

    fn phase(&self) -> Phase {
        self.now.lock().unwrap().phase
    }

    fn opening(&self) -> u64 {
        self.now.lock().unwrap().opening
    }

    /// `false`: the element was opened anew since `opening`, and nothing is changed.
    fn set(&self, opening: u64, new: Phase) -> bool {
        let mut now = self.now.lock().unwrap();
        if now.opening != opening {
            return false;
        }
        if let Phase::Landed(landing) = &new {
            // Of it from now on, though its frame may never come.
            now.span = landing.span();
        }
        now.phase = new;
        true
    }

    fn span(&self) -> Span {
        self.now.lock().unwrap().span
    }

    /// A frame goes out; `true`: it is of another round, and there is a stop position.
    fn reach(&self, stream: gst::ClockTime) -> bool {
        self.now.lock().unwrap().span.reach(stream)
    }

    /// The frames that were sought come; unless it is another seek's turn by now.
    fn landed(&self, landing: &Landing) {
        let mut now = self.now.lock().unwrap();
        if matches!(&now.phase, Phase::Landed(current) if current.asked == landing.asked) {
            now.phase = Phase::None;
        }
    }

    /// What the streaming thread noticed before it was flushed, it did not notice as it is now.
    pub fn restart(&self) {
        if let Phase::Asking { noticed, .. } = &mut self.now.lock().unwrap().phase {
            *noticed = false;
        }
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
        if let Phase::Asking { noticed, .. } = &mut self.now.lock().unwrap().phase
            && !std::mem::replace(noticed, true)
        {
            self.noticed.notify_one();
        }
    }

    fn wait_until_noticed(&self) {
        let now = self.now.lock().unwrap();
        let unseen = |now: &mut Now| matches!(now.phase, Phase::Asking { noticed: false, .. });
        drop(self.noticed.wait_timeout_while(now, NOTICED_WITHIN, unseen).unwrap());
    }
}

/// A seek that passed the rules.
struct Wanted {
    /// Producer's clock, in ns.
    target_ns: u64,
    stop: Option<gst::ClockTime>,
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
    if flags.contains(gst::SeekFlags::SEGMENT) {
        return Err(format!("flags {flags:?}: no segment seeks, since what follows on one cannot be queued"));
    }
    let gst::GenericFormattedValue::Time(start) = start else {
        return Err(format!("format {:?}: only time", start.format()));
    };
    let (gst::SeekType::Set, Some(start)) = (start_type, start) else {
        return Err(format!("start type {start_type:?}: only a position from the start"));
    };
    if let Some(end) = timeline.end().filter(|end| start > *end) {
        return Err(format!("position {start} is outside the timeline of 0:00:00.000000000 to {end}"));
    }
    let stop = match (stop_type, stop) {
        (gst::SeekType::Set, gst::GenericFormattedValue::Time(stop)) => stop,
        _ => None,
    };
    if let Some(stop) = stop.filter(|stop| *stop <= start) {
        return Err(format!("stop {stop} is not after position {start}"));
    }
    Ok(Wanted { target_ns: timeline.start.saturating_add(start.nseconds()), stop, timeline })
}

impl Timeline {
    /// Stream time.
    fn end(&self) -> Option<gst::ClockTime> {
        self.duration.map(gst::ClockTime::from_nseconds)
    }

    /// The last one there is for stamps that GStreamer has no number for.
    fn stream_time(&self, stamp_ns: u64) -> gst::ClockTime {
        gst::ClockTime::try_from(stamp_ns.saturating_sub(self.start)).unwrap_or(gst::ClockTime::MAX)
    }
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
        let duration = timeline.end();
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
        let Some(_turn) = self.seeking.turn(ASKED_WITHIN + NOTICED_WITHIN) else {
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
        let opening = self.seeking.opening();
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
        let was_at = self.obj().query_position::<gst::ClockTime>();
        let closed = || "the element was closed meanwhile".to_owned();
        let asking = Phase::Asking { target_ns: wanted.target_ns, since: asked, noticed: false };
        if !self.seeking.set(opening, asking) {
            return Err(closed());
        }
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
            let Wanted { stop, timeline, .. } = wanted;
            let answered = Instant::now();
            Phase::Landed(Landing { frame: *frame, asked, answered, awaited: answered, stop, timeline })
        });
        if !self.seeking.set(opening, phase) {
            return Err(closed());
        }
        if !playing {
            let stream = match &landed {
                Ok(frame) => Some((wanted.timeline.stream_time(frame.timestamp_ns), wanted.stop)),
                Err(_) => was_at.map(|stream| (stream, self.seeking.span().stop)),
            };
            self.place_paused(stream, seqnum);
        }
        self.nudge();
        landed.map(|frame| gst::debug!(CAT, imp = self, "landed on {frame:?}"))
    }

    /// After a flush in PAUSED, whoever asks for the position has nothing but this to go by until frames come.
    fn place_paused(&self, at: Option<(gst::ClockTime, Option<gst::ClockTime>)>, seqnum: gst::Seqnum) {
        let Some((stream, stop)) = at else { return };
        if self.playing.load(Ordering::Acquire) {
            return;
        }
        let obj = self.obj();
        let mapping = Mapping { running: obj.current_running_time().unwrap_or_default(), stream, stop };
        self.place(&mapping);
        // A segment comes after caps. The pad's stream lock is no help here: the flush started the task, which holds it
        // while it waits for PLAYING.
        if obj.src_pad().current_caps().is_some()
            && let Ok(segment) = mapping.segment().downcast::<gst::ClockTime>()
        {
            obj.src_pad().push_event(gst::event::Segment::builder(&segment).seqnum(seqnum).build());
        }
    }

    fn ask_to_seek(&self, control: &Control, target_ns: u64) -> Result<FrameId, String> {
        let source = control.source.clone();
        let answer = block_on(async move { source.seek(target_ns).await }, ASKED_WITHIN);
        let named = |error: ControlError| format!("{}: {error}", error.name());
        let landed = answer.map_err(|late| format!("timeout: {late}"))?.map_err(named)?;
        Ok(FrameId { count: landed.landed_frame_count, timestamp_ns: landed.landed_timestamp_ns })
    }

    fn place(&self, mapping: &Mapping) {
        self.placed.store(true, Ordering::Release);
        self.set_segment(&mapping.segment());
    }

    fn set_segment(&self, segment: &gst::Segment) {
        if let Err(error) = self.obj().new_segment(segment) {
            gst::warning!(CAT, imp = self, "segment {segment:?}: {error}");
        }
    }

    /// Lets frames pass, or keeps them while the producer is asked to seek.
    pub(super) fn gate_by_seek(&self, s: &mut Streaming) {
        let phase = self.seeking.phase();
        match phase {
            Phase::None => {
                s.kept.clear();
                s.ready.iter().for_each(|snapshot| s.picking.pass(snapshot.frame.timestamp_ns));
            }
            Phase::Asking { target_ns, since, .. } => {
                for mut snapshot in s.ready.drain(..) {
                    match s.picking.pick(snapshot.frame.timestamp_ns, target_ns, since) {
                        Picked::First => s.kept.clear(),
                        Picked::Kept => (),
                        Picked::Dropped => continue,
                    }
                    let picture = snapshot.key.is_none();
                    let room = if picture { KEPT_PICTURES } else { KEPT_ACCESS_UNITS };
                    if s.kept.len() >= room {
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
                s.kept.iter().for_each(|snapshot| s.picking.pass(snapshot.frame.timestamp_ns));
                let found = |of: &dyn Fn(&Snapshot) -> bool| s.kept.iter().position(of);
                let at = found(&|snapshot| landing.is(&snapshot.frame))
                    .or_else(|| found(&|snapshot| landing.leads_to(&snapshot.frame, snapshot.arrived)));
                if let Some(at) = at {
                    s.ready.extend(s.kept.drain(at..));
                    s.ready[0].discont = true;
                    s.ready[0].reset = true;
                    s.landing = Some(landing);
                    self.seeking.landed(&landing);
                }
                s.kept.clear();
            }
        }
    }

    /// Sets a new segment where stream time would not be the producer's; `true`: the stop position was reached.
    pub(super) fn follow_timeline(&self, s: &mut Streaming, frame: FrameId, running: gst::ClockTime) -> bool {
        let landing = s.landing.take();
        let Some(timeline) = self.timeline() else {
            s.mapping = None;
            if self.placed.swap(false, Ordering::AcqRel) {
                self.set_segment(&gst::FormattedSegment::<gst::ClockTime>::new().upcast());
            }
            return false;
        };
        let stream = timeline.stream_time(frame.timestamp_ns);
        let over = self.seeking.reach(stream);
        let stop = self.seeking.span().stop;
        if over {
            gst::info!(CAT, imp = self, "from before the stop position to {stream}: it ends there");
            return true;
        }
        if landing.is_none() && s.mapping.is_some_and(|mapping| mapping.error(running, stream) <= JUMP) {
            return s.mapping.is_some_and(|mapping| mapping.is_past_stop(running));
        }
        let mapping = Mapping { running, stream, stop };
        gst::debug!(CAT, imp = self, "stream time {stream} at running time {running}");
        self.place(&mapping);
        s.mapping = Some(mapping);
        mapping.is_past_stop(running)
    }

    /// Whether there is a stop position and the producer has nothing more up to there; asked where it is silent.
    pub(super) fn is_spent(&self, s: &Streaming) -> bool {
        let duration = self.timeline().and_then(|timeline| timeline.end());
        let interval = s.rate.interval_ns().map(gst::ClockTime::from_nseconds);
        self.seeking.span().is_spent(duration, interval)
    }
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
            (seek(1.0, flush | gst::SeekFlags::SEGMENT, S, None), "no segment seeks"),
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
        let mapping = Mapping { running: S * 60, stream: S * 3, stop: Some(S * 5) };
        let segment = mapping.segment().downcast::<gst::ClockTime>().unwrap();
        assert_eq!(segment.to_running_time(S * 61), Some(S * 61));
        assert_eq!(segment.to_stream_time(S * 61), Some(S * 4));
        assert_eq!(segment.stop(), Some(S * 62));
        assert_eq!(mapping.error(S * 61, S * 4), gst::ClockTime::ZERO);
        assert_eq!(mapping.error(S * 61, S), S * 3);
        assert_eq!(mapping.error(S * 50, S * 4), S * 4, "running time does not go back that far");
        // Whatever a producer writes.
        let timeline = Timeline { start: 0, duration: None };
        let last = timeline.stream_time(u64::MAX);
        let mapping = Mapping { running: S * 60, stream: last, stop: Some(last) };
        assert_eq!(mapping.error(S * 61, S), last - S * 61);
        assert!(!mapping.is_past_stop(S * 61));
        assert!(mapping.segment().downcast::<gst::ClockTime>().unwrap().stop().is_some());
    }

    #[test]
    fn a_stop_ends_by_a_fall_and_by_silence_before_it() {
        let ms = gst::ClockTime::MSECOND;
        let mut span = Span { stop: Some(S * 3), reached: Some(S), ..Span::default() };
        assert!(!span.reach(S * 2) && !span.reach(S * 2));
        assert!(!span.is_spent(None, Some(ms * 40)));
        assert!(!span.reach(ms * 1_999) && !span.reach(ms * 1_500), "not in order");
        assert!(span.reach(ms * 40), "a loop");
        let mut unbound = Span::default();
        assert!(!unbound.reach(S * 2) && !unbound.reach(S) && !unbound.is_spent(Some(S), None));
        let at = |reached| Span { stop: Some(S * 10), reached: Some(reached), ..Span::default() };
        assert!(at(ms * 2_960).is_spent(Some(S * 3), Some(ms * 40)));
        assert!(!at(ms * 2_960).is_spent(Some(S * 10), Some(ms * 40)), "silent in the middle");
        assert!(at(ms * 9_970).is_spent(None, Some(ms * 40)));
        let gone = Span { end: Some(S * 3), ..at(ms * 2_960) };
        assert!(gone.is_spent(None, Some(ms * 40)), "with the producer");
        assert!(!gone.is_spent(Some(S * 10), Some(ms * 40)), "it has more by now");
    }

    #[test]
    fn a_short_seek_backwards_keeps_no_frame_of_before_it() {
        let asked = Instant::now();
        let ns = |ms: u64| ms * 1_000_000;
        let mut picking = Picking::default();
        picking.pass(ns(5000));
        let mut pick = |ms, target| picking.pick(ns(ms), ns(target), asked);
        // A slow producer goes on with the old position, behind the target, and lands then.
        assert_eq!([pick(5040, 4900), pick(5080, 4900)], [Picked::Dropped, Picked::Dropped]);
        assert_eq!(pick(4920, 4900), Picked::First);
        assert_eq!(pick(4960, 4900), Picked::Kept);
        let again = Instant::now();
        let mut pick = |ms, target| picking.pick(ns(ms), ns(target), again);
        // Forwards, a little: the old position may come by before it is left.
        assert_eq!([pick(5000, 5010), pick(5040, 5010)], [Picked::Dropped, Picked::Kept]);
        assert_eq!([pick(5040, 5010), pick(5080, 5010)], [Picked::First, Picked::Kept]);
        // And one that shows by nothing but the distance.
        let far = Instant::now();
        let mut pick = |ms, target| picking.pick(ns(ms), ns(target), far);
        assert_eq!([pick(5120, 9000), pick(9000, 9000)], [Picked::Dropped, Picked::First]);
    }

    #[test]
    fn a_seek_that_outlives_its_opening_changes_nothing() {
        let seeking = Seeking::default();
        let opening = seeking.opening();
        let asking = || Phase::Asking { target_ns: 0, since: Instant::now(), noticed: true };
        assert!(seeking.set(opening, asking()));
        // The run that noticed is flushed.
        seeking.restart();
        assert!(matches!(seeking.phase(), Phase::Asking { noticed: false, .. }));
        seeking.reset();
        assert!(!seeking.set(opening, asking()) && !seeking.is_under_way());
    }

    fn landing(frame: FrameId, asked: Instant, answered: Instant) -> Landing {
        let timeline = Timeline { start: 0, duration: Some(3 * S.nseconds()) };
        Landing { frame, asked, answered, awaited: answered, stop: Some(S * 4), timeline }
    }

    #[test]
    fn a_landing_whose_frame_never_comes_is_not_under_way_for_ever() {
        let seeking = Seeking::default();
        let long_ago = Instant::now().checked_sub(2 * OVERDUE_AFTER).expect("the machine is up for longer");
        let last = FrameId { count: 0, timestamp_ns: 3 * S.nseconds() };
        assert!(seeking.set(0, Phase::Landed(landing(last, long_ago, long_ago))));
        assert!(!seeking.is_under_way());
        assert!(seeking.span().is_spent(None, None), "it was the last");
        seeking.await_from_now();
        assert!(seeking.is_under_way(), "nothing could come in PAUSED");
        let first = FrameId { timestamp_ns: S.nseconds(), ..last };
        assert!(seeking.set(0, Phase::Landed(landing(first, long_ago, long_ago))));
        assert!(!seeking.span().is_spent(None, None), "it may only be slow");
    }

    #[test]
    fn a_landing_takes_what_followed_on_it() {
        let asked = Instant::now();
        let after = |ms| asked + Duration::from_millis(ms);
        let frame = |ms: u64| FrameId { count: 0, timestamp_ns: ms * 1_000_000 };
        let landing = landing(frame(5000), asked, after(10));
        assert!(landing.leads_to(&frame(5033), after(43)));
        // Before the answer nobody knows; what is of before the seek is elsewhere.
        assert!(!landing.leads_to(&frame(5033), after(5)));
        assert!(!landing.leads_to(&frame(5600), after(43)) && !landing.leads_to(&frame(4900), after(43)));
        assert!(landing.leads_to(&frame(0), after(1100)));
    }
}
