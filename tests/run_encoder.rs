// SPDX-License-Identifier: MPL-2.0

//! The encoder's bin: candidates that are missing, do not open, refuse, swallow or fail later make way for the next.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::encoders::register;
use common::*;
use cvmmap_streamer::run::encoder::EncoderSlot;
use cvmmap_streamer::run::plan::{Codec, Encoding};
use gst::prelude::*;

fn encoding(candidates: &[&str]) -> Encoding {
    let candidates = candidates.iter().map(|name| (*name).to_owned()).collect();
    Encoding { codec: Codec::H264, candidates, bitrate: 1000, fps: 30, gop: 30, b_frames: 0 }
}

/// What came out of `videotestsrc ! slot ! h264parse`, and what was posted.
struct Outcome {
    /// Running times of the access units in ms, and whether they are key frames.
    units: Vec<(u64, bool)>,
    error: Option<String>,
    /// From, to and reason of each change.
    fallbacks: Vec<[String; 3]>,
}

fn encode(candidates: &[&str], frames: u32) -> Outcome {
    encode_size(candidates, frames, (160, 120))
}

fn encode_size(candidates: &[&str], frames: u32, (width, height): (u32, u32)) -> Outcome {
    init();
    register();
    let slot = EncoderSlot::new(encoding(candidates), 100);
    let make = |name| gst::ElementFactory::make(name);
    let source = make("videotestsrc").property("num-buffers", frames as i32);
    // A candidate that fails takes with it what it holds; a source that does not wait for the clock would fill it.
    let source = source.property("is-live", true).build().unwrap();
    let caps = format!("video/x-raw,format=BGR,width={width},height={height},framerate=30/1");
    let caps: gst::Caps = caps.parse().unwrap();
    let filter = make("capsfilter").property("caps", caps).build().unwrap();
    let parser = make("h264parse").build().unwrap();
    let caps: gst::Caps = "video/x-h264,stream-format=avc,alignment=au".parse().unwrap();
    let sink = gst_app::AppSink::builder().sync(false).caps(&caps).build();
    let pipeline = gst::Pipeline::new();
    let elements = [&source, &filter, slot.upcast_ref(), &parser, sink.upcast_ref()];
    pipeline.add_many(elements).unwrap();
    gst::Element::link_many(elements).unwrap();
    let bus = pipeline.bus().unwrap();
    let started = pipeline.set_state(gst::State::Playing);

    let mut units = Vec::new();
    let patience = gst::ClockTime::from_seconds(10);
    while started.is_ok()
        && let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(300)).or_else(|| {
            (!sink.is_eos() && bus.peek().is_none_or(|m| m.type_() != gst::MessageType::Error))
                .then(|| sink.try_pull_sample(patience))
                .flatten()
        })
    {
        let buffer = sample.buffer().unwrap();
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
        let running = segment.to_running_time(buffer.pts()).unwrap();
        units.push((running.mseconds(), !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)));
    }
    let mut outcome = Outcome { units, error: None, fallbacks: Vec::new() };
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Error(error) if outcome.error.is_none() => {
                outcome.error = Some(error.error().to_string());
            }
            gst::MessageView::Element(element) => {
                if let Some(structure) = element.structure().filter(|s| s.name() == "encoder-fallback") {
                    outcome
                        .fallbacks
                        .push(["from", "to", "reason"].map(|field| structure.get(field).unwrap()));
                }
            }
            _ => (),
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    outcome
}

/// All frames but those `lost` came out, once and in order, beginning with a key frame.
fn assert_whole(outcome: &Outcome, frames: u64, lost: std::ops::RangeInclusive<u64>) {
    let got: Vec<u64> = outcome.units.iter().map(|(ms, _)| *ms).collect();
    let told = format!("{got:?} {:?} {:?}", outcome.error, outcome.fallbacks);
    assert!(lost.contains(&(frames - got.len() as u64)), "{} of {frames}: {told}", got.len());
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "{told}");
    // The clock may say a bit more than 0 at the first frame.
    assert!(got.last().unwrap().abs_diff((frames - 1) * 1000 / 30) < 33, "{told}");
    assert!(outcome.units[0].1, "it begins with a key frame");
    assert_eq!(outcome.error, None);
}

#[test]
fn the_first_that_works_is_used() {
    let outcome = encode(&["x264enc", "nosuchenc"], 40);
    assert_whole(&outcome, 40, 0..=0);
    assert!(outcome.fallbacks.is_empty());
}

#[test]
fn missing_and_closed_candidates_are_told_once() {
    let outcome = encode(&["nosuchenc", "closedenc", "stillbornenc", "x264enc"], 40);
    assert_whole(&outcome, 40, 0..=0);
    let [[from, to, reason]] = outcome.fallbacks.as_slice() else { panic!("{:?}", outcome.fallbacks) };
    assert_eq!((from.as_str(), to.as_str()), ("nosuchenc", "x264enc"));
    for (factory, why) in [
        ("nosuchenc", "it is not installed"),
        ("closedenc", "the device is busy"),
        ("stillbornenc", "no free session"),
    ] {
        assert!(reason.contains(&format!("{factory}: ")) && reason.contains(why), "{reason}");
    }
}

