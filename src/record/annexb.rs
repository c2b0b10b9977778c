// SPDX-License-Identifier: MPL-2.0

//! Access units of files (`avc`, `hvc1`) as those of wires: Annex B, with parameter sets before each key frame.

use super::queue::Unit;
use crate::parse::Parser;
use crate::run::plan::Codec;

/// The converter.
pub struct AnnexB(Parser);

impl AnnexB {
    /// A converter for a codec.
    ///
    /// # Errors
    /// Names the element that is missing.
    pub fn new(codec: Codec) -> Result<Self, String> {
        Parser::new(codec, "byte-stream").map(Self)
    }

    /// The access unit on the wire.
    ///
    /// # Errors
    /// What the parser does with what it does not understand.
    pub fn convert(&mut self, unit: &Unit) -> Result<gst::Buffer, String> {
        let mut buffer = unit.buffer.clone();
        let time = gst::ClockTime::from_nseconds(unit.pts.max(0) as u64);
        let writable = buffer.make_mut();
        writable.set_pts(time);
        writable.set_dts(time);
        self.0.convert(&unit.caps, buffer)
    }
}
