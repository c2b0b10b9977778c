// SPDX-License-Identifier: MPL-2.0

//! `flvh265mux` over time: two threads, live streams, flushes, stops and restarts.

#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::mux_rig::{Tag, *};
use flv::{Dialect, TagType};
use gst::ClockTime;
use gst::prelude::*;

#[test]
fn two_streams_come_out_in_the_order_of_time() {
    let rig = Rig::new(&[], true);
    let video = rig.video.clone();
    let audio = rig.audio().clone();
    // Each from a thread of its own, much further than the queue holds.
    let threads = [
        std::thread::spawn(move || {
            begin(&video, &h264(1));
            (0..1000).for_each(|n| push(&video, n * 40, n % 25 == 0));
            eos(&video);
        }),
        std::thread::spawn(move || {
            begin(&audio, &aac());
            (0..2000).for_each(|n| push(&audio, n * 20 + 5, true));
            eos(&audio);
        }),
    ];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let frames: Vec<Tag> = rig.tags().into_iter().skip(3).collect();
    assert_eq!(frames.len(), 3000);
    assert!(frames.is_sorted_by_key(Tag::ms));
    assert_eq!(rig.stat("timestamp-corrections"), 0);
    assert_eq!((rig.stat("video-tags"), rig.stat("audio-tags"), rig.stat("key-frames")), (1000, 2000, 40));
    assert!(rig.ended());
}

#[test]
fn one_thread_may_feed_both_pads() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    for n in 0..100 {
        push(&rig.video, n * 40, n == 0);
        push(rig.audio(), n * 40, true);
    }
    assert!(rig.frames().len() >= 99);
}

#[test]
fn a_gap_of_the_sound_does_not_hold_the_picture_back() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    push(rig.audio(), 0, true);
    assert!(rig.audio().push_event(gst::event::Gap::builder(20 * MS).duration(1000 * MS).build()));
    for n in 0..10 {
        push(&rig.video, n * 40, n == 0);
    }
    assert_eq!(rig.frames().len(), 10);
    eos(rig.audio());
    push(&rig.video, 2000, false);
    assert_eq!(rig.frames().len(), 11, "nor does its end");
}

#[test]
fn a_live_picture_waits_for_late_sound_no_longer_than_its_latency() {
    let rig = Rig::with_latency(&[("latency", "20000000")], true, Some(50 * MS));
    let mut query = gst::query::Latency::new();
    assert!(rig.mux.static_pad("src").unwrap().query(&mut query));
    assert_eq!(query.result(), (true, 70 * MS, None));
    begin(&rig.video, &h264(1));
    // No sound at all: the header goes without it, a second late, and the file header does not promise it.
    let now = || rig.mux.current_running_time().unwrap();
    push(&rig.video, 0, true);
    assert!(now() >= 1070 * MS);
    // Each picture leaves at its deadline, not before.
    let next = (now() + 30 * MS).mseconds();
    for ms in [next, next + 40] {
        push(&rig.video, ms, false);
        assert!(now() >= (ms + 70) * MS);
    }
    assert_eq!(rig.frames().len(), 3);
    let flags = match rig.items().into_iter().find(|item| matches!(item, Item::Buffer(_))) {
        Some(Item::Buffer(buffer)) => buffer.map_readable().unwrap()[4],
        _ => unreachable!(),
    };
    assert_eq!(flags, 1);
    // It comes late: its sequence header first, its times raised to the picture's.
    begin(rig.audio(), &aac());
    rig.audio().push(unit(Some(10 * MS), None, true, b"late")).unwrap();
    let tags = rig.tags();
    let audio: Vec<(u32, &[u8])> = tags
        .iter()
        .filter(|tag| tag.header.tag_type == TagType::Audio)
        .map(|tag| (tag.ms(), tag.payload.as_slice()))
        .collect();
    let last = next as u32 + 40;
    assert_eq!(audio, [(last, [0x11, 0x90].as_slice()), (last, b"late")]);
    assert_eq!(rig.stat("timestamp-corrections"), 1);
}

#[test]
fn a_single_live_stream_adds_no_latency_and_leaves_within_the_call() {
    let rig = Rig::with_latency(&[("latency", "500000000")], false, Some(33 * MS));
    let mut query = gst::query::Latency::new();
    assert!(rig.mux.static_pad("src").unwrap().query(&mut query));
    assert_eq!(query.result(), (true, 33 * MS, None));
    begin(&rig.video, &h264(1));
    for n in 0..10 {
        push(&rig.video, n * 40, n == 0);
        assert_eq!(rig.frames().len() as u64, n + 1);
    }
}

