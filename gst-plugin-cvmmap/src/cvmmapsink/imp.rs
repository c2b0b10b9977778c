// SPDX-License-Identifier: MPL-2.0

// Locks: none is held while another is taken, nor while posting; `publishing` is contended by state changes alone.

use std::sync::{LazyLock, Mutex};

use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Producer, Target, Version};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;

use super::settings::{PROPERTIES, Settings};
use crate::format::{raw_caps, wire_format};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("cvmmapsink", gst::DebugColorFlags::empty(), Some("cv-mmap sink"))
});
static UNIX_CAPS: LazyLock<gst::Caps> = LazyLock::new(|| gst::Caps::new_empty_simple("timestamp/x-unix"));

#[derive(Debug, Clone, Copy, Default)]
struct Stats {
    frames: u64,
    bytes: u64,
    caps_changes: u64,
    last_frame_count: u32,
}

struct Publishing {
    producer: Producer,
    version: Version,
    info: Option<gst_video::VideoInfo>,
    next_count: u32,
}

#[derive(Default)]
pub struct CvMmapSink {
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    publishing: Mutex<Option<Publishing>>,
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
            name => unreachable!("property '{name}' is not in the table"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "uri" => self.settings.lock().unwrap().uri.to_value(),
            "metadata-version" => self.settings.lock().unwrap().metadata_version.to_value(),
            "stats" => {
                let stats = *self.stats.lock().unwrap();
                gst::Structure::builder("cvmmapsink-stats")
                    .field("frames", stats.frames)
                    .field("bytes", stats.bytes)
                    .field("caps-changes", stats.caps_changes)
                    .field("last-frame-count", stats.last_frame_count)
                    .build()
                    .to_value()
            }
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
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            *self.publishing.lock().unwrap() = None;
        }
        Ok(success)
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

    fn render(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Before the fill: `next-sync` readers rely on it.
        let now_ns = unix_now_ns();
        let timestamp_ns = buffer
            .iter_meta::<gst::ReferenceTimestampMeta>()
            .find(|meta| meta.reference().is_subset(&UNIX_CAPS))
            .map_or(now_ns, |meta| meta.timestamp().nseconds());
        let published = match &mut *self.publishing.lock().unwrap() {
            Some(publishing) => publishing.publish(buffer, timestamp_ns),
            None => return Err(gst::FlowError::Flushing),
        };
        let (frame, bytes) = published.map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::Write, ("{error}"));
            gst::FlowError::Error
        })?;
        let mut stats = self.stats.lock().unwrap();
        stats.frames += 1;
        stats.bytes += bytes;
        stats.last_frame_count = frame.count;
        Ok(gst::FlowSuccess::Ok)
    }
}

impl Publishing {
    /// Publishes a picture with packed rows; returns its name and its bytes.
    fn publish(&mut self, buffer: &gst::Buffer, timestamp_ns: u64) -> Result<(FrameId, u64), String> {
        let info = self.info.as_ref().ok_or("a buffer came before its caps")?;
        let picture = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|error| format!("cannot map a buffer: {error}"))?;
        let (width, height) = (picture.width(), picture.height());
        let (format, depth) = wire_format(picture.format()).expect("the template has no other formats");
        let plane = Plane::packed(PlaneKind::Left, format, depth, width, height)
            .ok_or_else(|| format!("a picture of {width}x{height} does not fit a segment"))?;
        let frame = FrameId { count: self.next_count, timestamp_ns };
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
        self.next_count = self.next_count.wrapping_add(1);
        Ok((frame, plane.size.into()))
    }
}

impl CvMmapSink {
    /// Checks the settings and creates the producer; the error is posted.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        let Settings { uri, metadata_version } = self.settings.lock().unwrap().clone();
        let target: Target = uri.parse().map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Settings,
                ("property 'uri' = '{uri}': {error}")
            );
            gst::StateChangeError
        })?;
        // The size of a frame is not known yet; the segment grows with the first one.
        let producer = Producer::create(&target, 0).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::OpenWrite, ("uri '{uri}': {error}"));
            gst::StateChangeError
        })?;
        *self.publishing.lock().unwrap() =
            Some(Publishing { producer, version: metadata_version.into(), info: None, next_count: 0 });
        *self.stats.lock().unwrap() = Stats::default();
        Ok(())
    }
}
