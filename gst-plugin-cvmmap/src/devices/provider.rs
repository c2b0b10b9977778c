// SPDX-License-Identifier: MPL-2.0

// Locks: `settings` and `watch` are held for single reads and writes, never while devices are added or removed, which
// posts messages, nor while a watch starts or ends.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use cvmmap_control::producers::{Producer, Watch, look};
use cvmmap_control::url::{ServerUrl, URL_VARIABLE, default_url};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::device::Description;
use super::{CAT, CLASS, CvMmapDevice};

struct Settings {
    nats_url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { nats_url: default_url() }
    }
}

#[derive(Default)]
pub struct CvMmapDeviceProvider {
    settings: Mutex<Settings>,
    watch: Mutex<Option<Watch>>,
}

#[glib::object_subclass]
impl ObjectSubclass for CvMmapDeviceProvider {
    const NAME: &'static str = "GstCvMmapDeviceProvider";
    type Type = super::CvMmapDeviceProvider;
    type ParentType = gst::DeviceProvider;
}

impl ObjectImpl for CvMmapDeviceProvider {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecString::builder("nats-url")
                    .nick("NATS URL")
                    .blurb(&format!(
                        "Server that producers are looked for on, empty = none; the default is that of the environment \
                         variable {URL_VARIABLE} where it is set. It is read when the provider starts"
                    ))
                    .default_value(Some(cvmmap_control::DEFAULT_URL))
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, _pspec: &glib::ParamSpec) {
        let url: Option<String> = value.get().expect("the property's type");
        self.settings.lock().unwrap().nats_url = url.unwrap_or_default();
    }

    fn property(&self, _id: usize, _pspec: &glib::ParamSpec) -> glib::Value {
        self.settings.lock().unwrap().nats_url.to_value()
    }
}

impl GstObjectImpl for CvMmapDeviceProvider {}

impl DeviceProviderImpl for CvMmapDeviceProvider {
    fn metadata() -> Option<&'static gst::subclass::DeviceProviderMetadata> {
        static METADATA: LazyLock<gst::subclass::DeviceProviderMetadata> = LazyLock::new(|| {
            gst::subclass::DeviceProviderMetadata::new(
                "cv-mmap Device Provider",
                CLASS,
                "Lists cv-mmap producers in shared memory and on a NATS server",
                "The cv-mmap streamer developers",
            )
        });
        Some(&METADATA)
    }

    fn probe(&self) -> Vec<gst::Device> {
        let (text, url) = self.url();
        let device = |producer| CvMmapDevice::new(Description::new(&producer, &text)).upcast();
        look(url.as_ref()).into_iter().map(device).collect()
    }

    fn start(&self) -> Result<(), gst::LoggableError> {
        let (text, url) = self.url();
        let provider = self.obj().downgrade();
        let mut devices = Devices::default();
        let watch = Watch::start(url.as_ref(), move |producers| {
            if let Some(provider) = provider.upgrade() {
                devices.update(provider.upcast_ref(), &producers, &text);
            }
        });
        *self.watch.lock().unwrap() = Some(watch);
        Ok(())
    }

    fn stop(&self) {
        // The base class drops the devices.
        let watch = self.watch.lock().unwrap().take();
        drop(watch);
    }
}

impl CvMmapDeviceProvider {
    /// The setting, and what it means; a wrong one is told, and means shared memory alone.
    fn url(&self) -> (String, Option<ServerUrl>) {
        let text = self.settings.lock().unwrap().nats_url.clone();
        if text.is_empty() {
            return (text, None);
        }
        match text.parse() {
            Ok(url) => (text, Some(url)),
            Err(error) => {
                gst::warning!(CAT, imp = self, "property 'nats-url' = {error}");
                (String::new(), None)
            }
        }
    }
}

/// Those that were told of, by the names of their pictures.
#[derive(Default)]
struct Devices(BTreeMap<(String, String), CvMmapDevice>);

impl Devices {
    fn update(&mut self, provider: &gst::DeviceProvider, producers: &[Producer], nats_url: &str) {
        let name = |producer: &Producer| (producer.shm_name.clone(), producer.zmq_endpoint.clone());
        let gone = |known: &(String, String)| !producers.iter().any(|producer| name(producer) == *known);
        for (_, device) in self.0.extract_if(.., |known, _| gone(known)) {
            provider.device_remove(&device);
        }
        for producer in producers {
            let description = Description::new(producer, nats_url);
            let known = self.0.get(&name(producer));
            if known.is_some_and(|device| device.is(&description)) {
                continue;
            }
            let device = CvMmapDevice::new(description);
            match known {
                Some(old) => provider.device_changed(&device, old),
                None => provider.device_add(&device),
            }
            self.0.insert(name(producer), device);
        }
    }
}
