// SPDX-License-Identifier: MPL-2.0

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use svo2::{Found, OpenError, Reader, Recording, words};

use super::course::Frames;
use super::feed::Feed;
use super::rectify::Rectifier;
use super::sensors::Imu;
use super::session::{Session, info};
use super::settings::{OutputChoice, PROPERTIES, Settings};
use super::timeline::Timeline;
use super::view::View;
use super::{CAT, chain};

pub struct ZedSvoSrc {
    pub(super) src: gst::GhostPad,
    settings: Mutex<Settings>,
    /// Between READY and PAUSED.
    open: Mutex<Option<Open>>,
}

/// A recording that is played.
struct Open {
    session: Arc<Session>,
    feed: Feed,
    elements: Vec<gst::Element>,
}

/// Why a recording cannot be played; the text names property, value and rule.
enum Refusal {
    Settings(String),
    File(OpenError, String),
    Codec(String),
}

#[glib::object_subclass]
impl ObjectSubclass for ZedSvoSrc {
    const NAME: &'static str = "GstZedSvoSrc";
    type Type = super::ZedSvoSrc;
    type ParentType = gst::Bin;

    fn with_class(klass: &Self::Class) -> Self {
        let template = klass.pad_template("src").expect("it is ours");
        let src = gst::GhostPad::builder_from_template(&template)
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |src| src.source_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |src| src.source_query(pad, query))
            })
            .proxy_pad_chain_function(|_, ghost, buffer| {
                let parent = ghost.and_then(|ghost| ghost.parent());
                let failed = || Err(gst::FlowError::Error);
                Self::catch_panic_pad_function(parent.as_ref(), failed, |src| src.outlet_chain(buffer))
            })
            .proxy_pad_event_function(|pad, ghost, event| {
                let parent = ghost.and_then(|ghost| ghost.parent());
                Self::catch_panic_pad_function(
                    parent.as_ref(),
                    || false,
                    |src| src.outlet_event(pad, ghost, event),
                )
            })
            .build();
        Self { src, settings: Mutex::default(), open: Mutex::default() }
    }
}

impl ObjectImpl for ZedSvoSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings.lock().unwrap().set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.session().map(|session| session.stats_structure()).to_value(),
            "info" => self.session().map(|session| info(&session.timeline.recording)).to_value(),
            name => self.settings.lock().unwrap().get(name),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.src).expect("the pad is new");
        obj.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        obj.set_element_flags(gst::ElementFlags::SOURCE);
    }
}

impl GstObjectImpl for ZedSvoSrc {}

impl ElementImpl for ZedSvoSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "ZED recording source",
                "Source/File/Video",
                "Plays ZED recordings (SVO2) without the ZED SDK",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = gst::Caps::new_empty_simple("video/x-raw");
            for name in ["video/x-h264", "video/x-h265"] {
                let encoded = gst::Caps::builder(name)
                    .field("stream-format", "byte-stream")
                    .field("alignment", "au")
                    .build();
                caps.merge(encoded);
            }
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
        if transition == gst::StateChange::ReadyToPaused {
            self.open().map_err(|refusal| {
                self.post(&refusal);
                gst::StateChangeError
            })?;
        }
        if transition == gst::StateChange::PausedToReady
            && let Some(session) = self.session()
        {
            session.flushes.fetch_add(1, Ordering::AcqRel);
        }
        let result = self.parent_change_state(transition);
        let failed = result.is_err() && transition == gst::StateChange::ReadyToPaused;
        if failed || transition == gst::StateChange::PausedToReady {
            self.close();
        }
        result
    }

    fn send_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::Eos => {
                let Some((session, feed)) = self.session().zip(self.feed()) else { return false };
                session.ends.store(true, Ordering::Release);
                feed.resume()
            }
            _ if event.is_upstream() => self.src.send_event(event),
            _ => self.parent_send_event(event),
        }
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        self.src.query(query)
    }
}

impl BinImpl for ZedSvoSrc {
    fn handle_message(&self, message: gst::Message) {
        if let gst::MessageView::Error(error) = message.view()
            && error.error().matches(gst::StreamError::Decode)
            && let Some(session) = self.session()
            && session.draining.load(Ordering::Acquire)
        {
            // Decoders take it for an error that nothing comes of a piece; others may have pictures.
            session.out.lock().unwrap().complaint = Some(error.error().to_string());
            return;
        }
        self.parent_handle_message(message);
    }
}

