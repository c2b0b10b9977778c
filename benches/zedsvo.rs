// SPDX-License-Identifier: MPL-2.0

//! What a ZED recording costs: `zedsvosrc output=encoded` beside `cat`, decoded output beside the same decoder on the bare
//! bitstream. All files are read once before, so that they lie in memory. Run with `make bench`; the last results are in
//! `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{median, row};
use gst::prelude::*;
use svo2::{Codec, Header, Kind, Layout, Writer, nal};

const RUNS: usize = 9;
/// Both pictures of 720p, side by side.
const SIZE: (u32, u32) = (2560, 720);
const FPS: u64 = 30;
/// Encoded once, and repeated.
const ENCODED: usize = 60;
const GOP: u32 = 30;
const REPEATED: usize = 60;
/// Frames that are decoded.
const DECODED: usize = 4 * ENCODED;

fn main() {
    gst::init().unwrap();
    gstzedsvo::plugin_register_static().unwrap();
    let folder = tempfile::tempdir().unwrap();
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for codec in [Codec::H264, Codec::H265] {
        let units = encode(codec);
        let tape = record(folder.path(), codec, &units);
        let bare = folder.path().join(format!("bare.{}", codec.name()));
        std::fs::write(&bare, units.iter().cycle().take(DECODED).flatten().copied().collect::<Vec<u8>>())
            .unwrap();
        encoded(codec, &tape);
        for view in ["side-by-side", "left"] {
            decoded(codec, &tape, &bare, view);
        }
    }
}

fn encoded(codec: Codec, tape: &Path) {
    let mib = tape.metadata().unwrap().len() >> 20;
    let line = format!("zedsvosrc location={} output=encoded ! fakesink sync=false", tape.display());
    let cat = || time_of(Command::new("cat").arg(tape).stdout(Stdio::null()));
    compare(
        &format!(
            "NULL to EOS of output=encoded ! fakesink, opening included, {codec}, {mib} MiB / cat of the file"
        ),
        || play_whole(&line),
        cat,
        1.2,
    );
    compare(
        &format!("PLAYING to EOS of output=encoded ! fakesink, {codec}, {mib} MiB / cat of the file"),
        || play(&line),
        cat,
        1.2,
    );
    let plugins = plugins();
    let launched = |line: &str| {
        let mut launch = Command::new("gst-launch-1.0");
        launch.arg("-q").args(line.split_whitespace()).stdout(Stdio::null());
        launch.env("GST_PLUGIN_PATH", &plugins).env("GST_REGISTRY", plugins.join("registry.bin"));
        // Once for the registry.
        time_of(&mut launch);
        launch
    };
    let mut launch = launched(&line);
    // What the program costs by itself, with as many buffers.
    let mut bare =
        launched(&format!("filesrc location={} blocksize=262144 ! fakesink sync=false", tape.display()));
    compare(
        &format!("the whole of gst-launch-1.0 with it, {codec}, {mib} MiB / with filesrc in its place"),
        || time_of(&mut launch),
        || time_of(&mut bare),
        1.2,
    );
    compare(
        &format!("the whole of gst-launch-1.0 with it, {codec}, {mib} MiB / cat of the file"),
        || time_of(&mut launch),
        cat,
        1.2,
    );
}

fn decoded(codec: Codec, tape: &Path, bare: &Path, view: &str) {
    let decoder = format!("avdec_{}", codec.name());
    let ours = format!(
        "zedsvosrc location={} view={view} decoder={decoder} end-frame={} ! fakesink sync=false",
        tape.display(),
        DECODED - 1
    );
    let peer = format!(
        "filesrc location={} ! {}parse ! {decoder} ! fakesink sync=false",
        bare.display(),
        codec.name()
    );
    compare(
        &format!("decoded, view={view}, {codec} / filesrc ! {}parse ! {decoder} ! fakesink", codec.name()),
        || play(&ours),
        || play(&peer),
        1. / 0.95,
    );
}

