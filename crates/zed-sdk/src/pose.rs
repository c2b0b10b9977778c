// SPDX-License-Identifier: MPL-2.0

//! Positional tracking: its settings, which may come from a TOML file, and poses.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use crate::Error;
use crate::ffi::layout;
use crate::parameters::named;

named! {
    /// Which tracker; `SL_POSITIONAL_TRACKING_MODE`, by the interface's published header.
    TrackingMode, "tracking mode" {
        /// The first.
        Gen1 = 0 "gen-1",
        /// The second.
        Gen2 = 1 "gen-2",
        /// The third.
        Gen3 = 2 "gen-3",
    }
}

/// How a camera is tracked: one field for each of the SDK's `PositionalTrackingParameters`, with its defaults. Positions are
/// in the unit that the recording was opened with.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionalTracking {
    /// Of the camera in the world where tracking begins, a quaternion x, y, z, w of length 1. Default: 0, 0, 0, 1.
    pub initial_rotation: [f32; 4],
    /// Of the camera in the world where tracking begins: x, y, z. Default: 0, 0, 0.
    pub initial_position: [f32; 3],
    /// Whether surroundings are remembered, so that drift can be taken back. Default: true.
    pub enable_area_memory: bool,
    /// Whether what is taken back is taken back gradually. Default: false.
    pub enable_pose_smoothing: bool,
    /// Whether the world's origin is on the floor, which has to be seen. Default: false.
    pub set_floor_as_origin: bool,
    /// Whether the camera does not move: its pose is the initial one. Default: false.
    pub set_as_static: bool,
    /// Whether the IMU is used, too. Default: true.
    pub enable_imu_fusion: bool,
    /// Nothing nearer is used; in the unit that the recording was opened with, -1 for no limit. Default: -1.
    pub depth_min_range: f32,
    /// Whether the IMU says where down is, instead of two of the three parts of the initial rotation. Default: true.
    pub set_gravity_as_origin: bool,
    /// Default: `gen-1`.
    pub mode: TrackingMode,
}

impl Default for PositionalTracking {
    fn default() -> Self {
        Self {
            initial_rotation: [0.0, 0.0, 0.0, 1.0],
            initial_position: [0.0; 3],
            enable_area_memory: true,
            enable_pose_smoothing: false,
            set_floor_as_origin: false,
            set_as_static: false,
            enable_imu_fusion: true,
            depth_min_range: -1.0,
            set_gravity_as_origin: true,
            mode: TrackingMode::Gen1,
        }
    }
}

/// A setting and why it cannot be.
type Wrong = (&'static str, String, &'static str);

impl PositionalTracking {
    /// Reads a TOML file; what it does not set has its default.
    ///
    /// # Errors
    /// The file cannot be read, or has a key that is none, or a value of another type or out of its range: path, line and text.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let named = |error: ConfigError| ConfigError { file: Some(path.display().to_string()), ..error };
        let text = std::fs::read_to_string(path)
            .map_err(|error| named(ConfigError { file: None, line: None, message: error.to_string() }))?;
        text.parse().map_err(named)
    }

    /// What cannot be, whichever way it was set.
    fn check(&self) -> Result<(), Wrong> {
        let finite = |name, value: &[f32]| match value.iter().all(|number| number.is_finite()) {
            true => Ok(()),
            false => Err((name, format!("{value:?}"), "its numbers are finite")),
        };
        finite("initial_rotation", &self.initial_rotation)?;
        finite("initial_position", &self.initial_position)?;
        let length = self.initial_rotation.iter().map(|part| part * part).sum::<f32>().sqrt();
        if (length - 1.0).abs() > 1e-3 {
            let value = format!("{:?} (length {length})", self.initial_rotation);
            return Err(("initial_rotation", value, "it is a quaternion x, y, z, w of length 1"));
        }
        let range = self.depth_min_range;
        if !(range == -1.0 || (range.is_finite() && range >= 0.0)) {
            return Err(("depth_min_range", range.to_string(), "it is -1 for no limit, or 0 and above"));
        }
        Ok(())
    }

    pub(crate) fn raw(&self) -> Result<layout::PositionalTrackingParameters, Error> {
        self.check().map_err(|(name, value, rule)| Error::Setting { name, value, rule })?;
        Ok(layout::PositionalTrackingParameters {
            initial_rotation: self.initial_rotation,
            initial_position: self.initial_position,
            enable_area_memory: self.enable_area_memory,
            enable_pose_smoothing: self.enable_pose_smoothing,
            set_floor_as_origin: self.set_floor_as_origin,
            set_as_static: self.set_as_static,
            enable_imu_fusion: self.enable_imu_fusion,
            depth_min_range: self.depth_min_range,
            set_gravity_as_origin: self.set_gravity_as_origin,
            mode: self.mode as i32,
        })
    }
}

