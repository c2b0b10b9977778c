// SPDX-License-Identifier: MPL-2.0

//! FLV files made with the crate around real access units, and `flvh265demux` fed with them, watched at its pads.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use flv::index::KeyFrame;
use flv::metadata::{Audio, File, Metadata, Video};
use flv::tag::{BodyHeader, Envelope, FileHeader, TagType, script_tag};
use flv::{AudioFormat, AudioPacket, Dialect, VideoCodec, VideoPacket};
use gst::prelude::*;

pub use super::flv::PATIENCE_GST as PATIENCE;
use super::{init, wait_for};

pub const MS: u64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub dts: u64,
    pub pts: u64,
    pub key: bool,
    pub bytes: Vec<u8>,
}

/// An encoder's output, in milliseconds from 0 on.
#[derive(Debug, Clone)]
pub struct Stream {
    pub config: Vec<u8>,
    pub units: Vec<Unit>,
}

impl Stream {
    pub fn new(launch: &str) -> Self {
        init();
        let launch = format!("{launch} ! appsink name=sink sync=false");
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut stream = Self { config: Vec::new(), units: Vec::new() };
        let mut origin = None;
        while let Some(sample) = sink.try_pull_sample(PATIENCE) {
            if let Ok(config) = sample.caps().unwrap().structure(0).unwrap().get::<gst::Buffer>("codec_data")
            {
                stream.config = config.map_readable().unwrap().to_vec();
            }
            let buffer = sample.buffer().unwrap();
            let time = buffer.dts_or_pts().unwrap();
            let origin = *origin.get_or_insert(time);
            let ms = |time: gst::ClockTime| (time - origin).nseconds() / MS;
            stream.units.push(Unit {
                dts: ms(time),
                pts: ms(buffer.pts().unwrap()),
                key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                bytes: buffer.map_readable().unwrap().to_vec(),
            });
        }
        pipeline.set_state(gst::State::Null).unwrap();
        assert!(stream.units.len() > 10, "{launch}");
        stream
    }

    pub fn video(dialect: Dialect, b_frames: bool) -> &'static Self {
        type Made = LazyLock<[[Stream; 2]; 2]>;
        static MADE: Made = LazyLock::new(|| {
            let raw =
                "videotestsrc num-buffers=75 ! video/x-raw,format=I420,width=160,height=120,framerate=25/1";
            let avc = |b: u8| {
                Stream::new(&format!(
                    "{raw} ! x264enc speed-preset=ultrafast key-int-max=15 bframes={b} b-adapt=false \
                     ! h264parse ! video/x-h264,stream-format=avc,alignment=au"
                ))
            };
            let hevc = |b: u8| {
                Stream::new(&format!(
                    "{raw} ! x265enc speed-preset=ultrafast key-int-max=15 \
                     option-string=bframes={b}:b-adapt=0:log-level=none:pools=1:frame-threads=1 \
                     ! h265parse ! video/x-h265,stream-format=hvc1,alignment=au"
                ))
            };
            [[avc(0), avc(2)], [hevc(0), hevc(2)]]
        });
        &MADE[usize::from(dialect.codec() == VideoCodec::H265)][usize::from(b_frames)]
    }

    pub fn audio(format: AudioFormat) -> &'static Self {
        static MADE: LazyLock<[Stream; 2]> = LazyLock::new(|| {
            let raw = "audiotestsrc num-buffers=130 ! audio/x-raw,rate=44100,channels=2 ! audioconvert";
            [
                Stream::new(&format!("{raw} ! avenc_aac ! audio/mpeg,stream-format=raw")),
                Stream::new(&format!("{raw} ! lamemp3enc ! mpegaudioparse")),
            ]
        });
        &MADE[usize::from(format != AudioFormat::Aac)]
    }
}

pub const MP3: AudioFormat = AudioFormat::Mp3 { rate: 44100, stereo: true };
pub const DIALECTS: [Dialect; 3] = [Dialect::Avc, Dialect::Domestic, Dialect::Enhanced];

pub fn sealed(kind: TagType, ms: u64, body: &BodyHeader, payload: &[u8]) -> Vec<u8> {
    Envelope::new(kind, ms as u32, body, payload.len()).unwrap().seal(payload)
}