/// The thread that was held in the push is the one that brings the next picture: the sound's deadline had passed
/// meanwhile, and the picture after it was taken for late.
#[test]
fn a_sink_that_syncs_makes_no_frame_late() {
    let corrections = || {
        let rig = Rig::with_latency(&[], true, Some(50 * MS));
        let (video, audio) = (rig.video.clone(), rig.audio().clone());
        let now = rig.mux.current_running_time().unwrap().mseconds();
        begin(&video, &h264(1));
        begin(&audio, &aac());
        *rig.hold.lock().unwrap() = Duration::from_millis(150);
        let threads = [
            std::thread::spawn(move || (0..4).for_each(|n| push(&video, now + n * 10, n == 0))),
            std::thread::spawn(move || (0..4).for_each(|n| push(&audio, now + n * 10 + 5, true))),
        ];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        rig.stat("timestamp-corrections")
    };
    // A loaded machine may hold a thread up for longer than it is waited for.
    assert!((0..5).any(|_| corrections() == 0));
}

/// A thread that has run into a full queue.
fn push_until_full(rig: &Rig) -> std::thread::JoinHandle<Result<(), gst::FlowError>> {
    begin(&rig.video, &h264(1));
    let pad = rig.video.clone();
    let pushed = Arc::new(Mutex::new(0));
    let count = pushed.clone();
    let thread = std::thread::spawn(move || {
        for n in 0..10_000u64 {
            pad.push(unit(Some(n * MS), None, n == 0, b"unit"))?;
            *count.lock().unwrap() += 1;
        }
        Ok(())
    });
    let mut last = (0, 0);
    rig.wait_until("a full queue", |_| *pushed.lock().unwrap() > 0);
    common::wait_for("the thread to wait", || {
        let now = *pushed.lock().unwrap();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        last.1 > 20
    });
    assert!(last.0 < 1000, "the queue is bounded");
    thread
}

#[test]
fn a_waiting_thread_is_woken_by_a_stop() {
    let rig = Rig::new(&[], true);
    let thread = push_until_full(&rig);
    rig.mux.set_state(gst::State::Ready).unwrap();
    assert_eq!(thread.join().unwrap(), Err(gst::FlowError::Flushing));
}

#[test]
fn a_waiting_thread_is_woken_by_a_flush() {
    let rig = Rig::new(&[], true);
    let thread = push_until_full(&rig);
    assert!(rig.video.push_event(gst::event::FlushStart::new()));
    assert_eq!(thread.join().unwrap(), Err(gst::FlowError::Flushing));
    assert!(rig.video.push_event(gst::event::FlushStop::new(true)));
    segment(&rig.video, 0);
    push(&rig.video, 0, true);
    eos(rig.audio());
    let times: Vec<u32> = rig.frames().iter().map(Tag::ms).collect();
    assert_eq!(times, [0], "what had waited is gone");
}

#[test]
fn a_waiting_thread_is_woken_by_the_release_of_either_pad() {
    let rig = Rig::new(&[], true);
    let thread = push_until_full(&rig);
    rig.mux.release_request_pad(&rig.audio().peer().unwrap());
    assert_eq!(thread.join().unwrap(), Ok(()), "the picture waits for no sound any more");
    assert_eq!(rig.frames().len(), 10_000);

    let rig = Rig::new(&[], true);
    let thread = push_until_full(&rig);
    rig.mux.release_request_pad(&rig.video.peer().unwrap());
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn a_flush_begins_the_stream_anew() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h265(1));
    push(&rig.video, 0, true);
    push(&rig.video, 5000, false);
    assert!(rig.video.push_event(gst::event::FlushStart::new()));
    assert!(rig.video.push_event(gst::event::FlushStop::new(true)));
    assert!(rig.video.push_event(gst::event::Segment::new(&gst::FormattedSegment::<ClockTime>::new())));
    rig.out.0.lock().unwrap().clear();
    push(&rig.video, 40, true);
    let kinds: Vec<(bool, u32)> = rig.tags().iter().map(|tag| (tag.is_header(), tag.ms())).collect();
    assert_eq!(kinds, [(false, 0), (true, 0), (false, 40)], "metadata, sequence header, frame");
}

