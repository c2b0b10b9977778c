// SPDX-License-Identifier: MPL-2.0

//! A fragmented MP4 file: what was written before a crash can be played up to the last whole fragment.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use gst::prelude::*;

use super::file::Track;
use super::queue::{Item, Unit};
use crate::run::bus::{Trouble, first_error};
use crate::run::stage::Stage;
use crate::run::teardown;

/// A fragment ends at a key frame, or when it is so long; in ms.
const FRAGMENT_MS: &str = "1000";
/// Ticks of a second, of which pictures' times are multiples: that of RTP.
const TIMESCALE: u32 = 90_000;
/// The last fragment takes no longer to be written.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// A file that failed is not waited for.
const GIVEN_UP_WITHIN: Duration = Duration::from_millis(300);

/// The file. The muxer is fed by hand, not by an `appsrc`: a call comes back when it has taken what it was given, or with
/// the reason why it did not.
pub struct Mp4Track {
    pipeline: gst::Pipeline,
    into: gst::Pad,
    /// `None` once the pipeline is down.
    file: Option<File>,
    caps: Option<gst::Caps>,
    /// Decoding time of the first access unit: the file begins at 0.
    base: i64,
    last_dts: i64,
}

impl Mp4Track {
    /// Begins the file.
    ///
    /// # Errors
    /// The name of an element that is missing.
    pub fn new(file: File) -> Result<Self, String> {
        let stage = |factory| Stage::new(factory).map_err(|failure| failure.to_string());
        let muxer = stage("mp4mux")?.set("fragment-duration", FRAGMENT_MS).element;
        let sink = stage("fdsink")?
            .set("fd", &file.as_raw_fd().to_string())
            .set("sync", "false")
            .set("async", "false")
            .element;
        let pipeline = gst::Pipeline::new();
        let failed = |error: gst::glib::BoolError| error.to_string();
        pipeline.add_many([&muxer, &sink]).map_err(failed)?;
        muxer.link(&sink).map_err(failed)?;
        let pad = muxer.request_pad_simple("video_%u").ok_or("mp4mux has no pad for video")?;
        pad.set_property("trak-timescale", TIMESCALE);
        let into = gst::Pad::builder(gst::PadDirection::Src).build();
        into.link(&pad).map_err(|error| error.to_string())?;
        let track = Self { pipeline, into, file: Some(file), caps: None, base: 0, last_dts: 0 };
        if track.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(track.reason("the muxer does not start"));
        }
        track.into.set_active(true).map_err(failed)?;
        track.into.push_event(gst::event::StreamStart::new("recording"));
        Ok(track)
    }

    fn bus(&self) -> gst::Bus {
        self.pipeline.bus().expect("pipelines have a bus")
    }

    fn reason(&self, unknown: &str) -> String {
        first_error(&self.bus()).map_or_else(|| unknown.to_owned(), |trouble| trouble.with_cause())
    }

    fn picture(&mut self, unit: Unit) -> Result<(), String> {
        if self.caps.is_none() {
            self.into.push_event(gst::event::Caps::new(&unit.caps));
            self.into.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
            (self.caps, self.base, self.last_dts) = (Some(unit.caps), unit.dts, unit.dts - 1);
        }
        // An encoder that took over may begin a little before the end of the one that failed.
        let dts = unit.dts.max(self.last_dts + 1);
        self.last_dts = dts;
        let shifted = |time: i64| gst::ClockTime::from_nseconds((time - self.base).max(0) as u64);
        let mut buffer = unit.buffer;
        let writable = buffer.make_mut();
        writable.set_dts(shifted(dts));
        writable.set_pts(shifted(unit.pts.max(dts)));
        self.into.push(buffer).map(drop).map_err(|error| self.reason(&error.to_string()))
    }

    fn end(&self) -> Result<(), String> {
        self.into.push_event(gst::event::Eos::new());
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let patience = gst::ClockTime::from_nseconds(ENDS_WITHIN.as_nanos() as u64);
        let message = self.bus().timed_pop_filtered(patience, &kinds);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => Err(Trouble::of(error).with_cause()),
            Some(_) => Ok(()),
            None => Err(format!("the end of the file was not written within {} s", ENDS_WITHIN.as_secs())),
        }
    }

    /// Takes the pipeline down. Where that hangs in the file system, the descriptor must not become another file's.
    fn take_down(&mut self, patience: Duration) -> Option<File> {
        let file = self.file.take()?;
        if teardown::stop_within(self.pipeline.clone().upcast(), patience) {
            return Some(file);
        }
        std::mem::forget(file);
        None
    }
}

impl Track for Mp4Track {
    /// A file has one size and one set of parameters.
    fn fits(&self, item: &Item) -> bool {
        let (Item::Video(unit), Some(caps)) = (item, &self.caps) else { return true };
        let (now, before) = (unit.caps.structure(0), caps.structure(0));
        let same = |field| {
            let value =
                |caps: Option<&gst::StructureRef>| caps.and_then(|s| s.value(field).ok()?.serialize().ok());
            value(now) == value(before)
        };
        unit.caps == *caps || ["codec_data", "width", "height"].into_iter().all(same)
    }

    fn write(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Video(unit) => self.picture(unit),
            Item::Bodies(_) => Ok(()),
        }
    }

    fn idle(&mut self) -> Result<(), String> {
        first_error(&self.bus()).map_or(Ok(()), |trouble| Err(trouble.with_cause()))
    }

    fn finish(mut self: Box<Self>) -> Result<File, String> {
        let ended = self.end();
        // All is written: a machine that is busy takes nothing away from that.
        let file = self.take_down(ENDS_WITHIN);
        ended?;
        file.ok_or_else(|| "the muxer does not stop".into())
    }
}

impl Drop for Mp4Track {
    fn drop(&mut self) {
        drop(self.take_down(GIVEN_UP_WITHIN));
    }
}
