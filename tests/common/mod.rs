// SPDX-License-Identifier: MPL-2.0

//! What the tests share: producers as processes, consumers as pipelines, and names that do not collide.

#![allow(dead_code, missing_docs)]

pub mod batch;
pub mod demux_rig;
pub mod encoders;
pub mod flv;
pub mod mcap_rig;
pub mod mux_rig;
pub mod nats;
pub mod nats_peer;
pub mod readers;
pub mod recordings;
pub mod svo_made;
pub mod svo_mp4;
pub mod zedsvo;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once};
use std::time::{Duration, Instant};

use cvmmap_streamer::pattern::Pattern;
use gst::prelude::*;

/// No step of a test takes longer on a working system, however loaded it is.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstcvmmap::plugin_register_static().unwrap();
        gstflvh265::plugin_register_static().unwrap();
        gstzedsvo::plugin_register_static().unwrap();
    });
}

/// Held by tests that count frames: on two cores, others beside them would take the frames' time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A target name that no other test uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn streamer() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cvmmap-streamer"))
}

/// Changes what a frame of a recording says of its own size.
pub fn damage(recording: &Path, frame: usize) {
    let mut bytes = std::fs::read(recording).unwrap();
    let unit = svo2::Reader::new(svo2::Recording::open(recording).unwrap()).unit(frame).unwrap();
    let at = bytes.windows(unit.len()).position(|window| window == unit).unwrap();
    bytes[at - 4] ^= 0xff;
    std::fs::write(recording, bytes).unwrap();
}

/// The folder with nothing but the plugins in it, for GST_PLUGIN_PATH.
pub fn plugin_dir() -> &'static Path {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
        let profile = Path::new(env!("CARGO_BIN_EXE_cvmmap-streamer")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build
            .args([
                "build",
                "--quiet",
                "-p",
                "gst-plugin-cvmmap",
                "-p",
                "gst-plugin-flvh265",
                "-p",
                "gst-plugin-zedsvo",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "building the plugins failed");
        let dir = profile.join("gstreamer-1.0");
        std::fs::create_dir_all(&dir).unwrap();
        // Renamed into place, since tests of several binaries may do this.
        for library in ["libgstcvmmap.so", "libgstflvh265.so", "libgstzedsvo.so"] {
            let temporary = dir.join(format!(".{}.tmp", std::process::id()));
            std::fs::copy(profile.join(library), &temporary).unwrap();
            std::fs::rename(temporary, dir.join(library)).unwrap();
        }
        dir
    });
    &DIR
}

/// A stock GStreamer tool that sees our plugin, with a registry of its own.
pub fn gst_tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env("GST_PLUGIN_PATH", plugin_dir())
        .env("GST_REGISTRY", plugin_dir().join(format!("registry-{}.bin", std::process::id())))
        .env("LANGUAGE", "C");
    command
}

/// Runs a command to its end, or kills it and panics.
pub fn run(command: &mut Command) -> Output {
    run_within(PATIENCE, command)
}

/// As [`run`], for a command that does many steps.
pub fn run_within(patience: Duration, command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || read_all(&mut pipes.0));
    let err = std::thread::spawn(move || read_all(&mut pipes.1));
    let end = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that ends with its owner.
