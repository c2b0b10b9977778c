// SPDX-License-Identifier: MPL-2.0

//! Every layout of the contract page as bytes written by hand: the crate writes them, and reads them back.

use flv::amf0::{Value, read_script};
use flv::index::KeyFrame;
use flv::metadata::{Audio, Described, File, Video};
use flv::tag::{FILE_HEADER_BYTES, FileHeaderError, MAX_BODY_BYTES, TagHeaderError};
use flv::video::MAX_COMPOSITION_MS;
use flv::*;

#[test]
fn file_header_announces_its_tracks_and_carries_previous_tag_size_0() {
    for (flags, audio, video) in [(0, false, false), (1, false, true), (4, true, false), (5, true, true)] {
        let golden: [u8; FILE_HEADER_BYTES] = [0x46, 0x4c, 0x56, 1, flags, 0, 0, 0, 9, 0, 0, 0, 0];
        let header = FileHeader { audio, video };
        assert_eq!(header.to_bytes(), golden);
        assert_eq!(FileHeader::parse(golden.first_chunk().unwrap()), Ok((header, 9)));
    }
    // Reserved flags and a later version change nothing.
    assert_eq!(
        FileHeader::parse(b"FLV\x02\xfa\0\0\x01\0"),
        Ok((FileHeader { audio: false, video: false }, 256))
    );
}

#[test]
fn file_header_with_a_wrong_signature_or_data_offset_is_refused() {
    let error = FileHeader::parse(b"FLX\x01\x05\0\0\0\x09").unwrap_err();
    assert_eq!(error.to_string(), "the file begins with [46, 4c, 58], not with 'FLV'");
    assert_eq!(FileHeader::parse(b"FLV\x01\x05\0\0\0\x08"), Err(FileHeaderError::DataOffset(8)));
    let error = FileHeader::parse(b"FLV\x01\x05\0\x01\0\0").unwrap_err();
    assert_eq!(error.to_string(), "data offset 65536 is not in 9..=65535");
}

#[test]
fn tag_has_its_timestamps_upper_byte_after_the_lower_three() {
    let golden = [
        9, 0, 0, 8, 0x34, 0x56, 0x78, 0x12, 0, 0, 0, // header, timestamp 0x12345678
        0x27, 1, 0, 0, 0x21, // inter frame, composition time 33
        0xaa, 0xbb, 0xcc, // payload
        0, 0, 0, 19, // PreviousTagSize
    ];
    let body = Dialect::Avc.header(VideoPacket::Frame { key: false, composition_ms: 33 });
    let envelope = Envelope::new(TagType::Video, 0x1234_5678, &body, 3).unwrap();
    assert_eq!(envelope.seal(&[0xaa, 0xbb, 0xcc]), golden);
    assert_eq!(envelope.head(), &golden[..16]);
    assert_eq!(envelope.trailer(), &golden[19..]);
    assert_eq!(envelope.as_bytes(), [&golden[..16], &golden[19..]].concat());
    assert_eq!(envelope.tag_bytes(), golden.len());

    let header = TagHeader { tag_type: TagType::Video, body_bytes: 8, timestamp_ms: 0x1234_5678 };
    assert_eq!(header.to_bytes(), golden[..11]);
    assert_eq!(TagHeader::parse(golden.first_chunk().unwrap()), Ok(header));
    let tag = Step::Tag { header, bytes: golden.len(), wrong_size: None };
    assert_eq!(Framer::at_tag().step(&golden[..], false), tag);
}

