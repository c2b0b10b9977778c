// SPDX-License-Identifier: MPL-2.0

//! The left view of a recording, decoded and encoded again, into MP4.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gst::prelude::*;
use svo2::Recording;

use super::convert::{Control, Damages, Remarks, Written, Wrong, size_changes};
use super::options::Encoding;
use super::quality;
use crate::exit::{Exit, Failure, configuration};
use crate::mp4::{self, Layout};
use crate::run::bus::Trouble;
use crate::run::encoder::{HANGS, PATIENCE, RAW};
use crate::run::stage::Stage;
use crate::run::teardown;

/// How often it looks at the flag, and tells how far it is.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// What stops at all, stops within that: encoders may have many pictures in work.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// Why an attempt ended.
enum Ended {
    /// The encoder does not work; another may.
    Encoder(String),
    Wrong(Wrong),
}

impl From<Wrong> for Ended {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure.into())
    }
}

/// Whether the recording can be decoded at all.
///
/// # Errors
/// A [`Failure`] that names the flag and the rule.
pub(super) fn check(input: &Path) -> Result<(), Failure> {
    match input.to_str() {
        Some(_) => Ok(()),
        None => Err(configuration(format!(
            "--input '{}': its path is not UTF-8, and GStreamer knows no other; give it another name, or use --copy",
            input.display()
        ))),
    }
}

/// Encodes the frames into a file, with the first encoder that works.
///
/// # Errors
/// A [`Failure`] with [`Exit::Pipeline`] where none does; what the recording or the disk says otherwise.
pub(super) fn encode(
    input: &Path,
    recording: &Recording,
    asked: RangeInclusive<usize>,
    encoding: &Encoding,
    mut file: &File,
    remarks: &mut Remarks,
    control: &mut Control,
) -> Result<Written, Wrong> {
    let (mut given_up, mut damages) = (Vec::new(), Damages::default());
    for (number, factory) in encoding.candidates.iter().enumerate() {
        let last = number + 1 == encoding.candidates.len();
        let attempt = Attempt::new(input, recording, &asked, encoding, factory, last, file);
        let ended = attempt.and_then(|attempt| attempt.run(control, &mut damages, remarks));
        match ended {
            Ok(frames) => {
                let damaged = damages.close(control);
                let (width, height) = recording.size();
                let size = even(width / 2, height);
                let (codec, encoder) = (encoding.codec.name(), Some(factory.clone()));
                return Ok(Written { codec, encoder, size, frames, damaged });
            }
            Err(Ended::Wrong(wrong)) => return Err(wrong),
            Err(Ended::Encoder(reason)) => {
                if let Some(next) = encoding.candidates.get(number + 1) {
                    control.notice(format!("warning: encoder {factory} is given up for {next} ({reason})"));
                }
                given_up.push(format!("{factory}: {reason}"));
                let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
                emptied.map_err(Wrong::output)?;
            }
        }
    }
    let (codec, reasons) = (encoding.codec.name(), given_up.join("; "));
    Err(Failure::new(Exit::Pipeline, format!("--encoder-device: no {codec} encoder works: {reasons}")).into())
}

/// What 4:2:0 and encoders have no place for is cropped: an odd column at the right, an odd row at the bottom.
fn even(width: u32, height: u32) -> (u32, u32) {
    (width & !1, height & !1)
}

/// One pipeline.
struct Attempt<'a> {
    pipeline: gst::Pipeline,
    source: gst::Element,
    encoder: gst::Element,
    sink: gst::Element,
    input: &'a Path,
    /// The sink's own handle, of which the descriptor must not become another file's while it may write.
    file: Option<File>,
    total: u64,
    /// There is no encoder behind this one.
    last: bool,
    taken: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
    /// The first frame with another size than those before it, which no file has a place for.
    resized: Arc<OnceLock<Resized>>,
}

struct Resized {
    frame: u64,
    was: (u32, u32),
    is: (u32, u32),
}

