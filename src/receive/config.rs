// SPDX-License-Identifier: MPL-2.0

//! AVCDecoderConfigurationRecord and HEVCDecoderConfigurationRecord (ISO/IEC 14496-15), checked to the last byte.

use super::nal::Codec;

/// Bytes of an hvcC before its arrays.
const HVCC_BYTES: usize = 23;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;

/// Checks a configuration record.
pub(super) fn check(codec: Codec, record: &[u8]) -> Result<(), String> {
    match codec {
        Codec::H264 => avcc(record),
        Codec::H265 => hvcc(record),
    }
}

/// Takes bytes off the front.
struct Bytes<'a> {
    left: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], String> {
        let (taken, left) = self
            .left
            .split_at_checked(count)
            .ok_or_else(|| format!("{what}: {count} bytes wanted, {} left", self.left.len()))?;
        self.left = left;
        Ok(taken)
    }

    fn u8(&mut self, what: &str) -> Result<u8, String> {
        Ok(self.take(1, what)?[0])
    }

    fn u16(&mut self, what: &str) -> Result<usize, String> {
        let bytes = self.take(2, what)?;
        Ok(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }
}

fn reserved(what: &str, byte: u8, mask: u8) -> Result<(), String> {
    if byte & mask == mask { Ok(()) } else { Err(format!("{what}: reserved bits of {byte:#04x} are not 1")) }
}

fn version(what: &str, version: u8) -> Result<(), String> {
    if version == 1 { Ok(()) } else { Err(format!("{what}: version {version} is not 1")) }
}

fn length_size(what: &str, byte: u8) -> Result<(), String> {
    match byte & 3 {
        3 => Ok(()),
        other => Err(format!("{what}: lengthSizeMinusOne {other} is not 3")),
    }
}

/// A parameter set with its length before it, which must be of type `kind`.
fn parameter_set<'a>(bytes: &mut Bytes<'a>, codec: Codec, kind: u8, what: &str) -> Result<&'a [u8], String> {
    let length = bytes.u16(what)?;
    let nal = bytes.take(length, what)?;
    let found = codec.nal_type(nal).map_err(|error| format!("{what}: {error}"))?;
    if found == kind { Ok(nal) } else { Err(format!("{what}: NAL type {found} is not {kind}")) }
}

fn avcc(record: &[u8]) -> Result<(), String> {
    let mut bytes = Bytes { left: record };
    let head = bytes.take(6, "avcC")?;
    version("avcC", head[0])?;
    reserved("avcC", head[4], 0xFC)?;
    length_size("avcC", head[4])?;
    reserved("avcC", head[5], 0xE0)?;
    let sets = head[5] & 0x1F;
    if sets == 0 {
        return Err("avcC: no SPS".into());
    }
    for _ in 0..sets {
        let sps = parameter_set(&mut bytes, Codec::H264, 7, "avcC's SPS")?;
        if sps.get(1..4) != Some(&head[1..4]) {
            let shown = &sps[1..sps.len().min(4)];
            return Err(format!("avcC: profile and level {:02x?}, but {shown:02x?} in the SPS", &head[1..4]));
        }
    }
    let sets = bytes.u8("avcC's number of PPS")?;
    if sets == 0 {
        return Err("avcC: no PPS".into());
    }
    for _ in 0..sets {
        parameter_set(&mut bytes, Codec::H264, 8, "avcC's PPS")?;
    }
    // The profiles that may carry chroma format and bit depths behind.
    if matches!(head[1], 100 | 110 | 122 | 144 | 244) && !bytes.left.is_empty() {
        let extension = bytes.take(4, "avcC's extension")?;
        reserved("avcC's chroma format", extension[0], 0xFC)?;
        reserved("avcC's luma depth", extension[1], 0xF8)?;
        reserved("avcC's chroma depth", extension[2], 0xF8)?;
        for _ in 0..extension[3] {
            let length = bytes.u16("avcC's SPS extension")?;
            bytes.take(length, "avcC's SPS extension")?;
        }
    }
    end("avcC", &bytes)
}

