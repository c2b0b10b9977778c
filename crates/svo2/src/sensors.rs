// SPDX-License-Identifier: MPL-2.0

//! The IMU's samples that lie beside the video.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::container::Entry;
use crate::reader::Cursor;
use crate::recording::Recording;

/// Bytes of a sample.
pub const SAMPLE_LEN: usize = 360;

/// Which of the two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensors {
    /// At the IMU's own rate.
    Raw,
    /// One for each frame, integrated over it.
    Integrated,
}

impl Sensors {
    const fn kind(self) -> u8 {
        match self {
            Self::Raw => 0x33,
            Self::Integrated => 0x26,
        }
    }

    /// Names of the topic behind the camera's; sources differ.
    pub(crate) fn topics(self) -> &'static [&'static str] {
        match self {
            Self::Raw => &["/sensors"],
            Self::Integrated => &["/integrated_sensors", "/sensors_integrated"],
        }
    }
}

/// A sample of the IMU, in the camera's axes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// When it was taken, in ns since 1970.
    pub unix_ns: u64,
    /// When it was taken, in ns since the camera's start.
    pub boot_ns: u64,
    /// Orientation as a quaternion x, y, z, w.
    pub orientation: [f32; 4],
    /// Angular velocity in degrees per second, calibrated.
    pub angular_velocity: [f32; 3],
    /// Linear acceleration in m/s², calibrated.
    pub linear_acceleration: [f32; 3],
    /// Angular velocity in degrees per second, as the sensor has it.
    pub raw_angular_velocity: [f32; 3],
    /// Linear acceleration in m/s², as the sensor has it.
    pub raw_linear_acceleration: [f32; 3],
    /// Diagonal of the covariance of the angular velocity.
    pub angular_velocity_variance: [f32; 3],
    /// Diagonal of the covariance of the linear acceleration.
    pub linear_acceleration_variance: [f32; 3],
    /// Temperature of the IMU in °C.
    pub temperature: f32,
    /// Samples in a second, as measured.
    pub rate_hz: f32,
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    data: std::borrow::Cow<'a, str>,
}

/// Where the fields lie in a sample.
mod at {
    pub const KIND: usize = 0x01;
    pub const BOOT: usize = 0x08;
    pub const UNIX: usize = 0x10;
    pub const ORIENTATION: usize = 0x3c;
    pub const ANGULAR_VELOCITY: usize = 0x58;
    pub const LINEAR_ACCELERATION: usize = 0x64;
    pub const RAW_ANGULAR_VELOCITY: usize = 0x70;
    pub const RAW_LINEAR_ACCELERATION: usize = 0x7c;
    pub const ANGULAR_VELOCITY_VARIANCE: usize = 0x88;
    pub const LINEAR_ACCELERATION_VARIANCE: usize = 0x94;
    pub const TEMPERATURE: usize = 0xe4;
    pub const RATE: usize = 0x15c;
}

impl Sample {
    /// Reads a message of one of the two topics.
    ///
    /// # Errors
    /// What the message is instead.
    pub fn parse(sensors: Sensors, message: &[u8]) -> Result<Self, String> {
        let json: Json =
            serde_json::from_slice(message).map_err(|error| format!("a sample is no JSON: {error}"))?;
        let block = STANDARD
            .decode(json.data.as_bytes())
            .map_err(|error| format!("a sample is no base64: {error}"))?;
        if block.len() < SAMPLE_LEN {
            return Err(format!("a sample has {} bytes, not {SAMPLE_LEN}", block.len()));
        }
        if block[at::KIND] != sensors.kind() {
            return Err(format!("a sample is of kind {:#04x}, not {:#04x}", block[at::KIND], sensors.kind()));
        }
        let long = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
        let float = |at: usize| f32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        let vector = |at: usize| [0, 4, 8].map(|offset| float(at + offset));
        Ok(Self {
            unix_ns: long(at::UNIX),
            boot_ns: long(at::BOOT),
            orientation: [0, 4, 8, 12].map(|offset| float(at::ORIENTATION + offset)),
            angular_velocity: vector(at::ANGULAR_VELOCITY),
            linear_acceleration: vector(at::LINEAR_ACCELERATION),
            raw_angular_velocity: vector(at::RAW_ANGULAR_VELOCITY),
            raw_linear_acceleration: vector(at::RAW_LINEAR_ACCELERATION),
            angular_velocity_variance: vector(at::ANGULAR_VELOCITY_VARIANCE),
            linear_acceleration_variance: vector(at::LINEAR_ACCELERATION_VARIANCE),
            temperature: float(at::TEMPERATURE),
            rate_hz: float(at::RATE),
        })
    }

    /// The message of a topic.
    pub fn message(&self, sensors: Sensors) -> Vec<u8> {
        let mut block = [0; SAMPLE_LEN];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::KIND, &[sensors.kind()]);
        put(at::BOOT, &self.boot_ns.to_le_bytes());
        put(at::UNIX, &self.unix_ns.to_le_bytes());
        let vectors: [(usize, &[f32]); 9] = [
            (at::ORIENTATION, &self.orientation),
            (at::ANGULAR_VELOCITY, &self.angular_velocity),
            (at::LINEAR_ACCELERATION, &self.linear_acceleration),
            (at::RAW_ANGULAR_VELOCITY, &self.raw_angular_velocity),
            (at::RAW_LINEAR_ACCELERATION, &self.raw_linear_acceleration),
            (at::ANGULAR_VELOCITY_VARIANCE, &self.angular_velocity_variance),
            (at::LINEAR_ACCELERATION_VARIANCE, &self.linear_acceleration_variance),
            (at::TEMPERATURE, &[self.temperature]),
            (at::RATE, &[self.rate_hz]),
        ];
        for (at, values) in vectors {
            for (number, value) in values.iter().enumerate() {
                put(at + 4 * number, &value.to_le_bytes());
            }
        }
        let data = STANDARD.encode(block).into();
        serde_json::to_vec(&Json { data }).expect("a string is JSON")
    }
}

