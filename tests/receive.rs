// SPDX-License-Identifier: MPL-2.0

//! `rtp-receive` and `rtmp-receive` as processes: what they say of stock senders, and of broken ones.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use common::flv::{Dialect, Plan, Publisher, encode, free_port, stop};
use common::*;
use gst::prelude::*;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
    StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;
use serde_json::Value;

/// A receiver process that listens.
struct Receiver {
    process: Process,
    port: u16,
    said: Arc<Mutex<String>>,
    threads: Vec<JoinHandle<String>>,
}

struct Judgement {
    exit: i32,
    summary: Value,
    said: String,
}

impl Receiver {
    fn rtp(args: &str) -> Self {
        Self::start("rtp-receive", "--port", args)
    }

    fn rtmp(args: &str) -> Self {
        Self::start("rtmp-receive", "--listen-port", args)
    }

    /// On a port that was free a moment ago; on another one where somebody else was quicker.
    fn start(command: &str, port_flag: &str, args: &str) -> Self {
        for _ in 0..5 {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let port = if command == "rtp-receive" { udp } else { free_port() };
            let mut receiver = Self::on_port(command, port_flag, port, args);
            let mut gone = false;
            wait_for("the receiver to listen", || {
                gone = receiver.process.0.try_wait().unwrap().is_some();
                gone || receiver.said.lock().unwrap().contains("listening on")
            });
            if !gone {
                return receiver;
            }
        }
        panic!("no receiver could be started");
    }

    fn on_port(command: &str, port_flag: &str, port: u16, args: &str) -> Self {
        let mut streamer = streamer();
        streamer.args([command, port_flag, &port.to_string()]).args(args.split_whitespace());
        let mut process = Process::spawn(streamer.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let (mut out, err) = (process.0.stdout.take().unwrap(), process.0.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let threads = vec![
            std::thread::spawn(move || {
                let mut shown = String::new();
                out.read_to_string(&mut shown).unwrap();
                shown
            }),
            std::thread::spawn(move || {
                for line in BufReader::new(err).lines() {
                    heard.lock().unwrap().push_str(&(line.unwrap() + "\n"));
                }
                String::new()
            }),
        ];
        Self { process, port, said, threads }
    }

    fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/cam0", self.port)
    }

    fn wait_for_said(&self, what: &str) {
        wait_for(what, || self.said.lock().unwrap().contains(what));
    }

    /// Its end: the exit code, and the one line of JSON.
    fn judgement(mut self) -> Judgement {
        let mut status = None;
        wait_for("the receiver to end", || {
            status = self.process.0.try_wait().unwrap();
            status.is_some()
        });
        let shown: String = self.threads.drain(..).map(|thread| thread.join().unwrap()).collect();
        let said = self.said.lock().unwrap().clone();
        let exit = status.unwrap().code().unwrap_or_else(|| panic!("{said}"));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 1, "{shown}{said}");
        let summary: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(summary["exit"], exit, "{summary}");
        println!("{summary}");
        Judgement { exit, summary, said }
    }
}

impl Judgement {
    fn number(&self, field: &str) -> u64 {
        self.summary[field].as_u64().unwrap_or_else(|| panic!("{field}: {}", self.summary))
    }

    #[track_caller]
    fn passes(&self) {
        assert_eq!(self.exit, 0, "{}\n{}", self.summary, self.said);
        assert_eq!(self.number("error_count"), 0);
        assert_eq!(self.number("missing_pictures") + self.number("corrupted_pictures"), 0);
    }

    #[track_caller]
    fn fails(&self, exit: i32, what: &str) {
        assert_eq!(self.exit, exit, "{}\n{}", self.summary, self.said);
        assert!(self.said.contains(what), "'{what}' is not in\n{}", self.said);
    }
}

/// A pipeline that sends until it is dropped.
struct Sender(gst::Pipeline);

impl Sender {
    fn start(launch: &str) -> Self {
        init();
        let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self(pipeline)
    }

    fn rtp(dialect: Dialect, source: &str, payload_type: u8, port: u16) -> Self {
        let codec = dialect.codec();
        Self::start(&format!(
            "{source} ! {} ! {codec}parse config-interval=-1 ! rtp{codec}pay name=pay pt={payload_type} \
             ! udpsink host=127.0.0.1 port={port} sync=false",
            dialect.encoder()
        ))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        stop(&self.0);
    }
}

const LIVE: &str = "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=30/1";

fn mode(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Avc => "h264",
        Dialect::Enhanced => "h265-enhanced",
        Dialect::Domestic => "h265-domestic",
    }
}

