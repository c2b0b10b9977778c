// SPDX-License-Identifier: MPL-2.0

//! The suites as their users meet them: exit codes, lines, and evidence that is what docs/evidence.md says.

mod common;

use common::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The only folder of a run below `out`, and its summary.
fn evidence(out: &Path) -> (PathBuf, Value) {
    let runs: Vec<_> = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let text = std::fs::read_to_string(runs[0].join("summary.json")).unwrap();
    (runs[0].clone(), serde_json::from_str(&text).unwrap())
}

fn suite(command: &str, args: &[&str], out: &Path) -> std::process::Output {
    run(streamer().arg(command).args(args).arg("--out").arg(out))
}

/// The third time at the latest: rows have bounds that a loaded machine may miss.
fn passed(command: &str, args: &[&str]) -> (tempfile::TempDir, std::process::Output) {
    let run = || {
        let out = tempfile::tempdir().unwrap();
        let output = suite(command, args, out.path());
        (out, output)
    };
    let mut tried = run();
    for _ in 0..2 {
        if tried.1.status.success() {
            break;
        }
        println!("{}", text(&tried.1.stdout));
        tried = run();
    }
    tried
}

fn last_line(output: &std::process::Output) -> String {
    text(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Names of an object's fields, which the documentation must have.
fn documented(value: &Value, fields: &[&str]) {
    let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, fields);
    let page = include_str!("../docs/evidence.md");
    for name in fields {
        assert!(page.contains(&format!("`{name}`")), "docs/evidence.md does not know {name}");
    }
}

#[test]
fn a_row_that_passes_leaves_evidence_as_documented() {
    let _alone = alone();
    let (out, output) = passed("acceptance", &["--rows", "rtp-h264", "--json"]);
    let shown = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_eq!(last_line(&output), "total=1 pass=1 fail=0 skip=0");
    assert!(shown.contains("pass rtp-h264"), "{shown}");

    let (folder, summary) = evidence(out.path());
    documented(
        &summary,
        &[
            "schema", "command", "version", "started", "seconds", "machine", "rows", "total", "pass", "fail",
            "skip",
        ],
    );
    documented(&summary["machine"], &["cores", "kernel", "architecture", "gstreamer", "load"]);
    assert_eq!((&summary["schema"], &summary["command"]), (&1.into(), &"acceptance".into()));
    let row = &summary["rows"][0];
    let fields = ["name", "result", "reason", "seconds", "rules", "checks", "numbers", "commands", "logs"];
    documented(row, &fields);
    documented(&row["checks"][0], &["what", "measured", "relation", "bound", "unit", "ok"]);
    documented(&row["numbers"][0], &["what", "value", "unit"]);
    assert!(row["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{row}");
    let commands: Vec<_> =
        row["commands"].as_array().unwrap().iter().map(|command| command[1].clone()).collect();
    assert_eq!(commands, ["rtp-receive", "run", "sim"]);
    for log in ["run.out.log", "run.err.log", "rtp-receive.frames.jsonl", "sim-1.frames.jsonl"] {
        let listed = row["logs"].as_array().unwrap().contains(&format!("rtp-h264/{log}").into());
        assert!(listed && folder.join("rtp-h264").join(log).is_file(), "{log} in {row}");
    }
    let printed: Value = text(&output.stdout)
        .lines()
        .find_map(|line| serde_json::from_str(line).ok())
        .expect("--json prints the summary");
    assert_eq!(printed, summary);
}

#[test]
fn a_row_that_fails_says_why_and_fails_the_suite() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let args = ["--rows", "rtmp-h264", "--encoder", "nosuchenc"];
    let output = suite("acceptance", &args, out.path());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert_eq!(last_line(&output), "total=1 pass=0 fail=1 skip=0");
    let (_, summary) = evidence(out.path());
    let row = &summary["rows"][0];
    assert_eq!(row["result"], "fail");
    let reason = row["reason"].as_str().unwrap();
    assert!(reason.contains("run ended early with 5") && reason.contains("nosuchenc"), "{reason}");
}

#[test]
fn a_fault_is_injected_and_measured() {
    let _alone = alone();
    let (out, output) = passed("faults", &["--rows", "size-change"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let (_, summary) = evidence(out.path());
    let checks = summary["rows"][0]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["what"] == "RTMP sequence headers that differ").unwrap();
    assert_eq!((&check["measured"], &check["bound"]), (&2.0.into(), &2.0.into()));
}

#[test]
fn an_interrupted_suite_takes_its_processes_with_it() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let mut command = streamer();
    command.args(["faults", "--rows", "sink-stall,garbage", "--out"]).arg(out.path());
    let stdout = std::fs::File::create(out.path().with_extension("out")).unwrap();
    let mut suite = Process::spawn(command.stdout(stdout));
    let started = || {
        let run = std::fs::read_dir(out.path()).unwrap().next();
        run.is_some_and(|run| run.unwrap().path().join("sink-stall/sim-1.frames.jsonl").is_file())
    };
    wait_for("the row's producer", started);
    let pid = suite.0.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 4, "two receivers, streamer, producer: {children}");
    suite.signal(libc::SIGINT);
    wait_for("the suite's end", || suite.0.try_wait().unwrap().is_some());
    assert_eq!(suite.0.wait().unwrap().code(), Some(130));
    for child in children.split_whitespace() {
        assert!(!Path::new(&format!("/proc/{child}")).exists(), "process {child} was left behind");
    }
    let (_, summary) = evidence(out.path());
    assert_eq!((&summary["total"], &summary["skip"]), (&2.into(), &2.into()));
    assert_eq!(summary["rows"][1]["reason"], "interrupted");
    std::fs::remove_file(out.path().with_extension("out")).unwrap();
}

