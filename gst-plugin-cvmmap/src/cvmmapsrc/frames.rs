// SPDX-License-Identifier: MPL-2.0

//! What the streaming thread does: waits for frames, copies them, and puts on them what downstream needs.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cvmmap_ipc::clock::is_same_clock;
use cvmmap_ipc::{
    Arrival, Cause, Counters, Event, FrameId, Plane, PlaneKind, Reader, Refusal, Region, Verdict,
};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_video::prelude::*;

use super::CAT;
use super::imp::{CvMmapSrc, Format};
use super::seek::{Landing, Mapping, Picking};
use super::settings::{Settings, TimestampMode};
use super::state::{AccessUnitGate, CaptureClock, Rate, stalled_after};
use super::telling::State;
use crate::format::{Conversion, Output, Unmapped, convert_row, output};

/// How long a producer may leave out the wanted plane before that is an error: encoders need a while.
const PLANE_GRACE: Duration = Duration::from_secs(1);
/// More kinds of refusals than this are not posted: their values may differ in every frame.
const MAX_COMPLAINTS: usize = 8;
/// Longest wait before `stats` is brought up to date and a stalled producer's segment looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Frames that wait for their bodies, in bytes: more than that, and the first goes without.
pub(super) const MAX_READY: usize = 256 << 20;
/// Frames that arrive for this long without one being good are worth a warning.
const STARVING_AFTER: Duration = Duration::from_secs(1);

/// A frame's buffer, complete but for what is known only when it is handed on.
pub(super) struct Snapshot {
    pub buffer: gst::Buffer,
    pub frame: FrameId,
    pub arrived: Instant,
    pub pts: Option<gst::ClockTime>,
    /// `None` for raw video.
    pub key: Option<bool>,
    pub discont: bool,
    pub reset: bool,
    /// Frames without an access unit that came after this one while it waited.
    pub bare: Vec<u32>,
}

/// What only the streaming thread uses.
pub(super) struct Streaming {
    pub settings: Settings,
    pub reader: Reader,
    /// The copy that `next-sync` has not proven yet.
    pub held: Option<Snapshot>,
    /// What may go out, oldest first: more than one only where bodies are waited for, or after a seek.
    pub ready: VecDeque<Snapshot>,
    /// What may be where a seek that is under way lands.
    pub kept: Vec<Snapshot>,
    pub picking: Picking,
    /// Where the next frame was sought.
    pub landing: Option<Landing>,
    /// Stream time as it was last set, where the producer has a timeline.
    pub mapping: Option<Mapping>,
    /// The last frame was past the stop position.
    pub ended: bool,
    pub rate: Rate,
    pub capture_clock: CaptureClock,
    pub gate: AccessUnitGate,
    /// The stream started anew since the last frame that was copied, and no buffer shows it yet.
    pub reset: bool,
    /// The count went backwards since then.
    pub fell: bool,
    /// The next buffer does not follow on the last.
    pub discont: bool,
    pub reopens: u64,
    pub last_pts: Option<gst::ClockTime>,
    pub missing_since: Option<Instant>,
    /// The refusals that were posted, so that each is posted once.
    pub complaints: Vec<String>,
    /// It was told that frames arrive and none is good.
    pub starving: bool,
    /// It was told that the messages are somebody else's.
    pub strangers_told: bool,
    /// Rows of a plane that is converted after it was judged.
    pub scratch: Vec<u8>,
}

impl Streaming {
    pub fn new(settings: Settings, reader: Reader) -> Self {
        Self {
            settings,
            reader,
            held: None,
            ready: VecDeque::new(),
            kept: Vec::new(),
            picking: Picking::default(),
            landing: None,
            mapping: None,
            ended: false,
            rate: Rate::default(),
            capture_clock: CaptureClock::default(),
            gate: AccessUnitGate::default(),
            reset: false,
            fell: false,
            discont: false,
            reopens: 0,
            last_pts: None,
            missing_since: None,
            complaints: Vec::new(),
            starving: false,
            strangers_told: false,
            scratch: Vec::new(),
        }
    }

    pub fn start_afresh(&mut self) {
        self.held = None;
        self.ready.clear();
        self.kept.clear();
        self.mapping = None;
        self.rate = Rate::default();
        self.capture_clock = CaptureClock::default();
        self.gate = AccessUnitGate::default();
        self.discont = true;
    }
}

