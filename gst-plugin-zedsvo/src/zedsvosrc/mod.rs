// SPDX-License-Identifier: MPL-2.0

//! # SECTION:element-zedsvosrc
//!
//! Plays ZED recordings (SVO2) without the ZED SDK: raw video of one view or both, or the bitstream as recorded.
//!
//! ## Example pipeline
//! ```bash
//! gst-launch-1.0 zedsvosrc location=a.svo2 ! videoconvert ! autovideosink
//! ```
//!
//! Since: 0.1.0

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod chain;
mod course;
mod feed;
mod imp;
mod outlet;
mod pools;
mod rectify;
mod seek;
mod sensors;
mod session;
mod settings;
mod timeline;
mod view;

pub(crate) use sensors::register_meta;
pub use sensors::{FrameSensors, SENSORS_META, sensors_of};
pub use settings::{OutputChoice, ViewChoice};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("zedsvosrc", gst::DebugColorFlags::empty(), Some("ZED recording source"))
});

glib::wrapper! {
    /// The `zedsvosrc` element.
    pub struct ZedSvoSrc(ObjectSubclass<imp::ZedSvoSrc>) @extends gst::Bin, gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        ViewChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        OutputChoice::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(Some(plugin), "zedsvosrc", gst::Rank::NONE, ZedSvoSrc::static_type())
}
