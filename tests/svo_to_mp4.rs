// SPDX-License-Identifier: MPL-2.0

//! `svo-to-mp4`: what FFmpeg finds in its files, what it refuses, and what is on the disk whatever happens.

mod common;

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use common::recordings::show;
use common::svo_mp4::*;
use common::zedsvo::write;
use common::*;
use cvmmap_streamer::exit::Exit;
use cvmmap_streamer::run::plan::Codec;
use cvmmap_streamer::sim::svo2::{RIGHT, Recording};
use cvmmap_streamer::svo::convert::{Control, Event, convert};
use cvmmap_streamer::svo::options::{Conversion, Encoding, Frames, How, Preset};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn each_frame_is_there_with_its_picture_and_its_time() {
    let bench = Bench::new(|recording| {
        recording.lost_before = vec![20, 20, 33];
        recording.jitter_ns = 7_000_000;
    });
    for (line, range, codec) in [
        ("--codec h264 --preset fast --output all.mp4", 0..=59, "h264"),
        ("--codec h265 --preset fast --output cut.mp4 --start-frame 17 --end-frame 41", 17..=41, "h265"),
        ("--codec h264 --preset quality --output one.mp4 --start-frame 59 --end-frame 59", 59..=59, "h264"),
        ("--codec h264 --output tail.mp4 --start-frame 44", 44..=59, "h264"),
    ] {
        let summary = bench.convert(line);
        let count = range.clone().count();
        assert_eq!(summary["frames"], count, "{line}: {summary}");
        assert_eq!((&summary["missing"], &summary["copy"]), (&0.into(), &false.into()), "{line}: {summary}");
        assert_eq!(summary["codec"], codec);
        assert_eq!(summary["first_unix_ns"], bench.recording.times()[*range.start()]);
        assert_eq!(summary["last_unix_ns"], bench.recording.times()[*range.end()]);
        let file = bench.path(summary["output"].as_str().unwrap());
        assert_eq!(summary["bytes"], file.metadata().unwrap().len());
        let shown = show(&file, None);
        assert_eq!(shown.errors, "", "{line}");
        assert_eq!(shown.sizes, ["320x240"], "{line}");
        assert_near(&shown.times, &bench.ticks(range.clone()));
        let expected: Vec<u32> = range.map(|frame| frame as u32).collect();
        assert_eq!(numbers(&file, SIZE.0, 0), expected, "{line}");
    }
}

/// The pictures of the first and the last frame are those of the recording, but for the loss of a second encoding.
#[test]
fn the_picture_is_that_of_the_recording() {
    let bench = Bench::new(|recording| recording.frames = 40);
    let recording = svo2::Recording::open(&bench.path("a.svo2")).unwrap();
    let mut reader = svo2::Reader::new(recording);
    let stream: Vec<u8> = (0..40).flat_map(|frame| reader.unit(frame).unwrap()).collect();
    std::fs::write(bench.path("a.h264"), stream).unwrap();
    let planes = |file: &str, filter: &str| {
        ffmpeg(
            &bench.path(file),
            &["-vf", filter, "-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo"],
        )
    };
    let picture = (SIZE.0 * SIZE.1 * 3 / 2) as usize;
    for (codec, limit) in [("h264", 38.0), ("h265", 35.0)] {
        bench.convert(&format!("--codec {codec} --start-frame 20 --end-frame 33 --overwrite --preset fast"));
        let ours = planes("a.mp4", "null");
        let original = planes("a.h264", &format!("crop={}:{}:0:0:exact=1", SIZE.0, SIZE.1));
        for (at, frame) in [(0, 20), (13, 33)] {
            let pair = ours[at * picture..][..picture].iter().zip(&original[frame * picture..]);
            let squares: f64 = pair.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
            let psnr = 10.0 * (255.0f64.powi(2) / (squares / picture as f64)).log10();
            assert!(psnr > limit, "{codec}, frame {frame}: {psnr:.1} dB");
        }
    }
}

