// SPDX-License-Identifier: MPL-2.0

//! The metadata's rules: golden vectors, every refusal with its values, and properties.

use cvmmap_ipc::metadata::*;
use cvmmap_ipc::sync::FrameId;
use proptest::prelude::*;

const FRAME: FrameId = FrameId { count: 77, timestamp_ns: 1_234_567_890 };

/// A 4x2 BGR frame of version 1.0, written by hand from the contract page.
fn golden_v1() -> [u8; 256] {
    let mut b = [0; 256];
    b[..8].copy_from_slice(b"CV-MMAP\0");
    b[8] = 1;
    b[0x0C] = 77;
    b[0x10..0x14].copy_from_slice(&[0xd2, 0x02, 0x96, 0x49]);
    b[0x18] = 4;
    b[0x1A] = 2;
    b[0x1C] = 3;
    b[0x1E] = 1;
    b[0x20] = 24;
    b
}

/// Left 2x2 BGR, depth 2x2, confidence 2x2 and a 5-byte key frame, version 2.1, written by hand.
fn golden_v21() -> [u8; 256] {
    let mut b = [0; 256];
    b[..8].copy_from_slice(b"CV-MMAP\0");
    b[8] = 2;
    b[9] = 1;
    b[0x0C] = 77;
    b[0x10..0x14].copy_from_slice(&[0xd2, 0x02, 0x96, 0x49]);
    b[0x18] = 77;
    b[0x20] = 4;
    b[0x21] = 0b1111;
    b[0x22] = 64;
    b[0x24] = 24;
    b[0x26] = 4;
    b[0x28] = 12 + 16 + 16 + 5;
    b[0x2C] = 1;
    b[0x2D..0x35].copy_from_slice(&[2, 1, 1, 0, 30, 0, 1, 0]);
    b[0x35] = 9;
    let slots: [[u8; 24]; 4] = [
        [0, 1, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0],
        [1, 4, 5, 0, 2, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 12, 0, 0, 0, 16, 0, 0, 0],
        [2, 4, 5, 0, 2, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 28, 0, 0, 0, 16, 0, 0, 0],
        [3, 4, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 44, 0, 0, 0, 5, 0, 0, 0],
    ];
    for (i, slot) in slots.iter().enumerate() {
        b[64 + 24 * i..64 + 24 * (i + 1)].copy_from_slice(slot);
    }
    b
}

fn four_planes() -> Metadata {
    let left = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 2, 2).unwrap();
    let depth = Plane::packed(PlaneKind::Depth, PixelFormat::Gray, Depth::F32, 2, 2).unwrap();
    let confidence = Plane { kind: PlaneKind::Confidence, ..depth };
    let mut metadata = Metadata::new(Version::V2_1, FRAME, [left, depth, confidence, Plane::access_unit(5)]);
    metadata.depth_unit = DepthUnit::Millimetre;
    metadata.encoded = Some(EncodedInfo {
        codec: Codec::H265,
        bitstream: Bitstream::AnnexB,
        flags: 1,
        frame_rate: (30, 1),
        stream_pts_ns: 9,
    });
    metadata
}

fn refusal(bytes: &[u8; 256], mapped: u64) -> String {
    Metadata::parse(bytes, mapped).expect_err("this header breaks a rule").to_string()
}

#[test]
fn golden_headers_parse_and_are_written_to_the_byte() {
    let left = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap();
    let v1 = Metadata::new(Version::V1, FRAME, [left]);
    assert_eq!(Metadata::parse(&golden_v1(), 24).unwrap(), v1);
    assert_eq!(v1.to_bytes().unwrap(), golden_v1());

    assert_eq!(Metadata::parse(&golden_v21(), 49).unwrap(), four_planes());
    assert_eq!(four_planes().to_bytes().unwrap(), golden_v21());
}

#[test]
fn version_0_0_reads_as_v1() {
    let mut bytes = golden_v1();
    bytes[8] = 0;
    let metadata = Metadata::parse(&bytes, 24).unwrap();
    assert_eq!(metadata.plane(PlaneKind::Left).unwrap().stride, 12);
    bytes[9] = 1;
    assert_eq!(refusal(&bytes, 24), "version 0.1 is none of 0.0, 1.x, 2.x");
    bytes[8] = 3;
    assert_eq!(refusal(&bytes, 24), "version 3.1 is none of 0.0, 1.x, 2.x");
}

