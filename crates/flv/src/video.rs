// SPDX-License-Identifier: MPL-2.0

//! The first bytes of a video tag's body, in three dialects.

use crate::tag::BodyHeader;
use crate::{Unsupported, VideoCodec};

/// How a codec is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// H.264 as codec id 7.
    Avc,
    /// H.265 as codec id 12, in the layout of codec id 7.
    Domestic,
    /// H.265 as FourCC `hvc1` (Enhanced RTMP).
    Enhanced,
}

/// FourCC of H.265 with its parameter sets out of band.
pub const HVC1: [u8; 4] = *b"hvc1";
/// The largest composition time, in milliseconds: SI24.
pub const MAX_COMPOSITION_MS: i32 = (1 << 23) - 1;

/// What a video tag's body is, beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoPacket {
    /// The payload is a decoder configuration record.
    SequenceHeader,
    /// The payload is an access unit of length-prefixed NAL units.
    Frame {
        /// A decoder can begin here.
        key: bool,
        /// Presentation time minus decoding time in milliseconds, SI24.
        composition_ms: i32,
    },
    /// Nothing follows; there is no payload.
    SequenceEnd,
}

mod enhanced {
    pub const IS_EX_HEADER: u8 = 0x80;
    pub const SEQUENCE_START: u8 = 0;
    pub const CODED_FRAMES: u8 = 1;
    pub const SEQUENCE_END: u8 = 2;
    pub const CODED_FRAMES_X: u8 = 3;
}

const KEY: u8 = 1;
const INTER: u8 = 2;

impl Dialect {
    /// The codec of this dialect.
    pub const fn codec(self) -> VideoCodec {
        match self {
            Self::Avc => VideoCodec::H264,
            Self::Domestic | Self::Enhanced => VideoCodec::H265,
        }
    }

    /// `videocodecid` in onMetaData; the FourCC is read big-endian (a little-endian one makes ZLMediaKit misread it).
    pub const fn codec_id(self) -> u32 {
        match self {
            Self::Avc => 7,
            Self::Domestic => 12,
            Self::Enhanced => u32::from_be_bytes(HVC1),
        }
    }

    /// What stands before the payload. The caller keeps `composition_ms` within SI24.
    pub fn header(self, packet: VideoPacket) -> BodyHeader {
        let (key, composition_ms) = match packet {
            VideoPacket::Frame { key, composition_ms } => (key, composition_ms),
            VideoPacket::SequenceHeader | VideoPacket::SequenceEnd => (true, 0),
        };
        let frame_type = if key { KEY } else { INTER } << 4;
        let [_, c2, c1, c0] = composition_ms.to_be_bytes();
        if self != Self::Enhanced {
            let packet_type = match packet {
                VideoPacket::SequenceHeader => 0,
                VideoPacket::Frame { .. } => 1,
                VideoPacket::SequenceEnd => 2,
            };
            return BodyHeader::new([frame_type | self.codec_id() as u8, packet_type, c2, c1, c0]);
        }
        let first = |packet_type| enhanced::IS_EX_HEADER | frame_type | packet_type;
        let [f0, f1, f2, f3] = HVC1;
        match packet {
            VideoPacket::SequenceHeader => BodyHeader::new([first(enhanced::SEQUENCE_START), f0, f1, f2, f3]),
            VideoPacket::SequenceEnd => BodyHeader::new([first(enhanced::SEQUENCE_END), f0, f1, f2, f3]),
            VideoPacket::Frame { composition_ms: 0, .. } => {
                BodyHeader::new([first(enhanced::CODED_FRAMES_X), f0, f1, f2, f3])
            }
            VideoPacket::Frame { .. } => {
                BodyHeader::new([first(enhanced::CODED_FRAMES), f0, f1, f2, f3, c2, c1, c0])
            }
        }
    }

    /// Reads the beginning of a body (eight bytes are enough of it); also tells where the payload begins.
    pub fn parse(body: &[u8]) -> Result<(Self, VideoPacket, usize), Unsupported> {
        let short = Unsupported::Short(body.len());
        let first = *body.first().ok_or(short)?;
        let frame_type = first >> 4 & 7;
        // 3 (disposable) is an inter frame and 4 (made by a server) a key frame.
        let key = match frame_type {
            1 | 4 => true,
            2 | 3 => false,
            other => return Err(Unsupported::FrameType(other)),
        };
        if first & enhanced::IS_EX_HEADER == 0 {
            let dialect = match first & 0xf {
                7 => Self::Avc,
                12 => Self::Domestic,
                other => return Err(Unsupported::VideoCodec(other)),
            };
            let &[_, packet_type, c2, c1, c0] = body.first_chunk().ok_or(short)?;
            let packet = match packet_type {
                0 => VideoPacket::SequenceHeader,
                1 => VideoPacket::Frame { key, composition_ms: si24([c2, c1, c0]) },
                2 => VideoPacket::SequenceEnd,
                other => return Err(Unsupported::VideoPacket(other)),
            };
            return Ok((dialect, packet, 5));
        }
        let packet_type = first & 0xf;
        // Metadata (4), MPEG-2 TS (5), Multitrack (6) and ModEx (7) have layouts of their own.
        if packet_type > enhanced::CODED_FRAMES_X {
            return Err(Unsupported::VideoPacket(packet_type));
        }
        let &[_, fourcc @ ..] = body.first_chunk::<5>().ok_or(short)?;
        if fourcc != HVC1 {
            return Err(Unsupported::FourCc(fourcc));
        }
        match packet_type {
            enhanced::SEQUENCE_START => Ok((Self::Enhanced, VideoPacket::SequenceHeader, 5)),
            enhanced::SEQUENCE_END => Ok((Self::Enhanced, VideoPacket::SequenceEnd, 5)),
            enhanced::CODED_FRAMES_X => {
                Ok((Self::Enhanced, VideoPacket::Frame { key, composition_ms: 0 }, 5))
            }
            _ => {
                let &[_, _, _, _, _, c2, c1, c0] = body.first_chunk().ok_or(short)?;
                let packet = VideoPacket::Frame { key, composition_ms: si24([c2, c1, c0]) };
                Ok((Self::Enhanced, packet, 8))
            }
        }
    }
}

const fn si24([c2, c1, c0]: [u8; 3]) -> i32 {
    i32::from_be_bytes([c2, c1, c0, 0]) >> 8
}
