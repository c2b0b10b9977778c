// SPDX-License-Identifier: MPL-2.0

//! A parser between two pads of ours, without a pipeline around it: what goes in comes out within the same call.

use std::sync::{Arc, Mutex, MutexGuard};

use gst::prelude::*;

use crate::run::plan::Codec;
use crate::run::stage::Stage;

/// A parser that is fed by hand.
pub struct Parser {
    into: gst::Pad,
    parser: gst::Element,
    /// Takes what comes out into `units`.
    _out: gst::Pad,
    units: Arc<Mutex<Vec<gst::Buffer>>>,
    caps: Option<gst::Caps>,
}

impl Parser {
    /// A parser of a codec, for access units in one of the `formats` of its caps' field `stream-format`.
    ///
    /// # Errors
    /// Names the element that is missing.
    pub fn new(codec: Codec, formats: &str) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let parser = Stage::new(&format!("{}parse", codec.name())).map_err(|error| failed(&error))?;
        let parser = parser.set("config-interval", "-1").element;
        let units = Arc::<Mutex<Vec<gst::Buffer>>>::default();
        let wanted = format!("video/x-{},stream-format={formats},alignment=au", codec.name());
        let caps = wanted.parse::<gst::Caps>().expect("literal caps");
        let template =
            gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &caps)
                .expect("a valid template");
        let taken = units.clone();
        let out = gst::Pad::builder_from_template(&template)
            .chain_function(move |_, _, buffer| {
                lock(&taken).push(buffer);
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        let into = gst::Pad::builder(gst::PadDirection::Src).build();
        let pad = |name| parser.static_pad(name).expect("a parser has both pads");
        into.link(&pad("sink")).map_err(|error| failed(&error))?;
        pad("src").link(&out).map_err(|error| failed(&error))?;
        parser.set_state(gst::State::Playing).map_err(|error| failed(&error))?;
        out.set_active(true).map_err(|error| failed(&error))?;
        into.set_active(true).map_err(|error| failed(&error))?;
        into.push_event(gst::event::StreamStart::new("recording"));
        Ok(Self { into, parser, _out: out, units, caps: None })
    }

    /// The access unit as it is wanted.
    ///
    /// # Errors
    /// What the parser does with what it does not understand.
    pub fn convert(&mut self, caps: &gst::Caps, buffer: gst::Buffer) -> Result<gst::Buffer, String> {
        if self.caps.as_ref() != Some(caps) {
            self.into.push_event(gst::event::Caps::new(caps));
            if self.caps.is_none() {
                let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                self.into.push_event(gst::event::Segment::new(&segment));
            }
            self.caps = Some(caps.clone());
        }
        self.into.push(buffer).map_err(|error| format!("the parser refused an access unit: {error}"))?;
        let mut units = std::mem::take(&mut *lock(&self.units));
        match (units.pop(), units.len()) {
            (Some(unit), 0) => Ok(unit),
            (_, others) => Err(format!("the parser made {others} access units of one")),
        }
    }

    /// What the parser says of what came out last.
    pub fn caps(&self) -> Option<gst::Caps> {
        self.parser.static_pad("src")?.current_caps()
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let _ = self.into.set_active(false);
        let _ = self.parser.set_state(gst::State::Null);
    }
}

fn lock(units: &Mutex<Vec<gst::Buffer>>) -> MutexGuard<'_, Vec<gst::Buffer>> {
    units.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
