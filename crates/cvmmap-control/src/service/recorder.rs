// SPDX-License-Identifier: MPL-2.0

//! The endpoints of a recorder.

use std::sync::Arc;

use super::{Endpoint, OnGarbage, Refusal};
use crate::proto::{EmptyRequest, RecordingStartRequest, RecordingStatusResponse};

/// A recorder of one format. Called on threads of its own, one call at a time for each verb.
pub trait RecorderHandler: Send + Sync + 'static {
    /// Starts a recording; the answer is its status.
    ///
    /// # Errors
    /// Why not.
    fn start(&self, request: RecordingStartRequest) -> Result<RecordingStatusResponse, Refusal>;

    /// Ends it; the answer is its last status.
    ///
    /// # Errors
    /// Why not: nothing is recorded, or it could not be finished.
    fn stop(&self) -> Result<RecordingStatusResponse, Refusal>;

    /// What it does now.
    fn status(&self) -> RecordingStatusResponse;
}

/// `PREFIX.recorder.FORMAT.{start,stop,status}`, for [`Service::start`](super::Service::start).
///
/// `prefix` is [`Subjects::streamer`](crate::Subjects::streamer), or a producer's.
pub fn recorder_endpoints(
    prefix: &str,
    format: &str,
    handler: Arc<impl RecorderHandler>,
    garbage: OnGarbage,
) -> Vec<Endpoint> {
    let tail = |verb: &str| format!("recorder.{format}.{verb}");
    let (starter, stopper) = (handler.clone(), handler.clone());
    vec![
        Endpoint::new(prefix, &tail("start"), &garbage, move |request| starter.start(request)),
        Endpoint::new(prefix, &tail("stop"), &garbage, move |_: EmptyRequest| stopper.stop()),
        Endpoint::new(prefix, &tail("status"), &garbage, move |_: EmptyRequest| Ok(handler.status())),
    ]
}
