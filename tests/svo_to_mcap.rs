// SPDX-License-Identifier: MPL-2.0

//! `svo-to-mcap` of one camera: what the Python mcap package, Foxglove's schemas and FFmpeg find in its files, what it
//! refuses, and what is on the disk whatever happens. Several cameras are in `svo_to_mcap_bundle.rs`.

mod common;

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use common::mcap_rig::{Folder, NS, SIZE, Shown, said, sim};
use common::recordings::{assert_video, assert_whole, judge, mcap};
use common::zedsvo::write;
use common::*;
use cvmmap_streamer::exit::Exit;
use cvmmap_streamer::mcap::Compression;
use cvmmap_streamer::run::plan::Codec;
use cvmmap_streamer::sim::svo2::RIGHT;
use cvmmap_streamer::svo::convert::{Control, Event};
use cvmmap_streamer::svo::options::{Encoding, Frames, Preset};
use cvmmap_streamer::svo::segment::Segment;
use cvmmap_streamer::svo::to_mcap::convert::convert;
use cvmmap_streamer::svo::to_mcap::copied;
use cvmmap_streamer::svo::to_mcap::options::{Conversion, View};
use serde_json::{Value, json};
use svo2::group::CopyRange;

use ::mcap as mcap_file;

/// A folder with `a.svo2`.
fn one(change: impl FnOnce(&mut sim::Recording)) -> (Folder, sim::Recording) {
    let folder = Folder::new();
    let recording = folder.record("a.svo2", change);
    (folder, recording)
}

#[test]
fn each_frame_of_the_left_view_is_a_message_with_its_picture_and_its_time() {
    let (folder, recording) = one(|recording| {
        recording.lost_before = vec![20, 20, 33];
        recording.jitter_ns = 7_000_000;
    });
    let times = recording.times();
    for (line, range, codec) in [
        ("--codec h264 --output all.mcap --mcap-compression none", 0..=59, "h264"),
        ("--codec h265 --output cut.mcap --start-frame 17 --end-frame 41", 17..=41, "h265"),
        ("--output tail.mcap --start-frame 59 --mcap-compression lz4", 59..=59, "h265"),
    ] {
        let summary = folder.convert(&format!("--input a.svo2 --preset fast {line}"));
        let expected: Vec<u32> = range.clone().collect();
        let camera = &summary["cameras"][0];
        assert_eq!((&summary["layout"], &summary["bundle"]), (&"copy".into(), &Value::Null));
        assert_eq!((&camera["frames"], &camera["missing"]), (&expected.len().into(), &0.into()), "{summary}");
        assert_eq!((&camera["width"], &camera["codec"]), (&SIZE.0.into(), &codec.into()));
        let file = folder.path(summary["output"].as_str().unwrap());
        assert_eq!(summary["bytes"], file.metadata().unwrap().len());
        let Shown { facts, numbers, types } = folder.show(&file, "/zed1/video", SIZE.0, 0);
        assert_whole(&facts);
        assert_eq!(facts["in_order"], true);
        assert_eq!(facts["library"], concat!("cvmmap-streamer ", env!("CARGO_PKG_VERSION")));
        assert_eq!(assert_video(&facts, "/zed1/video", codec), expected.len(), "{line}");
        let video = &facts["topics"]["/zed1/video"];
        let wanted: Vec<u64> = range.clone().map(|frame| times[frame as usize]).collect();
        assert_eq!(video["log_times"], json!(wanted), "{line}");
        assert_eq!(video["frame_ids"], json!(["zed1"]));
        assert_eq!(numbers, expected, "{line}");
        assert!(!types.contains('B'), "{types}");
        let topics: Vec<&String> = facts["topics"].as_object().unwrap().keys().collect();
        assert_eq!(topics, ["/zed1/imu", "/zed1/imu_integrated", "/zed1/video"]);
        // Since the frame before.
        let after = range.start().checked_sub(1).map_or(0, |before| times[before as usize]);
        for topic in ["/zed1/imu", "/zed1/imu_integrated"] {
            let found: Vec<u64> =
                serde_json::from_value(facts["topics"][topic]["log_times"].clone()).unwrap();
            let until = wanted[wanted.len() - 1];
            assert!(found[0] > after && found[found.len() - 1] <= until, "{topic}: {found:?}");
            assert_eq!(facts["topics"][topic]["times_apart"], 0);
        }
        assert_eq!(facts["topics"]["/zed1/imu_integrated"]["count"], expected.len());
        assert_eq!(camera["imu"], facts["topics"]["/zed1/imu"]["count"]);
    }
    let compressions = |name: &str| mcap(&folder.path(name), None)["compressions"].clone();
    assert_eq!(compressions("all.mcap"), json!([""]));
    assert_eq!(compressions("cut.mcap"), json!(["zstd"]));
    assert_eq!(compressions("tail.mcap"), json!(["lz4"]));
}

