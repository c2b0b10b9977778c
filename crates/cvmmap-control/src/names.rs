// SPDX-License-Identifier: MPL-2.0

//! Names of the wire's numbers, for people and programs. In kebab-case, as GStreamer and the command line have them.

/// Numbers and their names.
#[derive(Debug, Clone, Copy)]
pub struct Names(&'static [(i32, &'static str)]);

impl Names {
    /// The name of a number that has one.
    pub fn name(&self, number: i32) -> Option<&'static str> {
        self.0.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
    }

    /// The name, or `unknown`.
    pub fn name_or_unknown(&self, number: i32) -> &'static str {
        self.name(number).unwrap_or("unknown")
    }

    /// The number of a name.
    pub fn number(&self, name: &str) -> Option<i32> {
        self.0.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }

    /// All names, by their numbers.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(_, name)| *name)
    }
}

impl std::fmt::Display for Names {
    /// `a, b, c`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.all().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// [`CameraSetting`](crate::proto::CameraSetting).
pub const CAMERA_SETTINGS: Names = Names(&[
    (1, "exposure"),
    (2, "gain"),
    (3, "aec-agc"),
    (4, "white-balance-temperature"),
    (5, "white-balance-auto"),
    (6, "led"),
    (7, "exposure-time"),
    (8, "analog-gain"),
    (9, "digital-gain"),
    (10, "auto-exposure-time-range"),
    (11, "auto-analog-gain-range"),
    (12, "auto-digital-gain-range"),
]);
/// [`CameraControlMode`](crate::proto::CameraControlMode).
pub const CAMERA_MODES: Names = Names(&[(1, "manual"), (2, "auto")]);
/// [`CameraValueKind`](crate::proto::CameraValueKind).
pub const CAMERA_VALUE_KINDS: Names = Names(&[(1, "single"), (2, "range")]);
/// [`RecordingFormat`](crate::proto::RecordingFormat).
pub const RECORDING_FORMATS: Names = Names(&[(1, "svo"), (2, "mcap")]);
/// [`SourceKind`](crate::proto::SourceKind).
pub const SOURCE_KINDS: Names = Names(&[(1, "live"), (2, "finite")]);
/// [`TimestampDomain`](crate::proto::TimestampDomain).
pub const TIMESTAMP_DOMAINS: Names = Names(&[(1, "unix"), (2, "media")]);
/// [`ModuleStatus`](crate::proto::ModuleStatus).
pub const MODULE_STATUSES: Names = Names(&[(1, "online"), (2, "offline"), (3, "reset")]);
/// [`BodyHeader::coordinate_system`](crate::BodyHeader::coordinate_system).
pub const COORDINATE_SYSTEMS: Names = Names(&[(1, "image"), (2, "right-handed-y-up")]);
/// [`BodyHeader::reference_frame`](crate::BodyHeader::reference_frame).
pub const REFERENCE_FRAMES: Names = Names(&[(1, "camera"), (2, "world")]);
/// [`Body::tracking_state`](crate::Body::tracking_state).
pub const TRACKING_STATES: Names = Names(&[(0, "off"), (1, "ok"), (2, "searching"), (3, "terminate")]);
/// [`Body::action_state`](crate::Body::action_state).
pub const ACTION_STATES: Names = Names(&[(0, "idle"), (1, "moving")]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::*;

    /// `PREFIX_SOME_NAME` -> `some-name`
    fn kebab(name: &str, prefix: &str) -> String {
        name.strip_prefix(prefix).unwrap().to_lowercase().replace('_', "-")
    }

    #[test]
    fn each_number_of_the_wire_has_its_name() {
        for number in 1..=12 {
            let setting = CameraSetting::try_from(number).unwrap();
            let name = CAMERA_SETTINGS.name(number).unwrap();
            assert_eq!(name, kebab(setting.as_str_name(), "CAMERA_SETTING_"));
            assert_eq!(CAMERA_SETTINGS.number(name), Some(number));
        }
        assert_eq!((CAMERA_SETTINGS.name(0), CAMERA_SETTINGS.name(13)), (None, None));
        for (names, number, name) in [
            (CAMERA_MODES, CameraControlMode::Auto as i32, "auto"),
            (CAMERA_VALUE_KINDS, CameraValueKind::Range as i32, "range"),
            (RECORDING_FORMATS, RecordingFormat::Mcap as i32, "mcap"),
            (SOURCE_KINDS, SourceKind::Finite as i32, "finite"),
            (TIMESTAMP_DOMAINS, TimestampDomain::Media as i32, "media"),
            (MODULE_STATUSES, ModuleStatus::StreamReset as i32, "reset"),
        ] {
            assert_eq!((names.name(number), names.number(name)), (Some(name), Some(number)));
            assert_eq!(names.name_or_unknown(77), "unknown");
        }
        assert_eq!(CAMERA_MODES.to_string(), "manual, auto");
    }
}
