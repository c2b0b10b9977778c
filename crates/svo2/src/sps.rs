// SPDX-License-Identifier: MPL-2.0

//! Sequence parameter sets, up to the size and the order of the pictures. What stands behind, and how much a set claims to
//! have of it, matters to nobody here; whatever the bytes are, reading them takes neither much memory nor long.

use crate::nal::Codec;

/// The fields that are read lie within so many bytes of any set, scaling lists and all.
const LONGEST: usize = 4096;
/// Longer sides, in pixels, are taken for damage: two pictures of 8K beside each other have 15,360.
const LONGEST_SIDE: u64 = 1 << 14;

/// What a sequence parameter set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Width and height in pixels of the cropped picture.
    pub size: (u32, u32),
    /// Pictures may be shown in another order than they are decoded in.
    pub may_reorder: bool,
}

impl Sequence {
    /// `None`: the NAL unit ends before, or says what cannot be true.
    pub fn read(codec: Codec, nal: &[u8]) -> Option<Self> {
        let set = without_emulation_prevention(&nal[..nal.len().min(LONGEST)]);
        match codec {
            Codec::H264 => Self::avc(Bits::new(&set)),
            Codec::H265 => Self::hevc(Bits::new(&set)),
        }
    }

    /// ITU-T H.264, 7.3.2.1.1.
    fn avc(mut bits: Bits) -> Option<Self> {
        const BASELINE: u32 = 66;
        const WITH_CHROMA: [u32; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];
        // Header of the NAL unit.
        bits.skip(8)?;
        let profile = bits.take(8)?;
        // Constraints and level; number of the set.
        bits.skip(8 + 8)?;
        bits.ue()?;
        let mut chroma = Chroma::Halved;
        if WITH_CHROMA.contains(&profile) {
            chroma = Chroma::read(&mut bits)?;
            // Bit depths, and whether nothing may be transformed.
            bits.skip_ue(2)?;
            bits.skip(1)?;
            if bits.flag()? {
                let lists = if chroma.is_full() { 12 } else { 8 };
                (0..lists).try_for_each(|number| bits.scaling_list(if number < 6 { 16 } else { 64 }))?;
            }
        }
        // Length of the frames' numbers.
        bits.ue()?;
        let order = bits.ue()?;
        match order {
            0 => {
                bits.ue()?;
            }
            1 => {
                // Offsets, and one more for each frame of a cycle.
                bits.skip(1)?;
                bits.skip_ue(2)?;
                let cycle = bits.ue()?;
                bits.skip_ue(cycle)?;
            }
            2 => {}
            _ => return None,
        }
        // Reference frames, and whether numbers may be missing.
        bits.ue()?;
        bits.skip(1)?;
        let [width, height] = [bits.ue()?, bits.ue()?].map(|blocks| 16 * (u64::from(blocks) + 1));
        let fields = if bits.flag()? { 1 } else { 2 };
        // Whether macroblocks are of frames or fields; how motion is inferred.
        bits.skip(fields)?;
        let (across, down) = chroma.unit();
        let down = down * u64::from(fields);
        let size = bits.cropped((width, height * u64::from(fields)), (across, down))?;
        Some(Self { size, may_reorder: profile != BASELINE && order != 2 })
    }

    /// ITU-T H.265, 7.3.2.2.1.
    fn hevc(mut bits: Bits) -> Option<Self> {
        // A profile with its flags, and its level.
        const PROFILE: u32 = 2 + 1 + 5 + 32 + 4 + 43 + 1;
        const LEVEL: u32 = 8;
        // Header of the NAL unit; number of the video's set.
        bits.skip(16 + 4)?;
        let layers = bits.take(3)?;
        bits.skip(1 + PROFILE + LEVEL)?;
        let mut of_layers = 0;
        for _ in 0..layers {
            of_layers += PROFILE * bits.take(1)? + LEVEL * bits.take(1)?;
        }
        bits.skip(of_layers + if layers > 0 { 2 * (8 - layers) } else { 0 })?;
        // Number of the set.
        bits.ue()?;
        let chroma = Chroma::read(&mut bits)?;
        let (width, height) = (bits.ue()?.into(), bits.ue()?.into());
        let size = bits.cropped((width, height), chroma.unit())?;
        // Bit depths, and length of the order's numbers.
        bits.skip_ue(3)?;
        // Of each layer, or of the last alone: pictures that are kept, that are reordered, and for how long.
        let told = if bits.flag()? { layers + 1 } else { 1 };
        let mut may_reorder = false;
        for _ in 0..told {
            bits.ue()?;
            may_reorder |= bits.ue()? > 0;
            bits.ue()?;
        }
        Some(Self { size, may_reorder })
    }
}

