// SPDX-License-Identifier: MPL-2.0

//! The simulator as a whole producer, as a client in Python meets it over a real server.

mod common;

use std::process::Stdio;

use common::nats::Nats;
use common::nats_peer::{Talker, ask, discover, garbage, watch};
use common::*;
use serde_json::{Value, json};

const UNSUPPORTED: u64 = 3;
const INVALID_PAYLOAD: u64 = 4;
const OUT_OF_RANGE: u64 = 5;
const TIMEOUT: u64 = 6;

/// A simulator that answers.
struct Sim {
    process: Process,
    target: cvmmap_ipc::Target,
    url: String,
}

impl Sim {
    fn start(url: &str, args: &str) -> Self {
        Self::of(&unique("nsim"), url, args)
    }

    fn of(target: &str, url: &str, args: &str) -> Self {
        let sim = Self {
            process: common::sim(target, &format!("--nats-url {url} {args}")),
            target: target.parse().unwrap(),
            url: url.into(),
        };
        wait_for("an answer", || {
            ask(url, &sim.subject("producer.source.info"), "Empty", &[]).get("answer").is_some()
        });
        sim
    }

    fn subject(&self, tail: &str) -> String {
        format!("cvmmap.{}.{tail}", self.target.nats_target_key())
    }

    fn ask(&self, tail: &str, message: &str, fields: &[&str]) -> Value {
        let answer = ask(&self.url, &self.subject(tail), message, fields);
        assert!(answer.get("failed").is_none(), "{tail}: {answer}");
        answer["answer"].clone()
    }

    fn info(&self) -> Value {
        self.ask("control.source.info", "Empty", &[])
    }

    fn seek(&self, target_ns: u64) -> Value {
        let target = format!("target_timestamp_ns={target_ns}");
        self.ask("producer.source.seek", "SeekTimestampRequest", &[&target])
    }

    fn published(&self) -> cvmmap_ipc::FrameId {
        cvmmap_ipc::peek_segment(&self.target.shm_name()).unwrap().header.unwrap().frame
    }
}

fn events(seen: &Talker) -> Vec<u64> {
    seen.lines().iter().filter_map(|line| line["event"]["status"].as_u64()).collect()
}

#[test]
fn a_camera_answers_in_both_dialects_and_keeps_its_settings_in_range() {
    let nats = Nats::start();
    let sim = Sim::start(&nats.url(), "--fps 60 --depth --bodies 1");
    for dialect in ["producer", "control"] {
        let info = sim.ask(&format!("{dialect}.source.info"), "Empty", &["--unknown-fields"]);
        let (kind, domain, flags) = (&info["source_kind"], &info["timestamp_domain"], &info["flags"]);
        assert_eq!((kind, domain, flags), (&json!(1), &json!(1), &json!(0x4 | 0x8)), "{info}");
        let seek = sim.ask(&format!("{dialect}.source.seek"), "SeekTimestampRequest", &[]);
        assert_eq!(seek["error"], UNSUPPORTED);
        let playlist = sim.ask(&format!("{dialect}.source.playlist.info"), "Empty", &[]);
        assert_eq!(playlist["error"], UNSUPPORTED);
    }
    let camera = |verb: &str, message: &str, fields: &[&str]| {
        sim.ask(&format!("producer.camera_control.{verb}"), message, fields)
    };
    let settings = camera("capabilities", "Empty", &[]);
    assert_eq!(settings["supported_settings"], json!((1..=12).collect::<Vec<u32>>()));
    let set = |fields: &[&str]| camera("set", "SetCameraControlRequest", fields);
    let state = |value: i32| json!({"setting": 4, "kind": 1, "value": value, "min_value": 0, "max_value": 0});
    assert_eq!(set(&["setting=4", "mode=1", "value=5600"])["state"], state(5600));
    for value in ["value=2799", "value=6501", "value=-2147483648"] {
        let answer = set(&["setting=4", "mode=1", value]);
        assert_eq!(answer["error"], OUT_OF_RANGE, "{answer}");
        assert!(answer["error_message"].as_str().unwrap().contains("2800 to 6500"), "{answer}");
    }
    assert_eq!(camera("get", "GetCameraControlRequest", &["setting=4"])["state"], state(5600));
    assert_eq!(set(&["setting=4", "mode=2"])["state"], state(-1));
    assert_eq!(set(&["setting=99", "mode=1"])["error"], UNSUPPORTED);
    assert_eq!(set(&["setting=4", "mode=0"])["error"], INVALID_PAYLOAD);
    let range = |fields: &[&str]| camera("set_range", "SetCameraControlRangeRequest", fields);
    let answer = range(&["setting=12", "min_value=2", "max_value=8"]);
    assert_eq!((&answer["state"]["min_value"], &answer["state"]["max_value"]), (&json!(2), &json!(8)));
    assert_eq!(range(&["setting=12", "min_value=8", "max_value=2"])["error"], OUT_OF_RANGE);

    let refused = garbage(&nats.url(), &[&sim.subject("producer.camera_control.set_range")]);
    assert!(refused.iter().all(|line| line["answer"]["error"] == INVALID_PAYLOAD), "{refused:?}");
    let found = discover(&nats.url(), "cvmmap_producer");
    assert_eq!(found["info"][0]["metadata"]["backend"], "sim");
    assert_eq!(found["info"][0]["metadata"]["instance_name"], sim.target.instance());
}

