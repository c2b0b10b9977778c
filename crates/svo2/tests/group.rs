// SPDX-License-Identifier: MPL-2.0

//! Groups of frames, whatever the cameras' times: the promises of `svo2::group`, and a slow search that agrees.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use svo2::group::{self, CopyRange, Groups, Member, Track};

/// Times of a camera: an offset, a rate that drifts, jitter, and frames that were lost.
fn camera() -> impl Strategy<Value = Vec<u64>> {
    (0u64..300, 5u64..60, vec((0u64..30, prop::bool::weighted(0.8)), 1..60)).prop_map(
        |(offset, interval, frames)| {
            let mut times: Vec<u64> = (0..)
                .zip(&frames)
                .filter(|(n, (_, there))| *there || *n == 0)
                .map(|(n, (jitter, _))| offset + n * interval + jitter)
                .collect();
            times.sort_unstable();
            times
        },
    )
}

fn runs() -> impl Strategy<Value = Vec<Range<usize>>> {
    vec((1usize..10, 1usize..6), 0..4).prop_map(|steps| {
        let mut at = 0;
        let run = |(gap, len)| {
            let start = at + gap;
            at = start + len;
            start..at
        };
        steps.into_iter().map(run).collect()
    })
}

fn cameras() -> impl Strategy<Value = Vec<(Vec<u64>, Vec<Range<usize>>)>> {
    vec((camera(), runs()), 1..5)
}

fn tracks(cameras: &[(Vec<u64>, Vec<Range<usize>>)]) -> Vec<Track<'_>> {
    cameras.iter().map(|(times, damaged)| Track { times, damaged }).collect()
}

