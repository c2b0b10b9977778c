// SPDX-License-Identifier: MPL-2.0

//! One segment into one MP4 file, for whoever has one or many: no globals, nothing printed.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cameras::Cameras;
use super::layout::Layout;
use super::options::Grid;
use super::plan::Plan;
use crate::exit::{Failure, configuration};
use crate::place::{self, Disk};
use crate::svo::chain::first_that_works;
use crate::svo::convert::{Control, tell_how_it_was_found};
use crate::svo::encode;
use crate::svo::output::{self, Wrong};
use crate::svo::segment::{Opened, Segment};

/// What came of a segment.
#[derive(Debug, Clone)]
pub struct Done {
    /// What it is called.
    pub segment: String,
    /// The file.
    pub output: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// `h264` or `h265`.
    pub codec: &'static str,
    /// Factory of the encoder.
    pub encoder: String,
    /// How its pictures are made up.
    pub layout: Layout,
    /// In the order of the tiles.
    pub cameras: Vec<Camera>,
    /// Synced groups of the segment, from the common start.
    pub groups: usize,
    /// First and last group that was asked for.
    pub asked: RangeInclusive<usize>,
    /// Pictures in the file.
    pub frames: u64,
    /// Times of the first and the last group that was asked for, in ns since 1970.
    pub unix_ns: [u64; 2],
    /// How long it took.
    pub elapsed: Duration,
}

/// What came of one camera.
#[derive(Debug, Clone)]
pub struct Camera {
    /// What it is called.
    pub label: String,
    /// The recording.
    pub input: PathBuf,
    /// Width and height of its view.
    pub size: (u32, u32),
    /// Its first and last frame in the groups that were asked for.
    pub frames: Option<RangeInclusive<usize>>,
    /// In how many groups.
    pub counts: Counts,
    /// Why the recording was read without its index.
    pub scanned: Option<String>,
}

/// In how many groups a camera is seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Groups that show a frame.
    pub shown: u64,
    /// Groups near which it has none.
    pub none: u64,
    /// Groups of which its frame is damaged.
    pub damaged: u64,
    /// Places in the recording that are damaged, as far as it was read.
    pub places: usize,
}

impl Camera {
    fn json(&self) -> Value {
        let frames = self.frames.as_ref();
        json!({
            "label": self.label,
            "input": self.input.display().to_string(),
            "width": self.size.0,
            "height": self.size.1,
            "first_frame": frames.map(RangeInclusive::start),
            "last_frame": frames.map(RangeInclusive::end),
            "shown": self.counts.shown,
            "no_frame": self.counts.none,
            "damaged_frame": self.counts.damaged,
            "damaged": self.counts.places,
            "scanned": self.scanned,
        })
    }
}

impl Done {
    /// For machines.
    pub fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let (width, height) = self.layout.size();
        json!({
            "segment": self.segment,
            "output": self.output.display().to_string(),
            "bytes": self.bytes,
            "codec": self.codec,
            "encoder": self.encoder,
            "width": width,
            "height": height,
            "columns": self.layout.columns,
            "rows": self.layout.rows,
            "tile_width": self.layout.tile.0,
            "tile_height": self.layout.tile.1,
            "cameras": self.cameras.iter().map(Camera::json).collect::<Vec<_>>(),
            "groups": self.groups,
            "start_frame": self.asked.start(),
            "end_frame": self.asked.end(),
            "frames": self.frames,
            "missing": self.missing(),
            "first_unix_ns": self.unix_ns[0],
            "last_unix_ns": self.unix_ns[1],
            "elapsed_s": seconds,
            "frames_per_s": self.frames as f64 / seconds.max(1e-9),
        })
    }

    /// Groups that were asked for and are not in the file.
    pub fn missing(&self) -> u64 {
        (self.asked.clone().count() as u64).saturating_sub(self.frames)
    }

    /// For people.
    pub fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let (width, height) = self.layout.size();
        format!(
            "{}: {} groups of {} cameras, {width}x{height}, {} by {}, {:.1} MB, in {seconds:.1} s ({:.0} groups/s)",
            self.output.display(),
            self.frames,
            self.cameras.len(),
            self.codec,
            self.encoder,
            self.bytes as f64 / 1e6,
            self.frames as f64 / seconds.max(1e-9),
        )
    }
}

