// SPDX-License-Identifier: MPL-2.0

//! The action signals of `cvmmapsrc`, against the producer in Python in each of its dialects, and from Python.

mod common;

use std::path::Path;
use std::process::Command;

use common::nats::Nats;
use common::nats_peer::Producer;
use common::*;
use gst::prelude::*;

fn structure(text: &str) -> gst::Structure {
    text.parse().unwrap()
}

fn act(consumer: &Consumer, action: &str, request: Option<&str>) -> gst::Structure {
    let request = request.map(structure);
    let result = if action == "reset-frame-count" {
        consumer.source.emit_by_name::<gst::Structure>(action, &[])
    } else {
        consumer.source.emit_by_name::<gst::Structure>(action, &[&request])
    };
    assert_eq!(result.name(), format!("{action}-result").as_str());
    result
}

fn error(result: &gst::Structure) -> String {
    result.get("error").unwrap()
}

#[test]
fn each_action_is_answered_in_each_dialect() {
    let nats = Nats::start();
    let folder = std::env::temp_dir();
    for dialect in ["newer", "older", "both", "newest"] {
        let target = unique("act");
        let args = format!("--dialect {dialect} --unknown-fields --finite 20 --loop");
        let producer = Producer::start(&target, &nats.url(), &args);
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
        consumer.sample();
        let ok = |action: &str, request: Option<&str>| {
            let result = act(&consumer, action, request);
            assert_eq!(error(&result), "ok", "{dialect} {action}: {result}");
            result
        };
        ok("reset-frame-count", None);
        wait_for("the reset", || consumer.stat("resets") == 1);

        let result = ok("apply-playlist", Some("p, paths=(string)<\"/b\",\"/a\">, sort=true"));
        assert_eq!(result.get("current-path"), Ok("/a"), "{result}");
        let paths: gst::Array = result.get("paths").unwrap();
        assert_eq!((paths.len(), result.get("has-playlist")), (2, Ok(true)));

        // The camera is of the newer dialect alone.
        let camera = act(&consumer, "get-camera-control", Some("c, setting=gain"));
        if dialect == "older" {
            assert_eq!(error(&camera), "no-responders");
        } else {
            assert_eq!(error(&camera), "ok", "{camera}");
            assert_eq!((camera.get("setting"), camera.get("value")), (Ok("gain"), Ok(50)), "{camera}");
            assert_eq!(ok("set-camera-control", Some("c, setting=2, value=7")).get("value"), Ok(7));
            let auto = ok("set-camera-control", Some("c, setting=gain, mode=auto"));
            assert_eq!(auto.get("value"), Ok(-1), "{auto}");
            let range = ok("set-camera-control", Some("c, setting=auto-digital-gain-range, min=2, max=9"));
            assert_eq!((range.get("min-value"), range.get("max-value")), (Ok(2), Ok(9)), "{range}");
            assert_eq!(range.get("kind"), Ok("range"));
            let beyond = act(&consumer, "set-camera-control", Some("c, setting=gain, value=1000"));
            assert_eq!(error(&beyond), "out-of-range", "{beyond}");
            assert!(beyond.get::<String>("error-message").unwrap().contains("1000"), "{beyond}");
            let none = act(&consumer, "get-camera-control", Some("c, setting=99"));
            assert_eq!(error(&none), "unsupported", "{none}");
        }

        let path = folder.join(unique("act"));
        let start =
            |format: &str, more: &str| format!("r, format={format}, path=(string){}{more}", path.display());
        let begun = ok("start-recording", Some(&start("svo", ", bitrate=(uint)5000, compression-mode=H265")));
        assert_eq!((begun.get("is-recording"), begun.get("format")), (Ok(true), Ok("svo")), "{begun}");
        // The answer may be here before the line that tells of the request.
        let asked = || producer.requests(".recorder.svo.start").pop();
        wait_for("the request", || asked().is_some());
        let sent = asked().unwrap();
        assert_eq!(sent["fields"]["svo"]["bitrate"], 5000, "{sent}");
        let busy = act(&consumer, "start-recording", Some(&start("svo", "")));
        assert_eq!(error(&busy), "error", "{busy}");
        assert!(busy.get::<String>("error-message").unwrap().contains("busy"), "{busy}");
        let ended = ok("stop-recording", None);
        assert_eq!(ended.get("is-recording"), Ok(false), "{ended}");
        let mcap = act(&consumer, "start-recording", Some(&start("mcap", ", topic=/cam")));
        let of_older = matches!(dialect, "older" | "both");
        assert_eq!(error(&mcap), if of_older { "ok" } else { "no-responders" }, "{dialect}: {mcap}");
        if of_older {
            assert_eq!(ok("stop-recording", None).get("format"), Ok("mcap"));
        }
        let streamer = act(&consumer, "stop-recording", Some("r, recorder=streamer, format=mp4"));
        assert_eq!(error(&streamer), "no-responders", "nobody streams: {streamer}");
    }
}

