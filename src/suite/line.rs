// SPDX-License-Identifier: MPL-2.0

//! A producer, a streamer and its receivers as processes, and what every row asserts of them when they end.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::frames::{self, NORMAL_RULE, Normal, Picture, Published, Shown, Ticks};
use super::process::Process;
use super::rig::{Rig, Step, Trouble, ms};

/// A streamer ends within this after SIGINT.
pub const ENDS_WITHIN_MS: f64 = 2000.0;
/// Receivers take out what is in their decoders.
const RECEIVER_ENDS: Duration = Duration::from_secs(10);
/// What no row lasts: processes end by themselves then, should nobody be left to end them.
const LAST_RESORT: Duration = Duration::from_secs(120);
/// That the streamer is asked for.
pub const PAYLOAD_TYPE: &str = "97";
/// The session description, in the row's folder.
pub const SDP: &str = "stream.sdp";

/// What to set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `h264` or `h265`.
    pub codec: &'static str,
    /// Picture in pixels.
    pub size: (u32, u32),
    /// Of the producer.
    pub fps: u32,
    /// In kbit/s.
    pub bitrate: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// RTP and a receiver of it.
    pub rtp: bool,
    /// RTMP, and the mode of its receiver.
    pub rtmp: Option<&'static str>,
    /// The producer's faults.
    pub faults: Vec<String>,
    /// More for the streamer.
    pub run_arguments: Vec<String>,
    /// More for the RTMP receiver.
    pub rtmp_arguments: Vec<String>,
    /// Somebody else serves RTMP at this port first.
    pub rtmp_port: Option<u16>,
    /// The control plane's server, for producer and streamer.
    pub nats_url: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            codec: "h264",
            size: (320, 240),
            fps: 30,
            bitrate: 1000,
            gop: 30,
            rtp: true,
            rtmp: None,
            faults: Vec::new(),
            run_arguments: Vec::new(),
            rtmp_arguments: Vec::new(),
            rtmp_port: None,
            nats_url: None,
        }
    }
}

impl Setup {
    /// From one frame to the next.
    pub fn interval_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.fps)
    }

    /// Of a frame as the producer publishes it.
    pub fn raw_bytes(&self) -> f64 {
        f64::from(self.size.0) * f64::from(self.size.1) * 3.0
    }
}

/// One receiver.
pub struct Receiver {
    /// The process.
    pub process: Process,
    log: PathBuf,
}

impl Receiver {
    /// What it has shown so far.
    pub fn pictures(&self) -> Vec<Picture> {
        frames::read(&self.log)
    }
}

/// What runs.
pub struct Line {
    /// As it was asked for.
    pub setup: Setup,
    target: String,
    /// Producers: the last one is there now.
    sims: Vec<Process>,
    sim_logs: Vec<PathBuf>,
    /// The streamer.
    pub run: Process,
    /// The receiver of RTP.
    pub rtp: Option<Receiver>,
    /// The receiver of RTMP.
    pub rtmp: Option<Receiver>,
    /// Where RTP goes.
    pub rtp_port: u16,
    /// Where RTMP goes.
    pub rtmp_port: u16,
    rtmps: usize,
}

/// A command line without much quoting.
fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What receivers and streamer left behind.
pub struct Ended {
    /// Frames of all producers.
    pub published: Vec<Published>,
    /// Pictures of RTP.
    pub rtp: Vec<Picture>,
    /// Pictures of RTMP, of the last receiver.
    pub rtmp: Vec<Picture>,
    /// The streamer's last words.
    pub run: Value,
    /// The receiver's.
    pub rtmp_summary: Value,
    /// The receiver's.
    pub rtp_summary: Value,
}

