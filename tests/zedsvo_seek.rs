// SPDX-License-Identifier: MPL-2.0

//! Seeks of `zedsvosrc`: what is asked for is what is shown, in times and in frames, forwards and backwards.

mod common;

use common::zedsvo::{Player, Tape, frames, sim};
use cvmmap_streamer::sim::svo2::Recording as Sim;
use gst::prelude::*;
use gst::{ClockTime, SeekFlags, SeekType};
use svo2::Codec;

/// A row of numbers that is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

fn time(tape: &Tape, frame: usize) -> ClockTime {
    ClockTime::from_nseconds(tape.recording.running_ns(frame))
}

fn tape(codec: Codec, gop: u32) -> Tape {
    Tape::new(&Sim { jitter_ns: 9_000_000, lost_before: vec![30], ..sim(codec, 60, gop) })
}

#[test]
fn two_hundred_random_seeks_show_what_was_asked_for() {
    for (codec, gop) in [(Codec::H264, 15), (Codec::H265, 250)] {
        let tape = tape(codec, gop);
        let player = Player::paused(&tape.location());
        let mut numbers = Numbers(7);
        for round in 0..200 {
            let frame = numbers.below(60);
            let flags = SeekFlags::FLUSH | SeekFlags::ACCURATE;
            if round % 2 == 0 {
                // Anywhere until the next frame comes.
                let within = tape.recording.duration_ns(frame) - 1;
                let inside = ClockTime::from_nseconds(numbers.below(within as usize) as u64);
                player.seek(1., flags, time(&tape, frame) + inside, None);
            } else {
                player.source.seek_simple(flags, gst::format::Default::from_usize(frame)).unwrap();
            }
            player.settle();
            let shown = player.sink.try_pull_preroll(common::zedsvo::patience()).unwrap();
            let shown = common::zedsvo::see(&shown);
            assert_eq!((round, shown.frame), (round, frame));
            assert_eq!(shown.pts, time(&tape, frame));
            assert!(shown.bytes() == tape.view(frame, Some(false)), "frame {frame}");
        }
        assert_eq!(player.stat("seeks"), 200);
        player.pipeline.set_state(gst::State::Playing).unwrap();
        player.seek(1., SeekFlags::FLUSH, ClockTime::ZERO, None);
        assert_eq!(frames(&player.rest()), (0..60).collect::<Vec<_>>());
    }
}

#[test]
fn seeks_while_it_plays_never_hang_or_show_what_was_not_asked_for() {
    let tape = tape(Codec::H264, 15);
    let player = Player::new(&tape.location());
    // A sink that prerolls anew while its pipeline is just on the way back to PLAYING stays in PAUSED (GStreamer 1.22).
    player.sink.set_property("async", false);
    player.pipeline.set_state(gst::State::Playing).unwrap();
    let mut numbers = Numbers(3);
    for _ in 0..200 {
        let (frame, length) = (numbers.below(60), numbers.below(20) + 1);
        let stop = frame + length;
        let stop_time = if stop < 60 { Some(time(&tape, stop)) } else { None };
        let rate = if numbers.below(2) == 0 { 1. } else { -1. };
        player.seek(rate, SeekFlags::FLUSH | SeekFlags::ACCURATE, time(&tape, frame), stop_time);
        let taken = numbers.below(length + 2);
        let shown = (0..taken).map_while(|_| player.next()).collect::<Vec<_>>();
        let mut wanted = (frame..stop.min(60)).collect::<Vec<_>>();
        if rate < 0. {
            wanted.reverse();
        }
        assert_eq!(frames(&shown), wanted[..taken.min(wanted.len())]);
        assert!(shown.iter().all(|shown| shown.bytes() == tape.view(shown.frame, Some(false))));
    }
}

