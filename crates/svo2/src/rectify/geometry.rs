// SPDX-License-Identifier: MPL-2.0

//! Rotations and lenses: what `stereoRectify` and `initUndistortRectifyMap` of OpenCV compute, for horizontal stereo with
//! zero disparity and alpha 0.
//!
//! Order and precision of the steps are those of OpenCV 4.14 and 5.0 where they can be seen in the result: maps are to
//! round to the same 32nd of a pixel.

use crate::calibration::{Camera, StereoCamera};

pub type Vec3 = [f64; 3];
pub type Mat3 = [[f64; 3]; 3];

const IDENTITY: Mat3 = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
/// `undistortPoints` takes so many steps unless told otherwise.
const UNDISTORT_STEPS: usize = 5;
/// Points along each side of the picture in the search for the largest rectangle that is valid.
const GRID: usize = 9;

/// What the rectified views have in common, and the rotation of each.
#[derive(Debug, Clone, Copy)]
pub struct Rectified {
    /// From each eye's coordinates to the rectified ones.
    pub rotations: [Mat3; 2],
    /// In pixels, of both views.
    pub focal: f64,
    /// In pixels, of both views.
    pub center: [f64; 2],
    /// Between the eyes, in the unit of the translation.
    pub baseline: f64,
}

pub fn norm(v: Vec3) -> f64 {
    dot(v, v).sqrt()
}

fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn scale(v: Vec3, factor: f64) -> Vec3 {
    v.map(|value| value * factor)
}

pub fn apply(m: &Mat3, v: Vec3) -> Vec3 {
    [dot(m[0], v), dot(m[1], v), dot(m[2], v)]
}

pub fn transpose(m: &Mat3) -> Mat3 {
    std::array::from_fn(|row| std::array::from_fn(|column| m[column][row]))
}

fn multiply(a: &Mat3, b: &Mat3) -> Mat3 {
    let columns = transpose(b);
    a.map(|row| columns.map(|column| dot(row, column)))
}

/// The rotation about the axis `v` by its length in radians.
pub fn rodrigues(v: Vec3) -> Mat3 {
    let angle = norm(v);
    if angle < f64::EPSILON {
        return IDENTITY;
    }
    let axis = scale(v, 1.0 / angle);
    let (sin, cos) = angle.sin_cos();
    let skew = [[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]];
    std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            cos * IDENTITY[row][column] + (1.0 - cos) * axis[row] * axis[column] + sin * skew[row][column]
        })
    })
}

/// Where the lens puts a point of the plane at distance 1, in pixels.
pub fn distort(camera: &Camera, [x, y]: [f64; 2]) -> [f64; 2] {
    let [k1, k2, p1, p2, k3] = camera.distortion;
    let (x2, y2, xy2) = (x * x, y * y, 2.0 * x * y);
    let r2 = x2 + y2;
    let radial = 1.0 + ((k3 * r2 + k2) * r2 + k1) * r2;
    let u = x * radial + p1 * xy2 + p2 * (r2 + 2.0 * x2);
    let v = y * radial + p1 * (r2 + 2.0 * y2) + p2 * xy2;
    [camera.fx * u + camera.cx, camera.fy * v + camera.cy]
}

/// The way back, by a fixed number of steps: beyond the lens's range it does not converge, in OpenCV neither.
fn undistort(camera: &Camera, [u, v]: [f64; 2]) -> [f64; 2] {
    let [k1, k2, p1, p2, k3] = camera.distortion;
    let seen = [(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy];
    let [mut x, mut y] = seen;
    for _ in 0..UNDISTORT_STEPS {
        let r2 = x * x + y * y;
        let inverse = 1.0 / (1.0 + ((k3 * r2 + k2) * r2 + k1) * r2);
        if inverse < 0.0 {
            return seen;
        }
        let dx = 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x);
        let dy = p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y;
        (x, y) = ((seen[0] - dx) * inverse, (seen[1] - dy) * inverse);
    }
    [x, y]
}

