// SPDX-License-Identifier: MPL-2.0

//! What one lie, one bad sector, or another codec costs: no more than the frames that are in it; and each is remarked upon.

mod common;

use std::collections::BTreeMap;
use std::io::Cursor;

use common::{Film, PERIOD, SERIAL, START, open, scanned, unit};
use mcap::records::{MessageHeader, op};
use svo2::{Codec, Found, Kind, Layout, Reader, Recording, Writer};

fn compressions() -> [Option<mcap::Compression>; 3] {
    [None, Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)]
}

fn film(compression: Option<mcap::Compression>) -> Film {
    Film { layout: Layout { compression, chunk_size: Some(2000) }, frames: 60, ..Film::default() }
}

/// A chunk of a whole file, and what is about it.
struct Chunk {
    start: usize,
    /// Behind the message indexes.
    end: usize,
    /// Body of the message index of the video.
    index: usize,
    frames: std::ops::Range<usize>,
}

/// Those that have frames.
fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let summary = mcap::Summary::read(bytes).unwrap().unwrap();
    let is_video = |channel: u16| summary.channels[&channel].topic.ends_with("/side_by_side");
    let mut frame = 0;
    let chunks = summary.chunk_indexes.iter().filter_map(|chunk| {
        let (_, &index) = chunk.message_index_offsets.iter().find(|(channel, _)| is_video(**channel))?;
        let all = summary.read_message_indexes(bytes, chunk).unwrap();
        let here = all.iter().find(|(channel, _)| is_video(channel.id)).unwrap().1.len();
        let frames = frame..frame + here;
        frame += here;
        let start = chunk.chunk_start_offset as usize;
        let end = start + (chunk.chunk_length + chunk.message_index_length) as usize;
        Some(Chunk { start, end, index: index as usize + 9, frames })
    });
    chunks.collect()
}

type Lie = &'static dyn Fn(&mut u64, &mut u64);

/// Changes time and offset of each message that an index has.
fn bend(bytes: &mut [u8], index: usize, change: impl Fn(&mut u64, &mut u64)) {
    let len = u32::from_le_bytes(bytes[index + 2..index + 6].try_into().unwrap()) as usize;
    for entry in bytes[index + 6..index + 6 + len].chunks_mut(16) {
        let (time, offset) = entry.split_at_mut(8);
        let mut values = [&*time, &*offset].map(|value| u64::from_le_bytes(value.try_into().unwrap()));
        let [first, second] = &mut values;
        change(first, second);
        time.copy_from_slice(&values[0].to_le_bytes());
        offset.copy_from_slice(&values[1].to_le_bytes());
    }
}

#[test]
fn an_index_that_lies_in_one_chunk_costs_no_frame() {
    for compression in compressions() {
        let film = film(compression);
        let good = film.bytes();
        let chunk = &chunks(&good)[2];
        let lies: [(_, Lie); 3] = [
            ("offsets", &|_, offset| *offset += 5),
            ("times", &|time, _| *time += 77_000_000_000),
            ("far", &|_, offset| *offset += 1 << 50),
        ];
        for (name, lie) in lies {
            let mut bytes = good.clone();
            bend(&mut bytes, chunk.index, lie);
            let recording = open(&bytes).unwrap();
            assert_eq!(recording.found(), &Found::Indexed, "{name}");
            let mut reader = Reader::new(recording.clone());
            for frame in 0..film.frames {
                assert_eq!(reader.unit(frame).unwrap(), film.unit(frame), "{name}, frame {frame}");
                // Nothing is decompressed to look at times.
                if name != "times" || compression.is_none() {
                    assert_eq!(recording.unix_ns(frame), film.time(frame), "{name}");
                }
            }
            assert_eq!((recording.frames(), recording.damaged()), (film.frames, 0));
            let remarks = recording.remarks(0);
            // Where nothing is decompressed, times that lie step back.
            let (walked, times) = remarks.split_last().unwrap();
            assert!(walked.contains("by walking through"), "{name}: {remarks:?}");
            let lie = name == "times" && compression.is_some();
            assert!(
                times.len() == usize::from(lie) && times.iter().all(|text| text.contains("step back")),
                "{name}: {remarks:?}"
            );
            assert_eq!(recording.remarks(remarks.len()), [""; 0]);
        }
        assert_eq!(open(&good).unwrap().remarks(0), [""; 0]);
    }
}

/// Each frame in its place and with its time; those that are damaged.
fn damaged(film: &Film, recording: &std::sync::Arc<Recording>) -> Vec<usize> {
    assert_eq!(recording.frames(), film.frames);
    let mut reader = Reader::new(recording.clone());
    let damaged = (0..film.frames).filter(|&frame| match reader.unit(frame) {
        Ok(unit) => {
            assert_eq!(unit, film.unit(frame), "frame {frame}");
            assert_eq!(recording.unix_ns(frame), film.time(frame));
            false
        }
        Err(_) => true,
    });
    damaged.collect()
}

