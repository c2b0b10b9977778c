// SPDX-License-Identifier: MPL-2.0

//! Reading access units out of a recording.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mcap::records::op;

use crate::container::{Bytes, Container, Entry, MAX_RECORD, MESSAGE_HEAD, MessageHead, RECORD_HEAD};
use crate::error::Damage;
use crate::mend::LOST;
use crate::nal::{self, Kind};
use crate::recording::Recording;
use crate::storage::Fault;
use crate::words::counted;

/// Two sizes before the payload of a frame message.
const FRAME_HEAD: usize = 4 + 4;
const FRAME_FOOTER: u64 = 56;
/// Parameter sets and the first slice's header lie within this, mostly.
const LOOK: usize = 4096;

/// The chunk that was read last, since a compressed one is worth keeping.
#[derive(Default)]
pub(crate) struct Cursor {
    open: Option<(u32, Bytes)>,
    /// It was decompressed since somebody looked.
    fresh: bool,
}

/// An access unit that was found, and not read yet.
#[derive(Clone)]
pub struct Located {
    pub(crate) frame: usize,
    bytes: Bytes,
    at: u64,
    len: usize,
}

impl Cursor {
    fn chunk(&mut self, container: &Container, number: u32) -> Result<Bytes, Fault> {
        match &self.open {
            Some((open, bytes)) if *open == number => Ok(bytes.clone()),
            _ => {
                let spare = self.open.take().map(|(_, bytes)| bytes);
                let bytes = container.bytes_in(number as usize, spare)?;
                self.fresh = matches!(bytes, Bytes::Memory(_));
                self.open = Some((number, bytes.clone()));
                Ok(bytes)
            }
        }
    }

    /// The chunk that was read, if it was decompressed since this was asked last.
    fn decompressed(&mut self) -> Option<&(u32, Bytes)> {
        self.open.as_ref().filter(|_| std::mem::take(&mut self.fresh))
    }

    /// The message of an entry of the index; where another is in its place, the one that is meant.
    pub fn message(&mut self, container: &Container, entry: &Entry) -> Result<Message, Fault> {
        match self.message_at(container, entry) {
            Err(Fault::Data(what)) => match container.place(entry) {
                Some(place) if place != *entry => self.message_at(container, &place),
                _ => Err(Fault::Data(what)),
            },
            read => read,
        }
    }

    /// The message of an entry of the index, which has to be where it says.
    pub fn message_at(&mut self, container: &Container, entry: &Entry) -> Result<Message, Fault> {
        if entry.offset == LOST {
            let what = "its message is lost: neither an index nor the records of its chunk have it";
            return Err(Fault::Data(what.to_owned()));
        }
        let bytes = self.chunk(container, entry.chunk)?;
        let mut begins = [0; RECORD_HEAD + MESSAGE_HEAD + FRAME_HEAD];
        let there = bytes.read_up_to(entry.offset, &mut begins)?;
        if there < RECORD_HEAD + MESSAGE_HEAD {
            let (len, at) = (bytes.len(), entry.offset);
            return Err(Fault::Data(format!("its chunk ends after {len} bytes, before the message at {at}")));
        }
        let (record, rest) = begins.split_first_chunk::<RECORD_HEAD>().expect("they are longer");
        let (head, frame) = rest.split_first_chunk().expect("they are longer");
        let len = u64::from_le_bytes(record[1..].try_into().expect("eight bytes"));
        let head = MessageHead::parse(head);
        if record[0] != op::MESSAGE || head.channel != entry.channel || head.log_time != entry.time_ns {
            let Entry { time_ns, offset, .. } = entry;
            return Err(Fault::Data(format!(
                "no message of {time_ns} ns is at {offset} of its chunk, where the index has it"
            )));
        }
        let at = entry.offset + (RECORD_HEAD + MESSAGE_HEAD) as u64;
        let len = len.checked_sub(MESSAGE_HEAD as u64).filter(|&len| len <= bytes.len() - at);
        let len =
            len.ok_or_else(|| format!("its chunk ends after {} bytes, within the message", bytes.len()))?;
        if len > MAX_RECORD {
            return Err(Fault::Data(format!(
                "a message says that it has {len} bytes: more than {MAX_RECORD}"
            )));
        }
        Ok(Message { frame: frame.try_into().expect("eight bytes"), bytes, at, len })
    }

