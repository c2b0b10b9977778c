// SPDX-License-Identifier: MPL-2.0

//! Which frame is shown when, where its decoding begins, and whose it is.

mod common;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use common::{Film, PERIOD, SERIAL, START, header, open, unit};
use proptest::prelude::*;
use svo2::{Codec, Header, Kind, Layout, Reader, Recording, SensorReader, Sensors, Writer};

const HOUR: u64 = 60 * 60 * 1_000_000_000;

fn at_times(times: &[u64], header: Header) -> Arc<Recording> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), header, &Layout::default()).unwrap();
    for (number, &time) in times.iter().enumerate() {
        writer.frame(time, &unit(Codec::H264, number, number == 0, 9), number == 0).unwrap();
    }
    open(writer.finish().unwrap().get_ref()).unwrap()
}

fn running(recording: &Recording) -> Vec<u64> {
    (0..recording.frames()).map(|frame| recording.running_ns(frame)).collect()
}

#[test]
fn dropped_frames_and_jitter_keep_their_times() {
    let times = [0, 33, 66, 166, 201, 233].map(|ms| START + ms * 1_000_000);
    let recording = at_times(&times, header());
    assert_eq!(running(&recording), times.map(|time| time - START));
    let durations: Vec<_> = (0..6).map(|frame| recording.duration_ns(frame) / 1_000_000).collect();
    assert_eq!(durations, [33, 33, 100, 35, 32, 33], "the last has the nominal one");
}

#[test]
fn times_that_do_not_grow_are_replaced_and_shown_as_recorded() {
    let times = [START, START + 40, START + 40, START + 20, START + 50, 7, 8];
    let recording = at_times(&times, header());
    let want = [0, 40, 40 + PERIOD, 40 + 2 * PERIOD, 70 + 2 * PERIOD, 70 + 3 * PERIOD, 71 + 3 * PERIOD];
    assert_eq!(running(&recording), want);
    assert_eq!((0..7).map(|frame| recording.unix_ns(frame)).collect::<Vec<_>>(), times);
    let told = "the recorded times stand still at frame 2, and at 2 frames more: a clock that was set; frames go on at the camera's rate";
    assert_eq!(recording.remarks(0), [told]);
    let recording = at_times(&[START + 10_000_000_000, START, START + 40], header());
    assert!(recording.remarks(0)[0].starts_with("the recorded times step back by 10.000 s at frame 1: "));
    assert_eq!(at_times(&[START, START + 40], header()).remarks(0), [""; 0]);
}

#[test]
fn a_clock_that_is_set_is_no_pause() {
    // Set from 1970, and by a flipped bit; an hour is a pause.
    let times = [5, 5 + PERIOD, START, START + HOUR, START + 2 * HOUR + 1, START + HOUR + 5, u64::MAX];
    let recording = at_times(&times, header());
    let want =
        [0, PERIOD, 2 * PERIOD, 2 * PERIOD + HOUR, 3 * PERIOD + HOUR, 4 * PERIOD + HOUR, 5 * PERIOD + HOUR];
    assert_eq!(running(&recording), want);
}

