// SPDX-License-Identifier: MPL-2.0

//! What the SDK refuses, by name and number.

use std::fmt;

/// A number of the SDK's `SL_ERROR_CODE`: below 0 are warnings, 0 is success. Numbers that are not known are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub i32);

/// Names and numbers, of the page and, where that has dots, of the interface's published header, whose order it counts in.
const NAMES: [(Code, &str); 41] = [
    (Code(-6), "sensor configuration changed"),
    (Code(-5), "potential calibration issue"),
    (Code::CONFIGURATION_FALLBACK, "configuration fallback"),
    (Code::SENSORS_DATA_REQUIRED, "sensors data required"),
    (Code::CORRUPTED_FRAME, "corrupted frame"),
    (Code::CAMERA_REBOOTING, "camera rebooting"),
    (Code::SUCCESS, "success"),
    (Code(1), "failure"),
    (Code::NO_COMPATIBLE_GPU, "no compatible GPU"),
    (Code::NOT_ENOUGH_GPU_MEMORY, "not enough GPU memory"),
    (Code(4), "camera not detected"),
    (Code(5), "sensors not initialized"),
    (Code(6), "sensors not available"),
    (Code(7), "invalid resolution"),
    (Code(8), "low USB bandwidth"),
    (Code::CALIBRATION_FILE_NOT_AVAILABLE, "calibration file not available"),
    (Code(10), "invalid calibration file"),
    (Code::INVALID_SVO_FILE, "invalid SVO file"),
    (Code(12), "SVO recording error"),
    (Code::UNSUPPORTED_COMPRESSION, "unsupported SVO compression"),
    (Code::END_OF_SVO, "end of SVO reached"),
    (Code(15), "invalid coordinate system"),
    (Code(16), "invalid firmware"),
    (Code(17), "invalid function parameters"),
    (Code::CUDA_ERROR, "CUDA error"),
    (Code(19), "camera not initialized"),
    (Code::DRIVER_OUT_OF_DATE, "NVIDIA driver out of date"),
    (Code(21), "invalid function call"),
    (Code::CORRUPTED_INSTALLATION, "corrupted SDK installation"),
    (Code(23), "incompatible SDK version"),
    (Code(24), "invalid area file"),
    (Code(25), "incompatible area file"),
    (Code(26), "camera failed to setup"),
    (Code(27), "camera detection issue"),
    (Code(28), "cannot start camera stream"),
    (Code::NO_GPU_DETECTED, "no GPU detected"),
    (Code(30), "plane not found"),
    (Code(31), "module not compatible with camera"),
    (Code(32), "motion sensors required"),
    (Code(33), "module not compatible with CUDA version"),
    (Code(34), "driver failure"),
];

impl Code {
    /// Another configuration than was asked for serves.
    pub const CONFIGURATION_FALLBACK: Self = Self(-4);
    /// The recording has no samples of the IMU at its full rate.
    pub const SENSORS_DATA_REQUIRED: Self = Self(-3);
    /// The picture is damaged.
    pub const CORRUPTED_FRAME: Self = Self(-2);
    /// Cameras, not recordings.
    pub const CAMERA_REBOOTING: Self = Self(-1);
    /// Nothing is wrong.
    pub const SUCCESS: Self = Self(0);
    /// No GPU, or one that is too old.
    pub const NO_COMPATIBLE_GPU: Self = Self(2);
    /// Too little for this depth mode.
    pub const NOT_ENOUGH_GPU_MEMORY: Self = Self(3);
    /// `SN<serial>.conf` is not in the SDK's settings.
    pub const CALIBRATION_FILE_NOT_AVAILABLE: Self = Self(9);
    /// The file is no recording.
    pub const INVALID_SVO_FILE: Self = Self(11);
    /// The GPU does not decode it.
    pub const UNSUPPORTED_COMPRESSION: Self = Self(13);
    /// No frame is behind the last.
    pub const END_OF_SVO: Self = Self(14);
    /// CUDA failed while something was computed.
    pub const CUDA_ERROR: Self = Self(18);
    /// The driver is older than the SDK's CUDA.
    pub const DRIVER_OUT_OF_DATE: Self = Self(20);
    /// The SDK does not find its own libraries.
    pub const CORRUPTED_INSTALLATION: Self = Self(22);
    /// CUDA lists none.
    pub const NO_GPU_DETECTED: Self = Self(29);

