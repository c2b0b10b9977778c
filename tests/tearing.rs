// SPDX-License-Identifier: MPL-2.0

//! No torn frame leaves the source: producers are separate processes that write in the real order.

mod common;

use common::*;
use std::time::Duration;

fn torn(seen: &[Seen]) -> Vec<String> {
    seen.iter().filter_map(|frame| frame.whole.clone().err()).collect()
}

/// Share of the published frames that arrived, from the first to the last that did.
fn arrived(seen: &[Seen]) -> f64 {
    let span = seen.last().unwrap().count - seen[0].count + 1;
    seen.len() as f64 / f64::from(span)
}

/// Plays `frames` frames of a paced producer: nearly all arrive, and none is torn. A machine that is busy for a moment
/// misses some, and is given other moments.
fn nearly_all_arrive(sim_args: &str, frames: usize, least: f64) {
    let _alone = alone();
    let mut told = Vec::new();
    for _ in 0..5 {
        let target = unique("pace");
        let _sim = sim(&target, sim_args);
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
        let seen = consumer.take(frames);
        assert_eq!(torn(&seen), Vec::<String>::new());
        let share = arrived(&seen);
        if share >= least {
            return;
        }
        told.push(format!("{share:.4} of the frames arrived: {}", consumer.stats()));
    }
    panic!("{told:#?}");
}

#[test]
fn at_1080p30_nearly_all_frames_arrive_and_none_is_torn() {
    nearly_all_arrive("--size 1920x1080 --fps 30", 180, 0.99);
}

#[test]
fn at_360p200_nearly_all_frames_arrive_and_none_is_torn() {
    nearly_all_arrive("--size 640x360 --fps 200", 1000, 0.99);
}

/// A consumer that takes 20 ms for each frame, as the measurements of the contract page have it.
fn busy_consumer(target: &str, level: &str) -> Consumer {
    let consumer = Consumer::new(&format!("uri=cvmmap://{target} coherence={level}"));
    use gst::prelude::*;
    let pad = consumer.source.static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, |_, _| {
        std::thread::sleep(Duration::from_millis(20));
        gst::PadProbeReturn::Ok
    });
    consumer.play();
    consumer
}

const PAUSING: &str = "--size 1280x720 --fps 60 --fault pause@0+1=6";

#[test]
fn a_pausing_producer_and_a_busy_consumer_tear_nothing() {
    let _alone = alone();
    for (level, stamps) in [("verify", "unix"), ("next-sync", "unix"), ("verify", "media")] {
        // `verify` has evidence and no proof: a machine that holds the producer up between two lines of a picture for
        // longer than anybody looks may get one past it.
        let round = || {
            let target = unique("busy");
            let _sim = sim(&target, &format!("{PAUSING} --timestamps {stamps}"));
            torn(&busy_consumer(&target, level).take(120))
        };
        let mut told = vec![round()];
        while level == "verify" && told.len() < 3 && !told.last().unwrap().is_empty() {
            told.push(round());
        }
        assert_eq!(told.last().unwrap(), &Vec::<String>::new(), "{level} {stamps}: {told:?}");
    }
}

/// Keeps the tests above honest: on the same load, what is not looked for is there.
#[test]
fn metadata_alone_lets_torn_frames_through() {
    let _alone = alone();
    let target = unique("naive");
    let _sim = sim(&target, PAUSING);
    let consumer = busy_consumer(&target, "metadata");
    let mut seen = Vec::new();
    wait_for("a torn frame: the load of these tests no longer tears", || {
        seen.push(consumer.next());
        !torn(&seen).is_empty()
    });
}

#[test]
fn flat_out_nothing_is_torn_and_the_counters_tell_why() {
    let _alone = alone();
    for (args, level) in [
        ("--size 640x360 --fps 0", "verify"),
        ("--size 640x360 --fps 0 --format gray", "verify"),
        ("--size 1920x1080 --fps 0", "verify"),
        ("--size 640x360 --fps 0", "next-sync"),
    ] {
        let target = unique("flat");
        let _sim = sim(&target, args);
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target} coherence={level}"));
        // Frames of the producer, not of ours: hardly any copy can be coherent.
        let enough = if args.contains("1080") { 2_000 } else { 20_000 };
        wait_for("the producer's frames", || consumer.stat("dropped") + consumer.stat("frames") >= enough);
        let mut seen = Vec::new();
        while let Some(sample) = consumer.sink.try_pull_sample(gst::ClockTime::ZERO) {
            seen.push(see(&sample));
        }
        assert_eq!(torn(&seen), Vec::<String>::new(), "{args} {level}");
        assert!(consumer.stat("torn") > 0, "{}", consumer.stats());
        eprintln!("{args} {level}: {}", consumer.stats());
    }
}

#[test]
fn a_deep_pipeline_behind_the_sensor_does_not_starve_the_source() {
    // Stamped two and a half frames before it is published.
    nearly_all_arrive("--size 640x360 --fps 60 --stamp-age-ms 42", 240, 0.95);
}
