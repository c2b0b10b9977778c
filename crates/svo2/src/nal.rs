// SPDX-License-Identifier: MPL-2.0

//! What a recording's bitstream says of itself: codec, picture size, and where decoding can begin.

use std::fmt;

use memchr::memmem;

use crate::sps::{Bits, Sequence, without_emulation_prevention};

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

/// Whether the bytes begin with an Annex B start code, zeros before it included.
pub fn starts(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    zeros >= 2 && bytes.get(zeros) == Some(&1)
}

/// The codec of a frame, by its parameter sets; `None` where there are none.
pub fn detect(frame: &[u8]) -> Option<Codec> {
    if !starts(frame) {
        return None;
    }
    units(frame).find_map(|unit| {
        let &[first, second, ..] = unit else { return None };
        // H.265 headers have two bytes: forbidden bit, 6 bits of type, 6 of layer 0, 3 of temporal id 0 plus 1. The second
        // byte of an H.264 SPS is its profile, that of a PPS begins with small numbers: neither is 1.
        match (hevc_type(first), avc_type(first)) {
            (32..=34, _) if first & 0x81 == 0 && second == 1 => Some(Codec::H265),
            (_, 7 | 8) if first & 0x80 == 0 && second != 1 => Some(Codec::H264),
            _ => None,
        }
    })
}

