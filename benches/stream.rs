// SPDX-License-Identifier: MPL-2.0

//! What `cvmmap-streamer run` costs: latency from the capture to the RTP packet by stage, CPU per frame, and four
//! cameras on one machine; beside the same pipeline with `videotestsrc is-live=true` in place of `cvmmapsrc`.
//!
//! Each pipeline is the line of `cvmmap-streamer run --print-plan` in a process of its own, with probes; producers are
//! processes of their own as well. Run with `make bench`; the last results, and what each number contains, are in
//! `benches/README.md`. What a changed line does beside what ships: `cargo bench --bench stream -- with x=>y`.

#![allow(missing_docs)]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use common::{CvMmapPeer, Peer, cpu_ns, cpu_ns_of, median, percentile, row};
use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Producer, Target, Version};
use cvmmap_streamer::run::{self, session};
use gst::prelude::*;

const STREAMER: &str = env!("CARGO_BIN_EXE_cvmmap-streamer");
const RUNS: usize = 3;
const SIZES: [&str; 3] = ["640x360", "1280x720", "1920x1080"];
const FPS: u32 = 30;
const FRAME_MS: f64 = 1000.0 / FPS as f64;
/// What a source may add, in percent of a frame's time.
const SHARE: f64 = 5.0;
/// Pictures before the measured ones.
const WARM_UP: u64 = 20;
const MEASURED: u64 = 150;
/// Bars, and a box of noise, so that the encoder has something to do. The source of both pipelines' pictures.
const PATTERN: &str = "videotestsrc pattern=smpte";
/// The producer's private copies of pictures, which it publishes in turn.
const RENDERED: usize = 8;
/// Of each of the cameras on one machine.
const CAMERAS: [usize; 3] = [1, 2, 4];
/// Four of 720p at 30 fps, and their producers, need one and a half of two cores, and lose frames to whatever else runs.
const CAMERA_FPS: u32 = 15;
const CAMERA_WARM_UP: f64 = 2.0;
const CAMERA_SECONDS: f64 = 6.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child-camera", target, size] => publish(target, size),
        ["child-play", input, codec, size, frames, ref changes @ ..] => {
            play(Input::parse(input), codec, size, frames.parse().unwrap(), changes);
        }
        ["latency"] => latency(),
        ["h265"] => h265(),
        ["source"] => source(),
        ["cameras"] => cameras(CAMERA_FPS),
        ["cameras", fps] => cameras(fps.parse().unwrap()),
        ["with", ref changes @ ..] => with(changes),
        [] => {
            latency();
            source();
            cameras(CAMERA_FPS);
            h265();
        }
        _ => panic!("no such benchmark: {args:?}"),
    }
}

// Inputs

/// Where pictures come from.
#[derive(Clone, Copy, PartialEq)]
enum Input<'a> {
    /// `child-camera`, which has the pictures of videotestsrc.
    Camera(&'a str),
    /// `cvmmap-streamer sim`.
    Simulator(&'a str),
    /// videotestsrc in place of cvmmapsrc.
    TestSource,
}

impl<'a> Input<'a> {
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            Some(("camera", name)) => Self::Camera(name),
            Some((_, name)) => Self::Simulator(name),
            None => Self::TestSource,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Camera(name) => format!("camera:{name}"),
            Self::Simulator(name) => format!("simulator:{name}"),
            Self::TestSource => "test".into(),
        }
    }
}

fn sides(size: &str) -> (u32, u32) {
    let (width, height) = size.split_once('x').unwrap();
    (width.parse().unwrap(), height.parse().unwrap())
}

fn camera(size: &str) -> CvMmapPeer {
    CvMmapPeer::new("bench-camera", |name| Peer::new(&["child-camera", name, size]))
}

fn simulator(size: &str, fps: u32) -> CvMmapPeer {
    CvMmapPeer::new("bench-sim", |name| {
        let mut sim = Command::new(STREAMER);
        sim.args(["sim", name, "--size", size, "--fps", &fps.to_string()]);
        Peer(sim.stderr(Stdio::null()).spawn().unwrap())
    })
}

