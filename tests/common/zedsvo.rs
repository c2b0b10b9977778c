// SPDX-License-Identifier: MPL-2.0

//! ZED recordings to play, what FFmpeg shows of them, and `zedsvosrc` with an appsink behind it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cvmmap_streamer::sim::svo2::Recording as Sim;
use gst::prelude::*;
use svo2::{Header, Kind, Layout, Reader, Recording, Writer};
use tempfile::TempDir;

use super::readers::ffmpeg_program;
use super::{PATIENCE, init, run, text};

/// A recording in a folder of its own, and what FFmpeg makes of its bitstream.
pub struct Tape {
    pub folder: TempDir,
    pub path: PathBuf,
    pub recording: Arc<Recording>,
    /// I420, both pictures side by side.
    pub pictures: Vec<Vec<u8>>,
}

/// A small one.
pub const SMALL: (u32, u32) = (160, 120);

pub fn sim(codec: svo2::Codec, frames: u32, gop: u32) -> Sim {
    Sim { codec, frames, gop, size: SMALL, ..Sim::default() }
}

impl Tape {
    pub fn new(sim: &Sim) -> Self {
        init();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svo2");
        sim.create(&path, &AtomicBool::new(false)).unwrap();
        Self::at(folder, path)
    }

    /// What FFmpeg shows is that of all access units that can be read.
    pub fn at(folder: TempDir, path: PathBuf) -> Self {
        let recording = Recording::open(&path).unwrap();
        let mut reader = Reader::new(recording.clone());
        let units = (0..recording.frames()).filter_map(|frame| reader.unit(frame).ok());
        let bitstream = folder.path().join(format!("stream.{}", recording.codec().name()));
        std::fs::write(&bitstream, units.flatten().collect::<Vec<u8>>()).unwrap();
        let (width, height) = recording.size();
        let pictures = decode(&bitstream, (width * height * 3 / 2) as usize);
        Self { folder, path, recording, pictures }
    }

    /// The same frames from `frame` on, with their times.
    pub fn from(&self, frame: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.svo2");
        write(&self.recording, &path, frame..self.recording.frames(), |_, unit| unit);
        Self::at(folder, path)
    }

    pub fn location(&self) -> String {
        format!("location={}", self.path.display())
    }

    /// One of the two pictures of a frame; `None`: both.
    pub fn view(&self, frame: usize, right: Option<bool>) -> Vec<u8> {
        let (width, height) = self.recording.size();
        let (width, height) = (width as usize, height as usize);
        let Some(right) = right else { return self.pictures[frame].clone() };
        let mut rest = self.pictures[frame].as_slice();
        let mut view = Vec::new();
        for (width, height) in [(width, height), (width / 2, height / 2), (width / 2, height / 2)] {
            let (plane, after) = rest.split_at(width * height);
            for row in plane.chunks(width) {
                let (left_row, right_row) = row.split_at(width / 2);
                view.extend(if right { right_row } else { left_row });
            }
            rest = after;
        }
        view
    }
}

/// Copies frames of a recording into another, changed.
pub fn write(
    recording: &Arc<Recording>,
    path: &Path,
    frames: std::ops::Range<usize>,
    change: impl Fn(usize, Vec<u8>) -> Vec<u8>,
) {
    write_with(recording.header().clone(), recording, path, frames, change);
}

/// The same under another header.
pub fn write_with(
    header: Header,
    recording: &Arc<Recording>,
    path: &Path,
    frames: std::ops::Range<usize>,
    change: impl Fn(usize, Vec<u8>) -> Vec<u8>,
) {
    let layout = Layout { chunk_size: Some(1 << 14), ..Layout::default() };
    let out = BufWriter::new(File::create(path).unwrap());
    let mut writer = Writer::new(out, header, &layout).unwrap();
    let mut reader = Reader::new(recording.clone());
    for frame in frames {
        let unit = reader.unit(frame).unwrap();
        let key = matches!(reader.kind(frame), Ok(Kind::Entry { .. }));
        writer.frame(recording.unix_ns(frame), &change(frame, unit), key).unwrap();
    }
    writer.finish().unwrap();
}

