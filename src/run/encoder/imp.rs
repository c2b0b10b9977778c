// SPDX-License-Identifier: MPL-2.0

// Locks: `change` comes before `state`. `change` is held while candidates come and go; `state` is held for moments, and
// never while a state is changed, a pad is linked or anything is pushed or posted.

use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::watch::{PATIENCE, Watch};
use crate::run::plan::Encoding;
use crate::run::stage::{self, Stage};
use crate::run::tune;

/// Raw video of 4:2:0, which all encoders take and all decoders understand: from BGR, x264enc would make 4:4:4.
const RAW: &str = "video/x-raw,format={I420,NV12}";

pub struct EncoderSlot {
    encoding: OnceLock<Encoding>,
    sink_pad: gst::GhostPad,
    src_pad: gst::GhostPad,
    /// Whether candidates may still be changed: not when the bin goes down.
    change: Mutex<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    candidate: Option<Candidate>,
    /// Where in the list of candidates the next one is.
    next: usize,
    /// Why the candidate in use has to go.
    failure: Option<String>,
    watch: Watch,
    given_up: Vec<(String, String)>,
}

struct Candidate {
    factory: String,
    text: String,
    /// From [`even`]'s videocrop to the encoder.
    elements: Vec<gst::Element>,
    encoder: gst::Element,
}

#[glib::object_subclass]
impl ObjectSubclass for EncoderSlot {
    const NAME: &'static str = "CvmmapStreamerEncoderSlot";
    type Type = super::EncoderSlot;
    type ParentType = gst::Bin;

    fn with_class(klass: &Self::Class) -> Self {
        let template = klass.pad_template("sink").expect("it is in the class");
        let sink_pad = gst::GhostPad::builder_from_template(&template)
            .chain_function(|pad, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |slot| slot.chain(pad, buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |slot| slot.sink_event(pad, event))
            })
            .build();
        let template = klass.pad_template("src").expect("it is in the class");
        let src_pad = gst::GhostPad::builder_from_template(&template).build();
        Self {
            encoding: OnceLock::new(),
            sink_pad,
            src_pad,
            change: Mutex::new(false),
            state: Mutex::default(),
        }
    }
}

impl ObjectImpl for EncoderSlot {
    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sink_pad).expect("a new element has no pads");
        obj.add_pad(&self.src_pad).expect("a new element has no pads");
        let weak = obj.downgrade();
        self.src_pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            if let Some(slot) = weak.upgrade() {
                slot.imp().lock().watch.output();
            }
            gst::PadProbeReturn::Ok
        });
    }
}

impl GstObjectImpl for EncoderSlot {}

impl ElementImpl for EncoderSlot {
    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction, caps: &str| {
                let caps = caps.parse::<gst::Caps>().expect("literal caps");
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid template")
            };
            vec![
                template("sink", gst::PadDirection::Sink, "video/x-raw"),
                template("src", gst::PadDirection::Src, "video/x-h264; video/x-h265"),
            ]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => {
                let mut changes = self.changes();
                *changes = true;
                let found = self.advance(&mut changes);
                drop(changes);
                if !found {
                    gst::element_imp_error!(self, gst::LibraryError::Init, ("{}", self.nothing_left()));
                    return Err(gst::StateChangeError);
                }
                self.tell(0);
            }
            gst::StateChange::PausedToReady => *self.changes() = false,
            gst::StateChange::ReadyToPaused => *self.changes() = true,
            _ => (),
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            self.remove();
            *self.lock() = State::default();
        }
        Ok(success)
    }
}

impl BinImpl for EncoderSlot {
    fn handle_message(&self, message: gst::Message) {
        match message.view() {
            gst::MessageView::Error(error) => {
                gst::debug!(gst::CAT_DEFAULT, imp = self, "{error:?}");
                // Its first line says where in GStreamer's code, which helps nobody here.
                let detail =
                    error.debug().and_then(|debug| debug.split_once('\n').map(|(_, rest)| rest.to_owned()));
                let detail = detail.map_or_else(String::new, |detail| format!(" ({})", detail.trim()));
                let reason = format!("{}{detail}", error.error());
                self.lock().failure.get_or_insert(reason);
            }
            _ => self.parent_handle_message(message),
        }
    }
}

