// SPDX-License-Identifier: MPL-2.0

//! What can be asked for, and every rule about it but those of paths.

use std::fmt;

use cvmmap_control::proto::{ErrorCode, McapRecordingOptions, RecordingStartRequest, SvoRecordingOptions};

use crate::mcap::Compression;

/// Longest path that Linux takes, in bytes.
const PATH_BYTES: usize = 4095;
/// Longest name of anything else, in bytes.
const NAME_BYTES: usize = 255;

/// The kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Fragmented MP4, of the video.
    Mp4,
    /// MCAP, of the video and the bodies.
    Mcap,
}

impl Format {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Mp4, Self::Mcap];

    /// As subjects, events and file names spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mcap => "mcap",
        }
    }
}

/// Why something that was asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// That format is being recorded.
    #[error("busy: recording to {0}")]
    Busy(String),
    /// There is nothing to stop.
    #[error("not recording")]
    NotRecording,
    /// Options that do not fit the format, or what this streamer has not got.
    #[error("{0}")]
    Unsupported(String),
    /// A request that breaks a rule of its own.
    #[error("{0}")]
    Invalid(String),
    /// What the system or an element says.
    #[error("{0}")]
    Failed(String),
    /// It is being done, and takes longer than a request may.
    #[error("{0}")]
    Late(String),
}

impl Refusal {
    /// The contract's code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Busy(_) | Self::NotRecording | Self::Failed(_) => ErrorCode::Error,
            Self::Unsupported(_) => ErrorCode::Unsupported,
            Self::Invalid(_) => ErrorCode::InvalidPayload,
            Self::Late(_) => ErrorCode::Timeout,
        }
    }
}

/// A request that passed the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As it was given.
    pub path: String,
    /// MCAP's; of no meaning for MP4.
    pub mcap: McapOptions,
}

/// How an MCAP file is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McapOptions {
    /// Of chunks.
    pub compression: Compression,
    /// Of the video.
    pub topic: String,
    /// Of body packets.
    pub body_topic: String,
    /// Name of the camera's frame of reference.
    pub frame_id: String,
}

impl Default for McapOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            topic: "/camera/video".into(),
            body_topic: "/camera/body".into(),
            frame_id: "camera".into(),
        }
    }
}

/// Checks a request for a format.
///
/// # Errors
/// [`Refusal::Invalid`] or [`Refusal::Unsupported`], with the value and the rule.
pub fn check(format: Format, request: &RecordingStartRequest) -> Result<Wanted, Refusal> {
    let path = request.output_path.clone();
    if path.is_empty() {
        return Err(Refusal::Invalid("output_path is empty: it names the file to write".into()));
    }
    check_text("output_path", &path, PATH_BYTES)?;
    // Clients may send options without any value along with each request.
    let svo = request.svo.as_ref().is_some_and(|svo| *svo != SvoRecordingOptions::default());
    let mcap = request.mcap.clone().filter(|mcap| *mcap != McapRecordingOptions::default());
    let foreign = |options: &str, of: &str| {
        Err(Refusal::Unsupported(format!("{options} are of {of} recordings, this is {}", format.name())))
    };
    match (format, mcap) {
        _ if svo => foreign("SVO options", "a ZED producer's"),
        (Format::Mp4, Some(_)) => foreign("MCAP options", "MCAP"),
        (_, options) => Ok(Wanted { path, mcap: checked_options(options.unwrap_or_default())? }),
    }
}

fn checked_options(given: McapRecordingOptions) -> Result<McapOptions, Refusal> {
    for (name, value) in [
        ("compression", &given.compression),
        ("topic", &given.topic),
        ("depth_topic", &given.depth_topic),
        ("body_topic", &given.body_topic),
        ("frame_id", &given.frame_id),
    ] {
        check_text(name, value.as_deref().unwrap_or_default(), NAME_BYTES)?;
    }
    // Somebody who asks for depth would look for it in vain.
    if let Some(topic) = given.depth_topic.filter(|topic| !topic.is_empty()) {
        return Err(Refusal::Unsupported(format!("depth_topic '{topic}': this streamer records no depth")));
    }
    let McapOptions { compression, topic, body_topic, frame_id } = McapOptions::default();
    let compression = match given.compression.as_deref() {
        None | Some("") => compression,
        Some(name) => name.parse().map_err(|rule| Refusal::Unsupported(format!("compression {rule}")))?,
    };
    // An empty value is none.
    let given_or =
        |given: Option<String>, default| given.filter(|value| !value.is_empty()).unwrap_or(default);
    let options = McapOptions {
        compression,
        topic: given_or(given.topic, topic),
        body_topic: given_or(given.body_topic, body_topic),
        frame_id: given_or(given.frame_id, frame_id),
    };
    if options.topic == options.body_topic {
        let both = &options.topic;
        return Err(Refusal::Invalid(format!("topic and body_topic are both '{both}': each has its own")));
    }
    Ok(options)
}

