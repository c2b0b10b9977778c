// SPDX-License-Identifier: MPL-2.0

//! mp4mux that writes into an open file and is fed by hand, not by an `appsrc`: a call comes back when the muxer has
//! taken what it was given, or with the reason why it did not.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::exit::Failure;
use crate::run::bus::{Trouble, first_error};
use crate::run::stage::Stage;
use crate::run::teardown;

/// Ticks of a second, of which pictures' times are multiples: that of RTP.
pub const TIMESCALE: u32 = 90_000;
/// A fragment ends at a key frame, or when it is so long; in ms.
const FRAGMENT_MS: &str = "1000";
/// Access units that wait for a muxer of a whole file.
const AHEAD: &str = "4";
/// A pipeline of which all is written stops within that.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How often it is asked whether the end is still waited for.
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// A file that failed is not waited for.
const GIVEN_UP_WITHIN: Duration = Duration::from_millis(300);

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// What was written before a crash can be played up to the last whole fragment.
    Fragmented,
    /// One table of all samples behind them: for files that are of no use until they are whole.
    Whole,
}

/// The muxer and its sink, for a pipeline.
///
/// # Errors
/// Names the element that is missing.
pub fn stages(file: &File, layout: Layout) -> Result<[Stage; 2], Failure> {
    let mut muxer = Stage::new("mp4mux")?;
    if layout == Layout::Fragmented {
        muxer = muxer.set("fragment-duration", FRAGMENT_MS);
    }
    let sink = Stage::new("fdsink")?
        .set("fd", &file.as_raw_fd().to_string())
        .set("sync", "false")
        .set("async", "false");
    Ok([muxer, sink])
}

/// The muxer's pad for the pictures.
///
/// # Panics
/// The element is no MP4 muxer.
pub fn video_pad(muxer: &gst::Element) -> gst::Pad {
    let pad = muxer.request_pad_simple("video_%u").expect("mp4mux has a pad for video");
    pad.set_property("trak-timescale", TIMESCALE);
    pad
}

/// Whoever reads access units from a file, and the muxer who writes them, do not wait for each other at each of them.
fn queue() -> Result<gst::Element, Failure> {
    let queue = Stage::new("queue")?
        .set("max-size-buffers", AHEAD)
        .set("max-size-bytes", "0")
        .set("max-size-time", "0")
        .set("silent", "true");
    Ok(queue.element)
}

/// A file that grows.
pub struct Muxer {
    pipeline: gst::Pipeline,
    into: gst::Pad,
    /// `None` once the pipeline is down.
    file: Option<File>,
}

