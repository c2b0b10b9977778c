// SPDX-License-Identifier: MPL-2.0

//! `svo-to-mcap` of several cameras: the groups in `/bundle`, and the frames that they name.

mod common;

use common::mcap_rig::{Folder, NS, SIZE, Shown, sim};
use common::recordings::{assert_video, assert_whole, judge};
use common::*;
use serde::Deserialize;
use serde_json::{Value, json};

const INTERVAL: u64 = NS / 30;
const BEGINS: u64 = 1_700_000_000 * NS;
const MS: u64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Bundle {
    timestamp: u64,
    policy: String,
    group_index: u64,
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Member {
    label: String,
    status: String,
    timestamp: Option<u64>,
    skipped_frames: u64,
    frame_index: u64,
}

impl Member {
    fn is_present(&self) -> bool {
        self.status == "STATUS_PRESENT"
    }
}

/// A segment `seg` of three cameras: the second loses a frame, the third begins later and is not steady.
fn three() -> (Folder, Vec<sim::Recording>) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("seg")).unwrap();
    let first = folder.record("seg/seg_zed1.svo2", |recording| recording.serial = 1);
    let second = folder.record("seg/seg_zed2.svo2", |recording| {
        recording.serial = 2;
        recording.begins_ns = BEGINS + 11 * MS;
        recording.lost_before = vec![30];
    });
    let third = folder.record("seg/seg_zed3.svo2", |recording| {
        recording.serial = 3;
        recording.begins_ns = BEGINS + 10 * INTERVAL + 9 * MS;
        recording.jitter_ns = 2 * MS;
        recording.codec = svo2::Codec::H265;
    });
    (folder, vec![first, second, third])
}

fn bundles(folder: &Folder, name: &str) -> (Value, Vec<Bundle>) {
    let facts = judge(&folder.path(name), &["--messages", "/bundle"]);
    let topic = &facts["topics"]["/bundle"];
    assert_eq!(
        (&topic["schema_name"], &topic["schema_encoding"]),
        (&"cvmmap_streamer.Bundle".into(), &"protobuf".into())
    );
    assert_eq!((&topic["undecodable"], &topic["unknown_fields"]), (&json!([]), &json!([])));
    assert_eq!(topic["times_apart"], 0);
    let messages = serde_json::from_value(topic["messages"].clone()).unwrap();
    (facts, messages)
}

/// The frames of the members of one camera.
fn frames(bundles: &[Bundle], camera: usize) -> Vec<u32> {
    let present = bundles.iter().map(|bundle| &bundle.members[camera]).filter(|member| member.is_present());
    present.map(|member| member.frame_index as u32).collect()
}

