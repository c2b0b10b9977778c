// SPDX-License-Identifier: MPL-2.0

//! `flvh265demux`: what is muxed comes out again, whatever the dialect, the way of feeding and the damage.

#![allow(missing_docs)]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use common::demux_rig::*;
use common::init;
use flv::tag::{FileHeader, TagType};
use flv::{AudioFormat, Dialect, VideoPacket};
use gst::prelude::*;

#[test]
fn what_went_in_comes_out() {
    for dialect in DIALECTS {
        for b_frames in [false, true] {
            for audio in [None, Some(AudioFormat::Aac), Some(MP3)] {
                let flv = Flv::new(dialect, b_frames, audio);
                assert_eq!(flv.video.iter().any(|unit| unit.pts != unit.dts), b_frames);
                let bytes = flv.bytes();
                for feed in [Feed::Pull, Feed::Push(1 << 30), Feed::Push(5000), Feed::Push(7)] {
                    let what = format!("{dialect:?} {b_frames} {audio:?} {feed:?}");
                    let (demux, skipped, result) = played(&bytes, feed);
                    assert_eq!((result, skipped.len()), (Ok(()), 0), "{what}");
                    let (video, sound) = (demux.video(), demux.audio());
                    same(&video.units, &flv.video, &what);
                    same(&sound.units, &flv.audio, &what);
                    assert_eq!((video.disconts, video.eos, video.caps.len()), (vec![0], 1, 1), "{what}");
                    let caps = video.caps[0].structure(0).unwrap();
                    assert_eq!(caps.get::<i32>("width"), Ok(160));
                    assert_eq!(caps.get::<gst::Fraction>("framerate"), Ok(gst::Fraction::new(25, 1)));
                    let name = if dialect == Dialect::Avc { "video/x-h264" } else { "video/x-h265" };
                    assert_eq!(caps.name(), name);
                    if audio.is_some() {
                        let caps = sound.caps[0].structure(0).unwrap();
                        assert_eq!((caps.get("rate"), caps.get("channels")), (Ok(44100), Ok(2)));
                    }
                    // MP3 has no configuration that comes before all frames.
                    let before = usize::from(audio == Some(MP3));
                    assert_eq!(*demux.no_more_pads.lock().unwrap(), [before], "{what}");
                    assert_eq!(demux.stat("bytes") + 13, bytes.len() as u64);
                    assert_eq!(demux.stat("tags"), flv.tags.len() as u64 - 1);
                    assert_eq!(demux.stat("video-frames"), flv.video.len() as u64);
                    assert_eq!(demux.stat("audio-frames"), flv.audio.len() as u64);
                    assert_eq!(demux.stat("key-frames"), flv.video.iter().filter(|u| u.key).count() as u64);
                }
            }
        }
    }
}

#[test]
fn decoders_decode_every_frame() {
    for dialect in DIALECTS {
        let flv = Flv::new(dialect, true, None);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&flv.bytes()).unwrap();
        let codec = if dialect == Dialect::Avc { "h264" } else { "h265" };
        let decoded = Stream::new(&format!(
            "filesrc location={} ! flvh265demux ! {codec}parse ! avdec_{codec}",
            file.path().display()
        ));
        assert_eq!(decoded.units.len(), flv.video.len(), "{dialect:?}");
    }
}

#[test]
fn stock_flvdemux_says_the_same_of_what_it_knows() {
    for audio in [None, Some(AudioFormat::Aac), Some(MP3)] {
        for b_frames in [false, true] {
            let bytes = Flv::new(Dialect::Avc, b_frames, audio).bytes();
            for feed in [Feed::Pull, Feed::Push(3000)] {
                let (ours, ..) = played(&bytes, feed);
                let stock = Demux::new("flvdemux", &bytes, feed);
                stock.state(gst::State::Playing);
                assert_eq!(stock.end().1, Ok(()));
                let what = format!("{audio:?} {b_frames} {feed:?}");
                same(&ours.video().units, &stock.video().units, &what);
                same(&ours.audio().units, &stock.audio().units, &what);
                let start = |seen: Seen| seen.segments.first().and_then(|segment| segment.start());
                // With B-frames stock begins at the presentation time, and shifts all when audio comes.
                if !b_frames {
                    assert_eq!(start(ours.video()), start(stock.video()), "{what}");
                }
            }
        }
    }
}

