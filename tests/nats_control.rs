// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer control` against the producer in Python, with a real server.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use common::nats::Nats;
use common::nats_peer::{Producer, publish_garbage};
use common::*;
use serde_json::{Value, json};

/// A producer, and how it is asked.
struct Rig {
    nats: Nats,
    target: String,
    producer: Producer,
}

impl Rig {
    fn new(args: &str) -> Self {
        let (nats, target) = (Nats::start(), unique("ctl"));
        let producer = Producer::start(&target, &nats.url(), args);
        Self { nats, target, producer }
    }

    fn command(&self, line: &str) -> std::process::Command {
        let mut command = streamer();
        command.args(["control", &self.target, "--nats-url", &self.nats.url()]).args(line.split_whitespace());
        // By default a second, which is not enough on a loaded machine.
        if !line.contains("--timeout-ms") {
            command.args(["--timeout-ms", "20000"]);
        }
        command
    }

    fn output(&self, line: &str) -> Output {
        run(&mut self.command(line))
    }

    fn text(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(&format!("{line} --json"))).unwrap()
    }

    /// Exit code and the one line of the error.
    fn error(&self, line: &str) -> (Option<i32>, String) {
        failed(self.output(line))
    }
}

fn failed(output: Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let shown = text(&output.stderr);
    let line = shown.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n') && line.starts_with("error: "), "{shown}");
    (output.status.code(), line.to_owned())
}

/// Lines of a process, as they come.
struct Lines {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
    talk: Arc<Mutex<Vec<String>>>,
}

impl Lines {
    fn of(mut command: std::process::Command) -> Self {
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let keep = |pipe: Box<dyn std::io::Read + Send>| {
            let lines = Arc::<Mutex<Vec<String>>>::default();
            let kept = lines.clone();
            std::thread::spawn(move || {
                BufReader::new(pipe)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(|line| kept.lock().unwrap().push(line));
            });
            lines
        };
        let lines = keep(Box::new(process.0.stdout.take().unwrap()));
        let talk = keep(Box::new(process.0.stderr.take().unwrap()));
        Self { process, lines, talk }
    }

    fn wait(&self, what: &str, done: impl Fn(&[String]) -> bool) {
        wait_for(what, || done(&self.lines.lock().unwrap()));
    }

    /// Its exit code after SIGINT, and all that it said besides.
    fn interrupt(mut self) -> (Option<i32>, Vec<String>) {
        self.process.signal(libc::SIGINT);
        let code = self.process.0.wait().unwrap().code();
        let talk = || self.talk.lock().unwrap().clone();
        wait_for("the summary", || talk().iter().any(|line| line.starts_with("printed: ")));
        (code, talk())
    }
}

#[test]
fn each_dialect_is_asked_by_the_same_words() {
    for dialect in ["newer", "older", "both", "newest"] {
        let rig = Rig::new(&format!("--dialect {dialect} --finite 10 --loop --unknown-fields"));
        let info = rig.json("info");
        assert_eq!((&info["kind"], &info["clock"]), (&json!("finite"), &json!("media")), "{dialect}");
        assert_eq!(info["duration_ns"], 10_000_000_000u64);
        let flags = info["flags"].as_array().unwrap();
        assert_eq!(flags.contains(&json!("can-seek")), dialect != "newest", "{info}");
        assert_eq!(rig.json("reset"), json!({ "target": format!("cvmmap://{}", rig.target), "reset": true }));
        let prefix = if dialect == "older" { "control" } else { "producer" };
        let asked = rig.producer.wait_for_requests(".source.reset", 1);
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0]["request"], rig.producer.subject(&format!("{prefix}.source.reset")));
        if dialect == "older" {
            let (code, error) = rig.error("camera list");
            let subject = rig.producer.subject("producer.camera_control.capabilities");
            assert_eq!((code, error), (Some(1), format!("error: nobody answers '{subject}'")));
        }
        let shown = rig.text("info");
        assert!(
            shown.contains("kind: finite\n") && shown.contains("timeline_end_ns: 10000000000\n"),
            "{shown}"
        );
    }
}

