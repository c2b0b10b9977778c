// SPDX-License-Identifier: MPL-2.0

//! What is published next, and where a seek is: decided from segments, flushes and requests, without I/O.

use cvmmap_ipc::FrameId;
use cvmmap_ipc::clock::unix_now_ns;

/// A segment that begins no farther from where the one before was goes on with it: containers round times.
const GOES_ON_WITHIN_NS: u64 = 50_000_000;

/// What frames are stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The time of day in ns.
    Unix,
    /// Stream time in ns.
    Media,
}

/// How a seek stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seek {
    /// The event is on its way upstream; what comes is from before.
    Asked(u64),
    /// Upstream has flushed: samples before the target are not published.
    Flushed(u64),
    /// The first sample at or after the target was published.
    Landed(FrameId),
    /// The stream ended before one came.
    Ended,
    /// Upstream does not seek.
    Refused,
}

/// Which frames were published, and which count the next one has.
#[derive(Debug)]
pub(super) struct State {
    pub clock: Clock,
    pub last: Option<FrameId>,
    pub seek: Option<Seek>,
    /// How often the count began anew.
    pub resets: u64,
    next_count: u32,
    /// A frame was published under the count that goes on now.
    begun: bool,
    segment: Option<gst::Segment>,
}

impl State {
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: None, seek: None, resets: 0, next_count: 0, begun: false, segment: None }
    }

    /// The next frame counts from 0 again; `false` where it did so anyway.
    pub fn restart(&mut self) -> bool {
        self.next_count = 0;
        let news = std::mem::take(&mut self.begun);
        self.resets += u64::from(news);
        news
    }

    /// Upstream has flushed; tells whether that is a stream reset for those who read.
    pub fn flushed(&mut self) -> bool {
        self.segment = None;
        self.seek = match self.seek {
            Some(Seek::Asked(target) | Seek::Flushed(target)) => Some(Seek::Flushed(target)),
            other => other,
        };
        self.restart()
    }

    /// A segment comes; tells whether that is a stream reset: it begins elsewhere than the one before it was.
    pub fn segment(&mut self, segment: &gst::Segment) -> bool {
        let before = self.segment.replace(segment.clone());
        let jumps = before.is_some_and(|before| !goes_on(&before, segment));
        jumps && self.restart()
    }

    /// The stream ends; a seek that has not landed does not.
    pub fn ended(&mut self) {
        if let Some(Seek::Flushed(_)) = self.seek {
            self.seek = Some(Seek::Ended);
        }
    }

    /// What a sample of this time is published as; `None`: it lies before the target of a seek.
    pub fn next(&mut self, timestamp_ns: u64) -> Option<FrameId> {
        match self.seek {
            Some(Seek::Flushed(target)) if timestamp_ns < target => None,
            _ => Some(FrameId { count: self.next_count, timestamp_ns }),
        }
    }

    /// The frame was published; tells whether it is the first of all.
    pub fn published(&mut self, frame: FrameId) -> bool {
        // A reset that came meanwhile holds for the next one.
        if frame.count == self.next_count {
            self.next_count = frame.count.wrapping_add(1);
            self.begun = true;
        }
        if let Some(Seek::Flushed(_)) = self.seek {
            self.seek = Some(Seek::Landed(frame));
        }
        self.last.replace(frame).is_none()
    }

    /// The stamp of a sample: its stream time, or the time of day where the caller knows no better.
    pub fn stamp(&self, buffer: &gst::BufferRef, captured: Option<u64>) -> Result<u64, String> {
        match self.clock {
            Clock::Unix => Ok(captured.unwrap_or_else(unix_now_ns)),
            Clock::Media => {
                let segment = self.segment.as_ref().and_then(|segment| segment.downcast_ref());
                let time = segment.zip(buffer.pts()).and_then(|(segment, pts)| stream_time(segment, pts));
                time.map(gst::ClockTime::nseconds).ok_or_else(|| {
                    format!(
                        "property 'timestamps' = 'media': a buffer ({:?}) has no stream time",
                        buffer.pts()
                    )
                })
            }
        }
    }
}

/// Whether stream time goes on at the turn from one segment to the next.
fn goes_on(before: &gst::Segment, after: &gst::Segment) -> bool {
    let times = before.downcast_ref::<gst::ClockTime>().zip(after.downcast_ref::<gst::ClockTime>());
    // Times of other formats cannot be compared.
    let Some((before, after)) = times else { return true };
    if before.rate() != after.rate() || before.applied_rate() != after.applied_rate() {
        return false;
    }
    let first = if after.rate() < 0.0 { after.stop() } else { after.start() };
    let turn = after.base().and_then(|base| before.position_from_running_time(base));
    let was = turn.and_then(|position| stream_time(before, position));
    match (was, first.and_then(|first| stream_time(after, first))) {
        (Some(was), Some(is)) => was.nseconds().abs_diff(is.nseconds()) <= GOES_ON_WITHIN_NS,
        _ => false,
    }
}

