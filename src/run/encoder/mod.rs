// SPDX-License-Identifier: MPL-2.0

//! A bin that encodes with the first of its candidates that works, and with the next one when that fails.
//!
//! The change happens within the call that brought a frame, so that the frame is encoded by the next candidate, and
//! nothing outside the bin sees more of it than a key frame: no flow error, no error message. A candidate is given up
//! where its factory is missing, where it cannot go to READY, where it posts an error or refuses a frame, and where
//! nothing came out for [`watch::PATIENCE`] frames that went in.

mod imp;
pub mod watch;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::plan::Encoding;

glib::wrapper! {
    /// Raw video in, H.264 or H.265 out. Posts an element message `encoder-fallback` (strings `from`, `to`, `reason`)
    /// at each change, and an error where no candidate is left.
    pub struct EncoderSlot(ObjectSubclass<imp::EncoderSlot>) @extends gst::Bin, gst::Element, gst::Object;
}

impl EncoderSlot {
    /// A bin for an encoding; no candidate is tried before it goes to READY.
    pub fn new(encoding: Encoding) -> Self {
        let slot: Self = glib::Object::new();
        slot.imp().set_encoding(encoding);
        slot
    }

    /// The factory in use, and the launch line of what is in the bin; `None` before READY and after the last failed.
    pub fn current(&self) -> Option<(String, String)> {
        self.imp().current()
    }

    /// Why each candidate that was given up was: factory and reason.
    pub fn given_up(&self) -> Vec<(String, String)> {
        self.imp().given_up()
    }

    /// The pad that raw video comes in at.
    pub fn sink_pad(&self) -> gst::Pad {
        self.static_pad("sink").expect("it was added at construction")
    }
}
