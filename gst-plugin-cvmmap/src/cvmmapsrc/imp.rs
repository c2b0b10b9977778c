// SPDX-License-Identifier: MPL-2.0

// Locks: none is held while waiting, pushing or posting, and none while another is taken.
// - `settings`, `stats`, `format`, `info`, `waker` and those of the control plane are held for single reads and writes;
// - `streaming` is only the place where the streaming thread's own things stay between two calls of `create`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use cvmmap_ipc::{PlaneKind, Reader, Waker};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;

use super::actions::SIGNALS;
use super::bodies::Bodies;
use super::control::{Control, Heard, SourceInfo, info_value};
use super::frames::Streaming;
use super::pool;
use super::seek::Seeking;
use super::settings::{PROPERTIES, Settings};
use super::state::Stats;
use super::telling::Telling;
use crate::format::{Output, plane_caps};

/// The negotiated output.
#[derive(Clone, PartialEq)]
pub(super) struct Format {
    pub output: Output,
    pub caps: gst::Caps,
}

#[derive(Default)]
pub struct CvMmapSrc {
    pub(super) settings: Mutex<Settings>,
    pub(super) stats: Mutex<Stats>,
    pub(super) streaming: Mutex<Option<Streaming>>,
    pub(super) waker: Mutex<Option<Waker>>,
    /// `None` until the first frame shows what the producer publishes.
    pub(super) format: Mutex<Option<Format>>,
    /// Set by `set_caps` for the raw formats.
    pub(super) info: Mutex<Option<gst_video::VideoInfo>>,
    pub(super) latency_ns: AtomicU64,
    /// Between READY and PAUSED, where there is a server to connect to.
    pub(super) control: Mutex<Option<Arc<Control>>>,
    /// Which opening of the element callbacks belong to.
    pub(super) generation: AtomicU64,
    pub(super) heard: Mutex<Heard>,
    pub(super) telling: Mutex<Telling>,
    pub(super) source_info: Mutex<Option<SourceInfo>>,
    pub(super) bodies: Mutex<Bodies>,
    pub(super) seeking: Seeking,
    /// The base class has a segment of the producer's timeline.
    pub(super) placed: AtomicBool,
    /// Between PAUSED and PLAYING, where a live source reads.
    pub(super) playing: AtomicBool,
    /// Between `unlock` and `unlock_stop`.
    pub(super) unlocked: AtomicBool,
    /// A frame waits for its bodies, and they were not there when it was looked.
    pub(super) awaits_bodies: AtomicBool,
    /// A flush came since the last frame.
    pub(super) flushed: AtomicBool,
    /// A pause came since the last frame.
    pub(super) paused: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for CvMmapSrc {
    const NAME: &'static str = "GstCvMmapSrc";
    type Type = super::CvMmapSrc;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for CvMmapSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings.lock().unwrap().set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.stats_structure().to_value(),
            "source-info" => info_value(self.source_info.lock().unwrap().as_ref()),
            name => self.settings.lock().unwrap().get(name),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        &SIGNALS
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_live(true);
        obj.set_format(gst::Format::Time);
    }
}

impl GstObjectImpl for CvMmapSrc {}

impl ElementImpl for CvMmapSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "cv-mmap source",
                "Source/Video",
                "Reads coherent frames of a cv-mmap producer from shared memory",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = plane_caps(PlaneKind::Left);
            caps.merge(plane_caps(PlaneKind::Encoded));
            let template =
                gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &caps);
            vec![template.expect("a valid template")]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Not in `start`, whose failure the base class reports a second time and in other words.
        if transition == gst::StateChange::ReadyToPaused {
            self.open()?;
        }
        // True as soon as frames may be read: the state itself is not PLAYING before they are.
        if transition == gst::StateChange::PausedToPlaying {
            self.playing.store(true, Ordering::Release);
        }
        let result = self.parent_change_state(transition);
        if transition == gst::StateChange::PlayingToPaused {
            // The base class does not unlock for this: a wait for a frame goes on.
            self.paused.store(true, Ordering::Release);
            self.playing.store(false, Ordering::Release);
        }
        let failed = result.is_err() && transition == gst::StateChange::ReadyToPaused;
        if failed || transition == gst::StateChange::PausedToReady {
            self.close_control();
        }
        result
    }

    fn send_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Seek => self.seek(&event),
            _ => self.parent_send_event(event),
        }
    }
}