#[test]
fn rtp_of_both_codecs_is_received_judged_and_decoded() {
    for dialect in [Dialect::Avc, Dialect::Enhanced] {
        let receiver = Receiver::rtp("--expect-pt 97 --packet-threshold 60 --timeout-ms 100000");
        let _sender = Sender::rtp(dialect, LIVE, 97, receiver.port);
        let judgement = receiver.judgement();
        judgement.passes();
        assert_eq!(judgement.summary["command"], "rtp-receive");
        assert_eq!(judgement.summary["codec"], dialect.codec());
        assert_eq!((judgement.number("payload_type"), judgement.number("rtcp")), (97, 0));
        assert_eq!(judgement.summary["sdp"], false);
        assert_eq!((judgement.number("width"), judgement.number("height")), (160, 120));
        assert!(judgement.number("packets") >= 60);
        assert_eq!(judgement.number("pictures"), judgement.number("access_units"));
        assert!(judgement.number("key_frames") > 0);
    }
}

/// RTP packets as a sender would send them.
fn rtp_packets(dialect: Dialect, source: &str) -> Vec<Vec<u8>> {
    init();
    let codec = dialect.codec();
    let pipeline = gst::parse::launch(&format!(
        "{source} ! {} ! {codec}parse config-interval=-1 ! rtp{codec}pay pt=96 mtu=400 \
         ! appsink name=out sync=false",
        dialect.encoder()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut packets = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        if let Some(list) = sample.buffer_list() {
            packets.extend(list.iter().map(|buffer| buffer.map_readable().unwrap().to_vec()));
        } else {
            packets.push(sample.buffer().unwrap().map_readable().unwrap().to_vec());
        }
    }
    stop(&pipeline);
    packets
}

fn send(packets: &[Vec<u8>], port: u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for packet in packets {
        socket.send_to(packet, ("127.0.0.1", port)).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// 60 frames of a test picture.
const SECONDS: &str =
    "videotestsrc num-buffers=60 ! video/x-raw,format=I420,width=160,height=120,framerate=30/1";

#[test]
fn joining_in_the_middle_is_no_error() {
    for dialect in [Dialect::Avc, Dialect::Enhanced] {
        let packets = rtp_packets(dialect, SECONDS);
        for first in [1, 2, 3, 4, 5, 9] {
            let rest = &packets[first..];
            let count = rest.len();
            let receiver =
                Receiver::rtp(&format!("--expect-pt 96 --packet-threshold {count} --timeout-ms 100000"));
            send(rest, receiver.port);
            let judgement = receiver.judgement();
            judgement.passes();
            assert!(judgement.number("pictures") > 0 && judgement.number("seq_gaps") == 0);
        }
    }
}

/// Pictures of what was lost, and behind it, may be missing; others not.
#[test]
fn losses_excuse_the_pictures_they_touch_and_no_others() {
    for dialect in [Dialect::Avc, Dialect::Enhanced] {
        let packets = rtp_packets(dialect, SECONDS);
        let middle = packets.len() / 2;
        // One lost, and two swapped.
        let mut lossy = packets.clone();
        lossy.remove(middle);
        let mut late = packets.clone();
        late.swap(middle, middle + 1);
        for packets in [lossy, late] {
            let receiver = Receiver::rtp(&format!(
                "--expect-pt 96 --packet-threshold {} --timeout-ms 100000",
                packets.len()
            ));
            send(&packets, receiver.port);
            let judgement = receiver.judgement();
            assert_eq!(judgement.exit, 0, "{}\n{}", judgement.summary, judgement.said);
            assert_eq!((judgement.number("seq_gaps"), judgement.number("missing_pictures")), (1, 0));
        }
        // One lost at the beginning, and a frame that no decoder takes, behind the next key frame.
        let marked: Vec<_> = (0..packets.len()).filter(|n| packets[*n][1] & 0x80 != 0).collect();
        let mut broken = packets.clone();
        let header = if dialect == Dialect::Avc { 14 } else { 15 };
        for packet in &mut broken[marked[50] + 1..=marked[51]] {
            packet[header..].fill(0xFF);
        }
        broken.remove(marked[1]);
        let args = format!("--expect-pt 96 --packet-threshold {} --timeout-ms 100000", broken.len());
        let receiver = Receiver::rtp(&args);
        send(&broken, receiver.port);
        receiver.judgement().fails(7, "that came whole gave no picture");
    }
}

/// The file that a sender writes once it knows its parameter sets.
fn write_sdp(sender: &Sender, file: &std::path::Path) {
    let pad = sender.0.by_name("pay").unwrap().static_pad("src").unwrap();
    wait_for("the payloader's caps", || pad.current_caps().is_some());
    let mut media = gst_sdp::SDPMedia::new();
    media.set_media_from_caps(&pad.current_caps().unwrap()).unwrap();
    let mut message = gst_sdp::SDPMessage::new();
    message.set_version("0");
    message.set_session_name("test");
    message.add_media(media);
    std::fs::write(file, message.as_text().unwrap()).unwrap();
}

#[test]
fn the_sdp_file_may_come_late_and_tells_codec_and_parameter_sets() {
    for dialect in [Dialect::Avc, Dialect::Enhanced] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cam.sdp");
        let args =
            format!("--expect-pt 96 --packet-threshold 60 --timeout-ms 100000 --sdp {}", file.display());
        let receiver = Receiver::rtp(&args);
        let sender = Sender::rtp(dialect, LIVE, 96, receiver.port);
        write_sdp(&sender, &file);
        let judgement = receiver.judgement();
        judgement.passes();
        assert_eq!(judgement.summary["codec"], dialect.codec());
        assert_eq!(judgement.summary["sdp"], true);

        let receiver = Receiver::rtp(&args.replace("--expect-pt 96", "--expect-pt 98"));
        receiver.judgement().fails(3, "payload type 96 is not 98");
    }
}

#[test]
fn an_sdp_file_that_never_comes_is_a_timeout_that_names_it() {
    let receiver = Receiver::rtp("--expect-pt 96 --timeout-ms 1500 --sdp /nonexistent/cam.sdp");
    let _sender = Sender::rtp(Dialect::Avc, LIVE, 96, receiver.port);
    receiver.judgement().fails(124, "SDP file /nonexistent/cam.sdp: No such file");
}

#[test]
fn rtmp_of_all_modes_is_received_judged_and_decoded() {
    for dialect in Dialect::ALL {
        let receiver = Receiver::rtmp(&format!("--mode {} --timeout-ms 100000", mode(dialect)));
        let publisher = Publisher::new(&Plan::live(dialect, false), &receiver.url());
        publisher.play();
        let judgement = receiver.judgement();
        judgement.passes();
        assert_eq!(judgement.summary["command"], "rtmp-receive");
        assert_eq!(judgement.summary["mode"], mode(dialect));
        assert_eq!(judgement.summary["seen"], mode(dialect));
        assert_eq!(judgement.summary["codec"], dialect.codec());
        assert_eq!(judgement.summary["metadata"]["width"], 160);
        assert_eq!((judgement.number("width"), judgement.number("height")), (160, 120));
        assert_eq!((judgement.number("sessions"), judgement.number("configurations")), (1, 1));
        assert!(judgement.number("frames") >= 30);
        assert_eq!(judgement.number("pictures"), judgement.number("frames"));
    }
}

#[test]
fn rtmp_with_b_frames_audio_and_repeated_headers_passes() {
    for dialect in Dialect::ALL {
        let receiver =
            Receiver::rtmp(&format!("--mode {} --timeout-ms 100000 --video-threshold 60", mode(dialect)));
        let mut plan = Plan::live(dialect, true);
        plan.video = plan.video.replace(dialect.encoder(), dialect.reordering_encoder());
        plan.mux += " repeat-sequence-header=true";
        let publisher = Publisher::new(&plan, &receiver.url());
        publisher.play();
        let judgement = receiver.judgement();
        judgement.passes();
        assert!(judgement.number("audio_tags") > 0 && judgement.number("repeated_headers") > 0);
    }
}

#[test]
fn b_frames_over_rtp_are_allowed_on_request_only() {
    for (args, exit) in [("--b-frames 2", 0), ("", 7)] {
        let receiver =
            Receiver::rtp(&format!("--expect-pt 96 --packet-threshold 60 --timeout-ms 100000 {args}"));
        let encoder = Dialect::Avc.reordering_encoder();
        let _sender = Sender::start(&format!(
            "{LIVE} ! {encoder} ! h264parse config-interval=-1 ! rtph264pay \
             ! udpsink host=127.0.0.1 port={} sync=false",
            receiver.port
        ));
        let judgement = receiver.judgement();
        assert_eq!(judgement.exit, exit, "{}", judgement.summary);
        assert_eq!(judgement.said.contains("time went back"), exit == 7);
    }
}

/// The frames log of the simulator's pictures.
fn logged(file: &std::path::Path) -> Vec<Value> {
    let log = std::fs::read_to_string(file).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_frames_log_tells_the_simulators_frames_and_when_they_came() {
    let target = unique("receive");
    let _sim = sim(&target, "--fps 30 --size 320x240");
    let source = format!(
        "cvmmapsrc uri=cvmmap://{target} ! video/x-raw,framerate=30/1 ! videoconvert ! video/x-raw,format=I420"
    );
    let dir = tempfile::tempdir().unwrap();
    for dialect in [None, Some(Dialect::Avc), Some(Dialect::Domestic)] {
        let file = dir.path().join(format!("{dialect:?}.jsonl"));
        let log = format!("--timeout-ms 100000 --frames-log {}", file.display());
        let judgement = match dialect {
            None => {
                let receiver = Receiver::rtp(&format!("--expect-pt 96 --packet-threshold 100 {log}"));
                let _sender = Sender::rtp(Dialect::Avc, &source, 96, receiver.port);
                receiver.judgement()
            }
            Some(dialect) => {
                let receiver = Receiver::rtmp(&format!("--mode {} {log}", mode(dialect)));
                let video = format!("{source} ! {}", dialect.encoder());
                let publisher =
                    Publisher::new(&Plan { video, ..Plan::live(dialect, false) }, &receiver.url());
                publisher.play();
                receiver.judgement()
            }
        };
        judgement.passes();
        let log = logged(&file);
        assert_eq!(log.len() as u64, judgement.number("pictures"));
        assert_eq!(log.len() as u64, judgement.number("counted_pictures"));
        assert_eq!(log[0]["key"], true);
        for pair in log.windows(2) {
            for field in ["count", "decoded_unix_ns"] {
                assert!(pair[0][field].as_u64() < pair[1][field].as_u64(), "{field}: {pair:?}");
            }
            // Two may come with one read.
            assert!(pair[0]["unix_ns"].as_u64() <= pair[1]["unix_ns"].as_u64(), "{pair:?}");
            assert_eq!(pair[1]["session"], 1);
        }
        for line in &log {
            assert!(line["unix_ns"].as_u64() < line["decoded_unix_ns"].as_u64(), "{line}");
        }
        let keys = log.iter().filter(|line| line["key"] == true).count() as u64;
        assert_eq!(keys, judgement.number("key_frames"));
        assert_eq!(log[0]["timestamp"], judgement.summary["first_timestamp"]);
        assert_eq!(log.last().unwrap()["timestamp"], judgement.summary["last_timestamp"]);
    }
}

#[test]
fn another_payload_type_is_exit_3() {
    let receiver = Receiver::rtp("--expect-pt 96 --timeout-ms 100000");
    let _sender = Sender::rtp(Dialect::Avc, LIVE, 97, receiver.port);
    let judgement = receiver.judgement();
    judgement.fails(3, "payload type 97 is not 96");
    assert_eq!((judgement.number("payload_type"), &judgement.summary["codec"]), (97, &Value::Null));
}

#[test]
fn too_little_is_exit_4() {
    let few = LIVE.replace("is-live=true", "num-buffers=5");
    let receiver = Receiver::rtp("--expect-pt 96 --packet-threshold 5000 --timeout-ms 8000");
    let _sender = Sender::rtp(Dialect::Avc, &few, 96, receiver.port);
    let judgement = receiver.judgement();
    judgement.fails(4, "packets, fewer than the 5000 asked for");
    assert_eq!(judgement.number("pictures"), 5);

    let receiver = Receiver::rtmp("--mode h264 --video-threshold 5000 --timeout-ms 12000");
    let publisher = Publisher::new(&Plan::quick(Dialect::Avc, false), &receiver.url());
    publisher.play();
    publisher.wait_for_end();
    let judgement = receiver.judgement();
    judgement.fails(4, "90 video frames, fewer than the 5000 asked for");
    assert_eq!((judgement.number("pictures"), judgement.number("key_frames")), (90, 6));
}

#[test]
fn another_mode_is_exit_6() {
    for wanted in Dialect::ALL {
        for published in Dialect::ALL.into_iter().filter(|published| *published != wanted) {
            let receiver = Receiver::rtmp(&format!("--mode {} --timeout-ms 100000", mode(wanted)));
            let publisher = Publisher::new(&Plan::live(published, false), &receiver.url());
            publisher.play();
            let judgement = receiver.judgement();
            judgement.fails(6, "videocodecid ");
            assert_eq!(judgement.number("pictures"), 0);
        }
    }
}

#[test]
fn garbage_on_the_rtp_port_is_exit_7() {
    let idr = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x65];
    for (datagrams, what) in [
        (vec![&b"hello"[..]], "a datagram of 5 bytes: Not enough data"),
        (vec![&[0x40; 40]], "Unsupported RTP version 1"),
        (vec![&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF]], "is neither H.264 nor H.265"),
        (vec![&idr, &[0x80, 96, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0x41]], "had no marker bit at its end"),
        (vec![&idr, &[0x80, 96, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0x41]], "SSRC 0x00000002, but"),
    ] {
        let receiver = Receiver::rtp("--expect-pt 96 --timeout-ms 100000");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in datagrams {
            socket.send_to(datagram, ("127.0.0.1", receiver.port)).unwrap();
        }
        receiver.judgement().fails(7, what);
    }
}

/// Sound RTP headers and NAL headers around bytes that are no video.
#[test]
fn rtp_that_does_not_decode_is_exit_7() {
    let receiver = Receiver::rtp("--expect-pt 96 --packet-threshold 10 --timeout-ms 3000");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..20u8 {
        let mut packet = vec![0x80, 0x80 | 96, 0, n, 0, 0, n, 0, 0, 0, 0, 1];
        // Parameter sets, and a first slice of a key frame.
        packet.push([0x67, 0x68, 0x65][usize::from(n.min(2))]);
        packet.extend([0x88; 40]);
        socket.send_to(&packet, ("127.0.0.1", receiver.port)).unwrap();
    }
    receiver.judgement().fails(7, "no picture");
}

#[test]
fn silence_is_exit_124() {
    for receiver in [
        Receiver::rtp("--expect-pt 96 --timeout-ms 300"),
        Receiver::rtp("--expect-pt 96 --timeout-ms 300 --duration-ms 20000"),
        Receiver::rtmp("--mode h264 --timeout-ms 300"),
        Receiver::rtmp("--mode h264 --timeout-ms 300 --duration-ms 20000"),
    ] {
        let judgement = receiver.judgement();
        judgement.fails(124, "nothing came");
        // What was asked for is not told as if it had been seen.
        for field in ["codec", "payload_type", "seen"] {
            assert!(judgement.summary[field].is_null(), "{field}: {}", judgement.summary);
        }
    }
}

#[test]
fn rtcp_is_no_packet_of_the_stream() {
    let packets = rtp_packets(Dialect::Avc, SECONDS);
    let report = [0x80, 200, 0, 6].iter().chain(&[0; 24]).copied().collect::<Vec<u8>>();
    let alone = Receiver::rtp("--expect-pt 96 --timeout-ms 1500 --codec h264");
    send(std::slice::from_ref(&report), alone.port);
    let judgement = alone.judgement();
    judgement.fails(124, "nothing came");
    assert_eq!((judgement.number("rtcp"), judgement.number("refused")), (1, 0));
    assert!(judgement.summary["codec"].is_null() && judgement.summary["payload_type"].is_null());

    let args = format!("--expect-pt 96 --packet-threshold {} --timeout-ms 100000", packets.len());
    let receiver = Receiver::rtp(&args);
    let reported: Vec<_> = packets.iter().flat_map(|packet| [report.clone(), packet.clone()]).collect();
    send(&reported, receiver.port);
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!(judgement.number("rtcp"), judgement.number("packets"));
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        for receiver in [
            Receiver::rtp("--expect-pt 96 --timeout-ms 600000"),
            Receiver::rtmp("--mode h264 --timeout-ms 600000"),
        ] {
            receiver.process.signal(signal);
            receiver.judgement().fails(124, "nothing came");
        }
    }
}

