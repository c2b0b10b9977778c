// SPDX-License-Identifier: MPL-2.0

//! A recording's access units as they are, into MP4: nothing is decoded, and hardly anything looked at.

use std::fs::File;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex, PoisonError};

use svo2::{Damage, Kind, Reader, Recording, nal, sample, words};

use super::convert::{Control, Damages, Written, size_changes};
use super::options::Frames;
use super::output::Wrong;
use crate::exit::{Exit, Failure, configuration};
use crate::mp4::{Layout, Muxer};
use crate::parse::Parser;
use crate::run::plan::Codec;

/// Frames from one look at the flag, and one word about progress, to the next.
const STEP: usize = 64;

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
    if is_entry(&mut reader, start) {
        return Ok(());
    }
    let before = (0..start).rev().find(|&at| is_entry(&mut reader, at));
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
) -> Result<Written, Wrong> {
    let mut reader = Reader::new(recording.clone());
    let (start, end) = (*asked.start(), *asked.end() + 1);
    let first = if start_is_given { Some(start) } else { entry_from(&mut reader, start..end, control)? };
    let first = first.ok_or_else(|| {
        configuration(format!("--input: no key frame is in {}", words::frames(start, end - 1)))
    })?;
    if first > start {
        control.notice(format!(
            "warning: {} left out: the first key frame is {first}",
            words::frames_are(start, first - 1)
        ));
    }
    let caps = caps(recording, &mut reader, first..end, control)?;
    let file = file.try_clone().map_err(Wrong::output)?;
    let muxer = Muxer::new(file, Layout::Whole).map_err(|why| Failure::new(Exit::Pipeline, why))?;
    muxer.begin(&caps);
    let copier = Copier {
        recording,
        reader,
        pool: Pool::default(),
        units: Vec::new(),
        spare: Vec::new(),
        begin: recording.running_ns(first),
    };
    let (frames, damaged) = copier.run(first..end, start, &muxer, control)?;
    let finished = muxer.finish(|| control.check().is_ok());
    control.check()?;
    drop(finished.map_err(Wrong::output)?);
    let total = (end - start) as u64;
    control.progress(total, total);
    Ok(Written { codec: recording.codec().name(), encoder: None, size: recording.size(), frames, damaged })
}

fn is_entry(reader: &mut Reader, frame: usize) -> bool {
    matches!(reader.kind(frame), Ok(Kind::Entry { .. }))
}

/// The first frame of these at which decoding can begin.
fn entry_from(
    reader: &mut Reader,
    frames: Range<usize>,
    control: &Control,
) -> Result<Option<usize>, Failure> {
    for frame in frames {
        if frame.is_multiple_of(STEP) {
            control.check()?;
        }
        if is_entry(reader, frame) {
            return Ok(Some(frame));
        }
        if reader.recording().read_error().is_some() {
            break;
        }
    }
    Ok(None)
}

/// What the access units are to a muxer, by the parameter sets of the first or, where it has none, by the nearest before.
fn caps(
    recording: &Recording,
    reader: &mut Reader,
    frames: Range<usize>,
    control: &mut Control,
) -> Result<gst::Caps, Failure> {
    let failed = |why: String| configuration(format!("--input: {why}"));
    let first = frames.start;
    let mut found = None;
    for frame in (0..=first).rev() {
        control.check()?;
        let with_picture = |unit: &Vec<u8>| nal::picture_size(recording.codec(), unit).is_some();
        found = reader.unit(frame).ok().filter(with_picture);
        if found.is_some() || recording.read_error().is_some() {
            break;
        }
    }
    let unit =
        found.ok_or_else(|| failed(format!("no parameter sets were found up to key frame {first}")))?;
    let changed = changed(recording, reader, &unit, first + 1..frames.end, control)?;
    // Sets that are not in the sample entry may be among the samples of the latter only.
    let codec = codec(recording);
    let (fixed, free) = match codec {
        Codec::H264 => ("avc", "avc3"),
        Codec::H265 => ("hvc1", "hev1"),
    };
    if let Some(frame) = changed {
        control.notice(format!(
            "warning: the parameter sets change at frame {frame}: the file is {free}, which not all players take"
        ));
    }
    let format = if changed.is_some() { free } else { fixed };
    let mut parser = Parser::new(codec, format).map_err(|why| Failure::new(Exit::Pipeline, why))?;
    let annex_b = format!("video/x-{},stream-format=byte-stream,alignment=au", codec.name());
    let mut buffer = gst::Buffer::from_slice(unit);
    buffer.get_mut().expect("nobody else has it").set_pts(gst::ClockTime::ZERO);
    parser.convert(&annex_b.parse().expect("literal caps"), buffer).map_err(failed)?;
    let mut caps = parser.caps().ok_or_else(|| failed("the parser makes nothing of its key frame".into()))?;
    // The times are those of the frames, and not multiples of a rate.
    caps.make_mut().structure_mut(0).expect("fixed caps").remove_field("framerate");
    Ok(caps)
}

