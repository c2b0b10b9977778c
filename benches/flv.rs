// SPDX-License-Identifier: MPL-2.0

//! What FLV costs: `flvh265mux` beside stock `flvmux`, `flvh265demux` beside stock `flvdemux`, on the same pre-encoded
//! stream, each run in a process of its own, as medians of several runs in turn.
//!
//! Buffers are pushed into the element's pads from one thread per stream, and dropped behind it: what is left after
//! subtracting the same without the muxer is the muxer's. Run with `make bench`; the last results are in
//! `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::sync::mpsc;
use std::time::Instant;

use common::{Peer, cpu_ns, median, row};
use gst::prelude::*;

const RUNS: usize = 7;
const VIDEO_TAGS: u64 = 30_000;
/// By as much do medians of the same differ here.
const NOISE: f64 = 0.05;
/// Where both sides are ours, and differ by less than short runs do.
const MANY_VIDEO_TAGS: u64 = 300_000;
/// AAC at 48 kHz beside video at 30 frames per second.
const AUDIO_PER_1000_VIDEO: u64 = 1562;

fn main() {
    gst::init().unwrap();
    gstflvh265::plugin_register_static().unwrap();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child-mux", muxer, codec, audio, measure, tags] => {
            child_mux(muxer, codec, audio == "audio", measure, tags.parse().unwrap())
        }
        ["child-demux", demuxer, file, between, measure] => child_demux(demuxer, file, between, measure),
        ["child-allocations", muxer, size, tags] => allocations_of(muxer, size, tags.parse().unwrap()),
        [] => all(),
        _ => panic!("no such benchmark: {args:?}"),
    }
}

