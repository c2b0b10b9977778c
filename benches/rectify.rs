// SPDX-License-Identifier: MPL-2.0

//! What rectification costs: the remap beside OpenCV's with one thread each, on the same planes, in turn on the same core,
//! in CPU time, as medians of several runs. Run with `make bench`; the last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use common::{cpu_ns, median, pin, row};
use svo2::calibration::{Camera, StereoCamera};
use svo2::rectify::{Eye, Plane, Rectification, Remap};

const RUNS: usize = 15;
/// Pictures of a run.
const PICTURES: usize = 10;
const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

/// That of `benches/opencv_remap.py`.
fn stereo() -> StereoCamera {
    let eye =
        Camera { fx: 1050.0, fy: 1051.0, cx: 970.0, cy: 530.0, distortion: [-0.17, 0.025, 1e-4, -1e-4, 0.0] };
    StereoCamera {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        left: eye,
        right: eye,
        rotation: [0.002, 0.0069, -0.002],
        translation: [119.9, 0.046, -0.47],
    }
}

/// OpenCV in a process of its own.
struct OpenCv {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl OpenCv {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(Command::new(root.join("scripts/install-readers.sh")).status().unwrap().success());
        let mut python = Command::new(root.join("target/readers/venv/bin/python"));
        python.arg(root.join("benches/opencv_remap.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, questions, answers: BufReader::new(answers) }
    }

    /// Milliseconds of CPU of a picture.
    fn time(&mut self, maps: &str, planes: &[usize]) -> f64 {
        let planes: Vec<String> = planes.iter().map(usize::to_string).collect();
        writeln!(self.questions, "{maps} {} {PICTURES}", planes.join(" ")).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap_or_else(|_| panic!("OpenCV's process said {answer:?}"))
    }
}

impl Drop for OpenCv {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plane of a picture twice as wide, whose right half is seen.
struct Work<'a> {
    map: &'a Remap,
    channels: usize,
    both: Vec<u8>,
    seen: Vec<u8>,
}

impl<'a> Work<'a> {
    fn new(map: &'a Remap, channels: usize) -> Self {
        let (width, height) = map.size();
        let length = width * height * channels;
        let both = (0..2 * length).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        Self { map, channels, both, seen: vec![0; length] }
    }

    fn run(&mut self, threads: usize) {
        let (width, _) = self.map.size();
        let stride = width * self.channels;
        let source = Plane { data: &self.both, stride: 2 * stride, channels: self.channels, x: width };
        self.map.apply(&source, &mut self.seen, stride, 0, threads).unwrap();
    }
}

/// Milliseconds of a picture, as a clock has them and of CPU.
fn time(work: &mut [Work], threads: usize) -> (f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_ns());
    for _ in 0..PICTURES {
        work.iter_mut().for_each(|plane| plane.run(threads));
    }
    let cpu = (cpu_ns() - cpu) as f64 / 1e6;
    (start.elapsed().as_secs_f64() * 1e3 / PICTURES as f64, cpu / PICTURES as f64)
}

fn main() {
    let rectification = Rectification::new(&stereo()).unwrap();
    // Before the process is pinned to one core.
    let maps_take = {
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let start = Instant::now();
                rectification.map(Eye::Left);
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        median(&mut times)
    };
    let (luma, chroma) = (rectification.map(Eye::Left), rectification.chroma_map(Eye::Left));
    let cases: [(&str, &[usize]); 6] = [
        ("grey, or Y alone", &[1]),
        ("I420", &[1, 1, 1]),
        ("NV12", &[1, 2]),
        ("two channels", &[2]),
        ("BGR", &[3]),
        ("BGRA", &[4]),
    ];
    let work = |planes: &[usize]| -> Vec<Work> {
        let map = |index| if index == 0 { &luma } else { &chroma };
        planes.iter().enumerate().map(|(index, channels)| Work::new(map(index), *channels)).collect()
    };
    let two: Vec<(f64, f64)> = cases.iter().map(|(_, planes)| threads(&mut work(planes))).collect();

    pin(0);
    let mut opencv = OpenCv::new();
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    for (name, planes) in cases {
        let mut work = work(planes);
        let [mut ours, mut float, mut fixed] = [const { Vec::new() }; 3];
        time(&mut work, 1);
        for _ in 0..RUNS {
            ours.push(time(&mut work, 1).1);
            float.push(opencv.time("float", planes));
            fixed.push(opencv.time("fixed", planes));
        }
        let [ours, float, fixed] = [&mut ours, &mut float, &mut fixed].map(|runs| median(runs));
        let (kind, peer) = if float < fixed { ("float", float) } else { ("fixed-point", fixed) };
        let what =
            format!("remap of {WIDTH}x{HEIGHT} {name}, one thread, beside OpenCV with its {kind} maps");
        row(&what, &format!("{ours:.3} ms"), &format!("{peer:.3} ms"), ours / peer, 1.0);
    }
    println!("for information, two threads beside one by the clock, and a map:");
    for ((name, _), (one, two)) in cases.iter().zip(two) {
        println!("- {name}: {one:.3} ms, {two:.3} ms with two threads");
    }
    println!("- a map of {WIDTH}x{HEIGHT}: {maps_take:.1} ms");
}

/// Milliseconds of a picture with one thread and with two.
fn threads(work: &mut [Work]) -> (f64, f64) {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..RUNS {
        for (threads, times) in times.iter_mut().enumerate() {
            times.push(time(work, threads + 1).0);
        }
    }
    let [one, two] = &mut times;
    (median(one), median(two))
}
