// SPDX-License-Identifier: MPL-2.0

//! The application's own commands: what they print, and how they end.

mod common;

use std::sync::atomic::AtomicBool;

use common::flv::free_port;
use common::*;
use cvmmap_streamer::sim::svo2::Recording;
use serde_json::Value;

#[test]
fn inspect_tells_names_header_planes_and_rate() {
    let target = unique("inspect");
    let _sim = sim(&target, "--fps 50 --size 320x240 --depth --confidence --encoded h264");
    let output = run(streamer().args(["inspect", &target, "--seconds", "3", "--pattern", "--json"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["target"]["shm_name"], format!("cvmmap_{target}"));
    assert_eq!(report["target"]["zmq_endpoint"], format!("ipc:///tmp/cvmmap_{target}"));
    let header = &report["segment"]["header"];
    assert_eq!(header["version"], "2.1");
    let planes: Vec<_> =
        header["planes"].as_array().unwrap().iter().map(|plane| plane["plane"].clone()).collect();
    assert_eq!(planes, ["left", "depth", "confidence", "encoded"]);
    assert_eq!(header["encoded"]["codec"], "H.264");
    let frames = &report["frames"];
    let fps = frames["fps"].as_f64().unwrap();
    // The simulator's pace, which a loaded machine does not keep.
    assert!((10.0..60.0).contains(&fps), "{frames}");
    assert!(frames["accepted"].as_u64().unwrap() > 5, "{frames}");
    assert_eq!(frames["accepted_torn"], 0, "{frames}");

    let output = run(streamer().args(["inspect", &target, "--seconds", "0.5"]));
    let shown = text(&output.stdout);
    assert!(shown.contains("pixel_format: BGR") && shown.contains("fps: "), "{shown}");
}

#[test]
fn inspect_of_nobody_tells_the_names_and_times_out() {
    let target = unique("nobody");
    let output = run(streamer().args(["inspect", &target, "--seconds", "0.2", "--json"]));
    assert_eq!(output.status.code(), Some(124));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["segment"]["error"], format!("segment 'cvmmap_{target}' does not exist"));
    assert!(text(&output.stderr).contains("no frame was announced"), "{}", text(&output.stderr));
}

#[test]
fn inspect_tells_what_is_in_a_recording_and_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.svo2");
    let recording = Recording {
        codec: svo2::Codec::H264,
        size: (320, 240),
        frames: 60,
        gop: 20,
        lost_before: vec![10, 30, 30, 30],
        ..Recording::default()
    };
    init();
    recording.create(&file, &AtomicBool::new(false)).unwrap();
    let inspect = |more: &[&str]| {
        let output = run(streamer().arg("inspect").arg(&file).args(more));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let report: Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
    let (video, time, gaps) = (&report["video"], &report["time"], &report["gaps"]);
    assert_eq!(report["opened"]["by"], "index");
    assert_eq!(report["camera"]["serial"], "40735594");
    assert_eq!(
        (&video["codec"], &video["width"], &video["view_width"]),
        (&"h264".into(), &640.into(), &320.into())
    );
    assert_eq!((&video["frames"], &report["damage"]["frames"]), (&60.into(), &0.into()));
    assert_eq!(time["first_unix_ns"], recording.begins_ns);
    assert_eq!(time["first_utc"], "2023-11-14T22:13:20.000000000Z");
    assert_eq!(time["last_unix_ns"], recording.times()[59]);
    assert_eq!((&time["fps_said"], time["fps_typical"].as_f64().unwrap().round()), (&30.into(), 30.0));
    assert!((27.0..29.0).contains(&time["fps_mean"].as_f64().unwrap()), "four frames are lost: {time}");
    assert_eq!((&gaps["count"], &gaps["lost_frames"]), (&2.into(), &4.into()));
    assert_eq!((&gaps["biggest"]["after_frame"], &gaps["biggest"]["lost"]), (&29.into(), &3.into()));
    let keys = &report["key_frames"];
    assert_eq!(
        (&keys["count"], &keys["distance_min"], &keys["distance_max"]),
        (&3.into(), &20.into(), &20.into())
    );
    assert_eq!(report["topics"]["Camera_SN40735594/side_by_side"], 60);
    assert_eq!(report["imu"]["integrated_samples"], 60);
    assert!((350.0..450.0).contains(&report["imu"]["hz"].as_f64().unwrap()), "{report}");
    assert!(report["index_memory_bytes"].as_u64().unwrap() >= 60 * 16);
    let shown = inspect(&[]);
    assert!(shown.contains("  frames: 60\n") && shown.contains("  lost_frames: 4\n"), "{shown}");

    // A picture that was changed is seen by the checksum alone.
    let whole = std::fs::read(&file).unwrap();
    let unit = svo2::Reader::new(svo2::Recording::open(&file).unwrap()).unit(25).unwrap();
    let at = whole.windows(unit.len()).position(|window| window == unit).unwrap();
    let mut bytes = whole.clone();
    bytes[at + unit.len() - 2] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let report: Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
    assert_eq!((&report["damage"]["frames"], &report["damage"]["chunks_changed"]), (&0.into(), &Value::Null));
    let report: Value = serde_json::from_str(&inspect(&["--json", "--check"])).unwrap();
    assert_eq!((&report["damage"]["frames"], &report["damage"]["chunks_changed"]), (&0.into(), &1.into()));

    // What a frame says of its own size; and the end is missing.
    let mut bytes = whole;
    bytes[at - 4] ^= 0xff;
    bytes.truncate(bytes.len() - 40);
    std::fs::write(&file, bytes).unwrap();
    for more in [&["--json"][..], &["--json", "--check"]] {
        let report: Value = serde_json::from_str(&inspect(more)).unwrap();
        assert_eq!(report["opened"]["by"], "scan");
        assert_eq!(report["damage"]["frames"], 1, "{report}");
        assert_eq!(report["damage"]["first"][0]["frames"], "25-25");
    }
}

#[test]
fn sim_records_for_each_eye_and_over_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.svo2");
    let line = "sim --frames 40 --gop 15 --size 320x240 --fps 25 --svo2-compression zstd --svo2";
    let record = || run(streamer().args(line.split(' ')).arg(&file));
    // What one left who was killed is taken over.
    std::fs::write(folder.path().join(".a.svo2.part"), "cut short").unwrap();
    let output = record();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let recording = svo2::Recording::open(&file).unwrap();
    assert_eq!((recording.frames(), recording.size()), (40, (640, 240)));
    let step_ns = recording.running_ns(39) / 39;
    assert_eq!((recording.codec(), step_ns), (svo2::Codec::H265, 40_000_000));
    let mut reader = svo2::Reader::new(recording);
    let entries = (0..40).filter(|&frame| reader.entry_for(frame) == Some(frame)).collect::<Vec<_>>();
    assert_eq!(entries, [0, 15, 30]);

    let before = std::fs::read(&file).unwrap();
    let output = record();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("it exists, and nothing is overwritten"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);

    for (line, rule) in [
        ("sim --svo2 b.svo2 --frames 16777216", "recordings have 1 to 16777215"),
        ("sim --svo2 b.svo2 --frames 9 --fps 0.5", "--fps 0.5: recordings have 1 to 1000"),
        ("sim --svo2 b.svo2 --frames 9 --size 321x240", "--size 321x240: recordings have even sides"),
    ] {
        let output = run(streamer().args(line.split(' ')).current_dir(folder.path()));
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(text(&output.stderr).contains(rule), "{line}: {}", text(&output.stderr));
    }
}