fn all() {
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for (measure, what) in [("cpu", "CPU"), ("wall", "wall time")] {
        compare(
            what,
            measure,
            "H.264 alone, beside flvmux",
            ("flvh265mux", "h264"),
            ("flvmux", "h264"),
            "",
            0.4,
        );
        compare(
            what,
            measure,
            "H.264 with AAC, beside flvmux",
            ("flvh265mux", "h264"),
            ("flvmux", "h264"),
            "audio",
            0.8,
        );
        let same = 1.0 + NOISE;
        compare(
            what,
            measure,
            "H.265 beside H.264",
            ("flvh265mux", "h265"),
            ("flvh265mux", "h264"),
            "",
            same,
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("h264.flv");
    write_file(&file);
    for (between, how) in [("", "from a file"), ("! queue", "pushed")] {
        for (measure, what) in [("cpu", "CPU"), ("wall", "wall time")] {
            compare_demuxers(what, measure, how, between, file.to_str().unwrap());
        }
    }
    allocations();
}

/// A row of microseconds per tag of `filesrc ! demuxer ! fakesink`.
fn compare_demuxers(what: &str, measure: &str, how: &str, between: &str, file: &str) {
    let run = |demuxer| Peer::new(&["child-demux", demuxer, file, between, measure]).output();
    let (mut mine, mut theirs): (Vec<f64>, Vec<f64>) =
        (0..RUNS).map(|_| (run("flvh265demux"), run("flvdemux"))).unzip();
    let [mine, theirs] = [&mut mine, &mut theirs].map(|runs| median(runs));
    let us = |value: f64| format!("{value:.2} us");
    let name = format!("{what} per tag, filesrc and demuxer, H.264 {how}, beside flvdemux");
    row(&name, &us(mine), &us(theirs), mine / theirs, 1.0);
}

/// A row of microseconds per tag that the muxer adds.
fn compare(
    what: &str,
    measure: &str,
    which: &str,
    ours: (&str, &str),
    peer: (&str, &str),
    audio: &str,
    limit: f64,
) {
    let tags = if ours.0 == peer.0 { MANY_VIDEO_TAGS } else { VIDEO_TAGS }.to_string();
    let run = |(muxer, codec): (&str, &str)| {
        Peer::new(&["child-mux", muxer, codec, audio, measure, &tags]).output()
    };
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    // The run without a muxer has its turn beside each: the machine's mood is in both.
    for _ in 0..RUNS {
        let bare = run(("none", ours.1));
        mine.push(run(ours) - bare);
        let bare = if ours.1 == peer.1 { bare } else { run(("none", peer.1)) };
        theirs.push(run(peer) - bare);
    }
    let [mine, theirs] = [&mut mine, &mut theirs].map(|runs| median(runs));
    let us = |value: f64| format!("{value:.2} us");
    row(&format!("{what} per tag, {which}"), &us(mine), &us(theirs), mine / theirs, limit);
}

/// Access units of a real encoder, and their caps.
fn encode(line: &str) -> (gst::Caps, Vec<gst::Buffer>) {
    let line = format!("{line} ! appsink name=sink sync=false");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink: gst_app::AppSink = pipeline.by_name("sink").unwrap().downcast().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples: Vec<gst::Sample> = std::iter::from_fn(|| sink.pull_sample().ok()).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    let caps = samples[0].caps().unwrap().to_owned();
    (caps, samples.iter().map(|sample| sample.buffer_owned().unwrap()).collect())
}

fn encode_video(codec: &str, size: &str, bitrate: u32) -> (gst::Caps, Vec<gst::Buffer>) {
    let (encoder, parser) = match codec {
        "h264" => ("x264enc speed-preset=ultrafast tune=zerolatency", "h264parse"),
        _ => ("x265enc speed-preset=ultrafast tune=zerolatency", "h265parse"),
    };
    let format = if codec == "h264" { "avc" } else { "hvc1" };
    encode(&format!(
        "videotestsrc pattern=ball num-buffers=60 ! video/x-raw,format=I420,{size},framerate=30/1 \
         ! {encoder} bitrate={bitrate} key-int-max=30 ! {parser} ! video/x-{codec},stream-format={format},alignment=au"
    ))
}

/// A stream that a thread pushes: `units` in turn, with times of their own.
struct Stream {
    pad: gst::Pad,
    caps: gst::Caps,
    units: Vec<gst::Buffer>,
    interval: gst::ClockTime,
    count: u64,
}

impl Stream {
    fn new(name: &str, caps: gst::Caps, units: Vec<gst::Buffer>, fps: f64, count: u64) -> Self {
        let pad = gst::Pad::builder(gst::PadDirection::Src).name(name).build();
        let interval = gst::ClockTime::from_nseconds((1e9 / fps) as u64);
        Self { pad, caps, units, interval, count }
    }

    fn push(self) {
        self.pad.set_active(true).unwrap();
        assert!(self.pad.push_event(gst::event::StreamStart::new(&self.pad.name())));
        assert!(self.pad.push_event(gst::event::Caps::new(&self.caps)));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(self.pad.push_event(gst::event::Segment::new(&segment)));
        for n in 0..self.count {
            let mut buffer = self.units[n as usize % self.units.len()].copy();
            let times = buffer.get_mut().unwrap();
            times.set_pts(self.interval * n);
            times.set_dts(self.interval * n);
            self.pad.push(buffer).unwrap();
        }
        self.pad.push_event(gst::event::Eos::new());
    }
}

/// A pad that drops what it gets and tells of EOS.
fn drain_pad(eos: mpsc::Sender<()>) -> gst::Pad {
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
        .event_function(move |_, _, event| {
            if event.type_() == gst::EventType::Eos {
                eos.send(()).unwrap();
            }
            true
        })
        .build();
    pad.set_active(true).unwrap();
    pad
}

/// Pushes all streams to their end, through `muxer` or past it; returns CPU and wall nanoseconds.
fn run(muxer: &str, streams: Vec<Stream>) -> (u64, u64) {
    let (sender, eos) = mpsc::channel();
    let element = (muxer != "none").then(|| gst::ElementFactory::make(muxer).build().unwrap());
    let mut ends = 1;
    let mut drains = Vec::new();
    match &element {
        Some(element) => {
            if muxer == "flvmux" {
                element.set_property("streamable", true);
            }
            let drain = drain_pad(sender);
            element.static_pad("src").unwrap().link(&drain).unwrap();
            drains.push(drain);
            for stream in &streams {
                stream.pad.link(&element.request_pad_simple(&stream.pad.name()).unwrap()).unwrap();
            }
            element.set_state(gst::State::Playing).unwrap();
        }
        None => {
            ends = streams.len();
            for stream in &streams {
                let drain = drain_pad(sender.clone());
                stream.pad.link(&drain).unwrap();
                drains.push(drain);
            }
        }
    }
    let (cpu, start) = (cpu_ns(), Instant::now());
    let threads: Vec<_> =
        streams.into_iter().map(|stream| std::thread::spawn(move || stream.push())).collect();
    for _ in 0..ends {
        eos.recv().unwrap();
    }
    let wall = start.elapsed().as_nanos() as u64;
    let cpu = cpu_ns() - cpu;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    if let Some(element) = element {
        element.set_state(gst::State::Null).unwrap();
    }
    (cpu, wall)
}

fn child_mux(muxer: &str, codec: &str, audio: bool, measure: &str, video_tags: u64) {
    let (caps, units) = encode_video(codec, "width=1280,height=720", 4000);
    let mut streams = vec![Stream::new("video", caps, units, 30., video_tags)];
    let mut tags = video_tags;
    if audio {
        let (caps, units) = encode(
            "audiotestsrc num-buffers=60 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! audioconvert \
             ! voaacenc ! aacparse ! audio/mpeg,stream-format=raw",
        );
        let count = video_tags * AUDIO_PER_1000_VIDEO / 1000;
        streams.push(Stream::new("audio", caps, units, 48000. / 1024., count));
        tags += count;
    }
    let (cpu, wall) = run(muxer, streams);
    println!("{}", if measure == "cpu" { cpu } else { wall } as f64 / tags as f64 / 1e3);
}

const FILE_TAGS: u64 = 6_000;

/// Two hundred seconds of 720p at 4 Mbit/s.
fn write_file(file: &std::path::Path) {
    let (caps, units) = encode_video("h264", "width=1280,height=720", 4000);
    let line = format!("flvh265mux name=mux streamable=false ! filesink location={}", file.display());
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let mux = pipeline.by_name("mux").unwrap();
    let stream = Stream::new("video", caps, units, 30., FILE_TAGS);
    stream.pad.link(&mux.request_pad_simple("video").unwrap()).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    stream.push();
    to_eos(&pipeline);
}

fn to_eos(pipeline: &gst::Pipeline) {
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
    assert_eq!(message.expect("EOS").type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
}

fn child_demux(demuxer: &str, file: &str, between: &str, measure: &str) {
    let line = format!("filesrc location={file} {between} ! {demuxer} ! fakesink sync=false");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let (cpu, start) = (cpu_ns(), Instant::now());
    pipeline.set_state(gst::State::Playing).unwrap();
    to_eos(&pipeline);
    let spent = if measure == "cpu" { cpu_ns() - cpu } else { start.elapsed().as_nanos() as u64 };
    println!("{}", spent as f64 / FILE_TAGS as f64 / 1e3);
}

fn allocations_of(muxer: &str, size: &str, tags: u64) {
    let (caps, _) = encode_video("h264", "width=320,height=240", 500);
    let unit = gst::Buffer::from_slice(vec![1u8; size.parse().unwrap()]);
    run(muxer, vec![Stream::new("video", caps, vec![unit], 30., tags)]);
}

/// Heap allocations per tag of the stream with and without the muxer, as valgrind counts them.
fn allocations() {
    const TAGS: [u64; 2] = [1000, 3000];
    let program = std::env::current_exe().unwrap();
    let total = |muxer: &str, size: &str, tags: u64| -> f64 {
        let mut valgrind = std::process::Command::new("valgrind");
        valgrind.args(["--undef-value-errors=no", "--leak-check=no"]).arg(&program);
        valgrind.args(["child-allocations", muxer, size, &tags.to_string()]);
        let output = valgrind.env("G_SLICE", "always-malloc").output().expect("Debian package valgrind");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let allocations = text.split("total heap usage: ").nth(1).and_then(|rest| rest.split(' ').next());
        let allocations = allocations.unwrap_or_else(|| panic!("valgrind said {text}")).replace(',', "");
        allocations.parse().unwrap()
    };
    let per_tag = |muxer: &str, size: &str| {
        let [few, many] = TAGS.map(|tags| total(muxer, size, tags));
        (many - few) / (TAGS[1] - TAGS[0]) as f64
    };
    let bare = per_tag("none", "1000");
    let [small, large] = ["1000", "1000000"].map(|size| per_tag("flvh265mux", size) - bare);
    let stock = per_tag("flvmux", "1000") - bare;
    let count = |value: f64| format!("{value:.1}");
    row("allocations per tag of 1 kB, beside flvmux", &count(small), &count(stock), small / stock, 1.0);
    row("allocations per tag of 1 MB, beside 1 kB", &count(large), &count(small), large / small, 1.01);
}
