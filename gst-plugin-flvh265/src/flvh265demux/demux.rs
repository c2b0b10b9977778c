// SPDX-License-Identifier: MPL-2.0

//! From bytes to buffers: tags are taken off the front of what came, and their payloads pushed.

use flv::{AudioFormat, AudioPacket, Dialect, FileHeader, Framer, Step, TagHeader, TagType, Unsupported};
use flv::{VideoPacket, Window};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, FlvH265Demux, Mode};
use super::pieces::Pieces;
use super::state::{Clock, Facts, Promise, Run, clock_time, mp3_rate_and_channels};
use super::track::{Config, Kind, Track};

/// Scripts above this are not read: the values in them take many times their size.
const MAX_SCRIPT_BYTES: usize = 1 << 20;
/// Configuration records above this are none.
pub(super) const MAX_CONFIG_BYTES: usize = 1 << 16;
/// Runs of damage beyond this many are counted and logged, not posted.
const MAX_RUNS_TOLD: usize = 64;
/// Distinct reasons for skipped tags beyond this many are not posted.
const MAX_REASONS_TOLD: usize = 16;
/// For as long a stream that may have another track is waited for, in media time.
const NO_MORE_PADS_AFTER_MS: i64 = 1000;
/// A track that is further behind than this gets a gap event, so that nobody waits for it.
const GAP_AFTER_MS: i64 = 3000;

/// The other track's first frame may come as much before the first; further back is a wrong time.
const EARLIER: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// What only the holder of the sink pad's stream lock uses.
pub(super) struct Streaming {
    pub mode: Mode,
    pub pieces: Pieces,
    pub framer: Framer,
    /// The framer can say nothing before there are as many bytes.
    pub need: usize,
    /// Of the first byte in `pieces`.
    pub position: u64,
    pub clock: Clock,
    pub facts: Facts,
    pub header: Option<FileHeader>,
    tracks: [Track; 2],
    pub flow: gst_base::UniqueFlowCombiner,
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    /// `false`: the segment starts with the next frame.
    pub segment_known: bool,
    /// The segment's start came from the first frame, and may be lowered by the other track's first.
    segment_found: bool,
    pub seqnum: Option<gst::Seqnum>,
    pub group_id: Option<gst::GroupId>,
    /// Video waits for a key frame, after a seek to where one was expected.
    pub awaits_key: bool,
    /// The key frame's time becomes the segment's start.
    pub snaps: bool,
    pub no_more_pads: bool,
    /// EOS or segment-done was pushed.
    pub finished: bool,
    run: Option<Run>,
    runs_told: usize,
    reasons_told: Vec<String>,
    first_ms: Option<i64>,
    tags: u64,
}

impl Streaming {
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            pieces: Pieces::default(),
            framer: Framer::new(),
            need: 0,
            position: 0,
            clock: Clock::default(),
            facts: Facts::default(),
            header: None,
            tracks: Default::default(),
            flow: gst_base::UniqueFlowCombiner::new(),
            segment: gst::FormattedSegment::new(),
            segment_known: false,
            segment_found: false,
            seqnum: None,
            group_id: None,
            awaits_key: false,
            snaps: false,
            no_more_pads: false,
            finished: false,
            run: None,
            runs_told: 0,
            reasons_told: Vec::new(),
            first_ms: None,
            tags: 0,
        }
    }

    pub fn track(&mut self, kind: Kind) -> &mut Track {
        &mut self.tracks[kind as usize]
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.tracks[kind as usize].pad.is_some()
    }

    pub fn pads(&self) -> impl Iterator<Item = &gst::Pad> {
        self.tracks.iter().filter_map(|track| track.pad.as_ref())
    }

    /// What came is void; other bytes follow.
    pub fn interrupt(&mut self, framer: Framer, position: u64) {
        self.pieces.clear();
        self.framer = framer;
        self.need = 0;
        self.position = position;
        self.run = None;
        self.finished = false;
        self.flow.reset();
        self.tracks.iter_mut().for_each(Track::interrupt);
    }

    /// Something is missing before the next bytes, such as tags that a leaky queue dropped.
    pub fn missed(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.discont = true);
    }

    /// The segment must be pushed anew; `known`: as it is now, otherwise from the next frame on.
    pub fn renew_segment(&mut self, known: bool) {
        self.segment_known = known;
        self.segment_found = false;
        self.tracks.iter_mut().for_each(|track| track.segment_due = true);
    }

    fn cut(&mut self, bytes: usize) {
        self.pieces.cut(bytes);
        self.position += bytes as u64;
    }

    fn promise(&self) -> Promise {
        let header = self.header.unwrap_or(FileHeader { audio: false, video: false });
        let facts = self.facts.promise;
        Promise { video: header.video || facts.video, audio: header.audio || facts.audio }
    }

    /// All tracks that could come are there.
    fn complete(&self, ms: i64) -> bool {
        let promise = self.promise();
        let kept = (!promise.video || self.has(Kind::Video)) && (!promise.audio || self.has(Kind::Audio));
        let both = self.has(Kind::Video) && self.has(Kind::Audio);
        // Servers and sources put any flags into the file header; two that agree are believed.
        let agreed = promise == self.facts.promise
            && self.header.is_some_and(|header| {
                Promise { video: header.video, audio: header.audio } == self.facts.promise
            });
        both || kept && agreed || self.first_ms.is_some_and(|first| ms - first >= NO_MORE_PADS_AFTER_MS)
    }
}

