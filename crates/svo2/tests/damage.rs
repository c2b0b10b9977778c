// SPDX-License-Identifier: MPL-2.0

//! Files that are cut short, bent or lie: no panic, no hang, and every frame that is whole.

mod common;

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use common::{Film, START, open, scanned};
use mcap::records::op;
use proptest::prelude::*;
use svo2::{Codec, Found, Kind, Layout, OpenError, Reader, Recording, SensorReader, Sensors};

fn layouts() -> impl Iterator<Item = Layout> {
    let compressed = [None, Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)];
    let chunked = compressed.into_iter().map(|compression| Layout { compression, chunk_size: Some(500) });
    chunked.chain([Layout { compression: None, chunk_size: None }])
}

/// Where an uncompressed recording has the payloads of its frames.
fn payloads(film: &Film, bytes: &[u8]) -> Vec<Range<usize>> {
    let find = |number| {
        let unit = film.unit(number);
        let at = bytes.windows(unit.len()).position(|window| window == unit).unwrap();
        at..at + unit.len()
    };
    (0..film.frames).map(find).collect()
}

/// Where the records with this opcode have their bodies, outside of chunks.
fn bodies(bytes: &[u8], wanted: u8) -> Vec<usize> {
    let (mut at, mut found) = (8, Vec::new());
    while at < bytes.len() - 8 {
        if bytes[at] == wanted {
            found.push(at + 9);
        }
        at += 9 + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
    }
    found
}

/// A chunk of a whole file.
struct Chunk {
    /// Its record, without the message indexes behind it.
    bytes: Range<usize>,
    /// The frames in it.
    frames: Range<usize>,
}

fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let summary = mcap::Summary::read(bytes).unwrap().unwrap();
    let mut frame = 0;
    let chunks = summary.chunk_indexes.iter().map(|chunk| {
        let indexes = summary.read_message_indexes(bytes, chunk).unwrap();
        let before = frame;
        let of_video = indexes.iter().filter(|(channel, _)| channel.topic.ends_with("/side_by_side"));
        frame += of_video.map(|(_, index)| index.len()).sum::<usize>();
        let start = chunk.chunk_start_offset as usize;
        Chunk { bytes: start..start + chunk.chunk_length as usize, frames: before..frame }
    });
    chunks.collect()
}

fn put(bytes: &mut [u8], at: usize, value: impl AsRef<[u8]>) {
    bytes[at..at + value.as_ref().len()].copy_from_slice(value.as_ref());
}

/// Without the summary's checksum, as many writers have it.
fn unsummed(film: &Film) -> Vec<u8> {
    let mut bytes = film.bytes();
    let footer = bodies(&bytes, op::FOOTER)[0];
    put(&mut bytes, footer + 16, [0; 4]);
    bytes
}

#[test]
fn cut_anywhere_it_has_the_frames_that_are_whole() {
    for codec in [Codec::H264, Codec::H265] {
        for layout in layouts() {
            let film = Film { codec, frames: 6, distance: 5, len: 20, layout, ..Film::default() };
            let bytes = film.bytes();
            let uncompressed = film.layout.compression.is_none();
            let ends =
                uncompressed.then(|| payloads(&film, &bytes).into_iter().map(|payload| payload.end + 56));
            let ends = ends.map(Iterator::collect::<Vec<_>>);
            let chunks = chunks(&bytes);
            let mut before = 0;
            for len in 0..bytes.len() {
                let frames = match open(&bytes[..len]) {
                    Ok(recording) => {
                        assert!(!scanned(&recording).is_empty());
                        film.assert_begins(&recording);
                        recording.frames()
                    }
                    Err(OpenError::EmptyFile) if len == 0 => 0,
                    Err(OpenError::NotMcap { .. }) if len < 8 => 0,
                    Err(OpenError::NoVideo { .. } | OpenError::NoFrames { .. }) if len >= 8 => 0,
                    Err(error) => panic!("{len} of {} bytes: {error}", bytes.len()),
                };
                let context = format!("{len} of {} bytes, {:?}", bytes.len(), film.layout);
                if let Some(ends) = &ends {
                    assert_eq!(frames, ends.iter().filter(|&&end| end <= len).count(), "{context}");
                }
                // Of a chunk that was cut there may be more.
                let whole =
                    chunks.iter().filter(|chunk| chunk.bytes.end <= len).map(|chunk| chunk.frames.len());
                assert!(frames >= whole.sum::<usize>(), "{context}");
                assert!(frames >= before, "{context}");
                before = frames;
            }
            assert_eq!(before, film.frames);
        }
    }
}