#[test]
fn each_rule_of_version_1_is_kept() {
    for (at, value, message) in [
        (0, b'X', "magic is [58, 56, 2d, 4d, 4d, 41, 50, 00], not 'CV-MMAP\\0'"),
        (0x18, 0, "width is zero"),
        (0x1A, 0, "height is zero"),
        (0x1C, 0, "channels is zero"),
        (0x20, 0, "buffer_size is zero"),
        (0x1D, 9, "depth code 9 is unknown, so the size of a row cannot be told"),
        (0x20, 23, "buffer_size 23 is smaller than 24 (width 4 x 3 channels x 1 bytes x height 2)"),
        (0x20, 25, "payload of 25 bytes does not fit the 24 bytes behind the metadata"),
    ] {
        let mut bytes = golden_v1();
        bytes[at] = value;
        assert_eq!(refusal(&bytes, 24), message, "byte {at:#x} = {value}");
    }
    // What no rule needs is kept as it is.
    let mut bytes = golden_v1();
    bytes[0x1E] = 200;
    let metadata = Metadata::parse(&bytes, 24).unwrap();
    assert_eq!(metadata.plane(PlaneKind::Left).unwrap().pixel_format, PixelFormat::Unknown(200));
}

#[test]
fn each_rule_of_version_2_is_kept() {
    const SLOT: usize = 64;
    for (at, value, message) in [
        (0x20, 0, "plane_count 0 is not within 1..4"),
        (0x20, 5, "plane_count 5 is not within 1..4"),
        (0x21, 0b1_1111, "plane_presence_mask 0b11111 with plane_count 4: the upper four bits are not 0"),
        (0x21, 0b1110, "plane_presence_mask 0b1110 with plane_count 4: bit 0 (left) is not set"),
        (
            0x21,
            0b0111,
            "plane_presence_mask 0b0111 with plane_count 4: the number of set bits is not plane_count",
        ),
        (0x22, 63, "plane_descriptors_offset is 63, not 64"),
        (0x24, 23, "plane_descriptor_size is 23, not 24"),
        (0x26, 5, "plane_descriptor_capacity is 5, not 4"),
        (0x28, 0, "payload_size_bytes is zero"),
        (0x28, 48, "slot 3 ends at 49, beyond payload_size_bytes 48"),
        (0x28, 50, "payload of 50 bytes does not fit the 49 bytes behind the metadata"),
        (0x2C, 3, "depth_unit 3 is none of 0 (unknown), 1 (millimetre), 2 (metre)"),
        (0x2D, 0, "slot 3 is active but its codec is 0"),
        (0x2D, 7, "slot 3 is active but its codec is 7"),
        (0x2E, 0, "slot 3 is active but its bitstream format is 0"),
        (SLOT, 1, "slot 0 plane_type is 1, not 0"),
        (SLOT + 1, 9, "slot 0 is unknown(9)/u8, not a known format and depth"),
        (SLOT + 2, 8, "slot 0 is BGR/unknown(8), not a known format and depth"),
        (SLOT + 4, 0, "slot 0 width is zero"),
        (SLOT + 4, 3, "slot 0 stride 6 is smaller than 9 (width 3 x 3 bytes)"),
        (SLOT + 8, 0, "slot 0 height is zero"),
        (SLOT + 8, 3, "slot 0 size 12 is smaller than 18 (stride 6 x height 3)"),
        (SLOT + 12, 0, "slot 0 stride is zero"),
        (SLOT + 16, 1, "slot 0 starts at 1, not at 0 where the plane before it ends"),
        (SLOT + 20, 0, "slot 0 size is zero"),
        (SLOT + 20, 13, "slot 1 starts at 12, not at 13 where the plane before it ends"),
        (SLOT + 24 + 1, 0, "slot 1 is RGB/f32, not GRAY/f32"),
        (SLOT + 48 + 2, 0, "slot 2 is GRAY/u8, not GRAY/f32"),
        (SLOT + 72 + 2, 1, "slot 3 is GRAY/s8, not GRAY/u8"),
        (
            SLOT + 72 + 4,
            4,
            "slot 3 has height 1, width 4, stride 5, size 5; height 1 and width = stride = size are wanted",
        ),
    ] {
        let mut bytes = golden_v21();
        bytes[at] = value;
        assert_eq!(refusal(&bytes, 49), message, "byte {at:#x} = {value}");
    }
}

#[test]
fn version_2_0_has_no_holes_no_encoded_plane_and_no_extension() {
    let mut bytes = golden_v21();
    bytes[9] = 0;
    bytes[0x2D..0x40].fill(0);
    assert!(refusal(&bytes, 49).contains("slot 3 exists from version 2.1 on"));

    let three: Vec<Plane> = four_planes().planes[..3].iter().flatten().copied().collect();
    let v2 = Metadata::new(Version::V2, FRAME, three).to_bytes().unwrap();
    Metadata::parse(&v2, 44).unwrap();
    let mut bytes = v2;
    bytes[0x3F] = 1;
    assert_eq!(refusal(&bytes, 44), "reserved byte 0x3f is 0x01, version 2.0 wants zero");
    let mut bytes = v2;
    bytes[0x21] = 0b1011;
    assert!(refusal(&bytes, 44).contains("version 2.0 wants (1 << plane_count) - 1"));

    // 2.1 allows the hole, and then an inactive slot must be empty.
    let [left, _, confidence, _] = four_planes().planes;
    let hole = Metadata::new(Version::V2_1, FRAME, [left.unwrap(), confidence.unwrap()]);
    let bytes = hole.to_bytes().unwrap();
    assert_eq!(Metadata::parse(&bytes, 28).unwrap(), hole);
    for (field, name) in ["width", "height", "stride", "offset", "size"].iter().enumerate() {
        let mut bytes = bytes;
        bytes[64 + 24 + 4 + 4 * field] = 7;
        assert_eq!(refusal(&bytes, 28), format!("slot 1 is inactive but its {name} is 7"));
    }
}

