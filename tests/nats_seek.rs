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

    /// The last frame that was shown before the stream ended.
    fn last_before_eos(&self) -> Shown {
        self.wait_for_eos();
        self.shown.try_iter().last().expect("a frame before the end")
    }

    fn wait_for_eos(&self) {
        let bus = self.pipeline.bus().unwrap();
        let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
        let end = bus.timed_pop_filtered(patience, &[gst::MessageType::Eos, gst::MessageType::Error]);
        assert_eq!(end.expect("the end").type_(), gst::MessageType::Eos);
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
    let _alone = alone();
    let mut exact = 0;
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
            assert_eq!(first.stream, MS * first.count * FRAME_MS, "{name}: {to} after {seen} frames");
            // On a loaded machine the reader may be given one that follows; of 501 it is one of the next.
            let behind = (first.count + 501 - count) % 501;
            assert!(behind < 12, "{name}: {to} after {seen} frames: {first:?}");
            exact += usize::from(behind == 0);
            assert!(first.running > before.running, "{first:?} {before:?}");
            if to < MS * 19_000 {
                let second = player.next();
                assert!(second.count > first.count, "{name}: {first:?} {second:?}");
                let position = player.pipeline.query_position::<gst::ClockTime>().unwrap();
                assert!(position >= time, "{name}: {position} at {time}");
                before = second;
            }
        }
        assert_eq!(producer.requests(".source.seek").len(), 6, "{name}");
        producer.tell("quit");
    }
    assert!(exact >= 3, "{exact} of 18 began with what was landed on");
}

