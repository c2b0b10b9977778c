// SPDX-License-Identifier: MPL-2.0

//! What `cvmmapsrc` tells of a producer that speaks over NATS, and what it does not let itself be disturbed by. The
//! producer is the one in Python, the server Debian's.

mod common;

use std::sync::{Arc, Mutex};

use common::nats::Nats;
use common::nats_peer::{Producer, publish_garbage};
use common::*;
use gst::prelude::*;

/// State and cause of each `cvmmapsrc-state` message, in order.
fn lived(messages: &[gst::Message]) -> Vec<String> {
    let state = |structure: &gst::StructureRef| {
        let field = |name| structure.get::<String>(name).unwrap();
        format!("{} {}", field("state"), field("cause"))
    };
    let structures = messages.iter().filter_map(|message| message.structure());
    structures.filter(|structure| structure.name() == "cvmmapsrc-state").map(state).collect()
}

fn nats_of(consumer: &Consumer) -> String {
    consumer.stats().get("nats").unwrap()
}

fn wait_for_link(consumer: &Consumer, link: &str) {
    wait_for(&format!("the link to be {link}"), || nats_of(consumer) == link);
}

/// Pulls frames in a thread for as long as the consumer lives, and counts those that are discontinuous.
struct Puller {
    discont: Arc<Mutex<Vec<u64>>>,
}

impl Puller {
    fn of(consumer: &Consumer) -> Self {
        let discont = Arc::<Mutex<Vec<u64>>>::default();
        let keep = discont.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffer = sample.buffer().unwrap();
            if buffer.flags().contains(gst::BufferFlags::DISCONT) {
                keep.lock().unwrap().push(buffer.offset());
            }
            Ok(gst::FlowSuccess::Ok)
        });
        consumer.sink.set_callbacks(callbacks.build());
        Self { discont }
    }

    fn disconts(&self) -> usize {
        self.discont.lock().unwrap().len()
    }
}

#[test]
fn each_turn_of_a_life_is_told_once() {
    let nats = Nats::start();
    let target = unique("life");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    let forced = force_key_units(&consumer);
    let puller = Puller::of(&consumer);
    consumer.play();
    wait_for_link(&consumer, "up");
    let mut producer = Producer::start(&target, &nats.url(), "--fps 30");
    wait_for("frames", || consumer.stat("frames") > 5);
    let mut told = lived(&consumer.messages());
    // ONLINE comes after the first frame; the first frame may have come before the socket was connected.
    let begun = [
        vec!["waiting frames", "streaming frames"],
        vec!["waiting frames", "online event", "streaming frames"],
    ];
    assert!(begun.iter().any(|begun| told == *begun), "{told:?}");
    told.clear();

    for (resets, command) in [(1, "reset"), (2, "reset-before"), (3, "reset-event"), (4, "reset-count")] {
        if command == "reset-count" {
            // An event without a fall and a fall without an event, soon after each other, would be one reset.
            std::thread::sleep(cvmmap_control::life::SAME_RESET);
        }
        producer.tell(command);
        wait_for(command, || consumer.stat("resets") == resets);
        let frames = consumer.stat("frames");
        // The other half of the reset would have come by then.
        wait_for("frames after it", || consumer.stat("frames") > frames + 10);
        told.extend(lived(&consumer.messages()));
        assert_eq!(consumer.stat("resets"), resets, "{command}: {told:?}");
        let resets = told.iter().filter(|state| state.starts_with("reset ")).count();
        assert_eq!(resets, consumer.stat("resets") as usize, "{command}: {told:?}");
    }
    assert_eq!(forced.try_iter().count(), 4, "{told:?}");
    assert_eq!(puller.disconts(), 1 + 4);
    let causes: Vec<&str> =
        told.iter().filter(|state| state.starts_with("reset")).map(|s| s.as_str()).collect();
    assert_eq!(causes[2..], ["reset event", "reset frames"]);

    // It says goodbye, and goes on.
    producer.tell("offline");
    let mut told = Vec::new();
    wait_for("its return", || {
        told.extend(lived(&consumer.messages()));
        told.len() >= 3
    });
    assert_eq!(told, ["offline event", "online frames", "streaming frames"]);
    producer.tell("quit");
    let mut told = Vec::new();
    wait_for("its end", || {
        told.extend(lived(&consumer.messages()));
        !told.is_empty()
    });
    // Longer than it takes to be stalled.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    told.extend(lived(&consumer.messages()));
    assert_eq!(told, ["offline event"]);
}

