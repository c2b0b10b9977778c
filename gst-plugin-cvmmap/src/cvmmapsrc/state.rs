// SPDX-License-Identifier: MPL-2.0

//! What changes while playing: rates, clocks, statistics. No I/O here, and no GStreamer but its time type.

use std::collections::VecDeque;
use std::time::Duration;

use cvmmap_ipc::clock::is_same_clock;
use cvmmap_ipc::{Counters, FrameId};

/// Arrivals and capture delays of the last frames.
#[derive(Debug, Default)]
pub(super) struct Rate {
    arrivals: VecDeque<(u32, u64)>,
    delays: VecDeque<u64>,
}

impl Rate {
    const FRAMES: usize = 32;
    /// Fewer say little.
    const ENOUGH: usize = 8;

    /// `running_ns` is the arrival's running time, `delay_ns` the time from capture to arrival where it is known.
    pub fn observe(&mut self, count: u32, running_ns: u64, delay_ns: Option<u64>) {
        // A reset, a stall, or time spent paused: what was measured before has nothing to do with now.
        let silence = stalled_after(self.interval_ns()).as_nanos() as u64;
        let broken = |&(last, at): &(u32, u64)| {
            count <= last || running_ns.checked_sub(at).is_none_or(|elapsed| elapsed >= silence)
        };
        if self.arrivals.back().is_some_and(broken) {
            self.arrivals.clear();
        }
        push(&mut self.arrivals, Self::FRAMES, (count, running_ns));
        if let Some(delay) = delay_ns {
            push(&mut self.delays, Self::FRAMES, delay);
        }
    }

    /// Mean time between frames of the producer, in ns.
    pub fn interval_ns(&self) -> Option<u64> {
        let (first, last) = (self.arrivals.front()?, self.arrivals.back()?);
        (self.arrivals.len() >= Self::ENOUGH).then(|| (last.1 - first.1) / u64::from(last.0 - first.0))
    }

    /// Longest recent time from capture to arrival, in ns.
    pub fn delay_ns(&self) -> u64 {
        self.delays.iter().copied().max().unwrap_or(0)
    }
}

/// Turns capture stamps into running time, for stamps of any clock.
///
/// Stamps of this machine's Unix clock need only the offset between that clock and the pipeline's, averaged since the
/// two cannot be read at one moment. Other stamps (media time) are placed by the least delayed of the recent frames.
#[derive(Debug, Default)]
pub(super) struct CaptureClock {
    /// Running time less Unix time, in ns.
    offset: Option<i128>,
    /// Running time of the arrival less the stamp, in ns, of recent frames.
    delays: VecDeque<i128>,
}

impl CaptureClock {
    const FRAMES: usize = 64;
    const SMOOTHING: i128 = 16;
    /// A difference beyond this is a step of a clock, a seek or a loop, not jitter.
    const STEP_NS: i128 = 200_000_000;

    /// The capture's running time in ns, never after `running_ns`, the arrival's.
    pub fn capture_ns(&mut self, running_ns: u64, unix_ns: u64, stamp_ns: u64) -> u64 {
        // Wide enough for whatever a producer writes.
        let [running, unix, stamp] = [running_ns, unix_ns, stamp_ns].map(i128::from);
        let offset = if is_same_clock(stamp_ns, unix_ns) {
            let measured = running - unix;
            let offset = match self.offset {
                Some(offset) if (measured - offset).abs() < Self::STEP_NS => {
                    offset + (measured - offset) / Self::SMOOTHING
                }
                _ => measured,
            };
            self.offset = Some(offset);
            offset
        } else {
            let measured = running - stamp;
            if self.delays.iter().min().is_some_and(|least| (measured - least).abs() > Self::STEP_NS) {
                self.delays.clear();
            }
            push(&mut self.delays, Self::FRAMES, measured);
            *self.delays.iter().min().expect("one was pushed")
        };
        (stamp + offset).clamp(0, running) as u64
    }
}

/// Which access units can be handed on: from a key frame on, as long as none is lost.
#[derive(Debug, Default)]
pub(super) struct AccessUnitGate {
    last: Option<u32>,
    open: bool,
}

impl AccessUnitGate {
    /// Takes note of a frame that was read, with or without an access unit of its own: it leaves no gap.
    pub fn frame(&mut self, count: u32) {
        if self.last.is_some_and(|last| count != last.wrapping_add(1)) {
            self.open = false;
        }
        self.last = Some(count);
    }

    /// Whether the current frame's access unit may go out; `None` = it waits for a key frame, `Some(true)` = it is
    /// the first after a gap.
    pub fn pass(&mut self, key: bool) -> Option<bool> {
        let first = !self.open;
        self.open |= key;
        self.open.then_some(first)
    }
}

/// Times from something to the push, of the last frames.
#[derive(Debug, Default, Clone)]
pub(super) struct Latencies {
    recent: VecDeque<u64>,
}

impl Latencies {
    const FRAMES: usize = 1024;

    pub fn push(&mut self, ns: u64) {
        push(&mut self.recent, Self::FRAMES, ns);
    }

    /// Last, median and 99th percentile in ns; zeros before the first frame.
    pub fn summary(&self) -> [u64; 3] {
        let mut sorted: Vec<u64> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            sorted.get((sorted.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0)
        };
        [self.recent.back().copied().unwrap_or(0), at(50), at(99)]
    }
}

