// SPDX-License-Identifier: MPL-2.0

//! Rectification of crates/svo2 beside OpenCV's, which reads the same calibration files on its own.

mod common;

use std::path::Path;

use common::readers;
use svo2::calibration::{Calibration, Resolution};
use svo2::rectify::{Eye, Plane, Rectification, Remap};

/// Both sides count pixels outside of the picture as this.
const BORDER: u8 = 77;

/// A camera as it would leave the factory, or worse.
struct Shape {
    resolution: Resolution,
    /// Focal length over the picture's width.
    focal: f64,
    /// k1, k2, p1, p2, k3
    lens: [f64; 5],
    /// RX, CV, RZ
    rotation: [f64; 3],
    /// Baseline, TY, TZ
    translation: [f64; 3],
}

const SHAPES: [Shape; 8] = [
    // As of a ZED 2, a ZED Mini, a ZED X and a ZED X Mini.
    Shape {
        resolution: Resolution::Hd,
        focal: 0.5464,
        lens: [-0.170704, 0.0249542, 9.55e-5, -1.095e-4, -9.97e-11],
        rotation: [0.00239722, 0.00697667, -0.0021326],
        translation: [119.905, 0.0458908, -0.467919],
    },
    Shape {
        resolution: Resolution::TwoK,
        focal: 0.6338,
        lens: [-0.0419, 0.0127, 1e-4, -2e-4, -0.003],
        rotation: [0.00309, 0.00391, -0.000471],
        translation: [62.9962, 0.0197, -0.0368],
    },
    Shape {
        resolution: Resolution::Svga,
        focal: 0.3828,
        lens: [-0.0166323, -0.0273565, 7.04e-5, 2.1e-5, 0.00695552],
        rotation: [0.0004, 0.001, -0.0002],
        translation: [119.87, 0.02, -0.31],
    },
    Shape {
        resolution: Resolution::Fhd1200,
        focal: 0.3838,
        lens: [-0.0120856, -0.0309258, 2.2e-4, 5.5e-5, 0.00802708],
        rotation: [0.00124871, 0.0107261, 0.00138949],
        translation: [49.8789, 0.0509066, 0.167848],
    },
    // A wide lens with strong distortion, and eyes that are turned by degrees.
    Shape {
        resolution: Resolution::Fhd,
        focal: 0.37,
        lens: [-0.31, 0.11, 1e-3, -8e-4, -0.018],
        rotation: [0.031, -0.024, 0.042],
        translation: [120.4, 3.1, -5.2],
    },
    // Pincushion distortion, and the right eye lower.
    Shape {
        resolution: Resolution::Vga,
        focal: 0.71,
        lens: [0.12, 0.05, -2e-3, 1e-3, 0.01],
        rotation: [-0.05, 0.01, -0.03],
        translation: [63.1, -9.0, 4.4],
    },
    // No distortion, nothing turned: two pinholes.
    Shape {
        resolution: Resolution::Svga,
        focal: 0.5,
        lens: [0.0; 5],
        rotation: [0.0; 3],
        translation: [50.0, 0.0, 0.0],
    },
    // Decentred so far that OpenCV's rectangle is not valid all over: some pixels come from outside.
    Shape {
        resolution: Resolution::Vga,
        focal: 0.42,
        lens: [-0.42, 0.2, 0.02, -0.02, -0.03],
        rotation: [0.12, 0.09, -0.15],
        translation: [63.1, 2.0, 1.0],
    },
];

impl Shape {
    fn conf(&self) -> String {
        let (width, height) = self.resolution.size();
        let (name, [rx, cv, rz], [baseline, ty, tz]) =
            (self.resolution.name(), self.rotation, self.translation);
        let eye = |eye: &str, sign: f64| {
            let (width, height) = (f64::from(width), f64::from(height));
            let fx = self.focal * width * (1.0 + 0.001 * sign);
            let fy = fx * 1.0007;
            let (cx, cy) = (width * (0.5 + 0.011 * sign), height * (0.5 - 0.007 * sign));
            let [k1, k2, p1, p2, k3] = self.lens.map(|value| value * (1.0 + 0.02 * sign));
            format!(
                "[{eye}_CAM_{name}]\nfx={fx}\nfy={fy}\ncx={cx}\ncy={cy}\n\
                 k1={k1}\nk2={k2}\np1={p1}\np2={p2}\nk3={k3}\n\n"
            )
        };
        format!(
            "{}{}[STEREO]\nBaseline={baseline}\nTY={ty}\nTZ={tz}\nRX_{name}={rx}\nCV_{name}={cv}\nRZ_{name}={rz}\n",
            eye("LEFT", 1.0),
            eye("RIGHT", -1.0)
        )
    }
}