#[test]
fn without_a_rate_the_median_is_nominal() {
    for fps in [0, 1001] {
        let times = [0, 10, 20, 100, 110].map(|ms| START + ms * 1_000_000);
        assert_eq!(at_times(&times, Header { fps, ..header() }).nominal_ns(), 10_000_000);
        assert_eq!(at_times(&times[..1], Header { fps, ..header() }).nominal_ns(), 33_333_333);
    }
    // A clock that was set is no rate.
    let set = at_times(&[0, u64::MAX / 2], Header { fps: 0, ..header() });
    assert_eq!((set.nominal_ns(), set.running_ns(1)), (33_333_333, 33_333_333));
    assert_eq!(at_times(&[START], Header { fps: 100, ..header() }).nominal_ns(), 10_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_frame_at_a_time_is_the_last_that_began(
        times in prop::collection::vec(prop_oneof![5 => START..START + 1000, 1 => any::<u64>()], 1..40),
        sorted in any::<bool>(),
        asked in prop::collection::vec(prop_oneof![4 => 0..2000u64, 1 => any::<u64>()], 20),
    ) {
        let mut times = times;
        if sorted {
            times.sort_unstable();
        }
        let recording = at_times(&times, Header { fps: 1000, ..header() });
        let running = running(&recording);
        prop_assert!(running.is_sorted_by(|a, b| a < b), "{:?}", running);
        for at in asked.into_iter().chain(running.iter().copied()) {
            let linear = running.iter().rposition(|&begins| begins <= at).unwrap_or(0);
            prop_assert_eq!(recording.frame_at(at), linear);
        }
    }

    #[test]
    fn the_frame_at_a_unix_time_is_the_last_that_was_taken_by_then(
        times in prop::collection::vec(prop_oneof![5 => START..START + 1000, 1 => any::<u64>()], 1..40),
        sorted in any::<bool>(),
        asked in prop::collection::vec(prop_oneof![4 => START - 5..START + 1005, 1 => any::<u64>()], 20),
    ) {
        let mut times = times;
        if sorted {
            times.sort_unstable();
        }
        let recording = at_times(&times, header());
        for at in asked.into_iter().chain(times.iter().copied()) {
            prop_assert_eq!(recording.frame_at_unix(at), times.iter().rposition(|&taken| taken <= at));
        }
    }

    #[test]
    fn an_offset_is_where_the_file_has_the_frame(
        (frames, len) in (1..60usize, 1..300usize),
        chunk_size in prop::option::of(1..5000u64),
        compressed in any::<bool>(),
    ) {
        let compression = Some(mcap::Compression::Lz4).filter(|_| compressed && chunk_size.is_some());
        let film = Film { frames, len, layout: Layout { compression, chunk_size }, ..Film::default() };
        let bytes = film.bytes();
        let recording = open(&bytes).unwrap();
        for frame in 0..frames {
            let offset = recording.offset(frame).map(|offset| offset as usize);
            prop_assert_eq!(offset.is_none(), compression.is_some());
            let Some(offset) = offset else { continue };
            // Opcode and length; channel, number and two times; two sizes; the access unit.
            prop_assert_eq!(bytes[offset], mcap::records::op::MESSAGE);
            prop_assert_eq!(&bytes[offset + 15..offset + 23], &film.time(frame).to_le_bytes()[..]);
            prop_assert!(bytes[offset + 9 + 22 + 8..].starts_with(&film.unit(frame)));
        }
    }
}

/// Frames of intra refresh: those in `waves` begin one, after which the picture is whole `count` frames later.
fn refreshed(frames: usize, waves: &[usize], count: u16) -> Reader {
    let mut writer = Writer::new(Cursor::new(Vec::new()), header(), &Layout::default()).unwrap();
    for number in 0..frames {
        let mut frame = unit(Codec::H264, number, true, 9);
        let slice = frame.len() - 11;
        frame[slice] = 0x41;
        if waves.contains(&number) {
            // recovery_frame_cnt as Exp-Golomb in 16 bits, exact match, and so on.
            let code = u32::from(count) + 1;
            let zeros = code.ilog2();
            let bits = (code << (31 - 2 * zeros)) | 1 << (30 - 2 * zeros) | 1 << (26 - 2 * zeros);
            let sei = [&[0, 0, 1, 0x06, 0x06, 4][..], &bits.to_be_bytes(), &[0x80]].concat();
            frame.splice(slice - 4..slice - 4, sei);
        }
        writer.frame(START + number as u64 * PERIOD, &frame, false).unwrap();
    }
    Reader::new(open(writer.finish().unwrap().get_ref()).unwrap())
}

#[test]
fn with_intra_refresh_decoding_begins_where_pictures_become_whole_in_time() {
    let mut reader = refreshed(60, &[0, 10, 20, 40], 9);
    assert_eq!(reader.kind(10).unwrap(), Kind::Entry { recovers_after: 9 });
    assert_eq!(reader.kind(11).unwrap(), Kind::Delta);
    for (frame, entry) in [(9, 0), (18, 0), (19, 10), (28, 10), (29, 20), (48, 20), (49, 40), (59, 40)] {
        assert_eq!(reader.entry_for(frame), Some(entry), "frame {frame}");
    }
    assert_eq!(reader.entry_for(5), Some(0), "as early as can be, though no picture before 9 is whole");
    assert_eq!(reader.entry_from(21), Some(40));
    assert_eq!(reader.entry_from(41), None);
    let mut late = refreshed(20, &[5], 100);
    assert_eq!(late.entry_for(4), None);
    assert_eq!(late.entry_for(19), Some(5));
}

#[test]
fn key_frames_by_the_bitstream_whatever_the_footer_says() {
    let film = Film { frames: 9, distance: 4, ..Film::default() };
    let mut writer = Writer::new(Cursor::new(Vec::new()), header(), &Layout::default()).unwrap();
    for number in 0..film.frames {
        writer.frame(film.time(number), &film.unit(number), !film.is_key(number)).unwrap();
    }
    let mut reader = Reader::new(open(writer.finish().unwrap().get_ref()).unwrap());
    for number in 0..film.frames {
        assert_eq!(reader.kind(number).unwrap(), film.kind(number));
        assert_eq!(reader.entry_for(number), Some(number / 4 * 4));
    }
}

#[test]
fn long_parameter_sets_are_read_to_their_end() {
    let sei =
        [&[0, 0, 1, 0x06, 0x05][..], &[0xff; 40], &[0, 0x55].repeat(2), &[0x55; 10_200], &[0x80]].concat();
    let mut key = unit(Codec::H264, 0, true, 9);
    key.splice(35..35, sei);
    let mut writer = Writer::new(Cursor::new(Vec::new()), header(), &Layout::default()).unwrap();
    writer.frame(START, &key, true).unwrap();
    let mut reader = Reader::new(open(writer.finish().unwrap().get_ref()).unwrap());
    assert_eq!(reader.kind(0).unwrap(), Kind::Entry { recovers_after: 0 });
}

/// Two cameras in one file, their channels in this order.
fn of_cameras(serials: [u32; 2], header: Header) -> Arc<Recording> {
    let film = Film::default();
    let mut out = Cursor::new(Vec::new());
    let mut writer = mcap::Writer::new(&mut out).unwrap();
    let own = Film { frames: 1, header, ..Film::default() }.bytes();
    for message in mcap::MessageStream::new(&own).unwrap().map(Result::unwrap) {
        if message.channel.topic == "svo_header" {
            writer.write(&message).unwrap();
        }
    }
    for serial in serials {
        let topic = format!("Camera_SN{serial}/side_by_side");
        let channel = writer.add_channel(0, &topic, "zed_sdk_encoded", &BTreeMap::new()).unwrap();
        for frame in 0..serial {
            let unit = film.unit(frame as usize);
            let size = unit.len() as u32;
            let data = [&(size + 60).to_le_bytes()[..], &size.to_le_bytes(), &unit, &[0; 56]].concat();
            let log_time = START + u64::from(frame);
            let header = mcap::records::MessageHeader {
                channel_id: channel,
                sequence: 0,
                log_time,
                publish_time: log_time,
            };
            writer.write_to_known_channel(&header, &data).unwrap();
        }
    }
    writer.finish().unwrap();
    drop(writer);
    open(out.get_ref()).unwrap()
}

#[test]
fn of_several_cameras_it_is_the_headers_or_else_the_first() {
    for (serial, want) in [(3, 3), (5, 5), (4, 3)] {
        let recording = of_cameras([3, 5], Header { serial, ..header() });
        assert_eq!((recording.serial(), recording.frames()), (want.to_string().as_str(), want));
        let film = Film { frames: want, ..Film::default() };
        let mut reader = Reader::new(recording);
        assert!((0..want).all(|frame| reader.unit(frame).unwrap() == film.unit(frame)));
    }
}

#[test]
fn all_channels_of_a_topic_are_read() {
    let film = Film::default();
    for (indexes, chunk_size, compression) in
        [(true, 2000, None), (true, 1 << 20, None), (false, 2000, Some(mcap::Compression::Lz4))]
    {
        let mut out = Cursor::new(Vec::new());
        let options = mcap::WriteOptions::new().chunk_size(Some(chunk_size)).compression(compression);
        let mut writer = options.emit_message_indexes(indexes).create(&mut out).unwrap();
        let whole = film.bytes();
        for (number, message) in mcap::MessageStream::new(&whole).unwrap().map(Result::unwrap).enumerate() {
            // In turns, as where two files were put together; metadata make the channel another one.
            let turn = BTreeMap::from([("turn".to_owned(), (number / 3 % 2).to_string())]);
            let mcap::Channel { topic, message_encoding, .. } = message.channel.as_ref();
            let channel = writer.add_channel(0, topic, message_encoding, &turn).unwrap();
            let header = mcap::records::MessageHeader {
                channel_id: channel,
                sequence: message.sequence,
                log_time: message.log_time,
                publish_time: message.publish_time,
            };
            writer.write_to_known_channel(&header, &message.data).unwrap();
        }
        let summary = writer.finish().unwrap();
        assert!(summary.channels.len() > 5);
        drop(writer);
        let recording = open(out.get_ref()).unwrap();
        film.assert_in(&recording);
        let messages: BTreeMap<_, _> = recording.messages().collect();
        assert_eq!(messages.len(), recording.topics().count());
        assert_eq!(recording.messages().count(), messages.len());
        let camera = format!("Camera_SN{SERIAL}");
        assert_eq!(messages[format!("{camera}/side_by_side").as_str()], film.frames as u64);
        assert_eq!(messages[format!("{camera}/sensors").as_str()], film.frames as u64);
        let samples = SensorReader::new(recording, Sensors::Raw).unwrap();
        assert_eq!(samples.samples(), film.frames);
    }
}

#[test]
fn a_broken_header_is_told_of_and_costs_no_frame() {
    let film = Film::default();
    let mut bytes = film.bytes();
    let at = bytes.windows(9).position(|window| window == b"\"header\":").unwrap();
    bytes[at + 10] = b'!';
    let recording = open(&bytes).unwrap();
    assert_eq!(recording.header(), &Header::default());
    let fault = recording.header_fault().unwrap();
    assert!(fault.starts_with("the header's block is no base64"), "{fault}");
    film.assert_in(&recording);
    assert_eq!(open(&film.bytes()).unwrap().header_fault(), None);
}
