// SPDX-License-Identifier: MPL-2.0

//! Decoding what was received, in process, and a log of the pictures: which frame of the simulator each shows, and
//! when it came.

use std::collections::HashMap;
use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use gst::prelude::*;
use serde_json::json;

use super::{Breach, Codec};
use crate::exit::{Exit, Failure, configuration};
use crate::pattern::Pattern;
use crate::tell;

/// Access units that a decoder may hold back before one that came out later shows that they are missing.
const HELD_BACK: u64 = 64;
/// A decoder that takes longer to end does not work.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// What is known of an access unit before it is decoded.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub pts_ns: u64,
    /// When its first packet or tag came.
    pub arrival_unix_ns: u64,
    /// RTP timestamp, or FLV milliseconds.
    pub timestamp: u32,
    pub key: bool,
    pub session: u64,
    /// The size that the picture must have.
    pub size: Option<(u32, u32)>,
    /// A decoder may leave it out.
    pub optional: bool,
    /// Something was lost of it, or of what it refers to: its picture may be missing or damaged.
    pub damaged: bool,
}

impl Unit {
    /// A picture must come of it.
    fn is_owed(&self) -> bool {
        !self.optional && !self.damaged
    }
}

/// What came out of the decoders.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Counted {
    /// Of the last picture.
    pub width: u32,
    pub height: u32,
    /// Decoded pictures.
    pub pictures: u64,
    /// Those that show a frame count of the simulator.
    pub counted_pictures: u64,
    /// Those that the decoder says are damaged.
    pub corrupted_pictures: u64,
    /// Access units that came whole, as did what they refer to, and gave no picture.
    pub missing_pictures: u64,
}

/// What all decoders of a run add to.
#[derive(Clone)]
pub(super) struct Pictures(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    counted: Counted,
    /// Damaged pictures of access units that came whole.
    spoilt: u64,
    breaches: Vec<Breach>,
    log: Option<LineWriter<File>>,
}

impl Pictures {
    pub fn new(log: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let failed = |error| configuration(format!("--frames-log {}: {error}", path.display()));
            File::create(path).map(LineWriter::new).map_err(failed)
        };
        let log = log.map(open).transpose()?;
        Ok(Self(Arc::new(Mutex::new(Seen { log, ..Seen::default() }))))
    }

    pub fn counted(&self) -> Counted {
        self.lock().counted.clone()
    }

    /// Pictures that the decoder does not call damaged.
    pub fn undamaged(&self) -> u64 {
        let counted = &self.lock().counted;
        counted.pictures - counted.corrupted_pictures
    }

    /// What was found since the last call.
    pub fn breaches(&self) -> Vec<Breach> {
        std::mem::take(&mut self.lock().breaches)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What goes into a decoder.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input {
    /// RTP packets.
    Rtp,
    /// Access units with length prefixes, and a configuration record in the caps.
    Units,
}

/// `appsrc ! ... ! avdec ! appsink`, and the access units in it.
pub(super) struct Decoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    codec: Codec,
    pictures: Pictures,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    units: HashMap<u64, (u64, Unit)>,
    /// Numbers access units in the order of decoding.
    next: u64,
    /// One was damaged.
    damaged: bool,
    pattern: Option<((u32, u32), Option<Pattern>)>,
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Pipeline, format!("the receiver's decoder cannot start: {error}"))
}

impl Decoder {
    pub fn start(codec: Codec, input: Input, pictures: &Pictures) -> Result<Self, Failure> {
        gst::init().map_err(|error| failed(&error))?;
        let name = codec.name();
        let depay = match input {
            Input::Rtp => format!(
                "rtp{name}depay ! video/x-{name},stream-format=byte-stream,alignment=au ! {name}parse"
            ),
            Input::Units => format!("{name}parse"),
        };
        // One thread: frame threads would hold pictures back.
        let launch = format!(
            "appsrc name=in format=time ! {depay} ! avdec_{name} max-threads=1 ! videoconvert \
             ! video/x-raw,format=(string){{I420,Y42B,Y444,NV12,GRAY8}} ! appsink name=out sync=false"
        );
        let pipeline = gst::parse::launch(&launch)
            .map_err(|error| failed(&error))?
            .downcast::<gst::Pipeline>()
            .expect("a launch line of several elements is a pipeline");
        let find = |name| pipeline.by_name(name).expect("it is in the launch line");
        let source = find("in").downcast::<gst_app::AppSrc>().expect("appsrc");
        let sink = find("out").downcast::<gst_app::AppSink>().expect("appsink");
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (units, seen) = (waiting.clone(), pictures.clone());
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let decoded = unix_now_ns();
            show(&sample, decoded, &mut lock(&units), &mut seen.lock());
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        let decoder = Self { pipeline, source, codec, pictures: pictures.clone(), waiting };
        decoder.pipeline.set_state(gst::State::Playing).map_err(|error| failed(&error))?;
        Ok(decoder)
    }

    /// What the buffers that follow are.
    pub fn caps(&self, caps: &gst::Caps) {
        self.source.set_caps(Some(caps));
    }

    /// Caps of access units with this configuration record.
    pub fn configuration(&self, record: &[u8]) {
        let format = match self.codec {
            Codec::H264 => "avc",
            Codec::H265 => "hvc1",
        };
        let caps = gst::Caps::builder(format!("video/x-{}", self.codec.name()))
            .field("stream-format", format)
            .field("alignment", "au")
            .field("codec_data", gst::Buffer::from_slice(record.to_vec()))
            .build();
        self.caps(&caps);
    }