pub struct Process(pub Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// SIGKILL: nothing is cleaned up.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulator process that publishes under `target`; returns once its segment is there.
pub fn sim(target: &str, args: &str) -> Process {
    let segment = target.parse::<cvmmap_ipc::Target>().unwrap().shm_name();
    let mut command = streamer();
    command.arg("sim").arg(target).args(args.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::spawn(&mut command);
    wait_for("the simulator's segment", || {
        cvmmap_ipc::peek_segment(&segment).is_ok_and(|info| info.header.is_ok())
    });
    process
}

/// `cvmmapsrc PROPERTIES ! appsink`, whose frames are checked against the simulator's picture.
pub struct Consumer {
    pub pipeline: gst::Pipeline,
    pub source: gst::Element,
    pub sink: gst_app::AppSink,
}

/// What is kept of a sample.
#[derive(Debug, Clone)]
pub struct Seen {
    pub count: u32,
    pub pts: gst::ClockTime,
    pub flags: gst::BufferFlags,
    pub caps: gst::Caps,
    /// The picture is one whole frame of the simulator, and the one that the offset names.
    pub whole: Result<(), String>,
}

impl Consumer {
    pub fn new(properties: &str) -> Self {
        Self::with(properties, "")
    }

    /// `between` goes between the source and the sink, with its trailing `!`.
    pub fn with(properties: &str, between: &str) -> Self {
        init();
        let launch = format!("cvmmapsrc name=src {properties} ! {between} appsink name=sink sync=false");
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let source = pipeline.by_name("src").unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast().unwrap();
        Self { pipeline, source, sink }
    }

    pub fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    pub fn playing(properties: &str) -> Self {
        let consumer = Self::new(properties);
        consumer.play();
        consumer
    }

    pub fn sample(&self) -> gst::Sample {
        let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
        self.sink.try_pull_sample(patience).unwrap_or_else(|| panic!("no frame came: {:?}", self.errors()))
    }

    pub fn next(&self) -> Seen {
        see(&self.sample())
    }

    pub fn take(&self, frames: usize) -> Vec<Seen> {
        (0..frames).map(|_| self.next()).collect()
    }

    pub fn stats(&self) -> gst::Structure {
        self.source.property("stats")
    }

    pub fn stat(&self, field: &str) -> u64 {
        self.stats().get(field).unwrap()
    }

    /// Takes the messages that came so far.
    pub fn messages(&self) -> Vec<gst::Message> {
        let bus = self.pipeline.bus().unwrap();
        std::iter::from_fn(|| bus.pop()).collect()
    }

    pub fn errors(&self) -> Vec<String> {
        self.messages()
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Error(error) => Some(error.error().to_string()),
                _ => None,
            })
            .collect()
    }

    /// Waits for the first error or EOS and returns the error's text.
    pub fn end(&self) -> Option<String> {
        let bus = self.pipeline.bus().unwrap();
        let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
        let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
        let message = bus.timed_pop_filtered(patience, &kinds).expect("an error or EOS");
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A channel that gets the downstream force-key-unit events from now on.
pub fn force_key_units(consumer: &Consumer) -> std::sync::mpsc::Receiver<()> {
    let (send, receive) = std::sync::mpsc::channel();
    let pad = consumer.source.static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(event) = info.event()
            && gst_video::DownstreamForceKeyUnitEvent::parse(event).is_ok()
        {
            let _ = send.send(());
        }
        gst::PadProbeReturn::Ok
    });
    receive
}

/// The states that `cvmmapsrc-state` messages told, in order.
pub fn states(messages: &[gst::Message]) -> Vec<String> {
    messages
        .iter()
        .filter_map(|message| message.structure().filter(|s| s.name() == "cvmmapsrc-state"))
        .map(|structure| structure.get("state").unwrap())
        .collect()
}

pub fn see(sample: &gst::Sample) -> Seen {
    let buffer = sample.buffer().unwrap();
    let caps = sample.caps().unwrap().to_owned();
    let count = buffer.offset() as u32;
    Seen { count, pts: buffer.pts().unwrap(), flags: buffer.flags(), whole: whole(sample, count), caps }
}

fn whole(sample: &gst::Sample, count: u32) -> Result<(), String> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).map_err(|e| e.to_string())?;
    let (format, depth) = gstcvmmap::wire_format(info.format()).ok_or("not a left plane")?;
    let pattern = Pattern::new(format, depth, info.width(), info.height()).ok_or("too small")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    use gst_video::prelude::*;
    let stride = frame.plane_stride()[0] as usize;
    let shown = pattern.check(frame.plane_data(0).unwrap(), stride).map_err(|e| e.to_string())?;
    if shown == count { Ok(()) } else { Err(format!("offset {count} shows frame {shown}")) }
}