#[test]
fn tag_header_of_another_type_or_stream_is_refused() {
    for (number, tag_type) in [(8, TagType::Audio), (9, TagType::Video), (18, TagType::Script)] {
        let header = TagHeader { tag_type, body_bytes: 0xabcdef, timestamp_ms: u32::MAX };
        let golden = [number, 0xab, 0xcd, 0xef, 0xff, 0xff, 0xff, 0xff, 0, 0, 0];
        assert_eq!(header.to_bytes(), golden);
        assert_eq!(TagHeader::parse(&golden), Ok(header));
    }
    // 0x28 is an encrypted audio tag.
    for other in [0, 7, 10, 0x28, 0xff] {
        assert_eq!(
            TagHeader::parse(&[other, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(TagHeaderError::Type(other))
        );
    }
    let error = TagHeader::parse(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]).unwrap_err();
    assert_eq!(error.to_string(), "stream id 66051 is not 0");
}

#[test]
fn payload_that_fills_24_bits_fits_and_one_byte_more_does_not() {
    let body = AudioFormat::Aac.header(AudioPacket::Frame);
    let envelope = Envelope::new(TagType::Audio, 0, &body, MAX_BODY_BYTES - 2).unwrap();
    assert_eq!(envelope.head()[..4], [8, 0xff, 0xff, 0xff]);
    assert_eq!(envelope.trailer(), [1, 0, 0, 10]);
    for payload in [MAX_BODY_BYTES - 1, usize::MAX] {
        let error = Envelope::new(TagType::Audio, 0, &body, payload).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a payload of {payload} bytes does not fit a tag, whose body has at most 16777215 bytes")
        );
    }
}

const PAYLOAD: [u8; 2] = [0xca, 0xfe];
const fn frame(key: bool, composition_ms: i32) -> VideoPacket {
    VideoPacket::Frame { key, composition_ms }
}

#[track_caller]
fn check_video(dialect: Dialect, packet: VideoPacket, golden: &[u8]) {
    assert_eq!(dialect.header(packet).as_bytes(), golden);
    let body = [golden, &PAYLOAD].concat();
    assert_eq!(Dialect::parse(&body), Ok((dialect, packet, golden.len())));
}

#[test]
fn legacy_video_bodies() {
    for (dialect, key, inter) in [(Dialect::Avc, 0x17, 0x27), (Dialect::Domestic, 0x1c, 0x2c)] {
        check_video(dialect, VideoPacket::SequenceHeader, &[key, 0, 0, 0, 0]);
        check_video(dialect, frame(true, 80), &[key, 1, 0, 0, 80]);
        check_video(dialect, frame(true, 0), &[key, 1, 0, 0, 0]);
        check_video(dialect, frame(false, 0), &[inter, 1, 0, 0, 0]);
        check_video(dialect, frame(false, MAX_COMPOSITION_MS), &[inter, 1, 0x7f, 0xff, 0xff]);
        check_video(dialect, VideoPacket::SequenceEnd, &[key, 2, 0, 0, 0]);
    }
}

#[test]
fn enhanced_video_bodies() {
    let check = |packet, golden: &[u8]| check_video(Dialect::Enhanced, packet, golden);
    check(VideoPacket::SequenceHeader, b"\x90hvc1");
    check(frame(true, 0x010203), b"\x91hvc1\x01\x02\x03");
    check(frame(false, 40), b"\xa1hvc1\0\0\x28");
    // Composition time 0 saves its three bytes.
    check(frame(true, 0), b"\x93hvc1");
    check(frame(false, 0), b"\xa3hvc1");
    check(VideoPacket::SequenceEnd, b"\x92hvc1");
    // OBS and FFmpeg write CodedFrames where CodedFramesX would do.
    assert_eq!(Dialect::parse(b"\x91hvc1\0\0\0x"), Ok((Dialect::Enhanced, frame(true, 0), 8)));
}

#[test]
fn composition_time_is_read_as_signed() {
    for (bytes, ms) in [([0xff, 0xff, 0xd8], -40), ([0x80, 0, 0], -8_388_608), ([0xff, 0xff, 0xff], -1)] {
        let [c2, c1, c0] = bytes;
        check_video(Dialect::Avc, frame(false, ms), &[0x27, 1, c2, c1, c0]);
        check_video(Dialect::Enhanced, frame(false, ms), &[0xa1, b'h', b'v', b'c', b'1', c2, c1, c0]);
    }
}

