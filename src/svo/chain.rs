// SPDX-License-Identifier: MPL-2.0

//! From a recording to an encoder's access units: the part of a pipeline that all have who encode, and whose fault it is
//! where it does not work.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use gst::prelude::*;
use svo2::Recording;

use super::convert::{Control, Damages};
use super::options::Encoding;
use super::output::Wrong;
use super::quality;
use crate::exit::{Exit, Failure, configuration};
use crate::run::bus::Trouble;
use crate::run::encoder::{HANGS, PATIENCE, RAW};
use crate::run::stage::Stage;

/// Why an attempt ended.
pub(super) enum Ended {
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

/// What is encoded, and of which recording.
pub(super) struct Source<'a> {
    pub input: &'a Path,
    pub recording: &'a Recording,
    /// As zedsvosrc calls it.
    pub view: &'static str,
    pub frames: RangeInclusive<usize>,
}

impl Source<'_> {
    /// Width and height of what is encoded: what 4:2:0 and encoders have no place for is cropped, an odd column at the
    /// right, an odd row at the bottom.
    pub fn size(&self) -> (u32, u32) {
        let (width, height) = self.whole();
        (width & !1, height & !1)
    }

    fn whole(&self) -> (u32, u32) {
        let (both, height) = self.recording.size();
        (if self.view == "side-by-side" { both } else { both / 2 }, height)
    }
}

/// The elements, not linked yet.
pub(super) struct Chain {
    /// From the source to the parser.
    pub elements: Vec<gst::Element>,
    /// Whose fault it is what is not the encoder's, for people.
    whose: String,
    /// There is no encoder behind this one.
    last: bool,
    taken: Arc<AtomicU64>,
    /// When a frame went in last, and how many had by then.
    moved: (Instant, u64),
}

impl Chain {
    /// Of one recording.
    pub fn new(source: &Source, encoding: &Encoding, factory: &str, last: bool) -> Result<Self, Ended> {
        let zedsvosrc = Stage::new("zedsvosrc")?
            .set("location", &source.input.display().to_string())
            .set("view", source.view)
            .set("start-frame", &source.frames.start().to_string())
            .set("end-frame", &source.frames.end().to_string());
        let mut convert = Stage::new("videoconvert")?;
        convert.wish("n-threads", "0");
        let (width, height) = source.whole();
        let crop = Stage::new("videocrop")?
            .set("right", &(width % 2).to_string())
            .set("bottom", &(height % 2).to_string());
        let head = vec![zedsvosrc, Stage::new("queue")?, convert, Stage::caps(RAW)?, crop];
        let whose = format!("--input '{}'", source.input.display());
        let fps = 1e9 / source.recording.nominal_ns().max(1) as f64;
        Self::behind(head, whose, fps, encoding, factory, last)
    }

    /// Of pictures that encoders take, about so many per second, which the `head` puts out.
    pub fn behind(
        head: Vec<Stage>,
        whose: String,
        fps: f64,
        encoding: &Encoding,
        factory: &str,
        last: bool,
    ) -> Result<Self, Ended> {
        let mut encoder = Stage::new(factory).map_err(|_| Ended::Encoder("it is not installed".into()))?;
        quality::encoder(&mut encoder, encoding, fps);
        let parser = Stage::new(&format!("{}parse", encoding.codec.name()))?;
        let taken = counted(&encoder.element.static_pad("sink").expect("an encoder has a sink pad"));
        let elements = head.into_iter().chain([encoder, parser]).map(|stage| stage.element).collect();
        Ok(Self { elements, whose, last, taken, moved: (Instant::now(), 0) })
    }

    /// Adds all to a pipeline, and links them.
    pub fn link(&self, pipeline: &gst::Pipeline) -> Result<(), Failure> {
        let failed = |error: gst::glib::BoolError| Failure::new(Exit::Pipeline, error.to_string());
        pipeline.add_many(&self.elements).map_err(failed)?;
        gst::Element::link_many(&self.elements).map_err(failed)
    }

    /// Where the pictures come from.
    pub fn source(&self) -> &gst::Element {
        &self.elements[0]
    }

    fn encoder(&self) -> &gst::Element {
        &self.elements[self.elements.len() - 2]
    }

    pub fn parser(&self) -> &gst::Element {
        &self.elements[self.elements.len() - 1]
    }

    /// Whether the encoder was given nothing so far.
    pub fn took_nothing(&self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0
    }

    /// Why nothing came out.
    pub fn nothing(&self) -> Ended {
        match self.taken.load(Ordering::Relaxed) {
            0 => Ended::from(configuration(format!("{}: none of the frames can be decoded", self.whose))),
            taken => Ended::Encoder(format!("nothing came out for {taken} frames that went in")),
        }
    }

    /// Whose fault an error is; `begun`: something had come out before.
    pub fn judge(&self, error: &gst::message::Error, begun: bool) -> Ended {
        // The file cannot be read, by whichever encoder.
        if let Some(failure) = unreadable(error, self.source(), &self.whose) {
            return Ended::from(failure);
        }
        let trouble = Trouble::of(error);
        // What else the source says itself holds for all of them, too; that its stream failed may be the encoder's fault.
        if is_of(error, self.source()) && !error.error().matches(gst::StreamError::Failed) {
            return Ended::from(of_source(error, &self.whose, &trouble.text));
        }
        // What an encoder refuses is told by whoever gave it, as a stream that failed.
        let refused = !begun && (!self.last || error.error().matches(gst::StreamError::Failed));
        if is_of(error, self.encoder()) || refused {
            return Ended::Encoder(trouble.with_cause());
        }
        Ended::from(configuration(format!("{}: {}", self.whose, trouble.with_cause())))
    }

