// SPDX-License-Identifier: MPL-2.0

//! What a user can set, and the properties made from it.

use std::sync::LazyLock;
use std::time::Duration;

use cvmmap_control::ServerUrl;
use cvmmap_ipc::metadata::DepthUnit;
use cvmmap_ipc::{Coherence, PlaneKind, ReaderConfig, Target};
use gst::glib;
use gst::prelude::*;

/// Which plane of the frames is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCvMmapPlane")]
#[repr(i32)]
pub enum PlaneChoice {
    /// The picture.
    #[enum_value(name = "Left: the picture", nick = "left")]
    Left,
    /// Depth as GRAY16_LE millimetres.
    #[enum_value(name = "Depth: GRAY16_LE millimetres, 0 = invalid", nick = "depth")]
    Depth,
    /// Confidence of the depth as GRAY8.
    #[enum_value(name = "Confidence of the depth: GRAY8", nick = "confidence")]
    Confidence,
    /// The producer's own access units.
    #[enum_value(name = "Encoded: the producer's own H.264 or H.265", nick = "encoded")]
    Encoded,
}

impl From<PlaneChoice> for PlaneKind {
    fn from(choice: PlaneChoice) -> Self {
        match choice {
            PlaneChoice::Left => Self::Left,
            PlaneChoice::Depth => Self::Depth,
            PlaneChoice::Confidence => Self::Confidence,
            PlaneChoice::Encoded => Self::Encoded,
        }
    }
}

/// How much evidence a frame needs before it is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCvMmapCoherence")]
#[repr(i32)]
pub enum CoherenceLevel {
    /// See [`Coherence::Metadata`].
    #[enum_value(
        name = "Metadata agrees before, after and with the sync; lets torn frames through",
        nick = "metadata"
    )]
    Metadata,
    /// See [`Coherence::Verify`].
    #[enum_value(name = "Copied on a sync that was waited for, and looked at again", nick = "verify")]
    Verify,
    /// See [`Coherence::NextSync`].
    #[enum_value(name = "Proven by the next frame's capture stamp; one frame of delay", nick = "next-sync")]
    NextSync,
}

impl From<CoherenceLevel> for Coherence {
    fn from(level: CoherenceLevel) -> Self {
        match level {
            CoherenceLevel::Metadata => Self::Metadata,
            CoherenceLevel::Verify => Self::Verify,
            CoherenceLevel::NextSync => Self::NextSync,
        }
    }
}

/// Which moment of a frame becomes its PTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCvMmapTimestampMode")]
#[repr(i32)]
pub enum TimestampMode {
    /// The sync message's arrival.
    #[enum_value(name = "Running time at which the sync message arrived", nick = "arrival")]
    Arrival,
    /// The capture.
    #[enum_value(name = "Running time of the capture, from the producer's stamps", nick = "capture")]
    Capture,
}

/// Unit of the depth plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstCvMmapDepthUnit")]
#[repr(i32)]
pub enum DepthUnitChoice {
    /// As the header says.
    #[enum_value(name = "As the header says", nick = "auto")]
    Auto,
    /// Millimetres, whatever the header says.
    #[enum_value(name = "Millimetres, whatever the header says", nick = "millimetre")]
    Millimetre,
    /// Metres, whatever the header says.
    #[enum_value(name = "Metres, whatever the header says", nick = "metre")]
    Metre,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub uri: String,
    pub shm_name: Option<String>,
    pub zmq_endpoint: Option<String>,
    pub plane: PlaneChoice,
    pub coherence: CoherenceLevel,
    pub timestamp_mode: TimestampMode,
    pub depth_unit: DepthUnitChoice,
    pub idle_timeout_ms: u32,
    pub nats_url: Option<String>,
    pub body_tracking: bool,
    pub body_wait_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uri: "cvmmap://default".into(),
            shm_name: None,
            zmq_endpoint: None,
            plane: PlaneChoice::Left,
            coherence: CoherenceLevel::Verify,
            timestamp_mode: TimestampMode::Arrival,
            depth_unit: DepthUnitChoice::Auto,
            idle_timeout_ms: 0,
            nats_url: Some(cvmmap_control::url::default_url()),
            body_tracking: false,
            body_wait_ms: 0,
        }
    }
}

