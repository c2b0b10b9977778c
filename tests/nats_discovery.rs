// SPDX-License-Identifier: MPL-2.0

//! Producers as devices and as lines of `discover`: found both ways, coming and going, with a real server.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use common::nats::Nats;
use common::nats_peer::Producer;
use common::*;
use gst::prelude::*;
use serde_json::Value;

fn provider(url: &str) -> gst::DeviceProvider {
    init();
    // Monitors use the factory's one; a test has its own.
    let provider = gst::glib::Object::builder::<gstcvmmap::devices::CvMmapDeviceProvider>();
    provider.property("nats-url", url).build().upcast()
}

fn field(device: &gst::Device, name: &str) -> Option<String> {
    device.properties().unwrap().get(name).ok()
}

fn device(provider: &gst::DeviceProvider, instance: &str) -> Option<gst::Device> {
    provider.devices().into_iter().find(|device| device.display_name() == instance)
}

/// Waits until the device is there and `chosen`.
fn wait_device(
    provider: &gst::DeviceProvider,
    instance: &str,
    chosen: impl Fn(&gst::Device) -> bool,
) -> gst::Device {
    let mut found = None;
    wait_for(instance, || {
        found = device(provider, instance).filter(|device| chosen(device));
        found.is_some()
    });
    found.unwrap()
}

fn found_by(way: &str) -> impl Fn(&gst::Device) -> bool {
    move |device| field(device, "cvmmap.found-by").as_deref() == Some(way)
}

/// The sizes of pictures that a device's element gives.
fn plays(device: &gst::Device) -> (u32, u32) {
    let element = device.create_element(None).unwrap();
    assert!(device.caps().unwrap().is_subset(&element.static_pad("src").unwrap().pad_template_caps()));
    let pipeline = gst::Pipeline::new();
    let sink = gst_app::AppSink::builder().sync(false).build();
    pipeline.add(&element).unwrap();
    pipeline.add(&sink).unwrap();
    element.link(&sink).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    let sample = sink.try_pull_sample(patience).expect("a frame");
    let caps = sample.caps().unwrap();
    assert!(caps.can_intersect(&device.caps().unwrap()), "{caps}");
    let info = gst_video::VideoInfo::from_caps(caps).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    (info.width(), info.height())
}

#[test]
fn a_producer_in_shared_memory_comes_changes_and_goes_without_a_server() {
    // Nobody listens there.
    let provider = provider("nats://127.0.0.1:1");
    provider.start().unwrap();
    let name = unique("dev");
    let target = format!("cvmmap://{name}?namespace=lab");
    {
        let _sim = sim(&target, "--size 320x240 --depth");
        let device = wait_device(&provider, &name, |_| true);
        assert!(device.has_classes("Source/Video"));
        for (field_name, value) in [
            ("device.api", "cvmmap".to_owned()),
            ("cvmmap.uri", format!("cvmmap://{name}?namespace=lab")),
            ("cvmmap.shm-name", format!("lab_{name}")),
            ("cvmmap.zmq-endpoint", format!("ipc:///tmp/lab_{name}")),
            ("cvmmap.nats-key", format!("lab_{name}")),
            ("cvmmap.found-by", "shm".to_owned()),
            ("cvmmap.planes", "left,depth".to_owned()),
        ] {
            assert_eq!(field(&device, field_name), Some(value), "{field_name}");
        }
        let wanted: gst::Caps = "video/x-raw, format=BGR, width=320, height=240".parse().unwrap();
        assert!(device.caps().unwrap().is_subset(&wanted), "{}", device.caps().unwrap());
        assert_eq!(plays(&device), (320, 240));
    }
    wait_for("it to vanish", || device(&provider, &name).is_none());
    // Another size under the same name, and an end without a farewell.
    let mut sim = sim(&target, "--size 160x120");
    let device_again = wait_device(&provider, &name, |_| true);
    assert_eq!(plays(&device_again), (160, 120));
    sim.kill();
    assert!(cvmmap_ipc::peek_segment(&format!("lab_{name}")).is_ok(), "it left its segment behind");
    wait_for("the dead one to vanish", || device(&provider, &name).is_none());
    provider.stop();
    std::fs::remove_file(format!("/dev/shm/lab_{name}")).unwrap();
    std::fs::remove_file(format!("/tmp/lab_{name}")).unwrap();
}

