// SPDX-License-Identifier: MPL-2.0

//! FLV: tags, AMF0 metadata and decoder configuration records, read and written.
//!
//! Video is H.264 (codec id 7) or H.265 in one of two dialects: 'domestic' (codec id 12) and enhanced (FourCC `hvc1`).
//! Audio is AAC or MP3. Nothing here copies coded payload: a [`Envelope`] is what goes around it, and a
//! [`Framer`] says where it lies.
//!
//! Sources: the FLV 10.1 specification, Enhanced RTMP v1 and v2 (veovera), ISO/IEC 14496-15, AMF0.

#![forbid(unsafe_code)]

pub mod amf0;
pub mod audio;
pub mod config;
pub mod framer;
pub mod index;
pub mod interleave;
pub mod metadata;
pub mod tag;
pub mod timeline;
pub mod video;

pub use audio::{AudioFormat, AudioPacket};
pub use config::{ConfigError, VideoCodec};
pub use framer::{Damage, Framer, Step, Window};
pub use index::KeyFrameIndex;
pub use metadata::Metadata;
pub use tag::{Envelope, FileHeader, TagHeader, TagType};
pub use timeline::{Stamp, Timeline};
pub use video::{Dialect, VideoPacket};

/// What a tag cannot be read as; the tag is skipped whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unsupported {
    /// The body ends within its own header.
    #[error("a body of {0} bytes ends within its header")]
    Short(usize),
    /// A legacy video codec id other than 7 and 12.
    #[error("video codec id {0} is neither 7 (H.264) nor 12 (H.265)")]
    VideoCodec(u8),
    /// An enhanced tag's FourCC other than `hvc1`.
    #[error("FourCC {} is not hvc1", .0.escape_ascii())]
    FourCc([u8; 4]),
    /// A packet type that holds no frames of one track.
    #[error("video packet type {0} holds no frames of a single track")]
    VideoPacket(u8),
    /// A frame type that is no picture (5 is a command to the player).
    #[error("video frame type {0} is not a picture")]
    FrameType(u8),
    /// A sound format other than 10, 2 and 14.
    #[error("sound format {0} is neither 10 (AAC) nor 2 or 14 (MP3)")]
    SoundFormat(u8),
    /// An AAC packet type other than 0 and 1.
    #[error("AAC packet type {0} is neither 0 (configuration) nor 1 (frame)")]
    AudioPacket(u8),
}
