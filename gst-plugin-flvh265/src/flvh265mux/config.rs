// SPDX-License-Identifier: MPL-2.0

//! What a pad's caps say, or why they are refused.

use flv::{AudioFormat, Dialect, metadata};

use super::settings::Mode;

/// A track's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Config {
    Video(Video),
    Audio(Audio),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Video {
    pub dialect: Dialect,
    /// avcC or hvcC.
    pub record: Vec<u8>,
    pub size: Option<(u32, u32)>,
    pub framerate: Option<f64>,
    /// From tags, which come after caps.
    pub bitrate: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Audio {
    pub format: AudioFormat,
    /// AudioSpecificConfig; MP3 has none.
    pub record: Option<Vec<u8>>,
    pub rate: u32,
    pub stereo: bool,
    /// From tags, which come after caps.
    pub bitrate: Option<u32>,
}

impl Video {
    pub fn metadata(&self) -> metadata::Video {
        let Self { dialect, size, framerate, bitrate, .. } = *self;
        metadata::Video { dialect, size, framerate, bitrate }
    }

    /// They have the same sequence header.
    pub fn is_same(&self, other: &Self) -> bool {
        self.dialect == other.dialect && self.record == other.record
    }
}

impl Audio {
    pub fn metadata(&self) -> metadata::Audio {
        let Self { format, rate, stereo, bitrate, .. } = *self;
        metadata::Audio { format, rate, stereo, bitrate }
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.format == other.format && self.record == other.record
    }
}

/// Real records have some hundred bytes.
const MAX_RECORD: usize = 0xffff;

fn codec_data(caps: &gst::StructureRef) -> Result<Option<Vec<u8>>, String> {
    let Ok(buffer) = caps.get::<gst::Buffer>("codec_data") else { return Ok(None) };
    if buffer.size() > MAX_RECORD {
        let name = caps.name();
        return Err(format!("{name} with a codec_data of {} bytes; {MAX_RECORD} are allowed", buffer.size()));
    }
    Ok(buffer.map_readable().ok().map(|map| map.as_slice().to_vec()))
}

fn positive(caps: &gst::StructureRef, field: &str) -> Option<u32> {
    caps.get::<i32>(field).ok().and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0)
}

impl Config {
    /// The error names the value and the rule.
    pub fn from_caps(caps: &gst::CapsRef, mode: Mode) -> Result<Self, String> {
        let caps = caps.structure(0).ok_or("empty caps")?;
        match caps.name().as_str() {
            "video/x-h265" => video(caps, mode.into(), "h265parse", "hvc1"),
            "video/x-h264" if mode == Mode::Domestic => Err(
                "mode=domestic is for H.265 only (codec id 12), but the stream is H.264; use mode=enhanced, \
                     in which H.264 is codec id 7"
                    .into(),
            ),
            "video/x-h264" => video(caps, Dialect::Avc, "h264parse", "avc"),
            "audio/mpeg" => audio(caps),
            other => {
                Err(format!("{other} is none of video/x-h265, video/x-h264 and audio/mpeg (AAC raw, MP3)"))
            }
        }
    }
}

fn video(
    caps: &gst::StructureRef,
    dialect: Dialect,
    parser: &str,
    stream_format: &str,
) -> Result<Config, String> {
    let name = caps.name();
    for (field, wanted) in [("stream-format", stream_format), ("alignment", "au")] {
        let value = caps.get::<&str>(field).unwrap_or("unset");
        if value != wanted {
            return Err(format!(
                "{name} with {field}={value}, but FLV takes {field}={wanted}; put {parser} before the muxer"
            ));
        }
    }
    let record = codec_data(caps)?.ok_or_else(|| {
        format!("{name} without codec_data, which FLV's sequence header is; put {parser} before the muxer")
    })?;
    dialect
        .codec()
        .check_config(&record)
        .map_err(|error| format!("{name} with a bad codec_data: {error}"))?;
    let framerate = caps.get::<gst::Fraction>("framerate").ok();
    let framerate = framerate.filter(|rate| rate.numer() > 0 && rate.denom() > 0);
    Ok(Config::Video(Video {
        dialect,
        record,
        size: positive(caps, "width").zip(positive(caps, "height")),
        framerate: framerate.map(|rate| f64::from(rate.numer()) / f64::from(rate.denom())),
        bitrate: None,
    }))
}

fn audio(caps: &gst::StructureRef) -> Result<Config, String> {
    let version = caps.get::<i32>("mpegversion").unwrap_or(0);
    let rate = positive(caps, "rate");
    let stereo = positive(caps, "channels").is_none_or(|channels| channels > 1);
    if version == 1 {
        let layer = caps.get::<i32>("layer").unwrap_or(0);
        if layer != 3 {
            return Err(format!("audio/mpeg with mpegversion=1 and layer={layer}, but FLV takes layer=3"));
        }
        let rate = rate.ok_or("audio/mpeg without a rate; put mpegaudioparse before the muxer")?;
        if !MP3_RATES.contains(&(rate as i32)) {
            return Err(format!("MP3 of {rate} Hz, but FLV has {MP3_RATES:?} only"));
        }
        let format = AudioFormat::Mp3 { rate, stereo };
        return Ok(Config::Audio(Audio { format, record: None, rate, stereo, bitrate: None }));
    }
    let stream_format = caps.get::<&str>("stream-format").unwrap_or("unset");
    if ![2, 4].contains(&version) || stream_format != "raw" {
        return Err(format!(
            "audio/mpeg with mpegversion={version} and stream-format={stream_format}, but FLV takes AAC with \
             stream-format=raw; put aacparse before the muxer"
        ));
    }
    let record = codec_data(caps)?.filter(|record| record.len() >= 2).ok_or(
        "AAC without codec_data, which FLV's audio sequence header is; put aacparse before the muxer",
    )?;
    let in_record = flv::audio::aac_rate_and_channels(&record).map(|(rate, _)| rate);
    let rate = rate.or(in_record).ok_or("AAC without a rate in caps or codec_data")?;
    Ok(Config::Audio(Audio { format: AudioFormat::Aac, record: Some(record), rate, stereo, bitrate: None }))
}

/// What MP3 in FLV can have, in Hz.
pub(super) const MP3_RATES: [i32; 5] = [5512, 8000, 11025, 22050, 44100];
