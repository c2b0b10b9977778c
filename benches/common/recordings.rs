// SPDX-License-Identifier: MPL-2.0

//! Recordings as large as a camera's, and whole processes that work on them.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use gst::prelude::*;
use svo2::{Header, Layout, Writer};

pub const BYTES: u64 = 768 << 20;
pub const GOP: usize = 30;
/// Of both views.
pub const SIZE: (u32, u32) = (2560, 720);

/// Seconds; every run begins without the file, and with nothing waiting for the disk.
pub fn timed(output: &Path, work: impl FnOnce()) -> f64 {
    let _ = std::fs::remove_file(output);
    rustix::fs::sync();
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Access units of one group of pictures, as large as a camera's: 40 MB/s of noise.
pub fn units(codec: &str, pattern: &str, count: usize) -> Vec<Vec<u8>> {
    let (width, height) = SIZE;
    let encoder = match codec {
        "h264" => "x264enc speed-preset=ultrafast key-int-max=30 pass=quant quantizer=38 bframes=0",
        _ => "x265enc speed-preset=ultrafast option-string=keyint=30:qp=38:bframes=0",
    };
    let line = format!(
        "videotestsrc pattern={pattern} num-buffers={count} ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
         ! {encoder} ! {codec}parse config-interval=-1 ! video/x-{codec},stream-format=byte-stream,alignment=au \
         ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = std::iter::from_fn(|| sink.pull_sample().ok());
    let units = samples.map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec()).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    units
}

/// Writes the units again and again, up to so many frames or bytes; tells how many it wrote.
pub fn record(path: &Path, units: &[Vec<u8>], frames: usize) -> usize {
    let header = Header { width: SIZE.0, height: SIZE.1, serial: 1, fps: 30, ..Header::default() };
    let out = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = Writer::new(out, header, &Layout::default()).unwrap();
    let (mut bytes, mut count) = (0, 0);
    while count < frames && bytes < BYTES {
        let number = count % units.len();
        let time = 1_700_000_000_000_000_000 + count as u64 * 33_333_333;
        writer.frame(time, &units[number], number.is_multiple_of(GOP)).unwrap();
        (bytes, count) = (bytes + units[number].len() as u64, count + 1);
    }
    writer.finish().unwrap().flush().unwrap();
    count
}
