// SPDX-License-Identifier: MPL-2.0

//! From raw arguments to what will run: every rule about arguments is here.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use cvmmap_control::ServerUrl;
use cvmmap_control::url::default_url;
use cvmmap_ipc::sync::LABEL_SIZE;
use cvmmap_ipc::{Coherence, Target};
use url::Url;

use crate::exit::{Exit, Failure, configuration};
use crate::place::{destination, folder_of};
use crate::{redact, sim};

/// Of what the encoder is told.
const MAX_FPS: u32 = 1000;

/// Stream a producer's pictures over RTP, RTMP or both, from one encoder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where pictures come from
    #[arg(long, value_enum, default_value_t = InputMode::Cvmmap)]
    input_mode: InputMode,
    /// The producer: NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]
    #[arg(long, conflicts_with_all = ["shm_name", "zmq_endpoint"])]
    uri: Option<Target>,
    /// The producer's shared memory segment, in place of --uri
    #[arg(long, value_name = "NAME", requires = "zmq_endpoint")]
    shm_name: Option<String>,
    /// The producer's sync endpoint, in place of --uri
    #[arg(long, value_name = "URI", requires = "shm_name")]
    zmq_endpoint: Option<String>,
    /// NATS server of the control plane, over which recordings are asked for; an empty value switches it off;
    /// the environment variable CVMMAP_NATS_URL names another default
    #[arg(long, value_name = "URL", default_value_t = default_url(), hide_default_value = true)]
    nats_url: String,
    /// Recordings lie in this folder or below it, and relative paths are against it [default: anywhere, and the working
    /// directory]
    #[arg(long, value_name = "DIR")]
    record_dir: Option<PathBuf>,
    /// Frames that may wait for the encoder; 1 keeps only the latest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    queue_size: u32,
    /// Evidence that a frame needs to count as whole: verify, or next-sync, a proof that costs a frame of latency
    #[arg(long, value_name = "LEVEL", default_value_t = Coherence::Verify)]
    coherence: Coherence,
    #[arg(long, value_enum)]
    codec: Codec,
    /// auto (hardware, then software), nvidia, software, or element factories in the order they are tried
    #[arg(long, value_name = "auto|nvidia|software|FACTORY[,FACTORY]", default_value = "auto")]
    encoder: String,
    /// In kbit/s
    #[arg(long, value_name = "KBPS", default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=800_000))]
    bitrate: u32,
    /// Frame rate that the encoder shares its bits out by; the wire tells none [default: 30, or --dummy-fps]
    #[arg(long, value_name = "FPS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_FPS)))]
    fps: Option<u32>,
    /// Frames from one key frame to the next
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    gop: u32,
    /// Each costs a frame of latency
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
    b_frames: u32,

    /// Send RTP over UDP
    #[arg(long, requires = "rtp_endpoint")]
    rtp: bool,
    /// Where RTP goes; one receiver, so no multicast address
    #[arg(long, value_name = "HOST:PORT", requires = "rtp")]
    rtp_endpoint: Option<String>,
    #[arg(long, value_name = "96..127", default_value_t = 96, value_parser = clap::value_parser!(u8).range(96..=127))]
    rtp_payload_type: u8,
    /// Write a session description for receivers, as soon as the parameter sets are known
    #[arg(long, value_name = "PATH", requires = "rtp")]
    rtp_sdp: Option<PathBuf>,

    /// Publish over RTMP
    #[arg(long, requires = "rtmp_url")]
    rtmp: bool,
    /// rtmp://HOST[:PORT]/APPLICATION/STREAM
    #[arg(long, value_name = "URL", requires = "rtmp")]
    rtmp_url: Option<String>,
    /// How H.265 is put into FLV: FourCC hvc1, or codec id 12
    #[arg(long, value_enum, requires = "rtmp")]
    rtmp_mode: Option<RtmpMode>,
    /// Connections that may fail in a row; without it, it tries for ever
    #[arg(long, value_name = "N", requires = "rtmp")]
    rtmp_retry: Option<u32>,
    /// Repeat the sequence header before each key frame, for relays that keep none for late joiners (nginx-rtmp)
    #[arg(long, requires = "rtmp")]
    rtmp_repeat_headers: bool,

    /// Stop after this many frames, 0 = never
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=i64::from(i32::MAX)))]
    ingest_max_frames: u32,
    /// Stop when no frame came for this long, 0 = never
    #[arg(long, value_name = "MS", default_value_t = 0)]
    ingest_idle_timeout_ms: u32,

    /// Label of the simulator's messages
    #[arg(long, value_name = "L", default_value = "dummy", value_parser = parse_label)]
    dummy_label: String,
    /// Frames of the simulator, 0 = without end
    #[arg(long, value_name = "N", default_value_t = 0)]
    dummy_frames: u64,
    #[arg(long, value_name = "F", default_value_t = 30.0, value_parser = parse_fps, allow_negative_numbers = true)]
    dummy_fps: f64,
    #[arg(long, value_name = "W", default_value_t = 640, value_parser = side())]
    dummy_width: u32,
    #[arg(long, value_name = "H", default_value_t = 360, value_parser = side())]
    dummy_height: u32,

    /// Accepted for scripts of the older program; means nothing else
    #[arg(long, value_enum, hide = true)]
    run_mode: Option<RunMode>,
    /// Print a gst-launch line of the same pipeline, and end
    #[arg(long)]
    print_plan: bool,
    /// Status, events and the summary as JSON lines on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputMode {
    /// A producer
    Cvmmap,
    /// The built-in simulator
    Dummy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RunMode {
    Pipeline,
}

