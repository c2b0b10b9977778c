// SPDX-License-Identifier: MPL-2.0

// Locks: `change` comes before `state`. `change` is held while candidates come and go; `state` is held for moments, and
// never while a state is changed, a pad is linked or anything is pushed or posted.

use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::watch::Watch;
use crate::run::plan::Encoding;
use crate::run::stage::{self, Stage};
use crate::run::{teardown, tune};

/// Raw video of 4:2:0, which all encoders take and all decoders understand: from BGR, x264enc would make 4:4:4.
pub(crate) const RAW: &str = "video/x-raw,format={I420,NV12}";

type Hook = Box<dyn Fn(&gst::Pad) + Send + Sync>;

pub struct EncoderSlot {
    config: OnceLock<(Encoding, u32)>,
    /// Is shown the pad of each candidate at which frames leave the queue for the encoder.
    hook: OnceLock<Hook>,
    sink_pad: gst::GhostPad,
    src_pad: gst::GhostPad,
    /// Whether candidates may still be changed: not when the bin goes down.
    change: Mutex<bool>,
    state: Mutex<State>,
}

struct State {
    candidate: Option<Candidate>,
    /// Where in the list of candidates the next one is.
    next: usize,
    /// Why the candidate in use has to go.
    failure: Option<String>,
    watch: Watch,
    given_up: Vec<(String, String)>,
    /// The stream is over: a candidate's EOS is the bin's.
    ending: bool,
}

impl Default for State {
    fn default() -> Self {
        let watch = Watch::new(Instant::now());
        Self { candidate: None, next: 0, failure: None, watch, given_up: Vec::new(), ending: false }
    }
}

