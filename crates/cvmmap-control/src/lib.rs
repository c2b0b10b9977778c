// SPDX-License-Identifier: MPL-2.0

//! The cv-mmap control plane over NATS: what a producer is, what it does and what it can be asked for.
//!
//! - [`Connection`]: a server that comes and goes; shared by all in the process that use the same URL;
//! - [`Source`]: requests to a producer, in the newer dialect and, where nobody answers, in the older one;
//! - [`BodyPacket`]: what a producer's body tracker saw;
//! - [`life`]: what a producer says of itself, joined with what its frames show;
//! - [`service`]: the other side, for producers and recorders;
//! - [`discovery`]: which services there are;
//! - [`producers`]: which producers there are, found as services and as segments of this machine.
//!
//! Nothing in here waits for a server unless it is asked to, with a limit. All of it runs on one tokio runtime of the
//! process, made on first use; [`block_on`] is the way in from other threads.

#![forbid(unsafe_code)]

pub mod body;
pub mod connection;
pub mod discovery;
pub mod error;
pub mod follow;
pub mod life;
pub mod names;
pub mod producers;
#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
pub mod proto;
pub mod runtime;
pub mod service;
pub mod source;
pub mod subjects;
pub mod url;

pub use body::{Body, BodyError, BodyHeader, BodyPacket};
pub use connection::{Connection, Link, Subscription};
pub use discovery::{Found, discover};
pub use error::ControlError;
pub use follow::InfoFollower;
pub use life::Life;
pub use runtime::block_on;
pub use source::{Recorder, Source};
pub use subjects::Subjects;
pub use url::{DEFAULT_URL, ServerUrl};
