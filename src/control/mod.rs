// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer control`: a producer's control plane, as a command for people.

mod report;
mod streams;

use std::time::Duration;

use clap::Subcommand;
use cvmmap_control::names::{CAMERA_SETTINGS, SOURCE_KINDS};
use cvmmap_control::proto::*;
use cvmmap_control::source::flags::CAN_SEEK;
use cvmmap_control::url::default_url;
use cvmmap_control::{Connection, ControlError, Recorder, Source, Subjects, block_on};
use cvmmap_ipc::Target;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, configuration};
use crate::{show, tell};

/// Ask a producer over NATS: what it is, where it is, its camera, its bodies, its recorders.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The producer: NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]
    target: Target,
    #[command(flatten)]
    server: Server,
    /// Print JSON on stdout: one document, or a line for each event or packet
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Where the NATS server is.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The NATS server; the environment variable CVMMAP_NATS_URL names another default
    #[arg(long, global = true, value_name = "URL", default_value_t = default_url(), hide_default_value = true)]
    nats_url: String,
    /// How long an answer may take, per dialect
    #[arg(long, global = true, value_name = "MS", default_value_t = 1000)]
    timeout_ms: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kind, clock, timeline, and where it is now
    Info,
    /// Let the frame count start at 0 again
    Reset,
    /// Go to the first sample at or after a time
    Seek {
        /// Seconds from the start of the timeline, as in 1.5s, or ns of the producer's clock, as in 1500000000ns
        #[arg(allow_hyphen_values = true)]
        time: String,
    },
    /// Where it was found and what it says; with --follow, its events as they come
    Status {
        /// Go on with each status event, until SIGINT
        #[arg(long)]
        follow: bool,
        /// End after so many events; implies --follow
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// What its body tracker sees: a line for each packet, until SIGINT
    Bodies {
        /// End after so many packets
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// The camera's settings
    #[command(subcommand)]
    Camera(Camera),
    /// What it plays; with FILES, play them from now on
    Playlist {
        /// Files of the producer's machine
        files: Vec<String>,
        /// Play them in the order of their recording
        #[arg(long, requires = "files")]
        sort: bool,
    },
    /// The producer's recorders, and the streamer's
    #[command(subcommand)]
    Record(Record),
}

#[derive(Debug, Subcommand)]
enum Camera {
    /// All settings that it has, and their values
    List,
    /// A setting's value or range
    Get {
        /// As `list` names it
        setting: String,
    },
    /// Set a value by hand
    Set {
        /// As `list` names it
        setting: String,
        #[arg(allow_negative_numbers = true)]
        value: i32,
    },
    /// Leave a setting to the camera
    Auto {
        /// As `list` names it
        setting: String,
    },
    /// Set the range in which the camera chooses
    Range {
        /// As `list` names it
        setting: String,
        #[arg(allow_negative_numbers = true)]
        min: i32,
        #[arg(allow_negative_numbers = true)]
        max: i32,
    },
}

#[derive(Debug, Subcommand)]
enum Record {
    /// Start a recording
    Start {
        #[command(flatten)]
        which: Which,
        /// File to be written, on the recorder's machine
        #[arg(long)]
        path: String,
        #[command(flatten)]
        svo: Svo,
        #[command(flatten)]
        mcap: Mcap,
    },
    /// End it; the file is whole when this returns
    Stop {
        #[command(flatten)]
        which: Which,
    },
    /// What the recorder does
    Status {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// svo or mcap of the producer; mp4 or mcap of the streamer
    #[arg(long, value_parser = ["svo", "mcap", "mp4"])]
    format: String,
    /// The recorder of a `cvmmap-streamer run` that reads this producer; implied by mp4
    #[arg(long)]
    streamer: bool,
}

#[derive(Debug, clap::Args)]
struct Svo {
    /// svo: compression mode, in the producer's words
    #[arg(long)]
    compression_mode: Option<String>,
    /// svo: bitrate, in the producer's unit
    #[arg(long)]
    bitrate: Option<u32>,
    /// svo: frames per second
    #[arg(long)]
    target_framerate: Option<u32>,
    /// svo: encode anew what comes encoded
    #[arg(long)]
    transcode: bool,
}

#[derive(Debug, clap::Args)]
struct Mcap {
    /// mcap: compression of chunks
    #[arg(long)]
    compression: Option<String>,
    /// mcap: topic of the video
    #[arg(long)]
    topic: Option<String>,
    /// mcap: topic of the depth
    #[arg(long)]
    depth_topic: Option<String>,
    /// mcap: topic of the bodies
    #[arg(long)]
    body_topic: Option<String>,
    /// mcap: name of the coordinate frame
    #[arg(long)]
    frame_id: Option<String>,
}

impl Server {
    /// The server's address by the flag or the environment; `None` where it is empty.
    ///
    /// # Errors
    /// [`Exit::Usage`] for what is none.
    pub fn url(&self) -> Result<Option<cvmmap_control::ServerUrl>, Failure> {
        let parse = || self.nats_url.parse().map_err(|error| Failure::usage(format!("--nats-url {error}")));
        if self.nats_url.is_empty() { Ok(None) } else { parse().map(Some) }
    }

    fn timeout(&self) -> Result<Duration, Failure> {
        match self.timeout_ms {
            1..=600_000 => Ok(Duration::from_millis(self.timeout_ms)),
            other => Err(Failure::usage(format!("--timeout-ms {other}: it is 1 to 600000"))),
        }
    }
}

/// Asks, and prints the answer.
///
/// # Errors
/// A [`Failure`] by the table of exit codes: [`Exit::Configuration`] without a server or anybody who answers, and where
/// the producer refuses; [`Exit::Timeout`] for an answer that does not come; [`Exit::Protocol`] for one that cannot be
/// read.
pub fn run(args: &Args) -> Result<(), Failure> {
    let asked = Asked::new(args)?;
    match &args.command {
        Command::Status { follow, count } => {
            return streams::status(&asked, *follow || count.is_some(), *count);
        }
        Command::Bodies { count } => return streams::bodies(&asked, *count),
        _ => (),
    }
    // Wrong words are told without a server.
    let request = Request::of(&args.command)?;
    asked.connect()?;
    let is_list = matches!(request, Request::CameraList);
    let answer = request.send(&asked)?;
    if is_list && !args.json {
        tell::result(report::camera_table(&answer));
    } else {
        show::result(args.json, &answer);
    }
    Ok(())
}

/// The producer, and how it is asked.
struct Asked {
    target: Target,
    source: Source,
    timeout: Duration,
    json: bool,
}

impl Asked {
    fn new(args: &Args) -> Result<Self, Failure> {
        let timeout = args.server.timeout()?;
        let url = args.server.url()?.ok_or_else(|| Failure::usage("--nats-url '': a server is needed"))?;
        let connection = Connection::open(&url).map_err(failure)?;
        let subjects = Subjects::new(args.target.nats_target_key());
        let source = Source::new(connection, subjects).with_timeout(timeout);
        Ok(Self { target: args.target.clone(), source, timeout, json: args.json })
    }

    fn connect(&self) -> Result<(), Failure> {
        let (connection, timeout) = (self.source.connection().clone(), self.timeout);
        let connected = async move { connection.connected(timeout).await };
        block_on(connected, timeout * 2).map_err(configuration)?.map_err(failure)
    }

    /// Runs one request to its end.
    fn wait<F, T>(&self, request: impl FnOnce(Source) -> F) -> Result<T, ControlError>
    where
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
        T: Send + 'static,
    {
        block_on(request(self.source.clone()), self.source.limit()).unwrap_or_else(|late| {
            Err(ControlError::TimedOut { subject: self.source.subjects().key().into(), after: late.0 })
        })
    }

    fn ask<F, T>(&self, request: impl FnOnce(Source) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
        T: Send + 'static,
    {
        self.wait(request).map_err(failure)
    }

    fn info(&self) -> Result<GetSourceInfoResponse, ControlError> {
        self.wait(async |source| source.info().await)
    }
}

/// The exit code of an error of the control plane.
fn failure(error: ControlError) -> Failure {
    let exit = match &error {
        ControlError::TimedOut { .. } => Exit::Timeout,
        ControlError::Refused { code, .. } if code.0 == i32::from(ErrorCode::Timeout) => Exit::Timeout,
        ControlError::Malformed { .. } => Exit::Protocol,
        _ => Exit::Configuration,
    };
    Failure::new(exit, error.to_string())
}

/// What is asked for, once the words are known to be right.
enum Request {
    Info,
    Reset,
    Seek(Time),
    CameraList,
    CameraGet(i32),
    CameraSet(i32, CameraControlMode, i32),
    CameraRange(i32, i32, i32),
    Playlist,
    ApplyPlaylist(Vec<String>, bool),
    Start(Recorder, RecordingStartRequest),
    Stop(Recorder),
    Status(Recorder),
}

impl Request {
    fn of(command: &Command) -> Result<Self, Failure> {
        let setting = |text: &str| {
            // A number may be of a setting that is newer than our names.
            let number =
                CAMERA_SETTINGS.number(text).or_else(|| text.parse().ok().filter(|number| *number > 0));
            number.ok_or_else(|| {
                Failure::usage(format!(
                    "camera setting '{text}': it is one of {CAMERA_SETTINGS}, or a number"
                ))
            })
        };
        Ok(match command {
            Command::Info => Self::Info,
            Command::Reset => Self::Reset,
            Command::Seek { time } => Self::Seek(Time::parse(time)?),
            Command::Camera(Camera::List) => Self::CameraList,
            Command::Camera(Camera::Get { setting: name }) => Self::CameraGet(setting(name)?),
            Command::Camera(Camera::Set { setting: name, value }) => {
                Self::CameraSet(setting(name)?, CameraControlMode::Manual, *value)
            }
            Command::Camera(Camera::Auto { setting: name }) => {
                Self::CameraSet(setting(name)?, CameraControlMode::Auto, 0)
            }
            Command::Camera(Camera::Range { setting: name, min, max }) => {
                if min > max {
                    return Err(Failure::usage(format!("range {min} to {max}: MIN is not above MAX")));
                }
                Self::CameraRange(setting(name)?, *min, *max)
            }
            Command::Playlist { files, .. } if files.is_empty() => Self::Playlist,
            Command::Playlist { files, sort } => Self::ApplyPlaylist(files.clone(), *sort),
            Command::Record(Record::Start { which, path, svo, mcap }) => {
                Self::Start(which.recorder()?, start_request(which, path, svo, mcap)?)
            }
            Command::Record(Record::Stop { which }) => Self::Stop(which.recorder()?),
            Command::Record(Record::Status { which }) => Self::Status(which.recorder()?),
            Command::Status { .. } | Command::Bodies { .. } => unreachable!("they are streams"),
        })
    }

    fn send(self, asked: &Asked) -> Result<Value, Failure> {
        let camera = |state| Ok(report::camera_state(&state));
        let playlist = |info| Ok(report::playlist(&info));
        let recording = |recorder| move |status| Ok(report::recording(recorder, &status));
        match self {
            Self::Info => Ok(report::info(&asked.target, &asked.info().map_err(failure)?)),
            Self::Reset => {
                asked.ask(async |source| source.reset_frame_count().await)?;
                Ok(json!({ "target": asked.target.to_string(), "reset": true }))
            }
            Self::Seek(time) => seek(asked, time),
            Self::CameraList => camera_list(asked),
            Self::CameraGet(setting) => {
                asked.ask(async move |source| source.camera_control(setting).await).and_then(camera)
            }
            Self::CameraSet(setting, mode, value) => asked
                .ask(async move |source| source.set_camera_control(setting, mode, value).await)
                .and_then(camera),
            Self::CameraRange(setting, min, max) => asked
                .ask(async move |source| source.set_camera_range(setting, min, max).await)
                .and_then(camera),
            Self::Playlist => asked.ask(async |source| source.playlist().await).and_then(playlist),
            Self::ApplyPlaylist(files, sort) => {
                asked.ask(async move |source| source.apply_playlist(files, sort).await).and_then(playlist)
            }
            Self::Start(recorder, request) => asked
                .ask(async move |source| source.start_recording(recorder, request).await)
                .and_then(recording(recorder)),
            Self::Stop(recorder) => asked
                .ask(async move |source| source.stop_recording(recorder).await)
                .and_then(recording(recorder)),
            Self::Status(recorder) => asked
                .ask(async move |source| source.recording_status(recorder).await)
                .and_then(recording(recorder)),
        }
    }
}

/// A place on a producer's timeline.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Time {
    /// From its start, in ns.
    FromStart(u64),
    /// By its clock, in ns.
    Clock(u64),
}

impl Time {
    fn parse(text: &str) -> Result<Self, Failure> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            // On a clock of media time, seconds taken for ns would be a place too.
            return Err(Failure::usage(format!("time '{text}': write {text}s or {text}ns")));
        }
        let time = match text.strip_suffix("ns") {
            Some(number) => number.parse().ok().map(Self::Clock),
            None => text
                .strip_suffix('s')
                .and_then(|number| number.parse::<f64>().ok())
                .filter(|seconds| (0.0..1e9).contains(seconds))
                .map(|seconds| Self::FromStart((seconds * 1e9).round() as u64)),
        };
        time.ok_or_else(|| {
            Failure::usage(format!(
                "time '{text}': it is seconds from the start, as in 1.5s, or ns of the clock, as in 33ns"
            ))
        })
    }
}