pub fn video_config(dialect: Dialect, ms: u64, config: &[u8]) -> Vec<u8> {
    sealed(TagType::Video, ms, &dialect.header(VideoPacket::SequenceHeader), config)
}

pub fn video_tag(dialect: Dialect, unit: &Unit, shift: u64) -> Vec<u8> {
    let composition_ms = (unit.pts - unit.dts) as i32;
    let packet = VideoPacket::Frame { key: unit.key, composition_ms };
    sealed(TagType::Video, unit.dts + shift, &dialect.header(packet), &unit.bytes)
}

pub fn audio_tag(format: AudioFormat, unit: &Unit, shift: u64) -> Vec<u8> {
    sealed(TagType::Audio, unit.dts + shift, &format.header(AudioPacket::Frame), &unit.bytes)
}

/// A tag with any body.
pub fn raw_tag(kind: u8, ms: u32, body: &[u8]) -> Vec<u8> {
    let mut tag = script_tag(ms, body).unwrap();
    tag[0] = kind;
    tag
}

/// A file as a list of tags, the first being the file header.
#[derive(Clone)]
pub struct Flv {
    pub tags: Vec<Vec<u8>>,
    pub video: Vec<Unit>,
    pub audio: Vec<Unit>,
}

impl Flv {
    pub fn new(dialect: Dialect, b_frames: bool, audio: Option<AudioFormat>) -> Self {
        Self::shifted(dialect, b_frames, audio, 0)
    }

    pub fn shifted(dialect: Dialect, b_frames: bool, audio: Option<AudioFormat>, shift: u64) -> Self {
        let stream = Stream::video(dialect, b_frames);
        let sound = audio.map(|format| (format, Stream::audio(format)));
        let mut tags = vec![FileHeader { audio: audio.is_some(), video: true }.to_bytes().to_vec()];
        tags.push(metadata(dialect, audio, None).to_tag());
        tags.push(video_config(dialect, shift, &stream.config));
        if let Some((AudioFormat::Aac, sound)) = &sound {
            let header = AudioFormat::Aac.header(AudioPacket::SequenceHeader);
            tags.push(sealed(TagType::Audio, shift, &header, &sound.config));
        }
        let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
        frames.extend(stream.units.iter().map(|unit| (unit.dts, video_tag(dialect, unit, shift))));
        if let Some((format, sound)) = &sound {
            frames.extend(sound.units.iter().map(|unit| (unit.dts, audio_tag(*format, unit, shift))));
        }
        frames.sort_by_key(|(dts, _)| *dts);
        tags.extend(frames.into_iter().map(|(_, tag)| tag));
        let moved = |units: &[Unit]| {
            let moved = |unit: &Unit| Unit { dts: unit.dts + shift, pts: unit.pts + shift, ..unit.clone() };
            units.iter().map(moved).collect()
        };
        let audio = sound.map_or(Vec::new(), |(_, sound)| moved(&sound.units));
        Self { tags, video: moved(&stream.units), audio }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.tags.concat()
    }

    pub fn position(&self, tag: usize) -> u64 {
        self.tags[..tag].iter().map(|tag| tag.len() as u64).sum()
    }

    /// The number of the `n`th video frame's tag.
    pub fn frame(&self, n: usize) -> usize {
        let is_frame = |tag: &&(usize, &Vec<u8>)| {
            tag.1[0] == 9
                && matches!(
                    Dialect::parse(&tag.1[11..tag.1.len() - 4]),
                    Ok((_, VideoPacket::Frame { .. }, _))
                )
        };
        self.tags.iter().enumerate().filter(|tag| is_frame(&tag)).nth(n).unwrap().0
    }

    /// With an index of its key frames in its metadata, each entry changed by `change`.
    pub fn indexed(mut self, dialect: Dialect, change: impl Fn(KeyFrame) -> KeyFrame) -> Self {
        let keys: Vec<usize> = (0..self.video.len()).filter(|i| self.video[*i].key).collect();
        let grown = |flv: &Self| {
            let key_frames = keys.iter().map(|i| {
                let position = flv.position(flv.frame(*i));
                change(KeyFrame { time: flv.video[*i].dts as f64 / 1e3, position })
            });
            let file = File { duration: 3.0, size: 0, key_frames: key_frames.collect() };
            metadata(dialect, None, Some(file)).to_tag()
        };
        // Twice: the first has the size that the positions depend on.
        self.tags[1] = grown(&self);
        self.tags[1] = grown(&self);
        self
    }
}

