// SPDX-License-Identifier: MPL-2.0

//! `zedsvosrc` beside FFmpeg, which decodes the same bitstream: every picture, its number and its time.

mod common;

use common::svo_made::{LAYOUTS, Made, SIZE, bitstream};
use common::zedsvo::{Player, Shown, Tape, decode, frames, sim, write};
use cvmmap_streamer::sim::svo2::Recording as Sim;
use mcap::Compression;
use svo2::{Codec, Layout};

const CODECS: [Codec; 2] = [Codec::H264, Codec::H265];

/// Pictures, times and Unix times are those of the frames that the offsets name.
fn assert_shown(tape: &Tape, shown: &[Shown], first: usize, right: Option<bool>) {
    let recording = &tape.recording;
    for shown in shown {
        let frame = shown.frame;
        assert_eq!(shown.pts.nseconds(), recording.running_ns(frame) - recording.running_ns(first));
        assert_eq!(shown.unix_ns, recording.unix_ns(frame));
        assert_eq!(shown.buffer.duration().unwrap().nseconds(), recording.duration_ns(frame));
        assert!(shown.bytes() == tape.view(frame, right), "frame {frame} shows another picture");
    }
}

fn assert_all(tape: &Tape) {
    for (view, right) in [("left", Some(false)), ("right", Some(true)), ("side-by-side", None)] {
        let player = Player::playing(&format!("{} view={view}", tape.location()));
        let shown = player.rest();
        assert_eq!(frames(&shown), (0..tape.recording.frames()).collect::<Vec<_>>());
        assert_shown(tape, &shown, 0, right);
        assert_eq!(player.stat("frames"), shown.len() as u64);
    }
}

#[test]
fn every_picture_is_ffmpegs_whatever_the_distance_of_key_frames() {
    for codec in CODECS {
        for gop in [1, 15, 250] {
            let lost_before = vec![7, 20];
            assert_all(&Tape::new(&Sim { jitter_ns: 4_000_000, lost_before, ..sim(codec, 40, gop) }));
        }
    }
}

#[test]
fn every_picture_is_ffmpegs_whatever_the_layout() {
    for compression in [Some(Compression::Lz4), Some(Compression::Zstd), None] {
        let layout = Layout { compression, chunk_size: Some(20_000) };
        assert_all(&Tape::new(&Sim { layout, ..sim(Codec::H265, 30, 15) }));
    }
    let layout = Layout { compression: None, chunk_size: None };
    assert_all(&Tape::new(&Sim { layout, ..sim(Codec::H264, 30, 15) }));
}

#[test]
fn pythons_recordings_show_what_ffmpeg_makes_of_their_bitstreams() {
    common::init();
    for codec in CODECS {
        let stream = bitstream(codec, "keyint=15:min-keyint=15");
        let pictures = decode(&stream, (SIZE.0 * SIZE.1 * 3 / 2) as usize);
        for layout in LAYOUTS {
            let made = Made::new(codec, &stream, &format!("{layout} --jitter 5000000 --sensors 3"));
            let (recording, pictures) = (made.open(), pictures.clone());
            assert_eq!(recording.frames(), pictures.len());
            assert_all(&Tape { folder: made.folder, path: made.path, recording, pictures });
        }
    }
}

#[test]
fn pictures_in_buffers_that_are_larger_than_they_are_ffmpegs() {
    // Decoders pad these.
    for (codec, size) in [(Codec::H264, (1280, 720)), (Codec::H265, (648, 362))] {
        assert_all(&Tape::new(&Sim { size, ..sim(codec, 4, 15) }));
    }
}

#[test]
fn refreshed_pictures_without_a_key_frame_are_ffmpegs() {
    let whole = Tape::new(&Sim { intra_refresh: true, ..sim(Codec::H264, 60, 15) });
    assert_all(&whole);
    // Nothing but recovery points from here on; the first of them is frame 15.
    let tape = whole.from(15);
    assert_eq!(tape.recording.frames(), 45);
    let shown = Player::playing(&tape.location()).rest();
    assert_eq!(frames(&shown), (0..45).collect::<Vec<_>>());
    // From where pictures have recovered they are the same as with the key frame.
    let recovered =
        shown[15..].iter().all(|shown| shown.bytes() == whole.view(15 + shown.frame, Some(false)));
    assert!(recovered);
    // A cut needs as many frames before it.
    let shown = Player::playing(&format!("{} start-frame=37 end-frame=39", tape.location())).rest();
    assert_eq!(frames(&shown), [37, 38, 39]);
    assert!(shown.iter().all(|shown| shown.bytes() == whole.view(15 + shown.frame, Some(false))));
}

#[test]
fn cuts_are_exact() {
    for codec in CODECS {
        for gop in [1, 15, 250] {
            let tape = Tape::new(&Sim { jitter_ns: 9_000_000, ..sim(codec, 50, gop) });
            for (start, end) in [(0, 0), (1, 1), (14, 16), (15, 15), (29, 49), (49, 49), (0, 48)] {
                let range = format!("{} start-frame={start} end-frame={end}", tape.location());
                let player = Player::playing(&range);
                let shown = player.rest();
                assert_eq!(frames(&shown), (start..=end).collect::<Vec<_>>());
                assert_shown(&tape, &shown, start, Some(false));
                let player = Player::playing(&format!("{range} output=encoded"));
                let shown = player.rest();
                // From where that frame's decoding begins.
                assert_eq!(frames(&shown), (start - start % gop as usize..=end).collect::<Vec<_>>());
                assert!(shown[0].pts.is_zero());
            }
        }
    }
}

