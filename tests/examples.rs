// SPDX-License-Identifier: MPL-2.0

//! The recipes in `examples/` do what they say: readers of others show the simulator's pictures.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use common::flv::*;
use common::nats::Nats;
use common::*;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_streamer::pattern::Pattern;
use cvmmap_streamer::sim::svo2::Recording;

/// One per row of the acceptance matrix.
const RTP: [&str; 2] = ["rtp-h264", "rtp-h265"];
const RTMP: [(&str, Dialect); 3] = [
    ("rtmp-h264", Dialect::Avc),
    ("rtmp-h265-enhanced", Dialect::Enhanced),
    ("rtmp-h265-domestic", Dialect::Domestic),
];
const SIZE: (u32, u32) = (320, 240);
const PICTURES: usize = 40;

fn path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{script}.sh"))
}

/// With the plugins and their registry as the stock tools see them; both are made before anything waits for the example.
fn example(script: &str) -> Command {
    static MADE: LazyLock<bool> =
        LazyLock::new(|| run(gst_tool("gst-inspect-1.0").arg("cvmmapsrc")).status.success());
    assert!(*MADE, "the plugins do not load");
    let tool = gst_tool("gst-launch-1.0");
    let mut command = Command::new(path(script));
    command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("IDLE_TIMEOUT", "3000").stdout(Stdio::null());
    command
}

fn camera(name: &str) -> (String, Process) {
    let target = unique(name);
    let producer = sim(&target, &format!("--size {}x{} --fps 30", SIZE.0, SIZE.1));
    (target, producer)
}

