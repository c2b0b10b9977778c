// SPDX-License-Identifier: MPL-2.0

//! `svo-to-mp4` and what it is given: recordings that share no code with our writer, files that are none, that are at odds
//! with themselves, or that go away while they are read; and what it is told while it copies.

mod common;

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;

use common::svo_made::{LAYOUTS, Made, SIZE, bitstream};
use common::svo_mp4::Bench;
use common::zedsvo::{decode, write, write_with};
use common::{Process, readers, run, streamer, text, wait_for};
use cvmmap_streamer::exit::Exit;
use cvmmap_streamer::run::plan::Codec;
use cvmmap_streamer::svo::convert::{Control, Event, convert};
use cvmmap_streamer::svo::options::{Conversion, Encoding, Frames, How, Preset};
use mcap::records::op;
use svo2::{Header, Layout, Reader, Recording, Writer};

#[test]
fn pythons_recordings_become_what_ffmpeg_makes_of_their_bitstreams() {
    common::init();
    let picture = (SIZE.0 * SIZE.1 * 3 / 2) as usize;
    for codec in [svo2::Codec::H264, svo2::Codec::H265] {
        let stream = bitstream(codec, "keyint=15:min-keyint=15");
        let pictures = decode(&stream, picture);
        for layout in LAYOUTS {
            let made = Made::new(codec, &stream, layout);
            let mut copy = streamer();
            copy.args(["svo-to-mp4", "--copy", "--input"]).arg(&made.path);
            let output = run(&mut copy);
            assert!(output.status.success(), "{layout}: {}", text(&output.stderr));
            assert!(decode(&made.path.with_extension("mp4"), picture) == pictures, "{codec} {layout}");
        }
        // Encoded again: the left view, and nothing of the right.
        let made = Made::new(codec, &stream, "--compression zstd --chunk-size 20000");
        let mut encode = streamer();
        encode.args(["svo-to-mp4", "--codec", "h264", "--quality", "1", "--preset", "fast", "--input"]);
        let output = run(encode.arg(&made.path));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = decode(&made.path.with_extension("mp4"), picture / 2);
        assert_eq!(shown.len(), pictures.len());
        let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
        for (number, (shown, whole)) in shown.iter().zip(&pictures).enumerate() {
            let left = whole[..width * height].chunks(width).flat_map(|row| &row[..width / 2]);
            let squares = shown.iter().zip(left).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
            let mean = squares.sum::<f64>() / (width / 2 * height) as f64;
            assert!(mean < 4.0, "{codec}, picture {number}: {mean}");
        }
    }
}

/// Top-level records of a file: opcode, and where the body lies.
fn records(bytes: &[u8]) -> Vec<(u8, std::ops::Range<usize>)> {
    let mut at = mcap::MAGIC.len();
    let mut found = Vec::new();
    while at + 9 <= bytes.len() - mcap::MAGIC.len() {
        let len = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
        found.push((bytes[at], at + 9..at + 9 + len));
        at += 9 + len;
    }
    found
}

