// SPDX-License-Identifier: MPL-2.0

//! What recordings hold: MP4 by FFmpeg, MCAP by the Python package and Foxglove's schemas, its video by FFmpeg again.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::readers::{ffmpeg_program, folder};
use super::{run, text};

/// What a player shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// Of each picture's planes, in the order of showing.
    pub pictures: Vec<String>,
    /// Their times, in ticks of the file's.
    pub times: Vec<i64>,
    /// All sizes that there are, in their order.
    pub sizes: Vec<String>,
    /// What the player complains of.
    pub errors: String,
}

/// Decodes a file; `demuxer` where its bytes do not tell what it is.
pub fn show(file: &Path, demuxer: Option<&str>) -> Shown {
    let mut ffmpeg = ffmpeg_program();
    ffmpeg.args(["-loglevel", "error"]);
    ffmpeg.args(demuxer.into_iter().flat_map(|name| ["-f", name])).arg("-i").arg(file);
    ffmpeg.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-noautoscale", "-enc_time_base", "demux"]);
    // Sizes stand in a header, which there is once; the info of each picture has its own.
    ffmpeg.args(["-vf", "showinfo=checksum=0", "-f", "framehash", "-hash", "md5", "-"]);
    ffmpeg.args(["-loglevel", "info"]);
    let output = run(&mut ffmpeg);
    let (hashes, said) = (text(&output.stdout), text(&output.stderr));
    let rows = hashes.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split(',').map(str::trim).collect()).collect();
    let mut sizes: Vec<String> = Vec::new();
    for line in said.lines().filter(|line| line.contains("showinfo") && line.contains(" s:")) {
        let size = line.split(" s:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    let complaints = ["error", "Error", "invalid", "Invalid", "corrupt", "missing", "concealing"];
    let errors: Vec<&str> =
        said.lines().filter(|line| complaints.iter().any(|word| line.contains(word))).collect();
    assert!(output.status.success(), "{ffmpeg:?}: {said}");
    Shown {
        pictures: rows.iter().map(|row| row[5].to_owned()).collect(),
        times: rows.iter().map(|row| row[2].parse().unwrap()).collect(),
        sizes,
        errors: errors.join("\n"),
    }
}

/// What the judge reads from an MCAP file; the video's access units go to `bitstream`.
pub fn mcap(file: &Path, bitstream: Option<&Path>) -> Value {
    judge(file, &bitstream.map_or(vec![], |path| vec!["--bitstream", path.to_str().unwrap()]))
}

/// The same, with flags of tests/readers/mcap_judge.py.
pub fn judge(file: &Path, flags: &[&str]) -> Value {
    let mut judge = Command::new(folder().join("venv/bin/python"));
    judge.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/mcap_judge.py")).arg(file);
    let output = run(judge.args(flags));
    assert!(output.status.success(), "{judge:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The video topic is what the layout says, message by message; tells of how many.
pub fn assert_video(facts: &Value, topic: &str, codec: &str) -> usize {
    let video = &facts["topics"][topic];
    assert_eq!(video["schema_name"], "foxglove.CompressedVideo", "{facts}");
    assert_eq!(video["schema_encoding"], "protobuf");
    assert_eq!(video["message_encoding"], "protobuf");
    assert_eq!(video["schema_is_foxgloves"], true);
    assert_eq!(video["formats"], serde_json::json!([codec]));
    assert_eq!(video["monotonic"], true, "{video}");
    for faults in [
        "log_time_is_not_publish_time",
        "undecodable",
        "unknown_fields",
        "timestamp_is_not_log_time",
        "no_start_code",
        "not_one_access_unit",
        "keys_without_parameter_sets",
        "empty",
    ] {
        assert_eq!(video[faults], serde_json::json!([]), "{faults}: {video}");
    }
    assert_eq!(video["key_frames"][0], 0, "it begins with a key frame");
    usize::try_from(video["count"].as_u64().unwrap()).unwrap()
}

/// A file that was finished: its summary agrees with what is in it.
pub fn assert_whole(facts: &Value) {
    assert_eq!(facts["errors"], serde_json::json!([]), "{facts}");
    assert_eq!(facts["finished"], true);
    let topics = facts["topics"].as_object().unwrap();
    for (topic, found) in facts["summary"]["found"].as_object().unwrap() {
        assert_eq!(*found, topics[topic]["count"], "{topic}");
    }
    assert_eq!(facts["summary"]["found"].as_object().unwrap().len(), topics.len());
}
