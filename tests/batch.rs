// SPDX-License-Identifier: MPL-2.0

//! `batch`: what is done about each input of a data set, what is told of it, and what is on the disk whatever happens.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use common::batch::{Set, counts, json, reason, recorded, statuses};
use common::recordings::show;
use common::*;
use cvmmap_streamer::sim::svo2::Recording;
use cvmmap_streamer::svo::batch::probe;
use rustix::fs::FlockOperation;
use serde_json::Value;

/// Quick ways of making an output.
const COPY: &str = "--copy";
const ENCODED: &str = "--codec h264 --preset fast";

/// A recording that takes next to no time.
static TINY: LazyLock<Vec<u8>> =
    LazyLock::new(|| recorded(Recording { size: (64, 64), frames: 12, gop: 6, ..Recording::default() }));
/// One that takes longer than any test, where it is encoded with [`SLOWLY`].
static LONG: LazyLock<Vec<u8>> =
    LazyLock::new(|| recorded(Recording { size: (640, 480), frames: 400, ..Recording::default() }));
const SLOWLY: &str = "--codec h265 --preset quality --quality 1";

#[test]
fn of_forty_with_five_broken_ones_exactly_those_five_are_reported() {
    let tiny: &[u8] = &TINY;
    let set = Set::new("svo-to-mp4", &[]);
    let broken = [4, 5, 17, 30, 39];
    let name =
        |number: usize, ending: &str| format!("day{}/s{number:02}/s{number:02}_zed1.{ending}", number % 3);
    for number in 0..40 {
        let bytes: &[u8] = match broken.iter().position(|&broken| broken == number) {
            Some(0) => b"",
            Some(1) => b"no recording at all",
            Some(2) => &tiny[..300],
            // The header alone, and frames that are none.
            Some(3) => &tiny[..2000],
            Some(_) => &[&tiny[..1000], &vec![0; tiny.len() - 1000]].concat(),
            None => tiny,
        };
        set.write(&name(number, "svo2"), bytes);
    }
    let inputs = set.files();
    let line = format!(". --recursive {ENCODED}");
    let summary = set.summary(&line, 1);
    assert_eq!(counts(&summary), BTreeMap::from([("converted", 35), ("failed", 5)]), "{summary}");
    let failed = |summary: &Value| -> Vec<String> {
        let rows = statuses(summary).into_iter().filter(|(_, status)| *status == "failed");
        rows.map(|(what, _)| what.trim_start_matches("./").to_owned()).collect()
    };
    let mut expected: Vec<String> = broken.iter().map(|&number| name(number, "svo2")).collect();
    expected.sort();
    assert_eq!(failed(&summary), expected);
    assert_eq!(summary["frames"], 35 * 12);
    assert!(summary["jobs"].as_u64().unwrap() >= 1, "{summary}");
    // They are told to people, too, each with its reason and once more in its log.
    for row in summary["results"].as_array().unwrap() {
        let log = std::fs::read_to_string(row["log"].as_str().unwrap()).unwrap();
        match row["status"].as_str().unwrap() {
            "failed" => {
                let reason = row["reason"].as_str().unwrap();
                assert!(
                    reason.contains("--input '") && log.contains(&format!("error: {reason}")),
                    "{reason}: {log}"
                );
            }
            _ => assert!(log.contains("12 frames of 64x64"), "{log}"),
        }
    }
    let outputs: Vec<usize> = (0..40).filter(|number| !broken.contains(number)).collect();
    let mut files = inputs.into_keys().collect::<Vec<_>>();
    files.extend(outputs.iter().map(|&number| name(number, "mp4")));
    files.sort();
    assert_eq!(set.names(), files, "and nothing besides");
    for number in [0, 38] {
        let shown = show(&set.path(&name(number, "mp4")), None);
        assert_eq!((shown.pictures.len(), shown.errors.as_str()), (12, ""));
    }
    // The same again does what is left.
    let files = set.files();
    let output = set.run(&line);
    let (said, talk) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{talk}");
    assert_eq!(said.lines().filter(|line| line.starts_with("failed: ./day")).count(), 5, "{said}");
    assert!(said.contains("skipped         35") && said.contains("failed           5"), "{said}");
    assert!(talk.ends_with("error: 5 of 40 failed\n"), "{talk}");
    assert_eq!(set.files(), files);
}

