// SPDX-License-Identifier: MPL-2.0

//! GStreamer element for ZED recordings (SVO2): `zedsvosrc` plays them without the ZED SDK.
//!
//! Loaded by GStreamer from `GST_PLUGIN_PATH`, or linked and registered with `plugin_register_static()`.
#![deny(unsafe_code)]

use gst::glib;

pub mod zedsvosrc;

pub use zedsvosrc::{FrameSensors, sensors_of};

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    zedsvosrc::register_meta();
    zedsvosrc::register(plugin)
}

#[allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
mod plugin {
    use super::plugin_init;

    // The macro writes the C entry points that GStreamer looks for.
    gst::plugin_define!(
        zedsvo,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MPL-2.0",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        "cvmmap-streamer",
        env!("BUILD_REL_DATE")
    );
}
pub use plugin::plugin_register_static;
