// SPDX-License-Identifier: MPL-2.0

//! What each plane becomes: every pixel format, depth and confidence by value, access units in order, and the sink.

mod common;

use common::*;
use cvmmap_ipc::clock::unix_now_ns;
use cvmmap_ipc::metadata::{Depth, PixelFormat};
use cvmmap_ipc::{FrameId, Metadata, Plane, PlaneKind, Producer, Version};
use cvmmap_streamer::pattern::depth_at;
use gst::prelude::*;
use gst_video::prelude::*;

#[test]
fn every_pixel_format_arrives_to_the_byte_whatever_its_stride() {
    let _alone = alone();
    for (format, caps) in [
        ("bgr", "BGR"),
        ("rgb", "RGB"),
        ("bgra", "BGRA"),
        ("rgba", "RGBA"),
        ("gray", "GRAY8"),
        ("gray16", "GRAY16_LE"),
        ("yuyv", "YUY2"),
        ("yuv", "v308"),
    ] {
        // Rows of 641 pixels are padded in GStreamer and not on the wire.
        for (size, version) in [("640x360", "v1"), ("641x101", "v2")] {
            let target = unique("format");
            let _sim =
                sim(&target, &format!("--fps 100 --format {format} --size {size} --metadata {version}"));
            let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
            for frame in consumer.take(5) {
                assert_eq!(frame.whole, Ok(()), "{format} {size}");
                let structure = frame.caps.structure(0).unwrap();
                assert_eq!(structure.get::<&str>("format").unwrap(), caps);
                assert_eq!(structure.get::<gst::Fraction>("framerate").unwrap(), gst::Fraction::new(0, 1));
            }
        }
    }
}

#[test]
fn downstream_may_ask_for_a_frame_rate() {
    let _alone = alone();
    let target = unique("rate");
    let _sim = sim(&target, "--fps 100");
    let consumer = Consumer::with(&format!("uri=cvmmap://{target}"), "video/x-raw,framerate=100/1 !");
    consumer.play();
    let caps = consumer.next().caps;
    assert_eq!(
        caps.structure(0).unwrap().get::<gst::Fraction>("framerate").unwrap(),
        gst::Fraction::new(100, 1)
    );
}

/// Checks a plane of values against `expected(count, x, y)`.
fn values<T: PartialEq + std::fmt::Debug>(
    sample: &gst::Sample,
    read: fn(&[u8], usize) -> T,
    expected: impl Fn(u32, u32, u32) -> T,
) {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let buffer = sample.buffer().unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let (data, stride) = (frame.plane_data(0).unwrap(), frame.plane_stride()[0] as usize);
    for y in 0..info.height() {
        for x in 0..info.width() {
            let found = read(&data[y as usize * stride..], x as usize);
            assert_eq!(found, expected(buffer.offset() as u32, x, y), "{x},{y}");
        }
    }
}

fn millimetres(count: u32, x: u32, y: u32) -> u16 {
    let (depth, _) = depth_at(count, x, y);
    if depth.is_nan() { 0 } else { depth.round() as u16 }
}

fn u16_at(row: &[u8], x: usize) -> u16 {
    u16::from_le_bytes([row[2 * x], row[2 * x + 1]])
}

#[test]
fn depth_becomes_millimetres_from_either_unit() {
    let _alone = alone();
    for (unit, property) in [("mm", "auto"), ("m", "auto"), ("unknown", "millimetre")] {
        let target = unique("depth");
        let _sim = sim(&target, &format!("--fps 60 --depth --depth-unit {unit} --size 321x100"));
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target} plane=depth depth-unit={property}"));
        for _ in 0..5 {
            values(&consumer.sample(), u16_at, millimetres);
        }
    }
}

#[test]
fn a_producer_may_change_its_depth_unit() {
    let _alone = alone();
    let target = unique("units");
    let first = sim(&target, "--fps 60 --depth --depth-unit mm --size 320x100");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} plane=depth"));
    values(&consumer.sample(), u16_at, millimetres);
    drop(first);
    let _second = sim(&target, "--fps 60 --depth --depth-unit m --size 320x100");
    wait_for("the second producer's frames", || {
        values(&consumer.sample(), u16_at, millimetres);
        consumer.stat("reopens") == 1
    });
    for _ in 0..5 {
        values(&consumer.sample(), u16_at, millimetres);
    }
}

