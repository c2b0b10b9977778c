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

/// What makes a device the one it is; where it differs, the device has changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    /// Properties of the element.
    element: Vec<(&'static str, String)>,
    display_name: String,
    caps: gst::Caps,
    found_by: &'static str,
    nats_key: Option<String>,
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
            found_by: producer.found_by(),
            nats_key: producer.nats_key.clone(),
        }
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

fn properties(producer: &Producer) -> gst::Structure {
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
        ("cvmmap.found-by", text(producer.found_by())),
        ("cvmmap.version", header.map(|header| header.version.to_string())),
        ("cvmmap.planes", planes),
        ("cvmmap.backend", said("backend")),
        ("cvmmap.build-version", said("build_version")),
        ("cvmmap.service-id", service.map(|found| found.id.clone())),
    ];
    let mut structure = gst::Structure::new_empty("cvmmap-device");
    for (name, value) in fields {
        if let Some(value) = value {
            structure.set(name, value);
        }
    }
    structure
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
    pub(super) fn new(producer: &Producer, description: Description) -> Self {
        let device: Self = glib::Object::builder()
            .property("display-name", &description.display_name)
            .property("device-class", CLASS)
            .property("caps", &description.caps)
            .property("properties", properties(producer))
            .build();
        device.imp().description.set(description).expect("it is new");
        device
    }

    pub(super) fn is(&self, description: &Description) -> bool {
        self.imp().description.get() == Some(description)
    }
}