/// What the `stats` property is made from.
#[derive(Debug, Default, Clone)]
pub(super) struct Stats {
    pub counters: Counters,
    /// Buffers handed on, and their bytes.
    pub frames: u64,
    pub bytes: u64,
    /// Frames that were coherent but of no use: access units before a key frame, frames without the plane.
    pub unusable: u64,
    pub last_frame: Option<FrameId>,
    /// From the announcement's arrival to the push.
    pub latencies: Latencies,
    /// From the capture stamp to the push, where it is of this machine's clock.
    pub capture_latencies: Latencies,
}

impl Stats {
    /// `resets`: those that the frame count shows, and those that events told of.
    pub fn structure(&self, resets: u64) -> gst::Structure {
        let [last, p50, p99] = self.latencies.summary();
        let [capture_last, capture_p50, capture_p99] = self.capture_latencies.summary();
        let counters = &self.counters;
        gst::Structure::builder("cvmmapsrc-stats")
            .field("frames", self.frames)
            .field("dropped", counters.dropped() + self.unusable)
            .field("torn", counters.torn)
            .field("retried", counters.retried)
            .field("invalid", counters.invalid)
            .field("ignored-messages", counters.ignored_messages)
            .field("resets", resets)
            .field("reopens", counters.reopens)
            .field("bytes", self.bytes)
            .field("last-frame-count", self.last_frame.map_or(0, |frame| frame.count))
            .field("latency-last", last)
            .field("latency-p50", p50)
            .field("latency-p99", p99)
            .field("capture-latency-last", capture_last)
            .field("capture-latency-p50", capture_p50)
            .field("capture-latency-p99", capture_p99)
            .field("late", counters.late)
            .field("missed", counters.missed)
            .field("lost", counters.lost)
            .build()
    }
}

/// Silence after which a stream counts as stalled, by its own pace.
pub(super) fn stalled_after(interval_ns: Option<u64>) -> Duration {
    Duration::from_nanos(interval_ns.unwrap_or(0).saturating_mul(5)).max(Duration::from_secs(1))
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
    use proptest::prelude::*;

    const UNIX: u64 = 1_800_000_000_000_000_000;
    const MS: u64 = 1_000_000;

    #[test]
    fn the_rate_counts_frames_that_did_not_arrive() {
        let mut rate = Rate::default();
        for i in 0..10 {
            rate.observe(2 * i, u64::from(i) * 66 * MS, Some(u64::from(i)));
        }
        assert_eq!((rate.interval_ns(), rate.delay_ns()), (Some(33 * MS), 9));
        rate.observe(0, 700 * MS, None);
        assert_eq!(rate.interval_ns(), None);
    }

    #[test]
    fn unix_stamps_become_the_running_time_of_the_capture() {
        let mut clock = CaptureClock::default();
        for i in 0..100 {
            let running = 5_000 * MS + i * 33 * MS;
            let unix = UNIX + i * 33 * MS + (i % 3) * MS / 10;
            let capture = clock.capture_ns(running, unix, unix - 20 * MS);
            assert!(capture.abs_diff(running - 20 * MS) < MS, "{i}: {capture}");
        }
        // A step of the Unix clock is followed at once.
        let capture = clock.capture_ns(9_000 * MS, UNIX + 60_000 * MS, UNIX + 59_990 * MS);
        assert_eq!(capture, 8_990 * MS);
    }

    #[test]
    fn media_time_keeps_its_distances_and_loses_the_jitter() {
        let mut clock = CaptureClock::default();
        let mut captures = Vec::new();
        for i in 0..100u64 {
            let jitter = if i % 7 == 0 { 0 } else { (i * 37 % 11) * MS };
            captures.push(clock.capture_ns(5_000 * MS + i * 40 * MS + jitter, UNIX, i * 40 * MS));
        }
        for pair in captures.windows(2).skip(1) {
            assert_eq!(pair[1] - pair[0], 40 * MS);
        }
        // A loop back to the start is followed.
        assert_eq!(clock.capture_ns(10_000 * MS, UNIX, 0), 10_000 * MS);
    }

    proptest! {
        #[test]
        fn captures_are_never_after_their_arrival(frames in proptest::collection::vec(any::<(u32, u64, bool)>(), 1..50)) {
            let mut clock = CaptureClock::default();
            let mut running = 0;
            for (step, stamp, same) in frames {
                running += u64::from(step);
                let stamp = if same { UNIX + stamp % 1_000_000_000 } else { stamp };
                prop_assert!(clock.capture_ns(running, UNIX, stamp) <= running);
            }
        }
    }

    #[test]
    fn access_units_start_at_a_key_frame_and_again_after_a_gap() {
        let mut gate = AccessUnitGate::default();
        let mut frame = |count, key| {
            gate.frame(count);
            gate.pass(key)
        };
        assert_eq!(frame(5, false), None);
        assert_eq!(frame(6, true), Some(true));
        assert_eq!(frame(7, false), Some(false));
        assert_eq!(frame(9, false), None);
        assert_eq!(frame(10, false), None);
        assert_eq!(frame(11, true), Some(true));
        assert_eq!(frame(0, false), None);
    }

    #[test]
    fn latencies_are_ranked() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), [0; 3]);
        (1..=1000).rev().for_each(|ns| latencies.push(ns));
        assert_eq!(latencies.summary(), [1, 500, 990]);
    }
}