#[test]
fn groups_have_the_nearest_frame_of_each_camera() {
    let (folder, recordings) = three();
    let summary = folder.convert("--segment-dir seg --preset fast --codec h264");
    assert_eq!(summary["output"], "seg/seg.mcap");
    let (facts, all) = bundles(&folder, "seg/seg.mcap");
    assert_whole(&facts);
    assert_eq!(facts["in_order"], true, "messages of all topics are in the order of their times");
    // The common window, and the frames of the slowest camera in it.
    let times: Vec<Vec<u64>> = recordings.iter().map(sim::Recording::times).collect();
    let start = times.iter().map(|times| times[0]).max().unwrap();
    let end = times.iter().map(|times| *times.last().unwrap()).min().unwrap();
    let inside = |times: &[u64]| times.iter().filter(|&&time| (start..=end).contains(&time)).count();
    let count = times.iter().map(|times| inside(times)).min().unwrap();
    assert_eq!(all.len(), count);
    assert_eq!(
        (&summary["bundle"]["messages"], &summary["bundle"]["groups"]),
        (&count.into(), &count.into())
    );
    assert_eq!(summary["layout"], "bundled");
    for (index, bundle) in all.iter().enumerate() {
        assert!((start..=end).contains(&bundle.timestamp));
        assert_eq!((bundle.group_index, bundle.policy.as_str()), (index as u64, "POLICY_NEAREST"));
        let labels: Vec<&str> = bundle.members.iter().map(|member| member.label.as_str()).collect();
        assert_eq!(labels, ["zed1", "zed2", "zed3"]);
        for (member, times) in bundle.members.iter().zip(&times) {
            if member.status == "STATUS_UNKNOWN" {
                assert_eq!((member.timestamp, member.frame_index, member.skipped_frames), (None, 0, 0));
                continue;
            }
            let time = times[member.frame_index as usize];
            assert_eq!(member.timestamp, Some(time));
            assert!(time.abs_diff(bundle.timestamp) <= INTERVAL / 2 + 4 * MS, "{bundle:?}");
        }
    }
    for (camera, times) in times.iter().enumerate() {
        let topic = format!("/zed{}/video", camera + 1);
        let Shown { facts, numbers, types } = folder.show(&folder.path("seg/seg.mcap"), &topic, SIZE.0, 0);
        let members = frames(&all, camera);
        assert!(members.windows(2).all(|pair| pair[0] < pair[1]), "each frame at most once: {members:?}");
        assert_eq!(assert_video(&facts, &topic, "h264"), members.len());
        assert_eq!(numbers, members, "only members are encoded, with their pictures");
        assert!(!types.contains('B'));
        let wanted: Vec<u64> = members.iter().map(|&frame| times[frame as usize]).collect();
        assert_eq!(facts["topics"][&topic]["log_times"], json!(wanted));
        // What was skipped lies between the members.
        let mut next = None;
        for member in all.iter().map(|bundle| &bundle.members[camera]).filter(|member| member.is_present()) {
            if let Some(next) = next {
                assert_eq!(member.skipped_frames, member.frame_index - next);
            }
            next = Some(member.frame_index + 1);
        }
        let imu = &facts["topics"][format!("/zed{}/imu", camera + 1)]["log_times"];
        let samples: Vec<u64> = serde_json::from_value(imu.clone()).unwrap();
        let after = members[0].checked_sub(1).map_or(0, |before| times[before as usize]);
        assert!(samples.len() > 300 && samples[0] > after, "since the frame before the first member");
    }

    // A part of them is the same part.
    folder.convert(
        "--segment-dir seg --preset fast --codec h264 --start-frame 5 --end-frame 14 --output part.mcap",
    );
    let (facts, part) = bundles(&folder, "part.mcap");
    assert_eq!(part, all[5..=14]);
    assert_eq!(facts["in_order"], true);
    assert_eq!(facts["topics"]["/zed1/video"]["count"], frames(&part, 0).len());
    // The same with both views as they were recorded: whatever the members need is there, too.
    folder.convert("--segment-dir seg --view side-by-side --start-frame 5 --end-frame 14 --output both.mcap");
    let (facts, both) = bundles(&folder, "both.mcap");
    assert_eq!(both, part);
    assert_eq!(facts["in_order"], true);
    for (camera, codec) in ["h264", "h264", "h265"].into_iter().enumerate() {
        let topic = format!("/zed{}/video", camera + 1);
        let Shown { facts, numbers, .. } = folder.show(&folder.path("both.mcap"), &topic, 2 * SIZE.0, 0);
        let members = frames(&both, camera);
        let (first, last) = (members[0] / 15 * 15, *members.last().unwrap());
        assert_eq!(assert_video(&facts, &topic, codec), (first..=last).count());
        assert_eq!(numbers, (first..=last).collect::<Vec<u32>>());
        for member in both.iter().map(|bundle| &bundle.members[camera]).filter(|member| member.is_present()) {
            let times = facts["topics"][&topic]["log_times"].as_array().unwrap();
            let at =
                times.iter().position(|time| *time == json!(member.timestamp)).expect("named by its time");
            assert_eq!(u64::from(numbers[at]), member.frame_index);
        }
    }
}

#[test]
fn strict_groups_are_complete_and_within_the_tolerance() {
    let (folder, recordings) = three();
    folder.convert("--segment-dir seg --view side-by-side --policy strict --sync-tolerance-ms 12.5");
    let (facts, all) = bundles(&folder, "seg/seg.mcap");
    assert_eq!(facts["in_order"], true);
    assert!(all.len() > 30, "{}", all.len());
    for (index, bundle) in all.iter().enumerate() {
        assert_eq!((bundle.group_index, bundle.policy.as_str()), (index as u64, "POLICY_STRICT"));
        assert!(bundle.members.iter().all(Member::is_present), "{bundle:?}");
        let times: Vec<u64> = bundle.members.iter().map(|member| member.timestamp.unwrap()).collect();
        let apart = times.iter().max().unwrap() - times.iter().min().unwrap();
        assert!(apart <= 12_500_000, "{bundle:?}");
    }
    // The frame that the second camera lost is in no group of it.
    let lost = recordings[1].times()[30] - INTERVAL;
    assert!(all.iter().all(|bundle| bundle.timestamp.abs_diff(lost) > INTERVAL / 2));
    let output = folder.run("--segment-dir seg --policy strict --sync-tolerance-ms 0.5 --overwrite");
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("there is no group"), "{said}");
    // What it says has some, has.
    assert!(said.contains("within --sync-tolerance-ms 0.5;"), "{said}");
    let least = said.split("--sync-tolerance-ms ").nth(2).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(least.parse::<f64>().unwrap() > 0.5, "{said}");
    folder.convert(&format!(
        "--segment-dir seg --view side-by-side --policy strict --sync-tolerance-ms {least} --overwrite"
    ));
    let (_, few) = bundles(&folder, "seg/seg.mcap");
    assert!(!few.is_empty() && few.len() < all.len(), "{}", few.len());
}

