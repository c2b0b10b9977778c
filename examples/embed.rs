// SPDX-License-Identifier: MPL-2.0

//! The plugin linked into a program: prints the states of a producer and its statistics after 90 frames.
//!
//!     cargo run --example embed -- cvmmap://cam0

use gst::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = std::env::args().nth(1).ok_or("usage: embed cvmmap://INSTANCE")?;
    gst::init()?;
    gstcvmmap::plugin_register_static()?;

    let source =
        gst::ElementFactory::make("cvmmapsrc").property("uri", &uri).property("num-buffers", 90).build()?;
    let sink = gst::ElementFactory::make("fakesink").build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink])?;
    source.link(&sink)?;

    // The state change fails on a wrong URI; why is on the bus.
    let started = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().ok_or("pipelines have a bus")?;
    let patience = if started.is_ok() { gst::ClockTime::NONE } else { Some(gst::ClockTime::ZERO) };
    for message in bus.iter_timed(patience) {
        match message.view() {
            gst::MessageView::Element(_) => println!("{:?}", message.structure()),
            gst::MessageView::Error(error) => return Err(error.error().to_string().into()),
            gst::MessageView::Eos(_) => break,
            _ => (),
        }
    }
    println!("{:?}", source.property::<gst::Structure>("stats"));
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
