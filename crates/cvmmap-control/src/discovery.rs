// SPDX-License-Identifier: MPL-2.0

//! Which producers and streamers there are, as NATS micro services tell it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use serde::Deserialize;

use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::error::ControlError;

/// The micro service of producers.
pub const PRODUCER: &str = "cvmmap_producer";
/// The micro service of streamers.
pub const STREAMER: &str = "cvmmap_streamer";
/// Answers that are taken; a network of more is none of cameras.
const MOST: usize = 4096;

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
    let _ = tokio::time::timeout(within, async {
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
    let infos = join_all(ids.iter().map(|id| describe(connection, service, id))).await;
    let mut found: Vec<Found> = infos.into_iter().flatten().collect();
    found.sort_by(|a, b| (a.get("nats_target_key"), &a.id).cmp(&(b.get("nats_target_key"), &b.id)));
    Ok(found)
}

async fn describe(connection: &Connection, service: &str, id: &str) -> Option<Found> {
    let subject = format!("$SRV.INFO.{service}.{id}");
    let answer = connection.ask(&subject, Bytes::new(), REQUEST_TIMEOUT).await.ok()?;
    let info: Info = serde_json::from_slice(&answer).ok()?;
    (info.name == service && info.id == id).then(|| Found {
        id: info.id,
        name: info.name,
        version: info.version,
        metadata: info.metadata.unwrap_or_default(),
        endpoints: info.endpoints.unwrap_or_default().into_iter().map(|e| (e.name, e.subject)).collect(),
    })
}

fn is_token(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && !b".*>".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(metadata: &[(&str, &str)]) -> Found {
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
    fn ids_that_are_no_tokens_never_become_subjects() {
        assert!(is_token("VMKS5ZPaHVKN"));
        for id in ["", "a.b", "*", ">", "a b", "ä"] {
            assert!(!is_token(id), "{id}");
        }
    }
}
