// SPDX-License-Identifier: MPL-2.0

//! Times, the index of key frames, and the order of tracks.

use flv::index::KeyFrame;
use flv::interleave::{Head, Next, next};
use flv::timeline::Backwards;
use flv::video::MAX_COMPOSITION_MS;
use flv::{KeyFrameIndex, Stamp, Timeline};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

const MS: i64 = 1_000_000;
const DAY: i64 = 86_400_000 * MS;
const KEEP: Backwards = Backwards { skip: false, enforce: false };
const SKIP: Backwards = Backwards { skip: true, enforce: false };
const ENFORCE: Backwards = Backwards { skip: false, enforce: true };

fn any_policy() -> impl Strategy<Value = Backwards> {
    any::<(bool, bool)>().prop_map(|(skip, enforce)| Backwards { skip, enforce })
}

/// Decoding and presentation times of up to 60 days, also early, late and out of order.
fn any_times() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let dts = prop_oneof![-100 * MS..2000 * MS, -DAY..60 * DAY];
    let offset = prop_oneof![4 => 0..300 * MS, 1 => -300 * MS..0, 1 => -DAY..DAY];
    vec((dts, offset).prop_map(|(dts, offset)| (dts, dts + offset)), 1..40)
}

/// Rounded up, so that rounding a shifted time down gives the time that it was.
fn whole_ms(ns: i64) -> i64 {
    (ns + MS - 1).div_euclid(MS) * MS
}

proptest! {
    #[test]
    fn times_are_in_range_and_corrected_tells_every_change(
        first in -DAY..DAY, policy in any_policy(), times in any_times(),
    ) {
        let mut timeline = Timeline::new(first, policy);
        let shift = timeline.shift_ns() as i64;
        prop_assert_eq!(shift, whole_ms(-first).max(0));
        for (dts, pts) in times {
            let Some(stamp) = timeline.stamp(dts, pts) else { continue };
            prop_assert!((0..=MAX_COMPOSITION_MS).contains(&stamp.composition_ms));
            prop_assert!(stamp.dts_ns <= stamp.pts_ns);
            let dts_ms = stamp.dts_ns / MS as u64;
            prop_assert_eq!(stamp.timestamp_ms, (dts_ms % (1 << 32)) as u32);
            // What a player makes of the tag is the presentation time to the millisecond, and the decoding time.
            let shown = dts_ms as i64 + i64::from(stamp.composition_ms);
            let kept = stamp.dts_ns as i64 == dts + shift && shown == (pts + shift).div_euclid(MS);
            prop_assert_eq!(stamp.corrected, !kept, "{:?}", stamp);
        }
    }

    #[test]
    fn enforced_times_never_go_backwards_and_nothing_is_dropped(times in any_times()) {
        let mut timeline = Timeline::new(times[0].0, ENFORCE);
        let mut last = 0;
        for (dts, pts) in times {
            let stamp = timeline.stamp(dts, pts).expect("nothing is dropped");
            let wanted = dts + timeline.shift_ns() as i64;
            prop_assert_eq!(stamp.dts_ns as i64, wanted.max(last));
            last = stamp.dts_ns as i64;
        }
    }

    #[test]
    fn frames_that_go_backwards_are_skipped_and_only_they(times in any_times(), enforce in any::<bool>()) {
        let mut timeline = Timeline::new(times[0].0, Backwards { skip: true, enforce });
        let mut last = 0;
        for (dts, pts) in times {
            let wanted = dts + timeline.shift_ns() as i64;
            match timeline.stamp(dts, pts) {
                None => prop_assert!(wanted < last),
                Some(stamp) => {
                    prop_assert!(wanted >= last);
                    prop_assert_eq!(stamp.dts_ns as i64, wanted);
                    last = wanted;
                }
            }
        }
    }

    #[test]
    fn without_a_policy_times_may_go_backwards_but_not_below_zero(times in any_times()) {
        let mut timeline = Timeline::new(0, KEEP);
        for (dts, pts) in times {
            prop_assert_eq!(timeline.stamp(dts, pts).unwrap().dts_ns as i64, dts.max(0));
        }
    }

    #[test]
    fn no_times_overflow(first in any::<i64>(), policy in any_policy(), times in vec(any::<(i64, i64)>(), 1..9)) {
        let edge = [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MAX, i64::MAX), (i64::MIN, i64::MIN)];
        for first in [first, i64::MIN, i64::MAX] {
            let mut timeline = Timeline::new(first, policy);
            for (dts, pts) in times.iter().chain(&edge) {
                if let Some(stamp) = timeline.stamp(*dts, *pts) {
                    prop_assert!((0..=MAX_COMPOSITION_MS).contains(&stamp.composition_ms));
                    prop_assert!(stamp.pts_ns >= stamp.dts_ns && stamp.pts_ns <= i64::MAX as u64);
                }
            }
        }
    }

    #[test]
    fn b_frames_with_a_negative_first_time_shift_both_tracks(
        audio_start in -50 * MS..50 * MS, frame_ns in 8 * MS..50 * MS,
    ) {
        // I P B B P B B ...: decoding begins two frames before the first picture is shown.
        let video = (0..30).map(|i| {
            let shown = match i % 3 { _ if i == 0 => 0, 1 => i + 2, _ => i - 1 };
            ((i - 2) * frame_ns, shown * frame_ns)
        });
        let audio = (0..30).map(|i| audio_start + i * 23 * MS).map(|time| (time, time));
        let mut frames: Vec<_> = video.chain(audio).collect();
        frames.sort();
        let mut timeline = Timeline::new(frames[0].0, SKIP);
        prop_assert_eq!(timeline.shift_ns() as i64, whole_ms((2 * frame_ns).max(-audio_start)));
        for (dts, pts) in frames {
            let stamp = timeline.stamp(dts, pts).expect("nothing goes backwards");
            prop_assert!(!stamp.corrected);
            prop_assert_eq!(stamp.pts_ns as i64 - timeline.shift_ns() as i64, pts, "lip-sync is kept");
        }
    }

    #[test]
    fn index_is_thinned_evenly_within_its_capacity(capacity in 0usize..40, count in 0usize..2000) {
        let mut index = KeyFrameIndex::new(capacity);
        for i in 0..count {
            index.push(KeyFrame { time: i as f64, position: i as u64 });
        }
        let kept: Vec<_> = index.entries().iter().map(|entry| entry.position as usize).collect();
        let capacity = capacity.max(2);
        prop_assert!(kept.len() <= capacity);
        // Every one, or every second, fourth ... from the first to the end: as many as fit.
        let stride = (0..).map(|power| 1 << power).find(|stride| count.div_ceil(*stride) <= capacity).unwrap();
        prop_assert_eq!(kept, (0..count).step_by(stride).collect::<Vec<_>>());
        prop_assert!(index.entries().iter().all(|entry| entry.time == entry.position as f64));
    }

    #[test]
    fn tracks_that_arrive_in_any_order_are_merged_by_time(
        tracks in [sorted(), sorted()],
        arrival in vec(0usize..2, 0..80),
        positions in any::<bool>(),
    ) {
        let mut expected: Vec<_> =
            tracks.iter().enumerate().flat_map(|(i, track)| track.iter().map(move |dts| (*dts, i))).collect();
        expected.sort();
        // With positions, a frame may go before one of the same time that has yet to come.
        let times = |merged: &[(i64, usize)]| merged.iter().map(|(dts, _)| *dts).collect::<Vec<_>>();
        let merged = merge(&tracks, &arrival, positions)?;
        if positions {
            prop_assert_eq!(times(&merged), times(&expected));
        } else {
            prop_assert_eq!(merged, expected);
        }
    }
}

