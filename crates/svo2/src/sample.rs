// SPDX-License-Identifier: MPL-2.0

//! Access units as MP4 has them: a length of four bytes before each NAL unit, in place of a start code.

use std::ops::Range;

use memchr::memmem;

const START: &[u8] = &[0, 0, 1];
/// Of a length, and of the longer start code.
const LENGTH: usize = 4;

/// Turns an access unit from Annex B into a sample. Where all of its start codes have four bytes, nothing moves.
///
/// `units` and `spare` are for the next call: their contents mean nothing.
///
/// # Errors
/// Says what is in `unit` instead, which then is as it was.
pub fn from_annex_b(
    unit: &mut Vec<u8>,
    units: &mut Vec<Range<usize>>,
    spare: &mut Vec<u8>,
) -> Result<(), String> {
    find(unit, units);
    let zeros = unit.iter().take_while(|&&byte| byte == 0).count();
    if zeros < START.len() - 1 || unit.get(zeros) != Some(&1) {
        return Err("it does not begin with a start code".into());
    }
    if units.is_empty() {
        return Err("it has no NAL unit".into());
    }
    let mut behind = 0;
    let in_place = units.iter().all(|range| {
        let begins_there = range.start == behind + LENGTH;
        behind = range.end;
        begins_there
    });
    if in_place {
        for range in units.iter() {
            let length = length(range)?;
            unit[range.start - LENGTH..range.start].copy_from_slice(&length);
        }
        unit.truncate(behind);
        return Ok(());
    }
    spare.clear();
    for range in units.iter() {
        spare.extend(length(range)?);
        spare.extend(&unit[range.clone()]);
    }
    std::mem::swap(unit, spare);
    Ok(())
}

fn length(range: &Range<usize>) -> Result<[u8; LENGTH], String> {
    let length = u32::try_from(range.len());
    length.map(u32::to_be_bytes).map_err(|_| format!("a NAL unit has {} bytes", range.len()))
}

/// Where the NAL units lie, without start codes and the zeros before them; empty ones are none.
fn find(bytes: &[u8], units: &mut Vec<Range<usize>>) {
    units.clear();
    let finder = memmem::Finder::new(START);
    let Some(mut start) = finder.find(bytes).map(|at| at + START.len()) else { return };
    loop {
        let next = finder.find(&bytes[start..]).map(|at| start + at);
        let end = next.unwrap_or(bytes.len());
        let zeros = bytes[start..end].iter().rev().take_while(|&&byte| byte == 0).count();
        if start < end - zeros {
            units.push(start..end - zeros);
        }
        match next {
            Some(next) => start = next + START.len(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nal;

    fn convert(unit: &[u8]) -> Result<Vec<u8>, String> {
        let mut unit = unit.to_vec();
        from_annex_b(&mut unit, &mut Vec::new(), &mut Vec::new()).map(|()| unit)
    }

    #[test]
    fn each_start_code_becomes_a_length() {
        assert_eq!(convert(&[0, 0, 0, 1, 7, 8, 0, 0, 0, 1, 9]).unwrap(), [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9]);
        assert_eq!(convert(&[0, 0, 1, 7, 8, 0, 0, 1, 9, 0]).unwrap(), [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9]);
        assert_eq!(convert(&[0, 0, 0, 0, 1, 7, 0, 0]).unwrap(), [0, 0, 0, 1, 7]);
        assert_eq!(convert(&[0, 0, 0, 1, 7, 0, 0, 1, 0, 0, 1, 8]).unwrap(), [0, 0, 0, 1, 7, 0, 0, 0, 1, 8]);
    }

    #[test]
    fn what_is_no_access_unit_stays_as_it_is() {
        for (bytes, why) in [(&[][..], "begin"), (&[0, 0, 1, 0], "no NAL unit"), (&[5, 0, 0, 1, 7], "begin")]
        {
            let mut unit = bytes.to_vec();
            let error = from_annex_b(&mut unit, &mut Vec::new(), &mut Vec::new()).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert_eq!(unit, bytes);
        }
    }

    proptest! {
        #[test]
        fn the_nal_units_are_the_same(codes in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0u8..4, 0..20)), 1..6)) {
            let mut bytes = vec![];
            for (long, body) in &codes {
                bytes.extend(if *long { &[0, 0, 0, 1][..] } else { &[0, 0, 1] });
                bytes.extend(body);
            }
            let expected: Vec<Vec<u8>> = nal::units(&bytes).filter(|unit| !unit.is_empty()).map(<[u8]>::to_vec).collect();
            match convert(&bytes) {
                Err(_) => prop_assert!(expected.is_empty()),
                Ok(sample) => {
                    let (mut found, mut rest) = (vec![], sample.as_slice());
                    while let Some((length, after)) = rest.split_first_chunk::<4>() {
                        let (unit, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                        found.push(unit.to_vec());
                        rest = after;
                    }
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