/// How much less colour there is than luma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chroma {
    None,
    /// 4:2:0.
    Halved,
    /// 4:2:2.
    HalvedAcross,
    /// 4:4:4.
    Full,
    /// 4:4:4, each colour a picture of its own.
    Separate,
}

impl Chroma {
    fn read(bits: &mut Bits) -> Option<Self> {
        Some(match bits.ue()? {
            0 => Self::None,
            1 => Self::Halved,
            2 => Self::HalvedAcross,
            3 if bits.flag()? => Self::Separate,
            3 => Self::Full,
            _ => return None,
        })
    }

    fn is_full(self) -> bool {
        matches!(self, Self::Full | Self::Separate)
    }

    /// Pixels across and down that pictures are cropped by at least.
    fn unit(self) -> (u64, u64) {
        match self {
            Self::Halved => (2, 2),
            Self::HalvedAcross => (2, 1),
            Self::None | Self::Full | Self::Separate => (1, 1),
        }
    }
}

/// Bits, from the first of the bytes on; `None` comes of all that ends behind the last.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A number of up to 32 bits.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.at += count as usize;
        (self.at <= 8 * self.bytes.len()).then_some(())
    }

    /// An Exp-Golomb code, `ue(v)`; `None` also where it is longer than any that is allowed.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    fn skip_ue(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.ue().map(drop))
    }

    /// Passes over a scaling list of H.264; where it comes to 0, the rest of it is not there.
    fn scaling_list(&mut self, len: usize) -> Option<()> {
        if !self.flag()? {
            return Some(());
        }
        let mut scale = 8;
        for _ in 0..len {
            // Signed: odd codes are positive.
            let code = i64::from(self.ue()?);
            let delta = if code % 2 == 1 { code / 2 + 1 } else { -(code / 2) };
            scale = (scale + delta).rem_euclid(256);
            if scale == 0 {
                break;
            }
        }
        Some(())
    }

    /// What is left of a picture when it is cropped, by units of so many pixels across and down, if it is cropped.
    fn cropped(&mut self, size: (u64, u64), unit: (u64, u64)) -> Option<(u32, u32)> {
        let mut windows = [0; 4];
        if self.flag()? {
            for window in &mut windows {
                *window = u64::from(self.ue()?);
            }
        }
        let [left, right, top, bottom] = windows;
        let side = |side: u64, cropped: u64| {
            let side = side.checked_sub(cropped).filter(|side| (1..=LONGEST_SIDE).contains(side))?;
            u32::try_from(side).ok()
        };
        Some((side(size.0, unit.0 * (left + right))?, side(size.1, unit.1 * (top + bottom))?))
    }
}