/// The codec of a frame that is not of the recording's, by the parameter sets that it begins with.
///
/// `None` where it has none of the other codec's, or what could be something else.
pub fn other_codec(codec: Codec, frame: &[u8]) -> Option<Codec> {
    // Behind an access unit delimiter and messages, if there are any, parameter sets are the first or there are none.
    let slice = |first: u8| match codec {
        Codec::H264 => matches!(avc_type(first), 1 | 5),
        Codec::H265 => first & 0x81 == 0 && matches!(hevc_type(first), 0..=31),
    };
    let is_other = |unit: &[u8]| match (codec, unit) {
        // In H.264 these are types that are not in use, or parts of slices of its profile Extended.
        (Codec::H264, &[0x40 | 0x42, 0x01, ..]) => Some(true),
        // In H.265 these are types of layers beyond 31, or beyond all.
        (Codec::H265, &[0x27 | 0x47 | 0x67, ..]) => Some(true),
        (_, &[first, ..]) if slice(first) => Some(false),
        _ => None,
    };
    if !starts(frame) || units(frame).take(4).find_map(is_other) != Some(true) {
        return None;
    }
    Some(match codec {
        Codec::H264 => Codec::H265,
        Codec::H265 => Codec::H264,
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
                // Of a layer beyond 31, which no recording has.
                _ if first & 1 != 0 => {}
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

/// What a NAL unit before a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An access unit delimiter.
    Delimiter,
    /// A parameter set: 0 for the video's, 1 for a sequence's, 2 for a picture's.
    Set(usize),
    /// Anything else, as supplemental enhancement information.
    Other,
}

/// The NAL units of an access unit before its first slice, without their start codes. What follows is not looked at.
pub fn before_picture(codec: Codec, unit: &[u8]) -> impl Iterator<Item = (Role, &[u8])> {
    let end = picture_at(codec, unit).unwrap_or(unit.len());
    units(&unit[..end]).filter_map(move |nal| {
        let &first = nal.first()?;
        let role = match (codec, avc_type(first), hevc_type(first)) {
            (Codec::H264, 9, _) | (Codec::H265, _, 35) => Role::Delimiter,
            (Codec::H264, kind @ (7 | 8), _) => Role::Set(usize::from(kind) - 6),
            (Codec::H265, _, kind @ 32..=34) => Role::Set(usize::from(kind) - 32),
            _ => Role::Other,
        };
        Some((role, nal))
    })
}

/// Where the start code, of three bytes, of the first slice lies; `None` where there is no slice.
pub fn picture_at(codec: Codec, unit: &[u8]) -> Option<usize> {
    starts_of(unit).find(|&at| unit.get(at + 3).is_some_and(|&first| is_slice(codec, first)))
}

/// Whether a decoder that knows nothing yet can begin with the picture: IDR of H.264, IDR, CRA and BLA of H.265.
pub fn is_random_access(codec: Codec, unit: &[u8]) -> bool {
    let first = picture_at(codec, unit).map(|at| unit[at + 3]);
    first.is_some_and(|first| match codec {
        Codec::H264 => avc_type(first) == 5,
        Codec::H265 => (16..=21).contains(&hevc_type(first)),
    })
}

/// Whether pictures may be shown in another order than they are decoded in, by the first sequence parameter set; `None`
/// where there is none that can be read.
pub fn may_reorder(codec: Codec, unit: &[u8]) -> Option<bool> {
    let (_, set) = before_picture(codec, unit).find(|(role, _)| *role == Role::Set(1))?;
    Sequence::read(codec, set).map(|sequence| sequence.may_reorder)
}

/// Whether the first slice of an H.264 access unit is a B slice.
pub fn is_b_slice(unit: &[u8]) -> bool {
    const HEAD: usize = 16;
    let Some(at) = picture_at(Codec::H264, unit) else { return false };
    let slice = &unit[at + 4..unit.len().min(at + 4 + HEAD)];
    let slice = without_emulation_prevention(slice);
    // first_mb_in_slice, and then slice_type: 1, or 6 where all slices of the picture are of one type.
    let mut bits = Bits::new(&slice);
    matches!(bits.ue().and_then(|_| bits.ue()), Some(1 | 6))
}

fn is_slice(codec: Codec, first: u8) -> bool {
    match codec {
        Codec::H264 => (1..=5).contains(&avc_type(first)),
        Codec::H265 => hevc_type(first) < 32,
    }
}

/// Where start codes of three bytes lie.
fn starts_of(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memmem::find_iter(bytes, &[0, 0, 1])
}

/// Width and height in pixels of the cropped picture, by the first sequence parameter set; `None` where there is none that
/// can be read, or where they cannot be true.
pub fn picture_size(codec: Codec, frame: &[u8]) -> Option<(u32, u32)> {
    let is_set = |first: u8| match codec {
        Codec::H264 => avc_type(first) == 7,
        Codec::H265 => hevc_type(first) == 33,
    };
    let set = units(frame).find(|unit| unit.first().is_some_and(|&first| is_set(first)))?;
    Sequence::read(codec, set).map(|sequence| sequence.size)
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
            let code = Bits::new(body).ue()?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Kind = Kind::Entry { recovers_after: 0 };

    /// NAL units with start codes of 4 bytes before the first and 3 before the others, as x264 has them.
    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        let starts = std::iter::once(&[0, 0, 0, 1][..]).chain(std::iter::repeat(&[0, 0, 1][..]));
        units.iter().zip(starts).flat_map(|(unit, start)| [start, unit].concat()).collect()
    }

    const AVC_AUD: &[u8] = &[0x09, 0xf0];
    const AVC_IDR: &[u8] = &[0x65, 0x88, 0x84, 0x12];
    const AVC_P: &[u8] = &[0x41, 0x9a, 0x24, 0x6c];
    const HEVC_AUD: &[u8] = &[0x46, 0x01, 0x50];
    const HEVC_P: &[u8] = &[0x02, 0x01, 0xd0, 0x09];

    /// Profile Baseline, level 3.1, 1280x736 with the last 16 rows cropped away; bits by the syntax of H.264 7.3.2.1.1.
    const AVC_SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x17, 0x7e, 0x25];
    /// 4416x1242 as a ZED 2 at 2K has it, written by x265.
    const HEVC_2K: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x96, 0xa0, 0x00, 0x8a, 0x08, 0x01, 0x38, 0x7c, 0x99, 0x65, 0x65, 0x4a, 0x4c, 0x2f, 0x01, 0x68, 0x08,
        0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x40,
    ];

    #[test]
    fn units_are_what_lies_between_start_codes() {
        let bytes = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 1, 0, 0, 3, 2, 0, 0, 0, 0, 1, 0x41, 7, 0, 0];
        let units: Vec<_> = units(&bytes).collect();
        assert_eq!(units, [&[9, 0xf0][..], &[0x65, 1, 0, 0, 3, 2], &[0x41, 7]]);
        assert_eq!(super::units(&[1, 2, 3]).count(), 0);
        assert_eq!(super::units(&[0, 0, 1]).map(<[u8]>::len).collect::<Vec<_>>(), [0]);
        for start in [&[0, 0, 1, 9][..], &[0, 0, 0, 1, 9], &[0, 0, 0, 0, 0, 1, 9]] {
            assert!(starts(start), "{start:?}");
        }
        for other in [&[][..], &[0, 0], &[0, 0, 0], &[0, 1, 9], &[0, 0, 2], b"\x89PNG"] {
            assert!(!starts(other), "{other:?}");
        }
    }

    #[test]
    fn the_codec_is_that_of_the_parameter_sets() {
        assert_eq!(detect(&annex_b(&[AVC_SPS])), Some(Codec::H264));
        assert_eq!(detect(&annex_b(&[AVC_AUD, &[0x06, 0x05, 0x01, 0x00, 0x80], AVC_SPS])), Some(Codec::H264));
        for reference in [0x28, 0x48, 0x68] {
            assert_eq!(detect(&annex_b(&[&[reference, 0xce, 0x0f]])), Some(Codec::H264));
        }
        for kind in [32, 33, 34] {
            assert_eq!(detect(&annex_b(&[HEVC_AUD, &[kind << 1, 0x01, 0x0c]])), Some(Codec::H265));
        }
        // H.265's IDR_N_LP has the first byte of an H.264 PPS, slices of the one that of parameter sets of the other.
        for slice in [AVC_AUD, AVC_IDR, AVC_P, HEVC_AUD, HEVC_P, &[0x28, 0x01, 0xaf], &[0x26, 0x01, 0xaf]] {
            assert_eq!(detect(&annex_b(&[slice])), None, "{slice:x?}");
        }
        assert_eq!(detect(&[&[7][..], &annex_b(&[AVC_SPS])].concat()), None);
    }

    #[test]
    fn sizes_are_those_of_the_cropped_picture() {
        assert_eq!(picture_size(Codec::H264, &annex_b(&[AVC_AUD, AVC_SPS])), Some((1280, 720)));
        assert_eq!(picture_size(Codec::H265, &annex_b(&[HEVC_AUD, HEVC_2K])), Some((4416, 1242)));
        assert_eq!(picture_size(Codec::H265, &annex_b(&[HEVC_AUD])), None);
        assert_eq!(picture_size(Codec::H264, &annex_b(&[&AVC_SPS[..5]])), None, "cut short");
        assert_eq!(picture_size(Codec::H265, &annex_b(&[&HEVC_2K[..12]])), None, "cut short");
    }

    #[test]
    fn key_frames_are_entries_and_others_are_not() {
        let kind_of = |codec, unit: &[u8]| kind(codec, &annex_b(&[unit]));
        assert_eq!(kind_of(Codec::H264, AVC_IDR), Some(WHOLE));
        assert_eq!(kind_of(Codec::H264, AVC_P), Some(Kind::Delta));
        assert_eq!(kind(Codec::H264, &annex_b(&[AVC_AUD, AVC_SPS, &[0x68, 0xce], AVC_IDR])), Some(WHOLE));
        assert_eq!(kind(Codec::H264, &annex_b(&[AVC_AUD, AVC_SPS, &[0x68, 0xce], AVC_P])), Some(Kind::Delta));
        for (types, want) in [(0..=9, Kind::Delta), (16..=21, WHOLE)] {
            for kind in types {
                assert_eq!(kind_of(Codec::H265, &[kind << 1, 0x01, 0xaf]), Some(want), "type {kind}");
            }
        }
        for (codec, unit) in [(Codec::H264, AVC_SPS), (Codec::H265, HEVC_AUD)] {
            assert_eq!(kind_of(codec, unit), None, "no slice");
        }
        assert_eq!(kind_of(Codec::H264, &[0xe5, 0x88]), None, "forbidden bit");
        assert_eq!(kind(Codec::H264, &[0, 0, 1, 0, 0, 1, 0x65]), None, "an empty unit");
        assert_eq!(kind(Codec::H264, b"no start code"), None);
        assert_eq!(kind(Codec::H264, &[]), None);
    }

    #[test]
    fn recovery_points_count_frames() {
        // recovery_frame_cnt as ue(v), exact_match 1, broken_link 0, changing_slice_group_idc 0, and trailing bits.
        let avc = |body: &[u8]| {
            let sei = [&[0x06, 0x06, body.len() as u8], body, &[0x80]].concat();
            kind(Codec::H264, &annex_b(&[AVC_AUD, AVC_SPS, &sei, AVC_P]))
        };
        let after = |recovers_after| Some(Kind::Entry { recovers_after });
        assert_eq!(avc(&[0b1100_0100]), after(0));
        assert_eq!(avc(&[0b0101_0001]), after(1));
        assert_eq!(avc(&[0b0000_1111, 0b0100_0100]), after(29));
        // recovery_poc_cnt as se(v), exact_match 1, broken_link 0.
        let hevc = |body: &[u8]| {
            let sei = [&[0x4e, 0x01, 0x06, body.len() as u8], body, &[0x80]].concat();
            kind(Codec::H265, &annex_b(&[HEVC_AUD, &sei, HEVC_P]))
        };
        assert_eq!(hevc(&[0b1101_0000]), after(0));
        assert_eq!(hevc(&[0b0101_0100]), after(1), "+1");
        assert_eq!(hevc(&[0b0111_0100]), after(0), "-1");
        assert_eq!(hevc(&[0b0000_1111, 0b0101_0000]), after(15), "+15");
    }

    #[test]
    fn a_recovery_point_behind_another_message_with_emulation_prevention() {
        // Type 5 of 5 bytes, two of the zeros of which are followed by a 3 that does not count, and then the recovery point.
        let sei = [0x06, 0x05, 0x05, 0x00, 0x00, 0x03, 0x00, 0x01, 0x02, 0x06, 0x01, 0xc4, 0x80];
        assert_eq!(kind(Codec::H264, &annex_b(&[&sei, AVC_P])), Some(WHOLE));
        // Sizes beyond 254 take more bytes.
        let long = [&[0x06, 0x05, 0xff, 0x01][..], &[0x55; 256], &[0x06, 0x01, 0xc4, 0x80]].concat();
        assert_eq!(kind(Codec::H264, &annex_b(&[&long, AVC_P])), Some(WHOLE));
        let cut = [0x06, 0x06, 0x09, 0xc4, 0x80];
        assert_eq!(kind(Codec::H264, &annex_b(&[&cut, AVC_P])), Some(Kind::Delta), "longer than its unit");
    }

    #[test]
    fn where_streams_can_be_joined_is_told_by_the_picture_alone() {
        let joins = |codec, unit: &[u8]| is_random_access(codec, &annex_b(&[unit]));
        assert!(is_random_access(Codec::H264, &annex_b(&[AVC_AUD, AVC_SPS, AVC_IDR])));
        assert!(!joins(Codec::H264, AVC_P) && !joins(Codec::H264, AVC_SPS));
        // A recovery point: decoding can begin, and pictures become whole by and by.
        let sei: &[u8] = &[0x06, 0x06, 0x01, 0xc4, 0x80];
        assert!(!is_random_access(Codec::H264, &annex_b(&[AVC_AUD, AVC_SPS, sei, AVC_P])));
        for kind in 0..32u8 {
            assert_eq!(joins(Codec::H265, &[kind << 1, 1, 0xaf]), (16..=21).contains(&kind), "type {kind}");
        }
    }

    #[test]
    fn b_slices_are_told_from_others() {
        // first_mb_in_slice 0 is the bit 1; slice_type as ue(v).
        for (bits, b) in [
            (0b1100_0000, false),
            (0b1010_0000, true),
            (0b1011_0000, false),
            (0b1001_1000, false),
            (0b1001_1100, true),
            (0b1000_1000, false),
        ] {
            assert_eq!(is_b_slice(&annex_b(&[AVC_AUD, &[0x01, bits, 0xff]])), b, "{bits:08b}");
        }
        // Of a later macroblock: 8 is 0001001.
        assert!(is_b_slice(&annex_b(&[&[0x01, 0b0001_0010, 0b1000_0000]])));
        assert!(!is_b_slice(&annex_b(&[&[0x01, 0]])) && !is_b_slice(&[]));
    }

    #[test]
    fn what_may_be_reordered_stands_in_the_sequence_parameter_set() {
        assert_eq!(may_reorder(Codec::H264, &annex_b(&[AVC_SPS, AVC_IDR])), Some(false), "Baseline");
        assert_eq!(may_reorder(Codec::H264, &annex_b(&[AVC_IDR])), None);
        assert!(may_reorder(Codec::H265, &annex_b(&[HEVC_2K])).is_some());
        assert_eq!(may_reorder(Codec::H265, &annex_b(&[HEVC_P])), None);
    }

    #[test]
    fn what_is_before_the_picture_is_told_by_its_role() {
        let unit = annex_b(&[AVC_AUD, AVC_SPS, &[0x68, 0xce], &[6, 5], AVC_IDR, AVC_IDR]);
        let roles: Vec<_> = before_picture(Codec::H264, &unit).map(|(role, _)| role).collect();
        assert_eq!(roles, [Role::Delimiter, Role::Set(1), Role::Set(2), Role::Other]);
        let unit = annex_b(&[HEVC_AUD, &[0x40, 1], HEVC_2K, &[0x44, 1, 7], HEVC_P]);
        let roles: Vec<_> = before_picture(Codec::H265, &unit).map(|(role, _)| role).collect();
        assert_eq!(roles, [Role::Delimiter, Role::Set(0), Role::Set(1), Role::Set(2)]);
    }

    proptest! {
        #[test]
        fn nothing_panics(
            codec in prop_oneof![Just(Codec::H264), Just(Codec::H265)],
            // Start codes and emulation prevention are rare in random bytes.
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                Just(vec![0, 0, 1]), Just(vec![0, 0, 3]), Just(vec![0, 0, 1, 0x67]), Just(vec![0, 0, 1, 0x42, 1]),
                Just(vec![0, 0, 1, 6, 6]), Just(vec![0, 0, 1, 0x4e, 1, 6]), Just(AVC_SPS.to_vec()), Just(HEVC_2K.to_vec()),
            ], 0..12),
        ) {
            let bytes = pieces.concat();
            let all: usize = units(&bytes).map(<[u8]>::len).sum();
            prop_assert!(all <= bytes.len());
            let _ = (detect(&bytes), picture_size(codec, &bytes), may_reorder(codec, &bytes), is_b_slice(&bytes));
            let mut sets = crate::sets::ParameterSets::new(codec);
            let mut completed = bytes.clone();
            if sets.complete(&mut completed).is_ok() {
                prop_assert!(sets.remember(&completed), "{completed:?}");
            }
            if let Some(found) = kind(codec, &bytes) {
                prop_assert!(starts(&bytes));
                // What follows the first slice is not looked at.
                prop_assert_eq!(kind(codec, &[&bytes[..], &[0, 0, 1, 0x65]].concat()), Some(found));
            }
        }
    }
}
