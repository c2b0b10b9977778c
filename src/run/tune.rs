// SPDX-License-Identifier: MPL-2.0

//! Low latency, for encoders of any make: what a property of that name means, not which element it belongs to.

use super::plan::{Codec, Encoding};
use super::stage::Stage;

/// Sets what this version of the encoder has.
pub fn encoder(stage: &mut Stage, encoding: &Encoding) {
    // Slow presets are for files; x265 is several times as slow as x264 at the same name.
    let speed = match encoding.codec {
        Codec::H264 => "superfast",
        Codec::H265 => "ultrafast",
    };
    // The NVENC of GStreamer up to 1.22 has 'low-latency-hq', later ones 'p1' to 'p7' beside a tune.
    stage.wish_any(&["preset"], &["low-latency-hq", "p4"]);
    stage.wish_any(&["tune"], &["zerolatency", "ultra-low-latency"]);
    stage.wish("speed-preset", speed);
    stage.wish("zerolatency", "true");
    stage.wish("zero-reorder-delay", "true");
    stage.wish_any(&["rc-lookahead", "lookahead"], &["0"]);
    stage.wish_any(&["rc-mode", "rate-control"], &["cbr"]);
    stage.wish_any(&["key-int-max", "gop-size"], &[&encoding.gop.to_string()]);
    let b_frames = encoding.b_frames;
    let told = stage.wish_any(&["bframes", "b-frames", "max-bframes"], &[&b_frames.to_string()]);
    if !told && b_frames > 0 {
        // x265's tune sets both to 0, and B-frames need to be looked ahead for.
        stage.wish("option-string", &format!("bframes={b_frames}:b-adapt=0:rc-lookahead={}", b_frames + 1));
    }
    let kilo = stage.blurb("bitrate").is_some_and(|blurb| blurb.to_lowercase().contains("kb"));
    let bitrate = u64::from(encoding.bitrate) * if kilo { 1 } else { 1000 };
    stage.wish("bitrate", &bitrate.to_string());
    stage.wish("aud", "false");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned(factory: &str, codec: Codec, b_frames: u32) -> String {
        gst::init().unwrap();
        let encoding = Encoding { codec, candidates: vec![], bitrate: 2500, fps: 30, gop: 25, b_frames };
        let mut stage = Stage::new(factory).unwrap();
        encoder(&mut stage, &encoding);
        stage.text().to_owned()
    }

    #[test]
    fn each_encoder_is_told_what_it_knows() {
        assert_eq!(
            tuned("x264enc", Codec::H264, 0),
            "x264enc tune=zerolatency speed-preset=superfast rc-lookahead=0 key-int-max=25 bframes=0 bitrate=2500 aud=false"
        );
        assert_eq!(
            tuned("x265enc", Codec::H265, 0),
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 bitrate=2500"
        );
        assert!(
            tuned("x265enc", Codec::H265, 2).contains("option-string=bframes=2:b-adapt=0:rc-lookahead=3")
        );
        let openh264 = tuned("openh264enc", Codec::H264, 0);
        assert!(openh264.contains("bitrate=2500000"), "its bitrate is in bits: {openh264}");
        assert!(openh264.contains("gop-size=25"), "{openh264}");
    }
}
