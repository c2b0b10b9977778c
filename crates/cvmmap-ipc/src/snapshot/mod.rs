// SPDX-License-Identifier: MPL-2.0

//! The reader: waits for announcements, follows the segment through restarts and changes of size, and copies frames
//! that pass the coherence rules.

mod mapping;
mod sigbus;

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::Mode;

pub(crate) use self::mapping::Mapping;
use crate::clock::{is_same_clock, unix_now_ns};
use crate::coherence::{Cause, Coherence, CopyEvidence, Evidence, Verdict, judge};
use crate::metadata::{METADATA_SIZE, Metadata, MetadataError, Plane};
use crate::pace::Pace;
use crate::subscriber::{Subscriber, Wait, Waker};
use crate::sync::FrameId;
use crate::target::{Target, UnreachableFolder, check_folder};

/// Metadata that differs between two reads is being written: 256 bytes take no longer than this many reads.
const METADATA_READS: usize = 8;

/// How much of a copied payload is looked at again: all of a small one; of a large one both edges and a line of
/// every step, at a place that moves from frame to frame. A sequential writer that was under way has passed the
/// front edge and, while the copy went on, many lines.
const LOOK_WHOLE: usize = 32 << 10;
const LOOK_EDGE: usize = 4 << 10;
const LOOK_STEP: usize = 16 << 10;
const LOOK_LINE: usize = 64;

/// While the pace is unknown (the first frame, and the first after a restart), `verify` looks at a copy once more after
/// this time: a producer without pauses has published the next frame by then.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// Which producer to read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderConfig {
    /// Name of the POSIX shared memory segment, without the leading slash.
    pub shm_name: String,
    /// ZeroMQ endpoint of the sync messages.
    pub endpoint: String,
    /// Label that sync messages must carry; `None` takes any.
    pub label: Option<String>,
    /// Evidence that a frame needs.
    pub coherence: Coherence,
}

impl ReaderConfig {
    /// Reads `target` under its derived names.
    pub fn new(target: &Target, coherence: Coherence) -> Self {
        Self {
            shm_name: target.shm_name(),
            endpoint: target.zmq_endpoint(),
            label: Some(target.instance().into()),
            coherence,
        }
    }
}

/// Why a reader cannot work at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ReaderError {
    #[error(transparent)]
    Unreachable(#[from] UnreachableFolder),
    #[error("sync endpoint '{endpoint}' cannot be connected: {source}")]
    Connect { endpoint: String, source: zmq::Error },
    #[error("waiting at sync endpoint '{endpoint}' failed: {source}")]
    Wait { endpoint: String, source: zmq::Error },
}

/// Why an announced frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("segment '{0}' does not exist")]
    NoSegment(String),
    #[error("segment '{name}' cannot be opened: {error}")]
    Unreadable { name: String, error: String },
    #[error("segment '{name}' has {len} bytes, {METADATA_SIZE} are needed for the metadata alone")]
    TooSmall { name: String, len: u64 },
    #[error("header of '{name}' breaks a rule: {error}")]
    Invalid { name: String, error: MetadataError },
    #[error("frame is not coherent: {0:?}")]
    Incoherent(Cause),
}

/// What a reader has seen since it was opened. Every announced frame is accepted or counted under one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames announced by valid sync messages.
    pub announced: u64,
    /// Frames accepted.
    pub accepted: u64,
    /// Bytes of accepted planes.
    pub bytes: u64,
    /// Frames never announced to us: gaps in the frame count.
    pub missed: u64,
    /// Not copied: the sync was queued, or the segment already named another frame.
    pub late: u64,
    /// Copied and refused: torn, or not shown to be whole.
    pub torn: u64,
    /// Of those, found by metadata that changed during the copy.
    pub torn_metadata: u64,
    /// Of those, found by payload that changed after it was copied.
    pub torn_payload: u64,
    /// Of those, ended when the next frame was due (`verify`), or unproven by its stamp (`next-sync`).
    pub torn_unproven: u64,
    /// The segment was missing, too small, or lost pages during the copy.
    pub lost: u64,
    /// The header broke a rule of the contract.
    pub invalid: u64,
    /// Reads of metadata begun again because it was being written.
    pub retried: u64,
    /// Times that another segment was found under the name.
    pub reopens: u64,
    /// Times that the frame count went backwards.
    pub resets: u64,
    /// Messages that were no sync messages of this producer.
    pub ignored_messages: u64,
}

