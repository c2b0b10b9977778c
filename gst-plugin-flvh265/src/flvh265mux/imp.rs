// SPDX-License-Identifier: MPL-2.0

// Who pushes: the thread whose buffer made the next tag known, one at a time. With one pad that is its streaming
// thread, and nothing waits. With two, a thread leaves its frame in the queue and goes, unless the queue is full or
// the stream live; what it leaves is pushed by the other.
//
// Locks: `settings`, `state`; neither is held while the other is taken, nor while pushing, posting or querying.

use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::config::{Config, MP3_RATES};
use super::settings::{PROPERTIES, Settings};
use super::state::{Kind, Queued, State, Track};
use super::writer::Out;

/// How often a live thread looks again whose deadline is not known.
const RECHECK: Duration = Duration::from_millis(100);
/// A thread that is in the element for longer was held up.
const HELD: Duration = Duration::from_millis(1);
/// How long a thread that was held up has for bringing its next frame, which may have to be encoded first.
const GRACE: Duration = Duration::from_millis(20);

pub struct FlvH265Mux {
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// A thread that waits may go on.
    changed: Condvar,
}

#[glib::object_subclass]
impl ObjectSubclass for FlvH265Mux {
    const NAME: &'static str = "GstFlvH265Mux";
    type Type = super::FlvH265Mux;
    type ParentType = gst::Element;

    fn with_class(klass: &Self::Class) -> Self {
        let template = klass.pad_template("src").expect("in the table");
        let srcpad = gst::Pad::builder_from_template(&template)
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |mux| mux.src_query(pad, query))
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |mux| mux.src_event(pad, event))
            })
            .build();
        Self { srcpad, settings: Mutex::default(), state: Mutex::default(), changed: Condvar::new() }
    }
}

impl ObjectImpl for FlvH265Mux {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings.lock().unwrap().set(pspec.name(), value);
        if self.obj().current_state() > gst::State::Ready {
            gst::warning!(CAT, imp = self, "property '{}' is taken over in READY only", pspec.name());
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.state.lock().unwrap().sink.stats.structure().to_value(),
            name => self.settings.lock().unwrap().get(name),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().add_pad(&self.srcpad).expect("a new element has no pad");
    }
}

impl GstObjectImpl for FlvH265Mux {}

