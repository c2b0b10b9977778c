// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer svo-to-mcap`: recordings of one camera, or of several of a segment, into one MCAP file.
//!
//! - [`options`]: what is asked for, and every rule about it;
//! - [`convert`]: the conversion, for whoever has one or many;
//! - [`plan`]: which frames of which camera, and the groups they form; made of the indexes, before anything is read;
//! - [`feed`]: access units of one camera, one after the other: [`copied`] as they were recorded, or [`encoded`];
//! - [`lane`]: all that one camera has, in the order of its times; [`merge`]: all cameras, in theirs; [`out`]: the file;
//! - [`calibration`]: factory calibrations, found by the cameras' serial numbers;
//! - [`report`]: what came of it.

pub mod calibration;
pub mod convert;
pub mod copied;
pub mod encoded;
pub mod feed;
pub mod lane;
pub mod merge;
pub mod options;
pub mod out;
pub mod plan;
pub mod report;

use std::path::PathBuf;

use self::options::Options;
use super::progress;
use super::segment::Segment;
use crate::exit::Failure;
use crate::{run, tell};

/// Export ZED recordings to MCAP: one camera, or all of a segment with the groups that their frames form.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// The MCAP file [default: NAME.mcap beside NAME.svo2; SEGMENT/SEGMENT.mcap of several cameras]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Print one JSON line on stdout when it is done
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Inputs {
    /// A recording, .svo2; repeated for several cameras of the same time
    #[arg(long, value_name = "FILE")]
    input: Vec<PathBuf>,
    /// A folder with recordings SEGMENT_zed1.svo2, SEGMENT_zed2.svo2, ...
    #[arg(long, value_name = "DIR")]
    segment_dir: Option<PathBuf>,
}

impl Args {
    fn segment(&self) -> Result<Segment, Failure> {
        match &self.inputs.segment_dir {
            Some(folder) => Segment::read(folder),
            None => Segment::of_inputs(&self.inputs.input),
        }
    }

    fn output(&self, segment: &Segment) -> PathBuf {
        match (&self.output, self.inputs.input.as_slice()) {
            (Some(output), _) => output.clone(),
            (None, [input]) => input.with_extension("mcap"),
            (None, _) => segment.output(SUFFIX),
        }
    }
}

/// What the file is called behind the name of its segment.
pub const SUFFIX: &str = ".mcap";

/// Converts; SIGINT and SIGTERM end it, and what is written by then stays as `NAME.mcap.interrupted`.
///
/// # Errors
/// A [`Failure`] whose exit code says what went wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    let conversion = args.options.resolve()?;
    let segment = args.segment()?;
    let output = args.output(&segment);
    run::register_elements()?;
    let done = progress::told(&output, |control| convert::convert(&segment, &output, &conversion, control))?;
    tell::talk(done.text());
    if args.json {
        tell::result(done.json());
    }
    Ok(())
}