/// Whoever reads may have seen enough; that panicked once, with exit code 101.
#[test]
fn closed_pipes_end_nothing() {
    let closed = || std::io::pipe().unwrap().1;
    let target = unique("closed");
    let plan = "run --uri cam0 --codec h264 --encoder software --rtp --rtp-endpoint 127.0.0.1:9";
    let dummy = "run --input-mode dummy --codec h264 --dummy-frames 5 --rtp --rtp-endpoint 127.0.0.1:9";
    for (line, code) in [
        (format!("{plan} --print-plan"), 0),
        (format!("{dummy} --encoder nosuchenc"), 5),
        (format!("{dummy} --dummy-width 64 --dummy-height 64 --encoder software --json"), 0),
        (format!("sim {target} --frames 2 --size 64x64"), 0),
        (format!("sim {target} --frames 2 --size 64x64 --json"), 0),
        (format!("inspect {target} --seconds 0.1"), 124),
        (format!("rtp-receive --port {} --expect-pt 96 --codec h264 --timeout-ms 100", free_port()), 124),
        ("smoke rtmp://127.0.0.1/live/cam0 --rows rtp-h264".into(), 0),
    ] {
        let mut command = streamer();
        command.args(line.split_whitespace()).stdout(closed()).stderr(closed());
        let mut process = Process::spawn(&mut command);
        // Holds the closed ends too.
        drop(command);
        wait_for("it to end", || process.0.try_wait().unwrap().is_some());
        assert_eq!(process.0.wait().unwrap().code(), Some(code), "{line}");
    }
}

