// SPDX-License-Identifier: MPL-2.0

//! The SDP file that a sender writes for its receivers: its video's codec, payload type and parameter sets.

use std::path::Path;

use super::packets::CLOCK_RATE;
use super::{Breach, Codec, Exit};

/// The video that an SDP file describes.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub codec: Codec,
    /// For a depayloader.
    pub caps: gst::Caps,
}

impl Described {
    /// It has all parameter sets, so that the stream need not.
    pub fn has_parameter_sets(&self) -> bool {
        let fields: &[_] = match self.codec {
            Codec::H264 => &["sprop-parameter-sets"],
            Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
        };
        let structure = self.caps.structure(0);
        let has = |field: &&str| structure.is_some_and(|caps| caps.has_field(*field));
        fields.iter().all(has)
    }
}

/// Why there is no description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// No file, or the beginning of one.
    NotYet(String),
    /// It will not become right by waiting.
    Wrong(Breach),
}

/// Reads the file.
pub(super) fn read(path: &Path, payload_type: u8) -> Result<Described, Unusable> {
    let text = std::fs::read(path)
        .map_err(|error| Unusable::NotYet(format!("SDP file {}: {error}", path.display())))?;
    parse(&text, payload_type).map_err(|unusable| match unusable {
        Unusable::NotYet(what) => Unusable::NotYet(format!("SDP file {}: {what}", path.display())),
        Unusable::Wrong(breach) => {
            let what = format!("SDP file {}: {}", path.display(), breach.what);
            Unusable::Wrong(Breach { what, ..breach })
        }
    })
}

fn parse(text: &[u8], payload_type: u8) -> Result<Described, Unusable> {
    let not_yet = |what: &str| Unusable::NotYet(what.into());
    let wrong = |what: String| Unusable::Wrong(Breach::protocol(what));
    // Else its last line may be a part of one.
    if !text.ends_with(b"\n") {
        return Err(not_yet("it does not end with a line's end"));
    }
    let message = gst_sdp::SDPMessage::parse_buffer(text).map_err(|_| not_yet("it is no SDP"))?;
    let video = message.medias().find(|media| media.media() == Some("video"));
    let video = video.ok_or_else(|| not_yet("it has no video"))?;
    let map = video.attribute_val("rtpmap").ok_or_else(|| not_yet("its video has no rtpmap"))?;
    let parts = map.split_once(' ').and_then(|(told, rest)| {
        let (encoding, rate) = rest.trim().split_once('/')?;
        Some((told.parse::<u8>().ok()?, encoding, rate))
    });
    let (told, encoding, rate) = parts.ok_or_else(|| not_yet(&format!("rtpmap '{map}'")))?;
    if told != payload_type {
        let what = format!("payload type {told} is not {payload_type}");
        return Err(Unusable::Wrong(Breach { exit: Exit::PayloadType, what }));
    }
    if video.format(0) != Some(&told.to_string()) {
        return Err(wrong(format!("rtpmap is of {told}, the media line of {:?}", video.format(0))));
    }
    if rate != CLOCK_RATE.to_string() {
        return Err(wrong(format!("clock rate '{rate}' is not {CLOCK_RATE}")));
    }
    let codec = match encoding {
        "H264" => Codec::H264,
        "H265" => Codec::H265,
        other => return Err(wrong(format!("encoding '{other}' is neither H264 nor H265"))),
    };
    let mut caps = video
        .caps_from_media(i32::from(told))
        .ok_or_else(|| wrong(format!("rtpmap '{map}' gives no caps")))?;
    // It comes as application/x-unknown.
    caps.make_mut().structure_mut(0).expect("caps of one structure").set_name("application/x-rtp");
    Ok(Described { codec, caps })
}

/// Caps where there is no SDP.
pub(super) fn plain_caps(codec: Codec, payload_type: u8) -> gst::Caps {
    gst::Caps::builder("application/x-rtp")
        .field("media", "video")
        .field("encoding-name", codec.name().to_uppercase())
        .field("clock-rate", CLOCK_RATE as i32)
        .field("payload", i32::from(payload_type))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                       m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                       a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHg==,aM48\r\n";

    #[test]
    fn a_whole_file_is_understood() {
        gst::init().unwrap();
        let described = parse(SDP.as_bytes(), 96).unwrap();
        assert_eq!(described.codec, Codec::H264);
        assert!(described.has_parameter_sets());
        let without = SDP.replace(";sprop-parameter-sets=Z0LAHg==,aM48", "");
        assert!(!parse(without.as_bytes(), 96).unwrap().has_parameter_sets());
        let structure = described.caps.structure(0).unwrap();
        assert_eq!(structure.name(), "application/x-rtp");
        assert_eq!(structure.get::<i32>("clock-rate"), Ok(90_000));
        assert_eq!(structure.get::<&str>("sprop-parameter-sets"), Ok("Z0LAHg==,aM48"));
        assert!(parse(SDP.replace("H264", "H265").as_bytes(), 96).is_ok_and(|d| d.codec == Codec::H265));
    }

    #[test]
    fn each_rule_broken_once() {
        gst::init().unwrap();
        for (from, to, exit, what) in [
            ("H264/90000", "H264/8000", 7, "clock rate '8000' is not 90000"),
            ("H264", "VP8", 7, "encoding 'VP8' is neither H264 nor H265"),
            ("RTP/AVP 96", "RTP/AVP 97", 7, "rtpmap is of 96, the media line of Some(\"97\")"),
            ("96", "98", 3, "payload type 98 is not 96"),
        ] {
            let Err(Unusable::Wrong(found)) = parse(SDP.replace(from, to).as_bytes(), 96) else {
                panic!("{what}")
            };
            assert_eq!((found.exit as u8, found.what.as_str()), (exit, what));
        }
    }

    #[test]
    fn the_beginning_of_a_file_is_waited_for() {
        gst::init().unwrap();
        let rate = SDP.find("90000").unwrap();
        for end in 0..rate + 5 {
            let found = parse(&SDP.as_bytes()[..end], 96).map(|described| described.codec);
            assert!(matches!(found, Err(Unusable::NotYet(_))), "{:?}: {found:?}", &SDP[..end]);
        }
        let missing = read(Path::new("/nonexistent/cam.sdp"), 96).unwrap_err();
        assert!(matches!(missing, Unusable::NotYet(what) if what.contains("/nonexistent/cam.sdp")));
    }
}
