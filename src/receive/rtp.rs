// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer rtp-receive`: counts, checks and decodes an RTP stream.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use cvmmap_ipc::clock::unix_now_ns;
use serde::Serialize;
use serde_json::Value;

use super::pictures::{self, Decoder, Input, Pictures};
use super::sdp::{self, Described, Unusable};
use super::{
    Breach, Codec, Exit, Failure, Findings, Limits, NAP, Reached, Watch, conclude, configuration, packets,
    verdict,
};
use crate::tell;

/// Room for a second of video at hundreds of megabits, so that a busy machine loses none; the kernel may give less.
const SOCKET_BUFFER: usize = 8 << 20;
/// Packets that are kept until the SDP file is there.
const KEPT: usize = 20_000;
const DATAGRAM: usize = 65_536;

/// Receive an RTP stream of H.264 or H.265, check and decode it, and print a JSON summary.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the threshold was reached and a picture decoded; 2 usage; 3 another payload \
type; 4 fewer packets; 7 broken RTP, or video that does not decode; 124 nothing came."
)]
pub struct Args {
    /// UDP port to listen on
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    listen_host: IpAddr,
    /// The payload type that every packet must have, 96 to 127
    #[arg(long, value_name = "PT", value_parser = clap::value_parser!(u8).range(96..=127))]
    expect_pt: u8,
    /// Packets to receive
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packet_threshold: u64,
    /// The sender's SDP file, waited for until it is there
    #[arg(long, value_name = "FILE")]
    sdp: Option<PathBuf>,
    /// The codec; without it, the SDP file or the first payload tells
    #[arg(long, value_enum, conflicts_with = "sdp")]
    codec: Option<Codec>,
    /// B-frames in a row: how many access units may carry a timestamp before one that was sent earlier
    #[arg(long, default_value_t = 0, value_name = "N")]
    b_frames: u32,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Serialize)]
struct Summary<'a> {
    command: &'static str,
    exit: u8,
    /// As in `rtmp-receive`, where it is one of three.
    mode: &'static str,
    /// As seen, not as asked for; so is the payload type.
    codec: Option<&'static str>,
    payload_type: Option<u8>,
    clock_rate: u32,
    /// The SDP file was read.
    sdp: bool,
    packet_threshold: u64,
    #[serde(flatten)]
    packets: &'a packets::Counted,
    /// Datagrams that are no packet of the stream.
    refused: u64,
    #[serde(flatten)]
    pictures: pictures::Counted,
    seconds: f64,
    #[serde(flatten)]
    findings: &'a Findings,
}

struct Receiver {
    args: Args,
    watch: Watch,
    judge: packets::Judge,
    findings: Findings,
    pictures: Pictures,
    decoder: Option<Decoder>,
    described: Option<Described>,
    /// Why the SDP file is not there yet.
    waits_for: Option<String>,
    kept: Vec<(Vec<u8>, u64)>,
    datagrams: u64,
}

/// Receives until the threshold, the deadline or a signal, and prints the summary.
///
/// # Errors
/// A [`Failure`] with the exit code that the sender deserves, or where the port is taken.
pub fn run(args: Args) -> Result<(), Failure> {
    let address = SocketAddr::new(args.listen_host, args.port);
    let socket = UdpSocket::bind(address)
        .map_err(|error| configuration(format!("listening on udp {address}: {error}")))?;
    let failed = |error: std::io::Error| configuration(format!("the socket of udp {address}: {error}"));
    // A smaller one does for most streams.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
    socket.set_read_timeout(Some(NAP)).map_err(failed)?;
    let watch = Watch::start(&args.limits)?;
    let pictures = Pictures::new(args.limits.frames_log.as_deref())?;
    gst::init().map_err(configuration)?;
    let judge = packets::Judge::new(args.codec, args.expect_pt, args.b_frames);
    tell::talk(format_args!("listening on udp {address}"));
    let mut receiver = Receiver {
        args,
        watch,
        judge,
        findings: Findings::default(),
        pictures,
        decoder: None,
        described: None,
        waits_for: None,
        kept: Vec::new(),
        datagrams: 0,
    };
    receiver.receive(&socket)?;
    receiver.finish()
}

impl Receiver {
    fn reached(&self) -> Reached {
        Reached {
            what: "packets",
            got: self.judge.counted().packets,
            wanted: self.args.packet_threshold,
            begun: self.datagrams > self.judge.counted().rtcp,
            pictures: self.pictures.undamaged(),
        }
    }

    fn over(&self) -> bool {
        let mut reached = self.reached();
        // To the end of an access unit, so that the decoder is not left with a part of one.
        if !self.judge.between_units() && reached.enough() {
            reached.pictures = 0;
        }
        self.watch.over(&self.findings, &reached)
    }

