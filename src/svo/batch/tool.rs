// SPDX-License-Identifier: MPL-2.0

//! The commands that a batch can run, and what it has to know of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::probe::{self, mcap::Groups};
use crate::exit::Failure;
use crate::svo::convert::{self, Control};
use crate::svo::grid::{self, options::Grid};
use crate::svo::options::{Conversion, How, Options};
use crate::svo::segment::Segment;
use crate::svo::to_mcap::{self, options::Policy, options::View};

/// What the inputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Files, each of them by itself.
    Recordings,
    /// Folders with one recording of each camera.
    Segments,
}

/// What became of an input.
#[derive(Debug, Clone)]
pub struct Converted {
    /// For people.
    pub text: String,
    /// For machines, with `frames` and `bytes`.
    pub json: Value,
}

/// A command with its options.
pub trait Tool: Sync {
    /// As on the command line.
    fn name(&self) -> &'static str;

    /// What its inputs are.
    fn takes(&self) -> Takes;

    /// Whether outputs that are there are replaced, whatever they are.
    fn overwrites(&self) -> bool;

    /// What the output of an input is called.
    ///
    /// # Errors
    /// Why there can be none.
    fn output(&self, input: &Path) -> Result<PathBuf, Failure>;

    /// Looks into the output of an input to its end.
    ///
    /// # Errors
    /// Why it is not whole.
    fn probe(&self, input: &Path, output: &Path) -> Result<(), String>;

    /// Makes the output, in place of one that may be there where that `replaces` it.
    ///
    /// # Errors
    /// As the command itself.
    fn convert(
        &self,
        input: &Path,
        output: &Path,
        replaces: bool,
        control: &mut Control,
    ) -> Result<Converted, Failure>;
}

/// Options of a command.
pub trait Resolve {
    /// The command with these options; `threads` is what each of several at once may use of the machine.
    ///
    /// # Errors
    /// As the command itself.
    fn tool(&self, threads: Option<usize>) -> Result<Box<dyn Tool>, Failure>;
}

/// `svo-to-mp4`.
struct SvoToMp4(Conversion);

impl Resolve for Options {
    fn tool(&self, threads: Option<usize>) -> Result<Box<dyn Tool>, Failure> {
        let mut conversion = self.resolve()?;
        if let How::Encode(encoding) = &mut conversion.how {
            encoding.threads = threads;
        }
        Ok(Box::new(SvoToMp4(conversion)))
    }
}

impl Tool for SvoToMp4 {
    fn name(&self) -> &'static str {
        "svo-to-mp4"
    }

    fn takes(&self) -> Takes {
        Takes::Recordings
    }

    fn overwrites(&self) -> bool {
        self.0.overwrite
    }

    fn output(&self, input: &Path) -> Result<PathBuf, Failure> {
        Ok(convert::default_output(input))
    }

    fn probe(&self, _: &Path, output: &Path) -> Result<(), String> {
        probe::mp4::check(output)
    }

    fn convert(
        &self,
        input: &Path,
        output: &Path,
        replaces: bool,
        control: &mut Control,
    ) -> Result<Converted, Failure> {
        let conversion = Conversion { overwrite: replaces, ..self.0.clone() };
        let done = convert::convert(input, output, &conversion, control)?;
        Ok(Converted { text: done.text(), json: done.json() })
    }
}

/// `svo-grid-to-mp4`.
struct SvoGridToMp4(Grid);

impl Resolve for grid::options::Options {
    fn tool(&self, threads: Option<usize>) -> Result<Box<dyn Tool>, Failure> {
        let mut grid = self.resolve()?;
        grid.encoding.threads = threads;
        Ok(Box::new(SvoGridToMp4(grid)))
    }
}

impl Tool for SvoGridToMp4 {
    fn name(&self) -> &'static str {
        "svo-grid-to-mp4"
    }

    fn takes(&self) -> Takes {
        Takes::Segments
    }

    fn overwrites(&self) -> bool {
        self.0.overwrite
    }

    fn output(&self, input: &Path) -> Result<PathBuf, Failure> {
        Ok(Segment::read(input)?.output(grid::SUFFIX))
    }

    fn probe(&self, _: &Path, output: &Path) -> Result<(), String> {
        probe::mp4::check(output)
    }

    fn convert(
        &self,
        input: &Path,
        output: &Path,
        replaces: bool,
        control: &mut Control,
    ) -> Result<Converted, Failure> {
        let grid = Grid { overwrite: replaces, ..self.0.clone() };
        let done = grid::convert::convert(&Segment::read(input)?, output, &grid, control)?;
        Ok(Converted { text: done.text(), json: done.json() })
    }
}

/// `svo-to-mcap`.
struct SvoToMcap(to_mcap::options::Conversion);

impl Resolve for to_mcap::options::Options {
    fn tool(&self, threads: Option<usize>) -> Result<Box<dyn Tool>, Failure> {
        let mut conversion = self.resolve()?;
        conversion.encoding.threads = threads;
        Ok(Box::new(SvoToMcap(conversion)))
    }
}

impl Tool for SvoToMcap {
    fn name(&self) -> &'static str {
        "svo-to-mcap"
    }

    fn takes(&self) -> Takes {
        Takes::Segments
    }

    fn overwrites(&self) -> bool {
        self.0.overwrite
    }

    fn output(&self, input: &Path) -> Result<PathBuf, Failure> {
        Ok(Segment::read(input)?.output(to_mcap::SUFFIX))
    }

    fn probe(&self, input: &Path, output: &Path) -> Result<(), String> {
        let segment = Segment::read(input).map_err(|failure| failure.to_string())?;
        probe::mcap::check(
            output,
            match (segment.cameras.len(), self.0.policy, self.0.view) {
                (1, _, _) | (_, Some(Policy::Copy), _) => Groups::None,
                // Strict leaves out groups with a damaged frame, and not the other cameras' pictures of those.
                (_, Some(Policy::Strict), _) | (_, _, View::SideBySide) => Groups::Some,
                (_, _, View::Left) => Groups::Each,
            },
        )
    }

    fn convert(
        &self,
        input: &Path,
        output: &Path,
        replaces: bool,
        control: &mut Control,
    ) -> Result<Converted, Failure> {
        let conversion = to_mcap::options::Conversion { overwrite: replaces, ..self.0.clone() };
        let done = to_mcap::convert::convert(&Segment::read(input)?, output, &conversion, control)?;
        Ok(Converted { text: done.text(), json: done.json() })
    }
}
