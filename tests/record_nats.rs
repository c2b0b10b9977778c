// SPDX-License-Identifier: MPL-2.0

//! Recordings asked for over NATS, of a streamer that is a process: by a client that shares no code with ours, and with
//! the ends that a process can come to.

mod common;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use common::nats::Nats;
use common::nats_peer::{Producer, ask, discover, garbage, publish_garbage};
use common::recordings::{assert_video, assert_whole, mcap, show};
use common::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A streamer of a target, with its JSON lines and what it said.
struct Streamer {
    process: Process,
    lines: Arc<Mutex<Vec<Value>>>,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    key: String,
    url: String,
    folder: TempDir,
    _socket: UdpSocket,
}

impl Streamer {
    fn start(target: &str, url: &str, more: &str) -> Self {
        Self::spawn(streamer(), target, url, more)
    }

    fn spawn(mut command: Command, target: &str, url: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let endpoint = socket.local_addr().unwrap().to_string();
        command.args([
            "run",
            "--uri",
            target,
            "--nats-url",
            url,
            "--json",
            "--rtp",
            "--rtp-endpoint",
            &endpoint,
        ]);
        let h264 = if more.contains("--codec") { "" } else { "--codec h264 --encoder x264enc" };
        command.args(h264.split_whitespace()).args(more.split_whitespace());
        command.arg("--record-dir").arg(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let (lines, said) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<String>>::default());
        let out = BufReader::new(process.0.stdout.take().unwrap());
        let err = BufReader::new(process.0.stderr.take().unwrap());
        let (to_lines, to_said) = (lines.clone(), said.clone());
        let readers = vec![
            std::thread::spawn(move || {
                for line in out.lines().map_while(Result::ok) {
                    to_lines.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                }
            }),
            std::thread::spawn(move || {
                for line in err.lines().map_while(Result::ok) {
                    *to_said.lock().unwrap() += &(line + "\n");
                }
            }),
        ];
        let key = target.parse::<cvmmap_ipc::Target>().unwrap().nats_target_key();
        Self { process, lines, said, readers, key, url: url.into(), folder, _socket: socket }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn events(&self, name: &str) -> Vec<Value> {
        self.lines.lock().unwrap().iter().filter(|line| line["event"] == name).cloned().collect()
    }

    fn wait_for_event(&self, name: &str, state: &str) -> Value {
        self.wait_for_event_where(name, state, |_| true)
    }

    fn wait_for_event_where(&self, name: &str, state: &str, which: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_for(&format!("{name} {state}: {}", self.said()), || {
            found = self.events(name).into_iter().find(|event| event["state"] == state && which(event));
            found.is_some()
        });
        found.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn subject(&self, tail: &str) -> String {
        format!("cvmmap.{}.streamer.recorder.{tail}", self.key)
    }

    /// The answer's fields; those that are 0 or empty are among them.
    fn ask(&self, tail: &str, fields: &[&str]) -> Value {
        let message = if tail.ends_with(".start") { "RecordingStartRequest" } else { "Empty" };
        let said = ask(&self.url, &self.subject(tail), message, fields);
        assert!(said["answer"].is_object(), "{tail} {fields:?}: {said}\n{}", self.said());
        said["answer"].clone()
    }

    /// Once it answers at all.
    fn wait_until_it_answers(&self) {
        wait_for("an answer", || {
            ask(&self.url, &self.subject("mp4.status"), "Empty", &[])["answer"].is_object()
        });
    }

    fn record(&self, format: &str, name: &str) -> Value {
        let answer = self.ask(&format!("{format}.start"), &[&format!("output_path={name}")]);
        assert_eq!((&answer["error"], &answer["is_recording"]), (&json!(0), &json!(true)), "{answer}");
        answer
    }

    fn wait_for_frames(&self, format: &str, frames: u64) -> u64 {
        let mut written = 0;
        wait_for("frames", || {
            let status = self.ask(&format!("{format}.status"), &[]);
            assert_eq!(status["error_message"], "", "{status}");
            written = status["frames_encoded"].as_u64().unwrap();
            written >= frames
        });
        written
    }

    /// Also where the disk takes longer than the answer may.
    fn stop(&self, format: &str) -> Value {
        let answer = self.ask(&format!("{format}.stop"), &[]);
        if answer["error"] != 6 {
            return answer;
        }
        let mut status = Value::Null;
        wait_for("the end of the file", || {
            status = self.ask(&format!("{format}.status"), &[]);
            status["is_recording"] == false
        });
        status
    }

    /// Ends it with a signal; its summary, and what it said.
    fn end(mut self, signal: i32) -> (Value, String, TempDir) {
        self.process.signal(signal);
        wait_for("the streamer to end", || self.process.0.try_wait().unwrap().is_some());
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        let said = self.said();
        assert_eq!(self.process.0.wait().unwrap().code(), Some(0), "{said}");
        let summary = self.lines.lock().unwrap().last().unwrap().clone();
        assert_eq!(summary["type"], "summary");
        (summary, said, self.folder)
    }
}

#[test]
fn both_formats_are_started_watched_and_stopped() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec");
    let _producer = Producer::start(&target, &nats.url(), "--bodies 2");
    let run = Streamer::start(&target, &nats.url(), "--gop 10");
    run.wait_until_it_answers();
    let found = discover(&nats.url(), "cvmmap_streamer");
    let [info] = found["info"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&info["version"], &info["metadata"]["nats_target_key"]), (&json!("0.1.0"), &json!(run.key)));
    assert_eq!(info["metadata"]["instance_name"], json!(target));
    let mut subjects: Vec<_> = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["subject"].as_str().unwrap().to_owned())
        .collect();
    subjects.sort();
    let verbs = ["mcap.start", "mcap.status", "mcap.stop", "mp4.start", "mp4.status", "mp4.stop"];
    assert_eq!(subjects, verbs.map(|verb| run.subject(verb)));

    let idle = run.ask("mcap.status", &[]);
    assert_eq!(
        (&idle["error"], &idle["can_record"], &idle["is_recording"]),
        (&json!(0), &json!(true), &json!(false))
    );
    let started = run.record("mcap", "a.mcap");
    assert_eq!((&started["format"], &started["active_path"]), (&json!(2), &json!(run.path("a.mcap"))));
    assert_eq!(run.record("mp4", "a.mp4")["format"], 0);
    run.wait_for_frames("mcap", 60);
    run.wait_for_frames("mp4", 60);
    for (format, name) in [("mcap", "a.mcap"), ("mp4", "a.mp4")] {
        let stopped = run.stop(format);
        assert_eq!((&stopped["is_recording"], &stopped["last_frame_ok"]), (&json!(false), &json!(true)));
        assert_eq!(stopped["frames_encoded"], stopped["frames_ingested"]);
        assert_eq!(stopped["active_path"], json!(run.path(name)));
        let frames = stopped["frames_encoded"].as_u64().unwrap();
        let ended = run.wait_for_event_where("recording", "ended", |event| event["format"] == format);
        assert!(
            ended["frames"].as_u64().unwrap() >= 60 && ended["seconds"].as_f64().unwrap() > 1.0,
            "{ended}"
        );
        if format == "mp4" {
            let shown = show(&run.path(name), None);
            assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", frames));
            continue;
        }
        let facts = mcap(&run.path(name), None);
        assert_whole(&facts);
        assert_eq!(assert_video(&facts, "/camera/video", "h264") as u64, frames);
        let bodies = &facts["topics"]["/camera/body"];
        assert!(bodies["count"].as_u64().unwrap() > 30, "{bodies}");
        for faults in ["not_sample", "time_is_not_packets", "undecodable", "log_time_is_not_publish_time"] {
            assert_eq!(bodies[faults], json!([]), "{faults}");
        }
        assert_eq!(
            (&bodies["labels"], &bodies["message_encoding"]),
            (&json!([target]), &json!("cvmmap.body_tracking.v1"))
        );
        // None is lost between the first and the last.
        let counts: Vec<_> =
            bodies["frame_counts"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert!(counts.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counts:?}");
    }
    let (summary, said, _) = run.end(libc::SIGTERM);
    assert_eq!(summary["recordings"].as_array().unwrap().len(), 2);
    for line in
        ["recording: mp4 to '", "recording: mcap to '", "recording: mp4 ended", "recording: mcap ended"]
    {
        assert_eq!(said.matches(line).count(), 1, "{line}: {said}");
    }
}

