// SPDX-License-Identifier: MPL-2.0

//! When the next frame is due: the pace of a producer, learned from its sync messages.
//!
//! `verify` cannot see a producer that began the next frame before the copy and paused for all of it: nothing moves
//! then. But such a frame is already due, and the stamps tell when that is: a producer that stamps right before it
//! fills cannot begin the next frame before `stamp + interval`. That is good to know where frames arrive well before.
//!
//! Where they arrive about when the next is due, or later, the stamps may be old (a sensor with a pipeline behind it).
//! Such frames get a quarter of an interval from the expected arrival, once many copies in a row were seen to hold
//! still. Or the producer never pauses between its frames, and none of its copies can be trusted: it is caught writing,
//! and its delay is all fill, so just an interval long.
//!
//! And whoever was caught writing during several of the last copies is not trusted with the others either.

use std::collections::VecDeque;

use crate::clock::is_same_clock;
use crate::sync::FrameId;

const INTERVALS: usize = 256;
/// One interval in so many may be shorter than the pace: a hiccup of a producer, and a burst after it to catch up.
const BURSTS: usize = 16;
/// No producer becomes so many times as fast from one frame to the next.
const FASTER: u64 = 8;
/// A gap of more frames than this says nothing of a pace that is unknown.
const MISSED_AT_ONCE: u32 = 8;
const ARRIVALS: usize = 32;
/// Of stamps of another clock fewer are used, since that clock drifts.
const FOREIGN_ARRIVALS: usize = 8;
/// A clock goes as fast as ours if it differs by no more than this part.
const SAME_SPEED: u64 = 64;
/// Copies that are remembered, and how many of them may have been caught by a write.
const COPIES: u32 = u16::BITS;
const CAUGHT: u32 = 1;
/// A delay this near to the interval is the fill of a producer that never pauses, in ns.
const NO_PAUSE: u64 = 1_000_000;

/// Frame intervals and arrivals of the last frames in ns, and how their copies went.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The last frame, with the time of it that intervals are measured by.
    last: Option<(FrameId, u64)>,
    intervals: VecDeque<u64>,
    /// Stamp and arrival of frames that did not wait for us.
    arrivals: VecDeque<(u64, u64)>,
    same_clock: bool,
    /// How many copies were seen, up to [`COPIES`], and a bit for each of them that was caught by a write.
    copies: u32,
    caught: u16,
}

impl Pace {
    /// Takes in a frame's sync; `arrival` is Unix time in ns, `None` for one that was found queued.
    pub(crate) fn observe(&mut self, frame: FrameId, arrival: Option<u64>) {
        let stamp = frame.timestamp_ns;
        if let Some(arrival) = arrival {
            let same_clock = is_same_clock(stamp, arrival);
            // Stamps that go back, or are of another clock now: the old delays say nothing of the new.
            if same_clock != self.same_clock || self.arrivals.back().is_some_and(|(last, _)| *last > stamp) {
                self.arrivals.clear();
            }
            self.same_clock = same_clock;
            push(&mut self.arrivals, ARRIVALS, (stamp, arrival));
        }
        let Some(time) = (if self.same_clock { Some(stamp) } else { arrival }) else { return };
        if let Some((last, since)) = self.last.replace((frame, time))
            && frame.count > last.count
            && let Some(elapsed) = time.checked_sub(since)
        {
            let frames = frame.count - last.count;
            let interval = elapsed / u64::from(frames);
            // A count that jumps with a seek of a replay's is no row of frames that were missed.
            let missed = match self.intervals.iter().min() {
                Some(least) => interval >= least / FASTER,
                None => frames <= MISSED_AT_ONCE,
            };
            if frames == 1 || missed {
                push(&mut self.intervals, INTERVALS, interval);
            }
        }
    }

    /// Least time from stamp to arrival, in ns. Stamps of another clock tell it too, if that clock goes as fast as
    /// ours (a replay may go at any speed), though not what part of it is an offset between the two.
    fn delay(&self) -> Option<i128> {
        let delay = |(stamp, arrival): &(u64, u64)| i128::from(*arrival) - i128::from(*stamp);
        if self.same_clock {
            return self.arrivals.iter().map(delay).min();
        }
        let recent = || self.arrivals.iter().rev().take(FOREIGN_ARRIVALS);
        let (last, first) = (self.arrivals.back()?, self.arrivals.front()?);
        let (elapsed, stamped) = (last.1.abs_diff(first.1), last.0.abs_diff(first.0));
        let as_fast = elapsed.abs_diff(stamped) <= elapsed / SAME_SPEED;
        (self.arrivals.len() == ARRIVALS && as_fast).then(|| recent().map(delay).min())?
    }

    /// Takes note of a copy: whether metadata and payload held still for it.
    pub(crate) fn copied(&mut self, still: bool) {
        self.copies = (self.copies + 1).min(COPIES);
        self.caught = self.caught << 1 | u16::from(!still);
    }

    /// Whether the producer was caught writing too often during the last copies; once, where no stamp tells what is
    /// overdue.
    pub(crate) fn is_restless(&self) -> bool {
        self.caught.count_ones() > if self.same_clock { CAUGHT } else { 0 }
    }

    /// Whether the time between two frames was seen, so that a frame can be told to be overdue.
    pub(crate) fn is_known(&self) -> bool {
        !self.intervals.is_empty()
    }

