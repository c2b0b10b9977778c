// SPDX-License-Identifier: MPL-2.0

//! What the receivers know of NAL units: their headers. Written from the H.264 and H.265 specifications alone, since
//! the judges share no code with the writers they judge.

use std::fmt;

use clap::ValueEnum;

/// The two codecs that are streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// AVC
    H264,
    /// HEVC
    H265,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Codec {
    /// As in `h264parse`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }

    /// Bytes of a NAL unit's header.
    pub(super) fn header_bytes(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    /// The type in the header of the NAL unit, or RTP payload, that begins with `bytes`; whatever type it is.
    pub(super) fn raw_type(self, bytes: &[u8]) -> Result<u8, String> {
        let header = bytes
            .get(..self.header_bytes())
            .ok_or_else(|| format!("a NAL unit of {} bytes is shorter than its header", bytes.len()))?;
        if header[0] & 0x80 != 0 {
            return Err(format!("NAL header byte {:#04x} has the forbidden bit", header[0]));
        }
        match self {
            Self::H264 => Ok(header[0] & 0x1F),
            Self::H265 => {
                let layer = (header[0] & 1) << 5 | header[1] >> 3;
                if layer != 0 || header[1] & 7 == 0 {
                    let [a, b] = [header[0], header[1]];
                    return Err(format!(
                        "NAL header {a:#04x} {b:#04x}: layer {layer}, temporal id plus 1 = {}",
                        b & 7
                    ));
                }
                Ok(header[0] >> 1 & 0x3F)
            }
        }
    }

    /// The type of a NAL unit as encoders make them: a slice, a parameter set, SEI, a delimiter.
    pub(super) fn nal_type(self, nal: &[u8]) -> Result<u8, String> {
        let kind = self.raw_type(nal)?;
        let known = match self {
            Self::H264 => match kind {
                // nal_ref_idc: never 0 for an IDR slice or a parameter set, always 0 for those that nothing refers to.
                5 | 7 | 8 => nal[0] & 0x60 != 0,
                6 | 9..=12 => nal[0] & 0x60 == 0,
                1 => true,
                _ => false,
            },
            Self::H265 => matches!(kind, 0..=9 | 16..=21 | 32..=40),
        };
        if known {
            Ok(kind)
        } else {
            Err(format!("NAL header byte {:#04x} is of no {self} NAL unit", nal[0]))
        }
    }

    /// A slice of a picture.
    pub(super) fn is_slice(self, kind: u8) -> bool {
        match self {
            Self::H264 => matches!(kind, 1 | 5),
            Self::H265 => kind < 32,
        }
    }

    /// A slice of a picture at which decoding can begin: IDR, or IRAP.
    pub(super) fn is_key(self, kind: u8) -> bool {
        match self {
            Self::H264 => kind == 5,
            Self::H265 => matches!(kind, 16..=21),
        }
    }

    /// A picture that a decoder which begins at the key frame before it leaves out (RASL).
    pub(super) fn is_skipped_leading(self, kind: u8) -> bool {
        self == Self::H265 && matches!(kind, 8 | 9)
    }

    /// VPS, SPS or PPS.
    pub(super) fn is_parameter_set(self, kind: u8) -> bool {
        match self {
            Self::H264 => matches!(kind, 7 | 8),
            Self::H265 => matches!(kind, 32..=34),
        }
    }

    /// What begins another access unit where it stands behind a slice: parameter sets, delimiters, SEI.
    pub(super) fn precedes_slices(self, kind: u8) -> bool {
        match self {
            Self::H264 => matches!(kind, 6..=9),
            Self::H265 => matches!(kind, 32..=35 | 39),
        }
    }

    /// The slice is the first of its picture: first_mb_in_slice is 0, first_slice_segment_in_pic_flag is 1.
    pub(super) fn begins_picture(self, slice: &[u8]) -> bool {
        slice.get(self.header_bytes()).is_some_and(|byte| byte & 0x80 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_told() {
        for (codec, bytes, expected) in [
            (Codec::H264, &[0x67u8][..], Ok(7)),
            (Codec::H264, &[0x65], Ok(5)),
            (Codec::H264, &[0x06], Ok(6)),
            (Codec::H265, &[0x40, 1], Ok(32)),
            (Codec::H265, &[0x26, 1], Ok(19)),
            (Codec::H264, &[], Err("a NAL unit of 0 bytes is shorter than its header")),
            (Codec::H264, &[0xE5], Err("NAL header byte 0xe5 has the forbidden bit")),
            (Codec::H264, &[0x05], Err("NAL header byte 0x05 is of no h264 NAL unit")),
            (Codec::H264, &[0x40], Err("NAL header byte 0x40 is of no h264 NAL unit")),
            (Codec::H265, &[0x40], Err("a NAL unit of 1 bytes is shorter than its header")),
            (Codec::H265, &[0x40, 0], Err("NAL header 0x40 0x00: layer 0, temporal id plus 1 = 0")),
            (Codec::H265, &[0x41, 1], Err("NAL header 0x41 0x01: layer 32, temporal id plus 1 = 1")),
            (Codec::H265, &[0x60, 1], Err("NAL header byte 0x60 is of no h265 NAL unit")),
        ] {
            assert_eq!(codec.nal_type(bytes), expected.map_err(String::from), "{codec} {bytes:02x?}");
        }
    }
}