#[test]
fn quality_and_preset_are_heard() {
    let bench = Bench::new(|recording| recording.frames = 20);
    let bytes = |line: &str| bench.convert(&format!("--overwrite {line}"))["bytes"].as_u64().unwrap();
    for codec in ["h264", "h265"] {
        let [good, bad] =
            [10, 40].map(|quality| bytes(&format!("--codec {codec} --preset fast --quality {quality}")));
        assert!(good > 2 * bad, "{codec}: {good} and {bad}");
    }
}

#[test]
fn a_copy_has_the_recordings_bytes_and_times() {
    for codec in [svo2::Codec::H264, svo2::Codec::H265] {
        let bench = Bench::new(|recording| {
            recording.codec = codec;
            recording.jitter_ns = 3_000_000;
            recording.lost_before = vec![31];
        });
        let recording = svo2::Recording::open(&bench.path("a.svo2")).unwrap();
        let mut reader = svo2::Reader::new(recording);
        let mut sample = |frame| {
            let unit = reader.unit(frame).unwrap();
            let prefixed =
                svo2::nal::units(&unit).flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), nal].concat());
            let hash: String = Sha256::digest(prefixed.collect::<Vec<_>>())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            hash
        };
        for (line, range) in
            [("--output all.mp4", 0..=59), ("--output cut.mp4 --start-frame 30 --end-frame 52", 30..=52)]
        {
            let summary = bench.convert(&format!("--copy --codec {} {line}", codec.name()));
            assert_eq!((&summary["frames"], &summary["copy"]), (&range.clone().count().into(), &true.into()));
            assert_eq!(summary["width"], 640);
            let file = bench.path(summary["output"].as_str().unwrap());
            let (hashes, times) = packets(&file);
            assert_eq!(hashes, range.clone().map(&mut sample).collect::<Vec<_>>(), "{codec} {line}");
            assert_near(&times, &bench.ticks(range.clone()));
            let left: Vec<u32> = range.map(|frame| frame as u32).collect();
            assert_eq!(numbers(&file, 640, 0), left);
            assert_eq!(numbers(&file, 640, 320), left.iter().map(|frame| frame + RIGHT).collect::<Vec<_>>());
            assert_eq!(show(&file, None).errors, "");
        }
    }
}

/// A recording of 60 frames, of which the later 30 come from a camera that was set up otherwise.
fn two_in_one(
    codec: svo2::Codec,
    other: impl FnOnce(&mut Recording),
    change: impl Fn(usize, Vec<u8>) -> Vec<u8>,
) -> (Bench, Bench) {
    let one = Bench::new(|recording| recording.codec = codec);
    let two = Bench::new(|recording| {
        recording.codec = codec;
        other(recording);
    });
    let later = two.units();
    let recording = svo2::Recording::open(&one.path("a.svo2")).unwrap();
    let path = one.path("two.svo2");
    write(&recording, &path, 0..60, |frame, unit| {
        change(frame, if frame < 30 { unit } else { later[frame - 30].clone() })
    });
    (one, two)
}

/// The sequence parameter set of an access unit.
fn sps(codec: svo2::Codec, unit: &[u8]) -> Option<&[u8]> {
    svo2::nal::units(unit).find(|nal| match codec {
        svo2::Codec::H264 => nal[0] & 0x1f == 7,
        svo2::Codec::H265 => nal[0] >> 1 & 0x3f == 33,
    })
}

fn has(file: &Path, bytes: &[u8]) -> bool {
    std::fs::read(file).unwrap().windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn a_copy_of_parameter_sets_that_change_says_that_samples_have_them() {
    for (codec, fixed, free) in [(svo2::Codec::H264, "avc1", "avc3"), (svo2::Codec::H265, "hvc1", "hev1")] {
        // The rate stands in the sets.
        let (bench, other) = two_in_one(codec, |recording| recording.fps = 50, |_, unit| unit);
        assert_ne!(sps(codec, &bench.units()[0]), sps(codec, &other.units()[0]), "or it shows nothing");
        let output = bench.run("--input two.svo2 --copy");
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("parameter sets change at frame 30") && said.contains(free), "{said}");
        let file = bench.path("two.mp4");
        assert!(has(&file, free.as_bytes()) && !has(&file, fixed.as_bytes()), "{codec}");
        assert_eq!(numbers(&file, 640, 0), (0..30).chain(0..30).collect::<Vec<u32>>());
        assert_eq!(show(&file, None).errors, "");
        // Up to the change, or from it on, nothing changes.
        for line in ["--end-frame 29", "--start-frame 30"] {
            let output = bench.run(&format!("--input two.svo2 --copy --overwrite {line}"));
            assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
            assert!(has(&file, fixed.as_bytes()) && !has(&file, free.as_bytes()), "{codec} {line}");
        }
    }
}

