// SPDX-License-Identifier: MPL-2.0

//! The other side of the requests: endpoints of a producer or a streamer, found as a NATS micro service.
//!
//! A service lives through outages of its server; nothing waits for it.

mod producer;
mod recorder;
mod requests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::service::ServiceExt;
use futures::future::join_all;
use prost::Message;
use tokio::sync::{oneshot, watch};

pub use self::producer::{Identity, Producer, SourceHandler, names_of};
pub use self::recorder::{RecorderHandler, recorder_endpoints};
use self::requests::Requests;
use crate::connection::{Connection, Link};
use crate::proto::*;
use crate::runtime::runtime;

/// Version that our services have on the wire.
pub const VERSION: &str = "0.1.0";

/// A request that is not served: the contract's code and what to say besides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Not [`ErrorCode::Ok`].
    pub code: ErrorCode,
    /// For people; may be empty. Not every answer has room for it.
    pub message: String,
}

impl Refusal {
    /// With a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What this producer does not do.
    pub fn unsupported() -> Self {
        Self::new(ErrorCode::Unsupported, "")
    }
}

/// An answer that can say why there is none.
trait Refused: Message + Default {
    fn refused(refusal: Refusal) -> Self;
}

macro_rules! refused {
    ($($name:ident $(. $message:ident)?),*) => {$(
        impl Refused for $name {
            #[allow(clippy::needless_update)]
            fn refused(refusal: Refusal) -> Self {
                Self { error: refusal.code.into(), $($message: refusal.message,)? ..Self::default() }
            }
        }
    )*};
}
refused!(
    ResetFrameCountResponse,
    GetSourceInfoResponse,
    SeekTimestampResponse,
    CapabilitiesResponse,
    PlaylistResponse.error_message,
    GetCameraControlCapabilitiesResponse.error_message,
    CameraControlResponse.error_message,
    RecordingStatusResponse.error_message
);

/// Is told once for each endpoint of a request that could not be read: its subject, and why.
pub type OnGarbage = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// Makes an answer of a request, whatever its bytes are; or of the reason why it is not looked at.
type Respond = Arc<dyn Fn(Result<&[u8], Refusal>) -> Vec<u8> + Send + Sync>;

/// A subject and what answers on it.
pub struct Endpoint {
    name: String,
    subject: String,
    /// `false`: it answers, but is not named in the service's description.
    listed: bool,
    respond: Respond,
}

impl Endpoint {
    /// `tail` follows the prefix in the subject; with `_` for `.` it is the endpoint's name.
    fn new<Q: Message + Default, A: Refused + 'static>(
        prefix: &str,
        tail: &str,
        garbage: &OnGarbage,
        serve: impl Fn(Q) -> Result<A, Refusal> + Send + Sync + 'static,
    ) -> Self {
        let subject = format!("{prefix}.{tail}");
        let (garbage, told, on) = (garbage.clone(), AtomicBool::new(false), subject.clone());
        let read = move |payload: &[u8]| {
            Q::decode(payload).map_err(|error| {
                if !told.swap(true, Ordering::Relaxed) {
                    garbage(&on, &error.to_string());
                }
                Refusal::new(ErrorCode::InvalidPayload, error.to_string())
            })
        };
        let respond = move |payload: Result<&[u8], Refusal>| {
            let answer = payload.and_then(&read).and_then(&serve);
            answer.unwrap_or_else(A::refused).encode_to_vec()
        };
        Self { name: tail.replace('.', "_"), subject, listed: true, respond: Arc::new(respond) }
    }

    /// The subject that it answers on.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// Endpoints that answer until this is dropped.
pub struct Service {
    stop: oneshot::Sender<()>,
    ready: watch::Receiver<bool>,
    ended: oneshot::Receiver<()>,
}

impl Service {
    /// Describes and serves the endpoints as the micro service `name`, from when there is a server.
    ///
    /// Each endpoint serves one request at a time, in their order, and may take its time: the others go on. What waited
    /// longer than clients do is refused, not served.
    pub fn start(
        connection: &Connection,
        name: &'static str,
        metadata: HashMap<String, String>,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (tell_ready, ready) = watch::channel(false);
        let (tell_ended, ended) = oneshot::channel();
        let (client, mut line) = (connection.client().clone(), connection.line_watch());
        runtime().spawn(async move {
            let starting = async {
                // Without a server, subscriptions would pile up with each start.
                line.wait_for(|line| line.link == Link::Up).await.ok()?;
                let service = client.service_builder().metadata(metadata).start(name, VERSION).await.ok()?;
                let mut all = Vec::new();
                for Endpoint { name, subject, listed, respond } in endpoints {
                    let requests = if listed {
                        Requests::Listed(Box::new(
                            service.endpoint_builder().name(name).add(subject).await.ok()?,
                        ))
                    } else {
                        Requests::Plain(client.queue_subscribe(subject, "q".into()).await.ok()?)
                    };
                    all.push((requests, respond));
                }
                Some((service, all))
            };
            let started = tokio::select! {
                _ = &mut stopped => None,
                started = starting => started,
            };
            // Nothing but a client that has ended for good refuses a subscription.
            let Some((service, all)) = started else { return };
            let _ = tell_ready.send(true);
            let (tell_end, end) = watch::channel(false);
            let loops = all.into_iter().map(|(requests, respond)| {
                tokio::spawn(requests::serve(client.clone(), requests, respond, end.clone()))
            });
            let loops: Vec<_> = loops.collect();
            let _ = stopped.await;
            let _ = service.stop().await;
            let _ = tell_end.send(true);
            join_all(loops).await;
            let _ = tell_ended.send(());
        });
        Self { stop, ready, ended }
    }

    /// Becomes true when requests are taken.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Takes no more requests; done when those that were taken are answered.
    pub(crate) async fn end(self) {
        let Self { stop, ended, .. } = self;
        drop(stop);
        let _ = ended.await;
    }
}
