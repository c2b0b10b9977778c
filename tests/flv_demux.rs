// SPDX-License-Identifier: MPL-2.0

//! `flvh265demux`: what is muxed comes out again, whatever the dialect, the way of feeding and the damage.

#![allow(missing_docs)]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use common::{init, wait_for};
use flv::index::KeyFrame;
use flv::metadata::{Audio, File, Metadata, Video};
use flv::tag::{BodyHeader, Envelope, FileHeader, TagType, script_tag};
use flv::{AudioFormat, AudioPacket, Dialect, VideoCodec, VideoPacket};
use gst::prelude::*;

const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(30);
const MS: u64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    dts: u64,
    pts: u64,
    key: bool,
    bytes: Vec<u8>,
}

/// An encoder's output, in milliseconds from 0 on.
#[derive(Debug, Clone)]
struct Stream {
    config: Vec<u8>,
    units: Vec<Unit>,
}

impl Stream {
    fn new(launch: &str) -> Self {
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

    fn video(dialect: Dialect, b_frames: bool) -> &'static Self {
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

    fn audio(format: AudioFormat) -> &'static Self {
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

const MP3: AudioFormat = AudioFormat::Mp3 { rate: 44100, stereo: true };
const DIALECTS: [Dialect; 3] = [Dialect::Avc, Dialect::Domestic, Dialect::Enhanced];

fn sealed(kind: TagType, ms: u64, body: &BodyHeader, payload: &[u8]) -> Vec<u8> {
    Envelope::new(kind, ms as u32, body, payload.len()).unwrap().seal(payload)
}

fn video_config(dialect: Dialect, ms: u64, config: &[u8]) -> Vec<u8> {
    sealed(TagType::Video, ms, &dialect.header(VideoPacket::SequenceHeader), config)
}

fn video_tag(dialect: Dialect, unit: &Unit, shift: u64) -> Vec<u8> {
    let composition_ms = (unit.pts - unit.dts) as i32;
    let packet = VideoPacket::Frame { key: unit.key, composition_ms };
    sealed(TagType::Video, unit.dts + shift, &dialect.header(packet), &unit.bytes)
}

fn audio_tag(format: AudioFormat, unit: &Unit, shift: u64) -> Vec<u8> {
    sealed(TagType::Audio, unit.dts + shift, &format.header(AudioPacket::Frame), &unit.bytes)
}

/// A tag with any body.
fn raw_tag(kind: u8, ms: u32, body: &[u8]) -> Vec<u8> {
    let mut tag = script_tag(ms, body).unwrap();
    tag[0] = kind;
    tag
}

/// A file as a list of tags, the first being the file header.
#[derive(Clone)]
struct Flv {
    tags: Vec<Vec<u8>>,
    video: Vec<Unit>,
    audio: Vec<Unit>,
}

impl Flv {
    fn new(dialect: Dialect, b_frames: bool, audio: Option<AudioFormat>) -> Self {
        Self::shifted(dialect, b_frames, audio, 0)
    }

    fn shifted(dialect: Dialect, b_frames: bool, audio: Option<AudioFormat>, shift: u64) -> Self {
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

    fn bytes(&self) -> Vec<u8> {
        self.tags.concat()
    }

    fn position(&self, tag: usize) -> u64 {
        self.tags[..tag].iter().map(|tag| tag.len() as u64).sum()
    }

    /// The number of the `n`th video frame's tag.
    fn frame(&self, n: usize) -> usize {
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
    fn indexed(mut self, dialect: Dialect, change: impl Fn(KeyFrame) -> KeyFrame) -> Self {
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

fn metadata(dialect: Dialect, audio: Option<AudioFormat>, file: Option<File>) -> Metadata {
    Metadata {
        video: Some(Video { dialect, size: Some((160, 120)), framerate: Some(25.), bitrate: None }),
        audio: audio.map(|format| Audio { format, rate: 44100, stereo: true, bitrate: None }),
        encoder: "the test".into(),
        creator: String::new(),
        file,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Feed {
    Pull,
    /// In pieces of up to so many bytes.
    Push(usize),
}

/// What was seen at a pad since the last flush.
#[derive(Debug, Default, Clone)]
struct Seen {
    units: Vec<Unit>,
    disconts: Vec<usize>,
    caps: Vec<gst::Caps>,
    segments: Vec<gst::FormattedSegment<gst::ClockTime>>,
    gaps: usize,
    eos: usize,
    segment_done: usize,
}

#[derive(Default)]
struct Pads {
    video: Mutex<Seen>,
    audio: Mutex<Seen>,
}

impl Pads {
    fn watch(self: &Arc<Self>, pad: &gst::Pad) {
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
    fn take(&mut self, info: &gst::PadProbeInfo) {
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

struct Demux {
    pipeline: gst::Pipeline,
    demux: gst::Element,
    pads: Arc<Pads>,
    no_more_pads: Arc<Mutex<Vec<usize>>>,
    source: Option<gst_app::AppSrc>,
    _file: Option<tempfile::NamedTempFile>,
}

impl Demux {
    fn new(factory: &str, bytes: &[u8], feed: Feed) -> Self {
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

    fn push(&self, bytes: &[u8], chunk: usize) {
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

    fn state(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
    }

    fn preroll(&self) {
        self.state(gst::State::Paused);
        // Before, the pipeline has no sinks to wait for.
        let end = Instant::now() + std::time::Duration::from_secs(30);
        while self.no_more_pads.lock().unwrap().is_empty() {
            assert!(Instant::now() < end, "no pads");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.pipeline.state(PATIENCE).0.unwrap();
    }

    /// Until EOS or an error; the messages up to there.
    fn end(&self) -> (Vec<gst::Structure>, Result<(), String>) {
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

    fn stat(&self, field: &str) -> u64 {
        self.demux.property::<gst::Structure>("stats").get(field).unwrap()
    }

    fn video(&self) -> Seen {
        self.pads.video.lock().unwrap().clone()
    }

    fn audio(&self) -> Seen {
        self.pads.audio.lock().unwrap().clone()
    }

    fn seek(&self, flags: gst::SeekFlags, ms: u64, stop: Option<u64>) -> bool {
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
fn played(bytes: &[u8], feed: Feed) -> (Demux, Vec<gst::Structure>, Result<(), String>) {
    let demux = Demux::new("flvh265demux", bytes, feed);
    demux.state(gst::State::Playing);
    let (skipped, result) = demux.end();
    (demux, skipped, result)
}

fn differences(seen: &[Unit], expected: &[Unit]) -> String {
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
fn same(seen: &[Unit], expected: &[Unit], what: &str) {
    assert!(seen == expected, "{what}: {}", differences(seen, expected));
}

#[test]
fn what_went_in_comes_out() {
    for dialect in DIALECTS {
        for b_frames in [false, true] {
            for audio in [None, Some(AudioFormat::Aac), Some(MP3)] {
                let flv = Flv::new(dialect, b_frames, audio);
                assert_eq!(flv.video.iter().any(|unit| unit.pts != unit.dts), b_frames);
                let bytes = flv.bytes();
                for feed in [Feed::Pull, Feed::Push(1 << 30), Feed::Push(5000), Feed::Push(7)] {
                    let what = format!("{dialect:?} {b_frames} {audio:?} {feed:?}");
                    let (demux, skipped, result) = played(&bytes, feed);
                    assert_eq!((result, skipped.len()), (Ok(()), 0), "{what}");
                    let (video, sound) = (demux.video(), demux.audio());
                    same(&video.units, &flv.video, &what);
                    same(&sound.units, &flv.audio, &what);
                    assert_eq!((video.disconts, video.eos, video.caps.len()), (vec![0], 1, 1), "{what}");
                    let caps = video.caps[0].structure(0).unwrap();
                    assert_eq!(caps.get::<i32>("width"), Ok(160));
                    assert_eq!(caps.get::<gst::Fraction>("framerate"), Ok(gst::Fraction::new(25, 1)));
                    let name = if dialect == Dialect::Avc { "video/x-h264" } else { "video/x-h265" };
                    assert_eq!(caps.name(), name);
                    if audio.is_some() {
                        let caps = sound.caps[0].structure(0).unwrap();
                        assert_eq!((caps.get("rate"), caps.get("channels")), (Ok(44100), Ok(2)));
                    }
                    // MP3 has no configuration that comes before all frames.
                    let before = usize::from(audio == Some(MP3));
                    assert_eq!(*demux.no_more_pads.lock().unwrap(), [before], "{what}");
                    assert_eq!(demux.stat("bytes") + 13, bytes.len() as u64);
                    assert_eq!(demux.stat("tags"), flv.tags.len() as u64 - 1);
                    assert_eq!(demux.stat("video-frames"), flv.video.len() as u64);
                    assert_eq!(demux.stat("audio-frames"), flv.audio.len() as u64);
                    assert_eq!(demux.stat("key-frames"), flv.video.iter().filter(|u| u.key).count() as u64);
                }
            }
        }
    }
}

#[test]
fn decoders_decode_every_frame() {
    for dialect in DIALECTS {
        let flv = Flv::new(dialect, true, None);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&flv.bytes()).unwrap();
        let codec = if dialect == Dialect::Avc { "h264" } else { "h265" };
        let decoded = Stream::new(&format!(
            "filesrc location={} ! flvh265demux ! {codec}parse ! avdec_{codec}",
            file.path().display()
        ));
        assert_eq!(decoded.units.len(), flv.video.len(), "{dialect:?}");
    }
}

#[test]
fn stock_flvdemux_says_the_same_of_what_it_knows() {
    for audio in [None, Some(AudioFormat::Aac), Some(MP3)] {
        for b_frames in [false, true] {
            let bytes = Flv::new(Dialect::Avc, b_frames, audio).bytes();
            for feed in [Feed::Pull, Feed::Push(3000)] {
                let (ours, ..) = played(&bytes, feed);
                let stock = Demux::new("flvdemux", &bytes, feed);
                stock.state(gst::State::Playing);
                assert_eq!(stock.end().1, Ok(()));
                let what = format!("{audio:?} {b_frames} {feed:?}");
                same(&ours.video().units, &stock.video().units, &what);
                same(&ours.audio().units, &stock.audio().units, &what);
                let start = |seen: Seen| seen.segments.first().and_then(|segment| segment.start());
                // With B-frames stock begins at the presentation time, and shifts all when audio comes.
                if !b_frames {
                    assert_eq!(start(ours.video()), start(stock.video()), "{what}");
                }
            }
        }
    }
}

/// A few frames, small.
fn small() -> Flv {
    let mut flv = Flv::new(Dialect::Enhanced, false, None);
    let mut tags = flv.tags[..3].to_vec();
    for unit in &mut flv.video {
        unit.bytes.truncate(40);
    }
    flv.video.truncate(10);
    tags.extend(flv.video.iter().map(|unit| video_tag(Dialect::Enhanced, unit, 0)));
    Flv { tags, ..flv }
}

#[test]
fn a_file_cut_off_at_any_byte_gives_its_whole_frames() {
    let flv = small();
    let bytes = flv.bytes();
    let ends: Vec<usize> = (3..flv.tags.len()).map(|tag| flv.position(tag + 1) as usize - 4).collect();
    let configured = flv.position(3) as usize - 4;
    for length in 0..=bytes.len() {
        for feed in [Feed::Pull, Feed::Push(1 << 20)] {
            if feed == Feed::Pull && length % 5 != 0 {
                continue;
            }
            let (demux, skipped, result) = played(&bytes[..length], feed);
            let whole = ends.iter().filter(|end| **end <= length).count();
            same(&demux.video().units, &flv.video[..whole], &format!("{length} {feed:?}"));
            assert_eq!(result.is_ok(), length >= configured, "{length}: {result:?}");
            assert_eq!(skipped.len() as u64, demux.stat("damaged-runs"), "{length}");
            let rest = length as u64 - demux.stat("bytes") - if length >= 13 { 13 } else { 0 };
            assert!(rest == 0 || length < 13, "{length}: {rest} bytes are not accounted for");
        }
    }
}

#[test]
fn garbage_and_lying_sizes_cost_only_themselves() {
    let flv = Flv::new(Dialect::Domestic, false, Some(AudioFormat::Aac));
    let victim = flv.frame(20);
    let lost: Vec<Unit> = [&flv.video[..20], &flv.video[21..]].concat();
    let lying = |size: u32| {
        let mut bad = flv.clone();
        bad.tags[victim][1..4].copy_from_slice(&size.to_be_bytes()[1..]);
        (bad, lost.clone())
    };
    let right = u32::from_be_bytes([0, flv.tags[victim][1], flv.tags[victim][2], flv.tags[victim][3]]);
    let mut garbage = flv.clone();
    garbage.tags.insert(victim, (0..5000u32).map(|i| (i * 7 % 253) as u8).collect());
    let mut zeros = flv.clone();
    zeros.tags.insert(victim, vec![0; 3]);
    let cases = [
        lying(0),
        lying(right - 1),
        lying(right + 1),
        lying(right + 300),
        lying(0xff_ffff),
        (garbage, flv.video.clone()),
        (zeros, flv.video.clone()),
    ];
    for (i, (bad, expected)) in cases.into_iter().enumerate() {
        for feed in [Feed::Pull, Feed::Push(1000)] {
            let bytes = bad.bytes();
            let (demux, skipped, result) = played(&bytes, feed);
            let what = format!("case {i} {feed:?}");
            assert_eq!(result, Ok(()), "{what}");
            same(&demux.video().units, &expected, &what);
            same(&demux.audio().units, &flv.audio, &what);
            assert_eq!(demux.video().disconts, [0, 20], "{what}");
            assert_eq!((skipped.len(), demux.stat("damaged-runs")), (1, 1), "{what}: {skipped:?}");
            assert_eq!(skipped[0].name(), "flvh265demux-skipped");
            assert_eq!(skipped[0].get::<u64>("offset"), Ok(flv.position(victim)), "{what}");
            assert_eq!(skipped[0].get::<u64>("bytes"), Ok(demux.stat("skipped-bytes")), "{what}");
            let reason = skipped[0].get::<String>("reason").unwrap();
            let expected = if i == 4 { "the stream ends within a tag" } else { "no tag begins here" };
            assert_eq!(reason, expected, "{what}");
            assert_eq!(demux.stat("bytes") + 13, bytes.len() as u64, "{what}");
        }
    }
}

#[test]
fn wrong_previous_tag_sizes_are_counted_and_nothing_is_lost() {
    let mut flv = Flv::new(Dialect::Enhanced, true, Some(MP3));
    for tag in &mut flv.tags[1..] {
        let at = tag.len() - 4;
        tag[at..].fill(0);
    }
    for feed in [Feed::Pull, Feed::Push(1000)] {
        let (demux, skipped, result) = played(&flv.bytes(), feed);
        assert_eq!((result, skipped.len()), (Ok(()), 0));
        same(&demux.video().units, &flv.video, "video");
        same(&demux.audio().units, &flv.audio, "audio");
        assert_eq!(demux.stat("wrong-sizes"), flv.tags.len() as u64 - 1);
    }
}

#[test]
fn what_is_unknown_is_skipped_and_told_once_each() {
    let flv = Flv::new(Dialect::Avc, false, None);
    let mut bad = flv.clone();
    let strange: [(u8, &[u8]); 14] = [
        (9, &[0x12, 1, 2, 3]),
        (9, &[0x14, 1, 2, 3]),
        (9, &[0x91, b'a', b'v', b'0', b'1', 0, 0, 0, 9]),
        (9, &[0x94, b'h', b'v', b'c', b'1', 0]),
        (9, &[0x96, 0, 0, 0]),
        (9, &[0x17, 9, 0, 0, 0]),
        (9, &[0x57, 0]),
        (9, &[]),
        (9, &[0x17]),
        (8, &[]),
        (8, &[0xaf]),
        (8, &[0xaf, 7]),
        (8, &[0xb2, 1, 2, 3]),
        (8, &[0xaf, 1, 5, 5, 5]),
    ];
    let at = flv.frame(10);
    for (kind, body) in strange.iter().chain(&strange) {
        bad.tags.insert(at, raw_tag(*kind, 400, body));
    }
    // Scripts that are none, and a frame and a configuration without content.
    bad.tags.insert(at, raw_tag(18, 400, &[2, 255, 255, 1]));
    bad.tags.insert(at, raw_tag(18, 400, &[]));
    bad.tags.insert(at, raw_tag(9, 400, &[0x27, 1, 0, 0, 0]));
    bad.tags.insert(at, raw_tag(9, 400, &[0x17, 0, 0, 0, 0]));
    for feed in [Feed::Pull, Feed::Push(100)] {
        let (demux, skipped, result) = played(&bad.bytes(), feed);
        assert_eq!(result, Ok(()));
        same(&demux.video().units, &flv.video, "video");
        assert_eq!(demux.video().disconts, [0]);
        assert_eq!(demux.stat("unsupported-tags"), 26);
        assert_eq!(demux.stat("skipped-tags"), 32);
        assert_eq!(demux.stat("invalid-configs"), 1);
        assert_eq!(demux.stat("damaged-runs"), 0);
        let reasons: Vec<String> = skipped.iter().map(|s| s.get("reason").unwrap()).collect();
        for reason in [
            "video codec id 2 is neither 7 (H.264) nor 12 (H.265)",
            "FourCC av01 is not hvc1",
            "audio frame before its configuration",
            "video frame without a payload",
        ] {
            assert!(reasons.iter().any(|told| told == reason), "{reason}: {reasons:?}");
        }
        let distinct: std::collections::BTreeSet<_> = reasons.iter().collect();
        assert_eq!(distinct.len(), reasons.len(), "{reasons:?}");
    }
}

#[test]
fn what_is_no_flv_ends_with_one_clear_error() {
    let cases: [(Vec<u8>, &str); 4] = [
        (
            b"this is a text, and a rather long one, of more than nine bytes".to_vec(),
            "this is no FLV: 62 bytes hold 0 tags",
        ),
        (vec![], "this is no FLV: 0 bytes hold 0 tags"),
        (FileHeader { audio: true, video: true }.to_bytes().to_vec(), "nothing to play"),
        (
            [FileHeader { audio: false, video: true }.to_bytes().to_vec(), raw_tag(9, 0, &[0x12, 0, 0])]
                .concat(),
            "nothing to play: 31 bytes hold 1 tags, of which 1 were skipped, and 0 bytes that are no tags: video codec id 2",
        ),
    ];
    for (bytes, part) in cases {
        for feed in [Feed::Pull, Feed::Push(9)] {
            let (_demux, _, result) = played(&bytes, feed);
            let error = result.unwrap_err();
            assert!(error.contains(part), "{feed:?}: '{part}' is not in '{error}'");
        }
    }
}

#[test]
fn time_goes_on_where_32_bits_wrap() {
    let shift = (1 << 32) - 1000;
    for dialect in DIALECTS {
        let flv = Flv::shifted(dialect, true, Some(AudioFormat::Aac), shift);
        for feed in [Feed::Pull, Feed::Push(2000)] {
            let (demux, _, result) = played(&flv.bytes(), feed);
            assert_eq!(result, Ok(()));
            same(&demux.video().units, &flv.video, &format!("{dialect:?} {feed:?}"));
            same(&demux.audio().units, &flv.audio, &format!("{dialect:?} {feed:?}"));
            // A late joiner plays at once.
            let segment = &demux.video().segments[0];
            assert_eq!(segment.start(), Some(gst::ClockTime::from_mseconds(shift)));
            assert_eq!(segment.to_running_time(segment.start()), Some(gst::ClockTime::ZERO));
        }
    }
}

#[test]
fn a_live_source_that_delivers_late_gives_running_times_from_now_on() {
    let flv = Flv::shifted(Dialect::Enhanced, false, None, 7_200_000);
    init();
    let pipeline = gst::parse::launch(
        "appsrc name=a is-live=true format=bytes ! flvh265demux ! fakesink name=s sync=true",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("a").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let head = flv.tags[..flv.frame(5)].concat();
    source.push_buffer(gst::Buffer::from_slice(head)).unwrap();
    source.end_of_stream().unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(PATIENCE, &types).expect("an end");
    assert_eq!(message.type_(), gst::MessageType::Eos);
    let sink = pipeline.by_name("s").unwrap();
    let segment = sink.static_pad("sink").unwrap().sticky_event::<gst::event::Segment>(0).unwrap();
    let segment = segment.segment().downcast_ref::<gst::ClockTime>().cloned().unwrap();
    assert_eq!(segment.start(), Some(gst::ClockTime::from_seconds(7200)));
    assert!(segment.base().unwrap() >= gst::ClockTime::from_mseconds(250), "{segment:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_restarted_publisher_and_negative_composition_do_not_break_time() {
    let flv = Flv::shifted(Dialect::Avc, false, None, 60_000);
    let again = Flv::new(Dialect::Avc, false, None);
    let mut bytes = flv.bytes();
    bytes.extend(again.tags[2..].concat());
    let (demux, _, result) = played(&bytes, Feed::Push(3000));
    assert_eq!(result, Ok(()));
    let seen = demux.video().units;
    assert_eq!(seen.len(), 150);
    assert!(seen.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
    assert!(seen.last().unwrap().dts < 66_100, "{}", seen.last().unwrap().dts);
    assert_eq!((demux.stat("time-resyncs"), demux.video().disconts), (1, vec![0, 75]));

    let mut negative = again.clone();
    let unit = &again.video[0];
    let header = Dialect::Avc.header(VideoPacket::Frame { key: true, composition_ms: -40 });
    let at = again.frame(0);
    negative.tags[at] = sealed(TagType::Video, 20, &header, &unit.bytes);
    let (demux, ..) = played(&negative.bytes(), Feed::Pull);
    assert_eq!((demux.video().units[0].dts, demux.video().units[0].pts), (20, 0));
}

#[test]
fn new_configurations_and_codecs_give_new_caps_on_the_same_pad() {
    let first = Flv::new(Dialect::Avc, false, None);
    let second = Flv::shifted(Dialect::Enhanced, false, None, 3000);
    let third = Flv::shifted(Dialect::Avc, true, None, 6000);
    let repeated = video_config(Dialect::Avc, 1000, &Stream::video(Dialect::Avc, false).config);
    let mut tags = first.tags.clone();
    tags.insert(first.frame(30), repeated);
    let bad = video_config(Dialect::Avc, 1000, &[1, 2, 3]);
    tags.insert(first.frame(40), bad);
    tags.extend_from_slice(&second.tags[2..]);
    tags.extend_from_slice(&third.tags[2..]);
    let bytes = tags.concat();
    for feed in [Feed::Pull, Feed::Push(2000)] {
        let (demux, skipped, result) = played(&bytes, feed);
        assert_eq!(result, Ok(()));
        let seen = demux.video();
        let names: Vec<_> =
            seen.caps.iter().map(|caps| caps.structure(0).unwrap().name().to_string()).collect();
        assert_eq!(names, ["video/x-h264", "video/x-h265", "video/x-h264"]);
        let expected = [first.video.clone(), second.video.clone(), third.video.clone()].concat();
        same(&seen.units, &expected, "all three");
        assert_eq!((demux.stat("caps-changes"), demux.stat("invalid-configs")), (2, 1));
        assert_eq!(skipped[0].get::<String>("reason").unwrap(), "avcC of 3 bytes ends within its fixed part");
    }
    // Back over the changes.
    let demux = Demux::new("flvh265demux", &bytes, Feed::Pull);
    demux.preroll();
    for (ms, name) in [(7000, "video/x-h264"), (4000, "video/x-h265"), (500, "video/x-h264")] {
        assert!(demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, ms, None));
        demux.pipeline.state(PATIENCE).0.unwrap();
        let caps = demux.video().caps;
        assert_eq!(caps.last().unwrap().structure(0).unwrap().name(), name);
    }
}

/// The frames from the last key frame at or before `ms` on.
fn from_key(flv: &Flv, ms: u64) -> &[Unit] {
    let key = flv.video.iter().rposition(|unit| unit.key && unit.pts <= ms).unwrap_or(0);
    &flv.video[key..]
}

#[test]
fn seeks_find_the_key_frame_by_index_and_by_scanning() {
    use gst::SeekFlags as F;
    for dialect in DIALECTS {
        let plain = Flv::new(dialect, true, Some(AudioFormat::Aac));
        let mut damaged = plain.clone();
        damaged.tags.insert(plain.frame(20), vec![0xaa; 777]);
        let files = [
            ("no index", plain.clone()),
            ("index", plain.clone().indexed(dialect, |entry| entry)),
            (
                "wrong positions",
                plain.clone().indexed(dialect, |entry| KeyFrame { position: entry.position + 1, ..entry }),
            ),
            (
                "wrong times",
                plain.clone().indexed(dialect, |entry| KeyFrame { time: entry.time / 3. + 1.3, ..entry }),
            ),
            ("damage", damaged),
        ];
        for (name, flv) in files {
            let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
            demux.preroll();
            let duration = demux.pipeline.query_duration::<gst::ClockTime>().unwrap();
            assert!((2900..=3100).contains(&duration.mseconds()), "{dialect:?} {name}: {duration}");
            for ms in [1500, 0, 2990, 640, 1300, 20, 99_000] {
                for flags in [F::ACCURATE, F::KEY_UNIT, F::empty()] {
                    let what = format!("{dialect:?} {name} {ms} {flags:?}");
                    assert!(demux.seek(F::FLUSH | flags, ms, None), "{what}");
                    demux.state(gst::State::Playing);
                    assert_eq!(demux.end().1, Ok(()), "{what}");
                    let seen = demux.video();
                    let expected = from_key(&flv, ms);
                    same(&seen.units, expected, &what);
                    assert_eq!(seen.disconts[0], 0);
                    let start =
                        if flags == F::KEY_UNIT { expected[0].pts } else { ms.min(duration.mseconds()) };
                    assert_eq!(seen.segments.len(), 1, "{what}");
                    assert_eq!(
                        seen.segments[0].start(),
                        Some(gst::ClockTime::from_mseconds(start)),
                        "{what}"
                    );
                    assert_eq!(seen.segments[0].time(), seen.segments[0].start(), "{what}");
                    demux.state(gst::State::Paused);
                }
            }
        }
    }
}

#[test]
fn seeks_snap_stop_and_refuse_as_asked() {
    use gst::SeekFlags as F;
    let flv = Flv::new(Dialect::Enhanced, false, None).indexed(Dialect::Enhanced, |entry| entry);
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    demux.preroll();
    // Key frames every 600 ms.
    for (flags, ms, first) in [
        (F::SNAP_BEFORE, 1000, 600),
        (F::SNAP_AFTER, 1000, 1200),
        (F::SNAP_NEAREST, 1000, 1200),
        (F::SNAP_NEAREST, 800, 600),
        (F::SNAP_AFTER, 1200, 1200),
        (F::SNAP_AFTER, 2900, 2400),
    ] {
        assert!(demux.seek(F::FLUSH | F::KEY_UNIT | flags, ms, None));
        demux.pipeline.state(PATIENCE).0.unwrap();
        assert_eq!(demux.video().units[0].pts, first, "{flags:?} {ms}");
    }
    assert!(demux.seek(F::FLUSH | F::ACCURATE, 700, Some(1500)));
    demux.state(gst::State::Playing);
    assert_eq!(demux.end().1, Ok(()));
    let seen = demux.video();
    assert_eq!((seen.units[0].pts, seen.units.last().unwrap().pts, seen.eos), (600, 1480, 1));
    demux.state(gst::State::Paused);
    let back = gst::event::Seek::new(
        -1.,
        F::FLUSH,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::Set,
        gst::ClockTime::SECOND,
    );
    assert!(!demux.pipeline.send_event(back));

    // Segments without flushes: running time goes on.
    assert!(demux.seek(F::FLUSH | F::SEGMENT | F::ACCURATE, 0, Some(600)));
    demux.state(gst::State::Playing);
    assert_eq!(demux.end().1, Ok(()));
    assert!(demux.seek(F::SEGMENT | F::ACCURATE, 1200, Some(1800)));
    assert_eq!(demux.end().1, Ok(()));
    // The event follows the message.
    wait_for("the second segment's end", || demux.video().segment_done == 2);
    let seen = demux.video();
    assert_eq!((seen.eos, seen.units.len()), (0, 30));
    let second = seen.segments.last().unwrap();
    let running = second.to_running_time(second.start()).unwrap().mseconds();
    assert!((560..=600).contains(&running), "{second:?}");
}

#[test]
fn pushed_streams_seek_by_their_index_if_upstream_can() {
    use gst::SeekFlags as F;
    init();
    let flv = Flv::new(Dialect::Domestic, false, None).indexed(Dialect::Domestic, |entry| entry);
    let bytes = Arc::new(flv.bytes());
    let pipeline = gst::parse::launch(
        "appsrc name=a format=bytes stream-type=seekable ! flvh265demux name=d ! fakesink name=s",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("a").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    source.set_size(bytes.len() as i64);
    let at = Arc::new(Mutex::new(0usize));
    let (read, sought, data) = (at.clone(), at.clone(), bytes.clone());
    source.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                let mut at = read.lock().unwrap();
                let chunk = &data[*at..(*at + 1000).min(data.len())];
                *at += chunk.len();
                let _ = match chunk.is_empty() {
                    true => source.end_of_stream(),
                    false => source.push_buffer(gst::Buffer::from_slice(chunk.to_vec())),
                };
            })
            .seek_data(move |_, offset| {
                *sought.lock().unwrap() = offset as usize;
                true
            })
            .build(),
    );
    let pads = Arc::new(Pads::default());
    let watched = pads.clone();
    pipeline.by_name("d").unwrap().connect_pad_added(move |_, pad| watched.watch(pad));
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(PATIENCE).0.unwrap();
    for flags in [F::ACCURATE, F::KEY_UNIT] {
        for ms in [2000, 100, 1200] {
            pipeline.seek_simple(F::FLUSH | flags, gst::ClockTime::from_mseconds(ms)).unwrap();
            pipeline.state(PATIENCE).0.unwrap();
            let seen = pads.video.lock().unwrap().clone();
            let first = &from_key(&flv, ms)[0];
            assert_eq!(seen.units.first(), Some(first), "{ms} {flags:?}");
            let start = if flags == F::KEY_UNIT { first.pts } else { ms };
            assert_eq!(seen.segments[0].start(), Some(gst::ClockTime::from_mseconds(start)));
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let plain = Demux::new("flvh265demux", &flv.bytes(), Feed::Push(1000));
    plain.preroll();
    assert!(!plain.seek(F::FLUSH, 1000, None), "upstream cannot seek");
}

#[test]
fn it_restarts_from_every_state() {
    let flv = Flv::new(Dialect::Enhanced, true, Some(AudioFormat::Aac));
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    for state in [gst::State::Ready, gst::State::Null, gst::State::Ready] {
        demux.state(gst::State::Playing);
        assert_eq!(demux.end().1, Ok(()));
        same(&demux.video().units, &flv.video, "video");
        same(&demux.audio().units, &flv.audio, "audio");
        assert_eq!(demux.stat("video-frames"), flv.video.len() as u64);
        demux.state(state);
        assert_eq!(demux.demux.num_src_pads(), 0);
        for pad in [&demux.pads.video, &demux.pads.audio] {
            *pad.lock().unwrap() = Seen::default();
        }
        // The sinks of the pads that are gone.
        for element in demux.pipeline.children() {
            let sink = element
                .factory()
                .is_some_and(|factory| ["queue", "fakesink"].contains(&factory.name().as_str()));
            if sink {
                element.set_state(gst::State::Null).unwrap();
                demux.pipeline.remove(&element).unwrap();
            }
        }
    }
    // In the middle of things.
    for _ in 0..20 {
        demux.state(gst::State::Playing);
        demux.state(gst::State::Ready);
    }
}

#[test]
fn after_a_flush_it_goes_on_with_whatever_comes() {
    let flv = Flv::new(Dialect::Enhanced, false, None);
    init();
    let sink = gst::ElementFactory::make("flvh265demux").build().unwrap();
    let pads = Arc::new(Pads::default());
    let watched = pads.clone();
    let end = gst::ElementFactory::make("fakesink").property("async", false).property("sync", false);
    let end = end.build().unwrap();
    end.set_state(gst::State::Playing).unwrap();
    let end_pad = end.static_pad("sink").unwrap();
    sink.connect_pad_added(move |_, pad| {
        watched.watch(pad);
        pad.link(&end_pad).unwrap();
    });
    sink.set_state(gst::State::Playing).unwrap();
    let pad = sink.static_pad("sink").unwrap();
    let segment = || gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new());
    pad.send_event(gst::event::StreamStart::new("test"));
    pad.send_event(segment());
    let half = flv.tags[..flv.frame(30)].concat();
    pad.chain(gst::Buffer::from_slice(half[..half.len() - 20].to_vec())).unwrap();
    pad.send_event(gst::event::FlushStart::new());
    pad.send_event(gst::event::FlushStop::new(true));
    pad.send_event(segment());
    let mut rest = flv.tags[flv.frame(40)][50..].to_vec();
    rest.extend(flv.tags[flv.frame(41)..].concat());
    let mut chunks: VecDeque<u8> = rest.into();
    while !chunks.is_empty() {
        let chunk: Vec<u8> = chunks.drain(..chunks.len().min(900)).collect();
        pad.chain(gst::Buffer::from_slice(chunk)).unwrap();
    }
    sink.set_state(gst::State::Null).unwrap();
    end.set_state(gst::State::Null).unwrap();
    let seen = pads.video.lock().unwrap();
    same(&seen.units, &flv.video[41..], "after the flush");
    assert_eq!(seen.segments[0].start(), Some(gst::ClockTime::from_mseconds(flv.video[41].dts)));
}

#[test]
fn a_promised_track_that_never_comes_is_waited_for_a_second() {
    let mut flv = Flv::new(Dialect::Enhanced, false, None);
    flv.tags[0] = FileHeader { audio: true, video: true }.to_bytes().to_vec();
    let (demux, _, result) = played(&flv.bytes(), Feed::Pull);
    assert_eq!(result, Ok(()));
    // Frames of 40 ms.
    assert_eq!(*demux.no_more_pads.lock().unwrap(), [25]);
}

#[test]
fn a_track_that_falls_silent_gets_gaps() {
    let flv = Flv::new(Dialect::Enhanced, false, Some(AudioFormat::Aac));
    let mut tags = flv.tags.clone();
    for n in 0..4 {
        let late = Flv::shifted(Dialect::Enhanced, false, None, 3000 * (n + 1));
        tags.extend_from_slice(&late.tags[3..]);
    }
    let (demux, _, result) = played(&tags.concat(), Feed::Push(2000));
    assert_eq!(result, Ok(()));
    assert!(demux.audio().gaps > 10);
    assert_eq!(demux.video().gaps, 0);
}

#[test]
fn whatever_bytes_are_changed_it_ends() {
    let flv =
        Flv::new(Dialect::Enhanced, true, Some(AudioFormat::Aac)).indexed(Dialect::Enhanced, |entry| entry);
    let whole = flv.tags[..flv.frame(12)].concat();
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for round in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 20 {
            // Half of the changes hit the metadata and the configurations.
            let at = next() % if next() % 2 == 0 { 1500 } else { bytes.len() };
            bytes[at] = next() as u8;
        }
        let feed = if round % 2 == 0 { Feed::Pull } else { Feed::Push(700) };
        let (demux, ..) = played(&bytes, feed);
        if feed == Feed::Pull {
            demux.state(gst::State::Paused);
            demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, next() as u64 % 700, None);
        }
        assert!(demux.stat("bytes") <= bytes.len() as u64 * 3);
    }
}
