// SPDX-License-Identifier: MPL-2.0

//! `flvh265mux` by itself: buffers and events pushed into its pads, tags read byte by byte behind it.

#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{PATIENCE, init};
use flv::tag::TAG_HEADER_BYTES;
use flv::{Dialect, TagHeader, TagType, VideoPacket};
use gst::ClockTime;
use gst::prelude::*;

const MS: ClockTime = ClockTime::from_mseconds(1);

/// An hvcC with one parameter set of each kind; `mark` tells one from another.
fn hvcc(mark: u8) -> Vec<u8> {
    let mut record =
        vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3];
    for nal_type in [32, 33, 34] {
        record.extend([0x80 | nal_type, 0, 1, 0, 3, nal_type << 1, 1, mark]);
    }
    record
}

/// An avcC likewise.
fn avcc(mark: u8) -> Vec<u8> {
    vec![1, 66, 0, 30, 0xff, 0xe1, 0, 3, 0x67, 66, mark, 1, 0, 2, 0x68, mark]
}

fn h265(mark: u8) -> gst::Caps {
    gst::Caps::builder("video/x-h265")
        .field("stream-format", "hvc1")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(hvcc(mark)))
        .field("width", 640i32)
        .field("height", 480i32)
        .field("framerate", gst::Fraction::new(25, 1))
        .build()
}

fn h264(mark: u8) -> gst::Caps {
    gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(avcc(mark)))
        .build()
}

fn aac() -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4i32)
        .field("stream-format", "raw")
        .field("rate", 48000i32)
        .field("channels", 2i32)
        .field("codec_data", gst::Buffer::from_slice([0x11u8, 0x90]))
        .build()
}

/// What came out.
#[derive(Debug, Clone)]
enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
}

/// The muxer between pads of the test's own.
struct Rig {
    mux: gst::Element,
    bus: gst::Bus,
    video: gst::Pad,
    audio: Option<gst::Pad>,
    out: Arc<(Mutex<Vec<Item>>, Condvar)>,
    /// How long the next push takes, as into a sink that syncs.
    hold: Arc<Mutex<Duration>>,
    _drain: gst::Pad,
}

impl Rig {
    fn new(properties: &[(&str, &str)], audio: bool) -> Self {
        Self::with_latency(properties, audio, None)
    }

    /// `latency`: the pads are live, with this latency upstream.
    fn with_latency(properties: &[(&str, &str)], audio: bool, latency: Option<ClockTime>) -> Self {
        init();
        let mux = gst::ElementFactory::make("flvh265mux").build().unwrap();
        for (name, value) in properties {
            mux.set_property_from_str(name, value);
        }
        let bus = gst::Bus::new();
        mux.set_bus(Some(&bus));
        let out: Arc<(Mutex<Vec<Item>>, Condvar)> = Arc::default();
        let (buffers, events) = (out.clone(), out.clone());
        let hold: Arc<Mutex<Duration>> = Arc::default();
        let held = hold.clone();
        let put = |out: &(Mutex<Vec<Item>>, Condvar), item| {
            out.0.lock().unwrap().push(item);
            out.1.notify_all();
        };
        let drain = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, buffer| {
                put(&buffers, Item::Buffer(buffer));
                std::thread::sleep(std::mem::take(&mut *held.lock().unwrap()));
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |_, _, event| {
                put(&events, Item::Event(event));
                true
            })
            // By default a pad without a template takes its first caps only.
            .query_function(|pad, parent, query| match query.view_mut() {
                gst::QueryViewMut::AcceptCaps(accept) => {
                    accept.set_result(true);
                    true
                }
                _ => gst::Pad::query_default(pad, parent, query),
            })
            .build();
        drain.set_active(true).unwrap();
        mux.static_pad("src").unwrap().link(&drain).unwrap();
        let pad = |name: &str| {
            let pad = gst::Pad::builder(gst::PadDirection::Src)
                .name(name)
                .query_function(move |pad, parent, query| match query.view_mut() {
                    gst::QueryViewMut::Latency(answer) => {
                        answer.set(latency.is_some(), latency.unwrap_or(ClockTime::ZERO), ClockTime::NONE);
                        true
                    }
                    _ => gst::Pad::query_default(pad, parent, query),
                })
                .build();
            pad.link(&mux.request_pad_simple(name).unwrap()).unwrap();
            pad
        };
        let video = pad("video");
        let audio = audio.then(|| pad("audio"));
        let rig = Self { mux, bus, video, audio, out, hold, _drain: drain };
        rig.start();
        rig
    }

    fn start(&self) {
        self.mux.set_clock(Some(&gst::SystemClock::obtain())).unwrap();
        self.mux.set_base_time(gst::SystemClock::obtain().time());
        self.mux.set_state(gst::State::Playing).unwrap();
        for pad in [Some(&self.video), self.audio.as_ref()].into_iter().flatten() {
            pad.set_active(true).unwrap();
        }
    }

    fn audio(&self) -> &gst::Pad {
        self.audio.as_ref().unwrap()
    }

