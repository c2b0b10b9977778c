// SPDX-License-Identifier: MPL-2.0

//! `flvh265mux` by itself: which tags come of which buffers and caps, and what is refused.

#![allow(missing_docs)]

mod common;

use common::mux_rig::{Tag, *};
use flv::{Dialect, VideoPacket};
use gst::ClockTime;
use gst::prelude::*;

#[test]
fn header_buffers_are_flagged_and_stand_in_streamheader_in_the_order_they_are_pushed() {
    let rig = Rig::new(&[], true);
    begin(&rig.video, &h265(1));
    begin(rig.audio(), &aac());
    push(&rig.video, 0, true);
    push(rig.audio(), 0, true);
    push(&rig.video, 40, false);
    push(rig.audio(), 50, true);
    let items = rig.items();
    let kinds: Vec<gst::EventType> = items
        .iter()
        .filter_map(|item| match item {
            Item::Event(event) => Some(event.type_()),
            Item::Buffer(_) => None,
        })
        .collect();
    use gst::EventType;
    assert_eq!(kinds, [EventType::StreamStart, EventType::Caps, EventType::Segment]);
    let streamheader: Vec<gst::Buffer> = streamheader(&rig).pop().unwrap();
    let pushed: Vec<gst::Buffer> = items
        .iter()
        .filter_map(|item| match item {
            Item::Buffer(buffer) if buffer.flags().contains(gst::BufferFlags::HEADER) => Some(buffer.clone()),
            _ => None,
        })
        .collect();
    let bytes = |buffers: &[gst::Buffer]| -> Vec<Vec<u8>> {
        buffers.iter().map(|buffer| buffer.map_readable().unwrap().to_vec()).collect()
    };
    assert_eq!(bytes(&pushed), bytes(&streamheader));
    assert_eq!(pushed.len(), 4, "file header, onMetaData, two sequence headers");
    assert_eq!(bytes(&pushed)[0], [b'F', b'L', b'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0]);
    // All others are not, and only key frames are no delta units.
    let flags: Vec<bool> = rig.tags()[3..]
        .iter()
        .map(|tag| {
            assert!(!tag.buffer.flags().contains(gst::BufferFlags::HEADER));
            tag.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)
        })
        .collect();
    assert_eq!(flags, [false, true, true]);
}

#[test]
fn modes_are_the_dialects_and_h264_is_always_codec_id_7() {
    for (caps, mode, dialect) in [
        (h265(1), "enhanced", Dialect::Enhanced),
        (h265(1), "domestic", Dialect::Domestic),
        (h264(1), "enhanced", Dialect::Avc),
    ] {
        let rig = Rig::new(&[("mode", mode), ("end-of-sequence", "true")], false);
        begin(&rig.video, &caps);
        push(&rig.video, 0, true);
        push(&rig.video, 40, false);
        eos(&rig.video);
        let tags = rig.tags();
        let packets: Vec<Option<VideoPacket>> = tags.iter().map(|tag| tag.packet).collect();
        let frame = |key| Some(VideoPacket::Frame { key, composition_ms: 0 });
        let header = Some(VideoPacket::SequenceHeader);
        assert_eq!(packets, [None, header, frame(true), frame(false), Some(VideoPacket::SequenceEnd)]);
        assert!(tags[1..].iter().all(|tag| tag.dialect == Some(dialect)), "{mode}");
        assert_eq!(tags[1].payload, if dialect == Dialect::Avc { avcc(1) } else { hvcc(1) });
        assert_eq!(tags[2].payload, b"unit");
        assert_eq!(tags[4].ms(), 40, "SequenceEnd is not before the last frame");
    }
}

#[test]
fn times_are_running_times_of_a_segment_shifted_by_a_thousand_hours() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h265(1));
    let hours = ClockTime::from_seconds(3_600_000);
    let mut segment = gst::FormattedSegment::<ClockTime>::new();
    segment.set_start(hours);
    segment.set_time(ClockTime::ZERO);
    assert!(rig.video.push_event(gst::event::Segment::new(&segment)));
    // B-frames: decoding begins 80 ms before the first picture is shown.
    for (dts, pts, key) in [(-80, 0, true), (-40, 120, false), (0, 40, false), (40, 80, false)] {
        let at = |ms: i64| Some(ClockTime::from_mseconds((3_600_000_000 + ms) as u64));
        rig.video.push(unit(at(pts), at(dts), key, b"unit")).unwrap();
    }
    let times: Vec<(u32, i32)> = rig.frames().iter().map(|tag| (tag.ms(), tag.composition())).collect();
    assert_eq!(times, [(0, 80), (40, 160), (80, 40), (120, 40)], "shifted by the negative DTS, nothing else");
    let segment = rig.items().iter().find_map(|item| match item {
        Item::Event(event) => match event.view() {
            gst::EventView::Segment(segment) => segment.segment().downcast_ref::<ClockTime>().cloned(),
            _ => None,
        },
        Item::Buffer(_) => None,
    });
    let segment = segment.unwrap();
    let running: Vec<i64> = rig
        .frames()
        .iter()
        .map(|tag| {
            assert_eq!(tag.buffer.dts().unwrap().mseconds(), u64::from(tag.ms()));
            match segment.to_running_time_full(tag.buffer.pts().unwrap()).unwrap() {
                gst::Signed::Positive(time) => time.mseconds() as i64,
                gst::Signed::Negative(time) => -(time.mseconds() as i64),
            }
        })
        .collect();
    assert_eq!(running, [0, 120, 40, 80], "running time is kept");
    assert_eq!(rig.stat("timestamp-corrections"), 0);
}

