// SPDX-License-Identifier: MPL-2.0

// Locks: none is held while another is taken, nor while posting or waiting; `publishing` is contended by state changes
// alone, `control` and `state` are held for moments. What is told to the control plane goes into a queue.

use std::sync::atomic::AtomicU32;
use std::sync::{Condvar, LazyLock, Mutex};

use cvmmap_control::ServerUrl;
use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Producer, Target, Version};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;

use super::control::Control;
use super::settings::{PROPERTIES, Settings};
use super::state::{Clock, State};
use crate::format::{raw_caps, wire_format};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("cvmmapsink", gst::DebugColorFlags::empty(), Some("cv-mmap sink"))
});
static UNIX_CAPS: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

#[derive(Debug, Clone, Copy, Default)]
struct Stats {
    frames: u64,
    bytes: u64,
    caps_changes: u64,
}

struct Publishing {
    producer: Producer,
    version: Version,
    info: Option<gst_video::VideoInfo>,
}

pub struct CvMmapSink {
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    publishing: Mutex<Option<Publishing>>,
    pub(super) state: Mutex<State>,
    /// Something came of a seek.
    pub(super) sought: Condvar,
    /// Threads that are about a client's seek.
    pub(super) seekers: AtomicU32,
    /// `None`: no server is wanted.
    control: Mutex<Option<Control>>,
}

impl Default for CvMmapSink {
    fn default() -> Self {
        Self {
            settings: Mutex::default(),
            stats: Mutex::default(),
            publishing: Mutex::default(),
            state: Mutex::new(State::new(Clock::Unix)),
            sought: Condvar::new(),
            seekers: AtomicU32::new(0),
            control: Mutex::default(),
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for CvMmapSink {
    const NAME: &'static str = "GstCvMmapSink";
    type Type = super::CvMmapSink;
    type ParentType = gst_base::BaseSink;
}

impl ObjectImpl for CvMmapSink {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPE: &str = "type checked by GObject";
        let mut settings = self.settings.lock().unwrap();
        match pspec.name() {
            "uri" => {
                let uri: Option<String> = value.get().expect(TYPE);
                settings.uri = uri.unwrap_or_else(|| Settings::default().uri);
            }
            "metadata-version" => settings.metadata_version = value.get().expect(TYPE),
            "timestamps" => settings.timestamps = value.get().expect(TYPE),
            "nats-url" => {
                let url: Option<String> = value.get().expect(TYPE);
                settings.nats_url = url.unwrap_or_default();
            }
            name => unreachable!("property '{name}' is not in the table"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "uri" => self.settings.lock().unwrap().uri.to_value(),
            "metadata-version" => self.settings.lock().unwrap().metadata_version.to_value(),
            "timestamps" => self.settings.lock().unwrap().timestamps.to_value(),
            "nats-url" => self.settings.lock().unwrap().nats_url.to_value(),
            "stats" => self.stats().to_value(),
            name => unreachable!("property '{name}' is not in the table"),
        }
    }
}

impl GstObjectImpl for CvMmapSink {}

impl ElementImpl for CvMmapSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "cv-mmap sink",
                "Sink/Video",
                "Publishes raw video as a cv-mmap producer",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template =
                gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &raw_caps());
            vec![template.expect("a valid template")]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        // Not in `start`, whose failure the base class does not explain.
        if transition == gst::StateChange::ReadyToPaused {
            self.open()?;
        }
        let success = self.parent_change_state(transition);
        let failed = transition == gst::StateChange::ReadyToPaused && success.is_err();
        if transition == gst::StateChange::PausedToReady || failed {
            self.close();
        }
        success
    }
}

impl BaseSinkImpl for CvMmapSink {
    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(caps)
            .map_err(|error| gst::loggable_error!(CAT, "caps {caps}: {error}"))?;
        if let Some(publishing) = &mut *self.publishing.lock().unwrap() {
            publishing.info = Some(info);
        }
        self.stats.lock().unwrap().caps_changes += 1;
        Ok(())
    }

    fn propose_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
        // Any stride will do: the rows are copied.
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
        self.parent_propose_allocation(query)
    }

    fn event(&self, event: gst::Event) -> bool {
        let mut state = self.state.lock().unwrap();
        let reset = match event.view() {
            gst::EventView::FlushStop(_) => state.flushed(),
            gst::EventView::Segment(segment) => state.segment(segment.segment()),
            gst::EventView::Eos(_) => {
                state.ended();
                false
            }
            _ => false,
        };
        drop(state);
        self.sought.notify_all();
        // As early as it is known: before the first frame.
        if reset && let Some(control) = &*self.control.lock().unwrap() {
            control.producer.stream_reset();
        }
        self.parent_event(event)
    }

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let captured = buffer
            .iter_meta::<gst::ReferenceTimestampMeta>()
            .find(|meta| meta.reference().is_subset(&UNIX_CAPS))
            .map(|meta| meta.timestamp().nseconds());
        // Before the fill: `next-sync` readers rely on it.
        let frame = {
            let mut state = self.state.lock().unwrap();
            state.stamp(buffer, captured).map(|stamp| state.next(stamp))
        };
        let Some(frame) = frame.map_err(|error| self.failed(gst::StreamError::Format, &error))? else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let published = match &mut *self.publishing.lock().unwrap() {
            Some(publishing) => publishing.publish(buffer, frame),
            None => return Err(gst::FlowError::Flushing),
        };
        let bytes = published.map_err(|error| self.failed(gst::ResourceError::Write, &error))?;
        let first = self.state.lock().unwrap().published(frame);
        self.sought.notify_all();
        if first && let Some(control) = &*self.control.lock().unwrap() {
            control.producer.online();
        }
        let mut stats = self.stats.lock().unwrap();
        stats.frames += 1;
        stats.bytes += bytes;
        Ok(gst::FlowSuccess::Ok)
    }
}