#[test]
fn without_message_indexes_the_chunks_are_walked() {
    for compression in [None, Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)] {
        let film = Film { layout: Layout { compression, chunk_size: Some(2000) }, ..Film::default() };
        let whole = film.bytes();
        let mut out = std::io::Cursor::new(Vec::new());
        let options = mcap::WriteOptions::new().chunk_size(Some(2000)).compression(compression);
        let mut writer = options.emit_message_indexes(false).create(&mut out).unwrap();
        for message in mcap::MessageStream::new(&whole).unwrap() {
            writer.write(&message.unwrap()).unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        let recording = open(out.get_ref()).unwrap();
        assert_eq!(recording.found(), &Found::Indexed);
        film.assert_in(&recording);
    }
}

#[test]
fn chunks_without_indexes_are_walked_once() {
    for layout in layouts() {
        let film = Film { layout, ..Film::default() };
        let mut bytes = film.bytes();
        // Without a summary; and the indexes of messages are none.
        let indexes = bodies(&bytes, op::MESSAGE_INDEX);
        bytes.truncate(bodies(&bytes, op::DATA_END)[0] - 9);
        for at in indexes {
            bytes[at - 9] = 0x77;
        }
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let recording = Recording::from_file(file.try_clone().unwrap(), Path::new("a.svo2")).unwrap();
        // What was found is known, without another look.
        file.set_len(0).unwrap();
        assert_eq!(recording.frames(), film.frames);
        let video = recording.messages().find(|(topic, _)| topic.ends_with("/side_by_side")).unwrap();
        assert_eq!(video.1, film.frames as u64);
        let samples = SensorReader::new(recording.clone(), Sensors::Raw).unwrap();
        assert_eq!(samples.samples(), film.frames);
        assert!(recording.index_bytes() >= 2 * 24 * film.frames);
    }
}

/// What an index may say of a chunk that is not there.
const FAR: [u64; 4] = [1 << 20, 1 << 60, u64::MAX - 20, u64::MAX];

#[test]
fn an_index_of_chunks_that_lies_is_not_believed() {
    for layout in layouts().filter(|layout| layout.chunk_size.is_some()) {
        let film = Film { layout, ..Film::default() };
        let bytes = unsummed(&film);
        let chunks = bodies(&bytes, op::CHUNK_INDEX);
        assert!(chunks.len() > 3);
        let name = film.layout.compression.map_or(0, |compression| match compression {
            mcap::Compression::Lz4 => 3,
            _ => 4,
        });
        for chunk in [chunks[0], chunks[1], chunks[chunks.len() - 1]] {
            let map = u32::from_le_bytes(bytes[chunk + 32..chunk + 36].try_into().unwrap()) as usize;
            let sizes = chunk + 36 + map + 8 + 4 + name;
            // Chunk start, chunk length, length of its message indexes, compressed size.
            for field in [chunk + 16, chunk + 24, chunk + 36 + map, sizes] {
                for lie in FAR.into_iter().chain([0, 8, 9, 1000]) {
                    let mut lying = bytes.clone();
                    put(&mut lying, field, lie.to_le_bytes());
                    let recording = open(&lying).unwrap();
                    assert_eq!(recording.frames(), film.frames, "{} says {lie}", field - chunk);
                    let mut reader = Reader::new(recording.clone());
                    for frame in 0..film.frames {
                        if let Ok(unit) = reader.unit(frame) {
                            assert_eq!(unit, film.unit(frame));
                        }
                    }
                    // A chunk that is shorter than it was has whole messages all the same.
                    if field != sizes || lie > 1000 {
                        film.assert_in(&recording);
                    }
                }
            }
        }
    }
}

