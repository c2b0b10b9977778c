// SPDX-License-Identifier: MPL-2.0

//! Where the chain ends and the ghost pad begins: what is shown goes out, with its time, number and metas; all else stays.

use std::sync::LazyLock;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::ZedSvoSrc;
use super::session::Session;

static UNIX_CAPS: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

/// What becomes of a buffer.
enum Fate {
    Dropped,
    Held,
    Out(usize, gst::Buffer),
}

impl ZedSvoSrc {
    /// A buffer comes out of the chain.
    pub(super) fn outlet_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(session) = self.session() else { return Err(gst::FlowError::Flushing) };
        let Some(inner) = buffer.pts() else {
            gst::warning!(CAT, imp = self, "the decoder put out a picture without a time: dropped");
            return Ok(gst::FlowSuccess::Ok);
        };
        let frame = session.timeline.frame_of(inner);
        let fate = {
            let mut out = session.out.lock().unwrap();
            match out.shown {
                Some((first, last)) if !(first..=last).contains(&frame) => Fate::Dropped,
                None => Fate::Dropped,
                _ if out.reverse && !session.encoded => {
                    out.held.push((frame, buffer));
                    Fate::Held
                }
                _ => Fate::Out(frame, buffer),
            }
        };
        match fate {
            Fate::Dropped | Fate::Held => Ok(gst::FlowSuccess::Ok),
            Fate::Out(frame, buffer) => self.put_out(&session, frame, buffer),
        }
    }

    fn put_out(
        &self,
        session: &Session,
        frame: usize,
        mut buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let timeline = &session.timeline;
        let (pts, duration) = (timeline.pts(frame), timeline.frame_duration(frame));
        let (discont, before) = {
            let mut out = session.out.lock().unwrap();
            let position = if out.reverse { pts } else { pts + duration };
            out.segment.set_position(position);
            let before = out.last.replace(frame).filter(|&before| before < frame && !out.reverse);
            (std::mem::take(&mut out.discont), before)
        };
        {
            let mut stats = session.stats.lock().unwrap();
            stats.frames += 1;
            stats.bytes += buffer.size() as u64;
        }
        let buffer_mut = buffer.make_mut();
        buffer_mut.set_pts(pts);
        buffer_mut.set_dts(session.encoded.then_some(pts));
        buffer_mut.set_duration(duration);
        buffer_mut.set_offset(frame as u64);
        buffer_mut.set_offset_end(frame as u64 + 1);
        buffer_mut.unset_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::DECODE_ONLY);
        if discont {
            buffer_mut.set_flags(gst::BufferFlags::DISCONT);
        }
        let unix = gst::ClockTime::from_nseconds(timeline.recording.unix_ns(frame));
        gst::ReferenceTimestampMeta::add(buffer_mut, &UNIX_CAPS, unix, gst::ClockTime::NONE);
        if let Some(imu) = &mut *session.imu.lock().unwrap() {
            let time_of = |frame: Option<usize>| frame.map_or(0, |frame| timeline.recording.unix_ns(frame));
            let previous = frame.checked_sub(1);
            imu.attach(buffer_mut, time_of(before.or(previous)), time_of(previous), unix.nseconds());
        }
        let flow = self.src.push(buffer);
        session.out.lock().unwrap().flow = flow;
        flow
    }

    /// Lets out backwards what came forwards.
    fn release(&self, session: &Session) {
        let mut held = std::mem::take(&mut session.out.lock().unwrap().held);
        held.sort_by_key(|&(frame, _)| frame);
        for (frame, buffer) in held.into_iter().rev() {
            if self.put_out(session, frame, buffer).is_err() {
                break;
            }
        }
    }

    /// An event comes out of the chain.
    pub(super) fn outlet_event(
        &self,
        pad: &gst::ProxyPad,
        parent: Option<&gst::Object>,
        event: gst::Event,
    ) -> bool {
        let Some(session) = self.session() else { return false };
        match event.type_() {
            gst::EventType::Segment => {
                let due = {
                    let mut out = session.out.lock().unwrap();
                    let due = std::mem::take(&mut out.segment_due);
                    due.then(|| gst::event::Segment::builder(&out.segment).seqnum(out.seqnum).build())
                };
                due.is_none_or(|event| self.src.push_event(event))
            }
            // The feed says itself when all is over; this only says that the chain is empty.
            gst::EventType::Eos => {
                self.release(&session);
                true
            }
            gst::EventType::FlushStart | gst::EventType::FlushStop
                if session.out.lock().unwrap().reset == Some(event.seqnum()) =>
            {
                true
            }
            gst::EventType::FlushStop => {
                session.out.lock().unwrap().held.clear();
                gst::Pad::event_default(pad, parent, event)
            }
            _ => gst::Pad::event_default(pad, parent, event),
        }
    }

    /// All that was asked for has gone out, or downstream wants no more.
    pub(super) fn end(&self, session: &Session) {
        let (seqnum, segment) = {
            let out = session.out.lock().unwrap();
            (out.seqnum, out.segment.clone())
        };
        let obj = self.obj();
        let nothing = session.stats.lock().unwrap().frames == 0;
        let damaged = session.timeline.recording.damaged();
        if nothing && damaged > 0 {
            gst::element_imp_error!(
                self,
                gst::StreamError::Decode,
                (
                    "no frame of {} to {} can be read: {damaged} are damaged",
                    session.timeline.first,
                    session.timeline.last
                )
            );
        }
        if segment.flags().contains(gst::SegmentFlags::SEGMENT) {
            let position = if segment.rate() < 0. { segment.start() } else { segment.stop() };
            let position = position.unwrap_or_else(|| session.timeline.duration());
            let message = gst::message::SegmentDone::builder(position).src(&*obj).seqnum(seqnum);
            let _ = obj.post_message(message.build());
            self.src.push_event(gst::event::SegmentDone::builder(position).seqnum(seqnum).build());
        } else {
            self.src.push_event(gst::event::Eos::builder().seqnum(seqnum).build());
        }
    }
}
