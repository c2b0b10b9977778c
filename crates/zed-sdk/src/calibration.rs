// SPDX-License-Identifier: MPL-2.0

//! What the SDK knows of the two eyes.

use crate::ffi::layout;

/// One eye.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Eye {
    /// Focal length, in pixels.
    pub fx: f32,
    /// Focal length, in pixels.
    pub fy: f32,
    /// Optical centre, in pixels.
    pub cx: f32,
    /// Optical centre, in pixels.
    pub cy: f32,
    /// k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4; zeros of rectified pictures.
    pub distortion: [f64; 12],
    /// Vertical, horizontal and diagonal field of view, in degrees.
    pub field_of_view: [f32; 3],
    /// The picture that this is about, in pixels.
    pub width: i32,
    /// The picture that this is about, in pixels.
    pub height: i32,
    /// Focal length, in mm.
    pub focal_length_mm: f32,
}

/// Both eyes, and how the right one lies to the left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Left eye.
    pub left: Eye,
    /// Right eye.
    pub right: Eye,
    /// From left to right, as the interface's four numbers.
    pub rotation: [f32; 4],
    /// From left to right, in the unit that the recording was opened with.
    pub translation: [f32; 3],
}

impl Calibration {
    pub(crate) fn new(raw: &layout::CalibrationParameters) -> Self {
        Self {
            left: Eye::new(&raw.left),
            right: Eye::new(&raw.right),
            rotation: raw.rotation,
            translation: raw.translation,
        }
    }

    /// How far the eyes are apart, in the unit that the recording was opened with.
    pub fn baseline(&self) -> f32 {
        self.translation.iter().map(|part| part * part).sum::<f32>().sqrt()
    }
}

impl Eye {
    fn new(raw: &layout::CameraParameters) -> Self {
        Self {
            fx: raw.fx,
            fy: raw.fy,
            cx: raw.cx,
            cy: raw.cy,
            distortion: raw.disto,
            field_of_view: [raw.v_fov, raw.h_fov, raw.d_fov],
            width: raw.image_width,
            height: raw.image_height,
            focal_length_mm: raw.focal_length_metric,
        }
    }

    /// The same eye with pictures of another size: lengths in pixels scale with them.
    pub fn scaled(&self, width: u32, height: u32) -> Self {
        let [x, y] = [width as f32 / self.width as f32, height as f32 / self.height as f32];
        Self {
            fx: self.fx * x,
            fy: self.fy * y,
            cx: self.cx * x,
            cy: self.cy * y,
            width: width as i32,
            height: height as i32,
            ..*self
        }
    }
}
