// SPDX-License-Identifier: MPL-2.0

//! Rectified views: where each of their pixels lies in the recorded picture, computed once, and the remap of planes.
//!
//! The two views have parallel rows (a point has the same y in both), the same focal length and principal point, and no
//! distortion: OpenCV's `stereoRectify` with zero disparity and alpha 0, and `initUndistortRectifyMap`, to the same 32nd
//! of a pixel.
//!
//! Rotation and translation are taken as Stereolabs' zed-open-capture takes them: `Rodrigues(RX, CV, RZ)` and
//! `(Baseline, TY, TZ)`, the baseline positive. Rectification is the same for T and -T, so nothing is mirrored. Only the
//! signs of TY and TZ beside that of the baseline matter, and there Stereolabs disagree with themselves: their
//! zed-opencv-calibration writes `-T.x` as Baseline beside `T.y` and `T.z` as they are. With `(-Baseline, TY, TZ)`, for
//! which the sign of `StereoCamera::translation[0]` is to be changed, both views turn by twice `atan(TY / Baseline)` and
//! `atan(TZ / Baseline)`.

mod geometry;
mod remap;

pub use remap::{Plane, Remap, RemapError};

use crate::calibration::{Camera, StereoCamera};

/// One of the two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eye {
    /// That of the left half of a recorded picture.
    Left,
    /// That of the right half.
    Right,
}

/// There is no rectification for such a calibration.
#[derive(Debug, thiserror::Error)]
#[error(
    "no rectification for this calibration: no rectangle of both views would have pixels all over (translation \
     {translation:?} mm, which must be mainly along x, rotation {rotation:?} rad, distortion {left:?} and {right:?})"
)]
pub struct RectifyError {
    translation: [f64; 3],
    rotation: [f64; 3],
    left: [f64; 5],
    right: [f64; 5],
}

/// Both rectified views of one camera at one resolution.
#[derive(Debug, Clone, Copy)]
pub struct Rectification {
    stereo: StereoCamera,
    rectified: geometry::Rectified,
}

impl Rectification {
    /// Works it out; fails where the calibration cannot be one.
    pub fn new(stereo: &StereoCamera) -> Result<Self, RectifyError> {
        let rectified = geometry::rectify(stereo).ok_or(RectifyError {
            translation: stereo.translation,
            rotation: stereo.rotation,
            left: stereo.left.distortion,
            right: stereo.right.distortion,
        })?;
        Ok(Self { stereo: *stereo, rectified })
    }

    /// Width and height of each view, recorded and rectified.
    pub fn size(&self) -> (u32, u32) {
        (self.stereo.width, self.stereo.height)
    }

    /// Distance between the eyes in millimetres.
    pub fn baseline(&self) -> f64 {
        self.rectified.baseline
    }

    /// The rotation from a recorded view's coordinates to the rectified ones: `R1`, `R2` of `stereoRectify`.
    pub fn rotation(&self, eye: Eye) -> [[f64; 3]; 3] {
        self.rectified.rotations[eye as usize]
    }

    /// From rectified coordinates of the left eye, in millimetres, to pixels of a rectified view: `P1`, `P2`. The right
    /// view's last column is (-focal length times baseline, 0, 0), as ROS and Foxglove have it; `stereoRectify` has the
    /// sign of the translation that it was given.
    pub fn projection(&self, eye: Eye) -> [[f64; 4]; 3] {
        let geometry::Rectified { focal, center, baseline, .. } = self.rectified;
        let shift = if eye == Eye::Right { -focal * baseline } else { 0.0 };
        [[focal, 0.0, center[0], shift], [0.0, focal, center[1], 0.0], [0.0, 0.0, 1.0, 0.0]]
    }

    /// For luma, and for pictures whose components have all one size.
    pub fn map(&self, eye: Eye) -> Remap {
        let source = self.source(eye);
        Remap::new(self.stereo.width, self.stereo.height, |x, y| source([f64::from(x), f64::from(y)]))
    }

    /// For the chroma planes of 4:2:0, half as wide and high, rounded up. Chroma lies as H.264 and H.265 have it unless
    /// they say otherwise: on the left one of two columns of luma, between two rows. Where it lies in the middle of four
    /// pixels, the map is the same to within a tenth of a pixel.
    pub fn chroma_map(&self, eye: Eye) -> Remap {
        let source = self.source(eye);
        let (width, height) = (self.stereo.width.div_ceil(2), self.stereo.height.div_ceil(2));
        Remap::new(width, height, |x, y| {
            let [u, v] = source([2.0 * f64::from(x), 2.0 * f64::from(y) + 0.5]);
            [u / 2.0, (v - 0.5) / 2.0]
        })
    }

    fn camera(&self, eye: Eye) -> &Camera {
        match eye {
            Eye::Left => &self.stereo.left,
            Eye::Right => &self.stereo.right,
        }
    }

    /// From pixels of a rectified view to pixels of the recorded one.
    fn source(&self, eye: Eye) -> impl Fn([f64; 2]) -> [f64; 2] {
        let geometry::Rectified { focal, center, .. } = self.rectified;
        let back = geometry::transpose(&self.rotation(eye));
        let camera = *self.camera(eye);
        move |[x, y]| {
            let ray = [(x - center[0]) / focal, (y - center[1]) / focal, 1.0];
            let [x, y, z] = geometry::apply(&back, ray);
            geometry::distort(&camera, [x / z, y / z])
        }
    }
}
