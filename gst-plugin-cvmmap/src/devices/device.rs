// SPDX-License-Identifier: MPL-2.0

use std::sync::OnceLock;

use cvmmap_control::producers::Producer;
use cvmmap_ipc::PlaneKind;
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::{CAT, CLASS};
use crate::format::{output, plane_caps};

const FACTORY: &str = "cvmmapsrc";

/// How it was found; it comes and goes with the server, and the producer stays the same.
const FOUND_BY: &str = "cvmmap.found-by";

/// What makes a device the one it is.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// Properties of the element.
    element: Vec<(&'static str, String)>,
    display_name: String,
    caps: gst::Caps,
    /// Properties of the device.
    facts: Vec<(&'static str, String)>,
}

impl Description {
    /// `nats_url`: where the producer was looked for, and may be asked.
    pub(super) fn new(producer: &Producer, nats_url: &str) -> Self {
        let mut element = match &producer.target {
            Some(target) => vec![("uri", target.to_string())],
            None => {
                vec![("shm-name", producer.shm_name.clone()), ("zmq-endpoint", producer.zmq_endpoint.clone())]
            }
        };
        element.push(("nats-url", nats_url.to_owned()));
        Self {
            element,
            display_name: producer.instance.clone(),
            caps: caps(producer),
            facts: facts(producer),
        }
    }

    /// Whether `now` says nothing that a device of this description does not say. A server that is away for a while
    /// takes facts along, and no device changes for that.
    fn covers(&self, now: &Self) -> bool {
        let same = (&self.element, &self.display_name) == (&now.element, &now.display_name);
        let known = |fact: &(&'static str, String)| fact.0 == FOUND_BY || self.facts.contains(fact);
        same && self.caps == now.caps && now.facts.iter().all(known)
    }
}

/// What the element will give: the left plane by the header; all that it can be where there is no header here.
fn caps(producer: &Producer) -> gst::Caps {
    match &producer.segment {
        // Nothing, where GStreamer has no such format: whoever asks for certain caps does not get it.
        Some(segment) => output(&segment.header, PlaneKind::Left, None)
            .map_or_else(|_| gst::Caps::new_empty(), |o| o.caps()),
        None => plane_caps(PlaneKind::Left),
    }
}

fn facts(producer: &Producer) -> Vec<(&'static str, String)> {
    let text = |value: &str| Some(value.to_owned());
    let service = producer.service.as_ref();
    let said = |key: &str| service.and_then(|found| found.get(key)).map(str::to_owned);
    let header = producer.segment.as_ref().map(|segment| &segment.header);
    let planes = header.map(|header| {
        let names: Vec<_> = header.planes.iter().flatten().map(|plane| plane.kind.name()).collect();
        names.join(",")
    });
    let fields = [
        ("device.api", text("cvmmap")),
        ("device.class", text("video")),
        ("cvmmap.instance", text(&producer.instance)),
        ("cvmmap.uri", producer.target.as_ref().map(ToString::to_string)),
        ("cvmmap.shm-name", text(&producer.shm_name)),
        ("cvmmap.zmq-endpoint", text(&producer.zmq_endpoint)),
        ("cvmmap.nats-key", producer.nats_key.clone()),
        (FOUND_BY, text(producer.found_by())),
        ("cvmmap.version", header.map(|header| header.version.to_string())),
        ("cvmmap.planes", planes),
        ("cvmmap.backend", said("backend")),
        ("cvmmap.build-version", said("build_version")),
        ("cvmmap.service-id", service.map(|found| found.id.clone())),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

#[derive(Default)]
pub struct CvMmapDevice {
    description: OnceLock<Description>,
}

#[glib::object_subclass]
impl ObjectSubclass for CvMmapDevice {
    const NAME: &'static str = "GstCvMmapDevice";
    type Type = super::CvMmapDevice;
    type ParentType = gst::Device;
}

impl ObjectImpl for CvMmapDevice {}

impl GstObjectImpl for CvMmapDevice {}

impl DeviceImpl for CvMmapDevice {
    fn create_element(&self, name: Option<&str>) -> Result<gst::Element, gst::LoggableError> {
        let element = gst::ElementFactory::make_with_name(FACTORY, name)
            .map_err(|error| gst::loggable_error!(CAT, "{error}"))?;
        self.configure(&element);
        Ok(element)
    }

    fn reconfigure_element(&self, element: &gst::Element) -> Result<(), gst::LoggableError> {
        let factory = element.factory().map(|factory| factory.name());
        if factory.as_deref() != Some(FACTORY) {
            return Err(gst::loggable_error!(CAT, "{} is no {FACTORY}", element.name()));
        }
        if element.current_state() > gst::State::Ready {
            return Err(gst::loggable_error!(CAT, "{} can be set in NULL and READY only", element.name()));
        }
        for name in ["shm-name", "zmq-endpoint"] {
            element.set_property(name, None::<String>);
        }
        self.configure(element);
        Ok(())
    }
}

impl CvMmapDevice {
    fn configure(&self, element: &gst::Element) {
        for (name, value) in self.description.get().into_iter().flat_map(|what| &what.element) {
            if element.find_property(name).is_none() {
                continue;
            }
            // Left alone where it is that already: tools print what was set.
            if element.property::<Option<String>>(name).as_deref() != Some(value) {
                element.set_property(name, value);
            }
        }
    }
}

impl super::CvMmapDevice {
    pub(super) fn new(description: Description) -> Self {
        let mut properties = gst::Structure::new_empty("cvmmap-device");
        for (name, value) in &description.facts {
            properties.set(*name, value);
        }
        let device: Self = glib::Object::builder()
            .property("display-name", &description.display_name)
            .property("device-class", CLASS)
            .property("caps", &description.caps)
            .property("properties", properties)
            .build();
        device.imp().description.set(description).expect("it is new");
        device
    }

    /// Whether it is still the one, after another look.
    pub(super) fn is(&self, now: &Description) -> bool {
        self.imp().description.get().is_some_and(|description| description.covers(now))
    }
}
