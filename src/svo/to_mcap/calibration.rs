// SPDX-License-Identifier: MPL-2.0

//! Factory calibrations as `foxglove.CameraCalibration`, found by the serial numbers of cameras.

use std::path::{Path, PathBuf};

use foxglove::messages::CameraCalibration;
use svo2::Recording;
use svo2::calibration::{Calibration, Camera};
use svo2::rectify::{Eye, Rectification};

use crate::exit::{Failure, configuration};
use crate::mcap::timestamp;

/// Of projection matrices, whose unit is then the metre.
const MM_PER_M: f64 = 1000.0;

/// Both eyes of one camera.
#[derive(Debug, Clone)]
pub struct Views {
    left: CameraCalibration,
    right: CameraCalibration,
}

impl Views {
    fn read(path: &Path, (width, height): (u32, u32)) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| configuration(format!("--calibration: {error}"));
        let calibration = Calibration::read(path).map_err(|error| failed(&error))?;
        let stereo = calibration.for_size(width, height).map_err(|error| failed(&error))?;
        let rectification = Rectification::new(&stereo)
            .map_err(|error| failed(&format_args!("'{}': {error}", path.display())))?;
        let view = |eye, camera: &Camera| {
            let mut projection = rectification.projection(eye);
            projection[0][3] /= MM_PER_M;
            CameraCalibration {
                width,
                height,
                distortion_model: "plumb_bob".into(),
                d: camera.distortion.to_vec(),
                k: vec![camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0],
                r: rectification.rotation(eye).concat(),
                p: projection.concat(),
                ..CameraCalibration::default()
            }
        };
        Ok(Self { left: view(Eye::Left, &stereo.left), right: view(Eye::Right, &stereo.right) })
    }

    /// The message about one of them.
    pub fn message(&self, eye: Eye, frame_id: &str, time_ns: u64) -> CameraCalibration {
        let view = match eye {
            Eye::Left => &self.left,
            Eye::Right => &self.right,
        };
        let (timestamp, frame_id) = (Some(timestamp(time_ns)), frame_id.to_owned());
        CameraCalibration { timestamp, frame_id, ..view.clone() }
    }
}

/// The calibration of each camera; none where none is given.
///
/// # Errors
/// A file that is of no camera, a camera that has none, or what is wrong with one.
pub fn find(given: &[PathBuf], recordings: &[&Recording]) -> Result<Vec<Option<Views>>, Failure> {
    if given.is_empty() {
        return Ok(vec![None; recordings.len()]);
    }
    for path in given {
        path.metadata()
            .map_err(|error| configuration(format!("--calibration '{}': {error}", path.display())))?;
    }
    let serials: Vec<&str> = recordings.iter().map(|recording| recording.serial()).collect();
    for path in given.iter().filter(|path| !path.is_dir()) {
        let of = serial_of(path);
        if of.is_some_and(|of| !serials.contains(&of))
            || of.is_none() && (serials.len(), given.len()) != (1, 1)
        {
            let of =
                of.map_or("it is not called SN<serial>.conf".into(), |of| format!("it is of camera {of}"));
            let mut cameras = serials.clone();
            cameras.dedup();
            let cameras = cameras.join(", ");
            let are = if serials.len() == 1 {
                "the recording is of camera"
            } else {
                "the recordings are of cameras"
            };
            return Err(configuration(format!(
                "--calibration '{}': {of}, and {are} {cameras}",
                path.display()
            )));
        }
    }
    recordings
        .iter()
        .map(|recording| {
            let path = path_for(given, recording.serial())?;
            let (both, height) = recording.size();
            Views::read(&path, (both / 2, height)).map(Some)
        })
        .collect()
}

fn path_for(given: &[PathBuf], serial: &str) -> Result<PathBuf, Failure> {
    let name = format!("SN{serial}.conf");
    let candidates = given.iter().filter_map(|path| match path.is_dir() {
        true => Some(path.join(&name)).filter(|path| path.is_file()),
        false => serial_of(path).is_none_or(|of| of == serial).then(|| path.clone()),
    });
    let found: Vec<PathBuf> = candidates.collect();
    match found.as_slice() {
        [path] => Ok(path.clone()),
        [] => {
            let given: Vec<String> = given.iter().map(|path| format!("'{}'", path.display())).collect();
            Err(configuration(format!(
                "--calibration: there is no {name} for camera {serial} in or among {}",
                given.join(", ")
            )))
        }
        [one, other, ..] => Err(configuration(format!(
            "--calibration: '{}' and '{}' are both of camera {serial}; give one",
            one.display(),
            other.display()
        ))),
    }
}

/// By the name that the SDK gives such files.
fn serial_of(path: &Path) -> Option<&str> {
    let serial = path.file_name()?.to_str()?.strip_prefix("SN")?.strip_suffix(".conf")?;
    serial.bytes().all(|byte| byte.is_ascii_digit()).then_some(serial)
}