#[test]
fn a_sector_over_an_index_and_the_next_chunk_costs_what_is_in_it() {
    for compression in compressions() {
        let film = film(compression);
        let good = film.bytes();
        let chunks = chunks(&good);
        let (one, next) = (&chunks[1], &chunks[2]);
        let mut bytes = good.clone();
        bytes[one.index - 9..next.start + 60].fill(0);
        let recording = open(&bytes).unwrap();
        assert_eq!(recording.found(), &Found::Indexed);
        let lost = damaged(&film, &recording);
        assert!(lost.iter().all(|frame| next.frames.contains(frame)), "{lost:?}");
        assert!(compression.is_some() || lost.len() <= 1, "{lost:?}");
        let remarks = recording.remarks(0);
        assert!(remarks[0].starts_with("the index of messages at "), "{remarks:?}");
        assert!(remarks[0].ends_with("by walking through its chunk"), "{remarks:?}");
    }
}

#[test]
fn frames_behind_chunks_that_are_gone_keep_their_numbers() {
    for compression in compressions() {
        let film = film(compression);
        let good = film.bytes();
        let chunks = chunks(&good);
        let mut bytes = good.clone();
        bytes[chunks[1].start..chunks[2].end].fill(0);
        let recording = open(&bytes).unwrap();
        assert_eq!(recording.found(), &Found::Indexed);
        let gone = chunks[1].frames.start..chunks[2].frames.end;
        assert_eq!(damaged(&film, &recording), gone.clone().collect::<Vec<_>>());
        // Their times lie evenly between those that are known.
        assert!(
            gone.clone().all(|frame| recording.unix_ns(frame).abs_diff(film.time(frame)) < gone.len() as u64)
        );
        let counted = format!("its statistics count 60 frames, and {} were found", 60 - gone.len());
        assert!(
            recording.remarks(0).iter().any(|remark| remark.starts_with(&counted)),
            "{:?}",
            recording.remarks(0)
        );
        let damage = Reader::new(recording).unit(gone.start).unwrap_err().to_string();
        assert!(damage.contains("its message is lost"), "{damage}");

        // Nobody knows how many of them were in which, where others lie between.
        let last = chunks.len() - 2;
        bytes[chunks[last].start..chunks[last].end].fill(0);
        let recording = open(&bytes).unwrap();
        let left = 60 - gone.len() - chunks[last].frames.len();
        assert_eq!((recording.frames(), recording.damaged()), (left, 0));
        let counted = format!("its statistics count 60 frames and its indexes {left}");
        assert!(recording.remarks(0).contains(&counted), "{:?}", recording.remarks(0));
    }
}

#[test]
fn statistics_cannot_make_up_frames_without_end() {
    let film = film(None);
    let good = film.bytes();
    let chunks = chunks(&good);
    let mut bytes = good.clone();
    bytes[chunks[1].start..chunks[2].end].fill(0);
    let summary = mcap::Summary::read(&good).unwrap().unwrap();
    let count = summary.stats.unwrap().channel_message_counts.into_values().max().unwrap();
    assert_eq!(count, 60);
    let at: Vec<_> = (chunks.last().unwrap().end..bytes.len() - 8)
        .filter(|&at| bytes[at..at + 8] == count.to_le_bytes())
        .collect();
    for at in at {
        bytes[at..at + 8].copy_from_slice(&(1u64 << 50).to_le_bytes());
    }
    // Without the summary's checksum.
    let footer = bytes.len() - 8 - 20;
    assert_eq!(bytes[footer - 9], op::FOOTER);
    bytes[footer + 16..footer + 20].fill(0);
    let recording = open(&bytes).unwrap();
    assert!(recording.frames() < 60, "{}", recording.frames());
}

#[test]
fn a_recording_without_chunks_is_whole_without_an_index() {
    let film = Film { layout: Layout { compression: None, chunk_size: None }, ..Film::default() };
    let good = film.bytes();
    let recording = open(&good).unwrap();
    assert_eq!((recording.found(), recording.remarks(0).len()), (&Found::Walked, 0));
    film.assert_in(&recording);
    // One that is not whole is told of.
    let unit = film.unit(20);
    let at = good.windows(unit.len()).position(|window| window == unit).unwrap();
    let mut bytes = good.clone();
    bytes[at - 8 - 22 - 9] = 0x77;
    let recording = open(&bytes).unwrap();
    assert_eq!(scanned(&recording), "its statistics count 40 frames and its records 39");
    assert_eq!(recording.frames(), 39);
}