#[test]
fn samples_of_the_imu_are_those_of_the_recording() {
    let (folder, recording) = one(|recording| recording.frames = 30);
    folder.convert("--input a.svo2 --view side-by-side");
    let facts = judge(&folder.path("a.mcap"), &["--messages", "/zed1/imu"]);
    let topic = &facts["topics"]["/zed1/imu"];
    assert_eq!(
        (&topic["schema_name"], &topic["schema_encoding"]),
        (&"cvmmap_streamer.Imu".into(), &"protobuf".into())
    );
    let opened = svo2::Recording::open(&folder.path("a.svo2")).unwrap();
    let mut reader = svo2::SensorReader::new(opened, svo2::Sensors::Raw).unwrap();
    let samples: Vec<svo2::Sample> = reader.between(0, u64::MAX).map(Result::unwrap).collect();
    let found = topic["messages"].as_array().unwrap();
    assert!(samples.len() > 300);
    assert_eq!(found.len(), samples.len());
    for (found, sample) in found.iter().zip(&samples) {
        let vector = |name: &str| ["x", "y", "z"].map(|axis| found[name][axis].as_f64().unwrap());
        let near = |found: [f64; 3], want: [f64; 3]| {
            assert!(
                found.iter().zip(want).all(|(found, want)| (found - want).abs() < 1e-6),
                "{found:?} {want:?}"
            );
        };
        assert_eq!(found["timestamp"], sample.unix_ns);
        assert_eq!(found["boot_time_ns"], sample.boot_ns);
        assert_eq!(found["frame_id"], "zed1_imu");
        near(vector("angular_velocity"), [0.0, 36.0 * std::f64::consts::PI / 180.0, 0.0]);
        near(vector("raw_angular_velocity"), [0.0, 36.0 * std::f64::consts::PI / 180.0, 0.0]);
        near(vector("linear_acceleration"), [0.0, -9.81, 0.0].map(|value: f64| f64::from(value as f32)));
        near(vector("linear_acceleration_variance"), [1e-3; 3]);
        near(vector("angular_velocity_variance"), [1e-4; 3]);
        near(vector("orientation"), [0, 1, 2].map(|axis| f64::from(sample.orientation[axis])));
        let w = found["orientation"]["w"].as_f64().unwrap();
        assert!((w - f64::from(sample.orientation[3])).abs() < 1e-6);
        assert_eq!((&found["temperature"], &found["rate"]), (&35.0.into(), &400.0.into()));
    }
    assert_eq!(found[0]["timestamp"], recording.begins_ns);
}

