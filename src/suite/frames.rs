// SPDX-License-Identifier: MPL-2.0

//! What was published and what was shown of it: the frames logs of the simulator and of the receivers, joined.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Pictures in a row that must be at or below the bound for latency to count as back to normal.
pub const IN_A_ROW: usize = 5;

/// A line of the simulator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// Frame of the run.
    pub n: u64,
    /// Frame count, which resets set to 0.
    pub count: u32,
    /// When it was announced.
    pub unix_ns: u64,
}

/// A line of a receiver's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Picture {
    /// What the picture shows; `None` where its two markers are not read or differ, as in a torn one.
    pub count: Option<u32>,
    /// When its first bytes came.
    pub unix_ns: u64,
    /// RTP timestamp, or FLV milliseconds.
    pub timestamp: u32,
    /// Of a key frame.
    pub key: bool,
    /// RTMP publishers are numbered from 1.
    pub session: u64,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// A picture that was shown, and its publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Frame of the run.
    pub n: u64,
    /// When it was announced.
    pub published_ns: u64,
    /// What was shown.
    pub picture: Picture,
}

impl Shown {
    /// From the announcement to the first bytes at the receiver.
    pub fn latency_ns(&self) -> u64 {
        self.picture.unix_ns.saturating_sub(self.published_ns)
    }
}

/// Reads a log; a line that is still being written is left out.
pub fn read<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The logs of a producer that ran several times, one after the other, as one run.
pub fn chain(runs: impl IntoIterator<Item = Vec<Published>>) -> Vec<Published> {
    let mut all: Vec<Published> = Vec::new();
    for run in runs {
        let offset = all.last().map_or(0, |last| last.n + 1);
        all.extend(run.into_iter().map(|frame| Published { n: frame.n + offset, ..frame }));
    }
    all
}

/// What a receiver's timestamps count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticks {
    /// RTP: 90 a millisecond.
    Rtp,
    /// FLV: milliseconds.
    Flv,
}

impl Ticks {
    fn ns(self, ticks: i32) -> i64 {
        match self {
            Self::Rtp => i64::from(ticks) * 100_000 / 9,
            Self::Flv => i64::from(ticks) * 1_000_000,
        }
    }
}

/// Finds each picture's publication among those of its count that were not later than its arrival. A picture never
/// belongs to a frame before that of the picture before it.
///
/// Counts come again after resets. Where several frames fit, the stream's own time tells: the one whose publication is
/// as far from the picture's timestamp as usual in this session, that is, the median of those that were no question. A
/// picture that is late itself keeps its timestamp. Without any of these, the last frame that fits.
pub fn join(published: &[Published], pictures: &[Picture], ticks: Ticks) -> Vec<Shown> {
    let mut from = 0;
    let mut shown = Vec::new();
    let mut time = StreamTime { ticks, last: None, usual: Vec::new() };
    for picture in pictures {
        let now_ns = time.of(picture);
        let Some(count) = picture.count else { continue };
        let offset = |frame: &Published| frame.unix_ns as i64 - now_ns;
        let fits =
            |(_, frame): &(usize, &Published)| frame.count == count && frame.unix_ns <= picture.unix_ns;
        let mut candidates = published.iter().enumerate().skip(from).filter(fits);
        let found = match (candidates.next_back(), candidates.clone().next(), time.usual_ns()) {
            (Some(last), None, _) => {
                time.usual.push(offset(last.1));
                last
            }
            (Some(last), Some(_), Some(usual)) => candidates
                .chain([last])
                .min_by_key(|(_, frame)| offset(frame).abs_diff(usual))
                .unwrap_or(last),
            (Some(last), ..) => last,
            (None, ..) => continue,
        };
        let (at, frame) = found;
        from = at + 1;
        shown.push(Shown { n: frame.n, published_ns: frame.unix_ns, picture: *picture });
    }
    shown
}

/// A receiver's timestamps as nanoseconds that do not wrap, and how far publications are from them.
struct StreamTime {
    ticks: Ticks,
    /// Session, timestamp, and the same in nanoseconds.
    last: Option<(u64, u32, i64)>,
    /// Of this session.
    usual: Vec<i64>,
}

impl StreamTime {
    fn of(&mut self, picture: &Picture) -> i64 {
        let same = self.last.filter(|(session, ..)| *session == picture.session);
        if same.is_none() {
            // Another one begins anew.
            self.usual.clear();
        }
        let now_ns = same.map_or(0, |(_, last, last_ns)| {
            last_ns + self.ticks.ns(picture.timestamp.wrapping_sub(last) as i32)
        });
        self.last = Some((picture.session, picture.timestamp, now_ns));
        now_ns
    }