/// A file with settings is wrong; one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Its path, where it was read from one.
    pub file: Option<String>,
    /// Counted from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The keys of the file, each with its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(alias = "initial_world_rotation")]
    initial_rotation: Option<Spanned<[f32; 4]>>,
    #[serde(alias = "initial_world_position")]
    initial_position: Option<Spanned<[f32; 3]>>,
    enable_area_memory: Option<bool>,
    enable_pose_smoothing: Option<bool>,
    set_floor_as_origin: Option<bool>,
    set_as_static: Option<bool>,
    enable_imu_fusion: Option<bool>,
    depth_min_range: Option<Spanned<f32>>,
    set_gravity_as_origin: Option<bool>,
    mode: Option<Spanned<String>>,
}

impl FromStr for PositionalTracking {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let lines_before = |at: usize| text[..at.min(text.len())].matches('\n').count();
        let at = |span: Option<Range<usize>>, message: String| {
            let line = span.map(|span| lines_before(span.start) + 1);
            ConfigError { file: None, line, message: tame(&message, 500) }
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let span = error.span();
            let line = span.as_ref().and_then(|span| text.lines().nth(lines_before(span.start)));
            let message = error.message();
            at(
                span,
                line.map_or_else(|| message.to_owned(), |line| format!("`{}`: {message}", tame(line, 80))),
            )
        })?;
        let default = Self::default();
        let mode = match &file.mode {
            Some(mode) => {
                mode.get_ref().parse().map_err(|error| at(Some(mode.span()), format!("mode: {error}")))?
            }
            None => default.mode,
        };
        let spans = [
            ("initial_rotation", file.initial_rotation.as_ref().map(Spanned::span)),
            ("initial_position", file.initial_position.as_ref().map(Spanned::span)),
            ("depth_min_range", file.depth_min_range.as_ref().map(Spanned::span)),
        ];
        let tracking = Self {
            initial_rotation: file.initial_rotation.map_or(default.initial_rotation, Spanned::into_inner),
            initial_position: file.initial_position.map_or(default.initial_position, Spanned::into_inner),
            enable_area_memory: file.enable_area_memory.unwrap_or(default.enable_area_memory),
            enable_pose_smoothing: file.enable_pose_smoothing.unwrap_or(default.enable_pose_smoothing),
            set_floor_as_origin: file.set_floor_as_origin.unwrap_or(default.set_floor_as_origin),
            set_as_static: file.set_as_static.unwrap_or(default.set_as_static),
            enable_imu_fusion: file.enable_imu_fusion.unwrap_or(default.enable_imu_fusion),
            depth_min_range: file.depth_min_range.map_or(default.depth_min_range, Spanned::into_inner),
            set_gravity_as_origin: file.set_gravity_as_origin.unwrap_or(default.set_gravity_as_origin),
            mode,
        };
        tracking.check().map_err(|(name, value, rule)| {
            let span = spans.iter().find(|(key, _)| *key == name).and_then(|(_, span)| span.clone());
            at(span, format!("{name} {value}: {rule}"))
        })?;
        Ok(tracking)
    }
}