#[test]
fn a_storm_of_seeks_ends_where_the_last_one_landed() {
    let _alone = alone();
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
    let _alone = alone();
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
fn the_largest_numbers_are_no_end_and_end_nothing() {
    let nats = Nats::start();
    let target = unique("no-end");
    let _producer = Producer::start(&target, &nats.url(), "--fps 25 --finite 1 --loop --no-end");
    let player = Player::playing(&target, &nats.url());
    assert_eq!(player.pipeline.query_duration::<gst::ClockTime>(), None);
    let shown: Vec<Shown> = (0..60).map(|_| player.next()).collect();
    assert!(shown.iter().any(|shown| shown.count == 25), "the frame of the largest number");
    assert!(shown.windows(2).all(|pair| pair[0].running < pair[1].running), "{shown:?}");
    for (to, count) in [(9_000, 25), (400, 10)] {
        player.forget();
        assert!(player.seek(MS * to), "{to}");
        // It loops each second: what was shown before the seek may be in the channel.
        wait_for("the landing", || player.next().count == count);
    }
    player.next();
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
    refuse(seek(1.0, flush | gst::SeekFlags::SEGMENT, 1_000), "a segment");
    assert_eq!(producer.requests(".source.seek").len(), 0);
    nats.kill();
    wait_for("the outage", || {
        player.source.property::<gst::Structure>("stats").get::<String>("nats").unwrap() == "down"
    });
    refuse(seek(1.0, flush, 1_000), "no server");
    nats.restart();
    wait_for("the server's return", || player.seek(MS * 5_000));
    let first = std::iter::from_fn(|| Some(player.next())).find(|shown| shown.discont).unwrap();
    assert!((125..137).contains(&first.count), "{first:?}");
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
    wait_for("its landing", || (125..137).contains(&player.next().count));
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
fn the_segment_of_a_replay_goes_with_it() {
    let nats = Nats::start();
    let target = unique("goes");
    let mut producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    assert!(player.seek(MS * 15_000));
    wait_for("the landing", || player.next().stream >= MS * 15_000);
    player.pipeline.set_state(gst::State::Paused).unwrap();
    producer.tell("quit");
    producer.wait_for_done("quit");
    drop(producer);
    let _live = Producer::start(&target, &nats.url(), "--fps 25");
    let is_live = || {
        let info = player.source.property::<Option<gst::Structure>>("source-info");
        info.is_some_and(|info| info.get("source-kind") == Ok("live"))
    };
    wait_for("the other source", is_live);
    player.forget();
    player.pipeline.set_state(gst::State::Playing).unwrap();
    // The sink may still hold a frame of before the pause.
    wait_for("time that is nobody's timeline", || {
        let shown = player.next();
        shown.stream == shown.running
    });
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
fn a_seek_before_the_first_frame_pushes_no_segment_before_caps() {
    let nats = Nats::start();
    let target = unique("paused-first");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::new(&target, &nats.url(), "");
    let pad = player.source.static_pad("src").unwrap();
    let (send, early) = std::sync::mpsc::channel();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let segment = info.event().is_some_and(|event| event.type_() == gst::EventType::Segment);
        if segment && pad.current_caps().is_none() {
            let _ = send.send(());
        }
        gst::PadProbeReturn::Ok
    });
    player.pipeline.set_state(gst::State::Paused).unwrap();
    wait_for("the source info", || player.source.property::<Option<gst::Structure>>("source-info").is_some());
    let to = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        MS * 10_000,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    assert!(player.source.send_event(to));
    assert_eq!(player.source.query_position::<gst::ClockTime>(), Some(MS * 10_000));
    player.pipeline.set_state(gst::State::Playing).unwrap();
    assert!(player.next().stream >= MS * 10_000);
    assert_eq!(early.try_iter().count(), 0, "segments before caps");
}

#[test]
fn a_stop_position_is_the_end() {
    let nats = Nats::start();
    let target = unique("stop");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    let (start, stop) = (gst::SeekType::Set, gst::SeekType::Set);
    player.pipeline.seek(1.0, gst::SeekFlags::FLUSH, start, MS * 2_000, stop, MS * 3_000).unwrap();
    let last = player.last_before_eos();
    assert!(last.stream >= MS * 2_000 && last.stream <= MS * 3_000, "{last:?}");
    // And a seek is a way back.
    assert!(player.seek(MS * 1_000));
    wait_for("the way back", || (25..37).contains(&player.next().count));
}

#[test]
fn a_stop_at_the_end_is_the_end_whether_a_loop_or_silence_follows() {
    let nats = Nats::start();
    for args in ["--loop", ""] {
        let target = unique("stop-end");
        let _producer = Producer::start(&target, &nats.url(), &format!("--fps 25 --finite 3 {args}"));
        let player = Player::playing(&target, &nats.url());
        let (start, stop) = (gst::SeekType::Set, gst::SeekType::Set);
        // No sample is at the stop or after it.
        player.pipeline.seek(1.0, gst::SeekFlags::FLUSH, start, MS * 2_000, stop, MS * 3_020).unwrap();
        let last = player.last_before_eos();
        assert!(last.stream >= MS * 2_000 && last.stream <= MS * 3_020, "{args}: {last:?}");
    }
}

#[test]
fn a_stop_behind_the_end_is_the_end_where_the_producer_leaves_at_its_own() {
    let nats = Nats::start();
    let target = unique("stop-leaves");
    let mut producer = Producer::start(&target, &nats.url(), "--fps 25 --finite 10");
    let player = Player::playing(&target, &nats.url());
    let (start, stop) = (gst::SeekType::Set, gst::SeekType::Set);
    player.pipeline.seek(1.0, gst::SeekFlags::FLUSH, start, MS * 9_000, stop, MS * 10_020).unwrap();
    producer.wait_for_done("end");
    // Long before it would count as stalled.
    producer.tell("quit");
    let last = player.last_before_eos();
    assert!(last.stream >= MS * 9_000 && last.stream <= MS * 10_020, "{last:?}");
}

#[test]
fn a_landing_on_the_last_frame_that_never_comes_is_the_end() {
    let nats = Nats::start();
    let target = unique("stop-mute");
    let mut producer = replay(&nats, &target, "");
    let player = Player::playing(&target, &nats.url());
    // It answers, and shows nothing.
    producer.tell("pause");
    producer.wait_for_done("pause");
    let (start, stop) = (gst::SeekType::Set, gst::SeekType::Set);
    player.pipeline.seek(1.0, gst::SeekFlags::FLUSH, start, MS * 20_000, stop, MS * 20_020).unwrap();
    player.wait_for_eos();
}

#[test]
fn a_stop_survives_a_seek_that_fails_and_a_pause() {
    let nats = Nats::start();
    let target = unique("stop-kept");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    let (start, stop) = (gst::SeekType::Set, gst::SeekType::Set);
    player.pipeline.seek(1.0, gst::SeekFlags::FLUSH, start, MS * 2_000, stop, MS * 8_000).unwrap();
    player.forget();
    nats.freeze();
    assert!(!player.seek(MS * 1_000), "nobody answers");
    nats.thaw();
    player.pipeline.set_state(gst::State::Paused).unwrap();
    player.pipeline.set_state(gst::State::Playing).unwrap();
    let last = player.last_before_eos();
    assert!(last.stream <= MS * 8_000, "{last:?}");
}

#[test]
fn a_seek_that_fails_in_paused_leaves_the_position() {
    let nats = Nats::start();
    let target = unique("paused-fails");
    let _producer = replay(&nats, &target, "--loop");
    let player = Player::playing(&target, &nats.url());
    assert!(player.seek(MS * 5_000));
    wait_for("the landing", || (125..137).contains(&player.next().count));
    player.pipeline.set_state(gst::State::Paused).unwrap();
    nats.freeze();
    let before = player.source.query_position::<gst::ClockTime>().unwrap();
    assert!(before >= MS * 5_000);
    assert!(!player.source.send_event(gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        MS * 1_000,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    )));
    let after = player.source.query_position::<gst::ClockTime>();
    assert!(after.is_some_and(|after| after >= before && after < MS * 20_000), "{before} {after:?}");
}

