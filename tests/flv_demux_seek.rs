// SPDX-License-Identifier: MPL-2.0

//! `flvh265demux` seeks: by index and by scanning, from callbacks, past damage and changes.

#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Mutex};

use common::demux_rig::*;
use common::{init, wait_for};
use flv::index::KeyFrame;
use flv::{AudioFormat, Dialect};
use gst::prelude::*;

/// The frames from the last key frame at or before `ms` on.
fn from_key(flv: &Flv, ms: u64) -> &[Unit] {
    let key = flv.video.iter().rposition(|unit| unit.key && unit.pts <= ms).unwrap_or(0);
    &flv.video[key..]
}

#[test]
fn seeks_find_the_key_frame_by_index_and_by_scanning() {
    use gst::SeekFlags as F;
    for dialect in DIALECTS {
        let plain = Flv::new(dialect, true, Some(AudioFormat::Aac));
        let mut damaged = plain.clone();
        damaged.tags.insert(plain.frame(20), vec![0xaa; 777]);
        let files = [
            ("no index", plain.clone()),
            ("index", plain.clone().indexed(dialect, |entry| entry)),
            (
                "wrong positions",
                plain.clone().indexed(dialect, |entry| KeyFrame { position: entry.position + 1, ..entry }),
            ),
            (
                "wrong times",
                plain.clone().indexed(dialect, |entry| KeyFrame { time: entry.time / 3. + 1.3, ..entry }),
            ),
            ("damage", damaged),
        ];
        for (name, flv) in files {
            let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
            demux.preroll();
            let duration = demux.pipeline.query_duration::<gst::ClockTime>().unwrap();
            assert!((2900..=3100).contains(&duration.mseconds()), "{dialect:?} {name}: {duration}");
            for ms in [1500, 0, 2990, 640, 1300, 20, 99_000] {
                for flags in [F::ACCURATE, F::KEY_UNIT, F::empty()] {
                    let what = format!("{dialect:?} {name} {ms} {flags:?}");
                    assert!(demux.seek(F::FLUSH | flags, ms, None), "{what}");
                    demux.state(gst::State::Playing);
                    assert_eq!(demux.end().1, Ok(()), "{what}");
                    let seen = demux.video();
                    let expected = from_key(&flv, ms);
                    same(&seen.units, expected, &what);
                    assert_eq!(seen.disconts[0], 0);
                    let start =
                        if flags == F::KEY_UNIT { expected[0].pts } else { ms.min(duration.mseconds()) };
                    assert_eq!(seen.segments.len(), 1, "{what}");
                    assert_eq!(
                        seen.segments[0].start(),
                        Some(gst::ClockTime::from_mseconds(start)),
                        "{what}"
                    );
                    assert_eq!(seen.segments[0].time(), seen.segments[0].start(), "{what}");
                    demux.state(gst::State::Paused);
                }
            }
        }
    }
}

#[test]
fn seeks_snap_stop_and_refuse_as_asked() {
    use gst::SeekFlags as F;
    let flv = Flv::new(Dialect::Enhanced, false, None).indexed(Dialect::Enhanced, |entry| entry);
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    demux.preroll();
    // Key frames every 600 ms.
    for (flags, ms, first) in [
        (F::SNAP_BEFORE, 1000, 600),
        (F::SNAP_AFTER, 1000, 1200),
        (F::SNAP_NEAREST, 1000, 1200),
        (F::SNAP_NEAREST, 800, 600),
        (F::SNAP_AFTER, 1200, 1200),
        (F::SNAP_AFTER, 2900, 2400),
    ] {
        assert!(demux.seek(F::FLUSH | F::KEY_UNIT | flags, ms, None));
        demux.pipeline.state(PATIENCE).0.unwrap();
        assert_eq!(demux.video().units[0].pts, first, "{flags:?} {ms}");
    }
    assert!(demux.seek(F::FLUSH | F::ACCURATE, 700, Some(1500)));
    demux.state(gst::State::Playing);
    assert_eq!(demux.end().1, Ok(()));
    let seen = demux.video();
    assert_eq!((seen.units[0].pts, seen.units.last().unwrap().pts, seen.eos), (600, 1480, 1));
    demux.state(gst::State::Paused);
    let back = gst::event::Seek::new(
        -1.,
        F::FLUSH,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::Set,
        gst::ClockTime::SECOND,
    );
    assert!(!demux.pipeline.send_event(back));

    // Segments without flushes: running time goes on.
    assert!(demux.seek(F::FLUSH | F::SEGMENT | F::ACCURATE, 0, Some(600)));
    demux.state(gst::State::Playing);
    assert_eq!(demux.end().1, Ok(()));
    assert!(demux.seek(F::SEGMENT | F::ACCURATE, 1200, Some(1800)));
    assert_eq!(demux.end().1, Ok(()));
    // The event follows the message.
    wait_for("the second segment's end", || demux.video().segment_done == 2);
    let seen = demux.video();
    assert_eq!((seen.eos, seen.units.len()), (0, 30));
    let second = seen.segments.last().unwrap();
    let running = second.to_running_time(second.start()).unwrap().mseconds();
    assert!((560..=600).contains(&running), "{second:?}");
}