/// The bytes of a NAL unit without those that keep start codes from arising in it.
pub(crate) fn without_emulation_prevention(bytes: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 1280x720 by the syntax of H.264, and 4416x1242 as x265 writes it.
    const AVC: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x17, 0x7e, 0x25];
    const HEVC: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x96, 0xa0, 0x00, 0x8a, 0x08, 0x01, 0x38, 0x7c, 0x99, 0x65, 0x65, 0x4a, 0x4c, 0x2f, 0x01, 0x68, 0x08,
        0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x40,
    ];

    /// Writes bits, one character each.
    #[derive(Default)]
    struct Pen(String);

    impl Pen {
        fn bits(&mut self, value: u64, count: usize) -> &mut Self {
            self.0.push_str(&format!("{:064b}", value)[64 - count..]);
            self
        }

        fn ue(&mut self, value: u64) -> &mut Self {
            let len = 64 - (value + 1).leading_zeros() as usize;
            self.bits(0, len - 1).bits(value + 1, len)
        }

        /// As a NAL unit has them.
        fn bytes(&self) -> Vec<u8> {
            let stopped = format!("{}1", self.0);
            let padded = format!("{stopped:0<len$}", len = stopped.len().next_multiple_of(8));
            let mut nal = Vec::new();
            for at in (0..padded.len()).step_by(8) {
                let byte = u8::from_str_radix(&padded[at..at + 8], 2).unwrap();
                if byte <= 3 && nal.ends_with(&[0, 0]) {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal
        }
    }

    /// Chroma format, its flag of separate planes, and what cropping goes by.
    const CHROMAS: [(u64, Option<u64>, (u64, u64)); 5] =
        [(0, None, (1, 1)), (1, None, (2, 2)), (2, None, (2, 1)), (3, Some(0), (1, 1)), (3, Some(1), (1, 1))];

    #[derive(Debug)]
    struct Wanted {
        chroma: usize,
        blocks: (u64, u64),
        frames_only: bool,
        crop: Option<[u64; 4]>,
        order: u64,
        lists: bool,
        layers: u64,
    }

    prop_compose! {
        fn wanted()(
            chroma in 0..CHROMAS.len(),
            blocks in (4..1100u64, 4..600u64),
            frames_only: bool,
            crop in prop::option::of(prop::array::uniform4(0..8u64)),
            order in 0..3u64,
            lists: bool,
            layers in 0..7u64,
        ) -> Wanted {
            Wanted { chroma, blocks, frames_only, crop, order, lists, layers }
        }
    }

    fn chroma(pen: &mut Pen, number: usize) -> (u64, u64) {
        let (format, separate, unit) = CHROMAS[number];
        pen.ue(format);
        if let Some(flag) = separate {
            pen.bits(flag, 1);
        }
        unit
    }

    fn cropped(pen: &mut Pen, wanted: &Wanted, size: (u64, u64), unit: (u64, u64)) -> Option<(u32, u32)> {
        pen.bits(wanted.crop.is_some().into(), 1);
        for &window in wanted.crop.iter().flatten() {
            pen.ue(window);
        }
        let [left, right, top, bottom] = wanted.crop.unwrap_or_default();
        let (width, height) = (size.0 - unit.0 * (left + right), size.1 - unit.1 * (top + bottom));
        (width <= LONGEST_SIDE && height <= LONGEST_SIDE).then_some((width as u32, height as u32))
    }

    fn avc(wanted: &Wanted) -> (Vec<u8>, Option<Sequence>) {
        let mut pen = Pen::default();
        pen.bits(0x67, 8).bits(244, 8).bits(0, 8).bits(51, 8).ue(3);
        let (across, down) = chroma(&mut pen, wanted.chroma);
        pen.ue(0).ue(0).bits(0, 1).bits(wanted.lists.into(), 1);
        if wanted.lists {
            // A whole list, one that ends at once, and none.
            pen.bits(1, 1);
            for code in 0..16 {
                pen.ue(code);
            }
            pen.bits(1, 1).ue(16);
            pen.bits(0, if CHROMAS[wanted.chroma].0 == 3 { 10 } else { 6 });
        }
        pen.ue(4).ue(wanted.order);
        match wanted.order {
            0 => pen.ue(7),
            1 => pen.bits(1, 1).ue(2).ue(9).ue(2).ue(5).ue((1 << 32) - 2),
            _ => &mut pen,
        };
        let (blocks, fields) = (wanted.blocks, if wanted.frames_only { 1 } else { 2 });
        pen.ue(4).bits(0, 1).ue(blocks.0 - 1).ue(blocks.1 - 1);
        pen.bits(wanted.frames_only.into(), 1).bits(1, fields);
        let fields = fields as u64;
        let size = (16 * blocks.0, 16 * blocks.1 * fields);
        let size = cropped(&mut pen, wanted, size, (across, down * fields));
        pen.bits(0, 1);
        (pen.bytes(), size.map(|size| Sequence { size, may_reorder: wanted.order != 2 }))
    }

    fn hevc(wanted: &Wanted) -> (Vec<u8>, Option<Sequence>) {
        let mut pen = Pen::default();
        pen.bits(0x4201, 16).bits(0, 4).bits(wanted.layers, 3).bits(1, 1).bits(1, 48).bits(0, 48);
        if wanted.layers > 0 {
            // All of the first layer, and none of the others.
            pen.bits(3, 2).bits(0, 14).bits(7, 48).bits(9, 48);
        }
        pen.ue(15);
        let unit = chroma(&mut pen, wanted.chroma);
        let size = (8 * wanted.blocks.0, 8 * wanted.blocks.1);
        pen.ue(size.0).ue(size.1);
        let size = cropped(&mut pen, wanted, size, unit);
        pen.ue(0).ue(0).ue(4).bits(wanted.lists.into(), 1);
        let told = if wanted.lists { wanted.layers + 1 } else { 1 };
        // What the last layer has, counts.
        let pictures = wanted.order;
        for layer in 1..=told {
            pen.ue(4).ue(if layer == told { pictures } else { 0 }).ue(0);
        }
        (pen.bytes(), size.map(|size| Sequence { size, may_reorder: pictures > 0 }))
    }

    #[test]
    fn claims_that_cannot_be_true_are_none() {
        let sized = |width, height, crop| {
            let mut pen = Pen::default();
            pen.bits(0x67, 8).bits(66, 8).bits(0, 16).ue(0).ue(0).ue(2).ue(1).bits(0, 1);
            pen.ue(width).ue(height).bits(0b11, 2).bits(1, 1).ue(crop).ue(0).ue(0).ue(0);
            Sequence::read(Codec::H264, &pen.bytes()).map(|sequence| sequence.size)
        };
        assert_eq!(sized(1023, 1023, 0), Some((16384, 16384)));
        assert_eq!(sized(1024, 0, 0), None);
        assert_eq!(sized(1024, 0, 8), Some((16384, 16)));
        // Nothing is left, or less.
        assert_eq!((sized(0, 0, 7), sized(0, 0, 8), sized(0, 0, 9)), (Some((2, 16)), None, None));
        let most = (1 << 32) - 2;
        assert_eq!((sized(most, most, 0), sized(most, most, most), sized(0, most, most)), (None, None, None));
        // Longer codes than there are.
        for zeros in [32, 63, 64, 65, 200] {
            let mut pen = Pen::default();
            pen.bits(0x67, 8).bits(66, 8).bits(0, 16);
            pen.0.push_str(&"0".repeat(zeros));
            pen.0.push_str(&"1".repeat(400));
            assert_eq!(Sequence::read(Codec::H264, &pen.bytes()), None, "{zeros}");
        }
    }

    #[test]
    fn what_stands_behind_size_and_order_is_not_read() {
        let mut pen = Pen::default();
        pen.bits(0x4201, 16).bits(1, 8).bits(0, 48).bits(0, 48).ue(0).ue(1).ue(320).ue(96).bits(0, 1);
        pen.ue(0).ue(0).ue(4).bits(1, 1).ue(4).ue(0).ue(0);
        // Sizes of blocks, and scaling lists: six, and one like one that comes long before the first.
        pen.ue(0).ue(3).ue(0).ue(3).ue(0).ue(0).bits(0b11, 2);
        for _ in 0..6 {
            pen.bits(0, 1).ue(0);
        }
        pen.bits(0, 1).ue(5);
        let wanted = Sequence { size: (320, 96), may_reorder: false };
        assert_eq!(Sequence::read(Codec::H265, &pen.bytes()), Some(wanted));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(wanted in wanted(), cut in 0..10_000usize) {
            for (codec, (set, sequence)) in [(Codec::H264, avc(&wanted)), (Codec::H265, hevc(&wanted))] {
                prop_assert_eq!(Sequence::read(codec, &set), sequence, "{:?} {:x?}", codec, set);
                let cut = &set[..cut % set.len()];
                prop_assert!(Sequence::read(codec, cut).is_none_or(|read| Some(read) == sequence));
            }
        }

        /// Whatever the bytes are, a size is one that memory can be had for, and reading it does not fail otherwise.
        #[test]
        fn sizes_are_bounded_whatever_the_bytes_are(
            set in prop_oneof![
                Just(AVC.to_vec()), Just(HEVC.to_vec()),
                wanted().prop_map(|wanted| avc(&wanted).0), wanted().prop_map(|wanted| hevc(&wanted).0),
                prop::collection::vec(any::<u8>(), 0..300),
            ],
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            zeros in prop::option::of((any::<prop::sample::Index>(), 1..40usize)),
        ) {
            let mut set = set;
            for (at, byte) in changes {
                if !set.is_empty() {
                    let at = at.index(set.len());
                    set[at] = byte;
                }
            }
            if let Some((at, count)) = zeros {
                let at = at.index(set.len() + 1);
                set.splice(at..at, std::iter::repeat_n(0, count));
            }
            for codec in [Codec::H264, Codec::H265] {
                if let Some(Sequence { size: (width, height), .. }) = Sequence::read(codec, &set) {
                    prop_assert!((1..=1 << 14).contains(&width) && (1..=1 << 14).contains(&height));
                }
            }
        }
    }
}
