// SPDX-License-Identifier: MPL-2.0

//! The left view of a recording, decoded and encoded again, into MP4.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gst::prelude::*;
use svo2::Recording;

use super::chain::{Chain, Ended, Source, counted, first_that_works, is_of, tell_damage, watch_size};
use super::convert::{Control, Damages, Remarks, Written, size_changes};
use super::options::Encoding;
use super::output::Wrong;
use crate::exit::{Exit, Failure, configuration};
use crate::mp4::{self, Layout};
use crate::place;
use crate::run::bus::Trouble;
use crate::run::teardown;

/// How often it looks at the flag, and tells how far it is.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// What stops at all, stops within that: encoders may have many pictures in work.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

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
    file: &File,
    remarks: &mut Remarks,
    control: &mut Control,
) -> Result<Written, Wrong> {
    let mut damages = Damages::default();
    let source = Source { input, recording, view: "left", frames: asked.clone() };
    let (frames, encoder) = first_that_works(encoding, control, |factory, last, control| {
        place::empty(file).map_err(Wrong::output)?;
        let chain = Chain::new(&source, encoding, factory, last)?;
        let mut hear = |word: Word, control: &mut Control| {
            match word {
                Word::Element(element) => tell_damage(element, control, &mut damages),
                Word::Warning(warning) => remarks.hear(warning, control),
                Word::Error(_) => (),
            }
            Heard::Noted
        };
        let resized = watch_size(chain.source());
        let total = source.frames.clone().count() as u64;
        let ended = Attempt::new(gst::Pipeline::new(), chain, total, file)?.run(control, &mut hear);
        control.check()?;
        // Whatever an encoder makes of it, and says.
        match resized.get() {
            Some(size) => Err(size_changes(size.frame, size.was, size.is, "the file has one size").into()),
            None => ended,
        }
    })?;
    let damaged = damages.close(control);
    let codec = encoding.codec.name();
    Ok(Written { codec, encoder: Some(encoder), size: source.size(), frames, damaged })
}

/// What an element says while it works.
pub(super) enum Word<'a> {
    Element(&'a gst::message::Element),
    Warning(&'a gst::message::Warning),
    Error(&'a gst::message::Error),
}

/// What whoever began an attempt makes of it.
pub(super) enum Heard {
    /// Nothing, of an error: it is judged by where it came from.
    Noted,
    /// It goes on in spite of an error.
    Forgiven,
    /// Whose fault an error is.
    Blamed(Failure),
}

/// One pipeline that writes a file.
pub(super) struct Attempt {
    pipeline: gst::Pipeline,
    chain: Chain,
    sink: gst::Element,
    /// The sink's own handle, of which the descriptor must not become another file's while it may write.
    file: Option<File>,
    total: u64,
    written: Arc<AtomicU64>,
}

impl Attempt {
    /// Of `total` pictures; the pipeline may have other elements than the chain's.
    pub fn new(pipeline: gst::Pipeline, chain: Chain, total: u64, file: &File) -> Result<Self, Ended> {
        let file = file.try_clone().map_err(Wrong::output)?;
        let [muxer, sink] = mp4::stages(&file, Layout::Whole)?.map(|stage| stage.element);
        let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Pipeline, error.to_string());
        chain.link(&pipeline)?;
        pipeline.add_many([&muxer, &sink]).map_err(|error| failed(&error))?;
        let into = mp4::video_pad(&muxer);
        let leaves = chain.parser().static_pad("src").expect("a parser has a source pad");
        leaves.link(&into).map_err(|error| failed(&error))?;
        muxer.link(&sink).map_err(|error| failed(&error))?;
        let written = counted(&into);
        Ok(Self { pipeline, chain, sink, file: Some(file), total, written })
    }

    /// Returns the number of frames in the file. `hear` is told what elements say.
    pub fn run(
        mut self,
        control: &mut Control,
        hear: &mut dyn FnMut(Word, &mut Control) -> Heard,
    ) -> Result<u64, Ended> {
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        let kinds = [
            gst::MessageType::Error,
            gst::MessageType::Eos,
            gst::MessageType::Element,
            gst::MessageType::Warning,
        ];
        let started = self.pipeline.set_state(gst::State::Playing);
        loop {
            // A time of 0 is over before the first message that is wanted.
            let message = match started {
                Ok(_) => bus.timed_pop_filtered(TICK, &kinds),
                Err(_) => bus.pop_filtered(&kinds),
            };
            let written = self.written.load(Ordering::Relaxed);
            control.progress(written.min(self.total), self.total);
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => match hear(Word::Error(error), control) {
                    Heard::Forgiven => (),
                    Heard::Blamed(failure) => return Err(failure.into()),
                    Heard::Noted => return Err(self.judge(error, written > 0)),
                },
                Some(gst::MessageView::Element(element)) => drop(hear(Word::Element(element), control)),
                Some(gst::MessageView::Warning(warning)) => drop(hear(Word::Warning(warning), control)),
                Some(_) if written == 0 => return Err(self.chain.nothing()),
                Some(_) => {
                    self.take_down();
                    return Ok(written);
                }
                None if started.is_err() => return Err(Ended::Encoder("the pipeline does not start".into())),
                None => (),
            }
            control.check()?;
            if written == 0
                && let Some(ended) = self.chain.gives_up()
            {
                return Err(ended);
            }
        }
    }

    /// Whose fault an error is.
    fn judge(&self, error: &gst::message::Error, begun: bool) -> Ended {
        if is_of(error, &self.sink) {
            return Ended::from(Wrong::output(Trouble::of(error).with_cause()));
        }
        self.chain.judge(error, begun)
    }

    fn take_down(&mut self) {
        let Some(file) = self.file.take() else { return };
        if !teardown::stop_within(self.pipeline.clone().upcast(), STOPS_WITHIN) {
            std::mem::forget(file);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.take_down();
    }
}
