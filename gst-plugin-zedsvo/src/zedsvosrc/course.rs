// SPDX-License-Identifier: MPL-2.0

//! Which frames are read, in which order, and which of them are shown. No GStreamer here.
//!
//! A course is made of pieces: runs of frames that are decoded one after the other, beginning where decoding can, of which
//! the last ones are shown. Forwards there is one piece, and one more behind each damage; backwards there are as many as
//! memory asks for.

use svo2::{Kind, Reader};

/// What is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub first: usize,
    /// Inclusive.
    pub last: usize,
    pub reverse: bool,
    /// Nothing but frames at which decoding can begin.
    pub keys_only: bool,
    /// Nobody decodes here: what is read is shown, and backwards whole groups are.
    pub encoded: bool,
    /// Nothing before this frame is shown.
    pub floor: usize,
    /// At most as many frames are shown of a piece backwards.
    pub batch: usize,
}

/// What a recording tells of its frames.
pub(super) trait Frames {
    fn kind(&mut self, frame: usize) -> Option<Kind>;
    fn entry_for(&mut self, frame: usize) -> Option<usize>;
    fn entry_from(&mut self, frame: usize) -> Option<usize>;
    fn count(&self) -> usize;

    /// The first frame from which on pictures are right that were decoded from `entry` on.
    fn recovered(&mut self, entry: usize) -> usize {
        match self.kind(entry) {
            Some(Kind::Entry { recovers_after }) => entry + usize::from(recovers_after),
            _ => entry,
        }
    }

    /// The first place at or after `frame`: where decoding begins, and from where on pictures are right.
    fn next_entry(&mut self, frame: usize) -> Option<(usize, usize)> {
        let entry = (frame < self.count()).then(|| self.entry_from(frame)).flatten()?;
        Some((entry, self.recovered(entry)))
    }
}

impl Frames for Reader {
    fn kind(&mut self, frame: usize) -> Option<Kind> {
        Reader::kind(self, frame).ok()
    }

    fn entry_for(&mut self, frame: usize) -> Option<usize> {
        Reader::entry_for(self, frame)
    }

    fn entry_from(&mut self, frame: usize) -> Option<usize> {
        Reader::entry_from(self, frame)
    }

    fn count(&self) -> usize {
        self.recording().frames()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A piece begins, of which these frames are shown (inclusive).
    Piece {
        first: usize,
        last: usize,
    },
    /// The next frame of the piece.
    Frame {
        frame: usize,
        shown: bool,
    },
    /// These frames (inclusive) are skipped.
    Lost {
        first: usize,
        last: usize,
        why: String,
    },
    End,
}

#[derive(Debug)]
struct Piece {
    next: usize,
    shown: usize,
    last: usize,
    announced: bool,
}

#[derive(Debug)]
pub(super) struct Course {
    plan: Plan,
    /// The next frame to show; backwards, and for key frames.
    at: Option<usize>,
    piece: Option<Piece>,
    lost: Option<(usize, usize, String)>,
}

impl Course {
    pub fn new(plan: Plan) -> Self {
        let at = if plan.reverse { plan.last } else { plan.first };
        Self { plan, at: Some(at), piece: None, lost: None }
    }

    pub fn next(&mut self, frames: &mut impl Frames) -> Step {
        loop {
            if let Some((first, last, why)) = self.lost.take() {
                return Step::Lost { first, last, why };
            }
            if let Some(piece) = &mut self.piece {
                if !piece.announced {
                    piece.announced = true;
                    return Step::Piece { first: piece.shown, last: piece.last };
                }
                if piece.next <= piece.last {
                    let frame = piece.next;
                    piece.next += 1;
                    return Step::Frame { frame, shown: frame >= piece.shown };
                }
                self.piece = None;
            }
            let Some(at) = self.at.take() else { return Step::End };
            match (self.plan.reverse, self.plan.keys_only) {
                (false, false) => self.forwards(frames, at),
                (false, true) => self.next_key(frames, at),
                (true, keys_only) => self.backwards(frames, at, keys_only),
            }
        }
    }

    /// The frame that was given last cannot be read.
    pub fn damaged(&mut self, frames: &mut impl Frames, frame: usize, why: String) {
        let Some(piece) = self.piece.take() else { return };
        if self.plan.reverse || self.plan.keys_only {
            self.lost = Some((frame, piece.last.max(frame), why));
            return;
        }
        self.resume(frames, frame, why);
        if let Some(next) = &mut self.piece {
            next.shown = next.shown.max(piece.shown);
        }
    }

    fn begin(&mut self, next: usize, shown: usize, last: usize) {
        self.piece = Some(Piece { next, shown, last, announced: false });
    }