#[test]
fn a_footer_that_lies_is_not_believed() {
    let film = Film::default();
    let bytes = unsummed(&film);
    let footer = bodies(&bytes, op::FOOTER)[0];
    for lie in FAR.into_iter().chain([1, 8, footer as u64 - 9, footer as u64 - 30]) {
        let mut lying = bytes.clone();
        put(&mut lying, footer, lie.to_le_bytes());
        let recording = open(&lying).unwrap();
        // From byte 8 on is all of the file, of which the summary is a part.
        assert_eq!(recording.found() == &Found::Indexed, lie == 8, "{lie}: {:?}", recording.found());
        film.assert_in(&recording);
    }
    for (at, value) in [(footer - 9, 0x77), (footer + 20, 0), (footer - 8, 21)] {
        let mut broken = bytes.clone();
        broken[at] = value;
        let recording = open(&broken).unwrap();
        assert_eq!(scanned(&recording), "it has no footer");
        film.assert_in(&recording);
    }
    let mut summed = film.bytes();
    let summary = u64::from_le_bytes(summed[footer..footer + 8].try_into().unwrap()) as usize;
    summed[summary + 20] ^= 1;
    let recording = open(&summed).unwrap();
    assert_eq!(scanned(&recording), "the checksum of its summary is wrong");
    film.assert_in(&recording);
}

#[test]
fn an_index_of_messages_that_lies_costs_no_other_frame() {
    let film = Film::default();
    let bytes = unsummed(&film);
    let indexes = bodies(&bytes, op::MESSAGE_INDEX);
    let mut scans = 0;
    for &index in &indexes {
        // Channel; length; time and offset of the first message.
        for (at, lie) in
            [(0, 0xffff), (2, u64::from(u32::MAX)), (6, START + 7), (14, 3), (14, 1 << 60), (14, u64::MAX)]
        {
            let mut lying = bytes.clone();
            let width = [2, 4, 8][usize::from(at > 0) + usize::from(at > 2)];
            put(&mut lying, index + at, &lie.to_le_bytes()[..width]);
            let recording = open(&lying).unwrap();
            assert_eq!(recording.frames(), film.frames);
            scans += usize::from(recording.found() != &Found::Indexed || !recording.remarks(0).is_empty());
            let mut reader = Reader::new(recording.clone());
            let damaged = (0..film.frames).filter_map(|frame| match reader.unit(frame) {
                Ok(unit) => {
                    assert_eq!(unit, film.unit(frame));
                    None
                }
                Err(damage) => Some(damage.to_string()),
            });
            let damaged: Vec<_> = damaged.collect();
            assert!(damaged.len() <= 1, "{damaged:?}");
            assert!(damaged.iter().all(|what| what.contains("where the index has it")), "{damaged:?}");
        }
    }
    assert!(scans > indexes.len());
    // The same message twice.
    let two = indexes.iter().copied().find(|&at| bytes[at + 2..at + 6] >= 32u32.to_le_bytes()[..]).unwrap();
    let mut lying = bytes.clone();
    lying.copy_within(two + 6..two + 22, two + 22);
    film.assert_in(&open(&lying).unwrap());
}

#[test]
fn statistics_that_count_other_frames_are_not_believed() {
    let film = Film::default();
    let mut bytes = unsummed(&film);
    let statistics = bodies(&bytes, op::STATISTICS)[0];
    let count = (film.frames as u64).to_le_bytes();
    let at =
        statistics + 42 + bytes[statistics + 42..].windows(8).position(|window| window == count).unwrap();
    let last =
        statistics + 42 + bytes[statistics + 42..].windows(8).rposition(|window| window == count).unwrap();
    for at in [at, last] {
        put(&mut bytes, at, 41u64.to_le_bytes());
    }
    let recording = open(&bytes).unwrap();
    assert_eq!(scanned(&recording), "its statistics count 41 frames and its indexes 40");
    film.assert_in(&recording);
}

