// SPDX-License-Identifier: MPL-2.0

//! `cvmmap-streamer inspect FILE.svo2`: what is in a recording, and what is wrong with it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use svo2::{Found, Kind, Reader, Recording, SensorReader, Sensors};

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
    let (recording, identity) = convert::open(path).map_err(|failure| {
        let text = failure.to_string();
        Failure::new(failure.exit, text.strip_prefix("--input ").unwrap_or(&text))
    })?;
    show::result(json, &report(path, identity.len(), &recording, check));
    Ok(())
}

fn report(path: &Path, bytes: u64, recording: &Arc<Recording>, check: bool) -> Value {
    let header = recording.header();
    let (width, height) = recording.size();
    let frames = recording.frames();
    let looked = Looked::at(recording, check);
    let scanned = match recording.found() {
        Found::Indexed => None,
        Found::Scanned(why) => Some(why),
    };
    let topics = recording.messages().map(|(topic, messages)| (topic.to_owned(), json!(messages)));
    json!({
        "file": path.display().to_string(),
        "bytes": bytes,
        "opened": { "by": if scanned.is_none() { "index" } else { "scan" }, "why": scanned },
        "index_memory_bytes": recording.index_bytes(),
        "camera": {
            "serial": recording.serial(),
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
        "key_frames": looked.keys(),
        "gaps": gaps(recording),
        "damage": looked.damage(),
        "imu": imu(recording),
        "topics": topics.collect::<serde_json::Map<_, _>>(),
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

/// Frames that the camera lost, by the times of those that are there.
fn gaps(recording: &Recording) -> Value {
    let nominal = recording.nominal_ns().max(1) as f64;
    let lost = |frame: usize| (recording.duration_ns(frame) as f64 / nominal).round() as u64;
    let gaps = (0..recording.frames() - 1).map(|frame| (frame, lost(frame).saturating_sub(1)));
    let gaps: Vec<(usize, u64)> = gaps.filter(|&(_, lost)| lost > 0).collect();
    let row = |&(frame, lost): &(usize, u64)| {
        json!({
            "after_frame": frame,
            "lost": lost,
            "seconds": recording.duration_ns(frame) as f64 / NS,
            "at_utc": utc(recording.unix_ns(frame)),
        })
    };
    json!({
        "count": gaps.len(),
        "lost_frames": gaps.iter().map(|(_, lost)| lost).sum::<u64>(),
        "biggest": gaps.iter().max_by_key(|(frame, lost)| (*lost, std::cmp::Reverse(*frame))).map(row),
        "first": gaps.iter().take(LISTED).map(row).collect::<Vec<_>>(),
    })
}

fn imu(recording: &Arc<Recording>) -> Value {
    let of = |sensors| match SensorReader::new(recording.clone(), sensors) {
        Ok(Some(reader)) => json!(reader.samples()),
        Ok(None) => Value::Null,
        Err(why) => json!(why),
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

/// What the frames are to a decoder.
#[derive(Default)]
struct Looked {
    keys: Vec<usize>,
    /// Of those, such as begin a picture that becomes whole later.
    refreshes: usize,
    /// Runs of damaged frames: first, last, and what is wrong with the first.
    damaged: Vec<(usize, usize, String)>,
    count: usize,
    /// Chunks whose checksum says that they are not as they were written; `None`: nobody looked.
    chunks: Option<Vec<Value>>,
}

impl Looked {
    fn at(recording: &Arc<Recording>, check: bool) -> Self {
        let mut reader = Reader::new(recording.clone());
        let mut looked = Self::default();
        for frame in 0..recording.frames() {
            let kind = reader.kind(frame);
            let kind = if check { reader.unit(frame).and(kind) } else { kind };
            match kind {
                Ok(Kind::Entry { recovers_after }) => {
                    looked.keys.push(frame);
                    looked.refreshes += usize::from(recovers_after > 0);
                }
                Ok(Kind::Delta) => (),
                Err(damage) => looked.add(frame, damage.what),
            }
        }
        if check {
            let row = |(frames, what): (Range<usize>, String)| json!({"frames": format!("{}-{}", frames.start, frames.end.saturating_sub(1)), "what": what});
            looked.chunks = Some(recording.check_chunks().map(row).collect());
        }
        looked
    }

    fn add(&mut self, frame: usize, what: String) {
        self.count += 1;
        match self.damaged.last_mut() {
            Some((_, last, _)) if *last + 1 == frame => *last = frame,
            _ => self.damaged.push((frame, frame, what)),
        }
    }

    fn keys(&self) -> Value {
        let mut distances: Vec<usize> = self.keys.windows(2).map(|pair| pair[1] - pair[0]).collect();
        distances.sort_unstable();
        json!({
            "count": self.keys.len(),
            "first": self.keys.first(),
            "distance_min": distances.first(),
            "distance_median": distances.get(distances.len() / 2),
            "distance_max": distances.last(),
            "intra_refresh": self.refreshes,
        })
    }

    fn damage(&self) -> Value {
        let row = |(first, last, what): &(usize, usize, String)| json!({"frames": format!("{first}-{last}"), "what": what});
        let mut damage = json!({
            "looked_at": if self.chunks.is_some() { "all of each frame" } else { "the head of each frame" },
            "frames": self.count,
            "first": self.damaged.iter().take(LISTED).map(row).collect::<Vec<_>>(),
        });
        if let Some(chunks) = &self.chunks {
            damage["chunks_changed"] = chunks.len().into();
            damage["first_chunks"] = chunks.iter().take(LISTED).cloned().collect();
        }
        damage
    }
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