#[test]
fn a_copy_refuses_a_size_that_changes() {
    let (bench, _) = two_in_one(svo2::Codec::H264, |recording| recording.size = (352, 240), |_, unit| unit);
    let output = bench.run("--input two.svo2 --copy");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["704x240 from frame 30 on", "640x240 before", "--end-frame 29"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(bench.names(), ["a.svo2", "two.svo2"]);
    assert!(bench.run("--input two.svo2 --copy --end-frame 29").status.success());
}

#[test]
fn a_copy_has_the_parameter_sets_that_count_at_its_start() {
    let codec = svo2::Codec::H264;
    // Frame 45 is a key frame without sets: those of frame 30 are for it.
    let without_sets = |frame, unit: Vec<u8>| {
        if frame != 45 {
            return unit;
        }
        let slices = svo2::nal::units(&unit).filter(|nal| !matches!(nal[0] & 0x1f, 7 | 8));
        slices.flat_map(|nal| [&[0, 0, 0, 1], nal].concat()).collect()
    };
    let (bench, other) = two_in_one(codec, |recording| recording.fps = 50, without_sets);
    let output = bench.run("--input two.svo2 --copy --start-frame 45");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = bench.path("two.mp4");
    assert!(has(&file, sps(codec, &other.units()[0]).unwrap()));
    assert!(!has(&file, sps(codec, &bench.units()[0]).unwrap()));
    assert_eq!(numbers(&file, 640, 0), (15..30).collect::<Vec<u32>>());
}

/// Numbers of the samples that players may be sent to, from 1.
fn sync_samples(file: &Path) -> Vec<u32> {
    let bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(4).rposition(|window| window == b"stss").expect("a table of sync samples");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (0..number(at + 8) as usize).map(|entry| number(at + 12 + 4 * entry)).collect()
}

#[test]
fn players_are_sent_to_pictures_that_are_whole() {
    let bench = Bench::new(|_| ());
    bench.convert("--copy");
    assert_eq!(sync_samples(&bench.path("a.mp4")), [1, 16, 31, 46]);

    let bench = Bench::new(|recording| recording.intra_refresh = true);
    let mut reader = svo2::Reader::new(svo2::Recording::open(&bench.path("a.svo2")).unwrap());
    let point = (1..60).find_map(|frame| match reader.kind(frame) {
        Ok(svo2::Kind::Entry { recovers_after }) => Some((frame, usize::from(recovers_after))),
        _ => None,
    });
    let (frame, after) = point.expect("it has recovery points");
    assert!(after > 0);
    bench.convert("--copy");
    assert_eq!(sync_samples(&bench.path("a.mp4")), [1]);

    let output = bench.run(&format!("--input a.svo2 --copy --overwrite --start-frame {frame}"));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let whole =
        format!("frame {frame} is a recovery point: pictures are whole from frame {} on", frame + after);
    assert!(said.contains(&whole), "{said}");
    assert_eq!(sync_samples(&bench.path("a.mp4")), [1]);
}

#[test]
fn a_copy_is_interrupted_where_it_looks_for_the_next_key_frame() {
    let bench = Bench::new(|recording| (recording.frames, recording.gop) = (70, 100));
    bench.damage(1);
    let cancelled = AtomicBool::new(false);
    let mut notices = Vec::new();
    let mut events = |event| match event {
        Event::Notice(text) => notices.push(text),
        Event::Progress { .. } => cancelled.store(true, Ordering::Relaxed),
    };
    let mut control = Control { events: &mut events, cancelled: &cancelled };
    let conversion = Conversion { frames: Frames::default(), how: How::Copy(None), overwrite: false };
    let failure =
        convert(&bench.path("a.svo2"), &bench.path("a.mp4"), &conversion, &mut control).unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
    assert_eq!(notices, [""; 0]);
    assert_eq!(bench.names(), ["a.svo2"]);
}

#[test]
fn a_copy_is_interrupted_where_it_looks_for_key_frames_to_name() {
    let bench = Bench::new(|recording| (recording.frames, recording.gop) = (70, 100));
    let cancelled = AtomicBool::new(true);
    let mut control = Control { events: &mut |_| (), cancelled: &cancelled };
    let frames = Frames { start: Some(60), ..Frames::default() };
    let conversion = Conversion { frames, how: How::Copy(None), overwrite: false };
    let failure =
        convert(&bench.path("a.svo2"), &bench.path("a.mp4"), &conversion, &mut control).unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted, "{failure}");
    assert_eq!(bench.names(), ["a.svo2"]);
}

