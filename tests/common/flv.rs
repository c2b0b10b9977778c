// SPDX-License-Identifier: MPL-2.0

//! RTMP servers of others, what we publish to them and what they give to players.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use gst::prelude::*;

use super::{PATIENCE, Process, init, readers, run, text, wait_for};

pub const PATIENCE_GST: gst::ClockTime = gst::ClockTime::from_seconds(PATIENCE.as_secs());

/// A port of the loopback that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Some process listens there; connecting to see would take a server's only connection.
fn listens(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let local = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(local.as_str()) && fields.nth(1) == Some(LISTEN)
    })
}

/// Whatever was written to connections of that port has been read.
fn nothing_queued(port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().all(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ours = fields[3] == ESTABLISHED && fields[1..3].iter().any(|end| end.ends_with(&port));
        !ours || fields[4] == "00000000:00000000"
    })
}

/// Starts what listens on a port, again on another one where somebody else was quicker.
fn on_free_port(mut start: impl FnMut(u16) -> Process) -> (u16, Process) {
    for _ in 0..5 {
        let port = free_port();
        let mut process = start(port);
        let mut gone = false;
        wait_for("the server to listen", || {
            gone = process.0.try_wait().unwrap().is_some();
            gone || listens(port)
        });
        if !gone {
            return (port, process);
        }
    }
    panic!("no server could be started");
}

/// nginx-rtmp with the applications of tests/readers/nginx.conf.in.
pub struct Nginx {
    pub process: Process,
    port: u16,
    dir: tempfile::TempDir,
}

impl Nginx {
    pub fn start() -> Self {
        readers::folder();
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/nginx.conf.in");
        let template = std::fs::read_to_string(template).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (port, process) = on_free_port(|port| {
            let place = dir.path().to_str().unwrap();
            let config = template.replace("@PORT@", &port.to_string()).replace("@DIR@", place);
            std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
            let mut command = Command::new("/usr/sbin/nginx");
            command.arg("-p").arg(place).arg("-e").arg(dir.path().join("error.log"));
            Process::spawn(command.arg("-c").arg(dir.path().join("nginx.conf")).stderr(Stdio::null()))
        });
        Self { process, port, dir }
    }

    pub fn url(&self, application: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{application}/cam0", self.port)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn logged(&self, what: &str) -> usize {
        std::fs::read(self.dir.path().join("error.log")).map_or(0, |log| text(&log).matches(what).count())
    }

    /// Waits until so many players have asked for a stream since the start.
    pub fn wait_for_players(&self, count: usize) {
        wait_for("the players to subscribe", || self.logged(" play: name=") >= count);
    }

    /// Waits until the publisher has gone.
    pub fn wait_for_unpublish(&self) {
        wait_for("the publisher to leave", || self.logged("deleteStream") > 0);
    }
}

/// FFmpeg 9 as a server of one publisher, which it writes to a file with times as they came.
pub struct Listener {
    process: Process,
    port: u16,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Listener {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.flv");
        let (port, process) = on_free_port(|port| {
            let mut command = readers::ffmpeg_program();
            command.args(["-loglevel", "error", "-y", "-copyts", "-listen", "1"]);
            command.args(["-i", &format!("rtmp://127.0.0.1:{port}/live/cam0"), "-map", "0"]);
            command
                .args(["-c", "copy", "-flvflags", "no_duration_filesize", "-flush_packets", "1"])
                .arg(&file);
            Process::spawn(command.stderr(Stdio::null()))
        });
        Self { process, port, file, _dir: dir }
    }

    pub fn url(&self) -> String {
        format!("rtmp://127.0.0.1:{}/live/cam0", self.port)
    }

    /// Waits until so many tags of video were taken.
    pub fn wait_for_pictures(&self, count: usize) {
        let is_video = |(kind, _): &(u8, usize)| *kind == 9;
        wait_for("the server to take pictures", || {
            std::fs::read(&self.file).is_ok_and(|file| tags(&file).filter(is_video).count() >= count)
        });
    }

    /// The file, once the publisher has left. It ends with an error, as always when one leaves.
    pub fn file(&mut self) -> &Path {
        wait_for("FFmpeg to end", || self.process.0.try_wait().unwrap().is_some());
        &self.file
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// What goes into the muxer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Avc,
    Enhanced,
    Domestic,
}

impl Dialect {
    pub const ALL: [Self; 3] = [Self::Avc, Self::Enhanced, Self::Domestic];

    pub fn codec(self) -> &'static str {
        if self == Self::Avc { "h264" } else { "h265" }
    }