fn sorted() -> impl Strategy<Value = Vec<i64>> {
    // Few different times, so that many are the same.
    vec(-20i64..60, 0..30).prop_map(|mut times| {
        times.sort();
        times
    })
}

/// Feeds the tracks in the order of `arrival` (and what is left at the end) and takes frames whenever told to.
fn merge(
    tracks: &[Vec<i64>; 2],
    arrival: &[usize],
    positions: bool,
) -> Result<Vec<(i64, usize)>, TestCaseError> {
    let mut coming = tracks.each_ref().map(|track| track.iter().copied().collect::<VecDeque<_>>());
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut heads = [Head::default(); 2];
    let mut taken = Vec::new();
    let rest = [0, 1].map(|i| std::iter::repeat_n(i, tracks[i].len() + 1)).into_iter().flatten();
    for track in arrival.iter().copied().chain(rest) {
        match coming[track].pop_front() {
            Some(dts) => {
                queues[track].push_back(dts);
                heads[track].position = Some(dts).filter(|_| positions);
            }
            None => heads[track].ended = true,
        }
        loop {
            for i in 0..2 {
                heads[i].dts = queues[i].front().copied();
            }
            match next(&heads) {
                Next::Take(i) => {
                    let dts = queues[i].pop_front().expect("only what is there is taken");
                    let earlier = coming[1 - i].front().is_some_and(|coming| *coming < dts);
                    prop_assert!(!earlier, "{} is taken while an earlier one comes", dts);
                    taken.push((dts, i));
                }
                Next::Wait { dts, .. } => {
                    prop_assert_eq!(
                        Some(dts),
                        queues.iter().filter_map(|queue| queue.front()).min().copied()
                    );
                    break;
                }
                Next::Nothing => {
                    prop_assert!(heads.iter().all(|head| head.dts.is_none()));
                    prop_assert!(heads.iter().any(|head| !head.ended));
                    break;
                }
                Next::End => {
                    prop_assert!(heads.iter().all(|head| head.ended && head.dts.is_none()));
                    break;
                }
            }
        }
    }
    prop_assert_eq!(next(&heads), Next::End);
    Ok(taken)
}