#[test]
fn a_chunk_that_says_it_is_huge_costs_no_memory() {
    for compression in [None, Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)] {
        let film = Film { layout: Layout { compression, chunk_size: Some(2000) }, ..Film::default() };
        let mut bytes = unsummed(&film);
        let chunks = bodies(&bytes, op::CHUNK);
        // Without the summary, which has the truth.
        bytes.truncate(bodies(&bytes, op::DATA_END)[0] - 9);
        for lie in FAR {
            put(&mut bytes, chunks[2] + 16, lie.to_le_bytes());
            let recording = open(&bytes).unwrap();
            if compression.is_none() {
                film.assert_in(&recording);
                continue;
            }
            let mut reader = Reader::new(recording.clone());
            let found = (0..recording.frames()).map(|frame| reader.unit(frame));
            let (units, damaged): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
            assert!(units.len() + 20 > film.frames);
            for what in damaged {
                assert!(what.unwrap_err().what.contains("more than 268435456"));
            }
        }
    }
}

#[test]
fn frames_with_wrong_sizes_are_damaged_and_others_are_not() {
    let film = Film::default();
    let good = film.bytes();
    let payloads = payloads(&film, &good);
    let len = payloads[20].len() as u32;
    for (at, lie, says) in [
        (
            8,
            len + 61,
            format!(
                "it says {} bytes with a payload of {len}, where its message has {} and {len}",
                len + 61,
                len + 60
            ),
        ),
        (
            4,
            len - 1,
            format!(
                "it says {} bytes with a payload of {}, where its message has {} and {len}",
                len + 60,
                len - 1,
                len + 60
            ),
        ),
        (
            4,
            u32::MAX,
            format!(
                "it says {} bytes with a payload of 4294967295, where its message has {} and {len}",
                len + 60,
                len + 60
            ),
        ),
    ] {
        let mut bytes = good.clone();
        put(&mut bytes, payloads[20].start - at, lie.to_le_bytes());
        let recording = open(&bytes).unwrap();
        let mut reader = Reader::new(recording.clone());
        let damage = reader.unit(20).unwrap_err();
        assert_eq!(damage.to_string(), format!("frame 20: {says}"));
        assert_eq!(reader.kind(20).unwrap_err(), damage);
        assert_eq!(recording.damaged(), 1);
        assert_eq!(reader.entry_from(20), Some(30), "the next key frame");
        for frame in (0..film.frames).filter(|&frame| frame != 20) {
            assert_eq!(reader.unit(frame).unwrap(), film.unit(frame));
        }
    }
    let mut bytes = good.clone();
    put(&mut bytes, payloads[15].start, *b"nothing of the codec");
    let recording = open(&bytes).unwrap();
    let damage = Reader::new(recording).unit(15).unwrap_err().to_string();
    assert!(damage.contains("are no H.264 access unit; they begin with 6e 6f 74"), "{damage}");
}

#[test]
fn what_the_system_does_not_read_is_no_damage() {
    for layout in layouts() {
        let film = Film { layout, ..Film::default() };
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&film.bytes(), 0).unwrap();
        let recording = Recording::from_file(file.try_clone().unwrap(), Path::new("a.svo2")).unwrap();
        let mut reader = Reader::new(recording.clone());
        let last = film.frames - 1;
        assert_eq!(reader.unit(last).unwrap(), film.unit(last));
        assert_eq!(recording.read_error(), None);
        let len = film.bytes().len() as u64 / 2;
        file.set_len(len).unwrap();
        let mut reader = Reader::new(recording.clone());
        let refused = (0..film.frames).find_map(|frame| match reader.unit(frame) {
            Ok(unit) => {
                assert_eq!(unit, film.unit(frame));
                None
            }
            Err(damage) => Some((frame, damage)),
        });
        let (frame, damage) = refused.expect("half of it is gone");
        assert!(frame > 0);
        let error = damage.unread.expect("it is the system's");
        assert_eq!(error.kind, std::io::ErrorKind::UnexpectedEof);
        assert!(error.offset + error.len as u64 > len, "{error:?}");
        assert_eq!(damage.what, error.to_string());
        assert_eq!(recording.read_error(), Some(&error));
        assert!(error.reason.starts_with(&format!("it has {len} bytes now")), "{error}");
        // Nothing is said of frames, and nothing more is looked for.
        assert_eq!((recording.damaged(), reader.entry_from(frame)), (0, None));
    }
}