    /// What the muxer takes.
    pub fn caps(self) -> &'static str {
        match self {
            Self::Avc => "video/x-h264,stream-format=avc,alignment=au",
            _ => "video/x-h265,stream-format=hvc1,alignment=au",
        }
    }

    /// Property settings of flvh265mux.
    pub fn mux(self) -> &'static str {
        if self == Self::Domestic { "mode=domestic" } else { "mode=enhanced" }
    }

    /// A key frame every 15; without reordering.
    pub fn encoder(self) -> &'static str {
        match self {
            Self::Avc => "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15",
            _ => "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15",
        }
    }

    /// With pictures that are decoded before those shown earlier.
    pub fn reordering_encoder(self) -> &'static str {
        match self {
            Self::Avc => "x264enc bframes=2 b-adapt=false speed-preset=veryfast key-int-max=15",
            _ => "x265enc option-string=bframes=2:b-adapt=0 speed-preset=veryfast key-int-max=15",
        }
    }
}

/// Access units with caps, for an appsrc: times begin at `start`, a key frame is first.
pub fn encode(
    dialect: Dialect,
    size: (u32, u32),
    pictures: usize,
    start: gst::ClockTime,
) -> Vec<gst::Sample> {
    init();
    let launch = format!(
        "videotestsrc num-buffers={pictures} \
         ! video/x-raw,format=I420,width={},height={},framerate=30/1 ! {} ! {}parse ! {} \
         ! appsink name=sink sync=false",
        size.0,
        size.1,
        dialect.encoder(),
        dialect.codec(),
        dialect.caps(),
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let restamped = |sample: gst::Sample| {
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
        let mut buffer = sample.buffer_owned().unwrap();
        let time =
            |time: Option<gst::ClockTime>| time.map(|time| start + segment.to_running_time(time).unwrap());
        let (pts, dts) = (time(buffer.pts()), time(buffer.dts()));
        let times = buffer.make_mut();
        times.set_pts(pts);
        times.set_dts(dts);
        gst::Sample::builder().buffer(&buffer).caps(&sample.caps_owned().unwrap()).build()
    };
    let samples: Vec<_> = std::iter::from_fn(|| sink.try_pull_sample(PATIENCE_GST)).map(restamped).collect();
    stop(&pipeline);
    assert_eq!(samples.len(), pictures);
    samples
}

/// A frame as it came to the muxer; running times in milliseconds, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub dts: i64,
    pub pts: i64,
    pub key: bool,
    pub size: usize,
}

type Log = Arc<Mutex<Vec<Sent>>>;

fn running_ms(pad: &gst::Pad, time: gst::ClockTime) -> i64 {
    let event = pad.sticky_event::<gst::event::Segment>(0).unwrap();
    let segment = event.segment().downcast_ref::<gst::ClockTime>().unwrap();
    let ns = match segment.to_running_time_full(time).unwrap() {
        gst::Signed::Positive(time) => time.nseconds() as i64,
        gst::Signed::Negative(time) => -(time.nseconds() as i64),
    };
    ns.div_euclid(1_000_000)
}

fn log(pad: &gst::Pad) -> Log {
    let log = Log::default();
    let seen = log.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let pts = buffer.pts().unwrap();
        seen.lock().unwrap().push(Sent {
            dts: running_ms(pad, buffer.dts().unwrap_or(pts)),
            pts: running_ms(pad, pts),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            size: buffer.size(),
        });
        gst::PadProbeReturn::Ok
    });
    log
}

/// A source, encoders and `flvh265mux ! rtmp2sink`; what comes to the muxer is kept for comparison.
pub struct Publisher {
    pub pipeline: gst::Pipeline,
    video: Log,
    audio: Option<Log>,
    codec: &'static str,
    dir: tempfile::TempDir,
}

/// How a publisher's pipeline is made.
pub struct Plan {
    pub dialect: Dialect,
    /// With AAC.
    pub audio: bool,
    /// Before the encoder's output: `videotestsrc ... ! x265enc ...`, or an appsrc of access units.
    pub video: String,
    /// Of the audio source.
    pub audio_source: &'static str,
    /// Settings of the muxer beside its mode, and of the sink.
    pub mux: String,
    pub sink: String,
}

impl Plan {
    /// Real time and without end.
    pub fn live(dialect: Dialect, audio: bool) -> Self {
        let source =
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=30/1";
        Self {
            dialect,
            audio,
            video: format!("{source} ! {}", dialect.encoder()),
            audio_source: "audiotestsrc is-live=true",
            // So long do the streams wait for each other that no time is corrected; but not where the sink itself waits
            // for the clock, since that takes up the latency before the next frame comes.
            mux: "latency=5000000000".into(),
            sink: "sync=false".into(),
        }
    }