impl Settings {
    /// What the reader is opened with; `Err` names the property, its value and the rule.
    pub fn reader_config(&self) -> Result<ReaderConfig, String> {
        let target: Target =
            self.uri.parse().map_err(|error| format!("property 'uri' = '{}': {error}", self.uri))?;
        let mut config = ReaderConfig::new(&target, self.coherence.into());
        if let Some(name) = &self.shm_name {
            let plain = name.strip_prefix('/').unwrap_or(name);
            if plain.is_empty() || plain.contains('/') || plain.contains('\0') || plain.len() > 255 {
                return Err(format!(
                    "property 'shm-name' = '{name}': a POSIX shared memory name has 1 to 255 bytes without '/'"
                ));
            }
            config.shm_name = plain.into();
        }
        if let Some(endpoint) = &self.zmq_endpoint {
            config.endpoint.clone_from(endpoint);
        }
        // Overridden names say nothing of the label; the metadata still has to agree with each message.
        if self.shm_name.is_some() || self.zmq_endpoint.is_some() {
            config.label = None;
        }
        Ok(config)
    }

    /// The NATS server; `None` = off, `Err` as of [`Settings::reader_config`].
    pub fn server(&self) -> Result<Option<ServerUrl>, String> {
        match self.nats_url.as_deref() {
            None | Some("") => Ok(None),
            // Its text has the value, without what may be a password.
            Some(url) => url.parse().map(Some).map_err(|error| format!("property 'nats-url' = {error}")),
        }
    }

    /// The target key of the producer's subjects, and the instance that its messages name; `None`: any.
    pub fn control_names(&self) -> Result<(String, Option<String>), String> {
        let config = self.reader_config()?;
        let key = match &self.shm_name {
            Some(_) => cvmmap_ipc::target::nats_key(&config.shm_name),
            None => self.uri.parse().map(|target: Target| target.nats_target_key()).unwrap_or_default(),
        };
        Ok((key, config.label))
    }

    /// How long a buffer waits for its bodies.
    pub fn body_wait(&self) -> Option<Duration> {
        (self.body_tracking && self.body_wait_ms > 0).then(|| Duration::from_millis(self.body_wait_ms.into()))
    }

