// SPDX-License-Identifier: MPL-2.0

//! What `svo-grid-to-mp4` costs: a grid of four cameras beside FFmpeg's filter graph (crop, scale, xstack) and the same
//! encoder with the same settings, on the same bitstreams as MP4. Medians of several runs in turn, of whole processes,
//! from a warm cache; and the memory of ours for a recording that is ten times as long. The last results are in
//! `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{median, row};
use gst::prelude::*;
use svo2::{Header, Layout, Writer};

const RUNS: usize = 5;
/// Of one view.
const SIZE: (u32, u32) = (960, 600);
/// Pictures that are different, and the length of a recording.
const PICTURES: usize = 60;
const FRAMES: usize = 300;
const LONG: usize = 10 * FRAMES;

fn main() {
    gst::init().unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for codec in ["h264", "h265"] {
        let segment = folder.path().join(codec);
        let units = record(&segment, codec, FRAMES);
        beside_ffmpeg(&segment, codec);
        if codec == "h265" {
            memory(folder.path(), &segment, &units);
        }
    }
}

fn beside_ffmpeg(segment: &Path, codec: &str) {
    let output = segment.join("out.mp4");
    let mut ours = streamer(segment, &output);
    let mut peer = ffmpeg(segment, &output);
    let mut times = [vec![], vec![]];
    for _ in 0..RUNS {
        times[0].push(timed(&output, &mut ours));
        times[1].push(timed(&output, &mut peer));
    }
    let [ours, peer] = times.each_mut().map(|times| median(times));
    let (width, height) = SIZE;
    let what = format!(
        "{FRAMES} groups of four cameras of {width}x{height} in {codec}, into {width}x{height} by x264, beside FFmpeg"
    );
    row(&what, &format!("{ours:.2} s"), &format!("{peer:.2} s"), ours / peer, 1.1);
}

/// Peak of the process's memory.
fn memory(folder: &Path, short: &Path, units: &[Vec<u8>]) {
    let long = folder.join("long");
    write(&long, units, LONG);
    let peak = |segment: &Path| {
        let output = segment.join("out.mp4");
        let mut command = streamer(segment, &output);
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        // What the system counted last, before it forgets the process.
        let status = PathBuf::from(format!("/proc/{}/status", process.id()));
        let mut peak = 0.0;
        while process.try_wait().unwrap().is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|kb| kb.parse().ok());
            peak = kb.unwrap_or(0.0f64).max(peak);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(process.wait().unwrap().success());
        peak / 1024.0
    };
    let (ten, one) = (peak(&long), peak(short));
    let mb = |mb: f64| format!("{mb:.0} MiB");
    row(&format!("memory for {LONG} groups, beside {FRAMES}"), &mb(ten), &mb(one), ten / one, 1.1);
}

/// Seconds; every run begins without the file, and with nothing waiting for the disk.
fn timed(output: &Path, command: &mut Command) -> f64 {
    let _ = std::fs::remove_file(output);
    rustix::fs::sync();
    let started = Instant::now();
    let done = command.output().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    seconds
}

fn streamer(segment: &Path, output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvmmap-streamer"));
    command
        .args("svo-grid-to-mp4 --codec h264 --encoder-device software --preset fast --overwrite".split(' '));
    command.arg("--segment-dir").arg(segment).arg("--output").arg(output);
    command
}

/// The same by FFmpeg: scaled by the mean of what becomes one pixel, as ours are; without the time stamp.
fn ffmpeg(segment: &Path, output: &Path) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = Command::new(root.join("scripts/install-readers.sh")).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let mut command = Command::new(root.join("target/readers/ffmpeg"));
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
    for camera in 1..=4 {
        let copy = segment.join(format!("{camera}.mp4"));
        let mut cut = Command::new(env!("CARGO_BIN_EXE_cvmmap-streamer"));
        cut.args(["svo-to-mp4", "--copy", "--overwrite", "--input"]).arg(recording(segment, camera));
        assert!(cut.arg("--output").arg(&copy).output().unwrap().status.success());
        command.arg("-i").arg(copy);
    }
    let (width, height) = SIZE;
    let tile = |n| {
        format!("[{n}:v]crop={width}:{height}:0:0,scale={}:{}:flags=bilinear[t{n}];", width / 2, height / 2)
    };
    let graph: String = (0..4).map(tile).collect();
    command.args([
        "-filter_complex",
        &format!("{graph}[t0][t1][t2][t3]xstack=inputs=4:layout=0_0|w0_0|0_h0|w0_h0"),
    ]);
    command.args("-c:v libx264 -preset veryfast -crf 21 -bf 0 -g 60".split(' ')).arg(output);
    command
}

fn recording(segment: &Path, camera: usize) -> PathBuf {
    let name = segment.file_name().unwrap().to_str().unwrap();
    segment.join(format!("{name}_zed{camera}.svo2"))
}

/// Makes the recordings of four cameras; returns the access units of one group of pictures.
fn record(segment: &Path, codec: &str, frames: usize) -> Vec<Vec<u8>> {
    let units = units(codec);
    write(segment, &units, frames);
    units
}

fn write(segment: &Path, units: &[Vec<u8>], frames: usize) {
    std::fs::create_dir(segment).unwrap();
    for camera in 1..=4 {
        let header =
            Header { width: 2 * SIZE.0, height: SIZE.1, serial: camera, fps: 30, ..Header::default() };
        let file = std::fs::File::create(recording(segment, camera as usize)).unwrap();
        let mut writer = Writer::new(BufWriter::new(file), header, &Layout::default()).unwrap();
        for n in 0..frames {
            let time = 1_700_000_000_000_000_000 + n as u64 * 33_333_333 + u64::from(camera) * 1_000_000;
            writer.frame(time, &units[n % PICTURES], n % PICTURES == 0).unwrap();
        }
        writer.finish().unwrap().flush().unwrap();
    }
}

/// Test pictures that move, with some noise, at the rate of a camera: about 10 Mbit/s.
fn units(codec: &str) -> Vec<Vec<u8>> {
    let encoder = match codec {
        "h264" => format!(
            "x264enc speed-preset=veryfast key-int-max={PICTURES} bitrate=10000 bframes=0 tune=zerolatency"
        ),
        _ => {
            format!("x265enc speed-preset=ultrafast bitrate=10000 option-string=keyint={PICTURES}:bframes=0")
        }
    };
    let (width, height) = SIZE;
    let line = format!(
        "videotestsrc pattern=smpte horizontal-speed=7 num-buffers={PICTURES} ! video/x-raw,format=BGRx,width={},height={height},framerate=30/1 \
         ! agingtv scratch-lines=20 ! videoconvert ! video/x-raw,format=I420 ! {encoder} ! {codec}parse config-interval=-1 \
         ! video/x-{codec},stream-format=byte-stream,alignment=au ! appsink name=sink sync=false",
        2 * width
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = std::iter::from_fn(|| sink.pull_sample().ok());
    let units: Vec<_> =
        samples.map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec()).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(units.len(), PICTURES);
    units
}
