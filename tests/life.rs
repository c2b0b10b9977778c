// SPDX-License-Identifier: MPL-2.0

//! What a source lives through: producers that come late, die, restart, shrink, reset, go silent; and state changes.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;

fn all_whole(seen: &[Seen]) {
    for frame in seen {
        assert_eq!(frame.whole, Ok(()), "frame {}", frame.count);
    }
}

fn monotonic(seen: &[Seen]) {
    for pair in seen.windows(2) {
        assert!(pair[0].pts < pair[1].pts, "{pair:?}");
    }
}

/// The newest frame of a producer.
fn published(target: &str) -> u32 {
    let info = cvmmap_ipc::peek_segment(&format!("cvmmap_{target}")).unwrap();
    info.header.map_or(0, |header| header.frame.count)
}

/// Pulls until a frame has this width.
fn until_width(consumer: &Consumer, width: i32) -> Vec<Seen> {
    let mut seen = Vec::new();
    let end = Instant::now() + PATIENCE;
    loop {
        seen.push(consumer.next());
        let structure = seen.last().unwrap().caps.structure(0).unwrap().to_owned();
        if structure.get::<i32>("width") == Ok(width) {
            return seen;
        }
        assert!(Instant::now() < end, "no frame of width {width} came");
    }
}

#[test]
fn the_consumer_may_come_first() {
    let _alone = alone();
    let target = unique("first");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    std::thread::sleep(Duration::from_millis(300));
    let _sim = sim(&target, "--fps 60");
    let seen = consumer.take(20);
    all_whole(&seen);
    monotonic(&seen);
    assert_eq!(states(&consumer.messages()), ["waiting", "streaming"]);
    assert!(seen[0].flags.contains(gst::BufferFlags::DISCONT));
}

#[test]
fn a_killed_producer_comes_back_in_the_same_size_and_in_another() {
    let _alone = alone();
    let target = unique("killed");
    let mut producer = sim(&target, "--fps 60 --size 320x240");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    let mut seen = consumer.take(30);
    let forced = force_key_units(&consumer);

    producer.kill();
    producer = sim(&target, "--fps 60 --size 320x240");
    // What is still queued here is of the first run.
    let restarted = |seen: &[Seen]| seen.windows(2).position(|pair| pair[1].count < pair[0].count);
    while restarted(&seen).is_none() {
        seen.push(consumer.next());
    }
    let at = restarted(&seen).unwrap() + 1;
    assert!(seen[at].flags.contains(gst::BufferFlags::DISCONT), "{:?}", seen[at]);
    assert_eq!(forced.try_iter().count(), 1);

    producer.kill();
    let _larger = sim(&target, "--fps 60 --size 640x480");
    seen.extend(until_width(&consumer, 640));
    seen.extend(consumer.take(10));
    all_whole(&seen);
    monotonic(&seen);
    assert_eq!(consumer.stat("reopens"), 2);
    let states = states(&consumer.messages());
    assert!(states.windows(2).any(|pair| pair == ["reset", "streaming"]), "{states:?}");
}

#[test]
fn a_reset_is_told_and_asks_for_a_key_frame() {
    let _alone = alone();
    let target = unique("reset");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target}"));
    let forced = force_key_units(&consumer);
    consumer.play();
    let _sim = sim(&target, "--fps 60 --fault reset@60+60");
    let seen = consumer.take(150);
    all_whole(&seen);
    monotonic(&seen);
    let resets: Vec<&Seen> =
        seen.windows(2).filter(|pair| pair[1].count < pair[0].count).map(|pair| &pair[1]).collect();
    assert!(!resets.is_empty());
    assert!(resets.iter().all(|frame| frame.flags.contains(gst::BufferFlags::DISCONT)), "{resets:?}");
    assert!(forced.try_iter().count() >= resets.len());
    assert!(consumer.stat("resets") >= resets.len() as u64);
}

