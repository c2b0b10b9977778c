// SPDX-License-Identifier: MPL-2.0

//! `flvh265mux` between pads of the test's own, and the tags behind it, byte by byte.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use flv::tag::TAG_HEADER_BYTES;
use flv::{Dialect, TagHeader, TagType, VideoPacket};
use gst::ClockTime;
use gst::prelude::*;

use super::{PATIENCE, init, wait_for};

pub const MS: ClockTime = ClockTime::from_mseconds(1);

/// An hvcC with one parameter set of each kind; `mark` tells one from another.
pub fn hvcc(mark: u8) -> Vec<u8> {
    let mut record =
        vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3];
    for nal_type in [32, 33, 34] {
        record.extend([0x80 | nal_type, 0, 1, 0, 3, nal_type << 1, 1, mark]);
    }
    record
}

/// An avcC likewise.
pub fn avcc(mark: u8) -> Vec<u8> {
    vec![1, 66, 0, 30, 0xff, 0xe1, 0, 3, 0x67, 66, mark, 1, 0, 2, 0x68, mark]
}

pub fn h265(mark: u8) -> gst::Caps {
    gst::Caps::builder("video/x-h265")
        .field("stream-format", "hvc1")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(hvcc(mark)))
        .field("width", 640i32)
        .field("height", 480i32)
        .field("framerate", gst::Fraction::new(25, 1))
        .build()
}

pub fn h264(mark: u8) -> gst::Caps {
    gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(avcc(mark)))
        .build()
}

pub fn aac() -> gst::Caps {
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
pub enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
}

/// The muxer between pads of the test's own.
pub struct Rig {
    pub mux: gst::Element,
    pub bus: gst::Bus,
    pub video: gst::Pad,
    pub audio: Option<gst::Pad>,
    pub out: Arc<(Mutex<Vec<Item>>, Condvar)>,
    /// How long the next push takes, as into a sink that syncs.
    pub hold: Arc<Mutex<Duration>>,
    /// What stands downstream.
    pub drain: gst::Pad,
}

impl Rig {
    pub fn new(properties: &[(&str, &str)], audio: bool) -> Self {
        Self::with_latency(properties, audio, None)
    }

    /// `latency`: the pads are live, with this latency upstream.
    pub fn with_latency(properties: &[(&str, &str)], audio: bool, latency: Option<ClockTime>) -> Self {
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
        let rig = Self { mux, bus, video, audio, out, hold, drain };
        rig.start();
        rig
    }

    pub fn start(&self) {
        self.mux.set_clock(Some(&gst::SystemClock::obtain())).unwrap();
        self.mux.set_base_time(gst::SystemClock::obtain().time());
        self.mux.set_state(gst::State::Playing).unwrap();
        for pad in [Some(&self.video), self.audio.as_ref()].into_iter().flatten() {
            pad.set_active(true).unwrap();
        }
    }

    pub fn audio(&self) -> &gst::Pad {
        self.audio.as_ref().unwrap()
    }

    pub fn items(&self) -> Vec<Item> {
        self.out.0.lock().unwrap().clone()
    }

    pub fn wait_until(&self, what: &str, done: impl Fn(&Rig) -> bool) {
        wait_for(what, || done(self));
    }

    /// The tags that came, parsed, without the file header; each buffer is exactly one.
    pub fn tags(&self) -> Vec<Tag> {
        let buffers = self.items().into_iter().filter_map(|item| match item {
            Item::Buffer(buffer) => Some(buffer),
            Item::Event(_) => None,
        });
        buffers.filter(|buffer| buffer.map_readable().unwrap()[..3] != *b"FLV").map(Tag::new).collect()
    }

    /// The video tags that are frames.
    pub fn frames(&self) -> Vec<Tag> {
        self.tags().into_iter().filter(|tag| matches!(tag.packet, Some(VideoPacket::Frame { .. }))).collect()
    }

    pub fn events(&self) -> Vec<gst::EventType> {
        let events = self.items().into_iter().filter_map(|item| match item {
            Item::Event(event) => Some(event.type_()),
            Item::Buffer(_) => None,
        });
        events.collect()
    }

    /// EOS came out, last.
    pub fn ended(&self) -> bool {
        matches!(self.items().last(), Some(Item::Event(event)) if event.type_() == gst::EventType::Eos)
    }

    pub fn error(&self) -> String {
        let patience = ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
        let message = self.bus.timed_pop_filtered(patience, &[gst::MessageType::Error]).expect("an error");
        let gst::MessageView::Error(error) = message.view() else { unreachable!() };
        error.error().to_string()
    }

    pub fn no_error(&self) {
        assert!(self.bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    }

    pub fn stat(&self, field: &str) -> u64 {
        self.mux.property::<gst::Structure>("stats").get(field).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.mux.set_state(gst::State::Null);
    }
}

#[derive(Debug, Clone)]
pub struct Tag {
    pub header: TagHeader,
    pub dialect: Option<Dialect>,
    pub packet: Option<VideoPacket>,
    pub payload: Vec<u8>,
    pub buffer: gst::Buffer,
}

impl Tag {
    pub fn new(buffer: gst::Buffer) -> Self {
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

    pub fn ms(&self) -> u32 {
        self.header.timestamp_ms
    }

    pub fn composition(&self) -> i32 {
        match self.packet {
            Some(VideoPacket::Frame { composition_ms, .. }) => composition_ms,
            _ => panic!("no frame: {self:?}"),
        }
    }

    pub fn is_header(&self) -> bool {
        self.packet == Some(VideoPacket::SequenceHeader)
    }
}

pub fn begin(pad: &gst::Pad, caps: &gst::Caps) {
    assert!(pad.push_event(gst::event::StreamStart::new(&pad.name())));
    assert!(pad.push_event(gst::event::Caps::new(caps)));
    assert!(pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<ClockTime>::new())));
}

pub fn unit(pts: Option<ClockTime>, dts: Option<ClockTime>, key: bool, payload: &[u8]) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(payload.to_vec());
    let unit = buffer.get_mut().unwrap();
    unit.set_pts(pts);
    unit.set_dts(dts);
    if !key {
        unit.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    buffer
}

pub fn push(pad: &gst::Pad, ms: u64, key: bool) {
    pad.push(unit(Some(ms * MS), Some(ms * MS), key, b"unit")).unwrap();
}

pub fn eos(pad: &gst::Pad) {
    assert!(pad.push_event(gst::event::Eos::new()));
}

/// The buffers in each caps that came.
pub fn streamheader(rig: &Rig) -> Vec<Vec<gst::Buffer>> {
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