/// The index says when it is a sample's turn, and the sample when it was taken.
#[test]
fn samples_whose_own_times_leap_are_all_there_and_hold_up_nobody() {
    let (folder, _) = one(|_| ());
    let opened = svo2::Recording::open(&folder.path("a.svo2")).unwrap();
    let mut reader = svo2::SensorReader::new(opened, svo2::Sensors::Raw).unwrap();
    let mut samples: Vec<svo2::Sample> = reader.between(0, u64::MAX).map(Result::unwrap).collect();
    let mut bytes = std::fs::read(folder.path("a.svo2")).unwrap();
    for (number, change) in [(50, -5), (200, 1000)] {
        let sample = &mut samples[number];
        let was = sample.message(svo2::Sensors::Raw);
        sample.unix_ns = sample.unix_ns.checked_add_signed(change * NS as i64).unwrap();
        let at =
            bytes.windows(was.len()).position(|window| window == was).expect("chunks are not compressed");
        bytes[at..at + was.len()].copy_from_slice(&sample.message(svo2::Sensors::Raw));
    }
    std::fs::write(folder.path("a.svo2"), bytes).unwrap();
    let summary = folder.convert("--input a.svo2 --view side-by-side");
    assert_eq!(summary["cameras"][0]["imu"], samples.len());
    let bytes = std::fs::read(folder.path("a.mcap")).unwrap();
    let (mut found, mut shown) = (Vec::new(), 0);
    for message in mcap_file::MessageStream::new(&bytes).unwrap() {
        let message = message.unwrap();
        match message.channel.topic.as_str() {
            "/zed1/video" => shown = message.log_time,
            "/zed1/imu" => {
                let late = shown.saturating_sub(message.log_time);
                assert!(late <= 5 * NS + NS / 30 && (found.len() == 50 || late <= NS + NS / 30), "{late}");
                found.push(message.log_time);
            }
            _ => (),
        }
    }
    assert_eq!(found, samples.iter().map(|sample| sample.unix_ns).collect::<Vec<_>>());
}

#[test]
fn both_views_are_copied_to_the_byte() {
    for codec in [svo2::Codec::H264, svo2::Codec::H265] {
        let (folder, recording) = one(|recording| {
            recording.codec = codec;
            recording.jitter_ns = 3_000_000;
        });
        let opened = svo2::Recording::open(&folder.path("a.svo2")).unwrap();
        let mut reader = svo2::Reader::new(opened);
        // Frame 17 needs those from the key frame at 15 on.
        for (line, range) in [("", 0..=59), ("--overwrite --start-frame 17 --end-frame 41", 15..=41)] {
            let output = folder.run(&format!("--input a.svo2 --view side-by-side --json {line}"));
            let said = text(&output.stderr);
            assert!(output.status.success(), "{said}");
            assert_eq!(said.contains("frames 15 to 16 are in the file besides"), !line.is_empty(), "{said}");
            let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
            let camera = &summary["cameras"][0];
            assert_eq!((&camera["copy"], &camera["encoder"]), (&true.into(), &Value::Null));
            assert_eq!(camera["width"], 2 * SIZE.0);
            let file = folder.path("a.mcap");
            let Shown { facts, numbers, types } = folder.show(&file, "/zed1/video", 2 * SIZE.0, 0);
            assert_whole(&facts);
            assert_eq!(assert_video(&facts, "/zed1/video", codec.name()), range.clone().count());
            let stream: Vec<u8> = range.clone().flat_map(|frame| reader.unit(frame).unwrap()).collect();
            assert!(folder.bitstream() == stream, "{codec}: the bytes are not those of the recording");
            let times: Vec<u64> = range.clone().map(|frame| recording.times()[frame]).collect();
            assert_eq!(facts["topics"]["/zed1/video"]["log_times"], json!(times));
            let left: Vec<u32> = range.map(|frame| frame as u32).collect();
            assert_eq!(numbers, left);
            assert!(!types.contains('B'));
            let right = folder.show(&file, "/zed1/video", 2 * SIZE.0, SIZE.0).numbers;
            assert_eq!(right, left.iter().map(|frame| frame + RIGHT).collect::<Vec<_>>());
        }
    }
}