/// A few frames, small.
fn small() -> Flv {
    let mut flv = Flv::new(Dialect::Enhanced, false, None);
    let mut tags = flv.tags[..3].to_vec();
    for unit in &mut flv.video {
        unit.bytes.truncate(40);
    }
    flv.video.truncate(10);
    tags.extend(flv.video.iter().map(|unit| video_tag(Dialect::Enhanced, unit, 0)));
    Flv { tags, ..flv }
}

#[test]
fn a_file_cut_off_at_any_byte_gives_its_whole_frames() {
    let flv = small();
    let bytes = flv.bytes();
    let ends: Vec<usize> = (3..flv.tags.len()).map(|tag| flv.position(tag + 1) as usize - 4).collect();
    let configured = flv.position(3) as usize - 4;
    for length in 0..=bytes.len() {
        for feed in [Feed::Pull, Feed::Push(1 << 20)] {
            if feed == Feed::Pull && length % 5 != 0 {
                continue;
            }
            let (demux, skipped, result) = played(&bytes[..length], feed);
            let whole = ends.iter().filter(|end| **end <= length).count();
            same(&demux.video().units, &flv.video[..whole], &format!("{length} {feed:?}"));
            assert_eq!(result.is_ok(), length >= configured, "{length}: {result:?}");
            assert_eq!(skipped.len() as u64, demux.stat("damaged-runs"), "{length}");
            let rest = length as u64 - demux.stat("bytes") - if length >= 13 { 13 } else { 0 };
            assert!(rest == 0 || length < 13, "{length}: {rest} bytes are not accounted for");
        }
    }
}

#[test]
fn garbage_and_lying_sizes_cost_only_themselves() {
    let flv = Flv::new(Dialect::Domestic, false, Some(AudioFormat::Aac));
    let victim = flv.frame(20);
    let lost: Vec<Unit> = [&flv.video[..20], &flv.video[21..]].concat();
    let lying = |size: u32| {
        let mut bad = flv.clone();
        bad.tags[victim][1..4].copy_from_slice(&size.to_be_bytes()[1..]);
        (bad, lost.clone())
    };
    let right = u32::from_be_bytes([0, flv.tags[victim][1], flv.tags[victim][2], flv.tags[victim][3]]);
    let mut garbage = flv.clone();
    garbage.tags.insert(victim, (0..5000u32).map(|i| (i * 7 % 253) as u8).collect());
    let mut zeros = flv.clone();
    zeros.tags.insert(victim, vec![0; 3]);
    let cases = [
        lying(0),
        lying(right - 1),
        lying(right + 1),
        lying(right + 300),
        lying(0xff_ffff),
        (garbage, flv.video.clone()),
        (zeros, flv.video.clone()),
    ];
    for (i, (bad, expected)) in cases.into_iter().enumerate() {
        for feed in [Feed::Pull, Feed::Push(1000)] {
            let bytes = bad.bytes();
            let (demux, skipped, result) = played(&bytes, feed);
            let what = format!("case {i} {feed:?}");
            assert_eq!(result, Ok(()), "{what}");
            same(&demux.video().units, &expected, &what);
            same(&demux.audio().units, &flv.audio, &what);
            assert_eq!(demux.video().disconts, [0, 20], "{what}");
            assert_eq!((skipped.len(), demux.stat("damaged-runs")), (1, 1), "{what}: {skipped:?}");
            assert_eq!(skipped[0].name(), "flvh265demux-skipped");
            assert_eq!(skipped[0].get::<u64>("offset"), Ok(flv.position(victim)), "{what}");
            assert_eq!(skipped[0].get::<u64>("bytes"), Ok(demux.stat("skipped-bytes")), "{what}");
            let reason = skipped[0].get::<String>("reason").unwrap();
            let expected = if i == 4 { "the stream ends within a tag" } else { "no tag begins here" };
            assert_eq!(reason, expected, "{what}");
            assert_eq!(demux.stat("bytes") + 13, bytes.len() as u64, "{what}");
        }
    }
}

