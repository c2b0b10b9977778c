// SPDX-License-Identifier: MPL-2.0

//! GStreamer elements for cv-mmap: `cvmmapsrc` reads a producer's frames, `cvmmapsink` publishes frames as one,
//! `cvmmapdeviceprovider` lists the producers there are.
//!
//! Loaded by GStreamer from `GST_PLUGIN_PATH`, or linked and registered with `plugin_register_static()`.
#![deny(unsafe_code)]

use gst::glib;

pub mod cvmmapsink;
pub mod cvmmapsrc;
pub mod devices;
mod format;

pub use cvmmapsrc::bodies_of;
pub use format::{raw_format, wire_format};

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    cvmmapsrc::register_meta();
    cvmmapsrc::register(plugin)?;
    cvmmapsink::register(plugin)?;
    devices::register(plugin)
}

#[allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)]
mod plugin {
    use super::plugin_init;

    // The macro writes the C entry points that GStreamer looks for.
    gst::plugin_define!(
        cvmmap,
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
