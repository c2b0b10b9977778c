// SPDX-License-Identifier: MPL-2.0

//! When a copy of a frame is coherent: one pure function over what was seen around the copy.
//!
//! A producer writes payload, then metadata, then the sync message, into one slot and without a mark for 'being
//! written'. So metadata that agrees before and after a copy proves little: the next frame's payload may have been
//! under way in between. What else is asked for depends on the [`Coherence`] level.

use std::fmt;
use std::str::FromStr;

use crate::sync::FrameId;

/// How much evidence a frame needs before it is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Coherence {
    /// Both reads of the metadata agree with each other and with the sync message. Lets torn frames through where
    /// the reader is late.
    Metadata,
    /// Besides, the copy began on a sync that arrived while the reader waited, ended before the next frame was due,
    /// and the payload, looked at again, had not changed.
    #[default]
    Verify,
    /// Besides the metadata rules, the next frame's capture stamp, taken before its fill began, lies after the end
    /// of the copy. Sound at any pace; one frame of delay; needs Unix stamps.
    NextSync,
}

impl Coherence {
    /// All levels with their names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Metadata, "metadata"), (Self::Verify, "verify"), (Self::NextSync, "next-sync")];
}

impl fmt::Display for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = Self::ALL.into_iter().find(|(level, _)| level == self).expect("all levels are named");
        f.write_str(name)
    }
}

impl FromStr for Coherence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found
            .map(|(level, _)| level)
            .ok_or(format!("coherence '{text}' is none of metadata, verify, next-sync"))
    }
}

/// Why a frame was not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its sync was found queued: the reader came late, the next frame may be under way.
    Late,
    /// The segment already names another frame than the sync does.
    Overtaken,
    /// The metadata changed during the copy.
    MetadataChanged,
    /// The payload changed after it was copied.
    PayloadChanged,
    /// The copy ended when the next frame was due, or the producer was caught writing too often to be trusted.
    Overrun,
    /// The segment lost pages that the plane needs.
    PagesLost,
    /// The next frame's stamp does not prove that its fill began after the copy.
    Unproven,
    /// The stamp is not of this machine's Unix clock, so `next-sync` can prove nothing.
    ForeignClock,
}

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it so far: copy it.
    Copy,
    /// The copy is coherent: hand it on.
    Accept,
    /// Hold the copy until the next sync message.
    AwaitNext,
    /// Drop it.
    Refuse(Cause),
}

/// What was seen of one frame. The later fields fill up as the read goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The frame that the sync message announced.
    pub announced: FrameId,
    /// The sync arrived, alone, while the reader was waiting for it.
    pub fresh: bool,
    /// The stamp lies near this machine's Unix clock.
    pub same_clock: bool,
    /// The frame that the metadata named before the copy.
    pub before: FrameId,
    /// What the copy showed; `None` before it.
    pub copy: Option<CopyEvidence>,
    /// The first sync that came after `announced`; `None` while there is none.
    pub next: Option<FrameId>,
}

/// What was seen during and after a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyEvidence {
    /// All 256 bytes of metadata were the same before and after.
    pub metadata_unchanged: bool,
    /// The payload, looked at again, was what had been copied (true where the level does not look).
    pub payload_unchanged: bool,
    /// No page of the plane went missing.
    pub intact: bool,
    /// Unix time in ns at the end of the copy, taken after the last byte was read.
    pub ended_ns: u64,
    /// Unix time in ns at which the next frame may come under way, where the pace is known.
    pub due_ns: Option<u64>,
    /// The producer was caught writing during several of the last copies.
    pub restless: bool,
}