#[test]
fn a_segment_that_shrinks_and_grows_under_the_reader_kills_nobody() {
    let _alone = alone();
    let target = unique("shrink");
    let _sim = sim(
        &target,
        "--fps 60 --size 640x480 --fault shrink@30+10 --fault shrink@35+10=100000 --fault grow@120",
    );
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    let mut seen = until_width(&consumer, 1280);
    seen.extend(consumer.take(10));
    all_whole(&seen);
    assert!(consumer.stat("lost") + consumer.stat("invalid") > 0, "{}", consumer.stats());
}

#[test]
fn two_consumers_read_one_producer() {
    let _alone = alone();
    let target = unique("two");
    let _sim = sim(&target, "--fps 60");
    let consumers = [(); 2].map(|()| Consumer::playing(&format!("uri=cvmmap://{target}")));
    for consumer in &consumers {
        all_whole(&consumer.take(60));
    }
}

#[test]
fn messages_of_another_label_are_ignored() {
    let _alone = alone();
    let instance = unique("label");
    // Both names derive the same segment and socket; the label differs.
    let producer = format!("cvmmap://{instance}?namespace=cvmmap_a");
    let _sim = sim(&producer, "--fps 100");
    let consumer = Consumer::playing(&format!("uri=cvmmap://a_{instance}"));
    wait_for("ignored messages", || consumer.stat("ignored-messages") > 20);
    assert_eq!(consumer.stat("frames"), 0);
    assert_eq!(states(&consumer.messages()), ["waiting"]);

    // Names given by hand say nothing of the label.
    let base = format!("cvmmap_a_{instance}");
    let by_hand = Consumer::playing(&format!("shm-name={base} zmq-endpoint=ipc:///tmp/{base}"));
    all_whole(&by_hand.take(5));
}

#[test]
fn garbage_between_the_announcements_is_counted_and_harmless() {
    let _alone = alone();
    let target = unique("garbage");
    let _sim = sim(&target, "--fps 60 --fault garbage@5+1=50");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    all_whole(&consumer.take(60));
    wait_for("ignored messages", || consumer.stat("ignored-messages") > 1000);
}

#[test]
fn a_header_that_breaks_a_rule_is_counted_warned_of_once_and_dropped() {
    let _alone = alone();
    let target = unique("invalid");
    let _sim = sim(&target, "--fps 60 --fault invalid@10+2");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    all_whole(&consumer.take(40));
    assert!(consumer.stat("invalid") > 5);
    let warnings: Vec<String> = consumer
        .messages()
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("height is zero"), "{warnings:?}");
}

#[test]
fn silence_is_told_and_ends_the_stream_only_if_asked_to() {
    let _alone = alone();
    let target = unique("silence");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    let _sim = sim(&target, "--fps 30 --fault stall@90=3000");
    consumer.take(100);
    assert_eq!(states(&consumer.messages()), ["waiting", "streaming", "stalled", "streaming"]);

    let ending = Consumer::playing(&format!("uri=cvmmap://{} idle-timeout=300", unique("nobody")));
    assert_eq!(ending.end(), None);
    assert_eq!(ending.errors(), Vec::<String>::new());
}

#[test]
fn null_to_playing_ten_times() {
    let _alone = alone();
    let target = unique("ten");
    let _sim = sim(&target, "--fps 100");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target}"));
    for _ in 0..10 {
        consumer.play();
        all_whole(&consumer.take(3));
        consumer.pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn playing_to_ready_to_playing_starts_afresh() {
    let _alone = alone();
    let target = unique("ready");
    let _sim = sim(&target, "--fps 100");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    all_whole(&consumer.take(5));
    consumer.pipeline.set_state(gst::State::Ready).unwrap();
    let other = unique("other");
    let _other = sim(&other, "--fps 100 --size 320x200");
    consumer.source.set_property("uri", format!("cvmmap://{other}"));
    consumer.play();
    let seen = consumer.take(5);
    all_whole(&seen);
    assert_eq!(seen[0].caps.structure(0).unwrap().get::<i32>("width"), Ok(320));
    assert!(seen[0].flags.contains(gst::BufferFlags::DISCONT));
}

#[test]
fn pausing_does_not_end_the_stream() {
    let _alone = alone();
    let target = unique("pause");
    let _sim = sim(&target, "--fps 60");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} idle-timeout=2000"));
    let before = consumer.take(10);
    consumer.pipeline.set_state(gst::State::Paused).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    wait_for("frames that are missed", || published(&target) > before[9].count + 40);
    while consumer.sink.try_pull_sample(gst::ClockTime::ZERO).is_some() {}
    consumer.play();
    let after = consumer.take(10);
    all_whole(&after);
    monotonic(&after);
    // The first may be the one that the sink held while it was paused.
    assert!(after[1].count > before[9].count + 30, "the newest frame, not what was missed");
}

