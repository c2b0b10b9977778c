// SPDX-License-Identifier: MPL-2.0

//! Where the tags lie in a stream of bytes: strict, incremental, and back in step after damage.
//!
//! A [`Framer`] holds no bytes. It is shown what has come so far, says what lies at its front, and the caller cuts
//! that off. A tag is given as soon as its last byte is there.

use crate::tag::{FileHeader, MAX_BODY_BYTES, TAG_HEADER_BYTES, TRAILER_BYTES, TagHeader};

/// Bytes that have come and were not cut off yet.
pub trait Window {
    /// How many there are.
    fn len(&self) -> usize;

    /// There are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies from `at` on; the range lies within `len()`.
    fn read(&self, at: usize, into: &mut [u8]);
}

impl Window for [u8] {
    fn len(&self) -> usize {
        self.len()
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self[at..][..into.len()]);
    }
}

/// What was wrong with bytes that are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Damage {
    /// The file header's data offset is not possible.
    #[error("a file header that is none")]
    FileHeader,
    /// Where a tag should begin there is none, or its size leads to no PreviousTagSize and no other tag.
    #[error("no tag begins here")]
    NoTag,
    /// The stream ends within a tag.
    #[error("the stream ends within a tag")]
    Truncated,
}

/// What lies at the front of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It cannot be said before the window has this many bytes.
    Need(usize),
    /// A file header; with PreviousTagSize0.
    Header {
        /// What it announces.
        header: FileHeader,
        /// How much to cut off.
        bytes: usize,
    },
    /// A tag: header, body, PreviousTagSize.
    Tag {
        /// Its header.
        header: TagHeader,
        /// How much to cut off; without the PreviousTagSize if the stream ends before it.
        bytes: usize,
        /// What PreviousTagSize says, where that is not the tag's size.
        wrong_size: Option<u32>,
    },
    /// Nothing of use.
    Skip {
        /// How much to cut off.
        bytes: usize,
        /// Why.
        damage: Damage,
    },
    /// The stream has ended.
    End,
}

/// How far a size can be off and still seem to lead to a tag: the header's last three bytes are zeros, and so are the
/// first of most PreviousTagSizes.
const NEARBY: usize = TRAILER_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A file header, or a tag (RTMP sources leave the header out), comes next.
    Start,
    /// A tag comes next.
    InStep,
    /// Somewhere a tag may begin.
    Searching,
}

/// The state machine; see the module.
#[derive(Debug, Clone)]
pub struct Framer {
    state: State,
}

impl Default for Framer {
    fn default() -> Self {
        Self { state: State::Start }
    }
}

impl Framer {
    /// For the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// For bytes from a place where a tag begins, if the index that named it is right.
    pub fn at_tag() -> Self {
        Self { state: State::InStep }
    }

    /// For bytes from anywhere.
    pub fn anywhere() -> Self {
        Self { state: State::Searching }
    }

    /// What lies at the front; `end`: no more bytes will come.
    pub fn step<W: Window + ?Sized>(&mut self, window: &W, end: bool) -> Step {
        if end && window.is_empty() {
            return Step::End;
        }
        match self.state {
            State::Start => self.start(window, end),
            State::InStep => self.in_step(window, end),
            State::Searching => self.search(window, end),
        }
    }

    fn start<W: Window + ?Sized>(&mut self, window: &W, end: bool) -> Step {
        const FIXED: usize = 9;
        if window.len() < FIXED && !end {
            return Step::Need(FIXED);
        }
        let header = array::<3, W>(window, 0).filter(|signature| signature == b"FLV");
        if header.is_none() {
            self.state = State::InStep;
            return self.in_step(window, end);
        }
        let Some(fixed) = array(window, 0) else {
            return Step::Skip { bytes: window.len(), damage: Damage::Truncated };
        };
        let Ok((header, tags_at)) = FileHeader::parse(&fixed) else {
            self.state = State::Searching;
            return Step::Skip { bytes: FIXED, damage: Damage::FileHeader };
        };
        let bytes = tags_at + TRAILER_BYTES;
        if window.len() < bytes && !end {
            return Step::Need(bytes);
        }
        self.state = State::InStep;
        Step::Header { header, bytes: bytes.min(window.len()) }
    }