    pub fn locate(&mut self, container: &Container, entry: &Entry, frame: usize) -> Result<Located, Damage> {
        let located = self.message(container, entry).and_then(|message| message.locate(frame));
        located.map_err(|fault| fault.of_frame(frame))
    }
}

/// A message that was found, and not read yet.
pub(crate) struct Message {
    bytes: Bytes,
    /// Where its body lies, and how long it is.
    at: u64,
    len: u64,
    /// What the head of a frame would be.
    frame: [u8; FRAME_HEAD],
}

impl Message {
    pub fn read(&self) -> Result<Vec<u8>, Fault> {
        let mut body = vec![0; self.len as usize];
        self.bytes.read_at(self.at, &mut body)?;
        Ok(body)
    }

    /// The access unit in it. The footer behind it says nothing that is relied on, and costs a read.
    fn locate(self, frame: usize) -> Result<Located, Fault> {
        let Self { bytes, at, len, .. } = self;
        let payload = len.checked_sub(FRAME_HEAD as u64 + FRAME_FOOTER);
        let payload = payload.ok_or_else(|| format!("{len} bytes are too few for a frame"))?;
        let [total, said] = [0, 4]
            .map(|at| u64::from(u32::from_le_bytes(self.frame[at..at + 4].try_into().expect("four bytes"))));
        if total != payload + 4 + FRAME_FOOTER || said != payload {
            return Err(Fault::Data(format!(
                "it says {total} bytes with a payload of {said}, where its message has {} and {payload}",
                len - 4
            )));
        }
        Ok(Located { frame, bytes, at: at + FRAME_HEAD as u64, len: payload as usize })
    }
}

#[allow(clippy::len_without_is_empty)] // an empty one is damage, too
impl Located {
    /// Size of the access unit in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads the access unit, Annex B with start codes, into exactly [`len`](Self::len) bytes.
    ///
    /// # Errors
    /// The file does not have it any more.
    pub fn read(&self, into: &mut [u8]) -> Result<(), Damage> {
        assert_eq!(into.len(), self.len, "the buffer has the size of the access unit");
        self.bytes.read_at(self.at, into).map_err(|fault| fault.of_frame(self.frame))
    }

    /// Its first bytes.
    pub(crate) fn begins(&self, at_most: usize) -> Result<Vec<u8>, Damage> {
        let mut begins = vec![0; self.len.min(at_most)];
        let read = self.bytes.read_at(self.at, &mut begins);
        read.map(|()| begins).map_err(|fault| fault.of_frame(self.frame))
    }
}

/// Reads frames, in any order; fastest in the file's.
pub struct Reader {
    recording: Arc<Recording>,
    cursor: Cursor,
}

impl Reader {
    /// A reader of its own for each thread.
    pub fn new(recording: Arc<Recording>) -> Self {
        Self { recording, cursor: Cursor::default() }
    }

    /// The recording that is read.
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// Finds an access unit; reading it is the caller's to do, where he wants it.
    ///
    /// # Errors
    /// The frame is damaged.
    ///
    /// # Panics
    /// The recording has no such frame.
    pub fn locate(&mut self, frame: usize) -> Result<Located, Damage> {
        let Recording { container, frames, .. } = self.recording.as_ref();
        let located = self.cursor.locate(container, &frames[frame], frame);
        // Next to decompressing it, that costs little. Of others only a part is read.
        if let Some((chunk, bytes)) = self.cursor.decompressed() {
            self.recording.check_chunk(*chunk as usize, bytes);
        }
        if let Err(Damage { unread: None, .. }) = &located {
            self.recording.remember(frame, Known::Damaged);
        }
        located
    }

    /// The access unit as bytes of its own.
    ///
    /// # Errors
    /// The frame is damaged.
    ///
    /// # Panics
    /// The recording has no such frame.
    pub fn unit(&mut self, frame: usize) -> Result<Vec<u8>, Damage> {
        let located = self.locate(frame)?;
        let mut unit = vec![0; located.len()];
        located.read(&mut unit)?;
        self.recording.classify(frame, &unit)?;
        Ok(unit)
    }

