// SPDX-License-Identifier: MPL-2.0

//! Seeks: what is asked for, and the course and segment that come of it; and the queries about time.

use std::sync::atomic::Ordering;

use gst::prelude::*;
use gst::subclass::prelude::*;
use svo2::Reader;

use super::CAT;
use super::course::{Course, Frames, Plan};
use super::imp::ZedSvoSrc;
use super::session::Session;
use super::timeline::Timeline;

/// A seek that was found possible; the streaming thread does it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seek {
    rate: f64,
    flags: gst::SeekFlags,
    start: (gst::SeekType, Option<gst::ClockTime>),
    stop: (gst::SeekType, Option<gst::ClockTime>),
    seqnum: gst::Seqnum,
}

/// Which key frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Snap {
    Before,
    After,
    Nearest,
}

impl Seek {
    /// `Err` says why it is not one that can be done.
    fn new(event: &gst::event::Seek, timeline: &Timeline) -> Result<Self, String> {
        let (rate, flags, start_type, start, stop_type, stop) = event.get();
        if flags.contains(gst::SeekFlags::INSTANT_RATE_CHANGE) {
            return Err("the rate cannot be changed without a new segment".to_owned());
        }
        let place = |kind, value: gst::GenericFormattedValue| match value {
            gst::GenericFormattedValue::Time(time) => Ok((kind, time)),
            gst::GenericFormattedValue::Default(Some(count)) if kind == gst::SeekType::End => {
                // Below 0, mostly.
                let count = (*count as i64).saturating_add_unsigned(timeline.frames() as u64).max(0);
                Ok((gst::SeekType::Set, Some(timeline.time_of_count(count as u64))))
            }
            gst::GenericFormattedValue::Default(count) => {
                Ok((kind, count.map(|count| timeline.time_of_count(*count))))
            }
            other => Err(format!("positions are times or frames, not {}", other.format())),
        };
        let seek = Self {
            rate,
            flags,
            start: place(start_type, start)?,
            stop: place(stop_type, stop)?,
            seqnum: event.seqnum(),
        };
        let set = |(kind, time)| if kind == gst::SeekType::Set { time } else { None };
        if set(seek.start).zip(set(seek.stop)).is_some_and(|(start, stop)| start > stop) {
            return Err("it stops before it starts".to_owned());
        }
        Ok(seek)
    }

    pub fn flushes(&self) -> bool {
        self.flags.contains(gst::SeekFlags::FLUSH)
    }

    fn snap(&self) -> Option<Snap> {
        let wanted =
            self.flags.contains(gst::SeekFlags::KEY_UNIT) && !self.flags.contains(gst::SeekFlags::ACCURATE);
        let sides = (
            self.flags.contains(gst::SeekFlags::SNAP_BEFORE),
            self.flags.contains(gst::SeekFlags::SNAP_AFTER),
        );
        // Backwards any picture can be the first, at no cost.
        (wanted && self.rate > 0.).then_some(match sides {
            (true, true) => Snap::Nearest,
            (false, true) => Snap::After,
            _ => Snap::Before,
        })
    }

    fn segment(
        &self,
        current: &gst::FormattedSegment<gst::ClockTime>,
    ) -> Option<gst::FormattedSegment<gst::ClockTime>> {
        let mut segment = current.clone();
        segment.do_seek(self.rate, self.flags, self.start.0, self.start.1, self.stop.0, self.stop.1)?;
        if self.rate < 0. && segment.stop().is_none() {
            segment.set_stop(segment.duration());
            segment.set_position(segment.duration());
        }
        Some(segment)
    }