#[test]
fn disposable_frames_are_inter_frames_and_generated_ones_key_frames() {
    assert_eq!(Dialect::parse(&[0x37, 1, 0, 0, 0]), Ok((Dialect::Avc, frame(false, 0), 5)));
    assert_eq!(Dialect::parse(&[0x4c, 1, 0, 0, 0]), Ok((Dialect::Domestic, frame(true, 0), 5)));
    assert_eq!(Dialect::parse(b"\xb3hvc1"), Ok((Dialect::Enhanced, frame(false, 0), 5)));
    assert_eq!(Dialect::parse(b"\xc3hvc1"), Ok((Dialect::Enhanced, frame(true, 0), 5)));
}

#[test]
fn unsupported_video_is_named() {
    for (body, error) in [
        (&b"\x12\0\0\0\0"[..], "video codec id 2 is neither 7 (H.264) nor 12 (H.265)"),
        (b"\x1d\0\0\0\0", "video codec id 13 is neither 7 (H.264) nor 12 (H.265)"),
        (b"\x17\x03\0\0\0", "video packet type 3 holds no frames of a single track"),
        (b"\x1c\xff\0\0\0", "video packet type 255 holds no frames of a single track"),
        (b"\x90av01", "FourCC av01 is not hvc1"),
        (b"\x93hev1", "FourCC hev1 is not hvc1"),
        (b"\x91\x31cvh\0\0\0", "FourCC 1cvh is not hvc1"),
        (b"\x91\0\xff\n1\0\0\0", "FourCC \\x00\\xff\\n1 is not hvc1"),
        (b"\x94hvc1", "video packet type 4 holds no frames of a single track"),
        (b"\x95hvc1", "video packet type 5 holds no frames of a single track"),
        (b"\x96\x01hvc1", "video packet type 6 holds no frames of a single track"),
        (b"\x97\0", "video packet type 7 holds no frames of a single track"),
        (b"\x9f", "video packet type 15 holds no frames of a single track"),
        (b"\x57\0", "video frame type 5 is not a picture"),
        (b"\xd1hvc1\0\0\0", "video frame type 5 is not a picture"),
        (b"\x07\x01\0\0\0", "video frame type 0 is not a picture"),
    ] {
        assert_eq!(Dialect::parse(body).unwrap_err().to_string(), error, "{body:02x?}");
    }
    for whole in [&b"\x17\x01\0\0\0"[..], b"\x2c\x01\0\0\0", b"\x90hvc1", b"\x92hvc1", b"\xa1hvc1\0\0\0"] {
        for cut in 0..whole.len() {
            assert_eq!(Dialect::parse(&whole[..cut]), Err(Unsupported::Short(cut)), "{whole:02x?}");
        }
    }
}

#[track_caller]
fn check_audio(format: AudioFormat, packet: AudioPacket, golden: &[u8]) {
    assert_eq!(format.header(packet).as_bytes(), golden);
    let body = [golden, &PAYLOAD].concat();
    assert_eq!(AudioFormat::parse(&body), Ok((format, packet, golden.len())));
}

#[test]
fn aac_bodies() {
    check_audio(AudioFormat::Aac, AudioPacket::SequenceHeader, &[0xaf, 0]);
    check_audio(AudioFormat::Aac, AudioPacket::Frame, &[0xaf, 1]);
    // Rate, size and channels of the first byte say nothing about AAC.
    assert_eq!(AudioFormat::parse(&[0xa2, 1]), Ok((AudioFormat::Aac, AudioPacket::Frame, 2)));
    assert_eq!(AudioFormat::Aac.codec_id(), 10);
}

#[test]
fn mp3_bodies_at_each_rate() {
    for (rate, mono) in [(5512, 0x22), (11025, 0x26), (22050, 0x2a), (44100, 0x2e), (8000, 0xee)] {
        for (stereo, golden) in [(false, mono), (true, mono | 1)] {
            check_audio(AudioFormat::Mp3 { rate, stereo }, AudioPacket::Frame, &[golden]);
        }
        let id = if rate == 8000 { 14 } else { 2 };
        assert_eq!(AudioFormat::Mp3 { rate, stereo: true }.codec_id(), id);
    }
    let unknown = AudioFormat::Mp3 { rate: 48000, stereo: true };
    assert_eq!(unknown.header(AudioPacket::Frame).as_bytes(), [0x2f]);
}