pub fn metadata(dialect: Dialect, audio: Option<AudioFormat>, file: Option<File>) -> Metadata {
    Metadata {
        video: Some(Video { dialect, size: Some((160, 120)), framerate: Some(25.), bitrate: None }),
        audio: audio.map(|format| Audio { format, rate: 44100, stereo: true, bitrate: None }),
        encoder: "the test".into(),
        creator: String::new(),
        file,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Feed {
    Pull,
    /// In pieces of up to so many bytes.
    Push(usize),
}

/// What was seen at a pad since the last flush.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub units: Vec<Unit>,
    pub disconts: Vec<usize>,
    pub caps: Vec<gst::Caps>,
    pub segments: Vec<gst::FormattedSegment<gst::ClockTime>>,
    pub gaps: usize,
    pub eos: usize,
    pub segment_done: usize,
}

#[derive(Default)]
pub struct Pads {
    pub video: Mutex<Seen>,
    pub audio: Mutex<Seen>,
}

impl Pads {
    pub fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let pads = self.clone();
        pad.add_probe(
            gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH,
            move |pad, info| {
                let seen = if pad.name() == "video" { &pads.video } else { &pads.audio };
                seen.lock().unwrap().take(info);
                gst::PadProbeReturn::Ok
            },
        );
    }
}

impl Seen {
    pub fn take(&mut self, info: &gst::PadProbeInfo) {
        if let Some(buffer) = info.buffer() {
            if buffer.flags().contains(gst::BufferFlags::DISCONT) {
                self.disconts.push(self.units.len());
            }
            self.units.push(Unit {
                dts: buffer.dts_or_pts().unwrap().nseconds() / MS,
                pts: buffer.pts().unwrap().nseconds() / MS,
                key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                bytes: buffer.map_readable().unwrap().to_vec(),
            });
        }
        match info.event().map(|event| event.view()) {
            Some(gst::EventView::Caps(caps)) => {
                self.caps.push(caps.caps_owned());
                // They come again when the pad is linked.
                self.caps.dedup();
            }
            Some(gst::EventView::Segment(segment)) => {
                self.segments.push(segment.segment().downcast_ref().cloned().expect("a segment in time"));
            }
            Some(gst::EventView::Gap(_)) => self.gaps += 1,
            Some(gst::EventView::Eos(_)) => self.eos += 1,
            Some(gst::EventView::SegmentDone(_)) => self.segment_done += 1,
            Some(gst::EventView::FlushStop(_)) => {
                *self = Self { caps: std::mem::take(&mut self.caps), ..Self::default() }
            }
            _ => {}
        }
    }
}

pub struct Demux {
    pub pipeline: gst::Pipeline,
    pub demux: gst::Element,
    pub pads: Arc<Pads>,
    pub no_more_pads: Arc<Mutex<Vec<usize>>>,
    pub source: Option<gst_app::AppSrc>,
    pub _file: Option<tempfile::NamedTempFile>,
}