#[test]
fn a_reset_by_request_restarts_the_count_and_is_no_event() {
    let nats = Nats::start();
    let sim = Sim::start(&nats.url(), "--fps 20");
    let seen = watch(&nats.url(), &[&sim.subject("status")]);
    wait_for("frames", || sim.published().count > 100);
    assert_eq!(sim.ask("producer.source.reset", "Empty", &[]), json!({"error": 0}));
    wait_for("the count to begin anew", || sim.published().count < 100);
    sim.process.signal(libc::SIGINT);
    wait_for("OFFLINE", || events(&seen) == [2]);
}

#[test]
fn a_seek_that_was_refused_for_its_time_is_not_done_later() {
    let nats = Nats::start();
    // Busy for longer than a request may take, between moments in which it looks at them.
    let sim = Sim::start(&nats.url(), "--fps 20 --replay 600 --fault slow@1+1=1500");
    let mut refused = None;
    wait_for("a seek that comes too late", || {
        let before = sim.published().count;
        let answer = sim.seek(u64::from(before + 300) * 50_000_000);
        // One that comes in time is done with the next frame.
        if let Some(landed) = answer["landed_frame_count"].as_u64().filter(|_| answer["error"] == 0) {
            wait_for("the landing", || u64::from(sim.published().count) >= landed);
        }
        refused = (answer["error"] == TIMEOUT).then_some(before);
        refused.is_some()
    });
    let before = refused.unwrap();
    wait_for("frames after it", || sim.published().count >= before + 3);
    assert!(sim.published().count < before + 200, "{} after {before}", sim.published().count);
}

#[test]
fn a_replay_lands_on_the_very_sample_and_loops_with_a_reset() {
    let nats = Nats::start();
    let sim = Sim::start(&nats.url(), "--fps 20 --replay 4 --loop --bodies 2");
    let mut seen = watch(&nats.url(), &[&sim.subject("body"), &sim.subject("status")]);
    let info = sim.info();
    let told = |name: &str| info[name].as_u64().unwrap();
    // Can seek, loops, has bodies, tells its loops.
    assert_eq!(
        (told("source_kind"), told("timestamp_domain"), told("flags")),
        (2, 2, 0x1 | 0x2 | 0x8 | 0x20)
    );
    let timeline = (told("timeline_start_ns"), told("timeline_end_ns"), told("duration_ns"));
    assert_eq!(timeline, (0, 4_000_000_000, 4_000_000_000));
    for (target, landed, exact) in [
        (3_500_000_001, 3_550_000_000_u64, false),
        (1_000_000_000, 1_000_000_000, true),
        (4_000_000_000, 4_000_000_000, true),
    ] {
        let count = landed / 50_000_000;
        let answer = json!({
            "error": 0,
            "requested_timestamp_ns": target,
            "landed_timestamp_ns": landed,
            "landed_frame_count": count,
            "exact_match": exact,
        });
        assert_eq!(sim.seek(target), answer);
        // The next packet that comes is of that very sample.
        let packet = seen.wait("the sample", |line| line["header"]["timestamp_ns"] == landed);
        assert_eq!(packet["header"]["frame_count"], count);
    }
    for target in [4_000_000_001, u64::MAX] {
        assert_eq!(sim.seek(target)["error"], OUT_OF_RANGE);
    }
    // The last sample was sought, so a new round begins.
    seen.wait("the event of the new round", |line| line["event"]["status"] == 3);
    let lines = seen.lines();
    let times: Vec<u64> = lines.iter().filter_map(|line| line["header"]["timestamp_ns"].as_u64()).collect();
    assert!(times.iter().all(|time| time % 50_000_000 == 0 && *time <= 4_000_000_000), "{times:?}");
    let at = |wanted: &dyn Fn(&Value) -> bool| lines.iter().rposition(wanted).unwrap();
    let last = at(&|line| line["header"]["timestamp_ns"] == 4_000_000_000_u64);
    let reset = at(&|line| line["event"]["status"] == 3);
    assert!(last < reset, "{lines:?}");
}

#[test]
fn a_replay_waits_at_its_end_for_a_seek() {
    let nats = Nats::start();
    let sim = Sim::start(&nats.url(), "--fps 50 --replay 0.5 --bodies 1");
    wait_for("its end", || sim.published().timestamp_ns == 500_000_000);
    // Packets tell of the landing also to who looks when the end has come again.
    let mut seen = watch(&nats.url(), &[&sim.subject("status"), &sim.subject("body")]);
    assert_eq!(sim.info()["current_timestamp_ns"], 500_000_000);
    assert_eq!(sim.seek(100_000_000)["landed_frame_count"], 5);
    seen.wait("the landing", |line| line["header"]["frame_count"] == 5);
    wait_for("its end", || sim.published().timestamp_ns == 500_000_000);
    assert_eq!(events(&seen), [0; 0]);
    sim.process.signal(libc::SIGINT);
    wait_for("OFFLINE", || events(&seen) == [2]);
}

