// SPDX-License-Identifier: MPL-2.0

//! What a user can set, and the properties made from it.

use std::sync::LazyLock;

use cvmmap_ipc::Version;
use gst::glib;
use gst::prelude::*;

/// Layout of the metadata that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCvMmapMetadataVersion")]
#[repr(i32)]
pub enum MetadataVersion {
    /// Version 1.0: one packed picture; every client reads it.
    #[enum_value(name = "1.0: one packed picture, read by every client", nick = "v1")]
    V1,
    /// Version 2.0: planes with strides.
    #[enum_value(name = "2.0: planes with strides", nick = "v2")]
    V2,
}

impl From<MetadataVersion> for Version {
    fn from(version: MetadataVersion) -> Self {
        match version {
            MetadataVersion::V1 => Self::V1,
            MetadataVersion::V2 => Self::V2,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub uri: String,
    pub metadata_version: MetadataVersion,
}

impl Default for Settings {
    fn default() -> Self {
        Self { uri: "cvmmap://default".into(), metadata_version: MetadataVersion::V1 }
    }
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecString::builder("uri")
            .nick("URI")
            .blurb("Name to publish under: NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]")
            .default_value(Some(defaults.uri.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("metadata-version", defaults.metadata_version)
            .nick("Metadata version")
            .blurb("Layout of the metadata that is written")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("frames, bytes, caps-changes, last-frame-count")
            .read_only()
            .build(),
    ]
});
