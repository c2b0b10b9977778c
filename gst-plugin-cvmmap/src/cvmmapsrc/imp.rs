// SPDX-License-Identifier: MPL-2.0

// Locks: none is held while waiting, pushing or posting, and none while another is taken.
// - `settings`, `stats`, `format`, `info` and `waker` are held for single reads and writes;
// - `streaming` is only the place where the streaming thread's own things stay between two calls of `create`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use cvmmap_ipc::clock::{is_same_clock, is_unix_time, unix_now_ns};
use cvmmap_ipc::{
    Arrival, Cause, Coherence, Counters, Event, FrameId, Plane, PlaneKind, Reader, Refusal, Region, Verdict,
    Waker,
};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;

use super::CAT;
use super::pool;
use super::settings::{PROPERTIES, Settings, TimestampMode};
use super::state::{AccessUnitGate, CaptureClock, Rate, State, Stats, stalled_after};
use crate::format::{Conversion, Output, Unmapped, convert_row, output, plane_caps};

static UNIX_CAPS: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

/// How long a producer may leave out the wanted plane before that is an error: encoders need a while.
const PLANE_GRACE: Duration = Duration::from_secs(1);
/// More kinds of refusals than this are not posted: their values may differ in every frame.
const MAX_COMPLAINTS: usize = 8;
/// Longest wait before `stats` is brought up to date and a stalled producer's segment looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Frames that arrive for this long without one being good are worth a warning.
const STARVING_AFTER: Duration = Duration::from_secs(1);
/// Latency is told anew when it changed by more than this, in ns.
const LATENCY_STEP_NS: u64 = 2_000_000;

/// A frame's buffer, complete but for what is known only when it is handed on.
struct Snapshot {
    buffer: gst::Buffer,
    frame: FrameId,
    arrived: Instant,
    pts: Option<gst::ClockTime>,
    /// `None` for raw video.
    key: Option<bool>,
    discont: bool,
    reset: bool,
}

/// What only the streaming thread uses.
struct Streaming {
    settings: Settings,
    reader: Reader,
    /// The copy that `next-sync` has not proven yet.
    held: Option<Snapshot>,
    state: Option<State>,
    rate: Rate,
    capture_clock: CaptureClock,
    gate: AccessUnitGate,
    /// The count went backwards since the last frame that was copied.
    reset: bool,
    /// The next buffer does not follow on the last.
    discont: bool,
    reopens: u64,
    last_pts: Option<gst::ClockTime>,
    missing_since: Option<Instant>,
    /// The refusals that were posted, so that each is posted once.
    complaints: Vec<String>,
    /// It was told that frames arrive and none is good.
    starving: bool,
    /// It was told that the messages are somebody else's.
    strangers_told: bool,
    /// Rows of a plane that is converted after it was judged.
    scratch: Vec<u8>,
}

/// The negotiated output.
#[derive(Clone, PartialEq)]
struct Format {
    output: Output,
    caps: gst::Caps,
}

#[derive(Default)]
pub struct CvMmapSrc {
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    streaming: Mutex<Option<Streaming>>,
    waker: Mutex<Option<Waker>>,
    /// `None` until the first frame shows what the producer publishes.
    format: Mutex<Option<Format>>,
    /// Set by `set_caps` for the raw formats.
    info: Mutex<Option<gst_video::VideoInfo>>,
    latency_ns: AtomicU64,
    /// A flush or a pause came since the last frame.
    interrupted: AtomicBool,
}

impl Streaming {
    fn start_afresh(&mut self) {
        self.held = None;
        self.rate = Rate::default();
        self.capture_clock = CaptureClock::default();
        self.gate = AccessUnitGate::default();
        self.discont = true;
        self.last_pts = None;
    }
}

#[glib::object_subclass]
impl ObjectSubclass for CvMmapSrc {
    const NAME: &'static str = "GstCvMmapSrc";
    type Type = super::CvMmapSrc;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for CvMmapSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings.lock().unwrap().set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats.lock().unwrap().structure().to_value(),
            name => self.settings.lock().unwrap().get(name),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
    }
}

impl GstObjectImpl for CvMmapSrc {}

