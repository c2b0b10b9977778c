// SPDX-License-Identifier: MPL-2.0

//! What `svo-to-mp4` costs: `--copy` beside `cp` of the same file on the same file system, and beside the stock elements
//! behind zedsvosrc; and encoding beside a bare pipeline of the same elements on the bare stream. Medians of several
//! runs in turn, of whole processes, from a warm cache. The last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;

use common::recordings::{GOP, SIZE, record, run, timed, units};
use common::{median, row};
use gst::prelude::*;

const RUNS: usize = 7;
/// Pictures that are encoded again.
const ENCODED: usize = 150;

fn main() {
    gst::init().unwrap();
    gstzedsvo::plugin_register_static().unwrap();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // For a profiler: the recording alone.
    if let [make, codec, path] = &args[..] {
        assert_eq!(make, "make", "no such benchmark");
        record(path.as_ref(), &units(codec, "snow", GOP), usize::MAX);
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for codec in ["h264", "h265"] {
        copies(folder.path(), codec);
    }
    encoded(folder.path());
}

fn copies(folder: &Path, codec: &str) {
    let (input, output) = (folder.join("a.svo2"), folder.join("a.out"));
    let units = units(codec, "snow", GOP);
    let frames = record(&input, &units, usize::MAX);
    let bytes = input.metadata().unwrap().len();
    let what = format!("{} MB, {frames} frames of {codec}", bytes / 1_000_000);
    let mut copy = streamer(&input, &output, &["--copy"]);
    let mut cp = Command::new("cp");
    cp.args(["--reflink=never"]).args([&input, &output]);
    let mut stock = stock(&input, &output, codec);
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..RUNS {
        times[0].push(timed(&output, || run(&mut copy)));
        times[1].push(timed(&output, || run(&mut cp)));
        times[2].push(timed(&output, &mut stock));
    }
    let [ours, cp, stock] = times.each_mut().map(|times| median(times));
    let s = |seconds: f64| format!("{seconds:.2} s");
    // At least 0.7 of the speed.
    let limit = 1.0 / 0.7;
    row(&format!("--copy of {what}, beside cp"), &s(ours), &s(cp), ours / cp, limit);
    println!(
        "| for information: zedsvosrc ! {codec}parse ! mp4mux ! filesink, beside cp | {} | {} | {:.2} | | |",
        s(stock),
        s(cp),
        stock / cp
    );
    std::fs::remove_file(input).unwrap();
}

/// The pipeline that a user would write; it does not wait for the disk.
fn stock(input: &Path, output: &Path, codec: &str) -> impl FnMut() + use<> {
    let line = format!(
        "zedsvosrc location={} output=encoded ! {codec}parse ! mp4mux ! filesink location={}",
        input.display(),
        output.display()
    );
    move || play(&line)
}

fn encoded(folder: &Path) {
    let (input, stream, output) = (folder.join("b.svo2"), folder.join("b.h264"), folder.join("b.mp4"));
    let units = units("h264", "ball", ENCODED);
    record(&input, &units, ENCODED);
    std::fs::write(&stream, units.concat()).unwrap();
    let flags = ["--codec", "h264", "--encoder-device", "software", "--preset", "fast"];
    let mut ours = streamer(&input, &output, &flags);
    let bare = format!(
        "filesrc location={} ! h264parse ! avdec_h264 ! queue ! videocrop right={} ! x264enc speed-preset=veryfast \
         key-int-max=60 pass=qual quantizer=21 bframes=0 ! h264parse ! mp4mux ! filesink location={}",
        stream.display(),
        SIZE.0 / 2,
        output.display()
    );
    let mut times = [vec![], vec![]];
    for _ in 0..RUNS {
        times[0].push(timed(&output, || run(&mut ours)));
        times[1].push(timed(&output, || play(&bare)));
    }
    let [ours, bare] = times.each_mut().map(|times| median(times));
    let fps = |seconds: f64| format!("{:.0} fps", ENCODED as f64 / seconds);
    println!(
        "| for information: {ENCODED} frames of 1280x720 by x264, beside the bare pipeline on the bare stream | {} | {} | {:.2} | | |",
        fps(ours),
        fps(bare),
        ours / bare
    );
}

fn streamer(input: &Path, output: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvmmap-streamer"));
    command.arg("svo-to-mp4").args(flags).arg("--input").arg(input).arg("--output").arg(output);
    command
}

fn play(line: &str) {
    let pipeline = gst::parse::launch(line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::NONE, &kinds).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}