/// A producer of videotestsrc's pictures: stamped when it takes one out of private memory, and in the last 8 bytes of
/// the payload when that has become whole.
fn publish(target: &str, size: &str) {
    gst::init().unwrap();
    let (width, height) = sides(size);
    let line = format!(
        "{PATTERN} num-buffers={RENDERED} ! video/x-raw,format=BGR,width={width},height={height} \
         ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink: gst_app::AppSink = pipeline.by_name("sink").unwrap().downcast().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let rendered: Vec<Vec<u8>> = std::iter::from_fn(|| sink.pull_sample().ok())
        .map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec())
        .collect();
    pipeline.set_state(gst::State::Null).unwrap();

    let plane = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, width, height).unwrap();
    let target: Target = target.parse().unwrap();
    let mut producer = Producer::create(&target, plane.size as usize).unwrap();
    let mut due = Instant::now();
    for count in 0u32.. {
        due = (due + Duration::from_secs(1) / FPS).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let picture = &rendered[count as usize % RENDERED];
        let frame = FrameId { count, timestamp_ns: unix_now_ns() };
        let mut frame = producer.begin(&Metadata::new(Version::V1, frame, [plane])).unwrap();
        let end = picture.len() - 8;
        frame.write(0, &picture[..end]).unwrap();
        frame.write(end, &unix_now_ns().to_le_bytes()).unwrap();
        frame.commit().unwrap();
    }
}

// A pipeline

/// As `cvmmap-streamer run` takes them.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    run: run::Args,
}

/// The line of `cvmmap-streamer run --print-plan`, or its source alone where the codec is 'none'.
fn launch_line(input: Input, codec: &str, size: &str, port: u16) -> String {
    let name = match input {
        Input::Camera(name) | Input::Simulator(name) => name,
        Input::TestSource => "none",
    };
    let flags = ["run", "--encoder", "software", "--rtp", "--uri", name];
    let (codec, whole) = if codec == "none" { ("h264", false) } else { (codec, true) };
    let (endpoint, fps) = (format!("127.0.0.1:{port}"), FPS.to_string());
    let flags = flags.into_iter().chain(["--codec", codec, "--fps", &fps, "--rtp-endpoint", &endpoint]);
    let plan = Arguments::parse_from(flags).run.resolve().unwrap();
    let line = session::launch_line(&plan).unwrap();
    // Quotes are for a shell.
    let line = line.trim_start_matches("gst-launch-1.0 ").replace('\'', "");
    let (source, rest) = line.split_once(" ! ").unwrap();
    let source = match input {
        Input::TestSource => {
            let (width, height) = sides(size);
            // In a launch line, caps cannot follow caps.
            let caps = format!("video/x-raw,format=BGR,width={width},height={height}");
            format!("{PATTERN} is-live=true ! capsfilter caps={caps}")
        }
        _ => source.to_owned(),
    };
    if whole {
        format!("{source} ! {rest}")
    } else {
        let rate = rest.split(" ! ").next().unwrap();
        format!("{source} ! {rate} ! fakesink sync=false")
    }
}

/// Where pictures are seen, in this order: `CAPTURED` and `BEGUN` are of the producer, the others are probes.
const CAPTURED: usize = 0;
const BEGUN: usize = 1;
const PUSHED: usize = 2;
const TAKEN: usize = 3;
const CONVERTED: usize = 4;
const ENCODED: usize = 5;
const HANDED: usize = 6;
/// From one of them to another, as columns of the table.
const WAYS: [(&str, usize, usize); 8] = [
    ("fill", CAPTURED, BEGUN),
    ("source", BEGUN, PUSHED),
    ("queue", PUSHED, TAKEN),
    ("convert", TAKEN, CONVERTED),
    ("encode", CONVERTED, ENCODED),
    ("pay", ENCODED, HANDED),
    ("publication to packet", BEGUN, HANDED),
    ("capture to packet", CAPTURED, HANDED),
];
const SOURCE: usize = 1;
const FROM_PUBLICATION: usize = 6;