impl ElementImpl for CvMmapSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "cv-mmap source",
                "Source/Video",
                "Reads coherent frames of a cv-mmap producer from shared memory",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = plane_caps(PlaneKind::Left);
            caps.merge(plane_caps(PlaneKind::Encoded));
            let template =
                gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &caps);
            vec![template.expect("a valid template")]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Not in `start`, whose failure the base class reports a second time and in other words.
        if transition == gst::StateChange::ReadyToPaused {
            self.open()?;
        }
        self.parent_change_state(transition)
    }
}

impl URIHandlerImpl for CvMmapSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &[cvmmap_ipc::target::SCHEME]
    }

    fn uri(&self) -> Option<String> {
        Some(self.settings.lock().unwrap().uri.clone())
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if self.obj().current_state() > gst::State::Ready {
            let why = "the URI can be set in NULL and READY only";
            return Err(glib::Error::new(gst::URIError::BadState, why));
        }
        if let Err(error) = uri.parse::<cvmmap_ipc::Target>() {
            return Err(glib::Error::new(gst::URIError::BadUri, &error.to_string()));
        }
        self.settings.lock().unwrap().uri = uri.into();
        Ok(())
    }
}

impl BaseSrcImpl for CvMmapSrc {
    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.streaming.lock().unwrap() = None;
        *self.waker.lock().unwrap() = None;
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(waker) = &*self.waker.lock().unwrap() {
            waker.wake();
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(waker) = &*self.waker.lock().unwrap() {
            waker.clear();
        }
        // After a flush or a pause nothing that was held or measured before is of use.
        self.interrupted.store(true, Ordering::Release);
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                let min = gst::ClockTime::from_nseconds(self.latency_ns.load(Ordering::Relaxed));
                latency.set(true, min, gst::ClockTime::NONE);
                true
            }
            _ => BaseSrcImplExt::parent_query(self, query),
        }
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let known = self.format.lock().unwrap().as_ref().map(|format| format.caps.clone());
        let caps = known.unwrap_or_else(|| plane_caps(self.settings.lock().unwrap().plane.into()));
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        // Before the first frame nobody knows what there is to negotiate.
        if self.format.lock().unwrap().is_none() {
            return Ok(());
        }
        self.parent_negotiate()
    }

    fn fixate(&self, mut caps: gst::Caps) -> gst::Caps {
        caps.truncate();
        let structure = caps.make_mut().structure_mut(0).expect("negotiated caps are not empty");
        // The wire does not tell a frame rate: variable, unless downstream asks for a certain one.
        structure.fixate_field_nearest_fraction("framerate", gst::Fraction::new(0, 1));
        self.parent_fixate(caps)
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        *self.info.lock().unwrap() = gst_video::VideoInfo::from_caps(caps).ok();
        self.parent_set_caps(caps)
    }

    fn decide_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
        let Some(info) = self.info.lock().unwrap().clone() else {
            return self.parent_decide_allocation(query);
        };
        pool::choose(query, &info)
    }
}

impl PushSrcImpl for CvMmapSrc {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        // Taken out, so that nothing is locked while it waits; `stop` comes only after the streaming thread.
        let Some(mut streaming) = self.streaming.lock().unwrap().take() else {
            return Err(gst::FlowError::Flushing);
        };
        if self.interrupted.swap(false, Ordering::AcqRel) {
            streaming.start_afresh();
        }
        let result = self.next_buffer(&mut streaming);
        self.stats.lock().unwrap().counters = streaming.reader.counters();
        *self.streaming.lock().unwrap() = Some(streaming);
        result.map(CreateSuccess::NewBuffer)
    }
}

