// SPDX-License-Identifier: MPL-2.0

//! `svo-grid-to-mp4`: what FFmpeg shows in each tile of each picture, against the groups of the recordings' times.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use common::recordings::show;
use common::*;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_streamer::exit::{Exit, Failure};
use cvmmap_streamer::pattern::Pattern;
use cvmmap_streamer::run::plan::Codec;
use cvmmap_streamer::sim::svo2::Recording;
use cvmmap_streamer::svo::convert::{Control, Event};
use cvmmap_streamer::svo::grid::convert::{Done, convert};
use cvmmap_streamer::svo::grid::options::Grid;
use cvmmap_streamer::svo::options::{Encoding, Frames, Preset};
use cvmmap_streamer::svo::segment::Segment;
use gst::glib::prelude::*;
use serde_json::Value;
use svo2::group::{self, Group, Track};

/// Of one eye.
const SIZE: (u32, u32) = (640, 360);
const TILE: (usize, usize) = (320, 180);
const TICKS: u64 = 90_000;
const NS: u64 = 1_000_000_000;
const BEGIN: u64 = 1_700_000_000 * NS;
const MS: u64 = 1_000_000;
const FAST: &str = "--codec h264 --preset fast";

/// A folder `run` with the recordings of its cameras.
struct Rig {
    folder: tempfile::TempDir,
    recordings: Vec<Recording>,
}

