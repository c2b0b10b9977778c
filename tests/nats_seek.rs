// SPDX-License-Identifier: MPL-2.0

//! Seeks on a replaying producer, from a pipeline, from gst-play-1.0, and where they have to be refused. What a seek
//! shows first is compared with what the producer, in Python, says that it landed on.

mod common;

use std::time::Duration;

use common::nats::Nats;
use common::nats_peer::Producer;
use common::*;
use gst::prelude::*;

const MS: gst::ClockTime = gst::ClockTime::MSECOND;
const FRAME_MS: u64 = 40;

/// `cvmmapsrc ! fakesink sync=true`, and the frames that come through.
struct Player {
    pipeline: gst::Pipeline,
    source: gst::Element,
    shown: std::sync::mpsc::Receiver<Shown>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    count: u64,
    discont: bool,
    running: gst::ClockTime,
    stream: gst::ClockTime,
}

impl Player {
    fn new(target: &str, url: &str, more: &str) -> Self {
        init();
        let launch = format!(
            "cvmmapsrc name=src uri=cvmmap://{target} nats-url={url} {more} ! queue ! fakesink name=sink sync=true"
        );
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let (send, shown) = std::sync::mpsc::channel();
        let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().unwrap();
            let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
            let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap().clone();
            let pts = buffer.pts().unwrap();
            let _ = send.send(Shown {
                count: buffer.offset(),
                discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
                // Far off where the frame is outside of its segment.
                running: segment.to_running_time(pts).unwrap_or(gst::ClockTime::MAX),
                stream: segment.to_stream_time(pts).unwrap_or(gst::ClockTime::MAX),
            });
            gst::PadProbeReturn::Ok
        });
        let source = pipeline.by_name("src").unwrap();
        Self { pipeline, source, shown }
    }

    fn playing(target: &str, url: &str) -> Self {
        let player = Self::new(target, url, "");
        player.pipeline.set_state(gst::State::Playing).unwrap();
        player.wait_until_seekable();
        player.next();
        player
    }

    fn wait_until_seekable(&self) {
        wait_for("a seekable source", || {
            let mut query = gst::query::Seeking::new(gst::Format::Time);
            self.pipeline.query(&mut query) && query.result().0
        });
    }

    fn next(&self) -> Shown {
        self.shown.recv_timeout(PATIENCE).expect("a frame")
    }

    /// Frames that were shown before the flush are still in the channel.
    fn forget(&self) {
        while self.shown.try_recv().is_ok() {}
    }

    fn seek(&self, to: gst::ClockTime) -> bool {
        self.pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, to).is_ok()
    }

    fn stat(&self, field: &str) -> u64 {
        self.source.property::<gst::Structure>("stats").get(field).unwrap()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn replay(nats: &Nats, target: &str, args: &str) -> Producer {
    Producer::start(target, &nats.url(), &format!("--fps 25 --finite 20 {args}"))
}

/// The first sample at or after a target: its number, and its time.
fn landing(to: gst::ClockTime) -> (u64, gst::ClockTime) {
    let count = to.mseconds().div_ceil(FRAME_MS);
    (count, MS * count * FRAME_MS)
}

#[test]
fn the_first_frame_after_a_seek_is_the_one_landed_on() {
    let nats = Nats::start();
    for (name, args) in [("both", ""), ("older", "--dialect older --unknown-fields"), ("loop", "--loop")] {
        let target = unique(&format!("seek-{name}"));
        let mut producer = replay(&nats, &target, args);
        let player = Player::playing(&target, &nats.url());
        assert_eq!(player.pipeline.query_duration::<gst::ClockTime>(), Some(MS * 20_000));
        let mut before = player.next();
        for to in [12_000, 3_000, 3_100, 19_990, 0, 7_777] {
            let to = MS * to;
            player.forget();
            let seen = player.stat("frames");
            assert!(player.seek(to), "{to}");
            let (count, time) = landing(to);
            // What was shown before the flush may still be in the channel.
            let first = std::iter::from_fn(|| Some(player.next())).find(|shown| shown.discont).unwrap();
            assert_eq!((first.count, first.stream), (count, time), "{name}: {to} after {seen} frames");
            assert!(first.running > before.running, "{first:?} {before:?}");
            if to < MS * 19_000 {
                let second = player.next();
                assert!((count + 1..count + 12).contains(&second.count), "{name}: {first:?} {second:?}");
                let position = player.pipeline.query_position::<gst::ClockTime>().unwrap();
                assert!(position >= time && position < time + MS * 2_000, "{name}: {position} at {time}");
                before = second;
            }
        }
        assert_eq!(producer.requests(".source.seek").len(), 6, "{name}");
        producer.tell("quit");
    }
}

#[test]
fn a_storm_of_seeks_ends_where_the_last_one_landed() {
    let nats = Nats::start();
    let target = unique("storm");
    let producer = replay(&nats, &target, "--counts-on");
    let player = Player::playing(&target, &nats.url());
    let mut to = gst::ClockTime::ZERO;
    for n in 1..=50u64 {
        to = MS * (n * 7_919 % 18_000);
        assert!(player.seek(to), "{n}");
    }
    let (_, time) = landing(to);
    wait_for("the last landing", || {
        let shown = player.next();
        shown.stream >= time && shown.stream < time + MS * 1_000
    });
    let later = player.next();
    assert!(later.stream > time && later.stream < time + MS * 3_000, "{later:?} after {time}");
    assert_eq!(producer.requests(".source.seek").len(), 50);
    // A seek is no reset.
    assert_eq!(player.stat("resets"), 0);
}

#[test]
fn stream_time_is_the_producers_from_the_first_frame_through_loops() {
    let nats = Nats::start();
    let target = unique("loops");
    let mut producer = Producer::start(&target, &nats.url(), "--fps 25 --finite 3 --loop");
    // The replay is in its middle when the source comes.
    std::thread::sleep(Duration::from_millis(700));
    let player = Player::playing(&target, &nats.url());
    producer.wait_for_done("loop");
    let mut last = player.next();
    let (mut falls, mut seen) = (0, 0);
    while falls < 2 {
        let shown = player.next();
        assert!(shown.running > last.running);
        let media = MS * shown.count * FRAME_MS;
        let apart = if media > shown.stream { media - shown.stream } else { shown.stream - media };
        assert!(apart <= MS * 700, "{shown:?}");
        falls += usize::from(shown.count < last.count);
        if shown.count < last.count {
            assert_eq!((shown.discont, apart), (true, gst::ClockTime::ZERO), "{shown:?}");
        }
        (last, seen) = (shown, seen + 1);
    }
    assert!(seen > 50);
}

#[test]
fn what_cannot_be_sought_is_refused_and_the_stream_goes_on() {
    let mut nats = Nats::start();
    let target = unique("refused");
    let producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    let refuse = |event: gst::Event, what: &str| {
        assert!(!player.pipeline.send_event(event), "{what}");
        player.forget();
        let next = player.next();
        assert!(!next.discont, "{what}: nothing was flushed: {next:?}");
    };
    let seek = |rate, flags, to: u64| {
        gst::event::Seek::new(
            rate,
            flags,
            gst::SeekType::Set,
            MS * to,
            gst::SeekType::None,
            gst::ClockTime::NONE,
        )
    };
    let flush = gst::SeekFlags::FLUSH;
    refuse(seek(1.0, flush, 20_001), "outside the timeline");
    refuse(seek(2.0, flush, 1_000), "rate");
    refuse(seek(1.0, gst::SeekFlags::empty(), 1_000), "not flushing");
    assert_eq!(producer.requests(".source.seek").len(), 0);
    nats.kill();
    wait_for("the outage", || {
        player.source.property::<gst::Structure>("stats").get::<String>("nats").unwrap() == "down"
    });
    refuse(seek(1.0, flush, 1_000), "no server");
    nats.restart();
    wait_for("the server's return", || player.seek(MS * 5_000));
    let first = std::iter::from_fn(|| Some(player.next())).find(|shown| shown.discont).unwrap();
    assert_eq!(first.count, 125);
}

#[test]
fn a_producer_that_does_not_answer_a_seek_does_not_end_the_stream() {
    let nats = Nats::start();
    let target = unique("mute");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    // Connected as far as anybody knows, and silent.
    nats.freeze();
    assert!(!player.seek(MS * 5_000));
    player.forget();
    let first = player.next();
    let second = player.next();
    assert!(second.running > first.running);
    nats.thaw();
    wait_for("a seek that is answered", || player.seek(MS * 5_000));
    wait_for("its landing", || player.next().count == 125);
}

#[test]
fn a_live_producer_is_not_sought_and_keeps_its_segment() {
    let nats = Nats::start();
    let target = unique("unseekable");
    let _producer = Producer::start(&target, &nats.url(), "--fps 25");
    let player = Player::new(&target, &nats.url(), "");
    player.pipeline.set_state(gst::State::Playing).unwrap();
    wait_for("the source info", || player.source.property::<Option<gst::Structure>>("source-info").is_some());
    for _ in 0..20 {
        let shown = player.next();
        assert_eq!(shown.stream, shown.running);
    }
    assert!(!player.seek(MS * 100));
    assert_eq!(player.source.query_duration::<gst::ClockTime>(), None);
}

#[test]
fn a_seek_in_paused_is_where_playing_begins() {
    let nats = Nats::start();
    let target = unique("paused");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    player.pipeline.set_state(gst::State::Paused).unwrap();
    let _ = player.pipeline.state(gst::ClockTime::from_seconds(5));
    assert!(player.seek(MS * 10_000));
    assert_eq!(player.source.query_position::<gst::ClockTime>(), Some(MS * 10_000));
    let position = || player.pipeline.query_position::<gst::ClockTime>();
    wait_for("the segment to pass the queue", || position() == Some(MS * 10_000));
    player.forget();
    player.pipeline.set_state(gst::State::Playing).unwrap();
    let first = player.next();
    // The replay went on meanwhile.
    assert!(first.discont && first.stream >= MS * 10_000, "{first:?}");
    assert_eq!(first.stream, MS * first.count * FRAME_MS);
}

#[test]
fn a_stop_position_is_the_end() {
    let nats = Nats::start();
    let target = unique("stop");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    let (start, stop) = (gst::SeekType::Set, gst::SeekType::Set);
    player.pipeline.seek(1.0, gst::SeekFlags::FLUSH, start, MS * 2_000, stop, MS * 3_000).unwrap();
    let bus = player.pipeline.bus().unwrap();
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    let end = bus.timed_pop_filtered(patience, &[gst::MessageType::Eos, gst::MessageType::Error]).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos);
    let last = player.shown.try_iter().last().unwrap();
    assert!(last.stream >= MS * 2_800 && last.stream <= MS * 3_000, "{last:?}");
    // And a seek is a way back.
    assert!(player.seek(MS * 1_000));
    wait_for("the way back", || player.next().count == 25);
}

