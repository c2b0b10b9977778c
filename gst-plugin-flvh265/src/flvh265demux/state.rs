// SPDX-License-Identifier: MPL-2.0

//! What changes while playing: the clock, what a stream promises, statistics. No I/O here.

use flv::amf0::{self, Amf0Error, Value};
use flv::metadata::Described;

const NS_PER_MS: u64 = 1_000_000;
/// A track that goes further back than this begins anew: its time goes on from where it was, as stock flvdemux has it.
const RESYNC_MS: i64 = 2000;

/// Turns the 32-bit milliseconds of the tags into time that does not wrap.
#[derive(Debug, Default, Clone)]
pub(super) struct Clock {
    /// The last tag's time in milliseconds, of whichever track; unwrapped, without `shift`.
    last: Option<i64>,
    /// What restarts of the stream took away.
    shift: i64,
}

impl Clock {
    /// For tags around this time, after a seek.
    pub fn near(ms: i64) -> Self {
        Self { last: Some(ms), shift: 0 }
    }

    /// For a tag whose time is known to be this.
    pub fn at(ms: i64, timestamp_ms: u32) -> Self {
        let raw = Self { last: Some(ms), shift: 0 }.raw(timestamp_ms);
        Self { last: Some(raw), shift: ms - raw }
    }

    /// The time of a tag in milliseconds, and whether the stream began anew with it; `last` is its track's last time.
    pub fn unwrap(&mut self, timestamp_ms: u32, last: Option<i64>) -> (i64, bool) {
        let raw = self.raw(timestamp_ms);
        self.last = Some(raw);
        let back = last.map_or(0, |last| last - (raw + self.shift));
        if back > RESYNC_MS {
            self.shift += back;
        }
        (raw + self.shift, back > RESYNC_MS)
    }

    fn raw(&self, timestamp_ms: u32) -> i64 {
        match self.last {
            None => timestamp_ms.into(),
            // The difference that is less than half of the range, forwards or backwards.
            Some(last) => last + i64::from(timestamp_ms.wrapping_sub(last as u32) as i32),
        }
    }
}

/// Milliseconds as GStreamer's time; what is before 0 becomes 0.
pub(super) fn clock_time(ms: i64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(ms.max(0).unsigned_abs().saturating_mul(NS_PER_MS))
}

/// Which streams the file header and onMetaData tell of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promise {
    pub video: bool,
    pub audio: bool,
}

/// What is taken from onMetaData.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts {
    pub described: Described,
    pub size: Option<(i32, i32)>,
    pub framerate: Option<gst::Fraction>,
    pub encoder: Option<String>,
    pub promise: Promise,
}

impl Facts {
    pub fn forget_picture(&mut self) {
        (self.size, self.framerate) = (None, None);
    }

    /// Reads a script tag's body; `None`: it is another script, whose name is of no interest.
    pub fn read(body: &[u8]) -> Result<Option<Self>, Amf0Error> {
        let (mut name, mut value) = amf0::read_script(body)?;
        // Some servers relay what the publisher sent, with the command before it: marker, length, name.
        if name == "@setDataFrame" {
            (name, value) = amf0::read_script(&body[3 + name.len()..])?;
        }
        Ok((name == "onMetaData").then(|| Self::new(&value)))
    }

    fn new(metadata: &Value) -> Self {
        let number = |name| metadata.get(name).and_then(Value::number).filter(|number| number.is_finite());
        let pixels = |name| number(name).filter(|n| (1. ..=65536.).contains(n)).map(|n| n as i32);
        let encoder = match metadata.get("encoder") {
            Some(Value::String(encoder)) if !encoder.is_empty() => Some(encoder.clone()),
            _ => None,
        };
        let promise = Promise {
            video: metadata.get("videocodecid").is_some(),
            audio: metadata.get("audiocodecid").is_some(),
        };
        Self {
            described: Described::new(metadata),
            size: pixels("width").zip(pixels("height")),
            framerate: number("framerate").and_then(framerate),
            encoder,
            promise,
        }
    }
}

/// A rate that a camera can have; FLV has it as a decimal number.
fn framerate(rate: f64) -> Option<gst::Fraction> {
    if !(1. ..=1000.).contains(&rate) {
        return None;
    }
    let whole = (rate * 1.001).round();
    if (rate - whole / 1.001).abs() < 0.004 && (rate - rate.round()).abs() > 0.004 {
        return Some(gst::Fraction::new(whole as i32 * 1000, 1001));
    }
    let thousandths = (rate * 1000.).round() as i32;
    Some(gst::Fraction::new(thousandths, 1000))
}

/// Rate in Hz and channels of an MP3 frame, by its own header.
pub(super) fn mp3_rate_and_channels(frame: &[u8]) -> Option<(u32, u8)> {
    let &[sync, version, rate, mode] = frame.first_chunk()?;
    if sync != 0xff || version & 0xe0 != 0xe0 || version >> 1 & 3 != 1 {
        return None;
    }
    let rate = [44100, 48000, 32000].get(usize::from(rate >> 2 & 3))?;
    let divisor = match version >> 3 & 3 {
        0 => 4,
        2 => 2,
        3 => 1,
        _ => return None,
    };
    Some((rate / divisor, if mode >> 6 == 3 { 1 } else { 2 }))
}

