// SPDX-License-Identifier: MPL-2.0

//! What is asked for, and every rule about it.

use std::path::PathBuf;

use clap::ValueEnum;
use svo2::group::CopyRange;

use crate::exit::Failure;
use crate::mcap::Compression;
use crate::svo::options::{self, Encoding, EncodingOptions, Frames};

/// Which pictures of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// The left one, encoded
    Left,
    /// Both as they were recorded, without decoding where the recording's bitstream can serve
    SideBySide,
}

impl View {
    /// As zedsvosrc and users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::SideBySide => "side-by-side",
        }
    }
}

/// Which frames of several cameras.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Per frame of the slowest camera, the nearest of each other one
    Nearest,
    /// Complete groups only, all frames of which are within the tolerance
    Strict,
    /// No groups: each camera's frames with their own times
    Copy,
}

impl Policy {
    /// As users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Strict => "strict",
            Self::Copy => "copy",
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CopyRangeName {
    /// While all cameras have frames
    Common,
    /// All frames
    Full,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressionName {
    None,
    Lz4,
    Zstd,
}

/// What goes into an MCAP file.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which pictures
    #[arg(long, value_enum, default_value = "left")]
    view: View,
    /// How frames of several cameras are put together [default: nearest]
    #[arg(long, alias = "bundle-policy", value_enum)]
    policy: Option<Policy>,
    /// How far a frame may be from the time of its group, with --policy strict from any other of it [default: an interval of the slowest camera, of strict half of one]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    sync_tolerance_ms: Option<f64>,
    /// Which frames of several cameras, with --policy copy [default: common]
    #[arg(long, value_enum)]
    copy_range: Option<CopyRangeName>,
    /// Of the file's chunks
    #[arg(long, value_enum, default_value = "zstd")]
    mcap_compression: CompressionName,
    /// First group of frames, counted from the common start; of one camera, its first frame
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    start_frame: Option<usize>,
    /// Last group of frames, or frame, which is in the file too
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    end_frame: Option<usize>,
    #[command(flatten)]
    encoding: EncodingOptions,
    /// Factory calibration SN<serial>.conf, or a folder of such; repeated for several cameras
    #[arg(long, value_name = "FILE")]
    calibration: Vec<PathBuf>,
    /// Replace a file that has the output's name
    #[arg(long)]
    overwrite: bool,
    /// The camera's pose; needs the ZED SDK
    #[arg(long)]
    with_pose: bool,
    /// Settings of the pose; needs the ZED SDK
    #[arg(long, value_name = "FILE")]
    pose_config: Option<PathBuf>,
    /// Depth; needs the ZED SDK
    #[arg(long)]
    with_depth: bool,
    /// How depth is computed; needs the ZED SDK
    #[arg(long, value_name = "MODE")]
    depth_mode: Option<String>,
}

/// What will be done.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// Which pictures.
    pub view: View,
    /// `None`: the nearest of several cameras, and all frames of one.
    pub policy: Option<Policy>,
    /// How far frames of a group may be apart, in ns; `None`: by the cameras' rate.
    pub tolerance_ns: Option<u64>,
    /// Without groups.
    pub range: CopyRange,
    /// Of chunks.
    pub compression: Compression,
    /// Groups, or of one camera frames.
    pub frames: Frames,
    /// Where something is encoded.
    pub encoding: Encoding,
    /// The encoding's codec was asked for: a recording of the other one is not copied.
    pub codec_is_given: bool,
    /// Files and folders.
    pub calibrations: Vec<PathBuf>,
    /// A file of the output's name is replaced.
    pub overwrite: bool,
}