impl Line {
    /// Receivers first, the producer last: nothing is lost at the beginning.
    ///
    /// # Errors
    /// Where a process does not come up.
    pub fn start(rig: &mut Rig, setup: Setup) -> Step<Self> {
        let target = rig.target();
        let rtp_port = rig.port()?;
        let rtmp_port = setup.rtmp_port.map_or_else(|| rig.port(), Ok)?;
        let rtp = setup.rtp.then(|| receive_rtp(rig, rtp_port)).transpose()?;
        let early = setup.rtmp.filter(|_| setup.rtmp_port.is_none());
        let rtmp =
            early.map(|mode| receive_rtmp(rig, rtmp_port, mode, &setup.rtmp_arguments, 1)).transpose()?;
        let run = stream(rig, &setup, &target, rtp_port, rtmp_port)?;
        let mut line = Self {
            setup,
            target,
            sims: Vec::new(),
            sim_logs: Vec::new(),
            run,
            rtp,
            rtmps: usize::from(rtmp.is_some()),
            rtmp,
            rtp_port,
            rtmp_port,
        };
        line.wait_for_run(rig, "the streamer to wait for its producer", |run| {
            run.stderr().contains("source: waiting")
        })?;
        line.produce(rig)?;
        Ok(line)
    }

    /// Starts a producer.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn produce(&mut self, rig: &mut Rig) -> Step {
        let Setup { size: (width, height), fps, .. } = self.setup;
        let frames = u64::from(fps) * LAST_RESORT.as_secs();
        let name = format!("sim-{}", self.sims.len() + 1);
        let log = rig.file(&format!("{name}.frames.jsonl"));
        let mut args = arguments(&format!(
            "sim {} --size {width}x{height} --fps {fps} --frames {frames} --json --frames-log",
            self.target
        ));
        args.push(log.display().to_string());
        for fault in &self.setup.faults {
            args.extend(["--fault".to_owned(), fault.clone()]);
        }
        if let Some(url) = &self.setup.nats_url {
            args.extend(["--nats-url".to_owned(), url.clone()]);
        }
        self.sims.push(rig.start(&name, args)?);
        self.sim_logs.push(log);
        Ok(())
    }

    /// Starts another receiver in place of the one before, at the same port.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn serve_rtmp(&mut self, rig: &mut Rig) -> Step {
        self.rtmps += 1;
        let mode = self.setup.rtmp.unwrap_or("h264");
        self.rtmp = None;
        self.rtmp = Some(receive_rtmp(rig, self.rtmp_port, mode, &[], self.rtmps)?);
        Ok(())
    }

    /// The producer that is there now.
    pub fn sim(&mut self) -> &mut Process {
        self.sims.last_mut().expect("one was started with the line")
    }

    /// Frames published so far, as far as the producers' logs are written.
    pub fn published(&self) -> Vec<Published> {
        frames::chain(self.sim_logs.iter().map(|log| frames::read(log)))
    }

    /// Pictures of RTP so far.
    pub fn rtp_pictures(&self) -> Vec<Picture> {
        self.rtp.as_ref().map(Receiver::pictures).unwrap_or_default()
    }

    /// Pictures of RTMP so far, of the receiver that is there now.
    pub fn rtmp_pictures(&self) -> Vec<Picture> {
        self.rtmp.as_ref().map(Receiver::pictures).unwrap_or_default()
    }

    /// Waits for something, while the streamer and the receivers must stay alive.
    ///
    /// # Errors
    /// That it never came, or who ended early.
    pub fn wait_for(&mut self, rig: &Rig, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> Step {
        rig.wait_for_logs(what, || {
            self.run.must_run()?;
            for receiver in [&mut self.rtp, &mut self.rtmp].into_iter().flatten() {
                receiver.process.must_run()?;
            }
            Ok(holds(self))
        })
    }

    fn wait_for_run(&mut self, rig: &Rig, what: &str, holds: impl Fn(&Process) -> bool) -> Step {
        self.wait_for(rig, what, |line| holds(&line.run))
    }

    /// Waits until each receiver has shown so many pictures.
    ///
    /// # Errors
    /// That it never has, or who ended early.
    pub fn wait_for_pictures(&mut self, rig: &Rig, count: usize) -> Step {
        self.wait_for(rig, &format!("{count} pictures at each receiver"), |line| {
            [&line.rtp, &line.rtmp].into_iter().flatten().all(|receiver| receiver.pictures().len() >= count)
        })
    }

    /// Waits until frame `n` of the run was published.
    ///
    /// # Errors
    /// That it never was, or who ended early.
    pub fn wait_for_frame(&mut self, rig: &Rig, n: u64) -> Step {
        self.wait_for(rig, &format!("frame {n}"), |line| {
            line.published().last().is_some_and(|frame| frame.n >= n)
        })
    }

    /// Ends streamer, receivers and producer in this order, and asserts what holds of every row.
    ///
    /// # Errors
    /// Where one left no summary.
    pub fn finish(mut self, rig: &mut Rig) -> Step<Ended> {
        self.run.must_run()?;
        let (code, took) = self.run.interrupt(RECEIVER_ENDS);
        rig.equals("the streamer's exit code after SIGINT", code.map(f64::from), 0.0, "code");
        let took = took.as_secs_f64() * 1000.0;
        rig.at_most("time from SIGINT to the streamer's end", code.map(|_| took), ENDS_WITHIN_MS, "ms");
        let run = summary(&self.run)?;
        let (rtp, rtp_summary) =
            self.rtp.take().map_or(Ok(Default::default()), |one| end(rig, one, "RTP"))?;
        let (rtmp, rtmp_summary) =
            self.rtmp.take().map_or(Ok(Default::default()), |one| end(rig, one, "RTMP"))?;
        let (code, _) = self.sim().interrupt(RECEIVER_ENDS);
        rig.equals("the producer's exit code after SIGINT", code.map(f64::from), 0.0, "code");
        if self.setup.rtp {
            let lost = rtp_summary["lost"].as_f64();
            rig.equals("RTP packets that never came", lost, 0.0, "packets");
            let reordered = rtp_summary["reordered"].as_f64();
            rig.equals("RTP packets that came behind a later one", reordered, 0.0, "packets");
            let back = frames::went_back(&rtp, true) as f64;
            rig.equals("RTP timestamps that do not rise", Some(back), 0.0, "pictures");
        }
        if self.setup.rtmp.is_some() {
            let back = frames::went_back(&rtmp, false) as f64;
            rig.equals("RTMP time stamps (DTS) that go back within a session", Some(back), 0.0, "pictures");
        }
        let published = self.published();
        Ok(Ended { published, rtp, rtmp, run, rtmp_summary, rtp_summary })
    }
}