/// Ends after its producer, and well.
fn ends(mut example: Process) {
    let mut status = None;
    wait_for("the example to end", || {
        status = example.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
}

/// The frame counts that the pictures show which FFmpeg decodes; any error in them fails.
fn shown(input: &mut Command, pictures: usize) -> Vec<u32> {
    // In the input's time base, since frames that were taken in a hurry are nearer to each other than its rate says.
    input.args(["-frames:v", &pictures.to_string(), "-fps_mode", "passthrough", "-enc_time_base", "demux"]);
    let output = run(input.args(["-pix_fmt", "bgr24", "-f", "rawvideo", "-"]));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let pattern = Pattern::new(PixelFormat::Bgr, Depth::U8, SIZE.0, SIZE.1).unwrap();
    let stride = SIZE.0 as usize * 3;
    let pictures = output.stdout.chunks(stride * SIZE.1 as usize);
    pictures.map(|picture| pattern.read_count(picture, stride).unwrap()).collect()
}

fn ffmpeg() -> Command {
    let mut command = readers::ffmpeg_program();
    // What it only warns of, as pictures that miss a part, ends it.
    command.args(["-loglevel", "error", "-xerror"]);
    command
}

fn advance(counts: &[u32]) {
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
}

/// The part of a script's leading comment from the line that begins with `first` on, to the next empty one.
fn told(script: &str, first: &str) -> String {
    let text = std::fs::read_to_string(path(script)).unwrap();
    let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let told = lines.skip_while(|line| !line.starts_with(first));
    told.take_while(|line| !line.is_empty() && !line.starts_with("set ")).collect::<Vec<_>>().join("\n")
}

/// A port of the loopback that was free a moment ago, and the one behind it, which receivers take for RTCP.
fn free_udp_port() -> u16 {
    let bind = |port: u16| std::net::UdpSocket::bind(("0.0.0.0", port));
    let free = std::iter::repeat_with(|| bind(0).unwrap().local_addr().unwrap().port());
    free.take(100).find(|port| port % 2 == 0 && bind(port + 1).is_ok()).expect("two free ports")
}

fn wait_for_receiver(port: u16) {
    wait_for("the receiver to take its port", || {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        table.contains(&format!(":{port:04X} "))
    });
}

#[test]
fn ffmpeg_shows_rtp_by_the_sdp_that_the_script_gives() {
    for script in RTP {
        println!("{script}");
        let port = free_udp_port();
        let dir = tempfile::tempdir().unwrap();
        let sdp = dir.path().join("cam.sdp");
        let description = told(script, "v=0");
        assert!(description.contains("m=video 5000 "), "{description}");
        std::fs::write(&sdp, description.replace(" 5000 ", &format!(" {port} ")) + "\n").unwrap();
        let mut player = ffmpeg();
        player.args(["-protocol_whitelist", "file,udp,rtp", "-i"]).arg(&sdp);
        let (target, producer) = camera("rtp");
        let mut sender = example(script);
        sender.args([&target, "127.0.0.1", &port.to_string()]);
        let counts = std::thread::scope(|scope| {
            let player = scope.spawn(|| shown(&mut player, PICTURES));
            wait_for_receiver(port);
            let sender = Process::spawn(&mut sender);
            let counts = player.join().unwrap();
            drop(producer);
            ends(sender);
            counts
        });
        assert_eq!(counts.len(), PICTURES);
        advance(&counts);
    }
}

#[test]
fn gst_launch_shows_rtp_by_the_line_that_the_script_gives() {
    for script in RTP {
        println!("{script}");
        let port = free_udp_port();
        let line = told(script, "gst-launch-1.0 ");
        assert!(line.contains("port=5000 ") && line.ends_with("! autovideosink"), "{line}");
        let line = line.replace("port=5000", &format!("port={port}")).replace("\\\n", " ");
        let sink = format!("fakesink num-buffers={PICTURES}");
        let line = line.replace("autovideosink", &sink);
        let mut player = gst_tool("gst-launch-1.0");
        player.args(line.split_whitespace().skip(1));
        let (target, producer) = camera("rtp");
        let mut sender = example(script);
        sender.args([&target, "127.0.0.1", &port.to_string()]);
        std::thread::scope(|scope| {
            let player = scope.spawn(|| run(&mut player));
            wait_for_receiver(port);
            let sender = Process::spawn(&mut sender);
            let output = player.join().unwrap();
            drop(producer);
            ends(sender);
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert!(text(&output.stdout).contains("Got EOS from element"), "{}", text(&output.stdout));
        });
    }
}

#[test]
fn ffmpeg_takes_rtmp_as_a_server() {
    for (script, dialect) in RTMP {
        println!("{script}");
        let mut server = Listener::start();
        let (target, producer) = camera("rtmp");
        let publisher = Process::spawn(example(script).args([&target, &server.url()]));
        server.wait_for_pictures(PICTURES);
        drop(producer);
        ends(publisher);
        let file = server.file();
        let facts = readers::ffmpeg(file, false);
        assert_eq!(facts.video.as_ref().unwrap().codec, dialect.codec());
        assert_eq!(facts.errors, [""; 0]);
        let counts = shown(ffmpeg().arg("-i").arg(file), PICTURES);
        assert_eq!(counts.len(), PICTURES);
        advance(&counts);
    }
}

/// FFmpeg as a server writes what it took in its own way; nginx passes on what is on the wire.
#[test]
fn nginx_passes_on_the_dialect_that_the_script_names_and_the_headers_that_it_is_told_to_repeat() {
    for (script, dialect) in RTMP {
        println!("{script}");
        let nginx = Nginx::start();
        let url = nginx.url("live");
        let early = Recorder::start(&url);
        nginx.wait_for_players(1);
        let (target, producer) = camera("rtmp");
        let publisher = Process::spawn(example(script).args([&target, &url]).env("REPEAT_HEADER", "true"));
        early.wait_for_tags(PICTURES);
        let late = Recorder::start(&url);
        nginx.wait_for_players(2);
        late.wait_for_tags(2 * PICTURES);
        drop(producer);
        ends(publisher);

        let header: &[u8] = match dialect {
            Dialect::Avc => &[0x17, 0],
            Dialect::Enhanced => b"\x90hvc1",
            Dialect::Domestic => &[0x1c, 0],
        };
        let early = early.file();
        let bytes = std::fs::read(early).unwrap();
        let (_, first) = tags(&bytes).find(|(kind, _)| *kind == 9).expect("video");
        assert!(bytes[first + TAG_HEADER..].starts_with(header));
        advance(&shown(ffmpeg().arg("-i").arg(early), PICTURES));
        // H.264's header nginx itself replays.
        let late = late.file();
        let late =
            if dialect == Dialect::Avc { late.into() } else { from_first_header(late).expect("a header") };
        assert!(!readers::ffmpeg(&late, true).shown().is_empty());
    }
}

#[test]
fn what_is_recorded_on_request_is_shown_by_others() {
    let nats = Nats::start();
    let target = unique("request");
    let size = format!("--size {}x{} --fps 30", SIZE.0, SIZE.1);
    let _producer = sim(&target, &format!("{size} --bodies 2 --nats-url {}", nats.url()));
    let folder = tempfile::tempdir().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_cvmmap-streamer")).parent().unwrap();
    let search = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    let mut script = example("record-on-request");
    script.args([&target, folder.path().to_str().unwrap(), "3"]).env("PATH", search);
    script.env("CVMMAP_NATS_URL", nats.url()).env("RTP_ENDPOINT", format!("127.0.0.1:{}", free_udp_port()));
    let output = run(&mut script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert_eq!(said.matches("is_recording: true\n").count(), 2, "{said}");
    assert_eq!(said.matches("is_recording: false\n").count(), 2, "{said}");

    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let [mcap, mp4] = &files[..] else { panic!("{files:?}") };
    let counts = shown(ffmpeg().arg("-i").arg(mp4), 10);
    assert_eq!(counts.len(), 10);
    advance(&counts);
    let facts = recordings::mcap(mcap, None);
    recordings::assert_whole(&facts);
    assert!(recordings::assert_video(&facts, "/camera/video", "h264") >= 10, "{facts}");
    assert!(facts["topics"]["/camera/body"]["count"].as_u64().unwrap() > 0, "{facts}");
}

#[test]
fn a_recording_becomes_a_file_that_others_show() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let recording = Recording { size: SIZE, frames: 50, ..Recording::default() };
    recording.create(path("a.svo2").as_ref(), &AtomicBool::new(false)).unwrap();
    for (range, frames) in [(&[][..], 0..50), (&["7"], 7..50), (&["31", "38"], 31..39)] {
        let mut script = example("svo-to-mp4");
        let output = run(script.args([path("a.svo2"), path("a.mp4")]).args(range));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let counts = shown(ffmpeg().args(["-i", &path("a.mp4")]), 1000);
        assert_eq!(counts, frames.collect::<Vec<u32>>());
    }
    for wrong in [&[][..], &["a"], &["a", "b", "c", "d", "e"]] {
        let Output { status, stderr, .. } = run(example("svo-to-mp4").args(wrong));
        assert_eq!(status.code(), Some(2));
        assert_eq!(text(&stderr), "usage: svo-to-mp4.sh RECORDING FILE [FIRST [LAST]]\n");
    }
}

/// A folder with `seg`, a segment of two cameras, and where programs are looked for, ours first.
fn segment() -> (tempfile::TempDir, PathBuf, String) {
    init();
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join("seg");
    std::fs::create_dir(&segment).unwrap();
    for serial in 1..=2 {
        let recording = Recording { size: SIZE, frames: 50, serial, ..Recording::default() };
        recording.create(&segment.join(format!("seg_zed{serial}.svo2")), &AtomicBool::new(false)).unwrap();
    }
    let built = Path::new(env!("CARGO_BIN_EXE_cvmmap-streamer")).parent().unwrap();
    let search = format!("{}:{}", built.display(), std::env::var("PATH").unwrap());
    (folder, segment, search)
}

#[test]
fn a_segment_becomes_one_picture_that_others_show() {
    let (_folder, segment, search) = segment();
    for (seconds, pictures) in [(None, 50), (Some("0.49"), 15)] {
        let mut script = example("svo-grid-to-mp4");
        let output = run(script.arg(&segment).args(seconds).env("PATH", &search));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = recordings::show(&segment.join("seg_grid.mp4"), None);
        assert_eq!((shown.pictures.len(), shown.errors.as_str()), (pictures, ""));
        assert_eq!(shown.sizes, ["320x120"], "two tiles of half the size");
        std::fs::remove_file(segment.join("seg_grid.mp4")).unwrap();
    }
    for wrong in [&[][..], &["a", "1", "b"]] {
        let Output { status, stderr, .. } = run(example("svo-grid-to-mp4").args(wrong));
        assert_eq!(status.code(), Some(2));
        assert_eq!(text(&stderr), "usage: svo-grid-to-mp4.sh SEGMENT [SECONDS]\n");
    }
}

#[test]
fn a_segment_becomes_one_file_with_its_groups() {
    let (_folder, segment, search) = segment();
    let output = run(example("svo-to-mcap").arg(&segment).env("PATH", search));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let facts = recordings::mcap(&segment.join("seg.mcap"), None);
    recordings::assert_whole(&facts);
    for topic in ["/zed1/video", "/zed2/video"] {
        assert_eq!(recordings::assert_video(&facts, topic, "h265"), 50);
    }
    assert_eq!(facts["topics"]["/bundle"]["count"], 50);
    let Output { status, stderr, .. } = run(&mut example("svo-to-mcap"));
    assert_eq!(status.code(), Some(2));
    assert_eq!(text(&stderr), "usage: svo-to-mcap.sh SEGMENT [FOLDER_OF_CALIBRATIONS]\n");
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let scripts = RTP.into_iter().chain(RTMP.map(|(script, _)| script));
    for script in scripts.chain(["record-on-request"]) {
        let mut wrong: Vec<&[&str]> = vec![&[], &["cam0", "b", "c", "d"]];
        if !script.starts_with("rtp") {
            wrong.push(&["cam0"]);
        }
        for arguments in wrong {
            let Output { status, stdout, stderr } = run(example(script).args(arguments));
            assert_eq!(status.code(), Some(2), "{script} {arguments:?}");
            assert!(text(&stderr).starts_with(&format!("usage: {script}.sh TARGET ")), "{}", text(&stderr));
            assert_eq!(text(&stderr).lines().count(), 1);
            assert!(stdout.is_empty());
        }
    }
}

/// Builds it.
fn embed() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_cvmmap-streamer")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", "embed"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "building the example failed");
    profile.join("examples/embed")
}

