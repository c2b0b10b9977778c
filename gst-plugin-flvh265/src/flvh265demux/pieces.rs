// SPDX-License-Identifier: MPL-2.0

//! The bytes that came and were not used yet, as upstream gave them.

use std::collections::VecDeque;
use std::ops::Range;

use flv::Window;
use gst::memory::{MappedMemory, Readable};

/// Memories shorter than this are gathered, unless nothing came before them: copying is cheaper than keeping book.
const SMALL: usize = 512;
/// As much is gathered in one place.
const GATHERED: usize = 1 << 16;
/// A payload in more memories than this is copied into one: a buffer holds 16 at most.
const MAX_MEMORIES: usize = 8;

enum Bytes {
    Upstream(MappedMemory<Readable>),
    Gathered(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Upstream(memory) => memory.as_slice(),
            Self::Gathered(bytes) => bytes,
        }
    }
}

/// A memory, and how much of it was cut off.
struct Piece {
    bytes: Bytes,
    cut: usize,
    /// Where its first byte lay in the stream of all that came.
    begin: u64,
}

impl Piece {
    fn rest(&self) -> &[u8] {
        &self.bytes.as_slice()[self.cut..]
    }

    /// A memory with this part of the rest; shared with upstream's where that is possible.
    fn memory(&self, range: Range<usize>) -> gst::Memory {
        match &self.bytes {
            Bytes::Upstream(mapped) if !mapped.memory().flags().contains(gst::MemoryFlags::NO_SHARE) => {
                mapped.memory().share(self.cut + range.start..self.cut + range.end)
            }
            _ => gst::Memory::from_mut_slice(self.rest()[range].to_vec()),
        }
    }
}

/// A queue of upstream's memories, read as one run of bytes.
#[derive(Default)]
pub(super) struct Pieces {
    pieces: VecDeque<Piece>,
    len: usize,
    /// Bytes that were cut off in all.
    front: u64,
}

impl Pieces {
    /// Takes a buffer; its bytes stay where they are.
    pub fn push(&mut self, buffer: &gst::BufferRef) -> Result<(), gst::FlowError> {
        for memory in buffer.iter_memories_owned() {
            // A read mapping fails only for memory of hardware, which is no FLV.
            let mapped = memory.into_mapped_memory_readable().map_err(|_| gst::FlowError::Error)?;
            self.push_bytes(mapped);
        }
        Ok(())
    }

    fn push_bytes(&mut self, mapped: MappedMemory<Readable>) {
        let size = mapped.as_slice().len();
        if size == 0 {
            return;
        }
        let alone = self.len == 0;
        let begin = self.front + self.len as u64;
        self.len += size;
        if alone || size >= SMALL {
            return self.pieces.push_back(Piece { bytes: Bytes::Upstream(mapped), cut: 0, begin });
        }
        match self.pieces.back_mut() {
            Some(Piece { bytes: Bytes::Gathered(gathered), .. }) if gathered.len() < GATHERED => {
                gathered.extend_from_slice(mapped.as_slice());
            }
            _ => {
                let gathered = Bytes::Gathered(mapped.as_slice().to_vec());
                self.pieces.push_back(Piece { bytes: gathered, cut: 0, begin });
            }
        }
    }

    /// Cuts off the front.
    pub fn cut(&mut self, mut bytes: usize) {
        self.len -= bytes;
        self.front += bytes as u64;
        while let Some(front) = self.pieces.front_mut() {
            let rest = front.rest().len();
            if bytes < rest {
                front.cut += bytes;
                return;
            }
            bytes -= rest;
            self.pieces.pop_front();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The parts of the pieces that a range covers.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (&Piece, Range<usize>)> {
        let begin = self.front + range.start as u64;
        // Searched, since thousands of small buffers may be held.
        let first = self.pieces.partition_point(|piece| piece.begin <= begin).saturating_sub(1);
        self.pieces.range(first.min(self.pieces.len())..).map_while(move |piece| {
            let from = (piece.begin + piece.cut as u64 - self.front) as usize;
            let len = piece.rest().len();
            let part = range.start.saturating_sub(from).min(len)..range.end.saturating_sub(from).min(len);
            (from < range.end).then_some((piece, part))
        })
    }

    /// A buffer with the bytes of a range, which lies within `len()`.
    pub fn buffer(&self, range: Range<usize>) -> gst::Buffer {
        let full = |(_, part): &(&Piece, Range<usize>)| !part.is_empty();
        if self.parts(range.clone()).filter(full).nth(MAX_MEMORIES).is_some() {
            return gst::Buffer::from_mut_slice(self.copied(range));
        }
        let mut buffer = gst::Buffer::new();
        let buffer_ref = buffer.make_mut();
        for (piece, part) in self.parts(range).filter(full) {
            buffer_ref.append_memory(piece.memory(part));
        }
        buffer
    }

    /// The bytes of a range, which lies within `len()`.
    pub fn copied(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.len());
        for (piece, part) in self.parts(range) {
            bytes.extend_from_slice(&piece.rest()[part]);
        }
        bytes
    }
}

impl Window for Pieces {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        let mut done = 0;
        for (piece, part) in self.parts(at..at + into.len()) {
            into[done..][..part.len()].copy_from_slice(&piece.rest()[part.clone()]);
            done += part.len();
        }
        debug_assert_eq!(done, into.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(chunks: &[&[u8]]) -> Pieces {
        gst::init().unwrap();
        let mut pieces = Pieces::default();
        for chunk in chunks {
            pieces.push(&gst::Buffer::from_slice(chunk.to_vec())).unwrap();
        }
        pieces
    }

    fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
        buffer.map_readable().unwrap().to_vec()
    }

    #[test]
    fn all_cuts_of_the_same_bytes_read_the_same() {
        let all: Vec<u8> = (0..4000u32).map(|i| (i * 31 % 251) as u8).collect();
        for chunk in [1, 3, 511, 512, 700, 4000] {
            let mut pieces = window(&all.chunks(chunk).collect::<Vec<_>>());
            assert_eq!(pieces.len(), all.len());
            let mut from = 0;
            for (cut, range) in [(0, 0..4000), (1, 0..0), (699, 5..1500), (1300, 0..2000), (1999, 0..1)] {
                pieces.cut(cut);
                from += cut;
                let expected = &all[from..][range.clone()];
                assert_eq!(bytes(&pieces.buffer(range.clone())), expected, "{chunk} {range:?}");
                assert_eq!(pieces.copied(range.clone()), expected);
                let mut read = vec![0; range.len()];
                pieces.read(range.start, &mut read);
                assert_eq!(read, expected);
            }
            pieces.cut(1);
            assert!(pieces.is_empty());
        }
    }

    #[test]
    fn a_payload_within_one_memory_is_shared() {
        gst::init().unwrap();
        let upstream = gst::Buffer::from_slice(vec![7u8; 300]);
        let mut pieces = Pieces::default();
        pieces.push(&upstream).unwrap();
        let payload = pieces.buffer(16..280);
        let address = |buffer: &gst::BufferRef| buffer.map_readable().unwrap().as_ptr() as usize;
        assert_eq!(address(&payload), address(&upstream) + 16);
    }

    #[test]
    fn thousands_of_single_bytes_are_gathered() {
        let all = vec![1u8; 200_000];
        let pieces = window(&all.chunks(1).collect::<Vec<_>>());
        assert!(pieces.pieces.len() < 8);
        assert_eq!(pieces.buffer(0..200_000).size(), 200_000);
    }
}