    /// What a frame is to a decoder. Looks at its first bytes, once.
    ///
    /// # Errors
    /// The frame is damaged.
    ///
    /// # Panics
    /// The recording has no such frame.
    pub fn kind(&mut self, frame: usize) -> Result<Kind, Damage> {
        if let Known::Is(kind) = self.recording.known(frame) {
            return Ok(kind);
        }
        let located = self.locate(frame)?;
        let begins = located.begins(LOOK)?;
        if located.len() > LOOK && nal::kind(self.recording.codec(), &begins).is_none() {
            return self.recording.classify(frame, &located.begins(usize::MAX)?);
        }
        self.recording.classify(frame, &begins)
    }

    /// From which frame on to decode so that `frame`'s picture is right; `None` where there is no such frame.
    ///
    /// With intra refresh this lies as far back as pictures need to become whole. It is not looked for any further once
    /// the system [does not read](Recording::read_error) the file.
    ///
    /// # Panics
    /// The recording has no such frame.
    pub fn entry_for(&mut self, frame: usize) -> Option<usize> {
        let mut earliest = None;
        for at in (0..=frame).rev() {
            if let Ok(Kind::Entry { recovers_after }) = self.kind(at) {
                earliest = Some(at);
                if at + usize::from(recovers_after) <= frame {
                    break;
                }
            } else if self.recording.read_error().is_some() {
                break;
            }
        }
        earliest
    }

    /// The first frame at or after `frame` at which decoding can begin. It is not looked for any further once the system
    /// [does not read](Recording::read_error) the file.
    pub fn entry_from(&mut self, frame: usize) -> Option<usize> {
        for at in frame..self.recording.frames() {
            match self.kind(at) {
                Ok(Kind::Entry { .. }) => return Some(at),
                Err(_) if self.recording.read_error().is_some() => return None,
                _ => (),
            }
        }
        None
    }
}

/// What was learnt of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    Damaged,
    Is(Kind),
}

impl Known {
    const DELTA: u32 = 2;
    const ENTRY: u32 = 1 << 16;

    fn packed(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Damaged => 1,
            Self::Is(Kind::Delta) => Self::DELTA,
            Self::Is(Kind::Entry { recovers_after }) => Self::ENTRY | u32::from(recovers_after),
        }
    }

    fn unpacked(packed: u32) -> Self {
        match packed {
            0 => Self::Nothing,
            1 => Self::Damaged,
            Self::DELTA => Self::Is(Kind::Delta),
            entry => Self::Is(Kind::Entry { recovers_after: (entry & 0xffff) as u16 }),
        }
    }
}

impl Recording {
    /// What a frame is to a decoder, by its bytes, which may end after its first slice began.
    ///
    /// # Errors
    /// The bytes are no access unit of the recording's codec.
    ///
    /// # Panics
    /// The recording has no such frame.
    pub fn classify(&self, frame: usize, unit: &[u8]) -> Result<Kind, Damage> {
        // Looking for the end of the first slice would cost as much as reading it.
        let begins = &unit[..unit.len().min(LOOK)];
        let other = nal::other_codec(self.codec(), begins);
        let kind = match other {
            Some(_) => None,
            None => nal::kind(self.codec(), begins).or_else(|| nal::kind(self.codec(), unit)),
        };
        self.remember(frame, kind.map_or(Known::Damaged, Known::Is));
        kind.ok_or_else(|| {
            let what = match other {
                Some(other) => format!("it is {other}, and the recording {}", self.codec()),
                None => {
                    let begins = dump(&unit[..unit.len().min(8)]);
                    let bytes = counted(unit.len(), "byte");
                    format!("{bytes} that are no {} access unit; they begin with {begins}", self.codec())
                }
            };
            Damage { frame, what, unread: None }
        })
    }

    fn known(&self, frame: usize) -> Known {
        Known::unpacked(self.known[frame].load(Ordering::Relaxed))
    }

    fn remember(&self, frame: usize, known: Known) {
        self.known[frame].store(known.packed(), Ordering::Relaxed);
    }

    /// How many of the frames that were looked at are damaged.
    pub fn damaged(&self) -> usize {
        (0..self.frames()).filter(|&frame| self.known(frame) == Known::Damaged).count()
    }
}

/// Bytes as a person reads them: `66 74 79 70 "ftyp"`.
pub(crate) fn dump(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
    format!("{hex} \"{}\"", bytes.iter().map(shown).collect::<String>())
}
