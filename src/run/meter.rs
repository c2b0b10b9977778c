// SPDX-License-Identifier: MPL-2.0

//! What passes through the pipeline, counted and timed by probes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use cvmmap_ipc::clock::unix_now_ns;
use gst::prelude::*;
use serde::Serialize;

use super::stamps::{INSIDE, Stamps, capture_time, running_time, stamp};

/// Percentiles are of so many pictures.
const WINDOW: usize = 1024;

/// Counts since the start.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Totals {
    /// Pictures that came out of the source.
    pub frames_in: u64,
    /// Pictures that went into the encoder; the others were replaced by later ones in the queue.
    pub frames_encoded: u64,
    /// Access units that came out of the encoder.
    pub frames_out: u64,
    /// Of these, such that decoding can begin at.
    pub key_frames: u64,
    /// Bytes of access units.
    pub bytes: u64,
    /// RTP packets handed to the socket.
    pub rtp_packets: u64,
}

/// From the capture stamp to the end of the measured way, in ns.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Latency {
    /// Of half of the pictures.
    pub p50_ns: u64,
    /// Of one in a hundred, or more.
    pub p99_ns: u64,
    /// Of the last picture.
    pub last_ns: u64,
}

#[derive(Debug, Default)]
struct State {
    totals: Totals,
    /// Running time of pictures that went into the encoder, and the Unix time of their capture.
    inside: VecDeque<(u64, u64)>,
    latencies: VecDeque<u64>,
}

/// The probes' common state.
#[derive(Debug, Default)]
pub struct Meter {
    state: Mutex<State>,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Counts so far.
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Of the last pictures; `None` before the first.
    pub fn latency(&self) -> Option<Latency> {
        let state = self.lock();
        let last_ns = *state.latencies.back()?;
        let mut sorted: Vec<u64> = state.latencies.iter().copied().collect();
        drop(state);
        sorted.sort_unstable();
        let at = |part: usize| sorted[(sorted.len() - 1) * part / 100];
        Some(Latency { p50_ns: at(50), p99_ns: at(99), last_ns })
    }

    /// Counts what the source puts out.
    pub fn watch_source(self: &Arc<Self>, pad: &gst::Pad) {
        self.watch(pad, |meter, _, _| meter.lock().totals.frames_in += 1);
    }

    /// Counts and remembers what goes into the encoder, also in `stamps`.
    pub fn watch_encoder(self: &Arc<Self>, pad: &gst::Pad, stamps: &Arc<Stamps>) {
        let stamps = stamps.clone();
        self.watch(pad, move |meter, pad, buffer| {
            let running = running_time(pad, buffer);
            let capture = capture_time(pad, buffer, running);
            if let Some(running) = running {
                stamps.remember(running, stamp(buffer));
            }
            let mut state = meter.lock();
            state.totals.frames_encoded += 1;
            if let (Some(running), Some(capture)) = (running, capture) {
                state.inside.push_back((running, capture));
                if state.inside.len() > INSIDE {
                    state.inside.pop_front();
                }
            }
        });
    }

    /// Counts access units; where nothing else does, takes the time at which they come.
    pub fn watch_output(self: &Arc<Self>, pad: &gst::Pad, timed: bool) {
        self.watch(pad, move |meter, pad, buffer| {
            {
                let totals = &mut meter.lock().totals;
                totals.frames_out += 1;
                totals.bytes += buffer.size() as u64;
                totals.key_frames += u64::from(!buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
            }
            if timed {
                meter.arrived(running_time(pad, buffer));
            }
        });
    }

    /// Counts packets, and takes the time at which the first of each picture is handed to the socket.
    pub fn watch_packets(self: &Arc<Self>, pad: &gst::Pad) {
        self.watch(pad, |meter, pad, buffer| {
            meter.lock().totals.rtp_packets += 1;
            meter.arrived(running_time(pad, buffer));
        });
    }

    /// A picture is found once, so only the first packet counts.
    fn arrived(&self, running: Option<u64>) {
        let now = unix_now_ns();
        let mut state = self.lock();
        let Some(at) = running.and_then(|time| state.inside.iter().position(|(other, _)| *other == time))
        else {
            return;
        };
        let Some((_, capture)) = state.inside.remove(at) else { return };
        state.latencies.push_back(now.saturating_sub(capture));
        if state.latencies.len() > WINDOW {
            state.latencies.pop_front();
        }
    }

    fn watch(
        self: &Arc<Self>,
        pad: &gst::Pad,
        see: impl Fn(&Self, &gst::Pad, &gst::BufferRef) + Send + Sync + 'static,
    ) {
        let meter = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |pad, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => see(&meter, pad, buffer),
                Some(gst::PadProbeData::BufferList(list)) => {
                    list.iter().for_each(|buffer| see(&meter, pad, buffer))
                }
                _ => (),
            }
            gst::PadProbeReturn::Ok
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_timed_by_its_first_packet() {
        let meter = Meter::default();
        assert!(meter.latency().is_none());
        meter.lock().inside.extend([(10, unix_now_ns() - 5_000_000), (20, unix_now_ns() - 1_000_000)]);
        meter.arrived(Some(10));
        let first = meter.latency().unwrap();
        assert!(first.last_ns >= 5_000_000 && first.p50_ns == first.last_ns && first.p99_ns == first.last_ns);
        meter.arrived(Some(10));
        meter.arrived(None);
        assert_eq!(meter.latency().unwrap().last_ns, first.last_ns, "the other packets do not count");
        meter.arrived(Some(20));
        assert!(meter.latency().unwrap().last_ns >= 1_000_000);
    }
}
