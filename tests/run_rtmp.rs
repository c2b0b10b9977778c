// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer run` and servers that are away, late, silent or no RTMP servers at all.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use common::flv::free_port;
use common::*;
use serde_json::Value;

/// A streamer, and the JSON lines that it has written.
struct Run {
    process: Process,
    lines: Arc<Mutex<Vec<Value>>>,
    readers: Vec<JoinHandle<()>>,
    errors: Arc<Mutex<String>>,
}

impl Run {
    fn start(port: u16, more: &str) -> Self {
        let mut command = streamer();
        command.args(["run", "--input-mode", "dummy", "--codec", "h264", "--encoder", "x264enc", "--json"]);
        command.args(["--rtmp", "--rtmp-url", &format!("rtmp://127.0.0.1:{port}/live/cam0")]);
        command.args(more.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let (lines, errors) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<String>>::default());
        let (out, mut err) = (process.0.stdout.take().unwrap(), process.0.stderr.take().unwrap());
        let (to_lines, to_errors) = (lines.clone(), errors.clone());
        let readers = vec![
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines() {
                    to_lines.lock().unwrap().push(serde_json::from_str(&line.unwrap()).unwrap());
                }
            }),
            std::thread::spawn(move || {
                let mut text = String::new();
                err.read_to_string(&mut text).unwrap();
                *to_errors.lock().unwrap() = text;
            }),
        ];
        Self { process, lines, readers, errors }
    }

    /// RTMP states so far, with their reasons.
    fn states(&self) -> Vec<(String, String)> {
        let lines = self.lines.lock().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = lines.iter().filter(|line| line["event"] == "rtmp");
        events.map(|event| (text(&event["state"]), text(&event["reason"]))).collect()
    }

    fn wait_for_states(&self, state: &str, count: usize) {
        wait_for(state, || self.states().iter().filter(|(name, _)| name == state).count() >= count);
    }

    /// Waits until it has ended; exit code, all its lines, and what it wrote to stderr.
    fn end(mut self) -> (Option<i32>, Vec<Value>, String) {
        wait_for("the streamer to end", || self.process.0.try_wait().unwrap().is_some());
        let code = self.process.0.wait().unwrap().code();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (code, self.lines.lock().unwrap().clone(), self.errors.lock().unwrap().clone())
    }

    /// Ends it as a person would; it tells how it was.
    fn interrupt(self) -> Value {
        self.process.signal(libc::SIGINT);
        let (code, lines, errors) = self.end();
        assert_eq!(code, Some(0), "{errors}");
        let summary = lines.last().unwrap().clone();
        assert_eq!(
            (summary["type"].as_str(), summary["exit"].as_i64()),
            (Some("summary"), Some(0)),
            "{summary}"
        );
        summary
    }
}

