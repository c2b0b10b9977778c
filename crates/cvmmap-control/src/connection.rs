// SPDX-License-Identifier: MPL-2.0

//! The connection to a server, which comes and goes without anyone waiting for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_nats::{ClientError, ConnectOptions, Event, RequestErrorKind, connection::State};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::ControlError;
use crate::runtime::runtime;
use crate::url::{Credentials, ServerUrl};

/// How long a request waits for its answer, unless it is told otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages that wait for a subscriber: of body packets of eight people 53 MB. More are lost, and counted.
const WAITING: usize = 2048;
/// Longest pause between two attempts to reach a server.
const RETRY_WITHIN: Duration = Duration::from_secs(2);
/// Messages and subscriptions that wait to be sent; more make their senders wait.
const COMMANDS: usize = 256;

/// Whether there is a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Nobody knows yet.
    Connecting,
    /// It is there.
    Up,
    /// It is not, and why where that is known. Attempts go on.
    Down(Option<String>),
}

impl Link {
    /// `connecting`, `up` or `down`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Down(_) => "down",
        }
    }
}

/// A connection to a server. Clones share it; so do all who open the same URL in this process.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    url: ServerUrl,
    client: async_nats::Client,
    line: watch::Receiver<Line>,
    lost: Arc<AtomicU64>,
}

/// The link, and how often the server came: a watch shows only what holds in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub link: Link,
    pub arrivals: u64,
}

/// Kept for the life of the process: a client that is let go while its server is away would go on trying by itself.
static CONNECTIONS: LazyLock<Mutex<HashMap<ServerUrl, Connection>>> = LazyLock::new(Mutex::default);

impl Connection {
    /// Begins to connect, and does not wait for it. The server may come and go at any time.
    ///
    /// # Errors
    /// [`ControlError::Failed`] where the client library refuses the address.
    pub fn open(url: &ServerUrl) -> Result<Self, ControlError> {
        let mut connections = CONNECTIONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(connection) = connections.get(url) {
            return Ok(connection.clone());
        }
        let (tell, line) = watch::channel(Line { link: Link::Connecting, arrivals: 0 });
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let options = match url.credentials() {
            Credentials::None => ConnectOptions::new(),
            Credentials::Token(token) => ConnectOptions::with_token(token),
            Credentials::User(user, password) => ConnectOptions::with_user_and_password(user, password),
        };
        let options = options
            .name("cvmmap")
            // Names and passwords go to nobody but the server that the user named, and by the way that he named.
            .require_tls(url.is_tls())
            .ignore_discovered_servers()
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(retry_after)
            .connection_timeout(Duration::from_secs(2))
            .ping_interval(Duration::from_secs(10))
            .request_timeout(Some(REQUEST_TIMEOUT))
            .subscription_capacity(WAITING)
            .client_capacity(COMMANDS)
            .event_callback(move |event| {
                follow(&tell, &counted, event);
                std::future::ready(())
            });
        let address = url.address();
        let failed = |why: String| ControlError::Failed { subject: url.to_string(), why };
        let _inside = runtime().enter();
        // It only starts tasks: attempts are made by them.
        let client = options
            .connect(address)
            .now_or_never()
            .ok_or_else(|| failed("the client library waits for the server".into()))?
            .map_err(|error| failed(error.kind().to_string()))?;
        let connection = Self(Arc::new(Shared { url: url.clone(), client, line, lost }));
        connections.insert(url.clone(), connection.clone());
        Ok(connection)
    }

    /// Whether somebody in this process has opened it.
    pub fn is_open(url: &ServerUrl) -> bool {
        CONNECTIONS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains_key(url)
    }

    /// The server's address; displays without credentials.
    pub fn url(&self) -> &ServerUrl {
        &self.0.url
    }

    /// Whether the server is there.
    pub fn link(&self) -> Link {
        self.0.line.borrow().link.clone()
    }

