// SPDX-License-Identifier: MPL-2.0

//! A producer and a consumer in Python, written against the contract page and sharing no code with ours.

mod common;

use std::process::Command;

use common::*;
use gst::prelude::*;
use serde_json::Value;

/// Debian's Python, whose packages `make test` installs.
fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(format!("{}/tests/python/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

/// What a Python producer leaves when it is ended early.
struct Litter(String);

impl Drop for Litter {
    fn drop(&mut self) {
        for path in [format!("/dev/shm/cvmmap_{}", self.0), format!("/tmp/cvmmap_{}", self.0)] {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn consumed(target: &str, frames: usize) -> Vec<Value> {
    let output = run(python("consumer.py").args([target, &frames.to_string()]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), frames);
    lines
}

#[test]
fn a_python_producer_is_read_by_cvmmapsrc() {
    let target = unique("py");
    // Dropped last, after the producer.
    let _litter = Litter(target.clone());
    let _producer = Process::spawn(python("producer.py").args([&target, "6000"]));
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    let mut last = None;
    for _ in 0..60 {
        let sample = consumer.sample();
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        assert_eq!((info.format(), info.width(), info.height()), (gst_video::VideoFormat::Bgr, 160, 120));
        let buffer = sample.buffer().unwrap();
        let map = buffer.map_readable().unwrap();
        let value = (buffer.offset() % 251) as u8;
        assert_eq!(map.len(), 160 * 120 * 3);
        assert!(map.iter().all(|&byte| byte == value), "frame {} is torn", buffer.offset());
        assert!(last.is_none_or(|last| last < buffer.offset()));
        last = Some(buffer.offset());
    }
}

#[test]
fn a_python_consumer_reads_what_cvmmapsink_publishes() {
    init();
    for (version, major) in [("v1", 1), ("v2", 2)] {
        let target = unique("pysink");
        // Solid red: BGR 0,0,255 in every pixel; 102 pixels make rows that GStreamer pads.
        let launch = format!(
            "videotestsrc is-live=true pattern=red ! video/x-raw,format=BGR,width=102,height=50,framerate=50/1 \
             ! cvmmapsink uri=cvmmap://{target} metadata-version={version}"
        );
        let pipeline = gst::parse::launch(&launch).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        for seen in consumed(&target, 10) {
            assert_eq!(seen["magic"], 0x7D);
            assert_eq!(seen["major"], 1);
            assert_eq!(seen["label"], target.as_str());
            assert_eq!(seen["cv_mmap"], "CV-MMAP");
            assert_eq!(seen["version"][0], major);
            assert_eq!((&seen["count"], &seen["stamp"]), (&seen["header_count"], &seen["header_stamp"]));
            assert_eq!((&seen["width"], &seen["height"]), (&Value::from(102), &Value::from(50)));
            assert_eq!((&seen["pixel_format"], &seen["depth"]), (&Value::from(1), &Value::from(0)));
            assert_eq!(seen["corner"], serde_json::json!([0, 0, 255]));
            assert_eq!(seen["sum"], 255 * 102 * 50);
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_python_consumer_reads_the_simulator() {
    let target = unique("pysim");
    let _sim = sim(&target, "--fps 30 --depth --confidence --size 320x240");
    let seen = consumed(&target, 5);
    assert_eq!((&seen[0]["planes"], &seen[0]["mask"]), (&Value::from(3), &Value::from(7)));
    let counts: Vec<u64> = seen.iter().map(|seen| seen["count"].as_u64().unwrap()).collect();
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
}