#[test]
fn inputs_come_by_folder_by_segment_and_by_table() {
    let set = Set::new(
        "svo-to-mp4",
        &[
            ("x/s1/s1_zed1.svo2", &TINY),
            ("x/s1/s1_zed2.svo2", &TINY),
            ("x/s2/s2_zed1.svo2", &TINY),
            ("x/s2/notes.txt", b""),
            ("top.svo2", &TINY),
            ("lists/segments.csv", b"id,segment_dir\n1,../x/s2\n2,../x/s1\n3,../x/s2/\n4,\n5,nosuch\n"),
            ("lists/other.csv", b"segment_dir\ns2\n"),
        ],
    );
    let files = set.files();
    let found = |line: &str, code| {
        let summary = set.summary(&format!("{line} --dry-run"), code);
        let rows = statuses(&summary).into_iter();
        rows.map(|(what, status)| format!("{} {status}", what.rsplit('/').next().unwrap()))
            .collect::<Vec<_>>()
    };
    let all = ["s1_zed1.svo2 to_convert", "s1_zed2.svo2 to_convert", "s2_zed1.svo2 to_convert"];
    assert_eq!(found("x --recursive", 0), all);
    assert_eq!(found(".", 0), ["top.svo2 to_convert"]);
    assert_eq!(found(". --recursive --pattern *_zed2.svo2", 0), all[1..2]);
    assert_eq!(found("--segment-dir x/s1 --segment-dir x/s2 --segment-dir x/../x/s1", 0), all);
    let table = [all[2], all[0], all[1], "segments.csv line 5 failed", "segments.csv line 6 failed"];
    assert_eq!(found("--segments-csv lists/segments.csv", 1), table);
    assert_eq!(found("--segments-csv lists/other.csv --csv-root x", 0), all[2..]);
    let output = set.run("x --recursive --dry-run --start-frame 3");
    let said = text(&output.stdout);
    assert!(said.contains("to convert: x/s1/s1_zed1.svo2: there is no output"), "{said}");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    assert_eq!(set.files(), files, "nothing was written");
    assert_eq!(set.logs.path().read_dir().unwrap().count(), 0, "not even a log");
}

#[test]
fn what_cannot_work_is_refused_at_once_and_nothing_is_written() {
    let set = Set::new(
        "svo-to-mp4",
        &[
            ("a.svo2", &TINY),
            ("empty/b.txt", b""),
            ("bad.csv", b"dir\nempty\n"),
            ("none.csv", b"segment_dir\n"),
        ],
    );
    let files = set.files();
    for (line, code, parts) in [
        ("", 2, ["<ROOT|--segment-dir <DIR>|--segments-csv <FILE>>", "required"]),
        (". --segment-dir empty", 2, ["[ROOT]", "--segment-dir"]),
        ("--segment-dir empty --segments-csv bad.csv", 2, ["--segment-dir", "--segments-csv"]),
        ("--segment-dir empty --recursive", 2, ["--segment-dir", "--recursive"]),
        ("--segments-csv bad.csv --pattern *.svo2", 2, ["--segments-csv", "--pattern"]),
        (". --csv-root empty", 2, ["--csv-root", "[ROOT]"]),
        (". --pattern [a", 2, ["--pattern", "unclosed"]),
        (". --jobs 0", 2, ["--jobs", "0 is not in 1..=1024"]),
        (". --overwrite --probe-existing", 2, ["--overwrite", "--probe-existing"]),
        (". --overwrite --report-existing", 2, ["--overwrite", "--report-existing"]),
        (". --dry-run --report-existing", 2, ["--dry-run", "--report-existing"]),
        (". --jobs 2 --report-existing", 2, ["--jobs", "--report-existing"]),
        (". --copy --preset fast", 2, ["--preset", "--copy"]),
        (". --start-frame 3 --end-frame 2", 2, ["--start-frame 3", "--end-frame 2"]),
        (". --input a.svo2", 2, ["--input", "unexpected"]),
        (". --owm-input a.svo2", 2, ["--owm-input", "unexpected"]),
        ("nosuch", 1, ["ROOT 'nosuch'", "No such file"]),
        ("a.svo2", 1, ["ROOT 'a.svo2'", "it is a file"]),
        ("empty", 1, ["ROOT 'empty'", "--recursive"]),
        ("empty --recursive", 1, ["ROOT 'empty'", "no recording in it"]),
        (". --pattern *.svo", 1, ["ROOT '.'", "is called '*.svo'"]),
        ("--segments-csv bad.csv", 1, ["no column 'segment_dir'", "'dir'"]),
        ("--segments-csv none.csv", 1, ["none.csv", "there are no rows"]),
        ("--segments-csv nosuch.csv", 1, ["nosuch.csv", "No such file"]),
        (". --copy --log-dir a.svo2/logs", 1, ["--log-dir 'a.svo2/logs'", "Not a directory"]),
    ] {
        let output = set.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{line}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "{line}: {said}");
        // What only its own processes are told is nobody's to try.
        assert!(!said.contains("--own-"), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}: {}", text(&output.stdout));
        assert_eq!(set.files(), files, "{line}");
    }
}

