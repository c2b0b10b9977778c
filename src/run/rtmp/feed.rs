// SPDX-License-Identifier: MPL-2.0

//! From the encoder to whichever connection there is: never waits, whatever the server does.
//!
//! Lock: `state` is never held while anything is pushed.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::backlog::Backlog;

/// What became of access units so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counters {
    /// Handed to a connection.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Not handed on: the server was late, or a key frame had to come first.
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
    caps: Option<gst::Caps>,
    /// Running time of the first access unit: each connection begins at 0.
    base: Option<i64>,
}

/// How the connection's way looks at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Nothing follows until what is under way is delivered.
    pub congested: bool,
    /// A key frame is all that is missing.
    pub wants_key_frame: bool,
    /// The server takes nothing.
    pub stalled: bool,
    /// Age of the oldest access unit under way.
    pub age: Duration,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Access units go to this connection from the next key frame on.
    pub fn connect(&self, appsrc: gst_app::AppSrc) {
        let backlog = Backlog::new(Instant::now());
        self.lock().connection = Some(Connection { appsrc, backlog, caps: None, base: None });
    }

    /// Access units go nowhere.
    pub fn disconnect(&self) {
        let connection = self.lock().connection.take();
        drop(connection);
    }

    /// What became of access units so far, over all connections.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Takes in how many bytes the system holds for the server, beside those that wait for rtmp2sink.
    pub fn observe(&self, in_system: u64) -> Option<Look> {
        let now = Instant::now();
        let mut state = self.lock();
        let connection = state.connection.as_mut()?;
        let backlog = &mut connection.backlog;
        backlog.observe(now, in_system + connection.appsrc.current_level_bytes());
        Some(Look {
            congested: backlog.congested(),
            wants_key_frame: backlog.wants_key_frame(),
            stalled: backlog.stalled(now),
            age: backlog.age(now),
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
        let Some(connection) = connection else { return };
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let size = buffer.size() as u64;
        if !connection.backlog.admit(Instant::now(), key, size) {
            counters.dropped += 1;
            return;
        }
        counters.sent += 1;
        counters.bytes += size;
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