#[test]
fn another_size_is_a_changed_device() {
    let provider = provider("");
    let target: cvmmap_ipc::Target = unique("dev.size").parse().unwrap();
    let mut producer = cvmmap_ipc::Producer::create(&target, 1 << 20).unwrap();
    let mut publish = |count, width| {
        use cvmmap_ipc::metadata::{Depth, PixelFormat};
        use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Version};
        let plane = Plane::packed(PlaneKind::Left, PixelFormat::Rgb, Depth::U8, width, 8).unwrap();
        let metadata = Metadata::new(Version::V2, FrameId { count, timestamp_ns: 1 }, [plane]);
        producer.publish(&metadata, &vec![0; plane.size as usize]).unwrap();
    };
    publish(1, 64);
    provider.start().unwrap();
    let first = device(&provider, target.instance()).expect("known as soon as it is started");
    publish(2, 128);
    let bus = provider.bus();
    let mut changed = None;
    wait_for("the message", || {
        changed =
            bus.pop_filtered(&[gst::MessageType::DeviceChanged]).filter(|message| match message.view() {
                gst::MessageView::DeviceChanged(changed) => changed.device_changed().1 == first,
                _ => false,
            });
        changed.is_some()
    });
    let now = device(&provider, target.instance()).unwrap();
    let width =
        |device: &gst::Device| device.caps().unwrap().structure(0).unwrap().get::<i32>("width").unwrap();
    assert_eq!((width(&first), width(&now)), (64, 128));
    provider.stop();
    assert!(provider.devices().iter().any(|device| device.display_name() == target.instance()), "probed");
}

#[test]
fn what_is_found_both_ways_is_one_device() {
    let mut nats = Nats::start();
    let name = unique("dev.n");
    let mut producer = Producer::start(&name, &nats.url(), "--unknown-fields");
    let provider = provider(&nats.url());
    // Once started, and once asked without.
    let probed = wait_device(&provider, &name, found_by("nats+shm"));
    assert_eq!(field(&probed, "cvmmap.backend").as_deref(), Some("python"));
    provider.start().unwrap();
    let found = wait_device(&provider, &name, found_by("nats+shm"));
    assert_eq!(provider.devices().iter().filter(|device| device.display_name() == name).count(), 1);
    assert_eq!(field(&found, "cvmmap.nats-key"), Some(format!("cvmmap_{}", name.replace('.', "_"))));
    let element = found.create_element(None).unwrap();
    assert_eq!(element.property::<String>("nats-url"), nats.url());
    assert_eq!(plays(&found), (160, 120));
    // The server's end is not the producer's.
    nats.kill();
    wait_device(&provider, &name, |_| true);
    nats.restart();
    producer.wait_for_done("reconnected");
    wait_device(&provider, &name, found_by("nats+shm"));
    producer.tell("quit");
    wait_for("it to vanish", || device(&provider, &name).is_none());
    provider.stop();
}

#[test]
fn an_outage_of_the_server_changes_no_device() {
    let mut nats = Nats::start();
    let name = unique("dev.out");
    let mut producer = Producer::start(&name, &nats.url(), "");
    let provider = provider(&nats.url());
    provider.start().unwrap();
    let found = wait_device(&provider, &name, found_by("nats+shm"));
    // Another watcher tells when the outage is seen.
    let ways = Arc::new(Mutex::new(""));
    let (now, ours) = (ways.clone(), name.clone());
    let url = nats.url().parse().unwrap();
    let _watch = cvmmap_control::producers::Watch::start(Some(&url), move |producers| {
        if let Some(producer) = producers.iter().find(|producer| producer.instance == ours) {
            *now.lock().unwrap() = producer.found_by();
        }
    });
    // Whatever came after is in the provider's list only when it has looked again.
    let look_again = |turn: &str| {
        let other = unique(turn);
        let _sim = sim(&other, "--size 64x64");
        wait_device(&provider, &other, |_| true);
    };
    let is_found = |way: &str| wait_for(way, || *ways.lock().unwrap() == way);
    is_found("nats+shm");
    nats.kill();
    is_found("shm");
    look_again("dev.away");
    assert_eq!(device(&provider, &name).as_ref(), Some(&found));
    nats.restart();
    producer.wait_for_done("reconnected");
    is_found("nats+shm");
    look_again("dev.back");
    assert_eq!(device(&provider, &name), Some(found));
    provider.stop();
}

