// SPDX-License-Identifier: MPL-2.0

//! `zedsvosrc` as a program has it: states, files that change, wrong settings, decoders, sensors, calibrations.

mod common;

use std::path::Path;

use common::zedsvo::{Player, SMALL, Tape, frames, patience, sim, write, write_with};
use common::{gst_tool, run, text};
use cvmmap_streamer::sim::svo2::Recording as Sim;
use gst::prelude::*;
use svo2::calibration::Calibration;
use svo2::rectify::{Eye, Plane, Rectification};
use svo2::{Codec, Reader, Sensors};

#[test]
fn states_come_and_go() {
    let (tape, other) = (Tape::new(&sim(Codec::H264, 30, 15)), Tape::new(&sim(Codec::H265, 20, 15)));
    let player = Player::new(&tape.location());
    player.sink.set_max_buffers(0);
    player.sink.set_property("wait-on-eos", false);
    for state in [gst::State::Null, gst::State::Ready, gst::State::Ready, gst::State::Null] {
        player.pipeline.set_state(gst::State::Playing).unwrap();
        // An appsink that was not in NULL in between still says that it is at the end.
        assert_eq!(player.end(), None);
        assert_eq!(frames(&player.rest()), (0..30).collect::<Vec<_>>());
        assert_eq!(player.stat("frames"), 30);
        player.pipeline.set_state(state).unwrap();
        assert!(player.source.property::<Option<gst::Structure>>("info").is_none());
    }
    // Another file, of another codec, in the same element; left in the middle.
    player.source.set_property("location", other.path.to_str().unwrap());
    player.pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(player.next().unwrap().frame, 0);
    player.pipeline.set_state(gst::State::Null).unwrap();
    player.pipeline.set_state(gst::State::Playing).unwrap();
    let shown = player.rest();
    assert_eq!(frames(&shown), (0..20).collect::<Vec<_>>());
    assert!(shown.iter().all(|shown| shown.bytes() == other.view(shown.frame, Some(false))));
}

#[test]
fn the_recording_says_what_it_is() {
    let tape = Tape::new(&sim(Codec::H265, 20, 15));
    let player = Player::paused(&tape.location());
    let info = player.source.property::<gst::Structure>("info");
    let number = |field: &str| info.get::<u64>(field).unwrap();
    let small = |field: &str| info.get::<u32>(field).unwrap();
    let word = |field: &str| info.get::<String>(field).unwrap();
    assert_eq!(
        (word("serial"), word("codec"), word("found")),
        ("40735594".into(), "h265".into(), "indexed".into())
    );
    assert_eq!((small("width"), small("height"), small("fps")), (SMALL.0, SMALL.1, 30));
    assert_eq!((number("frames"), number("damaged-frames")), (20, 0));
    assert_eq!(number("first-unix-time"), tape.recording.unix_ns(0));
    assert_eq!(number("last-unix-time"), tape.recording.unix_ns(19));
    assert!(!word("sdk-version").is_empty());
    let stats = player.source.property::<gst::Structure>("stats");
    assert!(stats.get::<String>("decoder").unwrap().contains("265"));
}

#[test]
fn an_eos_that_is_sent_ends_it_in_order() {
    let tape = Tape::new(&sim(Codec::H264, 60, 15));
    let player = Player::playing(&tape.location());
    assert_eq!(player.next().unwrap().frame, 0);
    assert!(player.pipeline.send_event(gst::event::Eos::new()));
    let shown = frames(&player.rest());
    assert!(shown.len() < 59, "{}", shown.len());
    assert_eq!(shown, (1..=shown.len()).collect::<Vec<_>>());
}