    /// Has the outlet show what is asked for; `None`: nothing is there.
    pub fn begin(&self, session: &Session, reader: &mut Reader) -> Option<Course> {
        let timeline = &session.timeline;
        let current = session.out.lock().unwrap().segment.clone();
        // It was tried when the seek came.
        let mut segment = self.segment(&current)?;
        let start = segment.start().unwrap_or_default();
        if let Some(snap) = self.snap()
            && start < timeline.duration()
        {
            let frame = snapped(timeline, reader, timeline.frame_at(start), start, snap);
            let start = timeline.pts(frame);
            segment.set_start(start);
            segment.set_time(start);
            segment.set_position(start);
        }
        let stop = segment.stop().unwrap_or_else(|| timeline.duration());
        let shown = timeline.shown(segment.start().unwrap_or_default(), stop);
        gst::debug!(CAT, "{segment:?} shows {shown:?}");
        {
            let mut out = session.out.lock().unwrap();
            out.segment = segment;
            out.seqnum = self.seqnum;
            out.late_until = None;
            out.segment_due = true;
            out.shown = None;
            out.reverse = self.rate < 0.;
            out.held.clear();
            out.last = None;
            out.inside.clear();
            out.complaint = None;
            out.discont = true;
            out.flow = Ok(gst::FlowSuccess::Ok);
        }
        let (first, last) = shown?;
        Some(Course::new(Plan {
            first,
            last,
            reverse: self.rate < 0.,
            keys_only: self.flags.contains(gst::SeekFlags::TRICKMODE_KEY_UNITS),
            encoded: session.encoded,
            floor: timeline.first,
            batch: session.batch,
        }))
    }
}

/// The frame beside `frame`, which is shown at `time`, that can be had without decoding others.
fn snapped(
    timeline: &Timeline,
    reader: &mut Reader,
    frame: usize,
    time: gst::ClockTime,
    snap: Snap,
) -> usize {
    let inside = |frame: usize| Some(frame).filter(|frame| (timeline.first..=timeline.last).contains(frame));
    let before = Frames::entry_for(reader, frame).map(|entry| reader.recovered(entry).min(frame));
    // The cut itself is as good a place to begin as any before it.
    let before = before.map(|before| before.max(timeline.first)).unwrap_or(timeline.first);
    if timeline.pts(before) == time {
        return before;
    }
    let after = reader.next_entry(frame + 1).and_then(|(_, right)| inside(right));
    match (snap, after) {
        (Snap::Before, _) | (_, None) => before,
        (Snap::After, Some(after)) => after,
        (Snap::Nearest, Some(after)) => {
            let nearer = timeline.pts(after).saturating_sub(time) < time.saturating_sub(timeline.pts(before));
            if nearer { after } else { before }
        }
    }
}

