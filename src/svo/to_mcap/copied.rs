// SPDX-License-Identifier: MPL-2.0

//! A recording's access units as they are, but for parameter sets that key frames lack.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use svo2::sets::ParameterSets;
use svo2::{Codec, Reader, Recording, nal};

use super::feed::{Feed, Shot, Unit};
use crate::exit::{Failure, configuration};
use crate::svo::chain::Ended;
use crate::svo::convert::{Control, Damages};
use crate::svo::search;

/// An encoder that reorders pictures does so within as many.
const LOOKED_AT: usize = 300;

/// Why a recording cannot be copied into `foxglove.CompressedVideo`, which wants pictures in the order of showing, and key
/// frames that decoding can begin with; `None` where it can.
///
/// # Errors
/// It is cancelled.
pub fn obstacle(recording: &Arc<Recording>, control: &Control) -> Result<Option<String>, Failure> {
    let mut reader = Reader::new(recording.clone());
    let all = recording.frames();
    let Some(first) = search::entry(&mut reader, 0..all, control)? else {
        return Ok(Some("it has no key frame".into()));
    };
    // The second key frame is as all others will be.
    let second = search::entry(&mut reader, first + 1..all, control)?;
    for entry in [Some(first), second].into_iter().flatten() {
        if !is_key(&mut reader, entry) {
            return Ok(Some(format!(
                "frame {entry} is a recovery point and no key frame (intra refresh), and nobody can begin there"
            )));
        }
    }
    Ok(order(&mut reader, first))
}

/// Why pictures may be shown in another order than they are decoded in, by those from `first` on.
fn order(reader: &mut Reader, first: usize) -> Option<String> {
    let recording = reader.recording().clone();
    let codec = recording.codec();
    let sets = (first..recording.frames()).take(LOOKED_AT).filter_map(|frame| reader.unit(frame).ok());
    let may_reorder = sets.into_iter().find_map(|unit| nal::may_reorder(codec, &unit)).unwrap_or(true);
    if !may_reorder {
        return None;
    }
    match codec {
        // Not all encoders say that they do not reorder.
        Codec::H264 => {
            let frames = first..recording.frames().min(first + LOOKED_AT);
            let b =
                frames.into_iter().find(|&at| reader.unit(at).is_ok_and(|unit| nal::is_b_slice(&unit)))?;
            Some(format!("frame {b} is a B-frame"))
        }
        Codec::H265 => Some("its pictures may be shown in another order than they are decoded in".into()),
    }
}

fn is_key(reader: &mut Reader, frame: usize) -> bool {
    let codec = reader.recording().codec();
    search::is_entry(reader, frame)
        && reader.unit(frame).is_ok_and(|unit| nal::is_random_access(codec, &unit))
}

/// Access units that were read and not asked for yet.
const AHEAD: usize = 2;
/// How often it is asked whether the next is still waited for.
const TICK: Duration = Duration::from_millis(100);

/// A thread that reads frame after frame, beside the one that writes them.
pub struct Copied {
    first: usize,
    coming: Receiver<Piece>,
    /// `None` once it has ended.
    thread: Option<JoinHandle<()>>,
    /// Nobody wants what it reads any more.
    over: Arc<AtomicBool>,
}

enum Piece {
    Unit(Unit),
    /// These are left out.
    Damaged(RangeInclusive<u64>, String),
}