#[test]
fn without_groups_each_camera_keeps_its_frames() {
    let (folder, recordings) = three();
    let times: Vec<Vec<u64>> = recordings.iter().map(sim::Recording::times).collect();
    let start = times.iter().map(|times| times[0]).max().unwrap();
    let end = times.iter().map(|times| *times.last().unwrap()).min().unwrap();
    for (line, all) in [("--copy-range full", true), ("--overwrite", false)] {
        folder.convert(&format!("--segment-dir seg --policy copy --preset fast {line}"));
        let facts = judge(&folder.path("seg/seg.mcap"), &[]);
        assert_whole(&facts);
        assert_eq!(facts["in_order"], true);
        assert!(facts["topics"]["/bundle"].is_null());
        for (camera, times) in times.iter().enumerate() {
            let wanted: Vec<u64> =
                times.iter().copied().filter(|time| all || (start..=end).contains(time)).collect();
            let topic = format!("/zed{}/video", camera + 1);
            assert_eq!(facts["topics"][&topic]["log_times"], json!(wanted), "{line}");
            assert_video(&facts, &topic, "h265");
        }
    }
}

#[test]
fn a_camera_in_a_corrupted_gap_is_left_out_of_its_groups() {
    let (folder, _) = three();
    folder.convert("--segment-dir seg --view side-by-side --output whole.mcap");
    let (_, whole) = bundles(&folder, "whole.mcap");
    folder.damage("seg/seg_zed2.svo2", 20);
    for (line, width) in [("--view side-by-side", 2 * SIZE.0), ("--preset fast", SIZE.0)] {
        let output = folder.run(&format!("--segment-dir seg --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("zed2: frames 20 to 29 are left out"), "{said}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (facts, damaged) = bundles(&folder, "seg/seg.mcap");
        assert_eq!(facts["in_order"], true);
        assert_eq!(damaged.len(), whole.len(), "groups keep their indices");
        let mut gaps = 0;
        for (damaged, whole) in damaged.iter().zip(&whole) {
            let mut expected = whole.clone();
            let member = &mut expected.members[1];
            if member.is_present() && (20..30).contains(&member.frame_index) {
                member.status = "STATUS_CORRUPTED_GAP".into();
                gaps += 1;
            }
            assert_eq!(*damaged, expected);
        }
        assert!((9..=10).contains(&gaps), "{gaps}");
        assert!(summary["bundle"]["incomplete"].as_u64().unwrap() >= gaps, "{summary}");
        let Shown { numbers, .. } = folder.show(&folder.path("seg/seg.mcap"), "/zed2/video", width, 0);
        assert!(numbers.iter().all(|number| !(20..30).contains(number)), "{numbers:?}");
        let members = frames(&damaged, 1);
        assert!(members.iter().all(|frame| numbers.contains(frame)), "{members:?} {numbers:?}");
    }
    // Strict groups are complete, or not there.
    folder.convert("--segment-dir seg --view side-by-side --policy strict --output strict.mcap");
    let (_, strict) = bundles(&folder, "strict.mcap");
    assert!(strict.iter().all(|bundle| bundle.members.iter().all(Member::is_present)));
    assert!(frames(&strict, 1).iter().all(|frame| !(20..30).contains(frame)));
}

#[test]
fn a_camera_of_which_nothing_can_be_decoded_is_missing_and_the_others_are_not() {
    let (folder, _) = three();
    for frame in 0..30 {
        folder.damage("seg/seg_zed2.svo2", frame);
    }
    for view in ["left --codec h264 --preset fast", "side-by-side"] {
        let line = format!("--segment-dir seg --output out.mcap --overwrite --end-frame 9 --view {view}");
        let done = folder.convert(&line);
        assert_eq!(done["cameras"][1]["frames"], 0, "{done}");
        let (facts, groups) = bundles(&folder, "out.mcap");
        assert_whole(&facts);
        assert_eq!(groups.len(), 10, "{view}");
        for group in groups {
            let statuses: Vec<_> = group.members.iter().map(|member| member.status.as_str()).collect();
            assert_eq!(statuses, ["STATUS_PRESENT", "STATUS_CORRUPTED_GAP", "STATUS_PRESENT"], "{view}");
        }
    }
}

#[test]
fn a_camera_that_was_cut_short_ends_the_common_window() {
    let (folder, _) = three();
    let whole = std::fs::read(folder.path("seg/seg_zed1.svo2")).unwrap();
    std::fs::write(folder.path("seg/seg_zed1.svo2"), &whole[..whole.len() * 2 / 3]).unwrap();
    let frames_left = svo2::Recording::open(&folder.path("seg/seg_zed1.svo2")).unwrap().frames() as u64;
    let output = folder.run("--segment-dir seg --view side-by-side");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("zed1: the recording was cut short"), "{said}");
    let (facts, all) = bundles(&folder, "seg/seg.mcap");
    assert_whole(&facts);
    assert!(all.len() > 5);
    assert!(all.last().unwrap().timestamp <= BEGINS + frames_left * INTERVAL);
}

#[test]
fn calibrations_find_their_cameras_by_their_numbers() {
    let folder = Folder::new();
    for (name, serial) in [("x_zed2.svo2", 22), ("x_zed4.svo2", 44)] {
        folder.record(name, |recording| {
            (recording.serial, recording.size, recording.frames) = (serial, (672, 376), 5);
        });
    }
    folder.calibration("SN44.conf");
    let inputs = "--input x_zed2.svo2 --input x_zed4.svo2 --view side-by-side";
    let output = folder.run(&format!("{inputs} --calibration SN44.conf"));
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("no SN22.conf for camera 22"), "{said}");
    folder.calibration("SN22.conf");
    let summary = folder.convert(&format!("{inputs} --calibration SN44.conf --calibration SN22.conf"));
    assert_eq!(summary["output"], "x.mcap");
    let facts = judge(&folder.path("x.mcap"), &[]);
    for topic in
        ["/zed2/calibration", "/zed2/calibration_right", "/zed4/calibration", "/zed4/calibration_right"]
    {
        assert_eq!(facts["topics"][topic]["count"], 1, "{topic}");
    }
    assert_eq!(facts["topics"]["/zed4/video"]["count"], 5);
}

