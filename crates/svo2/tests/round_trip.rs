// SPDX-License-Identifier: MPL-2.0

//! What the writer wrote is what the reader reads.

mod common;

use common::{Film, PERIOD, SERIAL, SIZE, START, header, open};
use svo2::{Codec, Found, Layout, Sample, SensorReader, Sensors};

#[test]
fn every_layout_gives_every_frame() {
    for codec in [Codec::H264, Codec::H265] {
        for compression in [None, Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)] {
            for chunk_size in [Some(1), Some(2000), Some(1 << 20), None] {
                let layout = Layout { compression, chunk_size };
                let film = Film { codec, layout, ..Film::default() };
                let recording = open(&film.bytes()).unwrap();
                assert_eq!(recording.found() == &Found::Indexed, chunk_size.is_some(), "{film:?}");
                film.assert_in(&recording);
                assert_eq!(recording.codec(), codec);
                assert_eq!(recording.size(), SIZE);
                assert_eq!(recording.header(), &header());
                assert_eq!(recording.serial(), SERIAL.to_string());
                assert_eq!(recording.damaged(), 0);
                assert_eq!(recording.nominal_ns(), PERIOD);
            }
        }
    }
}

#[test]
fn the_samples_are_beside_the_frames() {
    let film = Film::default();
    let recording = open(&film.bytes()).unwrap();
    let mut sensors = SensorReader::new(recording.clone(), Sensors::Raw).unwrap();
    assert_eq!(sensors.samples(), film.frames);
    let between: Vec<_> = sensors.between(film.time(3), film.time(6)).map(Result::unwrap).collect();
    let sample = |number| {
        let unix_ns = film.time(number);
        Sample { unix_ns, boot_ns: unix_ns - START, ..Sample::default() }
    };
    assert_eq!(between, [4, 5, 6].map(sample));
    assert!(SensorReader::new(recording, Sensors::Integrated).is_none());
}
