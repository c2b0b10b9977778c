// SPDX-License-Identifier: MPL-2.0

//! Camera controls of the simulator: kept and told, within the ranges of a ZED camera. The picture stays what it is, so
//! that it can be checked.

use cvmmap_control::names::CAMERA_SETTINGS;
use cvmmap_control::proto::{
    CameraControlMode, CameraControlState, CameraSetting, CameraValueKind, ErrorCode,
    SetCameraControlRangeRequest, SetCameraControlRequest,
};
use cvmmap_control::service::Refusal;

/// A value that the camera chooses by itself.
const AUTO: i32 = -1;

#[derive(Debug, Clone, Copy)]
enum Value {
    /// `true`: it can be left to the camera.
    Single(i32, bool),
    Range(i32, i32),
}

#[derive(Debug)]
struct Control {
    setting: CameraSetting,
    low: i32,
    high: i32,
    value: Value,
}

#[derive(Debug)]
pub(super) struct Controls(Vec<Control>);

impl Default for Controls {
    fn default() -> Self {
        use CameraSetting as Set;
        let single = |setting, low, high, value, auto| Control {
            setting,
            low,
            high,
            value: Value::Single(value, auto),
        };
        let range = |setting, low, high| Control { setting, low, high, value: Value::Range(low, high) };
        Self(vec![
            single(Set::Exposure, 0, 100, 50, true),
            single(Set::Gain, 0, 100, 20, true),
            single(Set::AecAgc, 0, 1, 1, false),
            single(Set::WhiteBalanceTemperature, 2800, 6500, 4700, true),
            single(Set::WhiteBalanceAuto, 0, 1, 1, false),
            single(Set::Led, 0, 1, 1, false),
            // Microseconds, then thousandths of a decibel, then a factor.
            single(Set::ExposureTime, 28, 66_000, 10_000, true),
            single(Set::AnalogGain, 1000, 16_000, 1255, true),
            single(Set::DigitalGain, 1, 256, 1, true),
            range(Set::AutoExposureTimeRange, 28, 66_000),
            range(Set::AutoAnalogGainRange, 1000, 16_000),
            range(Set::AutoDigitalGainRange, 1, 256),
        ])
    }
}

impl Controls {
    pub fn settings(&self) -> Vec<CameraSetting> {
        self.0.iter().map(|control| control.setting).collect()
    }

    pub fn get(&self, setting: i32) -> Result<CameraControlState, Refusal> {
        let known = self.0.iter().find(|control| i32::from(control.setting) == setting);
        known.map(Control::state).ok_or_else(|| unsupported(setting, "is no setting of this camera"))
    }

    pub fn set(&mut self, request: SetCameraControlRequest) -> Result<CameraControlState, Refusal> {
        let control = self.find(request.setting)?;
        let Value::Single(_, auto) = control.value else {
            return Err(unsupported(request.setting, "is a range"));
        };
        let value = match CameraControlMode::try_from(request.mode) {
            Ok(CameraControlMode::Manual) => control.check(request.value)?,
            Ok(CameraControlMode::Auto) if auto => AUTO,
            Ok(CameraControlMode::Auto) => {
                return Err(unsupported(request.setting, "cannot be left to the camera"));
            }
            _ => {
                let message = format!("mode {} is neither 1 (manual) nor 2 (auto)", request.mode);
                return Err(Refusal::new(ErrorCode::InvalidPayload, message));
            }
        };
        control.value = Value::Single(value, auto);
        Ok(control.state())
    }

    pub fn set_range(
        &mut self,
        request: SetCameraControlRangeRequest,
    ) -> Result<CameraControlState, Refusal> {
        let control = self.find(request.setting)?;
        if !matches!(control.value, Value::Range(..)) {
            return Err(unsupported(request.setting, "is no range"));
        }
        let (low, high) = (control.check(request.min_value)?, control.check(request.max_value)?);
        if low > high {
            let message = format!("min_value {low} is above max_value {high}");
            return Err(Refusal::new(ErrorCode::OutOfRange, message));
        }
        control.value = Value::Range(low, high);
        Ok(control.state())
    }

