// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer sim`: a cv-mmap producer of test pictures, for demos and tests, with faults on request; or a
//! recording of them.

mod bodies;
mod camera;
mod control;
mod encoder;
mod faults;
mod log;
mod replay;
mod scene;
pub mod svo2;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use cvmmap_control::ServerUrl;
use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::metadata::{Codec, Depth, DepthUnit, PixelFormat};
use cvmmap_ipc::{FrameId, Metadata, Producer, ProducerError, SyncMessage, Target, Version};
use serde::Serialize;

use self::bodies::People;
use self::control::{About, Command, Control};
use self::encoder::AccessUnit;
use self::faults::{Fault, Kind};
use self::log::FramesLog;
use self::replay::Replay;
use self::scene::Scene;
use crate::exit::{Failure, configuration};
use crate::pattern::MIN_SIDE;
use crate::{interrupt, tell};

/// Sleeps are cut into pieces of this length, so that SIGINT ends a stall too.
const NAP: Duration = Duration::from_millis(50);
const SLOW_PIECES: usize = 16;
/// Of a recording, unless `--frames` says otherwise.
const RECORDED_FRAMES: u64 = 300;

/// Publish test pictures as a cv-mmap producer.
#[derive(Debug, clap::Args)]
#[command(after_help = faults::HELP)]
pub struct Args {
    /// Name to publish under: NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]
    #[arg(default_value = "default")]
    target: Target,
    /// Size of the picture in pixels
    #[arg(long, default_value = "640x360", value_parser = parse_size, value_name = "WxH")]
    size: (u32, u32),
    /// Frames per second, 0 = as fast as possible without a pause between frames
    #[arg(long, default_value_t = 30.0, allow_negative_numbers = true)]
    fps: f64,
    /// Pixel format of the left plane
    #[arg(long, value_enum, default_value_t = Format::Bgr)]
    format: Format,
    /// Metadata version; the default is the lowest that carries the planes
    #[arg(long, value_enum)]
    metadata: Option<MetadataVersion>,
    /// Publish a depth plane besides
    #[arg(long)]
    depth: bool,
    /// Unit of the depth plane
    #[arg(long, value_enum, default_value_t = Unit::Mm)]
    depth_unit: Unit,
    /// Publish a confidence plane besides
    #[arg(long)]
    confidence: bool,
    /// Publish the left plane encoded besides
    #[arg(long, value_enum)]
    encoded: Option<EncodedCodec>,
    /// Frames from one key frame of the encoded plane to the next
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    gop: u32,
    /// Write a ZED recording instead, as fast as pictures are encoded: --frames (300) of --size for each eye, as H.265 or
    /// as --encoded says; the right eye's pictures have their number and 16777216
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "target", "metadata", "depth", "confidence", "format", "timestamps", "replay", "looped", "nats_url", "bodies",
            "stamp_age_ms", "fault", "frames_log",
        ]
    )]
    svo2: Option<PathBuf>,
    /// Compression of the recording's chunks
    #[arg(long, value_enum, default_value_t = Compression::None, requires = "svo2")]
    svo2_compression: Compression,
    /// The recording begins so much later than those without this, in ms
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "svo2")]
    svo2_begin_ms: u32,
    /// The camera loses a frame before this one, and again with each time that it is given
    #[arg(long, value_name = "FRAME", requires = "svo2")]
    svo2_lose: Vec<u32>,
    /// Stop after this many frames, 0 = at SIGINT or SIGTERM
    #[arg(long, default_value_t = 0)]
    frames: u64,
    /// What the frames are stamped with; by default Unix time, and media time of a replay
    #[arg(long, value_enum)]
    timestamps: Option<Stamps>,
    /// Be a replay of a recording that is this long, in which clients of the control plane may seek; at its end it waits
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    replay: Option<f64>,
    /// At the end of the replay begin anew, with a stream reset
    #[arg(long = "loop", requires = "replay")]
    looped: bool,
    /// NATS server of the control plane: nats://[USER:PASSWORD@]HOST[:PORT], empty = off
    #[arg(long, value_name = "URL", default_value = "")]
    nats_url: String,
    /// Publish so many bodies with each frame, over NATS
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=i64::from(bodies::MOST)))]
    bodies: u16,
    /// Stamp frames this much before their fill begins, as a sensor with a pipeline behind it does
    #[arg(long, default_value_t = 0, value_name = "MS")]
    stamp_age_ms: u64,
    /// A fault, may be repeated: see below
    #[arg(long, value_name = "KIND@FRAME[+EVERY[xTIMES]][=VALUE]")]
    fault: Vec<Fault>,
    /// Write one JSON line per published frame to this file
    #[arg(long, value_name = "FILE")]
    frames_log: Option<PathBuf>,
    /// Print the summary as one JSON line on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Bgr,
    Rgb,
    Bgra,
    Rgba,
    Gray,
    Gray16,
    Yuyv,
    Yuv,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MetadataVersion {
    V1,
    V2,
    #[value(name = "v2.1")]
    V2_1,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unit {
    Mm,
    M,
    Unknown,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EncodedCodec {
    H264,
    H265,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    None,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stamps {
    /// Unix time, as a camera does
    Unix,
    /// Time since the first frame, as a replay does
    Media,
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let (width, height): (u32, u32) = parsed.ok_or_else(|| format!("'{text}' is not WIDTHxHEIGHT"))?;
    if width.min(height) < MIN_SIDE || width.max(height) > 16384 {
        return Err(format!("'{text}': width and height are {MIN_SIDE} to 16384"));
    }
    Ok((width, height))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| format!("'{text}' is not 0.001 to 86400"))
}

/// What is simulated, resolved from the arguments.
#[derive(Debug)]
struct Plan {
    target: Target,
    size: (u32, u32),
    /// Zero = flat out.
    interval: Duration,
    format: (PixelFormat, Depth),
    version: Version,
    depth: Option<DepthUnit>,
    confidence: bool,
    encoded: Option<Codec>,
    gop: u32,
    fps: f64,
    frames: u64,
    stamps: Stamps,
    stamp_age: Duration,
    replay: Option<Replay>,
    nats: Option<ServerUrl>,
    bodies: u16,
    faults: Vec<Fault>,
    frames_log: Option<PathBuf>,
    json: bool,
}

impl Args {
    /// Turns the arguments into a plan.
    ///
    /// # Errors
    /// A usage [`Failure`] where they contradict each other.
    fn resolve(self) -> Result<Plan, Failure> {
        if self.fps != 0.0 && !(0.001..=10_000.0).contains(&self.fps) {
            return Err(Failure::usage(format!("--fps {}: it is 0, or 0.001 to 10000", self.fps)));
        }
        let needed = match (self.depth || self.confidence, self.encoded) {
            (_, Some(_)) => Version::V2_1,
            // Version 2.0 has no holes: confidence alone needs 2.1.
            (true, None) if !self.depth => Version::V2_1,
            (true, None) => Version::V2,
            (false, None) => Version::V1,
        };
        let version = match self.metadata {
            None => needed,
            Some(MetadataVersion::V1) => Version::V1,
            Some(MetadataVersion::V2) => Version::V2,
            Some(MetadataVersion::V2_1) => Version::V2_1,
        };
        if version < needed {
            let message = format!("--metadata {version}: these planes need version {needed}");
            return Err(Failure::usage(message));
        }
        let (replay, nats) = (self.replay()?, self.nats()?);
        let usual = if replay.is_some() { Stamps::Media } else { Stamps::Unix };
        Ok(Plan {
            target: self.target,
            size: self.size,
            interval: if self.fps > 0.0 { Duration::from_secs_f64(1.0 / self.fps) } else { Duration::ZERO },
            format: match self.format {
                Format::Bgr => (PixelFormat::Bgr, Depth::U8),
                Format::Rgb => (PixelFormat::Rgb, Depth::U8),
                Format::Bgra => (PixelFormat::Bgra, Depth::U8),
                Format::Rgba => (PixelFormat::Rgba, Depth::U8),
                Format::Gray => (PixelFormat::Gray, Depth::U8),
                Format::Gray16 => (PixelFormat::Gray, Depth::U16),
                Format::Yuyv => (PixelFormat::Yuyv, Depth::U8),
                Format::Yuv => (PixelFormat::Yuv, Depth::U8),
            },
            version,
            depth: self.depth.then_some(match self.depth_unit {
                Unit::Mm => DepthUnit::Millimetre,
                Unit::M => DepthUnit::Metre,
                Unit::Unknown => DepthUnit::Unspecified,
            }),
            confidence: self.confidence,
            encoded: self.encoded.map(|codec| match codec {
                EncodedCodec::H264 => Codec::H264,
                EncodedCodec::H265 => Codec::H265,
            }),
            gop: self.gop,
            fps: self.fps,
            frames: self.frames,
            stamps: self.timestamps.unwrap_or(usual),
            stamp_age: Duration::from_millis(self.stamp_age_ms),
            replay,
            nats,
            bodies: self.bodies,
            faults: self.fault,
            frames_log: self.frames_log,
            json: self.json,
        })
    }

    /// What `--svo2` records.
    fn recording(&self) -> Result<svo2::Recording, Failure> {
        let fps = self.fps as u32;
        if f64::from(fps) != self.fps || !(1..=1000).contains(&fps) {
            return Err(Failure::usage(format!(
                "--fps {}: recordings have 1 to 1000, without a fraction",
                self.fps
            )));
        }
        let frames = if self.frames == 0 { RECORDED_FRAMES } else { self.frames };
        let frames = u32::try_from(frames).ok().filter(|frames| (1..svo2::RIGHT).contains(frames));
        let frames = frames.ok_or_else(|| {
            Failure::usage(format!("--frames {}: recordings have 1 to {}", self.frames, svo2::RIGHT - 1))
        })?;
        if !self.size.0.is_multiple_of(2) || !self.size.1.is_multiple_of(2) {
            let (width, height) = self.size;
            return Err(Failure::usage(format!("--size {width}x{height}: recordings have even sides")));
        }
        let compression = match self.svo2_compression {
            Compression::None => None,
            Compression::Lz4 => Some(mcap::Compression::Lz4),
            Compression::Zstd => Some(mcap::Compression::Zstd),
        };
        let like = svo2::Recording::default();
        Ok(svo2::Recording {
            codec: match self.encoded {
                Some(EncodedCodec::H264) => ::svo2::Codec::H264,
                Some(EncodedCodec::H265) | None => ::svo2::Codec::H265,
            },
            size: self.size,
            fps,
            frames,
            gop: self.gop,
            begins_ns: like.begins_ns + u64::from(self.svo2_begin_ms) * 1_000_000,
            lost_before: self.svo2_lose.clone(),
            layout: ::svo2::Layout { compression, ..Default::default() },
            ..like
        })
    }

    fn replay(&self) -> Result<Option<Replay>, Failure> {
        let Some(seconds) = self.replay else { return Ok(None) };
        if self.fps == 0.0 {
            return Err(Failure::usage("--replay: a recording has a frame rate, so --fps is not 0"));
        }
        if self.timestamps == Some(Stamps::Unix) || self.stamp_age_ms > 0 {
            return Err(Failure::usage("--replay: its frames are stamped with the recording's media time"));
        }
        Ok(Some(Replay::new(seconds, self.fps, self.looped)))
    }

    fn nats(&self) -> Result<Option<ServerUrl>, Failure> {
        if self.nats_url.is_empty() {
            return match self.bodies {
                0 => Ok(None),
                n => Err(Failure::usage(format!("--bodies {n}: they are published over NATS: --nats-url"))),
            };
        }
        let url = self.nats_url.parse().map_err(|error| Failure::usage(format!("--nats-url {error}")))?;
        Ok(Some(url))
    }
}

impl Plan {
    /// The control plane, where it is wanted.
    fn control(&self) -> Result<Option<Control>, Failure> {
        let Some(url) = self.nats.clone() else { return Ok(None) };
        let about = About {
            target: self.target.clone(),
            url,
            replay: self.replay,
            media_time: self.stamps == Stamps::Media,
            depth: self.depth.is_some(),
            bodies: self.bodies > 0,
        };
        Control::start(about).map(Some)
    }

    /// Who is seen, where anybody is.
    fn people(&self) -> Option<People> {
        (self.bodies > 0).then(|| People {
            count: self.bodies,
            fps: self.fps as f32,
            size: self.size,
            label: self.target.instance().into(),
        })
    }
}

/// A camera without faults, in our own process.
#[derive(Debug, Clone)]
pub struct Camera {
    /// What it publishes as.
    pub target: Target,
    /// The label of its messages, at most 24 bytes.
    pub label: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Frames per second.
    pub fps: f64,
    /// 0 = until it is stopped.
    pub frames: u64,
}

impl Camera {
    /// Publishes the names; no frame comes before [`Ready::run`].
    ///
    /// # Errors
    /// A [`Failure`] where the target is taken or cannot be published, or the label does not fit.
    pub fn open(&self, stop: Arc<AtomicBool>) -> Result<Ready, Failure> {
        let plan = Plan {
            target: self.target.clone(),
            size: self.size,
            interval: Duration::from_secs_f64(1.0 / self.fps),
            format: (PixelFormat::Bgr, Depth::U8),
            version: Version::V1,
            depth: None,
            confidence: false,
            encoded: None,
            gop: 1,
            fps: self.fps,
            frames: self.frames,
            stamps: Stamps::Unix,
            stamp_age: Duration::ZERO,
            replay: None,
            nats: None,
            bodies: 0,
            faults: Vec::new(),
            frames_log: None,
            json: false,
        };
        let mut simulator = Simulator::new(plan, stop)?;
        let producer = simulator.producer.as_mut().expect("just created");
        producer.set_label(&self.label).map_err(configuration)?;
        Ok(Ready(simulator))
    }
}

/// A camera whose names are there, so that a reader that looks for them loses no frame.
pub struct Ready(Simulator);

impl Ready {
    /// Publishes in a thread of its own, which ends at the last frame or when `stop` is set.
    pub fn run(mut self) -> JoinHandle<Result<(), Failure>> {
        std::thread::spawn(move || self.0.run())
    }
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    frames: u64,
    bytes: u64,
    seconds: f64,
    /// How often each fault was injected.
    faults: BTreeMap<String, u64>,
}

/// Publishes, or records where a file is asked for, to the last frame or to SIGINT or SIGTERM.
///
/// # Errors
/// A [`Failure`] where the arguments contradict each other, or the camera or the file cannot be had.
pub fn run(args: Args) -> Result<(), Failure> {
    let Some(path) = &args.svo2 else { return publish(args.resolve()?) };
    let recording = args.recording()?;
    let stop = interrupt::listen()?;
    let frames = recording.create(path, &stop)?;
    if args.json {
        tell::result(serde_json::json!({ "frames": frames }));
    } else {
        tell::talk(format_args!("{frames} frames in {}", path.display()));
    }
    Ok(())
}

/// Runs a plan to its last frame, or to SIGINT or SIGTERM.
///
/// # Errors
/// A [`Failure`] where the target is taken or cannot be published, or an encoder is missing.
fn publish(plan: Plan) -> Result<(), Failure> {
    let stop = interrupt::listen()?;
    let started = Instant::now();
    let json = plan.json;
    let mut simulator = Simulator::new(plan, stop)?;
    simulator.run()?;
    let mut summary = simulator.summary;
    summary.seconds = started.elapsed().as_secs_f64();
    if json {
        tell::result(serde_json::to_string(&summary).expect("plain data"));
    } else {
        let Summary { frames, bytes, seconds, .. } = summary;
        tell::talk(format_args!("{frames} frames, {bytes} bytes in {seconds:.1} s"));
    }
    Ok(())
}

struct Simulator {
    plan: Plan,
    stop: Arc<AtomicBool>,
    /// `None` while a restart is under way.
    producer: Option<Producer>,
    control: Option<Control>,
    people: Option<People>,
    scene: Scene,
    /// The next frame count.
    count: u32,
    /// The replay's next sample.
    sample: u64,
    log: Option<FramesLog>,
    summary: Summary,
}

impl Simulator {
    fn new(plan: Plan, stop: Arc<AtomicBool>) -> Result<Self, Failure> {
        let scene = Scene::new(&plan)?;
        let producer = create(&plan.target, &scene)?;
        let log = plan.frames_log.as_deref().map(FramesLog::create).transpose()?;
        let (control, people) = (plan.control()?, plan.people());
        let summary = Summary::default();
        let producer = Some(producer);
        Ok(Self { plan, stop, producer, control, people, scene, count: 0, sample: 0, log, summary })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let result = self.publish_all();
        // Before the names go.
        if let Some(control) = &mut self.control {
            control.offline();
        }
        result
    }

    fn publish_all(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let mut due = Instant::now();
        for n in 0.. {
            if n > 0 {
                due = (due + self.plan.interval).max(Instant::now() - self.plan.interval);
                self.sleep(due.saturating_duration_since(Instant::now()));
            }
            let struck: Vec<Kind> =
                self.plan.faults.iter().filter(|fault| fault.strikes(n)).map(|fault| fault.kind).collect();
            for kind in &struck {
                self.before(*kind)?;
            }
            let looped = self.wind();
            // Checked after the sleeps, so that none is followed by a frame too many.
            let last = self.plan.frames > 0 && n >= self.plan.frames;
            if last || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let encoded = self.scene.encode(self.count)?;
            let mut metadata = self.scene.metadata(self.count, encoded.as_ref());
            metadata.frame.timestamp_ns = match (self.plan.replay, self.plan.stamps) {
                (Some(replay), _) => replay.stamp(self.sample),
                (None, Stamps::Unix) => unix_now_ns().saturating_sub(self.plan.stamp_age.as_nanos() as u64),
                (None, Stamps::Media) => started.elapsed().as_nanos() as u64,
            };
            self.publish_bodies(metadata.frame)?;
            let published = self.publish(&metadata, encoded.as_ref(), &struck).map_err(configuration)?;
            if let Some(log) = &mut self.log {
                log.frame(n, self.count, published)?;
            }
            if let Some(control) = &mut self.control {
                control.published(metadata.frame, looped || struck.contains(&Kind::Reset));
            }
            self.after(metadata.frame, &struck).map_err(configuration)?;
            self.count = self.count.wrapping_add(1);
            self.sample += 1;
        }
        self.log.as_mut().map_or(Ok(()), FramesLog::flush)
    }

    /// At the end of a replay: begins anew where it loops, which it tells, or else waits until somebody seeks back.
    fn wind(&mut self) -> bool {
        let Some(replay) = self.plan.replay else { return false };
        while self.sample >= replay.samples && !self.stop.load(Ordering::Relaxed) {
            if replay.looped {
                (self.sample, self.count) = (0, 0);
                return true;
            }
            self.sleep(NAP);
        }
        false
    }

    fn publish_bodies(&self, frame: FrameId) -> Result<(), Failure> {
        if let Some((control, people)) = self.control.as_ref().zip(self.people.as_ref()) {
            control.publish_bodies(people.packet(frame).map_err(configuration)?);
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reset => self.count = 0,
            Command::Seek(sample, landed) => {
                let Some(replay) = self.plan.replay else { return };
                // Frames of a recording have their places in it as their counts.
                let frame = FrameId { count: sample as u32, timestamp_ns: replay.stamp(sample) };
                // Who asked may have given up, and said so.
                if landed.send(frame).is_ok() {
                    (self.sample, self.count) = (sample, frame.count);
                }
            }
        }
    }

    /// Publishes a frame front to back as producers do, as slowly as the faults want; returns when, as Unix time.
    fn publish(
        &mut self,
        metadata: &Metadata,
        encoded: Option<&AccessUnit>,
        struck: &[Kind],
    ) -> Result<u64, ProducerError> {
        let producer = self.producer.as_mut().expect("restarts end before the next frame");
        let mut writer = producer.begin(metadata)?;
        let total = metadata.payload_size as usize;
        let (pieces, pause) = struck
            .iter()
            .find_map(|kind| match kind {
                Kind::Slow(time) => Some((SLOW_PIECES, *time / SLOW_PIECES as u32)),
                Kind::Pause(time) => Some((2, *time)),
                _ => None,
            })
            .unwrap_or((1, Duration::ZERO));
        let mut written = 0;
        let mut write = |bytes: &[u8]| {
            // A pause where a piece ends, so none before the first and none after the last.
            if written * pieces / total < (written + bytes.len()) * pieces / total
                && written + bytes.len() < total
            {
                sleep(pause);
            }
            writer.write(written, bytes)?;
            written += bytes.len();
            Ok::<(), ProducerError>(())
        };
        self.scene.fill(metadata.frame.count, &mut write)?;
        if let Some(unit) = encoded {
            write(&unit.bytes)?;
        }
        if struck.contains(&Kind::Invalid) {
            // Version 2: slot 0's width of 0; version 1: a height of 0.
            let at = if metadata.version.major == 2 { 0x44..0x48 } else { 0x1A..0x1C };
            writer.header_mut()[at].fill(0);
        }
        // Before the announcement: nobody can have the frame earlier.
        let published = unix_now_ns();
        writer.commit()?;
        self.summary.frames += 1;
        self.summary.bytes += total as u64;
        Ok(published)
    }

    /// Faults that come before a frame.
    fn before(&mut self, kind: Kind) -> Result<(), Failure> {
        *self.summary.faults.entry(kind.to_string()).or_default() += 1;
        match kind {
            Kind::Stall(time) => self.sleep(time),
            Kind::Reset => self.count = 0,
            Kind::Restart(time) => {
                if let Some(control) = &mut self.control {
                    control.offline();
                }
                self.producer = None;
                self.sleep(time);
                self.count = 0;
                self.producer = Some(create(&self.plan.target, &self.scene)?);
                if let Some(control) = &mut self.control {
                    control.again();
                }
            }
            Kind::Grow(factor) => {
                let (width, height) = self.plan.size;
                self.plan.size =
                    (width.saturating_mul(factor).min(16384), height.saturating_mul(factor).min(16384));
                self.scene = Scene::new(&self.plan)?;
                self.people = self.plan.people();
            }
            _ => (),
        }
        Ok(())
    }

    /// Faults that come right after a frame was announced.
    fn after(&mut self, frame: FrameId, struck: &[Kind]) -> Result<(), ProducerError> {
        let producer = self.producer.as_mut().expect("just published");
        for kind in struck {
            match kind {
                Kind::Shrink(bytes) => producer.resize(*bytes as usize)?,
                Kind::Garbage(messages) => {
                    for i in 0..*messages {
                        producer.send_raw(&garbage(i, frame))?;
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Does what is asked for meanwhile.
    fn sleep(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            match self.control.as_ref().map(|control| control.command(left.min(NAP))) {
                Some(Some(command)) => self.obey(command),
                Some(None) => (),
                None => sleep(left.min(NAP)),
            }
            if left.is_zero() {
                break;
            }
        }
    }
}

/// A segment that has room for a frame of the scene, before the first is published.
fn create(target: &Target, scene: &Scene) -> Result<Producer, Failure> {
    Producer::create(target, scene.metadata(0, None).payload_size as usize).map_err(configuration)
}

/// Messages that no reader must take for an announcement: short, long, of another magic, version or label.
fn garbage(i: u32, frame: FrameId) -> Vec<u8> {
    let other = SyncMessage { frame, label: "somebody-else".into() };
    let mut message = other.to_bytes().expect("a valid label").to_vec();
    match i % 6 {
        0 => message.truncate(i as usize % 48),
        1 => message[0] = 0x7E,
        2 => message[2] = 9,
        3 => message = vec![i as u8; 5000],
        4 => message[0x18..].fill(0xFF),
        _ => (),
    }
    message
}
