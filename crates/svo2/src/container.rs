// SPDX-License-Identifier: MPL-2.0

//! MCAP below a recording: where its chunks lie, what their messages are, and bytes out of them.
//!
//! Where a summary is, nothing but it and the message indexes is read. Where it is not, or lies, the records are walked:
//! from chunk to chunk, and inside those that have no index behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use mcap::records::{ChunkIndex, MessageIndex, Record, op};

use crate::error::ReadError;
use crate::mend::{Mended, Walk};
use crate::storage::{Fault, Storage};

/// Opcode and length of a record.
pub(crate) const RECORD_HEAD: usize = 1 + 8;
/// Channel, sequence number, log time and publish time of a message.
pub(crate) const MESSAGE_HEAD: usize = 2 + 4 + 8 + 8;
/// What stands in a chunk before the name of its compression, and the length of that name.
const CHUNK_HEAD: usize = 8 + 8 + 8 + 4 + 4;
/// Where the checksum of its bytes stands in that.
const CHUNK_SUM: usize = 8 + 8 + 8;
/// The footer's record and the magic behind it, where every finished file ends.
const TAIL: usize = RECORD_HEAD + FOOTER + mcap::MAGIC.len();
/// Start of the summary, start of its offsets, checksum.
const FOOTER: usize = 8 + 8 + 4;
/// Compressed chunks beyond this are taken for damage: they would have to be held in memory.
pub(crate) const MAX_CHUNK: u64 = 1 << 28;
/// Summaries and other records that are read as a whole; beyond this they are taken for damage.
pub(crate) const MAX_RECORD: u64 = 1 << 28;
/// So much is read in one go, of chunks whose checksum is made, and of message indexes.
const PIECE: u64 = 1 << 20;

/// How a chunk's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Lz4,
    Zstd,
    Unknown,
}

impl Compression {
    fn of(name: &str) -> Self {
        match name {
            "" | "none" => Self::None,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => Self::Unknown,
        }
    }
}

/// A run of records in the file.
#[derive(Debug, Clone)]
struct Chunk {
    /// Where its data lie, as far as the file reaches.
    data: Range<u64>,
    /// Bytes after decompression, as its header says.
    uncompressed: u64,
    compression: Compression,
    /// Where the message indexes of this chunk lie; `None` where none are.
    indexes: Option<Range<u64>>,
    /// Whether its channels are known.
    looked_in: bool,
    /// Its messages, all of them, where it was walked since it has no indexes.
    walked: Option<Vec<Entry>>,
    /// Where the file has the checksum of its bytes.
    sum_at: Option<u64>,
}

impl Chunk {
    /// `None`: it cannot be true in a file of `len` bytes.
    fn of(index: &ChunkIndex, len: u64) -> Option<Self> {
        let chunk_end = index.chunk_start_offset.checked_add(index.chunk_length)?;
        let data_start = index.compressed_data_offset().ok()?;
        let data = data_start..data_start.checked_add(index.compressed_size)?;
        let indexes = chunk_end..chunk_end.checked_add(index.message_index_length)?;
        (data.end <= chunk_end && indexes.end <= len).then(|| Self {
            data,
            uncompressed: index.uncompressed_size,
            compression: Compression::of(&index.compression),
            indexes: (!indexes.is_empty()).then_some(indexes),
            looked_in: true,
            walked: None,
            sum_at: Some(index.chunk_start_offset + (RECORD_HEAD + CHUNK_SUM) as u64),
        })
    }

    /// Records that lie in no chunk, taken for one.
    fn of_loose(data: Range<u64>) -> Self {
        let uncompressed = data.end - data.start;
        Self {
            data,
            uncompressed,
            compression: Compression::None,
            indexes: None,
            looked_in: false,
            walked: None,
            sum_at: None,
        }
    }

    fn end(&self) -> u64 {
        self.indexes.as_ref().map_or(self.data.end, |indexes| indexes.end)
    }
}

/// A message, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub time_ns: u64,
    /// Of the record, in the chunk's decompressed bytes.
    pub offset: u64,
    /// Index of the chunk.
    pub chunk: u32,
    pub channel: u16,
}

/// How the messages were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// By the file's own indexes.
    Indexed,
    /// By walking through the file, which was written without chunks and therefore has no index.
    Walked,
    /// By walking through the file, for the reason given.
    Scanned(String),
}

