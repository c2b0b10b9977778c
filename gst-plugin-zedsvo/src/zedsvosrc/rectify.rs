// SPDX-License-Identifier: MPL-2.0

//! Rectified views: maps made once, applied to each picture.

use gst_video::VideoFormat;
use gst_video::prelude::*;
use svo2::calibration::Calibration;
use svo2::rectify::{Eye, Plane, Rectification, Remap};

use super::settings::ViewChoice;

/// More threads than that wait for memory.
const MOST_THREADS: usize = 4;
/// Of pixels that the camera has not seen: black.
const LUMA_BORDER: u8 = 0;
const CHROMA_BORDER: u8 = 128;

pub(super) struct Rectifier {
    eyes: Vec<Maps>,
    threads: usize,
}

struct Maps {
    luma: Remap,
    chroma: Remap,
    /// Whether the eye's picture is the second of the two: before, and after.
    second: (bool, bool),
}

impl Rectifier {
    /// For pictures of one eye of this size; `Err` says what is wrong with the calibration.
    pub fn new(calibration: &str, (width, height): (u32, u32), view: ViewChoice) -> Result<Self, String> {
        let refused =
            |error: &dyn std::fmt::Display| format!("property 'calibration' = '{calibration}': {error}");
        let read = Calibration::read(calibration).map_err(|error| refused(&error))?;
        let stereo = read.for_size(width, height).map_err(|error| refused(&error))?;
        let rectification = Rectification::new(&stereo).map_err(|error| refused(&error))?;
        let maps = |eye, second| Maps {
            luma: rectification.map(eye),
            chroma: rectification.chroma_map(eye),
            second,
        };
        let eyes = match view {
            ViewChoice::Left => vec![maps(Eye::Left, (false, false))],
            ViewChoice::Right => vec![maps(Eye::Right, (true, false))],
            ViewChoice::SideBySide => {
                vec![maps(Eye::Left, (false, false)), maps(Eye::Right, (true, true))]
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self { eyes, threads: cores.min(MOST_THREADS) })
    }

    /// `Err` says why pictures of this format cannot be rectified.
    pub fn check(format: VideoFormat) -> Result<(), String> {
        if matches!(format, VideoFormat::I420 | VideoFormat::Nv12) {
            return Ok(());
        }
        Err(format!(
            "property 'rectify' = true: the decoder puts out {format}, and only I420 and NV12 can be rectified"
        ))
    }

    /// Fills `to` with what the eyes see in `from`, which has both pictures.
    pub fn apply(
        &self,
        from: &gst_video::VideoFrameRef<&gst::BufferRef>,
        to: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        for maps in &self.eyes {
            for plane in 0..from.n_planes() {
                let (map, border) =
                    if plane == 0 { (&maps.luma, LUMA_BORDER) } else { (&maps.chroma, CHROMA_BORDER) };
                let channels = if plane > 0 && from.format() == VideoFormat::Nv12 { 2 } else { 1 };
                let columns = |second| if second { map.size().0 } else { 0 };
                let source = Plane {
                    data: from.plane_data(plane).map_err(|error| text(&error))?,
                    stride: from.plane_stride()[plane as usize] as usize,
                    channels,
                    x: columns(maps.second.0),
                };
                let stride = to.plane_stride()[plane as usize] as usize;
                let destination = to.plane_data_mut(plane).map_err(|error| text(&error))?;
                let destination = &mut destination[columns(maps.second.1) * channels..];
                map.apply(&source, destination, stride, border, self.threads)
                    .map_err(|error| text(&error))?;
            }
        }
        Ok(())
    }
}
