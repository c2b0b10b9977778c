// SPDX-License-Identifier: MPL-2.0

//! Bodies on buffers and in messages, from the producer in Python.

mod common;

use common::nats::Nats;
use common::nats_peer::Producer;
use common::*;
use gst::prelude::*;
use gstcvmmap::bodies_of;

const META: &str = "GstCvMmapBodiesMeta";

fn meta_of(buffer: &gst::BufferRef) -> Option<gst::Structure> {
    gst::meta::CustomMeta::from_buffer(buffer, META).ok().map(|meta| meta.structure().to_owned())
}

fn tracking(target: &str, nats: &Nats, more: &str) -> String {
    format!("uri=cvmmap://{target} nats-url={} body-tracking=true {more}", nats.url())
}

/// The next sample that has bodies.
fn with_bodies(consumer: &Consumer) -> gst::Sample {
    let mut sample = consumer.sample();
    wait_for("bodies", || {
        let found = bodies_of(sample.buffer().unwrap()).is_some();
        if !found {
            sample = consumer.sample();
        }
        found
    });
    sample
}

#[test]
fn each_buffer_carries_the_bodies_of_its_frame_also_through_other_elements() {
    let nats = Nats::start();
    for (joints, between) in [
        (18, ""),
        (34, "videoconvert ! video/x-raw,format=I420 !"),
        (
            38,
            "videoscale ! video/x-raw,width=64,height=48 ! videoconvert ! video/x-raw,format=RGBA ! tee ! queue !",
        ),
    ] {
        let target = unique("bodies");
        let _producer = Producer::start(&target, &nats.url(), &format!("--bodies 3 --joints {joints}"));
        let consumer = Consumer::with(&tracking(&target, &nats, ""), between);
        consumer.play();
        with_bodies(&consumer);
        for _ in 0..10 {
            let sample = with_bodies(&consumer);
            let buffer = sample.buffer().unwrap();
            let packet = bodies_of(buffer).unwrap();
            let meta = meta_of(buffer).unwrap();
            assert_eq!(u64::from(packet.header.frame_count), buffer.offset());
            assert_eq!(meta.get("frame-count"), Ok(packet.header.frame_count));
            assert_eq!(meta.get("timestamp"), Ok(packet.header.timestamp_ns));
            assert_eq!((meta.get("body-count"), meta.get("joints")), (Ok(3u32), Ok(joints as u32)));
            let bodies: gst::Array = meta.get("bodies").unwrap();
            for (structure, body) in bodies.iter().zip(packet.bodies()) {
                let structure: gst::Structure = structure.get().unwrap();
                assert_eq!(structure.get("id"), Ok(body.id));
                let points: gst::Array = structure.get("keypoints-3d").unwrap();
                assert_eq!(points.len(), 3 * usize::from(body.keypoint_count));
                let last: f32 = points.last().unwrap().get().unwrap();
                let wanted = body.keypoint_3d[usize::from(body.keypoint_count) - 1][2];
                assert!(last == wanted || last.is_nan() && wanted.is_nan());
                let position: gst::Array = structure.get("position").unwrap();
                assert_eq!(position[1].get::<f32>().unwrap(), body.position[1]);
            }
        }
    }
}

#[test]
fn bodies_that_come_after_their_frame_are_waited_for_where_that_is_asked() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("late");
    let _producer = Producer::start(&target, &nats.url(), "--fps 25 --bodies 1 --late-bodies 60");
    let hasty = Consumer::playing(&tracking(&target, &nats, ""));
    let patient = Consumer::playing(&tracking(&target, &nats, "body-wait=5000"));
    with_bodies(&patient);
    // Frames follow each other faster than their bodies come; none is lost for the wait.
    for _ in 0..50 {
        assert!(bodies_of(patient.sample().buffer().unwrap()).is_some());
    }
    let (kept, taken) = (patient.stat("frames"), hasty.stat("frames"));
    // On a loaded machine each may miss others; who waited 60 ms for each frame would have half of them.
    assert!(kept + 50 >= taken * 3 / 4, "{kept} {taken}");
    let bare = (0..50).filter(|_| bodies_of(hasty.sample().buffer().unwrap()).is_none()).count();
    // A frame that is 60 ms late itself finds its bodies there.
    assert!(bare > 25, "{bare}");
    wait_for("late bodies", || hasty.stat("bodies-late") > 20);
    let latency = |consumer: &Consumer| {
        let mut query = gst::query::Latency::new();
        assert!(consumer.source.static_pad("src").unwrap().query(&mut query));
        query.result().1.mseconds()
    };
    assert!(latency(&patient) >= 5000 + latency(&hasty) / 2, "{} {}", latency(&patient), latency(&hasty));
}

