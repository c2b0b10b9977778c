// SPDX-License-Identifier: MPL-2.0

//! The remap by itself: identity, borders, chroma, threads, and planes that do not fit. tests/rectify.rs of the workspace
//! has OpenCV judge it.

#![allow(missing_docs)]

use proptest::prelude::*;
use svo2::calibration::{Camera, StereoCamera};
use svo2::rectify::{Eye, Plane, Rectification, RemapError};

/// Two pinholes in the middle of their pictures, nothing turned: the recorded views are rectified ones.
fn pinholes(width: u32, height: u32) -> StereoCamera {
    let (cx, cy) = ((f64::from(width) - 1.0) / 2.0, (f64::from(height) - 1.0) / 2.0);
    let eye = Camera { fx: f64::from(width), fy: f64::from(width), cx, cy, distortion: [0.0; 5] };
    StereoCamera { width, height, left: eye, right: eye, rotation: [0.0; 3], translation: [120.0, 0.0, 0.0] }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
}

/// As a person would write it: four neighbours, their shares of a pixel, rounded once.
fn plain(rectification: &Rectification, chroma: bool, eye: Eye, source: &Plane, border: u8) -> Vec<u8> {
    let map = if chroma { rectification.chroma_map(eye) } else { rectification.map(eye) };
    let (width, height) = map.size();
    let sample = |x: i64, y: i64, channel: usize| {
        let inside = x >= 0 && y >= 0 && x < width as i64 && y < height as i64;
        let at = || y as usize * source.stride + (source.x + x as usize) * source.channels + channel;
        f64::from(if inside { source.data[at()] } else { border })
    };
    let mut seen = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let position = map.position(x, y);
        let ([column, row], [right, down]) =
            (position.pixel.map(i64::from), position.fraction.map(f64::from));
        for channel in 0..source.channels {
            let line =
                |y| sample(column, y, channel) * (32.0 - right) + sample(column + 1, y, channel) * right;
            let value = line(row) * (32.0 - down) + line(row + 1) * down;
            seen.push((value / 1024.0 + 0.5).floor() as u8);
        }
    }
    seen
}

#[test]
fn pinholes_side_by_side_are_left_as_they_are() {
    let rectification = Rectification::new(&pinholes(672, 376)).unwrap();
    assert!((rectification.baseline() - 120.0).abs() < 1e-12);
    for eye in [Eye::Left, Eye::Right] {
        for map in [rectification.map(eye), rectification.chroma_map(eye)] {
            let (width, height) = map.size();
            for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                let position = map.position(x, y);
                assert_eq!((position.pixel, position.fraction), ([x as i16, y as i16], [0, 0]));
            }
            for channels in 1..=4 {
                let picture = noise(width * height * channels);
                let mut seen = vec![1; picture.len()];
                let source = Plane { data: &picture, stride: width * channels, channels, x: 0 };
                map.apply(&source, &mut seen, width * channels, 0, 1).unwrap();
                assert!(seen == picture, "{channels} channels");
            }
        }
    }
}

#[test]
fn chroma_comes_from_where_luma_does() {
    let mut stereo = pinholes(672, 376);
    stereo.left.distortion = [-0.2, 0.05, 1e-3, -1e-3, 0.0];
    stereo.rotation = [0.02, -0.01, 0.03];
    let rectification = Rectification::new(&stereo).unwrap();
    for eye in [Eye::Left, Eye::Right] {
        let (luma, chroma) = (rectification.map(eye), rectification.chroma_map(eye));
        let at = |map: &svo2::rectify::Remap, x, y, axis: usize| {
            let position = map.position(x, y);
            f64::from(position.pixel[axis]) + f64::from(position.fraction[axis]) / 32.0
        };
        for (x, y) in (2..186).flat_map(|y| (2..334).map(move |x| (x, y))) {
            let column = at(&luma, 2 * x, 2 * y, 0) / 2.0;
            // Between two rows.
            let row = ((at(&luma, 2 * x, 2 * y, 1) + at(&luma, 2 * x, 2 * y + 1, 1)) / 2.0 - 0.5) / 2.0;
            let limit = 1.5 / 32.0;
            let inside = column > 0.0 && row > 0.0 && column < 334.0 && row < 186.0;
            if inside {
                assert!((at(&chroma, x, y, 0) - column).abs() < limit, "{x} {y}");
                assert!((at(&chroma, x, y, 1) - row).abs() < limit, "{x} {y}");
            }
        }
    }
}