    fn items(&self) -> Vec<Item> {
        self.out.0.lock().unwrap().clone()
    }

    fn wait_until(&self, what: &str, done: impl Fn(&Rig) -> bool) {
        common::wait_for(what, || done(self));
    }

    /// The tags that came, parsed, without the file header; each buffer is exactly one.
    fn tags(&self) -> Vec<Tag> {
        let buffers = self.items().into_iter().filter_map(|item| match item {
            Item::Buffer(buffer) => Some(buffer),
            Item::Event(_) => None,
        });
        buffers.filter(|buffer| buffer.map_readable().unwrap()[..3] != *b"FLV").map(Tag::new).collect()
    }

    /// The video tags that are frames.
    fn frames(&self) -> Vec<Tag> {
        self.tags().into_iter().filter(|tag| matches!(tag.packet, Some(VideoPacket::Frame { .. }))).collect()
    }

    fn error(&self) -> String {
        let patience = ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
        let message = self.bus.timed_pop_filtered(patience, &[gst::MessageType::Error]).expect("an error");
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        error.error().to_string()
    }

    fn no_error(&self) {
        assert!(self.bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    }

    fn stat(&self, field: &str) -> u64 {
        self.mux.property::<gst::Structure>("stats").get(field).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.mux.set_state(gst::State::Null);
    }
}

#[derive(Debug, Clone)]
struct Tag {
    header: TagHeader,
    dialect: Option<Dialect>,
    packet: Option<VideoPacket>,
    payload: Vec<u8>,
    buffer: gst::Buffer,
}

impl Tag {
    fn new(buffer: gst::Buffer) -> Self {
        let bytes = buffer.map_readable().unwrap().to_vec();
        let header = TagHeader::parse(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(bytes.len(), header.bytes_before_trailer() + 4, "one buffer is one tag");
        let size = u32::from_be_bytes(*bytes.last_chunk().unwrap());
        assert_eq!(size as usize, header.bytes_before_trailer(), "PreviousTagSize");
        let body = &bytes[TAG_HEADER_BYTES..header.bytes_before_trailer()];
        let video = (header.tag_type == TagType::Video).then(|| Dialect::parse(body).unwrap());
        let payload_at = match (header.tag_type, &video) {
            (_, Some((_, _, at))) => *at,
            (TagType::Audio, _) => 2,
            _ => 0,
        };
        Self {
            header,
            dialect: video.map(|video| video.0),
            packet: video.map(|video| video.1),
            payload: body[payload_at..].to_vec(),
            buffer,
        }
    }

    fn ms(&self) -> u32 {
        self.header.timestamp_ms
    }

    fn composition(&self) -> i32 {
        match self.packet {
            Some(VideoPacket::Frame { composition_ms, .. }) => composition_ms,
            _ => panic!("no frame: {self:?}"),
        }
    }

    fn is_header(&self) -> bool {
        self.packet == Some(VideoPacket::SequenceHeader)
    }
}

fn begin(pad: &gst::Pad, caps: &gst::Caps) {
    assert!(pad.push_event(gst::event::StreamStart::new(&pad.name())));
    assert!(pad.push_event(gst::event::Caps::new(caps)));
    assert!(pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<ClockTime>::new())));
}

fn unit(pts: Option<ClockTime>, dts: Option<ClockTime>, key: bool, payload: &[u8]) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(payload.to_vec());
    let unit = buffer.get_mut().unwrap();
    unit.set_pts(pts);
    unit.set_dts(dts);
    if !key {
        unit.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    buffer
}

fn push(pad: &gst::Pad, ms: u64, key: bool) {
    pad.push(unit(Some(ms * MS), Some(ms * MS), key, b"unit")).unwrap();
}

fn eos(pad: &gst::Pad) {
    assert!(pad.push_event(gst::event::Eos::new()));
}

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

/// The buffers in each caps that came.
fn streamheader(rig: &Rig) -> Vec<Vec<gst::Buffer>> {
    let caps = rig.items().into_iter().filter_map(|item| match item {
        Item::Event(event) => match event.view() {
            gst::EventView::Caps(caps) => Some(caps.caps_owned()),
            _ => None,
        },
        Item::Buffer(_) => None,
    });
    caps.map(|caps| {
        let headers = caps.structure(0).unwrap().get::<gst::Array>("streamheader").unwrap();
        headers.iter().map(|value| value.get::<gst::Buffer>().unwrap()).collect()
    })
    .collect()
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
    assert!(rig.error().contains("the codec changes from H.264 to H.265"));
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
    assert!(matches!(rig.items().last(), Some(Item::Event(event)) if event.type_() == gst::EventType::Eos));
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
    // No sound at all: the header goes without it, and the file header does not promise it.
    for n in 0..3 {
        push(&rig.video, n * 40, n == 0);
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
    assert_eq!(audio, [(80, [0x11, 0x90].as_slice()), (80, b"late")]);
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
    assert!(matches!(rig.items().last(), Some(Item::Event(event)) if event.type_() == gst::EventType::Eos));
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
