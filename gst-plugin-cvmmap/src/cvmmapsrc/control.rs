// SPDX-License-Identifier: MPL-2.0

//! The element's side of the control plane: the connection, what is heard on it, and what is told of it.
//!
//! Callbacks come on the threads of the control plane. They wait for nothing, and the streaming thread asks for nothing:
//! it finds what they left behind.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cvmmap_control::proto::{GetSourceInfoResponse, ModuleStatus};
use cvmmap_control::source::flags;
use cvmmap_control::{
    Connection, ControlError, InfoFollower, Link, Source, Subjects, Subscription, life, names,
};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::body_message::Teller;
use super::imp::CvMmapSrc;
use super::settings::Settings;
use super::telling::Telling;

/// So often nobody has to be there, and no frame come, before what is known of the source is forgotten: about four seconds.
const GONE_AFTER: u32 = 5;

/// An open connection, and what is subscribed on it. All of it ends when it is dropped.
pub(super) struct Control {
    pub source: Source,
    /// Also the label of messages; `None` takes any.
    pub instance: Option<String>,
    info: InfoFollower,
    /// Where bodies are tracked.
    pub teller: Option<Teller>,
    /// What others had lost on the same connection before.
    lost_before: u64,
    /// Held for as long as they are wanted.
    subscriptions: Mutex<Vec<Subscription>>,
}

/// What came over NATS and was no use, or was told already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Heard {
    pub invalid_events: u64,
    pub invalid_bodies: u64,
    pub invalid_answers: u64,
    /// How often nobody was there to say what the source is.
    unanswered: u32,
    /// Another segment was found since it last said what it is.
    doubted: bool,
    /// Whether the link is up, as it was last logged.
    up: Option<bool>,
}

/// What a producer says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceInfo(pub GetSourceInfoResponse);

/// The producer's clock from the first sample to the last, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    pub start: u64,
    pub duration: Option<u64>,
}

impl SourceInfo {
    pub fn can_seek(&self) -> bool {
        self.0.flags & flags::CAN_SEEK != 0
    }

    /// Of producers that have one: those that can seek, and those that end.
    pub fn timeline(&self) -> Option<Timeline> {
        let info = &self.0;
        let finite = names::SOURCE_KINDS.name(info.source_kind) == Some("finite");
        let span = info.timeline_end_ns.saturating_sub(info.timeline_start_ns);
        // 0 is none, and so is what GStreamer has no number for: some say "no end" by the largest.
        let duration = [info.duration_ns, span].into_iter().find(|ns| (1..i64::MAX as u64).contains(ns));
        (finite || self.can_seek()).then_some(Timeline { start: info.timeline_start_ns, duration })
    }

    /// Whether another answer says the same, but for where the producer is now.
    fn is_same_source(&self, other: &Self) -> bool {
        let still =
            |info: &Self| GetSourceInfoResponse { current_timestamp_ns: 0, current_frame_count: 0, ..info.0 };
        still(self) == still(other)
    }

    pub fn structure(&self) -> gst::Structure {
        let info = &self.0;
        let mut structure = gst::Structure::builder("cvmmapsrc-source-info")
            .field("source-kind", names::SOURCE_KINDS.name_or_unknown(info.source_kind))
            .field("timestamp-domain", names::TIMESTAMP_DOMAINS.name_or_unknown(info.timestamp_domain))
            .field("flags", info.flags)
            .field("timeline-start", info.timeline_start_ns)
            .field("timeline-end", info.timeline_end_ns)
            .field("duration", info.duration_ns)
            .field("current-timestamp", info.current_timestamp_ns)
            .field("current-frame-count", info.current_frame_count);
        for (bit, name) in flags::NAMES.into_iter().enumerate() {
            structure = structure.field(name, info.flags & 1 << bit != 0);
        }
        structure.build()
    }
}

impl CvMmapSrc {
    /// Begins to connect, where there is a server to connect to; the error is posted.
    pub(super) fn open_control(&self, settings: &Settings) -> Result<(), gst::StateChangeError> {
        let refused = |error: String| {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        };
        let Some(url) = settings.server().map_err(refused)? else { return Ok(()) };
        let (key, instance) = settings.control_names().map_err(refused)?;
        let connection = Connection::open(&url)
            .map_err(|error| refused(format!("property 'nats-url' = '{url}': {error}")))?;
        let subjects = Subjects::new(key);
        let source = Source::new(connection.clone(), subjects.clone());

        let teller = match settings.body_tracking {
            true => {
                Some(Teller::start(&self.obj()).map_err(|error| refused(format!("body tracking: {error}")))?)
            }
            false => None,
        };
        let generation = self.generation.load(Ordering::Acquire);
        let take = self.callback(move |this: &Self, answer| this.take_info(generation, answer));
        let info = InfoFollower::start(source.clone(), take);
        let lost_before = connection.lost_messages();
        let control = Arc::new(Control {
            source,
            instance,
            info,
            teller,
            lost_before,
            subscriptions: Mutex::default(),
        });
        // Before the first callback, which may come at once.
        *self.control.lock().unwrap() = Some(control.clone());

        let mut subscriptions = vec![connection.watch(self.callback(Self::link_changed))];
        let mut take = self.callback(Self::take_event);
        subscriptions.push(connection.subscribe(&subjects.status(), move |_, payload| take(payload)));
        if settings.body_tracking {
            let mut take = self.callback(Self::take_packet);
            subscriptions.push(connection.subscribe(&subjects.body(), move |_, payload| take(payload)));
        }
        *control.subscriptions.lock().unwrap() = subscriptions;
        Ok(())
    }