/// The file, and where everything lies in it.
pub(crate) struct Container {
    file: Arc<Storage>,
    len: u64,
    /// In the order of the file, which is that of the bitstream.
    chunks: Vec<Chunk>,
    /// Topics by channel.
    pub topics: BTreeMap<u16, String>,
    pub found: Found,
    /// How many messages the channels have, where the file says so.
    counts: BTreeMap<u16, u64>,
    /// The channels of so many chunks, the first ones, are all known.
    looked_in: usize,
    /// What was learnt of chunks whose index is wrong.
    pub mended: Mended,
}

/// Bytes of one chunk, decompressed where they had to be.
#[derive(Clone)]
pub(crate) enum Bytes {
    File(Arc<Storage>, Range<u64>),
    Memory(Arc<Vec<u8>>),
}

impl Bytes {
    pub fn len(&self) -> u64 {
        match self {
            Self::File(_, range) => range.end - range.start,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `into` with what begins at `offset`.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        let end = offset.checked_add(into.len() as u64).filter(|&end| end <= self.len());
        let end = end.ok_or_else(|| {
            let (len, wanted) = (self.len(), into.len());
            Fault::Data(format!("its chunk ends after {len} bytes, within the {wanted} at {offset}"))
        })?;
        match self {
            Self::File(file, range) => file.read_exact_at(into, range.start + offset)?,
            Self::Memory(bytes) => into.copy_from_slice(&bytes[offset as usize..end as usize]),
        }
        Ok(())
    }

    /// Fills `into` as far as there are bytes from `offset` on; tells how many.
    pub fn read_up_to(&self, offset: u64, into: &mut [u8]) -> Result<usize, Fault> {
        let there = self.len().saturating_sub(offset).min(into.len() as u64) as usize;
        self.read_at(offset, &mut into[..there]).map(|()| there)
    }

    /// CRC-32 of all of them.
    fn sum(&self) -> Result<u32, Fault> {
        if let Self::Memory(bytes) = self {
            return Ok(crc32fast::hash(bytes));
        }
        let mut sum = crc32fast::Hasher::new();
        let mut piece = vec![0; self.len().min(PIECE) as usize];
        let mut at = 0;
        while at < self.len() {
            let there = self.read_up_to(at, &mut piece)?;
            sum.update(&piece[..there]);
            at += there as u64;
        }
        Ok(sum.finalize())
    }

    /// What a record has inside; `None` where it is too long to be true.
    fn body(&self, head: &Head) -> Option<Vec<u8>> {
        let len = head.len.min(self.len().saturating_sub(head.body()));
        let mut body = vec![0; (len == head.len && len <= MAX_RECORD).then_some(len as usize)?];
        self.read_at(head.body(), &mut body).ok().map(|()| body)
    }
}

/// A part of the file, from its start on.
struct Section<'a> {
    file: &'a Storage,
    range: Range<u64>,
    refused: Option<ReadError>,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = (self.range.end - self.range.start).min(into.len() as u64) as usize;
        self.file.read_exact_at(&mut into[..wanted], self.range.start).map_err(|error| {
            self.refused = Some(error.clone());
            io::Error::from(error)
        })?;
        self.range.start += wanted as u64;
        Ok(wanted)
    }
}

/// Head of a record in a run of them.
pub(crate) struct Head {
    op: u8,
    /// Where the record begins.
    at: u64,
    /// Bytes behind the head.
    len: u64,
    /// What the head of a message would be; zeros where the record is shorter.
    message: [u8; MESSAGE_HEAD],
}

impl Head {
    /// That of the record at `at`, however much of the record is there.
    fn read(bytes: &Bytes, at: u64) -> Option<Self> {
        let mut begins = [0; RECORD_HEAD + MESSAGE_HEAD];
        let there = bytes.read_up_to(at, &mut begins).ok()?;
        let (&op, rest) = begins.split_first().filter(|_| there >= RECORD_HEAD)?;
        let (len, message) = rest.split_first_chunk().expect("eight bytes");
        let len = u64::from_le_bytes(*len);
        let message = message.try_into().expect("a message's head");
        // No record has opcode 0; zeros are what a disk has where nothing was written.
        let sane = op != 0 && at.checked_add(RECORD_HEAD as u64)?.checked_add(len).is_some();
        sane.then_some(Self { op, at, len, message })
    }