#[test]
fn unsupported_audio_is_named() {
    for (body, error) in [
        (&[][..], "a body of 0 bytes ends within its header"),
        (&[0xaf], "a body of 1 bytes ends within its header"),
        (&[0xaf, 2], "AAC packet type 2 is neither 0 (configuration) nor 1 (frame)"),
        (&[0x3e, 0], "sound format 3 is neither 10 (AAC) nor 2 or 14 (MP3)"),
        // Enhanced audio.
        (b"\x90Opus", "sound format 9 is neither 10 (AAC) nor 2 or 14 (MP3)"),
    ] {
        assert_eq!(AudioFormat::parse(body).unwrap_err().to_string(), error, "{body:02x?}");
    }
}

/// A name and a value, each with what AMF0 puts before it.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), value].concat()
}

/// A double by its first bytes; the others are 0.
fn number<const N: usize>(first: [u8; N]) -> [u8; 9] {
    let mut bytes = [0; 9];
    bytes[1..=N].copy_from_slice(&first);
    bytes
}

fn on_metadata(fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"\x02\0\x0aonMetaData\x08\0\0\0".to_vec();
    body.push(fields.len() as u8);
    body.extend(fields.concat());
    body.extend([0, 0, 9]);
    body
}

fn video(dialect: Dialect) -> Video {
    Video { dialect, size: Some((1920, 1080)), framerate: Some(30.), bitrate: Some(4_000_000) }
}

fn video_fields(codec_id: [u8; 9]) -> Vec<Vec<u8>> {
    vec![
        field("videocodecid", &codec_id),
        field("width", &number([0x40, 0x9e])),
        field("height", &number([0x40, 0x90, 0xe0])),
        field("framerate", &number([0x40, 0x3e])),
        field("videodatarate", &number([0x40, 0xaf, 0x40])),
    ]
}

#[track_caller]
fn check_metadata(metadata: &Metadata, fields: &[Vec<u8>]) {
    let body = on_metadata(fields);
    let mut golden = vec![18, 0, (body.len() >> 8) as u8, body.len() as u8, 0, 0, 0, 0, 0, 0, 0];
    golden.extend(&body);
    golden.extend((body.len() as u32 + 11).to_be_bytes());
    assert_eq!(metadata.to_tag(), golden);
    let (name, value) = read_script(&body).unwrap();
    assert_eq!((name.as_str(), value.fields().len()), ("onMetaData", fields.len()));
}

#[test]
fn metadata_of_each_dialect() {
    for (dialect, id, golden) in [
        (Dialect::Avc, 7, number([0x40, 0x1c])),
        (Dialect::Domestic, 12, number([0x40, 0x28])),
        // 'hvc1' read big-endian; little-endian (828601960) makes ZLMediaKit misread the track.
        (Dialect::Enhanced, 1_752_589_105, number([0x41, 0xda, 0x1d, 0x98, 0xcc, 0x40])),
    ] {
        assert_eq!(dialect.codec_id(), id);
        let mut metadata = Metadata { video: Some(video(dialect)), ..Metadata::default() };
        let mut fields = video_fields(golden);
        check_metadata(&metadata, &fields);

        metadata.audio =
            Some(Audio { format: AudioFormat::Aac, rate: 44100, stereo: true, bitrate: Some(128_000) });
        metadata.encoder = "x265".to_owned();
        metadata.creator = "cv".to_owned();
        fields.extend([
            field("audiocodecid", &number([0x40, 0x24])),
            field("audiosamplerate", &number([0x40, 0xe5, 0x88, 0x80])),
            field("audiosamplesize", &number([0x40, 0x30])),
            field("stereo", &[1, 1]),
            field("audiodatarate", &number([0x40, 0x60])),
            field("encoder", b"\x02\0\x04x265"),
            field("metadatacreator", b"\x02\0\x02cv"),
        ]);
        check_metadata(&metadata, &fields);
    }
}