#[test]
fn wrong_requests_name_the_field_and_ask_nobody() {
    let nats = Nats::start();
    let target = unique("invalid");
    let producer = Producer::start(&target, &nats.url(), "");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    for (action, request, words) in [
        ("get-camera-control", None, "field 'setting' is missing"),
        ("get-camera-control", Some("c, setting=zoom"), "'setting' = 'zoom'"),
        ("get-camera-control", Some("c, setting=1.5"), "field 'setting'"),
        ("set-camera-control", Some("c, setting=gain"), "field 'value' is missing"),
        ("set-camera-control", Some("c, setting=gain, value=much"), "field 'value'"),
        ("set-camera-control", Some("c, setting=gain, mode=often, value=1"), "'mode' = 'often'"),
        ("set-camera-control", Some("c, setting=gain, min=1"), "field 'max' is missing"),
        ("apply-playlist", Some("p"), "field 'paths' is missing"),
        ("apply-playlist", Some("p, paths=5"), "field 'paths'"),
        ("start-recording", Some("r, format=svo"), "field 'path' is missing"),
        ("start-recording", Some("r, format=avi, path=/tmp/x"), "'format' = 'avi'"),
        ("stop-recording", Some("r, recorder=me, format=svo"), "'recorder' = 'me'"),
    ] {
        let result = act(&consumer, action, request);
        assert_eq!(error(&result), "invalid-request", "{result}");
        let message: String = result.get("error-message").unwrap();
        assert!(message.contains(words), "{message}");
    }
    for tail in [".get", ".set", ".set_range", ".apply", ".start", ".stop"] {
        assert!(producer.requests(tail).is_empty(), "{tail}");
    }
}

#[test]
fn who_is_not_there_is_told_apart_by_name() {
    let mut nats = Nats::start();
    let target = unique("away");
    let consumer = Consumer::new(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    let reset = || error(&act(&consumer, "reset-frame-count", None));
    assert_eq!(reset(), "not-connected", "in NULL there is no connection");
    consumer.play();
    // The connection was only just begun: it is waited for.
    assert_eq!(reset(), "no-responders");
    let producer = Producer::start(&target, &nats.url(), "");
    assert_eq!(reset(), "ok");
    nats.freeze();
    assert_eq!(reset(), "timeout");
    nats.thaw();
    nats.kill();
    wait_for("the outage", || reset() == "not-connected");
    drop(producer);
    let off = Consumer::playing("uri=cvmmap://nobody nats-url=\"\"");
    assert_eq!(error(&act(&off, "reset-frame-count", None)), "off");

    let nats = Nats::start();
    let target = unique("slow");
    let _producer = Producer::start(&target, &nats.url(), "--slow 300");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    // A second is what it has, and the machine may be slow besides.
    wait_for("late, but in time", || error(&act(&consumer, "reset-frame-count", None)) == "ok");
    let target = unique("garbage");
    let _producer = Producer::start(&target, &nats.url(), "--garbage answers");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} nats-url={}", nats.url()));
    let mut errors: Vec<String> =
        (0..8).map(|_| error(&act(&consumer, "get-camera-control", Some("c, setting=gain")))).collect();
    errors.dedup();
    // Some garbage is a message: of another kind, and with a code that nobody knows.
    assert!(errors.contains(&"malformed".to_owned()), "{errors:?}");
}

/// The program of docs/cvmmapsrc.md, as it stands there.
#[test]
fn the_python_example_of_the_documentation_runs() {
    let mut bindings = Command::new("/usr/bin/python3");
    bindings.args(["-c", "import gi; gi.require_version('Gst', '1.0')"]);
    assert!(
        run(&mut bindings).status.success(),
        "python3-gi and gir1.2-gstreamer-1.0: scripts/install-deps.sh"
    );
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cvmmapsrc.md")).unwrap();
    let program = page.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    let nats = Nats::start();
    let target = unique("python");
    let producer = Producer::start(&target, &nats.url(), "--finite 20 --loop --bodies 2");
    let mut command = gst_tool("/usr/bin/python3");
    command.args(["-c", program, &format!("cvmmap://{target}"), &nats.url()]);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for words in ["gain is 50", "2 bodies", "can seek: True"] {
        assert!(said.contains(words), "{words}: {said}{}", text(&output.stderr));
    }
    assert_eq!(producer.wait_for_requests(".camera_control.get", 1).len(), 1);
}
