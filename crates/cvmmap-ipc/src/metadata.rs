// SPDX-License-Identifier: MPL-2.0

//! The 256 bytes at the head of a segment: which frame it holds and how its planes lie in the payload.
//!
//! Versions 0.0 and 1 (one packed picture) and 2 (up to four planes) parse into one [`Metadata`]; version 2.1
//! rules hold from minor 1 on. Unknown enum values are kept where no rule needs their size.

use std::fmt;

use crate::sync::FrameId;

/// Size of the metadata in bytes; the payload begins behind it.
pub const METADATA_SIZE: usize = 256;
/// The first eight bytes of every segment.
pub const MAGIC: [u8; 8] = *b"CV-MMAP\0";
/// How many planes a version 2 frame can have.
pub const PLANE_SLOTS: usize = 4;

const DESCRIPTORS_OFFSET: usize = 64;
const DESCRIPTOR_SIZE: usize = 24;
const EXTENSION: std::ops::Range<usize> = 0x2D..0x40;
const _: () = assert!(DESCRIPTORS_OFFSET + PLANE_SLOTS * DESCRIPTOR_SIZE + 96 == METADATA_SIZE);
const _: () = assert!(EXTENSION.end - EXTENSION.start == 19);

/// An enum of the wire whose unknown values are kept.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $value:literal => $variant:ident, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value that this version of the contract does not name.
            Unknown(u8),
        }

        impl From<u8> for $name {
            fn from(value: u8) -> Self {
                match value {
                    $($value => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> u8 {
                match value {
                    $($name::$variant => $value,)*
                    $name::Unknown(other) => other,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Unknown(other) => write!(f, "unknown({other})"),
                }
            }
        }
    };
}

wire_enum! {
    /// Order and number of channels of a pixel.
    PixelFormat {
        0 => Rgb, "RGB";
        1 => Bgr, "BGR";
        2 => Rgba, "RGBA";
        3 => Bgra, "BGRA";
        4 => Gray, "GRAY";
        /// Three interleaved channels.
        5 => Yuv, "YUV";
        /// Two interleaved channels: Y0 U Y1 V.
        6 => Yuyv, "YUYV";
    }
}

wire_enum! {
    /// Type of one channel of a pixel.
    Depth {
        0 => U8, "u8";
        1 => S8, "s8";
        2 => U16, "u16";
        3 => S16, "s16";
        4 => S32, "s32";
        5 => F32, "f32";
        6 => F64, "f64";
        7 => F16, "f16";
    }
}

wire_enum! {
    /// Unit of the depth plane's values.
    DepthUnit {
        0 => Unspecified, "unspecified";
        1 => Millimetre, "millimetre";
        2 => Metre, "metre";
    }
}

wire_enum! {
    /// Codec of the encoded plane.
    Codec {
        0 => Unspecified, "unspecified";
        1 => H264, "H.264";
        2 => H265, "H.265";
    }
}

wire_enum! {
    /// Bitstream format of the encoded plane.
    Bitstream {
        0 => Unspecified, "unspecified";
        1 => AnnexB, "Annex B";
    }
}

impl PixelFormat {
    /// Channels per pixel; `None` for unknown formats.
    pub fn channels(self) -> Option<u8> {
        Some(match self {
            Self::Rgb | Self::Bgr | Self::Yuv => 3,
            Self::Rgba | Self::Bgra => 4,
            Self::Gray => 1,
            Self::Yuyv => 2,
            Self::Unknown(_) => return None,
        })
    }
}

impl Depth {
    /// Bytes per channel; `None` for unknown types.
    pub fn bytes(self) -> Option<u8> {
        Some(match self {
            Self::U8 | Self::S8 => 1,
            Self::U16 | Self::S16 | Self::F16 => 2,
            Self::S32 | Self::F32 => 4,
            Self::F64 => 8,
            Self::Unknown(_) => return None,
        })
    }
}

/// The four slots for planes, in payload order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PlaneKind {
    /// The picture; every frame has it, at payload offset 0.
    Left,
    /// Depth as f32 in the metadata's [`DepthUnit`].
    Depth,
    /// Confidence of the depth as f32.
    Confidence,
    /// One access unit of the encoded left picture (version 2.1).
    Encoded,
}

impl PlaneKind {
    /// All kinds in slot order.
    pub const ALL: [Self; PLANE_SLOTS] = [Self::Left, Self::Depth, Self::Confidence, Self::Encoded];