#[test]
fn what_is_no_recording_that_can_be_read_is_refused_by_what_it_is() {
    let bench = Bench::new(|recording| recording.frames = 20);
    let recording = Recording::open(&bench.path("a.svo2")).unwrap();
    let payload = |name: &str, bytes: &'static [u8]| {
        write(&recording, &bench.path(name), 0..20, |_, _| bytes.to_vec());
    };
    payload("png.svo2", b"\x89PNG\r\n\x1a\n0000000000000000");
    payload("zstd.svo2", b"\x28\xb5\x2f\xfd00000000000000000000");
    payload("jpeg.svo2", b"\xff\xd8\xff\xe0000000000000000000000");
    payload("noise.svo2", b"0123456789abcdef01234567");
    write(&recording, &bench.path("frameless.svo2"), 0..0, |_, unit| unit);
    let header = |width, height| Header { width, height, ..recording.header().clone() };
    write_with(header(1280, 720), &recording, &bench.path("other.svo2"), 0..20, |_, unit| unit);
    let mut writer = mcap::Writer::new(std::fs::File::create(bench.path("odometry.svo2")).unwrap()).unwrap();
    writer.add_channel(0, "odometry", "json", &Default::default()).unwrap();
    writer.finish().unwrap();
    drop(writer);
    std::fs::write(bench.path("empty.svo2"), "").unwrap();
    std::fs::write(bench.path("film.svo2"), b"\0\0\0\x20ftypisom and so on").unwrap();
    std::fs::write(bench.path("old.svo"), b"whatever it is, it is not MCAP").unwrap();
    let names = bench.names();
    let sdk = "only the ZED SDK reads those";
    for (input, parts) in [
        ("png.svo2", [sdk, "the pictures are lossless (PNG), not H.264 or H.265"]),
        ("zstd.svo2", [sdk, "the pictures are lossless (ZSTD)"]),
        ("jpeg.svo2", [sdk, "the pictures are JPEG"]),
        ("noise.svo2", ["no parameter sets of H.264 or H.265", "frame 0 has 24 bytes and begins with 30 31"]),
        ("frameless.svo2", ["(it has 'svo_header', 'svo_footer')", "ended before its first frame"]),
        (
            "other.svo2",
            ["the header says 1280x720 and the H.264 bitstream 640x240", "take the original file"],
        ),
        ("odometry.svo2", ["without a topic 'Camera_SN<serial>/side_by_side'", "it has 'odometry'"]),
        ("empty.svo2", ["the file is empty (0 bytes)", "ever started"]),
        ("film.svo2", ["it is no SVO2 recording", "it begins with 00 00 00 20 66 74 79 70"]),
        ("old.svo", ["it is an SVO recording of version 1, which is not MCAP", sdk]),
    ] {
        for flags in ["", "--copy"] {
            let output = bench.run(&format!("--input {input} --json {flags}"));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{input}: {said}");
            assert!(output.stdout.is_empty(), "{input}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.starts_with(&format!("error: --input '{input}': ")), "{said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
            assert_eq!(bench.names(), names, "{input}");
        }
    }
}

#[test]
fn an_index_that_lies_costs_a_warning_and_no_frame() {
    let bench = Bench::new(|_| ());
    let recording = Recording::open(&bench.path("a.svo2")).unwrap();
    write(&recording, &bench.path("good.svo2"), 0..60, |_, unit| unit);
    let good = std::fs::read(bench.path("good.svo2")).unwrap();
    let places = || records(&good).into_iter();
    // Where the summary begins; where the messages of chunks lie; where chunks do.
    let lies: [(&str, u8, usize, bool); 3] = [
        ("summary", op::FOOTER, 0, false),
        ("messages", op::MESSAGE_INDEX, 2 + 4 + 8, true),
        ("chunks", op::CHUNK_INDEX, 8 + 8, true),
    ];
    for (name, opcode, field, unsummed) in lies {
        let mut bytes = good.clone();
        let mut lied = 0;
        for (_, body) in places().filter(|(found, body)| *found == opcode && body.len() >= field + 8) {
            bytes[body.start + field] ^= 0x55;
            lied += 1;
        }
        assert!(lied > 0, "{name}");
        if unsummed {
            // A checksum would tell of it.
            let footer = places().find(|(found, _)| *found == op::FOOTER).unwrap().1;
            bytes[footer.start + 16..footer.start + 20].fill(0);
        }
        std::fs::write(bench.path("lies.svo2"), bytes).unwrap();
        for flags in ["--copy", "--codec h264 --preset fast"] {
            let output = bench.run(&format!("--input lies.svo2 --overwrite --json {flags}"));
            let said = text(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
            let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                (&summary["frames"], &summary["missing"]),
                (&60.into(), &0.into()),
                "{name}: {summary}"
            );
            // An index of messages is put right by its own chunk; the others by the whole file.
            assert_eq!(summary["scanned"].is_string(), name != "messages", "{name}: {summary}");
            let told = if name == "messages" {
                "they were found by walking through it"
            } else {
                "60 whole frames were found"
            };
            assert!(said.contains(told), "{name}: {said}");
        }
    }
}

/// The recording `a.svo2`, again and again, so that it takes a while to read; one frame may be noise.
fn long(bench: &Bench, name: &str, frames: usize, layout: &Layout, damaged: Option<usize>) {
    let recording = Recording::open(&bench.path("a.svo2")).unwrap();
    let mut reader = Reader::new(recording.clone());
    let units: Vec<_> = (0..recording.frames()).map(|frame| reader.unit(frame).unwrap()).collect();
    let noise = vec![0x55; 100];
    let out = std::io::BufWriter::new(std::fs::File::create(bench.path(name)).unwrap());
    let mut writer = Writer::new(out, recording.header().clone(), layout).unwrap();
    for number in 0..frames {
        let time = recording.unix_ns(0) + number as u64 * 33_333_333;
        let unit = &units[number % units.len()];
        let unit = if damaged == Some(number) { &noise } else { unit };
        writer.frame(time, unit, (number % units.len()).is_multiple_of(15)).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_file_that_shrinks_while_it_is_converted_is_an_error_and_nothing_is_written() {
    let bench = Bench::new(|recording| recording.size = (160, 120));
    let encoding = Encoding {
        codec: Codec::H264,
        candidates: vec!["x264enc".into(), "openh264enc".into()],
        preset: Preset::Quality,
        quality: 1,
        threads: None,
    };
    for compression in [None, Some(mcap::Compression::Zstd)] {
        for how in [How::Copy(None), How::Encode(encoding.clone())] {
            let layout = Layout { compression, chunk_size: Some(20_000) };
            let frames = if matches!(how, How::Copy(_)) { 300 } else { 12_000 };
            long(&bench, "b.svo2", frames, &layout, None);
            let file = OpenOptions::new().write(true).open(bench.path("b.svo2")).unwrap();
            let mut told = Vec::new();
            // It is told how far it is before it is at the end.
            let mut events = |event| match event {
                Event::Progress { done, total } => {
                    assert!(done < total || file.metadata().unwrap().len() == 4096, "{done} of {total}");
                    file.set_len(4096).unwrap();
                }
                Event::Notice(text) => told.push(text),
            };
            let cancelled = AtomicBool::new(false);
            let mut control = Control { events: &mut events, cancelled: &cancelled };
            let conversion = Conversion { frames: Frames::default(), how: how.clone(), overwrite: false };
            let (input, output) = (bench.path("b.svo2"), bench.path("b.mp4"));
            let failure = convert(&input, &output, &conversion, &mut control).unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration);
            let said = failure.to_string();
            assert!(said.starts_with(&format!("--input '{}': ", input.display())), "{said}");
            assert!(said.contains(" of the file cannot be read: it has 4096 bytes now"), "{said}");
            assert!(!said.contains("zedsvosrc"), "{said}");
            assert_eq!(told, [""; 0], "no frame is damaged, and no encoder is at fault");
            assert_eq!(bench.names(), ["a.svo2", "b.svo2"]);
        }
    }
}

/// A copy that hangs: nobody takes what it says of a damaged frame, since the pipe is full.
fn stuck(bench: &Bench) -> (Process, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    while rustix::io::write(&writer, b".").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    let mut command = bench.command("--input b.svo2 --copy");
    let process = Process::spawn(command.stdout(Stdio::null()).stderr(writer));
    let part = bench.path(".b.mp4.part");
    wait_for("the copy to begin", || part.exists());
    (process, reader)
}

#[test]
fn a_copy_that_gets_a_signal_leaves_nothing_and_a_second_one_ends_it_at_once() {
    let bench = Bench::new(|recording| recording.size = (160, 120));
    // Much is left to be copied behind the damage.
    long(&bench, "b.svo2", 60_000, &Layout { compression: None, chunk_size: Some(1 << 20) }, Some(20));
    let names = bench.names();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (mut process, mut reader) = stuck(&bench);
        process.signal(signal);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(process.0.wait().unwrap().code(), Some(130), "{said}");
        assert!(said.ends_with("error: interrupted: no file was written\n"), "{said}");
        assert_eq!(bench.names(), names);
    }
    let (mut process, _reader) = stuck(&bench);
    // Those that come at once are taken for one.
    wait_for("the end", || {
        process.signal(libc::SIGINT);
        process.0.try_wait().unwrap().is_some()
    });
    assert_eq!(process.0.wait().unwrap().code(), Some(130));
    assert!(!bench.path("b.mp4").exists());
    // What it left, the next one takes over.
    let output = bench.run("--input b.svo2 --copy --end-frame 14");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(bench.path("b.mp4").exists() && !bench.path(".b.mp4.part").exists());
}

/// Types of the boxes of a file, those inside others too.
fn boxes(bytes: &[u8], found: &mut Vec<String>) {
    let mut rest = bytes;
    while rest.len() >= 8 {
        let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (len, head) = match len {
            0 => (rest.len(), 8),
            1 => (u64::from_be_bytes(rest[8..16].try_into().unwrap()) as usize, 16),
            len => (len, 8),
        };
        let name = String::from_utf8_lossy(&rest[4..8]).into_owned();
        let inside = &rest[head..len];
        match name.as_str() {
            "moov" | "trak" | "mdia" | "minf" | "stbl" | "edts" => boxes(inside, found),
            // A version and a count stand before the entries.
            "stsd" => boxes(&inside[8..], found),
            _ => (),
        }
        if name == "elst" {
            // Version 0; one entry, of any duration, that begins at 0 and plays as fast as the rest.
            let one = [&inside[..8], &inside[12..]].concat();
            assert_eq!(one, [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0], "it changes times");
        }
        found.push(name);
        rest = &rest[len..];
    }
}

#[test]
fn files_have_no_edits_no_offsets_and_sample_entries_that_all_players_take() {
    let bench = Bench::new(|recording| recording.frames = 31);
    for (flags, entry) in [
        ("--codec h264 --preset fast", "avc1"),
        ("--codec h264 --preset quality", "avc1"),
        ("--codec h265 --preset fast", "hvc1"),
        ("--codec h265 --preset quality", "hvc1"),
        ("--copy", "avc1"),
    ] {
        bench.convert(&format!("--overwrite {flags}"));
        let file = bench.path("a.mp4");
        let mut found = Vec::new();
        boxes(&std::fs::read(&file).unwrap(), &mut found);
        let has = |name: &str| found.iter().any(|found| found == name);
        assert!(has(entry) && has("stts") && has("mdat"), "{flags}: {found:?}");
        for unwanted in ["ctts", "avc3", "hev1"] {
            assert!(!has(unwanted), "{flags}: {found:?}");
        }
        let facts = readers::ffmpeg(Path::new(&file), true);
        assert_eq!(facts.shown().len(), 31, "{flags}");
    }
}