/// What gst-play-1.0 and other players are made of.
#[test]
fn playbin_plays_and_scrubs_a_replay() {
    init();
    let nats = Nats::start();
    let target = unique("playbin");
    let _producer = replay(&nats, &target, "--loop");
    let (url, sink) =
        (nats.url(), gst::ElementFactory::make("fakesink").property("sync", true).build().unwrap());
    let playbin = gst::ElementFactory::make("playbin3")
        .property("uri", format!("cvmmap://{target}"))
        .property("video-sink", &sink)
        .build()
        .unwrap();
    playbin.connect("source-setup", false, move |args| {
        args[1].get::<gst::Element>().unwrap().set_property("nats-url", &url);
        None
    });
    playbin.set_state(gst::State::Playing).unwrap();
    wait_for("the duration", || playbin.query_duration::<gst::ClockTime>() == Some(MS * 20_000));
    wait_for("a first picture", || sink.property::<Option<gst::Sample>>("last-sample").is_some());
    for to in [12_000, 4_000] {
        let to = MS * to;
        playbin.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, to).unwrap();
        wait_for("the position", || {
            let position = playbin.query_position::<gst::ClockTime>();
            position.is_some_and(|position| position >= to && position < to + MS * 2_000)
        });
        let from = to.mseconds() / FRAME_MS;
        wait_for("a picture from there", || {
            let sample = sink.property::<Option<gst::Sample>>("last-sample");
            sample.is_some_and(|sample| (from..from + 50).contains(&sample.buffer().unwrap().offset()))
        });
    }
    playbin.set_state(gst::State::Null).unwrap();
}
