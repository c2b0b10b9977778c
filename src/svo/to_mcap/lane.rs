// SPDX-License-Identifier: MPL-2.0

//! All that one camera has for the file, in the order of its times.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use foxglove::messages::CameraCalibration;
use svo2::rectify::Eye;
use svo2::{Recording, Sample, SensorReader, Sensors};

use super::calibration::Views;
use super::feed::{Feed, Unit};
use super::options::View;
use super::plan::Share;
use crate::mcap::proto::{Imu, Quaternion, Vector3};
use crate::mcap::{Channel, Writer, timestamp};
use crate::svo::chain::Ended;
use crate::svo::convert::{Control, Damages};

/// A sample that says that it was taken later than that behind the index's time does not hold up those behind it.
const AHEAD_NS: u64 = 1_000_000_000;

/// What a camera has, and what it is called.
pub(in crate::svo) struct Lane<'a> {
    label: &'a str,
    /// Of all frames, in ns since 1970.
    times: &'a [u64],
    calibrations: Vec<(String, CameraCalibration)>,
    video: Option<Channel>,
    /// `None` behind its last access unit.
    feed: Option<Box<dyn Feed + 'a>>,
    /// Access units that were read ahead, to know whether they are there.
    ahead: VecDeque<Unit>,
    /// Frames that were read since the last one that was asked for; `None`: nobody will ask.
    seen: Option<VecDeque<usize>>,
    samples: Vec<Samples>,
    written: u64,
}

impl<'a> Lane<'a> {
    pub fn new(
        label: &'a str,
        times: &'a [u64],
        feed: Option<Box<dyn Feed + 'a>>,
        samples: Vec<Samples>,
    ) -> Self {
        let (calibrations, ahead) = (Vec::new(), VecDeque::new());
        Self { label, times, calibrations, video: None, feed, ahead, seen: None, samples, written: 0 }
    }

    /// It will be asked which frames are there.
    pub fn remember_frames(&mut self) {
        self.seen = Some(VecDeque::new());
    }

    /// Calibrations come with the first picture.
    pub fn calibrate(&mut self, views: &Views, view: View) {
        let label = self.label;
        let left = views.message(Eye::Left, label, 0);
        self.calibrations.push((format!("/{label}/calibration"), left));
        if view == View::SideBySide {
            let right = views.message(Eye::Right, &format!("{label}_right"), 0);
            self.calibrations.push((format!("/{label}/calibration_right"), right));
        }
    }

    /// What its topics begin with.
    pub fn label(&self) -> &str {
        self.label
    }

    /// When a frame was taken, in ns since 1970.
    pub fn time_ns(&self, frame: usize) -> u64 {
        self.times[frame]
    }

    /// Pictures in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn samples(&self) -> &[Samples] {
        &self.samples
    }

    /// Makes sure that the next picture is known, and the next samples.
    pub fn fill(&mut self, control: &mut Control, damages: &mut Damages) -> Result<(), Ended> {
        if self.ahead.is_empty() {
            self.read(control, damages)?;
        }
        self.samples.iter_mut().for_each(Samples::fill);
        Ok(())
    }

    /// Reads one more picture ahead.
    fn read(&mut self, control: &mut Control, damages: &mut Damages) -> Result<(), Ended> {
        let Some(feed) = &mut self.feed else { return Ok(()) };
        match feed.next(control, damages)? {
            None => self.feed = None,
            Some(unit) => {
                if let Some(seen) = &mut self.seen {
                    seen.push_back(unit.frame);
                }
                self.ahead.push_back(unit);
            }
        }
        Ok(())
    }

    /// Whether a frame is in the file, or will be. To be asked in the order of the frames.
    pub fn has(&mut self, frame: usize, control: &mut Control, damages: &mut Damages) -> Result<bool, Ended> {
        loop {
            let seen = self.seen.as_mut().expect("it remembers");
            while seen.front().is_some_and(|&first| first < frame) {
                seen.pop_front();
            }
            match seen.front() {
                Some(&first) => return Ok(first == frame),
                None if self.feed.is_none() => return Ok(false),
                None => self.read(control, damages)?,
            }
        }
    }

    /// When its next message was taken. Samples come before a picture of the same time.
    pub fn next_ns(&self) -> Option<u64> {
        let samples = self.samples.iter().filter_map(Samples::next_ns).min();
        samples.into_iter().chain(self.picture_ns()).min()
    }

    fn picture_ns(&self) -> Option<u64> {
        self.ahead.front().map(|unit| self.times[unit.frame])
    }

    /// Writes its next message; whether that was a picture.
    pub fn write<W: Write>(&mut self, writer: &mut Writer<W>) -> io::Result<bool> {
        let (time, picture) = (self.next_ns(), self.picture_ns());
        let samples = self.samples.iter_mut().find(|samples| samples.next_ns() == time);
        if let Some(samples) = samples.filter(|_| time.is_some()) {
            samples.write(self.label, writer)?;
            return Ok(false);
        }
        let (Some(time_ns), Some(unit)) = (picture, self.ahead.pop_front()) else { return Ok(false) };
        self.write_calibrations(time_ns, writer)?;
        let channel = match &mut self.video {
            Some(channel) => channel,
            none => none.insert(writer.add_video(&format!("/{}/video", self.label))?),
        };
        writer.encoded(channel, time_ns, &unit.message)?;
        self.written += 1;
        Ok(true)
    }

    fn write_calibrations<W: Write>(&mut self, time_ns: u64, writer: &mut Writer<W>) -> io::Result<()> {
        for (topic, message) in std::mem::take(&mut self.calibrations) {
            let mut channel = writer.add_messages::<CameraCalibration>(&topic)?;
            let message = CameraCalibration { timestamp: Some(timestamp(time_ns)), ..message };
            writer.message(&mut channel, time_ns, &message)?;
        }
        Ok(())
    }
}