#[test]
fn what_is_wrong_with_one_input_costs_that_one_alone() {
    let set = Set::new(
        "svo-to-mp4",
        &[
            ("a.svo2", &TINY),
            ("clash.svo2", &TINY),
            ("clash.svo", b"SVO of the first version"),
            ("folder.svo2", &TINY),
            ("folder.mp4/x", b""),
            ("old.svo", b"SVO of the first version"),
        ],
    );
    let summary = set.summary(&format!(". --pattern *.svo* {COPY}"), 1);
    assert_eq!(
        statuses(&summary),
        [
            ("./a.svo2", "converted"),
            ("./clash.svo", "failed"),
            ("./clash.svo2", "failed"),
            ("./folder.svo2", "failed"),
            ("./old.svo", "failed")
        ]
    );
    for (what, parts) in [
        ("clash.svo2", ["its output './clash.mp4'", "'./clash.svo' too"]),
        ("folder.svo2", ["'./folder.mp4'", "it is a folder"]),
        ("old.svo", ["version 1", "SDK"]),
    ] {
        let reason = reason(&summary, what);
        assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
    }
    let names = ["a.mp4", "a.svo2", "clash.svo", "clash.svo2", "folder.mp4/x", "folder.svo2", "old.svo"];
    assert_eq!(set.names(), names);
}

/// The batch without a right that only root has: to look and write where the mode forbids it.
fn unprivileged(set: &Set, line: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]);
    let mut command = if rustix::process::geteuid().is_root() {
        command.arg(env!("CARGO_BIN_EXE_cvmmap-streamer"));
        command
    } else {
        streamer()
    };
    set.dress(&mut command, line);
    command
}