impl CvMmapSrc {
    /// Waits for the next frame that can be handed on.
    pub(super) fn next_buffer(&self, s: &mut Streaming) -> Result<gst::Buffer, gst::FlowError> {
        if self.telling.lock().unwrap().state().is_none() {
            self.tell(|telling| telling.silent(true));
        }
        // Time spent downstream is not silence.
        let mut since = Instant::now();
        let counters = s.reader.counters();
        let (mut accepted, refused) = (counters.accepted, counters.torn + counters.late);
        loop {
            while let Some(snapshot) = self.due(s) {
                let Some(buffer) = self.finish(s, snapshot) else { continue };
                return if s.ended { Err(gst::FlowError::Eos) } else { Ok(buffer) };
            }
            // What waits for its bodies goes out first.
            let idle = self.settings.lock().unwrap().idle_timeout().filter(|_| s.ready.is_empty());
            let lively = self.telling.lock().unwrap().is_lively();
            let stall = lively.then(|| stalled_after(s.rate.interval_ns()));
            let left = |limit: Duration| limit.saturating_sub(since.elapsed());
            let bodies = s.ready.front().zip(s.settings.body_wait());
            let bodies = bodies.map(|(front, wait)| wait.saturating_sub(front.arrived.elapsed()));
            let timeout =
                idle.into_iter().chain(stall).map(left).chain(bodies).fold(HOUSEKEEPING, Duration::min);
            if self.unlocked.load(Ordering::Acquire) {
                return Err(gst::FlowError::Flushing);
            }
            self.seeking.notice();
            let event = s.reader.wait(Some(timeout)).map_err(|error| {
                gst::element_imp_error!(self, gst::ResourceError::Read, ("{error}"));
                gst::FlowError::Error
            })?;
            let paused = self.has_paused(s);
            match event {
                Event::Woken => self.woken()?,
                // The wait goes on. What comes in PAUSED is of no use: the clock runs, and running time does not.
                Event::Arrival(arrival) if !self.playing.load(Ordering::Acquire) => {
                    since = Instant::now();
                    if arrival.reset {
                        self.count_fell(s, arrival.frame);
                    }
                }
                Event::TimedOut if paused => since = Instant::now(),
                Event::TimedOut if idle.is_some_and(|idle| left(idle).is_zero()) => {
                    gst::info!(CAT, imp = self, "no frame for {:?}: EOS", since.elapsed());
                    self.stats.lock().unwrap().counters = s.reader.counters();
                    self.post(self.stats_structure());
                    return Err(gst::FlowError::Eos);
                }
                Event::TimedOut => {
                    self.nothing_came(s, stall.is_some_and(|stall| left(stall).is_zero()))?;
                }
                Event::Arrival(arrival) => {
                    self.arrived(s, &arrival)?;
                    let counters = s.reader.counters();
                    if std::mem::replace(&mut accepted, counters.accepted) != accepted {
                        since = Instant::now();
                    } else if since.elapsed() >= STARVING_AFTER && counters.torn + counters.late > refused {
                        self.starve(s, &counters);
                    }
                    self.stats.lock().unwrap().counters = counters;
                }
            }
        }
    }

    /// A wait ended without a frame; `stalled`: it is not only between two of them.
    fn nothing_came(&self, s: &mut Streaming, stalled: bool) -> Result<(), gst::FlowError> {
        let counters = s.reader.counters();
        self.stats.lock().unwrap().counters = counters;
        self.check_label(s, &counters);
        let state = self.telling.lock().unwrap().state();
        let quiet = matches!(state, Some(State::Stalled | State::Offline | State::Waiting));
        // What waits for its bodies has still to go out.
        if (stalled || quiet) && s.ready.is_empty() && !self.seeking.is_under_way() && self.is_spent(s) {
            gst::info!(CAT, imp = self, "nothing more comes before the stop position: EOS");
            return Err(gst::FlowError::Eos);
        }
        if stalled || state == Some(State::Stalled) {
            let gone = !s.reader.segment_exists();
            self.tell(|telling| telling.silent(gone));
            if gone {
                self.forget_source();
            }
        }
        Ok(())
    }

    /// Whether there was a pause since this was asked last, or still is; what was held then is of no use any more.
    pub(super) fn has_paused(&self, s: &mut Streaming) -> bool {
        let playing = self.playing.load(Ordering::Acquire);
        let paused = self.paused.swap(false, Ordering::AcqRel) || !playing;
        if paused {
            self.seeking.await_from_now();
            s.start_afresh();
        }
        paused
    }

