// SPDX-License-Identifier: MPL-2.0

//! A recording's access units as they are, into MP4: nothing is decoded, and hardly anything looked at.

use std::fs::File;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use svo2::{Kind, Reader, Recording, nal, sample};

use super::convert::{Control, Written};
use super::options::Frames;
use crate::exit::{Exit, Failure, configuration};
use crate::mp4::{Layout, Muxer};
use crate::parse::Parser;
use crate::run::plan::Codec;

/// The first slice of an access unit begins within this, mostly.
const LOOK: usize = 4096;
/// Frames from one look at the flag, and one word about progress, to the next.
const STEP: u64 = 64;
/// Bytes after which the disk is asked to write.
const WRITEBACK: usize = 32 << 20;
/// So many damaged places are told one by one.
const TOLD: usize = 10;

fn codec(recording: &Recording) -> Codec {
    match recording.codec() {
        svo2::Codec::H264 => Codec::H264,
        svo2::Codec::H265 => Codec::H265,
    }
}

/// Whether the frames can be copied at all.
///
/// # Errors
/// A [`Failure`] that names the flag and the rule.
pub(super) fn check(
    recording: &Arc<Recording>,
    wanted: Option<Codec>,
    frames: Frames,
) -> Result<(), Failure> {
    let found = codec(recording);
    if let Some(wanted) = wanted
        && wanted != found
    {
        let (wanted, found) = (wanted.name(), found.name());
        return Err(configuration(format!(
            "--codec {wanted}: the recording is {found}, and --copy changes nothing; leave one out"
        )));
    }
    let Some(start) = frames.start else { return Ok(()) };
    let mut reader = Reader::new(recording.clone());
    if matches!(reader.kind(start), Ok(Kind::Entry { .. })) {
        return Ok(());
    }
    let is_key = |reader: &mut Reader, at: usize| matches!(reader.kind(at), Ok(Kind::Entry { .. }));
    let before = (0..start).rev().find(|&at| is_key(&mut reader, at));
    let after = reader.entry_from(start + 1);
    let around = match (before, after) {
        (Some(before), Some(after)) => format!("{before} before it and {after} behind it are"),
        (Some(one), None) => format!("{one} before it is the last"),
        (None, Some(one)) => format!("{one} behind it is the first"),
        (None, None) => "the recording has none".into(),
    };
    Err(configuration(format!("--start-frame {start}: with --copy it has to be a key frame; {around}")))
}

/// Copies the frames into a file.
///
/// # Errors
/// What the recording has not, or what the disk says.
pub(super) fn copy(
    recording: &Arc<Recording>,
    asked: RangeInclusive<usize>,
    start_is_given: bool,
    file: &File,
    control: &mut Control,
) -> Result<Written, Failure> {
    let mut reader = Reader::new(recording.clone());
    let (start, end) = (*asked.start(), *asked.end() + 1);
    let total = (end - start) as u64;
    let first = if start_is_given { Some(start) } else { reader.entry_from(start) };
    let first = first.filter(|&first| first < end).ok_or_else(|| {
        configuration(format!("--input: none of the frames {start} to {} is a key frame", end - 1))
    })?;
    if first > start {
        control.notice(format!(
            "warning: frames {start} to {} are left out: the first key frame is {first}",
            first - 1
        ));
    }
    let caps = caps(recording, &mut reader, first)?;
    let file = file.try_clone().map_err(configuration)?;
    let mut writeback = Writeback::start(&file).map_err(configuration)?;
    let muxer = Muxer::new(file, Layout::Whole).map_err(|why| Failure::new(Exit::Pipeline, why))?;
    muxer.begin(&caps);
    let mut copier = Copier {
        recording,
        reader,
        pool: Pool::default(),
        units: Vec::new(),
        spare: Vec::new(),
        begin: recording.running_ns(first),
    };
    let (mut frame, mut frames, mut damaged) = (first, 0u64, 0usize);
    while frame < end {
        if frames.is_multiple_of(STEP) {
            control.check()?;
            control.progress((frame - start) as u64, total);
        }
        match copier.sample(frame) {
            Ok(sample) => {
                writeback.grown(sample.size());
                muxer.push(sample).map_err(configuration)?;
                frames += 1;
                frame += 1;
            }
            Err(damage) => {
                let next = copier.reader.entry_from(frame + 1).unwrap_or(end).min(end);
                damaged += 1;
                if damaged <= TOLD {
                    let until = next - 1;
                    control.notice(format!("warning: frames {frame} to {until} are left out: {damage}"));
                }
                frame = next;
            }
        }
    }
    if damaged > TOLD {
        control.notice(format!("warning: {} more places are damaged", damaged - TOLD));
    }
    drop(muxer.finish().map_err(configuration)?);
    writeback.finish().map_err(configuration)?;
    control.progress(total, total);
    Ok(Written { codec: recording.codec().name(), encoder: None, size: recording.size(), frames, damaged })
}

