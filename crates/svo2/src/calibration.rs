// SPDX-License-Identifier: MPL-2.0

//! Factory calibration of a ZED camera: the INI file `SN<serial>.conf`.
//!
//! Sources: Stereolabs' zed-open-capture (`calibration.hpp`) reads these files, names in any case, and
//! zed-opencv-calibration writes them; the first cameras' files have neither `TY` nor `TZ`, others have `TY_HD` and so on.

use std::fmt;
use std::io::Read;
use std::path::Path;

use ini::{Ini, ParseOption, Properties};

/// A calibration file has a few kilobytes; a recording given by mistake has gigabytes.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with a calibration file, or that it has nothing for a picture of this size.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// As it was given.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not an INI file.
    #[error(
        "{file}: {problem}; a factory calibration is an INI file SN<serial>.conf of some kilobytes, as the ZED SDK keeps it in its settings folder"
    )]
    Format {
        /// As it was given.
        file: String,
        /// What was found.
        problem: String,
    },
    /// A section is missing.
    #[error("{file}: no section [{section}]; the file has {found}")]
    NoSection {
        /// As it was given.
        file: String,
        /// The missing one.
        section: String,
        /// The resolutions that the file has.
        found: String,
    },
    /// A key is missing.
    #[error("{file}: section [{section}] has no {key}")]
    NoKey {
        /// As it was given.
        file: String,
        /// Where it is missing.
        section: String,
        /// The missing one.
        key: String,
    },
    /// A value that cannot be.
    #[error("{file}: [{section}] {key}={value}: {rule}")]
    Value {
        /// As it was given.
        file: String,
        /// Where it stands.
        section: String,
        /// Its name.
        key: String,
        /// As it stands there.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// No resolution of a ZED camera.
    #[error(
        "{file}: no calibration for pictures of {width}x{height}; there are {known}, and the file has {found}"
    )]
    Size {
        /// As it was given.
        file: String,
        /// Of one eye's picture.
        width: u32,
        /// Of one eye's picture.
        height: u32,
        /// All resolutions, with their sizes.
        known: String,
        /// Those that the file has.
        found: String,
    },
}

/// A resolution of ZED cameras, by the name it has in calibration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// 2208x1242
    TwoK,
    /// 1920x1080
    Fhd,
    /// 1280x720
    Hd,
    /// 672x376
    Vga,
    /// 1920x1200
    Fhd1200,
    /// 960x600
    Svga,
}

impl Resolution {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::TwoK, Self::Fhd, Self::Hd, Self::Vga, Self::Fhd1200, Self::Svga];

    /// As sections and keys of the file end.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoK => "2K",
            Self::Fhd => "FHD",
            Self::Hd => "HD",
            Self::Vga => "VGA",
            Self::Fhd1200 => "FHD1200",
            Self::Svga => "SVGA",
        }
    }

    /// Width and height of one eye's picture.
    pub fn size(self) -> (u32, u32) {
        match self {
            Self::TwoK => (2208, 1242),
            Self::Fhd => (1920, 1080),
            Self::Hd => (1280, 720),
            Self::Vga => (672, 376),
            Self::Fhd1200 => (1920, 1200),
            Self::Svga => (960, 600),
        }
    }

    /// That of one eye's picture.
    pub fn of_size(width: u32, height: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.size() == (width, height))
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size();
        write!(f, "{} ({width}x{height})", self.name())
    }
}

/// One eye: a pinhole camera with Brown-Conrady distortion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// Focal lengths in pixels.
    pub fx: f64,
    /// Focal lengths in pixels.
    pub fy: f64,
    /// Principal point in pixels; (0, 0) is the centre of the picture's first pixel.
    pub cx: f64,
    /// Principal point in pixels.
    pub cy: f64,
    /// k1, k2, p1, p2, k3: the order of OpenCV.
    pub distortion: [f64; 5],
}

/// Both eyes at one resolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StereoCamera {
    /// That of one eye's picture.
    pub width: u32,
    /// That of one eye's picture.
    pub height: u32,
    /// The left eye.
    pub left: Camera,
    /// The right eye.
    pub right: Camera,
    /// RX, CV, RZ: axis times angle in radians (Rodrigues); from the left camera's coordinates to the right one's.
    pub rotation: [f64; 3],
    /// Baseline, TY, TZ in millimetres, as they stand in the file. See [`crate::rectify`] for what the signs mean.
    pub translation: [f64; 3],
}

/// A calibration file that was read.
#[derive(Debug, Clone)]
pub struct Calibration {
    file: String,
    ini: Ini,
}

