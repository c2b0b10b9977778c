// SPDX-License-Identifier: MPL-2.0

//! Which frames of several cameras belong together, by the times at which they were taken.
//!
//! Groups are made of the index alone, before anything is read or decoded, and their indices do not depend on damage: a
//! group keeps its number whether or not its frames turn out to be whole.
//!
//! # How frames find each other
//! The slowest camera is the one with the fewest frames in the [`Window`]; each of its frames there begins a group. For
//! every other camera, its frames (by [`strict`], those in the window) are assigned to the groups in the order of both, each frame to one group at most, so
//! that the sum of the distances is smallest, where a group that gets none counts as far away as a frame may be: one
//! interval of the slowest camera, or the tolerance where that is less. So each group has the nearest frame wherever no
//! other group wants the same one; cameras that run half an interval apart do not lose frames to jitter, and a camera
//! that lost frames misses in those groups and no others.

use std::ops::{Range, RangeInclusive};

/// The frames of one camera.
#[derive(Debug, Clone, Copy, Default)]
pub struct Track<'a> {
    /// When each frame was taken, in ns of a clock that all cameras share; no frame before the one in front of it.
    pub times: &'a [u64],
    /// Frames that cannot be shown, as runs in their order; as far as is known.
    pub damaged: &'a [Range<usize>],
}

/// The time in which all cameras have frames, in ns: from the latest of the first frames to the earliest of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The common start, itself within.
    pub first_ns: u64,
    /// The common end, itself within.
    pub last_ns: u64,
}

/// What a group has of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A frame.
    Present {
        /// Its index in the recording.
        frame: usize,
        /// Frames of this camera in front of it that are in no group: down to the one of the group before, or to the
        /// common start.
        skipped: u64,
    },
    /// A frame that is in a damaged run.
    CorruptedGap {
        /// Its index in the recording.
        frame: usize,
        /// As of a present one.
        skipped: u64,
    },
    /// The camera has no frame near enough.
    Unknown,
}

impl Member {
    /// Index of the frame in its recording, whole or damaged.
    pub fn frame(&self) -> Option<usize> {
        match self {
            Self::Present { frame, .. } | Self::CorruptedGap { frame, .. } => Some(*frame),
            Self::Unknown => None,
        }
    }

    /// Whether the camera is in the group with a whole frame.
    pub fn is_present(&self) -> bool {
        matches!(self, Self::Present { .. })
    }
}

/// Frames that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// When the slowest camera's frame was taken, in ns.
    pub time_ns: u64,
    /// One per track, in the order of the tracks.
    pub members: Vec<Member>,
}

/// All groups of a segment; the index of a group is its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The groups' times lie within; by [`strict`], all members' do.
    pub window: Window,
    /// Which track is the slowest.
    pub slowest: usize,
    /// In the order of their times.
    pub groups: Vec<Group>,
    /// For each track, its damaged runs as far as they lie in the window.
    pub gaps: Vec<Vec<Range<usize>>>,
}

/// Which frames are copied where no groups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyRange {
    /// Those in the common window.
    Common,
    /// All of them.
    Full,
}

