// SPDX-License-Identifier: MPL-2.0

//! From the encoder to whichever connection there is: never waits, whatever the server does.
//!
//! Lock: `state` is never held while anything is pushed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::backlog::{Backlog, Underway};

/// What became of access units so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Taken by rtmp2sink, on a connection that a server let publish.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Not sent: there was no connection, the server was late, a key frame had to come first, or the connection ended.
    pub dropped: u64,
}

/// The way out of the encoder's pipeline.
#[derive(Debug, Default)]
pub struct Feed {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    counters: Counters,
}

#[derive(Debug)]
struct Connection {
    appsrc: gst_app::AppSrc,
    backlog: Backlog,
    ledger: Ledger,
    /// Nothing more is admitted.
    shut: bool,
    caps: Option<gst::Caps>,
    /// Running time of the first access unit: each connection begins at 0.
    base: Option<i64>,
}

/// Access units that were handed on, until rtmp2sink has taken them.
#[derive(Debug, Default)]
struct Ledger {
    /// Their bytes, of those that it has not taken.
    waiting: VecDeque<u64>,
    taken: u64,
}

impl Ledger {
    /// It has taken so many of them by now.
    fn settle(&mut self, taken: u64, counters: &mut Counters) {
        let more = usize::try_from(taken.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        for bytes in self.waiting.drain(..more.min(self.waiting.len())) {
            self.taken += 1;
            counters.sent += 1;
            counters.bytes += bytes;
        }
    }
}

/// How the connection's way looks at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Nothing follows until what waits is sent.
    pub congested: bool,
    /// A key frame is all that is missing.
    pub wants_key_frame: bool,
    /// For how long the server has acknowledged nothing, where that is too long.
    pub stalled: Option<Duration>,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Access units go to this connection from the next key frame on. The server lets it publish, so that none gets
    /// old before the first is sent.
    pub fn connect(&self, appsrc: gst_app::AppSrc) {
        let backlog = Backlog::new(Instant::now());
        let ledger = Ledger::default();
        self.lock().connection =
            Some(Connection { appsrc, backlog, ledger, shut: false, caps: None, base: None });
    }

    /// Nothing follows what is under way.
    pub fn shut(&self) {
        if let Some(connection) = &mut self.lock().connection {
            connection.shut = true;
        }
    }

    /// Access units go nowhere; of the connection's, rtmp2sink has taken so many.
    pub fn disconnect(&self, taken: u64) {
        let mut state = self.lock();
        let State { connection, counters } = &mut *state;
        let Some(mut over) = connection.take() else { return };
        over.ledger.settle(taken, counters);
        counters.dropped += over.ledger.waiting.len() as u64;
        drop(state);
        drop(over);
    }

    /// What became of access units so far, over all connections.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Takes in what the system holds for the server, beside what waits for rtmp2sink, and how many access units of
    /// this connection that has taken.
    pub fn observe(&self, in_system: Underway, taken: u64) -> Option<Look> {
        let now = Instant::now();
        let mut state = self.lock();
        let State { connection, counters } = &mut *state;
        let connection = connection.as_mut()?;
        connection.ledger.settle(taken, counters);
        let waiting = connection.appsrc.current_level_bytes();
        let backlog = &mut connection.backlog;
        backlog.observe(
            now,
            Underway {
                unsent: in_system.unsent + waiting,
                unacknowledged: in_system.unacknowledged + waiting,
                ..in_system
            },
        );
        Some(Look {
            congested: backlog.congested(),
            wants_key_frame: backlog.wants_key_frame(),
            stalled: backlog.stalled(now),
        })
    }

    /// Takes an access unit.
    pub fn push(&self, sample: &gst::Sample) {
        let Some(buffer) = sample.buffer_owned() else { return };
        let Some(segment) = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>())
        else {
            return;
        };
        let running = |time: Option<gst::ClockTime>| {
            segment.to_running_time_full(time).map(|time| match time {
                gst::Signed::Positive(time) => time.nseconds() as i64,
                gst::Signed::Negative(time) => -(time.nseconds() as i64),
            })
        };
        let (pts, dts) = (running(buffer.pts()), running(buffer.dts()));
        let Some(first) = dts.or(pts) else { return };

        let mut state = self.lock();
        let State { connection, counters } = &mut *state;
        let Some(connection) = connection.as_mut().filter(|connection| !connection.shut) else {
            counters.dropped += 1;
            return;
        };
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let size = buffer.size() as u64;
        if !connection.backlog.admit(Instant::now(), key, size) {
            counters.dropped += 1;
            return;
        }
        connection.ledger.waiting.push_back(size);
        let base = *connection.base.get_or_insert(first);
        let caps = sample.caps_owned().filter(|caps| connection.caps.as_ref() != Some(caps));
        if caps.is_some() {
            connection.caps.clone_from(&caps);
        }
        let appsrc = connection.appsrc.clone();
        drop(state);

        if let Some(caps) = caps {
            appsrc.set_caps(Some(&caps));
        }
        let mut buffer = buffer;
        let shifted = |time: Option<i64>| {
            time.map(|time| gst::ClockTime::from_nseconds(time.saturating_sub(base).max(0) as u64))
        };
        let writable = buffer.make_mut();
        writable.set_pts(shifted(pts));
        writable.set_dts(shifted(dts));
        // A connection that is being taken down refuses it; the next one begins with a key frame.
        let _ = appsrc.push_buffer(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_did_not_send_is_no_more_counted_as_sent() {
        let mut counters = Counters::default();
        let mut ledger = Ledger { waiting: [100, 20, 3].into(), taken: 0 };
        ledger.settle(0, &mut counters);
        assert_eq!(counters, Counters::default(), "handed on is not sent");
        ledger.settle(2, &mut counters);
        ledger.settle(2, &mut counters);
        assert_eq!(counters, Counters { sent: 2, bytes: 120, dropped: 0 });
        ledger.settle(9, &mut counters);
        assert_eq!(counters, Counters { sent: 3, bytes: 123, dropped: 0 });
    }
}