    fn receive(&mut self, socket: &UdpSocket) -> Result<(), Failure> {
        let mut buffer = vec![0; DATAGRAM];
        while !self.over() {
            let datagram = match socket.recv(&mut buffer) {
                Ok(size) => Some((&buffer[..size], unix_now_ns())),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
                Err(error) if error.kind() == ErrorKind::Interrupted => None,
                Err(error) => return Err(configuration(format!("receiving: {error}"))),
            };
            self.datagrams += u64::from(datagram.is_some());
            if self.ready() {
                for (bytes, arrival) in std::mem::take(&mut self.kept) {
                    self.take(&bytes, arrival)?;
                }
                if let Some((bytes, arrival)) = datagram {
                    self.take(bytes, arrival)?;
                }
            } else if let Some((bytes, arrival)) = datagram
                && self.kept.len() < KEPT
            {
                self.kept.push((bytes.to_vec(), arrival));
            }
            if let Some(decoder) = &self.decoder {
                self.findings.extend(decoder.trouble());
            }
            self.findings.extend(self.pictures.breaches());
        }
        Ok(())
    }

    /// The stream's codec and parameter sets are known as far as they will be.
    fn ready(&mut self) -> bool {
        let Some(path) = &self.args.sdp else { return true };
        if self.described.is_some() {
            return true;
        }
        match sdp::read(path, self.args.expect_pt, self.args.port) {
            Ok(described) => {
                let (pt, b_frames) = (self.args.expect_pt, self.args.b_frames);
                self.judge = packets::Judge::new(Some(described.codec), pt, b_frames);
                if described.has_parameter_sets() {
                    self.judge.know_parameter_sets();
                }
                self.described = Some(described);
                self.waits_for = None;
                return true;
            }
            Err(Unusable::NotYet(why)) => self.waits_for = Some(why),
            Err(Unusable::Wrong(breach)) => {
                // Said once; what comes is judged without it.
                self.findings.add(breach);
                self.args.sdp = None;
                self.waits_for = None;
                return true;
            }
        }
        false
    }

    fn take(&mut self, datagram: &[u8], arrival_unix_ns: u64) -> Result<(), Failure> {
        let taken = match self.judge.take(datagram, arrival_unix_ns) {
            Ok(taken) => taken,
            Err(breach) => {
                self.findings.add(breach);
                return Ok(());
            }
        };
        let Some(codec) = self.judge.codec() else { return Ok(()) };
        let decoder = match &self.decoder {
            Some(decoder) => decoder,
            None => {
                let decoder = Decoder::start(codec, Input::Rtp, &self.pictures)?;
                decoder.caps(&match &self.described {
                    Some(described) => described.caps.clone(),
                    None => sdp::plain_caps(codec, self.args.expect_pt),
                });
                self.decoder.insert(decoder)
            }
        };
        for unit in taken.ended {
            decoder.announce(announced(unit));
        }
        if let Some(pts_ns) = taken.decode_at_ns {
            decoder.push(datagram, pts_ns);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        let sound = self.findings.exit.is_none();
        if let Some(decoder) = self.decoder.take() {
            // What has come of an access unit when the time is over may or may not give a picture.
            if let Some(rest) = self.judge.rest() {
                decoder.announce(announced(rest));
            }
            self.findings.extend(decoder.finish(sound));
            self.findings.extend(self.pictures.breaches());
        }
        if let Some(why) = self.waits_for.take() {
            self.findings.add(Breach { exit: Exit::Timeout, what: format!("waited in vain for it: {why}") });
        }
        let counted = self.judge.counted();
        let summary = |exit| -> Value {
            serde_json::to_value(Summary {
                command: "rtp-receive",
                exit,
                mode: "rtp",
                codec: self.judge.seen_codec().map(Codec::name),
                payload_type: self.judge.seen_payload_type(),
                clock_rate: packets::CLOCK_RATE,
                sdp: self.described.is_some(),
                packet_threshold: self.args.packet_threshold,
                packets: counted,
                refused: self.datagrams.saturating_sub(counted.packets + counted.rtcp),
                pictures: self.pictures.counted(),
                seconds: self.watch.started.elapsed().as_secs_f64(),
                findings: &self.findings,
            })
            .expect("plain data")
        };
        conclude(verdict(&self.findings, &self.reached()), summary)
    }
}

fn announced(unit: packets::Unit) -> pictures::Unit {
    pictures::Unit {
        pts_ns: unit.pts_ns,
        arrival_unix_ns: unit.arrival_unix_ns,
        timestamp: unit.timestamp,
        key: unit.key,
        session: 1,
        size: None,
        optional: unit.skipped_leading,
        damaged: unit.damaged,
    }
}
