// SPDX-License-Identifier: MPL-2.0

//! Body packets: what a producer's tracker saw in one frame, as raw little-endian bytes.
//!
//! A packet is a header of 64 bytes and `body_count` records of 3248 bytes. Every count and size is checked before a
//! record is read; enum values that are not known are kept as they came. Coordinates and lengths are in the units of
//! the producer's coordinate system (ZED: metres, pixels for the 2D fields), angles in quaternions (x, y, z, w);
//! joints that were not seen are NaN.
//!
//! Source: the contract page cvmmap-nats, "Body packet".

use bytes::Bytes;

/// Bytes of a packet's header.
pub const HEADER_SIZE: usize = 64;
/// Bytes of one body.
pub const RECORD_SIZE: usize = 3248;
/// Joints that a record has room for.
pub const MAX_JOINTS: usize = 38;

const MAGIC: u8 = 0x62;
const MAJOR: u8 = 1;
const LABEL_SIZE: usize = 24;

/// The rule that a packet breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum BodyError {
    #[error("{0} bytes are too few for the header of {HEADER_SIZE}")]
    Short(usize),
    #[error("magic 0x{0:02x} is not 0x{MAGIC:02x}")]
    Magic(u8),
    #[error("major version {0} is not {MAJOR}")]
    Version(u8),
    #[error("body_record_size {0} is not {RECORD_SIZE}")]
    RecordSize(u16),
    #[error("payload_size_bytes {size} is not body_count {count} x {RECORD_SIZE}")]
    PayloadSize { size: u32, count: u16 },
    #[error("{len} bytes are not the {wanted} of {count} bodies")]
    Length { len: usize, count: u16, wanted: usize },
    #[error("keypoint_count {count} of body {index} is more than the {max} of its format")]
    Keypoints { index: usize, count: u16, max: usize },
    #[error("label is not NUL-padded printable ASCII")]
    Label,
    #[error("{0} bodies are more than a packet counts")]
    Count(usize),
}

/// A packet whose sizes and counts hold; bodies are read from its bytes as they are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyPacket {
    /// What the header says.
    pub header: BodyHeader,
    bytes: Bytes,
}

/// The fields of a packet's header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyHeader {
    /// 1 image, 2 right-handed y-up.
    pub coordinate_system: u8,
    /// Minor version of the layout.
    pub minor: u8,
    /// The frame that the bodies were seen in.
    pub frame_count: u32,
    /// Capture time of the frame, in ns; of the frame's own clock.
    pub timestamp_ns: u64,
    /// The same by the SDK's clock, in ns.
    pub sdk_timestamp_ns: u64,
    /// Bodies in the packet.
    pub body_count: u16,
    /// 0, 1, 2: 18, 34, 38 joints.
    pub format: u8,
    /// 0 full body, 1 upper body.
    pub selection: u8,
    /// 0 fast, 1 medium, 2 accurate.
    pub model: u8,
    /// 0 fp32, 1 fp16, 2 int8.
    pub precision: u8,
    /// 0x1 new, 0x2 tracked, 0x4 body fitting, 0x8 reduced precision, 0x10 floor as origin.
    pub flags: u16,
    /// 1 camera, 2 world.
    pub reference_frame: u8,
    /// The producer's label.
    pub label: String,
}

impl BodyHeader {
    /// Joints of a body, by the format; all that a record has room for where it is unknown.
    pub fn joints(&self) -> usize {
        match self.format {
            0 => 18,
            1 => 34,
            _ => MAX_JOINTS,
        }
    }

    /// When the bodies were seen, in ns: the frame's time, or the SDK's where that is 0.
    pub fn time_ns(&self) -> u64 {
        if self.timestamp_ns == 0 { self.sdk_timestamp_ns } else { self.timestamp_ns }
    }
}

