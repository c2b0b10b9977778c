// SPDX-License-Identifier: MPL-2.0

//! Which producers and streamers there are, as NATS micro services tell it; once, or as they come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::connection::{Connection, Link, Subscription};
use crate::error::ControlError;
use crate::runtime::runtime;
use crate::subjects::ANY_STATUS;
use crate::url::ServerUrl;

/// The micro service of producers.
pub const PRODUCER: &str = "cvmmap_producer";
/// The micro service of streamers.
pub const STREAMER: &str = "cvmmap_streamer";
/// Answers that are taken; a network of more is none of cameras.
const MOST: usize = 4096;
/// A service of this machine or its network answers within this time.
pub const ANSWERS_WITHIN: Duration = Duration::from_millis(200);
/// Those who went without a word are missed after two rounds.
const ROUND: Duration = Duration::from_secs(2);
/// News are heard at once; a stream of news is not asked about more often than this.
const BREATH: Duration = Duration::from_millis(200);

/// A service that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Another one for each run of the service.
    pub id: String,
    /// `cvmmap_producer` or `cvmmap_streamer`.
    pub name: String,
    /// Of the service, not of the program.
    pub version: String,
    /// The keys of the contract, and whatever else it says of itself.
    pub metadata: BTreeMap<String, String>,
    /// Subjects by the endpoints' names.
    pub endpoints: BTreeMap<String, String>,
}

impl Found {
    /// A key of the metadata.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The producer's name as `cvmmapsrc` takes it; `None` where its metadata is not made from one.
    pub fn target(&self) -> Option<cvmmap_ipc::Target> {
        let instance = self.get("instance_name")?;
        let prefix = self.get("ipc_prefix").map(|prefix| format!("@{prefix}")).unwrap_or_default();
        let namespace = self.get("namespace").map(|space| format!("?namespace={space}")).unwrap_or_default();
        let target: cvmmap_ipc::Target = format!("cvmmap://{instance}{prefix}{namespace}").parse().ok()?;
        let same = |key: &str, value: String| self.get(key).is_none_or(|said| said == value);
        (same("shm_name", target.shm_name()) && same("zmq_addr", target.zmq_endpoint())).then_some(target)
    }
}

#[derive(Deserialize)]
struct Ping {
    name: String,
    id: String,
}

#[derive(Deserialize)]
struct Info {
    name: String,
    id: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    endpoints: Option<Vec<EndpointInfo>>,
}

#[derive(Deserialize)]
struct EndpointInfo {
    name: String,
    subject: String,
}

/// Asks who is there; takes the answers that come `within`, in the order of their keys. Garbage is no answer.
///
/// Takes that time twice: for who is there, and for what they are.
///
/// # Errors
/// [`ControlError::NotConnected`] without a server.
pub async fn discover(
    connection: &Connection,
    service: &str,
    within: Duration,
) -> Result<Vec<Found>, ControlError> {
    let client = connection.client();
    connection.check_up()?;
    let failed = |why: String| ControlError::Failed { subject: format!("$SRV.PING.{service}"), why };
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
    let ping = client.publish_with_reply(format!("$SRV.PING.{service}"), inbox, Bytes::new());
    ping.await.map_err(|error| failed(error.to_string()))?;
    let mut ids = Vec::new();
    let _ = timeout(within, async {
        while let Some(answer) = answers.next().await {
            // Without any service the server itself says so.
            if answer.status.is_some_and(|status| status == async_nats::StatusCode::NO_RESPONDERS) {
                return;
            }
            match serde_json::from_slice::<Ping>(&answer.payload) {
                // An id becomes a part of a subject.
                Ok(ping) if ping.name == service && is_token(&ping.id) && ids.len() < MOST => {
                    ids.push(ping.id)
                }
                _ => (),
            }
        }
    })
    .await;
    ids.sort_unstable();
    ids.dedup();
    let infos = join_all(ids.iter().map(|id| describe(connection, service, id, within))).await;
    let mut found: Vec<Found> = infos.into_iter().flatten().collect();
    found.sort_by(|a, b| (a.get("nats_target_key"), &a.id).cmp(&(b.get("nats_target_key"), &b.id)));
    Ok(found)
}

async fn describe(connection: &Connection, service: &str, id: &str, within: Duration) -> Option<Found> {
    let subject = format!("$SRV.INFO.{service}.{id}");
    let answer = connection.ask(&subject, Bytes::new(), within).await.ok()?;
    let info: Info = serde_json::from_slice(&answer).ok()?;
    (info.name == service && info.id == id).then(|| Found {
        id: info.id,
        name: info.name,
        version: info.version,
        metadata: info.metadata.unwrap_or_default(),
        endpoints: info.endpoints.unwrap_or_default().into_iter().map(|e| (e.name, e.subject)).collect(),
    })
}

