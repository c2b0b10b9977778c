// SPDX-License-Identifier: MPL-2.0

//! The control plane under load, through a real server: ten minutes of body packets as fast as they go, and 200 status
//! events a second; beside a bare subscriber of the client library that looks at nothing.
//!
//! Run with `make bench`; the last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;
#[path = "../tests/common/nats.rs"]
mod nats;

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{Peer, cpu_ns, median, row};
use cvmmap_control::body::{Body, BodyHeader, BodyPacket};
use cvmmap_control::life::{Life, parse_event};
use cvmmap_control::proto::{ModuleStatus, ModuleStatusEvent};
use cvmmap_control::{Connection, Link, ServerUrl};
use futures::StreamExt;
use nats::Nats;
use prost::Message;

const RUNS: usize = 5;
/// 30 fps for 10 minutes.
const PACKETS: u32 = 18_000;
const BODIES: usize = 8;
const EVENTS: u32 = 2_000;
const EVENTS_PER_SECOND: u32 = 200;
const SUBJECT: &str = "cvmmap.bench.body";
/// Nothing of this takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child-bodies", url] => receive_bodies(url),
        ["child-bare", url] => receive_bare(url),
        ["child-events", url] => receive_events(url),
        ["child-send-bodies", port] => send_bodies(port.parse().unwrap()),
        ["child-send-events", port] => send_events(port.parse().unwrap()),
        [] => all(),
        _ => panic!("no such benchmark: {args:?}"),
    }
}

fn all() {
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    bodies();
    parsing();
    events();
}

// Receivers: each is a process that says `ready` when a marker (an empty message) has arrived, and numbers at its end.

/// What a receiver saw.
#[derive(Default)]
struct Seen {
    started: Option<(Instant, u64)>,
    count: u32,
    out_of_order: u32,
    resident_early: u64,
}

impl Seen {
    /// Takes a message of the given number, from 0 on; tells whether it was the last.
    fn take(&mut self, number: u32, of: u32) -> bool {
        self.started.get_or_insert_with(|| (Instant::now(), cpu_ns()));
        self.out_of_order += u32::from(number != self.count);
        self.count += 1;
        if self.count == of / 10 {
            self.resident_early = resident_kib();
        }
        number + 1 == of
    }

    /// Wall time, CPU time, messages, gaps, memory growth.
    fn print(&self) {
        let (started, cpu) = self.started.unwrap();
        let growth = resident_kib().saturating_sub(self.resident_early);
        let (wall, cpu) = (started.elapsed().as_nanos(), cpu_ns() - cpu);
        println!("{wall} {cpu} {} {} {growth}", self.count, self.out_of_order);
    }
}

fn ready() {
    println!("ready");
    std::io::stdout().flush().unwrap();
}

fn ours(url: &str) -> Connection {
    let connection = Connection::open(&url.parse::<ServerUrl>().unwrap()).unwrap();
    while connection.link() != Link::Up {
        std::thread::sleep(Duration::from_millis(1));
    }
    connection
}

/// The library as it is, with nothing read of the messages but the number.
fn receive_bare(url: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let url = url.to_owned();
    let seen = runtime.block_on(async move {
        let client = async_nats::connect(url).await.unwrap();
        let mut messages = client.subscribe(SUBJECT).await.unwrap();
        let (mut seen, mut is_ready) = (Seen::default(), false);
        while let Some(message) = messages.next().await {
            let Some(number) = message.payload.get(4..8) else {
                if !std::mem::replace(&mut is_ready, true) {
                    ready();
                }
                continue;
            };
            if seen.take(u32::from_le_bytes(number.try_into().unwrap()), PACKETS) {
                break;
            }
        }
        seen
    });
    seen.print();
}