#[test]
fn folders_that_are_closed_are_told_and_the_rest_goes_on() {
    let set =
        Set::new("svo-to-mp4", &[("closed/a.svo2", &TINY), ("hidden/b.svo2", &TINY), ("open/c.svo2", &TINY)]);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(set.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("closed", 0o555);
    mode("hidden", 0o000);
    let summary = json(&run(&mut unprivileged(&set, &format!(". --recursive --json {COPY}"))), 1);
    mode("closed", 0o755);
    mode("hidden", 0o755);
    let expected = [("./closed/a.svo2", "failed"), ("./hidden", "failed"), ("./open/c.svo2", "converted")];
    assert_eq!(statuses(&summary), expected, "{summary}");
    assert!(reason(&summary, "closed").contains("Permission denied"), "{summary}");
    assert!(reason(&summary, "hidden").contains("cannot be looked into: Permission denied"), "{summary}");
    assert_eq!(set.names(), ["closed/a.svo2", "hidden/b.svo2", "open/c.mp4", "open/c.svo2"]);
}

#[test]
fn outputs_that_are_there_are_kept_probed_reported_or_replaced() {
    let set =
        Set::new("svo-to-mp4", &[("a.svo2", &TINY), ("b.svo2", &TINY), ("c.svo2", &TINY), ("d.svo2", &TINY)]);
    assert_eq!(set.summary(&format!(". --pattern [a-c].svo2 {COPY}"), 0)["converted"], 3);
    let whole = std::fs::read(set.path("b.mp4")).unwrap();
    set.write("b.mp4", &whole[..whole.len() - 1]);
    set.write("c.mp4", b"");
    let files = set.files();

    let output = set.run(". --report-existing");
    let (said, talk) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{talk}");
    assert!(
        said.contains("invalid: ./b.mp4: it was cut short") && said.contains("invalid: ./c.mp4: it is empty"),
        "{said}"
    );
    assert!(said.contains("valid            1") && said.contains("missing          1"), "{said}");
    assert_eq!(talk, "error: 2 of 4 outputs are not whole\n");
    let summary = set.summary(". --report-existing", 1);
    assert_eq!(
        (&summary["valid"], &summary["invalid"], &summary["missing"]),
        (&1.into(), &2.into(), &1.into())
    );
    assert_eq!((&summary["jobs"], &summary["log_dir"]), (&Value::Null, &Value::Null), "nothing is converted");
    assert_eq!(set.summary(". --pattern [ad].svo2 --report-existing", 0)["valid"], 1);

    assert_eq!(set.summary(". --dry-run", 0)["jobs"], Value::Null);
    let planned = set.summary(&format!(". --probe-existing --dry-run {COPY}"), 0);
    assert_eq!(counts(&planned), BTreeMap::from([("skipped", 1), ("to_convert", 3)]));
    assert!(reason(&planned, "b.svo2").contains("not whole: it was cut short"), "{planned}");
    let kept = set.summary(&format!(". --dry-run {COPY}"), 0);
    assert_eq!(counts(&kept), BTreeMap::from([("skipped", 3), ("to_convert", 1)]));
    assert_eq!(set.files(), files);

    let summary = set.summary(&format!(". --probe-existing {COPY}"), 0);
    assert_eq!(counts(&summary), BTreeMap::from([("skipped", 1), ("converted", 3)]));
    assert_eq!(reason(&summary, "a.svo2"), "its output is whole");
    assert_eq!(set.summary(". --report-existing", 0)["valid"], 4);
    let probed = set.files();
    assert_eq!(probed["a.mp4"], files["a.mp4"]);
    assert!(["b.mp4", "c.mp4"].iter().all(|&name| probed[name] != files[name]));

    // One that another batch has made since this one looked is left alone, by the process that was to make it.
    let mut own = set.command(&format!(". --probe-existing {COPY}"));
    own.env("CVMMAP_STREAMER_BATCH_INPUT", set.path("b.svo2")).env("CVMMAP_STREAMER_BATCH_REPLACES", "1");
    let output = run(own.stdin(Stdio::null()));
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "\"made\"\n"));
    assert_eq!(set.files(), probed);

    assert_eq!(set.summary(&format!(". --overwrite {COPY}"), 0)["converted"], 4);
    let replaced = set.files();
    assert!(["a.mp4", "b.mp4", "c.mp4", "d.mp4"].iter().all(|&name| replaced[name] != probed[name]));
}

fn ffmpeg(from: &Path, args: &[&str], to: &Path) {
    let mut command = readers::ffmpeg_program();
    command.args(["-loglevel", "error", "-y", "-i"]).arg(from).args(args).arg(to);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_probe_tells_whole_files_from_others() {
    let set = Set::new("svo-to-mp4", &[("a.svo2", &TINY)]);
    let mp4 = set.path("a.mp4");
    let check = || probe::mp4::check(&mp4);
    for line in ["--codec h264 --preset fast", "--codec h265 --preset fast", "--copy"] {
        assert_eq!(set.summary(&format!(". --overwrite {line}"), 0)["converted"], 1);
        assert_eq!(check(), Ok(()), "{line}");
        let whole = std::fs::read(&mp4).unwrap();
        for len in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
            std::fs::write(&mp4, &whole[..len]).unwrap();
            check().expect_err(&format!("{len} of {} bytes, {line}", whole.len()));
        }
        std::fs::write(&mp4, whole).unwrap();
    }
    // Tables in front: a file that was cut short has them all the same.
    let fast = set.path("fast.mp4");
    ffmpeg(&mp4, &["-c", "copy", "-movflags", "+faststart"], &fast);
    std::fs::rename(&fast, &mp4).unwrap();
    assert_eq!(check(), Ok(()));
    let whole = std::fs::read(&mp4).unwrap();
    std::fs::write(&mp4, &whole[..whole.len() - 1]).unwrap();
    let error = check().unwrap_err();
    assert!(error.contains("cut short") && error.contains("'mdat'"), "{error}");
    // Whatever the tables say, it is an answer and no panic.
    let (moov, free) = (36, whole.windows(4).rposition(|window| window == b"mdat").unwrap());
    for (at, byte) in (moov..free).flat_map(|at| [0, 0x7f, 0xff].map(|byte| (at, byte))) {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        std::fs::write(&mp4, bytes).unwrap();
        let _ = check();
    }
    // What a power cut may leave: the length is right, and the end was never written.
    std::fs::write(&mp4, [&whole[..whole.len() - 40], &[0; 40]].concat()).unwrap();
    let error = check().unwrap_err();
    assert!(error.contains("last picture is not whole"), "{error}");
    // Boxes that end too soon: the tables name more than is there.
    let mdat = whole.windows(4).position(|window| window == b"mdat").unwrap() - 4;
    let mut short = whole[..whole.len() - 100].to_vec();
    let size = (short.len() - mdat) as u32;
    short[mdat..mdat + 4].copy_from_slice(&size.to_be_bytes());
    std::fs::write(&mp4, short).unwrap();
    let error = check().unwrap_err();
    assert!(error.contains("picture") && error.contains("of 12 ends at byte"), "{error}");
    for (bytes, part) in [
        (TINY.as_slice(), "no MP4 file"),
        (b"text that is longer than any box's head".as_slice(), "no MP4 file"),
        (b"short", "no MP4 file"),
        (&whole[..24], "cut short"),
        (b"", "empty"),
    ] {
        std::fs::write(&mp4, bytes).unwrap();
        let error = check().unwrap_err();
        assert!(error.contains(part) || error.contains("no tables"), "{part}: {error}");
    }
    let mut sound = readers::ffmpeg_program();
    sound.args(["-loglevel", "error", "-y", "-f", "lavfi", "-i", "sine=d=1"]).arg(&mp4);
    assert!(run(&mut sound).status.success());
    assert_eq!(check().unwrap_err(), "it has no video");
}