#[test]
fn faults_of_its_life_are_told() {
    let nats = Nats::start();
    let target = unique("nsim");
    let key = target.parse::<cvmmap_ipc::Target>().unwrap().nats_target_key();
    // The watcher first: nobody knows how long it takes to come. Then, five seconds for the simulator to connect.
    let seen = watch(&nats.url(), &[&format!("cvmmap.{key}.status")]);
    let _sim = Sim::of(&target, &nats.url(), "--fps 30 --fault reset@150 --fault restart@180=300");
    wait_for("reset, restart", || events(&seen).ends_with(&[3, 2, 1]));
    // It came before.
    assert!(matches!(events(&seen)[..], [1, 3, 2, 1] | [3, 2, 1]), "{:?}", events(&seen));
}

#[test]
fn bodies_follow_from_the_frame_count_and_are_whole() {
    let nats = Nats::start();
    let bodies_of = |sim: &Sim, count: u64| {
        let mut seen = watch(&nats.url(), &[&sim.subject("body"), "--full"]);
        sim.seek(count * 100_000_000);
        seen.wait("the packet", |line| line["header"]["frame_count"] == count)
    };
    let args = "--fps 10 --replay 60 --size 640x480 --bodies 3";
    let (one, two) = (Sim::start(&nats.url(), args), Sim::start(&nats.url(), args));
    let first = bodies_of(&one, 200);
    assert_eq!(first["bodies"], bodies_of(&two, 200)["bodies"]);
    assert_ne!(first["bodies"], bodies_of(&two, 300)["bodies"]);
    assert_eq!(first["header"]["label"], one.target.instance());
    assert_eq!((&first["header"]["format"], &first["header"]["body_count"]), (&json!(2), &json!(3)));
    for body in first["bodies"].as_array().unwrap() {
        assert_eq!((&body["keypoint_count"], &body["tracking_state"]), (&json!(38), &json!(1)));
        for joint in body["keypoint_2d"].as_array().unwrap() {
            let (x, y) = (joint[0].as_f64().unwrap(), joint[1].as_f64().unwrap());
            assert!((0.0..640.0).contains(&x) && (0.0..480.0).contains(&y), "out of the picture: {joint}");
        }
    }
}

#[test]
fn an_outage_is_told_once_and_frames_go_on() {
    let mut nats = Nats::start();
    let target = unique("nsim");
    let mut command = streamer();
    command.args(["sim", &target, "--fps", "50", "--nats-url", &nats.url()]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let process = Process::spawn(command.stdout(Stdio::null()).stderr(log.reopen().unwrap()));
    let said = |what: &str| std::fs::read_to_string(log.path()).unwrap().matches(what).count();
    let segment = target.parse::<cvmmap_ipc::Target>().unwrap().shm_name();
    let count = || {
        let info = cvmmap_ipc::peek_segment(&segment).ok();
        info.and_then(|info| info.header.ok()).map_or(0, |header| header.frame.count)
    };
    wait_for("the server", || said("is there") == 1);
    for outages in 1..=2 {
        nats.kill();
        wait_for("the outage", || said("is away") == outages);
        let dead = count();
        wait_for("two seconds of frames without a server", || count() > dead + 100);
        nats.restart();
        wait_for("the return", || said("is there") == outages + 1);
    }
    let key = format!(
        "cvmmap.{}.producer.source.info",
        target.parse::<cvmmap_ipc::Target>().unwrap().nats_target_key()
    );
    wait_for("an answer", || ask(&nats.url(), &key, "Empty", &[]).get("answer").is_some());
    drop(process);
    assert_eq!(said("NATS"), 5, "{}", std::fs::read_to_string(log.path()).unwrap());
}

#[test]
fn arguments_that_contradict_each_other_are_refused_by_name() {
    let target = unique("nsim");
    for (args, rule) in [
        ("--bodies 3", "--bodies 3: they are published over NATS: --nats-url"),
        ("--bodies 65 --nats-url nats://h", "0..=64"),
        ("--loop", "--replay <SECONDS>"),
        ("--replay 3 --fps 0", "--fps is not 0"),
        ("--replay 3 --timestamps unix", "media time"),
        ("--replay 0", "0.001 to 86400"),
        ("--replay NaN", "0.001 to 86400"),
        ("--nats-url http://user:hunter2@h", "--nats-url 'http://***@h': it is nats://"),
    ] {
        let output = run(streamer().args(["sim", &target]).args(args.split_whitespace()));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {said}");
        assert!(said.contains(rule) && !said.contains("hunter2"), "{args}: {said}");
    }
}