impl Counters {
    /// Frames that were published and not accepted.
    pub fn dropped(&self) -> u64 {
        self.missed + self.late + self.torn + self.lost + self.invalid
    }
}

/// The newest announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The frame that it announces.
    pub frame: FrameId,
    /// When the reader woke up for it.
    pub at: Instant,
    /// The same moment as Unix time in ns.
    pub unix_ns: u64,
    /// It arrived, alone, while the reader was waiting.
    pub fresh: bool,
    /// The frame count went backwards since the last arrival.
    pub reset: bool,
    /// Under `next-sync`: what this announcement says of the copy held since the last one.
    pub settled: Option<Verdict>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A frame was announced.
    Arrival(Arrival),
    /// Nothing was announced in time.
    TimedOut,
    /// [`Waker::wake`] was called.
    Woken,
}

struct Segment {
    file: File,
    inode: (u64, u64),
    /// `None` while the file is smaller than the metadata.
    mapping: Option<Mapping>,
    len: u64,
}

fn unreadable(name: &str, error: io::Error) -> Refusal {
    Refusal::Unreadable { name: name.into(), error: error.to_string() }
}

fn open_segment(name: &str) -> Result<File, Refusal> {
    match rustix::shm::open(name, rustix::shm::OFlags::RDONLY, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(rustix::io::Errno::NOENT) => Err(Refusal::NoSegment(name.into())),
        Err(error) => Err(unreadable(name, error.into())),
    }
}

/// What a segment looks like at this moment, without a sync message to agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Size in bytes, metadata included.
    pub len: u64,
    /// Inode: another one under the same name is another run of the producer.
    pub inode: u64,
    /// The header, or the rule that it breaks (it may have been caught mid-write).
    pub header: Result<Metadata, MetadataError>,
}

/// Looks at a segment once.
///
/// # Errors
/// [`Refusal`] where there is none, or it is too small for a header.
pub fn peek_segment(name: &str) -> Result<SegmentInfo, Refusal> {
    use std::os::unix::fs::{FileExt, MetadataExt};

    let file = open_segment(name)?;
    let stat = file.metadata().map_err(|error| unreadable(name, error))?;
    let mut bytes = [0; METADATA_SIZE];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Refusal::TooSmall { name: name.into(), len: stat.len() });
        }
        Err(error) => return Err(unreadable(name, error)),
    }
    let header = Metadata::parse(&bytes, stat.len().saturating_sub(METADATA_SIZE as u64));
    Ok(SegmentInfo { len: stat.len(), inode: stat.ino(), header })
}

/// Reads one producer. Not tied to a thread; used by one at a time.
pub struct Reader {
    config: ReaderConfig,
    subscriber: Subscriber,
    segment: Option<Segment>,
    /// The last segment's, kept while there is none, so that its successor is known as another one.
    last_inode: Option<(u64, u64)>,
    pace: Pace,
    counters: Counters,
    last: Option<FrameId>,
    /// The count went backwards and no arrival has told so yet.
    reset: bool,
    batch: Vec<FrameId>,
    /// The copy that waits for its proof, with the bytes copied.
    pending: Option<(Evidence, u64)>,
}