/// Every size and count checked, as each consumer does it; what reading the bodies costs is a row of its own.
fn receive_bodies(url: &str) {
    let connection = ours(url);
    let (done, is_done) = channel();
    let (mut seen, mut is_ready) = (Seen::default(), false);
    let mut bodies = 0;
    let subscription = connection.subscribe(SUBJECT, move |_, payload| {
        if payload.is_empty() {
            if !std::mem::replace(&mut is_ready, true) {
                ready();
            }
            return;
        }
        let packet = BodyPacket::parse(payload).expect("a packet");
        bodies += packet.bodies().len();
        if seen.take(packet.header.frame_count, PACKETS) {
            assert_eq!(bodies, seen.count as usize * BODIES);
            let _ = done.send(std::mem::take(&mut seen));
        }
    });
    let seen: Seen = is_done.recv_timeout(PATIENCE).unwrap();
    drop(subscription);
    seen.print();
}

fn receive_events(url: &str) {
    let connection = ours(url);
    let (done, is_done) = channel();
    let (mut seen, mut is_ready) = (Seen::default(), false);
    let (mut life, mut turns) = (Life::default(), 0u32);
    let subscription = connection.subscribe(SUBJECT, move |_, payload| {
        if payload.is_empty() {
            if !std::mem::replace(&mut is_ready, true) {
                ready();
            }
            return;
        }
        let event = parse_event(&payload, Some("cam0")).unwrap().expect("ours");
        let status = ModuleStatus::try_from(event.status).unwrap();
        turns += u32::from(life.event(status, Instant::now()).is_some());
        if seen.take(event.timestamp_ns as u32, EVENTS) {
            assert_eq!(turns, EVENTS, "each is another turn");
            let _ = done.send(std::mem::take(&mut seen));
        }
    });
    let seen: Seen = is_done.recv_timeout(PATIENCE).unwrap();
    drop(subscription);
    seen.print();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// Senders: NATS as its clients speak it, and no code of ours or of the library.

struct Sender(BufWriter<TcpStream>);

impl Sender {
    fn new(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut sender = Self(BufWriter::with_capacity(1 << 20, stream));
        sender.0.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
        sender
    }

    fn publish(&mut self, payload: &[u8]) {
        write!(self.0, "PUB {SUBJECT} {}\r\n", payload.len()).unwrap();
        self.0.write_all(payload).unwrap();
        self.0.write_all(b"\r\n").unwrap();
    }

    /// Returns when the server has all of it.
    fn flush(&mut self) {
        self.0.write_all(b"PING\r\n").unwrap();
        self.0.flush().unwrap();
        let lines = BufReader::new(self.0.get_ref()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "PONG"), "the server went");
    }
}

fn packet() -> Vec<u8> {
    let mut header = BodyHeader::default();
    (header.coordinate_system, header.format, header.reference_frame) = (2, 2, 1);
    header.label = "cam0".into();
    let mut body = Body::default();
    body.keypoint_count = 38;
    BodyPacket::encode(&header, &vec![body; BODIES]).unwrap().bytes().to_vec()
}

fn send_bodies(port: u16) {
    let mut sender = Sender::new(port);
    let mut bytes = packet();
    assert_eq!(bytes.len(), 26_048);
    for number in 0..PACKETS {
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        sender.publish(&bytes);
    }
    sender.flush();
}

fn send_events(port: u16) {
    let mut sender = Sender::new(port);
    let started = Instant::now();
    for number in 0..EVENTS {
        let due = started + Duration::from_secs(1) * number / EVENTS_PER_SECOND;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let status = [ModuleStatus::Online, ModuleStatus::Offline][number as usize % 2];
        let event =
            ModuleStatusEvent { status: status.into(), instance: "cam0".into(), timestamp_ns: number.into() };
        sender.publish(&event.encode_to_vec());
        sender.0.flush().unwrap();
    }
    sender.flush();
}

/// A receiver's numbers, after all of a sender's messages.
fn run(server: &Nats, receiver: &str, sender: &str) -> Vec<f64> {
    let mut receiver = Peer::new(&[receiver, &server.url()]);
    let mut out = BufReader::new(receiver.0.stdout.take().unwrap());
    // Until one arrives: nobody knows when a subscription has reached the server.
    let (stop, stopped) = channel::<()>();
    let port = server.port();
    let markers = std::thread::spawn(move || {
        let mut sender = Sender::new(port);
        while stopped.recv_timeout(Duration::from_millis(5)).is_err() {
            sender.publish(b"");
            sender.flush();
        }
    });
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    stop.send(()).unwrap();
    markers.join().unwrap();
    let mut sender = Peer::new(&[sender, &port.to_string()]);
    assert!(sender.0.wait().unwrap().success());
    line.clear();
    out.read_line(&mut line).unwrap();
    let numbers: Vec<f64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 5, "{line:?}\n{}", server.log());
    numbers
}