/// `queue ! videoconvert ! caps ! videocrop ! encoder`: with a thread of its own, so that an encoder that hangs does not
/// take the source with it.
#[derive(Clone)]
struct Candidate {
    factory: String,
    text: String,
    bin: gst::Bin,
    queue: gst::Element,
    crop: gst::Element,
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
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |slot| slot.sink_query(pad, query))
            })
            .build();
        let template = klass.pad_template("src").expect("it is in the class");
        let src_pad = gst::GhostPad::builder_from_template(&template).build();
        Self {
            config: OnceLock::new(),
            hook: OnceLock::new(),
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
        let kinds =
            gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST | gst::PadProbeType::EVENT_DOWNSTREAM;
        self.src_pad.add_probe(kinds, move |_, info| {
            let Some(slot) = weak.upgrade() else { return gst::PadProbeReturn::Ok };
            let mut state = slot.imp().lock();
            match info.event().map(|event| event.type_()) {
                // A queue says EOS when what follows it fails.
                Some(gst::EventType::Eos) if !state.ending => return gst::PadProbeReturn::Drop,
                Some(_) => (),
                None => state.watch.output(Instant::now()),
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
            gst::StateChange::ReadyToPaused => {
                *self.changes() = true;
                self.lock().ending = false;
            }
            _ => (),
        }
        let result = self.parent_change_state(transition);
        if result.is_err()
            && let Some(reason) = self.lock().failure.take()
        {
            // It opened before, or it would not be here.
            gst::element_imp_error!(self, gst::LibraryError::Init, ("{reason}"));
        }
        if transition == gst::StateChange::ReadyToNull {
            self.remove();
            *self.lock() = State::default();
        }
        result
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
    pub(super) fn configure(&self, encoding: Encoding, queue_size: u32) {
        assert!(self.config.set((encoding, queue_size)).is_ok(), "only the constructor sets it");
    }

    pub(super) fn set_hook(&self, hook: Hook) {
        assert!(self.hook.set(hook).is_ok(), "it is set once, before the bin starts");
    }

    pub(super) fn current(&self) -> Option<(String, String)> {
        self.lock().candidate.as_ref().map(|candidate| (candidate.factory.clone(), candidate.text.clone()))
    }

    pub(super) fn given_up(&self) -> Vec<(String, String)> {
        self.lock().given_up.clone()
    }

    pub(super) fn waiting(&self) -> u32 {
        let queue = self.lock().candidate.as_ref().map(|candidate| candidate.queue.clone());
        queue.map_or(0, |queue| queue.property("current-level-buffers"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn changes(&self) -> MutexGuard<'_, bool> {
        self.change.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn encoding(&self) -> &Encoding {
        &self.config.get().expect("the constructor sets it").0
    }

    fn sink_event(&self, pad: &gst::GhostPad, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => {
                let crop = self.lock().candidate.as_ref().map(|candidate| candidate.crop.clone());
                if let Some(crop) = crop {
                    even(&crop, caps.caps());
                }
            }
            gst::EventView::Eos(_) => self.lock().ending = true,
            gst::EventView::FlushStop(_) | gst::EventView::StreamStart(_) => self.lock().ending = false,
            _ => (),
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    /// Answers for all candidates: what one of them does not take is for the next to try, and one that hangs must not
    /// hold up who asks.
    fn sink_query(&self, pad: &gst::GhostPad, query: &mut gst::QueryRef) -> bool {
        let any = pad.pad_template_caps();
        match query.view_mut() {
            gst::QueryViewMut::Caps(query) => {
                let caps = query.filter_owned().map_or(any.clone(), |filter| {
                    filter.intersect_with_mode(&any, gst::CapsIntersectMode::First)
                });
                query.set_result(&caps);
                true
            }
            gst::QueryViewMut::AcceptCaps(query) => {
                query.set_result(query.caps_owned().can_intersect(&any));
                true
            }
            gst::QueryViewMut::Allocation(query) => {
                // What videoconvert understands.
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    fn chain(&self, pad: &gst::GhostPad, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        loop {
            let failure = {
                let mut state = self.lock();
                let last = state.next >= self.encoding().candidates.len();
                let patience = state.watch.offer(Instant::now(), last);
                state.failure.take().or(patience.err())
            };
            if let Some(reason) = failure {
                if let Some(error) = self.downstream_error() {
                    return Err(error);
                }
                self.replace(reason)?;
                continue;
            }
            let result = gst::ProxyPad::chain_default(pad, Some(&*self.obj()), buffer.clone());
            match result {
                Err(error) if error != gst::FlowError::Flushing && error != gst::FlowError::Eos => {
                    self.lock().failure.get_or_insert_with(|| format!("it refused a frame: {error}"));
                }
                _ => return result,
            }
        }
    }

    /// What comes back from downstream is not the fault of an encoder that delivers.
    fn downstream_error(&self) -> Option<gst::FlowError> {
        let encoder = {
            let state = self.lock();
            state.candidate.as_ref().filter(|_| state.watch.delivered())?.encoder.clone()
        };
        encoder.static_pad("src")?.last_flow_result().err()
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
                    (state.watch, state.failure) = (Watch::new(Instant::now()), None);
                    state.candidate = Some(candidate);
                    return true;
                }
                Err(reason) => self.lock().given_up.push((factory.clone(), reason)),
            }
        }
    }

    /// Makes and opens a candidate, and joins it to the pads.
    fn open(&self, factory: &str) -> Result<Candidate, String> {
        let (encoding, queue_size) = self.config.get().expect("the constructor sets it");
        let candidate = Candidate::new(factory, encoding, *queue_size)?;
        let leaves = candidate.queue.static_pad("src").expect("a queue has a source pad");
        let weak = self.obj().downgrade();
        leaves.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            if let Some(slot) = weak.upgrade() {
                slot.imp().lock().watch.take(Instant::now());
            }
            gst::PadProbeReturn::Ok
        });
        if let Some(hook) = self.hook.get() {
            hook(&leaves);
        }
        let joined = self.join(&candidate);
        if joined.is_err() {
            self.discard(&candidate);
        }
        joined.map(|()| candidate)
    }

    fn join(&self, candidate: &Candidate) -> Result<(), String> {
        self.lock().failure = None;
        let why = |what: &str| self.lock().failure.take().unwrap_or_else(|| what.into());
        let pad = |name| candidate.bin.static_pad(name).expect("it was given both");
        // The bin's own state comes later: it would fail with the candidate.
        candidate.bin.set_locked_state(true);
        self.obj().add(&candidate.bin).map_err(|error| error.to_string())?;
        // Some encoders open in READY, others in PAUSED.
        if candidate.bin.set_state(gst::State::Paused).is_err() {
            return Err(why("it does not open"));
        }
        if self.obj().current_state() < gst::State::Paused {
            let _ = candidate.bin.set_state(gst::State::Ready);
        }
        if let Some(caps) = self.sink_pad.current_caps() {
            even(&candidate.crop, &caps);
        }
        self.src_pad.set_target(Some(&pad("src"))).map_err(|error| error.to_string())?;
        self.sink_pad.set_target(Some(&pad("sink"))).map_err(|error| error.to_string())?;
        candidate.bin.set_locked_state(false);
        candidate.bin.sync_state_with_parent().map_err(|_| why("it does not start"))
    }

    fn remove(&self) {
        let candidate = self.lock().candidate.take();
        if let Some(candidate) = candidate {
            self.discard(&candidate);
        }
    }

    /// Its thread may hang in the encoder: it is cut off first, and stopped by somebody else.
    fn discard(&self, candidate: &Candidate) {
        let _ = self.sink_pad.set_target(None::<&gst::Pad>);
        let _ = self.src_pad.set_target(None::<&gst::Pad>);
        candidate.bin.set_locked_state(true);
        let _ = self.obj().remove(&candidate.bin);
        teardown::stop(candidate.bin.clone().upcast());
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

impl Candidate {
    fn new(factory: &str, encoding: &Encoding, queue_size: u32) -> Result<Self, String> {
        let stock = |name| Stage::new(name).map_err(|failure| failure.to_string());
        let mut encoder = Stage::new(factory).map_err(|_| "it is not installed".to_owned())?;
        tune::encoder(&mut encoder, encoding);
        let queue = stock("queue")?
            .set("leaky", "downstream")
            .set("max-size-buffers", &queue_size.to_string())
            .set("max-size-bytes", "0")
            .set("max-size-time", "0");
        let mut convert = stock("videoconvert")?;
        convert.wish("n-threads", "0");
        let raw = Stage::caps(RAW).map_err(|failure| failure.to_string())?;
        let stages = [queue, convert, raw, stock("videocrop")?, encoder];
        let text = stage::text(&stages);
        let [queue, convert, raw, crop, encoder] = stages.map(|stage| stage.element);

        let bin = gst::Bin::new();
        let elements = [&queue, &convert, &raw, &crop, &encoder];
        bin.add_many(elements).map_err(|error| error.to_string())?;
        gst::Element::link_many(elements).map_err(|_| "it takes no raw video of 4:2:0".to_owned())?;
        for (element, name) in [(&queue, "sink"), (&encoder, "src")] {
            let target = element.static_pad(name).ok_or_else(|| format!("it has no {name} pad"))?;
            let pad = gst::GhostPad::builder_with_target(&target).map_err(|error| error.to_string())?;
            bin.add_pad(&pad.name(name).build()).map_err(|error| error.to_string())?;
        }
        Ok(Self { factory: factory.into(), text, bin, queue, crop, encoder })
    }
}