/// A frame of either track.
struct Frame {
    kind: Kind,
    ms: i64,
    pts_ms: i64,
    key: bool,
    payload: std::ops::Range<usize>,
}

impl FlvH265Demux {
    /// Pushes what is complete; `end`: no more bytes will come.
    pub(super) fn advance(&self, s: &mut Streaming, end: bool) -> Result<(), gst::FlowError> {
        while end || s.pieces.len() >= s.need {
            match s.framer.step(&s.pieces, end) {
                Step::Need(bytes) if !end => {
                    s.need = bytes;
                    return Ok(());
                }
                Step::Need(_) | Step::End => break,
                Step::Header { header, bytes } => {
                    self.end_run(s);
                    s.header = Some(header);
                    s.cut(bytes);
                }
                Step::Skip { bytes, damage } => {
                    let offset = s.position;
                    let run =
                        s.run.get_or_insert_with(|| Run { offset, bytes: 0, reason: damage.to_string() });
                    run.bytes += bytes as u64;
                    s.cut(bytes);
                }
                Step::Tag { header, bytes, wrong_size } => {
                    self.end_run(s);
                    let result = self.tag(s, header, bytes, wrong_size);
                    s.cut(bytes);
                    result?;
                    if self.interrupted() {
                        s.need = 0;
                        return Ok(());
                    }
                }
            }
            s.need = 0;
        }
        self.end_run(s);
        Ok(())
    }

    /// A run of skipped bytes is over.
    fn end_run(&self, s: &mut Streaming) {
        let Some(run) = s.run.take() else { return };
        s.missed();
        self.count(|stats| {
            stats.skipped_bytes += run.bytes;
            stats.bytes += run.bytes;
            stats.damaged_runs += 1;
        });
        gst::warning!(CAT, imp = self, "skipped {} bytes at {}: {}", run.bytes, run.offset, run.reason);
        s.runs_told += 1;
        if s.runs_told <= MAX_RUNS_TOLD {
            self.tell(&run);
        }
    }

    fn tell(&self, run: &Run) {
        let structure = gst::Structure::builder("flvh265demux-skipped")
            .field("bytes", run.bytes)
            .field("offset", run.offset)
            .field("reason", &run.reason)
            .build();
        let obj = self.obj();
        // Without a bus nobody wants to know.
        let _ = obj.post_message(gst::message::Element::builder(structure).src(&*obj).build());
    }

    /// A tag that is whole but of no use.
    fn skip_tag(&self, s: &mut Streaming, bytes: usize, reason: String) {
        self.count(|stats| stats.skipped_tags += 1);
        if s.reasons_told.contains(&reason) {
            gst::debug!(CAT, imp = self, "skipped the tag at {}: {reason}", s.position);
            return;
        }
        gst::warning!(CAT, imp = self, "skipped the tag at {}: {reason}", s.position);
        if s.reasons_told.len() < MAX_REASONS_TOLD {
            self.tell(&Run { offset: s.position, bytes: bytes as u64, reason: reason.clone() });
            s.reasons_told.push(reason);
        }
    }

