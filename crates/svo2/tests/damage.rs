// SPDX-License-Identifier: MPL-2.0

//! Files that are cut short, bent or lie: no panic, no hang, and every frame that is whole.

mod common;

use common::{Film, open, scanned};
use svo2::{Codec, Layout, OpenError};

fn layouts() -> impl Iterator<Item = Layout> {
    let compressed = [Some(mcap::Compression::Lz4), Some(mcap::Compression::Zstd)];
    let chunked = std::iter::once(None)
        .chain(compressed)
        .map(|compression| Layout { compression, chunk_size: Some(500) });
    chunked.chain([Layout { compression: None, chunk_size: None }])
}

/// Where the whole frames of an uncompressed recording end.
fn ends(film: &Film, bytes: &[u8]) -> Vec<usize> {
    let finder = |unit: &[u8]| bytes.windows(unit.len()).position(|window| window == unit).unwrap();
    (0..film.frames)
        .map(|number| {
            let unit = film.unit(number);
            finder(&unit) + unit.len() + 56
        })
        .collect()
}

#[test]
fn cut_anywhere_it_has_the_frames_that_are_whole() {
    for codec in [Codec::H264, Codec::H265] {
        for layout in layouts() {
            let film = Film { codec, frames: 6, distance: 5, len: 20, layout, ..Film::default() };
            let bytes = film.bytes();
            let whole = film.layout.compression.is_none().then(|| ends(&film, &bytes));
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
                if let Some(ends) = &whole {
                    let want = ends.iter().filter(|&&end| end <= len).count();
                    assert_eq!(frames, want, "{len} of {} bytes, {:?}", bytes.len(), film.layout);
                }
                assert!(frames >= before, "{len} of {} bytes, {:?}", bytes.len(), film.layout);
                before = frames;
            }
            assert_eq!(before, film.frames);
        }
    }
}