/// Also of a position outside: upstream may begin with the sample that is on at the start. What comes before all time is
/// at its beginning.
fn stream_time(
    segment: &gst::FormattedSegment<gst::ClockTime>,
    position: gst::ClockTime,
) -> Option<gst::ClockTime> {
    match segment.to_stream_time_full(position)? {
        gst::Signed::Positive(time) => Some(time),
        gst::Signed::Negative(_) => Some(gst::ClockTime::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u64, time: u64, base: u64) -> gst::Segment {
        gst::init().unwrap();
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_seconds(start));
        segment.set_time(gst::ClockTime::from_seconds(time));
        segment.set_base(gst::ClockTime::from_seconds(base));
        segment.upcast()
    }

    fn publish(state: &mut State, timestamp_ns: u64) -> Option<u32> {
        let frame = state.next(timestamp_ns)?;
        state.published(frame);
        Some(frame.count)
    }

    #[test]
    fn a_flush_is_a_reset_once_and_only_where_something_was_published() {
        let mut state = State::new(Clock::Unix);
        assert!(!state.flushed());
        assert_eq!((publish(&mut state, 1), publish(&mut state, 2)), (Some(0), Some(1)));
        assert!(state.flushed());
        assert!(!state.flushed(), "nothing came since");
        assert!(!state.segment(&segment(5, 5, 0)), "it belongs to the flush");
        assert_eq!((publish(&mut state, 3), publish(&mut state, 4)), (Some(0), Some(1)));
        assert_eq!(state.resets, 1);
    }

    #[test]
    fn a_segment_is_a_reset_where_stream_time_jumps() {
        for (next, reset, what) in [
            (segment(0, 0, 0), false, "the same again"),
            (segment(100, 10, 10), false, "an edit list's next part"),
            (segment(0, 0, 10), true, "a loop"),
            (segment(20, 20, 10), true, "a gap is left out"),
        ] {
            let mut state = State::new(Clock::Unix);
            assert!(!state.segment(&segment(0, 0, 0)));
            publish(&mut state, 1);
            assert_eq!(state.segment(&next), reset, "{what}");
            assert_eq!(publish(&mut state, 2), Some(u32::from(!reset)), "{what}");
        }
    }

    #[test]
    fn a_seek_lands_on_the_first_sample_at_or_after_its_target() {
        let mut state = State::new(Clock::Media);
        publish(&mut state, 0);
        state.seek = Some(Seek::Asked(500));
        assert_eq!(publish(&mut state, 900), Some(1), "of before the flush");
        assert_eq!(state.seek, Some(Seek::Asked(500)));
        state.flushed();
        assert_eq!((publish(&mut state, 499), publish(&mut state, 510)), (None, Some(0)));
        assert_eq!(state.seek, Some(Seek::Landed(FrameId { count: 0, timestamp_ns: 510 })));
        state.seek = Some(Seek::Asked(990));
        state.flushed();
        assert_eq!(publish(&mut state, 980), None);
        state.ended();
        assert_eq!(state.seek, Some(Seek::Ended));
    }

    #[test]
    fn a_sample_that_began_before_its_segment_has_its_own_time() {
        gst::init().unwrap();
        let mut state = State::new(Clock::Media);
        let buffer = |pts: Option<gst::ClockTime>| {
            let mut buffer = gst::Buffer::new();
            buffer.get_mut().unwrap().set_pts(pts);
            buffer
        };
        let begun = buffer(Some(gst::ClockTime::from_mseconds(59_990)));
        assert!(state.stamp(&begun, None).is_err(), "no segment yet");
        state.segment(&segment(60, 60, 0));
        assert_eq!(state.stamp(&begun, Some(7)), Ok(59_990_000_000));
        assert!(state.stamp(&buffer(None), None).unwrap_err().contains("'timestamps' = 'media'"));
    }

    #[test]
    fn a_count_that_was_reset_while_a_frame_was_written_stays_reset() {
        let mut state = State::new(Clock::Unix);
        assert_eq!((publish(&mut state, 1), publish(&mut state, 2)), (Some(0), Some(1)));
        let under_way = state.next(9).unwrap();
        assert!(state.restart());
        state.published(under_way);
        assert_eq!(publish(&mut state, 10), Some(0));
    }
}