fn end(what: &str, bytes: &Bytes) -> Result<(), String> {
    match bytes.left.len() {
        0 => Ok(()),
        left => Err(format!("{what}: {left} bytes behind its end")),
    }
}

fn hvcc(record: &[u8]) -> Result<(), String> {
    let mut bytes = Bytes { left: record };
    let head = bytes.take(HVCC_BYTES, "hvcC")?;
    version("hvcC", head[0])?;
    for (at, mask) in [(13, 0xF0), (15, 0xFC), (16, 0xFC), (17, 0xF8), (18, 0xF8)] {
        reserved(&format!("hvcC's byte {at}"), head[at], mask)?;
    }
    length_size("hvcC", head[21])?;
    let mut seen = [false; 3];
    for _ in 0..head[22] {
        let array = bytes.u8("hvcC's array")?;
        if array & 0x40 != 0 {
            return Err(format!("hvcC: array byte {array:#04x} has its reserved bit"));
        }
        let kind = array & 0x3F;
        if !matches!(kind, VPS | SPS | PPS | 39 | 40) {
            return Err(format!("hvcC: array of NAL type {kind}"));
        }
        for _ in 0..bytes.u16("hvcC's array")? {
            let nal = parameter_set(&mut bytes, Codec::H265, kind, "hvcC's NAL unit")?;
            if kind == SPS {
                profile(&head[1..13], nal)?;
            }
            if let Some(seen) = kind.checked_sub(VPS).and_then(|set| seen.get_mut(usize::from(set))) {
                *seen = true;
            }
        }
    }
    for (name, seen) in ["VPS", "SPS", "PPS"].into_iter().zip(seen) {
        if !seen {
            return Err(format!("hvcC: no {name}"));
        }
    }
    end("hvcC", &bytes)
}

/// Compares general_profile_space to general_level_idc with the SPS, where they follow its header and one byte.
fn profile(told: &[u8], sps: &[u8]) -> Result<(), String> {
    let plain = without_emulation_prevention(&sps[..sps.len().min(64)]);
    match plain.get(3..15) {
        Some(shown) if shown == told => Ok(()),
        Some(shown) => Err(format!("hvcC: profile, tier and level {told:02x?}, but {shown:02x?} in the SPS")),
        None => Err(format!("hvcC: an SPS of {} bytes", sps.len())),
    }
}

