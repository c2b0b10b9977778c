// SPDX-License-Identifier: MPL-2.0

//! The five rows of the matrix, with no outside server.

use super::Spec;
use super::frames::{self, percentile};
use super::line::{Line, PAYLOAD_TYPE, SDP, Setup};
use super::rig::{Rig, Step, ms};
use crate::matrix;
use crate::run::plan::{Codec, RtmpMode};

/// Pictures that each row waits for.
const PICTURES: usize = 60;

/// The rows in the order they run: those of the matrix.
pub fn rows() -> Vec<Spec> {
    matrix::ROWS.iter().map(|row| Spec { name: row.name, seconds: 40, run }).collect()
}

fn run(rig: &mut Rig) -> Step {
    let row = matrix::parse(rig.name())?;
    match row.rtmp {
        None => rtp(rig, row.codec),
        Some(mode) => rtmp(rig, row.codec, mode),
    }
}

fn rtp(rig: &mut Rig, codec: Codec) -> Step {
    let codec = codec.name();
    let mut line = Line::start(rig, Setup { codec, size: (640, 360), ..Setup::default() })?;
    let port = line.rtp_port;
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;
    let told = &ended.rtp_summary;
    // The receiver was told no codec.
    rig.holds("the receiver read the session description", told["sdp"] == true);
    rig.holds(&format!("the session description and the stream are {codec}"), told["codec"] == codec);
    let description = std::fs::read_to_string(rig.file(SDP)).unwrap_or_default();
    for line in ["c=IN IP4 127.0.0.1".to_owned(), format!("m=video {port} RTP/AVP {PAYLOAD_TYPE}")] {
        rig.holds(
            &format!("the session description says {line}"),
            description.lines().any(|found| found == line),
        );
    }
    rig.at_least("packets", told["packets"].as_f64(), 60.0, "packets");
    rig.at_least("key frames", told["key_frames"].as_f64(), 2.0, "pictures");
    decoded(rig, &ended.rtp, &ended.rtp_shown());
    Ok(())
}

fn rtmp(rig: &mut Rig, codec: Codec, mode: RtmpMode) -> Step {
    // What the receiver is told, which refuses anything else, and what onMetaData has to say.
    let (receiver, codec_id) = match (codec, mode) {
        (Codec::H264, _) => ("h264", 7),
        (Codec::H265, RtmpMode::Enhanced) => ("h265-enhanced", u32::from_be_bytes(*b"hvc1")),
        (Codec::H265, RtmpMode::Domestic) => ("h265-domestic", 12),
    };
    let codec = codec.name();
    let setup = Setup { codec, size: (640, 360), rtp: false, rtmp: Some(receiver), ..Setup::default() };
    let mut line = Line::start(rig, setup)?;
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;
    let told = &ended.rtmp_summary;
    rig.equals("publishers", told["sessions"].as_f64(), 1.0, "sessions");
    let id = told["metadata"]["videocodecid"].as_f64();
    rig.equals("videocodecid of onMetaData", id, f64::from(codec_id), "id");
    rig.equals("sequence headers that differ", told["configurations"].as_f64(), 1.0, "headers");
    rig.at_least("video frames", told["frames"].as_f64(), PICTURES as f64, "frames");
    rig.at_least("key frames", told["key_frames"].as_f64(), 2.0, "pictures");
    decoded(rig, &ended.rtmp, &ended.rtmp_shown());
    Ok(())
}

/// Pictures were really decoded, and they are those of the producer, in order.
fn decoded(rig: &mut Rig, pictures: &[frames::Picture], shown: &[frames::Shown]) {
    rig.at_least("pictures decoded", Some(pictures.len() as f64), PICTURES as f64, "pictures");
    let counts: Vec<u32> = pictures.iter().filter_map(|picture| picture.count).collect();
    let back = counts.windows(2).filter(|pair| pair[1] <= pair[0]).count();
    rig.equals("frame counts of the producer that do not go up", Some(back as f64), 0.0, "pictures");
    let unknown = counts.len() - shown.len();
    rig.equals("pictures that the producer did not publish before", Some(unknown as f64), 0.0, "pictures");
    let sized = pictures.iter().filter(|picture| (picture.width, picture.height) == (640, 360)).count();
    rig.equals("pictures of another size", Some((pictures.len() - sized) as f64), 0.0, "pictures");
    let latencies: Vec<u64> = shown.iter().map(frames::Shown::latency_ns).collect();
    for percent in [50, 99] {
        let value = percentile(&latencies, percent).map(ms);
        rig.number(&format!("latency from publication to the receiver, p{percent}"), value, "ms");
    }
}