#[test]
fn the_program_that_embeds_the_plugins_writes_files_and_publishes() {
    let (built, registry) = (embed(), tempfile::tempdir().unwrap());
    let embed = |arguments: &[&str]| {
        let mut command = Command::new(&built);
        // No plugin of ours but those that it is linked with.
        command.env_remove("GST_PLUGIN_PATH").env("GST_REGISTRY", registry.path().join("registry.bin"));
        command.args(arguments);
        command
    };
    for row in ["h264", "h265-enhanced", "h265-domestic"] {
        println!("{row}");
        let mut server = Listener::start();
        let dir = tempfile::tempdir().unwrap();
        let recorded = dir.path().join("cam.flv");
        let (target, producer) = camera("embed");
        let uri = format!("cvmmap://{target}");
        let spawn = |location: &str| Process::spawn(embed(&[&uri, location, row]).stdout(Stdio::null()));
        let recorder = spawn(recorded.to_str().unwrap());
        let publisher = spawn(&server.url());
        server.wait_for_pictures(PICTURES);
        drop(producer);
        ends(recorder);
        ends(publisher);
        for file in [server.file(), &recorded] {
            let counts = shown(ffmpeg().arg("-i").arg(file), 10);
            assert_eq!(counts.len(), 10);
            advance(&counts);
        }
    }
    let nobody = format!("cvmmap://{}", unique("nobody"));
    let closed = format!("rtmp://127.0.0.1:{}/live/cam0", free_port());
    for (arguments, code, said) in [
        (vec![], 2, "usage: embed "),
        (vec![nobody.as_str(), "a.flv", "mp4"], 2, "usage: embed "),
        (vec!["cvmmap://a@tmp", "/dev/null"], 1, "prefix 'tmp' is not an absolute path"),
        (vec![&nobody, "/no/such/folder/a.flv"], 1, "/no/such/folder/a.flv"),
        (vec![&nobody, "/dev/null"], 1, "no frame of cvmmap://"),
        (vec![&nobody, &closed], 1, "embed: sink: "),
    ] {
        let output = run(&mut embed(&arguments));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}
