// SPDX-License-Identifier: MPL-2.0

//! When the next frame is due: the pace of a producer, learned from its sync messages.
//!
//! `verify` cannot see a producer that began the next frame before the copy and paused for all of it: nothing moves
//! then. But such a frame is already due, and the stamps tell when that is.

use std::collections::VecDeque;

use crate::clock::is_same_clock;
use crate::sync::FrameId;

const INTERVALS: usize = 8;
const DELAYS: usize = 32;

/// Shortest frame interval and shortest capture-to-arrival delay of the last frames, both in ns.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<FrameId>,
    intervals: VecDeque<u64>,
    delays: VecDeque<u64>,
}

impl Pace {
    /// Takes in a frame's sync; `arrival` is Unix time in ns, of fresh syncs only (queued ones say nothing of delay).
    pub(crate) fn observe(&mut self, frame: FrameId, arrival: Option<u64>) {
        if let Some(last) = self.last {
            let frames = u64::from(frame.count.wrapping_sub(last.count));
            match frame.timestamp_ns.checked_sub(last.timestamp_ns) {
                Some(elapsed) if frame.count > last.count => {
                    push(&mut self.intervals, INTERVALS, elapsed / frames)
                }
                _ => *self = Self::default(),
            }
        }
        self.last = Some(frame);
        if let Some(arrival) = arrival
            && is_same_clock(frame.timestamp_ns, arrival)
        {
            push(&mut self.delays, DELAYS, arrival.saturating_sub(frame.timestamp_ns));
        }
    }

    /// Unix time in ns until which the slot is taken to hold the frame stamped `timestamp_ns`; `None` while the pace
    /// is unknown, or the stamps are not of this clock.
    ///
    /// A producer that stamps right before it fills cannot begin the next frame before `stamp + interval`. One that
    /// stamps long before (a sensor with a pipeline behind it) is given half an interval from the expected arrival.
    pub(crate) fn due(&self, timestamp_ns: u64) -> Option<u64> {
        let interval = *self.intervals.iter().min()?;
        let delay = *self.delays.iter().min()?;
        Some(timestamp_ns.saturating_add(interval.max(delay.saturating_add(interval / 2))))
    }
}

fn push(window: &mut VecDeque<u64>, size: usize, value: u64) {
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
        assert_eq!(paced(33 * MS, 2 * MS).due(START), Some(START + 33 * MS));
    }

    #[test]
    fn old_stamps_leave_half_an_interval_from_the_arrival() {
        assert_eq!(paced(33 * MS, 50 * MS).due(START), Some(START + 50 * MS + 33 * MS / 2));
    }

    #[test]
    fn flat_out_leaves_less_than_a_copy() {
        // Fill 0.2 ms, wake-up 0.05 ms: a copy of 0.2 ms that starts on arrival ends too late.
        let due = paced(200_000, 250_000).due(START).unwrap();
        assert!(START + 250_000 + 200_000 > due);
    }

    #[test]
    fn a_skipped_frame_does_not_stretch_the_pace_and_a_reset_forgets_it() {
        let mut pace = Pace::default();
        pace.observe(FrameId { count: 1, timestamp_ns: START }, Some(START));
        pace.observe(FrameId { count: 4, timestamp_ns: START + 30 * MS }, Some(START + 30 * MS));
        assert_eq!(pace.due(START), Some(START + 10 * MS));
        pace.observe(FrameId { count: 0, timestamp_ns: START + 40 * MS }, None);
        assert_eq!(pace.due(START), None);
    }

    #[test]
    fn media_time_has_no_due_time() {
        let mut pace = Pace::default();
        for i in 0..5u32 {
            pace.observe(FrameId { count: i, timestamp_ns: u64::from(i) * MS }, Some(START));
        }
        assert_eq!(pace.due(5 * MS), None);
    }
}