impl Options {
    /// Turns the options into what will be done.
    ///
    /// # Errors
    /// A usage [`Failure`] that names the flag and the rule.
    pub fn resolve(&self) -> Result<Conversion, Failure> {
        self.refuse_what_needs_the_sdk()?;
        let frames = Frames::new(self.start_frame, self.end_frame)?;
        let grouped = self.policy != Some(Policy::Copy);
        if self.sync_tolerance_ms.is_some() && !grouped {
            return Err(Failure::usage(
                "--sync-tolerance-ms: --policy copy makes no groups whose frames could be apart; leave one out",
            ));
        }
        if self.copy_range.is_some() && grouped {
            return Err(Failure::usage(
                "--copy-range: it is about --policy copy; groups are made in the common window",
            ));
        }
        Ok(Conversion {
            view: self.view,
            policy: self.policy,
            tolerance_ns: options::tolerance_ns(self.sync_tolerance_ms)?,
            range: match self.copy_range {
                None | Some(CopyRangeName::Common) => CopyRange::Common,
                Some(CopyRangeName::Full) => CopyRange::Full,
            },
            compression: match self.mcap_compression {
                CompressionName::None => Compression::None,
                CompressionName::Lz4 => Compression::Lz4,
                CompressionName::Zstd => Compression::Zstd,
            },
            frames,
            encoding: self.encoding.resolve()?,
            codec_is_given: self.encoding.codec().is_some(),
            calibrations: self.calibration.clone(),
            overwrite: self.overwrite,
        })
    }

    fn refuse_what_needs_the_sdk(&self) -> Result<(), Failure> {
        let flags = [
            ("--with-pose", self.with_pose),
            ("--pose-config", self.pose_config.is_some()),
            ("--with-depth", self.with_depth),
            ("--depth-mode", self.depth_mode.is_some()),
        ];
        let given: Vec<&str> = flags.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{}: pose and depth are computed by the ZED SDK, which this program is built without; leave the flags out, \
             and video, calibration, IMU and groups are exported",
            given.join(", ")
        )))
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

    fn resolved(line: &str) -> Result<Conversion, String> {
        let words = std::iter::once("svo-to-mcap").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.options.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_page() {
        let conversion = resolved("").unwrap();
        assert_eq!((conversion.view, conversion.policy), (View::Left, None));
        assert_eq!((conversion.tolerance_ns, conversion.range), (None, CopyRange::Common));
        assert_eq!(conversion.compression, Compression::Zstd);
        assert!(!conversion.codec_is_given && !conversion.overwrite);
        let conversion = resolved("--policy strict --sync-tolerance-ms 12.5 --codec h264").unwrap();
        assert_eq!((conversion.policy, conversion.tolerance_ns), (Some(Policy::Strict), Some(12_500_000)));
        assert!(conversion.codec_is_given);
        assert_eq!(resolved("--policy copy --copy-range full").unwrap().range, CopyRange::Full);
    }

    #[test]
    fn what_cannot_work_names_the_flag_and_the_rule() {
        for (line, parts) in [
            ("--start-frame 5 --end-frame 4", ["--start-frame 5", "after --end-frame 4"]),
            ("--policy copy --sync-tolerance-ms 5", ["--sync-tolerance-ms", "--policy copy"]),
            ("--copy-range full", ["--copy-range", "--policy copy"]),
            ("--policy strict --copy-range common", ["--copy-range", "--policy copy"]),
            ("--sync-tolerance-ms -1", ["--sync-tolerance-ms -1", "0 to 86400000"]),
            ("--sync-tolerance-ms NaN", ["--sync-tolerance-ms NaN", "milliseconds"]),
            ("--policy fuzzy", ["--policy", "nearest, strict, copy"]),
            ("--view right", ["--view", "left, side-by-side"]),
            ("--mcap-compression gzip", ["--mcap-compression", "none, lz4, zstd"]),
            ("--with-pose --pose-config a.toml", ["--with-pose, --pose-config: ", "ZED SDK"]),
            ("--with-depth --depth-mode neural", ["--with-depth, --depth-mode: ", "ZED SDK"]),
        ] {
            let error = resolved(line).expect_err(line);
            assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
        }
    }
}