fn stamp(dts_ns: u64, pts_ns: u64, timestamp_ms: u32, composition_ms: i32) -> Option<Stamp> {
    Some(Stamp { dts_ns, pts_ns, timestamp_ms, composition_ms, corrected: false })
}

#[test]
fn timestamps_wrap_after_49_days_and_go_on() {
    const WRAP: i64 = (1 << 32) * MS;
    let mut timeline = Timeline::new(0, SKIP);
    for (dts, timestamp_ms) in
        [(WRAP - 1, u32::MAX), (WRAP, 0), (WRAP + 33 * MS, 33), (60 * DAY, 889_032_704), (2 * WRAP + MS, 1)]
    {
        let at = dts as u64;
        assert_eq!(timeline.stamp(dts, dts + 40 * MS), stamp(at, at + 40_000_000, timestamp_ms, 40));
    }
}

#[test]
fn presentation_time_is_exact_to_the_millisecond_at_30_fps() {
    // 33.33 + 66.67: rounding the difference on its own would show this frame 1 ms early.
    let mut timeline = Timeline::new(0, KEEP);
    assert_eq!(timeline.stamp(33_333_333, 99_999_999), stamp(33_333_333, 99_999_999, 33, 66));
    assert_eq!(timeline.stamp(33_333_333, 100_000_000), stamp(33_333_333, 100_000_000, 33, 67));
    assert_eq!(timeline.stamp(33_999_999, 34_000_000), stamp(33_999_999, 34_000_000, 33, 1));
}

#[test]
fn times_beyond_what_64_bits_hold_stay_at_the_end() {
    assert_eq!(Timeline::new(i64::MIN, KEEP).shift_ns(), i64::MAX as u64);
    for (dts, shifted) in [(0, MS as u64), (i64::MAX, i64::MAX as u64)] {
        let stamp = Timeline::new(-MS, KEEP).stamp(dts, i64::MAX).unwrap();
        assert_eq!((stamp.dts_ns, stamp.pts_ns), (shifted, i64::MAX as u64));
    }
}

#[test]
fn first_time_above_zero_shifts_nothing() {
    let mut timeline = Timeline::new(5000 * MS, ENFORCE);
    assert_eq!(timeline.shift_ns(), 0);
    assert_eq!(timeline.stamp(5000 * MS, 5000 * MS), stamp(5_000_000_000, 5_000_000_000, 5000, 0));
}

#[test]
fn composition_time_is_never_negative() {
    // SRS reads it unsigned: -1 would be 4.6 hours.
    let mut timeline = Timeline::new(0, KEEP);
    let early = timeline.stamp(100 * MS, 99 * MS).unwrap();
    assert_eq!((early.composition_ms, early.corrected, early.pts_ns), (0, true, early.dts_ns));
    // Rounded down, so this is 1 ms before 0 and not 0.
    let early = Timeline::new(0, KEEP).stamp(0, -1).unwrap();
    assert_eq!((early.composition_ms, early.corrected, early.pts_ns), (0, true, 0));
    let late = timeline.stamp(0, (1 << 23) * MS).unwrap();
    assert_eq!((late.composition_ms, late.corrected), (MAX_COMPOSITION_MS, true));
}

fn head(dts: Option<i64>, position: Option<i64>) -> Head {
    Head { dts, position, ended: false }
}

#[test]
fn next_frame_of_each_situation() {
    let ended = Head { ended: true, ..Head::default() };
    for (tracks, expected) in [
        (&[][..], Next::End),
        (&[ended, ended], Next::End),
        (&[ended, head(None, None)], Next::Nothing),
        (&[head(None, Some(9)), ended], Next::Nothing),
        // The other track may bring an earlier one, until it ends or is known to be further on.
        (&[head(Some(5), None), head(None, None)], Next::Wait { track: 0, dts: 5 }),
        (&[head(Some(5), None), head(None, Some(4))], Next::Wait { track: 0, dts: 5 }),
        (&[head(Some(5), None), head(None, Some(5))], Next::Take(0)),
        (&[head(Some(5), None), ended], Next::Take(0)),
        (&[head(Some(5), None), head(Some(4), None)], Next::Take(1)),
        (&[head(Some(5), None), head(Some(5), None)], Next::Take(0)),
        // A track that has ended still has its frames.
        (&[Head { dts: Some(5), ..ended }, ended], Next::Take(0)),
        (
            &[Head { dts: Some(5), ..ended }, head(Some(3), None), head(None, Some(2))],
            Next::Wait { track: 1, dts: 3 },
        ),
    ] {
        assert_eq!(next(tracks), expected, "{tracks:?}");
    }
}
