// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer run` as users run it: what it refuses, what it prints, what leaves it, and how it ends.

mod common;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use common::encoders::register;
use common::flv::{Listener, free_port};
use common::*;
use cvmmap_streamer::run::report::Reporter;
use cvmmap_streamer::run::session::Session;
use serde_json::Value;

fn streamer_run(line: &str) -> Output {
    run(streamer().arg("run").args(line.split_whitespace()))
}

/// The JSON lines of one type.
fn lines(output: &Output, kind: &str) -> Vec<Value> {
    let lines = text(&output.stdout);
    let values = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    values.filter(|value| value["type"] == kind).collect()
}

#[test]
fn what_must_be_refused_names_the_flag_and_the_rule() {
    let rtp = "--uri cam0 --codec h264 --rtp --rtp-endpoint 127.0.0.1:5000";
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display();
    for (line, code, parts) in [
        ("--codec h264".into(), 2, vec!["--rtp with --rtp-endpoint, --rtmp with --rtmp-url"]),
        ("--uri cam0 --rtp --rtp-endpoint 127.0.0.1:5000".into(), 2, vec!["--codec"]),
        (
            "--codec h264 --rtp --rtp-endpoint 127.0.0.1:5000".into(),
            2,
            vec!["--uri, or --shm-name and --zmq-endpoint"],
        ),
        (format!("{rtp} --frobnicate"), 2, vec!["--frobnicate"]),
        ("--uri cam0 --codec h264 --rtp".into(), 2, vec!["--rtp-endpoint"]),
        ("--uri cam0 --codec h264 --rtmp".into(), 2, vec!["--rtmp-url"]),
        (
            "--uri cam0 --codec h265 --rtmp --rtmp-url rtmp://127.0.0.1/live/cam0".into(),
            2,
            vec!["--rtmp-mode is missing", "enhanced or domestic"],
        ),
        (
            "--uri cam0 --codec h264 --rtmp --rtmp-mode domestic --rtmp-url rtmp://127.0.0.1/live/cam0"
                .into(),
            2,
            vec!["--rtmp-mode domestic", "codec id 7"],
        ),
        (format!("{rtp} --rtp-payload-type 95"), 2, vec!["--rtp-payload-type", "95 is not in 96..=127"]),
        (format!("{rtp} --rtp-payload-type 128"), 2, vec!["--rtp-payload-type", "128 is not in 96..=127"]),
        (
            format!("{rtp} --dummy-label {}", "x".repeat(25)),
            2,
            vec!["--dummy-label", "1 to 24 bytes, this is of 25"],
        ),
        (format!("{rtp} --queue-size 0"), 2, vec!["--queue-size", "0 is not in 1..=1024"]),
        (format!("{rtp} --gop 0"), 2, vec!["--gop", "0 is not in 1"]),
        (format!("{rtp} --shm-name a --zmq-endpoint ipc:///tmp/a"), 2, vec!["--uri", "cannot be used with"]),
        ("--shm-name a --codec h264 --rtp --rtp-endpoint 127.0.0.1:5000".into(), 2, vec!["--zmq-endpoint"]),
        (format!("{rtp} --encoder a!b"), 2, vec!["--encoder 'a!b'"]),
        (
            format!("{rtp} --rtp-sdp /no/such/folder/cam0.sdp"),
            1,
            vec!["--rtp-sdp '/no/such/folder/cam0.sdp'"],
        ),
        (format!("{rtp} --rtp-sdp {dir}"), 1, vec!["--rtp-sdp", "it is a folder"]),
        // Both would have become files.
        (format!("{rtp} --rtp-sdp /dev/stdout"), 1, vec!["--rtp-sdp '/dev/stdout'", "no regular file"]),
        (format!("{rtp} --rtp-sdp /dev/null"), 1, vec!["--rtp-sdp '/dev/null'", "no regular file"]),
        (
            "--uri cam0 --codec h264 --rtp --rtp-endpoint 239.1.2.3:5000".into(),
            2,
            vec!["--rtp-endpoint '239.1.2.3:5000'", "is a multicast address", "unicast"],
        ),
        (
            "--uri cam0 --codec h264 --rtp --rtp-endpoint [ff02::1]:5000".into(),
            2,
            vec!["--rtp-endpoint", "ff02::1 is a multicast address", "unicast"],
        ),
        (
            "--uri cam0 --codec h264 --rtp --rtp-endpoint [fe80::1%nosuchif]:5000".into(),
            1,
            vec!["--rtp-endpoint", "the host 'fe80::1%nosuchif' cannot be resolved"],
        ),
        (
            "--uri cam0 --codec h264 --rtp --rtp-endpoint no-such-host.invalid:5000".into(),
            1,
            vec!["--rtp-endpoint", "the host 'no-such-host.invalid' cannot be resolved"],
        ),
        (
            "--uri cam0 --codec h264 --rtmp --rtmp-url rtmp://no-such-host.invalid/live/cam0".into(),
            1,
            vec!["--rtmp-url", "the host 'no-such-host.invalid' cannot be resolved"],
        ),
        (
            "--uri cam0 --codec h264 --rtmp --rtmp-url rtmp://127.0.0.1".into(),
            2,
            vec!["--rtmp-url 'rtmp://127.0.0.1'", "it names no application"],
        ),
        (
            "--uri bad/name --codec h264 --rtp --rtp-endpoint 127.0.0.1:5000".into(),
            2,
            vec!["--uri", "bad/name"],
        ),
        (
            format!("{rtp} --encoder nosuchenc"),
            5,
            vec!["no h264 encoder works: nosuchenc: it is not installed"],
        ),
        (
            "--uri cvmmap://a@/no/such/folder --codec h264 --rtp --rtp-endpoint 127.0.0.1:5000".into(),
            1,
            vec!["cvmmapsrc", "the folder '/no/such/folder'"],
        ),
    ] {
        let output = streamer_run(&line);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {shown}");
        assert_eq!(shown.matches("error: ").count(), 1, "{line}: {shown}");
        for part in parts {
            assert!(shown.contains(part), "{line}: '{part}' is not in\n{shown}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn passwords_and_keys_are_not_told() {
    let port = free_port();
    for (url, flags, code) in [
        ("rtmp://user:hunter2@127.0.0.1/live?token=s3cret".to_owned(), "", 2),
        ("rtmp://user:hunter2@127.0.0.1:port/live/cam0?token=s3cret".into(), "", 2),
        ("http://user:hunter2@127.0.0.1/live/cam0?token=s3cret".into(), "", 2),
        ("rtmp://user:hunter2@no-such-host.invalid/live/cam0?token=s3cret".into(), "", 1),
        (format!("rtmp://user:hunter2@127.0.0.1:{port}/live/cam0?token=s3cret"), "--rtmp-retry 0", 1),
        (
            format!("rtmp://user:hunter2@127.0.0.1:{port}/live/cam0?token=s3cret"),
            "--nats-url http://user:hunter2@h",
            2,
        ),
    ] {
        let output = streamer_run(&format!(
            "--input-mode dummy --dummy-width 64 --dummy-height 64 --codec h264 --json --rtmp --rtmp-url {url} {flags}"
        ));
        assert_eq!(output.status.code(), Some(code), "{url}: {}", text(&output.stderr));
        for told in [text(&output.stderr), text(&output.stdout)] {
            assert!(!told.contains("hunter2") && !told.contains("s3cret"), "{url}: {told}");
        }
    }
    // What is printed to be run has to have them.
    let output = streamer_run(&format!(
        "--uri cam0 --codec h264 --encoder software --print-plan --rtmp \
         --rtmp-url rtmp://user:hunter2@127.0.0.1:{port}/live/cam0"
    ));
    assert!(text(&output.stdout).contains("user:hunter2@"), "{}", text(&output.stdout));
}

#[test]
fn the_encoder_is_told_the_simulators_rate() {
    for (flags, rate) in [
        ("--input-mode dummy --dummy-fps 59.94", 60),
        ("--input-mode dummy --dummy-fps 0.1", 1),
        ("--input-mode dummy --dummy-fps 5000", 1000),
        ("--input-mode dummy --dummy-fps 60 --fps 25", 25),
        ("--uri cam0 --dummy-fps 60", 30),
    ] {
        let output = streamer_run(&format!(
            "{flags} --codec h264 --encoder software --rtp --rtp-endpoint 127.0.0.1:9 --print-plan"
        ));
        let line = text(&output.stdout);
        assert!(line.contains(&format!("framerate={rate}/1 ")), "{flags}: {line}");
    }
}

/// What arrives on a socket until `over` is set and no more comes.
fn packets_until(socket: UdpSocket, over: &AtomicBool) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut packets = Vec::new();
    let mut packet = [0; 2000];
    loop {
        let ended = over.load(Ordering::SeqCst) || Instant::now() > end;
        match socket.recv(&mut packet) {
            Ok(size) => packets.push(packet[..size].to_vec()),
            Err(_) if ended => return packets,
            Err(_) => (),
        }
    }
}

#[test]
fn a_dummy_runs_to_its_last_frame_and_tells_what_happened() {
    let _alone = alone();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let receiver = std::thread::spawn(move || packets_until(socket, &ended));
    let output = streamer_run(&format!(
        "--input-mode dummy --run-mode pipeline --nats-url= --codec h264 --dummy-frames 40 --dummy-width 320 \
         --dummy-height 240 --dummy-label exactly-24-bytes-of-text --rtp --rtp-endpoint 127.0.0.1:{port} --json"
    ));
    over.store(true, Ordering::SeqCst);
    let packets = receiver.join().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let [summary] = &lines(&output, "summary")[..] else { panic!("{}", text(&output.stdout)) };
    assert_eq!(summary["exit"], 0);
    // What it counted, against what arrived: a picture's last packet has the marker bit.
    let count = |value: &Value| value.as_u64().unwrap();
    let pictures = packets.iter().filter(|packet| packet[1] & 0x80 != 0).count() as u64;
    assert_eq!(count(&summary["frames_out"]), pictures, "{summary}");
    assert_eq!(count(&summary["frames_in"]), pictures + count(&summary["dropped"]["queue"]), "{summary}");
    assert_eq!(count(&summary["rtp"]["packets"]), packets.len() as u64, "{summary}");
    // How many of the 40 it gets is the machine's business.
    assert!((1..=40).contains(&count(&summary["frames_in"])), "{summary}");
    assert_eq!(summary["dropped"]["torn"], 0);
    assert_eq!(summary["latency_ms"]["to"], "rtp");
    let events = lines(&output, "event");
    let states: Vec<&str> = events.iter().filter_map(|event| event["state"].as_str()).collect();
    assert_eq!(states[..2], ["waiting", "streaming"]);
    let fallbacks = events.iter().filter(|event| event["event"] == "encoder-fallback").count();
    let hardware = gst::init().is_ok() && gst::ElementFactory::find("nvh264enc").is_some();
    assert!(hardware || fallbacks == 1, "a missing encoder is told once: {events:?}");
    assert!(!lines(&output, "status").is_empty());
}

#[test]
fn idle_and_max_frames_end_it() {
    let _alone = alone();
    let of = |target: &str, idle_ms: u32| {
        format!(
            "--uri {target} --codec h264 --rtp --rtp-endpoint 127.0.0.1:9 --ingest-idle-timeout-ms {idle_ms}"
        )
    };
    let output = streamer_run(&of(&unique("nobody"), 300));
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("error: no frame came"), "{}", text(&output.stderr));

    let target = unique("max");
    let producer = sim(&target, "--fps 60 --size 160x120");
    let output = streamer_run(&format!("{} --ingest-max-frames 20 --json", of(&target, 60_000)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(lines(&output, "summary")[0]["frames_in"], 20);
    drop(producer);

    let target = unique("idle");
    let producer = sim(&target, "--fps 60 --size 160x120");
    let mut command = streamer();
    command.arg("run").args(of(&target, 5000).split_whitespace()).arg("--json").stdout(Stdio::piped());
    let mut process = Process::spawn(command.stderr(Stdio::null()));
    let mut told = BufReader::new(process.0.stdout.take().unwrap()).lines();
    // A status line follows frames, whatever the machine's pace.
    let is_status = |line: &Value| line["type"] == "status" && line["frames_in"].as_u64().unwrap() > 0;
    let parsed = |line: std::io::Result<String>| serde_json::from_str::<Value>(&line.unwrap()).unwrap();
    told.by_ref().map(parsed).find(is_status).expect("frames, or it ended");
    drop(producer);
    wait_for("it to be idle", || process.0.try_wait().unwrap().is_some());
    assert_eq!(process.0.wait().unwrap().code(), Some(0), "frames came before it was idle");
    let summary = told.map(parsed).last().unwrap();
    assert_eq!((&summary["type"], &summary["exit"]), (&"summary".into(), &0.into()), "{summary}");
}

#[test]
fn the_printed_plan_runs_in_gst_launch() {
    let _alone = alone();
    let target = unique("plan");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut server = Listener::start();
    let output = streamer_run(&format!(
        "--uri cvmmap://{target} --codec h265 --encoder software --rtp --rtp-endpoint 127.0.0.1:{port} --rtmp \
         --rtmp-mode enhanced --rtmp-url {}?token=a&b=it's --ingest-max-frames 60 --print-plan",
        server.url()
    ));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let line = text(&output.stdout);
    assert!(line.starts_with("gst-launch-1.0 cvmmapsrc uri=cvmmap://"), "{line}");
    for part in
        ["tune=zerolatency", "queue leaky=downstream max-size-buffers=1", "rtph265pay", "config-interval=-1"]
    {
        assert!(line.contains(part), "'{part}' is not in {line}");
    }
    let _sim = sim(&target, "--fps 30 --size 160x120");
    let mut shell = gst_tool("sh");
    let output = run(shell.arg("-c").arg(&line));
    assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
    let mut packet = [0; 2000];
    let received = socket.recv(&mut packet).unwrap();
    assert!(received > 12 && packet[1] & 0x7F == 96, "an RTP packet of payload type 96");
    assert!(server.file().metadata().unwrap().len() > 1000);
}

/// The session description alone is what FFmpeg gets, and it shows pictures.
#[test]
fn the_session_description_is_enough_for_ffmpeg() {
    let _alone = alone();
    for codec in ["h264", "h265"] {
        let folder = tempfile::tempdir().unwrap();
        let sdp = folder.path().join("cam0.sdp");
        let port = free_port();
        let mut command = streamer();
        command.args(["run", "--input-mode", "dummy", "--codec", codec, "--encoder", "software"]);
        command.args(["--dummy-width", "320", "--dummy-height", "240", "--rtp"]);
        command.args(["--rtp-endpoint", &format!("127.0.0.1:{port}"), "--rtp-payload-type", "101"]);
        command.arg("--rtp-sdp").arg(&sdp).stderr(Stdio::null());
        let _streamer = Process::spawn(&mut command);
        wait_for("the session description", || sdp.exists());
        let shown = std::fs::read_to_string(&sdp).unwrap();
        assert!(shown.contains(&format!("m=video {port} RTP/AVP 101\r\n")), "{shown}");
        let mut ffmpeg = readers::ffmpeg_program();
        ffmpeg.args(["-loglevel", "error", "-protocol_whitelist", "file,udp,rtp"]).arg("-i").arg(&sdp);
        ffmpeg.args(["-frames:v", "20", "-f", "framemd5", "-"]);
        let output = run(&mut ffmpeg);
        let hashes = text(&output.stdout);
        let pictures: std::collections::HashSet<_> = hashes
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit(',').next())
            .collect();
        assert!(
            output.status.success() && pictures.len() >= 20,
            "{codec}: {hashes}\n{}",
            text(&output.stderr)
        );
        assert!(hashes.contains("320x240"), "{hashes}");
    }
}

#[test]
fn a_signal_ends_it_well() {
    let _alone = alone();
    let mut command = streamer();
    command.args([
        "run",
        "--input-mode",
        "dummy",
        "--codec",
        "h264",
        "--rtp",
        "--rtp-endpoint",
        "127.0.0.1:9",
    ]);
    // Nobody listens there, so that it waits between attempts when the signal comes.
    command.args(["--rtmp", "--rtmp-url", &format!("rtmp://127.0.0.1:{}/live/cam0", free_port()), "--json"]);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let process = Process(child);
        let name = format!("cvmmap_dummy-{}", process.0.id());
        let mut line = String::new();
        while !line.contains("\"waiting\",\"reason\":\"Connection refused") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0, "it ended");
        }
        process.signal(signal);
        let mut process = process;
        wait_for("it to end", || process.0.try_wait().unwrap().is_some());
        assert_eq!(process.0.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
        assert!(rest.lines().last().unwrap().contains("\"summary\""), "{rest}");
        for folder in ["/dev/shm", "/tmp"] {
            let mut left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(!left.any(|file| file.to_string_lossy().contains(&name)), "{name} is left in {folder}");
        }
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: cvmmap_streamer::run::Args,
}

/// The encoder is replaced while both branches run: one RTP source, one RTMP connection, nothing out of order.
#[test]
fn an_encoder_that_fails_in_a_running_session_is_replaced_without_losing_it() {
    let _alone = alone();
    init();
    register();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut server = Listener::start();
    let line = format!(
        "run --input-mode dummy --codec h264 --encoder failingenc,swallowingenc,x264enc --dummy-frames 300 \
         --dummy-width 160 --dummy-height 120 --rtp --rtp-endpoint 127.0.0.1:{port} --rtmp --rtmp-url {}",
        server.url()
    );
    let plan = Cli::try_parse_from(line.split_whitespace()).unwrap().args.resolve().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let receiver = std::thread::spawn(move || {
        let mut packet = [0; 2000];
        let mut headers = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "{} packets came, and not the last", headers.len());
            let last = ended.load(Ordering::SeqCst);
            match socket.recv(&mut packet) {
                Ok(size) if size > 12 => headers.push((
                    u16::from_be_bytes([packet[2], packet[3]]),
                    u32::from_be_bytes(packet[4..8].try_into().unwrap()),
                    u32::from_be_bytes(packet[8..12].try_into().unwrap()),
                )),
                Ok(_) => panic!("a packet without a header"),
                Err(_) if last => return headers,
                // Frames are swallowed for two seconds in the middle.
                Err(_) => (),
            }
        }
    });
    let session = Session::start(&plan).unwrap();
    session.run(&AtomicBool::new(false), &mut Reporter::silent()).unwrap();
    over.store(true, Ordering::SeqCst);
    let headers = receiver.join().unwrap();
    assert!(!headers.is_empty());
    for pair in headers.windows(2) {
        assert_eq!(pair[0].2, pair[1].2, "the SSRC stays");
        assert_eq!(pair[0].0.wrapping_add(1), pair[1].0, "sequence numbers go on");
        assert!(pair[1].1.wrapping_sub(pair[0].1) < 1 << 31, "time goes on");
    }
    let facts = readers::ffmpeg(server.file(), true);
    assert_eq!(facts.errors, Vec::<String>::new());
    // Of 300 frames the second encoder swallowed 60.
    assert!(
        facts.pictures().len() > 60 && facts.shown().len() == facts.pictures().len(),
        "{:?}",
        facts.pictures()
    );
    assert!(facts.pictures().windows(2).all(|pair| pair[0].dts < pair[1].dts));
    assert!(facts.pictures()[0].key);
}
