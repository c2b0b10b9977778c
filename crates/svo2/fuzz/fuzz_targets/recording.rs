// SPDX-License-Identifier: MPL-2.0

//! Any bytes as a recording: no panic, every frame there or damaged, and times that do not go back.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use svo2::{Reader, Recording, SensorReader, Sensors};

fuzz_target!(|data: &[u8]| {
    let mut file = File::from(rustix::fs::memfd_create("svo2", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.write_all(data).unwrap();
    let Ok(recording) = Recording::from_file(file, Path::new("a.svo2")) else { return };
    let mut reader = Reader::new(recording.clone());
    let mut damaged = 0;
    for frame in 0..recording.frames() {
        match reader.unit(frame) {
            Ok(unit) => assert!(unit.len() <= 1 << 28),
            Err(damage) => {
                assert_eq!(damage.frame, frame);
                damaged += 1;
            }
        }
        assert!(recording.running_ns(frame).checked_add(recording.duration_ns(frame)).is_some());
        assert!(recording.frame_at(recording.running_ns(frame)) >= frame);
        assert!(reader.entry_for(frame).is_none_or(|entry| entry <= frame));
        assert!(reader.entry_from(frame).is_none_or(|entry| entry >= frame));
    }
    assert_eq!(recording.damaged(), damaged);
    for sensors in [Sensors::Raw, Sensors::Integrated] {
        if let Some(mut samples) = SensorReader::new(recording.clone(), sensors) {
            let _ = samples.between(0, u64::MAX).filter(Result::is_ok).count();
        }
    }
});
