// SPDX-License-Identifier: MPL-2.0

//! From the encoder to one file: never waits, whatever the disk does.
//!
//! What waits for the disk is bounded. When that much waits, pictures are dropped until half of it is written and a key
//! frame comes, so that no reference is broken.
//!
//! Lock: `state` is held for moments, and while nothing else is locked; the writer waits on its condition.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

/// Bytes that may wait for the disk; each message counts as [`MESSAGE_BYTES`] more.
pub const MAX_BYTES: usize = 64 << 20;
/// What a message costs besides its payload.
const MESSAGE_BYTES: usize = 1024;

/// One access unit of the encoder.
#[derive(Debug, Clone)]
pub struct Unit {
    /// In the stream format that `caps` tell.
    pub buffer: gst::Buffer,
    /// Of the parser's output.
    pub caps: gst::Caps,
    /// Running times in ns.
    pub pts: i64,
    /// At most `pts`.
    pub dts: i64,
    /// Decoding can begin here.
    pub key: bool,
    /// When the picture was captured, in ns: the producer's stamp, of whatever clock; Unix time where it has none.
    pub time_ns: u64,
}

/// One body packet, checked.
#[derive(Debug, Clone)]
pub struct Bodies {
    /// When it was seen, in ns of the producer's clock.
    pub time_ns: u64,
    /// As it came.
    pub packet: Bytes,
}

/// What goes into a file.
#[derive(Debug, Clone)]
pub enum Item {
    /// A picture.
    Video(Unit),
    /// A packet.
    Bodies(Bodies),
}

/// What became of what was offered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Access units from the first key frame on.
    pub ingested: u64,
    /// Of these, such as were dropped since the disk was behind.
    pub dropped: u64,
    /// Body packets that were dropped for the same reason.
    pub bodies_dropped: u64,
    /// Whether the last access unit was taken.
    pub last_ok: bool,
}

/// What the writer finds.
#[derive(Debug)]
pub enum Popped {
    /// The next to write.
    Item(Item),
    /// Nothing came for as long as it was ready to wait.
    Nothing,
    /// Nothing comes any more.
    Closed,
}

/// The way to one file.
#[derive(Debug)]
pub struct Queue {
    max_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// The last access unit was taken, so that the next may refer to it.
    open: bool,
    closed: bool,
    counts: Counts,
}