#[test]
fn a_path_that_is_not_utf8_is_refused_where_gstreamer_would_need_it() {
    let bench = Bench::new(|recording| recording.frames = 5);
    let name = OsStr::from_bytes(b"\xff.svo2");
    std::fs::rename(bench.path("a.svo2"), bench.folder.path().join(name)).unwrap();
    let output = run(bench.command("--preset fast --input").arg(name));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(".svo2': its path is not UTF-8") && said.contains("--copy"), "{said}");
    let output = run(bench.command("--copy --input").arg(name));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(bench.folder.path().join(OsStr::from_bytes(b"\xff.mp4")).is_file());
}

#[test]
fn outputs_are_beside_the_recording_and_not_overwritten() {
    let bench = Bench::new(|recording| recording.frames = 5);
    let summary = bench.convert("--preset fast");
    assert_eq!((&summary["output"], &summary["codec"]), (&"a.mp4".into(), &"h265".into()));
    assert_eq!(bench.names(), ["a.mp4", "a.svo2"]);
    let mode = bench.path("a.mp4").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0);
    assert_eq!(mode & 0o400, 0o400);
    let before = std::fs::read(bench.path("a.mp4")).unwrap();
    let output = bench.run("--input a.svo2 --codec h264");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("--output 'a.mp4': it exists; --overwrite replaces it"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(std::fs::read(bench.path("a.mp4")).unwrap(), before);
    assert_eq!(bench.convert("--codec h264 --overwrite")["codec"], "h264");
    assert_ne!(std::fs::read(bench.path("a.mp4")).unwrap(), before);
    // A link is followed: where it leads is what was meant.
    symlink("b.mp4", bench.path("link.mp4")).unwrap();
    bench.convert("--codec h264 --output link.mp4");
    assert_eq!(bench.names(), ["a.mp4", "a.svo2", "b.mp4", "link.mp4"]);
    assert!(bench.path("b.mp4").is_file() && bench.path("link.mp4").is_symlink());
}

