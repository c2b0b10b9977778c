// SPDX-License-Identifier: MPL-2.0

//! A recording to convert to MP4, and what FFmpeg finds in the file.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_streamer::pattern::Pattern;
use cvmmap_streamer::sim::svo2::Recording;
use serde_json::Value;

use super::{init, readers, run, streamer, text};

pub const SIZE: (u32, u32) = (320, 240);
/// Ticks of a second in our files.
pub const TICKS: u64 = 90_000;
pub const NS: u64 = 1_000_000_000;

pub struct Bench {
    pub folder: tempfile::TempDir,
    pub recording: Recording,
}

impl Bench {
    /// A folder with `a.svo2`.
    pub fn new(change: impl FnOnce(&mut Recording)) -> Self {
        let mut recording =
            Recording { size: SIZE, frames: 60, gop: 15, codec: svo2::Codec::H264, ..Recording::default() };
        change(&mut recording);
        init();
        let folder = tempfile::tempdir().unwrap();
        recording.create(&folder.path().join("a.svo2"), &AtomicBool::new(false)).unwrap();
        Self { folder, recording }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = streamer();
        command.arg("svo-to-mp4").args(line.split_whitespace()).current_dir(self.folder.path());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        run(&mut self.command(line))
    }

    /// Converts `a.svo2`, and returns the line on stdout.
    pub fn convert(&self, line: &str) -> Value {
        let output = self.run(&format!("--input a.svo2 --json {line}"));
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        let said = text(&output.stdout);
        assert_eq!(said.lines().count(), 1, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// All access units of `a.svo2`.
    pub fn units(&self) -> Vec<Vec<u8>> {
        let mut reader = svo2::Reader::new(svo2::Recording::open(&self.path("a.svo2")).unwrap());
        (0..self.recording.frames as usize).map(|frame| reader.unit(frame).unwrap()).collect()
    }

    /// Changes what a frame says of its own size.
    pub fn damage(&self, frame: usize) {
        super::damage(&self.path("a.svo2"), frame);
    }

    /// All names in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = self.folder.path().read_dir().unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Times of frames since the first of them, as they stand in our files.
    pub fn ticks(&self, frames: std::ops::RangeInclusive<usize>) -> Vec<i64> {
        let times = self.recording.times();
        let ticks =
            |time: u64| ((u128::from(time) * u128::from(TICKS) * 2 / u128::from(NS)).div_ceil(2)) as i64;
        frames.clone().map(|frame| ticks(times[frame] - times[*frames.start()])).collect()
    }
}

pub fn ffmpeg(file: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = readers::ffmpeg_program();
    command.args(["-loglevel", "error", "-xerror", "-i"]).arg(file).args(args).arg("-");
    let output = run(&mut command);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    output.stdout
}

/// The numbers that the pictures show, `x` pixels from the left.
pub fn numbers(file: &Path, width: u32, x: u32) -> Vec<u32> {
    let bytes = ffmpeg(
        file,
        &["-fps_mode", "passthrough", "-enc_time_base", "demux", "-pix_fmt", "bgr24", "-f", "rawvideo"],
    );
    let pattern = Pattern::new(PixelFormat::Bgr, Depth::U8, SIZE.0, SIZE.1).unwrap();
    let stride = 3 * width as usize;
    let pictures = bytes.chunks(stride * SIZE.1 as usize);
    pictures.map(|picture| pattern.read_count(&picture[3 * x as usize..], stride).unwrap()).collect()
}

/// SHA-256 of the packets of a file, and their times.
pub fn packets(file: &Path) -> (Vec<String>, Vec<i64>) {
    let hashes = ffmpeg(file, &["-map", "0:v:0", "-c", "copy", "-f", "framehash", "-hash", "sha256"]);
    let hashes = text(&hashes);
    let rows = hashes.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split(',').map(str::trim).collect()).collect();
    (
        rows.iter().map(|row| row[5].to_owned()).collect(),
        rows.iter().map(|row| row[2].parse().unwrap()).collect(),
    )
}

pub fn assert_near(found: &[i64], expected: &[i64]) {
    assert_eq!(found.len(), expected.len());
    assert_eq!(found[0], 0);
    let off = |pair: &(&i64, &i64)| (pair.0 - pair.1).abs() > 1;
    assert_eq!(found.iter().zip(expected).find(off), None, "{found:?}\n{expected:?}");
}