#[test]
fn the_payloads_memory_is_shared() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    let buffer = unit(Some(ClockTime::ZERO), None, true, &[7; 100_000]);
    let address = buffer.map_readable().unwrap().as_ptr();
    rig.video.push(buffer.clone()).unwrap();
    let tag = rig.frames().pop().unwrap();
    let memory = tag.buffer.peek_memory(1);
    assert_eq!(memory.map_readable().unwrap().as_ptr(), address);
    assert_eq!(tag.payload, [7; 100_000]);
}

#[test]
fn metas_of_the_access_unit_are_kept() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h265(1));
    let mut buffer = unit(Some(ClockTime::ZERO), None, true, b"unit");
    let unix = gst::Caps::new_empty_simple("timestamp/x-unix");
    let captured = ClockTime::from_seconds(1_700_000_000);
    gst::ReferenceTimestampMeta::add(buffer.get_mut().unwrap(), &unix, captured, ClockTime::NONE);
    rig.video.push(buffer).unwrap();
    let tag = rig.frames().pop().unwrap();
    let meta = tag.buffer.meta::<gst::ReferenceTimestampMeta>().expect("the capture time");
    assert_eq!(meta.timestamp(), captured);
}

#[test]
fn timestamps_wrap_after_49_days() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h265(1));
    let wrap = 1u64 << 32;
    for (n, ms) in [wrap - 40, wrap, wrap + 40, 2 * wrap + 5].into_iter().enumerate() {
        push(&rig.video, ms, n == 0);
    }
    let times: Vec<u32> = rig.frames().iter().map(Tag::ms).collect();
    assert_eq!(times, [(wrap - 40) as u32, 0, 40, 5]);
}

#[test]
fn a_changed_configuration_waits_for_its_key_frame_and_an_unchanged_one_is_not_repeated() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h265(1));
    push(&rig.video, 0, true);
    // The same again, with another frame rate.
    let mut same = h265(1);
    same.get_mut().unwrap().set("framerate", gst::Fraction::new(50, 1));
    assert!(rig.video.push_event(gst::event::Caps::new(&same)));
    push(&rig.video, 40, true);
    assert_eq!(rig.tags().iter().filter(|tag| tag.is_header()).count(), 1);
    // Another one, whose first buffers are no key frame.
    assert!(rig.video.push_event(gst::event::Caps::new(&h265(2))));
    push(&rig.video, 80, false);
    push(&rig.video, 120, true);
    let tags = rig.tags();
    let kinds: Vec<(bool, u32)> = tags[1..].iter().map(|tag| (tag.is_header(), tag.ms())).collect();
    assert_eq!(kinds, [(true, 0), (false, 0), (false, 40), (false, 80), (true, 120), (false, 120)]);
    assert_eq!(tags[5].payload, hvcc(2));
    assert!(tags[5].buffer.flags().contains(gst::BufferFlags::HEADER));
    let headers = streamheader(&rig);
    assert_eq!(headers.len(), 2, "caps once more");
    let last = Tag::new(headers[1].last().unwrap().clone());
    assert_eq!(last.payload, hvcc(2));
    assert_eq!(rig.stat("caps-changes"), 1);
}

