// SPDX-License-Identifier: MPL-2.0

// Locks, in this order:
// - the sink pad's stream lock: whoever pushes, or changes what `streaming` holds, has it. `streaming` is only the place
//   where the streaming thread's own things stay between two calls; they are taken out of it, so that nothing is locked;
// - `index`, `shared` and `pending` are held for single reads and writes, and for looking through an index or a file
//   (`index`); nothing is pushed or posted meanwhile, and none of them is taken while another is held.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::thread::ThreadId;

use flv::{Framer, Window};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::demux::Streaming;
use super::index::Index;
use super::seek::{File, Snap, duration_ms};
use super::state::{Clock, Stats, clock_time};
use super::track::{Kind, template_caps};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("flvh265demux", gst::DebugColorFlags::empty(), Some("FLV demuxer"))
});

/// Read at once from a file.
const BLOCK: usize = 1 << 17;

/// Who moves the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// We do, from a file.
    Pull,
    /// Upstream does.
    Push,
}

/// What other threads ask for.
#[derive(Default)]
struct Shared {
    stats: Stats,
    mode: Option<Mode>,
    position: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
    /// The last seek that was done; one for each sink comes.
    seek: Option<gst::Seqnum>,
}

/// A seek as it was asked for.
#[derive(Clone, Copy)]
struct Seek {
    rate: f64,
    flags: gst::SeekFlags,
    start: (gst::SeekType, Option<gst::ClockTime>),
    stop: (gst::SeekType, Option<gst::ClockTime>),
    seqnum: gst::Seqnum,
}

/// A seek in bytes that upstream does for us.
struct Pending {
    seek: Seek,
    position: u64,
    ms: i64,
}

pub struct FlvH265Demux {
    sink: gst::Pad,
    streaming: Mutex<Option<Box<Streaming>>>,
    shared: Mutex<Shared>,
    index: Mutex<Index>,
    pending: Mutex<Option<Pending>>,
    /// A seek waits for the stream lock: the task makes way after the current tag.
    interrupt: AtomicBool,
    /// The thread that is in a step of the task, and a seek that it was asked for meanwhile, by itself.
    stepping: Mutex<Option<ThreadId>>,
    deferred: Mutex<Option<Seek>>,
}

#[glib::object_subclass]
impl ObjectSubclass for FlvH265Demux {
    const NAME: &'static str = "GstFlvH265Demux";
    type Type = super::FlvH265Demux;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("the template was added");
        let sink = gst::Pad::builder_from_template(&template)
            .activate_function(|pad, parent| {
                let failed = || Err(gst::loggable_error!(CAT, "panic on activation"));
                Self::catch_panic_pad_function(parent, failed, |this| this.activate(pad))
            })
            .activatemode_function(|_, parent, mode, active| {
                let failed = || Err(gst::loggable_error!(CAT, "panic on activation"));
                Self::catch_panic_pad_function(parent, failed, |this| this.activate_mode(mode, active))
            })
            .chain_function(|_, parent, buffer| {
                let failed = || Err(gst::FlowError::Error);
                Self::catch_panic_pad_function(parent, failed, |this| this.chain(&buffer))
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .build();
        Self {
            sink,
            streaming: Mutex::default(),
            shared: Mutex::default(),
            index: Mutex::default(),
            pending: Mutex::default(),
            interrupt: AtomicBool::new(false),
            stepping: Mutex::default(),
            deferred: Mutex::default(),
        }
    }
}

impl ObjectImpl for FlvH265Demux {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("What came, went out and was skipped since READY")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn property(&self, _id: usize, _pspec: &glib::ParamSpec) -> glib::Value {
        self.stats().structure().to_value()
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().add_pad(&self.sink).expect("the first pad of its name");
    }
}

impl GstObjectImpl for FlvH265Demux {}

impl ElementImpl for FlvH265Demux {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "FLV demuxer with H.265",
                "Codec/Demuxer",
                "Takes H.265 (both dialects), H.264, AAC and MP3 out of FLV",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let flv = gst::Caps::new_empty_simple("video/x-flv");
            let source = |kind: Kind| {
                let caps = template_caps(kind);
                gst::PadTemplate::new(kind.name(), gst::PadDirection::Src, gst::PadPresence::Sometimes, &caps)
            };
            let sink = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &flv);
            [sink, source(Kind::Video), source(Kind::Audio)].map(|t| t.expect("a valid template")).into()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            self.reset();
            self.shared.lock().unwrap().stats = Stats::default();
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.reset();
        }
        Ok(result)
    }
}

