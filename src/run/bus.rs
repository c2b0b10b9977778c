// SPDX-License-Identifier: MPL-2.0

//! Errors that elements post, as text.

use std::fmt;

use gst::prelude::*;

/// An error message, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Factory of the element that posted it.
    pub factory: Option<String>,
    /// What it says to users.
    pub text: String,
    /// What it says of the cause, as the system or another library has it.
    pub cause: Option<String>,
}

impl Trouble {
    /// What an error message says.
    pub fn of(error: &gst::message::Error) -> Self {
        let source = error.src().and_then(|src| src.downcast_ref::<gst::Element>());
        let factory = source.and_then(|element| element.factory()).map(|factory| factory.name().to_string());
        Self { factory, text: error.error().to_string(), cause: cause(error.debug()) }
    }

    /// For users, with the cause where it is known.
    pub fn with_cause(&self) -> String {
        let cause = self.cause.as_ref().map_or_else(String::new, |cause| format!(" ({cause})"));
        format!("{self}{cause}")
    }
}

/// The cause in a message's debug text, which stands after the place in the source.
pub fn cause(debug: Option<gst::glib::GString>) -> Option<String> {
    let debug = debug?;
    let cause = debug.split_once('\n')?.1.trim();
    (!cause.is_empty()).then(|| cause.to_owned())
}

/// With the factory in front: users know elements by it, and not by the names of instances.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.factory {
            Some(factory) => write!(f, "{factory}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Takes the first error off the bus. Whatever was posted before it is lost, and all of it where there is none: for
/// buses of which nothing else is wanted.
pub fn first_error(bus: &gst::Bus) -> Option<Trouble> {
    match bus.pop_filtered(&[gst::MessageType::Error])?.view() {
        gst::MessageView::Error(error) => Some(Trouble::of(error)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_follows_the_place_in_the_source() {
        gst::init().unwrap();
        let bus = gst::Bus::new();
        for debug in ["file.c(12): write (): /sink:\nno space left\n", "file.c(12): write (): /sink"] {
            let builder = gst::message::Error::builder(gst::ResourceError::Write, "It failed.");
            bus.post(builder.debug(debug).build()).unwrap();
        }
        let told = std::iter::from_fn(|| first_error(&bus)).map(|trouble| trouble.with_cause());
        assert_eq!(told.collect::<Vec<_>>(), ["It failed. (no space left)", "It failed."]);
    }

    #[test]
    fn the_first_error_is_told_with_its_factory() {
        gst::init().unwrap();
        let bus = gst::Bus::new();
        assert_eq!(first_error(&bus), None);
        let element = gst::ElementFactory::make("fakesink").name("of-ours").build().unwrap();
        bus.post(gst::message::Eos::builder().src(&element).build()).unwrap();
        for text in ["first", "second"] {
            let builder = gst::message::Error::builder(gst::ResourceError::Busy, text);
            bus.post(builder.src(&element).build()).unwrap();
        }
        bus.post(gst::message::Error::builder(gst::ResourceError::Busy, "third").build()).unwrap();
        let told = std::iter::from_fn(|| first_error(&bus)).map(|trouble| trouble.to_string());
        assert_eq!(told.collect::<Vec<_>>(), ["fakesink: first", "fakesink: second", "third"]);
    }
}