#[test]
fn sequence_headers_are_repeated_where_asked_for_and_not_flagged_as_what_rtmp2sink_drops() {
    let rig = Rig::new(&[("repeat-sequence-header", "true")], false);
    begin(&rig.video, &h265(1));
    for n in 0..4 {
        push(&rig.video, n * 40, n % 2 == 0);
    }
    let tags = rig.tags();
    let kinds: Vec<bool> = tags[1..].iter().map(Tag::is_header).collect();
    assert_eq!(kinds, [true, false, false, true, false, false]);
    assert!(!tags[4].buffer.flags().contains(gst::BufferFlags::HEADER));
    assert_eq!((tags[4].ms(), tags[4].buffer.dts()), (80, Some(80 * MS)));
}

#[test]
fn pts_before_dts_moves_the_decoding_times() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    // Numbered by an encoder that reorders by two behind them.
    for (n, pts) in [0u64, 120, 40, 80, 240, 160, 200].into_iter().enumerate() {
        let dts = 40 * n as u64 + 40;
        rig.video.push(unit(Some(pts * MS), Some(dts * MS), n == 0, b"unit")).unwrap();
    }
    let frames = rig.frames();
    let shown: Vec<i64> =
        frames.iter().map(|tag| i64::from(tag.ms()) + i64::from(tag.composition())).collect();
    assert_eq!(shown, [0, 120, 40, 80, 240, 160, 200], "presentation times are kept");
    assert!(frames.iter().all(|tag| tag.composition() >= 0));
    assert!(frames.is_sorted_by_key(Tag::ms));
}

#[test]
fn decoding_times_that_go_backwards_are_raised_left_or_dropped() {
    let run = |properties: &[(&str, &str)]| {
        let rig = Rig::new(properties, false);
        begin(&rig.video, &h264(1));
        for (n, ms) in [0, 40, 20, 80].into_iter().enumerate() {
            push(&rig.video, ms, n == 0);
        }
        rig.no_error();
        let times: Vec<u32> = rig.frames().iter().map(Tag::ms).collect();
        (times, rig.stat("timestamp-corrections"), rig.stat("dropped"))
    };
    assert_eq!(run(&[]), (vec![0, 40, 40, 80], 1, 0));
    assert_eq!(run(&[("enforce-increasing-timestamps", "false")]), (vec![0, 40, 20, 80], 0, 0));
    assert_eq!(run(&[("skip-backwards-streams", "true")]), (vec![0, 40, 80], 0, 1));
}

#[test]
fn one_timestamp_serves_for_both_and_none_is_an_error() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    rig.video.push(unit(Some(40 * MS), None, true, b"unit")).unwrap();
    rig.video.push(unit(None, Some(80 * MS), false, b"unit")).unwrap();
    let times: Vec<(u32, i32)> = rig.frames().iter().map(|tag| (tag.ms(), tag.composition())).collect();
    assert_eq!(times, [(40, 0), (80, 0)]);
    assert_eq!(rig.video.push(unit(None, None, false, b"unit")), Err(gst::FlowError::Error));
    assert!(rig.error().contains("on pad video has neither PTS nor DTS"));
}

