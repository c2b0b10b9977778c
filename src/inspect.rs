// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer inspect`: what a producer publishes, how fast, and how many frames tear.

use std::time::{Duration, Instant};

use cvmmap_ipc::{
    Coherence, Counters, Event, Metadata, PlaneKind, Reader, ReaderConfig, Region, SegmentInfo, Target,
    Verdict, peek_segment,
};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, configuration};
use crate::pattern::Pattern;
use crate::{show, svo};

/// Show a producer's names, header and planes, and measure its frames for a while; or what is in a ZED recording.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A producer: NAME or cvmmap://INSTANCE[@PREFIX][?namespace=NS]; or a recording: FILE.svo2
    #[arg(value_name = "TARGET|FILE")]
    target: String,
    /// How long a producer's frames are measured [default: 3]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Evidence that a producer's frame needs to count as whole: metadata, verify or next-sync [default: verify]
    #[arg(long)]
    coherence: Option<Coherence>,
    /// Check that each accepted picture is one whole frame of the simulator, to the byte, and the one announced
    #[arg(long)]
    pattern: bool,
    /// Spend this long on each frame, as a busy consumer does [default: 0]
    #[arg(long, value_name = "MS")]
    busy_ms: Option<u64>,
    /// Read each frame of a recording to its end, not only its head, and check all checksums
    #[arg(long)]
    check: bool,
    /// Print one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What is asked about a producer.
struct Plan {
    target: Target,
    seconds: f64,
    coherence: Coherence,
    pattern: bool,
    busy_ms: u64,
    json: bool,
}

impl Args {
    fn resolve(&self) -> Result<Plan, Failure> {
        let target = self.target.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        if self.check {
            return Err(Failure::usage(format!(
                "--check: it is for recordings, and '{target}' is a producer"
            )));
        }
        let seconds = self.seconds.unwrap_or(3.0);
        if !(0.0..=3600.0).contains(&seconds) {
            return Err(Failure::usage(format!("--seconds {seconds}: it is 0 to 3600")));
        }
        Ok(Plan {
            target,
            seconds,
            coherence: self.coherence.unwrap_or(Coherence::Verify),
            pattern: self.pattern,
            busy_ms: self.busy_ms.unwrap_or(0),
            json: self.json,
        })
    }

