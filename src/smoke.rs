// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer smoke`: publishes each row of the matrix to a server, and reads it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cvmmap_ipc::Coherence;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use gst::prelude::*;
use url::Url;

use crate::exit::{Exit, Failure, configuration};
use crate::matrix::{ROWS, Row, parse};
use crate::pattern::Pattern;
use crate::run::bus::first_error;
use crate::run::plan::{Encoding, Input, Plan, Rtmp, candidates, checked_url, resolve_server};
use crate::run::register_elements;
use crate::run::report::Reporter;
use crate::run::session::Session;
use crate::{interrupt, sim, tell};

const SIZE: (u32, u32) = (640, 360);
const FPS: u32 = 30;
/// Some servers take a player before there is a stream, and some keep no header for one that comes later.
const READER_FIRST: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(300);
const TICK: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// Publish each row of the matrix to a server, and read it back.
///
/// One line per row, with the exit code that the row alone would have: 0 pass, 1 the server refused the publication, 4
/// fewer pictures came back than asked for, 7 pictures that are not ours, 124 none, or no publication in time. The
/// process ends with that of the first row that failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// rtmp://HOST[:PORT]/APPLICATION/KEY; each row is published as KEY-h264, KEY-h265-enhanced, KEY-h265-domestic
    url: String,
    /// Rows to publish, with commas between
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse)]
    rows: Vec<Row>,
    /// Pictures of each row that have to come back
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    frames: u64,
    /// How long each row may take
    #[arg(long, value_name = "MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1000..))]
    timeout_ms: u64,
}

