// SPDX-License-Identifier: MPL-2.0

//! Access units of one camera, wherever they come from.

use bytes::Bytes;

use crate::svo::chain::Ended;
use crate::svo::convert::{Control, Damages};

/// One access unit as MCAP wants it: Annex B, parameter sets with key frames, in the order of showing.
#[derive(Debug)]
pub struct Unit {
    /// Index of its frame in the recording.
    pub frame: usize,
    /// The access unit.
    pub bytes: Bytes,
}

/// Where they come from.
pub(in crate::svo) trait Feed {
    /// The next, in the order of the frames; `None` behind the last. Tells of what is left out.
    fn next(&mut self, control: &mut Control, damages: &mut Damages) -> Result<Option<Unit>, Ended>;
}
