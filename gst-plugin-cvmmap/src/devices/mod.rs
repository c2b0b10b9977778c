// SPDX-License-Identifier: MPL-2.0

//! # SECTION:provider-cvmmapdeviceprovider
//!
//! Lists the cv-mmap producers that can be found, as devices whose element is a `cvmmapsrc` that reads them.
//!
//! ## Example
//! ```bash
//! gst-device-monitor-1.0 --follow Source/Video
//! ```
//!
//! Since: 0.1.0

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

mod device;
mod provider;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    let what = Some("cv-mmap device provider");
    gst::DebugCategory::new("cvmmapdeviceprovider", gst::DebugColorFlags::empty(), what)
});

/// What devices and their provider are, in the words that others are found by.
const CLASS: &str = "Source/Video";

glib::wrapper! {
    /// The provider `cvmmapdeviceprovider`.
    pub struct CvMmapDeviceProvider(ObjectSubclass<provider::CvMmapDeviceProvider>)
        @extends gst::DeviceProvider, gst::Object;
}

glib::wrapper! {
    /// A producer.
    pub struct CvMmapDevice(ObjectSubclass<device::CvMmapDevice>)
        @extends gst::Device, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Monitors ask every provider that has a rank; who lists them by rank has the system's own cameras first.
    let rank = gst::Rank::SECONDARY;
    gst::DeviceProvider::register(
        Some(plugin),
        "cvmmapdeviceprovider",
        rank,
        CvMmapDeviceProvider::static_type(),
    )
}