#[test]
fn a_busy_port_is_exit_1_and_named() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for (args, address) in [
        (["rtp-receive", "--expect-pt", "96", "--port"], format!("udp {}", udp.local_addr().unwrap())),
        (["rtmp-receive", "--mode", "h264", "--listen-port"], format!("tcp {}", tcp.local_addr().unwrap())),
    ] {
        let port = address.rsplit(':').next().unwrap();
        let output = run(streamer().args(args).arg(port));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said, format!("error: listening on {address}: Address already in use (os error 98)\n"));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn arguments_that_cannot_work_name_the_flag_and_the_rule() {
    for (args, parts) in [
        ("rtp-receive --port 5004", ["--expect-pt", "required"]),
        ("rtp-receive --expect-pt 96", ["--port", "required"]),
        ("rtp-receive --port 5004 --expect-pt 95", ["--expect-pt", "96..=127"]),
        ("rtp-receive --port 5004 --expect-pt 128", ["--expect-pt", "96..=127"]),
        ("rtp-receive --port 0 --expect-pt 96", ["--port", "0 is not in 1..=65535"]),
        ("rtp-receive --port 65536 --expect-pt 96", ["--port", "65536 is not in 1..=65535"]),
        (
            "rtp-receive --port 5004 --expect-pt 96 --packet-threshold 0",
            ["--packet-threshold", "0 is not in 1.."],
        ),
        ("rtp-receive --port 5004 --expect-pt 96 --timeout-ms 0", ["--timeout-ms", "0 is not in 1.."]),
        ("rtp-receive --port 5004 --expect-pt 96 --codec vp8", ["--codec", "h264, h265"]),
        ("rtp-receive --port 5004 --expect-pt 96 --codec h264 --sdp x", ["--codec", "cannot be used with"]),
        (
            "rtp-receive --port 5004 --expect-pt 96 --listen-host nowhere",
            ["--listen-host", "invalid IP address"],
        ),
        ("rtmp-receive --mode av1 --listen-port 1935", ["--mode", "h264, h265-enhanced, h265-domestic"]),
        ("rtmp-receive --listen-port 1935", ["--mode", "required"]),
        ("rtmp-receive --mode h264", ["--listen-port", "required"]),
        ("rtmp-receive --mode h264 --listen-port 0", ["--listen-port", "0 is not in 1..=65535"]),
        (
            "rtmp-receive --mode h264 --listen-port 1935 --video-threshold 0",
            ["--video-threshold", "0 is not in 1.."],
        ),
        ("rtmp-receive --mode h264 --listen-port 1935 --stall-after 5", ["--stall-ms", "required"]),
        ("rtmp-receive --mode h264 --listen-port 1935 --listen-host a/b", ["--listen-host", "no address"]),
    ] {
        let output = run(streamer().args(args.split_whitespace()));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args}: '{part}' is not in\n{said}");
        }
    }
}