#[test]
fn planes_that_do_not_fit_are_refused_with_their_sizes() {
    let map = Rectification::new(&pinholes(672, 376)).unwrap().map(Eye::Left);
    let (data, mut seen) = (vec![0; 1344 * 376], vec![0; 672 * 376]);
    let plane = |stride, channels, x| Plane { data: &data, stride, channels, x };
    let mut said = |source: Plane, stride, length| {
        let error: RemapError = map.apply(&source, &mut seen[..length], stride, 0, 1).unwrap_err();
        error.to_string()
    };
    let whole = 672 * 376;
    assert_eq!(
        said(plane(1344, 5, 0), 672, whole),
        "5 channels: there are maps for 1 to 4 channels of 8 bits"
    );
    assert_eq!(
        said(plane(1343, 1, 672), 672, whole),
        "the source stride 1343 is smaller than 1344 (columns 1344 x 1 channels)"
    );
    assert_eq!(
        said(plane(1345, 1, 672), 672, whole),
        "the source plane has 505344 bytes, fewer than 505719 (stride 1345 x 376 rows)"
    );
    assert_eq!(
        said(plane(1344, 1, 0), 671, whole),
        "the destination stride 671 is smaller than 672 (columns 672 x 1 channels)"
    );
    assert_eq!(
        said(plane(1344, 1, 0), 672, whole - 1),
        "the destination plane has 252671 bytes, fewer than 252672 (stride 672 x 376 rows)"
    );
    assert!(said(plane(usize::MAX, 1, 0), 672, whole).contains("fewer than"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the calibration, the plane and the machine's way: what a plain remap makes of the same map, from nothing
    /// but the view.
    #[test]
    fn any_view_is_remapped_as_a_plain_loop_does(
        (width, height) in (17_u32..150, 2_u32..40),
        lens in prop::array::uniform5(-0.3_f64..0.3),
        rotation in prop::array::uniform3(-0.3_f64..0.3),
        (ty, tz) in (-30.0_f64..30.0, -30.0_f64..30.0),
        (cx, cy) in (0.3_f64..0.7, 0.2_f64..0.8),
        (channels, padding, threads) in (1_usize..=4, 0_usize..9, 1_usize..5),
        (right, chroma, border) in (any::<bool>(), any::<bool>(), any::<u8>()),
    ) {
        let mut stereo = pinholes(width, height);
        (stereo.left.distortion, stereo.rotation) = (lens, rotation);
        (stereo.right.cx, stereo.right.cy) = (f64::from(width) * cx, f64::from(height) * cy);
        (stereo.translation[1], stereo.translation[2]) = (ty, tz);
        let rectification = Rectification::new(&stereo);
        prop_assume!(rectification.is_ok());
        let rectification = rectification.unwrap();
        let eye = if right { Eye::Right } else { Eye::Left };
        let map = if chroma { rectification.chroma_map(eye) } else { rectification.map(eye) };
        let (width, height) = map.size();
        let stride = 2 * width * channels + padding;
        // The last row ends with the view: nothing may be read after it.
        let x = if right { width } else { 0 };
        let data = noise(stride * (height - 1) + (x + width) * channels);
        let source = Plane { data: &data, stride, channels, x };
        let expected = plain(&rectification, chroma, eye, &source, border);
        let row = width * channels;
        let mut seen = vec![7; (row + padding) * height];
        map.apply(&source, &mut seen, row + padding, border, threads).unwrap();
        for (seen, expected) in seen.chunks(row + padding).zip(expected.chunks(row)) {
            prop_assert_eq!(&seen[..row], expected);
            prop_assert!(seen[row..].iter().all(|byte| *byte == 7));
        }
    }
}