    /// Messages that were lost since their subscriber was too slow, over all subscriptions.
    pub fn lost_messages(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until the server is there.
    ///
    /// # Errors
    /// [`ControlError::NotConnected`] after `within`.
    pub async fn connected(&self, within: Duration) -> Result<(), ControlError> {
        let mut line = self.0.line.clone();
        let up = async { line.wait_for(|line| line.link == Link::Up).await.map(drop) };
        match tokio::time::timeout(within, up).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.not_connected()),
        }
    }

    /// Calls back with the state of the connection, now and at each change, until the subscription is dropped; a call
    /// that is under way then still ends.
    pub fn watch(&self, mut tell: impl FnMut(Link) + Send + 'static) -> Subscription {
        let mut line = self.0.line.clone();
        Subscription(runtime().spawn(async move {
            loop {
                let now = line.borrow_and_update().link.clone();
                tell(now);
                if line.changed().await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Calls back with each message's subject and payload, through outages, until the subscription is dropped.
    ///
    /// The callback runs on the shared runtime: it may not wait. One that is under way at the drop still ends.
    pub fn subscribe(
        &self,
        subject: &str,
        mut take: impl FnMut(&str, Bytes) + Send + 'static,
    ) -> Subscription {
        let (client, subject) = (self.0.client.clone(), subject.to_owned());
        Subscription(runtime().spawn(async move {
            let Ok(mut messages) = client.subscribe(subject).await else { return };
            while let Some(message) = messages.next().await {
                take(&message.subject, message.payload);
            }
        }))
    }

    /// Asks the first of the subjects on which somebody listens; returns it and the raw answer.
    ///
    /// # Errors
    /// As [`Connection::ask`]; where nobody listens on any, it names the first.
    pub async fn ask_first<'a>(
        &self,
        subjects: &'a [String],
        payload: Bytes,
        timeout: Duration,
    ) -> Result<(&'a str, Bytes), ControlError> {
        let mut first = None;
        for subject in subjects {
            match self.ask(subject, payload.clone(), timeout).await {
                Ok(answer) => return Ok((subject, answer)),
                Err(error @ ControlError::NoResponders { .. }) => first = first.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(first.expect("there is a subject to ask"))
    }

    /// Sends raw bytes and returns the raw answer.
    ///
    /// # Errors
    /// [`ControlError`]; never sent where there is no server, since it would then be sent when nobody waits any more.
    pub async fn ask(&self, subject: &str, payload: Bytes, timeout: Duration) -> Result<Bytes, ControlError> {
        self.check_up()?;
        // An inbox of its own goes with the request; the shared one would keep a place for each that is never answered.
        let inbox = self.0.client.new_inbox();
        let request = async_nats::Request::new().payload(payload).timeout(Some(timeout)).inbox(inbox);
        // The library's own limit begins only when the request is in its queue.
        let sent = self.0.client.send_request(subject.to_owned(), request);
        let late = || ControlError::TimedOut { subject: subject.into(), after: timeout };
        match tokio::time::timeout(timeout, sent).await {
            Err(_) => Err(late()),
            Ok(Ok(answer)) => Ok(answer.payload),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => ControlError::NoResponders { subject: subject.into() },
                RequestErrorKind::TimedOut => late(),
                _ => ControlError::Failed { subject: subject.into(), why: error.to_string() },
            }),
        }
    }

    /// The library tells of a connection a moment before it counts it as one.
    pub(crate) fn check_up(&self) -> Result<(), ControlError> {
        let gone = self.0.client.connection_state() == State::Disconnected;
        if self.link() == Link::Up && !gone { Ok(()) } else { Err(self.not_connected()) }
    }

    pub(crate) fn line_watch(&self) -> watch::Receiver<Line> {
        self.0.line.clone()
    }

    /// The library's client, for the service side and discovery.
    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.0.client
    }

    fn not_connected(&self) -> ControlError {
        let reason = match self.link() {
            Link::Down(reason) => reason,
            Link::Connecting | Link::Up => None,
        };
        ControlError::NotConnected { url: self.0.url.to_string(), reason }
    }
}

/// Ends with its owner.
#[must_use = "it ends when it is dropped"]
pub struct Subscription(pub(crate) JoinHandle<()>);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// At once, then twice as long each time.
fn retry_after(attempts: usize) -> Duration {
    match attempts {
        0 | 1 => Duration::ZERO,
        n => Duration::from_millis(100).saturating_mul(1 << (n - 2).min(10)).min(RETRY_WITHIN),
    }
}

fn follow(line: &watch::Sender<Line>, lost: &AtomicU64, event: Event) {
    match event {
        Event::Connected => line.send_modify(|line| {
            line.link = Link::Up;
            line.arrivals += 1;
        }),
        Event::Disconnected | Event::Closed => line.send_modify(|line| line.link = Link::Down(None)),
        // One for each attempt that fails. An outage is told once; its reason can be looked up.
        Event::ClientError(ClientError::Other(why)) => {
            line.send_if_modified(|line| {
                let first = line.link == Link::Connecting;
                if line.link != Link::Up {
                    line.link = Link::Down(Some(why));
                }
                first
            });
        }
        Event::SlowConsumer(_) => {
            lost.fetch_add(1, Ordering::Relaxed);
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_with_its_reason() {
        let (tell, mut told) = watch::channel(Line { link: Link::Connecting, arrivals: 0 });
        let lost = AtomicU64::new(0);
        let mut seen = Vec::new();
        let refused = || Event::ClientError(ClientError::Other("refused".into()));
        for event in [
            refused(),
            refused(),
            Event::Connected,
            Event::SlowConsumer(1),
            Event::Disconnected,
            refused(),
            refused(),
        ] {
            follow(&tell, &lost, event);
            if told.has_changed().unwrap() {
                seen.push(told.borrow_and_update().link.clone());
            }
        }
        let down = Link::Down(Some("refused".into()));
        assert_eq!(seen, [down.clone(), Link::Up, Link::Down(None)]);
        assert_eq!(*told.borrow(), Line { link: down, arrivals: 1 });
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn attempts_come_at_once_and_then_more_seldom() {
        assert_eq!(retry_after(1), Duration::ZERO);
        assert_eq!(retry_after(2), Duration::from_millis(100));
        assert!((2..40).all(|n| retry_after(n) <= retry_after(n + 1)));
        assert_eq!(retry_after(usize::MAX), RETRY_WITHIN);
    }
}