impl Reader {
    /// Connects to the sync endpoint. The producer need not be there yet.
    ///
    /// # Errors
    /// [`ReaderError::Unreachable`] where the socket's folder does not exist, [`ReaderError::Connect`] where ZeroMQ
    /// refuses the endpoint.
    pub fn open(config: ReaderConfig) -> Result<Self, ReaderError> {
        let endpoint = config.endpoint.clone();
        check_folder(&endpoint)?;
        let subscriber = Subscriber::connect(&endpoint, config.label.clone())
            .map_err(|source| ReaderError::Connect { endpoint, source })?;
        Ok(Self {
            config,
            subscriber,
            segment: None,
            last_inode: None,
            pace: Pace::default(),
            counters: Counters::default(),
            last: None,
            reset: false,
            batch: Vec::new(),
            pending: None,
        })
    }

    /// Ends waits from other threads.
    pub fn waker(&self) -> Waker {
        self.subscriber.waker()
    }

    /// What the reader was opened with.
    pub fn config(&self) -> &ReaderConfig {
        &self.config
    }

    /// What was seen so far.
    pub fn counters(&self) -> Counters {
        Counters { ignored_messages: self.subscriber.ignored, ..self.counters }
    }

    /// Whether a segment exists under the name now.
    pub fn segment_exists(&self) -> bool {
        open_segment(&self.config.shm_name).is_ok()
    }