impl Rig {
    fn new(cameras: usize, change: impl Fn(usize, &mut Recording)) -> Self {
        init();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let make = |n| {
            let mut recording = Recording {
                size: SIZE,
                frames: 40,
                gop: 10,
                codec: svo2::Codec::H264,
                begins_ns: BEGIN,
                imu: false,
                ..Recording::default()
            };
            change(n, &mut recording);
            let path = folder.path().join(format!("run/run_zed{}.svo2", n + 1));
            recording.create(&path, &AtomicBool::new(false)).unwrap();
            recording
        };
        let recordings = (0..cameras).map(make).collect();
        Self { folder, recordings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        let mut command = streamer();
        command.arg("svo-grid-to-mp4").args(line.split_whitespace()).current_dir(self.folder.path());
        run(&mut command)
    }

    /// Converts, and returns the line on stdout and what was said.
    fn convert(&self, line: &str) -> (Value, String) {
        let output = self.run(&format!("--segment-dir run --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        assert_eq!(text(&output.stdout).lines().count(), 1);
        (serde_json::from_slice(&output.stdout).unwrap(), said)
    }

    /// What belongs together, by the times alone.
    fn groups(&self) -> Vec<Group> {
        let times: Vec<Vec<u64>> = self.recordings.iter().map(Recording::times).collect();
        let tracks: Vec<Track> = times.iter().map(|times| Track { times, damaged: &[] }).collect();
        group::nearest(&tracks, u64::MAX).unwrap().groups
    }

    /// Changes what a frame of a camera says of its own size.
    fn damage(&self, camera: usize, frame: usize) {
        damage(&self.path(&format!("run/run_zed{}.svo2", camera + 1)), frame);
    }

    /// All names in the segment's folder that are no recordings.
    fn names(&self) -> Vec<String> {
        let entries = self.path("run").read_dir().unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".svo2")).collect()
    }

    /// Fails, says all of that, and leaves nothing behind.
    fn refuses(&self, line: &str, code: i32, parts: &[&str]) {
        let before = self.names();
        let output = self.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
        assert!(output.stdout.is_empty() && self.names() == before, "{line}: {:?}", self.names());
    }
}

fn ffmpeg(file: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = readers::ffmpeg_program();
    command.args(["-loglevel", "error", "-xerror", "-i"]).arg(file).args(args);
    command.args(["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "rawvideo", "-"]);
    let output = run(&mut command);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    output.stdout
}

/// The numbers that a place shows, picture by picture; `None` where it shows none.
fn numbers(file: &Path, (x, y): (usize, usize)) -> Vec<Option<usize>> {
    let ((width, height), (w, h)) = (SIZE, TILE);
    let filter = format!("crop={w}:{h}:{x}:{y}:exact=1,scale={width}:{height}");
    let bytes = ffmpeg(file, &["-vf", &filter, "-pix_fmt", "bgr24"]);
    let pattern = Pattern::new(PixelFormat::Bgr, Depth::U8, width, height).unwrap();
    let stride = 3 * width as usize;
    let pictures = bytes.chunks(stride * height as usize);
    pictures.map(|picture| pattern.read_count(picture, stride).ok().map(|count| count as usize)).collect()
}

/// Luma of all pictures, and their width.
struct Luma(Vec<Vec<u8>>, usize);

impl Luma {
    fn of(file: &Path, (width, height): (usize, usize)) -> Self {
        let bytes = ffmpeg(file, &["-pix_fmt", "gray"]);
        Self(bytes.chunks(width * height).map(<[u8]>::to_vec).collect(), width)
    }

    /// The letters of a size at a place: of each, the one that fits best.
    fn read(&self, picture: usize, (x, y): (usize, usize), scale: usize, count: usize) -> String {
        let letters = "0123456789.#: abcdefghijklmnopqrstuvwxyz";
        let white = |n: usize, bit: usize, line: usize| {
            let at = |side: usize| side * scale + scale / 2;
            self.0[picture][(y + at(line)) * self.1 + x + at(8 * n + bit)] >= 100
        };
        let differs = |n: usize, letter: char| {
            let glyph = font8x8::legacy::BASIC_LEGACY[letter as usize];
            (0..64).filter(|at| (glyph[at / 8] >> (at % 8) & 1 != 0) != white(n, at % 8, at / 8)).count()
        };
        let best = |n| letters.chars().min_by_key(|&letter| differs(n, letter)).unwrap();
        (0..count).map(best).collect()
    }
}

/// Where the tiles of so many cameras begin, two in a row.
fn places(cameras: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..cameras).map(|n| (n % 2 * TILE.0, n / 2 * TILE.1))
}

fn stamp_of(group: &Group, index: usize) -> String {
    let ms = group.time_ns / MS;
    format!("{}.{:03} #{index}", ms / 1000, ms % 1000)
}

/// Cameras that begin one after the other, at rates that differ, and lose frames.
fn uneven() -> Rig {
    Rig::new(4, |n, recording| {
        recording.begins_ns += [0, 250, 110, 40][n] * MS + n as u64 * 3_210_987;
        recording.fps = [30, 30, 29, 30][n];
        recording.frames = [50, 45, 48, 44][n];
        recording.lost_before = [vec![20, 20], vec![], vec![25], vec![17, 30, 31]][n].clone();
        recording.jitter_ns = 2 * MS;
    })
}

#[test]
fn each_tile_of_each_picture_is_the_frame_of_its_group() {
    let rig = uneven();
    let groups = rig.groups();
    let missing = groups.iter().flat_map(|group| &group.members).filter(|member| member.frame().is_none());
    assert!(groups.len() > 25 && missing.count() > 0, "or it shows little: {groups:?}");
    let start = rig.recordings.iter().map(|recording| recording.times()[0]).max().unwrap();
    let within = groups.iter().filter(|group| group.time_ns - start < 3 * NS / 10).count();
    for (line, range) in [
        ("", 0..groups.len()),
        ("--start-frame 7 --end-frame 21 --output run/cut.mp4", 7..22),
        ("--start-frame 3 --duration-seconds 0.3 --output run/cut.mp4", 3..within),
    ] {
        let (summary, _) = rig.convert(&format!("{FAST} {line}"));
        let file = rig.path(summary["output"].as_str().unwrap());
        let asked = &groups[range.clone()];
        for (camera, place) in places(4).enumerate() {
            let expected: Vec<_> = asked.iter().map(|group| group.members[camera].frame()).collect();
            assert_eq!(numbers(&file, place), expected, "zed{} with {line}", camera + 1);
            let of = &summary["cameras"][camera];
            assert_eq!(of["shown"], expected.iter().flatten().count(), "{summary}");
            assert_eq!(of["no_frame"], expected.iter().filter(|frame| frame.is_none()).count());
            assert_eq!(of["first_frame"], expected.iter().flatten().min().copied().unwrap());
        }
        let shown = show(&file, None);
        assert_eq!((shown.sizes.as_slice(), shown.errors.as_str()), (&["640x360".to_owned()][..], ""));
        let tick = |group: &Group| (group.time_ns - asked[0].time_ns) as f64 * TICKS as f64 / NS as f64;
        assert_eq!(shown.times.len(), asked.len());
        for (found, group) in shown.times.iter().zip(asked) {
            assert!((*found as f64 - tick(group)).abs() <= 1.0, "{:?}", shown.times);
        }
        assert_eq!((&summary["frames"], &summary["groups"]), (&asked.len().into(), &groups.len().into()));
        assert_eq!((&summary["start_frame"], &summary["missing"]), (&range.start.into(), &0.into()));
        assert_eq!(summary["first_unix_ns"], asked[0].time_ns);
        assert_eq!(summary["bytes"], file.metadata().unwrap().len());
        let luma = Luma::of(&file, (640, 360));
        for (n, group) in asked.iter().enumerate() {
            let expected = stamp_of(group, range.start + n);
            assert_eq!(luma.read(n, (1, 1), 1, expected.len()), expected);
        }
    }
    assert_eq!(rig.names().len(), 2);
}

#[test]
fn what_is_missing_is_said_in_its_place_and_nothing_is_shown_twice() {
    let rig = Rig::new(4, |n, recording| {
        if n == 1 {
            recording.lost_before = vec![20; 4];
            recording.frames = 36;
        }
    });
    rig.damage(2, 13);
    rig.damage(3, 0);
    rig.damage(0, 20);
    let groups = rig.groups();
    let (summary, said) = rig.convert(FAST);
    let file = rig.path("run/run_grid.mp4");
    let expected = |camera: usize, damaged: std::ops::Range<usize>| {
        let frame = |group: &Group| group.members[camera].frame().filter(|frame| !damaged.contains(frame));
        groups.iter().map(frame).collect::<Vec<_>>()
    };
    let damaged = [20..30, 0..0, 13..20, 0..10];
    for (camera, (place, damaged)) in places(4).zip(damaged).enumerate() {
        let expected = expected(camera, damaged.clone());
        assert_eq!(numbers(&file, place), expected, "zed{}", camera + 1);
        let of = &summary["cameras"][camera];
        assert_eq!(of["shown"], expected.iter().flatten().count(), "{summary}");
        let not =
            |group: &&Group| group.members[camera].frame().is_some_and(|frame| damaged.contains(&frame));
        assert_eq!(of["damaged_frame"], groups.iter().filter(not).count(), "{summary}");
    }
    for part in [
        "zed3: frames 13 to 19 are left out",
        "zed4: frames 0 to 9 are left out",
        "zed1: frames 20 to 29 are left out",
        "zed1 is missing in",
        "zed3 is missing in",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let luma = Luma::of(&file, (640, 360));
    let seen = |camera: usize, picture: usize, told: &str| {
        let (x, y) = places(4).nth(camera).unwrap();
        let place = (x + (TILE.0 - 8 * told.len()) / 2, y + (TILE.1 - 8) / 2);
        assert_eq!(luma.read(picture, place, 1, told.len()), told, "picture {picture}");
        assert!(luma.0[picture][(y + 30) * 640 + x + 30] < 50, "it is dark");
    };
    let picture = |camera: usize, frame| {
        groups.iter().position(|group| group.members[camera].frame() == Some(frame)).unwrap()
    };
    seen(2, picture(2, 13), "zed3: damaged frame");
    seen(2, picture(2, 19), "zed3: damaged frame");
    seen(3, picture(3, 9), "zed4: damaged frame");
    // Nothing at all of one camera.
    let (first, last) = (picture(0, 24), picture(0, 29));
    let (summary, said) = rig.convert(&format!("{FAST} --start-frame {first} --end-frame {last}"));
    assert_eq!(numbers(&file, (0, 0)), vec![None; 6]);
    assert_eq!(numbers(&file, (TILE.0, 0)), expected(1, 0..0)[first..=last]);
    assert_eq!((&summary["cameras"][0]["shown"], &summary["cameras"][1]["shown"]), (&0.into(), &6.into()));
    assert!(said.contains("zed1: ") && said.contains("no frame of 24 to 29 can be read"), "{said}");
}

#[test]
fn a_camera_without_a_frame_near_enough_says_so() {
    let rig = Rig::new(2, |n, recording| {
        (recording.frames, recording.fps) = [(30, 30), (60, 60)][n];
        if n == 1 {
            recording.lost_before = vec![20; 16];
        }
    });
    let groups = rig.groups();
    let expected: Vec<_> = groups.iter().map(|group| group.members[1].frame()).collect();
    let hole = expected.iter().position(Option::is_none).expect("or it shows nothing");
    rig.convert(FAST);
    let file = rig.path("run/run_grid.mp4");
    assert_eq!(numbers(&file, (TILE.0, 0)), expected);
    let told = "zed2: no frame";
    let luma = Luma::of(&file, (640, 180));
    let place = (TILE.0 + (TILE.0 - 8 * told.len()) / 2, (TILE.1 - 8) / 2);
    assert_eq!(luma.read(hole, place, 1, told.len()), told);
    // Frames that are not as near as that are not shown, either.
    let (summary, _) = rig.convert(&format!("{FAST} --sync-tolerance-ms 0"));
    let exact = groups.iter().filter(|group| {
        let frame = group.members[1].frame();
        frame.is_some_and(|frame| rig.recordings[1].times()[frame] == group.time_ns)
    });
    assert_eq!(summary["cameras"][1]["shown"], exact.count());
}

#[test]
fn tiles_are_those_of_the_recordings_scaled() {
    let rig = Rig::new(4, |n, recording| recording.begins_ns += n as u64 * MS);
    rig.convert(&format!("{FAST} --quality 10"));
    let file = rig.path("run/run_grid.mp4");
    let groups = rig.groups();
    for (camera, (x, y)) in places(4).enumerate() {
        let name = format!("run/run_zed{}", camera + 1);
        let mut copy = streamer();
        copy.args(["svo-to-mp4", "--copy", "--input"]).arg(rig.path(&format!("{name}.svo2")));
        assert!(run(copy.arg("--output").arg(rig.path("both.mp4")).arg("--overwrite")).status.success());
        let ((w, h), (width, height)) = (TILE, SIZE);
        let original = format!("crop={width}:{height}:0:0:exact=1,scale={w}:{h}:flags=area");
        let original = ffmpeg(&rig.path("both.mp4"), &["-vf", &original, "-pix_fmt", "yuv420p"]);
        let ours = ffmpeg(&file, &["-vf", &format!("crop={w}:{h}:{x}:{y}:exact=1"), "-pix_fmt", "yuv420p"]);
        let bytes = w * h * 3 / 2;
        for (n, group) in groups.iter().enumerate().step_by(13) {
            let frame = group.members[camera].frame().unwrap();
            let planes = [(0, w * h), (w * h, w * h / 4), (w * h * 5 / 4, w * h / 4)];
            for (plane, (from, length)) in planes.into_iter().enumerate() {
                // Below the letters.
                let from = if plane == 0 { from + 12 * w } else { from + 6 * w / 2 };
                let length = length - if plane == 0 { 12 * w } else { 6 * w / 2 };
                let pair = ours[n * bytes + from..][..length].iter();
                let pair = pair.zip(&original[frame * bytes + from..][..length]);
                let squares: f64 = pair.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
                let psnr = 10.0 * (255.0f64.powi(2) / (squares / length as f64)).log10();
                assert!(psnr > 34.0, "zed{}, picture {n}, plane {plane}: {psnr:.1} dB", camera + 1);
            }
        }
    }
}

#[test]
fn recordings_lie_as_they_are_given() {
    let rig = Rig::new(3, |n, recording| {
        recording.begins_ns += [0, 10, 20][n] * 33_333_333;
        recording.frames = 35;
        recording.codec = [svo2::Codec::H264, svo2::Codec::H265, svo2::Codec::H264][n];
    });
    let line = format!(
        "{FAST} --json --input run/run_zed3.svo2 --input run/run_zed1.svo2 --input run/run_zed2.svo2"
    );
    let output = rig.run(&line);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["output"], "run/run_grid.mp4");
    let labels: Vec<_> = (0..3).map(|n| summary["cameras"][n]["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["zed3", "zed1", "zed2"]);
    assert_eq!((&summary["width"], &summary["height"]), (&960.into(), &180.into()));
    let first = |n: usize| numbers(&rig.path("run/run_grid.mp4"), (n * TILE.0, 0))[0];
    assert_eq!([first(0), first(1), first(2)], [Some(0), Some(20), Some(10)]);
    // Labels that clash are no labels, and that is told.
    std::fs::copy(rig.path("run/run_zed1.svo2"), rig.path("other_zed3.svo2")).unwrap();
    let output = rig
        .run(&format!("{FAST} --json --input run/run_zed3.svo2 --input other_zed3.svo2 --output clash.mp4"));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for part in
        ["'run/run_zed3.svo2' (zed3 by its name) is zed1", "'other_zed3.svo2' (zed3 by its name) is zed2"]
    {
        assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
    }
    // Four in a row are three: there is no tile without a camera beside them.
    let (summary, _) = rig.convert(&format!("{FAST} --columns 4"));
    assert_eq!((&summary["columns"], &summary["width"]), (&3.into(), &960.into()));
    // Two in a row: the fourth tile stays dark.
    rig.convert(&format!("{FAST} --columns 2"));
    let luma = Luma::of(&rig.path("run/run_grid.mp4"), (640, 360));
    let corner = (180..360).flat_map(|y| &luma.0[3][y * 640 + 320..][..320]);
    assert!(corner.into_iter().all(|&luma| luma < 50));
}

#[test]
fn sizes_may_differ_and_be_odd() {
    let rig = Rig::new(2, |n, recording| {
        (recording.size, recording.frames) = ([(640, 360), (322, 242)][n], 12);
    });
    let (summary, _) = rig.convert(FAST);
    assert_eq!((&summary["width"], &summary["height"]), (&640.into(), &180.into()));
    let luma = Luma::of(&rig.path("run/run_grid.mp4"), (640, 180));
    // 160x120 in the middle of 320x180.
    let dark = |x: usize, y: usize| luma.0[5][y * 640 + 320 + x] < 30;
    assert!(dark(40, 90) && dark(290, 90) && dark(160, 15) && dark(160, 165));
    assert!((90..230).step_by(7).any(|x| !dark(x, 90)), "the picture");
    let (summary, _) = rig.convert("--codec h265 --preset fast --tile-scale 0.33");
    assert_eq!((&summary["tile_width"], &summary["tile_height"]), (&210.into(), &118.into()));
    assert_eq!(show(&rig.path("run/run_grid.mp4"), None).sizes, ["420x118"]);
}

#[test]
fn what_cannot_work_is_refused_with_the_value_and_the_rule() {
    let rig = Rig::new(3, |n, recording| {
        (recording.size, recording.frames) = ((64, 48), 10);
        recording.begins_ns += [0, 0, 10 * NS][n];
    });
    std::fs::create_dir(rig.path("one")).unwrap();
    std::fs::copy(rig.path("run/run_zed1.svo2"), rig.path("one/one_zed1.svo2")).unwrap();
    std::fs::write(rig.path("none_zed2.svo2"), "nothing").unwrap();
    let two = "--input run/run_zed1.svo2 --input run/run_zed2.svo2";
    for (line, code, parts) in [
        ("", 2, &["--segment-dir"][..]),
        ("--segment-dir run --input a.svo2", 2, &["--segment-dir", "--input"]),
        ("--segment-dir gone", 1, &["--segment-dir 'gone'", "No such file"]),
        ("--segment-dir one", 1, &["a grid needs two cameras", "only zed1", "one_zed1.svo2"]),
        ("--input run/run_zed1.svo2", 1, &["a grid needs two cameras", "run_zed1.svo2"]),
        ("--input run/run_zed1.svo2 --input run/run_zed1.svo2", 2, &["given twice", "run_zed1.svo2"]),
        (
            "--input run/run_zed1.svo2 --input none_zed2.svo2",
            1,
            &[
                "--input 'none_zed2.svo2': it is no SVO2",
                "to leave zed2 out, give each of the others by --input",
            ],
        ),
        (
            "--segment-dir run",
            1,
            &["never overlap", "zed1 from 2023-11-14T22:13:20.0", "zed3 from 2023-11-14T22:13:30.0"],
        ),
        (&format!("{two} --tile-scale 0.1"), 1, &["--tile-scale 0.1", "64x48 becomes 6x4", "16x16"]),
        (&format!("{two} --tile-scale 900"), 1, &["--tile-scale 900", "115200x43200"]),
        (&format!("{two} --tile-scale 0"), 2, &["--tile-scale 0", "more than 0"]),
        (&format!("{two} --columns 0"), 2, &["--columns", "0 is not in 1.."]),
        (&format!("{two} --start-frame 10"), 1, &["--start-frame 10", "10 synced groups, 0 to 9"]),
        (&format!("{two} --end-frame 11"), 1, &["--end-frame 11", "10 synced groups, 0 to 9"]),
        (&format!("{two} --start-frame 4 --end-frame 3"), 2, &["--start-frame 4", "--end-frame 3"]),
        (&format!("{two} --duration-seconds 0"), 2, &["--duration-seconds 0", "more than 0"]),
        (
            &format!("{two} --duration-seconds 0.1 --start-frame 5"),
            1,
            &["--start-frame 5", "--duration-seconds 0.1", "groups 0 to 3"],
        ),
        (&format!("{two} --output gone/a.mp4"), 1, &["--output 'gone/a.mp4'", "the folder 'gone'"]),
        (&format!("{two} --output run"), 1, &["--output 'run'", "it is a folder"]),
        (
            &format!("{two} --output run/run_zed2.svo2 --overwrite"),
            1,
            &["--output 'run/run_zed2.svo2'", "it is the recording itself"],
        ),
    ] {
        rig.refuses(line, code, parts);
    }
    std::fs::write(rig.path("run/run_grid.mp4"), "mine").unwrap();
    rig.refuses(two, 1, &["--output 'run/run_grid.mp4'", "--overwrite"]);
    let closed = rig.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere but there.
    let folder = if std::fs::write(closed.join("probe"), "").is_ok() { "/proc" } else { "closed" };
    rig.refuses(&format!("{two} --output {folder}/b.mp4"), 1, &[&format!("--output '{folder}/b.mp4'")]);
}

#[test]
fn a_disk_that_is_full_is_told_and_nothing_stays() {
    let rig = Rig::new(2, |_, recording| recording.frames = 30);
    // In blocks of 512 bytes; without the signal, a write says what is wrong.
    let mut shell = Command::new("sh");
    let line = "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\"";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_cvmmap-streamer"), "svo-grid-to-mp4"]);
    shell.args("--segment-dir run --codec h264 --preset fast --quality 1".split(' '));
    let output = run(shell.current_dir(rig.folder.path()));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--output 'run/run_grid.mp4'") && said.contains("File too large"), "{said}");
    assert_eq!(rig.names(), [""; 0]);
}

#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let rig = Rig::new(2, |_, recording| recording.frames = 300);
    let mut command = streamer();
    command.args("svo-grid-to-mp4 --segment-dir run --tile-scale 1 --preset quality --quality 1".split(' '));
    command.current_dir(rig.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command);
    let part = rig.path("run/.run_grid.mp4.part");
    wait_for("the file to grow", || part.metadata().is_ok_and(|found| found.len() > 0));
    process.signal(libc::SIGINT);
    wait_for("the end", || process.0.try_wait().unwrap().is_some());
    assert_eq!(process.0.wait().unwrap().code(), Some(130));
    assert_eq!(rig.names(), [""; 0]);
}

/// A decoder of recordings of 96x72 that is preferred to all others, and never gets anywhere.
mod hanging {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use gst::glib;
    use gst::prelude::*;
    use gst::subclass::prelude::*;

    pub static HANGS: AtomicBool = AtomicBool::new(false);

    pub struct Hanging {
        pads: [gst::Pad; 2],
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Hanging {
        const NAME: &'static str = "TestHangingDecoder";
        type Type = super::HangingDecoder;
        type ParentType = gst::Element;

        fn with_class(class: &Self::Class) -> Self {
            let sink = gst::Pad::builder_from_template(&class.pad_template("sink").unwrap());
            let sink = sink.event_function(|_, _, _| true).chain_function(|_, _, _| {
                HANGS.store(true, Ordering::Relaxed);
                loop {
                    std::thread::park();
                }
            });
            let src = gst::Pad::from_template(&class.pad_template("src").unwrap());
            Self { pads: [sink.build(), src] }
        }
    }

    impl ObjectImpl for Hanging {
        fn constructed(&self) {
            self.parent_constructed();
            self.pads.iter().for_each(|pad| self.obj().add_pad(pad).unwrap());
        }
    }

    impl GstObjectImpl for Hanging {}
    impl ElementImpl for Hanging {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("Hanging", "Codec/Decoder/Video", "Hangs", "Tests")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let template = |name, direction, caps: &str| {
                    let caps = caps.parse::<gst::Caps>().unwrap();
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                let h264 = "video/x-h264,width=192,height=72";
                vec![
                    template("sink", gst::PadDirection::Sink, h264),
                    template("src", gst::PadDirection::Src, "video/x-raw"),
                ]
            });
            &TEMPLATES
        }
    }
}

gst::glib::wrapper! {
    pub struct HangingDecoder(ObjectSubclass<hanging::Hanging>) @extends gst::Element, gst::Object;
}

#[test]
fn a_decoder_that_hangs_does_not_outlive_an_interrupt() {
    let rig = Rig::new(2, |_, recording| (recording.frames, recording.size) = (20, (96, 72)));
    let above = gst::Rank::PRIMARY + 1000;
    gst::Element::register(None, "hangingdec", above, HangingDecoder::static_type()).unwrap();
    let hangs = |_| hanging::HANGS.load(Ordering::Relaxed);
    let (done, notices) = by_library(&rig, &["x264enc"], Frames::default(), hangs);
    assert_eq!(done.unwrap_err().exit, Exit::Interrupted, "{notices:?}");
    assert_eq!(rig.names(), [""; 0]);
}

/// By the library, told all that happens; `stop` is asked at each progress.
fn by_library(
    rig: &Rig,
    candidates: &[&str],
    frames: Frames,
    stop: impl Fn(u64) -> bool,
) -> (Result<Done, Failure>, Vec<String>) {
    let encoding = Encoding {
        codec: Codec::H264,
        candidates: candidates.iter().map(|&name| name.to_owned()).collect(),
        preset: Preset::Fast,
        quality: 21,
        threads: None,
    };
    let grid = Grid {
        frames,
        duration: None,
        tile_scale: 0.5,
        columns: None,
        tolerance_ns: u64::MAX,
        encoding,
        overwrite: true,
    };
    let (mut notices, cancelled) = (Vec::new(), AtomicBool::new(false));
    let mut events = |event| match event {
        Event::Notice(text) => notices.push(text),
        Event::Progress { done, .. } => cancelled.store(stop(done), Ordering::Relaxed),
    };
    let segment = Segment::read(&rig.path("run")).unwrap();
    let output = segment.output("_grid.mp4");
    let mut control = Control { events: &mut events, cancelled: &cancelled };
    (convert(&segment, &output, &grid, &mut control), notices)
}

#[test]
fn an_encoder_that_does_not_work_is_given_up_for_the_next() {
    let rig = Rig::new(2, |_, recording| (recording.frames, recording.size) = (90, (128, 96)));
    rig.damage(1, 25);
    encoders::register();
    let by = |candidates: &[&str], stop: &dyn Fn(u64) -> bool| {
        by_library(&rig, candidates, Frames::default(), stop)
    };
    for factory in ["nosuchenc", "closedenc", "refusingenc", "swallowingenc", "hangingenc", "failingenc"] {
        let (done, notices) = by(&[factory, "x264enc"], &|_| false);
        let done = done.unwrap();
        assert_eq!((done.frames, done.encoder.as_str()), (90, "x264enc"), "{factory}");
        assert_eq!((done.cameras[1].counts.shown, done.cameras[1].counts.damaged), (85, 5), "{factory}");
        let told = format!("warning: encoder {factory} is given up for x264enc (");
        assert_eq!(notices.iter().filter(|text| text.starts_with(&told)).count(), 1, "{notices:?}");
        let damage = notices.iter().filter(|text| text.contains("zed2: frames 25 to 29"));
        assert_eq!(damage.count(), 1, "{notices:?}");
        std::fs::remove_file(rig.path("run/run_grid.mp4")).unwrap();
    }
    let (done, _) = by(&["closedenc", "refusingenc"], &|_| false);
    let failure = done.unwrap_err();
    assert_eq!(failure.exit, Exit::Pipeline);
    assert!(failure.to_string().contains("no h264 encoder works: closedenc: "), "{failure}");
    // At whatever time it is stopped.
    for at in [0, 1, 40] {
        let (done, _) = by(&["x264enc"], &|done| done >= at);
        assert_eq!(done.unwrap_err().exit, Exit::Interrupted);
        assert_eq!(rig.names(), [""; 0]);
    }
    // Nothing at all can be shown.
    rig.damage(0, 40);
    rig.damage(1, 40);
    let frames = Frames { start: Some(43), end: Some(48) };
    let (done, notices) = by_library(&rig, &["x264enc"], frames, |_| false);
    let failure = done.unwrap_err();
    assert!(failure.to_string().contains("none of the frames can be decoded"), "{failure} {notices:?}");
    assert_eq!((failure.exit, rig.names()), (Exit::Configuration, vec![]));
}