    /// Announces an access unit, before the last of its bytes goes in.
    pub fn announce(&self, unit: Unit) {
        let mut waiting = lock(&self.waiting);
        let number = waiting.next;
        waiting.next += 1;
        waiting.damaged |= unit.damaged;
        waiting.units.insert(unit.pts_ns, (number, unit));
    }

    pub fn push(&self, bytes: &[u8], pts_ns: u64) {
        let mut buffer = gst::Buffer::from_slice(bytes.to_vec());
        // It has one value less than 64 bits.
        buffer.make_mut().set_pts(gst::ClockTime::from_nseconds(pts_ns.min(u64::MAX - 1)));
        // Where it fails there is an error on the bus.
        let _ = self.source.push_buffer(buffer);
    }

    /// What the decoder reported since the last call.
    pub fn trouble(&self) -> Option<Breach> {
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        bus.pop_filtered(&[gst::MessageType::Error]).map(|message| breach(&message))
    }

    /// Takes out what is still in the decoder. Where `sound` is false, pictures may be missing.
    pub fn finish(self, sound: bool) -> Vec<Breach> {
        let mut found = Vec::new();
        let _ = self.source.end_of_stream();
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        match bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Error, gst::MessageType::Eos]) {
            Some(message) if message.type_() == gst::MessageType::Error => found.push(breach(&message)),
            Some(_) => (),
            None => found.push(Breach::protocol(format!("the decoder did not end in {PATIENCE}"))),
        }
        // Behind it no callback runs.
        let _ = self.pipeline.set_state(gst::State::Null);
        let mut waiting = lock(&self.waiting);
        let mut seen = self.pictures.lock();
        for (_, (_, unit)) in waiting.units.drain() {
            seen.counted.missing_pictures += u64::from(unit.is_owed());
        }
        let Counted { pictures, missing_pictures: missing, .. } = seen.counted;
        let spoilt = seen.spoilt;
        if sound && spoilt + missing > 0 {
            found.push(Breach::protocol(format!(
                "of {} access units, {missing} that came whole gave no picture and {spoilt} a damaged one",
                pictures + missing
            )));
        }
        found
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn breach(message: &gst::Message) -> Breach {
    match message.view() {
        gst::MessageView::Error(error) => {
            let source = error.src().map(|source| source.name()).unwrap_or_default();
            Breach::protocol(format!("decoding: {source}: {}", error.error()))
        }
        _ => Breach::protocol("decoding ended early"),
    }
}

/// Takes in a picture.
fn show(sample: &gst::Sample, decoded_unix_ns: u64, waiting: &mut Waiting, seen: &mut Seen) {
    let Some(buffer) = sample.buffer() else { return };
    let Some(info) = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok()) else {
        return;
    };
    let size = (info.width(), info.height());
    let count = frame_count(buffer, &info, waiting);
    let counted = &mut seen.counted;
    counted.pictures += 1;
    (counted.width, counted.height) = size;
    counted.counted_pictures += u64::from(count.is_some());
    let corrupted = buffer.flags().contains(gst::BufferFlags::CORRUPTED);
    counted.corrupted_pictures += u64::from(corrupted);
    let unit = buffer.pts().and_then(|pts| waiting.units.remove(&pts.nseconds()));
    let Some((number, unit)) = unit else {
        // A damaged access unit may give two.
        if !waiting.damaged {
            let what = format!("a picture at {:?} that nothing was sent for", buffer.pts());
            seen.breaches.push(Breach::protocol(what));
        }
        return;
    };
    seen.spoilt += u64::from(corrupted && !unit.damaged);
    waiting.units.retain(|_, (waiting, unit)| {
        let missing = *waiting + HELD_BACK < number;
        counted.missing_pictures += u64::from(missing && unit.is_owed());
        !missing
    });
    if let Some((width, height)) = unit.size.filter(|told| *told != size) {
        seen.breaches.push(Breach::protocol(format!(
            "a picture of {}x{}, but onMetaData told {width}x{height}",
            size.0, size.1
        )));
    }
    let line = json!({
        "count": count,
        "unix_ns": unit.arrival_unix_ns,
        "timestamp": unit.timestamp,
        "key": unit.key,
        "session": unit.session,
        "width": size.0,
        "height": size.1,
        "decoded_unix_ns": decoded_unix_ns,
    });
    if let Some(log) = &mut seen.log
        && let Err(error) = writeln!(log, "{line}")
    {
        tell::talk(format_args!("the frames log ends here: {error}"));
        seen.log = None;
    }
}

/// The simulator's frame count, if the picture shows one.
fn frame_count(buffer: &gst::BufferRef, info: &gst_video::VideoInfo, waiting: &mut Waiting) -> Option<u32> {
    let size = (info.width(), info.height());
    if waiting.pattern.as_ref().is_none_or(|(made, _)| *made != size) {
        // Luma is the first plane of all formats that the sink takes.
        waiting.pattern = Some((size, Pattern::new(PixelFormat::Gray, Depth::U8, size.0, size.1)));
    }
    let pattern = waiting.pattern.as_ref()?.1.as_ref()?;
    pattern.read_luma(buffer, info)
}
