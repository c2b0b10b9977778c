// SPDX-License-Identifier: MPL-2.0

//! A track: its pad, and what was told on it.

use flv::{ConfigError, VideoCodec};

use super::state::Facts;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Video,
    Audio,
}

impl Kind {
    /// Name of the pad and of its template.
    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }
}

/// What a decoder must know before the first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Config {
    Video { codec: VideoCodec, record: Vec<u8> },
    Aac { config: Vec<u8> },
    Mp3 { rate: u32, channels: u8 },
}

impl Config {
    /// What FLV's own header says of all AAC, for a configuration that does not say it plainly.
    const AAC: (u32, u8) = (44100, 2);

    /// Of a configuration record that is in order.
    pub fn video(codec: VideoCodec, record: Vec<u8>) -> Result<Self, ConfigError> {
        codec.check_config(&record).map(|_| Self::Video { codec, record })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Video { .. } => Kind::Video,
            Self::Aac { .. } | Self::Mp3 { .. } => Kind::Audio,
        }
    }

    pub fn caps(&self, facts: &Facts) -> gst::Caps {
        let mpeg = |version: i32, (rate, channels): (u32, u8)| {
            gst::Caps::builder("audio/mpeg")
                .field("mpegversion", version)
                .field("rate", rate as i32)
                .field("channels", i32::from(channels))
        };
        match self {
            Self::Video { codec, record } => {
                let (name, format) = match codec {
                    VideoCodec::H264 => ("video/x-h264", "avc"),
                    VideoCodec::H265 => ("video/x-h265", "hvc1"),
                };
                gst::Caps::builder(name)
                    .field("stream-format", format)
                    .field("alignment", "au")
                    .field("codec_data", gst::Buffer::from_slice(record.clone()))
                    .field_if_some("width", facts.size.map(|(width, _)| width))
                    .field_if_some("height", facts.size.map(|(_, height)| height))
                    .field_if_some("framerate", facts.framerate)
                    .build()
            }
            Self::Aac { config } => {
                let told = flv::audio::aac_rate_and_channels(config).unwrap_or(Self::AAC);
                mpeg(4, told)
                    .field("stream-format", "raw")
                    .field("framed", true)
                    .field("codec_data", gst::Buffer::from_slice(config.clone()))
                    .build()
            }
            Self::Mp3 { rate, channels } => {
                mpeg(1, (*rate, *channels)).field("layer", 3).field("parsed", true).build()
            }
        }
    }
}

/// Everything that can come out of a pad of this kind.
pub(super) fn template_caps(kind: Kind) -> gst::Caps {
    let video = |name, format| {
        gst::Structure::builder(name).field("stream-format", format).field("alignment", "au").build()
    };
    match kind {
        Kind::Video => gst::Caps::builder_full()
            .structure(video("video/x-h265", "hvc1"))
            .structure(video("video/x-h264", "avc"))
            .build(),
        Kind::Audio => gst::Caps::builder_full()
            .structure(
                gst::Structure::builder("audio/mpeg")
                    .field("mpegversion", 4)
                    .field("stream-format", "raw")
                    .field("framed", true)
                    .build(),
            )
            .structure(
                gst::Structure::builder("audio/mpeg").field("mpegversion", 1).field("layer", 3).build(),
            )
            .build(),
    }
}

#[derive(Debug, Default)]
pub(super) struct Track {
    /// From the first configuration on.
    pub pad: Option<gst::Pad>,
    pub config: Option<Config>,
    /// The last frame's decoding time in milliseconds.
    pub last_ms: Option<i64>,
    /// Up to where a gap event was pushed.
    pub filled_ms: Option<i64>,
    /// The next buffer does not follow on the last.
    pub discont: bool,
    /// The segment must be pushed before the next buffer.
    pub segment_due: bool,
    /// The segment's stop was reached.
    pub done: bool,
    /// It was said that its frames come without a configuration.
    pub warned: bool,
}

impl Track {
    /// After a seek or a flush.
    pub fn interrupt(&mut self) {
        self.discont = true;
        self.last_ms = None;
        self.filled_ms = None;
        self.done = false;
    }
}