impl ElementImpl for FlvH265Mux {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "FLV muxer with H.265",
                "Codec/Muxer",
                "Muxes H.265 (enhanced or domestic) or H.264 and AAC or MP3 into FLV",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let video = [("video/x-h265", "hvc1"), ("video/x-h264", "avc")].map(|(name, format)| {
                gst::Structure::builder(name).field("stream-format", format).field("alignment", "au").build()
            });
            let aac = gst::Structure::builder("audio/mpeg")
                .field("mpegversion", gst::List::new([4i32, 2]))
                .field("stream-format", "raw")
                .build();
            let mp3 = gst::Structure::builder("audio/mpeg")
                .field("mpegversion", 1i32)
                .field("layer", 3i32)
                .field("parsed", true)
                .field("channels", gst::IntRange::new(1i32, 2))
                .field("rate", gst::List::new(MP3_RATES))
                .build();
            let template = |name, direction, presence, caps: gst::Caps| {
                gst::PadTemplate::new(name, direction, presence, &caps).expect("a valid template")
            };
            use gst::{PadDirection, PadPresence};
            let flv = gst::Caps::new_empty_simple("video/x-flv");
            vec![
                template("src", PadDirection::Src, PadPresence::Always, flv),
                template("video", PadDirection::Sink, PadPresence::Request, gst::Caps::from_iter(video)),
                template("audio", PadDirection::Sink, PadPresence::Request, gst::Caps::from_iter([aac, mp3])),
            ]
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let kind = if template.name() == "video" { Kind::Video } else { Kind::Audio };
        let pad = gst::Pad::builder_from_template(template)
            .chain_function(move |_pad, parent, buffer| {
                let error = || Err(gst::FlowError::Error);
                Self::catch_panic_pad_function(parent, error, |mux| mux.chain(kind, buffer))
            })
            .event_function(move |pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |mux| mux.sink_event(kind, pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |mux| mux.sink_query(pad, query))
            })
            .build();
        {
            let mut state = self.state.lock().unwrap();
            let slot = &mut state.tracks[kind as usize];
            if slot.is_some() {
                gst::warning!(CAT, imp = self, "there is one {} pad already, and no more", template.name());
                return None;
            }
            *slot = Some(Track::new(pad.clone()));
            state.latency = None;
        }
        if self.obj().current_state() > gst::State::Ready {
            pad.set_active(true).ok()?;
        }
        self.obj().add_pad(&pad).ok()?;
        self.post_latency();
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let mut state = self.state.lock().unwrap();
        for track in state.tracks.iter_mut().flatten().filter(|track| track.pad == *pad) {
            track.flushing = true;
        }
        drop(state);
        self.changed.notify_all();
        // Its thread is out of `chain` once this is done.
        let _ = pad.set_active(false);
        let mut state = self.state.lock().unwrap();
        for slot in &mut state.tracks {
            slot.take_if(|track| track.pad == *pad);
        }
        state.latency = None;
        // The other one waits for it no longer, neither with a frame nor in a flush.
        if state.tracks().next().is_some() {
            state = self.drain(state);
        }
        drop(state);
        self.end_flush(gst::event::FlushStop::new(true));
        self.changed.notify_all();
        let _ = self.obj().remove_pad(pad);
        self.post_latency();
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            let settings = self.settings.lock().unwrap().clone();
            if let Err(text) = settings.check() {
                gst::element_imp_error!(self, gst::LibraryError::Settings, ("{text}"));
                return Err(gst::StateChangeError);
            }
            let mut state = self.state.lock().unwrap();
            state.reset();
            state.started = false;
            state.sink.stats = Default::default();
            state.settings = settings;
        }
        if transition == gst::StateChange::PausedToReady {
            let mut state = self.state.lock().unwrap();
            state.flow = Some(gst::FlowError::Flushing);
            state.tracks.iter_mut().flatten().for_each(|track| track.flushing = true);
            drop(state);
            self.changed.notify_all();
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.state.lock().unwrap().reset();
        }
        Ok(success)
    }
}

// The sink pads
impl FlvH265Mux {
    fn chain(&self, kind: Kind, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.ask_neighbours();
        if let Some(error) = state.flow {
            return Err(error);
        }
        let ended = state.ended;
        let track = state.track(kind).ok_or(gst::FlowError::NotLinked)?;
        if track.flushing {
            return Err(gst::FlowError::Flushing);
        }
        if track.eos || ended {
            return Err(gst::FlowError::Eos);
        }
        if track.config.is_none() {
            let text = format!("a buffer on pad {} came before caps", track.pad.name());
            drop(state);
            self.fail(gst::StreamError::Format, gst::FlowError::NotNegotiated, &text);
            return Err(gst::FlowError::NotNegotiated);
        }
        let queued = match track.enqueue(kind, buffer) {
            Ok(queued) => queued,
            Err(text) => {
                drop(state);
                self.fail(gst::StreamError::Mux, gst::FlowError::Error, &text);
                return Err(gst::FlowError::Error);
            }
        };
        track.inside = true;
        let entered = state.is_live().then(Instant::now);
        let mut state = self.tell(state, queued);
        state = self.drain(state);
        while state.must_wait(kind) {
            state = self.wait(state, kind);
            // The deadline may have come.
            state = self.drain(state);
        }
        self.leave(&mut state, kind, entered);
        if let Some(error) = state.flow {
            return Err(error);
        }
        let flushing = state.track(kind).is_none_or(|track| track.flushing);
        if flushing { Err(gst::FlowError::Flushing) } else { Ok(gst::FlowSuccess::Ok) }
    }

