// SPDX-License-Identifier: MPL-2.0

//! What is shared while a recording is open, between READY and PAUSED.
//!
//! Locks: each is held for single reads and writes, none while another is taken, nothing is pushed or posted under one.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use svo2::{Found, Recording};

use super::seek::Seek;
use super::sensors::Imu;
use super::timeline::Timeline;

pub(super) struct Session {
    pub timeline: Timeline,
    /// Nothing is decoded.
    pub encoded: bool,
    /// Pictures that may be held to be shown backwards.
    pub batch: usize,
    /// Of the access units.
    pub caps: gst::Caps,
    pub out: Mutex<Out>,
    /// A seek that the streaming thread has still to do.
    pub pending: Mutex<Option<Seek>>,
    /// The last seek that was taken: each sink of a pipeline passes the same one on.
    pub sought: Mutex<Option<gst::Seqnum>>,
    /// Who flushes or stops the outside just now: what is refused meanwhile, events too, is no error.
    pub flushes: AtomicUsize,
    /// Somebody asked for the end.
    pub ends: AtomicBool,
    /// The chain is being emptied, of pieces that may have no picture.
    pub draining: AtomicBool,
    pub stats: Mutex<Stats>,
    /// Where samples are asked for and there.
    pub imu: Mutex<Option<Imu>>,
    /// So many remarks on the recording were told.
    pub remarked: AtomicUsize,
    /// Damaged frames that were told of.
    pub told: Mutex<BTreeSet<usize>>,
}

/// What the outlet does with what comes.
pub(super) struct Out {
    /// As it is outside.
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    pub seqnum: gst::Seqnum,
    /// The segment has still to go out.
    pub segment_due: bool,
    /// Frames of the piece that go out, inclusive.
    pub shown: Option<(usize, usize)>,
    /// Pictures come forwards and go out backwards, those of a piece together.
    pub reverse: bool,
    pub held: Vec<(usize, gst::Buffer)>,
    pub discont: bool,
    /// What downstream said last.
    pub flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// The frame that went out last.
    pub last: Option<usize>,
    /// Frames to be shown that went into the decoder, and have not come out.
    pub inside: BTreeSet<usize>,
    /// What the decoder said when it was emptied.
    pub complaint: Option<String>,
    /// Up to that time inside, somebody downstream is late: decoders leave frames out for that, until they are flushed.
    pub late_until: Option<gst::ClockTime>,
}

impl Out {
    /// Downstream is late for a segment, and the decoder is to be told, or was.
    pub fn late(&mut self, until: gst::ClockTime, seqnum: gst::Seqnum) {
        if seqnum == self.seqnum {
            self.late_until = self.late_until.max(Some(until));
        }
    }

    /// Downstream is late no more, and the decoder knows: it leaves out none of the frames that have still to go in.
    pub fn in_time(&mut self, timeline: &Timeline) {
        let newest = self.inside.last().map(|&frame| timeline.inner(frame));
        self.late_until = self.late_until.zip(newest).map(|(until, newest)| until.min(newest));
    }

    /// The frames in front of `frame` for which nothing came out and nothing will: runs, inclusive.
    pub fn swallowed(&mut self, frame: usize, timeline: &Timeline) -> Vec<(usize, usize)> {
        let rest = self.inside.split_off(&frame);
        let gone = std::mem::replace(&mut self.inside, rest);
        // Nothing is known of those that downstream did not take, or was late for.
        if self.flow.is_err() {
            return Vec::new();
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let excused = |frame| self.late_until.is_some_and(|until| timeline.inner(frame) <= until);
        for frame in gone.into_iter().filter(|&frame| !excused(frame)) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == frame => *last = frame,
                _ => runs.push((frame, frame)),
            }
        }
        runs
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct Stats {
    pub frames: u64,
    pub bytes: u64,
    pub skipped: u64,
    /// Of those, such as the decoder put nothing out for.
    pub undecoded: u64,
    /// That went out, and that the decoder says are not right.
    pub corrupted: u64,
    pub seeks: u64,
    pub decoder: Option<String>,
}

impl Session {
    pub fn new(timeline: Timeline, encoded: bool, caps: gst::Caps) -> Self {
        /// Bytes of pictures that may be held.
        const HELD: usize = 256 << 20;
        let (width, height) = timeline.recording.size();
        let picture = width as usize * height as usize * 3 / 2;
        let mut segment = gst::FormattedSegment::new();
        segment.set_duration(timeline.duration());
        segment.set_position(gst::ClockTime::ZERO);
        let out = Out {
            segment,
            seqnum: gst::Seqnum::next(),
            segment_due: true,
            shown: None,
            reverse: false,
            held: Vec::new(),
            discont: true,
            flow: Ok(gst::FlowSuccess::Ok),
            last: None,
            inside: BTreeSet::new(),
            complaint: None,
            late_until: None,
        };
        Self {
            timeline,
            encoded,
            batch: (HELD / picture.max(1)).clamp(4, 64),
            caps,
            out: Mutex::new(out),
            pending: Mutex::default(),
            sought: Mutex::default(),
            flushes: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stats: Mutex::default(),
            imu: Mutex::default(),
            remarked: AtomicUsize::new(0),
            told: Mutex::default(),
        }
    }

    /// Whether a picture that comes out of the decoder is one that goes out: the others are not worth a copy.
    pub fn shows(&self, picture: &gst::BufferRef) -> bool {
        let Some(inner) = picture.pts() else { return true };
        let frame = self.timeline.frame_of(inner);
        self.out.lock().unwrap().shown.is_some_and(|(first, last)| (first..=last).contains(&frame))
    }

    pub fn stats_structure(&self) -> gst::Structure {
        let stats = self.stats.lock().unwrap().clone();
        let recording = &self.timeline.recording;
        let (found, why) = found(recording);
        let unreadable = self.imu.lock().unwrap().as_ref().map_or(0, |imu| imu.unreadable);
        gst::Structure::builder("zedsvosrc-stats")
            .field("frames", stats.frames)
            .field("bytes", stats.bytes)
            .field("damaged", recording.damaged() as u64)
            .field("skipped", stats.skipped)
            .field("undecoded", stats.undecoded)
            .field("corrupted", stats.corrupted)
            .field("seeks", stats.seeks)
            .field("unreadable-samples", unreadable)
            .field("decoder", stats.decoder.unwrap_or_default())
            .field("found", found)
            .field("found-why", why)
            .build()
    }
}

/// `indexed`, `walked`, or `scanned` and why.
fn found(recording: &Recording) -> (&str, &str) {
    match recording.found() {
        Found::Indexed => ("indexed", ""),
        Found::Walked => ("walked", ""),
        Found::Scanned(why) => ("scanned", why),
    }
}

/// What a recording says of itself.
pub(super) fn info(recording: &Recording) -> gst::Structure {
    let header = recording.header();
    let (width, height) = recording.size();
    let (found, _) = found(recording);
    gst::Structure::builder("zedsvosrc-info")
        .field("serial", recording.serial())
        .field("sdk-version", &header.sdk_version)
        .field("model", header.model)
        .field("width", width / 2)
        .field("height", height)
        .field("fps", header.fps)
        .field("codec", recording.codec().name())
        .field("frames", recording.frames() as u64)
        .field("first-unix-time", recording.unix_ns(0))
        .field("last-unix-time", recording.unix_ns(recording.frames() - 1))
        .field("damaged-frames", recording.damaged() as u64)
        .field("found", found)
        .build()
}
