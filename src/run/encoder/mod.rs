// SPDX-License-Identifier: MPL-2.0

//! A bin that encodes with the first of its candidates that works, and with the next one when that fails.
//!
//! The change happens within the call that brings a frame, and nothing outside the bin sees more of it than a key frame:
//! no flow error, no error message. A candidate is given up where its factory is missing, where it cannot go to PAUSED,
//! where it posts an error or refuses a frame, and where nothing came out for [`watch::PATIENCE`] frames that went in.
//! Each has the leaky queue of the latest frames for itself, and the queue's thread: one that hangs is left behind.

mod imp;
pub mod watch;

use gst::glib;
use gst::subclass::prelude::*;

pub(crate) use self::imp::RAW;
pub use self::watch::{HANGS, PATIENCE};
use super::plan::Encoding;

glib::wrapper! {
    /// Raw video in, H.264 or H.265 out. Posts an element message `encoder-fallback` (strings `from`, `to`, `reason`)
    /// at each change, and an error where no candidate is left.
    pub struct EncoderSlot(ObjectSubclass<imp::EncoderSlot>) @extends gst::Bin, gst::Element, gst::Object;
}

impl EncoderSlot {
    /// A bin for an encoding, with so many frames in the queue; no candidate is tried before it goes to READY.
    pub fn new(encoding: Encoding, queue_size: u32) -> Self {
        let slot: Self = glib::Object::new();
        slot.imp().configure(encoding, queue_size);
        slot
    }

    /// `hook` is shown the pad of each candidate at which frames leave the queue. To be set once, before READY.
    pub fn on_candidate(&self, hook: impl Fn(&gst::Pad) + Send + Sync + 'static) {
        self.imp().set_hook(Box::new(hook));
    }

    /// Frames in the queue.
    pub fn waiting(&self) -> u32 {
        self.imp().waiting()
    }

    /// The factory in use, and the launch line of what is in the bin; `None` before READY and after the last failed.
    pub fn current(&self) -> Option<(String, String)> {
        self.imp().current()
    }

    /// Why each candidate that was given up was: factory and reason.
    pub fn given_up(&self) -> Vec<(String, String)> {
        self.imp().given_up()
    }
}
