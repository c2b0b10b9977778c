// SPDX-License-Identifier: MPL-2.0

//! What changes while playing: the tracks' queues, and which of their frames is written next.

use std::collections::VecDeque;
use std::time::Duration;

use flv::interleave::{self, Head, Next};
use flv::timeline::DecodeOffset;
use gst::prelude::*;

use super::config::Config;
use super::settings::Settings;
use super::writer::{Frame, Out, Sink, Tracks, Writer};

/// Frames of a track that wait for the other one before its thread has to.
const MAX_QUEUED: usize = 64;

/// How much longer a live track is waited for that the header would have to do without.
const FIRST_FRAME_NS: i64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Video = 0,
    Audio = 1,
}

/// What stands behind a sink pad.
pub(super) struct Track {
    pub pad: gst::Pad,
    pub queue: VecDeque<Frame>,
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    /// The last caps, and whether a frame has taken them along yet.
    pub config: Option<Config>,
    config_is_new: bool,
    bitrate: Option<u32>,
    offset: DecodeOffset,
    /// How far decoding times were ahead of presentation times at most, in nanoseconds: a frame comes that much
    /// later than its decoding time says.
    pub reordering: i64,
    /// The last frame's PTS where no frame has had a DTS.
    last_pts_alone: Option<i64>,
    /// No frame before this running time will come.
    position: Option<i64>,
    pub eos: bool,
    pub flushing: bool,
    /// A flush was asked for that has not come yet.
    pub flush_due: bool,
    /// Its thread waits for room.
    pub waiting: bool,
    /// Its thread is with us, pushing or waiting: that its next frame is not there is not its fault.
    pub inside: bool,
    /// Nor is it before this running time, for its thread was held up here.
    pub excused_until: Option<i64>,
}

impl Track {
    pub fn new(pad: gst::Pad) -> Self {
        Self {
            pad,
            queue: VecDeque::new(),
            segment: gst::FormattedSegment::new(),
            config: None,
            config_is_new: false,
            bitrate: None,
            offset: DecodeOffset::default(),
            reordering: 0,
            last_pts_alone: None,
            position: None,
            eos: false,
            flushing: false,
            flush_due: false,
            waiting: false,
            inside: false,
            excused_until: None,
        }
    }

    /// After a flush: all is void but what is sticky.
    pub fn flush(&mut self) {
        let config = self.config.take();
        let Self { bitrate, reordering, .. } = *self;
        *self = Self { config, bitrate, reordering, ..Self::new(self.pad.clone()) };
    }

    pub fn set_config(&mut self, config: Config) {
        if self.config.as_ref() != Some(&config) {
            self.config = Some(config);
            self.config_is_new = true;
        }
    }

    /// The next stream begins with the caps that hold, whether they are new or not.
    fn renew_config(&mut self) {
        self.config_is_new = self.config.is_some();
        if !self.queue.is_empty()
            && let Some(config) = self.take_config()
            && let Some(frame) = self.queue.front_mut()
        {
            frame.config.get_or_insert(Box::new(config));
        }
    }

    /// The bitrates of a tag event go into onMetaData.
    pub fn set_tags(&mut self, tags: &gst::TagListRef) {
        let nominal = tags.get::<gst::tags::NominalBitrate>().map(|rate| rate.get());
        let measured = || tags.get::<gst::tags::Bitrate>().map(|rate| rate.get());
        if let Some(bitrate) = nominal.or_else(measured) {
            self.bitrate = Some(bitrate);
        }
    }

    /// A gap of the stream: the other one need not wait for it.
    pub fn gap(&mut self, start: gst::ClockTime, duration: Option<gst::ClockTime>) {
        let end = start + duration.unwrap_or(gst::ClockTime::ZERO);
        self.position = self.position.max(self.running_time(end));
    }

    /// Puts a frame at the end of the queue. The error is one for the user.
    pub fn enqueue(&mut self, kind: Kind, buffer: gst::Buffer) -> Result<Queued, String> {
        let (pts, dts) = (buffer.pts(), buffer.dts());
        let no_time = || {
            let pad = self.pad.name();
            format!("a buffer on pad {pad} has neither PTS nor DTS, but a tag has a time; {buffer:?}")
        };
        let time = pts.or(dts).ok_or_else(no_time)?;
        let outside = |time| format!("time {time} of a buffer is not in its segment {:?}", self.segment);
        let running = |time| self.running_time(time).ok_or_else(|| outside(time));
        let pts = running(time)?;
        let mut queued = Queued::default();
        let dts = match dts.filter(|_| kind == Kind::Video) {
            Some(dts) => {
                let known = self.offset.clone();
                let dts = self.offset.apply(running(dts)?, pts);
                queued.moved = self.offset != known;
                dts
            }
            None => {
                queued.reordered_without_dts = self.last_pts_alone.is_some_and(|last| pts < last);
                self.last_pts_alone = Some(pts);
                pts
            }
        };
        self.position = self.position.max(Some(dts));
        queued.more_reordering = pts - dts > self.reordering;
        self.reordering = self.reordering.max(pts - dts);
        if buffer.size() > 0 {
            let config = self.take_config().map(Box::new);
            self.queue.push_back(Frame { buffer, dts, pts, config });
        }
        Ok(queued)
    }