#[test]
fn seeks_land_inside_the_timeline_and_nowhere_else() {
    let rig = Rig::new("--finite 10 --loop --fps 20");
    let landed = rig.json("seek 1.52s");
    let wanted = json!({
        "requested_timestamp_ns": 1_520_000_000u64, "landed_timestamp_ns": 1_550_000_000u64,
        "landed_seconds": 1.55, "landed_frame_count": 31, "exact_match": false,
    });
    assert_eq!(landed, wanted);
    assert_eq!(rig.json("seek 2000000000ns")["exact_match"], true);
    for line in ["seek 10.1s", "seek 10100000000ns"] {
        let (code, error) = rig.error(line);
        let rule = "10100000000 ns is outside of its timeline, 0 to 10000000000 ns (10.000 s)";
        assert_eq!((code, error), (Some(1), format!("error: cvmmap://{}: {rule}", rig.target)));
    }
    // Refused before it is asked.
    assert_eq!(rig.producer.wait_for_requests(".source.seek", 2).len(), 2);
    let (code, error) = rig.error("seek tomorrow");
    assert_eq!(code, Some(2));
    assert!(error.contains("time 'tomorrow'"), "{error}");

    let live = Rig::new("");
    let (code, error) = live.error("seek 1s");
    assert_eq!(code, Some(1));
    assert!(error.ends_with("it cannot seek (a source of kind live)"), "{error}");
    assert!(live.producer.requests(".source.seek").is_empty());
}

#[test]
fn camera_settings_are_listed_got_and_set_by_name() {
    let rig = Rig::new("--dialect newer --unknown-fields");
    let list = rig.json("camera list");
    assert_eq!(list["settings"].as_array().unwrap().len(), 12);
    let wanted = json!({ "setting": "auto-analog-gain-range", "kind": "range", "min_value": 1000, "max_value": 16000 });
    assert!(list["settings"].as_array().unwrap().contains(&wanted), "{list}");
    let table = rig.text("camera list");
    assert!(table.lines().any(|line| line.split_whitespace().eq(["exposure", "single", "50"])), "{table}");
    assert_eq!(rig.json("camera set gain 7"), json!({ "setting": "gain", "kind": "single", "value": 7 }));
    assert_eq!(rig.json("camera get gain")["value"], 7);
    assert_eq!(rig.json("camera auto gain")["value"], -1);
    let asked = rig.producer.wait_for_requests(".set", 2);
    let modes: Vec<Value> = asked.iter().map(|request| request["fields"]["mode"].clone()).collect();
    assert_eq!(modes, [1, 2]);
    let range = rig.json("camera range auto-exposure-time-range 100 2000");
    assert_eq!((&range["min_value"], &range["max_value"]), (&json!(100), &json!(2000)));
    for (line, code, part) in [
        ("camera get exposur", 2, "camera setting 'exposur': it is one of exposure, gain, aec-agc"),
        ("camera set gain 101", 1, "answers out-of-range (5): [101] is not within -1 to 100"),
        ("camera set gain -7", 1, "[-7] is not within"),
        ("camera set auto-exposure-time-range 7", 1, "answers unsupported (3)"),
        ("camera range auto-exposure-time-range 2000 100", 2, "range 2000 to 100: MIN is not above MAX"),
        ("camera get 77", 1, "answers unsupported (3): no such setting here: 77"),
    ] {
        let (exit, error) = rig.error(line);
        assert!(exit == Some(code) && error.contains(part), "{line}: {exit:?} {error}");
    }
}