#[test]
fn backwards_every_picture_comes_in_turn() {
    for (codec, gop) in [(Codec::H264, 15), (Codec::H265, 250), (Codec::H264, 1)] {
        let tape = tape(codec, gop);
        let player = Player::playing(&tape.location());
        player.seek(-1., SeekFlags::FLUSH | SeekFlags::ACCURATE, ClockTime::ZERO, None);
        let shown = player.rest();
        assert_eq!(frames(&shown), (0..60).rev().collect::<Vec<_>>());
        for shown in &shown {
            assert!(shown.bytes() == tape.view(shown.frame, Some(false)), "frame {}", shown.frame);
            assert_eq!(shown.pts, time(&tape, shown.frame));
        }
        assert_eq!(shown[0].segment.rate(), -1.);
        player.seek(-2., SeekFlags::FLUSH, time(&tape, 20), Some(time(&tape, 40)));
        assert_eq!(frames(&player.rest()), (20..40).rev().collect::<Vec<_>>());
    }
}

#[test]
fn bitstreams_are_sought_to_where_decoding_begins_and_go_backwards_in_groups() {
    let tape = tape(Codec::H265, 15);
    let player = Player::new(&format!("{} output=encoded", tape.location()));
    // Decoders drop what comes before the segment, sinks do too.
    player.sink.set_drop_out_of_segment(false);
    player.pipeline.set_state(gst::State::Playing).unwrap();
    player.seek(1., SeekFlags::FLUSH | SeekFlags::ACCURATE, time(&tape, 20), Some(time(&tape, 33)));
    let shown = player.rest();
    assert_eq!(frames(&shown), (15..33).collect::<Vec<_>>());
    assert_eq!(shown[0].segment.downcast_ref::<ClockTime>().unwrap().start(), Some(time(&tape, 20)));
    player.seek(-1., SeekFlags::FLUSH, time(&tape, 20), Some(time(&tape, 33)));
    assert_eq!(frames(&player.rest()), (30..33).chain(15..30).collect::<Vec<_>>());
    // A decoder that knows of this shows them in turn.
    let player = Player::with(&format!("{} output=encoded", tape.location()), "h265parse ! avdec_h265 !");
    player.pipeline.set_state(gst::State::Playing).unwrap();
    player.seek(-1., SeekFlags::FLUSH, ClockTime::ZERO, None);
    let times = std::iter::from_fn(|| player.sink.try_pull_sample(common::zedsvo::patience()));
    let times = times.map(|sample| sample.buffer().unwrap().pts().unwrap()).collect::<Vec<_>>();
    assert_eq!(times, (0..60).rev().map(|frame| time(&tape, frame)).collect::<Vec<_>>());
}

#[test]
fn key_units_snap_as_the_flags_say() {
    let tape = tape(Codec::H264, 15);
    let player = Player::paused(&tape.location());
    let snaps = [
        (SeekFlags::empty(), 15, 15),
        (SeekFlags::SNAP_BEFORE, 15, 15),
        (SeekFlags::SNAP_AFTER, 30, 30),
        (SeekFlags::SNAP_NEAREST, 15, 30),
    ];
    for (flags, early, late) in snaps {
        for (asked, wanted) in [(18, early), (27, late), (15, 15), (0, 0), (59, 45)] {
            if asked == 59 && flags.intersects(SeekFlags::SNAP_AFTER) {
                continue;
            }
            let flags = SeekFlags::FLUSH | SeekFlags::KEY_UNIT | flags;
            player.seek(1., flags, time(&tape, asked), None);
            player.settle();
            let sample = player.sink.try_pull_preroll(common::zedsvo::patience()).unwrap();
            let shown = common::zedsvo::see(&sample);
            assert_eq!((flags, asked, shown.frame), (flags, asked, wanted));
            let segment = shown.segment.downcast_ref::<ClockTime>().unwrap();
            assert_eq!(segment.start(), Some(time(&tape, wanted)));
        }
    }
}