    /// Frames arrive, and none is good: told once, until one is.
    fn starve(&self, s: &mut Streaming, counters: &Counters) {
        if std::mem::replace(&mut s.starving, true) {
            return;
        }
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

    /// Woken to stop, or to look at what came over NATS.
    fn woken(&self) -> Result<(), gst::FlowError> {
        let waker = self.waker.lock().unwrap().clone();
        // Cleared before it is looked at: whoever unlocks says so before it wakes.
        if let Some(waker) = waker {
            waker.clear();
        }
        if self.unlocked.load(Ordering::Acquire) { Err(gst::FlowError::Flushing) } else { Ok(()) }
    }

    /// Wakes the streaming thread, so that it looks at what came over NATS.
    pub(super) fn nudge(&self) {
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.nudge();
        }
    }

    /// The next frame that may go out now: no seek keeps it, and it does not wait for its bodies any more.
    fn due(&self, s: &mut Streaming) -> Option<Snapshot> {
        self.gate_by_seek(s);
        let front = s.ready.front()?;
        let waits = s.settings.body_wait().is_some_and(|wait| front.arrived.elapsed() < wait);
        let held: usize = s.ready.iter().map(|snapshot| snapshot.buffer.size()).sum();
        if waits && held <= MAX_READY && !self.has_bodies(&front.frame, s.ready.len()) {
            return None;
        }
        s.ready.pop_front()
    }

    fn has_bodies(&self, frame: &FrameId, waiting: usize) -> bool {
        let here = || self.bodies.lock().unwrap().has(frame, waiting);
        if here() {
            return true;
        }
        // Said before it is looked at again: a packet that comes in between sees it, and nudges. Others do not: an
        // announcement that comes while the wait is interrupted for nothing is fresh no more.
        self.awaits_bodies.store(true, Ordering::Release);
        here()
    }

    /// Reads the announced frame, and makes ready what can go out now, which may be the one before.
    fn arrived(&self, s: &mut Streaming, arrival: &Arrival) -> Result<(), gst::FlowError> {
        let now = self.obj().current_running_time();
        let running = now.map(|now| now.saturating_sub(elapsed(arrival.at)));
        if arrival.reset {
            self.count_fell(s, arrival.frame);
        }
        let stamp = arrival.frame.timestamp_ns;
        let delay = is_same_clock(stamp, arrival.unix_ns).then(|| arrival.unix_ns.saturating_sub(stamp));
        s.rate.observe(arrival.frame.count, running.map_or(0, gst::ClockTime::nseconds), delay);
        self.update_latency(s);

        let held = s.held.take().filter(|_| arrival.settled == Some(Verdict::Accept));
        let pts = running.map(|running| match s.settings.timestamp_mode {
            TimestampMode::Arrival => running,
            TimestampMode::Capture => {
                let capture = s.capture_clock.capture_ns(running.nseconds(), arrival.unix_ns, stamp);
                gst::ClockTime::from_nseconds(capture)
            }
        });
        s.ready.extend(held);
        // What is ready goes out first, with the caps that it was copied for.
        let may_renegotiate = s.ready.is_empty();
        match self.snapshot(s, arrival, pts, may_renegotiate)? {
            Some((snapshot, Verdict::Accept)) => s.ready.push_back(snapshot),
            Some((snapshot, _)) => s.held = Some(snapshot),
            None => (),
        }
        Ok(())
    }

    /// The stream starts anew, unless an event has told of it already, or we sought.
    fn count_fell(&self, s: &mut Streaming, frame: FrameId) {
        let own = self.seeking.is_under_way();
        s.fell = true;
        s.reset |= self.tell(|telling| telling.count_fell(frame, own, Instant::now()));
        self.bodies.lock().unwrap().forget(Instant::now());
        if !own {
            self.ask_for_info();
        }
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
        if reopened {
            self.doubt_source();
        }
        let reset = std::mem::take(&mut s.reset) | self.telling.lock().unwrap().take_reset();
        let fell = std::mem::take(&mut s.fell);
        let snapshot = Snapshot {
            buffer,
            frame: arrival.frame,
            arrived: arrival.at,
            pts,
            key: matches!(output, Output::Encoded { .. })
                .then(|| metadata.encoded.is_some_and(|info| info.is_key_frame())),
            discont: reset || fell || reopened,
            reset,
            bare: Vec::new(),
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
                match s.ready.back_mut() {
                    Some(before) => before.bare.push(frame.count),
                    None => s.gate.frame(frame.count),
                }
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
}

fn copy_access_unit(frame: &mut cvmmap_ipc::Frame<'_>, plane: &Plane) -> (gst::Buffer, Verdict) {
    let mut unit = vec![0; plane.size as usize];
    let verdict = frame.copy_plane(plane, &mut unit);
    (gst::Buffer::from_mut_slice(unit), verdict)
}

fn elapsed(since: Instant) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(since.elapsed().as_nanos() as u64)
}
