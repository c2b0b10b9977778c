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
    init();
    register();
    let slot = EncoderSlot::new(encoding(candidates));
    let make = |name| gst::ElementFactory::make(name);
    let source = make("videotestsrc").property("num-buffers", frames as i32).build().unwrap();
    let caps: gst::Caps = "video/x-raw,format=BGR,width=160,height=120,framerate=30/1".parse().unwrap();
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
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    while started.is_ok()
        && let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(300)).or_else(|| {
            (!sink.is_eos() && bus.peek().is_none_or(|m| m.type_() != gst::MessageType::Error))
                .then(|| sink.try_pull_sample(patience / 10))
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

/// Every frame from `first` on came out, once and in order, and the first of them is a key frame.
fn assert_whole(outcome: &Outcome, first: u64, frames: u64) {
    let wanted: Vec<u64> = (first..frames).map(|n| n * 1000 / 30).collect();
    let got: Vec<u64> = outcome.units.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(got, wanted, "{:?} {:?}", outcome.error, outcome.fallbacks);
    assert!(outcome.units[0].1, "it begins with a key frame");
    assert_eq!(outcome.error, None);
}

#[test]
fn the_first_that_works_is_used() {
    let outcome = encode(&["x264enc", "nosuchenc"], 40);
    assert_whole(&outcome, 0, 40);
    assert!(outcome.fallbacks.is_empty());
}

#[test]
fn missing_and_closed_candidates_are_told_once() {
    let outcome = encode(&["nosuchenc", "closedenc", "x264enc"], 40);
    assert_whole(&outcome, 0, 40);
    let [[from, to, reason]] = outcome.fallbacks.as_slice() else { panic!("{:?}", outcome.fallbacks) };
    assert_eq!((from.as_str(), to.as_str()), ("nosuchenc", "x264enc"));
    assert!(reason.contains("nosuchenc: it is not installed"), "{reason}");
    assert!(reason.contains("closedenc: ") && reason.contains("the device is busy"), "{reason}");
}

#[test]
fn a_candidate_that_refuses_the_caps_costs_no_frame() {
    let outcome = encode(&["refusingenc", "x264enc"], 40);
    assert_whole(&outcome, 0, 40);
    assert_eq!(outcome.fallbacks.len(), 1, "{:?}", outcome.fallbacks);
}

#[test]
fn a_candidate_that_swallows_frames_is_given_up_after_sixty() {
    let outcome = encode(&["swallowingenc", "x264enc"], 100);
    assert_whole(&outcome, 60, 100);
    let [[from, _, reason]] = outcome.fallbacks.as_slice() else { panic!("{:?}", outcome.fallbacks) };
    assert_eq!(from, "swallowingenc");
    assert!(reason.contains("nothing came out for 60 frames"), "{reason}");
}

#[test]
fn a_candidate_that_fails_later_costs_no_frame_but_begins_anew() {
    let outcome = encode(&["failingenc", "x264enc"], 100);
    let got: Vec<u64> = outcome.units.iter().map(|(ms, _)| *ms).collect();
    // The frame that the failing one took with it is handed to the next.
    assert_eq!(got, (0..100).map(|n| n * 1000 / 30).collect::<Vec<u64>>());
    let keys: Vec<usize> = (0..100).filter(|&n| outcome.units[n].1).collect();
    assert_eq!(keys, [0, 20, 50, 80], "the second begins with a key frame at 20, each has one every 30");
    let [[from, to, reason]] = outcome.fallbacks.as_slice() else { panic!("{:?}", outcome.fallbacks) };
    assert_eq!((from.as_str(), to.as_str()), ("failingenc", "x264enc"));
    assert!(reason.starts_with("failingenc: "), "{reason}");
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
    let slot = EncoderSlot::new(encoding(&["x264enc", "openh264enc"]));
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
    let slot = EncoderSlot::new(encoding(&["failingenc", "x264enc"]));
    let source = gst::ElementFactory::make("videotestsrc").property("num-buffers", 60).build().unwrap();
    let sink = gst::ElementFactory::make("fakesink").property("signal-handoffs", true).build().unwrap();
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
    for rest in [gst::State::Ready, gst::State::Null] {
        seen.store(0, Ordering::Relaxed);
        pipeline.set_state(gst::State::Playing).unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(patience, &kinds).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos);
        assert_eq!(seen.load(Ordering::Relaxed), 60);
        assert_eq!(slot.current().unwrap().0, "x264enc");
        pipeline.set_state(rest).unwrap();
    }
    assert_eq!(slot.current(), None, "none is held in NULL");
}