impl Calibration {
    /// Reads a file; errors name it.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CalibrationError> {
        let file = path.as_ref().display().to_string();
        let failed = |source| CalibrationError::Read { file: file.clone(), source };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(path.as_ref()).map_err(failed)?;
        opened.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        let wrong = |problem: &str| CalibrationError::Format { file: file.clone(), problem: problem.into() };
        if bytes.len() as u64 > MAX_FILE {
            return Err(wrong("larger than 1 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("not text"))?;
        Self::parse_named(&text, &file)
    }

    /// The same from its text; errors call it 'calibration'.
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        Self::parse_named(text, "calibration")
    }

    fn parse_named(text: &str, file: &str) -> Result<Self, CalibrationError> {
        let option = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ini = Ini::load_from_str_opt(text, option).map_err(|error| CalibrationError::Format {
            file: file.into(),
            problem: format!("line {}: {}", error.line, error.msg),
        })?;
        let read = Self { file: file.into(), ini };
        if read.resolutions().is_empty() {
            let problem = "no section [LEFT_CAM_...] in it".into();
            return Err(CalibrationError::Format { file: file.into(), problem });
        }
        Ok(read)
    }

    /// Those that the file has for the left eye.
    pub fn resolutions(&self) -> Vec<Resolution> {
        let has =
            |resolution: &Resolution| self.ini.section(Some(camera_section("LEFT", *resolution))).is_some();
        Resolution::ALL.into_iter().filter(has).collect()
    }

    /// Both eyes for pictures of this size, which is that of one eye.
    pub fn for_size(&self, width: u32, height: u32) -> Result<StereoCamera, CalibrationError> {
        let resolution = Resolution::of_size(width, height).ok_or_else(|| CalibrationError::Size {
            file: self.file.clone(),
            width,
            height,
            known: list(&Resolution::ALL),
            found: list(&self.resolutions()),
        })?;
        let left = self.camera("LEFT", resolution)?;
        let right = self.camera("RIGHT", resolution)?;
        let stereo = self.section("STEREO".into())?;
        let name = resolution.name();
        let mut rotation = [0.0; 3];
        for (angle, key) in rotation.iter_mut().zip(["RX", "CV", "RZ"]) {
            *angle = stereo.number(&format!("{key}_{name}"))?;
        }
        let translation =
            [stereo.positive("Baseline")?, stereo.offset("TY", name)?, stereo.offset("TZ", name)?];
        Ok(StereoCamera { width, height, left, right, rotation, translation })
    }

    fn camera(&self, eye: &str, resolution: Resolution) -> Result<Camera, CalibrationError> {
        let section = self.section(camera_section(eye, resolution))?;
        let mut distortion = [0.0; 5];
        for (coefficient, key) in distortion.iter_mut().zip(["k1", "k2", "p1", "p2", "k3"]) {
            *coefficient = section.number(key)?;
        }
        Ok(Camera {
            fx: section.positive("fx")?,
            fy: section.positive("fy")?,
            cx: section.number("cx")?,
            cy: section.number("cy")?,
            distortion,
        })
    }

    fn section(&self, name: String) -> Result<Section<'_>, CalibrationError> {
        match self.ini.section(Some(name.as_str())) {
            Some(properties) => Ok(Section { file: &self.file, name, properties }),
            None => Err(CalibrationError::NoSection {
                file: self.file.clone(),
                section: name,
                found: list(&self.resolutions()),
            }),
        }
    }
}

fn camera_section(eye: &str, resolution: Resolution) -> String {
    format!("{eye}_CAM_{}", resolution.name())
}

fn list(resolutions: &[Resolution]) -> String {
    let names: Vec<String> = resolutions.iter().map(Resolution::to_string).collect();
    names.join(", ")
}

struct Section<'a> {
    file: &'a str,
    name: String,
    properties: &'a Properties,
}

impl Section<'_> {
    fn number(&self, key: &str) -> Result<f64, CalibrationError> {
        let value = self.properties.get(key).ok_or_else(|| CalibrationError::NoKey {
            file: self.file.into(),
            section: self.name.clone(),
            key: key.into(),
        })?;
        let number: f64 = value.trim().parse().map_err(|_| self.wrong(key, "is not a number"))?;
        if number.is_finite() { Ok(number) } else { Err(self.wrong(key, "must be finite")) }
    }

    fn positive(&self, key: &str) -> Result<f64, CalibrationError> {
        let number = self.number(key)?;
        if number > 0.0 { Ok(number) } else { Err(self.wrong(key, "must be above 0")) }
    }

    /// `TY` or `TZ`, with the name of the resolution in some files, and not in the first cameras', which means 0.
    fn offset(&self, key: &str, resolution: &str) -> Result<f64, CalibrationError> {
        let names = [key.to_string(), format!("{key}_{resolution}")];
        match names.iter().find(|name| self.properties.contains_key(name.as_str())) {
            Some(name) => self.number(name),
            None => Ok(0.0),
        }
    }

    fn wrong(&self, key: &str, rule: &'static str) -> CalibrationError {
        CalibrationError::Value {
            file: self.file.into(),
            section: self.name.clone(),
            key: key.into(),
            value: self.properties.get(key).unwrap_or_default().into(),
            rule,
        }
    }
}