    fn find(&mut self, setting: i32) -> Result<&mut Control, Refusal> {
        let known = self.0.iter_mut().find(|control| i32::from(control.setting) == setting);
        known.ok_or_else(|| unsupported(setting, "is no setting of this camera"))
    }
}

impl Control {
    fn check(&self, value: i32) -> Result<i32, Refusal> {
        let Self { low, high, .. } = self;
        if (*low..=*high).contains(&value) {
            return Ok(value);
        }
        let name = CAMERA_SETTINGS.name_or_unknown(self.setting.into());
        Err(Refusal::new(ErrorCode::OutOfRange, format!("{name} {value} is not within {low} to {high}")))
    }

    fn state(&self) -> CameraControlState {
        let mut state = CameraControlState { setting: self.setting.into(), ..Default::default() };
        match self.value {
            Value::Single(value, _) => {
                (state.kind, state.value) = (CameraValueKind::Single.into(), value);
            }
            Value::Range(low, high) => {
                (state.kind, state.min_value, state.max_value) = (CameraValueKind::Range.into(), low, high);
            }
        }
        state
    }
}

fn unsupported(setting: i32, why: &str) -> Refusal {
    Refusal::new(ErrorCode::Unsupported, format!("{} {why}", named(setting)))
}

fn named(setting: i32) -> String {
    CAMERA_SETTINGS.name(setting).map_or_else(|| format!("setting {setting}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manual(setting: CameraSetting, value: i32) -> SetCameraControlRequest {
        SetCameraControlRequest { setting: setting.into(), mode: CameraControlMode::Manual.into(), value }
    }

    #[test]
    fn values_are_kept_within_their_ranges() {
        let mut controls = Controls::default();
        let gain = CameraSetting::Gain;
        assert_eq!(controls.set(manual(gain, 77)).unwrap().value, 77);
        for value in [-1, 101, i32::MAX, i32::MIN] {
            assert_eq!(controls.set(manual(gain, value)).unwrap_err().code, ErrorCode::OutOfRange);
        }
        assert_eq!(controls.get(gain.into()).unwrap().value, 77);
        let auto = SetCameraControlRequest { mode: CameraControlMode::Auto.into(), ..manual(gain, 5) };
        assert_eq!(controls.set(auto).unwrap().value, AUTO);
        let mode = SetCameraControlRequest { mode: 9, ..manual(gain, 5) };
        assert_eq!(controls.set(mode).unwrap_err().code, ErrorCode::InvalidPayload);
        let led = SetCameraControlRequest { mode: 2, ..manual(CameraSetting::Led, 1) };
        assert_eq!(controls.set(led).unwrap_err().code, ErrorCode::Unsupported);
    }

    #[test]
    fn ranges_are_ranges_and_values_values() {
        let mut controls = Controls::default();
        let range = |setting: CameraSetting, min_value, max_value| SetCameraControlRangeRequest {
            setting: setting.into(),
            min_value,
            max_value,
        };
        let digital = CameraSetting::AutoDigitalGainRange;
        let state = controls.set_range(range(digital, 2, 8)).unwrap();
        assert_eq!((state.kind, state.min_value, state.max_value), (2, 2, 8));
        for (low, high) in [(9, 8), (0, 8), (1, 257)] {
            let refused = controls.set_range(range(digital, low, high)).unwrap_err();
            assert_eq!(refused.code, ErrorCode::OutOfRange, "{low} {high}");
        }
        assert_eq!(controls.get(digital.into()).unwrap(), state);
        let gain = controls.set_range(range(CameraSetting::Gain, 1, 2)).unwrap_err();
        assert_eq!((gain.code, gain.message.as_str()), (ErrorCode::Unsupported, "gain is no range"));
        assert_eq!(controls.set(manual(digital, 2)).unwrap_err().code, ErrorCode::Unsupported);
        assert_eq!(controls.get(99).unwrap_err().code, ErrorCode::Unsupported);
        assert_eq!(controls.settings().len(), 12);
    }
}
