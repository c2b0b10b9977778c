// SPDX-License-Identifier: MPL-2.0

use std::io;

use crate::nal::Codec;

/// What to do about recordings that only the SDK can read.
const SDK: &str = "only the ZED SDK reads those; convert it there to H.264 or H.265";

/// Why a file cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing is in the file.
    #[error("the file is empty (0 bytes): was the recording ever started?")]
    EmptyFile,
    /// The file does not begin as MCAP does.
    #[error("the file begins with {found}, not as MCAP: it is no SVO2 recording")]
    NotMcap {
        /// Its first bytes, as hex.
        found: String,
    },
    /// SVO version 1.
    #[error("the file is an SVO version 1 recording, which is not MCAP: {SDK}, or re-record it as .svo2")]
    Version1,
    /// MCAP, and no video in it.
    #[error(
        "no topic 'Camera_SN<serial>/side_by_side' is in the file, but {topics}: it is no ZED recording, or one without video"
    )]
    NoVideo {
        /// The topics that are there.
        topics: String,
    },
    /// The topic of the video has no messages.
    #[error("the recording has no frame: topic '{topic}' is empty")]
    NoFrames {
        /// The topic of the video.
        topic: String,
    },
    /// Pictures of a kind that needs the SDK.
    #[error("the pictures are {found}: {SDK}")]
    NeedsSdk {
        /// `lossless (PNG)`, `lossless (ZSTD)` or `JPEG`.
        found: &'static str,
    },
    /// Neither H.264 nor H.265 nor anything else that is known.
    #[error("the first frames are neither H.264 nor H.265: the first begins with {found}")]
    UnknownCodec {
        /// The first bytes of the first frame, as hex.
        found: String,
    },
    /// The header is about other pictures.
    #[error(
        "the header says {header} and the {codec} bitstream {stream} (left and right side by side): \
         the header belongs to another recording"
    )]
    Disagree {
        /// Size in the header, `WIDTHxHEIGHT`.
        header: String,
        /// Size in the bitstream, `WIDTHxHEIGHT`.
        stream: String,
        /// Of the bitstream.
        codec: Codec,
    },
}

/// A frame, or what belongs to it, cannot be read; others may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame}: {what}")]
pub struct Damage {
    /// Index of the frame.
    pub frame: usize,
    /// What is wrong, with the values that show it.
    pub what: String,
}