#[test]
fn a_file_that_shrinks_while_it_plays_is_an_error() {
    for properties in ["", "output=encoded", "sensors=true", "view=right"] {
        let tape = Tape::new(&sim(Codec::H264, 60, 15));
        std::fs::copy(&tape.path, tape.folder.path().join("spare.svo2")).unwrap();
        let player = Player::playing(&format!("{} {properties}", tape.location()));
        assert_eq!(player.next().unwrap().frame, 0);
        let file = std::fs::OpenOptions::new().write(true).open(&tape.path).unwrap();
        let len = tape.path.metadata().unwrap().len() / 2;
        file.set_len(len).unwrap();
        // What was read before is whole; it stops in order.
        let shown = frames(&player.rest());
        assert!(shown.len() < 59, "{}", shown.len());
        assert_eq!(shown, (1..=shown.len()).collect::<Vec<_>>());
        let bus = player.pipeline.bus().unwrap();
        let message = bus.timed_pop_filtered(patience(), &[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
        assert!(error.error().matches(gst::ResourceError::Read), "{error:?}");
        let said = error.error().to_string();
        let begins = format!("property 'location' = '{}': ", tape.path.display());
        assert!(said.starts_with(&begins) && said.contains(" of the file cannot be read: "), "{said}");
        assert!(
            said.ends_with(&format!("it has {len} bytes now, and was longer when it was opened")),
            "{said}"
        );
        // No frame is damaged.
        assert_eq!((player.stat("skipped"), player.stat("damaged")), (0, 0));
        // A file that is as it should be plays again.
        std::fs::copy(tape.folder.path().join("spare.svo2"), &tape.path).unwrap();
        player.pipeline.set_state(gst::State::Null).unwrap();
        player.pipeline.set_state(gst::State::Playing).unwrap();
        assert_eq!(frames(&player.rest()), (0..60).collect::<Vec<_>>());
    }
}

/// What stops it on the way to PAUSED.
fn refusal(properties: &str) -> String {
    let player = Player::new(properties);
    assert!(player.pipeline.set_state(gst::State::Paused).is_err(), "{properties}");
    let error = player.end().unwrap();
    // And nothing is left of it.
    player.pipeline.set_state(gst::State::Ready).unwrap();
    let bin = player.source.downcast_ref::<gst::Bin>().unwrap();
    assert!(bin.children().is_empty());
    error
}

#[test]
fn what_is_wrong_is_said_with_property_value_and_rule() {
    let tape = Tape::new(&sim(Codec::H265, 20, 15));
    let good = tape.location();
    let folder = tape.folder.path();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        format!("location={}", path.display())
    };
    let no_video = {
        let path = folder.join("no-video.svo2");
        let mut writer = mcap::Writer::new(std::fs::File::create(&path).unwrap()).unwrap();
        writer.add_channel(0, "odometry", "json", &Default::default()).unwrap();
        writer.finish().unwrap();
        format!("location={}", path.display())
    };
    let payload = |name: &str, bytes: &'static [u8]| {
        let path = folder.join(name);
        write(&tape.recording, &path, 0..20, |_, _| bytes.to_vec());
        format!("location={}", path.display())
    };
    let png = payload("lossless.svo2", b"\x89PNG\r\n\x1a\n0000000000000000");
    let jpeg = payload("jpeg.svo2", b"\xff\xd8\xff\xe0000000000000000000000");
    let noise = payload("noise.svo2", b"0123456789abcdef01234567");
    let conf = file("SN1.conf", b"[LEFT_CAM_HD]\nfx=1\n").replace("location=", "calibration=");
    let cases = [
        (String::new(), "property 'location' is not set"),
        ("location=/nowhere/a.svo2".into(), "property 'location' = '/nowhere/a.svo2': No such file"),
        (file("empty.svo2", b""), "the file is empty (0 bytes)"),
        (file("text.svo2", b"nothing of the kind, at all"), "begins with 6e 6f 74"),
        (file("old.svo", b"nothing of the kind, at all"), "it is an SVO recording of version 1"),
        (no_video, "an MCAP file without a topic 'Camera_SN<serial>/side_by_side' (it has 'odometry')"),
        (png, "the pictures are lossless (PNG), not H.264 or H.265: only the ZED SDK reads those"),
        (jpeg, "the pictures are JPEG, not H.264 or H.265: only the ZED SDK reads those"),
        (noise, "no parameter sets of H.264 or H.265"),
        (format!("{good} start-frame=20"), "property 'start-frame' = 20: the recording has frames 0 to 19"),
        (format!("{good} end-frame=99"), "property 'end-frame' = 99: the recording has frames 0 to 19"),
        (
            format!("{good} start-frame=9 end-frame=8"),
            "property 'end-frame' = 8: it lies before 'start-frame' = 9",
        ),
        (format!("{good} output=encoded view=right"), "property 'view' = 'right' with 'output' = 'encoded'"),
        (
            format!("{good} output=encoded rectify=true {conf}"),
            "property 'rectify' = true with 'output' = 'encoded': only decoded pictures can be rectified",
        ),
        (
            format!("{good} output=encoded decoder=avdec_h265"),
            "property 'decoder' = 'avdec_h265' with 'output' = 'encoded': nothing is decoded there",
        ),
        (format!("{good} rectify=true"), "rectify=true needs the property 'calibration'"),
        (format!("{good} rectify=true calibration=/nowhere"), "property 'calibration' = '/nowhere': "),
        (format!("{good} rectify=true {conf}"), "160x120"),
        (
            format!("{good} decoder=nosuchdec"),
            "property 'decoder' = 'nosuchdec': there is no such element; installed",
        ),
        (
            format!("{good} decoder=avdec_h264"),
            "property 'decoder' = 'avdec_h264': it does not take this recording's H.265",
        ),
        (
            format!("{good} decoder=h265parse"),
            "property 'decoder' = 'h265parse': it does not put out raw video",
        ),
    ];
    for (properties, wanted) in cases {
        let error = refusal(&properties);
        assert!(error.contains(wanted), "{properties}: {error}");
    }
}