/// Times of the pipeline's clock by a picture's running time, which encoders and payloaders keep.
type Timeline = Arc<Mutex<HashMap<u64, [u64; 7]>>>;

fn running_time(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<u64> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    Some(segment.to_running_time(buffer.pts()?)?.nseconds())
}

fn clock_now() -> u64 {
    gst::SystemClock::obtain().time().nseconds()
}

/// A Unix time as one of the pipeline's clock.
fn of_unix(unix: u64) -> u64 {
    clock_now() - unix_now_ns().saturating_sub(unix)
}

/// Notes when each picture passes a pad; of several packets the last one counts.
fn watch(pad: &gst::Pad, timeline: &Timeline, place: usize) {
    let timeline = timeline.clone();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |pad, info| {
        let now = clock_now();
        let running = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => running_time(pad, buffer),
            Some(gst::PadProbeData::BufferList(list)) => running_time(pad, list.get(0).unwrap()),
            _ => None,
        };
        let mut timeline = timeline.lock().unwrap();
        if let Some(times) = running.and_then(|running| timeline.get_mut(&running)) {
            times[place] = now;
        }
        gst::PadProbeReturn::Ok
    });
}

/// When a picture that the source pushes was captured, and when its publication was complete.
fn origin(input: Input, pad: &gst::Pad, buffer: &gst::BufferRef, running: u64) -> [u64; 2] {
    let stamped = || {
        let meta = buffer.meta::<gst::ReferenceTimestampMeta>().expect("the producer stamps Unix time");
        of_unix(meta.timestamp().nseconds())
    };
    let timestamp = pad.parent_element().unwrap().base_time().unwrap().nseconds() + running;
    match input {
        Input::Camera(_) => {
            let map = buffer.map_readable().unwrap();
            [stamped(), of_unix(u64::from_le_bytes(*map.last_chunk().unwrap()))]
        }
        // It stamps before it draws; the time stamp is of the announcement's arrival.
        Input::Simulator(_) => [stamped(), timestamp],
        // When it is due.
        Input::TestSource => [timestamp, timestamp],
    }
}

fn pad(pipeline: &gst::Pipeline, of: impl Fn(&str) -> bool, pad: &str) -> Option<gst::Pad> {
    let elements = pipeline.iterate_elements().into_iter().flatten();
    let mut elements =
        elements.filter(|element| element.factory().is_some_and(|factory| of(&factory.name())));
    elements.next()?.static_pad(pad)
}