/// Each frame in its place, those in `bent` as they are, or damaged.
fn assert_in_place(film: &Film, recording: &Arc<Recording>, bent: impl Fn(usize) -> bool) {
    assert_eq!(recording.frames(), film.frames);
    let mut reader = Reader::new(recording.clone());
    for frame in (0..film.frames).filter(|&frame| !bent(frame)) {
        assert_eq!(reader.unit(frame).unwrap(), film.unit(frame));
        assert_eq!(recording.unix_ns(frame), film.time(frame));
    }
}

#[test]
fn a_bent_record_of_the_first_or_last_frame_costs_no_other() {
    let film = Film::default();
    let good = film.bytes();
    let payloads = payloads(&film, &good);
    for (frame, next_key) in [(0, Some(15)), (film.frames - 1, None)] {
        // Opcode, length and channel of its message.
        let record = payloads[frame].start - 8 - 22 - 9;
        for bit in 0..8 * (1 + 8 + 2) {
            let mut bytes = good.clone();
            bytes[record + bit / 8] ^= 1 << (bit % 8);
            let recording = open(&bytes).unwrap();
            assert_in_place(&film, &recording, |at| at == frame);
            let mut reader = Reader::new(recording.clone());
            assert!(reader.unit(frame).is_err(), "bit {bit}");
            assert_eq!(recording.damaged(), 1);
            assert_eq!(reader.entry_from(frame.max(1)), next_key);
            assert_eq!(recording.found(), &Found::Indexed);
        }
    }
}

#[test]
fn a_bent_chunk_costs_no_frame_of_another() {
    for compression in [Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)] {
        let film = Film { layout: Layout { compression, chunk_size: Some(2000) }, ..Film::default() };
        let good = film.bytes();
        let chunks = chunks(&good);
        let mut refused = 0;
        for chunk in [&chunks[0], &chunks[chunks.len() - 1]] {
            assert!(!chunk.frames.is_empty());
            for at in chunk.bytes.clone() {
                let mut bytes = good.clone();
                bytes[at] ^= 0x10;
                match open(&bytes) {
                    Ok(recording) => assert_in_place(&film, &recording, |at| chunk.frames.contains(&at)),
                    // What is bent may be the header or the parameter sets.
                    Err(OpenError::Disagree { .. }) if chunk.frames.start == 0 => refused += 1,
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
        }
        assert!(refused * 10 < chunks[0].bytes.len(), "{refused}");
    }
}

#[test]
fn an_index_that_is_mostly_wrong_is_not_believed_though_it_has_more() {
    let film = Film::default();
    let mut bytes = unsummed(&film);
    let last = payloads(&film, &bytes)[film.frames - 1].start - 8 - 22 - 9;
    bytes[last] = 0x77;
    for index in bodies(&bytes, op::MESSAGE_INDEX) {
        let len = u32::from_le_bytes(bytes[index + 2..index + 6].try_into().unwrap()) as usize;
        for at in (index + 6..index + 6 + len).step_by(16) {
            bytes[at] ^= 1;
        }
    }
    let recording = open(&bytes).unwrap();
    assert!(scanned(&recording).contains("its statistics count 40 frames and its indexes 39"));
    Film { frames: film.frames - 1, ..film }.assert_in(&recording);
}

/// Bytes with a hole at `at`, which takes no room on the disk.
fn with_hole(bytes: &[u8], at: usize) -> Arc<Recording> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes[..at], 0).unwrap();
    file.write_all_at(&bytes[at..], at as u64 + HOLE).unwrap();
    Recording::from_file(file, Path::new("a.svo2")).unwrap()
}

const HOLE: u64 = 40 << 30;

fn grow(bytes: &mut [u8], at: usize) {
    let value = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    put(bytes, at, (value + HOLE).to_le_bytes());
}

#[test]
fn indexes_that_say_they_are_huge_cost_no_memory() {
    let film = Film::default();
    let mut bytes = unsummed(&film);
    let footer = bodies(&bytes, op::FOOTER)[0];
    grow(&mut bytes, footer);
    // The last chunk's message indexes take all that is before the summary.
    let chunk = *bodies(&bytes, op::CHUNK_INDEX).last().unwrap();
    let map = u32::from_le_bytes(bytes[chunk + 32..chunk + 36].try_into().unwrap()) as usize;
    grow(&mut bytes, chunk + 36 + map);
    let behind = bodies(&bytes, op::DATA_END)[0] + 4;
    let recording = with_hole(&bytes, behind);
    assert!(recording.remarks(0)[0].contains("the index of messages at"), "{:?}", recording.remarks(0));
    film.assert_in(&recording);
}