/// Pictures of so many bytes, I420, that FFmpeg makes of a bitstream or a file.
pub fn decode(bitstream: &Path, size: usize) -> Vec<Vec<u8>> {
    let raw = bitstream.with_extension("yuv");
    let mut ffmpeg = ffmpeg_program();
    ffmpeg.args(["-loglevel", "error", "-y", "-i"]).arg(bitstream);
    ffmpeg.args(["-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo"]).arg(&raw);
    let output = run(&mut ffmpeg);
    assert!(output.status.success(), "{ffmpeg:?}: {}", text(&output.stderr));
    let bytes = std::fs::read(raw).unwrap();
    assert_eq!(bytes.len() % size, 0, "whole pictures");
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

/// What is kept of a buffer.
#[derive(Clone)]
pub struct Shown {
    pub frame: usize,
    pub pts: gst::ClockTime,
    pub unix_ns: u64,
    pub flags: gst::BufferFlags,
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    pub segment: gst::Segment,
}

impl Shown {
    /// As packed planes, for raw video; the bytes otherwise.
    pub fn bytes(&self) -> Vec<u8> {
        use gst_video::prelude::*;
        let Ok(info) = gst_video::VideoInfo::from_caps(&self.caps) else {
            return self.buffer.map_readable().unwrap().to_vec();
        };
        if info.format() == gst_video::VideoFormat::Encoded {
            return self.buffer.map_readable().unwrap().to_vec();
        }
        assert_eq!(info.format(), gst_video::VideoFormat::I420);
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&self.buffer, &info).unwrap();
        let mut packed = Vec::new();
        for plane in 0..3 {
            let (width, height) = (frame.comp_width(plane) as usize, frame.comp_height(plane) as usize);
            let stride = frame.plane_stride()[plane as usize] as usize;
            let rows = frame.plane_data(plane).unwrap().chunks(stride).take(height);
            packed.extend(rows.flat_map(|row| row[..width].to_vec()));
        }
        packed
    }
}

/// `zedsvosrc PROPERTIES ! BETWEEN appsink`.
pub struct Player {
    pub pipeline: gst::Pipeline,
    pub source: gst::Element,
    pub sink: gst_app::AppSink,
}

impl Player {
    pub fn new(properties: &str) -> Self {
        Self::with(properties, "")
    }

    /// `between` goes between the source and the sink, with its trailing `!`.
    pub fn with(properties: &str, between: &str) -> Self {
        init();
        let launch =
            format!("zedsvosrc name=src {properties} ! {between} appsink name=sink sync=false max-buffers=4");
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let source = pipeline.by_name("src").unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast().unwrap();
        Self { pipeline, source, sink }
    }

    pub fn playing(properties: &str) -> Self {
        let player = Self::new(properties);
        player.pipeline.set_state(gst::State::Playing).unwrap();
        player
    }

    /// Prerolled in PAUSED.
    pub fn paused(properties: &str) -> Self {
        let player = Self::new(properties);
        player.pipeline.set_state(gst::State::Paused).unwrap();
        player.settle();
        player
    }

    /// Until the state change is done, or has failed.
    pub fn settle(&self) {
        self.pipeline.state(patience()).0.unwrap_or_else(|_| panic!("{:?}", self.errors()));
    }

    /// `None`: EOS.
    pub fn next(&self) -> Option<Shown> {
        let sample = self.sink.try_pull_sample(patience());
        let Some(sample) = sample else {
            assert!(self.sink.is_eos(), "neither a frame nor EOS came: {:?}", self.errors());
            return None;
        };
        Some(see(&sample))
    }

    /// All until EOS.
    pub fn rest(&self) -> Vec<Shown> {
        std::iter::from_fn(|| self.next()).collect()
    }

    pub fn seek(
        &self,
        rate: f64,
        flags: gst::SeekFlags,
        start: gst::ClockTime,
        stop: Option<gst::ClockTime>,
    ) {
        let stop_type = if stop.is_some() { gst::SeekType::Set } else { gst::SeekType::End };
        let stop = stop.unwrap_or(gst::ClockTime::ZERO);
        self.source.seek(rate, flags, gst::SeekType::Set, start, stop_type, stop).unwrap();
    }

    pub fn stat(&self, field: &str) -> u64 {
        self.source.property::<gst::Structure>("stats").get(field).unwrap()
    }

    pub fn messages(&self) -> Vec<gst::Message> {
        let bus = self.pipeline.bus().unwrap();
        std::iter::from_fn(|| bus.pop()).collect()
    }

    pub fn errors(&self) -> Vec<String> {
        self.messages().iter().filter_map(error_text).collect()
    }

    /// The first error, or `None` at EOS.
    pub fn end(&self) -> Option<String> {
        let bus = self.pipeline.bus().unwrap();
        let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
        let message = bus.timed_pop_filtered(patience(), &kinds).expect("an error or EOS");
        error_text(&message)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

pub fn patience() -> gst::ClockTime {
    gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64)
}

fn error_text(message: &gst::Message) -> Option<String> {
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}

pub fn see(sample: &gst::Sample) -> Shown {
    let buffer = sample.buffer_owned().unwrap();
    let reference = gst::Caps::new_empty_simple("timestamp/x-unix");
    let unix = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().can_intersect(&reference))
        .map(|meta| meta.timestamp().nseconds());
    Shown {
        frame: buffer.offset() as usize,
        pts: buffer.pts().unwrap(),
        unix_ns: unix.expect("each buffer has its Unix time"),
        flags: buffer.flags(),
        caps: sample.caps().unwrap().to_owned(),
        segment: sample.segment().unwrap().to_owned(),
        buffer,
    }
}

pub fn frames(shown: &[Shown]) -> Vec<usize> {
    shown.iter().map(|shown| shown.frame).collect()
}