impl FlvH265Demux {
    pub(super) fn stats(&self) -> Stats {
        self.shared.lock().unwrap().stats.clone()
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.shared.lock().unwrap().stats);
    }

    /// A frame is about to be pushed.
    pub(super) fn pushing(&self, kind: Kind, key: bool, position: gst::ClockTime) {
        let mut shared = self.shared.lock().unwrap();
        shared.position = Some(position);
        match kind {
            Kind::Video => {
                shared.stats.video_frames += 1;
                shared.stats.key_frames += u64::from(key);
            }
            Kind::Audio => shared.stats.audio_frames += 1,
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap()
    }

    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Acquire)
    }

    /// The running time, if upstream is live.
    pub(super) fn live_running_time(&self, mode: Mode) -> Option<gst::ClockTime> {
        let mut query = gst::query::Latency::new();
        let live = mode == Mode::Push && self.sink.peer_query(&mut query) && query.result().0;
        live.then(|| self.obj().current_running_time()).flatten()
    }

    pub(super) fn source_pad(&self, kind: Kind) -> gst::Pad {
        let template = self.obj().pad_template(kind.name()).expect("the template was added");
        gst::Pad::builder_from_template(&template)
            .name(kind.name())
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.source_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.source_query(pad, query))
            })
            .flags(gst::PadFlags::FIXED_CAPS)
            .build()
    }

    fn reset(&self) {
        let streaming = self.streaming.lock().unwrap().take();
        let pads: Vec<gst::Pad> = streaming.iter().flat_map(|s| s.pads()).cloned().collect();
        for pad in pads {
            let _ = pad.set_active(false);
            let _ = self.obj().remove_pad(&pad);
        }
        *self.pending.lock().unwrap() = None;
        *self.deferred.lock().unwrap() = None;
        *self.index() = Index::default();
        let mut shared = self.shared.lock().unwrap();
        let stats = std::mem::take(&mut shared.stats);
        *shared = Shared { stats, ..Shared::default() };
    }

    fn activate(&self, pad: &gst::Pad) -> Result<(), gst::LoggableError> {
        let mut query = gst::query::Scheduling::new();
        let pulls = pad.peer_query(&mut query)
            && query.has_scheduling_mode_with_flags(gst::PadMode::Pull, gst::SchedulingFlags::SEEKABLE);
        let mode = if pulls { gst::PadMode::Pull } else { gst::PadMode::Push };
        pad.activate_mode(mode, true).map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    fn activate_mode(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            let mode = if mode == gst::PadMode::Pull { Mode::Pull } else { Mode::Push };
            *self.streaming.lock().unwrap() = Some(Box::new(Streaming::new(mode)));
            self.shared.lock().unwrap().mode = Some(mode);
            self.interrupt.store(false, Ordering::Release);
            if mode == Mode::Pull {
                self.start_task().map_err(|error| gst::loggable_error!(CAT, "{error}"))?;
            }
        } else if mode == gst::PadMode::Pull {
            self.sink.stop_task().map_err(|error| gst::loggable_error!(CAT, "{error}"))?;
        }
        Ok(())
    }

    fn start_task(&self) -> Result<(), glib::BoolError> {
        let this = self.downgrade();
        self.sink.start_task(move || {
            if let Some(this) = this.upgrade() {
                this.pull();
            }
        })
    }

    /// Gives the streaming thread's things to `run`; the caller has the stream lock.
    fn with_streaming<R>(&self, run: impl FnOnce(&mut Streaming) -> R) -> Option<R> {
        let mut streaming = self.streaming.lock().unwrap().take()?;
        let result = run(&mut streaming);
        *self.streaming.lock().unwrap() = Some(streaming);
        Some(result)
    }

    /// One step of the task.
    fn pull(&self) {
        *self.stepping.lock().unwrap() = Some(std::thread::current().id());
        self.step();
        *self.stepping.lock().unwrap() = None;
        let deferred = self.deferred.lock().unwrap().take();
        if let Some(seek) = deferred {
            self.seek_in_file(seek);
        }
    }

    fn step(&self) {
        let result = self.with_streaming(|s| {
            let result = self.pull_and_advance(s);
            match result {
                Ok(()) | Err(gst::FlowError::Flushing) => result,
                Err(gst::FlowError::Eos) => {
                    gst::debug!(CAT, imp = self, "the end, at {}", s.position);
                    // An error was posted.
                    self.finish(s).and(Err(gst::FlowError::Eos))
                }
                Err(error) => {
                    self.failed(s, error);
                    result
                }
            }
        });
        if result != Some(Ok(())) {
            gst::debug!(CAT, imp = self, "the task pauses: {result:?}");
            let _ = self.sink.pause_task();
        }
    }

    fn failed(&self, s: &mut Streaming, error: gst::FlowError) {
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("Internal data stream error."),
            ["streaming stopped at byte {}, reason {error}", s.position]
        );
        for pad in s.pads() {
            pad.push_event(gst::event::Eos::builder().seqnum_if_some(s.seqnum).build());
        }
    }

    fn pull_and_advance(&self, s: &mut Streaming) -> Result<(), gst::FlowError> {
        if s.position == 0 && s.pieces.is_empty() {
            self.update_duration(s);
        }
        let held = s.pieces.len();
        if held < s.need.max(1) {
            let want = BLOCK.max(s.need.saturating_sub(held));
            match self.sink.pull_range(s.position + held as u64, want as u32) {
                Ok(buffer) if buffer.size() > 0 => s.pieces.push(&buffer)?,
                Ok(_) | Err(gst::FlowError::Eos) => {
                    self.advance(s, true)?;
                    return if self.interrupted() { Ok(()) } else { Err(gst::FlowError::Eos) };
                }
                Err(error) => return Err(error),
            }
        }
        self.advance(s, false)
    }

    fn chain(&self, buffer: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let result = self.with_streaming(|s| {
            if buffer.flags().contains(gst::BufferFlags::DISCONT) {
                s.missed();
            }
            s.pieces.push(buffer)?;
            self.advance(s, false)
        });
        result.unwrap_or(Err(gst::FlowError::Flushing)).map(|()| gst::FlowSuccess::Ok)
    }

    /// Tells how long the stream is, by its metadata and, in a file, by its last tag.
    pub(super) fn update_duration(&self, s: &mut Streaming) {
        let last = match s.mode {
            Mode::Pull => File::new(&self.sink).last_timestamp().unwrap_or(None),
            Mode::Push => None,
        };
        let duration = duration_ms(s.facts.described.duration, last).map(clock_time);
        s.segment.set_duration(duration);
        let changed = {
            let mut shared = self.shared.lock().unwrap();
            std::mem::replace(&mut shared.duration, duration) != duration
        };
        if changed {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::DurationChanged::builder().src(&*obj).build());
        }
    }

    fn push_to_all(&self, event: &gst::Event) -> bool {
        self.obj().src_pads().iter().fold(false, |taken, pad| pad.push_event(event.clone()) | taken)
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::StreamStart(start) => {
                self.with_streaming(|s| s.group_id = start.group_id());
                true
            }
            gst::EventView::Caps(_) => true,
            gst::EventView::Segment(segment) => {
                self.with_streaming(|s| self.upstream_segment(s, segment.segment()));
                true
            }
            gst::EventView::FlushStop(_) => {
                let forwarded = self.push_to_all(&event);
                self.with_streaming(|s| {
                    s.interrupt(Framer::new(), 0);
                    s.segment.set_base(gst::ClockTime::ZERO);
                    s.segment.set_position(gst::ClockTime::NONE);
                    s.renew_segment(false);
                });
                forwarded
            }
            gst::EventView::FlushStart(_) => self.push_to_all(&event),
            gst::EventView::Eos(_) => {
                let result = self.with_streaming(|s| {
                    match self.advance(s, true) {
                        Ok(()) | Err(gst::FlowError::Eos) => self.finish(s),
                        // Whoever refuses buffers may wait for EOS all the same.
                        Err(_) => self.finish(s),
                    }
                });
                result.is_some_and(|result| result.is_ok())
            }
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn upstream_segment(&self, s: &mut Streaming, segment: &gst::Segment) {
        let pending = self.pending.lock().unwrap().take();
        if let Some(time) = segment.downcast_ref::<gst::ClockTime>() {
            // Somebody before us seeks in time; a segment from 0 on says nothing of a stream that was joined late.
            if time.start().is_some_and(|start| !start.is_zero()) {
                s.segment = time.clone();
                s.renew_segment(true);
            }
            return;
        }
        let start = segment.downcast_ref::<gst::format::Bytes>().and_then(|bytes| bytes.start());
        let start = start.map_or(0, |start| *start);
        let follows = start == s.position + s.pieces.len() as u64;
        if let Some(Pending { seek, position, ms }) = pending {
            let framer = if start == position { Framer::at_tag() } else { Framer::anywhere() };
            s.interrupt(framer, start);
            s.clock = Clock::near(ms);
            if let Some((wanted, _)) = seek.segment(&s.segment) {
                s.segment = wanted;
            }
            s.renew_segment(true);
            s.seqnum = Some(seek.seqnum);
            s.awaits_key = s.has(Kind::Video);
            s.snaps = seek.is_key_unit();
        } else if !follows {
            let base = s.segment.position().and_then(|position| s.segment.to_running_time(position));
            s.interrupt(if start == 0 { Framer::new() } else { Framer::anywhere() }, start);
            s.segment.set_base(base.unwrap_or(gst::ClockTime::ZERO));
            s.renew_segment(false);
        }
    }

    fn source_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Position(query) if query.format() == gst::Format::Time => {
                let position = self.shared.lock().unwrap().position;
                position.inspect(|position| query.set(*position)).is_some()
            }
            gst::QueryViewMut::Duration(query) if query.format() == gst::Format::Time => {
                let duration = self.shared.lock().unwrap().duration;
                duration.inspect(|duration| query.set(*duration)).is_some()
            }
            gst::QueryViewMut::Seeking(query) if query.format() == gst::Format::Time => {
                let (mode, duration) = {
                    let shared = self.shared.lock().unwrap();
                    (shared.mode, shared.duration)
                };
                let seekable = mode == Some(Mode::Pull)
                    || self.upstream_seeks(gst::Format::Time)
                    || !self.index().described.is_empty() && self.upstream_seeks(gst::Format::Bytes);
                query.set(seekable, gst::ClockTime::ZERO, duration);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    fn upstream_seeks(&self, format: gst::Format) -> bool {
        let mut query = gst::query::Seeking::new(format);
        self.sink.peer_query(&mut query) && query.result().0
    }

    fn source_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        let gst::EventView::Seek(seek) = event.view() else {
            return gst::Pad::event_default(pad, Some(&*self.obj()), event);
        };
        let mode = {
            let shared = self.shared.lock().unwrap();
            if shared.seek == Some(event.seqnum()) {
                return true;
            }
            shared.mode
        };
        if mode == Some(Mode::Push) && self.upstream_seeks(gst::Format::Time) {
            return self.sink.push_event(event);
        }
        let Some(seek) = Seek::new(seek) else {
            gst::info!(
                CAT,
                imp = self,
                "refused: {event:?}; only forwards, in time, and not to a stop before the start"
            );
            return false;
        };
        let done = match mode {
            Some(Mode::Pull) if *self.stepping.lock().unwrap() == Some(std::thread::current().id()) => {
                // Out of a callback of our own push or message: after it.
                *self.deferred.lock().unwrap() = Some(seek);
                self.interrupt.store(true, Ordering::Release);
                true
            }
            Some(Mode::Pull) => self.seek_in_file(seek),
            Some(Mode::Push) => self.seek_upstream(seek),
            None => false,
        };
        if done {
            let mut shared = self.shared.lock().unwrap();
            shared.seek = Some(seek.seqnum);
            shared.stats.seeks += 1;
        }
        done
    }

    fn seek_in_file(&self, seek: Seek) -> bool {
        let flush = seek.flags.contains(gst::SeekFlags::FLUSH);
        self.interrupt.store(true, Ordering::Release);
        if flush {
            let start = gst::event::FlushStart::builder().seqnum(seek.seqnum).build();
            self.push_to_all(&start);
            self.sink.push_event(start);
        }
        let _ = self.sink.pause_task();
        let _lock = self.sink.stream_lock();
        self.interrupt.store(false, Ordering::Release);
        if flush {
            self.sink.push_event(gst::event::FlushStop::builder(true).seqnum(seek.seqnum).build());
        }
        let done = self.with_streaming(|s| {
            let found = self.find(s, &seek);
            if flush {
                self.push_to_all(&gst::event::FlushStop::builder(true).seqnum(seek.seqnum).build());
            }
            let Some((segment, entry)) = found else {
                // On from where it was; after a flush running time begins anew.
                s.interrupt(Framer::anywhere(), s.position);
                s.renew_segment(s.segment_known && !flush);
                return false;
            };
            gst::debug!(CAT, imp = self, "{segment:?} begins with {entry:?}");
            s.interrupt(Framer::at_tag(), entry.position);
            s.clock = entry.clock;
            s.segment = segment;
            s.seqnum = Some(seek.seqnum);
            s.renew_segment(true);
            for kind in [Kind::Video, Kind::Audio] {
                let config = self.index().config(kind, entry.position).cloned();
                if let Some(config) = config {
                    let _ = self.configure(s, config);
                }
            }
            self.shared.lock().unwrap().position = s.segment.position();
            true
        });
        let running = self.start_task().is_ok();
        done == Some(true) && running
    }

    /// The segment, and the tag to begin with.
    fn find(
        &self,
        s: &Streaming,
        seek: &Seek,
    ) -> Option<(gst::FormattedSegment<gst::ClockTime>, super::index::Entry)> {
        let (mut segment, target) = seek.segment(&s.segment)?;
        let kind = if s.has(Kind::Video) { Kind::Video } else { Kind::Audio };
        let target_ms = target.mseconds().min(1 << 52) as i64;
        let described = !self.index().described.is_empty();
        let found = File::new(&self.sink).find(&mut self.index(), kind, target_ms, seek.flags.into());
        if described && self.index().described.is_empty() {
            gst::warning!(CAT, imp = self, "the file's index of key frames is wrong, and is not used");
        }
        let entry = match found {
            Ok(found) => found?,
            Err(error) => {
                gst::warning!(CAT, imp = self, "cannot read where to seek to: {error}");
                return None;
            }
        };
        if seek.is_key_unit() {
            let start = clock_time(entry.pts_ms);
            segment.set_start(start);
            segment.set_time(start);
            segment.set_position(start);
            segment.set_offset(gst::ClockTime::ZERO);
        }
        Some((segment, entry))
    }

    /// Has upstream seek in bytes, if an index says where to.
    fn seek_upstream(&self, seek: Seek) -> bool {
        if !self.upstream_seeks(gst::Format::Bytes) {
            gst::info!(CAT, imp = self, "refused: upstream cannot seek");
            return false;
        }
        let (gst::SeekType::Set, Some(target)) = seek.start else {
            gst::info!(CAT, imp = self, "refused: only to a time from the start");
            return false;
        };
        let target_ms = target.mseconds().min(1 << 52) as i64;
        let candidate = {
            let index = self.index();
            let before = index.described_before(target_ms).next();
            let after = index.described_after(target_ms);
            let seen = || index.covers(target_ms).then(|| index.seen_before(target_ms).next()).flatten();
            match Snap::from(seek.flags) {
                Snap::After => after.or(before),
                Snap::Nearest => match (before, after) {
                    (Some(before), Some(after)) if after.ms - target_ms < target_ms - before.ms => {
                        Some(after)
                    }
                    (before, after) => before.or(after),
                },
                Snap::Before => before.or(after),
            }
            .or_else(seen)
        };
        let Some(candidate) = candidate else {
            gst::info!(CAT, imp = self, "refused: no index says where {target} lies");
            return false;
        };
        *self.pending.lock().unwrap() =
            Some(Pending { seek, position: candidate.position, ms: candidate.ms });
        let event = gst::event::Seek::builder(
            1.,
            (seek.flags & gst::SeekFlags::FLUSH) | gst::SeekFlags::ACCURATE,
            gst::SeekType::Set,
            gst::format::Bytes::from_u64(candidate.position),
            gst::SeekType::None,
            gst::format::Bytes::NONE,
        );
        let done = self.sink.push_event(event.seqnum(seek.seqnum).build());
        if !done {
            *self.pending.lock().unwrap() = None;
        }
        done
    }
}

