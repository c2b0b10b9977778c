// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer smoke` against nginx-rtmp: every row goes there and comes back, and what does not is told.

mod common;

use common::flv::{Nginx, free_port};
use common::*;

fn smoke(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(streamer().arg("smoke").args(args));
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_row_comes_back_from_nginx() {
    let _alone = alone();
    let nginx = Nginx::start();
    let (code, out, err) = smoke(&[&nginx.url("live"), "--frames", "30", "--timeout-ms", "35000"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    for (line, start) in lines.iter().zip([
        "rtp-h264: skip: ",
        "rtp-h265: skip: ",
        "rtmp-h264: pass (exit 0): 3",
        "rtmp-h265-enhanced: pass (exit 0): 3",
        "rtmp-h265-domestic: pass (exit 0): 3",
    ]) {
        assert!(line.starts_with(start), "'{start}' does not begin '{line}'");
    }
}

/// With its defaults nginx-rtmp takes no enhanced tag for a key frame, and gives its players nothing.
#[test]
fn a_server_that_passes_nothing_on_fails_that_row_alone() {
    let _alone = alone();
    let nginx = Nginx::start();
    let rows = "rtmp-h265-enhanced,rtmp-h265-domestic";
    let url = nginx.url("keyed");
    let (code, out, err) = smoke(&[&url, "--frames", "30", "--rows", rows, "--timeout-ms", "8000"]);
    assert_eq!(code, Some(124), "{out}{err}");
    assert!(
        out.contains("rtmp-h265-enhanced: fail (exit 124): it was published, but nothing came back"),
        "{out}"
    );
    assert!(out.contains("rtmp-h265-domestic: pass (exit 0)"), "{out}");
    assert_eq!(err.matches("error: ").count(), 1, "{err}");
}

/// It takes connections, and says nothing.
#[test]
fn a_handshake_that_hangs_is_not_told_as_published() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/cam0", server.local_addr().unwrap());
    let (code, out, err) = smoke(&[&url, "--rows", "rtmp-h264", "--timeout-ms", "2000"]);
    assert_eq!(code, Some(124), "{out}{err}");
    assert!(out.contains("rtmp-h264: fail (exit 124): publishing never began"), "{out}");
}

#[test]
fn what_cannot_work_is_told() {
    let nobody = format!("rtmp://127.0.0.1:{}/live/cam0", free_port());
    for (args, code, part) in [
        (
            vec![nobody.as_str(), "--rows", "rtmp-h264"],
            1,
            "rtmp-h264: publishing: RTMP: gave up: Connection refused",
        ),
        (
            vec!["rtmp://127.0.0.1/live"],
            2,
            "URL 'rtmp://127.0.0.1/live': it names an application, but no stream",
        ),
        (vec!["http://127.0.0.1/live/cam0"], 2, "the scheme is 'http'"),
        (
            vec!["rtmp://no-such-host.invalid/live/cam0"],
            1,
            "the host 'no-such-host.invalid' cannot be resolved",
        ),
        (vec![nobody.as_str(), "--rows", "rtmp-vp9"], 2, "it is none of rtp-h264, rtp-h265, rtmp-h264"),
        (vec![nobody.as_str(), "--frames", "0"], 2, "--frames"),
    ] {
        let (got, _, err) = smoke(&args);
        assert_eq!(got, Some(code), "{args:?}: {err}");
        assert!(err.contains(part), "{args:?}: '{part}' is not in\n{err}");
    }
}

#[test]
fn a_signal_ends_it_and_leaves_nothing_behind() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/live/cam0", listener.local_addr().unwrap());
    let mut command = streamer();
    let child =
        command.args(["smoke", &url, "--rows", "rtmp-h264"]).stdout(std::process::Stdio::null()).spawn();
    let mut process = Process(child.unwrap());
    let segment = format!("/dev/shm/cvmmap_smoke-{}", process.0.id());
    wait_for("the simulator", || std::path::Path::new(&segment).exists());
    process.signal(libc::SIGINT);
    wait_for("it to end", || process.0.try_wait().unwrap().is_some());
    assert_eq!(process.0.wait().unwrap().code(), Some(130));
    assert!(!std::path::Path::new(&segment).exists(), "{segment} is left");
}
