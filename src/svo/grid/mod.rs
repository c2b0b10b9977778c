// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer svo-grid-to-mp4`: several cameras in one picture.
//!
//! - [`options`]: what is asked for, and every rule about it;
//! - [`convert`]: one segment into one file, for whoever has one or many;
//! - `plan`: which frame is in which picture; [`layout`]: where;
//! - `compose`: the pictures, of what `cameras` decode; `canvas`: what is drawn on them.

mod cameras;
mod canvas;
mod compose;
pub mod convert;
pub mod layout;
pub mod options;
mod plan;

use std::path::PathBuf;

use self::options::Options;
use super::progress;
use super::segment::Segment;
use crate::exit::Failure;
use crate::{run, tell};

/// Convert the recordings of a segment to one MP4: synced frames of several cameras in one picture.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder with SEGMENT_zed1.svo2, SEGMENT_zed2.svo2, ...
    #[arg(long, value_name = "DIR", required_unless_present = "input")]
    segment_dir: Option<PathBuf>,
    /// A recording, .svo2; once for each camera, from the left to the right and row by row
    #[arg(long, value_name = "FILE", conflicts_with = "segment_dir")]
    input: Vec<PathBuf>,
    /// The MP4 file [default: SEGMENT_grid.mp4 beside the recordings]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Print one JSON line on stdout when it is done
    #[arg(long)]
    json: bool,
}

/// What a grid is called behind the name of its segment.
pub const SUFFIX: &str = "_grid.mp4";

/// Converts one segment; SIGINT and SIGTERM end it, and nothing stays behind.
///
/// # Errors
/// A [`Failure`] whose exit code says what went wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    let grid = args.options.resolve()?;
    let segment = match &args.segment_dir {
        Some(folder) => Segment::read(folder)?,
        None => Segment::of_inputs(&args.input)?,
    };
    let output = args.output.clone().unwrap_or_else(|| segment.output(SUFFIX));
    run::register_elements()?;
    let done = progress::told(&output, |control| convert::convert(&segment, &output, &grid, control))?;
    tell::talk(done.text());
    if args.json {
        tell::result(done.json());
    }
    Ok(())
}