/// What others wrote as errors show it: no longer than so many characters, and nothing in it that steers a terminal.
fn tame(text: &str, most: usize) -> String {
    let printable = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut tame: String = text.trim().chars().map(printable).take(most).collect();
    if text.trim().chars().nth(most).is_some() {
        tame.push('…');
    }
    tame
}

/// How tracking stands; `SL_POSITIONAL_TRACKING_STATE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackingState {
    /// The camera looks for where it is.
    Searching,
    /// It knows.
    Ok,
    /// Tracking was not begun.
    Off,
    /// Frames are too far apart.
    FpsTooLow,
    /// The floor is not found yet.
    SearchingFloorPlane,
    /// It does not work with this camera.
    Unavailable,
    /// A number that is not known.
    Unknown(i32),
}

impl TrackingState {
    fn new(number: i32) -> Self {
        match number {
            0 => Self::Searching,
            1 => Self::Ok,
            2 => Self::Off,
            3 => Self::FpsTooLow,
            4 => Self::SearchingFloorPlane,
            5 => Self::Unavailable,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for TrackingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Searching => "searching",
            Self::Ok => "ok",
            Self::Off => "off",
            Self::FpsTooLow => "fps too low",
            Self::SearchingFloorPlane => "searching for the floor",
            Self::Unavailable => "unavailable",
            Self::Unknown(number) => return write!(f, "unknown state {number}"),
        })
    }
}

/// Where a camera was at a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// How tracking stands.
    pub state: TrackingState,
    /// What the SDK says of the pose itself; see [`is_valid`](Self::is_valid).
    pub valid: bool,
    /// In ns since 1970.
    pub timestamp_ns: u64,
    /// A quaternion x, y, z, w.
    pub rotation: [f32; 4],
    /// x, y, z in the unit that the recording was opened with.
    pub translation: [f32; 3],
    /// 0 (lost) to 100.
    pub confidence: i32,
    /// 6 by 6, of translation and rotation.
    pub covariance: [f32; 36],
    /// Velocity, linear and angular.
    pub twist: [f32; 6],
    /// 6 by 6.
    pub twist_covariance: [f32; 36],
}

impl Pose {
    pub(crate) fn new(state: i32, raw: &layout::PoseData) -> Self {
        Self {
            state: TrackingState::new(state),
            valid: raw.valid != 0,
            timestamp_ns: raw.timestamp,
            rotation: raw.rotation,
            translation: raw.translation,
            confidence: raw.pose_confidence,
            covariance: raw.pose_covariance,
            twist: raw.twist,
            twist_covariance: raw.twist_covariance,
        }
    }