    /// Unix time in ns until which the slot is taken to hold the frame stamped `timestamp_ns` that arrived at
    /// `arrival_ns`; `None` while the pace is unknown.
    ///
    /// For a frame that cannot be trusted this is its stamp, which no copy comes before.
    pub(crate) fn due(&self, timestamp_ns: u64, arrival_ns: u64) -> Option<u64> {
        let mut intervals: Vec<u64> = self.intervals.iter().copied().collect();
        if intervals.is_empty() {
            return None;
        }
        let nth = intervals.len() / BURSTS;
        let (_, &mut interval, _) = intervals.select_nth_unstable(nth);
        let quarter = interval / 4;
        let Some(delay) = self.delay() else {
            return Some(arrival_ns.saturating_add(quarter));
        };
        let [gap, near] = [interval - quarter, NO_PAUSE].map(i128::from);
        let seen_to_pause =
            self.copies == COPIES && (!self.same_clock || (delay - i128::from(interval)).abs() > near);
        let hold = if self.same_clock && delay <= gap {
            i128::from(interval)
        } else if seen_to_pause {
            delay + i128::from(quarter)
        } else if self.same_clock {
            0
        } else {
            return Some(arrival_ns.saturating_add(quarter));
        };
        Some(u64::try_from(i128::from(timestamp_ns) + hold).unwrap_or(0))
    }
}

fn push<T>(window: &mut VecDeque<T>, size: usize, value: T) {
    if window.len() == size {
        window.pop_front();
    }
    window.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000_000_000;
    const MS: u64 = 1_000_000;

    fn paced(interval: u64, delay: u64) -> Pace {
        let mut pace = Pace::default();
        for i in 0..20 {
            let timestamp_ns = START + u64::from(i) * interval;
            pace.observe(FrameId { count: i, timestamp_ns }, Some(timestamp_ns + delay));
        }
        pace
    }

    #[test]
    fn prompt_stamps_leave_a_whole_interval() {
        assert_eq!(paced(33 * MS, 2 * MS).due(START, START), Some(START + 33 * MS));
    }

    #[test]
    fn old_stamps_leave_a_quarter_from_the_arrival_once_copies_hold_still() {
        let mut pace = paced(32 * MS, 50 * MS);
        assert_eq!(pace.due(START, START), Some(START));
        (0..COPIES).for_each(|_| pace.copied(true));
        assert_eq!(pace.due(START, START), Some(START + 58 * MS));
    }

    #[test]
    fn flat_out_is_never_trusted() {
        // Fill 5 ms, wake-up 0.1 ms; even if the fill pauses in a way that no copy ever sees.
        let mut pace = paced(5 * MS, 5 * MS + MS / 10);
        (0..100).for_each(|_| pace.copied(true));
        assert_eq!(pace.due(START, START), Some(START));
        // Fast ones too, whose wake-up and copy take no time at all.
        assert_eq!(paced(134_000, 118_000).due(START, START), Some(START));
    }

    #[test]
    fn a_count_that_jumps_with_a_seek_is_no_pace() {
        let observe = |pace: &mut Pace, count, ms| {
            pace.observe(FrameId { count, timestamp_ns: u64::from(count) * 40 * MS }, Some(START + ms * MS));
        };
        // Media time. The second frame that is seen was sought already.
        let mut pace = Pace::default();
        observe(&mut pace, 2, 0);
        observe(&mut pace, 300, 40);
        assert!(!pace.is_known());
        observe(&mut pace, 301, 80);
        assert_eq!(pace.due(1, START), Some(START + 10 * MS));
        observe(&mut pace, 450, 120);
        observe(&mut pace, 452, 200);
        assert_eq!(pace.due(1, START), Some(START + 10 * MS));
    }

    #[test]
    fn one_caught_copy_is_forgiven_two_are_not() {
        let mut pace = paced(32 * MS, 2 * MS);
        pace.copied(false);
        assert!(!pace.is_restless());
        pace.copied(false);
        assert!(pace.is_restless());
        (0..COPIES - 1).for_each(|_| pace.copied(true));
        assert!(!pace.is_restless());
    }

    #[test]
    fn neither_bursts_nor_skipped_frames_nor_resets_are_a_faster_pace() {
        let mut pace = paced(10 * MS, MS);
        let at = |count: u32, ms: u64| FrameId { count, timestamp_ns: START + ms * MS };
        pace.observe(at(20, 230), Some(START + 231 * MS));
        pace.observe(at(21, 231), Some(START + 232 * MS));
        pace.observe(at(24, 260), None);
        pace.observe(at(0, 270), None);
        pace.observe(at(1, 280), None);
        assert_eq!(pace.due(START, START), Some(START + 9_666_666));
    }

    #[test]
    fn media_time_is_paced_by_its_arrivals() {
        let mut pace = Pace::default();
        for i in 0..5u32 {
            pace.observe(
                FrameId { count: i, timestamp_ns: u64::from(i) },
                Some(START + u64::from(i) * 8 * MS),
            );
        }
        assert_eq!(pace.due(4, START), Some(START + 2 * MS));
    }

    #[test]
    fn media_time_at_the_speed_of_ours_tells_a_late_arrival() {
        let mut pace = Pace::default();
        let mut media = |speed: u64| {
            pace = Pace::default();
            for i in 0..40u32 {
                let at = u64::from(i) * 16 * MS;
                pace.observe(FrameId { count: i, timestamp_ns: at * speed / 10 }, Some(START + at));
                pace.copied(true);
            }
            // The next one comes 10 ms late.
            pace.due(40 * 16 * MS * speed / 10, START + 40 * 16 * MS + 10 * MS).unwrap()
                - START
                - 40 * 16 * MS
        };
        assert_eq!(media(10), 4 * MS);
        // At half the speed nothing can be said of it.
        assert_eq!(media(5), 14 * MS);
    }
}