fn without_emulation_prevention(nal: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for byte in nal {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        plain.push(*byte);
    }
    plain
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const SPS_264: [u8; 5] = [0x67, 0x42, 0xC0, 0x1E, 0xAA];
    pub const PPS_264: [u8; 3] = [0x68, 0xCE, 0x3C];
    pub const PTL: [u8; 12] = [1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 60];

    pub fn avcc_record() -> Vec<u8> {
        let mut record = vec![1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0, 5];
        record.extend(SPS_264);
        record.extend([1, 0, 3]);
        record.extend(PPS_264);
        record
    }

    fn sps_265() -> Vec<u8> {
        // PTL with its emulation prevention bytes.
        vec![0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 60, 0xA0]
    }

    pub fn hvcc_record() -> Vec<u8> {
        let mut record = vec![1];
        record.extend(PTL);
        record.extend([0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3]);
        for (kind, nal) in [(0xA0, vec![0x40, 1, 0x0C]), (0xA1, sps_265()), (0xA2, vec![0x44, 1, 0xC1])] {
            record.extend([kind, 0, 1, 0, nal.len() as u8]);
            record.extend(nal);
        }
        record
    }

    #[test]
    fn whole_records_pass() {
        assert_eq!(check(Codec::H264, &avcc_record()), Ok(()));
        assert_eq!(check(Codec::H265, &hvcc_record()), Ok(()));
        let mut high = avcc_record();
        (high[1], high[9]) = (100, 100);
        assert_eq!(check(Codec::H264, &high), Ok(()));
        high.extend([0xFD, 0xF8, 0xF8, 0]);
        assert_eq!(check(Codec::H264, &high), Ok(()));
    }

    #[test]
    fn each_rule_of_avcc_broken_once() {
        for (at, value, expected) in [
            (0, 2, "avcC: version 2 is not 1"),
            (2, 0, "avcC: profile and level [42, 00, 1e], but [42, c0, 1e] in the SPS"),
            (4, 0x03, "avcC: reserved bits of 0x03 are not 1"),
            (4, 0xFE, "avcC: lengthSizeMinusOne 2 is not 3"),
            (5, 0x01, "avcC: reserved bits of 0x01 are not 1"),
            (5, 0xE0, "avcC: no SPS"),
            (7, 200, "avcC's SPS: 200 bytes wanted, 11 left"),
            (8, 0x68, "avcC's SPS: NAL type 8 is not 7"),
            (13, 0, "avcC: no PPS"),
            (15, 2, "avcC: 1 bytes behind its end"),
            (16, 0x67, "avcC's PPS: NAL type 7 is not 8"),
        ] {
            let mut record = avcc_record();
            record[at] = value;
            assert_eq!(check(Codec::H264, &record), Err(expected.into()), "byte {at} = {value:#04x}");
        }
        assert_eq!(check(Codec::H264, &[1, 2, 3]), Err("avcC: 6 bytes wanted, 3 left".into()));
    }

    #[test]
    fn each_rule_of_hvcc_broken_once() {
        let sps_array = 23 + 5 + 3;
        for (at, value, expected) in [
            (0, 0, "hvcC: version 0 is not 1"),
            (13, 0, "hvcC's byte 13: reserved bits of 0x00 are not 1"),
            (15, 0, "hvcC's byte 15: reserved bits of 0x00 are not 1"),
            (16, 1, "hvcC's byte 16: reserved bits of 0x01 are not 1"),
            (17, 0, "hvcC's byte 17: reserved bits of 0x00 are not 1"),
            (18, 0, "hvcC's byte 18: reserved bits of 0x00 are not 1"),
            (21, 0x0D, "hvcC: lengthSizeMinusOne 1 is not 3"),
            (22, 2, "hvcC: no PPS"),
            (22, 1, "hvcC: no SPS"),
            (22, 0, "hvcC: no VPS"),
            (23, 0xE0, "hvcC: array byte 0xe0 has its reserved bit"),
            (23, 0x81, "hvcC: array of NAL type 1"),
            (28, 0x42, "hvcC's NAL unit: NAL type 33 is not 32"),
            (sps_array + 4, 99, "hvcC's NAL unit: 99 bytes wanted, 27 left"),
        ] {
            let mut record = hvcc_record();
            record[at] = value;
            assert_eq!(check(Codec::H265, &record), Err(expected.into()), "byte {at} = {value:#04x}");
        }
        let mut record = hvcc_record();
        record[12] = 61;
        assert!(check(Codec::H265, &record).unwrap_err().contains("profile, tier and level"));
        record = hvcc_record();
        record.push(0);
        assert_eq!(check(Codec::H265, &record), Err("hvcC: 1 bytes behind its end".into()));
        let short = &hvcc_record()[..22];
        assert_eq!(check(Codec::H265, short), Err("hvcC: 23 bytes wanted, 22 left".into()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, at in 0usize..40, value: u8) {
            for codec in [Codec::H264, Codec::H265] {
                let _ = check(codec, &bytes);
            }
            for (codec, mut record) in [(Codec::H264, avcc_record()), (Codec::H265, hvcc_record())] {
                let at = at % record.len();
                record[at] = value;
                let _ = check(codec, &record);
                let _ = check(codec, &record[..at]);
            }
        }
    }
}
