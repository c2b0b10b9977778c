// SPDX-License-Identifier: MPL-2.0

//! `crates/svo2` beside readers and writers that share no code with it: recordings that Python made of FFmpeg's
//! bitstreams, and ours read by Python.

#![allow(missing_docs)]

mod common;

use std::path::Path;

use common::readers::ffmpeg_program;
use common::svo_made::*;
use common::{run, text};
use serde_json::{Value, json};
use svo2::{Codec, Found, Header, Kind, Layout, Reader, Recording, Sample, SensorReader, Sensors, Writer};

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
                let mut reader = SensorReader::new(recording.clone(), sensors).unwrap();
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
