// SPDX-License-Identifier: MPL-2.0

//! Which frame of which camera is in which picture, and when that is shown: all known before anything is decoded.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use svo2::group::{self, Group, Track};

use super::options::Grid;
use crate::exit::{Failure, configuration};
use crate::svo::segment::no_frame_in_common;

/// The groups that become pictures.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the cameras are called.
    pub labels: Vec<String>,
    /// How many groups there are from the common start.
    pub all: usize,
    /// Which of them are here.
    pub asked: Range<usize>,
    /// Those.
    pub groups: Vec<Group>,
    /// Time from picture to picture, about.
    pub interval_ns: u64,
}

impl Plan {
    /// Of a segment called `name`, whose cameras overlap. `nominal_ns`: the interval where there is a single group.
    ///
    /// # Errors
    /// A [`Failure`] that names the flag and says which groups there are.
    pub fn new(
        name: &str,
        labels: Vec<String>,
        tracks: &[Track<'_>],
        nominal_ns: u64,
        grid: &Grid,
    ) -> Result<Self, Failure> {
        let never = || configuration(format!("segment '{name}': its cameras never overlap"));
        let mut found = group::nearest(tracks, grid.tolerance_ns).ok_or_else(never)?;
        let all = found.groups.len();
        if all == 0 {
            return Err(no_frame_in_common(name, &labels[found.slowest]));
        }
        let told = |count, last| format!("segment '{name}' has {count} synced groups, 0 to {last}");
        let range = grid.frames.within_all(all, told)?;
        let selected = group::selected(&found, grid.duration_ns(), range.clone());
        let Some(asked) = selected else { return Err(too_short(&found, grid.duration, &range)) };
        found.groups.truncate(asked.end);
        let groups = found.groups.split_off(asked.start);
        let interval_ns = group::interval_ns(tracks).unwrap_or(nominal_ns).max(1);
        Ok(Self { labels, all, asked, groups, interval_ns })
    }

    /// The frames of a camera, from the first to the last that is in a picture.
    pub fn frames(&self, camera: usize) -> Option<RangeInclusive<usize>> {
        let frame = |group: &Group| group.members[camera].frame();
        let first = self.groups.iter().find_map(frame)?;
        Some(first..=self.groups.iter().rev().find_map(frame)?)
    }

    /// When a picture is shown after the first, and for how long, in ns.
    pub fn shown(&self, n: usize) -> (u64, u64) {
        let time = |n: usize| self.groups[n].time_ns - self.groups[0].time_ns;
        let until = if n + 1 < self.groups.len() { time(n + 1) } else { time(n) + self.interval_ns };
        (time(n), until - time(n))
    }

    /// What is written over a picture: the Unix time in seconds with its milliseconds, and the index of the group.
    pub fn text(&self, n: usize) -> String {
        let ms = self.groups[n].time_ns / 1_000_000;
        format!("{}.{:03} #{}", ms / 1000, ms % 1000, self.asked.start + n)
    }
}

/// Nothing of what is asked for is within the duration.
fn too_short(found: &group::Groups, duration: Option<Duration>, range: &RangeInclusive<usize>) -> Failure {
    let seconds = duration.unwrap_or_default().as_secs_f64();
    let within = group::selected(found, duration.map(ns), 0..=usize::MAX);
    configuration(match within {
        Some(groups) => {
            let (start, last) = (range.start(), groups.end - 1);
            format!("--start-frame {start}: within --duration-seconds {seconds} there are groups 0 to {last}")
        }
        None => {
            let first = (found.groups[0].time_ns - found.window.first_ns) as f64 / 1e9;
            format!("--duration-seconds {seconds}: the first group is {first} s behind the common start")
        }
    })
}

pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
