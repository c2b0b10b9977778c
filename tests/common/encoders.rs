// SPDX-License-Identifier: MPL-2.0

//! Encoders that do not work, as hardware does not: `closedenc`, `stillbornenc`, `narrowenc`, `refusingenc`,
//! `swallowingenc`, `hangingenc`, `failingenc`.

use std::sync::{LazyLock, Once};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::subclass::prelude::*;

/// Makes the factories known, below every rank.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        fn add<T: StaticType>(name: &str) {
            gst::Element::register(None, name, gst::Rank::NONE, T::static_type()).unwrap();
        }
        add::<Closed>("closedenc");
        add::<Stillborn>("stillbornenc");
        add::<Narrow>("narrowenc");
        add::<Hanging>("hangingenc");
        add::<Refusing>("refusingenc");
        add::<Swallowing>("swallowingenc");
        add::<Failing>("failingenc");
    });
}

fn templates(raw: &str) -> Vec<gst::PadTemplate> {
    let template = |name, direction, caps: &str| {
        let caps = caps.parse::<gst::Caps>().unwrap();
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
    };
    let encoded = "video/x-h264,stream-format=byte-stream,alignment=au";
    vec![template("sink", gst::PadDirection::Sink, raw), template("src", gst::PadDirection::Src, encoded)]
}

macro_rules! encoder {
    ($module:ident, $wrapper:ident, $name:literal, { $($body:tt)* }) => {
        encoder!($module, $wrapper, $name, "video/x-raw,format=I420", { $($body)* });
    };
    ($module:ident, $wrapper:ident, $name:literal, $raw:literal, { $($body:tt)* }) => {
        mod $module {
            use super::*;

            #[derive(Default)]
            pub struct Encoder;

            #[glib::object_subclass]
            impl ObjectSubclass for Encoder {
                const NAME: &'static str = $name;
                type Type = super::$wrapper;
                type ParentType = gst_video::VideoEncoder;
            }

            impl ObjectImpl for Encoder {}
            impl GstObjectImpl for Encoder {}
            impl ElementImpl for Encoder {
                fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
                    static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                        gst::subclass::ElementMetadata::new($name, "Codec/Encoder/Video", "Does not work", "Tests")
                    });
                    Some(&METADATA)
                }

                fn pad_templates() -> &'static [gst::PadTemplate] {
                    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| templates($raw));
                    &TEMPLATES
                }
            }
            impl VideoEncoderImpl for Encoder { $($body)* }
        }

        glib::wrapper! {
            pub struct $wrapper(ObjectSubclass<$module::Encoder>)
                @extends gst_video::VideoEncoder, gst::Element, gst::Object;
        }
    };
}

encoder!(closed, Closed, "TestClosedEncoder", {
    fn open(&self) -> Result<(), gst::ErrorMessage> {
        Err(gst::error_msg!(gst::ResourceError::Busy, ["the device is busy"]))
    }
});

encoder!(stillborn, Stillborn, "TestStillbornEncoder", {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        Err(gst::error_msg!(gst::ResourceError::Busy, ["no free session"]))
    }
});

encoder!(narrow, Narrow, "TestNarrowEncoder", "video/x-raw,format=I420,width=[1,100]", {});

encoder!(hanging, Hanging, "TestHangingEncoder", {
    fn handle_frame(&self, _frame: gst_video::VideoCodecFrame) -> Result<gst::FlowSuccess, gst::FlowError> {
        loop {
            std::thread::park();
        }
    }
});

encoder!(refusing, Refusing, "TestRefusingEncoder", {
    fn set_format(
        &self,
        _state: &gst_video::VideoCodecState<'static, gst_video::video_codec_state::Readable>,
    ) -> Result<(), gst::LoggableError> {
        Err(gst::loggable_error!(gst::CAT_DEFAULT, "not this size"))
    }
});

encoder!(swallowing, Swallowing, "TestSwallowingEncoder", {
    fn handle_frame(&self, _frame: gst_video::VideoCodecFrame) -> Result<gst::FlowSuccess, gst::FlowError> {
        Ok(gst::FlowSuccess::Ok)
    }
});

/// Encodes twenty frames and then posts an error, as a driver that was reset does.
mod failing {
    use super::*;

    #[derive(Default)]
    pub struct Encoder;

    #[glib::object_subclass]
    impl ObjectSubclass for Encoder {
        const NAME: &'static str = "TestFailingEncoder";
        type Type = super::Failing;
        type ParentType = gst::Bin;
    }

    impl ObjectImpl for Encoder {
        fn constructed(&self) {
            self.parent_constructed();
            let encoder = gst::ElementFactory::make("x264enc").property("key-int-max", 30u32);
            let encoder = encoder.property_from_str("tune", "zerolatency").build().unwrap();
            let broken = gst::ElementFactory::make("identity").property("error-after", 21).build().unwrap();
            let obj = self.obj();
            obj.add_many([&encoder, &broken]).unwrap();
            encoder.link(&broken).unwrap();
            for (element, name) in [(encoder, "sink"), (broken, "src")] {
                let pad = gst::GhostPad::with_target(&element.static_pad(name).unwrap()).unwrap();
                obj.add_pad(&pad).unwrap();
            }
        }
    }

    impl GstObjectImpl for Encoder {}
    impl ElementImpl for Encoder {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Failing",
                    "Codec/Encoder/Video",
                    "Does not work",
                    "Tests",
                )
            });
            Some(&METADATA)
        }
    }
    impl BinImpl for Encoder {}
}

glib::wrapper! {
    pub struct Failing(ObjectSubclass<failing::Encoder>) @extends gst::Bin, gst::Element, gst::Object;
}