impl EncoderSlot {
    pub(super) fn set_encoding(&self, encoding: Encoding) {
        self.encoding.set(encoding).expect("only the constructor sets it");
    }

    pub(super) fn current(&self) -> Option<(String, String)> {
        self.lock().candidate.as_ref().map(|candidate| (candidate.factory.clone(), candidate.text.clone()))
    }

    pub(super) fn given_up(&self) -> Vec<(String, String)> {
        self.lock().given_up.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn changes(&self) -> MutexGuard<'_, bool> {
        self.change.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn encoding(&self) -> &Encoding {
        self.encoding.get().expect("the constructor sets it")
    }

    fn sink_event(&self, pad: &gst::GhostPad, event: gst::Event) -> bool {
        if let gst::EventView::Caps(caps) = event.view() {
            let candidate = self.lock().candidate.as_ref().map(|candidate| candidate.elements[0].clone());
            if let Some(crop) = candidate {
                even(&crop, caps.caps());
            }
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn chain(&self, pad: &gst::GhostPad, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        loop {
            let failure = {
                let mut state = self.lock();
                let alive = state.watch.input();
                let silent = || format!("nothing came out for {PATIENCE} frames that went in");
                state.failure.take().or_else(|| (!alive).then(silent))
            };
            if let Some(reason) = failure {
                self.replace(reason)?;
                continue;
            }
            let encoder = self.lock().candidate.as_ref().map(|candidate| candidate.encoder.clone());
            let result = gst::ProxyPad::chain_default(pad, Some(&*self.obj()), buffer.clone());
            let Err(
                error
                @ (gst::FlowError::Error | gst::FlowError::NotNegotiated | gst::FlowError::NotSupported),
            ) = result
            else {
                return result;
            };
            // What comes back from downstream is not the fault of an encoder that delivers.
            let downstream =
                encoder.and_then(|encoder| encoder.static_pad("src")).map(|pad| pad.last_flow_result());
            let mut state = self.lock();
            if state.failure.is_none() && state.watch.delivered() && matches!(downstream, Some(Err(_))) {
                return Err(error);
            }
            state.failure.get_or_insert_with(|| format!("it refused a frame: {error}"));
        }
    }

    /// Gives up the candidate in use for the next one.
    fn replace(&self, reason: String) -> Result<(), gst::FlowError> {
        let mut changes = self.changes();
        if !*changes {
            return Err(gst::FlowError::Flushing);
        }
        let given_up = {
            let mut state = self.lock();
            let from = state.candidate.as_ref().map(|candidate| candidate.factory.clone());
            state.given_up.push((from.unwrap_or_default(), reason));
            state.given_up.len() - 1
        };
        let found = self.advance(&mut changes);
        drop(changes);
        if !found {
            gst::element_imp_error!(self, gst::StreamError::Encode, ("{}", self.nothing_left()));
            return Err(gst::FlowError::Error);
        }
        self.tell(given_up);
        Ok(())
    }

    /// Puts the next candidate that opens into the bin; `false` where none is left.
    fn advance(&self, _changes: &mut MutexGuard<'_, bool>) -> bool {
        self.remove();
        loop {
            let next = self.lock().next;
            let Some(factory) = self.encoding().candidates.get(next) else { return false };
            self.lock().next += 1;
            match self.open(factory) {
                Ok(candidate) => {
                    let mut state = self.lock();
                    (state.watch, state.failure) = (Watch::default(), None);
                    state.candidate = Some(candidate);
                    return true;
                }
                Err(reason) => self.lock().given_up.push((factory.clone(), reason)),
            }
        }
    }

    /// Makes and opens a candidate, and joins it to the pads.
    fn open(&self, factory: &str) -> Result<Candidate, String> {
        let stages = stages(factory, self.encoding())?;
        let elements: Vec<_> = stages.iter().map(|stage| stage.element.clone()).collect();
        let encoder = elements.last().expect("it is the last one").clone();
        let candidate = Candidate {
            factory: factory.into(),
            text: stage::text(&stages),
            elements: elements.clone(),
            encoder,
        };
        let joined = self.join(&elements);
        if joined.is_err() {
            self.discard(&elements);
        }
        joined.map(|()| candidate)
    }

    fn join(&self, elements: &[gst::Element]) -> Result<(), String> {
        let obj = self.obj();
        self.lock().failure = None;
        obj.add_many(elements).map_err(|error| error.to_string())?;
        gst::Element::link_many(elements).map_err(|error| error.to_string())?;
        let (first, last) = (&elements[0], &elements[elements.len() - 1]);
        let pad =
            |element: &gst::Element, name| element.static_pad(name).ok_or(format!("it has no {name} pad"));
        let opens = |element: &gst::Element| element.set_state(gst::State::Ready).is_ok();
        if !elements.iter().rev().all(opens) {
            return Err(self.lock().failure.take().unwrap_or_else(|| "it does not open".into()));
        }
        self.src_pad.set_target(Some(&pad(last, "src")?)).map_err(|error| error.to_string())?;
        self.sink_pad.set_target(Some(&pad(first, "sink")?)).map_err(|error| error.to_string())?;
        for element in elements.iter().rev() {
            element.sync_state_with_parent().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn remove(&self) {
        let candidate = self.lock().candidate.take();
        if let Some(candidate) = candidate {
            self.discard(&candidate.elements);
        }
    }

    fn discard(&self, elements: &[gst::Element]) {
        let _ = self.sink_pad.set_target(None::<&gst::Pad>);
        let _ = self.src_pad.set_target(None::<&gst::Pad>);
        for element in elements {
            // Off the bin's states first: a parent that changes state would pull it up again.
            element.set_locked_state(true);
            let _ = element.set_state(gst::State::Null);
            let _ = self.obj().remove(element);
        }
    }

    /// Tells of the candidates that were given up from the `first` on, if there are any, and of the one in use.
    fn tell(&self, first: usize) {
        let given_up = self.given_up().split_off(first);
        let (Some((from, _)), Some((to, _))) = (given_up.first(), self.current()) else { return };
        let structure = gst::Structure::builder("encoder-fallback")
            .field("from", from)
            .field("to", to)
            .field("reason", reasons(&given_up))
            .build();
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Element::builder(structure).src(&*obj).build());
    }

    fn nothing_left(&self) -> String {
        format!("no {} encoder works: {}", self.encoding().codec.name(), reasons(&self.given_up()))
    }
}

fn reasons(given_up: &[(String, String)]) -> String {
    given_up.iter().map(|(factory, reason)| format!("{factory}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// Crops what 4:2:0 and encoders have no place for: an odd column at the right, an odd row at the bottom.
fn even(crop: &gst::Element, caps: &gst::CapsRef) {
    let odd = |field| caps.structure(0).and_then(|s| s.get::<i32>(field).ok()).unwrap_or_default() % 2;
    crop.set_property("right", odd("width"));
    crop.set_property("bottom", odd("height"));
}

fn stages(factory: &str, encoding: &Encoding) -> Result<Vec<Stage>, String> {
    let mut encoder = Stage::new(factory).map_err(|_| "it is not installed".to_owned())?;
    tune::encoder(&mut encoder, encoding);
    let crop = Stage::new("videocrop").map_err(|failure| failure.to_string())?;
    let mut convert = Stage::new("videoconvert").map_err(|failure| failure.to_string())?;
    convert.wish("n-threads", "0");
    let raw = Stage::caps(RAW).map_err(|failure| failure.to_string())?;
    Ok(vec![crop, convert, raw, encoder])
}