#[test]
fn wrong_previous_tag_sizes_are_counted_and_nothing_is_lost() {
    let mut flv = Flv::new(Dialect::Enhanced, true, Some(MP3));
    for tag in &mut flv.tags[1..] {
        let at = tag.len() - 4;
        tag[at..].fill(0);
    }
    for feed in [Feed::Pull, Feed::Push(1000)] {
        let (demux, skipped, result) = played(&flv.bytes(), feed);
        assert_eq!((result, skipped.len()), (Ok(()), 0));
        same(&demux.video().units, &flv.video, "video");
        same(&demux.audio().units, &flv.audio, "audio");
        assert_eq!(demux.stat("wrong-sizes"), flv.tags.len() as u64 - 1);
    }
}

#[test]
fn what_is_unknown_is_skipped_and_told_once_each() {
    let flv = Flv::new(Dialect::Avc, false, None);
    let mut bad = flv.clone();
    let strange: [(u8, &[u8]); 14] = [
        (9, &[0x12, 1, 2, 3]),
        (9, &[0x14, 1, 2, 3]),
        (9, &[0x91, b'a', b'v', b'0', b'1', 0, 0, 0, 9]),
        (9, &[0x94, b'h', b'v', b'c', b'1', 0]),
        (9, &[0x96, 0, 0, 0]),
        (9, &[0x17, 9, 0, 0, 0]),
        (9, &[0x57, 0]),
        (9, &[]),
        (9, &[0x17]),
        (8, &[]),
        (8, &[0xaf]),
        (8, &[0xaf, 7]),
        (8, &[0xb2, 1, 2, 3]),
        (8, &[0xaf, 1, 5, 5, 5]),
    ];
    let at = flv.frame(10);
    for (kind, body) in strange.iter().chain(&strange) {
        bad.tags.insert(at, raw_tag(*kind, 400, body));
    }
    // Scripts that are none, and a frame and a configuration without content.
    bad.tags.insert(at, raw_tag(18, 400, &[2, 255, 255, 1]));
    bad.tags.insert(at, raw_tag(18, 400, &[]));
    bad.tags.insert(at, raw_tag(9, 400, &[0x27, 1, 0, 0, 0]));
    bad.tags.insert(at, raw_tag(9, 400, &[0x17, 0, 0, 0, 0]));
    for feed in [Feed::Pull, Feed::Push(100)] {
        let (demux, skipped, result) = played(&bad.bytes(), feed);
        assert_eq!(result, Ok(()));
        same(&demux.video().units, &flv.video, "video");
        assert_eq!(demux.video().disconts, [0]);
        assert_eq!(demux.stat("unsupported-tags"), 26);
        assert_eq!(demux.stat("skipped-tags"), 32);
        assert_eq!(demux.stat("invalid-configs"), 1);
        assert_eq!(demux.stat("damaged-runs"), 0);
        let reasons: Vec<String> = skipped.iter().map(|s| s.get("reason").unwrap()).collect();
        for reason in [
            "video codec id 2 is neither 7 (H.264) nor 12 (H.265)",
            "FourCC av01 is not hvc1",
            "audio frame before its configuration",
            "video frame without a payload",
        ] {
            assert!(reasons.iter().any(|told| told == reason), "{reason}: {reasons:?}");
        }
        let distinct: std::collections::BTreeSet<_> = reasons.iter().collect();
        assert_eq!(distinct.len(), reasons.len(), "{reasons:?}");
    }
}