#[test]
fn frames_that_wait_for_their_bodies_go_out_before_the_end_of_an_idle_stream() {
    let nats = Nats::start();
    let target = unique("drained");
    let mut producer = Producer::start(&target, &nats.url(), "--fps 25 --frames 75");
    let consumer = Consumer::playing(&tracking(&target, &nats, "body-wait=4000 idle-timeout=500"));
    let last = producer.wait_for_done("quit")["count"].as_u64().unwrap();
    let mut seen = None;
    // None at the end.
    while let Some(sample) = consumer.sink.try_pull_sample(gst::ClockTime::from_seconds(PATIENCE.as_secs())) {
        seen = Some(sample.buffer().unwrap().offset());
    }
    assert_eq!((seen, consumer.end()), (Some(last), None));
}

#[test]
fn after_a_reset_no_body_of_before_it_is_attached() {
    let nats = Nats::start();
    for more in ["", "--untimed-bodies"] {
        let target = unique("reset");
        let mut producer = Producer::start(&target, &nats.url(), &format!("--fps 50 --bodies 1 {more}"));
        let consumer = Consumer::playing(&tracking(&target, &nats, ""));
        with_bodies(&consumer);
        for (resets, command) in [(1, "reset"), (2, "reset-before"), (3, "reset-count")] {
            producer.tell(command);
            wait_for(command, || {
                consumer.sample();
                consumer.stat("resets") == resets
            });
            for _ in 0..30 {
                let sample = consumer.sample();
                if let Some(packet) = bodies_of(sample.buffer().unwrap()) {
                    // The packet's own time, which the rig also writes into the SDK's, is that of the picture.
                    let unix =
                        sample.buffer().unwrap().meta::<gst::ReferenceTimestampMeta>().unwrap().timestamp();
                    let time = packet.header.time_ns();
                    assert!(time == 0 || time == unix.nseconds(), "{command}: {:?}", packet.header);
                }
            }
        }
        // Packets may be slower than their frames for a while.
        wait_for("bodies on frames", || {
            consumer.sample();
            consumer.stat("bodies-attached") > 30
        });
    }
}

#[test]
fn each_packet_is_a_message_with_the_same_fields() {
    let nats = Nats::start();
    let target = unique("messages");
    let _producer = Producer::start(&target, &nats.url(), "--bodies 2");
    let consumer = Consumer::playing(&tracking(&target, &nats, ""));
    let sample = with_bodies(&consumer);
    let meta = meta_of(sample.buffer().unwrap()).unwrap();
    let is_same = |structure: &gst::StructureRef| {
        structure.name() == "cvmmapsrc-bodies"
            && structure.get::<u32>("frame-count") == meta.get("frame-count")
    };
    let mut same = None;
    // It is made on a thread of its own, and may come behind the frame.
    wait_for("the packet's message", || {
        let messages = consumer.messages();
        let mut structures = messages.iter().filter_map(|message| message.structure());
        same = structures.find(|&structure| is_same(structure)).map(ToOwned::to_owned);
        same.is_some()
    });
    let same = same.unwrap();
    for (name, value) in meta.iter().filter(|(name, _)| *name != "packet") {
        assert_eq!(format!("{value:?}"), format!("{:?}", same.value(name).unwrap()), "{name}");
    }
    let bytes = |structure: &gst::StructureRef| {
        let packet: gst::Buffer = structure.get("packet").unwrap();
        packet.map_readable().unwrap().to_vec()
    };
    assert_eq!(bytes(&meta), bytes(&same));
}

/// Ten minutes of 30 packets a second.
const PACKETS: u32 = 18_000;

/// Packets that are on their way at once: what waits for a subscriber is bounded, and so is what waits for a message.
const UNDER_WAY: u64 = 1024;