fn seek(asked: &Asked, time: Time) -> Result<Value, Failure> {
    let info = asked.info().map_err(failure)?;
    if info.flags & CAN_SEEK == 0 {
        let kind = report::word(SOURCE_KINDS, info.source_kind);
        let message = format!("{}: it cannot seek (a source of kind {kind})", asked.target);
        return Err(Failure::new(Exit::Configuration, message));
    }
    let (start, end) = (info.timeline_start_ns, info.timeline_end_ns);
    let target_ns = match time {
        Time::FromStart(ns) => start.saturating_add(ns),
        Time::Clock(ns) => ns,
    };
    let outside = |answer: &str| {
        let message = format!(
            "{}: {target_ns} ns is outside of its timeline, {start} to {end} ns ({:.3} s){answer}",
            asked.target,
            end.saturating_sub(start) as f64 / 1e9
        );
        Failure::new(Exit::Configuration, message)
    };
    // A producer that does not say where its timeline ends judges by itself.
    if end > start && !(start..=end).contains(&target_ns) {
        return Err(outside(""));
    }
    match asked.wait(async move |source| source.seek(target_ns).await) {
        Ok(landed) => Ok(report::seek(target_ns, start, &landed)),
        Err(error) if error.code() == Some(ErrorCode::OutOfRange.into()) => Err(outside(", it says")),
        Err(error) => Err(failure(error)),
    }
}