#[test]
fn a_wait_that_goes_on_through_a_pause_ends_in_no_frame_of_the_future() {
    let _alone = alone();
    for properties in ["", "idle-timeout=2000"] {
        let target = unique("wait-paused");
        let producer = sim(&target, "--fps 60");
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target} {properties}"));
        let last = consumer.take(30).pop().unwrap();
        // The source waits for a frame when the pause begins.
        producer.signal(libc::SIGSTOP);
        while consumer.sink.try_pull_sample(gst::ClockTime::from_mseconds(200)).is_some() {}
        consumer.pipeline.set_state(gst::State::Paused).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        producer.signal(libc::SIGCONT);
        std::thread::sleep(Duration::from_secs(1));
        consumer.play();
        let first = consumer.next();
        let now = consumer.pipeline.current_running_time().unwrap();
        assert!(first.pts > last.pts && first.pts <= now, "{first:?} at {now}");
        assert!(first.flags.contains(gst::BufferFlags::DISCONT), "{first:?}");
        let later = consumer.take(30);
        all_whole(&later);
        let elapsed = later[29].pts - first.pts;
        assert!(elapsed > gst::ClockTime::from_mseconds(200), "time stands still: {elapsed}");
    }
}

#[test]
fn a_flush_ends_the_wait_at_once_and_the_stream_goes_on_after_it() {
    let _alone = alone();
    let target = unique("flush");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    wait_for("the source to wait", || states(&consumer.messages()) == ["waiting"]);
    let done = std::thread::scope(|scope| {
        let flush = scope.spawn(|| {
            consumer.source.send_event(gst::event::FlushStart::new());
            consumer.source.send_event(gst::event::FlushStop::new(true));
        });
        wait_for("the flush", || flush.is_finished());
        flush.join()
    });
    done.unwrap();
    let _sim = sim(&target, "--fps 60");
    all_whole(&consumer.take(5));
    // And so does a state change.
    consumer.pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn after_a_flush_that_resets_the_running_time_frames_go_on_from_there() {
    let _alone = alone();
    for properties in ["", "coherence=next-sync"] {
        let target = unique("reflush");
        let _sim = sim(&target, "--fps 60");
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target} {properties}"));
        let mut last = consumer.take(60).pop().unwrap();
        consumer.source.send_event(gst::event::FlushStart::new());
        let base = consumer.pipeline.clock().unwrap().time();
        consumer.source.set_base_time(base);
        consumer.source.send_event(gst::event::FlushStop::new(true));
        // What was on its way to the sink before the flush has the old time.
        let first = loop {
            let next = consumer.next();
            if next.pts < last.pts {
                break next;
            }
            last = next;
        };
        assert!(first.flags.contains(gst::BufferFlags::DISCONT), "{first:?}");
        let later = consumer.take(30);
        all_whole(&later);
        monotonic(&later);
        let elapsed = later[29].pts - later[0].pts;
        assert!(elapsed > gst::ClockTime::from_mseconds(300), "time stands still: {elapsed}");
    }
}

