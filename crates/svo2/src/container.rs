// SPDX-License-Identifier: MPL-2.0

//! MCAP below a recording: where its chunks lie, what their messages are, and bytes out of them.
//!
//! Where a summary is, nothing but it and the message indexes is read. Where it is not, or lies, the records are walked:
//! from chunk to chunk, and inside those that have no index behind them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use mcap::records::{Record, op};
use mcap::sans_io::{SummaryReadEvent, SummaryReader, SummaryReaderOptions};

/// Opcode and length of a record.
pub(crate) const RECORD_HEAD: u64 = 1 + 8;
/// Channel, sequence number, log time and publish time of a message.
pub(crate) const MESSAGE_HEAD: u64 = 2 + 4 + 8 + 8;
/// What stands in a chunk before the name of its compression, and the length of that name.
const CHUNK_HEAD: usize = 8 + 8 + 8 + 4 + 4;
/// Chunks beyond this are taken for damage: they would have to be held in memory.
const MAX_CHUNK: u64 = 1 << 30;
/// Summaries and channel records beyond this are taken for damage.
const MAX_RECORD: usize = 1 << 28;

/// How a chunk's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
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
pub(crate) struct Chunk {
    /// Where its data lie, as far as the file reaches.
    data: Range<u64>,
    /// Bytes after decompression, as its header says.
    uncompressed: u64,
    compression: Compression,
    /// Where the message indexes of this chunk lie; `None` where none are.
    indexes: Option<Range<u64>>,
}

/// A message of the wanted channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub time_ns: u64,
    /// Of the record, in the chunk's decompressed bytes.
    pub offset: u64,
    /// Index of the chunk.
    pub chunk: u32,
}

/// How the messages were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// By the file's own indexes.
    Indexed,
    /// By walking through the file, for the reason given.
    Scanned(String),
}

/// The file, and where everything lies in it.
pub(crate) struct Container {
    file: Arc<File>,
    len: u64,
    chunks: Vec<Chunk>,
    /// Topics by channel.
    pub topics: BTreeMap<u16, String>,
    pub found: Found,
    /// How many messages the channels have, where the file says so.
    pub counts: BTreeMap<u16, u64>,
}

/// Why the summary does not serve.
enum Unusable {
    Io(io::Error),
    Summary(String),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn no_summary(why: String) -> Result<(), Unusable> {
    Err(Unusable::Summary(why))
}

/// Bytes of one chunk, decompressed where they had to be.
#[derive(Clone)]
pub(crate) enum Bytes {
    File(Arc<File>, Range<u64>),
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
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|&end| end <= self.len());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match self {
            Self::File(file, range) => file.read_exact_at(into, range.start + offset),
            Self::Memory(bytes) => {
                into.copy_from_slice(&bytes[offset as usize..end as usize]);
                Ok(())
            }
        }
    }
}

/// Head of a record in a run of them.
struct Head {
    op: u8,
    /// Where the record begins.
    at: u64,
    /// Bytes behind the head.
    len: u64,
}

impl Head {
    fn body(&self) -> u64 {
        self.at + RECORD_HEAD
    }

    fn end(&self) -> u64 {
        self.body() + self.len
    }
}

/// The whole records from `at` on; ends before the first that is cut short or is none.
fn records(bytes: &Bytes, mut at: u64) -> impl Iterator<Item = Head> {
    std::iter::from_fn(move || {
        let head = head(bytes, at).filter(|head| head.end() <= bytes.len())?;
        at = head.end();
        Some(head)
    })
}

/// Opcode and length at `at`, however much of the record is there.
fn head(bytes: &Bytes, at: u64) -> Option<Head> {
    let mut head = [0; RECORD_HEAD as usize];
    bytes.read_at(at, &mut head).ok()?;
    let len = u64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
    let sane = head[0] != 0 && at.checked_add(RECORD_HEAD)?.checked_add(len).is_some();
    sane.then_some(Head { op: head[0], at, len })
}

fn parsed(bytes: &Bytes, head: &Head) -> Option<Record<'static>> {
    let len = usize::try_from(head.len).ok().filter(|&len| len <= MAX_RECORD)?;
    let mut body = vec![0; len];
    bytes.read_at(head.body(), &mut body).ok()?;
    mcap::parse_record(head.op, &body).ok().map(Record::into_owned)
}

impl Container {
    /// By the summary where there is one that can be true, otherwise by walking.
    pub fn open(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let mut container = Self {
            file: Arc::new(file),
            len,
            chunks: Vec::new(),
            topics: BTreeMap::new(),
            found: Found::Indexed,
            counts: BTreeMap::new(),
        };
        match container.read_summary() {
            Ok(()) => Ok(container),
            Err(Unusable::Io(error)) => Err(error),
            Err(Unusable::Summary(why)) => {
                container.scan(why, true);
                Ok(container)
            }
        }
    }