/// Plays, and prints p50 and p99 of each of the [`WAYS`] in ns, CPU per frame in ns, and the parts of pictures that were
/// lost before the source and behind it.
fn play(input: Input, codec: &str, size: &str, frames: u64, changes: &[&str]) {
    run::register_elements().unwrap();
    // Nobody reads it: what does not fit into it is dropped by the system, and nothing is refused.
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut line = launch_line(input, codec, size, receiver.local_addr().unwrap().port());
    for change in changes {
        let (from, to) = change.split_once("=>").unwrap();
        assert!(line.contains(from), "'{from}' is not in {line}");
        line = line.replace(from, to);
    }
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();

    let timeline = Timeline::default();
    let (send, done) = mpsc::channel();
    let source = pad(&pipeline, |name| matches!(name, "cvmmapsrc" | "videotestsrc"), "src").unwrap();
    let times = timeline.clone();
    let origin_of = {
        let kind = input.text();
        move |pad: &gst::Pad, buffer: &gst::BufferRef, running| {
            origin(Input::parse(&kind), pad, buffer, running)
        }
    };
    let seen = std::sync::atomic::AtomicU64::new(0);
    source.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let now = clock_now();
        let buffer = info.buffer().unwrap();
        let seen = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if seen == WARM_UP || seen == WARM_UP + frames {
            let _ = send.send((cpu_ns(), buffer.offset()));
        }
        if (WARM_UP..WARM_UP + frames).contains(&seen) {
            let running = running_time(pad, buffer).unwrap();
            let [captured, begun] = origin_of(pad, buffer, running);
            times.lock().unwrap().insert(running, [captured, begun, now, 0, 0, 0, 0]);
        }
        gst::PadProbeReturn::Ok
    });
    let encoder = |name: &str| name.starts_with("x26");
    for (pad, place) in [
        (pad(&pipeline, |name| name == "queue", "src"), TAKEN),
        (pad(&pipeline, encoder, "sink"), CONVERTED),
        (pad(&pipeline, encoder, "src"), ENCODED),
        (pad(&pipeline, |name| name == "udpsink", "sink"), HANDED),
    ] {
        pad.iter().for_each(|pad| watch(pad, &timeline, place));
    }
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = Duration::from_secs(120);
    let (cpu_before, offset_before) = done.recv_timeout(patience).unwrap();
    let (cpu, offset) = done.recv_timeout(patience).unwrap();
    // What is on its way.
    std::thread::sleep(Duration::from_millis(300));
    pipeline.set_state(gst::State::Null).unwrap();

    let timeline = timeline.lock().unwrap();
    let last = if codec == "none" { PUSHED } else { HANDED };
    let whole: Vec<_> = timeline.values().filter(|times| times[last] > 0).collect();
    for (_, from, to) in WAYS {
        let mut values: Vec<u64> = whole.iter().map(|times| times[to].saturating_sub(times[from])).collect();
        print!("{} {} ", percentile(&mut values, 50), percentile(&mut values, 99));
    }
    let published = (offset - offset_before) as f64;
    println!(
        "{} {} {}",
        (cpu - cpu_before) as f64 / frames as f64,
        1.0 - frames as f64 / published,
        1.0 - whole.len() as f64 / frames as f64
    );
}

/// Medians of several runs of a pipeline.
#[derive(Default)]
struct Runs(Vec<Vec<f64>>);

impl Runs {
    fn add(&mut self, input: Input, codec: &str, size: &str, frames: u64, changes: &[&str]) {
        let (input, frames) = (input.text(), frames.to_string());
        let args = ["child-play", &input, codec, size, &frames];
        self.0.push(Peer::new(&[&args[..], changes].concat()).outputs());
    }

    fn of(&self, column: usize) -> f64 {
        median(&mut self.0.iter().map(|run| run[column]).collect::<Vec<_>>())
    }

    fn p50(&self, way: usize) -> f64 {
        self.of(way * 2) / 1e6
    }

    fn p99(&self, way: usize) -> f64 {
        self.of(way * 2 + 1) / 1e6
    }

    fn cpu(&self) -> f64 {
        self.of(WAYS.len() * 2) / 1e6
    }

    /// In percent: before the source, and behind it.
    fn lost(&self) -> [f64; 2] {
        [1, 2].map(|column| self.of(WAYS.len() * 2 + column) * 100.0)
    }

    /// A row of the table that [`head`] begins.
    fn print(&self, what: &str) {
        let ways = (0..WAYS.len()).map(|way| format!("{:.2} / {:.2}", self.p50(way), self.p99(way)));
        let [source, queue] = self.lost();
        let ways: Vec<String> = ways.collect();
        println!("| {what} | {} | {:.2} | {source:.1} + {queue:.1} |", ways.join(" | "), self.cpu());
    }
}

fn head(title: &str) {
    println!(
        "\n{title}; p50 / p99 in ms, CPU in ms per frame, lost before and behind the source in percent\n"
    );
    let ways: Vec<&str> = WAYS.iter().map(|(name, ..)| *name).collect();
    println!("| pictures of | {} | CPU | lost |", ways.join(" | "));
    println!("|{}", "---|".repeat(WAYS.len() + 3));
}

