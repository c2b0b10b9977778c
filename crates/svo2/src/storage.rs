// SPDX-License-Identifier: MPL-2.0

//! The file that a recording lies in, and whether the system reads it.
//!
//! Nothing is asked for that the file did not have when it was opened, so that a read that fails says nothing of the
//! recording: the disk or the network has an error, or somebody cuts the file short meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use crate::error::{Damage, ReadError};

pub(crate) struct Storage {
    file: File,
    /// The first read that failed. Those who look for something better may not tell of it.
    refused: OnceLock<ReadError>,
}

impl Storage {
    pub fn new(file: File) -> Self {
        Self { file, refused: OnceLock::new() }
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `into` with what begins at `offset`.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> Result<(), ReadError> {
        self.file.read_exact_at(into, offset).map_err(|error| {
            let reason = match (error.kind(), self.len()) {
                (io::ErrorKind::UnexpectedEof, Ok(len)) => {
                    format!("it has {len} bytes now, and was longer when it was opened")
                }
                _ => error.to_string(),
            };
            let refused = ReadError { offset, len: into.len(), kind: error.kind(), reason };
            self.refused.get_or_init(|| refused.clone());
            refused
        })
    }

    pub fn refused(&self) -> Option<&ReadError> {
        self.refused.get()
    }
}

/// Why bytes cannot be had.
#[derive(Debug)]
pub(crate) enum Fault {
    /// They are not what they should be.
    Data(String),
    /// Nobody knows what they are.
    Unread(ReadError),
}

impl Fault {
    pub fn of_frame(self, frame: usize) -> Damage {
        match self {
            Self::Data(what) => Damage { frame, what, unread: None },
            Self::Unread(error) => Damage { frame, what: error.to_string(), unread: Some(error) },
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Data(what) => to.write_str(what),
            Self::Unread(error) => error.fmt(to),
        }
    }
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Data(what)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Unread(error)
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.to_string()
    }
}
