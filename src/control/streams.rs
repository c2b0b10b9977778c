// SPDX-License-Identifier: MPL-2.0

//! What comes by itself: status events and body packets, as lines until SIGINT, or until nobody reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cvmmap_control::error::printable;
use cvmmap_control::life::parse_event;
use cvmmap_control::{BodyPacket, Link, Subscription, producers};
use serde_json::{Value, json};

use super::{Asked, report};
use crate::exit::{Exit, Failure};
use crate::{interrupt, show, tell};

/// How soon SIGINT is heard.
const TICK: Duration = Duration::from_millis(50);
/// Messages that wait until they are printed; more are lost, and counted.
const WAITING: usize = 1024;

/// Prints what is known, and with `follow` the events that come.
pub(super) fn status(asked: &Asked, follow: bool, count: Option<u64>) -> Result<(), Failure> {
    // Before anything is asked, so that no event falls in between.
    let events = follow.then(|| Stream::open(asked, asked.source.subjects().status()));
    let connected = asked.connect();
    let key = asked.target.nats_target_key();
    let all = producers::look(Some(asked.source.connection().url()));
    let ours = |producer: &&producers::Producer| {
        producer.shm_name == asked.target.shm_name() || producer.nats_key.as_ref() == Some(&key)
    };
    // Keys are not unique; segments are.
    let same_segment = all.iter().find(|producer| producer.shm_name == asked.target.shm_name());
    let found = same_segment.or_else(|| all.iter().find(ours));
    let info = asked.info();
    let answered = info.is_ok();
    let shown = report::status(&asked.target, found, info.as_ref().map_err(ToString::to_string));
    show::result(asked.json, &shown);
    let Some(events) = events else {
        if found.is_none() && !answered {
            let message = format!("{}: it is neither in shared memory nor on the server", asked.target);
            return Err(Failure::new(Exit::Configuration, message));
        }
        return Ok(());
    };
    connected?;
    let instance = asked.target.instance();
    events.print(count, |payload| {
        let Some(event) = parse_event(&payload, Some(instance))? else { return Ok(None) };
        let shown = report::event(&event);
        let text = format!("{} at {} ns", show::cell(&shown["event"]), event.timestamp_ns);
        Ok(Some((shown, text)))
    })
}

/// Prints a line for each body packet.
pub(super) fn bodies(asked: &Asked, count: Option<u64>) -> Result<(), Failure> {
    let packets = Stream::open(asked, asked.source.subjects().body());
    asked.connect()?;
    let instance = asked.target.instance();
    packets.print(count, |payload| {
        let packet = BodyPacket::parse(payload).map_err(|error| error.to_string())?;
        let label = &packet.header.label;
        if !label.is_empty() && label != instance {
            return Ok(None);
        }
        let bodies: Vec<_> = packet.bodies().collect();
        let text = report::packet_line(&packet.header, &bodies);
        Ok(Some((report::packet(&packet.header, &bodies), text)))
    })
}

/// The messages of a subject.
struct Stream<'a> {
    asked: &'a Asked,
    subject: String,
    messages: Receiver<Bytes>,
    lost: Arc<AtomicU64>,
    _subscription: Subscription,
}

impl<'a> Stream<'a> {
    fn open(asked: &'a Asked, subject: String) -> Self {
        let (send, messages) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let count = lost.clone();
        let subscription = asked.source.connection().subscribe(&subject, move |_, payload| {
            if let Err(TrySendError::Full(_)) = send.try_send(payload) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { asked, subject, messages, lost, _subscription: subscription }
    }

    /// Prints what `read` makes of each message (`None`: another's) until `count` of them, a signal, or nobody reads
    /// them; what it refuses is told once, and counted.
    fn print(
        self,
        count: Option<u64>,
        mut read: impl FnMut(Bytes) -> Result<Option<(Value, String)>, String>,
    ) -> Result<(), Failure> {
        let interrupted = interrupt::listen()?;
        let _link = self.tell_outages();
        let (mut printed, mut garbage, mut others) = (0, 0u64, 0u64);
        let ended = || interrupted.load(Ordering::Relaxed) || tell::is_closed();
        while count.is_none_or(|count| printed < count) && !ended() {
            let payload = match self.messages.recv_timeout(TICK) {
                Ok(payload) => payload,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    let message = format!("the subscription to '{}' has ended", self.subject);
                    return Err(Failure::new(Exit::Configuration, message));
                }
            };
            match read(payload) {
                Ok(Some((shown, text))) => {
                    if !(if self.asked.json { tell::result(shown) } else { tell::result(text) }) {
                        break;
                    }
                    printed += 1;
                }
                Ok(None) => others += 1,
                Err(why) => {
                    garbage += 1;
                    if garbage == 1 {
                        tell::talk(format_args!(
                            "warning: a message on '{}' cannot be read: {}",
                            self.subject,
                            printable(&why)
                        ));
                    }
                }
            }
        }
        let lost = self.lost.load(Ordering::Relaxed) + self.asked.source.connection().lost_messages();
        let summary = json!({ "printed": printed, "unreadable": garbage, "of_others": others, "lost": lost });
        tell::talk(show::text(&summary).trim_end().replace('\n', ", "));
        Ok(())
    }

    /// One line for each turn of the server.
    fn tell_outages(&self) -> Subscription {
        let connection = self.asked.source.connection();
        let url = connection.url().to_string();
        let was_up = Mutex::new(true);
        connection.watch(move |link| {
            let up = link == Link::Up;
            let turned = std::mem::replace(&mut *was_up.lock().expect("nothing panics under it"), up) != up;
            if turned {
                tell::talk(format_args!(
                    "{} {url}",
                    if up { "connected again to" } else { "lost the server" }
                ));
            }
        })
    }
}
