// SPDX-License-Identifier: MPL-2.0

//! The stock tools with our plugin in GST_PLUGIN_PATH, as users run them.

mod common;

use std::io::Read;
use std::process::Stdio;

use common::*;

fn launch(line: &str) -> std::process::Output {
    run(gst_tool("gst-launch-1.0").args(line.split_whitespace()))
}

#[test]
fn inspect_shows_the_elements_with_their_defaults() {
    let _alone = alone();
    let output = run(gst_tool("gst-inspect-1.0").arg("cvmmapsrc"));
    let shown = text(&output.stdout);
    for line in [
        "Klass                    Source/Video",
        "Supported URI protocols:\n    cvmmap",
        "String. Default: \"cvmmap://default\"",
        "Enum \"GstCvMmapPlane\" Default: 0, \"left\"",
        "Enum \"GstCvMmapCoherence\" Default: 1, \"verify\"",
        "Enum \"GstCvMmapTimestampMode\" Default: 0, \"arrival\"",
        "(3): encoded",
        "(2): next-sync",
    ] {
        assert!(shown.contains(line), "'{line}' is not in\n{shown}");
    }
    let shown = text(&run(gst_tool("gst-inspect-1.0").arg("cvmmapsink")).stdout);
    for line in
        ["Klass                    Sink/Video", "Enum \"GstCvMmapMetadataVersion\" Default: 0, \"v1\""]
    {
        assert!(shown.contains(line), "'{line}' is not in\n{shown}");
    }
}

#[test]
fn bad_input_ends_gst_launch_with_one_clear_error() {
    let _alone = alone();
    let missing = unique("bad");
    for (line, part) in [
        (
            "cvmmapsrc uri=cvmmap://a@tmp ! fakesink".to_owned(),
            "property 'uri' = 'cvmmap://a@tmp': prefix 'tmp' is not an absolute path",
        ),
        ("cvmmapsrc uri=bad/name ! fakesink".into(), "plain cvmmap instance names"),
        (
            "cvmmapsrc uri=cvmmap://a@/no/such/folder ! fakesink".into(),
            "the folder '/no/such/folder' of sync endpoint",
        ),
        ("cvmmapsrc shm-name=a/b ! fakesink".into(), "property 'shm-name' = 'a/b'"),
        (
            "cvmmapsrc zmq-endpoint=nonsense ! fakesink".into(),
            "property 'zmq-endpoint' = 'nonsense': sync endpoint 'nonsense' cannot be connected",
        ),
        ("videotestsrc ! cvmmapsink uri=cvmmap://a@tmp".into(), "prefix 'tmp' is not an absolute path"),
        (
            "videotestsrc ! cvmmapsink uri=cvmmap://a@/no/such/folder".into(),
            "the folder '/no/such/folder' of sync endpoint",
        ),
        (format!("cvmmapsrc uri=cvmmap://{missing} plane=sideways ! fakesink"), "sideways"),
    ] {
        let output = launch(&line);
        let shown = text(&output.stderr) + &text(&output.stdout);
        assert!(!output.status.success(), "{line}");
        assert!(shown.contains(part), "{line}: '{part}' is not in\n{shown}");
        let errors = shown.lines().filter(|line| line.starts_with("ERROR: from")).count();
        // A line that does not parse has no element to complain.
        let expected = if line.contains("sideways") { 0 } else { 1 };
        assert_eq!(errors, expected, "{line}:\n{shown}");
    }
}

#[test]
fn a_taken_name_is_refused_by_the_sink() {
    let _alone = alone();
    let target = unique("taken");
    let _sim = sim(&target, "--fps 10");
    let output = launch(&format!("videotestsrc num-buffers=5 ! cvmmapsink uri=cvmmap://{target}"));
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("is published by another producer"), "{}", text(&output.stderr));
}

#[test]
fn idle_timeout_ends_gst_launch_without_an_error_and_tells_the_statistics() {
    let _alone = alone();
    let target = unique("idle");
    let _sim = sim(&target, "--fps 30 --frames 240"); // longer than the tool takes to start
    let output = launch(&format!("-m cvmmapsrc uri=cvmmap://{target} idle-timeout=1000 ! fakesink"));
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("cvmmapsrc-state, state=(string)streaming"), "{shown}");
    assert!(shown.contains("cvmmapsrc-stats, frames=(guint64)"), "{shown}");
}

#[test]
fn gst_play_plays_a_cvmmap_uri() {
    let _alone = alone();
    let target = unique("play");
    let _sim = sim(&target, "--fps 30");
    let mut player = Process::spawn(
        gst_tool("gst-play-1.0")
            .args(["--no-interactive", "--videosink=fakesink sync=true", &format!("cvmmap://{target}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut output = player.0.stdout.take().unwrap();
    let mut shown = String::new();
    let mut bytes = [0; 256];
    // It plays for ever; a position of a second is seen only if frames arrive. Which ones are told depends on its pace.
    while !(1..60).any(|second| shown.contains(&format!("0:00:{second:02}."))) {
        let n = output.read(&mut bytes).unwrap();
        assert!(n > 0, "gst-play ended: {shown}");
        shown += &text(&bytes[..n]);
    }
}