#[test]
fn people_record_with_the_control_command() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec");
    let _sim = sim(&target, "--size 160x120");
    let streaming = Streamer::start(&target, &nats.url(), "");
    streaming.wait_until_it_answers();
    let control = |line: &str| {
        let mut command = streamer();
        command.args(["control", "--nats-url", &nats.url(), &target, "record"]).args(line.split(' '));
        let output = run(&mut command);
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    for (format, name) in [("mp4", "a.mp4"), ("mcap --streamer", "a.mcap")] {
        let (started, said) = control(&format!("start --format {format} --path {name}"));
        assert!(started, "{said}");
        streaming.wait_for_frames(format.split(' ').next().unwrap(), 20);
        let (again, said) = control(&format!("start --format {format} --path b"));
        assert!(!again && said.contains("busy: recording to"), "{said}");
        let (stopped, said) = control(&format!("stop --format {format}"));
        assert!(stopped || said.contains("still being written"), "{said}");
        wait_for("the file", || streaming.path(name).exists());
    }
    assert!(show(&streaming.path("a.mp4"), None).pictures.len() >= 20);
    assert_whole(&mcap(&streaming.path("a.mcap"), None));
}

#[test]
fn what_is_refused_has_the_contracts_code_and_disturbs_nothing() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec.no");
    let _sim = sim(&target, "--size 160x120");
    let run = Streamer::start(&target, &nats.url(), "");
    run.wait_until_it_answers();
    run.record("mp4", "a.mp4");
    std::fs::write(run.path("mine"), "mine").unwrap();
    let busy = format!("busy: recording to {}", run.path("a.mp4").display());
    for (tail, fields, error, part) in [
        ("mp4.start", vec!["output_path=b.mp4"], 2, busy.as_str()),
        ("mcap.start", vec![], 4, "output_path is empty"),
        ("mcap.start", vec!["output_path=../a"], 4, "outside of --record-dir"),
        ("mcap.start", vec!["output_path=/etc/a"], 4, "outside of --record-dir"),
        ("mcap.start", vec!["output_path=a/"], 4, "names a folder"),
        ("mcap.start", vec!["output_path=mine"], 2, "nothing is overwritten"),
        ("mcap.start", vec!["output_path=no/a"], 2, "No such file or directory"),
        ("mcap.start", vec!["output_path=a", "svo.bitrate=5"], 3, "SVO options"),
        ("mcap.start", vec!["output_path=a", "mcap.compression=rar"], 3, "'rar' is not none, lz4 or zstd"),
        ("mcap.start", vec!["output_path=a", "mcap.depth_topic=/d"], 3, "no depth"),
        ("mcap.start", vec!["output_path=a", "mcap.topic=/x", "mcap.body_topic=/x"], 4, "both '/x'"),
        ("mcap.stop", vec![], 2, "not recording"),
    ] {
        let answer = run.ask(tail, &fields);
        assert_eq!(answer["error"], error, "{tail} {fields:?}: {answer}");
        assert!(answer["error_message"].as_str().unwrap().contains(part), "{answer}");
        // How things are is told as well.
        assert_eq!(answer["is_recording"], tail.starts_with("mp4"), "{answer}");
        assert_eq!(answer["can_record"], true);
    }
    let other = format!("cvmmap.{}-other.streamer.recorder.mp4.status", run.key);
    assert_eq!(ask(&nats.url(), &other, "Empty", &[])["failed"], "no responders");

    let starts = ["mcap.start".to_owned(), "mp4.start".to_owned()].map(|tail| run.subject(&tail));
    let answers = garbage(&nats.url(), &[&starts[0], &starts[1]]);
    assert!(answers.len() > 4);
    for line in &answers {
        // Some garbage is a message by chance, of unknown fields or without a path.
        let error = &line["answer"]["error"];
        assert!(*error == 4 || (*error == 2 && line["subject"] == json!(starts[1])), "{line}");
    }
    run.wait_for_frames("mp4", 30);
    let written = run.stop("mp4")["frames_encoded"].as_u64().unwrap();
    let shown = show(&run.path("a.mp4"), None);
    assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", written));
    let (_, said, folder) = run.end(libc::SIGINT);
    // Garbage has no path either: for ten seconds that is not told again.
    let told = said.matches("recording: mcap start is refused: output_path is empty").count();
    assert!((1..=3).contains(&told), "{said}");
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.mp4", "mine"]);
}

