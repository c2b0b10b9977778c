// SPDX-License-Identifier: MPL-2.0

//! What an RTMP session may carry as video, judged on the bytes of each message, without I/O. Shares no code with the
//! writer it judges.

use std::fmt;

use clap::ValueEnum;

use super::config;
use super::nal::Codec;
use super::{Breach, Exit};

/// How video goes over RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// H.264 as FLV codec id 7
    H264,
    /// H.265 as FourCC hvc1 (Enhanced RTMP)
    H265Enhanced,
    /// H.265 as FLV codec id 12
    H265Domestic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "h264",
            Self::H265Enhanced => "h265-enhanced",
            Self::H265Domestic => "h265-domestic",
        })
    }
}

impl Mode {
    pub(super) fn codec(self) -> Codec {
        if self == Self::H264 { Codec::H264 } else { Codec::H265 }
    }

    /// videocodecid in onMetaData.
    fn codec_id(self) -> u32 {
        match self {
            Self::H264 => 7,
            Self::H265Domestic => 12,
            Self::H265Enhanced => u32::from_be_bytes(*b"hvc1"),
        }
    }
}

/// A tag's video, found sound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Video<'a> {
    /// A configuration record that differs from the one before.
    Configuration(&'a [u8]),
    /// The same record once more.
    Repeated,
    Frame(Frame<'a>),
    End,
}

/// An access unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub key: bool,
    /// A decoder that began at the last key frame may leave it out.
    pub skipped_leading: bool,
    /// PTS - DTS.
    pub composition_ms: u32,
    /// With length prefixes of four bytes.
    pub nals: &'a [u8],
}

/// What onMetaData says of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    pub codec_id: Option<u32>,
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// The rules of one publisher's session.
#[derive(Debug)]
pub(super) struct Judge {
    mode: Mode,
    /// Of the last tag.
    seen: Option<Mode>,
    /// The picture size that onMetaData told.
    size: Option<(u32, u32)>,
    /// No frame has come since it was told: it is of the next configuration too.
    size_is_new: bool,
    configuration: Option<Vec<u8>>,
    last_ms: Option<u32>,
    /// Right behind a sequence header: the next frame is a key frame, and no other header comes.
    fresh: bool,
    ended: bool,
}

/// A video message cut into its fields; nothing is checked but what cutting needs.
struct Tag<'a> {
    mode: Mode,
    frame_type: u8,
    packet: Packet,
    composition_ms: i32,
    payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packet {
    Start,
    Frame,
    End,
}

/// Codecs of Enhanced RTMP.
const FOUR_CCS: [&[u8; 4]; 6] = [b"hvc1", b"avc1", b"av01", b"vp08", b"vp09", b"vvc1"];
const KEY: u8 = 1;
const INTER: u8 = 2;

fn broken<T>(what: impl Into<String>) -> Result<T, Breach> {
    Err(Breach::protocol(what))
}

fn other_mode<T>(what: impl Into<String>) -> Result<T, Breach> {
    Err(Breach { exit: Exit::RtmpMode, what: what.into() })
}

fn si24(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], 0]) >> 8
}

impl<'a> Tag<'a> {
    fn cut(body: &'a [u8]) -> Result<Self, Breach> {
        match body.first() {
            None => broken("a video message without bytes"),
            Some(first) if first & 0x80 != 0 => Self::enhanced(*first, body),
            Some(first) => Self::legacy(*first, body),
        }
    }

    fn enhanced(first: u8, body: &'a [u8]) -> Result<Self, Breach> {
        let Some(four_cc) = body.get(1..5) else {
            return broken(format!("an enhanced video message of {} bytes has no FourCC", body.len()));
        };
        if four_cc != b"hvc1" {
            return other_mode(format!("FourCC '{}' is not 'hvc1'", four_cc.escape_ascii()));
        }
        let (packet, payload_at) = match first & 0x0F {
            0 => (Packet::Start, 5),
            1 => (Packet::Frame, 8),
            2 => (Packet::End, 5),
            3 => (Packet::Frame, 5),
            other => {
                return broken(format!("enhanced packet type {other}: peers take 0 to 3 only"));
            }
        };
        let Some(payload) = body.get(payload_at..) else {
            return broken(format!("a CodedFrames message of {} bytes has no composition time", body.len()));
        };
        let composition_ms = if payload_at == 8 { si24(&body[5..8]) } else { 0 };
        Ok(Self { mode: Mode::H265Enhanced, frame_type: first >> 4 & 7, packet, composition_ms, payload })
    }