/// The stamps are whatever a producer writes.
#[test]
fn no_stamp_stops_the_source() {
    let _alone = alone();
    let left = Plane::packed(PlaneKind::Left, PixelFormat::Gray, Depth::U8, 32, 32).unwrap();
    for mode in ["arrival", "capture"] {
        let target = unique("stamps");
        let mut producer = Producer::create(&target.parse().unwrap(), 0).unwrap();
        let consumer = Consumer::playing(&format!("uri=cvmmap://{target} timestamp-mode={mode}"));
        let mut count = 0;
        for timestamp_ns in [u64::MAX, 1 << 63, 0, u64::MAX - 1, i64::MAX as u64] {
            let before = consumer.stat("frames");
            wait_for("a frame", || {
                count += 1;
                let metadata = Metadata::new(Version::V2, FrameId { count, timestamp_ns }, [left]);
                producer.publish(&metadata, &[0; 1024]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(30));
                consumer.stat("frames") > before
            });
        }
        assert_eq!(consumer.errors(), Vec::<String>::new());
    }
}

#[test]
fn a_depth_plane_without_a_unit_is_an_error_that_names_the_property() {
    let _alone = alone();
    let target = unique("unit");
    let _sim = sim(&target, "--fps 60 --depth --depth-unit unknown");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} plane=depth"));
    let error = consumer.end().expect("an error");
    assert!(error.contains("unspecified unit") && error.contains("depth-unit"), "{error}");
}

#[test]
fn confidence_becomes_gray8_even_where_version_2_1_leaves_a_hole() {
    let _alone = alone();
    let target = unique("confidence");
    let _sim = sim(&target, "--fps 60 --confidence --size 321x100");
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target} plane=confidence"));
    for _ in 0..5 {
        values(&consumer.sample(), |row, x| row[x], |count, x, y| depth_at(count, x, y).1 as u8);
    }
    // The other planes of the same frames.
    let consumer = Consumer::playing(&format!("uri=cvmmap://{target}"));
    assert!(consumer.take(5).iter().all(|frame| frame.whole.is_ok()));
}

#[test]
fn access_units_start_at_a_key_frame_and_after_a_gap_again() {
    let _alone = alone();
    for (codec, parser, decoder) in [("h264", "h264parse", "avdec_h264"), ("h265", "h265parse", "avdec_h265")]
    {
        let target = unique("encoded");
        let _sim = sim(&target, &format!("--fps 60 --encoded {codec} --gop 20 --size 320x240"));
        let consumer = Consumer::with(
            &format!("uri=cvmmap://{target} plane=encoded"),
            &format!("{parser} ! {decoder} ! videoconvert ! video/x-raw,format=BGR !"),
        );
        let pad = consumer.source.static_pad("src").unwrap();
        let (send, units) = std::sync::mpsc::channel();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let buffer = info.buffer().unwrap();
            let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let discont = buffer.flags().contains(gst::BufferFlags::DISCONT);
            send.send((buffer.offset() as u32, delta, discont, pad.current_caps().unwrap())).unwrap();
            // Once late, so that access units are lost.
            if buffer.offset() % 150 == 100 {
                std::thread::sleep(std::time::Duration::from_millis(150));
            }
            gst::PadProbeReturn::Ok
        });
        consumer.play();
        let mut last = None;
        let mut gaps = 0;
        let mut caps = None;
        while gaps < 2 {
            let (count, delta, discont, now) = units.recv_timeout(PATIENCE).unwrap();
            if last.is_none_or(|last| count != last + 1) {
                assert!(!delta && discont, "frame {count} after {last:?} is no key frame");
                gaps += 1;
            } else {
                assert_eq!(delta, count % 20 != 0, "frame {count}");
            }
            last = Some(count);
            caps = Some(now);
        }
        let caps = caps.unwrap();
        let structure = caps.structure(0).unwrap();
        assert_eq!(structure.name(), format!("video/x-{codec}").as_str());
        assert_eq!(structure.get::<&str>("stream-format").unwrap(), "byte-stream");
        assert_eq!(structure.get::<gst::Fraction>("framerate").unwrap(), gst::Fraction::new(60, 1));

        // And a decoder makes the simulator's pictures of them.
        let pattern = cvmmap_streamer::pattern::Pattern::new(PixelFormat::Bgr, Depth::U8, 320, 240).unwrap();
        let counts: Vec<u32> = (0..20)
            .map(|_| {
                let sample = consumer.sample();
                let map = sample.buffer().unwrap().map_readable().unwrap();
                pattern.read_count(&map, 960).unwrap()
            })
            .collect();
        assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
    }
}

