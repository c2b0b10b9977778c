// SPDX-License-Identifier: MPL-2.0

//! From running time to FLV time.

use crate::video::MAX_COMPOSITION_MS;

const NS_PER_MS: i64 = 1_000_000;

/// The times of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Decoding time in nanoseconds, shifted so that none is negative.
    pub dts_ns: u64,
    /// Presentation time in nanoseconds with the same shift; not before `dts_ns`.
    pub pts_ns: u64,
    /// Decoding time modulo 2^32 milliseconds: it wraps after 49.7 days.
    pub timestamp_ms: u32,
    /// Presentation minus decoding time, 0..=[`MAX_COMPOSITION_MS`].
    pub composition_ms: i32,
    /// A time was changed by a millisecond or more: raised to the last one, or to 0, or the composition time brought
    /// into its range.
    pub corrected: bool,
}

/// What is done with frames whose time goes backwards, as stock flvmux has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backwards {
    /// Frames that are earlier than the last one, of whichever track, are dropped.
    pub skip: bool,
    /// Decoding times are raised to the last one, of whichever track.
    pub enforce: bool,
}

/// Turns the running times of one file's or session's frames into FLV times, in the order of writing.
#[derive(Debug, Clone)]
pub struct Timeline {
    backwards: Backwards,
    shift_ns: i64,
    last_dts_ns: Option<i64>,
}

impl Timeline {
    /// `first_dts_ns`: the earliest decoding time; where it is negative (B-frames), all times are shifted, by whole
    /// milliseconds.
    pub fn new(first_dts_ns: i64, backwards: Backwards) -> Self {
        let shift_ns = first_dts_ns.div_euclid(NS_PER_MS).min(0).saturating_mul(-NS_PER_MS);
        Self { backwards, shift_ns, last_dts_ns: None }
    }

    /// How much is added to running time, in nanoseconds.
    pub fn shift_ns(&self) -> u64 {
        self.shift_ns.unsigned_abs()
    }

    /// The times of a tag at the end, beside the last one.
    pub fn last(&self) -> Stamp {
        let dts_ns = self.last_dts_ns.unwrap_or(0);
        Stamp {
            dts_ns: dts_ns.unsigned_abs(),
            pts_ns: dts_ns.unsigned_abs(),
            timestamp_ms: (dts_ns / NS_PER_MS) as u32,
            composition_ms: 0,
            corrected: false,
        }
    }

    /// The next tag's times, from running times in nanoseconds; `None`: the frame is to be dropped.
    pub fn stamp(&mut self, dts_ns: i64, pts_ns: i64) -> Option<Stamp> {
        let wanted = dts_ns.saturating_add(self.shift_ns);
        let pts_ns = pts_ns.saturating_add(self.shift_ns);
        let last = self.last_dts_ns.unwrap_or(0);
        if self.backwards.skip && wanted < last {
            return None;
        }
        let dts_ns = if self.backwards.enforce { wanted.max(last) } else { wanted.max(0) };
        self.last_dts_ns = Some(dts_ns);
        // Both rounded down, so that presentation times are exact to the millisecond.
        let dts_ms = dts_ns / NS_PER_MS;
        let wanted_composition = pts_ns.div_euclid(NS_PER_MS).saturating_sub(dts_ms);
        let composition_ms = wanted_composition.clamp(0, MAX_COMPOSITION_MS.into()) as i32;
        Some(Stamp {
            dts_ns: dts_ns.unsigned_abs(),
            pts_ns: pts_ns.max(dts_ns).unsigned_abs(),
            timestamp_ms: dts_ms as u32,
            composition_ms,
            corrected: dts_ns != wanted || i64::from(composition_ms) != wanted_composition,
        })
    }
}

/// Keeps decoding times at or before presentation times.
///
/// Some encoders number decoding times from the first picture and reorder behind it, so that they run ahead of
/// presentation by the depth of the reordering. Players cannot show a picture before it is decoded, and SRS reads
/// composition times unsigned: it is the decoding times that are moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecodeOffset {
    offset_ns: i64,
}

impl DecodeOffset {
    /// The deepest reordering that is believed; a larger difference is a wrong presentation time.
    pub const MAX_NS: i64 = 1_000 * NS_PER_MS;

    /// The decoding time to use.
    pub fn apply(&mut self, dts_ns: i64, pts_ns: i64) -> i64 {
        let ahead = dts_ns.saturating_sub(pts_ns);
        if ahead <= Self::MAX_NS {
            self.offset_ns = self.offset_ns.max(ahead);
        }
        dts_ns.saturating_sub(self.offset_ns)
    }
}