    fn in_step<W: Window + ?Sized>(&mut self, window: &W, end: bool) -> Step {
        let Some(bytes) = array(window, 0) else {
            return if end {
                Step::Skip { bytes: window.len(), damage: Damage::Truncated }
            } else {
                Step::Need(TAG_HEADER_BYTES)
            };
        };
        let Ok(header) = TagHeader::parse(&bytes) else { return self.lose(Damage::NoTag) };
        let before = header.bytes_before_trailer();
        let whole = before + TRAILER_BYTES;
        if window.len() < whole {
            return match end {
                false => Step::Need(whole),
                true if window.len() >= before => Step::Tag { header, bytes: window.len(), wrong_size: None },
                // Its size may be a lie: what follows it may be whole.
                true => self.lose(Damage::Truncated),
            };
        }
        let size = array(window, before).map(u32::from_be_bytes).expect("the tag is there");
        if size as usize == before {
            return Step::Tag { header, bytes: whole, wrong_size: None };
        }
        // Some writers get PreviousTagSize wrong; then another tag follows all the same. What follows a size that is
        // off by a byte looks like one too, but there the right PreviousTagSize stands nearby.
        if let Some(next) = array::<TAG_HEADER_BYTES, W>(window, whole)
            && TagHeader::parse(&next).is_ok()
            && (1..=NEARBY).any(|off| {
                let ends_at = |end: usize| array(window, end).map(u32::from_be_bytes) == Some(end as u32);
                ends_at(before + off) || before > TAG_HEADER_BYTES + off && ends_at(before - off)
            })
        {
            return self.lose(Damage::NoTag);
        }
        match array(window, whole) {
            Some(next) if TagHeader::parse(&next).is_err() => self.lose(Damage::NoTag),
            Some(_) => Step::Tag { header, bytes: whole, wrong_size: Some(size) },
            None if !end => Step::Need(whole + TAG_HEADER_BYTES),
            None if window.len() == whole => Step::Tag { header, bytes: whole, wrong_size: Some(size) },
            None => self.lose(Damage::NoTag),
        }
    }

    /// The tag at the front is none.
    fn lose(&mut self, damage: Damage) -> Step {
        self.state = State::Searching;
        Step::Skip { bytes: 1, damage }
    }

    /// Finds the first place where a tag begins and its PreviousTagSize stands at its end.
    fn search<W: Window + ?Sized>(&mut self, window: &W, end: bool) -> Step {
        const CHUNK: usize = 4096;
        let len = window.len();
        let mut chunk = [0; CHUNK + TAG_HEADER_BYTES - 1];
        // The first that could be a tag, if the rest of it came.
        let mut open = None;
        let mut from = 0;
        while from + TAG_HEADER_BYTES <= len {
            let here = chunk.len().min(len - from);
            window.read(from, &mut chunk[..here]);
            for (i, bytes) in chunk[..here].windows(TAG_HEADER_BYTES).enumerate() {
                let header = bytes.first_chunk().and_then(|bytes| TagHeader::parse(bytes).ok());
                let Some(header) = header else { continue };
                let before = header.bytes_before_trailer();
                let at = from + i;
                match array(window, at + before).map(u32::from_be_bytes) {
                    Some(size) if size as usize == before => {
                        self.state = State::InStep;
                        return match at {
                            0 => self.in_step(window, end),
                            _ => Step::Skip { bytes: at, damage: Damage::NoTag },
                        };
                    }
                    Some(_) => {}
                    None => open = open.or(Some((at, at + before + TRAILER_BYTES))),
                }
            }
            from += CHUNK;
        }
        match open.filter(|_| !end) {
            // At most twice as much at a time, so that a false beginning with a large size hides nothing for long;
            // at least an eighth, so that of many false ones not each has the whole window searched again.
            Some((0, whole)) => Step::Need(whole.max(len + len / 8).min(len * 2)),
            Some((at, _)) => Step::Skip { bytes: at, damage: Damage::NoTag },
            None if end => Step::Skip { bytes: len, damage: Damage::NoTag },
            None if len < TAG_HEADER_BYTES => Step::Need(TAG_HEADER_BYTES),
            None => Step::Skip { bytes: len - (TAG_HEADER_BYTES - 1), damage: Damage::NoTag },
        }
    }
}

/// The most that [`Step::Need`] asks for: a tag of the largest size and, while searching, an eighth more.
pub const MAX_WINDOW_BYTES: usize = {
    let tag = TAG_HEADER_BYTES + MAX_BODY_BYTES + TRAILER_BYTES;
    tag + tag / 8
};

fn array<const N: usize, W: Window + ?Sized>(window: &W, at: usize) -> Option<[u8; N]> {
    (at + N <= window.len()).then(|| {
        let mut bytes = [0; N];
        window.read(at, &mut bytes);
        bytes
    })
}