    fn legacy(first: u8, body: &'a [u8]) -> Result<Self, Breach> {
        let mode = match first & 0x0F {
            7 => Mode::H264,
            12 => Mode::H265Domestic,
            other => return other_mode(format!("video codec id {other} is neither 7 nor 12")),
        };
        let Some(payload) = body.get(5..) else {
            return broken(format!(
                "a video message of {} bytes is shorter than its header of 5",
                body.len()
            ));
        };
        let packet = match body[1] {
            0 => Packet::Start,
            1 => Packet::Frame,
            2 => Packet::End,
            other => return broken(format!("packet type {other} is not 0, 1 or 2")),
        };
        Ok(Self { mode, frame_type: first >> 4, packet, composition_ms: si24(&body[2..5]), payload })
    }
}

impl Judge {
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            seen: None,
            size: None,
            size_is_new: false,
            configuration: None,
            last_ms: None,
            fresh: false,
            ended: false,
        }
    }

    /// The mode of the last tag that has one.
    pub fn seen(&self) -> Option<Mode> {
        self.seen
    }

    /// The size that onMetaData told for the configuration in force.
    pub fn told_size(&self) -> Option<(u32, u32)> {
        self.size
    }

    /// Takes in onMetaData.
    pub fn metadata(&mut self, told: Told) -> Result<(), Breach> {
        let wanted = self.mode.codec_id();
        match told.codec_id {
            Some(id) if id == wanted => (),
            None => return broken("onMetaData has no videocodecid"),
            // What other codecs and modes are told by; anything else is a number written wrongly.
            Some(id @ (2..=7 | 12)) => return other_mode(format!("videocodecid {id} is not {wanted}")),
            Some(id) if FOUR_CCS.contains(&&id.to_be_bytes()) => {
                return other_mode(format!("videocodecid {id} is not {wanted}"));
            }
            Some(id) => return broken(format!("videocodecid {id} is not {wanted}")),
        }
        match (told.width, told.height) {
            (Some(width @ 1..), Some(height @ 1..)) => {
                self.size = Some((width, height));
                self.size_is_new = true;
            }
            (width, height) => {
                return broken(format!("onMetaData: width {width:?} and height {height:?}"));
            }
        }
        Ok(())
    }

    /// Takes in a video message.
    pub fn video<'a>(&mut self, ms: u32, body: &'a [u8]) -> Result<Video<'a>, Breach> {
        let tag = Tag::cut(body)?;
        self.seen = Some(tag.mode);
        if tag.mode != self.mode {
            return other_mode(format!("video of mode {}, not {}", tag.mode, self.mode));
        }
        if self.ended {
            return broken(format!("video at {ms} ms behind the end of the sequence"));
        }
        if let Some(last) = self.last_ms.replace(ms)
            && (ms.wrapping_sub(last) as i32) < 0
        {
            return broken(format!("time went back from {last} to {ms} ms"));
        }
        if tag.packet != Packet::Frame && tag.frame_type != KEY {
            return broken(format!("frame type {} of a {:?} message is not 1", tag.frame_type, tag.packet));
        }
        if tag.packet != Packet::Frame && tag.composition_ms != 0 {
            let what = format!("composition time {} of a {:?} message", tag.composition_ms, tag.packet);
            return broken(what);
        }
        match tag.packet {
            Packet::Start => self.start(tag.payload),
            Packet::Frame => self.frame(&tag),
            Packet::End => {
                self.ended = true;
                match tag.payload.len() {
                    0 => Ok(Video::End),
                    extra => broken(format!("{extra} bytes in an end of sequence")),
                }
            }
        }
    }

    fn start<'a>(&mut self, record: &'a [u8]) -> Result<Video<'a>, Breach> {
        config::check(self.mode.codec(), record).map_err(Breach::protocol)?;
        let fresh = std::mem::replace(&mut self.fresh, true);
        if self.configuration.as_deref() == Some(record) {
            return Ok(Video::Repeated);
        }
        if fresh {
            return broken("two sequence headers that differ, and no frame between them");
        }
        if self.configuration.replace(record.to_vec()).is_some() {
            // The size may have been told for the one before.
            self.size = self.size.filter(|_| self.size_is_new);
        } else if self.size.is_none() {
            return broken("a sequence header before onMetaData");
        }
        Ok(Video::Configuration(record))
    }

    fn frame<'a>(&mut self, tag: &Tag<'a>) -> Result<Video<'a>, Breach> {
        if self.configuration.is_none() {
            return broken("a frame before the sequence header");
        }
        if !matches!(tag.frame_type, KEY | INTER) {
            return broken(format!("frame type {} is neither 1 nor 2", tag.frame_type));
        }
        let Ok(composition_ms) = u32::try_from(tag.composition_ms) else {
            return broken(format!("composition time {} is negative", tag.composition_ms));
        };
        self.size_is_new = false;
        let (key, skipped_leading) = access_unit(self.mode.codec(), tag.payload)?;
        if key != (tag.frame_type == KEY) {
            let kind = if key { "a key frame" } else { "no key frame" };
            return broken(format!("frame type {}, but the NAL units are of {kind}", tag.frame_type));
        }
        if std::mem::take(&mut self.fresh) && !key {
            return broken("the first frame behind a sequence header is no key frame");
        }
        Ok(Video::Frame(Frame { key, skipped_leading, composition_ms, nals: tag.payload }))
    }
}

