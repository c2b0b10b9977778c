// SPDX-License-Identifier: MPL-2.0

//! Where the chain ends and the ghost pad begins: what is shown goes out, with its time, number and metas; all else stays.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gst::subclass::prelude::*;
use svo2::{ReadError, words};

use super::CAT;
use super::imp::ZedSvoSrc;
use super::session::Session;

static UNIX_CAPS: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

/// No decoder keeps a picture while it puts out so many that come later.
const REORDERED: usize = 32;

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
            out.inside.remove(&frame);
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
        self.tell_swallowed(&session, frame.saturating_sub(REORDERED));
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
            let gap = before.is_some_and(|before| before + 1 < frame);
            (std::mem::take(&mut out.discont) || gap, before)
        };
        {
            let mut stats = session.stats.lock().unwrap();
            stats.frames += 1;
            stats.bytes += buffer.size() as u64;
            stats.corrupted += u64::from(buffer.flags().contains(gst::BufferFlags::CORRUPTED));
        }
        let buffer_mut = buffer.make_mut();
        buffer_mut.set_pts(pts);
        buffer_mut.set_dts(session.encoded.then_some(pts));
        buffer_mut.set_duration(duration);
        buffer_mut.set_offset(frame as u64);
        buffer_mut.set_offset_end(frame as u64 + 1);
        buffer_mut.unset_flags(gst::BufferFlags::DISCONT);
        if discont {
            buffer_mut.set_flags(gst::BufferFlags::DISCONT);
        }
        let unix_ns = timeline.recording.unix_ns(frame);
        // The largest number is no time.
        if unix_ns != u64::MAX {
            let unix = gst::ClockTime::from_nseconds(unix_ns);
            gst::ReferenceTimestampMeta::add(buffer_mut, &UNIX_CAPS, unix, gst::ClockTime::NONE);
        }
        if let Some(imu) = &mut *session.imu.lock().unwrap() {
            let time_of = |frame: Option<usize>| frame.map_or(0, |frame| timeline.recording.unix_ns(frame));
            let previous = frame.checked_sub(1);
            imu.attach(buffer_mut, time_of(before.or(previous)), time_of(previous), unix_ns);
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
            // Who seeks flushes the outside himself.
            gst::EventType::FlushStart => true,
            gst::EventType::FlushStop => {
                session.out.lock().unwrap().held.clear();
                true
            }
            _ => gst::Pad::event_default(pad, parent, event),
        }
    }

    /// Frames in front of this one that went into the decoder and did not come out will not come any more.
    pub(super) fn tell_swallowed(&self, session: &Session, frame: usize) {
        let (runs, complaint) = {
            let mut out = session.out.lock().unwrap();
            if out.inside.first().is_none_or(|&first| first >= frame) {
                return;
            }
            // Those that follow one another are told of together.
            let mut end = frame;
            while out.inside.contains(&end) {
                end += 1;
            }
            (out.swallowed(end, &session.timeline), out.complaint.take())
        };
        let decoder = session.stats.lock().unwrap().decoder.clone().unwrap_or_default();
        for (first, last) in runs {
            let them = if first == last { "it" } else { "them" };
            let why = format!("{decoder} put nothing out for {them}");
            let why = complaint.iter().fold(why, |why, complaint| format!("{why}: {complaint}"));
            let new = self.tell_lost(session, (first, last), &why);
            session.stats.lock().unwrap().undecoded += new;
        }
    }

    /// What is odd about the recording; each thing once.
    pub(super) fn tell_remarks(&self, session: &Session) {
        let seen = session.remarked.load(Ordering::Acquire);
        let remarks = session.timeline.recording.remarks(seen);
        if remarks.is_empty() {
            return;
        }
        session.remarked.store(seen + remarks.len(), Ordering::Release);
        let location = self.obj().property::<Option<String>>("location").unwrap_or_default();
        for remark in remarks {
            let details = gst::Structure::builder("zedsvosrc-remark").field("remark", &remark).build();
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Read,
                ("property 'location' = '{location}': {remark}"),
                details: details
            );
        }
    }

    /// These frames (inclusive) are not shown; told once. How many of them nobody was told of before.
    pub(super) fn tell_lost(&self, session: &Session, (first, last): (usize, usize), why: &str) -> u64 {
        let new = {
            let mut told = session.told.lock().unwrap();
            (first..=last).filter(|&frame| told.insert(frame)).count() as u64
        };
        if new == 0 {
            return 0;
        }
        session.stats.lock().unwrap().skipped += new;
        gst::warning!(CAT, imp = self, "{} skipped: {why}", words::frames_are(first, last));
        let told = gst::Structure::builder("zedsvosrc-damaged")
            .field("first-frame", first as u64)
            .field("last-frame", last as u64)
            .field("reason", why)
            .build();
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Element::builder(told).src(&*obj).build());
        new
    }

    /// Nothing came of what was asked for, though something was there.
    pub(super) fn tell_nothing(&self, session: &Session, lost: usize) {
        let (first, last) = (session.timeline.first, session.timeline.last);
        let decoder = session.stats.lock().unwrap().decoder.clone();
        match decoder {
            Some(decoder) if lost == 0 => gst::element_imp_error!(
                self,
                gst::StreamError::Decode,
                ("{decoder} put out no picture of {}", words::frames(first, last))
            ),
            _ => gst::element_imp_error!(
                self,
                gst::StreamError::Decode,
                ("no frame of {first} to {last} can be read: {lost} are damaged, or need one that is")
            ),
        }
    }

    /// The file cannot be read any further.
    pub(super) fn tell_unread(&self, error: &ReadError) {
        let location = self.obj().property::<Option<String>>("location").unwrap_or_default();
        gst::element_imp_error!(
            self,
            gst::ResourceError::Read,
            ("property 'location' = '{location}': {error}")
        );
    }

    /// All that was asked for has gone out, or downstream wants no more.
    ///
    /// Whether that was the end of the stream, and not that of a segment.
    pub(super) fn end(&self, session: &Session) -> bool {
        let (seqnum, segment) = {
            let out = session.out.lock().unwrap();
            (out.seqnum, out.segment.clone())
        };
        let obj = self.obj();
        let ends = session.ends.load(Ordering::Acquire);
        if segment.flags().contains(gst::SegmentFlags::SEGMENT) && !ends {
            let position = if segment.rate() < 0. { segment.start() } else { segment.stop() };
            let position = position.unwrap_or_else(|| session.timeline.duration());
            let message = gst::message::SegmentDone::builder(position).src(&*obj).seqnum(seqnum);
            let _ = obj.post_message(message.build());
            self.src.push_event(gst::event::SegmentDone::builder(position).seqnum(seqnum).build());
            return false;
        }
        self.src.push_event(gst::event::Eos::builder().seqnum(seqnum).build());
        true
    }
}
