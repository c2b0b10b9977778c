// SPDX-License-Identifier: MPL-2.0

//! Both plugins linked into a program: publishes a cv-mmap producer over RTMP, or records it.
//!
//!     cargo run --example embed -- cvmmap://cam0 cam0.flv
//!     cargo run --example embed -- cvmmap://cam0 rtmp://localhost/live/cam0 h265-domestic
//!
//! Ends with 0 two seconds after the last frame, with 2 on wrong arguments, and with 1 and the cause on anything else.

use std::process::ExitCode;

use gst::prelude::*;

const USAGE: &str =
    "usage: embed cvmmap://INSTANCE FILE|rtmp://HOST/APP/STREAM [h264|h265-enhanced|h265-domestic]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let row = args.get(2).map_or("h264", String::as_str);
    // x265enc wants a frame rate, which the wire does not tell.
    let (rate, codec, mode) = match row {
        "h264" => ("", "x264enc tune=zerolatency speed-preset=superfast ! h264parse", "enhanced"),
        "h265-enhanced" | "h265-domestic" => (
            "! video/x-raw,framerate=30/1",
            "x265enc tune=zerolatency speed-preset=ultrafast ! h265parse",
            row.trim_start_matches("h265-"),
        ),
        _ => ("", "", ""),
    };
    if !(2..=3).contains(&args.len()) || codec.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    // A file gets its duration and an index at the end; a server has no use for them.
    let (streamable, sink) = match args[1].starts_with("rtmp") {
        true => (true, "rtmp2sink chunk-size=65536 sync=false async=false"),
        false => (false, "filesink"),
    };
    // The queue keeps the latest frame where the encoder is slow.
    let launch = format!(
        "cvmmapsrc name=source idle-timeout=2000 {rate} ! queue leaky=downstream max-size-buffers=1 ! videoconvert \
         ! video/x-raw,format=I420 ! {codec} ! flvh265mux mode={mode} streamable={streamable} ! {sink} name=sink"
    );
    match run(&launch, &args[0], &args[1]) {
        Ok(frames) => {
            println!("{frames} frames of {} went to {}", args[0], args[1]);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays until EOS; the number of frames that were taken from the producer.
fn run(launch: &str, uri: &str, location: &str) -> Result<u64, Box<dyn std::error::Error>> {
    gst::init()?;
    gstcvmmap::plugin_register_static()?;
    gstflvh265::plugin_register_static()?;
    let pipeline = gst::parse::launch(launch)?.downcast::<gst::Pipeline>().expect("several elements");
    let source = pipeline.by_name("source").expect("it is in the line");
    source.set_property("uri", uri);
    pipeline.by_name("sink").expect("it is in the line").set_property("location", location);

    // A state change that fails says why on the bus.
    let started = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().expect("pipelines have one");
    let ended = bus
        .timed_pop_filtered(
            started.map_or(Some(gst::ClockTime::SECOND), |_| gst::ClockTime::NONE),
            &[gst::MessageType::Error, gst::MessageType::Eos],
        )
        .ok_or("the pipeline does not start");
    let frames = source.property::<gst::Structure>("stats").get::<u64>("frames")?;
    pipeline.set_state(gst::State::Null)?;
    match ended?.view() {
        gst::MessageView::Error(error) => {
            let element = error.src().map(|element| element.name()).unwrap_or_default();
            Err(format!("{element}: {}", error.error()).into())
        }
        _ if frames == 0 => Err(format!("no frame of {uri} came within two seconds").into()),
        _ => Ok(frames),
    }
}