/// The first frame with parameter sets that `unit` has not.
///
/// # Errors
/// The size of the pictures changes, which a file has only one of.
fn changed(
    recording: &Recording,
    reader: &mut Reader,
    unit: &[u8],
    frames: Range<usize>,
    control: &Control,
) -> Result<Option<usize>, Failure> {
    let codec = recording.codec();
    let known: Vec<&[u8]> = sets(codec, unit).collect();
    let size = nal::picture_size(codec, unit);
    let (mut frame, mut changed) = (frames.start, None);
    while let Some(entry) = entry_from(reader, frame..frames.end, control)? {
        frame = entry + 1;
        let Ok(unit) = reader.unit(entry) else { continue };
        if sets(codec, &unit).all(|set| known.contains(&set)) {
            continue;
        }
        changed = changed.or(Some(entry));
        if let (Some(was), Some(is)) = (size, nal::picture_size(codec, &unit))
            && was != is
        {
            return Err(size_changes(entry, was, is, "--copy changes nothing"));
        }
    }
    Ok(changed)
}

/// The parameter sets of an access unit.
fn sets(codec: svo2::Codec, unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    nal::units(unit).filter(move |nal| {
        nal.first().is_some_and(|&first| match codec {
            svo2::Codec::H264 => matches!(first & 0x1f, 7 | 8),
            svo2::Codec::H265 => matches!(first >> 1 & 0x3f, 32..=34),
        })
    })
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
    /// Returns how many frames were written, and how many places are damaged. All were asked for from `start` on.
    fn run(
        mut self,
        frames: Range<usize>,
        start: usize,
        muxer: &Muxer,
        control: &mut Control,
    ) -> Result<(u64, usize), Wrong> {
        let (mut frame, end) = (frames.start, frames.end);
        let total = (end - start) as u64;
        let (mut written, mut damages) = (0, Damages::default());
        let mut begins = true;
        while frame < end {
            if begins || frame.is_multiple_of(STEP) {
                control.check()?;
                control.progress((frame - start) as u64, total);
            }
            match self.sample(frame) {
                Ok((mut sample, kind)) => {
                    if begins {
                        tell_recovery(frame, kind, control);
                    }
                    // Where pictures become whole by and by, a player that is sent there shows what is not.
                    if written > 0 && kind != (Kind::Entry { recovers_after: 0 }) {
                        let writable = sample.get_mut().expect("nobody else has it");
                        writable.set_flags(gst::BufferFlags::DELTA_UNIT);
                    }
                    muxer.push(sample).map_err(Wrong::Output)?;
                    written += 1;
                    frame += 1;
                    begins = false;
                }
                Err(Damage { unread: Some(error), .. }) => {
                    return Err(configuration(format!("--input: {error}")).into());
                }
                Err(damage) => {
                    let damage = damage.to_string();
                    let next = entry_from(&mut self.reader, frame + 1..end, control)?.unwrap_or(end);
                    damages.tell(control, frame as u64..=next as u64 - 1, &damage);
                    frame = next;
                    begins = true;
                }
            }
        }
        Ok((written, damages.close(control)))
    }

    fn sample(&mut self, frame: usize) -> Result<(gst::Buffer, Kind), Damage> {
        let located = self.reader.locate(frame)?;
        let mut unit = self.pool.take(located.len());
        located.read(&mut unit.bytes)?;
        let kind = self.recording.classify(frame, &unit.bytes)?;
        sample::from_annex_b(&mut unit.bytes, &mut self.units, &mut self.spare).map_err(|what| Damage {
            frame,
            what: what.to_string(),
            unread: None,
        })?;
        let mut buffer = gst::Buffer::from_slice(unit);
        let writable = buffer.get_mut().expect("nobody else has it");
        let time = gst::ClockTime::from_nseconds(self.recording.running_ns(frame) - self.begin);
        writable.set_pts(time);
        writable.set_dts(time);
        writable.set_duration(gst::ClockTime::from_nseconds(self.recording.duration_ns(frame)));
        Ok((buffer, kind))
    }
}

/// Where decoding begins at a recovery point, what is shown first is not whole.
fn tell_recovery(frame: usize, kind: Kind, control: &mut Control) {
    if let Kind::Entry { recovers_after: after @ 1.. } = kind {
        let whole = frame + usize::from(after);
        control.notice(format!(
            "warning: frame {frame} is a recovery point: pictures are whole from frame {whole} on"
        ));
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
