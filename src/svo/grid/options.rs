// SPDX-License-Identifier: MPL-2.0

//! What is asked for of a grid, and every rule about it that needs no recording.

use std::time::Duration;

use crate::exit::Failure;
use crate::svo::options::{self, Encoding, EncodingOptions, Frames};

/// How groups become a picture, and which.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    encoding: EncodingOptions,
    /// Seconds from the common start of all cameras [default: to their common end]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    duration_seconds: Option<f64>,
    /// Size of a tile against that of the left view
    #[arg(long, value_name = "F", default_value_t = 0.5, allow_negative_numbers = true)]
    tile_scale: f64,
    /// Tiles in a row, or as many as there are cameras where that is less [default: 2 of four cameras, all of fewer]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    columns: Option<u32>,
    /// A frame is no further than this from the time of its group [default: one interval of the slowest camera]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    sync_tolerance_ms: Option<f64>,
    /// First synced group, counted from 0 at the common start
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    start_frame: Option<usize>,
    /// Last synced group, which is in the file too [default: the last of the segment]
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    end_frame: Option<usize>,
    /// Replace a file that has the output's name
    #[arg(long)]
    overwrite: bool,
}

/// What will be done to each segment.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Which groups.
    pub frames: Frames,
    /// From the common start; `None`: to the common end.
    pub duration: Option<Duration>,
    /// Size of a tile against that of the left view.
    pub tile_scale: f64,
    /// Tiles in a row.
    pub columns: Option<u32>,
    /// How far a frame may be from its group, in ns; one interval of the slowest camera at most.
    pub tolerance_ns: u64,
    /// How the grid is encoded.
    pub encoding: Encoding,
    /// A file of the output's name is replaced.
    pub overwrite: bool,
}

impl Grid {
    pub(super) fn duration_ns(&self) -> Option<u64> {
        self.duration.map(super::plan::ns)
    }
}

impl Options {
    /// Turns the options into what will be done.
    ///
    /// # Errors
    /// A usage [`Failure`] that names the flag and the rule.
    pub fn resolve(&self) -> Result<Grid, Failure> {
        let wrong = |flag: &str, value: f64, rule: &str| Failure::usage(format!("{flag} {value}: {rule}"));
        let duration = |seconds: f64| {
            let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero());
            duration.ok_or_else(|| wrong("--duration-seconds", seconds, "it has to be more than 0"))
        };
        let scale = self.tile_scale;
        if !scale.is_finite() || scale <= 0.0 {
            return Err(wrong("--tile-scale", scale, "it has to be more than 0; 0.5 is half the size"));
        }
        Ok(Grid {
            frames: Frames::new(self.start_frame, self.end_frame)?,
            duration: self.duration_seconds.map(duration).transpose()?,
            tile_scale: scale,
            columns: self.columns,
            tolerance_ns: options::tolerance_ns(self.sync_tolerance_ms)?.unwrap_or(u64::MAX),
            encoding: self.encoding.resolve()?,
            overwrite: self.overwrite,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn resolved(line: &str) -> Result<Grid, String> {
        let words = std::iter::once("svo-grid-to-mp4").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.options.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn flags_have_units() {
        let grid = resolved("").unwrap();
        assert_eq!((grid.tile_scale, grid.duration, grid.tolerance_ns), (0.5, None, u64::MAX));
        let grid = resolved("--duration-seconds 1.5 --sync-tolerance-ms 12.5").unwrap();
        assert_eq!((grid.duration_ns(), grid.tolerance_ns), (Some(1_500_000_000), 12_500_000));
        assert_eq!(resolved("--sync-tolerance-ms 0").unwrap().tolerance_ns, 0);
    }

    #[test]
    fn what_cannot_work_names_the_flag_and_the_rule() {
        for line in [
            "--duration-seconds 0",
            "--duration-seconds -1",
            "--duration-seconds nan",
            "--duration-seconds inf",
            "--duration-seconds 1e-30",
            "--tile-scale 0",
            "--tile-scale -0.5",
            "--tile-scale inf",
            "--sync-tolerance-ms -1",
            "--sync-tolerance-ms nan",
            "--columns -2",
            "--columns 0",
            "--start-frame 5 --end-frame 4",
        ] {
            let error = resolved(line).expect_err(line);
            assert!(error.contains(line.split(' ').next().unwrap()), "{line}: {error}");
        }
    }
}
