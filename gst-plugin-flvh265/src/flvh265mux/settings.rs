// SPDX-License-Identifier: MPL-2.0

//! What a user can set, and the properties made from it.

use std::sync::LazyLock;

use flv::Dialect;
use gst::glib;
use gst::prelude::*;

/// How H.265 is written; H.264 is always codec id 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstFlvH265MuxMode")]
#[repr(i32)]
pub enum Mode {
    /// FourCC `hvc1`, as Enhanced RTMP has it.
    #[enum_value(name = "Enhanced RTMP: FourCC hvc1", nick = "enhanced")]
    Enhanced,
    /// Codec id 12.
    #[enum_value(name = "Domestic extension: codec id 12, H.265 only", nick = "domestic")]
    Domestic,
}

impl From<Mode> for Dialect {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enhanced => Self::Enhanced,
            Mode::Domestic => Self::Domestic,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub mode: Mode,
    pub streamable: bool,
    pub end_of_sequence: bool,
    pub repeat_sequence_header: bool,
    pub encoder: String,
    pub metadatacreator: String,
    pub skip_backwards_streams: bool,
    pub enforce_increasing_timestamps: bool,
    pub latency: gst::ClockTime,
}

impl Default for Settings {
    fn default() -> Self {
        let version = concat!("flvh265mux ", env!("CARGO_PKG_VERSION"));
        Self {
            mode: Mode::Enhanced,
            streamable: true,
            end_of_sequence: false,
            repeat_sequence_header: false,
            encoder: version.into(),
            metadatacreator: version.into(),
            skip_backwards_streams: false,
            enforce_increasing_timestamps: true,
            latency: gst::ClockTime::ZERO,
        }
    }
}

const TYPE: &str = "type checked by GObject";
/// AMF0's strings have a 16-bit length.
const MAX_TEXT: usize = 0xffff;

impl Settings {
    /// On the way to PAUSED; the error names property, value and rule.
    pub fn check(&self) -> Result<(), String> {
        for (name, text) in [("encoder", &self.encoder), ("metadatacreator", &self.metadatacreator)] {
            if text.len() > MAX_TEXT {
                return Err(format!("property '{name}' has {} bytes; {MAX_TEXT} are allowed", text.len()));
            }
        }
        Ok(())
    }

    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let text = || value.get::<Option<String>>().expect(TYPE).unwrap_or_default();
        let flag = || value.get().expect(TYPE);
        match name {
            "mode" => self.mode = value.get().expect(TYPE),
            "streamable" => self.streamable = flag(),
            "end-of-sequence" => self.end_of_sequence = flag(),
            "repeat-sequence-header" => self.repeat_sequence_header = flag(),
            "encoder" => self.encoder = text(),
            "metadatacreator" => self.metadatacreator = text(),
            "skip-backwards-streams" => self.skip_backwards_streams = flag(),
            "enforce-increasing-timestamps" => self.enforce_increasing_timestamps = flag(),
            "latency" => self.latency = gst::ClockTime::from_nseconds(value.get().expect(TYPE)),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }

    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "mode" => self.mode.to_value(),
            "streamable" => self.streamable.to_value(),
            "end-of-sequence" => self.end_of_sequence.to_value(),
            "repeat-sequence-header" => self.repeat_sequence_header.to_value(),
            "encoder" => self.encoder.to_value(),
            "metadatacreator" => self.metadatacreator.to_value(),
            "skip-backwards-streams" => self.skip_backwards_streams.to_value(),
            "enforce-increasing-timestamps" => self.enforce_increasing_timestamps.to_value(),
            "latency" => self.latency.nseconds().to_value(),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }
}

pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let defaults = Settings::default();
    let flag = |name: &str, nick: &str, blurb: &str, default: bool| {
        let spec = glib::ParamSpecBoolean::builder(name).nick(nick).blurb(blurb);
        spec.default_value(default).mutable_ready().build()
    };
    let text = |name: &str, nick: &str, blurb: &str, default: &str| {
        let spec = glib::ParamSpecString::builder(name).nick(nick).blurb(blurb);
        spec.default_value(Some(default)).mutable_ready().build()
    };
    vec![
        glib::ParamSpecEnum::builder_with_default("mode", defaults.mode)
            .nick("Mode")
            .blurb("How H.265 is written; H.264 is always codec id 7")
            .mutable_ready()
            .build(),
        flag(
            "streamable",
            "Streamable",
            "Live tags only; false: duration, filesize and a key frame index, written at EOS where the sink can seek",
            defaults.streamable,
        ),
        flag(
            "end-of-sequence",
            "End of sequence",
            "Write SequenceEnd at EOS (ZLMediaKit takes that of mode=enhanced for an error)",
            defaults.end_of_sequence,
        ),
        flag(
            "repeat-sequence-header",
            "Repeat sequence header",
            "Write the sequence header before every key frame, for relays that do not replay it to late joiners",
            defaults.repeat_sequence_header,
        ),
        text("encoder", "Encoder", "The encoder field of onMetaData; empty = none", &defaults.encoder),
        text(
            "metadatacreator",
            "Metadata creator",
            "The metadatacreator field of onMetaData; empty = none",
            &defaults.metadatacreator,
        ),
        flag(
            "skip-backwards-streams",
            "Skip backwards streams",
            "Drop buffers that are earlier than the last tag, of either stream, until they reach its time",
            defaults.skip_backwards_streams,
        ),
        flag(
            "enforce-increasing-timestamps",
            "Enforce increasing timestamps",
            "Raise the time of buffers that are earlier than the last tag, of either stream, to its time",
            defaults.enforce_increasing_timestamps,
        ),
        glib::ParamSpecUInt64::builder("latency")
            .nick("Latency")
            .blurb("How long a live stream waits for the other one beyond upstream's latency, in nanoseconds")
            .default_value(defaults.latency.nseconds())
            .maximum(i64::MAX as u64)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb(
                "tags, bytes, video-tags, audio-tags, key-frames, caps-changes, timestamp-corrections, dropped",
            )
            .read_only()
            .build(),
    ]
});