    pub fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_ms > 0).then(|| Duration::from_millis(self.idle_timeout_ms.into()))
    }

    pub fn depth_unit(&self) -> Option<DepthUnit> {
        match self.depth_unit {
            DepthUnitChoice::Auto => None,
            DepthUnitChoice::Millimetre => Some(DepthUnit::Millimetre),
            DepthUnitChoice::Metre => Some(DepthUnit::Metre),
        }
    }

    pub fn set(&mut self, name: &str, value: &glib::Value) {
        const TYPE: &str = "type checked by GObject";
        match name {
            "uri" => {
                let uri: Option<String> = value.get().expect(TYPE);
                self.uri = uri.unwrap_or_else(|| Self::default().uri);
            }
            "shm-name" => self.shm_name = value.get().expect(TYPE),
            "zmq-endpoint" => self.zmq_endpoint = value.get().expect(TYPE),
            "plane" => self.plane = value.get().expect(TYPE),
            "coherence" => self.coherence = value.get().expect(TYPE),
            "timestamp-mode" => self.timestamp_mode = value.get().expect(TYPE),
            "depth-unit" => self.depth_unit = value.get().expect(TYPE),
            "idle-timeout" => self.idle_timeout_ms = value.get().expect(TYPE),
            "nats-url" => self.nats_url = value.get().expect(TYPE),
            "body-tracking" => self.body_tracking = value.get().expect(TYPE),
            "body-wait" => self.body_wait_ms = value.get().expect(TYPE),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }

    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "uri" => self.uri.to_value(),
            "shm-name" => self.shm_name.to_value(),
            "zmq-endpoint" => self.zmq_endpoint.to_value(),
            "plane" => self.plane.to_value(),
            "coherence" => self.coherence.to_value(),
            "timestamp-mode" => self.timestamp_mode.to_value(),
            "depth-unit" => self.depth_unit.to_value(),
            "idle-timeout" => self.idle_timeout_ms.to_value(),
            "nats-url" => self.nats_url.to_value(),
            "body-tracking" => self.body_tracking.to_value(),
            "body-wait" => self.body_wait_ms.to_value(),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecString::builder("uri")
            .nick("URI")
            .blurb("The producer: NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]")
            .default_value(Some(defaults.uri.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("shm-name")
            .nick("Shared memory name")
            .blurb("POSIX shared memory name in place of the URI's; sync messages of any label are then taken")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("zmq-endpoint")
            .nick("ZeroMQ endpoint")
            .blurb("Endpoint of the sync messages in place of the URI's; messages of any label are then taken")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("plane", defaults.plane)
            .nick("Plane")
            .blurb("Which plane of the frames is read")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("coherence", defaults.coherence)
            .nick("Coherence")
            .blurb("How much evidence a frame needs before it is handed on")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("timestamp-mode", defaults.timestamp_mode)
            .nick("Timestamp mode")
            .blurb("Which moment of a frame becomes its PTS")
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("depth-unit", defaults.depth_unit)
            .nick("Depth unit")
            .blurb("Unit of the depth plane where the header names none, or a wrong one")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("idle-timeout")
            .nick("Idle timeout")
            .blurb("Milliseconds without a frame until EOS; 0 = never, a message only")
            .default_value(defaults.idle_timeout_ms)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("nats-url")
            .nick("NATS URL")
            .blurb(
                "The server of the control plane: nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT] or tls://; empty = off. \
                 The picture does not need it and never waits for it",
            )
            .default_value(defaults.nats_url.as_deref())
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("body-tracking")
            .nick("Body tracking")
            .blurb(
                "Put the bodies of each frame on its buffer (GstCvMmapBodiesMeta), and post each body packet as a \
                 cvmmapsrc-bodies message",
            )
            .default_value(defaults.body_tracking)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("body-wait")
            .nick("Body wait")
            .blurb(
                "Longest time in milliseconds that a buffer waits for its bodies, for producers that publish them \
                 after the frame; part of the latency; 0 = the picture never waits",
            )
            .maximum(10_000)
            .default_value(defaults.body_wait_ms)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("source-info")
            .nick("Source info")
            .blurb(
                "What the producer says of itself over NATS: source-kind, timestamp-domain, flags and each of them by \
                 name (can-seek, ...), timeline-start, timeline-end, duration (ns), and more; NULL = not known",
            )
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "frames, dropped, torn, retried, invalid, ignored-messages, resets, reopens, bytes, last-frame-count, \
                 latency-last, latency-p50, latency-p99 (ns from the announcement to the push), nats (off, connecting, up, down), bodies, and more",
            )
            .read_only()
            .build(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_names_property_value_and_rule() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.reader_config()
        };
        let error = with(|s| s.uri = "cvmmap://a@tmp".into()).unwrap_err();
        assert_eq!(error, "property 'uri' = 'cvmmap://a@tmp': prefix 'tmp' is not an absolute path");
        let error = with(|s| s.shm_name = Some("a/b".into())).unwrap_err();
        assert!(error.starts_with("property 'shm-name' = 'a/b':"), "{error}");
        let config = with(|s| s.shm_name = Some("/seg".into())).unwrap();
        assert_eq!((config.shm_name.as_str(), config.label), ("seg", None));
        let config = with(|_| ()).unwrap();
        assert_eq!(config.label.as_deref(), Some("default"));
    }

    #[test]
    fn the_server_may_be_off_and_its_password_is_nobodys_business() {
        let server = |url: Option<&str>| {
            let settings = Settings { nats_url: url.map(Into::into), ..Default::default() };
            settings.server().map(|url| url.map(|url| url.to_string()))
        };
        assert_eq!((server(None), server(Some(""))), (Ok(None), Ok(None)));
        assert_eq!(server(Some("nats://h:1")), Ok(Some("nats://h:1".into())));
        let error = server(Some("http://user:hunter2@h")).unwrap_err();
        assert!(error.starts_with("property 'nats-url' = 'http://***@h': it is nats://"), "{error}");
    }

    #[test]
    fn subjects_follow_the_name_that_is_read() {
        let names = |uri: &str, shm_name: Option<&str>| {
            let shm_name = shm_name.map(Into::into);
            Settings { uri: uri.into(), shm_name, ..Default::default() }.control_names().unwrap()
        };
        assert_eq!(names("cvmmap://cam.0", None), ("cvmmap_cam_0".into(), Some("cam.0".into())));
        assert_eq!(names("cvmmap://cam.0", Some("/lab_a.b")), ("lab_a_b".into(), None));
    }
}