/// Checks NAL units with lengths before them; tells whether they are of a key frame, or of a leading picture that is
/// left out when decoding begins at the last key frame.
fn access_unit(codec: Codec, mut left: &[u8]) -> Result<(bool, bool), Breach> {
    let (mut slices, mut keys, mut skipped, mut pictures) = (0, 0, 0, 0);
    while !left.is_empty() {
        let Some((length, rest)) = left.split_first_chunk::<4>() else {
            return broken(format!("{} bytes behind the last NAL unit", left.len()));
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((nal, rest)) = rest.split_at_checked(length) else {
            return broken(format!("NAL length {length}, but {} bytes are left", rest.len()));
        };
        let kind = codec.nal_type(nal).map_err(Breach::protocol)?;
        if slices > 0 && codec.precedes_slices(kind) {
            return broken(format!("a NAL unit of type {kind} behind a slice of its frame"));
        }
        if codec.is_slice(kind) {
            slices += 1;
            keys += usize::from(codec.is_key(kind));
            skipped += usize::from(codec.is_skipped_leading(kind));
            pictures += usize::from(codec.begins_picture(nal));
        }
        left = rest;
    }
    if slices == 0 {
        return broken("a frame without a slice");
    }
    if pictures != 1 {
        return broken(format!("{pictures} first slices of pictures in a frame"));
    }
    if keys != 0 && keys != slices {
        return broken(format!("{keys} of {slices} slices are of a key frame"));
    }
    Ok((keys > 0, skipped == slices))
}

#[cfg(test)]
mod tests {
    use super::config::tests::{avcc_record, hvcc_record};
    use super::*;
    use proptest::prelude::*;

    const MODES: [Mode; 3] = [Mode::H264, Mode::H265Enhanced, Mode::H265Domestic];

    fn told(mode: Mode) -> Told {
        Told { codec_id: Some(mode.codec_id()), width: Some(640), height: Some(360) }
    }

    fn head(mode: Mode, frame_type: u8, packet: Packet) -> Vec<u8> {
        let packet = packet as u8;
        match mode {
            Mode::H264 => vec![frame_type << 4 | 7, packet, 0, 0, 0],
            Mode::H265Domestic => vec![frame_type << 4 | 12, packet, 0, 0, 0],
            Mode::H265Enhanced => {
                // CodedFramesX
                let packet = if packet == 1 { 3 } else { packet };
                [&[0x80 | frame_type << 4 | packet][..], b"hvc1"].concat()
            }
        }
    }

    fn start(mode: Mode) -> Vec<u8> {
        let record = if mode == Mode::H264 { avcc_record() } else { hvcc_record() };
        [head(mode, KEY, Packet::Start), record].concat()
    }

    fn nals(mode: Mode, key: bool) -> Vec<u8> {
        match (mode, key) {
            (Mode::H264, true) => vec![0, 0, 0, 1, 0x0C, 0, 0, 0, 3, 0x65, 0x88, 0x84],
            (Mode::H264, false) => vec![0, 0, 0, 3, 0x41, 0x9A, 0x21],
            (_, true) => vec![0, 0, 0, 4, 0x26, 1, 0xAF, 0x08],
            (_, false) => vec![0, 0, 0, 3, 0x02, 1, 0xD0],
        }
    }

    fn frame(mode: Mode, key: bool) -> Vec<u8> {
        [head(mode, if key { KEY } else { INTER }, Packet::Frame), nals(mode, key)].concat()
    }

    fn begun(mode: Mode) -> Judge {
        let mut judge = Judge::new(mode);
        judge.metadata(told(mode)).unwrap();
        judge.video(0, &start(mode)).unwrap();
        judge
    }

    fn breach(exit: Exit, what: &str) -> Breach {
        Breach { exit, what: what.into() }
    }

    #[test]
    fn a_sound_session_passes() {
        for mode in MODES {
            let (start, key, inter) = (start(mode), frame(mode, true), frame(mode, false));
            let mut judge = Judge::new(mode);
            judge.metadata(told(mode)).unwrap();
            assert_eq!(judge.told_size(), Some((640, 360)));
            assert!(matches!(judge.video(0, &start), Ok(Video::Configuration(_))));
            let expected =
                Frame { key: true, skipped_leading: false, composition_ms: 0, nals: &nals(mode, true) };
            assert_eq!(judge.video(0, &key), Ok(Video::Frame(expected)));
            // The wrap of 32 bits is not a step back.
            for ms in [0, 33, 0x7FFF_FFFF, 0xFFFF_FFFE, 12] {
                assert!(matches!(judge.video(ms, &inter), Ok(Video::Frame(Frame { key: false, .. }))));
            }
            assert_eq!(judge.video(12, &start), Ok(Video::Repeated));
            assert!(matches!(judge.video(12, &key), Ok(Video::Frame(_))));
            assert_eq!(judge.video(12, &head(mode, KEY, Packet::End)), Ok(Video::End));
        }
    }

    #[test]
    fn composition_time_is_read_and_never_negative() {
        for mode in MODES {
            let mut body = frame(mode, true);
            let at = if mode == Mode::H265Enhanced {
                body[0] = 0x91;
                body.splice(5..5, [0; 3]);
                5
            } else {
                2
            };
            body[at..at + 3].copy_from_slice(&[0, 1, 2]);
            let Ok(Video::Frame(frame)) = begun(mode).video(0, &body) else { panic!("{mode}") };
            assert_eq!(frame.composition_ms, 258);
            body[at..at + 3].copy_from_slice(&[0xFF, 0xFF, 0xFE]);
            let expected = breach(Exit::Protocol, "composition time -2 is negative");
            assert_eq!(begun(mode).video(0, &body), Err(expected));
        }
    }

    /// A key frame with one byte of its message changed.
    fn with(mode: Mode, at: usize, value: u8) -> Vec<u8> {
        let mut body = frame(mode, true);
        body[at] = value;
        body
    }

    /// A key frame whose first NAL unit is told to be `length` bytes long.
    fn nal_length(mode: Mode, length: u8) -> Vec<u8> {
        with(mode, frame(mode, true).len() - nals(mode, true).len() + 3, length)
    }

    /// A key frame with more behind it.
    fn more(mode: Mode, extra: &[u8]) -> Vec<u8> {
        [&frame(mode, true)[..], extra].concat()
    }

    /// Each line breaks one rule of the first message after a sequence header.
    #[test]
    fn each_rule_of_a_message_broken_once() {
        use Mode::{H264, H265Domestic, H265Enhanced};
        for (mode, body, exit, what) in [
            (H264, vec![], 7, "a video message without bytes"),
            (H264, vec![0x17], 7, "a video message of 1 bytes is shorter than its header of 5"),
            (H265Enhanced, vec![0x93, b'h'], 7, "an enhanced video message of 2 bytes has no FourCC"),
            (
                H265Enhanced,
                b"\x91hvc1\0".to_vec(),
                7,
                "a CodedFrames message of 6 bytes has no composition time",
            ),
            (H264, with(H264, 1, 3), 7, "packet type 3 is not 0, 1 or 2"),
            (H265Enhanced, with(H265Enhanced, 0, 0x94), 7, "enhanced packet type 4: peers take 0 to 3 only"),
            (H265Enhanced, with(H265Enhanced, 4, b'2'), 6, "FourCC 'hvc2' is not 'hvc1'"),
            (H264, with(H264, 0, 0x12), 6, "video codec id 2 is neither 7 nor 12"),
            (H264, frame(H265Domestic, true), 6, "video of mode h265-domestic, not h264"),
            (H265Domestic, frame(H265Enhanced, true), 6, "video of mode h265-enhanced, not h265-domestic"),
            (H265Enhanced, frame(H264, true), 6, "video of mode h264, not h265-enhanced"),
            (H264, with(H264, 0, 0x37), 7, "frame type 3 is neither 1 nor 2"),
            (H264, with(H264, 0, 0x27), 7, "frame type 2, but the NAL units are of a key frame"),
            (
                H265Enhanced,
                with(H265Enhanced, 0, 0xA3),
                7,
                "frame type 2, but the NAL units are of a key frame",
            ),
            (H264, frame(H264, false), 7, "the first frame behind a sequence header is no key frame"),
            (
                H264,
                [head(H264, 2, Packet::Start), avcc_record()].concat(),
                7,
                "frame type 2 of a Start message is not 1",
            ),
            (H264, vec![0x17, 2, 0, 0, 1], 7, "composition time 1 of a End message"),
            (H265Enhanced, b"\x92hvc1\0".to_vec(), 7, "1 bytes in an end of sequence"),
            (H264, head(H264, KEY, Packet::Start), 7, "avcC: 6 bytes wanted, 0 left"),
            (H265Enhanced, head(H265Enhanced, KEY, Packet::Start), 7, "hvcC: 23 bytes wanted, 0 left"),
        ] {
            let found = begun(mode).video(0, &body).unwrap_err();
            assert_eq!((found.exit as u8, found.what.as_str()), (exit, what), "{mode} {body:02x?}");
        }
    }

    /// Each line breaks one rule of the NAL units in a frame.
    #[test]
    fn each_rule_of_an_access_unit_broken_once() {
        use Mode::{H264, H265Domestic};
        for (mode, body, what) in [
            (H265Domestic, nal_length(H265Domestic, 5), "NAL length 5, but 4 bytes are left"),
            (H265Domestic, nal_length(H265Domestic, 3), "1 bytes behind the last NAL unit"),
            (H264, nal_length(H264, 0), "a NAL unit of 0 bytes is shorter than its header"),
            (
                H265Domestic,
                more(H265Domestic, &[0, 0, 0, 2, 0x26, 0]),
                "NAL header 0x26 0x00: layer 0, temporal id plus 1 = 0",
            ),
            (H264, more(H264, &[0, 0, 0, 1, 0xE5]), "NAL header byte 0xe5 has the forbidden bit"),
            (H264, more(H264, &[0, 0, 0, 2, 0x41, 1]), "1 of 2 slices are of a key frame"),
            (H264, more(H264, &[0, 0, 0, 2, 0x65, 0x80]), "2 first slices of pictures in a frame"),
            (H264, more(H264, &[0, 0, 0, 1, 0x67]), "a NAL unit of type 7 behind a slice of its frame"),
            (H264, head(H264, KEY, Packet::Frame), "a frame without a slice"),
        ] {
            assert_eq!(begun(mode).video(0, &body), Err(breach(Exit::Protocol, what)), "{mode} {body:02x?}");
        }
    }

    /// Each line breaks one rule about what follows what; `M`: onMetaData, `S`: sequence header, `T`: another one,
    /// `K` and `I`: frames, `E`: end; a digit is the time.
    #[test]
    fn each_rule_of_order_broken_once() {
        for (order, what) in [
            ("S", "a sequence header before onMetaData"),
            ("MK", "a frame before the sequence header"),
            ("MSKEK", "video at 0 ms behind the end of the sequence"),
            ("MSKES", "video at 0 ms behind the end of the sequence"),
            ("MST", "two sequence headers that differ, and no frame between them"),
            ("MSKTI", "the first frame behind a sequence header is no key frame"),
            ("MSKSI", "the first frame behind a sequence header is no key frame"),
            ("M5S5K4I", "time went back from 5 to 4 ms"),
        ] {
            for mode in MODES {
                let mut judge = Judge::new(mode);
                let mut ms = 0;
                let mut results = Vec::new();
                for letter in order.chars() {
                    let mut other = start(mode);
                    *other.last_mut().unwrap() ^= 1;
                    let body = match letter {
                        'M' => {
                            judge.metadata(told(mode)).unwrap();
                            continue;
                        }
                        'S' => start(mode),
                        'T' => other,
                        'K' => frame(mode, true),
                        'I' => frame(mode, false),
                        'E' => head(mode, KEY, Packet::End),
                        digit => {
                            ms = digit.to_digit(10).unwrap();
                            continue;
                        }
                    };
                    results.push(judge.video(ms, &body).map(|_| ()));
                }
                let last = results.pop().unwrap();
                assert_eq!(last, Err(breach(Exit::Protocol, what)), "{mode} {order}");
                assert!(results.iter().all(Result::is_ok), "{mode} {order}: {results:?}");
            }
        }
    }

    #[test]
    fn a_new_configuration_forgets_the_size_told_for_the_old_one() {
        let mode = Mode::H265Domestic;
        let mut judge = begun(mode);
        judge.video(0, &frame(mode, true)).unwrap();
        let mut other = start(mode);
        *other.last_mut().unwrap() ^= 1;
        assert!(matches!(judge.video(1, &other), Ok(Video::Configuration(_))));
        assert_eq!(judge.told_size(), None);
        judge.video(1, &frame(mode, true)).unwrap();
        judge.metadata(Told { width: Some(320), ..told(mode) }).unwrap();
        judge.video(2, &start(mode)).unwrap();
        assert_eq!(judge.told_size(), Some((320, 360)));
    }

    #[test]
    fn metadata_must_tell_codec_and_size() {
        for (mode, codec_id, size, exit, what) in [
            (Mode::H264, None, (1, 1), 7, "onMetaData has no videocodecid"),
            (Mode::H264, Some(12), (1, 1), 6, "videocodecid 12 is not 7"),
            (Mode::H265Domestic, Some(1_752_589_105), (1, 1), 6, "videocodecid 1752589105 is not 12"),
            (Mode::H265Enhanced, Some(7), (1, 1), 6, "videocodecid 7 is not 1752589105"),
            (Mode::H264, Some(0x6176_3031), (1, 1), 6, "videocodecid 1635135537 is not 7"),
            (Mode::H265Enhanced, Some(0x7670_3039), (1, 1), 6, "videocodecid 1987063865 is not 1752589105"),
            // The FourCC read from its last byte on, which misleads ZLMediaKit.
            (Mode::H265Enhanced, Some(828_601_960), (1, 1), 7, "videocodecid 828601960 is not 1752589105"),
            (Mode::H264, Some(7), (0, 1), 7, "onMetaData: width Some(0) and height Some(1)"),
        ] {
            let told = Told { codec_id, width: Some(size.0), height: Some(size.1) };
            let found = Judge::new(mode).metadata(told).unwrap_err();
            assert_eq!((found.exit as u8, found.what.as_str()), (exit, what), "{mode}");
        }
    }

    proptest! {
        #[test]
        fn random_messages_never_panic(
            mode in 0..3usize, bodies: Vec<Vec<u8>>, at in 0usize..60, value: u8, ms: u32,
        ) {
            let mode = MODES[mode];
            let mut judge = begun(mode);
            for body in bodies {
                let _ = judge.video(ms, &body);
            }
            for mut body in [start(mode), frame(mode, true), frame(mode, false)] {
                let at = at % body.len();
                let _ = begun(mode).video(ms, &body[..at]);
                body[at] = value;
                let _ = begun(mode).video(ms, &body);
            }
        }
    }
}