/// The NAL units that are no parameter sets.
fn without_sets(codec: svo2::Codec, unit: &[u8]) -> Vec<u8> {
    let slices = svo2::nal::units(unit).filter(|nal| match codec {
        svo2::Codec::H264 => !matches!(nal[0] & 0x1f, 7 | 8),
        svo2::Codec::H265 => !matches!(nal[0] >> 1 & 0x3f, 32..=34),
    });
    slices.flat_map(|nal| [&[0, 0, 0, 1], nal].concat()).collect()
}

#[test]
fn key_frames_that_lack_parameter_sets_get_them() {
    for codec in [svo2::Codec::H264, svo2::Codec::H265] {
        let (folder, _) = one(|recording| recording.codec = codec);
        let opened = svo2::Recording::open(&folder.path("a.svo2")).unwrap();
        write(&opened, &folder.path("bare.svo2"), 0..60, |frame, unit| match frame {
            0 => unit,
            _ => without_sets(codec, &unit),
        });
        for (line, first) in [("", 0), ("--start-frame 32 --overwrite", 30)] {
            let summary = folder.convert(&format!("--input bare.svo2 --view side-by-side {line}"));
            assert_eq!(summary["cameras"][0]["copy"], true);
            let Shown { facts, numbers, .. } =
                folder.show(&folder.path("bare.mcap"), "/zed1/video", 2 * SIZE.0, 0);
            assert_video(&facts, "/zed1/video", codec.name());
            assert_eq!(numbers, (first..60).collect::<Vec<u32>>(), "{codec} {line}");
            let keys = facts["topics"]["/zed1/video"]["key_frames"].as_array().unwrap().len();
            assert_eq!(keys, (60 - first as usize) / 15, "{codec} {line}");
        }
    }
}

#[test]
fn what_cannot_be_copied_is_encoded_and_that_is_told() {
    let (folder, _) = one(|recording| recording.intra_refresh = true);
    let output = folder.run("--input a.svo2 --view side-by-side --preset fast --json");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("both views are encoded").count(), 1, "{said}");
    assert!(said.contains("recovery point") && said.contains("intra refresh"), "{said}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["cameras"][0]["copy"], &summary["cameras"][0]["width"]),
        (&false.into(), &640.into())
    );
    let Shown { facts, numbers, .. } = folder.show(&folder.path("a.mcap"), "/zed1/video", 2 * SIZE.0, 0);
    assert_eq!(assert_video(&facts, "/zed1/video", "h265"), 60);
    // Pictures before the first recovery are whole too: the recording begins with a key frame.
    assert_eq!(numbers, (0..60).collect::<Vec<u32>>());

    let (folder, _) = one(|recording| recording.codec = svo2::Codec::H265);
    let output = folder.run("--input a.svo2 --view side-by-side --preset fast --codec h264");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("it is h265, and --codec asks for h264"), "{said}");
    let facts = mcap(&folder.path("a.mcap"), None);
    assert_eq!(assert_video(&facts, "/zed1/video", "h264"), 60);
}

fn obstacle(recording: &std::sync::Arc<svo2::Recording>) -> Option<String> {
    let control = Control { events: &mut |_| (), cancelled: &AtomicBool::new(false) };
    copied::obstacle(recording, &control).unwrap()
}

