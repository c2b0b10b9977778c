// SPDX-License-Identifier: MPL-2.0

//! # SECTION:element-flvh265demux
//!
//! Takes FLV apart: H.264 (codec id 7), H.265 in both dialects (codec id 12, and the enhanced `hvc1`), AAC and MP3;
//! from files, which it seeks in, and from live streams, which may be joined late and damaged.
//!
//! ## Example pipelines
//! ```bash
//! gst-launch-1.0 filesrc location=cam.flv ! flvh265demux name=d d.video ! h265parse ! avdec_h265 ! videoconvert ! autovideosink
//! ```
//! ```bash
//! gst-launch-1.0 rtmp2src location=rtmp://localhost/live/cam ! flvh265demux ! h265parse ! avdec_h265 ! videoconvert ! autovideosink
//! ```
//! ```bash
//! GST_PLUGIN_FEATURE_RANK=flvh265demux:MAX gst-play-1.0 cam.flv
//! ```
//!
//! Since: 0.1.0

use gst::glib;
use gst::prelude::*;

mod demux;
mod imp;
mod index;
mod pieces;
mod seek;
mod state;
mod track;

glib::wrapper! {
    /// The `flvh265demux` element.
    pub struct FlvH265Demux(ObjectSubclass<imp::FlvH265Demux>) @extends gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Below stock flvdemux, which knows more of the old codecs.
    gst::Element::register(Some(plugin), "flvh265demux", gst::Rank::SECONDARY, FlvH265Demux::static_type())
}
