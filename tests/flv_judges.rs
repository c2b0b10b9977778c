// SPDX-License-Identifier: MPL-2.0

//! What `flvh265mux` writes, judged by readers that share no code with it, against what went in.

#![allow(missing_docs)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::readers::{AudioFrame, Facts, VideoFrame};
use common::{init, readers};
use gst::prelude::*;
use gst_video::prelude::*;
use scuffle_flv::audio::body::AudioTagBody;
use scuffle_flv::audio::body::legacy::LegacyAudioTagBody;
use scuffle_flv::audio::body::legacy::aac::AacAudioData;
use scuffle_flv::file::FlvFile;
use scuffle_flv::tag::FlvTagData;
use scuffle_flv::video::body::VideoTagBody;
use scuffle_flv::video::body::enhanced::{
    ExVideoTagBody, VideoPacket, VideoPacketCodedFrames, VideoPacketSequenceStart,
};
use scuffle_flv::video::body::legacy::LegacyVideoTagBody;
use scuffle_flv::video::header::legacy::{LegacyVideoTagHeader, LegacyVideoTagHeaderAvcPacket};
use scuffle_flv::video::header::{VideoFrameType, VideoTagHeaderData};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Avc,
    Enhanced,
    Domestic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    None,
    Aac,
    Mp3,
}

/// What went into the muxer, in running time.
struct Source {
    file: PathBuf,
    _folder: tempfile::TempDir,
    video: Vec<VideoFrame>,
    audio: Vec<AudioFrame>,
    /// Of each decoded picture's packed I420 planes.
    pictures: Vec<String>,
    /// Milliseconds that FLV time is ahead of running time: the reordering of B-frames.
    shift: i64,
}

const PICTURES: usize = 50;

/// Encodes, muxes into a file, and decodes what went in beside it.
fn make(dialect: Dialect, sound: Sound, bframes: u32, properties: &str) -> Source {
    init();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.flv");
    let (encoder, parser, decoder) = match dialect {
        Dialect::Avc => (format!("x264enc bframes={bframes} b-adapt=false"), "h264parse", "avdec_h264"),
        _ => (format!("x265enc option-string=bframes={bframes}:b-adapt=0"), "h265parse", "avdec_h265"),
    };
    let mode = if dialect == Dialect::Domestic { "mode=domestic" } else { "" };
    let audio = "audiotestsrc num-buffers=70 ! audio/x-raw,channels=2";
    let audio = match sound {
        Sound::None => String::new(),
        Sound::Aac => format!("{audio},rate=48000 ! audioconvert ! voaacenc ! aacparse ! mux.audio"),
        Sound::Mp3 => format!("{audio},rate=44100 ! audioconvert ! lamemp3enc ! mpegaudioparse ! mux.audio"),
    };
    let line = format!(
        "videotestsrc pattern=ball num-buffers={PICTURES} \
         ! video/x-raw,format=I420,width=160,height=120,framerate=30/1 \
         ! {encoder} speed-preset=ultrafast key-int-max=15 ! {parser} ! tee name=t \
         ! queue ! flvh265mux name=mux {mode} {properties} ! filesink location={} \
         t. ! queue ! {decoder} ! videoconvert ! video/x-raw,format=I420 ! appsink name=pictures sync=false {audio}",
        file.display()
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let mux = pipeline.by_name("mux").unwrap();
    let units = record(&mux.static_pad("video").unwrap());
    let sounds = mux.static_pad("audio").map(|pad| record(&pad)).unwrap_or_default();
    let sink: gst_app::AppSink = pipeline.by_name("pictures").unwrap().downcast().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let pictures: Vec<String> =
        std::iter::from_fn(|| sink.pull_sample().ok()).map(|sample| hash(&sample)).collect();
    end_of(&pipeline);
    pipeline.set_state(gst::State::Null).unwrap();

    let units = std::mem::take(&mut *units.lock().unwrap());
    let sounds = std::mem::take(&mut *sounds.lock().unwrap());
    let first = units.iter().map(|unit| unit.dts_ns).min().unwrap();
    let shift = (-first).max(0).div_euclid(1_000_000) + i64::from(first < 0 && first % 1_000_000 != 0);
    let ms = |ns: i64| ns.div_euclid(1_000_000) + shift;
    let video = units
        .iter()
        .map(|unit| VideoFrame { dts: ms(unit.dts_ns), pts: ms(unit.pts_ns), key: unit.key, size: unit.size })
        .collect();
    let audio = sounds.iter().map(|unit| AudioFrame { dts: ms(unit.pts_ns), size: unit.size }).collect();
    assert_eq!(pictures.len(), PICTURES, "the source's own decoder");
    Source { file, _folder: folder, video, audio, pictures, shift }
}

struct Unit {
    dts_ns: i64,
    pts_ns: i64,
    key: bool,
    size: usize,
}

/// What passes a pad, in running time.
fn record(pad: &gst::Pad) -> Arc<Mutex<Vec<Unit>>> {
    let units = Arc::new(Mutex::new(Vec::new()));
    let kept = units.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
        let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap().clone();
        let running = |time: Option<gst::ClockTime>| match segment.to_running_time_full(time?)? {
            gst::Signed::Positive(time) => Some(time.nseconds() as i64),
            gst::Signed::Negative(time) => Some(-(time.nseconds() as i64)),
        };
        let pts_ns = running(buffer.pts()).unwrap();
        kept.lock().unwrap().push(Unit {
            dts_ns: running(buffer.dts()).unwrap_or(pts_ns),
            pts_ns,
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            size: buffer.size(),
        });
        gst::PadProbeReturn::Ok
    });
    units
}