#[test]
fn a_producer_on_the_server_alone_has_the_caps_of_the_template() {
    let nats = Nats::start();
    let name = unique("dev.far");
    let _producer = Producer::start(&name, &nats.url(), "");
    // As on another machine: its segment is not here.
    let segment = format!("/dev/shm/cvmmap_{name}");
    std::fs::remove_file(&segment).unwrap();
    let provider = provider(&nats.url());
    let device = wait_device(&provider, &name, found_by("nats"));
    let caps = device.caps().unwrap();
    assert!(
        caps.can_intersect(&"video/x-raw, format=BGR, width=1, height=9999".parse::<gst::Caps>().unwrap())
    );
    let element = device.create_element(Some("reader")).unwrap();
    assert_eq!(element.property::<String>("uri"), format!("cvmmap://{name}"));
}

#[test]
fn keys_are_shared_and_segments_are_not() {
    let nats = Nats::start();
    let name = unique("dev");
    let [dotted, plain] = [format!("{name}.0"), format!("{name}_0")];
    let _producers = [Producer::start(&dotted, &nats.url(), ""), Producer::start(&plain, &nats.url(), "")];
    let provider = provider(&nats.url());
    for instance in [&dotted, &plain] {
        let device = wait_device(&provider, instance, found_by("nats+shm"));
        assert_eq!(field(&device, "cvmmap.nats-key"), Some(format!("cvmmap_{plain}")));
        assert_eq!(field(&device, "cvmmap.uri"), Some(format!("cvmmap://{instance}")));
    }
}

/// A service of that name that answers each PING and INFO with what it was given.
fn impostor(nats: &Nats, ping: &'static str, info: &'static str) -> std::thread::JoinHandle<()> {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let subscribe =
        "CONNECT {\"verbose\":false}\r\nSUB $SRV.PING.cvmmap_producer 1\r\nSUB $SRV.INFO.> 2\r\nPING\r\n";
    stream.write_all(subscribe.as_bytes()).unwrap();
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    // It ends with the server.
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            let answer = match words[..] {
                ["MSG", subject, _, reply, _] => {
                    let payload = if subject.contains("PING") { ping } else { info };
                    format!("PUB {reply} {}\r\n{payload}\r\n", payload.len())
                }
                ["PING"] => "PONG\r\n".to_owned(),
                _ => continue,
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn garbage_in_discovery_hides_nobody_else() {
    let mut nats = Nats::start();
    let ping = r#"{"name":"cvmmap_producer","id":"X1","version":"0.1.0","metadata":null}"#;
    let threads = [
        impostor(&nats, "\u{1}\u{2}not json", "{}"),
        impostor(&nats, r#"{"name":"cvmmap_producer","id":"a.b.>","version":"1"}"#, "{}"),
        impostor(&nats, ping, "{\"name\":\"cvmmap_producer\",\"id\":"),
        impostor(
            &nats,
            ping,
            r#"{"name":"cvmmap_producer","id":"X1","version":"0.1.0","metadata":{"shm_name":"../x"}}"#,
        ),
    ];
    let name = unique("dev.good");
    let mut producer = Producer::start(&name, &nats.url(), "");
    let provider = provider(&nats.url());
    let found = wait_device(&provider, &name, found_by("nats+shm"));
    assert_eq!(plays(&found), (160, 120));
    for device in provider.devices() {
        assert_ne!(field(&device, "cvmmap.service-id").as_deref(), Some("X1"));
    }
    producer.tell("quit");
    producer.wait_for_done("quit");
    nats.kill();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_service_cannot_colour_the_terminal_or_forge_rows() {
    let mut nats = Nats::start();
    let ping = r#"{"name":"cvmmap_producer","id":"E1","version":"1","metadata":null}"#;
    let info = r#"{"name":"cvmmap_producer","id":"E1","version":"1","endpoints":[],"metadata":{"shm_name":"cvmmap_esc",
        "zmq_addr":"tcp://192.0.2.1:5","backend":"\u001b[31mred\nforged row"}}"#;
    let info: &'static str = info.replace("\n        ", " ").leak();
    let thread = impostor(&nats, ping, info);
    let mut table = String::new();
    // Who does not answer within 200 ms is not listed.
    wait_for("its row", || {
        table = text(&run(streamer().args(["discover", "--nats-url", &nats.url()])).stdout);
        table.contains("forged row")
    });
    assert!(table.lines().any(|line| line.ends_with("\u{fffd}[31mred\u{fffd}forged row")), "{table:?}");
    assert!(!table.contains('\x1b'), "{table:?}");
    let mut found = None;
    wait_for("its entry", || {
        found = listed(&discover(&["--nats-url", &nats.url()]), "cvmmap_esc");
        found.is_some()
    });
    assert_eq!(found.unwrap()["backend"], "\x1b[31mred\nforged row");
    nats.kill();
    thread.join().unwrap();
}

#[test]
fn garbage_in_shared_memory_is_no_device() {
    let name = unique("cvmmap_junk");
    let path = |n: u32| format!("/dev/shm/{name}{n}");
    let mut header = vec![0u8; 4096];
    header[..8].copy_from_slice(b"CV-MMAP\0");
    for (n, bytes) in [vec![], b"CV-MMAP\0".to_vec(), vec![0xff; 8192], header].iter().enumerate() {
        std::fs::write(path(n as u32), bytes).unwrap();
    }
    assert!(Command::new("mkfifo").arg(path(9)).status().unwrap().success());
    let devices = provider("").devices();
    let ours = devices.iter().filter(|device| device.display_name().contains("junk")).count();
    for n in [0, 1, 2, 3, 9] {
        std::fs::remove_file(path(n)).unwrap();
    }
    assert_eq!(ours, 0);
}

fn watchers() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "cvmmap-watch")
        })
        .count()
}

