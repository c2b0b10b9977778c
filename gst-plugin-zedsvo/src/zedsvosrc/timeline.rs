// SPDX-License-Identifier: MPL-2.0

//! Times of frames. No GStreamer but its clock times here.
//!
//! Inside the bin a frame's time is that since the recording's first frame, so that frames before the cut have one too.
//! Outside, 0 is the first frame that goes out.

use std::sync::Arc;

use gst::ClockTime;
use svo2::Recording;

#[derive(Clone)]
pub(super) struct Timeline {
    pub recording: Arc<Recording>,
    pub first: usize,
    /// Inclusive.
    pub last: usize,
}

impl Timeline {
    /// Time inside the bin.
    pub fn inner(&self, frame: usize) -> ClockTime {
        ClockTime::from_nseconds(self.recording.running_ns(frame))
    }

    pub fn origin(&self) -> ClockTime {
        self.inner(self.first)
    }

    /// Time outside; that of frames before the first is 0.
    pub fn pts(&self, frame: usize) -> ClockTime {
        self.inner(frame).saturating_sub(self.origin())
    }

    pub fn frame_duration(&self, frame: usize) -> ClockTime {
        ClockTime::from_nseconds(self.recording.duration_ns(frame))
    }

    pub fn duration(&self) -> ClockTime {
        self.pts(self.last) + self.frame_duration(self.last)
    }

    pub fn frames(&self) -> usize {
        self.last - self.first + 1
    }

    /// The frame of a time inside the bin, which whoever passed it on may have rounded.
    pub fn frame_of(&self, inner: ClockTime) -> usize {
        let before = self.recording.frame_at(inner.nseconds());
        let after = (before + 1).min(self.recording.frames() - 1);
        let distance = |frame| self.inner(frame).nseconds().abs_diff(inner.nseconds());
        if distance(after) < distance(before) { after } else { before }
    }

    /// The frame that is shown at a time outside.
    pub fn frame_at(&self, time: ClockTime) -> usize {
        let inner = time.nseconds().saturating_add(self.origin().nseconds());
        self.recording.frame_at(inner).clamp(self.first, self.last)
    }

    /// The frames (inclusive) that are shown from `start` until before `stop`, outside.
    pub fn shown(&self, start: ClockTime, stop: ClockTime) -> Option<(usize, usize)> {
        if start >= stop || start >= self.duration() {
            return None;
        }
        let until = stop.saturating_sub(ClockTime::from_nseconds(1));
        Some((self.frame_at(start), self.frame_at(until)))
    }

    /// When so many frames have been shown.
    pub fn time_of_count(&self, count: u64) -> ClockTime {
        match usize::try_from(count).ok().filter(|&count| count < self.frames()) {
            Some(count) => self.pts(self.first + count),
            None => self.duration(),
        }
    }

    /// How many frames have been shown at a time outside.
    pub fn count_at(&self, time: ClockTime) -> u64 {
        let count = if time >= self.duration() { self.frames() } else { self.frame_at(time) - self.first };
        count as u64
    }
}