/// Calls back with the services that are there, at first and at each change, until the subscription is dropped.
///
/// Without a server the list is empty, at once. Nothing but an attempt to connect each two seconds tells of it, and no
/// [`Connection`] is opened before one succeeds: most machines have cameras and no server.
pub fn follow(
    url: &ServerUrl,
    service: &'static str,
    mut tell: impl FnMut(&[Found]) + Send + 'static,
) -> Subscription {
    let url = url.clone();
    Subscription(runtime().spawn(async move {
        let mut first = true;
        let connection = loop {
            if Connection::is_open(&url) || reachable(&url, ANSWERS_WITHIN).await {
                match Connection::open(&url) {
                    Ok(connection) => break connection,
                    // The library refuses the address, and will again.
                    Err(_) => return tell(&[]),
                }
            }
            if std::mem::take(&mut first) {
                tell(&[]);
            }
            sleep(ROUND).await;
        };
        let _ = connection.connected(ANSWERS_WITHIN).await;
        let news = Arc::new(Notify::new());
        let (event, link) = (news.clone(), news.clone());
        let _events = connection.subscribe(ANY_STATUS, move |_, _| event.notify_one());
        let _link = connection.watch(move |_| link.notify_one());
        let mut known = Known::default();
        loop {
            let found = discover(&connection, service, ANSWERS_WITHIN).await.unwrap_or_default();
            if known.take(found) || std::mem::take(&mut first) {
                tell(&known.now);
            }
            sleep(BREATH).await;
            // Who said farewell is soon known to be gone; who lost the server has a while to find it again.
            let in_doubt = !known.missed.is_empty() && connection.link() == Link::Up;
            let _ = timeout(if in_doubt { BREATH } else { ROUND }, news.notified()).await;
        }
    }))
}

/// Whether anything takes connections where the server should be.
pub(crate) async fn reachable(url: &ServerUrl, within: Duration) -> bool {
    matches!(timeout(within, TcpStream::connect(url.socket_address())).await, Ok(Ok(_)))
}

/// Who is there by several rounds: one that a busy machine answered too late is no reason to vanish.
#[derive(Default)]
struct Known {
    now: Vec<Found>,
    /// Those of `now` that did not answer in the last round.
    missed: Vec<String>,
}

impl Known {
    /// Takes in a round; tells whether anything changed.
    fn take(&mut self, mut found: Vec<Found>) -> bool {
        let silent = |old: &&Found| !found.iter().any(|new| new.id == old.id);
        let excused: Vec<Found> = self
            .now
            .iter()
            .filter(silent)
            // The names of one who came back are its new run's.
            .filter(|old| !found.iter().any(|new| new.metadata == old.metadata))
            .filter(|old| !self.missed.contains(&old.id))
            .cloned()
            .collect();
        self.missed = excused.iter().map(|found| found.id.clone()).collect();
        found.extend(excused);
        found.sort_by(|a, b| (a.get("nats_target_key"), &a.id).cmp(&(b.get("nats_target_key"), &b.id)));
        let changed = found != self.now;
        self.now = found;
        changed
    }
}

fn is_token(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && !b".*>".contains(&byte))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn found(metadata: &[(&str, &str)]) -> Found {
        Found {
            id: "A".into(),
            name: PRODUCER.into(),
            version: "0.1.0".into(),
            metadata: metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            endpoints: BTreeMap::new(),
        }
    }

    #[test]
    fn a_target_is_made_from_the_metadata_where_all_of_it_agrees() {
        let target =
            found(&[("instance_name", "cam0"), ("namespace", "lab"), ("ipc_prefix", "/run")]).target();
        assert_eq!(target.unwrap().to_string(), "cvmmap://cam0@/run?namespace=lab");
        let target = found(&[("instance_name", "cam0"), ("shm_name", "cvmmap_cam0")]).target();
        assert_eq!(target.unwrap().base_name(), "cvmmap_cam0");
        assert_eq!(found(&[("instance_name", "cam0"), ("shm_name", "other")]).target(), None);
        assert_eq!(found(&[("instance_name", "a/b")]).target(), None);
        assert_eq!(found(&[]).target(), None);
    }

    #[test]
    fn one_round_without_an_answer_is_no_end() {
        let with = |id: &str| Found { id: id.into(), ..found(&[("nats_target_key", id)]) };
        let mut known = Known::default();
        assert!(known.take(vec![with("A"), with("B")]));
        assert!(!known.take(vec![with("B")]));
        assert!(!known.take(vec![with("A"), with("B")]));
        assert!(!known.take(vec![with("B")]));
        assert!(known.take(vec![with("B")]));
        assert_eq!(known.now, [with("B")]);
        // Started anew: another id with the same names.
        let again = Found { id: "C".into(), ..with("B") };
        assert!(known.take(vec![again.clone()]));
        assert_eq!(known.now, [again]);
    }

    #[test]
    fn ids_that_are_no_tokens_never_become_subjects() {
        assert!(is_token("VMKS5ZPaHVKN"));
        for id in ["", "a.b", "*", ">", "a b", "ä"] {
            assert!(!is_token(id), "{id}");
        }
    }
}