/// Column `at` of the runs.
fn column(runs: &[Vec<f64>], at: usize) -> Vec<f64> {
    runs.iter().map(|run| run[at]).collect()
}

fn bodies() {
    let server = Nats::start();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(run(&server, "child-bodies", "child-send-bodies"));
        bare.push(run(&server, "child-bare", "child-send-bodies"));
    }
    let packets = f64::from(PACKETS);
    for (what, at) in [("wall time", 0), ("CPU", 1)] {
        let [ours, bare] = [&ours, &bare].map(|runs| median(&mut column(runs, at)) / packets / 1000.0);
        row(
            &format!("{what} per body packet of {BODIES} bodies, received and parsed, beside received"),
            &format!("{ours:.2} us"),
            &format!("{bare:.2} us"),
            ours / bare,
            1.25,
        );
    }
    let lost = column(&ours, 2).iter().map(|count| packets - count).fold(0.0, f64::max);
    let gaps = column(&ours, 3).into_iter().fold(0.0, f64::max);
    row(
        "body packets lost or out of order, worst run",
        &format!("{lost} + {gaps} of {packets}"),
        "",
        lost + gaps,
        0.0,
    );
    let growth = column(&ours, 4).into_iter().fold(0.0, f64::max);
    let peer = column(&bare, 4).into_iter().fold(0.0, f64::max);
    // Half of what the queue of a subscription can hold.
    row(
        "memory growth in MiB, from packet 1,800 to 18,000, worst run",
        &format!("{:.1}", growth / 1024.0),
        &format!("{:.1}", peer / 1024.0),
        growth / 1024.0,
        26.0,
    );
}

fn parsing() {
    let bytes = bytes::Bytes::from(packet());
    let turns = 20_000;
    let time = |each: &dyn Fn(&BodyPacket) -> u64| {
        let mut runs: Vec<f64> = (0..RUNS)
            .map(|_| {
                let started = Instant::now();
                let mut sum = 0;
                for _ in 0..turns {
                    let packet = BodyPacket::parse(std::hint::black_box(bytes.clone())).unwrap();
                    sum += each(std::hint::black_box(&packet));
                }
                std::hint::black_box(sum);
                started.elapsed().as_nanos() as f64 / f64::from(turns) / 1000.0
            })
            .collect();
        median(&mut runs)
    };
    let checked = time(&|_| 0);
    let read = time(&|packet| packet.bodies().map(|body| std::hint::black_box(body).id as u64).sum());
    // Of a frame at 30 fps, in percent.
    row(
        "a body packet checked, in percent of a frame at 30 fps",
        &format!("{checked:.2} us"),
        "",
        checked / 333.3,
        0.1,
    );
    row("checked, and all fields of its bodies read", &format!("{read:.2} us"), "", read / 333.3, 0.1);
}

fn events() {
    let server = Nats::start();
    let [wall, cpu, count, gaps, growth] = run(&server, "child-events", "child-send-events")[..] else {
        unreachable!("run() has counted them")
    };
    let events = f64::from(EVENTS);
    let rate = count / (wall / 1e9);
    row(
        &format!("status events lost or out of order, {rate:.0} a second"),
        &format!("{} + {gaps} of {events}", events - count),
        "",
        events - count + gaps,
        0.0,
    );
    row(
        "CPU of the process for 200 status events a second, in percent of a core",
        &format!("{:.0} us per event", cpu / events / 1000.0),
        "",
        cpu * 100.0 / wall,
        5.0,
    );
    row("memory growth in KiB, from event 200 to 2,000", &format!("{growth}"), "", growth, 1024.0);
}
