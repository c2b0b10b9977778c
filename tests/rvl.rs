// SPDX-License-Identifier: MPL-2.0

//! RVL depth beside a coder in Python that shares nothing with ours: each reads what the other writes, and they write the
//! same bytes.

mod common;

use common::readers;
use svo2::rvl;

/// Pixels of a picture: surfaces at some distance with noise of a few mm, holes, an edge, and the largest numbers.
fn depth(width: usize, height: usize) -> Vec<u16> {
    let mut noise = 12345u32;
    let mut pixel = |x: usize, y: usize| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match (x / 7 + y / 5) % 6 {
            0 => 0,
            1 if y > height / 2 => u16::MAX - (noise >> 30) as u16,
            _ if x < width / 3 => 700 + (y * 3) as u16 + (noise >> 29) as u16,
            _ => 5200 + (x * 2) as u16 - (noise >> 28) as u16,
        }
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect()
}

#[test]
fn python_reads_and_writes_the_same_depth() {
    for (width, height) in [(1, 1), (160, 90), (33, 17)] {
        let pixels = depth(width, height);
        let raw: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let bytes = rvl::encode(&pixels);
        assert!(bytes.len() < raw.len() || width == 1, "{} of {}", bytes.len(), raw.len());
        assert_eq!(readers::rvl(&["decode", &pixels.len().to_string()], &bytes), raw);
        let foreign = readers::rvl(&["encode"], &raw);
        assert_eq!(foreign, bytes);
        assert_eq!(rvl::decode(&foreign, pixels.len()).unwrap(), pixels);
    }
}
