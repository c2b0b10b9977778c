// SPDX-License-Identifier: MPL-2.0

//! What is on its way to the server, how old it is, and what may follow it.
//!
//! A server that reads slowly, or not at all, is not felt for seconds: sockets hold megabytes. So what waits in them
//! counts as not sent, and once the oldest of it is late nothing follows it until all is sent and a key frame comes.
//! Latency does not pile up, memory stays bounded, and no reference is broken.
//!
//! What was sent and is not acknowledged is only far away, not late. But where nothing of it is acknowledged for
//! [`STALLED`], nobody is there. A young connection sends what comes at once over several round trips, until it knows
//! that the path has room for it: that is not late either.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Nothing follows an access unit that has waited for so long, and for [`ROUND_TRIPS`].
pub const LATE: Duration = Duration::from_millis(500);
/// So often the window doubles until it holds a key frame and what follows it.
pub const ROUND_TRIPS: u32 = 3;
/// They take no longer than this, whatever the path.
pub const LATER: Duration = Duration::from_secs(1);
/// A server that acknowledges nothing for so long is given up.
pub const STALLED: Duration = Duration::from_secs(3);

/// Bytes that are under way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Underway {
    /// Not sent: they wait for the server, or for the path to it.
    pub unsent: u64,
    /// Not acknowledged: these, and what was sent.
    pub unacknowledged: u64,
    /// The path's shortest round trip, without queues; zero where that is not known.
    pub round_trip: Duration,
}

/// The way to one server.
#[derive(Debug)]
pub struct Backlog {
    /// When each access unit was admitted, and how many bytes were by then.
    marks: VecDeque<(Instant, u64)>,
    admitted: u64,
    sent: u64,
    acknowledged: u64,
    /// Something is not acknowledged.
    waiting: bool,
    late: Duration,
    /// When something was last acknowledged, or there was nothing to acknowledge.
    progress: Instant,
    open: bool,
}

impl Backlog {
    /// Nothing is under way; a key frame has to begin.
    pub fn new(now: Instant) -> Self {
        Self {
            marks: VecDeque::new(),
            admitted: 0,
            sent: 0,
            acknowledged: 0,
            waiting: false,
            late: LATE,
            progress: now,
            open: false,
        }
    }

    /// Whether an access unit may follow, and counts it if so.
    pub fn admit(&mut self, now: Instant, key: bool, bytes: u64) -> bool {
        if self.age(now) > self.late {
            self.open = false;
        } else if key && self.marks.is_empty() {
            self.open = true;
        }
        if self.open {
            self.admitted += bytes;
            self.marks.push_back((now, self.admitted));
        }
        self.open
    }

    /// Takes in what is under way.
    pub fn observe(&mut self, now: Instant, underway: Underway) {
        let done = |left: u64, before: u64| self.admitted.saturating_sub(left).max(before);
        let acknowledged = done(underway.unacknowledged, self.acknowledged);
        self.sent = done(underway.unsent, self.sent);
        self.late = LATE + underway.round_trip.saturating_mul(ROUND_TRIPS).min(LATER);
        self.waiting = underway.unacknowledged > 0;
        if acknowledged > self.acknowledged || !self.waiting {
            self.progress = now;
        }
        self.acknowledged = acknowledged;
        while self.marks.front().is_some_and(|(_, end)| *end <= self.sent) {
            self.marks.pop_front();
        }
    }