/// Other tests have watchers of their own, so this one is a process of its own.
#[test]
fn a_provider_starts_and_stops_again_and_leaves_no_thread_behind() {
    const ALONE: &str = "CVMMAP_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again
            .env(ALONE, "1")
            .args(["--exact", "a_provider_starts_and_stops_again_and_leaves_no_thread_behind"]);
        let output = run(&mut again);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        assert!(text(&output.stdout).contains("1 passed"));
        return;
    }
    let name = unique("dev");
    let _sim = sim(&name, "");
    let provider = provider("nats://127.0.0.1:1");
    for _ in 0..3 {
        provider.start().unwrap();
        provider.start().unwrap();
        wait_for("the thread", || watchers() == 1);
        wait_for("the device", || device(&provider, &name).is_some());
        provider.stop();
        assert_eq!(watchers(), 1);
        provider.stop();
        // A thread that was joined is in the list for another moment.
        wait_for("the thread to go", || watchers() == 0);
    }
}

#[test]
fn a_device_reconfigures_an_element_that_is_idle() {
    let name = unique("dev");
    let _sim = sim(&name, "");
    let device = device(&provider(""), &name).unwrap();
    let element = gst::ElementFactory::make("cvmmapsrc").property("shm-name", "other").build().unwrap();
    device.reconfigure_element(&element).unwrap();
    assert_eq!(element.property::<String>("uri"), format!("cvmmap://{name}"));
    assert_eq!(element.property::<Option<String>>("shm-name"), None);
    let other = gst::ElementFactory::make("fakesrc").build().unwrap();
    assert!(device.reconfigure_element(&other).is_err());
}