    /// To be asked now and then while nothing has come out: why nothing more is expected, where another may do better.
    pub fn gives_up(&mut self) -> Option<Ended> {
        let taken = self.taken.load(Ordering::Relaxed);
        if taken != self.moved.1 {
            self.moved = (Instant::now(), taken);
        }
        if self.last {
            return None;
        }
        if taken >= u64::from(PATIENCE) {
            return Some(self.nothing());
        }
        let hangs = taken > 0 && self.moved.0.elapsed() > HANGS;
        hangs.then(|| Ended::Encoder(format!("nothing came out for {taken} frames, it hangs")))
    }
}

/// Whether an error comes from an element, or from within it.
pub(super) fn is_of(error: &gst::message::Error, element: &gst::Element) -> bool {
    let element = element.upcast_ref::<gst::Object>();
    error.src().is_some_and(|src| src == element || src.has_as_ancestor(element))
}

/// What a source says that is no encoder's fault; `whose` it is, for people.
pub(super) fn of_source(error: &gst::message::Error, whose: &str, why: &str) -> Failure {
    // A decoder that is missing is no fault of the file's.
    let exit = match error.error().matches(gst::StreamError::CodecNotFound) {
        true => Exit::Pipeline,
        false => Exit::Configuration,
    };
    Failure::new(exit, format!("{whose}: {why}"))
}

/// A source's file that the system does not read; `whose` it is, for people.
pub(super) fn unreadable(error: &gst::message::Error, source: &gst::Element, whose: &str) -> Option<Failure> {
    // Not one of a decoder's within it, whose device it may be.
    if error.src() != Some(source.upcast_ref()) || !error.error().is::<gst::ResourceError>() {
        return None;
    }
    let location: Option<String> = source.find_property("location").and_then(|_| source.property("location"));
    let named = format!("property 'location' = '{}': ", location.unwrap_or_default());
    let text = Trouble::of(error).text;
    Some(configuration(format!("{whose}: {}", text.strip_prefix(&named).unwrap_or(&text))))
}

/// Tells where the source had to leave frames out, if the message is about that.
pub(super) fn tell_damage(message: &gst::message::Element, control: &mut Control, damages: &mut Damages) {
    let damage = message.structure().filter(|structure| structure.name() == "zedsvosrc-damaged");
    let Some(structure) = damage else { return };
    let frame = |field| structure.get::<u64>(field).unwrap_or_default();
    let reason = structure.get::<String>("reason").unwrap_or_default();
    damages.tell(control, frame("first-frame")..=frame("last-frame"), &reason);
}

/// From `frame` on pictures have another size, as both views have it.
pub(super) struct Resized {
    pub frame: usize,
    pub was: (u32, u32),
    pub is: (u32, u32),
}

/// Finds out from which frame on the pictures of a `zedsvosrc` have another size, if they have.
pub(super) fn watch_size(source: &gst::Element) -> Arc<OnceLock<Resized>> {
    let resized = Arc::new(OnceLock::new());
    let (found, first, next) = (resized.clone(), OnceLock::new(), AtomicU64::new(0));
    let pad = source.static_pad("src").expect("a source has a source pad");
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            next.store(buffer.offset() + 1, Ordering::Relaxed);
        }
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Some(is) = both_views(caps.caps())
        {
            let was = *first.get_or_init(|| is);
            if was != is {
                let frame = next.load(Ordering::Relaxed) as usize;
                found.get_or_init(|| Resized { frame, was, is });
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

/// Counts the buffers that come by.
pub(super) fn counted(pad: &gst::Pad) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    count
}

/// Runs attempts, each with one of the encoders, until one does not end because of its encoder; tells which that was.
///
/// # Errors
/// A [`Failure`] with [`Exit::Pipeline`] where no encoder works.
pub(super) fn first_that_works<T>(
    encoding: &Encoding,
    control: &mut Control,
    mut attempt: impl FnMut(&str, bool, &mut Control) -> Result<T, Ended>,
) -> Result<(T, String), Wrong> {
    let mut given_up = Vec::new();
    for (number, factory) in encoding.candidates.iter().enumerate() {
        let last = number + 1 == encoding.candidates.len();
        match attempt(factory, last, control) {
            Ok(done) => return Ok((done, factory.clone())),
            Err(Ended::Wrong(wrong)) => return Err(wrong),
            Err(Ended::Encoder(reason)) => {
                if let Some(next) = encoding.candidates.get(number + 1) {
                    control.notice(format!("warning: encoder {factory} is given up for {next} ({reason})"));
                }
                given_up.push(format!("{factory}: {reason}"));
            }
        }
    }
    let (codec, reasons) = (encoding.codec.name(), given_up.join("; "));
    Err(Failure::new(Exit::Pipeline, format!("--encoder-device: no {codec} encoder works: {reasons}")).into())
}