#[test]
fn restarts_begin_a_new_stream_each() {
    let rig = Rig::new(&[("mode", "domestic")], true);
    for state in [gst::State::Null, gst::State::Ready, gst::State::Null] {
        begin(&rig.video, &h265(1));
        begin(rig.audio(), &aac());
        for n in 0..5 {
            push(&rig.video, n * 40, n == 0);
            push(rig.audio(), n * 40, true);
        }
        eos(&rig.video);
        eos(rig.audio());
        assert_eq!(rig.tags().len(), 13);
        assert_eq!(rig.stat("video-tags"), 5);
        assert!(rig.video.push(unit(Some(MS), None, true, b"unit")).is_err(), "after EOS");
        rig.mux.set_state(state).unwrap();
        for pad in [&rig.video, rig.audio()] {
            pad.set_active(false).unwrap();
        }
        rig.out.0.lock().unwrap().clear();
        rig.start();
    }
    rig.no_error();
}

#[test]
fn mode_does_not_change_while_playing() {
    let rig = Rig::new(&[], false);
    rig.mux.set_property_from_str("mode", "domestic");
    begin(&rig.video, &h265(1));
    push(&rig.video, 0, true);
    assert_eq!(rig.frames()[0].dialect, Some(Dialect::Enhanced));
}

#[test]
fn eos_without_a_frame_passes() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h265(1));
    eos(&rig.video);
    eos(rig.audio());
    assert!(rig.ended());
    rig.no_error();
}

#[test]
fn what_cannot_be_rewritten_is_warned_of_and_streamed() {
    let rig = Rig::new(&[("streamable", "false")], false);
    begin(&rig.video, &h265(1));
    push(&rig.video, 0, true);
    let message = rig.bus.pop_filtered(&[gst::MessageType::Warning]).expect("a warning");
    let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
    assert!(warning.error().to_string().contains("downstream cannot seek"));
    eos(&rig.video);
    assert_eq!(rig.tags().len(), 3);
}

fn flush(pad: &gst::Pad) {
    assert!(pad.push_event(gst::event::FlushStart::new()));
    assert!(pad.push_event(gst::event::FlushStop::new(true)));
}

/// A segment from `start` seconds on.
fn segment(pad: &gst::Pad, start: u64) {
    let mut segment = gst::FormattedSegment::<ClockTime>::new();
    segment.set_start(ClockTime::from_seconds(start));
    assert!(pad.push_event(gst::event::Segment::new(&segment)));
}

fn push_at(pad: &gst::Pad, seconds: u64, ms: u64, key: bool) {
    push(pad, seconds * 1000 + ms, key);
}

#[test]
fn one_pads_flush_leaves_the_other_its_segment_and_its_end() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    segment(rig.audio(), 3600);
    push(&rig.video, 0, true);
    push_at(rig.audio(), 3600, 0, true);
    flush(&rig.video);
    segment(&rig.video, 0);
    rig.out.0.lock().unwrap().clear();
    push(&rig.video, 40, true);
    push_at(rig.audio(), 3600, 60, true);
    eos(rig.audio());
    push(&rig.video, 80, false);
    eos(&rig.video);
    let times: Vec<u32> = rig.tags().iter().skip(3).map(Tag::ms).collect();
    assert_eq!(times, [40, 60, 80]);
    assert!(rig.ended());

    // The end of one, then the other's flush.
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    push(rig.audio(), 0, true);
    eos(rig.audio());
    flush(&rig.video);
    segment(&rig.video, 0);
    push(&rig.video, 0, true);
    eos(&rig.video);
    assert!(rig.ended());
}

#[test]
fn during_one_pads_flush_the_other_goes_on_into_its_queue() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    push(&rig.video, 0, true);
    push(rig.audio(), 0, true);
    assert!(rig.video.push_event(gst::event::FlushStart::new()));
    rig.out.0.lock().unwrap().clear();
    for n in 0..3 {
        push(rig.audio(), 100 + n * 20, true);
    }
    assert!(rig.tags().is_empty());
    assert!(rig.video.push_event(gst::event::FlushStop::new(true)));
    segment(&rig.video, 0);
    push(&rig.video, 100, true);
    eos(rig.audio());
    eos(&rig.video);
    let times: Vec<u32> = rig.tags().iter().skip(3).map(Tag::ms).collect();
    assert_eq!(times, [100, 100, 120, 140]);
}