    /// Its name, where the number is known.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(code, _)| *code == self).map(|(_, name)| *name)
    }

    /// What users can do, where something can be done.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::NO_COMPATIBLE_GPU | Self::NO_GPU_DETECTED => {
                "the SDK computes on an NVIDIA GPU; recordings in H.264 or H.265 are read without one"
            }
            Self::NOT_ENOUGH_GPU_MEMORY => {
                "a lighter depth mode (performance), a smaller depth size, or fewer cameras at once need less"
            }
            Self::CALIBRATION_FILE_NOT_AVAILABLE => {
                "the SDK looks for SN<serial>.conf in /usr/local/zed/settings, and loads it from its server where it can"
            }
            Self::INVALID_SVO_FILE => "it is no recording that this SDK reads, or its end is missing",
            Self::UNSUPPORTED_COMPRESSION => "the GPU's decoder does not read this compression",
            Self::DRIVER_OUT_OF_DATE => "a newer NVIDIA driver is needed",
            Self::CORRUPTED_INSTALLATION => {
                "the SDK does not find what it needs (cuDNN, TensorRT): install it anew"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} (error {})", self.0),
            None => write!(f, "unknown error {}", self.0),
        }
    }
}

/// The SDK refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct SdkError {
    /// The function of the C interface.
    pub call: &'static str,
    /// Its number.
    pub code: i32,
    /// The number's name, where that is known.
    pub name: Option<&'static str>,
}

impl SdkError {
    pub(crate) fn new(call: &'static str, code: i32) -> Self {
        Self { call, code, name: Code(code).name() }
    }

    /// As a number with a name.
    pub fn code(&self) -> Code {
        Code(self.code)
    }
}

impl fmt::Display for SdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ZED SDK says: {} of {}", self.code(), self.call)?;
        self.code().advice().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Why something of a camera does not work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The SDK refused.
    #[error(transparent)]
    Sdk(#[from] SdkError),
    /// As many cameras are open as there are ids.
    #[error("{0} recordings are open with the ZED SDK at once, and one process opens no more")]
    TooMany(usize),
    /// A path with a NUL in it.
    #[error("the path '{0}' has a NUL in it, which the ZED SDK does not take")]
    Path(String),
    /// A setting that cannot be.
    #[error("{name} {value}: {rule}")]
    Setting {
        /// Of which field.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What can be.
        rule: &'static str,
    },
    /// The SDK answers what cannot be.
    #[error("the ZED SDK says: {what} {value}, which cannot be")]
    Answer {
        /// Of what.
        what: &'static str,
        /// Its answer.
        value: String,
    },
    /// The SDK gave no picture to write into.
    #[error("the ZED SDK makes no picture of {width}x{height}: is there enough memory?")]
    NoMat {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

impl Error {
    /// The SDK's number, where it is the SDK's error.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Sdk(error) => Some(error.code()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_name_and_number_and_unknown_ones_are_kept() {
        let error = SdkError::new("sl_grab", 3);
        assert_eq!(error.name, Some("not enough GPU memory"));
        let shown = error.to_string();
        assert!(
            shown.starts_with("the ZED SDK says: not enough GPU memory (error 3) of sl_grab; a lighter"),
            "{shown}"
        );
        let error = SdkError::new("sl_grab", 4711);
        assert_eq!(error.to_string(), "the ZED SDK says: unknown error 4711 of sl_grab");
        assert_eq!(
            SdkError::new("sl_grab", -77).to_string(),
            "the ZED SDK says: unknown error -77 of sl_grab"
        );
    }

    #[test]
    fn the_pages_numbers_have_the_pages_names() {
        for (number, name) in [
            (-4, "configuration fallback"),
            (-3, "sensors data required"),
            (-2, "corrupted frame"),
            (-1, "camera rebooting"),
            (0, "success"),
            (1, "failure"),
            (2, "no compatible GPU"),
            (3, "not enough GPU memory"),
            (4, "camera not detected"),
            (11, "invalid SVO file"),
            (12, "SVO recording error"),
            (13, "unsupported SVO compression"),
            (14, "end of SVO reached"),
            (18, "CUDA error"),
            (20, "NVIDIA driver out of date"),
        ] {
            assert_eq!(Code(number).name(), Some(name));
        }
        // One after the other, as an enum counts.
        assert!(NAMES.iter().zip(-6..).all(|((code, _), number)| code.0 == number));
    }
}