/// Judges a frame by what was seen of it, at any point of the read.
pub fn judge(level: Coherence, seen: &Evidence) -> Verdict {
    use Verdict::{Accept, AwaitNext, Copy, Refuse};

    if level == Coherence::NextSync && !seen.same_clock {
        return Refuse(Cause::ForeignClock);
    }
    if level == Coherence::Verify && !seen.fresh {
        return Refuse(Cause::Late);
    }
    if seen.before != seen.announced {
        return Refuse(Cause::Overtaken);
    }
    let Some(copy) = seen.copy else {
        return Copy;
    };
    if !copy.intact {
        return Refuse(Cause::PagesLost);
    }
    if !copy.metadata_unchanged {
        return Refuse(Cause::MetadataChanged);
    }
    match level {
        Coherence::Metadata => Accept,
        Coherence::Verify if !copy.payload_unchanged => Refuse(Cause::PayloadChanged),
        Coherence::Verify if copy.restless => Refuse(Cause::Overrun),
        Coherence::Verify if copy.due_ns.is_some_and(|due| copy.ended_ns > due) => Refuse(Cause::Overrun),
        Coherence::Verify => Accept,
        Coherence::NextSync => match seen.next {
            None => AwaitNext,
            // A count that goes backwards is another run of the producer, whose stamps prove nothing about this one.
            Some(next) if next.count > seen.announced.count && next.timestamp_ns > copy.ended_ns => Accept,
            Some(_) => Refuse(Cause::Unproven),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: FrameId = FrameId { count: 7, timestamp_ns: 1_000 };
    const COPY: CopyEvidence = CopyEvidence {
        metadata_unchanged: true,
        payload_unchanged: true,
        intact: true,
        ended_ns: 1_500,
        due_ns: Some(2_000),
        restless: false,
    };
    const GOOD: Evidence =
        Evidence { announced: N, fresh: true, same_clock: true, before: N, copy: Some(COPY), next: None };

    fn all(seen: &Evidence) -> [Verdict; 3] {
        Coherence::ALL.map(|(level, _)| judge(level, seen))
    }

    use Verdict::*;

    #[test]
    fn a_clean_frame_is_copied_then_accepted() {
        assert_eq!(all(&Evidence { copy: None, ..GOOD }), [Copy; 3]);
        assert_eq!(all(&GOOD), [Accept, Accept, AwaitNext]);
    }

    #[test]
    fn a_stale_sync_is_refused_by_verify_alone() {
        let stale = Evidence { fresh: false, copy: None, ..GOOD };
        assert_eq!(all(&stale), [Copy, Refuse(Cause::Late), Copy]);
    }

    #[test]
    fn metadata_must_agree_with_the_sync_in_count_and_stamp() {
        for before in [FrameId { count: 8, ..N }, FrameId { timestamp_ns: 1_001, ..N }] {
            assert_eq!(all(&Evidence { before, ..GOOD }), [Refuse(Cause::Overtaken); 3]);
        }
    }

    #[test]
    fn what_changed_during_the_copy_refuses() {
        let with = |copy| all(&Evidence { copy: Some(copy), ..GOOD });
        let changed = with(CopyEvidence { metadata_unchanged: false, ..COPY });
        assert_eq!(changed, [Refuse(Cause::MetadataChanged); 3]);
        assert_eq!(with(CopyEvidence { intact: false, ..COPY }), [Refuse(Cause::PagesLost); 3]);
        // This is the hole that `metadata` leaves open, and why it is not the default.
        let changed = with(CopyEvidence { payload_unchanged: false, ..COPY });
        assert_eq!(changed, [Accept, Refuse(Cause::PayloadChanged), AwaitNext]);
        let late = with(CopyEvidence { ended_ns: 2_001, ..COPY });
        assert_eq!(late, [Accept, Refuse(Cause::Overrun), AwaitNext]);
        let restless = with(CopyEvidence { restless: true, ..COPY });
        assert_eq!(restless, [Accept, Refuse(Cause::Overrun), AwaitNext]);
        assert_eq!(with(CopyEvidence { due_ns: None, ..COPY }), [Accept, Accept, AwaitNext]);
    }

    #[test]
    fn next_sync_needs_a_later_stamp_after_the_copy_on_the_same_clock() {
        let next = |count, timestamp_ns| {
            judge(Coherence::NextSync, &Evidence { next: Some(FrameId { count, timestamp_ns }), ..GOOD })
        };
        assert_eq!(next(8, 1_501), Accept);
        assert_eq!(next(9, 1_501), Accept);
        assert_eq!(next(8, 1_500), Refuse(Cause::Unproven));
        assert_eq!(next(0, 9_000), Refuse(Cause::Unproven));
        assert_eq!(next(7, 9_000), Refuse(Cause::Unproven));
        let media = Evidence { same_clock: false, copy: None, ..GOOD };
        assert_eq!(all(&media), [Copy, Copy, Refuse(Cause::ForeignClock)]);
    }

    #[test]
    fn names_parse_back() {
        for (level, name) in Coherence::ALL {
            assert_eq!((level.to_string().as_str(), name.parse()), (name, Ok(level)));
        }
        assert!("none".parse::<Coherence>().unwrap_err().contains("'none'"));
    }
}