    /// Waits for the newest announcement, `None` = for ever.
    ///
    /// Older announcements found on the way count as late. Under `verify` so do all that were queued before the wait
    /// began: the next frame may already be under way.
    ///
    /// # Errors
    /// [`ReaderError::Wait`] where the socket fails.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Event, ReaderError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        self.try_wait(deadline)
            .map_err(|source| ReaderError::Wait { endpoint: self.config.endpoint.clone(), source })
    }

    fn try_wait(&mut self, deadline: Option<Instant>) -> Result<Event, zmq::Error> {
        let mut settled = None;
        let mut waited = false;
        loop {
            // Looked at in each round: where frames come faster than they are read, nothing is ever waited for.
            if self.waker().is_awake() {
                return Ok(Event::Woken);
            }
            self.batch.clear();
            self.subscriber.drain(&mut self.batch)?;
            let (at, unix_ns) = (Instant::now(), unix_now_ns());
            let fresh = waited && self.batch.len() == 1;
            self.take_in(fresh.then_some(unix_ns));
            if let Some(first) = self.batch.first() {
                settled = settled.or(self.settle(*first));
            }
            if let Some(&frame) = self.batch.last() {
                if fresh || self.config.coherence != Coherence::Verify {
                    self.counters.late += self.batch.len() as u64 - 1;
                    let reset = std::mem::take(&mut self.reset);
                    return Ok(Event::Arrival(Arrival { frame, at, unix_ns, fresh, reset, settled }));
                }
                self.counters.late += self.batch.len() as u64;
            }
            // A flood of garbage is no reason to miss the deadline.
            if waited && deadline.is_some_and(|deadline| at >= deadline) {
                return Ok(Event::TimedOut);
            }
            match self.subscriber.wait(deadline)? {
                Wait::Readable => waited = true,
                Wait::TimedOut => return Ok(Event::TimedOut),
                Wait::Woken => return Ok(Event::Woken),
            }
        }
    }

    /// Counts the batch's frames, learns their pace, and notes whether the count went backwards.
    fn take_in(&mut self, arrival: Option<u64>) {
        for &frame in &self.batch {
            self.counters.announced += 1;
            if let Some(last) = self.last {
                if frame.count < last.count {
                    self.counters.resets += 1;
                    self.reset = true;
                } else {
                    self.counters.missed += u64::from((frame.count - last.count).saturating_sub(1));
                }
            }
            self.last = Some(frame);
            self.pace.observe(frame, arrival);
        }
    }

    /// Judges the copy that waits for its proof by the first announcement after it.
    fn settle(&mut self, next: FrameId) -> Option<Verdict> {
        let (evidence, bytes) = self.pending.take()?;
        let verdict = judge(self.config.coherence, &Evidence { next: Some(next), ..evidence });
        self.count(verdict, bytes);
        Some(verdict)
    }

    fn count(&mut self, verdict: Verdict, bytes: u64) {
        let counters = &mut self.counters;
        match verdict {
            Verdict::Copy | Verdict::AwaitNext => (),
            Verdict::Accept => {
                counters.accepted += 1;
                counters.bytes += bytes;
            }
            Verdict::Refuse(cause) => match cause {
                Cause::Late | Cause::Overtaken => counters.late += 1,
                Cause::PagesLost => counters.lost += 1,
                Cause::MetadataChanged
                | Cause::PayloadChanged
                | Cause::Overrun
                | Cause::Unproven
                | Cause::ForeignClock => {
                    counters.torn += 1;
                    *match cause {
                        Cause::MetadataChanged => &mut counters.torn_metadata,
                        Cause::PayloadChanged => &mut counters.torn_payload,
                        _ => &mut counters.torn_unproven,
                    } += 1;
                }
            },
        }
    }

    /// Looks at the announced frame's metadata, and opens the segment (again) where that is needed.
    ///
    /// # Errors
    /// [`Refusal`], already counted, where the frame cannot be read.
    pub fn begin(&mut self, arrival: &Arrival) -> Result<Frame<'_>, Refusal> {
        // What is still held was never settled, and now never will be.
        self.pending = None;
        match self.try_begin(arrival) {
            Ok((bytes, metadata, evidence)) => {
                Ok(Frame { reader: self, bytes, metadata, evidence, arrived_ns: arrival.unix_ns })
            }
            Err(refusal) => {
                match &refusal {
                    Refusal::Incoherent(cause) => self.count(Verdict::Refuse(*cause), 0),
                    // The header is fine; what it tells of is gone.
                    Refusal::Invalid { error: MetadataError::BeyondSegment { .. }, .. } => {
                        self.counters.lost += 1
                    }
                    Refusal::Invalid { .. } => self.counters.invalid += 1,
                    _ => self.counters.lost += 1,
                }
                Err(refusal)
            }
        }
    }

    fn try_begin(&mut self, arrival: &Arrival) -> Result<([u8; METADATA_SIZE], Metadata, Evidence), Refusal> {
        self.follow_segment()?;
        let name = || self.config.shm_name.clone();
        let segment = self.segment.as_ref().expect("follow_segment leaves one");
        // None only where an unlinked segment had no metadata either.
        let Some(mapping) = &segment.mapping else { return Err(Refusal::NoSegment(name())) };
        let mut bytes = mapping.read_metadata();
        for _ in 1..METADATA_READS {
            let again = mapping.read_metadata();
            if std::mem::replace(&mut bytes, again) == again {
                break;
            }
            self.counters.retried += 1;
        }
        let evidence = Evidence {
            announced: arrival.frame,
            fresh: arrival.fresh,
            same_clock: is_same_clock(arrival.frame.timestamp_ns, arrival.unix_ns),
            before: Metadata::peek_frame(&bytes),
            copy: None,
            next: None,
        };
        let payload = mapping.len() as u64 - METADATA_SIZE as u64;
        let parsed = Metadata::parse(&bytes, payload);
        // A header of another frame is late, whatever else is wrong with it; no header at all is invalid.
        if !matches!(parsed, Err(MetadataError::Magic(_) | MetadataError::Version(_)))
            && let Verdict::Refuse(cause) = judge(self.config.coherence, &evidence)
        {
            return Err(Refusal::Incoherent(cause));
        }
        match parsed {
            Ok(metadata) => Ok((bytes, metadata, evidence)),
            Err(error) => Err(Refusal::Invalid { name: name(), error }),
        }
    }

    /// Opens the segment under the name, and follows it to a new inode or a new size.
    fn follow_segment(&mut self) -> Result<(), Refusal> {
        if let Some(segment) = &mut self.segment {
            match rustix::fs::fstat(&segment.file) {
                Ok(stat) if stat.st_nlink > 0 => {
                    let unchanged = stat.st_size as u64 == segment.len
                        && segment.mapping.as_ref().is_some_and(|mapping| !mapping.lost());
                    return if unchanged {
                        Ok(())
                    } else {
                        segment.map(stat.st_size as u64, &self.config.shm_name)
                    };
                }
                _ => (),
            }
        }
        let name = &self.config.shm_name;
        let file = match open_segment(name) {
            Ok(file) => file,
            // A producer unlinks when it exits; its last frame is still there in what we have mapped.
            Err(Refusal::NoSegment(_)) if self.segment.is_some() => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| unreadable(name, error.into()))?;
        let inode = (stat.st_dev, stat.st_ino);
        if self.last_inode.replace(inode).is_some_and(|last| last != inode) {
            self.counters.reopens += 1;
            // Another run of the producer, at another pace perhaps.
            self.pace = Pace::default();
        }
        let mut segment = Segment { file, inode, mapping: None, len: 0 };
        segment.map(stat.st_size as u64, name)?;
        self.segment = Some(segment);
        Ok(())
    }

    /// Device and inode of the segment that is open, `None` before the first frame.
    pub fn segment_inode(&self) -> Option<(u64, u64)> {
        self.segment.as_ref().map(|segment| segment.inode)
    }
}

