// SPDX-License-Identifier: MPL-2.0

//! The one tokio runtime of the process, and the way into it from threads that know nothing of it.

use std::sync::LazyLock;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::block_in_place;

/// Made on first use. Two threads: one that reads a socket flat out does not starve those who take what it read.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cvmmap-nats")
        .enable_io()
        .enable_time()
        .build()
        .expect("threads for the control plane")
});

/// The runtime.
pub(crate) fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// A future that took longer than it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done within {} ms", .0.as_millis())]
pub struct Late(pub Duration);

/// Runs a future on the shared runtime and waits for its end, at most for `limit`; after that it is dropped.
///
/// Unlike the runtime's own `block_on`, this may be called from a callback of a subscription.
///
/// # Errors
/// [`Late`] where it was not done in time.
pub fn block_on<F>(future: F, limit: Duration) -> Result<F::Output, Late>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (tell, told) = sync_channel(1);
    let task = RUNTIME.spawn(async move {
        let _ = tell.send(future.await);
    });
    let wait = || told.recv_timeout(limit);
    // One of the runtime's threads would hold back what it spawned itself.
    let ours = Handle::try_current().is_ok_and(|current| current.id() == RUNTIME.handle().id());
    let done = if ours { block_in_place(wait) } else { wait() };
    done.map_err(|error| {
        task.abort();
        // A future that panicked has told nothing; the runtime has printed why.
        debug_assert_eq!(error, RecvTimeoutError::Timeout, "the future panicked");
        Late(limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_no_longer_than_it_is_told() {
        assert_eq!(block_on(async { 7 }, Duration::from_secs(5)), Ok(7));
        let limit = Duration::from_millis(20);
        assert_eq!(block_on(std::future::pending::<()>(), limit), Err(Late(limit)));
    }

    #[test]
    fn it_can_be_called_from_the_runtime_itself() {
        let nested = async { block_on(async { 7 }, Duration::from_secs(5)) };
        assert_eq!(block_on(nested, Duration::from_secs(5)), Ok(Ok(7)));
    }
}