#[test]
fn what_is_no_flv_ends_with_one_clear_error() {
    let cases: [(Vec<u8>, &str); 4] = [
        (
            b"this is a text, and a rather long one, of more than nine bytes".to_vec(),
            "this is no FLV: 62 bytes hold 0 tags",
        ),
        (vec![], "this is no FLV: 0 bytes hold 0 tags"),
        (FileHeader { audio: true, video: true }.to_bytes().to_vec(), "nothing to play"),
        (
            [FileHeader { audio: false, video: true }.to_bytes().to_vec(), raw_tag(9, 0, &[0x12, 0, 0])]
                .concat(),
            "nothing to play: 31 bytes hold 1 tags, of which 1 were skipped, and 0 bytes that are no tags: video codec id 2",
        ),
    ];
    for (bytes, part) in cases {
        for feed in [Feed::Pull, Feed::Push(9)] {
            let (_demux, _, result) = played(&bytes, feed);
            let error = result.unwrap_err();
            assert!(error.contains(part), "{feed:?}: '{part}' is not in '{error}'");
        }
    }
}

#[test]
fn time_goes_on_where_32_bits_wrap() {
    let shift = (1 << 32) - 1000;
    for dialect in DIALECTS {
        let flv = Flv::shifted(dialect, true, Some(AudioFormat::Aac), shift);
        for feed in [Feed::Pull, Feed::Push(2000)] {
            let (demux, _, result) = played(&flv.bytes(), feed);
            assert_eq!(result, Ok(()));
            same(&demux.video().units, &flv.video, &format!("{dialect:?} {feed:?}"));
            same(&demux.audio().units, &flv.audio, &format!("{dialect:?} {feed:?}"));
            // A late joiner plays at once.
            let segment = &demux.video().segments[0];
            assert_eq!(segment.start(), Some(gst::ClockTime::from_mseconds(shift)));
            assert_eq!(segment.to_running_time(segment.start()), Some(gst::ClockTime::ZERO));
        }
    }
}

