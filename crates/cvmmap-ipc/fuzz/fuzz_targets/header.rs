// SPDX-License-Identifier: MPL-2.0

//! Any bytes as a segment and as a sync message: no panic, and no plane outside the payload.

#![no_main]

use cvmmap_ipc::{Metadata, SyncMessage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = SyncMessage::parse(data);
    let Some((header, payload)) = data.split_first_chunk() else { return };
    if let Ok(metadata) = Metadata::parse(header, payload.len() as u64) {
        for plane in metadata.planes.iter().flatten() {
            assert!(payload.get(plane.offset as usize..).is_some_and(|p| p.len() >= plane.size as usize));
        }
        // What parses is written again, and parses to the same.
        if let Ok(bytes) = metadata.to_bytes() {
            assert_eq!(Metadata::parse(&bytes, payload.len() as u64).as_ref(), Ok(&metadata));
        }
    }
});