impl Queue {
    /// Takes in access units from the next key frame on, as long as no more than so many bytes wait.
    pub fn new(max_bytes: usize) -> Self {
        let counts = Counts { last_ok: true, ..Counts::default() };
        let state = Mutex::new(State { counts, ..State::default() });
        Self { max_bytes, state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes an access unit or a packet; tells whether this is the first that was dropped since the disk is behind.
    pub fn offer(&self, item: Item) -> bool {
        let bytes = size(&item);
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        let fits = state.bytes + bytes <= self.max_bytes;
        let (taken, first) = match &item {
            Item::Video(unit) => state.admit(unit.key, fits, self.max_bytes),
            Item::Bodies(_) => {
                let first = !fits && state.counts.bodies_dropped == 0 && state.counts.dropped == 0;
                state.counts.bodies_dropped += u64::from(!fits);
                (fits, first)
            }
        };
        if taken {
            state.bytes += bytes;
            state.items.push_back(item);
            drop(state);
            self.changed.notify_one();
        }
        first
    }

    /// The next to write, for which it waits no longer than `patience`.
    pub fn pop(&self, patience: Duration) -> Popped {
        let state = self.lock();
        let waited =
            self.changed.wait_timeout_while(state, patience, |state| state.items.is_empty() && !state.closed);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        match state.items.pop_front() {
            Some(item) => {
                state.bytes -= size(&item);
                Popped::Item(item)
            }
            None if state.closed => Popped::Closed,
            None => Popped::Nothing,
        }
    }

    /// Takes nothing more; what waits can still be popped.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes nothing more, and throws away what waits; tells how many access units that were.
    pub fn abandon(&self) -> u64 {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = 0;
        let items = std::mem::take(&mut state.items);
        let (video, bodies): (Vec<_>, Vec<_>) = items.iter().partition(|item| matches!(item, Item::Video(_)));
        state.counts.dropped += video.len() as u64;
        state.counts.bodies_dropped += bodies.len() as u64;
        let lost = video.len() as u64;
        state.counts.last_ok &= lost == 0;
        drop(state);
        self.changed.notify_one();
        lost
    }

    /// Whether a key frame is all that is missing after a gap, or at the start.
    pub fn wants_key_frame(&self) -> bool {
        let state = self.lock();
        !state.open && !state.closed && state.bytes <= self.max_bytes / 2
    }

    /// What became of it all so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }
}

impl State {
    /// Whether an access unit is taken, and whether it is the first that is dropped.
    fn admit(&mut self, key: bool, fits: bool, max_bytes: usize) -> (bool, bool) {
        if !self.open && self.counts.ingested == 0 && !key {
            // Nothing is amiss before the beginning.
            return (false, false);
        }
        // Not as soon as there is room for one: it would be dropped again and again.
        let resumes = self.counts.dropped == 0 || self.bytes <= max_bytes / 2;
        self.open = fits && (self.open || (key && resumes));
        self.counts.ingested += 1;
        self.counts.last_ok = self.open;
        let first = !self.open && self.counts.dropped == 0 && self.counts.bodies_dropped == 0;
        self.counts.dropped += u64::from(!self.open);
        (self.open, first)
    }
}

fn size(item: &Item) -> usize {
    MESSAGE_BYTES
        + match item {
            Item::Video(unit) => unit.buffer.size(),
            Item::Bodies(bodies) => bodies.packet.len(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(pts: i64, key: bool, bytes: usize) -> Item {
        gst::init().unwrap();
        let buffer = gst::Buffer::from_mut_slice(vec![0; bytes]);
        let caps = gst::Caps::new_empty_simple("video/x-h264");
        Item::Video(Unit { buffer, caps, pts, dts: pts, key, time_ns: 0 })
    }

    fn bodies(bytes: usize) -> Item {
        Item::Bodies(Bodies { time_ns: 0, packet: vec![0; bytes].into() })
    }

    /// Takes out so many, and tells which: the pts of units, -1 for bodies.
    fn taken(queue: &Queue, count: usize) -> Vec<i64> {
        let next = || match queue.pop(Duration::ZERO) {
            Popped::Item(Item::Video(unit)) => Some(unit.pts),
            Popped::Item(Item::Bodies(_)) => Some(-1),
            _ => None,
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn it_begins_with_a_key_frame_and_bodies_at_once() {
        let queue = Queue::new(MAX_BYTES);
        assert!(queue.wants_key_frame());
        for item in [unit(1, false, 10), bodies(10), unit(2, true, 10), unit(3, false, 10)] {
            assert!(!queue.offer(item));
        }
        assert_eq!(taken(&queue, 9), [-1, 2, 3]);
        assert_eq!(queue.counts(), Counts { ingested: 2, last_ok: true, ..Counts::default() });
        assert!(!queue.wants_key_frame());
    }

    #[test]
    fn what_does_not_fit_is_dropped_up_to_a_key_frame_and_told_once() {
        let room = 10 * (MESSAGE_BYTES + 1000);
        let queue = Queue::new(room);
        let told: Vec<_> = (0..12).filter(|n| queue.offer(unit(*n, *n == 0, 1000))).collect();
        assert_eq!(told, [10], "once");
        assert!(!queue.counts().last_ok && !queue.wants_key_frame());
        assert_eq!(taken(&queue, 4), [0, 1, 2, 3]);
        assert!(!queue.offer(unit(12, true, 1000)), "more than half waits");
        assert_eq!(taken(&queue, 2), [4, 5]);
        assert!(queue.wants_key_frame());
        assert!(!queue.offer(unit(13, false, 1000)), "it refers to what was dropped");
        assert!(!queue.offer(unit(14, true, 1000)));
        assert!(!queue.offer(unit(15, false, 1000)));
        assert_eq!(taken(&queue, 99), [6, 7, 8, 9, 14, 15]);
        let counts = queue.counts();
        assert_eq!((counts.ingested, counts.dropped, counts.last_ok), (16, 4, true));
    }

    #[test]
    fn bodies_are_bounded_too() {
        let queue = Queue::new(2 * (MESSAGE_BYTES + 1000));
        assert_eq!([1, 2, 3, 4].map(|_| queue.offer(bodies(1000))), [false, false, true, false]);
        assert_eq!(queue.counts().bodies_dropped, 2);
    }

    #[test]
    fn closed_it_gives_what_it_has_and_abandoned_nothing() {
        let queue = Queue::new(MAX_BYTES);
        queue.offer(unit(1, true, 10));
        queue.close();
        queue.offer(unit(2, false, 10));
        assert_eq!(taken(&queue, 9), [1]);
        assert!(matches!(queue.pop(Duration::from_secs(1)), Popped::Closed));
        let queue = Queue::new(MAX_BYTES);
        queue.offer(unit(1, true, 10));
        queue.offer(bodies(1));
        assert_eq!(queue.abandon(), 1);
        assert!(matches!(queue.pop(Duration::from_secs(1)), Popped::Closed));
        let counts = queue.counts();
        assert_eq!((counts.ingested, counts.dropped, counts.bodies_dropped), (1, 1, 1));
    }
}
