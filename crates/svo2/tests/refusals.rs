// SPDX-License-Identifier: MPL-2.0

//! What is refused, and in which words: what was found, and what to do.

mod common;

use std::io::{Cursor, Write};
use std::path::Path;

use common::{Film, START, header, open, unit};
use svo2::{Codec, Header, Layout, Recording, Writer};

fn refusal(bytes: &[u8]) -> String {
    named_refusal(bytes, "a.svo2")
}

fn named_refusal(bytes: &[u8], name: &str) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Recording::from_file(file, Path::new(name)).err().expect("it is refused").to_string()
}

/// A recording with payloads that are none of ours.
fn of_payloads(payloads: &[&[u8]], header: Header) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), header, &Layout::default()).unwrap();
    for (number, payload) in payloads.iter().enumerate() {
        writer.frame(START + number as u64, payload, true).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn files_that_are_no_recordings() {
    assert_eq!(refusal(b""), "the file is empty (0 bytes): was the recording ever started?");
    assert_eq!(
        refusal(b"\0\0\0\x20ftypisom\0\0\x02\0isom"),
        "it is no SVO2 recording, which would be an MCAP file: it begins with \
         00 00 00 20 66 74 79 70 69 73 6f 6d 00 00 02 00 \"....ftypisom....\""
    );
    assert_eq!(
        refusal(b"\x89MCAP"),
        "it is no SVO2 recording, which would be an MCAP file: it begins with 89 4d 43 41 50 \".MCAP\""
    );
    assert_eq!(
        named_refusal(b"some bytes of the SDK's", "/data/HD720.SVO"),
        "it is an SVO recording of version 1, which is not MCAP: only the ZED SDK reads those: convert it with a tool of \
         the SDK's to H.264 or H.265, or play it with the SDK, or record it anew as .svo2"
    );
    // A name says nothing where the bytes do.
    let film = Film::default();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&film.bytes()).unwrap();
    film.assert_in(&Recording::from_file(file, Path::new("a.svo")).unwrap());
}

#[test]
fn what_is_no_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), Path::new("/dev/zero")] {
        let error = Recording::open(path).err().unwrap().to_string();
        assert!(error.starts_with("it is no regular file"), "{error}");
    }
    let error = Recording::open(&folder.path().join("none.svo2")).err().unwrap().to_string();
    assert_eq!(error, "No such file or directory (os error 2)");
}

#[test]
fn mcap_without_video() {
    let mut out = Cursor::new(Vec::new());
    let mut writer = mcap::Writer::new(&mut out).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let nothing = refusal(out.get_ref());
    assert_eq!(
        nothing,
        "it is an MCAP file without a topic 'Camera_SN<serial>/side_by_side' (it has none at all): it is no ZED recording, \
         or one that ended before its first frame"
    );
    let headed = Writer::new(Cursor::new(Vec::new()), header(), &Layout::default()).unwrap();
    let headed = refusal(&headed.finish().unwrap().into_inner());
    assert!(headed.contains("(it has 'svo_header', 'svo_footer')"), "{headed}");
}

#[test]
fn a_recording_that_ended_before_its_first_frame() {
    let mut out = Cursor::new(Vec::new());
    let mut writer = mcap::Writer::new(&mut out).unwrap();
    writer.add_channel(0, "Camera_SN7/side_by_side", "zed_sdk_encoded", &Default::default()).unwrap();
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(
        refusal(out.get_ref()),
        "the recording has no frame: nothing whole is in topic 'Camera_SN7/side_by_side'. Was it ended before the first?"
    );
}

#[test]
fn pictures_that_only_the_sdk_reads() {
    const WAY_OUT: &str = "only the ZED SDK reads those: convert it with a tool of the SDK's to H.264 or H.265, or play it with the SDK";
    for (payload, name) in [
        (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], "lossless (PNG)"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "lossless (ZSTD)"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        (b"\x04\0\0\0\x10\x27\0\0\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
    ] {
        let found = refusal(&of_payloads(&[payload], header()));
        assert_eq!(found, format!("the pictures are {name}, not H.264 or H.265: {WAY_OUT}"));
    }
}

#[test]
fn pictures_of_no_known_kind() {
    assert_eq!(
        refusal(&of_payloads(&[b"AV01 or so", b"AV01 again"], header())),
        "no parameter sets of H.264 or H.265 are in the first 2 frames, so that nothing can be decoded: \
         frame 0 has 10 bytes and begins with 41 56 30 31 20 6f 72 20 73 6f \"AV01.or.so\""
    );
    assert!(refusal(&of_payloads(&[b""], header())).ends_with("frame 0 has 0 bytes and begins with nothing"));
    // Cut out of a stream in front of its second key frame.
    let deltas: Vec<_> = (1..4).map(|number| unit(Codec::H265, number, false, 9)).collect();
    let deltas: Vec<_> = deltas.iter().map(Vec::as_slice).collect();
    assert!(
        refusal(&of_payloads(&deltas, header()))
            .contains("are in the first 3 frames, so that nothing can be decoded")
    );
    // Parameter sets later on will do.
    let key = unit(Codec::H265, 4, true, 9);
    let recording = open(&of_payloads(&[deltas[0], deltas[1], &key], header())).unwrap();
    assert_eq!((recording.frames(), recording.codec()), (3, Codec::H265));
    let mut reader = svo2::Reader::new(recording);
    assert_eq!((reader.entry_for(1), reader.entry_from(0)), (None, Some(2)));
}

#[test]
fn headers_and_bitstreams_that_disagree() {
    let key = unit(Codec::H264, 0, true, 9);
    let of_size = |width, height| of_payloads(&[&key], Header { width, height, ..header() });
    // Sources differ over whether the width is of one picture or of both.
    for (width, height) in [(320, 96), (160, 96), (0, 0)] {
        assert_eq!(open(&of_size(width, height)).unwrap().size(), (320, 96));
    }
    for (width, height) in [(320, 97), (640, 96), (1920, 1080)] {
        assert_eq!(
            refusal(&of_size(width, height)),
            format!(
                "the header says {width}x{height} and the H.264 bitstream 320x96 (left and right side by side): one of them \
                 is not of this recording. It was put together from two, or damaged: take the original file"
            )
        );
    }
}