#[test]
fn the_frame_after_a_pause_is_discontinuous() {
    let nats = Nats::start();
    let target = unique("pause");
    let mut producer = replay(&nats, &target, "--counts-on");
    let player = Player::playing(&target, &nats.url());
    player.pipeline.set_state(gst::State::Paused).unwrap();
    // Frames go on meanwhile; a pause that is short has no gap to show.
    producer.tell("pause");
    let paused = producer.wait_for_done("pause")["count"].as_u64().unwrap();
    producer.tell("resume");
    std::thread::sleep(Duration::from_secs(2));
    player.forget();
    player.pipeline.set_state(gst::State::Playing).unwrap();
    wait_for("the frame after the pause", || {
        let shown = player.next();
        assert!(shown.discont || shown.count <= paused + 2, "{shown:?} after a pause at {paused}");
        shown.discont
    });
}

#[test]
fn a_producer_that_returns_after_us_stays_known() {
    let mut nats = Nats::start();
    let target = unique("returns");
    let mut producer = replay(&nats, &target, "--loop --reconnect-wait 7");
    let player = Player::playing(&target, &nats.url());
    let changes = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let changed = changes.clone();
    player.source.connect_notify(Some("source-info"), move |_, _| {
        changed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    nats.kill();
    producer.wait_for_done("disconnected");
    // Its next attempt is in vain, and the one after that seconds later.
    std::thread::sleep(Duration::from_secs(1));
    nats.restart();
    let link = || player.source.property::<gst::Structure>("stats").get::<String>("nats").unwrap();
    wait_for("our return", || link() == "up");
    let returned = |line: &serde_json::Value| line["did"] == "reconnected";
    assert!(producer.talker.find(returned).is_none(), "we are back first");
    wait_for("the producer's return", || {
        let shown = player.next();
        let media = MS * shown.count * FRAME_MS;
        let apart = if media > shown.stream { media - shown.stream } else { shown.stream - media };
        assert!(apart <= MS * 700, "{shown:?}");
        assert_eq!(player.pipeline.query_duration::<gst::ClockTime>(), Some(MS * 20_000));
        producer.talker.find(returned).is_some()
    });
    wait_for("a seek", || player.seek(MS * 5_000));
    assert_eq!(changes.load(std::sync::atomic::Ordering::Relaxed), 0);
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
