// SPDX-License-Identifier: MPL-2.0

//! A recording's frames, decoded and encoded again, as they are asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gst::prelude::*;

use super::feed::{Feed, Shot, Unit};
use crate::exit::{Exit, Failure};
use crate::run::bus::Trouble;
use crate::run::stage::Stage;
use crate::run::teardown;
use crate::svo::chain::{Chain, Ended, Source, is_of, tell_damage};
use crate::svo::convert::{Control, Damages};
use crate::svo::options::Encoding;

/// How often it looks at the flag.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// What stops at all, stops within that: encoders may have many pictures in work.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// Access units that wait until other cameras are as far.
const WAITING: u32 = 8;

/// Frames that are inside of the pipeline: their running times in ns, and their indices.
type Inside = Arc<Mutex<VecDeque<(u64, usize)>>>;

/// One pipeline, which works ahead of whoever asks by a few frames.
pub struct Encoded {
    pipeline: gst::Pipeline,
    chain: Chain,
    sink: gst_app::AppSink,
    shot: Shot,
    inside: Inside,
    /// Something has come out.
    begun: bool,
}

impl Encoded {
    /// Starts to work; `members`: the frames that are encoded, `None` for all.
    pub(in crate::svo) fn new(
        source: &Source,
        shot: Shot,
        members: Option<Arc<[usize]>>,
        encoding: &Encoding,
        factory: &str,
        last: bool,
    ) -> Result<Self, Ended> {
        let chain = Chain::new(source, encoding, factory, last)?;
        // Parameter sets with each key frame.
        chain.parser().set_property("config-interval", -1);
        let codec = encoding.codec.name();
        let sink = Stage::new("appsink")?
            .set("sync", "false")
            .set("max-buffers", &WAITING.to_string())
            .set("caps", &format!("video/x-{codec},stream-format=byte-stream,alignment=au"));
        let pipeline = gst::Pipeline::new();
        let failed = |error: gst::glib::BoolError| Failure::new(Exit::Pipeline, error.to_string());
        chain.link(&pipeline)?;
        pipeline.add(&sink.element).map_err(failed)?;
        chain.parser().link(&sink.element).map_err(failed)?;
        let inside = Inside::default();
        // Behind the source, where buffers have the index of their frame.
        let decoded = chain.elements[1].static_pad("sink").expect("a queue has a sink pad");
        watch(&decoded, members, inside.clone());
        let sink = sink.element.downcast().expect("it was made as an appsink");
        let encoded = Self { pipeline, chain, sink, shot, inside, begun: false };
        if encoded.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(encoded.reason().unwrap_or(Ended::Encoder("the pipeline does not start".into())));
        }
        Ok(encoded)
    }

    fn bus(&self) -> gst::Bus {
        self.pipeline.bus().expect("pipelines have a bus")
    }

    /// An error that came by itself.
    fn reason(&self) -> Option<Ended> {
        let message = self.bus().pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(self.chain.judge(error, self.begun)),
            _ => None,
        }
    }

    /// Tells of damage that was found meanwhile.
    fn listen(&self, control: &mut Control, damages: &mut Damages) -> Result<(), Ended> {
        let kinds = [gst::MessageType::Error, gst::MessageType::Element, gst::MessageType::Warning];
        while let Some(message) = self.bus().pop_filtered(&kinds) {
            match message.view() {
                // It ends without a frame; the other cameras may have some.
                gst::MessageView::Error(error)
                    if is_of(error, self.chain.source())
                        && error.error().matches(gst::StreamError::Decode) =>
                {
                    damages.warn(control, &Trouble::of(error).text);
                }
                gst::MessageView::Error(error) => return Err(self.chain.judge(error, self.begun)),
                gst::MessageView::Element(element) => tell_damage(element, control, damages),
                gst::MessageView::Warning(warning) => damages.remarks.hear(warning, control),
                _ => (),
            }
        }
        Ok(())
    }

    /// The frame of an access unit: encoders keep the order, and running time.
    fn unit(&self, sample: &gst::Sample) -> Option<Unit> {
        let buffer = sample.buffer_owned()?;
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let running = segment.to_running_time(buffer.pts()?)?.nseconds();
        let mut inside = lock(&self.inside);
        while inside.front().is_some_and(|&(time, _)| time < running) {
            inside.pop_front();
        }
        let (_, frame) = inside.pop_front().filter(|&(time, _)| time == running)?;
        let bytes = buffer.into_mapped_buffer_readable().ok()?;
        Some(self.shot.unit(frame, Bytes::from_owner(bytes)))
    }
}

/// Remembers the frames that come by, and drops those that are no members.
fn watch(pad: &gst::Pad, members: Option<Arc<[usize]>>, inside: Inside) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = &info.data else { return gst::PadProbeReturn::Ok };
        let frame = buffer.offset() as usize;
        if members.as_ref().is_some_and(|members| members.binary_search(&frame).is_err()) {
            // Not Drop: with GStreamer before 1.24 the bindings unref nothing, and say so for each buffer.
            return gst::PadProbeReturn::Handled;
        }
        // The source's segment begins at 0.
        lock(&inside).push_back((buffer.pts().map_or(0, gst::ClockTime::nseconds), frame));
        gst::PadProbeReturn::Ok
    });
}

fn lock(inside: &Inside) -> MutexGuard<'_, VecDeque<(u64, usize)>> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed for Encoded {
    fn next(&mut self, control: &mut Control, damages: &mut Damages) -> Result<Option<Unit>, Ended> {
        loop {
            let sample = self.sink.try_pull_sample(TICK);
            // Before it listens: what was said in front of the end is heard then.
            let over = sample.is_none() && self.sink.is_eos();
            self.listen(control, damages)?;
            if let Some(sample) = sample {
                let Some(unit) = self.unit(&sample) else {
                    return Err(Ended::Encoder("it puts out pictures that did not go in".into()));
                };
                self.begun = true;
                return Ok(Some(unit));
            }
            if over {
                // A camera of which nothing can be decoded is missing in its groups; the others are not.
                return if self.begun || self.chain.took_nothing() {
                    Ok(None)
                } else {
                    Err(self.chain.nothing())
                };
            }
            control.check()?;
            if !self.begun
                && let Some(ended) = self.chain.gives_up()
            {
                return Err(ended);
            }
        }
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        teardown::stop_within(self.pipeline.clone().upcast(), STOPS_WITHIN);
    }
}