/// x265enc takes no stream without a rate.
#[test]
fn a_header_without_a_rate_leaves_that_to_the_times() {
    let tape = Tape::new(&sim(Codec::H264, 20, 15));
    let path = tape.folder.path().join("no-rate.svo2");
    let header = svo2::Header { fps: 0, ..tape.recording.header().clone() };
    write_with(header, &tape.recording, &path, 0..20, |_, unit| unit);
    let shown = Player::playing(&format!("location={}", path.display())).rest();
    let rate = shown[0].caps.structure(0).unwrap().get::<gst::Fraction>("framerate").unwrap();
    assert_eq!((rate, shown.len()), (gst::Fraction::new(30, 1), 20));
}

#[test]
fn stock_tools_show_it_and_its_errors() {
    let tape = Tape::new(&sim(Codec::H265, 20, 15));
    let mp4 = tape.folder.path().join("a.mp4");
    let line = format!(
        "zedsvosrc {} start-frame=5 ! videoconvert ! x264enc tune=zerolatency ! h264parse ! mp4mux ! filesink location={}",
        tape.location(),
        mp4.display()
    );
    let output = run(gst_tool("gst-launch-1.0").arg("-q").args(line.split_whitespace()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(common::readers::ffmpeg(&mp4, true).shown().len(), 15);
    let wrong = ["zedsvosrc", &tape.location(), "start-frame=20", "!", "fakesink"].join(" ");
    let output = run(gst_tool("gst-launch-1.0").args(wrong.split_whitespace()));
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("property 'start-frame' = 20: the recording has frames 0 to 19"));
    let output = run(gst_tool("gst-inspect-1.0").arg("zedsvosrc"));
    assert!(output.status.success() && text(&output.stdout).contains("Source/File/Video"));
}

#[test]
fn any_decoder_shows_the_same() {
    for (codec, others) in
        [(Codec::H264, ["avdec_h264", "openh264dec"]), (Codec::H265, ["avdec_h265", "libde265dec"])]
    {
        let tape = Tape::new(&Sim { jitter_ns: 3_000_000, ..sim(codec, 50, 15) });
        let mut tried = 0;
        for name in others.into_iter().filter(|name| gst::ElementFactory::find(name).is_some()) {
            tried += 1;
            let cut = format!("{} decoder={name} start-frame=7 end-frame=44 view=right", tape.location());
            let player = Player::playing(&cut);
            let shown = player.rest();
            assert_eq!(frames(&shown), (7..=44).collect::<Vec<_>>(), "{name}");
            assert!(shown.iter().all(|shown| shown.bytes() == tape.view(shown.frame, Some(true))), "{name}");
            player.seek(-1., gst::SeekFlags::FLUSH, gst::ClockTime::ZERO, None);
            assert_eq!(frames(&player.rest()), (7..=44).rev().collect::<Vec<_>>(), "{name}");
        }
        assert!(tried > 0);
    }
}

#[test]
fn samples_of_the_imu_go_with_their_frames() {
    let tape = Tape::new(&Sim { jitter_ns: 4_000_000, ..sim(Codec::H264, 30, 15) });
    let time = |frame: usize| tape.recording.unix_ns(frame);
    for (start, properties) in [(0, ""), (12, " output=encoded start-frame=15"), (12, " start-frame=12")] {
        let player = Player::with(&format!("{} sensors=true{properties}", tape.location()), "queue !");
        player.pipeline.set_state(gst::State::Playing).unwrap();
        let shown = player.rest();
        let mut raw = svo2::SensorReader::new(tape.recording.clone(), Sensors::Raw).unwrap();
        for shown in &shown {
            let sensors = gstzedsvo::sensors_of(&shown.buffer).expect("each buffer has the meta");
            let after = shown.frame.checked_sub(1).map_or(0, time);
            let wanted = raw.between(after, time(shown.frame)).collect::<Result<Vec<_>, _>>().unwrap();
            assert_eq!(sensors.raw, wanted, "frame {} of {start}", shown.frame);
            assert_eq!(sensors.integrated.unwrap().unix_ns, time(shown.frame));
        }
        let all = shown.iter().map(|shown| gstzedsvo::sensors_of(&shown.buffer).unwrap().raw.len());
        assert!(all.sum::<usize>() > 12 * shown.len());
        // Backwards each has those since the frame before it in the recording, as forwards.
        player.seek(-1., gst::SeekFlags::FLUSH, gst::ClockTime::ZERO, None);
        let back = player.rest();
        assert_eq!(back.len(), shown.len());
        for shown in &back {
            let sensors = gstzedsvo::sensors_of(&shown.buffer).expect("each buffer has the meta");
            let after = shown.frame.checked_sub(1).map_or(0, time);
            let wanted = raw.between(after, time(shown.frame)).collect::<Result<Vec<_>, _>>().unwrap();
            assert_eq!(sensors.raw, wanted, "frame {} backwards", shown.frame);
            assert_eq!(sensors.integrated.unwrap().unix_ns, time(shown.frame));
        }
    }
    // Not asked for: none.
    let shown = Player::playing(&tape.location()).rest();
    assert!(gstzedsvo::sensors_of(&shown[0].buffer).is_none());
    let silent = Tape::new(&Sim { imu: false, ..sim(Codec::H264, 5, 15) });
    let player = Player::playing(&format!("{} sensors=true", silent.location()));
    assert_eq!(player.rest().len(), 5);
    let warned = player.messages().iter().any(|message| message.type_() == gst::MessageType::Warning);
    assert!(warned);
}

const CONF: &str = "[LEFT_CAM_VGA]\nfx=340\nfy=341\ncx=330.5\ncy=190.25\nk1=-0.17\nk2=0.02\np1=0.0002\np2=-0.0001\nk3=0.001\n\
    [RIGHT_CAM_VGA]\nfx=342\nfy=340\ncx=338.5\ncy=186.25\nk1=-0.16\nk2=0.03\np1=-0.0002\np2=0.0001\nk3=0.002\n\
    [STEREO]\nBaseline=119.9\nTY=0.05\nTZ=-0.4\nCV_VGA=0.007\nRX_VGA=0.0024\nRZ_VGA=-0.0021\n";

/// Packed I420 of one eye or both, as the crate rectifies it.
fn rectified(tape: &Tape, rectification: &Rectification, frame: usize, eyes: &[Eye]) -> Vec<u8> {
    let (width, height) = tape.recording.size();
    let (width, height) = (width as usize, height as usize);
    let picture = &tape.pictures[frame];
    let mut packed = Vec::new();
    let mut at = 0;
    for plane in 0..3 {
        let (width, height) = if plane == 0 { (width, height) } else { (width / 2, height / 2) };
        let mut out = vec![0; width / 2 * eyes.len() * height];
        for (place, &eye) in eyes.iter().enumerate() {
            let map = if plane == 0 { rectification.map(eye) } else { rectification.chroma_map(eye) };
            let x = if eye == Eye::Left { 0 } else { width / 2 };
            let source = Plane { data: &picture[at..at + width * height], stride: width, channels: 1, x };
            let border = if plane == 0 { 0 } else { 128 };
            let stride = width / 2 * eyes.len();
            map.apply(&source, &mut out[place * width / 2..], stride, border, 1).unwrap();
        }
        packed.extend(out);
        at += width * height;
    }
    packed
}

#[test]
fn rectified_views_are_the_crates_of_the_decoded_picture() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("SN40735594.conf");
    std::fs::write(&conf, CONF).unwrap();
    let stereo = Calibration::read(&conf).unwrap().for_size(672, 376).unwrap();
    let rectification = Rectification::new(&stereo).unwrap();
    let tape = Tape::new(&Sim { size: (672, 376), ..sim(Codec::H264, 6, 15) });
    let views: [(&str, &[Eye]); 3] =
        [("left", &[Eye::Left]), ("right", &[Eye::Right]), ("side-by-side", &[Eye::Left, Eye::Right])];
    for (view, eyes) in views {
        let properties =
            format!("{} view={view} rectify=true calibration={}", tape.location(), conf.display());
        let shown = Player::playing(&properties).rest();
        assert_eq!(frames(&shown), (0..6).collect::<Vec<_>>());
        for shown in &shown {
            let wanted = rectified(&tape, &rectification, shown.frame, eyes);
            assert!(shown.bytes() == wanted, "frame {} of {view}", shown.frame);
            assert!(
                shown.bytes() != tape.view(shown.frame, (view != "side-by-side").then_some(view == "right"))
            );
        }
    }
}

