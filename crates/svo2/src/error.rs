// SPDX-License-Identifier: MPL-2.0

use std::io;

use crate::nal::Codec;

/// What to do about recordings that only the SDK can read.
const SDK: &str = "only the ZED SDK reads those: convert it with a tool of the SDK's to H.264 or H.265, or play it with the SDK";

/// Why a file cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a pipe or a device.
    #[error("it is no regular file: an SVO2 recording has to be one, since it is read from its end")]
    NotAFile,
    /// Nothing is in the file.
    #[error("the file is empty (0 bytes): was the recording ever started?")]
    EmptyFile,
    /// The file does not begin as MCAP does.
    #[error("it is no SVO2 recording, which would be an MCAP file: it begins with {found}")]
    NotMcap {
        /// Its first bytes, as hex and as text.
        found: String,
    },
    /// SVO version 1.
    #[error("it is an SVO recording of version 1, which is not MCAP: {SDK}, or record it anew as .svo2")]
    Version1,
    /// MCAP, and no video in it.
    #[error(
        "it is an MCAP file without a topic 'Camera_SN<serial>/side_by_side' (it has {topics}): \
         it is no ZED recording, or one that ended before its first frame"
    )]
    NoVideo {
        /// The topics that are there.
        topics: String,
    },
    /// The topic of the video has no messages.
    #[error(
        "the recording has no frame: nothing whole is in topic '{topic}'. Was it ended before the first?"
    )]
    NoFrames {
        /// The topic of the video.
        topic: String,
    },
    /// Pictures of a kind that needs the SDK.
    #[error("the pictures are {found}, not H.264 or H.265: {SDK}")]
    NeedsSdk {
        /// `lossless (PNG)`, `lossless (ZSTD)` or `JPEG`.
        found: &'static str,
    },
    /// Neither H.264 nor H.265 nor anything else that is known, or nothing that a decoder could begin with.
    #[error(
        "no parameter sets of H.264 or H.265 are in the first {looked_at} frames, so that nothing can be decoded: {found}"
    )]
    UnknownCodec {
        /// How many frames were looked at.
        looked_at: usize,
        /// What the first of them is.
        found: String,
    },
    /// The header is about other pictures.
    #[error(
        "the header says {header} and the {codec} bitstream {stream} (left and right side by side): one of them is \
         not of this recording. It was put together from two, or damaged: take the original file"
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
    /// Where the system did not read it: the data may be whole, and trying what follows is of no use.
    pub unread: Option<ReadError>,
}

/// The system does not read what a recording has: an error of the disk or the network, or a file that was cut short while
/// it was open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {offset} of the file cannot be read: {reason}")]
pub struct ReadError {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes were to be read.
    pub len: usize,
    /// The system's error; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where the file ends before.
    pub kind: io::ErrorKind,
    /// What the system says.
    pub reason: String,
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        Self::new(error.kind, error)
    }
}