/// One of the topics of the IMU.
pub(in crate::svo) struct Samples {
    /// Behind the label.
    name: &'static str,
    reader: SensorReader,
    /// Those that were not read yet.
    numbers: Range<usize>,
    /// When it is its turn, in ns since 1970.
    next: Option<(u64, Sample)>,
    channel: Option<Channel>,
    written: u64,
    unreadable: u64,
    why: String,
}

impl Samples {
    /// Those of a recording that a share has.
    pub fn of(recording: &Arc<Recording>, share: &Share) -> Vec<Self> {
        let mut all = Vec::new();
        for (sensors, name) in [(Sensors::Raw, "imu"), (Sensors::Integrated, "imu_integrated")] {
            let Some(reader) = SensorReader::new(recording.clone(), sensors) else { continue };
            let (after, until) = share.samples;
            let numbers = reader.numbers(after, until);
            let why = String::new();
            all.push(Self {
                name,
                reader,
                numbers,
                next: None,
                channel: None,
                written: 0,
                unreadable: 0,
                why,
            });
        }
        all
    }

    /// What comes behind the label in the topic's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many are in the file.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many could not be read, and why the first of them.
    pub fn unreadable(&self) -> (u64, &str) {
        (self.unreadable, &self.why)
    }

    fn fill(&mut self) {
        while self.next.is_none()
            && let Some(number) = self.numbers.next()
        {
            match self.reader.sample(number) {
                Ok(sample) => {
                    let latest = self.reader.time_ns(number).saturating_add(AHEAD_NS);
                    self.next = Some((sample.unix_ns.min(latest), sample));
                }
                Err(why) => {
                    if self.unreadable == 0 {
                        self.why = why;
                    }
                    self.unreadable += 1;
                }
            }
        }
    }

    fn next_ns(&self) -> Option<u64> {
        self.next.as_ref().map(|(turn, _)| *turn)
    }

    fn write<W: Write>(&mut self, label: &str, writer: &mut Writer<W>) -> io::Result<()> {
        let Some((_, sample)) = self.next.take() else { return Ok(()) };
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => none.insert(writer.add_messages::<Imu>(&format!("/{label}/{}", self.name))?),
        };
        self.written += 1;
        writer.message(channel, sample.unix_ns, &imu(&sample, format!("{label}_imu")))
    }
}

/// Recordings have degrees.
fn imu(sample: &Sample, frame_id: String) -> Imu {
    let vector = |[x, y, z]: [f32; 3]| Some(Vector3 { x: x.into(), y: y.into(), z: z.into() });
    let radians = |[x, y, z]: [f32; 3]| {
        let [x, y, z] = [x, y, z].map(|degrees| f64::from(degrees).to_radians());
        Some(Vector3 { x, y, z })
    };
    let [x, y, z, w] = sample.orientation.map(f64::from);
    Imu {
        timestamp: Some(timestamp(sample.unix_ns)),
        frame_id,
        orientation: Some(Quaternion { x, y, z, w }),
        angular_velocity: radians(sample.angular_velocity),
        linear_acceleration: vector(sample.linear_acceleration),
        raw_angular_velocity: radians(sample.raw_angular_velocity),
        raw_linear_acceleration: vector(sample.raw_linear_acceleration),
        angular_velocity_variance: vector(sample.angular_velocity_variance),
        linear_acceleration_variance: vector(sample.linear_acceleration_variance),
        temperature: sample.temperature,
        rate: sample.rate_hz,
        boot_time_ns: sample.boot_ns,
    }
}
