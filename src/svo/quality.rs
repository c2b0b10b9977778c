// SPDX-License-Identifier: MPL-2.0

//! Constant quality, for encoders of any make: what a property of that name means, not which element it belongs to.

use super::options::{Encoding, Preset};
use crate::run::plan::Codec;
use crate::run::stage::Stage;

/// Key frames are no further apart, so that players seek well.
const KEY_FRAMES_S: f64 = 2.0;
/// What x265 gives itself on machines with many cores.
const MOST_FRAME_THREADS: usize = 6;

/// Sets what this version of the encoder has, for frames that come at about `fps`.
///
/// No encoder reorders frames: sample N of the file is frame N, and its times need no edit list.
pub fn encoder(stage: &mut Stage, encoding: &Encoding, fps: f64) {
    let speed = match (encoding.codec, encoding.preset) {
        (Codec::H264, Preset::Fast) => "veryfast",
        (Codec::H264, Preset::Balanced) => "medium",
        (Codec::H264, Preset::Quality) => "slower",
        // x265 is several times as slow as x264 at the same name.
        (Codec::H265, Preset::Fast) => "superfast",
        (Codec::H265, Preset::Balanced) => "fast",
        (Codec::H265, Preset::Quality) => "slow",
    };
    // NVENC's names up to GStreamer 1.22, and those of later ones.
    let nvenc = match encoding.preset {
        Preset::Fast => ["hp", "p2"],
        Preset::Balanced => ["default", "p4"],
        Preset::Quality => ["hq", "p7"],
    };
    let quality = encoding.quality.to_string();
    let gop = (fps * KEY_FRAMES_S).round().clamp(1.0, 10_000.0).to_string();
    stage.wish_any(&["preset"], &nvenc);
    stage.wish("speed-preset", speed);
    stage.wish_any(&["key-int-max", "gop-size"], &[&gop]);
    let by_name = stage.wish("pass", "qual") && stage.wish("quantizer", &quality);
    let constant = !by_name && stage.wish_any(&["rc-mode", "rate-control"], &["constqp"]);
    if constant && !stage.wish("qp-const", &quality) {
        for name in ["qp-i", "qp-p", "qp-b"] {
            stage.wish(name, &quality);
        }
    }
    let no_b_frames = stage.wish_any(&["bframes", "b-frames", "max-bframes"], &["0"]);
    let own_threads = encoding.threads.is_some_and(|threads| stage.wish("threads", &threads.to_string()));
    if !by_name && !constant && !no_b_frames {
        // x265 has these as options alone. Without open groups of pictures, each key frame is one to begin at.
        let mut options = format!("crf={quality}:bframes=0:open-gop=0");
        if let Some(threads) = encoding.threads.filter(|_| !own_threads) {
            // Rows of a picture are worked at by the pool; pictures that are begun at once have a thread each besides.
            options += &format!(":pools={threads}:frame-threads={}", threads.min(MOST_FRAME_THREADS));
        }
        stage.wish("option-string", &options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(factory: &str, codec: Codec, preset: Preset, threads: Option<usize>) -> String {
        gst::init().unwrap();
        let encoding = Encoding { codec, candidates: vec![], preset, quality: 23, threads };
        let mut stage = Stage::new(factory).unwrap();
        encoder(&mut stage, &encoding, 15.0);
        stage.text().to_owned()
    }

    #[test]
    fn each_encoder_is_told_what_it_knows() {
        assert_eq!(
            tuned("x264enc", Codec::H264, Preset::Balanced, None),
            "x264enc speed-preset=medium key-int-max=30 pass=qual quantizer=23 bframes=0"
        );
        assert_eq!(
            tuned("x265enc", Codec::H265, Preset::Quality, None),
            "x265enc speed-preset=slow key-int-max=30 option-string=crf=23:bframes=0:open-gop=0"
        );
        assert!(tuned("x264enc", Codec::H264, Preset::Fast, Some(1)).contains(" threads=1"));
        assert!(tuned("x265enc", Codec::H265, Preset::Fast, Some(2)).contains(":pools=2:frame-threads=2"));
    }
}
