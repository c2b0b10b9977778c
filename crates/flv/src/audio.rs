// SPDX-License-Identifier: MPL-2.0

//! The first bytes of an audio tag's body: AAC and MP3.

use crate::Unsupported;
use crate::tag::BodyHeader;

/// What an audio tag's first byte says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioFormat {
    /// Sound format 10; rate and channels stand in the AudioSpecificConfig.
    Aac,
    /// Sound formats 2 and 14.
    Mp3 {
        /// Hz: 5512, 8000, 11025, 22050 or 44100.
        rate: u32,
        /// Two channels.
        stereo: bool,
    },
}

/// What an audio tag's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioPacket {
    /// An AudioSpecificConfig; AAC only.
    SequenceHeader,
    /// A frame.
    Frame,
}

/// The rates that MP3 in FLV can have, in Hz, by their code; 8000 is a sound format of its own.
const RATES: [u32; 4] = [5512, 11025, 22050, 44100];

impl AudioFormat {
    /// `audiocodecid` in onMetaData, which is the sound format.
    pub const fn codec_id(self) -> u8 {
        match self {
            Self::Aac => 10,
            Self::Mp3 { rate: 8000, .. } => 14,
            Self::Mp3 { .. } => 2,
        }
    }

    /// What stands before the payload; the rate code of a rate that FLV does not know is that of 44100 Hz.
    pub fn header(self, packet: AudioPacket) -> BodyHeader {
        let format = self.codec_id() << 4;
        match self {
            // Rate, size and channels are fixed for AAC, whatever the stream has.
            Self::Aac => BodyHeader::new([format | 0xf, (packet == AudioPacket::Frame) as u8]),
            Self::Mp3 { rate, stereo } => {
                let code = RATES.iter().position(|known| *known == rate).unwrap_or(3) as u8;
                BodyHeader::new([format | code << 2 | 2 | stereo as u8])
            }
        }
    }

    /// Reads the beginning of a body (two bytes are enough of it); also tells where the payload begins.
    pub fn parse(body: &[u8]) -> Result<(Self, AudioPacket, usize), Unsupported> {
        let first = *body.first().ok_or(Unsupported::Short(0))?;
        let stereo = first & 1 != 0;
        let rate = RATES[usize::from(first >> 2 & 3)];
        match first >> 4 {
            10 => match body.get(1) {
                Some(0) => Ok((Self::Aac, AudioPacket::SequenceHeader, 2)),
                Some(1) => Ok((Self::Aac, AudioPacket::Frame, 2)),
                Some(other) => Err(Unsupported::AudioPacket(*other)),
                None => Err(Unsupported::Short(1)),
            },
            2 => Ok((Self::Mp3 { rate, stereo }, AudioPacket::Frame, 1)),
            14 => Ok((Self::Mp3 { rate: 8000, stereo }, AudioPacket::Frame, 1)),
            other => Err(Unsupported::SoundFormat(other)),
        }
    }
}

/// Rate in Hz and number of channels of an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1), where it says them plainly.
pub fn aac_rate_and_channels(config: &[u8]) -> Option<(u32, u8)> {
    const RATES: [u32; 13] =
        [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
    let bits = |from: usize, count: usize| -> Option<u32> {
        (from..from + count).try_fold(0, |value, bit| {
            let byte = config.get(bit / 8)?;
            Some(value << 1 | u32::from(byte >> (7 - bit % 8) & 1))
        })
    };
    // Object type 31 is followed by six bits of the real one, rate index 15 by the rate itself.
    let index_at = if bits(0, 5)? == 31 { 11 } else { 5 };
    let (rate, channels_at) = match bits(index_at, 4)? {
        15 => (bits(index_at + 4, 24)?, index_at + 28),
        index => (*RATES.get(index as usize)?, index_at + 4),
    };
    match bits(channels_at, 4)? {
        channels @ 1..=6 => Some((rate, channels as u8)),
        7 => Some((rate, 8)),
        // 0: described by the stream itself.
        _ => None,
    }
}