/// 30 frames of a codec, and 30 of the other.
fn mixed(codec: Codec, other: Codec) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), common::header(), &Layout::default()).unwrap();
    for number in 0..60 {
        let codec = if number < 30 { codec } else { other };
        let key = number % 15 == 0;
        writer.frame(START + number as u64 * PERIOD, &unit(codec, number, key, 100), key).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn frames_of_another_codec_are_damage() {
    for (codec, other) in [(Codec::H264, Codec::H265), (Codec::H265, Codec::H264)] {
        let recording = open(&mixed(codec, other)).unwrap();
        assert_eq!(recording.codec(), codec);
        let mut reader = Reader::new(recording.clone());
        let damage = reader.unit(30).unwrap_err().to_string();
        assert_eq!(damage, format!("frame 30: it is {other}, and the recording {codec}"));
        assert_eq!(reader.kind(30).unwrap_err().to_string(), damage);
        // Nothing behind it can be begun with, and all before it is as it was.
        assert_eq!((reader.entry_from(16), reader.entry_for(45)), (None, Some(15)));
        for frame in 0..30 {
            let kind = if frame % 15 == 0 { Kind::Entry { recovers_after: 0 } } else { Kind::Delta };
            assert_eq!(reader.kind(frame).unwrap(), kind);
        }
        assert!(recording.damaged() > 1);
    }
}

#[test]
fn compressed_chunks_are_compared_with_their_checksums_while_they_are_read() {
    for compression in compressions() {
        let film = film(compression);
        let mut bytes = film.bytes();
        let chunk = &chunks(&bytes)[1];
        bytes[chunk.start + 9 + 24] ^= 1;
        let recording = open(&bytes).unwrap();
        for _ in 0..2 {
            film.assert_in(&recording);
        }
        let remarks = recording.remarks(0);
        let (first, last) = (chunk.frames.start, chunk.frames.end - 1);
        let told = format!("the chunk with frames {first} to {last} is not as it was written: ");
        // Of the others only the frames are read.
        assert_eq!(remarks.len(), usize::from(compression.is_some()), "{remarks:?}");
        assert!(remarks.iter().all(|remark| remark.starts_with(&told)), "{remarks:?}");
        assert_eq!(recording.check_chunks().count(), 1);
    }
}

#[test]
fn a_second_camera_is_told_of() {
    let film = Film::default();
    let bytes = film.bytes();
    assert_eq!(open(&bytes).unwrap().cameras(), [SERIAL.to_string()]);
    let mut out = Cursor::new(Vec::new());
    let mut writer = mcap::WriteOptions::new().compression(None).create(&mut out).unwrap();
    for message in mcap::MessageStream::new(&bytes).unwrap() {
        writer.write(&message.unwrap()).unwrap();
    }
    let schema = writer.add_schema("zed_sdk_encoded", "", b"").unwrap();
    let mut channels = ["222", "333"].map(|serial| {
        let topic = format!("Camera_SN{serial}/side_by_side");
        writer.add_channel(schema, &topic, "zed_sdk_encoded", &BTreeMap::new()).unwrap()
    });
    // The last is declared, and has no frame.
    let channel_id = channels.as_mut_slice()[0];
    let head = MessageHeader { channel_id, sequence: 0, log_time: START, publish_time: START };
    writer.write_to_known_channel(&head, &[0; 100]).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let recording = open(out.get_ref()).unwrap();
    film.assert_in(&recording);
    let mut cameras = recording.cameras();
    cameras.sort_unstable();
    assert_eq!(cameras, ["222".to_owned(), SERIAL.to_string()]);
    let remarks = recording.remarks(0);
    assert!(remarks.len() == 1 && remarks[0].contains("2 cameras (SN222, SN41234567)"), "{remarks:?}");
    assert!(remarks[0].contains("those of SN41234567 are read"), "{remarks:?}");
}

#[test]
fn many_indexes_that_lie_are_put_right_among_those_that_do_not() {
    let film = film(None);
    let good = film.bytes();
    let chunks = chunks(&good);
    let lies: [Lie; 4] =
        [&|_, offset| *offset += 5, &|time, _| *time += 77_000_000_000, &|_, _| (), &|time, offset| {
            (*time, *offset) = (*time + 1, *offset + 1)
        }];
    let mut bytes = good.clone();
    for (chunk, lie) in chunks.iter().zip(lies.iter().cycle()) {
        bend(&mut bytes, chunk.index, lie);
    }
    let recording = open(&bytes).unwrap();
    assert_eq!(recording.found(), &Found::Indexed);
    film.assert_in(&recording);
    // Indexes that have others' messages besides, and of none the time.
    let mut bytes = good.clone();
    for chunk in &chunks {
        let channel = [bytes[chunk.index], bytes[chunk.index + 1]];
        let mut at = chunk.start;
        while at < chunk.end {
            let (body, len) = (at + 9, u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()));
            if bytes[at] == op::MESSAGE_INDEX {
                bytes[body..body + 2].copy_from_slice(&channel);
                bend(&mut bytes, body, |time, offset| {
                    (*time, *offset) = (*time + 77_000_000_000, *offset + 5)
                });
            }
            at = body + len as usize;
        }
    }
    film.assert_in(&open(&bytes).unwrap());
}

#[test]
fn the_memory_for_what_was_mended_is_counted() {
    let film = film(None);
    let mut bytes = film.bytes();
    let whole = open(&bytes).unwrap().index_bytes();
    for chunk in chunks(&bytes.clone()) {
        bend(&mut bytes, chunk.index, |_, offset| *offset += 5);
    }
    let recording = open(&bytes).unwrap();
    // What was found in the chunks, samples too, and the place of each of them.
    let mended = 2 * film.frames * (24 + 24);
    assert!(recording.index_bytes() >= whole + mended, "{} {whole}", recording.index_bytes());
}
