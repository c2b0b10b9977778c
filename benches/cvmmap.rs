// SPDX-License-Identifier: MPL-2.0

//! What is fast, each number beside its peer in one run, as medians of several runs.
//!
//! Producers are processes of their own on the second core and pace their frames: a hot loop would flatter by 4 to 5
//! times. Run with `make bench`; the last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{CvMmapPeer, Peer, median, ms, percentile, pin, row, unique, usage};
use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_ipc::{
    Coherence, Event, FrameId, Metadata, Plane, PlaneKind, Producer, Reader, ReaderConfig, Target, Verdict,
    Version,
};
use gst::prelude::*;

const CONSUMER_CORE: usize = 0;
const PRODUCER_CORE: usize = 1;
const RUNS: usize = 5;
/// The frame's private copies that the producer publishes in turn.
const RENDERED: u8 = 4;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child-producer", target, size, fps] => produce(target, size, fps),
        ["child-shm-producer", socket, size, fps] => produce_shm(socket, size, fps),
        ["child-cpu-cvmmap", target, frames] => cpu_cvmmap(target, frames.parse().unwrap()),
        ["child-cpu-shm", socket, size, frames] => cpu_shm(socket, size, frames.parse().unwrap()),
        ["soak"] => soak(20_000),
        [] => all(),
        _ => panic!("no such benchmark: {args:?}"),
    }
}

fn all() {
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for (size, verify_limit) in [(BGR720, 1.15), (BGR1080, 1.15), (BGRA2160, 1.35)] {
        snapshot(size, verify_limit);
    }
    latency();
    cpu();
    soak(20_000);
}

/// A picture as `WIDTHxHEIGHTxCHANNELS`.
type Size = &'static str;
const BGR720: Size = "1280x720x3";
const BGR1080: Size = "1920x1080x3";
const BGRA2160: Size = "3840x2160x4";

fn dimensions(size: &str) -> [u32; 3] {
    let parts: Vec<u32> = size.split('x').map(|part| part.parse().unwrap()).collect();
    parts.try_into().unwrap()
}

fn bytes(size: &str) -> usize {
    dimensions(size).iter().map(|side| *side as usize).product()
}

fn producer(size: Size, fps: &str) -> CvMmapPeer {
    CvMmapPeer::new("bench", |name| Peer::new(&["child-producer", name, size, fps]))
}

/// A shmsink in a process of its own.
struct ShmPeer {
    socket: String,
    process: Peer,
}

impl ShmPeer {
    fn new(size: Size, fps: &str) -> Self {
        let socket = std::env::temp_dir().join(unique("shm")).display().to_string();
        let process = Peer::new(&["child-shm-producer", &socket, size, fps]);
        while !std::fs::exists(&socket).unwrap() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { socket, process }
    }
}