fn single(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Both eyes turned by half of the angle between them, then until their rows are parallel to the baseline. Nothing where
/// the translation is not mainly horizontal, or where no rectangle of the rectified views is valid.
pub fn rectify(stereo: &StereoCamera) -> Option<Rectified> {
    let half = rodrigues(scale(stereo.rotation, -0.5));
    let t = apply(&half, stereo.translation);
    if t[0].abs() <= t[1].abs() {
        return None;
    }
    let axis = cross(t, [t[0].signum(), 0.0, 0.0]);
    let angle = (t[0].abs() / norm(t)).min(1.0).acos();
    let turn = match norm(axis) {
        length if length > 0.0 => rodrigues(scale(axis, angle / length)),
        _ => IDENTITY,
    };
    let rotations = [multiply(&turn, &transpose(&half)), multiply(&turn, &half)];
    let baseline = apply(&rotations[1], stereo.translation)[0].abs();

    let eyes = [(&stereo.left, &rotations[0]), (&stereo.right, &rotations[1])];
    let size = [f64::from(stereo.width), f64::from(stereo.height)];
    let focal = (stereo.left.fy + stereo.right.fy) * 0.5;
    let centers = eyes.map(|(camera, rotation)| center(camera, rotation, focal, size));
    let center = [0, 1].map(|axis| (centers[0][axis] + centers[1][axis]) * 0.5);

    let mut zoom = f64::MIN;
    for (camera, rotation) in eyes {
        let [left, top, right, bottom] = inner_rectangle(camera, rotation, focal, center, size);
        zoom = zoom
            .max(center[0] / (center[0] - left))
            .max(center[1] / (center[1] - top))
            .max((size[0] - 1.0 - center[0]) / (right - center[0]))
            .max((size[1] - 1.0 - center[1]) / (bottom - center[1]));
    }
    let found = zoom.is_finite() && zoom > 0.0;
    found.then_some(Rectified { rotations, focal: focal * zoom, center, baseline })
}

/// The principal point that puts the middle of the picture's corners into the middle of the rectified one. In single
/// precision where OpenCV has it.
fn center(camera: &Camera, rotation: &Mat3, focal: f64, size: [f64; 2]) -> [f64; 2] {
    let last = size.map(|length| length - 1.0);
    let mut sum = [0.0; 2];
    for corner in [[0.0, 0.0], [last[0], 0.0], [0.0, last[1]], last] {
        let [x, y] = undistort(camera, corner).map(single);
        let [x, y, z] = apply(rotation, [x, y, 1.0]);
        let inverse = 1.0 / z;
        sum[0] += single(x * inverse * focal);
        sum[1] += single(y * inverse * focal);
    }
    [last[0] / 2.0 - sum[0] / 4.0, last[1] / 2.0 - sum[1] / 4.0]
}

/// Left, top, right and bottom of the largest rectangle that has pixels all over.
fn inner_rectangle(
    camera: &Camera,
    rotation: &Mat3,
    focal: f64,
    center: [f64; 2],
    size: [f64; 2],
) -> [f64; 4] {
    let along = |step: usize, length: f64| step as f64 * (length - 1.0) / (GRID - 1) as f64;
    let see = |column: usize, row: usize| {
        let [x, y] = undistort(camera, [along(column, size[0]), along(row, size[1])]);
        let [x, y, z] = apply(rotation, [x, y, 1.0]);
        [focal * x / z + center[0], focal * y / z + center[1]]
    };
    let [mut left, mut top, mut right, mut bottom] = [f64::MIN, f64::MIN, f64::MAX, f64::MAX];
    for step in 0..GRID {
        left = left.max(see(0, step)[0]);
        right = right.min(see(GRID - 1, step)[0]);
        top = top.max(see(step, 0)[1]);
        bottom = bottom.min(see(step, GRID - 1)[1]);
    }
    [left, top, right, bottom]
}
