// SPDX-License-Identifier: MPL-2.0

//! # SECTION:element-cvmmapsink
//!
//! Publishes raw video as a cv-mmap producer, for the clients of that protocol in any language.
//!
//! ## Example pipeline
//! ```bash
//! gst-launch-1.0 v4l2src ! videoconvert ! cvmmapsink uri=cvmmap://cam0
//! ```
//!
//! Since: 0.1.0

use gst::glib;
use gst::prelude::*;

mod control;
mod imp;
mod settings;
mod state;

pub use settings::{MetadataVersion, Timestamps};

glib::wrapper! {
    /// The `cvmmapsink` element.
    pub struct CvMmapSink(ObjectSubclass<imp::CvMmapSink>)
        @extends gst_base::BaseSink, gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        MetadataVersion::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        Timestamps::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    // Never picked by itself: publishing is a decision.
    gst::Element::register(Some(plugin), "cvmmapsink", gst::Rank::NONE, CvMmapSink::static_type())
}