/// Processes that a process has started.
fn children(process: &Process) -> Vec<i32> {
    let id = process.0.id();
    let told = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    told.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn grows(set: &Set, part: &str) {
    wait_for("the file to grow", || set.path(part).metadata().is_ok_and(|found| found.len() > 0));
}

/// Whether nobody holds the lock on a file that grows.
fn is_left(set: &Set, part: &str) -> bool {
    let file = std::fs::File::open(set.path(part)).unwrap();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn ended(process: &mut Process) -> (i32, Value, String) {
    let mut status = None;
    wait_for("the end", || {
        status = process.0.try_wait().unwrap();
        status.is_some()
    });
    let read = |pipe: &mut dyn std::io::Read| {
        let mut said = String::new();
        pipe.read_to_string(&mut said).unwrap();
        said
    };
    let out = read(process.0.stdout.as_mut().unwrap());
    let err = read(process.0.stderr.as_mut().unwrap());
    let summary = serde_json::from_str(&out).unwrap_or_default();
    (status.unwrap().code().unwrap_or(-1), summary, err)
}

fn started(set: &Set, line: &str) -> Process {
    let mut command = set.command(&format!("{line} --json"));
    Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn a_killed_batch_goes_on_where_it_was() {
    let set =
        Set::new("svo-to-mp4", &[("a.svo2", &TINY), ("b.svo2", &LONG), ("c.svo2", &LONG), ("d.svo2", &TINY)]);
    let mut batch = started(&set, &format!(". --jobs 2 {SLOWLY}"));
    grows(&set, ".b.mp4.part");
    grows(&set, ".c.mp4.part");
    let a = set.files()["a.mp4"];
    batch.kill();
    // Its processes go with it.
    wait_for("its processes to end", || is_left(&set, ".b.mp4.part") && is_left(&set, ".c.mp4.part"));
    let names = [".b.mp4.part", ".c.mp4.part", "a.mp4", "a.svo2", "b.svo2", "c.svo2", "d.svo2"];
    assert_eq!(set.names(), names);
    let summary = set.summary(&format!(". {COPY}"), 0);
    assert_eq!(
        statuses(&summary),
        [
            ("./a.svo2", "skipped"),
            ("./b.svo2", "converted"),
            ("./c.svo2", "converted"),
            ("./d.svo2", "converted")
        ]
    );
    assert_eq!(summary["results"][1]["summary"]["frames"], 400);
    assert_eq!(set.names(), ["a.mp4", "a.svo2", "b.mp4", "b.svo2", "c.mp4", "c.svo2", "d.mp4", "d.svo2"]);
    assert_eq!(set.files()["a.mp4"], a);
    assert_eq!(set.summary(". --report-existing", 0)["valid"], 4);
}

#[test]
fn an_interrupted_batch_leaves_what_is_whole_and_nothing_else() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let set = Set::new("svo-to-mp4", &[("a.svo2", &TINY), ("b.svo2", &LONG), ("c.svo2", &TINY)]);
        let mut batch = started(&set, &format!(". --jobs 1 {SLOWLY}"));
        grows(&set, ".b.mp4.part");
        batch.signal(signal);
        let (code, summary, said) = ended(&mut batch);
        assert_eq!(code, 130, "{said}");
        assert!(said.contains("error: interrupted: 2 of 3 are left"), "{said}");
        let expected = [("./a.svo2", "converted"), ("./b.svo2", "interrupted"), ("./c.svo2", "not_started")];
        assert_eq!(statuses(&summary), expected);
        assert_eq!(set.names(), ["a.mp4", "a.svo2", "b.svo2", "c.svo2"]);
    }
}

/// As a shell does where somebody types Ctrl-C: all processes of the group get the signal, and twice where he is in a hurry.
#[test]
fn a_signal_to_the_whole_group_is_one_signal() {
    use std::os::unix::process::CommandExt;
    let set = Set::new("svo-to-mp4", &[("b.svo2", &LONG)]);
    let mut command = set.command(&format!(". --json {SLOWLY}"));
    let mut batch = Process::spawn(command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()));
    grows(&set, ".b.mp4.part");
    let group = rustix::process::Pid::from_child(&batch.0);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let (code, summary, said) = ended(&mut batch);
    assert_eq!((code, statuses(&summary)), (130, vec![("./b.svo2", "interrupted")]), "{said}");
    assert_eq!(set.names(), ["b.svo2"]);
}

