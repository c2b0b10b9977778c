// SPDX-License-Identifier: MPL-2.0

//! The five rows of the matrix, with no outside server.

use super::frames::{self, percentile};
use super::line::{Line, Setup};
use super::rig::{Rig, Step, ms};
use super::{Spec, rows};

/// Pictures that each row waits for.
const PICTURES: usize = 60;

/// The rows in the order they run.
pub const ROWS: &[Spec] = rows![
    ("rtp-h264", 40, |rig| rtp(rig, "h264")),
    ("rtp-h265", 40, |rig| rtp(rig, "h265")),
    ("rtmp-h264", 40, |rig| rtmp(rig, "h264", "h264", 7)),
    ("rtmp-h265-enhanced", 40, |rig| rtmp(rig, "h265", "h265-enhanced", u32::from_be_bytes(*b"hvc1"))),
    ("rtmp-h265-domestic", 40, |rig| rtmp(rig, "h265", "h265-domestic", 12)),
];

fn rtp(rig: &mut Rig, codec: &'static str) -> Step {
    let mut line = Line::start(rig, Setup { codec, size: (640, 360), ..Setup::default() })?;
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;
    let told = &ended.rtp_summary;
    rig.holds(&format!("the receiver saw {codec}"), told["codec"] == codec);
    rig.equals("payload type", told["payload_type"].as_f64(), 97.0, "payload type");
    rig.at_least("packets", told["packets"].as_f64(), 60.0, "packets");
    rig.at_least("key frames", told["key_frames"].as_f64(), 2.0, "pictures");
    rig.holds("the session description was written", rig.file("stream.sdp").is_file());
    decoded(rig, &ended.rtp, &ended.rtp_shown());
    Ok(())
}

fn rtmp(rig: &mut Rig, codec: &'static str, mode: &'static str, codec_id: u32) -> Step {
    let setup = Setup { codec, size: (640, 360), rtp: false, rtmp: Some(mode), ..Setup::default() };
    let mut line = Line::start(rig, setup)?;
    line.wait_for_pictures(rig, PICTURES)?;
    let ended = line.finish(rig)?;
    let told = &ended.rtmp_summary;
    rig.holds(&format!("the receiver saw {mode}"), told["mode"] == mode);
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_rows_are_those_of_the_matrix() {
        let ours = super::ROWS.iter().map(|row| row.name);
        assert!(ours.eq(crate::matrix::ROWS.iter().map(|row| row.name)));
    }
}
