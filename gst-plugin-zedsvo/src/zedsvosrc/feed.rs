// SPDX-License-Identifier: MPL-2.0

//! The element at the head of the bin: reads access units in the order of a course and pushes them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use svo2::{Damage, Kind, ReadError, Reader};

use super::course::{Course, Plan, Step};
use super::pools::Pools;
use super::session::Session;
use super::{CAT, ZedSvoSrc};

glib::wrapper! {
    pub struct Feed(ObjectSubclass<imp::Feed>) @extends gst::Element, gst::Object;
}

impl Feed {
    pub(super) fn new(session: Arc<Session>, bin: &ZedSvoSrc) -> Self {
        let feed: Self = glib::Object::builder().property("name", "feed").build();
        let plan = Plan {
            first: session.timeline.first,
            last: session.timeline.last,
            reverse: false,
            keys_only: false,
            encoded: session.encoded,
            floor: session.timeline.first,
            batch: session.batch,
        };
        let work = Work {
            reader: Reader::new(session.timeline.recording.clone()),
            course: Some(Course::new(plan)),
            pools: Pools::default(),
            begun: false,
            fresh: true,
            discont: true,
            pushed: 0,
            lost: 0,
            ended: false,
            bin: bin.downgrade(),
            session,
        };
        *feed.imp().work.lock().unwrap() = Some(work);
        feed
    }

    pub fn pad(&self) -> &gst::Pad {
        &self.imp().pad
    }

    /// Has the streaming thread go on, if it had come to an end.
    pub fn resume(&self) -> bool {
        self.pad().is_active() && self.imp().start_task().is_ok()
    }
}

/// What the streaming thread works with.
pub(super) struct Work {
    session: Arc<Session>,
    bin: glib::WeakRef<ZedSvoSrc>,
    reader: Reader,
    /// `None`: there is nothing to show.
    course: Option<Course>,
    pools: Pools,
    begun: bool,
    /// The chain has got nothing since it was begun or flushed.
    fresh: bool,
    /// The next access unit does not follow on the last.
    discont: bool,
    /// Frames of the course that were to be shown and went into the chain, and that were lost.
    pushed: usize,
    lost: usize,
    /// The end of the stream was told.
    ended: bool,
}

/// Why streaming does not go on.
enum Stop {
    Flow(gst::FlowError),
    Unread(ReadError),
    End,
}

mod imp {
    use super::*;