#[test]
fn what_does_not_speak_rtmp_is_dropped_and_the_next_one_served() {
    let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000");
    let mut noise = vec![3; 1537 + 1536];
    noise.extend([0xFF; 4000]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[], &noise] {
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port)).unwrap();
        // The server may have closed it already.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let publisher = Publisher::new(&Plan::live(Dialect::Avc, false), &receiver.url());
    publisher.play();
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!((judgement.number("refused"), judgement.number("sessions")), (3, 1));
}

#[test]
fn a_publisher_that_comes_back_is_another_session() {
    let receiver = Receiver::rtmp("--mode h265-domestic --video-threshold 120 --timeout-ms 100000");
    let first = Publisher::new(&Plan::quick(Dialect::Domestic, false), &receiver.url());
    first.play();
    first.wait_for_end();
    let second = Publisher::new(&Plan::live(Dialect::Domestic, false), &receiver.url());
    second.play();
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!((judgement.number("sessions"), judgement.number("configurations")), (2, 2));
    assert!(judgement.number("frames") >= 120);
}

#[test]
fn a_new_size_in_mid_stream_is_another_configuration() {
    for dialect in Dialect::ALL {
        let mut samples = encode(dialect, (160, 120), 20, gst::ClockTime::ZERO);
        samples.extend(encode(dialect, (240, 160), 20, gst::ClockTime::SECOND));
        let args = format!("--mode {} --video-threshold 40 --timeout-ms 100000", mode(dialect));
        let receiver = Receiver::rtmp(&args);
        let video = "appsrc name=frames format=time".into();
        let publisher = Publisher::new(&Plan { video, ..Plan::quick(dialect, false) }, &receiver.url());
        let frames = publisher.pipeline.by_name("frames").unwrap();
        let frames = frames.downcast::<gst_app::AppSrc>().unwrap();
        publisher.play();
        for sample in &samples {
            frames.push_sample(sample).unwrap();
        }
        let judgement = receiver.judgement();
        judgement.passes();
        assert_eq!((judgement.number("configurations"), judgement.number("pictures")), (2, 40));
        assert_eq!((judgement.number("width"), judgement.number("height")), (240, 160));
    }
}

