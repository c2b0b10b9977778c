// SPDX-License-Identifier: MPL-2.0

//! What is asked for, and every rule about it.

use std::ops::RangeInclusive;

use clap::ValueEnum;

use crate::exit::{Failure, configuration};
use crate::run::plan::{Codec, candidates};

const NS_PER_MS: f64 = 1e6;
/// No camera's clock is that far off, in ms: a day.
const LONGEST_TOLERANCE_MS: f64 = 86_400_000.0;

/// Which encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// NVENC where it works, otherwise software
    Auto,
    /// NVENC, or nothing
    Nvidia,
    /// x264 or x265
    Software,
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nvidia => "nvidia",
            Self::Software => "software",
        }
    }
}

/// Time against size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Quickly, into larger files
    Fast,
    /// Between the two
    Balanced,
    /// Slowly, into smaller files that look better
    Quality,
}

/// How pictures are encoded, where they are.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EncodingOptions {
    /// Of what is encoded [default: h265]
    #[arg(long, value_enum)]
    codec: Option<Codec>,
    /// Which encoder [default: auto]
    #[arg(long, value_enum)]
    encoder_device: Option<Device>,
    /// Time against size [default: balanced]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Constant quality, 1 (best) to 50, as x264's and x265's CRF and NVENC's QP [default: 21, of h265 25]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=50))]
    quality: Option<u32>,
}

impl EncodingOptions {
    /// The codec, where one is asked for.
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Those that are given and mean nothing where nothing is encoded.
    fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--encoder-device", self.encoder_device.is_some()),
            ("--preset", self.preset.is_some()),
            ("--quality", self.quality.is_some()),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// With the defaults.
    ///
    /// # Errors
    /// A usage [`Failure`] that names the flag and the rule.
    pub fn resolve(&self) -> Result<Encoding, Failure> {
        let codec = self.codec.unwrap_or(Codec::H265);
        let device = self.encoder_device.unwrap_or(Device::Auto);
        Ok(Encoding {
            codec,
            candidates: candidates(device.name(), codec)?,
            preset: self.preset.unwrap_or(Preset::Balanced),
            quality: self.quality.unwrap_or(match codec {
                Codec::H264 => 21,
                Codec::H265 => 25,
            }),
            threads: None,
        })
    }
}

/// How frames become an MP4 file, and which.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    encoding: EncodingOptions,
    /// First frame, counted from 0
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    start_frame: Option<usize>,
    /// Last frame, which is in the file too [default: the last of the recording]
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    end_frame: Option<usize>,
    /// Both views side by side as they were recorded, without decoding: as fast as the disk
    #[arg(long)]
    copy: bool,
    /// Replace a file that has the output's name
    #[arg(long)]
    overwrite: bool,
}

/// What will be done to each recording.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// Which frames.
    pub frames: Frames,
    /// What becomes of them.
    pub how: How,
    /// A file of the output's name is replaced.
    pub overwrite: bool,
}

/// What becomes of the frames.
#[derive(Debug, Clone)]
pub enum How {
    /// They are copied, if they are of this codec.
    Copy(Option<Codec>),
    /// Their left view is encoded.
    Encode(Encoding),
}

/// How frames are encoded.
#[derive(Debug, Clone)]
pub struct Encoding {
    /// What the encoder puts out.
    pub codec: Codec,
    /// Element factories in the order they are tried.
    pub candidates: Vec<String>,
    /// Time against size.
    pub preset: Preset,
    /// 1 (best) to 50.
    pub quality: u32,
    /// How many threads a software encoder has; `None`: as many as it thinks fit.
    pub threads: Option<usize>,
}

/// The frames that are asked for, as they are counted in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frames {
    /// `None`: from the first that can be had.
    pub start: Option<usize>,
    /// `None`: to the last.
    pub end: Option<usize>,
}

impl Options {
    /// Turns the options into what will be done.
    ///
    /// # Errors
    /// A usage [`Failure`] that names the flag and the rule.
    pub fn resolve(&self) -> Result<Conversion, Failure> {
        let frames = Frames::new(self.start_frame, self.end_frame)?;
        Ok(Conversion { frames, how: self.how()?, overwrite: self.overwrite })
    }

    fn how(&self) -> Result<How, Failure> {
        if !self.copy {
            return Ok(How::Encode(self.encoding.resolve()?));
        }
        let given = self.encoding.given();
        if !given.is_empty() {
            let given = given.join(", ");
            return Err(Failure::usage(format!("{given}: nothing is encoded with --copy; leave one out")));
        }
        Ok(How::Copy(self.encoding.codec))
    }
}