#[test]
fn trick_mode_shows_key_frames_alone() {
    let tape = tape(Codec::H265, 15);
    let player = Player::playing(&tape.location());
    let flags = SeekFlags::FLUSH | SeekFlags::TRICKMODE | SeekFlags::TRICKMODE_KEY_UNITS;
    player.seek(8., flags, ClockTime::ZERO, None);
    assert_eq!(frames(&player.rest()), [0, 15, 30, 45]);
    player.seek(-8., flags, ClockTime::ZERO, None);
    let shown = player.rest();
    assert_eq!(frames(&shown), [45, 30, 15, 0]);
    assert!(shown.iter().all(|shown| shown.bytes() == tape.view(shown.frame, Some(false))));
}

#[test]
fn segments_end_with_their_message_and_go_on_without_a_flush() {
    let tape = tape(Codec::H264, 15);
    let player = Player::playing(&tape.location());
    let bus = player.pipeline.bus().unwrap();
    let stop = time(&tape, 25);
    player.seek(1., SeekFlags::FLUSH | SeekFlags::SEGMENT, time(&tape, 20), Some(stop));
    for round in 0..3u64 {
        let shown = (0..5).map(|_| player.next().unwrap()).collect::<Vec<_>>();
        assert_eq!(frames(&shown), (20..25).collect::<Vec<_>>());
        let segment = shown[0].segment.downcast_ref::<ClockTime>().unwrap();
        let running = segment.to_running_time(shown[0].pts).unwrap();
        assert_eq!(running, round * (stop - time(&tape, 20)));
        let done =
            bus.timed_pop_filtered(common::zedsvo::patience(), &[gst::MessageType::SegmentDone]).unwrap();
        let gst::MessageView::SegmentDone(done) = done.view() else { panic!("{done:?}") };
        assert_eq!(done.get(), stop.into());
        player.seek(1., SeekFlags::SEGMENT, time(&tape, 20), Some(stop));
    }
    // In the middle of playing, without a flush: what is on its way is shown.
    let player = Player::playing(&tape.location());
    assert_eq!(player.next().unwrap().frame, 0);
    player.seek(1., SeekFlags::empty(), time(&tape, 50), None);
    let shown = frames(&player.rest());
    let jump = shown.iter().position(|&frame| frame == 50).unwrap();
    assert_eq!(shown, (1..=jump).chain(50..60).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_sought_is_refused_and_disturbs_nothing() {
    let tape = tape(Codec::H264, 15);
    let player = Player::new(&tape.location());
    let flags = SeekFlags::FLUSH | SeekFlags::ACCURATE;
    assert!(player.source.seek_simple(flags, ClockTime::SECOND).is_err(), "before PAUSED");
    player.pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(player.next().unwrap().frame, 0);
    assert!(player.source.seek_simple(flags, gst::format::Bytes::from_u64(7)).is_err());
    let (one, two) = (ClockTime::SECOND, 2 * ClockTime::SECOND);
    assert!(player.source.seek(1., flags, SeekType::Set, two, SeekType::Set, one).is_err());
    let (none, unchanged) = (ClockTime::NONE, SeekType::None);
    let at_once = SeekFlags::INSTANT_RATE_CHANGE;
    assert!(player.source.seek(2., at_once, unchanged, none, unchanged, none).is_err());
    assert_eq!(frames(&player.rest()), (1..60).collect::<Vec<_>>());
    // Behind the end there is nothing to show.
    player.seek(1., flags, 1000 * ClockTime::SECOND, None);
    assert!(player.rest().is_empty());
}

#[test]
fn queries_tell_times_and_frames_of_the_cut() {
    let tape = tape(Codec::H265, 15);
    let player = Player::paused(&format!("{} start-frame=10 end-frame=49", tape.location()));
    let cut = |frame: usize| time(&tape, frame) - time(&tape, 10);
    for element in [player.source.clone(), player.pipeline.clone().upcast()] {
        assert_eq!(element.query_duration::<ClockTime>(), Some(cut(50)));
        assert_eq!(
            element.query_duration::<gst::format::Default>(),
            Some(gst::format::Default::from_u64(40))
        );
    }
    let pad = player.source.static_pad("src").unwrap();
    for count in [0, 1, 21, 39] {
        let frames = gst::format::Default::from_u64(count);
        let at = cut(10 + count as usize);
        assert_eq!(pad.query_convert::<Option<ClockTime>>(frames), Some(Some(at)));
        assert_eq!(pad.query_convert::<Option<gst::format::Default>>(at), Some(Some(frames)));
    }
    for format in [gst::Format::Time, gst::Format::Default] {
        let mut query = gst::query::Seeking::new(format);
        assert!(pad.query(&mut query));
        assert!(query.result().0, "{format:?}");
    }
    let segment = || {
        let mut query = gst::query::Segment::new(gst::Format::Time);
        assert!(pad.query(&mut query));
        query.result()
    };
    assert_eq!(segment(), (1., ClockTime::ZERO.into(), cut(50).into()));
    player.seek(-2., SeekFlags::FLUSH, cut(20), Some(cut(40)));
    player.settle();
    assert_eq!(segment(), (-2., cut(20).into(), cut(40).into()));
    let frames = gst::format::Default::from_u64(21);
    player.source.seek_simple(SeekFlags::FLUSH | SeekFlags::ACCURATE, frames).unwrap();
    player.settle();
    let shown = player.sink.try_pull_preroll(common::zedsvo::patience()).unwrap();
    assert_eq!(common::zedsvo::see(&shown).frame, 31);
    assert_eq!(player.pipeline.query_position::<ClockTime>(), Some(cut(31)));
    assert_eq!(player.source.query_position::<gst::format::Default>(), Some(frames));
}

/// The streaming thread flushes what is inside, and that once met the flush of a seek, which was lost or waited for ever.
#[test]
fn seeks_while_paused_behind_a_queue_never_hang_backwards_or_by_key_frames() {
    let tape = tape(Codec::H264, 15);
    let player = Player::with(&tape.location(), "queue max-size-buffers=2 !");
    player.pipeline.set_state(gst::State::Paused).unwrap();
    player.settle();
    let mut numbers = Numbers(11);
    for round in 0..200 {
        let from = numbers.below(40);
        let (rate, flags) = match round % 3 {
            0 => (-1., SeekFlags::empty()),
            1 => (2., SeekFlags::TRICKMODE_KEY_UNITS),
            _ => (1., SeekFlags::ACCURATE),
        };
        player.seek(rate, flags | SeekFlags::FLUSH, time(&tape, from), Some(time(&tape, from + 20)));
        if numbers.below(3) > 0 {
            player.settle();
        }
    }
    player.pipeline.set_state(gst::State::Playing).unwrap();
    player.seek(1., SeekFlags::FLUSH | SeekFlags::ACCURATE, time(&tape, 50), None);
    assert_eq!(frames(&player.rest()), (50..60).collect::<Vec<_>>());
}

#[test]
fn frames_are_counted_from_the_end_too() {
    let tape = tape(Codec::H264, 15);
    let player = Player::playing(&tape.location());
    // In C this number has a sign.
    let ten_before = gst::format::Default::from_u64((-10i64).cast_unsigned());
    let seek = gst::event::Seek::new(
        1.,
        SeekFlags::FLUSH | SeekFlags::ACCURATE,
        SeekType::End,
        ten_before,
        SeekType::None,
        gst::format::Default::from_u64(0),
    );
    assert!(player.source.send_event(seek));
    assert_eq!(frames(&player.rest()), (50..60).collect::<Vec<_>>());
}

#[test]
fn bitstreams_of_refreshed_pictures_begin_at_the_cut_and_at_time_0() {
    let recording = Sim { intra_refresh: true, ..sim(Codec::H264, 60, 15) };
    let tape = Tape::new(&recording);
    let player = Player::playing(&format!("{} output=encoded start-frame=37", tape.location()));
    let shown = player.rest();
    let first = shown[0].frame;
    assert!(first < 37);
    assert_eq!(frames(&shown), (first..60).collect::<Vec<_>>());
    let times = shown.iter().map(|shown| shown.pts).collect::<Vec<_>>();
    assert_eq!(times[0], ClockTime::ZERO);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}