impl Ended {
    /// Pictures of RTP with their publications.
    pub fn rtp_shown(&self) -> Vec<Shown> {
        frames::join(&self.published, &self.rtp, Ticks::Rtp)
    }

    /// Pictures of RTMP with their publications.
    pub fn rtmp_shown(&self) -> Vec<Shown> {
        frames::join(&self.published, &self.rtmp, Ticks::Flv)
    }
}

/// Normal latency of the pictures from a second after the first of them until `until_ns`, into the evidence.
///
/// # Errors
/// Where there are none.
pub fn normal(rig: &mut Rig, name: &str, shown: &[Shown], until_ns: u64, interval_ns: u64) -> Step<Normal> {
    let begin = shown.first().map_or(0, |first| first.published_ns + 1_000_000_000);
    // One that was under way when the fault came belongs to the fault.
    let mut before = frames::published_in(shown, begin..until_ns);
    before.retain(|one| one.picture.unix_ns < until_ns);
    let normal = Normal::of(&before, interval_ns)
        .ok_or_else(|| Trouble::Failed(format!("{name}: no picture came before the fault")))?;
    rig.rule(NORMAL_RULE);
    rig.number(&format!("{name}: pictures before the fault"), Some(before.len() as f64), "pictures");
    rig.number(&format!("{name}: median latency before the fault"), Some(ms(normal.p50_ns)), "ms");
    rig.number(&format!("{name}: p99 latency before the fault"), Some(ms(normal.p99_ns)), "ms");
    rig.number(&format!("{name}: latency that counts as normal, at most"), Some(ms(normal.bound_ns)), "ms");
    Ok(normal)
}

fn summary(process: &Process) -> Step<Value> {
    process.summary().ok_or_else(|| Trouble::Failed(format!("{} printed no summary", process.name())))
}