fn verdicts() {
    println!("\n| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
}

fn in_ms(value: f64) -> String {
    format!("{value:.3} ms")
}

/// A row of what a source adds, in percent of a frame's time.
fn share(what: &str, ours: f64, peer: Option<f64>) {
    let added = ours - peer.unwrap_or_default();
    let peer = peer.map(in_ms).unwrap_or_default();
    row(what, &in_ms(ours), &peer, added / FRAME_MS * 100.0, SHARE);
}

fn latency() {
    head(&format!("H.264 at {FPS} fps"));
    let mut all = Vec::new();
    for size in SIZES {
        let (mut ours, mut peer, mut simulated) = (Runs::default(), Runs::default(), Runs::default());
        for _ in 0..RUNS {
            let producer = camera(size);
            ours.add(Input::Camera(&producer.name), "h264", size, MEASURED, &[]);
            drop(producer);
            peer.add(Input::TestSource, "h264", size, MEASURED, &[]);
            let producer = simulator(size, FPS);
            simulated.add(Input::Simulator(&producer.name), "h264", size, MEASURED, &[]);
        }
        ours.print(&format!("{size}, a producer of videotestsrc's pictures"));
        peer.print(&format!("{size}, videotestsrc is-live=true"));
        simulated.print(&format!("{size}, `cvmmap-streamer sim`"));
        all.push((size, ours, peer, simulated));
    }
    println!(
        "\nRatios are percent of a frame's time ({FRAME_MS:.1} ms), of what stands beside no peer or of the difference."
    );
    verdicts();
    for (size, ours, peer, simulated) in &all {
        share(&format!("{size} publication -> pushed, p50"), ours.p50(SOURCE), None);
        share(&format!("{size} `sim`: announcement -> pushed, p50"), simulated.p50(SOURCE), None);
        let total = |runs: &Runs| runs.p50(FROM_PUBLICATION);
        share(
            &format!("{size} publication -> last packet, beside videotestsrc's due time -> last packet, p50"),
            total(ours),
            Some(total(peer)),
        );
        share(
            &format!("{size} CPU per frame of the process, beside videotestsrc"),
            ours.cpu(),
            Some(peer.cpu()),
        );
    }
}

fn h265() {
    head(&format!("H.265 at {FPS} fps, one run"));
    for size in &SIZES[..2] {
        let (mut ours, mut peer) = (Runs::default(), Runs::default());
        let producer = camera(size);
        ours.add(Input::Camera(&producer.name), "h265", size, MEASURED / 2, &[]);
        drop(producer);
        peer.add(Input::TestSource, "h265", size, MEASURED / 2, &[]);
        ours.print(&format!("{size}, a producer of videotestsrc's pictures"));
        peer.print(&format!("{size}, videotestsrc is-live=true"));
    }
}

/// The sources alone.
fn source() {
    verdicts();
    for size in SIZES {
        let (mut ours, mut peer) = (Runs::default(), Runs::default());
        for _ in 0..RUNS {
            let producer = camera(size);
            ours.add(Input::Camera(&producer.name), "none", size, MEASURED / 2, &[]);
            drop(producer);
            peer.add(Input::TestSource, "none", size, MEASURED / 2, &[]);
        }
        let (ours, peer) = (ours.cpu(), peer.cpu());
        // Whole, since the peer spends its on drawing.
        let share = ours / FRAME_MS * 100.0;
        let what = format!("{size} CPU per frame of `cvmmapsrc ! fakesink`, whole, beside videotestsrc's");
        row(&what, &in_ms(ours), &in_ms(peer), share, SHARE);
    }
}

/// A changed launch line beside what ships, in turn.
fn with(changes: &[&str]) {
    head(&changes.join(" "));
    for size in SIZES {
        let (mut ships, mut other) = (Runs::default(), Runs::default());
        for _ in 0..RUNS {
            let producer = camera(size);
            let input = Input::Camera(&producer.name);
            ships.add(input, "h264", size, MEASURED, &[]);
            other.add(input, "h264", size, MEASURED, changes);
        }
        ships.print(&format!("{size}, as it ships"));
        other.print(&format!("{size}, {}", changes.join(" ")));
    }
}

// Several cameras

/// What a streamer said of itself, and its CPU time then.
struct Status {
    cpu_ns: u64,
    encoded: u64,
    lost: u64,
    latency_ms: f64,
}

/// The first status after the warm-up, and the last one.
type Span = Option<[Status; 2]>;

fn follow(streamer: &mut Peer) -> std::thread::JoinHandle<Span> {
    let pid = streamer.0.id();
    let lines = BufReader::new(streamer.0.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        let mut span: (Option<Status>, Option<Status>) = (None, None);
        for line in lines.map_while(Result::ok) {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            if value["type"] != "status" || value["seconds"].as_f64() < Some(CAMERA_WARM_UP) {
                continue;
            }
            let number = |value: &serde_json::Value| value.as_u64().unwrap();
            let dropped = &value["dropped"];
            let status = Status {
                cpu_ns: cpu_ns_of(pid),
                encoded: number(&value["frames_encoded"]),
                lost: number(&dropped["source"]) + number(&dropped["queue"]),
                latency_ms: value["latency_ms"]["p50"].as_f64().unwrap_or(f64::NAN),
            };
            if span.0.is_none() {
                span.0 = Some(status);
            } else {
                span.1 = Some(status);
            }
        }
        Some([span.0?, span.1?])
    })
}