/// What the encoder puts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// H.264.
    H264,
    /// H.265.
    H265,
}

impl Codec {
    /// As element names spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }

    fn hardware(self) -> &'static str {
        match self {
            Self::H264 => "nvh264enc",
            Self::H265 => "nvh265enc",
        }
    }

    fn software(self) -> &'static str {
        match self {
            Self::H264 => "x264enc",
            Self::H265 => "x265enc",
        }
    }
}

/// How H.265 is put into FLV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RtmpMode {
    /// FourCC hvc1, of Enhanced RTMP.
    Enhanced,
    /// Codec id 12.
    Domestic,
}

impl RtmpMode {
    /// The nick of flvh265mux's property `mode`.
    pub fn nick(self) -> &'static str {
        match self {
            Self::Enhanced => "enhanced",
            Self::Domestic => "domestic",
        }
    }
}

/// What will run.
#[derive(Debug)]
pub struct Plan {
    /// Where pictures come from.
    pub input: Input,
    /// The control plane.
    pub nats: Option<Nats>,
    /// The folder that recordings stay in.
    pub record_dir: Option<PathBuf>,
    /// Frames that may wait for the encoder.
    pub queue_size: u32,
    /// Evidence that a frame needs to count as whole.
    pub coherence: Coherence,
    /// What is encoded, and how.
    pub encoding: Encoding,
    /// Where RTP goes.
    pub rtp: Option<Rtp>,
    /// Where RTMP goes.
    pub rtmp: Option<Rtmp>,
    /// Stop after this many frames.
    pub max_frames: Option<u32>,
    /// Stop when no frame came for this long.
    pub idle_timeout: Option<Duration>,
    /// Print the launch line only.
    pub print: bool,
    /// JSON lines on stdout.
    pub json: bool,
}

/// Where pictures come from.
#[derive(Debug)]
pub enum Input {
    /// A producer by its name.
    Target(Target),
    /// A producer by its segment and endpoint.
    Names {
        /// Shared memory segment.
        shm_name: String,
        /// ZeroMQ endpoint.
        zmq_endpoint: String,
    },
    /// The simulator, which publishes as this target in our own process.
    Dummy(sim::Camera),
}

impl Input {
    /// The label of the producer's messages, where it is known.
    pub fn label(&self) -> Option<String> {
        match self {
            Self::Target(target) => Some(target.instance().to_owned()),
            Self::Names { .. } => None,
            Self::Dummy(camera) => Some(camera.label.clone()),
        }
    }
}

/// What is encoded, and how.
#[derive(Debug, Clone)]
pub struct Encoding {
    /// What the encoder puts out.
    pub codec: Codec,
    /// Element factories in the order they are tried.
    pub candidates: Vec<String>,
    /// In kbit/s.
    pub bitrate: u32,
    /// What the encoder is told.
    pub fps: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// Between two reference frames.
    pub b_frames: u32,
}

