// SPDX-License-Identifier: MPL-2.0

//! The rig of the control plane's tests: server, producer, client and judges in Python, without any of our own code
//! between them. What fails here is the rig.

mod common;

use std::path::Path;
use std::process::Command;

use common::nats::Nats;
use common::nats_peer::{Producer, ask, discover, garbage, publish_garbage, watch};
use common::*;
use serde_json::{Value, json};

const NAMES: [(&str, &[&str]); 4] = [
    ("newer", &["producer"]),
    ("older", &["control"]),
    ("both", &["producer", "control"]),
    ("newest", &["producer"]),
];

#[test]
fn each_dialect_answers_on_its_subjects_and_is_discovered() {
    let nats = Nats::start();
    let url = nats.url();
    for (dialect, prefixes) in NAMES {
        let producer =
            Producer::start(&unique("rig.d"), &url, &format!("--dialect {dialect} --unknown-fields"));
        let found = discover(&url, "cvmmap_producer");
        let metadata = &found["info"][0]["metadata"];
        assert_eq!(found["ping"].as_array().unwrap().len(), 1, "{found}");
        assert_eq!(metadata["status_subject"], producer.subject("status").as_str());
        for prefix in ["producer", "control"] {
            let answered = prefixes.contains(&prefix);
            let info = ask(&url, &producer.subject(&format!("{prefix}.source.info")), "Empty", &[]);
            assert_eq!(info["answer"]["source_kind"] == 1, answered, "{dialect} {prefix}: {info}");
            assert_eq!(info["failed"] == "no responders", !answered, "{dialect} {prefix}: {info}");
            assert_eq!(metadata.get(format!("{prefix}_subject_prefix")).is_some(), answered, "{dialect}");
        }
        let seek = producer.subject(&format!("{}.source.seek", prefixes[0]));
        let answer = ask(&url, &seek, "SeekTimestampRequest", &["target_timestamp_ns=5"]);
        if dialect == "newest" {
            assert_eq!(answer["failed"], "no responders");
        } else {
            assert_eq!(answer["answer"]["error"], 3, "a live source cannot seek: {answer}");
            let asked = producer.wait_for_requests(".source.seek", 1);
            assert_eq!(asked[0]["fields"]["target_timestamp_ns"], 5);
        }
    }
}

#[test]
fn a_replay_seeks_loops_and_tracks_bodies() {
    let nats = Nats::start();
    let url = nats.url();
    let mut producer = Producer::start(&unique("rig"), &url, "--finite 1 --loop --bodies 2 --fps 20");
    let mut seen = watch(&url, &[&producer.subject("status"), &producer.subject("body")]);
    let answer = ask(
        &url,
        &producer.subject("control.source.seek"),
        "SeekTimestampRequest",
        &["target_timestamp_ns=899999999"],
    );
    let landed = json!({
        "error": 0,
        "requested_timestamp_ns": 899_999_999,
        "landed_timestamp_ns": 900_000_000,
        "landed_frame_count": 18,
        "exact_match": false,
    });
    assert_eq!(answer["answer"], landed);
    producer.wait_for_done("loop");
    seen.wait("the event of the new round", |line| line["event"]["status"] == 3);
    producer.tell("quit");
    seen.wait("OFFLINE", |line| line["event"]["status"] == 2);

    let packets: Vec<Value> = seen.lines().into_iter().filter(|line| line.get("header").is_some()).collect();
    assert!(packets.iter().all(|packet| packet["is_sample"] == true));
    let landing = packets.iter().find(|packet| packet["header"]["timestamp_ns"] == 900_000_000_u64).unwrap();
    assert_eq!(landing["header"]["frame_count"], 18);
    let late = |packet: &Value| packet["header"]["timestamp_ns"].as_u64().unwrap() > 1_000_000_000;
    assert!(!packets.iter().any(late), "the last sample is at the end of the timeline");
}

#[test]
fn pictures_go_on_while_the_server_is_dead_or_frozen() {
    let mut nats = Nats::start();
    let target = unique("rig");
    let mut producer = Producer::start(&target, &nats.url(), "--bodies 2 --fps 60");
    let segment = target.parse::<cvmmap_ipc::Target>().unwrap().shm_name();
    let count = || {
        let info = cvmmap_ipc::peek_segment(&segment).unwrap();
        info.header.unwrap().frame.count
    };
    let go_on = |while_what: &str| {
        let first = count();
        wait_for(while_what, || count() > first + 60);
    };
    nats.kill();
    producer.wait_for_done("disconnected");
    go_on("a second of pictures without a server");
    nats.restart();
    producer.wait_for_done("reconnected");
    nats.freeze();
    go_on("a second of pictures with a frozen server");
    nats.thaw();
    let info = ask(&nats.url(), &producer.subject("producer.source.info"), "Empty", &[]);
    assert_eq!(info["answer"]["flags"], 0x18, "{info}");
}

#[test]
fn garbage_is_told_from_what_is_valid() {
    let nats = Nats::start();
    let url = nats.url();
    let producer = Producer::start(&unique("rig"), &url, "--bodies 1 --garbage");
    let mut seen = watch(&url, &[&producer.subject("*")]);
    seen.wait("a valid packet", |line| line["is_sample"] == true);
    for tail in [".body", ".status"] {
        let ends = |line: &Value| line["subject"].as_str().is_some_and(|subject| subject.ends_with(tail));
        seen.wait("garbage", |line| ends(line) && line.get("undecodable").is_some());
    }
    let info = ask(&url, &producer.subject("producer.source.info"), "Empty", &[]);
    assert_eq!(info["failed"], "undecodable", "{info}");

    // Garbage from a client is refused by a producer that answers well.
    let good = Producer::start(&unique("rig"), &url, "--dialect older");
    let refused = garbage(&url, &[&good.subject("control.source.seek")]);
    assert_eq!(refused.len(), 10);
    assert!(refused.iter().all(|line| line["answer"]["error"] == 4), "{refused:?}");
    publish_garbage(&url, &[&good.subject("status")]);
    let info = ask(&url, &good.subject("control.source.info"), "Empty", &[]);
    assert_eq!(info["answer"]["error"], 0, "{info}");
}