fn hash(sample: &gst::Sample) -> String {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    let mut sha = Sha256::new();
    for plane in 0..3 {
        let stride = frame.plane_stride()[plane as usize] as usize;
        let (width, height) = (frame.comp_width(plane) as usize, frame.comp_height(plane) as usize);
        let data = frame.plane_data(plane).unwrap();
        for line in data.chunks(stride).take(height) {
            sha.update(&line[..width]);
        }
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn end_of(pipeline: &gst::Pipeline) {
    let patience = gst::ClockTime::from_nseconds(common::PATIENCE.as_nanos() as u64);
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(patience, &kinds).expect("EOS");
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{}: {:?}", error.error(), error.debug());
    }
}

/// A reader's facts are the source's.
fn agrees(who: &str, source: &Source, facts: &Facts) {
    assert_eq!(facts.errors, Vec::<String>::new(), "{who}");
    assert_eq!(facts.warnings, Vec::<String>::new(), "{who}");
    assert_eq!(facts.pictures(), source.video, "{who}");
    assert_eq!(facts.sounds(), source.audio, "{who}");
}

fn check(dialect: Dialect, sound: Sound, bframes: u32, properties: &str) {
    let source = make(dialect, sound, bframes, properties);
    assert_eq!(bframes > 0, source.shift > 0, "B-frames begin before time 0");
    assert!(source.video.iter().any(|frame| frame.pts > frame.dts) == (bframes > 0));
    for (who, facts) in [
        ("FFmpeg 9", readers::ffmpeg(&source.file, true)),
        ("PyAV", readers::pyav(&source.file, true)),
        ("mpegts.js", readers::mpegts(&source.file, None)),
        ("mpegts.js in pieces", readers::mpegts(&source.file, Some(1000))),
    ] {
        agrees(who, &source, &facts);
        if facts.decoded.is_some() {
            assert_eq!(facts.shown(), source.pictures, "{who}");
        }
        if who == "mpegts.js" {
            let codec = match dialect {
                Dialect::Avc => 7,
                Dialect::Domestic => 12,
                Dialect::Enhanced => 1752589105,
            };
            assert_eq!(facts.metadata["videocodecid"], codec);
            assert_eq!(facts.metadata["width"], 160);
            assert_eq!(facts.metadata["height"], 120);
            assert_eq!(facts.metadata["framerate"], 30);
            assert_eq!(facts.metadata.contains_key("audiocodecid"), sound != Sound::None);
        }
    }
    if dialect != Dialect::Domestic && sound != Sound::Mp3 {
        agrees("scuffle-flv", &source, &scuffle(&source.file));
    }
    if dialect == Dialect::Avc {
        stock_flvdemux(&source);
    }
}

#[test]
fn h264() {
    check(Dialect::Avc, Sound::None, 0, "");
    check(Dialect::Avc, Sound::Aac, 2, "streamable=false");
    check(Dialect::Avc, Sound::Mp3, 0, "");
    check(Dialect::Avc, Sound::None, 2, "end-of-sequence=true");
}

#[test]
fn h265_enhanced() {
    check(Dialect::Enhanced, Sound::None, 0, "streamable=false");
    check(Dialect::Enhanced, Sound::Aac, 0, "end-of-sequence=true");
    check(Dialect::Enhanced, Sound::None, 2, "repeat-sequence-header=true");
    check(Dialect::Enhanced, Sound::Aac, 2, "");
}

#[test]
fn h265_domestic() {
    check(Dialect::Domestic, Sound::None, 0, "repeat-sequence-header=true");
    check(Dialect::Domestic, Sound::Aac, 0, "streamable=false");
    check(Dialect::Domestic, Sound::None, 2, "end-of-sequence=true");
    check(Dialect::Domestic, Sound::Mp3, 2, "");
}

/// The crate scuffle-flv, which knows the enhanced tags and codec id 7. Composition times it reads unsigned.
fn scuffle(file: &Path) -> Facts {
    let bytes = bytes::Bytes::from(std::fs::read(file).unwrap());
    let file = FlvFile::demux(&mut std::io::Cursor::new(bytes)).unwrap();
    let (mut video, mut audio, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let mut configured = false;
    for tag in &file.tags {
        let dts = i64::from(tag.timestamp_ms);
        match &tag.data {
            FlvTagData::ScriptData(_) => {}
            FlvTagData::Audio(data) => match &data.body {
                AudioTagBody::Legacy(LegacyAudioTagBody::Aac(AacAudioData::SequenceHeader(_))) => {}
                AudioTagBody::Legacy(LegacyAudioTagBody::Aac(AacAudioData::Raw(bytes))) => {
                    audio.push(AudioFrame { dts, size: bytes.len() })
                }
                other => errors.push(format!("{other:?}")),
            },
            FlvTagData::Video(data) => {
                let key = data.header.frame_type == VideoFrameType::KeyFrame;
                let frame = |composition: i64, size| VideoFrame { dts, pts: dts + composition, key, size };
                match (&data.header.data, &data.body) {
                    (_, VideoTagBody::Enhanced(ExVideoTagBody::NoMultitrack { packet, .. })) => {
                        match packet {
                            VideoPacket::SequenceStart(VideoPacketSequenceStart::Hevc(_)) => {
                                configured = true
                            }
                            VideoPacket::SequenceEnd => {}
                            VideoPacket::CodedFramesX { data } => video.push(frame(0, data.len())),
                            VideoPacket::CodedFrames(VideoPacketCodedFrames::Hevc {
                                composition_time_offset,
                                data,
                            }) => video.push(frame((*composition_time_offset).into(), data.len())),
                            other => errors.push(format!("{other:?}")),
                        }
                    }
                    (_, VideoTagBody::Legacy(LegacyVideoTagBody::AvcVideoPacketSeqHdr(_))) => {
                        configured = true
                    }
                    (
                        VideoTagHeaderData::Legacy(LegacyVideoTagHeader::AvcPacket(
                            LegacyVideoTagHeaderAvcPacket::Nalu { composition_time_offset },
                        )),
                        VideoTagBody::Legacy(LegacyVideoTagBody::Other { data }),
                    ) => video.push(frame((*composition_time_offset).into(), data.len())),
                    (
                        VideoTagHeaderData::Legacy(LegacyVideoTagHeader::AvcPacket(
                            LegacyVideoTagHeaderAvcPacket::EndOfSequence,
                        )),
                        _,
                    ) => {}
                    other => errors.push(format!("{other:?}")),
                }
            }
            other => errors.push(format!("{other:?}")),
        }
    }
    assert!(configured, "a sequence header that scuffle-flv reads");
    let codec = String::new();
    Facts {
        video: Some(readers::Video { codec: codec.clone(), width: 0, height: 0, frames: video }),
        audio: Some(readers::Audio { codec, rate: 0, channels: None, frames: audio }),
        metadata: Default::default(),
        errors,
        warnings: Vec::new(),
        decoded: None,
    }
}

/// GStreamer's own demuxer, which knows H.264.
fn stock_flvdemux(source: &Source) {
    let queue = "queue max-size-buffers=0 max-size-time=0 max-size-bytes=0";
    let sound = format!("d.audio ! {queue} ! appsink name=sound sync=false");
    let line = format!(
        "filesrc location={} ! flvdemux name=d d.video ! {queue} ! appsink name=sink sync=false {}",
        source.file.display(),
        if source.audio.is_empty() { "" } else { &sound }
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = |name| pipeline.by_name(name).map(|sink| sink.downcast::<gst_app::AppSink>().unwrap());
    let all = |sink: gst_app::AppSink| std::iter::from_fn(move || sink.pull_sample().ok());
    let ms = |time: Option<gst::ClockTime>| time.unwrap().mseconds() as i64;
    pipeline.set_state(gst::State::Playing).unwrap();
    let video = all(sink("sink").unwrap()).map(|sample| {
        let buffer = sample.buffer().unwrap();
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        VideoFrame { dts: ms(buffer.dts()), pts: ms(buffer.pts()), key, size: buffer.size() }
    });
    assert_eq!(video.collect::<Vec<_>>(), source.video, "flvdemux");
    let audio = sink("sound").into_iter().flat_map(all).map(|sample| {
        let buffer = sample.buffer().unwrap();
        AudioFrame { dts: ms(buffer.pts()), size: buffer.size() }
    });
    assert_eq!(audio.collect::<Vec<_>>(), source.audio, "flvdemux");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_file_has_its_duration_its_size_and_an_index_of_its_key_frames() {
    let source = make(Dialect::Enhanced, Sound::Aac, 2, "streamable=false");
    let facts = readers::mpegts(&source.file, None);
    let bytes = std::fs::read(&source.file).unwrap();
    assert_eq!(facts.metadata["filesize"], bytes.len());
    let last = source.video.iter().map(|frame| frame.pts).max().unwrap();
    let duration = facts.metadata["duration"].as_f64().unwrap() * 1000.;
    assert!((last as f64..last as f64 + 50.).contains(&duration), "{duration} ms, last picture {last} ms");
    let index = &facts.metadata["keyframes"];
    let keys: Vec<&VideoFrame> = source.video.iter().filter(|frame| frame.key).collect();
    assert!(keys.len() > 2);
    let times: Vec<i64> = index["times"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t.as_f64().unwrap() * 1e3).round() as i64)
        .collect();
    assert_eq!(times, keys.iter().map(|frame| frame.dts).collect::<Vec<_>>());
    for position in index["filepositions"].as_array().unwrap() {
        let at = position.as_f64().unwrap() as usize;
        assert_eq!(bytes[at], 9, "a video tag at {at}");
        assert_eq!(bytes[at + 11] & 0xf0, 0x90, "a key frame at {at}");
    }
}
