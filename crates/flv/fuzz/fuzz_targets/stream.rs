// SPDX-License-Identifier: MPL-2.0

//! Any bytes as a stream: no panic, every byte accounted for, and every step forward.

#![no_main]

use flv::{AudioFormat, Dialect, Framer, Step, TagType, VideoCodec, amf0};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = VideoCodec::H264.check_config(data);
    let _ = VideoCodec::H265.check_config(data);
    let _ = flv::audio::aac_rate_and_channels(data);
    // The first byte says how much comes at a time.
    let Some((step, mut rest)) = data.split_first() else { return };
    let mut seen = rest.len().min(1 + usize::from(*step));
    let mut framer = Framer::new();
    loop {
        let window = &rest[..seen];
        let taken = match framer.step(window, seen == rest.len()) {
            Step::End => break,
            Step::Need(bytes) => {
                assert!(bytes > seen && bytes <= flv::framer::MAX_WINDOW_BYTES);
                seen = rest.len().min(bytes.max(seen + usize::from(*step)));
                continue;
            }
            Step::Header { bytes, .. } | Step::Skip { bytes, .. } => bytes,
            Step::Tag { header, bytes, .. } => {
                let body = &window[flv::tag::TAG_HEADER_BYTES..header.bytes_before_trailer()];
                match header.tag_type {
                    TagType::Video => drop(Dialect::parse(body)),
                    TagType::Audio => drop(AudioFormat::parse(body)),
                    TagType::Script => drop(amf0::read_script(body)),
                }
                bytes
            }
        };
        assert!(taken > 0 && taken <= seen);
        rest = &rest[taken..];
        seen = (seen - taken).max(rest.len().min(1));
    }
});
