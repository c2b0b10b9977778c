// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer inspect FILE.svo2`: what is in a recording, and what is wrong with it.

use std::convert::Infallible;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use svo2::{Found, Recording, SensorReader, Sensors};

use super::health::{self, Gap, Looked};
use super::{convert, utc};
use crate::exit::Failure;
use crate::show;

const NS: f64 = 1e9;
/// So many gaps and damaged places are listed; all of them are counted.
const LISTED: usize = 20;

/// The file that an argument of `inspect` means: one that is there, or that is called as recordings are.
pub fn as_file(target: &str) -> Option<PathBuf> {
    let path = Path::new(target);
    let called = path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("svo2") || extension.eq_ignore_ascii_case("svo")
    });
    (called || path.is_file()).then(|| path.to_owned())
}

/// Prints the report of a recording; `check`: each frame is read to its end, and all checksums are looked at.
///
/// # Errors
/// A [`Failure`] where the file is no recording that can be read.
pub fn run(path: &Path, check: bool, json: bool) -> Result<(), Failure> {
    let named = |failure: Failure| {
        let text = failure.to_string();
        Failure::new(failure.exit, text.strip_prefix("--input ").unwrap_or(&text))
    };
    let (recording, identity) = convert::open(path).map_err(named)?;
    let report = report(path, identity.len(), &recording, check);
    convert::check_read(path, &recording).map_err(named)?;
    show::result(json, &report);
    Ok(())
}

fn report(path: &Path, bytes: u64, recording: &Arc<Recording>, check: bool) -> Value {
    let header = recording.header();
    let (width, height) = recording.size();
    let frames = recording.frames();
    let Ok(looked) = Looked::at(recording, check, |_| Ok::<_, Infallible>(()));
    let scanned = match recording.found() {
        Found::Indexed | Found::Walked => None,
        Found::Scanned(why) => Some(why),
    };
    let by = match recording.found() {
        Found::Indexed => "index",
        Found::Walked => "walk: it was written without chunks, and therefore without an index",
        Found::Scanned(_) => "scan",
    };
    let others: Vec<_> =
        recording.cameras().into_iter().filter(|&serial| serial != recording.serial()).collect();
    let topics = recording.messages().map(|(topic, messages)| (topic.to_owned(), json!(messages)));
    json!({
        "file": path.display().to_string(),
        "bytes": bytes,
        "opened": { "by": by, "why": scanned },
        "index_memory_bytes": recording.index_bytes(),
        "camera": {
            "serial": recording.serial(),
            "others": others,
            "model": header.model,
            "sdk_version": header.sdk_version,
            "format_version": header.version,
            "header_fault": recording.header_fault(),
        },
        "video": {
            "codec": recording.codec().name(),
            "width": width,
            "height": height,
            "view_width": width / 2,
            "frames": frames,
        },
        "time": times(recording),
        "key_frames": keys(&looked),
        "gaps": gaps(recording),
        "damage": damage(recording, &looked, check),
        "imu": imu(recording),
        "topics": topics.collect::<serde_json::Map<_, _>>(),
        // In the end, as looking may find more.
        "remarks": recording.remarks(0),
    })
}

fn times(recording: &Recording) -> Value {
    let last = recording.frames() - 1;
    let span = recording.running_ns(last) as f64 / NS;
    let mut steps: Vec<u64> = (0..last).map(|frame| recording.duration_ns(frame)).collect();
    let middle = steps.len() / 2;
    let typical = (!steps.is_empty()).then(|| NS / *steps.select_nth_unstable(middle).1 as f64);
    let [first, end] = [0, last].map(|frame| recording.unix_ns(frame));
    json!({
        "first_utc": utc(first),
        "first_unix_ns": first,
        "last_utc": utc(end),
        "last_unix_ns": end,
        "duration_s": span + recording.nominal_ns() as f64 / NS,
        "fps_said": recording.header().fps,
        "fps_typical": typical,
        "fps_mean": (span > 0.0).then(|| last as f64 / span),
    })
}

fn gaps(recording: &Recording) -> Value {
    let gaps = health::gaps(recording);
    let row = |gap: &Gap| {
        json!({
            "after_frame": gap.after,
            "lost": gap.lost,
            "seconds": recording.duration_ns(gap.after) as f64 / NS,
            "at_utc": utc(recording.unix_ns(gap.after)),
        })
    };
    json!({
        "count": gaps.len(),
        "lost_frames": gaps.iter().map(|gap| gap.lost).sum::<u64>(),
        "biggest": gaps.iter().max_by_key(|gap| (gap.lost, std::cmp::Reverse(gap.after))).map(row),
        "first": gaps.iter().take(LISTED).map(row).collect::<Vec<_>>(),
    })
}

fn imu(recording: &Arc<Recording>) -> Value {
    let of = |sensors| match SensorReader::new(recording.clone(), sensors) {
        Some(reader) => json!(reader.samples()),
        None => Value::Null,
    };
    let (raw, integrated) = (of(Sensors::Raw), of(Sensors::Integrated));
    let seconds = recording.running_ns(recording.frames() - 1) as f64 / NS;
    let rate = raw.as_u64().filter(|_| seconds > 0.0).map(|samples| samples as f64 / seconds);
    json!({
        "samples": raw,
        "hz_said": recording.header().imu_hz,
        "hz": rate,
        "integrated_samples": integrated,
    })
}

fn keys(looked: &Looked) -> Value {
    let mut distances: Vec<usize> = looked.keys.windows(2).map(|pair| pair[1] - pair[0]).collect();
    distances.sort_unstable();
    json!({
        "count": looked.keys.len(),
        "first": looked.keys.first(),
        "distance_min": distances.first(),
        "distance_median": distances.get(distances.len() / 2),
        "distance_max": distances.last(),
        "intra_refresh": looked.refreshes,
    })
}

/// With the chunks whose checksum says that they are not as they were written, where all is to be checked.
fn damage(recording: &Recording, looked: &Looked, check: bool) -> Value {
    // A chunk may have samples of the IMU alone.
    let row = |frames: &Range<usize>, what: &str| {
        let frames = (!frames.is_empty()).then(|| format!("{}-{}", frames.start, frames.end - 1));
        json!({"frames": frames, "what": what})
    };
    let mut damage = json!({
        "looked_at": if check { "all of each frame" } else { "the head of each frame" },
        "frames": looked.damaged.iter().map(|(run, _)| run.len()).sum::<usize>(),
        "first": looked.damaged.iter().take(LISTED).map(|(run, what)| row(run, what)).collect::<Vec<_>>(),
    });
    if check {
        let chunks: Vec<_> = recording.check_chunks().collect();
        damage["chunks_changed"] = chunks.len().into();
        damage["first_chunks"] = chunks.iter().take(LISTED).map(|(frames, what)| row(frames, what)).collect();
    }
    damage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_file_and_what_a_producer() {
        assert!(as_file("cam0").is_none() && as_file("cvmmap://cam0").is_none());
        assert!(as_file("nosuch.svo2").is_some() && as_file("nosuch.SVO").is_some());
        assert!(as_file(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).is_some());
        assert!(as_file(env!("CARGO_MANIFEST_DIR")).is_none());
    }

    #[test]
    fn times_are_told_to_the_nanosecond() {
        assert_eq!(utc(1_700_000_000_000_000_007), "2023-11-14T22:13:20.000000007Z");
        assert_eq!(utc(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }
}
