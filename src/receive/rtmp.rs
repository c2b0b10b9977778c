// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer rtmp-receive`: a stand-alone RTMP server of one publisher at a time, which checks and decodes what
//! it publishes.

mod connection;
mod gate;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use self::connection::Connection;
use super::judge::{Frame, Judge, Mode, Told, Video};
use super::pictures::{self, Decoder, Input, Pictures};
use super::{Findings, Limits, NAP, Reached, Watch, conclude, configuration, verdict};
use crate::exit::Failure;
use crate::tell;

/// Receive buffer with `--stall-after`: so little that the sender soon feels that nobody reads.
const SMALL_BUFFER: usize = 16 << 10;

/// Serve RTMP to one publisher at a time, check and decode its video, and print a JSON summary.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the threshold was reached and a picture decoded; 1 the port is taken; 2 usage; \
4 fewer video frames; 6 another codec or mode; 7 broken RTMP, or video that does not decode; 124 nobody published."
)]
pub struct Args {
    /// What is to be published
    #[arg(long, value_enum)]
    mode: Mode,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST")]
    listen_host: String,
    /// TCP port to listen on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen_port: u16,
    /// Video frames to receive
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    video_threshold: u64,
    /// A test aid: stop reading the socket once, after this many video frames
    #[arg(long, value_name = "N", requires = "stall_ms")]
    stall_after: Option<u64>,
    /// How long to stop reading, in milliseconds; no longer than what is left of the time for receiving
    #[arg(long, value_name = "MS", requires = "stall_after")]
    stall_ms: Option<u64>,
    #[command(flatten)]
    limits: Limits,
}

/// What was counted, over all sessions.
#[derive(Debug, Clone, Default, Serialize)]
struct Counted {
    /// Publishers, one after the other.
    sessions: u64,
    /// Connections that were dropped before they connected to an application: they did not speak RTMP.
    refused: u64,
    /// Of the last onMetaData.
    metadata: Option<Metadata>,
    /// Sequence headers that differed from the one before.
    configurations: u64,
    repeated_headers: u64,
    video_tags: u64,
    audio_tags: u64,
    frames: u64,
    key_frames: u64,
    /// Bytes of video messages.
    bytes: u64,
    /// FLV milliseconds of frames, in the first and the last session.
    first_timestamp: Option<u32>,
    last_timestamp: Option<u32>,
}

#[derive(Debug, Clone, Serialize)]
struct Metadata {
    videocodecid: Option<u32>,
    width: Option<u32>,
    height: Option<u32>,
    framerate: Option<f32>,
    encoder: Option<String>,
}

#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    exit: u8,
    mode: String,
    /// Of the last video tag, as is its codec.
    seen: Option<String>,
    codec: Option<&'static str>,
    video_threshold: u64,
    #[serde(flatten)]
    counted: &'a Counted,
    #[serde(flatten)]
    pictures: pictures::Counted,
    seconds: f64,
    #[serde(flatten)]
    findings: &'a Findings,
}

/// What outlives a connection.
struct Server {
    args: Args,
    watch: Watch,
    counted: Counted,
    findings: Findings,
    pictures: Pictures,
    /// Of the last video tag.
    seen: Option<Mode>,
    stalled: bool,
}

/// One publisher's stream.
struct Session {
    number: u64,
    judge: Judge,
    decoder: Decoder,
    /// DTS of the last frame, as it came and unwrapped.
    last: Option<(u32, i64)>,
    frames: u64,
}

/// Serves until the threshold, the deadline or a signal, and prints the summary.
///
/// # Errors
/// A [`Failure`] with the exit code that the publisher deserves, or where the port is taken.
pub fn run(args: Args) -> Result<(), Failure> {
    let listener = listen(&args)?;
    let watch = Watch::start(&args.limits)?;
    let pictures = Pictures::new(args.limits.frames_log.as_deref())?;
    gst::init().map_err(configuration)?;
    let mut server = Server {
        args,
        watch,
        counted: Counted::default(),
        findings: Findings::default(),
        pictures,
        seen: None,
        stalled: false,
    };
    server.serve(&listener)?;
    server.finish()
}

fn listen(args: &Args) -> Result<TcpListener, Failure> {
    let (host, port) = (args.listen_host.as_str(), args.listen_port);
    let address: SocketAddr =
        (host, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| {
            Failure::usage(format!("--listen-host {host}: it is no address of this machine"))
        })?;
    let failed = |error: std::io::Error| configuration(format!("listening on tcp {address}: {error}"));
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    if args.stall_after.is_some() {
        // Connections inherit it, and its window with it.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, SMALL_BUFFER)
            .map_err(|error| failed(error.into()))?;
    }
    tell::talk(format_args!("listening on rtmp://{address}"));
    Ok(listener)
}

