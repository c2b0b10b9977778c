// SPDX-License-Identifier: MPL-2.0

//! # SECTION:element-cvmmapsrc
//!
//! Reads the frames of a cv-mmap producer: a live source of raw video, or of the producer's own H.264 or H.265.
//!
//! ## Example pipeline
//! ```bash
//! gst-launch-1.0 cvmmapsrc uri=cvmmap://cam0 ! videoconvert ! autovideosink
//! ```
//!
//! Since: 0.1.0

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod actions;
mod bodies;
mod body_message;
mod control;
mod finish;
mod frames;
mod imp;
mod pool;
mod seek;
mod settings;
mod state;
mod telling;

pub(crate) use bodies::register_meta;
pub use bodies::{BODIES_META, bodies_of};
pub use settings::{CoherenceLevel, DepthUnitChoice, PlaneChoice, TimestampMode};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("cvmmapsrc", gst::DebugColorFlags::empty(), Some("cv-mmap source"))
});

glib::wrapper! {
    /// The `cvmmapsrc` element.
    pub struct CvMmapSrc(ObjectSubclass<imp::CvMmapSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        PlaneChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        CoherenceLevel::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        TimestampMode::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        DepthUnitChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(Some(plugin), "cvmmapsrc", gst::Rank::PRIMARY, CvMmapSrc::static_type())
}