/// `rtmp-receive` on a port.
fn server(port: u16, more: &str) -> Process {
    let mut command = streamer();
    command.args([
        "rtmp-receive",
        "--mode",
        "h264",
        "--timeout-ms",
        "100000",
        "--listen-port",
        &port.to_string(),
    ]);
    command.args(more.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let mut err = BufReader::new(process.0.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening"), "{line}");
    std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
    process
}

/// What a server found, when it has ended.
fn verdict(mut server: Process) -> Value {
    let child: &mut Child = &mut server.0;
    wait_for("the server to end", || child.try_wait().unwrap().is_some());
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(summary["exit"], 0, "{summary}");
    summary
}

/// A server that answers each connection so, and keeps it or not. With how many it has had.
fn odd_server(answer: &'static [u8], keeps: bool) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(answer);
            if keeps {
                kept.push(stream);
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, count)
}

const GARBAGE: &[u8] = &[0x5A; 8192];

/// RTP packets' sequence numbers in the order they came, until it is over and none waits any more.
fn sequence(socket: UdpSocket, over: Arc<AtomicBool>) -> JoinHandle<Vec<u16>> {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    std::thread::spawn(move || {
        let (mut packet, mut numbers) = ([0; 2000], Vec::new());
        loop {
            let last = over.load(Ordering::Relaxed);
            match socket.recv(&mut packet) {
                Ok(size) if size > 12 => numbers.push(u16::from_be_bytes([packet[2], packet[3]])),
                Ok(size) => panic!("{size} bytes are no packet"),
                Err(_) if last => return numbers,
                Err(_) => (),
            }
        }
    })
}

#[test]
fn a_server_that_comes_back_gets_a_key_frame_first_and_rtp_goes_on_meanwhile() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("frames.jsonl");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = socket.local_addr().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let numbers = sequence(socket, over.clone());
    let port = free_port();
    let first = server(port, "--video-threshold 20");
    // Key frames are rare: the one that begins the second session was asked for.
    let run = Run::start(port, &format!("--gop 10000 --rtp --rtp-endpoint {endpoint}"));
    let found = verdict(first);
    assert_eq!(found["first_timestamp"], 0);
    run.wait_for_states("waiting", 2);
    let second = server(port, &format!("--video-threshold 20 --frames-log {}", log.display()));
    let found = verdict(second);
    assert_eq!((&found["first_timestamp"], &found["sessions"]), (&0.into(), &1.into()), "{found}");
    assert_eq!((&found["corrupted_pictures"], &found["missing_pictures"]), (&0.into(), &0.into()), "{found}");
    let logged = std::fs::read_to_string(&log).unwrap();
    let begins: Value = serde_json::from_str(logged.lines().next().unwrap()).unwrap();
    assert_eq!(begins["key"], true, "{begins}");
    let summary = run.interrupt();
    assert_eq!(summary["rtmp"]["connections"], 2, "{summary}");
    // Of the last picture of a connection that is lost nobody knows whether it was sent.
    assert!(summary["rtmp"]["sent"].as_u64().unwrap() >= 38, "{summary}");
    assert!(summary["rtmp"]["dropped"].as_u64().unwrap() > 0, "nobody was there for a while: {summary}");
    over.store(true, Ordering::Relaxed);
    let numbers = numbers.join().unwrap();
    assert!(numbers.windows(2).all(|pair| pair[0].wrapping_add(1) == pair[1]), "RTP has a gap");
    assert_eq!(summary["rtp"]["packets"], numbers.len());
}

#[test]
fn a_server_that_stalls_for_a_moment_keeps_its_connection() {
    let _alone = alone();
    let port = free_port();
    let server = server(port, "--video-threshold 120 --stall-after 20 --stall-ms 1500");
    let run = Run::start(port, "");
    run.wait_for_states("congested", 1);
    run.wait_for_states("publishing", 2);
    let found = verdict(server);
    assert_eq!((&found["sessions"], &found["corrupted_pictures"]), (&1.into(), &0.into()), "{found}");
    let summary = run.interrupt();
    assert_eq!(summary["rtmp"]["connections"], 1, "{summary}");
    assert!(summary["rtmp"]["dropped"].as_u64().unwrap() > 5, "{summary}");
}

#[test]
fn a_server_that_takes_nothing_is_given_up_and_a_signal_still_ends_it_well() {
    let _alone = alone();
    let port = free_port();
    let _server = server(port, "--video-threshold 100000 --stall-after 20 --stall-ms 30000");
    let run = Run::start(port, "");
    run.wait_for_states("waiting", 1);
    let states = run.states();
    let (_, reason) = states.iter().find(|(name, _)| name == "waiting").unwrap();
    assert!(reason.starts_with("the server took nothing for "), "{states:?}");
    // The same server again, whose system accepts while it sleeps.
    run.wait_for_states("connecting", 1);
    let summary = run.interrupt();
    assert_eq!(summary["rtmp"]["connections"], 1, "{summary}");
    let count = |name: &str| summary["rtmp"][name].as_u64().unwrap();
    assert!(
        count("sent") >= 20 && count("sent") + count("dropped") <= summary["frames_out"].as_u64().unwrap()
    );
}

#[test]
fn a_signal_ends_it_well_while_the_server_is_late() {
    let _alone = alone();
    let port = free_port();
    let _server = server(port, "--video-threshold 100000 --stall-after 20 --stall-ms 30000");
    let run = Run::start(port, "");
    run.wait_for_states("congested", 1);
    let summary = run.interrupt();
    assert!(summary["rtmp"]["sent"].as_u64().unwrap() >= 20, "{summary}");
}

#[test]
fn a_signal_ends_it_well_while_the_server_is_silent_or_talks_nonsense() {
    let _alone = alone();
    for (what, answer, keeps, waits) in [
        ("silence", &b""[..], true, 0),
        ("garbage", GARBAGE, true, 0),
        ("garbage and an end", GARBAGE, false, 1),
    ] {
        let (port, connections) = odd_server(answer, keeps);
        let run = Run::start(port, "");
        wait_for("a connection", || connections.load(Ordering::Relaxed) > 0);
        run.wait_for_states("waiting", waits);
        // Pictures come meanwhile, and go nowhere.
        wait_for("a status", || run.lines.lock().unwrap().iter().any(|line| line["type"] == "status"));
        let summary = run.interrupt();
        let rtmp = &summary["rtmp"];
        assert_eq!(
            (&rtmp["sent"], &rtmp["bytes"], &rtmp["connections"]),
            (&0.into(), &0.into(), &0.into()),
            "{what}"
        );
        assert!(rtmp["dropped"].as_u64().unwrap() > 0, "{what}: {summary}");
    }
}

/// Two signals to a streamer whose end takes a while: its server is late. Its exit code.
fn signalled_twice() -> Option<i32> {
    let port = free_port();
    let _server = server(port, "--video-threshold 100000 --stall-after 20 --stall-ms 30000");
    let run = Run::start(port, "");
    run.wait_for_states("congested", 1);
    run.process.signal(libc::SIGINT);
    wait_for("it to begin to end", || run.lines.lock().unwrap().iter().any(|line| line["event"] == "ending"));
    // One that follows at once counts as the same.
    std::thread::sleep(Duration::from_millis(50));
    run.process.signal(libc::SIGINT);
    let (code, lines, errors) = run.end();
    let summary = lines.iter().any(|line| line["type"] == "summary");
    assert!(matches!((code, summary), (Some(130), false) | (Some(0), true)), "{code:?} {errors}");
    code
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let _alone = alone();
    // Its end takes less than a second, so that on a loaded machine the second signal may be too late.
    assert!((0..5).any(|_| signalled_twice() == Some(130)));
}

#[test]
fn after_the_last_attempt_there_is_one_error() {
    let _alone = alone();
    let (port, connections) = odd_server(GARBAGE, false);
    let run = Run::start(port, "--rtmp-retry 2");
    let (code, lines, errors) = run.end();
    assert_eq!(code, Some(1), "{errors}");
    // Counted behind the answer that ends the last one.
    wait_for("three connections", || connections.load(Ordering::Relaxed) >= 3);
    assert_eq!(connections.load(Ordering::Relaxed), 3);
    assert_eq!(errors.matches("error: RTMP: gave up: ").count(), 1, "{errors}");
    assert_eq!(errors.matches("error: ").count(), 1, "{errors}");
    let summary = lines.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["exit"], &summary["rtmp"]["state"]),
        (&"summary".into(), &1.into(), &"gave-up".into())
    );
}