    /// Posts what a frame has shown of its stream.
    fn tell<'a>(&'a self, mut state: MutexGuard<'a, State>, queued: Queued) -> MutexGuard<'a, State> {
        if queued.moved {
            gst::warning!(CAT, imp = self, "DTS runs ahead of PTS: it is moved from here on");
            state.sink.stats.timestamp_corrections += 1;
        }
        let latency = queued.more_reordering && state.is_live();
        let order = queued.reordered_without_dts && !std::mem::replace(&mut state.warned_of_order, true);
        if !latency && !order {
            return state;
        }
        drop(state);
        if latency {
            self.post_latency();
        }
        if order {
            let text = "pictures are not in the order of showing, and have no DTS: their times are lost; put \
                        h264timestamper or h265timestamper before the muxer";
            gst::element_imp_warning!(self, gst::StreamError::Mux, ("{text}"));
        }
        self.state.lock().unwrap()
    }

    fn post_latency(&self) {
        let obj = self.obj();
        if obj.current_state() <= gst::State::Ready {
            return;
        }
        // Without a bus nobody asks.
        let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
    }

    /// A thread goes back to bring its track's next frame. A sink that syncs holds up the thread that pushes until the
    /// other track's frame is due, and the other thread with it: neither is to blame for its next frame.
    fn leave(&self, state: &mut State, kind: Kind, entered: Option<Instant>) {
        let held = entered.is_some_and(|entered| entered.elapsed() > HELD);
        let excused = held.then(|| self.running_time()).flatten();
        let Some(track) = state.track(kind) else { return };
        track.inside = false;
        if let Some(now) = excused {
            track.excused_until = Some(now + GRACE.as_nanos() as i64);
        }
        // The other one has another deadline now.
        if entered.is_some() {
            self.changed.notify_all();
        }
    }