    fn forwards(&mut self, frames: &mut impl Frames, at: usize) {
        match frames.entry_for(at) {
            Some(entry) => {
                // The cut begins where decoding can, but not always with a picture that is whole.
                let entry = if self.plan.encoded { entry.max(self.plan.floor) } else { entry };
                let shown = if self.plan.encoded { entry } else { at };
                self.begin(entry, shown, self.plan.last);
            }
            None => {
                let why = "decoding cannot begin at or before it";
                self.resume(frames, at, why.to_owned());
            }
        }
    }

    /// Goes on behind a frame that is of no use, where pictures are right again.
    fn resume(&mut self, frames: &mut impl Frames, from: usize, why: String) {
        let last = self.plan.last;
        let next = frames.next_entry(from + 1).filter(|&(_, right)| right <= last);
        self.lost = Some((from, next.map_or(last.max(from), |(_, right)| right - 1), why));
        if let Some((entry, right)) = next {
            let shown = if self.plan.encoded { entry } else { right };
            self.begin(entry, shown, last);
        }
    }

    fn next_key(&mut self, frames: &mut impl Frames, at: usize) {
        let Some((entry, right)) = frames.next_entry(at).filter(|&(_, right)| right <= self.plan.last) else {
            return;
        };
        let shown = if self.plan.encoded { entry } else { right };
        self.begin(entry, shown, right);
        self.at = Some(entry + 1);
    }