    /// Three seconds, as fast as they go.
    pub fn quick(dialect: Dialect, audio: bool) -> Self {
        let source =
            "videotestsrc num-buffers=90 ! video/x-raw,format=I420,width=160,height=120,framerate=30/1";
        Self {
            video: format!("{source} ! {}", dialect.encoder()),
            // 1024 samples each.
            audio_source: "audiotestsrc num-buffers=130",
            ..Self::live(dialect, audio)
        }
    }
}

impl Publisher {
    pub fn new(plan: &Plan, url: &str) -> Self {
        init();
        let Plan { dialect, audio, video, audio_source, mux, sink } = plan;
        let codec = dialect.codec();
        let dir = tempfile::tempdir().unwrap();
        let elementary = dir.path().join("source").display().to_string();
        let unlimited = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=0";
        let mut launch = format!(
            "flvh265mux name=mux {} {mux} ! rtmp2sink name=sink location={url} {sink} \
             {video} ! tee name=encoded ! {unlimited} ! {codec}parse ! mux.video \
             encoded. ! {unlimited} ! {codec}parse config-interval=-1 \
             ! video/x-{codec},stream-format=byte-stream,alignment=au ! filesink location={elementary}",
            dialect.mux()
        );
        if *audio {
            launch += &format!(
                " {audio_source} ! audio/x-raw,rate=44100,channels=2 ! voaacenc ! aacparse \
                 ! {unlimited} ! mux.audio"
            );
        }
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let mux = pipeline.by_name("mux").unwrap();
        let log_of = |name| log(&mux.static_pad(name).unwrap());
        Self { video: log_of("video"), audio: audio.then(|| log_of("audio")), codec, dir, pipeline }
    }