#[test]
fn arguments_that_cannot_work_name_the_flag_and_the_rule() {
    let long = "x".repeat(24);
    for (args, code, part) in [
        (vec!["sim", "bad/name"], 2, "plain cvmmap instance names"),
        (vec!["sim", "cvmmap://a@tmp"], 2, "prefix 'tmp' is not an absolute path"),
        (vec!["sim", &long], 2, "1 to 23 bytes"),
        (vec!["sim", "a", "--size", "640"], 2, "'640' is not WIDTHxHEIGHT"),
        (vec!["sim", "a", "--size", "8x8"], 2, "width and height are 16 to 16384"),
        (vec!["sim", "a", "--fps", "-1"], 2, "--fps -1: it is 0, or 0.001 to 10000"),
        (vec!["sim", "a", "--fps=-1"], 2, "--fps -1: it is 0, or 0.001 to 10000"),
        (vec!["sim", "a", "--metadata", "v1", "--depth"], 2, "these planes need version 2.0"),
        (vec!["sim", "a", "--metadata", "v2", "--encoded", "h264"], 2, "these planes need version 2.1"),
        (vec!["sim", "a", "--fault", "melt@3"], 2, "'melt' is none of"),
        (vec!["sim", "cvmmap://a@/no/such/folder", "--frames", "1"], 1, "the folder '/no/such/folder'"),
        (vec!["inspect", "bad/name"], 2, "plain cvmmap instance names"),
        (vec!["inspect", "a", "--coherence", "perfect"], 2, "is none of metadata, verify, next-sync"),
        (vec!["inspect", "a", "--seconds=-1"], 2, "--seconds -1: it is 0 to 3600"),
        (vec!["inspect", "a", "--check"], 2, "--check: it is for recordings"),
        (vec!["inspect", "a.svo2", "--seconds", "1"], 2, "--seconds: it is for producers"),
        (vec!["inspect", "/no/such/a.svo2"], 1, "'/no/such/a.svo2': No such file"),
        (vec!["inspect", "/no/such/a.SVO"], 1, "No such file"),
        (vec!["inspect", "Cargo.toml"], 1, "'Cargo.toml': it is no SVO2 recording"),
        (vec!["inspect", "cvmmap://a@/no/such/folder"], 1, "'/no/such/folder'"),
        (vec!["frobnicate"], 2, "frobnicate"),
    ] {
        let output = run(streamer().args(&args));
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {shown}");
        assert!(shown.contains(part), "{args:?}: '{part}' is not in\n{shown}");
    }
}

#[test]
fn the_servers_url_of_the_environment_is_everybodys_default() {
    let with = |command: &mut std::process::Command, url: &str| {
        let output = run(command.env("CVMMAP_NATS_URL", url));
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let plan = "run --uri cam0 --codec h264 --encoder software --rtp --rtp-endpoint 127.0.0.1:9 --print-plan";
    let streamer = |line: &str, url: &str| with(streamer().args(line.split_whitespace()), url);
    for line in [plan, "discover", "control cam0 info"] {
        let (code, said) = streamer(line, "http://h");
        assert!(code == Some(2) && said.contains("--nats-url 'http://h': it is nats://"), "{line}: {said}");
    }
    // Whoever pastes the line elsewhere means the same server.
    for (more, url) in [("", "nats://h:1"), (" --nats-url nats://localhost:4222", "nats://localhost:4222")] {
        let (_, said) = streamer(&format!("{plan}{more}"), "nats://h:1");
        assert!(said.contains(&format!("nats-url={url} ")), "{said}");
    }
    for element in ["cvmmapsrc", "cvmmapsink"] {
        let (_, said) = with(gst_tool("gst-inspect-1.0").arg(element), "nats://h:1");
        assert!(said.contains("\"nats://h:1\""), "{element}: {said}");
    }
}