#[test]
fn pictures_that_are_reordered_are_an_obstacle() {
    let (folder, _) = one(|_| ());
    let opened = svo2::Recording::open(&folder.path("a.svo2")).unwrap();
    assert_eq!(obstacle(&opened), None);
    for (codec, encoder, word) in [
        ("h264", "x264enc bframes=2 b-adapt=false key-int-max=15", "B-frame"),
        ("h265", "x265enc key-int-max=15 option-string=bframes=2:b-adapt=0", "another order"),
    ] {
        let path = folder.path(&format!("{codec}.svo2"));
        folder.encode(&path, codec, encoder);
        let why = obstacle(&svo2::Recording::open(&path).unwrap()).expect(codec);
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn calibrations_are_opencvs() {
    let size = svo2::calibration::Resolution::Vga.size();
    let (folder, recording) = one(|recording| (recording.size, recording.frames) = (size, 5));
    let serial = recording.serial;
    let conf = folder.calibration(&format!("SN{serial}.conf"));
    for channels in 1..=4usize {
        let zeros = vec![0u8; (size.0 * size.1) as usize * channels];
        std::fs::write(folder.path(&format!("noise-{channels}.raw")), &zeros).unwrap();
        std::fs::write(folder.path(&format!("smooth-{channels}.raw")), &zeros).unwrap();
    }
    let theirs = readers::opencv(&conf, "VGA", size, folder.dir());
    let ini = std::fs::read_to_string(&conf).unwrap();
    for (line, topics) in [
        (format!("--calibration SN{serial}.conf --preset fast"), vec![("/zed1/calibration", 0, "zed1")]),
        (
            "--calibration . --view side-by-side --overwrite".to_owned(),
            vec![("/zed1/calibration", 0, "zed1"), ("/zed1/calibration_right", 1, "zed1_right")],
        ),
    ] {
        folder.convert(&format!("--input a.svo2 {line}"));
        let file = folder.path("a.mcap");
        for (topic, eye, frame_id) in &topics {
            let facts = judge(&file, &["--messages", topic]);
            let found = &facts["topics"][topic];
            assert_eq!(found["schema_name"], "foxglove.CameraCalibration");
            assert_eq!((&found["schema_is_foxgloves"], &found["count"]), (&true.into(), &1.into()));
            assert_eq!(found["log_times"], json!([recording.times()[0]]));
            let message = &found["messages"][0];
            assert_eq!(message["timestamp"], recording.times()[0]);
            assert_eq!((&message["width"], &message["height"]), (&size.0.into(), &size.1.into()));
            assert_eq!(
                (&message["distortion_model"], &message["frame_id"]),
                (&"plumb_bob".into(), &(*frame_id).into())
            );
            let numbers = |name: &str| -> Vec<f64> {
                message[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
            };
            let section = ini.split("[").nth(1 + eye).unwrap();
            let value = |key: &str| -> f64 {
                section
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("{key}=")))
                    .unwrap()
                    .parse()
                    .unwrap()
            };
            assert_eq!(numbers("D"), ["k1", "k2", "p1", "p2", "k3"].map(value));
            let k = [value("fx"), 0.0, value("cx"), 0.0, value("fy"), value("cy"), 0.0, 0.0, 1.0];
            assert_eq!(numbers("K"), k);
            let flat = |name: &str| -> Vec<f64> {
                let rows = theirs[name][eye].as_array().unwrap().iter();
                rows.flat_map(|row| row.as_array().unwrap()).map(|value| value.as_f64().unwrap()).collect()
            };
            let near = |ours: &[f64], theirs: &[f64]| {
                assert!(
                    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-6),
                    "{ours:?} {theirs:?}"
                );
            };
            near(&numbers("R"), &flat("r"));
            let (mut ours, mut theirs) = (numbers("P"), flat("p"));
            // In metres, and with the sign of ROS; OpenCV has the unit and the sign of the translation.
            assert!(ours[3] <= 0.0);
            (ours[3], theirs[3]) = (ours[3].abs(), theirs[3].abs() / 1000.0);
            near(&ours, &theirs);
        }
        assert_eq!(mcap(&file, None)["topics"]["/zed1/calibration_right"].is_null(), topics.len() == 1);
    }
}

