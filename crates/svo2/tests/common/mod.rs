// SPDX-License-Identifier: MPL-2.0

//! Small recordings of access units that are real up to their first slice's header.

#![allow(dead_code)] // each test uses a part of it

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use svo2::{Codec, Found, Header, Kind, Layout, OpenError, Reader, Recording, Sample, Sensors, Writer};

/// 2026-03-18T11:59:41Z
pub const START: u64 = 1_773_835_181_000_000_000;
pub const PERIOD: u64 = 33_333_333;
pub const SERIAL: u32 = 41_234_567;
/// Of both pictures side by side.
pub const SIZE: (u32, u32) = (320, 96);

/// What x264 wrote for 320x96: SPS and PPS.
const AVC_SETS: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x0c, 0xda, 0x05, 0x0d, 0xb0, 0x11, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0x3c, 0x0f,
    0x14, 0x2a, 0xa0, 0, 0, 0, 1, 0x68, 0xce, 0x0f, 0xc8,
];
/// What x265 wrote for 320x96: VPS, SPS and PPS.
const HEVC_SETS: &[u8] = &[
    0, 0, 0, 1, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c,
    0x95, 0x94, 0x09, 0, 0, 0, 1, 0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c,
    0xa0, 0x0a, 0x08, 0x18, 0x59, 0x65, 0x65, 0x4a, 0x4c, 0x2f, 0x01, 0x68, 0x08, 0, 0, 3, 0, 8, 0, 0, 3, 0,
    0xf0, 0x40, 0, 0, 0, 1, 0x44, 0x01, 0xc0, 0x73, 0xc1, 0x89,
];

/// Key frames have parameter sets and an IDR slice, others a slice that needs others; `len` bytes of slice, which
/// differ from frame to frame.
pub fn unit(codec: Codec, number: usize, key: bool, len: usize) -> Vec<u8> {
    let (sets, slice): (_, &[u8]) = match (codec, key) {
        (Codec::H264, true) => (AVC_SETS, &[0x65, 0x88]),
        (Codec::H264, false) => (AVC_SETS, &[0x41, 0x9a]),
        (Codec::H265, true) => (HEVC_SETS, &[0x26, 0x01]),
        (Codec::H265, false) => (HEVC_SETS, &[0x02, 0x01]),
    };
    let mut unit = if key { sets.to_vec() } else { Vec::new() };
    unit.extend([0, 0, 0, 1]);
    unit.extend(slice);
    // No zeros: start codes would be in it.
    unit.extend((0..len).map(|at| (at * 7 + number * 31) as u8 | 1));
    unit
}

/// What a recording is made of.
#[derive(Debug, Clone)]
pub struct Film {
    pub codec: Codec,
    pub frames: usize,
    /// From key frame to key frame.
    pub distance: usize,
    pub layout: Layout,
    /// Bytes of a slice.
    pub len: usize,
    pub header: Header,
}

impl Default for Film {
    fn default() -> Self {
        Self {
            codec: Codec::H264,
            frames: 40,
            distance: 15,
            layout: Layout { compression: None, chunk_size: Some(2000) },
            len: 100,
            header: header(),
        }
    }
}

pub fn header() -> Header {
    Header {
        sdk_version: "5.0.3".to_owned(),
        version: "2.0.4".to_owned(),
        imu_hz: 400.0,
        width: SIZE.0,
        height: SIZE.1,
        serial: SERIAL,
        fps: 30,
        model: 4,
    }
}

impl Film {
    pub fn unit(&self, number: usize) -> Vec<u8> {
        unit(self.codec, number, self.is_key(number), self.len)
    }

    pub fn is_key(&self, number: usize) -> bool {
        number % self.distance == 0
    }

    pub fn kind(&self, number: usize) -> Kind {
        if self.is_key(number) { Kind::Entry { recovers_after: 0 } } else { Kind::Delta }
    }

    pub fn time(&self, number: usize) -> u64 {
        START + number as u64 * PERIOD
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Cursor::new(Vec::new()), self.header.clone(), &self.layout).unwrap();
        for number in 0..self.frames {
            let time = self.time(number);
            let sample = Sample { unix_ns: time, boot_ns: time - START, ..Sample::default() };
            writer.sample(Sensors::Raw, &sample).unwrap();
            writer.frame(time, &self.unit(number), self.is_key(number)).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// Every frame is there, as it was put in.
    pub fn assert_in(&self, recording: &Arc<Recording>) {
        assert_eq!(recording.frames(), self.frames);
        self.assert_begins(recording);
    }

    /// What frames there are, are those that were put in first.
    pub fn assert_begins(&self, recording: &Arc<Recording>) {
        let mut reader = Reader::new(recording.clone());
        for number in 0..recording.frames() {
            assert_eq!(recording.unix_ns(number), self.time(number));
            assert_eq!(reader.unit(number).unwrap(), self.unit(number), "frame {number}");
            assert_eq!(reader.kind(number).unwrap(), self.kind(number));
        }
    }
}

/// A file of these bytes, which lasts as long as the folder.
pub fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svo2");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub fn open(bytes: &[u8]) -> Result<Arc<Recording>, OpenError> {
    let (_folder, path) = file(bytes);
    Recording::open(&path)
}

pub fn scanned(recording: &Recording) -> &str {
    match recording.found() {
        Found::Scanned(why) => why,
        found => panic!("{found:?}"),
    }
}
