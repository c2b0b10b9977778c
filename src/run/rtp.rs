// SPDX-License-Identifier: MPL-2.0

//! The RTP branch, and the session description that its receivers need.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use gst_sdp::{SDPMedia, SDPMessage};

use super::plan::{Codec, Rtp};
use super::stage::Stage;
use crate::exit::Failure;
use crate::place::{destination, folder_of};

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
        .set("host", &host(rtp.address))
        .set("port", &rtp.address.port().to_string())
        // A key frame's packets come in one burst; the system may cut this down to what it allows.
        .set("buffer-size", "1048576")
        .set("sync", "false")
        .set("async", "false")
        .set("qos", "false");
    Ok(vec![parser, payloader, sink])
}

/// As udpsink takes it: a link-local address means nothing without its interface.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// The session description of one run, as it changes.
#[derive(Debug)]
pub struct Description {
    address: SocketAddr,
    id: u64,
    version: u64,
    last: Option<String>,
}

impl Description {
    /// Of a run that began at this time, which tells it from those before and after it.
    pub fn new(rtp: &Rtp, started: SystemTime) -> Self {
        // Since 1900, as RFC 8866 recommends for both numbers.
        let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = since.as_secs() + 2_208_988_800;
        Self { address: rtp.address, id, version: id, last: None }
    }

    /// For a payloader's caps; `None` before the caps tell the parameter sets. The version goes up where anything but
    /// itself is new.
    pub fn of(&mut self, caps: &gst::Caps) -> Option<String> {
        let mut text = described(self.address, caps, self.id, self.version)?;
        if self.last.as_ref().is_some_and(|last| *last != text) {
            self.version += 1;
            text = described(self.address, caps, self.id, self.version)?;
        }
        self.last = Some(text.clone());
        Some(text)
    }
}

fn described(address: SocketAddr, caps: &gst::Caps, id: u64, version: u64) -> Option<String> {
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
    media.set_port_info(address.port().into(), 1);
    let address = address.ip();
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let mut message = SDPMessage::new();
    message.set_version("0");
    message.set_origin("-", &id.to_string(), &version.to_string(), "IN", family, &address.to_string());
    message.set_session_name("cv-mmap");
    message.set_connection("IN", family, &address.to_string(), 0, 0);
    message.add_media(media);
    message.as_text().ok()
}

/// Writes a file beside its name and renames it, so that no reader ever sees a part of it. A link stays one: what it
/// leads to is replaced.
///
/// # Errors
/// What the system says, or that something else than a file is in its place.
pub fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let path = destination(path)?;
    let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(folder_of(&path))?;
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
    use gst::prelude::*;

    fn rtp(address: &str) -> Rtp {
        Rtp { address: address.parse().unwrap(), payload_type: 98, sdp: None }
    }

    fn description(address: &str) -> Description {
        Description::new(&rtp(address), SystemTime::now())
    }

    #[test]
    fn the_description_has_what_a_player_needs() {
        gst::init().unwrap();
        let caps: gst::Caps = "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=98,\
            packetization-mode=(string)1,profile-level-id=(string)42c01e,sprop-parameter-sets=(string)\"Z0LAHg==,aM48gA==\",\
            ssrc=(uint)7,timestamp-offset=(uint)3,seqnum-offset=(uint)9"
            .parse()
            .unwrap();
        let text = description("127.0.0.1:5004").of(&caps).unwrap();
        for line in
            ["v=0", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 5004 RTP/AVP 98", "a=rtpmap:98 H264/90000"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let fmtp = text.lines().find(|line| line.starts_with("a=fmtp:98 ")).unwrap();
        assert!(fmtp.contains("sprop-parameter-sets=Z0LAHg==,aM48gA=="), "{fmtp}");
        assert!(fmtp.contains("packetization-mode=1"), "{fmtp}");
        assert!(!text.contains("offset") && !text.contains("ssrc"), "{text}");
        let text = description("[::1]:5004").of(&caps).unwrap();
        assert!(text.contains("c=IN IP6 ::1\r\n"), "{text}");
    }

    #[test]
    fn the_version_goes_up_when_the_description_changes_and_the_session_stays() {
        gst::init().unwrap();
        let caps = |sets: &str| -> gst::Caps {
            format!(
                "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=96,ssrc=(uint){},\
                 sprop-parameter-sets=(string)\"{sets}\"",
                sets.len()
            )
            .parse()
            .unwrap()
        };
        let started = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(11_200);
        let mut description = Description::new(&rtp("127.0.0.1:5004"), started);
        let versions: Vec<String> = ["Z0LAHg==", "Z0LAHg==", "Z0LAHw==", "Z0LAHg=="]
            .iter()
            .map(|sets| {
                let text = description.of(&caps(sets)).unwrap();
                assert!(text.contains(sets), "{text}");
                text.lines().find_map(|line| line.strip_prefix("o=")).unwrap().to_owned()
            })
            .collect();
        let of = |version: u32| format!("- 2209000000 {version} IN IP4 127.0.0.1");
        let first = 2_209_000_000;
        assert_eq!(versions, [of(first), of(first), of(first + 1), of(first + 2)]);
    }

    #[test]
    fn a_link_local_address_keeps_its_interface() {
        gst::init().unwrap();
        let v6 = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5004, 0, 3);
        let rtp = Rtp { address: v6.into(), payload_type: 96, sdp: None };
        let stages = stages(&rtp, Codec::H264).unwrap();
        assert_eq!(stages[2].element.property::<String>("host"), "fe80::1%3");
        assert!(stages[2].text().contains(" host=fe80::1%3 port=5004 "), "{}", stages[2].text());
        assert_eq!(host("[::1]:5004".parse().unwrap()), "::1");
    }

    #[test]
    fn nothing_is_described_before_the_parameter_sets_are_known() {
        gst::init().unwrap();
        let caps: gst::Caps =
            "application/x-rtp,media=video,clock-rate=90000,encoding-name=H265".parse().unwrap();
        assert_eq!(description("127.0.0.1:5004").of(&caps), None);
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

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("served")).unwrap();
        symlink("served/cam0.sdp", at("near")).unwrap();
        symlink(at("near"), at("far")).unwrap();
        for text in ["where there was none", "where there was one"] {
            write_whole(&at("far"), text).unwrap();
            assert_eq!(std::fs::read_to_string(at("served/cam0.sdp")).unwrap(), text);
        }
        assert!(at("far").is_symlink() && at("near").is_symlink());
        symlink("round", at("round")).unwrap();
        assert_eq!(write_whole(&at("round"), "").unwrap_err().to_string(), "too many symbolic links");
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        // An open file by the system's own link to it: whoever holds it would read nothing.
        let file = std::fs::File::create(folder.path().join("open")).unwrap();
        let open = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        for path in [pipe.as_path(), &link, Path::new("/dev/null"), Path::new(&open)] {
            let error = write_whole(path, "").expect_err("no regular file").to_string();
            assert!(error.starts_with("it is no regular file"), "{}: {error}", path.display());
        }
        assert!(!std::fs::symlink_metadata(&pipe).unwrap().is_file() && link.is_symlink());
    }
}
