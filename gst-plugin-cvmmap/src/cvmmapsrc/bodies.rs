// SPDX-License-Identifier: MPL-2.0

//! Body packets: kept until their frame goes out, put on its buffer, and told of as messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cvmmap_control::BodyPacket;
use cvmmap_ipc::FrameId;

use super::body_message::{Detail, describe, message};
use super::control::{Payload, count};
use super::imp::CvMmapSrc;

/// Name of the custom meta, and of its structure.
pub const BODIES_META: &str = "GstCvMmapBodiesMeta";

/// Packets that wait for frames to come: more than eight seconds at 30 a second, 7 MB of eight bodies each.
const KEPT: usize = 256;
/// Frames that went out without a packet, to tell whose packet came late.
const REMEMBERED: usize = 64;
/// What came so shortly before a reset was known may belong to what follows it.
const AROUND_RESET: Duration = Duration::from_millis(250);
/// Messages on a bus that nobody reads: more are not posted.
const MAX_UNREAD: usize = 1024;

/// Registers the meta. It has no tags, so that it survives copies and whatever is done to the picture.
pub(crate) fn register_meta() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| gst::meta::CustomMeta::register(BODIES_META, &[]));
}

/// The bodies that `cvmmapsrc body-tracking=true` put on a buffer, read from the packet as it came over NATS.
///
/// `None` where the buffer has none. The packet's bytes are not copied.
pub fn bodies_of(buffer: &gst::BufferRef) -> Option<BodyPacket> {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, BODIES_META).ok()?;
    let packet: gst::Buffer = meta.structure().get("packet").ok()?;
    BodyPacket::parse(Bytes::from_owner(packet.into_mapped_buffer_readable().ok()?)).ok()
}

/// What became of the packets.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub taken: u64,
    pub attached: u64,
    /// Came after their frame had gone out.
    pub late: u64,
    /// Whose frame never went out.
    pub unmatched: u64,
    /// Not posted, since nobody reads the bus.
    pub untold: u64,
}

/// Packets and frames that wait for each other.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    pub counts: Counts,
    /// Oldest first.
    waiting: VecDeque<(Instant, BodyPacket)>,
    /// Frames that are there and wait, as they were counted last: each may find its packet.
    frames: usize,
    /// Frames that went out without a packet, oldest first.
    bare: VecDeque<FrameId>,
    last: Option<FrameId>,
    /// Its clones are in the messages that were not read yet.
    unread: Arc<()>,
}

/// The same frame, as far as the packet tells.
fn is_of(packet: &BodyPacket, frame: &FrameId) -> bool {
    let (stamp, header) = (frame.timestamp_ns, &packet.header);
    header.frame_count == frame.count
        && (header.timestamp_ns == stamp || header.timestamp_ns == 0 || stamp == 0)
}

impl Bodies {
    pub fn insert(&mut self, packet: BodyPacket, now: Instant) {
        self.counts.taken += 1;
        if let Some(at) = self.bare.iter().position(|frame| is_of(&packet, frame)) {
            self.bare.remove(at);
            self.counts.late += 1;
            return;
        }
        while self.waiting.len() >= KEPT + self.frames {
            self.waiting.pop_front();
            self.counts.unmatched += 1;
        }
        self.waiting.push_back((now, packet));
    }

    /// Whether a frame's packet is there; `frames` wait, and it is one of them.
    pub fn has(&mut self, frame: &FrameId, frames: usize) -> bool {
        self.frames = frames;
        self.waiting.iter().any(|(_, packet)| is_of(packet, frame))
    }

    /// The packet of a frame that goes out now. Those before it are of frames that never will.
    pub fn take(&mut self, frame: FrameId) -> Option<BodyPacket> {
        self.last = Some(frame);
        // The newest: one of the same count from before a reset came earlier.
        let Some(at) = self.waiting.iter().rposition(|(_, packet)| is_of(packet, &frame)) else {
            if self.bare.len() == REMEMBERED {
                self.bare.pop_front();
            }
            self.bare.push_back(frame);
            return None;
        };
        self.counts.attached += 1;
        self.counts.unmatched += at as u64;
        self.waiting.drain(..=at).next_back().map(|(_, packet)| packet)
    }

    /// The stream starts anew, and counts come again: what is of before may match no more.
    pub fn forget(&mut self, now: Instant) {
        let last = self.last.take();
        self.bare.clear();
        let before = self.waiting.len();
        self.waiting.retain(|(at, packet)| {
            now.saturating_duration_since(*at) < AROUND_RESET
                && last.is_some_and(|last| packet.header.frame_count < last.count)
        });
        self.counts.unmatched += (before - self.waiting.len()) as u64;
    }

    /// Everything but the counts and the messages on the bus.
    pub fn restart(&mut self) {
        *self = Self { unread: self.unread.clone(), ..Self::default() };
    }

    /// A mark for a message, as long as there may be more of them.
    fn mark(&mut self) -> Option<Arc<()>> {
        let marked = Arc::strong_count(&self.unread) <= MAX_UNREAD;
        self.counts.untold += u64::from(!marked);
        marked.then(|| self.unread.clone())
    }
}

