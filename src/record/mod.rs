// SPDX-License-Identifier: MPL-2.0

//! Recordings of the running encoder, on request: MP4 and MCAP, one each at the same time, without a second encoder.
//!
//! - [`request`]: what can be asked for, and its rules;
//! - [`status`]: what is told of it;
//! - [`place`]: where files lie, and under which names;
//! - [`queue`]: the bounded way from the encoder to a file;
//! - [`mp4`], [`mcap`]: the two kinds of [`file`]s; [`annexb`]: access units as MCAP has them;
//! - [`worker`]: the thread that writes one recording.
//!
//! Locks: a slot's lock is held for single reads and writes, never while a file is touched, anything is told, or another
//! lock is taken.

pub mod annexb;
pub mod file;
pub mod mcap;
pub mod mp4;
pub mod place;
pub mod queue;
pub mod request;
pub mod status;
pub mod worker;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cvmmap_control::BodyPacket;
use cvmmap_control::proto::RecordingStartRequest;
use cvmmap_ipc::clock::unix_now_ns;
use gst::prelude::*;

use self::file::Track;
use self::mcap::McapTrack;
use self::mp4::Mp4Track;
use self::place::Root;
use self::queue::{Bodies, Item, MAX_BYTES, Queue, Unit};
pub use self::request::{Format, Refusal};
pub use self::status::{Notice, Status};
use self::worker::{Opener, Recording, Worker};
use crate::run::plan::Encoding;
use crate::run::report::Event;
use crate::run::stamps::{Stamps, arrival_time};

/// A request to stop is answered within the second that clients wait for.
const STOPS_WITHIN: Duration = Duration::from_millis(800);
/// At the end of the session, what waits for a slow disk may take so long to be written; the rest of it is dropped.
const DRAINS_WITHIN: Duration = Duration::from_secs(5);
/// Then the end of the file may take so long.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What a recorder needs of its session.
pub struct Surroundings {
    /// What is encoded.
    pub encoding: Encoding,
    /// The label that body packets have, where that is known.
    pub label: Option<String>,
    /// Where files may lie.
    pub root: Root,
    /// When pictures were captured.
    pub stamps: Arc<Stamps>,
    /// Asks the encoder for a key frame.
    pub request_key_frame: Box<dyn Fn() + Send + Sync>,
    /// Where notices go.
    pub events: Sender<Event>,
}

/// Both formats' recordings. Takes what the encoder puts out, without ever waiting.
pub struct Recorder {
    around: Arc<Surroundings>,
    slots: [Arc<Slot>; 2],
    /// Recordings that take access units.
    active: Arc<AtomicUsize>,
    ended: AtomicBool,
    body_source: OnceLock<BodySource>,
    bodies_refused: AtomicU64,
}

/// Begins to hand packets to [`Recorder::bodies`], until what it returns is dropped.
type BodySource = Box<dyn Fn() -> Box<dyn Send> + Send + Sync>;

#[derive(Debug)]
struct Slot {
    format: Format,
    state: Mutex<State>,
    /// A file was made, or given up.
    made: Condvar,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Of the last recording.
    last: Status,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// The file of this name is being made; or not, if it was stopped meanwhile.
    Starting {
        path: String,
        stopped: bool,
    },
    Active(Arc<Recording>),
}