    fn body(&self) -> u64 {
        self.at + RECORD_HEAD as u64
    }

    fn end(&self) -> u64 {
        self.body() + self.len
    }
}

/// The whole records of a chunk; ends before the first that is cut short or is none.
fn records(bytes: &Bytes) -> impl Iterator<Item = Head> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = Head::read(bytes, at).filter(|head| head.end() <= bytes.len())?;
        at = head.end();
        Some(head)
    })
}

/// Opcode, body, and what follows of the record that `bytes` begin with.
fn split_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD>()?;
    let len = u64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
    let (body, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((head[0], body, rest))
}

impl Container {
    /// By the summary where there is one that can be true, otherwise by walking.
    pub fn open(file: Arc<Storage>) -> io::Result<Self> {
        let len = file.len()?;
        let mut container = Self::empty(file, len, Found::Indexed);
        match container.summary_bytes().and_then(|bytes| container.take_summary(&bytes)) {
            Ok(()) if container.chunks.is_empty() => {
                container.found = Found::Walked;
                container.scan(false);
                container.walk_unindexed();
            }
            Ok(()) => container.walk_unindexed(),
            Err(why) => container = container.scanned(why, true),
        }
        Ok(container)
    }

    fn empty(file: Arc<Storage>, len: u64, found: Found) -> Self {
        let (topics, counts) = (BTreeMap::new(), BTreeMap::new());
        Self { file, len, chunks: Vec::new(), topics, found, counts, looked_in: 0, mended: Mended::default() }
    }

