// SPDX-License-Identifier: MPL-2.0

//! Recordings that Python made of FFmpeg's bitstreams, by nothing but the layout's page.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use svo2::{Codec, Kind, Reader, Recording};

use super::readers::{ffmpeg_program, folder};
use super::{run, text};

pub const SIZE: (u32, u32) = (320, 96);
pub const FRAMES: usize = 70;

#[derive(Debug, Deserialize)]
pub struct Told {
    pub serial: String,
    pub frames: Vec<ToldFrame>,
}

#[derive(Debug, Deserialize)]
pub struct ToldFrame {
    pub time: u64,
    pub key: bool,
    pub size: usize,
    pub sha256: String,
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn script(name: &str) -> Command {
    let mut python = Command::new(folder().join("venv/bin/python"));
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(name));
    python
}

pub fn json_of<T: serde::de::DeserializeOwned>(command: &mut Command) -> T {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A bitstream with access unit delimiters that FFmpeg made, once; `more`: settings of x264 or x265.
pub fn bitstream(codec: Codec, more: &str) -> PathBuf {
    static MADE: LazyLock<(tempfile::TempDir, Mutex<HashMap<String, PathBuf>>)> =
        LazyLock::new(|| (tempfile::tempdir().unwrap(), Mutex::default()));
    let (folder, made) = &*MADE;
    let mut made = made.lock().unwrap();
    let next = made.len();
    let key = format!("{codec} {more}");
    let path = made.entry(key).or_insert_with(|| {
        let path = folder.path().join(format!("{next}.{}", codec.name()));
        let (encoder, params, filter, muxer) = match codec {
            Codec::H264 => ("libx264", "-x264-params", "h264_metadata=aud=insert", "h264"),
            Codec::H265 => ("libx265", "-x265-params", "hevc_metadata=aud=insert", "hevc"),
        };
        let source = format!("testsrc2=size={}x{}:rate=30", SIZE.0, SIZE.1);
        let mut ffmpeg = ffmpeg_program();
        ffmpeg.args(["-loglevel", "error", "-f", "lavfi", "-i", &source, "-frames:v", &FRAMES.to_string()]);
        ffmpeg.args(["-pix_fmt", "yuv420p", "-c:v", encoder, "-preset", "ultrafast", "-tune", "zerolatency"]);
        ffmpeg.args([params, &format!("{more}:scenecut=0:repeat-headers=1")]);
        ffmpeg.args(["-bsf:v", filter, "-f", muxer]);
        let output = run(ffmpeg.arg("-y").arg(&path));
        assert!(output.status.success(), "{ffmpeg:?}: {}", text(&output.stderr));
        path
    });
    path.clone()
}

/// A recording of it by the Python generator.
pub struct Made {
    pub path: PathBuf,
    pub told: Told,
    pub folder: tempfile::TempDir,
}

impl Made {
    pub fn new(codec: Codec, bitstream: &Path, options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svo2");
        let mut generator = script("make_svo2.py");
        generator
            .arg(&path)
            .arg(codec.name())
            .arg(bitstream)
            .args([SIZE.0, SIZE.1].map(|size| size.to_string()));
        let told = json_of(generator.args(options.split_whitespace()));
        Self { path, told, folder }
    }

    pub fn open(&self) -> Arc<Recording> {
        Recording::open(&self.path).unwrap()
    }

    /// The first frames of what went in are there, byte for byte; tells how many.
    pub fn assert_begins(&self, recording: &Arc<Recording>) -> usize {
        let mut reader = Reader::new(recording.clone());
        for (number, told) in self.told.frames.iter().enumerate().take(recording.frames()) {
            let unit = reader.unit(number).unwrap();
            assert_eq!((unit.len(), sha256(&unit)), (told.size, told.sha256.clone()), "frame {number}");
            assert_eq!(recording.unix_ns(number), told.time);
            assert_eq!(
                reader.kind(number).unwrap() == Kind::Entry { recovers_after: 0 },
                told.key,
                "frame {number}"
            );
        }
        assert_eq!((recording.size(), recording.serial()), (SIZE, self.told.serial.as_str()));
        assert_eq!(recording.damaged(), 0);
        recording.frames()
    }

    pub fn assert_in(&self, recording: &Arc<Recording>) {
        assert_eq!(self.assert_begins(recording), self.told.frames.len());
    }
}

pub const LAYOUTS: [&str; 8] = [
    "",
    "--chunk-size 1",
    "--compression lz4 --chunk-size 20000",
    "--compression zstd --chunk-size 20000",
    "--no-chunks",
    "--no-summary --no-footer --chunk-size 5000",
    "--no-indexes --chunk-size 5000",
    "--no-summary --no-footer --compression lz4 --chunk-size 5000",
];