#[test]
fn messages_that_say_they_are_huge_cost_no_memory() {
    let film = Film { layout: Layout { compression: None, chunk_size: Some(1 << 20) }, ..Film::default() };
    let mut bytes = unsummed(&film);
    let chunk = chunks(&bytes)[0].bytes.clone();
    let footer = bodies(&bytes, op::FOOTER)[0];
    let index = bodies(&bytes, op::CHUNK_INDEX)[0];
    let map = u32::from_le_bytes(bytes[index + 32..index + 36].try_into().unwrap()) as usize;
    // The hole is the chunk's end: its length, its sizes; and where the summary begins.
    for at in [chunk.start + 1, index + 24, index + 36 + map + 8 + 4, index + 36 + map + 8 + 4 + 8, footer] {
        grow(&mut bytes, at);
    }
    // The header's message and the first sample's, by their records in the chunk.
    let mut at = chunk.start + 9 + 32 + 8;
    let mut lied = 0;
    while lied < 2 {
        let len = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap());
        if bytes[at] == op::MESSAGE {
            let len = chunk.end as u64 + HOLE - (at + 9) as u64;
            put(&mut bytes, at + 1, len.to_le_bytes());
            lied += 1;
        }
        at += 9 + len as usize;
    }
    let recording = with_hole(&bytes, chunk.end);
    assert_eq!(recording.found(), &Found::Indexed);
    let fault = recording.header_fault().unwrap();
    assert!(fault.contains("more than 268435456"), "{fault}");
    film.assert_in(&recording);
    let mut samples = SensorReader::new(recording, Sensors::Raw).unwrap();
    let all: Vec<_> = samples.between(0, u64::MAX).collect();
    assert_eq!(all.len(), film.frames);
    assert!(all[0].as_ref().unwrap_err().contains("more than 268435456"));
    assert!(all[1..].iter().all(Result::is_ok));
}

#[test]
fn channels_that_are_declared_nowhere_are_not_looked_for_again() {
    // Chunks without anything in them, and behind each an index of some channel.
    const CHUNKS: u32 = 1_000_000;
    let mut bytes = mcap::MAGIC.to_vec();
    for chunk in 0..CHUNKS {
        bytes.push(op::CHUNK);
        bytes.extend(40u64.to_le_bytes());
        bytes.extend([0; 40]);
        bytes.push(op::MESSAGE_INDEX);
        bytes.extend(6u64.to_le_bytes());
        bytes.extend((chunk as u16).to_le_bytes());
        bytes.extend([0; 4]);
    }
    // Otherwise each would be looked for in all chunks before it, for many minutes.
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(open(&bytes).is_err()));
    assert!(wait.recv_timeout(std::time::Duration::from_secs(100)).expect("it comes to an end"));
}

#[test]
fn message_indexes_without_the_video_are_no_reason_to_refuse_it() {
    let film = Film::default();
    let good = film.bytes();
    let summary = mcap::Summary::read(&good).unwrap().unwrap();
    let video = summary.channels.values().find(|channel| channel.topic.ends_with("/side_by_side")).unwrap();
    let mut bytes = good.clone();
    for at in bodies(&good, op::MESSAGE_INDEX) {
        if bytes[at..at + 2] == video.id.to_le_bytes() {
            put(&mut bytes, at, 999u16.to_le_bytes());
        }
    }
    let recording = open(&bytes).unwrap();
    assert_eq!(scanned(&recording), "its statistics count 40 frames and its indexes 0");
    film.assert_in(&recording);
    // Without the footer, and what counts them.
    bytes.truncate(bodies(&bytes, op::DATA_END)[0] - 9);
    bytes.extend(SCHEMA);
    let recording = open(&bytes).unwrap();
    assert_eq!(scanned(&recording), "its indexes have no frames");
    film.assert_in(&recording);
}