impl Segment {
    fn map(&mut self, len: u64, name: &str) -> Result<(), Refusal> {
        self.mapping = None;
        self.len = len;
        if len < METADATA_SIZE as u64 {
            return Err(Refusal::TooSmall { name: name.into(), len });
        }
        let mapping = usize::try_from(len)
            .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
            .and_then(|len| Mapping::read_only(&self.file, len));
        let unreadable =
            |error: io::Error| Refusal::Unreadable { name: name.into(), error: error.to_string() };
        self.mapping = Some(mapping.map_err(unreadable)?);
        Ok(())
    }
}

/// Rows of the payload that are to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First byte, counted from the start of the payload.
    pub offset: usize,
    /// Bytes from one row to the next in the segment.
    pub stride: usize,
    /// Bytes of each row that are wanted.
    pub row_bytes: usize,
    /// Number of rows.
    pub rows: usize,
}

impl Region {
    /// All bytes of a plane, padding included.
    pub fn whole(plane: &Plane) -> Self {
        let size = plane.size as usize;
        Self { offset: plane.offset as usize, stride: size, row_bytes: size, rows: 1 }
    }

    /// The pixels of a plane, row by row.
    pub fn pixels(plane: &Plane) -> Self {
        Self {
            offset: plane.offset as usize,
            stride: plane.stride as usize,
            row_bytes: plane.row_bytes(),
            rows: plane.height as usize,
        }
    }

    /// The same bytes as one row, where rows lie alike on both sides (padding between them is then copied too).
    fn collapsed(self, to_stride: usize) -> Self {
        if self.rows > 1 && self.stride == to_stride {
            let bytes = self.stride * (self.rows - 1) + self.row_bytes;
            return Self { stride: bytes, row_bytes: bytes, rows: 1, ..self };
        }
        self
    }

    /// Bytes from the first to the last that is wanted.
    fn span(&self) -> usize {
        self.rows.checked_sub(1).map_or(0, |rows| rows * self.stride + self.row_bytes)
    }
}

/// An announced frame whose metadata agrees with its sync message: ready to be copied.
pub struct Frame<'a> {
    reader: &'a mut Reader,
    bytes: [u8; METADATA_SIZE],
    metadata: Metadata,
    evidence: Evidence,
    arrived_ns: u64,
}

