// SPDX-License-Identifier: MPL-2.0

//! What came of a conversion, for machines and for people.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::options::Policy;
use super::plan::Bundles;
use crate::svo::convert::Control;
use crate::svo::segment::Camera;

/// What a file has of one camera.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Begins its topics.
    pub label: String,
    /// The recording.
    pub input: PathBuf,
    /// `h264` or `h265`; empty where it has no pictures.
    pub codec: &'static str,
    /// Factory of the encoder; `None` where nothing was encoded.
    pub encoder: Option<String>,
    /// Width and height of its pictures.
    pub size: (u32, u32),
    /// First and last frame that was asked for.
    pub frames: Option<RangeInclusive<usize>>,
    /// When they were taken, in ns since 1970.
    pub unix_ns: Option<[u64; 2]>,
    /// Pictures in the file.
    pub written: u64,
    /// Pictures that would be in it if none was damaged.
    pub expected: u64,
    /// Places where frames are damaged; those that need them are missing as well.
    pub damaged: usize,
    /// Topics of the IMU, without the label, and how many samples each has.
    pub samples: Vec<(&'static str, u64)>,
    /// How many samples cannot be read, and why the first.
    pub unreadable: Option<(u64, String)>,
}

impl Exported {
    /// One that has nothing in the file.
    pub fn empty(camera: &Camera) -> Self {
        Self {
            label: camera.label.clone(),
            input: camera.path.clone(),
            codec: "",
            encoder: None,
            size: (0, 0),
            frames: None,
            unix_ns: None,
            written: 0,
            expected: 0,
            damaged: 0,
            samples: Vec::new(),
            unreadable: None,
        }
    }

    fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.written)
    }

    fn json(&self) -> Value {
        let samples =
            |name| self.samples.iter().find(|(found, _)| *found == name).map_or(0, |(_, count)| *count);
        json!({
            "label": self.label,
            "input": self.input.display().to_string(),
            "codec": self.codec,
            "encoder": self.encoder,
            "copy": self.encoder.is_none(),
            "width": self.size.0,
            "height": self.size.1,
            "start_frame": self.frames.as_ref().map(|frames| *frames.start()),
            "end_frame": self.frames.as_ref().map(|frames| *frames.end()),
            "first_unix_ns": self.unix_ns.map(|[first, _]| first),
            "last_unix_ns": self.unix_ns.map(|[_, last]| last),
            "frames": self.written,
            "missing": self.missing(),
            "damaged": self.damaged,
            "imu": samples("imu"),
            "imu_integrated": samples("imu_integrated"),
        })
    }
}

/// The groups of a file.
#[derive(Debug, Clone)]
pub struct Bundled {
    policy: Policy,
    indices: RangeInclusive<usize>,
    count: usize,
    incomplete: u64,
}

impl Bundled {
    /// Those of a plan, some of which turned out to have damaged frames.
    pub fn new(bundles: &Bundles, incomplete: u64) -> Self {
        let first = bundles.first_index;
        let indices = first..=first + bundles.groups.len() - 1;
        Self { policy: bundles.policy, indices, count: bundles.count, incomplete }
    }

    /// Messages of `/bundle`.
    fn written(&self) -> u64 {
        let asked = self.indices.clone().count() as u64;
        if self.policy == Policy::Strict { asked - self.incomplete } else { asked }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Done {
    /// The file.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// In the order of the segment.
    pub cameras: Vec<Exported>,
    /// `None`: each camera is for itself.
    pub bundled: Option<Bundled>,
    /// Why recordings were read without their index.
    pub scanned: Vec<Option<String>>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Done {
    /// Pictures in the file.
    fn frames(&self) -> u64 {
        self.cameras.iter().map(|camera| camera.written).sum()
    }

    /// Tells what is missing.
    pub(super) fn tell(&self, control: &mut Control) {
        for camera in &self.cameras {
            let (label, missing) = (&camera.label, camera.missing());
            if missing > 0 {
                control.notice(format!(
                    "warning: {label}: {missing} of {} frames are missing in the file: they are damaged, or cannot be \
                     decoded",
                    camera.expected
                ));
            }
            if let Some((count, why)) = &camera.unreadable {
                control.notice(format!("warning: {label}: {count} samples of its IMU cannot be read: {why}"));
            }
        }
        if let Some(Bundled { policy, incomplete: incomplete @ 1.., indices, .. }) = &self.bundled {
            let groups = indices.clone().count();
            let what = match policy {
                Policy::Strict => "are left out, since cameras are",
                _ => "have not all cameras: some have no frame near enough, or are",
            };
            control.notice(format!("warning: {incomplete} of {groups} groups {what} inside a corrupted gap"));
        }
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let bundle = self.bundled.as_ref().map(|bundled| {
            json!({
                "policy": bundled.policy.name(),
                "groups": bundled.count,
                "start_group": bundled.indices.start(),
                "end_group": bundled.indices.end(),
                "messages": bundled.written(),
                "incomplete": bundled.incomplete,
            })
        });
        let mut cameras: Vec<Value> = self.cameras.iter().map(Exported::json).collect();
        for (camera, scanned) in cameras.iter_mut().zip(&self.scanned) {
            camera["scanned"] = json!(scanned);
        }
        json!({
            "output": self.output.display().to_string(),
            "bytes": self.bytes,
            "layout": if self.bundled.is_some() { "bundled" } else { "copy" },
            "bundle": bundle,
            "cameras": cameras,
            "frames": self.frames(),
            "elapsed_s": seconds,
            "frames_per_s": self.frames() as f64 / seconds.max(1e-9),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let groups = self.bundled.as_ref().map_or_else(String::new, |bundled| {
            format!("{} groups ({}) of ", bundled.written(), bundled.policy.name())
        });
        let cameras: Vec<String> = self.cameras.iter().map(|camera| camera.label.clone()).collect();
        let mut ways: Vec<String> = self
            .cameras
            .iter()
            .filter(|camera| camera.frames.is_some())
            .map(|camera| format!("{} by {}", camera.codec, camera.encoder.as_deref().unwrap_or("copy")))
            .collect();
        ways.dedup();
        format!(
            "{}: {groups}{} frames of {}, {}, {:.1} MB, in {seconds:.1} s ({:.0} frames/s)",
            self.output.display(),
            self.frames(),
            cameras.join(", "),
            ways.join(", "),
            self.bytes as f64 / 1e6,
            self.frames() as f64 / seconds.max(1e-9),
        )
    }
}