    /// Ends what `open_control` began; callbacks that are under way find that they are no longer meant.
    pub(super) fn close_control(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let control = self.control.lock().unwrap().take();
        drop(control);
        let known = self.source_info.lock().unwrap().take();
        if known.is_some() {
            self.obj().notify("source-info");
        }
    }

    /// The producer went: what was known of it holds no longer.
    pub(super) fn forget_source(&self) {
        self.replace_info(self.generation.load(Ordering::Acquire), None);
    }

    /// Another may have taken its place, which may have said already what it is.
    pub(super) fn doubt_source(&self) {
        self.heard.lock().unwrap().doubted = true;
        self.ask_for_info();
    }

    /// What may be called from another thread for as long as the element is open as it is now.
    fn callback<T: 'static>(
        &self,
        take: impl Fn(&Self, T) + Send + 'static,
    ) -> impl FnMut(T) + Send + 'static {
        let (weak, generation) = (self.obj().downgrade(), self.generation.load(Ordering::Acquire));
        move |what| {
            if let Some(element) = weak.upgrade()
                && element.imp().generation.load(Ordering::Acquire) == generation
            {
                take(element.imp(), what);
            }
        }
    }

    fn link_changed(&self, link: Link) {
        let up = match &link {
            Link::Connecting => return,
            Link::Up => true,
            Link::Down(_) => false,
        };
        if self.heard.lock().unwrap().up.replace(up) == Some(up) {
            return;
        }
        let Some(control) = self.open_connection() else { return };
        let url = control.source.connection().url().clone();
        match link {
            Link::Down(reason) => {
                let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
                gst::info!(CAT, imp = self, "no NATS server at {url}{reason}: the picture goes on without");
            }
            _ => gst::info!(CAT, imp = self, "the NATS server at {url} is there"),
        }
    }

    fn take_event(&self, payload: Payload) {
        let instance = self.open_connection().and_then(|control| control.instance.clone());
        let event = match life::parse_event(&payload, instance.as_deref()) {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(why) => {
                let first = count(&mut self.heard.lock().unwrap().invalid_events);
                self.complain(first, format_args!("a status event of {} bytes: {why}", payload.len()));
                return;
            }
        };
        let status = ModuleStatus::try_from(event.status).unwrap_or(ModuleStatus::Unknown);
        let reset = self.tell(|telling| telling.event(status, Instant::now()));
        if reset {
            self.bodies.lock().unwrap().forget(Instant::now());
        }
        if status == ModuleStatus::Offline {
            self.forget_source();
        }
        if reset || status == ModuleStatus::Online {
            self.ask_for_info();
        }
    }

    /// Something happened after which the producer may be another. Never waits.
    pub(super) fn ask_for_info(&self) {
        if let Some(control) = self.open_connection() {
            control.info.ask();
        }
    }

    fn take_info(&self, generation: u64, answer: Result<GetSourceInfoResponse, ControlError>) {
        let new = match answer {
            Ok(info) => {
                let mut heard = self.heard.lock().unwrap();
                (heard.unanswered, heard.doubted) = (0, false);
                Some(SourceInfo(info))
            }
            // Nobody is there who could say, or who does; a producer may need a while to come back to the server.
            Err(error) if self.is_gone(&error) => {
                gst::debug!(CAT, imp = self, "no source info: {error}");
                None
            }
            Err(error) => {
                if matches!(error, ControlError::Malformed { .. }) {
                    let first = count(&mut self.heard.lock().unwrap().invalid_answers);
                    self.complain(first, format_args!("{error}"));
                }
                gst::debug!(CAT, imp = self, "the source info stays as it is: {error}");
                return;
            }
        };
        self.replace_info(generation, new);
    }

    /// Stores what is known now and tells it, unless the element was closed since `generation`.
    fn replace_info(&self, generation: u64, new: Option<SourceInfo>) {
        let mut known = self.source_info.lock().unwrap();
        // Whoever closes counts on first and clears then, so that this sees the one or is cleared by the other.
        if self.generation.load(Ordering::Acquire) != generation {
            return;
        }
        let old = std::mem::replace(&mut *known, new.clone());
        drop(known);
        let same = match (&old, &new) {
            (Some(old), Some(new)) => old.is_same_source(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if same {
            return;
        }
        let obj = self.obj();
        obj.notify("source-info");
        let duration = |info: &Option<SourceInfo>| info.as_ref().and_then(|info| info.timeline()?.duration);
        if duration(&old) != duration(&new) {
            let _ = obj.post_message(gst::message::DurationChanged::builder().src(&*obj).build());
        }
        if let Some(info) = new {
            gst::info!(CAT, imp = self, "{}", info.structure());
            self.post(info.structure());
        }
    }

    /// Whether what is known of the source holds no longer, after this failure to ask for it. While its frames flow it
    /// does: after a server's restart the producer may be back later than we are.
    fn is_gone(&self, error: &ControlError) -> bool {
        let flows = self.telling.lock().unwrap().is_lively();
        let mut heard = self.heard.lock().unwrap();
        heard.unanswered += u32::from(matches!(error, ControlError::NoResponders { .. }));
        matches!(error, ControlError::Refused { .. })
            || heard.unanswered >= GONE_AFTER && (heard.doubted || !flows)
    }

    /// The connection, where the element has one.
    pub(super) fn open_connection(&self) -> Option<Arc<Control>> {
        self.control.lock().unwrap().clone()
    }

    /// Changes what is to be told, and tells it, in the order in which it was decided by whatever thread.
    pub(super) fn tell<R>(&self, change: impl FnOnce(&mut Telling) -> R) -> R {
        let result = change(&mut self.telling.lock().unwrap());
        loop {
            let Some(news) = self.telling.lock().unwrap().begin_post() else { return result };
            let uri = self.settings.lock().unwrap().uri.clone();
            let (state, cause) = (news.state.name(), news.cause_name());
            gst::info!(CAT, imp = self, "{uri}: {state}, say {cause}");
            let mut message = gst::Structure::builder("cvmmapsrc-state")
                .field("state", state)
                .field("cause", cause)
                .field("uri", uri);
            if let Some(frame) = news.frame {
                message = message.field("frame-count", frame.count);
            }
            self.post(message.build());
            self.telling.lock().unwrap().posted();
        }
    }

    /// One line for the first of its kind since the element was opened; the others are counted.
    pub(super) fn complain(&self, first: bool, what: std::fmt::Arguments) {
        if first {
            gst::warning!(CAT, imp = self, "over NATS came {what}; others are counted in stats");
        }
    }

    /// The `stats` property.
    pub(super) fn stats_structure(&self) -> gst::Structure {
        let stats = self.stats.lock().unwrap().clone();
        let resets = self.telling.lock().unwrap().resets(stats.counters.resets);
        let bodies = self.bodies.lock().unwrap().counts;
        let heard = *self.heard.lock().unwrap();
        let control = self.open_connection();
        let lost = control
            .as_ref()
            .map_or(0, |c| c.source.connection().lost_messages().saturating_sub(c.lost_before));
        let mut structure = stats.structure(resets);
        structure
            .set("nats", control.as_ref().map_or("off", |control| control.source.connection().link().name()));
        structure.set("bodies", bodies.taken);
        structure.set("bodies-attached", bodies.attached);
        structure.set("bodies-late", bodies.late);
        structure.set("bodies-unmatched", bodies.unmatched);
        structure.set("bodies-untold", bodies.untold);
        structure.set("invalid-bodies", heard.invalid_bodies);
        structure.set("invalid-events", heard.invalid_events);
        structure.set("lost-messages", lost);
        structure
    }
}

/// Bytes of a message.
pub(super) type Payload = bytes::Bytes;

/// Counts one; whether it was the first.
pub(super) fn count(counter: &mut u64) -> bool {
    *counter += 1;
    *counter == 1
}

/// For the property: `NULL` while nothing is known.
pub(super) fn info_value(info: Option<&SourceInfo>) -> glib::Value {
    info.map(SourceInfo::structure).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_ends_or_seeks_has_a_timeline() {
        gst::init().unwrap();
        let info = |source_kind, flags| {
            SourceInfo(GetSourceInfoResponse {
                source_kind,
                flags,
                timeline_start_ns: 5,
                timeline_end_ns: 15,
                ..Default::default()
            })
        };
        let timeline = Some(Timeline { start: 5, duration: Some(10) });
        assert_eq!(info(1, 0).timeline(), None);
        assert_eq!(info(1, flags::CAN_SEEK).timeline(), timeline);
        assert_eq!(info(2, 0).timeline(), timeline);
        let mut endless = info(2, 0);
        endless.0.duration_ns = u64::MAX;
        assert_eq!(endless.timeline(), timeline);
        endless.0.timeline_end_ns = u64::MAX;
        assert_eq!(endless.timeline(), Some(Timeline { start: 5, duration: None }));
        assert!(!info(2, flags::AUTO_LOOP).can_seek());
        let structure = info(2, flags::CAN_SEEK | 0x8000).structure();
        assert_eq!(structure.get("source-kind"), Ok("finite"));
        assert_eq!(structure.get("timestamp-domain"), Ok("unknown"));
        assert_eq!((structure.get("can-seek"), structure.get("auto-loop")), (Ok(true), Ok(false)));
        assert_eq!(structure.get("flags"), Ok(0x8001u32));
    }
}
