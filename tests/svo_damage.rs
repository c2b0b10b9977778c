// SPDX-License-Identifier: MPL-2.0

//! Damage that nobody sees before it is decoded, or that is somebody else's fault: `zedsvosrc` and `svo-to-mp4` tell of it,
//! and of nothing else.

mod common;

use std::path::Path;

use common::svo_mp4::Bench;
use common::text;
use common::zedsvo::{Player, Tape, frames, sim, write, write_with};
use gst::prelude::*;
use svo2::{Codec, Header, Layout, Reader, Recording, Writer};

/// Frames (inclusive) that are told of as damaged.
fn damaged(messages: &[gst::Message]) -> Vec<(u64, u64, String)> {
    let told = messages.iter().filter_map(|message| message.structure());
    let told = told.filter(|told| told.name() == "zedsvosrc-damaged");
    told.map(|told| {
        let field = |name| told.get::<u64>(name).unwrap();
        (field("first-frame"), field("last-frame"), told.get::<String>("reason").unwrap())
    })
    .collect()
}

/// A frame that looks like one, and is none behind its first bytes.
fn hollow(codec: Codec, unit: Vec<u8>) -> Vec<u8> {
    match codec {
        Codec::H264 => unit[..12.min(unit.len())].to_vec(),
        Codec::H265 => {
            let noise = (0..unit.len() as u32 - 6).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 1);
            unit[..6].iter().copied().chain(noise).collect()
        }
    }
}

#[test]
fn frames_that_the_decoder_swallows_are_told_of() {
    for codec in [Codec::H264, Codec::H265] {
        let whole = Tape::new(&sim(codec, 60, 15));
        let path = whole.folder.path().join("hollow.svo2");
        let bent = |frame| matches!(frame, 20 | 21 | 50);
        write(
            &whole.recording,
            &path,
            0..60,
            |frame, unit| if bent(frame) { hollow(codec, unit) } else { unit },
        );
        let player = Player::playing(&format!("location={}", path.display()));
        let shown = player.rest();
        let told = damaged(&player.messages());
        // Each frame is shown or told of, and none both.
        let mut accounted: Vec<_> =
            told.iter().flat_map(|&(first, last, _)| first as usize..=last as usize).collect();
        assert!(accounted.contains(&20) && accounted.contains(&50), "{codec}: {told:?}");
        assert_eq!(player.stat("undecoded"), accounted.len() as u64);
        assert_eq!(player.stat("skipped"), accounted.len() as u64);
        accounted.extend(frames(&shown));
        accounted.sort_unstable();
        assert_eq!(accounted, (0..60).collect::<Vec<_>>(), "{codec}: {told:?}");
        assert!(told.iter().all(|(.., why)| why.contains("put nothing out for")), "{told:?}");
        for pair in shown.windows(2) {
            let gap = pair[1].frame > pair[0].frame + 1;
            assert_eq!(
                pair[1].flags.contains(gst::BufferFlags::DISCONT),
                gap,
                "{codec}, frame {}",
                pair[1].frame
            );
        }
        // Once, however often it plays.
        player.seek(1., gst::SeekFlags::FLUSH, gst::ClockTime::ZERO, None);
        assert_eq!(frames(&player.rest()), frames(&shown));
        assert_eq!(damaged(&player.messages()), []);
    }
}

#[test]
fn a_seek_into_a_damaged_tail_ends_without_an_error() {
    let tape = Tape::new(&sim(Codec::H264, 60, 15));
    let path = tape.folder.path().join("tail.svo2");
    write(&tape.recording, &path, 0..60, |frame, unit| if frame < 50 { unit } else { vec![0x55; 100] });
    let player = Player::playing(&format!("location={}", path.display()));
    assert_eq!(player.rest().len(), 50);
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    player.seek(1., flags, gst::ClockTime::from_nseconds(tape.recording.running_ns(55)), None);
    assert_eq!(frames(&player.rest()), Vec::<usize>::new());
    assert!(player.errors().is_empty(), "{:?}", player.errors());
    assert_eq!(player.stat("skipped"), 10, "told once");
}

