// SPDX-License-Identifier: MPL-2.0

//! `timeline`: what a segment's picture shows, read by an XML parser that is not ours.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use common::readers;
use common::*;
use cvmmap_streamer::sim::svo2::Recording;
use serde_json::{Value, json};

const BEGINS: u64 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;

/// Prints the picture as JSON: all texts, and for each class the rectangles with what they tell.
const READ: &str = r#"
import json, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
ns = "{http://www.w3.org/2000/svg}"
words = lambda node: "".join(node.itertext()).strip()
bars = [{"class": bar.get("class"), "x": float(bar.get("x")), "y": float(bar.get("y")), "width": float(bar.get("width")), "told": words(bar)}
        for bar in root.iter(ns + "rect") if bar.get("class")]
print(json.dumps({"tag": root.tag, "texts": [words(text) for text in root.iter(ns + "text")], "bars": bars}))
"#;

/// Three cameras: the second starts later and lost frames, the third has a damaged frame.
fn segment(root: &Path) -> PathBuf {
    init();
    let folder = root.join("a<b & c");
    std::fs::create_dir(&folder).unwrap();
    let camera = |number: u64, change: fn(&mut Recording)| {
        let begins_ns = BEGINS + number * 3 * MS;
        let mut recording = Recording {
            size: (64, 48),
            fps: 10,
            frames: 40,
            gop: 10,
            begins_ns,
            imu: false,
            ..Recording::default()
        };
        change(&mut recording);
        let path = folder.join(format!("a_zed{number}.svo2"));
        recording.create(&path, &AtomicBool::new(false)).unwrap();
        path
    };
    camera(1, |_| ());
    camera(2, |recording| {
        recording.begins_ns += 500 * MS;
        recording.lost_before = vec![12, 12, 12];
    });
    damage(&camera(3, |_| ()), 25);
    folder
}

fn timeline(folder: &Path, line: &str) -> Output {
    run(streamer().arg("timeline").arg(folder).args(line.split_whitespace()))
}

fn read(picture: &Path) -> Value {
    let output = run(Command::new(readers::folder().join("venv/bin/python")).args(["-c", READ]).arg(picture));
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(picture: &Value) -> Vec<&str> {
    picture["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn bars<'a>(picture: &'a Value, class: &str) -> Vec<&'a Value> {
    picture["bars"].as_array().unwrap().iter().filter(|bar| bar["class"] == class).collect()
}

#[test]
fn gaps_damage_and_groups_are_seen() {
    let root = tempfile::tempdir().unwrap();
    let folder = segment(root.path());
    let output = timeline(&folder, "--json");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let camera = |n: usize, field: &str| report["cameras"][n][field].clone();
    assert_eq!([0, 1, 2].map(|n| camera(n, "frames")), [json!(40), json!(40), json!(40)]);
    assert_eq!((camera(1, "gaps"), camera(1, "lost_frames")), (json!(1), json!(3)));
    assert_eq!((camera(2, "damaged_places"), camera(2, "undecodable_frames")), (json!(1), json!(5)));
    // From 503 ms to 3903 ms, every 100 ms: 1 to 3 of the second camera's frames are not there.
    let groups = &report["groups"];
    let slowest = groups["count"].as_u64().unwrap();
    assert_eq!((slowest, &groups["no_frame"]), (31, &json!({ "zed1": 0, "zed2": 0, "zed3": 0 })));
    assert_eq!(groups["damaged"], json!({ "zed1": 0, "zed2": 0, "zed3": 5 }));
    assert_eq!(groups["complete"], 26);

    let picture = read(&folder.join("a<b & c_timeline.svg"));
    let texts = texts(&picture);
    assert_eq!(picture["tag"], "{http://www.w3.org/2000/svg}svg");
    for part in [
        "segment a<b & c",
        "3 lost in 1 gap",
        "5 cannot be decoded",
        "31 groups by zed2, 26 of them complete",
    ] {
        assert!(texts.iter().any(|text| text.contains(part)), "{part}: {texts:?}");
    }
    let told =
        |class: &str| bars(&picture, class).iter().map(|bar| bar["told"].to_string()).collect::<String>();
    assert!(told("missing").contains("3 lost behind frame 11"), "{}", told("missing"));
    assert!(told("damaged").contains("frames 25 to 29 cannot be decoded"), "{}", told("damaged"));
    assert!(told("damaged").contains("zed3 is damaged (frame 25)"), "{}", told("damaged"));
    // All of it lasts from 3 ms to 4806 ms; the gap from 1706 ms to 2006 ms.
    let gap =
        bars(&picture, "missing").into_iter().find(|bar| bar["told"].to_string().contains("lost")).unwrap();
    let (span, from) = (4803.0, 90.0 + 1703.0 / 4803.0 * 1000.0);
    assert!((gap["x"].as_f64().unwrap() - from).abs() < 3.0, "{gap} {from}");
    assert!((gap["width"].as_f64().unwrap() - 300.0 / span * 1000.0).abs() < 3.0, "{gap}");
}

#[test]
fn a_recording_that_cannot_be_opened_is_drawn_as_such() {
    let root = tempfile::tempdir().unwrap();
    let folder = segment(root.path());
    std::fs::write(folder.join("a_zed1.svo2"), "this is none").unwrap();
    let output = timeline(&folder, &format!("-o {}", root.path().join("t.svg").display()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let picture = read(&root.path().join("t.svg"));
    assert!(texts(&picture).iter().any(|text| text.contains("a_zed1.svo2")), "{picture}");
    for number in [2, 3] {
        std::fs::write(folder.join(format!("a_zed{number}.svo2")), "").unwrap();
    }
    let output = timeline(&folder, "");
    assert!(
        !output.status.success() && text(&output.stderr).contains("a_zed1.svo2"),
        "{}",
        text(&output.stderr)
    );
    assert!(!folder.join("a<b & c_timeline.svg").exists());
}

#[test]
fn cameras_that_never_overlap_are_drawn_without_groups() {
    init();
    let root = tempfile::tempdir().unwrap();
    for (number, begins_ns) in [(1, BEGINS), (2, BEGINS + 60_000 * MS)] {
        let recording =
            Recording { size: (64, 48), frames: 5, begins_ns, imu: false, ..Recording::default() };
        recording.create(&root.path().join(format!("s_zed{number}.svo2")), &AtomicBool::new(false)).unwrap();
    }
    let picture = root.path().join("p.svg");
    let line = format!("--json --output {}", picture.display());
    let output = timeline(root.path(), &line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["groups"], Value::Null);
    assert!(texts(&read(&picture)).contains(&"the cameras never overlap"));
    let again = timeline(root.path(), &line);
    assert!(!again.status.success() && text(&again.stderr).contains("--overwrite replaces it"));
    assert!(timeline(root.path(), &format!("{line} --overwrite")).status.success());
    let empty = tempfile::tempdir().unwrap();
    let none = timeline(empty.path(), "");
    assert!(
        !none.status.success() && text(&none.stderr).contains("SEGMENT_zed1.svo2"),
        "{}",
        text(&none.stderr)
    );
}
