// SPDX-License-Identifier: MPL-2.0

//! Decoder configuration records (ISO/IEC 14496-15): what every peer needs of them.

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// AVC; its record is avcC.
    H264,
    /// HEVC; its record is hvcC.
    H265,
}

/// Why a record is refused; peers would misread it or never decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The record is shorter than its fixed part, or than what its own lengths say.
    #[error("{record} of {bytes} bytes ends within {part}")]
    Truncated {
        /// avcC or hvcC.
        record: &'static str,
        /// Its size.
        bytes: usize,
        /// Where it ends.
        part: &'static str,
    },
    /// Only version 1 is defined.
    #[error("{record} version {version} is not 1")]
    Version {
        /// avcC or hvcC.
        record: &'static str,
        /// What it says.
        version: u8,
    },
    /// Length prefixes have 1, 2 or 4 bytes.
    #[error("{record} says NAL unit lengths of 3 bytes; 1, 2 and 4 are allowed")]
    LengthSize {
        /// avcC or hvcC.
        record: &'static str,
    },
    /// A decoder that joins needs all of them.
    #[error("{record} holds no {parameter_set}; a decoder cannot begin without it")]
    Missing {
        /// avcC or hvcC.
        record: &'static str,
        /// VPS, SPS or PPS.
        parameter_set: &'static str,
    },
}

/// What a valid record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoConfig {
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub nal_length_bytes: u8,
    /// Number of VPS (0 for H.264), SPS and PPS.
    pub parameter_sets: [usize; 3],
}

impl VideoCodec {
    /// Checks a record against ISO/IEC 14496-15 and against what servers refuse.
    pub fn check_config(self, record: &[u8]) -> Result<VideoConfig, ConfigError> {
        match self {
            Self::H264 => avcc(record),
            Self::H265 => hvcc(record),
        }
    }
}

struct Record<'a> {
    name: &'static str,
    bytes: usize,
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    fn take(&mut self, count: usize, part: &'static str) -> Result<&'a [u8], ConfigError> {
        let truncated = ConfigError::Truncated { record: self.name, bytes: self.bytes, part };
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self, part: &'static str) -> Result<u8, ConfigError> {
        Ok(self.take(1, part)?[0])
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, ConfigError> {
        let bytes = self.take(2, part)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn nal_unit(&mut self) -> Result<(), ConfigError> {
        let length = self.u16("a parameter set's length")?;
        self.take(length.into(), "a parameter set").map(drop)
    }

    fn version_and_length(&self, version: u8, length: u8) -> Result<u8, ConfigError> {
        let record = self.name;
        if version != 1 {
            return Err(ConfigError::Version { record, version });
        }
        match length & 3 {
            2 => Err(ConfigError::LengthSize { record }),
            minus_one => Ok(minus_one + 1),
        }
    }

    fn finish(self, nal_length_bytes: u8, parameter_sets: [usize; 3]) -> Result<VideoConfig, ConfigError> {
        let needed = if self.name == "avcC" { 1.. } else { 0.. };
        let names = ["VPS", "SPS", "PPS"];
        match needed.take_while(|i| *i < 3).find(|i| parameter_sets[*i] == 0) {
            Some(i) => Err(ConfigError::Missing { record: self.name, parameter_set: names[i] }),
            None => Ok(VideoConfig { nal_length_bytes, parameter_sets }),
        }
    }
}

fn avcc(bytes: &[u8]) -> Result<VideoConfig, ConfigError> {
    let mut record = Record { name: "avcC", bytes: bytes.len(), rest: bytes };
    let fixed = record.take(6, "its fixed part")?;
    let nal_length_bytes = record.version_and_length(fixed[0], fixed[4])?;
    let sps = usize::from(fixed[5] & 0x1f);
    for _ in 0..sps {
        record.nal_unit()?;
    }
    let pps = usize::from(record.byte("the number of PPS")?);
    for _ in 0..pps {
        record.nal_unit()?;
    }
    record.finish(nal_length_bytes, [0, sps, pps])
}

fn hvcc(bytes: &[u8]) -> Result<VideoConfig, ConfigError> {
    const VPS: u8 = 32;
    let mut record = Record { name: "hvcC", bytes: bytes.len(), rest: bytes };
    let fixed = record.take(23, "its fixed part")?;
    let nal_length_bytes = record.version_and_length(fixed[0], fixed[21])?;
    let mut parameter_sets = [0; 3];
    for _ in 0..fixed[22] {
        let nal_type = record.byte("an array's header")? & 0x3f;
        let count = record.u16("an array's header")?;
        for _ in 0..count {
            record.nal_unit()?;
        }
        if let Some(sets) = nal_type.checked_sub(VPS).and_then(|i| parameter_sets.get_mut(usize::from(i))) {
            *sets += usize::from(count);
        }
    }
    record.finish(nal_length_bytes, parameter_sets)
}