    /// Whether it is one to rely on: tracking works, and the SDK says so of this pose.
    pub fn is_valid(&self) -> bool {
        self.valid && self.state == TrackingState::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that is in `examples/`.
    const EXAMPLE: &str = include_str!("../../../examples/zed_pose_config.toml");

    fn refused(text: &str) -> String {
        let error = text.parse::<PositionalTracking>().unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error.to_string()
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        assert_eq!(EXAMPLE.parse(), Ok(PositionalTracking::default()));
        let keys: Vec<&str> = EXAMPLE
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once('=')?.0.trim()))
            .collect();
        assert_eq!(
            keys,
            [
                "initial_rotation",
                "initial_position",
                "enable_area_memory",
                "enable_pose_smoothing",
                "set_floor_as_origin",
                "set_as_static",
                "enable_imu_fusion",
                "depth_min_range",
                "set_gravity_as_origin",
                "mode"
            ]
        );
    }

    #[test]
    fn each_key_sets_its_field_and_the_rest_stays() {
        let text = "initial_rotation = [0, 0.6, 0, 0.8]\ninitial_position = [1, -2.5, 3]\nenable_area_memory = false\n\
                    enable_pose_smoothing = true\nset_floor_as_origin = true\nset_as_static = true\nenable_imu_fusion = false\n\
                    depth_min_range = 0.5\nset_gravity_as_origin = false\nmode = \"GEN_3\"\n";
        let all = PositionalTracking {
            initial_rotation: [0.0, 0.6, 0.0, 0.8],
            initial_position: [1.0, -2.5, 3.0],
            enable_area_memory: false,
            enable_pose_smoothing: true,
            set_floor_as_origin: true,
            set_as_static: true,
            enable_imu_fusion: false,
            depth_min_range: 0.5,
            set_gravity_as_origin: false,
            mode: TrackingMode::Gen3,
        };
        assert_eq!(text.parse(), Ok(all));
        assert_eq!("".parse(), Ok(PositionalTracking::default()));
        let one = "set_as_static = true".parse();
        assert_eq!(one, Ok(PositionalTracking { set_as_static: true, ..Default::default() }));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, parts) in [
            (
                "set_as_static = true\nenable_area_memmory = true\n",
                ["line 2: ", "enable_area_memmory", "unknown field"],
            ),
            ("\n\nenable_imu_fusion = \"yes\"", ["line 3: ", "enable_imu_fusion", "expected a boolean"]),
            ("enable_imu_fusion = 1", ["line 1: ", "enable_imu_fusion", "expected a boolean"]),
            ("initial_position = [1, 2]", ["line 1: ", "initial_position", "3"]),
            ("initial_rotation = [1, 1, 0, 0]", ["line 1: ", "initial_rotation", "length 1.414"]),
            ("initial_position = [0, 0, nan]", ["line 1: ", "initial_position", "finite"]),
            ("#\ndepth_min_range = -2", ["line 2: ", "depth_min_range -2", "-1 for no limit"]),
            ("mode = \"gen_4\"", ["line 1: ", "mode: 'gen_4'", "one of gen-1, gen-2, gen-3"]),
            ("mode = \"gen_1\"\nmode = \"gen_2\"", ["line 2: ", "mode", "duplicate key"]),
            ("[positional_tracking]\nmode = \"gen_1\"", ["line 1: ", "positional_tracking", "unknown field"]),
            ("set_as_static = ", ["line 1: ", "set_as_static", ""]),
        ] {
            let shown = refused(text);
            assert!(parts.iter().all(|part| shown.contains(part)), "{text:?}: {shown}");
        }
    }

    #[test]
    fn a_line_that_is_long_or_steers_terminals_is_shown_tame() {
        let error = refused(&format!("set_as_static = \"{}\"", "x".repeat(5000)));
        assert!(error.contains("xxx…`: invalid type") && error.chars().count() < 600, "{error}");
        for text in ["mode = 1 # \u{1b}[31m", "mode = \"\\u001b[31m\"", "\"\\u001b[31m\" = 1"] {
            let error = refused(text);
            assert!(error.contains("[31m") && !error.contains('\u{1b}'), "{error:?}");
        }
    }

    proptest::proptest! {
        /// Whatever a file has, it is read, or refused in one line that says where.
        #[test]
        fn any_text_is_read_or_refused(
            text in "((mode|initial_position|set_as_static|depth_min_range|[a-z_]{1,8})[ =]{1,3}[\"\\[\\], .0-9a-z_-]{0,24}[\r\n#]{0,2}){0,6}",
        ) {
            if let Err(error) = text.parse::<PositionalTracking>() {
                proptest::prop_assert_eq!(error.to_string().lines().count(), 1);
                let line = error.line.expect("every error has a place");
                proptest::prop_assert!((1..=text.matches('\n').count() + 1).contains(&line));
            }
        }
    }

    #[test]
    fn a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pose.toml");
        let error = PositionalTracking::from_file(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: No such file", path.display())), "{error}");
        std::fs::write(&path, "\ntypo = 1").unwrap();
        let error = PositionalTracking::from_file(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: line 2: `typo = 1`: ", path.display())), "{error}");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let error = PositionalTracking::from_file(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())) && error.contains("UTF-8"), "{error}");
    }
}
