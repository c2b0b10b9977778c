// SPDX-License-Identifier: MPL-2.0

//! A recording that the simulator plays: its samples' times, without any pictures.

/// Samples from 0 s to the end, both included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Replay {
    /// At least one.
    pub samples: u64,
    fps: f64,
    /// At its end it begins anew.
    pub looped: bool,
}

impl Replay {
    pub fn new(seconds: f64, fps: f64, looped: bool) -> Self {
        // A moment more, since 2.1 s of 30 fps are 63 intervals, and in floating point not quite.
        Self { samples: (seconds * fps + 1e-6) as u64 + 1, fps, looped }
    }

    /// Media time of a sample.
    pub fn stamp(&self, sample: u64) -> u64 {
        (sample as f64 * 1e9 / self.fps).round() as u64
    }

    /// Media time of the last sample.
    pub fn end(&self) -> u64 {
        self.stamp(self.samples - 1)
    }

    /// The first sample at or after a time.
    pub fn at_or_after(&self, target_ns: u64) -> Option<u64> {
        let near = (target_ns as f64 * self.fps / 1e9) as u64;
        (near.saturating_sub(1)..self.samples).find(|&sample| self.stamp(sample) >= target_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_replay_has_its_first_and_its_last_moment() {
        let replay = Replay::new(2.1, 30.0, false);
        assert_eq!((replay.samples, replay.end()), (64, 2_100_000_000));
        assert_eq!(replay.at_or_after(0), Some(0));
        assert_eq!(replay.at_or_after(1), Some(1));
        assert_eq!(replay.at_or_after(33_333_333), Some(1));
        assert_eq!(replay.at_or_after(33_333_334), Some(2));
        assert_eq!(replay.at_or_after(2_100_000_000), Some(63));
        assert_eq!(replay.at_or_after(2_100_000_001), None);
        assert_eq!(replay.at_or_after(u64::MAX), None);
        assert_eq!(Replay::new(0.001, 1.0, true).samples, 1);
    }

    proptest! {
        #[test]
        fn a_seek_lands_on_the_first_sample_at_or_after_its_target(
            seconds in 0.01f64..4000.0, fps in 0.5f64..1000.0, part in 0.0f64..1.0
        ) {
            let replay = Replay::new(seconds, fps, false);
            let target = (replay.end() as f64 * part) as u64;
            let sample = replay.at_or_after(target).unwrap();
            prop_assert!(replay.stamp(sample) >= target);
            prop_assert!(sample == 0 || replay.stamp(sample - 1) < target);
        }
    }
}
