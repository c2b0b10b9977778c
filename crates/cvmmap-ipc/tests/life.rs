// SPDX-License-Identifier: MPL-2.0

//! A reader and a producer in one process: how the reader follows a segment through its life.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_ipc::{
    Cause, Coherence, Event, FrameId, Metadata, MetadataError, Plane, PlaneKind, Producer, ProducerError,
    Reader, ReaderConfig, ReaderError, Refusal, SyncMessage, Target, Verdict, Version,
};

const WAIT: Option<Duration> = Some(Duration::from_secs(60));

/// A name of its own per test, so that they can run side by side.
fn target(name: &str) -> Target {
    format!("ipc-{name}-{}", std::process::id()).parse().unwrap()
}

fn gray(count: u32, side: u32) -> (Metadata, Vec<u8>) {
    let left = Plane::packed(PlaneKind::Left, PixelFormat::Gray, Depth::U8, side, side).unwrap();
    let frame = FrameId { count, timestamp_ns: unix_now_ns() };
    (Metadata::new(Version::V2, frame, [left]), vec![count as u8; (side * side) as usize])
}

fn publish(producer: &mut Producer, count: u32, side: u32) {
    let (metadata, payload) = gray(count, side);
    producer.publish(&metadata, &payload).unwrap();
}

/// A reader whose subscription is known to have arrived, and that has heard of all: `producer` publishes frame 0 until
/// then.
fn connected(producer: &mut Producer, coherence: Coherence) -> Reader {
    let mut reader = Reader::open(ReaderConfig::new(producer.target(), coherence)).unwrap();
    for _ in 0..500 {
        let (metadata, payload) = gray(0, 16);
        producer.publish(&metadata, &payload).unwrap();
        // Earlier ones may be on their way; behind the last there is nothing.
        while let Event::Arrival(arrival) = reader.wait(Some(Duration::from_millis(50))).unwrap() {
            if arrival.frame == metadata.frame {
                return reader;
            }
        }
    }
    panic!("the reader never heard the producer");
}

/// Publishes a frame again and again from another thread until the reader accepts it.
fn read(reader: &mut Reader, producer: &mut Producer, count: u32, side: u32) -> Vec<u8> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                publish(producer, count, side);
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        let picture = loop {
            let Event::Arrival(arrival) = reader.wait(WAIT).unwrap() else {
                break Err("nothing was announced");
            };
            let Ok(mut frame) = reader.begin(&arrival) else { continue };
            let left = *frame.metadata().plane(PlaneKind::Left).unwrap();
            let mut picture = vec![0; left.size as usize];
            if arrival.frame.count == count && frame.copy_plane(&left, &mut picture) == Verdict::Accept {
                break Ok(picture);
            }
        };
        done.store(true, Ordering::Relaxed);
        picture.unwrap()
    })
}

#[test]
fn a_reader_comes_first_and_follows_growth_shrinking_and_restarts() {
    let target = target("life");
    let mut reader = Reader::open(ReaderConfig::new(&target, Coherence::Verify)).unwrap();
    assert_eq!(reader.wait(Some(Duration::from_millis(20))).unwrap(), Event::TimedOut);
    assert!(!reader.segment_exists());

    let mut producer = Producer::create(&target, 16 * 16).unwrap();
    assert_eq!(read(&mut reader, &mut producer, 1, 16), vec![1; 256]);
    // Grown: the old mapping is too short for it.
    assert_eq!(read(&mut reader, &mut producer, 2, 300), vec![2; 90_000]);
    assert_eq!(reader.counters().reopens, 0);
    // Shrunk, then used again.
    producer.resize(100).unwrap();
    assert_eq!(read(&mut reader, &mut producer, 3, 10), vec![3; 100]);

    let inode = reader.segment_inode();
    drop(producer);
    let mut producer = Producer::create(&target, 16 * 16).unwrap();
    assert_eq!(read(&mut reader, &mut producer, 1, 20), vec![1; 400]);
    assert_ne!(reader.segment_inode(), inode);
    let counters = reader.counters();
    assert_eq!((counters.reopens, counters.resets), (1, 1), "{counters:?}");
    assert!(counters.accepted >= 4);
}