    /// The records of the summary.
    fn summary_bytes(&self) -> Result<Vec<u8>, String> {
        let mut tail = [0; TAIL];
        let tail_at = self.len.checked_sub(TAIL as u64).ok_or_else(|| "it has no footer".to_owned())?;
        let io = |error: ReadError| error.to_string();
        self.file.read_exact_at(&mut tail, tail_at).map_err(io)?;
        let footer = split_record(&tail).filter(|(op, _, rest)| *op == op::FOOTER && *rest == mcap::MAGIC);
        let footer = footer.and_then(|(op, body, _)| mcap::parse_record(op, body).ok());
        let Some(Record::Footer(footer)) = footer else {
            return Err("it has no footer".to_owned());
        };
        let start = footer.summary_start;
        if start == 0 {
            return Err("it has no summary".to_owned());
        }
        let len = tail_at.checked_sub(start).filter(|&len| len <= MAX_RECORD);
        let len = len.ok_or_else(|| {
            format!("its footer has the summary at {start}, which cannot be in {} bytes", self.len)
        })?;
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(io)?;
        // The sum is of the summary and of the footer up to the sum.
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes);
        sum.update(&tail[..RECORD_HEAD + FOOTER - 4]);
        if footer.summary_crc != 0 && footer.summary_crc != sum.finalize() {
            return Err("the checksum of its summary is wrong".to_owned());
        }
        Ok(bytes)
    }

    /// Without chunks where it says that there are none.
    fn take_summary(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (mut rest, mut unchunked) = (bytes, false);
        while !rest.is_empty() {
            let broken =
                || format!("its summary is broken at {} of {} bytes", bytes.len() - rest.len(), bytes.len());
            let (opcode, body, after) = split_record(rest).ok_or_else(broken)?;
            if matches!(opcode, op::CHUNK_INDEX | op::CHANNEL | op::STATISTICS) {
                match mcap::parse_record(opcode, body).map_err(|_| broken())? {
                    Record::ChunkIndex(index) => {
                        self.chunks.push(Chunk::of(&index, self.len).ok_or_else(|| {
                            format!("its index of the chunk at {} cannot be true", index.chunk_start_offset)
                        })?)
                    }
                    Record::Channel(channel) => drop(self.topics.insert(channel.id, channel.topic)),
                    Record::Statistics(statistics) => {
                        unchunked = statistics.chunk_count == 0;
                        self.counts = statistics.channel_message_counts;
                    }
                    _ => {}
                }
            }
            rest = after;
        }
        let indexed = !self.chunks.is_empty() || unchunked && !self.counts.is_empty();
        if !indexed || self.topics.is_empty() {
            return Err("its summary has no index of chunks".to_owned());
        }
        self.chunks.sort_by_key(|chunk| chunk.data.start);
        if let Some(pair) = self.chunks.windows(2).find(|pair| pair[0].end() > pair[1].data.start) {
            return Err(format!("its index has a chunk at {} inside another", pair[1].data.start));
        }
        Ok(())
    }

    /// Walks through the file, as its summary cannot be relied on; nor can the indexes behind chunks, unless `trusted`.
    pub fn scanned(&self, why: String, trusted: bool) -> Self {
        let mut scanned = Self::empty(self.file.clone(), self.len, Found::Scanned(why));
        scanned.scan(trusted);
        scanned.walk_unindexed();
        scanned
    }

    fn scan(&mut self, trusted: bool) {
        let bytes = Bytes::File(self.file.clone(), 0..self.len);
        let mut at = mcap::MAGIC.len() as u64;
        // Where messages outside of chunks began.
        let mut loose = None;
        let mut last = 0;
        while let Some(head) = Head::read(&bytes, at) {
            last = head.op;
            match head.op {
                op::FOOTER | op::DATA_END => break,
                op::CHUNK => {
                    self.chunks.extend(loose.take().map(|start| Chunk::of_loose(start..at)));
                    let Some(chunk) = self.chunk_at(&bytes, &head) else { break };
                    self.chunks.push(chunk);
                }
                op::MESSAGE_INDEX if trusted => self.add_index(&bytes, &head),
                op::CHANNEL => self.topics.extend(channel(&bytes, &head)),
                op::MESSAGE => loose = loose.or(Some(at)),
                _ => {}
            }
            at = head.end();
        }
        self.chunks.extend(loose.map(|start| Chunk::of_loose(start..at.min(self.len))));
        // Where the file ends in or behind an index, others of the chunk may be missing.
        if let Some(chunk) = self.chunks.last_mut()
            && last == op::MESSAGE_INDEX
        {
            chunk.indexes = None;
        }
    }

    /// Walks through the chunks that have no indexes, and makes the channels of their messages known.
    fn walk_unindexed(&mut self) {
        for chunk in 0..self.chunks.len() {
            if self.chunks[chunk].indexes.is_some() {
                continue;
            }
            if self.chunks[chunk].walked.is_none() {
                self.look_in(chunk);
            }
            let walked = self.chunks[chunk].walked.iter().flatten();
            for channel in walked.map(|entry| entry.channel).collect::<BTreeSet<_>>() {
                self.look_for(channel, chunk);
            }
        }
    }

    /// The chunk of a record, of which the end may be missing.
    fn chunk_at(&self, bytes: &Bytes, head: &Head) -> Option<Chunk> {
        let mut fixed = [0; CHUNK_HEAD];
        bytes.read_at(head.body(), &mut fixed).ok()?;
        let uncompressed = u64::from_le_bytes(fixed[16..24].try_into().expect("eight bytes"));
        let name_len = u32::from_le_bytes(fixed[28..32].try_into().expect("four bytes"));
        let mut name = vec![0; usize::try_from(name_len).ok().filter(|&len| len <= 32)?];
        let name_at = head.body() + CHUNK_HEAD as u64;
        bytes.read_at(name_at, &mut name).ok()?;
        let data_at = name_at + u64::from(name_len) + 8;
        Some(Chunk {
            data: data_at..head.end().min(self.len).max(data_at),
            uncompressed,
            compression: Compression::of(&String::from_utf8_lossy(&name)),
            indexes: None,
            looked_in: false,
            walked: None,
            sum_at: Some(head.body() + CHUNK_SUM as u64),
        })
    }

    fn add_index(&mut self, bytes: &Bytes, head: &Head) {
        let Some(chunk) = self.chunks.last_mut().filter(|_| head.end() <= bytes.len()) else { return };
        let start = chunk.indexes.as_ref().map_or(head.at, |range| range.start);
        chunk.indexes = Some(start..head.end());
        let [low, high, ..] = head.message;
        self.look_for(u16::from_le_bytes([low, high]), self.chunks.len() - 1);
    }

    /// Makes the channel known, which was declared in a chunk or in one before it.
    fn look_for(&mut self, channel: u16, chunk: usize) {
        for before in (self.looked_in..=chunk).rev() {
            if self.topics.contains_key(&channel) {
                return;
            }
            if !self.chunks[before].looked_in {
                self.look_in(before);
            }
        }
        // Those who look for a channel that is declared nowhere need not come here again.
        self.looked_in = self.looked_in.max(chunk + 1);
    }

    /// Walks through a chunk: for its channels, where they are not known, and for its messages, where no index has them.
    fn look_in(&mut self, chunk: usize) {
        let known = std::mem::replace(&mut self.chunks[chunk].looked_in, true);
        let indexed = self.chunks[chunk].indexes.is_some();
        let mut topics = Vec::new();
        let Walk { entries: walked, .. } = self.walk(chunk, |bytes, head| {
            if head.op == op::CHANNEL && !known {
                topics.extend(channel(bytes, head));
            }
        });
        self.topics.extend(topics);
        self.chunks[chunk].walked = (!indexed).then_some(walked);
    }

    /// The messages that a chunk's records have, and each record that is none to `other`.
    pub(crate) fn walk(&self, chunk: usize, mut other: impl FnMut(&Bytes, &Head)) -> Walk {
        let mut walk = Walk { entries: Vec::new(), whole: false };
        // Chunks that cannot be decompressed have no messages that anybody could name.
        let (Ok(bytes), Ok(number)) = (self.bytes(chunk), u32::try_from(chunk)) else { return walk };
        let mut end = 0;
        for head in records(&bytes) {
            end = head.end();
            if head.op != op::MESSAGE {
                other(&bytes, &head);
            } else if head.len >= MESSAGE_HEAD as u64 {
                let MessageHead { channel, log_time } = MessageHead::parse(&head.message);
                walk.entries.push(Entry { time_ns: log_time, offset: head.at, chunk: number, channel });
            }
        }
        walk.entries.shrink_to_fit();
        walk.whole = end == self.chunks[chunk].uncompressed;
        walk
    }

    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Where the data of a chunk begins in the file.
    pub fn chunk_at_file(&self, chunk: usize) -> u64 {
        self.chunks[chunk].data.start
    }

    /// Bytes of a chunk, decompressed, as its header says.
    pub fn chunk_len(&self, chunk: usize) -> u64 {
        self.chunks[chunk].uncompressed
    }

    pub fn is_chunk_indexed(&self, chunk: usize) -> bool {
        self.chunks[chunk].indexes.is_some()
    }

    /// Whether reading a part of the chunk costs no more than that part.
    pub fn is_chunk_plain(&self, chunk: usize) -> bool {
        self.chunks[chunk].compression == Compression::None
    }

    /// The bytes of a chunk, or as many as can be had.
    fn bytes(&self, chunk: usize) -> Result<Bytes, Fault> {
        self.bytes_in(chunk, None)
    }

    /// Like [`bytes`](Self::bytes), decompressed into the memory of bytes that nobody needs any more.
    pub fn bytes_in(&self, chunk: usize, spare: Option<Bytes>) -> Result<Bytes, Fault> {
        let chunk = &self.chunks[chunk];
        if chunk.compression == Compression::None {
            return Ok(Bytes::File(self.file.clone(), chunk.data.clone()));
        }
        if chunk.uncompressed > MAX_CHUNK {
            let what =
                format!("a chunk says that it has {} bytes: more than {MAX_CHUNK}", chunk.uncompressed);
            return Err(Fault::Data(what));
        }
        let mut compressed = Section { file: &self.file, range: chunk.data.clone(), refused: None };
        let failed = |error: io::Error| Fault::Data(error.to_string());
        let mut decoder: Box<dyn Read> = match chunk.compression {
            Compression::Lz4 => Box::new(lz4::Decoder::new(&mut compressed).map_err(failed)?),
            Compression::Zstd => Box::new(zstd::Decoder::new(&mut compressed).map_err(failed)?),
            Compression::None | Compression::Unknown => {
                let what = "a chunk is compressed neither by LZ4 nor by Zstandard";
                return Err(Fault::Data(what.to_owned()));
            }
        };
        // Memory that was used before is not paid for again, and more is asked for as it is filled: what a chunk says of
        // its size may be a lie.
        let mut bytes = match spare {
            Some(Bytes::Memory(bytes)) => Arc::try_unwrap(bytes).unwrap_or_default(),
            _ => Vec::new(),
        };
        let most = chunk.uncompressed as usize;
        let mut filled = 0;
        loop {
            if filled == bytes.len() {
                bytes.resize(most.min((2 * filled).max(PIECE as usize)), 0);
            }
            let end = bytes.len().min(most);
            // What was decompressed before an error is as good as ever.
            match decoder.read(&mut bytes[filled..end]) {
                Ok(more @ 1..) => filled += more,
                Ok(0) | Err(_) => break,
            }
        }
        drop(decoder);
        if let Some(refused) = compressed.refused {
            return Err(refused.into());
        }
        bytes.truncate(filled);
        Ok(Bytes::Memory(Arc::new(bytes)))
    }

    /// The messages of these channels, which are in order, in a chunk, in the file's order; by its records where it has no
    /// index, or one that is none.
    pub fn entries(&self, chunk: usize, channels: &[u16], into: &mut Vec<Entry>) {
        let before = into.len();
        let wanted = |channel: u16| channels.binary_search(&channel).is_ok();
        if !self.is_chunk_indexed(chunk) {
            let walked = self.chunks[chunk].walked.iter().flatten();
            into.extend(walked.filter(|entry| wanted(entry.channel)));
        } else if let Err(lie) = self.said_by_index(chunk, wanted, into) {
            into.truncate(before);
            let walk = self.found_without_index(chunk, &lie);
            into.extend(walk.entries.iter().filter(|entry| wanted(entry.channel)));
        }
    }

    /// The messages of a chunk that its index has, of the channels that are wanted, in the file's order.
    ///
    /// # Errors
    /// It has no index, or what should be one is none.
    pub(crate) fn said_by_index(
        &self,
        chunk: usize,
        wanted: impl Fn(u16) -> bool,
        into: &mut Vec<Entry>,
    ) -> Result<(), String> {
        let before = into.len();
        let number = u32::try_from(chunk).map_err(|_| format!("{chunk} chunks are too many"))?;
        let Chunk { indexes: Some(range), uncompressed, .. } = &self.chunks[chunk] else {
            return Err(format!("chunk {chunk} has no index of messages"));
        };
        let lies = || format!("the index of messages at {} of the file is none", range.start);
        let mut index = Bytes::File(self.file.clone(), range.clone());
        // One read is faster than one for each record; long ones can be lies, or mostly the IMU's.
        if index.len() <= PIECE {
            let mut block = vec![0; index.len() as usize];
            index.read_at(0, &mut block).map_err(|_| lies())?;
            index = Bytes::Memory(Arc::new(block));
        }
        let mut at = 0;
        while at < index.len() {
            let head = Head::read(&index, at).ok_or_else(lies)?;
            if head.op != op::MESSAGE_INDEX || head.end() > index.len() {
                return Err(lies());
            }
            let [low, high, ..] = head.message;
            let channel = u16::from_le_bytes([low, high]);
            if wanted(channel) {
                let body = index.body(&head).ok_or_else(lies)?;
                let record = mcap::parse_record(head.op, &body).map_err(|_| lies())?;
                let Record::MessageIndex(MessageIndex { records, .. }) = record else { return Err(lies()) };
                into.extend(records.iter().map(|message| Entry {
                    time_ns: message.log_time,
                    offset: message.offset,
                    chunk: number,
                    channel,
                }));
            }
            at = head.end();
        }
        let entries = &mut into[before..];
        entries.sort_by_key(|entry| entry.offset);
        let twice = entries.windows(2).any(|pair| pair[0].offset == pair[1].offset);
        let beyond = entries.last().is_some_and(|last| last.offset >= *uncompressed);
        if twice || beyond { Err(lies()) } else { Ok(()) }
    }

    /// The messages of these channels, which are in order, in the file's order.
    pub fn all_entries(&self, channels: &[u16]) -> Vec<Entry> {
        let mut entries = Vec::new();
        for chunk in 0..self.chunks.len() {
            self.entries(chunk, channels, &mut entries);
        }
        entries.shrink_to_fit();
        entries
    }

    /// How many messages each channel has, by the indexes and by walking.
    pub fn count(&self) -> BTreeMap<u16, u64> {
        let channels: Vec<u16> = self.topics.keys().copied().collect();
        let (mut counts, mut entries) = (BTreeMap::new(), Vec::new());
        for chunk in 0..self.chunks.len() {
            entries.clear();
            self.entries(chunk, &channels, &mut entries);
            entries.iter().for_each(|entry| *counts.entry(entry.channel).or_default() += 1);
        }
        counts
    }

    /// The channels of a topic, in order: files that were put together, or announce a topic anew, have several.
    pub fn channels(&self, topic: &str) -> Vec<u16> {
        self.topics.iter().filter(|(_, name)| *name == topic).map(|(&channel, _)| channel).collect()
    }

    /// How many messages these channels have, where the file says so of any of them.
    pub fn said(&self, channels: &[u16]) -> Option<u64> {
        channels.iter().filter_map(|channel| self.counts.get(channel).copied()).reduce(u64::saturating_add)
    }

    /// Whether these channels have messages, as far as the file says how many.
    pub fn has_messages(&self, channels: &[u16]) -> bool {
        self.counts.is_empty() || self.said(channels).is_some_and(|said| said > 0)
    }

    /// Bytes of memory for the places of the chunks, what walking through some found, and what was mended.
    pub fn memory(&self) -> usize {
        let walked = self.chunks.iter().filter_map(|chunk| chunk.walked.as_deref());
        size_of_val(self.chunks.as_slice()) + walked.map(size_of_val).sum::<usize>() + self.mended.memory()
    }

    /// What is wrong with the bytes of a chunk, where a checksum of them was written.
    pub fn fault(&self, chunk: usize) -> Option<String> {
        let said = self.sum_of(chunk)?;
        let at = self.chunk_at_file(chunk);
        let bytes = said.and_then(|said| Ok((said, self.bytes(chunk)?)));
        let changed = bytes.and_then(|(said, bytes)| self.changed(chunk, said, &bytes));
        changed.unwrap_or_else(|fault| Some(format!("the chunk at {at} of the file: {fault}")))
    }

    /// What is wrong with these bytes of a chunk. Faults of reading its checksum are nobody's who has the bytes.
    pub fn fault_of(&self, chunk: usize, bytes: &Bytes) -> Option<String> {
        self.changed(chunk, self.sum_of(chunk)?.ok()?, bytes).ok().flatten()
    }

    /// The checksum that a chunk was written with; `None` where there is none.
    fn sum_of(&self, chunk: usize) -> Option<Result<u32, Fault>> {
        let mut said = [0; 4];
        let read = self.file.read_exact_at(&mut said, self.chunks[chunk].sum_at?);
        let said = read.map(|()| u32::from_le_bytes(said)).map_err(Fault::from);
        (!matches!(said, Ok(0))).then_some(said)
    }

    fn changed(&self, chunk: usize, said: u32, bytes: &Bytes) -> Result<Option<String>, Fault> {
        let (at, wanted, len) = (self.chunk_at_file(chunk), self.chunk_len(chunk), bytes.len());
        if len != wanted {
            return Ok(Some(format!("the chunk at {at} of the file has {len} of {wanted} bytes")));
        }
        let sum = bytes.sum()?;
        let what = || {
            format!(
                "the chunk at {at} of the file has the checksum {sum:08x}, and was written with {said:08x}"
            )
        };
        Ok((sum != said).then(what))
    }

    /// Where the file has a message; `None` where its chunk is compressed.
    pub fn offset(&self, entry: &Entry) -> Option<u64> {
        let chunk = &self.chunks[entry.chunk as usize];
        let there =
            chunk.compression == Compression::None && entry.offset < chunk.data.end - chunk.data.start;
        there.then(|| chunk.data.start + entry.offset)
    }

    /// The first read that the system refused.
    pub fn refused(&self) -> Option<&ReadError> {
        self.file.refused()
    }

    /// Whether anything was found by an index, which may lie.
    pub fn is_indexed(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.indexes.is_some())
    }
}

/// Number and topic of a record of a channel.
fn channel(bytes: &Bytes, head: &Head) -> Option<(u16, String)> {
    match mcap::parse_record(head.op, &bytes.body(head)?) {
        Ok(Record::Channel(channel)) => Some((channel.id, channel.topic)),
        _ => None,
    }
}

/// What a message says of itself.
pub(crate) struct MessageHead {
    pub channel: u16,
    pub log_time: u64,
}

impl MessageHead {
    pub fn parse(bytes: &[u8; MESSAGE_HEAD]) -> Self {
        Self {
            channel: u16::from_le_bytes([bytes[0], bytes[1]]),
            log_time: u64::from_le_bytes(bytes[6..14].try_into().expect("eight bytes")),
        }
    }
}
