// SPDX-License-Identifier: MPL-2.0

//! RVL, the lossless coding of depth pictures: A. D. Wilson, 'Fast Lossless Depth Image Compression', ISS 2017.
//!
//! A picture is a row of pixels, without a width. By turns there is a number of zeros, a number of others, and of each of
//! those the difference to the one before it (zeros between do not count; before the first is 0). Differences are mapped
//! to 0, 1, 2, ... as 0, -1, 1, ...; every number is in groups of three bits, the lowest first, each in four bits whose
//! highest says that more follow. Eight such nibbles, the first the highest, make a word of 32 bits, which stands little-endian;
//! the last word is filled with zeros. Nothing is around it: how many pixels there are has to be known.
//!
//! ```
//! let depth = [0, 0, 1500, 1502, 0, 1499];
//! let bytes = svo2::rvl::encode(&depth);
//! assert_eq!(svo2::rvl::decode(&bytes, depth.len())?, depth);
//! # Ok::<(), svo2::rvl::RvlError>(())
//! ```

use std::fmt;

/// Nibbles in a word.
const NIBBLES: u32 = 8;

/// Why bytes are not the RVL coding of so many pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RvlError {
    /// They end before the last pixel.
    Short {
        /// Pixels that were read before.
        pixels: usize,
        /// Pixels that there should be.
        of: usize,
    },
    /// A number of zeros or others leads beyond the last pixel.
    Run {
        /// Where the run begins, in pixels.
        at: usize,
        /// How long it says that it is.
        len: u64,
        /// Pixels that there should be.
        of: usize,
    },
    /// Neither zeros nor others are at this pixel.
    Stuck {
        /// In pixels.
        at: usize,
    },
    /// A zero is among the others, or a difference leads further than 16 bits reach.
    Pixel {
        /// In pixels.
        at: usize,
    },
    /// A number has more than 32 bits.
    Number {
        /// In pixels.
        at: usize,
    },
    /// Something is behind the last pixel.
    Long {
        /// Bytes from the beginning that were of use.
        used: usize,
        /// Bytes that there are.
        of: usize,
    },
}

impl fmt::Display for RvlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no RVL depth of this size: ")?;
        match self {
            Self::Short { pixels, of } => write!(f, "the data ends after {pixels} of {of} pixels"),
            Self::Run { at, len, of } => write!(f, "a run of {len} at pixel {at} of {of}"),
            Self::Stuck { at } => write!(f, "an empty run at pixel {at}"),
            Self::Pixel { at } => write!(f, "pixel {at} is not within 1 to 65535"),
            Self::Number { at } => write!(f, "a number of more than 32 bits at pixel {at}"),
            Self::Long { used, of } => write!(f, "the last pixel is in byte {used} of {of}"),
        }
    }
}

impl std::error::Error for RvlError {}

/// Encodes a picture, row after row without padding.
pub fn encode(pixels: &[u16]) -> Vec<u8> {
    // What depth takes as a rule; noise takes more.
    let mut words = Words { bytes: Vec::with_capacity(pixels.len() / 2 + 8), word: 0, nibbles: 0 };
    let mut previous = 0;
    let mut rest = pixels;
    while !rest.is_empty() {
        let zeros = rest.iter().take_while(|pixel| **pixel == 0).count();
        rest = &rest[zeros..];
        let (others, behind) = rest.split_at(rest.iter().take_while(|pixel| **pixel != 0).count());
        rest = behind;
        words.number(zeros as u64);
        words.number(others.len() as u64);
        for &pixel in others {
            let difference = i32::from(pixel) - previous;
            words.number(u64::from(((difference << 1) ^ (difference >> 31)) as u32));
            previous = i32::from(pixel);
        }
    }
    words.end()
}

/// Decodes a picture of so many pixels.
///
/// Encoders that take depth for signed numbers, as the paper's does, write other differences beside values of 32768 and
/// more; those are understood, too.
///
/// # Errors
/// The first place at which the bytes are not the coding of such a picture.
pub fn decode(bytes: &[u8], pixels: usize) -> Result<Vec<u16>, RvlError> {
    let mut nibbles = Nibbles { bytes, next: 0 };
    // A lie about the size costs no memory: a run of zeros, the shortest there is, has to be read first.
    let mut out = Vec::new();
    let mut previous = 0u16;
    while out.len() < pixels {
        let begin = out.len();
        let zeros = nibbles.run(begin, pixels)?;
        out.resize(begin + zeros, 0);
        let others = nibbles.run(out.len(), pixels)?;
        if zeros + others == 0 {
            return Err(RvlError::Stuck { at: begin });
        }
        out.reserve(others);
        for _ in 0..others {
            let at = out.len();
            let coded = nibbles.number(at, pixels)?;
            let difference = (coded >> 1) as i64 ^ -((coded & 1) as i64);
            if difference.unsigned_abs() > u64::from(u16::MAX) {
                return Err(RvlError::Pixel { at });
            }
            previous = previous.wrapping_add(difference as u16);
            if previous == 0 {
                return Err(RvlError::Pixel { at });
            }
            out.push(previous);
        }
    }
    nibbles.end()?;
    Ok(out)
}

/// Numbers into words.
struct Words {
    bytes: Vec<u8>,
    word: u32,
    nibbles: u32,
}

impl Words {
    fn number(&mut self, mut number: u64) {
        loop {
            let bits = number as u32 & 7;
            number >>= 3;
            self.word = self.word << 4 | if number == 0 { bits } else { bits | 8 };
            self.nibbles += 1;
            if self.nibbles == NIBBLES {
                self.bytes.extend(self.word.to_le_bytes());
                (self.word, self.nibbles) = (0, 0);
            }
            if number == 0 {
                return;
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        if self.nibbles > 0 {
            self.bytes.extend((self.word << (4 * (NIBBLES - self.nibbles))).to_le_bytes());
        }
        self.bytes
    }
}

/// Numbers out of words.
struct Nibbles<'a> {
    bytes: &'a [u8],
    /// In nibbles, of which the first of a word is in its last byte.
    next: usize,
}

impl Nibbles<'_> {
    fn number(&mut self, at: usize, pixels: usize) -> Result<u64, RvlError> {
        let mut number = 0;
        for shift in (0..33).step_by(3) {
            let whole = self.bytes.len() / 4 * 8;
            if self.next >= whole {
                return Err(RvlError::Short { pixels: at, of: pixels });
            }
            let byte = self.bytes[self.next / 8 * 4 + 3 - self.next % 8 / 2];
            let nibble = u64::from(if self.next.is_multiple_of(2) { byte >> 4 } else { byte & 15 });
            self.next += 1;
            number |= (nibble & 7) << shift;
            if nibble & 8 == 0 {
                return if number > u64::from(u32::MAX) { Err(RvlError::Number { at }) } else { Ok(number) };
            }
        }
        Err(RvlError::Number { at })
    }

    fn run(&mut self, at: usize, pixels: usize) -> Result<usize, RvlError> {
        let len = self.number(at, pixels)?;
        usize::try_from(len).ok().filter(|len| *len <= pixels - at).ok_or(RvlError::Run {
            at,
            len,
            of: pixels,
        })
    }

    fn end(&self) -> Result<(), RvlError> {
        let used = self.next.div_ceil(8) * 4;
        if used == self.bytes.len() { Ok(()) } else { Err(RvlError::Long { used, of: self.bytes.len() }) }
    }
}