    pub struct Feed {
        pub pad: gst::Pad,
        pub(super) work: Mutex<Option<Work>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Feed {
        const NAME: &'static str = "GstZedSvoFeed";
        type Type = super::Feed;
        type ParentType = gst::Element;

        fn with_class(klass: &Self::Class) -> Self {
            let template = klass.pad_template("src").expect("it is ours");
            let pad = gst::Pad::builder_from_template(&template)
                .activatemode_function(|_, parent, mode, active| {
                    let refused = || Err(gst::loggable_error!(CAT, "deactivated"));
                    Self::catch_panic_pad_function(parent, refused, |feed| feed.activate(mode, active))
                })
                .query_function(|pad, parent, query| match query.view_mut() {
                    gst::QueryViewMut::Latency(latency) => {
                        latency.set(false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                        true
                    }
                    _ => gst::Pad::query_default(pad, parent, query),
                })
                .build();
            Self { pad, work: Mutex::default() }
        }
    }

    impl ObjectImpl for Feed {
        fn constructed(&self) {
            self.parent_constructed();
            self.obj().add_pad(&self.pad).expect("the pad is new");
            self.obj().set_element_flags(gst::ElementFlags::SOURCE);
        }
    }

    impl GstObjectImpl for Feed {}

    impl ElementImpl for Feed {
        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let mut caps = gst::Caps::new_empty_simple("video/x-h264");
                caps.merge(gst::Caps::new_empty_simple("video/x-h265"));
                let template =
                    gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &caps);
                vec![template.expect("a valid template")]
            });
            &TEMPLATES
        }
    }

    impl Feed {
        fn activate(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
            if mode != gst::PadMode::Push {
                return Err(gst::loggable_error!(CAT, "the source pushes only"));
            }
            if active { self.start_task() } else { self.pad.stop_task() }
                .map_err(|error| gst::loggable_error!(CAT, "streaming task: {error}"))
        }

        pub fn start_task(&self) -> Result<(), glib::BoolError> {
            let weak = self.obj().downgrade();
            self.pad.start_task(move || {
                if let Some(feed) = weak.upgrade() {
                    feed.imp().step();
                }
            })
        }

        /// One round of the streaming task.
        fn step(&self) {
            let Some(mut work) = self.work.lock().unwrap().take() else {
                let _ = self.pad.pause_task();
                return;
            };
            let session = work.session.clone();
            let result = self.advance(&mut work);
            let sought = || session.pending.lock().unwrap().is_some();
            if let Err(stop) = result
                && !sought()
            {
                let _ = self.pad.pause_task();
                if session.flushes.load(Ordering::Acquire) == 0 {
                    self.stop(&mut work, stop);
                }
                // A seek that came meanwhile found the task still running.
                if sought() {
                    self.obj().resume();
                }
            }
            *self.work.lock().unwrap() = Some(work);
        }

        fn advance(&self, work: &mut Work) -> Result<(), Stop> {
            let session = work.session.clone();
            if !work.begun {
                work.begun = true;
                self.begin(&session);
            }
            let seek = session.pending.lock().unwrap().take();
            if let Some(seek) = seek {
                if !seek.flushes() {
                    self.reset(work);
                }
                work.course = seek.begin(&session, &mut work.reader);
                (work.fresh, work.discont, work.ended) = (true, true, false);
                (work.pushed, work.lost) = (0, 0);
                self.push_segment();
            }
            if session.ends.load(Ordering::Acquire) {
                return Err(Stop::End);
            }
            let Some(course) = &mut work.course else { return Err(Stop::End) };
            let step = course.next(&mut work.reader);
            // Here or where samples are read: what was found since, or not found, says nothing of the recording.
            if let Some(error) = session.timeline.recording.read_error() {
                return Err(Stop::Unread(error.clone()));
            }
            if let Some(bin) = work.bin.upgrade() {
                bin.imp().tell_remarks(&session);
            }
            match step {
                Step::Piece { first, last } => self.begin_piece(work, (first, last)),
                Step::Frame { frame, shown } => self.push_frame(work, frame, shown),
                Step::Lost { first, last, why } => {
                    work.lost += last - first + 1;
                    if let Some(bin) = work.bin.upgrade() {
                        bin.imp().tell_lost(&session, (first, last), &why);
                    }
                    Ok(())
                }
                Step::End => Err(Stop::End),
            }
        }

        fn begin(&self, session: &Session) {
            let id = self.pad.create_stream_id(&*self.obj(), None);
            let start = gst::event::StreamStart::builder(&id).group_id(gst::GroupId::next()).build();
            self.pad.push_event(start);
            self.pad.push_event(gst::event::Caps::new(&session.caps));
            self.push_segment();
        }

        /// The inner segment, which is wide open: what goes out is decided at the outlet, which has the segment for
        /// outside.
        fn push_segment(&self) {
            self.pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        }

        fn begin_piece(&self, work: &mut Work, shown: (usize, usize)) -> Result<(), Stop> {
            work.discont = true;
            let first_of_plan = std::mem::replace(&mut work.fresh, false);
            if !first_of_plan && !work.session.encoded {
                self.reset(work);
                self.push_segment();
            }
            let mut out = work.session.out.lock().unwrap();
            out.shown = Some(shown);
            out.discont |= !out.reverse || work.session.encoded;
            // Backwards, what was held went out while the chain was drained.
            out.flow.map(|_| ()).map_err(Stop::Flow)
        }

        /// Gets out of the chain what is in it, and has it begin anew, whichever decoder it is.
        fn reset(&self, work: &Work) {
            if work.session.encoded {
                return;
            }
            work.session.draining.store(true, Ordering::Release);
            self.pad.push_event(gst::event::Eos::new());
            work.session.draining.store(false, Ordering::Release);
            // Who flushes meanwhile throws away what was in it; that is no damage.
            if work.session.flushes.load(Ordering::Acquire) == 0
                && let Some(bin) = work.bin.upgrade()
            {
                bin.imp().tell_swallowed(&work.session, usize::MAX);
            }
            {
                let mut out = work.session.out.lock().unwrap();
                (out.complaint, out.late_until) = (None, None);
            }
            self.pad.push_event(gst::event::FlushStart::new());
            self.pad.push_event(gst::event::FlushStop::new(true));
        }

        fn push_frame(&self, work: &mut Work, frame: usize, shown: bool) -> Result<(), Stop> {
            let (mut buffer, kind) = match read(work, frame).map_err(Stop::Flow)? {
                Ok(read) => read,
                Err(Damage { unread: Some(error), .. }) => return Err(Stop::Unread(error)),
                Err(damage) => {
                    gst::debug!(CAT, imp = self, "{damage}");
                    if let Some(course) = &mut work.course {
                        course.damaged(&mut work.reader, frame, damage.to_string());
                    }
                    return Ok(());
                }
            };
            let timeline = &work.session.timeline;
            let time = timeline.inner(frame);
            let buffer_mut = buffer.get_mut().expect("nobody else has it");
            buffer_mut.set_pts(time);
            buffer_mut.set_dts(time);
            buffer_mut.set_duration(timeline.frame_duration(frame));
            let mut flags = match kind {
                Kind::Delta => gst::BufferFlags::DELTA_UNIT,
                Kind::Entry { .. } => gst::BufferFlags::HEADER,
            };
            flags.set(gst::BufferFlags::DISCONT, std::mem::take(&mut work.discont));
            buffer_mut.set_flags(flags);
            work.pushed += usize::from(shown);
            if shown && !work.session.encoded {
                work.session.out.lock().unwrap().inside.insert(frame);
            }
            self.pad.push(buffer).map(|_| ()).map_err(Stop::Flow)
        }

        fn stop(&self, work: &mut Work, stop: Stop) {
            let Some(bin) = work.bin.upgrade() else { return };
            match stop {
                Stop::Flow(gst::FlowError::Flushing) => {}
                Stop::Flow(gst::FlowError::Eos) => self.end(work, &bin),
                Stop::Flow(error) => {
                    gst::element_error!(
                        bin,
                        gst::StreamError::Failed,
                        ("Internal data stream error."),
                        ["streaming stopped, reason {error}"]
                    );
                    self.end(work, &bin);
                }
                Stop::Unread(_) if work.ended => {}
                Stop::Unread(error) => {
                    bin.imp().tell_unread(&error);
                    self.end(work, &bin);
                }
                Stop::End if work.ended => {}
                Stop::End => {
                    self.reset(work);
                    work.fresh = true;
                    if work.session.flushes.load(Ordering::Acquire) > 0 {
                        return;
                    }
                    let (flow, nothing) = {
                        let out = work.session.out.lock().unwrap();
                        (out.flow, out.last.is_none())
                    };
                    // What the decoder kept until now may have met an error.
                    if let Err(error) = flow {
                        return self.stop(work, Stop::Flow(error));
                    }
                    // After a seek into damage, others may have gone out before.
                    let never = work.session.stats.lock().unwrap().frames == 0;
                    if nothing
                        && never
                        && work.pushed + work.lost > 0
                        && !work.session.ends.load(Ordering::Acquire)
                    {
                        bin.imp().tell_nothing(&work.session, work.lost);
                    }
                    self.end(work, &bin);
                }
            }
        }

        fn end(&self, work: &mut Work, bin: &ZedSvoSrc) {
            // A segment that is done goes on with a seek, or with the end.
            work.ended = bin.imp().end(&work.session);
        }
    }

    /// Reads an access unit, and what it is to a decoder.
    fn read(work: &mut Work, frame: usize) -> Result<Result<(gst::Buffer, Kind), Damage>, gst::FlowError> {
        let located = match work.reader.locate(frame) {
            Ok(located) => located,
            Err(damage) => return Ok(Err(damage)),
        };
        let mut buffer = work.pools.buffer(located.len())?;
        let recording = &work.session.timeline.recording;
        let kind = {
            let buffer = buffer.get_mut().expect("nobody else has it");
            let mut bytes = buffer.map_writable().map_err(|_| gst::FlowError::Error)?;
            located.read(&mut bytes).and_then(|()| recording.classify(frame, &bytes))
        };
        Ok(kind.map(|kind| (buffer, kind)))
    }
}
