// SPDX-License-Identifier: MPL-2.0

//! The SDP file that a sender writes for its receivers: its video's codec, payload type and parameter sets.

use std::net::IpAddr;
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
pub(super) fn read(path: &Path, payload_type: u8, port: u16) -> Result<Described, Unusable> {
    let text = std::fs::read(path)
        .map_err(|error| Unusable::NotYet(format!("SDP file {}: {error}", path.display())))?;
    parse(&text, payload_type, port).map_err(|unusable| match unusable {
        Unusable::NotYet(what) => Unusable::NotYet(format!("SDP file {}: {what}", path.display())),
        Unusable::Wrong(breach) => {
            let what = format!("SDP file {}: {}", path.display(), breach.what);
            Unusable::Wrong(Breach { what, ..breach })
        }
    })
}

fn parse(text: &[u8], payload_type: u8, port: u16) -> Result<Described, Unusable> {
    let not_yet = |what: &str| Unusable::NotYet(what.into());
    let wrong = |what: String| Unusable::Wrong(Breach::protocol(what));
    // Else its last line may be a part of one.
    if !text.ends_with(b"\n") {
        return Err(not_yet("it does not end with a line's end"));
    }
    let message = gst_sdp::SDPMessage::parse_buffer(text).map_err(|_| not_yet("it is no SDP"))?;
    let video = message.medias().find(|media| media.media() == Some("video"));
    let video = video.ok_or_else(|| not_yet("it has no video"))?;
    let mut maps = Vec::new();
    for map in (0..).map_while(|nth| video.attribute_val_n("rtpmap", nth)) {
        let parts = map.split_once(' ').and_then(|(told, rest)| {
            let (encoding, rate) = rest.trim().split_once('/')?;
            Some((told.parse::<u8>().ok()?, encoding, rate))
        });
        maps.push(parts.ok_or_else(|| not_yet(&format!("rtpmap '{map}'")))?);
    }
    let first = maps.first().ok_or_else(|| not_yet("its video has no rtpmap"))?;
    let Some((told, encoding, rate)) = maps.iter().find(|(told, ..)| *told == payload_type) else {
        let what = format!("payload type {} is not {payload_type}", first.0);
        return Err(Unusable::Wrong(Breach { exit: Exit::PayloadType, what }));
    };
    let formats: Vec<_> = video.formats().collect();
    if !formats.contains(&told.to_string().as_str()) {
        return Err(wrong(format!("rtpmap is of {told}, the media line of {formats:?}")));
    }
    let connection = video.connection(0).or_else(|| message.connection());
    if video.port() != u32::from(port) && connection.and_then(|at| at.address()).is_some_and(is_unicast) {
        return Err(wrong(format!("its video goes to port {}, but --port is {port}", video.port())));
    }
    if *rate != CLOCK_RATE.to_string() {
        return Err(wrong(format!("clock rate '{rate}' is not {CLOCK_RATE}")));
    }
    // Names without regard to case, RFC 4855.
    let codec = match encoding.to_ascii_uppercase().as_str() {
        "H264" => Codec::H264,
        "H265" => Codec::H265,
        _ => return Err(wrong(format!("encoding '{encoding}' is neither H264 nor H265"))),
    };
    let mut caps = video
        .caps_from_media(i32::from(*told))
        .ok_or_else(|| wrong(format!("rtpmap of {told} gives no caps")))?;
    // It comes as application/x-unknown.
    caps.make_mut().structure_mut(0).expect("caps of one structure").set_name("application/x-rtp");
    Ok(Described { codec, caps })
}

/// An address that one receiver has, so that its port is the one which this receiver must listen on.
fn is_unicast(address: &str) -> bool {
    let address = address.parse::<IpAddr>();
    address.is_ok_and(|address| !address.is_multicast() && !address.is_unspecified())
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
        let described = parse(SDP.as_bytes(), 96, 5004).unwrap();
        assert_eq!(described.codec, Codec::H264);
        assert!(described.has_parameter_sets());
        let without = SDP.replace(";sprop-parameter-sets=Z0LAHg==,aM48", "");
        assert!(!parse(without.as_bytes(), 96, 5004).unwrap().has_parameter_sets());
        let structure = described.caps.structure(0).unwrap();
        assert_eq!(structure.name(), "application/x-rtp");
        assert_eq!(structure.get::<i32>("clock-rate"), Ok(90_000));
        assert_eq!(structure.get::<&str>("sprop-parameter-sets"), Ok("Z0LAHg==,aM48"));
        assert!(
            parse(SDP.replace("H264", "H265").as_bytes(), 96, 5004).is_ok_and(|d| d.codec == Codec::H265)
        );
    }

    #[test]
    fn names_are_of_any_case_and_the_payload_type_one_of_several() {
        gst::init().unwrap();
        let lower = SDP.replace("H264", "h264");
        let several = SDP.replace("AVP 96\r\n", "AVP 97 96\r\na=rtpmap:97 VP8/90000\r\n");
        for text in [lower, several] {
            let described = parse(text.as_bytes(), 96, 5004).unwrap();
            assert_eq!(described.codec, Codec::H264);
            let structure = described.caps.structure(0).unwrap();
            assert_eq!(structure.get::<&str>("encoding-name"), Ok("H264"));
            assert_eq!(structure.get::<i32>("payload"), Ok(96));
            assert_eq!(structure.get::<&str>("sprop-parameter-sets"), Ok("Z0LAHg==,aM48"));
        }
    }

    #[test]
    fn a_port_is_compared_where_it_is_the_receivers_alone() {
        gst::init().unwrap();
        let other = SDP.replace("5004", "5006");
        let of_media = other.replace("AVP 96\r\n", "AVP 96\r\nc=IN IP4 239.0.0.1/16\r\n");
        for text in [
            other.replace("c=IN IP4 127.0.0.1", "c=IN IP4 239.0.0.1/16"),
            other.replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0"),
            other.replace("c=IN IP4 127.0.0.1\r\n", ""),
            of_media,
        ] {
            assert!(parse(text.as_bytes(), 96, 5004).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_rule_broken_once() {
        gst::init().unwrap();
        for (from, to, exit, what) in [
            ("H264/90000", "H264/8000", 7, "clock rate '8000' is not 90000"),
            ("H264", "VP8", 7, "encoding 'VP8' is neither H264 nor H265"),
            ("RTP/AVP 96", "RTP/AVP 97", 7, "rtpmap is of 96, the media line of [\"97\"]"),
            ("video 5004", "video 5006", 7, "its video goes to port 5006, but --port is 5004"),
            ("video 5004", "video 0", 7, "its video goes to port 0, but --port is 5004"),
            ("96", "98", 3, "payload type 98 is not 96"),
        ] {
            let Err(Unusable::Wrong(found)) = parse(SDP.replace(from, to).as_bytes(), 96, 5004) else {
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
            let found = parse(&SDP.as_bytes()[..end], 96, 5004).map(|described| described.codec);
            assert!(matches!(found, Err(Unusable::NotYet(_))), "{:?}: {found:?}", &SDP[..end]);
        }
        let missing = read(Path::new("/nonexistent/cam.sdp"), 96, 5004).unwrap_err();
        assert!(matches!(missing, Unusable::NotYet(what) if what.contains("/nonexistent/cam.sdp")));
    }
}