impl Frames {
    /// Those that are asked for.
    ///
    /// # Errors
    /// A usage [`Failure`] where the end is before the start.
    pub fn new(start: Option<usize>, end: Option<usize>) -> Result<Self, Failure> {
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(Failure::usage(format!(
                "--start-frame {start}: it is after --end-frame {end}; both are in the file"
            )));
        }
        Ok(Self { start, end })
    }

    /// Those of a recording that has `count`, one or more.
    ///
    /// # Errors
    /// A [`Failure`] that says which frames there are.
    pub fn within(self, count: usize) -> Result<RangeInclusive<usize>, Failure> {
        self.within_all(count, |count, last| format!("the recording has {count} frames, 0 to {last}"))
    }

    /// The same of other things that are counted; `told` says how many there are, and the last.
    ///
    /// # Errors
    /// A [`Failure`] that says which there are.
    pub fn within_all(
        self,
        count: usize,
        told: impl Fn(usize, usize) -> String,
    ) -> Result<RangeInclusive<usize>, Failure> {
        let last = count - 1;
        for (flag, frame) in [("--start-frame", self.start), ("--end-frame", self.end)] {
            if let Some(frame) = frame.filter(|&frame| frame > last) {
                return Err(configuration(format!("{flag} {frame}: {}", told(count, last))));
            }
        }
        Ok(self.start.unwrap_or(0)..=self.end.unwrap_or(last))
    }
}

/// What `--sync-tolerance-ms` says, in ns.
///
/// # Errors
/// A usage [`Failure`] with the rule.
pub(super) fn tolerance_ns(ms: Option<f64>) -> Result<Option<u64>, Failure> {
    let ns = |ms: f64| match (0.0..=LONGEST_TOLERANCE_MS).contains(&ms) {
        true => Ok((ms * NS_PER_MS).round() as u64),
        false => Err(Failure::usage(format!(
            "--sync-tolerance-ms {ms}: it is a number of milliseconds, 0 to {LONGEST_TOLERANCE_MS}"
        ))),
    };
    ms.map(ns).transpose()
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
        let words = std::iter::once("svo-to-mp4").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.options.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_older_program() {
        let conversion = resolved("").unwrap();
        let How::Encode(encoding) = conversion.how else { panic!("{conversion:?}") };
        assert_eq!((encoding.codec, encoding.quality), (Codec::H265, 25));
        assert_eq!(encoding.candidates, ["nvh265enc", "x265enc"]);
        assert_eq!(conversion.frames.within(10).unwrap(), 0..=9);
        assert!(!conversion.overwrite);
        let How::Encode(encoding) = resolved("--codec h264 --encoder-device nvidia").unwrap().how else {
            panic!("it is encoded")
        };
        assert_eq!((encoding.candidates, encoding.quality), (vec!["nvh264enc".to_owned()], 21));
    }

    #[test]
    fn what_cannot_work_names_the_flag_and_the_rule() {
        for (line, parts) in [
            ("--start-frame 5 --end-frame 4", ["--start-frame 5", "after --end-frame 4"]),
            ("--copy --preset fast --quality 20", ["--preset, --quality", "nothing is encoded with --copy"]),
            ("--copy --encoder-device auto", ["--encoder-device", "--copy"]),
            ("--quality 0", ["--quality", "0 is not in 1..=50"]),
            ("--quality -3", ["--quality", "-3 is not in 1..=50"]),
            ("--start-frame -1", ["--start-frame", "invalid digit"]),
            ("--preset slow", ["--preset", "fast, balanced, quality"]),
            ("--codec av1", ["--codec", "h264, h265"]),
        ] {
            let error = resolved(line).expect_err(line);
            assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
        }
    }

    #[test]
    fn frames_that_are_not_there_are_told_with_those_that_are() {
        let frames = |start, end| Frames { start, end };
        assert_eq!(frames(Some(3), Some(3)).within(4).unwrap(), 3..=3);
        for (frames, flag) in [
            (frames(Some(4), None), "--start-frame 4"),
            (frames(None, Some(9)), "--end-frame 9"),
            (frames(Some(0), Some(4)), "--end-frame 4"),
        ] {
            let error = frames.within(4).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("has 4 frames, 0 to 3"), "{error}");
        }
    }
}
