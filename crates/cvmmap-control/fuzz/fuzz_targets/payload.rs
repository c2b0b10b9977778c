// SPDX-License-Identifier: MPL-2.0

//! Any bytes as a body packet and as a status event: no panic, and as many bodies as the packet says.

#![no_main]

use cvmmap_control::{BodyPacket, life};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = life::parse_event(data, Some("cam0"));
    if let Ok(packet) = BodyPacket::parse(data.to_vec().into()) {
        assert_eq!(packet.bodies().count(), usize::from(packet.header.body_count));
        let joints = packet.header.joints();
        assert!(packet.bodies().all(|body| usize::from(body.keypoint_count) <= joints));
    }
});