impl ZedSvoSrc {
    pub(super) fn source_event(&self, pad: &gst::GhostPad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Seek(seek) => self.seek(seek),
            gst::EventView::Qos(qos) => self.qos(pad, qos),
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn seek(&self, event: &gst::event::Seek) -> bool {
        let (Some(session), Some(feed)) = (self.session(), self.feed()) else {
            gst::info!(CAT, imp = self, "refused: {event:?}; the recording is opened on the way to PAUSED");
            return false;
        };
        let seek = match Seek::new(event, &session.timeline) {
            Ok(seek) => seek,
            Err(why) => {
                gst::info!(CAT, imp = self, "refused: {event:?}; {why}");
                return false;
            }
        };
        let current = session.out.lock().unwrap().segment.clone();
        let Some(segment) = seek.segment(&current) else {
            gst::info!(CAT, imp = self, "refused: {event:?}; no segment comes of it");
            return false;
        };
        if !feed.pad().is_active() {
            gst::info!(CAT, imp = self, "refused: {event:?}; nothing streams yet, or any more");
            return false;
        }
        if session.sought.lock().unwrap().replace(seek.seqnum) == Some(seek.seqnum) {
            return true;
        }
        session.stats.lock().unwrap().seeks += 1;
        let position = segment.position();
        if seek.flags.contains(gst::SeekFlags::SEGMENT) {
            let obj = self.obj();
            let start = gst::message::SegmentStart::builder(position.unwrap_or_default());
            let _ = obj.post_message(start.src(&*obj).seqnum(seek.seqnum).build());
        }
        if !seek.flushes() {
            *session.pending.lock().unwrap() = Some(seek);
            return feed.resume();
        }
        // Outside and inside are flushed by themselves: the streaming thread flushes the inside, too, and who flushes what
        // is being flushed is not heard.
        let pad = feed.pad();
        let flush_start = || gst::event::FlushStart::builder().seqnum(seek.seqnum).build();
        let flush_stop = || gst::event::FlushStop::builder(true).seqnum(seek.seqnum).build();
        session.flushes.fetch_add(1, Ordering::AcqRel);
        self.src.push_event(flush_start());
        pad.push_event(flush_start());
        let _ = pad.pause_task();
        let _lock = pad.stream_lock();
        session.ends.store(false, Ordering::Release);
        *session.pending.lock().unwrap() = Some(seek);
        session.out.lock().unwrap().late_until = None;
        pad.push_event(flush_stop());
        self.src.push_event(flush_stop());
        session.flushes.fetch_sub(1, Ordering::AcqRel);
        feed.resume()
    }

    /// Tells the decoder what downstream says of being late, in the times inside.
    fn qos(&self, pad: &gst::GhostPad, qos: &gst::event::Qos) -> bool {
        let Some(session) = self.session() else { return false };
        let (segment, seqnum) = {
            let out = session.out.lock().unwrap();
            (out.segment.clone(), out.seqnum)
        };
        let (kind, proportion, diff, timestamp) = qos.get();
        // What is late of a segment that a seek has ended is late no more.
        if segment.rate() <= 0. || session.encoded || session.pending.lock().unwrap().is_some() {
            return true;
        }
        let position = timestamp.and_then(|timestamp| segment.position_from_running_time(timestamp));
        let Some(position) = position else { return true };
        let diff = (diff as f64 * segment.rate()) as i64;
        let inner = position.saturating_add(session.timeline.origin());
        // Decoders leave frames out up to twice as far, and look at their own clocks besides.
        let margin = gst::ClockTime::from_nseconds(diff.unsigned_abs().saturating_mul(2))
            .saturating_add(gst::ClockTime::SECOND);
        let until = (diff > 0).then(|| inner.saturating_add(margin));
        let late = |until: Option<gst::ClockTime>| {
            until.into_iter().for_each(|until| session.out.lock().unwrap().late(until, seqnum));
        };
        // From the moment on that it hears of it; and again, since it may have been flushed just before.
        late(until);
        let event = gst::event::Qos::builder(kind, proportion, diff).timestamp(inner).seqnum(qos.seqnum());
        let heard = gst::Pad::event_default(pad, Some(&*self.obj()), event.build());
        late(until);
        if until.is_none() {
            session.out.lock().unwrap().in_time(&session.timeline);
        }
        heard
    }

    pub(super) fn source_query(&self, pad: &gst::GhostPad, query: &mut gst::QueryRef) -> bool {
        let Some(session) = self.session() else {
            return gst::Pad::query_default(pad, Some(&*self.obj()), query);
        };
        let timeline = &session.timeline;
        let count = gst::format::Default::from_u64;
        match query.view_mut() {
            gst::QueryViewMut::Duration(query) => match query.format() {
                gst::Format::Time => query.set(timeline.duration()),
                gst::Format::Default => query.set(count(timeline.frames() as u64)),
                _ => return false,
            },
            gst::QueryViewMut::Position(query) => {
                let (position, last) = {
                    let out = session.out.lock().unwrap();
                    (out.segment.position().unwrap_or_default(), out.last)
                };
                let shown = last.map_or(position, |frame| timeline.pts(frame));
                match query.format() {
                    gst::Format::Time => query.set(position),
                    gst::Format::Default => query.set(count(timeline.count_at(shown))),
                    _ => return false,
                }
            }
            gst::QueryViewMut::Seeking(query) => match query.format() {
                gst::Format::Time => query.set(true, gst::ClockTime::ZERO, timeline.duration()),
                gst::Format::Default => query.set(true, count(0), count(timeline.frames() as u64)),
                format => query.set(
                    false,
                    gst::GenericFormattedValue::new(format, 0),
                    gst::GenericFormattedValue::new(format, -1),
                ),
            },
            gst::QueryViewMut::Segment(query) => {
                let segment = session.out.lock().unwrap().segment.clone();
                let stop = segment.stop().or(segment.duration());
                query.set(segment.rate(), segment.start().unwrap_or_default(), stop);
            }
            gst::QueryViewMut::Convert(query) => {
                let (value, to) = query.get();
                match (value, to) {
                    (gst::GenericFormattedValue::Default(Some(frames)), gst::Format::Time) => {
                        query.set(value, timeline.time_of_count(*frames));
                    }
                    (gst::GenericFormattedValue::Time(Some(time)), gst::Format::Default) => {
                        query.set(value, count(timeline.count_at(time)));
                    }
                    (value, to) if value.format() == to => query.set(value, value),
                    _ => return false,
                }
            }
            _ => return gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
        true
    }
}
