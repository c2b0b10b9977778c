// SPDX-License-Identifier: MPL-2.0

//! `crates/svo2` beside readers and writers that share no code with it: recordings that Python made of FFmpeg's
//! bitstreams, and ours read by Python.

#![allow(missing_docs)]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use common::readers::{ffmpeg_program, folder};
use common::{run, text};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use svo2::{Codec, Found, Header, Kind, Layout, Reader, Recording, Sample, SensorReader, Sensors, Writer};

const SIZE: (u32, u32) = (320, 96);
const FRAMES: usize = 70;

#[derive(Debug, Deserialize)]
struct Told {
    serial: String,
    frames: Vec<ToldFrame>,
}

#[derive(Debug, Deserialize)]
struct ToldFrame {
    time: u64,
    key: bool,
    size: usize,
    sha256: String,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn script(name: &str) -> Command {
    let mut python = Command::new(folder().join("venv/bin/python"));
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers").join(name));
    python
}

fn json_of<T: serde::de::DeserializeOwned>(command: &mut Command) -> T {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A bitstream with access unit delimiters that FFmpeg made, once; `more`: settings of x264 or x265.
fn bitstream(codec: Codec, more: &str) -> PathBuf {
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
struct Made {
    path: PathBuf,
    told: Told,
    _folder: tempfile::TempDir,
}

impl Made {
    fn new(codec: Codec, bitstream: &Path, options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svo2");
        let mut generator = script("make_svo2.py");
        generator
            .arg(&path)
            .arg(codec.name())
            .arg(bitstream)
            .args([SIZE.0, SIZE.1].map(|size| size.to_string()));
        let told = json_of(generator.args(options.split_whitespace()));
        Self { path, told, _folder: folder }
    }

    fn open(&self) -> Arc<Recording> {
        Recording::open(&self.path).unwrap()
    }

    /// The first frames of what went in are there, byte for byte; tells how many.
    fn assert_begins(&self, recording: &Arc<Recording>) -> usize {
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

    fn assert_in(&self, recording: &Arc<Recording>) {
        assert_eq!(self.assert_begins(recording), self.told.frames.len());
    }
}

const LAYOUTS: [&str; 8] = [
    "",
    "--chunk-size 1",
    "--compression lz4 --chunk-size 20000",
    "--compression zstd --chunk-size 20000",
    "--no-chunks",
    "--no-summary --no-footer --chunk-size 5000",
    "--no-indexes --chunk-size 5000",
    "--no-summary --no-footer --compression lz4 --chunk-size 5000",
];

#[test]
fn every_layout_of_the_python_generator() {
    for codec in [Codec::H264, Codec::H265] {
        let bitstream = bitstream(codec, "keyint=15:min-keyint=15");
        for layout in LAYOUTS {
            let made = Made::new(codec, &bitstream, &format!("{layout} --sensors 3"));
            let recording = made.open();
            let indexed = !layout.contains("no-chunks") && !layout.contains("no-summary");
            assert_eq!(recording.found() == &Found::Indexed, indexed, "{layout}: {:?}", recording.found());
            assert_eq!((recording.frames(), recording.codec()), (FRAMES, codec));
            made.assert_in(&recording);
            let header = recording.header();
            assert_eq!((header.width, header.height, header.fps, header.model), (SIZE.0, SIZE.1, 30, 2001));
            assert_eq!((header.sdk_version.as_str(), header.imu_hz), ("5.0.0", 200.0));
            for (sensors, count) in [(Sensors::Raw, 3), (Sensors::Integrated, 1)] {
                let mut reader = SensorReader::new(recording.clone(), sensors).unwrap().unwrap();
                assert_eq!(reader.samples(), count * FRAMES);
                let (before, at) = (made.told.frames[4].time, made.told.frames[5].time);
                let samples: Vec<Sample> = reader.between(before, at).map(Result::unwrap).collect();
                assert_eq!(samples.len(), count);
                assert_eq!(samples[count - 1].unix_ns, at);
                assert!(samples.iter().all(|sample| sample.angular_velocity == [5.0, 2.0, 3.0]));
                assert!(samples.iter().all(|sample| sample.linear_acceleration == [0.0, -9.81, 0.0]));
            }
        }
    }
}

#[test]
fn every_key_frame_distance() {
    for codec in [Codec::H264, Codec::H265] {
        for distance in [1, 15, 250] {
            let bitstream = bitstream(codec, &format!("keyint={distance}:min-keyint={distance}"));
            let made = Made::new(codec, &bitstream, "--drop 7,8,31 --jitter 3000000");
            let recording = made.open();
            made.assert_in(&recording);
            let keys: Vec<usize> =
                (0..recording.frames()).filter(|&frame| made.told.frames[frame].key).collect();
            assert_eq!(keys.len(), FRAMES.div_ceil(distance) - if distance == 1 { 3 } else { 0 }, "{keys:?}");
            let mut reader = Reader::new(recording.clone());
            for frame in 0..recording.frames() {
                let before = keys.iter().rev().find(|&&key| key <= frame).copied();
                assert_eq!(reader.entry_for(frame), before);
                assert_eq!(reader.entry_from(frame), keys.iter().find(|&&key| key >= frame).copied());
                assert_eq!(
                    recording.running_ns(frame),
                    made.told.frames[frame].time - made.told.frames[0].time
                );
            }
        }
    }
}

#[test]
fn intra_refresh_without_idr() {
    let bitstream = bitstream(Codec::H264, "intra-refresh=1:keyint=20:min-keyint=20");
    let whole = Made::new(Codec::H264, &bitstream, "");
    let recording = whole.open();
    whole.assert_in(&recording);
    let mut reader = Reader::new(recording.clone());
    let entries = |reader: &mut Reader| -> Vec<(usize, u16)> {
        let frames = 0..reader.recording().frames();
        let entry = |frame| match reader.kind(frame).unwrap() {
            Kind::Entry { recovers_after } => Some((frame, recovers_after)),
            Kind::Delta => None,
        };
        frames.filter_map(entry).collect()
    };
    let all = entries(&mut reader);
    assert_eq!(all[0], (0, 0), "x264 begins with an IDR picture");
    let (wave, after) = all[1];
    assert!(all.len() > 2 && after > 0, "{all:?}");
    // Cut off before the second wave: no IDR picture is left.
    let cut = Made::new(Codec::H264, &bitstream, &format!("--skip {wave}"));
    assert!(cut.told.frames.iter().all(|frame| !frame.key));
    let recording = cut.open();
    cut.assert_in(&recording);
    let mut reader = Reader::new(recording);
    let moved: Vec<_> = all[1..].iter().map(|&(frame, after)| (frame - wave, after)).collect();
    assert_eq!(entries(&mut reader), moved);
    assert_eq!(reader.entry_for(usize::from(after)), Some(0));
    // What is decoded from there is what FFmpeg decodes of the whole stream, once it is whole.
    let pictures = |file: &Path| {
        let mut ffmpeg = ffmpeg_program();
        ffmpeg.args(["-loglevel", "error", "-flags", "+output_corrupt", "-f", "h264", "-i"]).arg(file);
        ffmpeg.args(["-fps_mode", "passthrough", "-f", "framehash", "-hash", "md5", "-"]);
        let hashes = text(&run(&mut ffmpeg).stdout);
        let hashes = hashes.lines().filter(|line| !line.starts_with('#'));
        hashes.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.h264");
    let frames = reader.recording().frames();
    let units: Vec<u8> = (0..frames).flat_map(|frame| reader.unit(frame).unwrap()).collect();
    std::fs::write(&path, units).unwrap();
    let (all, of_cut) = (pictures(&bitstream), pictures(&path));
    assert_eq!((all.len(), of_cut.len()), (FRAMES, frames));
    let whole = usize::from(after);
    assert_eq!(of_cut[whole..], all[wave + whole..]);
    assert_ne!(of_cut[0], all[wave]);
}

#[test]
fn cut_anywhere_it_has_the_frames_up_to_there() {
    let bitstream = bitstream(Codec::H265, "keyint=15:min-keyint=15");
    for layout in ["--chunk-size 5000", "--chunk-size 5000 --compression zstd", "--no-chunks"] {
        let len = std::fs::metadata(&Made::new(Codec::H265, &bitstream, layout).path).unwrap().len();
        let mut before = 0;
        for part in [0, 1, 3, 23, 41, 50, 77, 93, 99] {
            let made =
                Made::new(Codec::H265, &bitstream, &format!("{layout} --truncate {}", len * part / 100));
            let Ok(recording) = Recording::open(&made.path) else {
                assert_eq!(before, 0);
                continue;
            };
            assert!(matches!(recording.found(), Found::Scanned(_)));
            let frames = made.assert_begins(&recording);
            assert!(frames >= before, "{frames} after {before}");
            before = frames;
        }
        assert!(before > FRAMES * 8 / 10, "{before}");
    }
}

#[test]
fn ours_read_by_python() {
    for codec in [Codec::H264, Codec::H265] {
        for (compression, chunk_size) in [
            (None, None),
            (None, Some(1 << 20)),
            (Some(mcap::Compression::Lz4), Some(9000)),
            (Some(mcap::Compression::Zstd), Some(9000)),
        ] {
            let source = Made::new(codec, &bitstream(codec, "keyint=15:min-keyint=15"), "");
            let source = source.open();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ours.svo2");
            let header = Header {
                sdk_version: "5.1.0".to_owned(),
                imu_hz: 400.0,
                serial: 77,
                ..source.header().clone()
            };
            let layout = Layout { compression, chunk_size };
            let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), header, &layout).unwrap();
            let mut reader = Reader::new(source.clone());
            let (mut hashes, mut times) = (Vec::new(), Vec::new());
            for frame in 0..source.frames() {
                let (time, unit) = (source.unix_ns(frame), reader.unit(frame).unwrap());
                let sample =
                    Sample { unix_ns: time, linear_acceleration: [0.5, -9.75, 0.25], ..Sample::default() };
                writer.sample(Sensors::Raw, &sample).unwrap();
                writer.sample(Sensors::Integrated, &sample).unwrap();
                writer.frame(time, &unit, frame % 15 == 0).unwrap();
                hashes.push(sha256(&unit));
                times.push(time);
            }
            writer.finish().unwrap();
            let told: Value = json_of(script("svo2_judge.py").arg(&path));
            assert_eq!(told["library"], "libmcap stereolabs");
            let topics = json!({
                "svo_header": ["sl_type", "jsonschema", "json"],
                "Camera_SN77/sensors": ["sl_type", "jsonschema", "json"],
                "Camera_SN77/integrated_sensors": ["sl_type", "jsonschema", "json"],
                "Camera_SN77/side_by_side": ["zed_sdk_encoded", "", "zed_sdk_encoded"],
                "svo_footer": ["sl_type", "jsonschema", "json"],
            });
            assert_eq!(told["topics"], topics);
            assert_eq!(told["counts"], json!([1, 1, FRAMES, FRAMES, FRAMES]));
            let fields = json!({
                "ZED_SDK_version": "5.1.0", "version": "2.0.0", "IMU_frequency": 400.0, "Calib_acc": 72, "Calib_gyro": 72,
                "width": SIZE.0, "height": SIZE.1, "serial": 77, "fps": 30, "block": 128,
            });
            assert_eq!(told["svo_header"], json!([fields]));
            for (number, frame) in told["side_by_side"].as_array().unwrap().iter().enumerate() {
                let want = json!({
                    "whole": true, "sha256": hashes[number], "width": SIZE.0, "height": SIZE.1, "time": times[number],
                    "type": if number % 15 == 0 { 3 } else { 0 }, "last_key": number / 15 * 15,
                });
                assert_eq!(*frame, want, "frame {number}");
            }
            for (topic, kind) in [("sensors", 0x33), ("integrated_sensors", 0x26)] {
                for (sample, time) in told[topic].as_array().unwrap().iter().zip(&times) {
                    let want =
                        json!({"size": 360, "kind": kind, "unix": time, "acceleration": [0.5, -9.75, 0.25]});
                    assert_eq!(*sample, want);
                }
            }
            let footer = &told["svo_footer"][0];
            for topic in ["Camera_SN77/side_by_side", "Camera_SN77/sensors", "Camera_SN77/integrated_sensors"]
            {
                assert_eq!(told["log_times"][topic], json!(times));
                assert_eq!(footer[topic], json!(times));
            }
            assert_eq!(footer.as_object().unwrap().len(), 4, "{footer}");
        }
    }
}