    fn tag(
        &self,
        s: &mut Streaming,
        header: TagHeader,
        bytes: usize,
        wrong_size: Option<u32>,
    ) -> Result<(), gst::FlowError> {
        s.tags += 1;
        self.count(|stats| {
            stats.tags += 1;
            stats.bytes += bytes as u64;
            stats.wrong_sizes += u64::from(wrong_size.is_some());
        });
        if let Some(size) = wrong_size {
            let right = header.bytes_before_trailer();
            gst::debug!(CAT, imp = self, "PreviousTagSize at {} is {size}, not {right}", s.position);
        }
        let body = flv::tag::TAG_HEADER_BYTES..header.bytes_before_trailer();
        let mut first = [0; flv::tag::MAX_BODY_HEADER_BYTES];
        let first = &mut first[..body.len().min(flv::tag::MAX_BODY_HEADER_BYTES)];
        s.pieces.read(body.start, first);
        let result = match header.tag_type {
            TagType::Script => {
                self.script(s, body, bytes);
                Ok(Ok(()))
            }
            TagType::Video => Dialect::parse(first).map(|(dialect, packet, at)| {
                let payload = (body.start + at).min(body.end)..body.end;
                self.video(s, header, dialect, packet, payload)
            }),
            TagType::Audio => AudioFormat::parse(first).map(|(format, packet, at)| {
                let payload = (body.start + at).min(body.end)..body.end;
                self.audio(s, header, format, packet, payload)
            }),
        };
        result.unwrap_or_else(|unsupported: Unsupported| {
            self.count(|stats| stats.unsupported_tags += 1);
            self.skip_tag(s, bytes, unsupported.to_string());
            Ok(())
        })
    }

    fn script(&self, s: &mut Streaming, body: std::ops::Range<usize>, bytes: usize) {
        if body.len() > MAX_SCRIPT_BYTES {
            self.skip_tag(s, bytes, format!("a script of more than {MAX_SCRIPT_BYTES} bytes is not read"));
            return;
        }
        match Facts::read(&s.pieces.copied(body)) {
            Ok(Some(facts)) => {
                gst::debug!(CAT, imp = self, "onMetaData: {facts:?}");
                if !facts.described.key_frames.is_empty() {
                    self.index().described.clone_from(&facts.described.key_frames);
                }
                s.facts = facts;
                self.update_duration(s);
            }
            Ok(None) => gst::debug!(CAT, imp = self, "a script at {} that is not onMetaData", s.position),
            Err(error) => self.skip_tag(s, bytes, format!("a script is not read: {error}")),
        }
    }

    fn video(
        &self,
        s: &mut Streaming,
        header: TagHeader,
        dialect: Dialect,
        packet: VideoPacket,
        payload: std::ops::Range<usize>,
    ) -> Result<(), gst::FlowError> {
        let bytes = header.bytes_before_trailer();
        match packet {
            VideoPacket::SequenceEnd => {
                self.count(|stats| stats.sequence_ends += 1);
                Ok(())
            }
            VideoPacket::SequenceHeader => {
                let record =
                    s.pieces.copied(payload.start..payload.end.min(payload.start + MAX_CONFIG_BYTES));
                match Config::video(dialect.codec(), record) {
                    Ok(config) => self.configure(s, config),
                    Err(error) => {
                        self.count(|stats| stats.invalid_configs += 1);
                        self.skip_tag(s, bytes, error.to_string());
                        Ok(())
                    }
                }
            }
            VideoPacket::Frame { key, composition_ms } => {
                let known = match &s.track(Kind::Video).config {
                    Some(Config::Video { codec, .. }) => *codec == dialect.codec(),
                    _ => false,
                };
                if !known || payload.is_empty() {
                    self.useless(s, Kind::Video, known, bytes);
                    return Ok(());
                }
                if s.awaits_key && !key {
                    gst::debug!(CAT, imp = self, "the frame at {} is no key frame", s.position);
                    self.count(|stats| stats.skipped_tags += 1);
                    return Ok(());
                }
                let ms = self.time(s, Kind::Video, header);
                if key {
                    self.index().push(Kind::Video, s.position, ms);
                }
                self.frame(
                    s,
                    Frame { kind: Kind::Video, ms, pts_ms: ms + i64::from(composition_ms), key, payload },
                )
            }
        }
    }