#[test]
fn events_and_counts_come_as_they_are_told() {
    let nats = Nats::start();
    let mut producer = Producer::start(&unique("rig"), &nats.url(), "--no-online --fps 60");
    let mut seen = watch(&nats.url(), &[&producer.subject("status")]);
    for (command, status) in [("online", 1), ("offline", 2), ("reset-event", 3)] {
        producer.tell(command);
        seen.wait(command, |line| line["event"]["status"] == status);
    }
    producer.tell("reset-count");
    producer.tell("reset");
    producer.tell("quit");
    seen.wait("OFFLINE of the end", |line| line["event"]["status"] == 2);
    producer.wait_for_done("quit");
    let events: Vec<Value> =
        producer.talker.lines().into_iter().filter(|line| line["did"] == "event").collect();
    let told: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(told[..3], ["online", "offline", "reset-event"], "no ONLINE at the start");
    assert_eq!(told.last(), Some(&"offline"));
}

#[test]
fn the_vectors_are_what_their_script_makes() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/cvmmap-control/tests/vectors/make.py");
    let output = run(Command::new("/usr/bin/python3").arg(script).arg("--check"));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Fifteen pictures with a delimiter before each; 0, 5 and 10 are key frames with parameter sets.
fn bitstream(codec: &str, out: &Path) {
    let params = "aud=1:repeat-headers=1:bframes=0:keyint=5:min-keyint=5:log-level=error";
    let (library, option, format) = match codec {
        "h264" => ("libx264", "-x264-params", "h264"),
        _ => ("libx265", "-x265-params", "hevc"),
    };
    let mut ffmpeg = readers::ffmpeg_program();
    ffmpeg.args([
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=30",
        "-frames:v",
        "15",
    ]);
    ffmpeg.args(["-c:v", library, "-pix_fmt", "yuv420p", option, params, "-f", format]).arg(out);
    let output = run(&mut ffmpeg);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Fault and picture, topic, and the list that names the message; the bodies begin with picture 1.
const FAULTS: [(&str, &str, &str, u64); 8] = [
    ("no-start-code@2", "/camera/video", "no_start_code", 2),
    ("two-units@3", "/camera/video", "not_one_access_unit", 3),
    ("timestamp@4", "/camera/video", "timestamp_is_not_log_time", 4),
    ("no-parameter-sets@5", "/camera/video", "keys_without_parameter_sets", 5),
    ("publish-time@6", "/camera/video", "log_time_is_not_publish_time", 6),
    ("truncated-body@7", "/camera/body", "undecodable", 6),
    ("changed-body@8", "/camera/body", "not_sample", 7),
    ("body-time@9", "/camera/body", "time_is_not_packets", 8),
];

#[test]
fn the_judge_of_mcap_files_finds_faults_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, file, out) = (dir.path().join("raw"), dir.path().join("a.mcap"), dir.path().join("out"));
    let judged = |codec: &str, faults: &[&str]| {
        let script = format!("{}/tests/readers/mcap_sample.py", env!("CARGO_MANIFEST_DIR"));
        let mut sample = Command::new(readers::folder().join("venv/bin/python"));
        let output = run(sample.arg(script).arg(&file).arg(codec).arg(&raw).args(faults));
        assert!(output.status.success(), "{}", text(&output.stderr));
        readers::mcap(&file, Some(&out))
    };
    let numbers = |list: &Value| -> Vec<u64> {
        let number = |item: &Value| item["message"].as_u64().or(item.as_u64()).unwrap();
        list.as_array().unwrap().iter().map(number).collect()
    };
    for codec in ["h264", "h265"] {
        bitstream(codec, &raw);
        let good = judged(codec, &[]);
        assert!(std::fs::read(&raw).unwrap() == std::fs::read(&out).unwrap(), "{codec}: {good}");
        assert_eq!((&good["finished"], &good["errors"]), (&json!(true), &json!([])));
        let video = &good["topics"]["/camera/video"];
        assert_eq!((&video["count"], &video["key_frames"]), (&json!(15), &json!([0, 5, 10])));
        assert_eq!((&video["formats"], &video["schema_is_foxgloves"]), (&json!([codec]), &json!(true)));
        assert_eq!((&video["monotonic"], &video["unknown_fields"]), (&json!(true), &json!([])));

        let bad = judged(codec, &[&FAULTS.map(|fault| fault.0)[..], &["backwards@12"]].concat());
        for (fault, topic, list, message) in FAULTS {
            assert_eq!(numbers(&good["topics"][topic][list]), [0; 0], "{codec} {list}");
            assert_eq!(numbers(&bad["topics"][topic][list]), [message], "{codec} {fault}");
        }
        assert_eq!(bad["topics"]["/camera/video"]["monotonic"], false);
        let cut = judged(codec, &["unfinished"]);
        assert_eq!((&cut["finished"], &cut["summary"]), (&json!(false), &Value::Null));
        assert!(cut["topics"]["/camera/video"]["count"].as_u64() < Some(15));
    }
}
