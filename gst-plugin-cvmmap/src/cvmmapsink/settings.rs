// SPDX-License-Identifier: MPL-2.0

//! What a user can set, and the properties made from it.

use std::sync::LazyLock;

use cvmmap_ipc::Version;
use gst::glib;
use gst::prelude::*;

use super::state::Clock;

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

/// What frames are stamped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCvMmapSinkTimestamps")]
#[repr(i32)]
pub enum Timestamps {
    /// A live source.
    #[enum_value(name = "Unix: capture time where it is known, or the time of day", nick = "unix")]
    Unix,
    /// A replay, whose clients may seek.
    #[enum_value(name = "Media: stream time, as a replay that clients may seek in", nick = "media")]
    Media,
}

impl From<Timestamps> for Clock {
    fn from(timestamps: Timestamps) -> Self {
        match timestamps {
            Timestamps::Unix => Self::Unix,
            Timestamps::Media => Self::Media,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub uri: String,
    pub metadata_version: MetadataVersion,
    pub timestamps: Timestamps,
    pub nats_url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uri: "cvmmap://default".into(),
            metadata_version: MetadataVersion::V1,
            timestamps: Timestamps::Unix,
            nats_url: cvmmap_control::url::default_url(),
        }
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
        glib::ParamSpecEnum::builder_with_default("timestamps", defaults.timestamps)
            .nick("Timestamps")
            .blurb("What frames are stamped with, and so whether clients meet a live source or a replay")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("nats-url")
            .nick("NATS URL")
            .blurb("Server of the control plane: nats://[USER:PASSWORD@]HOST[:PORT], empty = off")
            .default_value(Some(defaults.nats_url.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("frames, bytes, caps-changes, last-frame-count, resets, nats")
            .read_only()
            .build(),
    ]
});