#[test]
fn a_duration_goes_on_behind_the_threshold() {
    let receiver = Receiver::rtmp("--mode h264 --video-threshold 5 --duration-ms 12000 --timeout-ms 12000");
    let publisher = Publisher::new(&Plan::quick(Dialect::Avc, false), &receiver.url());
    publisher.play();
    publisher.wait_for_end();
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!(judgement.number("frames"), 90);
}

#[test]
fn a_stalled_reader_reads_on_and_loses_nothing() {
    let receiver = Receiver::rtmp(
        "--mode h264 --video-threshold 90 --timeout-ms 100000 --stall-after 10 --stall-ms 1000",
    );
    let publisher = Publisher::new(&Plan::live(Dialect::Avc, false), &receiver.url());
    publisher.play();
    receiver.wait_for_said("not reading for 1000 ms");
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!(judgement.said.matches("not reading").count(), 1);
}

/// An RTMP client that publishes what it is told, sound or not.
struct Client {
    stream: TcpStream,
    session: ClientSession,
    events: Vec<ClientSessionEvent>,
}

impl Client {
    fn publishing(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut handshake = Handshake::new(PeerType::Client);
        stream.write_all(&handshake.generate_outbound_p0_and_p1().unwrap()).unwrap();
        let mut buffer = [0; 4096];
        let rest = loop {
            let size = stream.read(&mut buffer).unwrap();
            match handshake.process_bytes(&buffer[..size]).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    stream.write_all(&response_bytes).unwrap()
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    stream.write_all(&response_bytes).unwrap();
                    break remaining_bytes;
                }
            }
        };
        let (session, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut client = Self { stream, session, events: Vec::new() };
        client.handle(results);
        let results = client.session.handle_input(&rest).unwrap();
        client.handle(results);
        let request = client.session.request_connection("live".into()).unwrap();
        client.handle(vec![request]);
        client.wait_for(&ClientSessionEvent::ConnectionRequestAccepted);
        let request = client.session.request_publishing("cam0".into(), PublishRequestType::Live).unwrap();
        client.handle(vec![request]);
        client.wait_for(&ClientSessionEvent::PublishRequestAccepted);
        client
    }

    fn handle(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    self.stream.write_all(&packet.bytes).unwrap()
                }
                ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => (),
            }
        }
    }

    fn wait_for(&mut self, wanted: &ClientSessionEvent) {
        let mut buffer = [0; 4096];
        while !self.events.contains(wanted) {
            let size = self.stream.read(&mut buffer).unwrap();
            assert!(size > 0, "waited in vain for {wanted:?}");
            let results = self.session.handle_input(&buffer[..size]).unwrap();
            self.handle(results);
        }
    }

    fn metadata(&mut self, codec_id: u32, size: (u32, u32)) {
        let mut metadata = StreamMetadata::new();
        metadata.video_codec_id = Some(codec_id);
        (metadata.video_width, metadata.video_height) = (Some(size.0), Some(size.1));
        let message = self.session.publish_metadata(&metadata).unwrap();
        self.handle(vec![message]);
    }

    fn video(&mut self, ms: u32, body: &[u8]) {
        let body = bytes::Bytes::copy_from_slice(body);
        let message = self.session.publish_video_data(body, RtmpTimestamp::new(ms), false).unwrap();
        self.handle(vec![message]);
    }

    /// The receiver closes its side, without a reset.
    fn wait_for_end(mut self) {
        self.stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

/// H.264 tags of a second: the sequence header and the frames.
fn avc_tags() -> Vec<Vec<u8>> {
    let samples = encode(Dialect::Avc, (160, 120), 30, gst::ClockTime::ZERO);
    let caps = samples[0].caps().unwrap();
    let record = caps.structure(0).unwrap().get::<gst::Buffer>("codec_data").unwrap();
    let record = record.map_readable().unwrap();
    let header = [&[0x17, 0, 0, 0, 0][..], &record].concat();
    let frames = samples.iter().map(|sample| {
        let buffer = sample.buffer().unwrap();
        let first = if buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) { 0x27 } else { 0x17 };
        [&[first, 1, 0, 0, 0][..], &buffer.map_readable().unwrap()].concat()
    });
    std::iter::once(header).chain(frames).collect()
}

