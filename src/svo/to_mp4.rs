// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer svo-to-mp4`.

use std::path::PathBuf;

use super::options::Options;
use super::{convert, progress};
use crate::exit::Failure;
use crate::{run, tell};

/// Convert a ZED recording to MP4: its left view, or both side by side without decoding.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recording, .svo2
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The MP4 file [default: NAME.mp4 beside NAME.svo2]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Print one JSON line on stdout when it is done
    #[arg(long)]
    json: bool,
}

/// Converts one recording; SIGINT and SIGTERM end it, and nothing stays behind.
///
/// # Errors
/// A [`Failure`] whose exit code says what went wrong.
pub fn run(args: &Args) -> Result<(), Failure> {
    let conversion = args.options.resolve()?;
    let output = args.output.clone().unwrap_or_else(|| convert::default_output(&args.input));
    run::register_elements()?;
    let done =
        progress::told(&output, |control| convert::convert(&args.input, &output, &conversion, control))?;
    tell::talk(done.text());
    if args.json {
        tell::result(done.json());
    }
    Ok(())
}