#[test]
fn what_is_garbage_or_of_others_disturbs_nothing() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("garbage");
    let uri = format!("uri=cvmmap://{target}");
    let with = Consumer::new(&format!("{uri} body-tracking=true nats-url={}", nats.url()));
    let without = Consumer::new(&format!("{uri} nats-url=\"\""));
    let _pullers = (Puller::of(&with), Puller::of(&without));
    let logged = log_lines("over NATS came");
    let args = "--fps 30 --bodies 1 --garbage --unknown-fields --slow 1000";
    let mut producer = Producer::start(&target, &nats.url(), args);
    with.play();
    without.play();
    wait_for_link(&with, "up");
    assert_eq!(nats_of(&without), "off");
    wait_for("frames", || with.stat("frames") > 30 && without.stat("frames") > 30);
    with.messages();
    let before = (with.stat("dropped"), without.stat("dropped"), with.stat("frames"));
    producer.tell("stray");
    let subjects = [producer.subject("status"), producer.subject("body")];
    publish_garbage(&nats.url(), &subjects.each_ref().map(String::as_str));
    wait_for("garbage", || with.stat("invalid-events") > 60 && with.stat("invalid-bodies") > 60);
    wait_for("bodies", || with.stat("bodies-attached") > 30);
    let dropped = (with.stat("dropped") - before.0, without.stat("dropped") - before.1);
    // On a loaded machine frames are missed by everybody. Answers take a second: who waited for one would miss thirty.
    let frames = with.stat("frames") - before.2;
    assert!(dropped.0 <= dropped.1 + frames / 3, "{dropped:?} of {frames}");
    assert_eq!((with.stat("resets"), with.stat("invalid-events") > 0), (0, true));
    assert_eq!(lived(&with.messages()), [""; 0]);
    let lines = logged.lock().unwrap().clone();
    // One for each kind: events, bodies, answers.
    assert!((2..=3).contains(&lines.len()), "{lines:#?}");
}

/// The lines of the category from now on that hold `words`.
fn log_lines(words: &'static str) -> Arc<Mutex<Vec<String>>> {
    init();
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let keep = lines.clone();
    gst::log::set_threshold_for_name("cvmmapsrc", gst::DebugLevel::Info);
    gst::log::add_log_function(move |category, _, _, _, _, _, message| {
        let text = message.get().map(|text| text.to_string()).unwrap_or_default();
        if category.name() == "cvmmapsrc" && text.contains(words) {
            keep.lock().unwrap().push(text);
        }
    });
    lines
}

