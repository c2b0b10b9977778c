// SPDX-License-Identifier: MPL-2.0

//! GStreamer elements for FLV with H.265 and H.264: `flvh265mux` and `flvh265demux`.
//!
//! Loaded by GStreamer from `GST_PLUGIN_PATH`, or linked and registered with `plugin_register_static()`.
#![deny(unsafe_code)]

use gst::glib;

pub mod flvh265demux;
pub mod flvh265mux;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    flvh265demux::register(plugin)?;
    flvh265mux::register(plugin)
}

#[allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
mod plugin {
    use super::plugin_init;

    // The macro writes the C entry points that GStreamer looks for.
    gst::plugin_define!(
        flvh265,
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