    fn audio(
        &self,
        s: &mut Streaming,
        header: TagHeader,
        format: AudioFormat,
        packet: AudioPacket,
        payload: std::ops::Range<usize>,
    ) -> Result<(), gst::FlowError> {
        let bytes = header.bytes_before_trailer();
        match (format, packet) {
            (AudioFormat::Aac, AudioPacket::SequenceHeader) => {
                if payload.len() < 2 || payload.len() > MAX_CONFIG_BYTES {
                    self.count(|stats| stats.invalid_configs += 1);
                    let reason =
                        format!("an AAC configuration of {} bytes; it has 2 at least", payload.len());
                    self.skip_tag(s, bytes, reason);
                    return Ok(());
                }
                let config = s.pieces.copied(payload);
                return self.configure(s, Config::Aac { config });
            }
            (AudioFormat::Aac, AudioPacket::Frame) => {
                let known = matches!(s.track(Kind::Audio).config, Some(Config::Aac { .. }));
                if !known || payload.is_empty() {
                    self.useless(s, Kind::Audio, known, bytes);
                    return Ok(());
                }
            }
            (AudioFormat::Mp3 { rate, stereo }, _) => {
                if payload.is_empty() {
                    self.useless(s, Kind::Audio, true, bytes);
                    return Ok(());
                }
                let first = s.pieces.copied(payload.start..payload.end.min(payload.start + 4));
                let told = mp3_rate_and_channels(&first);
                // A frame without a header changes nothing.
                let known = matches!(s.track(Kind::Audio).config, Some(Config::Mp3 { .. }));
                if told.is_some() || !known {
                    let (rate, channels) = told.unwrap_or((rate, 1 + u8::from(stereo)));
                    self.configure(s, Config::Mp3 { rate, channels })?;
                }
            }
        }
        let ms = self.time(s, Kind::Audio, header);
        if !s.has(Kind::Video) {
            self.index().push(Kind::Audio, s.position, ms);
        }
        self.frame(s, Frame { kind: Kind::Audio, ms, pts_ms: ms, key: true, payload })
    }