#[test]
fn what_another_batch_makes_is_left_to_it() {
    let set = Set::new("svo-to-mp4", &[("a.svo2", &LONG), ("b.svo2", &TINY), ("c.svo2", &TINY)]);
    let line = format!(". --jobs 1 --cuda-visible-devices 3,1 {SLOWLY}");
    let mut first = started(&set, &line);
    grows(&set, ".a.mp4.part");
    // The other one takes what is free.
    let second = set.summary(&format!(". --jobs 2 {COPY}"), 0);
    assert_eq!(
        statuses(&second),
        [("./a.svo2", "busy"), ("./b.svo2", "converted"), ("./c.svo2", "converted")]
    );
    assert!(reason(&second, "a.svo2").contains("somebody else"), "{second}");
    let files = set.files();
    // The process that was so slow is killed; that costs its own input, and the rest was made meanwhile.
    let slow = children(&first);
    assert_eq!(slow.len(), 1);
    let environment = std::fs::read(format!("/proc/{}/environ", slow[0])).unwrap();
    assert!(environment.split(|&byte| byte == 0).any(|entry| entry == b"CUDA_VISIBLE_DEVICES=3,1"));
    let pid = rustix::process::Pid::from_raw(slow[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let (code, summary, said) = ended(&mut first);
    assert_eq!(code, 1, "{said}");
    assert_eq!(
        statuses(&summary),
        [("./a.svo2", "failed"), ("./b.svo2", "skipped"), ("./c.svo2", "skipped")]
    );
    assert!(reason(&summary, "a.svo2").contains("its process was killed"), "{summary}");
    assert_eq!(reason(&summary, "b.svo2"), "somebody else made its output meanwhile");
    assert_eq!(set.files(), files);
    assert_eq!(set.summary(&format!(". {COPY}"), 0)["converted"], 1, "what was left is taken over");
}

#[test]
fn a_full_disk_costs_what_does_not_fit_and_leaves_nothing_half_written() {
    let set = Set::new("svo-to-mp4", &[("a.svo2", &TINY), ("b.svo2", &LONG), ("c.svo2", &TINY)]);
    let full = |summary: &Value, why: &str| {
        let expected = [("./a.svo2", "converted"), ("./b.svo2", "failed"), ("./c.svo2", "converted")];
        assert_eq!(statuses(summary), expected, "{summary}");
        assert!(reason(summary, "b.svo2").contains(why), "{summary}");
    };
    // No file grows beyond 64 KiB.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_cvmmap-streamer"),
    ]);
    full(&json(&run(set.dress(&mut shell, &format!(". --json {COPY}"))), 1), "File too large");
    assert_eq!(set.names(), ["a.mp4", "a.svo2", "b.svo2", "c.mp4", "c.svo2"]);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A disk with room for the recordings and for a part of the long one's output.
    let (small, disk) = (Set::new("svo-to-mp4", &[]), tempfile::tempdir().unwrap());
    let kilobytes = (LONG.len() + 8 * TINY.len()) / 1024 + 1024;
    let mounted = Mounted::new(disk.path(), kilobytes);
    // A container may forbid it; the limit above is the same to all who write.
    let Some(_mounted) = mounted else { return };
    for name in ["a.svo2", "b.svo2", "c.svo2"] {
        std::fs::copy(set.path(name), disk.path().join(name)).unwrap();
    }
    let mut command = small.command(&format!(". --jobs 1 --json {COPY}"));
    full(&json(&run(command.current_dir(disk.path())), 1), "No space left");
    let mut names: Vec<_> = disk.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.mp4", "a.svo2", "b.svo2", "c.mp4", "c.svo2"]);
}