#[test]
fn an_rtmp_client_of_another_kind_passes_and_sees_a_normal_close() {
    let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000");
    let mut client = Client::publishing(receiver.port);
    client.metadata(7, (160, 120));
    for (tag, n) in avc_tags().iter().zip(0..) {
        client.video(n * 33, tag);
    }
    client.wait_for_end();
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!((judgement.number("frames"), judgement.number("pictures")), (30, 30));
}

#[test]
fn a_stall_ends_with_the_time_for_receiving() {
    let tags = avc_tags();
    for (args, exit) in [("--timeout-ms 6000", 4), ("--duration-ms 6000 --video-threshold 1", 0)] {
        let args = format!("--mode h264 --stall-after 1 --stall-ms 500000 {args}");
        let receiver = Receiver::rtmp(&args);
        let mut client = Client::publishing(receiver.port);
        client.metadata(7, (160, 120));
        for tag in &tags[..2] {
            client.video(0, tag);
        }
        receiver.wait_for_said("not reading");
        let judgement = receiver.judgement();
        assert_eq!(judgement.exit, exit, "{}", judgement.summary);
        assert!(judgement.summary["seconds"].as_f64().unwrap() < 100.0, "{}", judgement.summary);
    }
}

/// More than a sender's buffer holds (4 MiB, unless somebody changed it) stays with the sender.
#[test]
fn a_stalled_reader_is_felt_by_the_sender() {
    let receiver = Receiver::rtmp(
        "--mode h264 --video-threshold 1 --timeout-ms 600000 --stall-after 1 --stall-ms 500000",
    );
    let mut client = Client::publishing(receiver.port);
    client.metadata(7, (160, 120));
    for tag in &avc_tags()[..2] {
        client.video(0, tag);
    }
    receiver.wait_for_said("not reading");
    client.stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let blocked = (0..64).find_map(|_| client.stream.write_all(&[0; 1 << 20]).err());
    assert_eq!(blocked.expect("64 MiB went through").kind(), std::io::ErrorKind::WouldBlock);
    receiver.process.signal(libc::SIGTERM);
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!(judgement.number("frames"), 1);
}