#[test]
fn what_cannot_work_is_refused_and_nothing_is_written() {
    let bench = Bench::new(|recording| recording.frames = 40);
    std::fs::create_dir(bench.path("folder")).unwrap();
    std::fs::write(bench.path("empty.svo2"), "").unwrap();
    std::fs::write(bench.path("text.svo2"), "no recording at all").unwrap();
    std::fs::write(bench.path("old.svo"), "SVO begins otherwise").unwrap();
    std::fs::write(bench.path("stub.svo2"), &std::fs::read(bench.path("a.svo2")).unwrap()[..300]).unwrap();
    symlink("a.svo2", bench.path("alias.mp4")).unwrap();
    std::fs::hard_link(bench.path("a.svo2"), bench.path("twin.mp4")).unwrap();
    assert!(Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    let names = bench.names();
    for (line, code, parts) in [
        ("", 2, vec!["--input"]),
        ("--input a.svo2 --frobnicate", 2, vec!["--frobnicate"]),
        ("--input a.svo2 --codec av1", 2, vec!["av1", "--codec"]),
        ("--input a.svo2 --encoder-device cuda", 2, vec!["cuda", "auto, nvidia, software"]),
        ("--input a.svo2 --start-frame 9 --end-frame 8", 2, vec!["--start-frame 9", "after --end-frame 8"]),
        ("--input a.svo2 --start-frame 40", 1, vec!["--start-frame 40", "has 40 frames, 0 to 39"]),
        ("--input a.svo2 --end-frame 40", 1, vec!["--end-frame 40", "has 40 frames, 0 to 39"]),
        ("--input a.svo2 --start-frame -1", 2, vec!["--start-frame"]),
        ("--input nosuch.svo2", 1, vec!["--input 'nosuch.svo2'", "No such file"]),
        ("--input folder", 1, vec!["--input 'folder'", "it is a folder"]),
        ("--input pipe", 1, vec!["--input 'pipe'", "no regular file"]),
        ("--input empty.svo2", 1, vec!["--input 'empty.svo2'", "0 bytes"]),
        ("--input text.svo2", 1, vec!["--input 'text.svo2'", "it is no SVO2 recording"]),
        ("--input old.svo", 1, vec!["--input 'old.svo'", "version 1", "SDK"]),
        ("--input stub.svo2", 1, vec!["--input 'stub.svo2'"]),
        (
            "--input a.svo2 --output nosuch/b.mp4",
            1,
            vec!["--output 'nosuch/b.mp4'", "folder 'nosuch'", "No such"],
        ),
        (
            "--input a.svo2 --output text.svo2/b.mp4",
            1,
            vec!["--output", "folder 'text.svo2'", "Not a directory"],
        ),
        ("--input a.svo2 --output folder", 1, vec!["--output 'folder'", "a folder, not a file"]),
        ("--input a.svo2 --output b/", 1, vec!["--output 'b/'", "a folder, not a file"]),
        ("--input a.svo2 --output a.svo2 --overwrite", 1, vec!["--output 'a.svo2'", "the recording itself"]),
        ("--input a.svo2 --output alias.mp4 --overwrite", 1, vec!["'alias.mp4'", "the recording itself"]),
        ("--input a.svo2 --output twin.mp4 --overwrite", 1, vec!["'twin.mp4'", "the recording itself"]),
        ("--input a.svo2 --output /dev/null --overwrite", 1, vec!["--output '/dev/null'", "no regular file"]),
        ("--input a.svo2 --output pipe --overwrite", 1, vec!["--output 'pipe'", "no regular file"]),
        ("--input a.svo2 --copy --codec h265", 1, vec!["--codec h265", "recording is h264", "--copy"]),
        ("--input a.svo2 --copy --preset fast", 2, vec!["--preset", "--copy"]),
        ("--input a.svo2 --copy --quality 20", 2, vec!["--quality", "--copy"]),
        ("--input a.svo2 --copy --encoder-device nvidia", 2, vec!["--encoder-device", "--copy"]),
        (
            "--input a.svo2 --copy --start-frame 20",
            1,
            vec!["--start-frame 20", "15 before it and 30 behind it"],
        ),
        ("--input a.svo2 --copy --start-frame 31", 1, vec!["--start-frame 31", "30 before it is the last"]),
        ("--input a.svo2 --encoder-device nvidia --output b.mp4", 5, vec!["--encoder-device", "nvh265enc"]),
    ] {
        let output = bench.run(line);
        let said = text(&output.stderr);
        // Where there is a GPU, that is no refusal.
        if code == 5 && output.status.success() {
            std::fs::remove_file(bench.path("b.mp4")).unwrap();
            continue;
        }
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}: {}", text(&output.stdout));
        assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
        // clap's own have a hint and the usage besides.
        let errors = said.lines().filter(|line| line.starts_with("error:")).count();
        assert_eq!(errors, 1, "{line}: {said}");
        assert_eq!(bench.names(), names, "{line}");
    }
}

#[test]
fn a_folder_that_is_not_ours_is_refused() {
    let bench = Bench::new(|recording| recording.frames = 5);
    let closed = bench.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere but there.
    let folder = if std::fs::write(closed.join("probe"), "").is_ok() { "/proc" } else { "closed" };
    let output = bench.run(&format!("--input a.svo2 --output {folder}/b.mp4"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&format!("--output '{folder}/b.mp4'")), "{}", text(&output.stderr));
}