impl Frame<'_> {
    /// The frame's metadata; all planes lie inside the payload.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Copies all bytes of a plane to the front of `to`; see [`Frame::copy`].
    pub fn copy_plane(&mut self, plane: &Plane, to: &mut [u8]) -> Verdict {
        self.copy(Region::whole(plane), to, plane.size as usize)
    }

    /// Copies rows of the payload to rows of `to` that lie `to_stride` bytes apart, and judges the copy.
    ///
    /// After [`Verdict::Accept`] `to` holds the frame. After [`Verdict::AwaitNext`] it is to be kept until the next
    /// [`Arrival::settled`]. After [`Verdict::Refuse`] (already counted) its contents mean nothing.
    ///
    /// # Panics
    /// Where the region does not lie inside the frame's payload, or `to` is too short for it.
    pub fn copy(&mut self, region: Region, to: &mut [u8], to_stride: usize) -> Verdict {
        let region = region.collapsed(to_stride);
        assert!(
            region.offset + region.span() <= self.metadata.payload_size as usize,
            "{region:?} is not inside a payload of {} bytes",
            self.metadata.payload_size
        );
        let to_span = Region { stride: to_stride, ..region }.span();
        assert!(to_span <= to.len(), "{region:?} needs {to_span} bytes, there are {}", to.len());

        let reader = &mut *self.reader;
        let segment = reader.segment.as_ref().expect("begin() opened it");
        let mapping = segment.mapping.as_ref().expect("begin() mapped it");
        for row in 0..region.rows {
            let at = row * to_stride;
            mapping.read(
                METADATA_SIZE + region.offset + row * region.stride,
                &mut to[at..at + region.row_bytes],
            );
        }
        let ended_ns = unix_now_ns();
        let verify = reader.config.coherence == Coherence::Verify;
        let look = || {
            let payload = !verify || unchanged(mapping, &region, to, to_stride, self.metadata.frame.count);
            (payload, mapping.read_metadata() == self.bytes)
        };
        let (mut payload_unchanged, mut metadata_unchanged) = look();
        if verify && payload_unchanged && metadata_unchanged && !reader.pace.is_known() {
            std::thread::sleep(FIRST_LOOK);
            (payload_unchanged, metadata_unchanged) = look();
        }
        // A file cut inside a page reads as zeros there, without a fault.
        let needed = (METADATA_SIZE + region.offset + region.span()) as u64;
        let intact = !mapping.lost()
            && rustix::fs::fstat(&segment.file).is_ok_and(|stat| stat.st_size as u64 >= needed);
        let due_ns = reader.pace.due(self.evidence.announced.timestamp_ns, self.arrived_ns);
        reader.pace.copied(payload_unchanged && metadata_unchanged);
        let restless = reader.pace.is_restless();
        let copy = CopyEvidence { metadata_unchanged, payload_unchanged, intact, ended_ns, due_ns, restless };
        self.evidence.copy = Some(copy);

        let verdict = judge(reader.config.coherence, &self.evidence);
        let bytes = (region.row_bytes * region.rows) as u64;
        if verdict == Verdict::AwaitNext {
            reader.pending = Some((self.evidence, bytes));
        }
        reader.count(verdict, bytes);
        verdict
    }
}

/// Whether the payload still is what was copied, wholly or at samples.
fn unchanged(mapping: &Mapping, region: &Region, copied: &[u8], stride: usize, count: u32) -> bool {
    let same = |row: usize, column: usize, len: usize| {
        let at = row * stride + column;
        mapping.matches(METADATA_SIZE + region.offset + row * region.stride + column, &copied[at..at + len])
    };
    let total = region.row_bytes * region.rows;
    if total <= LOOK_WHOLE {
        return (0..region.rows).all(|row| same(row, 0, region.row_bytes));
    }
    // Positions count wanted bytes only; a sample ends with its row at the latest.
    let sample = |position: usize, len: usize| {
        let (row, column) = (position / region.row_bytes, position % region.row_bytes);
        same(row, column, len.min(region.row_bytes - column))
    };
    let phase = count as usize * LOOK_LINE % LOOK_STEP;
    sample(0, LOOK_EDGE)
        && (phase..total).step_by(LOOK_STEP).all(|position| sample(position, LOOK_LINE))
        && sample(total - LOOK_EDGE.min(region.row_bytes), LOOK_EDGE)
}