#[test]
fn a_streamer_that_is_killed_leaves_what_it_had_written() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec");
    let _sim = sim(&target, "--size 160x120 --fps 30");
    for (codec, raw) in [("h264", "h264"), ("h265", "hevc")] {
        let more = format!("--gop 15 --codec {codec} --encoder software");
        let mut run = Streamer::start(&target, &nats.url(), &more);
        run.wait_until_it_answers();
        run.record("mp4", "a.mp4");
        run.record("mcap", "a.mcap");
        let mp4 = run.wait_for_frames("mp4", 100);
        let mcap_frames = run.wait_for_frames("mcap", 100);
        run.process.kill();
        // A fragment is a group of pictures, and the muxer holds one picture more.
        let shown = show(&run.path("a.mp4.part"), None);
        assert!(shown.pictures.len() as u64 >= mp4 - 2 * 15, "{} of {mp4}", shown.pictures.len());
        assert!(shown.times.windows(2).all(|pair| pair[0] < pair[1]));
        // A chunk is a second.
        let bitstream = run.path("bits");
        let facts = mcap(&run.path("a.mcap.part"), Some(&bitstream));
        let messages = assert_video(&facts, "/camera/video", codec) as u64;
        assert!(messages >= mcap_frames - 45, "{messages} of {mcap_frames}");
        assert_eq!(facts["finished"], false);
        let shown = show(&bitstream, Some(raw));
        assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", messages));

        // Somebody may want it: it is not overwritten.
        let again = Streamer::start(&target, &nats.url(), "");
        std::fs::copy(run.path("a.mp4.part"), again.path("a.mp4.part")).unwrap();
        again.wait_until_it_answers();
        let answer = again.ask("mp4.start", &["output_path=a.mp4"]);
        assert_eq!(answer["error"], 2);
        assert!(answer["error_message"].as_str().unwrap().contains("a.mp4.part' exists"), "{answer}");
    }
}