/// Ends a receiver and asserts what it found.
fn end(rig: &mut Rig, mut receiver: Receiver, name: &str) -> Step<(Vec<Picture>, Value)> {
    let (code, _) = receiver.process.interrupt(RECEIVER_ENDS);
    rig.equals(&format!("the {name} receiver's exit code"), code.map(f64::from), 0.0, "code");
    let summary = summary(&receiver.process)?;
    let field = |name: &str| summary[name].as_f64();
    rig.equals(&format!("protocol errors over {name}"), field("error_count"), 0.0, "errors");
    let missing = field("missing_pictures");
    rig.equals(&format!("access units over {name} that gave no picture"), missing, 0.0, "access units");
    let unlike = field("pictures").zip(field("counted_pictures")).map(|(all, counted)| all - counted);
    rig.equals(
        &format!("torn pictures over {name}: their markers do not show one frame count"),
        unlike,
        0.0,
        "pictures",
    );
    rig.number(&format!("pictures over {name}"), field("pictures"), "pictures");
    Ok((receiver.pictures(), summary))
}

/// The session description tells it the codec: it knows nothing that the streamer was asked for but the payload type.
fn receive_rtp(rig: &mut Rig, port: u16) -> Step<Receiver> {
    let log = rig.file("rtp-receive.frames.jsonl");
    let patience = LAST_RESORT.as_millis();
    let mut args = arguments(&format!(
        "rtp-receive --port {port} --expect-pt {PAYLOAD_TYPE} --packet-threshold 30 \
         --timeout-ms {patience} --duration-ms {patience} --frames-log"
    ));
    args.extend([log.display().to_string(), "--sdp".to_owned(), rig.file(SDP).display().to_string()]);
    let process = rig.start("rtp-receive", args)?;
    listening(rig, Receiver { process, log })
}

fn receive_rtmp(rig: &mut Rig, port: u16, mode: &str, more: &[String], n: usize) -> Step<Receiver> {
    let name = format!("rtmp-receive-{n}");
    let log = rig.file(&format!("{name}.frames.jsonl"));
    let patience = LAST_RESORT.as_millis();
    let mut args = arguments(&format!(
        "rtmp-receive --listen-host 127.0.0.1 --listen-port {port} --mode {mode} --video-threshold 30 \
         --timeout-ms {patience} --duration-ms {patience} --frames-log"
    ));
    args.push(log.display().to_string());
    args.extend_from_slice(more);
    let process = rig.start(&name, args)?;
    listening(rig, Receiver { process, log })
}

fn listening(rig: &Rig, mut receiver: Receiver) -> Step<Receiver> {
    rig.wait_for("a receiver to listen", || {
        receiver.process.must_run()?;
        Ok(receiver.process.stderr().contains("listening on"))
    })?;
    Ok(receiver)
}

fn stream(rig: &mut Rig, setup: &Setup, target: &str, rtp_port: u16, rtmp_port: u16) -> Step<Process> {
    let Setup { codec, fps, bitrate, gop, .. } = setup;
    let mut args = arguments(&format!(
        "run --uri cvmmap://{target} --codec {codec} --encoder {} --fps {fps} --bitrate {bitrate} --gop {gop} --json",
        rig.encoder
    ));
    // Empty: nobody is there to be asked.
    args.push(format!("--nats-url={}", setup.nats_url.as_deref().unwrap_or_default()));
    args.extend(arguments(&format!("--ingest-idle-timeout-ms {}", LAST_RESORT.as_millis())));
    if setup.rtp {
        let sdp = rig.file(SDP);
        args.extend(arguments(&format!(
            "--rtp --rtp-endpoint 127.0.0.1:{rtp_port} --rtp-payload-type {PAYLOAD_TYPE} --rtp-sdp"
        )));
        args.push(sdp.display().to_string());
    }
    if let Some(mode) = setup.rtmp {
        args.extend(arguments(&format!("--rtmp --rtmp-url rtmp://127.0.0.1:{rtmp_port}/live/{target}")));
        if let Some(mode) = mode.strip_prefix("h265-") {
            args.extend(arguments(&format!("--rtmp-mode {mode}")));
        }
    }
    args.extend_from_slice(&setup.run_arguments);
    rig.start("run", args)
}
