// SPDX-License-Identifier: MPL-2.0

//! Body packets as structures, and their messages.
//!
//! Taking a packet of eight bodies apart takes a tenth of a millisecond, which neither the threads of the control plane
//! nor the streaming thread have to spare when thousands come at once: messages are made on a thread of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use cvmmap_control::{Body, BodyPacket, names};
use gst::prelude::*;
use gst::subclass::prelude::*;

/// Packets that wait to become messages, 53 MB of eight bodies each; more become none.
const MAX_PENDING: usize = 2048;
/// With so many waiting, messages have no `bodies`, or the wait would only become longer.
const HURRY: usize = 64;

/// What a structure has besides the packet and its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The bodies, field by field.
    Full,
    /// Nothing.
    Header,
}

#[derive(Default)]
struct Pending {
    packets: VecDeque<BodyPacket>,
    closed: bool,
}

/// Makes messages of packets, in their order, until it is dropped.
pub(super) struct Teller(Arc<(Mutex<Pending>, Condvar)>);

impl Teller {
    pub fn start(element: &super::CvMmapSrc) -> std::io::Result<Self> {
        let shared = Arc::<(Mutex<Pending>, Condvar)>::default();
        let (queue, weak) = (shared.clone(), element.downgrade());
        let work = move || {
            while let Some((packet, detail)) = next(&queue) {
                let Some(element) = weak.upgrade() else { return };
                element.imp().post_bodies(&packet, detail);
            }
        };
        std::thread::Builder::new().name("cvmmap-bodies".into()).spawn(work)?;
        Ok(Self(shared))
    }

    /// Queues a packet; `false`: there are too many already. Never waits.
    pub fn tell(&self, packet: BodyPacket) -> bool {
        let (pending, come) = &*self.0;
        let mut pending = pending.lock().unwrap();
        if pending.packets.len() >= MAX_PENDING {
            return false;
        }
        pending.packets.push_back(packet);
        come.notify_one();
        true
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let (pending, come) = &*self.0;
        pending.lock().unwrap().closed = true;
        come.notify_one();
    }
}

/// Waits for the next packet; `None` at the end.
fn next((pending, come): &(Mutex<Pending>, Condvar)) -> Option<(BodyPacket, Detail)> {
    let waits = |pending: &mut Pending| pending.packets.is_empty() && !pending.closed;
    let mut pending = come.wait_while(pending.lock().unwrap(), waits).unwrap();
    if pending.closed {
        return None;
    }
    let detail = if pending.packets.len() > HURRY { Detail::Header } else { Detail::Full };
    pending.packets.pop_front().map(|packet| (packet, detail))
}

/// A packet's bytes in a message that counts as unread for as long as it lives.
struct Marked(Bytes, #[allow(dead_code)] Arc<()>);

impl AsRef<[u8]> for Marked {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn floats<const N: usize>(values: &[f32; N]) -> gst::Array {
    gst::Array::new(values)
}

/// Flat: all numbers of the first, then of the second.
fn rows<const N: usize>(rows: &[[f32; N]]) -> gst::Array {
    gst::Array::new(rows.as_flattened())
}

fn body_structure(body: &Body) -> gst::Structure {
    let joints = usize::from(body.keypoint_count);
    let names = (names::TRACKING_STATES, names::ACTION_STATES);
    gst::Structure::builder("body")
        .field("id", body.id)
        .field("tracking-state", names.0.name_or_unknown(body.tracking_state.into()))
        .field("action-state", names.1.name_or_unknown(body.action_state.into()))
        .field("confidence", body.confidence)
        .field("position", floats(&body.position))
        .field("velocity", floats(&body.velocity))
        .field("dimensions", floats(&body.dimensions))
        .field("bounding-box-2d", rows(&body.bounding_box_2d))
        .field("bounding-box-3d", rows(&body.bounding_box_3d))
        .field("keypoints-2d", rows(&body.keypoint_2d[..joints]))
        .field("keypoints-3d", rows(&body.keypoint_3d[..joints]))
        .field("keypoint-confidence", gst::Array::new(&body.keypoint_confidence[..joints]))
        .field("head-bounding-box-2d", rows(&body.head_bounding_box_2d))
        .field("head-bounding-box-3d", rows(&body.head_bounding_box_3d))
        .field("head-position", floats(&body.head_position))
        .field("global-root-orientation", floats(&body.global_root_orientation))
        .build()
}

/// Sets the fields of the meta and of the message, which are the same.
pub(super) fn describe(
    structure: &mut gst::StructureRef,
    packet: &BodyPacket,
    detail: Detail,
    bytes: gst::Buffer,
) {
    let header = &packet.header;
    structure.set("frame-count", header.frame_count);
    structure.set("timestamp", header.timestamp_ns);
    structure.set("sdk-timestamp", header.sdk_timestamp_ns);
    structure.set("label", &header.label);
    let named = |names: names::Names, number: u8| names.name_or_unknown(number.into());
    structure.set("coordinate-system", named(names::COORDINATE_SYSTEMS, header.coordinate_system));
    structure.set("reference-frame", named(names::REFERENCE_FRAMES, header.reference_frame));
    structure.set("joints", header.joints() as u32);
    structure.set("flags", u32::from(header.flags));
    structure.set("body-count", u32::from(header.body_count));
    if detail == Detail::Full {
        structure.set("bodies", gst::Array::new(packet.bodies().map(|body| body_structure(&body))));
    }
    structure.set("packet", bytes);
}

/// The message of a packet; `mark` lives as long as its bytes do.
pub(super) fn message(packet: &BodyPacket, detail: Detail, mark: Arc<()>) -> gst::Structure {
    let mut message = gst::Structure::new_empty("cvmmapsrc-bodies");
    let bytes = gst::Buffer::from_slice(Marked(packet.bytes().clone(), mark));
    describe(&mut message, packet, detail, bytes);
    message
}