/// The time in which all cameras have frames; `None` where there is none, or a camera without frames.
pub fn common_window(tracks: &[Track<'_>]) -> Option<Window> {
    let first_ns =
        tracks.iter().map(|track| track.times.first().copied()).max_by_key(|t| t.unwrap_or(u64::MAX))??;
    let last_ns = tracks.iter().map(|track| track.times.last().copied()).min()??;
    (first_ns <= last_ns).then_some(Window { first_ns, last_ns })
}

/// Median time from frame to frame of the slowest camera within the common window, in ns; `None` without a window or
/// with a single frame in it.
pub fn interval_ns(tracks: &[Track<'_>]) -> Option<u64> {
    let inside = Inside::new(tracks)?;
    median_interval(&tracks[inside.slowest].times[inside.frames[inside.slowest].clone()])
}

/// One group per frame of the slowest camera, with each other camera's nearest frame; no member is further than
/// `tolerance_ns`, or one interval of the slowest camera, from the group's time. `None` where the cameras never overlap.
pub fn nearest(tracks: &[Track<'_>], tolerance_ns: u64) -> Option<Groups> {
    let all = copy(tracks, CopyRange::Full)?;
    Some(groups(tracks, &Inside::new(tracks)?, &all, tolerance_ns, |_| true))
}

/// As [`nearest`], but only groups that have a frame of every camera, and none of them further than `tolerance_ns` from
/// any other. `None` where the cameras never overlap.
///
/// Damaged frames count: whether a group is there, and which index it has, is a matter of times alone.
pub fn strict(tracks: &[Track<'_>], tolerance_ns: u64) -> Option<Groups> {
    let complete = |frames: &[Option<usize>]| {
        let times = frames.iter().zip(tracks).map(|(frame, track)| frame.map(|frame| track.times[frame]));
        let Some(times) = times.collect::<Option<Vec<u64>>>() else { return false };
        let (first, last) = (times.iter().min(), times.iter().max());
        first.zip(last).is_some_and(|(first, last)| last - first <= tolerance_ns)
    };
    let inside = Inside::new(tracks)?;
    Some(groups(tracks, &inside, &inside.frames, tolerance_ns, complete))
}

/// Tolerances that are tried.
const TRIED: usize = 8;

/// A tolerance, in ns, at which [`strict`] finds groups, and hardly ever does at a smaller one. `None` where no group has a
/// frame of every camera.
pub fn least_spread(tracks: &[Track<'_>]) -> Option<u64> {
    let spread = |group: &Group| {
        let frames = group.members.iter().zip(tracks);
        let times = frames.map(|(member, track)| Some(track.times[member.frame()?]));
        let times: Vec<u64> = times.collect::<Option<_>>()?;
        Some(times.iter().max()? - times.iter().min()?)
    };
    let mut spreads: Vec<u64> = strict(tracks, u64::MAX)?.groups.iter().filter_map(spread).collect();
    spreads.sort_unstable();
    spreads.dedup();
    // With less tolerance, a frame may go to another group, which other cameras are not in. The first is nearly always it.
    let largest = spreads.last().copied();
    spreads
        .into_iter()
        .take(TRIED)
        .chain(largest)
        .find(|&spread| strict(tracks, spread).is_some_and(|found| !found.groups.is_empty()))
}

/// The frames of each camera that are copied. `None` where those of the common window are asked for and there is none.
pub fn copy(tracks: &[Track<'_>], range: CopyRange) -> Option<Vec<Range<usize>>> {
    match range {
        CopyRange::Common => Some(Inside::new(tracks)?.frames),
        CopyRange::Full => Some(tracks.iter().map(|track| 0..track.times.len()).collect()),
    }
}

/// The groups that are within a duration from the common start, and among those an inclusive range of indices; `None`
/// where the range begins behind the last of them.
pub fn selected(
    groups: &Groups,
    duration_ns: Option<u64>,
    range: RangeInclusive<usize>,
) -> Option<Range<usize>> {
    let within = |group: &Group| duration_ns.is_none_or(|ns| group.time_ns - groups.window.first_ns < ns);
    let end = groups.groups.partition_point(within).min(range.end().saturating_add(1));
    (*range.start() < end).then(|| *range.start()..end)
}

/// Which frames lie in the common window.
struct Inside {
    window: Window,
    frames: Vec<Range<usize>>,
    slowest: usize,
}

impl Inside {
    fn new(tracks: &[Track<'_>]) -> Option<Self> {
        let window = common_window(tracks)?;
        let inside = |track: &Track<'_>| {
            let first = track.times.partition_point(|&time| time < window.first_ns);
            let end = track.times.partition_point(|&time| time <= window.last_ns);
            first..end
        };
        let frames: Vec<_> = tracks.iter().map(inside).collect();
        let slowest = (0..tracks.len()).min_by_key(|&track| frames[track].len())?;
        Some(Self { window, frames, slowest })
    }
}

fn groups(
    tracks: &[Track<'_>],
    inside: &Inside,
    candidates: &[Range<usize>],
    tolerance_ns: u64,
    wanted: impl Fn(&[Option<usize>]) -> bool,
) -> Groups {
    let slowest = &tracks[inside.slowest].times[inside.frames[inside.slowest].clone()];
    let reach = median_interval(slowest).unwrap_or(u64::MAX).min(tolerance_ns);
    let assigned: Vec<Vec<Option<usize>>> = (0..tracks.len())
        .map(|track| {
            let (first, found) = match track == inside.slowest {
                true => (inside.frames[track].start, (0..slowest.len()).map(Some).collect()),
                false => {
                    let candidates = candidates[track].clone();
                    (candidates.start, assign(slowest, &tracks[track].times[candidates], reach))
                }
            };
            found.into_iter().map(|frame| frame.map(|frame| first + frame)).collect()
        })
        .collect();
    let mut next: Vec<usize> = inside.frames.iter().map(|frames| frames.start).collect();
    let mut made = Vec::new();
    for (n, &time_ns) in slowest.iter().enumerate() {
        let frames: Vec<Option<usize>> = assigned.iter().map(|track| track[n]).collect();
        if !wanted(&frames) {
            continue;
        }
        let member = |(track, frame): (usize, Option<usize>)| {
            let Some(frame) = frame else { return Member::Unknown };
            let skipped = frame.saturating_sub(next[track]) as u64;
            next[track] = next[track].max(frame + 1);
            match is_damaged(tracks[track].damaged, frame) {
                true => Member::CorruptedGap { frame, skipped },
                false => Member::Present { frame, skipped },
            }
        };
        made.push(Group { time_ns, members: frames.into_iter().enumerate().map(member).collect() });
    }
    let gaps =
        tracks.iter().zip(&inside.frames).map(|(track, frames)| runs_in(track.damaged, frames)).collect();
    Groups { window: inside.window, slowest: inside.slowest, groups: made, gaps }
}

/// How the best assignment comes to a state: of so many groups and so many frames.
#[derive(Clone, Copy)]
enum Step {
    /// The last group has the last frame.
    Match,
    /// The last group has none.
    LeaveGroup,
    /// The last frame is in no group.
    LeaveFrame,
}

/// A group, and the frames up to which an assignment may go once it is decided: none in front of `first` is near it.
struct Row {
    first: usize,
    steps: Vec<Step>,
}

/// For each of `groups` a frame of `frames` (times in ns, ascending), in order and each once, no further than `reach`, at
/// the least sum of distances, where a group without one counts as `reach`.
fn assign(groups: &[u64], frames: &[u64], reach: u64) -> Vec<Option<usize>> {
    let mut rows = Vec::<Row>::with_capacity(groups.len());
    // Costs of the row before, for its first frame and on; behind its last they do not change.
    let (mut before_first, mut before) = (0, vec![0u64]);
    for &group in groups {
        let first = frames.partition_point(|&frame| frame < group.saturating_sub(reach));
        let end = first + frames[first..].partition_point(|&frame| frame <= group.saturating_add(reach));
        let cost_before = |used: usize| before[(used - before_first).min(before.len() - 1)];
        let mut costs = Vec::with_capacity(end - first + 1);
        let mut steps = Vec::with_capacity(end - first + 1);
        costs.push(cost_before(first).saturating_add(reach));
        steps.push(Step::LeaveGroup);
        for frame in first..end {
            let matched = cost_before(frame).saturating_add(group.abs_diff(frames[frame]));
            let without = cost_before(frame + 1).saturating_add(reach);
            let earlier = costs[frame - first];
            let (cost, step) = if matched <= without && matched <= earlier {
                (matched, Step::Match)
            } else if earlier <= without {
                (earlier, Step::LeaveFrame)
            } else {
                (without, Step::LeaveGroup)
            };
            costs.push(cost);
            steps.push(step);
        }
        (before_first, before) = (first, costs);
        rows.push(Row { first, steps });
    }
    let mut assigned = vec![None; groups.len()];
    let mut used = frames.len();
    for (group, row) in rows.iter().enumerate().rev() {
        used = used.min(row.first + row.steps.len() - 1);
        while let Step::LeaveFrame = row.steps[used - row.first] {
            used -= 1;
        }
        if let Step::Match = row.steps[used - row.first] {
            used -= 1;
            assigned[group] = Some(used);
        }
    }
    assigned
}

fn median_interval(times: &[u64]) -> Option<u64> {
    let mut intervals: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let middle = intervals.len() / 2;
    (!intervals.is_empty()).then(|| *intervals.select_nth_unstable(middle).1)
}

fn is_damaged(runs: &[Range<usize>], frame: usize) -> bool {
    runs.get(runs.partition_point(|run| run.end <= frame)).is_some_and(|run| run.contains(&frame))
}

fn runs_in(runs: &[Range<usize>], frames: &Range<usize>) -> Vec<Range<usize>> {
    let cut = runs.iter().map(|run| run.start.max(frames.start)..run.end.min(frames.end));
    cut.filter(|run| !run.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracks<'a>(times: &'a [Vec<u64>]) -> Vec<Track<'a>> {
        times.iter().map(|times| Track { times, damaged: &[] }).collect()
    }

    fn frames(groups: &Groups) -> Vec<Vec<Option<usize>>> {
        groups.groups.iter().map(|group| group.members.iter().map(Member::frame).collect()).collect()
    }

    #[test]
    fn cameras_that_lost_frames_miss_in_those_groups_and_no_others() {
        let times = [vec![0, 10, 20, 30, 40, 50, 60], vec![2, 12, 42, 52]];
        let nearest = nearest(&tracks(&times), u64::MAX).unwrap();
        assert_eq!(nearest.window, Window { first_ns: 2, last_ns: 52 });
        assert_eq!((nearest.slowest, nearest.groups.len()), (1, 4));
        // The frame of 0 is outside the window, which strict keeps.
        let last = [[Some(1), Some(1)], [Some(4), Some(2)], [Some(5), Some(3)]];
        assert_eq!(
            (&frames(&nearest)[0], &frames(&nearest)[1..]),
            (&vec![Some(0); 2], &last.map(Vec::from)[..])
        );
        assert_eq!(nearest.groups[2].members[0], Member::Present { frame: 4, skipped: 2 });
        assert_eq!(frames(&strict(&tracks(&times), 5).unwrap()), last);
        assert_eq!(least_spread(&tracks(&times)), Some(2));
        assert!(strict(&tracks(&times), 1).unwrap().groups.is_empty());
        assert_eq!(least_spread(&tracks(&[vec![0, 100], vec![40, 60]])), None);
    }

    #[test]
    fn a_hole_in_a_faster_camera_is_unknown_and_its_edges_keep_their_frames() {
        let slow: Vec<u64> = (0..10).map(|n| 100 * n).collect();
        let fast: Vec<u64> = (0..91).map(|n| 10 * n).filter(|time| !(250..=650).contains(time)).collect();
        let groups = nearest(&tracks(&[slow, fast.clone()]), u64::MAX).unwrap();
        let time = |group: &Group| group.members[1].frame().map(|frame| fast[frame]);
        let (members, near): (Vec<_>, _) = (groups.groups.iter().map(time).collect(), Some);
        // The ones of 300 and 600 are within one interval of the hole's edges.
        assert_eq!(members[..3], [near(0), near(100), near(200)]);
        assert_eq!((members[4], members[5]), (None, None));
        assert_eq!(members[7..], [near(700), near(800), near(900)]);
    }

    #[test]
    fn half_an_interval_apart_jitter_loses_nothing() {
        let jitter = [0, 3, 1, 4, 0, 2, 4, 1, 3, 0];
        let one: Vec<u64> = (0..10).map(|n| 100 + 20 * n).collect();
        let other: Vec<u64> = (0..10).map(|n| 100 + 20 * n + 8 + jitter[n as usize]).collect();
        let groups = nearest(&tracks(&[one, other]), u64::MAX).unwrap();
        assert_eq!(groups.groups.len(), 9);
        assert!(frames(&groups).iter().all(|members| members.iter().all(Option::is_some)), "{groups:?}");
    }

    #[test]
    fn damage_is_named_and_moves_no_index() {
        let times: Vec<u64> = (0..6).map(|n| 10 * n).collect();
        let damaged = [1..3, 5..9];
        let tracks = [Track { times: &times, damaged: &[] }, Track { times: &times, damaged: &damaged }];
        let groups = strict(&tracks, 0).unwrap();
        assert_eq!(groups.gaps, [vec![], vec![1..3, 5..6]]);
        let damaged: Vec<_> = groups.groups.iter().map(|group| group.members[1].is_present()).collect();
        assert_eq!(damaged, [true, false, false, true, true, false]);
        assert_eq!(groups.groups[2].members[1], Member::CorruptedGap { frame: 2, skipped: 0 });
    }

    #[test]
    fn cameras_that_never_overlap_have_no_groups() {
        let times = [vec![0, 10], vec![11, 20]];
        assert_eq!(common_window(&tracks(&times)), None);
        assert!(nearest(&tracks(&times), u64::MAX).is_none() && strict(&tracks(&times), u64::MAX).is_none());
        assert_eq!(copy(&tracks(&times), CopyRange::Common), None);
        assert_eq!(copy(&tracks(&times), CopyRange::Full), Some(vec![0..2, 0..2]));
        assert_eq!(common_window(&tracks(&[vec![0, 10], vec![]])), None);
        assert_eq!(common_window(&[]), None);
        // One moment is enough.
        let times = [vec![0, 10], vec![10, 20]];
        assert_eq!(frames(&nearest(&tracks(&times), 0).unwrap()), [[Some(1), Some(0)]]);
        assert_eq!(interval_ns(&tracks(&times)), None);
    }

    #[test]
    fn selections_count_groups_from_the_common_start() {
        let times = [vec![0, 10, 20, 30, 40], vec![10, 20, 30, 40, 50]];
        let groups = nearest(&tracks(&times), u64::MAX).unwrap();
        assert_eq!(groups.groups.len(), 4);
        assert_eq!(selected(&groups, None, 0..=usize::MAX), Some(0..4));
        assert_eq!(selected(&groups, None, 1..=2), Some(1..3));
        assert_eq!(selected(&groups, Some(20), 0..=usize::MAX), Some(0..2));
        assert_eq!(selected(&groups, Some(21), 2..=9), Some(2..3));
        assert_eq!(selected(&groups, None, 4..=4), None);
    }
}