#[test]
fn damaged_frames_are_left_out_up_to_the_next_key_frame_and_told() {
    let (folder, recording) = one(|_| ());
    folder.damage("a.svo2", 20);
    for (line, width) in [("--view side-by-side", 2 * SIZE.0), ("--preset fast", SIZE.0)] {
        let output = folder.run(&format!("--input a.svo2 --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("zed1: frames 20 to 29 are left out"), "{said}");
        assert!(said.contains("zed1: 10 of 60 frames are missing"), "{said}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let camera = &summary["cameras"][0];
        assert_eq!(
            (&camera["frames"], &camera["missing"], &camera["damaged"]),
            (&50.into(), &10.into(), &1.into())
        );
        let Shown { facts, numbers, .. } = folder.show(&folder.path("a.mcap"), "/zed1/video", width, 0);
        assert_whole(&facts);
        let codec = camera["codec"].as_str().unwrap();
        assert_eq!(assert_video(&facts, "/zed1/video", codec), 50);
        let expected: Vec<u32> = (0..20).chain(30..60).collect();
        assert_eq!(numbers, expected);
        let times: Vec<u64> = expected.iter().map(|&frame| recording.times()[frame as usize]).collect();
        assert_eq!(facts["topics"]["/zed1/video"]["log_times"], json!(times));
    }
}

#[test]
fn a_recording_that_was_cut_short_is_exported_up_to_its_last_frame() {
    let (folder, _) = one(|_| ());
    let whole = std::fs::read(folder.path("a.svo2")).unwrap();
    std::fs::write(folder.path("cut.svo2"), &whole[..whole.len() / 2]).unwrap();
    let frames = svo2::Recording::open(&folder.path("cut.svo2")).unwrap().frames();
    for line in ["--view side-by-side", "--preset fast --overwrite"] {
        let output = folder.run(&format!("--input cut.svo2 {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("cut short") && said.contains(&format!("{frames} whole frames")), "{said}");
        let facts = mcap(&folder.path("cut.mcap"), None);
        assert_eq!(facts["topics"]["/zed1/video"]["count"], frames);
    }
}

#[test]
fn what_cannot_work_is_refused_and_nothing_is_written() {
    let (folder, recording) = one(|recording| recording.frames = 40);
    let serial = recording.serial;
    folder.calibration("SN7.conf");
    std::fs::write(folder.path("text.svo2"), "no recording at all").unwrap();
    std::fs::write(folder.path("mine.mcap"), "mine").unwrap();
    std::fs::create_dir(folder.path("empty")).unwrap();
    std::fs::hard_link(folder.path("a.svo2"), folder.path("twin.mcap")).unwrap();
    let names = folder.names();
    let other = format!("it is of camera 7, and the recording is of camera {serial}");
    let no_conf = format!("no SN{serial}.conf");
    for (line, code, parts) in [
        ("", 2, vec!["--input", "--segment-dir"]),
        ("--input a.svo2 --segment-dir .", 2, vec!["--input", "--segment-dir"]),
        ("--input nosuch.svo2", 1, vec!["--input 'nosuch.svo2'", "No such file"]),
        ("--input text.svo2", 1, vec!["--input 'text.svo2'", "it is no SVO2 recording"]),
        ("--input a.svo2 --input a.svo2", 2, vec!["--input 'a.svo2'", "twice"]),
        ("--segment-dir nosuch", 1, vec!["--segment-dir 'nosuch'", "No such file"]),
        ("--segment-dir empty", 1, vec!["--segment-dir 'empty'", "no recordings"]),
        ("--input a.svo2 --policy nearest", 1, vec!["--policy nearest needs two cameras"]),
        ("--input a.svo2 --policy strict", 1, vec!["--policy strict needs two cameras"]),
        ("--input a.svo2 --start-frame 40", 1, vec!["--start-frame 40", "has 40 frames, 0 to 39"]),
        ("--input a.svo2 --start-frame 9 --end-frame 8", 2, vec!["--start-frame 9", "after --end-frame 8"]),
        ("--input a.svo2 --output mine.mcap", 1, vec!["--output 'mine.mcap'", "--overwrite replaces it"]),
        ("--input a.svo2 --output twin.mcap --overwrite", 1, vec!["'twin.mcap'", "the recording itself"]),
        ("--input a.svo2 --output nosuch/b.mcap", 1, vec!["--output 'nosuch/b.mcap'", "folder 'nosuch'"]),
        ("--input a.svo2 --output /proc/b.mcap", 1, vec!["--output '/proc/b.mcap'"]),
        ("--input a.svo2 --calibration SN7.conf", 1, vec!["--calibration 'SN7.conf'", &other]),
        ("--input a.svo2 --calibration .", 1, vec!["--calibration", &no_conf]),
        ("--input a.svo2 --calibration text.svo2", 1, vec!["--calibration", "text.svo2"]),
        ("--input a.svo2 --with-pose", 2, vec!["--with-pose", "ZED SDK"]),
        ("--input a.svo2 --with-depth", 2, vec!["--with-depth", "ZED SDK"]),
        ("--input a.svo2 --quality 99", 2, vec!["--quality", "99"]),
    ] {
        let output = folder.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}: {}", text(&output.stdout));
        assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "{line}: {said}");
        assert_eq!(folder.names(), names, "{line}");
    }
    assert_eq!(std::fs::read(folder.path("mine.mcap")).unwrap(), b"mine");
    // A size that no camera has has no calibration.
    folder.calibration(&format!("SN{serial}.conf"));
    let output = folder.run(&format!("--input a.svo2 --calibration SN{serial}.conf"));
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("--calibration") && said.contains("320x240"),
        "{said}"
    );
}

/// A process may write no more than so much into a file: a disk that is full, for whoever writes.
#[test]
fn a_full_disk_is_told_and_nothing_stays() {
    let (folder, _) = one(|_| ());
    for line in ["--view side-by-side", "--preset fast --quality 1"] {
        let mut shell = Command::new("sh");
        // In blocks of 512 bytes; without the signal, a write says what is wrong.
        shell.args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\""]);
        shell.args([env!("CARGO_BIN_EXE_cvmmap-streamer"), "svo-to-mcap", "--input", "a.svo2"]);
        let output = run(shell.args(line.split(' ')).current_dir(folder.dir()));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--output 'a.mcap'") && said.contains("File too large"), "{said}");
        assert_eq!(folder.names(), ["a.svo2"]);
    }
}