    pub fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.video.lock().unwrap().clone()
    }

    pub fn sent_audio(&self) -> Vec<Sent> {
        self.audio.as_ref().map_or(Vec::new(), |log| log.lock().unwrap().clone())
    }

    pub fn with_audio(&self) -> bool {
        self.audio.is_some()
    }

    pub fn wait_for_sent(&self, frames: usize) {
        wait_for("frames to be sent", || self.video.lock().unwrap().len() >= frames);
    }

    pub fn stat(&self, field: &str) -> u64 {
        let stats: gst::Structure = self.pipeline.by_name("mux").unwrap().property("stats");
        stats.get(field).unwrap()
    }

    /// Ends a live stream.
    pub fn finish(&self) {
        assert!(self.pipeline.send_event(gst::event::Eos::new()));
        self.wait_for_end();
    }

    /// Waits for EOS and leaves the server. What has not been sent when its pipeline stops, stock rtmp2sink throws away,
    /// so it is stopped once nothing more is on its way.
    pub fn wait_for_end(&self) {
        assert_eq!(end(&self.pipeline), None);
        let sink = self.pipeline.by_name("sink").unwrap();
        let port: i32 = sink.property("port");
        let written = || sink.property::<gst::Structure>("stats").get::<u64>("out-bytes-total").unwrap();
        let (mut last, mut calm) = (0, 0);
        wait_for("all to be sent", || {
            let now = written();
            calm = if now == last && nothing_queued(port as u16) { calm + 1 } else { 0 };
            last = now;
            calm >= 20
        });
        stop(&self.pipeline);
    }

    /// The encoder's pictures, decoded by FFmpeg from the elementary stream.
    pub fn shown(&self) -> Vec<String> {
        let format = if self.codec == "h264" { "h264" } else { "hevc" };
        let mut command = readers::ffmpeg_program();
        command.args(["-loglevel", "error", "-f", format, "-i"]).arg(self.dir.path().join("source"));
        command.args(["-noautoscale", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p"]);
        let output = run(command.args(["-f", "framehash", "-hash", "sha256", "-"]));
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        let hashes = text(&output.stdout);
        let rows = hashes.lines().filter(|line| !line.starts_with('#'));
        rows.map(|row| row.rsplit(',').next().unwrap().trim().to_string()).collect()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Waits for the first error or EOS and returns the error's source and text.
pub fn end(pipeline: &gst::Pipeline) -> Option<String> {
    let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
    let message = pipeline.bus().unwrap().timed_pop_filtered(PATIENCE_GST, &kinds).expect("an error or EOS");
    match message.view() {
        gst::MessageView::Error(error) => Some(format!(
            "{}: {}",
            error.src().map(|source| source.name()).unwrap_or_default(),
            error.error()
        )),
        _ => None,
    }
}

/// To NULL, which must not hang.
pub fn stop(pipeline: &gst::Pipeline) {
    let (done, is_done) = mpsc::channel();
    let stopped = pipeline.clone();
    std::thread::spawn(move || done.send(stopped.set_state(gst::State::Null)));
    is_done.recv_timeout(PATIENCE).expect("stopping hangs").unwrap();
}

/// `rtmp2src ! filesink`.
pub struct Recorder {
    pub pipeline: gst::Pipeline,
    tags: Arc<AtomicUsize>,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Recorder {
    pub fn start(url: &str) -> Self {
        init();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("played.flv");
        let launch = format!("rtmp2src location={url} ! filesink name=sink location={}", file.display());
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let tags = Arc::new(AtomicUsize::new(0));
        let count = tags.clone();
        let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, tags, file, _dir: dir }
    }

    pub fn wait_for_tags(&self, count: usize) {
        wait_for("tags to arrive", || self.tags.load(Ordering::Relaxed) >= count);
    }

    /// What came, once the publisher has gone; to be called once.
    pub fn file(&self) -> &Path {
        assert_eq!(end(&self.pipeline), None);
        stop(&self.pipeline);
        &self.file
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// `rtmp2src ! DEMUX ! DECODER`: the pictures' hashes and times in milliseconds.
pub struct Watcher {
    pipeline: gst::Pipeline,
    seen: Arc<Mutex<Vec<(i64, String)>>>,
}

impl Watcher {
    pub fn start(url: &str, demux: &str, dialect: Dialect, audio: bool) -> Self {
        init();
        let codec = dialect.codec();
        let mut launch = format!(
            "rtmp2src location={url} ! {demux} name=demux demux.video ! {codec}parse ! avdec_{codec} \
             ! videoconvert ! video/x-raw,format=I420 ! fakesink name=sink"
        );
        if audio {
            launch += " demux.audio ! queue ! fakesink";
        }
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pictures = seen.clone();
        let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().unwrap();
            let info = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
            let pts = buffer.pts().unwrap().mseconds() as i64;
            pictures.lock().unwrap().push((pts, picture_hash(buffer, &info)));
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, seen }
    }

    /// What was shown, once the publisher has gone; to be called once.
    pub fn shown(&self) -> Vec<(i64, String)> {
        assert_eq!(end(&self.pipeline), None);
        stop(&self.pipeline);
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// SHA-256 of the packed I420 planes, as the readers make it.
fn picture_hash(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> String {
    use gst_video::prelude::*;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let mut hash = gst::glib::Checksum::new(gst::glib::ChecksumType::Sha256).unwrap();
    for plane in 0..3 {
        let width = frame.comp_width(plane) as usize;
        let lines = frame.plane_data(plane).unwrap().chunks(frame.plane_stride()[plane as usize] as usize);
        lines.take(frame.comp_height(plane) as usize).for_each(|line| hash.update(&line[..width]));
    }
    hash.string().unwrap()
}

/// With the PreviousTagSize behind it.
const FILE_HEADER: usize = 13;
pub const TAG_HEADER: usize = 11;

/// The type of each whole tag of a file, and where it begins.
pub fn tags(file: &[u8]) -> impl Iterator<Item = (u8, usize)> + '_ {
    let mut next = FILE_HEADER;
    std::iter::from_fn(move || {
        let (at, header) = (next, file.get(next..next + TAG_HEADER)?);
        next += TAG_HEADER + u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize + 4;
        (next <= file.len()).then_some((header[0], at))
    })
}

/// A copy of an FLV file beside it, without what stands before the first H.265 sequence header; `None`: it has none.
/// FFmpeg gives a file up that begins with H.265 frames and no header, whatever follows.
pub fn from_first_header(file: &Path) -> Option<PathBuf> {
    let bytes = std::fs::read(file).unwrap();
    let is_header = |&(kind, at): &(u8, usize)| {
        let body = &bytes[at + TAG_HEADER..];
        kind == 9 && (body.starts_with(b"\x90hvc1") || body.starts_with(&[0x1c, 0]))
    };
    let (_, at) = tags(&bytes).find(is_header)?;
    let rest = file.with_extension("rest.flv");
    std::fs::write(&rest, [&bytes[..FILE_HEADER], &bytes[at..]].concat()).unwrap();
    Some(rest)
}

/// FFmpeg 9 as a player that writes the first frames to a file, with times as they came.
pub struct FfmpegPlayer {
    process: Process,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl FfmpegPlayer {
    pub fn start(url: &str, pictures: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("played.flv");
        let mut command = readers::ffmpeg_program();
        // RTMP does not say whether there will be audio: it does not wait for it for long.
        command.args(["-loglevel", "error", "-y", "-analyzeduration", "1000000"]);
        command.args(["-copyts", "-i", url, "-c", "copy"]);
        command.args(["-frames:v", &pictures.to_string()]).arg(&file).stderr(Stdio::null());
        Self { process: Process::spawn(&mut command), file, _dir: dir }
    }

    /// The file, once it has all that it wanted.
    pub fn file(&mut self) -> &Path {
        wait_for("FFmpeg to have its pictures", || self.process.0.try_wait().unwrap().is_some());
        &self.file
    }
}
