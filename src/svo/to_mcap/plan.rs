// SPDX-License-Identifier: MPL-2.0

//! Which frames of which camera go into the file, and the groups that they form: a matter of the indexes alone.

use std::ops::RangeInclusive;
use std::sync::Arc;

use svo2::group::{self, Group, Groups, Track};

use super::options::{Conversion, Policy};
use crate::exit::{Failure, configuration};
use crate::svo::segment::{Opened, Segment, no_frame_in_common};

/// All of it.
#[derive(Debug)]
pub struct Plan {
    /// `None`: each camera for itself.
    pub bundles: Option<Bundles>,
    /// In the order of the segment's cameras.
    pub cameras: Vec<Share>,
}

/// Groups that are written.
#[derive(Debug)]
pub struct Bundles {
    /// Not copy.
    pub policy: Policy,
    /// Of the first of them.
    pub first_index: usize,
    /// One or more.
    pub groups: Vec<Group>,
    /// All that there are.
    pub count: usize,
}

/// What one camera has in the file.
#[derive(Debug, Clone)]
pub struct Share {
    /// First and last frame; `None` where there is none.
    pub frames: Option<RangeInclusive<usize>>,
    /// Those of them that are in groups; `None`: all.
    pub members: Option<Arc<[usize]>>,
    /// The times of the samples of its IMU: behind the first, up to and including the second; in ns since 1970.
    pub samples: (u64, u64),
}

impl Share {
    fn all(frames: RangeInclusive<usize>, track: &Track) -> Self {
        let samples = times(track, &frames);
        Self { frames: Some(frames), members: None, samples }
    }

    fn of_groups(groups: &[Group], camera: usize, track: &Track) -> Self {
        let members: Arc<[usize]> = groups.iter().filter_map(|group| group.members[camera].frame()).collect();
        let frames = members.first().zip(members.last()).map(|(&first, &last)| first..=last);
        let samples = frames.as_ref().map_or((0, 0), |frames| times(track, frames));
        Self { frames, members: Some(members), samples }
    }

    /// How many frames are asked for.
    pub fn count(&self) -> u64 {
        match (&self.members, &self.frames) {
            (Some(members), _) => members.len() as u64,
            (None, frames) => frames.clone().map_or(0, |frames| frames.count() as u64),
        }
    }
}

/// Since the frame before the first; all there are before the recording's first frame, and behind its last.
fn times(track: &Track, frames: &RangeInclusive<usize>) -> (u64, u64) {
    let after = frames.start().checked_sub(1).map_or(0, |before| track.times[before]);
    let last = *frames.end();
    (after, if last + 1 < track.times.len() { track.times[last] } else { u64::MAX })
}

impl Plan {
    /// Makes the plan.
    ///
    /// # Errors
    /// A [`Failure`] that names the flag and the rule, or says when the cameras have frames.
    pub fn new(segment: &Segment, opened: &Opened, conversion: &Conversion) -> Result<Self, Failure> {
        let tracks = opened.tracks();
        if let [track] = tracks.as_slice() {
            if let Some(policy @ (Policy::Nearest | Policy::Strict)) = conversion.policy {
                segment.needs_two(&format!("--policy {}", policy.name()))?;
            }
            let frames = conversion.frames.within(track.times.len())?;
            return Ok(Self { bundles: None, cameras: vec![Share::all(frames, track)] });
        }
        match conversion.policy.unwrap_or(Policy::Nearest) {
            Policy::Copy => Self::copies(segment, opened, conversion),
            policy => Self::bundled(segment, opened, conversion, policy),
        }
    }

    fn copies(segment: &Segment, opened: &Opened, conversion: &Conversion) -> Result<Self, Failure> {
        let given = [
            conversion.frames.start.map(|start| format!("--start-frame {start}")),
            conversion.frames.end.map(|end| format!("--end-frame {end}")),
        ];
        if let Some(flag) = given.into_iter().flatten().next() {
            return Err(Failure::usage(format!(
                "{flag}: it counts groups of frames, and --policy copy of several cameras makes none; leave one out"
            )));
        }
        let tracks = opened.tracks();
        let Some(frames) = group::copy(&tracks, conversion.range) else {
            return Err(opened
                .window(segment)
                .err()
                .unwrap_or_else(|| configuration("no frames are common")));
        };
        let share = |(frames, track): (std::ops::Range<usize>, &Track)| match frames.is_empty() {
            true => Share { frames: None, members: None, samples: (0, 0) },
            false => Share::all(frames.start..=frames.end - 1, track),
        };
        Ok(Self { bundles: None, cameras: frames.into_iter().zip(&tracks).map(share).collect() })
    }

    fn bundled(
        segment: &Segment,
        opened: &Opened,
        conversion: &Conversion,
        policy: Policy,
    ) -> Result<Self, Failure> {
        let tracks = opened.tracks();
        opened.window(segment)?;
        let given = conversion.tolerance_ns;
        // Frames of cameras that are not triggered together are up to half an interval apart.
        let half = || group::interval_ns(&tracks).map_or(u64::MAX, |interval| interval / 2);
        let (made, tolerance) = match policy {
            Policy::Strict => {
                let tolerance = given.unwrap_or_else(half);
                (group::strict(&tracks, tolerance), Some(tolerance))
            }
            _ => (group::nearest(&tracks, given.unwrap_or(u64::MAX)), None),
        };
        let Groups { mut groups, slowest, .. } = made.expect("they have a common window");
        let count = groups.len();
        if count == 0 {
            return Err(match tolerance {
                Some(tolerance) => no_strict_group(segment, &tracks, tolerance, given.is_some()),
                None => no_frame_in_common(&segment.name, &segment.cameras[slowest].label),
            });
        }
        let told = |count, last| format!("there are {count} groups of frames, 0 to {last}");
        let range = conversion.frames.within_all(count, told)?;
        groups.truncate(range.end() + 1);
        groups.drain(..range.start());
        let share = |(camera, track)| Share::of_groups(&groups, camera, track);
        let cameras = tracks.iter().enumerate().map(share).collect();
        Ok(Self { cameras, bundles: Some(Bundles { policy, first_index: *range.start(), groups, count }) })
    }
}

/// No group has a frame of every camera within the tolerance: what it was, and which one has.
fn no_strict_group(segment: &Segment, tracks: &[Track], tolerance_ns: u64, is_given: bool) -> Failure {
    let ms = |ns: u64| ns as f64 / 1e6;
    // A tolerance that is given has to be no less, whatever is cut off behind the comma.
    let at_least = |ns: u64| ns.div_ceil(1000) as f64 / 1e3;
    let default = if is_given { "" } else { ", half an interval of the slowest camera" };
    let way_out = match group::least_spread(tracks) {
        Some(apart) => format!("--sync-tolerance-ms {} has some, or --policy nearest", at_least(apart)),
        None => "whatever the tolerance: --policy nearest has groups in which cameras are missing".to_owned(),
    };
    configuration(format!(
        "segment '{}': there is no group with frames of all cameras within --sync-tolerance-ms {}{default}; {way_out}",
        segment.name,
        ms(tolerance_ns)
    ))
}