/// Converts a segment. The output gets its name when it is whole; whatever else happens, nothing stays behind.
///
/// # Errors
/// A [`Failure`] that names the flag, the value and the rule.
pub fn convert(
    segment: &Segment,
    output: &Path,
    grid: &Grid,
    control: &mut Control,
) -> Result<Done, Failure> {
    let started = Instant::now();
    segment.needs_two("a grid")?;
    for camera in &segment.cameras {
        encode::check(&camera.path)?;
    }
    let opened = segment.open()?;
    let sizes: Vec<_> = opened.recordings.iter().map(|recording| left(recording.size())).collect();
    let layout = Layout::new(&sizes, grid.tile_scale, grid.columns).map_err(configuration)?;
    let plan = plan(segment, &opened, grid)?;
    let claimed = output::claim(output, &opened.identities, grid.overwrite)?;
    let mut cameras: Vec<Camera> = segment
        .cameras
        .iter()
        .enumerate()
        .map(|(n, camera)| Camera {
            label: camera.label.clone(),
            input: camera.path.clone(),
            size: sizes[n],
            frames: plan.frames(n),
            counts: Counts::default(),
            scanned: tell_how_it_was_found(&opened.recordings[n], &format!("{}: ", camera.label), control),
        })
        .collect();
    segment.renamed().into_iter().for_each(|told| control.notice(told));
    control.check()?;
    let (groups, asked) = (plan.all, plan.asked.start..=plan.asked.end - 1);
    let unix_ns = [0, plan.groups.len() - 1].map(|n| plan.groups[n].time_ns);
    let all = Cameras::new(segment, &opened, plan, layout.clone());
    // The pipelines open them for themselves.
    drop(opened);
    let (frames, encoder, counts) =
        write(all, grid, claimed.file(), control).map_err(|why| why.of(output))?;
    control.check()?;
    let bytes = claimed.publish(Disk::Waited).map_err(|error| output::failed(output, error))?;
    for (camera, counts) in cameras.iter_mut().zip(counts) {
        camera.counts = counts;
        tell_missing(camera, asked.clone().count(), control);
    }
    let done = Done {
        segment: segment.name.clone(),
        output: output.to_owned(),
        bytes,
        codec: grid.encoding.codec.name(),
        encoder,
        layout,
        cameras,
        groups,
        asked,
        frames,
        unix_ns,
        elapsed: started.elapsed(),
    };
    if done.missing() > 0 {
        control.notice(format!("warning: {} groups are missing in the file", done.missing()));
    }
    Ok(done)
}

/// Width and height of one of two views.
fn left((width, height): (u32, u32)) -> (u32, u32) {
    (width / 2, height)
}

fn plan(segment: &Segment, opened: &Opened, grid: &Grid) -> Result<Plan, Failure> {
    opened.window(segment)?;
    let labels = segment.cameras.iter().map(|camera| camera.label.clone()).collect();
    let nominal = opened.recordings.iter().map(|recording| recording.nominal_ns()).max();
    Plan::new(&segment.name, labels, &opened.tracks(), nominal.unwrap_or_default(), grid)
}

fn write(
    mut cameras: Cameras,
    grid: &Grid,
    file: &File,
    control: &mut Control,
) -> Result<(u64, String, Vec<Counts>), Wrong> {
    let (frames, encoder) = first_that_works(&grid.encoding, control, |factory, last, control| {
        place::empty(file).map_err(Wrong::output)?;
        cameras.attempt(&grid.encoding, factory, last, file, control)
    })?;
    Ok((frames, encoder, cameras.close(control)))
}

fn tell_missing(camera: &Camera, groups: usize, control: &mut Control) {
    let Counts { none, damaged, .. } = camera.counts;
    let mut why = Vec::new();
    if none > 0 {
        why.push(format!("{none} have no frame of it near enough"));
    }
    if damaged > 0 {
        why.push(format!("{damaged} have one that is damaged, or cannot be decoded"));
    }
    if !why.is_empty() {
        let (label, missing) = (&camera.label, none + damaged);
        let why = why.join(", ");
        control.notice(format!("warning: {label} is missing in {missing} of {groups} groups: {why}"));
    }
}