    /// The slot's index, which is also the wire's plane type.
    pub fn slot(self) -> usize {
        self as usize
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        ["left", "depth", "confidence", "encoded"][self.slot()]
    }
}

impl fmt::Display for PlaneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One plane of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Which slot it fills.
    pub kind: PlaneKind,
    /// Order of channels.
    pub pixel_format: PixelFormat,
    /// Type of a channel.
    pub depth: Depth,
    /// Channels per pixel; in version 1 the header's own number, which need not fit the pixel format.
    pub channels: u8,
    /// Width in pixels.
    pub width: u32,
    /// Height in rows.
    pub height: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// First byte, counted from the start of the payload.
    pub offset: u32,
    /// Bytes that belong to the plane, at least `stride * height`.
    pub size: u32,
}

impl Plane {
    /// A packed plane at payload offset 0: `stride` is `width` pixels, `size` is `stride * height` bytes.
    ///
    /// `None` where the format is unknown or the plane does not fit 32 bits.
    pub fn packed(
        kind: PlaneKind,
        format: PixelFormat,
        depth: Depth,
        width: u32,
        height: u32,
    ) -> Option<Self> {
        let channels = format.channels()?;
        let stride = width.checked_mul(u32::from(channels))?.checked_mul(u32::from(depth.bytes()?))?;
        let size = stride.checked_mul(height)?;
        Some(Self { kind, pixel_format: format, depth, channels, width, height, stride, offset: 0, size })
    }

    /// An encoded access unit of `size` bytes at payload offset 0.
    pub fn access_unit(size: u32) -> Self {
        Self {
            kind: PlaneKind::Encoded,
            pixel_format: PixelFormat::Gray,
            depth: Depth::U8,
            channels: 1,
            width: size,
            height: 1,
            stride: size,
            offset: 0,
            size,
        }
    }

    /// Bytes of a row that carry pixels (`stride` less padding).
    pub fn row_bytes(&self) -> usize {
        self.width as usize * usize::from(self.channels) * usize::from(self.depth.bytes().unwrap_or(0))
    }
}

/// What the 2.1 extension says of the encoded plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedInfo {
    /// Codec of the access unit.
    pub codec: Codec,
    /// How its NAL units are delimited.
    pub bitstream: Bitstream,
    /// Bit 0 = key frame; the others are reserved and kept.
    pub flags: u16,
    /// Frame rate as numerator and denominator; 0/0 where unknown.
    pub frame_rate: (u16, u16),
    /// The encoder's own presentation time in ns.
    pub stream_pts_ns: u64,
}