    fn backwards(&mut self, frames: &mut impl Frames, at: usize, keys_only: bool) {
        let first = self.plan.first;
        let Some(entry) = frames.entry_for(at) else {
            self.lost = Some((first, at, "decoding cannot begin at or before it".to_owned()));
            return;
        };
        let entry = if self.plan.encoded { entry.max(self.plan.floor) } else { entry };
        // At the head of a recording pictures may be shown that have not recovered.
        let right = Some(frames.recovered(entry)).filter(|&right| right <= at).unwrap_or(entry);
        let (shown, last) = match (self.plan.encoded, keys_only) {
            (true, false) => (entry, at),
            (true, true) => (entry, right),
            (false, true) => (right, right),
            (false, false) => (right.max(first).max((at + 1).saturating_sub(self.plan.batch)), at),
        };
        if keys_only && right < first {
            return;
        }
        self.begin(entry, shown, last);
        let next = if keys_only || self.plan.encoded { entry } else { shown };
        self.at = next.checked_sub(1).filter(|&next| next >= first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key frames where there is a number: as many frames later pictures are right.
    struct Fake(Vec<Option<u16>>);

    impl Frames for Fake {
        fn kind(&mut self, frame: usize) -> Option<Kind> {
            Some(self.0[frame].map_or(Kind::Delta, |recovers_after| Kind::Entry { recovers_after }))
        }

        fn entry_for(&mut self, frame: usize) -> Option<usize> {
            let entries = || (0..=frame).rev().filter(|&at| self.0[at].is_some());
            let right = entries().find(|&at| at + usize::from(self.0[at].unwrap()) <= frame);
            right.or_else(|| (0..=frame).find(|&at| self.0[at].is_some()))
        }

        fn entry_from(&mut self, frame: usize) -> Option<usize> {
            (frame..self.0.len()).find(|&at| self.0[at].is_some())
        }

        fn count(&self) -> usize {
            self.0.len()
        }
    }

    fn every(count: usize, distance: usize, recovers_after: u16) -> Fake {
        Fake((0..count).map(|at| (at % distance == 0).then_some(recovers_after)).collect())
    }

    const PLAN: Plan = Plan {
        first: 0,
        last: 0,
        reverse: false,
        keys_only: false,
        encoded: false,
        floor: 0,
        batch: usize::MAX,
    };

    /// Frames that are shown by pieces, reversed where the plan is; how many are read; what is lost.
    fn run(mut frames: Fake, plan: Plan, damaged: &[usize]) -> (Vec<usize>, usize, Vec<(usize, usize)>) {
        let mut course = Course::new(plan);
        let (mut shown, mut read, mut lost) = (Vec::new(), 0, Vec::new());
        let mut piece = Vec::new();
        let mut take = |piece: &mut Vec<usize>| {
            if plan.reverse && !plan.encoded {
                piece.reverse();
            }
            shown.append(piece);
        };
        loop {
            match course.next(&mut frames) {
                Step::Piece { .. } => take(&mut piece),
                Step::Frame { frame, .. } if damaged.contains(&frame) => {
                    course.damaged(&mut frames, frame, "test".into());
                }
                Step::Frame { frame, shown } => {
                    read += 1;
                    piece.extend(shown.then_some(frame));
                }
                Step::Lost { first, last, .. } => lost.push((first, last)),
                Step::End => break,
            }
        }
        take(&mut piece);
        (shown, read, lost)
    }

    #[test]
    fn cuts_are_exact_whatever_the_distance_of_key_frames() {
        for distance in [1, 7, 15, 100] {
            for (first, last) in [(0, 0), (0, 49), (13, 13), (14, 31), (49, 49)] {
                let plan = Plan { first, last, ..PLAN };
                let (shown, read, lost) = run(every(50, distance, 0), plan, &[]);
                assert_eq!(shown, (first..=last).collect::<Vec<_>>());
                assert_eq!((read, lost), (last + 1 - first / distance * distance, vec![]));
                let plan = Plan { reverse: true, batch: 4, ..plan };
                let (shown, ..) = run(every(50, distance, 0), plan, &[]);
                assert_eq!(shown, (first..=last).rev().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn with_intra_refresh_it_goes_back_as_far_as_pictures_need() {
        let (shown, read, _) = run(every(50, 10, 10), Plan { first: 25, last: 27, ..PLAN }, &[]);
        assert_eq!((shown, read), (vec![25, 26, 27], 18));
        let plan = Plan { first: 0, last: 30, reverse: true, batch: 6, ..PLAN };
        assert_eq!(run(every(50, 10, 10), plan, &[]).0, (0..=30).rev().collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_skipped_to_where_pictures_are_right() {
        let all = Plan { last: 49, ..PLAN };
        let (shown, _, lost) = run(every(50, 10, 0), all, &[23, 49]);
        assert_eq!(shown, (0..23).chain(30..49).collect::<Vec<_>>());
        assert_eq!(lost, [(23, 29), (49, 49)]);
        let (shown, _, lost) = run(every(50, 10, 10), all, &[23]);
        assert_eq!((shown, lost), ((0..23).chain(40..50).collect(), vec![(23, 39)]));
        // Before the first frame that is shown: it and what follows cannot be had either.
        let (shown, _, lost) = run(every(50, 10, 0), Plan { first: 25, ..all }, &[23]);
        assert_eq!((shown, lost), ((30..50).collect(), vec![(23, 29)]));
        // Backwards, the same frames are missing.
        let (shown, ..) = run(every(50, 10, 0), Plan { reverse: true, batch: 4, ..all }, &[23]);
        assert_eq!(shown, (0..20).chain(24..24).chain(20..23).chain(30..50).rev().collect::<Vec<_>>());
        let (shown, read, lost) = run(every(50, 100, 0), all, &(0..50).collect::<Vec<_>>());
        assert_eq!((shown, read, lost), (vec![], 0, vec![(0, 49)]));
    }

    #[test]
    fn a_recording_that_begins_in_the_middle_begins_at_its_first_entry() {
        let mut frames = every(50, 20, 0);
        frames.0[0] = None;
        let (shown, _, lost) = run(frames, Plan { last: 49, ..PLAN }, &[]);
        assert_eq!((shown, lost), ((20..50).collect(), vec![(0, 19)]));
    }

    #[test]
    fn key_frames_alone_in_both_directions() {
        let plan = Plan { first: 5, last: 35, keys_only: true, ..PLAN };
        assert_eq!(run(every(50, 10, 0), plan, &[]).0, [10, 20, 30]);
        let back = Plan { reverse: true, ..plan };
        assert_eq!(run(every(50, 10, 0), back, &[]).0, [30, 20, 10]);
        // Of refreshed pictures, those that are whole.
        assert_eq!(run(every(50, 10, 5), plan, &[]).0, [15, 25, 35]);
        assert_eq!(run(every(50, 10, 5), back, &[]).0, [35, 25, 15, 5]);
    }

    #[test]
    fn bitstreams_of_refreshed_pictures_do_not_begin_before_the_cut() {
        let plan = Plan { first: 20, last: 33, encoded: true, floor: 20, ..PLAN };
        assert_eq!(run(every(50, 10, 9), plan, &[]).0, (20..=33).collect::<Vec<_>>());
        let (shown, ..) = run(every(50, 10, 9), Plan { reverse: true, ..plan }, &[]);
        assert_eq!(shown, (20..=33).collect::<Vec<_>>());
    }

    #[test]
    fn bitstreams_go_from_entry_points_and_backwards_in_groups() {
        let plan = Plan { first: 13, last: 33, encoded: true, ..PLAN };
        assert_eq!(run(every(50, 10, 0), plan, &[]).0, (10..=33).collect::<Vec<_>>());
        let back = Plan { reverse: true, ..plan };
        let groups = (30..=33).chain(20..=29).chain(10..=19).collect::<Vec<_>>();
        assert_eq!(run(every(50, 10, 0), back, &[]).0, groups);
    }
}