#[test]
fn a_server_that_dies_and_returns_is_one_line_each() {
    let mut nats = Nats::start();
    let target = unique("server");
    let logged = log_lines(Box::leak(format!("at {}", nats.url()).into_boxed_str()));
    let consumer = Consumer::new(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    let _puller = Puller::of(&consumer);
    consumer.play();
    let mut producer = Producer::start(&target, &nats.url(), "--fps 30 --finite 60");
    wait_for("the source info", || {
        consumer.source.property::<Option<gst::Structure>>("source-info").is_some()
    });
    for outage in 1..=2 {
        nats.kill();
        wait_for_link(&consumer, "down");
        let frames = consumer.stat("frames");
        wait_for("frames without a server", || consumer.stat("frames") > frames + 40);
        nats.restart();
        wait_for_link(&consumer, "up");
        wait_for("both lines", || logged.lock().unwrap().len() == 1 + 2 * outage);
    }
    let lines = logged.lock().unwrap().clone();
    let missing = lines.iter().filter(|line| line.contains("no NATS server")).count();
    assert_eq!((missing, lines.len()), (2, 5), "{lines:#?}");
    // Subscriptions came back with it.
    wait_for("the producer's return", || {
        producer.tell("reset-event");
        std::thread::sleep(std::time::Duration::from_millis(100));
        consumer.stat("resets") > 0
    });
    let warnings = consumer.messages().iter().filter(|m| m.type_() == gst::MessageType::Warning).count();
    assert_eq!(warnings, 0);
}

#[test]
fn two_hundred_events_a_second_are_all_taken() {
    let nats = Nats::start();
    let target = unique("flood");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    let _puller = Puller::of(&consumer);
    let mut producer = Producer::start(&target, &nats.url(), "--fps 30");
    consumer.play();
    wait_for("frames", || consumer.stat("frames") > 5);
    let frames = consumer.stat("frames");
    for second in 1..=5 {
        for _ in 0..200 {
            producer.tell("reset-event");
        }
        wait_for("the events", || consumer.stat("resets") == 200 * second);
    }
    let mut told = Vec::new();
    // What is counted may not be posted yet.
    wait_for("their messages", || {
        told.extend(lived(&consumer.messages()));
        told.iter().filter(|state| *state == "reset event").count() >= 1000
    });
    assert_eq!(told.iter().filter(|state| *state == "reset event").count(), 1000);
    assert_eq!(consumer.stat("lost-messages"), 0);
    wait_for("frames after it", || consumer.stat("frames") > frames + 20);
}

#[test]
fn a_wrong_server_fails_the_state_change_without_its_password() {
    let consumer = Consumer::new("nats-url=http://user:hunter2@host");
    assert!(consumer.pipeline.set_state(gst::State::Paused).is_err());
    let error = consumer.errors().remove(0);
    assert!(error.starts_with("property 'nats-url' = 'http://***@host': "), "{error}");
    assert!(!error.contains("hunter2"));
}

#[test]
fn the_source_info_is_known_told_and_asked_for_anew() {
    let nats = Nats::start();
    let target = unique("info");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    let _puller = Puller::of(&consumer);
    let info = || consumer.source.property::<Option<gst::Structure>>("source-info");
    let notified = Arc::<Mutex<usize>>::default();
    let count = notified.clone();
    consumer.source.connect_notify(Some("source-info"), move |_, _| *count.lock().unwrap() += 1);
    consumer.play();
    wait_for_link(&consumer, "up");
    assert!(info().is_none());
    for (dialect, args, kind, seeks) in [
        ("older", "--finite 10", "finite", true),
        ("newer", "", "live", false),
        ("newest", "--finite 5 --loop", "finite", false),
    ] {
        let mut producer =
            Producer::start(&target, &nats.url(), &format!("--dialect {dialect} --unknown-fields {args}"));
        wait_for(dialect, || info().is_some_and(|info| info.get("source-kind") == Ok(kind)));
        let info = info().unwrap();
        assert_eq!(info.get("can-seek"), Ok(seeks), "{info}");
        assert_eq!(info.get("auto-loop"), Ok(args.contains("loop")), "{info}");
        let domain = if kind == "live" { "unix" } else { "media" };
        assert_eq!(info.get("timestamp-domain"), Ok(domain), "{info}");
        if args.contains("10") {
            assert_eq!(info.get("duration"), Ok(10_000_000_000u64), "{info}");
        }
        let mut query = gst::query::Seeking::new(gst::Format::Time);
        assert!(consumer.source.query(&mut query));
        assert_eq!(query.result().0, seeks);
        producer.tell("quit");
        producer.wait_for_done("quit");
    }
    let told = consumer.messages();
    let infos = told.iter().filter(|m| m.structure().is_some_and(|s| s.name() == "cvmmapsrc-source-info"));
    assert_eq!(infos.count(), 3);
    assert!(*notified.lock().unwrap() >= 3);
    consumer.pipeline.set_state(gst::State::Null).unwrap();
    assert!(info().is_none());
    assert_eq!(nats_of(&consumer), "off");
}
