// SPDX-License-Identifier: MPL-2.0

//! Keeping up with what a producer says of itself, without polling it once it has answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::connection::{Link, Subscription};
use crate::error::ControlError;
use crate::proto::GetSourceInfoResponse;
use crate::runtime::runtime;
use crate::source::Source;

/// A producer that does not answer is asked again after this time, then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// At most this: it may come back to the server late, and without a word.
const LAST_PAUSE: Duration = Duration::from_secs(8);

/// Asks for the source info whenever the server comes, and whenever it is told to, until there is an answer.
pub struct InfoFollower {
    wanted: Arc<Notify>,
    _link: Subscription,
    _asking: Subscription,
}

impl InfoFollower {
    /// `tell` gets each answer, on the shared runtime: it may not wait.
    pub fn start(
        source: Source,
        mut tell: impl FnMut(Result<GetSourceInfoResponse, ControlError>) + Send + 'static,
    ) -> Self {
        let wanted = Arc::new(Notify::new());
        let up = wanted.clone();
        let link = source.connection().watch(move |link| {
            if link == Link::Up {
                up.notify_one();
            }
        });
        let told = wanted.clone();
        let asking = runtime().spawn(async move {
            loop {
                told.notified().await;
                let mut pause = FIRST_PAUSE;
                loop {
                    let answer = source.info().await;
                    // Frames and events may come before the producer has its endpoints, or it may be busy.
                    let again = matches!(
                        answer,
                        Err(ControlError::NoResponders { .. } | ControlError::TimedOut { .. })
                    );
                    tell(answer);
                    // Without a server there is nothing to wait for but its return, which is told.
                    if !again {
                        break;
                    }
                    pause = match timeout(pause, told.notified()).await {
                        Ok(()) => FIRST_PAUSE,
                        Err(_) => LAST_PAUSE.min(pause * 2),
                    };
                }
            }
        });
        Self { wanted, _link: link, _asking: Subscription(asking) }
    }

    /// Something happened after which the producer may say something else. Never waits.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }
}
