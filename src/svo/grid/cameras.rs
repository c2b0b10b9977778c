// SPDX-License-Identifier: MPL-2.0

//! The recordings of a grid in one pipeline: a decoder each, and what puts their frames together in front of an encoder.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;

use super::compose::{Branch, Composer, Tally};
use super::convert::Counts;
use super::layout::Layout;
use super::plan::Plan;
use crate::exit::{Exit, Failure};
use crate::run::bus::Trouble;
use crate::run::stage::Stage;
use crate::svo::chain::{Chain, Ended, is_of, of_source, tell_damage, unreadable};
use crate::svo::convert::{Control, Damages};
use crate::svo::encode::{Attempt, Heard, Word};
use crate::svo::options::Encoding;
use crate::svo::segment::{Opened, Segment};

/// Decoded frames that wait to be shown, of each camera.
const WAITING: u32 = 2;

/// What is written, whichever encoder it is that works.
pub(super) struct Cameras<'a> {
    segment: &'a Segment,
    plan: Arc<Plan>,
    layout: Arc<Layout>,
    /// One per camera, as are the others.
    damages: Vec<Damages>,
    unreadable: Vec<bool>,
    tallies: Arc<Vec<Tally>>,
}

impl<'a> Cameras<'a> {
    pub fn new(segment: &'a Segment, opened: &Opened, plan: Plan, layout: Layout) -> Self {
        let recordings = plan.labels.iter().zip(&opened.recordings);
        let damages = recordings.map(|(label, recording)| Damages::of(label, recording)).collect();
        let unreadable = vec![false; plan.labels.len()];
        let tallies = Arc::default();
        Self { segment, plan: Arc::new(plan), layout: Arc::new(layout), damages, unreadable, tallies }
    }

    /// Writes the file with an encoder. Returns the number of pictures in it.
    pub fn attempt(
        &mut self,
        encoding: &Encoding,
        factory: &str,
        last: bool,
        file: &std::fs::File,
        control: &mut Control,
    ) -> Result<u64, Ended> {
        let pipeline = gst::Pipeline::new();
        let source = Stage::new("appsrc")?.set("format", "time");
        let appsrc = source.element.clone().downcast::<gst_app::AppSrc>().expect("it is one");
        // Pictures are put together in one thread, and go into the encoder in another.
        let queue = Stage::new("queue")?
            .set("max-size-buffers", "2")
            .set("max-size-bytes", "0")
            .set("max-size-time", "0");
        let fps = 1e9 / self.plan.interval_ns as f64;
        let whose = format!("segment '{}'", self.segment.name);
        let chain = Chain::behind(vec![source, queue], whose, fps, encoding, factory, last)?;
        let (mut sources, mut branches) = (Vec::new(), Vec::new());
        for (n, camera) in self.segment.cameras.iter().enumerate() {
            let Some(frames) = self.plan.frames(n) else {
                branches.push(None);
                continue;
            };
            let (source, branch) = branch(&pipeline, &camera.path, frames)?;
            sources.push((n, source));
            branches.push(Some(branch));
        }
        self.tallies = Arc::new(self.plan.labels.iter().map(|_| Tally::default()).collect());
        let rate = gst::Fraction::approximate_f64((fps * 100.).round() / 100.);
        let rate = rate.unwrap_or(gst::Fraction::new(0, 1));
        let (plan, layout, tallies) = (self.plan.clone(), self.layout.clone(), self.tallies.clone());
        let mut composer = Composer::new(plan, layout, tallies, rate, branches);
        let feed = move |source: &gst_app::AppSrc, _| composer.feed(source);
        appsrc.set_callbacks(gst_app::AppSrcCallbacks::builder().need_data(feed).build());
        let total = self.plan.groups.len() as u64;
        let mut hear = |word: Word, control: &mut Control| self.hear(&sources, word, control);
        Attempt::new(pipeline, chain, total, file)?.run(control, &mut hear)
    }

    /// What a recording says is told with the name of its camera.
    fn hear(&mut self, sources: &[(usize, gst::Element)], word: Word, control: &mut Control) -> Heard {
        let camera = |src: Option<&gst::Object>| {
            let from = |(_, source): &&(usize, gst::Element)| src == Some(source.upcast_ref());
            sources.iter().find(from).map(|(camera, _)| *camera)
        };
        match word {
            Word::Element(message) => {
                if let Some(camera) = camera(message.src()) {
                    tell_damage(message, control, &mut self.damages[camera]);
                }
                Heard::Noted
            }
            Word::Warning(message) => {
                if let Some(camera) = camera(message.src()) {
                    self.damages[camera].remarks.hear(message, control);
                }
                Heard::Noted
            }
            Word::Error(error) => {
                let Some((camera, source)) = sources.iter().find(|(_, source)| is_of(error, source)) else {
                    return Heard::Noted;
                };
                let whose = format!("--input '{}'", self.segment.cameras[*camera].path.display());
                if let Some(failure) = unreadable(error, source, &whose) {
                    return Heard::Blamed(failure);
                }
                let trouble = Trouble::of(error);
                let why = match error.error().matches(gst::StreamError::Failed) {
                    true => trouble.with_cause(),
                    false => trouble.text,
                };
                if !error.error().matches(gst::StreamError::Decode) {
                    return Heard::Blamed(of_source(error, &whose, &why));
                }
                // It ends without a frame; the others may have some.
                if !std::mem::replace(&mut self.unreadable[*camera], true) {
                    self.damages[*camera].warn(control, &why);
                }
                Heard::Forgiven
            }
        }
    }

    /// What came of each camera; tells how many damaged places were not told.
    pub fn close(self, control: &mut Control) -> Vec<Counts> {
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let counts = self.damages.into_iter().zip(self.tallies.iter());
        let counts = counts.map(|(damages, tally)| Counts {
            shown: count(&tally.shown),
            none: count(&tally.none),
            damaged: count(&tally.damaged),
            places: damages.close(control),
        });
        counts.collect()
    }
}

/// The left view of a recording.
fn branch(
    pipeline: &gst::Pipeline,
    path: &Path,
    frames: RangeInclusive<usize>,
) -> Result<(gst::Element, Branch), Failure> {
    let source = Stage::new("zedsvosrc")?
        .set("location", &path.display().to_string())
        .set("view", "left")
        .set("start-frame", &frames.start().to_string())
        .set("end-frame", &frames.end().to_string());
    let sink = Stage::new("appsink")?
        .set("caps", "video/x-raw")
        .set("sync", "false")
        .set("async", "false")
        .set("enable-last-sample", "false")
        .set("max-buffers", &WAITING.to_string());
    let (source, sink) = (source.element, sink.element);
    let failed = |error: gst::glib::BoolError| Failure::new(Exit::Pipeline, error.to_string());
    pipeline.add_many([&source, &sink]).map_err(failed)?;
    source.link(&sink).map_err(failed)?;
    // Frames stay where the decoder put them: it is known here how planes lie.
    let pad = sink.static_pad("sink").expect("a sink has a sink pad");
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        let query = info.query_mut().map(gst::QueryRef::view_mut);
        let Some(gst::QueryViewMut::Allocation(query)) = query else { return gst::PadProbeReturn::Ok };
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
        gst::PadProbeReturn::Handled
    });
    Ok((source, Branch::new(sink.downcast().expect("it is one"))))
}