impl Server {
    fn reached(&self) -> Reached {
        Reached {
            what: "video frames",
            got: self.counted.frames,
            wanted: self.args.video_threshold,
            begun: self.counted.sessions > 0,
            pictures: self.pictures.undamaged(),
        }
    }

    fn over(&self) -> bool {
        self.watch.over(&self.findings, &self.reached())
    }

    fn serve(&mut self, listener: &TcpListener) -> Result<(), Failure> {
        while !self.over() {
            match listener.accept() {
                Ok((stream, peer)) => {
                    tell::talk(format_args!("{peer} connected"));
                    Connection::serve(self, stream)?;
                    tell::talk(format_args!("{peer} has gone"));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.watch.sleep(NAP),
                // The peer gave up while it waited.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => (),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(configuration(format!("accepting: {error}"))),
            }
        }
        Ok(())
    }

    /// Somebody publishes.
    fn publish(&mut self) -> Result<Session, Failure> {
        self.counted.sessions += 1;
        Ok(Session {
            number: self.counted.sessions,
            judge: Judge::new(self.args.mode),
            decoder: Decoder::start(self.args.mode.codec(), Input::Units, &self.pictures)?,
            last: None,
            frames: 0,
        })
    }

    fn metadata(&mut self, session: &mut Session, metadata: Metadata) {
        let Metadata { videocodecid: codec_id, width, height, .. } = metadata;
        if let Err(breach) = session.judge.metadata(Told { codec_id, width, height }) {
            self.findings.add(breach);
        }
        self.counted.metadata = Some(metadata);
    }

    fn video(&mut self, session: &mut Session, ms: u32, body: &[u8], arrival_unix_ns: u64) {
        self.counted.video_tags += 1;
        self.counted.bytes += body.len() as u64;
        match session.judge.video(ms, body) {
            Ok(Video::Configuration(record)) => {
                self.counted.configurations += 1;
                session.decoder.configuration(record);
            }
            Ok(Video::Repeated) => self.counted.repeated_headers += 1,
            Ok(Video::Frame(frame)) => {
                self.counted.frames += 1;
                self.counted.key_frames += u64::from(frame.key);
                self.counted.first_timestamp.get_or_insert(ms);
                self.counted.last_timestamp = Some(ms);
                session.frame(ms, &frame, arrival_unix_ns);
            }
            Ok(Video::End) => (),
            Err(breach) => self.findings.add(breach),
        }
        self.seen = session.judge.seen().or(self.seen);
        self.findings.extend(session.decoder.trouble());
        self.findings.extend(self.pictures.breaches());
        self.stall();
    }

    /// Reads nothing for a while, where the arguments say so.
    fn stall(&mut self) {
        let (Some(after), Some(ms)) = (self.args.stall_after, self.args.stall_ms) else { return };
        if !self.stalled && self.counted.frames >= after {
            self.stalled = true;
            tell::talk(format_args!("not reading for {ms} ms"));
            self.watch.sleep(Duration::from_millis(ms));
        }
    }

    /// The publisher has gone.
    fn unpublish(&mut self, session: Session) {
        let sound = self.findings.exit.is_none();
        self.findings.extend(session.decoder.finish(sound));
        self.findings.extend(self.pictures.breaches());
    }

    fn finish(self) -> Result<(), Failure> {
        let summary = |exit| -> Value {
            serde_json::to_value(Summary {
                command: "rtmp-receive",
                exit,
                mode: self.args.mode.to_string(),
                seen: self.seen.map(|mode| mode.to_string()),
                codec: self.seen.map(|mode| mode.codec().name()),
                video_threshold: self.args.video_threshold,
                counted: &self.counted,
                pictures: self.pictures.counted(),
                seconds: self.watch.started.elapsed().as_secs_f64(),
                findings: &self.findings,
            })
            .expect("plain data")
        };
        conclude(verdict(&self.findings, &self.reached()), summary)
    }
}

impl Session {
    fn frame(&mut self, ms: u32, frame: &Frame, arrival_unix_ns: u64) {
        let dts = match self.last {
            None => i64::from(ms),
            Some((last, unwrapped)) => unwrapped + i64::from(ms.wrapping_sub(last) as i32),
        };
        self.last = Some((ms, dts));
        // Frames of the same millisecond are told apart by what is below.
        let pts = dts.saturating_add(i64::from(frame.composition_ms)).max(0) as u64;
        // Jumps of hostile timestamps add up.
        let pts_ns = pts.saturating_mul(1_000_000).min(i64::MAX as u64) + self.frames % 1_000_000;
        self.frames += 1;
        self.decoder.announce(pictures::Unit {
            pts_ns,
            arrival_unix_ns,
            timestamp: ms,
            key: frame.key,
            session: self.number,
            size: self.judge.told_size(),
            optional: frame.skipped_leading,
            damaged: false,
        });
        self.decoder.push(frame.nals, pts_ns);
    }
}
