// SPDX-License-Identifier: MPL-2.0

//! What is wrong with a recording: frames that the camera lost, and frames that cannot be decoded.

use std::ops::Range;
use std::sync::Arc;

use svo2::{Damage, Kind, Reader, Recording};

/// Frames that the camera lost, by the times of those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The frame in front of it.
    pub after: usize,
    /// As many frames are missing; one or more.
    pub lost: u64,
}

/// All gaps, in their order.
pub fn gaps(recording: &Recording) -> Vec<Gap> {
    let nominal = recording.nominal_ns().max(1) as f64;
    let intervals = |after: usize| (recording.duration_ns(after) as f64 / nominal).round() as u64;
    let gaps =
        (0..recording.frames() - 1).map(|after| Gap { after, lost: intervals(after).saturating_sub(1) });
    gaps.filter(|gap| gap.lost > 0).collect()
}

/// What the frames are to a decoder.
#[derive(Debug, Default)]
pub struct Looked {
    /// Frames at which decoding can begin.
    pub keys: Vec<usize>,
    /// Of those, such as begin a picture that becomes whole later.
    pub refreshes: usize,
    /// Runs of damaged frames, and what is wrong with the first of each.
    pub damaged: Vec<(Range<usize>, String)>,
    frames: usize,
}

impl Looked {
    /// Looks at the head of each frame; where `whole`, reads each to its end. `going_on` is told the number of each frame
    /// before it is looked at.
    ///
    /// # Errors
    /// What `going_on` says; nothing else.
    pub fn at<E>(
        recording: &Arc<Recording>,
        whole: bool,
        mut going_on: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut reader = Reader::new(recording.clone());
        let mut looked = Self { frames: recording.frames(), ..Self::default() };
        for frame in 0..recording.frames() {
            going_on(frame)?;
            let kind = reader.kind(frame);
            let kind = if whole { reader.unit(frame).and(kind) } else { kind };
            match kind {
                Ok(Kind::Entry { recovers_after }) => {
                    looked.keys.push(frame);
                    looked.refreshes += usize::from(recovers_after > 0);
                }
                Ok(Kind::Delta) => (),
                // The system does not read the file: what is found from here on says nothing.
                Err(Damage { unread: Some(_), .. }) => break,
                Err(damage) => looked.add(frame, damage.what),
            }
        }
        Ok(looked)
    }

    fn add(&mut self, frame: usize, what: String) {
        match self.damaged.last_mut() {
            Some((run, _)) if run.end == frame => run.end += 1,
            _ => self.damaged.push((frame..frame + 1, what)),
        }
    }

    /// Frames that no decoder can show: each damaged run goes on to the next frame at which decoding can begin.
    pub fn undecodable(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let first = self.keys.first().copied().unwrap_or(self.frames);
        let in_front = std::iter::once(0..first).filter(|run| !run.is_empty());
        for run in in_front.chain(self.damaged.iter().map(|(run, _)| run.clone())) {
            let next = self.keys.partition_point(|&key| key < run.end);
            let end = self.keys.get(next).copied().unwrap_or(self.frames);
            match runs.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(end),
                _ => runs.push(run.start..end),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_reaches_to_the_next_key_frame() {
        let looked = |keys: &[usize], damaged: &[usize]| {
            let mut looked = Looked { keys: keys.to_vec(), frames: 40, ..Looked::default() };
            damaged.iter().for_each(|&frame| looked.add(frame, "torn".into()));
            let pairs = looked.undecodable().into_iter().map(|run| (run.start, run.end)).collect::<Vec<_>>();
            (looked.damaged.len(), pairs)
        };
        assert_eq!(looked(&[0, 10, 20], &[]), (0, vec![]));
        assert_eq!(looked(&[0, 10, 20], &[3, 4, 7]), (2, vec![(3, 10)]));
        assert_eq!(looked(&[0, 20], &[10, 30]), (2, vec![(10, 20), (30, 40)]));
        assert_eq!(looked(&[5], &[0]), (1, vec![(0, 5)]));
        assert_eq!(looked(&[], &[]), (0, vec![(0, 40)]));
    }
}