/// The server of the control plane.
pub struct Nats {
    /// Displays without credentials.
    pub url: ServerUrl,
    /// As it was given, with them: for elements, which connect by themselves.
    pub given: String,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// Where RTP goes.
#[derive(Debug)]
pub struct Rtp {
    /// Resolved.
    pub address: SocketAddr,
    /// 96 to 127.
    pub payload_type: u8,
    /// Where the session description is written.
    pub sdp: Option<PathBuf>,
}

/// Where RTMP goes.
#[derive(Debug, Clone)]
pub struct Rtmp {
    /// Checked, with host, application and stream.
    pub url: Url,
    /// Enhanced for H.264, which it says nothing about.
    pub mode: RtmpMode,
    /// Connections that may fail in a row.
    pub retry: Option<u32>,
    /// A sequence header before each key frame.
    pub repeat_headers: bool,
}

impl Args {
    /// Turns the arguments into a plan.
    ///
    /// # Errors
    /// A usage [`Failure`] that names the flag and the rule; a configuration one for a host that cannot be resolved or
    /// a folder that cannot be written to.
    pub fn resolve(self) -> Result<Plan, Failure> {
        if !self.rtp && !self.rtmp {
            return Err(Failure::usage(
                "nothing to stream to: give --rtp with --rtp-endpoint, --rtmp with --rtmp-url, or both",
            ));
        }
        let nats = self.nats()?;
        let encoding = Encoding {
            codec: self.codec,
            candidates: candidates(&self.encoder, self.codec)?,
            bitrate: self.bitrate,
            fps: self.told_fps(),
            gop: self.gop,
            b_frames: self.b_frames,
        };
        // Whatever touches the world comes last, so that wrong arguments are told first.
        let mode = self.checked_mode()?;
        let url = self.rtmp_url.as_deref().map(|url| checked_url("--rtmp-url", url)).transpose()?;
        let endpoint = self.rtp_endpoint.as_deref().map(split_endpoint).transpose()?;
        let input = self.input()?;
        if let Some(url) = &url {
            resolve_server("--rtmp-url", url)?;
        }
        let rtmp = url.map(|url| Rtmp {
            url,
            mode,
            retry: self.rtmp_retry,
            repeat_headers: self.rtmp_repeat_headers,
        });
        let rtp = endpoint
            .map(|(host, port)| {
                let given = self.rtp_endpoint.as_deref().unwrap_or_default();
                let address = resolve("--rtp-endpoint", given, host, port)?;
                check_unicast(given, address.ip())?;
                Ok(Rtp { address, payload_type: self.rtp_payload_type, sdp: self.rtp_sdp.clone() })
            })
            .transpose()?;
        if let Some(path) = &self.rtp_sdp {
            check_writable("--rtp-sdp", path)?;
        }
        if let Some(folder) = &self.record_dir {
            check_folder("--record-dir", folder)?;
        }
        Ok(Plan {
            input,
            nats,
            record_dir: self.record_dir,
            queue_size: self.queue_size,
            coherence: self.coherence,
            encoding,
            rtp,
            rtmp,
            max_frames: (self.ingest_max_frames > 0).then_some(self.ingest_max_frames),
            idle_timeout: (self.ingest_idle_timeout_ms > 0)
                .then(|| Duration::from_millis(self.ingest_idle_timeout_ms.into())),
            print: self.print_plan,
            json: self.json,
        })
    }

    fn input(&self) -> Result<Input, Failure> {
        if self.input_mode == InputMode::Dummy {
            if self.shm_name.is_some() {
                return Err(Failure::usage(
                    "--shm-name: the simulator of --input-mode dummy takes its names from --uri",
                ));
            }
            // Several streamers may have a dummy each.
            let own = || format!("dummy-{}", std::process::id()).parse().expect("a plain name");
            return Ok(Input::Dummy(sim::Camera {
                target: self.uri.clone().unwrap_or_else(own),
                label: self.dummy_label.clone(),
                size: (self.dummy_width, self.dummy_height),
                fps: self.dummy_fps,
                frames: self.dummy_frames,
            }));
        }
        match (&self.uri, &self.shm_name, &self.zmq_endpoint) {
            (Some(target), ..) => Ok(Input::Target(target.clone())),
            (None, Some(shm_name), Some(zmq_endpoint)) => {
                Ok(Input::Names { shm_name: shm_name.clone(), zmq_endpoint: zmq_endpoint.clone() })
            }
            _ => Err(Failure::usage("no producer: give --uri, or --shm-name and --zmq-endpoint")),
        }
    }

    /// The simulator's rate is known.
    fn told_fps(&self) -> u32 {
        let input = match self.input_mode {
            InputMode::Cvmmap => 30.0,
            InputMode::Dummy => self.dummy_fps,
        };
        self.fps.unwrap_or((input.ceil() as u32).clamp(1, MAX_FPS))
    }