/// Bytes that were skipped without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub offset: u64,
    pub bytes: u64,
    pub reason: String,
}

/// What the `stats` property is made from.
#[derive(Debug, Default, Clone)]
pub(super) struct Stats {
    pub tags: u64,
    pub bytes: u64,
    pub video_frames: u64,
    pub audio_frames: u64,
    pub key_frames: u64,
    pub skipped_bytes: u64,
    pub skipped_tags: u64,
    pub unsupported_tags: u64,
    pub invalid_configs: u64,
    pub wrong_sizes: u64,
    pub damaged_runs: u64,
    pub caps_changes: u64,
    pub sequence_ends: u64,
    pub time_resyncs: u64,
    pub seeks: u64,
}

impl Stats {
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("flvh265demux-stats")
            .field("tags", self.tags)
            .field("bytes", self.bytes)
            .field("video-frames", self.video_frames)
            .field("audio-frames", self.audio_frames)
            .field("key-frames", self.key_frames)
            .field("skipped-bytes", self.skipped_bytes)
            .field("skipped-tags", self.skipped_tags)
            .field("unsupported-tags", self.unsupported_tags)
            .field("invalid-configs", self.invalid_configs)
            .field("wrong-sizes", self.wrong_sizes)
            .field("damaged-runs", self.damaged_runs)
            .field("caps-changes", self.caps_changes)
            .field("sequence-ends", self.sequence_ends)
            .field("time-resyncs", self.time_resyncs)
            .field("seeks", self.seeks)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flv::tag::TAG_HEADER_BYTES;

    #[test]
    fn time_goes_on_where_32_bits_wrap() {
        let mut clock = Clock::default();
        assert_eq!(clock.unwrap(u32::MAX - 10, None), (i64::from(u32::MAX) - 10, false));
        assert_eq!(clock.unwrap(9, Some(i64::from(u32::MAX) - 10)), (i64::from(u32::MAX) + 10, false));
        // A straggler of the other track from before the wrap.
        assert_eq!(clock.unwrap(u32::MAX, None), (i64::from(u32::MAX), false));
    }

    #[test]
    fn small_steps_back_are_kept_and_a_restart_goes_on() {
        let mut clock = Clock::default();
        assert_eq!(clock.unwrap(60_000, None), (60_000, false));
        assert_eq!(clock.unwrap(59_000, Some(60_000)), (59_000, false));
        assert_eq!(clock.unwrap(0, Some(59_000)), (59_000, true));
        assert_eq!(clock.unwrap(40, Some(59_000)), (59_040, false));
        let mut clock = Clock::default();
        assert_eq!(clock.unwrap(0, None), (0, false));
        assert_eq!(clock.unwrap(5u32.wrapping_neg(), Some(0)), (-5, false));
        assert_eq!(clock_time(-5), gst::ClockTime::ZERO);
    }

    #[test]
    fn frame_rates_are_made_fractions() {
        for (rate, expected) in
            [(30., (30, 1)), (29.97, (30000, 1001)), (23.976, (24000, 1001)), (12.5, (25, 2))]
        {
            let fraction = framerate(rate).unwrap();
            assert_eq!((fraction.numer(), fraction.denom()), expected, "{rate}");
        }
        assert_eq!(framerate(0.), None);
        assert_eq!(framerate(1e9), None);
    }

    #[test]
    fn metadata_is_read_with_and_without_the_command_before_it() {
        let value = Value::Object(vec![("width".into(), 640.0.into()), ("height".into(), 360.0.into())]);
        let tag = flv::tag::script_tag(0, &amf0::write_script("onMetaData", &value)).unwrap();
        let body = &tag[TAG_HEADER_BYTES..tag.len() - 4];
        assert_eq!(Facts::read(body).unwrap().unwrap().size, Some((640, 360)));
        let mut command = Vec::new();
        Value::from("@setDataFrame").write(&mut command);
        command.extend_from_slice(body);
        assert_eq!(Facts::read(&command).unwrap().unwrap().size, Some((640, 360)));
        assert!(Facts::read(&amf0::write_script("onCuePoint", &value)).unwrap().is_none());
        assert!(Facts::read(&[2, 0]).is_err());
    }

    #[test]
    fn mp3_headers_tell_rate_and_channels() {
        assert_eq!(mp3_rate_and_channels(&[0xff, 0xfb, 0x90, 0x00]), Some((44100, 2)));
        assert_eq!(mp3_rate_and_channels(&[0xff, 0xf3, 0x94, 0xc0]), Some((24000, 1)));
        assert_eq!(mp3_rate_and_channels(&[0, 0, 0, 0]), None);
        assert_eq!(mp3_rate_and_channels(&[0xff]), None);
    }
}