    /// Pushes whatever can be pushed, unless another thread is at it, which will.
    fn drain<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.pushing {
            return state;
        }
        state.pushing = true;
        loop {
            let next = state.next(|| self.running_time());
            if state.has_news() {
                self.changed.notify_all();
            }
            // Under the lock: what others have queued since is seen either here or by them.
            let Some(next) = next.transpose() else { break };
            drop(state);
            let flow = match next {
                Ok(Out::Buffer(buffer)) => self.srcpad.push(buffer).map(drop),
                Ok(Out::Event(event)) => {
                    self.srcpad.push_event(event);
                    Ok(())
                }
                Err(text) => {
                    self.fail(gst::StreamError::Mux, gst::FlowError::Error, &text);
                    Err(gst::FlowError::Error)
                }
            };
            state = self.state.lock().unwrap();
            if let Err(error) = flow {
                gst::debug!(CAT, imp = self, "pushing: {error}");
                // Of our own flush, that is no end.
                if !(error == gst::FlowError::Flushing && state.flushing) {
                    state.flow = state.flow.or(Some(error));
                }
                state.sink.out.clear();
            }
        }
        state.pushing = false;
        // A system call, which a single stream has no need of.
        if state.is_awaited() {
            self.changed.notify_all();
        }
        state
    }

    /// Ends the stream and posts why, once: refused events come again with each buffer.
    fn fail(&self, domain: gst::StreamError, flow: gst::FlowError, text: &str) {
        let mut state = self.state.lock().unwrap();
        let first = state.flow.is_none();
        state.flow = state.flow.or(Some(flow));
        drop(state);
        self.changed.notify_all();
        if first {
            gst::element_imp_error!(self, domain, ("{text}"));
        }
    }

    /// Waits until there may be room, or until a live frame's deadline.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, kind: Kind) -> MutexGuard<'a, State> {
        // Woken at the latest when the clock is there, or the other thread back. Who pushes wakes us at its end.
        let patience = || state.patience(kind, || self.running_time()).unwrap_or(RECHECK);
        let timeout = (state.is_live() && !state.pushing).then(patience);
        let set_waiting = |state: &mut State, waiting| {
            if let Some(track) = state.track(kind) {
                track.waiting = waiting;
            }
        };
        set_waiting(&mut state, true);
        let mut state = match timeout {
            Some(timeout) => self.changed.wait_timeout(state, timeout).unwrap().0,
            None => self.changed.wait(state).unwrap(),
        };
        set_waiting(&mut state, false);
        state
    }

    fn running_time(&self) -> Option<i64> {
        let time = self.obj().current_running_time()?;
        i64::try_from(time.nseconds()).ok()
    }

    /// Asks, where that is not known: upstream how long two live streams wait for each other, downstream whether a
    /// file's header can be rewritten.
    fn ask_neighbours(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock().unwrap();
        let ask_latency = state.latency.is_none() && state.tracks().count() > 1;
        let ask_rewrite = state.can_rewrite.is_none() && !state.settings.streamable;
        if !ask_latency && !ask_rewrite {
            return state;
        }
        drop(state);
        let latency = ask_latency.then(|| {
            let (live, min, _max) = self.upstream_latency();
            live.then_some(min)
        });
        let can_rewrite = ask_rewrite.then(|| {
            let mut query = gst::query::Seeking::new(gst::Format::Bytes);
            let seekable = self.srcpad.peer_query(&mut query) && query.result().0;
            if !seekable {
                let text =
                    "streamable=false, but downstream cannot seek: duration, filesize and index stay out";
                gst::element_imp_warning!(self, gst::StreamError::Mux, ("{text}"));
            }
            seekable
        });
        let mut state = self.state.lock().unwrap();
        state.latency = latency.or(state.latency);
        state.can_rewrite = can_rewrite.or(state.can_rewrite);
        state
    }

    /// Live, and the latencies of all pads together.
    fn upstream_latency(&self) -> (bool, gst::ClockTime, Option<gst::ClockTime>) {
        let pads = self.obj().sink_pads();
        let mut all = (false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
        for pad in &pads {
            let mut query = gst::query::Latency::new();
            if !pad.peer_query(&mut query) {
                continue;
            }
            let (live, min, max) = query.result();
            if live {
                all.0 = true;
                all.1 = all.1.max(min);
                all.2 = [all.2, max].into_iter().flatten().min();
            }
        }
        all
    }

    fn sink_event(&self, kind: Kind, pad: &gst::Pad, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, obj = pad, "{event:?}");
        match event.view() {
            EventView::Caps(caps) => self.set_caps(kind, caps.caps()),
            EventView::Segment(segment) => self.set_segment(kind, segment.segment()),
            EventView::Tag(tags) => {
                self.with_track(kind, |track| track.set_tags(tags.tag()));
                true
            }
            EventView::Gap(gap) => {
                let (start, duration) = gap.get();
                self.with_track(kind, |track| track.gap(start, duration));
                drop(self.drain(self.ask_neighbours()));
                true
            }
            EventView::Eos(_) => {
                self.with_track(kind, |track| track.eos = true);
                drop(self.drain(self.ask_neighbours()));
                true
            }
            EventView::FlushStart(_) => self.flush_start(kind, event),
            EventView::FlushStop(_) => self.flush_stop(kind, event),
            // The stream that comes out is another one, with events of its own.
            EventView::StreamStart(_) => true,
            EventView::CustomDownstream(_) => {
                let mut state = self.state.lock().unwrap();
                state.pass_on(event);
                drop(self.drain(state));
                true
            }
            _ if event.is_serialized() => true,
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn with_track(&self, kind: Kind, what: impl FnOnce(&mut Track)) {
        if let Some(track) = self.state.lock().unwrap().track(kind) {
            what(track);
        }
    }

    fn set_caps(&self, kind: Kind, caps: &gst::CapsRef) -> bool {
        let mut state = self.state.lock().unwrap();
        let mode = state.settings.mode;
        let Some(track) = state.track(kind) else { return false };
        let matches = |config: &Config| matches!(config, Config::Video(_)) == (kind == Kind::Video);
        let set = match Config::from_caps(caps, mode) {
            Ok(config) if matches(&config) => {
                track.set_config(config);
                Ok(())
            }
            Ok(_) => Err(format!("{caps} on pad {}", track.pad.name())),
            Err(text) => Err(text),
        };
        drop(state);
        match set {
            Ok(()) => true,
            Err(text) => {
                gst::error!(CAT, imp = self, "refused caps {caps}");
                self.fail(gst::StreamError::Format, gst::FlowError::NotNegotiated, &text);
                false
            }
        }
    }

    fn set_segment(&self, kind: Kind, segment: &gst::Segment) -> bool {
        let Some(segment) = segment.downcast_ref::<gst::ClockTime>() else {
            let format = segment.format();
            let text =
                format!("a segment in {format:?}, but tags have times; upstream must give a TIME segment");
            self.fail(gst::StreamError::Format, gst::FlowError::Error, &text);
            return false;
        };
        self.with_track(kind, |track| track.segment = segment.clone());
        true
    }

    fn flush_start(&self, kind: Kind, event: gst::Event) -> bool {
        self.with_track(kind, |track| {
            track.flushing = true;
            track.queue.clear();
        });
        self.begin_flush(event)
    }

    /// One pad's flush flushes the stream that comes out, once for all pads.
    fn begin_flush(&self, event: gst::Event) -> bool {
        let first = !std::mem::replace(&mut self.state.lock().unwrap().flushing, true);
        self.changed.notify_all();
        !first || self.srcpad.push_event(event)
    }

    fn flush_stop(&self, kind: Kind, event: gst::Event) -> bool {
        self.with_track(kind, Track::flush);
        self.end_flush(event);
        true
    }

    /// After the last pad's flush the stream begins anew, with its headers.
    fn end_flush(&self, event: gst::Event) {
        let mut state = self.state.lock().unwrap();
        while state.flush_is_over() && state.pushing {
            state = self.changed.wait(state).unwrap();
        }
        if !state.flush_is_over() {
            return;
        }
        state.begin_anew();
        drop(state);
        self.srcpad.push_event(event);
        let mut state = self.state.lock().unwrap();
        state.flushing = false;
        drop(self.drain(state));
        self.changed.notify_all();
    }

    /// A flushing seek goes to all pads as one: downstream is flushed from before the first to after the last.
    fn seek(&self, event: gst::Event, seqnum: gst::Seqnum) -> bool {
        let mut state = self.state.lock().unwrap();
        state.tracks.iter_mut().flatten().for_each(|track| track.flush_due = true);
        drop(state);
        self.begin_flush(gst::event::FlushStart::builder().seqnum(seqnum).build());
        let mut done = false;
        for kind in [Kind::Video, Kind::Audio] {
            let pad = self.state.lock().unwrap().track(kind).map(|track| track.pad.clone());
            let Some(pad) = pad else { continue };
            let taken = pad.push_event(event.clone());
            if !taken {
                self.with_track(kind, |track| track.flush_due = false);
            }
            done |= taken;
        }
        self.end_flush(gst::event::FlushStop::builder(true).seqnum(seqnum).build());
        done
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        // What we cannot take is refused with its reason when it comes, instead of a bare not-negotiated.
        if let gst::QueryViewMut::AcceptCaps(accept) = query.view_mut() {
            accept.set_result(true);
            return true;
        }
        gst::Pad::query_default(pad, Some(&*self.obj()), query)
    }
}

// The source pad
impl FlvH265Mux {
    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                let (live, min, max) = self.upstream_latency();
                // Where there is another stream to wait for; what waits, waits upstream, so that the maximum stays.
                let state = self.state.lock().unwrap();
                let own = if live && state.tracks().count() > 1 {
                    state.own_latency()
                } else {
                    gst::ClockTime::ZERO
                };
                latency.set(live, min + own, max);
                true
            }
            gst::QueryViewMut::Seeking(seeking) => {
                let format = seeking.format();
                seeking.set(
                    false,
                    gst::GenericFormattedValue::none_for_format(format),
                    gst::GenericFormattedValue::none_for_format(format),
                );
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Latency(_) => self.state.lock().unwrap().latency = None,
            gst::EventView::Seek(seek) if seek.get().1.contains(gst::SeekFlags::FLUSH) => {
                let seqnum = seek.seqnum();
                return self.seek(event, seqnum);
            }
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }
}