#[test]
fn playlists_and_recordings_are_told_and_refusals_named() {
    let rig = Rig::new("--finite 5 --loop");
    assert_eq!(rig.json("playlist")["has_playlist"], false);
    let applied = rig.json("playlist /b /a --sort");
    assert_eq!((&applied["paths"], &applied["current_path"]), (&json!(["/a", "/b"]), &json!("/a")));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.svo2").display().to_string();
    let started = rig.json(&format!("record start --format svo --path {path} --bitrate 8000"));
    assert_eq!((&started["format"], &started["is_recording"]), (&json!("svo"), &json!(true)));
    let asked = &rig.producer.wait_for_requests("svo.start", 1)[0]["fields"];
    assert_eq!((&asked["output_path"], &asked["svo"]["bitrate"]), (&json!(path), &json!(8000)));
    let (code, error) = rig.error(&format!("record start --format svo --path {path}"));
    assert!(code == Some(1) && error.ends_with(&format!("answers error (2): busy with {path}")), "{error}");
    assert_eq!(rig.json("record status --format svo")["active_path"], path);
    assert_eq!(rig.json("record stop --format svo")["is_recording"], false);
    assert_eq!(rig.json("record status --format mcap")["format"], "mcap");
    for (line, code, part) in [
        ("record stop --format svo", 1, "not recording"),
        ("record start --format svo --path /nowhere/a", 1, "/nowhere/a is not in a writable folder"),
        ("record status --format mp4", 1, "streamer.recorder.mp4.status'"),
        ("record start --format mp4 --path /tmp/a --bitrate 5", 2, "--format mp4: options of svo"),
        ("record status --format svo --streamer", 2, "the streamer records mp4 and mcap"),
    ] {
        let (exit, error) = rig.error(line);
        assert!(exit == Some(code) && error.contains(part), "{line}: {exit:?} {error}");
    }
}

#[test]
fn status_is_what_is_known_and_then_each_event() {
    let mut rig = Rig::new("");
    // Who does not answer within 200 ms is found in shared memory alone.
    let mut status = Value::Null;
    wait_for("it to be found both ways", || {
        status = rig.json("status");
        status["found"]["found_by"] == "nats+shm"
    });
    assert_eq!(status["info"]["kind"], "live");
    let follow = Lines::of(rig.command("status --follow --json"));
    follow.wait("what is known", |lines| lines.len() == 1);
    for command in ["reset-event", "stray", "offline", "online"] {
        rig.producer.tell(command);
    }
    let events = |lines: &[String]| -> Vec<String> {
        let values = lines[1..].iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        values.map(|value| value["event"].as_str().unwrap().to_owned()).collect()
    };
    follow.wait("the events", |lines| events(lines).len() >= 3);
    assert_eq!(events(&follow.lines.lock().unwrap()), ["reset", "offline", "online"]);
    publish_garbage(&rig.nats.url(), &[&rig.producer.subject("status")]);
    // An outage is told once, and events go on behind it.
    let said = |start: &str| follow.talk.lock().unwrap().iter().any(|line| line.starts_with(start));
    wait_for("the warning", || said("warning: a message on "));
    // An outage that is over before anybody looks is none.
    rig.nats.kill();
    wait_for("the outage", || said("lost the server"));
    rig.nats.restart();
    wait_for("the return", || said("connected again"));
    rig.producer.wait_for_done("reconnected");
    wait_for("an event after the outage", || {
        rig.producer.tell("online");
        follow.lines.lock().unwrap().len() > 4
    });
    let (code, talk) = follow.interrupt();
    assert_eq!(code, Some(0));
    let told = |start: &str| talk.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(
        (told("warning: a message on "), told("lost the server"), told("connected again")),
        (1, 1, 1),
        "{talk:?}"
    );

    let output = run(&mut rig.command("status --follow --count 0 --json"));
    assert!(output.status.success());
    let nobody =
        run(streamer().args(["control", &unique("nobody"), "--nats-url", &rig.nats.url(), "status"]));
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).ends_with("it is neither in shared memory nor on the server\n"));
}