#[test]
fn pictures_of_ten_bits_are_shown_and_not_rectified() {
    common::init();
    let folder = tempfile::tempdir().unwrap();
    let (stream, path, conf) =
        (folder.path().join("a.h265"), folder.path().join("a.svo2"), folder.path().join("SN1.conf"));
    std::fs::write(&conf, CONF).unwrap();
    let mut ffmpeg = common::readers::ffmpeg_program();
    ffmpeg.args(["-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1344x376:rate=30"]);
    ffmpeg.args(["-frames:v", "3", "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast"]);
    ffmpeg.args(["-tune", "zerolatency", "-x265-params", "repeat-headers=1"]);
    let output = run(ffmpeg.args(["-bsf:v", "hevc_metadata=aud=insert", "-f", "hevc"]).arg(&stream));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut generator = common::svo_made::script("make_svo2.py");
    let output = run(generator.arg(&path).arg("h265").arg(&stream).args(["1344", "376"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    // avdec_h265 takes ten bits; others may not.
    let location = format!("location={} decoder=avdec_h265", path.display());
    let player = Player::playing(&location);
    let mut formats = Vec::new();
    while let Some(shown) = player.next() {
        formats.push(shown.caps.structure(0).unwrap().get::<String>("format").unwrap());
    }
    assert_eq!(formats, ["I420_10LE"; 3]);
    let player = Player::playing(&format!("{location} rectify=true calibration={}", conf.display()));
    let wanted =
        "property 'rectify' = true: the decoder puts out I420_10LE, and only I420 and NV12 can be rectified";
    assert_eq!(player.end().unwrap(), wanted);
}

/// A decoder that is preferred to all others, and whose device is not there.
mod closed {
    use std::sync::LazyLock;

    use gst::glib;
    use gst::subclass::prelude::*;

    #[derive(Default)]
    pub struct Closed;

    #[glib::object_subclass]
    impl ObjectSubclass for Closed {
        const NAME: &'static str = "TestClosedDecoder";
        type Type = super::ClosedDecoder;
        type ParentType = gst::Element;
    }

    impl ObjectImpl for Closed {}
    impl GstObjectImpl for Closed {}
    impl ElementImpl for Closed {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("Closed", "Codec/Decoder/Video", "Does not open", "Tests")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let template = |name, direction, caps: &str| {
                    let caps = caps.parse::<gst::Caps>().unwrap();
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                vec![
                    template("sink", gst::PadDirection::Sink, "video/x-h264"),
                    template("src", gst::PadDirection::Src, "video/x-raw"),
                ]
            });
            &TEMPLATES
        }

        fn change_state(
            &self,
            transition: gst::StateChange,
        ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            match transition {
                gst::StateChange::NullToReady => Err(gst::StateChangeError),
                other => self.parent_change_state(other),
            }
        }
    }
}

gst::glib::wrapper! {
    pub struct ClosedDecoder(ObjectSubclass<closed::Closed>) @extends gst::Element, gst::Object;
}

#[test]
fn a_decoder_that_does_not_open_is_given_up_for_the_next_by_rank() {
    common::init();
    let above = gst::Rank::PRIMARY + 1000;
    gst::Element::register(None, "closeddec", above, ClosedDecoder::static_type()).unwrap();
    let tape = Tape::new(&sim(Codec::H264, 20, 15));
    let player = Player::playing(&tape.location());
    let shown = player.rest();
    assert_eq!(frames(&shown), (0..20).collect::<Vec<_>>());
    assert!(shown.iter().all(|shown| shown.bytes() == tape.view(shown.frame, Some(false))));
    let stats = player.source.property::<gst::Structure>("stats");
    let decoder = stats.get::<String>("decoder").unwrap();
    assert!(decoder != "closeddec" && decoder.contains("264"), "{decoder}");
    // Where it is asked for, nothing else will do.
    let error = refusal(&format!("{} decoder=closeddec", tape.location()));
    let wanted =
        "property 'decoder' = 'closeddec': it cannot be opened; installed for this recording: closeddec, ";
    assert!(error.starts_with(wanted), "{error}");
}

#[test]
fn a_view_is_cut_out_in_place_where_metas_are_known() {
    let tape = Tape::new(&sim(Codec::H264, 10, 15));
    for (view, right) in [("left", false), ("right", true)] {
        let player = Player::new(&format!("{} view={view}", tape.location()));
        let pad = player.sink.static_pad("sink").unwrap();
        // As sinks do that read by the meta.
        pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM | gst::PadProbeType::PUSH, |_, info| {
            if let Some(gst::QueryViewMut::Allocation(query)) = info.query_mut().map(gst::QueryRef::view_mut)
            {
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
        player.pipeline.set_state(gst::State::Playing).unwrap();
        let shown = player.rest();
        assert_eq!(frames(&shown), (0..10).collect::<Vec<_>>());
        for shown in &shown {
            let meta = shown.buffer.meta::<gst_video::VideoMeta>().expect("it says where the picture lies");
            assert_eq!((meta.width(), meta.height()), SMALL);
            assert!(meta.stride()[0] as u32 >= 2 * SMALL.0, "rows are those of both pictures");
            assert!(shown.bytes() == tape.view(shown.frame, Some(right)));
        }
    }
}

#[test]
fn a_slow_sink_that_holds_pictures_gets_each_of_them() {
    let tape = Tape::new(&sim(Codec::H264, 40, 15));
    let player = Player::with(&tape.location(), "queue max-size-buffers=30 !");
    player.sink.set_max_buffers(0);
    player.sink.set_property("wait-on-eos", false);
    player.pipeline.set_state(gst::State::Playing).unwrap();
    player.pipeline.bus().unwrap().timed_pop_filtered(patience(), &[gst::MessageType::Eos]).unwrap();
    let shown = player.rest();
    assert_eq!(frames(&shown), (0..40).collect::<Vec<_>>());
    assert!(shown.iter().all(|shown| shown.bytes() == tape.view(shown.frame, Some(false))));
}

#[test]
fn bitstreams_are_copied_into_mp4_from_a_cut() {
    let tape = Tape::new(&sim(Codec::H265, 60, 15));
    let mp4 = tape.folder.path().join("copy.mp4");
    let line = format!(
        "zedsvosrc {} output=encoded start-frame=20 end-frame=49 ! h265parse ! mp4mux ! filesink location={}",
        tape.location(),
        mp4.display()
    );
    let output = run(gst_tool("gst-launch-1.0").arg("-q").args(line.split_whitespace()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    // From the key frame before.
    let facts = common::readers::ffmpeg(Path::new(&mp4), true);
    let mut reader = Reader::new(tape.recording.clone());
    assert_eq!((facts.shown().len(), facts.pictures()[0].key), (35, true));
    assert!(reader.unit(15).unwrap().len() > facts.pictures()[1].size);
}