    fn checked_mode(&self) -> Result<RtmpMode, Failure> {
        match (self.codec, self.rtmp_mode) {
            (Codec::H264, Some(RtmpMode::Domestic)) => Err(Failure::usage(
                "--rtmp-mode domestic: it is an extension for H.265; --codec h264 is codec id 7 in every mode",
            )),
            (Codec::H265, None) if self.rtmp => {
                Err(Failure::usage("--rtmp-mode is missing: H.265 over RTMP is either enhanced or domestic"))
            }
            (_, mode) => Ok(mode.unwrap_or(RtmpMode::Enhanced)),
        }
    }

    fn nats(&self) -> Result<Option<Nats>, Failure> {
        let given = self.nats_url.clone();
        if given.is_empty() {
            return Ok(None);
        }
        let url = given.parse().map_err(|error| Failure::usage(format!("--nats-url {error}")))?;
        Ok(Some(Nats { url, given }))
    }
}

/// The factories that a choice of encoder means.
pub(crate) fn candidates(choice: &str, codec: Codec) -> Result<Vec<String>, Failure> {
    let (hardware, software) = (codec.hardware().to_owned(), codec.software().to_owned());
    let list = match choice {
        "auto" => vec![hardware, software],
        "nvidia" => vec![hardware],
        "software" => vec![software],
        other => other.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    let is_name = |name: &String| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
    };
    if !list.iter().all(is_name) {
        let rule = "it is auto, nvidia, software, or names of element factories with commas between";
        return Err(Failure::usage(format!("--encoder '{choice}': {rule}")));
    }
    Ok(list)
}

/// The form of RTMP URLs that servers expect: an application and a stream. `flag` is what the user gave it as.
pub(crate) fn checked_url(flag: &str, given: &str) -> Result<Url, Failure> {
    let refused = |rule: &str| {
        let given = redact::url(given);
        Failure::usage(format!("{flag} '{given}': {rule}; the form is rtmp://HOST[:PORT]/APPLICATION/STREAM"))
    };
    let url = Url::parse(given).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "rtmp" | "rtmps") {
        return Err(refused(&format!("the scheme is '{}'", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refused("it names no host"));
    }
    if url.port() == Some(0) {
        return Err(refused("the port '0' is not 1 to 65535"));
    }
    let mut parts = url.path().trim_start_matches('/').splitn(2, '/');
    if parts.next().is_none_or(str::is_empty) {
        return Err(refused("it names no application"));
    }
    if parts.next().is_none_or(|stream| stream.trim_matches('/').is_empty()) {
        return Err(refused("it names an application, but no stream"));
    }
    Ok(url)
}

/// Whether an RTMP URL's host is known.
pub(crate) fn resolve_server(flag: &str, url: &Url) -> Result<(), Failure> {
    resolve(flag, &redact::url(url.as_str()), url.host_str().unwrap_or_default(), rtmp_port(url)).map(drop)
}

/// The port of an RTMP URL.
pub(crate) fn rtmp_port(url: &Url) -> u16 {
    url.port().unwrap_or(if url.scheme() == "rtmps" { 443 } else { 1935 })
}

fn split_endpoint(given: &str) -> Result<(&str, u16), Failure> {
    let refused =
        |rule: &str| Failure::usage(format!("--rtp-endpoint '{given}': {rule}; the form is HOST:PORT"));
    let (host, port) = given.rsplit_once(':').ok_or_else(|| refused("there is no port"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(refused("an IPv6 address stands in brackets"));
    }
    if host.is_empty() {
        return Err(refused("there is no host"));
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((bare.unwrap_or(host), port)),
        _ => Err(refused(&format!("the port '{port}' is not 1 to 65535"))),
    }
}

fn resolve(flag: &str, given: &str, host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let failed = |why: String| {
        Failure::new(
            Exit::Configuration,
            format!("{flag} '{given}': the host '{host}' cannot be resolved: {why}"),
        )
    };
    let mut found = (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    found.next().ok_or_else(|| failed("it has no address".into()))
}

/// A receiver has one address.
fn check_unicast(given: &str, address: IpAddr) -> Result<(), Failure> {
    let kind = match address.to_canonical() {
        ip if ip.is_multicast() => "multicast",
        IpAddr::V4(ip) if ip.is_broadcast() => "broadcast",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!(
        "--rtp-endpoint '{given}': {address} is a {kind} address; RTP goes to one receiver, over unicast"
    )))
}

/// Whether a file could be written beside `path`'s final name; nothing stays behind.
fn check_writable(flag: &str, path: &Path) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| configuration(format!("{flag} '{}': {why}", path.display()));
    let path = destination(path).map_err(|error| failed(&error))?;
    tempfile::tempfile_in(folder_of(&path)).map(drop).map_err(|error| failed(&error))
}

/// Whether files could be written into a folder; nothing stays behind.
fn check_folder(flag: &str, path: &Path) -> Result<(), Failure> {
    tempfile::tempfile_in(path)
        .map(drop)
        .map_err(|error| configuration(format!("{flag} '{}': {error}", path.display())))
}

fn parse_label(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LABEL_SIZE || !text.is_ascii() || text.contains('\0') {
        return Err(format!("a label is ASCII of 1 to {LABEL_SIZE} bytes, this is of {}", text.len()));
    }
    Ok(text.to_owned())
}

fn parse_fps(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fps) if (0.001..=10_000.0).contains(&fps) => Ok(fps),
        _ => Err("it is 0.001 to 10000".into()),
    }
}