#[test]
fn what_is_left_out_on_purpose_is_no_damage() {
    for codec in [Codec::H264, Codec::H265] {
        let tape = Tape::new(&sim(codec, 60, 15));
        let player = Player::playing(&tape.location());
        let at = |frame| gst::ClockTime::from_nseconds(tape.recording.running_ns(frame));
        let flush = gst::SeekFlags::FLUSH;
        let seeks = [
            (1., flush | gst::SeekFlags::ACCURATE, 20, Some(33)),
            (1., flush | gst::SeekFlags::TRICKMODE_KEY_UNITS, 3, None),
            (-1., flush, 5, Some(50)),
            (-2., flush | gst::SeekFlags::TRICKMODE_KEY_UNITS, 0, Some(59)),
            (1., flush | gst::SeekFlags::KEY_UNIT, 40, None),
        ];
        for (rate, flags, start, stop) in seeks {
            // Left in the middle, and played to its end.
            player.seek(1., flush, at(7), None);
            player.next().unwrap();
            player.seek(rate, flags, at(start), stop.map(at));
            player.pipeline.set_state(gst::State::Playing).unwrap();
            assert!(!player.rest().is_empty());
        }
        // Somebody is late: the decoder leaves frames out.
        player.seek(1., flush, at(0), None);
        let late =
            gst::event::Qos::builder(gst::QOSType::Underflow, 4., 500_000_000).timestamp(at(1)).build();
        player.sink.static_pad("sink").unwrap().push_event(late);
        player.rest();
        player.pipeline.send_event(gst::event::Eos::new());
        assert_eq!(damaged(&player.messages()), [], "{codec}");
        assert_eq!((player.stat("undecoded"), player.stat("skipped")), (0, 0));
        player.pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(damaged(&player.messages()), [], "{codec}");
    }
}

#[test]
fn a_conversion_names_what_the_decoder_swallowed() {
    let bench = Bench::new(|recording| recording.frames = 60);
    let recording = Recording::open(&bench.path("a.svo2")).unwrap();
    let change = |frame, unit| if frame == 20 { hollow(Codec::H264, unit) } else { unit };
    write(&recording, &bench.path("b.svo2"), 0..60, change);
    let output = bench.run("--input b.svo2 --json --codec h264 --preset fast");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("warning: frame 20 is left out: ") && said.contains("put nothing out for it"),
        "{said}"
    );
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["frames"], &summary["damaged"]), (&59.into(), &1.into()), "{summary}");
}

/// Frames of two recordings, one behind the other.
fn joined(path: &Path, header: Header, recordings: [&std::sync::Arc<Recording>; 2]) {
    let out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = Writer::new(out, header, &Layout::default()).unwrap();
    let mut number = 0;
    for recording in recordings {
        let mut reader = Reader::new(recording.clone());
        for frame in 0..recording.frames() {
            let key = !matches!(reader.kind(frame), Ok(svo2::Kind::Delta));
            let time = recordings[0].unix_ns(0) + number * 33_333_333;
            writer.frame(time, &reader.unit(frame).unwrap(), key).unwrap();
            number += 1;
        }
    }
    writer.finish().unwrap();
}