#[test]
fn bodies_are_a_line_each_and_garbage_is_counted() {
    let rig = Rig::new("--bodies 2 --joints 34 --garbage body");
    let shown = rig.text("bodies --count 3 --json");
    let packets: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(packets.len(), 3);
    for packet in &packets {
        assert_eq!(
            (&packet["body_count"], &packet["joints"], &packet["label"]),
            (&json!(2), &json!(34), &json!(rig.target))
        );
        assert_eq!(packet["bodies"].as_array().unwrap().len(), 2);
        assert_eq!(packet["bodies"][0]["position"].as_array().unwrap().len(), 3);
    }
    let counts: Vec<u64> = packets.iter().map(|packet| packet["frame_count"].as_u64().unwrap()).collect();
    assert!(counts.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{counts:?}");

    let bodies = Lines::of(rig.command("bodies"));
    bodies.wait("packets and garbage", |lines| lines.len() > 5);
    assert!(bodies.lines.lock().unwrap()[0].contains(": 2 bodies; "));
    let (code, talk) = bodies.interrupt();
    assert_eq!(code, Some(0));
    assert_eq!(talk.iter().filter(|line| line.starts_with("warning: a message on")).count(), 1, "{talk:?}");
    let summary = talk.last().unwrap();
    assert!(summary.starts_with("printed: ") && !summary.contains("unreadable: 0,"), "{summary}");
}

#[test]
fn what_goes_wrong_has_its_own_exit_code() {
    let slow = Rig::new("--slow 1000 --dialect newer");
    let (code, error) = slow.error("info --timeout-ms 200");
    let subject = slow.producer.subject("producer.source.info");
    assert_eq!((code, error), (Some(124), format!("error: no answer from '{subject}' within 200 ms")));
    assert_eq!(slow.json("info --timeout-ms 20000")["kind"], "live");

    // One kind of garbage after the other: each is refused, or is a message with nothing in it that we know.
    let garbage = Rig::new("--garbage answers");
    let mut codes = Vec::new();
    for _ in 0..10 {
        let output = garbage.output("info --timeout-ms 60000");
        let shown = text(&output.stderr);
        assert!(shown.lines().count() <= 1, "{shown}");
        codes.push(output.status.code().unwrap());
        assert!(matches!(codes.last(), Some(0 | 1 | 7)), "{shown}");
    }
    assert!(codes.contains(&7), "{codes:?}");

    let mut rig = Rig::new("");
    let nobody = run(streamer().args(["control", &unique("nobody"), "info", "--nats-url", &rig.nats.url()]));
    let (code, error) = failed(nobody);
    assert!(code == Some(1) && error.starts_with("error: nobody answers 'cvmmap."), "{error}");
    rig.nats.kill();
    for line in ["info", "bodies", "camera get gain"] {
        let (code, error) = rig.error(&format!("{line} --timeout-ms 1000"));
        assert!(code == Some(1) && error.contains("no connection to the NATS server"), "{line}: {error}");
    }
    for (args, part) in [
        (
            ["info", "--nats-url", "nats://user:hunter2@host/x"],
            "--nats-url 'nats://***@host/x': nothing follows",
        ),
        (["info", "--nats-url", ""], "a server is needed"),
        (["info", "--timeout-ms", "0"], "--timeout-ms 0: it is 1 to 600000"),
    ] {
        let (code, error) = failed(run(streamer().args(["control", "cam0"]).args(args)));
        assert!(code == Some(2) && error.contains(part), "{error}");
    }
    let away = ["control", "cam0", "info", "--nats-url", "nats://user:hunter2@127.0.0.1:1"];
    let (code, error) = failed(run(streamer().args(away)));
    assert!(code == Some(1) && !error.contains("hunter2"), "{error}");
}

/// As `| head -1`: reads a line, and then no more.
fn read_one_line(mut command: std::process::Command) -> Option<i32> {
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "{line}");
    let mut status = None;
    wait_for("it to see that nobody reads", || {
        status = process.0.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

#[test]
fn a_stream_that_nobody_reads_any_more_ends() {
    let rig = Rig::new("--bodies 2");
    // `status` has nothing to say after the first report, by which it could learn it.
    for line in ["bodies", "bodies --json", "status --follow", "status --follow --json"] {
        assert_eq!(read_one_line(rig.command(line)), Some(0), "{line}");
    }
    let mut watch = streamer();
    watch.args(["discover", "--watch", "--nats-url", &rig.nats.url()]);
    assert_eq!(read_one_line(watch), Some(0));
}