/// One body.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Body {
    /// The same body has the same id in every frame.
    pub id: i32,
    /// 0 off, 1 ok, 2 searching, 3 terminate.
    pub tracking_state: u8,
    /// 0 idle, 1 moving.
    pub action_state: u8,
    /// 0 to 100.
    pub confidence: f32,
    /// Of the centre.
    pub position: [f32; 3],
    /// Per second.
    pub velocity: [f32; 3],
    /// Upper triangle of the matrix.
    pub position_covariance: [f32; 6],
    /// Corners in pixels, clockwise from the top left.
    pub bounding_box_2d: [[f32; 2]; 4],
    /// Corners.
    pub bounding_box_3d: [[f32; 3]; 8],
    /// Width, height, length.
    pub dimensions: [f32; 3],
    /// Joints in pixels.
    pub keypoint_2d: [[f32; 2]; MAX_JOINTS],
    /// Joints in space.
    pub keypoint_3d: [[f32; 3]; MAX_JOINTS],
    /// 0 to 100.
    pub keypoint_confidence: [f32; MAX_JOINTS],
    /// Upper triangles of the matrices.
    pub keypoint_covariance: [[f32; 6]; MAX_JOINTS],
    /// Corners in pixels.
    pub head_bounding_box_2d: [[f32; 2]; 4],
    /// Corners.
    pub head_bounding_box_3d: [[f32; 3]; 8],
    /// Of the centre of the head.
    pub head_position: [f32; 3],
    /// Against the parent joint.
    pub local_position_per_joint: [[f32; 3]; MAX_JOINTS],
    /// Quaternions against the parent joint.
    pub local_orientation_per_joint: [[f32; 4]; MAX_JOINTS],
    /// Quaternion.
    pub global_root_orientation: [f32; 4],
    /// Joints that are filled in, from the first on.
    pub keypoint_count: u16,
    /// 0x1 has local joints, 0x2 has a root orientation.
    pub flags: u16,
}

impl Default for Body {
    /// All zero: a body that is not tracked, without joints.
    fn default() -> Self {
        body(&[0; RECORD_SIZE])
    }
}

/// Offset of `keypoint_count` in a record.
const KEYPOINT_COUNT: usize = RECORD_SIZE - 4;

impl BodyPacket {
    /// Checks a packet.
    ///
    /// # Errors
    /// The first [rule](BodyError) that it breaks.
    pub fn parse(bytes: Bytes) -> Result<Self, BodyError> {
        if bytes.len() < HEADER_SIZE {
            return Err(BodyError::Short(bytes.len()));
        }
        let [magic, coordinate_system, major, minor] = at(&bytes, 0);
        if magic != MAGIC {
            return Err(BodyError::Magic(magic));
        }
        if major != MAJOR {
            return Err(BodyError::Version(major));
        }
        let count = u16::from_le_bytes(at(&bytes, 0x18));
        let record_size = u16::from_le_bytes(at(&bytes, 0x1a));
        if usize::from(record_size) != RECORD_SIZE {
            return Err(BodyError::RecordSize(record_size));
        }
        let size = u32::from_le_bytes(at(&bytes, 0x24));
        if size as usize != usize::from(count) * RECORD_SIZE {
            return Err(BodyError::PayloadSize { size, count });
        }
        let wanted = HEADER_SIZE + size as usize;
        if bytes.len() != wanted {
            return Err(BodyError::Length { len: bytes.len(), count, wanted });
        }
        let [format, selection, model, precision] = at(&bytes, 0x1c);
        let header = BodyHeader {
            coordinate_system,
            minor,
            frame_count: u32::from_le_bytes(at(&bytes, 0x04)),
            timestamp_ns: u64::from_le_bytes(at(&bytes, 0x08)),
            sdk_timestamp_ns: u64::from_le_bytes(at(&bytes, 0x10)),
            body_count: count,
            format,
            selection,
            model,
            precision,
            flags: u16::from_le_bytes(at(&bytes, 0x20)),
            reference_frame: bytes[0x22],
            label: label(&at(&bytes, 0x28))?,
        };
        for (index, record) in bytes[HEADER_SIZE..].chunks_exact(RECORD_SIZE).enumerate() {
            let count = u16::from_le_bytes(at(record, KEYPOINT_COUNT));
            let max = header.joints();
            if usize::from(count) > max {
                return Err(BodyError::Keypoints { index, count, max });
            }
        }
        Ok(Self { header, bytes })
    }

