// SPDX-License-Identifier: MPL-2.0

//! Settings of a recording that is opened, and of each grab, with their numbers in the C interface.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::ffi::layout;

/// Enums of the interface: numbers from 0 in the order given, and names as users write them.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number,)*
        }

        impl $name {
            /// All of them, in the SDK's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As users write it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let same = |one: &&Self| one.name().eq_ignore_ascii_case(&text.replace('_', "-"));
                Self::ALL.iter().find(same).copied().ok_or_else(|| {
                    let names: Vec<&str> = Self::ALL.iter().map(|one| one.name()).collect();
                    format!("'{text}' is no {}: it is one of {}", $what, names.join(", "))
                })
            }
        }
    };
}
pub(crate) use named;

named! {
    /// How depth is computed; `SL_DEPTH_MODE`.
    DepthMode, "depth mode" {
        /// No depth: pictures alone, which need the least of the GPU.
        None = 0 "none",
        /// The fastest.
        Performance = 1 "performance",
        /// Between.
        Quality = 2 "quality",
        /// More detail.
        Ultra = 3 "ultra",
        /// A neural network, the lightest.
        NeuralLight = 4 "neural-light",
        /// A neural network.
        Neural = 5 "neural",
        /// A neural network, the most exact.
        NeuralPlus = 6 "neural-plus",
    }
}

named! {
    /// Of positions and of distances that are not said to be in mm; `SL_UNIT`.
    Unit, "unit" {
        /// mm
        Millimeter = 0 "millimeter",
        /// cm
        Centimeter = 1 "centimeter",
        /// m
        Meter = 2 "meter",
        /// in
        Inch = 3 "inch",
        /// ft
        Foot = 4 "foot",
    }
}

named! {
    /// Axes of poses; `SL_COORDINATE_SYSTEM`.
    CoordinateSystem, "coordinate system" {
        /// x to the right, y down, z forward.
        Image = 0 "image",
        /// x to the right, y up, z forward.
        LeftHandedYUp = 1 "left-handed-y-up",
        /// x to the right, y up, z backward.
        RightHandedYUp = 2 "right-handed-y-up",
        /// x to the right, y forward, z up.
        RightHandedZUp = 3 "right-handed-z-up",
        /// x forward, y to the right, z up.
        LeftHandedZUp = 4 "left-handed-z-up",
        /// x forward, y to the left, z up.
        RightHandedZUpXFwd = 5 "right-handed-z-up-x-fwd",
    }
}

named! {
    /// Which picture; `SL_VIEW`, those that are BGRA and of one eye's size.
    View, "view" {
        /// Left, rectified.
        Left = 0 "left",
        /// Right, rectified.
        Right = 1 "right",
        /// Left, as the sensor saw it.
        LeftUnrectified = 4 "left-unrectified",
        /// Right, as the sensor saw it.
        RightUnrectified = 5 "right-unrectified",
    }
}

named! {
    /// What a pose is relative to; `SL_REFERENCE_FRAME`.
    ReferenceFrame, "reference frame" {
        /// Where tracking began.
        World = 0 "world",
        /// The frame before.
        Camera = 1 "camera",
    }
}

/// How a recording is opened. What is about live cameras alone has the SDK's defaults: any serial number, 5 s to open,
/// sensors not required, no recovery in the background, no limit of the rate. Frames come one by one, not in real time.
#[derive(Debug, Clone, PartialEq)]
pub struct InitParameters {
    /// Default: `neural`, the SDK's.
    pub depth_mode: DepthMode,
    /// How much depth is smoothed over time, 0 (not at all) to 100. Above 0 the SDK tracks the camera by itself. Default: 30.
    pub depth_stabilization: u8,
    /// Nothing nearer has a depth; in [`unit`](Self::unit). Default: `None`, the camera's own limit.
    pub depth_minimum: Option<f32>,
    /// Nothing further has a depth; in [`unit`](Self::unit). Default: `None`, the SDK's limit.
    pub depth_maximum: Option<f32>,
    /// Also of positions, and of those of the calibration; depth pictures are in mm whatever this says. Default: `meter`; the
    /// SDK's own default is the millimetre.
    pub unit: Unit,
    /// Default: `image`, the SDK's.
    pub coordinate_system: CoordinateSystem,
    /// Number of the GPU. Default: `None`, the most powerful.
    pub gpu: Option<u16>,
    /// The SDK talks on stdout. Default: false, as stdout is for results; the SDK's own default is to talk.
    pub verbose: bool,
    /// Whether the factory's calibration is adjusted to the pictures on opening. Default: true, the SDK's.
    pub self_calibration: bool,
    /// Whether right-hand depth can be asked for. Default: false, the SDK's.
    pub right_side_measure: bool,
    /// Whether damaged pictures are told of by each grab. Default: true, the SDK's.
    pub image_validity_check: bool,
    /// The largest picture that will be asked for, in pixels. Default: `None`, the recording's size.
    pub maximum_size: Option<(u32, u32)>,
}

impl Default for InitParameters {
    fn default() -> Self {
        Self {
            depth_mode: DepthMode::Neural,
            depth_stabilization: 30,
            depth_minimum: None,
            depth_maximum: None,
            unit: Unit::Meter,
            coordinate_system: CoordinateSystem::Image,
            gpu: None,
            verbose: false,
            self_calibration: true,
            right_side_measure: false,
            image_validity_check: true,
            maximum_size: None,
        }
    }
}