#[test]
fn a_live_source_that_delivers_late_gives_running_times_from_now_on() {
    let flv = Flv::shifted(Dialect::Enhanced, false, None, 7_200_000);
    init();
    let pipeline = gst::parse::launch(
        "appsrc name=a is-live=true format=bytes ! flvh265demux ! fakesink name=s sync=true",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("a").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let head = flv.tags[..flv.frame(5)].concat();
    source.push_buffer(gst::Buffer::from_slice(head)).unwrap();
    source.end_of_stream().unwrap();
    let types = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(PATIENCE, &types).expect("an end");
    assert_eq!(message.type_(), gst::MessageType::Eos);
    let sink = pipeline.by_name("s").unwrap();
    let segment = sink.static_pad("sink").unwrap().sticky_event::<gst::event::Segment>(0).unwrap();
    let segment = segment.segment().downcast_ref::<gst::ClockTime>().cloned().unwrap();
    assert_eq!(segment.start(), Some(gst::ClockTime::from_seconds(7200)));
    assert!(segment.base().unwrap() >= gst::ClockTime::from_mseconds(250), "{segment:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_restarted_publisher_and_negative_composition_do_not_break_time() {
    let flv = Flv::shifted(Dialect::Avc, false, None, 60_000);
    let again = Flv::new(Dialect::Avc, false, None);
    let mut bytes = flv.bytes();
    bytes.extend(again.tags[2..].concat());
    let (demux, _, result) = played(&bytes, Feed::Push(3000));
    assert_eq!(result, Ok(()));
    let seen = demux.video().units;
    assert_eq!(seen.len(), 150);
    assert!(seen.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
    assert!(seen.last().unwrap().dts < 66_100, "{}", seen.last().unwrap().dts);
    assert_eq!((demux.stat("time-resyncs"), demux.video().disconts), (1, vec![0, 75]));

    let mut negative = again.clone();
    let unit = &again.video[0];
    let header = Dialect::Avc.header(VideoPacket::Frame { key: true, composition_ms: -40 });
    let at = again.frame(0);
    negative.tags[at] = sealed(TagType::Video, 20, &header, &unit.bytes);
    let (demux, ..) = played(&negative.bytes(), Feed::Pull);
    assert_eq!((demux.video().units[0].dts, demux.video().units[0].pts), (20, 0));
}

#[test]
fn new_configurations_and_codecs_give_new_caps_on_the_same_pad() {
    let first = Flv::new(Dialect::Avc, false, None);
    let second = Flv::shifted(Dialect::Enhanced, false, None, 3000);
    let third = Flv::shifted(Dialect::Avc, true, None, 6000);
    let repeated = video_config(Dialect::Avc, 1000, &Stream::video(Dialect::Avc, false).config);
    let mut tags = first.tags.clone();
    tags.insert(first.frame(30), repeated);
    let bad = video_config(Dialect::Avc, 1000, &[1, 2, 3]);
    tags.insert(first.frame(40), bad);
    tags.extend_from_slice(&second.tags[2..]);
    tags.extend_from_slice(&third.tags[2..]);
    let bytes = tags.concat();
    for feed in [Feed::Pull, Feed::Push(2000)] {
        let (demux, skipped, result) = played(&bytes, feed);
        assert_eq!(result, Ok(()));
        let seen = demux.video();
        let names: Vec<_> =
            seen.caps.iter().map(|caps| caps.structure(0).unwrap().name().to_string()).collect();
        assert_eq!(names, ["video/x-h264", "video/x-h265", "video/x-h264"]);
        let expected = [first.video.clone(), second.video.clone(), third.video.clone()].concat();
        same(&seen.units, &expected, "all three");
        assert_eq!((demux.stat("caps-changes"), demux.stat("invalid-configs")), (2, 1));
        assert_eq!(skipped[0].get::<String>("reason").unwrap(), "avcC of 3 bytes ends within its fixed part");
    }
    // Back over the changes.
    let demux = Demux::new("flvh265demux", &bytes, Feed::Pull);
    demux.preroll();
    for (ms, name) in [(7000, "video/x-h264"), (4000, "video/x-h265"), (500, "video/x-h264")] {
        assert!(demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, ms, None));
        demux.pipeline.state(PATIENCE).0.unwrap();
        let caps = demux.video().caps;
        assert_eq!(caps.last().unwrap().structure(0).unwrap().name(), name);
    }
}

#[test]
fn it_restarts_from_every_state() {
    let flv = Flv::new(Dialect::Enhanced, true, Some(AudioFormat::Aac));
    let demux = Demux::new("flvh265demux", &flv.bytes(), Feed::Pull);
    for state in [gst::State::Ready, gst::State::Null, gst::State::Ready] {
        demux.state(gst::State::Playing);
        assert_eq!(demux.end().1, Ok(()));
        same(&demux.video().units, &flv.video, "video");
        same(&demux.audio().units, &flv.audio, "audio");
        assert_eq!(demux.stat("video-frames"), flv.video.len() as u64);
        demux.state(state);
        assert_eq!(demux.demux.num_src_pads(), 0);
        for pad in [&demux.pads.video, &demux.pads.audio] {
            *pad.lock().unwrap() = Seen::default();
        }
        // The sinks of the pads that are gone.
        for element in demux.pipeline.children() {
            let sink = element
                .factory()
                .is_some_and(|factory| ["queue", "fakesink"].contains(&factory.name().as_str()));
            if sink {
                element.set_state(gst::State::Null).unwrap();
                demux.pipeline.remove(&element).unwrap();
            }
        }
    }
    // In the middle of things.
    for _ in 0..20 {
        demux.state(gst::State::Playing);
        demux.state(gst::State::Ready);
    }
}

#[test]
fn after_a_flush_it_goes_on_with_whatever_comes() {
    let flv = Flv::new(Dialect::Enhanced, false, None);
    init();
    let sink = gst::ElementFactory::make("flvh265demux").build().unwrap();
    let pads = Arc::new(Pads::default());
    let watched = pads.clone();
    let end = gst::ElementFactory::make("fakesink").property("async", false).property("sync", false);
    let end = end.build().unwrap();
    end.set_state(gst::State::Playing).unwrap();
    let end_pad = end.static_pad("sink").unwrap();
    sink.connect_pad_added(move |_, pad| {
        watched.watch(pad);
        pad.link(&end_pad).unwrap();
    });
    sink.set_state(gst::State::Playing).unwrap();
    let pad = sink.static_pad("sink").unwrap();
    let segment = || gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new());
    pad.send_event(gst::event::StreamStart::new("test"));
    pad.send_event(segment());
    let half = flv.tags[..flv.frame(30)].concat();
    pad.chain(gst::Buffer::from_slice(half[..half.len() - 20].to_vec())).unwrap();
    pad.send_event(gst::event::FlushStart::new());
    pad.send_event(gst::event::FlushStop::new(true));
    pad.send_event(segment());
    let mut rest = flv.tags[flv.frame(40)][50..].to_vec();
    rest.extend(flv.tags[flv.frame(41)..].concat());
    let mut chunks: VecDeque<u8> = rest.into();
    while !chunks.is_empty() {
        let chunk: Vec<u8> = chunks.drain(..chunks.len().min(900)).collect();
        pad.chain(gst::Buffer::from_slice(chunk)).unwrap();
    }
    sink.set_state(gst::State::Null).unwrap();
    end.set_state(gst::State::Null).unwrap();
    let seen = pads.video.lock().unwrap();
    same(&seen.units, &flv.video[41..], "after the flush");
    assert_eq!(seen.segments[0].start(), Some(gst::ClockTime::from_mseconds(flv.video[41].dts)));
}

#[test]
fn a_promised_track_that_never_comes_is_waited_for_a_second() {
    let mut flv = Flv::new(Dialect::Enhanced, false, None);
    flv.tags[0] = FileHeader { audio: true, video: true }.to_bytes().to_vec();
    let (demux, _, result) = played(&flv.bytes(), Feed::Pull);
    assert_eq!(result, Ok(()));
    // Frames of 40 ms.
    assert_eq!(*demux.no_more_pads.lock().unwrap(), [25]);
}

#[test]
fn a_track_that_falls_silent_gets_gaps() {
    let flv = Flv::new(Dialect::Enhanced, false, Some(AudioFormat::Aac));
    let mut tags = flv.tags.clone();
    for n in 0..4 {
        let late = Flv::shifted(Dialect::Enhanced, false, None, 3000 * (n + 1));
        tags.extend_from_slice(&late.tags[3..]);
    }
    let (demux, _, result) = played(&tags.concat(), Feed::Push(2000));
    assert_eq!(result, Ok(()));
    assert!(demux.audio().gaps > 10);
    assert_eq!(demux.video().gaps, 0);
}

#[test]
fn whatever_bytes_are_changed_it_ends() {
    let flv =
        Flv::new(Dialect::Enhanced, true, Some(AudioFormat::Aac)).indexed(Dialect::Enhanced, |entry| entry);
    let whole = flv.tags[..flv.frame(12)].concat();
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for round in 0..200 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 20 {
            // Half of the changes hit the metadata and the configurations.
            let at = next() % if next() % 2 == 0 { 1500 } else { bytes.len() };
            bytes[at] = next() as u8;
        }
        let feed = if round % 2 == 0 { Feed::Pull } else { Feed::Push(700) };
        let (demux, ..) = played(&bytes, feed);
        if feed == Feed::Pull {
            demux.state(gst::State::Paused);
            demux.seek(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, next() as u64 % 700, None);
        }
        assert!(demux.stat("bytes") <= bytes.len() as u64 * 3);
    }
}