#[test]
fn what_cannot_be_put_together_is_refused_and_nothing_is_written() {
    let (folder, _) = three();
    folder.record("late.svo2", |recording| {
        recording.frames = 5;
        recording.begins_ns = BEGINS + 100 * NS;
    });
    std::fs::create_dir(folder.path("one")).unwrap();
    std::fs::copy(folder.path("seg/seg_zed1.svo2"), folder.path("one/one_zed1.svo2")).unwrap();
    std::fs::create_dir(folder.path("clash")).unwrap();
    std::fs::copy(folder.path("seg/seg_zed1.svo2"), folder.path("clash/clash_zed1.svo2")).unwrap();
    std::fs::write(folder.path("clash/clash_zed1.svo"), "").unwrap();
    std::fs::create_dir(folder.path("torn")).unwrap();
    std::fs::copy(folder.path("seg/seg_zed1.svo2"), folder.path("torn/torn_zed1.svo2")).unwrap();
    std::fs::write(folder.path("torn/torn_zed2.svo2"), "no recording").unwrap();
    let names = folder.names();
    let inputs = "--input seg/seg_zed1.svo2 --input late.svo2";
    for (line, code, parts) in [
        (
            format!("{inputs} --output x.mcap"),
            1,
            vec!["never overlap", "zed1 from 2023-11-14T22:13:20", "zed2 from"],
        ),
        (format!("{inputs} --output x.mcap --policy copy"), 1, vec!["never overlap"]),
        (
            "--segment-dir seg --start-frame 50".into(),
            1,
            vec!["--start-frame 50", "there are 48 groups of frames, 0 to 47"],
        ),
        ("--segment-dir seg --policy copy --end-frame 5".into(), 2, vec!["--end-frame 5", "--policy copy"]),
        ("--segment-dir seg --policy copy --sync-tolerance-ms 5".into(), 2, vec!["--sync-tolerance-ms"]),
        ("--segment-dir one --policy nearest".into(), 1, vec!["needs two cameras", "zed1"]),
        ("--segment-dir clash".into(), 1, vec!["both zed1"]),
        (
            "--segment-dir torn".into(),
            1,
            vec!["torn_zed2.svo2", "it is no SVO2 recording", "to leave zed2 out"],
        ),
        (
            "--segment-dir seg --output seg/seg_zed2.svo2 --overwrite".into(),
            1,
            vec!["seg_zed2.svo2", "the recording itself"],
        ),
    ] {
        let output = folder.run(&line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "{line}: {said}");
        assert_eq!(folder.names(), names, "{line}");
    }
    let in_seg = folder.path("seg").read_dir().unwrap().count();
    assert_eq!(in_seg, 3);
    // A segment of one camera has no groups to be asked for.
    let summary = folder.convert("--segment-dir one --view side-by-side");
    assert_eq!((&summary["layout"], &summary["output"]), (&"copy".into(), &"one/one.mcap".into()));
}