#[test]
fn pushed_streams_seek_by_their_index_if_upstream_can() {
    use gst::SeekFlags as F;
    init();
    let flv = Flv::new(Dialect::Domestic, false, None).indexed(Dialect::Domestic, |entry| entry);
    let bytes = Arc::new(flv.bytes());
    let pipeline = gst::parse::launch(
        "appsrc name=a format=bytes stream-type=seekable ! flvh265demux name=d ! fakesink name=s",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("a").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    source.set_size(bytes.len() as i64);
    let at = Arc::new(Mutex::new(0usize));
    let (read, sought, data) = (at.clone(), at.clone(), bytes.clone());
    source.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                let mut at = read.lock().unwrap();
                let chunk = &data[*at..(*at + 1000).min(data.len())];
                *at += chunk.len();
                let _ = match chunk.is_empty() {
                    true => source.end_of_stream(),
                    false => source.push_buffer(gst::Buffer::from_slice(chunk.to_vec())),
                };
            })
            .seek_data(move |_, offset| {
                *sought.lock().unwrap() = offset as usize;
                true
            })
            .build(),
    );
    let pads = Arc::new(Pads::default());
    let watched = pads.clone();
    pipeline.by_name("d").unwrap().connect_pad_added(move |_, pad| watched.watch(pad));
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(PATIENCE).0.unwrap();
    for flags in [F::ACCURATE, F::KEY_UNIT] {
        for ms in [2000, 100, 1200] {
            pipeline.seek_simple(F::FLUSH | flags, gst::ClockTime::from_mseconds(ms)).unwrap();
            pipeline.state(PATIENCE).0.unwrap();
            let seen = pads.video.lock().unwrap().clone();
            let first = &from_key(&flv, ms)[0];
            assert_eq!(seen.units.first(), Some(first), "{ms} {flags:?}");
            let start = if flags == F::KEY_UNIT { first.pts } else { ms };
            assert_eq!(seen.segments[0].start(), Some(gst::ClockTime::from_mseconds(start)));
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let plain = Demux::new("flvh265demux", &flv.bytes(), Feed::Push(1000));
    plain.preroll();
    assert!(!plain.seek(F::FLUSH, 1000, None), "upstream cannot seek");
}

fn seek_event(rate: f64, flags: gst::SeekFlags, start: Option<u64>, stop: Option<u64>) -> gst::Event {
    let to = |ms: Option<u64>| match ms {
        Some(ms) => (gst::SeekType::Set, Some(gst::ClockTime::from_mseconds(ms))),
        None => (gst::SeekType::None, gst::ClockTime::NONE),
    };
    let ((start_type, start), (stop_type, stop)) = (to(start), to(stop));
    gst::event::Seek::new(rate, flags, start_type, start, stop_type, stop)
}

/// Downstream was left flushing, with neither buffers nor EOS.
#[test]
fn a_seek_from_a_callback_is_done_after_the_step_that_called() {
    let flv = Flv::new(Dialect::Enhanced, false, Some(AudioFormat::Aac));
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    demux.demux.connect_no_more_pads(|demux| {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        assert!(demux.static_pad("video").unwrap().send_event(seek_event(1., flags, Some(1500), None)));
    });
    demux.state(gst::State::Playing);
    assert_eq!(demux.end().1, Ok(()));
    let seen = demux.video();
    same(&seen.units, from_key(&flv, 1500), "video");
    assert_eq!(seen.eos, 1);
    assert!(!demux.audio().units.is_empty(), "the sound is there though the seek led past its configuration");
}

#[test]
fn segments_are_looped_from_a_sync_handler_without_a_break_in_time() {
    use gst::SeekFlags as F;
    let demux = Demux::new("flvh265demux", &Flv::new(Dialect::Avc, false, None).bytes(), Feed::Pull);
    demux.preroll();
    assert!(demux.seek(F::FLUSH | F::SEGMENT | F::ACCURATE, 0, Some(600)));
    let (loops, pipeline) = (Arc::new(Mutex::new(0)), demux.pipeline.downgrade());
    let counted = loops.clone();
    demux.pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        let is_pipeline = message.src().is_some_and(|source| source.is::<gst::Pipeline>());
        if message.type_() == gst::MessageType::SegmentDone && is_pipeline {
            let mut loops = counted.lock().unwrap();
            *loops += 1;
            if *loops < 4 {
                let seek = seek_event(1., F::SEGMENT | F::ACCURATE, Some(0), Some(600));
                assert!(pipeline.upgrade().unwrap().send_event(seek));
            }
        }
        gst::BusSyncReply::Pass
    });
    demux.state(gst::State::Playing);
    wait_for("four loops", || *loops.lock().unwrap() == 4);
    let bases: Vec<u64> =
        demux.video().segments.iter().map(|segment| segment.base().unwrap().mseconds()).collect();
    assert_eq!(bases, [0, 600, 1200, 1800]);
}

