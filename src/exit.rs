// SPDX-License-Identifier: MPL-2.0

//! The one table of exit codes, and the error that carries one.

use std::path::Path;
use std::process::ExitCode;

use crate::place::Refused;
use crate::redact;

/// Why a command ended without success. The number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A configuration that cannot work, an input or output that failed, a request that is refused or nobody answers.
    Configuration = 1,
    /// Arguments that clap refuses, or that contradict each other.
    Usage = 2,
    /// The receiver saw RTP packets of another payload type.
    PayloadType = 3,
    /// The receiver got fewer packets or frames than asked for.
    Threshold = 4,
    /// A pipeline cannot start: an encoder or another element is missing.
    Pipeline = 5,
    /// The receiver saw another codec or RTMP mode.
    RtmpMode = 6,
    /// The receiver saw bytes that break the protocol, or an answer over NATS cannot be read.
    Protocol = 7,
    /// Nothing happened in time.
    Timeout = 124,
    /// SIGINT or SIGTERM ended a conversion, or a second one came before the first was done with.
    Interrupted = 130,
}

/// An error for people, and what the process makes of it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Nothing is wrong, but somebody else makes the same file.
    pub taken: Option<Taken>,
    message: String,
}

/// Whose a file is that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Somebody has written it.
    Made,
    /// Somebody writes it right now.
    Growing,
}

impl Failure {
    /// A failure that ends the process with `exit`. Secrets of URLs in the message are not kept.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, taken: None, message: redact::text(&message.into()) }
    }

    /// A file cannot be claimed for the output that `flag` names.
    pub fn output(flag: &str, path: &Path, refused: &Refused) -> Self {
        let taken = match refused {
            Refused::Exists(_) => Some(Taken::Made),
            Refused::Busy(_) => Some(Taken::Growing),
            Refused::Wrong(_) => None,
        };
        Self { taken, ..configuration(format!("{flag} '{}': {refused}", path.display())) }
    }

    /// Tells a user what was wrong with the arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

/// Whatever a library says, as a configuration error.
pub fn configuration(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Configuration, error.to_string())
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