    fn take_config(&mut self) -> Option<Config> {
        let mut config = std::mem::take(&mut self.config_is_new).then(|| self.config.clone()).flatten()?;
        match &mut config {
            Config::Video(video) => video.bitrate = self.bitrate,
            Config::Audio(audio) => audio.bitrate = self.bitrate,
        }
        Some(config)
    }

    fn running_time(&self, time: gst::ClockTime) -> Option<i64> {
        match self.segment.to_running_time_full(time)? {
            gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok(),
            gst::Signed::Negative(time) => i64::try_from(time.nseconds()).ok().map(|time| -time),
        }
    }

    fn head(&self) -> Head {
        Head { dts: self.queue.front().map(|frame| frame.dts), position: self.position, ended: self.eos }
    }

    /// What the header says of it: what its first frame brings, or its caps if no frame is there yet.
    fn take_first_config(&mut self) -> Option<Config> {
        match self.queue.front_mut() {
            Some(frame) => frame.config.take().map(|config| *config),
            None => self.take_config(),
        }
    }
}

/// What a frame has shown of its stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queued {
    /// Presentation goes back and forth, and nothing says in which order frames are decoded.
    pub reordered_without_dts: bool,
    /// Decoding times run ahead of presentation by more than was known, and are moved by it from here on.
    pub moved: bool,
    /// Frames come later than was known.
    pub more_reordering: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub settings: Settings,
    /// By [`Kind`].
    pub tracks: [Option<Track>; 2],
    pub writer: Option<Writer>,
    pub sink: Sink,
    /// A thread is pushing; what others queue meanwhile is its to push.
    pub pushing: bool,
    /// The result of the last push.
    pub flow: Option<gst::FlowError>,
    pub started: bool,
    pub ended: bool,
    /// Asked of upstream; `Some(None)`: not live.
    pub latency: Option<Option<gst::ClockTime>>,
    /// Asked of downstream.
    pub can_rewrite: Option<bool>,
    /// Between the first FLUSH_START and the last FLUSH_STOP.
    pub flushing: bool,
    /// Events that have come before the first tag.
    early: Vec<gst::Event>,
    /// It was said once that DTS are missing.
    pub warned_of_order: bool,
}