    fn read_summary(&mut self) -> Result<(), Unusable> {
        let len = self.len;
        let options =
            SummaryReaderOptions::default().with_file_size(len).with_record_length_limit(MAX_RECORD);
        let mut reader = SummaryReader::new_with_options(options);
        let mut input = self.file.as_ref();
        while let Some(event) = reader.next_event() {
            match event {
                Ok(SummaryReadEvent::ReadRequest(wanted)) => {
                    let wanted = wanted.min(MAX_RECORD);
                    let read = input.read(reader.insert(wanted))?;
                    reader.notify_read(read);
                }
                Ok(SummaryReadEvent::SeekRequest(to)) => match input.seek(to) {
                    Ok(at) => reader.notify_seeked(at),
                    Err(error) => return no_summary(format!("its footer leads nowhere ({error})")),
                },
                Err(error) => return no_summary(format!("it has no readable footer and summary ({error})")),
            }
        }
        let Some(summary) = reader.finish() else {
            return no_summary("it has no summary".to_owned());
        };
        if summary.chunk_indexes.is_empty() || summary.channels.is_empty() {
            return no_summary("its summary has no index of chunks".to_owned());
        }
        self.chunks.reserve_exact(summary.chunk_indexes.len());
        for index in &summary.chunk_indexes {
            let start = index.chunk_start_offset;
            let end = start.checked_add(index.chunk_length).filter(|&end| end <= len);
            let indexes = end.and_then(|end| Some(end..end.checked_add(index.message_index_length)?));
            let data = index
                .compressed_data_offset()
                .ok()
                .and_then(|start| Some(start..start.checked_add(index.compressed_size)?));
            let (Some(indexes), Some(data)) = (indexes, data) else {
                return no_summary(format!("its index has a chunk at {start} that the {len} bytes have not"));
            };
            if indexes.end > len || data.end > indexes.start {
                return no_summary(format!("its index of the chunk at {start} cannot be true"));
            }
            self.chunks.push(Chunk {
                data,
                uncompressed: index.uncompressed_size,
                compression: Compression::of(&index.compression),
                indexes: (!indexes.is_empty()).then_some(indexes),
            });
        }
        // Frames lie in the file in the order of the bitstream.
        self.chunks.sort_by_key(|chunk| chunk.data.start);
        self.topics = summary.channels.iter().map(|(&id, channel)| (id, channel.topic.clone())).collect();
        self.counts = summary.stats.map(|stats| stats.channel_message_counts).unwrap_or_default();
        Ok(())
    }

    /// Walks through the file, as its summary cannot be relied on; nor can the indexes behind chunks, unless `trusted`.
    pub fn scan(&mut self, why: String, trusted: bool) {
        self.chunks.clear();
        self.topics.clear();
        self.counts.clear();
        self.found = Found::Scanned(why);
        let bytes = Bytes::File(self.file.clone(), 0..self.len);
        let mut at = mcap::MAGIC.len() as u64;
        let mut loose_messages = false;
        while let Some(head) = head(&bytes, at) {
            match head.op {
                op::FOOTER | op::DATA_END => break,
                op::CHUNK => match self.chunk_at(&bytes, &head) {
                    Some(chunk) => self.chunks.push(chunk),
                    None => break,
                },
                op::MESSAGE_INDEX if trusted => self.add_index(&bytes, &head),
                op::CHANNEL => self.add_channel(&bytes, &head),
                op::MESSAGE => loose_messages = true,
                _ => {}
            }
            at = head.end();
        }
        if loose_messages {
            let data = mcap::MAGIC.len() as u64..self.len;
            let uncompressed = data.end - data.start;
            self.chunks.push(Chunk { data, uncompressed, compression: Compression::None, indexes: None });
        }
        // The last chunk may be cut short, and then has no index.
        for chunk in 0..self.chunks.len() {
            if self.chunks[chunk].indexes.is_none() {
                self.add_channels_in(chunk);
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
        })
    }

    fn add_index(&mut self, bytes: &Bytes, head: &Head) {
        let mut id = [0; 2];
        let whole = head.end() <= self.len && bytes.read_at(head.body(), &mut id).is_ok();
        let Some(chunk) = self.chunks.last_mut().filter(|_| whole) else { return };
        let start = chunk.indexes.as_ref().map_or(head.at, |range| range.start);
        chunk.indexes = Some(start..head.end());
        if !self.topics.contains_key(&u16::from_le_bytes(id)) {
            self.add_channels_in(self.chunks.len() - 1);
        }
    }

    fn add_channels_in(&mut self, chunk: usize) {
        let mut topics = BTreeMap::new();
        if let Ok(bytes) = self.bytes(chunk) {
            for head in records(&bytes, 0).filter(|head| head.op == op::CHANNEL) {
                if let Some(Record::Channel(channel)) = parsed(&bytes, &head) {
                    topics.insert(channel.id, channel.topic);
                }
            }
        }
        self.topics.extend(topics);
    }