#[test]
fn a_seek_flushes_once_and_each_pad_keeps_its_new_segment() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    push(&rig.video, 0, true);
    push(rig.audio(), 0, true);
    rig.out.0.lock().unwrap().clear();
    // What a source does with a seek, within the event.
    for pad in [&rig.video, rig.audio()] {
        pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, |pad, info| {
            if info.event().is_some_and(|event| event.type_() == gst::EventType::Seek) {
                flush(pad);
                segment(pad, 10);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
    }
    let seek = gst::event::Seek::new(
        1.,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        ClockTime::from_seconds(10),
        gst::SeekType::None,
        ClockTime::NONE,
    );
    assert!(rig.mux.send_event(seek));
    push_at(&rig.video, 10, 0, true);
    push_at(rig.audio(), 10, 20, true);
    push_at(&rig.video, 10, 40, false);
    eos(rig.audio());
    eos(&rig.video);
    let types: Vec<gst::EventType> = rig.events();
    use gst::EventType as E;
    assert_eq!(types, [E::FlushStart, E::FlushStop, E::Caps, E::Segment, E::Eos]);
    let times: Vec<u32> = rig.tags().iter().skip(3).map(Tag::ms).collect();
    assert_eq!(times, [0, 20, 40]);
}

#[test]
fn a_flush_that_a_stop_or_a_release_cuts_short_is_over() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h264(1));
    assert!(rig.video.push_event(gst::event::FlushStart::new()));
    rig.mux.set_state(gst::State::Ready).unwrap();
    for pad in [&rig.video, rig.audio(), &rig.drain] {
        pad.set_active(false).unwrap();
    }
    rig.drain.set_active(true).unwrap();
    rig.start();
    begin(&rig.video, &h264(1));
    rig.out.0.lock().unwrap().clear();
    assert!(rig.video.push_event(gst::event::FlushStart::new()));
    assert_eq!(rig.events(), [gst::EventType::FlushStart]);
    assert!(rig.audio().push_event(gst::event::FlushStart::new()));
    assert!(rig.video.push_event(gst::event::FlushStop::new(true)));
    assert_eq!(rig.events(), [gst::EventType::FlushStart], "the sound is not done");
    rig.mux.release_request_pad(&rig.audio().peer().unwrap());
    assert_eq!(rig.events(), [gst::EventType::FlushStart, gst::EventType::FlushStop]);
    segment(&rig.video, 0);
    push(&rig.video, 0, true);
    assert_eq!(rig.frames().len(), 1);
}

#[test]
fn after_the_end_nothing_is_taken() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    push(&rig.video, 0, true);
    eos(&rig.video);
    let late = gst::Pad::builder(gst::PadDirection::Src).name("late").build();
    late.link(&rig.mux.request_pad_simple("audio").unwrap()).unwrap();
    late.set_active(true).unwrap();
    begin(&late, &aac());
    assert_eq!(late.push(unit(Some(MS), None, true, b"late")), Err(gst::FlowError::Eos));
}

#[test]
fn b_frames_of_a_live_stream_are_waited_for_and_the_latency_says_so() {
    let rig = Rig::with_latency(&[], true, Some(10 * MS));
    begin(&rig.video, &h264(1));
    begin(rig.audio(), &aac());
    let now = rig.mux.current_running_time().unwrap().mseconds();
    // The picture of now is decoded 80 ms before it is shown, and comes after the sound of that time.
    push(rig.audio(), now - 80.min(now), true);
    let at = |ms: u64| Some((now + ms) * MS);
    let video = rig.video.clone();
    let first = unit(at(80), at(0), true, b"unit");
    let thread = std::thread::spawn(move || video.push(first));
    common::wait_for("the first picture", || rig.stat("video-tags") + rig.stat("audio-tags") > 0);
    eos(rig.audio());
    thread.join().unwrap().unwrap();
    let mut query = gst::query::Latency::new();
    assert!(rig.mux.static_pad("src").unwrap().query(&mut query));
    assert_eq!(query.result(), (true, 90 * MS, None));
    assert!(rig.bus.pop_filtered(&[gst::MessageType::Latency]).is_some(), "it has grown");
    assert_eq!(rig.stat("timestamp-corrections"), 0);
}

#[test]
fn custom_events_are_passed_on() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    let custom = || gst::event::CustomDownstream::new(gst::Structure::new_empty("mark"));
    assert!(rig.video.push_event(custom()));
    push(&rig.video, 0, true);
    assert!(rig.video.push_event(custom()));
    use gst::EventType as E;
    assert_eq!(rig.events(), [E::StreamStart, E::Caps, E::Segment, E::CustomDownstream, E::CustomDownstream]);
}
