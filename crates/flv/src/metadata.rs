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
/// The tag that keeps room for the index; readers skip names they do not know.
const FILLER: &str = "filler";

impl Metadata {
    /// A script tag with timestamp 0 (FFmpeg takes a later one for subtitles).
    pub fn to_tag(&self) -> Vec<u8> {
        let body = write_script(NAME, &self.to_value());
        script_tag(0, &body).expect("metadata is far smaller than a tag")
    }

    /// A file's metadata in exactly `room` bytes: the tag, and one that fills the rest.
    ///
    /// `None` if it does not fit. [`Metadata::file_room`] says how much there has to be.
    pub fn to_tags_in(&self, room: usize) -> Option<[Vec<u8>; 2]> {
        let tag = self.to_tag();
        let more = room.checked_sub(tag.len())?.checked_sub(filler(0).len())?;
        Some([tag, filler(more)])
    }

    /// The room for this metadata with an index of `key_frames`.
    pub fn file_room(&self, key_frames: usize) -> usize {
        let file =
            File { key_frames: vec![KeyFrame { time: 0., position: 0 }; key_frames], ..File::default() };
        Self { file: Some(file), ..self.clone() }.to_tag().len() + filler(0).len()
    }

    fn to_value(&self) -> Value {
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
        Value::EcmaArray(fields)
    }
}

fn kilobits(bitrate: u32) -> Value {
    (f64::from(bitrate) / 1000.).into()
}

/// A filler tag that is `more` bytes longer than the shortest.
fn filler(more: usize) -> Vec<u8> {
    let mut body = Vec::new();
    Value::from(FILLER).write(&mut body);
    let whole = body.len() + 3 + more;
    // A long string's head is two bytes longer; those are taken from its spaces, so that every size can be had.
    match u16::try_from(more) {
        Ok(spaces) => {
            body.push(2);
            body.extend(spaces.to_be_bytes());
        }
        Err(_) => {
            body.push(12);
            body.extend((more as u32 - 2).to_be_bytes());
        }
    }
    body.resize(whole, b' ');
    script_tag(0, &body).expect("the filler is far smaller than a tag")
}

/// What a reader takes from onMetaData for seeking; anything may be missing or wrong in foreign files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Described {
    /// Seconds; more than 0.
    pub duration: Option<f64>,
    /// In order of time; empty if the file's index is not in order.
    pub key_frames: Vec<KeyFrame>,
}

impl Described {
    /// Takes what makes sense.
    pub fn new(metadata: &Value) -> Self {
        let usable = |number: f64| (number.is_finite() && number >= 0.).then_some(number);
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
