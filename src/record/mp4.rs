// SPDX-License-Identifier: MPL-2.0

//! A fragmented MP4 file: what was written before a crash can be played up to the last whole fragment.

use std::fs::File;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::file::Track;
use super::queue::{Item, Unit};
use crate::mp4::{Layout, Muxer};

/// The last fragment takes no longer to be written: a recorder that ends has others waiting for it.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// The file.
pub struct Mp4Track {
    muxer: Muxer,
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
        let muxer = Muxer::new(file, Layout::Fragmented)?;
        Ok(Self { muxer, caps: None, base: 0, last_dts: 0 })
    }

    fn picture(&mut self, unit: Unit) -> Result<(), String> {
        if self.caps.is_none() {
            self.muxer.begin(&unit.caps);
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
        self.muxer.push(buffer)
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
        self.muxer.trouble().map_or(Ok(()), Err)
    }

    fn finish(self: Box<Self>) -> Result<File, String> {
        let begun = Instant::now();
        self.muxer.finish(|| begun.elapsed() < ENDS_WITHIN)
    }
}