/// Noise, in which every wrong 32nd of a pixel is seen.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Slopes of at most twelve grey levels a pixel, in which positions may differ by a 32nd.
fn smooth(width: usize, height: usize, channels: usize) -> Vec<u8> {
    let wave = |x: usize, y: usize, channel: usize| {
        let (x, y) = (x as f64 * 0.07, y as f64 * 0.05);
        let value = 127.5 + 60.0 * (x + channel as f64).sin() + 60.0 * (y - 0.3 * x).cos();
        value.round() as u8
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    pixels.flat_map(|(x, y)| (0..channels).map(move |channel| wave(x, y, channel))).collect()
}

/// Positions, and how many of them are not OpenCV's.
fn differing(map: &Remap, file: &Path) -> usize {
    let (width, height) = map.size();
    let bytes = std::fs::read(file).unwrap();
    let values: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
    assert_eq!(values.len(), width * height * 3, "{}", file.display());
    let (pixels, fractions) = values.split_at(width * height * 2);
    let same = |index: usize| {
        let ours = map.position(index % width, index / width);
        let theirs = [pixels[2 * index] as i16, pixels[2 * index + 1] as i16];
        // Of pixels that are outside altogether, it does not matter by how much.
        let outside = ours.pixel[0] < -1 || ours.pixel[1] < -1;
        outside || (ours.pixel == theirs && ours.fraction[0] | ours.fraction[1] << 5 == fractions[index])
    };
    (0..width * height).filter(|&index| !same(index)).count()
}

/// The greatest distance along an axis between our positions and OpenCV's float maps, in pixels.
fn distance(map: &Remap, folder: &Path, eye: &str) -> f64 {
    let (width, _) = map.size();
    let mut worst = 0_f64;
    for (axis, name) in ["x", "y"].into_iter().enumerate() {
        let bytes = std::fs::read(folder.join(format!("{eye}.{name}"))).unwrap();
        for (index, theirs) in bytes.as_chunks::<4>().0.iter().enumerate() {
            let position = map.position(index % width, index / width);
            if position.pixel.iter().all(|&pixel| pixel >= -1) {
                let ours = f64::from(position.pixel[axis]) + f64::from(position.fraction[axis]) / 32.0;
                worst = worst.max((ours - f64::from(f32::from_le_bytes(*theirs))).abs());
            }
        }
    }
    worst
}

/// What we make of a picture that is the right or left half of a wider one; the greatest difference in grey levels.
fn compare_pixels(map: &Remap, eye: Eye, picture: &[u8], channels: usize, theirs: &[u8]) -> u8 {
    let (width, height) = map.size();
    let row = width * channels;
    // The other half must not be seen; nor may the padding, which the last row does not have.
    let (stride, x) = (2 * row + 5, if eye == Eye::Right { width } else { 0 });
    let mut both = vec![255 - BORDER; stride * height - 5];
    for (y, line) in picture.chunks(row).enumerate() {
        both[y * stride + x * channels..][..row].copy_from_slice(line);
    }
    let (padded, padding) = (row + 3, 11);
    let mut ours = vec![padding; padded * height];
    let source = Plane { data: &both, stride, channels, x };
    map.apply(&source, &mut ours, padded, BORDER, 2).unwrap();
    let mut worst = 0;
    for (ours, theirs) in ours.chunks(padded).zip(theirs.chunks(row)) {
        assert_eq!(ours[row..], [padding; 3], "nothing is written beyond a row");
        worst = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap().max(worst);
    }
    worst
}

fn compare(shape: &Shape) {
    let folder = tempfile::tempdir().unwrap();
    let (folder, conf) = (folder.path(), folder.path().join("SN1.conf"));
    std::fs::write(&conf, shape.conf()).unwrap();
    let (width, height) = shape.resolution.size();
    let pixels = (width * height) as usize;
    for channels in 1..=4 {
        std::fs::write(folder.join(format!("noise-{channels}.raw")), noise(pixels * channels)).unwrap();
        let smooth = smooth(width as usize, height as usize, channels);
        std::fs::write(folder.join(format!("smooth-{channels}.raw")), smooth).unwrap();
    }
    let matrices = readers::opencv(&conf, shape.resolution.name(), (width, height), folder);
    let stereo = Calibration::read(&conf).unwrap().for_size(width, height).unwrap();
    let rectification = Rectification::new(&stereo).unwrap();

    for (index, (eye, name)) in [(Eye::Left, "left"), (Eye::Right, "right")].into_iter().enumerate() {
        let what = format!("{} {name}", shape.resolution);
        let near = |ours: f64, theirs: &serde_json::Value, limit: f64| {
            let theirs = theirs.as_f64().unwrap();
            assert!((ours - theirs).abs() <= limit, "{what}: {ours} beside {theirs}");
        };
        let (r, p) = (rectification.rotation(eye), rectification.projection(eye));
        for row in 0..3 {
            for column in 0..3 {
                near(r[row][column], &matrices["r"][index][row][column], 1e-12);
                near(p[row][column], &matrices["p"][index][row][column], 1e-7);
            }
            // The sign is ours to choose.
            near(p[row][3].abs(), &matrices["p"][index][row][3], 1e-5);
        }
        let (map, chroma) = (rectification.map(eye), rectification.chroma_map(eye));
        let distance = distance(&map, folder, name);
        let wrong = differing(&map, &folder.join(format!("{name}.maps")));
        let wrong_chroma = differing(&chroma, &folder.join(format!("{name}.chroma-maps")));
        println!("{what}: {distance:.6} px from the float maps; {wrong} + {wrong_chroma} positions differ");
        assert!(distance < 0.02, "{what}: {distance} px apart");
        assert_eq!((wrong, wrong_chroma), (0, 0), "{what}: positions that are not OpenCV's");
        for channels in 1..=4 {
            for picture in ["noise", "smooth"] {
                let source = std::fs::read(folder.join(format!("{picture}-{channels}.raw"))).unwrap();
                let theirs = std::fs::read(folder.join(format!("{name}.{picture}-{channels}"))).unwrap();
                let worst = compare_pixels(&map, eye, &source, channels, &theirs);
                println!("{what}: {picture}, {channels} channels: at most {worst} grey levels apart");
                assert!(worst <= 1, "{what}: {picture}, {channels} channels: {worst} grey levels apart");
            }
        }
    }
}

#[test]
fn every_shape_of_calibration_is_rectified_as_by_opencv() {
    let resolutions = Resolution::ALL.iter();
    let missing =
        resolutions.filter(|resolution| SHAPES.iter().all(|shape| shape.resolution != **resolution));
    assert_eq!(missing.count(), 0);
    SHAPES.iter().for_each(compare);
}
