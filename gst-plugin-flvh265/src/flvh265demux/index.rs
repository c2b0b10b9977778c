// SPDX-License-Identifier: MPL-2.0

//! Where one can seek to, and which configuration holds there. No I/O here.

use flv::KeyFrameIndex;
use flv::index::KeyFrame;

use super::state::Clock;
use super::track::{Config, Kind};

/// Beyond as many key frames the index is thinned.
const KEY_FRAMES: usize = 1 << 14;
/// Changes of configuration beyond this are not remembered.
const CONFIGS: usize = 256;
/// Audio without video is indexed as often as this.
const AUDIO_STEP_MS: i64 = 500;

/// A tag where decoding can begin.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub position: u64,
    /// Presentation time in milliseconds.
    pub pts_ms: i64,
    /// The clock as it was at this tag.
    pub clock: Clock,
}

/// A place that an index names; whether a tag begins there is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub position: u64,
    pub ms: i64,
}

impl From<&KeyFrame> for Candidate {
    fn from(key_frame: &KeyFrame) -> Self {
        Self { position: key_frame.position, ms: (key_frame.time * 1e3).round() as i64 }
    }
}

pub(super) struct Index {
    /// What was seen in this stream.
    seen: KeyFrameIndex,
    /// What onMetaData says; empty once it was found wrong.
    pub described: Vec<KeyFrame>,
    /// Up to here it was looked for configurations beside the entries of `described`.
    pub looked: u64,
    /// In order of position.
    configs: Vec<(u64, Config)>,
}

impl Default for Index {
    fn default() -> Self {
        Self { seen: KeyFrameIndex::new(KEY_FRAMES), described: Vec::new(), looked: 0, configs: Vec::new() }
    }
}

impl Index {
    /// Takes a place where decoding can begin; one before the last that is known is known already, or will be found.
    pub fn push(&mut self, kind: Kind, position: u64, ms: i64) {
        let step = if kind == Kind::Video { 0 } else { AUDIO_STEP_MS };
        let last = self.seen.entries().last().map(Candidate::from);
        if last.is_none_or(|last| position > last.position && ms >= last.ms + step) {
            self.seen.push(KeyFrame { time: ms as f64 / 1e3, position });
        }
    }

    /// Takes a configuration and where it stands.
    pub fn push_config(&mut self, position: u64, config: &Config) {
        let known = self.config(config.kind(), position);
        if known != Some(config) && self.configs.len() < CONFIGS {
            let place = self.configs.partition_point(|(at, _)| *at <= position);
            self.configs.insert(place, (position, config.clone()));
        }
    }

    /// The configuration that holds at a position, as far as is known.
    pub fn config(&self, kind: Kind, position: u64) -> Option<&Config> {
        let before = &self.configs[..self.configs.partition_point(|(at, _)| *at <= position)];
        before.iter().rev().map(|(_, config)| config).find(|config| config.kind() == kind)
    }

    /// The last places at or before a time, the latest first.
    pub fn seen_before(&self, ms: i64) -> impl Iterator<Item = Candidate> {
        before(self.seen.entries(), ms)
    }

    /// The same by onMetaData's index.
    pub fn described_before(&self, ms: i64) -> impl Iterator<Item = Candidate> {
        before(&self.described, ms)
    }

    /// The first place after a time by onMetaData's index.
    pub fn described_after(&self, ms: i64) -> Option<Candidate> {
        self.described.iter().map(Candidate::from).find(|candidate| candidate.ms > ms)
    }

    /// Whether every time up to this one is covered by a place that is known.
    pub fn covers(&self, ms: i64) -> bool {
        let last = |entries: &[KeyFrame]| entries.last().is_some_and(|last| Candidate::from(last).ms >= ms);
        last(&self.described) || last(self.seen.entries())
    }
}

fn before(entries: &[KeyFrame], ms: i64) -> impl Iterator<Item = Candidate> {
    let end = entries.partition_point(|entry| Candidate::from(entry).ms <= ms);
    entries[..end].iter().rev().map(Candidate::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_time_and_configurations_by_position() {
        let mut index = Index::default();
        let config = |rate| Config::Mp3 { rate, channels: 2 };
        index.push_config(13, &config(1));
        index.push_config(13, &config(1));
        index.push_config(500, &config(2));
        index.push_config(700, &config(2));
        assert_eq!(index.configs.len(), 2);
        assert_eq!(index.config(Kind::Audio, 12), None);
        assert_eq!(index.config(Kind::Audio, 499), Some(&config(1)));
        assert_eq!(index.config(Kind::Audio, 900), Some(&config(2)));
        assert_eq!(index.config(Kind::Video, 900), None);
        for (position, ms) in [(100, 0), (400, 2000), (300, 1000), (900, 4000)] {
            index.push(Kind::Video, position, ms);
        }
        let before = |ms| index.seen_before(ms).map(|candidate| candidate.position).collect::<Vec<_>>();
        assert_eq!(before(3999), [400, 100]);
        assert!(before(-1).is_empty());
        assert!(index.covers(4000) && !index.covers(4001));
    }
}
