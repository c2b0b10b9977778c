// SPDX-License-Identifier: MPL-2.0

//! What is on its way to the server, how old it is, and what may follow it.
//!
//! A server that reads slowly, or not at all, is not felt for seconds: sockets hold megabytes. So what is in them counts
//! as not delivered, and once the oldest of it is late nothing follows it until all is delivered and a key frame
//! comes. Latency does not pile up, memory stays bounded, and no reference is broken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Nothing follows an access unit that is on its way for so long.
pub const LATE: Duration = Duration::from_millis(500);
/// A server that takes nothing for so long is given up.
pub const STALLED: Duration = Duration::from_secs(3);

/// The way to one server.
#[derive(Debug)]
pub struct Backlog {
    /// When each access unit was admitted, and how many bytes were by then.
    marks: VecDeque<(Instant, u64)>,
    admitted: u64,
    delivered: u64,
    /// When something was last seen to move, or there was nothing to move.
    progress: Instant,
    open: bool,
}

impl Backlog {
    /// Nothing is under way; a key frame has to begin.
    pub fn new(now: Instant) -> Self {
        Self { marks: VecDeque::new(), admitted: 0, delivered: 0, progress: now, open: false }
    }

    /// Whether an access unit may follow, and counts it if so.
    pub fn admit(&mut self, now: Instant, key: bool, bytes: u64) -> bool {
        if self.age(now) > LATE {
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

    /// Takes in how many bytes have not reached the server yet.
    pub fn observe(&mut self, now: Instant, outstanding: u64) {
        let delivered = self.admitted.saturating_sub(outstanding).max(self.delivered);
        if delivered > self.delivered || outstanding == 0 {
            self.progress = now;
        }
        self.delivered = delivered;
        while self.marks.front().is_some_and(|(_, end)| *end <= delivered) {
            self.marks.pop_front();
        }
    }

    /// How long the oldest access unit has been on its way.
    pub fn age(&self, now: Instant) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }

    /// Whether access units are held back, and a key frame would let them through again.
    pub fn wants_key_frame(&self) -> bool {
        !self.open && self.marks.is_empty()
    }

    /// Whether access units are held back until those under way are delivered.
    pub fn congested(&self) -> bool {
        !self.open && !self.marks.is_empty()
    }

    /// Whether the server has taken nothing for [`STALLED`].
    pub fn stalled(&self, now: Instant) -> bool {
        !self.marks.is_empty() && now.saturating_duration_since(self.progress) > STALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: Duration = Duration::from_millis(33);

    #[test]
    fn a_stall_lets_half_a_second_through_and_then_a_key_frame() {
        let start = Instant::now();
        let mut backlog = Backlog::new(start);
        assert!(!backlog.admit(start, false, 10), "nothing before a key frame");
        let at = |n: u32| start + FRAME * n;
        let admitted = (0..100).filter(|&n| backlog.admit(at(n), n % 30 == 0, 1000)).count();
        assert_eq!(admitted, 16);
        assert!(backlog.congested() && !backlog.stalled(at(80)) && backlog.stalled(at(100)));
        backlog.observe(at(100), 500);
        assert!(!backlog.stalled(at(101)), "it moves");
        assert!(!backlog.admit(at(101), true, 1000), "what is late comes first");
        backlog.observe(at(102), 0);
        assert!(backlog.wants_key_frame());
        assert!(!backlog.admit(at(103), false, 1000) && backlog.admit(at(104), true, 1000));
        assert!(backlog.admit(at(105), false, 1000));
    }

    proptest! {
        #[test]
        fn no_delta_follows_a_gap(steps in prop::collection::vec((0u64..200, any::<bool>(), 0u64..20_000), 1..200)) {
            let mut now = Instant::now();
            let mut backlog = Backlog::new(now);
            let mut whole = false;
            for (ms, key, outstanding) in steps {
                now += Duration::from_millis(ms);
                backlog.observe(now, outstanding);
                let admitted = backlog.admit(now, key, 1000);
                prop_assert!(!admitted || key || whole, "a delta frame without its reference");
                prop_assert!(!admitted || backlog.age(now) <= LATE);
                whole = admitted;
            }
        }
    }
}