impl Drop for ShmPeer {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let _ = std::fs::remove_file(&self.socket);
        // shmsink names its segment after its process.
        let prefix = format!("shmpipe.{:5}.", self.process.0.id());
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

// Producers

/// The last 16 bytes of a payload: when the frame was handed over in private memory, and when it was announced.
fn stamps(payload: &[u8]) -> [u64; 2] {
    let tail = payload.last_chunk::<16>().unwrap();
    let (tail, _) = tail.as_chunks::<8>();
    [u64::from_le_bytes(tail[0]), u64::from_le_bytes(tail[1])]
}

fn pace(fps: &str, mut publish: impl FnMut(u32)) {
    let interval = Duration::from_secs_f64(1.0 / fps.parse::<f64>().unwrap());
    let mut due = Instant::now();
    for n in 1u32.. {
        // As a camera does, which has no frames to catch up with when the machine was held up.
        due = (due + interval).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        publish(n);
    }
}

fn produce(target: &str, size: &str, fps: &str) {
    pin(PRODUCER_CORE);
    let target: Target = target.parse().unwrap();
    let [width, height, channels] = dimensions(size);
    let format = if channels == 4 { PixelFormat::Bgra } else { PixelFormat::Bgr };
    let plane = Plane::packed(PlaneKind::Left, format, Depth::U8, width, height).unwrap();
    let rendered: Vec<Vec<u8>> = (0..RENDERED).map(|value| vec![value; bytes(size)]).collect();
    let mut producer = Producer::create(&target, bytes(size)).unwrap();
    pace(fps, |count| {
        let picture = &rendered[count as usize % rendered.len()];
        let handed_over = unix_now_ns();
        let metadata = Metadata::new(Version::V1, FrameId { count, timestamp_ns: handed_over }, [plane]);
        let mut frame = producer.begin(&metadata).unwrap();
        frame.write(0, &picture[..picture.len() - 16]).unwrap();
        frame.write(picture.len() - 16, &handed_over.to_le_bytes()).unwrap();
        frame.write(picture.len() - 8, &unix_now_ns().to_le_bytes()).unwrap();
        frame.commit().unwrap();
    });
}

fn produce_shm(socket: &str, size: &str, fps: &str) {
    pin(PRODUCER_CORE);
    gst::init().unwrap();
    let memory = bytes(size) * 8;
    let line = format!(
        "appsrc name=src ! shmsink socket-path={socket} shm-size={memory} sync=false wait-for-connection=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("src").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let rendered: Vec<gst::Buffer> =
        (0..RENDERED).map(|value| gst::Buffer::from_mut_slice(vec![value; bytes(size)])).collect();
    let mut rendered: Vec<Option<gst::Buffer>> = rendered.into_iter().map(Some).collect();
    pace(fps, |count| {
        let slot = count as usize % rendered.len();
        let mut buffer = rendered[slot].take().unwrap();
        {
            let mut map = buffer.make_mut().map_writable().unwrap();
            let at = map.len() - 16;
            map[at..at + 8].copy_from_slice(&unix_now_ns().to_le_bytes());
        }
        source.push_buffer(buffer.clone()).unwrap();
        rendered[slot] = Some(buffer);
    });
}

// Snapshot against memcpy

/// A bare mapping, as the peer that does nothing about coherence has it.
struct Bare(memmap2::MmapRaw);

impl Bare {
    fn new(target: &str) -> Self {
        let path = format!("/dev/shm/cvmmap_{target}");
        Self(memmap2::MmapOptions::new().map_raw_read_only(&std::fs::File::open(path).unwrap()).unwrap())
    }

    fn copy(&self, to: &mut [u8]) {
        assert!(256 + to.len() <= self.0.len());
        // SAFETY: the range lies inside the mapping; the producer is ours and never shrinks it. Bytes may change
        // meanwhile, and any value is valid for u8.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr().add(256), to.as_mut_ptr(), to.len()) };
    }
}

fn next_arrival(reader: &mut Reader) -> cvmmap_ipc::Arrival {
    match reader.wait(Some(Duration::from_secs(5))).unwrap() {
        Event::Arrival(arrival) => arrival,
        other => panic!("the producer is silent: {other:?}"),
    }
}

/// Each frame is copied by one of the three ways in turn, so that all see equally cold frames.
fn snapshot(size: Size, verify_limit: f64) {
    pin(CONSUMER_CORE);
    let producer = producer(size, "30");
    let name = &producer.name;
    let target: Target = name.parse().unwrap();
    let [mut metadata, mut verify] = [Coherence::Metadata, Coherence::Verify]
        .map(|level| Reader::open(ReaderConfig::new(&target, level)).unwrap());
    let bare = Bare::new(name);
    let mut warm = vec![1; bytes(size)];
    let mut ratios = [Vec::new(), Vec::new()];
    let mut medians = [Vec::new(), Vec::new(), Vec::new()];
    for run in 0..=RUNS {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for frame in 0..90 {
            let arrival = next_arrival(&mut verify);
            let way = frame % 3;
            let start = Instant::now();
            match way {
                0 => bare.copy(&mut warm),
                _ => {
                    let reader = if way == 1 { &mut metadata } else { &mut verify };
                    let mut frame = reader.begin(&arrival).unwrap();
                    let plane = *frame.metadata().plane(PlaneKind::Left).unwrap();
                    let _: Verdict = frame.copy_plane(&plane, &mut warm);
                }
            }
            times[way].push(start.elapsed().as_nanos() as u64);
        }
        // The first run warms up.
        if run > 0 {
            let [bare, metadata, verify] = times.map(|mut times| percentile(&mut times, 50));
            ratios[0].push(metadata as f64 / bare as f64);
            ratios[1].push(verify as f64 / bare as f64);
            for (all, this) in medians.iter_mut().zip([bare, metadata, verify]) {
                all.push(this);
            }
        }
    }
    let [bare, metadata, verify] = medians.map(|mut all| percentile(&mut all, 50));
    let [mut metadata_ratio, mut verify_ratio] = ratios;
    let what = |level: &str| format!("snapshot `{level}` {size} at 30 fps / memcpy of the same frames");
    row(&what("metadata"), &ms(metadata), &ms(bare), median(&mut metadata_ratio), 1.05);
    row(&what("verify"), &ms(verify), &ms(bare), median(&mut verify_ratio), verify_limit);
}

// Latency

/// p50 and p99 of a run's values.
fn summary(values: &Mutex<Vec<u64>>) -> [u64; 2] {
    let mut values = values.lock().unwrap().split_off(10);
    [percentile(&mut values, 50), percentile(&mut values, 99)]
}

/// Plays until this many values were measured where buffers leave the source.
fn play(
    line: &str,
    frames: usize,
    measure: impl Fn(&[u8], u64) -> Option<u64> + Send + Sync + 'static,
) -> [u64; 2] {
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let values = Arc::new(Mutex::new(Vec::new()));
    let kept = values.clone();
    let pad = pipeline.by_name("src").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let now = unix_now_ns();
        let map = info.buffer().unwrap().map_readable().unwrap();
        kept.lock().unwrap().extend(measure(&map, now));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    while values.lock().unwrap().len() < frames {
        std::thread::sleep(Duration::from_millis(50));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    summary(&values)
}

/// A plain thread: ZeroMQ wake-up, then a memcpy into a warm buffer; the two are summed.
fn bare_wake_and_copy(name: &str, frames: usize) -> u64 {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_subscribe(b"").unwrap();
    socket.connect(&format!("ipc:///tmp/cvmmap_{name}")).unwrap();
    let bare = Bare::new(name);
    let mut warm = vec![1; bytes(BGR1080)];
    let mut sums = Vec::new();
    for _ in 0..frames {
        let _ = socket.recv_bytes(0).unwrap();
        let woken = unix_now_ns();
        let start = Instant::now();
        bare.copy(&mut warm);
        let copy = start.elapsed().as_nanos() as u64;
        sums.push(woken.saturating_sub(stamps(&warm)[1]) + copy);
    }
    percentile(&mut sums.split_off(10), 50)
}

fn latency() {
    pin(CONSUMER_CORE);
    gst::init().unwrap();
    gstcvmmap::plugin_register_static().unwrap();
    const FRAMES: usize = 160;
    let mut runs: Vec<[u64; 5]> = Vec::new();
    for _ in 0..RUNS {
        let producer = producer(BGR1080, "30");
        let name = &producer.name;
        let bare = bare_wake_and_copy(name, FRAMES);
        let line = format!("cvmmapsrc name=src uri=cvmmap://{name} ! fakesink sync=false");
        let [p50, p99] = play(&line, FRAMES, |bytes, now| now.checked_sub(stamps(bytes)[1]));
        let [whole, _] = play(&line, FRAMES, |bytes, now| now.checked_sub(stamps(bytes)[0]));
        drop(producer);

        let shm = ShmPeer::new(BGR1080, "30");
        let line = format!("shmsrc name=src socket-path={} is-live=true ! fakesink sync=false", shm.socket);
        let [peer, _] = play(&line, FRAMES, |bytes, now| now.checked_sub(stamps(bytes)[0]));
        drop(shm);
        runs.push([bare, p50, p99, whole, peer]);
    }
    let of = |i: usize| percentile(&mut runs.iter().map(|run| run[i]).collect::<Vec<_>>(), 50);
    let ratio =
        |a: usize, b: usize| median(&mut runs.iter().map(|r| r[a] as f64 / r[b] as f64).collect::<Vec<_>>());
    row(
        "1080p30 publish -> cvmmapsrc's push p50 / paced copy + bare ZeroMQ wake-up",
        &ms(of(1)),
        &ms(of(0)),
        ratio(1, 0),
        1.15,
    );
    row("1080p30 publish -> cvmmapsrc's push p99 / p50", &ms(of(2)), &ms(of(1)), ratio(2, 1), 2.0);
    row(
        "1080p30 publish -> cvmmapsrc's push p50 / push into shmsink -> shmsrc's push",
        &ms(of(1)),
        &ms(of(4)),
        ratio(1, 4),
        1.0,
    );
    println!(
        "| for information: the same from the hand-over in private memory (two copies of ours, one of shmsink) | {} | {} | {:.2} | | |",
        ms(of(3)),
        ms(of(4)),
        ratio(3, 4)
    );
}

// CPU

fn cpu_us() -> f64 {
    let usage = usage();
    let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    us(usage.ru_utime) + us(usage.ru_stime)
}

/// Prints CPU microseconds per frame of a pipeline whose source is `src`, after 10 frames of warm-up.
fn cpu_of(line: &str, frames: u32, mut consume: impl FnMut(&gst::BufferRef) + Send + 'static) {
    pin(CONSUMER_CORE);
    gst::init().unwrap();
    gstcvmmap::plugin_register_static().unwrap();
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let (send, done) = std::sync::mpsc::channel();
    let pad = pipeline.by_name("src").unwrap().static_pad("src").unwrap();
    let consume = Mutex::new((0u32, move |buffer: &gst::BufferRef| consume(buffer)));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let (seen, consume) = &mut *consume.lock().unwrap();
        consume(info.buffer().unwrap());
        *seen += 1;
        if *seen == 10 || *seen == 10 + frames {
            let _ = send.send(cpu_us());
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let before = done.recv().unwrap();
    let after = done.recv().unwrap();
    println!("{}", (after - before) / f64::from(frames));
    // The producer is about to be killed; there is nothing to wait for.
    std::process::exit(0);
}

fn cpu_cvmmap(target: &str, frames: u32) {
    cpu_of(&format!("cvmmapsrc name=src uri=cvmmap://{target} ! fakesink sync=false"), frames, |_| ());
}

fn cpu_shm(socket: &str, size: &str, frames: u32) {
    let mut warm = vec![1; bytes(size)];
    cpu_of(
        &format!("shmsrc name=src socket-path={socket} is-live=true ! fakesink sync=false"),
        frames,
        move |buffer| {
            warm.copy_from_slice(&buffer.map_readable().unwrap());
        },
    );
}

fn cpu() {
    const FRAMES: &str = "150";
    let mut runs: Vec<[f64; 3]> = Vec::new();
    for _ in 0..RUNS {
        let producer = producer(BGR1080, "30");
        let name = &producer.name;
        let ours = Peer::new(&["child-cpu-cvmmap", name, FRAMES]).output();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/python_reader.py");
        let mut python = Command::new("/usr/bin/python3");
        python.arg(script).args([name, FRAMES]).stdout(Stdio::piped());
        let python = Peer(python.spawn().unwrap()).output();
        drop(producer);

        let producer = ShmPeer::new(BGR1080, "30");
        let shm = Peer::new(&["child-cpu-shm", &producer.socket, BGR1080, FRAMES]).output();
        drop(producer);
        runs.push([ours, shm, python]);
    }
    let of = |i: usize| median(&mut runs.iter().map(|run| run[i]).collect::<Vec<_>>());
    let ratio = |i: usize| median(&mut runs.iter().map(|run| run[0] / run[i]).collect::<Vec<_>>());
    let us = |us: f64| format!("{us:.0} us");
    row("1080p30 CPU per frame / shmsrc with a copying reader", &us(of(0)), &us(of(1)), ratio(1), 0.9);
    row("1080p30 CPU per frame / Python with pyzmq and numpy", &us(of(0)), &us(of(2)), ratio(2), 0.5);
}

// Endurance

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 640x360 at 500 fps: what arrives, and what each frame costs in memory and page faults once all is warm.
fn soak(frames: u64) {
    pin(CONSUMER_CORE);
    gst::init().unwrap();
    gstcvmmap::plugin_register_static().unwrap();
    let producer = producer("640x360x3", "500");
    let line = format!("cvmmapsrc name=src uri=cvmmap://{} ! fakesink sync=false", producer.name);
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("src").unwrap();
    let (send, done) = std::sync::mpsc::channel();
    let first = Mutex::new(None);
    let seen = std::sync::atomic::AtomicU64::new(0);
    source.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let offset = info.buffer().unwrap().offset();
        let seen = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if seen == frames / 10 || seen == frames {
            let from = first.lock().unwrap().replace((seen, offset));
            let _ = send.send((usage().ru_minflt, resident_kib(), from, (seen, offset)));
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let (faults, resident, ..) = done.recv().unwrap();
    let (faults_after, resident_after, from, to) = done.recv().unwrap();
    let stats: gst::Structure = source.property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    let from = from.unwrap();
    let (arrived, published) = (to.0 - from.0, to.1 - from.1);
    let missed = 100.0 - arrived as f64 * 100.0 / published as f64;
    row(
        "640x360 at 500 fps: frames not delivered, in percent",
        &format!("{} of {published} missing", published - arrived),
        "",
        missed,
        1.0,
    );
    let per_frame = (faults_after - faults) as f64 / arrived as f64;
    row(
        "page faults per frame in steady state (getrusage)",
        &format!("{} in {arrived} frames", faults_after - faults),
        "",
        per_frame,
        0.01,
    );
    let growth = resident_after.saturating_sub(resident);
    row(
        "memory growth in KiB, from frame 2,000 to 20,000 (one frame has 675)",
        &format!("{resident} -> {resident_after}"),
        "",
        growth as f64,
        675.0,
    );
    eprintln!("{stats}");
}