/// What holds for groups of every policy.
fn check(tracks: &[Track<'_>], groups: &Groups, tolerance: u64, members_within: bool) {
    let window = group::common_window(tracks).unwrap();
    assert_eq!(window, groups.window);
    let reach = group::interval_ns(tracks).unwrap_or(u64::MAX).min(tolerance);
    assert!(groups.groups.is_sorted_by_key(|group| group.time_ns));
    for (number, track) in tracks.iter().enumerate() {
        let mut last: Option<usize> = None;
        let inside = track.times.partition_point(|&time| time < window.first_ns);
        for group in &groups.groups {
            let member = &group.members[number];
            let Some(frame) = member.frame() else { continue };
            let time = track.times[frame];
            let within = |time| (window.first_ns..=window.last_ns).contains(time);
            assert!(within(&group.time_ns) && (within(&time) || !members_within), "window kept");
            assert!(time.abs_diff(group.time_ns) <= reach, "tolerance kept");
            assert!(last.is_none_or(|last| last < frame), "every frame at most once, in order");
            let after = last.map_or(inside, |last| inside.max(last + 1));
            let damaged = track.damaged.iter().any(|run| run.contains(&frame));
            let skipped = frame.saturating_sub(after) as u64;
            assert_eq!(
                *member,
                match damaged {
                    true => Member::CorruptedGap { frame, skipped },
                    false => Member::Present { frame, skipped },
                }
            );
            last = Some(frame);
        }
        let end = track.times.partition_point(|&time| time <= window.last_ns);
        let named: Vec<usize> = groups.gaps[number].iter().cloned().flatten().collect();
        let damaged: Vec<usize> =
            (inside..end).filter(|frame| track.damaged.iter().any(|run| run.contains(frame))).collect();
        assert_eq!(named, damaged, "damaged runs named");
    }
}

/// The least sum of distances, by trying everything.
fn best(groups: &[u64], frames: &[u64], reach: u64) -> u64 {
    let Some((&group, groups)) = groups.split_first() else { return 0 };
    let without = reach + best(groups, frames, reach);
    let with = (0..frames.len()).filter(|&at| frames[at].abs_diff(group) <= reach);
    with.map(|at| frames[at].abs_diff(group) + best(groups, &frames[at + 1..], reach)).fold(without, u64::min)
}

proptest! {
    #[test]
    fn nearest_keeps_its_promises(cameras in cameras(), tolerance in prop_oneof![0u64..50, Just(u64::MAX)]) {
        let tracks = tracks(&cameras);
        let groups = group::nearest(&tracks, tolerance);
        prop_assert_eq!(groups.is_some(), group::common_window(&tracks).is_some());
        let Some(groups) = groups else { return Ok(()) };
        check(&tracks, &groups, tolerance, false);
        // One group per frame of the slowest camera in the window.
        let inside = group::copy(&tracks, CopyRange::Common).unwrap();
        prop_assert_eq!(inside.iter().map(Range::len).min().unwrap(), groups.groups.len());
        let slowest: Vec<_> =
            groups.groups.iter().map(|group| group.members[groups.slowest].frame().unwrap()).collect();
        prop_assert_eq!(slowest, inside[groups.slowest].clone().collect::<Vec<_>>());
    }

    #[test]
    fn a_frame_that_is_nearest_to_one_group_only_is_in_it(cameras in cameras()) {
        let tracks = tracks(&cameras);
        let Some(groups) = group::nearest(&tracks, u64::MAX) else { return Ok(()) };
        let reach = group::interval_ns(&tracks).unwrap_or(u64::MAX);
        for (number, track) in tracks.iter().enumerate() {
            let distance = |group: &group::Group| {
                track.times.iter().map(|time| time.abs_diff(group.time_ns)).min().unwrap_or(u64::MAX)
            };
            let nearest = |group: &group::Group| {
                let is_nearest = |frame: &usize| track.times[*frame].abs_diff(group.time_ns) == distance(group);
                (0..track.times.len()).filter(is_nearest).collect::<Vec<_>>()
            };
            let all: Vec<usize> = groups.groups.iter().flat_map(&nearest).collect();
            let contested = all.len() != all.iter().collect::<std::collections::HashSet<_>>().len();
            if contested || number == groups.slowest {
                continue;
            }
            for group in &groups.groups {
                match group.members[number].frame() {
                    Some(frame) => prop_assert!(nearest(group).contains(&frame)),
                    None => prop_assert!(distance(group) > reach),
                }
            }
        }
    }

    #[test]
    fn strict_groups_are_complete_and_within_the_tolerance(cameras in cameras(), tolerance in 0u64..80) {
        let tracks = tracks(&cameras);
        let Some(groups) = group::strict(&tracks, tolerance) else { return Ok(()) };
        check(&tracks, &groups, tolerance, true);
        for group in &groups.groups {
            let frames: Option<Vec<_>> = group.members.iter().map(Member::frame).collect();
            let frames = frames.expect("complete");
            let times: Vec<u64> = tracks.iter().zip(frames).map(|(track, frame)| track.times[frame]).collect();
            prop_assert!(times.iter().max().unwrap() - times.iter().min().unwrap() <= tolerance);
        }
        let some = |tolerance| !group::strict(&tracks, tolerance).unwrap().groups.is_empty();
        prop_assert!(group::least_spread(&tracks).map_or(!some(u64::MAX), some));
    }

    #[test]
    fn no_assignment_is_better(
        mut slow in vec(0u64..60, 2..6),
        mut fast in vec(0u64..60, 0..5),
        tolerance in 0u64..40,
    ) {
        // Both at the ends, so that all of either is in the window.
        fast.extend([0, 60]);
        fast.extend(slow.iter().map(|_| 60));
        slow.extend([0, 60]);
        slow.sort_unstable();
        fast.sort_unstable();
        let tracks = [Track { times: &slow, damaged: &[] }, Track { times: &fast, damaged: &[] }];
        let groups = group::nearest(&tracks, tolerance).unwrap();
        let reach = group::interval_ns(&tracks).unwrap().min(tolerance);
        let (mine, other) = (groups.slowest, 1 - groups.slowest);
        let cost = |group: &group::Group| {
            group.members[other].frame().map_or(reach, |frame| tracks[other].times[frame].abs_diff(group.time_ns))
        };
        let cost: u64 = groups.groups.iter().map(cost).sum();
        prop_assert_eq!(cost, best(tracks[mine].times, tracks[other].times, reach));
    }

    #[test]
    fn copies_are_the_window_or_all(cameras in cameras()) {
        let tracks = tracks(&cameras);
        let full = group::copy(&tracks, CopyRange::Full).unwrap();
        prop_assert!(full.iter().zip(&tracks).all(|(frames, track)| *frames == (0..track.times.len())));
        match (group::copy(&tracks, CopyRange::Common), group::common_window(&tracks)) {
            (Some(ranges), Some(window)) => {
                for (frames, track) in ranges.iter().zip(&tracks) {
                    for (frame, time) in track.times.iter().enumerate() {
                        prop_assert_eq!(frames.contains(&frame), (window.first_ns..=window.last_ns).contains(time));
                    }
                }
            }
            (None, None) => (),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
