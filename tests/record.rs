// SPDX-License-Identifier: MPL-2.0

//! Recordings of a running session: what is in the files, what is refused, and what a change of the stream does to them.

mod common;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use clap::Parser;
use common::encoders::register;
use common::recordings::{Shown, assert_video, assert_whole, mcap, show};
use common::*;
use cvmmap_control::proto::{McapRecordingOptions, RecordingStartRequest};
use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_streamer::record::{Format, Recorder, Refusal, Status};
use cvmmap_streamer::run::report::{Reporter, Snapshot};
use cvmmap_streamer::run::session::Session;
use tempfile::TempDir;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: cvmmap_streamer::run::Args,
}

/// A session that streams to a socket that nobody reads.
struct Live {
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Snapshot>>,
    folder: TempDir,
    _socket: UdpSocket,
}

impl Live {
    /// Of small pictures of the simulator.
    fn start(more: &str) -> Self {
        Self::of(&format!("--input-mode dummy --dummy-width 160 --dummy-height 120 {more}"))
    }

    fn of(more: &str) -> Self {
        init();
        register();
        let folder = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let line = format!("run --nats-url= --rtp --rtp-endpoint 127.0.0.1:{port} {more}");
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.extend(["--record-dir".into(), folder.path().display().to_string()]);
        let plan = Cli::try_parse_from(words).unwrap().args.resolve().unwrap();
        let stop = Arc::<AtomicBool>::default();
        let (stopped, (send, recorder)) = (stop.clone(), channel());
        let thread = std::thread::spawn(move || {
            let session = Session::start(&plan).unwrap();
            send.send(session.recorder()).unwrap();
            session.run(&stopped, &mut Reporter::silent()).unwrap()
        });
        let recorder = recorder.recv_timeout(PATIENCE).unwrap();
        Self { recorder, stop, thread: Some(thread), folder, _socket: socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn record(&self, format: Format, name: &str) -> Status {
        let status = self.recorder.start(format, &request(name)).unwrap();
        assert!(status.is_recording && status.can_record && status.error.is_empty(), "{status:?}");
        assert_eq!(status.path, self.path(name).display().to_string());
        status
    }

    fn wait_for_frames(&self, format: Format, frames: u64) {
        wait_for("frames", || {
            let status = self.recorder.status(format);
            assert_eq!(status.error, "");
            status.written >= frames
        });
    }

    /// Also where the disk takes longer than the answer may.
    fn stop(&self, format: Format) -> Status {
        match self.recorder.stop(format) {
            Err(Refusal::Late(_)) => {
                wait_for("the end of the file", || !self.recorder.status(format).is_recording);
                self.recorder.status(format)
            }
            other => other.unwrap(),
        }
    }

    fn end(mut self) -> (Snapshot, TempDir) {
        self.stop.store(true, Ordering::Relaxed);
        let snapshot = self.thread.take().unwrap().join().unwrap();
        (snapshot, std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok());
        }
    }
}

fn request(path: &str) -> RecordingStartRequest {
    RecordingStartRequest { output_path: path.into(), svo: None, mcap: None }
}

fn with_options(path: &str, change: impl FnOnce(&mut McapRecordingOptions)) -> RecordingStartRequest {
    let mut options = McapRecordingOptions::default();
    change(&mut options);
    RecordingStartRequest { mcap: Some(options), ..request(path) }
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An MCAP file's judgement, and what its video shows.
fn mcap_shown(file: &Path, codec: &str) -> (serde_json::Value, Shown) {
    let bitstream = file.with_extension("bits");
    let facts = mcap(file, Some(&bitstream));
    let shown = show(&bitstream, Some(if codec == "h265" { "hevc" } else { codec }));
    std::fs::remove_file(bitstream).unwrap();
    (facts, shown)
}

#[test]
fn both_files_hold_the_same_pictures_of_one_encoder() {
    let _alone = alone();
    for codec in ["h264", "h265"] {
        let live = Live::start(&format!("--codec {codec} --encoder software --gop 20"));
        live.record(Format::Mp4, "a.mp4");
        live.record(Format::Mcap, "a.mcap");
        assert_eq!(names(live.folder.path()), ["a.mcap.part", "a.mp4.part"], "neither has its name yet");
        live.wait_for_frames(Format::Mp4, 90);
        live.wait_for_frames(Format::Mcap, 90);
        let (mcap, mp4) = (live.stop(Format::Mcap), live.stop(Format::Mp4));
        assert_eq!(names(live.folder.path()), ["a.mcap", "a.mp4"]);
        for status in [&mp4, &mcap] {
            assert!(!status.is_recording && status.counts.last_ok, "{status:?}");
            assert_eq!((status.counts.ingested, status.counts.dropped), (status.written, 0));
        }

        let of_mp4 = show(&live.path("a.mp4"), None);
        assert_eq!(of_mp4.errors, "");
        assert_eq!(of_mp4.pictures.len() as u64, mp4.written);
        assert_eq!(of_mp4.times[0], 0);
        assert!(of_mp4.times.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", of_mp4.times);

        let (facts, of_mcap) = mcap_shown(&live.path("a.mcap"), codec);
        assert_whole(&facts);
        assert_eq!(assert_video(&facts, "/camera/video", codec) as u64, mcap.written);
        assert_eq!(facts["topics"].as_object().unwrap().len(), 1, "no bodies came: {facts}");
        assert_eq!(facts["topics"]["/camera/video"]["frame_ids"][0], "camera");
        assert_eq!(facts["compressions"], serde_json::json!(["zstd"]));
        assert!(facts["topics"]["/camera/video"]["key_frames"].as_array().unwrap().len() >= 4);
        assert_eq!(of_mcap.errors, "");
        assert_eq!(of_mcap.pictures.len() as u64, mcap.written);

        // The later one begins somewhere in the earlier one.
        let (mut longer, mut shorter) = (of_mp4.pictures, of_mcap.pictures);
        if !longer.contains(&shorter[0]) {
            std::mem::swap(&mut longer, &mut shorter);
        }
        let at = longer.iter().position(|picture| *picture == shorter[0]).expect("they overlap");
        let common = shorter.len().min(longer.len() - at);
        assert!(common > 60, "{common}");
        assert_eq!(longer[at..at + common], shorter[..common]);
    }
}

#[test]
fn messages_have_the_time_of_the_capture() {
    let _alone = alone();
    let target = unique("stamps");
    const AGE: u64 = 5_000_000_000;
    let _sim = sim(&target, "--size 160x120 --stamp-age-ms 5000");
    let live = Live::of(&format!("--uri {target} --codec h264 --encoder x264enc"));
    let before = unix_now_ns();
    live.record(Format::Mcap, "a.mcap");
    live.wait_for_frames(Format::Mcap, 40);
    live.stop(Format::Mcap);
    let facts = mcap(&live.path("a.mcap"), None);
    assert_video(&facts, "/camera/video", "h264");
    let times = &facts["topics"]["/camera/video"];
    let (first, last) = (times["first_log_time"].as_u64().unwrap(), times["last_log_time"].as_u64().unwrap());
    assert!(first > before - AGE - 1_000_000_000, "{first}");
    assert!(last < unix_now_ns() - AGE, "{last} is not the time of arrival");
}

/// A replay's pictures and bodies are by one clock, and each of its rounds has a file.
#[test]
fn a_replay_that_loops_is_recorded_by_its_own_clock() {
    let _alone = alone();
    let target = unique("replay");
    let _sim = sim(&target, "--size 160x120 --fps 30 --replay 3 --loop");
    let live = Live::of(&format!("--uri {target} --codec h264 --encoder x264enc"));
    live.record(Format::Mcap, "a.mcap");
    wait_for("the third round", || live.recorder.status(Format::Mcap).path.ends_with("a-3.mcap"));
    live.stop(Format::Mcap);
    let facts = mcap(&live.path("a-2.mcap"), None);
    assert_whole(&facts);
    assert_video(&facts, "/camera/video", "h264");
    let times: Vec<u64> =
        serde_json::from_value(facts["topics"]["/camera/video"]["log_times"].clone()).unwrap();
    assert!(times[0] < 1_000_000_000, "it begins with the round: {times:?}");
    assert!((2_000_000_000..=3_000_000_000).contains(times.last().unwrap()), "{times:?}");
    // Samples' times, not those of their arrivals.
    let is_samples = |time: &u64| {
        let sample = (*time as f64 * 30.0 / 1e9).round();
        ((sample * 1e9 / 30.0).round() as u64).abs_diff(*time) <= 1
    };
    assert!(times.iter().all(is_samples), "{times:?}");
}

#[test]
fn options_are_taken_and_files_follow_one_another() {
    let _alone = alone();
    let live = Live::start("--codec h264 --encoder x264enc");
    for (compression, told) in [("none", ""), ("lz4", "lz4"), ("zstd", "zstd")] {
        let name = format!("{compression}.mcap");
        let some = |text: &str| Some(text.to_owned());
        let wanted = with_options(&name, |options| {
            (options.compression, options.topic) = (some(compression), some("/left"));
            (options.body_topic, options.frame_id) = (some("/people"), some("zed"));
        });
        live.recorder.start(Format::Mcap, &wanted).unwrap();
        live.recorder.bodies(packet(1, 7, 0, 3).into()).unwrap();
        live.wait_for_frames(Format::Mcap, 10);
        assert_eq!(live.stop(Format::Mcap).bodies, 1);
        let facts = mcap(&live.path(&name), None);
        assert_whole(&facts);
        assert_video(&facts, "/left", "h264");
        assert_eq!(facts["topics"]["/left"]["frame_ids"], serde_json::json!(["zed"]));
        assert_eq!(facts["topics"]["/people"]["count"], 1);
        assert_eq!(facts["compressions"], serde_json::json!([told]));
    }
}

/// A body packet of one frame, of nobody's label.
fn packet(frame: u32, timestamp_ns: u64, sdk_timestamp_ns: u64, count: u16) -> Vec<u8> {
    const RECORD: usize = 3248;
    let mut bytes = vec![0; 64 + RECORD * usize::from(count)];
    bytes[..4].copy_from_slice(&[0x62, 1, 1, 0]);
    bytes[0x04..0x08].copy_from_slice(&frame.to_le_bytes());
    bytes[0x08..0x10].copy_from_slice(&timestamp_ns.to_le_bytes());
    bytes[0x10..0x18].copy_from_slice(&sdk_timestamp_ns.to_le_bytes());
    bytes[0x18..0x1a].copy_from_slice(&count.to_le_bytes());
    bytes[0x1a..0x1c].copy_from_slice(&(RECORD as u16).to_le_bytes());
    bytes[0x24..0x28].copy_from_slice(&(u32::from(count) * RECORD as u32).to_le_bytes());
    bytes
}

#[test]
fn bodies_are_kept_as_they_came() {
    let _alone = alone();
    let live = Live::start("--codec h264 --encoder x264enc");
    live.recorder.bodies(packet(1, 1, 1, 1).into()).unwrap();
    live.record(Format::Mcap, "a.mcap");
    live.wait_for_frames(Format::Mcap, 5);
    let now = unix_now_ns();
    for n in 0..100u32 {
        let time = now + u64::from(n);
        live.recorder
            .bodies(packet(n, if n % 2 == 0 { time } else { 0 }, time, (n % 9) as u16).into())
            .unwrap();
        let error = live.recorder.bodies(packet(n, 1, 1, 1)[..100].to_vec().into()).unwrap_err();
        assert!(error.contains("100 bytes"), "{error}");
    }
    let labelled = |label: &[u8]| {
        let mut bytes = packet(100, 0, 0, 0);
        bytes[0x28..0x28 + label.len()].copy_from_slice(label);
        live.recorder.bodies(bytes.into())
    };
    // Keys are not unique, labels are.
    assert_eq!(labelled(b"dummy-2"), Err("its label 'dummy-2' is not 'dummy'".into()));
    labelled(b"dummy").unwrap();
    let status = live.stop(Format::Mcap);
    assert_eq!((status.bodies, status.counts.bodies_dropped, live.recorder.bodies_refused()), (101, 0, 101));
    let facts = mcap(&live.path("a.mcap"), None);
    assert_whole(&facts);
    let bodies = &facts["topics"]["/camera/body"];
    assert_eq!(bodies["message_encoding"], "cvmmap.body_tracking.v1");
    assert_eq!((&bodies["schema_id"], &bodies["schema_name"]), (&0.into(), &serde_json::Value::Null));
    let metadata = serde_json::json!({
        "packet_layout": "cvmmap_body_tracking_v1", "payload_format": "raw", "source_transport": "cv-mmap-body-pub",
    });
    assert_eq!(bodies["metadata"], metadata);
    assert!(bodies["messages_before_channel"].as_u64().unwrap() >= 5, "it appears with the first packet");
    assert_eq!(bodies["frame_counts"], serde_json::json!((0..=100).collect::<Vec<_>>()));
    assert_eq!(bodies["time_is_not_packets"], serde_json::json!([]));
    assert_eq!(bodies["log_times"].as_array().unwrap().len(), 101);
}

#[test]
fn what_cannot_be_recorded_is_refused_and_nothing_is_written() {
    let _alone = alone();
    let live = Live::start("--codec h264 --encoder x264enc --b-frames 2");
    std::fs::write(live.path("mine"), "mine").unwrap();
    std::fs::create_dir(live.path("folder")).unwrap();
    let refused = |format, request: &RecordingStartRequest| live.recorder.start(format, request).unwrap_err();
    for (path, invalid, part) in [
        ("", true, "output_path is empty"),
        ("../a.mp4", true, "'../a.mp4': it lies outside of --record-dir"),
        ("nosuch/a.mp4", false, "the folder"),
        ("folder", false, "it is a folder"),
        ("mine", false, "it exists, and nothing is overwritten"),
    ] {
        let refusal = refused(Format::Mp4, &request(path));
        assert_eq!(matches!(refusal, Refusal::Invalid(_)), invalid, "{refusal:?}");
        assert!(refusal.to_string().contains(part), "{refusal}");
    }
    let refusal = refused(Format::Mcap, &request("a.mcap"));
    assert!(matches!(&refusal, Refusal::Unsupported(why) if why.contains("--b-frames is 2")), "{refusal:?}");
    assert!(!live.recorder.status(Format::Mcap).can_record && live.recorder.status(Format::Mp4).can_record);
    assert_eq!(live.recorder.stop(Format::Mp4), Err(Refusal::NotRecording));
    assert_eq!(live.recorder.stop(Format::Mcap).unwrap_err().to_string(), "not recording");

    live.record(Format::Mp4, "a.mp4");
    let busy = refused(Format::Mp4, &request("b.mp4"));
    assert_eq!(busy.to_string(), format!("busy: recording to {}", live.path("a.mp4").display()));
    live.wait_for_frames(Format::Mp4, 40);
    let written = live.stop(Format::Mp4).written;
    assert_eq!(live.recorder.stop(Format::Mp4), Err(Refusal::NotRecording));
    assert_eq!(names(live.folder.path()), ["a.mp4", "folder", "mine"]);
    assert_eq!(std::fs::read(live.path("mine")).unwrap(), b"mine");
    // B-frames come in the order of decoding, and are shown in theirs.
    let shown = show(&live.path("a.mp4"), None);
    assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", written));
    assert!(shown.times.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", shown.times);
}

#[test]
fn an_encoder_that_takes_over_loses_nothing_of_either_file() {
    let _alone = alone();
    // The first fails after twenty frames: both recordings have to be there by then.
    let live = Live::start("--codec h264 --encoder failingenc,openh264enc --dummy-fps 5");
    live.record(Format::Mp4, "a.mp4");
    live.record(Format::Mcap, "a.mcap");
    wait_for("the second file", || live.recorder.status(Format::Mp4).path.ends_with("a-2.mp4"));
    let before = live.recorder.status(Format::Mp4).written;
    live.wait_for_frames(Format::Mp4, before + 20);
    live.wait_for_frames(Format::Mcap, before + 20);
    let (mp4, mcap) = (live.stop(Format::Mp4), live.stop(Format::Mcap));
    assert_eq!(names(live.folder.path()), ["a-2.mp4", "a.mcap", "a.mp4"]);
    assert_eq!((mp4.counts.dropped, mcap.counts.dropped), (0, 0));
    // The first encoder has parameters of its own, which an MP4 file has one set of.
    let shown = ["a.mp4", "a-2.mp4"].map(|name| show(&live.path(name), None));
    assert!(shown.iter().all(|shown| shown.errors.is_empty() && shown.times[0] == 0), "{shown:?}");
    let [first, second] = shown.map(|shown| shown.pictures.len() as u64);
    assert!((1..=20).contains(&first) && second >= 20, "{first} {second}");
    assert_eq!(first + second, mp4.written);
    let (facts, shown) = mcap_shown(&live.path("a.mcap"), "h264");
    assert_whole(&facts);
    assert_eq!(assert_video(&facts, "/camera/video", "h264") as u64, mcap.written);
    assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", mcap.written));
}

#[test]
fn a_new_size_begins_another_mp4_and_goes_on_in_the_same_mcap() {
    let _alone = alone();
    let target = unique("grows");
    let _sim = sim(&target, "--size 160x120 --fault grow@150+1000x1=2");
    let live = Live::of(&format!("--uri {target} --codec h264 --encoder x264enc"));
    live.record(Format::Mp4, "a.mp4");
    live.record(Format::Mcap, "a.mcap");
    wait_for("the second file", || live.recorder.status(Format::Mp4).path.ends_with("a-2.mp4"));
    let before = live.recorder.status(Format::Mcap).written;
    live.wait_for_frames(Format::Mcap, before + 40);
    let (mp4, mcap) = (live.stop(Format::Mp4), live.stop(Format::Mcap));
    let shown = ["a.mp4", "a-2.mp4"].map(|name| show(&live.path(name), None));
    assert!(shown.iter().all(|shown| shown.errors.is_empty()), "{shown:?}");
    assert_eq!([&shown[0].sizes, &shown[1].sizes], [&["160x120"], &["320x240"]]);
    assert_eq!(shown.iter().map(|shown| shown.pictures.len() as u64).sum::<u64>(), mp4.written);
    let (facts, shown) = mcap_shown(&live.path("a.mcap"), "h264");
    assert_whole(&facts);
    assert_eq!(assert_video(&facts, "/camera/video", "h264") as u64, mcap.written);
    assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", mcap.written));
    assert_eq!(shown.sizes, ["160x120", "320x240"]);
}

#[test]
fn the_end_of_the_session_makes_files_whole() {
    let _alone = alone();
    let live = Live::start("--codec h265 --encoder x265enc --dummy-frames 60");
    live.record(Format::Mp4, "a.mp4");
    live.record(Format::Mcap, "a.mcap");
    live.wait_for_frames(Format::Mcap, 1);
    let recorder = live.recorder.clone();
    // It ends by itself.
    wait_for("the end of the session", || live.thread.as_ref().unwrap().is_finished());
    let (snapshot, folder) = live.end();
    assert_eq!(names(folder.path()), ["a.mcap", "a.mp4"]);
    let refusal = recorder.start(Format::Mp4, &request("b.mp4")).unwrap_err();
    assert_eq!(refusal, Refusal::Failed("the session is ending".into()));
    let [mp4, mcap] = snapshot.recordings.as_slice() else { panic!("{:?}", snapshot.recordings) };
    assert!(!mp4.is_recording && !mp4.can_record && mp4.written > 0, "{mp4:?}");
    let shown = show(&folder.path().join("a.mp4"), None);
    assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", mp4.written));
    let (facts, shown) = mcap_shown(&folder.path().join("a.mcap"), "h265");
    assert_whole(&facts);
    assert_eq!(assert_video(&facts, "/camera/video", "h265") as u64, mcap.written);
    assert_eq!((shown.errors.as_str(), shown.pictures.len() as u64), ("", mcap.written));
}

#[test]
fn a_recording_without_a_picture_leaves_no_file() {
    let _alone = alone();
    let live = Live::of(&format!("--uri {} --codec h264 --encoder x264enc", unique("nobody")));
    for format in Format::ALL {
        live.record(format, "a");
        let refusal = live.recorder.stop(format).unwrap_err();
        assert!(matches!(&refusal, Refusal::Failed(why) if why.contains("nothing to keep")), "{refusal:?}");
        let status = live.recorder.status(format);
        assert!(!status.is_recording && status.error.contains("nothing to keep"), "{status:?}");
    }
    live.record(Format::Mcap, "b");
    live.recorder.bodies(packet(1, 5, 0, 2).into()).unwrap();
    live.stop(Format::Mcap);
    assert_eq!(names(live.folder.path()), ["b"], "bodies alone are something");
    let facts = mcap(&live.path("b"), None);
    assert_whole(&facts);
    assert_eq!(facts["topics"]["/camera/body"]["first_log_time"], 5);
    // No picture ever came.
    live.stop.store(true, Ordering::Relaxed);
}

#[test]
fn a_name_that_is_taken_meanwhile_is_not_overwritten() {
    let _alone = alone();
    let live = Live::start("--codec h264 --encoder x264enc");
    live.record(Format::Mp4, "a.mp4");
    live.wait_for_frames(Format::Mp4, 30);
    std::fs::write(live.path("a.mp4"), "mine").unwrap();
    let refusal = live.recorder.stop(Format::Mp4).unwrap_err().to_string();
    assert!(refusal.contains("File exists") && refusal.contains("a.mp4.part'"), "{refusal}");
    assert_eq!(live.recorder.status(Format::Mp4).error, refusal);
    assert_eq!(std::fs::read(live.path("a.mp4")).unwrap(), b"mine");
    let shown = show(&live.path("a.mp4.part"), None);
    assert!(shown.pictures.len() >= 30 && shown.errors.is_empty());
}