#[test]
fn an_index_that_leads_past_a_change_of_configuration_has_it_looked_up() {
    let first = Flv::new(Dialect::Avc, false, None);
    for second in
        [Flv::shifted(Dialect::Enhanced, false, None, 3000), Flv::shifted(Dialect::Avc, true, None, 3000)]
    {
        let mut all = first.clone();
        all.tags.extend_from_slice(&second.tags[2..]);
        all.video.extend_from_slice(&second.video);
        // An index may also name the sequence header before the key frame, as ours does.
        for before in [0, all.tags[first.tags.len()].len() as u64] {
            let all = all.clone().indexed(Dialect::Avc, |entry| match entry.time {
                3.0 => KeyFrame { position: entry.position - before, ..entry },
                _ => entry,
            });
            let demux = Demux::new("flvh265demux", &all.bytes(), Feed::Pull);
            demux.preroll();
            assert!(demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, 4500, None));
            demux.state(gst::State::Playing);
            assert_eq!(demux.end().1, Ok(()));
            let seen = demux.video();
            same(&seen.units, from_key(&all, 4500), "video");
            let caps = seen.caps.last().unwrap().structure(0).unwrap();
            let config = caps.get::<gst::Buffer>("codec_data").unwrap();
            let config = config.map_readable().unwrap().to_vec();
            assert!(second.tags[2].windows(config.len()).any(|bytes| bytes == config));
        }
    }
}

#[test]
fn scanning_goes_on_behind_a_size_that_leads_out_of_the_file() {
    let mut bad = Flv::new(Dialect::Enhanced, false, None);
    let victim = bad.frame(20);
    bad.tags[victim][1..4].copy_from_slice(&[0xff; 3]);
    let demux = Demux::new("flvh265demux", &bad.bytes(), Feed::Pull);
    demux.preroll();
    assert!(demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, 2900, None));
    demux.pipeline.state(PATIENCE).0.unwrap();
    assert_eq!(demux.video().units[0].pts, 2400);
}

#[test]
fn a_seek_with_its_stop_before_its_start_is_refused_before_the_flush() {
    let flv = Flv::new(Dialect::Enhanced, false, None);
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    demux.preroll();
    assert!(!demux.seek(gst::SeekFlags::FLUSH, 2000, Some(1000)));
    demux.state(gst::State::Playing);
    assert_eq!(demux.end().1, Ok(()));
    same(&demux.video().units, &flv.video, "video");
}

#[test]
fn numbers_beyond_reason_in_an_index_are_not_taken() {
    let flv = Flv::new(Dialect::Avc, false, None);
    let flv = flv.indexed(Dialect::Avc, |entry| match entry.time {
        0.0 => entry,
        _ => KeyFrame { time: 1e300, position: u64::MAX },
    });
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    demux.preroll();
    assert!(demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, 1000, None));
    demux.pipeline.state(PATIENCE).0.unwrap();
    assert_eq!(demux.video().units[0].pts, 600);
}

#[test]
fn frames_before_their_configuration_are_warned_of_once() {
    let mut flv = Flv::new(Dialect::Enhanced, false, None);
    flv.tags.remove(2);
    for n in 0..16 {
        flv.tags.push(raw_tag(9, 0, &[0x91, b'x', b'x', b'x', b'a' + n, 0, 0, 0]));
    }
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    let warnings = Arc::new(Mutex::new(0));
    let counted = warnings.clone();
    demux.pipeline.bus().unwrap().set_sync_handler(move |_, message| {
        *counted.lock().unwrap() += usize::from(message.type_() == gst::MessageType::Warning);
        gst::BusSyncReply::Pass
    });
    demux.state(gst::State::Playing);
    assert!(demux.end().1.unwrap_err().contains("video frame before its configuration"));
    assert_eq!(*warnings.lock().unwrap(), 1);
}
