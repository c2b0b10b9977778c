// SPDX-License-Identifier: MPL-2.0

//! `batch` of segments: grids and MCAP files of several cameras, each in its place, and what is wrong with some of them.

mod common;

use std::collections::BTreeMap;

use common::batch::{Set, counts, reason, recorded, statuses};
use common::recordings::{assert_whole, mcap, show};
use cvmmap_streamer::sim::svo2::Recording;
use serde_json::Value;

const FRAMES: u32 = 6;

/// A camera whose first frame is taken so many ms later than others'.
fn camera(begin_ms: u64) -> Vec<u8> {
    let like = Recording::default();
    let begins_ns = like.begins_ns + begin_ms * 1_000_000;
    recorded(Recording { size: (64, 64), frames: FRAMES, gop: 3, imu: false, begins_ns, ..like })
}

/// Writes the recordings of a segment.
fn segment(set: &Set, folder: &str, cameras: &[&[u8]]) {
    let name = folder.rsplit('/').next().unwrap();
    for (number, bytes) in (1..).zip(cameras) {
        set.write(&format!("{folder}/{name}_zed{number}.svo2"), bytes);
    }
}

fn failed(summary: &Value) -> Vec<String> {
    let rows = statuses(summary).into_iter().filter(|(_, status)| *status == "failed");
    rows.map(|(what, _)| what.trim_start_matches("./").to_owned()).collect()
}

#[test]
fn of_forty_segments_with_five_broken_ones_exactly_those_five_are_reported() {
    let set = Set::new("svo-to-mcap", &[]);
    let (one, other, later): (&[u8], &[u8], &[u8]) = (&camera(0), &camera(40), &camera(60_000));
    let folder = |number: usize| format!("day{}/s{number:02}", number % 3);
    let broken = [3, 8, 19, 20, 39];
    for number in 0..40 {
        let cameras: &[&[u8]] = match broken.iter().position(|&broken| broken == number) {
            Some(0) => &[one, b""],
            Some(1) => &[b"no recording at all", other],
            Some(2) => &[one, &other[..300]],
            Some(3) => &[one, later],
            Some(_) => &[one, &[&other[..1000], &vec![0; other.len() - 1000]].concat()],
            None => &[one, other],
        };
        segment(&set, &folder(number), cameras);
    }
    let line = ". --recursive --view side-by-side";
    let summary = set.summary(line, 1);
    assert_eq!(counts(&summary), BTreeMap::from([("converted", 35), ("failed", 5)]), "{summary}");
    let mut expected: Vec<String> = broken.iter().map(|&number| folder(number)).collect();
    expected.sort();
    assert_eq!(failed(&summary), expected);
    assert!(reason(&summary, "s20").contains("never overlap"), "{summary}");
    let facts = mcap(&set.path("day0/s00/s00.mcap"), None);
    assert_whole(&facts);
    let messages = |topic: &str| facts["topics"][topic]["count"].as_u64();
    // The second camera begins 40 ms later: of the first, four frames are in the common window, and all are copied.
    assert_eq!(
        ["/bundle", "/zed1/video", "/zed2/video"].map(messages),
        [Some(4), Some(6), Some(5)],
        "{facts}"
    );

    // An output that was cut short is found, and made anew.
    let path = set.path("day1/s01/s01.mcap");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    // And one without its groups, as of a single camera; and one that is gone.
    set.summary("--segment-dir day2/s05 --view side-by-side --policy copy --overwrite", 0);
    std::fs::remove_file(set.path("day2/s02/s02.mcap")).unwrap();
    let skipped = set.summary(&format!("{line} --report-existing"), 1);
    assert_eq!(
        (&skipped["valid"], &skipped["invalid"], &skipped["missing"]),
        (&32.into(), &2.into(), &6.into())
    );
    assert!(reason(&skipped, "s01").contains("not finished"), "{skipped}");
    assert!(reason(&skipped, "s05").contains("no topic /bundle"), "{skipped}");
    let summary = set.summary(&format!("{line} --probe-existing"), 1);
    assert_eq!(
        counts(&summary),
        BTreeMap::from([("converted", 3), ("skipped", 32), ("failed", 5)]),
        "{summary}"
    );
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len());
}

#[test]
fn grids_lie_in_their_segments_and_those_that_cannot_be_are_told() {
    let set = Set::new("svo-grid-to-mp4", &[]);
    let (one, other, later): (&[u8], &[u8], &[u8]) = (&camera(0), &camera(40), &camera(60_000));
    segment(&set, "two", &[one, other]);
    segment(&set, "four", &[one, other, one, other]);
    segment(&set, "alone", &[one]);
    segment(&set, "apart", &[one, later]);
    segment(&set, "same", &[one, other]);
    set.write("same/same_zed2.svo", b"");
    let line = ". --codec h264 --preset fast";
    let plan = set.summary(&format!("{line} --dry-run"), 1);
    assert_eq!(plan["to_convert"], 4, "{plan}");
    let summary = set.summary(line, 1);
    assert_eq!(counts(&summary), BTreeMap::from([("converted", 2), ("failed", 3)]), "{summary}");
    assert_eq!(failed(&summary), ["alone", "apart", "same"]);
    assert!(reason(&summary, "alone").contains("a grid needs two cameras"), "{summary}");
    assert!(reason(&summary, "apart").contains("never overlap"), "{summary}");
    assert!(reason(&summary, "same").contains("both zed2"), "{summary}");
    for (name, size) in [("two", "64x32"), ("four", "64x64")] {
        let shown = show(&set.path(&format!("{name}/{name}_grid.mp4")), None);
        assert_eq!((shown.errors.as_str(), shown.pictures.len()), ("", 4), "{name}");
        assert_eq!(shown.sizes, [size], "{name}");
    }
    let made: Vec<String> = set.names().into_iter().filter(|name| !name.contains(".svo")).collect();
    assert_eq!(made, ["four/four_grid.mp4", "two/two_grid.mp4"]);
    let again = set.summary(line, 1);
    assert_eq!(counts(&again), BTreeMap::from([("skipped", 2), ("failed", 3)]), "{again}");
}