#[test]
fn metadata_leaves_out_what_is_not_known() {
    check_metadata(&Metadata::default(), &[]);
    let audio = Audio {
        format: AudioFormat::Mp3 { rate: 8000, stereo: false },
        rate: 8000,
        stereo: false,
        bitrate: None,
    };
    let video = Video { dialect: Dialect::Avc, size: None, framerate: None, bitrate: None };
    check_metadata(
        &Metadata { video: Some(video), audio: Some(audio), ..Metadata::default() },
        &[
            field("videocodecid", &number([0x40, 0x1c])),
            field("audiocodecid", &number([0x40, 0x2c])),
            field("audiosamplerate", &number([0x40, 0xbf, 0x40])),
            field("audiosamplesize", &number([0x40, 0x30])),
            field("stereo", &[1, 0]),
        ],
    );
}

fn file_metadata() -> Metadata {
    let key_frames = vec![KeyFrame { time: 0., position: 300 }, KeyFrame { time: 2., position: 1000 }];
    Metadata {
        video: Some(video(Dialect::Enhanced)),
        file: Some(File { duration: 4., size: 1920, key_frames }),
        ..Metadata::default()
    }
}

#[test]
fn metadata_of_a_file_has_duration_size_and_index() {
    let mut fields = vec![field("duration", &number([0x40, 0x10])), field("filesize", &number([0x40, 0x9e]))];
    fields.extend(video_fields(number([0x41, 0xda, 0x1d, 0x98, 0xcc, 0x40])));
    let times = [&[10, 0, 0, 0, 2][..], &number([]), &number([0x40])].concat();
    let positions =
        [&[10, 0, 0, 0, 2][..], &number([0x40, 0x72, 0xc0]), &number([0x40, 0x8f, 0x40])].concat();
    let index = [&[3][..], &field("times", &times), &field("filepositions", &positions), &[0, 0, 9]].concat();
    fields.push(field("keyframes", &index));
    let metadata = file_metadata();
    check_metadata(&metadata, &fields);

    let (_, value) = read_script(&on_metadata(&fields)).unwrap();
    let key_frames = metadata.file.unwrap().key_frames;
    assert_eq!(Described::new(&value), Described { duration: Some(4.), key_frames });
}

#[test]
fn filler_fills_the_room_to_the_byte() {
    let metadata = file_metadata();
    let room = metadata.file_room(2);
    let tag = metadata.to_tag_of(room + 3).unwrap();
    assert!(
        tag.ends_with(b"\0\x06filler\x0a\0\0\0\x01\x02\0\x03   \0\0\x09\0\0\x01\x10"),
        "{}",
        tag.escape_ascii()
    );
    assert_eq!(tag.len(), room + 3);
    assert_eq!(metadata.to_tag_of(room - 1), None);
    assert_eq!(metadata.to_tag_of(0), None);
}

/// FFmpeg gives up at a string of 1024 bytes, and drops the rest of the metadata with it.
#[test]
fn filler_of_any_size_is_of_short_strings() {
    let metadata = file_metadata();
    let least = metadata.file_room(2);
    for more in (0..3010).chain([65534, 65535, 65536, 1 << 20]) {
        let tag = metadata.to_tag_of(least + more).unwrap_or_else(|| panic!("{more} bytes"));
        assert_eq!(tag.len(), least + more);
        let Step::Tag { header, wrong_size: None, .. } = Framer::at_tag().step(&tag[..], false) else {
            panic!("no tag of {more} bytes more")
        };
        let (_, value) = read_script(&tag[11..header.bytes_before_trailer()]).unwrap();
        let strings = value.get("filler").unwrap().elements();
        assert!(strings.iter().all(|string| matches!(string, Value::String(text) if text.len() < 1024)));
    }
}

#[test]
fn room_for_an_index_holds_every_index_of_at_most_that_size() {
    let mut metadata = file_metadata();
    let room = metadata.file_room(5000);
    for count in [0, 1, 4999, 5000] {
        let key_frame = |i: u64| KeyFrame { time: i as f64 / 3., position: u64::MAX / (i + 1) };
        metadata.file.as_mut().unwrap().key_frames = (0..count).map(key_frame).collect();
        let tag = metadata.to_tag_of(room).unwrap_or_else(|| panic!("{count} key frames"));
        assert_eq!(tag.len(), room);
    }
}