/// An empty record, so that a file does not end behind an index.
const SCHEMA: [u8; 9] = [op::SCHEMA, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn chunks_are_checked_by_their_checksums() {
    for layout in layouts() {
        let film = Film { layout, ..Film::default() };
        let good = film.bytes();
        assert_eq!(open(&good).unwrap().check_chunks().count(), 0);
        let Some(compression) = film.layout.chunk_size.map(|_| film.layout.compression) else { continue };
        let chunks = chunks(&good);
        let chunk = &chunks[chunks.len() / 2];
        let mut bytes = good.clone();
        let middle = chunk.bytes.start + chunk.bytes.len() / 2;
        bytes[middle] ^= 1;
        // With the summary and without.
        for len in [bytes.len(), bodies(&bytes, op::DATA_END)[0] - 9] {
            let found: Vec<_> = open(&bytes[..len]).unwrap().check_chunks().collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, chunk.frames);
            if compression.is_none() {
                assert!(found[0].1.contains("of the file has the checksum "), "{found:?}");
            }
        }
        // A sum of 0 is none.
        put(&mut bytes, chunk.bytes.start + 9 + 24, [0; 4]);
        assert_eq!(open(&bytes).unwrap().check_chunks().count(), 0);
    }
}

/// Of a recording that is bent anywhere, each frame is right, damaged, or one that was bent itself.
fn assert_tame(film: &Film, bytes: &[u8]) {
    let Ok(recording) = open(bytes) else { return };
    let mut reader = Reader::new(recording.clone());
    for frame in 0..recording.frames() {
        let (unit, kind) = (reader.unit(frame), reader.kind(frame));
        assert_eq!(unit.is_ok(), kind.is_ok());
        assert!(reader.entry_for(frame).is_none_or(|entry| entry <= frame));
        assert_eq!(recording.frame_at(recording.running_ns(frame)), frame);
    }
    assert!(recording.frames() <= film.frames + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bits_may_flip_anywhere(
        layout in prop::sample::select(layouts().collect::<Vec<_>>()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
        footless in any::<bool>(),
    ) {
        let film = Film { frames: 6, distance: 5, len: 20, layout, ..Film::default() };
        let mut bytes = if footless { unsummed(&film) } else { film.bytes() };
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        assert_tame(&film, &bytes);
    }

    #[test]
    fn flips_within_a_chunk_cost_no_frame_of_another(
        layout in prop::sample::select(
            layouts().filter(|layout| layout.chunk_size.is_some()).collect::<Vec<_>>()
        ),
        chunk in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
    ) {
        let film = Film { frames: 6, distance: 5, len: 20, layout, ..Film::default() };
        let mut bytes = film.bytes();
        let chunks = chunks(&bytes);
        let chunk = chunk.get(&chunks);
        for (at, bit) in flips {
            bytes[chunk.bytes.start + at.index(chunk.bytes.len())] ^= 1 << bit;
        }
        match open(&bytes) {
            Ok(recording) => assert_in_place(&film, &recording, |frame| chunk.frames.contains(&frame)),
            // The header or the parameter sets were bent.
            Err(OpenError::Disagree { .. }) => {
                prop_assert!(chunk.bytes == chunks[0].bytes || chunk.frames.contains(&0));
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn one_flip_behind_the_data_changes_no_frame(
        layout in prop::sample::select(layouts().collect::<Vec<_>>()),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let film = Film { frames: 6, distance: 5, len: 20, layout, ..Film::default() };
        let mut bytes = film.bytes();
        let end = bodies(&bytes, op::DATA_END)[0] - 9;
        let at = end + at.index(bytes.len() - end);
        bytes[at] ^= 1 << bit;
        let recording = open(&bytes).unwrap();
        let mut reader = Reader::new(recording.clone());
        prop_assert_eq!(recording.frames(), film.frames);
        for frame in 0..film.frames {
            prop_assert_eq!(reader.unit(frame).unwrap(), film.unit(frame));
            prop_assert_eq!(reader.kind(frame).unwrap() != Kind::Delta, film.is_key(frame));
        }
    }
}