impl Muxer {
    /// Begins the file.
    ///
    /// # Errors
    /// The name of an element that is missing.
    pub fn new(file: File, layout: Layout) -> Result<Self, String> {
        let [muxer, sink] = stages(&file, layout).map_err(|failure| failure.to_string())?;
        let (muxer, sink) = (muxer.element, sink.element);
        let pipeline = gst::Pipeline::new();
        let failed = |error: gst::glib::BoolError| error.to_string();
        let not_linked = |error: gst::PadLinkError| error.to_string();
        pipeline.add_many([&muxer, &sink]).map_err(failed)?;
        muxer.link(&sink).map_err(failed)?;
        let mut pad = video_pad(&muxer);
        if layout == Layout::Whole {
            let queue = queue().map_err(|failure| failure.to_string())?;
            pipeline.add(&queue).map_err(failed)?;
            queue.static_pad("src").expect("queues have one").link(&pad).map_err(not_linked)?;
            pad = queue.static_pad("sink").expect("queues have one");
        }
        let into = gst::Pad::builder(gst::PadDirection::Src).build();
        into.link(&pad).map_err(not_linked)?;
        let muxer = Self { pipeline, into, file: Some(file) };
        if muxer.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(muxer.reason("the muxer does not start"));
        }
        muxer.into.set_active(true).map_err(failed)?;
        muxer.into.push_event(gst::event::StreamStart::new("recording"));
        Ok(muxer)
    }

    /// What the access units are, before the first of them.
    pub fn begin(&self, caps: &gst::Caps) {
        self.into.push_event(gst::event::Caps::new(caps));
        self.into.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    }

    /// Appends an access unit.
    ///
    /// # Errors
    /// The reason why nothing more can be written.
    pub fn push(&self, unit: gst::Buffer) -> Result<(), String> {
        self.into.push(unit).map(drop).map_err(|error| self.reason(&error.to_string()))
    }

    /// An error that came by itself.
    pub fn trouble(&self) -> Option<String> {
        first_error(&self.bus()).map(|trouble| trouble.with_cause())
    }

    /// Makes the file whole, for as long as `patient` says so: what is left to be written may take a while.
    ///
    /// # Errors
    /// What the muxer or the system says, or that nobody waits any longer.
    pub fn finish(mut self, patient: impl FnMut() -> bool) -> Result<File, String> {
        self.end(patient)?;
        // All is written: a machine that is busy takes nothing away from that.
        self.take_down(STOPS_WITHIN).ok_or_else(|| "the muxer does not stop".into())
    }

    fn bus(&self) -> gst::Bus {
        self.pipeline.bus().expect("pipelines have a bus")
    }

    fn reason(&self, unknown: &str) -> String {
        self.trouble().unwrap_or_else(|| unknown.to_owned())
    }

    fn end(&self, mut patient: impl FnMut() -> bool) -> Result<(), String> {
        let begun = Instant::now();
        self.into.push_event(gst::event::Eos::new());
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        loop {
            let message = self.bus().timed_pop_filtered(TICK, &kinds);
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => return Err(Trouble::of(error).with_cause()),
                Some(_) => return Ok(()),
                None if patient() => (),
                None => {
                    let seconds = begun.elapsed().as_secs();
                    return Err(format!("the end of the file was not written within {seconds} s"));
                }
            }
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

impl Drop for Muxer {
    fn drop(&mut self) {
        drop(self.take_down(GIVEN_UP_WITHIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe takes 64 KiB, and the rest when it is read: a disk that is slow, or stands still.
    fn into_a_pipe(layout: Layout) -> (Muxer, std::io::PipeReader) {
        gst::init().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let muxer = Muxer::new(file, layout).unwrap();
        let caps = "video/x-h264,stream-format=avc,alignment=au,width=64,height=64,framerate=30/1,codec_data=(buffer)014d001effe1000467640001010001680";
        muxer.begin(&format!("{caps}0").parse().unwrap());
        for frame in 0..4 {
            let mut unit = gst::Buffer::from_slice(vec![0; 50_000]);
            let writable = unit.get_mut().unwrap();
            writable.set_pts(gst::ClockTime::from_mseconds(frame * 33));
            writable.set_dts(gst::ClockTime::from_mseconds(frame * 33));
            writable.set_duration(gst::ClockTime::from_mseconds(33));
            muxer.push(unit).unwrap();
        }
        (muxer, reader)
    }

    #[test]
    fn the_end_is_waited_for_as_long_as_somebody_has_patience() {
        let (muxer, reader) = into_a_pipe(Layout::Fragmented);
        let (mut asked, mut drain) = (0, None);
        let finished = muxer.finish(|| {
            asked += 1;
            if asked == 3 {
                let mut reader = reader.try_clone().unwrap();
                drain = Some(std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink())));
            }
            true
        });
        drop(finished.unwrap());
        assert!(asked >= 3 && drain.unwrap().join().unwrap().unwrap() > 200_000, "asked {asked} times");
    }

    #[test]
    fn who_loses_patience_is_told_so() {
        for layout in [Layout::Fragmented, Layout::Whole] {
            let (muxer, _reader) = into_a_pipe(layout);
            let mut asked = 0;
            let finished = muxer.finish(|| {
                asked += 1;
                asked < 3
            });
            assert!(finished.unwrap_err().contains("the end of the file was not written"));
            assert_eq!(asked, 3, "{layout:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_told_whoever_waits_for_it() {
        let (muxer, reader) = into_a_pipe(Layout::Whole);
        drop(reader);
        let error = muxer.finish(|| true).unwrap_err();
        assert!(error.contains("Broken pipe"), "{error}");
    }

    #[test]
    fn a_file_that_is_given_up_is_not_waited_for() {
        let (muxer, _reader) = into_a_pipe(Layout::Whole);
        drop(muxer);
    }
}