/// CPU in ms per frame, p50 of latency in ms, and lost frames in percent, as the means of so many cameras.
fn together(count: usize, fps: u32) -> [f64; 3] {
    let producers: Vec<CvMmapPeer> = (0..count).map(|_| simulator("1280x720", fps)).collect();
    let receivers: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut streamers: Vec<Peer> = producers
        .iter()
        .zip(&receivers)
        .map(|(producer, receiver)| {
            let mut run = Command::new(STREAMER);
            run.args(["run", "--uri", &producer.name, "--codec", "h264", "--encoder", "software"]);
            run.args(["--fps", &fps.to_string(), "--json", "--rtp", "--rtp-endpoint"]);
            run.arg(receiver.local_addr().unwrap().to_string());
            Peer(run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
        })
        .collect();
    let threads: Vec<_> = streamers.iter_mut().map(follow).collect();
    std::thread::sleep(Duration::from_secs_f64(CAMERA_WARM_UP + CAMERA_SECONDS + 1.5));
    drop(streamers);
    let mut sums = [0.0; 3];
    for thread in threads {
        let [before, after] = thread.join().unwrap().expect("a streamer that runs");
        let (encoded, lost) = (after.encoded - before.encoded, after.lost - before.lost);
        sums[0] += (after.cpu_ns - before.cpu_ns) as f64 / 1e6 / encoded as f64;
        sums[1] += after.latency_ms;
        sums[2] += lost as f64 * 100.0 / (encoded + lost) as f64;
    }
    sums.map(|sum| sum / count as f64)
}

fn cameras(fps: u32) {
    let mut runs = CAMERAS.map(|_| Vec::new());
    for _ in 0..RUNS {
        for (runs, count) in runs.iter_mut().zip(CAMERAS) {
            runs.push(together(count, fps));
        }
    }
    let of = |camera: usize, column: usize| {
        median(&mut runs[camera].iter().map(|run: &[f64; 3]| run[column]).collect::<Vec<_>>())
    };
    println!("\n`cvmmap-streamer run` of 1280x720 at {fps} fps from `cvmmap-streamer sim`, all processes\n");
    println!("| cameras | CPU in ms per frame of each | capture to packet, p50 in ms | lost in percent |");
    println!("|---|---|---|---|");
    for (n, count) in CAMERAS.iter().enumerate() {
        println!("| {count} | {:.2} | {:.2} | {:.1} |", of(n, 0), of(n, 1), of(n, 2));
    }
    verdicts();
    for (n, count) in CAMERAS.iter().enumerate().skip(1) {
        let what = format!("CPU per frame of each of {count} cameras, beside one alone");
        row(&what, &in_ms(of(n, 0)), &in_ms(of(0, 0)), of(n, 0) / of(0, 0), 1.1);
    }
}