/// Publishes and reads back.
///
/// # Errors
/// The [`Failure`] of the first row that failed; each has been told by then.
pub fn run(args: &Args) -> Result<(), Failure> {
    let url = checked_url("URL", &args.url)?;
    resolve_server("URL", &url)?;
    register_elements()?;
    let interrupted = interrupt::listen()?;
    let rows = if args.rows.is_empty() { &ROWS[..] } else { &args.rows };
    let mut first = None;
    for row in rows {
        if row.rtmp.is_none() {
            tell::result(format_args!("{}: skip: no server has a part in RTP", row.name));
            continue;
        }
        match try_row(row, &url, args, &interrupted) {
            Ok(pictures) => {
                tell::result(format_args!("{}: pass (exit 0): {pictures} pictures came back", row.name));
            }
            Err(failure) => {
                tell::result(format_args!("{}: fail (exit {}): {failure}", row.name, failure.exit as u8));
                let interrupted = failure.exit == Exit::Interrupted;
                first.get_or_insert(Failure::new(failure.exit, format!("{}: {failure}", row.name)));
                if interrupted {
                    break;
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

fn try_row(row: &Row, url: &Url, args: &Args, interrupted: &Arc<AtomicBool>) -> Result<u64, Failure> {
    let mut url = url.clone();
    let suffix = row.name.trim_start_matches("rtmp-");
    let path = format!("{}-{suffix}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let plan = plan(row, url.clone())?;
    let deadline = Instant::now() + Duration::from_millis(args.timeout_ms);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = Reader { url, row: *row, stop: stop.clone(), seen: Arc::default() };
    let seen = reader.seen.clone();
    let reading = std::thread::spawn(move || reader.read());
    std::thread::sleep(READER_FIRST);

    let ended = Session::start(&plan).and_then(|session| {
        let over = stop.clone();
        let interrupted = interrupted.clone();
        let enough = args.frames;
        let counted = seen.clone();
        // Ends the session when enough came back, time is up, or a signal came.
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let enough = counted.ours.load(Ordering::Relaxed) >= enough;
                if enough || Instant::now() > deadline || interrupted.load(Ordering::Relaxed) {
                    over.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        session.run(&stop, &mut Reporter::silent())
    });
    stop.store(true, Ordering::Relaxed);
    let trouble = reading.join().unwrap_or_default();
    let end = ended.map_err(|failure| Failure::new(failure.exit, format!("publishing: {failure}")))?;
    let published = end.rtmp.is_some_and(|(.., connections)| connections > 0);
    if interrupted.load(Ordering::Relaxed) {
        return Err(Failure::new(Exit::Interrupted, "interrupted"));
    }
    judge(&seen, args.frames, published, &trouble)
}

fn judge(seen: &Seen, wanted: u64, published: bool, trouble: &str) -> Result<u64, Failure> {
    let (pictures, ours) = (seen.pictures.load(Ordering::Relaxed), seen.ours.load(Ordering::Relaxed));
    match (pictures, ours) {
        _ if ours >= wanted => Ok(ours),
        (0, _) if !published => {
            Err(Failure::new(Exit::Timeout, "publishing never began: the server did not let us in time"))
        }
        (0, _) => {
            Err(Failure::new(Exit::Timeout, format!("it was published, but nothing came back: {trouble}")))
        }
        (_, 0) => {
            Err(Failure::new(Exit::Protocol, format!("{pictures} pictures came back, none of them ours")))
        }
        _ => Err(Failure::new(Exit::Threshold, format!("{ours} of {wanted} pictures came back: {trouble}"))),
    }
}

fn plan(row: &Row, url: Url) -> Result<Plan, Failure> {
    let mode = row.rtmp.ok_or_else(|| configuration("only RTMP has servers"))?;
    let name = format!("smoke-{}", std::process::id());
    let camera = sim::Camera {
        target: name.parse().map_err(configuration)?,
        label: "smoke".into(),
        size: SIZE,
        fps: FPS.into(),
        frames: 0,
    };
    Ok(Plan {
        nats: None,
        record_dir: None,
        input: Input::Dummy(camera),
        queue_size: 1,
        coherence: Coherence::Verify,
        encoding: Encoding {
            codec: row.codec,
            candidates: candidates("auto", row.codec)?,
            bitrate: 2000,
            fps: FPS,
            gop: FPS,
            b_frames: 0,
        },
        rtp: None,
        rtmp: Some(Rtmp { url, mode, retry: Some(0), repeat_headers: false }),
        max_frames: None,
        idle_timeout: None,
        print: false,
        json: false,
    })
}

/// What came back.
#[derive(Debug, Default)]
struct Seen {
    pictures: AtomicU64,
    /// Of these, such that show a frame count that is later than the one before.
    ours: AtomicU64,
}

struct Reader {
    url: Url,
    row: Row,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
}

impl Reader {
    /// Plays until it is stopped, again and again where there is no stream yet; returns the last error.
    fn read(&self) -> String {
        let mut trouble = "the stream never began".to_owned();
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.play() {
                trouble = error;
                std::thread::sleep(RETRY);
            }
        }
        trouble
    }

    fn play(&self) -> Result<(), String> {
        let codec = self.row.codec.name();
        let launch = format!(
            "rtmp2src name=src ! flvh265demux ! {codec}parse ! avdec_{codec} ! videoconvert ! video/x-raw,format=GRAY8 \
             ! appsink name=out sync=false"
        );
        let pipeline = gst::parse::launch(&launch).map_err(|error| error.to_string())?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("several elements are a pipeline");
        pipeline.by_name("src").expect("it is in the line").set_property("location", self.url.as_str());
        let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().expect("it is in the line");
        let result = match pipeline.set_state(gst::State::Playing) {
            Ok(_) => self.watch(&pipeline, &sink),
            Err(error) => Err(error.to_string()),
        };
        let _ = pipeline.set_state(gst::State::Null);
        result
    }

    fn watch(&self, pipeline: &gst::Pipeline, sink: &gst_app::AppSink) -> Result<(), String> {
        let bus = pipeline.bus().expect("pipelines have a bus");
        let pattern = Pattern::new(PixelFormat::Gray, Depth::U8, SIZE.0, SIZE.1).expect("large enough");
        let mut last = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(sample) = sink.try_pull_sample(TICK) else {
                if let Some(error) = first_error(&bus) {
                    return Err(error.text);
                }
                if sink.is_eos() {
                    return Err("the server ended the stream".into());
                }
                continue;
            };
            self.seen.pictures.fetch_add(1, Ordering::Relaxed);
            let count = frame_count(&pattern, &sample);
            if count.is_some() && count > last {
                last = count;
                self.seen.ours.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

fn frame_count(pattern: &Pattern, sample: &gst::Sample) -> Option<u32> {
    let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
    if (info.width(), info.height()) != SIZE {
        return None;
    }
    pattern.read_luma(sample.buffer()?, &info)
}