impl<'a> Attempt<'a> {
    fn new(
        input: &'a Path,
        recording: &Recording,
        asked: &RangeInclusive<usize>,
        encoding: &Encoding,
        factory: &str,
        last: bool,
        file: &File,
    ) -> Result<Self, Ended> {
        let mut encoder = Stage::new(factory).map_err(|_| Ended::Encoder("it is not installed".into()))?;
        quality::encoder(&mut encoder, encoding, 1e9 / recording.nominal_ns().max(1) as f64);
        let source = Stage::new("zedsvosrc")?
            .set("location", &input.display().to_string())
            .set("view", "left")
            .set("start-frame", &asked.start().to_string())
            .set("end-frame", &asked.end().to_string());
        let mut convert = Stage::new("videoconvert")?;
        convert.wish("n-threads", "0");
        let (width, height) = (recording.size().0 / 2, recording.size().1);
        let crop = Stage::new("videocrop")?
            .set("right", &(width % 2).to_string())
            .set("bottom", &(height % 2).to_string());
        let parser = Stage::new(&format!("{}parse", encoding.codec.name()))?;
        let file = file.try_clone().map_err(Wrong::output)?;
        let [muxer, sink] = mp4::stages(&file, Layout::Whole)?;
        let stages = [source, Stage::new("queue")?, convert, Stage::caps(RAW)?, crop, encoder, parser];
        let elements = stages.map(|stage| stage.element);
        let (source, encoder, parser) = (elements[0].clone(), elements[5].clone(), elements[6].clone());
        let (muxer, sink) = (muxer.element, sink.element);
        let pipeline = gst::Pipeline::new();
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Pipeline, error.to_string());
        pipeline.add_many(&elements).map_err(|error| failed(&error))?;
        pipeline.add_many([&muxer, &sink]).map_err(|error| failed(&error))?;
        gst::Element::link_many(&elements).map_err(|error| failed(&error))?;
        let into = mp4::video_pad(&muxer);
        let leaves = parser.static_pad("src").expect("a parser has a source pad");
        leaves.link(&into).map_err(|error| failed(&error))?;
        muxer.link(&sink).map_err(|error| failed(&error))?;
        let taken = counted(&encoder.static_pad("sink").expect("an encoder has a sink pad"));
        let written = counted(&into);
        let resized = watch_size(&source.static_pad("src").expect("a source has a source pad"));
        let total = asked.clone().count() as u64;
        let file = Some(file);
        Ok(Self { pipeline, source, encoder, sink, input, file, total, last, taken, written, resized })
    }

    /// Returns the number of frames in the file.
    fn run(
        mut self,
        control: &mut Control,
        damages: &mut Damages,
        remarks: &mut Remarks,
    ) -> Result<u64, Ended> {
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        let kinds = [
            gst::MessageType::Error,
            gst::MessageType::Eos,
            gst::MessageType::Element,
            gst::MessageType::Warning,
        ];
        let started = self.pipeline.set_state(gst::State::Playing);
        let mut moved = (Instant::now(), 0);
        loop {
            // A time that is 0 is over before the first message that is not wanted.
            let message = match started {
                Ok(_) => bus.timed_pop_filtered(TICK, &kinds),
                Err(_) => bus.pop_filtered(&kinds),
            };
            let written = self.written.load(Ordering::Relaxed);
            control.progress(written.min(self.total), self.total);
            if let Some(&Resized { frame, was, is }) = self.resized.get() {
                return Err(size_changes(frame as usize, was, is, "the file has one size").into());
            }
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => return Err(self.judge(error)),
                Some(gst::MessageView::Element(element)) => tell_damage(element, control, damages),
                Some(gst::MessageView::Warning(warning)) => tell_remark(warning, control, remarks),
                Some(_) if written == 0 => return Err(self.nothing()),
                Some(_) => {
                    self.take_down();
                    return Ok(written);
                }
                None if started.is_err() => return Err(Ended::Encoder("the pipeline does not start".into())),
                None => (),
            }
            control.check()?;
            let taken = self.taken.load(Ordering::Relaxed);
            if taken != moved.1 {
                moved = (Instant::now(), taken);
            }
            if written == 0 && !self.last {
                if taken >= u64::from(PATIENCE) {
                    return Err(self.nothing());
                }
                if taken > 0 && moved.0.elapsed() > HANGS {
                    return Err(Ended::Encoder(format!("nothing came out for {taken} frames, it hangs")));
                }
            }
        }
    }

    /// Why nothing is in the file.
    fn nothing(&self) -> Ended {
        match self.taken.load(Ordering::Relaxed) {
            0 => Ended::from(configuration(format!(
                "--input '{}': none of the frames can be decoded",
                self.input.display()
            ))),
            taken => Ended::Encoder(format!("nothing came out for {taken} frames that went in")),
        }
    }

    /// Whose fault an error is.
    fn judge(&self, error: &gst::message::Error) -> Ended {
        let trouble = Trouble::of(error);
        let of = |element: &gst::Element| {
            let element = element.upcast_ref::<gst::Object>();
            error.src().is_some_and(|src| src == element || src.has_as_ancestor(element))
        };
        let begun = self.written.load(Ordering::Relaxed) > 0;
        if of(&self.sink) {
            return Ended::from(Wrong::output(trouble.with_cause()));
        }
        // What the source says itself holds for whichever encoder; that its stream failed may be the encoder's fault.
        if of(&self.source) && !error.error().matches(gst::StreamError::Failed) {
            let of_file = format!("property 'location' = '{}': ", self.input.display());
            let why = trouble.text.strip_prefix(&of_file).unwrap_or(&trouble.text);
            let exit = match error.error().matches(gst::StreamError::CodecNotFound) {
                true => Exit::Pipeline,
                false => Exit::Configuration,
            };
            return Failure::new(exit, format!("--input '{}': {why}", self.input.display())).into();
        }
        // What an encoder refuses is told by whoever gave it, as a stream that failed.
        let refused = !begun && (!self.last || error.error().matches(gst::StreamError::Failed));
        if of(&self.encoder) || refused {
            return Ended::Encoder(trouble.with_cause());
        }
        Ended::from(configuration(format!("--input '{}': {}", self.input.display(), trouble.with_cause())))
    }

    fn take_down(&mut self) {
        let Some(file) = self.file.take() else { return };
        if !teardown::stop_within(self.pipeline.clone().upcast(), STOPS_WITHIN) {
            std::mem::forget(file);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// Tells where the source had to leave frames out, if the message is about that.
fn tell_damage(message: &gst::message::Element, control: &mut Control, damages: &mut Damages) {
    let damage = message.structure().filter(|structure| structure.name() == "zedsvosrc-damaged");
    let Some(structure) = damage else { return };
    let frame = |field| structure.get::<u64>(field).unwrap_or_default();
    let reason = structure.get::<String>("reason").unwrap_or_default();
    damages.tell(control, frame("first-frame")..=frame("last-frame"), &reason);
}

/// Tells what the source finds odd about the recording, if the message is about that.
fn tell_remark(message: &gst::message::Warning, control: &mut Control, remarks: &mut Remarks) {
    let remark = message.details().filter(|details| details.name() == "zedsvosrc-remark");
    if let Some(remark) = remark.and_then(|remark| remark.get::<String>("remark").ok()) {
        remarks.tell(control, &remark);
    }
}

/// Remembers from which frame on pictures have another size.
fn watch_size(pad: &gst::Pad) -> Arc<OnceLock<Resized>> {
    let resized = Arc::new(OnceLock::new());
    let found = resized.clone();
    let first = OnceLock::new();
    let next = AtomicU64::new(0);
    let what = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER;
    pad.add_probe(what, move |_, info| {
        if let Some(buffer) = info.buffer() {
            next.store(buffer.offset() + 1, Ordering::Relaxed);
        }
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Some(is) = both_views(caps.caps())
        {
            let was = *first.get_or_init(|| is);
            if was != is {
                found.get_or_init(|| Resized { frame: next.load(Ordering::Relaxed), was, is });
            }
        }
        gst::PadProbeReturn::Ok
    });
    resized
}

/// Width and height of both pictures side by side, of which the caps have one.
fn both_views(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    Some((side("width")?.saturating_mul(2), side("height")?))
}

fn counted(pad: &gst::Pad) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    count
}
