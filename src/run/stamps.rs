// SPDX-License-Identifier: MPL-2.0

//! When pictures were captured, through an encoder that hands on nothing but running time.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, MutexGuard};

use cvmmap_ipc::clock::{is_unix_time, unix_now_ns};
use gst::prelude::*;

/// Pictures that may be inside the encoder.
pub const INSIDE: usize = 256;
/// A replay is at 0 for a picture; a producer that is there for so many does not stamp them.
const UNSTAMPED: u32 = 30;

/// Of metas with the producer's stamp.
static CLOCKS: LazyLock<gst::Caps> = LazyLock::new(|| {
    ["timestamp/x-unix", "timestamp/x-cvmmap-media"].into_iter().map(gst::Structure::new_empty).collect()
});

/// Remembers the pictures that went into the encoder last.
#[derive(Debug, Default)]
pub struct Stamps {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Running time and the producer's stamp, both in ns.
    inside: VecDeque<(u64, u64)>,
    /// Stamps of 0 in a row.
    zeros: u32,
}

impl Stamps {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A picture of this running time goes into the encoder, with the producer's stamp if it has one.
    pub fn remember(&self, running: u64, stamp: Option<u64>) {
        let mut state = self.lock();
        state.zeros = if stamp == Some(0) { state.zeros.saturating_add(1) } else { 0 };
        let Some(stamp) = stamp.filter(|_| state.zeros < UNSTAMPED) else { return };
        if state.inside.len() >= INSIDE {
            state.inside.pop_front();
        }
        state.inside.push_back((running, stamp));
    }

    /// The producer's stamp of the picture of this running time, in ns of the producer's clock.
    pub fn find(&self, running: u64) -> Option<u64> {
        self.lock().inside.iter().rev().find(|(other, _)| *other == running).map(|(_, stamp)| *stamp)
    }
}

/// Encoders shift their time stamps; running time they keep. In ns.
pub fn running_time(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<u64> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    Some(segment.to_running_time(buffer.pts()?)?.nseconds())
}

/// The producer's stamp, in ns of its clock.
pub fn stamp(buffer: &gst::BufferRef) -> Option<u64> {
    let clocks = buffer.iter_meta::<gst::ReferenceTimestampMeta>();
    let mut own = clocks.filter(|meta| meta.reference().can_intersect(&CLOCKS));
    own.next().map(|meta| meta.timestamp().nseconds())
}

/// The Unix time of the capture in ns; where the producer's stamps are of another clock, that of the arrival.
pub fn capture_time(pad: &gst::Pad, buffer: &gst::BufferRef, running: Option<u64>) -> Option<u64> {
    stamp(buffer).filter(|stamp| is_unix_time(*stamp)).or_else(|| arrival_time(pad, running?))
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
        (0..1000).for_each(|n| stamps.remember(n, Some(n + 5)));
        assert_eq!((stamps.find(999), stamps.find(744), stamps.find(743)), (Some(1004), Some(749), None));
        stamps.remember(999, Some(7));
        assert_eq!(stamps.find(999), Some(7));
    }

    #[test]
    fn zero_is_a_time_but_not_for_ever() {
        let stamps = Stamps::default();
        for n in 0..100 {
            stamps.remember(n, Some(n % 10));
        }
        assert_eq!((stamps.find(10), stamps.find(90), stamps.find(91)), (Some(0), Some(0), Some(1)));
        (100..200).for_each(|n| stamps.remember(n, Some(0)));
        assert_eq!((stamps.find(100), stamps.find(150), stamps.find(199)), (Some(0), None, None));
        stamps.remember(200, None);
        assert_eq!(stamps.find(200), None);
    }

    #[test]
    fn stamps_of_either_clock_are_found() {
        gst::init().unwrap();
        for (clock, time, unix) in [
            ("timestamp/x-unix", 1_700_000_000_000_000_000, true),
            ("timestamp/x-cvmmap-media", 33_000_000, false),
        ] {
            let mut buffer = gst::Buffer::new();
            let caps = gst::Caps::new_empty_simple(clock);
            let writable = buffer.get_mut().unwrap();
            let other = gst::Caps::new_empty_simple("timestamp/x-ntp");
            for (caps, time) in [(&other, 5), (&caps, time)] {
                let time = gst::ClockTime::from_nseconds(time);
                gst::ReferenceTimestampMeta::add(writable, caps, time, gst::ClockTime::NONE);
            }
            assert_eq!(stamp(&buffer), Some(time));
            let pad = gst::Pad::builder(gst::PadDirection::Src).build();
            assert_eq!(capture_time(&pad, &buffer, Some(0)), unix.then_some(time), "{clock}");
        }
    }
}
