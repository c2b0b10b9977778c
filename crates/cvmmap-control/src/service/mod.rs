// SPDX-License-Identifier: MPL-2.0

//! The other side of the requests: endpoints of a producer or a streamer, found as a NATS micro service.
//!
//! A service lives through outages of its server; nothing waits for it.

mod producer;
mod recorder;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::service::ServiceExt;
use bytes::Bytes;
use futures::future::join_all;
use futures::{Stream, StreamExt};
use prost::Message;
use tokio::sync::oneshot;

pub use self::producer::{Identity, Producer, SourceHandler};
pub use self::recorder::{RecorderHandler, recorder_endpoints};
use crate::connection::Connection;
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

/// Makes an answer of a request, whatever its bytes are.
type Respond = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

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
        let respond = move |payload: &[u8]| {
            let answer = Q::decode(payload)
                .map_err(|error| {
                    if !told.swap(true, Ordering::Relaxed) {
                        garbage(&on, &error.to_string());
                    }
                    Refusal::new(ErrorCode::InvalidPayload, error.to_string())
                })
                .and_then(&serve);
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
    _stop: oneshot::Sender<()>,
}

impl Service {
    /// Describes and serves the endpoints as the micro service `name`.
    ///
    /// Each endpoint serves one request at a time, in their order, and may take its time: the others go on.
    pub fn start(
        connection: &Connection,
        name: &'static str,
        metadata: HashMap<String, String>,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        let client = connection.client().clone();
        let (stop, stopped) = oneshot::channel();
        runtime().spawn(async move {
            let serving = async {
                let service = client.service_builder().metadata(metadata).start(name, VERSION).await.ok()?;
                let mut loops = Vec::new();
                for Endpoint { name, subject, listed, respond } in endpoints {
                    if listed {
                        let requests = service.endpoint_builder().name(name).add(subject).await.ok()?;
                        let requests = requests.map(|request| request.message);
                        loops.push(tokio::spawn(serve(client.clone(), requests, respond)));
                    } else {
                        let requests = client.queue_subscribe(subject, "q".into()).await.ok()?;
                        loops.push(tokio::spawn(serve(client.clone(), requests, respond)));
                    }
                }
                Some((service, loops))
            };
            // Nothing but a client that has ended for good refuses a subscription.
            let Some((service, loops)) = serving.await else { return };
            let _ = stopped.await;
            let _ = service.stop().await;
            loops.iter().for_each(tokio::task::JoinHandle::abort);
            join_all(loops).await;
        });
        Self { _stop: stop }
    }
}

async fn serve(
    client: async_nats::Client,
    mut requests: impl Stream<Item = async_nats::Message> + Unpin,
    respond: Respond,
) {
    while let Some(request) = requests.next().await {
        let Some(reply) = request.reply else { continue };
        let respond = respond.clone();
        // It may look at files, or wait for a pipeline.
        let answer = tokio::task::spawn_blocking(move || respond(&request.payload)).await;
        if let Ok(answer) = answer {
            let _ = client.publish(reply, Bytes::from(answer)).await;
        }
    }
}