#[test]
fn candidates_that_refuse_the_caps_cost_the_first_frames() {
    for refusing in ["refusingenc", "narrowenc"] {
        let outcome = encode(&[refusing, "x264enc"], 40);
        // How many depends on how soon its thread says so.
        assert_whole(&outcome, 40, 1..=30);
        assert_eq!(outcome.fallbacks.len(), 1, "{:?}", outcome.fallbacks);
        assert_eq!(outcome.fallbacks[0][0], refusing);
    }
}

#[test]
fn candidates_that_swallow_frames_or_hang_are_given_up_after_sixty() {
    for silent in ["swallowingenc", "hangingenc"] {
        let outcome = encode(&[silent, "x264enc"], 150);
        assert_whole(&outcome, 150, 60..=140);
        let [[from, _, reason]] = outcome.fallbacks.as_slice() else { panic!("{:?}", outcome.fallbacks) };
        assert_eq!(from, silent);
        assert!(reason.contains("nothing came out for "), "{reason}");
    }
}

#[test]
fn a_candidate_that_fails_later_makes_way_within_the_session() {
    for size in [(160, 120), (161, 121)] {
        let outcome = encode_size(&["failingenc", "x264enc"], 100, size);
        assert_whole(&outcome, 100, 1..=60);
        let before = outcome.units.iter().take_while(|(ms, _)| *ms < 20 * 1000 / 30 - 10).count();
        assert_eq!(before, 20, "{:?}", outcome.units);
        assert!(outcome.units[20].1, "the next begins with a key frame: {:?}", outcome.units);
        let [[from, to, reason]] = outcome.fallbacks.as_slice() else { panic!("{:?}", outcome.fallbacks) };
        assert_eq!((from.as_str(), to.as_str()), ("failingenc", "x264enc"));
        assert!(reason.starts_with("failingenc: Failed after iterations"), "{reason}");
    }
}

#[test]
fn where_none_is_left_the_error_tells_of_each() {
    let outcome = encode(&["nosuchenc", "closedenc"], 10);
    let error = outcome.error.unwrap();
    assert!(
        error.starts_with("no h264 encoder works: nosuchenc: it is not installed; closedenc: "),
        "{error}"
    );
    let outcome = encode(&["failingenc"], 100);
    assert_eq!(outcome.units.len(), 20);
    let error = outcome.error.unwrap();
    assert!(error.starts_with("no h264 encoder works: failingenc: "), "{error}");
}

#[test]
fn an_error_from_downstream_is_not_the_encoders_fault() {
    init();
    register();
    let slot = EncoderSlot::new(encoding(&["x264enc", "openh264enc"]), 100);
    let source = gst::ElementFactory::make("videotestsrc").property("num-buffers", 60).build().unwrap();
    let broken = gst::ElementFactory::make("identity").property("error-after", 5).build().unwrap();
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    let pipeline = gst::Pipeline::new();
    let elements = [&source, slot.upcast_ref(), &broken, &sink];
    pipeline.add_many(elements).unwrap();
    gst::Element::link_many(elements).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    let message = pipeline.bus().unwrap().timed_pop_filtered(patience, &[gst::MessageType::Error]);
    assert_eq!(message.unwrap().src().unwrap(), broken.upcast_ref::<gst::Object>());
    assert_eq!(slot.current().unwrap().0, "x264enc");
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn it_starts_again_with_the_first_candidate() {
    init();
    register();
    let slot = EncoderSlot::new(encoding(&["failingenc", "x264enc"]), 100);
    let make = gst::ElementFactory::make;
    let source = make("videotestsrc").property("num-buffers", 60).property("is-live", true).build().unwrap();
    let sink = make("fakesink").property("signal-handoffs", true).build().unwrap();
    let seen = std::sync::Arc::new(AtomicU32::new(0));
    let counter = seen.clone();
    sink.connect("handoff", false, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        None
    });
    let pipeline = gst::Pipeline::new();
    let elements = [&source, slot.upcast_ref(), &sink];
    pipeline.add_many(elements).unwrap();
    gst::Element::link_many(elements).unwrap();
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    for (rest, given_up) in [(gst::State::Null, 1), (gst::State::Ready, 1), (gst::State::Null, 1)] {
        seen.store(0, Ordering::Relaxed);
        pipeline.set_state(gst::State::Playing).unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(patience, &kinds).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?} {:?}", slot.given_up());
        assert!((21..=60).contains(&seen.load(Ordering::Relaxed)), "{seen:?}");
        assert_eq!(slot.current().unwrap().0, "x264enc");
        assert_eq!(slot.given_up().len(), given_up);
        pipeline.set_state(rest).unwrap();
    }
    assert_eq!(slot.current(), None, "none is held in NULL");
}
