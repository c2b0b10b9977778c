// SPDX-License-Identifier: MPL-2.0

//! The file that a command makes of recordings.

use std::fmt::Display;
use std::fs::Metadata;
use std::path::Path;

use crate::exit::{Failure, configuration};
use crate::place::{Claimed, Existing};

/// Claims the file; `inputs` are what must not be overwritten.
///
/// # Errors
/// A [`Failure`] that names the flag, the file and the rule.
pub(super) fn claim(output: &Path, inputs: &[Metadata], overwrite: bool) -> Result<Claimed, Failure> {
    let existing = match overwrite {
        true => Existing::Replaced,
        false => Existing::Kept("it exists; --overwrite replaces it"),
    };
    Claimed::new(output, inputs, existing).map_err(|refused| Failure::output("--output", output, &refused))
}

/// What the system or the muxer says of the file, as what ends the command.
pub(super) fn failed(output: &Path, why: impl Display) -> Failure {
    configuration(format!("--output '{}': {why}", output.display()))
}

/// Why nothing was written.
pub(super) enum Wrong {
    /// What the system or the muxer says of the file, which it does not name.
    Output(String),
    /// All else names what it is about.
    Failed(Failure),
}

impl Wrong {
    pub fn output(why: impl Display) -> Self {
        Self::Output(why.to_string())
    }

    /// With the name of the file.
    pub fn of(self, output: &Path) -> Failure {
        match self {
            Self::Output(why) => failed(output, why),
            Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
