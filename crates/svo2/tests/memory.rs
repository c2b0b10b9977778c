// SPDX-License-Identifier: MPL-2.0

//! What files that lie cost in memory. One test, since the most that a process ever had is all that the system tells.

mod common;

use common::{Film, open, scanned};
use mcap::records::op;
use svo2::{Layout, Reader};

/// In bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Records of a file, by opcode: where their bodies lie.
fn records(bytes: &[u8]) -> Vec<(u8, std::ops::Range<usize>)> {
    let mut at = mcap::MAGIC.len();
    let mut records = Vec::new();
    while at + 9 <= bytes.len() - mcap::MAGIC.len() {
        let len = u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
        records.push((bytes[at], at + 9..at + 9 + len));
        at += 9 + len;
    }
    records
}

#[test]
fn a_chunk_takes_no_more_memory_than_what_is_in_it() {
    /// What each chunk says that it has, and is allowed to have.
    const CLAIMED: u64 = 250 << 20;
    for compression in [mcap::Compression::Lz4, mcap::Compression::Zstd] {
        let layout = Layout { compression: Some(compression), chunk_size: Some(2000) };
        let film = Film { layout, ..Film::default() };
        let mut bytes = film.bytes();
        let all = records(&bytes);
        for (_, body) in all.iter().filter(|(op, _)| *op == op::CHUNK) {
            bytes[body.start + 16..body.start + 24].copy_from_slice(&CLAIMED.to_le_bytes());
        }
        let end = all.iter().find(|(op, _)| *op == op::DATA_END).unwrap().1.start - 9;
        bytes.truncate(end);
        let before = peak();
        let recording = open(&bytes).unwrap();
        assert_eq!(scanned(&recording), "it has no footer");
        // As all that is in them is whole, what they say of their size is told of, and nothing else.
        film.assert_in(&recording);
        Reader::new(recording).unit(0).unwrap();
        let grown = peak() - before;
        assert!(grown < CLAIMED / 4, "{compression:?}: {grown} bytes");
    }
}