/// Reads the samples of one topic. Its index is made when it is opened, and lies in memory: 24 bytes a sample.
pub struct SensorReader {
    recording: Arc<Recording>,
    cursor: Cursor,
    sensors: Sensors,
    entries: Vec<Entry>,
}

impl SensorReader {
    /// `None` where the recording has no such topic.
    pub fn new(recording: Arc<Recording>, sensors: Sensors) -> Option<Self> {
        let topic = recording.sensor_topic(sensors)?;
        let container = &recording.container;
        let mut entries = container.all_entries(&container.channels(topic));
        entries.sort_by_key(|entry| entry.time_ns);
        Some(Self { recording, cursor: Cursor::default(), sensors, entries })
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.entries.len()
    }

    /// The samples with times after `after` up to and including `until`, in ns since 1970.
    ///
    /// # Errors
    /// Each that cannot be read says why, in its place.
    pub fn between(&mut self, after: u64, until: u64) -> impl Iterator<Item = Result<Sample, String>> {
        self.numbers(after, until).map(|number| self.sample(number))
    }

    /// Which samples have times after `after` up to and including `until`, in ns since 1970, by the index.
    pub fn numbers(&self, after: u64, until: u64) -> Range<usize> {
        let from = self.entries.partition_point(|entry| entry.time_ns <= after);
        let to = self.entries.partition_point(|entry| entry.time_ns <= until).max(from);
        from..to
    }

    /// When a sample was taken by the index, in ns since 1970; what the sample itself says may differ.
    ///
    /// # Panics
    /// There are fewer.
    pub fn time_ns(&self, number: usize) -> u64 {
        self.entries[number].time_ns
    }

    /// One of the samples, in the order of their times by the index.
    ///
    /// # Errors
    /// Why it cannot be read.
    ///
    /// # Panics
    /// There are fewer.
    pub fn sample(&mut self, number: usize) -> Result<Sample, String> {
        let container = &self.recording.container;
        let message = self.cursor.message(container, &self.entries[number])?.read()?;
        Sample::parse(self.sensors, &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each field at its place by the contract, and what nobody knows filled with 0xee.
    fn block(kind: u8) -> Vec<u8> {
        let mut block = vec![0xee; SAMPLE_LEN];
        block[0x01] = kind;
        block[0x08..0x10].copy_from_slice(&7_000_000_000u64.to_le_bytes());
        block[0x10..0x18].copy_from_slice(&1_773_835_181_000_000_000u64.to_le_bytes());
        for (at, values) in [
            (0x3c, &[0.1f32, 0.2, 0.3, 0.9][..]),
            (0x58, &[1.0, 2.0, 3.0]),
            (0x64, &[0.5, -9.81, 0.25]),
            (0x70, &[4.0, 5.0, 6.0]),
            (0x7c, &[7.0, 8.0, 9.0]),
            (0x88, &[10.0, 11.0, 12.0]),
            (0x94, &[13.0, 14.0, 15.0]),
            (0xe4, &[36.5]),
            (0x15c, &[399.5]),
        ] {
            for (number, value) in values.iter().enumerate() {
                block[at + 4 * number..at + 4 * number + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        block
    }

    fn message(block: &[u8]) -> Vec<u8> {
        format!(r#"{{"data":"{}"}}"#, STANDARD.encode(block)).into_bytes()
    }

    #[test]
    fn fields_lie_where_the_contract_has_them() {
        let want = Sample {
            unix_ns: 1_773_835_181_000_000_000,
            boot_ns: 7_000_000_000,
            orientation: [0.1, 0.2, 0.3, 0.9],
            angular_velocity: [1.0, 2.0, 3.0],
            linear_acceleration: [0.5, -9.81, 0.25],
            raw_angular_velocity: [4.0, 5.0, 6.0],
            raw_linear_acceleration: [7.0, 8.0, 9.0],
            angular_velocity_variance: [10.0, 11.0, 12.0],
            linear_acceleration_variance: [13.0, 14.0, 15.0],
            temperature: 36.5,
            rate_hz: 399.5,
        };
        for (sensors, kind) in [(Sensors::Raw, 0x33), (Sensors::Integrated, 0x26)] {
            assert_eq!(Sample::parse(sensors, &message(&block(kind))), Ok(want));
            assert_eq!(Sample::parse(sensors, &want.message(sensors)), Ok(want));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fault = |message: &[u8]| Sample::parse(Sensors::Raw, message).unwrap_err();
        assert!(fault(b"{").starts_with("a sample is no JSON: "));
        assert!(fault(b"{}").starts_with("a sample is no JSON: missing field `data`"));
        assert!(fault(br#"{"data":"?"}"#).starts_with("a sample is no base64: "));
        assert_eq!(fault(&message(&block(0x33)[..359])), "a sample has 359 bytes, not 360");
        assert_eq!(fault(&message(&block(0x26))), "a sample is of kind 0x26, not 0x33");
    }
}