#[test]
fn an_interrupted_export_leaves_a_readable_file_beside_its_name() {
    let (folder, _) = one(|recording| (recording.frames, recording.size) = (1000, (640, 480)));
    // A recording of that name that somebody makes right now, or has lost in a crash.
    std::fs::write(folder.path("a.mcap.part"), "live").unwrap();
    for (round, signal) in [libc::SIGINT, libc::SIGTERM].into_iter().enumerate() {
        let mut command = folder.command("--input a.svo2 --codec h264 --preset quality --quality 1");
        let mut process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let part = folder.path(".a.mcap.part");
        // The first chunk is on the disk.
        wait_for("the file to grow", || part.metadata().is_ok_and(|found| found.len() > 10_000));
        process.signal(signal);
        wait_for("the end", || process.0.try_wait().unwrap().is_some());
        let told = said(&mut process);
        assert_eq!(process.0.wait().unwrap().code(), Some(130), "{told}");
        assert!(told.contains("error: interrupted: 'a.mcap.interrupted' can be read"), "{told}");
        assert_eq!(folder.names(), ["a.mcap.interrupted", "a.mcap.part", "a.svo2"], "round {round}");
        let left = folder.path("a.mcap.interrupted");
        let Shown { facts, numbers, .. } = folder.show(&left, "/zed1/video", 640, 0);
        assert_whole(&facts);
        let count = assert_video(&facts, "/zed1/video", "h264");
        assert!((1..1000).contains(&count), "{count}");
        assert_eq!(numbers.len(), count);
    }
    // Once the file is there, nobody wants it.
    folder.convert("--input a.svo2 --view side-by-side");
    assert_eq!(folder.names(), ["a.mcap", "a.mcap.part", "a.svo2"]);
    assert_eq!(std::fs::read(folder.path("a.mcap.part")).unwrap(), b"live", "nobody else's is touched");
}