impl CvMmapSrc {
    /// Checks the settings and opens the reader; the error is posted.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        let settings = self.settings.lock().unwrap().clone();
        let config = settings.reader_config().map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        })?;
        let reader = Reader::open(config).map_err(|error| {
            let name = if settings.zmq_endpoint.is_some() { "zmq-endpoint" } else { "uri" };
            let value = settings.zmq_endpoint.as_ref().unwrap_or(&settings.uri);
            gst::element_imp_error!(
                self,
                gst::ResourceError::OpenRead,
                ("property '{name}' = '{value}': {error}")
            );
            gst::StateChangeError
        })?;
        *self.waker.lock().unwrap() = Some(reader.waker());
        *self.stats.lock().unwrap() = Stats::default();
        *self.format.lock().unwrap() = None;
        *self.info.lock().unwrap() = None;
        self.latency_ns.store(0, Ordering::Relaxed);
        *self.streaming.lock().unwrap() = Some(Streaming {
            settings,
            reader,
            held: None,
            state: None,
            rate: Rate::default(),
            capture_clock: CaptureClock::default(),
            gate: AccessUnitGate::default(),
            reset: false,
            discont: false,
            reopens: 0,
            last_pts: None,
            missing_since: None,
            complaints: Vec::new(),
            starving: false,
            strangers_told: false,
            scratch: Vec::new(),
        });
        Ok(())
    }

    /// Waits for the next frame that can be handed on.
    fn next_buffer(&self, s: &mut Streaming) -> Result<gst::Buffer, gst::FlowError> {
        if s.state.is_none() {
            self.enter(s, State::Waiting, None);
        }
        // Time spent downstream is not silence.
        let mut since = Instant::now();
        let counters = s.reader.counters();
        let (mut accepted, refused) = (counters.accepted, counters.torn + counters.late);
        loop {
            let idle = self.settings.lock().unwrap().idle_timeout();
            let stall = matches!(s.state, Some(State::Streaming | State::Reset))
                .then(|| stalled_after(s.rate.interval_ns()));
            let left = |limit: Duration| limit.saturating_sub(since.elapsed());
            let timeout = idle.into_iter().chain(stall).map(left).fold(HOUSEKEEPING, Duration::min);
            let event = s.reader.wait(Some(timeout)).map_err(|error| {
                gst::element_imp_error!(self, gst::ResourceError::Read, ("{error}"));
                gst::FlowError::Error
            })?;
            match event {
                Event::Woken => return Err(gst::FlowError::Flushing),
                Event::TimedOut if idle.is_some_and(|idle| left(idle).is_zero()) => {
                    gst::info!(CAT, imp = self, "no frame for {:?}: EOS", since.elapsed());
                    let stats = {
                        let mut stats = self.stats.lock().unwrap();
                        stats.counters = s.reader.counters();
                        stats.structure()
                    };
                    self.post(stats);
                    return Err(gst::FlowError::Eos);
                }
                Event::TimedOut => {
                    let counters = s.reader.counters();
                    self.stats.lock().unwrap().counters = counters;
                    self.check_label(s, &counters);
                    if s.state == Some(State::Stalled) || stall.is_some_and(|stall| left(stall).is_zero()) {
                        let gone = !s.reader.segment_exists();
                        self.enter(s, if gone { State::Waiting } else { State::Stalled }, None);
                    }
                }
                Event::Arrival(arrival) => {
                    if let Some(buffer) = self.arrived(s, &arrival)? {
                        return Ok(buffer);
                    }
                    let counters = s.reader.counters();
                    if std::mem::replace(&mut accepted, counters.accepted) != accepted {
                        since = Instant::now();
                    } else if since.elapsed() >= STARVING_AFTER
                        && !s.starving
                        && counters.torn + counters.late > refused
                    {
                        s.starving = true;
                        gst::element_imp_warning!(
                            self,
                            gst::StreamError::Failed,
                            (
                                "{}: frames arrive, but none can be shown to be whole at coherence={} (torn {}, late {})",
                                s.settings.uri,
                                s.reader.config().coherence,
                                counters.torn,
                                counters.late
                            )
                        );
                    }
                    self.stats.lock().unwrap().counters = counters;
                }
            }
        }
    }

    /// Reads the announced frame; returns the buffer that can be handed on now, which may be the one before.
    fn arrived(&self, s: &mut Streaming, arrival: &Arrival) -> Result<Option<gst::Buffer>, gst::FlowError> {
        let now = self.obj().current_running_time();
        let running = now.map(|now| now.saturating_sub(elapsed(arrival.at)));
        if arrival.reset {
            s.reset = true;
            self.enter(s, State::Reset, Some(arrival.frame));
        }
        let stamp = arrival.frame.timestamp_ns;
        let delay = is_same_clock(stamp, arrival.unix_ns).then(|| arrival.unix_ns.saturating_sub(stamp));
        s.rate.observe(arrival.frame.count, running.map_or(0, gst::ClockTime::nseconds), delay);
        self.update_latency(s);

        let held = s.held.take().filter(|_| arrival.settled == Some(Verdict::Accept));
        // Before the next one is looked at: access units are counted in order.
        let proven = held.and_then(|snapshot| self.finish(s, snapshot));
        let pts = running.map(|running| match s.settings.timestamp_mode {
            TimestampMode::Arrival => running,
            TimestampMode::Capture => {
                let capture = s.capture_clock.capture_ns(running.nseconds(), arrival.unix_ns, stamp);
                gst::ClockTime::from_nseconds(capture)
            }
        });
        let ready = match self.snapshot(s, arrival, pts, proven.is_none())? {
            Some((snapshot, Verdict::Accept)) => self.finish(s, snapshot),
            Some((snapshot, _)) => {
                s.held = Some(snapshot);
                proven
            }
            None => proven,
        };
        Ok(ready)
    }

    /// Copies the announced frame's plane into a new buffer; `None` where it was refused.
    fn snapshot(
        &self,
        s: &mut Streaming,
        arrival: &Arrival,
        pts: Option<gst::ClockTime>,
        may_renegotiate: bool,
    ) -> Result<Option<(Snapshot, Verdict)>, gst::FlowError> {
        let kind = PlaneKind::from(s.settings.plane);
        let mut frame = match s.reader.begin(arrival) {
            Ok(frame) => frame,
            Err(refusal) => return self.refused(s, arrival, refusal),
        };
        let metadata = frame.metadata().clone();
        let output = match output(&metadata, kind, s.settings.depth_unit()) {
            Ok(output) => output,
            Err(unmapped) => return self.unmapped(s, arrival.frame, unmapped),
        };
        s.missing_since = None;
        let format = self.format.lock().unwrap().clone();
        if format.is_none_or(|format| format.output != output) {
            if !may_renegotiate {
                // The proven frame goes out first, with the caps that it was copied for.
                self.stats.lock().unwrap().unusable += 1;
                return Ok(None);
            }
            self.renegotiate(output)?;
        }
        let plane = metadata.plane(kind).expect("an output has a plane");
        let (buffer, verdict) = match output {
            Output::Encoded { .. } => copy_access_unit(&mut frame, plane),
            Output::Raw { conversion, .. } => {
                let info = self.info.lock().unwrap().clone().ok_or(gst::FlowError::NotNegotiated)?;
                let pool = self.obj().buffer_pool().ok_or(gst::FlowError::NotNegotiated)?;
                let mut buffer = pool.acquire_buffer(None)?;
                let verdict = self.copy_picture(
                    &mut frame,
                    plane,
                    conversion,
                    &mut s.scratch,
                    buffer.make_mut(),
                    &info,
                )?;
                (buffer, verdict)
            }
        };
        if let Verdict::Refuse(cause) = verdict {
            gst::debug!(CAT, imp = self, "frame {} dropped: {cause:?}", arrival.frame.count);
            return Ok(None);
        }
        s.starving = false;
        let reopens = s.reader.counters().reopens;
        let reopened = std::mem::replace(&mut s.reopens, reopens) != reopens;
        let reset = std::mem::take(&mut s.reset);
        let snapshot = Snapshot {
            buffer,
            frame: arrival.frame,
            arrived: arrival.at,
            pts,
            key: matches!(output, Output::Encoded { .. })
                .then(|| metadata.encoded.is_some_and(|info| info.is_key_frame())),
            discont: reset || reopened,
            reset,
        };
        Ok(Some((snapshot, verdict)))
    }

    /// Copies a raw plane into a buffer of the pool, through a scratch row buffer where values are converted.
    fn copy_picture(
        &self,
        frame: &mut cvmmap_ipc::Frame<'_>,
        plane: &Plane,
        conversion: Conversion,
        scratch: &mut Vec<u8>,
        buffer: &mut gst::BufferRef,
        info: &gst_video::VideoInfo,
    ) -> Result<Verdict, gst::FlowError> {
        let failed = |_| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Write,
                ("cannot map a buffer of the negotiated pool")
            );
            gst::FlowError::Error
        };
        let mut picture = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, info).map_err(failed)?;
        let stride = picture.plane_stride()[0] as usize;
        let data = picture.plane_data_mut(0).map_err(failed)?;
        let region = Region::pixels(plane);
        if conversion == Conversion::None {
            if region.stride != stride {
                gst::trace!(
                    gst::CAT_PERFORMANCE,
                    imp = self,
                    "row by row: stride {} becomes {stride}",
                    region.stride
                );
            }
            return Ok(frame.copy(region, data, stride));
        }
        scratch.resize(region.row_bytes * region.rows, 0);
        let verdict = frame.copy(region, scratch, region.row_bytes);
        if matches!(verdict, Verdict::Accept | Verdict::AwaitNext) {
            for (from, to) in scratch.chunks_exact(region.row_bytes).zip(data.chunks_mut(stride)) {
                convert_row(conversion, from, to);
            }
        }
        Ok(verdict)
    }

    fn refused(
        &self,
        s: &mut Streaming,
        arrival: &Arrival,
        refusal: Refusal,
    ) -> Result<Option<(Snapshot, Verdict)>, gst::FlowError> {
        match &refusal {
            Refusal::Incoherent(Cause::ForeignClock) if s.reader.counters().accepted == 0 => {
                gst::element_imp_error!(
                    self,
                    gst::ResourceError::Settings,
                    (
                        "property 'coherence' = 'next-sync': the stamp {} of frame {} is not of this machine's Unix \
                         clock ({} now), so nothing can be proven by it; use 'verify'",
                        arrival.frame.timestamp_ns,
                        arrival.frame.count,
                        arrival.unix_ns
                    )
                );
                return Err(gst::FlowError::Error);
            }
            Refusal::Incoherent(_) => {
                gst::debug!(CAT, imp = self, "frame {} dropped: {refusal}", arrival.frame.count);
            }
            _ => {
                let text = refusal.to_string();
                // The others are in the log and in `stats`.
                if s.complaints.contains(&text) || s.complaints.len() >= MAX_COMPLAINTS {
                    gst::debug!(CAT, imp = self, "frame {} dropped: {text}", arrival.frame.count);
                } else {
                    let uri = &s.settings.uri;
                    gst::element_imp_warning!(
                        self,
                        gst::StreamError::Format,
                        ("{uri}: frames dropped: {text}")
                    );
                    s.complaints.push(text);
                }
            }
        }
        Ok(None)
    }

    /// Somebody publishes at this endpoint, but not whom we wait for: told once.
    fn check_label(&self, s: &mut Streaming, counters: &Counters) {
        if counters.announced > 0 || counters.ignored_messages == 0 || s.strangers_told {
            return;
        }
        s.strangers_told = true;
        let config = s.reader.config();
        let whose = config.label.as_ref().map_or(String::new(), |label| format!(" labelled '{label}'"));
        gst::element_imp_warning!(
            self,
            gst::StreamError::WrongType,
            (
                "{}: none of the {} messages at '{}' is a sync message{whose}",
                s.settings.uri,
                counters.ignored_messages,
                config.endpoint
            )
        );
    }

    fn unmapped(
        &self,
        s: &mut Streaming,
        frame: FrameId,
        unmapped: Unmapped,
    ) -> Result<Option<(Snapshot, Verdict)>, gst::FlowError> {
        let uri = &s.settings.uri;
        match unmapped {
            Unmapped::Unsupported(what) => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    ("{uri}: {what} has no mapping to GStreamer")
                );
                Err(gst::FlowError::Error)
            }
            Unmapped::Missing { plane, published, version } => {
                let since = *s.missing_since.get_or_insert_with(Instant::now);
                // Before version 2 there are no other planes to come.
                if version.major < 2 || since.elapsed() >= PLANE_GRACE {
                    gst::element_imp_error!(
                        self,
                        gst::ResourceError::NotFound,
                        ("{uri}: plane '{plane}' is not published (metadata version {version}, planes: {published})")
                    );
                    return Err(gst::FlowError::Error);
                }
                // A frame without an access unit is no gap in the encoded stream.
                s.gate.frame(frame.count);
                self.stats.lock().unwrap().unusable += 1;
                Ok(None)
            }
        }
    }

    fn renegotiate(&self, output: Output) -> Result<(), gst::FlowError> {
        let caps = output.caps();
        gst::info!(CAT, imp = self, "the producer publishes {caps}");
        let known = self.format.lock().unwrap().replace(Format { output, caps: caps.clone() });
        if known.is_some_and(|known| known.caps == caps) {
            // Only what is done to the values is different.
            return Ok(());
        }
        let obj = self.obj();
        if obj.negotiate() {
            return Ok(());
        }
        *self.format.lock().unwrap() = None;
        if obj.src_pad().pad_flags().contains(gst::PadFlags::FLUSHING) {
            return Err(gst::FlowError::Flushing);
        }
        let uri = self.settings.lock().unwrap().uri.clone();
        gst::element_imp_error!(
            self,
            gst::CoreError::Negotiation,
            ("downstream does not take what {uri} publishes: {caps}")
        );
        Err(gst::FlowError::NotNegotiated)
    }

    /// Puts time, flags and metas on a buffer; `None` where it is of no use to a decoder.
    fn finish(&self, s: &mut Streaming, snapshot: Snapshot) -> Option<gst::Buffer> {
        let Snapshot { mut buffer, frame, arrived, pts, key, discont, reset } = snapshot;
        s.discont |= discont;
        s.gate.frame(frame.count);
        if let Some(key) = key {
            match s.gate.pass(key) {
                Some(first) => s.discont |= first,
                None => {
                    gst::debug!(CAT, imp = self, "frame {} dropped: waiting for a key frame", frame.count);
                    self.stats.lock().unwrap().unusable += 1;
                    return None;
                }
            }
        }
        let first = self.stats.lock().unwrap().frames == 0;
        // Time goes on through resets, restarts and steps of clocks.
        let pts = pts.map(|pts| s.last_pts.map_or(pts, |last| pts.max(last + gst::ClockTime::NSECOND)));
        s.last_pts = pts.or(s.last_pts);
        let buffer_ref = buffer.make_mut();
        buffer_ref.set_pts(pts);
        buffer_ref.set_offset(frame.count.into());
        buffer_ref.set_offset_end(u64::from(frame.count) + 1);
        if key == Some(false) {
            buffer_ref.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        if std::mem::take(&mut s.discont) || first {
            buffer_ref.set_flags(gst::BufferFlags::DISCONT);
        }
        if is_unix_time(frame.timestamp_ns) {
            let stamp = gst::ClockTime::from_nseconds(frame.timestamp_ns);
            gst::ReferenceTimestampMeta::add(buffer_ref, &UNIX_CAPS, stamp, gst::ClockTime::NONE);
        }
        let bytes = buffer_ref.size() as u64;
        if reset && !first {
            let event = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
            self.obj().src_pad().push_event(event);
        }
        self.enter(s, State::Streaming, Some(frame));
        let now = unix_now_ns();
        let mut stats = self.stats.lock().unwrap();
        stats.frames += 1;
        stats.bytes += bytes;
        stats.last_frame = Some(frame);
        stats.latencies.push(arrived.elapsed().as_nanos() as u64);
        if is_same_clock(frame.timestamp_ns, now) {
            stats.capture_latencies.push(now.saturating_sub(frame.timestamp_ns));
        }
        drop(stats);
        Some(buffer)
    }

    /// A frame interval, since the source has at most one frame; besides what the time mode and the level add.
    fn update_latency(&self, s: &Streaming) {
        let Some(interval) = s.rate.interval_ns() else { return };
        let delay = match s.settings.timestamp_mode {
            TimestampMode::Arrival => 0,
            TimestampMode::Capture => s.rate.delay_ns(),
        };
        let proof = if s.reader.config().coherence == Coherence::NextSync { interval } else { 0 };
        let latency = interval + delay + proof;
        if latency.abs_diff(self.latency_ns.load(Ordering::Relaxed)) > LATENCY_STEP_NS.max(interval / 8) {
            self.latency_ns.store(latency, Ordering::Relaxed);
            gst::debug!(CAT, imp = self, "latency is {latency} ns");
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    /// Tells of a new state; of a reset each time.
    fn enter(&self, s: &mut Streaming, state: State, frame: Option<FrameId>) {
        if s.state.replace(state) == Some(state) && state != State::Reset {
            return;
        }
        let name = state.name();
        gst::info!(CAT, imp = self, "{}: {name}", s.settings.uri);
        let mut message =
            gst::Structure::builder("cvmmapsrc-state").field("state", name).field("uri", &s.settings.uri);
        if let Some(frame) = frame {
            message = message.field("frame-count", frame.count);
        }
        self.post(message.build());
    }

    fn post(&self, structure: gst::Structure) {
        let obj = self.obj();
        // Without a bus nobody wants to know.
        let _ = obj.post_message(gst::message::Element::builder(structure).src(&*obj).build());
    }
}

fn copy_access_unit(frame: &mut cvmmap_ipc::Frame<'_>, plane: &Plane) -> (gst::Buffer, Verdict) {
    let mut unit = vec![0; plane.size as usize];
    let verdict = frame.copy_plane(plane, &mut unit);
    (gst::Buffer::from_mut_slice(unit), verdict)
}

fn elapsed(since: Instant) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(since.elapsed().as_nanos() as u64)
}