    /// Writes a packet. [`BodyHeader::body_count`] becomes the number of bodies; reserved bytes are 0.
    ///
    /// # Errors
    /// The first [rule](BodyError) that it would break.
    pub fn encode(header: &BodyHeader, bodies: &[Body]) -> Result<Self, BodyError> {
        let count = u16::try_from(bodies.len()).map_err(|_| BodyError::Count(bodies.len()))?;
        let label = header.label.as_bytes();
        // A NUL within would end it, and what follows would be lost.
        if label.len() > LABEL_SIZE || label.contains(&0) {
            return Err(BodyError::Label);
        }
        let mut bytes = Vec::with_capacity(HEADER_SIZE + bodies.len() * RECORD_SIZE);
        bytes.extend([MAGIC, header.coordinate_system, MAJOR, header.minor]);
        bytes.extend(header.frame_count.to_le_bytes());
        bytes.extend(header.timestamp_ns.to_le_bytes());
        bytes.extend(header.sdk_timestamp_ns.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend((RECORD_SIZE as u16).to_le_bytes());
        bytes.extend([header.format, header.selection, header.model, header.precision]);
        bytes.extend(header.flags.to_le_bytes());
        bytes.extend([header.reference_frame, 0]);
        bytes.extend((u32::from(count) * RECORD_SIZE as u32).to_le_bytes());
        bytes.extend(label);
        bytes.resize(HEADER_SIZE, 0);
        bodies.iter().for_each(|body| write_body(body, &mut bytes));
        Self::parse(bytes.into())
    }

    /// The packet as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bodies, in the packet's order.
    pub fn bodies(&self) -> impl ExactSizeIterator<Item = Body> + '_ {
        self.bytes[HEADER_SIZE..].chunks_exact(RECORD_SIZE).map(body)
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("a slice of N bytes")
}

fn label(field: &[u8; LABEL_SIZE]) -> Result<String, BodyError> {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let (name, padding) = field.split_at(end);
    let printable = name.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    if !printable || padding.iter().any(|&byte| byte != 0) {
        return Err(BodyError::Label);
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Takes fields off a record in their order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the record's size was checked");
        self.0 = rest;
        *field
    }

    fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.bytes())
    }

    fn vector<const N: usize>(&mut self) -> [f32; N] {
        std::array::from_fn(|_| self.f32())
    }

    fn matrix<const N: usize, const M: usize>(&mut self) -> [[f32; N]; M] {
        std::array::from_fn(|_| self.vector())
    }
}

fn body(record: &[u8]) -> Body {
    let mut fields = Fields(record);
    let id = i32::from_le_bytes(fields.bytes());
    let [tracking_state, action_state, ..] = fields.bytes::<4>();
    // In the order of the wire: a struct expression evaluates its fields as they are written.
    Body {
        id,
        tracking_state,
        action_state,
        confidence: fields.f32(),
        position: fields.vector(),
        velocity: fields.vector(),
        position_covariance: fields.vector(),
        bounding_box_2d: fields.matrix(),
        bounding_box_3d: fields.matrix(),
        dimensions: fields.vector(),
        keypoint_2d: fields.matrix(),
        keypoint_3d: fields.matrix(),
        keypoint_confidence: fields.vector(),
        keypoint_covariance: fields.matrix(),
        head_bounding_box_2d: fields.matrix(),
        head_bounding_box_3d: fields.matrix(),
        head_position: fields.vector(),
        local_position_per_joint: fields.matrix(),
        local_orientation_per_joint: fields.matrix(),
        global_root_orientation: fields.vector(),
        keypoint_count: u16::from_le_bytes(fields.bytes()),
        flags: u16::from_le_bytes(fields.bytes()),
    }
}

