// SPDX-License-Identifier: MPL-2.0

//! One endpoint's requests: in their order, one at a time, and none that nobody waits for any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::service::endpoint::Endpoint;
use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Refusal, Respond};
use crate::connection::REQUEST_TIMEOUT;
use crate::proto::ErrorCode;

/// Requests that may wait for the one that is served.
const WAITING: usize = 64;

/// Where they come from.
pub(super) enum Requests {
    /// Named in the service's description.
    Listed(Box<Endpoint>),
    /// Not named there.
    Plain(Subscriber),
}

impl Requests {
    async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Listed(endpoint) => endpoint.next().await.map(|request| request.message),
            Self::Plain(subscriber) => subscriber.next().await,
        }
    }

    /// What came until now can still be taken.
    async fn unsubscribe(&mut self) {
        let _ = match self {
            Self::Listed(endpoint) => endpoint.stop().await.map_err(drop),
            Self::Plain(subscriber) => subscriber.unsubscribe().await.map_err(drop),
        };
    }
}

/// A request that waits.
struct Waiting {
    reply: Subject,
    payload: Bytes,
    came: Instant,
}

/// Serves until it is told to end, and then what it has taken.
pub(super) async fn serve(
    client: Client,
    mut requests: Requests,
    respond: Respond,
    mut end: watch::Receiver<bool>,
) {
    let mut waiting = VecDeque::new();
    let mut busy: Option<JoinHandle<Answer>> = None;
    let (mut open, mut ending) = (true, false);
    loop {
        if busy.is_none() {
            busy = waiting.pop_front().map(|request| answer(&respond, request));
        }
        if busy.is_none() && !open {
            return;
        }
        tokio::select! {
            request = requests.next(), if open => match request {
                Some(Message { reply: Some(reply), payload, .. }) if waiting.len() < WAITING => {
                    waiting.push_back(Waiting { reply, payload, came: Instant::now() });
                }
                Some(Message { reply: Some(reply), .. }) => {
                    let refusal = Refusal::new(ErrorCode::Error, format!("{WAITING} requests wait already"));
                    publish(&client, reply, respond(Err(refusal))).await;
                }
                Some(_) => (),
                None => open = false,
            },
            done = async { busy.as_mut().expect("it is looked at only then").await }, if busy.is_some() => {
                busy = None;
                if let Ok((reply, answer)) = done {
                    publish(&client, reply, answer).await;
                }
            },
            _ = async { end.wait_for(|end| *end).await.is_ok() }, if !ending => {
                ending = true;
                requests.unsubscribe().await;
            }
        }
    }
}

/// Waits for a server that does not read for as long as clients wait, since those that ask meanwhile wait, too.
async fn publish(client: &Client, reply: Subject, answer: Vec<u8>) {
    let _ = timeout(REQUEST_TIMEOUT, client.publish(reply, answer.into())).await;
}

type Answer = (Subject, Vec<u8>);

/// On a thread of its own: it may look at files, or wait for a pipeline.
fn answer(respond: &Respond, request: Waiting) -> JoinHandle<Answer> {
    let respond = respond.clone();
    tokio::task::spawn_blocking(move || {
        let payload = in_time(request.came.elapsed()).map(|()| &*request.payload);
        (request.reply, respond(payload))
    })
}

fn in_time(waited: Duration) -> Result<(), Refusal> {
    if waited < REQUEST_TIMEOUT {
        return Ok(());
    }
    let message = format!("it has waited {} ms for those before it", waited.as_millis());
    Err(Refusal::new(ErrorCode::Timeout, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_have_given_up_is_refused() {
        assert_eq!(in_time(REQUEST_TIMEOUT / 2), Ok(()));
        assert_eq!(in_time(REQUEST_TIMEOUT * 2).unwrap_err().code, ErrorCode::Timeout);
    }
}