fn camera_list(asked: &Asked) -> Result<Value, Failure> {
    let capabilities = asked.ask(async |source| source.camera_capabilities().await)?;
    let mut settings = Vec::new();
    for setting in capabilities.supported_settings {
        settings.push(match asked.wait(async move |source| source.camera_control(setting).await) {
            Ok(state) => report::camera_state(&state),
            Err(error @ ControlError::Refused { .. }) => {
                json!({ "setting": report::word(CAMERA_SETTINGS, setting), "error": error.to_string() })
            }
            Err(error) => return Err(failure(error)),
        });
    }
    Ok(json!({ "supported": capabilities.supported, "settings": settings }))
}

impl Which {
    fn recorder(&self) -> Result<Recorder, Failure> {
        match (self.format.as_str(), self.streamer) {
            ("svo", false) => Ok(Recorder::Svo),
            ("mcap", false) => Ok(Recorder::Mcap),
            ("mcap", true) => Ok(Recorder::StreamerMcap),
            ("mp4", _) => Ok(Recorder::StreamerMp4),
            _ => Err(Failure::usage("--format svo --streamer: the streamer records mp4 and mcap")),
        }
    }
}

fn start_request(
    which: &Which,
    path: &str,
    svo: &Svo,
    mcap: &Mcap,
) -> Result<RecordingStartRequest, Failure> {
    let Svo { compression_mode, bitrate, target_framerate, transcode } = svo;
    let Mcap { compression, topic, depth_topic, body_topic, frame_id } = mcap;
    let of_svo = SvoRecordingOptions {
        compression_mode: compression_mode.clone(),
        bitrate: *bitrate,
        target_framerate: *target_framerate,
        transcode_streaming_input: transcode.then_some(true),
    };
    let of_mcap = McapRecordingOptions {
        compression: compression.clone(),
        topic: topic.clone(),
        depth_topic: depth_topic.clone(),
        body_topic: body_topic.clone(),
        frame_id: frame_id.clone(),
    };
    let svo = (of_svo != SvoRecordingOptions::default()).then_some(of_svo);
    let mcap = (of_mcap != McapRecordingOptions::default()).then_some(of_mcap);
    for (said, format) in [(svo.is_some(), "svo"), (mcap.is_some(), "mcap")] {
        if said && which.format != format {
            let message = format!("--format {}: options of {format} do not go with it", which.format);
            return Err(Failure::usage(message));
        }
    }
    if path.is_empty() {
        return Err(Failure::usage("--path '': it is a file on the recorder's machine"));
    }
    Ok(RecordingStartRequest { output_path: path.into(), svo, mcap })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_from_the_start_or_ns_of_the_clock() {
        for (text, time) in [
            ("1.5s", Time::FromStart(1_500_000_000)),
            ("0s", Time::FromStart(0)),
            ("1763917200123456789ns", Time::Clock(1_763_917_200_123_456_789)),
            ("33ns", Time::Clock(33)),
        ] {
            assert_eq!(Time::parse(text).unwrap(), time);
        }
        for text in ["", "s", "ns", "-1s", "-1", "1.5ns", "nans", "infs", "1 s", "18446744073709551616ns"] {
            let error = Time::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("time '{text}': it is ")), "{error}");
        }
    }

    #[test]
    fn a_time_without_a_unit_is_not_taken_for_ns() {
        for text in ["10", "1.5", "1763917200123456789"] {
            let error = Time::parse(text).unwrap_err().to_string();
            assert_eq!(error, format!("time '{text}': write {text}s or {text}ns"));
        }
    }
}