impl Seek {
    /// `None`: it is not one that we do.
    fn new(event: &gst::event::Seek) -> Option<Self> {
        let (rate, flags, start_type, start, stop_type, stop) = event.get();
        let time = |value: gst::GenericFormattedValue| match value {
            gst::GenericFormattedValue::Time(time) => Some(time),
            _ => None,
        };
        let seek = Self {
            rate,
            flags,
            start: (start_type, time(start)?),
            stop: (stop_type, time(stop)?),
            seqnum: event.seqnum(),
        };
        (rate > 0. && seek.is_in_order()).then_some(seek)
    }

    /// The segment that comes of it, and the time to go to; `None`: there is none.
    fn segment(
        &self,
        current: &gst::FormattedSegment<gst::ClockTime>,
    ) -> Option<(gst::FormattedSegment<gst::ClockTime>, gst::ClockTime)> {
        let mut segment = current.clone();
        segment.do_seek(self.rate, self.flags, self.start.0, self.start.1, self.stop.0, self.stop.1)?;
        let target = segment.position()?;
        Some((segment, target))
    }

    fn is_in_order(&self) -> bool {
        let set = |(kind, time)| if kind == gst::SeekType::Set { time } else { None };
        set(self.start).zip(set(self.stop)).is_none_or(|(start, stop)| start <= stop)
    }

    fn is_key_unit(&self) -> bool {
        self.flags.contains(gst::SeekFlags::KEY_UNIT) && !self.flags.contains(gst::SeekFlags::ACCURATE)
    }
}