#[test]
fn a_segment_cut_short_is_refused_not_fatal() {
    let target = target("cut");
    let mut producer = Producer::create(&target, 256 * 256).unwrap();
    let mut reader = connected(&mut producer, Coherence::Metadata);
    let file =
        std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/{}", target.shm_name())).unwrap();

    let (metadata, payload) = gray(1, 256);
    producer.publish(&metadata, &payload).unwrap();
    let Event::Arrival(arrival) = reader.wait(WAIT).unwrap() else { panic!() };
    let mut frame = reader.begin(&arrival).unwrap();
    // Between the look at the header and the copy.
    file.set_len(256 + 4096).unwrap();
    let left = *frame.metadata().plane(PlaneKind::Left).unwrap();
    let mut picture = vec![0; left.size as usize];
    assert_eq!(frame.copy_plane(&left, &mut picture), Verdict::Refuse(Cause::PagesLost));
    // Inside a page: no fault, but zeros that are not the frame's.
    let error = reader.begin(&arrival).err().unwrap();
    let beyond = MetadataError::BeyondSegment { payload: 65536, mapped: 4096 };
    assert_eq!(error, Refusal::Invalid { name: target.shm_name(), error: beyond });
    file.set_len(100).unwrap();
    let error = reader.begin(&arrival).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("segment '{}' has 100 bytes, 256 are needed for the metadata alone", target.shm_name())
    );
    assert_eq!((reader.counters().lost, reader.counters().invalid), (3, 0));
}

#[test]
fn queued_announcements_are_late_under_verify_and_the_newest_under_metadata() {
    let target = target("late");
    let mut producer = Producer::create(&target, 256).unwrap();
    let mut verify = connected(&mut producer, Coherence::Verify);
    let mut newest = connected(&mut producer, Coherence::Metadata);
    for count in 1..=5 {
        publish(&mut producer, count, 16);
    }
    std::thread::sleep(Duration::from_secs(1));
    let Event::Arrival(arrival) = newest.wait(WAIT).unwrap() else { panic!() };
    assert_eq!((arrival.frame.count, arrival.fresh), (5, false));
    assert_eq!(verify.wait(Some(Duration::from_millis(50))).unwrap(), Event::TimedOut);
    assert!(verify.counters().late >= 5);
}

#[test]
fn next_sync_hands_a_frame_on_once_the_next_is_announced() {
    let target = target("next");
    let mut producer = Producer::create(&target, 256).unwrap();
    let mut reader = connected(&mut producer, Coherence::NextSync);
    let mut verdicts = Vec::new();
    for count in 1..=3 {
        publish(&mut producer, count, 16);
        let Event::Arrival(arrival) = reader.wait(WAIT).unwrap() else { panic!() };
        assert_eq!(arrival.frame.count, count);
        verdicts.push(arrival.settled);
        let mut frame = reader.begin(&arrival).unwrap();
        let left = *frame.metadata().plane(PlaneKind::Left).unwrap();
        assert_eq!(frame.copy_plane(&left, &mut [0; 256]), Verdict::AwaitNext);
    }
    assert_eq!(verdicts, [None, Some(Verdict::Accept), Some(Verdict::Accept)]);
    assert_eq!(reader.counters().accepted, 2);

    // Media time is no Unix time: nothing could ever be proven.
    let (mut metadata, payload) = gray(4, 16);
    metadata.frame.timestamp_ns = 1_000_000;
    producer.publish(&metadata, &payload).unwrap();
    let Event::Arrival(arrival) = reader.wait(WAIT).unwrap() else { panic!() };
    assert_eq!(arrival.settled, Some(Verdict::Refuse(Cause::Unproven)));
    assert_eq!(reader.begin(&arrival).err(), Some(Refusal::Incoherent(Cause::ForeignClock)));
}