/// Publishes one frame again and again until the consumer ends with an error.
fn error_of(
    target: &str,
    properties: &str,
    planes: &[Plane],
    version: Version,
    edit: fn(&mut [u8; 256]),
) -> String {
    let target: cvmmap_ipc::Target = target.parse().unwrap();
    let mut producer = Producer::create(&target, 0).unwrap();
    let consumer = Consumer::playing(&format!("uri={target} {properties}"));
    let mut count = 0;
    let mut error = None;
    wait_for("an error", || {
        count += 1;
        let frame = FrameId { count, timestamp_ns: unix_now_ns() };
        let metadata = Metadata::new(version, frame, planes.iter().copied());
        let mut writer = producer.begin(&metadata).unwrap();
        writer.write(0, &vec![0; metadata.payload_size as usize]).unwrap();
        edit(writer.header_mut());
        writer.commit().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        error = consumer.errors().into_iter().next();
        error.is_some()
    });
    error.unwrap()
}

#[test]
fn a_plane_that_is_not_published_is_named() {
    let _alone = alone();
    let left = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 32, 32).unwrap();
    for (version, plane) in [(Version::V1, "depth"), (Version::V2, "confidence"), (Version::V2_1, "encoded")]
    {
        let target = unique("missing");
        let error = error_of(&target, &format!("plane={plane}"), &[left], version, |_| ());
        assert!(
            error.contains(&format!("plane '{plane}' is not published")) && error.contains("left"),
            "{error}"
        );
    }
}

#[test]
fn a_pixel_format_without_a_mapping_is_named() {
    let _alone = alone();
    let floats = Plane::packed(PlaneKind::Left, PixelFormat::Gray, Depth::F32, 32, 32).unwrap();
    let error = error_of(&unique("unmapped"), "", &[floats], Version::V2, |_| ());
    assert!(error.contains("GRAY with depth f32"), "{error}");
    // Version 1 keeps values that no rule needs.
    let left = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 32, 32).unwrap();
    let error = error_of(&unique("unknown"), "", &[left], Version::V1, |header| header[0x1E] = 77);
    assert!(error.contains("unknown(77)"), "{error}");
    let error = error_of(&unique("channels"), "", &[left], Version::V1, |header| header[0x1E] = 4);
    assert!(error.contains("pixel format GRAY of 3 channels"), "{error}");
}

#[test]
fn what_the_sink_publishes_is_what_went_in() {
    let _alone = alone();
    for (version, size) in [("v1", "641x101"), ("v2", "640x360")] {
        let [from, to] = [unique("in"), unique("out")];
        let _sim = sim(&from, &format!("--fps 60 --size {size} --stamp-age-ms 5000"));
        init();
        let launch = format!(
            "cvmmapsrc uri=cvmmap://{from} ! cvmmapsink name=sink uri=cvmmap://{to} metadata-version={version} sync=false"
        );
        let relay = gst::parse::launch(&launch).unwrap();
        relay.set_state(gst::State::Playing).unwrap();
        let consumer = Consumer::playing(&format!("uri=cvmmap://{to}"));
        for _ in 0..20 {
            let sample = consumer.sample();
            let frame = see(&sample);
            // The sink counts from 0 itself, so the picture is whole but of another count.
            let why = frame.whole.err().unwrap_or_default();
            assert!(why.is_empty() || why.starts_with("offset"), "{why}");
            // The capture moment passes through the relay.
            let meta = sample.buffer().unwrap().meta::<gst::ReferenceTimestampMeta>().unwrap();
            let age = unix_now_ns() - meta.timestamp().nseconds();
            assert!((5_000_000_000..35_000_000_000).contains(&age), "{age}");
        }
        let header = cvmmap_ipc::peek_segment(&format!("cvmmap_{to}")).unwrap().header.unwrap();
        assert_eq!(header.version.major, if version == "v1" { 1 } else { 2 });
        let sink = relay.downcast_ref::<gst::Bin>().unwrap().by_name("sink").unwrap();
        let stats: gst::Structure = sink.property("stats");
        assert!(stats.get::<u64>("frames").unwrap() >= 20);
        relay.set_state(gst::State::Null).unwrap();
        assert!(!std::fs::exists(format!("/dev/shm/cvmmap_{to}")).unwrap());
    }
}
