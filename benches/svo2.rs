// SPDX-License-Identifier: MPL-2.0

//! What reading a recording costs: opening it beside the `mcap` crate's reading of the same indexes, its access units
//! beside `cat`, and what opening takes of memory. All of it warm, that is, from the page cache; medians of runs in turn.
//!
//! Run with `make bench`; the last results are in `benches/README.md`.

#![allow(missing_docs)]

mod common;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Peer, median, ms, row};
use svo2::{Header, Layout, Reader, Recording, Writer};

const RUNS: usize = 9;
const FRAMES: usize = 10_000;
/// 10 Mbit/s at 30 frames a second.
const UNIT: usize = 40_000;
/// SPS and PPS of 320x96 as x264 writes them, and the first bytes of a key frame's slice.
const KEY: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x0c, 0xda, 0x05, 0x0d, 0xb0, 0x11, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0x3c, 0x0f,
    0x14, 0x2a, 0xa0, 0, 0, 0, 1, 0x68, 0xce, 0x0f, 0xc8, 0, 0, 0, 1, 0x65, 0x88,
];
const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child-memory", file] => child_memory(Path::new(file)),
        [] => all(),
        _ => panic!("no such benchmark: {args:?}"),
    }
}

fn all() {
    println!("| what | ours | peer | ratio | wanted | |");
    println!("|---|---|---|---|---|---|");
    let folder = tempfile::tempdir().unwrap();
    for (name, chunk_size) in [("a frame", 1), ("1 MB", 1 << 20), ("4 MB", 4 << 20)] {
        let layout = Layout { compression: None, chunk_size: Some(chunk_size) };
        let file = record(folder.path(), FRAMES, UNIT, &layout);
        let (ours, peer) = in_turn(|| drop(Recording::open(&file).unwrap()), || read_indexes(&file));
        let what =
            format!("opening 10,000 frames in chunks of {name}, beside mcap reading summary and indexes");
        row(&what, &ms(ours as u64), &ms(peer as u64), ours / peer, 1.5);
        let (ours, peer) = in_turn(|| read_units(&file), || cat(&file));
        let what =
            format!("opening it and reading all access units ({} MB), beside cat", FRAMES * UNIT / 1_000_000);
        row(&what, &ms(ours as u64), &ms(peer as u64), ours / peer, 1.2);
        std::fs::remove_file(file).unwrap();
    }
    for (name, compression) in [("LZ4", mcap::Compression::Lz4), ("Zstandard", mcap::Compression::Zstd)] {
        let layout = Layout { compression: Some(compression), chunk_size: Some(4 << 20) };
        let file = record(folder.path(), FRAMES / 5, UNIT, &layout);
        let (ours, peer) = in_turn(|| read_units(&file), || stream_messages(&file));
        let ratio = ours / peer;
        println!(
            "| for information: 2,000 frames in chunks of 4 MB by {name}, beside mcap's MessageStream \
             | {} | {} | {ratio:.2} | | |",
            ms(ours as u64),
            ms(peer as u64)
        );
        std::fs::remove_file(file).unwrap();
    }
    for (name, frames) in [("10,000", FRAMES), ("100,000", 10 * FRAMES)] {
        let layout = Layout { compression: None, chunk_size: Some(1 << 20) };
        let file = record(folder.path(), frames, 4_000, &layout);
        let [grown, index] = Peer::new(&["child-memory", file.to_str().unwrap()]).outputs()[..] else {
            panic!()
        };
        let what = format!("memory in KiB that opening {name} frames takes at most, beside their index");
        row(&what, &format!("{grown:.0}"), &format!("{index:.0}"), grown / index, 5.0);
        std::fs::remove_file(file).unwrap();
    }
}

/// Median nanoseconds of the one and of the other.
fn in_turn(mut ours: impl FnMut(), mut peer: impl FnMut()) -> (f64, f64) {
    let time = |run: &mut dyn FnMut()| {
        let began = Instant::now();
        run();
        began.elapsed().as_nanos() as f64
    };
    // The first makes it warm.
    peer();
    let (mut mine, mut theirs): (Vec<f64>, Vec<f64>) =
        (0..RUNS).map(|_| (time(&mut ours), time(&mut peer))).unzip();
    (median(&mut mine), median(&mut theirs))
}

fn record(folder: &Path, frames: usize, len: usize, layout: &Layout) -> PathBuf {
    let path = folder.join("bench.svo2");
    let header = Header { width: 320, height: 96, serial: 1, fps: 30, ..Header::default() };
    let mut writer = Writer::new(BufWriter::new(File::create(&path).unwrap()), header, layout).unwrap();
    // Bytes that no compressor makes smaller, without zeros: start codes would be in it.
    let mut random = 1u64;
    let noise: Vec<u8> = (0..2 * len)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8 | 1
        })
        .collect();
    for number in 0..frames {
        let key = number % 30 == 0;
        let begins = if key { KEY } else { DELTA };
        let unit = [begins, &noise[number % len..][..len - begins.len()]].concat();
        writer.frame(1_773_835_181_000_000_000 + number as u64 * 33_333_333, &unit, key).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn map(file: &Path) -> memmap2::Mmap {
    // SAFETY: the file is this benchmark's, and nobody writes to it any more.
    unsafe { memmap2::Mmap::map(&File::open(file).unwrap()).unwrap() }
}

/// What opening needs to know at least, by the mcap crate.
fn read_indexes(file: &Path) {
    let map = map(file);
    let summary = mcap::Summary::read(&map).unwrap().unwrap();
    let mut entries = 0;
    // A chunk of nothing but a channel has none.
    for chunk in summary.chunk_indexes.iter().filter(|chunk| !chunk.message_index_offsets.is_empty()) {
        entries += summary.read_message_indexes(&map, chunk).unwrap().values().map(Vec::len).sum::<usize>();
    }
    assert!(entries > FRAMES);
}

fn read_units(file: &Path) {
    let recording = Recording::open(file).unwrap();
    let mut reader = Reader::new(recording.clone());
    let mut buffer = Vec::new();
    for frame in 0..recording.frames() {
        let unit = reader.locate(frame).unwrap();
        buffer.resize(unit.len(), 0);
        unit.read(&mut buffer).unwrap();
    }
}

fn cat(file: &Path) {
    assert!(Command::new("cat").arg(file).stdout(Stdio::null()).status().unwrap().success());
}

fn stream_messages(file: &Path) {
    let map = map(file);
    let mut buffer = Vec::new();
    for message in mcap::MessageStream::new(&map).unwrap() {
        buffer.clear();
        buffer.extend_from_slice(&message.unwrap().data);
    }
}

/// By how much opening raises the most memory that the process ever had, and the index, both in KiB.
fn child_memory(file: &Path) {
    let before = peak_kib();
    let recording = Recording::open(file).unwrap();
    println!("{} {}", peak_kib() - before, recording.index_bytes() / 1024);
}

/// Not by getrusage, which tells of the parent's, too.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
