// SPDX-License-Identifier: MPL-2.0

//! Who judges our files: readers that share no code with their writers, and what they say.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde::Deserialize;

use super::{run, text};

/// What a reader found in a file; times are in milliseconds as they stand in it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Facts {
    pub video: Option<Video>,
    pub audio: Option<Audio>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    /// Where decoding was asked for.
    pub decoded: Option<Decoded>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Video {
    /// `h264`, `h265`
    pub codec: String,
    pub width: u32,
    pub height: u32,
    pub frames: Vec<VideoFrame>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct VideoFrame {
    pub dts: i64,
    pub pts: i64,
    pub key: bool,
    /// Of the access unit.
    pub size: usize,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Audio {
    /// `aac`, `mp3`
    pub codec: String,
    pub rate: u32,
    pub channels: Option<u32>,
    pub frames: Vec<AudioFrame>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct AudioFrame {
    pub dts: i64,
    pub size: usize,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Decoded {
    /// Pictures.
    pub frames: usize,
    /// Of each picture's packed I420 planes, in the order of showing.
    pub sha256: Vec<String>,
    /// Audio samples of one channel.
    pub samples: u64,
}

impl Facts {
    /// The frames of the video stream, none if there is no such stream.
    pub fn pictures(&self) -> &[VideoFrame] {
        self.video.as_ref().map_or(&[], |video| &video.frames)
    }

    /// The frames of the audio stream, none if there is no such stream.
    pub fn sounds(&self) -> &[AudioFrame] {
        self.audio.as_ref().map_or(&[], |audio| &audio.frames)
    }

    /// The hashes of the decoded pictures.
    pub fn shown(&self) -> &[String] {
        &self.decoded.as_ref().expect("decoding was asked for").sha256
    }
}

/// The folder of the installed readers; installs them first where they are not.
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // It may take longer than PATIENCE; its own tools bound it.
        let output = Command::new(root.join("scripts/install-readers.sh")).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        root.join("target/readers")
    });
    &FOLDER
}

/// FFmpeg 9, which knows H.265 in FLV in both dialects.
pub fn ffmpeg_program() -> Command {
    let mut command = Command::new(folder().join("ffmpeg"));
    command.args(["-nostdin", "-hide_banner"]);
    command
}

fn script(name: &str) -> PathBuf {
    folder();
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(name)
}

fn json<T: serde::de::DeserializeOwned>(command: &mut Command) -> T {
    let output = run(command);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{command:?}: {error}\n{}\n{said}", text(&output.stdout)))
}

fn decoding(decode: bool) -> Option<&'static str> {
    decode.then_some("--decode")
}

/// FFmpeg 9's program.
pub fn ffmpeg(file: &Path, decode: bool) -> Facts {
    json(Command::new(script("ffmpeg.py")).args(decoding(decode)).arg(file))
}

/// The libavformat of FFmpeg 8.1, through PyAV.
pub fn pyav(file: &Path, decode: bool) -> Facts {
    let python = folder().join("venv/bin/python");
    json(Command::new(python).arg(script("pyav.py")).args(decoding(decode)).arg(file))
}

/// The demuxer of mpegts.js, which browsers play FLV with; `chunk`: bytes it is fed at a time. It does not decode.
pub fn mpegts(file: &Path, chunk: Option<usize>) -> Facts {
    let mut command = Command::new("node");
    command.arg(script("mpegts.mjs"));
    if let Some(chunk) = chunk {
        command.arg("--chunk").arg(chunk.to_string());
    }
    json(command.arg(file))
}

/// What the Python mcap package and Foxglove's schemas read; see tests/readers/mcap_judge.py. `bitstream`: where the
/// video goes as one Annex B file.
pub fn mcap(file: &Path, bitstream: Option<&Path>) -> serde_json::Value {
    let mut command = Command::new(folder().join("venv/bin/python"));
    command.arg(script("mcap_judge.py")).arg(file);
    if let Some(bitstream) = bitstream {
        command.arg("--bitstream").arg(bitstream);
    }
    json(&mut command)
}

/// What OpenCV makes of a factory calibration; see tests/readers/rectify.py for the files that `folder` has and gets.
pub fn opencv(
    conf: &Path,
    resolution: &str,
    (width, height): (u32, u32),
    folder: &Path,
) -> serde_json::Value {
    let python = self::folder().join("venv/bin/python");
    let size = [width, height].map(|length| length.to_string());
    json(Command::new(python).arg(script("rectify.py")).arg(conf).arg(resolution).args(size).arg(folder))
}

/// What the coder in tests/readers/rvl.py makes of depth or of RVL.
pub fn rvl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut given = tempfile::tempfile().unwrap();
    given.write_all(input).unwrap();
    given.rewind().unwrap();
    let python = folder().join("venv/bin/python");
    let output = run(Command::new(python).arg(script("rvl.py")).args(args).stdin(Stdio::from(given)));
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, text(&output.stderr));
    output.stdout
}
