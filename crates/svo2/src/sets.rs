// SPDX-License-Identifier: MPL-2.0

//! Parameter sets with every key frame, for streams that are joined anywhere: recordings may have them on the first
//! alone.

use crate::nal::{self, Codec, Role};

const START: &[u8] = &[0, 0, 0, 1];
/// VPS, SPS and PPS, in the order in which they need each other.
const KINDS: usize = 3;

/// The sets that count, as a stream goes on.
#[derive(Debug, Clone)]
pub struct ParameterSets {
    codec: Codec,
    /// By kind; those of the unit that had some last.
    known: [Vec<Vec<u8>>; KINDS],
}

impl ParameterSets {
    /// Before the first access unit.
    pub fn new(codec: Codec) -> Self {
        Self { codec, known: Default::default() }
    }

    /// Remembers the sets of an access unit; whether it has all kinds of them.
    pub fn remember(&mut self, unit: &[u8]) -> bool {
        let mut found: [Vec<&[u8]>; KINDS] = Default::default();
        for (role, nal) in nal::before_picture(self.codec, unit) {
            if let Role::Set(kind) = role {
                found[kind].push(nal);
            }
        }
        for (known, found) in self.known.iter_mut().zip(&found) {
            if !found.is_empty() && known != found {
                *known = found.iter().map(|set| set.to_vec()).collect();
            }
        }
        self.kinds().all(|kind| !found[kind].is_empty())
    }

    /// Whether all kinds are known, so that a key frame can be completed.
    pub fn are_known(&self) -> bool {
        self.kinds().all(|kind| !self.known[kind].is_empty())
    }

    /// Remembers the sets of a key frame and puts all that count before its picture, where it has not all kinds itself.
    ///
    /// # Errors
    /// Some kind was not in any access unit so far; the unit is as it was.
    pub fn complete(&mut self, unit: &mut Vec<u8>) -> Result<(), String> {
        if self.remember(unit) {
            return Ok(());
        }
        if !self.are_known() {
            return Err("it has no parameter sets, nor has any access unit before it".into());
        }
        let mut whole = Vec::with_capacity(unit.len() + 256);
        let mut append = |nal: &[u8]| {
            whole.extend_from_slice(START);
            whole.extend_from_slice(nal);
        };
        let head: Vec<(Role, &[u8])> = nal::before_picture(self.codec, unit).collect();
        // A delimiter is the first of its unit.
        head.iter().filter(|(role, _)| *role == Role::Delimiter).for_each(|(_, nal)| append(nal));
        self.known.iter().flatten().for_each(|set| append(set));
        head.iter().filter(|(role, _)| *role == Role::Other).for_each(|(_, nal)| append(nal));
        let picture = nal::picture_at(self.codec, unit).ok_or("it has no picture")?;
        whole.extend_from_slice(&[0]);
        whole.extend_from_slice(&unit[picture..]);
        *unit = whole;
        Ok(())
    }

    fn kinds(&self) -> std::ops::Range<usize> {
        // H.264 has no VPS.
        match self.codec {
            Codec::H264 => 1..KINDS,
            Codec::H265 => 0..KINDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [START, unit].concat()).collect()
    }

    const AUD: &[u8] = &[0x09, 0xf0];
    const SPS: &[u8] = &[0x67, 0x42, 1];
    const PPS: &[u8] = &[0x68, 0xce, 2];
    const SEI: &[u8] = &[0x06, 5, 1];
    const IDR: &[u8] = &[0x65, 0x88, 0, 0, 3, 1];

    #[test]
    fn a_key_frame_without_sets_gets_those_that_count() {
        let mut sets = ParameterSets::new(Codec::H264);
        let mut first = annex_b(&[IDR]);
        assert!(sets.complete(&mut first).unwrap_err().contains("no parameter sets"));
        assert_eq!(first, annex_b(&[IDR]), "it is as it was");
        let whole = annex_b(&[AUD, SPS, PPS, SEI, IDR]);
        let mut unit = whole.clone();
        sets.complete(&mut unit).unwrap();
        assert_eq!(unit, whole, "it has them");
        for bare in
            [annex_b(&[AUD, SEI, IDR]), annex_b(&[AUD, PPS, SEI, IDR]), annex_b(&[AUD, SPS, SEI, IDR])]
        {
            let mut unit = bare;
            sets.complete(&mut unit).unwrap();
            assert_eq!(unit, whole);
        }
        let other: &[u8] = &[0x67, 0x64, 9];
        let mut unit = annex_b(&[other, IDR]);
        sets.complete(&mut unit).unwrap();
        assert_eq!(
            unit,
            annex_b(&[other, PPS, IDR]),
            "the later one counts, and stands before what needs it"
        );
    }

    #[test]
    fn start_codes_of_three_bytes_are_as_good() {
        let mut sets = ParameterSets::new(Codec::H264);
        sets.remember(&annex_b(&[SPS, PPS, IDR]));
        let mut unit = [&[0, 0, 1][..], SEI, &[0, 0, 1], IDR, &[0, 0, 1, 0x65, 7]].concat();
        sets.complete(&mut unit).unwrap();
        assert_eq!(unit, [&annex_b(&[SPS, PPS, SEI, IDR])[..], &[0, 0, 1, 0x65, 7]].concat());
    }

    #[test]
    fn h265_needs_a_video_parameter_set_too() {
        let [vps, sps, pps, idr]: [&[u8]; 4] =
            [&[0x40, 1, 2], &[0x42, 1, 3], &[0x44, 1, 4], &[0x26, 1, 0xaf]];
        let mut sets = ParameterSets::new(Codec::H265);
        assert!(!sets.remember(&annex_b(&[sps, pps, idr])));
        assert!(!sets.are_known());
        assert!(sets.remember(&annex_b(&[vps, sps, pps, idr])));
        let mut unit = annex_b(&[idr]);
        sets.complete(&mut unit).unwrap();
        assert_eq!(unit, annex_b(&[vps, sps, pps, idr]));
    }
}
