// SPDX-License-Identifier: MPL-2.0

//! `sim --svo2`: a recording as a ZED camera makes them, of test pictures.
//!
//! Both eyes show the number of the frame; the right one adds [`RIGHT`] to it, so that nobody takes one for the other.

use std::f64::consts::TAU;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cvmmap_ipc::metadata::{Codec, Depth, PixelFormat};
use mcap::McapError;
use svo2::{Header, Kind, Layout, Sample, Sensors, Writer};

use super::encoder::{Encoder, Encoding};
use crate::exit::{Failure, configuration};
use crate::pattern::Pattern;
use crate::place::{Claimed, Disk, Existing};

/// What the right eye's picture adds to the number of the frame.
pub const RIGHT: u32 = 1 << 24;
const IMU_HZ: u64 = 400;
const NS: u64 = 1_000_000_000;

/// What is recorded.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Of the bitstream.
    pub codec: svo2::Codec,
    /// Width and height of one eye's picture in pixels.
    pub size: (u32, u32),
    /// Frames per second.
    pub fps: u32,
    /// How many frames the file has.
    pub frames: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// H.264 whose one key frame is the first: all others refresh the picture piece by piece.
    pub intra_refresh: bool,
    /// Serial number of the camera.
    pub serial: u32,
    /// When the first frame is taken, in ns since 1970.
    pub begins_ns: u64,
    /// Before these frames the camera loses one: a gap in the times.
    pub lost_before: Vec<u32>,
    /// Times vary by so much at most, to either side, in ns.
    pub jitter_ns: u64,
    /// Samples of the IMU besides.
    pub imu: bool,
    /// How the file is laid out.
    pub layout: Layout,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            codec: svo2::Codec::H265,
            size: (640, 360),
            fps: 30,
            frames: 90,
            gop: 30,
            intra_refresh: false,
            serial: 40_735_594,
            begins_ns: 1_700_000_000 * NS,
            lost_before: Vec::new(),
            jitter_ns: 0,
            imu: true,
            layout: Layout::default(),
        }
    }
}

impl Recording {
    /// When each frame is taken, in ns since 1970.
    pub fn times(&self) -> Vec<u64> {
        let interval = NS / u64::from(self.fps.max(1));
        let mut lost = 0;
        (0..self.frames)
            .map(|frame| {
                lost += self.lost_before.iter().filter(|&&before| before == frame).count() as u64;
                let jitter = match self.jitter_ns {
                    0 => 0,
                    most => u64::from(frame).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (2 * most + 1),
                };
                self.begins_ns + (u64::from(frame) + lost) * interval + jitter
            })
            .collect()
    }

    /// Writes the file beside its name and then gives it that. Returns how many frames it has: fewer than asked for where
    /// `stop` was set.
    ///
    /// # Errors
    /// A [`Failure`] where the file is there already or cannot be written, or an encoder is missing.
    pub fn create(&self, path: &Path, stop: &AtomicBool) -> Result<u32, Failure> {
        let failed = |error: &dyn std::fmt::Display| configuration(format!("'{}': {error}", path.display()));
        let existing = Existing::Kept("it exists, and nothing is overwritten");
        let claimed = Claimed::new(path, &[], existing).map_err(|why| failed(&why))?;
        let (frames, out) =
            self.write(BufWriter::new(claimed.file()), stop).map_err(|error| match error {
                Trouble::File(error) => failed(&error),
                Trouble::Encoder(failure) => failure,
            })?;
        out.into_inner().map_err(|error| failed(&error))?;
        claimed.publish(Disk::Left).map_err(|error| failed(&error))?;
        Ok(frames)
    }

    fn write<W: Write + Seek>(&self, out: W, stop: &AtomicBool) -> Result<(u32, W), Trouble> {
        let (width, height) = self.size;
        let both = (2 * width, height);
        let header = Header {
            sdk_version: "4.2.5".to_owned(),
            version: "2.0.6".to_owned(),
            imu_hz: IMU_HZ as f64,
            width: both.0,
            height,
            serial: self.serial,
            fps: self.fps,
            model: 2,
        };
        let mut writer = Writer::new(out, header, &self.layout)?;
        let codec = match self.codec {
            svo2::Codec::H264 => Codec::H264,
            svo2::Codec::H265 => Codec::H265,
        };
        let format = (PixelFormat::Bgr, Depth::U8);
        let fps = f64::from(self.fps);
        let encoding =
            Encoding { codec, format, size: both, fps, gop: self.gop, intra_refresh: self.intra_refresh };
        let mut encoder = Encoder::start(&encoding)?;
        let eye = Pattern::new(format.0, format.1, width, height).expect("sizes are checked by clap");
        let (row, mut picture) = (eye.row_bytes(), vec![0; 2 * eye.row_bytes() * height as usize]);
        let mut imu = Imu { begins_ns: self.begins_ns, next_ns: self.begins_ns };
        for (frame, time_ns) in (0..).zip(self.times()) {
            if stop.load(Ordering::Relaxed) {
                return Ok((frame, writer.finish()?));
            }
            for (y, rows) in picture.chunks_mut(2 * row).enumerate() {
                let (left, right) = rows.split_at_mut(row);
                eye.render_row(frame, y, left);
                eye.render_row(frame + RIGHT, y, right);
            }
            let unit = encoder.encode(&picture)?.bytes;
            if self.imu {
                imu.until(time_ns, |sample| writer.sample(Sensors::Raw, &sample))?;
                writer.sample(Sensors::Integrated, &imu.at(time_ns))?;
            }
            let key = matches!(svo2::nal::kind(self.codec, &unit), Some(Kind::Entry { .. }));
            writer.frame(time_ns, &unit, key)?;
        }
        Ok((self.frames, writer.finish()?))
    }
}

enum Trouble {
    File(McapError),
    Encoder(Failure),
}

impl From<McapError> for Trouble {
    fn from(error: McapError) -> Self {
        Self::File(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Encoder(failure)
    }
}

/// An IMU on a camera that turns once in ten seconds.
struct Imu {
    begins_ns: u64,
    next_ns: u64,
}

impl Imu {
    fn until<E>(&mut self, time_ns: u64, mut add: impl FnMut(Sample) -> Result<(), E>) -> Result<(), E> {
        while self.next_ns <= time_ns {
            add(self.at(self.next_ns))?;
            self.next_ns += NS / IMU_HZ;
        }
        Ok(())
    }

    fn at(&self, unix_ns: u64) -> Sample {
        const TURN_NS: u64 = 10 * NS;
        let angle = TAU * (unix_ns % TURN_NS) as f64 / TURN_NS as f64;
        let (sin, cos) = (angle / 2.0).sin_cos();
        let (angular_velocity, linear_acceleration) = ([0.0, 36.0, 0.0], [0.0, -9.81, 0.0]);
        Sample {
            unix_ns,
            boot_ns: unix_ns - self.begins_ns,
            orientation: [0.0, sin as f32, 0.0, cos as f32],
            angular_velocity,
            linear_acceleration,
            raw_angular_velocity: angular_velocity,
            raw_linear_acceleration: linear_acceleration,
            angular_velocity_variance: [1e-4; 3],
            linear_acceleration_variance: [1e-3; 3],
            temperature: 35.0,
            rate_hz: IMU_HZ as f32,
        }
    }
}
