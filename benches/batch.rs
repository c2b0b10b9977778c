// SPDX-License-Identifier: MPL-2.0

//! What more jobs bring: `batch svo-to-mp4 --jobs 2` on two cores beside one job on one core and beside `--jobs 1` on both,
//! where one encoder takes what the other core has to give. Medians of several runs in turn, of whole processes, from a
//! warm cache. The last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{median, row};
use gst::prelude::*;
use svo2::{Header, Layout, Writer};

const RUNS: usize = 5;
const RECORDINGS: usize = 6;
const FRAMES: usize = 60;
/// Of both views.
const SIZE: (u32, u32) = (1920, 600);
/// As fast as wanted.
const FASTER: f64 = 1.8;

fn main() {
    gst::init().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let recording = folder.path().join("0.svo2");
    record(&recording);
    for number in 1..RECORDINGS {
        std::fs::copy(&recording, folder.path().join(format!("{number}.svo2"))).unwrap();
    }
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for flags in [["--codec", "h264", "--preset", "fast"], ["--codec", "h265", "--preset", "fast"]] {
        encoded(folder.path(), &flags);
    }
    copied(folder.path());
}

fn encoded(folder: &Path, flags: &[&str]) {
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..RUNS {
        times[0].push(timed(folder, flags, "2", &[]));
        times[1].push(timed(folder, flags, "1", &["taskset", "--cpu-list", "0"]));
        times[2].push(timed(folder, flags, "1", &[]));
    }
    let [two, one_core, one] = times.each_mut().map(|times| median(times));
    let what = format!("{RECORDINGS} recordings of {FRAMES} frames, {}", flags.join(" "));
    let fps = |seconds: f64| format!("{:.0} fps", (RECORDINGS * FRAMES) as f64 / seconds);
    let more = format!("two jobs on two cores beside one on one: {what}");
    row(&more, &fps(two), &fps(one_core), two / one_core, 1.0 / FASTER);
    println!(
        "| for information: two jobs beside one whose encoder has both cores: {what} | {} | {} | {:.2} | | |",
        fps(two),
        fps(one),
        two / one
    );
}

fn copied(folder: &Path) {
    let mut times = [vec![], vec![]];
    for _ in 0..RUNS {
        times[0].push(timed(folder, &["--copy"], "2", &[]));
        times[1].push(timed(folder, &["--copy"], "1", &[]));
    }
    let [two, one] = times.each_mut().map(|times| median(times) / RECORDINGS as f64);
    let each = |seconds: f64| format!("{:.0} ms a file", seconds * 1e3);
    println!(
        "| for information: two jobs beside one, --copy of {RECORDINGS} recordings | {} | {} | {:.2} | | |",
        each(two),
        each(one),
        two / one
    );
}

/// Seconds; every run begins with nothing waiting for the disk.
fn timed(folder: &Path, flags: &[&str], jobs: &str, before: &[&str]) -> f64 {
    let program = [before, &[env!("CARGO_BIN_EXE_cvmmap-streamer"), "batch", "svo-to-mp4"]].concat();
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(folder).args(["--overwrite", "--jobs", jobs]).args(flags);
    command.env("XDG_STATE_HOME", folder.join("state"));
    rustix::fs::sync();
    let started = Instant::now();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    started.elapsed().as_secs_f64()
}

/// Writes a recording of a moving pattern that is not all too easy for an encoder.
fn record(path: &Path) {
    let (width, height) = SIZE;
    let line = format!(
        "videotestsrc pattern=zone-plate kx2=12 ky2=12 kt=3 num-buffers={FRAMES} \
         ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
         ! x264enc speed-preset=veryfast key-int-max=30 pass=qual quantizer=20 bframes=0 ! h264parse config-interval=-1 \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let header = Header { width, height, serial: 1, fps: 30, ..Header::default() };
    let out = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = Writer::new(out, header, &Layout::default()).unwrap();
    for (number, sample) in std::iter::from_fn(|| sink.pull_sample().ok()).enumerate() {
        let buffer = sample.buffer().unwrap();
        let time = 1_700_000_000_000_000_000 + number as u64 * 33_333_333;
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        writer.frame(time, &buffer.map_readable().unwrap(), key).unwrap();
    }
    writer.finish().unwrap().into_inner().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
}