#[test]
fn caps_that_flv_cannot_carry_are_errors_that_name_the_rule() {
    let mut no_pps = hvcc(1);
    no_pps.truncate(no_pps.len() - 8);
    no_pps[22] = 2;
    let edit = |caps: gst::Caps, field: &str, value: &str| {
        let mut caps = caps;
        caps.get_mut().unwrap().set(field, value);
        caps
    };
    let without = |caps: gst::Caps, field: &'static str| {
        let mut caps = caps;
        caps.get_mut().unwrap().structure_mut(0).unwrap().remove_field(field);
        caps
    };
    let mut bad_record = h265(1);
    bad_record.get_mut().unwrap().set("codec_data", gst::Buffer::from_slice(no_pps));
    let cases = [
        ("domestic", h264(1), "mode=domestic is for H.265 only"),
        (
            "enhanced",
            edit(h265(1), "stream-format", "byte-stream"),
            "stream-format=byte-stream, but FLV takes",
        ),
        ("enhanced", edit(h264(1), "stream-format", "byte-stream"), "put h264parse before the muxer"),
        ("enhanced", edit(h264(1), "alignment", "nal"), "alignment=nal, but FLV takes alignment=au"),
        ("enhanced", without(h265(1), "codec_data"), "video/x-h265 without codec_data"),
        ("enhanced", without(h264(1), "codec_data"), "video/x-h264 without codec_data"),
        ("enhanced", bad_record, "hvcC holds no PPS"),
        ("enhanced", aac(), "on pad video"),
    ];
    for (mode, caps, text) in cases {
        let rig = Rig::new(&[("mode", mode)], false);
        assert!(rig.video.push_event(gst::event::StreamStart::new("video")));
        // The event is kept for the pad; the next push fails.
        rig.video.push_event(gst::event::Caps::new(&caps));
        let error = rig.error();
        assert!(error.contains(text), "{error}, wanted {text}");
        let segment = gst::FormattedSegment::<ClockTime>::new();
        rig.video.push_event(gst::event::Segment::new(&segment));
        assert!(rig.video.push(unit(Some(MS), None, true, b"unit")).is_err());
        // The refused event came again with the buffer.
        rig.no_error();
    }
    for (caps, text) in [
        (without(aac(), "codec_data"), "AAC without codec_data"),
        (edit(aac(), "stream-format", "adts"), "stream-format=adts"),
        (gst::Caps::builder("audio/mpeg").field("mpegversion", 1).field("layer", 2).build(), "layer=2"),
    ] {
        let rig = Rig::new(&[], true);
        assert!(rig.audio().push_event(gst::event::StreamStart::new("audio")));
        rig.audio().push_event(gst::event::Caps::new(&caps));
        let error = rig.error();
        assert!(error.contains(text), "{error}, wanted {text}");
    }
}

#[test]
fn what_is_no_stream_in_time_is_an_error() {
    let rig = Rig::new(&[], false);
    assert!(rig.video.push_event(gst::event::StreamStart::new("video")));
    assert!(rig.video.push_event(gst::event::Caps::new(&h265(1))));
    rig.video.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::format::Bytes>::new()));
    assert!(rig.video.push(unit(Some(MS), None, true, b"unit")).is_err());
    assert!(rig.error().contains("a segment in Bytes, but tags have times"));

    let rig = Rig::new(&[], false);
    assert!(rig.video.push_event(gst::event::StreamStart::new("video")));
    assert!(rig.video.push_event(gst::event::Segment::new(&gst::FormattedSegment::<ClockTime>::new())));
    assert!(rig.video.push(unit(Some(MS), None, true, b"unit")).is_err());
    assert!(rig.error().contains("a buffer on pad video came before caps"));
}

#[test]
fn the_codec_cannot_change_within_a_stream() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    push(&rig.video, 0, true);
    rig.video.push_event(gst::event::Caps::new(&h265(1)));
    assert!(rig.video.push(unit(Some(MS), None, true, b"unit")).is_err());
    assert!(rig.error().contains("the codec changes from H264 to H265"));
}

#[test]
fn an_access_unit_that_no_tag_can_hold_is_an_error() {
    let rig = Rig::new(&[], false);
    begin(&rig.video, &h264(1));
    assert_eq!(rig.video.push(unit(Some(MS), None, true, &vec![0; 1 << 24])), Err(gst::FlowError::Error));
    assert!(rig.error().contains("16777216 bytes does not fit a tag"));
}

#[test]
fn a_second_pad_of_a_kind_is_refused() {
    let rig = Rig::new(&[], false);
    let template = |name| rig.mux.pad_template(name).unwrap();
    assert!(rig.mux.request_pad(&template("video"), None, None).is_none());
    assert!(rig.mux.request_pad(&template("audio"), None, None).is_some());
}
