// SPDX-License-Identifier: MPL-2.0

//! Conformance with the vectors of real implementations in `../shared/fixtures/cvmmap`.

use std::path::PathBuf;

use cvmmap_ipc::metadata::*;
use cvmmap_ipc::{Plane, Target};

/// The folder, or `None` with a message where this machine does not have it: the project's own golden vectors
/// (tests/metadata.rs) cover the same layouts.
fn fixtures() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/cvmmap");
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is not on this machine", folder.display());
        return None;
    }
    Some(folder)
}

fn hex(folder: &std::path::Path, name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let text = text.trim();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn parse(folder: &std::path::Path, name: &str) -> (Result<Metadata, MetadataError>, [u8; 256]) {
    let bytes: [u8; 256] = hex(folder, &format!("{name}_metadata.hex")).try_into().unwrap();
    let payload = hex(folder, &format!("{name}_payload.hex"));
    (Metadata::parse(&bytes, payload.len() as u64), bytes)
}

fn shape(plane: &Plane) -> (PixelFormat, Depth, [u32; 5]) {
    (plane.pixel_format, plane.depth, [plane.width, plane.height, plane.stride, plane.offset, plane.size])
}

#[test]
fn real_headers_parse_and_are_written_back_to_the_byte() {
    let Some(folder) = fixtures() else { return };

    let (v1, bytes) = parse(&folder, "v1_valid");
    let v1 = v1.unwrap();
    assert_eq!((v1.version, v1.frame.count, v1.frame.timestamp_ns), (Version::V1, 77, 1_234_567_890));
    let left = shape(v1.plane(PlaneKind::Left).unwrap());
    assert_eq!(left, (PixelFormat::Rgb, Depth::U8, [4, 2, 12, 0, 24]));
    assert_eq!(v1.to_bytes().unwrap(), bytes);

    let (left_only, bytes) = parse(&folder, "v2_left_only_valid");
    let left_only = left_only.unwrap();
    assert_eq!((left_only.frame.count, left_only.publish_seq), (9001, 456));
    assert_eq!(shape(left_only.plane(PlaneKind::Left).unwrap()).2, [2, 2, 6, 0, 12]);
    assert_eq!(left_only.to_bytes().unwrap(), bytes);

    let (both, bytes) = parse(&folder, "v2_left_depth_valid");
    let both = both.unwrap();
    let depth = shape(both.plane(PlaneKind::Depth).unwrap());
    assert_eq!((depth.0, depth.1), (PixelFormat::Gray, Depth::F32));
    assert_eq!(both.to_bytes().unwrap(), bytes);
    assert!(both.plane(PlaneKind::Confidence).is_none());
}

#[test]
fn the_malformed_descriptor_is_refused_with_its_values() {
    let Some(folder) = fixtures() else { return };
    let (malformed, _) = parse(&folder, "v2_malformed_descriptor");
    let error = malformed.unwrap_err().to_string();
    assert!(error.starts_with("slot 0"), "{error}");
    eprintln!("{error}");
}

#[test]
fn target_names_derive_what_real_clients_derive() {
    let Some(folder) = fixtures() else { return };
    let text = std::fs::read_to_string(folder.join("uri_targets.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = json["cases"].as_array().unwrap();
    let invalid = json["invalid_cases"].as_array().unwrap();
    assert!(!cases.is_empty() && !invalid.is_empty());
    for case in cases {
        let target: Target = case["input"].as_str().unwrap().parse().unwrap();
        for (key, found) in [
            ("instance", target.instance().to_owned()),
            ("namespace", target.namespace().to_owned()),
            ("prefix", target.prefix().to_owned()),
            ("base_name", target.base_name()),
            ("nats_target_key", target.nats_target_key()),
            ("shm_name", target.shm_name()),
            ("zmq_addr", target.zmq_endpoint()),
        ] {
            assert_eq!(case[key].as_str(), Some(found.as_str()), "{key} of {}", case["input"]);
        }
    }
    for case in invalid {
        let error = case["input"].as_str().unwrap().parse::<Target>().unwrap_err().to_string();
        let part = case["error_contains"].as_str().unwrap();
        assert!(error.contains(part), "{error:?} does not hold {part:?}");
    }
}