impl Demux {
    pub fn new(factory: &str, bytes: &[u8], feed: Feed) -> Self {
        init();
        let pipeline = gst::Pipeline::new();
        let demux = gst::ElementFactory::make(factory).build().unwrap();
        let (source, app, file) = match feed {
            Feed::Pull => {
                let mut file = tempfile::NamedTempFile::new().unwrap();
                file.write_all(bytes).unwrap();
                let location = file.path().to_str().unwrap();
                let source =
                    gst::ElementFactory::make("filesrc").property("location", location).build().unwrap();
                (source, None, Some(file))
            }
            Feed::Push(_) => {
                let app = gst_app::AppSrc::builder().format(gst::Format::Bytes).build();
                (app.clone().upcast(), Some(app), None)
            }
        };
        pipeline.add_many([&source, &demux]).unwrap();
        source.link(&demux).unwrap();
        let pads = Arc::new(Pads::default());
        let (weak, watched) = (pipeline.downgrade(), pads.clone());
        demux.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            watched.watch(pad);
            let queue =
                gst::ElementFactory::make("queue").property("max-size-buffers", 2u32).build().unwrap();
            let sink = gst::ElementFactory::make("fakesink").property("sync", false).build().unwrap();
            pipeline.add_many([&queue, &sink]).unwrap();
            queue.link(&sink).unwrap();
            pad.link(&queue.static_pad("sink").unwrap()).unwrap();
            for element in [queue, sink] {
                element.sync_state_with_parent().unwrap();
            }
        });
        let no_more_pads = Arc::new(Mutex::new(Vec::new()));
        let (told, seen) = (no_more_pads.clone(), pads.clone());
        demux
            .connect_no_more_pads(move |_| told.lock().unwrap().push(seen.video.lock().unwrap().units.len()));
        let this = Self { pipeline, demux, pads, no_more_pads, source: app, _file: file };
        if let Feed::Push(chunk) = feed {
            this.push(bytes, chunk);
            this.source.as_ref().unwrap().end_of_stream().unwrap();
        }
        this
    }

    pub fn push(&self, bytes: &[u8], chunk: usize) {
        let source = self.source.as_ref().unwrap();
        source.set_max_bytes(0);
        let (mut rest, mut random) = (bytes, 12345u64);
        while !rest.is_empty() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let size = (1 + (random >> 33) as usize % chunk).min(rest.len());
            source.push_buffer(gst::Buffer::from_slice(rest[..size].to_vec())).unwrap();
            rest = &rest[size..];
        }
    }

    pub fn state(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
    }

    pub fn preroll(&self) {
        self.state(gst::State::Paused);
        // Before, the pipeline has no sinks to wait for.
        wait_for("the pads", || !self.no_more_pads.lock().unwrap().is_empty());
        self.pipeline.state(PATIENCE).0.unwrap();
    }

    /// Until EOS or an error; the messages up to there.
    pub fn end(&self) -> (Vec<gst::Structure>, Result<(), String>) {
        let mut skipped = Vec::new();
        loop {
            let message = self.pipeline.bus().unwrap().timed_pop(PATIENCE).expect("an end");
            match message.view() {
                gst::MessageView::Element(element) => {
                    skipped.extend(element.structure().map(ToOwned::to_owned))
                }
                gst::MessageView::Eos(_) | gst::MessageView::SegmentDone(_) => return (skipped, Ok(())),
                gst::MessageView::Error(error) => return (skipped, Err(error.error().to_string())),
                _ => {}
            }
        }
    }

    pub fn stat(&self, field: &str) -> u64 {
        self.demux.property::<gst::Structure>("stats").get(field).unwrap()
    }

    pub fn video(&self) -> Seen {
        self.pads.video.lock().unwrap().clone()
    }

    pub fn audio(&self) -> Seen {
        self.pads.audio.lock().unwrap().clone()
    }

    pub fn seek(&self, flags: gst::SeekFlags, ms: u64, stop: Option<u64>) -> bool {
        let stop_type = if stop.is_some() { gst::SeekType::Set } else { gst::SeekType::None };
        let event = gst::event::Seek::builder(
            1.,
            flags,
            gst::SeekType::Set,
            gst::ClockTime::from_mseconds(ms),
            stop_type,
            stop.map(gst::ClockTime::from_mseconds),
        );
        self.pipeline.send_event(event.build())
    }
}

impl Drop for Demux {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Plays to the end.
pub fn played(bytes: &[u8], feed: Feed) -> (Demux, Vec<gst::Structure>, Result<(), String>) {
    let demux = Demux::new("flvh265demux", bytes, feed);
    demux.state(gst::State::Playing);
    let (skipped, result) = demux.end();
    (demux, skipped, result)
}

pub fn differences(seen: &[Unit], expected: &[Unit]) -> String {
    let place = seen.iter().zip(expected).position(|(seen, expected)| seen != expected);
    let show = |unit: Option<&Unit>| unit.map(|unit| (unit.dts, unit.pts, unit.key, unit.bytes.len()));
    let at = place.unwrap_or(seen.len().min(expected.len()));
    format!(
        "{} of {}; at {at}: {:?} {:?}",
        seen.len(),
        expected.len(),
        show(seen.get(at)),
        show(expected.get(at))
    )
}

#[track_caller]
pub fn same(seen: &[Unit], expected: &[Unit], what: &str) {
    assert!(seen == expected, "{what}: {}", differences(seen, expected));
}