/// Medians of runs in turn.
fn compare(what: &str, mut ours: impl FnMut() -> f64, mut peer: impl FnMut() -> f64, limit: f64) {
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for run in 0..=RUNS {
        let times = (ours(), peer());
        // The first brings files and code into memory.
        if run > 0 {
            of_ours.push(times.0);
            of_peer.push(times.1);
        }
    }
    let mut ratios = of_ours.iter().zip(&of_peer).map(|(ours, peer)| ours / peer).collect::<Vec<_>>();
    let ms = |times: &mut [f64]| format!("{:.1} ms", median(times) * 1e3);
    row(what, &ms(&mut of_ours), &ms(&mut of_peer), median(&mut ratios), limit);
}

fn time_of(command: &mut Command) -> f64 {
    let begin = Instant::now();
    assert!(command.status().unwrap().success(), "{command:?}");
    begin.elapsed().as_secs_f64()
}

/// Seconds from PLAYING to EOS.
fn play(line: &str) -> f64 {
    let pipeline = gst::parse::launch(line).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(gst::ClockTime::NONE).0.unwrap();
    let begin = Instant::now();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &kinds).unwrap();
    let elapsed = begin.elapsed().as_secs_f64();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    elapsed
}

/// Seconds from NULL to EOS.
fn play_whole(line: &str) -> f64 {
    let pipeline = gst::parse::launch(line).unwrap();
    let bus = pipeline.bus().unwrap();
    let begin = Instant::now();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::NONE, &kinds).unwrap();
    let elapsed = begin.elapsed().as_secs_f64();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    elapsed
}

/// A folder with nothing but our plugin, of this build.
fn plugins() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here.parent().and_then(Path::parent).unwrap();
    let library = "libgstzedsvo.so";
    let folder = profile.join("gstreamer-bench");
    std::fs::create_dir_all(&folder).unwrap();
    let newest = [profile.join(library), profile.join("deps").join(library)];
    let newest = newest
        .into_iter()
        .filter(|path| path.exists())
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    std::fs::copy(newest.expect("the plugin is built"), folder.join(library)).unwrap();
    folder
}

/// Access units of a picture that does not compress well.
fn encode(codec: Codec) -> Vec<Vec<u8>> {
    let (encoder, name) = match codec {
        Codec::H264 => ("x264enc speed-preset=ultrafast bitrate=30000 tune=zerolatency", "h264"),
        Codec::H265 => ("x265enc speed-preset=ultrafast bitrate=30000 tune=zerolatency", "h265"),
    };
    let (width, height) = SIZE;
    let line = format!(
        "videotestsrc num-buffers={ENCODED} pattern=snow ! video/x-raw,format=I420,width={width},height={height},framerate={FPS}/1 \
         ! {encoder} key-int-max={GOP} ! {name}parse config-interval=-1 ! video/x-{name},stream-format=byte-stream,alignment=au \
         ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Bin>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let units = std::iter::from_fn(|| sink.pull_sample().ok());
    let units = units.map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec()).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    units
}

fn record(folder: &Path, codec: Codec, units: &[Vec<u8>]) -> PathBuf {
    let path = folder.join(format!("{}.svo2", codec.name()));
    let header = Header { width: SIZE.0, height: SIZE.1, fps: FPS as u32, serial: 1, ..Header::default() };
    let out = BufWriter::new(File::create(&path).unwrap());
    let mut writer = Writer::new(out, header, &Layout::default()).unwrap();
    let step = Duration::from_secs(1).as_nanos() as u64 / FPS;
    for (number, unit) in (0..).zip(units.iter().cycle().take(REPEATED * units.len())) {
        let key = matches!(nal::kind(codec, unit), Some(Kind::Entry { .. }));
        writer.frame(1_700_000_000_000_000_000 + number * step, unit, key).unwrap();
    }
    writer.finish().unwrap();
    path
}
