// SPDX-License-Identifier: MPL-2.0

//! An MCAP file of the live layout: the encoder's video, and body packets.

use std::fs::File;

use bytes::Bytes;

use super::annexb::AnnexB;
use super::file::Track;
use super::queue::{Item, Unit};
use super::request::McapOptions;
use crate::mcap::{Channel, Picture, Writer};
use crate::run::plan::Codec;

/// Stamps may step back by so much within a file, as clocks do that are set right; by more, as at the start of a replay
/// that loops, another file begins. In ns.
const STEP_BACK_NS: u64 = 1_000_000_000;

/// The file.
pub struct McapTrack {
    writer: Writer<File>,
    convert: AnnexB,
    codec: Codec,
    frame_id: String,
    video: Channel,
    body_topic: String,
    bodies: Option<Channel>,
    /// Of the last picture: of messages of one time, readers would not know the order.
    last_ns: Option<u64>,
}

impl McapTrack {
    /// Begins the file.
    ///
    /// # Errors
    /// What the file says, or the name of an element that is missing.
    pub fn new(file: File, codec: Codec, options: &McapOptions) -> Result<Self, String> {
        let mut writer = Writer::new(file, options.compression).map_err(|error| error.to_string())?;
        Ok(Self {
            video: writer.add_video(&options.topic).map_err(|error| error.to_string())?,
            writer,
            convert: AnnexB::new(codec)?,
            codec,
            frame_id: options.frame_id.clone(),
            body_topic: options.body_topic.clone(),
            bodies: None,
            last_ns: None,
        })
    }

    fn picture(&mut self, unit: &Unit) -> Result<(), String> {
        let buffer = self.convert.convert(unit)?;
        let time_ns = self.last_ns.map_or(unit.time_ns, |last| unit.time_ns.max(last.saturating_add(1)));
        self.last_ns = Some(time_ns);
        let bytes = buffer.into_mapped_buffer_readable().map_err(|_| "a picture cannot be read")?;
        let picture = Picture {
            time_ns,
            frame_id: &self.frame_id,
            format: self.codec.name(),
            unit: Bytes::from_owner(bytes),
        };
        self.writer.video(&mut self.video, picture).map_err(|error| error.to_string())
    }
}

impl Track for McapTrack {
    fn fits(&self, item: &Item) -> bool {
        match (item, self.last_ns) {
            // Whoever reads the file needs a key frame first.
            (Item::Video(unit), Some(last)) => !unit.key || last <= unit.time_ns.saturating_add(STEP_BACK_NS),
            _ => true,
        }
    }

    fn write(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Video(unit) => self.picture(&unit),
            Item::Bodies(bodies) => {
                let failed = |error: std::io::Error| error.to_string();
                let channel = match &mut self.bodies {
                    Some(channel) => channel,
                    none => none.insert(self.writer.add_bodies(&self.body_topic).map_err(failed)?),
                };
                self.writer.encoded(channel, bodies.time_ns, &bodies.packet).map_err(failed)
            }
        }
    }

    fn idle(&mut self) -> Result<(), String> {
        self.writer.idle().map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<File, String> {
        self.writer.finish().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    /// A few access units of an encoder, the first of them a key frame.
    fn units() -> Vec<Unit> {
        gst::init().unwrap();
        let launch = "videotestsrc num-buffers=8 ! x264enc tune=zerolatency ! h264parse ! \
                      appsink name=sink caps=video/x-h264,stream-format=avc,alignment=au";
        let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let units = std::iter::from_fn(|| sink.pull_sample().ok()).map(|sample| {
            let buffer = sample.buffer_owned().unwrap();
            let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            Unit { buffer, caps: sample.caps_owned().unwrap(), pts: 0, dts: 0, key, time_ns: 0 }
        });
        let units = units.collect();
        pipeline.set_state(gst::State::Null).unwrap();
        units
    }

    /// Writes units with these capture times; the times in the file, and which unit did not fit.
    fn times(captures: &[u64], keys: &[usize]) -> (Vec<u64>, Option<usize>) {
        let mut units = units();
        let path = tempfile::NamedTempFile::new().unwrap();
        let options = McapOptions::default();
        let mut track = McapTrack::new(path.reopen().unwrap(), Codec::H264, &options).unwrap();
        let mut refused = None;
        for (n, time_ns) in captures.iter().enumerate() {
            let mut unit = units.remove(0);
            (unit.time_ns, unit.key) = (*time_ns, keys.contains(&n));
            let item = Item::Video(unit);
            if !track.fits(&item) {
                refused = Some(n);
                break;
            }
            track.write(item).unwrap();
        }
        Box::new(track).finish().unwrap();
        let bytes = std::fs::read(path.path()).unwrap();
        let messages = ::mcap::MessageStream::new(&bytes).unwrap();
        (messages.map(|message| message.unwrap().log_time).collect(), refused)
    }

    #[test]
    fn time_does_not_step_back_within_a_file() {
        let at = |seconds: u64| seconds * SECOND;
        let rising = [at(9), at(9) + 5, at(10)];
        assert_eq!(times(&rising, &[0]), (rising.to_vec(), None));
        // A clock that is set right by less than a second.
        let (set, _) = times(&[at(10), at(10) - 5, at(10) - 4, at(10) + 7], &[0, 1]);
        assert_eq!(set, [at(10), at(10) + 1, at(10) + 2, at(10) + 7]);
        // A replay that begins anew: with a key frame, another file does.
        let (replay, refused) = times(&[at(10), at(11), at(3), at(4)], &[0, 3]);
        assert_eq!((replay, refused), (vec![at(10), at(11), at(11) + 1], Some(3)));
        // Stamps that are no times at all.
        assert_eq!(times(&[u64::MAX - 1, u64::MAX - 1, 5], &[0]).0, [u64::MAX - 1, u64::MAX, u64::MAX]);
    }
}
