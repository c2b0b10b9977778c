// SPDX-License-Identifier: MPL-2.0

//! A folder with recordings, `svo-to-mcap` in it, and what its files show.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

pub use cvmmap_streamer::sim::svo2 as sim;

use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_streamer::pattern::Pattern;
use gst::prelude::*;
use serde_json::Value;

use super::recordings::judge;
use super::{Process, init, readers, run, streamer, text};

/// Of one eye's picture.
pub const SIZE: (u32, u32) = (320, 240);
pub const NS: u64 = 1_000_000_000;

pub struct Folder(tempfile::TempDir);

/// What is in a file, and what its video shows.
pub struct Shown {
    pub facts: Value,
    /// Those that the pictures show.
    pub numbers: Vec<u32>,
    /// I, P or B of each picture.
    pub types: String,
}

impl Folder {
    pub fn new() -> Self {
        init();
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a recording of a few small H.264 pictures, or of what `change` makes of that.
    pub fn record(&self, name: &str, change: impl FnOnce(&mut sim::Recording)) -> sim::Recording {
        let mut recording = sim::Recording {
            size: SIZE,
            frames: 60,
            gop: 15,
            codec: svo2::Codec::H264,
            ..sim::Recording::default()
        };
        change(&mut recording);
        recording.create(&self.path(name), &AtomicBool::new(false)).unwrap();
        recording
    }

    /// A recording of what an encoder makes of 40 pictures, in its order.
    pub fn encode(&self, path: &Path, codec: &str, encoder: &str) {
        let line = format!(
            "videotestsrc pattern=ball num-buffers=40 ! video/x-raw,format=I420,width=320,height=120,framerate=30/1 \
             ! {encoder} ! {codec}parse config-interval=-1 ! video/x-{codec},stream-format=byte-stream,alignment=au \
             ! appsink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let header = svo2::Header { width: 320, height: 120, serial: 1, fps: 30, ..svo2::Header::default() };
        let out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        let mut writer = svo2::Writer::new(out, header, &svo2::Layout::default()).unwrap();
        let mut time = 1_700_000_000 * NS;
        while let Ok(sample) = sink.pull_sample() {
            let unit = sample.buffer().unwrap().map_readable().unwrap().to_vec();
            writer.frame(time, &unit, time.is_multiple_of(NS / 2)).unwrap();
            time += NS / 30;
        }
        writer.finish().unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
    }

    /// A factory calibration for pictures of 672x376.
    pub fn calibration(&self, name: &str) -> PathBuf {
        let eye = |eye: &str, fx: f64, cx: f64| {
            format!(
                "[{eye}_CAM_VGA]\nfx={fx}\nfy={}\ncx={cx}\ncy=186.5\nk1=-0.17\nk2=0.02\np1=0.001\np2=-0.0007\nk3=0.003\n\n",
                fx + 0.5
            )
        };
        let text = format!(
            "{}{}[STEREO]\nBaseline=119.9\nTY=0.05\nTZ=-0.2\nRX_VGA=0.003\nCV_VGA=0.011\nRZ_VGA=-0.002\n",
            eye("LEFT", 350.25, 336.1),
            eye("RIGHT", 351.5, 331.9)
        );
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Changes what a frame says of its own size.
    pub fn damage(&self, name: &str, frame: usize) {
        super::damage(&self.path(name), frame);
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = streamer();
        command.arg("svo-to-mcap").args(line.split_whitespace()).current_dir(self.dir());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        run(&mut self.command(line))
    }

    /// Converts, and returns the line on stdout.
    pub fn convert(&self, line: &str) -> Value {
        let output = self.run(&format!("--json {line}"));
        let talk = text(&output.stderr);
        assert!(output.status.success() && !talk.contains("CRITICAL"), "{line}: {talk}");
        let said = text(&output.stdout);
        assert_eq!(said.lines().count(), 1, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// All names in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = self.dir().read_dir().unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Of what was shown last.
    fn stream(&self) -> PathBuf {
        // Not among the names that are judged.
        self.dir().with_extension("stream")
    }

    pub fn bitstream(&self) -> Vec<u8> {
        std::fs::read(self.stream()).unwrap()
    }

    /// Judges a file, and decodes one of its videos; the numbers stand `x` pixels from the left.
    pub fn show(&self, file: &Path, topic: &str, width: u32, x: u32) -> Shown {
        let stream = self.stream();
        let facts = judge(file, &["--topic", topic, "--bitstream", stream.to_str().unwrap()]);
        let demuxer = match facts["topics"][topic]["formats"][0].as_str() {
            Some("h264") => "h264",
            Some("h265") => "hevc",
            other => panic!("{topic} has {other:?}: {facts}"),
        };
        let mut ffmpeg = readers::ffmpeg_program();
        ffmpeg.args(["-loglevel", "level+info", "-xerror", "-f", demuxer, "-i"]).arg(&stream);
        ffmpeg.args(["-vf", "showinfo=checksum=0", "-fps_mode", "passthrough"]);
        let output = run(ffmpeg.args(["-pix_fmt", "bgr24", "-f", "rawvideo", "-"]));
        let said = text(&output.stderr);
        assert!(output.status.success() && !said.contains("[error]"), "{said}");
        let types = said.split(" type:").skip(1).filter_map(|rest| rest.chars().next()).collect();
        let stride = 3 * width as usize;
        // As high as it comes, which the number of bytes tells.
        let count = facts["topics"][topic]["count"].as_u64().unwrap() as usize;
        assert_eq!(output.stdout.len() % (stride * count), 0, "each message is one picture");
        let height = output.stdout.len() / stride / count;
        // All eyes here are 4:3.
        let eye = (height * 4 / 3) as u32;
        let pattern = Pattern::new(PixelFormat::Bgr, Depth::U8, eye, height as u32).unwrap();
        let pictures = output.stdout.chunks(stride * height);
        let read = |picture: &[u8]| pattern.read_count(&picture[3 * x as usize..], stride).unwrap();
        Shown { facts, numbers: pictures.map(read).collect(), types }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.stream());
    }
}

/// All that a process has said that has ended.
pub fn said(process: &mut Process) -> String {
    let mut said = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}