/// As fast as they are taken; `taken`: how many are.
fn flood(consumer: &Consumer, target: &str, url: &str, mut taken: impl FnMut() -> u64) {
    let key = target.parse::<cvmmap_ipc::Target>().unwrap().nats_target_key();
    let mut packet = vec![0; 64 + 8 * 3248];
    packet[..4].copy_from_slice(&[0x62, 2, 1, 0]);
    packet[0x18..0x1a].copy_from_slice(&8u16.to_le_bytes());
    packet[0x1a..0x1c].copy_from_slice(&3248u16.to_le_bytes());
    packet[0x1c] = 2;
    packet[0x24..0x28].copy_from_slice(&(8 * 3248u32).to_le_bytes());
    for body in 0..8 {
        let end = 64 + (body + 1) * 3248;
        packet[end - 4..end - 2].copy_from_slice(&38u16.to_le_bytes());
    }
    wait_for("the link", || consumer.stats().get::<String>("nats").unwrap() == "up");
    let mut socket = raw::Publisher::connect(url);
    for count in 0..PACKETS {
        if count % 256 == 0 {
            wait_for("packets to be taken", || u64::from(count) <= taken() + UNDER_WAY);
        }
        packet[4..8].copy_from_slice(&count.to_le_bytes());
        socket.publish(&format!("cvmmap.{key}.body"), &packet);
    }
    socket.flush();
}

/// The wire of NATS, as far as publishing goes: no client stands between the flood and the server.
mod raw {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;

    pub struct Publisher {
        out: TcpStream,
        answers: BufReader<TcpStream>,
    }

    impl Publisher {
        pub fn connect(url: &str) -> Self {
            let mut out = TcpStream::connect(url.strip_prefix("nats://").unwrap()).unwrap();
            let answers = BufReader::new(out.try_clone().unwrap());
            out.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
            Self { out, answers }
        }

        pub fn publish(&mut self, subject: &str, payload: &[u8]) {
            let mut message = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
            message.extend_from_slice(payload);
            message.extend_from_slice(b"\r\n");
            self.out.write_all(&message).unwrap();
        }

        /// Returns once the server has taken all.
        pub fn flush(&mut self) {
            self.out.write_all(b"PING\r\n").unwrap();
            let mut line = String::new();
            while !line.starts_with("PONG") {
                line.clear();
                self.answers.read_line(&mut line).unwrap();
                assert!(!line.starts_with("-ERR"), "{line}");
            }
        }
    }
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_minutes_of_bodies_at_once_are_neither_lost_nor_kept() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("flood");
    let consumer = Consumer::new(&tracking(&target, &nats, ""));
    let bus = consumer.pipeline.bus().unwrap();
    let (send, told) = std::sync::mpsc::channel();
    // Reads what comes at once, as an application does.
    bus.set_sync_handler(move |_, message| {
        if let Some(structure) = message.structure()
            && structure.name() == "cvmmapsrc-bodies"
        {
            let _ = send.send(structure.get::<u32>("frame-count").unwrap());
        }
        gst::BusSyncReply::Drop
    });
    consumer.play();
    let mut counts = Vec::new();
    flood(&consumer, &target, &nats.url(), || {
        counts.extend(told.try_iter());
        counts.len() as u64
    });
    wait_for("all of them", || {
        assert_eq!(consumer.stat("lost-messages"), 0);
        consumer.stat("bodies") == u64::from(PACKETS)
    });
    wait_for("all messages", || {
        counts.extend(told.try_iter());
        counts.len() == PACKETS as usize
    });
    assert!(counts.windows(2).all(|pair| pair[0] + 1 == pair[1]), "in their order");
    assert_eq!((consumer.stat("invalid-bodies"), consumer.stat("bodies-attached")), (0, 0));
}

#[test]
fn a_bus_that_nobody_reads_does_not_grow() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("unread");
    let consumer = Consumer::new(&tracking(&target, &nats, ""));
    consumer.play();
    let taken = || consumer.stat("bodies") + consumer.stat("lost-messages");
    flood(&consumer, &target, &nats.url(), taken);
    wait_for("all of them", || {
        consumer.stat("bodies") + consumer.stat("lost-messages") >= u64::from(PACKETS)
    });
    assert_eq!(consumer.stat("lost-messages"), 0);
    let first = resident_kb();
    flood(&consumer, &target, &nats.url(), || taken() - u64::from(PACKETS));
    wait_for("all of them again", || consumer.stat("bodies") >= 2 * u64::from(PACKETS));
    let grown = resident_kb().saturating_sub(first);
    // One more flood kept would be 470 MB of packets alone.
    assert!(grown < 100_000, "{grown} kB");
    let messages = consumer.messages();
    let bodies = messages.iter().filter(|m| m.structure().is_some_and(|s| s.name() == "cvmmapsrc-bodies"));
    let told = bodies.count() as u64;
    assert!(told <= 1024, "{told}");
    assert!(consumer.stat("bodies-untold") >= u64::from(PACKETS));
}
