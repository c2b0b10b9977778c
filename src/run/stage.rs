// SPDX-License-Identifier: MPL-2.0

//! An element with its settings, and how gst-launch would spell both: the pipeline and `--print-plan` cannot differ.

use gst::glib;
use gst::prelude::*;

use crate::exit::{Exit, Failure};

/// An element that was made and set up.
pub struct Stage {
    /// The element.
    pub element: gst::Element,
    text: String,
}

impl Stage {
    /// Makes an element of a factory.
    ///
    /// # Errors
    /// A [`Failure`] with [`Exit::Pipeline`] where the factory is not installed.
    pub fn new(factory: &str) -> Result<Self, Failure> {
        let element = gst::ElementFactory::make(factory).build().map_err(|_| {
            Failure::new(Exit::Pipeline, format!("the GStreamer element '{factory}' is not installed"))
        })?;
        Ok(Self { element, text: factory.into() })
    }

    /// A capsfilter, which gst-launch writes as the caps themselves.
    ///
    /// # Errors
    /// As [`Stage::new`].
    pub fn caps(caps: &str) -> Result<Self, Failure> {
        let mut stage = Self::new("capsfilter")?.set("caps", caps);
        stage.text = quoted(caps);
        Ok(stage)
    }

    /// Sets a property that every version has.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        assert!(self.wish(name, value), "{} {name}={value}", self.text);
        self
    }

    /// Sets the first of the properties that this version has and that takes one of the values; tells whether one did.
    pub fn wish_any(&mut self, names: &[&str], values: &[&str]) -> bool {
        names.iter().any(|name| values.iter().any(|value| self.wish(name, value)))
    }

    /// Sets a property where this version has it and takes the value; tells whether it did.
    pub fn wish(&mut self, name: &str, value: &str) -> bool {
        let Some(pspec) = self.element.find_property(name) else { return false };
        if !pspec.flags().contains(glib::ParamFlags::WRITABLE) {
            return false;
        }
        let Ok(parsed) = glib::Value::deserialize_with_pspec(value, &pspec) else { return false };
        if !in_range(&pspec, &parsed) {
            return false;
        }
        self.element.set_property_from_value(name, &parsed);
        self.text += &format!(" {name}={}", quoted(value));
        true
    }

    /// What a property is for, as its element describes it.
    pub fn blurb(&self, name: &str) -> Option<String> {
        self.element.find_property(name)?.blurb().map(str::to_owned)
    }

    /// As gst-launch takes it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The stages as a part of a launch line.
pub fn text(stages: &[Stage]) -> String {
    stages.iter().map(Stage::text).collect::<Vec<_>>().join(" ! ")
}

/// GObject panics at numbers that are out of range.
fn in_range(pspec: &glib::ParamSpec, value: &glib::Value) -> bool {
    if let (Some(spec), Ok(value)) = (pspec.downcast_ref::<glib::ParamSpecInt>(), value.get()) {
        return (spec.minimum()..=spec.maximum()).contains(&value);
    }
    if let (Some(spec), Ok(value)) = (pspec.downcast_ref::<glib::ParamSpecUInt>(), value.get::<u32>()) {
        return (spec.minimum()..=spec.maximum()).contains(&value);
    }
    true
}

/// For a POSIX shell, which hands it on to gst-launch.
fn quoted(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(&b);
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_tried_and_told() {
        gst::init().unwrap();
        let mut stage = Stage::new("queue").unwrap().set("leaky", "downstream");
        assert!(!stage.wish("no-such-property", "1"));
        assert!(!stage.wish("leaky", "sideways"));
        assert!(!stage.wish("current-level-buffers", "1"), "it is read-only");
        let mut sink = Stage::new("udpsink").unwrap();
        assert!(!sink.wish("port", "70000"), "it is out of range");
        assert_eq!(sink.element.property::<i32>("port"), 5004);
        assert!(stage.wish_any(&["no-such-property", "max-size-buffers"], &["many", "7"]));
        assert_eq!(stage.text(), "queue leaky=downstream max-size-buffers=7");
        assert_eq!(stage.element.property::<u32>("max-size-buffers"), 7);
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("rtmp://h:1935/live/cam0"), "rtmp://h:1935/live/cam0");
        assert_eq!(quoted("rtmp://h/live/cam0?a=1&b=it's"), r"'rtmp://h/live/cam0?a=1&b=it'\''s'");
        assert_eq!(
            Stage::caps("video/x-raw,format={I420,NV12}").unwrap().text(),
            "'video/x-raw,format={I420,NV12}'"
        );
    }

    #[test]
    fn a_missing_element_is_named() {
        gst::init().unwrap();
        let failure = Stage::new("nosuchenc").err().unwrap();
        assert_eq!(failure.exit, Exit::Pipeline);
        assert_eq!(failure.to_string(), "the GStreamer element 'nosuchenc' is not installed");
    }
}