    fn usual_ns(&self) -> Option<i64> {
        let mut sorted = self.usual.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// The value that so many percent are at or below; `None` of nothing.
pub fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Latency before a fault, and what counts as normal behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normal {
    /// The median, in ns.
    pub p50_ns: u64,
    /// In ns.
    pub p99_ns: u64,
    /// In ns.
    pub bound_ns: u64,
}

/// For the evidence.
pub const NORMAL_RULE: &str = "latency is from a frame's announcement by the producer to its first bytes at the \
receiver; normal is that of the pictures before the fault; back to normal is at most max(2 x normal p99, normal p99 + \
one frame interval), for five pictures in a row, and the pictures before those five are what it took";

impl Normal {
    /// Of the pictures before a fault; `None` without any.
    pub fn of(shown: &[Shown], interval_ns: u64) -> Option<Self> {
        let latencies: Vec<u64> = shown.iter().map(Shown::latency_ns).collect();
        let p99_ns = percentile(&latencies, 99)?;
        let bound_ns = (2 * p99_ns).max(p99_ns + interval_ns);
        Some(Self { p50_ns: percentile(&latencies, 50)?, p99_ns, bound_ns })
    }

    /// How many pictures it took until [`IN_A_ROW`] were at or below the bound; `None` where that never was.
    pub fn recovered_after(&self, shown: &[Shown]) -> Option<usize> {
        shown
            .windows(IN_A_ROW)
            .position(|row| row.iter().all(|picture| picture.latency_ns() <= self.bound_ns))
    }
}

/// Pictures that were published in a span of time.
pub fn published_in(shown: &[Shown], span: std::ops::Range<u64>) -> Vec<Shown> {
    shown.iter().filter(|picture| span.contains(&picture.published_ns)).copied().collect()
}

/// The longest time without a picture, and when it began and ended.
pub fn longest_gap(pictures: &[Picture]) -> Option<(u64, u64)> {
    pictures
        .windows(2)
        .map(|pair| (pair[0].unix_ns, pair[1].unix_ns))
        .max_by_key(|(from, to)| to.saturating_sub(*from))
}

/// The longest time without a picture in a span, whose begin and end count as pictures: with none it is the whole span.
pub fn longest_gap_in(pictures: &[Picture], span: std::ops::Range<u64>) -> u64 {
    let inside = pictures.iter().map(|picture| picture.unix_ns).filter(|at| span.contains(at));
    let (mut last, mut longest) = (span.start, 0);
    for at in inside.chain([span.end]) {
        longest = longest.max(at.saturating_sub(last));
        last = at.max(last);
    }
    longest
}

/// How often a timestamp was not above the one before (`strictly`), or below it; within a session, and modulo 2^32.
pub fn went_back(pictures: &[Picture], strictly: bool) -> usize {
    let back = |pair: &&[Picture]| {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32;
        pair[0].session == pair[1].session && (step < 0 || (strictly && step == 0))
    };
    pictures.windows(2).filter(back).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(frames: &[(u32, u64)]) -> Vec<Published> {
        let frame = |(n, (count, unix_ns)): (usize, &(u32, u64))| Published {
            n: n as u64,
            count: *count,
            unix_ns: *unix_ns,
        };
        frames.iter().enumerate().map(frame).collect()
    }

    fn picture(count: Option<u32>, unix_ns: u64) -> Picture {
        Picture { count, unix_ns, timestamp: unix_ns as u32, key: false, session: 1, width: 320, height: 240 }
    }

    fn shown(latencies: &[u64]) -> Vec<Shown> {
        let one = |(n, latency): (usize, &u64)| {
            let published_ns = 1000 * n as u64;
            let picture = picture(Some(n as u32), published_ns + latency);
            Shown { n: n as u64, published_ns, picture }
        };
        latencies.iter().enumerate().map(one).collect()
    }

    #[test]
    fn counts_that_come_again_are_told_apart_by_time() {
        let frames = published(&[(0, 100), (1, 200), (0, 300), (1, 400), (0, 500), (1, 600)]);
        let pictures =
            [picture(Some(0), 110), picture(None, 120), picture(Some(1), 430), picture(Some(1), 640)];
        let joined = join(&frames, &pictures, Ticks::Flv);
        let found: Vec<_> = joined.iter().map(|shown| (shown.n, shown.latency_ns())).collect();
        assert_eq!(found, [(0, 10), (3, 30), (5, 40)]);
        assert!(join(&frames, &[picture(Some(0), 99)], Ticks::Flv).is_empty(), "before it was published");
        assert!(join(&frames, &[picture(Some(7), 999)], Ticks::Flv).is_empty(), "never published");
        let late = [picture(Some(1), 410), picture(Some(0), 420)];
        assert_eq!(join(&frames, &late, Ticks::Flv).len(), 1, "not behind one that was published later");
    }

    #[test]
    fn a_late_picture_belongs_to_the_frame_of_its_timestamp() {
        const MS: u64 = 1_000_000;
        // Sixty frames without a question, then a reset every third: their counts come again after 100 ms.
        let count = |n: u64| if n < 60 { n as u32 } else { (n - 60) as u32 % 3 };
        let frames: Vec<Published> =
            (0..120).map(|n| Published { n, count: count(n), unix_ns: 1000 * MS + n * 33 * MS }).collect();
        for (ticks, per_ms, begin) in [(Ticks::Rtp, 90, u32::MAX - 9000), (Ticks::Flv, 1, 0)] {
            // Those of the storm are 250 ms late, which is more than two resets.
            let pictures: Vec<Picture> = frames
                .iter()
                .map(|frame| {
                    let late = if frame.n < 60 { 5 } else { 250 };
                    let timestamp = begin.wrapping_add((frame.n * 33 * per_ms) as u32);
                    Picture { timestamp, ..picture(Some(frame.count), frame.unix_ns + late * MS) }
                })
                .collect();
            let joined: Vec<u64> = join(&frames, &pictures, ticks).iter().map(|shown| shown.n).collect();
            assert_eq!(joined, (0..120).collect::<Vec<u64>>(), "{ticks:?}");
        }
    }

    #[test]
    fn runs_of_a_producer_are_one() {
        let all = chain([published(&[(0, 1), (1, 2)]), vec![], published(&[(0, 9)])]);
        assert_eq!(all.iter().map(|frame| frame.n).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 99), Some(7));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!([0, 50, 99, 100].map(|percent| percentile(&hundred, percent)), [1, 50, 99, 100].map(Some));
    }

    #[test]
    fn normal_is_the_larger_of_two_bounds() {
        let normal = Normal::of(&shown(&[10, 20, 30]), 5).unwrap();
        assert_eq!(normal, Normal { p50_ns: 20, p99_ns: 30, bound_ns: 60 });
        assert_eq!(Normal::of(&shown(&[10, 20, 30]), 500).unwrap().bound_ns, 530);
        assert_eq!(Normal::of(&[], 5), None);
    }

    #[test]
    fn recovery_takes_five_in_a_row() {
        let normal = Normal { p50_ns: 1, p99_ns: 2, bound_ns: 4 };
        assert_eq!(normal.recovered_after(&shown(&[1; 5])), Some(0));
        assert_eq!(normal.recovered_after(&shown(&[9, 9, 4, 1, 1, 1, 1])), Some(2));
        assert_eq!(normal.recovered_after(&shown(&[9, 1, 1, 9, 1, 1, 1, 1, 1])), Some(4));
        assert_eq!(normal.recovered_after(&shown(&[1; 4])), None);
    }

    #[test]
    fn gaps_and_times_that_go_back() {
        let pictures = [100, 200, 200, 900, 150].map(|at| picture(None, at));
        assert_eq!(longest_gap(&pictures[..4]), Some((200, 900)));
        assert_eq!(longest_gap(&pictures[..1]), None);
        assert_eq!(longest_gap_in(&pictures[..4], 100..1000), 700);
        assert_eq!(longest_gap_in(&pictures[..4], 100..2000), 1100, "dark to the end");
        assert_eq!(longest_gap_in(&pictures[1..4], 0..300), 200, "dark from the beginning");
        assert_eq!(longest_gap_in(&[], 100..2000), 1900);
        assert_eq!((went_back(&pictures, false), went_back(&pictures, true)), (1, 2));
        let mut next = pictures;
        next[4].session = 2;
        assert_eq!(went_back(&next, false), 0, "another session begins anew");
        let wrapped = [u32::MAX, 1].map(|timestamp| Picture { timestamp, ..picture(None, 0) });
        assert_eq!(went_back(&wrapped, true), 0);
    }
}