fn by(candidates: &[&str]) -> Conversion {
    Conversion {
        view: View::Left,
        policy: None,
        tolerance_ns: None,
        range: CopyRange::Common,
        compression: Compression::Zstd,
        frames: Frames::default(),
        encoding: Encoding {
            codec: Codec::H264,
            candidates: candidates.iter().map(|&name| name.to_owned()).collect(),
            preset: Preset::Fast,
            quality: 21,
            threads: None,
        },
        codec_is_given: false,
        calibrations: vec![],
        overwrite: true,
    }
}

#[test]
fn an_encoder_that_does_not_work_is_given_up_for_the_next() {
    let (folder, _) = one(|recording| recording.frames = 90);
    encoders::register();
    let segment = Segment::of_inputs(&[folder.path("a.svo2")]).unwrap();
    let output = folder.path("a.mcap");
    let cancelled = AtomicBool::new(false);
    for factory in [
        "nosuchenc",
        "closedenc",
        "stillbornenc",
        "narrowenc",
        "refusingenc",
        "swallowingenc",
        "hangingenc",
        "failingenc",
    ] {
        let (mut notices, mut last) = (Vec::new(), (0, 0));
        let mut events = |event| match event {
            Event::Notice(text) => notices.push(text),
            Event::Progress { done, total } => last = (done, total),
        };
        let mut control = Control { events: &mut events, cancelled: &cancelled };
        let done = convert(&segment, &output, &by(&[factory, "x264enc"]), &mut control).unwrap();
        assert_eq!(
            (done.cameras[0].written, done.cameras[0].encoder.as_deref()),
            (90, Some("x264enc")),
            "{factory}"
        );
        assert_eq!(last, (90, 90), "{factory}");
        let told = format!("warning: encoder {factory} is given up for x264enc (");
        assert!(notices.len() == 1 && notices[0].starts_with(&told), "{factory}: {notices:?}");
        let Shown { facts, numbers, .. } = folder.show(&output, "/zed1/video", SIZE.0, 0);
        assert_eq!(assert_video(&facts, "/zed1/video", "h264"), 90, "{factory}");
        assert_eq!(numbers, (0..90).collect::<Vec<u32>>(), "{factory}");
    }
    std::fs::remove_file(&output).unwrap();
    let mut control = Control { events: &mut |_| (), cancelled: &cancelled };
    let failure = convert(&segment, &output, &by(&["closedenc", "refusingenc"]), &mut control).unwrap_err();
    assert_eq!(failure.exit, Exit::Pipeline);
    assert!(failure.to_string().contains("no h264 encoder works: closedenc: "), "{failure}");
    assert_eq!(folder.names(), ["a.svo2"]);
}

#[test]
fn a_clock_that_was_set_back_does_not_turn_time_around() {
    let (folder, recording) = one(|_| ());
    let opened = svo2::Recording::open(&folder.path("a.svo2")).unwrap();
    let out = std::io::BufWriter::new(std::fs::File::create(folder.path("set.svo2")).unwrap());
    let mut writer = svo2::Writer::new(out, opened.header().clone(), &svo2::Layout::default()).unwrap();
    let mut reader = svo2::Reader::new(opened.clone());
    for frame in 0..60 {
        let back = if frame < 30 { 0 } else { 10 * NS };
        writer.frame(opened.unix_ns(frame) - back, &reader.unit(frame).unwrap(), frame % 15 == 0).unwrap();
    }
    writer.finish().unwrap();
    folder.convert("--input set.svo2 --view side-by-side");
    let facts = mcap(&folder.path("set.mcap"), None);
    assert_eq!(assert_video(&facts, "/zed1/video", "h264"), 60);
    let found: Vec<u64> =
        serde_json::from_value(facts["topics"]["/zed1/video"]["log_times"].clone()).unwrap();
    assert_eq!(found[..30], recording.times()[..30]);
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
}