#[test]
fn the_stock_monitor_shows_devices_that_come_and_go_and_lines_that_run() {
    let nats = Nats::start();
    let name = unique("mon");
    // A name that leaves open what the label is, and a socket elsewhere: given by its parts.
    let folder = tempfile::tempdir().unwrap();
    let parts = format!("cvmmap://{name}_1@{}?namespace=lab_x", folder.path().display());
    let monitor = |follow: &str| {
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "gst-device-monitor-1.0", follow, "Source/Video"]);
        let tool = gst_tool("gst-device-monitor-1.0");
        command.envs(tool.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("CVMMAP_NATS_URL", nats.url());
        command
    };
    let mut following = Process::spawn(monitor("--follow").stdout(Stdio::piped()));
    let said = Arc::new(Mutex::new(String::new()));
    let (keep, out) = (said.clone(), BufReader::new(following.0.stdout.take().unwrap()));
    std::thread::spawn(move || {
        out.lines().map_while(Result::ok).for_each(|line| *keep.lock().unwrap() += &(line + "\n"));
    });
    let says = |what: &str| wait_for(what, || said.lock().unwrap().contains(what));
    says("Monitoring devices");
    let mut producer = Producer::start(&name, &nats.url(), "");
    let sim = sim(&parts, "--size 64x48");
    says(&format!("cvmmap.uri = cvmmap://{name}\n"));
    says(&format!("cvmmap.shm-name = lab_x_{name}_1"));
    says("cvmmap.found-by = nats+shm");
    says("width=64, height=48");

    let shown = text(&run(&mut monitor("--")).stdout);
    for wanted in [format!("uri=cvmmap://{name}"), format!("shm-name=lab_x_{name}_1")] {
        let line = shown.lines().find(|line| line.contains("gst-launch-1.0") && line.contains(&wanted));
        let line = line.unwrap_or_else(|| panic!("no line for {wanted} in\n{shown}"));
        let line = line.trim().replace("cvmmapsrc", "cvmmapsrc num-buffers=3").replace("! ...", "! fakesink");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]);
        let tool = gst_tool("sh");
        shell.envs(tool.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let output = run(&mut shell);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    }
    producer.tell("quit");
    drop(sim);
    wait_for("both to vanish", || said.lock().unwrap().matches("Device removed").count() >= 2);
}

fn discover(args: &[&str]) -> Value {
    let output = run(streamer().arg("discover").args(args).arg("--json"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn listed(list: &Value, name: &str) -> Option<Value> {
    list["producers"].as_array().unwrap().iter().find(|producer| producer["instance"] == name).cloned()
}

#[test]
fn discover_lists_and_watches() {
    let nats = Nats::start();
    let name = unique("disc");
    let mut watch = Process::spawn(
        streamer().args(["discover", "--watch", "--json", "--nats-url", &nats.url()]).stdout(Stdio::piped()),
    );
    let lines = Arc::new(Mutex::new(Vec::<Value>::new()));
    let (keep, out) = (lines.clone(), BufReader::new(watch.0.stdout.take().unwrap()));
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            keep.lock().unwrap().push(serde_json::from_str(&line).unwrap());
        }
    });
    let change = |what: &str| {
        let is = |line: &Value| line["change"] == what && line["producer"]["instance"] == name.as_str();
        wait_for(what, || lines.lock().unwrap().iter().any(is));
    };
    let mut producer = Producer::start(&name, &nats.url(), "");
    change("added");
    let mut found = None;
    wait_for("it to be found both ways", || {
        found = listed(&discover(&["--nats-url", &nats.url()]), &name);
        found.as_ref().is_some_and(|found| found["found_by"] == "nats+shm")
    });
    let found = found.unwrap();
    assert_eq!(
        (&found["width"], &found["height"], &found["format"]),
        (&160.into(), &120.into(), &"BGR u8".into())
    );
    assert_eq!((&found["version"], &found["backend"]), (&"1.0".into(), &"python".into()));
    assert_eq!(found["uri"], format!("cvmmap://{name}"));
    // A server that is not there, and none: shared memory alone.
    for url in ["nats://127.0.0.1:1", ""] {
        assert_eq!(listed(&discover(&["--nats-url", url]), &name).unwrap()["found_by"], "shm", "{url}");
    }
    let table = text(&run(streamer().args(["discover", "--nats-url", &nats.url()])).stdout);
    assert!(table.starts_with("NAME") && table.contains(&format!("cvmmap://{name}")), "{table}");
    producer.tell("quit");
    change("removed");
    watch.signal(libc::SIGINT);
    assert!(watch.0.wait().unwrap().success());
}
