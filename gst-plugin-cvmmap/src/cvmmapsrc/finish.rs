// SPDX-License-Identifier: MPL-2.0

//! What a frame gets before it goes downstream: time, flags, metas; and what is told of it.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cvmmap_ipc::Coherence;
use cvmmap_ipc::clock::{is_same_clock, is_unix_time, unix_now_ns};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

use super::CAT;
use super::bodies::attach;
use super::frames::{Snapshot, Streaming};
use super::imp::CvMmapSrc;
use super::settings::TimestampMode;

static UNIX_CAPS: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));
/// Of stamps by another clock: a replay's media time.
static MEDIA_CAPS: LazyLock<gst::Caps> =
    LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-cvmmap-media"));

/// Latency is told anew when it changed by more than this, in ns.
const LATENCY_STEP_NS: u64 = 2_000_000;

impl CvMmapSrc {
    /// Puts time, flags and metas on a buffer; `None` where it is of no use to a decoder.
    pub(super) fn finish(&self, s: &mut Streaming, snapshot: Snapshot) -> Option<gst::Buffer> {
        let Snapshot { mut buffer, frame, arrived, pts, key, discont, reset, bare } = snapshot;
        s.discont |= discont;
        s.gate.frame(frame.count);
        let passed = key.map(|key| s.gate.pass(key));
        bare.into_iter().for_each(|count| s.gate.frame(count));
        match passed {
            Some(Some(first)) => s.discont |= first,
            Some(None) => {
                gst::debug!(CAT, imp = self, "frame {} dropped: waiting for a key frame", frame.count);
                self.stats.lock().unwrap().unusable += 1;
                return None;
            }
            None => (),
        }
        let bodies = match s.settings.body_tracking {
            true => self.bodies.lock().unwrap().take(frame),
            false => None,
        };
        let first = self.stats.lock().unwrap().frames == 0;
        // Time goes on through resets, restarts and steps of clocks.
        let pts = pts.map(|pts| s.last_pts.map_or(pts, |last| pts.max(last + gst::ClockTime::NSECOND)));
        s.last_pts = pts.or(s.last_pts);
        let buffer_ref = buffer.make_mut();
        buffer_ref.set_pts(pts);
        buffer_ref.set_offset(frame.count.into());
        buffer_ref.set_offset_end(u64::from(frame.count) + 1);
        if key == Some(false) {
            buffer_ref.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        if std::mem::take(&mut s.discont) || first {
            buffer_ref.set_flags(gst::BufferFlags::DISCONT);
        }
        let clock = if is_unix_time(frame.timestamp_ns) { &UNIX_CAPS } else { &MEDIA_CAPS };
        // The largest number is GStreamer's word for no time.
        if let Ok(stamp) = gst::ClockTime::try_from(frame.timestamp_ns) {
            gst::ReferenceTimestampMeta::add(buffer_ref, clock, stamp, gst::ClockTime::NONE);
        }
        if let Some(packet) = bodies {
            attach(buffer_ref, &packet);
        }
        let bytes = buffer_ref.size() as u64;
        if let Some(pts) = pts {
            s.ended = self.follow_timeline(s, frame, pts);
        }
        if reset && !first {
            let event = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
            self.obj().src_pad().push_event(event);
        }
        let told = self.tell(|telling| telling.frame(frame, Instant::now()));
        // It may have come before its endpoints were there, or without a word.
        if told && self.source_info.lock().unwrap().is_none() {
            self.ask_for_info();
        }
        let now = unix_now_ns();
        let mut stats = self.stats.lock().unwrap();
        stats.frames += 1;
        stats.bytes += bytes;
        stats.last_frame = Some(frame);
        stats.latencies.push(arrived.elapsed().as_nanos() as u64);
        if is_same_clock(frame.timestamp_ns, now) {
            stats.capture_latencies.push(now.saturating_sub(frame.timestamp_ns));
        }
        drop(stats);
        Some(buffer)
    }

    /// A frame interval, since the source has at most one frame; besides what the time mode and the level add.
    pub(super) fn update_latency(&self, s: &Streaming) {
        let Some(interval) = s.rate.interval_ns() else { return };
        let delay = match s.settings.timestamp_mode {
            TimestampMode::Arrival => 0,
            TimestampMode::Capture => s.rate.delay_ns(),
        };
        let proof = if s.reader.config().coherence == Coherence::NextSync { interval } else { 0 };
        let bodies = s.settings.body_wait().map_or(0, |wait| wait.as_nanos() as u64);
        let latency = interval + delay + proof + bodies;
        if latency.abs_diff(self.latency_ns.load(Ordering::Relaxed)) > LATENCY_STEP_NS.max(interval / 8) {
            self.latency_ns.store(latency, Ordering::Relaxed);
            gst::debug!(CAT, imp = self, "latency is {latency} ns");
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    pub(super) fn post(&self, structure: gst::Structure) {
        let obj = self.obj();
        // Without a bus nobody wants to know.
        let _ = obj.post_message(gst::message::Element::builder(structure).src(&*obj).build());
    }
}