    /// A frame before its configuration, or one without a payload.
    fn useless(&self, s: &mut Streaming, kind: Kind, configured: bool, bytes: usize) {
        let name = kind.name();
        let reason = match configured {
            true => format!("{name} frame without a payload"),
            false => format!("{name} frame before its configuration"),
        };
        if !configured && !std::mem::replace(&mut s.track(kind).warned, true) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Demux,
                ("{name} without its sequence header is skipped until one comes; does the server replay it?")
            );
        }
        self.skip_tag(s, bytes, reason);
    }

    fn time(&self, s: &mut Streaming, kind: Kind, header: TagHeader) -> i64 {
        let last = s.tracks[kind as usize].last_ms;
        let (ms, resync) = s.clock.unwrap(header.timestamp_ms, last);
        if resync {
            let last = last.unwrap_or(0);
            gst::warning!(
                CAT,
                imp = self,
                "{} went back from {last} to {} ms; time goes on",
                kind.name(),
                header.timestamp_ms
            );
            self.count(|stats| stats.time_resyncs += 1);
            s.missed();
        }
        ms
    }

    /// Takes a configuration: adds the pad with the first, pushes caps with one that is new.
    pub(super) fn configure(&self, s: &mut Streaming, config: Config) -> Result<(), gst::FlowError> {
        let kind = config.kind();
        self.index().push_config(s.position, &config);
        if s.track(kind).config.as_ref() == Some(&config) {
            return Ok(());
        }
        // onMetaData speaks of the first picture size; one that changes is the parser's to find out.
        if s.track(kind).config.is_some() && kind == Kind::Video {
            s.facts.forget_picture();
        }
        let caps = config.caps(&s.facts);
        gst::info!(CAT, imp = self, "{}: {caps}", kind.name());
        s.track(kind).config = Some(config);
        if let Some(pad) = s.track(kind).pad.clone() {
            self.count(|stats| stats.caps_changes += 1);
            pad.push_event(gst::event::Caps::new(&caps));
            return Ok(());
        }
        self.add_pad(s, kind, &caps);
        Ok(())
    }

    fn add_pad(&self, s: &mut Streaming, kind: Kind, caps: &gst::Caps) {
        let pad = self.source_pad(kind);
        let obj = self.obj();
        // A pad that cannot be activated or added is one of an element that is going down.
        let _ = pad.set_active(true);
        let id = pad.create_stream_id(&*obj, Some(kind.name()));
        let group_id = *s.group_id.get_or_insert_with(gst::GroupId::next);
        let start = gst::event::StreamStart::builder(&id).group_id(group_id);
        pad.push_event(start.seqnum_if_some(s.seqnum).build());
        pad.push_event(gst::event::Caps::new(caps));
        s.flow.add_pad(&pad);
        let track = s.track(kind);
        track.pad = Some(pad.clone());
        track.segment_due = true;
        track.discont = true;
        let _ = obj.add_pad(&pad);
    }

    fn frame(&self, s: &mut Streaming, frame: Frame) -> Result<(), gst::FlowError> {
        let Frame { kind, ms, pts_ms, key, payload } = frame;
        let (dts, pts) = (clock_time(ms), clock_time(pts_ms));
        s.first_ms.get_or_insert(ms);
        if !s.no_more_pads && s.complete(ms) {
            s.no_more_pads = true;
            self.obj().no_more_pads();
        }
        if !self.in_segment(s, kind, dts, pts) {
            return self.past_stop(s, kind, ms);
        }
        if kind == Kind::Video {
            s.awaits_key = false;
        }
        self.push_segment(s, kind);
        let mut buffer = s.pieces.buffer(payload);
        let buffer_ref = buffer.make_mut();
        buffer_ref.set_dts(dts);
        buffer_ref.set_pts(pts);
        if !key {
            buffer_ref.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        let track = s.track(kind);
        track.last_ms = Some(ms);
        if std::mem::take(&mut track.discont) {
            buffer_ref.set_flags(gst::BufferFlags::DISCONT);
        }
        let pad = track.pad.clone().expect("a track with a configuration has a pad");
        let position = pts.max(s.segment.position().unwrap_or_default());
        s.segment.set_position(position);
        self.pushing(kind, key, position);
        let result = pad.push(buffer);
        let flow = match s.flow.update_pad_flow(&pad, result) {
            // Somebody may link the pad that is yet to come.
            Err(gst::FlowError::NotLinked) if !s.no_more_pads => Ok(()),
            flow => flow.map(drop),
        };
        self.fill_gaps(s, kind, ms);
        flow
    }

    /// Sees to the segment; `false`: the frame lies behind its stop.
    fn in_segment(&self, s: &mut Streaming, kind: Kind, dts: gst::ClockTime, pts: gst::ClockTime) -> bool {
        let start = dts.min(pts);
        if !s.segment_known {
            self.begin_segment(s, start);
        } else if s.snaps && kind == Kind::Video {
            s.segment.set_start(pts);
            s.segment.set_time(pts);
            s.segment.set_position(pts);
            s.segment.set_offset(gst::ClockTime::ZERO);
        } else if s.segment_found
            && s.track(kind).last_ms.is_none()
            && s.segment.start().is_some_and(|known| start < known && known - start <= EARLIER)
        {
            // The other track begins a little earlier; both get the new segment, as stock flvdemux has it.
            s.segment.set_start(start);
            s.segment.set_time(start);
            s.tracks.iter_mut().for_each(|track| track.segment_due = true);
        }
        s.snaps &= kind != Kind::Video && s.has(Kind::Video);
        s.segment.stop().is_none_or(|stop| dts < stop)
    }

    /// The segment starts with this frame, so that a stream that was joined late plays at once.
    fn begin_segment(&self, s: &mut Streaming, start: gst::ClockTime) {
        s.segment.set_start(start);
        s.segment.set_time(start);
        s.segment.set_position(start);
        // A live source's pipeline runs already; others begin to when the first frame is there.
        if let Some(now) = self.live_running_time(s.mode) {
            s.segment.set_base(now);
        }
        s.segment_known = true;
        s.segment_found = true;
        gst::debug!(CAT, imp = self, "{:?}", s.segment);
    }

    fn push_segment(&self, s: &mut Streaming, kind: Kind) {
        let track = &mut s.tracks[kind as usize];
        let Some(pad) = track.pad.as_ref().filter(|_| std::mem::take(&mut track.segment_due)) else { return };
        pad.push_event(gst::event::Segment::builder(&s.segment).seqnum_if_some(s.seqnum).build());
        if pad.sticky_event::<gst::event::Tag>(0).is_none() {
            let mut tags = gst::TagList::new();
            let tags_ref = tags.make_mut();
            tags_ref.set_scope(gst::TagScope::Global);
            tags_ref.add::<gst::tags::ContainerFormat>(&"Flash Video", gst::TagMergeMode::Replace);
            if let Some(encoder) = &s.facts.encoder {
                tags_ref.add::<gst::tags::Encoder>(&encoder.as_str(), gst::TagMergeMode::Replace);
            }
            pad.push_event(gst::event::Tag::builder(tags).seqnum_if_some(s.seqnum).build());
        }
    }

    /// A track reached the segment's stop; when all have, that is the end.
    fn past_stop(&self, s: &mut Streaming, kind: Kind, ms: i64) -> Result<(), gst::FlowError> {
        s.track(kind).done = true;
        let behind = |track: &Track| track.last_ms.is_none_or(|last| ms - last > GAP_AFTER_MS);
        let over = |track: &Track| track.pad.is_none() || track.done || behind(track);
        if s.tracks.iter().all(over) { Err(gst::FlowError::Eos) } else { Ok(()) }
    }

    fn fill_gaps(&self, s: &mut Streaming, kind: Kind, ms: i64) {
        let other = if kind == Kind::Video { Kind::Audio } else { Kind::Video };
        let from = s.segment.start().map_or(0, |start| start.mseconds() as i64);
        let track = s.track(other);
        let begin = track.last_ms.max(track.filled_ms).unwrap_or(from);
        let end = ms - GAP_AFTER_MS;
        if track.pad.is_none() || track.done || begin >= end {
            return;
        }
        track.filled_ms = Some(end);
        self.push_segment(s, other);
        let gap = gst::event::Gap::builder(clock_time(begin)).duration(clock_time(end - begin));
        let gap = gap.seqnum_if_some(s.seqnum).build();
        if let Some(pad) = &s.track(other).pad {
            pad.push_event(gap);
        }
    }

    /// No more bytes will come: what is left is pushed, then EOS or segment-done.
    pub(super) fn finish(&self, s: &mut Streaming) -> Result<(), gst::FlowError> {
        if std::mem::replace(&mut s.finished, true) {
            return Ok(());
        }
        if s.pads().next().is_none() {
            self.nothing_found(s);
            return Err(gst::FlowError::Error);
        }
        if !std::mem::replace(&mut s.no_more_pads, true) {
            self.obj().no_more_pads();
        }
        // Who waits for a segment gets one, even if its track has no frame.
        s.segment_known = true;
        self.push_segment(s, Kind::Video);
        self.push_segment(s, Kind::Audio);
        let obj = self.obj();
        let segment_done = s.segment.flags().contains(gst::SegmentFlags::SEGMENT);
        // A segment lasts to its stop; what follows it begins there.
        let position = s.segment.stop().filter(|_| segment_done).or(s.segment.position());
        s.segment.set_position(position);
        for pad in s.pads() {
            let event = match segment_done {
                true => gst::event::SegmentDone::builder(position).seqnum_if_some(s.seqnum).build(),
                false => gst::event::Eos::builder().seqnum_if_some(s.seqnum).build(),
            };
            pad.push_event(event);
        }
        // Last, since the application may seek at once.
        if segment_done {
            let message = gst::message::SegmentDone::builder(position).src(&*obj);
            let _ = obj.post_message(message.seqnum_if_some(s.seqnum).build());
        }
        Ok(())
    }

    fn nothing_found(&self, s: &Streaming) {
        let stats = self.stats();
        let reasons = match s.reasons_told.is_empty() {
            true => String::new(),
            false => format!(": {}", s.reasons_told.join("; ")),
        };
        let flv = if s.header.is_none() && s.tags == 0 { "this is no FLV" } else { "nothing to play" };
        gst::element_imp_error!(
            self,
            gst::StreamError::Demux,
            (
                "{flv}: {} bytes hold {} tags, of which {} were skipped, and {} bytes that are no tags{reasons}",
                stats.bytes.max(s.position),
                stats.tags,
                stats.skipped_tags,
                stats.skipped_bytes
            )
        );
    }
}