#[test]
fn a_stalled_sink_gets_the_newest_frame_afterwards() {
    let _alone = alone();
    let target = unique("stall");
    let _sim = sim(&target, "--fps 60");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target}"));
    let pad = consumer.source.static_pad("src").unwrap();
    let stall = std::sync::atomic::AtomicU32::new(0);
    let producer = target.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if stall.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 10 {
            let stalled = info.buffer().unwrap().offset() as u32;
            wait_for("frames that are missed", || published(&producer) > stalled + 90);
        }
        gst::PadProbeReturn::Ok
    });
    consumer.play();
    let seen = consumer.take(40);
    all_whole(&seen);
    let gaps: Vec<u32> = seen.windows(2).map(|pair| pair[1].count - pair[0].count).collect();
    // Behind the eleventh: nothing was queued that now comes late.
    assert!(gaps[10] >= 80, "a stall of ninety frames leaves a gap, not a backlog: {gaps:?}");
}

#[test]
fn the_latency_is_the_measured_frame_interval() {
    let _alone = alone();
    let target = unique("latency");
    let _sim = sim(&target, "--fps 50");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    consumer.take(40);
    let mut query = gst::query::Latency::new();
    assert!(consumer.source.static_pad("src").unwrap().query(&mut query));
    let (live, min, max) = query.result();
    assert!(live && max.is_none());
    assert!((15..=40).contains(&min.mseconds()), "{min} at 20 ms a frame");
    let told =
        consumer.messages().iter().any(|message| matches!(message.view(), gst::MessageView::Latency(_)));
    assert!(told, "a latency message");
}

#[test]
fn capture_time_and_the_unix_time_meta_are_the_producers() {
    let _alone = alone();
    let target = unique("capture");
    let _sim = sim(&target, "--fps 50");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} timestamp-mode=capture"));
    let samples: Vec<gst::Sample> = (0..40).map(|_| consumer.sample()).collect();
    let unix = gst::Caps::new_empty_simple("timestamp/x-unix");
    let times: Vec<(u64, u64)> = samples
        .iter()
        .map(|sample| {
            let buffer = sample.buffer().unwrap();
            let meta = buffer.meta::<gst::ReferenceTimestampMeta>().unwrap();
            assert!(meta.reference().is_subset(&unix));
            (buffer.pts().unwrap().nseconds(), meta.timestamp().nseconds())
        })
        .collect();
    // The same distances in both clocks: what jitter there was in the arrivals is gone.
    for pair in times.windows(2).skip(5) {
        let (pts, stamp) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        assert!(pts.abs_diff(stamp) < 2_000_000, "{pts} {stamp}");
    }
}

#[test]
fn next_sync_refuses_media_time_by_name() {
    let _alone = alone();
    let target = unique("media");
    let _sim = sim(&target, "--fps 60 --timestamps media");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} coherence=next-sync"));
    let error = consumer.end().expect("an error");
    assert!(error.contains("'coherence'") && error.contains("Unix clock"), "{error}");
    // The other levels take it, and have no Unix time to tell of.
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    let sample = consumer.sample();
    let meta = sample.buffer().unwrap().meta::<gst::ReferenceTimestampMeta>().unwrap();
    assert!(meta.reference().is_subset(&gst::Caps::new_empty_simple("timestamp/x-cvmmap-media")));
    assert!(meta.timestamp() < gst::ClockTime::from_seconds(3600), "since its first frame");
}

#[test]
fn the_simulator_cleans_up_after_sigint_and_refuses_a_taken_name() {
    let _alone = alone();
    let target = unique("owner");
    let segment = format!("/dev/shm/cvmmap_{target}");
    let first = sim(&target, "--fps 30");
    let output = run(streamer().args(["sim", &target, "--frames", "1"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&target), "{}", text(&output.stderr));
    first.signal(libc::SIGINT);
    wait_for("the segment to go", || !std::fs::exists(&segment).unwrap());

    let output = run(streamer()
        .args(["sim", &target, "--frames", "30", "--fps", "100", "--json"])
        .stdin(Stdio::null()));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["frames"], 30);
    assert!(!std::fs::exists(&segment).unwrap());
}