#[test]
fn garbage_and_other_labels_are_ignored_and_counted() {
    let target = target("garbage");
    let mut producer = Producer::create(&target, 256).unwrap();
    let mut reader = connected(&mut producer, Coherence::Metadata);
    let other = SyncMessage { frame: FrameId { count: 9, timestamp_ns: 9 }, label: "other".into() };
    producer.send_raw(b"").unwrap();
    producer.send_raw(&[0x7d; 47]).unwrap();
    producer.send_raw(&[0xff; 48]).unwrap();
    producer.send_raw(&other.to_bytes().unwrap()).unwrap();
    publish(&mut producer, 1, 16);
    // Garbage behind an announcement does not hide it.
    producer.send_raw(&[0; 4000]).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let Event::Arrival(arrival) = reader.wait(WAIT).unwrap() else { panic!() };
    assert_eq!(arrival.frame.count, 1);
    assert!(reader.begin(&arrival).is_ok());
    assert_eq!(reader.counters().ignored_messages, 5);
}

#[test]
fn a_waker_ends_waits_until_it_is_cleared() {
    let mut reader = Reader::open(ReaderConfig::new(&target("wake"), Coherence::Verify)).unwrap();
    let waker = reader.waker();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(30));
            waker.wake();
        });
        assert_eq!(reader.wait(None).unwrap(), Event::Woken);
    });
    assert_eq!(reader.wait(None).unwrap(), Event::Woken);
    waker.clear();
    assert_eq!(reader.wait(Some(Duration::from_millis(5))).unwrap(), Event::TimedOut);
}

#[test]
fn a_producer_owns_its_name_until_it_ends() {
    let target = target("owner");
    let path = format!("/dev/shm/{}", target.shm_name());
    let producer = Producer::create(&target, 16).unwrap();
    assert!(matches!(Producer::create(&target, 16), Err(ProducerError::Busy(_))));
    assert!(std::fs::exists(&path).unwrap());
    drop(producer);
    assert!(!std::fs::exists(&path).unwrap());
    // Producers that are not ours take no lock, but they listen.
    let socket = std::os::unix::net::UnixListener::bind(target.socket_path()).unwrap();
    assert!(matches!(Producer::create(&target, 16), Err(ProducerError::Busy(_))));
    drop(socket);
    // What a killed producer left behind is replaced.
    std::fs::write(&path, [1; 5000]).unwrap();
    let producer = Producer::create(&target, 16).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 256 + 16);
    drop(producer);
}

#[test]
fn unreachable_endpoints_are_named() {
    let away: Target = "cvmmap://a@/nonexistent/folder".parse().unwrap();
    let error = Reader::open(ReaderConfig::new(&away, Coherence::Verify)).err().unwrap();
    assert!(
        matches!(error, ReaderError::Unreachable(_)) && error.to_string().contains("'/nonexistent/folder'")
    );
    let error = Producer::create(&away, 16).err().unwrap();
    assert!(matches!(error, ProducerError::Unreachable(_)), "{error}");
    assert!(!std::fs::exists(format!("/dev/shm/{}", away.shm_name())).unwrap());
    let mut config = ReaderConfig::new(&"a".parse().unwrap(), Coherence::Verify);
    config.endpoint = "nonsense".into();
    let error = Reader::open(config).err().unwrap().to_string();
    assert!(error.contains("'nonsense'"), "{error}");
}

#[test]
fn a_frame_that_did_not_reach_the_segment_is_not_announced() {
    let mut producer = Producer::create(&target("cutwrite"), 256 * 256).unwrap();
    let (metadata, payload) = gray(1, 256);
    let mut frame = producer.begin(&metadata).unwrap();
    let path = format!("/dev/shm/{}", target("cutwrite").shm_name());
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap();
    frame.write(0, &payload).unwrap();
    let error = frame.commit().unwrap_err().to_string();
    assert!(error.contains("cannot be written: /dev/shm is full, or the segment was cut"), "{error}");
    // The next one is whole again.
    producer.publish(&metadata, &payload).unwrap();
}

#[test]
fn writes_outside_the_payload_are_refused() {
    let mut producer = Producer::create(&target("outside"), 256).unwrap();
    let (metadata, _) = gray(1, 16);
    let mut frame = producer.begin(&metadata).unwrap();
    let error = frame.write(250, &[0; 7]).unwrap_err().to_string();
    assert_eq!(error, "7 bytes at 250 are not inside the frame's payload of 256 bytes");
}