/// These texts are told in lines of logs and terminals.
fn check_text(name: &str, value: &str, most: usize) -> Result<(), Refusal> {
    if value.len() > most {
        return Err(Refusal::Invalid(format!("{name} has {} bytes, at most {most} are taken", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(Refusal::Invalid(format!("{name} {value:?} has control characters")));
    }
    Ok(())
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> RecordingStartRequest {
        RecordingStartRequest { output_path: path.into(), svo: None, mcap: None }
    }

    fn mcap(change: impl FnOnce(&mut McapRecordingOptions)) -> Result<McapOptions, Refusal> {
        let mut options = McapRecordingOptions::default();
        change(&mut options);
        let request = RecordingStartRequest { mcap: Some(options), ..request("a.mcap") };
        check(Format::Mcap, &request).map(|wanted| wanted.mcap)
    }

    #[test]
    fn what_is_not_said_is_as_the_layout_has_it() {
        let options = check(Format::Mcap, &request("a.mcap")).unwrap().mcap;
        assert_eq!(options, mcap(|_| ()).unwrap());
        assert_eq!((options.topic.as_str(), options.body_topic.as_str()), ("/camera/video", "/camera/body"));
        assert_eq!((options.compression, options.frame_id.as_str()), (Compression::Zstd, "camera"));
        let emptied = mcap(|mcap| {
            let empty = Some(String::new());
            (mcap.compression, mcap.topic, mcap.depth_topic) = (empty.clone(), empty.clone(), empty);
        });
        assert_eq!(emptied.unwrap(), options);
    }

    #[test]
    fn what_is_said_is_taken() {
        let options = mcap(|mcap| {
            let some = |text: &str| Some(text.to_owned());
            (mcap.compression, mcap.topic) = (some("lz4"), some("/left"));
            (mcap.body_topic, mcap.frame_id) = (some("/people"), some("zed_left"));
        })
        .unwrap();
        let wanted = McapOptions {
            compression: Compression::Lz4,
            topic: "/left".into(),
            body_topic: "/people".into(),
            frame_id: "zed_left".into(),
        };
        assert_eq!(options, wanted);
    }

    #[test]
    fn refusals_have_the_value_the_rule_and_the_contracts_code() {
        let some = |text: &str| Some(text.to_owned());
        let svo = SvoRecordingOptions { bitrate: Some(1), ..SvoRecordingOptions::default() };
        let with_svo = RecordingStartRequest { svo: Some(svo), ..request("a") };
        let named = McapRecordingOptions { topic: some("/a"), ..McapRecordingOptions::default() };
        let with_mcap = RecordingStartRequest { mcap: Some(named), ..request("a") };
        let of = |format, request: &RecordingStartRequest| check(format, request).map(|wanted| wanted.mcap);
        for (result, code, parts) in [
            (of(Format::Mp4, &request("")), ErrorCode::InvalidPayload, ["output_path", "empty"]),
            (of(Format::Mp4, &request("a\nb")), ErrorCode::InvalidPayload, ["\"a\\nb\"", "control"]),
            (of(Format::Mp4, &with_svo), ErrorCode::Unsupported, ["SVO", "this is mp4"]),
            (of(Format::Mcap, &with_svo), ErrorCode::Unsupported, ["SVO", "this is mcap"]),
            (of(Format::Mp4, &with_mcap), ErrorCode::Unsupported, ["MCAP", "this is mp4"]),
            (mcap(|m| m.compression = some("brotli")), ErrorCode::Unsupported, ["'brotli'", "zstd"]),
            (mcap(|m| m.depth_topic = some("/d")), ErrorCode::Unsupported, ["depth_topic '/d'", "no depth"]),
            (mcap(|m| m.topic = some("a\u{7}")), ErrorCode::InvalidPayload, ["topic", "control"]),
            (
                mcap(|m| m.compression = some(&"z".repeat(256))),
                ErrorCode::InvalidPayload,
                ["compression has 256 bytes", "at most 255"],
            ),
            (
                of(Format::Mp4, &request(&"a/".repeat(2048))),
                ErrorCode::InvalidPayload,
                ["output_path has 4096 bytes", "at most 4095"],
            ),
            (
                mcap(|m| m.topic = some("/camera/body")),
                ErrorCode::InvalidPayload,
                ["topic and body_topic", "'/camera/body'"],
            ),
        ] {
            let refusal = result.unwrap_err();
            let text = refusal.to_string();
            assert_eq!(refusal.code(), code, "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}