    fn add_channel(&mut self, bytes: &Bytes, head: &Head) {
        if let Some(Record::Channel(channel)) = parsed(bytes, head) {
            self.topics.insert(channel.id, channel.topic);
        }
    }

    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The bytes of a chunk, or as many as can be had.
    pub fn bytes(&self, chunk: usize) -> io::Result<Bytes> {
        let chunk = &self.chunks[chunk];
        if chunk.compression == Compression::None {
            return Ok(Bytes::File(self.file.clone(), chunk.data.clone()));
        }
        if chunk.uncompressed > MAX_CHUNK {
            let what =
                format!("a chunk says that it has {} bytes: more than {MAX_CHUNK}", chunk.uncompressed);
            return Err(io::Error::other(what));
        }
        let mut compressed = vec![0; (chunk.data.end - chunk.data.start) as usize];
        self.file.read_exact_at(&mut compressed, chunk.data.start)?;
        let mut bytes = Vec::new();
        // What was decompressed before an error is as good as ever.
        let _ = match chunk.compression {
            Compression::Lz4 => {
                lz4::Decoder::new(&compressed[..])?.take(chunk.uncompressed).read_to_end(&mut bytes)
            }
            Compression::Zstd => {
                zstd::Decoder::with_buffer(&compressed[..])?.take(chunk.uncompressed).read_to_end(&mut bytes)
            }
            Compression::None | Compression::Unknown => {
                return Err(io::Error::other("a chunk is compressed neither by LZ4 nor by Zstandard"));
            }
        };
        Ok(Bytes::Memory(Arc::new(bytes)))
    }

    /// The messages of a channel in a chunk, in the file's order.
    ///
    /// # Errors
    /// The index of the chunk is none.
    pub fn entries(&self, chunk: usize, channel: u16, into: &mut Vec<Entry>) -> Result<(), String> {
        let before = into.len();
        let number = u32::try_from(chunk).map_err(|_| format!("{chunk} chunks are too many"))?;
        let Chunk { indexes: Some(range), uncompressed, .. } = &self.chunks[chunk] else {
            self.walk(chunk, number, channel, into);
            return Ok(());
        };
        let lies = || format!("the index of messages at {} of the file is none", range.start);
        let mut block = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(&mut block, range.start).map_err(|_| lies())?;
        let mut rest = block.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<{ RECORD_HEAD as usize }>() {
            let len = u64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
            let body = usize::try_from(len).ok().and_then(|len| after.get(..len)).ok_or_else(lies)?;
            if head[0] != op::MESSAGE_INDEX {
                return Err(lies());
            }
            if body.starts_with(&channel.to_le_bytes()) {
                let Ok(Record::MessageIndex(index)) = mcap::parse_record(head[0], body) else {
                    return Err(lies());
                };
                into.extend(index.records.iter().map(|message| Entry {
                    time_ns: message.log_time,
                    offset: message.offset,
                    chunk: number,
                }));
            }
            rest = &after[body.len()..];
        }
        let entries = &mut into[before..];
        entries.sort_by_key(|entry| entry.offset);
        match entries.last() {
            Some(last) if last.offset >= *uncompressed => Err(lies()),
            _ => Ok(()),
        }
    }

    /// The messages of a channel, in the file's order.
    ///
    /// # Errors
    /// An index of messages is none.
    pub fn all_entries(&self, channel: u16) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        for chunk in 0..self.chunks.len() {
            self.entries(chunk, channel, &mut entries)?;
        }
        entries.shrink_to_fit();
        Ok(entries)
    }

    /// Whether anything was found by an index, which may lie.
    pub fn is_indexed(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.indexes.is_some())
    }

    fn walk(&self, chunk: usize, number: u32, channel: u16, into: &mut Vec<Entry>) {
        // Chunks that cannot be decompressed have no messages that anybody could name.
        let Ok(bytes) = self.bytes(chunk) else { return };
        let messages = records(&bytes, 0).filter(|head| head.op == op::MESSAGE);
        into.extend(messages.filter_map(|head| {
            let mut message = [0; MESSAGE_HEAD as usize];
            bytes.read_at(head.body(), &mut message).ok()?;
            let header = MessageHead::parse(&message);
            let entry = Entry { time_ns: header.log_time, offset: head.at, chunk: number };
            (header.channel == channel).then_some(entry)
        }));
    }
}

/// What a message says of itself.
pub(crate) struct MessageHead {
    pub channel: u16,
    pub log_time: u64,
}

impl MessageHead {
    pub fn parse(bytes: &[u8; MESSAGE_HEAD as usize]) -> Self {
        Self {
            channel: u16::from_le_bytes([bytes[0], bytes[1]]),
            log_time: u64::from_le_bytes(bytes[6..14].try_into().expect("eight bytes")),
        }
    }
}
