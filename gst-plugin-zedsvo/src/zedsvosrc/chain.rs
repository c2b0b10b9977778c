// SPDX-License-Identifier: MPL-2.0

//! Which elements decode a recording.

use gst::prelude::*;
use svo2::Codec;

use super::CAT;

/// Caps of the access units, as far as decoders are chosen by them.
fn caps_of(codec: Codec, (width, height): (u32, u32)) -> gst::caps::Builder<gst::caps::NoFeature> {
    let name = match codec {
        Codec::H264 => "video/x-h264",
        Codec::H265 => "video/x-h265",
    };
    gst::Caps::builder(name).field("width", width as i32).field("height", height as i32)
}

/// Caps of the access units.
pub(super) fn caps(recording: &svo2::Recording) -> gst::Caps {
    // Encoders like a rate, also where the header has none.
    let rate = 1e9 / recording.nominal_ns() as f64;
    let rate =
        gst::Fraction::approximate_f64((rate * 100.).round() / 100.).unwrap_or(gst::Fraction::new(0, 1));
    caps_of(recording.codec(), recording.size())
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .field("framerate", rate)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build()
}

pub(super) fn parser(codec: Codec) -> Result<gst::Element, String> {
    let name = match codec {
        Codec::H264 => "h264parse",
        Codec::H265 => "h265parse",
    };
    gst::ElementFactory::make(name).name("parser").build().map_err(|_| {
        format!("the element {name} is not installed: it is in gst-plugins-bad, plugin videoparsersbad")
    })
}

/// The decoder with the highest rank that works, or the one that is asked for.
pub(super) fn decoder(recording: &svo2::Recording, asked: Option<&str>) -> Result<gst::Element, String> {
    let codec = recording.codec();
    let caps = caps_of(codec, recording.size()).build();
    if let Some(name) = asked {
        return asked_for(name, codec, &caps);
    }
    let candidates = candidates(&caps);
    for factory in &candidates {
        match ready(factory) {
            Ok(decoder) => return Ok(decoder),
            Err(why) => gst::warning!(CAT, "{}: {why}; the next decoder is tried", factory.name()),
        }
    }
    let (width, height) = recording.size();
    let tried = candidates.iter().map(|factory| factory.name().to_string()).collect::<Vec<_>>();
    Err(if tried.is_empty() {
        format!(
            "no decoder for {codec} of {width}x{height} is installed: avdec_{} is in gst-libav, or use output=encoded",
            codec.name()
        )
    } else {
        format!("no decoder for {codec} of {width}x{height} can be opened; tried: {}", tried.join(", "))
    })
}

fn asked_for(name: &str, codec: Codec, caps: &gst::Caps) -> Result<gst::Element, String> {
    let installed = || {
        let names = candidates(caps).iter().map(|factory| factory.name().to_string()).collect::<Vec<_>>();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let wrong = |rule: &str| {
        Err(format!("property 'decoder' = '{name}': {rule}; installed for this recording: {}", installed()))
    };
    let Some(factory) = gst::ElementFactory::find(name) else { return wrong("there is no such element") };
    if !factory.can_sink_any_caps(caps) {
        return wrong(&format!("it does not take this recording's {codec}"));
    }
    if !puts_out_pictures(&factory) {
        return wrong("it does not put out raw video in system memory");
    }
    ready(&factory).or_else(|why| wrong(&why))
}

/// An element that has got as far as READY, where devices are opened.
fn ready(factory: &gst::ElementFactory) -> Result<gst::Element, String> {
    let element = factory.create().name("decoder").build().map_err(|error| error.to_string())?;
    if element.set_state(gst::State::Ready).is_err() {
        let _ = element.set_state(gst::State::Null);
        return Err("it cannot be opened".to_owned());
    }
    Ok(element)
}

/// By falling rank.
fn candidates(caps: &gst::Caps) -> Vec<gst::ElementFactory> {
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    let factories = gst::ElementFactory::factories_with_type(kind, gst::Rank::MARGINAL);
    let mut fitting = factories
        .into_iter()
        .filter(|factory| factory.can_sink_any_caps(caps) && puts_out_pictures(factory))
        .collect::<Vec<_>>();
    fitting.sort_by(|a, b| b.rank().cmp(&a.rank()).then_with(|| a.name().cmp(&b.name())));
    fitting
}

/// Raw video in system memory.
fn puts_out_pictures(factory: &gst::ElementFactory) -> bool {
    factory.static_pad_templates().iter().any(|template| {
        let caps = template.caps();
        template.direction() == gst::PadDirection::Src
            && caps.iter_with_features().any(|(structure, features)| {
                structure.name() == "video/x-raw"
                    && features.is_equal(gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY.as_ref())
            })
    })
}