#[test]
fn the_bitstream_is_the_recordings() {
    for codec in CODECS {
        let tape = Tape::new(&Sim { lost_before: vec![9], ..sim(codec, 40, 15) });
        let shown = Player::playing(&format!("{} output=encoded", tape.location())).rest();
        let mut reader = svo2::Reader::new(tape.recording.clone());
        assert_eq!(frames(&shown), (0..40).collect::<Vec<_>>());
        for shown in &shown {
            assert!(shown.bytes() == reader.unit(shown.frame).unwrap());
            assert_eq!(shown.buffer.dts(), shown.buffer.pts());
            assert_eq!(shown.pts.nseconds(), tape.recording.running_ns(shown.frame));
            let delta = shown.flags.contains(gst::BufferFlags::DELTA_UNIT);
            assert_eq!(delta, shown.frame % 15 != 0);
            assert_eq!(shown.flags.contains(gst::BufferFlags::HEADER), !delta);
        }
        let caps = shown[0].caps.structure(0).unwrap();
        assert_eq!(caps.name().as_str(), format!("video/x-{}", codec.name()));
        let field = |name| caps.get::<String>(name).unwrap();
        assert_eq!((field("stream-format"), field("alignment")), ("byte-stream".into(), "au".into()));
        let size = (caps.get::<i32>("width").unwrap(), caps.get::<i32>("height").unwrap());
        assert_eq!(size, (320, 120));
        assert_eq!(caps.get::<gst::Fraction>("framerate").unwrap(), gst::Fraction::new(30, 1));
    }
}

#[test]
fn damage_is_told_of_once_and_skipped_to_the_next_key_frame() {
    let whole = Tape::new(&sim(Codec::H265, 60, 15));
    let path = whole.folder.path().join("damaged.svo2");
    let noise =
        |frame, unit: Vec<u8>| if matches!(frame, 20 | 22 | 59) { vec![0x55; unit.len()] } else { unit };
    write(&whole.recording, &path, 0..60, noise);
    let player = Player::playing(&format!("location={}", path.display()));
    let shown = player.rest();
    let left = (0..20).chain(30..59).collect::<Vec<_>>();
    assert_eq!(frames(&shown), left);
    assert!(shown.iter().all(|shown| shown.bytes() == whole.view(shown.frame, Some(false))));
    assert!(shown[20].flags.contains(gst::BufferFlags::DISCONT));
    let told = || {
        let messages = player.messages();
        let told = messages.iter().filter_map(|message| message.structure());
        let told = told.filter(|told| told.name() == "zedsvosrc-damaged");
        let range =
            |told: &gst::StructureRef| (told.get("first-frame").unwrap(), told.get("last-frame").unwrap());
        told.map(range).collect::<Vec<(u64, u64)>>()
    };
    assert_eq!(told(), [(20, 29), (59, 59)]);
    assert_eq!((player.stat("skipped"), player.stat("frames")), (11, 49));
    player.seek(1., gst::SeekFlags::FLUSH, gst::ClockTime::ZERO, None);
    assert_eq!(frames(&player.rest()), left);
    assert_eq!(told(), []);
    // Frames that are asked for behind the damage, and before it.
    for (range, wanted) in [((25, 31), 30..=31), ((10, 19), 10..=19)] {
        let (start, end) = range;
        let cut = format!("location={} start-frame={start} end-frame={end}", path.display());
        assert_eq!(frames(&Player::playing(&cut).rest()), wanted.collect::<Vec<_>>());
    }
    let player = Player::playing(&format!("location={} start-frame=59", path.display()));
    assert_eq!(player.end().unwrap(), "no frame of 59 to 59 can be read: 1 are damaged, or need one that is");
}

#[test]
fn what_was_cut_off_plays_up_to_its_last_whole_frame() {
    let whole = Tape::new(&Sim {
        layout: Layout { chunk_size: Some(20_000), ..Layout::default() },
        ..sim(Codec::H264, 60, 15)
    });
    let bytes = std::fs::read(&whole.path).unwrap();
    for part in [3, 5, 7, 9] {
        let path = whole.folder.path().join(format!("{part}.svo2"));
        std::fs::write(&path, &bytes[..bytes.len() * part / 10]).unwrap();
        let player = Player::playing(&format!("location={}", path.display()));
        let shown = player.rest();
        assert!(shown.len() > 5, "{part}: {}", shown.len());
        assert_eq!(frames(&shown), (0..shown.len()).collect::<Vec<_>>());
        assert!(shown.iter().all(|shown| shown.bytes() == whole.view(shown.frame, Some(false))));
        let warned = player.messages().iter().any(|message| match message.view() {
            gst::MessageView::Warning(warning) => {
                warning.error().to_string().contains("frames were found by walking through it")
            }
            _ => false,
        });
        assert!(warned);
    }
}