impl Slot {
    fn new(format: Format) -> Arc<Self> {
        let state = State { phase: Phase::Idle, last: Status::unused(format) };
        Arc::new(Self { format, state: Mutex::new(state), made: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn recording(&self) -> Option<Arc<Recording>> {
        match &self.lock().phase {
            Phase::Active(recording) => Some(recording.clone()),
            _ => None,
        }
    }

    /// A file that is still being made is given up; tells its name.
    fn give_up_start(&self) -> Option<String> {
        match &mut self.lock().phase {
            Phase::Starting { path, stopped } => {
                *stopped = true;
                Some(path.clone())
            }
            _ => None,
        }
    }

    /// There is no file, and is not to be.
    fn give_back(&self) {
        self.lock().phase = Phase::Idle;
        self.made.notify_all();
    }

    /// Waits until no file is being made; its name where that takes longer.
    fn wait_for_start(&self, deadline: Instant) -> Option<String> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let starting = |state: &mut State| matches!(state.phase, Phase::Starting { .. });
        let waited = self.made.wait_timeout_while(self.lock(), patience, starting);
        match &waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0.phase {
            Phase::Starting { path, .. } => Some(path.clone()),
            _ => None,
        }
    }

    /// Takes the slot for a file of this name.
    fn reserve(&self, path: &str) -> Result<(), Refusal> {
        let mut state = self.lock();
        let recording = match &state.phase {
            Phase::Idle => {
                state.phase = Phase::Starting { path: path.to_owned(), stopped: false };
                return Ok(());
            }
            Phase::Starting { path, .. } => return Err(Refusal::Busy(path.clone())),
            Phase::Active(recording) => recording.clone(),
        };
        drop(state);
        Err(Refusal::Busy(recording.progress().path))
    }
}

impl Recorder {
    /// A recorder that records nothing yet.
    pub fn new(around: Surroundings) -> Self {
        Self {
            around: Arc::new(around),
            slots: Format::ALL.map(Slot::new),
            active: Arc::default(),
            ended: AtomicBool::new(false),
            body_source: OnceLock::new(),
            bodies_refused: AtomicU64::new(0),
        }
    }

    /// `source` is called when an MCAP recording begins; what it returns is dropped when that ends. To be set once.
    pub fn set_body_source(&self, source: impl Fn() -> Box<dyn Send> + Send + Sync + 'static) {
        let _ = self.body_source.set(Box::new(source));
    }

    fn slot(&self, format: Format) -> &Arc<Slot> {
        &self.slots[Format::ALL.iter().position(|one| *one == format).expect("it is one of all")]
    }

    /// Begins a recording, with the next key frame.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing was written then.
    pub fn start(&self, format: Format, request: &RecordingStartRequest) -> Result<Status, Refusal> {
        let wanted = request::check(format, request)?;
        self.supported(format)?;
        let codec = self.around.encoding.codec;
        let options = wanted.mcap;
        let open: Opener = Box::new(move |file: File| {
            Ok(match format {
                Format::Mp4 => Box::new(Mp4Track::new(file)?) as Box<dyn Track>,
                Format::Mcap => Box::new(McapTrack::new(file, codec, &options)?),
            })
        });
        self.start_with(format, &wanted.path, MAX_BYTES, open)
    }

    /// What this session cannot record.
    fn supported(&self, format: Format) -> Result<(), Refusal> {
        let b_frames = self.around.encoding.b_frames;
        if format == Format::Mcap && b_frames > 0 {
            let rule = "pictures of MCAP files are in the order of showing";
            return Err(Refusal::Unsupported(format!("--b-frames is {b_frames}: {rule}, so it has to be 0")));
        }
        Ok(())
    }

    fn start_with(
        &self,
        format: Format,
        path: &str,
        max_bytes: usize,
        open: Opener,
    ) -> Result<Status, Refusal> {
        let slot = self.slot(format);
        slot.reserve(path)?;
        let started = self.begin(slot, path, max_bytes, open);
        if started.is_err() {
            slot.give_back();
        }
        started?;
        Ok(self.status(format))
    }

    fn begin(&self, slot: &Arc<Slot>, path: &str, max_bytes: usize, mut open: Opener) -> Result<(), Refusal> {
        let ending = || Refusal::Failed("the session is ending".into());
        if self.ended.load(Ordering::Acquire) {
            return Err(ending());
        }
        let place = self.around.root.place(path)?;
        let file = place::create(&place)?;
        let track = open(file).map_err(|reason| {
            place.discard();
            Refusal::Failed(reason)
        })?;
        let path = place.path();
        let recording = Arc::new(Recording::new(Queue::new(max_bytes), path.clone()));
        let worker = Worker::new(recording.clone(), place.clone(), track, open);
        {
            let mut state = slot.lock();
            // Whoever ends the session looks at the slots after it has said so.
            let ended = self.ended.load(Ordering::Acquire);
            if ended || matches!(state.phase, Phase::Starting { stopped: true, .. }) {
                drop(state);
                drop(worker);
                place.discard();
                let stopped = || Refusal::Failed("it was stopped before it began".into());
                return Err(if ended { ending() } else { stopped() });
            }
            state.phase = Phase::Active(recording);
            slot.made.notify_all();
        }
        self.active.fetch_add(1, Ordering::AcqRel);
        self.tell(slot.format, Notice::Started(path));
        self.spawn(slot, worker).inspect_err(|_| place.discard())
    }

    fn spawn(&self, slot: &Arc<Slot>, worker: Worker) -> Result<(), Refusal> {
        let bodies = self.body_source.get().filter(|_| slot.format == Format::Mcap).map(|source| source());
        let (around, slot, active) = (self.around.clone(), slot.clone(), self.active.clone());
        let name = format!("record-{}", slot.format);
        let work = move || {
            let recording = worker.recording().clone();
            let format = slot.format;
            let tell = |notice| drop(around.events.send(Event::Recording(format, notice)));
            // A slot that is never given back could not even be stopped.
            let end = catch_unwind(AssertUnwindSafe(|| worker.run(&around.request_key_frame, &tell)));
            let end = end.unwrap_or_else(|_| {
                recording.queue.abandon();
                Notice::Failed(recording.set_error("the writer panicked".into()))
            });
            drop(bodies);
            active.fetch_sub(1, Ordering::AcqRel);
            let last = Status::of(format, recording.queue.counts(), recording.progress_at_end());
            *slot.lock() = State { phase: Phase::Idle, last };
            tell(end);
            recording.set_over();
        };
        std::thread::Builder::new().name(name).spawn(work).map(drop).map_err(|error| {
            self.active.fetch_sub(1, Ordering::AcqRel);
            Refusal::Failed(format!("no thread to write with: {error}"))
        })
    }

    /// Ends a recording and waits until its file is whole.
    ///
    /// # Errors
    /// [`Refusal::NotRecording`]; [`Refusal::Late`] where the disk needs longer than a request may take: it ends all the
    /// same; [`Refusal::Failed`] where there is no file, or one that is not whole.
    pub fn stop(&self, format: Format) -> Result<Status, Refusal> {
        let slot = self.slot(format);
        if let Some(path) = slot.give_up_start() {
            return Err(Refusal::Late(format!("'{path}' is still being made; it is given up when it is")));
        }
        let recording = slot.recording().ok_or(Refusal::NotRecording)?;
        recording.queue.close();
        if !recording.wait(Instant::now() + STOPS_WITHIN) {
            let path = recording.progress().path;
            return Err(Refusal::Late(format!(
                "'{path}' is still being written; its status tells when it is whole"
            )));
        }
        // Not the slot's: the next recording may have begun.
        let status = self.filled_in(Status::of(format, recording.queue.counts(), recording.progress()));
        if status.error.is_empty() { Ok(status) } else { Err(Refusal::Failed(status.error)) }
    }

    /// How things are.
    pub fn status(&self, format: Format) -> Status {
        let slot = self.slot(format);
        let status = match slot.recording() {
            Some(recording) => Status::of(format, recording.queue.counts(), recording.progress()),
            None => slot.lock().last.clone(),
        };
        self.filled_in(status)
    }

    fn filled_in(&self, status: Status) -> Status {
        let can_record = self.supported(status.format).is_ok() && !self.ended.load(Ordering::Acquire);
        Status { can_record, ..status }
    }

    /// Formats that were recorded so far, or are.
    pub fn used(&self) -> Vec<Status> {
        Format::ALL.map(|format| self.status(format)).into_iter().filter(|s| !s.path.is_empty()).collect()
    }

    /// Takes an access unit that passes `pad`. Never waits.
    pub fn push(&self, pad: &gst::Pad, buffer: &gst::Buffer) {
        if self.active.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(unit) = self.unit(pad, buffer) {
            Format::ALL.iter().for_each(|format| self.offer(*format, Item::Video(unit.clone())));
        }
    }

    fn unit(&self, pad: &gst::Pad, buffer: &gst::Buffer) -> Option<Unit> {
        let event = pad.sticky_event::<gst::event::Segment>(0)?;
        let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
        let running = |time: Option<gst::ClockTime>| {
            segment.to_running_time_full(time).map(|time| match time {
                gst::Signed::Positive(time) => time.nseconds() as i64,
                gst::Signed::Negative(time) => -(time.nseconds() as i64),
            })
        };
        let pts = running(buffer.pts())?;
        let shown = u64::try_from(pts).unwrap_or_default();
        let time = || self.around.stamps.find(shown).or_else(|| arrival_time(pad, shown));
        Some(Unit {
            buffer: buffer.clone(),
            caps: pad.current_caps()?,
            pts,
            dts: running(buffer.dts()).unwrap_or(pts).min(pts),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            time_ns: time().unwrap_or_else(unix_now_ns),
        })
    }

    /// Takes a packet of the body tracker as it came, where MCAP is being recorded. Never waits.
    ///
    /// # Errors
    /// The rule that the packet breaks, or whose it is; it is counted.
    pub fn bodies(&self, packet: Bytes) -> Result<(), String> {
        let packet = self.checked(packet).inspect_err(|_| {
            self.bodies_refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let bodies = Bodies { time_ns: packet.header.time_ns(), packet: packet.bytes().clone() };
        self.offer(Format::Mcap, Item::Bodies(bodies));
        Ok(())
    }

    fn checked(&self, packet: Bytes) -> Result<BodyPacket, String> {
        let packet = BodyPacket::parse(packet).map_err(|error| error.to_string())?;
        // Keys are not unique: `cam.0` and `cam_0` share one.
        match (packet.header.label.as_str(), self.around.label.as_deref()) {
            ("", _) | (_, None) => Ok(packet),
            (label, Some(ours)) if label == ours => Ok(packet),
            (label, Some(ours)) => Err(format!("its label '{label}' is not '{ours}'")),
        }
    }

    /// Packets that were no body packets, or another producer's.
    pub fn bodies_refused(&self) -> u64 {
        self.bodies_refused.load(Ordering::Relaxed)
    }

    fn offer(&self, format: Format, item: Item) {
        if let Some(recording) = self.slot(format).recording()
            && recording.queue.offer(item)
        {
            self.tell(format, Notice::Behind);
        }
    }

    fn tell(&self, format: Format, notice: Notice) {
        let _ = self.around.events.send(Event::Recording(format, notice));
    }

    /// Takes nothing more. Does not wait.
    pub fn close(&self) {
        self.ended.store(true, Ordering::Release);
        self.slots.iter().filter_map(|slot| slot.recording()).for_each(|recording| recording.queue.close());
    }

    /// Takes nothing more, and waits until the files are whole: for a disk that is slow, but not for one that is stuck.
    pub fn finish(&self) {
        self.finish_within(DRAINS_WITHIN, ENDS_WITHIN);
    }

    fn finish_within(&self, drains: Duration, ends: Duration) {
        self.close();
        let drained = Instant::now() + drains;
        for slot in &self.slots {
            if let Some(path) = slot.wait_for_start(drained) {
                let why = format!("the disk does not take the beginning of '{path}'");
                self.tell(slot.format, Notice::Failed(why));
            }
        }
        let recordings: Vec<_> =
            self.slots.iter().filter_map(|slot| Some((slot.format, slot.recording()?))).collect();
        for (_, recording) in &recordings {
            if !recording.wait(drained) {
                recording.queue.abandon();
            }
        }
        let ended = Instant::now() + ends;
        for (format, recording) in &recordings {
            if !recording.wait(ended) {
                let path = recording.progress().path;
                self.tell(
                    *format,
                    Notice::Failed(format!("the disk does not take the end of '{path}.part'")),
                );
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::run::plan::Codec;

    /// A file on a disk that takes an item only when it is allowed to.
    struct Slow {
        allowed: Receiver<()>,
        file: File,
        begun: Arc<AtomicUsize>,
        taken: Arc<Mutex<Vec<i64>>>,
    }

    impl Track for Slow {
        fn fits(&self, _: &Item) -> bool {
            true
        }

        fn write(&mut self, item: Item) -> Result<(), String> {
            self.begun.fetch_add(1, Ordering::Relaxed);
            let _ = self.allowed.recv();
            let Item::Video(unit) = item else { return Ok(()) };
            self.taken.lock().unwrap().push(unit.pts);
            Ok(())
        }

        fn idle(&mut self) -> Result<(), String> {
            Ok(())
        }

        fn finish(self: Box<Self>) -> Result<File, String> {
            Ok(self.file)
        }
    }

    struct Rig {
        recorder: Recorder,
        allow: Sender<()>,
        begun: Arc<AtomicUsize>,
        taken: Arc<Mutex<Vec<i64>>>,
        events: Receiver<Event>,
        asked: Arc<AtomicUsize>,
        folder: tempfile::TempDir,
    }

    /// A recording of MP4 with room for a few units of 1000 bytes, on a slow disk.
    fn rig(room: usize) -> Rig {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (events, told) = channel();
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let encoding =
            Encoding { codec: Codec::H264, candidates: vec![], bitrate: 1, fps: 30, gop: 30, b_frames: 0 };
        let recorder = Recorder::new(Surroundings {
            encoding,
            label: None,
            root: Root::below(folder.path()).unwrap(),
            stamps: Arc::default(),
            request_key_frame: Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
            events,
        });
        let (allow, allowed) = channel();
        let (begun, taken) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<i64>>>::default());
        let (to_begun, to_taken, mut allowed) = (begun.clone(), taken.clone(), Some(allowed));
        let open: Opener = Box::new(move |file| {
            let allowed = allowed.take().expect("there is one file");
            Ok(Box::new(Slow { allowed, file, begun: to_begun.clone(), taken: to_taken.clone() }))
        });
        recorder.start_with(Format::Mp4, "a.mp4", room * 2024, open).unwrap();
        Rig { recorder, allow, begun, taken, events: told, asked, folder }
    }

    impl Rig {
        fn offer(&self, pts: i64, key: bool) {
            let buffer = gst::Buffer::from_mut_slice(vec![0; 1000]);
            let caps = gst::Caps::new_empty_simple("video/x-h264");
            let unit = Unit { buffer, caps, pts, dts: pts, key, time_ns: 0 };
            self.recorder.offer(Format::Mp4, Item::Video(unit));
        }

        fn allow(&self, count: usize) {
            (0..count).for_each(|_| self.allow.send(()).unwrap());
        }

        fn notices(&self) -> Vec<Notice> {
            let notice = |event| match event {
                Event::Recording(Format::Mp4, notice) => notice,
                other => panic!("{other:?}"),
            };
            self.events.try_iter().map(notice).collect()
        }
    }

    fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_disk_that_is_late_costs_pictures_up_to_a_key_frame_and_nothing_else() {
        let rig = rig(10);
        wait_for("a request for a key frame", || rig.asked.load(Ordering::Relaxed) == 1);
        // One is on its way to the disk, ten wait.
        rig.offer(0, true);
        wait_for("the first", || rig.begun.load(Ordering::Relaxed) == 1);
        (1..40).for_each(|n| rig.offer(n, n % 20 == 0));
        let status = rig.recorder.status(Format::Mp4);
        assert!(!status.counts.last_ok && status.counts.dropped >= 29, "{status:?}");
        assert_eq!(status.counts.ingested, 40);
        rig.allow(40 - status.counts.dropped as usize);
        let kept = 40 - status.counts.dropped;
        wait_for("what was kept", || rig.recorder.status(Format::Mp4).written == kept);
        wait_for("another request", || rig.asked.load(Ordering::Relaxed) >= 2);
        rig.offer(40, false);
        rig.offer(41, true);
        rig.offer(42, false);
        rig.allow(2);
        // On a loaded machine the end may take longer than a request may.
        if let Err(refusal) = rig.recorder.stop(Format::Mp4) {
            assert!(matches!(refusal, Refusal::Late(_)), "{refusal:?}");
        }
        wait_for("the end", || !rig.recorder.status(Format::Mp4).is_recording);
        let status = rig.recorder.status(Format::Mp4);
        assert_eq!((status.written, status.counts.last_ok), (kept + 2, true));
        let taken = rig.taken.lock().unwrap().clone();
        let expected: Vec<i64> = (0..kept as i64).chain([41, 42]).collect();
        assert_eq!(taken, expected);
        // It is told behind the status.
        let mut notices = Vec::new();
        wait_for("its end to be told", || {
            notices.extend(rig.notices());
            matches!(notices.last(), Some(Notice::Ended { .. }))
        });
        let [Notice::Started(_), Notice::Behind, Notice::Ended { frames, dropped, .. }] = notices.as_slice()
        else {
            panic!("{notices:?}")
        };
        assert_eq!((*frames, *dropped), (kept + 2, status.counts.dropped));
        assert!(rig.folder.path().join("a.mp4").exists());
    }

    #[test]
    fn a_disk_that_is_stuck_does_not_hold_up_the_end() {
        let rig = rig(10);
        (0..5).for_each(|n| rig.offer(n, n == 0));
        wait_for("the first to be under way", || rig.begun.load(Ordering::Relaxed) == 1);
        rig.recorder.finish_within(Duration::from_millis(20), Duration::from_millis(20));
        let notices = rig.notices();
        let [Notice::Started(_), Notice::Failed(why)] = notices.as_slice() else { panic!("{notices:?}") };
        assert!(why.contains("a.mp4.part'"), "{why}");
        let refusal = rig.recorder.stop(Format::Mp4).unwrap_err();
        assert!(matches!(refusal, Refusal::Late(_)), "{refusal:?}");
        // The disk comes back: what was under way is kept, what waited was given up.
        rig.allow(1);
        wait_for("the end", || !rig.recorder.status(Format::Mp4).is_recording);
        let status = rig.recorder.status(Format::Mp4);
        assert_eq!((status.written, status.counts.dropped), (1, 4));
        assert!(rig.folder.path().join("a.mp4").exists());
    }

    #[test]
    fn the_end_waits_for_a_start_that_is_under_way() {
        let rig = rig(10);
        let part = rig.folder.path().join("b.mcap.part");
        let (go, gone) = channel();
        let mut gone = Some(gone);
        let open: Opener = Box::new(move |_| {
            let _ = gone.take().expect("there is one file").recv();
            Err("it is too late".into())
        });
        std::thread::scope(|scope| {
            let start = scope.spawn(|| rig.recorder.start_with(Format::Mcap, "b.mcap", 1000, open));
            wait_for("the file to be made", || part.exists());
            let end = scope.spawn(|| {
                rig.recorder.finish_within(Duration::from_secs(30), Duration::from_millis(20));
                part.exists()
            });
            wait_for("the end to begin", || rig.recorder.ended.load(Ordering::Acquire));
            std::thread::sleep(Duration::from_millis(50));
            go.send(()).unwrap();
            assert!(!end.join().unwrap(), "a part was left behind");
            start.join().unwrap().unwrap_err();
        });
    }

    #[test]
    fn bodies_are_listened_to_while_mcap_is_recorded_alone() {
        struct Listening(Arc<AtomicUsize>);
        impl Drop for Listening {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let rig = rig(10);
        let listening = Arc::<AtomicUsize>::default();
        let source = listening.clone();
        rig.recorder.set_body_source(move || {
            source.fetch_add(1, Ordering::Relaxed);
            Box::new(Listening(source.clone()))
        });
        let request = RecordingStartRequest { output_path: "a.mcap".into(), svo: None, mcap: None };
        assert_eq!(listening.load(Ordering::Relaxed), 0, "MP4 has no bodies");
        for _ in 0..2 {
            rig.recorder.start(Format::Mcap, &request).unwrap();
            assert_eq!(listening.load(Ordering::Relaxed), 1);
            rig.recorder.stop(Format::Mcap).unwrap_err();
            assert_eq!(listening.load(Ordering::Relaxed), 0);
        }
    }
}