/// Puts a packet on the buffer of its frame.
pub(super) fn attach(buffer: &mut gst::BufferRef, packet: &BodyPacket) {
    let mut meta = gst::meta::CustomMeta::add(buffer, BODIES_META).expect("registered with the plugin");
    let bytes = gst::Buffer::from_slice(packet.bytes().clone());
    describe(meta.mut_structure(), packet, Detail::Full, bytes);
}

impl CvMmapSrc {
    /// A body packet came.
    pub(super) fn take_packet(&self, payload: Payload) {
        let Some(control) = self.open_connection() else { return };
        let len = payload.len();
        let packet = match BodyPacket::parse(payload) {
            Ok(packet) => packet,
            Err(why) => {
                let first = count(&mut self.heard.lock().unwrap().invalid_bodies);
                self.complain(first, format_args!("a body packet of {len} bytes: {why}"));
                return;
            }
        };
        let label = &packet.header.label;
        // Keys are not unique: `cam.0` and `cam_0` share one.
        if !label.is_empty() && control.instance.as_ref().is_some_and(|instance| instance != label) {
            return;
        }
        self.bodies.lock().unwrap().insert(packet.clone(), Instant::now());
        if self.awaits_bodies.swap(false, Ordering::AcqRel) {
            self.nudge();
        }
        if !control.teller.as_ref().is_some_and(|teller| teller.tell(packet)) {
            self.bodies.lock().unwrap().counts.untold += 1;
        }
    }

    /// Posts a packet's message, unless there are enough that nobody has read.
    pub(super) fn post_bodies(&self, packet: &BodyPacket, detail: Detail) {
        let Some(mark) = self.bodies.lock().unwrap().mark() else { return };
        self.post(message(packet, detail, mark));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(count: u32, stamp: u64) -> BodyPacket {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(&[0x62, 1, 1, 0]);
        bytes[4..8].copy_from_slice(&count.to_le_bytes());
        bytes[8..16].copy_from_slice(&stamp.to_le_bytes());
        bytes[0x1a..0x1c].copy_from_slice(&3248u16.to_le_bytes());
        BodyPacket::parse(bytes.into()).unwrap()
    }

    fn frame(count: u32, timestamp_ns: u64) -> FrameId {
        FrameId { count, timestamp_ns }
    }

    fn counts(bodies: &Bodies) -> [u64; 4] {
        let counts = bodies.counts;
        [counts.taken, counts.attached, counts.late, counts.unmatched]
    }

    #[test]
    fn a_packet_meets_its_frame_and_no_other() {
        let now = Instant::now();
        let mut bodies = Bodies::default();
        for count in 1..=4 {
            bodies.insert(packet(count, u64::from(count) * 10), now);
        }
        assert_eq!(bodies.take(frame(3, 77)), None, "the same count, another time");
        assert!(bodies.has(&frame(3, 30), 1));
        // Frames 1 and 2 were dropped.
        assert_eq!(bodies.take(frame(3, 30)).unwrap().header.frame_count, 3);
        assert_eq!(bodies.take(frame(4, 0)).unwrap().header.frame_count, 4, "no time known");
        assert_eq!(bodies.take(frame(5, 50)), None);
        bodies.insert(packet(5, 50), now);
        assert_eq!(counts(&bodies), [5, 2, 1, 2]);
    }

    #[test]
    fn packets_of_before_a_reset_match_nothing_after_it() {
        let now = Instant::now();
        let mut bodies = Bodies::default();
        bodies.take(frame(100, 1));
        // For a frame that never came; and of the new round, whose first frame is just behind it.
        bodies.insert(packet(101, 0), now);
        bodies.insert(packet(2, 0), now - 2 * AROUND_RESET);
        bodies.insert(packet(0, 0), now);
        bodies.forget(now);
        assert!(bodies.take(frame(0, 5)).is_some());
        assert!(bodies.take(frame(2, 7)).is_none() && bodies.take(frame(101, 9)).is_none());
        assert_eq!(counts(&bodies), [3, 1, 0, 2]);
    }

    #[test]
    fn what_waits_in_vain_is_bounded() {
        let now = Instant::now();
        let mut bodies = Bodies::default();
        for count in 0..18_000 {
            bodies.insert(packet(count, 0), now);
        }
        assert_eq!(bodies.waiting.len(), KEPT);
        assert_eq!(counts(&bodies), [18_000, 0, 0, 18_000 - KEPT as u64]);
        // One that has none holds up those behind it, whose packets come.
        assert!(!bodies.has(&frame(18_000, 0), 600));
        for count in 18_001..18_601 {
            bodies.insert(packet(count, 0), now);
        }
        assert!(bodies.has(&frame(18_001, 0), 600) && bodies.waiting.len() <= KEPT + 600);
        assert!(bodies.has(&frame(18_600, 0), 1));
        bodies.insert(packet(18_601, 0), now);
        assert_eq!(bodies.waiting.len(), KEPT + 1);
        let marks: Vec<_> = std::iter::from_fn(|| bodies.mark()).take(2 * MAX_UNREAD).collect();
        assert_eq!((marks.len(), bodies.counts.untold), (MAX_UNREAD, 1));
        drop(marks);
        assert!(bodies.mark().is_some());
    }
}
