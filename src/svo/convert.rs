// SPDX-License-Identifier: MPL-2.0

//! One recording into one MP4 file, for whoever has one or many: no globals, nothing printed.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use svo2::{Found, Recording, words};

use super::options::{Conversion, How};
use super::{copy, encode, output};
use crate::exit::{Exit, Failure, configuration};
use crate::place::Disk;

/// So many damaged places are told one by one.
const TOLD: usize = 10;

/// What a conversion tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// So many frames of all are in the file.
    Progress {
        /// In the file.
        done: u64,
        /// Asked for.
        total: u64,
    },
    /// Something that it goes on in spite of.
    Notice(String),
}

/// The way to whoever asked.
pub struct Control<'a> {
    /// Is told what happens.
    pub events: &'a mut dyn FnMut(Event),
    /// Ends the conversion, and nothing stays behind.
    pub cancelled: &'a AtomicBool,
}

impl Control<'_> {
    pub(super) fn notice(&mut self, text: String) {
        (self.events)(Event::Notice(text));
    }

    pub(super) fn progress(&mut self, done: u64, total: u64) {
        (self.events)(Event::Progress { done, total });
    }

    /// # Errors
    /// A [`Failure`] with [`Exit::Interrupted`] once it is cancelled.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Interrupted, "interrupted: no file was written"));
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Done {
    /// The recording.
    pub input: PathBuf,
    /// The file.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// `h264` or `h265`.
    pub codec: &'static str,
    /// Factory of the encoder; `None` where nothing was encoded.
    pub encoder: Option<String>,
    /// Width and height of its pictures.
    pub size: (u32, u32),
    /// First and last frame that was asked for.
    pub asked: RangeInclusive<usize>,
    /// Frames in the file.
    pub frames: u64,
    /// Places where frames are damaged; those that need them are missing as well.
    pub damaged: usize,
    /// When the first and the last frame that was asked for were taken, in ns since 1970.
    pub unix_ns: [u64; 2],
    /// Why the recording was read without its index.
    pub scanned: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Done {
    /// Frames that were asked for and are not in the file.
    pub fn missing(&self) -> u64 {
        (self.asked.clone().count() as u64).saturating_sub(self.frames)
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        json!({
            "input": self.input.display().to_string(),
            "output": self.output.display().to_string(),
            "bytes": self.bytes,
            "codec": self.codec,
            "encoder": self.encoder,
            "copy": self.encoder.is_none(),
            "width": self.size.0,
            "height": self.size.1,
            "start_frame": self.asked.start(),
            "end_frame": self.asked.end(),
            "frames": self.frames,
            "missing": self.missing(),
            "damaged": self.damaged,
            "first_unix_ns": self.unix_ns[0],
            "last_unix_ns": self.unix_ns[1],
            "scanned": self.scanned,
            "elapsed_s": seconds,
            "frames_per_s": self.frames as f64 / seconds.max(1e-9),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let missing = match self.missing() {
            0 => String::new(),
            missing => format!(" ({missing} of {} missing)", self.asked.clone().count()),
        };
        format!(
            "{}: {}{missing} of {}x{}, {} by {}, {:.1} MB, in {seconds:.1} s ({:.0} frames/s)",
            self.output.display(),
            words::counted(self.frames as usize, "frame"),
            self.size.0,
            self.size.1,
            self.codec,
            self.encoder.as_deref().unwrap_or("copy"),
            self.bytes as f64 / 1e6,
            self.frames as f64 / seconds.max(1e-9),
        )
    }
}

/// What became of the frames, by either way.
pub(super) struct Written {
    pub codec: &'static str,
    pub encoder: Option<String>,
    pub size: (u32, u32),
    pub frames: u64,
    pub damaged: usize,
}

/// Places where frames are damaged, by the first of them, and what else is odd. Each is told once, however often it is
/// come across.
#[derive(Default)]
pub(super) struct Damages {
    places: BTreeSet<u64>,
    pub remarks: Remarks,
    /// Goes in front of what is told.
    whose: String,
}

impl Damages {
    /// Of one of several cameras. What is odd about its recording by now was told.
    pub fn of(label: &str, recording: &Recording) -> Self {
        let whose = format!("{label}: ");
        let remarks = Remarks { whose: whose.clone(), ..Remarks::told(recording) };
        Self { remarks, whose, ..Self::default() }
    }

    /// Tells of something that the camera's recording is to blame for.
    pub fn warn(&self, control: &mut Control, why: &str) {
        control.notice(format!("warning: {}{why}", self.whose));
    }

    /// How many there are so far.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    pub fn tell(&mut self, control: &mut Control, frames: RangeInclusive<u64>, why: &str) {
        let (first, last) = frames.into_inner();
        if self.places.insert(first) && self.places.len() <= TOLD {
            let (whose, frames) = (&self.whose, words::frames_are(first as usize, last as usize));
            control.notice(format!("warning: {whose}{frames} left out: {why}"));
        }
    }

    /// Tells how many were not told; returns how many there are.
    pub fn close(self, control: &mut Control) -> usize {
        let damaged = self.count();
        if damaged > TOLD {
            let (whose, more) = (&self.whose, damaged - TOLD);
            let places = if more == 1 { "place is" } else { "places are" };
            control.notice(format!("warning: {whose}{more} more {places} damaged"));
        }
        damaged
    }
}

/// Pictures have another size from `frame` on, as both views have it, and `rule` speaks against that.
pub(super) fn size_changes(frame: usize, was: (u32, u32), is: (u32, u32), rule: &str) -> Failure {
    configuration(format!(
        "--input: pictures are {}x{} from frame {frame} on, {}x{} before, and {rule}; --end-frame {} ends before it",
        is.0,
        is.1,
        was.0,
        was.1,
        frame.saturating_sub(1)
    ))
}

/// What is odd about the recording; each thing is told once, whoever finds it.
#[derive(Default)]
pub(super) struct Remarks {
    told: BTreeSet<String>,
    /// Goes in front of what is told.
    whose: String,
}

impl Remarks {
    /// Those that there are by now were told.
    fn told(recording: &Recording) -> Self {
        Self { told: recording.remarks(0).into_iter().collect(), whose: String::new() }
    }

    pub fn tell(&mut self, control: &mut Control, remark: &str) {
        if self.told.insert(remark.to_owned()) {
            control.notice(format!("warning: {}{remark}", self.whose));
        }
    }

    /// Tells what the source finds odd, if the message is about that.
    pub fn hear(&mut self, message: &gst::message::Warning, control: &mut Control) {
        let remark = message.details().filter(|details| details.name() == "zedsvosrc-remark");
        if let Some(remark) = remark.and_then(|remark| remark.get::<String>("remark").ok()) {
            self.tell(control, &remark);
        }
    }

    /// Those that there are by now.
    pub fn tell_all(&mut self, control: &mut Control, recording: &Recording) {
        for remark in recording.remarks(0) {
            self.tell(control, &remark);
        }
    }
}

/// `foo.mp4` beside `foo.svo2`.
pub fn default_output(input: &Path) -> PathBuf {
    input.with_extension("mp4")
}

/// Converts a recording. The output gets its name when it is whole; whatever else happens, nothing stays behind.
///
/// # Errors
/// A [`Failure`] that names the flag, the value and the rule.
pub fn convert(
    input: &Path,
    output: &Path,
    conversion: &Conversion,
    control: &mut Control,
) -> Result<Done, Failure> {
    let started = Instant::now();
    let (recording, identity) = open(input)?;
    let asked = conversion.frames.within(recording.frames())?;
    // Whatever comes of a file that cannot be read, that it cannot be is what counts.
    let read = |failure: Failure| check_read(input, &recording).err().unwrap_or(failure);
    if let How::Copy(codec) = conversion.how {
        copy::check(&recording, codec, conversion.frames).map_err(read)?;
    }
    if matches!(conversion.how, How::Encode(_)) {
        encode::check(input)?;
    }
    let claimed = output::claim(output, &[identity], conversion.overwrite)?;
    let scanned = tell_how_it_was_found(&recording, "", control);
    let mut remarks = Remarks::told(&recording);
    control.check()?;
    let file = claimed.file();
    let written = match &conversion.how {
        How::Copy(_) => {
            copy::copy(&recording, asked.clone(), conversion.frames.start.is_some(), file, control)
        }
        How::Encode(encoding) => {
            encode::encode(input, &recording, asked.clone(), encoding, file, &mut remarks, control)
        }
    };
    let written = written.map_err(|why| read(why.of(output)))?;
    control.check()?;
    check_read(input, &recording)?;
    if matches!(conversion.how, How::Copy(_)) {
        remarks.tell_all(control, &recording);
    }
    let disk = match conversion.how {
        How::Copy(_) => Disk::Left,
        How::Encode(_) => Disk::Waited,
    };
    let bytes = claimed.publish(disk).map_err(|error| output::failed(output, error))?;
    let unix_ns = [*asked.start(), *asked.end()].map(|frame| recording.unix_ns(frame));
    let Written { codec, encoder, size, frames, damaged } = written;
    let done = Done {
        input: input.to_owned(),
        output: output.to_owned(),
        bytes,
        codec,
        encoder,
        size,
        asked,
        frames,
        damaged,
        unix_ns,
        scanned,
        elapsed: started.elapsed(),
    };
    if done.missing() > 0 {
        let missing = words::frames_missing(done.missing() as usize, done.asked.clone().count());
        control
            .notice(format!("warning: {missing} missing in the file: damaged, or such as cannot be decoded"));
    }
    Ok(done)
}

/// Opens a recording; and which file it is.
///
/// # Errors
/// What the file is instead, or what the system says.
pub fn open(input: &Path) -> Result<(Arc<Recording>, Metadata), Failure> {
    let failed = |why: &dyn std::fmt::Display| configuration(format!("--input '{}': {why}", input.display()));
    let identity = input.metadata().map_err(|error| failed(&error))?;
    // Nobody may ever write into a pipe.
    if !identity.is_file() {
        return Err(failed(&if identity.is_dir() { "it is a folder" } else { "it is no regular file" }));
    }
    let recording = Recording::open(input).map_err(|error| failed(&error))?;
    Ok((recording, identity))
}

/// The system's fault, where something could not be read of a recording that is open.
///
/// # Errors
/// A [`Failure`] that says where and why.
pub(super) fn check_read(input: &Path, recording: &Recording) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| configuration(format!("--input '{}': {error}", input.display()));
    recording.read_error().map_or(Ok(()), |error| Err(failed(error)))
}

/// Tells what is odd about a recording, and if it was not found by its index; returns why.
pub(super) fn tell_how_it_was_found(
    recording: &Recording,
    whose: &str,
    control: &mut Control,
) -> Option<String> {
    for remark in recording.remarks(0) {
        control.notice(format!("warning: {whose}{remark}"));
    }
    let Found::Scanned(why) = recording.found() else { return None };
    control.notice(format!(
        "warning: {whose}the recording was cut short or is damaged ({why}): {} found",
        words::counted_were(recording.frames(), "whole frame")
    ));
    Some(why.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_places_are_told_once_and_not_without_end() {
        let mut told = Vec::new();
        let mut events = |event| told.push(event);
        let cancelled = AtomicBool::new(false);
        let mut control = Control { events: &mut events, cancelled: &cancelled };
        let mut damages = Damages::default();
        for _attempt in 0..2 {
            for place in 0..12 {
                damages.tell(&mut control, 10 * place..=10 * place + 4, "torn");
            }
        }
        assert_eq!(damages.close(&mut control), 12);
        assert_eq!(told.len(), TOLD + 1);
        assert_eq!(told[1], Event::Notice("warning: frames 10 to 14 are left out: torn".into()));
        assert_eq!(told[TOLD], Event::Notice("warning: 2 more places are damaged".into()));
    }
}
