// SPDX-License-Identifier: MPL-2.0

//! onMetaData: what a player learns before the first frame.

use crate::amf0::{Value, write_script};
use crate::index::KeyFrame;
use crate::tag::script_tag;
use crate::{AudioFormat, Dialect};

/// The video track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Video {
    /// Its dialect, which gives `videocodecid`.
    pub dialect: Dialect,
    /// Width and height in pixels, where known.
    pub size: Option<(u32, u32)>,
    /// Frames per second, where known.
    pub framerate: Option<f64>,
    /// Bits per second, where known.
    pub bitrate: Option<u32>,
}

/// The audio track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Audio {
    /// Its format, which gives `audiocodecid`.
    pub format: AudioFormat,
    /// Hz.
    pub rate: u32,
    /// More than one channel.
    pub stereo: bool,
    /// Bits per second, where known.
    pub bitrate: Option<u32>,
}

/// What only a finished file has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct File {
    /// Seconds.
    pub duration: f64,
    /// Bytes.
    pub size: u64,
    /// Where one can seek to.
    pub key_frames: Vec<KeyFrame>,
}

/// The content of onMetaData.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// The video track.
    pub video: Option<Video>,
    /// The audio track.
    pub audio: Option<Audio>,
    /// `encoder`; left out if empty.
    pub encoder: String,
    /// `metadatacreator`; left out if empty.
    pub creator: String,
    /// Present in files.
    pub file: Option<File>,
}

const NAME: &str = "onMetaData";
/// The last field, which keeps room for the index.
const FILLER: &str = "filler";
/// FFmpeg gives up at a string of 1024 bytes.
const FILLER_STRING: usize = 1000;

impl Metadata {
    /// A script tag with timestamp 0 (FFmpeg takes a later one for subtitles).
    pub fn to_tag(&self) -> Vec<u8> {
        self.tag(None)
    }

    /// A file's metadata as a tag of exactly `bytes` bytes, to be replaced later by another one of that size.
    ///
    /// `None` if it does not fit. [`Metadata::file_room`] says how much there has to be.
    pub fn to_tag_of(&self, bytes: usize) -> Option<Vec<u8>> {
        // In the tag itself: FFmpeg makes a stream of its own of any other script tag.
        let missing = bytes.checked_sub(self.tag(Some(0)).len())?;
        let tag = self.tag(Some(missing));
        (tag.len() == bytes).then_some(tag)
    }

    /// The size of this metadata with an index of `key_frames`.
    pub fn file_room(&self, key_frames: usize) -> usize {
        let file =
            File { key_frames: vec![KeyFrame { time: 0., position: 0 }; key_frames], ..File::default() };
        Self { file: Some(file), ..self.clone() }.tag(Some(0)).len()
    }

    fn tag(&self, fill: Option<usize>) -> Vec<u8> {
        let mut fields = self.fields();
        fields.extend(fill.map(|bytes| (FILLER.to_owned(), filler(bytes))));
        let body = write_script(NAME, &Value::EcmaArray(fields));
        script_tag(0, &body).expect("metadata is far smaller than a tag")
    }

    fn fields(&self) -> Vec<(String, Value)> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        let mut add = |name: &str, value: Value| fields.push((name.to_owned(), value));
        if let Some(file) = &self.file {
            add("duration", file.duration.into());
            add("filesize", (file.size as f64).into());
        }
        if let Some(video) = &self.video {
            add("videocodecid", f64::from(video.dialect.codec_id()).into());
            if let Some((width, height)) = video.size {
                add("width", f64::from(width).into());
                add("height", f64::from(height).into());
            }
            if let Some(framerate) = video.framerate {
                add("framerate", framerate.into());
            }
            if let Some(bitrate) = video.bitrate {
                add("videodatarate", kilobits(bitrate));
            }
        }
        if let Some(audio) = &self.audio {
            add("audiocodecid", f64::from(audio.format.codec_id()).into());
            add("audiosamplerate", f64::from(audio.rate).into());
            add("audiosamplesize", 16.0.into());
            add("stereo", audio.stereo.into());
            if let Some(bitrate) = audio.bitrate {
                add("audiodatarate", kilobits(bitrate));
            }
        }
        for (name, text) in [("encoder", &self.encoder), ("metadatacreator", &self.creator)] {
            if !text.is_empty() {
                add(name, text.as_str().into());
            }
        }
        if let Some(file) = self.file.as_ref().filter(|file| !file.key_frames.is_empty()) {
            let column = |of: fn(&KeyFrame) -> f64| {
                Value::StrictArray(file.key_frames.iter().map(|key_frame| of(key_frame).into()).collect())
            };
            let keyframes = Value::Object(vec![
                ("times".to_owned(), column(|key_frame| key_frame.time)),
                ("filepositions".to_owned(), column(|key_frame| key_frame.position as f64)),
            ]);
            add("keyframes", keyframes);
        }
        fields
    }
}

fn kilobits(bitrate: u32) -> Value {
    (f64::from(bitrate) / 1000.).into()
}

/// An array of strings, `bytes` larger than that of one empty string.
fn filler(bytes: usize) -> Value {
    const STRING_HEADER: usize = 3;
    let mut left = bytes + STRING_HEADER;
    let mut strings = Vec::new();
    while left > 0 {
        // Never a rest too small for a string.
        let taken = match left {
            all if all <= FILLER_STRING => all,
            more => FILLER_STRING.min(more - STRING_HEADER),
        };
        strings.push(Value::String(" ".repeat(taken - STRING_HEADER)));
        left -= taken;
    }
    Value::StrictArray(strings)
}

/// What a reader takes from onMetaData for seeking; anything may be missing or wrong in foreign files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Described {
    /// Seconds; more than 0.
    pub duration: Option<f64>,
    /// In order of time; empty if the file's index is not in order.
    pub key_frames: Vec<KeyFrame>,
}

/// 140,000 years in seconds; four terabytes.
const MAX_NUMBER: f64 = (1u64 << 42) as f64;

impl Described {
    /// Takes what makes sense.
    pub fn new(metadata: &Value) -> Self {
        // Beyond it a number is a mistake, and milliseconds and sums might overflow.
        let usable = |number: f64| (0. ..=MAX_NUMBER).contains(&number).then_some(number);
        let duration = metadata.get("duration").and_then(Value::number).and_then(usable);
        let column = |name| {
            let column = metadata.get("keyframes").and_then(|keyframes| keyframes.get(name));
            column.map(Value::elements).unwrap_or_default().iter().map(move |value| usable(value.number()?))
        };
        let pairs = column("times").zip(column("filepositions"));
        let key_frames: Option<Vec<KeyFrame>> = pairs
            .map(|(time, position)| Some(KeyFrame { time: time?, position: position? as u64 }))
            .collect();
        let in_order = |entries: &Vec<KeyFrame>| {
            entries.is_sorted_by(|a, b| a.time <= b.time && a.position <= b.position)
        };
        Self {
            duration: duration.filter(|duration| *duration > 0.),
            key_frames: key_frames.filter(in_order).unwrap_or_default(),
        }
    }
}