impl ZedSvoSrc {
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.open.lock().unwrap().as_ref().map(|open| open.session.clone())
    }

    pub(super) fn feed(&self) -> Option<Feed> {
        self.open.lock().unwrap().as_ref().map(|open| open.feed.clone())
    }

    fn open(&self) -> Result<(), Refusal> {
        let settings = self.settings.lock().unwrap().clone();
        let location = settings.check().map_err(Refusal::Settings)?;
        let recording = Recording::open(Path::new(location))
            .map_err(|error| Refusal::File(error, location.to_owned()))?;
        let encoded = settings.output == OutputChoice::Encoded;
        let (mut first, last) = settings.range(recording.frames()).map_err(Refusal::Settings)?;
        let mut reader = Reader::new(recording.clone());
        let asked = first;
        match Frames::entry_for(&mut reader, first) {
            Some(entry) if encoded => first = entry,
            Some(_) => {}
            // The head of the cut cannot be decoded: time begins where pictures do.
            None => {
                if let Some((entry, right)) = reader.next_entry(first).filter(|&(_, right)| right <= last) {
                    first = if encoded { entry } else { right };
                }
            }
        }
        self.warn_of_faults(location, &recording);
        let (width, height) = recording.size();
        let rectifier = match settings.calibration.as_deref().filter(|_| settings.rectify) {
            Some(calibration) => {
                let rectifier = Rectifier::new(calibration, (width / 2, height), settings.view);
                Some(rectifier.map_err(Refusal::Settings)?)
            }
            None => None,
        };
        let caps = chain::caps(&recording);
        let timeline = Timeline { recording: recording.clone(), first, last };
        let session = Arc::new(Session::new(timeline, encoded, caps));
        if asked < first {
            self.tell_lost(&session, (asked, first - 1), "decoding cannot begin at or before it");
        }
        self.tell_remarks(&session);
        if settings.sensors {
            match Imu::open(&recording) {
                Ok(imu) => *session.imu.lock().unwrap() = Some(imu),
                Err(why) => {
                    gst::element_imp_warning!(
                        self,
                        gst::ResourceError::Settings,
                        ("property 'sensors' = true: {why}; frames go out without samples")
                    );
                }
            }
        }
        if let Some(error) = recording.read_error() {
            let error = OpenError::Io(error.clone().into());
            return Err(Refusal::File(error, location.to_owned()));
        }
        let feed = Feed::new(session.clone(), &self.obj());
        let mut elements = vec![feed.clone().upcast::<gst::Element>()];
        if !encoded {
            elements.push(chain::parser(recording.codec()).map_err(Refusal::Codec)?);
            let decoder = chain::decoder(&recording, settings.decoder.as_deref()).map_err(Refusal::Codec)?;
            session.stats.lock().unwrap().decoder = decoder.factory().map(|factory| factory.name().into());
            elements.push(decoder);
            elements.push(View::new(settings.view, rectifier, session.clone()).upcast());
        }
        let obj = self.obj();
        *self.open.lock().unwrap() = Some(Open { session, feed, elements: elements.clone() });
        let linked =
            obj.add_many(&elements).and_then(|()| gst::Element::link_many(&elements)).and_then(|()| {
                let last = elements.last().and_then(|last| last.static_pad("src"));
                self.src.set_target(last.as_ref())
            });
        linked.map_err(|error| {
            self.close();
            Refusal::Codec(error.to_string())
        })
    }

    fn close(&self) {
        let _ = self.src.set_target(None::<&gst::Pad>);
        let Some(open) = self.open.lock().unwrap().take() else { return };
        for element in &open.elements {
            let _ = element.set_state(gst::State::Null);
            let _ = self.obj().remove(element);
        }
    }

    fn warn_of_faults(&self, location: &str, recording: &Recording) {
        if let Some(why) = recording.header_fault() {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Read,
                ("property 'location' = '{location}': {why}; its pictures are shown all the same")
            );
        }
        if let Found::Scanned(why) = recording.found() {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Read,
                (
                    "property 'location' = '{location}': {why}; {} found by walking through it",
                    words::counted_were(recording.frames(), "frame")
                )
            );
        }
    }

    fn post(&self, refusal: &Refusal) {
        match refusal {
            Refusal::Settings(text) => {
                gst::element_imp_error!(self, gst::LibraryError::Settings, ("{text}"));
            }
            Refusal::Codec(text) => {
                gst::element_imp_error!(self, gst::StreamError::CodecNotFound, ("{text}"));
            }
            Refusal::File(error, location) => {
                let text = format!("property 'location' = '{location}': {error}");
                gst::debug!(CAT, imp = self, "{text}");
                match error {
                    OpenError::Io(io) if io.kind() == std::io::ErrorKind::NotFound => {
                        gst::element_imp_error!(self, gst::ResourceError::NotFound, ("{text}"));
                    }
                    OpenError::Io(_) => {
                        gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{text}"));
                    }
                    _ => gst::element_imp_error!(self, gst::StreamError::WrongType, ("{text}")),
                }
            }
        }
    }
}