fn side() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(crate::pattern::MIN_SIDE)..=16384)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.args.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_older_program() {
        let plan = plan("--uri cam0 --codec h264 --rtp --rtp-endpoint 127.0.0.1:5000").unwrap();
        assert_eq!((plan.queue_size, plan.encoding.gop, plan.encoding.b_frames), (1, 30, 0));
        assert_eq!(plan.encoding.candidates, ["nvh264enc", "x264enc"]);
        assert_eq!(plan.rtp.unwrap().payload_type, 96);
        assert!(plan.rtmp.is_none() && plan.max_frames.is_none() && plan.idle_timeout.is_none());
    }

    #[test]
    fn encoders_are_tried_in_the_order_that_is_asked_for() {
        let of = |choice| candidates(choice, Codec::H265).unwrap();
        assert_eq!(of("auto"), ["nvh265enc", "x265enc"]);
        assert_eq!(of("nvidia"), ["nvh265enc"]);
        assert_eq!(of("software"), ["x265enc"]);
        assert_eq!(of("vah265enc,x265enc"), ["vah265enc", "x265enc"]);
        assert!(candidates("", Codec::H264).is_err() && candidates("a,,b", Codec::H264).is_err());
    }

    #[test]
    fn endpoints_and_urls_are_taken_apart() {
        assert_eq!(split_endpoint("[::1]:5000").unwrap(), ("::1", 5000));
        assert_eq!(split_endpoint("cam.local:1").unwrap(), ("cam.local", 1));
        assert_eq!(rtmp_port(&checked_url("--rtmp-url", "rtmp://h/live/cam0").unwrap()), 1935);
        assert_eq!(rtmp_port(&checked_url("--rtmp-url", "rtmps://h/live/cam0?key=1&b=2").unwrap()), 443);
    }

    #[test]
    fn what_cannot_work_names_the_flag_and_the_rule() {
        let rtp = "--uri cam0 --codec h264 --rtp --rtp-endpoint";
        let rtmp = "--uri cam0 --codec h265 --rtmp --rtmp-mode enhanced --rtmp-url";
        for (line, parts) in [
            (format!("{rtp} 127.0.0.1"), ["--rtp-endpoint '127.0.0.1'", "there is no port"]),
            (format!("{rtp} 127.0.0.1:0"), ["--rtp-endpoint", "the port '0' is not 1 to 65535"]),
            (format!("{rtp} ::1:5000"), ["--rtp-endpoint", "brackets"]),
            (format!("{rtp} :5000"), ["--rtp-endpoint", "there is no host"]),
            (format!("{rtp} 127.0.0.1:5000 --nats-url http://x"), ["--nats-url 'http://x'", "nats://"]),
            (format!("{rtp} 127.0.0.1:5000 --record-dir /no/such"), ["--record-dir '/no/such'", "No such"]),
            (format!("{rtp} 127.0.0.1:5000 --dummy-width 8"), ["--dummy-width", "8 is not in 16..=16384"]),
            (format!("{rtmp} http://h/live/cam0"), ["--rtmp-url", "the scheme is 'http'"]),
            (format!("{rtmp} rtmp://127.0.0.1:0/live/cam0"), ["--rtmp-url", "the port '0' is not"]),
            (format!("{rtmp} rtmp://127.0.0.1/"), ["--rtmp-url", "it names no application"]),
            (format!("{rtmp} rtmp://127.0.0.1/live"), ["--rtmp-url", "no stream"]),
            (format!("{rtmp} nonsense"), ["--rtmp-url 'nonsense'", "the form is"]),
        ] {
            let error = plan(&line).expect_err(&line);
            assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
        }
    }
}