impl Copied {
    /// From the key frame at or before the first frame, which the first needs, up to the last.
    ///
    /// # Errors
    /// It is cancelled, or what the system says.
    pub fn new(shot: Shot, frames: &RangeInclusive<usize>, control: &Control) -> Result<Self, Failure> {
        let reading = Reading::new(shot, frames, control)?;
        let (first, over) = (reading.frames.start, reading.over.clone());
        let (sender, coming) = sync_channel(AHEAD);
        let read = move || {
            for piece in reading {
                if sender.send(piece).is_err() {
                    // Nobody takes it.
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("svo2".into()).spawn(read).map_err(configuration)?;
        Ok(Self { first, coming, thread: Some(thread), over })
    }

    /// The first frame that will be read.
    pub fn first(&self) -> usize {
        self.first
    }

    fn next_piece(&mut self, control: &Control) -> Result<Option<Piece>, Failure> {
        loop {
            match self.coming.recv_timeout(TICK) {
                Ok(piece) => return Ok(Some(piece)),
                Err(RecvTimeoutError::Timeout) => control.check()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => {
                Err(configuration("the thread that reads a recording panicked, which is our fault"))
            }
            None | Some(Ok(())) => Ok(None),
        }
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Feed for Copied {
    fn next(&mut self, control: &mut Control, damages: &mut Damages) -> Result<Option<Unit>, Ended> {
        loop {
            match self.next_piece(control)? {
                None => return Ok(None),
                Some(Piece::Unit(unit)) => return Ok(Some(unit)),
                Some(Piece::Damaged(frames, why)) => damages.tell(control, frames, &why),
            }
        }
    }
}

/// What is read.
struct Reading {
    reader: Reader,
    shot: Shot,
    sets: ParameterSets,
    frames: Range<usize>,
    /// A key frame comes first, or again.
    joins: bool,
    /// Nobody wants what is read any more.
    over: Arc<AtomicBool>,
}

impl Reading {
    fn new(shot: Shot, frames: &RangeInclusive<usize>, control: &Control) -> Result<Self, Failure> {
        let mut reader = Reader::new(shot.recording.clone());
        let before = (0..=*frames.start()).rev();
        let first =
            search::first(&mut reader, before, control, |reader, at| is_key(reader, at).then_some(at))?;
        let first = first.unwrap_or(*frames.start());
        let mut sets = ParameterSets::new(shot.recording.codec());
        sets.remember(&reader.unit(first).unwrap_or_default());
        if !sets.are_known() {
            sets = sets_before(&mut reader, first, control)?;
        }
        let frames = first..frames.end() + 1;
        Ok(Self { reader, shot, sets, frames, joins: true, over: Arc::default() })
    }

    fn read(&mut self, frame: usize) -> Result<Vec<u8>, String> {
        let mut unit = self.reader.unit(frame).map_err(|damage| damage.to_string())?;
        if nal::is_random_access(self.shot.recording.codec(), &unit) {
            self.sets.complete(&mut unit).map_err(|why| format!("frame {frame}: {why}"))?;
            self.joins = false;
        } else if self.joins {
            return Err(format!("frame {frame}: it needs a key frame before it"));
        } else {
            self.sets.remember(&unit);
        }
        Ok(unit)
    }
}

impl Iterator for Reading {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let frame = self.frames.next()?;
        let why = match self.read(frame) {
            Ok(unit) => return Some(Piece::Unit(self.shot.unit(frame, Bytes::from(unit)))),
            Err(why) => why,
        };
        self.joins = true;
        loop {
            // What the system does not read ends the conversion, and is told by whoever that is.
            if self.shot.recording.read_error().is_some() || self.over.load(Ordering::Relaxed) {
                return None;
            }
            if self.frames.is_empty() || is_key(&mut self.reader, self.frames.start) {
                break;
            }
            self.frames.start += 1;
        }
        Some(Piece::Damaged(frame as u64..=self.frames.start as u64 - 1, why))
    }
}

/// The sets that count at a frame, by the nearest frames before it that have any.
///
/// # Errors
/// It is cancelled.
fn sets_before(reader: &mut Reader, frame: usize, control: &Control) -> Result<ParameterSets, Failure> {
    let codec = reader.recording().codec();
    let found = search::first(reader, (0..frame).rev(), control, |reader, at| {
        let mut sets = ParameterSets::new(codec);
        reader.unit(at).is_ok_and(|unit| sets.remember(&unit)).then_some(sets)
    });
    Ok(found?.unwrap_or_else(|| ParameterSets::new(codec)))
}
