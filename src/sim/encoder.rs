// SPDX-License-Identifier: MPL-2.0

//! The simulator's access units: one picture in, one access unit out, through a stock software encoder.

use cvmmap_ipc::metadata::{Bitstream, Codec, Depth, EncodedInfo, PixelFormat};
use gst::prelude::*;

use crate::exit::{Exit, Failure};

pub(super) struct Encoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    codec: Codec,
    fps: gst::Fraction,
    frames: u64,
}

/// What goes in, and how it comes out.
pub(super) struct Encoding {
    pub codec: Codec,
    pub format: (PixelFormat, Depth),
    pub size: (u32, u32),
    /// 0 = 30.
    pub fps: f64,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// H.264 without key frames but the first: each period refreshes the picture column by column.
    pub intra_refresh: bool,
}

pub(super) struct AccessUnit {
    pub bytes: Vec<u8>,
    pub info: EncodedInfo,
}

/// An encoder that takes longer for one picture does not work.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(10);

impl Encoder {
    pub fn start(encoding: &Encoding) -> Result<Self, Failure> {
        let Encoding { codec, gop, .. } = *encoding;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(
                Exit::Pipeline,
                format!("the {codec} encoder of the simulator cannot start: {error}"),
            )
        };
        gst::init().map_err(|error| failed(&error))?;
        // Zero latency: every picture's access unit comes before the next picture goes in.
        let chain = match codec {
            Codec::H265 => format!(
                "x265enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} ! h265parse config-interval=-1 \
                 ! video/x-h265,stream-format=byte-stream,alignment=au"
            ),
            _ => format!(
                "x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} intra-refresh={} \
                 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
                encoding.intra_refresh
            ),
        };
        let launch = format!(
            "appsrc name=in format=time ! videoconvert ! video/x-raw,format=I420 ! {chain} ! appsink name=out sync=false"
        );
        let pipeline = gst::parse::launch(&launch)
            .map_err(|error| failed(&error))?
            .downcast::<gst::Pipeline>()
            .expect("a launch line of several elements is a pipeline");
        let find = |name| pipeline.by_name(name).expect("it is in the launch line");
        let source = find("in").downcast::<gst_app::AppSrc>().expect("appsrc");
        let sink = find("out").downcast::<gst_app::AppSink>().expect("appsink");

        let fps = if encoding.fps > 0.0 { (encoding.fps * 1000.0).round() as i32 } else { 30_000 };
        let fps = gst::Fraction::new(fps.max(1), 1000);
        let (format, depth) = encoding.format;
        let format = gstcvmmap::raw_format(format, depth)
            .ok_or_else(|| failed(&format!("{format} pictures of {depth} are not known to GStreamer")))?;
        let caps = gst_video::VideoCapsBuilder::new()
            .format(format)
            .width(encoding.size.0 as i32)
            .height(encoding.size.1 as i32)
            .framerate(fps)
            .build();
        source.set_caps(Some(&caps));
        pipeline.set_state(gst::State::Playing).map_err(|error| failed(&error))?;
        Ok(Self { pipeline, source, sink, codec, fps, frames: 0 })
    }

    /// Encodes a packed picture.
    pub fn encode(&mut self, picture: &[u8]) -> Result<AccessUnit, Failure> {
        let failed =
            |why: String| Failure::new(Exit::Pipeline, format!("encoding the simulator's picture: {why}"));
        let pts = gst::ClockTime::SECOND
            .mul_div_floor(self.frames * self.fps.denom() as u64, self.fps.numer() as u64)
            .unwrap_or_default();
        self.frames += 1;
        let mut buffer = self.picture_buffer(picture);
        buffer.make_mut().set_pts(pts);
        self.source.push_buffer(buffer).map_err(|error| failed(error.to_string()))?;
        let sample = self.sink.try_pull_sample(PATIENCE).ok_or_else(|| failed(self.trouble()))?;
        let buffer = sample.buffer().ok_or_else(|| failed("a sample without a buffer".into()))?;
        let bytes = buffer.map_readable().map_err(|error| failed(error.to_string()))?.to_vec();
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let info = EncodedInfo {
            codec: self.codec,
            bitstream: Bitstream::AnnexB,
            flags: u16::from(key),
            frame_rate: frame_rate(self.fps),
            stream_pts_ns: pts.nseconds(),
        };
        Ok(AccessUnit { bytes, info })
    }

    /// Rows as GStreamer lays them out by default, which pads them to four bytes.
    fn picture_buffer(&self, picture: &[u8]) -> gst::Buffer {
        let caps = self.source.caps().expect("set at the start");
        let info = gst_video::VideoInfo::from_caps(&caps).expect("built from a format");
        let (rows, stride) = (info.height() as usize, info.stride()[0] as usize);
        let row = picture.len() / rows;
        let mut padded = vec![0; info.size()];
        for (to, from) in padded.chunks_mut(stride).zip(picture.chunks(row)) {
            to[..row].copy_from_slice(from);
        }
        gst::Buffer::from_mut_slice(padded)
    }

    fn trouble(&self) -> String {
        let bus = self.pipeline.bus().expect("pipelines have a bus");
        match bus.pop_filtered(&[gst::MessageType::Error]).as_deref().map(gst::MessageRef::view) {
            Some(gst::MessageView::Error(error)) => error.error().to_string(),
            _ => format!("nothing came out in {PATIENCE}"),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The wire has 16 bits for each part.
fn frame_rate(fps: gst::Fraction) -> (u16, u16) {
    let (numer, denom) = (fps.numer(), fps.denom());
    match (u16::try_from(numer), u16::try_from(denom)) {
        (Ok(numer), Ok(denom)) => (numer, denom),
        _ => (u16::try_from(numer / denom).unwrap_or(0), 1),
    }
}