#[test]
fn what_a_version_cannot_carry_is_not_written() {
    let mut metadata = four_planes();
    metadata.version = Version::V1;
    assert!(metadata.to_bytes().unwrap_err().to_string().contains("a plane besides the left picture"));
    metadata.version = Version::V2;
    assert!(metadata.to_bytes().unwrap_err().to_string().contains("the encoded plane's extension"));
    let wide = Plane::packed(PlaneKind::Left, PixelFormat::Gray, Depth::U8, 65536, 1).unwrap();
    let error = Metadata::new(Version::V1, FRAME, [wide]).to_bytes().unwrap_err();
    assert!(error.to_string().contains("65535"));
    let padded = Plane {
        stride: 16,
        size: 32,
        ..Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap()
    };
    let error = Metadata::new(Version::V1, FRAME, [padded]).to_bytes().unwrap_err();
    assert_eq!(error.to_string(), "a stride with padding cannot be written in version 1.0");
}

fn any_plane(kind: PlaneKind) -> impl Strategy<Value = Plane> {
    let formats = match kind {
        PlaneKind::Left => (0u8..7, 0u8..8).boxed(),
        PlaneKind::Encoded => (Just(4), Just(0)).boxed(),
        _ => (Just(4), Just(5)).boxed(),
    };
    (formats, 1u32..500, 1u32..500, 0u32..64, 0u32..64).prop_map(move |((format, depth), w, h, pad, tail)| {
        if kind == PlaneKind::Encoded {
            return Plane::access_unit(w);
        }
        let mut plane = Plane::packed(kind, format.into(), depth.into(), w, h).unwrap();
        plane.stride += pad;
        plane.size = plane.stride * h + tail;
        plane
    })
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let planes = PlaneKind::ALL.map(any_plane);
    (planes, 0u8..16, any::<(u32, u64, u16)>(), 0u8..3, 1u8..3, any::<(u16, u16, u64)>()).prop_map(
        |(planes, mask, (count, timestamp_ns, flags), unit, codec, (eflags, rate, pts))| {
            let planes = planes.into_iter().filter(|p| (mask | 1) & (1 << p.kind.slot()) != 0);
            let mut m = Metadata::new(Version::V2_1, FrameId { count, timestamp_ns }, planes);
            m.flags = flags;
            m.depth_unit = unit.into();
            m.encoded = m.plane(PlaneKind::Encoded).map(|_| EncodedInfo {
                codec: codec.into(),
                bitstream: Bitstream::AnnexB,
                flags: eflags,
                frame_rate: (rate, 1),
                stream_pts_ns: pts,
            });
            m
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_parses_back(metadata in any_metadata()) {
        let bytes = metadata.to_bytes().unwrap();
        prop_assert_eq!(Metadata::parse(&bytes, metadata.payload_size.into()).unwrap(), metadata.clone());
        prop_assert!(Metadata::parse(&bytes, u64::from(metadata.payload_size) - 1).is_err());
    }

    #[test]
    fn no_input_panics_and_what_parses_stays_inside(
        mut bytes in any::<[[u8; 32]; 8]>().prop_map(|b| <[u8; 256]>::try_from(b.concat()).unwrap()),
        golden in proptest::option::of(any_metadata()),
        edits in proptest::collection::vec((8usize..160, any::<u8>()), 0..4),
        mapped in 0u64..2_000_000,
    ) {
        // Random bytes never get past the magic, so most cases are valid headers with a few bytes changed.
        if let Some(golden) = golden {
            bytes = golden.to_bytes().unwrap();
        }
        for (at, value) in edits {
            bytes[at] = value;
        }
        if let Ok(metadata) = Metadata::parse(&bytes, mapped) {
            for plane in metadata.planes.iter().flatten() {
                prop_assert!(u64::from(plane.offset) + u64::from(plane.size) <= mapped);
                prop_assert!(u64::from(plane.stride) * u64::from(plane.height) <= u64::from(plane.size));
                prop_assert!(plane.row_bytes() <= plane.stride as usize);
            }
        }
    }
}