impl Publishing {
    /// Publishes a picture with packed rows; returns its bytes.
    fn publish(&mut self, buffer: &gst::Buffer, frame: FrameId) -> Result<u64, String> {
        let info = self.info.as_ref().ok_or("a buffer came before its caps")?;
        let picture = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|error| format!("cannot map a buffer: {error}"))?;
        let (width, height) = (picture.width(), picture.height());
        let (format, depth) = wire_format(picture.format()).expect("the template has no other formats");
        let plane = Plane::packed(PlaneKind::Left, format, depth, width, height)
            .ok_or_else(|| format!("a picture of {width}x{height} does not fit a segment"))?;
        let metadata = Metadata::new(self.version, frame, [plane]);
        let data = picture.plane_data(0).map_err(|error| error.to_string())?;
        let (stride, row) = (picture.plane_stride()[0] as usize, plane.row_bytes());
        let mut write = || {
            let mut writer = self.producer.begin(&metadata)?;
            if stride == row {
                writer.write(0, &data[..plane.size as usize])?;
            } else {
                for (i, line) in data.chunks(stride).take(height as usize).enumerate() {
                    writer.write(i * row, &line[..row])?;
                }
            }
            writer.commit()
        };
        write().map_err(|error: cvmmap_ipc::ProducerError| error.to_string())?;
        Ok(plane.size.into())
    }
}

impl CvMmapSink {
    /// Checks the settings and creates the producer; the error is posted.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        let settings = self.settings.lock().unwrap().clone();
        let Settings { uri, metadata_version, timestamps, nats_url } = settings;
        let wrong = |rule: String| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{rule}"));
            gst::StateChangeError
        };
        let target: Target =
            uri.parse().map_err(|error| wrong(format!("property 'uri' = '{uri}': {error}")))?;
        let url: Option<ServerUrl> = (!nats_url.is_empty())
            .then(|| nats_url.parse())
            .transpose()
            .map_err(|error| wrong(format!("property 'nats-url' = {error}")))?;
        // The size of a frame is not known yet; the segment grows with the first one.
        let producer = Producer::create(&target, 0).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::OpenWrite, ("uri '{uri}': {error}"));
            gst::StateChangeError
        })?;
        *self.state.lock().unwrap() = State::new(timestamps.into());
        *self.stats.lock().unwrap() = Stats::default();
        let control = url
            .map(|url| Control::start(&self.obj(), &url, &target))
            .transpose()
            .map_err(|error| wrong(format!("property 'nats-url': {error}")))?;
        *self.control.lock().unwrap() = control;
        *self.publishing.lock().unwrap() =
            Some(Publishing { producer, version: metadata_version.into(), info: None });
        Ok(())
    }

    /// Says that it goes, and then takes the names away.
    fn close(&self) {
        let control = self.control.lock().unwrap().take();
        if let Some(control) = control {
            control.end();
        }
        let publishing = self.publishing.lock().unwrap().take();
        drop(publishing);
    }

    fn failed(&self, code: impl gst::MessageErrorDomain, why: &str) -> gst::FlowError {
        gst::element_imp_error!(self, code, ("{why}"));
        gst::FlowError::Error
    }

    fn stats(&self) -> gst::Structure {
        let nats =
            self.control.lock().unwrap().as_ref().map_or("off", |control| control.connection.link().name());
        let (last, resets) = {
            let state = self.state.lock().unwrap();
            (state.last.map_or(0, |frame| frame.count), state.resets)
        };
        let stats = *self.stats.lock().unwrap();
        gst::Structure::builder("cvmmapsink-stats")
            .field("frames", stats.frames)
            .field("bytes", stats.bytes)
            .field("caps-changes", stats.caps_changes)
            .field("last-frame-count", last)
            .field("resets", resets)
            .field("nats", nats)
            .build()
    }
}
