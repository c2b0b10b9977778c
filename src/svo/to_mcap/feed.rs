// SPDX-License-Identifier: MPL-2.0

//! Access units of one camera, wherever they come from.

use std::sync::Arc;

use bytes::Bytes;
use svo2::Recording;

use crate::mcap::Picture;
use crate::svo::chain::Ended;
use crate::svo::convert::{Control, Damages};

/// One access unit as MCAP wants it: Annex B, parameter sets with key frames, in the order of showing.
#[derive(Debug)]
pub struct Unit {
    /// Index of its frame in the recording.
    pub frame: usize,
    /// A `foxglove.CompressedVideo` of the access unit.
    pub message: Vec<u8>,
}

/// What its camera is called, and the times of its frames.
pub struct Shot {
    /// What topics begin with.
    pub label: String,
    /// When they were taken.
    pub recording: Arc<Recording>,
    /// `h264` or `h265`.
    pub format: &'static str,
}

impl Shot {
    /// One access unit of it.
    pub fn unit(&self, frame: usize, unit: Bytes) -> Unit {
        let picture = Picture {
            time_ns: self.recording.time_ns(frame),
            frame_id: &self.label,
            format: self.format,
            unit,
        };
        Unit { frame, message: picture.encoded() }
    }
}

/// Where they come from.
pub(in crate::svo) trait Feed {
    /// The next, in the order of the frames; `None` behind the last. Tells of what is left out.
    fn next(&mut self, control: &mut Control, damages: &mut Damages) -> Result<Option<Unit>, Ended>;
}