impl State {
    pub fn track(&mut self, kind: Kind) -> Option<&mut Track> {
        self.tracks[kind as usize].as_mut()
    }

    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().flatten()
    }

    /// For a start; the pads' caps come anew.
    pub fn reset(&mut self) {
        for track in self.tracks.iter_mut().flatten() {
            *track = Track::new(track.pad.clone());
        }
        self.begin_anew();
        self.latency = None;
        self.flushing = false;
        self.warned_of_order = false;
    }

    /// After a flush: what comes next is another stream, with headers of its own.
    pub fn begin_anew(&mut self) {
        self.tracks.iter_mut().flatten().for_each(Track::renew_config);
        self.writer = None;
        self.sink.out.clear();
        self.early.clear();
        self.flow = None;
        self.ended = false;
        self.can_rewrite = None;
    }

    /// The flush has reached all pads that it will.
    pub fn flush_is_over(&self) -> bool {
        self.flushing && !self.tracks().any(|track| track.flushing || track.flush_due)
    }

    /// An event of upstream's that is passed on among the tags.
    pub fn pass_on(&mut self, event: gst::Event) {
        match self.writer {
            Some(_) => self.sink.out.push_back(Out::Event(event)),
            None => self.early.push(event),
        }
    }

    /// How much later than at its decoding time and upstream's latency a live frame may come.
    pub fn own_latency(&self) -> gst::ClockTime {
        let reordering = self.tracks().map(|track| track.reordering).max().unwrap_or(0);
        self.settings.latency + gst::ClockTime::from_nseconds(reordering.max(0).unsigned_abs())
    }

    /// The latency of a live stream that waits for another one.
    fn live(&self) -> Option<gst::ClockTime> {
        self.latency.flatten()
    }

    /// Two live tracks wait for each other.
    pub fn is_live(&self) -> bool {
        self.live().is_some()
    }

    /// A live stream is never ahead by more than the frame that waits; during a flush it goes on into the queue.
    pub fn must_wait(&self, kind: Kind) -> bool {
        let limit = if self.live().is_some() && !self.flushing { 1 } else { MAX_QUEUED };
        let full = |track: &Track| !track.flushing && track.queue.len() >= limit;
        self.flow.is_none() && !self.ended && self.tracks[kind as usize].as_ref().is_some_and(full)
    }

    /// Somebody waits for what happens here.
    pub fn is_awaited(&self) -> bool {
        self.flushing || self.tracks().any(|track| track.waiting)
    }

    /// A waiting thread can go on; woken late, so that it is not for every frame.
    pub fn has_news(&self) -> bool {
        let limit = if self.live().is_some() { 0 } else { MAX_QUEUED / 2 };
        self.tracks().any(|track| track.waiting && track.queue.len() <= limit)
    }

    /// When a live frame is written even if an earlier one of the other track may still come, in nanoseconds of
    /// running time; `None`: not before something changes.
    fn deadline(&self, track: usize, dts: i64) -> Option<i64> {
        let latency = self.live()? + self.own_latency();
        let deadline = dts.saturating_add(latency.nseconds() as i64);
        match &self.tracks[1 - track] {
            Some(other) if other.inside => None,
            // A stream without one of its tracks in the header is of little use: encoders may take their time once.
            Some(other) if self.writer.is_none() && other.position.is_none() => {
                Some(deadline.saturating_add(FIRST_FRAME_NS))
            }
            Some(other) => Some(other.excused_until.map_or(deadline, |excused| excused.max(deadline))),
            None => Some(deadline),
        }
    }

    /// How long the thread of a live track may wait for room.
    pub fn patience(&self, kind: Kind, now: impl Fn() -> Option<i64>) -> Option<Duration> {
        let track = kind as usize;
        let first = self.tracks[track].as_ref()?.queue.front()?;
        let left = self.deadline(track, first.dts)?.saturating_sub(now()?);
        Some(Duration::from_nanos(left.max(0).unsigned_abs()))
    }

    /// What goes downstream next; `now` tells running time.
    pub fn next(&mut self, now: impl Fn() -> Option<i64>) -> Result<Option<Out>, String> {
        loop {
            if let Some(out) = self.sink.out.pop_front() {
                return Ok(Some(out));
            }
            if self.ended || self.flushing || self.flow.is_some() {
                return Ok(None);
            }
            let heads = [0, 1].map(|i| match &self.tracks[i] {
                Some(track) => track.head(),
                None => Head { ended: true, ..Head::default() },
            });
            match interleave::next(&heads) {
                Next::Take(track) => self.write(track)?,
                Next::Wait { track, dts } => {
                    let deadline = self.deadline(track, dts);
                    if deadline.zip(now()).is_none_or(|(deadline, now)| now < deadline) {
                        return Ok(None);
                    }
                    self.write(track)?;
                }
                Next::Nothing => return Ok(None),
                Next::End => self.end(),
            }
        }
    }

    fn write(&mut self, track: usize) -> Result<(), String> {
        if self.writer.is_none() {
            self.begin();
        }
        let (Some(writer), Some(track_state)) = (&mut self.writer, &mut self.tracks[track]) else {
            return Ok(());
        };
        let Some(frame) = track_state.queue.pop_front() else { return Ok(()) };
        match track {
            0 => writer.video_frame(frame, &mut self.sink),
            _ => writer.audio_frame(frame, &mut self.sink),
        }
    }

    fn start(&mut self) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let upstream = self.tracks().find_map(|track| track.pad.sticky_event::<gst::event::StreamStart>(0));
        let id = upstream.as_ref().map_or("", |event| event.stream_id());
        let group = upstream.as_ref().and_then(|event| event.group_id());
        let id = format!("{id}/flv");
        let group = group.unwrap_or_else(gst::GroupId::next);
        let start = gst::event::StreamStart::builder(&id).group_id(group).build();
        self.sink.out.push_back(Out::Event(start));
    }

    fn begin(&mut self) {
        self.start();
        let mut tracks = Tracks::default();
        for track in self.tracks.iter_mut().flatten() {
            match track.take_first_config() {
                Some(Config::Video(video)) => tracks.video = Some(video),
                Some(Config::Audio(audio)) => tracks.audio = Some(audio),
                None => {}
            }
        }
        let first_dts = self.tracks().filter_map(|track| track.head().dts).min().unwrap_or(0);
        let file = !self.settings.streamable && self.can_rewrite == Some(true);
        let settings = self.settings.clone();
        self.writer = Some(Writer::begin(settings, tracks, first_dts, file, &mut self.sink));
        self.sink.out.extend(self.early.drain(..).map(Out::Event));
    }

    fn end(&mut self) {
        self.start();
        if let Some(writer) = &mut self.writer {
            writer.end(&mut self.sink);
        }
        self.sink.out.push_back(Out::Event(gst::event::Eos::new()));
        self.ended = true;
    }
}
