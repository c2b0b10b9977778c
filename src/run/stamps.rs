// SPDX-License-Identifier: MPL-2.0

//! When pictures were captured, through an encoder that hands on nothing but running time.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, MutexGuard};

use cvmmap_ipc::clock::unix_now_ns;
use gst::prelude::*;

/// Pictures that may be inside the encoder.
pub const INSIDE: usize = 256;

static UNIX: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

/// Remembers the pictures that went into the encoder last.
#[derive(Debug, Default)]
pub struct Stamps {
    /// Running time, and Unix time of the capture, both in ns.
    inside: Mutex<VecDeque<(u64, u64)>>,
}

impl Stamps {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.inside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A picture goes into the encoder.
    pub fn remember(&self, running: u64, capture: u64) {
        let mut inside = self.lock();
        if inside.len() >= INSIDE {
            inside.pop_front();
        }
        inside.push_back((running, capture));
    }

    /// When the picture of this running time was captured; `None` for one that is not remembered.
    pub fn find(&self, running: u64) -> Option<u64> {
        self.lock().iter().rev().find(|(other, _)| *other == running).map(|(_, capture)| *capture)
    }
}

/// Encoders shift their time stamps; running time they keep. In ns.
pub fn running_time(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<u64> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    Some(segment.to_running_time(buffer.pts()?)?.nseconds())
}

/// The Unix time of the capture in ns; where the producer's stamps are of another clock, that of the arrival.
pub fn capture_time(pad: &gst::Pad, buffer: &gst::BufferRef, running: Option<u64>) -> Option<u64> {
    let stamp = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().can_intersect(&UNIX))
        .map(|meta| meta.timestamp().nseconds());
    stamp.or_else(|| arrival_time(pad, running?))
}

/// The Unix time of a running time, in ns.
pub fn arrival_time(pad: &gst::Pad, running: u64) -> Option<u64> {
    let now = pad.parent_element()?.current_running_time()?.nseconds();
    Some(unix_now_ns().saturating_sub(now.saturating_sub(running)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pictures_are_remembered() {
        let stamps = Stamps::default();
        (0..1000).for_each(|n| stamps.remember(n, n + 5));
        assert_eq!((stamps.find(999), stamps.find(744), stamps.find(743)), (Some(1004), Some(749), None));
        stamps.remember(999, 7);
        assert_eq!(stamps.find(999), Some(7));
    }
}