impl EncodedInfo {
    /// Whether the access unit can be decoded without those before it.
    pub fn is_key_frame(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Version of the metadata layout, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 0 (with minor 0), 1 or 2.
    pub major: u8,
    /// From minor 1 on, major 2 follows the 2.1 rules.
    pub minor: u8,
}

impl Version {
    /// Version 1.0.
    pub const V1: Self = Self { major: 1, minor: 0 };
    /// Version 2.0.
    pub const V2: Self = Self { major: 2, minor: 0 };
    /// Version 2.1.
    pub const V2_1: Self = Self { major: 2, minor: 1 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A frame's metadata. What [`Metadata::parse`] returns keeps every rule of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Layout version.
    pub version: Version,
    /// Reserved flags (version 2), kept.
    pub flags: u16,
    /// Frame count and capture stamp.
    pub frame: FrameId,
    /// Publish sequence (version 2; producers write the frame count), 0 in version 1.
    pub publish_seq: u64,
    /// Unit of the depth plane.
    pub depth_unit: DepthUnit,
    /// Bytes of payload in use.
    pub payload_size: u32,
    /// The planes by slot; `None` = not published with this frame.
    pub planes: [Option<Plane>; PLANE_SLOTS],
    /// The 2.1 extension; `None` in other versions and where all of it is zero.
    pub encoded: Option<EncodedInfo>,
}

/// Which rule a header breaks, with the values that show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum MetadataError {
    #[error("magic is {0:02x?}, not 'CV-MMAP\\0'")]
    Magic([u8; 8]),
    #[error("version {0} is none of 0.0, 1.x, 2.x")]
    Version(Version),
    #[error("{0} is zero")]
    Zero(&'static str),
    #[error("depth code {0} is unknown, so the size of a row cannot be told")]
    UnknownDepth(u8),
    #[error(
        "buffer_size {buffer_size} is smaller than {needed} (width {width} x {channels} channels x {bytes} bytes x height {height})"
    )]
    BufferSize { buffer_size: u32, needed: u64, width: u16, channels: u8, bytes: u8, height: u16 },
    #[error("payload of {payload} bytes does not fit the {mapped} bytes behind the metadata")]
    BeyondSegment { payload: u32, mapped: u64 },
    #[error("plane_count {0} is not within 1..4")]
    PlaneCount(u8),
    #[error("plane_presence_mask {mask:#06b} with plane_count {count}: {rule}")]
    PresenceMask { mask: u8, count: u8, rule: &'static str },
    #[error("{field} is {value}, not {expected}")]
    Table { field: &'static str, value: u16, expected: u16 },
    #[error("depth_unit {0} is none of 0 (unknown), 1 (millimetre), 2 (metre)")]
    DepthUnit(u8),
    #[error("reserved byte {offset:#04x} is {value:#04x}, version 2.0 wants zero")]
    Reserved { offset: usize, value: u8 },
    #[error("slot {slot} {field} is zero")]
    SlotZero { slot: usize, field: &'static str },
    #[error("slot {slot} plane_type is {found}, not {slot}")]
    SlotType { slot: usize, found: u8 },
    #[error("slot {slot} is {format}/{depth}, not {expected}")]
    SlotFormat { slot: usize, format: PixelFormat, depth: Depth, expected: &'static str },
    #[error("slot {slot} stride {stride} is smaller than {needed} (width {width} x {pixel} bytes)")]
    SlotStride { slot: usize, stride: u32, needed: u64, width: u32, pixel: u32 },
    #[error("slot {slot} size {size} is smaller than {needed} (stride {stride} x height {height})")]
    SlotSize { slot: usize, size: u32, needed: u64, stride: u32, height: u32 },
    #[error("slot {slot} starts at {offset}, not at {expected} where the plane before it ends")]
    SlotOffset { slot: usize, offset: u32, expected: u64 },
    #[error("slot {slot} ends at {end}, beyond payload_size_bytes {payload}")]
    SlotEnd { slot: usize, end: u64, payload: u32 },
    #[error("slot {slot} is inactive but its {field} is {value}")]
    SlotInactive { slot: usize, field: &'static str, value: u32 },
    #[error(
        "slot 3 has height {height}, width {width}, stride {stride}, size {size}; height 1 and width = stride = size are wanted"
    )]
    SlotAccessUnit { height: u32, width: u32, stride: u32, size: u32 },
    #[error("slot 3 is active but its {field} is {value}")]
    EncodedUnknown { field: &'static str, value: u8 },
    #[error("{what} cannot be written in version {version}")]
    NotInVersion { what: &'static str, version: Version },
}

impl Metadata {
    /// A frame of `planes` (in slot order, their offsets set here so that they lie packed), written as `version`.
    pub fn new(version: Version, frame: FrameId, planes: impl IntoIterator<Item = Plane>) -> Self {
        let mut slots = [None; PLANE_SLOTS];
        for plane in planes {
            slots[plane.kind.slot()] = Some(plane);
        }
        let mut payload_size = 0u32;
        for plane in slots.iter_mut().flatten() {
            plane.offset = payload_size;
            payload_size = payload_size.saturating_add(plane.size);
        }
        Self {
            version,
            flags: 0,
            frame,
            publish_seq: if version.major == 2 { frame.count.into() } else { 0 },
            depth_unit: DepthUnit::Unspecified,
            payload_size,
            planes: slots,
            encoded: None,
        }
    }

    /// The plane of this kind, if the frame carries it.
    pub fn plane(&self, kind: PlaneKind) -> Option<&Plane> {
        self.planes[kind.slot()].as_ref()
    }

    /// Frame count and capture stamp as they stand in the bytes, which need not be valid: the fields lie at the
    /// same place in all versions.
    pub fn peek_frame(bytes: &[u8; METADATA_SIZE]) -> FrameId {
        let r = Fields(bytes);
        FrameId { count: r.u32(0x0C), timestamp_ns: r.u64(0x10) }
    }

    /// Parses metadata in front of `mapped_payload` bytes of payload.
    ///
    /// # Errors
    /// [`MetadataError`] names the first rule that is broken.
    pub fn parse(bytes: &[u8; METADATA_SIZE], mapped_payload: u64) -> Result<Self, MetadataError> {
        let r = Fields(bytes);
        let magic: [u8; 8] = *bytes.first_chunk().expect("256 bytes");
        if magic != MAGIC {
            return Err(MetadataError::Magic(magic));
        }
        let version = Version { major: bytes[8], minor: bytes[9] };
        let metadata = match (version.major, version.minor) {
            (0, 0) | (1, _) => parse_v1(&r, version)?,
            (2, _) => parse_v2(&r, version)?,
            _ => return Err(MetadataError::Version(version)),
        };
        if u64::from(metadata.payload_size) > mapped_payload {
            return Err(MetadataError::BeyondSegment {
                payload: metadata.payload_size,
                mapped: mapped_payload,
            });
        }
        Ok(metadata)
    }

    /// Writes the metadata in its own version.
    ///
    /// # Errors
    /// What [`Metadata::parse`] would say of the bytes, and [`MetadataError::NotInVersion`] for what the version
    /// has no field for.
    pub fn to_bytes(&self) -> Result<[u8; METADATA_SIZE], MetadataError> {
        let mut bytes = [0; METADATA_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.version.major;
        bytes[9] = self.version.minor;
        put(&mut bytes, 0x0C, &self.frame.count.to_le_bytes());
        put(&mut bytes, 0x10, &self.frame.timestamp_ns.to_le_bytes());
        match self.version.major {
            0 | 1 => self.put_v1(&mut bytes)?,
            _ => self.put_v2(&mut bytes)?,
        }
        Self::parse(&bytes, u64::MAX)?;
        Ok(bytes)
    }

    fn put_v1(&self, bytes: &mut [u8; METADATA_SIZE]) -> Result<(), MetadataError> {
        let refuse = |what| Err(MetadataError::NotInVersion { what, version: self.version });
        let [Some(left), None, None, None] = self.planes else {
            return refuse("a plane besides the left picture");
        };
        let (Ok(width), Ok(height)) = (u16::try_from(left.width), u16::try_from(left.height)) else {
            return refuse("a picture of more than 65535 pixels in width or height");
        };
        if left.stride as usize != left.row_bytes() {
            return refuse("a stride with padding");
        }
        put(bytes, 0x18, &width.to_le_bytes());
        put(bytes, 0x1A, &height.to_le_bytes());
        bytes[0x1C] = left.channels;
        bytes[0x1D] = left.depth.into();
        bytes[0x1E] = left.pixel_format.into();
        put(bytes, 0x20, &left.size.to_le_bytes());
        Ok(())
    }

    fn put_v2(&self, bytes: &mut [u8; METADATA_SIZE]) -> Result<(), MetadataError> {
        if self.encoded.is_some() && self.version.minor == 0 {
            let what = "the encoded plane's extension";
            return Err(MetadataError::NotInVersion { what, version: self.version });
        }
        put(bytes, 0x0A, &self.flags.to_le_bytes());
        put(bytes, 0x18, &self.publish_seq.to_le_bytes());
        for plane in self.planes.iter().flatten() {
            bytes[0x20] += 1;
            bytes[0x21] |= 1 << plane.kind.slot();
        }
        put(bytes, 0x22, &(DESCRIPTORS_OFFSET as u16).to_le_bytes());
        put(bytes, 0x24, &(DESCRIPTOR_SIZE as u16).to_le_bytes());
        put(bytes, 0x26, &(PLANE_SLOTS as u16).to_le_bytes());
        put(bytes, 0x28, &self.payload_size.to_le_bytes());
        bytes[0x2C] = self.depth_unit.into();
        if let Some(encoded) = &self.encoded {
            bytes[0x2D] = encoded.codec.into();
            bytes[0x2E] = encoded.bitstream.into();
            put(bytes, 0x2F, &encoded.flags.to_le_bytes());
            put(bytes, 0x31, &encoded.frame_rate.0.to_le_bytes());
            put(bytes, 0x33, &encoded.frame_rate.1.to_le_bytes());
            put(bytes, 0x35, &encoded.stream_pts_ns.to_le_bytes());
        }
        for (slot, plane) in self.planes.iter().enumerate() {
            let base = DESCRIPTORS_OFFSET + slot * DESCRIPTOR_SIZE;
            if let Some(plane) = plane {
                bytes[base] = slot as u8;
                bytes[base + 1] = plane.pixel_format.into();
                bytes[base + 2] = plane.depth.into();
                let fields = [plane.width, plane.height, plane.stride, plane.offset, plane.size];
                for (i, field) in fields.into_iter().enumerate() {
                    put(bytes, base + 4 + 4 * i, &field.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

fn put(bytes: &mut [u8; METADATA_SIZE], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

struct Fields<'a>(&'a [u8; METADATA_SIZE]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("N bytes")
    }
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
    fn frame(&self) -> FrameId {
        Metadata::peek_frame(self.0)
    }
}

fn parse_v1(r: &Fields<'_>, version: Version) -> Result<Metadata, MetadataError> {
    let (width, height, channels) = (r.u16(0x18), r.u16(0x1A), r.0[0x1C]);
    let (depth, pixel_format) = (Depth::from(r.0[0x1D]), PixelFormat::from(r.0[0x1E]));
    let buffer_size = r.u32(0x20);
    for (value, field) in [
        (u32::from(width), "width"),
        (u32::from(height), "height"),
        (u32::from(channels), "channels"),
        (buffer_size, "buffer_size"),
    ] {
        if value == 0 {
            return Err(MetadataError::Zero(field));
        }
    }
    let bytes = depth.bytes().ok_or(MetadataError::UnknownDepth(depth.into()))?;
    let stride = u32::from(width) * u32::from(channels) * u32::from(bytes);
    let needed = u64::from(stride) * u64::from(height);
    if u64::from(buffer_size) < needed {
        return Err(MetadataError::BufferSize { buffer_size, needed, width, channels, bytes, height });
    }
    let left = Plane {
        kind: PlaneKind::Left,
        pixel_format,
        depth,
        channels,
        width: width.into(),
        height: height.into(),
        stride,
        offset: 0,
        size: buffer_size,
    };
    Ok(Metadata {
        version,
        flags: 0,
        frame: r.frame(),
        publish_seq: 0,
        depth_unit: DepthUnit::Unspecified,
        payload_size: buffer_size,
        planes: [Some(left), None, None, None],
        encoded: None,
    })
}

fn parse_v2(r: &Fields<'_>, version: Version) -> Result<Metadata, MetadataError> {
    let mask = presence(r, version)?;
    for (field, at, expected) in [
        ("plane_descriptors_offset", 0x22, DESCRIPTORS_OFFSET),
        ("plane_descriptor_size", 0x24, DESCRIPTOR_SIZE),
        ("plane_descriptor_capacity", 0x26, PLANE_SLOTS),
    ] {
        let (value, expected) = (r.u16(at), expected as u16);
        if value != expected {
            return Err(MetadataError::Table { field, value, expected });
        }
    }
    let payload_size = r.u32(0x28);
    if payload_size == 0 {
        return Err(MetadataError::Zero("payload_size_bytes"));
    }
    let depth_unit = DepthUnit::from(r.0[0x2C]);
    if let DepthUnit::Unknown(code) = depth_unit {
        return Err(MetadataError::DepthUnit(code));
    }
    let encoded = extension(r, version)?;

    let mut planes = [None; PLANE_SLOTS];
    let mut end = 0;
    for kind in PlaneKind::ALL {
        let slot = kind.slot();
        if mask & (1 << slot) == 0 {
            inactive(r, slot)?;
            continue;
        }
        let plane = descriptor(r, kind, payload_size, end)?;
        end = u64::from(plane.offset) + u64::from(plane.size);
        planes[slot] = Some(plane);
    }
    if planes[PlaneKind::Encoded.slot()].is_some() {
        let info = encoded.unwrap_or(NO_EXTENSION);
        if !matches!(info.codec, Codec::H264 | Codec::H265) {
            return Err(MetadataError::EncodedUnknown { field: "codec", value: info.codec.into() });
        }
        if info.bitstream != Bitstream::AnnexB {
            return Err(MetadataError::EncodedUnknown {
                field: "bitstream format",
                value: info.bitstream.into(),
            });
        }
    }
    Ok(Metadata {
        version,
        flags: r.u16(0x0A),
        frame: r.frame(),
        publish_seq: r.u64(0x18),
        depth_unit,
        payload_size,
        planes,
        encoded,
    })
}

fn presence(r: &Fields<'_>, version: Version) -> Result<u8, MetadataError> {
    let (count, mask) = (r.0[0x20], r.0[0x21]);
    if !(1..=PLANE_SLOTS as u8).contains(&count) {
        return Err(MetadataError::PlaneCount(count));
    }
    let broken = |rule| Err(MetadataError::PresenceMask { mask, count, rule });
    if mask & 0xF0 != 0 {
        return broken("the upper four bits are not 0");
    }
    if version.minor == 0 {
        if mask != (1u8 << count) - 1 {
            return broken("version 2.0 wants (1 << plane_count) - 1");
        }
        if mask & (1 << PlaneKind::Encoded.slot()) != 0 {
            return broken("slot 3 exists from version 2.1 on");
        }
    } else if mask & 1 == 0 {
        return broken("bit 0 (left) is not set");
    } else if mask.count_ones() != u32::from(count) {
        return broken("the number of set bits is not plane_count");
    }
    Ok(mask)
}

const NO_EXTENSION: EncodedInfo = EncodedInfo {
    codec: Codec::Unspecified,
    bitstream: Bitstream::Unspecified,
    flags: 0,
    frame_rate: (0, 0),
    stream_pts_ns: 0,
};

fn extension(r: &Fields<'_>, version: Version) -> Result<Option<EncodedInfo>, MetadataError> {
    if version.minor == 0 {
        return match EXTENSION.map(|offset| (offset, r.0[offset])).find(|(_, value)| *value != 0) {
            Some((offset, value)) => Err(MetadataError::Reserved { offset, value }),
            None => Ok(None),
        };
    }
    let info = EncodedInfo {
        codec: r.0[0x2D].into(),
        bitstream: r.0[0x2E].into(),
        flags: r.u16(0x2F),
        frame_rate: (r.u16(0x31), r.u16(0x33)),
        stream_pts_ns: r.u64(0x35),
    };
    Ok((info != NO_EXTENSION).then_some(info))
}

fn inactive(r: &Fields<'_>, slot: usize) -> Result<(), MetadataError> {
    let base = DESCRIPTORS_OFFSET + slot * DESCRIPTOR_SIZE;
    for (i, field) in ["width", "height", "stride", "offset", "size"].into_iter().enumerate() {
        let value = r.u32(base + 4 + 4 * i);
        if value != 0 {
            return Err(MetadataError::SlotInactive { slot, field, value });
        }
    }
    Ok(())
}

fn descriptor(r: &Fields<'_>, kind: PlaneKind, payload: u32, expected: u64) -> Result<Plane, MetadataError> {
    let slot = kind.slot();
    let base = DESCRIPTORS_OFFSET + slot * DESCRIPTOR_SIZE;
    let (pixel_format, depth) = (PixelFormat::from(r.0[base + 1]), Depth::from(r.0[base + 2]));
    let [width, height, stride, offset, size] = [4, 8, 12, 16, 20].map(|at| r.u32(base + at));

    if usize::from(r.0[base]) != slot {
        return Err(MetadataError::SlotType { slot, found: r.0[base] });
    }
    for (value, field) in [(width, "width"), (height, "height"), (stride, "stride"), (size, "size")] {
        if value == 0 {
            return Err(MetadataError::SlotZero { slot, field });
        }
    }
    let wrong_format =
        |expected| Err(MetadataError::SlotFormat { slot, format: pixel_format, depth, expected });
    match (kind, pixel_format, depth) {
        (PlaneKind::Depth | PlaneKind::Confidence, PixelFormat::Gray, Depth::F32) => (),
        (PlaneKind::Depth | PlaneKind::Confidence, ..) => return wrong_format("GRAY/f32"),
        (PlaneKind::Encoded, PixelFormat::Gray, Depth::U8) => (),
        (PlaneKind::Encoded, ..) => return wrong_format("GRAY/u8"),
        (PlaneKind::Left, ..) => (),
    }
    let (Some(channels), Some(bytes)) = (pixel_format.channels(), depth.bytes()) else {
        return wrong_format("a known format and depth");
    };
    let pixel = u32::from(channels) * u32::from(bytes);
    let needed = u64::from(width) * u64::from(pixel);
    if u64::from(stride) < needed {
        return Err(MetadataError::SlotStride { slot, stride, needed, width, pixel });
    }
    let needed = u64::from(stride) * u64::from(height);
    if u64::from(size) < needed {
        return Err(MetadataError::SlotSize { slot, size, needed, stride, height });
    }
    if kind == PlaneKind::Encoded && (height != 1 || width != size || stride != size) {
        return Err(MetadataError::SlotAccessUnit { height, width, stride, size });
    }
    if u64::from(offset) != expected {
        return Err(MetadataError::SlotOffset { slot, offset, expected });
    }
    let end = u64::from(offset) + u64::from(size);
    if end > u64::from(payload) {
        return Err(MetadataError::SlotEnd { slot, end, payload });
    }
    Ok(Plane { kind, pixel_format, depth, channels, width, height, stride, offset, size })
}
