// SPDX-License-Identifier: MPL-2.0

//! What a recording's bitstream says of itself: codec, picture size, and where decoding can begin.

use std::fmt;
use std::io::Cursor;

use memchr::memmem;

/// Codec of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, AVC.
    H264,
    /// H.265, HEVC.
    H265,
}

impl Codec {
    /// `h264` or `h265`.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
        })
    }
}

/// What a frame is to a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It needs frames before it.
    Delta,
    /// Decoding can begin here, and pictures are right from `recovers_after` frames later on: 0 but with intra refresh.
    Entry {
        /// Frames until the picture is whole.
        recovers_after: u16,
    },
}

/// NAL units of Annex B bytes, without their start codes; trailing zeros belong to none.
pub fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const START: &[u8] = &[0, 0, 1];
    let mut rest = memmem::find(bytes, START).map(|at| &bytes[at + START.len()..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let next = memmem::find(unit, START);
        rest = next.map(|at| &unit[at + START.len()..]);
        let unit = &unit[..next.unwrap_or(unit.len())];
        let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(&unit[..end])
    })
}

/// Whether the bytes begin with an Annex B start code.
pub fn starts(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0, 0, 1]) || bytes.starts_with(&[0, 0, 0, 1])
}

/// The codec of a frame, by its first NAL units; `None` where they do not tell.
pub fn detect(frame: &[u8]) -> Option<Codec> {
    if !starts(frame) {
        return None;
    }
    units(frame).find_map(|unit| {
        let &[first, second, ..] = unit else { return None };
        // H.265 headers: forbidden bit, 6 bits of type, layer 0, temporal id + 1. VPS, SPS and PPS have layer 0, id 1.
        if matches!(hevc_type(first), 32..=34) && first & 0x81 == 0 && second == 1 {
            return Some(Codec::H265);
        }
        (matches!(avc_type(first), 7 | 8) && first & 0x80 == 0).then_some(Codec::H264)
    })
}

/// What a frame is to a decoder.
///
/// `None`: the bytes end before the first slice, or are no access unit of the codec.
pub fn kind(codec: Codec, frame: &[u8]) -> Option<Kind> {
    if !starts(frame) {
        return None;
    }
    let mut recovers_after = None;
    for unit in units(frame) {
        let &first = unit.first()?;
        if first & 0x80 != 0 {
            return None;
        }
        match codec {
            Codec::H264 => match avc_type(first) {
                5 => return Some(Kind::Entry { recovers_after: 0 }),
                1..=4 => return Some(recovers_after.map_or(Kind::Delta, entry)),
                6 => recovers_after = recovers_after.or_else(|| recovery_point(codec, &unit[1..])),
                _ => {}
            },
            Codec::H265 => match hevc_type(first) {
                // BLA, IDR and CRA.
                16..=21 => return Some(Kind::Entry { recovers_after: 0 }),
                0..=31 => return Some(recovers_after.map_or(Kind::Delta, entry)),
                39 if unit.len() > 2 => {
                    recovers_after = recovers_after.or_else(|| recovery_point(codec, &unit[2..]));
                }
                _ => {}
            },
        }
    }
    None
}

fn entry(recovers_after: u16) -> Kind {
    Kind::Entry { recovers_after }
}

/// Width and height in pixels of the cropped picture, by the first sequence parameter set.
pub fn picture_size(codec: Codec, frame: &[u8]) -> Option<(u32, u32)> {
    let (width, height) = match codec {
        Codec::H264 => {
            let unit = units(frame).find(|unit| unit.first().is_some_and(|&first| avc_type(first) == 7))?;
            let sps = scuffle_h264::Sps::parse_with_emulation_prevention(Cursor::new(unit)).ok()?;
            (sps.width(), sps.height())
        }
        Codec::H265 => {
            let unit = units(frame).find(|unit| unit.first().is_some_and(|&first| hevc_type(first) == 33))?;
            let sps = scuffle_h265::SpsNALUnit::parse(Cursor::new(unit)).ok()?.rbsp;
            (sps.cropped_width(), sps.cropped_height())
        }
    };
    Some((u32::try_from(width).ok()?, u32::try_from(height).ok()?))
}

fn avc_type(first: u8) -> u8 {
    first & 0x1f
}

fn hevc_type(first: u8) -> u8 {
    first >> 1 & 0x3f
}

/// `recovery_frame_cnt` (H.264) or `recovery_poc_cnt` (H.265) of the messages of a supplemental enhancement information
/// unit; both count frames where nothing is reordered.
fn recovery_point(codec: Codec, messages: &[u8]) -> Option<u16> {
    const RECOVERY_POINT: usize = 6;
    let messages = without_emulation_prevention(messages);
    let mut rest = messages.as_slice();
    // What is left in the end are the trailing bits.
    while rest.len() > 2 {
        let (kind, after) = extended(rest)?;
        let (size, after) = extended(after)?;
        let body = after.get(..size)?;
        if kind == RECOVERY_POINT {
            let code = exp_golomb(body)?;
            let frames = match codec {
                Codec::H264 => code,
                // Signed, odd codes are positive; below 0 the picture is right already.
                Codec::H265 if code % 2 == 1 => code / 2 + 1,
                Codec::H265 => 0,
            };
            return Some(u16::try_from(frames).unwrap_or(u16::MAX));
        }
        rest = &after[size..];
    }
    None
}

/// A number of which each 255 says that more follows.
fn extended(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let more = bytes.iter().take_while(|&&byte| byte == 0xff).count();
    let last = *bytes.get(more)?;
    Some((more * 255 + usize::from(last), &bytes[more + 1..]))
}

/// The first Exp-Golomb code.
fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let bit = |at: usize| bytes.get(at / 8).map(|byte| u32::from(byte >> (7 - at % 8) & 1));
    let zeros = (0..32).take_while(|&at| bit(at) == Some(0)).count();
    let mut value = 0u32;
    for at in zeros..=2 * zeros {
        value = value.checked_mul(2)?.checked_add(bit(at)?)?;
    }
    value.checked_sub(1)
}

fn without_emulation_prevention(bytes: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    bytes
        .iter()
        .copied()
        .filter(|&byte| {
            let prevents = zeros >= 2 && byte == 3;
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            !prevents
        })
        .collect()
}