/// Bytes that are no chunks, behind a sound beginning.
#[test]
fn garbage_of_a_publisher_is_exit_7() {
    let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000");
    let mut client = Client::publishing(receiver.port);
    client.metadata(7, (160, 120));
    // The server may leave at the first of them.
    let _ = client.stream.write_all(&[0xFF; 4000]);
    receiver.judgement().fails(7, "RTMP: ");
}

/// A message of one chunk, behind one that makes chunks large.
fn large_message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF];
    bytes.extend([3, 0, 0, 0]);
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend([kind, 0, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

/// Objects in objects, which rml_amf0 reads by recursion: without a limit, the stack overflows.
#[test]
fn values_in_each_other_without_end_are_refused_and_the_next_client_served() {
    let bomb = [3, 0, 1, b'a'].repeat(500_000);
    let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000");
    for kind in [20, 17] {
        let mut stream = handshaken(receiver.port);
        // The server may leave in the middle of it.
        let _ = stream.write_all(&large_message(kind, &bomb));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let publisher = Publisher::new(&Plan::live(Dialect::Avc, false), &receiver.url());
    publisher.play();
    let judgement = receiver.judgement();
    judgement.passes();
    assert_eq!((judgement.number("refused"), judgement.number("sessions")), (2, 1));
    assert!(judgement.said.contains("may have 500000 values in each other"), "{}", judgement.said);

    let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000");
    let mut client = Client::publishing(receiver.port);
    let _ = client.stream.write_all(&large_message(18, &bomb));
    receiver.judgement().fails(7, "RTMP: a message of type 18 and 2000000 bytes may have");
}

/// A connection behind the handshake.
fn handshaken(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 1 + 1536];
    stream.write_all(&[[3].as_slice(), &[0; 1536]].concat()).unwrap();
    stream.read_exact(&mut answer).unwrap();
    stream.read_exact(&mut [0; 1536]).unwrap();
    stream.write_all(&answer[1..]).unwrap();
    stream
}

/// A delta of time that rml_rtmp subtracts from, which panics where overflows are checked.
#[test]
fn what_the_chunk_parser_panics_at_does_not_end_the_receiver() {
    let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000 --duration-ms 6000");
    let mut client = Client::publishing(receiver.port);
    // A message of type 8 on a chunk stream of its own, then one whose extended time is below 0xFFFFFF.
    client.stream.write_all(&[0x0A, 0, 0, 0, 0, 0, 1, 8, 1, 0, 0, 0, 0xAF]).unwrap();
    client.stream.write_all(&[0x4A, 0xFF, 0xFF, 0xFF, 0, 0, 1, 8, 0, 0, 0, 0, 0xAF]).unwrap();
    let judgement = receiver.judgement();
    // Without the checks it is sound audio of an odd time.
    assert!([4, 7].contains(&judgement.exit), "{}", judgement.said);
    assert!(!judgement.said.contains("panicked"), "{}", judgement.said);
    assert_eq!(judgement.number("sessions"), 1);
}

#[test]
fn each_kind_of_broken_publisher_is_exit_7() {
    type Change = fn(&mut Vec<Vec<u8>>);
    let whole: Change = |_| ();
    let lost: Change = |tags| tags.iter_mut().skip(5).for_each(|tag| tag.truncate(tag.len() - 1));
    for (size, change, what) in [
        ((320, 120), whole, "a picture of 160x120, but onMetaData told 320x120"),
        ((160, 120), |tags: &mut Vec<Vec<u8>>| drop(tags.remove(0)), "a frame before the sequence header"),
        ((160, 120), |tags: &mut Vec<Vec<u8>>| drop(tags.remove(1)), "is no key frame"),
        ((160, 120), |tags: &mut Vec<Vec<u8>>| tags[3][2] = 0x80, "composition time -8388608 is negative"),
        ((160, 120), lost, "bytes are left"),
        ((160, 120), |tags: &mut Vec<Vec<u8>>| tags[0].truncate(20), "avcC"),
        (
            (160, 120),
            |tags: &mut Vec<Vec<u8>>| tags.insert(4, vec![0x27]),
            "a video message of 1 bytes is shorter",
        ),
    ] as [((u32, u32), Change, &str); 7]
    {
        let receiver = Receiver::rtmp("--mode h264 --timeout-ms 100000");
        let mut tags = avc_tags();
        change(&mut tags);
        let mut client = Client::publishing(receiver.port);
        client.metadata(7, size);
        let threads = std::thread::spawn(move || {
            // The receiver leaves at the first error.
            let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                tags.iter().zip(0..).for_each(|(tag, n)| client.video(n * 33, tag));
            }));
            drop(sent);
        });
        let judgement = receiver.judgement();
        threads.join().unwrap();
        judgement.fails(7, what);
    }
}

#[test]
fn with_a_duration_errors_are_collected_and_the_first_decides() {
    let receiver = Receiver::rtp("--expect-pt 96 --duration-ms 2500");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for payload_type in 97..117 {
        let packet = [0x80, payload_type, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x65];
        socket.send_to(&packet, ("127.0.0.1", receiver.port)).unwrap();
    }
    socket.send_to(b"x", ("127.0.0.1", receiver.port)).unwrap();
    let judgement = receiver.judgement();
    judgement.fails(3, "payload type 97 is not 96 (and 20 more)");
    let errors: BTreeSet<_> =
        judgement.summary["errors"].as_array().unwrap().iter().map(|error| error.to_string()).collect();
    assert_eq!((errors.len(), judgement.number("refused")), (8, 21));
}