    /// What is for producers alone.
    fn check_recording(&self) -> Result<(), Failure> {
        let given = [
            ("--seconds", self.seconds.is_some()),
            ("--coherence", self.coherence.is_some()),
            ("--pattern", self.pattern),
            ("--busy-ms", self.busy_ms.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                let file = &self.target;
                Err(Failure::usage(format!("{flag}: it is for producers, and '{file}' is a file")))
            }
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
struct Measured {
    seconds: f64,
    counters: Counters,
    /// Frames per second by the producer's own count, as far as announcements arrived.
    fps: Option<f64>,
    /// Time from one announcement to the next that was acted on, in ns, sorted.
    intervals: Vec<u64>,
    /// The last header that was read with a frame.
    header: Option<Metadata>,
    last_refusal: Option<String>,
    /// Accepted pictures that were not one whole frame, and what the last of them showed.
    accepted_torn: u64,
    last_torn: Option<String>,
}

/// A copied payload and what it should hold.
#[derive(Default)]
struct Copied {
    payload: Vec<u8>,
    header: Option<Metadata>,
}

/// Inspects a target and prints the report.
///
/// # Errors
/// A [`Failure`] with [`Exit::Timeout`] where no frame was announced; the report is printed all the same. Another where
/// a file is no recording.
pub fn run(args: &Args) -> Result<(), Failure> {
    if let Some(file) = svo::inspect::as_file(&args.target) {
        args.check_recording()?;
        return svo::inspect::run(&file, args.check, args.json);
    }
    let args = &args.resolve()?;
    let segment = peek_segment(&args.target.shm_name());
    let measured = measure(args)?;
    // A header read with its sync is whole; a peek may have caught it mid-write.
    let segment = segment.map(|info| match &measured.header {
        Some(header) => SegmentInfo { header: Ok(header.clone()), ..info },
        None => info,
    });
    let report = report(args, segment.map_err(|refusal| refusal.to_string()), &measured);
    show::result(args.json, &report);
    if measured.counters.announced == 0 {
        let message = format!("{}: no frame was announced in {} s", args.target, args.seconds);
        return Err(Failure::new(Exit::Timeout, message));
    }
    Ok(())
}

impl Measured {
    /// Takes in an accepted frame.
    fn take(&mut self, args: &Plan, copied: &Copied) {
        let Some(header) = &copied.header else { return };
        if args.pattern
            && let Err(why) = check(header, &copied.payload)
        {
            self.accepted_torn += 1;
            self.last_torn = Some(format!("frame {}: {why}", header.frame.count));
        }
        self.header = Some(header.clone());
    }
}

fn check(header: &Metadata, payload: &[u8]) -> Result<(), String> {
    let left = header.plane(PlaneKind::Left).expect("every frame has a left plane");
    let pattern = Pattern::new(left.pixel_format, left.depth, left.width, left.height)
        .ok_or("the simulator has no such format or size")?;
    let count = pattern.check(payload, left.stride as usize).map_err(|error| error.to_string())?;
    if count == header.frame.count { Ok(()) } else { Err(format!("the picture is frame {count}")) }
}

fn measure(args: &Plan) -> Result<Measured, Failure> {
    let mut reader = Reader::open(ReaderConfig::new(&args.target, args.coherence)).map_err(configuration)?;
    let mut measured = Measured::default();
    let [mut copied, mut held] = [Copied::default(), Copied::default()];
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(args.seconds);
    let mut span: Option<[(Instant, u32); 2]> = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let Event::Arrival(arrival) = reader.wait(Some(left)).map_err(configuration)? else { break };
        let seen = (arrival.at, arrival.frame.count);
        match &mut span {
            Some(span) if !arrival.reset => {
                measured.intervals.push((arrival.at - span[1].0).as_nanos() as u64);
                span[1] = seen;
            }
            _ => span = Some([seen; 2]),
        }
        if arrival.settled == Some(Verdict::Accept) {
            measured.take(args, &held);
        }
        match reader.begin(&arrival) {
            Ok(mut frame) => {
                let metadata = frame.metadata().clone();
                let size = metadata.payload_size as usize;
                copied.payload.resize(size, 0);
                let whole = Region { offset: 0, stride: size, row_bytes: size, rows: 1 };
                let verdict = frame.copy(whole, &mut copied.payload, size);
                copied.header = Some(metadata);
                match verdict {
                    Verdict::Accept => measured.take(args, &copied),
                    Verdict::AwaitNext => std::mem::swap(&mut copied, &mut held),
                    Verdict::Copy | Verdict::Refuse(_) => (),
                }
            }
            Err(refusal) => measured.last_refusal = Some(refusal.to_string()),
        }
        std::thread::sleep(Duration::from_millis(args.busy_ms));
        if Instant::now() >= end {
            break;
        }
    }
    measured.seconds = started.elapsed().as_secs_f64();
    measured.counters = reader.counters();
    measured.fps = span.and_then(|[first, last]| {
        let seconds = (last.0 - first.0).as_secs_f64();
        (seconds > 0.0).then(|| f64::from(last.1 - first.1) / seconds)
    });
    measured.intervals.sort_unstable();
    Ok(measured)
}

fn report(args: &Plan, segment: Result<SegmentInfo, String>, measured: &Measured) -> Value {
    let target = &args.target;
    let c = &measured.counters;
    let percentile = |percent: usize| {
        let last = measured.intervals.len().checked_sub(1)?;
        Some(measured.intervals[last * percent / 100])
    };
    json!({
        "target": {
            "uri": target.to_string(),
            "instance": target.instance(),
            "namespace": target.namespace(),
            "prefix": target.prefix(),
            "base_name": target.base_name(),
            "shm_name": target.shm_name(),
            "zmq_endpoint": target.zmq_endpoint(),
            "nats_target_key": target.nats_target_key(),
        },
        "segment": match segment {
            Ok(info) => json!({
                "bytes": info.len,
                "inode": info.inode,
                "header": match info.header {
                    Ok(header) => header_report(&header),
                    Err(error) => json!({ "error": error.to_string() }),
                },
            }),
            Err(error) => json!({ "error": error }),
        },
        "frames": {
            "seconds": measured.seconds,
            "coherence": args.coherence.to_string(),
            "fps": measured.fps,
            "interval_p50_ns": percentile(50),
            "interval_p99_ns": percentile(99),
            "announced": c.announced,
            "accepted": c.accepted,
            "bytes": c.bytes,
            "torn": c.torn,
            "torn_metadata": c.torn_metadata,
            "torn_payload": c.torn_payload,
            "torn_unproven": c.torn_unproven,
            "late": c.late,
            "missed": c.missed,
            "lost": c.lost,
            "invalid": c.invalid,
            "retried": c.retried,
            "reopens": c.reopens,
            "resets": c.resets,
            "ignored_messages": c.ignored_messages,
            "last_refusal": measured.last_refusal,
            "accepted_torn": args.pattern.then_some(measured.accepted_torn),
            "last_torn": measured.last_torn,
        },
    })
}

fn header_report(header: &Metadata) -> Value {
    let planes: Vec<Value> = header
        .planes
        .iter()
        .flatten()
        .map(|plane| {
            json!({
                "plane": plane.kind.name(),
                "pixel_format": plane.pixel_format.to_string(),
                "depth": plane.depth.to_string(),
                "width": plane.width,
                "height": plane.height,
                "stride": plane.stride,
                "offset": plane.offset,
                "size": plane.size,
            })
        })
        .collect();
    json!({
        "version": header.version.to_string(),
        "frame_count": header.frame.count,
        "timestamp_ns": header.frame.timestamp_ns,
        "payload_bytes": header.payload_size,
        "depth_unit": header.depth_unit.to_string(),
        "planes": planes,
        "encoded": header.encoded.map(|info| json!({
            "codec": info.codec.to_string(),
            "bitstream": info.bitstream.to_string(),
            "key_frame": info.is_key_frame(),
            "frame_rate": format!("{}/{}", info.frame_rate.0, info.frame_rate.1),
        })),
    })
}