impl URIHandlerImpl for CvMmapSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &[cvmmap_ipc::target::SCHEME]
    }

    fn uri(&self) -> Option<String> {
        // A plain NAME is none for GStreamer.
        let target: cvmmap_ipc::Target = self.settings.lock().unwrap().uri.parse().ok()?;
        Some(target.to_string())
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if self.obj().current_state() > gst::State::Ready {
            let why = "the URI can be set in NULL and READY only";
            return Err(glib::Error::new(gst::URIError::BadState, why));
        }
        if let Err(error) = uri.parse::<cvmmap_ipc::Target>() {
            return Err(glib::Error::new(gst::URIError::BadUri, &error.to_string()));
        }
        self.settings.lock().unwrap().uri = uri.into();
        Ok(())
    }
}

impl BaseSrcImpl for CvMmapSrc {
    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.streaming.lock().unwrap() = None;
        *self.waker.lock().unwrap() = None;
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.unlocked.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.unlocked.store(false, Ordering::Release);
        if let Some(waker) = &*self.waker.lock().unwrap() {
            waker.clear();
        }
        self.seeking.restart();
        // After a flush nothing that was held or measured before is of use.
        self.flushed.store(true, Ordering::Release);
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        self.can_seek()
    }

    fn event(&self, event: &gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Seek => self.seek(event),
            _ => self.parent_event(event),
        }
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                let min = gst::ClockTime::from_nseconds(self.latency_ns.load(Ordering::Relaxed));
                latency.set(true, min, gst::ClockTime::NONE);
                true
            }
            _ => self.answer_from_timeline(query) || BaseSrcImplExt::parent_query(self, query),
        }
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let known = self.format.lock().unwrap().as_ref().map(|format| format.caps.clone());
        let caps = known.unwrap_or_else(|| plane_caps(self.settings.lock().unwrap().plane.into()));
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        // Before the first frame nobody knows what there is to negotiate.
        if self.format.lock().unwrap().is_none() {
            return Ok(());
        }
        self.parent_negotiate()
    }

    fn fixate(&self, mut caps: gst::Caps) -> gst::Caps {
        caps.truncate();
        let structure = caps.make_mut().structure_mut(0).expect("negotiated caps are not empty");
        // The wire does not tell a frame rate: variable, unless downstream asks for a certain one.
        structure.fixate_field_nearest_fraction("framerate", gst::Fraction::new(0, 1));
        self.parent_fixate(caps)
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        *self.info.lock().unwrap() = gst_video::VideoInfo::from_caps(caps).ok();
        self.parent_set_caps(caps)
    }

    fn decide_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
        let Some(info) = self.info.lock().unwrap().clone() else {
            return self.parent_decide_allocation(query);
        };
        // Frames that wait for their bodies would use up a pool of downstream's.
        let own = self.settings.lock().unwrap().body_wait().is_some();
        pool::choose(query, &info, own)
    }
}

impl PushSrcImpl for CvMmapSrc {
    fn create(&self, _buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        // Taken out, so that nothing is locked while it waits; `stop` comes only after the streaming thread.
        let Some(mut streaming) = self.streaming.lock().unwrap().take() else {
            return Err(gst::FlowError::Flushing);
        };
        let flushed = self.flushed.swap(false, Ordering::AcqRel);
        if !self.has_paused(&mut streaming) && flushed {
            streaming.start_afresh();
        }
        if flushed {
            // Behind a pause, running time goes on.
            streaming.last_pts = None;
        }
        let result = self.next_buffer(&mut streaming);
        self.stats.lock().unwrap().counters = streaming.reader.counters();
        *self.streaming.lock().unwrap() = Some(streaming);
        result.map(CreateSuccess::NewBuffer)
    }
}

impl CvMmapSrc {
    /// Checks the settings and opens the reader; the error is posted.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        let settings = self.settings.lock().unwrap().clone();
        let config = settings.reader_config().map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        })?;
        let reader = Reader::open(config).map_err(|error| {
            let name = if settings.zmq_endpoint.is_some() { "zmq-endpoint" } else { "uri" };
            let value = settings.zmq_endpoint.as_ref().unwrap_or(&settings.uri);
            gst::element_imp_error!(
                self,
                gst::ResourceError::OpenRead,
                ("property '{name}' = '{value}': {error}")
            );
            gst::StateChangeError
        })?;
        // Left by an opening that failed.
        self.close_control();
        *self.heard.lock().unwrap() = Heard::default();
        *self.telling.lock().unwrap() = Telling::default();
        self.bodies.lock().unwrap().restart();
        self.seeking.reset();
        self.placed.store(false, Ordering::Release);
        self.open_control(&settings)?;
        *self.waker.lock().unwrap() = Some(reader.waker());
        *self.stats.lock().unwrap() = Stats::default();
        *self.format.lock().unwrap() = None;
        *self.info.lock().unwrap() = None;
        self.latency_ns.store(0, Ordering::Relaxed);
        *self.streaming.lock().unwrap() = Some(Streaming::new(settings, reader));
        Ok(())
    }
}
