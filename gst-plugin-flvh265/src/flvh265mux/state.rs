// SPDX-License-Identifier: MPL-2.0

//! What changes while playing: the tracks' queues, and which of their frames is written next.

use std::collections::VecDeque;
use std::time::Duration;

use flv::interleave::{self, Head, Next};
use flv::timeline::DecodeOffset;
use gst::prelude::*;

use super::config::{Config, codec_name};
use super::settings::Settings;
use super::writer::{Frame, Out, Sink, Tracks, Writer};

/// Frames of a track that wait for the other one before its thread has to.
const MAX_QUEUED: usize = 64;

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
    /// No frame before this running time will come.
    position: Option<i64>,
    pub eos: bool,
    pub flushing: bool,
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
            position: None,
            eos: false,
            flushing: false,
            waiting: false,
            inside: false,
            excused_until: None,
        }
    }

    /// As new, but for the caps, which are sticky.
    pub fn reset(&mut self) {
        let config = self.config.take();
        let config_is_new = config.is_some();
        *self = Self { config, config_is_new, bitrate: self.bitrate, ..Self::new(self.pad.clone()) };
    }

    /// Takes new caps; the error is one for the user.
    pub fn set_config(&mut self, config: Config) -> Result<(), String> {
        if let (Some(Config::Video(old)), Config::Video(new)) = (&self.config, &config)
            && old.dialect != new.dialect
        {
            let [old, new] = [old, new].map(|video| codec_name(video.dialect.codec()));
            return Err(format!("the codec changes from {old} to {new}, but FLV's cannot within a stream"));
        }
        if self.config.as_ref() != Some(&config) {
            self.config = Some(config);
            self.config_is_new = true;
        }
        Ok(())
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

    /// Puts a frame at the end of the queue. `None` for the times is an error that names the buffer's.
    pub fn enqueue(&mut self, kind: Kind, buffer: gst::Buffer) -> Result<(), String> {
        let (pts, dts) = (buffer.pts(), buffer.dts());
        let no_time = || {
            let pad = self.pad.name();
            format!("a buffer on pad {pad} has neither PTS nor DTS, but a tag has a time; {buffer:?}")
        };
        let pts = pts.or(dts).ok_or_else(no_time)?;
        let dts = if kind == Kind::Audio { pts } else { dts.unwrap_or(pts) };
        let outside = |time| format!("time {time} of a buffer is not in its segment {:?}", self.segment);
        let pts = self.running_time(pts).ok_or_else(|| outside(pts))?;
        let mut dts = self.running_time(dts).ok_or_else(|| outside(dts))?;
        if kind == Kind::Video {
            dts = self.offset.apply(dts, pts);
        }
        self.position = self.position.max(Some(dts));
        if buffer.size() == 0 {
            return Ok(());
        }
        let config = self.take_config().map(Box::new);
        self.queue.push_back(Frame { buffer, dts, pts, config });
        Ok(())
    }

    fn take_config(&mut self) -> Option<Config> {
        std::mem::take(&mut self.config_is_new).then(|| self.config.clone()).flatten()
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
    fn take_first_config(&mut self) -> Option<(Config, Option<u32>)> {
        let config = match self.queue.front_mut() {
            Some(frame) => frame.config.take().map(|config| *config),
            None => self.take_config(),
        };
        Some((config?, self.bitrate))
    }
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
}

impl State {
    pub fn track(&mut self, kind: Kind) -> Option<&mut Track> {
        self.tracks[kind as usize].as_mut()
    }

    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().flatten()
    }

    /// For a new stream; the pads' caps stay, and so does what they are linked to.
    pub fn reset(&mut self) {
        self.tracks.iter_mut().flatten().for_each(Track::reset);
        self.writer = None;
        self.sink.out.clear();
        self.flow = None;
        self.ended = false;
        self.latency = None;
        self.can_rewrite = None;
    }

    /// The latency of a live stream that waits for another one.
    fn live(&self) -> Option<gst::ClockTime> {
        self.latency.flatten()
    }

    /// Two live tracks wait for each other.
    pub fn is_live(&self) -> bool {
        self.live().is_some()
    }

    /// A live stream is never ahead by more than the frame that waits.
    pub fn must_wait(&self, kind: Kind) -> bool {
        let limit = if self.live().is_some() { 1 } else { MAX_QUEUED };
        let full = |track: &Track| !track.flushing && track.queue.len() >= limit;
        self.flow.is_none() && !self.ended && self.tracks[kind as usize].as_ref().is_some_and(full)
    }

    /// A waiting thread can go on; woken late, so that it is not for every frame.
    pub fn has_news(&self) -> bool {
        let limit = if self.live().is_some() { 0 } else { MAX_QUEUED / 2 };
        self.tracks().any(|track| track.waiting && track.queue.len() <= limit)
    }

    /// When a live frame is written even if an earlier one of the other track may still come, in nanoseconds of
    /// running time; `None`: not before something changes.
    fn deadline(&self, track: usize, dts: i64) -> Option<i64> {
        let deadline = dts.saturating_add(self.live()?.nseconds() as i64);
        match &self.tracks[1 - track] {
            Some(other) if other.inside => None,
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
            if self.ended || self.flow.is_some() {
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
        let written = match track {
            0 => writer.video_frame(frame, &mut self.sink),
            _ => writer.audio_frame(frame, &mut self.sink),
        };
        written.map_err(|error| error.to_string())
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
                Some((Config::Video(video), bitrate)) => tracks.video = Some((video, bitrate)),
                Some((Config::Audio(audio), bitrate)) => tracks.audio = Some((audio, bitrate)),
                None => {}
            }
        }
        let first_dts = self.tracks().filter_map(|track| track.head().dts).min().unwrap_or(0);
        let file = !self.settings.streamable && self.can_rewrite == Some(true);
        let settings = self.settings.clone();
        self.writer = Some(Writer::begin(settings, tracks, first_dts, file, &mut self.sink));
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
