// SPDX-License-Identifier: MPL-2.0

//! # SECTION:element-flvh265mux
//!
//! Muxes H.265 or H.264 and AAC or MP3 into FLV, for RTMP servers and for files.
//!
//! ## Example pipelines
//! ```bash
//! gst-launch-1.0 cvmmapsrc ! video/x-raw,framerate=30/1 ! videoconvert ! video/x-raw,format=I420 \
//!   ! x265enc tune=zerolatency ! h265parse ! flvh265mux mode=domestic ! rtmp2sink location=rtmp://localhost/live/cam0 chunk-size=65536
//! ```
//! ```bash
//! gst-launch-1.0 videotestsrc num-buffers=100 ! video/x-raw,format=I420 ! x265enc ! h265parse \
//!   ! flvh265mux streamable=false ! filesink location=test.flv
//! ```
//!
//! Since: 0.1.0

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod config;
mod imp;
mod settings;
mod state;
mod writer;

pub use settings::Mode;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("flvh265mux", gst::DebugColorFlags::empty(), Some("FLV muxer with H.265"))
});

glib::wrapper! {
    /// The `flvh265mux` element.
    pub struct FlvH265Mux(ObjectSubclass<imp::FlvH265Mux>) @extends gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    Mode::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    // Below stock flvmux, which encodebin goes on to choose.
    gst::Element::register(Some(plugin), "flvh265mux", gst::Rank::SECONDARY, FlvH265Mux::static_type())
}