/// The fields of a record in their order.
fn write_body(body: &Body, bytes: &mut Vec<u8>) {
    bytes.extend(body.id.to_le_bytes());
    bytes.extend([body.tracking_state, body.action_state, 0, 0]);
    let floats = [
        std::slice::from_ref(&body.confidence),
        &body.position,
        &body.velocity,
        &body.position_covariance,
        body.bounding_box_2d.as_flattened(),
        body.bounding_box_3d.as_flattened(),
        &body.dimensions,
        body.keypoint_2d.as_flattened(),
        body.keypoint_3d.as_flattened(),
        &body.keypoint_confidence,
        body.keypoint_covariance.as_flattened(),
        body.head_bounding_box_2d.as_flattened(),
        body.head_bounding_box_3d.as_flattened(),
        &body.head_position,
        body.local_position_per_joint.as_flattened(),
        body.local_orientation_per_joint.as_flattened(),
        &body.global_root_orientation,
    ];
    bytes.extend(floats.into_iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes.extend(body.keypoint_count.to_le_bytes());
    bytes.extend(body.flags.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(count: u16, format: u8) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_SIZE + usize::from(count) * RECORD_SIZE];
        bytes[..4].copy_from_slice(&[MAGIC, 2, MAJOR, 0]);
        bytes[0x18..0x1a].copy_from_slice(&count.to_le_bytes());
        bytes[0x1a..0x1c].copy_from_slice(&(RECORD_SIZE as u16).to_le_bytes());
        bytes[0x1c] = format;
        bytes[0x24..0x28].copy_from_slice(&(u32::from(count) * RECORD_SIZE as u32).to_le_bytes());
        bytes[0x28..0x2c].copy_from_slice(b"cam0");
        bytes
    }

    #[test]
    fn a_record_is_read_to_its_last_byte() {
        let mut fields = Fields(&[0; RECORD_SIZE]);
        fields.bytes::<8>();
        fields.vector::<{ (RECORD_SIZE - 8 - 4) / 4 }>();
        fields.bytes::<4>();
        assert!(fields.0.is_empty());
        let mut bytes = packet(1, 2);
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&[38, 0, 3, 0]);
        let parsed = BodyPacket::parse(bytes.into()).unwrap();
        let body = parsed.bodies().next().unwrap();
        assert_eq!((body.keypoint_count, body.flags), (38, 3));
    }

    #[test]
    fn lying_counts_and_sizes_are_named() {
        let parse = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = packet(2, 0);
            change(&mut bytes);
            BodyPacket::parse(bytes.into()).map(drop)
        };
        assert_eq!(parse(&|_| ()), Ok(()));
        assert_eq!(parse(&|b| b.truncate(63)), Err(BodyError::Short(63)));
        assert_eq!(parse(&|b| b[0] = 0x7d), Err(BodyError::Magic(0x7d)));
        assert_eq!(parse(&|b| b[2] = 2), Err(BodyError::Version(2)));
        assert_eq!(parse(&|b| b[0x1a] = 0), Err(BodyError::RecordSize(0x0c00)));
        assert_eq!(parse(&|b| b[0x18] = 3), Err(BodyError::PayloadSize { size: 6496, count: 3 }));
        let wanted = HEADER_SIZE + 2 * RECORD_SIZE;
        assert_eq!(parse(&|b| b.push(0)), Err(BodyError::Length { len: wanted + 1, count: 2, wanted }));
        assert_eq!(
            parse(&|b| b[wanted - 4] = 19),
            Err(BodyError::Keypoints { index: 1, count: 19, max: 18 })
        );
        assert_eq!(parse(&|b| b[0x2e] = b'x'), Err(BodyError::Label));
    }

    #[test]
    fn unknown_enum_values_are_kept() {
        let mut bytes = packet(0, 9);
        (bytes[1], bytes[0x1e], bytes[0x22]) = (77, 88, 99);
        let header = BodyPacket::parse(bytes.into()).unwrap().header;
        assert_eq!((header.coordinate_system, header.format, header.model), (77, 9, 88));
        assert_eq!((header.reference_frame, header.joints()), (99, MAX_JOINTS));
    }

    #[test]
    fn the_sdk_time_stands_in_for_a_missing_one() {
        let mut bytes = packet(0, 0);
        bytes[0x10] = 7;
        assert_eq!(BodyPacket::parse(bytes.clone().into()).unwrap().header.time_ns(), 7);
        bytes[0x08] = 5;
        assert_eq!(BodyPacket::parse(bytes.into()).unwrap().header.time_ns(), 5);
    }

    #[test]
    fn what_no_packet_can_hold_is_refused() {
        let encode = |header: &BodyHeader, bodies: &[Body]| BodyPacket::encode(header, bodies).map(drop);
        let label = |label: &str| BodyHeader { label: label.into(), ..Default::default() };
        assert_eq!(encode(&label("a-label-of-24-characters"), &[]), Ok(()));
        for wrong in ["a-label-of-25-characters.", "b\u{f6}dy", "a\0b"] {
            assert_eq!(encode(&label(wrong), &[]), Err(BodyError::Label), "{wrong}");
        }
        let joints = Body { keypoint_count: 19, ..Default::default() };
        let error = BodyError::Keypoints { index: 1, count: 19, max: 18 };
        assert_eq!(encode(&label("a"), &[Body::default(), joints]), Err(error));
    }

    /// A record with every byte of use set, since a property test would take long to tell two fields apart.
    fn record(seed: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..RECORD_SIZE as u32 / 4).flat_map(|slot| ((slot * 7 + seed) as f32).to_le_bytes()).collect();
        bytes[..8].copy_from_slice(&[seed as u8, 2, 3, 4, 5, 6, 0, 0]);
        bytes[KEYPOINT_COUNT..].copy_from_slice(&[17, 0, 3, 1]);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            times: (u64, u64, u32), bytes: [u8; 7], flags: u16, label in "[ -~]{0,24}", seeds in proptest::collection::vec(0u32..9999, 0..4)
        ) {
            let [coordinate_system, minor, selection, model, precision, reference_frame, format] = bytes;
            let header = BodyHeader {
                coordinate_system, minor, selection, model, precision, reference_frame, format, flags, label,
                timestamp_ns: times.0, sdk_timestamp_ns: times.1, frame_count: times.2, body_count: seeds.len() as u16,
            };
            let records: Vec<Vec<u8>> = seeds.iter().map(|seed| record(*seed)).collect();
            let bodies: Vec<Body> = records.iter().map(|record| body(record)).collect();
            let packet = BodyPacket::encode(&header, &bodies).unwrap();
            prop_assert_eq!(&packet.bytes()[HEADER_SIZE..], records.concat());
            let parsed = BodyPacket::parse(packet.bytes().clone()).unwrap();
            prop_assert_eq!(&parsed.header, &header);
            prop_assert_eq!(parsed.bodies().collect::<Vec<_>>(), bodies);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..8000)) {
            let _ = BodyPacket::parse(bytes.into()).map(|packet| packet.bodies().count());
        }

        #[test]
        fn what_passes_has_as_many_bodies_as_it_says(
            count in 0u16..4, place in 0usize..HEADER_SIZE, value: u8, cut in 0usize..2
        ) {
            let mut bytes = packet(count, 2);
            bytes[place] = value;
            bytes.truncate(bytes.len() - cut);
            if let Ok(packet) = BodyPacket::parse(bytes.into()) {
                prop_assert_eq!(packet.bodies().len(), usize::from(packet.header.body_count));
                prop_assert_eq!(packet.bytes().len(), HEADER_SIZE + packet.bodies().len() * RECORD_SIZE);
            }
        }
    }
}