#[test]
fn another_codec_on_the_way_is_told_of_by_all() {
    let bench = Bench::new(|recording| recording.frames = 30);
    let other = Bench::new(|recording| (recording.frames, recording.codec) = (30, Codec::H265));
    let [one, two] = [&bench, &other].map(|bench| Recording::open(&bench.path("a.svo2")).unwrap());
    joined(&bench.path("b.svo2"), one.header().clone(), [&one, &two]);
    let why = "frame 30: it is H.265, and the recording H.264";
    for line in ["--copy", "--codec h264 --preset fast"] {
        let output = bench.run(&format!("--input b.svo2 --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
        assert!(said.contains(&format!("frames 30 to 59 are left out: {why}")), "{line}: {said}");
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["frames"], 30, "{line}");
    }
    let player = Player::playing(&format!("location={}", bench.path("b.svo2").display()));
    assert_eq!(frames(&player.rest()), (0..30).collect::<Vec<_>>());
    assert_eq!(damaged(&player.messages()), [(30, 59, why.to_owned())]);
}

#[test]
fn no_encoder_is_blamed_for_another_size_or_for_a_decoder_that_is_missing() {
    let bench = Bench::new(|recording| recording.frames = 30);
    let other = Bench::new(|recording| (recording.frames, recording.size) = (30, (160, 120)));
    let [one, two] = [&bench, &other].map(|bench| Recording::open(&bench.path("a.svo2")).unwrap());
    joined(&bench.path("b.svo2"), one.header().clone(), [&one, &two]);
    for line in ["--copy", "--codec h264 --preset fast", "--codec h265 --preset fast"] {
        let output = bench.run(&format!("--input b.svo2 {line}"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        let sizes = "pictures are 320x120 from frame 30 on, 640x240 before";
        assert!(said.contains(sizes) && said.contains("--end-frame 29 ends before it"), "{line}: {said}");
        assert_eq!(bench.names(), ["a.svo2", "b.svo2"]);
    }
    let names: Vec<_> = {
        let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
        let caps = gst::Caps::new_empty_simple("video/x-h264");
        let all = gst::ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL).into_iter();
        all.filter(|factory| factory.can_sink_any_caps(&caps))
            .map(|factory| format!("{}:NONE", factory.name()))
            .collect()
    };
    let mut command = bench.command("--input a.svo2 --codec h264 --encoder-device software --preset fast");
    let output = common::run(command.env("GST_PLUGIN_FEATURE_RANK", names.join(",")));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("--input 'a.svo2': no decoder for H.264 of 640x240 is installed"), "{said}");
    assert!(!said.contains("x264enc"), "{said}");
    // Those of several cameras say the same.
    std::fs::copy(bench.path("a.svo2"), bench.path("c.svo2")).unwrap();
    for line in ["svo-grid-to-mp4 --input a.svo2 --input c.svo2 --output g.mp4", "svo-to-mcap --input a.svo2"]
    {
        let mut command = common::streamer();
        command.args(line.split(' ')).args("--codec h264 --encoder-device software --preset fast".split(' '));
        command.current_dir(bench.folder.path()).env("GST_PLUGIN_FEATURE_RANK", names.join(","));
        let output = common::run(&mut command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains(".svo2': no decoder for H.264 of 640x240 is installed"), "{said}");
        assert!(!said.contains("x264enc"), "{said}");
        assert_eq!(bench.names(), ["a.svo2", "b.svo2", "c.svo2"]);
    }
}

#[test]
fn what_is_odd_about_a_recording_is_told_once_and_costs_nothing() {
    let bench = Bench::new(|recording| recording.frames = 40);
    let recording = Recording::open(&bench.path("a.svo2")).unwrap();
    write_with(recording.header().clone(), &recording, &bench.path("b.svo2"), 0..40, |_, unit| unit);
    // The index of one chunk is none.
    let mut bytes = std::fs::read(bench.path("b.svo2")).unwrap();
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    let chunk = &summary.chunk_indexes[1];
    let at = (chunk.chunk_start_offset + chunk.chunk_length) as usize;
    bytes[at..at + 9].fill(0);
    std::fs::write(bench.path("b.svo2"), bytes).unwrap();
    let wanted = "the messages were found by walking through its chunk";
    for line in ["--copy", "--codec h264 --preset fast"] {
        let output = bench.run(&format!("--input b.svo2 --json --overwrite {line}"));
        let said = text(&output.stderr);
        assert_eq!(said.matches(wanted).count(), 1, "{line}: {said}");
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&summary["frames"], &summary["scanned"]), (&40.into(), &serde_json::Value::Null));
    }
    // With the camera's name, where there may be several.
    for (line, label) in [
        ("svo-grid-to-mp4 --input a.svo2 --input b.svo2 --output g.mp4 --codec h264 --preset fast", "zed2"),
        ("svo-to-mcap --input b.svo2 --codec h264 --preset fast", "zed1"),
        ("svo-to-mcap --input b.svo2 --view side-by-side --overwrite", "zed1"),
    ] {
        let mut command = common::streamer();
        let output = common::run(command.args(line.split(' ')).current_dir(bench.folder.path()));
        let said = text(&output.stderr);
        let told: Vec<&str> = said.lines().filter(|line| line.contains(wanted)).collect();
        assert!(output.status.success() && told.len() == 1, "{line}: {said}");
        assert!(told[0].starts_with(&format!("warning: {label}: ")), "{line}: {said}");
    }
    let player = Player::playing(&format!("location={}", bench.path("b.svo2").display()));
    assert_eq!(player.rest().len(), 40);
    let messages = player.messages();
    let warnings = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
        _ => None,
    });
    assert_eq!(warnings.filter(|text| text.contains(wanted)).count(), 1);
    let output = common::run(common::streamer().args(["inspect", "--json"]).arg(bench.path("b.svo2")));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["remarks"][0].as_str().unwrap().contains(wanted), "{report}");
    assert_eq!(report["opened"]["by"], "index");
}

#[test]
fn a_recording_without_chunks_is_nothing_to_warn_of() {
    let layout = Layout { chunk_size: None, ..Layout::default() };
    let bench = Bench::new(|recording| (recording.frames, recording.layout) = (30, layout));
    let output = bench.run("--input a.svo2 --json --copy");
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("warning"), "{said}");
    let output = common::run(common::streamer().args(["inspect", "--json"]).arg(bench.path("a.svo2")));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["opened"]["by"].as_str().unwrap().contains("without chunks"), "{report}");
    let player =
        Player::playing(&bench.path("a.svo2").to_str().map(|path| format!("location={path}")).unwrap());
    assert_eq!(player.rest().len(), 30);
    assert!(player.messages().iter().all(|message| message.type_() != gst::MessageType::Warning));
}