impl InitParameters {
    pub(crate) fn raw(&self) -> Result<layout::InitParameters, Error> {
        if self.depth_stabilization > 100 {
            let value = self.depth_stabilization.to_string();
            return Err(Error::Setting { name: "depth_stabilization", value, rule: "it is 0 to 100" });
        }
        let (width, height) = match self.maximum_size {
            Some((width, height)) => size("maximum_size", width, height)?,
            None => (0, 0),
        };
        Ok(layout::InitParameters {
            input_type: layout::INPUT_SVO,
            // Of live cameras alone, up to the flip.
            resolution: 0,
            camera_fps: 0,
            camera_device_id: 0,
            camera_image_flip: 0,
            camera_disable_self_calib: !self.self_calibration,
            enable_right_side_measure: self.right_side_measure,
            svo_real_time_mode: false,
            depth_mode: self.depth_mode as i32,
            depth_stabilization: self.depth_stabilization.into(),
            depth_minimum_distance: distance("depth_minimum", self.depth_minimum)?,
            depth_maximum_distance: distance("depth_maximum", self.depth_maximum)?,
            coordinate_unit: self.unit as i32,
            coordinate_system: self.coordinate_system as i32,
            sdk_gpu_id: self.gpu.map_or(-1, i32::from),
            sdk_verbose: self.verbose.into(),
            sensors_required: false,
            enable_image_enhancement: true,
            open_timeout_sec: 5.0,
            async_grab_camera_recovery: false,
            grab_compute_capping_fps: 0.0,
            enable_image_validity_check: self.image_validity_check,
            maximum_working_width: width,
            maximum_working_height: height,
        })
    }
}

/// A distance that the SDK takes; -1 has it choose.
fn distance(name: &'static str, value: Option<f32>) -> Result<f32, Error> {
    match value {
        None => Ok(-1.0),
        Some(value) if value.is_finite() && value > 0.0 => Ok(value),
        Some(value) => Err(Error::Setting { name, value: value.to_string(), rule: "it is above 0" }),
    }
}

/// A size that the SDK takes.
pub(crate) fn size(name: &'static str, width: u32, height: u32) -> Result<(i32, i32), Error> {
    // Far above any camera's; products of it stay within what memory can have.
    const LARGEST: u32 = 1 << 15;
    if (1..=LARGEST).contains(&width) && (1..=LARGEST).contains(&height) {
        return Ok((width as i32, height as i32));
    }
    let rule = "each is 1 to 32768 pixels";
    Err(Error::Setting { name, value: format!("{width}x{height}"), rule })
}

/// How each frame is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeParameters {
    /// Of 3D measures. Default: `camera`, the SDK's.
    pub reference_frame: ReferenceFrame,
    /// Default: true, the SDK's; without, pictures alone.
    pub depth: bool,
    /// Whether holes are filled, which overrides the thresholds. Default: false, the SDK's.
    pub fill: bool,
    /// Depth that is less certain is left out, 1 (all but the surest) to 100 (nothing). Default: 95, the SDK's.
    pub confidence_threshold: u8,
    /// The same of uniform areas. Default: 100, the SDK's.
    pub texture_confidence_threshold: u8,
    /// Whether areas without contrast, since they are too bright, are left out. Default: true, the SDK's.
    pub remove_saturated_areas: bool,
}

impl Default for RuntimeParameters {
    fn default() -> Self {
        Self {
            reference_frame: ReferenceFrame::Camera,
            depth: true,
            fill: false,
            confidence_threshold: 95,
            texture_confidence_threshold: 100,
            remove_saturated_areas: true,
        }
    }
}

impl RuntimeParameters {
    pub(crate) fn raw(&self) -> Result<layout::RuntimeParameters, Error> {
        let threshold = |name, value: u8| match value {
            1..=100 => Ok(value.into()),
            _ => Err(Error::Setting { name, value: value.to_string(), rule: "it is 1 to 100" }),
        };
        Ok(layout::RuntimeParameters {
            reference_frame: self.reference_frame as i32,
            enable_depth: self.depth,
            enable_fill_mode: self.fill,
            confidence_threshold: threshold("confidence_threshold", self.confidence_threshold)?,
            texture_confidence_threshold: threshold(
                "texture_confidence_threshold",
                self.texture_confidence_threshold,
            )?,
            remove_saturated_areas: self.remove_saturated_areas,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back_and_typos_list_all() {
        for mode in DepthMode::ALL {
            assert_eq!(mode.name().parse(), Ok(*mode));
        }
        assert_eq!("NEURAL_PLUS".parse(), Ok(DepthMode::NeuralPlus));
        let error = "neurel".parse::<DepthMode>().unwrap_err();
        assert!(error.starts_with("'neurel' is no depth mode: it is one of none, performance"), "{error}");
    }

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let refused = |init: InitParameters| init.raw().unwrap_err().to_string();
        let init = InitParameters { depth_stabilization: 101, ..Default::default() };
        assert_eq!(refused(init), "depth_stabilization 101: it is 0 to 100");
        let init = InitParameters { depth_minimum: Some(f32::NAN), ..Default::default() };
        assert_eq!(refused(init), "depth_minimum NaN: it is above 0");
        let init = InitParameters { maximum_size: Some((0, 8)), ..Default::default() };
        assert_eq!(refused(init), "maximum_size 0x8: each is 1 to 32768 pixels");
        let runtime = RuntimeParameters { confidence_threshold: 0, ..Default::default() };
        assert_eq!(runtime.raw().unwrap_err().to_string(), "confidence_threshold 0: it is 1 to 100");
    }
}