    /// How long the oldest access unit has waited.
    pub fn age(&self, now: Instant) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }

    /// Whether access units are held back, and a key frame would let them through again.
    pub fn wants_key_frame(&self) -> bool {
        !self.open && self.marks.is_empty()
    }

    /// Whether access units are held back until those that wait are sent.
    pub fn congested(&self) -> bool {
        !self.open && !self.marks.is_empty()
    }

    /// For how long the server has acknowledged nothing, where that is more than [`STALLED`].
    pub fn stalled(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.progress);
        (self.waiting && silent > STALLED).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: Duration = Duration::from_millis(33);

    /// Nothing is sent but what is acknowledged.
    fn stuck(bytes: u64) -> Underway {
        Underway { unsent: bytes, unacknowledged: bytes, ..Underway::default() }
    }

    #[test]
    fn a_stall_lets_half_a_second_through_and_then_a_key_frame() {
        let start = Instant::now();
        let mut backlog = Backlog::new(start);
        assert!(!backlog.admit(start, false, 10), "nothing before a key frame");
        let at = |n: u32| start + FRAME * n;
        let admitted = (0..100)
            .filter(|&n| {
                let admitted = backlog.admit(at(n), n % 30 == 0, 1000);
                backlog.observe(at(n), stuck(backlog.admitted));
                admitted
            })
            .count();
        assert_eq!(admitted, 16);
        assert!(
            backlog.congested() && backlog.stalled(at(80)).is_none() && backlog.stalled(at(100)).is_some()
        );
        backlog.observe(at(100), stuck(500));
        assert!(backlog.stalled(at(101)).is_none(), "it moves");
        assert!(!backlog.admit(at(101), true, 1000), "what is late comes first");
        backlog.observe(at(102), stuck(0));
        assert!(backlog.wants_key_frame());
        assert!(!backlog.admit(at(103), false, 1000) && backlog.admit(at(104), true, 1000));
        assert!(backlog.admit(at(105), false, 1000));
    }

    #[test]
    fn a_server_that_is_far_away_is_not_late() {
        let start = Instant::now();
        for frames_away in [1, 8, 12, 30, 80] {
            let mut backlog = Backlog::new(start);
            for n in 0..300u32 {
                let now = start + FRAME * n;
                assert!(backlog.admit(now, n == 0, 1000), "frame {n} of a path of {frames_away} frames");
                let unacknowledged = u64::from(n.min(frames_away)) * 1000;
                backlog.observe(now, Underway { unacknowledged, ..Underway::default() });
                assert!(!backlog.congested() && backlog.stalled(now).is_none());
            }
        }
    }

    /// 4 Mbit/s with a key frame of 60 kB, over a window that begins with ten segments and doubles each round trip.
    #[test]
    fn a_window_that_has_yet_to_open_is_not_late() {
        for trip_ms in [1, 50, 100, 250, 400] {
            let start = Instant::now();
            let mut backlog = Backlog::new(start);
            let (mut unsent, mut window, mut room) = (0, 14_480, 14_480);
            let mut flying = VecDeque::new();
            for ms in 0..10_000u64 {
                let now = start + Duration::from_millis(ms);
                if ms % 33 == 0 {
                    let size = if ms == 0 { 60_000 } else { 16_500 };
                    assert!(
                        backlog.admit(now, ms == 0, size),
                        "at {ms} ms with a round trip of {trip_ms} ms"
                    );
                    unsent += size;
                }
                // Each acknowledged byte makes room for itself and for another.
                while flying.front().is_some_and(|(due, _)| *due <= ms) {
                    let (_, bytes) = flying.pop_front().unwrap();
                    room += 2 * bytes;
                    window += bytes;
                }
                room = room.min(window);
                let sent = unsent.min(room);
                unsent -= sent;
                room -= sent;
                flying.push_back((ms + trip_ms, sent));
                if ms % 50 == 0 {
                    let unacknowledged = unsent + flying.iter().map(|(_, bytes)| bytes).sum::<u64>();
                    let round_trip = Duration::from_millis(trip_ms);
                    backlog.observe(now, Underway { unsent, unacknowledged, round_trip });
                }
            }
        }
    }

    #[test]
    fn a_server_that_vanishes_is_given_up_whatever_fits_into_the_path() {
        let start = Instant::now();
        let mut backlog = Backlog::new(start);
        assert!(backlog.admit(start, true, 1000));
        let lost = Underway { unacknowledged: 1000, ..Underway::default() };
        backlog.observe(start + FRAME, lost);
        backlog.observe(start + STALLED, lost);
        assert!(backlog.stalled(start + STALLED).is_none());
        assert!(backlog.stalled(start + STALLED + FRAME).is_some());
        backlog.observe(start + STALLED + FRAME, Underway::default());
        assert!(backlog.stalled(start + STALLED * 3).is_none(), "without a picture there is nothing to take");
    }

    proptest! {
        #[test]
        fn no_delta_follows_a_gap(
            steps in prop::collection::vec((0u64..200, any::<bool>(), 0u64..20_000, 0u64..20_000), 1..200),
            round_trip in (0u64..5000).prop_map(Duration::from_millis),
        ) {
            let mut now = Instant::now();
            let mut backlog = Backlog::new(now);
            let mut whole = false;
            for (ms, key, unsent, flying) in steps {
                now += Duration::from_millis(ms);
                backlog.observe(now, Underway { unsent, unacknowledged: unsent + flying, round_trip });
                let admitted = backlog.admit(now, key, 1000);
                prop_assert!(!admitted || key || whole, "a delta frame without its reference");
                prop_assert!(!admitted || backlog.age(now) <= LATE + LATER);
                prop_assert!(!admitted || backlog.age(now) <= LATE + round_trip * ROUND_TRIPS);
                whole = admitted;
            }
        }

        /// A path that carries more than the stream, whatever its length, drops nothing.
        #[test]
        fn a_path_with_room_drops_nothing(
            trip_ms in 0u64..2000, sizes in prop::collection::vec(500u64..30_000, 100..300),
        ) {
            let start = Instant::now();
            let mut backlog = Backlog::new(start);
            // Bytes a millisecond, twice the largest frame's.
            let rate = 2 * 30_000 / 33;
            let (mut unsent, mut flying) = (0, VecDeque::new());
            for (n, size) in sizes.into_iter().enumerate() {
                let now_ms = n as u64 * 33;
                let now = start + Duration::from_millis(now_ms);
                prop_assert!(backlog.admit(now, n == 0, size));
                unsent += size;
                let sent = unsent.min(rate * 33);
                unsent -= sent;
                flying.push_back((now_ms + trip_ms, sent));
                while flying.front().is_some_and(|(due, _)| *due <= now_ms) {
                    flying.pop_front();
                }
                let unacknowledged = unsent + flying.iter().map(|(_, bytes)| bytes).sum::<u64>();
                backlog.observe(now, Underway { unsent, unacknowledged, ..Underway::default() });
                prop_assert!(!backlog.congested() && backlog.stalled(now).is_none());
            }
        }
    }
}