/// What the access units are to a muxer: by the parameter sets of the first, or of the first before it that has any.
fn caps(recording: &Recording, reader: &mut Reader, first: usize) -> Result<gst::Caps, Failure> {
    let failed = |why: String| configuration(format!("--input: {why}"));
    let with_sets = |unit: &Vec<u8>| nal::detect(unit).is_some();
    let unit =
        std::iter::once(first).chain(0..first).find_map(|frame| reader.unit(frame).ok().filter(with_sets));
    let unit =
        unit.ok_or_else(|| failed("no parameter sets were found before the first key frame".into()))?;
    let codec = codec(recording);
    let formats = match codec {
        Codec::H264 => "avc",
        Codec::H265 => "hvc1",
    };
    let mut parser = Parser::new(codec, formats).map_err(|why| Failure::new(Exit::Pipeline, why))?;
    let annex_b = format!("video/x-{},stream-format=byte-stream,alignment=au", codec.name());
    let mut buffer = gst::Buffer::from_slice(unit);
    buffer.get_mut().expect("nobody else has it").set_pts(gst::ClockTime::ZERO);
    parser.convert(&annex_b.parse().expect("literal caps"), buffer).map_err(failed)?;
    let mut caps = parser.caps().ok_or_else(|| failed("the parser makes nothing of its key frame".into()))?;
    // The times are those of the frames, and not multiples of a rate.
    caps.make_mut().structure_mut(0).expect("fixed caps").remove_field("framerate");
    Ok(caps)
}

struct Copier<'a> {
    recording: &'a Recording,
    reader: Reader,
    pool: Pool,
    units: Vec<Range<usize>>,
    spare: Vec<u8>,
    /// Running time of the first frame: the file begins at 0.
    begin: u64,
}

impl Copier<'_> {
    fn sample(&mut self, frame: usize) -> Result<gst::Buffer, String> {
        let located = self.reader.locate(frame).map_err(|damage| damage.to_string())?;
        let mut unit = self.pool.take(located.len());
        located.read(&mut unit.bytes).map_err(|damage| damage.to_string())?;
        let kind = self.kind(frame, &unit.bytes)?;
        sample::from_annex_b(&mut unit.bytes, &mut self.units, &mut self.spare)
            .map_err(|why| format!("frame {frame}: {why}"))?;
        let mut buffer = gst::Buffer::from_slice(unit);
        let writable = buffer.get_mut().expect("nobody else has it");
        let time = gst::ClockTime::from_nseconds(self.recording.running_ns(frame) - self.begin);
        writable.set_pts(time);
        writable.set_dts(time);
        writable.set_duration(gst::ClockTime::from_nseconds(self.recording.duration_ns(frame)));
        if kind == Kind::Delta {
            writable.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        Ok(buffer)
    }

    fn kind(&self, frame: usize, unit: &[u8]) -> Result<Kind, String> {
        // To its end, it would be searched for start codes twice.
        let begins = &unit[..unit.len().min(LOOK)];
        let kind = self.recording.classify(frame, begins).or_else(|_| self.recording.classify(frame, unit));
        kind.map_err(|damage| damage.to_string())
    }
}

/// Has the disk write what is there while more is copied, so that little is left to wait for in the end.
struct Writeback {
    ask: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
    /// Since it was asked last.
    bytes: usize,
}

impl Writeback {
    fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (ask, asked) = sync_channel(1);
        let work = move || asked.iter().try_for_each(|()| file.sync_data());
        let thread = std::thread::Builder::new().name("writeback".into()).spawn(work)?;
        Ok(Self { ask, thread, bytes: 0 })
    }

    fn grown(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= WRITEBACK {
            // It is at work; or it ended with an error, which is told in the end.
            let _ = self.ask.try_send(());
            self.bytes = 0;
        }
    }

    /// # Errors
    /// What the disk said, which it says only once.
    fn finish(self) -> io::Result<()> {
        drop(self.ask);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of ours panicked")))
    }
}

/// Memory of access units that were written: pages of new ones cost more than what is put into them.
#[derive(Default, Clone)]
struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self, len: usize) -> Pooled {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = free.pop().unwrap_or_default();
        drop(free);
        bytes.resize(len, 0);
        Pooled { bytes, pool: self.clone() }
    }
}

struct Pooled {
    bytes: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