#[test]
fn signals_make_files_whole() {
    let _alone = alone();
    let nats = Nats::start();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let target = unique("rec");
        let _sim = sim(&target, "--size 160x120");
        let run = Streamer::start(&target, &nats.url(), "");
        run.wait_until_it_answers();
        run.record("mp4", "a.mp4");
        run.record("mcap", "a.mcap");
        run.wait_for_frames("mp4", 20);
        run.wait_for_frames("mcap", 20);
        let (summary, _, folder) = run.end(signal);
        let frames = |n: usize| summary["recordings"][n]["frames"].as_u64().unwrap();
        let shown = show(&folder.path().join("a.mp4"), None);
        assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", frames(0)));
        let facts = mcap(&folder.path().join("a.mcap"), None);
        assert_whole(&facts);
        assert_eq!(assert_video(&facts, "/camera/video", "h264") as u64, frames(1));
        assert!(frames(1) >= 20 && summary["recordings"][1]["recording"] == false, "{summary}");
    }
}

/// A process may write no more than so much into a file: a disk that is full, for whoever writes.
#[test]
fn a_disk_that_is_full_ends_the_recording_and_not_the_stream() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec");
    let _sim = sim(&target, "--size 640x360 --fps 30");
    let mut shell = Command::new("sh");
    // In blocks of 512 bytes; without the signal, a write says what is wrong.
    shell.args([
        "-c",
        "trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_cvmmap-streamer"),
    ]);
    let run = Streamer::spawn(shell, &target, &nats.url(), "--bitrate 8000 --gop 10");
    run.wait_until_it_answers();
    for (format, name) in [("mp4", "a.mp4"), ("mcap", "a.mcap")] {
        run.record(format, name);
        let mut status = Value::Null;
        wait_for("the end of the disk", || {
            status = run.ask(&format!("{format}.status"), &[]);
            status["is_recording"] == false
        });
        let error = status["error_message"].as_str().unwrap();
        assert!(error.contains("File too large"), "{error}");
        assert!(error.contains(&format!("'{}.part'", run.path(name).display())), "{error}");
        assert_eq!((&status["last_frame_ok"], &status["error"]), (&json!(false), &json!(0)));
        assert!(!run.path(name).exists());
        run.wait_for_event_where("recording", "failed", |event| event["format"] == format);
        assert_eq!(run.ask(&format!("{format}.stop"), &[])["error_message"], "not recording");
    }
    let shown = show(&run.path("a.mp4.part"), None);
    assert!(shown.pictures.len() >= 10, "{shown:?}");
    let facts = mcap(&run.path("a.mcap.part"), None);
    assert!(assert_video(&facts, "/camera/video", "h264") >= 10);
    let frames_out = || {
        let lines = run.lines.lock().unwrap();
        lines.iter().rev().find(|line| line["type"] == "status").unwrap()["frames_out"].as_u64().unwrap()
    };
    let before = frames_out();
    wait_for("the stream to go on", || frames_out() > before + 30);
    let failed = run.events("recording").into_iter().filter(|event| event["state"] == "failed");
    assert_eq!(failed.count(), 2);
    run.record("mp4", "b.mp4");
    run.wait_for_frames("mp4", 5);
    run.stop("mp4");
    assert!(show(&run.path("b.mp4"), None).errors.is_empty());
}