#[test]
fn a_recording_that_was_cut_short_is_converted_up_to_its_last_frame() {
    let bench = Bench::new(|_| ());
    let whole = std::fs::read(bench.path("a.svo2")).unwrap();
    std::fs::write(bench.path("cut.svo2"), &whole[..whole.len() / 2]).unwrap();
    let frames = svo2::Recording::open(&bench.path("cut.svo2")).unwrap().frames();
    assert!((5..59).contains(&frames), "{frames}");
    for line in ["--copy", "--codec h264 --preset fast"] {
        let output = bench.run(&format!("--input cut.svo2 --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("cut short") && said.contains(&format!("{frames} whole frames")), "{said}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["frames"], frames);
        assert!(summary["scanned"].is_string());
        let width = summary["width"].as_u64().unwrap() as u32;
        assert_eq!(numbers(&bench.path("cut.mp4"), width, 0), (0..frames as u32).collect::<Vec<_>>());
        let output = bench.run(&format!("--input cut.svo2 --end-frame 59 --overwrite {line}"));
        assert!(text(&output.stderr).contains(&format!("has {frames} frames")), "{}", text(&output.stderr));
    }
}

#[test]
fn damaged_frames_are_left_out_up_to_the_next_key_frame_and_told() {
    let bench = Bench::new(|_| ());
    bench.damage(20);
    for line in ["--copy", "--codec h264 --preset fast"] {
        let output = bench.run(&format!("--input a.svo2 --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("frames 20 to 29 are left out"), "{said}");
        assert!(said.contains("10 of 60 frames are missing"), "{said}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&summary["frames"], &summary["missing"]), (&50.into(), &10.into()), "{summary}");
        assert_eq!(summary["damaged"], 1, "{summary}");
        let width = summary["width"].as_u64().unwrap() as u32;
        let expected: Vec<u32> = (0..20).chain(30..60).collect();
        assert_eq!(numbers(&bench.path("a.mp4"), width, 0), expected);
        let shown = show(&bench.path("a.mp4"), None);
        let times: Vec<i64> = bench.ticks(0..=59);
        assert_near(&shown.times, &expected.iter().map(|&frame| times[frame as usize]).collect::<Vec<_>>());
    }
}

/// A conversion that takes longer than any test.
fn slow() -> Bench {
    Bench::new(|recording| (recording.frames, recording.size) = (400, (640, 480)))
}

const SLOW: &str = "--input a.svo2 --preset quality --quality 1";

fn started(bench: &Bench, line: &str) -> Process {
    let mut command = bench.command(line);
    let process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let part = bench.path(".a.mp4.part");
    wait_for("the file to grow", || part.metadata().is_ok_and(|found| found.len() > 0));
    process
}

fn said(process: &mut Process) -> String {
    let mut said = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let bench = slow();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut process = started(&bench, SLOW);
        process.signal(signal);
        wait_for("the end", || process.0.try_wait().unwrap().is_some());
        assert_eq!(process.0.wait().unwrap().code(), Some(130));
        assert!(said(&mut process).contains("error: interrupted: no file was written"));
        assert_eq!(bench.names(), ["a.svo2"]);
    }
    // What was there before is there afterwards.
    std::fs::write(bench.path("a.mp4"), "mine").unwrap();
    let mut process = started(&bench, &format!("{SLOW} --overwrite"));
    process.signal(libc::SIGINT);
    wait_for("the end", || process.0.try_wait().unwrap().is_some());
    assert_eq!(bench.names(), ["a.mp4", "a.svo2"]);
    assert_eq!(std::fs::read(bench.path("a.mp4")).unwrap(), b"mine");
}

#[test]
fn what_a_killed_one_left_is_taken_over_and_what_another_writes_is_not() {
    let bench = slow();
    let mut first = started(&bench, SLOW);
    let output = bench.run("--input a.svo2 --copy");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("it is being written right now, as '"), "{}", text(&output.stderr));
    first.kill();
    assert_eq!(bench.names(), [".a.mp4.part", "a.svo2"]);
    let summary = bench.convert("--copy");
    assert_eq!(summary["frames"], 400);
    assert_eq!(bench.names(), ["a.mp4", "a.svo2"]);
    assert_eq!(packets(&bench.path("a.mp4")).0.len(), 400);
}

/// A process may write no more than so much into a file: a disk that is full, for whoever writes.
#[test]
fn a_full_disk_is_told_and_nothing_stays() {
    let bench = Bench::new(|_| ());
    for line in ["--copy", "--codec h264 --preset fast --quality 1"] {
        let mut shell = Command::new("sh");
        // In blocks of 512 bytes; without the signal, a write says what is wrong.
        shell.args([
            "-c",
            "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_cvmmap-streamer"),
        ]);
        shell
            .args(["svo-to-mp4", "--input", "a.svo2"])
            .args(line.split(' '))
            .current_dir(bench.folder.path());
        let output = run(&mut shell);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--output 'a.mp4'") && said.contains("File too large"), "{said}");
        assert_eq!(bench.names(), ["a.svo2"]);
    }
}

#[test]
fn a_terminal_sees_a_bar_and_a_log_lines() {
    let bench = Bench::new(|_| ());
    let line = format!(
        "{} svo-to-mp4 --input a.svo2 --codec h264 --preset fast --overwrite",
        env!("CARGO_BIN_EXE_cvmmap-streamer")
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(bench.folder.path()).env("TERM", "xterm");
    let output = run(script.stdin(Stdio::null()));
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("%|") && shown.contains("/60 ["), "{shown:?}");
    assert!(shown.contains("a.mp4: 60 frames of 320x240, h264 by "), "{shown:?}");

    let output = bench.run("--input a.svo2 --codec h264 --preset fast --overwrite --encoder-device software");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(said.starts_with("a.mp4: 60 frames of 320x240, h264 by x264enc, "), "{said:?}");
    assert!(!said.contains(['\r', '\x1b']), "{said:?}");
    assert!(output.stdout.is_empty());
}

fn by(candidates: &[&str]) -> Conversion {
    let encoding = Encoding {
        codec: Codec::H264,
        candidates: candidates.iter().map(|&name| name.to_owned()).collect(),
        preset: Preset::Fast,
        quality: 21,
        threads: None,
    };
    Conversion { frames: Frames::default(), how: How::Encode(encoding), overwrite: true }
}

#[test]
fn an_encoder_that_does_not_work_is_given_up_for_the_next() {
    let bench = Bench::new(|recording| recording.frames = 90);
    encoders::register();
    let (input, output) = (bench.path("a.svo2"), bench.path("a.mp4"));
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
        let done = convert(&input, &output, &by(&[factory, "x264enc"]), &mut control).unwrap();
        assert_eq!((done.frames, done.encoder.as_deref()), (90, Some("x264enc")), "{factory}");
        assert_eq!(last, (90, 90), "{factory}");
        let told = format!("warning: encoder {factory} is given up for x264enc (");
        assert!(notices.len() == 1 && notices[0].starts_with(&told), "{factory}: {notices:?}");
        assert_eq!(numbers(&output, SIZE.0, 0), (0..90).collect::<Vec<u32>>(), "{factory}");
    }
    // What is damaged is told once, however many encoders come across it.
    bench.damage(20);
    let mut notices = Vec::new();
    let mut events = |event| match event {
        Event::Notice(text) => notices.push(text),
        Event::Progress { .. } => (),
    };
    let mut control = Control { events: &mut events, cancelled: &cancelled };
    let done = convert(&input, &output, &by(&["swallowingenc", "x264enc"]), &mut control).unwrap();
    assert_eq!((done.frames, done.damaged), (80, 1));
    assert_eq!(notices.iter().filter(|text| text.contains("frames 20 to 29")).count(), 1, "{notices:?}");
    std::fs::remove_file(&output).unwrap();
    let mut control = Control { events: &mut |_| (), cancelled: &cancelled };
    let failure = convert(&input, &output, &by(&["closedenc", "refusingenc"]), &mut control).unwrap_err();
    assert_eq!(failure.exit, Exit::Pipeline);
    let why = failure.to_string();
    assert!(why.contains("no h264 encoder works: closedenc: ") && why.contains("; refusingenc: "), "{why}");
    assert_eq!(bench.names(), ["a.svo2"]);
}
