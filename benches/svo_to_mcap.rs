// SPDX-License-Identifier: MPL-2.0

//! What `svo-to-mcap --view side-by-side` costs: copying a recording's bitstream beside `cp` of the same file on the same
//! file system, and memory against the length of the recording. Medians of several runs in turn, of whole processes, from a
//! warm cache. The last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;

use common::recordings::{GOP, record, run, timed, units};
use common::{median, peak_of_children, row};

const RUNS: usize = 7;
/// Frames of the short recording, of which the long one has many more.
const SHORT: usize = 100;

fn main() {
    gst::init().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for codec in ["h264", "h265"] {
        let units = units(codec, "snow", GOP);
        // Before processes that need more: of all of them, the most is told.
        if codec == "h264" {
            memory(folder.path(), &units);
        }
        copies(folder.path(), codec, &units);
    }
}

/// Peaks only ever grow, so the short recording comes first.
fn memory(folder: &Path, units: &[Vec<u8>]) {
    let (input, output) = (folder.join("a.svo2"), folder.join("a.mcap"));
    let [short, long] = [SHORT, usize::MAX].map(|frames| {
        let frames = record(&input, units, frames);
        timed(&output, || run(&mut streamer(&input, &output, "zstd")));
        (frames, peak_of_children())
    });
    let mb = |(_, bytes): (usize, u64)| format!("{:.1} MB", bytes as f64 / 1e6);
    let what = format!("peak memory with {} frames, beside that with {}", long.0, short.0);
    row(&what, &mb(long), &mb(short), long.1 as f64 / short.1 as f64, 1.1);
}

fn copies(folder: &Path, codec: &str, units: &[Vec<u8>]) {
    let (input, output) = (folder.join("a.svo2"), folder.join("a.mcap"));
    let frames = record(&input, units, usize::MAX);
    let bytes = input.metadata().unwrap().len();
    let mut ours = ["zstd", "none"].map(|compression| streamer(&input, &output, compression));
    let mut cp = Command::new("cp");
    cp.args(["--reflink=never"]).args([&input, &output]);
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..RUNS {
        times[0].push(timed(&output, || run(&mut ours[0])));
        times[1].push(timed(&output, || run(&mut ours[1])));
        times[2].push(timed(&output, || run(&mut cp)));
    }
    let [zstd, none, cp] = times.each_mut().map(|times| median(times));
    let s = |seconds: f64| format!("{seconds:.2} s");
    // At least half of the speed.
    let limit = 1.0 / 0.5;
    for (compression, ours) in [("zstd", zstd), ("none", none)] {
        let what = format!(
            "copy of {} MB, {frames} frames of {codec}, compression {compression}",
            bytes / 1_000_000
        );
        row(&format!("{what}, beside cp"), &s(ours), &s(cp), ours / cp, limit);
    }
    std::fs::remove_file(input).unwrap();
}

fn streamer(input: &Path, output: &Path, compression: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvmmap-streamer"));
    command.args(["svo-to-mcap", "--view", "side-by-side", "--mcap-compression", compression]);
    command.arg("--input").arg(input).arg("--output").arg(output);
    command
}