#[test]
fn a_server_that_is_away_is_told_once_and_recordings_outlive_it() {
    let _alone = alone();
    let mut nats = Nats::start();
    nats.kill();
    let target = unique("rec");
    let _sim = sim(&target, "--size 160x120");
    let run = Streamer::start(&target, &nats.url(), "");
    run.wait_for_event("nats", "away");
    wait_for("frames", || {
        run.lines.lock().unwrap().iter().any(|line| line["frames_out"].as_u64() > Some(30))
    });
    nats.restart();
    run.wait_for_event("nats", "up");
    run.wait_until_it_answers();
    run.record("mcap", "a.mcap");
    run.wait_for_frames("mcap", 10);
    // An outage that is over before anybody looks is none.
    nats.kill();
    wait_for("the second outage", || run.events("nats").len() == 3);
    nats.restart();
    wait_for("the second return", || run.events("nats").len() == 4);
    run.wait_until_it_answers();
    let frames = run.wait_for_frames("mcap", 1);
    run.wait_for_frames("mcap", frames + 30);
    let written = run.stop("mcap")["frames_encoded"].as_u64().unwrap();
    let facts = mcap(&run.path("a.mcap"), None);
    assert_whole(&facts);
    assert_eq!(assert_video(&facts, "/camera/video", "h264") as u64, written);
    let states: Vec<_> = run.events("nats").iter().map(|event| event["state"].clone()).collect();
    assert_eq!(states, ["away", "up", "away", "up"]);
    let (_, said, _) = run.end(libc::SIGINT);
    let away = format!("NATS: no server at {}; recording on request is off until it answers", nats.url());
    assert_eq!(said.matches(&away).count(), 2, "{said}");
    assert_eq!(said.matches(&format!("NATS: connected to {}", nats.url())).count(), 2, "{said}");
    assert!(!said.contains("warning: NATS") && !said.contains("error:"), "{said}");
}

#[test]
fn an_empty_url_switches_it_off() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec");
    let _sim = sim(&target, "--size 160x120");
    let run = Streamer::start(&target, "", "");
    wait_for("frames", || {
        run.lines.lock().unwrap().iter().any(|line| line["frames_out"].as_u64() > Some(30))
    });
    let found = discover(&nats.url(), "cvmmap_streamer");
    assert_eq!(found["ping"], json!([]), "{found}");
    let (_, said, _) = run.end(libc::SIGINT);
    assert!(!said.contains("NATS"), "{said}");
}

#[test]
fn a_password_is_not_told() {
    let _alone = alone();
    let mut nats = Nats::with_args(&["--user", "u", "--pass", "hunter2"]);
    let target = unique("rec");
    let _sim = sim(&target, "--size 160x120");
    let url = nats.url().replace("//", "//u:hunter2@");
    let run = Streamer::start(&target, &url, "");
    run.wait_for_event("nats", "up");
    nats.kill();
    run.wait_for_event("nats", "away");
    let told = run.events("nats");
    assert!(told.len() == 2 && !json!(told).to_string().contains("hunter2"), "{told:?}");
    let (_, said, _) = run.end(libc::SIGINT);
    assert!(said.contains("NATS: connected to nats://***@127.0.0.1") && !said.contains("hunter2"), "{said}");
    let mut refused = streamer();
    refused.args(["run", "--uri", "a", "--codec", "h264", "--rtp", "--rtp-endpoint", "127.0.0.1:9"]);
    let output = common::run(refused.args(["--nats-url", "http://u:hunter2@h"]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("--nats-url 'http://***@h': it is nats://") && !said.contains("hunter2"), "{said}");
}

#[test]
fn packets_that_are_none_are_left_out_and_told_once() {
    let _alone = alone();
    let nats = Nats::start();
    let target = unique("rec");
    let mut producer = Producer::start(&target, &nats.url(), "--bodies 1 --garbage body");
    let run = Streamer::start(&target, &nats.url(), "");
    run.wait_until_it_answers();
    run.record("mcap", "a.mcap");
    run.wait_for_frames("mcap", 40);
    producer.tell("stray");
    producer.wait_for_done("stray");
    publish_garbage(&nats.url(), &[&producer.subject("body")]);
    wait_for("the stray packet", || run.said().contains("its label"));
    run.stop("mcap");
    let facts = mcap(&run.path("a.mcap"), None);
    assert_whole(&facts);
    let bodies = &facts["topics"]["/camera/body"];
    assert!(bodies["count"].as_u64().unwrap() > 10, "{bodies}");
    assert_eq!((&bodies["labels"], &bodies["not_sample"]), (&json!([target]), &json!([])));
    assert_eq!(bodies["undecodable"], json!([]));
    let (_, said, _) = run.end(libc::SIGINT);
    let told = said.lines().filter(|line| line.contains("a packet is left out"));
    let mut rules: Vec<_> = told.collect();
    let count = rules.len();
    rules.sort();
    rules.dedup();
    assert!(count == rules.len() && count > 1, "{said}");
}