#[test]
fn a_killed_suite_takes_its_processes_with_it_even_a_stopped_one() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let mut command = streamer();
    command.args(["faults", "--rows", "streamer-stop", "--out"]).arg(out.path());
    let mut suite = Process::spawn(command.stdout(std::process::Stdio::null()));
    let pid = suite.0.id();
    let children = || -> Vec<u32> {
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    };
    // The state behind the name, of /proc/PID/stat.
    let state = |child: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    wait_for("the streamer to be stopped", || children().iter().any(|child| state(child) == Some('T')));
    let children = children();
    assert_eq!(children.len(), 4, "two receivers, streamer, producer: {children:?}");
    suite.signal(libc::SIGKILL);
    suite.0.wait().unwrap();
    // Whoever adopts them may take its time to collect them.
    wait_for("the end of all children", || {
        children.iter().all(|child| matches!(state(child), None | Some('Z' | 'X')))
    });
}

#[test]
fn a_killed_suite_takes_other_peoples_programs_with_it_too() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let mut command = streamer();
    command.args(["faults", "--rows", "nats-restart", "--out"]).arg(out.path());
    let mut suite = Process::spawn(command.stdout(std::process::Stdio::null()));
    let pid = suite.0.id();
    let server = || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).find(|child| {
            std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "nats-server\n")
        })
    };
    wait_for("the NATS server", || server().is_some());
    let server = server().unwrap();
    suite.kill();
    // Whoever adopts it may take its time to collect it.
    wait_for("its end", || {
        let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    });
}

#[test]
fn what_cannot_be_chosen_or_written_is_refused_and_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (command, known) in [("acceptance", "rtp-h264, rtp-h265"), ("faults", "sink-stall")] {
        let output = suite(command, &["--rows", "rtp-h263"], &out);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert!(shown.contains("--rows: 'rtp-h263' is none of") && shown.contains(known), "{shown}");
    }
    assert!(!out.exists());
    std::fs::write(&out, "").unwrap();
    let output = suite("acceptance", &["--rows", "rtp-h264"], &out);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--out"), "{}", text(&output.stderr));
}
