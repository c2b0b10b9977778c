// SPDX-License-Identifier: MPL-2.0

//! The RTP branch, and the session description that its receivers need.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use gst_sdp::{SDPMedia, SDPMessage};

use super::plan::{Codec, Rtp, folder_of};
use super::stage::Stage;
use crate::exit::Failure;

/// Parameter sets, payloader and sink. They run in the encoder's thread: a queue would cost a wake-up per picture, and
/// UDP does not block.
///
/// The parser puts the parameter sets before each key frame, and not the payloader: rtph264pay would put them before
/// each slice of it, which cuts the picture in two for receivers, and low latency means several slices.
///
/// # Errors
/// A [`Failure`] that names a missing element.
pub fn stages(rtp: &Rtp, codec: Codec) -> Result<Vec<Stage>, Failure> {
    let parser = Stage::new(&format!("{}parse", codec.name()))?.set("config-interval", "-1");
    let mut payloader =
        Stage::new(&format!("rtp{}pay", codec.name()))?.set("pt", &rtp.payload_type.to_string());
    payloader.wish("aggregate-mode", "zero-latency");
    let sink = Stage::new("udpsink")?
        .set("host", &rtp.address.ip().to_string())
        .set("port", &rtp.address.port().to_string())
        // A key frame's packets come in one burst; the system may cut this down to what it allows.
        .set("buffer-size", "1048576")
        .set("sync", "false")
        .set("async", "false")
        .set("qos", "false");
    Ok(vec![parser, payloader, sink])
}

/// The session description of a payloader's caps; `None` before the caps tell the parameter sets.
pub fn session_description(rtp: &Rtp, caps: &gst::Caps) -> Option<String> {
    let structure = caps.structure(0)?;
    let sets = ["sprop-parameter-sets", "sprop-sps"];
    if !sets.iter().any(|field| structure.has_field(*field)) {
        return None;
    }
    // What holds for this run alone would make a receiver refuse the stream after a restart.
    let mut lasting = caps.copy();
    lasting.make_mut().structure_mut(0)?.remove_fields(["ssrc", "timestamp-offset", "seqnum-offset"]);
    let mut media = SDPMedia::new();
    media.set_media_from_caps(&lasting).ok()?;
    media.set_proto("RTP/AVP");
    media.set_port_info(rtp.address.port().into(), 1);
    let address = rtp.address.ip();
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let ttl = match address {
        IpAddr::V4(v4) if v4.is_multicast() => 64,
        _ => 0,
    };
    let mut message = SDPMessage::new();
    message.set_version("0");
    message.set_origin("-", "0", "0", "IN", family, &address.to_string());
    message.set_session_name("cv-mmap");
    message.set_connection("IN", family, &address.to_string(), ttl, 0);
    message.add_media(media);
    message.as_text().ok()
}

/// Writes a file beside its name and renames it, so that no reader ever sees a part of it.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(folder_of(path))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// For everybody that the umask allows: a player may be another user.
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(address: &str) -> Rtp {
        Rtp { address: address.parse().unwrap(), payload_type: 98, sdp: None }
    }

    #[test]
    fn the_description_has_what_a_player_needs() {
        gst::init().unwrap();
        let caps: gst::Caps = "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=98,\
            packetization-mode=(string)1,profile-level-id=(string)42c01e,sprop-parameter-sets=(string)\"Z0LAHg==,aM48gA==\",\
            ssrc=(uint)7,timestamp-offset=(uint)3,seqnum-offset=(uint)9"
            .parse()
            .unwrap();
        let text = session_description(&rtp("127.0.0.1:5004"), &caps).unwrap();
        for line in
            ["v=0", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 5004 RTP/AVP 98", "a=rtpmap:98 H264/90000"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let fmtp = text.lines().find(|line| line.starts_with("a=fmtp:98 ")).unwrap();
        assert!(fmtp.contains("sprop-parameter-sets=Z0LAHg==,aM48gA=="), "{fmtp}");
        assert!(fmtp.contains("packetization-mode=1"), "{fmtp}");
        assert!(!text.contains("offset") && !text.contains("ssrc"), "{text}");
        let text = session_description(&rtp("[::1]:5004"), &caps).unwrap();
        assert!(text.contains("c=IN IP6 ::1\r\n"), "{text}");
    }

    #[test]
    fn nothing_is_described_before_the_parameter_sets_are_known() {
        gst::init().unwrap();
        let caps: gst::Caps =
            "application/x-rtp,media=video,clock-rate=90000,encoding-name=H265".parse().unwrap();
        assert_eq!(session_description(&rtp("127.0.0.1:5004"), &caps), None);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cam0.sdp");
        for text in ["first", "second"] {
            write_whole(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
