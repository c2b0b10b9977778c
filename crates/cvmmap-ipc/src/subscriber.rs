// SPDX-License-Identifier: MPL-2.0

//! The sync socket: waiting for announcements, and being woken from the wait.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::{FrameId, SyncMessage};

/// Sync messages have 48 bytes; what is much longer is garbage and must not fill memory 1000 times over.
const MAX_MESSAGE: i64 = 64 << 10;
/// Bounds one drain, so that a flood of garbage cannot keep the reader from its other work.
const MAX_DRAIN: usize = 4096;
/// A producer that restarts is found again after 10 ms, later up to 100 ms.
const RECONNECT_MS: (i32, i32) = (10, 100);

static CONTEXT: LazyLock<zmq::Context> = LazyLock::new(zmq::Context::new);

/// Ends a reader's wait from another thread, and keeps it ended until [`Waker::clear`].
#[derive(Debug, Clone)]
pub struct Waker(Arc<Wake>);

#[derive(Debug)]
struct Wake {
    /// Ends polls.
    event: OwnedFd,
    /// Says the same to who does not poll.
    awake: AtomicBool,
}

impl Waker {
    fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Wake { event, awake: AtomicBool::new(false) })))
    }

    /// Ends the wait that is under way, and all that follow.
    pub fn wake(&self) {
        self.0.awake.store(true, Ordering::Release);
        self.nudge();
    }

    /// Ends a wait for which there is no announcement: one that comes at the same moment goes first, for it is fresh
    /// only now.
    pub fn nudge(&self) {
        // Fails only where the counter is about to overflow, and then it is set already.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    /// Lets waits wait again.
    pub fn clear(&self) {
        self.0.awake.store(false, Ordering::Release);
        // Fails only where nothing is set.
        let _ = rustix::io::read(&self.0.event, &mut [0u8; 8]);
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.0.awake.load(Ordering::Acquire)
    }
}

pub(crate) enum Wait {
    Readable,
    TimedOut,
    Woken,
}

pub(crate) struct Subscriber {
    socket: zmq::Socket,
    waker: Waker,
    label: Option<String>,
    /// Messages that were no sync messages, or of another label.
    pub(crate) ignored: u64,
}

impl Subscriber {
    pub(crate) fn connect(endpoint: &str, label: Option<String>) -> Result<Self, zmq::Error> {
        let socket = CONTEXT.socket(zmq::SUB)?;
        socket.set_linger(0)?;
        socket.set_maxmsgsize(MAX_MESSAGE)?;
        socket.set_reconnect_ivl(RECONNECT_MS.0)?;
        socket.set_reconnect_ivl_max(RECONNECT_MS.1)?;
        socket.set_subscribe(b"")?;
        socket.connect(endpoint)?;
        let waker = Waker::new().map_err(|_| zmq::Error::EMFILE)?;
        Ok(Self { socket, waker, label, ignored: 0 })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until there is something to receive, `deadline` has passed, or the waker is set.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Wait, zmq::Error> {
        loop {
            let timeout = deadline.map_or(-1, |at| {
                let left = at.saturating_duration_since(Instant::now());
                // Rounded up: a wait that ends early would spin.
                left.saturating_add(Duration::from_micros(999)).as_millis().min(i32::MAX as u128) as i64
            });
            let mut items = [
                self.socket.as_poll_item(zmq::POLLIN),
                zmq::PollItem::from_fd(self.waker.0.event.as_raw_fd(), zmq::POLLIN),
            ];
            match zmq::poll(&mut items, timeout) {
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(error),
                Ok(_) if self.waker.is_awake() => return Ok(Wait::Woken),
                Ok(_) if items[0].is_readable() => return Ok(Wait::Readable),
                Ok(_) if items[1].is_readable() => return Ok(Wait::Woken),
                Ok(_) if deadline.is_some_and(|at| Instant::now() >= at) => return Ok(Wait::TimedOut),
                Ok(_) => continue,
            }
        }
    }

    /// Takes all that is queued and appends the frames it announces, oldest first.
    ///
    /// This is what ZMQ_CONFLATE does in a place where it cannot tell announcements from garbage, nor count what it
    /// drops, nor keep the first announcement after a frame, which `next-sync` needs.
    pub(crate) fn drain(&mut self, frames: &mut Vec<FrameId>) -> Result<(), zmq::Error> {
        let mut message = zmq::Message::new();
        for _ in 0..MAX_DRAIN {
            match self.socket.recv(&mut message, zmq::DONTWAIT) {
                Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(zmq::Error::EINTR) => continue,
                result => result?,
            }
            let multipart = message.get_more();
            match SyncMessage::parse(&message) {
                Ok(sync) if !multipart && self.label.as_ref().is_none_or(|label| *label == sync.label) => {
                    frames.push(sync.frame);
                }
                _ => self.ignored += 1,
            }
            while message.get_more() {
                self.socket.recv(&mut message, 0)?;
            }
        }
        Ok(())
    }
}