/// A small disk in memory.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(at: &'a Path, kilobytes: usize) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "none"]).arg(at);
        run(&mut mount).status.success().then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_terminal_sees_bars_and_a_log_lines() {
    let set = Set::new("svo-to-mp4", &[("a.svo2", &TINY), ("b.svo2", &TINY), ("c.svo2", b"broken")]);
    let line = format!("{} batch svo-to-mp4 . --jobs 2 {ENCODED}", env!("CARGO_BIN_EXE_cvmmap-streamer"));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
    script.current_dir(set.root.path()).env("XDG_STATE_HOME", set.logs.path());
    let shown = text(&run(&mut script).stdout);
    assert!(shown.contains("svo-to-mp4 0/3") && shown.contains("%|"), "{shown:?}");
    assert!(shown.contains("a.mp4: 12 frames of 64x64") && shown.contains("converted        2"), "{shown:?}");

    let output = set.run(&format!(". --overwrite --encoder-device software {ENCODED}"));
    let (said, talk) = (text(&output.stdout), text(&output.stderr));
    assert!(!talk.contains(['\r', '\x1b']), "{talk:?}");
    let lines: Vec<&str> = talk.lines().filter(|line| line.starts_with('[')).collect();
    assert!(lines.len() == 3 && lines[2].starts_with("[3/3] "), "{talk:?}");
    assert!(said.starts_with("failed: ./c.svo2: it is no SVO2 recording"), "{said:?}");
    assert!(said.contains("converted        2   24 frames, ") && said.contains("logs        /"), "{said:?}");
    let folder = said.lines().last().unwrap().trim_start_matches("logs").trim();
    assert!(Path::new(folder).starts_with(set.logs.path()), "{folder}");
    assert_eq!(Path::new(folder).read_dir().unwrap().count(), 3);
}

#[test]
fn logs_are_where_they_are_wanted_and_tell_of_each_run() {
    let set = Set::new("svo-to-mp4", &[("a.svo2", &TINY)]);
    for _ in 0..2 {
        set.summary(&format!(". --overwrite --log-dir logs/mine {COPY}"), 0);
    }
    let log = std::fs::read_to_string(set.path("logs/mine/0001-a.mp4.log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("12 frames of 128x64")).count(), 2, "{log}");
}

#[test]
fn the_example_converts_what_is_left_and_tells_what_is_whole() {
    let set = Set::new("svo-to-mp4", &[("x/a.svo2", &TINY), ("b.svo2", &TINY), ("b.mp4", b"torn")]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/batch.sh");
    let built = Path::new(env!("CARGO_BIN_EXE_cvmmap-streamer")).parent().unwrap();
    let search = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let example = |arguments: &[&str]| {
        let mut example = Command::new(&script);
        run(example
            .args(arguments)
            .current_dir(set.root.path())
            .env("PATH", &search)
            .env("XDG_STATE_HOME", set.logs.path()))
    };
    let output = example(&[".", "--copy"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("converted        2") && said.contains("valid            2"), "{said}");
    set.write("x/a.svo2", b"broken");
    set.write("x/a.mp4", b"");
    let output = example(&[".", "--copy"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let output = example(&[]);
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(2), "usage: batch.sh FOLDER [FLAG...]\n")
    );
}
